/*
 * test_owner.c - who is alive: processes that die, stop, fork, close and come again.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { SLOT = ZOO_OWNERS - 1 };

/* A child that is an owner until it is killed. */
struct resident {
    pid_t pid;
    uint64_t owner;
};

static struct resident settle_in(zoo_seg *seg)
{
    zoo_word *owner = shared_words(1);
    struct resident resident = {.pid = fork_off()};
    if (resident.pid == 0) {
        zoo_store_release(owner, zoo_owner_mine(seg));
        for (;;)
            pause();
    }
    for (uint64_t start = now_ms(); zoo_load_acquire(owner) == 0;)
        CHECK(now_ms() - start < 30000);
    resident.owner = zoo_load_acquire(owner);
    munmap(owner, sizeof *owner);
    return resident;
}

static void handles_share_an_owner(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE), *other = attach_again();
    uint64_t owner = zoo_owner_mine(seg);
    CHECK(owner != 0);
    CHECK_EQ(zoo_owner_mine(other), owner);
    CHECK(zoo_owner_alive(seg, owner) && zoo_owner_alive(other, owner));
    CHECK(zoo_owner_serial(seg) != zoo_owner_serial(other));
    CHECK(!zoo_owner_alive(seg, owner + ZOO_OWNERS)); /* other generations */
    CHECK(!zoo_owner_alive(seg, owner - ZOO_OWNERS));
    CHECK(!zoo_owner_alive(seg, (owner & ~(uint64_t)SLOT) | ((owner + 1) & SLOT)));
    zoo_close(seg);
    CHECK(zoo_owner_alive(other, owner)); /* by its own knowledge */
    struct resident child = settle_in(other);
    CHECK_EQ(zoo_owner_mine(other), owner);
    kill_unburied(child.pid);
    bury(child.pid);
    zoo_close(other);
}

static void ask_about(void *arg)
{
    uint64_t *asked = arg;
    zoo_seg *seg = (zoo_seg *)(uintptr_t)asked[0];
    CHECK_EQ(zoo_owner_alive(seg, asked[1]), asked[2]);
}

/* What another process thinks of an owner. */
static void others_see(zoo_seg *seg, uint64_t owner, bool alive)
{
    uint64_t asked[] = {(uintptr_t)seg, owner, alive};
    CHECK_EQ(in_child(ask_about, asked), 0);
}

static void closing_one_handle_keeps_the_slot(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t owner = zoo_owner_mine(seg);
    for (int i = 0; i < 5; i++)
        zoo_close(attach_again());
    others_see(seg, owner, true);
    zoo_close(seg);
}

static void a_forked_child_is_another_owner(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t owner = zoo_owner_mine(seg);
    struct resident child = settle_in(seg);
    CHECK(child.owner != owner && ((child.owner ^ owner) & SLOT) != 0);
    CHECK(zoo_owner_alive(seg, child.owner));
    others_see(seg, owner, true);
    kill(child.pid, SIGSTOP);
    CHECK(zoo_owner_alive(seg, child.owner)); /* a stopped process is not dead */
    kill_unburied(child.pid);
    CHECK(!zoo_owner_alive(seg, child.owner)); /* and a zombie is */
    bury(child.pid);
    CHECK(!zoo_owner_alive(seg, child.owner));
    others_see(seg, owner, true);
    zoo_close(seg);
}

static void close_in_a_child(void *seg)
{
    zoo_owner_mine(seg);
    zoo_close(seg);
}

/* A child's descriptors, and what it does with them, are not its parent's. */
static void a_child_that_closes_takes_nothing(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t owner = zoo_owner_mine(seg);
    CHECK_EQ(in_child(close_in_a_child, seg), 0);
    CHECK_EQ(zoo_owner_mine(seg), owner);
    others_see(seg, owner, true);
    zoo_close(seg);
}

static void a_slot_is_taken_again(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct resident first = settle_in(seg);
    pid_t crowd = take_all_slots((int)(first.owner & SLOT));
    uint64_t before = first.owner;
    for (int round = 0; round < 5; round++) {
        kill_unburied(first.pid);
        CHECK(!zoo_owner_alive(seg, before));
        struct resident next = settle_in(seg);
        bury(first.pid);
        CHECK_EQ(next.owner & SLOT, before & SLOT);
        CHECK_EQ(next.owner >> ZOO_SLOT_BITS, (before >> ZOO_SLOT_BITS) + 1);
        CHECK(zoo_owner_alive(seg, next.owner));
        CHECK(!zoo_owner_alive(seg, before)); /* though the byte is locked */
        CHECK(zoo_owner_alive_as(seg, next.owner & 0xfffff, 10));
        CHECK(!zoo_owner_alive_as(seg, before & 0xfffff, 10));
        first = next;
        before = next.owner;
    }
    kill_unburied(first.pid);
    bury(first.pid);
    kill_unburied(crowd);
    bury(crowd);
    zoo_close(seg);
}

