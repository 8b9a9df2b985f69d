/*
 * session_model.h - a witness of one connection: sees all bytes in both directions and says when the broker
 * wrote what no client may get. To be included once in a program.
 *
 * From the client's bytes it notes what is owed an answer (in order) and what was ever published; from the
 * broker's bytes it takes whole packets and asks: is it well-formed, may a server send it, does it answer
 * something, in the order of the standard, is its message one that somebody published? The client's bytes may
 * be anything: where they break a rule the broker closes and writes no more, so what is noted too much does
 * not matter.
 */
#ifndef BRAMBLE_TEST_SESSION_MODEL_H
#define BRAMBLE_TEST_SESSION_MODEL_H

#include "broker/bytes.h"
#include "broker/packet.h"
#include "broker/topic.h"
#include "test/fuzz/fuzz.h"

struct owed {
    uint8_t type; /* of the packet that asks */
    uint16_t id;
    uint32_t codes; /* SUBSCRIBE: filters */
    bool again;     /* PUBLISH: perhaps one that was not answered yet, and then it is not answered twice */
};

struct witness {
    struct bytes up, down; /* what is no whole packet yet */
    struct owed *owed;
    uint32_t owed_count, owed_cap;
    bool deaf; /* the client's bytes make no sense: no longer looked at */
    bool greeted, refused, present, clean;
    uint8_t level;
    struct slice mount;
    struct owed *acks; /* what a good client has to say to what it got; the oldest first */
    uint32_t ack_count, ack_cap;
};

/* ---- every message that was ever published, by its hash ---- */

enum { KNOWN = 1 << 14 };

static uint8_t known[KNOWN];

static inline uint32_t known_hash(struct slice mount, struct slice topic, struct slice payload)
{
    uint32_t h = 2166136261u;
    const struct slice parts[] = {mount, topic, slice_str("\n"), payload};
    for (size_t k = 0; k < 4; k++) {
        for (size_t i = 0; i < parts[k].n; i++) {
            h = (h ^ parts[k].p[i]) * 16777619u;
        }
    }
    return (h ^ h >> 14) % KNOWN;
}

static inline void known_add(struct slice mount, struct slice topic, struct slice payload)
{
    known[known_hash(mount, topic, payload)] = 1;
}

/* ---- lists ---- */

static inline void owed_add(struct owed **list, uint32_t *count, uint32_t *cap, struct owed one)
{
    if (*count == *cap) {
        *cap = *cap ? 2 * *cap : 16;
        *list = realloc(*list, *cap * sizeof one);
    }
    (*list)[(*count)++] = one;
}

static inline void owed_drop(struct owed *list, uint32_t *count, uint32_t at)
{
    memmove(list + at, list + at + 1, (--*count - at) * sizeof *list);
}

static inline void witness_free(struct witness *w)
{
    bytes_clear(&w->up);
    bytes_clear(&w->down);
    free(w->owed);
    free(w->acks);
    *w = (struct witness){0};
}

/* ---- the client's bytes ---- */

static inline uint32_t count_filters(uint8_t flags, struct slice body)
{
    struct packet_filters filters;
    return packet_decode_filters(flags, body, true, &filters) == PACKET_OK ? filters.count : 0;
}

static inline void saw_connect(struct witness *w, uint8_t flags, struct slice body)
{
    struct packet_connect c;
    enum packet_error error = packet_decode_connect(flags, body, &c);
    if (!error && !w->level) {
        w->level = c.level;
        w->clean = c.clean;
        if (c.has_will) {
            known_add(w->mount, c.will.topic, c.will.payload);
        }
    }
}

static inline void saw_publish(struct witness *w, uint8_t flags, struct slice body)
{
    struct packet_publish p;
    if (packet_decode_publish(flags, body, &p) != PACKET_OK) {
        w->deaf = true;
        return;
    }
    known_add(w->mount, p.topic, p.payload);
    if (p.qos) {
        struct owed one = {.type = p.qos == 1 ? PKT_PUBACK : PKT_PUBREC, .id = p.id};
        for (uint32_t i = 0; i < w->owed_count; i++) {
            one.again |= w->owed[i].type == one.type && w->owed[i].id == one.id;
        }
        owed_add(&w->owed, &w->owed_count, &w->owed_cap, one);
    }
}

static inline void saw_up(struct witness *w, const struct packet_frame *frame, struct slice body)
{
    uint16_t id = body.n >= 2 ? packet_get_u16(body.p) : 0;
    uint8_t flags = w->level == 3 && frame->type != PKT_PUBLISH ? frame->flags & 7 : frame->flags;
    struct owed one = {.id = id};
    switch (frame->type) {
    case PKT_CONNECT:
        saw_connect(w, flags, body);
        break;
    case PKT_PUBLISH:
        saw_publish(w, flags, body);
        break;
    case PKT_PUBREC:
        one.type = PKT_PUBREL;
        break;
    case PKT_PUBREL:
        one.type = PKT_PUBCOMP;
        break;
    case PKT_SUBSCRIBE:
        one.type = PKT_SUBACK;
        one.codes = count_filters(flags, body);
        break;
    case PKT_UNSUBSCRIBE:
        one.type = PKT_UNSUBACK;
        break;
    case PKT_PINGREQ:
        one = (struct owed){.type = PKT_PINGRESP};
        break;
    default:
        break;
    }
    if (one.type) {
        owed_add(&w->owed, &w->owed_count, &w->owed_cap, one);
    }
}

