/*
 * test_flight.c - one computation per key: leaders that end, fail, die, stop
 * and are late, among threads and among processes.
 */
#include "harness.h"

#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

enum { LEASE = 5000 };

static int claim(zoo_seg *seg, const char *key, uint64_t *ticket)
{
    return zoo_flight_claim(seg, key, strlen(key), LEASE, ticket);
}

static uint64_t lead(zoo_seg *seg, const char *key)
{
    uint64_t ticket;
    CHECK(zoo_owner_mine(seg) != 0);
    CHECK_EQ(claim(seg, key, &ticket), ZOO_OK);
    CHECK(ticket != 0);
    return ticket;
}

static int wait_ms(zoo_seg *seg, const char *key, uint64_t ticket, uint32_t ms)
{
    return zoo_flight_wait(seg, key, strlen(key), ticket, ms);
}

static void end(zoo_seg *seg, const char *key, uint64_t ticket, int outcome)
{
    zoo_flight_end(seg, key, strlen(key), ticket, outcome);
}

static uint64_t counted(zoo_seg *seg, zoo_stat which)
{
    uint64_t counters[ZOO_STATS];
    zoo_stats(seg, counters);
    return counters[which];
}

static zoo_word *slot_of(zoo_seg *seg, const char *key)
{
    return seg->flights + (zoo_key_hash(seg, key, strlen(key)) & seg->flight_mask);
}

static uint64_t word_of_key(zoo_seg *seg, const char *key)
{
    return zoo_load_acquire(slot_of(seg, key));
}

static void one_leads(void)
{
    uint64_t led;
    zoo_seg *seg = fresh(ZOO_MIN_SIZE), *other = attach_again();
    uint64_t ticket = lead(seg, "key");
    CHECK_EQ(claim(seg, "key", &led), ZOO_LED); /* the same process is no exception */
    CHECK_EQ(led, ticket);
    CHECK_EQ(claim(other, "key", &led), ZOO_LED);
    CHECK_EQ(led, ticket);
    CHECK_EQ(wait_ms(other, "key", led, 0), ZOO_LED);
    end(seg, "key", ticket, ZOO_OK);
    CHECK_EQ(word_of_key(seg, "key"), 0);
    CHECK_EQ(wait_ms(other, "key", led, 1000), ZOO_OK);
    uint64_t next = lead(other, "key");
    CHECK(next != ticket);
    end(seg, "key", ticket, ZOO_OK); /* an old ticket ends nothing */
    CHECK_EQ(claim(seg, "key", &led), ZOO_LED);
    CHECK_EQ(wait_ms(seg, "key", ticket, 1000), ZOO_FAILED); /* the next flight: look, and claim */
    end(other, "key", next, ZOO_OK);
    CHECK_EQ(counted(seg, ZOO_N_LED), 2);
    CHECK_EQ(counted(seg, ZOO_N_WAITED), 2);
    CHECK_EQ(counted(seg, ZOO_N_OVERTAKEN), 0);
    check_sound(seg);
    zoo_close(seg);
    zoo_close(other);
}

static void tombstones_tell_why(void)
{
    static const int outcomes[] = {ZOO_FAILED, ZOO_UNSTORED};
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    for (int i = 0; i < 2; i++) {
        uint64_t ticket = lead(seg, "key");
        end(seg, "key", ticket, outcomes[i]);
        CHECK_EQ(wait_ms(seg, "key", ticket, 1000), outcomes[i]);
        end(seg, "key", ticket, ZOO_OK); /* once */
        CHECK_EQ(wait_ms(seg, "key", ticket, 1000), outcomes[i]);
        uint64_t next = lead(seg, "key"); /* a tombstone is free */
        CHECK_EQ(wait_ms(seg, "key", ticket, 1000), ZOO_FAILED);
        end(seg, "key", next, ZOO_OK);
    }
    CHECK_EQ(counted(seg, ZOO_N_OVERTAKEN), 0);
    CHECK_EQ(wait_ms(seg, "key", 0, 1000), ZOO_OK); /* no ticket, no wait */
    end(seg, "key", 0, ZOO_OK);
    check_sound(seg);
    zoo_close(seg);
}

