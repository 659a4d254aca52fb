/*
 * test_linear.c - what operations on one key return is explained by some order of them.
 *
 * Of two operations all choices of a schedule at the first points are tried, of
 * three and four operations random ones. What they returned must have an
 * explanation as a sequence (linearizability), and the index must be sound.
 */
#include "schedule.h"

enum kind { SET, DELETE, GET, LAP, ADD, REPLACE, INCR, SWAP, TOUCH, KINDS };
enum { OLD = 1 }; /* the value before the tasks begin; they store 2, 3, ... */
enum before { ABSENT, PRESENT, PROMOTED, GHOST, DEAD_INSERTER, BEFORES };
static const char *const names[] = {"set",     "delete", "get",  "lap",  "add",
                                    "replace", "incr",   "swap", "touch"};

struct op {
    enum kind kind;
    int value;    /* what it stores, or adds */
    int expected; /* SWAP */
    int outcome, seen;
    unsigned start, end;
    bool used;
};
static struct op ops[MOST_TASKS];

static int value_of(const char *text)
{
    return text == NULL ? 0 : atoi(text);
}

/* GETs copy OLD to the main log's head. */
static void run_op(void *arg)
{
    struct op *op = arg;
    char text[16], expected[16];
    int64_t number = 0;
    op->start = schedule_step;
    op->outcome = op->seen = 0;
    snprintf(text, sizeof text, "%d", op->value);
    snprintf(expected, sizeof expected, "%d", op->expected);
    switch (op->kind) {
    case SET:
        op->outcome = set_text(arena, "key", text, "");
        break;
    case ADD:
        op->outcome = put_text(arena, ZOO_ADD, "key", text, "");
        break;
    case REPLACE:
        op->outcome = put_text(arena, ZOO_REPLACE, "key", text, "");
        break;
    case DELETE:
        op->outcome = delete_key(arena, "key");
        break;
    case INCR:
        op->outcome = incr(arena, "key", op->value, &number);
        op->seen = (int)number;
        break;
    case SWAP:
        op->outcome = swap_text(arena, "key", expected, text);
        break;
    case TOUCH:
        op->outcome = touch(arena, "key", 60000);
        break;
    case GET:
        op->seen = value_of(get_text(arena, "key"));
        break;
    default:
        half_a_lap(arena);
    }
    op->end = schedule_step;
}

/* The key's value, 0: none; is it still the first; may its record have been lapped? */
struct state {
    int value;
    bool old, doomed;
};

/* `found`: did the operation find an entry? `gone`: may it have missed one that is there? */
static bool step_if_there(bool found, bool gone, struct state *state, int value)
{
    if (!found)
        return state->value == 0 || gone;
    if (state->value == 0)
        return false;
    if (value != 0)
        *state = (struct state){value, false, false};
    return true;
}

/* Does one of these kinds, as a mask, overlap with an operation? */
static bool has_beside(const struct op *op, unsigned kinds)
{
    bool found = false;
    for (const struct op *other = ops; other < ops + MOST_TASKS; other++)
        found |= other != op && other->used && (kinds & 1u << other->kind) != 0 &&
                 other->start <= op->end && other->end >= op->start;
    return found;
}

static bool step(const struct op *op, struct state *state, bool may_miss)
{
    bool gone = may_miss || state->doomed, ok = op->outcome == ZOO_OK;
    switch (op->kind) {
    case SET:
        *state = (struct state){ok ? op->value : 0, false, false};
        return ok || op->outcome == ZOO_CROWDED;
    case ADD:
        if (!ok)
            return op->outcome == ZOO_CROWDED || op->outcome == ZOO_BORN_DEAD ||
                   (op->outcome == ZOO_EXISTS && state->value != 0);
        if (state->value != 0 && !gone)
            return false;
        *state = (struct state){op->value, false, false};
        return true;
    case DELETE:
        if (ok && state->value == 0)
            return false;
        /* It says "was not there" if a store beside it took the place of what it dropped. */
        if (!ok && state->value != 0 && !gone && !has_beside(op, ~(1u << GET | 1u << LAP)))
            return false;
        state->value = 0;
        return true;
    case REPLACE:
        if (op->outcome == ZOO_CROWDED)
            return state->value = 0, true;
        /* It may have seen what a delete beside it drops, and take its stamp after that one's. */
        if (ok && state->value == 0 && has_beside(op, 1u << DELETE))
            return *state = (struct state){op->value, false, false}, true;
        return step_if_there(ok, gone, state, op->value);
    case INCR:
        if (ok && op->seen != state->value + op->value)
            return false;
        return (ok || op->outcome == ZOO_MISS) && step_if_there(ok, gone, state, op->seen);
    case SWAP:
        if (op->outcome == ZOO_DIFFERS)
            return state->value != 0 && state->value != op->expected;
        if (ok && state->value != op->expected)
            return false;
        return (ok || op->outcome == ZOO_MISS) && step_if_there(ok, gone, state, op->value);
    case TOUCH:
        return (ok || op->outcome == ZOO_MISS) && step_if_there(ok, gone, state, 0);
    case GET:
        return op->seen == state->value || (op->seen == 0 && gone);
    default: /* a lap kills what was there from the start, unless that was copied meanwhile */
        state->doomed |= state->old;
        return true;
    }
}

