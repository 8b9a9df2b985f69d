/*
 * test_policy.c - new rules and what is live: nothing that they forbid leaves, whoever comes first; the work
 * of a turn is bounded; and in the end all is done. (Who is disconnected and whose session is discarded is
 * tested where password files are, in test_wire.c.)
 */
#include "broker/dispatch.h"
#include "broker/policy.h"
#include "broker/router.h"
#include "broker/session_owed.h"
#include "fake_broker.h"

/* policy.c's WALK_VISITS: sessions and messages looked at in one turn. */
enum { WALK_MOST = 5000 };

static int policy_setup(void **unused)
{
    int result = setup(unused);
    listen_to_decisions();
    use_acl("topic readwrite #\n");
    return result;
}

static int policy_setup_durable(void **unused)
{
    int result = setup_durable(unused);
    listen_to_decisions();
    use_acl("topic readwrite #\n");
    return result;
}

/* A reload, up to the end of its turn of the loop. NULL: without an acl_file. */
static void new_rules(const char *text)
{
    const struct policy_before before = {&rig.listener, NULL, rig.door.acl != NULL};
    if (text) {
        use_acl(text);
    } else {
        acl_unref(rig.door.acl);
        rig.door.acl = NULL;
    }
    policy_changed(&rig.broker, &before);
}

static void publish(const char *topic, uint8_t qos)
{
    struct msg *msg = msg_new(slice_str(topic), slice_str("x"), qos, false, NULL);
    router_publish_now(&rig.broker, msg);
    msg_unref(msg);
}

/* A kept session that is away, subscribed to everything. */
static struct session *away(const char *id)
{
    struct principal *who = principal_new();
    who->client_id = strdup(id);
    struct session *session = session_new(&rig.broker.sessions, id, who, false);
    principal_unref(who);
    assert_int_equal(subs_add(rig.broker.subs, session, slice_str("#"), 1), 1);
    return session;
}

static size_t out_of_date(void)
{
    size_t n = 0;
    for (const struct session *s = rig.broker.sessions.by_id; s; s = s->hh.next) {
        n += s->policy != rig.broker.sessions.policy;
    }
    return n;
}

static bool up_to_date(const struct session *session)
{
    return session->policy == rig.broker.sessions.policy;
}

/* ---- the walk ---- */

static void the_work_of_a_turn_is_bounded(void **unused)
{
    enum { SESSIONS = 300, EACH = 100 };
    (void)unused;
    struct client *other = client_up("other", true);
    struct session *first = NULL;
    for (int i = 0; i < SESSIONS; i++) {
        char id[16];
        snprintf(id, sizeof id, "s%d", i);
        struct session *session = away(id);
        first = first ? first : session;
    }
    for (int i = 0; i < EACH; i++) {
        publish(i % 2 ? "open" : "secret", 1);
    }
    settle();
    new_rules("topic readwrite open\n");
    assert_int_equal(out_of_date(), SESSIONS + 1); /* nothing of it is done in the turn of the reload */
    assert_int_equal(first->queue.count, EACH);
    size_t before = out_of_date(), turns = 0;
    for (; before > 0; turns++) {
        assert_true(rig.broker.next_turn.queued); /* the loop does not fall asleep over it */
        SEND(other, "\xc0\0");
        one_turn();
        EXPECT(other, "\xd0\0"); /* the others are served in each turn */
        size_t now = out_of_date();
        assert_true(now < before && (before - now - 2) * (EACH + 1) <= WALK_MOST);
        before = now;
    }
    assert_true(turns >= SESSIONS * EACH / WALK_MOST && turns < 20);
    settle(); /* and then there is nothing more to do */
    assert_null(rig.broker.sessions.walk);
    assert_false(rig.broker.next_turn.queued);
    for (const struct session *s = rig.broker.sessions.by_id; s; s = s->hh.next) {
        assert_int_equal(s->queue.count, s == other->conn->session ? 0 : EACH / 2);
    }
    assert_int_equal(rig.broker.counters.messages_revoked, SESSIONS * EACH / 2);
    assert_int_equal(rig.broker.sessions.dropped, 0);
    assert_int_equal(decided.count, SESSIONS); /* one for each, not one for each message */
    assert_int_equal(decided.kind, DECIDED_REVOKED);
    assert_string_equal(decided.client, "s299");
    assert_string_equal(decided.topic, "");
    assert_non_null(strstr(decided.reason, "50 "));
}