static void the_late_are_overtaken(void)
{
    uint64_t led;
    zoo_seg *seg = fresh(ZOO_MIN_SIZE), *later = attach_again();
    uint64_t ticket = lead(seg, "key");
    zoo_skew(later, LEASE - 100);
    CHECK_EQ(claim(later, "key", &led), ZOO_LED);
    zoo_skew(later, LEASE + 100);
    CHECK_EQ(wait_ms(later, "key", ticket, 1000), ZOO_FAILED);
    uint64_t next = lead(later, "key");
    CHECK_EQ(counted(seg, ZOO_N_OVERTAKEN), 1);
    end(seg, "key", ticket, ZOO_OK); /* too late */
    CHECK_EQ(claim(later, "key", &led), ZOO_LED);
    CHECK_EQ(led, next);
    end(later, "key", next, ZOO_OK);
    /* For hours, a late word is late. And no lease is longer than an hour. */
    CHECK_EQ(zoo_flight_claim(seg, "key", 3, UINT32_MAX, &ticket), ZOO_OK);
    zoo_skew(later, 3500 * 1000);
    CHECK_EQ(claim(later, "key", &led), ZOO_LED);
    for (int minutes = 61; minutes < 270; minutes += 7) {
        zoo_skew(later, minutes * 60 * 1000);
        CHECK_EQ(wait_ms(later, "key", ticket, 0), ZOO_FAILED);
    }
    end(seg, "key", ticket, ZOO_OK);
    /* No lease at all is over within a unit of time. */
    CHECK_EQ(zoo_flight_claim(seg, "key", 3, 0, &ticket), ZOO_OK);
    usleep(20000);
    CHECK_EQ(claim(seg, "key", &led), ZOO_OK);
    zoo_close(seg);
    zoo_close(later);
}

/* Another key with the same flight word, with the same bits of the hash in it or with others. */
static void make_neighbour(zoo_seg *seg, const char *like, bool same_bits, char out[24])
{
    uint64_t hash = zoo_key_hash(seg, like, strlen(like));
    for (unsigned i = 0;; i++) {
        int n = snprintf(out, 24, "near%u", i);
        uint64_t other = zoo_key_hash(seg, out, (size_t)n) ^ hash;
        if ((other & seg->flight_mask) == 0 && (other >> 52 == 0) == same_bits)
            return;
    }
}

static void two_keys_of_one_word(void)
{
    char other[24], twin[24];
    uint64_t ticket, led;
    zoo_seg *seg = fresh(ZOO_MIN_SIZE), *later = attach_again();
    make_neighbour(seg, "key", false, other);
    make_neighbour(seg, "key", true, twin);
    uint64_t mine = lead(seg, "key");
    CHECK_EQ(claim(seg, other, &ticket), ZOO_OK); /* computes without a flight */
    CHECK_EQ(ticket, 0);
    end(seg, other, ticket, ZOO_OK);
    CHECK_EQ(claim(seg, twin, &led), ZOO_LED); /* waits in vain, once, and looks again */
    CHECK_EQ(led, mine);
    zoo_skew(later, LEASE + 100);
    uint64_t theirs = lead(later, other); /* late is late, whosever key it is */
    CHECK_EQ(wait_ms(seg, "key", mine, 1000), ZOO_FAILED);
    end(seg, "key", mine, ZOO_FAILED);
    CHECK_EQ(claim(seg, "key", &ticket), ZOO_OK);
    CHECK_EQ(ticket, 0);
    end(later, other, theirs, ZOO_OK);
    end(seg, "key", lead(seg, "key"), ZOO_OK);
    check_sound(seg);
    zoo_close(seg);
    zoo_close(later);
}

struct flight {
    zoo_seg *seg;
    const char *point;
    uint32_t lease;
    zoo_word *ticket;
    action *act;
};

