/*
 * zoo_retire.c - the end of a segment: another size, another layout, a lost name.
 *
 * Whoever retires a segment sets its root and its clock to the end of time: from
 * then on every entry in it is stale and no stamp is good, so that a hit needs no
 * look at `state`. Then it says so in `state`. Every process sees it at its next
 * miss, store or invalidation, and opens the name again.
 *
 * Replacing a segment, under the lock of the old object:
 *   1. make the successor under another name, so that no room is an early error;
 *   2. retire the old one; everybody misses;
 *   3. wait until no commit is announced in it: an announcement that nobody reads
 *      protects nothing. If one lasts, nobody may hit in the successor for as
 *      long as its quarantine would, and for a minute at least;
 *   4. start the successor's clock and root above the old clock, make it READY,
 *      and rename it over the old one. None of this needs room any more.
 * Entries are not copied.
 *
 * Writers that find `state` RETIRED after they raised their tags raise them in the
 *   successor as well. Where the name still leads to the old segment there is no
 *   successor yet, and no fill in it has begun.
 * Crash: at any step the name leads to the old segment or to a READY successor.
 *   An old one that is RETIRED is replaced by the next process that opens it, and
 *   so is one whose root alone says so; those who have it mapped end what was
 *   begun.
 *
 * A segment may lose its name behind everybody's back: `rm`, or systemd's
 * RemoveIPC at a logout. Those who have it mapped and those who open the name
 * would then invalidate apart from each other. The first process that sees a link
 * count of 0 retires the segment for all who have it.
 *   Who invalidates, announces or settles looks when its words are written, unless
 * its process looked less than ZOO_LOOK_NS before it began. That look will do: whoever
 * makes a segment under a free name waits for ZOO_LOOK_NS before it is READY. So none
 * that took this one's place was READY when the invalidation began, and all that is
 * computed in such a one begins later.
 *   Who reads or stores looks once a second, but no more often than it misses, stores,
 * changes an entry, or makes 64 hits. For so long it does not see what others drop.
 *
 * Another layout: the words that retire a segment lie where its header's first
 * line says, in every version. A newer version retires an older one's segment.
 * An older version cannot read a newer one's, but it can clear it: that is what
 * its invalidations do.
 * So does a newer one with an older one's that it may not replace, because a group
 * shares it and its file is another user's. What must be replaced is looked at before
 * it is retired: who may not rename over it leaves it as it is, and makes nobody miss.
 *
 * Invariants (model: docs/design/models/retirement.pml)
 *  1. The clock of a retired segment never changes again, and `retired_clock` is
 *     not below what it was.
 *  2. A successor is not seen before its predecessor is retired.
 *  3. When an invalidation returns anything but ZOO_RETIRED, it began before there
 *     was a fill in any other segment of the name.
 *
 * Edges
 *  E16 root, clock and `state`, then the lanes <-> a lane, then `state` (Dekker):
 *      an announcement is seen by the replacer, or sees that it is too late.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "zoo_fault.h"
#include "zoo_lane.h"

/* How long nobody hits in a successor if commits were under way that cannot be waited for. */
enum { QUARANTINE_MS = 60000, POLL_MS = 5, WATCH_MS = 1000, ATTEMPTS = 16 };

/* For how long a look at the link count will do. A system call a millisecond costs nothing. */
#ifndef ZOO_LOOK_NS /* the fuzzers make thousands of segments */
#define ZOO_LOOK_NS 1000000ull
#endif

static uint64_t coarse_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now); /* some 10 ns cheaper than an exact one */
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* The words of a header of any version that retire or clear a segment. */
struct words {
    void *page;
    zoo_word *state, *clock, *root, *lanes, *events, *retired_clock;
};

static zoo_word *word_at(void *page, uint32_t at)
{
    return at % 8 == 0 && at <= ZOO_HEADER_BYTES - 8 ? (zoo_word *)(void *)((char *)page + at)
                                                     : NULL;
}

