/*
 * test_on_subscribe.c - SUBSCRIBE and UNSUBSCRIBE: codes, retained messages, rights, mount points.
 */
#include "fake_broker.h"

static void each_filter_gets_its_code(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    SEND(c, "\x82\x12\x12\x34\0\1a\0\0\1b\1\0\1#\2\0\1+\1");
    settle();
    EXPECT(c, "\x90\x06\x12\x34\0\1\2\1"); /* [MQTT-3.8.4-2], [MQTT-3.8.4-5] */
    assert_int_equal(subs_count(rig.broker.subs), 4);
    assert_int_equal(c->conn->session->sub_count, 4);
}

static void the_same_filter_replaces(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true), *from = client_up("from", true);
    SEND(c, "\x82\x0A\0\1\0\1a\2\0\1a\0");
    settle();
    EXPECT(c, "\x90\x04\0\1\2\0");
    assert_int_equal(subs_count(rig.broker.subs), 1);
    SEND(from, "\x32\x06\0\1a\0\1x");
    settle();
    EXPECT(c, "\x30\x04\0\1ax");
}

static void overlapping_filters_deliver_once_at_the_highest_qos(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true), *from = client_up("from", true);
    subscribe(c, "a/#", 0);
    subscribe(c, "a/+", 2);
    subscribe(c, "a/b", 1);
    SEND(from, "\x34\x08\0\3a/b\0\1x");
    settle();
    EXPECT(c, "\x34\x08\0\3a/b\0\1x");
}

static void quality_is_granted_up_to_max_qos(void **unused)
{
    (void)unused;
    rig.listener.max_qos = 1;
    struct client *c = client_up("c", true);
    SEND(c, "\x82\x0E\0\1\0\1a\0\0\1b\1\0\1c\2");
    settle();
    EXPECT(c, "\x90\x05\0\1\0\1\1");
}

/* The QoS of a limit is granted, and filters under which nothing is readable are refused where that is asked
 * for. */
static void limits_of_the_acl_hold_for_subscriptions(void **unused)
{
    (void)unused;
    use_acl("qos 1\ntopic read a/#\ntopic subscribe +\ntopic subscribe a/#\ntopic deny x\n");
    listen_to_decisions();
    struct client *c = client_up("c", true);
    SEND(c, "\x82\x0E\0\1\0\1a\0\0\1b\2\0\1x\1");
    settle();
    EXPECT(c, "\x90\x05\0\1\0\1\x80");
    expect_denied(1, DECIDED_SUBSCRIBE, "x", 1, 5, "a rule of the ACL denies it");
    SEND(c, "\x82\x08\0\2\0\3b/#\2");
    settle();
    EXPECT(c, "\x90\x03\0\2\x80");
    expect_denied(2, DECIDED_SUBSCRIBE, "b/#", 2, 0, "no rule of the ACL allows it"); /* the QoS asked for */
    rig.config.acl_refuse_unreadable = true;
    SEND(c, "\x82\x0E\0\3\0\1a\2\0\1b\1\0\1+\1");
    settle();
    EXPECT(c, "\x90\x05\0\3\1\x80\1");
    expect_denied(3, DECIDED_SUBSCRIBE, "b", 1, 0, "nothing that it matches may be read");
}

static void rights_count_when_a_message_is_sent(void **unused)
{
    (void)unused;
    use_acl("topic read ok/#\ntopic deny ok/secret\n");
    struct client *c = client_up("c", true), *from = client_up("from", true);
    SEND(c, "\x82\x10\0\1\0\4ok/+\1\0\4no/+\1");
    settle();
    EXPECT(c, "\x90\x04\0\1\1\1"); /* as in mosquitto: what counts is the right to read each message */
    use_acl("topic write #\ntopic read ok/#\ntopic deny ok/secret\n");
    SEND(from, "\x30\x07\0\4ok/ax\x30\x0C\0\x09ok/secretx\x30\x07\0\4no/ax");
    settle();
    EXPECT(c, "\x30\x07\0\4ok/ax");
    use_acl("topic write #\n");
    SEND(from, "\x30\x07\0\4ok/ax");
    settle();
    EXPECT(c, ""); /* and a right that is gone ends a live subscription */
}

static void too_deep_filters_end_it(void **unused)
{
    (void)unused;
    rig.config.max_topic_levels = 3;
    struct client *c = client_up("c", true);
    SEND(c, "\x82\x0A\0\1\0\5a/b/#\1");
    settle();
    EXPECT(c, "\x90\x03\0\1\1");
    SEND(c, "\x82\x0C\0\1\0\7a/b/c/#\1");
    settle();
    assert_true(c->t.closed);
}

static void unsubscribing_ends_delivery(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true), *from = client_up("from", true);
    subscribe(c, "a", 1);
    subscribe(c, "b", 1);
    SEND(c, "\xA2\x05\x12\x34\0\1a");
    settle();
    EXPECT(c, "\xB0\x02\x12\x34"); /* [MQTT-3.10.4-4] */
    SEND(from, "\x30\x04\0\1ax\x30\x04\0\1bx");
    settle();
    EXPECT(c, "\x30\x04\0\1bx");
    SEND(c, "\xA2\x0A\0\2\0\1q\0\1+\0\0");
    settle();
    assert_true(c->t.closed); /* an empty filter */
    c = client_up("c", true);
    SEND(c, "\xA2\x08\0\2\0\1q\0\1+");
    settle();
    EXPECT(c, "\xB0\x02\0\2"); /* also where there was nothing [MQTT-3.10.4-5] */
}

