/*
 * test_schedules.c - promise 1 under random schedules: writers, fills, gets and
 * changes around one row of a database.
 */
#include "schedule.h"

static uint64_t row, acknowledged; /* one actor runs at a time: no atomics */

static void run_write(void *unused)
{
    (void)unused;
    uint64_t version = ++row;
    pause_here();
    CHECK_EQ(invalidate(arena, version % 2 ? "row:1" : "other row"), ZOO_OK);
    acknowledged = version > acknowledged ? version : acknowledged;
}

static void run_fill(void *unused)
{
    char text[24];
    (void)unused;
    uint64_t stamp = zoo_stamp(arena);
    pause_here();
    snprintf(text, sizeof text, "%d", (int)row);
    pause_here();
    fill_text(arena, "key", text, "row:1", stamp);
}

static void run_get(void *unused)
{
    (void)unused;
    for (int i = 0; i < 2; i++) {
        uint64_t least = acknowledged;
        pause_here();
        const char *text = get_text(arena, "key");
        CHECK(text == NULL || (uint64_t)atoi(text) >= least);
    }
}

/* These two leave the value what it is, and must not make it younger than it is. */
static void run_touch(void *unused)
{
    (void)unused;
    touch(arena, "key", 1000);
}

static void run_swap(void *unused)
{
    char text[24];
    (void)unused;
    const char *found = get_text(arena, "key");
    if (found == NULL)
        return;
    strcpy(text, found);
    pause_here();
    swap_text(arena, "key", text, text);
}

static void no_schedule_is_stale(void)
{
    action *const most[] = {run_fill, run_write, run_get, run_fill};
    action *const any[] = {run_fill, run_write, run_get, run_touch, run_swap};
    struct rng rng = rng_for(5);
    schedules_begin(true);
    for (int round = 0; round < 16000; round++) {
        struct schedule schedule = {.rng = &rng};
        snprintf(context, sizeof context, "round %d", round);
        for (size_t i = 0; i < MOST_TASKS; i++)
            set_task(i, i < 2 || round % 3 == 0 ? most[i] : any[rng_below(&rng, 5)], NULL);
        reset_arena(rng_below(&rng, 64));
        row++; /* so that a version is never met again */
        acknowledged = row;
        zoo_hlc_tick(arena);
        if (round % 2 == 0) { /* something is there that may be touched */
            run_fill(NULL);
            zoo_hlc_tick(arena);
        }
        run_schedule(&schedule, 3 + rng_below(&rng, 2));
        run_get(NULL);
    }
    check_sound(arena);
    schedules_end();
}

const struct suite schedule_suites[] = {
    {"schedules-stale", no_schedule_is_stale},
    {NULL, NULL},
};
