/*
 * test_succession.c - segments that end otherwise: the replacer is killed, the
 * name is lost, or the layout is another version's.
 */
#include "retire.h"

#include <signal.h>
#include <sys/mman.h>

/* --- Killed replacers ------------------------------------------------------------------------ */

static const char *const retire_points[] = {"retire:clock-stopped", "retire:retired",
                                            "retire:before-rename", "segment:allocated",
                                            "segment:before-ready"};

struct doom {
    const char *point;
    unsigned count;
    bool unlinks;
};

static void replace_and_die(void *arg)
{
    struct doom *doom = arg;
    at_point_after(doom->point, doom->count, die_hard, NULL);
    if (doom->unlinks)
        zoo_unlink(segment_name());
    else
        zoo_resize(segment_name(), 2 << 20, 0);
}

static void a_replacer_that_dies_is_followed(void)
{
    for (size_t i = 0; i < 16; i++) {
        struct doom doom = {retire_points[i / 2 % 5], 1 + (unsigned)i % 2, i >= 10};
        if (i >= 10)
            doom = (struct doom){"retire:clock-stopped", 1, true};
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        snprintf(context, sizeof context, "%s, passing %u", doom.point, doom.count);
        CHECK_EQ(set_text(seg, "key", "5", "t"), ZOO_OK);
        uint64_t stamp = zoo_stamp(seg);
        int status = in_child(replace_and_die, &doom);
        if (!WIFSIGNALED(status)) { /* not passed so often: it has replaced the segment */
            zoo_close(seg);
            continue;
        }
        uint64_t start = now_ms();
        zoo_seg *next = open_any();
        if (next->inode == seg->inode) { /* killed before it touched the old one */
            CHECK(strncmp(doom.point, "segment:", 8) == 0 && doom.count == 1);
            CHECK(strcmp(get_text(next, "key"), "5") == 0);
            CHECK_EQ(delete_key(next, "key"), ZOO_OK);
            works(next);
        } else {
            is_over(seg);
            CHECK_EQ(fill_text(next, "key", "old", "t", stamp), ZOO_BORN_DEAD);
            works(next);
        }
        CHECK(now_ms() - start < 2000);
        CHECK_EQ(zoo_resize(segment_name(), ZOO_MIN_SIZE, 0), ZOO_OK);
        zoo_close(next);
        next = open_any();
        works(next);
        zoo_close(next);
        zoo_close(seg);
    }
}

/* Those who have it mapped notice it too, though nobody opens the name. */
static void a_half_retired_segment_is_noticed(void)
{
    struct doom doom = {"retire:clock-stopped", 1, false};
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK(WIFSIGNALED(in_child(replace_and_die, &doom)));
    uint64_t start = now_ms();
    while (!zoo_retired(seg))
        CHECK(now_ms() - start < 2000);
    is_over(seg);
    zoo_close(seg);
}

static void nothing_is_left_of_a_successor(void)
{
    struct doom doom = {"retire:before-rename", 1, false};
    zoo_seg *seg = fresh(ZOO_MIN_SIZE);
    CHECK(WIFSIGNALED(in_child(replace_and_die, &doom)));
    CHECK(exists(object_name(".next")));
    CHECK_EQ(zoo_unlink(segment_name()), ZOO_OK);
    CHECK(!exists(object_name("")));
    CHECK(!exists(object_name(".next")));
    zoo_close(seg);
}

/* --- Lost names ------------------------------------------------------------------------------- */

enum { READY, UNLINKED };
struct witness {
    zoo_seg *seg;
    zoo_word *words;
};

static void wait_for_retirement(void *arg)
{
    struct witness *witness = arg;
    uint64_t start;
    CHECK(get_text(witness->seg, "key") != NULL);
    zoo_store_release(&witness->words[READY], 1);
    await(&witness->words[UNLINKED], 1);
    start = now_ms();
    do
        get_text(witness->seg, "key");
    while (got != -ZOO_RETIRED && now_ms() - start < 3000);
    CHECK_EQ(got, -ZOO_RETIRED);
    CHECK(now_ms() - start < 1500); /* once a second, if there are 64 operations */
    is_over(witness->seg);
}

