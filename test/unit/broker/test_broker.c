/*
 * test_broker.c - what only the parts together do: limits of the configuration, clients that come back
 * through another door, packets of MQTT 3.1.
 */
#include "broker/dispatch.h"
#include "broker/router.h"
#include "fake_broker.h"

static void limits_of_the_protocol_bound_those_of_the_configuration(void **unused)
{
    (void)unused;
    static const uint32_t unlimited[] = {0, 65535};
    for (size_t i = 0; i < 2; i++) {
        rig.config.max_inflight_messages = unlimited[i];
        limits_changed();
        assert_int_equal(rig.broker.sessions.limits.max_inflight, 65534);
    }
    rig.config.max_packet_size = INT32_MAX;
    struct client *c = client_up("c", true);
    assert_int_equal(dispatch_max_packet(c->conn), PACKET_MAX_BODY + PACKET_MAX_HEADER);
    rig.config.max_keepalive = 65535; /* none is longer, and 0 is as long as none */
    SEND(client_open(), "\x10\x0d\0\4MQTT\4\2\0\0\0\1z");
    settle();
    assert_non_null(session_find(&rig.broker.sessions, "z"));
}

static void messages_of_3_1_are_like_all_others(void **unused)
{
    (void)unused;
    struct client *c = client_open();
    SEND(c, "\x10\x0f\0\6MQIsdp\3\2\0\x3c\0\1c\x8a\6\0\1\0\1t\2\x3c\7\0\1t\0\2hi\x6a\2\0\2");
    settle();
    EXPECT(c, "\x20\2\0\0\x90\3\0\1\2\x50\2\0\2\x70\2\0\2\x34\7\0\1t\0\1hi");
}

static void only_what_is_known_is_released(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true), *to = client_up("to", true);
    subscribe(to, "t", 0);
    send_publish(c, 4, "t", 1, 1);
    send_ack(c, PKT_PUBREL, 2); /* its neighbour */
    send_publish(c, 4, "t", 1, 1);
    settle();
    EXPECT(c, "\x50\2\0\1\x70\2\0\2\x50\2\0\1");
    assert_int_equal(to->t.out_size, 6); /* 1 was a repetition, still */
    to->t.out_size = 0;
}

static void a_retained_message_above_another(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    rig.config.memory_limit = 1 << 20;
    send_publish(c, 1, "t/below", 0, 3);
    send_publish(c, 1, "t", 0, 3);
    send_publish(c, 1, "t", 0, 0);
    settle();
    assert_int_equal(retain_count(rig.broker.retain), 1);
    assert_false(retain_has(rig.broker.retain, slice_str("t")));
}

/* What a kept session subscribed to through one door keeps its whole name at another. */
static void a_mount_point_is_taken_off_only_where_it_is(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", false);
    subscribe(c, "other/t", 0);
    client_drop(c);
    rig.listener.mount_point = (char *)(uintptr_t) "m/";
    c = client_open();
    send_connect(c, "c", false);
    settle();
    EXPECT(c, "\x20\2\1\0");
    struct msg *msg = msg_new(slice_str("other/t"), slice_str("!"), 0, false, NULL);
    router_publish_now(&rig.broker, msg);
    msg_unref(msg);
    settle();
    rig.listener.mount_point = NULL;
    EXPECT(c, "\x30\x0a\0\7other/t!");
}

static void a_big_message_is_mounted_as_well(void **unused)
{
    (void)unused;
    rig.listener.mount_point = (char *)(uintptr_t) "m/";
    struct client *c = client_up("c", true);
    subscribe(c, "t", 0);
    c->t.read_most = 3000; /* into a block of its own */
    send_publish(c, 0, "t", 0, 20000);
    settle();
    assert_int_equal(c->t.out_size, 4 + 3 + 20000);
    assert_memory_equal(c->t.out + 4, "\0\1t\0\1\2", 6);
    c->t.out_size = 0;
    rig.listener.mount_point = NULL;
}

