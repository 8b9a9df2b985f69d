/*
 * test_packet.c - the codec: each packet, each error, the lengths at their bounds, and that nothing is read
 * outside the body.
 *
 * Every body is decoded from a heap block of exactly its size, so the address sanitizer sees a byte too many;
 * and each good packet is decoded again cut short at every byte, which must be an error or a shorter payload,
 * never a crash.
 */
#include "broker/packet.h"
#include "random.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static uint8_t *exact; /* the body of the packet under test */

static struct slice body_of(const void *p, size_t n)
{
    free(exact);
    exact = malloc(n ? n : 1);
    memcpy(exact, p, n);
    return slice_of(exact, n);
}

#define BODY(text) body_of(text, sizeof(text) - 1)

static int free_body(void **unused)
{
    (void)unused;
    free(exact);
    exact = NULL;
    return 0;
}

static void assert_slice(struct slice s, const char *text)
{
    assert_int_equal(s.n, strlen(text));
    assert_memory_equal(s.p, text, s.n);
}

/* ---- the fixed header ---- */

static void frames_at_each_bound_of_the_length(void **unused)
{
    static const struct {
        uint32_t size;
        const char *bytes;
        size_t n;
    } cases[] = {
        {0, "\x30\x00", 2},
        {1, "\x30\x01", 2},
        {127, "\x30\x7F", 2},
        {128, "\x30\x80\x01", 3},
        {16383, "\x30\xFF\x7F", 3},
        {16384, "\x30\x80\x80\x01", 4},
        {2097151, "\x30\xFF\xFF\x7F", 4},
        {2097152, "\x30\x80\x80\x80\x01", 5},
        {268435455, "\x30\xFF\xFF\xFF\x7F", 5},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct packet_frame frame = {0};
        const uint8_t *p = (const uint8_t *)cases[i].bytes;
        for (size_t n = 0; n < cases[i].n; n++) {
            assert_int_equal(packet_frame(body_of(p, n).p, n, &frame), 0);
        }
        assert_int_equal(packet_frame(body_of(p, cases[i].n).p, cases[i].n, &frame), 1);
        assert_int_equal(frame.body_size, cases[i].size);
        assert_int_equal(frame.header_size, cases[i].n);
        assert_int_equal(frame.type, PKT_PUBLISH);
        assert_int_equal(frame.flags, 0);
        uint8_t out[PACKET_MAX_HEADER];
        assert_int_equal(packet_header_size(cases[i].size), cases[i].n);
        assert_int_equal(packet_put_header(out, 0x30, cases[i].size), cases[i].n);
        assert_memory_equal(out, p, cases[i].n);
    }
}

static void refuses_a_fifth_length_byte(void **unused)
{
    struct packet_frame frame;
    (void)unused;
    assert_int_equal(packet_frame((const uint8_t *)"\x30\x80\x80\x80\x80", 5, &frame), -1);
    assert_int_equal(packet_frame((const uint8_t *)"\x30\xFF\xFF\xFF\xFF\x01", 6, &frame), -1);
    assert_int_equal(packet_frame((const uint8_t *)"\x30\x80\x80\x80", 4, &frame), 0);
}

/* The standard does not forbid more bytes than needed, up to four. */
static void takes_a_length_in_more_bytes_than_needed(void **unused)
{
    struct packet_frame frame;
    (void)unused;
    assert_int_equal(packet_frame((const uint8_t *)"\xC0\x80\x80\x00", 4, &frame), 1);
    assert_int_equal(frame.body_size, 0);
    assert_int_equal(frame.header_size, 4);
}

static void separates_type_and_flags(void **unused)
{
    (void)unused;
    for (int first = 0; first < 256; first++) {
        uint8_t p[2] = {(uint8_t)first, 5};
        struct packet_frame frame;
        assert_int_equal(packet_frame(p, 2, &frame), 1);
        assert_int_equal(frame.type, first / 16);
        assert_int_equal(frame.flags, first % 16);
    }
}

