/*
 * hash.c - hashes with a random seed. See hash.h.
 *
 * Eight bytes a step, each multiplied with what the seed and the bytes before have made: whoever does not
 * know the seed cannot say which inputs meet. The constants must not meet an input, for the product would be
 * 0 whatever the seed: as bytes they are no UTF-8, which all that comes from outside is.
 */
#include "broker/hash.h"
#include <string.h>
#include <sys/random.h>

/* The two halves of the 128 bits of a * b, one over the other. 32-bit machines have no type of that size. */
static uint64_t folded_product(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
    uint64_t a1 = a >> 32, a0 = (uint32_t)a, b1 = b >> 32, b0 = (uint32_t)b;
    uint64_t left = a1 * b0 + (a0 * b0 >> 32), right = a0 * b1 + (uint32_t)left;
    return (a * b) ^ (a1 * b1 + (left >> 32) + (right >> 32));
#endif
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    return folded_product(a ^ 0x9E3779B97F4A7C15u, b ^ 0xD6E8FEB86659FD93u);
}

uint32_t hash_bytes(uint64_t seed, const void *bytes, size_t n)
{
    uint64_t h = seed ^ n;
    const uint8_t *p = bytes;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = mix(h, w);
    }
    uint64_t w = 0;
    if (n) {
        memcpy(&w, p, n);
    }
    h = mix(h, w);
    return (uint32_t)(h ^ (h >> 32));
}

uint64_t hash_seed(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed) {
        seed = (uint64_t)(uintptr_t)&seed; /* before the kernel has entropy: better than a constant */
    }
    return seed;
}

static uint64_t process_seed;

__attribute__((constructor)) static void make_process_seed(void)
{
    process_seed = hash_seed();
}

uint32_t hash_key(const void *key, size_t n)
{
    return hash_bytes(process_seed, key, n);
}
