/*
 * test_modify.c - touch, incr, compare-and-set, add and replace: their outcomes,
 * their contention, and what becomes of them when something is invalidated
 * while they run.
 */
#include "harness.h"

#include <inttypes.h>

enum { PROCESSES = 4 };

static void set_until(zoo_seg *seg, const char *key, const char *text, uint64_t ttl_ms)
{
    CHECK_EQ(
        zoo_put(seg, ZOO_SET, key, strlen(key), text, strlen(text), ttl_ms, "t", 1, NULL, 0, 0),
        ZOO_OK);
}

/* In the log where the record is, and in the other. */
static void touch_changes_the_expiry_alone(void)
{
    for (int promoted = 0; promoted <= 1; promoted++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        CHECK_EQ(touch(seg, "key", 1000), ZOO_MISS);
        set_until(seg, "key", "value", 60000);
        if (promoted)
            promote_key(seg, "key");
        CHECK_EQ(touch(seg, "key", 120000), ZOO_OK);
        CHECK_EQ(log_of(seg, "key"), promoted ? ZOO_LOG_MAIN : ZOO_LOG_PROBATION);
        zoo_skew(seg, 60001);
        CHECK(strcmp(get_text(seg, "key"), "value") == 0);
        CHECK_EQ(touch(seg, "key", 0), ZOO_OK); /* for ever */
        zoo_skew(seg, 1000000000);
        CHECK(strcmp(get_text(seg, "key"), "value") == 0);
        CHECK_EQ(touch(seg, "key", 1000), ZOO_OK);
        zoo_skew(seg, 1000001001);
        CHECK(get_text(seg, "key") == NULL);
        CHECK_EQ(got, -ZOO_EXPIRED);
        CHECK_EQ(touch(seg, "key", 1000), ZOO_MISS); /* what has expired is not brought back */
        zoo_skew(seg, 0);
        CHECK_EQ(touch(seg, "key", 1000), ZOO_OK);
        CHECK_EQ(invalidate(seg, "t"), ZOO_OK); /* it kept its tags */
        CHECK(get_text(seg, "key") == NULL);
        CHECK_EQ(touch(seg, "key", 1000), ZOO_MISS);
        CHECK_EQ(touch(seg, "", 1000), ZOO_E_KEY);
        check_sound(seg);
        zoo_close(seg);
    }
}

static void incr_counts(void)
{
    static const struct {
        const char *text;
        int64_t delta;
        int outcome;
        int64_t result;
    } cases[] = {
        {"0", 1, ZOO_OK, 1},
        {"-1", 1, ZOO_OK, 0},
        {"9", 1, ZOO_OK, 10},
        {"10", -11, ZOO_OK, -1},
        {"007", 1, ZOO_OK, 8},
        {"-0", 0, ZOO_OK, 0},
        {"9223372036854775806", 1, ZOO_OK, INT64_MAX},
        {"9223372036854775807", 1, ZOO_OVERFLOW, 0},
        {"9223372036854775807", INT64_MIN, ZOO_OK, -1},
        {"-9223372036854775808", 0, ZOO_OK, INT64_MIN},
        {"-9223372036854775808", -1, ZOO_OVERFLOW, 0},
        {"-9223372036854775808", INT64_MAX, ZOO_OK, -1},
        {"9223372036854775808", 0, ZOO_NO_NUMBER, 0},
        {"-9223372036854775809", 0, ZOO_NO_NUMBER, 0},
        {"99999999999999999999", 0, ZOO_NO_NUMBER, 0},
        {"", 1, ZOO_NO_NUMBER, 0},
        {"-", 1, ZOO_NO_NUMBER, 0},
        {"+1", 1, ZOO_NO_NUMBER, 0},
        {" 1", 1, ZOO_NO_NUMBER, 0},
        {"1.5", 1, ZOO_NO_NUMBER, 0},
        {"1a", 1, ZOO_NO_NUMBER, 0},
    };
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    int64_t result = 0;
    char text[24];
    CHECK_EQ(incr(seg, "key", 1, &result), ZOO_MISS);
    CHECK(get_text(seg, "key") == NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(context, sizeof context, "\"%s\" + %" PRId64, cases[i].text, cases[i].delta);
        CHECK_EQ(set_text(seg, "key", cases[i].text, "t"), ZOO_OK);
        CHECK_EQ(incr(seg, "key", cases[i].delta, &result), cases[i].outcome);
        if (cases[i].outcome == ZOO_OK)
            CHECK_EQ(result, cases[i].result);
        snprintf(text, sizeof text, "%" PRId64, cases[i].result);
        CHECK(strcmp(get_text(seg, "key"), cases[i].outcome == ZOO_OK ? text : cases[i].text) == 0);
    }
    CHECK_EQ(incr(seg, "", 1, &result), ZOO_E_KEY);
    check_sound(seg);
    zoo_close(seg);
}