static void encodes_every_length_as_it_decodes_it(void **unused)
{
    struct random random = {99};
    (void)unused;
    for (int i = 0; i < 100000; i++) {
        uint32_t size = random_next(&random) >> (4 + random_below(&random, 28));
        uint8_t p[PACKET_MAX_HEADER];
        size_t n = packet_put_header(p, 0xE0, size);
        struct packet_frame frame;
        assert_int_equal(n, packet_header_size(size));
        assert_int_equal(packet_frame(p, n, &frame), 1);
        assert_int_equal(frame.body_size, size);
        assert_int_equal(frame.header_size, n);
    }
}

static void names_packets_and_errors(void **unused)
{
    (void)unused;
    assert_string_equal(packet_name(PKT_CONNECT), "CONNECT");
    assert_string_equal(packet_name(PKT_DISCONNECT), "DISCONNECT");
    assert_string_equal(packet_name(PKT_SUBSCRIBE), "SUBSCRIBE");
    assert_string_equal(packet_name(0), "reserved");
    assert_string_equal(packet_name(15), "reserved");
    assert_string_equal(packet_name(200), "reserved");
    assert_string_equal(packet_error_text(PACKET_OK), "ok");
    assert_non_null(strstr(packet_error_text(PACKET_BAD_DUP), "DUP"));
    assert_string_equal(packet_error_text((enum packet_error)1000), "unknown error");
}

/* ---- CONNECT ---- */

#define MQTT4 "\0\4MQTT\4"

static enum packet_error connect(struct slice body)
{
    struct packet_connect c;
    return packet_decode_connect(0, body, &c);
}

static void decodes_the_connect_of_the_standard(void **unused)
{
    /* figure 3.6, with a payload */
    struct packet_connect c;
    struct slice body = BODY(MQTT4 "\xCE\x00\x0A\0\2id\0\3w/t\0\2\xFF\0\0\4user\0\3p\0w");
    (void)unused;
    assert_int_equal(packet_decode_connect(0, body, &c), PACKET_OK);
    assert_int_equal(c.level, 4);
    assert_true(c.clean && c.has_will && c.has_user && c.has_password);
    assert_int_equal(c.keepalive, 10);
    assert_slice(c.client_id, "id");
    assert_slice(c.will.topic, "w/t");
    assert_int_equal(c.will.payload.n, 2); /* binary: anything goes */
    assert_memory_equal(c.will.payload.p, "\xFF\0", 2);
    assert_int_equal(c.will.qos, 1);
    assert_false(c.will.retain);
    assert_slice(c.user, "user");
    assert_int_equal(c.password.n, 3);
    assert_memory_equal(c.password.p, "p\0w", 3);
}

static void decodes_the_least_connect(void **unused)
{
    struct packet_connect c;
    (void)unused;
    assert_int_equal(packet_decode_connect(0, BODY(MQTT4 "\x00\xFF\xFF\0\0"), &c), PACKET_OK);
    assert_false(c.clean || c.has_will || c.has_user || c.has_password);
    assert_int_equal(c.keepalive, 65535);
    assert_int_equal(c.client_id.n, 0);
}

static void decodes_each_will_quality(void **unused)
{
    (void)unused;
    for (uint8_t qos = 0; qos < 3; qos++) {
        for (uint8_t retain = 0; retain < 2; retain++) {
            uint8_t bytes[] = "\0\4MQTT\4?\0\0\0\0\0\1t\0\0";
            struct packet_connect c;
            bytes[7] = (uint8_t)(0x04 | qos << 3 | retain << 5);
            assert_int_equal(packet_decode_connect(0, body_of(bytes, sizeof bytes - 1), &c), PACKET_OK);
            assert_int_equal(c.will.qos, qos);
            assert_int_equal(c.will.retain, retain);
            assert_int_equal(c.will.payload.n, 0);
        }
    }
}

