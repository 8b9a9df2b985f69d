/*
 * test_on_publish.c - the whole way of a PUBLISH, from bytes to bytes: at every QoS, with and without durable
 * storage.
 */
#include "test/unit/no_memory.h"

#include "fake_broker.h"

/* ---- from a client to a client ---- */

static void quality_0_just_goes_through(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "a/+", 2);
    SEND(from, "\x30\x08\0\3a/bhey");
    settle();
    EXPECT(to, "\x30\x08\0\3a/bhey");
    EXPECT(from, "");
    assert_int_equal(rig.broker.counters.publish_received, 1);
    assert_int_equal(rig.broker.counters.publish_bytes_received, 3);
}

static void quality_1_is_acknowledged_on_both_sides(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "a/+", 1);
    SEND(from, "\x32\x0A\0\3a/b\x12\x34hey");
    settle();
    EXPECT(from, "\x40\x02\x12\x34");
    EXPECT(to, "\x32\x0A\0\3a/b\0\1hey"); /* its own identifier */
    assert_int_equal(to->conn->session->inflight, 1);
    SEND(to, "\x40\x02\0\1");
    settle();
    assert_int_equal(to->conn->session->inflight, 0);
    EXPECT(to, "");
}

static void quality_2_goes_through_its_steps(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "a/+", 2);
    SEND(from, "\x34\x0A\0\3a/b\x12\x34hey");
    settle();
    EXPECT(from, "\x50\x02\x12\x34");
    EXPECT(to, "\x34\x0A\0\3a/b\0\1hey");
    SEND(from, "\x62\x02\x12\x34");
    SEND(to, "\x50\x02\0\1");
    settle();
    EXPECT(from, "\x70\x02\x12\x34");
    EXPECT(to, "\x62\x02\0\1");
    SEND(to, "\x70\x02\0\1");
    settle();
    EXPECT(to, "");
    assert_int_equal(to->conn->session->inflight, 0);
    assert_int_equal(from->conn->session->inbound.count, 0);
}

static void a_repeated_quality_2_is_not_routed_again(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", false), *to = client_up("to", true);
    subscribe(to, "t", 0);
    SEND(from, "\x34\x06\0\1t\0\7x");
    SEND(from, "\x3C\x06\0\1t\0\7x"); /* [MQTT-4.3.3-2] */
    settle();
    EXPECT(from, "\x50\x02\0\7\x50\x02\0\7");
    EXPECT(to, "\x30\x04\0\1tx");
    client_drop(from);
    from = client_up("from", false); /* the id belongs to the session */
    SEND(from, "\x3C\x06\0\1t\0\7x");
    settle();
    EXPECT(from, "\x50\x02\0\7");
    EXPECT(to, "");
    SEND(from, "\x62\x02\0\7\x34\x06\0\1t\0\7y");
    settle();
    EXPECT(from, "\x70\x02\0\7\x50\x02\0\7");
    EXPECT(to, "\x30\x04\0\1ty"); /* after PUBREL it is a new one */
}

static void a_pubrel_is_always_answered(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true);
    SEND(from, "\x62\x02\0\x63");
    settle();
    EXPECT(from, "\x70\x02\0\x63");
}

static void what_is_published_at_once_comes_in_order(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 2);
    SEND(from, "\x32\x06\0\1t\0\1a\x30\x04\0\1tb\x34\x06\0\1t\0\2c\x32\x06\0\1t\0\3d");
    settle();
    EXPECT(from, "\x40\x02\0\1\x50\x02\0\2\x40\x02\0\3");
    EXPECT(to, "\x32\x06\0\1t\0\1a\x30\x04\0\1tb\x34\x06\0\1t\0\2c\x32\x06\0\1t\0\3d");
}

static void acknowledgements_that_do_not_fit_end_it(void **unused)
{
    static const char *const acks[] = {"\x50\x02\0\1", "\x70\x02\0\1", "\x40\x02\0\2", "\x70\x02\0\2"};
    (void)unused;
    for (int i = 0; i < 4; i++) {
        struct client *from = client_up("from", true), *to = client_up("to", true);
        subscribe(to, "t", 2);
        SEND(from, "\x32\x06\0\1t\0\1a\x34\x06\0\1t\0\2b");
        settle();
        client_send(to, acks[i], 4);
        settle();
        assert_true(to->t.closed);
        client_drop(from);
    }
    assert_int_equal(rig.broker.counters.protocol_errors, 4);
}