/* SUBSCRIBE (0x82) or UNSUBSCRIBE (0xA2) with that many filters of so many levels, which have nothing in
 * common. */
static void send_filters(struct client *c, uint8_t first, int filters, int levels)
{
    size_t text = 6 + 2 * (size_t)(levels - 1), each = 2 + text + (first == 0x82);
    uint8_t *p = malloc(16 + each * (size_t)filters);
    size_t n = packet_put_header(p, first, (uint32_t)(2 + each * (size_t)filters));
    packet_put_u16(p + n, 1);
    n += 2;
    for (int i = 0; i < filters; i++, n += each) {
        packet_put_u16(p + n, (uint16_t)text);
        snprintf((char *)p + n + 2, 7, "%06u", (unsigned)i % 1000000);
        for (int k = 1; k < levels; k++) {
            memcpy(p + n + 8 + 2 * (k - 1), "/x", 2);
        }
        if (first == 0x82) {
            p[n + each - 1] = 0;
        }
    }
    client_send(c, p, n);
    free(p);
}

static void send_many(struct client *c, int filters, int levels)
{
    send_filters(c, 0x82, filters, levels);
}

/* ---- more filters in a packet than a turn has time for ---- */

enum { MANY = 1000, DEEP = 20, BYTES = 6 + 2 * (DEEP - 1), VISITS = 16 + 2 * BYTES };
#define ONE_OF_THEM "000007/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x"

/* Sends them, and lets it come to them. */
static void ask_many(struct client *c)
{
    send_many(c, MANY, DEEP);
    while (!c->conn->asking) {
        assert_true(one_turn());
    }
    assert_in_range(subs_count(rig.broker.subs), 1, MANY - 1);
}

/* One SUBACK for all of them, and nothing else of that client is heard before it; the others are, each turn.
 * What is split in pieces or comes as a whole is the same. */
static void many_filters_take_many_turns(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true), *other = client_up("other", true);
    for (int whole = 0; whole <= 1; whole++) {
        c->t.read_most = whole ? 0 : 3000;
        send_many(c, MANY, DEEP);
        SEND(c, "\x30\x2F\0\x2C" ONE_OF_THEM "x\xC0\0");
        int turns = 0, asking = 0;
        for (SEND(other, "\xC0\0"); one_turn(); turns++) {
            EXPECT(other, "\xD0\0");
            SEND(other, "\xC0\0");
            if (c->conn->asking) {
                asking++;
                assert_int_equal(c->t.out_size, 0);
                assert_false(c->t.reading);
            } else if (asking && c->t.out_size >= 3 + 2 + MANY + 2 + 47 + 2) {
                break;
            }
        }
        assert_in_range(asking, MANY * VISITS / (TURN_VISITS / 2), MANY * VISITS / (TURN_VISITS / 2) + 2);
        assert_int_equal(c->t.out_size, 3 + 2 + MANY + 2 + 47 + 2);
        assert_memory_equal(c->t.out, "\x90\xEA\x07\0\1\0\0\0", 8);
        assert_memory_equal(c->t.out + 5 + MANY, "\xD0\0\x30\x2F\0\x2C", 6); /* answers first */
        assert_int_equal(subs_count(rig.broker.subs), MANY);
        settle();
        assert_true(c->t.reading);
        c->t.out_size = other->t.out_size = 0;
    }
}

/* What a turn does for them is bounded, and all of them get on. */
static void many_clients_may_ask_at_once(void **unused)
{
    enum { CLIENTS_THAT_ASK = 40, LEAST = 2000 };
    (void)unused;
    struct client *asking[CLIENTS_THAT_ASK], *other = client_up("other", true);
    for (int i = 0; i < CLIENTS_THAT_ASK; i++) {
        char id[16];
        snprintf(id, sizeof id, "c%d", i);
        asking[i] = client_up(id, true);
    }
    for (int i = 0; i < CLIENTS_THAT_ASK; i++) {
        send_many(asking[i], MANY / 4, DEEP);
    }
    size_t before = 0;
    int turns = 0;
    for (bool busy = true; busy; turns++) {
        SEND(other, "\xC0\0");
        one_turn();
        EXPECT(other, "\xD0\0");
        size_t done = subs_count(rig.broker.subs);
        assert_in_range((done - before) * VISITS, 0, TURN_VISITS + CLIENTS_THAT_ASK * (LEAST + VISITS));
        before = done;
        busy = false;
        for (int i = 0; i < CLIENTS_THAT_ASK; i++) {
            uint32_t had = asking[i]->conn->session->sub_count;
            assert_in_range(had, turns ? 1 : 0, MANY / 4);
            busy |= had < MANY / 4;
        }
    }
    settle();
    for (int i = 0; i < CLIENTS_THAT_ASK; i++) {
        assert_int_equal(asking[i]->t.out_size, 3 + 2 + MANY / 4);
    }
}

