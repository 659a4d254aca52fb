/*
 * test_cache.c - get, set, delete and invalidate: their outcomes, their order,
 * and what they make of shared memory that somebody has scribbled over.
 */
#include "harness.h"

static void values_come_back(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK(get_text(seg, "key") == NULL);
    CHECK_EQ(got, -ZOO_MISS);
    CHECK_EQ(set_text(seg, "key", "one", "t:u"), ZOO_OK);
    CHECK(strcmp(get_text(seg, "key"), "one") == 0);
    CHECK_EQ(set_text(seg, "key", "two", "t:u"), ZOO_OK);
    CHECK(strcmp(get_text(seg, "key"), "two") == 0);
    CHECK_EQ(set_text(seg, "empty", "", ""), ZOO_OK);
    CHECK_EQ(strlen(get_text(seg, "empty")), 0);
    CHECK_EQ(delete_key(seg, "key"), ZOO_OK);
    CHECK(get_text(seg, "key") == NULL);
    CHECK_EQ(delete_key(seg, "key"), ZOO_MISS);
    CHECK_EQ(set_text(seg, "", "v", ""), ZOO_E_KEY);
    CHECK_EQ(delete_key(seg, ""), ZOO_E_KEY);
    check_sound(seg);
    zoo_close(seg);
}

static void tags_cut_by_prefix(void)
{
    static const struct {
        const char *bump;
        bool kills;
    } cases[] = {{"a:b:c", true}, {"a:b", true}, {"a", true},        {"x", true},
                 {"q a", true},   {"b", false},  {"a:b:c:d", false}, {"a:c", false},
                 {"ab", false},   {"x:y", false}};
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(context, sizeof context, "bump %s", cases[i].bump);
        CHECK_EQ(set_text(seg, "key", "v", "a:b:c x"), ZOO_OK);
        CHECK(get_text(seg, "key") != NULL);
        CHECK_EQ(invalidate(seg, cases[i].bump), ZOO_OK);
        CHECK_EQ(get_text(seg, "key") == NULL, cases[i].kills);
        CHECK_EQ(got, cases[i].kills ? -ZOO_STALE : 1);
    }
    CHECK_EQ(set_text(seg, "key", "v", ""), ZOO_OK);
    zoo_clear(seg);
    CHECK(get_text(seg, "key") == NULL); /* without tags too */
    zoo_close(seg);
}

static void entries_expire(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(zoo_set(seg, "key", 3, "v", 1, 60000, "", 0, NULL, 0, 0), ZOO_OK);
    CHECK(get_text(seg, "key") != NULL);
    zoo_skew(seg, 30000);
    CHECK(get_text(seg, "key") != NULL);
    zoo_skew(seg, 60001);
    CHECK(get_text(seg, "key") == NULL);
    CHECK_EQ(got, -ZOO_EXPIRED);
    zoo_close(seg);
}

static void a_failed_set_leaves_the_key_absent(void)
{
    static char huge[ZOO_MIN_SIZE];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(set_text(seg, "key", "old", ""), ZOO_OK);
    CHECK_EQ(set_bytes(seg, "key", huge, sizeof huge, "", 0), ZOO_TOO_LARGE);
    CHECK(get_text(seg, "key") == NULL);

    CHECK_EQ(set_text(seg, "key", "old", ""), ZOO_OK);
    CHECK_EQ(set_text(seg, "key", "new", "bad::tag"), ZOO_E_TAG);
    CHECK(get_text(seg, "key") != NULL); /* a caller's mistake loses nothing */

    /* Too many different dependencies. */
    CHECK_EQ(set_text(seg, "key", "old", ""), ZOO_OK);
    uint64_t *deps = malloc((ZOO_MAX_DEPS + 1) * sizeof *deps);
    CHECK(deps != NULL);
    for (uint64_t i = 0; i <= ZOO_MAX_DEPS; i++)
        deps[i] = i;
    CHECK_EQ(zoo_set(seg, "key", 3, "v", 1, 0, "", 0, (char *)deps, ZOO_MAX_DEPS + 1, 0),
             ZOO_TOO_LARGE);
    CHECK(get_text(seg, "key") == NULL);
    free(deps);

    /* A fill that cannot be stored takes nothing away. */
    CHECK_EQ(set_text(seg, "key", "old", ""), ZOO_OK);
    CHECK_EQ(set_bytes(seg, "key", huge, sizeof huge, "", zoo_stamp(seg)), ZOO_TOO_LARGE);
    CHECK(strcmp(get_text(seg, "key"), "old") == 0);
    zoo_close(seg);
}

