/*
 * zoo_fault.h - named points at which a test may stop, kill or overtake a process.
 *
 * Compiled in with -DZOO_FAULTS only; the test provides zoo_fault().
 */
#ifndef ZOO_FAULT_H
#define ZOO_FAULT_H

#ifdef ZOO_FAULTS
void zoo_fault(const char *point);
#define ZOO_FAULT(point) zoo_fault(point)
#else
#define ZOO_FAULT(point) ((void)0)
#endif

#endif