static void a_swap_compares(void)
{
    static char huge[ZOO_MIN_SIZE], value[3000];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(swap_text(seg, "key", "", "new"), ZOO_MISS);
    CHECK_EQ(set_text(seg, "key", "old", "t"), ZOO_OK);
    CHECK_EQ(swap_text(seg, "key", "ol", "new"), ZOO_DIFFERS);
    CHECK_EQ(swap_text(seg, "key", "older", "new"), ZOO_DIFFERS);
    CHECK_EQ(swap_text(seg, "key", "olD", "new"), ZOO_DIFFERS);
    CHECK(strcmp(get_text(seg, "key"), "old") == 0);
    CHECK_EQ(swap_text(seg, "key", "old", ""), ZOO_OK);
    CHECK_EQ(swap_text(seg, "key", "", "new"), ZOO_OK);
    CHECK(strcmp(get_text(seg, "key"), "new") == 0);
    CHECK_EQ(zoo_compare_and_set(seg, "key", 3, "new", 3, huge, sizeof huge), ZOO_TOO_LARGE);
    CHECK(strcmp(get_text(seg, "key"), "new") == 0); /* nobody asked for it to go */
    /* Longer than there is room for without malloc, both ways. */
    memset(value, 'x', sizeof value);
    CHECK_EQ(zoo_compare_and_set(seg, "key", 3, "new", 3, value, sizeof value), ZOO_OK);
    CHECK_EQ(zoo_compare_and_set(seg, "key", 3, value, sizeof value - 1, "a", 1), ZOO_DIFFERS);
    CHECK_EQ(zoo_compare_and_set(seg, "key", 3, value, sizeof value, "a", 1), ZOO_OK);
    /* Out of probation, when it gets too long for that. */
    CHECK_EQ(set_text(seg, "other", "small", "t"), ZOO_OK);
    CHECK_EQ(log_of(seg, "other"), ZOO_LOG_PROBATION);
    size_t longer = seg->log[ZOO_LOG_PROBATION].longest;
    CHECK_EQ(zoo_compare_and_set(seg, "other", 5, "small", 5, huge, longer), ZOO_OK);
    CHECK_EQ(log_of(seg, "other"), ZOO_LOG_MAIN);
    CHECK_EQ(invalidate(seg, "t"), ZOO_OK);
    CHECK_EQ(swap_text(seg, "key", "a", "b"), ZOO_MISS);
    check_sound(seg);
    zoo_close(seg);
}

static void add_and_replace_look_first(void)
{
    static char huge[ZOO_MIN_SIZE];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(put_text(seg, ZOO_REPLACE, "key", "r", "t"), ZOO_MISS);
    CHECK(get_text(seg, "key") == NULL);
    CHECK_EQ(put_text(seg, ZOO_ADD, "key", "a", "t"), ZOO_OK);
    CHECK_EQ(put_text(seg, ZOO_ADD, "key", "b", "t"), ZOO_EXISTS);
    CHECK(strcmp(get_text(seg, "key"), "a") == 0);
    promote_key(seg, "key");
    CHECK_EQ(put_text(seg, ZOO_ADD, "key", "b", "t"), ZOO_EXISTS); /* in main as well */
    CHECK_EQ(put_text(seg, ZOO_REPLACE, "key", "r", "u"), ZOO_OK);
    CHECK(strcmp(get_text(seg, "key"), "r") == 0);
    CHECK_EQ(invalidate(seg, "t"), ZOO_OK); /* its tags are new, too */
    CHECK(strcmp(get_text(seg, "key"), "r") == 0);
    CHECK_EQ(invalidate(seg, "u"), ZOO_OK);
    CHECK_EQ(put_text(seg, ZOO_REPLACE, "key", "r", "u"), ZOO_MISS);
    CHECK_EQ(put_text(seg, ZOO_ADD, "key", "again", "t"), ZOO_OK); /* what is stale is not there */
    CHECK(strcmp(get_text(seg, "key"), "again") == 0);
    /* A stale entry's tag does not hang on what takes its place, even with a stamp just as old. */
    CHECK_EQ(invalidate(seg, "u"), ZOO_OK);
    CHECK(strcmp(get_text(seg, "key"), "again") == 0);
    set_until(seg, "short", "v", 1000);
    CHECK_EQ(put_text(seg, ZOO_ADD, "short", "w", ""), ZOO_EXISTS);
    zoo_skew(seg, 1001);
    CHECK_EQ(put_text(seg, ZOO_REPLACE, "short", "w", ""), ZOO_MISS);
    CHECK_EQ(put_text(seg, ZOO_ADD, "short", "w", ""), ZOO_OK);
    zoo_skew(seg, 0);
    /* Of those that fail, a replace must take the old value away, and an add must not. */
    CHECK_EQ(put_bytes(seg, ZOO_ADD, "key", huge, sizeof huge, "", 0), ZOO_TOO_LARGE);
    CHECK(strcmp(get_text(seg, "key"), "again") == 0);
    CHECK_EQ(put_bytes(seg, ZOO_REPLACE, "key", huge, sizeof huge, "", 0), ZOO_TOO_LARGE);
    CHECK(get_text(seg, "key") == NULL);
    CHECK_EQ(zoo_put(seg, ZOO_REPLACE + 1, "key", 3, "v", 1, 0, "", 0, NULL, 0, 0), ZOO_E_ARGUMENT);
    check_sound(seg);
    zoo_close(seg);
}

