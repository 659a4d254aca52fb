/*
 * zoo_flight.c - one computation per key on the host: others wait for the leader.
 *
 * A table of words; a key has the slot that its hash says. All of a flight is
 * in its word, so that each decision is one CAS from an exact word:
 *
 *     63       52 51            32 31     22 21        12 11    2 1    0
 *     +----------+----------------+---------+------------+-------+------+
 *     | hash: 12 | deadline: 20   | serial  | generation | slot  | state|
 *     +----------+----------------+---------+------------+-------+------+
 *      of the key  16 ms, modulo   `------------ owner -----------'
 *
 * A flight that is over leaves 0 if a value was stored, else its own word as a
 * *tombstone* (FAILED, UNSTORED), so that those who waited for it learn why.
 * The low half changes with each decision: it is the futex that they wait on.
 *
 * Readers wait in slices, and look between them whether the leader is alive and
 *   in time. A waiter is given no value: it gets it like anybody, validated.
 * Writers claim a free word, or that of a dead or late leader; the leader ends
 *   its own.
 * Reclaim: tombstones are free words. Two keys may share a slot; then the
 *   second computes without a flight.
 * Crash: a dead leader's word stays until the next claim. One that dies before
 *   it wakes the waiters costs them a slice.
 *
 * Nobody's correctness rests on a flight: it only saves work. A leader that was
 * overtaken goes on and stores what it has like any fill.
 *
 * Invariants (model: docs/design/models/flights.pml, whose steps F2.. are cited)
 *  1. Of the leaders of a key, at most one is neither dead nor late.
 *  2. A word changes only by a CAS from its exact value: what was judged dead is
 *     what is replaced, and a leader that was overtaken ends nobody's flight.
 *  3. Nobody waits longer than it asked for. A thread that holds a flight must
 *     not wait at all: two keys could wait for each other.
 *
 * A deadline comes round after 4.6 hours: the word of a leader that was stopped,
 * and that nobody asked about since, may look in time for one more lease.
 *
 * Edge
 *  E14  the fill's word in the index, before the flight's end -> the flight's word, before a get
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "zoo_fault.h"
#include "zoo_layout.h"

enum state { FREE = 0, FLYING = 1, FAILED = 2, UNSTORED = 3 };
enum { CLAIM_ATTEMPTS = 16, SLICE_MS = 20, UNIT_MS = 16, MOST_LEASE_MS = 3600000 };
enum { GENERATION = 10, SERIAL_SHIFT = 22, DEADLINE_SHIFT = 32, HASH_SHIFT = 52 };

#define STATE_MASK 3ull
#define OWNER_MASK ((1ull << (ZOO_SLOT_BITS + GENERATION)) - 1)
#define SERIAL_MASK 0x3ffull
#define DEADLINE_MASK 0xfffffull

static zoo_word *slot_of(const zoo_seg *seg, uint64_t key_hash)
{
    return seg->flights + (key_hash & seg->flight_mask);
}

bool zoo_flight_is_taken(uint64_t word)
{
    return (word & STATE_MASK) == FLYING;
}

static uint64_t new_word(zoo_seg *seg, uint64_t owner, uint64_t key_hash, uint32_t lease_ms)
{
    uint64_t lease = lease_ms < MOST_LEASE_MS ? lease_ms : MOST_LEASE_MS;
    uint64_t deadline = (zoo_hlc_now_ms(seg) + lease) / UNIT_MS + 1;
    return key_hash >> HASH_SHIFT << HASH_SHIFT | (deadline & DEADLINE_MASK) << DEADLINE_SHIFT |
           (zoo_owner_serial(seg) & SERIAL_MASK) << SERIAL_SHIFT | (owner & OWNER_MASK) << 2 |
           FLYING;
}

static bool is_late(const zoo_seg *seg, uint64_t word)
{
    uint64_t left = ((word >> DEADLINE_SHIFT) - zoo_hlc_now_ms(seg) / UNIT_MS) & DEADLINE_MASK;
    return left == 0 || left > MOST_LEASE_MS / UNIT_MS + 1;
}

/* A system call, unless the word is late or this process's own. */
static bool is_led(zoo_seg *seg, uint64_t word)
{
    return !is_late(seg, word) && zoo_owner_alive_as(seg, word >> 2 & OWNER_MASK, GENERATION);
}

