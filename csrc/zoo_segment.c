/*
 * zoo_segment.c - create, attach, detach: nobody sees a half-built segment.
 *
 * A segment is a POSIX shared-memory object named from the effective user and
 * the configured name, mode 0600.
 *
 * Readers (processes that attach) need no lock once `state` says READY: from
 *   then on the constants never change and the object is never made again.
 * Writers (creators) hold an exclusive flock on the object while they size and
 *   initialise it. The kernel drops it when they die.
 * Reclaim: the object lives until its name is unlinked and all mappings end.
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
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "zoo_fault.h"
#include "zoo_hash.h"
#include "zoo_layout.h"

enum { NAME_BYTES = 256, POLL_MS = 5 };

static int object_name(const char *name, char *out)
{
    int n = snprintf(out, NAME_BYTES, "/zoocache-%lu-%s", (unsigned long)geteuid(), name);
    return n > 0 && n < NAME_BYTES && strchr(name, '/') == NULL ? ZOO_OK : ZOO_E_ARGUMENT;
}

static uint64_t power_of_two_below(uint64_t n, uint64_t least, uint64_t most)
{
    uint64_t power = least;
    while (power * 2 <= n && power < most)
        power *= 2;
    return power;
}

static uint64_t constants_sum(const struct zoo_hdr *hdr)
{
    return zoo_hash((const char *)hdr, offsetof(struct zoo_hdr, constants_sum), ZOO_PRIME);
}

/* Places the parts one behind the other; the main log gets what is left. */
static void plan(struct zoo_hdr *hdr, uint64_t size)
{
    uint64_t sizes[ZOO_PARTS] = {
        [ZOO_PART_STATS] = ZOO_STRIPES * ZOO_STATS * 8,
        [ZOO_PART_TAGS] = power_of_two_below(size / 16384, 64, 65536) * ZOO_LINE,
        [ZOO_PART_INDEX] = power_of_two_below(size / 1024, 64, 1ull << 32) * ZOO_LINE,
    };
    uint64_t at = 4096;
    for (int i = 0; i < ZOO_PART_LOG_PROBATION; i++) {
        hdr->part[i] = (struct zoo_part){at, sizes[i]};
        at += (sizes[i] + ZOO_LINE - 1) & ~(uint64_t)(ZOO_LINE - 1);
    }
    at = (at + ZOO_PART_ALIGN - 1) & ~(uint64_t)(ZOO_PART_ALIGN - 1);
    hdr->part[ZOO_PART_LOG_PROBATION] = (struct zoo_part){at, 0};
    hdr->part[ZOO_PART_LOG_MAIN] = (struct zoo_part){at, size - at};
    hdr->size = size;
}

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

/* Under the lock. */
static int initialise(int fd, uint64_t size)
{
    struct zoo_hdr *hdr;
    size = size / ZOO_PART_ALIGN * ZOO_PART_ALIGN;
    if (size < ZOO_MIN_SIZE)
        return ZOO_E_SIZE;
    int status = allocate(fd, size);
    if (status != ZOO_OK)
        return status;
    ZOO_FAULT("segment:allocated");
    if (map_shared(fd, 4096, &hdr) != ZOO_OK)
        return ZOO_E_SYSTEM;
    hdr->magic = ZOO_MAGIC;
    hdr->layout_version = ZOO_LAYOUT_VERSION;
    hdr->header_size = sizeof *hdr;
    hdr->boot_ns = clock_ns(CLOCK_BOOTTIME);
    hdr->wall_us = clock_ns(CLOCK_REALTIME) / 1000;
    plan(hdr, size);
    if (getrandom(hdr->secret, sizeof hdr->secret, 0) != sizeof hdr->secret)
        hdr->secret[0] = zoo_mix(hdr->boot_ns ^ (uint64_t)getpid());
    hdr->constants_sum = constants_sum(hdr);
    zoo_store_relaxed(&hdr->clock, 1); /* stamp 0 means "none"; published by E8 */
    /* Position 0 is never used, so that no word of a record is zero. */
    zoo_store_relaxed(&hdr->head_probation, ZOO_PART_ALIGN);
    zoo_store_relaxed(&hdr->head_main, ZOO_PART_ALIGN);
    ZOO_FAULT("segment:before-ready");
    zoo_store_release(&hdr->state, ZOO_STATE_READY); /* E8/R */
    munmap(hdr, 4096);
    return ZOO_OK;
}

static bool part_is_sound(const struct zoo_hdr *hdr, int id, uint64_t align, bool power_of_two)
{
    const struct zoo_part *part = &hdr->part[id];
    bool fits = part->offset % align == 0 && part->offset >= sizeof *hdr &&
                part->offset <= hdr->size && part->size <= hdr->size - part->offset;
    if (!power_of_two)
        return fits;
    uint64_t lines = part->size / ZOO_LINE;
    return fits && lines > 0 && (lines & (lines - 1)) == 0 && part->size % ZOO_LINE == 0;
}

