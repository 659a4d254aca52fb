/*
 * test_storm.c - promise 1 to 3 at the speed of C: everybody does everything on
 * a segment that laps every millisecond or so; as threads of one handle (for
 * ThreadSanitizer), and as processes that are killed at random moments.
 *
 * The oracle. Rows are a database in memory that is shared but no part of the
 * segment: a row's version is raised, then its tag invalidated, then the
 * version acknowledged. A get reads the acknowledged versions first; a value it
 * then finds must not be older. A row and a plain key have one writer each, so
 * that a writer killed half-way leaves nothing wrong: its successor goes on.
 */
#include "harness.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

enum { SLOTS = 5, SURVIVORS = 2, ROWS = 10, FILLS = 12, PLAIN = 10, LONGEST = 6000 };
enum { N_GETS, N_HITS, N_FILLS, N_SETS, N_WRITES, N_CHANGES, N_BYTES, COUNTERS };

struct storm {
    zoo_word stop;
    zoo_word row[ROWS], row_acked[ROWS];
    zoo_word plain[PLAIN], plain_acked[PLAIN];
    zoo_word count[SLOTS][COUNTERS];
    zoo_word progress[SLOTS];
};

struct worker {
    struct storm *storm;
    zoo_seg *seg;
    unsigned slot;
    struct rng rng;
    char buffer[LONGEST + 64]; /* a value to be stored */
    char value[LONGEST + 64];  /* a value that was found */
};

/* A value: its key, two versions, then bytes that follow from these and from their place. */
struct content {
    uint64_t key, version[2];
};

static void count(struct worker *worker, int what, uint64_t n)
{
    zoo_add_relaxed(&worker->storm->count[worker->slot][what], n);
}

static size_t compose(struct worker *worker, struct content content)
{
    size_t len = sizeof content + rng_below(&worker->rng, 8) * rng_below(&worker->rng, LONGEST / 8);
    uint64_t seed =
        zoo_mix(content.key ^ zoo_mix(content.version[0] ^ zoo_mix(content.version[1])));
    memcpy(worker->buffer, &content, sizeof content);
    for (size_t i = sizeof content; i < len; i++)
        worker->buffer[i] = (char)(seed >> i % 57) ^ (char)i;
    return len;
}

static int64_t find(struct worker *worker, const char *name)
{
    uint64_t needed;
    int64_t len = zoo_get(worker->seg, name, strlen(name), worker->value, LONGEST, &needed);
    CHECK(len >= 0 || (len > ZOO_E_ARGUMENT && len != -ZOO_MORE));
    return len;
}

static struct content verify(struct worker *worker, uint64_t key, int64_t len)
{
    const char *value = worker->value;
    struct content content;
    CHECK(len >= (int64_t)sizeof content);
    memcpy(&content, value, sizeof content);
    CHECK_EQ(content.key, key);
    uint64_t seed =
        zoo_mix(content.key ^ zoo_mix(content.version[0] ^ zoo_mix(content.version[1])));
    for (size_t i = sizeof content; i < (size_t)len; i++)
        CHECK_EQ(value[i], (char)((char)(seed >> i % 57) ^ (char)i));
    return content;
}

static unsigned row_of(uint64_t key, int which)
{
    return (unsigned)(which == 0 ? key % ROWS : (key * 5 + 1) % ROWS);
}

static void name_of(char kind, uint64_t number, char out[16])
{
    snprintf(out, 16, "%c%d", kind, (int)number);
}

/* --- Fills and their rows ----------------------------------------------------------------- */

static void do_fill(struct worker *worker)
{
    char name[16], tags[40];
    uint64_t key = rng_below(&worker->rng, FILLS);
    uint64_t stamp = zoo_stamp(worker->seg);
    struct content content = {.key = key};
    for (int i = 0; i < 2; i++)
        content.version[i] = zoo_load_acquire(&worker->storm->row[row_of(key, i)]);
    for (uint64_t spin = rng_below(&worker->rng, 400); spin > 0; spin--)
        zoo_cpu_relax();
    size_t len = compose(worker, content);
    name_of('f', key, name);
    snprintf(tags, sizeof tags, "row:%u row:%u", row_of(key, 0), row_of(key, 1));
    int outcome = put_bytes(worker->seg, ZOO_FILL, name, worker->buffer, len, tags, stamp);
    CHECK(outcome >= 0);
    count(worker, N_FILLS, outcome == ZOO_OK);
    count(worker, N_BYTES, outcome == ZOO_OK ? len : 0);
}

