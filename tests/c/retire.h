/*
 * retire.h - what the tests of retired segments share; see test_retire.c.
 */
#ifndef ZOO_TEST_RETIRE_H
#define ZOO_TEST_RETIRE_H

#include "harness.h"

/* The shared-memory object of the run's segment, or with a suffix one that belongs to it. */
const char *object_name(const char *suffix);
bool exists(const char *object);
zoo_seg *open_any(void);
/* Whatever is tried, a handle on a retired segment serves nothing and stores nothing. */
void is_over(zoo_seg *seg);
void works(zoo_seg *seg);

#endif