static void find_no_slot(void *seg)
{
    uint64_t ticket = 7;
    CHECK_EQ(zoo_owner_mine(seg), 0);
    CHECK_EQ(zoo_owner_mine(seg), 0);
    CHECK_EQ(zoo_flight_claim(seg, "key", 3, 1000, &ticket), ZOO_OK); /* without a flight */
    CHECK_EQ(ticket, 0);
    CHECK_EQ(zoo_announce(seg, "a", 1, "", 1000, &ticket), ZOO_CROWDED);
    CHECK_EQ(zoo_reap(seg), 0);
}

static void all_slots_can_be_taken(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    pid_t crowd = take_all_slots(-1);
    CHECK_EQ(in_child(find_no_slot, seg), 0);
    find_no_slot(seg);
    kill_unburied(crowd);
    CHECK_EQ(zoo_owner_mine(seg), 0); /* it does not ask for every slot each time */
    zoo_skew(seg, 2000);
    CHECK(zoo_owner_mine(seg) != 0);
    bury(crowd);
    zoo_close(seg);
}

static void close_and_come_again(void *arg)
{
    zoo_word *said = arg;
    zoo_seg *seg = attach_again();
    zoo_store_release(said, zoo_owner_mine(seg));
    await(said + 2, 1);
    zoo_close(seg);
    zoo_store_release(said + 3, 1);
    await(said + 2, 2);
    seg = attach_again();
    zoo_store_release(said + 1, zoo_owner_mine(seg));
    await(said + 2, 3);
}

/* Who has closed all handles owns nothing any more. */
static void closing_the_last_handle_ends_the_owner(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    zoo_close(seg); /* so that the child opens everything itself */
    zoo_word *said = shared_words(4);
    pid_t pid = fork_off();
    if (pid == 0) {
        close_and_come_again(said);
        _exit(0);
    }
    seg = attach_again();
    zoo_store_release(said + 2, 1);
    await(said + 3, 1);
    uint64_t first = zoo_load_acquire(said);
    CHECK(first != 0 && !zoo_owner_alive(seg, first));
    zoo_store_release(said + 2, 2);
    while (zoo_load_acquire(said + 1) == 0)
        usleep(100);
    uint64_t second = zoo_load_acquire(said + 1);
    CHECK(second != first && zoo_owner_alive(seg, second) && !zoo_owner_alive(seg, first));
    zoo_store_release(said + 2, 3);
    bury(pid);
    CHECK(!zoo_owner_alive(seg, second));
    zoo_close(seg);
}

static void many_processes(void)
{
    enum { PROCESSES = 200 };
    static struct resident all[PROCESSES];
    static bool taken[ZOO_OWNERS];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    memset(taken, 0, sizeof taken);
    for (int i = 0; i < PROCESSES; i++) {
        all[i] = settle_in(seg);
        CHECK(!taken[all[i].owner & SLOT]);
        taken[all[i].owner & SLOT] = true;
    }
    for (int i = 0; i < PROCESSES; i++)
        CHECK(zoo_owner_alive(seg, all[i].owner));
    for (int i = 0; i < PROCESSES; i += 2)
        kill_unburied(all[i].pid);
    for (int i = 0; i < PROCESSES; i++)
        CHECK_EQ(zoo_owner_alive(seg, all[i].owner), i % 2);
    for (int i = 1; i < PROCESSES; i += 2)
        kill_unburied(all[i].pid);
    for (int i = 0; i < PROCESSES; i++) {
        CHECK(!zoo_owner_alive(seg, all[i].owner));
        bury(all[i].pid);
    }
    zoo_close(seg);
}

static void die_at(void *arg)
{
    void **given = arg;
    at_point(given[1], die_hard, NULL);
    zoo_owner_mine(given[0]);
}

/* A taker that dies half-way leaves a slot that others can take. */
static void killed_while_taking(void)
{
    static const char *const points[] = {"owner:locked", "owner:counted"};
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct resident first = settle_in(seg);
    pid_t crowd = take_all_slots((int)(first.owner & SLOT));
    kill_unburied(first.pid);
    bury(first.pid);
    for (size_t i = 0; i < 2; i++) {
        void *given[] = {seg, (void *)(uintptr_t)points[i]};
        int status = in_child(die_at, given);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        CHECK(!zoo_owner_alive(seg, first.owner));
    }
    struct resident next = settle_in(seg);
    CHECK_EQ(next.owner >> ZOO_SLOT_BITS, (first.owner >> ZOO_SLOT_BITS) + 2);
    CHECK(zoo_owner_alive(seg, next.owner));
    kill_unburied(next.pid);
    bury(next.pid);
    kill_unburied(crowd);
    bury(crowd);
    zoo_close(seg);
}

