/*
 * test_conn_hold.c - connections that wait for the durable store: until a CONNACK may leave, while it has
 * failed, and while too much of one client waits for it.
 */
#include "fake_broker.h"

#include "broker/dispatch.h"

static const char why[] = "disk I/O error";

/* A kept session that is away: what is published to t has to be stored. */
static void somebody_is_away(void)
{
    struct client *away = client_up("away", false);
    subscribe(away, "t", 1);
    client_drop(away);
    commit_lazy();
}

/* Nothing can be stored, and the broker knows. */
static void break_store(struct client *from)
{
    SEND(from, "\x32\x06\0\1t\0\x63x");
    settle();
    fail_batch(why);
    settle();
    assert_true(store_blocked(rig.broker.store));
    assert_string_equal(store_trouble(rig.broker.store), why);
}

/* It tries again, and works. */
static void mend_store(void)
{
    settle();
    store_submit(rig.broker.store, true);
    commit_all();
    assert_false(store_blocked(rig.broker.store));
}

/* ---- CONNACK ---- */

static void nothing_comes_before_a_connack_that_waits(void **unused)
{
    (void)unused;
    struct client *old = client_up("c", false), *from = client_up("from", true);
    subscribe(old, "t", 1);
    struct client *c = client_open();
    send_connect(c, "c", true);
    SEND(c, "\xC0\0\x82\6\0\1\0\1u\1");
    settle();
    assert_true(old->t.closed);
    EXPECT(c, "");
    assert_false(c->t.reading);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_SESSION_GONE), 1);
    assert_int_equal(session_find(&rig.broker.sessions, "c")->sub_count, 0); /* nothing is parsed */
    SEND(from, "\x30\4\0\1tx"); /* nobody subscribes to that any more */
    settle();
    commit_all();
    EXPECT(c, "\x20\2\0\0\xD0\0\x90\3\0\1\1");
    assert_true(c->t.reading);
}

/* Its session is there, and what waits in it follows. */
static void messages_follow_a_connack_that_waits(void **unused)
{
    (void)unused;
    somebody_is_away();
    struct client *from = client_up("from", true), *c = client_open();
    SEND(from, "\x32\6\0\1t\0\1x");
    commit_all();
    EXPECT(from, "\x40\2\0\1");
    SEND(c, "\x10\x18\0\4MQTT\4\xC\0\x3C\0\4away\0\1w\0\3bye"); /* a will of QoS 1, CleanSession 0 */
    settle();
    EXPECT(c, "");
    SEND(from, "\x30\4\0\1ty");
    settle();
    EXPECT(c, ""); /* not even that one */
    commit_all();
    EXPECT(c, "\x20\2\1\0\x32\6\0\1t\0\1x\x30\4\0\1ty");
}

static void a_connack_has_nothing_to_wait_for(void **unused)
{
    (void)unused;
    client_up("a", false); /* looks whether CONNACK has come */
    client_up("a", false);
    client_up("b", true);
    client_up("b", true);
    assert_int_equal(rig.broker.counters.publishers_held, 0);
}

static void it_may_go_before_its_connack_does(void **unused)
{
    (void)unused;
    client_up("c", false);
    struct client *c = client_open(), *next = client_open();
    send_connect(c, "c", true);
    settle();
    send_connect(next, "c", true);
    settle();
    assert_true(c->t.closed);
    EXPECT(c, "");
    EXPECT(next, ""); /* the store has not forgotten the old session yet: a power cut would bring it back */
    struct client *other = client_open();
    send_connect(other, "d", true);
    settle();
    EXPECT(other, "\x20\2\0\0"); /* which is nobody else's business */
    commit_all();
    EXPECT(next, "\x20\2\0\0");
    struct client *last = client_open();
    send_connect(last, "c", true);
    settle();
    EXPECT(last, "\x20\2\0\0");
}

