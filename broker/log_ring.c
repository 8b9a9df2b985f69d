/*
 * log_ring.c - copying lines into and out of the ring, in at most two pieces each.
 */
#include "broker/log_ring.h"
#include <string.h>

/* What stands before each text. */
struct entry {
    int64_t sec;
    uint32_t type;
    uint32_t len;
};

static size_t first_piece(size_t at, size_t n)
{
    return n < LOG_RING_SIZE - at ? n : LOG_RING_SIZE - at;
}

static void ring_write(struct log_ring *ring, const void *data, size_t n)
{
    size_t at = ring->head % LOG_RING_SIZE;
    size_t first = first_piece(at, n);

    memcpy(ring->bytes + at, data, first);
    memcpy(ring->bytes, (const char *)data + first, n - first);
    ring->head += n;
}

/* Does not move the tail. */
static void ring_read(const struct log_ring *ring, void *data, size_t n)
{
    size_t at = ring->tail % LOG_RING_SIZE;
    size_t first = first_piece(at, n);

    memcpy(data, ring->bytes + at, first);
    memcpy((char *)data + first, ring->bytes, n - first);
}

bool log_ring_push(struct log_ring *ring, const struct log_line *line)
{
    struct entry entry = {.sec = line->sec, .type = line->type, .len = (uint32_t)line->len};

    size_t most = line->type == LOG_T_ACCESS ? LOG_RING_SIZE / 2 : LOG_RING_SIZE;

    if (ring->head - ring->tail + sizeof entry + line->len > most)
        return false;
    ring_write(ring, &entry, sizeof entry);
    ring_write(ring, line->text, line->len);
    return true;
}

size_t log_ring_take(struct log_ring *ring, char *batch, size_t size)
{
    size_t used = 0;

    while (ring->tail != ring->head) {
        struct entry entry;
        size_t n;
        ring_read(ring, &entry, sizeof entry);
        n = sizeof entry + entry.len;
        if (used + n > size)
            break;
        ring_read(ring, batch + used, n);
        ring->tail += n;
        used += n;
    }
    return used;
}

size_t log_ring_line(const char *batch, size_t at, struct log_line *line)
{
    struct entry entry;

    memcpy(&entry, batch + at, sizeof entry);
    at += sizeof entry;
    *line = (struct log_line){entry.sec, (enum log_type)entry.type, batch + at, entry.len};
    return at + entry.len;
}
