/*
 * test_local.c - the in-process peer: publishes and subscribes like a client, flushed once per turn like a
 * client.
 */
#include "broker/local.h"
#include "fake_broker.h"

static struct {
    struct local *local;
    char got[64][24]; /* topic=payload */
    int count;
    uint8_t echo; /* publish again, at this QoS, what came on "ask" */
} f;

static void on_message(void *arg, const struct msg *msg)
{
    assert_ptr_equal(arg, &f);
    if (f.count < 64) {
        snprintf(f.got[f.count], sizeof f.got[0], "%.*s=%.*s", SLICE_ARG(msg_topic(msg)),
                 SLICE_ARG(msg_payload(msg)));
    }
    f.count++;
    if (slice_eq(msg_topic(msg), slice_str("ask"))) {
        assert_int_equal(local_publish(f.local, "answer", msg_payload(msg), f.echo, false), 0);
    }
}

static void begin(const char *filter, uint8_t qos)
{
    memset(&f, 0, sizeof f);
    f.local = local_new(&rig.broker, "$own", on_message, &f);
    assert_non_null(f.local);
    if (filter) {
        assert_int_equal(local_subscribe(f.local, filter, qos), 0);
    }
}

static void gets_what_it_subscribed_to(void **unused)
{
    (void)unused;
    for (uint8_t qos = 0; qos < 3; qos++) {
        begin("t/#", qos);
        struct client *c = client_up("c", true);
        SEND(c, "\x30\x06\0\3t/aA\x32\x08\0\3t/b\0\1B\x34\x08\0\3t/c\0\2C\x30\x04\0\1uU");
        settle();
        EXPECT(c, "\x40\x02\0\1\x50\x02\0\2");
        assert_int_equal(f.count, 3);
        assert_string_equal(f.got[0], "t/a=A");
        assert_string_equal(f.got[1], "t/b=B");
        assert_string_equal(f.got[2], "t/c=C");
        const struct session *own = session_find(&rig.broker.sessions, "$own");
        assert_int_equal(own->inflight, 0); /* it acknowledges at once */
        assert_int_equal(own->sent.count, 0);
        client_drop(c);
        local_free(f.local);
        assert_null(session_find(&rig.broker.sessions, "$own"));
        assert_int_equal(rig.broker.sessions.online, 0);
    }
}

static void gets_retained_messages_too(void **unused)
{
    (void)unused;
    begin(NULL, 0);
    assert_int_equal(local_publish(f.local, "t", slice_str("kept"), 1, true), 0);
    assert_int_equal(local_subscribe(f.local, "+", 1), 0);
    settle();
    turn();
    assert_int_equal(f.count, 1);
    assert_string_equal(f.got[0], "t=kept");
    local_free(f.local);
}

static void publishes_to_clients(void **unused)
{
    (void)unused;
    begin(NULL, 0);
    struct client *c = client_up("c", true);
    subscribe(c, "$SYS/#", 1);
    use_acl("topic read $SYS/#\n"); /* it needs no right to publish */
    assert_int_equal(local_publish(f.local, "$SYS/x", slice_str("1"), 0, false), 0);
    assert_int_equal(local_publish(f.local, "$SYS/y", slice_str("2"), 2, true), 0);
    settle();
    turn();
    EXPECT(c, "\x30\x09\0\6$SYS/x1\x32\x0B\0\6$SYS/y\0\0012");
    local_free(f.local);
}

/* It may publish from within its callback; what it sends to itself comes in a later turn. */
static void may_publish_while_it_listens(void **unused)
{
    (void)unused;
    begin("#", 2);
    f.echo = 2;
    struct client *c = client_up("c", true);
    subscribe(c, "answer", 1);
    SEND(c, "\x30\x07\0\3ask?!");
    settle();
    turn();
    turn();
    EXPECT(c, "\x32\x0C\0\6answer\0\1?!");
    assert_int_equal(f.count, 2);
    assert_string_equal(f.got[1], "answer=?!");
    local_free(f.local);
}

/* A great many messages are taken in shares, and none is lost. */
static void takes_its_share_of_each_turn(void **unused)
{
    enum { MANY = 2500 };
    (void)unused;
    begin("t", 0);
    for (int i = 0; i < MANY; i++) {
        local_publish(f.local, "t", slice_str("x"), 0, false);
    }
    turn();
    assert_in_range(f.count, 1, MANY - 1);
    settle();
    turn();
    assert_int_equal(f.count, MANY);
    local_free(f.local);
}

static void no_client_gets_its_name(void **unused)
{
    (void)unused;
    begin(NULL, 0);
    struct client *c = client_open();
    send_connect(c, "$own", true);
    settle();
    EXPECT(c, "\x20\x02\0\5");
    assert_true(c->t.closed);
    local_free(f.local);
    local_free(NULL);
}

static void nothing_it_gets_is_an_obligation(void **unused)
{
    (void)unused;
    begin("t", 2);
    struct client *c = client_up("c", true);
    SEND(c, "\x32\x06\0\1t\0\1x");
    settle();
    EXPECT(c, "\x40\x02\0\1"); /* its session is clean: no commit */
    assert_int_equal(rig.storage.batches, 0);
    local_free(f.local);
}

static void may_end_with_messages_waiting(void **unused)
{
    (void)unused;
    begin("t", 1);
    local_publish(f.local, "t", slice_str("x"), 1, false);
    local_publish(f.local, "t", slice_str("x"), 0, false);
    local_free(f.local);
    turn();
    assert_int_equal(rig.broker.sessions.online, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(gets_what_it_subscribed_to),
        T(gets_retained_messages_too),
        T(publishes_to_clients),
        T(may_publish_while_it_listens),
        T(takes_its_share_of_each_turn),
        T(no_client_gets_its_name),
        cmocka_unit_test_setup_teardown(nothing_it_gets_is_an_obligation, setup_durable, teardown),
        T(may_end_with_messages_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
