/*
 * test_schedules.c - interleavings by machine: each operation is a thread,
 * exactly one runs at a time, and a schedule says which goes on at each fault
 * point.
 *
 * Of two operations all choices at the first points are tried (the rest can be
 * endless: two inserters may abort each other up to their limit), of three and
 * four operations random ones. What they returned must have an explanation as
 * a sequence (linearizability), and the index must be sound.
 */
#include "harness.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

enum { MOST_TASKS = 4, MOST_STEPS = 1000, BRANCHING = 13 };

static struct {
    pthread_t thread;
    sem_t go;
    action *run;
    void *arg;
    bool done;
} actors[MOST_TASKS];
static sem_t back;
static _Thread_local int me;
static unsigned steps;     /* of this schedule */
static uint64_t schedules; /* of this suite */
static cpu_set_t cores;
static bool every_point; /* or only those that matter to the index */

static void yield_at(const char *point)
{
    if (!every_point && (strncmp(point, "set:", 4) == 0 || strcmp(point, "log:before-write") == 0))
        return;
    sem_post(&back);
    sem_wait(&actors[me].go);
}

/* A point of the test's own. */
static void pause_here(void)
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

struct schedule {
    struct rng *rng; /* NULL: all schedules, one after the other */
    unsigned depth;
    unsigned char choice[MOST_STEPS], options[MOST_STEPS];
};

/* Runs the tasks by one schedule and notes what the choices were. */
static void run_schedule(struct schedule *schedule, size_t n)
{
    unsigned planned = schedule->depth;
    for (size_t i = 0; i < n; i++)
        actors[i].done = false;
    for (steps = 0;; steps++) {
        size_t alive[MOST_TASKS];
        unsigned char options = 0;
        for (size_t i = 0; i < n; i++) {
            if (!actors[i].done)
                alive[options++] = i;
        }
        if (options == 0)
            break;
        CHECK(steps < MOST_STEPS); /* nobody spins for ever */
        if (schedule->rng != NULL)
            schedule->choice[steps] = (unsigned char)rng_below(schedule->rng, options);
        else if (steps >= planned)
            schedule->choice[steps] = 0;
        CHECK(schedule->choice[steps] < options); /* a repeated schedule runs as before */
        schedule->options[steps] = options;
        sem_post(&actors[alive[schedule->choice[steps]]].go);
        sem_wait(&back);
    }
    schedule->depth = steps;
    schedules++;
}

/* The next schedule in depth-first order; false after the last. */
static bool next_schedule(struct schedule *schedule)
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

static void describe(const struct schedule *schedule, const char *what)
{
    int at = snprintf(context, sizeof context, "%s; schedule ", what);
    for (unsigned i = 0; i < schedule->depth && at < (int)sizeof context - 2; i++)
        at += snprintf(context + at, sizeof context - (size_t)at, "%d", schedule->choice[i]);
}

/* --- Linearizability of set, delete, get and lap on one key ------------------------------- */

enum kind { SET, DELETE, GET, LAP };
enum { OLD = 1 }; /* the value before the tasks begin; theirs are 2, 3, ... */
enum before { ABSENT, PRESENT, GHOST, DEAD_INSERTER, BEFORES };

struct op {
    enum kind kind;
    int value, outcome, seen;
    unsigned start, end;
};
static struct op ops[MOST_TASKS];
static zoo_seg *arena;

static int value_of(const char *text)
{
    return text == NULL ? 0 : atoi(text);
}

static void run_op(void *arg)
{
    struct op *op = arg;
    char text[8];
    op->start = steps;
    op->outcome = op->seen = 0;
    snprintf(text, sizeof text, "%d", op->value);
    if (op->kind == SET)
        op->outcome = set_text(arena, "key", text, "");
    else if (op->kind == DELETE)
        op->outcome = delete_key(arena, "key");
    else if (op->kind == GET)
        op->seen = value_of(get_text(arena, "key"));
    else
        half_a_lap(arena);
    op->end = steps;
}

