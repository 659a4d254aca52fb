#include "harness.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <time.h>

_Thread_local char context[200];
_Thread_local int64_t got;
_Thread_local void (*on_every_point)(const char *point);

/* A test checks that this list is what the sources have. */
const char *const all_points[] = {
    "segment:attaching",
    "segment:allocated",
    "segment:before-ready",
    "set:before-publish",
    "set:reserved",
    "log:before-write",
    "log:after-write",
    "log:opened",
    "log:copied",
    "get:copied",
    "promote:reserved",
    "modify:reserved",
    "index:before-swap",
    "index:before-replace",
    "index:tentative",
    "index:before-final",
    "index:before-remove",
    "bump:ticked",
    "bump:raised",
    "tag:floor-raised",
    "retire:clock-stopped",
    "retire:retired",
    "retire:before-rename",
    "owner:file-named",
    "owner:locked",
    "owner:counted",
    "owner:asking",
    "flight:looked",
    "flight:before-claim",
    "flight:claimed",
    "flight:before-sleep",
    "flight:before-end",
    "flight:before-wake",
    "intent:taken",
    "intent:written",
    "intent:counted",
    "intent:active",
    "intent:bit-set",
    "intent:announced",
    "intent:crowded",
    "intent:settling",
    "intent:ticked",
    "intent:raised",
    "intent:bumped",
    "intent:bit-cleared",
    "intent:bits-cleared",
    "intent:uncounted",
    "intent:before-quarantine",
    "reap:before-take",
    "reap:taken",
    "event:reserved",
    "event:half-written",
    "event:half-read",
    "local:looked",
    NULL,
};

static pid_t owner; /* of the segment's name: forked children must not remove it */

static void remove_segment(void)
{
    if (getpid() == owner)
        zoo_unlink(segment_name());
}

_Noreturn void check_failed(const char *file, int line, const char *what, int64_t a, int64_t b)
{
    fprintf(stderr,
            "%s:%d: failed: %s (%" PRId64 ", %" PRId64 ")\n  context: %s\n  ZOO_TEST_SEED=%" PRIu64
            ", pid %d\n",
            file, line, what, a, b, context, base_seed(), (int)getpid());
    fflush(stderr);
    remove_segment();
    _exit(1);
}

void check_equal(const char *file, int line, const char *what, int64_t a, int64_t b)
{
    if (a != b)
        check_failed(file, line, what, a, b);
}

uint64_t base_seed(void)
{
    static uint64_t seed;
    if (seed == 0) {
        const char *given = getenv("ZOO_TEST_SEED");
        if (given != NULL)
            seed = strtoull(given, NULL, 10);
        else if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
            seed = (uint64_t)time(NULL);
        seed |= 1;
    }
    return seed;
}

struct rng rng_for(uint64_t who)
{
    return (struct rng){zoo_mix(base_seed() + who * ZOO_PRIME)};
}

uint64_t rng_next(struct rng *rng)
{
    return zoo_mix(rng->state += ZOO_LANE_1);
}

const char *segment_name(void)
{
    static char name[100];
    if (name[0] == '\0') {
        const char *given = getenv("ZOO_TEST_SEGMENT");
        snprintf(name, sizeof name, "%s-%d", given ? given : "test-c", (int)getpid());
        owner = getpid();
        atexit(remove_segment);
    }
    return name;
}

zoo_seg *fresh(uint64_t size)
{
    zoo_seg *seg;
    zoo_unlink(segment_name());
    CHECK_EQ(zoo_open(segment_name(), size, 1000, &seg), ZOO_OK);
    lap_log(seg, ZOO_LOG_MAIN); /* as long as main has unused room, nothing goes to probation */
    return seg;
}

zoo_seg *attach_again(void)
{
    zoo_seg *seg;
    CHECK_EQ(zoo_open(segment_name(), 0, 1000, &seg), ZOO_OK);
    return seg;
}

void check_sound(zoo_seg *seg)
{
    zoo_report report;
    uint64_t violations = zoo_check(seg, &report);
    CHECK_EQ(report.words_misplaced, 0);
    CHECK_EQ(report.keys_doubled, 0);
    CHECK_EQ(report.clocks_ahead, 0);
    CHECK_EQ(violations, 0);
}

