/*
 * msg.h - one published message, shared by everybody it goes to.
 *
 * A message is one reference-counted block. Its bytes stand as a ready MQTT 3.1.1 QoS 0 PUBLISH, so the most
 * common delivery is one copy of one run of bytes; every other form writes its own fixed header, topic length
 * and packet identifier and takes topic and payload from here.
 *
 *   bytes[]   ....| fixed header | topic length | topic | payload |
 *                 ^ wire         ^ start          ^ topic ^ payload
 *
 * A big PUBLISH is read from the socket straight into such a block (msg_for_body), so its payload is never
 * copied by the broker. References are counted on the loop thread only: plain integers.
 */
#ifndef BRAMBLE_MSG_H
#define BRAMBLE_MSG_H

#include "broker/packet.h"
#include "broker/principal.h"
#include "broker/slice.h"

struct msg {
    uint32_t refs;
    uint32_t size; /* of bytes[] */
    uint32_t payload_size;
    uint32_t start; /* of the topic length field in bytes[]; at least PACKET_MAX_HEADER */
    uint16_t topic_size;
    uint8_t header_size;    /* of the ready fixed header before start */
    uint8_t qos;            /* as it was published */
    bool retain;            /* as it was published */
    struct principal *from; /* who published it, NULL: the broker itself */
    uint8_t bytes[];
};

/* Copies topic and payload; takes a reference on from. One reference for the caller. NULL without memory. */
struct msg *msg_new(struct slice topic, struct slice payload, uint8_t qos, bool retain,
                    struct principal *from);

/* The same with a prefix (mount_point) before the topic. NULL also when the topic gets longer than 65535
 * bytes, or the whole longer than any packet. */
struct msg *msg_new_mounted(struct slice prefix, struct slice topic, struct slice payload, uint8_t qos,
                            bool retain, struct principal *from);

/* A block into whose msg_body() the body_size bytes of a PUBLISH will be read. NULL without memory. */
struct msg *msg_for_body(uint32_t body_size);
static inline uint8_t *msg_body(struct msg *msg)
{
    return msg->bytes + PACKET_MAX_HEADER;
}

/* Makes the block a message in place. publish must have been decoded from its own body; its slices end here.
 */
void msg_adopt(struct msg *msg, const struct packet_publish *publish, struct principal *from);

static inline struct msg *msg_ref(struct msg *msg)
{
    msg->refs++;
    return msg;
}

/* Bytes of all messages that exist now (a counter, and so one of the few globals). */
uint64_t msg_bytes(void);

/* Frees a message without references; use msg_unref(). */
void msg_free(struct msg *msg);

/* NULL is allowed. */
static inline void msg_unref(struct msg *msg)
{
    if (msg && --msg->refs == 0) {
        msg_free(msg);
    }
}

static inline struct slice msg_topic(const struct msg *msg)
{
    return slice_of(msg->bytes + msg->start + 2, msg->topic_size);
}

static inline struct slice msg_payload(const struct msg *msg)
{
    return slice_of(msg->bytes + msg->start + 2 + msg->topic_size, msg->payload_size);
}

/* The ready QoS 0 packet, DUP 0, RETAIN 0. */
static inline struct slice msg_wire(const struct msg *msg)
{
    return slice_of(msg->bytes + msg->start - msg->header_size,
                    (size_t)msg->header_size + 2 + msg->topic_size + msg->payload_size);
}

#endif
