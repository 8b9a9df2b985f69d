/*
 * tally.c - numbers and counts in two arrays, by open addressing. See tally.h.
 *
 * Numbers are given in rising order and go in about the same order, so a multiplicative hash spreads them
 * well; nobody outside can choose them. A place that gets free is filled from behind it, so there are no
 * tombstones and a look ends at the first free place.
 */
#include "broker/tally.h"
#include "broker/mem.h"
#include <stdlib.h>

enum { TALLY_FIRST = 64, PLACE_BYTES = sizeof(uint32_t) + sizeof(uint64_t) };

static size_t place(const struct tally *tally, uint64_t number)
{
    return (size_t)(number * 0x9E3779B97F4A7C15ULL >> 20) & (tally->cap - 1);
}

static void put(struct tally *tally, uint64_t number, uint32_t count)
{
    size_t i = place(tally, number);
    while (tally->counts[i]) {
        i = (i + 1) & (tally->cap - 1);
    }
    tally->numbers[i] = number;
    tally->counts[i] = count;
}

static int resize(struct tally *tally, size_t cap)
{
    struct tally old = *tally;
    uint32_t *counts = calloc(cap, sizeof *counts);
    uint64_t *numbers = malloc(cap * sizeof *numbers);
    if (!counts || !numbers) {
        free(counts);
        free(numbers);
        return -1;
    }
    mem_hold(cap * PLACE_BYTES);
    *tally = (struct tally){counts, numbers, old.used, cap};
    for (size_t i = 0; i < old.cap; i++) {
        if (old.counts[i]) {
            put(tally, old.numbers[i], old.counts[i]);
        }
    }
    old.used = 0;
    tally_free(&old);
    return 0;
}

int tally_set(struct tally *tally, uint64_t number, uint32_t count)
{
    if (4 * tally->used >= 3 * tally->cap && resize(tally, tally->cap ? 2 * tally->cap : TALLY_FIRST) < 0) {
        return -1;
    }
    put(tally, number, count);
    tally->used++;
    return 0;
}

/* Those behind a place that gets free move up, unless they would come before where they belong. */
static void take_out(struct tally *tally, size_t hole)
{
    size_t mask = tally->cap - 1;
    for (size_t i = (hole + 1) & mask; tally->counts[i]; i = (i + 1) & mask) {
        size_t from = place(tally, tally->numbers[i]);
        if (((i - from) & mask) >= ((i - hole) & mask)) {
            tally->numbers[hole] = tally->numbers[i];
            tally->counts[hole] = tally->counts[i];
            hole = i;
        }
    }
    tally->counts[hole] = 0;
    tally->used--;
    if (tally->used == 0) {
        tally_free(tally);
    } else if (tally->cap > TALLY_FIRST && 8 * tally->used < tally->cap) {
        resize(tally, tally->cap / 2); /* without memory it stays large */
    }
}

uint32_t tally_less(struct tally *tally, uint64_t number)
{
    if (tally->cap == 0) {
        return 0;
    }
    size_t i = place(tally, number);
    while (tally->counts[i] && tally->numbers[i] != number) {
        i = (i + 1) & (tally->cap - 1);
    }
    if (tally->counts[i] == 0) {
        return 0;
    }
    uint32_t left = --tally->counts[i];
    if (left == 1) {
        take_out(tally, i);
    }
    return left;
}

void tally_free(struct tally *tally)
{
    if (tally->cap > 0) {
        mem_drop(tally->cap * PLACE_BYTES);
    }
    free(tally->counts);
    free(tally->numbers);
    *tally = (struct tally){0};
}