static void lap_it(void *seg)
{
    lap(seg);
}

static zoo_seg *unlucky;

static void lap_at_every_write(const char *point)
{
    if (strcmp(point, "log:after-write") == 0)
        lap(unlucky);
}

static void a_set_that_is_always_lapped_gives_up(void)
{
    zoo_seg *seg = unlucky = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(set_text(seg, "key", "old", ""), ZOO_OK);
    on_every_point = lap_at_every_write;
    CHECK_EQ(set_text(seg, "key", "new", ""), ZOO_CROWDED);
    on_every_point = NULL;
    CHECK(get_text(seg, "key") == NULL);
    /* Once is not always: the second reservation is good. */
    at_point("log:after-write", lap_it, seg);
    CHECK_EQ(set_text(seg, "key", "new", ""), ZOO_OK);
    CHECK(point_passed());
    CHECK(strcmp(get_text(seg, "key"), "new") == 0);
    check_sound(seg);
    zoo_close(seg);
}

static void fills_respect_their_stamps(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t early = zoo_stamp(seg);
    CHECK_EQ(invalidate(seg, "t"), ZOO_OK);
    CHECK_EQ(fill_text(seg, "key", "old row", "t", early), ZOO_BORN_DEAD);
    CHECK(get_text(seg, "key") == NULL);
    /* On a quiet host a fill right after the invalidation lives. */
    CHECK_EQ(fill_text(seg, "key", "new row", "t", zoo_stamp(seg)), ZOO_OK);
    CHECK(get_text(seg, "key") != NULL);
    /* A slow fill does not replace a newer one, though nothing it depends on has changed. */
    CHECK_EQ(fill_text(seg, "key", "slow", "unrelated", early), ZOO_OLDER);
    CHECK(strcmp(get_text(seg, "key"), "new row") == 0);
    CHECK_EQ(fill_text(seg, "key", "again", "t", zoo_stamp(seg)), ZOO_OK);
    CHECK(strcmp(get_text(seg, "key"), "again") == 0);
    /* delete() and clear() beat a late fill. */
    uint64_t stamp = zoo_stamp(seg);
    CHECK_EQ(delete_key(seg, "key"), ZOO_OK);
    CHECK_EQ(fill_text(seg, "key", "late", "", stamp), ZOO_BORN_DEAD);
    CHECK(get_text(seg, "key") == NULL);
    stamp = zoo_stamp(seg);
    zoo_clear(seg);
    CHECK_EQ(fill_text(seg, "key", "late", "", stamp), ZOO_BORN_DEAD);
    zoo_close(seg);
}

/* A set does not tick the clock, so on a quiet host the stamps of both are the same. */
static void a_set_beats_a_fill_that_began_before_it(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t stamp = zoo_stamp(seg);
    CHECK_EQ(zoo_set(seg, "key", 3, "new", 3, 60000, "", 0, NULL, 0, 0), ZOO_OK);
    CHECK_EQ(zoo_stamp(seg), stamp);
    CHECK_EQ(fill_text(seg, "key", "old", "", stamp), ZOO_OLDER);
    CHECK(strcmp(get_text(seg, "key"), "new") == 0);
    /* When it has expired there is nothing to protect: the key must not stay a miss for ever. */
    zoo_skew(seg, 60001);
    CHECK(get_text(seg, "key") == NULL);
    CHECK_EQ(fill_text(seg, "key", "filled", "", stamp), ZOO_OK);
    CHECK(strcmp(get_text(seg, "key"), "filled") == 0);
    CHECK_EQ(fill_text(seg, "key", "again", "", stamp), ZOO_OK); /* of two fills, the last */
    CHECK(strcmp(get_text(seg, "key"), "again") == 0);
    zoo_close(seg);
}