static void many_filters_to_unsubscribe_take_many_turns_too(void **unused)
{
    (void)unused;
    uint64_t held = mem_held();
    struct client *c = client_up("c", true);
    send_many(c, MANY, DEEP);
    settle();
    c->t.out_size = 0;
    send_filters(c, 0xA2, MANY, DEEP);
    int turns = 0;
    while (one_turn()) {
        assert_true(!c->conn->asking || c->t.out_size == 0);
        turns++;
    }
    assert_in_range(turns, MANY * VISITS / (TURN_VISITS / 2), 100);
    EXPECT(c, "\xB0\2\0\1");
    assert_int_equal(subs_count(rig.broker.subs), 0);
    assert_in_range(mem_held(), held, held + 10000);
}

static void it_may_be_taken_over_while_it_asks(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", false);
    ask_many(c);
    assert_true(mem_held() > MANY * BYTES); /* the packet counts */
    struct client *again = client_open();
    send_connect(again, "c", false);
    settle();
    assert_true(c->t.closed);
    EXPECT(again, "\x20\2\1\0"); /* the session, and what it got until then */
    assert_in_range(subs_count(rig.broker.subs), 1, MANY - 1);
    ask_many(again);
    c = client_open();
    send_connect(c, "c", true); /* CleanSession */
    settle();
    assert_true(again->t.closed);
    EXPECT(c, "\x20\2\0\0");
    assert_int_equal(subs_count(rig.broker.subs), 0);
    ask_many(c);
    /* teardown frees the broker in the middle of it */
}

/* A client with a will at "t", and one that watches it. */
static struct client *mortal(struct client **watcher)
{
    *watcher = client_up("watcher", true);
    subscribe(*watcher, "t", 0);
    struct client *c = client_open();
    SEND(c, "\x10\x13\0\4MQTT\4\6\0\x3C\0\1w\0\1t\0\1!");
    settle();
    EXPECT(c, "\x20\2\0\0");
    return c;
}

/* It goes while it asks. What it sent before counts: what it asked for, and a DISCONNECT. */
static void a_disconnect_behind_it_counts(void **unused)
{
    (void)unused;
    struct client *watcher, *c = mortal(&watcher);
    for (int way = 0; way < 4; way++) {
        ask_many(c);
        SEND(c, "\xC0\0\xE0\0");
        c->t.at_end = way == 0;                      /* half-closed */
        c->t.read_error = way > 0 ? -ECONNRESET : 0; /* reset, which reading meets behind it... */
        if (way > 1) {                               /* ...or writing before it */
            c->t.write_error = -EPIPE;
            subs_add(rig.broker.subs, c->conn->session, slice_str("news"), 0);
            SEND(watcher, "\x30\7\0\4news!");
        }
        if (way > 2) { /* and it takes its time */
            one_turn();
            assert_true(c->conn->broken && c->conn->asking);
            for (int i = 0; i < 3; i++) {
                fake_loop_pass(rig.broker.loop, 5000);
                assert_false(c->t.closed);
            }
            fake_loop_pass(rig.broker.loop, 4000);
            while (c->conn->asking) {
                one_turn();
            }
            fake_loop_pass(rig.broker.loop, 2000);
            assert_false(c->t.closed);
        }
        settle();
        assert_true(c->t.closed);
        EXPECT(watcher, "");
        c = client_open();
        SEND(c, "\x10\x13\0\4MQTT\4\6\0\x3C\0\1w\0\1t\0\1!");
        settle();
        EXPECT(c, "\x20\2\0\0");
    }
    ask_many(c); /* and without one there is a will */
    c->t.at_end = true;
    settle();
    EXPECT(watcher, "\x30\4\0\1t!");
    c = client_open();
    SEND(c, "\x10\x13\0\4MQTT\4\6\0\x3C\0\1w\0\1t\0\1!");
    settle();
    ask_many(c);
    c->conn->peer.ops->kick(&c->conn->peer, "somebody wants it");
    settle();
    EXPECT(watcher, "\x30\4\0\1t!");
    assert_int_equal(subs_count(rig.broker.subs), 1);
}

/* The time in which it is not listened to does not count for its keep alive of 60 seconds. */
static void asking_is_no_silence(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    ask_many(c);
    fake_loop_pass(rig.broker.loop, 200000);
    one_turn();
    assert_true(c->conn->asking);
    settle();
    fake_loop_pass(rig.broker.loop, 89000);
    settle();
    assert_false(c->t.closed);
    fake_loop_pass(rig.broker.loop, 2000);
    settle();
    assert_true(c->t.closed);
}

/* A reload exchanges the configuration between two turns. */
static void a_reload_may_come_while_it_asks(void **unused)
{
    static char mount[] = "home/";
    (void)unused;
    for (int i = 0; i <= 1; i++) {
        rig.listener.mount_point = i ? mount : NULL;
        struct client *c = client_up("c", true);
        ask_many(c);
        rig.listener.mount_point = i ? NULL : mount;
        use_acl("topic write #\n");
        settle();
        assert_int_equal(c->t.out_size, 3 + 2 + MANY);
        assert_int_equal(subs_count(rig.broker.subs), MANY);
        assert_int_equal(subs_has(rig.broker.subs, c->conn->session, slice_str("home/" ONE_OF_THEM)), i);
        client_drop(c);
        settle();
    }
}

