/*
 * fuzz_output.c - what goes out: answers and messages through the queue and the window into a transport that
 * takes them in any pieces, against an encoder that is as plain as can be.
 *
 * The stream that came out must be, byte by byte, what was put in; on a transport with frames each packet
 * must begin an element of its own. And the broker's own decoder takes every message for what it was.
 */
#include "broker/bytes.h"
#include "broker/outq.h"
#include "test/fuzz/fuzz.h"
#include "test/unit/broker/fake_transport.h"

enum { STARTS = 1 << 17, QUEUED = 64 };

static struct {
    struct outq q;
    struct window window;
    struct fake_transport t;
    struct transport_ops ops;
    struct bytes expected; /* from the first byte on; came: how many of them went out */
    size_t came;
    struct waiting {
        uint8_t *p;
        size_t n;
    } waiting[QUEUED]; /* answers in the queue */
    size_t waits;
    bool framed, broken;
    size_t start[STARTS], starts; /* where packets begin in the stream */
    size_t next_start;            /* the first that was not seen to begin an element */
} run;

static ssize_t watched_writev(struct transport *t, const struct iovec *iov, int count)
{
    size_t at = run.came;
    for (int i = 0; run.framed && i < count; i++) {
        if (run.next_start < run.starts && run.start[run.next_start] == at) {
            run.next_start++;
        }
        at += iov[i].iov_len;
        CHECK(run.next_start == run.starts || run.start[run.next_start] >= at); /* none in the midst */
    }
    ssize_t n = fake_transport_writev(t, iov, count);
    if (n > 0) {
        run.came += (size_t)n;
        while (run.next_start > 0 && run.start[run.next_start - 1] >= run.came) {
            run.next_start--; /* it was not taken yet */
        }
    }
    return n;
}

/* ---- the plain encoder ---- */

static void plain_begin(void)
{
    if (run.starts < STARTS) {
        run.start[run.starts++] = run.expected.len;
    }
}

static void plain_bytes(struct bytes *to, const void *p, size_t n)
{
    CHECK(bytes_add(to, p, n, SIZE_MAX));
}

static void plain_u8(struct bytes *to, unsigned v)
{
    uint8_t byte = (uint8_t)v;
    plain_bytes(to, &byte, 1);
}

static void plain_header(struct bytes *to, unsigned first, size_t n)
{
    plain_u8(to, first);
    do { /* 2.2.3 */
        plain_u8(to, n % 128 + (n >= 128 ? 128 : 0));
        n /= 128;
    } while (n > 0);
}

static void plain_publish(const struct outgoing *out, struct slice topic)
{
    struct slice payload = msg_payload(out->msg);
    struct bytes *to = &run.expected;
    plain_begin();
    plain_header(to, 0x30u | (out->dup ? 8u : 0) | out->qos * 2u | (out->retain ? 1u : 0),
                 2 + topic.n + (out->qos ? 2 : 0) + payload.n);
    plain_u8(to, (unsigned)(topic.n >> 8));
    plain_u8(to, (unsigned)(topic.n & 255));
    plain_bytes(to, topic.p, topic.n);
    if (out->qos) {
        plain_u8(to, out->id >> 8);
        plain_u8(to, out->id & 255u);
    }
    plain_bytes(to, payload.p, payload.n);
}

/* ---- steps ---- */

/* It has left the queue. One that does not fit is overtaken by smaller ones: these answers have no order. */
static void left_queue(const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i < run.waits && (run.waiting[i].n != n || memcmp(run.waiting[i].p, p, n) != 0)) {
        i++;
    }
    CHECK(i < run.waits);
    free(run.waiting[i].p);
    run.waits--;
    memmove(&run.waiting[i], &run.waiting[i + 1], (run.waits - i) * sizeof run.waiting[0]);
    plain_begin();
    plain_bytes(&run.expected, p, n);
}

