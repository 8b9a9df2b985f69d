/*
 * test_router.c - the fan-out: who gets a message, what is kept of it, and what of it becomes part of a
 * ticket.
 */
#include "broker/router.h"
#include "fake_broker.h"

static struct session *reader_of(struct principal *who, const char *id, const char *filter, uint8_t qos)
{
    struct session *session = session_new(&rig.broker.sessions, id, who, false);
    assert_int_equal(subs_add(rig.broker.subs, session, slice_str(filter), qos), 1);
    return session;
}

static struct session *reader(const char *id, const char *filter, uint8_t qos)
{
    return reader_of(NULL, id, filter, qos);
}

static struct msg *message(const char *topic, const char *payload, uint8_t qos, bool retain)
{
    return msg_new(slice_str(topic), slice_str(payload), qos, retain, NULL);
}

static void publish(const char *topic, const char *payload, uint8_t qos, bool retain)
{
    struct msg *msg = message(topic, payload, qos, retain);
    router_publish_now(&rig.broker, msg);
    msg_unref(msg);
}

static void everybody_gets_a_reference(void **unused)
{
    (void)unused;
    struct session *a = reader("a", "t/#", 1), *b = reader("b", "t/+", 2), *c = reader("c", "u", 2);
    struct msg *msg = message("t/x", "hello", 2, false);
    router_publish(&rig.broker, msg, NULL);
    assert_int_equal(msg->refs, 3); /* shared, not copied */
    assert_int_equal(a->queue.count, 1);
    assert_ptr_equal(ring_at(&a->queue, 0)->msg, msg);
    assert_int_equal(ring_at(&a->queue, 0)->qos, 1);
    assert_int_equal(ring_at(&b->queue, 0)->qos, 2);
    assert_false(ring_at(&b->queue, 0)->retain);
    assert_int_equal(c->queue.count, 0);
    assert_int_equal(rig.broker.turn_offers, 2);
    msg_unref(msg);
}

static void keeps_what_is_retained(void **unused)
{
    (void)unused;
    publish("t", "one", 1, true);
    publish("t", "two", 1, false);
    assert_int_equal(retain_count(rig.broker.retain), 1);
    struct session *a = reader("a", "t", 1);
    router_send_retained(&rig.broker, a, slice_str("t"), 1);
    assert_int_equal(a->queue.count, 1);
    assert_true(slice_eq(msg_payload(ring_at(&a->queue, 0)->msg), slice_str("one")));
    assert_true(ring_at(&a->queue, 0)->retain);
    publish("t", "", 1, true);
    assert_int_equal(retain_count(rig.broker.retain), 0);
    assert_int_equal(a->queue.count, 2);
}

static void asks_for_the_right_of_each_reader(void **unused)
{
    (void)unused;
    struct principal *who = principal_new(), *own = principal_new();
    who->client_id = strdup("who");
    own->listener = -1;
    use_acl("topic read open\n");
    struct session *a = session_new(&rig.broker.sessions, "who", who, false);
    struct session *b = session_new(&rig.broker.sessions, "own", own, false);
    subs_add(rig.broker.subs, a, slice_str("#"), 1);
    subs_add(rig.broker.subs, b, slice_str("#"), 1);
    publish("secret", "x", 1, false);
    assert_int_equal(a->queue.count, 0);
    assert_int_equal(b->queue.count, 1); /* in-process peers may */
    publish("open", "x", 1, false);
    assert_int_equal(a->queue.count, 1);
    assert_true(router_may(&rig.broker, who, ACL_READ, slice_str("open")));
    assert_false(router_may(&rig.broker, who, ACL_WRITE, slice_str("open")));
    assert_true(router_may(&rig.broker, own, ACL_WRITE, slice_str("$SYS/x")));
    assert_true(router_may(&rig.broker, NULL, ACL_WRITE, slice_str("$SYS/x")));
    acl_unref(rig.door.acl);
    rig.door.acl = NULL;
    assert_true(router_may(&rig.broker, who, ACL_WRITE, slice_str("open")));
    assert_false(router_may(&rig.broker, who, ACL_WRITE, slice_str("$SYS/x"))); /* the broker's own, always */
    assert_true(router_may(&rig.broker, who, ACL_READ, slice_str("$SYS/x")));
    principal_unref(who);
    principal_unref(own);
}

