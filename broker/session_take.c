/*
 * session_take.c - what a session sends, in which order and under which identifiers, and what its client
 * acknowledges. See session.h.
 *
 * First what is sent again, then what waited for its identifier to be stored, then what is queued: by order
 * of arrival, but nothing waits behind a message that the window, or the disk, holds back at a higher QoS.
 */
#include "broker/session_spill.h"

/* The window is never larger than the identifiers. */
uint16_t session_next_id(struct session *session, uint16_t skip)
{
    for (;;) {
        session->last_id = session->last_id == UINT16_MAX ? 1 : session->last_id + 1;
        bool used =
            ring_find(&session->sent, session->last_id) || ring_find(&session->storing, session->last_id);
        if (!used && skip == 0) {
            return session->last_id;
        }
        skip -= !used;
        session->sent.gaps = true;
    }
}

static bool window_open(const struct sessions *sessions, const struct session *session)
{
    const struct session_limits *limits = &sessions->limits;
    if (session->inflight >= limits->max_inflight ||
        session->sent.count + session->storing.count >= UINT16_MAX) {
        return false;
    }
    return limits->max_inflight_bytes == 0 || session->inflight == 0 ||
           session->sent_bytes + ring_at(&session->queue, 0)->msg->payload_size <= limits->max_inflight_bytes;
}

/* One whose identifier is on disk now. */
static bool stored(const struct session *session)
{
    return session->storing.count > 0 && ticket_closed(ring_at(&session->storing, 0)->wait);
}

bool session_has_output(const struct sessions *sessions, const struct session *session)
{
    return session->queue0.count > 0 || session->resend < session->sent.count || stored(session) ||
           (session->queue.count > 0 && window_open(sessions, session));
}

/* A reference on the ticket that PUBREL waits for; NULL: nothing. */
static struct ticket *still_waits(const struct delivery *d)
{
    return ticket_closed(d->wait) ? NULL : ticket_ref(d->wait);
}

static struct outgoing take_again(struct session *session)
{
    while (session->resend < session->sent.count) {
        const struct delivery *d = ring_at(&session->sent, session->resend++);
        if (d->state == D_SENT) {
            return (struct outgoing){.kind = OUT_PUBLISH,
                                     .msg = d->msg,
                                     .dup = d->dup,
                                     .retain = d->retain,
                                     .qos = d->qos,
                                     .id = d->id};
        }
        if (d->state == D_RELEASED) {
            return (struct outgoing){.kind = OUT_PUBREL, .id = d->id, .wait = still_waits(d)};
        }
    }
    return (struct outgoing){.kind = OUT_NONE};
}

static struct outgoing take_qos0(struct sessions *sessions, struct session *session)
{
    struct delivery *d = ring_at(&session->queue0, 0);
    struct outgoing out = {.kind = OUT_PUBLISH, .msg = d->msg, .owned = true, .retain = d->retain};
    session_unqueued(sessions, session, d->msg);
    ring_pop(&session->queue0);
    ring_trim(&session->queue0);
    return out;
}

/* The first one of from goes to the end of to, with this identifier; NULL: no memory, it stays. */
static struct delivery *move_first(struct ring *from, struct ring *to, uint16_t id)
{
    struct delivery *d = ring_push(to);
    if (!d) {
        to->gaps = true;
        return NULL;
    }
    *d = *ring_at(from, 0);
    ring_pop(from);
    ring_trim(from);
    d->id = id;
    if (to->count > 1 && ring_at(to, to->count - 2)->id != (id == 1 ? UINT16_MAX : id - 1)) {
        to->gaps = true;
    }
    return d;
}

static struct outgoing send_first(struct session *session, struct ring *from, uint16_t id)
{
    struct delivery *d = move_first(from, &session->sent, id);
    if (!d) {
        return (struct outgoing){.kind = OUT_NONE};
    }
    session->resend = session->sent.count; /* this one needs no re-sending now */
    d->state = D_SENT;
    return (struct outgoing){
        .kind = OUT_PUBLISH, .msg = d->msg, .dup = d->dup, .retain = d->retain, .qos = d->qos, .id = d->id};
}

static struct outgoing take_stored(struct session *session)
{
    const struct delivery *first = ring_at(&session->storing, 0);
    struct ticket *waited = first->wait;
    struct outgoing out = send_first(session, &session->storing, first->id);
    if (out.kind != OUT_NONE) {
        ring_at(&session->sent, session->sent.count - 1)->wait = NULL;
        ticket_unref(waited);
    }
    return out;
}

static void into_window(struct sessions *sessions, struct session *session, const struct msg *msg)
{
    session_unqueued(sessions, session, msg);
    session->sent_bytes += msg->payload_size;
    session->inflight++;
}

/* QoS 2: it goes out when its identifier is on disk. False: no memory, it stays queued. */
static bool store_first(struct sessions *sessions, struct session *session)
{
    uint16_t id = session_next_id(session, ring_at(&session->queue, 0)->skip);
    struct delivery *d = move_first(&session->queue, &session->storing, id);
    if (!d) {
        session->sent.gaps = true;
        return false;
    }
    into_window(sessions, session, d->msg);
    d->state = D_STORING;
    d->wait = store_out(sessions->store, d->owed, id);
    d->wait->holder = session->peer->id;
    return true;
}

