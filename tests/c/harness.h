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
    crash_suites[], storm_suites[];

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

/* The run's segment. fresh() makes it anew; the harness removes it at the end, come what may. */
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
int set_bytes(zoo_seg *seg, const char *key, const char *value, size_t len, const char *tags,
              uint64_t stamp);
int invalidate(zoo_seg *seg, const char *tags);
int delete_key(zoo_seg *seg, const char *key);
/* The value as text ("" is a value), or NULL; `got` has zoo_get()'s answer. */
const char *get_text(zoo_seg *seg, const char *key);
extern _Thread_local int64_t got;
/* Advances the log's head by a whole lap: every record so far is dead. */
void lap(zoo_seg *seg);
void half_a_lap(zoo_seg *seg);
/* Keys that share bucket and fingerprint (same_fp) or only the bucket with `like`. */
void make_key_like(zoo_seg *seg, const char *like, bool same_fp, char out[24]);

/* fork(); a child of a run that has ended goes too, even if it is stopped. */
pid_t fork_off(void);
/* Forks, runs `act` and _exits with 0; returns the wait status. */
int in_child(action *act, void *arg);
_Noreturn void die_hard(void *unused); /* SIGKILL to itself */
uint64_t now_ms(void);

#endif
