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

/* Stores a random value, which may expire one day, and says where its record is, of how many words
 * and of how many bits. */
static zoo_word *store(zoo_seg *seg, struct rng *rng, size_t len, char *value, size_t *words,
                       size_t *bits)
{
    struct zoo_hit hit;
    for (size_t i = 0; i < len; i++)
        value[i] = (char)rng_next(rng);
    CHECK_EQ(zoo_put(seg, ZOO_SET, "some key", 8, value, len, len % 16 < 8 ? 0 : 3600000, "a:b", 3,
                     NULL, 0, 0),
             ZOO_OK);
    CHECK_EQ(zoo_index_find(seg, zoo_key_hash(seg, "some key", 8), "some key", 8, &hit), ZOO_OK);
    *words = (zoo_rec_head(hit.rec) + zoo_pad8(len)) / 8;
    *bits = (zoo_rec_head(hit.rec) + len) * 8; /* what is behind them belongs to nobody */
    CHECK(*words <= MOST_WORDS);
    zoo_log_close(&hit);
    return (zoo_word *)(uintptr_t)hit.from;
}

/* Neither a get nor whoever asks for the head alone has it; but the sum of the whole is no head's.
 */
static void is_no_head(zoo_seg *seg)
{
    struct zoo_hit hit;
    CHECK(zoo_find(seg, "some key", 8, &hit) == ZOO_LAPPED);
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
        size_t words, bits;
        zoo_word *at = store(seg, rng, len, value, &words, &bits);
        for (size_t bit = 0; bit < bits; bit++) {
            uint64_t was = zoo_load_relaxed(at + bit / 64);
            snprintf(context, sizeof context, "kind %d, length %d, bit %d", (int)seg->sum_kind,
                     (int)len, (int)bit);
            zoo_store_relaxed(at + bit / 64, was ^ 1ull << bit % 64);
            is_miss(seg);
            if (bit < 32 || (bit >= 64 && bit < bits - len * 8))
                is_no_head(seg);
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
        size_t words, bits;
        zoo_word *at = store(seg, rng, len, value, &words, &bits);
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
        size_t words, bits;
        zoo_word *at = store(seg, rng, len, value, &words, &bits);
        for (size_t i = 0; i < words; i++)
            was[i] = zoo_load_relaxed(at + i);
        for (size_t from = words; from-- > 0;) {
            snprintf(context, sizeof context, "kind %d, length %d, from word %d",
                     (int)seg->sum_kind, (int)len, (int)from);
            for (int garbage = 0; garbage <= 1; garbage++) {
                for (size_t i = from; i < words; i++)
                    zoo_store_relaxed(at + i, garbage ? rng_next(rng) : 0);
                bool same = true; /* a few bytes at the end may be what they were */
                for (size_t i = from; i < words; i++) {
                    uint64_t changed = zoo_load_relaxed(at + i) ^ was[i];
                    same &= (i * 64 + 64 <= bits ? changed : changed << (i * 64 + 64 - bits)) == 0;
                }
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
            size_t words, bits;
            zoo_word *from = store(seg, rng, len, value, &words, &bits), *slot = NULL;
            zoo_word *bucket = zoo_index_bucket(seg, zoo_key_hash(seg, "some key", 8));
            for (unsigned i = 0; i < ZOO_WAYS; i++) {
                if (zoo_load_relaxed(bucket + i) != 0)
                    slot = bucket + i;
            }
            uint64_t word = zoo_load_relaxed(slot), units = (words * 8 + ZOO_UNIT - 1) / ZOO_UNIT;
            snprintf(context, sizeof context, "kind %d, length %d, move %d", (int)seg->sum_kind,
                     (int)len, how);
            unsigned which = zoo_word_log(word) ^ (how == 2);
            struct zoo_log *log = &seg->log[which];
            zoo_pos pos;
            if (how == 2) { /* the heads meet there */
                uint64_t head = zoo_load_relaxed(seg->log[1 - which].head);
                pos.bytes = head - units * ZOO_UNIT;
                move_log(log, head);
            } else {
                pos = zoo_log_reserve(seg, which, how == 0 ? units * ZOO_UNIT : log->size);
                if (how == 1)
                    pos.bytes = pos.bytes - units * ZOO_UNIT + log->size;
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

static uint32_t sum_of(uint64_t kind, uint64_t seed, uint64_t place, const char *from, size_t len)
{
    zoo_chain chain = zoo_sum_start(kind, seed, place);
    return zoo_sum_bytes(kind, &chain, from, len);
}

/* Of `len` bytes at any alignment: the sums agree, the copies are right, nothing else is touched.
 */
static void agree(uint64_t kind, size_t len, size_t offset, struct rng *rng)
{
    static zoo_word shared[64];
    static _Alignas(16) char from[400], to[400];
    uint64_t seed = rng_next(rng), place = rng_next(rng);
    size_t n = (len + 7) / 8;
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (char)rng_next(rng);
    for (size_t i = 0; i < 64; i++)
        zoo_store_relaxed(shared + i, UINT64_MAX);
    const char *bytes = from + offset;
    uint32_t sum = sum_of(kind, seed, place, bytes, len);
    zoo_chain in = zoo_sum_start(kind, seed, place), out = in;
    CHECK_EQ(zoo_sum_in(kind, &in, shared + 1, bytes, len), sum);
    CHECK_EQ(zoo_load_relaxed(shared), UINT64_MAX);
    CHECK(memcmp(shared + 1, bytes, len) == 0);
    CHECK_EQ(zoo_load_relaxed(shared + 1 + n), UINT64_MAX);
    memset(to, 'T', sizeof to);
    CHECK_EQ(zoo_sum_out(kind, &out, to + offset + 8, shared + 1, len), sum);
    CHECK(memcmp(to + offset + 8, bytes, len) == 0);
    for (size_t i = 0; i < sizeof to; i++)
        CHECK(to[i] == 'T' || (i >= offset + 8 && i < offset + 8 + len));
    /* A chain goes on alike, wherever the bytes come from and go to. */
    CHECK_EQ(zoo_sum_in(kind, &in, shared + 1, bytes, len),
             zoo_sum_out(kind, &out, to + offset + 8, shared + 1, len));
    if (len == 0)
        return;
    CHECK(sum_of(kind, seed + 1, place, bytes, len) != sum);
    CHECK(sum_of(kind, seed, place + 1, bytes, len) != sum);
    from[offset + len - 1] ^= 1;
    CHECK(sum_of(kind, seed, place, bytes, len) != sum);
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
