/*
 * on_subscribe.c - SUBSCRIBE and UNSUBSCRIBE.
 *
 * The filters of one packet are handled as a sequence with one answer [MQTT-3.8.4-4]. Retained messages are
 * offered after the SUBACK is queued; answers leave before messages, so they follow it on the wire.
 */
#include "broker/dispatch.h"
#include "broker/log.h"
#include "broker/router.h"
#include "broker/topic.h"
#include <stdlib.h>

enum { MOST_FILTERS = 60000 }; /* their SUBACK still fits the output window */

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
    uint8_t max = (uint8_t)broker_door(broker, conn->who)->config->max_qos;
    qos = qos > max ? max : qos;
    if (subs_add(broker->subs, conn->session, filter, qos) < 0) {
        log_write(LOG_T_ERROR, "Out of memory for a subscription of %s.", conn_name(conn));
        return SUBACK_FAILURE;
    }
    log_write(LOG_T_SUBSCRIBE, "%s %d %.*s", conn_name(conn), qos, SLICE_ARG(filter));
    return qos;
}

static void send_retained(struct conn *conn, struct packet_filters filters, const uint8_t *codes,
                          uint8_t *buf)
{
    const char *mount = broker_door(conn->broker, conn->who)->config->mount_point;
    struct slice filter;
    uint8_t asked;
    for (uint32_t i = 0; packet_next_filter(&filters, &filter, &asked); i++) {
        if (codes[i] != SUBACK_FAILURE) {
            router_send_retained(conn->broker, conn->session, mounted(mount, filter, buf), codes[i]);
        }
    }
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

static void answer_subscribe(struct conn *conn, const struct packet_filters *filters, uint8_t *answer,
                             uint32_t room)
{
    uint8_t *codes = answer + room - filters->count;
    uint8_t head[PACKET_MAX_HEADER + 2];
    size_t n = packet_put_header(head, PKT_SUBACK << 4, 2 + filters->count);
    packet_put_u16(head + n, filters->id); /* [MQTT-3.8.4-2] */
    n += 2;
    memcpy(codes - n, head, n);
    struct ticket *ticket = stored(conn, CHANGE_SUBSCRIBE);
    if (outq_hold(&conn->out, ticket, OUTQ_ANY, conn->id, codes - n, n + filters->count) < 0) {
        conn_fail(conn, "out of memory for a SUBACK");
    } else {
        peer_wake(&conn->peer);
    }
    ticket_unref(ticket);
}

static void subscribe_all(struct conn *conn, const struct packet_filters *filters)
{
    const char *mount = broker_door(conn->broker, conn->who)->config->mount_point;
    uint32_t room = PACKET_MAX_HEADER + 2 + filters->count;
    uint8_t *answer = malloc(room + (mount ? UINT16_MAX : 0));
    if (!answer) {
        conn_fail(conn, "out of memory for a SUBACK");
        return;
    }
    uint8_t *codes = answer + room - filters->count;
    uint8_t *buf = answer + room;
    struct packet_filters walk = *filters;
    struct slice filter;
    uint8_t qos;
    for (uint32_t i = 0; packet_next_filter(&walk, &filter, &qos); i++) {
        struct slice whole = mounted(mount, filter, buf);
        codes[i] = whole.p ? subscribe_one(conn, whole, qos) : SUBACK_FAILURE;
    }
    answer_subscribe(conn, filters, answer, room);
    if (conn->state == CONN_UP) {
        send_retained(conn, *filters, codes, buf);
    }
    free(answer);
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
    const char *mount = broker_door(conn->broker, conn->who)->config->mount_point;
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
