/*
 * zoo_owner.c - who is alive: one slot for each process that uses a segment.
 *
 * A slot is one byte of a lock file beside the segment, held under a POSIX
 * record lock. The kernel drops it when the process dies, whatever kills it and
 * before anybody reaps the zombie; it knows no pid namespaces; and a forked
 * child does not inherit it. Flights and lanes name their *owner*:
 *
 *     owner = generation : 20 | slot : 10
 *
 * The generation word of a slot is in the segment. Whoever takes the slot adds
 * one, so that all that names an older generation is known to be dead.
 *
 * Readers ask whether an owner lives: its generation is the slot's, and the
 *   byte is locked. The question costs a system call.
 * Writers: the holder of a slot's lock alone changes its generation.
 * Reclaim: none; a slot is taken again by locking it.
 * Crash: between the lock and the generation, nothing names the new holder
 *   yet; the words of the one before look alive until this one is dead too, or
 *   its generation is counted. That delays a repair, and harms nothing.
 *
 * A process loses its record locks when it closes *any* descriptor of the file.
 * So a process opens the file once, for all its handles, and closes it with the
 * last of them; it is kept by inode, never by name. A child uses the descriptor
 * that it inherits: record locks belong to the process, not to the descriptor.
 *
 * The header keeps the inode of the lock file that was there first. A process
 * that finds another (somebody removed the file alone) would take slots that
 * are held in the first: it must not use the segment. When the file is removed
 * together with the segment, the segment is retired, and its successor gets the
 * inode of the next lock file.
 *
 * Invariants
 *  1. An owner is named only by a process that holds its slot's lock.
 *  2. zoo_owner_alive() answers "dead" only if it is: when in doubt, "alive".
 *  3. All handles of a process on a segment have one owner and one serial, so
 *     no two words of theirs are equal.
 *
 * Edge
 *  E13  the generation, before a word that names it -> that word, before the generation
 *  E17  within a process: its owner, before `taken` -> `taken`, before the owner
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "zoo_fault.h"
#include "zoo_hash.h"
#include "zoo_layout.h"

enum { PATH_BYTES = 320, RETRY_MS = 1000, NO_SLOT = -1 };

#define SLOT_MASK (ZOO_OWNERS - 1u)
#define GENERATION_MASK ((1ull << ZOO_GENERATION_BITS) - 1)

/* A lock file that this process has open. */
struct lock_file {
    struct lock_file *next;
    dev_t dev;
    ino_t ino;
    int fd;
    int uses;
    int slot;       /* the byte that is locked, if `taken` is of this process */
    uint64_t taken; /* zoo_forks + 1 when it was locked; 0: never */
};

/* A segment that this process has attached. */
struct zoo_member {
    struct zoo_member *next;
    uint64_t identity[2]; /* made from the segment's secret */
    struct lock_file *file;
    int uses;
    uint64_t retry_ms; /* when to look for a free slot again */
    zoo_word taken;    /* zoo_forks + 1 when `owner` was made; 0: never */
    zoo_word owner;
    zoo_word serial;
};

/* For the lists, and for taking a slot. Held across a fork, so that the child can use it. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t guarded = PTHREAD_ONCE_INIT;
static struct lock_file *files;
static struct zoo_member *members;

static void enter(void)
{
    pthread_mutex_lock(&gate);
}

static void leave(void)
{
    pthread_mutex_unlock(&gate);
}

static void guard_forks(void)
{
    pthread_atfork(enter, leave, leave);
}

/* Is the descriptor still the lock file? Daemons close every descriptor, and numbers are reused. */
static bool is_open(const struct lock_file *file)
{
    struct stat st;
    return fstat(file->fd, &st) == 0 && st.st_dev == file->dev && st.st_ino == file->ino;
}

static struct lock_file *find_file(const struct stat *st)
{
    struct lock_file *file = files;
    while (file != NULL && (file->dev != st->st_dev || file->ino != st->st_ino || !is_open(file)))
        file = file->next;
    return file;
}

static void drop_file(struct lock_file *file)
{
    if (--file->uses > 0)
        return;
    struct lock_file **at = &files;
    while (*at != file)
        at = &(*at)->next;
    *at = file->next;
    if (is_open(file))
        close(file->fd);
    free(file);
}

static int lock_path(const char *object, char *path)
{
    int n = snprintf(path, PATH_BYTES, "%s.lock", object);
    return n > 0 && n < PATH_BYTES ? ZOO_OK : ZOO_E_ARGUMENT;
}