static void fly(void *arg)
{
    struct flight *flight = arg;
    uint64_t ticket;
    if (flight->point != NULL)
        at_point(flight->point, flight->act, NULL);
    CHECK_EQ(zoo_flight_claim(flight->seg, "key", 3, flight->lease, &ticket), ZOO_OK);
    zoo_store_release(flight->ticket, ticket);
    if (flight->point == NULL)
        flight->act(NULL);
    end(flight->seg, "key", ticket, ZOO_OK);
    CHECK(flight->point == NULL || point_passed());
}

static void a_dead_leader_is_overtaken(void)
{
    uint64_t led;
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct flight flight = {seg, NULL, LEASE, shared_words(1), stop_here};
    for (int round = 0; round < 10; round++) {
        pid_t pid = stopped_child(fly, &flight);
        CHECK_EQ(claim(seg, "key", &led), ZOO_LED);
        CHECK_EQ(led, zoo_load_acquire(flight.ticket));
        CHECK_EQ(wait_ms(seg, "key", led, 50), ZOO_LED);
        kill_unburied(pid);
        CHECK_EQ(wait_ms(seg, "key", led, 1000), ZOO_FAILED);
        uint64_t ticket = lead(seg, "key"); /* the leader is a zombie still */
        CHECK_EQ(wait_ms(seg, "key", led, 1000), ZOO_FAILED);
        end(seg, "key", ticket, ZOO_OK);
        bury(pid);
    }
    CHECK_EQ(counted(seg, ZOO_N_OVERTAKEN), 10);
    check_sound(seg);
    zoo_close(seg);
}

/* Those who wait already find out within a slice or two. */
static void a_leader_dies_while_others_wait(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct flight flight = {seg, NULL, LEASE, shared_words(1), stop_here};
    pid_t leader = stopped_child(fly, &flight), killer = fork_off();
    if (killer == 0) {
        usleep(50000);
        kill(leader, SIGKILL);
        _exit(0);
    }
    uint64_t start = now_ms();
    CHECK_EQ(wait_ms(seg, "key", zoo_load_acquire(flight.ticket), LEASE - 1000), ZOO_FAILED);
    CHECK(now_ms() - start < 500);
    bury(killer);
    bury(leader);
    zoo_close(seg);
}

static void a_stopped_leader_has_its_lease_and_no_more(void)
{
    uint64_t led;
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct flight flight = {seg, NULL, 300, shared_words(1), stop_here};
    pid_t pid = stopped_child(fly, &flight);
    CHECK_EQ(claim(seg, "key", &led), ZOO_LED);
    CHECK_EQ(wait_ms(seg, "key", led, 2000), ZOO_FAILED);
    uint64_t ticket = lead(seg, "key");
    wake(pid); /* it ends what is not its own any more */
    CHECK_EQ(claim(seg, "key", &led), ZOO_LED);
    CHECK_EQ(led, ticket);
    end(seg, "key", ticket, ZOO_OK);
    CHECK_EQ(word_of_key(seg, "key"), 0);
    zoo_close(seg);
}

static void killed_at_every_flight_point(void)
{
    static const char *const points[] = {"flight:looked", "flight:before-claim", "flight:claimed",
                                         "flight:before-end", "flight:before-wake"};
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        struct flight flight = {seg, points[i], LEASE, shared_words(1), die_hard};
        snprintf(context, sizeof context, "killed at %s", points[i]);
        int status = in_child(fly, &flight);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        uint64_t start = now_ms();
        end(seg, "key", lead(seg, "key"), ZOO_OK);
        CHECK(now_ms() - start < 1000);
        CHECK_EQ(word_of_key(seg, "key"), 0);
        check_sound(seg);
    }
    zoo_close(seg);
}

static uint64_t taken; /* by an action */

static void claim_first(void *seg)
{
    taken = lead(seg, "key");
}

static void end_first(void *seg)
{
    end(seg, "key", taken, ZOO_OK);
}

static void overtake(void *seg)
{
    zoo_skew(seg, LEASE + 100);
    taken = lead(seg, "key");
    zoo_skew(seg, 0);
}