static void deps_are_inherited(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t stamp = zoo_stamp(seg);
    CHECK_EQ(set_text(seg, "inner", "v", "row:1"), ZOO_OK);
    zoo_reader *reader = zoo_reader_new(seg, 4096, 0);
    CHECK_EQ(zoo_get(reader, "inner", 5), 1);
    size_t n;
    const char *deps = zoo_reader_deps(reader, &n);
    CHECK_EQ(n, 2);
    CHECK_EQ(zoo_set(seg, "outer", 5, "w", 1, 0, "own", 3, deps, n, stamp), ZOO_OK);
    zoo_reader_free(reader);
    CHECK(get_text(seg, "outer") != NULL);
    CHECK_EQ(invalidate(seg, "row"), ZOO_OK);
    CHECK(get_text(seg, "outer") == NULL);
    zoo_close(seg);
}

static void invalidate_it(void *seg)
{
    CHECK_EQ(invalidate(seg, "t"), ZOO_OK);
}

static void clear_it(void *seg)
{
    zoo_clear(seg);
}

/* The tags are looked at after the copy: what is invalidated in between is a miss. */
static void get_looks_at_tags_after_its_copy(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    action *const acts[] = {invalidate_it, clear_it, lap_it};
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(set_text(seg, "key", "v", "t"), ZOO_OK);
        at_point(i == 2 ? "log:copied" : "get:copied", acts[i], seg);
        CHECK(get_text(seg, "key") == NULL);
        CHECK(point_passed());
        CHECK_EQ(got, i == 2 ? -ZOO_LAPPED : -ZOO_STALE);
    }
    zoo_close(seg);
}

/* The mapped bytes of the newest record, which has `bytes` of them. */
static unsigned char *newest_record(zoo_seg *seg, uint64_t bytes)
{
    struct zoo_log *log = &seg->log[ZOO_LOG_MAIN];
    return (unsigned char *)log->words + (zoo_load_acquire(log->head) - bytes) % log->size;
}

static void a_scribbled_record_is_a_miss(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct rng rng = rng_for(2);
    char value[150];
    memset(value, 'v', sizeof value);
    CHECK_EQ(set_bytes(seg, "some key", value, sizeof value, "a:b c", 0), ZOO_OK);
    uint64_t bytes = 32 + 152 + 8 + 3 * 8;
    unsigned char *record = newest_record(seg, bytes);
    uint64_t counters[ZOO_STATS];
    for (size_t i = 0; i < bytes; i++) {
        for (unsigned k = 0; k < 9; k++) {
            unsigned flip = k < 8 ? 1u << k : 1 + (unsigned)rng_below(&rng, 255);
            snprintf(context, sizeof context, "byte %d ^ %#x", (int)i, flip);
            record[i] = (unsigned char)(record[i] ^ flip);
            CHECK(get_text(seg, "some key") == NULL);
            record[i] = (unsigned char)(record[i] ^ flip);
        }
    }
    zoo_stats(seg, counters);
    CHECK_EQ(counters[ZOO_N_CORRUPT], bytes * 9);
    CHECK(get_text(seg, "some key") != NULL); /* as it was */
    CHECK(memcmp(get_text(seg, "some key"), value, sizeof value) == 0);
    check_sound(seg);
    zoo_close(seg);
}

/* The right bytes at another place, or of another lap, do not pass either. */
static void a_record_counts_only_at_its_own_position(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    char text[5000], key[24];
    CHECK_EQ(set_text(seg, "key", "old", ""), ZOO_OK);
    unsigned char old[48];
    memcpy(old, newest_record(seg, sizeof old), sizeof old);
    lap(seg);
    zoo_add_seq_cst(seg->log[ZOO_LOG_MAIN].head, 0 - (uint64_t)sizeof old);
    CHECK_EQ(set_text(seg, "key", "new", ""), ZOO_OK); /* at the same bytes, a lap later */
    CHECK(strcmp(get_text(seg, "key"), "new") == 0);
    memcpy(newest_record(seg, sizeof old), old, sizeof old);
    CHECK(get_text(seg, "key") == NULL);
    /* Dead words are no obstacle: other keys push them out, the same key kills them. */
    CHECK_EQ(set_text(seg, "key", "newer", ""), ZOO_OK);
    CHECK(strcmp(get_text(seg, "key"), "newer") == 0);
    make_key_like(seg, "key", false, key);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    CHECK_EQ(set_text(seg, key, text, ""), ZOO_OK);
    check_sound(seg);
    zoo_close(seg);
}