static void a_filter_that_is_too_long_when_mounted(void **unused)
{
    (void)unused;
    rig.listener.mount_point = (char *)(uintptr_t) "m/";
    struct client *c = client_up("c", true);
    uint8_t *p = malloc(65536 + 16);
    for (int subscribing = 1; subscribing >= 0; subscribing--) {
        uint32_t body = 2 + 2 + 65535 + (uint32_t)subscribing;
        size_t n = packet_put_header(p, subscribing ? 0x82 : 0xA2, body);
        memset(p + n, 'x', body);
        packet_put_u16(p + n, 1);
        packet_put_u16(p + n + 2, 65535);
        p[n + body - 1] = subscribing ? 0 : 'x';
        client_send(c, p, n + body);
    }
    settle();
    EXPECT(c, "\x90\3\0\1\x80\xB0\2\0\1");
    assert_int_equal(subs_count(rig.broker.subs), 0);
    free(p);
    rig.listener.mount_point = NULL;
}

static void filters_have_a_depth(void **unused)
{
    (void)unused;
    rig.config.max_topic_levels = 3;
    struct client *c = client_up("c", true), *deep = client_up("deep", true);
    subscribe(c, "1/2/3", 0);
    SEND(deep, "\x82\x0c\0\1\0\7"
               "1/2/3/4"
               "\0");
    settle();
    assert_true(deep->t.closed);
    assert_false(c->t.closed);
    SEND(c, "\x82\2\0\2"); /* and there must be one */
    settle();
    assert_true(c->t.closed);
}

static void filters_have_a_number(void **unused)
{
    enum { FILTERS = 60001 };
    (void)unused;
    uint8_t *p = malloc(4 * FILTERS + 16);
    struct client *c = client_up("c", true);
    size_t n = packet_put_header(p, 0x82, 2 + 4 * FILTERS);
    packet_put_u16(p + n, 1);
    n += 2;
    for (int i = 0; i < FILTERS; i++, n += 4) {
        memcpy(p + n, "\0\1t", 4);
    }
    client_send(c, p, n);
    settle();
    assert_true(c->t.closed);
    assert_int_equal(subs_count(rig.broker.subs), 0);
    free(p);
}

static void a_filter_may_be_denied(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    use_acl("topic subscribe a/#\ntopic read #\n");
    SEND(c, "\x82\x10\0\1\0\3a/#\1\0\1#\1\0\1b\1");
    settle();
    EXPECT(c, "\x90\5\0\1\1\x80\x80");
    assert_int_equal(subs_count(rig.broker.subs), 1);
}

/* The right to all that it matches is asked for message by message. */
static void a_long_filter_has_its_rights(void **unused)
{
    enum { LONG = 1500 };
    (void)unused;
    char topic[LONG + 3];
    uint8_t p[LONG + 16];
    memset(topic, 'x', LONG);
    strcpy(topic + LONG, "/+");
    struct client *c = client_up("c", true), *from = client_up("from", true);
    use_acl("topic readwrite #\n");
    size_t n = packet_put_header(p, 0x82, 2 + 2 + LONG + 2 + 1);
    packet_put_u16(p + n, 1);
    packet_put_u16(p + n + 2, LONG + 2);
    memcpy(p + n + 4, topic, LONG + 3); /* with the QoS */
    client_send(c, p, n + 4 + LONG + 3);
    settle();
    EXPECT(c, "\x90\3\0\1\0");
    topic[LONG + 1] = '1';
    send_publish(from, 0, topic, 0, 1);
    settle();
    assert_int_equal(c->t.out_size, 3 + 2 + LONG + 2 + 1);
    c->t.out_size = 0;
    use_acl("topic write #\n");
    send_publish(from, 0, topic, 0, 1);
    settle();
    EXPECT(c, "");
}

/* Its subject is its name, and nothing else that it says. */
static void a_certificate_names_by_its_subject(void **unused)
{
    (void)unused;
    rig.listener.use_subject_as_username = true;
    struct client *none = client_open(), *c = client_open();
    settle();
    c->conn->who->cert_subject = strdup("CN=device 7");
    send_connect(none, "none", true);
    send_connect(c, "c", true);
    settle();
    EXPECT(none, "\x20\2\0\4");
    EXPECT(c, "\x20\2\0\0");
    assert_string_equal(c->conn->who->user, "CN=device 7");
}

