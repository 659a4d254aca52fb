/*
 * test_core.c - the parts on their own: clock, tags, log. And main().
 *
 *     test_core            all suites
 *     test_core NAME...    those
 *     test_core --list     their names
 *     test_core --points   the fault points that the harness knows
 */
#include "harness.h"

static void clock_ticks_strictly(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK(zoo_stamp(seg) != 0);
    for (int i = 0; i < 100000; i++) {
        uint64_t before = zoo_hlc_read(seg);
        uint64_t tick = zoo_hlc_tick(seg);
        CHECK(tick > before);
        CHECK_EQ(zoo_hlc_read(seg), tick);
    }
    zoo_close(seg);
}

static void clock_merges_within_bounds(void)
{
    const uint64_t second = 1000000000u / ZOO_CLOCK_UNIT_NS;
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t now = zoo_hlc_tick(seg);
    CHECK_EQ(zoo_merge(seg, now - 1), 1); /* behind: nothing to do */
    CHECK_EQ(zoo_hlc_read(seg), now);
    CHECK_EQ(zoo_merge(seg, now + 30 * second), 1);
    CHECK_EQ(zoo_hlc_read(seg), now + 30 * second);
    CHECK_EQ(zoo_merge(seg, now + 3600 * second), 0);
    CHECK_EQ(zoo_merge(seg, UINT64_MAX), 0);
    CHECK_EQ(zoo_hlc_read(seg), now + 30 * second);
    CHECK_EQ(zoo_hlc_tick(seg), now + 30 * second + 1); /* still strict when ahead of time */
    /* Step by step is no way round the bound. */
    for (int i = 0; i < 100; i++)
        zoo_merge(seg, zoo_hlc_read(seg) + 50 * second);
    CHECK(zoo_hlc_read(seg) < now + 120 * second);
    CHECK(zoo_hlc_read(seg) <= ZOO_CLOCK_MASK);
    zoo_close(seg);
}

static void clock_refuses_stamps_from_the_future(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t stamp = zoo_stamp(seg);
    /* Such a fill would outlive every invalidation until the clock has caught up. */
    CHECK_EQ(fill_text(seg, "k", "v", "t", stamp + 1), ZOO_BORN_DEAD);
    CHECK_EQ(fill_text(seg, "k", "v", "t", ZOO_CLOCK_MASK - 1), ZOO_BORN_DEAD);
    CHECK_EQ(fill_text(seg, "k", "v", "t", ZOO_CLOCK_MASK), ZOO_E_ARGUMENT); /* nobody's stamp */
    CHECK_EQ(fill_text(seg, "k", "v", "t", UINT64_MAX), ZOO_E_ARGUMENT);
    CHECK(get_text(seg, "k") == NULL);
    CHECK_EQ(fill_text(seg, "k", "v", "t", stamp), ZOO_OK);
    zoo_close(seg);
}

/* What a get asks is what the clocks say. */
static void tags_agree(zoo_seg *seg, uint64_t tag, uint64_t stamp)
{
    const uint64_t key_hash = 12345;
    uint64_t of_key = zoo_tag_clock(seg, zoo_tag_of_key(key_hash));
    bool fresh =
        (of_key <= stamp && zoo_tag_clock(seg, tag) <= stamp) || zoo_hlc_read(seg) <= stamp;
    stamp &= ZOO_CLOCK_MASK;
    CHECK_EQ(zoo_tag_fresh(seg, stamp, key_hash, &tag, 1), fresh);
}

