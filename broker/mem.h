/*
 * mem.h - the account of what clients make the broker remember: messages, subscriptions, topics of retained
 * messages, sessions and their queues. memory_limit is compared with it.
 *
 * It counts the bytes asked for, and MEM_BLOCK for what the allocator adds to each block. What a connection
 * needs for itself (its socket, TLS, buffers) is bounded by the number of connections and is not in it. A
 * counter, like those of counters.h; loop thread only.
 */
#ifndef BRAMBLE_MEM_H
#define BRAMBLE_MEM_H

#include <stddef.h>
#include <stdint.h>

enum { MEM_BLOCK = 16 };

/* One block of n bytes is held, or given back. */
void mem_hold(size_t n);
void mem_drop(size_t n);

uint64_t mem_held(void);

#endif