static struct outgoing take_queued(struct sessions *sessions, struct session *session)
{
    struct msg *msg = ring_at(&session->queue, 0)->msg;
    uint16_t id = session_next_id(session, ring_at(&session->queue, 0)->skip);
    struct outgoing out = send_first(session, &session->queue, id);
    if (out.kind != OUT_NONE) {
        into_window(sessions, session, msg);
        store_sent_as(ring_at(&session->sent, session->sent.count - 1)->owed, id);
    }
    return out;
}

/* What has to be stored first does not hold up what is queued behind it. */
static bool queue_open(struct sessions *sessions, struct session *session)
{
    while (session->queue.count > 0 && window_open(sessions, session)) {
        const struct delivery *first = ring_at(&session->queue, 0);
        if (first->qos == 1 || !first->owed || !store_first(sessions, session)) {
            return first->qos == 1 || !first->owed;
        }
    }
    return false;
}

struct outgoing session_take(struct sessions *sessions, struct session *session)
{
    if (session->resend < session->sent.count) {
        struct outgoing again = take_again(session);
        if (again.kind != OUT_NONE) {
            return again;
        }
    }
    if (stored(session)) {
        return take_stored(session);
    }
    if (session->spill) {
        spill_go_on(sessions, session);
    }
    bool queued = queue_open(sessions, session);
    if (session->queue0.count > 0) {
        int32_t before =
            queued ? (int32_t)(ring_at(&session->queue0, 0)->seq - ring_at(&session->queue, 0)->seq) : -1;
        if (before < 0) {
            return take_qos0(sessions, session);
        }
    }
    if (queued) {
        return take_queued(sessions, session);
    }
    if (session->queue.count == 0) {
        session->drop_logged = false; /* all caught up: the next loss is news again */
    }
    return (struct outgoing){.kind = OUT_NONE};
}

/* Takes tombstones off the head. Behind a delivery that is never acknowledged they would pile up: then they
 * are squeezed out. */
void session_tidy_sent(struct session *session)
{
    if (session->sent.count > 64 && session->sent.count / 4 > session->inflight &&
        session->resend == session->sent.count) {
        ring_squeeze(&session->sent);
        session->resend = session->sent.count;
    }
    while (session->sent.count > 0 && ring_at(&session->sent, 0)->state == D_GONE) {
        ring_pop(&session->sent);
        session->resend -= session->resend > 0;
    }
    ring_trim(&session->sent);
}

/* It opens the window. */
static void sent_done(struct sessions *sessions, struct session *session, struct delivery *d)
{
    if (d->msg) {
        session->sent_bytes -= d->msg->payload_size;
    }
    session_drop(sessions, d);
    session->inflight--;
    session->progress = true;
    session->acked = true;
    session_tidy_sent(session);
    if (session->queue.count > 0 || session->spill) {
        peer_wake(session->peer); /* who acknowledges is there */
    }
}

enum ack session_puback(struct sessions *sessions, struct session *session, uint16_t id)
{
    struct delivery *d = ring_find(&session->sent, id);
    if (!d) {
        return ACK_UNKNOWN;
    }
    if (d->qos != 1) {
        return ACK_WRONG;
    }
    sent_done(sessions, session, d);
    return ACK_OK;
}

/* A crash after PUBREL must not bring the PUBLISH back: "PUBREC was received" is committed first, whoever
 * asks for PUBREL until then. */
struct ticket *session_released(struct sessions *sessions, struct session *session, struct delivery *d)
{
    if (d->msg) { /* it is the client's now, or nobody's; only the identifier is left */
        session->sent_bytes -= d->msg->payload_size;
        msg_unref(d->msg);
        d->msg = NULL;
        if (session_is_stored(sessions, session)) {
            d->wait = store_begin(sessions->store);
            store_change(
                sessions->store, d->wait,
                &(struct change){.kind = CHANGE_OUT, .session = session->number, .id = d->id, .qos = 2});
            store_seal(sessions->store, d->wait);
        }
        store_discharge(sessions->store, d->owed);
        d->owed = NULL;
    }
    return still_waits(d);
}

void session_id_free(struct sessions *sessions, struct session *session, uint16_t id)
{
    if (session_is_stored(sessions, session)) {
        store_change(sessions->store, NULL,
                     &(struct change){.kind = CHANGE_OUT_DONE, .session = session->number, .id = id});
    }
}

enum ack session_pubrec(struct sessions *sessions, struct session *session, uint16_t id,
                        struct ticket **ticket)
{
    *ticket = NULL;
    struct delivery *d = ring_find(&session->sent, id);
    if (!d) {
        return ACK_UNKNOWN;
    }
    if (d->qos != 2) {
        return ACK_WRONG;
    }
    d->state = D_RELEASED;
    *ticket = session_released(sessions, session, d);
    return ACK_OK;
}

enum ack session_pubcomp(struct sessions *sessions, struct session *session, uint16_t id)
{
    struct delivery *d = ring_find(&session->sent, id);
    if (!d) {
        return ACK_UNKNOWN;
    }
    if (d->state != D_RELEASED) {
        return ACK_WRONG;
    }
    session_id_free(sessions, session, id);
    sent_done(sessions, session, d);
    return ACK_OK;
}
