/*
 * zoo_sum.c - see zoo_sum.h; the loops are in zoo_sum_loops.h.
 */
#include "zoo_sum.h"

#include "zoo_sum_loops.h"

#if defined(ZOO_NO_AES)
bool zoo_sum_has_aes(void)
{
    return false;
}
#elif defined(__x86_64__)
bool zoo_sum_has_aes(void)
{
    return __builtin_cpu_supports("aes");
}
#else
#include <asm/hwcap.h>
#include <sys/auxv.h>

bool zoo_sum_has_aes(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_AES) != 0;
}
#endif

zoo_chain zoo_sum_start(uint64_t kind, uint64_t seed, uint64_t place)
{
    return zoo_sum_begin(kind, seed, place);
}

ZOO_WITH_AES uint32_t zoo_sum_bytes(uint64_t kind, zoo_chain *chain, const char *from, size_t len)
{
    zoo_sum_go_on(kind, chain, NULL, from, len, false, false, false);
    return zoo_sum_so_far(kind, chain);
}

ZOO_WITH_AES uint32_t zoo_sum_out(uint64_t kind, zoo_chain *chain, char *to, const zoo_word *from,
                                  size_t len)
{
    zoo_sum_go_on(kind, chain, to, (const char *)from, len, true, true, false);
    return zoo_sum_so_far(kind, chain);
}

ZOO_WITH_AES uint32_t zoo_sum_in(uint64_t kind, zoo_chain *chain, zoo_word *to, const char *from,
                                 size_t len)
{
    zoo_sum_go_on(kind, chain, (char *)to, from, len, true, false, true);
    return zoo_sum_so_far(kind, chain);
}

ZOO_WITH_AES uint64_t zoo_sum_hash(uint64_t kind, uint64_t seed, const char *from, size_t len)
{
#if !defined(ZOO_NO_AES)
    if (kind == ZOO_SUM_AES)
        return zoo_sum_hash_aes(from, len, seed);
#endif
    (void)kind;
    return zoo_hash(from, len, seed);
}
