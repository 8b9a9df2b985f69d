/*
 * hash.h - hashes with a random seed, and uthash, which by itself has none and ends the program when it gets
 * no memory.
 *
 * Client ids, user names and topics are chosen by strangers. With a hash that everybody can compute somebody
 * would choose thousands that fall into one bucket. So each process has a seed that uthash's tables share,
 * and each tree of topics (tree.h) another one.
 *
 * These place an entry in a table, which then compares its name: two that meet cost a step. Where the hash
 * itself is all that is kept of a name, siphash.h is for it.
 *
 * Whoever adds an entry looks at entry->hh.tbl behind the HASH_ADD: NULL says that there was no memory and
 * that the table is as it was before.
 */
#ifndef BRAMBLE_HASH_H
#define BRAMBLE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* A seed that nobody can guess. Before the kernel has entropy it is made of an address and the clock: better
 * than a constant. */
uint64_t hash_seed(void);
/* Of n bytes (NULL when there are none); the same only within this process and on this machine. */
uint32_t hash_bytes(uint64_t seed, const void *bytes, size_t n);
/* With the seed of the process, made before main(). Any thread. */
uint32_t hash_key(const void *key, size_t n);

#define HASH_NONFATAL_OOM               1
#define uthash_nonfatal_oom(entry)      ((void)(entry))
#define HASH_FUNCTION(key, n, out_hash) ((out_hash) = hash_key((key), (n)))
#include <uthash.h>

#endif
