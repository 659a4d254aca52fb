/*
 * zoo_geometry.c - where the parts of a segment lie, and whether a header may be believed.
 */
#include "zoo_hash.h"
#include "zoo_layout.h"
#include "zoo_sum.h"

static uint64_t power_of_two_below(uint64_t n, uint64_t least, uint64_t most)
{
    uint64_t power = least;
    while (power * 2 <= n && power < most)
        power *= 2;
    return power;
}

uint64_t zoo_geometry_sum(const struct zoo_hdr *hdr)
{
    return zoo_hash((const char *)hdr, offsetof(struct zoo_hdr, constants_sum), ZOO_PRIME);
}

static uint64_t align(uint64_t n, uint64_t to)
{
    return (n + to - 1) & ~(to - 1);
}

/*
 * The index has a bucket for each KiB: with short records it fills up about when
 * the logs do, and with longer ones there is room for ghosts. Where it is known
 * what an entry takes, it has two words for each, or as near to that as a power of
 * two comes: 1.4 to 2.8. With fewer, buckets overflow that have got more than
 * their share, long before the others are full.
 */
static uint64_t buckets(uint64_t size, uint64_t entry_size)
{
    if (entry_size == 0)
        return power_of_two_below(size / 1024, 64, 1ull << 32);
    uint64_t wanted = size / entry_size * 2 / ZOO_WAYS;
    uint64_t below = power_of_two_below(wanted, 64, 1ull << 31);
    return wanted > below + below / 5 * 2 ? below * 2 : below; /* about the root of two */
}

/* Places the parts one behind the other; the logs get what is left. */
void zoo_geometry_plan(struct zoo_hdr *hdr, uint64_t size, uint64_t entry_size)
{
    if (entry_size != 0 && entry_size < ZOO_MIN_ENTRY)
        entry_size = ZOO_MIN_ENTRY; /* or the index would be all of the segment */
    const uint64_t sizes[ZOO_PARTS] = {
        [ZOO_PART_STATS] = ZOO_STRIPES * ZOO_STATS * 8,
        [ZOO_PART_TAGS] = power_of_two_below(size / 16384, 64, 65536) * ZOO_LINE,
        [ZOO_PART_INDEX] = buckets(size, entry_size) * ZOO_LINE,
        [ZOO_PART_PENDING] = power_of_two_below(size / 65536, 512, 4096) * 8,
        [ZOO_PART_LANES] = ZOO_LANES * sizeof(struct zoo_lane),
        [ZOO_PART_OWNERS] = ZOO_OWNERS * 8,
        [ZOO_PART_FLIGHTS] = power_of_two_below(size / 65536, 512, 4096) * 8,
        [ZOO_PART_EVENTS] =
            power_of_two_below(size / 16384, 256, 4096) * sizeof(struct zoo_event_slot),
        [ZOO_PART_SITES] = power_of_two_below(size / 65536, 32, 512) * sizeof(struct zoo_site_slot),
        [ZOO_PART_SPANS] = ZOO_SPANS * sizeof(struct zoo_span_counts),
    };
    uint64_t at = 4096;
    for (int i = 0; i < ZOO_PART_LOG_PROBATION; i++) {
        hdr->part[i] = (struct zoo_part){at, sizes[i]};
        at = align(at + sizes[i], ZOO_LINE);
    }
    at = align(at, ZOO_PART_ALIGN);
    uint64_t probation = align((size - at) / ZOO_PROBATION_SHARE, ZOO_PART_ALIGN);
    hdr->part[ZOO_PART_LOG_PROBATION] = (struct zoo_part){at, probation};
    at += probation;
    hdr->part[ZOO_PART_LOG_MAIN] = (struct zoo_part){at, size - at};
    hdr->size = size;
    hdr->entry_size = entry_size;
}

static bool fits(const struct zoo_hdr *hdr, int id, uint64_t alignment)
{
    const struct zoo_part *part = &hdr->part[id];
    return part->offset % alignment == 0 && part->offset >= sizeof *hdr &&
           part->offset <= hdr->size && part->size <= hdr->size - part->offset;
}