/* Random raises of far more tags than there is room for, against an exact map. */
static void tags_never_forget(void)
{
    enum { TAGS = 5000, STEPS = 60000 };
    static uint64_t exact[TAGS], seen[TAGS];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct rng rng = rng_for(1);
    CHECK_EQ(seg->tag_mask, 63);
    zoo_store_relaxed(&seg->hdr->root, 0); /* the tags alone decide */
    memset(exact, 0, sizeof exact);
    memset(seen, 0, sizeof seen);
    for (int step = 0; step < STEPS; step++) {
        uint64_t tag = rng_below(&rng, TAGS);
        uint64_t hash = zoo_mix(tag + 1);
        /* Now and then a late bumper, with a clock that others have overtaken. */
        uint64_t clock = zoo_hlc_tick(seg);
        if (rng_below(&rng, 4) == 0)
            clock -= rng_below(&rng, 1 + (clock < 5000 ? clock - 1 : 5000));
        zoo_tag_raise(seg, hash, clock);
        exact[tag] = clock > exact[tag] ? clock : exact[tag];
        for (int look = 0; look < 8; look++) {
            uint64_t other = look == 0 ? tag : rng_below(&rng, TAGS);
            uint64_t clock_of = zoo_tag_clock(seg, zoo_mix(other + 1));
            snprintf(context, sizeof context, "step %d, tag %d", step, (int)other);
            CHECK(clock_of >= exact[other]); /* coarser, never forgotten */
            CHECK(clock_of >= seen[other]);  /* and never backwards */
            CHECK(clock_of <= zoo_hlc_read(seg));
            seen[other] = clock_of;
            tags_agree(seg, zoo_mix(other + 1), clock_of + rng_below(&rng, 3) - 1);
        }
    }
    check_sound(seg);
    zoo_close(seg);
}

/* As long as a set has room its tags are exact: no needless misses. */
static void tags_are_exact_while_there_is_room(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t clocks[ZOO_WAYS];
    for (uint64_t i = 1; i < ZOO_WAYS; i++)
        zoo_tag_raise(seg, i << 48, clocks[i] = zoo_hlc_tick(seg));
    for (uint64_t i = 1; i < ZOO_WAYS; i++)
        CHECK_EQ(zoo_tag_clock(seg, i << 48), clocks[i]);
    CHECK_EQ(zoo_tag_clock(seg, 99ull << 48), 0);
    /* One too many: the oldest goes into the floor, the others stay exact. */
    uint64_t newest = zoo_hlc_tick(seg);
    zoo_tag_raise(seg, 99ull << 48, newest);
    CHECK_EQ(zoo_tag_clock(seg, 99ull << 48), newest);
    CHECK_EQ(zoo_tag_clock(seg, 1ull << 48), clocks[1]);
    CHECK_EQ(zoo_tag_clock(seg, 100ull << 48), clocks[1]);
    CHECK_EQ(zoo_tag_clock(seg, 7ull << 48), clocks[7]);
    /* A bump older than all of them raises only the floor. */
    zoo_tag_raise(seg, 101ull << 48, clocks[1]);
    CHECK_EQ(zoo_tag_clock(seg, 2ull << 48), clocks[2]);
    zoo_close(seg);
}

