/*
 * sweep.h - a file damaged at every byte: cut off there, or with another byte there. For loaders of files.
 *
 *    sweep_cuts(text, n, step, check)     check(text, cut, ...) for cut = 0, step, 2 * step... n
 *    sweep_bytes(text, n, step, check)    the whole text with a zero, a newline, a quote, 0xFF... in each
 * place
 *
 * check() gets the damaged bytes, loads them and says what must hold; `at` is the place of the damage.
 */
#ifndef TEST_UNIT_SWEEP_H
#define TEST_UNIT_SWEEP_H

#include <stdlib.h>
#include <string.h>

typedef void sweep_check(const char *bytes, size_t n, size_t at);

static inline void sweep_cuts(const char *text, size_t n, size_t step, sweep_check *check)
{
    for (size_t cut = 0; cut < n; cut += step)
        check(text, cut, cut);
    check(text, n, n);
}

static inline void sweep_bytes(const char *text, size_t n, size_t step, sweep_check *check)
{
    static const char damage[] = {'\0', '\n', '#', ' ', '0', '"', '\x1b', '\x80', '\xff'};
    char *copy = malloc(n);

    if (!copy)
        abort();
    for (size_t at = 0; at < n; at += step) {
        memcpy(copy, text, n);
        for (size_t i = 0; i < sizeof damage; i++) {
            copy[at] = damage[i];
            check(copy, n, at);
        }
    }
    free(copy);
}

#endif
