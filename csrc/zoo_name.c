/*
 * zoo_name.c - from a name to a segment: who opens it, and who makes it.
 *
 * A segment is a POSIX shared-memory object named from the effective user and
 * the configured name, mode 0600; or one that a group shares, named from the group,
 * mode 0660. Such a one may be any user's: whoever is in the group is trusted.
 * /dev/shm is sticky, so that only its owner (and root) can replace or remove it.
 *
 * Readers: whoever opens an object that is READY needs no lock.
 * Writers: whoever makes a segment, or replaces it, holds an exclusive flock on
 *   the object that has the name. The kernel drops it when they die.
 * Reclaim: the object lives until its name is unlinked and all mappings end.
 * Crash: an object that is not READY, or a segment that is retired, is made or
 *   replaced by the next process that opens the name.
 *
 * Invariants
 *  1. A lock counts only if the name leads to the locked object once it is held:
 *     somebody may have unlinked it, or renamed another over it, meanwhile.
 *  2. No wait for a lock is without a bound.
 *  3. A segment under a name that was free is READY only when nobody trusts a look
 *     any more at what had the name before (zoo_retire.c).
 *  4. A file of a group has the group and the mode before it has its name.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "zoo_layout.h"

enum { POLL_MS = 5, ATTEMPTS = 16 };

#define GROUPS_PREFIX "/zoocache-g"
#define NO_GROUP ((gid_t) - 1)
#define MODE_OF_A_USER 0600
#define MODE_OF_A_GROUP 0660

/* The suffixes are those of a segment's lock file and of its successor in the making. */
static int object_name(const char *name, char *out)
{
    size_t len = strlen(name);
    if (len >= 5 && (strcmp(name + len - 5, ".lock") == 0 || strcmp(name + len - 5, ".next") == 0))
        return ZOO_E_ARGUMENT;
    const char *slash = strchr(name, '/');
    int n;
    if (slash == NULL)
        n = snprintf(out, ZOO_NAME_BYTES, "/zoocache-%lu-%s", (unsigned long)geteuid(), name);
    else if (strspn(name, "0123456789") != (size_t)(slash - name) || slash == name ||
             strchr(slash + 1, '/') != NULL || slash[1] == '\0' ||
             strtoul(name, NULL, 10) >= NO_GROUP)
        return ZOO_E_ARGUMENT;
    else
        n = snprintf(out, ZOO_NAME_BYTES, GROUPS_PREFIX "%lu-%s", strtoul(name, NULL, 10),
                     slash + 1);
    return n > 0 && n < ZOO_NAME_BYTES ? ZOO_OK : ZOO_E_ARGUMENT;
}

/* The group whose file has the name; NO_GROUP: it is its user's alone. */
static gid_t group_of(const char *path)
{
    size_t prefix = strlen(GROUPS_PREFIX);
    return strncmp(path, GROUPS_PREFIX, prefix) == 0 ? (gid_t)strtoul(path + prefix, NULL, 10)
                                                     : NO_GROUP;
}

/* Is what has the name a file that those who may write to it are trusted with? */
int zoo_name_judge(const char *path, const struct stat *st)
{
    gid_t group = group_of(path);
    if (group == NO_GROUP ? st->st_uid != geteuid() : st->st_gid != group)
        return ZOO_E_OWNER;
    bool closed =
        group == NO_GROUP ? (st->st_mode & 077) == 0 : (st->st_mode & 07777) == MODE_OF_A_GROUP;
    return S_ISREG(st->st_mode) && closed ? ZOO_OK : ZOO_E_MODE;
}

/*
 * May this process remove the file's name, or rename another over it? Asked before
 * anything is retired.
 */
bool zoo_name_is_mine(int fd)
{
    struct stat st, folder;
    return geteuid() == 0 || (fstat(fd, &st) == 0 && st.st_uid == geteuid()) ||
           (stat("/dev/shm", &folder) == 0 && (folder.st_mode & S_ISVTX) == 0);
}

static int check_owner(const char *object, int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? zoo_name_judge(object, &st) : ZOO_E_SYSTEM;
}

