/*
 * conn.c - connections: how they begin and end, and their clock. See conn.h for the states.
 *
 * The table gives each an id that is never used again (slot and generation), for whoever answers later. A
 * connection ends at any point of a handler: conn_die() takes everything from it but its memory, which goes
 * at the end of the turn, when no list names it any more. Reading is in conn_in.c, writing in conn_out.c,
 * what waits for the durable store in conn_hold.c, its will in conn_will.c.
 */
#include "broker/conn_io.h"
#include "broker/dispatch.h"
#include "broker/log.h"
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

enum { LAST_ANSWER_MS = 5000 }; /* for taking the last answer before it is closed */

/* ---- the table: slot and generation make an id that is never used again ---- */

static int table_add(struct broker *broker, struct conn *conn)
{
    if (broker->conn_free == broker->conn_slots) {
        uint32_t slots = broker->conn_slots ? 2 * broker->conn_slots : 64;
        struct conn **grown = realloc(broker->conns, slots * sizeof *grown);
        if (!grown) {
            return -1;
        }
        memset(grown + broker->conn_slots, 0, (slots - broker->conn_slots) * sizeof *grown);
        broker->conns = grown;
        broker->conn_slots = slots;
    }
    uint32_t slot = broker->conn_free;
    broker->conns[slot] = conn;
    conn->id = ++broker->conn_generation << 32 | slot;
    broker->conn_count++;
    while (broker->conn_free < broker->conn_slots && broker->conns[broker->conn_free]) {
        broker->conn_free++;
    }
    return 0;
}

static void table_remove(struct broker *broker, struct conn *conn)
{
    uint32_t slot = (uint32_t)conn->id;
    broker->conns[slot] = NULL;
    broker->conn_free = slot < broker->conn_free ? slot : broker->conn_free;
}

struct conn *conn_by_id(struct broker *broker, uint64_t id)
{
    uint32_t slot = (uint32_t)id;
    struct conn *conn = slot < broker->conn_slots ? broker->conns[slot] : NULL;
    return conn && conn->id == id && conn->state != CONN_DEAD ? conn : NULL;
}

void conn_each(struct broker *broker, void (*fn)(void *arg, struct conn *conn), void *arg)
{
    for (uint32_t i = 0; i < broker->conn_slots; i++) {
        struct conn *conn = broker->conns[i];
        if (conn && conn->state != CONN_DEAD) {
            fn(arg, conn);
        }
    }
}

const char *conn_name(const struct conn *conn)
{
    return conn->who->client_id ? conn->who->client_id : conn->who->address;
}

bool conn_is_news(struct conn *conn)
{
    struct broker *broker = conn->broker;
    return broker->config->connection_messages &&
           (conn->accepted || strangers_line(&broker->strangers, conn->who));
}

/* ---- the end ---- */

/* Everything but the memory goes now; the memory at the end of the turn. */
static void die(struct conn *conn, const char *why)
{
    if (conn->state == CONN_DEAD) {
        return;
    }
    conn_leave_session(conn, why);
    timer_stop(conn->broker->loop, &conn->timer);
    conn->transport->ops->close(conn->transport);
    conn->transport = NULL;
    conn->state = CONN_DEAD;
    conn->broker->conn_count--; /* limits count it no more, although its memory waits */
    outq_free(&conn->out);
    conn_free_input(conn);
    if (conn->who->listener >= 0) {
        conn->broker->doors[conn->who->listener].connections--;
    }
    peer_wake(&conn->peer); /* to be freed */
    defer_call(conn->broker->loop, &conn->broker->next_turn);
}

void conn_die(struct conn *conn)
{
    die(conn, "its connection was closed");
}

void conn_free(struct conn *conn)
{
    table_remove(conn->broker, conn);
    broker_trim_soon(conn->broker);
    conn_greeted(conn);
    principal_unref(conn->who);
    msg_unref(conn->will);
    publish_forget(conn);
    free(conn);
}

/* Who has a session was accepted; once it has left, that is said. */
static void say_gone(const struct conn *conn, const char *why)
{
    broker_decided(conn->broker,
                   &(struct decision){.kind = DECIDED_DISCONNECT,
                                      .allowed = conn->disconnecting,
                                      .who = conn->who,
                                      .reason = conn->disconnecting ? "it said DISCONNECT" : why});
}

void conn_leave_session(struct conn *conn, const char *why)
{
    struct session *session = conn->session;
    if (!session) {
        return;
    }
    say_gone(conn, why);
    subscribe_forget(conn);
    conn->session = NULL;
    session_detach(&conn->broker->sessions, session, loop_now(conn->broker->loop));
    if (session->clean) {
        session_destroy(&conn->broker->sessions, session);
    } else {
        subscribe_left(conn->broker, session);
    }
    conn_will_end(conn);
}

