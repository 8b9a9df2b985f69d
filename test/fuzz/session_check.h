/*
 * session_check.h - what must hold in a broker whatever its clients do. To be included once in a program,
 * behind fake_broker.h.
 *
 *   check_state()    between any two turns: counters equal contents, identifiers are unique, places fit
 * together check_settled()  when nothing more is to be done: nobody waits for something that has already
 * come, and nobody is served without end
 */
#ifndef BRAMBLE_TEST_SESSION_CHECK_H
#define BRAMBLE_TEST_SESSION_CHECK_H

#include "broker/router.h"
#include "test/fuzz/fuzz.h"
#include "test/unit/broker/fake_broker.h"

enum { ANSWERS_MOST_KEPT = 1000 + READ_SIZE / 2 }; /* conn.c's ANSWERS_MOST, and what one read may add */

static bool limits_raised; /* perhaps: they were changed in this run */
static bool memory_failed; /* in this run */

/* ---- sessions ---- */

static inline uint64_t check_queue(const struct ring *ring, bool qos0)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < ring->count; i++) {
        const struct delivery *d = ring_at(ring, i);
        CHECK(d->state == D_QUEUED && d->id == 0 && d->msg && !d->dup && (d->qos == 0) == qos0);
        CHECK(i == 0 || (int32_t)(d->seq - ring_at(ring, i - 1)->seq) > 0);
        CHECK(d->msg->refs > 0);
        bytes += d->msg->payload_size;
    }
    return bytes;
}

static inline void check_sent(const struct session *s)
{
    static uint8_t used[UINT16_MAX + 1];
    uint64_t bytes = 0;
    uint32_t live = 0;
    CHECK(s->sent.count <= UINT16_MAX && s->resend <= s->sent.count);
    for (uint32_t i = 0; i < s->sent.count; i++) {
        const struct delivery *d = ring_at(&s->sent, i);
        CHECK(d->state != D_QUEUED);
        if (d->state == D_GONE) {
            CHECK(!d->msg && !d->owed && !d->wait);
            continue;
        }
        CHECK(d->id && !used[d->id]);
        CHECK(ring_find(&s->sent, d->id) == d);
        CHECK(d->qos == 2 || (d->qos == 1 && d->state != D_RELEASED));
        CHECK((d->state == D_RELEASED || d->state == D_RETIRED) == !d->msg);
        CHECK(d->state != D_RETIRED || s->peer); /* there is nobody who would answer */
        CHECK(!d->wait || d->state == D_RELEASED || d->state == D_RETIRED);
        used[d->id] = 1;
        live++;
        bytes += d->msg ? d->msg->payload_size : 0;
    }
    for (uint32_t i = 0; i < s->storing.count; i++) { /* to be sent when the disk has their identifiers */
        const struct delivery *d = ring_at(&s->storing, i);
        CHECK(d->state == D_STORING && d->qos == 2 && d->id && !used[d->id] && d->msg && d->owed && d->wait);
        used[d->id] = 1;
        live++;
        bytes += d->msg->payload_size;
    }
    for (uint32_t i = 0; i < s->sent.count; i++) {
        used[ring_at(&s->sent, i)->id] = 0;
    }
    for (uint32_t i = 0; i < s->storing.count; i++) {
        used[ring_at(&s->storing, i)->id] = 0;
    }
    CHECK(live == s->inflight && bytes == s->sent_bytes);
    CHECK(s->sent.count == 0 || ring_at(&s->sent, 0)->state != D_GONE);
}

/* What is up to date holds nothing that its client may not read. */
static inline void check_rights(const struct session *s)
{
    const struct ring *rings[] = {&s->queue0, &s->queue, &s->storing, &s->sent};
    for (size_t k = 0; k < 4 && s->policy == rig.broker.sessions.policy; k++) {
        for (uint32_t i = 0; i < rings[k]->count; i++) {
            const struct msg *msg = ring_at(rings[k], i)->msg;
            CHECK(!msg || router_may(&rig.broker, s->who, ACL_READ, msg_topic(msg)));
        }
    }
}

static inline void check_inbound(const struct inbound *in)
{
    CHECK(in->count <= UINT16_MAX && in->pages <= in->count && !inbound_has(in, 0, NULL));
    CHECK((in->count == 0) == (in->pages == 0));
}

static inline bool conn_exists(const struct conn *conn)
{
    for (uint32_t i = 0; i < rig.broker.conn_slots; i++) {
        if (rig.broker.conns[i] == conn) {
            return true;
        }
    }
    return false;
}

static inline void check_session(const struct session *s)
{
    CHECK(check_queue(&s->queue0, true) + check_queue(&s->queue, false) == s->queued_bytes);
    check_sent(s);
    check_rights(s);
    check_inbound(&s->inbound);
    if (s->peer && s->who) { /* without a principal: the broker's own */
        const struct conn *conn = (const struct conn *)s->peer;
        CHECK(conn_exists(conn) && conn->session == s && conn->state == CONN_UP && conn->who == s->who);
        CHECK(strcmp(conn->who->client_id, s->client_id) == 0);
    }
    CHECK(s->peer || !s->clean);
}

/* ---- connections ---- */