/* Ending a client with a great many filters takes many turns; to everybody it is gone at once. */
static void many_subscriptions_go_bit_by_bit(void **unused)
{
    (void)unused;
    uint64_t held = mem_held();
    struct client *c = client_up("c", true), *from = client_up("from", true);
    send_many(c, MANY, DEEP);
    settle();
    assert_int_equal(subs_count(rig.broker.subs), MANY);
    c->t.at_end = true;
    one_turn();
    assert_true(c->t.closed);
    assert_in_range(subs_count(rig.broker.subs), MANY / 2, MANY - 1);
    struct client *again = client_open();
    send_connect(again, "c", true);
    SEND(from, "\x30\x2F\0\x2C"
               "000000/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/x"
               "x");
    int turns = 0;
    while (one_turn()) {
        turns++;
    }
    assert_in_range(turns, 2, 20);
    EXPECT(again, "\x20\2\0\0");
    assert_int_equal(subs_count(rig.broker.subs), 0);
    from->t.at_end = again->t.at_end = true;
    settle();
    assert_in_range(mem_held(), held, held + 10000); /* the table of the tree has become small again */
}

/* ---- retained ---- */

static void retain(const char *topic, uint8_t qos, size_t payload)
{
    uint8_t bytes[100] = "rrrrrrrrr";
    struct msg *msg = msg_new(slice_str(topic), slice_of(bytes, payload), qos, true, NULL);
    assert_int_equal(retain_update(rig.broker.retain, msg), 0);
    msg_unref(msg);
}

static void retained_messages_follow_the_suback(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    retain("a", 0, 1);
    retain("b", 2, 2);
    SEND(c, "\x82\x0A\0\1\0\1a\1\0\1b\1");
    settle();
    EXPECT(c, "\x90\x04\0\1\1\1\x31\x04\0\1ar\x33\x07\0\1b\0\1rr");
    SEND(c, "\x82\x06\0\2\0\1a\0"); /* again: they come again [MQTT-3.8.4-3] */
    settle();
    EXPECT(c, "\x90\x03\0\2\0\x31\x04\0\1ar");
}

static void a_wildcard_does_not_bring_the_brokers_own(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    retain("$SYS/x", 0, 1);
    SEND(c, "\x82\x06\0\1\0\1#\0");
    settle();
    EXPECT(c, "\x90\x03\0\1\0");
    SEND(c, "\x82\x0B\0\1\0\6$SYS/#\0");
    settle();
    EXPECT(c, "\x90\x03\0\1\0\x31\x09\0\6$SYS/xr");
}

static void the_right_to_read_counts_for_retained_ones(void **unused)
{
    (void)unused;
    use_acl("topic read a/#\ntopic deny a/secret\n");
    struct client *c = client_up("c", true);
    retain("a/open", 0, 1);
    retain("a/secret", 0, 1);
    SEND(c, "\x82\x08\0\1\0\3a/#\0");
    settle();
    EXPECT(c, "\x90\x03\0\1\0\x31\x09\0\6a/openr");
}

/* check_retain_source: the publisher must still be allowed to. */
static void the_right_of_the_publisher_counts_too(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true), *from = client_up("from", true);
    SEND(from, "\x31\x04\0\1tr");
    settle();
    client_drop(from);
    use_acl("topic read t\n");
    SEND(c, "\x82\x06\0\1\0\1t\0");
    settle();
    EXPECT(c, "\x90\x03\0\1\0\x31\x04\0\1tr");
    rig.config.check_retain_source = true;
    SEND(c, "\x82\x06\0\1\0\1t\0");
    settle();
    EXPECT(c, "\x90\x03\0\1\0");
    use_acl("retain no\ntopic readwrite t\n"); /* and with RETAIN */
    SEND(c, "\x82\x06\0\1\0\1t\0");
    settle();
    EXPECT(c, "\x90\x03\0\1\0");
}

/* How many PUBLISH packets with RETAIN came; all must have it. */
static int count_retained(struct client *c)
{
    int n = 0;
    for (size_t at = 0; at < c->t.out_size;) {
        struct packet_frame frame;
        assert_int_equal(packet_frame(c->t.out + at, c->t.out_size - at, &frame), 1);
        if (frame.type == PKT_PUBLISH) {
            assert_int_equal(frame.flags & 1, 1);
            n++;
        }
        at += frame.header_size + frame.body_size;
    }
    c->t.out_size = 0;
    return n;
}

static void retain_many(int n, const char *below, uint8_t qos)
{
    for (int i = 0; i < n; i++) {
        char topic[32];
        snprintf(topic, sizeof topic, "%s/%d", below, i);
        retain(topic, qos, 1);
    }
}

/* More of them than max_queued_messages, for two filters of one packet and one of another: whoever reads gets
 * all of them, and all say that they are retained [MQTT-3.3.1-8]. */
static void very_many_retained_messages_come_and_say_so(void **unused)
{
    (void)unused;
    rig.config.max_queued_messages = 100;
    limits_changed();
    retain_many(300, "a", 0);
    retain_many(200, "b", 0);
    struct client *c = client_up("c", true);
    SEND(c, "\x82\x0E\0\1\0\3a/#\0\0\3b/#\0\x82\x08\0\2\0\3a/#\0");
    settle();
    assert_int_equal(count_retained(c), 800);
    assert_int_equal(rig.broker.sessions.dropped, 0);
}

