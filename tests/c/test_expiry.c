/*
 * test_expiry.c - the word that only records have that expire: what it takes, who
 * adds it and takes it away, and what becomes of one that lies about it.
 */
#include "harness.h"

static int put(zoo_seg *seg, const char *key, const uint64_t *deps, size_t n, uint64_t ttl_ms)
{
    return zoo_put(seg, ZOO_SET, key, strlen(key), "value", 5, ttl_ms, "", 0, (const char *)deps, n,
                   0);
}

/* What a get finds of a key, and how long its record is. */
struct found {
    uint64_t bytes, n_deps, expiry;
    uint64_t deps[ZOO_MAX_DEPS];
};

static struct found *find(zoo_seg *seg, const char *key)
{
    static struct found found;
    struct zoo_hit hit;
    char value[16];
    snprintf(context, sizeof context, "%s", key);
    CHECK_EQ(zoo_find(seg, key, strlen(key), &hit), ZOO_OK);
    found.bytes = zoo_rec_bytes(hit.rec);
    found.n_deps = zoo_rec_n_deps(hit.rec);
    found.expiry = zoo_rec_expiry(hit.rec);
    CHECK(found.n_deps <= ZOO_MAX_DEPS);
    memcpy(found.deps, zoo_rec_deps(hit.rec), 8 * found.n_deps);
    CHECK_EQ(zoo_take(seg, &hit, value, 0), ZOO_OK);
    return &found;
}

/* Hashes as tags have them, the last one of "t", in order. */
static uint64_t *deps_of(zoo_seg *seg, size_t n)
{
    static uint64_t deps[ZOO_MAX_DEPS + 2];
    uint64_t last = zoo_hash_of_tag(seg, "t", 1);
    for (size_t i = 0; i + 1 < n; i++)
        deps[i] = last / n * (i + 1);
    if (n > 0)
        deps[n - 1] = last;
    return deps;
}

/* One key expires and the other does not, and all else is the same of both. */
static void neighbours_differ_in_a_word(void)
{
    for (int promoted = 0; promoted <= 1; promoted++) {
        for (size_t n = 0; n <= 3; n++) {
            zoo_seg *seg = fresh(ZOO_MIN_SIZE);
            zoo_entry entry;
            uint64_t *deps = deps_of(seg, n), cursor = 0, told[4];
            char keys[64];
            CHECK_EQ(put(seg, "never", deps, n, 0), ZOO_OK);
            CHECK_EQ(put(seg, "later", deps, n, 60000), ZOO_OK);
            CHECK_EQ(put(seg, "twice", deps, n, 0), ZOO_OK);
            if (promoted) {
                ripen(seg);
                CHECK(get_text(seg, "later") != NULL && get_text(seg, "never") != NULL);
                CHECK_EQ(counter(seg, ZOO_N_PROMOTIONS), 2);
            }
            zoo_hlc_tick(seg); /* so that a get looks at the tags */
            struct found never = *find(seg, "never"), later = *find(seg, "later");
            CHECK_EQ(never.bytes, sizeof(struct zoo_rec) + 8 + 8 * n + 8);
            CHECK_EQ(later.bytes, never.bytes + 8);
            CHECK(never.n_deps == n && later.n_deps == n);
            CHECK(memcmp(never.deps, deps, 8 * n) == 0 && memcmp(later.deps, deps, 8 * n) == 0);
            CHECK_EQ(never.expiry, 0);
            CHECK(later.expiry > zoo_hlc_now_ms(seg) &&
                  later.expiry <= zoo_hlc_now_ms(seg) + 60000);
            CHECK_EQ(zoo_explain(seg, "later", 5, &entry, (char *)told, sizeof told), ZOO_OK);
            CHECK(entry.n_deps == n && entry.expiry_ms == later.expiry);
            CHECK_EQ(entry.stamp >> ZOO_CLOCK_BITS, 0);
            CHECK_EQ(zoo_explain(seg, "never", 5, &entry, (char *)told, sizeof told), ZOO_OK);
            CHECK(entry.n_deps == n && entry.expiry_ms == 0);
            zoo_skew(seg, 60001);
            CHECK(get_text(seg, "later") == NULL);
            CHECK_EQ(got, -ZOO_EXPIRED);
            CHECK(strcmp(get_text(seg, "never"), "value") == 0);
            CHECK_EQ(zoo_keys(seg, &cursor, keys, sizeof keys), 2 * (2 + 5));
            zoo_skew(seg, 0);
            CHECK(strcmp(get_text(seg, "later"), "value") == 0);
            if (n > 0) {
                CHECK_EQ(invalidate(seg, "t"), ZOO_OK);
                CHECK(get_text(seg, "later") == NULL && got == -ZOO_STALE);
                CHECK(get_text(seg, "never") == NULL && got == -ZOO_STALE);
            }
            check_sound(seg);
            zoo_close(seg);
        }
    }
}

