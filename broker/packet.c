/*
 * packet.c - the codec. See packet.h.
 *
 * Every decoder walks a cursor (struct in) over the body. The cursor remembers the first thing that went
 * wrong and then gives empty fields, so a decoder reads straight down and looks at the error once.
 */
#include "broker/packet.h"
#include "broker/topic.h"

struct in {
    const uint8_t *p;
    size_t n;
    enum packet_error error;
};

static uint8_t in_u8(struct in *in)
{
    if (in->n < 1) {
        in->error = in->error ? in->error : PACKET_TRUNCATED;
        return 0;
    }
    in->n--;
    return *in->p++;
}

static uint16_t in_u16(struct in *in)
{
    if (in->n < 2) {
        in->error = in->error ? in->error : PACKET_TRUNCATED;
        in->n = 0;
        return 0;
    }
    uint16_t v = packet_get_u16(in->p);
    in->p += 2;
    in->n -= 2;
    return v;
}

static struct slice in_binary(struct in *in)
{
    size_t len = in_u16(in);
    if (len > in->n) {
        in->error = in->error ? in->error : PACKET_TRUNCATED;
        len = 0;
        in->n = 0;
    }
    struct slice s = slice_of(in->p, len);
    in->p += len;
    in->n -= len;
    return s;
}

static struct slice in_string(struct in *in)
{
    struct slice s = in_binary(in);
    if (!in->error && !utf8_valid(s)) {
        in->error = PACKET_BAD_UTF8;
    }
    return s;
}

static uint16_t in_id(struct in *in)
{
    uint16_t id = in_u16(in);
    if (!in->error && id == 0) {
        in->error = PACKET_BAD_ID; /* [MQTT-2.3.1-1] */
    }
    return id;
}

const char *packet_error_text(enum packet_error error)
{
    static const char *const texts[] = {
#define X(name, text) text,
        PACKET_ERRORS(X)
#undef X
    };
    return (size_t)error < sizeof texts / sizeof *texts ? texts[error] : "unknown error";
}

const char *packet_name(uint8_t type)
{
    static const char *const names[] = {
        "reserved",  "CONNECT", "CONNACK",     "PUBLISH",  "PUBACK",  "PUBREC",   "PUBREL",     "PUBCOMP",
        "SUBSCRIBE", "SUBACK",  "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "reserved",
    };
    return type < 16 ? names[type] : "reserved";
}

int packet_frame(const uint8_t *p, size_t n, struct packet_frame *frame)
{
    uint32_t size = 0;
    for (unsigned i = 1; i <= 4; i++) {
        if (i >= n) {
            return 0;
        }
        size |= (uint32_t)(p[i] & 0x7F) << (7 * (i - 1));
        if (!(p[i] & 0x80)) {
            frame->type = p[0] >> 4;
            frame->flags = p[0] & 0x0F;
            frame->header_size = (uint8_t)(i + 1);
            frame->body_size = size;
            return 1;
        }
    }
    return -1;
}

/* Levels 3 and 4 go by different names; another level under the right name is answered, another name is not
 * [MQTT-3.1.2-1], [MQTT-3.1.2-2]. */
static enum packet_error connect_protocol(struct in *in, struct packet_connect *out)
{
    struct slice name = in_string(in);
    out->level = in_u8(in);
    if (in->error) {
        return in->error;
    }
    if (slice_eq(name, slice_str("MQTT"))) {
        return out->level == 4 ? PACKET_OK : PACKET_BAD_LEVEL;
    }
    if (slice_eq(name, slice_str("MQIsdp"))) {
        return out->level == 3 ? PACKET_OK : PACKET_BAD_LEVEL;
    }
    return PACKET_BAD_PROTOCOL;
}

enum {
    CF_RESERVED = 0x01,
    CF_CLEAN = 0x02,
    CF_WILL = 0x04,
    CF_WILL_RETAIN = 0x20,
    CF_PASSWORD = 0x40,
    CF_USER = 0x80
};

static enum packet_error connect_flags(struct packet_connect *out, uint8_t flags)
{
    out->clean = flags & CF_CLEAN;
    out->has_will = flags & CF_WILL;
    out->has_user = flags & CF_USER;
    out->has_password = flags & CF_PASSWORD;
    out->will.qos = (flags >> 3) & 3;
    out->will.retain = flags & CF_WILL_RETAIN;
    bool bad = (flags & CF_RESERVED) || out->will.qos == 3 || /* [MQTT-3.1.2-3], [MQTT-3.1.2-14] */
               (!out->has_will && (out->will.qos || out->will.retain)) || /* [MQTT-3.1.2-11] */
               (out->level >= 4 && out->has_password && !out->has_user);  /* [MQTT-3.1.2-22] */
    return bad ? PACKET_BAD_CONNECT_FLAGS : PACKET_OK;
}

static void connect_payload(struct in *in, struct packet_connect *out)
{
    out->client_id = in_string(in);
    if (out->has_will) {
        out->will.topic = in_string(in);
        out->will.payload = in_binary(in);
        if (!in->error && !topic_name_valid(out->will.topic)) {
            in->error = PACKET_BAD_TOPIC;
        }
    }
    /* MQTT 3.1 lets a client set the flags and leave the fields out. */
    bool lenient = out->level == 3;
    if (out->has_user && lenient && in->n == 0 && !in->error) {
        out->has_user = out->has_password = false;
    }
    if (out->has_user) {
        out->user = in_string(in);
    }
    if (out->has_password && lenient && in->n == 0 && !in->error) {
        out->has_password = false;
    }
    if (out->has_password) {
        out->password = in_binary(in);
    }
}

