/*
 * curve_memo.h - remembers multiplications on elliptic curves. They are nine tenths of a handshake, and as
 * chance repeats, most of them are those of the run before. What is compared is what goes in, all of it;
 * chance is put back to where it was, so a remembered result leaves the rest of the run as a computed one
 * would. To be included once, with mbedTLS' functions linked to these (see fuzz_wrap_tls in the Makefile).
 */
#ifndef BRAMBLE_TEST_CURVE_MEMO_H
#define BRAMBLE_TEST_CURVE_MEMO_H

#include "test/fuzz/fuzz.h"
#include <mbedtls/ecp.h>

enum { MEMOS = 1024, MEMO_INPUT = 6 * 70, MEMO_NUMBER = 66 /* bytes of the largest, P-521 */ };

struct memo {
    size_t n; /* of input; 0: free */
    uint8_t input[MEMO_INPUT];
    int result;
    mbedtls_ecp_point R;
};

static struct memo memos[MEMOS];

static inline void memo_number(struct memo *key, const mbedtls_mpi *number)
{
    if (mbedtls_mpi_size(number) > MEMO_NUMBER ||
        mbedtls_mpi_write_binary(number, key->input + key->n + 1, MEMO_NUMBER)) {
        key->n = MEMO_INPUT; /* too large to be remembered */
        return;
    }
    key->input[key->n] = (uint8_t)(number->MBEDTLS_PRIVATE(s) < 0);
    key->n += 1 + MEMO_NUMBER;
}

static inline void memo_point(struct memo *key, const mbedtls_ecp_point *P)
{
    for (int i = 0; i < 2 && key->n + 1 + MEMO_NUMBER <= MEMO_INPUT; i++) {
        memo_number(key, i ? &P->MBEDTLS_PRIVATE(Y) : &P->MBEDTLS_PRIVATE(X));
    }
    if (mbedtls_mpi_cmp_int(&P->MBEDTLS_PRIVATE(Z), 1) != 0) {
        key->n = MEMO_INPUT;
    }
}

/* The place for this key: the one that holds it, or the one to be used. */
static inline struct memo *memo_place(const struct memo *key)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < key->n; i++) {
        h = (h ^ key->input[i]) * 16777619u;
    }
    return &memos[(h ^ h >> 15) % MEMOS];
}

static inline bool memo_knows(const struct memo *place, const struct memo *key, mbedtls_ecp_point *R)
{
    return key->n < MEMO_INPUT && place->n == key->n && memcmp(place->input, key->input, key->n) == 0 &&
           (place->result || mbedtls_ecp_copy(R, &place->R) == 0);
}

static inline int memo_keep(struct memo *place, const struct memo *key, int result,
                            const mbedtls_ecp_point *R)
{
    if (key->n < MEMO_INPUT) {
        mbedtls_ecp_point_free(&place->R);
        memcpy(place->input, key->input, key->n);
        place->n = key->n;
        place->result = result;
        if (mbedtls_ecp_copy(&place->R, R)) {
            place->n = 0;
        }
    }
    return result;
}

typedef int rng_fn(void *, unsigned char *, size_t);

int __real_mbedtls_ecp_mul_restartable(mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                                       const mbedtls_ecp_point *P, rng_fn *f_rng, void *p_rng,
                                       mbedtls_ecp_restart_ctx *rs);
int __wrap_mbedtls_ecp_mul_restartable(mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                                       const mbedtls_ecp_point *P, rng_fn *f_rng, void *p_rng,
                                       mbedtls_ecp_restart_ctx *rs);
int __wrap_mbedtls_ecp_mul(mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                           const mbedtls_ecp_point *P, rng_fn *f_rng, void *p_rng);
int __real_mbedtls_ecp_muladd_restartable(mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                                          const mbedtls_ecp_point *P, const mbedtls_mpi *n,
                                          const mbedtls_ecp_point *Q, mbedtls_ecp_restart_ctx *rs);
int __wrap_mbedtls_ecp_muladd_restartable(mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                                          const mbedtls_ecp_point *P, const mbedtls_mpi *n,
                                          const mbedtls_ecp_point *Q, mbedtls_ecp_restart_ctx *rs);

int __wrap_mbedtls_ecp_mul_restartable(mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                                       const mbedtls_ecp_point *P, rng_fn *f_rng, void *p_rng,
                                       mbedtls_ecp_restart_ctx *rs)
{
    struct memo key = {.n = 1, .input = {(uint8_t)grp->id}};
    memo_number(&key, m);
    memo_point(&key, P);
    struct memo *place = memo_place(&key);
    if (memo_knows(place, &key, R)) {
        return place->result;
    }
    uint64_t chance = fuzz_chance;
    int result = __real_mbedtls_ecp_mul_restartable(grp, R, m, P, f_rng, p_rng, rs);
    fuzz_chance = chance;
    return memo_keep(place, &key, result, R);
}

int __wrap_mbedtls_ecp_mul(mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                           const mbedtls_ecp_point *P, rng_fn *f_rng, void *p_rng)
{
    return __wrap_mbedtls_ecp_mul_restartable(grp, R, m, P, f_rng, p_rng, NULL);
}

int __wrap_mbedtls_ecp_muladd_restartable(mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                                          const mbedtls_ecp_point *P, const mbedtls_mpi *n,
                                          const mbedtls_ecp_point *Q, mbedtls_ecp_restart_ctx *rs)
{
    struct memo key = {.n = 1, .input = {(uint8_t)(0x80 | grp->id)}};
    memo_number(&key, m);
    memo_point(&key, P);
    memo_number(&key, n);
    memo_point(&key, Q);
    struct memo *place = memo_place(&key);
    if (memo_knows(place, &key, R)) {
        return place->result;
    }
    uint64_t chance = fuzz_chance;
    int result = __real_mbedtls_ecp_muladd_restartable(grp, R, m, P, n, Q, rs);
    fuzz_chance = chance;
    return memo_keep(place, &key, result, R);
}

#endif
