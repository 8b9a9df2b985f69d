/*
 * session_steps.h - the language of fuzz_session.c's inputs: steps and how they stand in bytes, the packets
 * they make, and the mutator that takes steps as its units. To be included once in a program.
 *
 *     flags, then steps:   what  who  a  b          b and, for STEP_RAW, a are how many raw bytes follow
 */
#ifndef BRAMBLE_TEST_SESSION_STEPS_H
#define BRAMBLE_TEST_SESSION_STEPS_H

#include "broker/packet.h"
#include "test/fuzz/fuzz.h"

/* The first six are a packet each; STEP_EMPTY is PINGREQ or DISCONNECT. New ones at the end, or the corpus
 * means something else. */
/* clang-format off */
#define STEP_KINDS(X)                                                                             \
    X(CONNECT) X(SUBSCRIBE) X(UNSUBSCRIBE) X(PUBLISH) X(ACK) X(EMPTY) X(OPEN) X(READY) X(OWED)    \
    X(STORM) X(RAW) X(WRITE) X(READ) X(END) X(TIME) X(COMMIT) X(LIMITS) X(RIGHTS) X(GREET)        \
    X(VERDICT) X(SETTLE) X(LOCAL) X(EXPIRE) X(WRAP) X(PAUSE) X(NO_MEMORY) X(MANY)

enum step_kind {
#define X(name) STEP_##name,
    STEP_KINDS(X)
#undef X
    STEPS
};

static const char *const step_names[] = {
#define X(name) #name,
    STEP_KINDS(X)
#undef X
};
/* clang-format on */

enum { STEPS_MOST = 400, STEP_SIZE = 4, RAW_MOST = 1023, PACKET_MOST = 80000, LIMITS = 24, ACLS = 4 };

struct step {
    uint8_t what, who, a, b;
    struct slice bytes;
};

/* False at the end. */
static inline bool step_next(struct input *in, struct step *step)
{
    if (in->n == 0) {
        return false;
    }
    step->what = input_u8(in);
    step->who = input_u8(in);
    step->a = input_u8(in);
    step->b = input_u8(in);
    step->bytes = slice_of(NULL, 0);
    if (step->what % STEPS == STEP_RAW) {
        step->bytes = input_bytes(in, (size_t)(step->a & 3) << 8 | step->b);
    }
    return true;
}

/* ---- what stands for what ---- */

static const char *const acl_texts[ACLS] = {
    "topic readwrite a/#\n",
    "user u1\ntopic read #\ntopic deny a/b\nuser u2\ntopic write #\n",
    "pattern readwrite %c/#\npattern readwrite a/%u\n",
    "topic read $SYS/#\ntopic deny #\n",
};

static inline struct slice step_topic(uint8_t i)
{
    static const char *const topics[] = {
        "a",      "a/b",
        "a/b/c",  "/",
        "$SYS/x", "$x",
        "m/a",    "b/u1",
        "a/u1",   "\xC3\xA4/\xE2\x82\xAC",
        "//",     "c",
        "a//b",   "m/a/b/c",
        "b",      "1/2/3/4/5/6/7/8/9",
    };
    return slice_str(topics[i % 16]);
}

static inline struct slice step_filter(uint8_t i)
{
    static const char *const filters[] = {
        "#",
        "+",
        "a/#",
        "a/+",
        "+/b",
        "a/b/c",
        "$SYS/#",
        "/",
        "+/+",
        "a",
        "a/b",
        "a/b/#",
        "b",
        "$share/g/a",
        "m/#",
        "+/#",
        "/+",
        "c/#",
        "+/u1",
        "a/+/c",
        "$x",
        "\xC3\xA4/#",
        "$SYS/+",
        "b/+",
        "//",
        "a//b",
        "+/+/+",
        "m/a",
        "1/+/3/+/5/+/7/+/#",
        "a/u1",
        "#/no",
        "a+",
    };
    return slice_str(filters[i % 32]);
}

static inline uint32_t step_limit(uint8_t i)
{
    static const uint32_t values[] = {0,    1,    2,     3,     5,      20, 64, 100,
                                      1000, 5000, 10000, 65535, 200000, 4,  10, 50};
    return values[i >> 1 & 15];
}

static inline int64_t step_time(uint8_t a)
{
    static const int64_t ms[] = {1, 2, 10, 1499, 1500, 1501, 5000, 10000, 15000, 90000, 100000000, 0};
    return ms[a % 12];
}

static inline struct slice step_client(uint8_t i)
{
    static const char *const ids[] = {"",        "a", "b", "c", "local", "a/+", "abcdefghijklmnopqrstuvwxyz",
                                      "\xC3\xA4"};
    return slice_str(ids[i % 8]);
}

static inline struct slice step_user(uint8_t i)
{
    static const char *const users[] = {"u1", "u2", "", "+"};
    return slice_str(users[i % 4]);
}

static inline size_t step_payload(uint8_t i)
{
    static const size_t sizes[] = {0, 1, 5, 130, 1030, 4100, 66000, 20};
    return sizes[i % 8];
}