static void refuses_connect_flags_that_contradict_each_other(void **unused)
{
    (void)unused;
    assert_int_equal(connect(BODY(MQTT4 "\x03\0\0\0\0")),
                     PACKET_BAD_CONNECT_FLAGS); /* reserved bit [MQTT-3.1.2-3] */
    assert_int_equal(connect(BODY(MQTT4 "\x1E\0\0\0\0\0\1t\0\0")), PACKET_BAD_CONNECT_FLAGS); /* will QoS 3 */
    assert_int_equal(connect(BODY(MQTT4 "\x0A\0\0\0\0")), PACKET_BAD_CONNECT_FLAGS); /* will QoS, no will */
    assert_int_equal(connect(BODY(MQTT4 "\x22\0\0\0\0")),
                     PACKET_BAD_CONNECT_FLAGS); /* will retain, no will */
    assert_int_equal(connect(BODY(MQTT4 "\x42\0\0\0\0\0\1p")),
                     PACKET_BAD_CONNECT_FLAGS); /* [MQTT-3.1.2-22] */
}

static void refuses_other_protocols(void **unused)
{
    struct packet_connect c;
    (void)unused;
    assert_int_equal(connect(BODY("\0\4mqtt\4\2\0\0\0\0")), PACKET_BAD_PROTOCOL);
    assert_int_equal(connect(BODY("\0\4HTTP\4\2\0\0\0\0")), PACKET_BAD_PROTOCOL);
    assert_int_equal(connect(BODY("\0\0\4\2\0\0\0\0")), PACKET_BAD_PROTOCOL);
    assert_int_equal(connect(BODY("\0\5MQTTX\4\2\0\0\0\0")), PACKET_BAD_PROTOCOL);
    assert_int_equal(connect(BODY("\0\4\xFF\xFFTT\4\2\0\0\0\0")), PACKET_BAD_UTF8);
    /* another level under the right name is the one that gets an answer [MQTT-3.1.2-2] */
    assert_int_equal(packet_decode_connect(0, BODY("\0\4MQTT\5\2\0\0\0\0\0"), &c), PACKET_BAD_LEVEL);
    assert_int_equal(c.level, 5);
    assert_int_equal(connect(BODY("\0\4MQTT\3\2\0\0\0\0")), PACKET_BAD_LEVEL);
    assert_int_equal(connect(BODY("\0\4MQTT\x84\2\0\0\0\0")), PACKET_BAD_LEVEL); /* a bridge's mark */
    assert_int_equal(connect(BODY("\0\6MQIsdp\4\2\0\0\0\0")), PACKET_BAD_LEVEL);
    assert_int_equal(connect(BODY("\0\4MQTT\0")), PACKET_BAD_LEVEL);
}

static void refuses_a_malformed_connect(void **unused)
{
    struct packet_connect c;
    (void)unused;
    for (uint8_t flags = 1; flags < 16; flags++) {
        assert_int_equal(packet_decode_connect(flags, BODY(MQTT4 "\2\0\0\0\0"), &c), PACKET_BAD_FLAGS);
    }
    assert_int_equal(connect(BODY(MQTT4 "\2\0\0\0\0x")), PACKET_TRAILING);
    assert_int_equal(connect(BODY(MQTT4 "\2\0\0\0\1\xC0")), PACKET_BAD_UTF8);          /* client id */
    assert_int_equal(connect(BODY(MQTT4 "\2\0\0\0\1\0")), PACKET_BAD_UTF8);            /* U+0000 in it */
    assert_int_equal(connect(BODY(MQTT4 "\6\0\0\0\1x\0\1\xC0\0\0")), PACKET_BAD_UTF8); /* will topic */
    assert_int_equal(connect(BODY(MQTT4 "\x82\0\0\0\1x\0\1\xC0")), PACKET_BAD_UTF8);   /* user name */
    assert_int_equal(connect(BODY(MQTT4 "\6\0\0\0\1x\0\0\0\0")), PACKET_BAD_TOPIC);    /* will topic */
    assert_int_equal(connect(BODY(MQTT4 "\6\0\0\0\1x\0\3a/#\0\0")), PACKET_BAD_TOPIC);
    /* flags promise fields that are not there, or fields are there that no flag promises */
    assert_int_equal(connect(BODY(MQTT4 "\xC2\0\0\0\1x\0\1u")), PACKET_TRUNCATED);
    assert_int_equal(connect(BODY(MQTT4 "\x82\0\0\0\1x")), PACKET_TRUNCATED);
    assert_int_equal(connect(BODY(MQTT4 "\2\0\0\0\1x\0\1u")), PACKET_TRAILING);
    /* the first mistake is the one that is said */
    assert_int_equal(connect(BODY(MQTT4 "\6\0\0\0\1\xC0\0\1w\0\5x")), PACKET_BAD_UTF8);
}