/* Opens a file that this process does not have open, as far as its name tells. */
static int open_file(const char *path, struct lock_file **out)
{
    struct stat st;
    int fd = zoo_name_file(path, O_CREAT, (uid_t)-1);
    if (fd < 0)
        return errno == EACCES || errno == EPERM ? ZOO_E_OWNER : ZOO_E_SYSTEM;
    int status = fstat(fd, &st) == 0 ? zoo_name_judge(path, &st) : ZOO_E_SYSTEM;
    if (status != ZOO_OK) { /* a lock of this process was never on it */
        close(fd);
        return status;
    }
    if ((*out = find_file(&st)) != NULL)
        return ZOO_OK; /* renamed to and fro: the descriptor is lost, or the locks would be */
    if ((*out = calloc(1, sizeof **out)) == NULL) {
        close(fd);
        return ZOO_E_MEMORY;
    }
    **out = (struct lock_file){files, st.st_dev, st.st_ino, fd, 0, NO_SLOT, 0};
    files = *out;
    return ZOO_OK;
}

/* The lock file of an object, opened at most once. */
static int use_file(const char *object, struct lock_file **out)
{
    char path[PATH_BYTES], full[PATH_BYTES + 16];
    struct stat st;
    if (lock_path(object, path) != ZOO_OK)
        return ZOO_E_ARGUMENT;
    snprintf(full, sizeof full, "/dev/shm%s", path);
    *out = lstat(full, &st) == 0 ? find_file(&st) : NULL;
    int status = *out != NULL ? ZOO_OK : open_file(path, out);
    if (status == ZOO_OK)
        (*out)->uses++;
    return status;
}

static int join(zoo_seg *seg, const char *object)
{
    struct zoo_member *member = members;
    while (member != NULL &&
           (member->identity[0] != seg->key_seed || member->identity[1] != seg->sum_seed))
        member = member->next;
    if (member == NULL) {
        struct lock_file *file;
        int status = use_file(object, &file);
        if (status != ZOO_OK)
            return status;
        zoo_cas_seq_cst(&seg->hdr->owner_file, 0, file->ino); /* no edge: one word decides */
        ZOO_FAULT("owner:file-named");
        member = calloc(1, sizeof *member);
        if (member == NULL || zoo_load_acquire(&seg->hdr->owner_file) != file->ino) {
            status = member == NULL ? ZOO_E_MEMORY : ZOO_RETIRED;
            drop_file(file);
            free(member);
            return status;
        }
        *member = (struct zoo_member){
            .next = members, .identity = {seg->key_seed, seg->sum_seed}, .file = file};
        members = member;
    }
    member->uses++;
    seg->member = member;
    return ZOO_OK;
}

/*
 * Joins the handle with the process's others on the segment `object`. ZOO_RETIRED:
 * the segment has lost its lock file and must not be used.
 */
int zoo_owner_attach(zoo_seg *seg, const char *object)
{
    pthread_once(&guarded, guard_forks);
    enter();
    int status = join(seg, object);
    leave();
    return status;
}

void zoo_owner_release(zoo_seg *seg)
{
    struct zoo_member *member = seg->member;
    if (member == NULL)
        return;
    enter();
    seg->member = NULL;
    if (--member->uses == 0) {
        uint64_t owner = zoo_load_relaxed(&member->owner); /* under the mutex */
        /* What it leaves is dead now, even if the file stays open for another segment. E13/R */
        if (zoo_load_relaxed(&member->taken) == zoo_forks + 1)
            zoo_add_seq_cst(seg->owners + (owner & SLOT_MASK), 1);
        struct zoo_member **at = &members;
        while (*at != member)
            at = &(*at)->next;
        *at = member->next;
        drop_file(member->file);
        free(member);
    }
    leave();
}

/* Removes the lock file of an object. Only while the object is retired and still has its name. */
void zoo_owner_unlink(const char *object)
{
    char path[PATH_BYTES];
    if (lock_path(object, path) == ZOO_OK)
        shm_unlink(path);
}

static int lock_byte(const struct lock_file *file, int command, unsigned slot, short *type)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = slot, .l_len = 1};
    int result;
    while ((result = fcntl(file->fd, command, &lock)) != 0 && errno == EINTR) {
    }
    *type = lock.l_type;
    return result;
}