static _Thread_local struct {
    const char *point;
    unsigned count;
    action *act;
    void *arg;
} plan;

void at_point_after(const char *point, unsigned count, action *act, void *arg)
{
    plan.point = point;
    plan.count = count;
    plan.act = act;
    plan.arg = arg;
}

void at_point(const char *point, action *act, void *arg)
{
    at_point_after(point, 1, act, arg);
}

bool point_passed(void)
{
    bool passed = plan.point == NULL;
    plan.point = NULL;
    return passed;
}

void zoo_fault(const char *point)
{
    if (on_every_point != NULL)
        on_every_point(point);
    if (plan.point == NULL || strcmp(plan.point, point) != 0 || --plan.count > 0)
        return;
    plan.point = NULL; /* what the action does is not disturbed itself */
    plan.act(plan.arg);
}

/* Tags with spaces between them, as the core wants them: with NULs. */
static size_t pack(const char *tags, char *out)
{
    size_t len = strlen(tags);
    for (size_t i = 0; i < len; i++)
        out[i] = tags[i] == ' ' ? '\0' : tags[i];
    return len;
}

int put_bytes(zoo_seg *seg, int mode, const char *key, const char *value, size_t len,
              const char *tags, uint64_t stamp)
{
    char packed[256];
    size_t n = pack(tags, packed);
    return zoo_put(seg, mode, key, strlen(key), value, len, 0, packed, n, NULL, 0, stamp);
}

int put_text(zoo_seg *seg, int mode, const char *key, const char *text, const char *tags)
{
    return put_bytes(seg, mode, key, text, strlen(text), tags, 0);
}

int set_bytes(zoo_seg *seg, const char *key, const char *value, size_t len, const char *tags)
{
    return put_bytes(seg, ZOO_SET, key, value, len, tags, 0);
}

int set_text(zoo_seg *seg, const char *key, const char *text, const char *tags)
{
    return put_bytes(seg, ZOO_SET, key, text, strlen(text), tags, 0);
}

int fill_text(zoo_seg *seg, const char *key, const char *text, const char *tags, uint64_t stamp)
{
    return put_bytes(seg, ZOO_FILL, key, text, strlen(text), tags, stamp);
}

int invalidate(zoo_seg *seg, const char *tags)
{
    char packed[256];
    size_t n = pack(tags, packed);
    return zoo_invalidate(seg, packed, n);
}

int delete_key(zoo_seg *seg, const char *key)
{
    return zoo_delete(seg, key, strlen(key));
}

const char *get_text(zoo_seg *seg, const char *key)
{
    static _Thread_local char text[8192];
    uint64_t needed;
    got = zoo_get(seg, key, strlen(key), text, sizeof text - 1, &needed);
    if (got < 0)
        return NULL;
    text[got] = '\0';
    return text;
}

int incr(zoo_seg *seg, const char *key, int64_t delta, int64_t *result)
{
    return zoo_incr(seg, key, strlen(key), delta, result);
}

int touch(zoo_seg *seg, const char *key, uint64_t ttl_ms)
{
    return zoo_touch(seg, key, strlen(key), ttl_ms);
}

int swap_text(zoo_seg *seg, const char *key, const char *expected, const char *text)
{
    return zoo_compare_and_set(seg, key, strlen(key), expected, strlen(expected), text,
                               strlen(text));
}

uint64_t counter(zoo_seg *seg, zoo_stat which)
{
    uint64_t counters[ZOO_STATS];
    zoo_stats(seg, counters);
    return counters[which];
}

void move_log(const struct zoo_log *log, uint64_t head)
{
    zoo_store_relaxed(log->head, head);
    zoo_store_relaxed(log->limit, head);
}

void lap_log(zoo_seg *seg, unsigned log)
{
    move_log(&seg->log[log], zoo_load_acquire(seg->log[log].head) + seg->log[log].size);
}

void lap(zoo_seg *seg)
{
    for (unsigned log = 0; log < ZOO_LOGS; log++)
        lap_log(seg, log);
}

void half_a_lap(zoo_seg *seg)
{
    for (unsigned log = 0; log < ZOO_LOGS; log++)
        zoo_log_reserve(seg, log, seg->log[log].size / 2);
}

