/*
 * zoo_deps.c - from tags, as users write them, to the hashes that records hold.
 *
 * A tag is a path of non-empty parts joined by ":". An entry depends on all its
 * prefixes ("a:b" gives "a" and "a:b"), so that a check never walks strings; an
 * invalidation names just one of them.
 */
#include <stdlib.h>
#include <string.h>

#include "zoo_layout.h"

void zoo_deps_start(struct zoo_deps *deps)
{
    deps->hash = deps->few;
    deps->n = 0;
    deps->cap = ZOO_FEW_DEPS;
}

void zoo_deps_free(struct zoo_deps *deps)
{
    if (deps->hash != deps->few)
        free(deps->hash);
}

static int grow(struct zoo_deps *deps)
{
    uint64_t *more = malloc(deps->cap * 2 * sizeof *more);
    if (more == NULL)
        return ZOO_E_MEMORY;
    memcpy(more, deps->hash, deps->n * sizeof *more);
    zoo_deps_free(deps);
    deps->hash = more;
    deps->cap *= 2;
    return ZOO_OK;
}

int zoo_deps_add(struct zoo_deps *deps, uint64_t hash)
{
    if (deps->n == deps->cap && grow(deps) != ZOO_OK)
        return ZOO_E_MEMORY;
    deps->hash[deps->n++] = hash;
    return ZOO_OK;
}

int zoo_deps_add_path(const zoo_seg *seg, struct zoo_deps *deps, const char *tag, size_t len,
                      bool prefixes)
{
    size_t part = 0; /* where the current part began */
    for (size_t i = 0; i <= len; i++) {
        if (i < len && tag[i] != ':')
            continue;
        if (i == part)
            return ZOO_E_TAG;
        part = i + 1;
        if (i == len || prefixes) {
            int status = zoo_deps_add(deps, zoo_tag_hash(seg, tag, i));
            if (status != ZOO_OK)
                return status;
        }
    }
    return ZOO_OK;
}

/* Tags separated by NUL characters. Of no length: no tags. */
int zoo_deps_parse(const zoo_seg *seg, struct zoo_deps *deps, const char *tags, size_t len,
                   bool prefixes)
{
    for (size_t start = 0; len > 0 && start <= len;) {
        const char *nul = memchr(tags + start, '\0', len - start);
        size_t n = nul == NULL ? len - start : (size_t)(nul - tags) - start;
        int status = zoo_deps_add_path(seg, deps, tags + start, n, prefixes);
        if (status != ZOO_OK)
            return status;
        start += n + 1;
    }
    return ZOO_OK;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, 8);
    memcpy(&y, b, 8);
    return (x > y) - (x < y);
}

/* Sorts, and drops duplicates. */
void zoo_deps_unique(struct zoo_deps *deps)
{
    uint64_t *hash = deps->hash;
    size_t kept = 0;
    if (deps->n > 16) {
        qsort(hash, deps->n, sizeof *hash, by_value);
    } else {
        for (size_t i = 1; i < deps->n; i++) {
            uint64_t moved = hash[i];
            size_t at = i;
            for (; at > 0 && hash[at - 1] > moved; at--)
                hash[at] = hash[at - 1];
            hash[at] = moved;
        }
    }
    for (size_t i = 0; i < deps->n; i++) {
        if (i == 0 || hash[i] != hash[i - 1])
            hash[kept++] = hash[i];
    }
    deps->n = kept;
}

uint64_t zoo_hash_of_tag(zoo_seg *seg, const char *tag, size_t len)
{
    struct zoo_deps deps;
    zoo_deps_start(&deps);
    bool is_one =
        memchr(tag, '\0', len) == NULL && zoo_deps_add_path(seg, &deps, tag, len, false) == ZOO_OK;
    return is_one ? deps.hash[0] : 0;
}