void conn_fail(struct conn *conn, const char *fmt, ...)
{
    if (conn->state == CONN_DEAD) {
        return;
    }
    char why[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    if (conn_is_news(conn)) {
        log_write(LOG_T_NOTICE, "Client %s [%s:%u] disconnected: %s.", conn_name(conn), conn->who->address,
                  conn->who->port, why);
    }
    die(conn, why);
}

void conn_violation(struct conn *conn, const char *packet, const char *reason)
{
    conn->broker->counters.protocol_errors++;
    conn_fail(conn, "protocol error in %s: %s", packet, reason);
}

void conn_finish(struct conn *conn)
{
    if (conn->state != CONN_DEAD) {
        conn_leave_session(conn, "its connection was closed");
        conn->state = CONN_CLOSING;
        conn->transport->ops->want_read(conn->transport, false);
        timer_start(conn->broker->loop, &conn->timer, LAST_ANSWER_MS);
        peer_wake(&conn->peer);
    }
}

static void conn_kick(struct peer *peer, const char *why)
{
    conn_fail((struct conn *)peer, "%s", why);
}

/* ---- the beginning, and the clock ---- */

static const struct peer_ops conn_peer = {.flush = conn_flush, .kick = conn_kick, .pause = conn_pause};
static const struct peer_ops conn_input = {.flush = conn_work};

void conn_start_keepalive(struct conn *conn)
{
    timer_stop(conn->broker->loop, &conn->timer);
    conn->last_input = loop_now(conn->broker->loop);
    if (conn->keepalive) {
        timer_start(conn->broker->loop, &conn->timer, conn->keepalive * 1500LL);
    }
}

static void conn_timeout(void *arg)
{
    struct conn *conn = arg;
    struct broker *broker = conn->broker;
    if (conn->asking) { /* it is not listened to now */
        timer_start(broker->loop, &conn->timer, LAST_PACKETS_MS);
        return;
    }
    if (conn->hold != HOLD_NOT) {
        conn_hold_timeout(conn);
        return;
    }
    if (conn->broken) {
        conn_fail(conn, CONN_BROKEN);
        return;
    }
    if (conn->state == CONN_LOGIN) {
        login_due(conn);
        return;
    }
    if (conn->state != CONN_UP) {
        conn_fail(conn, conn->state == CONN_CLOSING ? "it does not take its last answer"
                                                    : "no CONNECT came in time");
        return;
    }
    int64_t limit = conn->keepalive * 1500LL; /* [MQTT-3.1.2-24] */
    int64_t silent = loop_now(broker->loop) - conn->last_input;
    if (silent < limit || conn->paused) {
        timer_start(broker->loop, &conn->timer, conn->paused ? limit : limit - silent);
        return;
    }
    conn_fail(conn, "it exceeded its keep alive of %u seconds", conn->keepalive);
}

static void conn_ready(void *owner, int error)
{
    struct conn *conn = owner;
    if (error) {
        const char *why = conn->transport->ops->why(conn->transport);
        if (why) {
            conn->broker->counters.connects_refused++;
            conn_fail(conn, "%s", why);
        } else {
            conn_die(conn); /* a web page was served: no news */
        }
        return;
    }
    conn->transport->ops->peer(conn->transport, conn->who);
    conn->state = CONN_GREETING;
    if (conn_is_news(conn)) {
        log_write(LOG_T_NOTICE, "New connection from %s:%u on listener %d.", conn->who->address,
                  conn->who->port, conn->who->listener);
    }
    conn->last_input = loop_now(conn->broker->loop);
    timer_start(conn->broker->loop, &conn->timer, conn->broker->config->connect_timeout * 1000LL);
    conn_want_input(conn);
}

static const struct transport_events conn_events = {conn_ready, conn_readable, conn_writable};

static bool over_limit(const struct broker *broker, const struct config_listener *config,
                       const struct door *door)
{
    return (config->max_connections >= 0 && door->connections >= config->max_connections) ||
           (broker->config->global_max_connections >= 0 &&
            broker->conn_count >= (uint32_t)broker->config->global_max_connections);
}

void conn_accept(struct broker *broker, struct transport *transport, int number)
{
    struct door *door = &broker->doors[number];
    struct conn *conn = calloc(1, sizeof *conn);
    struct principal *who = principal_new();
    bool full = over_limit(broker, door->config, door);
    if (!conn || !who || full || (conn->broker = broker, table_add(broker, conn)) < 0) {
        broker->counters.connects_refused++;
        if (strangers_line(&broker->strangers, NULL)) {
            log_write(LOG_T_WARNING, "Connection refused on listener %d: %s.", number,
                      full ? "max_connections is reached" : "out of memory");
        }
        transport->ops->close(transport);
        principal_unref(who);
        free(conn);
        return;
    }
    broker->counters.connections++;
    door->connections++;
    who->listener = number;
    transport->ops->peer(transport, who);
    conn->who = who;
    conn->transport = transport;
    conn->peer = (struct peer){.ops = &conn_peer, .list = &broker->flush, .id = conn->id};
    conn->resume = (struct peer){.ops = &conn_input, .list = &broker->resume};
    timer_setup(&conn->timer, conn_timeout, conn);
    transport->owner = conn;
    transport->events = &conn_events;
    transport->ops->start(transport);
}
