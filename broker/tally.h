/*
 * tally.h - to how many sessions a stored message is owed, by its number; only those owed to more than one
 * are in it.
 *
 * A million messages may wait in the store for sessions that are away, and nothing else of them stays in
 * memory, so a place is 12 bytes and not more.
 */
#ifndef BRAMBLE_TALLY_H
#define BRAMBLE_TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tally {
    uint32_t *counts; /* 0: a free place; behind it */
    uint64_t *numbers;
    size_t used, cap; /* cap is 0 or a power of two */
};

/* count is 2 or more; the number is not in it. 0, or -1 without memory. */
int tally_set(struct tally *tally, uint64_t number, uint32_t count);
/* One less: returns how many are left. One is left: it is not in it any more. What is not in it is owed to
 * one, so 0 are left. */
uint32_t tally_less(struct tally *tally, uint64_t number);
void tally_free(struct tally *tally);

#endif