static void fill(void)
{
    size_t at = run.window.used;
    uint32_t left = outq_fill(&run.q, &run.window);
    for (; at < run.window.used; left--) {
        struct packet_frame frame;
        CHECK(packet_frame(run.window.bytes + at, run.window.used - at, &frame) == 1);
        left_queue(run.window.bytes + at, (size_t)frame.header_size + frame.body_size);
        at += (size_t)frame.header_size + frame.body_size;
    }
    CHECK(left == 0 && run.q.count == run.waits);
}

static void put_answer(uint8_t kind, uint16_t id)
{
    uint8_t p[1100] = {0};
    size_t n;
    if (run.q.count >= QUEUED) {
        return;
    }
    if (kind % 4 == 0) {
        n = packet_put_connack(p, kind & 4, kind >> 3);
    } else if (kind % 4 == 1) {
        n = packet_put_ack(p, (uint8_t)(PKT_PUBACK + (kind >> 2) % 4), id ? id : 1);
    } else if (kind % 4 == 2) {
        n = packet_put_empty(p, PKT_PINGRESP);
    } else { /* SUBACK */
        size_t codes = 1 + id % 1000;
        n = packet_put_header(p, PKT_SUBACK << 4, (uint32_t)(2 + codes));
        packet_put_u16(p + n, 7);
        n += 2 + codes;
    }
    CHECK(outq_put(&run.q, p, n) == 0);
    uint8_t *copy = malloc(n);
    memcpy(copy, p, n);
    run.waiting[run.waits++] = (struct waiting){copy, n};
}

static struct msg *make(uint8_t size, uint8_t topic_size, uint8_t how)
{
    static uint8_t payload[140001], topic[70000];
    static const size_t sizes[] = {0, 1, 20, 100, 900, 1023, 1025, 2100, 4000, 16300, 17000, 70000, 140000};
    static const size_t topics[] = {1, 2, 10, 200, 1020, 2000, 4000, 65535};
    size_t n = sizes[size % 13] + (size >> 4 & 1), m = topics[topic_size % 8];
    memset(payload, how, n);
    memset(topic, 'a' + how % 20, m);
    memcpy(topic, "m/", m < 2 ? m : 2);
    struct slice t = slice_of(topic, m), p = slice_of(payload, n);
    struct msg *msg = msg_new(t, p, how % 3, how & 4, NULL);
    CHECK(msg);
    return msg;
}

static void put_message(struct input *in, struct slice mount)
{
    uint8_t size = input_u8(in), topic_size = input_u8(in), how = input_u8(in);
    struct msg *msg = make(size, topic_size, how);
    struct outgoing out = {.kind = OUT_PUBLISH, .msg = msg, .qos = (how >> 3) % 3, .retain = how & 0x40};
    if (out.qos) {
        out.id = (uint16_t)(input_u8(in) << 8 | 1);
        out.dup = how & 0x80;
    }
    struct slice topic = msg_topic(msg);
    if (mount.n && topic.n > mount.n && memcmp(topic.p, mount.p, mount.n) == 0) {
        topic = slice_of(topic.p + mount.n, topic.n - mount.n);
    }
    if (window_has_room(&run.window) && run.expected.len < 4 << 20) {
        size_t before = run.expected.len;
        plain_publish(&out, topic);
        CHECK(window_put(&run.window, &out, mount) == run.expected.len - before);
    }
    msg_unref(msg);
}

static void put_release(uint16_t id)
{
    struct outgoing out = {.kind = OUT_PUBREL, .id = id ? id : 1};
    if (window_has_room(&run.window)) {
        plain_begin();
        plain_header(&run.expected, 0x62, 2);
        plain_u8(&run.expected, out.id >> 8);
        plain_u8(&run.expected, out.id & 255u);
        CHECK(window_put(&run.window, &out, slice_of(NULL, 0)) == 4);
    }
}

