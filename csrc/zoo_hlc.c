/*
 * zoo_hlc.c - the hybrid logical clock: one word that only goes forward.
 *
 * 48 bits, in units of 4 us since the machine booted: it fits a tag word
 * untruncated and wraps after 35 years. A new segment starts at the time of its
 * making, so that a stamp of an older segment is not good in it. Only invalidations advance it; a
 * fill's stamp is a plain load. An entry is fresh iff its stamp >= the clock of every tag that it
 * depends on.
 *
 * Invariants
 *  1. The word never decreases.
 *  2. A tick returns a value greater than every stamp taken before it began:
 *     a load before the tick is smaller, a load after it began at the tick.
 *  3. All ones is the end of time: a retired segment's clock. It is nobody's
 *     stamp, and no tick leaves it.
 *  4. At a tick the word is >= the physical clock, so a stamp that was dated
 *     back by physical time stays behind every later invalidation.
 *
 * Freshness rests on the order of this word alone, never on physical time: a
 * suspended machine or another time namespace costs nothing but resolution.
 *
 * Crash: a tick without its tags raised is a clock that ran ahead: harmless.
 * Source: Kulkarni et al., Logical Physical Clocks (2014), with the counter
 * folded into the low bits.
 */
#include <time.h>

#include "zoo_layout.h"

/* A remote clock further ahead than this is not believed: 60 s. */
#define ZOO_HLC_MAX_LEAD (60ull * 1000 * 1000 * 1000 / ZOO_CLOCK_UNIT_NS)

/* The one clock of all that is timed here. */
uint64_t zoo_hlc_boot_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now); /* counts suspends: an entry must not outlive its ttl */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t zoo_hlc_now_ms(const zoo_seg *seg)
{
    return zoo_hlc_boot_ns() / 1000000u + (uint64_t)seg->skew_ms;
}

static uint64_t physical(uint64_t boot_ns)
{
    return boot_ns / ZOO_CLOCK_UNIT_NS & ZOO_CLOCK_MASK;
}

uint64_t zoo_hlc_physical(void)
{
    return physical(zoo_hlc_boot_ns());
}

static uint64_t shifted(const zoo_seg *seg, uint64_t boot_ns)
{
    int64_t time = (int64_t)physical(boot_ns) + seg->skew_ms * (1000000 / (int)ZOO_CLOCK_UNIT_NS);
    return time > 0 ? (uint64_t)time : 1;
}

uint64_t zoo_time(const zoo_seg *seg)
{
    return shifted(seg, zoo_hlc_boot_ns());
}

/* `boot_ns` is the time: who ticks often needs it for more than this. */
uint64_t zoo_hlc_tick_at(zoo_seg *seg, uint64_t boot_ns)
{
    uint64_t now = shifted(seg, boot_ns);
    for (;;) {
        uint64_t last = zoo_load_relaxed(&seg->hdr->clock); /* the CAS checks it */
        if (last == ZOO_CLOCK_MASK)                         /* invariant 3 */
            return last;
        uint64_t next = now > last ? now : last + 1;
        if (zoo_cas_seq_cst(&seg->hdr->clock, last, next)) /* E6/R */
            return next;
    }
}

uint64_t zoo_hlc_tick(zoo_seg *seg)
{
    return zoo_hlc_tick_at(seg, zoo_hlc_boot_ns());
}

/*
 * The bound is on physical time and not on the word: otherwise a remote clock
 * that runs away would pull this one along, a little less than the bound at a time.
 */
int zoo_hlc_merge(zoo_seg *seg, uint64_t remote)
{
    if (remote <= zoo_hlc_read(seg))
        return 1;
    if (remote > zoo_time(seg) + ZOO_HLC_MAX_LEAD)
        return 0;
    zoo_max_release(&seg->hdr->clock, remote); /* E6/R: like a tick, before the words */
    return 1;
}
