/*
 * test_conn_rest.c - connections whose input rests: for a turn that has done enough, for a reload, for a slow
 * subscriber; and what becomes of it when the connection is lost meanwhile.
 */
#include "broker/dispatch.h"
#include "fake_broker.h"

/* This many more deliveries and the turn has done enough. */
static void leave_offers(uint32_t n)
{
    rig.broker.turn_offers = TURN_OFFERS - n;
}

static void readable_now(struct client *c)
{
    c->t.port.events->readable(c->conn);
}

/* ---- CONNECT during a reload ---- */

static void a_greeting_waits_for_the_new_rules(void **unused)
{
    (void)unused;
    struct client *up = client_up("up", true), *c = client_open();
    settle();
    conn_hold_greetings(&rig.broker, true);
    assert_false(c->t.reading);
    send_connect(c, "c", true);
    settle();
    readable_now(c); /* a transport may be late */
    EXPECT(c, "");
    SEND(up, "\xC0\0"); /* who is in is served */
    settle();
    EXPECT(up, "\xD0\0");
    conn_hold_greetings(&rig.broker, false);
    settle();
    EXPECT(c, "\x20\2\0\0");
}

static void nothing_to_read_after_all(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    readable_now(c); /* the socket says EAGAIN */
    settle();
    assert_false(c->t.closed);
    SEND(c, "\xC0\0");
    settle();
    EXPECT(c, "\xD0\0");
}

/* ---- the rest of a full turn ---- */

static void paused_and_resumed_within_one_turn(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 0);
    leave_offers(1);
    for (int i = 0; i < 3; i++) {
        send_publish(from, 0, "t", 0, 1);
    }
    readable_now(from);
    assert_true(from->conn->resume.scheduled);
    from->conn->peer.ops->pause(&from->conn->peer, true);
    from->conn->peer.ops->pause(&from->conn->peer, false);
    settle();
    assert_int_equal(to->t.out_size, 3 * 6);
    assert_true(from->t.reading);
}

static void ends_by(const char *packet, size_t n, bool will)
{
    struct client *to = client_up("to", true), *from = client_open();
    subscribe(to, "t", 0);
    SEND(from, "\x10\x16\0\4MQTT\4\6\0\x3c\0\4from\0\1t\0\1w");
    settle();
    EXPECT(from, "\x20\2\0\0");
    leave_offers(1);
    send_publish(from, 0, "t", 0, 1);
    client_send(from, packet, n);
    readable_now(from);
    assert_true(from->conn->input_rests);
    settle();
    assert_true(from->t.closed);
    assert_int_equal(to->t.out_size, 6 + (will ? 6 : 0));
    assert_int_equal(rig.broker.counters.protocol_errors, will);
    to->t.out_size = 0;
}

static void what_rested_may_be_a_disconnect(void **unused)
{
    (void)unused;
    ends_by("\xE0\0\xC0\0", 4, false);
}

static void what_rested_may_be_forbidden(void **unused)
{
    (void)unused;
    ends_by("\xF0\0\xC0\0", 4, true);
}

static void what_rested_may_be_no_packet_at_all(void **unused)
{
    (void)unused;
    ends_by("\x30\xFF\xFF\xFF\xFF\x01", 6, true);
}

/* ---- a slow subscriber ---- */

/* `to` acknowledges and has a queue that is half full: whoever publishes now waits for it. */
static struct client *under_pressure(void)
{
    rig.config.max_queued_messages = 10;
    limits_changed();
    struct client *to = client_up("to", true), *filler = client_up("filler", true);
    subscribe(to, "t", 1);
    for (uint16_t i = 1; i <= 6; i++) {
        send_publish(filler, 2, "t", i, 1);
    }
    readable_now(filler);
    assert_true(filler->conn->input_rests);
    to->conn->session->progress = true; /* as after an acknowledgement */
    return to;
}

static void two_publishers_may_wait(void **unused)
{
    (void)unused;
    struct client *to = under_pressure(), *second = client_open();
    conn_hold_greetings(&rig.broker, false);
    send_connect(second, "second", true);
    send_publish(second, 2, "t", 1, 1);
    readable_now(second);
    assert_true(second->conn->input_rests);
    assert_int_equal(to->conn->session->queue.count, 7);
    settle();
    fake_loop_pass(rig.broker.loop, 10);
    settle();
    assert_false(second->conn->input_rests);
    assert_true(second->t.reading);
}

/* Its last packet is forbidden, and its will is one message too many. */
static void who_has_ended_does_not_wait(void **unused)
{
    (void)unused;
    struct client *c = client_open();
    SEND(c, "\x10\x13\0\4MQTT\4\x0e\0\x3c\0\1c\0\1t\0\1w");
    settle();
    struct client *to = under_pressure();
    SEND(c, "\xF0\0");
    readable_now(c);
    assert_true(c->t.closed);
    assert_int_equal(to->conn->session->queue.count, 7);
    assert_false(rig.broker.pressure);
    settle();
    assert_int_equal(rig.broker.conn_count, 2);
}

static void the_broker_may_end_while_somebody_waits(void **unused)
{
    (void)unused;
    under_pressure();
    settle();
    assert_non_null(rig.broker.slow.first);
    /* teardown frees the broker and sees that nothing is left */
}

/* ---- output that is lost ---- */