static void do_get_fill(struct worker *worker)
{
    char name[16];
    uint64_t key = rng_below(&worker->rng, FILLS), least[2];
    for (int i = 0; i < 2; i++)
        least[i] = zoo_load_acquire(&worker->storm->row_acked[row_of(key, i)]);
    name_of('f', key, name);
    int64_t len = find(worker, name);
    count(worker, N_GETS, 1);
    if (len < 0)
        return;
    struct content content = verify(worker, key, len);
    for (int i = 0; i < 2; i++) {
        snprintf(context, sizeof context, "key %s, row %u", name, row_of(key, i));
        CHECK(content.version[i] >= least[i]); /* promise 1 */
        CHECK(content.version[i] <= zoo_load_acquire(&worker->storm->row[row_of(key, i)]));
    }
    count(worker, N_HITS, 1);
}

static void do_write(struct worker *worker)
{
    char tags[24];
    uint64_t row = rng_below(&worker->rng, ROWS / SLOTS) * SLOTS + worker->slot;
    uint64_t version = zoo_load_acquire(&worker->storm->row[row]) + 1;
    zoo_store_release(&worker->storm->row[row], version);
    switch (rng_below(&worker->rng, 16)) {
    case 0:
        zoo_clear(worker->seg);
        break;
    case 1:
        CHECK_EQ(invalidate(worker->seg, "unrelated row"), ZOO_OK);
        break;
    default:
        snprintf(tags, sizeof tags, "row:%u", (unsigned)row);
        CHECK_EQ(invalidate(worker->seg, tags), ZOO_OK);
    }
    zoo_store_release(&worker->storm->row_acked[row], version);
    count(worker, N_WRITES, 1);
}

/* --- Plain keys --------------------------------------------------------------------------- */

static void do_set_or_delete(struct worker *worker)
{
    char name[16];
    uint64_t key = rng_below(&worker->rng, PLAIN / SLOTS) * SLOTS + worker->slot;
    uint64_t version = zoo_load_acquire(&worker->storm->plain[key]) + 1;
    zoo_store_release(&worker->storm->plain[key], version);
    name_of('p', key, name);
    if (rng_below(&worker->rng, 4) == 0) {
        CHECK(delete_key(worker->seg, name) >= 0);
    } else {
        static const int modes[] = {ZOO_SET, ZOO_SET, ZOO_ADD, ZOO_REPLACE};
        struct content content = {.key = 100 + key, .version = {version, 0}};
        size_t len = compose(worker, content);
        int mode = modes[rng_below(&worker->rng, 4)];
        int outcome = put_bytes(worker->seg, mode, name, worker->buffer, len, "", 0);
        CHECK(outcome == ZOO_OK || outcome == ZOO_CROWDED ||
              ((outcome == ZOO_EXISTS || outcome == ZOO_BORN_DEAD) && mode == ZOO_ADD) ||
              (outcome == ZOO_MISS && mode == ZOO_REPLACE));
        count(worker, N_BYTES, len);
        if (mode == ZOO_ADD && outcome != ZOO_OK)
            return; /* the older value stays */
    }
    /* Stored, deleted or failed: no older value may be served from here on. */
    zoo_store_release(&worker->storm->plain_acked[key], version);
    count(worker, N_SETS, 1);
}

/* Changes that leave a value what it was, of anybody's keys: nothing may come back by them. */
static void do_modify(struct worker *worker)
{
    char name[16];
    bool plain = rng_below(&worker->rng, 2) == 0;
    uint64_t key = rng_below(&worker->rng, plain ? PLAIN : FILLS);
    name_of(plain ? 'p' : 'f', key, name);
    int outcome = ZOO_MISS;
    if (rng_below(&worker->rng, 2) == 0) {
        outcome = touch(worker->seg, name, rng_below(&worker->rng, 2) * 3600000);
    } else {
        int64_t len = find(worker, name);
        if (len >= 0)
            outcome = zoo_compare_and_set(worker->seg, name, strlen(name), worker->value,
                                          (size_t)len, worker->value, (size_t)len);
    }
    CHECK(outcome == ZOO_OK || outcome == ZOO_MISS || outcome == ZOO_DIFFERS);
    count(worker, N_CHANGES, outcome == ZOO_OK);
    if (rng_below(&worker->rng, 16) == 0) /* so that hits promote */
        zoo_log_reserve(worker->seg, ZOO_LOG_PROBATION,
                        worker->seg->log[ZOO_LOG_PROBATION].size / 2);
}

