/*
 * siphash.c - SipHash-2-4. See siphash.h.
 */
#include "broker/siphash.h"
#include "broker/hash.h"
#include <endian.h>
#include <string.h>

struct state {
    uint64_t v0, v1, v2, v3;
};

static uint64_t rotate(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

static void rounds(struct state *s, int n)
{
    while (n-- > 0) {
        s->v0 += s->v1;
        s->v2 += s->v3;
        s->v1 = rotate(s->v1, 13) ^ s->v0;
        s->v3 = rotate(s->v3, 16) ^ s->v2;
        s->v0 = rotate(s->v0, 32) + s->v3;
        s->v2 += s->v1;
        s->v1 = rotate(s->v1, 17) ^ s->v2;
        s->v3 = rotate(s->v3, 21) ^ s->v0;
        s->v2 = rotate(s->v2, 32);
    }
}

static void take(struct state *s, uint64_t word)
{
    s->v3 ^= word;
    rounds(s, 2);
    s->v0 ^= word;
}

struct siphash_key siphash_key_new(void)
{
    return (struct siphash_key){{hash_seed(), hash_seed()}};
}

uint64_t siphash(const struct siphash_key *key, const void *p, size_t n)
{
    struct state s = {key->k[0] ^ 0x736f6d6570736575u, key->k[1] ^ 0x646f72616e646f6du,
                      key->k[0] ^ 0x6c7967656e657261u, key->k[1] ^ 0x7465646279746573u};
    const uint8_t *at = p;
    uint64_t word;
    for (size_t left = n; left >= 8; left -= 8, at += 8) {
        memcpy(&word, at, 8);
        take(&s, le64toh(word));
    }
    word = (uint64_t)n << 56;
    for (size_t i = 0; i < n % 8; i++) {
        word |= (uint64_t)at[i] << 8 * i;
    }
    take(&s, word);
    s.v2 ^= 0xff;
    rounds(&s, 4);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
