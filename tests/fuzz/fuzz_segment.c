/*
 * fuzz_segment.c - a good segment that somebody scribbles over while it is used.
 *
 * An input is a program: bytes put anywhere, words put into a table, records
 * with checksums that are right and lengths that are not, heads and clocks
 * moved; and operations in between. Each input starts from the same segment,
 * whose secret is fixed, so that an input always does the same.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "zoo_hash.h"
#include "zoo_sum.h"

enum { MOST_STEPS = 96 };
enum step { OPERATE = 0, POKE_BYTES = 4, POKE_TABLE = 5, POKE_RECORD = 6, POKE_HEAD = 7, STEPS };

/* One segment for each kind of checksum. */
struct subject {
    zoo_seg *seg;
    uint8_t *bytes; /* the object, mapped once more, in one piece */
    uint8_t *image; /* what it is at the beginning of each input */
};
static struct subject subjects[2];

static void check(bool good)
{
    if (!good)
        abort();
}

/* The name of the second segment is made from that of the first. */
static void names_of(int which, char *name, char *object)
{
    snprintf(name, ZOO_NAME_BYTES, "%s%s", fuzz_name(), which ? "-aes" : "");
    snprintf(object, ZOO_NAME_BYTES, "/zoocache-%u-%s", (unsigned)geteuid(), name);
}

static void fill(zoo_seg *seg)
{
    char key[ZOO_MAX_KEY], value[2000] = "41";
    for (unsigned n = 0; n < FUZZ_KEYS; n++) {
        size_t len = fuzz_key(n, key), value_len = n % 3 == 0 ? 2 : n * 100;
        check(zoo_put(seg, ZOO_SET, key, len, value, value_len, 0, "a:b", 3, NULL, 0, 0) == ZOO_OK);
    }
}

