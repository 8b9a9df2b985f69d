/*
 * test_msg.c - shared messages: the ready packet, adopting a block, references.
 */
#include "broker/msg.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_slice(struct slice s, const void *bytes, size_t n)
{
    assert_int_equal(s.n, n);
    assert_memory_equal(s.p, bytes, n);
}

/* The ready packet says the same as the message. */
static void assert_ready(const struct msg *msg)
{
    struct slice wire = msg_wire(msg), topic = msg_topic(msg), payload = msg_payload(msg);
    struct packet_frame frame;
    struct packet_publish p;
    assert_int_equal(packet_frame(wire.p, wire.n, &frame), 1);
    assert_int_equal(frame.type, PKT_PUBLISH);
    assert_int_equal(frame.flags, 0);
    assert_int_equal(frame.header_size + (size_t)frame.body_size, wire.n);
    assert_int_equal(packet_decode_publish(0, slice_of(wire.p + frame.header_size, frame.body_size), &p),
                     PACKET_OK);
    assert_slice(p.topic, topic.p, topic.n);
    assert_slice(p.payload, payload.p, payload.n);
    assert_ptr_equal(p.payload.p, payload.p);
}

static void holds_topic_and_payload(void **unused)
{
    (void)unused;
    struct msg *msg = msg_new(slice_str("a/b"), slice_str("hello"), 2, true, NULL);
    assert_int_equal(msg->refs, 1);
    assert_int_equal(msg->qos, 2);
    assert_true(msg->retain);
    assert_null(msg->from);
    assert_slice(msg_topic(msg), "a/b", 3);
    assert_slice(msg_payload(msg), "hello", 5);
    assert_slice(msg_wire(msg), "\x30\x0A\0\3a/bhello", 12);
    assert_ready(msg);
    msg_unref(msg);
}

static void may_have_no_payload(void **unused)
{
    (void)unused;
    struct msg *msg = msg_new(slice_str("t"), slice_of(NULL, 0), 0, false, NULL);
    assert_int_equal(msg->payload_size, 0);
    assert_slice(msg_wire(msg), "\x30\x03\0\1t", 5);
    msg_unref(msg);
}

/* The body grows over each bound of the length field: 127/128, 16383/16384, 2097151/2097152. */
static void is_ready_at_each_bound_of_the_length(void **unused)
{
    static const uint32_t bodies[] = {127, 128, 16383, 16384, 2097151, 2097152};
    (void)unused;
    uint8_t *payload = malloc(2097152);
    memset(payload, 'x', 2097152);
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct msg *msg = msg_new(slice_str("abc"), slice_of(payload, bodies[i] - 5), 1, false, NULL);
        assert_int_equal(msg->header_size, packet_header_size(bodies[i]));
        assert_ready(msg);
        msg_unref(msg);
    }
    free(payload);
}

static void puts_the_mount_point_first(void **unused)
{
    (void)unused;
    struct msg *msg = msg_new_mounted(slice_str("home/"), slice_str("a/b"), slice_str("x"), 0, false, NULL);
    assert_slice(msg_topic(msg), "home/a/b", 8);
    assert_ready(msg);
    msg_unref(msg);
}

static void refuses_a_topic_that_gets_too_long(void **unused)
{
    (void)unused;
    uint8_t *topic = malloc(65535);
    memset(topic, 't', 65535);
    struct msg *msg = msg_new(slice_of(topic, 65535), slice_str("x"), 0, false, NULL);
    assert_non_null(msg);
    assert_int_equal(msg->topic_size, 65535);
    assert_ready(msg);
    msg_unref(msg);
    assert_null(msg_new_mounted(slice_str("m"), slice_of(topic, 65535), slice_str("x"), 0, false, NULL));
    msg = msg_new_mounted(slice_str("m"), slice_of(topic, 65534), slice_str("x"), 0, false, NULL);
    assert_non_null(msg);
    msg_unref(msg);
    free(topic);
}

