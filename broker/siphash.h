/*
 * siphash.h - SipHash-2-4 (Aumasson and Bernstein, 2012): a hash for tables whose keys strangers choose.
 *
 * Without the key nobody can find two inputs that meet in a bucket, however many he tries. For tables only:
 * what must not be guessed is hashed in auth/, with libsodium.
 */
#ifndef BRAMBLE_SIPHASH_H
#define BRAMBLE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
    uint64_t k[2];
};

/* A random one. Before the kernel has entropy it is made of addresses and the clock: better than a constant.
 */
struct siphash_key siphash_key_new(void);

uint64_t siphash(const struct siphash_key *key, const void *p, size_t n);

#endif
