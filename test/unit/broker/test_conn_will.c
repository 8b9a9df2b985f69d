/*
 * test_conn_will.c - what the store knows of wills: that they are there in time, and that they go exactly
 * once. What a will is otherwise is in test_on_connect.c.
 */
#include "fake_broker.h"

#include "broker/policy.h"

/* CONNECT of client w with the will "bye" on the topic w. flags are CONNECT's. */
static struct client *with_will(uint8_t flags)
{
    uint8_t p[] = "\x10\x15\0\4MQTT\4\0\0\x3C\0\1w\0\1w\0\3bye";
    struct client *c = client_open();
    p[9] = flags;
    client_send(c, p, sizeof p - 1);
    settle();
    return c;
}

enum { KEPT = 0x0C, CLEAN = 0x0E, CLEAN_RETAIN = 0x26, CLEAN_QOS0 = 0x06, KEPT_QOS0 = 0x04 };

/* A kept session that gets what is published to w. */
static struct client *reader(void)
{
    struct client *c = client_up("reader", false);
    subscribe(c, "w", 1);
    client_drop(c);
    commit_lazy();
    return c;
}

static bool is_the_will(const struct change *change)
{
    return change && change->count == 1 && change->text[0] == 'w' &&
           slice_eq(msg_payload(change->msg), slice_str("bye"));
}

static void a_kept_clients_will_is_stored_before_its_connack(void **unused)
{
    (void)unused;
    struct client *c = with_will(KEPT);
    EXPECT(c, "");
    assert_true(is_the_will(under_way(CHANGE_WILL)));
    assert_string_equal(under_way(CHANGE_WILL)->msg->from->client_id, "w");
    commit_all();
    EXPECT(c, "\x20\2\0\0");
    SEND(c, "\xE0\0");
    settle();
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_WILL_GONE), 1); /* at once: it was heard */
    commit_lazy();
}

static void a_clean_clients_will_goes_with_the_next_batch(void **unused)
{
    (void)unused;
    struct client *c = with_will(CLEAN), *from;
    EXPECT(c, "\x20\2\0\0");
    assert_null(rig.storage.batch);
    assert_int_equal(c->conn->will_state, WILL_NOTED);
    reader();
    assert_int_equal(c->conn->will_state, WILL_STORED);
    from = with_will(CLEAN_QOS0); /* takes it over: the first one's is published */
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_WILL_GONE), 1);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_MESSAGE), 1); /* in one transaction */
    commit_all();
    EXPECT(from, "\x20\2\0\0");
}

static void a_retained_will_is_stored_too(void **unused)
{
    (void)unused;
    struct client *c = with_will(CLEAN_RETAIN);
    EXPECT(c, "\x20\2\0\0");
    store_submit(rig.broker.store, true);
    assert_true(is_the_will(under_way(CHANGE_WILL)));
    commit_all();
    client_drop(c);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_WILL_GONE), 1);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_RETAINED), 1);
    commit_lazy();
}

static void who_comes_and_goes_costs_no_write(void **unused)
{
    (void)unused;
    struct client *a = with_will(CLEAN), *b = client_open(), *c = client_open();
    SEND(b, "\x10\x15\0\4MQTT\4\x0E\0\x3C\0\1b\0\1w\0\3bye");
    SEND(c, "\x10\x15\0\4MQTT\4\x0E\0\x3C\0\1c\0\1w\0\3bye");
    settle();
    assert_ptr_equal(rig.broker.noted_wills, c->conn);
    SEND(b, "\xE0\0"); /* from the middle, the head and the end of the list */
    settle();
    client_drop(c);
    SEND(a, "\xE0\0");
    settle();
    assert_null(rig.broker.noted_wills);
    store_submit(rig.broker.store, true);
    assert_int_equal(rig.storage.batch ? rig.storage.count : 0, 0);
    commit_lazy();
}

static void other_wills_are_not_stored(void **unused)
{
    (void)unused;
    struct client *c = with_will(CLEAN_QOS0);
    EXPECT(c, "\x20\2\0\0");
    assert_int_equal(c->conn->will_state, WILL_HERE);
    client_drop(c);
    assert_null(rig.storage.batch);
    c = with_will(KEPT_QOS0);
    EXPECT(c, "\x20\2\0\0");
    store_submit(rig.broker.store, true);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_WILL), 0);
    commit_all();
    client_drop(c);
    commit_lazy();
}

