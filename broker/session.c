/*
 * session.c - sessions and their deliveries. See session.h.
 *
 * The hard part is the limit. A slow reader must not make the broker grow, and must not lose what a fast one
 * would get: what was offered in this turn of the loop has not had its chance to be written yet, so QoS 0
 * messages count against the limit only while the peer's socket is blocked. QoS 1 and 2 messages wait for
 * acknowledgements in any case; there the caller learns early (OFFER_PRESSURE) that a publisher is faster
 * than a subscriber that does read.
 */
#include "broker/session.h"
#include "broker/clock.h"
#include "broker/log.h"
#include "broker/mem.h"
#include "broker/session_owed.h"
#include "broker/session_spill.h"
#include "broker/stored.h"
#include "broker/subs.h"
#include <stdlib.h>

enum {
    BURST_BYTES = 1 << 20,
    /* in the account of memory: itself, its place in the table, and who it belongs to */
    SESSION_BYTES = sizeof(struct session) + sizeof(struct principal) + 128,
    BURY_AT_ONCE = 2000, /* deliveries and places of the tree that a session may need on its way out */
    BURST_MS = 10000,    /* a client that has not acknowledged anything for so long is a slow reader */
};

void sessions_init(struct sessions *sessions, struct subs *subs, struct store *store,
                   const struct session_limits *limits)
{
    *sessions =
        (struct sessions){.subs = subs, .store = store, .limits = *limits, .clock = clock_ms, .policy = 1};
}

void sessions_free(struct sessions *sessions)
{
    struct session *session, *next;
    HASH_ITER(hh, sessions->by_id, session, next) {
        session_destroy(sessions, session);
    }
    sessions_bury(sessions, SIZE_MAX);
    stored_origins_free(sessions->origins);
}

struct session *session_find(struct sessions *sessions, const char *client_id)
{
    struct session *session;
    HASH_FIND_STR(sessions->by_id, client_id, session);
    return session;
}

void session_rights_changed(struct session *session)
{
    session->rights++;
    session->rights += session->rights == 0;
}

static struct session *add(struct sessions *sessions, uint64_t number, const char *client_id,
                           struct principal *who, bool clean)
{
    struct session *session = calloc(1, sizeof *session);
    char *name = strdup(client_id);
    if (!session || !name) {
        free(session);
        free(name);
        return NULL;
    }
    session->number = session->owing.session = number;
    session->client_id = name;
    session->who = who ? principal_ref(who) : NULL;
    session->clean = clean;
    session->policy = session->subs_policy = sessions->policy;
    session_rights_changed(session);
    HASH_ADD_KEYPTR(hh, sessions->by_id, session->client_id, strlen(session->client_id), session);
    if (!session->hh.tbl) {
        principal_unref(session->who);
        free(session->client_id);
        free(session);
        return NULL;
    }
    mem_hold(SESSION_BYTES + strlen(client_id));
    return session;
}

bool session_is_stored(const struct sessions *sessions, const struct session *session)
{
    return !session->clean && session->who && store_durable(sessions->store);
}

/* It is there, and whose it is. */
static void store_session(struct sessions *sessions, const struct session *session)
{
    if (session_is_stored(sessions, session)) {
        store_change(sessions->store, NULL,
                     &(struct change){.kind = CHANGE_SESSION,
                                      .session = session->number,
                                      .text = (uint8_t *)session->client_id,
                                      .count = (uint32_t)strlen(session->client_id),
                                      .who = session->who});
    }
}

struct session *session_new(struct sessions *sessions, const char *client_id, struct principal *who,
                            bool clean)
{
    struct session *session = add(sessions, store_number(sessions->store), client_id, who, clean);
    if (session) {
        store_session(sessions, session);
    }
    return session;
}

struct session *session_restore(struct sessions *sessions, uint64_t number, const char *client_id,
                                struct principal *who)
{
    struct session *session = add(sessions, number, client_id, who, false);
    if (session) {
        session->owing.done = UINT64_MAX;
        session->policy = session->subs_policy = 0; /* the rules may be others than when it was stored */
    }
    return session;
}

void session_queued(struct sessions *sessions, struct session *session, const struct msg *msg)
{
    session->queued_bytes += msg->payload_size;
    sessions->queued_bytes += msg->payload_size;
    sessions->queued++;
}

void session_unqueued(struct sessions *sessions, struct session *session, const struct msg *msg)
{
    session->queued_bytes -= msg->payload_size;
    sessions->queued_bytes -= msg->payload_size;
    sessions->queued--;
}

void sessions_stored(struct sessions *sessions, struct owing *owing, uint64_t number)
{
    struct session *session = (struct session *)((char *)owing - offsetof(struct session, owing));
    spill_stored(sessions, session, number);
}