/* A table that is indexed by a mask: a power of two of items. */
static bool is_table(const struct zoo_hdr *hdr, int id, uint64_t item)
{
    uint64_t items = hdr->part[id].size / item;
    return fits(hdr, id, ZOO_LINE) && items > 0 && (items & (items - 1)) == 0 &&
           hdr->part[id].size % item == 0;
}

static bool is_array(const struct zoo_hdr *hdr, int id, uint64_t size)
{
    return fits(hdr, id, ZOO_LINE) && hdr->part[id].size == size;
}

static bool is_log(const struct zoo_hdr *hdr, int id)
{
    uint64_t size = hdr->part[id].size;
    return fits(hdr, id, ZOO_PART_ALIGN) && size >= ZOO_PART_ALIGN && size % ZOO_PART_ALIGN == 0;
}

/*
 * A handle maps all before the main log in one piece, and the start of probation
 * behind probation's end: the tables come first, then the logs, side by side. A
 * record of probation must fit the main log, where a promotion copies it to.
 */
static bool is_in_order(const struct zoo_hdr *hdr)
{
    const struct zoo_part *probation = &hdr->part[ZOO_PART_LOG_PROBATION];
    const struct zoo_part *main_log = &hdr->part[ZOO_PART_LOG_MAIN];
    for (int i = 0; i < ZOO_PART_LOG_PROBATION; i++) {
        if (hdr->part[i].offset + hdr->part[i].size > probation->offset)
            return false;
    }
    return probation->offset + probation->size == main_log->offset &&
           probation->size <= main_log->size;
}

/* Is this private copy of a header one that this code can use? */
int zoo_geometry_inspect(const struct zoo_hdr *hdr, uint64_t object_size)
{
    if (hdr->magic != ZOO_MAGIC || hdr->layout_version != ZOO_LAYOUT_VERSION ||
        hdr->header_size != sizeof *hdr)
        return ZOO_E_FORMAT;
    if (hdr->constants_sum != zoo_geometry_sum(hdr))
        return ZOO_E_GARBLED;
    if (object_size < hdr->size)
        return ZOO_E_TRUNCATED;
    /* Made on a processor that this one is not: a machine that was moved, or an emulator. */
    if (hdr->sum_kind == ZOO_SUM_AES && !zoo_sum_has_aes())
        return ZOO_E_FORMAT;
    bool sound =
        (hdr->sum_kind == ZOO_SUM_AES || hdr->sum_kind == ZOO_SUM_PLAIN) &&
        is_array(hdr, ZOO_PART_STATS, ZOO_STRIPES * ZOO_STATS * 8) &&
        is_table(hdr, ZOO_PART_TAGS, ZOO_LINE) && is_table(hdr, ZOO_PART_INDEX, ZOO_LINE) &&
        is_table(hdr, ZOO_PART_PENDING, 8) &&
        is_array(hdr, ZOO_PART_LANES, ZOO_LANES * sizeof(struct zoo_lane)) &&
        is_array(hdr, ZOO_PART_OWNERS, ZOO_OWNERS * 8) && is_table(hdr, ZOO_PART_FLIGHTS, 8) &&
        is_table(hdr, ZOO_PART_EVENTS, sizeof(struct zoo_event_slot)) &&
        is_table(hdr, ZOO_PART_SITES, sizeof(struct zoo_site_slot)) &&
        is_array(hdr, ZOO_PART_SPANS, ZOO_SPANS * sizeof(struct zoo_span_counts)) &&
        is_log(hdr, ZOO_PART_LOG_PROBATION) && is_log(hdr, ZOO_PART_LOG_MAIN) && is_in_order(hdr);
    return sound ? ZOO_OK : ZOO_E_GARBLED;
}

/* The longest record: an eighth of its log, and never over 1 GiB. */
uint64_t zoo_geometry_longest(uint64_t log_size)
{
    uint64_t bytes = log_size / 8;
    return bytes < 1u << 30 ? bytes : 1u << 30;
}

/*
 * By how much the limit of a log is raised. What lies within it is lost to
 * readers a little early: a 256th of the log at most, and nothing of a small one.
 */
uint64_t zoo_geometry_stride(uint64_t log_size)
{
    return log_size < 1u << 20 ? ZOO_UNIT : power_of_two_below(log_size / 256, 1, 65536);
}