static void every_connect_cut_short_is_truncated(void **unused)
{
    static const char whole[] = MQTT4 "\xC6\x00\x0A\0\2id\0\3w/t\0\2..\0\4user\0\2pw";
    (void)unused;
    assert_int_equal(connect(BODY(whole)), PACKET_OK);
    for (size_t n = 0; n < sizeof whole - 1; n++) {
        assert_int_equal(connect(body_of(whole, n)), PACKET_TRUNCATED);
    }
}

/* MQTT 3.1: another name, a password without a user name, and fields that the flags promise may be missing at
 * the end. */
static void is_lenient_with_3_1(void **unused)
{
    struct packet_connect c;
    (void)unused;
    assert_int_equal(packet_decode_connect(0, BODY("\0\6MQIsdp\3\2\0\5\0\1x"), &c), PACKET_OK);
    assert_int_equal(c.level, 3);
    assert_slice(c.client_id, "x");
    assert_int_equal(packet_decode_connect(0, BODY("\0\6MQIsdp\3\xC2\0\5\0\1x"), &c), PACKET_OK);
    assert_false(c.has_user || c.has_password);
    assert_int_equal(packet_decode_connect(0, BODY("\0\6MQIsdp\3\xC2\0\5\0\1x\0\1u"), &c), PACKET_OK);
    assert_true(c.has_user && !c.has_password);
    assert_int_equal(packet_decode_connect(0, BODY("\0\6MQIsdp\3\xC2\0\5\0\1x\0\1u\0\1p"), &c), PACKET_OK);
    assert_true(c.has_user && c.has_password);
    assert_slice(c.password, "p");
    assert_int_equal(packet_decode_connect(0, BODY("\0\6MQIsdp\3\x42\0\5\0\1x\0\1p"), &c), PACKET_OK);
    assert_true(!c.has_user && c.has_password);
    /* but half a field stays an error */
    assert_int_equal(connect(BODY("\0\6MQIsdp\3\xC2\0\5\0\1x\0")), PACKET_TRUNCATED);
    assert_int_equal(connect(BODY("\0\6MQIsdp\3\xC2\0\5\0\1x\0\2u")), PACKET_TRUNCATED);
    assert_int_equal(connect(BODY("\0\6MQIsdp\3\xC2\0\5\0\1x\0\1u\0")), PACKET_TRUNCATED);
    assert_int_equal(connect(BODY("\0\6MQIsdp\3\xC2\0\5")),
                     PACKET_TRUNCATED); /* the client id must be there */
}

/* ---- PUBLISH ---- */

static enum packet_error publish(uint8_t flags, struct slice body)
{
    struct packet_publish p;
    return packet_decode_publish(flags, body, &p);
}

static void decodes_publish(void **unused)
{
    struct packet_publish p;
    (void)unused;
    assert_int_equal(packet_decode_publish(0, BODY("\0\3a/bhello"), &p), PACKET_OK);
    assert_slice(p.topic, "a/b");
    assert_slice(p.payload, "hello");
    assert_int_equal(p.id, 0);
    assert_int_equal(p.qos, 0);
    assert_false(p.dup || p.retain);
    assert_int_equal(packet_decode_publish(0x0B, BODY("\0\3a/b\x12\x34hello"), &p), PACKET_OK);
    assert_int_equal(p.id, 0x1234);
    assert_int_equal(p.qos, 1);
    assert_true(p.dup && p.retain);
    assert_slice(p.payload, "hello");
    assert_int_equal(packet_decode_publish(0x04, BODY("\0\1t\xFF\xFF"), &p),
                     PACKET_OK); /* an empty payload is one */
    assert_int_equal(p.qos, 2);
    assert_int_equal(p.id, 65535);
    assert_int_equal(p.payload.n, 0);
}

