#include "schedule.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

zoo_seg *arena;
unsigned schedule_step;

static struct {
    pthread_t thread;
    sem_t go;
    action *run;
    void *arg;
    bool done;
} actors[MOST_TASKS];
static sem_t back;
static _Thread_local int me;
static uint64_t schedules; /* of this suite */
static cpu_set_t cores;
static bool at_every_point; /* or only those that matter to the index */

/* Between these and the next point nothing happens that another can see in the index. */
static bool is_private(const char *point)
{
    static const char *const prefixes[] = {"set:", "log:before-write",
                                           "event:", "modify:", "promote:"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        if (strncmp(point, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    }
    return false;
}

static void yield_at(const char *point)
{
    if (!at_every_point && is_private(point))
        return;
    sem_post(&back);
    sem_wait(&actors[me].go);
}

void pause_here(void)
{
    if (on_every_point != NULL)
        on_every_point("step");
}

static void *actor_main(void *arg)
{
    me = (int)(intptr_t)arg;
    on_every_point = yield_at;
    for (;;) {
        sem_wait(&actors[me].go);
        if (actors[me].run == NULL)
            return NULL;
        actors[me].run(actors[me].arg);
        actors[me].done = true;
        sem_post(&back);
    }
}

static void start_actors(void)
{
    sem_init(&back, 0, 0);
    schedules = 0;
    for (intptr_t i = 0; i < MOST_TASKS; i++) {
        sem_init(&actors[i].go, 0, 0);
        CHECK_EQ(pthread_create(&actors[i].thread, NULL, actor_main, (void *)i), 0);
    }
}

static void end_actors(void)
{
    for (int i = 0; i < MOST_TASKS; i++) {
        actors[i].run = NULL;
        sem_post(&actors[i].go);
        pthread_join(actors[i].thread, NULL);
    }
}

void run_schedule(struct schedule *schedule, size_t n)
{
    unsigned planned = schedule->depth;
    for (size_t i = 0; i < n; i++)
        actors[i].done = false;
    for (schedule_step = 0;; schedule_step++) {
        size_t alive[MOST_TASKS];
        unsigned char options = 0;
        for (size_t i = 0; i < n; i++) {
            if (!actors[i].done)
                alive[options++] = i;
        }
        if (options == 0)
            break;
        CHECK(schedule_step < MOST_STEPS); /* nobody spins for ever */
        if (schedule->rng != NULL)
            schedule->choice[schedule_step] = (unsigned char)rng_below(schedule->rng, options);
        else if (schedule_step >= planned)
            schedule->choice[schedule_step] = 0;
        CHECK(schedule->choice[schedule_step] < options); /* a repeated schedule runs as before */
        schedule->options[schedule_step] = options;
        sem_post(&actors[alive[schedule->choice[schedule_step]]].go);
        sem_wait(&back);
    }
    schedule->depth = schedule_step;
    schedules++;
}

bool next_schedule(struct schedule *schedule)
{
    if (schedule->depth > BRANCHING)
        schedule->depth = BRANCHING;
    while (schedule->depth > 0) {
        unsigned last = schedule->depth - 1;
        if (++schedule->choice[last] < schedule->options[last])
            return true;
        schedule->depth = last;
    }
    return false;
}

void describe(const struct schedule *schedule, const char *what)
{
    int at = snprintf(context, sizeof context, "%s; schedule ", what);
    for (unsigned i = 0; i < schedule->depth && at < (int)sizeof context - 2; i++)
        at += snprintf(context + at, sizeof context - (size_t)at, "%d", schedule->choice[i]);
}

void set_task(size_t i, action *run, void *arg)
{
    actors[i].run = run;
    actors[i].arg = arg;
}

void reset_arena(uint64_t at)
{
    for (unsigned log = 0; log < ZOO_LOGS; log++)
        move_log(&arena->log[log], arena->log[log].size * 16 + at * ZOO_UNIT);
    for (unsigned i = 0; i < ZOO_CLAIMS; i++) /* words come back, and must be promoted again */
        zoo_store_relaxed(arena->hdr->claims + i, 0);
    zoo_word *bucket = zoo_index_bucket(arena, zoo_key_hash(arena, "key", 3));
    for (unsigned i = 0; i < ZOO_WAYS; i++)
        zoo_store_relaxed(bucket + i, 0);
}

void schedules_begin(bool every_point)
{
    cpu_set_t one; /* handing over between threads is much faster on one core */
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    sched_getaffinity(0, sizeof cores, &cores);
    sched_setaffinity(0, sizeof one, &one);
    arena = fresh(ZOO_MIN_SIZE);
    at_every_point = every_point;
    start_actors();
}

void schedules_end(void)
{
    end_actors();
    sched_setaffinity(0, sizeof cores, &cores);
    printf("   %d schedules\n", (int)schedules);
    zoo_close(arena);
}