static bool step(const struct op *op, int *state, bool may_miss)
{
    switch (op->kind) {
    case SET:
        *state = op->outcome == ZOO_OK ? op->value : 0;
        return op->outcome == ZOO_OK || op->outcome == ZOO_CROWDED;
    case DELETE:
        if (op->outcome == ZOO_OK && *state == 0)
            return false;
        /* It may say "was not there" of a set under way, which it kills by the key's own tag. */
        if (op->outcome == ZOO_MISS && *state != 0 && !may_miss &&
            (*state == OLD || ops[*state - 2].end < op->start))
            return false;
        *state = 0;
        return true;
    case GET:
        return op->seen == *state || (op->seen == 0 && may_miss);
    case LAP:
        *state = *state == OLD ? 0 : *state;
        return true;
    }
    return false;
}

/* Is there an order of the ops, true to their times, that explains all answers and the end? */
static bool explained(size_t n, unsigned used, int state, int at_end, bool may_miss)
{
    if (used == (1u << n) - 1)
        return at_end == state || (at_end == 0 && may_miss);
    for (size_t i = 0; i < n; i++) {
        bool ready = !(used & 1u << i);
        for (size_t j = 0; j < n && ready; j++)
            ready = used & 1u << j || ops[j].end >= ops[i].start || j == i;
        int after = state;
        if (ready && step(&ops[i], &after, may_miss) &&
            explained(n, used | 1u << i, after, at_end, may_miss))
            return true;
    }
    return false;
}

/* Live words of other keys in all but two slots, so that inserters take one another's slots. */
static void crowd(void)
{
    static char keys[6][24];
    static uint64_t bucket = UINT64_MAX;
    uint64_t mine = zoo_key_hash(arena, "key", 3) & arena->bucket_mask;
    for (uint64_t i = 0, n = 0; mine != bucket && n < 6; i++) {
        snprintf(keys[n], sizeof keys[n], "c%d", (int)i);
        n += (zoo_key_hash(arena, keys[n], strlen(keys[n])) & arena->bucket_mask) == mine;
    }
    bucket = mine;
    for (int i = 0; i < 6; i++)
        CHECK_EQ(set_text(arena, keys[i], "crowd", ""), ZOO_OK);
}

/* `at` decides which slots are chosen first; the same schedule then runs the same way again. */
static void prepare(enum before before, bool crowded, uint64_t at)
{
    zoo_store_relaxed(arena->log[ZOO_LOG_MAIN].head, ZOO_PART_ALIGN * 16 + at * ZOO_UNIT);
    zoo_word *bucket = zoo_index_bucket(arena, zoo_key_hash(arena, "key", 3));
    for (unsigned i = 0; i < ZOO_WAYS; i++)
        zoo_store_relaxed(bucket + i, 0);
    if (before != ABSENT) {
        CHECK_EQ(set_text(arena, "key", "1", ""), ZOO_OK);
        zoo_log_reserve(arena, ZOO_LOG_MAIN, arena->log[ZOO_LOG_MAIN].size / 4 * 3);
    }
    if (crowded)
        crowd();
    if (before == GHOST)
        half_a_lap(arena);
    for (unsigned i = 0; i < ZOO_WAYS && before == DEAD_INSERTER; i++) {
        uint64_t word = zoo_load_acquire(bucket + i);
        if (zoo_index_may_hold(word, zoo_key_hash(arena, "key", 3)))
            zoo_store_relaxed(bucket + i, word | ZOO_WORD_TENTATIVE);
    }
}

static void judge(size_t n, enum before before, bool may_miss, const struct schedule *schedule)
{
    char what[100];
    int at = snprintf(what, sizeof what, "before %d, may miss %d, ops", before, may_miss);
    for (size_t i = 0; i < n; i++)
        at += snprintf(what + at, sizeof what - (size_t)at, " %d:%d/%d", ops[i].kind,
                       ops[i].outcome, ops[i].seen);
    describe(schedule, what);
    check_sound(arena);
    int at_end = value_of(get_text(arena, "key"));
    CHECK(explained(n, 0, before == PRESENT ? OLD : 0, at_end, may_miss));
}

static void try_all(size_t n, enum before before, bool crowded, uint64_t at, struct rng *rng,
                    int limit)
{
    struct schedule schedule = {.rng = rng};
    for (size_t i = 0; i < n; i++) {
        ops[i].value = 2 + (int)i;
        actors[i].run = run_op;
        actors[i].arg = &ops[i];
    }
    /* A slow set may replace a newer one and be dead itself by a delete between: an extra miss. */
    bool may_miss = crowded;
    for (size_t i = 0; i < n; i++)
        may_miss |= ops[i].kind == DELETE && n > 2;
    do {
        prepare(before, crowded, at);
        run_schedule(&schedule, n);
        judge(n, before, may_miss, &schedule);
    } while (--limit > 0 && (rng != NULL || next_schedule(&schedule)));
    CHECK(limit > 0 || rng != NULL);
}