static void refuses_a_malformed_publish(void **unused)
{
    (void)unused;
    assert_int_equal(publish(0x06, BODY("\0\1t\0\1x")), PACKET_BAD_QOS); /* [MQTT-3.3.1-4] */
    assert_int_equal(publish(0x08, BODY("\0\1tx")), PACKET_BAD_DUP);     /* [MQTT-3.3.1-2] */
    assert_int_equal(publish(0x02, BODY("\0\1t\0\0x")), PACKET_BAD_ID);  /* [MQTT-2.3.1-1] */
    assert_int_equal(publish(0x04, BODY("\0\1t\0\0x")), PACKET_BAD_ID);
    assert_int_equal(publish(0, BODY("\0\0x")), PACKET_BAD_TOPIC);
    assert_int_equal(publish(0, BODY("\0\1+x")), PACKET_BAD_TOPIC); /* [MQTT-3.3.2-2] */
    assert_int_equal(publish(0, BODY("\0\3a/#x")), PACKET_BAD_TOPIC);
    assert_int_equal(publish(0, BODY("\0\2\xC0\x80")), PACKET_BAD_UTF8);
    assert_int_equal(publish(0, BODY("\0\2a\0")), PACKET_BAD_UTF8);
    assert_int_equal(publish(0, BODY("")), PACKET_TRUNCATED);
    assert_int_equal(publish(0, BODY("\0")), PACKET_TRUNCATED);
    assert_int_equal(publish(0, BODY("\0\5abc")), PACKET_TRUNCATED);
    assert_int_equal(publish(2, BODY("\0\1t")), PACKET_TRUNCATED);
    assert_int_equal(publish(2, BODY("\0\1t\1")), PACKET_TRUNCATED);
}

static void takes_the_longest_topic(void **unused)
{
    uint8_t *bytes = malloc(2 + 65535 + 1);
    struct packet_publish p;
    (void)unused;
    memset(bytes, 'x', 2 + 65535 + 1);
    packet_put_u16(bytes, 65535);
    assert_int_equal(packet_decode_publish(0, body_of(bytes, 2 + 65535 + 1), &p), PACKET_OK);
    assert_int_equal(p.topic.n, 65535);
    assert_slice(p.payload, "x");
    assert_int_equal(publish(0, body_of(bytes, 2 + 65534)), PACKET_TRUNCATED);
    free(bytes);
}

/* ---- acknowledgements ---- */

static void decodes_acknowledgements(void **unused)
{
    static const uint8_t types[] = {PKT_PUBACK, PKT_PUBREC, PKT_PUBREL, PKT_PUBCOMP};
    (void)unused;
    for (size_t i = 0; i < sizeof types; i++) {
        uint16_t id;
        for (uint8_t flags = 0; flags < 16; flags++) {
            bool right = flags == (types[i] == PKT_PUBREL ? 2 : 0); /* [MQTT-3.6.1-1] */
            assert_int_equal(packet_decode_ack(types[i], flags, BODY("\x12\x34"), &id),
                             right ? PACKET_OK : PACKET_BAD_FLAGS);
            assert_int_equal(id, right ? 0x1234 : 0);
        }
        uint8_t flags = types[i] == PKT_PUBREL ? 2 : 0;
        assert_int_equal(packet_decode_ack(types[i], flags, BODY("\0\0"), &id), PACKET_BAD_ID);
        assert_int_equal(packet_decode_ack(types[i], flags, BODY("\0"), &id), PACKET_TRUNCATED);
        assert_int_equal(packet_decode_ack(types[i], flags, BODY(""), &id), PACKET_TRUNCATED);
        assert_int_equal(packet_decode_ack(types[i], flags, BODY("\0\1\0"), &id), PACKET_TRAILING);
    }
}