/* Is this private copy of a header one that this code can use? */
static int inspect(const struct zoo_hdr *hdr, uint64_t object_size)
{
    if (hdr->magic != ZOO_MAGIC || hdr->layout_version != ZOO_LAYOUT_VERSION ||
        hdr->header_size != sizeof *hdr)
        return ZOO_E_FORMAT;
    if (hdr->constants_sum != constants_sum(hdr))
        return ZOO_E_GARBLED;
    if (object_size < hdr->size)
        return ZOO_E_TRUNCATED;
    const struct zoo_part *main_log = &hdr->part[ZOO_PART_LOG_MAIN];
    bool sound = part_is_sound(hdr, ZOO_PART_STATS, ZOO_LINE, false) &&
                 hdr->part[ZOO_PART_STATS].size == ZOO_STRIPES * ZOO_STATS * 8 &&
                 part_is_sound(hdr, ZOO_PART_TAGS, ZOO_LINE, true) &&
                 part_is_sound(hdr, ZOO_PART_INDEX, ZOO_LINE, true) &&
                 part_is_sound(hdr, ZOO_PART_LOG_MAIN, ZOO_PART_ALIGN, false) &&
                 main_log->size >= ZOO_PART_ALIGN && main_log->size % ZOO_PART_ALIGN == 0;
    return sound ? ZOO_OK : ZOO_E_GARBLED;
}

/* The longest record: an eighth of the log, and never over 1 GiB. */
static uint64_t longest_record(uint64_t log_size)
{
    uint64_t bytes = log_size / 8;
    return bytes < 1u << 30 ? bytes : 1u << 30;
}

static zoo_word *words_at(const zoo_seg *seg, const struct zoo_hdr *copy, int part)
{
    return (zoo_word *)(void *)((char *)seg->hdr + copy->part[part].offset);
}