/* Rather than to keep it waiting for what may take hours. */
static void who_asks_for_what_cannot_be_stored_is_told(void **unused)
{
    (void)unused;
    client_up("old", false);
    somebody_is_away();
    struct client *from = client_up("from", true);
    break_store(from);
    struct client *discards = client_open(), *will = client_open();
    send_connect(discards, "old", true);
    SEND(will, "\x10\x15\0\4MQTT\4\xC\0\x3C\0\1w\0\1w\0\3bye");
    settle();
    EXPECT(discards, "\x20\2\0\3");
    EXPECT(will, "\x20\2\0\3");
    assert_non_null(session_find(&rig.broker.sessions, "old")->peer); /* nothing was touched */
    client_up("old", false);                                          /* all the others may */
    client_up("new", false);
    client_up("clean", true);
    mend_store();
    struct client *again = client_open();
    send_connect(again, "old", true);
    commit_all();
    EXPECT(again, "\x20\2\0\0");
}

/* Nobody fills the memory by coming and going while the disk does not work. */
static void when_much_waits_who_would_add_to_it_is_told(void **unused)
{
    enum { MANY = 100001 };
    (void)unused;
    client_up("old", false);
    somebody_is_away();
    struct client *from = client_up("from", true);
    break_store(from);
    for (int i = 0; i < MANY; i++) {
        store_change(rig.broker.store, NULL, &(struct change){.kind = CHANGE_OUT_DONE});
    }
    struct client *new = client_open(), *will = client_open();
    send_connect(new, "new", false);
    SEND(will, "\x10\x15\0\4MQTT\4\xE\0\x3C\0\1w\0\1w\0\3bye");
    settle();
    EXPECT(new, "\x20\2\0\3");
    EXPECT(will, "\x20\2\0\3");
    client_up("old", false); /* its acknowledgements make room */
    client_up("clean", true);
    mend_store();
    client_up("new", false);
}

/* ---- the store has failed ---- */

static void a_publisher_is_held_before_its_next_publish(void **unused)
{
    (void)unused;
    somebody_is_away();
    struct client *from = client_up("from", true), *to = client_up("to", true),
                  *zero = client_up("zero", true);
    subscribe(to, "#", 0);
    break_store(from);
    EXPECT(to, "\x30\4\0\1tx");
    SEND(from, "\x30\4\0\1u0\xC0\0\x32\6\0\1u\0\2y\xC0\0");
    settle();
    EXPECT(to, "\x30\4\0\1u0"); /* QoS 0 before it goes through */
    EXPECT(from, "\xD0\0");
    assert_false(from->t.reading);
    assert_int_equal(rig.broker.counters.publishers_held, 1);
    SEND(zero, "\x30\4\0\1uz\xC0\0"); /* others do not notice */
    settle();
    EXPECT(to, "\x30\4\0\1uz");
    EXPECT(zero, "\xD0\0");
    fake_loop_pass(rig.broker.loop, 59000);
    assert_false(from->t.closed);
    mend_store();
    EXPECT(to, "\x30\4\0\1uy");
    EXPECT(from, "\x40\2\0\x63\x40\2\0\2\xD0\0");
    assert_true(from->t.reading);
    fake_loop_pass(rig.broker.loop, 89000); /* its keep alive counts from then */
    assert_false(from->t.closed);
    fake_loop_pass(rig.broker.loop, 2000);
    settle();
    assert_true(from->t.closed);
}

static void a_publisher_is_not_held_for_ever(void **unused)
{
    (void)unused;
    somebody_is_away();
    struct client *from = client_up("from", true);
    break_store(from);
    SEND(from, "\x34\6\0\1u\0\2y");
    settle();
    fake_loop_pass(rig.broker.loop, 59999);
    assert_false(from->t.closed);
    fake_loop_pass(rig.broker.loop, 1);
    settle();
    assert_true(from->t.closed);
    EXPECT(from, "");
    assert_int_equal(rig.broker.counters.publishers_given_up, 1);
}

/* What could not be stored is not owed any more, and those who wait have put nothing: the store asks all the
 * same whether the disk works again. */
