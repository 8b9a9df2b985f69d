/*
 * pwhash.c - the kinds of password hash (their forms are drawn in pwhash.h).
 *
 * A file's entry is attacker-shaped input of a sort: its parameters say how much memory and time each log-in
 * costs. So pwhash_check() bounds them when the file is loaded, and only text that passed it is ever
 * verified.
 *
 * New entries are argon2id with m=19456 (19 MiB), t=2, p=1, one of the settings that OWASP's Password Storage
 * Cheat Sheet names as equally strong. The others (12 MiB and 3 passes, 9 and 4, 7 and 5) fill 35 to 36 MiB
 * in all instead of 38: a gateway would gain 8 % of time at most, an attacker's chips much memory. The
 * aim is about 100 ms on a Pi 3B. That was not measured on one: it is an estimate. The 38,912 blocks take
 * 3640 cycles each on a Cortex-A53 whose caches never miss (llvm-mca's model of clang's 64-bit code for RFC
 * 9106's compression), 118 ms at 1.2 GHz; the 95 MiB that go to memory and back take another 50 ms if it
 * moves 2 GB/s and nothing overlaps. A 32-bit system takes several times as long: 5.8 s for 64 MiB and 4
 * passes were reported of a Pi 2 (github.com/nextcloud/server/pull/19023), which makes 0.8 s. An x86 server
 * of 2.8 GHz: 26 to 31 ms, measured.
 *
 * libsodium 1.0.18 answers "mismatch" when argon2id's memory cannot be had. verify_argon2id() therefore asks
 * once more for that much address space before it calls a password wrong.
 */
#include "auth/pwhash.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
    ARGON2_PASSES = 2,
    ARGON2_MEMORY = 19 * 1024 * 1024,
    ARGON2_LANES_MAX = 16,
    SALT_MIN = 8,
    SALT_MAX = 64,
    SALT_NEW = 12, /* the only length that mosquitto 2.0 reads */
    DIGEST = crypto_hash_sha512_BYTES,
    ARGON2_DIGEST_SHORT = 32, /* libsodium's; mosquitto 2.1 makes 64. Other lengths would be a torn line */
    TOKEN_SECRET = 32,
    TOKEN_SALT = 16,
    TOKEN_DIGEST = 32,
};

static const char token_prefix[] = "brmbl_", token_tag[] = "$blake2b$";

enum {
    TOKEN_PREFIX = sizeof token_prefix - 1,
    TOKEN_CODED = sodium_base64_ENCODED_LEN(TOKEN_SECRET, sodium_base64_VARIANT_URLSAFE_NO_PADDING) - 1,
};

/* A text taken apart. */
struct pwhash {
    enum pwhash_kind kind;
    uint32_t iterations;
    uint32_t memory_kib, passes, lanes;
    uint8_t salt[SALT_MAX];
    size_t salt_n;
    uint8_t digest[DIGEST];
    size_t digest_n;
};

bool pwhash_init(void)
{
    return sodium_init() >= 0;
}

bool pwhash_tagged(struct slice text)
{
    return text.n > 0 && text.p[0] == '$';
}

/* Takes prefix off the front of s. */
static bool skip(struct slice *s, const char *prefix)
{
    size_t n = strlen(prefix);
    if (s->n < n || memcmp(s->p, prefix, n) != 0)
        return false;
    *s = slice_of(s->p + n, s->n - n);
    return true;
}

/* Takes a decimal number off the front of s: no sign, no leading zero, at most nine digits. */
static bool number(struct slice *s, uint32_t *value)
{
    size_t n = 0;
    *value = 0;
    while (n < s->n && n < 9 && s->p[n] >= '0' && s->p[n] <= '9')
        *value = *value * 10 + (uint32_t)(s->p[n++] - '0');
    if (n == 0 || (s->p[0] == '0' && n > 1))
        return false;
    *s = slice_of(s->p + n, s->n - n);
    return true;
}