/* It tells of everybody: a client needs a line of an acl_file to read it, and none lets it publish there. */
static void the_access_log_is_kept_from_clients(void **unused)
{
    (void)unused;
    struct slice log = slice_str("client/accessLog"), all = slice_str("#");
    struct principal *who = principal_new();
    who->client_id = strdup("who");
    struct session *s = session_new(&rig.broker.sessions, "who", who, false);
    struct session *own = reader("own", "#", 1);
    subs_add(rig.broker.subs, s, all, 1);
    publish("client/accessLog", "just a topic", 1, false);
    assert_int_equal(s->queue.count, 1);

    rig.broker.decisions.topic = log;
    publish("client/accessLog", "1", 1, false);
    publish("client/accessLog/x", "x", 1, false);
    assert_int_equal(s->queue.count, 2);
    assert_int_equal(own->queue.count, 3);
    assert_false(router_may(&rig.broker, who, ACL_READ, log));
    assert_false(router_may(&rig.broker, who, ACL_WRITE, log));
    assert_false(router_may(&rig.broker, who, ACL_SUBSCRIBE, log));
    assert_true(router_may(&rig.broker, who, ACL_SUBSCRIBE, all));
    assert_true(router_may(&rig.broker, NULL, ACL_WRITE, log));
    uint8_t qos = 2;
    assert_false(router_may_subscribe(&rig.broker, who, log, &qos).allowed);
    assert_true(router_may_subscribe(&rig.broker, NULL, log, &qos).allowed);

    use_acl("topic readwrite other\n");
    publish("client/accessLog", "2", 1, false);
    assert_false(router_may(&rig.broker, who, ACL_SUBSCRIBE, log));
    assert_int_equal(s->queue.count, 2);

    use_acl("topic readwrite client/#\n");
    session_rights_changed(s);
    publish("client/accessLog", "3", 1, false);
    assert_int_equal(s->queue.count, 3);
    assert_true(router_may(&rig.broker, who, ACL_SUBSCRIBE, log));
    assert_false(router_may(&rig.broker, who, ACL_WRITE, log));
    acl_unref(rig.door.acl);
    rig.door.acl = NULL;
    principal_unref(who);
}

/* What was found out of a subscription counts until the rights of its session change. */
static void asks_again_when_rights_change(void **unused)
{
    (void)unused;
    struct principal *who = principal_new();
    who->client_id = strdup("who");
    use_acl("topic read a/#\n");
    struct session *s = session_new(&rig.broker.sessions, "who", who, false);
    subs_add(rig.broker.subs, s, slice_str("a/+"), 1);
    subs_add(rig.broker.subs, s, slice_str("+/b"), 1);
    publish("a/x", "x", 1, false);
    publish("a/b", "x", 1, false);
    publish("c/b", "x", 1, false);
    assert_int_equal(s->queue.count, 2);
    use_acl("topic read a/#\ntopic deny a/x\n");
    session_rights_changed(s);
    publish("a/x", "x", 1, false);
    assert_int_equal(s->queue.count, 2);
    publish("a/y", "x", 1, false);
    publish("a/b", "x", 1, false);
    assert_int_equal(s->queue.count, 4);
    use_acl("topic read +/b\n");
    session_rights_changed(s);
    publish("a/b", "x", 1, false);
    publish("c/b", "x", 1, false);
    publish("a/x", "x", 1, false);
    assert_int_equal(s->queue.count, 6);
    acl_unref(rig.door.acl);
    rig.door.acl = NULL;
    principal_unref(who);
}

static void takes_note_of_pressure(void **unused)
{
    (void)unused;
    rig.config.max_queued_messages = 4;
    limits_changed();
    struct client *c = client_up("c", true);
    subscribe(c, "t", 1);
    for (int i = 0; i < 2; i++) {
        publish("t", "x", 1, false);
        assert_false(rig.broker.pressure);
    }
    publish("t", "x", 1, false);
    assert_true(rig.broker.pressure);
}