/* Maps the whole object, and the start of the log once more behind its end. */
static int map_whole(int fd, const struct zoo_hdr *copy, zoo_seg *seg)
{
    const struct zoo_part *log = &copy->part[ZOO_PART_LOG_MAIN];
    uint64_t tail =
        (longest_record(log->size) + ZOO_PART_ALIGN - 1) & ~(uint64_t)(ZOO_PART_ALIGN - 1);
    uint64_t end = log->offset + log->size;
    char *base =
        mmap(NULL, end + tail, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return ZOO_E_SYSTEM;
    if (mmap(base, end, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
        mmap(base + end, tail, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
             (off_t)log->offset) == MAP_FAILED) {
        munmap(base, end + tail);
        return ZOO_E_SYSTEM;
    }
    seg->hdr = (struct zoo_hdr *)(void *)base;
    seg->mapped = end + tail;
    seg->size = copy->size;
    seg->stats = words_at(seg, copy, ZOO_PART_STATS);
    seg->tags = words_at(seg, copy, ZOO_PART_TAGS);
    seg->tag_mask = copy->part[ZOO_PART_TAGS].size / ZOO_LINE - 1;
    seg->index = words_at(seg, copy, ZOO_PART_INDEX);
    seg->bucket_mask = copy->part[ZOO_PART_INDEX].size / ZOO_LINE - 1;
    seg->log[ZOO_LOG_MAIN] =
        (struct zoo_log){words_at(seg, copy, ZOO_PART_LOG_MAIN), &seg->hdr->head_main, log->size};
    seg->max_record = longest_record(log->size);
    seg->boot_ns = copy->boot_ns;
    seg->key_seed = zoo_mix(copy->secret[0]);
    seg->tag_seed = zoo_mix(copy->secret[0] ^ ZOO_LANE_1);
    seg->sum_seed = zoo_mix(copy->secret[1] ^ ZOO_LANE_2);
    return ZOO_OK;
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
    return pread(fd, copy, constants, 0) == (ssize_t)constants;
}

/*
 * Attaches an object. ZOO_MISS: it is empty or half made, and only the holder
 * of the lock may do something about it.
 */
static int attach(int fd, zoo_seg **out)
{
    struct stat st;
    struct zoo_hdr copy;
    uint64_t state;
    if (fstat(fd, &st) != 0)
        return ZOO_E_SYSTEM;
    uint64_t object_size = (uint64_t)st.st_size;
    if (object_size == 0)
        return ZOO_MISS;
    if (object_size < 4096)
        return ZOO_E_TRUNCATED;
    ZOO_FAULT("segment:attaching");
    if (!read_header(fd, &state, &copy))
        return ZOO_MISS;
    if (state == ZOO_STATE_INIT && (copy.magic == 0 || copy.magic == ZOO_MAGIC))
        return ZOO_MISS;
    int status = inspect(&copy, object_size);
    if (status == ZOO_OK && state != ZOO_STATE_READY)
        status = ZOO_E_GARBLED;
    if (status != ZOO_OK)
        return status;
    zoo_seg *seg = calloc(1, sizeof *seg);
    if (seg == NULL)
        return ZOO_E_MEMORY;
    status = map_whole(fd, &copy, seg);
    if (status == ZOO_OK)
        *out = seg;
    else
        free(seg);
    return status;
}

static int check_owner(int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return ZOO_E_SYSTEM;
    if (st.st_uid != geteuid())
        return ZOO_E_OWNER;
    return S_ISREG(st.st_mode) && (st.st_mode & 077) == 0 ? ZOO_OK : ZOO_E_MODE;
}

static int open_object(const char *object, bool create, int *fd)
{
    int flags = O_RDWR | O_NOFOLLOW | O_CLOEXEC | (create ? O_CREAT : 0);
    *fd = shm_open(object, flags, 0600);
    if (*fd >= 0)
        return ZOO_OK;
    if (errno == ENOENT)
        return ZOO_E_NO_SEGMENT;
    if (errno == ELOOP || errno == EINVAL) /* a link has the name, or (in glibc) a directory */
        return ZOO_E_FORMAT;
    return errno == EACCES || errno == EPERM ? ZOO_E_OWNER : ZOO_E_SYSTEM;
}

/* Bounded: a creator that was stopped must not hang a start. */
static int lock(int fd, uint32_t wait_ms)
{
    for (uint32_t waited = 0;; waited += POLL_MS) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return ZOO_OK;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return ZOO_E_SYSTEM;
        if (waited >= wait_ms)
            return ZOO_E_BUSY;
        struct timespec pause = {0, POLL_MS * 1000000L};
        nanosleep(&pause, NULL);
    }
}

/* Does the name still lead to the object that was locked? */
static bool still_named(const char *object, int fd)
{
    struct stat locked, named;
    int other = shm_open(object, O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0);
    bool same = other >= 0 && fstat(fd, &locked) == 0 && fstat(other, &named) == 0 &&
                locked.st_ino == named.st_ino && locked.st_dev == named.st_dev;
    if (other >= 0)
        close(other);
    return same;
}

/* One try. ZOO_MISS: the name changed under us, try again. */
static int open_once(const char *object, uint64_t size, uint32_t wait_ms, zoo_seg **out)
{
    int fd;
    int status = open_object(object, size > 0, &fd);
    if (status != ZOO_OK)
        return status;
    status = check_owner(fd);
    if (status == ZOO_OK)
        status = attach(fd, out);
    if (status == ZOO_MISS && size == 0)
        status = ZOO_E_NO_SEGMENT;
    if (status == ZOO_MISS) {
        status = lock(fd, wait_ms);
        if (status == ZOO_OK && !still_named(object, fd))
            status = ZOO_MISS;
        else if (status == ZOO_OK && (status = attach(fd, out)) == ZOO_MISS &&
                 (status = initialise(fd, size)) == ZOO_OK)
            status = attach(fd, out);
    }
    int error = errno;
    flock(fd, LOCK_UN); /* closing would not: the mapping keeps the open file, and its lock */
    close(fd);
    errno = error;
    return status;
}

int zoo_open(const char *name, uint64_t size, uint32_t wait_ms, zoo_seg **out)
{
    char object[NAME_BYTES];
    *out = NULL;
    if (object_name(name, object) != ZOO_OK)
        return ZOO_E_ARGUMENT;
    if (size != 0 && size < ZOO_MIN_SIZE)
        return ZOO_E_SIZE;
    int status = ZOO_MISS;
    for (int attempt = 0; attempt < 16 && status == ZOO_MISS; attempt++)
        status = open_once(object, size, wait_ms, out);
    return status == ZOO_MISS ? ZOO_E_BUSY : status;
}

void zoo_close(zoo_seg *seg)
{
    if (seg == NULL)
        return;
    munmap(seg->hdr, seg->mapped);
    free(seg);
}

int zoo_unlink(const char *name)
{
    char object[NAME_BYTES];
    if (object_name(name, object) != ZOO_OK)
        return ZOO_E_ARGUMENT;
    if (shm_unlink(object) == 0)
        return ZOO_OK;
    return errno == ENOENT ? ZOO_MISS : ZOO_E_SYSTEM;
}

uint64_t zoo_size(const zoo_seg *seg)
{
    return seg->size;
}

uint64_t zoo_max_record(const zoo_seg *seg)
{
    return seg->max_record;
}

void zoo_skew(zoo_seg *seg, int64_t ms)
{
    seg->skew_ms = ms;
}