static void nothing_is_noted_without_a_store(void **unused)
{
    (void)unused;
    struct client *c = with_will(KEPT);
    EXPECT(c, "\x20\2\0\0");
    assert_null(rig.broker.noted_wills);
    c = with_will(CLEAN);
    EXPECT(c, "\x20\2\0\0");
    assert_null(rig.broker.noted_wills);
}

/* Also where nobody gets it, and when it must not be published. */
static void a_stored_will_goes_from_the_store_whatever_becomes_of_it(void **unused)
{
    (void)unused;
    struct client *c = with_will(KEPT);
    commit_all();
    EXPECT(c, "\x20\2\0\0");
    client_drop(c);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_WILL_GONE), 1);
    commit_lazy();
    c = with_will(KEPT);
    commit_all();
    use_acl("topic read w\n");
    client_drop(c);
    store_submit(rig.broker.store, true);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_WILL_GONE), 1);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_MESSAGE), 0);
    commit_lazy();
}

/* The old one's is published and gone before the new one's is there. */
static void a_take_over_replaces_the_will(void **unused)
{
    (void)unused;
    reader();
    struct client *c = with_will(KEPT), *next;
    commit_all();
    next = with_will(KEPT);
    assert_true(c->t.closed);
    EXPECT(next, "");
    size_t gone = SIZE_MAX, there = SIZE_MAX;
    for (size_t i = 0; i < rig.storage.count; i++) {
        gone = rig.storage.copy[i].kind == CHANGE_WILL_GONE ? i : gone;
        there = rig.storage.copy[i].kind == CHANGE_WILL ? i : there;
    }
    assert_true(gone < there && there < rig.storage.count);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_MESSAGE), 1);
    commit_all();
    EXPECT(next, "\x20\2\1\0");
}

/* A user who is removed publishes nothing any more. */
static void a_will_whose_user_is_gone_goes(void **unused)
{
    (void)unused;
    struct policy_before before = {.config = &rig.listener};
    struct client *c = with_will(KEPT), *clean;
    commit_all();
    EXPECT(c, "\x20\2\0\0");
    clean = client_open();
    SEND(clean, "\x10\x15\0\4MQTT\4\x0E\0\x3C\0\1b\0\1w\0\3bye");
    settle();
    rig.security.allow_anonymous = false;
    policy_changed(&rig.broker, &before);
    settle();
    assert_true(c->t.closed && clean->t.closed);
    assert_null(rig.broker.noted_wills);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_WILL_GONE), 1);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_MESSAGE), 0);
    commit_lazy();
}

/* A batch that fails is made again, with the wills in it. */
static void a_will_outlives_a_batch_that_fails(void **unused)
{
    (void)unused;
    struct client *c = with_will(CLEAN);
    store_submit(rig.broker.store, true);
    assert_true(is_the_will(under_way(CHANGE_WILL)));
    fail_batch("disk I/O error");
    settle();
    store_submit(rig.broker.store, true);
    assert_true(is_the_will(under_way(CHANGE_WILL)));
    commit_all();
    SEND(c, "\xE0\0");
    settle();
    store_submit(rig.broker.store, true);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_WILL_GONE), 1);
    commit_lazy();
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define D(name) cmocka_unit_test_setup_teardown(name, setup_durable, teardown)
    const struct CMUnitTest tests[] = {
        D(a_kept_clients_will_is_stored_before_its_connack),
        D(a_clean_clients_will_goes_with_the_next_batch),
        D(a_retained_will_is_stored_too),
        D(who_comes_and_goes_costs_no_write),
        D(other_wills_are_not_stored),
        T(nothing_is_noted_without_a_store),
        D(a_stored_will_goes_from_the_store_whatever_becomes_of_it),
        D(a_take_over_replaces_the_will),
        D(a_will_whose_user_is_gone_goes),
        D(a_will_outlives_a_batch_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
