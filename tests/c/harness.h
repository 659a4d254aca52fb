/*
 * harness.h - checks, segments, fault points and random numbers for the C tests.
 *
 * Each process of a run has a seed of its own, made from one base seed that a
 * failing check prints (ZOO_TEST_SEED repeats it).
 */
#ifndef ZOO_TEST_HARNESS_H
#define ZOO_TEST_HARNESS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "zoo_fault.h"
#include "zoo_hash.h"
#include "zoo_layout.h"

#define CHECK(condition)                                                                           \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition, 0, 0))
#define CHECK_EQ(a, b) check_equal(__FILE__, __LINE__, #a " == " #b, (int64_t)(a), (int64_t)(b))

_Noreturn void check_failed(const char *file, int line, const char *what, int64_t a, int64_t b);
void check_equal(const char *file, int line, const char *what, int64_t a, int64_t b);
/* Shown by a failing check: what was going on. */
extern _Thread_local char context[200];

/* One suite: its name on the command line, and what it does. */
struct suite {
    const char *name;
    void (*run)(void);
};
extern const struct suite unit_suites[], cache_suites[], race_suites[], schedule_suites[],
    crash_suites[], storm_suites[], owner_suites[], flight_suites[], intent_suites[],
    event_suites[], linear_suites[], modify_suites[], logs_suites[], sum_suites[], retire_suites[],
    overtaken_suites[], succession_suites[], garbled_suites[], look_suites[], name_suites[],
    tally_suites[], local_suites[], expiry_suites[];

/* Random numbers: splitmix64. */
uint64_t base_seed(void);
struct rng {
    uint64_t state;
};
struct rng rng_for(uint64_t who);
uint64_t rng_next(struct rng *rng);
static inline uint64_t rng_below(struct rng *rng, uint64_t n)
{
    return rng_next(rng) % n;
}

/* The run's segment. fresh() makes it anew, with its main log once round; the harness removes it at
 * the end, come what may. */
const char *segment_name(void);
zoo_seg *fresh(uint64_t size);
zoo_seg *attach_again(void);
void check_sound(zoo_seg *seg);

/* What zoo_fault() does in this thread: one action at the next (count-th) passing of a point. */
extern const char *const all_points[];
typedef void action(void *arg);
void at_point_after(const char *point, unsigned count, action *act, void *arg);
void at_point(const char *point, action *act, void *arg);
bool point_passed(void); /* was it? forgets the action */
/* Called at every point, in every thread that has set it. */
extern _Thread_local void (*on_every_point)(const char *point);

/* Short forms. `text` values are NUL-terminated; tags are separated by spaces. */
int set_text(zoo_seg *seg, const char *key, const char *text, const char *tags);
int fill_text(zoo_seg *seg, const char *key, const char *text, const char *tags, uint64_t stamp);
int set_bytes(zoo_seg *seg, const char *key, const char *value, size_t len, const char *tags);
/* `mode` is a zoo_mode. */
int put_text(zoo_seg *seg, int mode, const char *key, const char *text, const char *tags);
int put_bytes(zoo_seg *seg, int mode, const char *key, const char *value, size_t len,
              const char *tags, uint64_t stamp);
int invalidate(zoo_seg *seg, const char *tags);
int delete_key(zoo_seg *seg, const char *key);
/* The value as text ("" is a value), or NULL; `got` has zoo_get()'s answer. */
const char *get_text(zoo_seg *seg, const char *key);
extern _Thread_local int64_t got;
int incr(zoo_seg *seg, const char *key, int64_t delta, int64_t *result);
int touch(zoo_seg *seg, const char *key, uint64_t ttl_ms);
int swap_text(zoo_seg *seg, const char *key, const char *expected, const char *text);
uint64_t counter(zoo_seg *seg, zoo_stat which);
/* Advances both heads, or one, by a whole lap: every record so far is dead. */
void lap(zoo_seg *seg);
/* Puts a log's head, and the limit with it, anywhere. */
void move_log(const struct zoo_log *log, uint64_t head);
void lap_log(zoo_seg *seg, unsigned log);
void half_a_lap(zoo_seg *seg);
/* Makes the records so far so old that a hit copies them, and half a lap kills them. */
void ripen(zoo_seg *seg);
/* Which log has the key's record? */
unsigned log_of(zoo_seg *seg, const char *key);
/* Gets a key, of a record that is old enough, into the main log. */
void promote_key(zoo_seg *seg, const char *key);
/* Keys that share bucket and fingerprint (same_fp) or only the bucket with `like`. */
void make_key_like(zoo_seg *seg, const char *like, bool same_fp, char out[24]);

/* fork(); a child of a run that has ended goes too, even if it is stopped. */
pid_t fork_off(void);
/* Forks, runs `act` and _exits with 0; returns the wait status. */
int in_child(action *act, void *arg);
_Noreturn void die_hard(void *unused); /* SIGKILL to itself */
void stop_here(void *unused);          /* SIGSTOP to itself */
/* Forks, runs `act` and waits until the child has stopped itself. wake() ends it with status 0. */
pid_t stopped_child(action *act, void *arg);
void wake(pid_t pid);
/* Kills a child and waits till it is a zombie, which bury() ends. */
void kill_unburied(pid_t pid);
void bury(pid_t pid);
/* Words that forked children share; zero at first. */
zoo_word *shared_words(size_t n);
void await(const zoo_word *at, uint64_t value);
const char *lock_file_name(void);
/* Takes all owner slots but `spare` (-1: none) that are free, in a child that kill_unburied() ends.
 */
pid_t take_all_slots(int spare);
uint64_t now_ms(void);

#endif