static void nobody_is_held_by_a_store_that_has_nothing_to_do(void **unused)
{
    (void)unused;
    struct client *to = client_up("to", false), *from = client_up("from", true);
    subscribe(to, "t", 1);
    commit_lazy();
    break_store(from);
    EXPECT(to, "\x32\6\0\1t\0\1x");
    SEND(to, "\x40\2\0\1");
    SEND(from, "\x32\6\0\1t\0\2y");
    settle();
    EXPECT(from, "\x40\2\0\x63"); /* there is nothing left to store of the first one */
    assert_true(store_next(rig.broker.store) > 0);
    mend_store();
    EXPECT(to, "\x32\6\0\1t\0\2y");
    EXPECT(from, "\x40\2\0\2");
    assert_int_equal(store_next(rig.broker.store), -1);
}

/* A client that hears nothing sends again. That asks for nothing. */
static void a_repetition_is_not_held(void **unused)
{
    (void)unused;
    somebody_is_away();
    struct client *from = client_up("from", true);
    break_store(from);
    for (int i = 0; i < 5; i++) {
        SEND(from, "\x3A\x06\0\1t\0\x63x\xC0\0");
    }
    settle();
    EXPECT(from, "\xD0\0\xD0\0\xD0\0\xD0\0\xD0\0");
    assert_int_equal(rig.broker.counters.publishers_held, 0);
    mend_store();
    EXPECT(from, "\x40\2\0\x63");
}

static void a_kept_subscriber_is_held_too(void **unused)
{
    (void)unused;
    somebody_is_away();
    struct client *from = client_up("from", true), *kept = client_up("kept", false),
                  *clean = client_up("clean", true);
    subscribe(kept, "t", 1);
    break_store(from);
    EXPECT(kept, "\x32\6\0\1t\0\1x");
    SEND(kept, "\x40\2\0\1\xC0\0\x82\6\0\1\0\1u\1\xC0\0"); /* acknowledgements make room */
    SEND(clean, "\x82\6\0\1\0\1u\1");
    settle();
    EXPECT(kept, "\xD0\0");
    EXPECT(clean, "\x90\3\0\1\1");
    assert_int_equal(rig.broker.counters.publishers_held, 1);
    mend_store();
    EXPECT(kept, "\xD0\0\x90\3\0\1\1");
    SEND(kept, "\xA2\5\0\2\0\1u");
    commit_all();
    EXPECT(kept, "\xB0\2\0\2");
}

/* A big packet may be half read by then, or not begun. */
static void a_big_publish_is_held_in_its_block(void **unused)
{
    (void)unused;
    somebody_is_away();
    struct client *from = client_up("from", true), *big = client_up("big", true),
                  *later = client_up("later", true), *to = client_up("to", true);
    subscribe(to, "b", 0);
    size_t n = send_publish(big, 2, "b", 1, 10000);
    big->t.read_most = 5000;
    big->t.port.events->readable(big->conn);
    assert_int_equal(big->conn->block.have, 5000 - 3);
    SEND(from, "\x32\x06\0\1t\0\x63x");
    from->t.port.events->readable(from->conn);
    turn();
    fail_batch(why);
    settle();
    assert_int_equal(big->conn->block.have, n - 3);
    assert_false(big->t.reading);
    later->t.read_most = 5000;
    send_publish(later, 2, "b", 1, 10000);
    settle();
    assert_null(later->conn->block.msg);
    assert_int_equal(to->t.out_size, 0);
    mend_store();
    assert_int_equal(to->t.out_size, 2 * (10000 + 3 + 3));
    to->t.out_size = 0;
    EXPECT(big, "\x40\2\0\1");
    EXPECT(later, "\x40\2\0\1");
    EXPECT(from, "\x40\2\0\x63");
}

static void a_held_block_goes_with_its_connection(void **unused)
{
    (void)unused;
    somebody_is_away();
    struct client *from = client_up("from", true), *big = client_up("big", true);
    send_publish(big, 2, "b", 1, 10000);
    big->t.read_most = 5000;
    big->t.port.events->readable(big->conn);
    SEND(from, "\x32\x06\0\1t\0\x63x");
    from->t.port.events->readable(from->conn);
    turn();
    fail_batch(why);
    settle();
    client_up("big", true); /* taken over */
    assert_true(big->t.closed);
    mend_store();
}