void ripen(zoo_seg *seg)
{
    for (unsigned log = 0; log < ZOO_LOGS; log++) {
        uint64_t half = seg->log[log].size / 2, renew = seg->log[log].renew_after;
        zoo_log_reserve(seg, log, (renew > half ? renew : half) / ZOO_UNIT * ZOO_UNIT + 64);
    }
}

unsigned log_of(zoo_seg *seg, const char *key)
{
    struct zoo_hit hit;
    uint64_t hash = zoo_key_hash(seg, key, strlen(key));
    CHECK_EQ(zoo_index_find(seg, hash, key, strlen(key), &hit), ZOO_OK);
    zoo_log_close(&hit);
    return zoo_word_log(hit.word);
}

void promote_key(zoo_seg *seg, const char *key)
{
    uint64_t before = counter(seg, ZOO_N_PROMOTIONS);
    CHECK_EQ(log_of(seg, key), ZOO_LOG_PROBATION);
    zoo_log_reserve(seg, ZOO_LOG_PROBATION,
                    seg->log[ZOO_LOG_PROBATION].renew_after / ZOO_UNIT * ZOO_UNIT + ZOO_UNIT);
    CHECK(get_text(seg, key) != NULL);
    CHECK_EQ(counter(seg, ZOO_N_PROMOTIONS), before + 1);
    CHECK_EQ(log_of(seg, key), ZOO_LOG_MAIN);
}

void make_key_like(zoo_seg *seg, const char *like, bool same_fp, char out[24])
{
    uint64_t hash = zoo_key_hash(seg, like, strlen(like));
    for (uint64_t i = 0;; i++) {
        snprintf(out, 24, "like%" PRIu64, i);
        uint64_t other = zoo_key_hash(seg, out, strlen(out));
        bool same_bucket = ((other ^ hash) & seg->bucket_mask) == 0;
        if (same_bucket && (other >> 52 == hash >> 52) == same_fp && strcmp(out, like) != 0)
            return;
    }
}

pid_t fork_off(void)
{
    pid_t parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
    }
    return pid;
}

int in_child(action *act, void *arg)
{
    int status;
    pid_t pid = fork_off();
    if (pid == 0) {
        act(arg);
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return status;
}

_Noreturn void die_hard(void *unused)
{
    (void)unused;
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

void stop_here(void *unused)
{
    (void)unused;
    raise(SIGSTOP);
}

pid_t stopped_child(action *act, void *arg)
{
    int status;
    pid_t pid = fork_off();
    if (pid == 0) {
        act(arg);
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status));
    return pid;
}

void wake(pid_t pid)
{
    int status;
    kill(pid, SIGCONT);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void kill_unburied(pid_t pid)
{
    siginfo_t info;
    kill(pid, SIGKILL);
    CHECK_EQ(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
}

void bury(pid_t pid)
{
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
}

zoo_word *shared_words(size_t n)
{
    void *at =
        mmap(NULL, n * sizeof(zoo_word), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

void await(const zoo_word *at, uint64_t value)
{
    uint64_t start = now_ms();
    struct timespec pause = {0, 200000};
    while (zoo_load_acquire(at) != value) {
        CHECK(now_ms() - start < 30000);
        nanosleep(&pause, NULL);
    }
}

const char *lock_file_name(void)
{
    static char name[200];
    snprintf(name, sizeof name, "/zoocache-%lu-%s.lock", (unsigned long)geteuid(), segment_name());
    return name;
}

pid_t take_all_slots(int spare)
{
    zoo_word *ready = shared_words(1);
    pid_t pid = fork_off();
    if (pid == 0) {
        int fd = shm_open(lock_file_name(), O_RDWR, 0);
        CHECK(fd >= 0);
        for (int slot = 0; slot < ZOO_OWNERS; slot++) {
            struct flock lock = {F_WRLCK, SEEK_SET, slot, 1, 0};
            if (slot != spare)
                fcntl(fd, F_SETLK, &lock);
        }
        zoo_store_release(ready, 1);
        for (;;)
            pause();
    }
    await(ready, 1);
    return pid;
}

uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
