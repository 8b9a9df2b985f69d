/*
 * on_subscribe.c - SUBSCRIBE and UNSUBSCRIBE.
 *
 * The filters of one packet are handled as a sequence with one answer [MQTT-3.8.4-4]. Then come the retained
 * messages, filter by filter, as long as the client has room and the turn has time; what is left is owed to
 * the session (session_owed.h) and goes on when the client has taken what it got, on this connection or the
 * next. So a thousand filters over a hundred thousand retained messages neither fill the memory nor stop the
 * loop. Answers leave before messages, so they follow the SUBACK on the wire.
 */
#include "broker/dispatch.h"
#include "broker/log.h"
#include "broker/router.h"
#include "broker/session_owed.h"
#include "broker/topic.h"
#include <stdlib.h>

enum { MOST_FILTERS = 60000 }; /* of one packet: their SUBACK still fits the output window */

/* Puts mount_point before the filter, into buf of 65535 bytes; NULL p when it gets too long. */
static struct slice mounted(const char *mount, struct slice filter, uint8_t *buf)
{
    if (!mount) {
        return filter;
    }
    size_t n = strlen(mount);
    if (n + filter.n > UINT16_MAX) {
        return slice_of(NULL, 0);
    }
    memcpy(buf, mount, n);
    memcpy(buf + n, filter.p, filter.n);
    return slice_of(buf, n + filter.n);
}

/* The return code for one filter [MQTT-3.8.4-5]. */
static uint8_t subscribe_one(struct conn *conn, struct slice filter, uint8_t qos)
{
    struct broker *broker = conn->broker;
    if (!router_may(broker, conn->who, ACL_SUBSCRIBE, filter)) {
        log_write(LOG_T_NOTICE, "Denied SUBSCRIBE from %s to '%.*s'.", conn_name(conn), SLICE_ARG(filter));
        return SUBACK_FAILURE;
    }
    if (broker_memory_full(broker, filter.n, MEMORY_TO_KEEP) &&
        !subs_has(broker->subs, conn->session, filter)) {
        log_write(LOG_T_NOTICE, "Denied SUBSCRIBE from %s to '%.*s': memory_limit is reached.",
                  conn_name(conn), SLICE_ARG(filter));
        return SUBACK_FAILURE;
    }
    uint8_t max = (uint8_t)conn_door(conn)->config->max_qos;
    qos = qos > max ? max : qos;
    if (subs_add(broker->subs, conn->session, filter, qos) < 0) {
        log_write(LOG_T_ERROR, "Out of memory for a subscription of %s.", conn_name(conn));
        return SUBACK_FAILURE;
    }
    log_write(LOG_T_SUBSCRIBE, "%s %d %.*s", conn_name(conn), qos, SLICE_ARG(filter));
    return qos;
}

/* A kept session's answer waits until the change is stored. */
static struct ticket *stored(struct conn *conn, enum change_kind kind)
{
    if (conn->session->clean) {
        return NULL;
    }
    struct ticket *ticket = store_begin(conn->broker->store);
    store_put(conn->broker->store, ticket, kind, conn->session->number, NULL, 0);
    store_seal(conn->broker->store, ticket);
    return ticket;
}

/* ---- retained messages [MQTT-3.3.1-6]: a few at once, many in turn with what the client takes ---- */

bool subscribe_go_on(struct conn *conn)
{
    struct broker *broker = conn->broker;
    struct session *session = conn->session;
    struct owed *owed = session->owed;
    if (!owed || !ticket_closed(owed->ticket) || !session_room(&broker->sessions, session)) {
        return false; /* a ticket that closes and an acknowledgement that comes wake it */
    }
    if (broker->turn_visits >= TURN_VISITS) {
        peer_wake(&conn->peer); /* the others first */
        return false;
    }
    struct slice filter;
    uint8_t qos;
    if (!packet_next_filter(&owed->filters, &filter, &qos)) {
        owed_done(session);
    } else if (subs_has(broker->subs, session, filter)) { /* it may have been unsubscribed meanwhile */
        router_send_retained(broker, session, filter, qos);
    }
    return true;
}

static void owe(struct conn *conn, struct owed *owed, struct ticket *ticket)
{
    if (!owed || owed_add(conn->session, owed, ticket) < 0) {
        session_lost(&conn->broker->sessions, conn->session);
    }
}

