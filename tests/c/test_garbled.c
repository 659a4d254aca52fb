/*
 * test_garbled.c - what operations make of shared memory that is full of garbage:
 * any outcome, but no wrong value, and no access outside it.
 */
#include "harness.h"

/* One round of operations on a segment full of garbage: any outcome, but no wrong value. */
static void use(zoo_seg *seg, struct rng *rng, int keys)
{
    for (int i = 0; i < keys; i++) {
        char key[24], value[64];
        snprintf(key, sizeof key, "key%d", (int)rng_below(rng, 200));
        snprintf(value, sizeof value, "value of %s", key);
        int64_t number;
        switch (rng_below(rng, 10)) {
        case 0:
        case 1:
            set_text(seg, key, value, "a:b c");
            break;
        case 6:
            touch(seg, key, 0);
            break;
        case 7:
            swap_text(seg, key, value, value);
            break;
        case 8:
            put_text(seg, ZOO_ADD + (int)rng_below(rng, 2), key, value, "a");
            break;
        case 9:
            CHECK(incr(seg, key, 1, &number) != ZOO_OK);
            break;
        case 2:
            fill_text(seg, key, value, "a", 1 + rng_below(rng, ZOO_CLOCK_MASK));
            break;
        case 3:
            delete_key(seg, key);
            break;
        case 4:
            invalidate(seg, "a:b d");
            break;
        default:
            break;
        }
        const char *back = get_text(seg, key);
        CHECK(back == NULL || strcmp(back, value) == 0);
    }
}

static void garbage(struct rng *rng, zoo_word *words, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        zoo_store_relaxed(words + i, rng_next(rng));
}

/* Words that lead into the logs: right fingerprints, plausible positions, wild lengths behind. */
static void nasty_words(zoo_seg *seg, struct rng *rng)
{
    for (int i = 0; i < 200; i++) {
        char key[24];
        snprintf(key, sizeof key, "key%d", i);
        uint64_t hash = zoo_key_hash(seg, key, strlen(key)), which = rng_below(rng, ZOO_LOGS);
        const struct zoo_log *log = &seg->log[which];
        uint64_t unit =
            zoo_load_acquire(log->head) / ZOO_UNIT - rng_below(rng, log->size / ZOO_UNIT + 2);
        uint64_t word = (hash >> 52) << ZOO_WORD_FP_SHIFT | (unit & ZOO_WORD_POS_MASK) |
                        rng_below(rng, 8) / 7 * ZOO_WORD_TENTATIVE | which << ZOO_WORD_LOG_SHIFT;
        zoo_store_relaxed(zoo_index_bucket(seg, hash) + rng_below(rng, ZOO_WAYS), word);
    }
}

static void lengths_in_the_logs(zoo_seg *seg, struct rng *rng)
{
    for (int i = 0; i < ZOO_LOGS; i++) {
        struct zoo_log *log = &seg->log[i];
        garbage(rng, log->words, log->size / 8);
        /* Plausible ones, around the limits, where every other record that may start there has its
         * own. */
        for (uint64_t at = offsetof(struct zoo_rec, value_len) / 8; at < log->size / 8; at += 2) {
            uint64_t value = rng_below(rng, log->longest + 64),
                     key = rng_below(rng, ZOO_MAX_KEY + 8);
            zoo_store_relaxed(log->words + at, value | key << 32 | rng_below(rng, 4100) << 48);
        }
    }
}

static void garbled_memory_is_survived(void)
{
    struct rng rng = rng_for(3);
    for (int round = 0; round < 24; round++) {
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        snprintf(context, sizeof context, "round %d", round);
        use(seg, &rng, 100);
        if (round % 4 == 0)
            garbage(&rng, seg->index, (seg->bucket_mask + 1) * ZOO_WAYS);
        if (round % 4 == 1)
            lengths_in_the_logs(seg, &rng);
        if (round % 4 <= 2)
            nasty_words(seg, &rng);
        if (round % 3 == 2)
            garbage(&rng, seg->tags, (seg->tag_mask + 1) * ZOO_WAYS);
        if (round % 4 == 3) { /* even the header's words */
            zoo_store_relaxed(&seg->hdr->head_main, rng_next(&rng));
            zoo_store_relaxed(&seg->hdr->head_probation, rng_next(&rng));
            zoo_store_relaxed(&seg->hdr->limit_main, rng_next(&rng));
            zoo_store_relaxed(&seg->hdr->limit_probation, rng_next(&rng));
            zoo_store_relaxed(&seg->hdr->clock, rng_next(&rng) >> rng_below(&rng, 64));
            zoo_store_relaxed(&seg->hdr->root, rng_next(&rng));
        }
        use(seg, &rng, 2000);
        zoo_report report;
        zoo_check(seg, &report); /* whatever it finds: it ends */
        zoo_close(seg);
    }
}

const struct suite garbled_suites[] = {
    {"garbled", garbled_memory_is_survived},
    {NULL, NULL},
};
