/*
 * log_ring.h - lines on their way to the log thread: a byte ring of fixed size. Private to broker/log*.c.
 *
 * Not locked: log.c does that. Each line is an entry (time, type, length) and its text, end to end.
 */
#ifndef BRAMBLE_LOG_RING_H
#define BRAMBLE_LOG_RING_H

#include "broker/log_sink.h"

enum { LOG_RING_SIZE = 256 * 1024 };

struct log_ring {
    size_t head, tail; /* bytes ever written and ever read; the place in the ring is modulo its size */
    char bytes[LOG_RING_SIZE];
};

/* False when the line does not fit; those of the access log may fill half of the ring. */
bool log_ring_push(struct log_ring *ring, const struct log_line *line);

/* Moves as many whole lines as fit into the batch, oldest first. Returns the bytes used. size >= the longest
 * line. */
size_t log_ring_take(struct log_ring *ring, char *batch, size_t size);

/* Reads the line at byte `at` of a batch (its text points into the batch) and returns where the next one is.
 */
size_t log_ring_line(const char *batch, size_t at, struct log_line *line);

#endif
