/*
 * fuzz_packet.c - the codec over arbitrary bytes: a stream of packets, as a client might send it.
 *
 * Beyond not crashing: each field lies inside its packet, what was decoded is well-formed by the slow
 * reference, and encoded again it gives the same bytes.
 */
#include "broker/msg.h"
#include "broker/packet.h"
#include "test/fuzz/fuzz.h"
#include "test/unit/broker/slow_topic.h"

static void inside(struct slice field, struct slice body)
{
    CHECK(field.n == 0 || (field.p >= body.p && field.p + field.n <= body.p + body.n));
}

static void text(struct slice field, struct slice body)
{
    inside(field, body);
    CHECK(slow_utf8(field.p, field.n));
}

/* ---- encoding again ---- */

struct out {
    uint8_t *p;
    size_t n;
};

static void put(struct out *out, const void *p, size_t n)
{
    if (n) {
        memcpy(out->p + out->n, p, n);
        out->n += n;
    }
}

static void put_u8(struct out *out, unsigned v)
{
    out->p[out->n++] = (uint8_t)v;
}

static void put_u16(struct out *out, uint16_t v)
{
    packet_put_u16(out->p + out->n, v);
    out->n += 2;
}

static void put_field(struct out *out, struct slice field)
{
    put_u16(out, (uint16_t)field.n);
    put(out, field.p, field.n);
}

static void same(struct out *out, struct slice body)
{
    CHECK(out->n == body.n && memcmp(out->p, body.p, body.n) == 0);
    free(out->p);
}

static struct out begin(struct slice body)
{
    return (struct out){malloc(body.n + 32), 0};
}

/* ---- one packet of each kind ---- */

static void connect(uint8_t flags, struct slice body)
{
    struct packet_connect c;
    if (packet_decode_connect(flags, body, &c) != PACKET_OK) {
        return;
    }
    CHECK(flags == 0 && (c.level == 3 || c.level == 4));
    text(c.client_id, body);
    text(c.user, body);
    text(c.will.topic, body);
    inside(c.will.payload, body);
    inside(c.password, body);
    CHECK(c.will.qos < 3);
    CHECK(!c.has_will || slow_name_valid(c.will.topic.p, c.will.topic.n));
    CHECK(c.level == 3 || c.has_user || !c.has_password);
    struct out out = begin(body);
    put_field(&out, slice_str(c.level == 3 ? "MQIsdp" : "MQTT"));
    put_u8(&out, c.level);
    put_u8(&out, (unsigned)(c.clean << 1 | c.has_will << 2 | c.will.qos << 3 | c.will.retain << 5 |
                            c.has_password << 6 | c.has_user << 7));
    if (c.level == 3) {
        out.p[out.n - 1] |= body.p[out.n - 1] & 0xC0; /* fields may be missing that the flags promise */
    }
    put_u16(&out, c.keepalive);
    put_field(&out, c.client_id);
    if (c.has_will) {
        put_field(&out, c.will.topic);
        put_field(&out, c.will.payload);
    }
    if (c.has_user) {
        put_field(&out, c.user);
    }
    if (c.has_password) {
        put_field(&out, c.password);
    }
    same(&out, body);
}

/* Read into a block and adopted, or copied: the same message. */
static void message(struct slice body, const struct packet_publish *p)
{
    struct msg *copied = msg_new(p->topic, p->payload, p->qos, p->retain, NULL);
    struct msg *adopted = msg_for_body((uint32_t)body.n);
    memcpy(msg_body(adopted), body.p, body.n);
    struct packet_publish own;
    CHECK(packet_decode_publish((uint8_t)(p->qos << 1 | p->retain), slice_of(msg_body(adopted), body.n),
                                &own) == PACKET_OK);
    msg_adopt(adopted, &own, NULL);
    CHECK(slice_eq(msg_topic(adopted), p->topic) && slice_eq(msg_payload(adopted), p->payload));
    CHECK(slice_eq(msg_wire(adopted), msg_wire(copied)));
    msg_unref(adopted);
    msg_unref(copied);
}