static void tags_are_parsed(void)
{
    static const struct {
        const char *text;
        size_t len;
        int outcome, exact, prefixes;
    } cases[] = {
        {"a", 1, ZOO_OK, 1, 1},       {"a:b", 3, ZOO_OK, 1, 2},      {"a:b:c", 5, ZOO_OK, 1, 3},
        {"a\0b", 3, ZOO_OK, 2, 2},    {"a:b\0a:c", 7, ZOO_OK, 2, 4}, {"", 0, ZOO_OK, 0, 0},
        {":", 1, ZOO_E_TAG, 0, 0},    {"a:", 2, ZOO_E_TAG, 0, 0},    {":a", 2, ZOO_E_TAG, 0, 0},
        {"a::b", 4, ZOO_E_TAG, 0, 0}, {"a\0", 2, ZOO_E_TAG, 0, 0},   {"\0a", 2, ZOO_E_TAG, 0, 0},
        {"\0", 1, ZOO_E_TAG, 0, 0},   {"a:\0b", 4, ZOO_E_TAG, 0, 0},
    };
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int prefixes = 0; prefixes <= 1; prefixes++) {
            struct zoo_deps deps;
            zoo_deps_start(&deps);
            snprintf(context, sizeof context, "case %d, prefixes %d", (int)i, prefixes);
            CHECK_EQ(zoo_deps_parse(seg, &deps, cases[i].text, cases[i].len, prefixes),
                     cases[i].outcome);
            if (cases[i].outcome == ZOO_OK)
                CHECK_EQ(deps.n, prefixes ? cases[i].prefixes : cases[i].exact);
            zoo_deps_free(&deps);
            uint64_t whole = zoo_hash_of_tag(seg, cases[i].text, cases[i].len);
            CHECK_EQ(whole != 0, cases[i].outcome == ZOO_OK && cases[i].exact == 1);
        }
    }
    struct zoo_deps deps;
    zoo_deps_start(&deps);
    CHECK_EQ(zoo_deps_parse(seg, &deps, "a:b", 3, true), ZOO_OK);
    CHECK_EQ(deps.hash[0], zoo_tag_hash(seg, "a", 1));
    CHECK_EQ(deps.hash[1], zoo_tag_hash(seg, "a:b", 3));
    zoo_deps_free(&deps);
    zoo_close(seg);
}

/* Sorted by both algorithms, with duplicates, and of more hashes than there is room for at first.
 */
static void deps_are_unique(void)
{
    struct rng rng = rng_for(9);
    for (size_t n = 0; n <= 3 * ZOO_FEW_DEPS; n++) {
        bool seen[64] = {false};
        size_t different = 0;
        struct zoo_deps deps;
        snprintf(context, sizeof context, "%d hashes", (int)n);
        zoo_deps_start(&deps);
        for (size_t i = 0; i < n; i++) {
            uint64_t hash = rng_below(&rng, 64);
            different += !seen[hash];
            seen[hash] = true;
            CHECK_EQ(zoo_deps_add(&deps, hash << 58), ZOO_OK);
        }
        CHECK_EQ(deps.n, n);
        zoo_deps_unique(&deps);
        CHECK_EQ(deps.n, different);
        for (size_t i = 0; i < deps.n; i++)
            CHECK(seen[deps.hash[i] >> 58] && (i == 0 || deps.hash[i - 1] < deps.hash[i]));
        zoo_deps_free(&deps);
    }
}

static void log_holds_every_length(void)
{
    static char value[5001];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    for (size_t i = 0; i < sizeof value; i++)
        value[i] = (char)('a' + i % 23);
    for (size_t len = 0; len <= 5000; len++) { /* some 60 laps: every place, the end included */
        snprintf(context, sizeof context, "length %d", (int)len);
        CHECK_EQ(set_bytes(seg, "key", value, len, "t:u"), ZOO_OK);
        const char *back = get_text(seg, "key");
        CHECK_EQ(got, len);
        CHECK(memcmp(back, value, len) == 0);
    }
    check_sound(seg);
    zoo_close(seg);
}

/* The head is put before the end so that a record crosses it at every 8-byte step. */
static void wrap_across_the_end(unsigned which)
{
    char value[700];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct zoo_log *log = &seg->log[which];
    memset(value, 'x', sizeof value);
    int crossed = 0;
    for (uint64_t before = 0; before <= 800; before += ZOO_UNIT) {
        delete_key(seg, "key");
        if (which == ZOO_LOG_MAIN) { /* where a key goes that is in it already */
            CHECK_EQ(set_text(seg, "key", "v", ""), ZOO_OK);
            if (log_of(seg, "key") != which)
                promote_key(seg, "key");
        }
        uint64_t head = zoo_load_acquire(log->head);
        move_log(log, head + log->size - head % log->size - before +
                          (head % log->size > log->size - before ? log->size : 0));
        snprintf(context, sizeof context, "%d bytes before the end of log %u", (int)before, which);
        CHECK_EQ(set_bytes(seg, "key", value, sizeof value, "t"), ZOO_OK);
        CHECK_EQ(log_of(seg, "key"), which);
        crossed += before > 0 && before < sizeof value;
        zoo_seg *other = attach_again();
        CHECK(get_text(other, "key") != NULL && memcmp(get_text(other, "key"), value, 700) == 0);
        zoo_close(other);
        CHECK(get_text(seg, "key") != NULL && memcmp(get_text(seg, "key"), value, 700) == 0);
    }
    CHECK(crossed > 40);
    check_sound(seg);
    zoo_close(seg);
}

