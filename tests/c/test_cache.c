/*
 * test_cache.c - get, set, delete and invalidate: their outcomes and their order.
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
    CHECK_EQ(zoo_put(seg, ZOO_SET, "key", 3, "v", 1, 60000, "", 0, NULL, 0, 0), ZOO_OK);
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
    CHECK_EQ(set_bytes(seg, "key", huge, sizeof huge, ""), ZOO_TOO_LARGE);
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
    CHECK_EQ(zoo_put(seg, ZOO_SET, "key", 3, "v", 1, 0, "", 0, (char *)deps, ZOO_MAX_DEPS + 1, 0),
             ZOO_TOO_LARGE);
    CHECK(get_text(seg, "key") == NULL);
    free(deps);

    /* A fill that cannot be stored takes nothing away. */
    CHECK_EQ(set_text(seg, "key", "old", ""), ZOO_OK);
    CHECK_EQ(put_bytes(seg, ZOO_FILL, "key", huge, sizeof huge, "", zoo_stamp(seg)), ZOO_TOO_LARGE);
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
    CHECK_EQ(zoo_put(seg, ZOO_SET, "key", 3, "new", 3, 60000, "", 0, NULL, 0, 0), ZOO_OK);
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

/* As the binding does it: find, look at the dependencies, take the value. */
static void deps_are_inherited(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct zoo_hit hit;
    uint64_t deps[8];
    char value[8];
    uint64_t stamp = zoo_stamp(seg);
    CHECK_EQ(set_text(seg, "inner", "v", "row:1"), ZOO_OK);
    CHECK_EQ(zoo_find(seg, "inner", 5, &hit), ZOO_OK);
    size_t n = zoo_rec_n_deps(hit.rec);
    CHECK_EQ(n, 2);
    memcpy(deps, zoo_rec_deps(hit.rec), n * sizeof *deps);
    CHECK_EQ(hit.rec->value_len, 1);
    CHECK_EQ(zoo_take(seg, &hit, value, 0), ZOO_OK);
    CHECK_EQ(zoo_put(seg, ZOO_FILL, "outer", 5, "w", 1, 0, "own", 3, (char *)deps, n, stamp),
             ZOO_OK);
    CHECK(get_text(seg, "outer") != NULL);
    CHECK_EQ(invalidate(seg, "row"), ZOO_OK);
    CHECK(get_text(seg, "outer") == NULL);
    zoo_close(seg);
}

/* More dependencies than a handle has room for: the head is read into memory of its own. */
static void many_deps_are_kept(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    for (uint64_t n = 80; n <= 2000; n += 192) {
        uint64_t *deps = malloc(n * sizeof *deps);
        CHECK(deps != NULL);
        for (uint64_t i = 0; i < n; i++)
            deps[i] = zoo_mix(i + 1);
        deps[n / 2] = zoo_hash_of_tag(seg, "t", 1);
        CHECK_EQ(zoo_put(seg, ZOO_SET, "key", 3, "v", 1, 0, "", 0, (char *)deps, n, 0), ZOO_OK);
        for (int i = 0; i < 3; i++) /* promoted, too */
            CHECK(strcmp(get_text(seg, "key"), "v") == 0);
        CHECK_EQ(invalidate(seg, "t"), ZOO_OK);
        CHECK(get_text(seg, "key") == NULL);
        free(deps);
    }
    check_sound(seg);
    zoo_close(seg);
}

static void grace_outlives_an_expiry(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct zoo_hit hit;
    char value[8];
    CHECK_EQ(zoo_put(seg, ZOO_SET, "key", 3, "v", 1, 60000, "t", 1, NULL, 0, 0), ZOO_OK);
    zoo_skew(seg, 65000);
    CHECK_EQ(zoo_find(seg, "key", 3, &hit), ZOO_OK);
    CHECK_EQ(zoo_take(seg, &hit, value, 1000), ZOO_EXPIRED);
    CHECK_EQ(zoo_find(seg, "key", 3, &hit), ZOO_OK);
    CHECK_EQ(zoo_take(seg, &hit, value, 10000), ZOO_GRACE);
    CHECK_EQ(value[0], 'v');
    CHECK_EQ(invalidate(seg, "t"), ZOO_OK); /* no grace for what is stale */
    CHECK_EQ(zoo_find(seg, "key", 3, &hit), ZOO_OK);
    CHECK_EQ(zoo_take(seg, &hit, value, 10000), ZOO_STALE);
    zoo_close(seg);
}

/* Keys of live entries, in pieces, while others are dead. */
static void keys_are_listed(void)
{
    enum { N = 500 };
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    char key[24], buf[8208];
    bool seen[N] = {false};
    uint64_t cursor = 0;
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof key, "k%d", i);
        CHECK_EQ(set_text(seg, key, "v", i % 5 == 0 ? "dead" : "t"), ZOO_OK);
    }
    CHECK_EQ(invalidate(seg, "dead"), ZOO_OK);
    uint64_t evicted = counter(seg, ZOO_N_EVICTIONS), found = 0;
    while (cursor != UINT64_MAX) {
        size_t n = zoo_keys(seg, &cursor, buf, sizeof buf);
        for (size_t at = 0; at < n;) {
            uint16_t len;
            memcpy(&len, buf + at, sizeof len);
            CHECK(len >= 2 && len < sizeof key && buf[at + 2] == 'k');
            memcpy(key, buf + at + 2, len);
            key[len] = '\0';
            int i = atoi(key + 1);
            CHECK(i >= 0 && i < N && i % 5 != 0 && !seen[i]);
            seen[i] = true;
            found++;
            at += sizeof len + len;
        }
    }
    CHECK(found >= N * 4 / 5 - evicted);
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
    uint64_t kind = seg->sum_kind;
    action *const acts[] = {invalidate_it, clear_it, lap_it};
    for (int i = 0; i < 6; i++) { /* in the straight line of zoo_hit.c, and without */
        seg->sum_kind = i < 3 ? kind : ZOO_SUM_PLAIN;
        CHECK_EQ(set_text(seg, "key", "v", "t"), ZOO_OK);
        at_point(i % 3 == 2 ? "log:copied" : "get:copied", acts[i % 3], seg);
        CHECK(get_text(seg, "key") == NULL);
        CHECK(point_passed());
        CHECK_EQ(got, i % 3 == 2 ? -ZOO_LAPPED : -ZOO_STALE);
    }
    zoo_close(seg);
}

