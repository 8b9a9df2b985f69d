/*
 * session_sweep.c - messages that a session holds and may no longer get. See session_sweep() in session.h.
 *
 * What is queued just goes. What was sent and not acknowledged must not be sent again, but its packet
 * identifier belongs to the exchange that the client has seen begin, and the standard has it end in one way
 * only:
 *
 *            on this connection                     when it was not (any more)
 *   QoS 1    D_RETIRED until PUBACK                 the identifier is free
 *   QoS 2    D_RETIRED until PUBREC, then PUBREL    D_RELEASED: PUBREL is sent, and kept until PUBCOMP
 *
 * A connection that ends turns the first column into the second. A QoS 2 identifier is never given to another
 * message before PUBCOMP: the client would take that one for a repetition and throw it away. In the store its
 * row goes on holding the identifier, as that of a message whose PUBREC came.
 */
#include "broker/session_spill.h"

typedef bool drop_fn(void *arg, const struct session *session, const struct msg *msg);

struct sweep {
    struct sessions *sessions;
    struct session *session;
    drop_fn *drop;
    void *arg;
    uint32_t count; /* of those dropped */
};

/* Returns how many were dropped behind the last one that stays. */
static uint16_t sweep_queue(struct sweep *sweep, struct ring *ring)
{
    struct session *session = sweep->session;
    uint32_t before = sweep->count;
    uint16_t skip = 0;
    for (uint32_t i = 0; i < ring->count; i++) {
        struct delivery *d = ring_at(ring, i);
        skip += d->skip;
        d->skip = 0;
        if (sweep->drop(sweep->arg, session, d->msg)) {
            session_unqueued(sweep->sessions, session, d->msg);
            session_drop(sweep->sessions, d);
            sweep->count++;
            skip++;
        } else {
            d->skip = skip;
            skip = 0;
        }
    }
    if (sweep->count > before) {
        ring_squeeze(ring); /* what is gone must not count against the limits */
        ring_trim(ring);
    }
    return skip;
}

/* Their client has not seen these identifiers: they are free. */
static void sweep_storing(struct sweep *sweep)
{
    struct session *session = sweep->session;
    uint32_t before = sweep->count;
    for (uint32_t i = 0; i < session->storing.count; i++) {
        struct delivery *d = ring_at(&session->storing, i);
        if (sweep->drop(sweep->arg, session, d->msg)) {
            session->sent_bytes -= d->msg->payload_size;
            session->inflight--;
            session_id_free(sweep->sessions, session, d->id);
            session_drop(sweep->sessions, d);
            sweep->count++;
        }
    }
    if (sweep->count > before) {
        ring_squeeze(&session->storing);
        ring_trim(&session->storing);
    }
}

static void retire(struct sweep *sweep, struct delivery *d, bool on_wire)
{
    struct session *session = sweep->session;
    if (d->qos == 1) {
        session->sent_bytes -= d->msg->payload_size;
        session_drop(sweep->sessions, d);
        session->inflight -= !on_wire;
        d->state = on_wire ? D_RETIRED : D_GONE;
        return;
    }
    d->state = on_wire ? D_RETIRED : D_RELEASED;
    ticket_unref(session_released(sweep->sessions, session, d));
}

static void sweep_sent(struct sweep *sweep)
{
    struct session *session = sweep->session;
    uint32_t before = sweep->count;
    for (uint32_t i = 0; i < session->sent.count; i++) {
        struct delivery *d = ring_at(&session->sent, i);
        if (d->state == D_SENT && sweep->drop(sweep->arg, session, d->msg)) {
            retire(sweep, d, session->peer && i < session->resend);
            sweep->count++;
        }
    }
    if (sweep->count > before) {
        session_tidy_sent(session);
    }
}

uint32_t session_sweep(struct sessions *sessions, struct session *session, drop_fn *drop, void *arg)
{
    struct sweep sweep = {sessions, session, drop, arg, 0};
    sweep_queue(&sweep, &session->queue0);
    session->skip += sweep_queue(&sweep, &session->queue);
    if (session->spill) {
        session->skip += sweep_queue(&sweep, &session->spill->pending);
    }
    sweep_storing(&sweep);
    sweep_sent(&sweep);
    if (sweep.count > 0 && session->peer && session_has_output(sessions, session)) {
        peer_wake(session->peer); /* the window may have opened */
    }
    return sweep.count;
}

void session_retired_over(struct session *session)
{
    bool any = false;
    for (uint32_t i = 0; i < session->sent.count; i++) {
        struct delivery *d = ring_at(&session->sent, i);
        if (d->state != D_RETIRED) {
            continue;
        }
        any = true;
        d->state = d->qos == 1 ? D_GONE : D_RELEASED;
        session->inflight -= d->qos == 1;
    }
    if (any) {
        session_tidy_sent(session);
    }
}