/* Two segments of a name share the lock file; each has owners of its own. */
static void a_segment_and_its_successor(void)
{
    zoo_seg *old = fresh(ZOO_MIN_SIZE);
    uint64_t in_old = zoo_owner_mine(old);
    zoo_seg *new = fresh(ZOO_MIN_SIZE);
    uint64_t in_new = zoo_owner_mine(new);
    CHECK(in_old != 0 && in_new != 0);
    others_see(old, in_old, true);
    others_see(new, in_new, true);
    zoo_close(new);
    others_see(old, in_old, true);
    zoo_close(old);
}

static void be_a_daemon(void *arg)
{
    uint64_t *given = arg;
    zoo_seg *seg = (zoo_seg *)(uintptr_t)given[0];
    for (int fd = 3; fd < 200; fd++)
        close(fd);
    for (int i = 0; i < 60; i++)
        CHECK(open("/dev/null", O_RDWR) >= 0);
    CHECK(zoo_owner_alive(seg, given[1])); /* it cannot tell, and says so */
    CHECK_EQ(zoo_owner_mine(seg), 0);
    zoo_close(seg);
    int left = 0;
    for (int fd = 3; fd < 63; fd++)
        left += fcntl(fd, F_GETFD) >= 0;
    CHECK(left >= 59); /* the lock file's number is another's now, and is left alone */
}

static void a_daemon_closes_every_descriptor(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t given[] = {(uintptr_t)seg, zoo_owner_mine(seg)};
    CHECK_EQ(in_child(be_a_daemon, given), 0);
    others_see(seg, given[1], true);
    zoo_close(seg);
}

static void attach_without_the_file(void *arg)
{
    zoo_seg *inherited = arg, *seg = NULL;
    uint64_t identity = inherited->key_seed;
    zoo_close(inherited);
    int status = zoo_open(segment_name(), 0, 1000, &seg);
    CHECK(status != ZOO_OK || seg->key_seed != identity);
}

/* With another lock file, owners that live would look dead: such a segment is not used. */
static void the_lock_file_is_lost(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK(zoo_owner_mine(seg) != 0);
    CHECK_EQ(shm_unlink(lock_file_name()), 0);
    zoo_close(attach_again()); /* who has it open needs no name */
    CHECK_EQ(in_child(attach_without_the_file, seg), 0);
    zoo_close(seg);
}

static void strange_lock_files_are_refused(void)
{
    zoo_seg *seg = NULL;
    char path[300];
    snprintf(path, sizeof path, "/dev/shm%s", lock_file_name());
    zoo_unlink(segment_name());
    unlink(path);
    CHECK_EQ(symlink("/dev/null", path), 0);
    CHECK(zoo_open(segment_name(), ZOO_MIN_SIZE, 100, &seg) < 0);
    unlink(path);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0 && fchmod(fd, 0666) == 0);
    CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE, 100, &seg), ZOO_E_MODE);
    CHECK_EQ(fchmod(fd, 0600), 0);
    if (geteuid() == 0 && fchown(fd, 12345, 12345) == 0)
        CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE, 100, &seg), ZOO_E_OWNER);
    close(fd);
    unlink(path);
    CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE, 100, &seg), ZOO_OK);
    zoo_close(seg);
}

static zoo_seg *raced_for;

static void *take_in_a_thread(void *owner)
{
    *(uint64_t *)owner = zoo_owner_mine(raced_for);
    return NULL;
}

static void threads_take_one_slot(void)
{
    enum { THREADS = 8 };
    for (int round = 0; round < 30; round++) {
        pthread_t thread[THREADS];
        uint64_t owner[THREADS];
        raced_for = fresh(ZOO_MIN_SIZE);
        for (int i = 0; i < THREADS; i++)
            CHECK_EQ(pthread_create(&thread[i], NULL, take_in_a_thread, &owner[i]), 0);
        for (int i = 0; i < THREADS; i++)
            CHECK_EQ(pthread_join(thread[i], NULL), 0);
        for (int i = 0; i < THREADS; i++)
            CHECK_EQ(owner[i], owner[0]);
        CHECK(owner[0] != 0);
        zoo_close(raced_for);
    }
}

static zoo_word lingering; /* of this process */