/* Takes base64 up to the next '$' (or the end) off the front of s. */
static bool base64(struct slice *s, int variant, uint8_t *out, size_t max, size_t *n)
{
    const uint8_t *stop = s->n ? memchr(s->p, '$', s->n) : NULL;
    size_t len = stop ? (size_t)(stop - s->p) : s->n;
    const char *end = NULL;
    if (len == 0 || sodium_base642bin(out, max, (const char *)s->p, len, NULL, n, &end, variant) != 0 ||
        end != (const char *)s->p + len)
        return false;
    *s = slice_of(s->p + len, s->n - len);
    return true;
}

static const char *parse_salt_and_digest(struct slice *s, int variant, struct pwhash *h)
{
    if (!base64(s, variant, h->salt, sizeof h->salt, &h->salt_n) || h->salt_n < SALT_MIN)
        return "the salt is damaged (it must be base64 of 8 to 64 bytes)";
    if (!skip(s, "$") || !base64(s, variant, h->digest, sizeof h->digest, &h->digest_n))
        return "the hash is damaged (it must be base64 of at most 64 bytes)";
    if (s->n)
        return "something follows the hash";
    return NULL;
}

static const char *parse_argon2id(struct slice *s, struct pwhash *h)
{
    if (!skip(s, "v=19$"))
        return "only version 19 of argon2id is known (v=19)";
    if (!skip(s, "m=") || !number(s, &h->memory_kib) || !skip(s, ",t=") || !number(s, &h->passes) ||
        !skip(s, ",p=") || !number(s, &h->lanes) || !skip(s, "$"))
        return "the parameters of argon2id are damaged (they must read m=N,t=N,p=N)";
    if (h->lanes < 1 || h->lanes > ARGON2_LANES_MAX || h->passes < 1 || h->memory_kib < 8 * h->lanes)
        return "the parameters of argon2id are out of range";
    if (h->memory_kib > PWHASH_MEMORY_MAX_KIB)
        return "argon2id asks for more than 256 MiB (m is too large)";
    if ((uint64_t)h->memory_kib * h->passes > PWHASH_WORK_MAX_KIB)
        return "argon2id asks for too much work (m times t is too large)";
    const char *why = parse_salt_and_digest(s, sodium_base64_VARIANT_ORIGINAL_NO_PADDING, h);
    if (!why && h->digest_n != ARGON2_DIGEST_SHORT && h->digest_n != DIGEST)
        why = "the hash is damaged (it must be base64 of 32 or 64 bytes)";
    return why;
}

static const char *parse_token(struct slice *s, struct pwhash *h)
{
    const char *why = parse_salt_and_digest(s, sodium_base64_VARIANT_ORIGINAL_NO_PADDING, h);
    if (!why && h->salt_n != TOKEN_SALT)
        why = "the salt is damaged (a token's must be base64 of 16 bytes)";
    if (!why && h->digest_n != TOKEN_DIGEST)
        why = "the hash is damaged (a token's must be base64 of 32 bytes)";
    return why;
}

static const char *parse_sha512(struct slice *s, struct pwhash *h)
{
    if (h->kind == PWHASH_PBKDF2) {
        if (!number(s, &h->iterations) || !skip(s, "$") || h->iterations < 1)
            return "the number of iterations is damaged";
        if (h->iterations > PWHASH_ITERATIONS_MAX)
            return "more than 10 million iterations";
    }
    const char *why = parse_salt_and_digest(s, sodium_base64_VARIANT_ORIGINAL, h);
    if (!why && h->digest_n != DIGEST)
        why = "the hash is damaged (it must be base64 of 64 bytes)";
    return why;
}

static const char *parse(struct slice text, struct pwhash *h)
{
    *h = (struct pwhash){.kind = PWHASH_SHA512};
    if (text.n >= PWHASH_TEXT_MAX)
        return "the hash is too long";
    if (skip(&text, "$argon2id$")) {
        h->kind = PWHASH_ARGON2ID;
        return parse_argon2id(&text, h);
    }
    if (skip(&text, token_tag)) {
        h->kind = PWHASH_TOKEN;
        return parse_token(&text, h);
    }
    if (skip(&text, "$7$"))
        h->kind = PWHASH_PBKDF2;
    else if (!skip(&text, "$6$"))
        return "unknown kind of hash (known are $argon2id$, $7$, $6$ and $blake2b$)";
    return parse_sha512(&text, h);
}

