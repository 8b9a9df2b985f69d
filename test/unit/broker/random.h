/*
 * random.h - a seeded generator for property tests: the same numbers on every machine, so a failure repeats.
 */
#ifndef BRAMBLE_TEST_RANDOM_H
#define BRAMBLE_TEST_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct random {
    uint64_t state; /* the seed; not 0 */
};

/* xorshift64*. */
static inline uint32_t random_next(struct random *random)
{
    random->state ^= random->state >> 12;
    random->state ^= random->state << 25;
    random->state ^= random->state >> 27;
    return (uint32_t)((random->state * 0x2545F4914F6CDD1Du) >> 32);
}

/* 0 to below - 1. */
static inline uint32_t random_below(struct random *random, uint32_t below)
{
    return random_next(random) % below;
}

static inline bool random_chance(struct random *random, uint32_t percent)
{
    return random_below(random, 100) < percent;
}

#endif
