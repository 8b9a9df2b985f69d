/*
 * bytes.c - a queue of bytes for what a socket did not take yet, or mbedTLS did not ask for yet.
 *
 *     data          off            off+len        cap
 *      |  eaten      |  in the queue  |   room     |
 *
 * An empty queue holds no memory, so a quiet connection costs nothing here.
 */
#include "tls/internal.h"
#include <stdlib.h>
#include <string.h>

uint8_t *tls_bytes_room(struct tls_bytes *bytes, size_t n)
{
    size_t need = bytes->len + n;

    if (bytes->off && bytes->off + need > bytes->cap) {
        memmove(bytes->data, bytes->data + bytes->off, bytes->len);
        bytes->off = 0;
    }
    if (need > bytes->cap) {
        size_t cap = bytes->cap ? bytes->cap : 512;
        uint8_t *data;

        while (cap < need)
            cap *= 2;
        data = realloc(bytes->data, cap);
        if (!data)
            return NULL;
        bytes->data = data;
        bytes->cap = cap;
    }
    return bytes->data + bytes->off + bytes->len;
}

int tls_bytes_add(struct tls_bytes *bytes, const void *data, size_t n)
{
    uint8_t *at;

    if (n == 0)
        return 0;
    at = tls_bytes_room(bytes, n);
    if (!at)
        return -1;
    memcpy(at, data, n);
    bytes->len += n;
    return 0;
}

void tls_bytes_eat(struct tls_bytes *bytes, size_t n)
{
    bytes->off += n;
    bytes->len -= n;
    if (bytes->len == 0)
        tls_bytes_free(bytes);
}

void tls_bytes_free(struct tls_bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct tls_bytes){0};
}
