/*
 * zoo_segment.c - make, attach, detach: nobody sees a half-built segment.
 *
 * What becomes of an object once somebody has it open; zoo_name.c says who may do
 * what when.
 *
 * Readers (processes that attach) need no lock once `state` says READY: from
 *   then on the constants never change and the object is never made again.
 * Writers (creators) hold the object's lock while they size and initialise it.
 * Crash: a creator that dies leaves an object that is empty, or whose state is
 *   INIT. The next opener gets the lock and makes it again; nobody has it
 *   mapped, because nobody maps an object that is not READY without the lock.
 *
 * Invariants
 *  1. READY is stored last and never taken back.
 *  2. Space is allocated (not only promised) before it is mapped, so that a
 *     full file system is an error here and not a SIGBUS later.
 *  3. All geometry is checked against the object's real size and copied to the
 *     handle; the shared copy is not read again.
 *
 * Edge
 *  E8  the initialised segment, before READY -> state, before everything else
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "zoo_fault.h"
#include "zoo_hash.h"
#include "zoo_layout.h"
#include "zoo_sum.h"

static uint64_t clock_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int map_shared(int fd, size_t size, struct zoo_hdr **out)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    *out = at;
    return at == MAP_FAILED ? ZOO_E_SYSTEM : ZOO_OK;
}

static int allocate(int fd, uint64_t size)
{
    int error;
    if (ftruncate(fd, 0) != 0) /* whatever a dead creator left */
        return ZOO_E_SYSTEM;
    while ((error = posix_fallocate(fd, 0, (off_t)size)) == EINTR) {
    }
    if (error == 0)
        return ZOO_OK;
    if (ftruncate(fd, 0) != 0)
        return ZOO_E_SYSTEM;
    errno = error;
    return error == ENOSPC || error == EFBIG ? ZOO_E_SPACE : ZOO_E_SYSTEM;
}

/*
 * Makes a segment of an object that nobody uses: under its lock, or under a name
 * that is not its own yet. It is not READY before zoo_segment_start(), which gets
 * the first page that is mapped here.
 */
int zoo_segment_make(int fd, uint64_t size, uint64_t entry_size, struct zoo_hdr **out)
{
    struct zoo_hdr *hdr;
    size = size / ZOO_PART_ALIGN * ZOO_PART_ALIGN;
    if (size < ZOO_MIN_SIZE)
        return ZOO_E_SIZE;
    int status = allocate(fd, size);
    if (status != ZOO_OK)
        return status;
    ZOO_FAULT("segment:allocated");
    if (map_shared(fd, ZOO_HEADER_BYTES, &hdr) != ZOO_OK)
        return ZOO_E_SYSTEM;
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
    hdr->wall_us = (clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_BOOTTIME)) / 1000;
    hdr->sum_kind = zoo_sum_has_aes() ? ZOO_SUM_AES : ZOO_SUM_PLAIN;
    zoo_geometry_plan(hdr, size, entry_size);
    if (getrandom(hdr->secret, sizeof hdr->secret, 0) != sizeof hdr->secret)
        hdr->secret[0] = zoo_mix(clock_ns(CLOCK_BOOTTIME) ^ (uint64_t)getpid());
    hdr->constants_sum = zoo_geometry_sum(hdr);
    /* Position 0 is never used, so that no word of a record is zero. */
    zoo_store_relaxed(&hdr->head_probation, ZOO_PART_ALIGN); /* published by E8 */
    zoo_store_relaxed(&hdr->head_main, ZOO_PART_ALIGN);
    zoo_store_relaxed(&hdr->limit_probation, ZOO_PART_ALIGN);
    zoo_store_relaxed(&hdr->limit_main, ZOO_PART_ALIGN);
    *out = hdr;
    return ZOO_OK;
}

/*
 * Nothing can fail any more. The clock starts at `clock`, and so does the root: no
 * stamp of another segment is good here. Nobody hits before `miss_until_ms`.
 */
void zoo_segment_start(struct zoo_hdr *hdr, uint64_t clock, uint64_t miss_until_ms)
{
    zoo_store_relaxed(&hdr->clock, clock); /* published by E8, like all that follows */
    zoo_store_relaxed(&hdr->root, clock);
    zoo_store_relaxed(&hdr->miss_until, miss_until_ms);
    ZOO_FAULT("segment:before-ready");
    zoo_store_release(&hdr->state, ZOO_STATE_READY); /* E8/R */
    munmap(hdr, ZOO_HEADER_BYTES);
}