/* ---- packets ---- */

static inline size_t put_text(uint8_t *p, struct slice s)
{
    packet_put_u16(p, (uint16_t)s.n);
    memcpy(p + 2, s.p, s.n);
    return s.n + 2;
}

/* a: clean, will, QoS of the will (2), retain of the will, user, password, MQTT 3.1; b: client id (3), user
 * (2), keep alive (2) */
static inline size_t body_connect(uint8_t *p, uint8_t a, uint8_t b)
{
    bool old = a & 0x80, will = a & 2, user = a & 0x20, password = a & 0x40 && user;
    size_t n = put_text(p, slice_str(old ? "MQIsdp" : "MQTT"));
    p[n++] = old ? 3 : 4;
    p[n++] = (uint8_t)((a & 1) << 1 | (will ? 4 | ((a >> 2 & 3) % 3) << 3 | (a >> 4 & 1) << 5 : 0) |
                       password << 6 | user << 7);
    static const uint16_t alive[] = {0, 1, 60, 65535};
    packet_put_u16(p + n, alive[b >> 5 & 3]);
    n += 2;
    n += put_text(p + n, step_client(b));
    if (will) {
        n += put_text(p + n, step_topic(b >> 2));
        n += put_text(p + n, slice_str(b & 1 ? "" : "will"));
    }
    if (user) {
        n += put_text(p + n, step_user(b >> 3));
    }
    if (password) {
        n += put_text(p + n, slice_str("secret"));
    }
    return n;
}

/* a: filter (5), QoS (2); b: how many more (2), identifier */
static inline size_t body_filters(uint8_t *p, uint8_t a, uint8_t b, bool with_qos)
{
    size_t n = 2;
    packet_put_u16(p, (uint16_t)((b >> 2) + 1));
    for (int i = 0; i <= (b & 3); i++) {
        n += put_text(p + n, step_filter((uint8_t)(a + i * 7)));
        if (with_qos) {
            p[n++] = (a >> 5 & 3) % 3;
        }
    }
    return n;
}

/* More filters than a full turn has time for. a: the first of eight (4), QoS (2), UNSUBSCRIBE; b: how many */
static inline size_t body_many(uint8_t *p, uint8_t a, uint8_t b)
{
    size_t n = 2;
    packet_put_u16(p, (uint16_t)(b + 1));
    for (int i = 0; i < 64 + 2 * b && n < PACKET_MOST / 2; i++) {
        n += put_text(p + n, step_filter((uint8_t)((a & 15) + i % 8)));
        if (!(a & 0x80)) {
            p[n++] = (a >> 5 & 3) % 3;
        }
    }
    return n;
}

/* a: topic (4), QoS (2), retain, DUP; b: payload's size (3), identifier (5) */
static inline size_t body_publish(uint8_t *p, uint8_t a, uint8_t b)
{
    size_t n = put_text(p, step_topic(a));
    if ((a >> 4 & 3) % 3 > 0) {
        packet_put_u16(p + n, (uint16_t)((b >> 3) + 1));
        n += 2;
    }
    size_t payload = step_payload(b);
    for (size_t i = 0; i < payload; i++) {
        p[n + i] = (uint8_t)(a + b + i);
    }
    return n + payload;
}

/* Writes the packet of a step and returns its size, at most PACKET_MOST. */
static inline size_t step_packet(uint8_t *out, uint8_t what, uint8_t a, uint8_t b)
{
    static uint8_t body[PACKET_MOST];
    uint8_t first = 0, qos = (a >> 4 & 3) % 3;
    size_t n = 0;
    switch (what) {
    case STEP_CONNECT:
        first = PKT_CONNECT << 4;
        n = body_connect(body, a, b);
        break;
    case STEP_SUBSCRIBE:
        first = PKT_SUBSCRIBE << 4 | 2;
        n = body_filters(body, a, b, true);
        break;
    case STEP_UNSUBSCRIBE:
        first = PKT_UNSUBSCRIBE << 4 | 2;
        n = body_filters(body, a, b, false);
        break;
    case STEP_PUBLISH:
        first = (uint8_t)(PKT_PUBLISH << 4 | (qos && a & 0x80 ? 8 : 0) | qos << 1 | (a >> 6 & 1));
        n = body_publish(body, a, b);
        break;
    case STEP_MANY:
        first = (a & 0x80 ? PKT_UNSUBSCRIBE : PKT_SUBSCRIBE) << 4 | 2;
        n = body_many(body, a, b);
        break;
    case STEP_ACK:
        return packet_put_ack(out, (uint8_t)(PKT_PUBACK + (a & 3)), (uint16_t)(a >> 2 << 8 | b));
    default:
        return packet_put_empty(out, a & 1 ? PKT_DISCONNECT : PKT_PINGREQ);
    }
    size_t head = packet_put_header(out, first, (uint32_t)n);
    memcpy(out + head, body, n);
    return head + n;
}

/* ---- the mutator ---- */

static inline size_t step_size(const uint8_t *p, size_t n)
{
    struct input in = {p, n};
    struct step step;
    return step_next(&in, &step) ? n - in.n : 0;
}