static int map_words(int fd, struct words *words)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_size < (off_t)ZOO_HEADER_BYTES)
        return ZOO_E_FORMAT;
    words->page = mmap(NULL, ZOO_HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (words->page == MAP_FAILED)
        return ZOO_E_SYSTEM;
    const struct zoo_hdr *hdr = words->page;
    struct zoo_stable at = hdr->stable; /* a private copy: shared memory is not trusted */
    words->state = word_at(words->page, at.state_at);
    words->clock = word_at(words->page, at.clock_at);
    words->root = word_at(words->page, at.root_at);
    words->lanes = word_at(words->page, at.lanes_at);
    words->events = word_at(words->page, at.events_at);
    words->retired_clock = word_at(words->page, at.retired_clock_at);
    if (hdr->magic == ZOO_MAGIC && hdr->layout_version >= ZOO_LAYOUT_FIRST && words->state &&
        words->clock && words->root && words->lanes && words->events && words->retired_clock)
        return ZOO_OK;
    munmap(words->page, ZOO_HEADER_BYTES);
    return ZOO_E_FORMAT;
}

/* Ends a segment. Returns a clock that is not below its last one. E3/R, E6/R; E16 at the end. */
static uint64_t retire(const struct words *words)
{
    zoo_max_release(words->root, ZOO_CLOCK_MASK);
    uint64_t last;
    do {
        last = zoo_load_acquire(words->clock);
        if (last != ZOO_CLOCK_MASK)
            zoo_max_release(words->retired_clock, last); /* before the clock forgets it */
    } while (!zoo_cas_seq_cst(words->clock, last, ZOO_CLOCK_MASK));
    ZOO_FAULT("retire:clock-stopped");
    zoo_exchange_seq_cst(words->state, ZOO_STATE_RETIRED); /* E16 */
    zoo_add_seq_cst(words->events, 1);
    zoo_fence_seq_cst(); /* E16 */
    return zoo_load_acquire(words->retired_clock);
}

void zoo_retire_end(zoo_seg *seg)
{
    struct zoo_hdr *hdr = seg->hdr;
    struct words words = {
        hdr,          &hdr->state,        &hdr->clock, &hdr->root, &hdr->active_lanes,
        &hdr->events, &hdr->retired_clock};
    retire(&words);
}

/* Has the object lost its name? */
static bool is_nameless(zoo_seg *seg)
{
    struct stat st;
    /* Some daemons close all descriptors: then this one may be another file, and says nothing. */
    return fstat(seg->fd, &st) == 0 && (uint64_t)st.st_ino == seg->inode && st.st_nlink == 0;
}

/* Has the object lost its name, or did somebody die while it retired the segment? E3/A */
static bool is_to_be_retired(zoo_seg *seg)
{
    return zoo_load_acquire(&seg->hdr->root) == ZOO_CLOCK_MASK || is_nameless(seg);
}

static void look(zoo_seg *seg, uint64_t boot_ns)
{
    if (!zoo_retire_noticed(seg) && is_to_be_retired(seg))
        zoo_retire_end(seg);
    /* Only now: another thread may trust it. Relaxed: it is private, and orders nothing. */
    zoo_store_relaxed(&seg->looked_ns, boot_ns);
}

/* For who reads or stores. */
void zoo_retire_watch(zoo_seg *seg)
{
    uint64_t now = coarse_ms();
    if (now < zoo_load_relaxed(&seg->watch_ms)) /* private, but threads share it */
        return;
    zoo_store_relaxed(&seg->watch_ms, now + WATCH_MS);
    look(seg, zoo_hlc_boot_ns());
}

/*
 * For who has invalidated, or announced, and began to at `boot_ns` or later: must it
 * be done in another segment, too? Invariant 3.
 */
bool zoo_retire_look(zoo_seg *seg, uint64_t boot_ns)
{
    uint64_t looked = zoo_load_relaxed(&seg->looked_ns); /* private, but threads share it */
    if (boot_ns - looked >= ZOO_LOOK_NS)
        look(seg, boot_ns);
    return zoo_retire_noticed(seg); /* E16: after the fence */
}

/* The name was free. Those who looked at another segment of it must look again: invariant 3. */
void zoo_retire_outwait(void)
{
    uint64_t end = zoo_hlc_boot_ns() + ZOO_LOOK_NS;
    for (uint64_t now; (now = zoo_hlc_boot_ns()) < end;) {
        struct timespec left = {0, (long)(end - now)};
        nanosleep(&left, NULL); /* a signal may end it */
    }
}