/* Of heads as long as a hit has room for, and longer; each touch twice, once over the other. */
static void a_touch_adds_a_word_and_takes_it_away(void)
{
    for (size_t n = 0; n <= ZOO_ROOM + 2; n += n == 3 ? ZOO_ROOM - 13 : 1) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        uint64_t *deps = deps_of(seg, n), bytes = sizeof(struct zoo_rec) + 8 + 8 * n + 8;
        CHECK_EQ(put(seg, "key", deps, n, 0), ZOO_OK);
        for (uint64_t i = 0; i < 8; i++) {
            bool expires = i / 2 % 2 == 0;
            CHECK_EQ(touch(seg, "key", expires ? 60000 + i : 0), ZOO_OK);
            const struct found *found = find(seg, "key");
            CHECK_EQ(found->bytes, bytes + 8 * expires);
            CHECK_EQ(found->n_deps, n);
            CHECK(memcmp(found->deps, deps, 8 * n) == 0);
            CHECK_EQ(found->expiry != 0, expires);
            zoo_skew(seg, 61000);
            CHECK_EQ(get_text(seg, "key") != NULL, !expires);
            zoo_skew(seg, 0);
            CHECK(strcmp(get_text(seg, "key"), "value") == 0);
        }
        if (n > 0) {
            CHECK_EQ(invalidate(seg, "t"), ZOO_OK);
            CHECK(get_text(seg, "key") == NULL);
        }
        check_sound(seg);
        zoo_close(seg);
    }
}

/* The flag that is another than it was is a miss, whoever asks. */
static void a_flipped_flag_is_a_miss(void)
{
    for (int i = 0; i < 8; i++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        struct zoo_hit hit;
        size_t n = (size_t)i / 2;
        CHECK_EQ(put(seg, "key", deps_of(seg, n), n, i % 2 ? 60000 : 0), ZOO_OK);
        CHECK_EQ(zoo_find(seg, "key", 3, &hit), ZOO_OK);
        zoo_word *stamp =
            (zoo_word *)(uintptr_t)hit.from + offsetof(struct zoo_rec, stamp) / sizeof(zoo_word);
        zoo_log_close(&hit);
        uint64_t was = zoo_load_relaxed(stamp);
        CHECK_EQ((was & ZOO_STAMP_EXPIRES) != 0, i % 2);
        zoo_store_relaxed(stamp, was ^ ZOO_STAMP_EXPIRES);
        CHECK(get_text(seg, "key") == NULL);
        CHECK_EQ(zoo_find(seg, "key", 3, &hit), ZOO_LAPPED);
        zoo_store_relaxed(stamp, was);
        CHECK(strcmp(get_text(seg, "key"), "value") == 0);
        zoo_store_relaxed(stamp, was ^ ZOO_STAMP_EXPIRES);
        CHECK_EQ(touch(seg, "key", 1000), ZOO_MISS);
        zoo_close(seg);
    }
}

/* That a fill expires makes it no newer. */
static void a_fill_is_as_old_as_its_stamp(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t stamps[2] = {zoo_stamp(seg), zoo_hlc_tick(seg)};
    for (int i = 0; i < 4; i++) { /* the newer one is here; does either expire? */
        CHECK_EQ(zoo_put(seg, ZOO_FILL, "key", 3, "new", 3, i % 2 ? 60000 : 0, "", 0, NULL, 0,
                         stamps[1]),
                 ZOO_OK);
        CHECK_EQ(zoo_put(seg, ZOO_FILL, "key", 3, "old", 3, i / 2 ? 60000 : 0, "", 0, NULL, 0,
                         stamps[0]),
                 ZOO_OLDER);
        CHECK(strcmp(get_text(seg, "key"), "new") == 0);
    }
    zoo_close(seg);
}

/* What is derived from a record, and is longer or shorter, ends when it did. */
static void a_change_keeps_the_expiry(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    int64_t result;
    CHECK_EQ(zoo_put(seg, ZOO_SET, "key", 3, "99999999", 8, 60000, "t", 1, NULL, 0, 0), ZOO_OK);
    uint64_t expiry = find(seg, "key")->expiry;
    CHECK_EQ(incr(seg, "key", 1, &result), ZOO_OK);
    CHECK_EQ(result, 100000000);
    CHECK(find(seg, "key")->expiry == expiry && find(seg, "key")->n_deps == 1);
    CHECK_EQ(swap_text(seg, "key", "100000000", "v"), ZOO_OK);
    CHECK(find(seg, "key")->expiry == expiry && find(seg, "key")->n_deps == 1);
    CHECK_EQ(put_text(seg, ZOO_REPLACE, "key", "r", "t"), ZOO_OK); /* its own: none */
    CHECK(find(seg, "key")->expiry == 0 && find(seg, "key")->n_deps == 1);
    check_sound(seg);
    zoo_close(seg);
}

