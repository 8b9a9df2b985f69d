/*
 * dispatch.c - one whole packet to its handler. See dispatch.h.
 */
#include "broker/dispatch.h"

enum {
    GREETING_MAX = 128 * 1024, /* CONNECT with a will: what a stranger may make us allocate */
    STANDARD_MAX = PACKET_MAX_BODY + PACKET_MAX_HEADER,
};

uint32_t dispatch_max_packet(const struct conn *conn)
{
    uint32_t max = conn->broker->config->max_packet_size;
    if (max == 0 || max > STANDARD_MAX) {
        max = STANDARD_MAX;
    }
    return conn->state == CONN_UP ? max : max < GREETING_MAX ? max : GREETING_MAX;
}

static void on_pingreq(struct conn *conn, uint8_t flags, struct slice body)
{
    enum packet_error error = packet_decode_empty(flags, body);
    if (error) {
        conn_violation(conn, "PINGREQ", packet_error_text(error));
        return;
    }
    uint8_t answer[2] = {0};
    conn_answer(conn, answer, packet_put_empty(answer, PKT_PINGRESP)); /* [MQTT-3.12.4-1] */
}

/* MQTT 3.1 let clients set DUP when they repeat PUBREL, SUBSCRIBE and UNSUBSCRIBE. */
static uint8_t flags_of(const struct conn *conn, const struct packet_frame *frame)
{
    return conn->level == 3 && frame->type != PKT_PUBLISH ? frame->flags & 7 : frame->flags;
}

static void dispatch_up(struct conn *conn, const struct packet_frame *frame, struct slice body,
                        struct msg *block)
{
    uint8_t flags = flags_of(conn, frame);
    switch (frame->type) {
    case PKT_PUBLISH:
        on_publish(conn, flags, body, block);
        break;
    case PKT_PUBACK:
    case PKT_PUBREC:
    case PKT_PUBREL:
    case PKT_PUBCOMP:
        on_ack(conn, frame->type, flags, body);
        break;
    case PKT_SUBSCRIBE:
        on_subscribe(conn, flags, body);
        break;
    case PKT_UNSUBSCRIBE:
        on_unsubscribe(conn, flags, body);
        break;
    case PKT_PINGREQ:
        on_pingreq(conn, flags, body);
        break;
    case PKT_DISCONNECT:
        on_disconnect(conn, flags, body);
        break;
    case PKT_CONNECT:
        conn_violation(conn, "CONNECT", "it was already connected"); /* [MQTT-3.1.0-2] */
        break;
    default:
        conn_violation(conn, packet_name(frame->type), "a client may not send this");
        break;
    }
}

void dispatch_packet(struct conn *conn, const struct packet_frame *frame, struct slice body,
                     struct msg *block)
{
    conn->broker->counters.messages_received++;
    if (conn->state == CONN_UP) {
        dispatch_up(conn, frame, body, block);
    } else {
        on_connect(conn, frame->flags, body); /* conn.c lets nothing else through before it */
    }
}