/* Is there an order of the ops, true to their times, that explains all answers and the end? */
static bool explained(size_t n, unsigned used, struct state state, int at_end, bool may_miss)
{
    if (used == (1u << n) - 1)
        return at_end == state.value || (at_end == 0 && (may_miss || state.doomed));
    for (size_t i = 0; i < n; i++) {
        bool ready = !(used & 1u << i);
        for (size_t j = 0; j < n && ready; j++)
            ready = used & 1u << j || ops[j].end >= ops[i].start || j == i;
        struct state after = state;
        if (ready && step(&ops[i], &after, may_miss) &&
            explained(n, used | 1u << i, after, at_end, may_miss))
            return true;
    }
    return false;
}

/* Live words of other keys in all but two slots, so that inserters take one another's slots. */
static void crowd(void)
{
    static char keys[6][24];
    static uint64_t bucket = UINT64_MAX;
    uint64_t mine = zoo_key_hash(arena, "key", 3) & arena->bucket_mask;
    for (uint64_t i = 0, n = 0; mine != bucket && n < 6; i++) {
        snprintf(keys[n], sizeof keys[n], "c%d", (int)i);
        n += (zoo_key_hash(arena, keys[n], strlen(keys[n])) & arena->bucket_mask) == mine;
    }
    bucket = mine;
    for (int i = 0; i < 6; i++)
        CHECK_EQ(set_text(arena, keys[i], "crowd", ""), ZOO_OK);
}

/* `at` decides which slots are chosen first; the same schedule then runs the same way again. */
static void prepare(enum before before, bool crowded, uint64_t at)
{
    zoo_word *bucket = zoo_index_bucket(arena, zoo_key_hash(arena, "key", 3));
    reset_arena(at);
    if (before != ABSENT) {
        CHECK_EQ(set_text(arena, "key", "1", ""), ZOO_OK);
        if (before == PROMOTED)
            promote_key(arena, "key");
        ripen(arena);
    }
    if (crowded)
        crowd();
    if (before == GHOST)
        half_a_lap(arena);
    for (unsigned i = 0; i < ZOO_WAYS && before == DEAD_INSERTER; i++) {
        uint64_t word = zoo_load_acquire(bucket + i);
        if (zoo_index_may_hold(word, zoo_key_hash(arena, "key", 3)))
            zoo_store_relaxed(bucket + i, word | ZOO_WORD_TENTATIVE);
    }
}

static void judge(size_t n, enum before before, bool may_miss, const struct schedule *schedule)
{
    char what[150];
    int at = snprintf(what, sizeof what, "before %d, may miss %d", before, may_miss);
    for (size_t i = 0; i < n; i++)
        at += snprintf(what + at, sizeof what - (size_t)at, ", %s %d: %d/%d", names[ops[i].kind],
                       ops[i].value, ops[i].outcome, ops[i].seen);
    describe(schedule, what);
    check_sound(arena);
    int at_end = value_of(get_text(arena, "key"));
    bool there = before == PRESENT || before == PROMOTED;
    CHECK(explained(n, 0, (struct state){there ? OLD : 0, there, false}, at_end, may_miss));
}

static void try_all(size_t n, enum before before, bool crowded, uint64_t at, struct rng *rng,
                    int limit)
{
    static const int deltas[] = {10, 100, 1000, 10000}; /* every sum of values is unique */
    struct schedule schedule = {.rng = rng};
    for (size_t i = 0; i < MOST_TASKS; i++) {
        ops[i].used = i < n;
        ops[i].value = ops[i].kind == INCR ? deltas[i] : 2 + (int)i;
        ops[i].expected = i == 0 || rng == NULL ? OLD : 1 + (int)rng_below(rng, n);
        set_task(i, run_op, &ops[i]);
    }
    /* A slow set may replace a newer one and be dead itself by a delete between: an extra miss. */
    bool may_miss = crowded;
    for (size_t i = 0; i < n; i++)
        may_miss |= ops[i].kind == DELETE && n > 2;
    do {
        prepare(before, crowded, at);
        run_schedule(&schedule, n);
        judge(n, before, may_miss, &schedule);
    } while (--limit > 0 && (rng != NULL || next_schedule(&schedule)));
    CHECK(limit > 0 || rng != NULL);
}

static void all_schedules_of_two(void)
{
    struct rng rng = rng_for(7);
    schedules_begin(false);
    for (int a = 0; a < KINDS; a++) {
        for (int b = a; b < KINDS; b++) {
            for (int before = ABSENT; before < BEFORES; before++) {
                for (int crowded = 0; crowded <= 1 && !(a == LAP && b == LAP); crowded++) {
                    ops[0].kind = (enum kind)a;
                    ops[1].kind = (enum kind)b;
                    try_all(2, (enum before)before, crowded, rng_below(&rng, 64), NULL, 5000);
                }
            }
        }
    }
    schedules_end();
}

/* One store at least: without one there is nothing to find. One lap at most: it kills only OLD. */
static void random_schedules_of_more(void)
{
    static const enum kind stores[] = {SET, SET, ADD, REPLACE, INCR, SWAP};
    struct rng rng = rng_for(4);
    schedules_begin(true);
    for (int round = 0; round < 2500; round++) {
        size_t n = 3 + rng_below(&rng, 2);
        bool lapped = false;
        ops[0].kind = stores[rng_below(&rng, 6)];
        for (size_t i = 1; i < n; i++) {
            do
                ops[i].kind = (enum kind)rng_below(&rng, KINDS);
            while (ops[i].kind == LAP && lapped);
            lapped |= ops[i].kind == LAP;
        }
        try_all(n, (enum before)rng_below(&rng, BEFORES), rng_below(&rng, 3) == 0,
                rng_below(&rng, 64), &rng, 20);
    }
    schedules_end();
}

const struct suite linear_suites[] = {
    {"schedules-of-two", all_schedules_of_two},
    {"schedules-of-more", random_schedules_of_more},
    {NULL, NULL},
};