static void linger(void *unused)
{
    (void)unused;
    zoo_store_release(&lingering, 1);
    usleep(100000);
}

static void *take_slowly(void *seg)
{
    at_point("owner:locked", linger, NULL);
    CHECK(zoo_owner_mine(seg) != 0);
    CHECK(point_passed());
    return NULL;
}

static void take_one(void *seg)
{
    alarm(20);
    CHECK(zoo_owner_mine(seg) != 0);
}

/* A fork in the middle of another thread's taking leaves the child a mutex that it can use. */
static void forks_while_a_thread_takes(void)
{
    pthread_t thread;
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    zoo_store_relaxed(&lingering, 0);
    CHECK_EQ(pthread_create(&thread, NULL, take_slowly, seg), 0);
    await(&lingering, 1);
    CHECK_EQ(in_child(take_one, seg), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    zoo_close(seg);
}

struct witness {
    zoo_seg *old, *new;
    uint64_t in_old, in_new;
    zoo_word *closed;
};

static void look_at_both(void *arg)
{
    const struct witness *witness = arg;
    CHECK(zoo_owner_alive(witness->old, witness->in_old));
    CHECK(zoo_owner_alive(witness->new, witness->in_new));
    zoo_store_release(witness->closed, 1);
    await(witness->closed, 2);
    CHECK(!zoo_owner_alive(witness->old, witness->in_old)); /* though the byte is locked */
    CHECK(zoo_owner_alive(witness->new, witness->in_new));
}

/* A segment and its successor share the lock file: to close one is to own nothing in it. */
static void closing_the_replaced_segment(void)
{
    struct witness witness = {.old = fresh(ZOO_MIN_SIZE), .closed = shared_words(1)};
    int status;
    witness.in_old = zoo_owner_mine(witness.old);
    CHECK_EQ(zoo_resize(segment_name(), 2 * ZOO_MIN_SIZE, 1000), ZOO_OK);
    witness.new = attach_again();
    witness.in_new = zoo_owner_mine(witness.new);
    CHECK_EQ(witness.in_old & SLOT, witness.in_new & SLOT);
    pid_t pid = fork_off();
    if (pid == 0) {
        look_at_both(&witness);
        _exit(0);
    }
    await(witness.closed, 1);
    zoo_close(witness.old);
    zoo_store_release(witness.closed, 2);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    zoo_close(witness.new);
}

/* Killed while it joins a segment, or while it asks whether another lives: it leaves nothing. */
static void open_it(void *arg)
{
    (void)arg;
    attach_again();
}

static void ask_it(void *arg)
{
    zoo_owner_alive(arg, zoo_owner_mine(arg) ^ 1);
    uint64_t ticket;
    zoo_flight_claim(arg, "key", 3, 60000, &ticket);
}

static void die_opening(void *arg)
{
    zoo_seg *seg = arg;
    zoo_close(seg); /* the last handle of this process: it joins anew */
    at_point("owner:file-named", die_hard, NULL);
    open_it(NULL);
}

static void die_asking(void *arg)
{
    at_point("owner:asking", die_hard, NULL);
    ask_it(arg);
}

static void killed_while_joining_or_asking(void)
{
    uint64_t ticket;
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(zoo_flight_claim(seg, "key", 3, 60000, &ticket), ZOO_OK);
    CHECK(WIFSIGNALED(in_child(die_opening, seg)));
    CHECK(WIFSIGNALED(in_child(die_asking, seg)));
    zoo_flight_end(seg, "key", 3, ticket, ZOO_OK);
    in_child(ask_it, seg);
    check_sound(seg);
    zoo_close(seg);
}

const struct suite owner_suites[] = {
    {"owner-killed-asking", killed_while_joining_or_asking},
    {"owner-handles", handles_share_an_owner},
    {"owner-close-one", closing_one_handle_keeps_the_slot},
    {"owner-fork", a_forked_child_is_another_owner},
    {"owner-child-closes", a_child_that_closes_takes_nothing},
    {"owner-reuse", a_slot_is_taken_again},
    {"owner-all-taken", all_slots_can_be_taken},
    {"owner-close-last", closing_the_last_handle_ends_the_owner},
    {"owner-many", many_processes},
    {"owner-killed-taking", killed_while_taking},
    {"owner-successor", a_segment_and_its_successor},
    {"owner-daemon", a_daemon_closes_every_descriptor},
    {"owner-file-lost", the_lock_file_is_lost},
    {"owner-file-strange", strange_lock_files_are_refused},
    {"owner-threads", threads_take_one_slot},
    {"owner-fork-in-thread", forks_while_a_thread_takes},
    {"owner-replaced", closing_the_replaced_segment},
    {NULL, NULL},
};