static void a_retained_message_goes_with_the_right_of_who_sent_it(void **unused)
{
    (void)unused;
    rig.config.check_retain_source = true;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    send_publish(from, 1, "t/1", 0, 1);
    settle();
    use_acl("topic read t/#\ntopic write t/1\n");
    SEND(to, "\x82\x08\0\1\0\3t/#\0");
    settle();
    EXPECT(to, "\x90\3\0\1\0\x31\6\0\3t/1\0");
    use_acl("topic read t/#\n");
    SEND(to, "\x82\x08\0\1\0\3t/#\0");
    settle();
    EXPECT(to, "\x90\3\0\1\0");
}

/* PUBREL is sent again, too [MQTT-4.4.0-1]. */
static void a_release_is_sent_again(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", false), *from = client_up("from", true);
    subscribe(c, "t", 2);
    send_publish(from, 4, "t", 1, 1);
    settle();
    c->t.out_size = 0;
    send_ack(c, PKT_PUBREC, 1);
    settle();
    EXPECT(c, "\x62\2\0\1");
    client_drop(c);
    c = client_open();
    send_connect(c, "c", false);
    settle();
    EXPECT(c, "\x20\2\1\0\x62\2\0\1");
    send_ack(c, PKT_PUBCOMP, 1);
    settle();
    from->t.out_size = 0;
}

/* Whichever connection it leaves on, a crash must not bring the PUBLISH back behind it. */
static void a_release_waits_for_its_commit_after_a_resume_too(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", false), *from = client_up("from", true);
    subscribe(c, "t", 2);
    send_publish(from, 4, "t", 1, 1);
    commit_all();
    from->t.out_size = c->t.out_size = 0;
    send_ack(c, PKT_PUBREC, 1);
    settle();
    EXPECT(c, "");
    client_drop(c);
    c = client_open();
    send_connect(c, "c", false);
    settle();
    EXPECT(c, "\x20\2\1\0");
    send_ack(c, PKT_PUBREC, 1); /* it does not know what has become of the first one */
    settle();
    EXPECT(c, "");
    commit_all();
    EXPECT(c, "\x62\2\0\1\x62\2\0\1");
    send_ack(c, PKT_PUBCOMP, 1);
    commit_lazy();
    assert_int_equal(disk_count(&rig.storage, CHANGE_OUT), 0);
}

/* A batch has no limit of its own. */
static void many_messages_are_stored_in_one_batch(void **unused)
{
    enum { MANY = 200 };
    (void)unused;
    struct client *away = client_up("away", false), *from = client_up("from", true);
    subscribe(away, "t", 1);
    client_drop(away);
    settle();
    while (rig.storage.batch) {
        commit();
        settle();
    }
    for (uint16_t i = 1; i <= MANY; i++) {
        send_publish(from, 2, "t", i, 1);
    }
    settle();
    EXPECT(from, "");
    while (rig.storage.batch) {
        commit();
        settle();
    }
    assert_int_equal(from->t.out_size, MANY * 4);
    from->t.out_size = 0;
}

/* The name at two doors is the same user only with the same password file. */
static void a_session_belongs_to_the_user_of_one_password_file(void **unused)
{
    (void)unused;
    static const char connect[] = "\x10\x13\0\4MQTT\4\x80\0\x3c\0\1c\0\4user";
    static struct config_security securities[2];
    static struct config_listener listeners[2];
    static struct door doors[2];
    for (int i = 0; i < 2; i++) {
        securities[i] = rig.security;
        securities[i].password_file = (char *)(uintptr_t)(i == 0 ? "one" : "two");
        listeners[i] = rig.listener;
        listeners[i].security = &securities[i];
        doors[i] = (struct door){.config = &listeners[i]};
    }
    rig.broker.doors = doors;
    struct client *c = client_open();
    client_send(c, connect, sizeof connect - 1);
    settle();
    EXPECT(c, "\x20\2\0\0");
    client_drop(c);
    struct client *other = client_new();
    conn_accept(&rig.broker, &other->t.port, 1);
    client_send(other, connect, sizeof connect - 1);
    settle();
    EXPECT(other, "\x20\2\0\5");
    struct client *anonymous = client_open(); /* nor is somebody without a name that user */
    send_connect(anonymous, "c", false);
    settle();
    EXPECT(anonymous, "\x20\2\0\5");
    client_send(c = client_open(), connect, sizeof connect - 1);
    settle();
    EXPECT(c, "\x20\2\1\0");
}

