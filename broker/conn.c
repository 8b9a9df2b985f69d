/*
 * conn.c - connections: reading, writing, ending. See conn.h for the states.
 *
 * Reading. All connections share one read buffer. Whole packets are parsed where they were read; what is left
 * over is
 *   - the start of a big packet: a block of its exact size is made, and the rest is read straight into it;
 *   - the start of a small one, or packets that must wait (a login under way, a full turn): copied to
 * conn->input. So a connection between two packets owns no input memory.
 *
 * Writing happens in conn_flush() only, which broker_before_sleep() calls once per turn.
 */
#include "broker/conn.h"
#include "broker/clock.h"
#include "broker/dispatch.h"
#include "broker/log.h"
#include "broker/router.h"
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

enum {
    BLOCK_FROM = 4096,     /* packets above this are read into a block of their own */
    FLUSH_ROUNDS = 4,      /* windows written to one connection in one turn */
    LAST_ANSWER_MS = 5000, /* for taking the last answer before it is closed */
    ANSWERS_MOST = 1000,   /* that wait for a blocked socket before reading rests */
};

static void conn_flush(struct peer *peer);
static void conn_kick(struct peer *peer, const char *why);
static void conn_pause(struct peer *peer, bool on);
static void conn_work(struct peer *resume);

static const struct peer_ops conn_peer = {.flush = conn_flush, .kick = conn_kick, .pause = conn_pause};
static const struct peer_ops conn_input = {.flush = conn_work};

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

/* ---- the end ---- */

static void block_free(struct block *block)
{
    msg_unref(block->msg);
    free(block->bytes);
    *block = (struct block){0};
}

/* Everything but the memory goes now; the memory at the end of the turn. */
static void conn_die(struct conn *conn)
{
    if (conn->state == CONN_DEAD) {
        return;
    }
    conn_leave_session(conn);
    timer_stop(conn->broker->loop, &conn->timer);
    conn->transport->ops->close(conn->transport);
    conn->transport = NULL;
    conn->state = CONN_DEAD;
    conn->broker->conn_count--; /* limits count it no more, although its memory waits */
    subscribe_forget(conn);
    outq_free(&conn->out);
    block_free(&conn->block);
    free(conn->input);
    conn->input = NULL;
    if (conn->who->listener >= 0) {
        conn->broker->doors[conn->who->listener].connections--;
    }
    peer_wake(&conn->peer); /* to be freed */
    defer_call(conn->broker->loop, &conn->broker->next_turn);
}

static void conn_free(struct conn *conn)
{
    table_remove(conn->broker, conn);
    principal_unref(conn->who);
    msg_unref(conn->will);
    free(conn);
}

static void publish_will(struct conn *conn)
{
    struct msg *will = conn->will;
    conn->will = NULL;
    if (will && !conn->disconnecting) {
        /* The right to publish is asked for when it is used, not when CONNECT stored the will. */
        if (router_may(conn->broker, will->from, ACL_WRITE, msg_topic(will))) {
            router_publish_now(conn->broker, will);
        } else {
            log_write(LOG_T_NOTICE, "Denied the will of client %s on '%.*s'.", conn_name(conn),
                      SLICE_ARG(msg_topic(will)));
        }
    }
    msg_unref(will); /* [MQTT-3.1.2-10] */
}

void conn_leave_session(struct conn *conn)
{
    struct session *session = conn->session;
    if (!session) {
        return;
    }
    conn->session = NULL;
    session_detach(&conn->broker->sessions, session, loop_now(conn->broker->loop));
    if (session->clean) {
        session_destroy(&conn->broker->sessions, session);
    }
    publish_will(conn);
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
    if (conn->broker->config->connection_messages) {
        log_write(LOG_T_NOTICE, "Client %s [%s:%u] disconnected: %s.", conn_name(conn), conn->who->address,
                  conn->who->port, why);
    }
    conn_die(conn);
}

void conn_violation(struct conn *conn, const char *packet, const char *reason)
{
    conn->broker->counters.protocol_errors++;
    conn_fail(conn, "protocol error in %s: %s", packet, reason);
}

