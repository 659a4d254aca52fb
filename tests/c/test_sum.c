/*
 * test_sum.c - a record that is not what was written is a miss, with both kinds
 * of checksum; and all variants of a sum agree.
 */
#include "harness.h"
#include "zoo_sum.h"

enum { LONGEST = 200, MOST_WORDS = 64 };

/* Runs a test with each kind that this processor can do. */
static void with_both_kinds(void (*test)(zoo_seg *seg, struct rng *rng))
{
    struct rng rng = rng_for(20);
    for (uint64_t kind = ZOO_SUM_PLAIN; kind <= ZOO_SUM_AES; kind++) {
        if (kind == ZOO_SUM_AES && !zoo_sum_has_aes())
            continue;
        zoo_seg *seg = fresh(ZOO_MIN_SIZE);
        seg->sum_kind = kind;
        test(seg, &rng);
        zoo_close(seg);
    }
}

/* Stores a random value, and says where its record is. */
static zoo_word *store(zoo_seg *seg, struct rng *rng, size_t len, char *value, size_t *words)
{
    struct zoo_hit hit;
    for (size_t i = 0; i < len; i++)
        value[i] = (char)rng_next(rng);
    CHECK_EQ(set_bytes(seg, "some key", value, len, "a:b"), ZOO_OK);
    CHECK_EQ(zoo_index_find(seg, zoo_key_hash(seg, "some key", 8), "some key", 8, &hit), ZOO_OK);
    *words = (zoo_rec_head(hit.rec) + zoo_pad8(len)) / 8;
    CHECK(*words <= MOST_WORDS);
    zoo_log_close(&hit);
    return (zoo_word *)(uintptr_t)hit.from;
}

static void is_miss(zoo_seg *seg)
{
    CHECK(get_text(seg, "some key") == NULL);
    CHECK(got == -ZOO_LAPPED || got == -ZOO_CORRUPT);
}

static void is_there(zoo_seg *seg, const char *value, size_t len)
{
    const char *text = get_text(seg, "some key");
    CHECK(text != NULL && got == (int64_t)len && memcmp(text, value, len) == 0);
}

static void flip_each_bit(zoo_seg *seg, struct rng *rng)
{
    char value[LONGEST + 1];
    for (size_t len = 0; len <= LONGEST; len++) {
        size_t words;
        zoo_word *at = store(seg, rng, len, value, &words);
        for (size_t bit = 0; bit < words * 64; bit++) {
            uint64_t was = zoo_load_relaxed(at + bit / 64);
            snprintf(context, sizeof context, "kind %d, length %d, bit %d", (int)seg->sum_kind,
                     (int)len, (int)bit);
            zoo_store_relaxed(at + bit / 64, was ^ 1ull << bit % 64);
            is_miss(seg);
            zoo_store_relaxed(at + bit / 64, was);
        }
        is_there(seg, value, len);
    }
}

static void swap_words(zoo_word *at, size_t i, size_t j, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        uint64_t was = zoo_load_relaxed(at + i + k);
        zoo_store_relaxed(at + i + k, zoo_load_relaxed(at + j + k));
        zoo_store_relaxed(at + j + k, was);
    }
}

static void swap_each_pair(zoo_seg *seg, struct rng *rng)
{
    static const size_t blocks[] = {1, 2, 8}; /* a word, an AES block, a round of all lanes */
    char value[LONGEST + 1];
    for (size_t len = 0; len <= LONGEST; len += 8) {
        size_t words;
        zoo_word *at = store(seg, rng, len, value, &words);
        for (size_t b = 0; b < 3; b++) {
            for (size_t i = 0; i + blocks[b] <= words; i++) {
                for (size_t j = i + blocks[b]; j + blocks[b] <= words; j++) {
                    snprintf(context, sizeof context, "kind %d, length %d, words %d and %d",
                             (int)seg->sum_kind, (int)len, (int)i, (int)j);
                    swap_words(at, i, j, blocks[b]);
                    is_miss(seg);
                    swap_words(at, i, j, blocks[b]);
                }
            }
        }
        is_there(seg, value, len);
    }
}

/* Its last words never came, and there is what was there before: zeros, or another record. */
static void cut_each_end(zoo_seg *seg, struct rng *rng)
{
    char value[LONGEST + 1];
    for (size_t len = 1; len <= LONGEST; len++) {
        uint64_t was[MOST_WORDS];
        size_t words;
        zoo_word *at = store(seg, rng, len, value, &words);
        for (size_t i = 0; i < words; i++)
            was[i] = zoo_load_relaxed(at + i);
        for (size_t from = words; from-- > 0;) {
            snprintf(context, sizeof context, "kind %d, length %d, from word %d",
                     (int)seg->sum_kind, (int)len, (int)from);
            for (int garbage = 0; garbage <= 1; garbage++) {
                for (size_t i = from; i < words; i++)
                    zoo_store_relaxed(at + i, garbage ? rng_next(rng) : 0);
                bool same = true; /* a single random word that ends in a zero byte */
                for (size_t i = from; i < words; i++)
                    same &= zoo_load_relaxed(at + i) == was[i];
                if (!same)
                    is_miss(seg);
            }
        }
        for (size_t i = 0; i < words; i++)
            zoo_store_relaxed(at + i, was[i]);
        is_there(seg, value, len);
    }
}