/* With a packet identifier the whole body has to fit into what a remaining length can say. */
static void refuses_what_no_packet_can_carry(void **unused)
{
    (void)unused;
    const uint8_t one = 'x'; /* nobody looks at the bytes of what is refused */
    assert_null(msg_new(slice_str("abc"), slice_of(&one, PACKET_MAX_BODY + 1u), 0, false, NULL));
    assert_null(msg_new(slice_str("abc"), slice_of(&one, PACKET_MAX_BODY), 0, false, NULL));
    assert_null(msg_new(slice_str("abc"), slice_of(&one, PACKET_MAX_BODY - 6), 0, false, NULL));
    assert_null(msg_new_mounted(slice_str("m/"), slice_str("abc"), slice_of(&one, PACKET_MAX_BODY - 8), 0,
                                false, NULL));
}

static void counts_references(void **unused)
{
    (void)unused;
    struct principal *who = principal_new();
    struct msg *msg = msg_new(slice_str("t"), slice_str("x"), 0, false, who);
    assert_ptr_equal(msg->from, who);
    assert_int_equal(who->refs, 2);
    assert_ptr_equal(msg_ref(msg), msg);
    assert_int_equal(msg->refs, 2);
    msg_unref(msg);
    assert_int_equal(msg->refs, 1);
    assert_int_equal(who->refs, 2);
    msg_unref(msg);
    assert_int_equal(who->refs, 1);
    principal_unref(who);
    msg_unref(NULL);
}

static struct msg *adopted(uint8_t flags, const char *body, size_t n, struct principal *who)
{
    struct msg *msg = msg_for_body((uint32_t)n);
    struct packet_publish publish;
    memcpy(msg_body(msg), body, n);
    assert_int_equal(packet_decode_publish(flags, slice_of(msg_body(msg), n), &publish), PACKET_OK);
    const uint8_t *payload = publish.payload.p;
    msg_adopt(msg, &publish, who);
    assert_ptr_equal(msg_payload(msg).p, payload); /* where it was read, there it stays */
    return msg;
}

static void adopts_a_block_at_each_quality(void **unused)
{
    (void)unused;
    struct principal *who = principal_new();
    struct msg *msg = adopted(0x01, "\0\3a/bhello", 10, who);
    assert_int_equal(msg->qos, 0);
    assert_true(msg->retain);
    assert_ptr_equal(msg->from, who);
    assert_slice(msg_topic(msg), "a/b", 3);
    assert_slice(msg_wire(msg), "\x30\x0A\0\3a/bhello", 12);
    msg_unref(msg);
    for (uint8_t qos = 1; qos <= 2; qos++) {
        msg = adopted((uint8_t)(qos << 1), "\0\3a/b\x12\x34hello", 12, who);
        assert_int_equal(msg->qos, qos);
        assert_false(msg->retain);
        assert_int_equal(msg->refs, 1);
        assert_slice(msg_topic(msg), "a/b", 3);
        assert_slice(msg_payload(msg), "hello", 5);
        assert_slice(msg_wire(msg), "\x30\x0A\0\3a/bhello", 12);
        msg_unref(msg);
    }
    assert_int_equal(who->refs, 1);
    principal_unref(who);
}

/* One byte of topic, so len, topic and id overlap as much as they can; and bodies around a bound of the
 * length. */
static void adopts_short_topics_and_long_payloads(void **unused)
{
    static const uint32_t sizes[] = {5, 6, 129, 130, 131, 16385, 16386, 16387, 300000};
    (void)unused;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *body = malloc(sizes[i]);
        memset(body, 'p', sizes[i]);
        memcpy(body, "\0\1t\0\7", 5);
        struct msg *msg = adopted(0x02, body, sizes[i], NULL);
        assert_slice(msg_topic(msg), "t", 1);
        assert_slice(msg_payload(msg), body + 5, sizes[i] - 5);
        assert_ready(msg);
        msg_unref(msg);
        free(body);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds_topic_and_payload),
        cmocka_unit_test(may_have_no_payload),
        cmocka_unit_test(is_ready_at_each_bound_of_the_length),
        cmocka_unit_test(puts_the_mount_point_first),
        cmocka_unit_test(refuses_a_topic_that_gets_too_long),
        cmocka_unit_test(refuses_what_no_packet_can_carry),
        cmocka_unit_test(counts_references),
        cmocka_unit_test(adopts_a_block_at_each_quality),
        cmocka_unit_test(adopts_short_topics_and_long_payloads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