/* A client whose socket breaks while its input rests; the last packet that it sent is what the test says. */
static struct client *broken_with(const char *packet, size_t n)
{
    struct client *from = client_open();
    SEND(from, "\x10\x16\0\4MQTT\4\6\0\x3c\0\4from\0\1t\0\1w");
    settle();
    EXPECT(from, "\x20\2\0\0");
    leave_offers(1);
    send_publish(from, 0, "t", 0, 1);
    SEND(from, "\xC0\0");
    client_send(from, packet, n);
    readable_now(from);
    assert_true(from->conn->input_rests);
    conn_answer(from->conn, (const uint8_t *)"\xD0\0", 2);
    from->t.write_error = -ECONNRESET;
    return from;
}

static void a_disconnect_behind_a_broken_connection_counts(void **unused)
{
    (void)unused;
    struct client *to = client_up("to", true);
    subscribe(to, "t", 0);
    struct client *from = broken_with("\xE0\0", 2);
    settle();
    assert_true(from->t.closed);
    assert_int_equal(to->t.out_size, 6); /* and no will */
    to->t.out_size = 0;
}

/* The same when nothing of it is read yet, because the turn is full. */
static void a_disconnect_that_is_still_to_be_read_counts(void **unused)
{
    (void)unused;
    struct client *to = client_up("to", true), *from = client_open();
    subscribe(to, "t", 0);
    SEND(from, "\x10\x16\0\4MQTT\4\6\0\x3c\0\4from\0\1t\0\1w");
    settle();
    EXPECT(from, "\x20\2\0\0");
    leave_offers(0);
    SEND(from, "\xE0\0");
    readable_now(from);
    assert_true(from->conn->input_rests && !from->conn->input);
    conn_answer(from->conn, (const uint8_t *)"\xD0\0", 2);
    from->t.write_error = -EPIPE;
    peer_list_flush(&rig.broker.flush); /* before the next turn reads it */
    assert_true(from->conn->broken);
    settle();
    assert_true(from->t.closed);
    EXPECT(to, "");
}

static void a_broken_connection_without_a_disconnect_has_its_will(void **unused)
{
    (void)unused;
    struct client *to = client_up("to", true);
    subscribe(to, "t", 0);
    struct client *from = broken_with("\xC0\0", 2);
    from->t.at_end = true;
    settle();
    assert_true(from->t.closed);
    EXPECT(to, "\x30\4\0\1t\0\x30\4\0\1tw");
}

/* Reading may rest for long: that is no reason to keep what is lost. */
static void a_broken_connection_is_not_kept_for_ever(void **unused)
{
    (void)unused;
    struct client *to = client_up("to", true);
    subscribe(to, "t", 0);
    struct client *from = broken_with("\xE0\0", 2);
    from->conn->peer.ops->pause(&from->conn->peer, true);
    settle();
    assert_false(from->t.closed);
    fake_loop_pass(rig.broker.loop, 5000);
    settle();
    assert_true(from->t.closed);
    EXPECT(to, "\x30\4\0\1t\0\x30\4\0\1tw");
}

/* When all that had come is read, nothing more comes on a broken connection. */
static void half_a_packet_is_not_waited_for(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    SEND(c, "\xC0\0\xC0");
    c->t.write_error = -EPIPE;
    settle();
    assert_true(c->t.closed);
}

static void the_last_answer_may_be_lost(void **unused)
{
    static const char *const whys[] = {"reset by peer", NULL};
    (void)unused;
    for (int i = 0; i < 2; i++) {
        struct client *c = client_open();
        c->t.why = whys[i];
        c->t.write_error = -EPIPE;
        SEND(c, "\x10\x0d\0\4MQTT\7\2\0\x3c\0\1c"); /* refused: no such level */
        settle();
        assert_true(c->t.closed);
        c = client_up("d", true);
        c->t.why = whys[i];
        c->t.read_error = -ECONNRESET;
        settle();
        assert_true(c->t.closed);
    }
}

/* ---- the last answers ---- */

/* More answers than one turn sends, and then DISCONNECT: all of them come, in several turns. */
static void answers_before_a_disconnect_all_come(void **unused)
{
    enum { SIZE = 50000, ANSWERS = 8 };
    static uint8_t answer[SIZE];
    (void)unused;
    struct client *c = client_up("c", true);
    for (int i = 0; i < ANSWERS; i++) {
        conn_answer(c->conn, answer, SIZE);
    }
    SEND(c, "\xE0\0");
    one_turn();
    assert_false(c->t.closed);
    assert_true(c->t.out_size < ANSWERS * SIZE);
    settle();
    assert_true(c->t.closed);
    assert_int_equal(c->t.out_size, ANSWERS * SIZE);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_greeting_waits_for_the_new_rules),
        T(nothing_to_read_after_all),
        T(paused_and_resumed_within_one_turn),
        T(what_rested_may_be_a_disconnect),
        T(what_rested_may_be_forbidden),
        T(what_rested_may_be_no_packet_at_all),
        T(two_publishers_may_wait),
        T(who_has_ended_does_not_wait),
        T(the_broker_may_end_while_somebody_waits),
        T(a_disconnect_behind_a_broken_connection_counts),
        T(a_disconnect_that_is_still_to_be_read_counts),
        T(a_broken_connection_without_a_disconnect_has_its_will),
        T(a_broken_connection_is_not_kept_for_ever),
        T(half_a_packet_is_not_waited_for),
        T(the_last_answer_may_be_lost),
        T(answers_before_a_disconnect_all_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