/* A scribbled record could look like another key's: its word must not survive beside a new one. */
static void a_key_never_has_two_words(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    char twin[24];
    zoo_report report;
    make_key_like(seg, "key", true, twin);
    CHECK_EQ(set_text(seg, "key", "old", ""), ZOO_OK);
    unsigned char *record = newest_record(seg, 48);
    record[40] ^= 1; /* a byte of the key */
    CHECK_EQ(set_text(seg, "key", "new", ""), ZOO_OK);
    record[40] ^= 1; /* the old record would verify again, if its word were there */
    CHECK(strcmp(get_text(seg, "key"), "new") == 0);
    CHECK_EQ(delete_key(seg, "key"), ZOO_OK);
    CHECK(get_text(seg, "key") == NULL);
    /* Two keys that share bucket and fingerprint live side by side. */
    CHECK_EQ(set_text(seg, "key", "mine", ""), ZOO_OK);
    CHECK_EQ(set_text(seg, twin, "its", ""), ZOO_OK);
    CHECK(strcmp(get_text(seg, "key"), "mine") == 0);
    CHECK(strcmp(get_text(seg, twin), "its") == 0);
    zoo_check(seg, &report);
    CHECK_EQ(report.entries, 2);
    CHECK_EQ(delete_key(seg, "key"), ZOO_OK);
    CHECK(strcmp(get_text(seg, twin), "its") == 0);
    check_sound(seg);
    zoo_close(seg);
}

static void a_full_bucket_evicts_its_oldest(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    char keys[ZOO_WAYS + 1][24];
    uint64_t wanted = 0, n = 0;
    for (uint64_t i = 0; n <= ZOO_WAYS; i++) { /* nine keys of one bucket */
        snprintf(keys[n], sizeof keys[n], "k%d", (int)i);
        uint64_t bucket = zoo_key_hash(seg, keys[n], strlen(keys[n])) & seg->bucket_mask;
        if (n == 0)
            wanted = bucket;
        n += bucket == wanted;
    }
    for (size_t i = 0; i <= ZOO_WAYS; i++) {
        CHECK_EQ(set_text(seg, keys[i], keys[i], ""), ZOO_OK);
        zoo_log_reserve(seg, ZOO_LOG_MAIN, 1024); /* so that their ages differ */
    }
    CHECK(get_text(seg, keys[0]) == NULL);
    for (size_t i = 1; i <= ZOO_WAYS; i++)
        CHECK(get_text(seg, keys[i]) != NULL && strcmp(get_text(seg, keys[i]), keys[i]) == 0);
    check_sound(seg);
    zoo_close(seg);
}

/* One round of operations on a segment full of garbage: any outcome, but no wrong value. */
static void use(zoo_seg *seg, struct rng *rng, int keys)
{
    for (int i = 0; i < keys; i++) {
        char key[24], value[64];
        snprintf(key, sizeof key, "key%d", (int)rng_below(rng, 200));
        snprintf(value, sizeof value, "value of %s", key);
        switch (rng_below(rng, 6)) {
        case 0:
        case 1:
            set_text(seg, key, value, "a:b c");
            break;
        case 2:
            fill_text(seg, key, value, "a", 1 + rng_below(rng, ZOO_CLOCK_MASK));
            break;
        case 3:
            delete_key(seg, key);
            break;
        case 4:
            invalidate(seg, "a:b d");
            break;
        default:
            break;
        }
        const char *back = get_text(seg, key);
        CHECK(back == NULL || strcmp(back, value) == 0);
    }
}

static void garbage(struct rng *rng, zoo_word *words, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        zoo_store_relaxed(words + i, rng_next(rng));
}

