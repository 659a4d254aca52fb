/*
 * test_tally.c - what is counted of who reads, and of how long it takes.
 */
#include "harness.h"

static zoo_site_counts sites[1024];

static size_t all_sites(zoo_seg *seg)
{
    uint64_t cursor = 0;
    size_t n = 0, more;
    while ((more = zoo_sites(seg, &cursor, sites + n, 5)) > 0)
        n += more;
    return n;
}

static const zoo_site_counts *site_of(zoo_seg *seg, const char *text)
{
    for (size_t i = 0, n = all_sites(seg); i < n; i++) {
        if (sites[i].text_len == strlen(text) && memcmp(sites[i].text, text, strlen(text)) == 0)
            return sites + i;
    }
    return NULL;
}

static uint64_t site(zoo_seg *seg, const char *text)
{
    int found = zoo_site(seg, text, strlen(text));
    CHECK(found >= 0);
    return (uint64_t)found;
}

static void a_site_is_counted_by_all_who_know_its_text(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE), *other;
    CHECK_EQ(zoo_open(segment_name(), 0, 1000, &other), ZOO_OK);
    CHECK_EQ(all_sites(seg), 0);
    uint64_t one = site(seg, "one"), two = site(seg, "two");
    CHECK(one != 0 && two != 0 && one != two);
    CHECK_EQ(site(other, "one"), one);
    const uint64_t counts[ZOO_SITE_COUNTS] = {1, 2, 3, 4, 5, 600, 7000};
    zoo_site_add(seg, one, counts);
    zoo_site_add(other, one, counts);
    zoo_site_hits(seg, two, 48);
    CHECK_EQ(all_sites(seg), 2);
    const zoo_site_counts *found = site_of(seg, "one");
    CHECK(found != NULL);
    for (int i = 0; i < ZOO_SITE_COUNTS; i++)
        CHECK_EQ(found->count[i], 2 * counts[i]);
    found = site_of(other, "two");
    CHECK(found != NULL);
    CHECK_EQ(found->count[ZOO_S_HITS], 48);
    zoo_close(other);
    zoo_close(seg);
}

/* Those that find no place are counted together, without a name. */
static void a_full_table_counts_the_rest_together(void)
{
    char text[24];
    const uint64_t counts[ZOO_SITE_COUNTS] = {1};
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t hits = 0, nameless = 0;
    for (int i = 0; i < 200; i++) {
        snprintf(text, sizeof text, "site %d", i);
        zoo_site_add(seg, site(seg, text), counts);
    }
    size_t n = all_sites(seg);
    CHECK_EQ(n, seg->site_mask + 1);
    for (size_t i = 0; i < n; i++) {
        hits += sites[i].count[ZOO_S_HITS];
        nameless += sites[i].text_len == 0;
    }
    CHECK_EQ(hits, 200);
    CHECK_EQ(nameless, 1);
    zoo_close(seg);
}

static void a_long_text_is_cut(void)
{
    char text[2 * ZOO_SITE_TEXT];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    memset(text, 'x', sizeof text);
    CHECK_EQ(zoo_site(seg, text, sizeof text), zoo_site(seg, text, ZOO_SITE_TEXT));
    CHECK_EQ(all_sites(seg), 1);
    CHECK_EQ(sites[0].text_len, ZOO_SITE_TEXT);
    zoo_close(seg);
}

/* A place whose claimer died, and one that was scribbled over: nobody is shown what is no text. */
static void a_text_without_its_hash_is_not_shown(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    uint64_t one = site(seg, "one"), two = site(seg, "two");
    zoo_store_relaxed(&seg->sites[one].len, 0);
    zoo_store_relaxed(&seg->sites[two].len, UINT64_MAX);
    CHECK_EQ(all_sites(seg), 0);
    CHECK_EQ(site(seg, "one"), one); /* who finds it writes what is missing */
    CHECK_EQ(all_sites(seg), 1);
    CHECK(site_of(seg, "one") != NULL);
    zoo_site_hits(seg, UINT64_MAX, 1); /* a number of nobody's stays inside the table */
    zoo_close(seg);
}

static uint64_t total(const uint64_t *counts)
{
    uint64_t sum = 0;
    for (int i = 0; i < ZOO_SPAN_BUCKETS; i++)
        sum += counts[i];
    return sum;
}

static void spans_are_counted_by_length(void)
{
    uint64_t counts[ZOO_SPAN_BUCKETS];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    for (unsigned i = 0; i + 1 < ZOO_SPAN_BUCKETS; i++) {
        uint64_t limit = zoo_span_limit(i);
        CHECK(i == 0 || limit > zoo_span_limit(i - 1));
        zoo_span_note(seg, ZOO_SPAN_FILL, limit - 1);
        zoo_spans(seg, ZOO_SPAN_FILL, counts);
        CHECK_EQ(counts[i], i == 0 ? 1 : 2);
        zoo_span_note(seg, ZOO_SPAN_FILL, limit);
        zoo_spans(seg, ZOO_SPAN_FILL, counts);
        CHECK_EQ(counts[i + 1], 1);
    }
    CHECK_EQ(zoo_span_limit(ZOO_SPAN_BUCKETS - 1), UINT64_MAX);
    zoo_span_note(seg, ZOO_SPAN_FILL, UINT64_MAX);
    zoo_spans(seg, ZOO_SPAN_FILL, counts);
    CHECK_EQ(counts[ZOO_SPAN_BUCKETS - 1], 2);
    zoo_spans(seg, ZOO_SPAN_GET, counts);
    CHECK_EQ(total(counts), 0);
    zoo_span_note(seg, ZOO_SPANS, 1); /* no such kind */
    CHECK_EQ(zoo_spans(seg, -1, counts), 0);
    zoo_close(seg);
}

/* One in some 48 hits is measured; a miss is not, and what is measured is kept as ever. */
static void gets_are_measured_now_and_then(void)
{
    uint64_t counts[ZOO_SPAN_BUCKETS], counters[ZOO_STATS];
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(set_text(seg, "key", "v", ""), ZOO_OK);
    for (int i = 0; i < 24000; i++) {
        struct zoo_hit hit;
        char value[8];
        CHECK(get_text(seg, "key") != NULL);
        CHECK_EQ(zoo_find(seg, "key", 3, &hit), ZOO_OK);
        CHECK_EQ(zoo_take(seg, &hit, value, 0), ZOO_OK);
    }
    uint64_t ns = zoo_spans(seg, ZOO_SPAN_GET, counts);
    CHECK(total(counts) > 900 && total(counts) < 1100);
    CHECK(ns > 0);
    uint64_t before = total(counts);
    for (int i = 0; i < 1000; i++)
        CHECK(get_text(seg, "other") == NULL);
    zoo_spans(seg, ZOO_SPAN_GET, counts);
    CHECK_EQ(total(counts), before);
    zoo_stats(seg, counters);
    CHECK_EQ(counters[ZOO_N_PROMOTIONS], 0); /* nothing is behind it: a timed hit is no old one */
    zoo_close(seg);
}

const struct suite tally_suites[] = {
    {"tally-sites", a_site_is_counted_by_all_who_know_its_text},
    {"tally-full", a_full_table_counts_the_rest_together},
    {"tally-cut", a_long_text_is_cut},
    {"tally-texts", a_text_without_its_hash_is_not_shown},
    {"tally-spans", spans_are_counted_by_length},
    {"tally-gets", gets_are_measured_now_and_then},
    {NULL, NULL},
};