static void unknown_acknowledgements_are_no_harm(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    SEND(c, "\x40\x02\0\x63\x70\x02\0\x63\x50\x02\0\x63");
    settle();
    EXPECT(c, "\x62\x02\0\x63"); /* PUBREC is answered, or the client would wait for ever */
    assert_false(c->t.closed);
}

/* ---- rules ---- */

static void some_publishes_end_it(void **unused)
{
    (void)unused;
    rig.config.max_topic_levels = 3;
    rig.config.retain_available = false;
    rig.listener.max_qos = 1;
    static const struct {
        const char *packet;
        size_t n;
        bool ends;
    } cases[] = {
        {"\x30\x07\0\5a/b/c", 9, false}, {"\x30\x09\0\7a/b/c/d", 11, true}, {"\x31\x03\0\1t", 5, true},
        {"\x32\x05\0\1t\0\1", 7, false}, {"\x34\x05\0\1t\0\1", 7, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct client *c = client_up("c", true);
        client_send(c, cases[i].packet, cases[i].n);
        settle();
        assert_int_equal(c->t.closed, cases[i].ends);
        if (!cases[i].ends) {
            client_drop(c);
        }
    }
}

/* Dropped by a rule, it is acknowledged all the same [MQTT-3.3.5-2]. */
static void what_is_too_large_is_dropped(void **unused)
{
    (void)unused;
    rig.config.message_size_limit = 10;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 2);
    send_publish(from, 2, "t", 1, 10);
    send_publish(from, 2, "t", 2, 11);
    send_publish(from, 4, "t", 3, 11);
    send_publish(from, 1, "t", 0, 20000);
    settle();
    EXPECT(from, "\x40\x02\0\1\x40\x02\0\2\x50\x02\0\3");
    EXPECT(to, "\x32\x0F\0\1t\0\1\0\1\2\3\4\5\6\7\x08\x09");
    assert_int_equal(retain_count(rig.broker.retain), 0);
    SEND(from, "\x62\x02\0\3");
    settle();
    EXPECT(from, "\x70\x02\0\3");
}

static void what_is_denied_is_dropped(void **unused)
{
    (void)unused;
    use_acl("topic write ok/#\ntopic read #\n");
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "#", 2);
    SEND(from, "\x32\x07\0\2no\0\1x\x34\x07\0\2no\0\2x\x31\x05\0\2nox\x32\x09\0\4ok/a\0\3x");
    settle();
    EXPECT(from, "\x40\x02\0\1\x50\x02\0\2\x40\x02\0\3");
    EXPECT(to, "\x32\x09\0\4ok/a\0\1x");
    assert_int_equal(rig.broker.counters.publish_denied, 3);
    assert_int_equal(retain_count(rig.broker.retain), 0);
}

static void limits_of_the_acl_hold_for_each(void **unused)
{
    (void)unused;
    use_acl("qos 1\nretain no\ntopic readwrite #\n");
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 1);
    /* each lower one first: what was allowed must not let the next one through */
    SEND(from, "\x32\x06\0\1t\0\1x\x34\x06\0\1t\0\2x\x33\x06\0\1t\0\3x\x31\x03\0\1t\x30\x04\0\1ty");
    settle();
    EXPECT(from, "\x40\2\0\1\x50\2\0\2\x40\2\0\3");
    EXPECT(to, "\x32\x06\0\1t\0\1x\x30\x04\0\1ty");
    assert_int_equal(rig.broker.counters.publish_denied, 3);
    assert_int_equal(retain_count(rig.broker.retain), 0);
}

static void what_is_denied_is_told(void **unused)
{
    (void)unused;
    use_acl("qos 1\nretain no\ntopic write t\ntopic deny d\n");
    listen_to_decisions();
    struct client *from = client_up("from", true);
    send_publish(from, 2, "d", 1, 1);
    settle();
    expect_denied(1, DECIDED_PUBLISH, "d", 1, 4, "a rule of the ACL denies it");
    assert_string_equal(decided.client, "from");
    send_publish(from, 0, "x", 0, 1);
    settle();
    expect_denied(2, DECIDED_PUBLISH, "x", 0, 0, "no rule of the ACL allows it");
    send_publish(from, 4, "t", 2, 1);
    settle();
    expect_denied(3, DECIDED_PUBLISH, "t", 2, 1, "its QoS is higher than the ACL allows");
    send_publish(from, 1, "t", 0, 1);
    settle();
    expect_denied(4, DECIDED_PUBLISH, "t", 0, 2, "the ACL allows it no retained messages");
    send_publish(from, 0, "t", 0, 1);
    settle();
    assert_int_equal(decided.count, 4);
}