/* Others act between a look at the word and the CAS. */
static void every_decision_is_a_cas(void)
{
    static const char *const points[] = {"flight:looked", "flight:before-claim"};
    uint64_t ticket;
    zoo_seg *seg = fresh(ZOO_MIN_SIZE), *other = attach_again();
    for (size_t i = 0; i < 2; i++) {
        snprintf(context, sizeof context, "at %s", points[i]);
        at_point(points[i], claim_first, other);
        CHECK_EQ(claim(seg, "key", &ticket), ZOO_LED);
        CHECK(point_passed());
        CHECK_EQ(ticket, taken);
        end(other, "key", taken, ZOO_OK);
    }
    claim_first(other);
    at_point("flight:looked", end_first, other);
    CHECK_EQ(claim(seg, "key", &ticket), ZOO_LED); /* it was led when the word was loaded */
    CHECK(point_passed());
    CHECK_EQ(wait_ms(seg, "key", ticket, 1000), ZOO_OK);
    claim_first(seg);
    ticket = taken;
    at_point("flight:before-end", overtake, other);
    end(seg, "key", ticket, ZOO_FAILED);
    CHECK(point_passed());
    CHECK_EQ(word_of_key(seg, "key"), taken);
    end(other, "key", taken, ZOO_OK);
    claim_first(other);
    at_point("flight:before-sleep", end_first, other);
    uint64_t start = now_ms();
    CHECK_EQ(wait_ms(seg, "key", taken, 10000), ZOO_OK); /* the futex sees the change */
    CHECK(now_ms() - start < 5000);
    CHECK(point_passed());
    zoo_close(seg);
    zoo_close(other);
}

static void *end_soon(void *arg)
{
    struct flight *flight = arg;
    usleep(30000);
    end(flight->seg, "key", zoo_load_acquire(flight->ticket), ZOO_OK);
    return NULL;
}