/* Words that lead into the log: right fingerprints, plausible positions, wild lengths behind. */
static void nasty_words(zoo_seg *seg, struct rng *rng)
{
    uint64_t head = zoo_load_acquire(seg->log[ZOO_LOG_MAIN].head);
    for (int i = 0; i < 200; i++) {
        char key[24];
        snprintf(key, sizeof key, "key%d", i);
        uint64_t hash = zoo_key_hash(seg, key, strlen(key));
        uint64_t unit =
            head / ZOO_UNIT - rng_below(rng, seg->log[ZOO_LOG_MAIN].size / ZOO_UNIT + 2);
        uint64_t word = (hash >> 52) << ZOO_WORD_FP_SHIFT | (unit & ZOO_WORD_POS_MASK) |
                        rng_below(rng, 8) / 7 * ZOO_WORD_TENTATIVE |
                        (rng_below(rng, 8) != 0 ? 1ull << ZOO_WORD_LOG_SHIFT : 0);
        zoo_store_relaxed(zoo_index_bucket(seg, hash) + rng_below(rng, ZOO_WAYS), word);
    }
}

static void lengths_in_the_log(zoo_seg *seg, struct rng *rng)
{
    struct zoo_log *log = &seg->log[ZOO_LOG_MAIN];
    garbage(rng, log->words, log->size / 8);
    for (uint64_t at = 3; at < log->size / 8; at += 2) { /* plausible ones, around the limits */
        uint64_t value = rng_below(rng, seg->max_record + 64),
                 key = rng_below(rng, ZOO_MAX_KEY + 8);
        zoo_store_relaxed(log->words + at, value | key << 32 | rng_below(rng, 4100) << 48);
    }
}

static void garbled_memory_is_survived(void)
{
    struct rng rng = rng_for(3);
    for (int round = 0; round < 24; round++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        snprintf(context, sizeof context, "round %d", round);
        use(seg, &rng, 100);
        if (round % 4 == 0)
            garbage(&rng, seg->index, (seg->bucket_mask + 1) * ZOO_WAYS);
        if (round % 4 == 1)
            lengths_in_the_log(seg, &rng);
        if (round % 4 <= 2)
            nasty_words(seg, &rng);
        if (round % 3 == 2)
            garbage(&rng, seg->tags, (seg->tag_mask + 1) * ZOO_WAYS);
        if (round % 4 == 3) { /* even the header's words */
            zoo_store_relaxed(&seg->hdr->head_main, rng_next(&rng));
            zoo_store_relaxed(&seg->hdr->clock, rng_next(&rng) >> rng_below(&rng, 64));
            zoo_store_relaxed(&seg->hdr->root, rng_next(&rng));
        }
        use(seg, &rng, 2000);
        zoo_report report;
        zoo_check(seg, &report); /* whatever it finds: it ends */
        zoo_close(seg);
    }
}

static void readers_are_bound_to_a_thread(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(set_text(seg, "key", "v", ""), ZOO_OK);
    zoo_reader *reader = zoo_reader_new(seg, 4096, 1);
    CHECK_EQ(zoo_get(reader, "key", 3), 1);
    zoo_store_relaxed(&reader->owner, zoo_load_relaxed(&reader->owner) + 64); /* another thread's */
    CHECK_EQ(zoo_get(reader, "key", 3), -ZOO_FOREIGN);
    zoo_reader_free(reader);
    zoo_close(seg);
}

const struct suite cache_suites[] = {
    {"values", values_come_back},
    {"prefixes", tags_cut_by_prefix},
    {"expiry", entries_expire},
    {"failed-set", a_failed_set_leaves_the_key_absent},
    {"always-lapped", a_set_that_is_always_lapped_gives_up},
    {"stamps", fills_respect_their_stamps},
    {"set-beats-fill", a_set_beats_a_fill_that_began_before_it},
    {"deps", deps_are_inherited},
    {"get-order", get_looks_at_tags_after_its_copy},
    {"scribbled", a_scribbled_record_is_a_miss},
    {"own-position", a_record_counts_only_at_its_own_position},
    {"one-word", a_key_never_has_two_words},
    {"full-bucket", a_full_bucket_evicts_its_oldest},
    {"garbled", garbled_memory_is_survived},
    {"bound-reader", readers_are_bound_to_a_thread},
    {NULL, NULL},
};