void conn_finish(struct conn *conn)
{
    if (conn->state != CONN_DEAD) {
        conn_leave_session(conn);
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

/* ---- input ---- */

/* Who asks and does not read the answers is not listened to. */
static bool deaf(const struct conn *conn)
{
    return conn->peer.blocked && conn->out.count >= ANSWERS_MOST;
}

static bool may_parse(const struct conn *conn)
{
    return ((conn->state == CONN_GREETING && !conn->broker->greetings_wait) || conn->state == CONN_UP) &&
           !conn->paused && !deaf(conn);
}

/* Whether this turn has done enough for this connection, or for all. */
static bool turn_is_full(const struct broker *broker)
{
    return broker->turn_offers >= TURN_OFFERS;
}

static void want_input(struct conn *conn)
{
    if (conn->state != CONN_DEAD && conn->state != CONN_CLOSING) {
        conn->transport->ops->want_read(conn->transport, may_parse(conn) && !conn->input_rests);
    }
}

/* Parsing stops; it goes on in the next turn, or, when the connection may not parse now, with conn_resume().
 */
static void rest_input(struct conn *conn)
{
    conn->input_rests = true;
    if (may_parse(conn)) {
        if (!conn->resume.scheduled) {
            conn->resume.list = &conn->broker->resume;
            peer_wake(&conn->resume);
        }
        defer_call(conn->broker->loop, &conn->broker->next_turn);
    }
    want_input(conn);
}

/* The packet just routed fills the queue of a subscriber that does acknowledge: its publisher waits SLOW_MS
 * for it. Each acknowledgement of that subscriber can cost a publisher one such wait and no more, so a
 * subscriber that is really slow holds nobody up: its queue fills, and it loses messages by
 * max_queued_messages. */
static void slow_down(struct conn *conn)
{
    struct broker *broker = conn->broker;
    broker->pressure = false;
    if (conn->state != CONN_UP || conn->resume.scheduled) {
        return;
    }
    conn->input_rests = true;
    conn->resume.list = &broker->slow;
    peer_wake(&conn->resume);
    if (!timer_running(&broker->slow_timer)) {
        timer_start(broker->loop, &broker->slow_timer, SLOW_MS);
    }
    want_input(conn);
}

static void dispatch(struct conn *conn, const struct packet_frame *frame, struct slice body,
                     struct msg *block)
{
    dispatch_packet(conn, frame, body, block);
    if (conn->broker->pressure) {
        slow_down(conn);
    }
}

/* The start of a packet that is not all there yet: makes the block that the rest will be read into. */
static void block_start(struct conn *conn, const struct packet_frame *frame, const uint8_t *body, size_t have)
{
    struct block *block = &conn->block;
    block->frame = *frame;
    if (frame->type == PKT_PUBLISH) {
        block->msg = msg_for_body(frame->body_size);
    } else {
        block->bytes = malloc(frame->body_size);
    }
    if (!block->msg && !block->bytes) {
        conn_fail(conn, "out of memory for a packet of %u bytes", frame->body_size);
        return;
    }
    memcpy(block->msg ? msg_body(block->msg) : block->bytes, body, have);
    block->have = (uint32_t)have;
}

static bool too_large(struct conn *conn, const struct packet_frame *frame)
{
    uint64_t size = (uint64_t)frame->header_size + frame->body_size;
    if (size <= dispatch_max_packet(conn)) {
        return false;
    }
    char reason[96];
    snprintf(reason, sizeof reason, "it is larger than allowed here (%llu bytes, limit %u)",
             (unsigned long long)size, dispatch_max_packet(conn));
    conn_violation(conn, packet_name(frame->type), reason);
    return true;
}

/* Parses packets until one is not complete, or the connection or the turn has had enough. Returns the bytes
 * used up; those of a packet that moved to a block count as used. */
static size_t parse(struct conn *conn, const uint8_t *p, size_t n)
{
    size_t at = 0;
    while (at < n && may_parse(conn) && !conn->input_rests && !(at > 0 && turn_is_full(conn->broker))) {
        struct packet_frame frame;
        if (conn->state == CONN_GREETING && p[at] >> 4 != PKT_CONNECT) {
            /* HTTP, TLS and noise are told by their first byte; the rest need not come [MQTT-3.1.0-1] */
            conn_violation(conn, packet_name(p[at] >> 4), "the first packet must be CONNECT");
            break;
        }
        int framed = packet_frame(p + at, n - at, &frame);
        if (framed < 0) {
            conn_violation(conn, packet_name(p[at] >> 4), packet_error_text(PACKET_BAD_LENGTH));
        }
        if (framed <= 0 || too_large(conn, &frame)) {
            break;
        }
        const uint8_t *body = p + at + frame.header_size;
        size_t have = n - at - frame.header_size;
        if (have < frame.body_size) {
            if (frame.body_size > BLOCK_FROM) {
                block_start(conn, &frame, body, have);
                at = n;
            }
            break;
        }
        at += frame.header_size + frame.body_size;
        dispatch(conn, &frame, slice_of(body, frame.body_size), NULL);
    }
    return at;
}

/* Whether the bytes left over are packets that could be parsed, rather than the start of one. */
static bool packet_waits(const uint8_t *p, size_t n)
{
    struct packet_frame frame;
    int framed = packet_frame(p, n, &frame);
    return framed < 0 ||
           (framed > 0 && (n - frame.header_size >= frame.body_size || frame.body_size > BLOCK_FROM));
}

static void keep_input(struct conn *conn, const uint8_t *p, size_t n)
{
    conn->input = malloc(n);
    if (!conn->input) {
        conn_fail(conn, "out of memory for its input");
        return;
    }
    memcpy(conn->input, p, n);
    conn->input_size = (uint32_t)n;
    conn->input_at = 0;
    if (packet_waits(p, n) && !conn->input_rests) {
        rest_input(conn);
    }
}

static void got_bytes(struct conn *conn, size_t n)
{
    conn->broker->counters.bytes_received += n;
    conn->last_input = loop_now(conn->broker->loop);
}

/* A big packet: straight into its block. */
static ssize_t read_block(struct conn *conn)
{
    struct block *block = &conn->block;
    uint8_t *p = block->msg ? msg_body(block->msg) : block->bytes;
    ssize_t n =
        conn->transport->ops->read(conn->transport, p + block->have, block->frame.body_size - block->have);
    if (n <= 0) {
        return n;
    }
    got_bytes(conn, (size_t)n);
    block->have += (uint32_t)n;
    if (block->have == block->frame.body_size) {
        struct block done = *block;
        *block = (struct block){0};
        dispatch(conn, &done.frame, slice_of(p, done.frame.body_size), done.msg);
        block_free(&done);
        if (!may_parse(conn)) {
            want_input(conn);
        }
    }
    return n;
}

/* Small packets: into the shared buffer, behind what is left of last time. */
static ssize_t read_shared(struct conn *conn)
{
    uint8_t *buffer = conn->broker->read_buffer;
    size_t before = conn->input_size - conn->input_at;
    if (conn->input) {
        memcpy(buffer, conn->input + conn->input_at, before);
    }
    ssize_t n = conn->transport->ops->read(conn->transport, buffer + before, READ_SIZE - before);
    if (n <= 0) {
        return n;
    }
    free(conn->input);
    conn->input = NULL;
    conn->input_at = conn->input_size = 0;
    got_bytes(conn, (size_t)n);
    size_t total = before + (size_t)n;
    size_t used = parse(conn, buffer, total);
    if (conn->state != CONN_DEAD && conn->state != CONN_CLOSING) {
        if (used < total) {
            keep_input(conn, buffer + used, total - used);
        }
        if (!may_parse(conn)) {
            want_input(conn);
        }
    }
    return n;
}

static void conn_readable(void *owner)
{
    struct conn *conn = owner;
    if (!may_parse(conn) || conn->input_rests || turn_is_full(conn->broker)) {
        return; /* level-triggered: it is called again */
    }
    ssize_t n = conn->block.msg || conn->block.bytes ? read_block(conn) : read_shared(conn);
    if (n == 0) {
        conn_fail(conn, conn->state == CONN_UP ? "it closed its connection" : "it left before CONNECT");
    } else if (n < 0 && n != -EAGAIN) {
        const char *why = conn->transport->ops->why(conn->transport);
        conn_fail(conn, "%s", why ? why : strerror((int)-n));
    }
}

/* The next turn has come for input that rests. */
static void conn_work(struct peer *resume)
{
    struct conn *conn = (struct conn *)((char *)resume - offsetof(struct conn, resume));
    if (conn->state == CONN_DEAD) {
        peer_wake(&conn->peer); /* to be freed, now that it is on no other list */
        return;
    }
    if (!may_parse(conn) || !conn->input_rests) {
        return;
    }
    conn->input_rests = false;
    if (!conn->input) { /* it had parsed all when it was slowed down */
        want_input(conn);
        return;
    }
    uint8_t *input = conn->input; /* a handler may end the connection, and its input with it */
    conn->input = NULL;
    uint32_t at =
        conn->input_at + (uint32_t)parse(conn, input + conn->input_at, conn->input_size - conn->input_at);
    if (conn->state == CONN_DEAD || conn->state == CONN_CLOSING || at == conn->input_size) {
        free(input);
        conn->input_at = conn->input_size = 0;
    } else {
        conn->input = input;
        conn->input_at = at;
        if (packet_waits(input + at, conn->input_size - at) && !conn->input_rests) {
            rest_input(conn);
        }
    }
    want_input(conn);
}

void conn_resume(struct conn *conn)
{
    if (conn->input_rests) {
        rest_input(conn);
    } else {
        want_input(conn);
    }
}

static void resume_greeting(void *arg, struct conn *conn)
{
    (void)arg;
    if (conn->state == CONN_GREETING) {
        conn_resume(conn);
    }
}

void conn_hold_greetings(struct broker *broker, bool hold)
{
    broker->greetings_wait = hold;
    conn_each(broker, resume_greeting, NULL);
}

static void conn_pause(struct peer *peer, bool on)
{
    struct conn *conn = (struct conn *)peer;
    conn->paused = on;
    conn->last_input = loop_now(conn->broker->loop); /* keep alive is suspended while we do not listen */
    conn_resume(conn);
}

/* ---- output ---- */

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
    struct slice mount = slice_str(broker_door(broker, conn->who)->config->mount_point);
    window->framed = conn->transport->ops->framed;
    counters->messages_sent += outq_fill(&conn->out, window);
    while (conn->session && window_has_room(window)) {
        struct outgoing out = session_take(&broker->sessions, conn->session);
        if (out.kind == OUT_NONE && subscribe_go_on(conn)) {
            continue;
        }
        if (out.kind == OUT_NONE) {
            break;
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

static void conn_flush(struct peer *peer)
{
    struct conn *conn = (struct conn *)peer;
    if (conn->state == CONN_DEAD) {
        if (!conn->resume.scheduled) {
            conn_free(conn);
        }
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
        want_input(conn);
        break;
    case OUTQ_ERROR:
        conn_fail(conn, "its connection is broken");
        break;
    }
}

static void conn_writable(void *owner)
{
    struct conn *conn = owner;
    conn->peer.blocked = false;
    peer_wake(&conn->peer);
    conn_resume(conn);
}

/* ---- the beginning, and the clock ---- */

static void conn_timeout(void *arg)
{
    struct conn *conn = arg;
    struct broker *broker = conn->broker;
    if (conn->state != CONN_UP) {
        conn_fail(conn, conn->state == CONN_CLOSING ? "it does not take its last answer"
                        : conn->state == CONN_LOGIN ? "its login took longer than connect_timeout"
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
    if (conn->broker->config->connection_messages) {
        log_write(LOG_T_NOTICE, "New connection from %s:%u on listener %d.", conn->who->address,
                  conn->who->port, conn->who->listener);
    }
    conn->last_input = loop_now(conn->broker->loop);
    timer_start(conn->broker->loop, &conn->timer, conn->broker->config->connect_timeout * 1000LL);
    want_input(conn);
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
        log_write(LOG_T_WARNING, "Connection refused on listener %d: %s.", number,
                  full ? "max_connections is reached" : "out of memory");
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
    conn->peer = (struct peer){.ops = &conn_peer, .list = &broker->flush};
    conn->resume = (struct peer){.ops = &conn_input, .list = &broker->resume};
    timer_setup(&conn->timer, conn_timeout, conn);
    transport->owner = conn;
    transport->events = &conn_events;
    transport->ops->start(transport);
}
