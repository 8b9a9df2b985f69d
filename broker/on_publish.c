/*
 * on_publish.c - PUBLISH and its acknowledgements, in both directions.
 *
 *   client                       broker                                client
 *   PUBLISH QoS 1 -------------> on_publish: route, hold PUBACK
 *          <-- PUBACK ---------- (ticket closed)      PUBLISH ------->
 *                                on_ack  <------------ PUBACK
 *   PUBLISH QoS 2 -------------> on_publish: route, note the id, hold PUBREC
 *          <-- PUBREC ---------- (ticket closed)
 *   PUBREL --------------------> on_ack: forget the id
 *          <-- PUBCOMP ---------
 *
 * A QoS 2 message is routed when its PUBLISH comes; until PUBREL the same id is a repetition and is not
 * routed again. A QoS 1 message has no such id. But as long as its PUBACK is held, for a disk that is slow,
 * its client may well send it again, and that is the same one: routed once, acknowledged once.
 *
 * A crash must not bring back what the other end has forgotten: a kept publisher hears PUBREC when its id is
 * stored together with the message, and PUBCOMP when that the id is free again is stored, too.
 */
#include "broker/dispatch.h"
#include "broker/log.h"
#include "broker/mem.h"
#include "broker/router.h"
#include "broker/topic.h"
#include <stdlib.h>

enum { REMEMBERED = 120 }; /* longest topic */

/* The last PUBLISH that the ACL allowed to a connection: most clients publish to the same topic again. It
 * counts as long as session->rights is what it was, for this QoS and lower ones, with RETAIN if it had it. */
struct published {
    uint32_t rights;
    uint8_t qos;
    bool retain;
    uint8_t size;
    uint8_t topic[REMEMBERED];
};

/* Rules of the standard and of the listener that end the connection. */
static const char *forbidden(const struct conn *conn, const struct packet_publish *publish)
{
    const struct config *config = conn->broker->config;
    if (topic_levels(publish->topic) > config->max_topic_levels) {
        return "its topic has too many levels";
    }
    if (publish->retain && !config->retain_available) {
        return "retained messages are not available here";
    }
    if (publish->qos > conn_door(conn)->config->max_qos) {
        return "its QoS is higher than this listener allows";
    }
    return NULL;
}

/* memory_limit: QoS 0 messages are dropped; a client that was promised more is disconnected before it gets an
 * acknowledgement. */
static bool no_room(struct conn *conn, const struct packet_publish *publish, size_t more,
                    enum memory_for what)
{
    if (!broker_memory_full(conn->broker, more, what)) {
        return false;
    }
    conn->broker->sessions.dropped++;
    if (publish->qos > 0) {
        conn_fail(conn, "memory_limit is reached");
    }
    return true;
}

/* What takes the place of an older retained message does not stay beside it. */
static bool stays(const struct broker *broker, const struct msg *msg)
{
    return msg->retain && msg->payload_size > 0 && !retain_has(broker->retain, msg_topic(msg));
}

static bool same_again(const struct conn *conn, const struct msg *msg)
{
    const struct published *last = conn->published;
    return last && last->rights == conn->session->rights && msg->qos <= last->qos &&
           msg->retain <= last->retain && slice_eq(msg_topic(msg), slice_of(last->topic, last->size));
}

static void remember(struct conn *conn, const struct msg *msg)
{
    struct slice topic = msg_topic(msg);
    if (topic.n > REMEMBERED || !conn_door(conn)->acl) {
        return;
    }
    if (!conn->published) {
        conn->published = malloc(sizeof *conn->published);
        if (!conn->published) {
            return; /* it is asked for again */
        }
        mem_hold(sizeof *conn->published);
    }
    struct published *last = conn->published;
    last->rights = conn->session->rights;
    last->qos = msg->qos;
    last->retain = msg->retain;
    last->size = (uint8_t)topic.n;
    memcpy(last->topic, topic.p, topic.n);
}

void publish_forget(struct conn *conn)
{
    if (conn->published) {
        mem_drop(sizeof *conn->published);
        free(conn->published);
        conn->published = NULL;
    }
}

static bool may_publish(struct conn *conn, const struct msg *msg)
{
    struct broker *broker = conn->broker;
    struct slice topic = msg_topic(msg);
    if (same_again(conn, msg)) {
        return true;
    }
    struct acl_answer answer = router_may_publish(broker, conn->who, topic, msg->qos, msg->retain);
    if (answer.allowed) {
        remember(conn, msg);
        return true;
    }
    broker->counters.publish_denied++;
    log_write(LOG_T_DEBUG, "Denied PUBLISH from %s (q%d, '%.*s', %u bytes).", conn_name(conn), msg->qos,
              SLICE_ARG(topic), msg->payload_size);
    router_denied(broker, DECIDED_PUBLISH, conn->who, topic, msg->qos, answer);
    return false;
}

