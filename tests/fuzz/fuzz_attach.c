/*
 * fuzz_attach.c - any file where a segment belongs: opening it is refused, or it can be used.
 *
 * An input is: what to do, the object's size, the bytes of the header, words to
 * put anywhere in the rest, and operations. Its constants get a checksum that is
 * right if the input says so: otherwise no input would come past it.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

enum { SEALED = 1, WITH_SIZE = 2, RESIZED = 4, CLEARED = 8, UNNAMED_LOCK = 16, REOPENED = 32 };
enum { MOST_HEADER = 4096, MOST_OPERATIONS = 64, OPEN_MS = 2000 };

static void seal(struct zoo_hdr *hdr, unsigned what)
{
    if (what & SEALED)
        hdr->constants_sum = zoo_geometry_sum(hdr);
    if (what & UNNAMED_LOCK) /* or the owner's file would have to be guessed */
        zoo_store_relaxed(&hdr->owner_file, 0);
}

/* Not more than two segments: the object of an input that says "1 TiB" is 1 MiB. */
static uint64_t draw_size(struct input *in)
{
    static const uint64_t sizes[] = {0, 100, 4095, 4096, ZOO_MIN_SIZE - 1, ZOO_MIN_SIZE};
    uint64_t n = draw(in, 4);
    return n < sizeof sizes / sizeof *sizes ? sizes[n] : n % (2ull * ZOO_MIN_SIZE);
}