void session_drop(struct sessions *sessions, struct delivery *d)
{
    store_discharge(sessions->store, d->owed);
    ticket_unref(d->wait);
    msg_unref(d->msg);
    d->owed = NULL;
    d->wait = NULL;
    d->msg = NULL;
    d->state = D_GONE;
}

bool session_drop_some(struct sessions *sessions, struct ring *ring, size_t *places)
{
    for (; ring->count > 0 && *places > 0; --*places) {
        struct delivery *d = ring_at(ring, 0);
        if (d->state != D_GONE) {
            session_drop(sessions, d);
        }
        ring_pop(ring);
    }
    if (ring->count == 0) {
        ring_free(ring);
    }
    return ring->count == 0;
}

bool sessions_bury(struct sessions *sessions, size_t places)
{
    while (sessions->gone) {
        struct session *session = sessions->gone;
        if (!session_drop_some(sessions, &session->queue0, &places) ||
            !session_drop_some(sessions, &session->queue, &places) ||
            !session_drop_some(sessions, &session->storing, &places) ||
            !session_drop_some(sessions, &session->sent, &places) ||
            !spill_bury(sessions, session, &places) || !subs_remove_some(sessions->subs, session, &places)) {
            return false;
        }
        sessions->gone = session->next_gone;
        principal_unref(session->who);
        mem_drop(SESSION_BYTES + strlen(session->client_id));
        free(session->client_id);
        free(session);
    }
    return true;
}

void session_discard(struct sessions *sessions, struct session *session)
{
    if (sessions->walk == session) {
        sessions->walk = session->hh.next;
    }
    HASH_DEL(sessions->by_id, session);
    inbound_free(&session->inbound);
    owed_drop(session);
    spill_gone(session);
    if (session_is_stored(sessions, session)) {
        store_change(sessions->store, NULL,
                     &(struct change){.kind = CHANGE_SESSION_GONE, .session = session->number});
        store_owing_over(sessions->store, &session->owing);
    }
    sessions->queued_bytes -= session->queued_bytes;
    sessions->queued -=
        session->queue0.count + session->queue.count + (session->spill ? session->spill->pending.count : 0);
    session->gone = true;
    session->next_gone = sessions->gone;
    sessions->gone = session;
}

void session_destroy(struct sessions *sessions, struct session *session)
{
    session_discard(sessions, session);
    sessions_bury(sessions, BURY_AT_ONCE);
}

void session_attach(struct sessions *sessions, struct session *session, struct peer *peer,
                    struct principal *who)
{
    session->peer = peer;
    sessions->online++;
    if (who && who != session->who) {
        bool other = !session->who || !principal_same(who, session->who);
        principal_unref(session->who);
        session->who = principal_ref(who);
        if (other) { /* who comes back from where it went costs no write */
            store_session(sessions, session);
        }
    }
    for (uint32_t i = 0; i < session->storing.count; i++) {
        ring_at(&session->storing, i)->wait->holder = peer->id;
    }
    session_rights_changed(session);
    session->policy = session->subs_policy = 0; /* another listener, another address: other rights */
    session->resend = 0;
    session->progress = true; /* until it shows otherwise */
    session->acked = true;
    session->drop_logged = false;
    if (session->spill || session_has_output(sessions, session)) {
        peer_wake(peer);
    }
}

void session_detach(struct sessions *sessions, struct session *session, int64_t now)
{
    session->peer = NULL;
    owed_unanswered(session);
    session->offline_since = now;
    sessions->online--;
    for (uint32_t i = 0; i < session->sent.count; i++) {
        ring_at(&session->sent, i)->dup = true;
    }
    session_retired_over(session);
    store_hurry(sessions->store, &session->owing);
    if (!sessions->limits.queue_qos0) {
        size_t all = session->queue0.count;
        for (uint32_t i = 0; i < all; i++) {
            session_unqueued(sessions, session, ring_at(&session->queue0, i)->msg);
        }
        session_drop_some(sessions, &session->queue0, &all);
    }
}

static uint32_t waiting(const struct session *session)
{
    return session->queue.count + session->queue0.count + spill_count(session);
}

bool session_room(const struct sessions *sessions, const struct session *session)
{
    uint32_t max = sessions->limits.max_queued;
    return max == 0 || waiting(session) < max;
}

void session_lost(struct sessions *sessions, struct session *session)
{
    session->dropped++;
    sessions->dropped++;
    if (!session->drop_logged) {
        session->drop_logged = true;
        log_write(LOG_T_NOTICE,
                  "Outgoing messages are being dropped for client %s: its queue is full (%u messages).",
                  session->client_id, waiting(session));
    }
}