/* The last answer stands with the rights of the session, for the same topic, QoS and RETAIN; not longer. */
static void the_last_right_to_publish_is_remembered(void **unused)
{
    (void)unused;
    char topic[200] = "";
    memset(topic, 'x', 150);
    use_acl("topic write #\n");
    size_t before = mem_held();
    struct client *from = client_up("from", true);
    send_publish(from, 0, topic, 0, 1); /* too long to be remembered */
    send_publish(from, 3, "t", 1, 1);
    settle();
    use_acl("topic read t\n"); /* as nobody does it: session->rights stays what it was */
    send_publish(from, 1, "t", 0, 1);
    send_publish(from, 0, "t", 0, 1);
    settle();
    assert_int_equal(rig.broker.counters.publish_denied, 0);
    send_publish(from, 0, "T", 0, 1);
    send_publish(from, 0, "tt", 0, 1);
    send_publish(from, 0, topic, 0, 1);
    send_publish(from, 4, "t", 2, 1); /* a higher QoS */
    settle();
    assert_int_equal(rig.broker.counters.publish_denied, 4);
    session_rights_changed(from->conn->session);
    send_publish(from, 0, "t", 0, 1);
    settle();
    assert_int_equal(rig.broker.counters.publish_denied, 5);
    use_acl("topic write t\n");
    send_publish(from, 0, "t", 0, 1);
    settle();
    use_acl("topic read t\n");
    send_publish(from, 1, "t", 0, 0); /* RETAIN was not asked for */
    settle();
    assert_int_equal(rig.broker.counters.publish_denied, 6);
    assert_int_equal(retain_count(rig.broker.retain), 1);
    use_acl("topic write t\n");
    send_publish(from, 1, "t", 0, 0);
    settle();
    assert_int_equal(retain_count(rig.broker.retain), 0);
    client_drop(from);
    settle();
    assert_int_equal(mem_held(), before);
}

static void nobody_publishes_for_the_broker(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "$SYS/#", 0);
    SEND(from, "\x32\x12\0\x0D$SYS/broker/x\0\1x");
    settle();
    EXPECT(from, "\x40\x02\0\1");
    EXPECT(to, "");
}

static void memory_is_limited(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 1);
    rig.config.memory_limit = mem_held() + 5000;
    send_publish(from, 0, "t", 0, 100);
    send_publish(from, 0, "t", 0, 6000); /* dropped */
    settle();
    assert_int_equal(to->t.out_size, 105);
    assert_int_equal(rig.broker.sessions.dropped, 1);
    to->t.out_size = 0;
    send_publish(from, 2, "t", 1, 6000);
    settle();
    EXPECT(from, "");
    assert_true(from->t.closed); /* rather than acknowledged */
    EXPECT(to, "");
}

/* The block of a big packet is not even made. */
/* What did not reach everybody for want of memory is not acknowledged, at whichever allocation that was: its
 * client sends it again, and at QoS 2 that is no repetition. */
static void what_memory_did_not_do_for_is_not_acknowledged(void **unused)
{
    (void)unused;
    int lost = 0;
    for (int qos = 1; qos <= 2; qos++) {
        for (int nth = 0, failed = 1; failed > 0; nth++) {
            char id[24];
            snprintf(id, sizeof id, "%d %d", qos, nth);
            client_drop(client_up("to", true)); /* nothing is there for its queue */
            struct client *to = client_up("to", false), *from = client_up(id, false);
            subscribe(to, "t", 2);
            client_drop(to);
            memory_fails(nth, 1);
            client_send(from, qos == 1 ? "\x32\x06\0\1t\0\1x" : "\x34\x06\0\1t\0\1x", 8);
            settle();
            failed = memory_calm();
            const struct session *reads = session_find(&rig.broker.sessions, "to");
            const struct session *wrote = session_find(&rig.broker.sessions, id);
            assert_int_equal(from->t.closed, from->t.out_size == 0);
            assert_true(from->t.closed || reads->queue.count == 1);
            assert_true(reads->queue.count == 1 || !inbound_has(&wrote->inbound, 1, NULL));
            lost += reads->queue.count == 0;
            from->t.out_size = 0;
        }
    }
    assert_true(lost > 2);
}