/* A commit that is announced may yet be rolled back: its entries are there, and not to be had. */
static void announced_entries_are_left_alone(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t ticket;
    int64_t number;
    CHECK_EQ(set_text(seg, "key", "1", "t"), ZOO_OK);
    CHECK_EQ(zoo_announce(seg, "t", 1, "", 1000, &ticket), ZOO_OK);
    CHECK_EQ(incr(seg, "key", 1, &number), ZOO_MISS);
    CHECK_EQ(touch(seg, "key", 1), ZOO_MISS);
    CHECK_EQ(swap_text(seg, "key", "1", "2"), ZOO_MISS);
    CHECK_EQ(put_text(seg, ZOO_REPLACE, "key", "2", "t"), ZOO_MISS);
    CHECK_EQ(put_text(seg, ZOO_ADD, "key", "2", ""), ZOO_EXISTS);
    CHECK_EQ(zoo_settle(seg, ticket, ZOO_ROLLED_BACK), ZOO_OK);
    CHECK(strcmp(get_text(seg, "key"), "1") == 0);
    CHECK_EQ(zoo_announce(seg, "t", 1, "", 1000, &ticket), ZOO_OK);
    CHECK_EQ(zoo_settle(seg, ticket, ZOO_COMMITTED), ZOO_OK);
    CHECK_EQ(put_text(seg, ZOO_ADD, "key", "2", ""), ZOO_OK);
    zoo_close(seg);
}

/* --- Contention ---------------------------------------------------------------------------- */

struct team {
    zoo_seg *seg;
    zoo_word *words;
    uint64_t who;
};

/* Runs one task in several processes at once, and `meanwhile` here until all have ended. */
static void run_team(zoo_seg *seg, zoo_word *words, action *act, void (*meanwhile)(zoo_seg *seg))
{
    pid_t pids[PROCESSES];
    int left = PROCESSES;
    for (uint64_t i = 0; i < PROCESSES; i++) {
        struct team team = {seg, words, i};
        if ((pids[i] = fork_off()) == 0) {
            act(&team);
            _exit(0);
        }
    }
    while (left > 0) {
        int status;
        pid_t pid = waitpid(-1, &status, meanwhile != NULL ? WNOHANG : 0);
        CHECK(pid >= 0);
        if (pid > 0) {
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            left--;
        } else {
            meanwhile(seg);
        }
    }
}

static void count_up(void *arg)
{
    struct team *team = arg;
    int64_t number, last = 0;
    for (int i = 0; i < 10000; i++) {
        CHECK_EQ(incr(team->seg, "counter", 1, &number), ZOO_OK);
        CHECK(number > last);
        last = number;
        if (i % 500 == 0)
            CHECK(get_text(team->seg, "counter") != NULL); /* which promotes it */
    }
}

