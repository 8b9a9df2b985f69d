/*
 * msg.c - shared messages. See msg.h for the layout; the only trick is msg_adopt().
 */
#include "broker/msg.h"
#include "broker/mem.h"
#include <stdlib.h>

static uint64_t bytes_held;

uint64_t msg_bytes(void)
{
    return bytes_held;
}

/* A block of that many bytes (at most those of the largest packet), with its count. */
static struct msg *block_new(uint64_t size)
{
    struct msg *msg = malloc(sizeof *msg + size);
    if (msg) {
        *msg = (struct msg){.refs = 1, .size = (uint32_t)size, .start = PACKET_MAX_HEADER};
        bytes_held += sizeof *msg + size;
        mem_hold(sizeof *msg + size);
    }
    return msg;
}

/* Writes the ready QoS 0 fixed header in front of the topic length. */
static void put_ready_header(struct msg *msg)
{
    uint32_t body = 2u + msg->topic_size + msg->payload_size;
    msg->header_size = (uint8_t)packet_header_size(body);
    packet_put_header(msg->bytes + msg->start - msg->header_size, PKT_PUBLISH << 4, body);
}

struct msg *msg_new_mounted(struct slice prefix, struct slice topic, struct slice payload, uint8_t qos,
                            bool retain, struct principal *from)
{
    size_t topic_size = prefix.n + topic.n;
    /* The two length bytes and an identifier have to fit as well: it may go out at another QoS. */
    if (topic_size > UINT16_MAX || payload.n > PACKET_MAX_BODY - 4 - topic_size) {
        return NULL;
    }
    struct msg *msg = block_new(PACKET_MAX_HEADER + 2 + topic_size + payload.n);
    if (!msg) {
        return NULL;
    }
    msg->payload_size = (uint32_t)payload.n;
    msg->topic_size = (uint16_t)topic_size;
    msg->qos = qos;
    msg->retain = retain;
    msg->from = from ? principal_ref(from) : NULL;
    uint8_t *p = msg->bytes + msg->start;
    packet_put_u16(p, msg->topic_size);
    p += 2;
    if (prefix.n) {
        memcpy(p, prefix.p, prefix.n);
    }
    memcpy(p + prefix.n, topic.p, topic.n);
    if (payload.n) {
        memcpy(p + topic_size, payload.p, payload.n);
    }
    put_ready_header(msg);
    return msg;
}

struct msg *msg_new(struct slice topic, struct slice payload, uint8_t qos, bool retain,
                    struct principal *from)
{
    return msg_new_mounted(slice_of(NULL, 0), topic, payload, qos, retain, from);
}

struct msg *msg_for_body(uint32_t body_size)
{
    return block_new(PACKET_MAX_HEADER + (uint64_t)body_size);
}

/*
 *  QoS 0 body   | len | topic | payload |               stands as it must
 *  QoS 1, 2     | len | topic | id | payload |          len and topic move two bytes up, over the id:
 *               |  ..  | len | topic | payload |        the payload, which may be large, stays where it was
 * read
 */
void msg_adopt(struct msg *msg, const struct packet_publish *publish, struct principal *from)
{
    msg->payload_size = (uint32_t)publish->payload.n;
    msg->topic_size = (uint16_t)publish->topic.n;
    msg->qos = publish->qos;
    msg->retain = publish->retain;
    msg->from = from ? principal_ref(from) : NULL;
    if (publish->qos > 0) {
        memmove(msg->bytes + msg->start + 2, msg->bytes + msg->start, 2u + msg->topic_size);
        msg->start += 2;
    }
    put_ready_header(msg);
}

void msg_free(struct msg *msg)
{
    principal_unref(msg->from);
    bytes_held -= sizeof *msg + msg->size;
    mem_drop(sizeof *msg + msg->size);
    free(msg);
}
