/*
 * session_owed.h - what SUBSCRIBEs still owe a session: the retained messages of filters that have not been
 * looked for yet, for want of room or time (on_subscribe.c).
 *
 * The session owns them, not the connection: a client that has its SUBACK and then loses the connection
 * subscribes no more after the resume, so it must get them then [MQTT-3.3.1-6].
 *
 * The same after a crash: a kept session's subscription stands in the store as one that owes
 * (CHANGE_SUBSCRIBE). Once all of a packet were handed over they wait in a second list, until what was handed
 * over has reached the client or the store itself; then the store is told that they owe nothing any more.
 */
#ifndef BRAMBLE_SESSION_OWED_H
#define BRAMBLE_SESSION_OWED_H

#include "broker/packet.h"
#include "broker/session.h"

struct owed {
    struct owed *next;
    struct ticket *ticket; /* of the SUBACK, which goes first; a reference, or NULL */
    size_t size;
    size_t total; /* handed over: of this one and all behind it */
    uint64_t
        number; /* drawn when it had to wait for a turn (broker.h); 0: it need not, or has had one since */
    struct packet_filters filters; /* those still to do, each with the QoS granted; rest points into bytes */
    uint8_t bytes[];
};

/* Room for filters that take n bytes in a SUBSCRIBE; NULL without memory. */
struct owed *owed_new(size_t n);
void owed_put(struct owed *owed, struct slice filter, uint8_t qos);
/* The session owns it from now on, unless it is more than may be owed: then it is freed; -1. ticket may be
 * NULL. */
int owed_add(struct session *session, struct owed *owed, struct ticket *ticket);
/* The first one is done. */
void owed_done(struct session *session);
/* The same, but the store does not know yet: it goes to session->handed, with all its filters again. When
 * those are too many, it is done: after a crash they are looked for once more. */
void owed_handed(struct session *session);
/* The first one of those is told. */
void owed_told(struct session *session);
/* The session ends. */
void owed_drop(struct session *session);
/* The connection is gone, and with it any SUBACK that was to go first. */
void owed_unanswered(struct session *session);
void owed_free(struct owed *owed); /* NULL is allowed */

#endif