/* The message to route; NULL when it is dropped by a rule (it is acknowledged all the same [MQTT-3.3.5-2])
 * or, with the connection ended, for want of memory. */
static struct msg *make_message(struct conn *conn, const struct packet_publish *publish, struct msg *block)
{
    struct broker *broker = conn->broker;
    const char *mount = conn_door(conn)->config->mount_point;
    uint32_t limit = broker->config->message_size_limit;
    if (limit && publish->payload.n > limit) {
        log_write(LOG_T_NOTICE, "Dropped a PUBLISH of %zu bytes from %s on '%.*s': message_size_limit.",
                  publish->payload.n, conn_name(conn), SLICE_ARG(publish->topic));
        return NULL;
    }
    /* a big packet that was read into its own block is already counted */
    if (no_room(conn, publish, block ? 0 : publish->topic.n + publish->payload.n, MEMORY_TO_PASS)) {
        return NULL;
    }
    struct msg *msg;
    if (block && !mount) {
        msg_adopt(block, publish, conn->who);
        msg = msg_ref(block);
    } else {
        msg = msg_new_mounted(slice_str(mount), publish->topic, publish->payload, publish->qos,
                              publish->retain, conn->who);
    }
    if (!msg) {
        conn_fail(conn, "out of memory for a message, or its topic with mount_point is too long");
        return NULL;
    }
    if (!may_publish(conn, msg)) {
        msg_unref(msg);
        return NULL;
    }
    if (stays(broker, msg) && no_room(conn, publish, 0, MEMORY_TO_KEEP)) {
        msg_unref(msg);
        return NULL;
    }
    return msg;
}

/* QoS 2: the first PUBLISH with this id; its ticket is kept with the id. What is owed because of this PUBLISH
 * goes into one transaction with it. */
static bool note_inbound(struct conn *conn, uint16_t id, struct ticket *ticket)
{
    struct broker *broker = conn->broker;
    if (inbound_add(&conn->session->inbound, id, ticket) < 0) {
        conn_fail(conn, "out of memory for a packet identifier");
        return false;
    }
    if (session_is_stored(&broker->sessions, conn->session)) {
        store_change(broker->store, ticket,
                     &(struct change){.kind = CHANGE_IN_ID, .session = conn->session->number, .id = id});
    }
    return true;
}

/* The id is free. A reference on the ticket of a kept session, which closes when that is stored; or NULL. */
static struct ticket *free_inbound(struct conn *conn, uint16_t id)
{
    struct broker *broker = conn->broker;
    if (!inbound_remove(&conn->session->inbound, id) ||
        !session_is_stored(&broker->sessions, conn->session)) {
        return NULL;
    }
    struct ticket *ticket = store_begin(broker->store);
    store_change(broker->store, ticket,
                 &(struct change){.kind = CHANGE_IN_ID_DONE, .session = conn->session->number, .id = id});
    store_seal(broker->store, ticket);
    return ticket;
}

/* It did not reach all it is for: instead of an answer its client gets an end, and sends it again. At QoS 2
 * as well, and those who have it get it twice: rather that than a message that is lost. */
static void not_taken(struct conn *conn, const struct packet_publish *publish)
{
    if (publish->qos == 2) {
        ticket_unref(free_inbound(conn, publish->id));
    }
    if (publish->qos > 0) {
        conn_fail(conn, "out of memory for what it has published");
    }
}

/* PUBACK or PUBREC, when the ticket is closed. */
static void acknowledge(struct conn *conn, const struct packet_publish *publish, struct ticket *ticket,
                        struct msg *msg)
{
    uint8_t type = publish->qos == 1 ? PKT_PUBACK : PKT_PUBREC;
    if (outq_hold_ack(&conn->out, ticket, conn->id, type, publish->id, publish->qos == 1 ? msg : NULL) < 0) {
        conn_fail(conn, "out of memory for an acknowledgement");
        return;
    }
    peer_wake(&conn->peer);
}

static void route(struct conn *conn, const struct packet_publish *publish, struct msg *msg)
{
    struct broker *broker = conn->broker;
    struct ticket *ticket = store_begin(broker->store);
    if (publish->qos < 2 || note_inbound(conn, publish->id, ticket)) {
        if (msg && !router_publish(broker, msg, ticket)) {
            not_taken(conn, publish);
        } else if (publish->qos > 0) {
            acknowledge(conn, publish, ticket, msg);
        }
    }
    store_seal(broker->store, ticket);
    ticket_unref(ticket);
}

/* ---- what comes again ---- */