static void logs_wrap_across_their_ends(void)
{
    wrap_across_the_end(ZOO_LOG_PROBATION);
    wrap_across_the_end(ZOO_LOG_MAIN);
}

static void set_in(zoo_seg *seg, unsigned which)
{
    CHECK_EQ(set_text(seg, "key", "v", ""), ZOO_OK);
    if (which == ZOO_LOG_MAIN)
        promote_key(seg, "key");
    CHECK_EQ(log_of(seg, "key"), which);
}

static void logs_lap(void)
{
    for (unsigned which = 0; which < ZOO_LOGS; which++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        zoo_report report;
        snprintf(context, sizeof context, "log %u", which);
        uint64_t start = zoo_load_acquire(seg->log[which].head);
        set_in(seg, which);
        uint64_t head = zoo_load_acquire(seg->log[which].head);
        zoo_log_reserve(seg, which, seg->log[which].size - (head - start));
        zoo_check(seg, &report);
        CHECK_EQ(report.entries, 1); /* its first byte is the next to go */
        zoo_log_reserve(seg, which, ZOO_UNIT);
        CHECK(get_text(seg, "key") == NULL);
        CHECK_EQ(got, -ZOO_LAPPED);
        CHECK_EQ(set_text(seg, "key", "w", ""), ZOO_OK);
        CHECK(strcmp(get_text(seg, "key"), "w") == 0);
        check_sound(seg);
        zoo_close(seg);
    }
}

/* The limit of a large log moves by strides; nothing that is reserved lies behind it. */
static void limits_move_by_strides(void)
{
    zoo_seg *seg = fresh(16 << 20);
    const struct zoo_log *log = &seg->log[ZOO_LOG_MAIN];
    struct rng rng = rng_for(31);
    uint64_t moves = 0, before = zoo_load_acquire(log->limit);
    CHECK_EQ(seg->log[ZOO_LOG_MAIN].stride, 32768);
    for (int i = 0; i < 20000; i++) {
        uint64_t bytes = (1 + rng_below(&rng, 100)) * ZOO_UNIT;
        uint64_t end = zoo_log_reserve(seg, ZOO_LOG_MAIN, bytes).bytes + bytes;
        uint64_t limit = zoo_load_acquire(log->limit);
        CHECK_EQ(zoo_load_acquire(log->head), end);
        CHECK(limit >= end && limit < end + log->stride);
        moves += limit != before;
        before = limit;
    }
    CHECK(moves > 200 && moves < 400);
    set_in(seg, ZOO_LOG_MAIN);
    zoo_log_reserve(seg, ZOO_LOG_MAIN, log->size - 3 * log->stride);
    CHECK_EQ(log_of(seg, "key"), ZOO_LOG_MAIN); /* a get would copy it to the head */
    zoo_log_reserve(seg, ZOO_LOG_MAIN, 3 * log->stride);
    CHECK(get_text(seg, "key") == NULL);
    CHECK_EQ(got, -ZOO_LAPPED);
    zoo_close(seg);
}