static void a_lost_name_is_noticed(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE), *other = attach_again();
    struct witness witness = {seg, shared_words(2)};
    CHECK_EQ(set_text(seg, "key", "5", "t"), ZOO_OK);
    pid_t pid = fork_off();
    if (pid == 0) {
        wait_for_retirement(&witness);
        _exit(0);
    }
    await(&witness.words[READY], 1);
    CHECK(!zoo_retired(seg));
    CHECK_EQ(shm_unlink(object_name("")), 0);
    zoo_store_release(&witness.words[UNLINKED], 1);
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    is_over(seg); /* one process notices for all */
    is_over(other);
    zoo_close(seg);
    zoo_close(other);
    /* Whoever asks is told at once. */
    seg = fresh(ZOO_MIN_SIZE);
    CHECK_EQ(shm_unlink(object_name("")), 0);
    CHECK(zoo_retired(seg));
    is_over(seg);
    zoo_close(seg);
    seg = open_any();
    works(seg);
    zoo_close(seg);
}

/* --- Other layouts ---------------------------------------------------------------------------- */

static void an_older_layout_is_replaced(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE), *next;
    CHECK_EQ(set_text(seg, "key", "5", "t"), ZOO_OK);
    CHECK_EQ(zoo_merge(seg, zoo_stamp(seg) + 5000000), 1);
    uint64_t stamp = zoo_stamp(seg);
    CHECK_EQ(zoo_outdated(segment_name()), ZOO_MISS);
    seg->hdr->layout_version = ZOO_LAYOUT_FIRST;
    CHECK_EQ(zoo_outdated(segment_name()), ZOO_OK);
    CHECK(ZOO_LAYOUT_FIRST < ZOO_LAYOUT_VERSION);
    CHECK_EQ(zoo_open(segment_name(), 0, 100, &next), ZOO_E_FORMAT); /* attaching makes nothing */
    CHECK(get_text(seg, "key") != NULL);
    CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE, 1000, &next), ZOO_OK);
    is_over(seg);
    CHECK(zoo_stamp(next) > stamp);
    works(next);
    zoo_close(seg);
    zoo_close(next);
}

static void a_newer_layout_is_cleared(void)
{
    zoo_seg *seg = fresh(ZOO_MIN_SIZE), *next;
    CHECK_EQ(zoo_clear_foreign("no-such-segment"), ZOO_E_NO_SEGMENT);
    CHECK_EQ(zoo_outdated("no-such-segment"), ZOO_E_NO_SEGMENT);
    for (int ticks = 0; ticks <= 1; ticks++) {
        CHECK_EQ(set_text(seg, "key", "5", "t"), ZOO_OK);
        if (ticks)
            zoo_hlc_tick(seg);
        CHECK(get_text(seg, "key") != NULL);
        uint64_t stamp = zoo_stamp(seg), events = zoo_load_acquire(&seg->hdr->events);
        seg->hdr->layout_version = ZOO_LAYOUT_VERSION + 1;
        CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE, 100, &next), ZOO_E_FORMAT);
        CHECK_EQ(zoo_clear_foreign(segment_name()), ZOO_OK);
        CHECK(!zoo_retired(seg)); /* whoever can read it goes on with it */
        CHECK(get_text(seg, "key") == NULL);
        CHECK_EQ(got, -ZOO_STALE);
        CHECK(zoo_load_acquire(&seg->hdr->events) > events);
        CHECK_EQ(fill_text(seg, "key", "old", "t", stamp), ZOO_BORN_DEAD);
        CHECK_EQ(fill_text(seg, "key", "new", "t", zoo_stamp(seg)), ZOO_OK);
    }
    /* What is no segment at all, or points anywhere, is left alone. */
    seg->hdr->stable.root_at = 1 << 30;
    CHECK_EQ(zoo_clear_foreign(segment_name()), ZOO_E_FORMAT);
    seg->hdr->stable.root_at = 4092;
    CHECK_EQ(zoo_clear_foreign(segment_name()), ZOO_E_FORMAT);
    seg->hdr->stable.root_at = offsetof(struct zoo_hdr, root);
    seg->hdr->layout_version = 1; /* from before there was a stable prefix */
    CHECK_EQ(zoo_clear_foreign(segment_name()), ZOO_E_FORMAT);
    CHECK_EQ(zoo_open(segment_name(), ZOO_MIN_SIZE, 100, &next), ZOO_E_FORMAT);
    zoo_close(seg);
}

const struct suite succession_suites[] = {
    {"replacer-dies", a_replacer_that_dies_is_followed},
    {"half-retired", a_half_retired_segment_is_noticed},
    {"successor-left", nothing_is_left_of_a_successor},
    {"lost-name", a_lost_name_is_noticed},
    {"older-layout", an_older_layout_is_replaced},
    {"newer-layout", a_newer_layout_is_cleared},
    {NULL, NULL},
};