static void publish(uint8_t flags, struct slice body)
{
    struct packet_publish p;
    if (packet_decode_publish(flags, body, &p) != PACKET_OK) {
        return;
    }
    text(p.topic, body);
    inside(p.payload, body);
    CHECK(slow_name_valid(p.topic.p, p.topic.n));
    CHECK(p.qos < 3 && (p.qos > 0) == (p.id > 0) && !(p.qos == 0 && p.dup));
    CHECK(flags == (p.dup << 3 | p.qos << 1 | p.retain));
    struct out out = begin(body);
    put_field(&out, p.topic);
    if (p.qos) {
        put_u16(&out, p.id);
    }
    put(&out, p.payload.p, p.payload.n);
    same(&out, body);
    message(body, &p);
}

static void ack(uint8_t type, uint8_t flags, struct slice body)
{
    uint16_t id;
    if (packet_decode_ack(type, flags, body, &id) == PACKET_OK) {
        uint8_t p[4];
        CHECK(packet_put_ack(p, type, id) == 4 && id > 0);
        CHECK(p[0] == (type << 4 | flags) && p[1] == body.n && memcmp(p + 2, body.p, 2) == 0);
    }
}

static void filters(uint8_t flags, struct slice body, bool with_qos)
{
    struct packet_filters f;
    if (packet_decode_filters(flags, body, with_qos, &f) != PACKET_OK) {
        return;
    }
    CHECK(f.id > 0 && f.count > 0);
    struct out out = begin(body);
    struct slice filter;
    uint8_t qos;
    uint32_t n = 0;
    put_u16(&out, f.id);
    for (; packet_next_filter(&f, &filter, &qos); n++) {
        text(filter, body);
        CHECK(slow_filter_valid(filter.p, filter.n) && qos < 3);
        put_field(&out, filter);
        if (with_qos) {
            put_u8(&out, qos);
        }
    }
    CHECK(n == f.count);
    same(&out, body);
}

static void empty(uint8_t flags, struct slice body)
{
    CHECK((packet_decode_empty(flags, body) == PACKET_OK) == (flags == 0 && body.n == 0));
}

/* Every decoder on every body: they do not know the type they were called for. */
static void decode(const struct packet_frame *frame, struct slice body)
{
    connect(frame->flags, body);
    publish(frame->flags, body);
    filters(frame->flags, body, true);
    filters(frame->flags, body, false);
    for (uint8_t type = PKT_PUBACK; type <= PKT_PUBCOMP; type++) {
        ack(type, frame->flags, body);
    }
    empty(frame->flags, body);
}

static void check_frame(const uint8_t *data, size_t size, const struct packet_frame *frame)
{
    uint8_t header[PACKET_MAX_HEADER];
    struct packet_frame again;
    CHECK(frame->header_size >= 2 && frame->header_size <= PACKET_MAX_HEADER && frame->header_size <= size);
    CHECK(frame->body_size <= PACKET_MAX_BODY);
    CHECK((frame->type << 4 | frame->flags) == data[0]);
    size_t n = packet_put_header(header, data[0], frame->body_size);
    CHECK(n == packet_header_size(frame->body_size) && n <= frame->header_size);
    CHECK(packet_frame(header, n, &again) == 1 && again.body_size == frame->body_size);
    CHECK(packet_frame(header, n - 1, &again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        struct packet_frame frame;
        int framed = packet_frame(data + at, size - at, &frame);
        if (framed <= 0) {
            break;
        }
        check_frame(data + at, size - at, &frame);
        at += frame.header_size;
        size_t n =
            frame.body_size < size - at ? frame.body_size : size - at; /* the last one may be cut short */
        uint8_t *exact = malloc(n + 1); /* a block of its own, so that a byte too many is seen */
        uint8_t *body = exact + 1;
        memcpy(body, data + at, n);
        decode(&frame, slice_of(body, n));
        free(exact);
        at += n;
    }
    return 0;
}