int zoo_retired(zoo_seg *seg)
{
    look(seg, zoo_hlc_boot_ns());
    return zoo_retire_noticed(seg);
}

static void pause_ms(long ms)
{
    struct timespec pause = {0, ms * 1000000L};
    nanosleep(&pause, NULL);
}

/*
 * Waits until the old segment's commits are settled. Returns the time before
 * which nobody may hit in the successor: because of commits that are not, or
 * that never had a lane.
 */
static uint64_t drain(const char *object, int fd, const struct words *words, uint32_t wait_ms)
{
    uint64_t miss_until = 0;
    zoo_seg *old = NULL; /* of another layout: its lanes cannot be read, only counted */
    bool readable = zoo_segment_attach(fd, true, &old) == ZOO_OK;
    if (readable) /* who is no owner takes no lane over; then the wait is all there is */
        zoo_owner_attach(old, object);
    /* E16: after the fence of retire() */
    for (uint32_t waited = 0; zoo_load_acquire(words->lanes) != 0; waited += POLL_MS) {
        if (readable && zoo_reap(old) > 0)
            continue;
        if (waited >= wait_ms)
            break;
        pause_ms(POLL_MS);
    }
    if (zoo_load_acquire(words->lanes) != 0) { /* E16 */
        uint64_t longest = readable ? zoo_lane_longest(old) : 0;
        miss_until =
            zoo_hlc_boot_ns() / 1000000 + (longest > QUARANTINE_MS ? longest : QUARANTINE_MS);
    }
    if (readable) {
        uint64_t without_lane = zoo_load_acquire(&old->hdr->miss_until); /* E10/A, E16 */
        if (without_lane > miss_until)
            miss_until = without_lane;
        zoo_owner_release(old);
        zoo_segment_detach(old);
    }
    return miss_until;
}

/* Step 4. ZOO_MISS: the names lead elsewhere by now. */
static int rename_over(const char *next, int fd, const char *object, int old_fd)
{
    char from[ZOO_NAME_BYTES + 32], to[ZOO_NAME_BYTES + 32];
    /* Somebody removed the old one, and others may be in another already: they would lose it. */
    if (!zoo_name_leads_to(object, old_fd) || !zoo_name_leads_to(next, fd))
        return ZOO_MISS;
    snprintf(from, sizeof from, "/dev/shm%s", next);
    snprintf(to, sizeof to, "/dev/shm%s", object);
    if (rename(from, to) == 0)
        return ZOO_OK;
    return errno == EPERM || errno == EACCES ? ZOO_E_STICKY : ZOO_E_SYSTEM;
}

/* The successor's file: of the same owner, also where root makes it. */
static int make_next(const char *next, int old_fd)
{
    struct stat old;
    bool gives = geteuid() == 0 && fstat(old_fd, &old) == 0;
    return zoo_name_file(next, O_CREAT | O_EXCL, gives ? old.st_uid : (uid_t)-1);
}

/*
 * The steps of replacing. The caller holds the lock of `old_fd`, which has the
 * name. ZOO_MISS: the old one is retired, but it had lost its name meanwhile.
 */
int zoo_retire_replace(const char *object, int old_fd, uint64_t size, uint64_t entry_size,
                       uint32_t wait_ms)
{
    char next[ZOO_NAME_BYTES + 8];
    struct words words;
    struct zoo_hdr *hdr;
    if (!zoo_name_is_mine(old_fd))
        return ZOO_E_STICKY;
    snprintf(next, sizeof next, "%s.next", object);
    bool sticks = shm_unlink(next) != 0 && errno != ENOENT; /* of a replacer that died */
    int status = sticks ? ZOO_E_STICKY : map_words(old_fd, &words);
    if (status != ZOO_OK)
        return status;
    int fd = make_next(next, old_fd);
    status = fd < 0 ? ZOO_E_SYSTEM : zoo_segment_make(fd, size, entry_size, &hdr); /* step 1 */
    if (status == ZOO_OK) {
        uint64_t clock = retire(&words); /* step 2 */
        ZOO_FAULT("retire:retired");
        uint64_t miss_until = drain(object, old_fd, &words, wait_ms); /* step 3 */
        uint64_t now = zoo_hlc_physical();
        zoo_segment_start(hdr, (clock > now ? clock : now) + 1, miss_until);
        ZOO_FAULT("retire:before-rename");
        status = rename_over(next, fd, object, old_fd);
    }
    if (status != ZOO_OK)
        shm_unlink(next);
    if (fd >= 0)
        close(fd);
    munmap(words.page, ZOO_HEADER_BYTES);
    return status;
}