/* Makes a group's file under a name that is free, or fails with EEXIST. Invariant 4. */
static int make_for_group(const char *path, gid_t group, uid_t owner)
{
    char here[48], there[ZOO_NAME_BYTES + 32];
    int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, MODE_OF_A_USER);
    if (fd < 0)
        return -1;
    snprintf(here, sizeof here, "/proc/self/fd/%d", fd);
    snprintf(there, sizeof there, "/dev/shm%s", path);
    /* The mode comes last: nobody else has the group's rights before it has the group. */
    if (fchown(fd, owner, group) == 0 && fchmod(fd, MODE_OF_A_GROUP) == 0 &&
        linkat(AT_FDCWD, here, AT_FDCWD, there, AT_SYMLINK_FOLLOW) == 0)
        return fd;
    int error = errno == ENOENT ? ENOSYS : errno; /* no /proc; a caller's ENOENT is another */
    close(fd);
    errno = error;
    return -1;
}

/*
 * Opens a file of a segment; `create`: makes it where there is none, `O_EXCL` only
 * there. The owner counts where a group's file is made: -1 for this user.
 */
int zoo_name_file(const char *path, int create, uid_t owner)
{
    const int flags = O_RDWR | O_NOFOLLOW | O_CLOEXEC;
    gid_t group = group_of(path);
    if (group == NO_GROUP)
        return shm_open(path, flags | create, MODE_OF_A_USER);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        /* Not with O_CREAT: fs.protected_regular forbids that with another user's file. */
        int fd = create & O_EXCL ? -1 : shm_open(path, flags, 0);
        if (fd >= 0 || (!(create & O_EXCL) && errno != ENOENT) || create == 0)
            return fd;
        fd = make_for_group(path, group, owner);
        if (fd >= 0 || errno != EEXIST || create & O_EXCL)
            return fd;
    }
    return -1;
}

static int open_object(const char *object, bool create, int *fd)
{
    *fd = zoo_name_file(object, create ? O_CREAT : 0, (uid_t)-1);
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

/* Does the name lead to this object? Asked without a descriptor, of which there may be none. */
bool zoo_name_leads_to(const char *object, int fd)
{
    char path[ZOO_NAME_BYTES + 32];
    struct stat here, there;
    snprintf(path, sizeof path, "/dev/shm%s", object);
    return fstat(fd, &here) == 0 && lstat(path, &there) == 0 && here.st_ino == there.st_ino &&
           here.st_dev == there.st_dev;
}

/* Is it of an older layout, which this version may replace? */
static bool is_older(int fd)
{
    struct zoo_stable stable;
    return pread(fd, &stable, sizeof stable, 0) == (ssize_t)sizeof stable &&
           stable.magic == ZOO_MAGIC && stable.layout_version >= ZOO_LAYOUT_FIRST &&
           stable.layout_version < ZOO_LAYOUT_VERSION;
}

void zoo_name_unlock(int fd)
{
    int error = errno;
    flock(fd, LOCK_UN); /* closing would not: a mapping keeps the open file, and its lock */
    close(fd);
    errno = error;
}

int zoo_name_open(const char *name, char *object, int *fd)
{
    if (object_name(name, object) != ZOO_OK)
        return ZOO_E_ARGUMENT;
    int status = open_object(object, false, fd);
    if (status != ZOO_OK)
        return status;
    status = check_owner(object, *fd);
    if (status != ZOO_OK)
        close(*fd);
    return status;
}

int zoo_outdated(const char *name)
{
    char object[ZOO_NAME_BYTES];
    int fd;
    int status = zoo_name_open(name, object, &fd);
    if (status != ZOO_OK)
        return status;
    status = is_older(fd) ? ZOO_OK : ZOO_MISS;
    close(fd);
    return status;
}

/* Opens and locks the object that has the name. */
int zoo_name_lock(const char *name, uint32_t wait_ms, char *object, int *fd)
{
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        int status = zoo_name_open(name, object, fd);
        if (status != ZOO_OK)
            return status;
        status = lock(*fd, wait_ms);
        if (status == ZOO_OK && zoo_name_leads_to(object, *fd))
            return ZOO_OK;
        zoo_name_unlock(*fd);
        if (status != ZOO_OK)
            return status;
    }
    return ZOO_E_BUSY;
}

