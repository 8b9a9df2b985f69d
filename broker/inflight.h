/*
 * inflight.h - deliveries: what a session still has to send, and what it has sent and not yet seen
 * acknowledged.
 *
 * A delivery is one message on its way to one session. Queues of deliveries are rings of small values that
 * hold references to shared messages: 1000 queued subscribers cost 1000 references.
 *
 * The sent ring keeps the order of sending, because re-sending must keep it [MQTT-4.6.0-1]. An acknowledged
 * one in the middle becomes a tombstone (D_GONE) until the head passes it. Identifiers are given in rising
 * order, so the place of an identifier is its distance from the head's (after 65535 comes 1), unless an
 * identifier had to be skipped or tombstones were squeezed out.
 *
 * The identifiers of the other direction are in inbound.h.
 */
#ifndef BRAMBLE_INFLIGHT_H
#define BRAMBLE_INFLIGHT_H

#include "broker/msg.h"
#include "broker/store.h"

enum delivery_state {
    D_QUEUED,
    D_STORING,  /* QoS 2: has its identifier, and goes out when that is on disk */
    D_SENT,     /* waits for PUBACK or PUBREC */
    D_RELEASED, /* QoS 2: PUBREC came, PUBREL went; waits for PUBCOMP; msg is NULL */
    D_RETIRED, /* sent, but may not be read any more: only the identifier is left, until the client answers as
                  it would, or the connection ends; msg is NULL */
    D_GONE,    /* tombstone */
};

struct delivery {
    struct msg *msg;         /* a reference */
    struct obligation *owed; /* what the store knows of it; NULL: it is not durable */
    struct ticket *wait;     /* D_STORING: until when; D_RELEASED: until when PUBREL waits; a reference */
    uint32_t seq;            /* order of arrival in the session, over both queues */
    uint16_t id;             /* 0 until it is sent */
    uint16_t skip;           /* identifiers to leave out before it: of those swept from the queue */
    uint8_t qos;
    uint8_t state;
    bool retain; /* sent because of a new subscription [MQTT-3.3.1-8] */
    bool dup;    /* it was on the wire before */
};

struct ring {
    struct delivery *v;
    uint32_t head, count, cap; /* cap is 0 or a power of two */
    bool gaps;                 /* the identifiers are no longer all consecutive */
};

static inline struct delivery *ring_at(const struct ring *ring, uint32_t i)
{
    return &ring->v[(ring->head + i) & (ring->cap - 1)];
}

/* A new place at the end, not filled in; NULL without memory. */
struct delivery *ring_push(struct ring *ring);

static inline void ring_pop(struct ring *ring)
{
    ring->head = (ring->head + 1) & (ring->cap - 1);
    ring->count--;
}

/* Gives the memory of an empty ring back when it is more than a few places. */
void ring_trim(struct ring *ring);
void ring_free(struct ring *ring); /* only the array: the deliveries are the owner's business */

/* Takes the tombstones out. */
void ring_squeeze(struct ring *ring);

/* The delivery with this identifier that is not gone, or NULL. One look, unless there are gaps. */
struct delivery *ring_find(const struct ring *ring, uint16_t id);

#endif