static void a_large_message_beyond_memory_is_not_read(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 0);
    rig.config.memory_limit = mem_held() + 100000;
    SEND(from, "\x30\xC0\x84\x3D\0\1t"); /* a million bytes */
    settle();
    assert_true(from->t.closed);
    assert_true(rig.broker.memory_said[MEMORY_TO_READ]);
    from = client_up("from", true);
    from->t.read_most = 2000; /* in pieces: it needs a block */
    send_publish(from, 0, "t", 0, 10000);
    settle();
    assert_int_equal(to->t.out_size, 3 + 10000 + 3);
    assert_false(rig.broker.memory_said[MEMORY_TO_READ]); /* there is room, so the next time is news again */
}

/* Who fills the memory with what stays does not stop what passes: there is a share for either. */
static void what_stays_leaves_room_for_what_passes(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true),
                  *full = client_up("full", true);
    subscribe(to, "t", 1);
    SEND(from, "\x33\x06\0\1k\0\1x"); /* retained on k */
    settle();
    EXPECT(from, "\x40\2\0\1");
    rig.config.memory_limit = mem_held() + mem_held() / 7; /* 7/8 of it are held */
    SEND(from, "\x32\x06\0\1t\0\1x\x33\x06\0\1k\0\2y");    /* passes; takes the place of the other */
    settle();
    EXPECT(from, "\x40\2\0\1\x40\2\0\2");
    EXPECT(to, "\x32\x06\0\1t\0\1x");
    assert_int_equal(rig.broker.sessions.dropped, 0);
    SEND(from, "\x31\x04\0\1nz"); /* would stay: dropped at QoS 0 */
    settle();
    assert_int_equal(rig.broker.sessions.dropped, 1);
    assert_int_equal(retain_count(rig.broker.retain), 1);
    SEND(full, "\x33\x06\0\1n\0\1z");
    settle();
    assert_true(full->t.closed); /* rather than acknowledged */
    assert_int_equal(retain_count(rig.broker.retain), 1);
    struct client *late = client_open();
    send_connect(late, "late", true);
    settle();
    EXPECT(late, "\x20\2\0\3");
    SEND(from, "\x31\x03\0\1k"); /* goes */
    settle();
    assert_int_equal(retain_count(rig.broker.retain), 0);
}

static void the_mount_point_comes_and_goes(void **unused)
{
    static char mount[] = "home/";
    (void)unused;
    rig.listener.mount_point = mount;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t/#", 1);
    SEND(from, "\x32\x08\0\3t/a\0\1x\x33\x08\0\3t/b\0\2x");
    send_publish(from, 2, "t/c", 3, 10000); /* by its own block */
    settle();
    EXPECT(from, "\x40\x02\0\1\x40\x02\0\2\x40\x02\0\3");
    assert_int_equal(to->t.out_size, 10 + 10 + 3 + 7 + 10000);
    assert_memory_equal(to->t.out, "\x32\x08\0\3t/a\0\1x\x32\x08\0\3t/b\0\2x", 20);
    assert_int_equal(retain_bytes(rig.broker.retain), strlen("home/t/b") + 1);
}

/* ---- retained ---- */

static void the_last_retained_message_stays(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 1);
    SEND(from, "\x31\x04\0\1ta\x33\x06\0\1t\0\1b");
    settle();
    EXPECT(from, "\x40\x02\0\1");
    EXPECT(to, "\x30\x04\0\1ta\x32\x06\0\1t\0\1b"); /* RETAIN 0 for those who were there [MQTT-3.3.1-9] */
    client_drop(from);
    SEND(to, "\x82\x06\0\1\0\1t\1");
    settle();
    EXPECT(to, "\x90\x03\0\1\1\x33\x06\0\1t\0\2b"); /* [MQTT-3.3.1-8] */
    from = client_up("from", true);
    SEND(from, "\x31\x03\0\1t");
    settle();
    EXPECT(to, "\x30\x03\0\1t"); /* the empty one is delivered, and nothing stays */
    assert_int_equal(retain_count(rig.broker.retain), 0);
}

/* ---- durable ---- */

static struct client *kept_subscriber(const char *id, uint8_t qos)
{
    struct client *c = client_up(id, false);
    subscribe(c, "t", qos);
    return c;
}