static enum offer dropped(struct sessions *sessions, struct session *session)
{
    session_lost(sessions, session);
    return OFFER_DROPPED;
}

/* A burst is no slow reader: who goes on acknowledging may have more waiting, as long as that is little
 * memory. It is time that tells the two apart, not a number of messages: a client that the machine does not
 * let run for a moment has acknowledged none of the thousands that a fast publisher sent meanwhile. */
static bool burst_fits(const struct sessions *sessions, struct session *session)
{
    const struct session_limits *limits = &sessions->limits;
    if (!session->peer || session->queue.count - limits->max_queued >= limits->max_burst ||
        session->queued_bytes >= BURST_BYTES) {
        return false;
    }
    int64_t now = sessions->clock();
    if (session->acked) {
        session->acked = false;
        session->full_since = now;
    }
    return now - session->full_since < BURST_MS;
}

/* What is promised is kept; the bounds are bytes and the disk. 0: no limit. */
static uint32_t most_queued(const struct sessions *sessions, const struct session *session, uint8_t qos)
{
    bool uncounted = qos > 0 && sessions->limits.stored_uncounted && session_is_stored(sessions, session);
    return uncounted ? 0 : sessions->limits.max_queued;
}

static bool over_limit(const struct sessions *sessions, struct session *session, const struct msg *msg,
                       uint8_t qos, bool retain)
{
    const struct session_limits *limits = &sessions->limits;
    if (limits->max_queued_bytes &&
        session->queued_bytes + spill_bytes(session) + msg->payload_size > limits->max_queued_bytes) {
        return true;
    }
    uint32_t max = most_queued(sessions, session, qos);
    if (max == 0 || retain) {
        return false;
    }
    if (qos == 0) {
        bool waits = !session->peer || session->peer->blocked;
        return waits && session->queue0.count >= max;
    }
    /* Those that the window takes at the end of this turn are not waiting behind it. */
    uint32_t ready = session->peer && limits->max_inflight > session->inflight
                         ? limits->max_inflight - session->inflight
                         : 0;
    return session->queue.count + spill_count(session) >= max + ready && !burst_fits(sessions, session);
}

static enum offer taken(const struct sessions *sessions, struct session *session, uint8_t qos)
{
    if (!session->peer) {
        return OFFER_TAKEN;
    }
    peer_wake(session->peer);
    uint32_t max = most_queued(sessions, session, qos);
    if (qos == 0 || max == 0 || session->queue.count <= max / 2 || !session->progress) {
        return OFFER_TAKEN;
    }
    session->progress = false;
    return OFFER_PRESSURE;
}

/* [MQTT-3.8.4-6]. The largest QoS 0 PUBLISH has no room for the identifier of a higher one. */
static uint8_t lower_qos(const struct sessions *sessions, const struct msg *msg, uint8_t sub_qos)
{
    bool fits = 2u + msg->topic_size + 2u + msg->payload_size <= PACKET_MAX_BODY;
    return msg->qos < sub_qos && !(sessions->limits.upgrade_qos && fits) ? msg->qos : sub_qos;
}

enum offer session_offer(struct sessions *sessions, struct session *session, struct msg *msg, uint8_t sub_qos,
                         bool retain, struct ticket *ticket)
{
    if (session->gone) {
        return OFFER_IGNORED;
    }
    uint8_t qos = lower_qos(sessions, msg, sub_qos);
    if (qos == 0 && !session->peer && !sessions->limits.queue_qos0) {
        return OFFER_IGNORED;
    }
    if (over_limit(sessions, session, msg, qos, retain)) {
        return dropped(sessions, session);
    }
    bool durable = qos > 0 && session_is_stored(sessions, session);
    struct delivery *d = qos == 0                                     ? ring_push(&session->queue0)
                         : durable && spill_wanted(sessions, session) ? spill_push(session)
                                                                      : ring_push(&session->queue);
    if (!d) {
        dropped(sessions, session);
        return qos > 0 ? OFFER_LOST : OFFER_DROPPED;
    }
    *d = (struct delivery){.msg = msg_ref(msg), .seq = session->seq++, .qos = qos, .retain = retain};
    session_queued(sessions, session, msg);
    if (qos > 0) {
        d->skip = session->skip;
        session->skip = 0;
    }
    if (durable) {
        bool online = session->peer && !session->spill;
        struct recipient to = {.session = session->number, .qos = qos, .retain = retain};
        d->owed = store_owe(sessions->store, ticket, &session->owing, &to, msg, online);
    }
    return taken(sessions, session, qos);
}
