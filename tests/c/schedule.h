/*
 * schedule.h - interleavings by machine: each operation is a thread, exactly
 * one runs at a time, and a schedule says which goes on at each fault point.
 */
#ifndef ZOO_TEST_SCHEDULE_H
#define ZOO_TEST_SCHEDULE_H

#include "harness.h"

enum { MOST_TASKS = 4, MOST_STEPS = 2000, BRANCHING = 11 };

struct schedule {
    struct rng *rng; /* NULL: all schedules, one after the other */
    unsigned depth;
    unsigned char choice[MOST_STEPS], options[MOST_STEPS];
};

/* The segment that the tasks of a schedule use, and where the present schedule is. */
extern zoo_seg *arena;
extern unsigned schedule_step;

/* Between these two, tasks may be run. `every_point`: stop at all points, not only the index's. */
void schedules_begin(bool every_point);
void schedules_end(void);
void set_task(size_t i, action *run, void *arg);
/* Runs the first n tasks by one schedule, and notes in it what the choices were. */
void run_schedule(struct schedule *schedule, size_t n);
/*
 * The next schedule in depth-first order, of the choices at the first BRANCHING
 * points; false after the last. The rest can be endless: two inserters may abort
 * each other up to their limit.
 */
bool next_schedule(struct schedule *schedule);
/* For a failing check: what, and by which schedule. */
void describe(const struct schedule *schedule, const char *what);
/* A point of the test's own. */
void pause_here(void);
/* Puts both logs' heads to the same places, so that a repeated schedule runs as before. */
void reset_arena(uint64_t at);

#endif