/* QoS 2 [MQTT-4.3.3-2]: not routed again, and not answered before the first one is. */
static bool repeats_inbound(const struct conn *conn, const struct packet_publish *publish,
                            struct ticket **first)
{
    return publish->qos == 2 && inbound_has(&conn->session->inbound, publish->id, first);
}

static void acknowledge_again(struct conn *conn, const struct packet_publish *publish, struct ticket *first)
{
    struct msg *unused;
    if (!outq_finds(&conn->out, PKT_PUBREC, publish->id, &unused)) {
        acknowledge(conn, publish, first, NULL);
    }
}

static bool same_message(const struct msg *msg, struct slice mount, const struct packet_publish *publish)
{
    struct slice topic = msg_topic(msg);
    return topic.n == mount.n + publish->topic.n && msg->retain == publish->retain &&
           slice_eq(slice_of(topic.p + mount.n, publish->topic.n), publish->topic) &&
           slice_eq(msg_payload(msg), publish->payload);
}

/* QoS 1: its identifier is in use until PUBACK, so it can only be that message, with DUP or without. Whoever
 * uses the identifier for another message all the same has that one routed. */
static bool repeats_held(const struct conn *conn, const struct packet_publish *publish)
{
    struct msg *msg;
    return publish->qos == 1 && outq_finds(&conn->out, PKT_PUBACK, publish->id, &msg) && msg &&
           same_message(msg, slice_str(conn_door(conn)->config->mount_point), publish);
}

bool publish_repeats(struct conn *conn, uint8_t flags, struct slice body)
{
    struct packet_publish publish;
    return packet_decode_publish(flags, body, &publish) == PACKET_OK &&
           (repeats_inbound(conn, &publish, NULL) || repeats_held(conn, &publish));
}

void on_publish(struct conn *conn, uint8_t flags, struct slice body, struct msg *block)
{
    struct packet_publish publish;
    enum packet_error error = packet_decode_publish(flags, body, &publish);
    const char *reason = error ? packet_error_text(error) : forbidden(conn, &publish);
    if (reason) {
        conn_violation(conn, "PUBLISH", reason);
        return;
    }
    struct broker *broker = conn->broker;
    broker->counters.publish_received++;
    broker->counters.publish_bytes_received += publish.payload.n;
    struct ticket *first;
    if (repeats_inbound(conn, &publish, &first)) {
        acknowledge_again(conn, &publish, first);
        return;
    }
    if (repeats_held(conn, &publish)) {
        return;
    }
    struct msg *msg = make_message(conn, &publish, block);
    if (conn->state == CONN_UP) {
        route(conn, &publish, msg);
    }
    msg_unref(msg);
}

/* PUBREL: the id is free again; answered also when it is unknown [MQTT-4.3.3-2]. Unless it is unknown because
 * of a PUBREL just before, and that is not stored yet: then they wait together. */
static void on_pubrel(struct conn *conn, uint16_t id)
{
    struct inbound *inbound = &conn->session->inbound;
    struct msg *unused;
    if (!inbound_has(inbound, id, NULL) && outq_finds(&conn->out, PKT_PUBCOMP, id, &unused)) {
        return;
    }
    struct ticket *ticket = free_inbound(conn, id);
    if (ticket) {
        inbound_freed(inbound, ticket);
        ticket_unref(ticket);
    }
    conn_answer_held(conn, inbound->freed, OUTQ_ANY, PKT_PUBCOMP, id);
}

void on_ack(struct conn *conn, uint8_t type, uint8_t flags, struct slice body)
{
    uint16_t id;
    enum packet_error error = packet_decode_ack(type, flags, body, &id);
    if (error) {
        conn_violation(conn, packet_name(type), packet_error_text(error));
        return;
    }
    struct sessions *sessions = &conn->broker->sessions;
    struct ticket *ticket = NULL;
    enum ack ack = ACK_OK;
    switch (type) {
    case PKT_PUBACK:
        ack = session_puback(sessions, conn->session, id);
        break;
    case PKT_PUBREC:
        ack = session_pubrec(sessions, conn->session, id, &ticket);
        if (ack != ACK_WRONG) { /* an unknown id too, or the client would wait for ever */
            conn_answer_held(conn, ticket, OUTQ_REL, PKT_PUBREL, id);
        }
        break;
    case PKT_PUBCOMP:
        ack = session_pubcomp(sessions, conn->session, id);
        break;
    default:
        on_pubrel(conn, id);
        break;
    }
    ticket_unref(ticket);
    if (ack == ACK_WRONG) {
        conn_violation(conn, packet_name(type),
                       "it does not fit the QoS of the message with this identifier");
    } else if (ack == ACK_UNKNOWN) {
        log_write(LOG_T_DEBUG, "%s from %s for the unknown packet identifier %u.", packet_name(type),
                  conn_name(conn), id);
    }
}
