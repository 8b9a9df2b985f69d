/*
 * peer.h - the port from a session to whoever is behind it: a connection, an in-process peer, later a bridge.
 *
 * A session never sees a connection. It tells its peer that there is something to send (wake), that it must
 * go (kick), or that reading from it must rest (pause). wake() only schedules: the peer takes from the
 * session when the loop is about to sleep, in flush().
 */
#ifndef BRAMBLE_PEER_H
#define BRAMBLE_PEER_H

#include <stdbool.h>
#include <stdint.h>

struct peer;

struct peer_ops {
    void (*flush)(struct peer *peer);                 /* take what the session has, and write it */
    void (*kick)(struct peer *peer, const char *why); /* end it; it detaches from its session */
    void (*pause)(struct peer *peer, bool on);        /* stop or resume taking packets from it */
};

/* The peers that have something to do before the loop sleeps. */
struct peer_list {
    struct peer *first, **last;
};

struct peer {
    const struct peer_ops *ops;
    struct peer_list *list; /* where wake puts it */
    struct peer *next;
    uint64_t id;    /* by which a ticket knows whom to wake; 0: nobody */
    bool scheduled; /* on the list */
    bool blocked;   /* its socket takes nothing now: what is offered has to wait */
};

static inline void peer_wake(struct peer *peer)
{
    if (!peer->scheduled) {
        peer->scheduled = true;
        peer->next = 0;
        *peer->list->last = peer;
        peer->list->last = &peer->next;
    }
}

static inline void peer_list_init(struct peer_list *list)
{
    list->first = 0;
    list->last = &list->first;
}

/* Flushes all that are on the list now; who wakes meanwhile is on it afterwards. */
static inline void peer_list_flush(struct peer_list *list)
{
    struct peer *peer = list->first;
    peer_list_init(list);
    while (peer) {
        struct peer *next = peer->next;
        peer->scheduled = false;
        peer->ops->flush(peer);
        peer = next;
    }
}

#endif