enum packet_error packet_decode_connect(uint8_t flags, struct slice body, struct packet_connect *out)
{
    *out = (struct packet_connect){0};
    if (flags != 0) {
        return PACKET_BAD_FLAGS;
    }
    struct in in = {body.p, body.n, PACKET_OK};
    enum packet_error e = connect_protocol(&in, out);
    if (e) {
        return e;
    }
    e = connect_flags(out, in_u8(&in));
    if (e) {
        return e;
    }
    out->keepalive = in_u16(&in);
    connect_payload(&in, out);
    if (!in.error && in.n > 0) {
        in.error = PACKET_TRAILING;
    }
    return in.error;
}

enum packet_error packet_decode_publish(uint8_t flags, struct slice body, struct packet_publish *out)
{
    *out = (struct packet_publish){0};
    out->qos = (flags >> 1) & 3;
    out->dup = flags & 8;
    out->retain = flags & 1;
    if (out->qos == 3) {
        return PACKET_BAD_QOS; /* [MQTT-3.3.1-4] */
    }
    if (out->dup && out->qos == 0) {
        return PACKET_BAD_DUP; /* [MQTT-3.3.1-2] */
    }
    struct in in = {body.p, body.n, PACKET_OK};
    out->topic = in_string(&in);
    if (out->qos > 0) {
        out->id = in_id(&in);
    }
    if (!in.error && !topic_name_valid(out->topic)) {
        in.error = PACKET_BAD_TOPIC;
    }
    out->payload = slice_of(in.p, in.n);
    return in.error;
}

enum packet_error packet_decode_ack(uint8_t type, uint8_t flags, struct slice body, uint16_t *id)
{
    *id = 0;
    if (flags != (type == PKT_PUBREL ? 2 : 0)) {
        return PACKET_BAD_FLAGS; /* [MQTT-3.6.1-1] */
    }
    struct in in = {body.p, body.n, PACKET_OK};
    *id = in_id(&in);
    if (!in.error && in.n > 0) {
        in.error = PACKET_TRAILING;
    }
    return in.error;
}

enum packet_error packet_decode_filters(uint8_t flags, struct slice body, bool with_qos,
                                        struct packet_filters *out)
{
    *out = (struct packet_filters){.with_qos = with_qos};
    if (flags != 2) {
        return PACKET_BAD_FLAGS; /* [MQTT-3.8.1-1], [MQTT-3.10.1-1] */
    }
    struct in in = {body.p, body.n, PACKET_OK};
    out->id = in_id(&in);
    out->rest = slice_of(in.p, in.n);
    while (!in.error && in.n > 0) {
        struct slice filter = in_string(&in);
        uint8_t qos = with_qos ? in_u8(&in) : 0;
        if (!in.error && !topic_filter_valid(filter)) {
            in.error = PACKET_BAD_FILTER;
        }
        if (!in.error && qos > 2) {
            in.error = PACKET_BAD_QOS; /* reserved bits included [MQTT-3.8.3-4] */
        }
        out->count++;
    }
    if (!in.error && out->count == 0) {
        in.error = PACKET_NO_FILTER; /* [MQTT-3.8.3-3], [MQTT-3.10.3-2] */
    }
    return in.error;
}

bool packet_next_filter(struct packet_filters *filters, struct slice *filter, uint8_t *qos)
{
    if (filters->rest.n == 0) {
        return false;
    }
    struct in in = {filters->rest.p, filters->rest.n, PACKET_OK};
    *filter = in_binary(&in);
    *qos = filters->with_qos ? in_u8(&in) : 0;
    filters->rest = slice_of(in.p, in.n);
    return !in.error;
}

enum packet_error packet_decode_empty(uint8_t flags, struct slice body)
{
    return flags != 0 ? PACKET_BAD_FLAGS : body.n > 0 ? PACKET_TRAILING : PACKET_OK;
}

size_t packet_header_size(uint32_t body_size)
{
    return body_size < 128 ? 2 : body_size < 16384 ? 3 : body_size < 2097152 ? 4 : 5;
}

size_t packet_put_header(uint8_t *p, uint8_t first, uint32_t body_size)
{
    size_t i = 0;
    p[i++] = first;
    while (body_size >= 128) {
        p[i++] = (uint8_t)((body_size & 0x7F) | 0x80);
        body_size >>= 7;
    }
    p[i++] = (uint8_t)body_size;
    return i;
}

size_t packet_put_connack(uint8_t *p, bool session_present, uint8_t code)
{
    p[0] = PKT_CONNACK << 4;
    p[1] = 2;
    p[2] = session_present;
    p[3] = code;
    return 4;
}

size_t packet_put_ack(uint8_t *p, uint8_t type, uint16_t id)
{
    p[0] = (uint8_t)(type << 4 | (type == PKT_PUBREL ? 2 : 0));
    p[1] = 2;
    packet_put_u16(p + 2, id);
    return 4;
}

size_t packet_put_empty(uint8_t *p, uint8_t type)
{
    p[0] = (uint8_t)(type << 4);
    p[1] = 0;
    return 2;
}
