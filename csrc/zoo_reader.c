/*
 * zoo_reader.c - the private buffers that gets copy records into.
 *
 * A get leaves the value in its reader, and the caller takes it from there in a
 * second step; in between, nobody else may use the reader. A bound reader
 * belongs to the first thread that uses it: a compare in each get, which is
 * cheaper than handing readers out of a pool. Threads are told apart by the
 * address of a thread-local byte, which no two living threads share. A fork
 * keeps the address of the thread that forked.
 */
#include <stdlib.h>

#include "zoo_layout.h"

static _Thread_local char marker;

zoo_reader *zoo_reader_new(zoo_seg *seg, size_t cap, int bound)
{
    if (cap < sizeof(struct zoo_rec))
        cap = sizeof(struct zoo_rec);
    /* calloc: a large buffer takes memory only as far as records reach. */
    zoo_reader *reader = calloc(1, offsetof(struct zoo_reader, rec) + cap);
    if (reader != NULL) {
        reader->seg = seg;
        reader->cap = cap;
        reader->bound = bound != 0;
    }
    return reader;
}

void zoo_reader_free(zoo_reader *reader)
{
    free(reader);
}

bool zoo_reader_claim(zoo_reader *reader)
{
    if (!reader->bound)
        return true;
    uint64_t me = (uint64_t)(uintptr_t)&marker;
    /* Relaxed: only this thread ever stores its own address. */
    uint64_t owner = zoo_load_relaxed(&reader->owner);
    return owner == me || (owner == 0 && zoo_cas_seq_cst(&reader->owner, 0, me));
}

const char *zoo_reader_value(const zoo_reader *reader)
{
    return zoo_rec_value(&reader->rec);
}

const char *zoo_reader_deps(const zoo_reader *reader, size_t *n)
{
    *n = reader->rec.n_deps;
    return (const char *)zoo_rec_deps(&reader->rec);
}

int64_t zoo_nothing(zoo_reader *reader, const char *key, size_t key_len)
{
    (void)reader, (void)key, (void)key_len;
    return 0;
}

void zoo_empty(void)
{
}