/* The mapped bytes of probation's newest record, which has `bytes` of them. */
static unsigned char *newest_record(zoo_seg *seg, uint64_t bytes)
{
    struct zoo_log *log = &seg->log[ZOO_LOG_PROBATION];
    return (unsigned char *)log->words + (zoo_load_acquire(log->head) - bytes) % log->size;
}

static void a_scribbled_record_is_a_miss(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct rng rng = rng_for(2);
    char value[150];
    memset(value, 'v', sizeof value);
    CHECK_EQ(set_bytes(seg, "some key", value, sizeof value, "a:b c"), ZOO_OK);
    uint64_t bytes = sizeof(struct zoo_rec) + 8 + 3 * 8 + sizeof value;
    unsigned char *record = newest_record(seg, zoo_pad8(bytes));
    for (size_t i = 0; i < bytes; i++) {
        for (unsigned k = 0; k < 9; k++) {
            unsigned flip = k < 8 ? 1u << k : 1 + (unsigned)rng_below(&rng, 255);
            snprintf(context, sizeof context, "byte %d ^ %#x", (int)i, flip);
            record[i] = (unsigned char)(record[i] ^ flip);
            CHECK(get_text(seg, "some key") == NULL);
            record[i] = (unsigned char)(record[i] ^ flip);
        }
    }
    CHECK_EQ(counter(seg, ZOO_N_CORRUPT), bytes * 9);
    CHECK_EQ(counter(seg, ZOO_N_PROMOTIONS), 0);
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
    enum { BYTES = sizeof(struct zoo_rec) + 8 + 8 };
    CHECK_EQ(set_text(seg, "key", "old", ""), ZOO_OK);
    unsigned char old[BYTES];
    memcpy(old, newest_record(seg, sizeof old), sizeof old);
    zoo_word *bucket = zoo_index_bucket(seg, zoo_key_hash(seg, "key", 3));
    for (unsigned i = 0; i < ZOO_WAYS; i++) /* or it would be a ghost, and go to the main log */
        zoo_store_relaxed(bucket + i, 0);
    lap(seg);
    const struct zoo_log *log = &seg->log[ZOO_LOG_PROBATION];
    move_log(log, zoo_load_acquire(log->head) - sizeof old);
    CHECK_EQ(set_text(seg, "key", "new", ""), ZOO_OK); /* at the same bytes, a lap later */
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
    unsigned char *record = newest_record(seg, sizeof(struct zoo_rec) + 8 + 8);
    unsigned char *byte = record + sizeof(struct zoo_rec); /* of the key */
    CHECK_EQ(*byte, 'k');
    *byte ^= 1;
    CHECK_EQ(set_text(seg, "key", "new", ""), ZOO_OK);
    *byte ^= 1; /* the old record would verify again, if its word were there */
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

/* Of two keys of one length, one bucket and one fingerprint, each has its own value or none. */
static void twins_are_told_apart(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    char twin[24] = "k0000000";
    uint64_t hash = zoo_key_hash(seg, "k0000000", 8), other = 0;
    for (int i = 1; (other ^ hash) & (seg->bucket_mask | 0xfffull << 52) || i == 1; i++) {
        CHECK(i < 10000000);
        snprintf(twin, sizeof twin, "k%07d", i);
        other = zoo_key_hash(seg, twin, strlen(twin));
    }
    CHECK_EQ(strlen(twin), 8);
    CHECK_EQ(set_text(seg, twin, "its", ""), ZOO_OK);
    CHECK(get_text(seg, "k0000000") == NULL);
    CHECK_EQ(got, -ZOO_MISS);
    CHECK_EQ(set_text(seg, "k0000000", "mine", ""), ZOO_OK);
    CHECK(strcmp(get_text(seg, "k0000000"), "mine") == 0);
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
        zoo_log_reserve(seg, ZOO_LOG_PROBATION, 1024); /* so that their ages differ */
    }
    CHECK(get_text(seg, keys[0]) == NULL);
    for (size_t i = 1; i <= ZOO_WAYS; i++)
        CHECK(get_text(seg, keys[i]) != NULL && strcmp(get_text(seg, keys[i]), keys[i]) == 0);
    check_sound(seg);
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
    {"many-deps", many_deps_are_kept},
    {"grace", grace_outlives_an_expiry},
    {"keys", keys_are_listed},
    {"get-order", get_looks_at_tags_after_its_copy},
    {"scribbled", a_scribbled_record_is_a_miss},
    {"own-position", a_record_counts_only_at_its_own_position},
    {"one-word", a_key_never_has_two_words},
    {"twins", twins_are_told_apart},
    {"full-bucket", a_full_bucket_evicts_its_oldest},
    {NULL, NULL},
};
