/*
 * bytes.h - a queue of bytes with a bound: appended at the end, taken from the front; an empty one owns no
 * memory, so a quiet connection costs nothing here.
 *
 *     block         at            at+len          cap
 *      |  taken      |  in the queue  |   room     |
 */
#ifndef BRAMBLE_BYTES_H
#define BRAMBLE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
    uint8_t *block;
    size_t at, len, cap;
};

/* Makes room for n bytes behind the end and returns where they go; NULL without memory. Then bytes_added().
 */
uint8_t *bytes_room(struct bytes *bytes, size_t n);

static inline void bytes_added(struct bytes *bytes, size_t n)
{
    bytes->len += n;
}

/* Appends a copy. False, and nothing changed, when there would be more than max, or without memory. */
bool bytes_add(struct bytes *bytes, const void *data, size_t n, size_t max);

static inline const uint8_t *bytes_front(const struct bytes *bytes)
{
    return bytes->block + bytes->at;
}

/* Takes n bytes, at most len, off the front. */
void bytes_drop(struct bytes *bytes, size_t n);
void bytes_clear(struct bytes *bytes);

#endif