static void subscriptions_count_for_the_memory_limit(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    SEND(c, "\x82\x06\0\1\0\1a\0");
    settle();
    EXPECT(c, "\x90\3\0\1\0");
    uint64_t before = mem_held();
    rig.config.memory_limit = before;
    SEND(c, "\x82\x0A\0\2\0\1b\0\0\1a\1"); /* one more, and one that it has */
    settle();
    EXPECT(c, "\x90\4\0\2\x80\1");
    rig.config.memory_limit = before + 10000;
    SEND(c, "\x82\x06\0\3\0\1b\0");
    settle();
    EXPECT(c, "\x90\3\0\3\0");
    assert_true(mem_held() > before);
    SEND(c, "\xA2\x05\0\4\0\1b");
    settle();
    EXPECT(c, "\xB0\2\0\4");
    assert_int_equal(mem_held(), before);
}

/* A blocked client, or one that asks again and again, cannot make the broker grow, nor keep the loop from the
 * others. */
static void retained_messages_are_bounded_all_the_same(void **unused)
{
    enum { FILTERS = 200 };
    (void)unused;
    rig.config.max_queued_messages = 100;
    limits_changed();
    retain_many(300, "a", 0);
    struct client *c = client_up("c", true);
    uint8_t *p = malloc(4 * FILTERS + 16);
    size_t n = packet_put_header(p, 0x82, 2 + 4 * FILTERS);
    memcpy(p + n, "\0\1", 2);
    n += 2;
    for (int i = 0; i < FILTERS; i++, n += 4) {
        memcpy(p + n, "\0\1#", 4);
    }
    client_send(c, p, n);
    c->t.port.events->readable(c->conn);
    assert_in_range(c->conn->session->queue0.count, 300,
                    100 + 300); /* the others wait until these are taken */
    assert_in_range(rig.broker.turn_visits, 300, TURN_VISITS + 301);
    one_turn(); /* settle() looks for input first, and that is read already */
    settle();
    assert_int_equal(count_retained(c), FILTERS * 300); /* and none is lost */
    assert_int_equal(c->conn->session->dropped, 0);
    assert_null(c->conn->session->owed);
    c->t.write_limit = 0;
    SEND(c, "\xC0\0");
    settle();
    assert_true(c->conn->peer.blocked);
    client_send(c, p, n);
    settle();
    assert_in_range(c->conn->session->queue0.count, 300, 100 + 300);
    assert_non_null(c->conn->session->owed);
    free(p);
}

/* SUBSCRIBE with so many filters that meet each message below "a" and find none. */
static void ask_for_nothing(struct client *c, int filters)
{
    uint8_t *p = malloc(8 * (size_t)filters + 16);
    size_t n = packet_put_header(p, 0x82, 2 + 8 * (uint32_t)filters);
    memcpy(p + n, "\0\1", 2);
    n += 2;
    for (int i = 0; i < filters; i++, n += 8) {
        memcpy(p + n, "\0\5a/+/x\0", 8);
    }
    client_send(c, p, n);
    free(p);
}

/* Looking costs time also where nothing is found. */
static void looking_for_nothing_does_not_stop_the_loop(void **unused)
{
    (void)unused;
    retain_many(300, "a", 0);
    struct client *c = client_up("c", true), *other = client_up("other", true);
    ask_for_nothing(c, 2000);
    SEND(other, "\xC0\0");
    int turns = 0;
    for (; c->t.in_size > 0 || c->conn->asking || c->conn->session->owed; turns++) {
        one_turn();
        assert_in_range(other->t.out_size, turns > 0 ? 2 : 0, 2);
    }
    assert_in_range(turns, 10, 50);
    EXPECT(other, "\xD0\0");
}

/* Clients that subscribe while work() makes the turns full. The first filter fills their queues, so the
 * message of the second has to wait for a turn of theirs: each gets one in its turn. */
static void expect_a_turn_for_each(void (*work)(struct client *), struct client *busy)
{
    enum { OTHERS = 5, BELOW_A = 3000 };
    struct client *others[OTHERS];
    for (int i = 0; i < OTHERS; i++) {
        char id[24];
        snprintf(id, sizeof id, "other%d", i);
        others[i] = client_up(id, true);
    }
    rig.config.max_queued_messages = BELOW_A / 30;
    limits_changed();
    retain_many(BELOW_A, "a", 0);
    retain("b", 0, 1);
    for (int turns = 0; turns < 10; turns++) {
        work(busy);
        one_turn();
    }
    for (int i = 0; i < OTHERS; i++) {
        SEND(others[i], "\x82\x0C\0\1\0\3a/#\0\0\1b\0");
    }
    for (int turns = 0; turns < OTHERS + 3; turns++) {
        work(busy);
        one_turn();
        assert_false(busy->t.closed);
    }
    for (int i = 0; i < OTHERS; i++) {
        assert_int_equal(count_retained(others[i]), BELOW_A + 1);
    }
}

static void subscribe_on(struct client *c)
{
    while (c->t.in_size < 10000) {
        ask_for_nothing(c, 40); /* looking for them takes more than two turns */
    }
}

/* Whoever waits for retained messages gets them, also beside one who is never done with asking for them... */
static void nobody_waits_for_one_who_subscribes_without_end(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    expect_a_turn_for_each(subscribe_on, c);
    settle();
    assert_null(c->conn->session->owed); /* who gets on as well */
}

static bool asked;

static void subscribe_once(struct client *c)
{
    if (!asked) {
        ask_for_nothing(c, 2000);
        asked = true;
    }
}

/* ...or has asked for very many in one packet... */
static void nobody_waits_for_one_who_has_subscribed_to_very_much(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    asked = false;
    expect_a_turn_for_each(subscribe_once, c);
    assert_non_null(c->conn->session->owed);
}

