/*
 * conn_in.c - the input of a connection: bytes become packets, and rest when it is not their turn.
 *
 * All connections share one read buffer. Whole packets are parsed where they were read; what is left over is
 *   - the start of a big packet: a block of its exact size is made, and the rest is read straight into it;
 *   - the start of a small one, or packets that must wait (a login under way, a full turn): copied to
 * conn->input. So a connection between two packets owns no input memory.
 *
 * Input rests (input_rests) for a turn that has done enough, for a verdict, a pause, or a subscriber whose
 * queue fills up. Whatever ends that calls conn_resume(), and conn_work() goes on where parsing stopped.
 */
#include "broker/conn_io.h"
#include "broker/dispatch.h"
#include "broker/mem.h"
#include <errno.h>
#include <stdlib.h>

enum {
    BLOCK_FROM = 4096,                /* packets above this are read into a block of their own */
    ANSWERS_MOST = 1000,              /* that wait for a blocked socket before reading rests */
    ANSWERS_BYTES = 65536,            /* the same: a SUBACK may be large */
    GREETING_READ = 8192,             /* at once, before CONNECT was accepted */
    GREETINGS_MOST = 8 * 1024 * 1024, /* bytes of all CONNECT packets above BLOCK_FROM that are not settled */
};

static void block_free(struct block *block)
{
    msg_unref(block->msg);
    if (block->bytes) {
        mem_drop(block->frame.body_size);
        free(block->bytes);
    }
    *block = (struct block){0};
}

void conn_free_input(struct conn *conn)
{
    block_free(&conn->block);
    free(conn->input);
    conn->input = NULL;
}

/* Who asks and does not read the answers is not listened to. */
static bool deaf(const struct conn *conn)
{
    return conn->peer.blocked && (conn->out.count >= ANSWERS_MOST || conn->out.bytes >= ANSWERS_BYTES);
}

static bool may_parse(const struct conn *conn)
{
    return ((conn->state == CONN_GREETING && !conn->broker->greetings_wait) || conn->state == CONN_UP) &&
           !conn->paused && conn->hold == HOLD_NOT && !deaf(conn);
}

/* Whether this turn has done enough for this connection, or for all. */
static bool turn_is_full(const struct broker *broker)
{
    return broker->turn_offers >= TURN_OFFERS || broker->turn_visits >= TURN_VISITS;
}

void conn_want_input(struct conn *conn)
{
    if (conn->state != CONN_DEAD && conn->state != CONN_CLOSING) {
        conn->transport->ops->want_read(conn->transport, may_parse(conn) && !conn->input_rests);
    }
}

/* conn_work() is called in the next turn. */
static void work_next_turn(struct conn *conn)
{
    if (!conn->resume.scheduled) {
        conn->resume.list = &conn->broker->resume;
        peer_wake(&conn->resume);
    }
    defer_call(conn->broker->loop, &conn->broker->next_turn);
}

/* Parsing stops; it goes on in the next turn, or, when the connection may not parse now, with conn_resume().
 */
static void rest_input(struct conn *conn)
{
    conn->input_rests = true;
    if (may_parse(conn)) {
        work_next_turn(conn);
    }
    conn_want_input(conn);
}

void conn_again(struct conn *conn)
{
    conn->input_rests = true;
    work_next_turn(conn);
    conn_want_input(conn);
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
    conn_want_input(conn);
}

static void dispatch(struct conn *conn, const struct packet_frame *frame, struct slice body,
                     struct msg *block)
{
    conn->last_input = loop_now(conn->broker->loop); /* a packet, not a byte [MQTT-3.1.2-24] */
    dispatch_packet(conn, frame, body, block);
    if (conn->broker->pressure) {
        slow_down(conn);
    }
}

