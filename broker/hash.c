/*
 * hash.c - hashes with a random seed. See hash.h.
 *
 * Eight bytes a step, each multiplied with what the seed and the bytes before have made: whoever does not
 * know the seed cannot say which inputs meet. The seed is in both factors, so that there are no bytes that
 * make one of them, and all that came before, 0.
 */
#include "broker/hash.h"
#include "broker/clock.h"
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

uint32_t hash_bytes(uint64_t seed, const void *bytes, size_t n)
{
    const uint64_t other = seed ^ 0xD6E8FEB86659FD93u;
    uint64_t h = seed ^ n;
    const uint8_t *p = bytes;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = folded_product(h ^ 0x9E3779B97F4A7C15u, w ^ other);
    }
    uint64_t w = 0;
    if (n) {
        memcpy(&w, p, n);
    }
    h = folded_product(h ^ 0x9E3779B97F4A7C15u, w ^ other);
    return (uint32_t)(h ^ (h >> 32));
}

static uint64_t process_seed;

uint64_t hash_seed(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed) {
        seed = (uint64_t)(uintptr_t)&process_seed ^ (uint64_t)clock_us() << 32;
    }
    return seed;
}

__attribute__((constructor)) static void make_process_seed(void)
{
    process_seed = hash_seed();
}

uint32_t hash_key(const void *key, size_t n)
{
    return hash_bytes(process_seed, key, n);
}