static void publish_on(struct client *c)
{
    while (c->t.in_size < 60000) { /* for a great many turns, or there would be one that is not full */
        SEND(c, "\x30\x16\0\x13x/x/x/x/x/x/x/x/x/x!");
    }
}

/* ...and beside one whose messages have to be looked up at a great many places. */
static void nobody_waits_for_one_who_publishes_without_end(void **unused)
{
    enum { LEVELS = 10 };
    (void)unused;
    struct client *c = client_up("c", true);
    for (int i = 0; i < 1 << LEVELS; i++) {
        char filter[2 * LEVELS + 2] = {0};
        for (int k = 0; k < LEVELS; k++) {
            memcpy(filter + 2 * k, i >> k & 1 ? "x/" : "+/", 2);
        }
        filter[2 * LEVELS] = 'y';
        assert_int_equal(subs_add(rig.broker.subs, c->conn->session, slice_str(filter), 0), 1);
    }
    expect_a_turn_for_each(publish_on, c);
}

/* A client that takes nothing may not let its debts grow either. */
static void what_is_owed_is_bounded(void **unused)
{
    enum { FILTERS = 50, SIZE = 4000, PACKETS = 30 };
    (void)unused;
    rig.config.max_queued_messages = 10;
    limits_changed();
    retain_many(50, "a", 0);
    struct client *c = client_up("c", true);
    c->t.write_limit = 0;
    uint8_t *p = calloc(1, SIZE * FILTERS + 16);
    size_t n = packet_put_header(p, 0x82, 2 + 4 + SIZE * FILTERS);
    memcpy(p + n, "\0\1\0\1#", 6); /* the first filter fills the queue, the others have to wait */
    n += 6;
    for (int i = 0; i < FILTERS; i++, n += SIZE) {
        packet_put_u16(p + n, SIZE - 3);
        memset(p + n + 2, 'x', SIZE - 3);
    }
    for (int i = 0; i < PACKETS; i++) {
        client_send(c, p, n);
    }
    free(p);
    settle();
    assert_in_range(c->conn->session->queue0.count, 1, 10 + 50);
    assert_in_range(c->conn->session->dropped, PACKETS - 4 * 1024 * 1024 / (SIZE * FILTERS) - 1, PACKETS - 1);
}

/* The answers that wait for it are counted, and weighed: a SUBACK may be large. */
static void who_does_not_read_its_subacks_is_not_heard(void **unused)
{
    enum { FILTERS = 50000, PACKETS = 30 };
    (void)unused;
    struct client *c = client_up("c", true);
    c->t.write_limit = 0;
    uint8_t *p = malloc(4 * FILTERS + 16);
    size_t n = packet_put_header(p, 0x82, 2 + 4 * FILTERS);
    memcpy(p + n, "\0\1", 2);
    n += 2;
    for (int i = 0; i < FILTERS; i++, n += 4) {
        memcpy(p + n, "\0\1#", 4);
    }
    for (int i = 0; i < PACKETS; i++) {
        client_send(c, p, n);
    }
    free(p);
    settle();
    assert_in_range(c->conn->out.bytes, FILTERS, 3 * FILTERS);
    assert_true(c->t.in_size > 0);
    c->t.write_limit = FAKE_NO_LIMIT; /* now it does */
    settle();
    assert_int_equal(c->t.in_size, 0);
    assert_int_equal(c->conn->out.bytes, 0);
}

/* What has been unsubscribed while the client was taking other messages does not come any more. */
/* ...or has gone by then. */
static void who_waits_for_retained_messages_may_go(void **unused)
{
    (void)unused;
    struct client *writer = client_up("writer", true), *c = client_up("c", true);
    SEND(writer, "\x31\x05\0\1a!!");
    settle();
    rig.broker.turn_visits = TURN_VISITS;
    SEND(c, "\x82\6\0\1\0\1#\1\xe0\0");
    c->t.port.events->readable(c->conn);
    settle();
    assert_true(c->t.closed);
    EXPECT(c, "\x90\3\0\1\1");
}

static void what_is_owed_ends_with_the_subscription(void **unused)
{
    (void)unused;
    rig.config.max_queued_messages = 10;
    limits_changed();
    retain_many(50, "a", 0);
    retain_many(5, "b", 0);
    retain_many(3, "c", 0);
    struct client *c = client_up("c", true);
    SEND(c, "\x82\x14\0\1\0\3a/#\0\0\3b/#\0\0\3c/#\0\xA2\x07\0\2\0\3b/#");
    settle();
    assert_int_equal(count_retained(c), 50 + 3);
    assert_null(c->conn->session->owed);
}

static void mounted_filters_bring_mounted_messages(void **unused)
{
    static char mount[] = "home/";
    (void)unused;
    rig.listener.mount_point = mount;
    retain("home/a", 0, 1);
    retain("a", 0, 2);
    struct client *c = client_up("c", true);
    SEND(c, "\x82\x06\0\1\0\1#\0");
    settle();
    EXPECT(c, "\x90\x03\0\1\0\x31\x04\0\1ar");
    SEND(c, "\xA2\x05\0\2\0\1#");
    settle();
    EXPECT(c, "\xB0\x02\0\2");
    assert_int_equal(subs_count(rig.broker.subs), 0);
}