static void make_object(struct input *in, unsigned what)
{
    static union {
        struct zoo_hdr hdr;
        uint8_t bytes[MOST_HEADER];
    } page;
    uint64_t size = draw_size(in);
    memset(&page, 0, sizeof page);
    draw_bytes(in, page.bytes, draw_below(in, 2, MOST_HEADER + 1));
    seal(&page.hdr, what);
    int fd = shm_open(fuzz_object(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || pwrite(fd, page.bytes, size < MOST_HEADER ? size : MOST_HEADER, 0) < 0 ||
        ftruncate(fd, (off_t)size) != 0)
        abort();
    for (uint64_t pokes = draw_below(in, 1, 32); pokes > 0; pokes--) {
        uint64_t at = draw(in, 4), word = draw(in, 8);
        if (at + 8 <= size && pwrite(fd, &word, 8, (off_t)at) != 8)
            abort();
    }
    close(fd);
}

static zoo_seg *open_object(unsigned what)
{
    zoo_seg *seg = NULL;
    time_begins();
    int status = zoo_open(fuzz_name(), what & WITH_SIZE ? ZOO_MIN_SIZE : 0, 0, &seg);
    time_ends("an attach", OPEN_MS);
    if ((status == ZOO_OK) != (seg != NULL))
        abort();
    return seg;
}

static void check_inside(const zoo_seg *seg, const void *part, uint64_t bytes)
{
    const char *at = part, *base = (const char *)seg->hdr;
    if (at < base || (uint64_t)(at - base) > seg->mapped ||
        bytes > seg->mapped - (uint64_t)(at - base))
        abort();
}

/* What lies outside may be mapped by chance, and then no access to it is caught. */
static void check_parts(const zoo_seg *seg)
{
    check_inside(seg, seg->stats, ZOO_STRIPES * ZOO_STATS * 8);
    check_inside(seg, seg->tags, (seg->tag_mask + 1) * ZOO_LINE);
    check_inside(seg, seg->index, (seg->bucket_mask + 1) * ZOO_LINE);
    check_inside(seg, seg->pending, (seg->pending_mask + 1) * 8);
    check_inside(seg, seg->lanes, ZOO_LANES * sizeof *seg->lanes);
    check_inside(seg, seg->owners, ZOO_OWNERS * 8);
    check_inside(seg, seg->flights, (seg->flight_mask + 1) * 8);
    check_inside(seg, seg->ring, (seg->ring_mask + 1) * sizeof *seg->ring);
    for (int log = 0; log < ZOO_LOGS; log++)
        check_inside(seg, seg->log[log].words, seg->log[log].size + seg->log[log].longest);
    if (seg->log[ZOO_LOG_PROBATION].longest > seg->log[ZOO_LOG_MAIN].longest)
        abort(); /* a promotion would not fit */
}

static void use(zoo_seg *seg, struct input *in)
{
    check_parts(seg);
    operations_begin();
    for (int n = 0; n < MOST_OPERATIONS && in->left > 0; n++)
        operate(seg, in);
    look_at_all(seg);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    unsigned what = (unsigned)draw(&in, 1);
    make_object(&in, what);
    if (what & CLEARED)
        zoo_clear_foreign(fuzz_name());
    zoo_seg *seg = open_object(what);
    if (seg != NULL)
        use(seg, &in);
    time_begins();
    if (what & RESIZED)
        zoo_resize(fuzz_name(), ZOO_MIN_SIZE, 0);
    time_ends("a resize", OPEN_MS);
    zoo_seg *again = what & REOPENED ? open_object(what) : NULL;
    if (again != NULL)
        look_at_all(again);
    zoo_close(seg);
    zoo_close(again);
    zoo_unlink(fuzz_name());
}

void fuzz_end(void)
{
    zoo_unlink(fuzz_name());
    zoo_owner_unlink(fuzz_object());
}

/* Seeds: headers that are good, and ones whose parts lie in ways that no plan has. */

static void good_header(struct zoo_hdr *hdr)
{
    memset(hdr, 0, sizeof *hdr);
    hdr->stable = (struct zoo_stable){
        .magic = ZOO_MAGIC,
        .layout_version = ZOO_LAYOUT_VERSION,
        .header_size = sizeof *hdr,
        .state_at = offsetof(struct zoo_hdr, state),
        .clock_at = offsetof(struct zoo_hdr, clock),
        .root_at = offsetof(struct zoo_hdr, root),
        .lanes_at = offsetof(struct zoo_hdr, active_lanes),
        .events_at = offsetof(struct zoo_hdr, events),
        .retired_clock_at = offsetof(struct zoo_hdr, retired_clock),
    };
    hdr->sum_kind = ZOO_SUM_PLAIN;
    zoo_geometry_plan(hdr, ZOO_MIN_SIZE, 0);
    zoo_store_relaxed(&hdr->state, ZOO_STATE_READY);
    zoo_store_relaxed(&hdr->clock, 1000);
    zoo_store_relaxed(&hdr->root, 1000);
    zoo_store_relaxed(&hdr->head_probation, ZOO_PART_ALIGN);
    zoo_store_relaxed(&hdr->head_main, ZOO_PART_ALIGN);
    zoo_store_relaxed(&hdr->limit_probation, ZOO_PART_ALIGN);
    zoo_store_relaxed(&hdr->limit_main, ZOO_PART_ALIGN);
}

static void begin_seed(struct output *out, unsigned what, const struct zoo_hdr *hdr)
{
    out->n = 0;
    emit(out, what | SEALED | UNNAMED_LOCK, 1);
    emit(out, 5, 4); /* ZOO_MIN_SIZE */
    emit(out, sizeof *hdr, 2);
    emit_bytes(out, hdr, sizeof *hdr);
}

static void poke(struct output *out, uint64_t at, uint64_t word)
{
    emit(out, at, 4);
    emit(out, word, 8);
}

/* A few operations of each sort. */
static void end_seed(struct output *out, const char *name, seed_writer *write)
{
    for (unsigned operation = 0; operation < FUZZ_OPERATIONS; operation++) {
        emit(out, operation, 1); /* a key */
        emit(out, operation, 1);
        emit(out, 0x0003100200010000u, 8); /* what it draws */
    }
    write(name, out->bytes, out->n);
}

/* Main has been filled once, so that new records go to probation. */
static void seed_geometry(seed_writer *write, const char *name, const struct zoo_hdr *hdr)
{
    struct zoo_hdr full = *hdr;
    struct output out;
    zoo_store_relaxed(&full.head_main, 4 * ZOO_MIN_SIZE);
    zoo_store_relaxed(&full.limit_main, 4 * ZOO_MIN_SIZE);
    begin_seed(&out, 0, &full);
    emit(&out, 0, 1); /* no pokes */
    end_seed(&out, name, write);
}

static void seed_parts(seed_writer *write, const struct zoo_hdr *good)
{
    struct zoo_hdr hdr = *good;
    struct zoo_part *probation = &hdr.part[ZOO_PART_LOG_PROBATION];
    struct zoo_part *main_log = &hdr.part[ZOO_PART_LOG_MAIN];
    const uint64_t start = probation->offset, all = probation->size + main_log->size;

    *probation = (struct zoo_part){start, all - ZOO_PART_ALIGN};
    *main_log = (struct zoo_part){start + all - ZOO_PART_ALIGN, ZOO_PART_ALIGN};
    seed_geometry(write, "long-probation", &hdr);

    *main_log = (struct zoo_part){start, ZOO_PART_ALIGN};
    *probation = (struct zoo_part){start + ZOO_PART_ALIGN, ZOO_PART_ALIGN};
    seed_geometry(write, "main-first", &hdr);

    hdr = *good;
    *main_log = (struct zoo_part){ZOO_PART_ALIGN, ZOO_PART_ALIGN};
    hdr.part[ZOO_PART_INDEX].offset = ZOO_MIN_SIZE - ZOO_PART_ALIGN;
    seed_geometry(write, "tables-behind", &hdr);
}

static void seed_states(seed_writer *write, const struct zoo_hdr *good)
{
    struct zoo_hdr hdr = *good;
    struct output out;
    uint64_t lane = good->part[ZOO_PART_LANES].offset;
    begin_seed(&out, RESIZED | REOPENED, good);
    emit(&out, 3, 1);
    poke(&out, offsetof(struct zoo_hdr, active_lanes), 1);
    poke(&out, lane, 1);     /* OWNED, by nobody */
    poke(&out, lane + 8, 2); /* tags */
    end_seed(&out, "owned-lane", write);

    zoo_store_relaxed(&hdr.state, ZOO_STATE_RETIRED);
    begin_seed(&out, WITH_SIZE | REOPENED | CLEARED, &hdr);
    emit(&out, 2, 1);
    poke(&out, offsetof(struct zoo_hdr, active_lanes), 2);
    poke(&out, lane + sizeof(struct zoo_lane), 1 << 2 | 2); /* in quarantine, and that is over */
    end_seed(&out, "retired", write);
}

void fuzz_seeds(seed_writer *write)
{
    struct zoo_hdr good;
    struct output out;
    good_header(&good);
    begin_seed(&out, 0, &good);
    emit(&out, 0, 1);
    end_seed(&out, "good", write);
    begin_seed(&out, RESIZED | REOPENED | CLEARED, &good);
    emit(&out, 0, 1);
    end_seed(&out, "resized", write);
    seed_parts(write, &good);
    seed_states(write, &good);
}
