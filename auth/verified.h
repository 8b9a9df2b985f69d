/*
 * verified.h - secrets that were verified a short while ago: who comes again with the same one is known
 * without the work of argon2id.
 *
 * What is kept is no password and no hash of one but a keyed BLAKE2b of (entry of the password file, user,
 * password), under a random key that lives in locked memory and nowhere else. A tag can be tried as fast as a
 * SHA, so neither key nor tags may ever leave this process: nothing here is written, logged or published.
 * Whoever could read this memory could as well read passwords as they arrive.
 *
 * Only what was verified is kept; a wrong password costs the whole work each time. The entry is part of what
 * is hashed: another entry never matches. verified_forget() ends all, when a password file has changed.
 *
 * Loop thread only. Bounded: so many entries, of which a new one replaces the oldest in its set of four.
 */
#ifndef BRAMBLE_AUTH_VERIFIED_H
#define BRAMBLE_AUTH_VERIFIED_H

#include "broker/slice.h"

struct verified;

enum { VERIFIED_TAG = 16 };

/* For so many secrets, rounded up to a multiple of four; 0: none is kept. Their memory is taken with the
 * first. One reference; NULL without memory. */
struct verified *verified_new(size_t entries);
struct verified *verified_ref(struct verified *verified);
/* NULL is allowed. The last one wipes everything. */
void verified_unref(struct verified *verified);

/* What stands for this secret. Must not be shown to anybody. */
void verified_tag(const struct verified *verified, struct slice entry, struct slice user,
                  struct slice password, uint8_t tag[VERIFIED_TAG]);

bool verified_has(struct verified *verified, const uint8_t tag[VERIFIED_TAG]);
/* Without memory it is not kept. */
void verified_add(struct verified *verified, const uint8_t tag[VERIFIED_TAG]);

/* Nothing is known any more; tags made before never match again. */
void verified_forget(struct verified *verified);

#endif