static void a_filter_may_get_too_long_with_its_mount(void **unused)
{
    static char mount[] = "home/";
    (void)unused;
    rig.listener.mount_point = mount;
    struct client *c = client_up("c", true);
    uint8_t *p = malloc(70000);
    size_t n = packet_put_header(p, 0x82, 2 + 2 + 65535 + 1);
    memcpy(p + n, "\0\1\xFF\xFF", 4);
    memset(p + n + 4, 'x', 65535);
    p[n + 4 + 65535] = 1;
    client_send(c, p, n + 4 + 65536);
    settle();
    EXPECT(c, "\x90\x03\0\1\x80");
    assert_int_equal(subs_count(rig.broker.subs), 0);
    free(p);
}

/* ---- durable ---- */

static void a_kept_sessions_suback_waits_for_its_commit(void **unused)
{
    (void)unused;
    struct client *kept = client_up("kept", false), *clean = client_up("clean", true);
    SEND(kept, "\x82\x06\0\1\0\1a\1\xA2\x05\0\2\0\1a\xC0\0");
    SEND(clean, "\x82\x06\0\1\0\1a\1");
    settle();
    EXPECT(clean, "\x90\x03\0\1\1");
    EXPECT(kept, "\xD0\0");
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_SUBSCRIBE), 1);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_UNSUBSCRIBE), 1);
    assert_int_equal(under_way(CHANGE_SUBSCRIBE)->session, kept->conn->session->number);
    assert_int_equal(under_way(CHANGE_SUBSCRIBE)->qos, 1);
    assert_true(under_way(CHANGE_SUBSCRIBE)->owing);
    assert_int_equal(under_way(CHANGE_SUBSCRIBE)->count, 1);
    assert_memory_equal(under_way(CHANGE_SUBSCRIBE)->text, "a", 1);
    assert_memory_equal(under_way(CHANGE_UNSUBSCRIBE)->text, "a", 1);
    commit();
    settle();
    EXPECT(kept, "\x90\x03\0\1\1\xB0\x02\0\2");
}

/* The retained messages of a SUBSCRIBE start after its SUBACK. */
static void retained_messages_wait_for_a_held_suback(void **unused)
{
    (void)unused;
    retain("a", 0, 1);
    struct client *kept = client_up("kept", false), *from = client_up("from", true);
    SEND(kept, "\x82\x06\0\1\0\1a\1");
    settle();
    EXPECT(kept, "");
    SEND(from, "\x30\x04\0\1ax");
    settle();
    EXPECT(kept, "\x30\x04\0\1ax"); /* others need not wait */
    commit();
    settle();
    EXPECT(kept, "\x90\x03\0\1\1\x31\x04\0\1ar");
}

/* A repeated UNSUBSCRIBE changes nothing, but that the first one did is not stored yet. */
static void an_unsuback_waits_whatever_it_changes(void **unused)
{
    (void)unused;
    struct client *kept = client_up("kept", false);
    subscribe(kept, "a", 1);
    SEND(kept, "\xA2\x05\0\2\0\1a\xA2\x05\0\3\0\1a");
    settle();
    EXPECT(kept, "");
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_UNSUBSCRIBE), 1);
    commit_all();
    EXPECT(kept, "\xB0\x02\0\2\xB0\x02\0\3");
}

static const struct change *told(void)
{
    store_submit(rig.broker.store, true);
    return under_way(CHANGE_SUBSCRIBE);
}

/* That its retained messages are not owed any more is stored when the client has them: after a crash before
 * they come once more, and never not at all. */
static void a_subscription_owes_until_the_client_has_what_it_brought(void **unused)
{
    (void)unused;
    rig.config.persistence_commit_delay = 3600000; /* the client will acknowledge in time */
    limits_changed();
    retain("a", 1, 1);
    retain("b", 1, 1);
    struct client *kept = client_up("kept", false);
    SEND(kept, "\x82\x0A\0\1\0\1a\1\0\1b\1");
    commit_all();
    EXPECT(kept, "\x90\x04\0\1\1\1\x33\x06\0\1a\0\1r\x33\x06\0\1b\0\2r");
    SEND(kept, "\x40\2\0\1\xC0\0");
    settle();
    assert_non_null(kept->conn->session->handed);
    SEND(kept, "\x40\2\0\2\xC0\0");
    settle();
    assert_null(kept->conn->session->handed);
    assert_false(told()->owing);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_SUBSCRIBE), 2);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_MESSAGE), 0); /* nothing more was written for it */
    commit_all();
}

/* ...or when what it has not acknowledged goes into the same batch. */
static void what_a_client_leaves_behind_is_stored_with_that(void **unused)
{
    (void)unused;
    rig.config.persistence_commit_delay = 3600000;
    limits_changed();
    retain("a", 1, 1);
    struct client *kept = client_up("kept", false);
    SEND(kept, "\x82\6\0\1\0\1a\1");
    commit_all();
    EXPECT(kept, "\x90\3\0\1\1\x33\6\0\1a\0\1r");
    client_drop(kept);
    assert_false(told()->owing);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_MESSAGE), 1);
    commit_all();
}

