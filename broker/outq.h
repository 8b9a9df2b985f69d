/*
 * outq.h - what goes out on one connection, and in which order.
 *
 * A queue of answers (CONNACK, acks, SUBACK, PINGRESP), some held until their ticket closes; then the
 * session's messages. Everything is gathered into the broker's one window and written with one writev; only
 * what the socket did not take is kept on the connection.
 *
 *   answers whose ticket is closed \
 *                                   } -> window: [copied bytes][big payload, by reference][copied bytes]...
 * -> writev session_take(): messages       /                                       | not taken rest (sent
 * first, next time)
 *
 * Order: PUBACK and PUBREC leave in the order of the PUBLISHes [MQTT-4.6.0-2, -3], PUBREL in the order of the
 * PUBRECs [MQTT-4.6.0-4]; an answer of another kind never waits behind a held one. Only CONNACK has
 * everything wait: nothing comes before it [MQTT-3.2.0-1].
 *
 * While it waits, an acknowledgement knows what it acknowledges: a client that hears nothing sends its
 * PUBLISH again, and that is to be the same one (on_publish.c).
 */
#ifndef BRAMBLE_OUTQ_H
#define BRAMBLE_OUTQ_H

#include "broker/session.h"
#include "broker/store.h"
#include "broker/transport.h"

enum { WINDOW_SIZE = 65536, WINDOW_PIECES = 64, WINDOW_COPY = 2048 };

struct window {
    size_t used;  /* of bytes */
    size_t total; /* bytes of all pieces */
    int pieces;
    bool framed; /* a piece a packet (transport_ops.framed) */
    bool fresh;  /* the next byte begins a packet */
    struct iovec iov[WINDOW_PIECES];
    struct msg *refs[WINDOW_PIECES]; /* of the piece, when it is a payload by reference */
    uint8_t bytes[WINDOW_SIZE];
};

enum outq_order { OUTQ_ANY, OUTQ_ACK, OUTQ_REL, OUTQ_FIRST, OUTQ_ORDERS };

struct outq {
    struct answer *v;
    uint32_t count, cap;
    uint32_t held; /* of them: those that had a ticket to wait for when they were queued */
    size_t bytes;  /* of all answers */
    struct rest *rest;
};

enum outq_result { OUTQ_DONE, OUTQ_BLOCKED, OUTQ_ERROR };

void outq_free(struct outq *q);

/* Queues an answer that waits for nothing. 0, or -1 without memory. */
int outq_put(struct outq *q, const uint8_t *bytes, size_t n);
/* Queues an answer that leaves when the ticket is closed (a reference is taken; NULL: at once). holder: the
 * id by which store_events.closed names this connection. */
int outq_hold(struct outq *q, struct ticket *ticket, enum outq_order order, uint64_t holder,
              const uint8_t *bytes, size_t n);

/* The same of a PUBACK or PUBREC; as long as it is held it keeps a reference on msg (NULL: none). */
int outq_hold_ack(struct outq *q, struct ticket *ticket, uint64_t holder, uint8_t type, uint16_t id,
                  struct msg *msg);
/* Whether such an answer to this identifier is still held. *msg: what it acknowledges, borrowed, or NULL. */
bool outq_finds(const struct outq *q, uint8_t type, uint16_t id, struct msg **msg);

/* Whether CONNACK has not left yet: no message may. */
bool outq_greets(const struct outq *q);

/* Moves what may leave into the window; returns how many answers. */
uint32_t outq_fill(struct outq *q, struct window *window);

static inline bool window_has_room(const struct window *window)
{
    return window->used + WINDOW_COPY + 16 <= WINDOW_SIZE && window->pieces + 4 <= WINDOW_PIECES;
}

/* Appends a PUBLISH or PUBREL; the caller has asked window_has_room(). mount: what this client does not see
 * of a topic that begins with it (mount_point), or empty. Returns the packet's size. */
size_t window_put(struct window *window, const struct outgoing *out, struct slice mount);

/* Writes the rest of last time. OUTQ_DONE when there is none left. *sent grows by the bytes written. */
enum outq_result outq_write_rest(struct outq *q, struct transport *t, uint64_t *sent);
/* Writes the window and empties it; what is not taken becomes the rest (OUTQ_BLOCKED). */
enum outq_result outq_write(struct outq *q, struct window *window, struct transport *t, uint64_t *sent);

#endif
