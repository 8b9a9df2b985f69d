/*
 * session_spill.h - messages of a session that is away, or takes much less than comes, beyond
 * queue_memory_limit: they are in the store only and come back page by page when their client does.
 *
 *    oldest                                                            newest
 *    session->queue  |  numbers (in the store only)  |  pending (not committed yet)
 *          ^  a page, read by the reader thread  |        ^    |
 *          '-------------------------------------'        '----' with its commit
 *
 * From the first one on that was left to the store all later ones are, until the client has caught up, so
 * order is kept. What is in memory of one is its number. Rights are asked for when a page comes back.
 */
#ifndef BRAMBLE_SESSION_SPILL_H
#define BRAMBLE_SESSION_SPILL_H

#include "broker/session_parts.h"

struct spill {
    uint64_t *numbers; /* a ring */
    uint32_t head, count, cap;
    uint64_t bytes; /* payloads of those in numbers */
    uint64_t old;   /* what has no higher number may have been sent before the broker started */
    struct ring pending;
    struct page *page; /* being read, or NULL */
    bool unread;       /* the last one could not be, and that was said */
};

/* Whether the next message for this session, which is stored, is left to the store. */
bool spill_wanted(const struct sessions *sessions, const struct session *session);
/* A place for it, behind all others. NULL without memory. */
struct delivery *spill_push(struct session *session);
/* One that is in the store already (at start). 0, or -1 without memory. */
int spill_put(struct session *session, uint64_t number, uint64_t bytes);
/* The session's oldest pending one is stored (store_events.stored). */
void spill_stored(struct sessions *sessions, struct session *session, uint64_t number);
/* The client takes messages: asks for the next page in time. */
void spill_go_on(struct sessions *sessions, struct session *session);
/* Messages that wait in it, and their payload bytes. */
uint32_t spill_count(const struct session *session);
uint64_t spill_bytes(const struct session *session);
/* The session is gone: nothing comes to it any more, neither a page nor a commit. */
void spill_gone(struct session *session);
/* The same, after that: discharges at most *places, which is counted down. True when nothing is left. */
bool spill_bury(struct sessions *sessions, struct session *session, size_t *places);

#endif