static void log_takes_the_longest_record_and_no_longer(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t needed = 0;
    /* A key of 8 padded bytes, and room for an expiry. */
    size_t most = zoo_max_record(seg) - sizeof(struct zoo_rec) - 8 - ZOO_EXPIRY_BYTES;
    char *value = calloc(1, most + 1);
    CHECK(value != NULL);
    CHECK_EQ(set_bytes(seg, "key", value, most, ""), ZOO_OK);
    CHECK_EQ(zoo_get(seg, "key", 3, value, most - 1, &needed), -ZOO_MORE);
    CHECK_EQ(needed, most);
    CHECK_EQ(zoo_get(seg, "key", 3, value, most, &needed), most);
    CHECK_EQ(set_bytes(seg, "key", value, most + 1, ""), ZOO_TOO_LARGE);
    CHECK_EQ(zoo_get(seg, "key", 3, value, most, &needed), -ZOO_MISS); /* the old value is gone */
    free(value);
    zoo_close(seg);
}

/* A position needs more than the 53 bits of a word after 2^53 bytes; the limit gives the rest. */
static void log_rebuilds_positions_at_the_word_s_wrap(void)
{
    for (unsigned which = 0; which < ZOO_LOGS; which++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        move_log(&seg->log[which], (1ull << 53) - 2048);
        set_in(seg, which);
        for (int i = 0; i < 100; i++) {
            if (which == ZOO_LOG_PROBATION)
                CHECK_EQ(delete_key(seg, "key"), ZOO_OK);
            CHECK_EQ(set_text(seg, "key", "a value of some length", ""), ZOO_OK);
            CHECK(get_text(seg, "key") != NULL);
        }
        CHECK(zoo_load_acquire(seg->log[which].head) > 1ull << 53);
        check_sound(seg);
        zoo_close(seg);
    }
}

const struct suite unit_suites[] = {
    {"clock-ticks", clock_ticks_strictly},
    {"clock-merges", clock_merges_within_bounds},
    {"clock-future-stamp", clock_refuses_stamps_from_the_future},
    {"tags-never-forget", tags_never_forget},
    {"tags-exact", tags_are_exact_while_there_is_room},
    {"tags-parsed", tags_are_parsed},
    {"log-lengths", log_holds_every_length},
    {"deps-unique", deps_are_unique},
    {"log-wraps", logs_wrap_across_their_ends},
    {"log-laps", logs_lap},
    {"log-strides", limits_move_by_strides},
    {"log-longest", log_takes_the_longest_record_and_no_longer},
    {"log-positions", log_rebuilds_positions_at_the_word_s_wrap},
    {NULL, NULL},
};

static const struct suite *const groups[] = {
    unit_suites,  cache_suites,  race_suites,   schedule_suites,  crash_suites,      storm_suites,
    owner_suites, flight_suites, intent_suites, event_suites,     linear_suites,     modify_suites,
    logs_suites,  sum_suites,    retire_suites, overtaken_suites, succession_suites, garbled_suites,
    look_suites,  name_suites,   local_suites,  tally_suites,     expiry_suites};

static bool wanted(const char *name, int argc, char **argv)
{
    bool any = argc <= 1;
    for (int i = 1; i < argc; i++)
        any |= strcmp(argv[i], name) == 0;
    return any;
}

int main(int argc, char **argv)
{
    bool list = argc == 2 && strcmp(argv[1], "--list") == 0;
    int ran = 0;
    if (argc == 2 && strcmp(argv[1], "--points") == 0) {
        for (const char *const *point = all_points; *point != NULL; point++)
            puts(*point);
        return 0;
    }
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
        for (const struct suite *suite = groups[g]; suite->name != NULL; suite++) {
            if (list)
                puts(suite->name);
            if (list || !wanted(suite->name, argc, argv))
                continue;
            uint64_t start = now_ms();
            context[0] = '\0';
            suite->run();
            printf("ok %s (%d ms)\n", suite->name, (int)(now_ms() - start));
            fflush(stdout);
            ran++;
        }
    }
    if (ran == 0 && !list)
        fprintf(stderr, "no such suite\n");
    return ran == 0 && !list;
}