static void begin(bool all_points_count)
{
    cpu_set_t one; /* handing over between threads is much faster on one core */
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    sched_getaffinity(0, sizeof cores, &cores);
    sched_setaffinity(0, sizeof one, &one);
    arena = fresh(ZOO_MIN_SIZE);
    every_point = all_points_count;
    start_actors();
}

static void end(void)
{
    end_actors();
    sched_setaffinity(0, sizeof cores, &cores);
    printf("   %d schedules\n", (int)schedules);
    zoo_close(arena);
}

static void all_schedules_of_two(void)
{
    struct rng rng = rng_for(7);
    begin(false);
    for (int a = SET; a <= LAP; a++) {
        for (int b = a; b <= LAP; b++) {
            for (int before = ABSENT; before < BEFORES; before++) {
                for (int crowded = 0; crowded <= 1 && !(a == LAP && b == LAP); crowded++) {
                    ops[0].kind = (enum kind)a;
                    ops[1].kind = (enum kind)b;
                    try_all(2, (enum before)before, crowded, rng_below(&rng, 64), NULL, 5000);
                }
            }
        }
    }
    end();
}

/* One set at least: without one there is nothing to find. One lap at most: it kills only OLD. */
static void random_schedules_of_more(void)
{
    struct rng rng = rng_for(4);
    begin(false);
    for (int round = 0; round < 600; round++) {
        size_t n = 3 + rng_below(&rng, 2);
        bool lapped = false;
        ops[0].kind = SET;
        for (size_t i = 1; i < n; i++) {
            do
                ops[i].kind = (enum kind)rng_below(&rng, 4);
            while (ops[i].kind == LAP && lapped);
            lapped |= ops[i].kind == LAP;
        }
        try_all(n, (enum before)rng_below(&rng, BEFORES), rng_below(&rng, 3) == 0,
                rng_below(&rng, 64), &rng, 20);
    }
    end();
}

/* --- Promise 1: writers, fills and gets around one row ------------------------------------ */

static uint64_t row, acknowledged; /* one actor runs at a time: no atomics */

static void run_write(void *unused)
{
    (void)unused;
    uint64_t version = ++row;
    pause_here();
    CHECK_EQ(invalidate(arena, version % 2 ? "row:1" : "other row"), ZOO_OK);
    acknowledged = version > acknowledged ? version : acknowledged;
}

static void run_fill(void *unused)
{
    char text[24];
    (void)unused;
    uint64_t stamp = zoo_stamp(arena);
    pause_here();
    snprintf(text, sizeof text, "%d", (int)row);
    pause_here();
    fill_text(arena, "key", text, "row:1", stamp);
}

static void run_get(void *unused)
{
    (void)unused;
    for (int i = 0; i < 2; i++) {
        uint64_t least = acknowledged;
        pause_here();
        const char *text = get_text(arena, "key");
        CHECK(text == NULL || (uint64_t)atoi(text) >= least);
    }
}

static void no_schedule_is_stale(void)
{
    action *const runs[] = {run_fill, run_write, run_get, run_fill};
    struct rng rng = rng_for(5);
    begin(true);
    for (size_t i = 0; i < MOST_TASKS; i++)
        actors[i].run = runs[i];
    for (int round = 0; round < 12000; round++) {
        struct schedule schedule = {.rng = &rng};
        snprintf(context, sizeof context, "round %d", round);
        prepare(ABSENT, false, rng_below(&rng, 64));
        row++; /* so that a version is never met again */
        acknowledged = row;
        zoo_hlc_tick(arena);
        run_schedule(&schedule, 3 + (size_t)round % 2);
        run_get(NULL);
    }
    check_sound(arena);
    end();
}

const struct suite schedule_suites[] = {
    {"schedules-of-two", all_schedules_of_two},
    {"schedules-of-more", random_schedules_of_more},
    {"schedules-stale", no_schedule_is_stale},
    {NULL, NULL},
};
