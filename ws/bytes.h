/*
 * bytes.h - a queue of bytes with a bound: appended at the end, taken from the front, its memory given back
 * when empty.
 */
#ifndef BRAMBLE_WS_BYTES_H
#define BRAMBLE_WS_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct bytes {
    unsigned char *block;
    size_t at;  /* where the first one is */
    size_t len; /* how many there are */
    size_t cap; /* size of block */
};

static inline void bytes_clear(struct bytes *bytes)
{
    free(bytes->block);
    *bytes = (struct bytes){0};
}

static inline const unsigned char *bytes_front(const struct bytes *bytes)
{
    return bytes->block + bytes->at;
}

/* False, and nothing changed, when there would be more than max, or without memory. */
static inline bool bytes_add(struct bytes *bytes, const void *data, size_t n, size_t max)
{
    if (n == 0)
        return true;
    if (n > max || bytes->len > max - n)
        return false;
    if (bytes->at + bytes->len + n > bytes->cap && bytes->at > 0) {
        memmove(bytes->block, bytes->block + bytes->at, bytes->len);
        bytes->at = 0;
    }
    if (bytes->len + n > bytes->cap) {
        size_t cap = bytes->cap ? bytes->cap : 512;
        unsigned char *block;
        while (cap < bytes->len + n)
            cap *= 2;
        block = realloc(bytes->block, cap);
        if (!block)
            return false;
        bytes->block = block;
        bytes->cap = cap;
    }
    memcpy(bytes->block + bytes->at + bytes->len, data, n);
    bytes->len += n;
    return true;
}

/* n is at most len. */
static inline void bytes_drop(struct bytes *bytes, size_t n)
{
    bytes->at += n;
    bytes->len -= n;
    if (bytes->len == 0)
        bytes_clear(bytes);
}

#endif