/* Who deletes what nobody is served any more is told that it was not there. */
static void a_delete_of_what_is_over_is_a_miss(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(zoo_put(seg, ZOO_SET, "key", 3, "v", 1, 60000, "", 0, NULL, 0, 0), ZOO_OK);
    zoo_skew(seg, 60001);
    CHECK_EQ(delete_key(seg, "key"), ZOO_MISS);
    zoo_skew(seg, 0);
    CHECK(get_text(seg, "key") == NULL); /* it was removed all the same */
    CHECK_EQ(zoo_put(seg, ZOO_SET, "key", 3, "v", 1, 60000, "", 0, NULL, 0, 0), ZOO_OK);
    zoo_skew(seg, 59000);
    CHECK_EQ(delete_key(seg, "key"), ZOO_OK);
    zoo_skew(seg, 0);
    CHECK_EQ(set_text(seg, "key", "v", ""), ZOO_OK);
    zoo_clear(seg);
    CHECK_EQ(delete_key(seg, "key"), ZOO_MISS);
    CHECK_EQ(set_text(seg, "key", "v", "tag"), ZOO_OK);
    CHECK_EQ(invalidate(seg, "other"), ZOO_OK);
    CHECK_EQ(delete_key(seg, "key"), ZOO_OK);
    CHECK_EQ(set_text(seg, "key", "v", "tag"), ZOO_OK);
    CHECK_EQ(invalidate(seg, "tag"), ZOO_OK);
    CHECK_EQ(delete_key(seg, "key"), ZOO_MISS);
    check_sound(seg);
    zoo_close(seg);
}

/* A record is never so long that a touch could not make it expire. */
static void the_longest_record_can_be_touched(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t most[] = {seg->log[ZOO_LOG_PROBATION].longest, seg->log[ZOO_LOG_MAIN].longest};
    for (int log = 0; log < ZOO_LOGS; log++) {
        size_t len = most[log] - sizeof(struct zoo_rec) - 8 - (log == ZOO_LOG_MAIN ? 8 : 0);
        char *value = calloc(1, most[1]);
        uint64_t needed;
        CHECK(value != NULL);
        CHECK_EQ(set_bytes(seg, "key", value, len + 1, ""),
                 log == ZOO_LOG_MAIN ? ZOO_TOO_LARGE : ZOO_OK);
        CHECK_EQ(delete_key(seg, "key"), log == ZOO_LOG_MAIN ? ZOO_MISS : ZOO_OK);
        CHECK_EQ(set_bytes(seg, "key", value, len, ""), ZOO_OK);
        CHECK_EQ(log_of(seg, "key"), log);
        CHECK_EQ(touch(seg, "key", 60000), ZOO_OK);
        CHECK_EQ(log_of(seg, "key"), ZOO_LOG_MAIN); /* too long for the other, by that word */
        CHECK_EQ(zoo_get(seg, "key", 3, value, len, &needed), len);
        zoo_skew(seg, 60001);
        CHECK_EQ(zoo_get(seg, "key", 3, value, len, &needed), -ZOO_EXPIRED);
        zoo_skew(seg, 0);
        CHECK_EQ(delete_key(seg, "key"), ZOO_OK);
        free(value);
    }
    /* Nor by a swap. */
    size_t len = most[1] - sizeof(struct zoo_rec) - 8 - 8;
    char *value = calloc(1, len + 1);
    CHECK(value != NULL);
    CHECK_EQ(set_text(seg, "key", "old", ""), ZOO_OK);
    CHECK_EQ(zoo_compare_and_set(seg, "key", 3, "old", 3, value, len + 1), ZOO_TOO_LARGE);
    CHECK_EQ(zoo_compare_and_set(seg, "key", 3, "old", 3, value, len), ZOO_OK);
    CHECK_EQ(touch(seg, "key", 60000), ZOO_OK);
    CHECK_EQ(zoo_compare_and_set(seg, "key", 3, value, len, value, len + 1), ZOO_TOO_LARGE);
    free(value);
    check_sound(seg);
    zoo_close(seg);
}