static void puback_waits_for_the_commit(void **unused)
{
    (void)unused;
    struct client *to = kept_subscriber("to", 1), *from = client_up("from", true);
    client_drop(to);
    SEND(from, "\x32\x06\0\1t\0\1x\x32\x06\0\1t\0\2y\xC0\0");
    settle();
    EXPECT(from, "\xD0\0"); /* nothing else waits */
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_MESSAGE), 2);
    commit();
    settle();
    EXPECT(from, "\x40\x02\0\1\x40\x02\0\2");
}

/* Faster than the disk: all durable recipients have acknowledged. */
static void puback_leaves_early_when_all_recipients_have_it(void **unused)
{
    (void)unused;
    struct client *a = kept_subscriber("a", 1), *b = kept_subscriber("b", 1), *from = client_up("from", true);
    SEND(from, "\x32\x06\0\1t\0\1x");
    settle();
    EXPECT(from, "");
    EXPECT(a, "\x32\x06\0\1t\0\1x"); /* they do not wait for the disk */
    EXPECT(b, "\x32\x06\0\1t\0\1x");
    SEND(a, "\x40\x02\0\1");
    settle();
    EXPECT(from, "");
    SEND(b, "\x40\x02\0\1");
    settle();
    EXPECT(from, "\x40\x02\0\1");
    assert_non_null(rig.storage.batch); /* it is still on its way to the disk */
    commit();
    settle();
    EXPECT(from, "");
}

static void puback_does_not_wait_where_nothing_is_durable(void **unused)
{
    (void)unused;
    struct client *to = client_up("to", true), *zero = kept_subscriber("zero", 0),
                  *from = client_up("from", true);
    subscribe(to, "t", 1);
    int batches = rig.storage.batches;
    SEND(from, "\x32\x06\0\1t\0\1x");
    settle();
    EXPECT(from, "\x40\x02\0\1");
    EXPECT(to, "\x32\x06\0\1t\0\1x");
    EXPECT(zero, "\x30\x04\0\1tx");
    assert_int_equal(rig.storage.batches, batches);
}

static void acknowledgements_stay_in_order(void **unused)
{
    (void)unused;
    struct client *to = kept_subscriber("to", 1), *from = client_up("from", true);
    SEND(from, "\x32\x06\0\1t\0\1x\x32\x06\0\1u\0\2y\x34\x06\0\1t\0\3z");
    settle();
    EXPECT(from, ""); /* the second one has nothing to wait for, but the first */
    SEND(to, "\x40\x02\0\1");
    settle();
    EXPECT(from, "\x40\x02\0\1\x40\x02\0\2");
    SEND(to, "\x40\x02\0\2");
    settle();
    EXPECT(from, "\x50\x02\0\3"); /* a clean publisher: nothing about its id is stored */
    to->t.out_size = 0;
}

static void a_retained_message_waits_for_its_commit(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true);
    SEND(from, "\x33\x06\0\1t\0\1x");
    settle();
    EXPECT(from, "");
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_RETAINED), 1);
    commit();
    settle();
    EXPECT(from, "\x40\x02\0\1");
}

static void a_kept_publishers_id_is_stored(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", false);
    SEND(from, "\x34\x06\0\1t\0\7x");
    settle();
    EXPECT(from, "");
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_IN_ID), 1);
    assert_int_equal(under_way(CHANGE_IN_ID)->id, 7);
    assert_int_equal(under_way(CHANGE_IN_ID)->session, from->conn->session->number);
    SEND(from, "\x3C\x06\0\1t\0\7x\x3C\x06\0\1t\0\7x"); /* impatient: no answer before the first one's */
    settle();
    EXPECT(from, "");
    commit();
    settle();
    EXPECT(from, "\x50\x02\0\7"); /* and one is enough */
    SEND(from, "\x3C\x06\0\1t\0\7x");
    settle();
    EXPECT(from, "\x50\x02\0\7");
    SEND(from, "\x62\x02\0\7");
    settle();
    EXPECT(from, ""); /* else a reused id would be swallowed as a duplicate after a crash */
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_IN_ID_DONE), 1);
    commit();
    settle();
    EXPECT(from, "\x70\x02\0\7");
    SEND(from, "\x62\x02\0\7");
    settle();
    EXPECT(from, "\x70\x02\0\7"); /* unknown by now: at once */
}