/* The start of a packet that is not all there yet: makes the block that the rest will be read into. */
static void block_start(struct conn *conn, const struct packet_frame *frame, const uint8_t *body, size_t have)
{
    struct block *block = &conn->block;
    if (broker_memory_full(conn->broker, frame->body_size, MEMORY_TO_READ)) {
        conn_fail(conn, "memory_limit is reached");
        return;
    }
    block->frame = *frame;
    if (frame->type == PKT_PUBLISH) {
        block->msg = msg_for_body(frame->body_size);
    } else {
        block->bytes = malloc(frame->body_size);
    }
    if (block->bytes) {
        mem_hold(frame->body_size);
    }
    if (!block->msg && !block->bytes) {
        conn_fail(conn, "out of memory for a packet of %u bytes", frame->body_size);
        return;
    }
    memcpy(block->msg ? msg_body(block->msg) : block->bytes, body, have);
    block->have = (uint32_t)have;
}

/* A stranger's CONNECT may be large (a will, a token), but many at once are an attack: until they are settled
 * they share a room of GREETINGS_MOST bytes. */
static bool greeting_fits(struct conn *conn, uint32_t size)
{
    struct broker *broker = conn->broker;
    if (conn->state != CONN_GREETING || size <= BLOCK_FROM) {
        return true;
    }
    if (broker->greeting_bytes + size > GREETINGS_MOST) {
        broker->counters.connects_refused++;
        conn_fail(conn, "too many large CONNECT packets come at once (this one has %u bytes)", size);
        return false;
    }
    conn->greeting = size;
    broker->greeting_bytes += size;
    return true;
}