static void start(struct subject *subject, int which)
{
    char name[ZOO_NAME_BYTES], object[ZOO_NAME_BYTES];
    uint64_t kind = which && zoo_sum_has_aes() ? ZOO_SUM_AES : ZOO_SUM_PLAIN;
    names_of(which, name, object);
    zoo_unlink(name);
    int fd = shm_open(object, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct zoo_hdr *first = NULL;
    check(fd >= 0 && zoo_segment_make(fd, ZOO_MIN_SIZE, 0, &first) == ZOO_OK);
    zoo_segment_start(first, 1000, 0);
    subject->bytes = mmap(NULL, ZOO_MIN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    check(subject->bytes != MAP_FAILED);
    struct zoo_hdr *hdr = (struct zoo_hdr *)(void *)subject->bytes;
    hdr->secret[0] = 1;
    hdr->secret[1] = 2;
    hdr->sum_kind = kind;
    hdr->constants_sum = zoo_geometry_sum(hdr);
    check(zoo_open(name, 0, 0, &subject->seg) == ZOO_OK);
    fill(subject->seg);
    zoo_owner_mine(subject->seg); /* its slot's generation is in the image */
    subject->image = malloc(ZOO_MIN_SIZE);
    check(subject->image != NULL);
    memcpy(subject->image, subject->bytes, ZOO_MIN_SIZE);
}

void fuzz_end(void)
{
    char name[ZOO_NAME_BYTES], object[ZOO_NAME_BYTES];
    for (int which = 0; which < 2; which++) {
        struct subject *subject = subjects + which;
        names_of(which, name, object);
        zoo_unlink(name);
        zoo_close(subject->seg);
        free(subject->image);
        *subject = (struct subject){0};
    }
}

static void poke_bytes(const struct subject *subject, struct input *in)
{
    uint64_t at = draw_below(in, 4, ZOO_MIN_SIZE - 16);
    draw_bytes(in, subject->bytes + at, 1 + draw_below(in, 1, 16));
}

/* A word of a part, or of the header's words that change. */
static void poke_table(const struct subject *subject, struct input *in)
{
    const struct zoo_hdr *hdr = (const struct zoo_hdr *)(const void *)subject->image;
    const uint64_t state = offsetof(struct zoo_hdr, state);
    struct zoo_part part = {state, sizeof *hdr - state};
    uint64_t id = draw_below(in, 1, ZOO_PART_LOG_MAIN + 2);
    if (id <= ZOO_PART_LOG_MAIN)
        part = hdr->part[id];
    uint64_t word = draw_below(in, 2, part.size / 8);
    draw_bytes(in, subject->bytes + part.offset + word * 8, 8);
}

static void poke_head(const struct subject *subject, struct input *in)
{
    const struct zoo_log *log = &subject->seg->log[draw_below(in, 1, 2)];
    unsigned how = (unsigned)draw(in, 1);
    uint64_t n = draw(in, how % 2 ? 8 : 3);
    if (!(how & 2)) /* in step, or only the limit */
        zoo_store_relaxed(log->head, how % 2 ? n : zoo_load_relaxed(log->head) + n);
    if (!(how & 4)) /* or only the head */
        zoo_store_relaxed(log->limit, how % 2 ? n : zoo_load_relaxed(log->limit) + n);
}

/* What somebody who knows the secret could write. */
struct forgery {
    unsigned log;
    zoo_pos pos;
    struct zoo_rec rec;
    const uint64_t *expiry; /* NULL: where it would lie, something else does */
    const char *key;
    size_t key_len;
    bool bad_value;
};

/* Writes the record; true if it can be read as far as its checksums go. */
static void forge(zoo_seg *seg, const struct forgery *forgery)
{
    const struct zoo_log *log = &seg->log[forgery->log];
    uint8_t *to = (uint8_t *)(void *)(log->words + forgery->pos.bytes % log->size / 8);
    struct zoo_rec rec = forgery->rec;
    uint64_t before = zoo_rec_head(&rec), bytes = zoo_rec_bytes(&rec);
    memcpy(to, &rec, sizeof rec);
    memcpy(to + sizeof rec, forgery->key, forgery->key_len);
    memset(to + sizeof rec + forgery->key_len, 0, zoo_pad8(forgery->key_len) - forgery->key_len);
    if (bytes > log->longest)
        return; /* no reader comes as far as the sums */
    if (forgery->expiry != NULL && rec.n_words > 0)
        memcpy(to + before - sizeof *forgery->expiry, forgery->expiry, sizeof *forgery->expiry);
    char *value = malloc(rec.value_len + 1ull);
    check(value != NULL);
    zoo_chain chain =
        zoo_sum_start(seg->sum_kind, seg->sum_seed, forgery->pos.bytes | forgery->log);
    rec.sum = zoo_sum_bytes(seg->sum_kind, &chain, (const char *)to + 8, before - 8);
    rec.whole_sum = rec.sum ^
                    zoo_sum_out(seg->sum_kind, &chain, value, (zoo_word *)(void *)(to + before),
                                rec.value_len) ^
                    forgery->bad_value;
    free(value);
    memcpy(to, &rec, sizeof rec);
}

static void poke_record(const struct subject *subject, struct input *in)
{
    zoo_seg *seg = subject->seg;
    char key[ZOO_MAX_KEY];
    unsigned n = (unsigned)draw(in, 1), how = (unsigned)draw(in, 1);
    size_t len = fuzz_key(n, key);
    struct forgery forgery = {
        .log = how % 2, .key = key, .key_len = len, .bad_value = how >> 1 & 1};
    const struct zoo_log *log = &seg->log[forgery.log];
    uint64_t head = zoo_load_relaxed(log->head) / ZOO_UNIT * ZOO_UNIT;
    forgery.pos.bytes = head - draw(in, 2) * ZOO_UNIT; /* up to 1 MiB: laps, too */
    uint64_t stamp = draw(in, 8), expiry = how & 4 ? draw(in, 8) : 0;
    if (how & 4) {
        stamp |= ZOO_STAMP_EXPIRES;
        forgery.expiry = &expiry;
    }
    forgery.rec = (struct zoo_rec){.stamp = stamp,
                                   .value_len = (uint32_t)draw(in, how & 8 ? 4 : 2),
                                   .key_len = (uint16_t)(how & 16 ? draw(in, 2) : len),
                                   .n_words = (uint16_t)draw(in, how & 32 ? 2 : 1)};
    forge(seg, &forgery);
    uint64_t hash = zoo_key_hash(seg, key, len);
    zoo_store_relaxed(zoo_index_bucket(seg, hash) + draw_below(in, 1, ZOO_WAYS),
                      (uint64_t)forgery.log << ZOO_WORD_LOG_SHIFT | zoo_fingerprint(hash) |
                          (forgery.pos.bytes / ZOO_UNIT & ZOO_WORD_POS_MASK));
}

static void step(const struct subject *subject, struct input *in)
{
    switch (draw_below(in, 1, STEPS)) {
    case POKE_BYTES:
        poke_bytes(subject, in);
        break;
    case POKE_TABLE:
        poke_table(subject, in);
        break;
    case POKE_RECORD:
        poke_record(subject, in);
        break;
    case POKE_HEAD:
        poke_head(subject, in);
        break;
    default:
        operate(subject->seg, in);
        break;
    }
}

void fuzz_one(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    int which = (int)draw_below(&in, 1, 2);
    struct subject *subject = subjects + which;
    if (subject->seg == NULL)
        start(subject, which);
    memcpy(subject->bytes, subject->image, ZOO_MIN_SIZE);
    zoo_skew(subject->seg, 0);
    operations_begin();
    for (int n = 0; n < MOST_STEPS && in.left > 0; n++)
        step(subject, &in);
    look_at_all(subject->seg);
}

/* Seeds. */

static void emit_operation(struct output *out, unsigned key, unsigned operation)
{
    emit(out, OPERATE, 1);
    emit(out, key, 1);
    emit(out, operation, 1);
    emit(out, 0x0003100200010000u, operation < 3 ? 1 : 8);
}

static void emit_record(struct output *out, unsigned key, unsigned how, uint32_t value_len,
                        unsigned n_words)
{
    emit(out, POKE_RECORD, 1);
    emit(out, key, 1);
    emit(out, how, 1);
    emit(out, 100, 2);            /* units before the head */
    emit(out, ZOO_CLOCK_MASK, 8); /* a stamp that nothing invalidates */
    if (how & 4)
        emit(out, 1, 8);
    emit(out, value_len, how & 8 ? 4 : 2);
    if (how & 16)
        emit(out, 9, 2);
    emit(out, n_words, how & 32 ? 2 : 1);
    emit(out, 0, 1); /* the slot */
}

static void begin_seed(struct output *out, int kind)
{
    out->n = 0;
    emit(out, (uint64_t)kind, 1);
}

static void seed_records(seed_writer *write)
{
    struct output out;
    char name[20];
    for (unsigned how = 0; how < 64; how++) {
        begin_seed(&out, how % 3 == 0);
        emit_record(&out, how, how, how % 2 ? 10 : 1000, how % 5);
        for (unsigned operation = 0; operation <= 9; operation++)
            emit_operation(&out, how, operation);
        snprintf(name, sizeof name, "record-%u", how);
        write(name, out.bytes, out.n);
    }
}

static void seed_operations(seed_writer *write)
{
    struct output out;
    char name[20];
    for (unsigned operation = 0; operation < FUZZ_OPERATIONS; operation++) {
        begin_seed(&out, operation % 2);
        for (unsigned key = 0; key < 4; key++)
            emit_operation(&out, key, operation);
        emit(&out, POKE_HEAD, 1);
        emit(&out, 1, 1);
        emit(&out, 0, 1);
        emit(&out, 100000, 3);
        emit_operation(&out, 1, operation);
        emit_operation(&out, 1, 0);
        snprintf(name, sizeof name, "operation-%u", operation);
        write(name, out.bytes, out.n);
    }
}

static void seed_tables(seed_writer *write)
{
    struct output out;
    char name[20];
    for (unsigned part = 0; part <= ZOO_PART_LOG_MAIN + 1; part++) {
        begin_seed(&out, part % 2);
        for (unsigned word = 0; word < 8; word++) {
            emit(&out, POKE_TABLE, 1);
            emit(&out, part, 1);
            emit(&out, word, 2);
            emit(&out, word % 2 ? UINT64_MAX : 6 - word, 8);
        }
        for (unsigned operation = 0; operation < FUZZ_OPERATIONS; operation++)
            emit_operation(&out, operation, operation);
        snprintf(name, sizeof name, "table-%u", part);
        write(name, out.bytes, out.n);
    }
}

void fuzz_seeds(seed_writer *write)
{
    seed_records(write);
    seed_operations(write);
    seed_tables(write);
}
