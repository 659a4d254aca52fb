/*
 * test_look.c - what people are shown: the map, what is asked for, who is there.
 */
#include "harness.h"

#include <signal.h>

static zoo_census census;

static void take_census(zoo_seg *seg, uint64_t step)
{
    memset(&census, 0, sizeof census);
    for (uint64_t first = 0; first < step; first++)
        zoo_count_entries(seg, first, step, &census);
}

static uint64_t total(uint64_t cells[ZOO_LOGS][ZOO_CELLS])
{
    uint64_t sum = 0;
    for (int log = 0; log < ZOO_LOGS; log++) {
        for (int i = 0; i < ZOO_CELLS; i++)
            sum += cells[log][i];
    }
    return sum;
}

static void set_some(zoo_seg *seg, const char *name, int n, const char *tag)
{
    char key[24];
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof key, "%s%d", name, i);
        CHECK_EQ(set_text(seg, key, "some text", tag), ZOO_OK);
    }
}

/* The census says what zoo_check() does, and tells stale and expired entries from fresh ones. */
static void the_census_adds_up(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    zoo_report report;
    zoo_shape shape;
    zoo_look(seg, &shape);
    set_some(seg, "fresh", 100, "a");
    set_some(seg, "stale", 30, "b");
    CHECK_EQ(zoo_put(seg, ZOO_SET, "short", 5, "v", 1, 1000, "", 0, NULL, 0, 0), ZOO_OK);
    CHECK_EQ(invalidate(seg, "b"), ZOO_OK);
    zoo_skew(seg, 2000);
    zoo_check(seg, &report);
    for (uint64_t step = 1; step <= 64; step *= 4) { /* all at once, and in parts */
        take_census(seg, step);
        CHECK_EQ(census.buckets, shape.buckets);
        CHECK_EQ(census.fresh + census.stale + census.expired, report.entries);
        CHECK_EQ(census.fresh_bytes + census.other_bytes, report.entry_bytes);
        CHECK_EQ(census.stale, 30);
        CHECK_EQ(census.expired, 1);
        CHECK(census.fresh <= 100 && census.fresh >= 95); /* a full bucket evicts */
        CHECK_EQ(census.pending, 0);
        CHECK_EQ(total(census.fresh_in), census.fresh_bytes);
        CHECK_EQ(total(census.other_in), census.other_bytes);
    }
    lap(seg);
    take_census(seg, 1);
    CHECK_EQ(census.fresh + census.stale + census.expired, 0);
    CHECK_EQ(census.lost, report.entries);
    CHECK_EQ(total(census.fresh_in), 0);
    zoo_close(seg);
}

static void what_is_announced_is_pending(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    zoo_shape shape;
    uint64_t ticket;
    CHECK_EQ(set_text(seg, "key", "v", "a"), ZOO_OK);
    CHECK_EQ(zoo_announce(seg, "a", 1, NULL, 0, &ticket), ZOO_OK);
    take_census(seg, 1);
    CHECK_EQ(census.pending, 1);
    CHECK_EQ(census.other_bytes, total(census.other_in));
    zoo_look(seg, &shape);
    CHECK_EQ(__builtin_popcountll(shape.active_lanes), 1);
    CHECK_EQ(zoo_settle(seg, ticket, ZOO_ROLLED_BACK), ZOO_OK);
    take_census(seg, 1);
    CHECK_EQ(census.fresh, 1);
    zoo_look(seg, &shape);
    CHECK_EQ(shape.active_lanes, 0);
    zoo_close(seg);
}

/* A record lies in the cell of its address; one that crosses the end, in the first and the last. */
static void records_are_drawn_where_they_are(void)
{
    static char value[2048];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    const struct zoo_log *log = &seg->log[ZOO_LOG_PROBATION];
    uint64_t head = zoo_load_acquire(log->head);
    zoo_log_reserve(seg, ZOO_LOG_PROBATION, 2 * log->size - head % log->size - 1024);
    CHECK_EQ(set_bytes(seg, "key", value, sizeof value, ""), ZOO_OK);
    CHECK_EQ(log_of(seg, "key"), ZOO_LOG_PROBATION);
    take_census(seg, 1);
    CHECK_EQ(census.fresh, 1);
    const uint64_t *cells = census.fresh_in[ZOO_LOG_PROBATION];
    CHECK(log->size / ZOO_CELLS >= 1024);
    CHECK_EQ(cells[ZOO_CELLS - 1], 1024);
    CHECK_EQ(cells[0] + cells[1], census.fresh_bytes - 1024);
    zoo_close(seg);
}

static void the_shape_is_told(void)
{
    zoo_seg *seg;
    zoo_shape shape;
    zoo_unlink(segment_name());
    CHECK_EQ(zoo_open(segment_name(), 2 * ZOO_MIN_SIZE, 1000, &seg), ZOO_OK);
    zoo_look(seg, &shape);
    CHECK_EQ(shape.log_written[0] + shape.log_written[1], 0); /* nothing yet */
    CHECK(shape.log_size[0] + shape.log_size[1] < 2 * ZOO_MIN_SIZE);
    CHECK(shape.log_size[0] + shape.log_size[1] > ZOO_MIN_SIZE);
    CHECK_EQ(shape.buckets, 1024);
    CHECK_EQ(shape.root, shape.clock);
    CHECK_EQ(shape.miss_until_ms, 0);
    CHECK_EQ(set_text(seg, "key", "v", "a"), ZOO_OK);
    CHECK_EQ(invalidate(seg, "a"), ZOO_OK);
    take_census(seg, 1);
    zoo_look(seg, &shape);
    CHECK_EQ(shape.log_written[ZOO_LOG_MAIN], census.other_bytes);
    CHECK(shape.clock > shape.root);
    zoo_close(seg);
}

