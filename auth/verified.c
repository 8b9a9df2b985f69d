/*
 * verified.c - the cache of verified secrets. See verified.h.
 */
#include "auth/verified.h"

#include <sodium.h>
#include <stdlib.h>

enum { WAYS = 4 };

struct entry {
    uint8_t tag[VERIFIED_TAG];
    uint32_t used; /* when last; 0: empty */
};

struct verified {
    uint32_t refs;
    uint32_t now; /* counts uses */
    size_t sets;
    struct entry (*entries)[WAYS]; /* NULL: nothing was kept yet */
    uint8_t *key;                  /* crypto_generichash_KEYBYTES, locked */
};

struct verified *verified_new(size_t entries)
{
    struct verified *verified = calloc(1, sizeof *verified);
    if (!verified)
        return NULL;
    verified->key = sodium_malloc(crypto_generichash_KEYBYTES);
    if (!verified->key) {
        free(verified);
        return NULL;
    }
    verified->refs = 1;
    verified->sets = (entries + WAYS - 1) / WAYS;
    randombytes_buf(verified->key, crypto_generichash_KEYBYTES);
    return verified;
}

struct verified *verified_ref(struct verified *verified)
{
    verified->refs++;
    return verified;
}

void verified_forget(struct verified *verified)
{
    randombytes_buf(verified->key, crypto_generichash_KEYBYTES);
    if (verified->entries)
        sodium_memzero(verified->entries, verified->sets * sizeof *verified->entries);
    free(verified->entries);
    verified->entries = NULL;
}

void verified_unref(struct verified *verified)
{
    if (!verified || --verified->refs > 0)
        return;
    verified_forget(verified);
    sodium_free(verified->key);
    free(verified);
}

/* A length before each part: no two triples give the same bytes. */
static void put(crypto_generichash_state *state, struct slice s)
{
    uint64_t n = s.n;
    crypto_generichash_update(state, (const uint8_t *)&n, sizeof n);
    crypto_generichash_update(state, s.p, s.n);
}

void verified_tag(const struct verified *verified, struct slice entry, struct slice user,
                  struct slice password, uint8_t tag[VERIFIED_TAG])
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, verified->key, crypto_generichash_KEYBYTES, VERIFIED_TAG);
    put(&state, entry);
    put(&state, user);
    put(&state, password);
    crypto_generichash_final(&state, tag, VERIFIED_TAG);
    sodium_memzero(&state, sizeof state);
}

/* Tags are evenly spread, and nobody can choose them: four places are enough. */
static struct entry *set_of(const struct verified *verified, const uint8_t tag[VERIFIED_TAG])
{
    uint64_t n;
    memcpy(&n, tag, sizeof n);
    return verified->entries[n % verified->sets];
}

static struct entry *find(const struct verified *verified, const uint8_t tag[VERIFIED_TAG])
{
    struct entry *set = verified->entries ? set_of(verified, tag) : NULL;
    for (size_t i = 0; set && i < WAYS; i++)
        if (set[i].used && sodium_memcmp(set[i].tag, tag, VERIFIED_TAG) == 0)
            return &set[i];
    return NULL;
}

static void use(struct verified *verified, struct entry *entry)
{
    verified->now += verified->now == UINT32_MAX ? 2 : 1; /* never 0 */
    entry->used = verified->now;
}

bool verified_has(struct verified *verified, const uint8_t tag[VERIFIED_TAG])
{
    struct entry *entry = find(verified, tag);
    if (entry)
        use(verified, entry);
    return entry != NULL;
}

void verified_add(struct verified *verified, const uint8_t tag[VERIFIED_TAG])
{
    if (verified->sets == 0 || verified_has(verified, tag))
        return;
    if (!verified->entries && !(verified->entries = calloc(verified->sets, sizeof *verified->entries)))
        return;
    struct entry *set = set_of(verified, tag), *oldest = set;
    for (size_t i = 1; i < WAYS; i++)
        if (set[i].used < oldest->used)
            oldest = &set[i];
    memcpy(oldest->tag, tag, VERIFIED_TAG);
    use(verified, oldest);
}
