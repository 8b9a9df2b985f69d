/*
 * packet.h - the codec: MQTT 3.1.1 (and 3.1) control packets to and from bytes.
 *
 * Pure: bytes in, structures of borrowed slices out; it allocates nothing, keeps nothing and knows no
 * connection. A decoder gets the whole body of one packet (what follows the remaining length) and either
 * fills the structure or says what is wrong with it; it never reads outside the body, and what it gave is
 * valid as long as the bytes are.
 */
#ifndef BRAMBLE_PACKET_H
#define BRAMBLE_PACKET_H

#include "broker/slice.h"

enum packet_type {
    PKT_CONNECT = 1,
    PKT_CONNACK,
    PKT_PUBLISH,
    PKT_PUBACK,
    PKT_PUBREC,
    PKT_PUBREL,
    PKT_PUBCOMP,
    PKT_SUBSCRIBE,
    PKT_SUBACK,
    PKT_UNSUBSCRIBE,
    PKT_UNSUBACK,
    PKT_PINGREQ,
    PKT_PINGRESP,
    PKT_DISCONNECT,
};

/* Why a packet is refused; one row gives the value and the words for the log. */
#define PACKET_ERRORS(X)                                                                 \
    X(PACKET_OK, "ok")                                                                   \
    X(PACKET_BAD_LENGTH, "the remaining length is malformed or does not fit the packet") \
    X(PACKET_BAD_FLAGS, "reserved flag bits of the fixed header are wrong")              \
    X(PACKET_TRUNCATED, "a field ends beyond the packet")                                \
    X(PACKET_TRAILING, "bytes are left over after the last field")                       \
    X(PACKET_BAD_UTF8, "a string is not well-formed UTF-8")                              \
    X(PACKET_BAD_PROTOCOL, "the protocol name is not MQTT or MQIsdp")                    \
    X(PACKET_BAD_LEVEL, "the protocol level is not supported")                           \
    X(PACKET_BAD_CONNECT_FLAGS, "the connect flags contradict each other")               \
    X(PACKET_BAD_TOPIC, "a topic name is empty or holds a wildcard")                     \
    X(PACKET_BAD_FILTER, "a topic filter is malformed")                                  \
    X(PACKET_NO_FILTER, "there is no topic filter")                                      \
    X(PACKET_BAD_QOS, "the QoS is not 0, 1 or 2")                                        \
    X(PACKET_BAD_ID, "the packet identifier is 0")                                       \
    X(PACKET_BAD_DUP, "DUP is set on a QoS 0 PUBLISH")

enum packet_error {
#define X(name, text) name,
    PACKET_ERRORS(X)
#undef X
};
const char *packet_error_text(enum packet_error error);

/* "CONNECT", ... or "reserved". */
const char *packet_name(uint8_t type);

#define PACKET_MAX_HEADER 5
#define PACKET_MAX_BODY   268435455u

struct packet_frame {
    uint8_t type;        /* 0 to 15, not yet checked */
    uint8_t flags;       /* lower four bits of the first byte */
    uint8_t header_size; /* 2 to 5 */
    uint32_t body_size;  /* the remaining length */
};

/* Reads a fixed header [2.2]. 1: frame is filled (the body need not be there yet); 0: more bytes are needed;
 * -1: the length is malformed (a fifth length byte). */
int packet_frame(const uint8_t *p, size_t n, struct packet_frame *frame);

struct packet_will {
    struct slice topic, payload;
    uint8_t qos;
    bool retain;
};

struct packet_connect {
    uint8_t level; /* 3 (MQIsdp) or 4 */
    bool clean;
    bool has_will, has_user, has_password;
    uint16_t keepalive; /* seconds, 0: off */
    struct slice client_id, user, password;
    struct packet_will will;
};

struct packet_publish {
    struct slice topic, payload;
    uint16_t id; /* 0 at QoS 0 */
    uint8_t qos;
    bool dup, retain;
};

/* SUBSCRIBE and UNSUBSCRIBE: checked wholly by the decoder; packet_next_filter() then walks it and cannot
 * fail. */
struct packet_filters {
    uint16_t id;
    uint32_t count;
    bool with_qos;
    struct slice rest;
};

/* [3.1]. PACKET_BAD_LEVEL is the one error that is answered (CONNACK 1); level is then filled. */
enum packet_error packet_decode_connect(uint8_t flags, struct slice body, struct packet_connect *out);
/* [3.3]. The topic is checked; its levels are not counted. */
enum packet_error packet_decode_publish(uint8_t flags, struct slice body, struct packet_publish *out);
/* [3.4] to [3.7]: PUBACK, PUBREC, PUBREL, PUBCOMP. */
enum packet_error packet_decode_ack(uint8_t type, uint8_t flags, struct slice body, uint16_t *id);
/* [3.8] with_qos true; [3.10] with_qos false. */
enum packet_error packet_decode_filters(uint8_t flags, struct slice body, bool with_qos,
                                        struct packet_filters *out);
bool packet_next_filter(struct packet_filters *filters, struct slice *filter, uint8_t *qos);
/* [3.12], [3.14]: PINGREQ, DISCONNECT. */
enum packet_error packet_decode_empty(uint8_t flags, struct slice body);

/* Encoders write at p and return how many bytes they wrote. */
size_t packet_put_header(uint8_t *p, uint8_t first, uint32_t body_size);   /* up to PACKET_MAX_HEADER */
size_t packet_put_connack(uint8_t *p, bool session_present, uint8_t code); /* 4 */
size_t packet_put_ack(uint8_t *p, uint8_t type, uint16_t id); /* 4; PUBREL gets its flags [MQTT-3.6.1-1] */
size_t packet_put_empty(uint8_t *p, uint8_t type);            /* 2 */
size_t packet_header_size(uint32_t body_size);                /* 2 to 5 */

static inline void packet_put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline uint16_t packet_get_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

/* CONNACK return codes [table 3.1]. */
enum {
    CONNACK_ACCEPTED,
    CONNACK_BAD_LEVEL,
    CONNACK_BAD_ID,
    CONNACK_UNAVAILABLE,
    CONNACK_BAD_LOGIN,
    CONNACK_REFUSED
};

#define SUBACK_FAILURE 0x80

#endif