void conn_greeted(struct conn *conn)
{
    conn->broker->greeting_bytes -= conn->greeting;
    conn->greeting = 0;
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

/* HTTP, TLS and noise are told by their first byte; the rest need not come [MQTT-3.1.0-1]. */
static void no_greeting(struct conn *conn, uint8_t first)
{
    uint8_t type = first >> 4;
    conn_violation(conn, packet_name(type),
                   type == PKT_CONNECT ? packet_error_text(PACKET_BAD_FLAGS)
                                       : "the first packet must be CONNECT");
}

/* Parses packets until one is not complete, or the connection or the turn has had enough. Returns the bytes
 * used up; those of a packet that moved to a block count as used. */
static size_t parse(struct conn *conn, const uint8_t *p, size_t n)
{
    size_t at = 0;
    while (at < n && may_parse(conn) && !conn->input_rests && !(at > 0 && turn_is_full(conn->broker))) {
        struct packet_frame frame;
        if (conn->state == CONN_GREETING && p[at] != PKT_CONNECT << 4) {
            no_greeting(conn, p[at]);
            break;
        }
        int framed = packet_frame(p + at, n - at, &frame);
        if (framed < 0) {
            conn_violation(conn, packet_name(p[at] >> 4), packet_error_text(PACKET_BAD_LENGTH));
        }
        if (framed <= 0 || too_large(conn, &frame) || !greeting_fits(conn, frame.body_size)) {
            break;
        }
        const uint8_t *body = p + at + frame.header_size;
        size_t have = n - at - frame.header_size;
        bool whole = have >= frame.body_size;
        if ((!whole && frame.body_size <= BLOCK_FROM) ||
            conn_must_hold(conn, &frame, slice_of(body, whole ? frame.body_size : 0))) {
            break;
        }
        if (!whole) {
            block_start(conn, &frame, body, have);
            at = n;
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

static bool block_whole(const struct conn *conn)
{
    const struct block *block = &conn->block;
    return (block->msg || block->bytes) && block->have == block->frame.body_size;
}

/* It is all there. It may have to wait for the store, in its block. */
static void block_done(struct conn *conn)
{
    struct block done = conn->block;
    struct slice body = slice_of(done.msg ? msg_body(done.msg) : done.bytes, done.frame.body_size);
    if (!conn_must_hold(conn, &done.frame, body)) {
        conn->block = (struct block){0};
        dispatch(conn, &done.frame, body, done.msg);
        block_free(&done);
    }
}

/* A big packet: straight into its block. It may take longer than its client's keep alive, in which no PINGREQ
 * can come, so each BLOCK_FROM bytes of it are a sign of life too. */
static ssize_t read_block(struct conn *conn)
{
    struct block *block = &conn->block;
    uint8_t *p = block->msg ? msg_body(block->msg) : block->bytes;
    ssize_t n =
        conn->transport->ops->read(conn->transport, p + block->have, block->frame.body_size - block->have);
    if (n <= 0) {
        return n;
    }
    conn->broker->counters.bytes_received += (uint64_t)n;
    if ((block->have + (uint32_t)n) / BLOCK_FROM > block->have / BLOCK_FROM) {
        conn->last_input = loop_now(conn->broker->loop);
    }
    block->have += (uint32_t)n;
    if (block_whole(conn)) {
        block_done(conn);
        if (!may_parse(conn)) {
            conn_want_input(conn);
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
    size_t most = conn->state == CONN_GREETING ? GREETING_READ : READ_SIZE;
    ssize_t n = conn->transport->ops->read(conn->transport, buffer + before, most - before);
    if (n <= 0) {
        return n;
    }
    free(conn->input);
    conn->input = NULL;
    conn->input_at = conn->input_size = 0;
    conn->broker->counters.bytes_received += (uint64_t)n;
    size_t total = before + (size_t)n;
    size_t used = parse(conn, buffer, total);
    if (conn->state != CONN_DEAD && conn->state != CONN_CLOSING) {
        if (used < total) {
            keep_input(conn, buffer + used, total - used);
        }
        if (!may_parse(conn)) {
            conn_want_input(conn);
        }
    }
    return n;
}

static void read_some(struct conn *conn)
{
    ssize_t n = conn->block.msg || conn->block.bytes ? read_block(conn) : read_shared(conn);
    if (n == 0) {
        conn_fail(conn, conn->state == CONN_UP ? "it closed its connection" : "it left before CONNECT");
    } else if (n < 0 && (n != -EAGAIN || conn->broken)) {
        const char *why = conn->transport->ops->why(conn->transport);
        conn_fail(conn, "%s", why ? why : conn->broken ? CONN_BROKEN : strerror((int)-n));
    }
}

/* When the turn is full those that come now queue up for the next one. They must not just be called again:
 * the same few, whose packets are dear, could come first each time. */
void conn_readable(void *owner)
{
    struct conn *conn = owner;
    if (!may_parse(conn) || conn->input_rests) {
        return;
    }
    if (turn_is_full(conn->broker)) {
        rest_input(conn);
    } else {
        read_some(conn);
    }
}

/* While it was not listened to no time has passed for it. */
static void go_on_asking(struct conn *conn)
{
    subscribe_work(conn);
    if (!conn->asking && conn->state == CONN_UP) {
        conn->last_input = loop_now(conn->broker->loop);
        if (conn->broken) {
            timer_start(conn->broker->loop, &conn->timer, LAST_PACKETS_MS);
        }
        conn_resume(conn);
    }
}

/* The next turn has come for input that rests. */
void conn_work(struct peer *resume)
{
    struct conn *conn = (struct conn *)((char *)resume - offsetof(struct conn, resume));
    if (conn->state == CONN_DEAD) {
        peer_wake(&conn->peer); /* to be freed, now that it is on no other list */
        return;
    }
    if (conn->asking) {
        go_on_asking(conn);
        return;
    }
    if (!may_parse(conn) || !conn->input_rests) {
        return;
    }
    conn->input_rests = false;
    if (block_whole(conn)) {
        block_done(conn);
        conn_want_input(conn);
        return;
    }
    size_t left = conn->input_size - conn->input_at;
    if (!conn->input ||
        !packet_waits(conn->input + conn->input_at, left)) { /* it was to read, not to parse */
        read_some(conn);
        conn_want_input(conn);
        return;
    }
    uint8_t *input = conn->input; /* a handler may end the connection, and its input with it */
    conn->input = NULL;
    uint32_t at = conn->input_at + (uint32_t)parse(conn, input + conn->input_at, left);
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
    conn_want_input(conn);
}

void conn_resume(struct conn *conn)
{
    if (conn->input_rests) {
        rest_input(conn);
    } else {
        conn_want_input(conn);
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

void conn_pause(struct peer *peer, bool on)
{
    struct conn *conn = (struct conn *)peer;
    conn->paused = on;
    conn->last_input = loop_now(conn->broker->loop); /* keep alive is suspended while we do not listen */
    conn_resume(conn);
}