int zoo_flight_claim(zoo_seg *seg, const char *key, size_t key_len, uint32_t lease_ms,
                     uint64_t *ticket)
{
    uint64_t key_hash = zoo_key_hash(seg, key, key_len);
    zoo_word *at = slot_of(seg, key_hash);
    uint64_t owner = zoo_owner_mine(seg);
    *ticket = 0;
    for (int attempt = 0; owner != 0 && attempt < CLAIM_ATTEMPTS; attempt++) {
        uint64_t word = zoo_load_acquire(at); /* F2; E14/A */
        bool flying = (word & STATE_MASK) == FLYING;
        ZOO_FAULT("flight:looked");
        if (flying && is_led(seg, word)) {
            if (word >> HASH_SHIFT != key_hash >> HASH_SHIFT)
                break; /* F11: another key's */
            *ticket = word;
            return ZOO_LED;
        }
        uint64_t own = new_word(seg, owner, key_hash, lease_ms);
        ZOO_FAULT("flight:before-claim");
        if (!zoo_cas_release(at, word, own)) /* F3, F9; E14/A */
            continue;
        ZOO_FAULT("flight:claimed");
        zoo_count(seg, ZOO_N_LED, 1);
        zoo_count(seg, ZOO_N_OVERTAKEN, flying);
        *ticket = own;
        return ZOO_OK;
    }
    return ZOO_OK; /* computes without a flight */
}

/* The futex is the low half of the word; it is shared, so not FUTEX_PRIVATE. */
static void sleep_on(zoo_word *at, uint64_t word, uint64_t ms)
{
    struct timespec pause = {.tv_sec = 0, .tv_nsec = (long)ms * 1000000};
    syscall(SYS_futex, at, FUTEX_WAIT, (uint32_t)word, &pause, NULL, 0);
}

/*
 * What a waiter is to do when the slot has this word instead of its leader's. The
 * next flight may be under way already: then it is to look, and to claim or wait
 * again, as after a failure; to compute at once would be a second computation.
 */
static int outcome_of(uint64_t word)
{
    static const int outcomes[] = {
        [FREE] = ZOO_OK, [FLYING] = ZOO_FAILED, [FAILED] = ZOO_FAILED, [UNSTORED] = ZOO_UNSTORED};
    return outcomes[word & STATE_MASK];
}

static int wait_for(zoo_seg *seg, zoo_word *at, uint64_t ticket, uint32_t wait_ms)
{
    uint64_t start = zoo_hlc_now_ms(seg);
    for (;;) {
        uint64_t word = zoo_load_acquire(at); /* F8; E14/A */
        if (word != ticket)
            return outcome_of(word);
        if (!is_led(seg, word))
            return ZOO_FAILED;
        uint64_t waited = zoo_hlc_now_ms(seg) - start;
        if (waited >= wait_ms)
            return ZOO_LED;
        uint64_t left = wait_ms - waited;
        ZOO_FAULT("flight:before-sleep");
        sleep_on(at, ticket, left < SLICE_MS ? left : SLICE_MS); /* interrupted: looks again */
    }
}

int zoo_flight_wait(zoo_seg *seg, const char *key, size_t key_len, uint64_t ticket,
                    uint32_t wait_ms)
{
    if ((ticket & STATE_MASK) != FLYING)
        return ZOO_OK;
    int outcome = wait_for(seg, slot_of(seg, zoo_key_hash(seg, key, key_len)), ticket, wait_ms);
    if (outcome != ZOO_LED) /* a long wait is many calls, and counts once */
        zoo_count(seg, ZOO_N_WAITED, 1);
    return outcome;
}

void zoo_flight_end(zoo_seg *seg, const char *key, size_t key_len, uint64_t ticket, int outcome)
{
    if ((ticket & STATE_MASK) != FLYING)
        return;
    zoo_word *at = slot_of(seg, zoo_key_hash(seg, key, key_len));
    uint64_t tombstone = (ticket & ~STATE_MASK) | (outcome == ZOO_FAILED ? FAILED : UNSTORED);
    ZOO_FAULT("flight:before-end");
    if (!zoo_cas_release(at, ticket, outcome == ZOO_OK ? FREE : tombstone)) /* F7; E14/R */
        return;                                                             /* overtaken */
    ZOO_FAULT("flight:before-wake");
    syscall(SYS_futex, at, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}
