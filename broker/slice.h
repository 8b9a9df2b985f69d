/*
 * slice.h - a run of bytes that somebody else owns.
 *
 * Everything that is decoded from the wire, and every topic that is passed around, is a slice: a pointer and
 * a length, never ended by a zero, borrowed for the length of the call unless a header says otherwise.
 */
#ifndef BRAMBLE_SLICE_H
#define BRAMBLE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *p;
    size_t n;
};

static inline struct slice slice_of(const void *p, size_t n)
{
    return (struct slice){(const uint8_t *)p, n};
}

/* The bytes of a C string without its zero; NULL gives an empty slice. */
static inline struct slice slice_str(const char *s)
{
    return (struct slice){(const uint8_t *)s, s ? strlen(s) : 0};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* For "%.*s": SLICE_ARG(s) gives the precision and the pointer. */
#define SLICE_ARG(s) (int)(s).n, (s).p ? (const char *)(s).p : ""

#endif
