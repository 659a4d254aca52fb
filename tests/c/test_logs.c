/*
 * test_logs.c - what goes into which log, and when a hit copies it.
 */
#include "harness.h"

static uint64_t position_of(zoo_seg *seg, const char *key)
{
    struct zoo_hit hit;
    CHECK_EQ(zoo_index_find(seg, zoo_key_hash(seg, key, strlen(key)), key, strlen(key), &hit),
             ZOO_OK);
    zoo_log_close(&hit);
    return hit.pos.bytes;
}

static void unused_room_is_used_first(void)
{
    zoo_seg *seg;
    char key[24], value[2000];
    int in_main = 0;
    memset(value, 'x', sizeof value);
    zoo_unlink(segment_name());
    CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE, 1000, &seg), ZOO_OK);
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "k%d", i);
        CHECK_EQ(set_bytes(seg, key, value, sizeof value, ""), ZOO_OK);
        if (log_of(seg, key) == ZOO_LOG_PROBATION)
            break;
        in_main++;
    }
    CHECK(in_main > 50 && in_main < 1000);
    CHECK(zoo_load_acquire(seg->log[ZOO_LOG_MAIN].head) > seg->log[ZOO_LOG_MAIN].size);
    zoo_close(seg);
}

/* A hit on a young record copies nothing; on an old one it does, once, and changes nothing. */
static void a_hit_promotes(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(zoo_put(seg, ZOO_SET, "key", 3, "value", 5, 60000, "t", 1, NULL, 0, 0), ZOO_OK);
    CHECK(get_text(seg, "key") != NULL);
    CHECK_EQ(log_of(seg, "key"), ZOO_LOG_PROBATION);
    zoo_log_reserve(seg, ZOO_LOG_PROBATION, seg->log[ZOO_LOG_PROBATION].renew_after / 64 * 32);
    CHECK(get_text(seg, "key") != NULL);
    CHECK_EQ(log_of(seg, "key"), ZOO_LOG_PROBATION);
    promote_key(seg, "key");
    CHECK(strcmp(get_text(seg, "key"), "value") == 0);
    CHECK_EQ(counter(seg, ZOO_N_PROMOTIONS), 1);
    zoo_skew(seg, 60001); /* it kept its expiry, */
    CHECK(get_text(seg, "key") == NULL);
    CHECK_EQ(got, -ZOO_EXPIRED);
    zoo_skew(seg, 0);
    lap_log(seg, ZOO_LOG_PROBATION);
    CHECK(strcmp(get_text(seg, "key"), "value") == 0);
    CHECK_EQ(invalidate(seg, "t"), ZOO_OK); /* and its tags */
    CHECK(get_text(seg, "key") == NULL);
    CHECK_EQ(got, -ZOO_STALE);
    check_sound(seg);
    zoo_close(seg);
}

/* A promoted copy has the stamp that it had: newer fills replace it, older ones do not. */
static void a_promotion_keeps_the_stamp(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t first = zoo_stamp(seg);
    uint64_t second = zoo_hlc_tick(seg);
    uint64_t third = zoo_hlc_tick(seg);
    CHECK_EQ(fill_text(seg, "key", "second", "t", second), ZOO_OK);
    promote_key(seg, "key");
    CHECK_EQ(fill_text(seg, "key", "first", "t", first), ZOO_OLDER);
    CHECK_EQ(fill_text(seg, "key", "third", "t", third), ZOO_OK);
    CHECK(strcmp(get_text(seg, "key"), "third") == 0);
    zoo_close(seg);
}

static void a_hit_renews_in_main(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(set_text(seg, "key", "value", "t"), ZOO_OK);
    CHECK_EQ(set_text(seg, "idle", "value", "t"), ZOO_OK);
    promote_key(seg, "key");
    for (int i = 0; i < 20; i++) { /* some 18 laps */
        uint64_t before = position_of(seg, "key");
        ripen(seg);
        CHECK(strcmp(get_text(seg, "key"), "value") == 0);
        CHECK_EQ(log_of(seg, "key"), ZOO_LOG_MAIN);
        CHECK(position_of(seg, "key") > before);
        before = position_of(seg, "key");
        CHECK(get_text(seg, "key") != NULL);
        CHECK_EQ(position_of(seg, "key"), before); /* young again */
    }
    CHECK(get_text(seg, "idle") == NULL);
    check_sound(seg);
    zoo_close(seg);
}