/* Each of the increments writes a record: the log goes round several times. */
static void no_increment_is_lost(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(set_text(seg, "counter", "0", "t"), ZOO_OK);
    run_team(seg, NULL, count_up, NULL);
    CHECK_EQ(atoi(get_text(seg, "counter")), PROCESSES * 10000);
    CHECK(zoo_load_acquire(seg->log[ZOO_LOG_PROBATION].head) +
              zoo_load_acquire(seg->log[ZOO_LOG_MAIN].head) >
          seg->log[ZOO_LOG_MAIN].size * 5);
    check_sound(seg);
    zoo_close(seg);
}

static void swap_up(void *arg)
{
    struct team *team = arg;
    char old[24], text[24];
    for (int done = 0; done < 2000;) {
        const char *found = get_text(team->seg, "counter");
        CHECK(found != NULL);
        snprintf(old, sizeof old, "%s", found);
        snprintf(text, sizeof text, "%d", atoi(old) + 1);
        int outcome = swap_text(team->seg, "counter", old, text);
        CHECK(outcome == ZOO_OK || outcome == ZOO_DIFFERS);
        done += outcome == ZOO_OK;
    }
}

static void no_swap_is_lost(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(set_text(seg, "counter", "0", "t"), ZOO_OK);
    run_team(seg, NULL, swap_up, NULL);
    CHECK_EQ(atoi(get_text(seg, "counter")), PROCESSES * 2000);
    check_sound(seg);
    zoo_close(seg);
}

enum { HOLDER, ENTRIES, WORDS };

/* An add is a lock, a delete gives it back. Only the holder looks at the holder's word. */
static void lock_and_unlock(void *arg)
{
    struct team *team = arg;
    for (int taken = 0; taken < 3000;) {
        int outcome = put_text(team->seg, ZOO_ADD, "lock", "mine", "t");
        snprintf(context, sizeof context, "outcome %d", outcome);
        CHECK(outcome == ZOO_OK || outcome == ZOO_EXISTS || outcome == ZOO_BORN_DEAD);
        if (outcome != ZOO_OK)
            continue;
        taken++;
        CHECK_EQ(zoo_exchange_seq_cst(&team->words[HOLDER], team->who + 1), 0);
        zoo_add_seq_cst(&team->words[ENTRIES], 1);
        if (taken % 7 == 0)
            CHECK(get_text(team->seg, "lock") != NULL); /* promoted under the others' eyes */
        CHECK_EQ(zoo_exchange_seq_cst(&team->words[HOLDER], 0), team->who + 1);
        outcome = delete_key(team->seg, "lock"); /* MISS: the next has it already */
        CHECK(outcome == ZOO_OK || outcome == ZOO_MISS);
    }
}

static void make_noise(zoo_seg *seg)
{
    CHECK_EQ(invalidate(seg, "unrelated"), ZOO_OK);
    get_text(seg, "lock");
}

static void an_add_has_one_winner(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    zoo_word *words = shared_words(WORDS);
    run_team(seg, words, lock_and_unlock, make_noise);
    CHECK_EQ(zoo_load_acquire(&words[ENTRIES]), PROCESSES * 3000);
    check_sound(seg);
    zoo_close(seg);
}

/* Adds of keys that are never deleted: each has exactly one winner. */
static void add_all(void *arg)
{
    struct team *team = arg;
    char key[24];
    for (uint64_t i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "key%d", (int)i);
        int outcome = put_text(team->seg, ZOO_ADD, key, "v", "t");
        CHECK(outcome == ZOO_OK || outcome == ZOO_EXISTS);
        zoo_add_seq_cst(&team->words[i], outcome == ZOO_OK);
    }
}

static void many_adds_have_one_winner_each(void)
{
    for (int round = 0; round < 10; round++) {
        zoo_seg *seg = fresh(16 << 20); /* so that nothing is evicted */
        zoo_word *words = shared_words(500);
        run_team(seg, words, add_all, NULL);
        CHECK_EQ(counter(seg, ZOO_N_EVICTIONS), 0);
        for (size_t i = 0; i < 500; i++)
            CHECK_EQ(zoo_load_acquire(&words[i]), 1);
        check_sound(seg);
        zoo_close(seg);
    }
}

const struct suite modify_suites[] = {
    {"touch", touch_changes_the_expiry_alone},
    {"incr", incr_counts},
    {"swap", a_swap_compares},
    {"add-replace", add_and_replace_look_first},
    {"modify-announced", announced_entries_are_left_alone},
    {"incr-contention", no_increment_is_lost},
    {"swap-contention", no_swap_is_lost},
    {"add-lock", an_add_has_one_winner},
    {"add-once", many_adds_have_one_winner_each},
    {NULL, NULL},
};