static void a_second_reload_in_the_middle_begins_anew(void **unused)
{
    (void)unused;
    struct session *s[120];
    for (int i = 0; i < 120; i++) {
        char id[16];
        snprintf(id, sizeof id, "s%d", i);
        s[i] = away(id);
    }
    for (int i = 0; i < 100; i++) {
        publish(i % 2 ? "a" : "b", 1);
    }
    new_rules("topic readwrite a\n");
    one_turn();
    assert_true(up_to_date(s[0]) && !up_to_date(s[119]));
    new_rules("topic readwrite b\n");
    assert_false(up_to_date(s[0]));
    session_destroy(&rig.broker.sessions, s[0]); /* the very next one to be visited */
    assert_ptr_equal(rig.broker.sessions.walk, s[1]);
    settle();
    assert_int_equal(out_of_date(), 0);
    assert_int_equal(s[1]->queue.count, 0);    /* neither the ones nor the others */
    assert_int_equal(s[119]->queue.count, 50); /* the first rules never came by here */
}

static void numbers_go_round(void **unused)
{
    (void)unused;
    struct session *s = away("s");
    rig.broker.sessions.policy = UINT32_MAX;
    s->policy = s->subs_policy = UINT32_MAX;
    publish("secret", 1);
    new_rules("topic read open\n");
    assert_int_equal(rig.broker.sessions.policy, 1); /* 0 is what is never up to date */
    settle();
    assert_int_equal(s->queue.count, 0);
    assert_int_equal(s->policy, 1);
    assert_int_equal(s->subs_policy, 1);
}

/* Without rules before and after there is nothing to look at. */
static void without_rules_nothing_is_done(void **unused)
{
    (void)unused;
    struct session *s = away("s");
    new_rules(NULL);
    settle();
    uint32_t rights = s->rights, policy = rig.broker.sessions.policy;
    new_rules(NULL);
    assert_null(rig.broker.sessions.walk);
    assert_int_equal(s->rights, rights);
    assert_int_equal(rig.broker.sessions.policy, policy);
    new_rules("topic read open\n");
    assert_non_null(rig.broker.sessions.walk);
    settle();
    assert_int_equal(out_of_date(), 0);
}

/* Only an acl_file lets anybody read it, and that has gone. */
static void the_access_log_goes_with_the_acl_file(void **unused)
{
    (void)unused;
    struct session *s = away("s");
    rig.broker.decisions.topic = slice_str("log");
    publish("log", 1);
    publish("open", 1);
    assert_int_equal(s->queue.count, 2);
    new_rules(NULL);
    settle();
    assert_int_equal(s->queue.count, 1);
}

/* ---- before it comes by ---- */

static void what_is_published_meets_the_new_rules(void **unused)
{
    (void)unused;
    struct session *s = away("s");
    publish("open", 1); /* whose answer stands with the subscription */
    publish("secret", 1);
    new_rules("topic read open\n");
    publish("secret", 1);
    publish("open", 1);
    assert_int_equal(s->queue.count, 2);
    assert_true(up_to_date(s)); /* the old one has made room for the new one */
    assert_int_equal(rig.broker.counters.messages_revoked, 1);
}

static void what_is_forbidden_takes_no_room(void **unused)
{
    (void)unused;
    rig.config.max_queued_messages = 10;
    limits_changed();
    struct session *s = away("s");
    for (int i = 0; i < 10; i++) {
        publish("secret", 1);
    }
    new_rules("topic read open\n");
    publish("open", 1);
    assert_int_equal(s->queue.count, 1);
    assert_int_equal(rig.broker.sessions.dropped, 0);
}

/* In a turn that has done enough the queue is left to the walk; the rules count all the same. */
static void a_full_turn_leaves_the_queue_alone(void **unused)
{
    (void)unused;
    struct session *s = away("s");
    publish("secret", 1);
    new_rules("topic read open\n");
    rig.broker.turn_visits = TURN_VISITS;
    publish("secret", 1);
    publish("open", 1);
    assert_int_equal(s->queue.count, 2);
    assert_false(up_to_date(s));
    settle();
    assert_int_equal(s->queue.count, 1);
}