/* The same bytes at another place, a lap later, and at the same position of the other log. */
static void move_it(zoo_seg *seg, struct rng *rng)
{
    char value[LONGEST + 1];
    for (size_t len = 0; len <= LONGEST; len += 5) {
        for (int how = 0; how < 3; how++) {
            size_t words;
            zoo_word *from = store(seg, rng, len, value, &words), *slot = NULL;
            zoo_word *bucket = zoo_index_bucket(seg, zoo_key_hash(seg, "some key", 8));
            for (unsigned i = 0; i < ZOO_WAYS; i++) {
                if (zoo_load_relaxed(bucket + i) != 0)
                    slot = bucket + i;
            }
            uint64_t word = zoo_load_relaxed(slot), units = (words * 8 + 15) / 16;
            snprintf(context, sizeof context, "kind %d, length %d, move %d", (int)seg->sum_kind,
                     (int)len, how);
            unsigned which = zoo_word_log(word) ^ (how == 2);
            struct zoo_log *log = &seg->log[which];
            zoo_pos pos;
            if (how == 2) { /* the heads meet there */
                uint64_t head = zoo_load_relaxed(seg->log[1 - which].head);
                pos.bytes = head - units * 16;
                zoo_store_relaxed(log->head, head);
            } else {
                pos = zoo_log_reserve(seg, which, how == 0 ? units * 16 : log->size);
                if (how == 1)
                    pos.bytes = pos.bytes - units * 16 + log->size;
            }
            zoo_word *to = log->words + pos.bytes % log->size / 8;
            for (size_t i = 0; i < words; i++)
                zoo_store_relaxed(to + i, zoo_load_relaxed(from + i));
            zoo_store_relaxed(slot, (word & ZOO_WORD_FP_MASK) |
                                        (uint64_t)which << ZOO_WORD_LOG_SHIFT |
                                        (pos.bytes / ZOO_UNIT & ZOO_WORD_POS_MASK));
            CHECK(zoo_load_relaxed(slot) != word);
            is_miss(seg);
            zoo_store_relaxed(slot, 0);
        }
    }
}

static void flips_are_found(void)
{
    with_both_kinds(flip_each_bit);
}

static void swaps_are_found(void)
{
    with_both_kinds(swap_each_pair);
}

static void cuts_are_found(void)
{
    with_both_kinds(cut_each_end);
}

static void moves_are_found(void)
{
    with_both_kinds(move_it);
}

/* Of `len` bytes at any alignment: the sums agree, the copies are right, nothing else is touched.
 */
static void agree(uint64_t kind, size_t len, size_t offset, struct rng *rng)
{
    static zoo_word shared[64];
    static _Alignas(16) char from[400], to[400];
    uint64_t words[64] = {0}, back[64], seed = rng_next(rng);
    size_t n = (len + 7) / 8;
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (char)rng_next(rng);
    memcpy(words, from + offset, len);
    for (size_t i = 0; i < 64; i++)
        zoo_store_relaxed(shared + i, UINT64_MAX);
    uint64_t of_words = zoo_sum_words(kind, seed, words, n);
    uint64_t sum = zoo_sum_in_bytes(kind, seed, shared + 1, from + offset, len);
    CHECK(len % 8 != 0 || sum == of_words);
    sum = len % 8 == 0 ? of_words : sum;
    CHECK_EQ(zoo_load_relaxed(shared), UINT64_MAX);
    for (size_t i = 0; i < n; i++)
        CHECK_EQ(zoo_load_relaxed(shared + 1 + i), words[i]);
    CHECK_EQ(zoo_load_relaxed(shared + 1 + n), UINT64_MAX);
    CHECK_EQ(zoo_sum_out(kind, seed, back, shared + 1, n), of_words);
    CHECK(memcmp(back, words, n * 8) == 0);
    memset(to, 'T', sizeof to);
    CHECK_EQ(zoo_sum_out_bytes(kind, seed, to + offset + 8, shared + 1, len), sum);
    CHECK(memcmp(to + offset + 8, from + offset, len) == 0);
    for (size_t i = 0; i < sizeof to; i++)
        CHECK(to[i] == 'T' || (i >= offset + 8 && i < offset + 8 + len));
    /* Another seed, another length, another order. */
    CHECK(zoo_sum_words(kind, seed + 1, words, n) != of_words);
    words[n] = 0;
    CHECK(zoo_sum_words(kind, seed, words, n + 1) != of_words);
}

static void variants_agree(void)
{
    struct rng rng = rng_for(21);
    for (uint64_t kind = ZOO_SUM_PLAIN; kind <= ZOO_SUM_AES; kind++) {
        if (kind == ZOO_SUM_AES && !zoo_sum_has_aes())
            continue;
        for (size_t len = 0; len <= 300; len++) {
            for (size_t offset = 0; offset < 17; offset++) {
                snprintf(context, sizeof context, "kind %d, length %d, offset %d", (int)kind,
                         (int)len, (int)offset);
                agree(kind, len, offset, &rng);
            }
        }
    }
}

const struct suite sum_suites[] = {
    {"sum-variants", variants_agree}, {"sum-flips", flips_are_found},
    {"sum-swaps", swaps_are_found},   {"sum-cuts", cuts_are_found},
    {"sum-moves", moves_are_found},   {NULL, NULL},
};