/* What an opener does, under the lock, with an object that is not READY. */
static int make_or_replace(const char *object, int fd, uint64_t size, uint64_t entry_size,
                           zoo_seg **out)
{
    struct zoo_hdr *hdr;
    int status = zoo_segment_attach(fd, false, out); /* somebody may have been faster */
    if (status == ZOO_MISS) {
        if ((status = zoo_segment_make(fd, size, entry_size, &hdr)) != ZOO_OK)
            return status;
        zoo_retire_outwait(); /* invariant 3 */
        zoo_segment_start(hdr, zoo_hlc_physical() + 1, 0);
        return zoo_segment_attach(fd, false, out);
    }
    if (status == ZOO_RETIRED || status == ZOO_E_FORMAT) {
        status = zoo_retire_replace(object, fd, size, entry_size, 0);
        return status == ZOO_OK ? ZOO_MISS : status; /* open the successor by its name */
    }
    return status;
}

/* One try. ZOO_MISS: the name changed under us, try again. */
static int open_once(const char *object, uint64_t size, uint64_t entry_size, uint32_t wait_ms,
                     zoo_seg **out)
{
    int fd;
    int status = open_object(object, size > 0, &fd);
    if (status != ZOO_OK)
        return status;
    status = check_owner(object, fd);
    if (status == ZOO_OK)
        status = zoo_segment_attach(fd, false, out);
    bool unfinished = status == ZOO_MISS || status == ZOO_RETIRED ||
                      (status == ZOO_E_FORMAT && size > 0 && is_older(fd));
    if (status == ZOO_MISS && size == 0)
        status = ZOO_E_NO_SEGMENT;
    else if (unfinished && (status = lock(fd, wait_ms)) == ZOO_OK) {
        if (!zoo_name_leads_to(object, fd))
            status = ZOO_MISS;
        else
            status =
                size > 0 ? make_or_replace(object, fd, size, entry_size, out) : ZOO_E_NO_SEGMENT;
    }
    if (status != ZOO_OK) {
        zoo_name_unlock(fd);
        return status;
    }
    flock(fd, LOCK_UN); /* if it was locked */
    (*out)->fd = fd;
    return ZOO_OK;
}

int zoo_open_for(const char *name, uint64_t size, uint64_t entry_size, uint32_t wait_ms,
                 zoo_seg **out)
{
    char object[ZOO_NAME_BYTES];
    *out = NULL;
    if (object_name(name, object) != ZOO_OK)
        return ZOO_E_ARGUMENT;
    if (size != 0 && size < ZOO_MIN_SIZE)
        return ZOO_E_SIZE;
    int status = ZOO_MISS;
    for (int attempt = 0; attempt < ATTEMPTS && status == ZOO_MISS; attempt++) {
        status = open_once(object, size, entry_size, wait_ms, out);
        if (status != ZOO_OK || (status = zoo_owner_attach(*out, object)) == ZOO_OK)
            continue;
        if (status == ZOO_RETIRED) { /* its lock file is gone: nobody could be told dead */
            zoo_retire_end(*out);
            status = ZOO_MISS;
        }
        zoo_close(*out);
        *out = NULL;
    }
    return status == ZOO_MISS ? ZOO_E_BUSY : status;
}

int zoo_open(const char *name, uint64_t size, uint32_t wait_ms, zoo_seg **out)
{
    return zoo_open_for(name, size, 0, wait_ms, out);
}

void zoo_close(zoo_seg *seg)
{
    if (seg == NULL)
        return;
    zoo_owner_release(seg);
    struct stat st;
    /* Where a daemon closed all descriptors, the number may be another file's by now. */
    if (seg->fd >= 0 && fstat(seg->fd, &st) == 0 && (uint64_t)st.st_ino == seg->inode)
        close(seg->fd);
    zoo_segment_detach(seg);
}
