/*
 * zoo_event.c - the ring of the last invalidations: why an entry was dropped.
 *
 * For people only: nothing in the core reads it. A place of the ring is one
 * cache line; event n is in place n modulo the ring's size.
 *
 * Readers copy a place, and take it if its number is the one they want and its
 *   sum is that of the copy. Any tear fails the sum: by a writer that was
 *   overtaken by a whole lap, too, which a number before and after would miss.
 * Writers count the head, and then fill the place that is theirs, the number last.
 * Reclaim: places are written over.
 * Crash: the place keeps its old event, or a torn one that nobody takes, till
 *   the next lap.
 *
 * An event has no time of its own: a tick is at or ahead of the physical clock,
 * so an event's clock tells when it was. That is free, where a system clock
 * costs as much as the rest of the event, and CLOCK_BOOTTIME has no coarse
 * version. It is ahead by what other hosts' clocks were ahead of this one's.
 *
 * Invariant
 *  1. What zoo_events() returns was written whole by one writer.
 *
 * Edge
 *  E15  an event's words, before its number -> its number, before the words
 */
#include <string.h>
#include <unistd.h>

#include "zoo_fault.h"
#include "zoo_hash.h"
#include "zoo_layout.h"

enum { TEXT_WORDS = ZOO_EVENT_TEXT / 8, WORDS = 3 + TEXT_WORDS };

/*
 * The tags that this thread is settling, as text. Not an argument: between
 * zoo_settle() and here nobody else has a use for them.
 */
struct spelling {
    size_t n;
    uint64_t hash[ZOO_LANE_TAGS];
    struct zoo_name name[ZOO_LANE_TAGS];
};
static _Thread_local const struct spelling *spelling;

static struct zoo_name spelt(uint64_t tag)
{
    for (size_t i = 0; spelling != NULL && i < spelling->n; i++) {
        if (spelling->hash[i] == tag)
            return spelling->name[i];
    }
    return (struct zoo_name){NULL, 0};
}

int zoo_settle_named(zoo_seg *seg, uint64_t ticket, int end, const char *tags, size_t tags_len)
{
    struct spelling own = {.n = 0};
    for (size_t start = 0; start < tags_len && own.n < ZOO_LANE_TAGS; own.n++) {
        const char *nul = memchr(tags + start, '\0', tags_len - start);
        size_t len = nul == NULL ? tags_len - start : (size_t)(nul - tags) - start;
        own.hash[own.n] = zoo_tag_hash(seg, tags + start, len);
        own.name[own.n] = (struct zoo_name){tags + start, len};
        start += len + 1;
    }
    spelling = &own;
    int status = zoo_settle(seg, ticket, end);
    spelling = NULL;
    return status;
}

/* getpid() is a system call. */
static uint64_t pid_of_process(void)
{
    static zoo_word known; /* low half of zoo_forks:32 | pid:32; a process has one value */
    uint64_t word = zoo_load_relaxed(&known);
    if ((uint32_t)word == 0 || word >> 32 != (uint32_t)zoo_forks) {
        word = (uint64_t)(uint32_t)zoo_forks << 32 | (uint32_t)getpid();
        zoo_store_relaxed(&known, word); /* every thread would store the same */
    }
    return (uint32_t)word;
}

static uint64_t sum_of(uint64_t number, const uint64_t *words)
{
    uint64_t sum = zoo_mix(number);
    for (int i = 0; i < WORDS; i++)
        sum = zoo_mix(sum + words[i]);
    return sum;
}

void zoo_event_note(zoo_seg *seg, uint64_t clock, uint64_t tag, const char *text, size_t text_len,
                    zoo_cause cause)
{
    uint64_t words[WORDS] = {clock, tag, pid_of_process() << 32 | (uint32_t)cause};
    struct zoo_name name = text != NULL ? (struct zoo_name){text, text_len} : spelt(tag);
    if (name.len > 0)
        memcpy(words + 3, name.text, name.len < ZOO_EVENT_TEXT ? name.len : ZOO_EVENT_TEXT);
    uint64_t number = zoo_add_relaxed(&seg->hdr->event_head, 1); /* orders nothing: only unique */
    struct zoo_event_slot *slot = seg->ring + (number & seg->ring_mask);
    ZOO_FAULT("event:reserved");
    /* Relaxed: a reader takes only words that the sum vouches for. */
    zoo_store_relaxed(&slot->clock, clock);
    zoo_store_relaxed(&slot->tag, tag);
    ZOO_FAULT("event:half-written");
    zoo_store_relaxed(&slot->who, words[2]);
    for (int i = 0; i < TEXT_WORDS; i++)
        zoo_store_relaxed(slot->text + i, words[3 + i]);
    zoo_store_relaxed(&slot->sum, sum_of(number, words));
    zoo_store_release(&slot->number, number + 1); /* E15/R */
}

static bool read_event(const zoo_seg *seg, uint64_t number, zoo_event *out)
{
    const struct zoo_event_slot *slot = seg->ring + (number & seg->ring_mask);
    uint64_t words[WORDS];
    if (zoo_load_acquire(&slot->number) != number + 1) /* E15/A */
        return false;
    /* Relaxed: a torn copy is allowed here and caught by the sum. */
    words[0] = zoo_load_relaxed(&slot->clock);
    words[1] = zoo_load_relaxed(&slot->tag);
    ZOO_FAULT("event:half-read");
    words[2] = zoo_load_relaxed(&slot->who);
    for (int i = 0; i < TEXT_WORDS; i++)
        words[3 + i] = zoo_load_relaxed(slot->text + i);
    if (zoo_load_relaxed(&slot->sum) != sum_of(number, words))
        return false;
    *out = (zoo_event){.number = number,
                       .clock = words[0],
                       .tag = words[1],
                       .when_ms = words[0] * ZOO_CLOCK_UNIT_NS / 1000000u,
                       .pid = (uint32_t)(words[2] >> 32),
                       .cause = (uint32_t)words[2]};
    memcpy(out->text, words + 3, ZOO_EVENT_TEXT);
    return true;
}

size_t zoo_events(zoo_seg *seg, uint64_t from, zoo_event *out, size_t n)
{
    /* no edge: a hint; each place is checked (E15). */
    uint64_t head = zoo_load_acquire(&seg->hdr->event_head);
    uint64_t most = n < seg->ring_mask + 1 ? n : seg->ring_mask + 1;
    size_t found = 0;
    if (from >= head)
        return 0;
    if (head - from > most)
        from = head - most;
    for (; from < head; from++)
        found += read_event(seg, from, out + found);
    return found;
}
