/*
 * bytes.c - a queue of bytes. See bytes.h.
 */
#include "broker/bytes.h"
#include <stdlib.h>
#include <string.h>

enum { FIRST = 512 };

uint8_t *bytes_room(struct bytes *bytes, size_t n)
{
    size_t need = bytes->len + n;
    if (bytes->at > 0 && bytes->at + need > bytes->cap) {
        memmove(bytes->block, bytes->block + bytes->at, bytes->len);
        bytes->at = 0;
    }
    if (need > bytes->cap) {
        size_t cap = bytes->cap ? bytes->cap : FIRST;
        while (cap < need) {
            cap *= 2;
        }
        uint8_t *block = realloc(bytes->block, cap);
        if (!block) {
            return NULL;
        }
        bytes->block = block;
        bytes->cap = cap;
    }
    return bytes->block + bytes->at + bytes->len;
}

bool bytes_add(struct bytes *bytes, const void *data, size_t n, size_t max)
{
    if (n == 0) {
        return true;
    }
    if (n > max || bytes->len > max - n) {
        return false;
    }
    uint8_t *room = bytes_room(bytes, n);
    if (!room) {
        return false;
    }
    memcpy(room, data, n);
    bytes->len += n;
    return true;
}

void bytes_drop(struct bytes *bytes, size_t n)
{
    bytes->at += n;
    bytes->len -= n;
    if (bytes->len == 0) {
        bytes_clear(bytes);
    }
}

void bytes_clear(struct bytes *bytes)
{
    free(bytes->block);
    *bytes = (struct bytes){0};
}
