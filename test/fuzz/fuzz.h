/*
 * fuzz.h - what the fuzzers share: an assertion, a reader of the input, chance that is the same in each run,
 * and a log that formats every line and writes none. To be included once in a program.
 */
#ifndef BRAMBLE_TEST_FUZZ_H
#define BRAMBLE_TEST_FUZZ_H

#include "broker/log.h"
#include "broker/slice.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size,
                                 uint8_t *out, size_t max, unsigned seed);

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                \
        }                                                                           \
    } while (0)

/* ---- the input, from the front; behind its end are zeros ---- */

struct input {
    const uint8_t *p;
    size_t n;
};

static inline uint8_t input_u8(struct input *in)
{
    if (in->n == 0) {
        return 0;
    }
    in->n--;
    return *in->p++;
}

/* Up to n bytes. */
static inline struct slice input_bytes(struct input *in, size_t n)
{
    n = n < in->n ? n : in->n;
    struct slice s = slice_of(in->p, n);
    in->p += n;
    in->n -= n;
    return s;
}

/* ---- chance: seeds of hash tables and names made up by the broker repeat, so a finding does ---- */

static uint64_t fuzz_chance = 1;

ssize_t getrandom(void *buf, size_t n, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < n; i++) {
        fuzz_chance = fuzz_chance * 6364136223846793005u + 1442695040888963407u;
        ((uint8_t *)buf)[i] = (uint8_t)(fuzz_chance >> 56);
    }
    return (ssize_t)n;
}

/* ---- the log ---- */

static void fuzz_log_line(void *arg, enum log_type type, const char *line)
{
    (void)arg, (void)type;
    CHECK(strlen(line) > 0);
}

static inline void fuzz_log_start(void)
{
    static const struct log_options options = {.dests = LOG_D_TOPIC, .types = LOG_T_ALL};
    CHECK(log_start(&options, NULL) == 0);
    log_on_topic(fuzz_log_line, NULL);
}

#endif