static void an_empty_user_name_is_not_no_name(void **unused)
{
    (void)unused;
    static const char connect[] = "\x10\x0f\0\4MQTT\4\x80\0\x3c\0\1c\0\0";
    struct client *c = client_open();
    client_send(c, connect, sizeof connect - 1);
    settle();
    EXPECT(c, "\x20\2\0\0");
    client_drop(c);
    struct client *anonymous = client_open();
    send_connect(anonymous, "c", false);
    settle();
    EXPECT(anonymous, "\x20\2\0\5");
}

static void use_username_as_clientid_needs_a_user_name(void **unused)
{
    (void)unused;
    static const char connect[] = "\x10\x0f\0\4MQTT\4\x80\0\x3c\0\1c\0\0";
    rig.listener.use_username_as_clientid = true;
    struct client *c = client_open();
    client_send(c, connect, sizeof connect - 1);
    settle();
    assert_int_equal(c->t.out_size, 4);
    assert_int_not_equal(c->t.out[3], 0);
    c->t.out_size = 0;
}

static void nothing_is_subscribed_to_no_topic(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    subscribe(c, "#", 0);
    const struct match *matches;
    bool cut;
    assert_int_equal(subs_match(rig.broker.subs, slice_of("", 0), &matches, &cut), 0);
    assert_false(cut);
}

/* It says nothing more, and nothing else happens: its messages come when the disk can be read again. */
static void who_waits_for_what_cannot_be_read_gets_it_later(void **unused)
{
    (void)unused;
    rig.config.queue_memory_limit = 1;
    limits_changed();
    struct client *to = client_up("to", false), *from = client_up("from", true);
    SEND(to, "\x82\6\0\1\0\1t\1");
    commit_all();
    client_drop(to);
    SEND(from, "\x32\6\0\1t\0\1a\x32\6\0\1t\0\2b\x32\6\0\1t\0\3c");
    commit_all();
    to = client_open();
    send_connect(to, "to", false);
    settle();
    EXPECT(to, "\x20\2\1\0\x32\6\0\1t\0\1a");
    for (int i = 0; i < 3; i++) {
        assert_true(fake_storage_read(&rig.storage, true));
        settle();
        assert_int_equal(rig.storage.fetch_count, 0); /* not at once */
        fake_loop_pass(rig.broker.loop, READ_AGAIN_MS);
        settle();
    }
    assert_true(fake_storage_read(&rig.storage, false));
    settle();
    EXPECT(to, "\x32\6\0\1t\0\2b\x32\6\0\1t\0\3c");
    commit_all();
    assert_false(timer_running(&rig.broker.read_timer));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_waits_for_what_cannot_be_read_gets_it_later, setup_durable,
                                        teardown),
        T(limits_of_the_protocol_bound_those_of_the_configuration),
        T(messages_of_3_1_are_like_all_others),
        T(only_what_is_known_is_released),
        T(a_retained_message_above_another),
        T(a_mount_point_is_taken_off_only_where_it_is),
        T(a_big_message_is_mounted_as_well),
        T(a_filter_that_is_too_long_when_mounted),
        T(filters_have_a_depth),
        T(filters_have_a_number),
        T(a_filter_may_be_denied),
        T(a_long_filter_has_its_rights),
        T(a_certificate_names_by_its_subject),
        T(a_retained_message_goes_with_the_right_of_who_sent_it),
        T(a_release_is_sent_again),
        cmocka_unit_test_setup_teardown(a_release_waits_for_its_commit_after_a_resume_too, setup_durable,
                                        teardown),
        cmocka_unit_test_setup_teardown(many_messages_are_stored_in_one_batch, setup_durable, teardown),
        T(a_session_belongs_to_the_user_of_one_password_file),
        T(an_empty_user_name_is_not_no_name),
        T(use_username_as_clientid_needs_a_user_name),
        T(nothing_is_subscribed_to_no_topic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