/* Asks for keys, `n` times, and counts the samples of each; returns how many there were. */
static unsigned sampled(zoo_seg *seg, unsigned (*next)(unsigned), unsigned n, unsigned *seen)
{
    static zoo_sample before[ZOO_ASKED], now[ZOO_ASKED];
    char key[24], found[ZOO_MAX_KEY];
    unsigned samples = 0;
    zoo_asked(seg, before);
    for (unsigned i = 0; i < n; i++) {
        snprintf(key, sizeof key, "key%u", next(i));
        CHECK(get_text(seg, key) != NULL);
        zoo_asked(seg, now);
        for (int k = 0; k < ZOO_ASKED; k++) {
            if (now[k].number == before[k].number)
                continue;
            size_t len = zoo_key_asked(seg, now[k].key_hash, found);
            CHECK(len == strlen(key) && memcmp(found, key, len) == 0);
            seen[next(i)]++;
            samples++;
            before[k] = now[k];
        }
    }
    return samples;
}

static unsigned always_the_same(unsigned i)
{
    (void)i;
    return 0;
}

/* Every sample is a new one, though each is of one key; there is one in some 48 gets. */
static void a_hot_key_is_sampled_again_and_again(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    unsigned seen[1] = {0};
    CHECK_EQ(set_text(seg, "key0", "v", ""), ZOO_OK);
    unsigned samples = sampled(seg, always_the_same, 48000, seen);
    CHECK(samples > 900 && samples < 1100);
    CHECK_EQ(seen[0], samples);
    uint64_t counters[ZOO_STATS];
    zoo_stats(seg, counters);
    CHECK_EQ(counters[ZOO_N_HITS], 48000);
    for (int k = ZOO_SAMPLE_AT; k < ZOO_STATS; k++) /* samples are no counters */
        CHECK_EQ(counters[k], 0);
    zoo_close(seg);
}

static unsigned pattern;

static unsigned of_a_page(unsigned i)
{
    return i % pattern;
}

/* A page that always asks for the same keys in the same order shows all of them. */
static void all_of_a_pattern_are_sampled(void)
{
    static const unsigned lengths[] = {2, 16, 21, 32, 47, 63, 64};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        unsigned seen[64] = {0};
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        pattern = lengths[i];
        set_some(seg, "key", (int)pattern, "");
        sampled(seg, of_a_page, 48 * 100 * pattern, seen);
        for (unsigned k = 0; k < pattern; k++) { /* some 100 each */
            snprintf(context, sizeof context, "key %u of %u: %u", k, pattern, seen[k]);
            CHECK(seen[k] > 50 && seen[k] < 200);
        }
        zoo_close(seg);
    }
}

static void a_sample_of_what_is_gone_has_no_name(void)
{
    char like[24], found[ZOO_MAX_KEY];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t key_hash = zoo_key_hash(seg, "key", 3);
    CHECK_EQ(set_text(seg, "key", "v", ""), ZOO_OK);
    CHECK_EQ(zoo_key_asked(seg, key_hash, found), 3);
    make_key_like(seg, "key", true, like); /* the same bucket and the same fingerprint */
    CHECK_EQ(set_text(seg, like, "v", ""), ZOO_OK);
    CHECK_EQ(zoo_key_asked(seg, key_hash, found), 3);
    CHECK(memcmp(found, "key", 3) == 0);
    CHECK_EQ(delete_key(seg, "key"), ZOO_OK);
    CHECK_EQ(zoo_key_asked(seg, key_hash, found), 0);
    CHECK_EQ(zoo_key_asked(seg, 0, found), 0);
    zoo_close(seg);
}

static bool is_among(zoo_seg *seg, pid_t pid)
{
    int32_t pids[ZOO_MOST_PIDS];
    int n = zoo_owner_pids(seg, pids, ZOO_MOST_PIDS);
    bool found = false;
    for (int i = 0; i < n; i++)
        found |= pids[i] == pid;
    return found;
}

static void owners_are_told_by_pid(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    int32_t pids[4];
    CHECK_EQ(zoo_owner_pids(seg, pids, 4), 0); /* nobody has announced or led */
    CHECK(zoo_owner_mine(seg) != 0);
    CHECK(is_among(seg, getpid()));
    zoo_word *ready = shared_words(1);
    pid_t pid = fork_off();
    if (pid == 0) {
        zoo_store_release(ready, zoo_owner_mine(seg) != 0);
        for (;;)
            pause();
    }
    await(ready, 1);
    CHECK(is_among(seg, pid) && is_among(seg, getpid()));
    CHECK_EQ(zoo_owner_pids(seg, pids, 1), 1); /* no more than there is room for */
    kill_unburied(pid);
    CHECK(!is_among(seg, pid)); /* a zombie holds no slot */
    bury(pid);
    CHECK(is_among(seg, getpid())); /* to have asked has cost no lock */
    zoo_close(seg);
}

const struct suite look_suites[] = {
    {"look-census", the_census_adds_up},
    {"look-pending", what_is_announced_is_pending},
    {"look-cells", records_are_drawn_where_they_are},
    {"look-shape", the_shape_is_told},
    {"look-samples", a_hot_key_is_sampled_again_and_again},
    {"look-patterns", all_of_a_pattern_are_sampled},
    {"look-gone", a_sample_of_what_is_gone_has_no_name},
    {"look-owners", owners_are_told_by_pid},
    {NULL, NULL},
};
