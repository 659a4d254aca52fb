/*
 * zoo_core.c - the functions that another extension may call, as one table.
 *
 * A process must have one core: which forks it has been through, which lock
 * files it has open and which owner it is are static variables. So the door has
 * no copy of the core compiled in; it is given the address of this table.
 */
#include "zoo_layout.h"

static const struct zoo_core core = {
    .find = zoo_find,
    .take = zoo_take,
    .close = zoo_log_close,
    .store = zoo_store,
    .invalidate = zoo_invalidate_hashed,
    .deps_start = zoo_deps_start,
    .deps_add = zoo_deps_add,
    .deps_add_path = zoo_deps_add_path,
    .deps_free = zoo_deps_free,
    .local_hash = zoo_local_hash,
    .local_verify = zoo_local_verify,
    .local_count = zoo_local_count,
    .announce = zoo_announce,
    .settle_named = zoo_settle_named,
    .site_hits = zoo_site_hits,
};

uint64_t zoo_core(void)
{
    return (uint64_t)(uintptr_t)&core;
}