static inline void check_conn(const struct conn *conn, int *by_door)
{
    if (conn->state == CONN_DEAD) {
        CHECK(conn->peer.scheduled || conn->resume.scheduled); /* or it is never freed */
        CHECK(!conn->session && !conn->transport && !conn->input && conn->out.count == 0);
        return;
    }
    by_door[conn->who->listener]++;
    CHECK(conn_by_id(&rig.broker, conn->id) == conn);
    CHECK(conn->session == NULL || conn->state == CONN_UP);
    CHECK(conn->session != NULL || conn->state != CONN_UP);
    CHECK(conn->out.count <= ANSWERS_MOST_KEPT);
    CHECK(!(conn->block.msg && conn->block.bytes) &&
          !(conn->input && (conn->block.msg || conn->block.bytes)));
    CHECK(conn->input_at <= conn->input_size && conn->input_size <= READ_SIZE);
    CHECK(!conn->out.rest || conn->peer.blocked || conn->peer.scheduled);
}

static inline void check_state(void)
{
    struct broker *b = &rig.broker;
    int by_door[8] = {0};
    uint32_t alive = 0;
    for (uint32_t i = 0; i < b->conn_slots; i++) {
        if (b->conns[i]) {
            CHECK((uint32_t)b->conns[i]->id == i);
            check_conn(b->conns[i], by_door);
            alive += b->conns[i]->state != CONN_DEAD;
        }
    }
    CHECK(alive == b->conn_count);
    for (size_t i = 0; i < b->door_count; i++) {
        CHECK(b->doors[i].connections == by_door[i]);
    }
    size_t online = 0, subs = 0;
    for (struct session *s = b->sessions.by_id; s; s = s->hh.next) {
        check_session(s);
        online += s->peer != NULL;
        subs += s->sub_count;
    }
    CHECK(online == b->sessions.online && subs == subs_count(b->subs));
    CHECK(!b->slow.first || timer_running(&b->slow_timer));
    for (struct conn *conn = b->noted_wills; conn; conn = conn->next_will) {
        CHECK(conn->will_state == WILL_NOTED && conn->will && conn->session && *conn->will_link == conn);
    }
}

/* ---- nothing more to do ---- */

/* conn.c's may_parse(), said once more. */
static inline bool listens_to(const struct conn *conn)
{
    bool deaf = conn->peer.blocked && conn->out.count >= 1000;
    return ((conn->state == CONN_GREETING && !rig.broker.greetings_wait) || conn->state == CONN_UP) &&
           !conn->paused && conn->hold == HOLD_NOT && !deaf;
}

static inline void check_input_settled(const struct conn *conn)
{
    const struct fake_transport *t = (const struct fake_transport *)conn->transport;
    if (!listens_to(conn)) {
        CHECK(!t->reading); /* or readable() is called again and again */
    } else if (conn->input_rests) {
        CHECK(conn->resume.scheduled && conn->resume.list == &rig.broker.slow); /* its timer comes */
    } else {
        CHECK(t->reading);
    }
}

/* A larger window, by a reload, is used from the next acknowledgement on; what there was no memory for, when
 * anything happens (a PINGREQ at the latest). */
static inline void check_output_settled(const struct session *s)
{
    if (s && session_has_output(&rig.broker.sessions, s) && !memory_failed) {
        CHECK(limits_raised && s->inflight > 0 && s->queue0.count == 0 && s->resend == s->sent.count);
    }
}

static inline void check_conn_settled(const struct conn *conn)
{
    const struct fake_transport *t = (const struct fake_transport *)conn->transport;
    bool slowed = conn->resume.scheduled && conn->resume.list == &rig.broker.slow; /* by a timer */
    CHECK(conn->state != CONN_DEAD || slowed);
    if (conn->state == CONN_TRANSPORT || conn->state == CONN_DEAD) {
        return;
    }
    check_input_settled(conn);
    CHECK(timer_running(&conn->timer) || (conn->state == CONN_UP && conn->keepalive == 0));
    if (conn->broken) { /* until reading meets the end */
        CHECK(conn->state == CONN_UP && timer_running(&conn->timer));
        return;
    }
    if (conn->peer.blocked) {
        CHECK(t->wants_write);
        return;
    }
    CHECK(conn->state != CONN_CLOSING && !conn->out.rest);
    CHECK(conn->out.count == 0 || conn->out.held > 0);
    if (!outq_greets(&conn->out)) { /* a CONNACK that waits for its commit goes before all else */
        check_output_settled(conn->session);
    }
}

static inline void check_settled(void)
{
    struct broker *b = &rig.broker;
    CHECK(!b->flush.first && !b->resume.first && !b->sessions.gone && !b->sessions.walk);
    for (uint32_t i = 0; i < b->conn_slots; i++) {
        if (b->conns[i]) {
            const struct conn *conn = b->conns[i];
            check_conn_settled(conn);
            bool waits = !conn->peer.blocked && (conn->out.held > 0 || conn->hold != HOLD_NOT);
            /* nobody waits for a batch that was never handed over, or is handed over again in a moment */
            CHECK(!waits || rig.storage.batch || *store_trouble(b->store) ||
                  rig.config.persistence_commit_delay > 0);
        }
    }
}

#endif