const char *pwhash_check(struct slice text)
{
    struct pwhash h;
    return parse(text, &h);
}

bool pwhash_is_token(struct slice password)
{
    uint8_t secret[TOKEN_SECRET];
    if (password.n != PWHASH_TOKEN_LEN || !skip(&password, token_prefix))
        return false;
    bool is = sodium_base642bin(secret, sizeof secret, (const char *)password.p, password.n, NULL, NULL, NULL,
                                sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0; /* of all its characters */
    sodium_memzero(secret, sizeof secret);
    return is;
}

bool pwhash_for_tokens(struct slice text)
{
    return skip(&text, token_tag);
}

void pwhash_new_token(char out[PWHASH_TOKEN_LEN + 1])
{
    _Static_assert(PWHASH_TOKEN_LEN == TOKEN_PREFIX + TOKEN_CODED, "length of a token");
    uint8_t secret[TOKEN_SECRET];
    randombytes_buf(secret, sizeof secret);
    memcpy(out, token_prefix, TOKEN_PREFIX);
    sodium_bin2base64(out + TOKEN_PREFIX, TOKEN_CODED + 1, secret, sizeof secret,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(secret, sizeof secret);
}

static void blake2b(const struct pwhash *h, struct slice token, uint8_t out[TOKEN_DIGEST])
{
    _Static_assert(TOKEN_SALT == crypto_generichash_KEYBYTES_MIN, "the salt is the key");
    _Static_assert(TOKEN_DIGEST == crypto_generichash_BYTES, "BLAKE2b-256");
    crypto_generichash(out, TOKEN_DIGEST, token.p, token.n, h->salt, h->salt_n);
}

static void sha512(const struct pwhash *h, struct slice password, uint8_t out[DIGEST])
{
    crypto_hash_sha512_state state;
    crypto_hash_sha512_init(&state);
    crypto_hash_sha512_update(&state, password.p, password.n);
    crypto_hash_sha512_update(&state, h->salt, h->salt_n);
    crypto_hash_sha512_final(&state, out);
    sodium_memzero(&state, sizeof state);
}

/* RFC 8018 section 5.2 with one block: the digest is as long as the pseudo-random function's output. The
 * state after the key is kept and copied, which halves the work of each round. */
static void pbkdf2(const struct pwhash *h, struct slice password, uint8_t out[DIGEST])
{
    static const uint8_t first_block[4] = {0, 0, 0, 1};
    crypto_auth_hmacsha512_state keyed, state;
    uint8_t u[DIGEST];

    crypto_auth_hmacsha512_init(&keyed, password.p, password.n);
    state = keyed;
    crypto_auth_hmacsha512_update(&state, h->salt, h->salt_n);
    crypto_auth_hmacsha512_update(&state, first_block, sizeof first_block);
    crypto_auth_hmacsha512_final(&state, u);
    memcpy(out, u, DIGEST);
    for (uint32_t i = 1; i < h->iterations; i++) {
        state = keyed;
        crypto_auth_hmacsha512_update(&state, u, sizeof u);
        crypto_auth_hmacsha512_final(&state, u);
        for (size_t k = 0; k < DIGEST; k++)
            out[k] ^= u[k];
    }
    sodium_memzero(&keyed, sizeof keyed);
    sodium_memzero(&state, sizeof state);
    sodium_memzero(u, sizeof u);
}

static bool memory_at_hand(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p != MAP_FAILED && munmap(p, n) == 0;
}

static enum auth_verdict verify_argon2id(const struct pwhash *h, const char *text, struct slice password)
{
    if (crypto_pwhash_argon2id_str_verify(text, (const char *)password.p, password.n) == 0)
        return AUTH_ALLOWED;
    return memory_at_hand((size_t)h->memory_kib * 1024) ? AUTH_DENIED : AUTH_UNAVAILABLE;
}

/* libsodium wants a pointer even when there is nothing behind it. */
static struct slice never_null(struct slice s)
{
    return s.p ? s : slice_of("", 0);
}

enum auth_verdict pwhash_verify(struct slice text, struct slice password)
{
    struct pwhash h;
    if (parse(text, &h))
        return AUTH_DENIED;
    if (pwhash_is_token(password) != (h.kind == PWHASH_TOKEN))
        return AUTH_DENIED;
    password = never_null(password);
    if (h.kind == PWHASH_ARGON2ID) {
        char copy[PWHASH_TEXT_MAX];
        memcpy(copy, text.p, text.n);
        copy[text.n] = 0;
        return verify_argon2id(&h, copy, password);
    }
    uint8_t digest[DIGEST];
    if (h.kind == PWHASH_PBKDF2)
        pbkdf2(&h, password, digest);
    else if (h.kind == PWHASH_TOKEN)
        blake2b(&h, password, digest);
    else
        sha512(&h, password, digest);
    bool same = sodium_memcmp(digest, h.digest, h.digest_n) == 0;
    sodium_memzero(digest, sizeof digest);
    return same ? AUTH_ALLOWED : AUTH_DENIED;
}

enum auth_verdict pwhash_verify_nobody(struct slice password)
{
    /* Salt and hash are zeros; the parameters must be those of pwhash_make(). */
    static const char text[] = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$"
                               "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    _Static_assert(ARGON2_MEMORY == 19456 * 1024 && ARGON2_PASSES == 2, "keep in step");
    enum auth_verdict verdict = pwhash_verify(slice_str(text), password);
    return verdict == AUTH_ALLOWED ? AUTH_DENIED : verdict;
}

static int make_argon2id(struct slice password, char out[PWHASH_TEXT_MAX])
{
    _Static_assert(crypto_pwhash_argon2id_STRBYTES <= PWHASH_TEXT_MAX, "room for libsodium's text");
    return crypto_pwhash_argon2id_str(out, (const char *)password.p, password.n, ARGON2_PASSES,
                                      ARGON2_MEMORY);
}

static void make_token(struct slice token, char out[PWHASH_TEXT_MAX])
{
    enum { VARIANT = sodium_base64_VARIANT_ORIGINAL_NO_PADDING };
    struct pwhash h = {.kind = PWHASH_TOKEN, .salt_n = TOKEN_SALT};
    char salt[sodium_base64_ENCODED_LEN(TOKEN_SALT, VARIANT)];
    char digest[sodium_base64_ENCODED_LEN(TOKEN_DIGEST, VARIANT)];
    randombytes_buf(h.salt, h.salt_n);
    blake2b(&h, token, h.digest);
    sodium_bin2base64(salt, sizeof salt, h.salt, h.salt_n, VARIANT);
    sodium_bin2base64(digest, sizeof digest, h.digest, TOKEN_DIGEST, VARIANT);
    snprintf(out, PWHASH_TEXT_MAX, "%s%s$%s", token_tag, salt, digest);
}

int pwhash_make(enum pwhash_kind kind, unsigned iterations, struct slice password, char out[PWHASH_TEXT_MAX])
{
    if (pwhash_is_token(password) != (kind == PWHASH_TOKEN))
        return -1;
    password = never_null(password);
    if (kind == PWHASH_ARGON2ID)
        return make_argon2id(password, out);
    if (kind == PWHASH_TOKEN) {
        make_token(password, out);
        return 0;
    }

    struct pwhash h = {.kind = kind, .iterations = iterations, .salt_n = SALT_NEW};
    char salt[sodium_base64_ENCODED_LEN(SALT_NEW, sodium_base64_VARIANT_ORIGINAL)];
    char digest[sodium_base64_ENCODED_LEN(DIGEST, sodium_base64_VARIANT_ORIGINAL)];
    randombytes_buf(h.salt, h.salt_n);
    if (kind == PWHASH_PBKDF2)
        pbkdf2(&h, password, h.digest);
    else
        sha512(&h, password, h.digest);
    sodium_bin2base64(salt, sizeof salt, h.salt, h.salt_n, sodium_base64_VARIANT_ORIGINAL);
    sodium_bin2base64(digest, sizeof digest, h.digest, DIGEST, sodium_base64_VARIANT_ORIGINAL);
    if (kind == PWHASH_PBKDF2)
        snprintf(out, PWHASH_TEXT_MAX, "$7$%u$%s$%s", iterations, salt, digest);
    else
        snprintf(out, PWHASH_TEXT_MAX, "$6$%s$%s", salt, digest);
    return 0;
}
