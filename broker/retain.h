/*
 * retain.h - retained messages: the last one of each topic [3.3.1.3].
 */
#ifndef BRAMBLE_RETAIN_H
#define BRAMBLE_RETAIN_H

#include "broker/msg.h"

struct retain;

/* NULL without memory. */
struct retain *retain_new(void);
void retain_free(struct retain *retain);

/* Keeps msg (a reference is taken) as the retained message of its topic; an empty payload removes what was
 * kept and is not kept itself [MQTT-3.3.1-10], [MQTT-3.3.1-11]. 0, or -1 without memory (what was retained
 * before stays). */
int retain_update(struct retain *retain, struct msg *msg);

/* The same for one that a client has sent and that is to be in the store too: it is noted as changed, until
 * retain_collect(). A value that changes ten times between is collected once. */
int retain_update_stored(struct retain *retain, struct msg *msg);
/* Calls fn for each topic whose message has changed, with the last one (its payload is empty: there is none
 * any more). */
void retain_collect(struct retain *retain, void (*fn)(void *arg, struct msg *msg), void *arg);

/* Calls fn for each retained message whose topic matches the filter. fn must not change what is retained.
 * Returns how many places it had to look at: its cost, also where nothing matches. */
size_t retain_match(struct retain *retain, struct slice filter, void (*fn)(void *arg, struct msg *msg),
                    void *arg);

/* The one collected last for its topic is not stored after all: it is to be collected again, unless the topic
 * has changed since. 0, or -1 without memory. */
int retain_again(struct retain *retain, struct msg *msg);

/* Removes all for which drop(arg, msg) is true. */
void retain_sweep(struct retain *retain, bool (*drop)(void *arg, const struct msg *msg), void *arg);

bool retain_has(const struct retain *retain, struct slice topic);
size_t retain_count(const struct retain *retain);
/* Topic and payload bytes that are kept. */
uint64_t retain_bytes(const struct retain *retain);

#endif
