/*
 * fuzz.h - what the fuzz targets share: an input to draw from, operations on a
 * handle, and a bound on the time that each may take.
 *
 * A target is a file that defines `fuzz_one`, `fuzz_seeds` and `fuzz_end`. Built
 * with -DZOO_LIBFUZZER it is a libFuzzer target; with replay.c it is a program
 * that runs the files that it is given, or writes the seeds.
 */
#ifndef ZOO_FUZZ_H
#define ZOO_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "zoo_layout.h"

/* The rest of an input. Past its end everything drawn is 0. */
struct input {
    const uint8_t *at;
    size_t left;
};
uint64_t draw(struct input *in, size_t bytes);
uint64_t draw_below(struct input *in, size_t bytes, uint64_t n);
void draw_bytes(struct input *in, void *to, size_t n);

/* A place for seeds to be built in. */
struct output {
    uint8_t bytes[16384];
    size_t n;
};
void emit(struct output *out, uint64_t value, size_t bytes);
void emit_bytes(struct output *out, const void *from, size_t n);

/* The target. */
void fuzz_one(const uint8_t *data, size_t size);
typedef void seed_writer(const char *name, const uint8_t *data, size_t size);
void fuzz_seeds(seed_writer *write);
void fuzz_end(void);

/* The segment's name: $ZOO_FUZZ_NAME, or one of this process's own; and its object. */
const char *fuzz_name(void);
const char *fuzz_object(void);

/* Keys and tags that an operation can name: KEYS of them, of several lengths. */
enum { FUZZ_KEYS = 16, FUZZ_OPERATIONS = 32 };
size_t fuzz_key(unsigned n, char out[ZOO_MAX_KEY]);

/* One operation that the input chooses; those that look at the whole segment. */
void operations_begin(void);
void operate(zoo_seg *seg, struct input *in);
void look_at_all(zoo_seg *seg);

/* What comes between them must not take `ms` of this thread's time: a hang is a defect. */
void time_begins(void);
void time_ends(const char *what, uint64_t ms);

#endif