static void a_subscription_that_has_ended_brings_nothing(void **unused)
{
    (void)unused;
    struct session *s = away("s");
    subs_add(rig.broker.subs, s, slice_str("b/+"), 0);
    rig.config.queue_qos0_messages = true;
    limits_changed();
    new_rules("topic readwrite #\ntopic subscribe b/#\n");
    publish("a", 1);
    assert_int_equal(s->queue.count, 0);
    assert_int_equal(s->sub_count, 1);
    publish("b/x", 1); /* by the other one, at its QoS */
    assert_int_equal(s->queue.count, 0);
    assert_int_equal(s->queue0.count, 1);
    assert_int_equal(decided.count, 1);
    assert_string_equal(decided.topic, "#");
}

/* The window opens in the same turn: the flush comes before the walk. */
static void nothing_forbidden_is_taken(void **unused)
{
    (void)unused;
    rig.config.max_inflight_messages = 1;
    limits_changed();
    struct client *c = client_up("c", false);
    subscribe(c, "#", 2);
    publish("open", 1);
    publish("secret", 1);
    publish("secret", 2);
    publish("open", 1);
    settle();
    EXPECT(c, "\x32\x09\0\4open\0\1x");
    new_rules("topic read open\n");
    SEND(c, "\x40\2\0\1");
    one_turn();
    EXPECT(c, "\x32\x09\0\4open\0\4x");
}

static void what_is_under_way_ends_in_order(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", false);
    subscribe(c, "#", 2);
    publish("secret", 1);
    publish("secret", 2);
    settle();
    EXPECT(c, "\x32\x0b\0\6secret\0\1x\x34\x0b\0\6secret\0\2x");
    new_rules("topic read open\n");
    settle();
    EXPECT(c, "");
    assert_int_equal(rig.broker.counters.messages_revoked, 2);
    SEND(c, "\x40\2\0\1\x50\2\0\2");
    settle();
    EXPECT(c, "\x62\2\0\2");
    SEND(c, "\x70\2\0\2");
    settle();
    EXPECT(c, "");
    assert_int_equal(c->conn->session->inflight, 0);
}

/* The rules may be those of another listener or address: they are asked for when a client comes back. */
static void who_comes_back_is_looked_at_again(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", false);
    subscribe(c, "#", 1);
    client_drop(c);
    publish("secret", 1);
    publish("open", 1);
    use_acl("topic read open\n"); /* not by a reload */
    c = client_open();
    send_connect(c, "c", false);
    settle();
    EXPECT(c, "\x20\2\1\0\x32\x09\0\4open\0\2x");
}

/* Also for what is published before its first flush: no walk is under way that would say so. */
static void who_comes_back_gets_nothing_by_what_has_ended(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", false);
    subscribe(c, "#", 1);
    client_drop(c);
    use_acl("topic readwrite #\ntopic subscribe a\n"); /* not by a reload */
    c = client_open();
    send_connect(c, "c", false);
    c->t.port.events->readable(c->t.port.owner);
    publish("b", 1);
    const struct session *s = session_find(&rig.broker.sessions, "c");
    assert_non_null(s->peer);
    assert_int_equal(s->queue.count, 0);
    assert_int_equal(s->sub_count, 0);
}

/* Retained messages that a SUBSCRIBE still owes are looked for under the rules of the day. */
static void what_is_owed_meets_the_new_rules(void **unused)
{
    (void)unused;
    rig.config.max_queued_messages = 1;
    rig.config.max_inflight_messages = 1;
    limits_changed();
    static const char *const topics[] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++) {
        struct msg *msg = msg_new(slice_str(topics[i]), slice_str("x"), 1, true, NULL);
        router_publish_now(&rig.broker, msg);
        msg_unref(msg);
    }
    struct client *c = client_up("c", true);
    SEND(c, "\x82\x0e\0\1\0\1a\1\0\1b\1\0\1c\1");
    settle();
    EXPECT(c, "\x90\5\0\1\1\1\1\x33\6\0\1a\0\1x");
    assert_non_null(c->conn->session->owed);
    new_rules("topic read c\n");
    SEND(c, "\x40\2\0\1");
    one_turn();
    EXPECT(c, "\x33\6\0\1c\0\3x"); /* the one for b was queued, and has used its identifier up */
}

