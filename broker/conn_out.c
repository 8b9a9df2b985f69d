/*
 * conn_out.c - the output of a connection, written in one place: conn_flush(), which broker_before_sleep()
 * calls once per turn for each connection that has something to say.
 */
#include "broker/conn_io.h"
#include "broker/dispatch.h"
#include "broker/policy.h"

enum { FLUSH_ROUNDS = 4 }; /* windows written to one connection in one turn */

void conn_answer(struct conn *conn, const uint8_t *bytes, size_t n)
{
    if (outq_put(&conn->out, bytes, n) < 0) {
        conn_fail(conn, "out of memory for an answer");
        return;
    }
    peer_wake(&conn->peer);
}

void conn_answer_held(struct conn *conn, struct ticket *ticket, enum outq_order order, uint8_t type,
                      uint16_t id)
{
    uint8_t bytes[4];
    size_t n = packet_put_ack(bytes, type, id);
    if (outq_hold(&conn->out, ticket, order, conn->id, bytes, n) < 0) {
        conn_fail(conn, "out of memory for an acknowledgement");
        return;
    }
    peer_wake(&conn->peer);
}

void conn_ticket_closed(void *broker, uint64_t holder)
{
    struct conn *conn = conn_by_id(broker, holder);
    if (conn) {
        peer_wake(&conn->peer);
    }
}

/* Gathers answers and messages into the window. */
static void fill(struct conn *conn, struct window *window)
{
    struct broker *broker = conn->broker;
    struct counters *counters = &broker->counters;
    struct slice mount = slice_str(conn_door(conn)->config->mount_point);
    window->framed = conn->transport->ops->framed;
    counters->messages_sent += outq_fill(&conn->out, window);
    if (conn->session) {
        policy_refresh(broker, conn->session);
    }
    while (conn->session && window_has_room(window) && !outq_greets(&conn->out)) {
        struct outgoing out = session_take(&broker->sessions, conn->session);
        if (out.kind == OUT_NONE && subscribe_go_on(conn)) {
            continue;
        }
        if (out.kind == OUT_NONE) {
            break;
        }
        if (out.wait) {
            conn_answer_held(conn, out.wait, OUTQ_REL, PKT_PUBREL, out.id);
            ticket_unref(out.wait);
            continue;
        }
        window_put(window, &out, mount);
        counters->messages_sent++;
        if (out.kind == OUT_PUBLISH) {
            counters->publish_sent++;
            counters->publish_bytes_sent += out.msg->payload_size;
        }
        if (out.owned) {
            msg_unref(out.msg);
        }
    }
}

/* More waits for it than its limit allows, and its socket has not said yet that it takes no more: it gets a
 * larger share, or many fast publishers would fill a queue that nothing bounds. */
static bool behind(const struct conn *conn)
{
    return conn->session && !session_room(&conn->broker->sessions, conn->session);
}

/* *more: its share of this turn is used up. */
static enum outq_result write_all(struct conn *conn, bool *more)
{
    struct window *window = conn->broker->window;
    uint64_t *sent = &conn->broker->counters.bytes_sent;
    enum outq_result result = outq_write_rest(&conn->out, conn->transport, sent);
    for (int round = 0; result == OUTQ_DONE && (round < FLUSH_ROUNDS || behind(conn)); round++) {
        fill(conn, window);
        if (window->pieces == 0) {
            *more = false;
            return OUTQ_DONE;
        }
        result = outq_write(&conn->out, window, conn->transport, sent);
    }
    *more = true;
    return result;
}

/* The other end is gone. What it sent before counts all the same: among what waits for its turn, or was not
 * even read, a DISCONNECT may be, and then there is no will [MQTT-3.14.4-3]. Reading meets the end in its
 * turn.
 */
static void output_lost(struct conn *conn)
{
    if (conn->state == CONN_UP) {
        conn->broken = true;
        outq_free(&conn->out);
        timer_start(conn->broker->loop, &conn->timer, LAST_PACKETS_MS);
        conn_again(conn);
        return;
    }
    const char *why = conn->transport->ops->why(conn->transport);
    conn_fail(conn, "%s", why ? why : CONN_BROKEN);
}

void conn_flush(struct peer *peer)
{
    struct conn *conn = (struct conn *)peer;
    if (conn->state == CONN_DEAD) {
        if (!conn->resume.scheduled) {
            conn_free(conn);
        }
        return;
    }
    if (conn->broken) { /* no answer reaches it any more */
        outq_free(&conn->out);
        if (conn->state == CONN_CLOSING) {
            conn_die(conn);
        }
        conn_hold_look(conn);
        return;
    }
    if (conn->peer.blocked || conn->state == CONN_TRANSPORT) {
        return; /* writable() comes */
    }
    bool more;
    switch (write_all(conn, &more)) {
    case OUTQ_DONE:
        if (more) {
            peer_wake(&conn->peer);
            defer_call(conn->broker->loop, &conn->broker->next_turn);
        } else if (conn->state == CONN_CLOSING) {
            conn_die(conn);
        }
        break;
    case OUTQ_BLOCKED:
        conn->peer.blocked = true;
        conn->transport->ops->want_write(conn->transport, true);
        conn_want_input(conn);
        break;
    case OUTQ_ERROR:
        output_lost(conn);
        break;
    }
    conn_hold_look(conn);
}

void conn_writable(void *owner)
{
    struct conn *conn = owner;
    conn->peer.blocked = false;
    peer_wake(&conn->peer);
    conn_resume(conn);
}