static void the_most_tags_leave_room(void)
{
    zoo_seg *seg = fresh(4 * ZOO_MIN_SIZE);
    uint64_t *deps = deps_of(seg, ZOO_MAX_DEPS);
    CHECK_EQ(put(seg, "key", deps, ZOO_MAX_DEPS, 60000), ZOO_OK);
    CHECK_EQ(find(seg, "key")->n_deps, ZOO_MAX_DEPS);
    CHECK(find(seg, "key")->expiry != 0);
    CHECK_EQ(touch(seg, "key", 0), ZOO_OK);
    CHECK_EQ(find(seg, "key")->expiry, 0);
    CHECK_EQ(touch(seg, "key", 60000), ZOO_OK);
    CHECK(memcmp(find(seg, "key")->deps, deps, 8 * ZOO_MAX_DEPS) == 0);
    zoo_skew(seg, 60001);
    CHECK(get_text(seg, "key") == NULL && got == -ZOO_EXPIRED);
    zoo_close(seg);
}

/* A record with right sums and so many words behind its key, as who knows the secret can make. */
static void forge(zoo_seg *seg, uint64_t stamp, size_t n_words)
{
    static uint64_t room[ZOO_MAX_DEPS + 16];
    struct zoo_rec *head = (struct zoo_rec *)(void *)room;
    uint64_t hash = zoo_key_hash(seg, "key", 3);
    *head = (struct zoo_rec){
        .stamp = stamp, .value_len = 5, .key_len = 3, .n_words = (uint16_t)n_words};
    memcpy(head + 1, "key\0\0\0\0", 8);
    memcpy(room + 4, deps_of(seg, n_words), 8 * n_words);
    zoo_pos pos = zoo_log_reserve(seg, ZOO_LOG_MAIN, zoo_rec_bytes(head));
    CHECK(zoo_log_write_unpublished(seg, ZOO_LOG_MAIN, pos, head, "value"));
    CHECK_EQ(zoo_index_put(seg, hash, head, ZOO_LOG_MAIN, pos, ZOO_SET), ZOO_OK);
}

/* It does not expire, has no tags, and nothing before its head is read for either. */
static void a_flag_without_its_word_is_none(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    zoo_entry entry;
    char deps[8];
    forge(seg, zoo_stamp(seg) | ZOO_STAMP_EXPIRES, 0);
    for (int looks = 0; looks < 2; looks++) {
        CHECK(strcmp(get_text(seg, "key"), "value") == 0);
        const struct found *found = find(seg, "key");
        CHECK(found->n_deps == 0 && found->expiry == 0);
        CHECK_EQ(zoo_explain(seg, "key", 3, &entry, deps, sizeof deps), ZOO_OK);
        CHECK(entry.n_deps == 0 && entry.expiry_ms == 0);
        zoo_hlc_tick(seg); /* so that a get looks at the tags */
    }
    CHECK_EQ(touch(seg, "key", 60000), ZOO_OK);
    CHECK(find(seg, "key")->n_deps == 0 && find(seg, "key")->expiry != 0);
    zoo_skew(seg, 60001);
    CHECK(get_text(seg, "key") == NULL && got == -ZOO_EXPIRED);
    zoo_close(seg);
}

/* The word of an expiry is no room for one tag more than there may be. */
static void more_tags_than_there_may_be_are_no_record(void)
{
    for (size_t n = ZOO_MAX_DEPS; n <= ZOO_MAX_DEPS + 2; n++) {
        for (int expires = 0; expires <= 1; expires++) {
            zoo_seg *seg = fresh(4 * ZOO_MIN_SIZE);
            struct zoo_hit hit;
            size_t n_deps = n - (size_t)expires;
            forge(seg, zoo_stamp(seg) | (expires ? ZOO_STAMP_EXPIRES : 0), n);
            int outcome = zoo_find(seg, "key", 3, &hit);
            CHECK_EQ(outcome, n_deps <= ZOO_MAX_DEPS ? ZOO_OK : ZOO_LAPPED);
            if (outcome == ZOO_OK)
                zoo_log_close(&hit);
            zoo_close(seg);
        }
    }
}

const struct suite expiry_suites[] = {
    {"expiry-neighbours", neighbours_differ_in_a_word},
    {"expiry-touch", a_touch_adds_a_word_and_takes_it_away},
    {"expiry-flag", a_flipped_flag_is_a_miss},
    {"expiry-fill", a_fill_is_as_old_as_its_stamp},
    {"expiry-change", a_change_keeps_the_expiry},
    {"expiry-delete", a_delete_of_what_is_over_is_a_miss},
    {"expiry-longest", the_longest_record_can_be_touched},
    {"expiry-most-tags", the_most_tags_leave_room},
    {"expiry-no-word", a_flag_without_its_word_is_none},
    {"expiry-forged-tags", more_tags_than_there_may_be_are_no_record},
    {NULL, NULL},
};