static void answer_subscribe(struct conn *conn, const struct packet_filters *filters, uint8_t *answer,
                             uint32_t room, struct owed *owed)
{
    uint8_t *codes = answer + room - filters->count;
    uint8_t head[PACKET_MAX_HEADER + 2];
    size_t n = packet_put_header(head, PKT_SUBACK << 4, 2 + filters->count);
    packet_put_u16(head + n, filters->id); /* [MQTT-3.8.4-2] */
    n += 2;
    memcpy(codes - n, head, n);
    struct ticket *ticket = stored(conn, CHANGE_SUBSCRIBE);
    if (outq_hold(&conn->out, ticket, OUTQ_ANY, conn->id, codes - n, n + filters->count) < 0) {
        owed_free(owed);
        conn_fail(conn, "out of memory for a SUBACK");
    } else {
        peer_wake(&conn->peer);
        owe(conn, owed, ticket);
    }
    ticket_unref(ticket);
}

static void subscribe_all(struct conn *conn, const struct packet_filters *filters)
{
    const char *mount = conn_door(conn)->config->mount_point;
    uint32_t room = PACKET_MAX_HEADER + 2 + filters->count;
    uint8_t *answer = malloc(room + (mount ? UINT16_MAX : 0));
    if (!answer) {
        conn_fail(conn, "out of memory for a SUBACK");
        return;
    }
    struct owed *owed = owed_new(filters->rest.n + (mount ? filters->count * strlen(mount) : 0));
    uint8_t *codes = answer + room - filters->count;
    uint8_t *buf = answer + room;
    struct packet_filters walk = *filters;
    struct slice filter;
    uint8_t qos;
    for (uint32_t i = 0; packet_next_filter(&walk, &filter, &qos); i++) {
        struct slice whole = mounted(mount, filter, buf);
        codes[i] = whole.p ? subscribe_one(conn, whole, qos) : SUBACK_FAILURE;
        if (owed && codes[i] != SUBACK_FAILURE) {
            owed_put(owed, whole, codes[i]);
        }
    }
    answer_subscribe(conn, filters, answer, room, owed);
    free(answer);
    while (conn->state == CONN_UP && subscribe_go_on(conn)) {
    }
}

static bool too_deep(const struct conn *conn, struct packet_filters filters)
{
    struct slice filter;
    uint8_t qos;
    while (packet_next_filter(&filters, &filter, &qos)) {
        if (topic_levels(filter) > conn->broker->config->max_topic_levels) {
            return true;
        }
    }
    return false;
}

void on_subscribe(struct conn *conn, uint8_t flags, struct slice body)
{
    struct packet_filters filters;
    enum packet_error error = packet_decode_filters(flags, body, true, &filters);
    const char *reason = error                          ? packet_error_text(error)
                         : filters.count > MOST_FILTERS ? "it has too many filters"
                         : too_deep(conn, filters)      ? "a filter has more levels than max_topic_levels"
                                                        : NULL;
    if (reason) {
        conn_violation(conn, "SUBSCRIBE", reason);
        return;
    }
    subscribe_all(conn, &filters);
}

void on_unsubscribe(struct conn *conn, uint8_t flags, struct slice body)
{
    struct packet_filters filters;
    enum packet_error error = packet_decode_filters(flags, body, false, &filters);
    if (error) {
        conn_violation(conn, "UNSUBSCRIBE", packet_error_text(error));
        return;
    }
    const char *mount = conn_door(conn)->config->mount_point;
    uint8_t *buf = mount ? malloc(UINT16_MAX) : NULL;
    if (mount && !buf) {
        conn_fail(conn, "out of memory for an UNSUBSCRIBE");
        return;
    }
    struct packet_filters walk = filters;
    struct slice filter;
    uint8_t unused;
    while (packet_next_filter(&walk, &filter, &unused)) {
        struct slice whole = mounted(mount, filter, buf);
        if (whole.p && subs_remove(conn->broker->subs, conn->session, whole)) {
            log_write(LOG_T_UNSUBSCRIBE, "%s %.*s", conn_name(conn), SLICE_ARG(whole));
        }
    }
    free(buf);
    struct ticket *ticket = stored(conn, CHANGE_UNSUBSCRIBE);
    conn_answer_held(conn, ticket, OUTQ_ANY, PKT_UNSUBACK,
                     filters.id); /* also where nothing was removed [MQTT-3.10.4-5] */
    ticket_unref(ticket);
}