static void do_get_plain(struct worker *worker)
{
    char name[16];
    uint64_t key = rng_below(&worker->rng, PLAIN);
    uint64_t least = zoo_load_acquire(&worker->storm->plain_acked[key]);
    name_of('p', key, name);
    int64_t len = find(worker, name);
    count(worker, N_GETS, 1);
    if (len < 0)
        return;
    struct content content = verify(worker, 100 + key, len);
    snprintf(context, sizeof context, "key %s", name);
    CHECK(content.version[0] >= least);
    CHECK(content.version[0] <= zoo_load_acquire(&worker->storm->plain[key]));
    count(worker, N_HITS, 1);
}

/* --- Workers ------------------------------------------------------------------------------ */

static void work(struct worker *worker)
{
    while (!zoo_load_acquire(&worker->storm->stop)) {
        switch (rng_below(&worker->rng, 16)) {
        case 0:
        case 1:
        case 2:
            do_fill(worker);
            break;
        case 3:
        case 4:
            do_set_or_delete(worker);
            break;
        case 5:
            do_write(worker);
            break;
        case 6:
            do_modify(worker);
            break;
        case 7:
        case 8:
            do_get_plain(worker);
            break;
        default:
            do_get_fill(worker);
        }
        zoo_add_relaxed(&worker->storm->progress[worker->slot], 1);
    }
}

static uint64_t budget_ms(void)
{
    const char *seconds = getenv("ZOOCACHE_STORM_SECONDS");
    return (seconds != NULL ? strtoull(seconds, NULL, 10) : 4) * 1000;
}

/* What the storm did; counters first, then laps, promotions and ghosts. */
enum { N_LAPS = COUNTERS, N_PROMOTED, N_GHOSTS, FIGURES };

static void sum_up(const struct storm *storm, zoo_seg *seg, uint64_t *sums)
{
    const struct zoo_log *log = &seg->log[ZOO_LOG_MAIN];
    for (int i = 0; i < COUNTERS; i++) {
        sums[i] = 0;
        for (int slot = 0; slot < SLOTS; slot++)
            sums[i] += zoo_load_relaxed(&storm->count[slot][i]);
    }
    sums[N_LAPS] = zoo_load_acquire(log->head) / log->size;
    sums[N_PROMOTED] = counter(seg, ZOO_N_PROMOTIONS);
    sums[N_GHOSTS] = counter(seg, ZOO_N_GHOSTS);
}

/* For its time, and on a machine that has other things to do for as long as it takes to do much. */
static bool goes_on(const struct storm *storm, zoo_seg *seg, uint64_t start)
{
    uint64_t sums[FIGURES], took = now_ms() - start;
    bool enough = true;
    sum_up(storm, seg, sums);
    for (int i = 0; i < FIGURES; i++)
        enough = enough && sums[i] > 100;
    return took < budget_ms() || (!enough && took < 20 * budget_ms());
}

static void report(const struct storm *storm, zoo_seg *seg, uint64_t kills)
{
    uint64_t sums[FIGURES];
    sum_up(storm, seg, sums);
    printf("   figures gets=%llu hits=%llu fills=%llu sets=%llu writes=%llu changes=%llu laps=%llu "
           "kills=%llu\n",
           (unsigned long long)sums[N_GETS], (unsigned long long)sums[N_HITS],
           (unsigned long long)sums[N_FILLS], (unsigned long long)sums[N_SETS],
           (unsigned long long)sums[N_WRITES], (unsigned long long)sums[N_CHANGES],
           (unsigned long long)sums[N_LAPS], (unsigned long long)kills);
    printf("   %d promotions, %d ghosts\n", (int)sums[N_PROMOTED], (int)sums[N_GHOSTS]);
    for (int i = 0; i < FIGURES; i++)
        CHECK(sums[i] > 100); /* nothing was left out */
}