/* Takes whole packets off the front. */
static inline void witness_walk(struct witness *w, struct bytes *stream,
                                void (*saw)(struct witness *, const struct packet_frame *, struct slice))
{
    while (stream->len > 0 && !w->deaf) {
        struct packet_frame frame;
        int framed = packet_frame(bytes_front(stream), stream->len, &frame);
        w->deaf |= framed < 0;
        if (framed <= 0 || (uint64_t)frame.header_size + frame.body_size > stream->len) {
            return;
        }
        saw(w, &frame, slice_of(bytes_front(stream) + frame.header_size, frame.body_size));
        bytes_drop(stream, (size_t)frame.header_size + frame.body_size);
    }
}

static inline void witness_up(struct witness *w, const void *p, size_t n)
{
    if (!w->deaf) {
        CHECK(bytes_add(&w->up, p, n, SIZE_MAX));
        witness_walk(w, &w->up, saw_up);
    }
}

/* ---- the broker's bytes ---- */

static inline bool acks_in_order(uint8_t type, uint8_t asked)
{
    bool ack = type == PKT_PUBACK || type == PKT_PUBREC;
    return ack && (asked == PKT_PUBACK || asked == PKT_PUBREC);
}

/* Finds what this packet answers and takes it off; PUBACK and PUBREC in the order of the PUBLISHes
 * [MQTT-4.6.0-2], [MQTT-4.6.0-3], PUBREL in the order of the PUBRECs [MQTT-4.6.0-4]. */
static inline bool answers(struct witness *w, uint8_t type, uint16_t id, uint32_t codes)
{
    for (uint32_t i = 0; i < w->owed_count; i++) {
        const struct owed *o = &w->owed[i];
        if (o->type == type && o->id == id && o->codes == codes) {
            owed_drop(w->owed, &w->owed_count, i);
            return true;
        }
        if ((acks_in_order(type, o->type) && !o->again) || (type == PKT_PUBREL && o->type == type)) {
            return false;
        }
    }
    return false;
}

static inline void got_publish(struct witness *w, uint8_t flags, struct slice body)
{
    struct packet_publish p;
    CHECK(packet_decode_publish(flags, body, &p) == PACKET_OK);
    CHECK(!p.dup || !w->clean);
    CHECK(known[known_hash(slice_of(NULL, 0), p.topic, p.payload)] ||
          (w->mount.n && known[known_hash(w->mount, p.topic, p.payload)]));
    if (p.qos) {
        owed_add(&w->acks, &w->ack_count, &w->ack_cap,
                 (struct owed){.type = p.qos == 1 ? PKT_PUBACK : PKT_PUBREC, .id = p.id});
    }
}

static inline void got_connack(struct witness *w, struct slice body)
{
    CHECK(body.n == 2 && body.p[0] <= 1 && body.p[1] <= CONNACK_REFUSED);
    CHECK(body.p[1] == 0 || body.p[0] == 0);               /* [MQTT-3.2.2-4] */
    CHECK(body.p[0] == 0 || (w->level == 4 && !w->clean)); /* [MQTT-3.2.2-1] */
    w->refused = body.p[1] != 0;
    w->present = body.p[0] == 1;
    w->greeted = true;
}

static inline void got_answer(struct witness *w, const struct packet_frame *frame, struct slice body)
{
    CHECK(frame->flags == (frame->type == PKT_PUBREL ? 2 : 0));
    CHECK(frame->type == PKT_PINGRESP ? body.n == 0 : frame->type == PKT_SUBACK ? body.n > 2 : body.n == 2);
    uint16_t id = body.n ? packet_get_u16(body.p) : 0;
    for (size_t i = 2; i < body.n; i++) {
        CHECK(body.p[i] <= 2 || body.p[i] == SUBACK_FAILURE); /* [MQTT-3.9.3-2] */
    }
    bool answer = answers(w, frame->type, id, body.n > 2 ? (uint32_t)body.n - 2 : 0);
    CHECK(answer || (frame->type == PKT_PUBREL && !w->clean)); /* sent again after a resume */
    if (frame->type == PKT_PUBREL) {
        owed_add(&w->acks, &w->ack_count, &w->ack_cap, (struct owed){.type = PKT_PUBCOMP, .id = id});
    } else if (frame->type == PKT_PUBREC) {
        owed_add(&w->acks, &w->ack_count, &w->ack_cap, (struct owed){.type = PKT_PUBREL, .id = id});
    }
}

static inline void saw_down(struct witness *w, const struct packet_frame *frame, struct slice body)
{
    CHECK(!w->refused);
    CHECK(w->greeted == (frame->type != PKT_CONNACK)); /* first, and once [MQTT-3.2.0-1] */
    CHECK(frame->header_size == packet_header_size(frame->body_size));
    switch (frame->type) {
    case PKT_CONNACK:
        CHECK(frame->flags == 0);
        got_connack(w, body);
        break;
    case PKT_PUBLISH:
        got_publish(w, frame->flags, body);
        break;
    case PKT_PUBACK:
    case PKT_PUBREC:
    case PKT_PUBREL:
    case PKT_PUBCOMP:
    case PKT_SUBACK:
    case PKT_UNSUBACK:
    case PKT_PINGRESP:
        got_answer(w, frame, body);
        break;
    default:
        CHECK(!"a server may not send this");
    }
}

static inline void witness_down(struct witness *w, const void *p, size_t n)
{
    bool deaf = w->deaf;
    w->deaf = false;
    CHECK(bytes_add(&w->down, p, n, SIZE_MAX));
    witness_walk(w, &w->down, saw_down);
    CHECK(!w->deaf); /* a length that is none */
    w->deaf = deaf;
}

#endif
