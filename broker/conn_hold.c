/*
 * conn_hold.c - connections that have to wait for the durable store.
 *
 * A client that asks for something which must be stored is held *before* that packet is handled, when the
 * store has failed or too much waits for it already: a PUBLISH of QoS 1 or 2, and a SUBSCRIBE or UNSUBSCRIBE
 * of a kept session. Reading is off, what was read stays, keep alive is suspended. So what waits for the disk
 * has a bound, and is not dropped. Everything else goes on: acknowledgements (they make room), QoS 0, other
 * clients.
 *
 *   conn_in.c: conn_must_hold() -- yes --> held ---- the store takes more, answers have left --> conn_go_on()
 *                                               \--- persistence_hold_timeout, and it has failed --> closed
 *
 * A client whose CONNACK waits for a commit is held in the same way: nothing behind its CONNECT is parsed. A
 * PUBLISH that only repeats one which is being acknowledged asks for nothing and is not held. The log says
 * once that the store has failed (store_batch.c), and why; here only who is closed for it.
 */
#include "broker/conn_io.h"
#include "broker/dispatch.h"

enum {
    HELD_MOST = 1000,   /* acknowledgements of one connection that wait for the disk */
    HELD_AGAIN = 500,   /* ...and when it goes on */
    HELD_BYTES = 65536, /* bytes of answers, when most are held: a SUBACK may be large */
    LOOK_AGAIN_MS = 1000,
};

static bool asks_store(struct conn *conn, const struct packet_frame *frame)
{
    switch (frame->type) {
    case PKT_PUBLISH:
        return (frame->flags & 6) != 0;
    case PKT_SUBSCRIBE:
    case PKT_UNSUBSCRIBE:
        return session_is_stored(&conn->broker->sessions, conn->session);
    default:
        return false;
    }
}

static bool many_held(const struct conn *conn)
{
    return conn->out.held >= HELD_MOST || (conn->out.held > 0 && conn->out.bytes >= HELD_BYTES);
}

static void hold(struct conn *conn, enum conn_hold why)
{
    conn->hold = (uint8_t)why;
    conn->input_rests = true;
    conn->broker->counters.publishers_held++;
    if (!conn->broken) {
        timer_start(conn->broker->loop, &conn->timer,
                    conn->broker->config->persistence_hold_timeout * INT64_C(1000));
    }
    conn_want_input(conn);
}

bool conn_must_hold(struct conn *conn, const struct packet_frame *frame, struct slice body)
{
    struct store *store = conn->broker->store;
    if (conn->state != CONN_UP || !store_durable(store) || !asks_store(conn, frame)) {
        return false;
    }
    bool blocked = store_blocked(store);
    if ((!blocked && !many_held(conn)) ||
        (frame->type == PKT_PUBLISH && publish_repeats(conn, frame->flags, body))) {
        return false;
    }
    hold(conn, blocked ? HOLD_STORE : HOLD_ANSWERS);
    return true;
}

void conn_hold_greeting(struct conn *conn)
{
    if (outq_greets(&conn->out) && conn->out.held > 0) {
        conn->hold = HOLD_CONNACK;
        timer_start(conn->broker->loop, &conn->timer,
                    conn->broker->config->persistence_hold_timeout * INT64_C(1000));
    }
}

static bool is_over(const struct conn *conn)
{
    switch (conn->hold) {
    case HOLD_CONNACK:
        return !outq_greets(&conn->out);
    case HOLD_ANSWERS:
        return conn->out.held <= HELD_AGAIN && conn->out.bytes < HELD_BYTES;
    case HOLD_STORE:
        return !store_blocked(conn->broker->store);
    default:
        return false;
    }
}

/* While it was not listened to no time has passed for it. */
static void go_on(struct conn *conn)
{
    conn->hold = HOLD_NOT;
    if (conn->broken) {
        timer_start(conn->broker->loop, &conn->timer, LAST_PACKETS_MS);
    } else {
        conn_start_keepalive(conn);
    }
    conn_resume(conn);
}

void conn_hold_look(struct conn *conn)
{
    if (conn->state == CONN_UP && is_over(conn)) {
        go_on(conn);
    }
}

static void look(void *unused, struct conn *conn)
{
    (void)unused;
    conn_hold_look(conn);
}

void conn_release_held(struct broker *broker)
{
    conn_each(broker, look, NULL);
}

void conn_hold_timeout(struct conn *conn)
{
    struct broker *broker = conn->broker;
    const char *trouble = store_trouble(broker->store);
    if (!*trouble) { /* the disk is slow, but it does take what it is given */
        timer_start(broker->loop, &conn->timer, LOOK_AGAIN_MS);
        return;
    }
    broker->counters.publishers_given_up++;
    conn_fail(conn, "the durable store has failed, for longer than persistence_hold_timeout: %s", trouble);
}
