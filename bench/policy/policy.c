/* Eviction policies, simulated: LRU, SIEVE, S3-FIFO and the two logs.
 *
 * policy.py compiles this file into a shared library and calls it; see there
 * for what is compared and why. Every record has size 1, so sizes and offsets
 * are counted in records. Keys are numbers below `keys`. A miss is followed by
 * a fill at once. All simulators return the number of misses.
 */

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint32_t Key;

static uint64_t mix(uint64_t x)
{ /* the finalizer of splitmix64 */
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* ------------------------------------------------------------------ traces */

/* `n` requests: keys 0..keys-1 by Zipf's law, and after each `scan_every` of
 * them a scan: `scan_length` keys that never come again. Returns how many keys
 * there are in the end. */
Key make_zipf(Key *trace, size_t n, Key keys, double exponent, uint64_t seed, size_t scan_every,
              size_t scan_length)
{
    double *upto = malloc(keys * sizeof *upto), sum = 0;
    for (Key k = 0; k < keys; k++)
        upto[k] = sum += pow(k + 1, -exponent);
    Key fresh = keys;
    size_t since_scan = 0;
    for (size_t i = 0; i < n;) {
        double point = (double)(mix(seed + i) >> 11) * 0x1p-53 * sum;
        Key low = 0, high = keys - 1;
        while (low < high) {
            Key middle = low + (high - low) / 2;
            if (upto[middle] > point)
                high = middle;
            else
                low = middle + 1;
        }
        trace[i++] = low;
        if (scan_length && ++since_scan == scan_every) {
            since_scan = 0;
            for (size_t j = 0; j < scan_length && i < n; j++)
                trace[i++] = fresh++;
        }
    }
    free(upto);
    return fresh;
}

/* ------------------------------------------------------- the yardsticks */

/* A doubly linked list through arrays that are indexed by key; `nobody` is its
 * two ends at once. */
typedef struct {
    Key *next, *previous, nobody;
    size_t length;
} List;

static List list_new(Key keys)
{
    List list = {calloc(keys + 1, sizeof(Key)), calloc(keys + 1, sizeof(Key)), keys, 0};
    list.next[keys] = list.previous[keys] = keys;
    return list;
}

static void list_free(List *list)
{
    free(list->next);
    free(list->previous);
}

static void push(List *list, Key key)
{ /* at the head, which is next[nobody] */
    Key second = list->next[list->nobody];
    list->next[key] = second;
    list->previous[key] = list->nobody;
    list->next[list->nobody] = list->previous[second] = key;
    list->length++;
}

static void unlink_key(List *list, Key key)
{
    list->next[list->previous[key]] = list->next[key];
    list->previous[list->next[key]] = list->previous[key];
    list->length--;
}

static Key tail(const List *list)
{
    return list->previous[list->nobody];
}

size_t lru(const Key *trace, size_t n, Key keys, size_t capacity)
{
    List list = list_new(keys);
    bool *cached = calloc(keys, sizeof *cached);
    size_t misses = 0;
    for (size_t i = 0; i < n; i++) {
        Key key = trace[i];
        if (cached[key]) {
            unlink_key(&list, key);
        } else {
            misses++;
            if (list.length == capacity) {
                cached[tail(&list)] = false;
                unlink_key(&list, tail(&list));
            }
            cached[key] = true;
        }
        push(&list, key);
    }
    free(cached);
    list_free(&list);
    return misses;
}

size_t sieve(const Key *trace, size_t n, Key keys, size_t capacity)
{
    List list = list_new(keys);
    bool *cached = calloc(keys, sizeof *cached), *visited = calloc(keys, sizeof *visited);
    Key hand = keys;
    size_t misses = 0;
    for (size_t i = 0; i < n; i++) {
        Key key = trace[i];
        if (cached[key]) {
            visited[key] = true;
            continue;
        }
        misses++;
        if (list.length == capacity) {
            for (;; hand = list.previous[hand]) {
                if (hand == keys)
                    hand = tail(&list);
                if (!visited[hand])
                    break;
                visited[hand] = false;
            }
            Key victim = hand;
            hand = list.previous[victim];
            cached[victim] = false;
            unlink_key(&list, victim);
        }
        push(&list, key);
        cached[key] = true;
        visited[key] = false;
    }
    free(cached);
    free(visited);
    list_free(&list);
    return misses;
}

/* S3-FIFO as its paper (SOSP 2023) has it: a small queue of 10%, left for the
 * main queue by what was hit at least twice; a main queue that is a clock of
 * two bits; as many ghosts as the main queue has entries, their age being
 * counted in ghosts made since. */
size_t s3fifo(const Key *trace, size_t n, Key keys, size_t capacity)
{
    enum { NOWHERE, SMALL, MAIN };
    size_t small_size = capacity / 10, main_size = capacity - small_size;
    List small = list_new(keys), mainq = list_new(keys);
    uint8_t *where = calloc(keys, 1), *freq = calloc(keys, 1);
    uint32_t *ghost = calloc(keys, sizeof *ghost), ghosts = 0;
    size_t misses = 0;
    for (size_t i = 0; i < n; i++) {
        Key key = trace[i];
        if (where[key]) {
            if (freq[key] < 3)
                freq[key]++;
            continue;
        }
        misses++;
        while (small.length + mainq.length >= capacity) {
            if (mainq.length > main_size || !small.length) {
                Key old = tail(&mainq);
                unlink_key(&mainq, old);
                if (freq[old]) {
                    freq[old]--;
                    push(&mainq, old);
                } else {
                    where[old] = NOWHERE;
                }
            } else {
                Key old = tail(&small);
                unlink_key(&small, old);
                if (freq[old] > 1) {
                    where[old] = MAIN;
                    push(&mainq, old);
                } else {
                    where[old] = NOWHERE;
                    ghost[old] = ++ghosts;
                }
                freq[old] = 0;
            }
        }
        bool known = ghost[key] && ghosts - ghost[key] < main_size;
        ghost[key] = 0;
        freq[key] = 0;
        where[key] = known ? MAIN : SMALL;
        push(known ? &mainq : &small, key);
    }
    free(where);
    free(freq);
    free(ghost);
    list_free(&small);
    list_free(&mainq);
    return misses;
}

/* ----------------------------------------------------------- the two logs */

enum { WORDS = 8, FINGERPRINT_BITS = 12 };
enum { PROBATION, MAIN_LOG };

typedef struct {
    double probation;      /* its share of the space */
    double slots;          /* words of the index for each record of the capacity */
    double ghosts;         /* a ghost counts for so many probation sizes */
    double main_ghosts;    /* the same for a word dead in main, in main sizes */
    double promote_oldest; /* a hit promotes in this oldest part of probation */
    double reenter_oldest; /* a hit re-enters in this oldest part of main */
    int32_t promote_seen;  /* ... only if the word's bit says it was hit before */
    int32_t reenter_seen;
    int32_t warm;         /* fills go to main until it is full for the first time */
    double rescue_oldest; /* hits and fills copy what was hit before and is in this oldest part
                             of its log from their own bucket to main's head */
} Rules;

typedef struct {
    uint64_t misses, promoted, reentered, rescued, ghost_hits, displaced;
} Counts;

typedef struct {
    uint64_t offset; /* how many records were written to the log before this one */
    Key key;         /* stands for the key in the record */
    uint16_t fingerprint;
    uint8_t log;
    bool used, seen;
} Word;

typedef struct {
    const Rules *rules;
    Counts *counts;
    Word *words;
    size_t buckets;
    uint64_t head[2], size[2];
} Cache;

static uint64_t age(const Cache *cache, const Word *word)
{
    return cache->head[word->log] - word->offset;
}

static bool alive(const Cache *cache, const Word *word)
{
    return age(cache, word) <= cache->size[word->log];
}

static bool in_oldest(const Cache *cache, const Word *word, double part)
{
    double size = (double)cache->size[word->log];
    return (double)age(cache, word) > size * (1 - part);
}

static void append(Cache *cache, Word *word, int log)
{
    word->log = (uint8_t)log;
    word->seen = false;
    word->offset = cache->head[log]++;
}

static void hit(Cache *cache, Word *word)
{
    const Rules *rules = cache->rules;
    bool was_seen = word->seen;
    word->seen = true;
    if (word->log == PROBATION) {
        if (!in_oldest(cache, word, rules->promote_oldest))
            return;
        if (rules->promote_seen && !was_seen)
            return;
        cache->counts->promoted++;
    } else {
        if (!in_oldest(cache, word, rules->reenter_oldest))
            return;
        if (rules->reenter_seen && !was_seen)
            return;
        cache->counts->reentered++;
    }
    append(cache, word, MAIN_LOG);
}

/* The less, the rather the word is given away for a new one: empty, then dead
 * for longest, whatever its log, then nearest to being lapped. */
static double worth(const Cache *cache, const Word *word)
{
    if (!word->used)
        return -INFINITY;
    return (double)cache->size[word->log] - (double)age(cache, word);
}

static void rescue_neighbours(Cache *cache, Word *bucket)
{
    for (Word *word = bucket; word < bucket + WORDS; word++)
        if (word->used && word->seen && alive(cache, word) &&
            in_oldest(cache, word, cache->rules->rescue_oldest)) {
            cache->counts->rescued++;
            append(cache, word, MAIN_LOG);
        }
}

static void fill(Cache *cache, Word *bucket, Key key, uint16_t fingerprint)
{
    const Rules *rules = cache->rules;
    bool ghost = false;
    for (Word *word = bucket; word < bucket + WORDS; word++)
        if (word->used && word->fingerprint == fingerprint && !alive(cache, word)) {
            double size = (double)cache->size[word->log];
            double since = (double)age(cache, word) - size;
            ghost |= since < size * (word->log == PROBATION ? rules->ghosts : rules->main_ghosts);
            word->used = false; /* before a key may be called absent */
        }
    Word *victim = bucket;
    for (Word *word = bucket + 1; word < bucket + WORDS; word++)
        if (worth(cache, word) < worth(cache, victim))
            victim = word;
    cache->counts->displaced += victim->used && alive(cache, victim);
    cache->counts->ghost_hits += ghost;
    *victim = (Word){.key = key, .fingerprint = fingerprint, .used = true};
    bool warming = rules->warm && cache->head[MAIN_LOG] < cache->size[MAIN_LOG];
    append(cache, victim, ghost || warming ? MAIN_LOG : PROBATION);
}

void two_logs(const Key *trace, size_t n, size_t capacity, const Rules *rules, Counts *counts)
{
    Cache cache = {.rules = rules, .counts = counts};
    cache.size[PROBATION] = (uint64_t)fmax(1, round((double)capacity * rules->probation));
    cache.size[MAIN_LOG] = capacity - cache.size[PROBATION];
    cache.buckets = (size_t)ceil((double)capacity * rules->slots / WORDS);
    cache.words = calloc(cache.buckets * WORDS, sizeof *cache.words);
    memset(counts, 0, sizeof *counts);
    for (size_t i = 0; i < n; i++) {
        uint64_t hash = mix(trace[i]);
        Word *bucket = cache.words + (hash >> 32) * cache.buckets / ((uint64_t)1 << 32) * WORDS;
        uint16_t fingerprint = hash & ((1 << FINGERPRINT_BITS) - 1);
        Word *found = NULL;
        for (Word *word = bucket; word < bucket + WORDS && !found; word++)
            if (word->used && word->key == trace[i] && alive(&cache, word))
                found = word;
        if (found) {
            hit(&cache, found);
        } else {
            counts->misses++;
            fill(&cache, bucket, trace[i], fingerprint);
        }
        if (rules->rescue_oldest > 0)
            rescue_neighbours(&cache, bucket);
    }
    free(cache.words);
}