/* Locks a byte that nobody has. */
static bool take_slot(struct lock_file *file)
{
    if (file->taken == zoo_forks + 1)
        return true;
    if (!is_open(file))
        return false;
    unsigned first = (unsigned)(zoo_mix((uint64_t)getpid()) & SLOT_MASK);
    for (unsigned i = 0; i < ZOO_OWNERS; i++) {
        short type;
        unsigned slot = (first + i) & SLOT_MASK;
        if (lock_byte(file, F_SETLK, slot, &type) == 0) {
            file->slot = (int)slot;
            file->taken = zoo_forks + 1;
            return true;
        }
        if (errno != EACCES && errno != EAGAIN)
            return false;
    }
    return false;
}

/* Under the mutex. */
static uint64_t take_owner(zoo_seg *seg, struct zoo_member *member)
{
    uint64_t generation, now = zoo_hlc_now_ms(seg);
    if (zoo_load_relaxed(&member->taken) == zoo_forks + 1) /* another thread was first */
        return zoo_load_relaxed(&member->owner);
    if (now < member->retry_ms && member->retry_ms - now <= RETRY_MS)
        return 0;
    if (!take_slot(member->file)) {
        member->retry_ms = now + RETRY_MS; /* a full table costs a system call for each slot */
        return 0;
    }
    ZOO_FAULT("owner:locked");
    unsigned slot = (unsigned)member->file->slot;
    do /* a generation of 0 would be an owner of 0 in slot 0 */
        generation = (zoo_add_seq_cst(seg->owners + slot, 1) + 1) & GENERATION_MASK; /* E13/R */
    while (generation == 0);
    ZOO_FAULT("owner:counted");
    zoo_store_relaxed(&member->owner, generation << ZOO_SLOT_BITS | slot);
    zoo_store_release(&member->taken, zoo_forks + 1); /* E17/R */
    return generation << ZOO_SLOT_BITS | slot;
}

/* The owner that this process is; 0: none is free, or zoo_owner_attach() was not called. */
uint64_t zoo_owner_mine(zoo_seg *seg)
{
    struct zoo_member *member = seg->member;
    if (member == NULL)
        return 0;
    if (zoo_load_acquire(&member->taken) == zoo_forks + 1) /* E17/A */
        return zoo_load_relaxed(&member->owner);           /* stored before `taken` */
    enter();
    uint64_t owner = take_owner(seg, member);
    leave();
    return owner;
}

/* Numbers that this process has not used before in the segment. */
uint64_t zoo_owner_serial(zoo_seg *seg)
{
    return zoo_add_relaxed(&seg->member->serial, 1); /* orders nothing: only unique */
}

/* The same for an owner of whose generation only the low bits are known. */
bool zoo_owner_alive_as(zoo_seg *seg, uint64_t owner, unsigned generation_bits)
{
    struct zoo_member *member = seg->member;
    uint64_t mask = ((1ull << generation_bits) - 1) << ZOO_SLOT_BITS | SLOT_MASK;
    unsigned slot = (unsigned)(owner & SLOT_MASK);
    short type;
    uint64_t now = zoo_load_acquire(seg->owners + slot) << ZOO_SLOT_BITS | slot; /* E13/A */
    if (((now ^ owner) & mask) != 0)
        return false;
    if (member == NULL)
        return true;                                                       /* invariant 2 */
    bool taken = zoo_load_acquire(&member->taken) == zoo_forks + 1;        /* E17/A */
    if (taken && ((zoo_load_relaxed(&member->owner) ^ owner) & mask) == 0) /* before `taken` */
        return true; /* one's own lock never shows */
    ZOO_FAULT("owner:asking");
    if (lock_byte(member->file, F_GETLK, slot, &type) != 0 || type != F_UNLCK)
        return true;
    return !is_open(member->file); /* invariant 2 */
}

bool zoo_owner_alive(zoo_seg *seg, uint64_t owner)
{
    return zoo_owner_alive_as(seg, owner, ZOO_GENERATION_BITS);
}

/* A system call for each slot that was ever taken. */
int zoo_owner_pids(zoo_seg *seg, int32_t *pids, int n)
{
    struct zoo_member *member = seg->member;
    if (member == NULL)
        return 0;
    int found = 0;
    bool taken = zoo_load_acquire(&member->taken) == zoo_forks + 1; /* E17/A */
    if (taken && n > 0)
        pids[found++] = (int32_t)getpid(); /* one's own lock never shows */
    for (unsigned slot = 0; slot < ZOO_OWNERS && found < n; slot++) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = slot, .l_len = 1};
        if (zoo_load_acquire(seg->owners + slot) == 0) /* no edge: never taken; the lock decides */
            continue;
        if (fcntl(member->file->fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK)
            pids[found++] = (int32_t)lock.l_pid;
    }
    return found;
}