/* ...however much that is. */
static void much_that_a_client_leaves_behind_is_one_transaction(void **unused)
{
    enum { LARGE = 2 * 1024 * 1024 };
    (void)unused;
    rig.config.persistence_commit_delay = 3600000;
    rig.config.max_inflight_messages = 1;
    limits_changed();
    uint8_t *payload = calloc(1, LARGE);
    for (int i = 0; i < 4; i++) { /* of which the first goes to the client */
        char topic[] = {'t', '/', (char)('a' + i), 0};
        struct msg *msg = msg_new(slice_str(topic), slice_of(payload, LARGE), 1, true, NULL);
        assert_int_equal(retain_update(rig.broker.retain, msg), 0);
        msg_unref(msg);
    }
    free(payload);
    struct client *kept = client_up("kept", false);
    SEND(kept, "\x82\x08\0\1\0\3t/+\1");
    commit_all();
    assert_int_equal(kept->conn->session->queue.count, 3);
    kept->t.out_size = 0;
    client_drop(kept);
    settle();
    assert_false(under_way(CHANGE_SUBSCRIBE)->owing);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_MESSAGE), 4);
    commit_all();
}

/* Its client goes before they were looked for. */
static void a_subscription_that_has_brought_nothing_owes_on(void **unused)
{
    (void)unused;
    retain("a", 1, 1);
    struct client *kept = client_up("kept", false);
    SEND(kept, "\x82\6\0\1\0\1a\1");
    settle();
    client_drop(kept);
    commit_all();
    assert_null(told());
    commit_lazy();
    kept = client_open();
    send_connect(kept, "kept", false);
    settle();
    EXPECT(kept, "\x20\2\1\0\x33\6\0\1a\0\1r");
    SEND(kept, "\x40\2\0\1\xA2\5\0\1\0\1a\xC0\0");
    commit_all();
    EXPECT(kept, "\xD0\0\xB0\2\0\1");
    assert_null(told()); /* it is not there any more */
    commit_lazy();
}

/* A great many are told of in several turns. */
static void many_filters_that_owe_nothing_more_take_several_turns(void **unused)
{
    enum { FILTERS = 1200 };
    (void)unused;
    struct client *kept = client_up("kept", false);
    uint8_t *p = malloc(FILTERS * 7 + 8);
    size_t n = packet_put_header(p, 0x82, 2 + FILTERS * 7);
    p[n++] = 0;
    p[n++] = 1;
    for (int i = 0; i < FILTERS; i++) {
        n += (size_t)snprintf((char *)p + n + 2, 5, "%04d", i) + 2;
        p[n - 6] = 0;
        p[n - 5] = 4;
        p[n++] = 1;
    }
    client_send(kept, p, n);
    free(p);
    commit_all();
    assert_int_equal(kept->t.out_size, FILTERS + 5);
    kept->t.out_size = 0;
    assert_null(kept->conn->session->handed);
    assert_false(told()->owing);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_SUBSCRIBE), FILTERS);
    commit_all();
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(each_filter_gets_its_code),
        T(the_same_filter_replaces),
        T(overlapping_filters_deliver_once_at_the_highest_qos),
        T(quality_is_granted_up_to_max_qos),
        T(limits_of_the_acl_hold_for_subscriptions),
        T(rights_count_when_a_message_is_sent),
        T(too_deep_filters_end_it),
        T(unsubscribing_ends_delivery),
        T(retained_messages_follow_the_suback),
        T(a_wildcard_does_not_bring_the_brokers_own),
        T(the_right_to_read_counts_for_retained_ones),
        T(the_right_of_the_publisher_counts_too),
        T(very_many_retained_messages_come_and_say_so),
        T(subscriptions_count_for_the_memory_limit),
        T(many_filters_take_many_turns),
        T(many_clients_may_ask_at_once),
        T(many_filters_to_unsubscribe_take_many_turns_too),
        T(it_may_be_taken_over_while_it_asks),
        T(a_disconnect_behind_it_counts),
        T(asking_is_no_silence),
        T(a_reload_may_come_while_it_asks),
        T(many_subscriptions_go_bit_by_bit),
        T(retained_messages_are_bounded_all_the_same),
        T(looking_for_nothing_does_not_stop_the_loop),
        T(nobody_waits_for_one_who_subscribes_without_end),
        T(nobody_waits_for_one_who_has_subscribed_to_very_much),
        T(nobody_waits_for_one_who_publishes_without_end),
        T(what_is_owed_is_bounded),
        T(who_does_not_read_its_subacks_is_not_heard),
        T(who_waits_for_retained_messages_may_go),
        T(what_is_owed_ends_with_the_subscription),
        T(mounted_filters_bring_mounted_messages),
        T(a_filter_may_get_too_long_with_its_mount),
        cmocka_unit_test_setup_teardown(a_kept_sessions_suback_waits_for_its_commit, setup_durable, teardown),
        cmocka_unit_test_setup_teardown(retained_messages_wait_for_a_held_suback, setup_durable, teardown),
        cmocka_unit_test_setup_teardown(an_unsuback_waits_whatever_it_changes, setup_durable, teardown),
        cmocka_unit_test_setup_teardown(a_subscription_owes_until_the_client_has_what_it_brought,
                                        setup_durable, teardown),
        cmocka_unit_test_setup_teardown(what_a_client_leaves_behind_is_stored_with_that, setup_durable,
                                        teardown),
        cmocka_unit_test_setup_teardown(much_that_a_client_leaves_behind_is_one_transaction, setup_durable,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_subscription_that_has_brought_nothing_owes_on, setup_durable,
                                        teardown),
        cmocka_unit_test_setup_teardown(many_filters_that_owe_nothing_more_take_several_turns, setup_durable,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