static struct storm *new_storm(void)
{
    void *at =
        mmap(NULL, sizeof(struct storm), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static void *thread_main(void *worker)
{
    work(worker);
    return NULL;
}

static void storm_of_threads(void)
{
    static struct worker workers[SLOTS];
    pthread_t threads[SLOTS];
    struct storm *storm = new_storm();
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    for (unsigned i = 0; i < SLOTS; i++) {
        workers[i] =
            (struct worker){.storm = storm, .seg = seg, .slot = i, .rng = rng_for(100 + i)};
        CHECK_EQ(pthread_create(&threads[i], NULL, thread_main, &workers[i]), 0);
    }
    uint64_t start = now_ms();
    while (goes_on(storm, seg, start))
        usleep(10000);
    zoo_store_release(&storm->stop, 1);
    for (unsigned i = 0; i < SLOTS; i++)
        pthread_join(threads[i], NULL);
    check_sound(seg);
    report(storm, seg, 0);
    zoo_close(seg);
    munmap(storm, sizeof *storm);
}

static pid_t spawn(struct storm *storm, zoo_seg *seg, unsigned slot, uint64_t birth)
{
    static struct worker worker; /* the child's own copy after the fork */
    pid_t pid = fork_off();
    if (pid == 0) {
        if (slot < SURVIVORS)
            CHECK(nice(10) != -1); /* the others come and go, and must not wait long for a core */
        worker =
            (struct worker){.storm = storm, .seg = seg, .slot = slot, .rng = rng_for(1000 + birth)};
        work(&worker);
        _exit(0);
    }
    return pid;
}

/* A stop of a lap or so, then SIGKILL. */
static void doze(pid_t pid, struct rng *rng)
{
    kill(pid, SIGSTOP);
    usleep((useconds_t)rng_below(rng, 3000));
    kill(pid, SIGCONT);
    usleep((useconds_t)rng_below(rng, 200));
}

static void reap(pid_t pid)
{
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* and not by a check of its own */
}

static void look_for_progress(const struct storm *storm, uint64_t *seen)
{
    for (unsigned i = 0; i < SURVIVORS; i++) {
        uint64_t now = zoo_load_relaxed(&storm->progress[i]);
        snprintf(context, sizeof context, "survivor %u", i);
        CHECK(now > seen[i]);
        seen[i] = now;
    }
}

static void storm_of_processes(void)
{
    struct storm *storm = new_storm();
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct rng rng = rng_for(6);
    pid_t pids[SLOTS];
    uint64_t births = 0, kills = 0, start = now_ms(), looked = start, seen[SURVIVORS] = {0};
    for (unsigned i = 0; i < SLOTS; i++)
        pids[i] = spawn(storm, seg, i, births++);
    while (goes_on(storm, seg, start)) {
        usleep((useconds_t)rng_below(&rng, 1000));
        if (rng_below(&rng, 8) == 0)
            doze(pids[SURVIVORS + rng_below(&rng, SLOTS - SURVIVORS)], &rng);
        for (unsigned i = SURVIVORS; i < SLOTS; i++)
            kill(pids[i], SIGKILL);
        for (unsigned i = SURVIVORS; i < SLOTS; i++, kills++) {
            reap(pids[i]);
            pids[i] = spawn(storm, seg, i, births++);
        }
        if (now_ms() - looked > 10000) { /* the watchdog: nobody is stuck */
            looked = now_ms();
            look_for_progress(storm, seen);
        }
    }
    look_for_progress(storm, seen);
    zoo_store_release(&storm->stop, 1);
    for (unsigned i = 0; i < SLOTS; i++) {
        int status;
        alarm(20); /* a survivor that does not end is stuck */
        CHECK_EQ(waitpid(pids[i], &status, 0), pids[i]);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        alarm(0);
    }
    check_sound(seg);
    report(storm, seg, kills);
    zoo_close(seg);
    munmap(storm, sizeof *storm);
}

const struct suite storm_suites[] = {
    {"storm-threads", storm_of_threads},
    {"storm-processes", storm_of_processes},
    {NULL, NULL},
};