static void a_repetition_on_the_next_connection_waits_too(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", false), *to = client_up("to", true);
    subscribe(to, "t", 0);
    SEND(from, "\x34\x06\0\1t\0\7x");
    settle();
    struct client *next = client_up("from", false);
    assert_true(from->t.closed);
    SEND(next, "\x3C\x06\0\1t\0\7x");
    settle();
    EXPECT(next, "");
    EXPECT(to, "\x30\x04\0\1tx");
    commit();
    settle();
    EXPECT(next, "\x50\x02\0\7");
    EXPECT(from, ""); /* held packets die with their connection */
}

static void pubrel_to_a_kept_session_waits_for_its_commit(void **unused)
{
    (void)unused;
    struct client *to = kept_subscriber("to", 2), *from = client_up("from", true);
    SEND(from, "\x34\x06\0\1t\0\7x");
    settle();
    EXPECT(to, ""); /* a crash must not give its identifier to another one */
    commit_all();
    EXPECT(to, "\x34\x06\0\1t\0\1x");
    EXPECT(from, "\x50\x02\0\7");
    SEND(to, "\x50\x02\0\1");
    settle();
    EXPECT(to, "");
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_OUT), 1);
    commit();
    settle();
    EXPECT(to, "\x62\x02\0\1");
    SEND(to, "\x70\x02\0\1");
    settle();
    assert_int_equal(to->conn->session->inflight, 0);
}

static void a_session_that_ends_is_not_waited_for(void **unused)
{
    (void)unused;
    struct client *to = kept_subscriber("to", 1), *from = client_up("from", true);
    client_drop(to);
    SEND(from, "\x32\x06\0\1t\0\1x");
    settle();
    EXPECT(from, "");
    to = client_open();
    send_connect(to, "to", true); /* CleanSession: what it was owed is void */
    settle();
    EXPECT(from, "\x40\x02\0\1");
    commit_all();
    EXPECT(to, "\x20\x02\0\0");
}

/* A client that hears nothing sends again. */
static void a_quality_1_whose_puback_is_held_is_the_same_when_it_comes_again(void **unused)
{
    (void)unused;
    struct client *away = kept_subscriber("away", 1), *from = client_up("from", true),
                  *to = client_up("to", true);
    subscribe(to, "#", 0);
    client_drop(away);
    SEND(from, "\x32\x06\0\1t\0\1x\x32\x06\0\1u\0\2y");
    settle();
    EXPECT(to, "\x30\x04\0\1tx\x30\x04\0\1uy");
    /* the second one has nothing to wait for but the first, and that is enough */
    SEND(from, "\x3A\x06\0\1t\0\1x\x3A\x06\0\1u\0\2y\x32\x06\0\1t\0\1x");
    settle();
    EXPECT(to, "");
    EXPECT(from, "");
    SEND(from, "\x32\x06\0\1t\0\1z\x32\x06\0\1v\0\1x\x33\x06\0\1t\0\1x\x32\x06\0\1t\0\3x"); /* others */
    settle();
    EXPECT(to, "\x30\x04\0\1tz\x30\x04\0\1vx\x30\x04\0\1tx\x30\x04\0\1tx");
    commit_all();
    EXPECT(from, "\x40\x02\0\1\x40\x02\0\2\x40\x02\0\1\x40\x02\0\1\x40\x02\0\1\x40\x02\0\3");
    SEND(from, "\x3A\x06\0\1t\0\1x"); /* it was acknowledged: another one */
    settle();
    EXPECT(to, "\x30\x04\0\1tx");
    commit_all();
    EXPECT(from, "\x40\x02\0\1");
}

static void a_quality_1_that_is_not_held_is_always_another_one(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "#", 0);
    SEND(from, "\x32\x06\0\1t\0\1x\x32\x06\0\1t\0\1x");
    settle();
    EXPECT(to, "\x30\x04\0\1tx\x30\x04\0\1tx");
    EXPECT(from, "\x40\x02\0\1\x40\x02\0\1");
}

/* The removal of the id is stored before anybody hears of it, whichever PUBREL asks, and on which connection.
 */
static void a_pubrel_that_comes_again_waits_too(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", false);
    SEND(from, "\x34\x06\0\1t\0\7x");
    commit_all();
    EXPECT(from, "\x50\x02\0\7");
    SEND(from, "\x62\x02\0\7\x62\x02\0\7");
    settle();
    EXPECT(from, "");
    struct client *next = client_up("from", false);
    SEND(next, "\x62\x02\0\7");
    settle();
    EXPECT(next, "");
    SEND(next, "\x62\x02\0\7");
    commit_all();
    EXPECT(next, "\x70\x02\0\7"); /* one answer is enough */
    SEND(next, "\x62\x02\0\7");
    settle();
    EXPECT(next, "\x70\x02\0\7"); /* at once */
}