/* Where a step begins, somewhere in the input; n when there is none. */
static inline size_t step_pick(const uint8_t *p, size_t n, unsigned chance)
{
    size_t steps = 0;
    for (size_t at = 1; at < n; at += step_size(p + at, n - at)) {
        steps++;
    }
    size_t at = 1;
    for (size_t i = steps ? chance % steps : 0; i > 0; i--) {
        at += step_size(p + at, n - at);
    }
    return steps ? at : n;
}

static inline unsigned next_chance(unsigned *seed)
{
    *seed = *seed * 1103515245u + 12345u;
    return *seed >> 8;
}

static inline size_t insert_at(uint8_t *data, size_t size, size_t max, size_t at, const uint8_t *p, size_t n)
{
    if (size + n > max) {
        return size;
    }
    memmove(data + at + n, data + at, size - at);
    memcpy(data + at, p, n);
    return size + n;
}

static inline size_t remove_at(uint8_t *data, size_t size, size_t at, size_t n)
{
    memmove(data + at, data + at + n, size - at - n);
    return size - n;
}

/* A step's own bytes: a, b, who or the kind; of a raw step its bytes, with the length mended. */
static inline size_t change_step(uint8_t *data, size_t size, size_t max, size_t at, unsigned *seed)
{
    uint8_t *step = data + at;
    size_t n = step_size(step, size - at), raw = n > STEP_SIZE ? n - STEP_SIZE : 0;
    if (raw == 0 || next_chance(seed) % 8 == 0) {
        static const uint8_t which[] = {0, 1, 1, 2, 2, 2, 3, 3, 3};
        size_t i = which[next_chance(seed) % sizeof which];
        if (i < n && !(raw && i != 1)) {
            step[i] = next_chance(seed) % 4 ? (uint8_t)next_chance(seed)
                                            : (uint8_t)(step[i] ^ 1u << next_chance(seed) % 8);
        }
        return size;
    }
    uint8_t bytes[RAW_MOST + 1];
    memcpy(bytes, step + STEP_SIZE, raw);
    size_t most = max - (size - raw) < RAW_MOST ? max - (size - raw) : RAW_MOST;
    size_t now = LLVMFuzzerMutate(bytes, raw, most);
    step[2] = (uint8_t)((step[2] & ~3u) | now >> 8);
    step[3] = (uint8_t)now;
    size = remove_at(data, size, at + STEP_SIZE, raw);
    return insert_at(data, size, max, at + STEP_SIZE, bytes, now);
}

static inline size_t add_step(uint8_t *data, size_t size, size_t max, size_t at, unsigned *seed)
{
    uint8_t step[STEP_SIZE] = {(uint8_t)(next_chance(seed) % STEPS), (uint8_t)(next_chance(seed) % 6),
                               (uint8_t)next_chance(seed), (uint8_t)next_chance(seed)};
    if (next_chance(seed) % 4 == 0) {
        step[1] |= 0x80;
    }
    if (step[0] == STEP_RAW) {
        step[2] = step[3] = 0;
    }
    return insert_at(data, size, max, at, step, STEP_SIZE);
}

/* A run of steps once more, elsewhere. */
static inline size_t copy_steps(uint8_t *data, size_t size, size_t max, size_t at, unsigned *seed)
{
    uint8_t run[4 * (STEP_SIZE + RAW_MOST)];
    size_t n = 0;
    for (unsigned i = next_chance(seed) % 4 + 1; i > 0 && at + n < size; i--) {
        n += step_size(data + at + n, size - at - n);
    }
    memcpy(run, data + at, n);
    return insert_at(data, size, max, step_pick(data, size, next_chance(seed)), run, n);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    if (size == 0) {
        data[0] = (uint8_t)next_chance(&seed);
        return 1;
    }
    for (unsigned rounds = next_chance(&seed) % 3 + 1; rounds > 0; rounds--) {
        size_t at = step_pick(data, size, next_chance(&seed));
        unsigned how = next_chance(&seed) % 16;
        if (how == 0) {
            data[0] ^= (uint8_t)(1u << next_chance(&seed) % 5);
        } else if (how < 4 || at == size) {
            size = add_step(data, size, max, next_chance(&seed) % 2 ? at : size, &seed);
        } else if (how < 6) {
            size = copy_steps(data, size, max, at, &seed);
        } else if (how < 8) {
            size = remove_at(data, size, at, step_size(data + at, size - at));
        } else {
            size = change_step(data, size, max, at, &seed);
        }
    }
    return size;
}

/* The beginning of one, the end of the other. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size,
                                 uint8_t *out, size_t max, unsigned seed)
{
    size_t head = step_pick(a, a_size, next_chance(&seed)), from = step_pick(b, b_size, next_chance(&seed));
    head = head < max ? head : max;
    memcpy(out, a, head);
    size_t tail = b_size - from < max - head ? b_size - from : max - head;
    memcpy(out + head, b + from, tail);
    return head + tail;
}

#endif