/* The same where a SUBSCRIBE comes before the flush: the subscription has ended. */
static void what_is_owed_ends_with_its_subscription(void **unused)
{
    (void)unused;
    struct msg *msg = msg_new(slice_str("b"), slice_str("x"), 1, true, NULL);
    router_publish_now(&rig.broker, msg);
    msg_unref(msg);
    for (int allowed = 1; allowed >= 0; allowed--) {
        struct client *c = client_up("c", true);
        struct session *s = c->conn->session;
        struct owed *owed = owed_new(8);
        owed_put(owed, slice_str("b"), 1);
        assert_int_equal(owed_add(s, owed, NULL), 0);
        subs_add(rig.broker.subs, s, slice_str("b"), 1);
        new_rules(allowed ? "topic readwrite #\n" : "topic readwrite #\ntopic subscribe a\n");
        subscribe_go_on(c->conn);
        assert_int_equal(s->queue.count, allowed);
        client_drop(c);
    }
}

/* ---- inbound, wills, retained ---- */

/* Routed at its PUBLISH, under the rules of then; what follows only ends the exchange. */
static void inbound_quality_2_just_ends(void **unused)
{
    (void)unused;
    struct session *s = away("s");
    struct client *c = client_up("c", true);
    SEND(c, "\x34\6\0\1t\0\7x");
    settle();
    EXPECT(c, "\x50\2\0\7");
    assert_int_equal(s->queue.count, 1);
    new_rules("topic read #\n");
    SEND(c, "\x3c\6\0\1t\0\7x"); /* again: no second message, and no denial */
    SEND(c, "\x62\2\0\7");
    settle();
    EXPECT(c, "\x50\2\0\7\x70\2\0\7");
    assert_int_equal(s->queue.count, 1);
    assert_int_equal(rig.broker.counters.publish_denied, 0);
    SEND(c, "\x34\6\0\1t\0\7x"); /* a new one */
    settle();
    EXPECT(c, "\x50\2\0\7");
    assert_int_equal(s->queue.count, 1);
    assert_int_equal(rig.broker.counters.publish_denied, 1);
}

static void a_will_meets_the_rules_of_the_day(void **unused)
{
    (void)unused;
    struct session *s = away("s");
    struct client *c = client_open();
    SEND(c, "\x10\x15\0\4MQTT\4\x06\0\x3c\0\1c\0\1w\0\3bye");
    settle();
    EXPECT(c, "\x20\2\0\0");
    new_rules("topic read #\n");
    client_drop(c);
    assert_int_equal(s->queue.count + s->queue0.count, 0);
}

static void retained_messages_meet_the_rights_of_their_source(void **unused)
{
    (void)unused;
    rig.config.check_retain_source = true;
    struct client *c = client_up("c", true);
    SEND(c, "\x31\4\0\1tx");
    settle();
    struct session *reader = away("r");
    router_send_retained(&rig.broker, reader, slice_str("t"), 1);
    assert_true(policy_knows(&rig.broker, c->conn->who));
    rig.config.queue_qos0_messages = true;
    limits_changed();
    router_send_retained(&rig.broker, reader, slice_str("t"), 1);
    assert_int_equal(reader->queue0.count, 1);
    rig.security.allow_anonymous = false; /* nobody is who it was */
    router_send_retained(&rig.broker, reader, slice_str("t"), 1);
    assert_int_equal(reader->queue0.count, 1);
    rig.config.check_retain_source = false;
    router_send_retained(&rig.broker, reader, slice_str("t"), 1);
    assert_int_equal(reader->queue0.count, 2);
    assert_true(policy_knows(&rig.broker, NULL));
}

/* ---- who is still known ---- */

static void who_is_known(void **unused)
{
    (void)unused;
    struct principal *who = principal_new();
    who->listener = 0;
    assert_true(policy_knows(&rig.broker, NULL)); /* the broker itself */
    assert_true(policy_knows(&rig.broker, who));
    rig.security.allow_anonymous = false;
    assert_false(policy_knows(&rig.broker, who));
    who->user = strdup("jane");
    assert_false(policy_knows(&rig.broker, who)); /* there is no password file */
    rig.listener.use_subject_as_username = true;
    assert_true(policy_knows(&rig.broker, who));
    principal_unref(who);
}