/* As conn.c does: the rest of last time, then the window. */
static void flush(void)
{
    uint64_t sent = run.came;
    enum outq_result result = run.broken ? OUTQ_ERROR : outq_write_rest(&run.q, &run.t.port, &sent);
    if (result == OUTQ_DONE) {
        result = outq_write(&run.q, &run.window, &run.t.port, &sent);
        CHECK(run.window.pieces == 0 && run.window.used == 0 && run.window.total == 0);
    }
    CHECK(sent == run.came);
    CHECK((result == OUTQ_BLOCKED) == (run.q.rest != NULL) || result == OUTQ_ERROR);
    run.broken |= result == OUTQ_ERROR;
}

static void settings(uint8_t how, uint8_t value)
{
    if (how == 0xFF) {
        run.t.write_error = -EPIPE;
    } else if (how & 1) {
        run.t.write_most = value < 128 ? value : (size_t)(value - 127) * 500;
    } else {
        run.t.write_limit = value == 255 ? FAKE_NO_LIMIT : value * 20;
    }
}

/* ---- what came out ---- */

static void check_stream(void)
{
    CHECK(run.t.out_size == run.came && run.came <= run.expected.len);
    CHECK(run.came == 0 || memcmp(run.t.out, bytes_front(&run.expected), run.came) == 0);
    for (size_t at = 0; at < run.came;) {
        struct packet_frame frame;
        if (packet_frame(run.t.out + at, run.came - at, &frame) != 1 ||
            frame.header_size + (size_t)frame.body_size > run.came - at) {
            break; /* broken off */
        }
        struct slice body = slice_of(run.t.out + at + frame.header_size, frame.body_size);
        struct packet_publish p;
        CHECK(frame.type != PKT_PUBLISH || packet_decode_publish(frame.flags, body, &p) == PACKET_OK);
        at += frame.header_size + (size_t)frame.body_size;
    }
}

static void finish(void)
{
    run.t.write_limit = FAKE_NO_LIMIT;
    run.t.write_most = 0;
    for (int i = 0; i < 10 && !run.broken; i++) {
        flush();
        fill();
    }
    CHECK(run.broken || (run.came == run.expected.len && run.waits == 0 && !run.q.rest));
    CHECK(run.broken || !run.framed || run.next_start == run.starts);
    check_stream();
    run.t.write_error = -EPIPE; /* what is still in the window goes with its references */
    run.framed = false;
    uint64_t sent = 0;
    outq_write(&run.q, &run.window, &run.t.port, &sent);
    outq_free(&run.q);
    fake_transport_free(&run.t);
    bytes_clear(&run.expected);
    while (run.waits > 0) {
        free(run.waiting[--run.waits].p);
    }
    CHECK(msg_bytes() == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    uint8_t flags = input_u8(&in);
    struct slice mount = slice_str(flags & 2 ? "m/" : "");
    run.q = (struct outq){0};
    run.window.used = run.window.total = 0;
    run.window.pieces = 0;
    run.came = run.starts = run.next_start = 0;
    run.framed = run.window.framed = flags & 1;
    run.broken = false;
    fake_transport_init(&run.t);
    run.ops = *run.t.port.ops;
    run.ops.writev = watched_writev;
    run.t.port.ops = &run.ops;
    while (in.n > 0) {
        uint8_t what = input_u8(&in), how;
        switch (what % 8) {
        case 0:
        case 1:
            how = input_u8(&in);
            put_answer(how, (uint16_t)(input_u8(&in) * 4));
            break;
        case 2:
        case 3:
        case 4:
            put_message(&in, mount);
            break;
        case 5:
            put_release((uint16_t)(input_u8(&in) * 257));
            break;
        case 6:
            how = input_u8(&in);
            settings(how, input_u8(&in));
            break;
        default:
            if (!run.q.rest) {
                fill();
            }
            flush();
            break;
        }
    }
    finish();
    return 0;
}