static void waiters_are_woken(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct flight flight = {seg, NULL, LEASE, shared_words(1), NULL};
    for (int round = 0; round < 10; round++) {
        pthread_t thread;
        uint64_t ticket = lead(seg, "key"), start = now_ms();
        CHECK_EQ(wait_ms(seg, "key", ticket, 60), ZOO_LED);
        CHECK(now_ms() - start >= 55);
        zoo_store_relaxed(flight.ticket, ticket);
        CHECK_EQ(pthread_create(&thread, NULL, end_soon, &flight), 0);
        CHECK_EQ(wait_ms(seg, "key", ticket, 20000), ZOO_OK);
        CHECK(now_ms() - start < 10000);
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
    zoo_close(seg);
}

/* Without the wake-up, a waiter would find out after its slice: 20 ms. */
static void a_wake_up_is_sooner_than_a_slice(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    zoo_word *ticket = shared_words(2);
    uint64_t soonest = UINT64_MAX;
    for (int round = 0; round < 20; round++) {
        struct timespec now;
        zoo_store_release(ticket, lead(seg, "key"));
        pid_t pid = fork_off();
        if (pid == 0) {
            CHECK_EQ(wait_ms(seg, "key", zoo_load_acquire(ticket), 10000), ZOO_OK);
            clock_gettime(CLOCK_MONOTONIC, &now);
            zoo_store_release(ticket + 1,
                              (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
            _exit(0);
        }
        usleep(26000); /* in the second slice, which has most of its time left */
        clock_gettime(CLOCK_MONOTONIC, &now);
        uint64_t ended = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        end(seg, "key", zoo_load_acquire(ticket), ZOO_OK);
        bury(pid);
        uint64_t delay = zoo_load_acquire(ticket + 1) - ended;
        soonest = delay < soonest ? delay : soonest;
    }
    CHECK(soonest < 5000000);
    zoo_close(seg);
}

static zoo_word signals;

static void count_signal(int number)
{
    (void)number;
    zoo_add_relaxed(&signals, 1); /* only a count */
}

static void a_signal_does_not_end_a_wait(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    struct sigaction act = {.sa_handler = count_signal}, before;
    struct itimerval each = {{0, 7000}, {0, 7000}}, none = {{0, 0}, {0, 0}};
    uint64_t ticket = lead(seg, "key"), start = now_ms();
    CHECK_EQ(sigaction(SIGALRM, &act, &before), 0);
    CHECK_EQ(setitimer(ITIMER_REAL, &each, NULL), 0);
    CHECK_EQ(wait_ms(seg, "key", ticket, 200), ZOO_LED);
    CHECK_EQ(setitimer(ITIMER_REAL, &none, NULL), 0);
    CHECK_EQ(sigaction(SIGALRM, &before, NULL), 0);
    CHECK(now_ms() - start >= 195 && now_ms() - start < 5000);
    CHECK(zoo_load_acquire(&signals) > 5);
    end(seg, "key", ticket, ZOO_OK);
    zoo_close(seg);
}

/* A thread that holds a flight does not wait, and nobody waits for ever. */
static void nested_computations(void)
{
    uint64_t led;
    char inner[24] = "inner";
    zoo_seg *seg = fresh(ZOO_MIN_SIZE), *other = attach_again();
    uint64_t one = lead(seg, "outer"), start = now_ms();
    for (int i = 0; slot_of(seg, inner) == slot_of(seg, "outer"); i++)
        snprintf(inner, sizeof inner, "inner%d", i);
    uint64_t two = lead(other, inner);
    CHECK_EQ(claim(seg, inner, &led), ZOO_LED);
    CHECK_EQ(claim(other, "outer", &led), ZOO_LED);
    CHECK_EQ(wait_ms(other, "outer", led, 100), ZOO_LED); /* who waits all the same is let go */
    CHECK(now_ms() - start < 5000);
    end(seg, "outer", one, ZOO_OK);
    end(other, inner, two, ZOO_OK);
    zoo_close(seg);
    zoo_close(other);
}

/* --- Many at once ------------------------------------------------------------------------- */

enum { KEYS = 4, THREADS = 8 };

struct crowd {
    zoo_seg *seg;
    zoo_word *leaders; /* by key */
    zoo_word *flights;
    uint64_t until, who;
};

/* Claims, computes, ends, waits; a word for each key says whether somebody leads it. */
static void crowd_in(struct crowd *crowd)
{
    struct rng rng = rng_for(crowd->who);
    while (now_ms() < crowd->until) {
        char key[16];
        uint64_t ticket, n = rng_below(&rng, KEYS);
        snprintf(key, sizeof key, "key%d", (int)n);
        if (zoo_flight_claim(crowd->seg, key, strlen(key), 60000, &ticket) == ZOO_OK) {
            if (ticket == 0)
                continue; /* its word is another key's now */
            CHECK_EQ(zoo_add_seq_cst(crowd->leaders + n, 1), 0);
            if (rng_below(&rng, 4) == 0)
                usleep((unsigned)rng_below(&rng, 300));
            zoo_add_seq_cst(crowd->flights, 1);
            CHECK_EQ(zoo_add_seq_cst(crowd->leaders + n, UINT64_MAX), 1);
            end(crowd->seg, key, ticket, ZOO_OK + (int)rng_below(&rng, 3) * ZOO_LED);
        } else {
            int outcome = wait_ms(crowd->seg, key, ticket, 5000);
            CHECK(outcome != ZOO_LED); /* everybody ends soon */
        }
    }
}

static void *crowd_thread(void *arg)
{
    crowd_in(arg);
    return NULL;
}

static void threads_lead_one_at_a_time(void)
{
    struct crowd crowd[THREADS];
    pthread_t thread[THREADS];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    zoo_word *words = shared_words(KEYS + 1);
    base_seed(); /* before there are threads */
    for (uint64_t i = 0; i < THREADS; i++) {
        crowd[i] = (struct crowd){seg, words, words + KEYS, now_ms() + 1000, 100 + i};
        CHECK_EQ(pthread_create(&thread[i], NULL, crowd_thread, &crowd[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    CHECK(zoo_load_acquire(words + KEYS) > 100);
    CHECK_EQ(counted(seg, ZOO_N_OVERTAKEN), 0);
    check_sound(seg);
    zoo_close(seg);
}

static void processes_lead_one_at_a_time(void)
{
    pid_t pid[THREADS];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    zoo_word *words = shared_words(KEYS + 1);
    for (uint64_t i = 0; i < THREADS; i++) {
        struct crowd crowd = {seg, words, words + KEYS, now_ms() + 1500, 200 + i};
        pid[i] = fork_off();
        if (pid[i] == 0) {
            crowd_in(&crowd);
            _exit(0);
        }
    }
    for (int i = 0; i < THREADS; i++) {
        int status;
        CHECK_EQ(waitpid(pid[i], &status, 0), pid[i]);
        CHECK_EQ(status, 0);
    }
    CHECK(zoo_load_acquire(words + KEYS) > 100);
    CHECK_EQ(counted(seg, ZOO_N_OVERTAKEN), 0);
    check_sound(seg);
    zoo_close(seg);
}

/* Leaders die all the time; whoever is left goes on. A leader writes its ticket for its key. */
static void mortal(struct crowd *crowd)
{
    struct rng rng = rng_for(crowd->who);
    for (;;) {
        char key[16];
        uint64_t ticket, n = rng_below(&rng, KEYS);
        snprintf(key, sizeof key, "key%d", (int)n);
        if (claim(crowd->seg, key, &ticket) != ZOO_OK) {
            wait_ms(crowd->seg, key, ticket, 1000);
        } else if (ticket != 0) {
            zoo_store_release(crowd->leaders + n, ticket);
            usleep((unsigned)rng_below(&rng, 500));
            /* Nobody else has led it meanwhile. */
            CHECK_EQ(zoo_load_acquire(crowd->leaders + n), ticket);
            zoo_add_seq_cst(crowd->flights, 1);
            end(crowd->seg, key, ticket, ZOO_OK);
        }
    }
}

static void leaders_are_killed(void)
{
    enum { PROCESSES = 6 };
    pid_t pid[PROCESSES] = {0};
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    zoo_word *words = shared_words(KEYS + 1);
    struct rng rng = rng_for(300);
    uint64_t until = now_ms() + 2000, born = 0;
    while (now_ms() < until) {
        uint64_t victim = rng_below(&rng, PROCESSES);
        if (pid[victim] != 0) {
            int status;
            kill(pid[victim], SIGKILL);
            CHECK_EQ(waitpid(pid[victim], &status, 0), pid[victim]);
            CHECK(WIFSIGNALED(status)); /* and did not fail a check before */
        }
        struct crowd crowd = {seg, words, words + KEYS, 0, 301 + born++};
        pid[victim] = fork_off();
        if (pid[victim] == 0)
            mortal(&crowd);
        usleep((unsigned)rng_below(&rng, 20000));
    }
    for (int i = 0; i < PROCESSES; i++) {
        if (pid[i] != 0) {
            kill_unburied(pid[i]);
            bury(pid[i]);
        }
    }
    CHECK(zoo_load_acquire(words + KEYS) > 100);
    CHECK(counted(seg, ZOO_N_OVERTAKEN) > 0);
    for (int n = 0; n < KEYS; n++) {
        char key[16];
        snprintf(key, sizeof key, "key%d", n);
        end(seg, key, lead(seg, key), ZOO_OK);
    }
    check_sound(seg);
    zoo_close(seg);
}

const struct suite flight_suites[] = {
    {"flight-one-leads", one_leads},
    {"flight-tombstones", tombstones_tell_why},
    {"flight-late", the_late_are_overtaken},
    {"flight-neighbours", two_keys_of_one_word},
    {"flight-dead", a_dead_leader_is_overtaken},
    {"flight-dies", a_leader_dies_while_others_wait},
    {"flight-stopped", a_stopped_leader_has_its_lease_and_no_more},
    {"flight-killed-at", killed_at_every_flight_point},
    {"flight-cas", every_decision_is_a_cas},
    {"flight-woken", waiters_are_woken},
    {"flight-wake-up", a_wake_up_is_sooner_than_a_slice},
    {"flight-signal", a_signal_does_not_end_a_wait},
    {"flight-nested", nested_computations},
    {"flight-threads", threads_lead_one_at_a_time},
    {"flight-processes", processes_lead_one_at_a_time},
    {"flight-killed", leaders_are_killed},
    {NULL, NULL},
};