/* Who came in by the old way is nobody by the new one; who is still on the way in is not asked yet. */
static void another_way_in(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true), *coming = client_open();
    struct config_listener before = rig.listener;
    const struct policy_before was = {&before, NULL, true};
    rig.listener.use_subject_as_username = true;
    policy_changed(&rig.broker, &was);
    settle();
    assert_true(c->t.closed);
    assert_false(coming->t.closed);
}

/* ---- durable ---- */

/* A right that has ended must not come back with the next start. */
static void what_becomes_of_subscriptions_is_stored(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", false), *clean = client_up("clean", true);
    subscribe(c, "a", 2);
    subscribe(c, "b", 2);
    subscribe(c, "c", 0);
    subscribe(clean, "a", 2);
    commit_lazy();
    new_rules("qos 1\ntopic readwrite #\ntopic deny b\n");
    rig.config.acl_refuse_unreadable = true;
    settle();
    store_submit(rig.broker.store, true);
    const struct change *lower = under_way(CHANGE_SUBSCRIBE), *ended = under_way(CHANGE_UNSUBSCRIBE);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_SUBSCRIBE), 2);
    assert_int_equal(lower->qos, 1);
    assert_false(lower->owing);
    assert_int_equal(lower->session, c->conn->session->number);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_UNSUBSCRIBE), 1);
    assert_memory_equal(ended->text, "b", 1);
    assert_int_equal(ended->session, c->conn->session->number);
    commit_lazy();
}

/* One whose retained messages are still to come is stored when they have. */
static void a_subscription_that_owes_is_stored_lower_afterwards(void **unused)
{
    (void)unused;
    rig.config.max_queued_messages = rig.config.max_inflight_messages = 1;
    limits_changed();
    for (int i = 0; i < 3; i++) {
        char topic[] = "a";
        topic[0] = (char)('a' + i);
        struct msg *msg = msg_new(slice_str(topic), slice_str("x"), 1, true, NULL);
        router_publish_now(&rig.broker, msg);
        msg_unref(msg);
    }
    struct client *c = client_up("c", false);
    SEND(c, "\x82\x0e\0\1\0\1a\1\0\1b\1\0\1c\1");
    commit_all();
    assert_non_null(c->conn->session->owed);
    commit_lazy();
    new_rules("qos 0\ntopic readwrite #\n");
    settle();
    store_submit(rig.broker.store, true);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_SUBSCRIBE), 0);
    commit_lazy();
    SEND(c, "\x40\2\0\1\xC0\0");
    settle();
    SEND(c, "\x40\2\0\2\xC0\0");
    settle();
    store_submit(rig.broker.store, true);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_SUBSCRIBE), 3);
    assert_int_equal(under_way(CHANGE_SUBSCRIBE)->qos, 0);
    assert_false(under_way(CHANGE_SUBSCRIBE)->owing);
    commit_lazy();
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, policy_setup, teardown)
#define D(name) cmocka_unit_test_setup_teardown(name, policy_setup_durable, teardown)
    const struct CMUnitTest tests[] = {
        T(the_work_of_a_turn_is_bounded),
        T(who_is_known),
        T(another_way_in),
        T(a_second_reload_in_the_middle_begins_anew),
        T(numbers_go_round),
        T(without_rules_nothing_is_done),
        T(the_access_log_goes_with_the_acl_file),
        T(what_is_published_meets_the_new_rules),
        T(what_is_forbidden_takes_no_room),
        T(a_full_turn_leaves_the_queue_alone),
        T(a_subscription_that_has_ended_brings_nothing),
        T(nothing_forbidden_is_taken),
        T(what_is_under_way_ends_in_order),
        T(who_comes_back_is_looked_at_again),
        T(who_comes_back_gets_nothing_by_what_has_ended),
        T(what_is_owed_meets_the_new_rules),
        T(what_is_owed_ends_with_its_subscription),
        T(inbound_quality_2_just_ends),
        T(a_will_meets_the_rules_of_the_day),
        T(retained_messages_meet_the_rights_of_their_source),
        D(what_becomes_of_subscriptions_is_stored),
        D(a_subscription_that_owes_is_stored_lower_afterwards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