static uint64_t page_up(uint64_t n)
{
    return (n + ZOO_PART_ALIGN - 1) & ~(uint64_t)(ZOO_PART_ALIGN - 1);
}

static bool map_at(char *at, uint64_t size, int fd, uint64_t offset)
{
    return mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)offset) !=
           MAP_FAILED;
}

static struct zoo_log log_at(char *at, zoo_word *head, zoo_word *limit, uint64_t size,
                             uint64_t renew, uint64_t ghost)
{
    return (struct zoo_log){.words = (zoo_word *)(void *)at,
                            .limit = limit,
                            .size = size,
                            .head = head,
                            .stride = zoo_geometry_stride(size),
                            .longest = zoo_geometry_longest(size),
                            .renew_after = size / 200 * renew,
                            .ghost_reach = size / 200 * ghost};
}

/*
 * Maps all before the main log, the start of probation once more behind it, and
 * the main log likewise:   header, tables, probation | its start | main | its start
 */
static int map_whole(int fd, const struct zoo_hdr *copy, zoo_seg *seg)
{
    const struct zoo_part *probation = &copy->part[ZOO_PART_LOG_PROBATION];
    const struct zoo_part *log = &copy->part[ZOO_PART_LOG_MAIN];
    uint64_t tails[ZOO_LOGS] = {page_up(zoo_geometry_longest(probation->size)),
                                page_up(zoo_geometry_longest(log->size))};
    uint64_t size = log->offset + tails[0] + log->size + tails[1];
    char *base = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return ZOO_E_SYSTEM;
    char *main_at = base + log->offset + tails[0];
    if (!map_at(base, log->offset, fd, 0) ||
        !map_at(base + log->offset, tails[0], fd, probation->offset) ||
        !map_at(main_at, log->size, fd, log->offset) ||
        !map_at(main_at + log->size, tails[1], fd, log->offset)) {
        munmap(base, size);
        return ZOO_E_SYSTEM;
    }
    seg->hdr = (struct zoo_hdr *)(void *)base;
    seg->mapped = size;
    seg->log[ZOO_LOG_PROBATION] =
        log_at(base + probation->offset, &seg->hdr->head_probation, &seg->hdr->limit_probation,
               probation->size, ZOO_PROBATION_RENEW, ZOO_PROBATION_GHOST);
    seg->log[ZOO_LOG_MAIN] = log_at(main_at, &seg->hdr->head_main, &seg->hdr->limit_main, log->size,
                                    ZOO_MAIN_RENEW, ZOO_MAIN_GHOST);
    return ZOO_OK;
}

static void *part_at(const zoo_seg *seg, const struct zoo_hdr *copy, int part)
{
    return (char *)seg->hdr + copy->part[part].offset;
}

static uint64_t mask_of(const struct zoo_hdr *copy, int part, uint64_t item)
{
    return copy->part[part].size / item - 1;
}

/* Everything that a handle keeps of the constants: the shared copy is not read again. */
static void take_constants(const struct zoo_hdr *copy, zoo_seg *seg)
{
    seg->size = copy->size;
    seg->entry_size = copy->entry_size;
    seg->stats = part_at(seg, copy, ZOO_PART_STATS);
    seg->tags = part_at(seg, copy, ZOO_PART_TAGS);
    seg->tag_mask = mask_of(copy, ZOO_PART_TAGS, ZOO_LINE);
    seg->index = part_at(seg, copy, ZOO_PART_INDEX);
    seg->bucket_mask = mask_of(copy, ZOO_PART_INDEX, ZOO_LINE);
    seg->pending = part_at(seg, copy, ZOO_PART_PENDING);
    seg->pending_mask = mask_of(copy, ZOO_PART_PENDING, 8);
    seg->lanes = part_at(seg, copy, ZOO_PART_LANES);
    seg->owners = part_at(seg, copy, ZOO_PART_OWNERS);
    seg->flights = part_at(seg, copy, ZOO_PART_FLIGHTS);
    seg->flight_mask = mask_of(copy, ZOO_PART_FLIGHTS, 8);
    seg->ring = part_at(seg, copy, ZOO_PART_EVENTS);
    seg->ring_mask = mask_of(copy, ZOO_PART_EVENTS, sizeof(struct zoo_event_slot));
    seg->sites = part_at(seg, copy, ZOO_PART_SITES);
    seg->site_mask = mask_of(copy, ZOO_PART_SITES, sizeof(struct zoo_site_slot));
    seg->spans = part_at(seg, copy, ZOO_PART_SPANS);
    seg->sum_kind = copy->sum_kind;
    seg->key_seed = zoo_mix(copy->secret[0]);
    seg->tag_seed = zoo_mix(copy->secret[0] ^ ZOO_LANE_1);
    seg->sum_seed = zoo_mix(copy->secret[1] ^ ZOO_LANE_2);
}