/* What came before the other end went is still heard, when the time has come. */
static void a_broken_connection_that_is_held_is_heard_later(void **unused)
{
    (void)unused;
    somebody_is_away();
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "u", 0);
    break_store(from);
    SEND(from, "\x32\6\0\1u\0\2y\xE0\0");
    settle();
    from->t.write_error = -ECONNRESET;
    peer_wake(&from->conn->peer);
    conn_answer(from->conn, (const uint8_t *)"\xD0\0", 2);
    settle();
    assert_true(from->conn->broken);
    fake_loop_pass(rig.broker.loop, 4999);
    mend_store();
    EXPECT(to, "\x30\4\0\1uy");
    assert_true(from->t.closed);
    commit_lazy();
}

/* ---- much of one client waits ---- */

static void too_many_answers_of_one_client_hold_it(void **unused)
{
    (void)unused;
    rig.config.max_queued_messages = 0;
    limits_changed();
    somebody_is_away();
    struct client *from = client_up("from", true), *other = client_up("other", true);
    for (uint16_t id = 1; id <= 1200; id++) {
        send_publish(from, 2, "t", id, 1);
    }
    send_publish(other, 2, "t", 1, 1);
    settle();
    assert_int_equal(from->conn->out.held, 1000);
    assert_int_equal(other->conn->out.held, 1);
    assert_false(from->t.reading);
    fake_loop_pass(rig.broker.loop, 89000); /* the disk is slow, but nothing has failed */
    assert_false(from->t.closed);
    commit_all();
    assert_int_equal(from->t.out_size, 1200 * 4);
    assert_memory_equal(from->t.out + 1199 * 4, "\x40\2\4\xB0", 4);
    EXPECT(other, "\x40\2\0\1");
    from->t.out_size = 0;
}

/* Where nothing is durable there is nothing to wait for. */
static void nobody_is_held_without_a_store(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true);
    for (uint16_t id = 1; id <= 3000; id++) {
        send_publish(from, 2, "t", id, 1);
    }
    settle();
    assert_int_equal(from->t.out_size, 3000 * 4);
    assert_int_equal(rig.broker.counters.publishers_held, 0);
}

/* More waits than the disk takes, of all clients together. */
static void publishers_are_held_while_too_much_waits(void **unused)
{
    (void)unused;
    somebody_is_away();
    struct client *from = client_up("from", true);
    for (uint16_t id = 1; id <= 12; id++) {
        send_publish(from, 2, "t", id, 1000000);
    }
    settle();
    assert_true(store_blocked(rig.broker.store));
    assert_string_equal(store_trouble(rig.broker.store), "");
    assert_int_equal(from->conn->out.held, 9);
    fake_loop_pass(rig.broker.loop, 3600000);
    assert_false(from->t.closed);
    commit_all();
    assert_int_equal(from->t.out_size, 12 * 4);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define D(name) cmocka_unit_test_setup_teardown(name, setup_durable, teardown)
    const struct CMUnitTest tests[] = {
        D(nothing_comes_before_a_connack_that_waits),
        D(messages_follow_a_connack_that_waits),
        D(a_connack_has_nothing_to_wait_for),
        D(it_may_go_before_its_connack_does),
        D(who_asks_for_what_cannot_be_stored_is_told),
        D(when_much_waits_who_would_add_to_it_is_told),
        D(a_publisher_is_held_before_its_next_publish),
        D(a_publisher_is_not_held_for_ever),
        D(nobody_is_held_by_a_store_that_has_nothing_to_do),
        D(a_repetition_is_not_held),
        D(a_kept_subscriber_is_held_too),
        D(a_big_publish_is_held_in_its_block),
        D(a_held_block_goes_with_its_connection),
        D(a_broken_connection_that_is_held_is_heard_later),
        D(too_many_answers_of_one_client_hold_it),
        T(nobody_is_held_without_a_store),
        D(publishers_are_held_while_too_much_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