/* What was lapped a short time ago and is stored again goes to main. */
static void ghosts_choose_main(void)
{
    for (unsigned which = 0; which < ZOO_LOGS; which++) {
        for (int late = 0; late <= 1; late++) {
            zoo_seg *seg = fresh(ZOO_MIN_SIZE);
            struct zoo_log *log = &seg->log[which];
            snprintf(context, sizeof context, "log %u, late %d", which, late);
            CHECK_EQ(set_text(seg, "key", "old", ""), ZOO_OK);
            if (which == ZOO_LOG_MAIN)
                promote_key(seg, "key");
            uint64_t start = position_of(seg, "key");
            uint64_t reach = log->size + log->ghost_reach / 64 * 64 + (late ? 64 : -64ull);
            zoo_log_reserve(seg, which, start + reach - zoo_load_acquire(log->head));
            CHECK(get_text(seg, "key") == NULL);
            CHECK_EQ(got, -ZOO_LAPPED);
            CHECK_EQ(set_text(seg, "key", "new", ""), ZOO_OK);
            CHECK_EQ(log_of(seg, "key"), late ? ZOO_LOG_PROBATION : ZOO_LOG_MAIN);
            CHECK_EQ(counter(seg, ZOO_N_GHOSTS), !late);
            CHECK(strcmp(get_text(seg, "key"), "new") == 0);
            check_sound(seg);
            zoo_close(seg);
        }
    }
}

static void set_theirs(void *seg)
{
    CHECK_EQ(set_text(seg, "key", "theirs", ""), ZOO_OK);
}

/* A ghost is inserted like any key: two at once must not make two words. */
static void ghosts_are_inserted_in_two_phases(void)
{
    static const char *const points[] = {"set:reserved", "log:after-write", "index:tentative",
                                         "index:before-final"};
    for (size_t p = 0; p < 4; p++) {
        for (int round = 0; round < 20; round++) {
            zoo_seg *seg = fresh(ZOO_MIN_SIZE);
            snprintf(context, sizeof context, "at %s", points[p]);
            CHECK_EQ(set_text(seg, "key", "old", ""), ZOO_OK);
            lap_log(seg, ZOO_LOG_PROBATION);
            zoo_log_reserve(seg, ZOO_LOG_MAIN, (uint64_t)round * ZOO_UNIT);
            at_point(points[p], set_theirs, seg);
            CHECK_EQ(set_text(seg, "key", "mine", ""), ZOO_OK);
            CHECK(point_passed());
            CHECK(strcmp(get_text(seg, "key"), "mine") == 0);
            check_sound(seg);
            CHECK_EQ(delete_key(seg, "key"), ZOO_OK);
            CHECK(get_text(seg, "key") == NULL);
            CHECK_EQ(delete_key(seg, "key"), ZOO_MISS);
            zoo_close(seg);
        }
    }
}

/* A dead word of another key with the same fingerprint is not a place for this key. */
static void a_ghost_beside_the_key_is_passed_over(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    char twin[24];
    make_key_like(seg, "key", true, twin);
    zoo_word *bucket = zoo_index_bucket(seg, zoo_key_hash(seg, "key", 3));
    for (unsigned at = 0; at < ZOO_WAYS; at++) { /* before the key's word and behind it */
        uint64_t ghost = 0, live = 0;
        for (unsigned i = 0; i < ZOO_WAYS; i++)
            zoo_store_relaxed(bucket + i, 0);
        CHECK_EQ(set_text(seg, twin, "twin", ""), ZOO_OK);
        CHECK_EQ(set_text(seg, "key", "old", ""), ZOO_OK);
        promote_key(seg, "key");
        lap_log(seg, ZOO_LOG_PROBATION);
        for (unsigned i = 0; i < ZOO_WAYS; i++) {
            uint64_t word = zoo_load_acquire(bucket + i);
            if (word != 0)
                *(zoo_word_log(word) == ZOO_LOG_MAIN ? &live : &ghost) = word;
        }
        CHECK(ghost != 0 && live != 0);
        for (unsigned i = 0; i < ZOO_WAYS; i++)
            zoo_store_relaxed(bucket + i, i == at ? ghost : i == (at + 3) % ZOO_WAYS ? live : 0);
        snprintf(context, sizeof context, "the ghost in slot %u", at);
        CHECK_EQ(set_text(seg, "key", "new", ""), ZOO_OK);
        check_sound(seg);
        CHECK_EQ(delete_key(seg, "key"), ZOO_OK);
        CHECK(get_text(seg, "key") == NULL);
        CHECK_EQ(delete_key(seg, "key"), ZOO_MISS);
    }
    zoo_close(seg);
}