/* What clients publish, and what is owed to clients, is stored. */
static void a_ticket_is_closed_by_what_it_is_made_of(void **unused)
{
    (void)unused;
    struct principal *who = principal_new();
    reader_of(who, "a", "t", 1);
    reader_of(who, "b", "t", 2);
    reader_of(who, "c", "t", 0);
    reader("d", "t", 1); /* nobody's */
    struct msg *msg = msg_new(slice_str("t"), slice_str("x"), 1, true, who);
    struct ticket *ticket = store_begin(rig.broker.store);
    router_publish(&rig.broker, msg, ticket);
    store_seal(rig.broker.store, ticket);
    assert_int_equal(ticket->open, 2);
    assert_int_equal(ticket->parts, 1);
    broker_before_sleep(&rig.broker);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_MESSAGE), 1); /* one row, for both */
    assert_int_equal(fake_storage_change(&rig.storage, CHANGE_MESSAGE, 0)->count, 2);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_RETAINED), 1);
    assert_false(ticket_closed(ticket));
    commit();
    assert_true(ticket_closed(ticket));
    ticket_unref(ticket);
    msg_unref(msg);
    principal_unref(who);
}

/* Who publishes at QoS 0 waits for nothing, and that it is retained is written some time. */
static void retained_at_qos_0_is_lazy(void **unused)
{
    (void)unused;
    rig.config.persistence_lazy_delay = 5000;
    limits_changed();
    struct principal *who = principal_new();
    struct msg *msg = msg_new(slice_str("t"), slice_str("x"), 0, true, who);
    struct ticket *ticket = store_begin(rig.broker.store);
    router_publish(&rig.broker, msg, ticket);
    store_seal(rig.broker.store, ticket);
    assert_true(ticket_closed(ticket));
    broker_before_sleep(&rig.broker);
    assert_null(rig.storage.batch);
    store_submit(rig.broker.store, true);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_RETAINED), 1);
    commit();
    ticket_unref(ticket);
    msg_unref(msg);
    principal_unref(who);
}

/* A disk that is full for long does not make the broker grow: only the last value of a topic waits. */
static void retained_values_do_not_pile_up_while_the_disk_fails(void **unused)
{
    (void)unused;
    struct principal *who = principal_new();
    for (int i = 0; i < 50; i++) {
        struct msg *msg = msg_new(slice_str("t"), slice_str("x"), 0, true, who);
        router_publish(&rig.broker, msg, NULL);
        msg_unref(msg);
        store_submit(rig.broker.store, true);
        assert_int_equal(fake_storage_has(&rig.storage, CHANGE_RETAINED), 1);
        fake_storage_answer(&rig.storage, STORAGE_FULL, "no space");
    }
    store_submit(rig.broker.store, true);
    assert_int_equal(rig.storage.count, 1);
    commit();
    assert_int_equal(disk_count(&rig.storage, CHANGE_RETAINED), 1);
    assert_true(store_idle(rig.broker.store));
    principal_unref(who);
}

/* $SYS: nothing of it is stored. */
static void what_the_broker_says_itself_is_not_retained_for_ever(void **unused)
{
    (void)unused;
    publish("t", "x", 1, true);
    assert_true(store_idle(rig.broker.store));
}

static void publishing_now_waits_for_nothing(void **unused)
{
    (void)unused;
    struct principal *who = principal_new();
    reader_of(who, "a", "t", 1);
    struct msg *msg = msg_new(slice_str("t"), slice_str("x"), 1, true, who);
    router_publish_now(&rig.broker, msg);
    broker_before_sleep(&rig.broker);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_MESSAGE), 1);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_RETAINED), 1);
    commit();
    msg_unref(msg);
    principal_unref(who);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define D(name) cmocka_unit_test_setup_teardown(name, setup_durable, teardown)
    const struct CMUnitTest tests[] = {
        T(everybody_gets_a_reference),
        T(keeps_what_is_retained),
        T(asks_for_the_right_of_each_reader),
        T(the_access_log_is_kept_from_clients),
        T(asks_again_when_rights_change),
        T(takes_note_of_pressure),
        D(a_ticket_is_closed_by_what_it_is_made_of),
        D(retained_at_qos_0_is_lazy),
        D(retained_values_do_not_pile_up_while_the_disk_fails),
        D(what_the_broker_says_itself_is_not_retained_for_ever),
        D(publishing_now_waits_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