/* ---- SUBSCRIBE, UNSUBSCRIBE ---- */

static enum packet_error filters(uint8_t flags, struct slice body, bool with_qos)
{
    struct packet_filters f;
    return packet_decode_filters(flags, body, with_qos, &f);
}

static void decodes_subscribe(void **unused)
{
    struct packet_filters f;
    struct slice filter;
    uint8_t qos;
    (void)unused;
    assert_int_equal(packet_decode_filters(2, BODY("\0\x0A\0\3a/b\1\0\3c/+\2\0\1#\0"), true, &f), PACKET_OK);
    assert_int_equal(f.id, 10);
    assert_int_equal(f.count, 3);
    assert_true(packet_next_filter(&f, &filter, &qos));
    assert_slice(filter, "a/b");
    assert_int_equal(qos, 1);
    assert_true(packet_next_filter(&f, &filter, &qos));
    assert_slice(filter, "c/+");
    assert_int_equal(qos, 2);
    assert_true(packet_next_filter(&f, &filter, &qos));
    assert_slice(filter, "#");
    assert_int_equal(qos, 0);
    assert_false(packet_next_filter(&f, &filter, &qos));
}

static void decodes_unsubscribe(void **unused)
{
    struct packet_filters f;
    struct slice filter;
    uint8_t qos;
    (void)unused;
    assert_int_equal(packet_decode_filters(2, BODY("\xFF\xFF\0\3a/b\0\3c/+"), false, &f), PACKET_OK);
    assert_int_equal(f.id, 65535);
    assert_int_equal(f.count, 2);
    assert_true(packet_next_filter(&f, &filter, &qos));
    assert_slice(filter, "a/b");
    assert_true(packet_next_filter(&f, &filter, &qos));
    assert_slice(filter, "c/+");
    assert_false(packet_next_filter(&f, &filter, &qos));
}

static void refuses_malformed_filters(void **unused)
{
    (void)unused;
    for (uint8_t flags = 0; flags < 16; flags++) {
        enum packet_error expected =
            flags == 2 ? PACKET_OK : PACKET_BAD_FLAGS; /* [MQTT-3.8.1-1], [MQTT-3.10.1-1] */
        assert_int_equal(filters(flags, BODY("\0\1\0\1a\0"), true), expected);
        assert_int_equal(filters(flags, BODY("\0\1\0\1a"), false), expected);
    }
    assert_int_equal(filters(2, BODY("\0\0\0\1a\0"), true), PACKET_BAD_ID);
    assert_int_equal(filters(2, BODY("\0\1"), true), PACKET_NO_FILTER);  /* [MQTT-3.8.3-3] */
    assert_int_equal(filters(2, BODY("\0\1"), false), PACKET_NO_FILTER); /* [MQTT-3.10.3-2] */
    assert_int_equal(filters(2, BODY("\0"), true), PACKET_TRUNCATED);
    assert_int_equal(filters(2, BODY(""), false), PACKET_TRUNCATED);
    assert_int_equal(filters(2, BODY("\0\1\0\1a"), true), PACKET_TRUNCATED); /* no QoS byte */
    assert_int_equal(filters(2, BODY("\0\1\0\2a"), false), PACKET_TRUNCATED);
    assert_int_equal(filters(2, BODY("\0\1\0\1a\0\0"), true), PACKET_TRUNCATED);
    assert_int_equal(filters(2, BODY("\0\1\0\1a\3"), true), PACKET_BAD_QOS);
    assert_int_equal(filters(2, BODY("\0\1\0\1a\4"), true),
                     PACKET_BAD_QOS); /* reserved bits [MQTT-3.8.3-4] */
    assert_int_equal(filters(2, BODY("\0\1\0\1a\x81"), true), PACKET_BAD_QOS);
    assert_int_equal(filters(2, BODY("\0\1\0\0\0"), true), PACKET_BAD_FILTER);
    assert_int_equal(filters(2, BODY("\0\1\0\2a#\0"), true), PACKET_BAD_FILTER);
    assert_int_equal(filters(2, BODY("\0\1\0\1a\0\0\3#/a\0"), true), PACKET_BAD_FILTER); /* the second one */
    assert_int_equal(filters(2, BODY("\0\1\0\2a+"), false), PACKET_BAD_FILTER);
    assert_int_equal(filters(2, BODY("\0\1\0\1\xFF\0"), true), PACKET_BAD_UTF8);
    assert_int_equal(filters(2, BODY("\0\1\0\1\xFF"), false), PACKET_BAD_UTF8);
}