/* What it is owed to because of it goes into the batch of the id, also where the client is there and might
 * acknowledge first. */
static void an_inbound_id_and_its_message_are_one_transaction(void **unused)
{
    (void)unused;
    rig.config.persistence_commit_delay = 3600000;
    limits_changed();
    struct client *from = client_up("from", false), *to = kept_subscriber("to", 1);
    SEND(from, "\x34\x06\0\1t\0\7x");
    settle();
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_IN_ID), 1);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_MESSAGE), 1);
    commit_all();
    EXPECT(from, "\x50\x02\0\7");
    EXPECT(to, "\x32\x06\0\1t\0\1x");
}

static void the_publisher_may_go_before_the_commit(void **unused)
{
    (void)unused;
    struct client *to = kept_subscriber("to", 1), *from = client_up("from", true);
    client_drop(to);
    SEND(from, "\x32\x06\0\1t\0\1x");
    settle();
    client_drop(from);
    from = client_up("other", true); /* in its place */
    commit();
    settle();
    EXPECT(from, "");
    to = client_open();
    send_connect(to, "to", false);
    settle();
    EXPECT(to, "\x20\x02\1\0\x32\x06\0\1t\0\1x");
}

static void changes_ride_together(void **unused)
{
    (void)unused;
    struct client *to = kept_subscriber("to", 1), *from = client_up("from", true);
    client_drop(to);
    SEND(from, "\x32\x06\0\1t\0\1a");
    settle();
    int batches = rig.storage.batches;
    for (uint16_t id = 2; id <= 50; id++) {
        send_publish(from, 2, "t", id, 1);
        settle(); /* each in a turn of its own, while the disk is busy */
    }
    assert_int_equal(rig.storage.batches, batches);
    commit();
    settle();
    EXPECT(from, "\x40\x02\0\1");
    assert_int_equal(rig.storage.batches, batches + 1); /* 49 publishes, one commit */
    assert_int_equal(rig.storage.count, 49);
    commit();
    settle();
    assert_int_equal(from->t.out_size, 49 * 4);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define D(name) cmocka_unit_test_setup_teardown(name, setup_durable, teardown)
    const struct CMUnitTest tests[] = {
        T(quality_0_just_goes_through),
        T(quality_1_is_acknowledged_on_both_sides),
        T(quality_2_goes_through_its_steps),
        T(a_repeated_quality_2_is_not_routed_again),
        T(a_pubrel_is_always_answered),
        T(what_is_published_at_once_comes_in_order),
        T(acknowledgements_that_do_not_fit_end_it),
        T(unknown_acknowledgements_are_no_harm),
        T(some_publishes_end_it),
        T(what_is_too_large_is_dropped),
        T(what_is_denied_is_dropped),
        T(limits_of_the_acl_hold_for_each),
        T(what_is_denied_is_told),
        T(the_last_right_to_publish_is_remembered),
        T(nobody_publishes_for_the_broker),
        T(memory_is_limited),
        T(what_memory_did_not_do_for_is_not_acknowledged),
        T(a_large_message_beyond_memory_is_not_read),
        T(what_stays_leaves_room_for_what_passes),
        T(the_mount_point_comes_and_goes),
        T(the_last_retained_message_stays),
        D(puback_waits_for_the_commit),
        D(puback_leaves_early_when_all_recipients_have_it),
        D(puback_does_not_wait_where_nothing_is_durable),
        D(acknowledgements_stay_in_order),
        D(a_retained_message_waits_for_its_commit),
        D(a_kept_publishers_id_is_stored),
        D(a_repetition_on_the_next_connection_waits_too),
        D(pubrel_to_a_kept_session_waits_for_its_commit),
        D(a_session_that_ends_is_not_waited_for),
        D(a_quality_1_whose_puback_is_held_is_the_same_when_it_comes_again),
        T(a_quality_1_that_is_not_held_is_always_another_one),
        D(a_pubrel_that_comes_again_waits_too),
        D(an_inbound_id_and_its_message_are_one_transaction),
        D(the_publisher_may_go_before_the_commit),
        D(changes_ride_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