static void long_records_go_to_main(void)
{
    static char value[ZOO_MIN_SIZE];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t longest = seg->log[ZOO_LOG_PROBATION].longest - sizeof(struct zoo_rec) - 8;
    CHECK_EQ(set_bytes(seg, "key", value, longest, ""), ZOO_OK);
    CHECK_EQ(log_of(seg, "key"), ZOO_LOG_PROBATION);
    CHECK_EQ(delete_key(seg, "key"), ZOO_OK);
    CHECK_EQ(set_bytes(seg, "key", value, longest + 1, ""), ZOO_OK);
    CHECK_EQ(log_of(seg, "key"), ZOO_LOG_MAIN);
    check_sound(seg);
    zoo_close(seg);
}

static void get_it(void *seg)
{
    CHECK(get_text(seg, "key") != NULL);
}

/* Many hit a record at once that is to be copied: one copies. */
static void one_of_many_promotes(void)
{
    static const char *const points[] = {"promote:reserved", "log:before-write", "log:after-write",
                                         "index:before-swap"};
    for (size_t p = 0; p < 4; p++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        CHECK_EQ(set_text(seg, "key", "value", ""), ZOO_OK);
        ripen(seg);
        uint64_t head = zoo_load_acquire(seg->log[ZOO_LOG_MAIN].head);
        at_point(points[p], get_it, seg);
        get_it(seg);
        CHECK(point_passed());
        CHECK_EQ(counter(seg, ZOO_N_PROMOTIONS), 1);
        CHECK_EQ(zoo_load_acquire(seg->log[ZOO_LOG_MAIN].head),
                 head + sizeof(struct zoo_rec) + 16); /* key and value are short */
        zoo_close(seg);
    }
}

struct scribble {
    zoo_seg *seg;
    const zoo_word *at;
};

static void scribble(void *arg)
{
    struct scribble *scribble = arg;
    zoo_store_relaxed((zoo_word *)(uintptr_t)scribble->at, 0x5858585858585858);
}

/* What is copied is what was verified, not what is in the log by then. */
static void only_verified_bytes_are_promoted(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    static const char *const points[] = {"log:opened", "log:copied", "get:copied",
                                         "promote:reserved", "log:before-write"};
    for (size_t p = 0; p < 5; p++) {
        for (int part = 0; part < 3; part++) { /* the key, a tag, the value */
            struct zoo_hit hit;
            snprintf(context, sizeof context, "at %s, part %d", points[p], part);
            delete_key(seg, "key");
            CHECK_EQ(set_text(seg, "key", "a value, so long", "t"), ZOO_OK);
            ripen(seg);
            CHECK_EQ(zoo_index_find(seg, zoo_key_hash(seg, "key", 3), "key", 3, &hit), ZOO_OK);
            struct scribble act = {seg, hit.from + sizeof(struct zoo_rec) / 8 + part};
            at_point(points[p], scribble, &act);
            const char *text = get_text(seg, "key");
            CHECK(point_passed());
            CHECK(text == NULL || strcmp(text, "a value, so long") == 0);
            CHECK(text != NULL || (p == 0 && part == 2));
            text = get_text(seg, "key");
            CHECK(text == NULL || strcmp(text, "a value, so long") == 0);
            CHECK(text != NULL || p == 0);
            CHECK_EQ(invalidate(seg, "t"), ZOO_OK);
            CHECK(get_text(seg, "key") == NULL);
        }
    }
    check_sound(seg);
    zoo_close(seg);
}

static void corrupt_values_are_not_promoted(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct zoo_hit hit;
    CHECK_EQ(set_text(seg, "key", "a value, so long", ""), ZOO_OK);
    ripen(seg);
    CHECK_EQ(zoo_index_find(seg, zoo_key_hash(seg, "key", 3), "key", 3, &hit), ZOO_OK);
    scribble(&(struct scribble){seg, hit.from + sizeof(struct zoo_rec) / 8 + 1});
    CHECK(get_text(seg, "key") == NULL);
    CHECK_EQ(got, -ZOO_CORRUPT);
    CHECK(touch(seg, "key", 1000) != ZOO_OK);
    CHECK(get_text(seg, "key") == NULL);
    CHECK_EQ(counter(seg, ZOO_N_PROMOTIONS), 0);
    zoo_close(seg);
}

const struct suite logs_suites[] = {
    {"logs-unused-room", unused_room_is_used_first},
    {"promote", a_hit_promotes},
    {"promote-stamp", a_promotion_keeps_the_stamp},
    {"renew", a_hit_renews_in_main},
    {"ghosts", ghosts_choose_main},
    {"ghosts-two-phases", ghosts_are_inserted_in_two_phases},
    {"ghosts-twins", a_ghost_beside_the_key_is_passed_over},
    {"logs-long", long_records_go_to_main},
    {"promote-once", one_of_many_promotes},
    {"promote-verified", only_verified_bytes_are_promoted},
    {"promote-corrupt", corrupt_values_are_not_promoted},
    {NULL, NULL},
};