/* ---- the small ones ---- */

static void decodes_packets_without_a_body(void **unused)
{
    (void)unused;
    assert_int_equal(packet_decode_empty(0, BODY("")), PACKET_OK);
    assert_int_equal(packet_decode_empty(0, BODY("x")), PACKET_TRAILING);
    for (uint8_t flags = 1; flags < 16; flags++) {
        assert_int_equal(packet_decode_empty(flags, BODY("")), PACKET_BAD_FLAGS);
    }
}

static void encodes_answers(void **unused)
{
    uint8_t p[4];
    (void)unused;
    assert_int_equal(packet_put_connack(p, true, CONNACK_ACCEPTED), 4);
    assert_memory_equal(p, "\x20\x02\x01\x00", 4);
    assert_int_equal(packet_put_connack(p, false, CONNACK_REFUSED), 4);
    assert_memory_equal(p, "\x20\x02\x00\x05", 4);
    assert_int_equal(packet_put_ack(p, PKT_PUBACK, 0x1234), 4);
    assert_memory_equal(p, "\x40\x02\x12\x34", 4);
    assert_int_equal(packet_put_ack(p, PKT_PUBREC, 1), 4);
    assert_memory_equal(p, "\x50\x02\x00\x01", 4);
    assert_int_equal(packet_put_ack(p, PKT_PUBREL, 65535), 4);
    assert_memory_equal(p, "\x62\x02\xFF\xFF", 4); /* [MQTT-3.6.1-1] */
    assert_int_equal(packet_put_ack(p, PKT_PUBCOMP, 256), 4);
    assert_memory_equal(p, "\x70\x02\x01\x00", 4);
    assert_int_equal(packet_put_ack(p, PKT_UNSUBACK, 7), 4);
    assert_memory_equal(p, "\xB0\x02\x00\x07", 4);
    assert_int_equal(packet_put_empty(p, PKT_PINGRESP), 2);
    assert_memory_equal(p, "\xD0\x00", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_at_each_bound_of_the_length),
        cmocka_unit_test(refuses_a_fifth_length_byte),
        cmocka_unit_test(takes_a_length_in_more_bytes_than_needed),
        cmocka_unit_test(separates_type_and_flags),
        cmocka_unit_test(encodes_every_length_as_it_decodes_it),
        cmocka_unit_test(names_packets_and_errors),
        cmocka_unit_test(decodes_the_connect_of_the_standard),
        cmocka_unit_test(decodes_the_least_connect),
        cmocka_unit_test(decodes_each_will_quality),
        cmocka_unit_test(refuses_connect_flags_that_contradict_each_other),
        cmocka_unit_test(refuses_other_protocols),
        cmocka_unit_test(refuses_a_malformed_connect),
        cmocka_unit_test(every_connect_cut_short_is_truncated),
        cmocka_unit_test(is_lenient_with_3_1),
        cmocka_unit_test(decodes_publish),
        cmocka_unit_test(refuses_a_malformed_publish),
        cmocka_unit_test(takes_the_longest_topic),
        cmocka_unit_test(decodes_acknowledgements),
        cmocka_unit_test(decodes_subscribe),
        cmocka_unit_test(decodes_unsubscribe),
        cmocka_unit_test(refuses_malformed_filters),
        cmocka_unit_test(decodes_packets_without_a_body),
        cmocka_unit_test(encodes_answers),
    };
    return cmocka_run_group_tests(tests, NULL, free_body);
}
