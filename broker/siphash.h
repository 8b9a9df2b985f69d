/*
 * siphash.h - SipHash-2-4 (Aumasson and Bernstein, 2012): 64 bits that stand for a name which a stranger
 * chose and which is not kept itself (ban.h).
 *
 * Without the key nobody can find two inputs that give the same, however many he tries. Where the name is
 * kept and compared, hash.h is enough. What must not be guessed is hashed in auth/, with libsodium.
 */
#ifndef BRAMBLE_SIPHASH_H
#define BRAMBLE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
    uint64_t k[2];
};

/* A random one (hash_seed()). */
struct siphash_key siphash_key_new(void);

/* p NULL is allowed when n is 0. */
uint64_t siphash(const struct siphash_key *key, const void *p, size_t n);

#endif