int zoo_resize_for(const char *name, uint64_t size, uint64_t entry_size, uint32_t wait_ms)
{
    char object[ZOO_NAME_BYTES];
    int fd;
    if (size < ZOO_MIN_SIZE)
        return ZOO_E_SIZE;
    int status = ZOO_MISS;
    for (int attempt = 0; attempt < ATTEMPTS && status == ZOO_MISS; attempt++) {
        status = zoo_name_lock(name, wait_ms, object, &fd);
        if (status != ZOO_OK)
            return status;
        status = zoo_retire_replace(object, fd, size, entry_size, wait_ms);
        zoo_name_unlock(fd);
    }
    return status == ZOO_MISS ? ZOO_E_BUSY : status;
}

int zoo_resize(const char *name, uint64_t size, uint32_t wait_ms)
{
    return zoo_resize_for(name, size, 0, wait_ms);
}

/* Retires whatever segment an object is; safe without its lock. */
static void retire_object(int fd)
{
    struct words words;
    if (map_words(fd, &words) != ZOO_OK)
        return;
    retire(&words);
    munmap(words.page, ZOO_HEADER_BYTES);
}

int zoo_unlink(const char *name)
{
    char object[ZOO_NAME_BYTES], next[ZOO_NAME_BYTES + 8];
    int fd;
    int status = zoo_name_lock(name, 1000, object, &fd);
    bool locked = status == ZOO_OK;
    if (status == ZOO_E_ARGUMENT)
        return status;
    if (status == ZOO_E_NO_SEGMENT) {
        zoo_owner_unlink(object); /* somebody removed the segment alone */
        return ZOO_MISS;
    }
    if (locked && !zoo_name_is_mine(fd)) {
        zoo_name_unlock(fd);
        return ZOO_E_STICKY;
    }
    if (locked) {
        retire_object(fd);
        snprintf(next, sizeof next, "%s.next", object); /* or it may be a living replacer's */
        shm_unlink(next);
        zoo_owner_unlink(object);
    } else if (zoo_name_open(name, object, &fd) == ZOO_OK) { /* whoever has the lock is stuck */
        bool mine = zoo_name_is_mine(fd);
        if (mine)
            retire_object(fd);
        close(fd);
        if (!mine)
            return ZOO_E_STICKY;
    }
    /* Whatever else has the name, half made or somebody's, goes too. */
    status = shm_unlink(object) == 0 ? ZOO_OK : errno == ENOENT ? ZOO_MISS : ZOO_E_SYSTEM;
    if (status == ZOO_E_SYSTEM && (errno == EPERM || errno == EACCES))
        status = ZOO_E_STICKY;
    if (status == ZOO_OK && !locked)
        zoo_owner_unlink(object);
    if (locked) /* to the end: the name that went must not have been a successor's by then */
        zoo_name_unlock(fd);
    return status;
}

int zoo_clear_foreign(const char *name)
{
    char object[ZOO_NAME_BYTES];
    struct words words;
    int fd;
    int status = zoo_name_open(name, object, &fd);
    if (status != ZOO_OK)
        return status;
    status = map_words(fd, &words);
    if (status == ZOO_OK) {
        uint64_t last;
        do
            last = zoo_load_acquire(words.clock); /* E6/A */
        while (last != ZOO_CLOCK_MASK && !zoo_cas_seq_cst(words.clock, last, last + 1));
        zoo_max_release(words.root, last == ZOO_CLOCK_MASK ? last : last + 1); /* E3/R */
        zoo_add_seq_cst(words.events, 1);
        zoo_fence_seq_cst();
        munmap(words.page, ZOO_HEADER_BYTES);
    }
    close(fd);
    return status;
}