uint64_t zoo_forks;

static void count_fork(void)
{
    zoo_forks++; /* the child has one thread */
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, count_fork);
}

/* Chooses what belongs to the process and not to the handle: its stripe of the counters. */
void zoo_segment_forked(zoo_seg *seg)
{
    uint64_t n = zoo_mix((uint64_t)getpid()) % ZOO_STRIPES;
    seg->stripe = seg->stats + n * ZOO_STATS;
    seg->forks = zoo_forks;
}

/*
 * Copies the header of an object that may not be READY. Read and not mapped:
 * until it is READY, the holder of the lock may truncate the object, and to
 * touch a page that is gone is a SIGBUS. False if it was truncated.
 */
static bool read_header(int fd, uint64_t *state, struct zoo_hdr *copy)
{
    const size_t constants = offsetof(struct zoo_hdr, state);
    if (pread(fd, state, sizeof *state, (off_t)constants) != (ssize_t)sizeof *state)
        return false;
    zoo_fence_acquire(); /* E8/A: the state above, before the constants below */
    uint64_t root;
    if (pread(fd, &root, sizeof root, offsetof(struct zoo_hdr, root)) != (ssize_t)sizeof root)
        return false;
    if (*state == ZOO_STATE_READY && root == ZOO_CLOCK_MASK) /* somebody died while it retired it */
        *state = ZOO_STATE_RETIRED;
    return pread(fd, copy, constants, 0) == (ssize_t)constants;
}

/*
 * Attaches an object; its descriptor stays the caller's, who may give it to the
 * handle. ZOO_MISS: it is empty or half made, and only the holder of the lock may
 * do something about it. ZOO_RETIRED: likewise.
 */
int zoo_segment_attach(int fd, bool retired_too, zoo_seg **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct stat st;
    struct zoo_hdr copy;
    uint64_t state;
    if (fstat(fd, &st) != 0)
        return ZOO_E_SYSTEM;
    uint64_t object_size = (uint64_t)st.st_size;
    if (object_size == 0)
        return ZOO_MISS;
    if (object_size < ZOO_HEADER_BYTES)
        return ZOO_E_TRUNCATED;
    ZOO_FAULT("segment:attaching");
    if (!read_header(fd, &state, &copy))
        return ZOO_MISS;
    if (state == ZOO_STATE_INIT && (copy.magic == 0 || copy.magic == ZOO_MAGIC))
        return ZOO_MISS;
    int status = zoo_geometry_inspect(&copy, object_size);
    if (status == ZOO_OK && state != ZOO_STATE_READY &&
        !(retired_too && state == ZOO_STATE_RETIRED))
        status = state == ZOO_STATE_RETIRED ? ZOO_RETIRED : ZOO_E_GARBLED;
    if (status != ZOO_OK)
        return status;
    zoo_seg *seg = calloc(1, sizeof *seg);
    if (seg == NULL)
        return ZOO_E_MEMORY;
    status = map_whole(fd, &copy, seg);
    if (status != ZOO_OK) {
        free(seg);
        return status;
    }
    take_constants(&copy, seg);
    pthread_once(&once, watch_forks);
    zoo_segment_forked(seg);
    seg->inode = (uint64_t)st.st_ino;
    seg->fd = -1;
    *out = seg;
    return ZOO_OK;
}

void zoo_segment_detach(zoo_seg *seg)
{
    munmap(seg->hdr, seg->mapped);
    free(seg);
}

uint64_t zoo_size(const zoo_seg *seg)
{
    return seg->size;
}

uint64_t zoo_entry_size(const zoo_seg *seg)
{
    return seg->entry_size;
}

uint64_t zoo_max_record(const zoo_seg *seg)
{
    return seg->log[ZOO_LOG_MAIN].longest;
}

void zoo_skew(zoo_seg *seg, int64_t ms)
{
    int64_t decade = (int64_t)10 * 366 * 86400 * 1000;
    seg->skew_ms = ms > decade ? decade : ms < -decade ? -decade : ms;
}
