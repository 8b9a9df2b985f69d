/*
 * test_on_connect.c - CONNECT: who may come in, whose session it is, what becomes of the will.
 */
#include "fake_broker.h"

/* The next packet is this CONNACK, and the connection ended when it was a refusal. */
static void expect_connack(struct client *c, int present, int code)
{
    uint8_t connack[4] = {0x20, 2, (uint8_t)present, (uint8_t)code};
    settle();
    assert_int_equal(c->t.out_size, 4);
    assert_memory_equal(c->t.out, connack, 4);
    assert_int_equal(c->t.closed, code != 0);
    c->t.out_size = 0;
}

#define CONNECT(text) connect_with(text, sizeof(text) - 1)

/* A CONNECT from its variable header on. */
static struct client *connect_with(const char *body, size_t n)
{
    struct client *c = client_open();
    uint8_t head[PACKET_MAX_HEADER];
    client_send(c, head, packet_put_header(head, 0x10, (uint32_t)n));
    client_send(c, body, n);
    return c;
}

#define V4 "\0\4MQTT\4"

/* ---- who may come in ---- */

static void a_level_that_is_not_spoken_is_answered(void **unused)
{
    (void)unused;
    expect_connack(CONNECT("\0\4MQTT\5\2\0\x3C\0\0\3abc"), 0, CONNACK_BAD_LEVEL); /* [MQTT-3.1.2-2] */
    expect_connack(CONNECT("\0\4MQTT\3\2\0\x3C\0\3abc"), 0, CONNACK_BAD_LEVEL);
    rig.listener.accept_protocol_versions = 1 << 4;
    expect_connack(CONNECT("\0\6MQIsdp\3\2\0\x3C\0\3abc"), 0, CONNACK_BAD_LEVEL);
    rig.listener.accept_protocol_versions = 1 << 3;
    expect_connack(CONNECT("\0\6MQIsdp\3\2\0\x3C\0\3abc"), 0, 0);
    expect_connack(CONNECT(V4 "\2\0\x3C\0\3abd"), 0, CONNACK_BAD_LEVEL);
}

static void another_protocol_gets_no_answer(void **unused)
{
    (void)unused;
    struct client *c = CONNECT("\0\4HTTP\4\2\0\x3C\0\3abc");
    settle();
    assert_true(c->t.closed);
    EXPECT(c, "");
    c = CONNECT(V4 "\3\0\x3C\0\3abc"); /* a reserved flag */
    settle();
    assert_true(c->t.closed);
    EXPECT(c, "");
}

static void an_empty_client_id_gets_one(void **unused)
{
    (void)unused;
    rig.security.auto_id_prefix = (char[]){"auto-"};
    struct client *a = CONNECT(V4 "\2\0\0\0\0"), *b = CONNECT(V4 "\2\0\0\0\0");
    expect_connack(a, 0, 0);
    expect_connack(b, 0, 0);
    assert_int_equal(strlen(a->conn->who->client_id), 5 + 36);
    assert_int_equal(strncmp(a->conn->who->client_id, "auto-", 5), 0);
    assert_string_not_equal(a->conn->who->client_id, b->conn->who->client_id);
    expect_connack(CONNECT(V4 "\0\0\0\0\0"), 0, CONNACK_BAD_ID); /* [MQTT-3.1.3-8] */
    expect_connack(CONNECT("\0\6MQIsdp\3\2\0\0\0\0"), 0, CONNACK_BAD_ID);
    rig.security.allow_zero_length_clientid = false;
    expect_connack(CONNECT(V4 "\2\0\0\0\0"), 0, CONNACK_BAD_ID);
}

static void strangers_come_in_where_that_is_allowed(void **unused)
{
    (void)unused;
    expect_connack(CONNECT(V4 "\2\0\0\0\1a"), 0, 0);
    rig.security.allow_anonymous = false;
    expect_connack(CONNECT(V4 "\2\0\0\0\1b"), 0, CONNACK_REFUSED);
    expect_connack(CONNECT(V4 "\x82\0\0\0\1c\0\1u"), 0, CONNACK_REFUSED); /* nothing to check it against */
    assert_int_equal(rig.login_count, 0);
}

static struct passwords *const some_passwords = (struct passwords *)&rig; /* nobody looks into them */

static void passwords_are_asked_for_and_waited_for(void **unused)
{
    (void)unused;
    rig.door.passwords = some_passwords;
    struct client *c = CONNECT(V4 "\xC2\0\x3C\0\1a\0\4jane\0\6secret");
    SEND(c, "\x82\x06\0\1\0\1t\1\xC0\0"); /* sent without waiting for CONNACK */
    settle();
    EXPECT(c, "");
    assert_int_equal(rig.login_count, 1);
    assert_string_equal(rig.logins[0].user, "jane");
    assert_string_equal(rig.logins[0].password, "secret");
    assert_false(c->t.reading); /* until CONNACK nothing is parsed */
    assert_null(session_find(&rig.broker.sessions, "a"));
    SEND(c, "\xC0\0");
    settle();
    EXPECT(c, "");
    verdict(AUTH_ALLOWED);
    settle();
    EXPECT(c, "\x20\x02\0\0\x90\x03\0\1\1\xD0\0\xD0\0");
    assert_string_equal(c->conn->who->user, "jane");
}

static void a_wrong_password_is_refused(void **unused)
{
    (void)unused;
    rig.door.passwords = some_passwords;
    struct client *c = CONNECT(V4 "\xC2\0\x3C\0\1a\0\4jane\0\6secret");
    SEND(c, "\x82\x06\0\1\0\1t\1\xC0\0");
    settle();
    verdict(AUTH_DENIED);
    expect_connack(c, 0, CONNACK_REFUSED);
    assert_int_equal(rig.broker.counters.logins_failed, 1);
    assert_int_equal(subs_count(rig.broker.subs), 0);
    c = CONNECT(V4 "\x82\0\x3C\0\1a\0\4jane"); /* no password at all */
    settle();
    assert_string_equal(rig.logins[0].password, "");
    verdict(AUTH_UNAVAILABLE);
    expect_connack(c, 0, CONNACK_UNAVAILABLE);
    assert_int_equal(rig.broker.counters.logins_failed, 1);
}

static void a_verdict_may_come_too_late(void **unused)
{
    (void)unused;
    rig.door.passwords = some_passwords;
    struct client *c = CONNECT(V4 "\xC2\0\x3C\0\1a\0\4jane\0\6secret");
    settle();
    fake_loop_pass(rig.broker.loop, 20000);
    settle();
    assert_true(c->t.closed);
    struct client *next = client_open(); /* in the same place of the table */
    verdict(AUTH_ALLOWED);
    settle();
    EXPECT(next, "");
    assert_null(session_find(&rig.broker.sessions, "a"));
}

/* ---- failures are answered at a fixed time ---- */

/* For all the tests below. */
static void with_a_delay(uint32_t ms)
{
    rig.config.auth_fail_delay = ms;
    rig.config.auth_ban_window = 60;
    rig.config.auth_ban_time = 300;
    rig.security.allow_anonymous = false;
    rig.door.passwords = some_passwords;
}

/* Nothing came yet; a millisecond before its time neither; at its time this CONNACK. */
static void expect_refusal_after(struct client *c, int64_t ms, int code)
{
    settle();
    EXPECT(c, "");
    fake_loop_pass(rig.broker.loop, ms - 1);
    settle();
    EXPECT(c, "");
    assert_false(c->t.closed);
    fake_loop_pass(rig.broker.loop, 1);
    expect_connack(c, 0, code);
}

/* By jane, on this machine. */
static struct client *guess(void)
{
    struct client *c = CONNECT(V4 "\xC2\0\x3C\0\1a\0\4jane\0\5wrong");
    strcpy(c->conn->who->address, "127.0.0.1");
    settle();
    return c;
}

static void all_failures_are_answered_at_the_same_time(void **unused)
{
    (void)unused;
    with_a_delay(1000);
    struct client *c = guess();
    verdict(AUTH_DENIED); /* at once: a token */
    expect_refusal_after(c, 1000, CONNACK_REFUSED);
    c = guess();
    fake_loop_pass(rig.broker.loop, 400); /* a hash */
    verdict(AUTH_DENIED);
    expect_refusal_after(c, 600, CONNACK_REFUSED);
    expect_refusal_after(CONNECT(V4 "\2\0\x3C\0\1a"), 1000, CONNACK_REFUSED); /* anonymous */
    rig.door.passwords = NULL;
    expect_refusal_after(CONNECT(V4 "\xC2\0\x3C\0\1a\0\1u\0\1p"), 1000, CONNACK_REFUSED);
    rig.listener.use_identity_as_username = true;
    expect_refusal_after(CONNECT(V4 "\2\0\x3C\0\1a"), 1000, CONNACK_BAD_LOGIN);
}

/* A long queue shows in whole steps. */
static void a_late_verdict_waits_for_the_next_step(void **unused)
{
    (void)unused;
    with_a_delay(1000);
    struct client *c = guess();
    fake_loop_pass(rig.broker.loop, 2001);
    verdict(AUTH_DENIED);
    expect_refusal_after(c, 999, CONNACK_REFUSED);
    c = guess();
    fake_loop_pass(rig.broker.loop, 2000);
    verdict(AUTH_DENIED);
    fake_loop_pass(rig.broker.loop, 0);
    expect_connack(c, 0, CONNACK_REFUSED);
}

/* auth_timeout is for the verdict; the time of a refusal may lie behind it. */
static void who_has_waited_too_long_is_told(void **unused)
{
    (void)unused;
    with_a_delay(15000);
    struct client *c = guess();
    fake_loop_pass(rig.broker.loop, 19999);
    verdict(AUTH_DENIED);
    expect_refusal_after(c, 10001, CONNACK_REFUSED);
    c = guess();
    fake_loop_pass(rig.broker.loop, 20000);
    settle();
    expect_connack(c, 0, CONNACK_UNAVAILABLE);
    assert_int_equal(rig.broker.counters.logins_full, 1);
    verdict(AUTH_DENIED);
    assert_int_equal(rig.broker.counters.logins_failed, 1); /* too late */
}

static void who_waits_to_be_refused_is_not_heard_and_holds_little(void **unused)
{
    (void)unused;
    with_a_delay(1000);
    struct client *watch = CONNECT(V4 "\xC2\0\x3C\0\1w\0\1w\0\1w");
    settle();
    verdict(AUTH_ALLOWED);
    expect_connack(watch, 0, 0);
    subscribe(watch, "w", 0);
    uint64_t bytes = msg_bytes();
    struct client *c = CONNECT(V4 "\xC6\0\x3C\0\1a\0\1w\0\4gone\0\1u\0\1p");
    SEND(c, "\x82\x06\0\1\0\1w\1\xC0\0");
    settle();
    assert_true(msg_bytes() > bytes);
    verdict(AUTH_DENIED);
    assert_int_equal(msg_bytes(), bytes); /* the will is gone */
    assert_int_equal(rig.broker.counters.logins_failed, 1);
    settle();
    assert_false(c->t.reading);
    c->t.at_end = true; /* and it leaves meanwhile */
    SEND(watch, "\xC0\0");
    settle();
    EXPECT(watch, "\xD0\0"); /* who is in notices nothing */
    fake_loop_pass(rig.broker.loop, 1000);
    settle();
    assert_true(c->t.closed);
    EXPECT(watch, "");
    assert_int_equal(subs_count(rig.broker.subs), 1);
    c = guess(); /* it ends with the broker */
    verdict(AUTH_DENIED);
}

/* What is wrong with the packet, or was found after a login, says nothing about passwords. */
static void other_refusals_are_immediate(void **unused)
{
    (void)unused;
    with_a_delay(1000);
    expect_connack(CONNECT(V4 "\0\0\0\0\0"), 0, CONNACK_BAD_ID);
    expect_connack(CONNECT("\0\4MQTT\5\2\0\x3C\0\0\3abc"), 0, CONNACK_BAD_LEVEL);
    assert_non_null(session_new(&rig.broker.sessions, "a", NULL, true));
    struct client *c = guess();
    verdict(AUTH_ALLOWED);
    expect_connack(c, 0, CONNACK_REFUSED);
    c = guess();
    verdict(AUTH_UNAVAILABLE);
    expect_connack(c, 0, CONNACK_UNAVAILABLE);
    assert_int_equal(rig.broker.counters.logins_full, 1);
}

/* ---- who fails too often ---- */

static void after_some_failures_nobody_is_asked_any_more(void **unused)
{
    (void)unused;
    static const int64_t after[] = {1000, 1000, 2000, 4000};
    with_a_delay(1000);
    rig.config.auth_ban_failures = 4;
    for (int i = 0; i < 4; i++) {
        struct client *c = guess();
        verdict(AUTH_DENIED);
        expect_refusal_after(c, after[i], CONNACK_REFUSED);
    }
    assert_int_equal(rig.broker.counters.bans, 1);
    expect_refusal_after(guess(), 1000, CONNACK_REFUSED);
    assert_int_equal(rig.login_count, 0);
    assert_int_equal(rig.broker.counters.logins_banned, 1);
    assert_int_equal(rig.broker.counters.logins_failed, 4);
    struct client *other = CONNECT(V4 "\xC2\0\x3C\0\1b\0\4mary\0\5right");
    strcpy(other->conn->who->address, "127.0.0.1");
    settle();
    verdict(AUTH_ALLOWED); /* this machine's other users are heard */
    expect_connack(other, 0, 0);
    fake_loop_pass(rig.broker.loop, 300000);
    struct client *c = guess();
    verdict(AUTH_ALLOWED);
    expect_connack(c, 0, 0);
}

static void guess_from(const char *address)
{
    struct client *c = guess();
    strcpy(c->conn->who->address, address);
    verdict(AUTH_DENIED);
    settle();
}

/* An address, and a user that is tried from many. */
static void each_ban_is_counted_once(void **unused)
{
    (void)unused;
    with_a_delay(0);
    rig.config.connection_messages = true;
    rig.config.auth_ban_failures = 2;
    guess_from("198.51.100.1"); /* here he fails before there is any ban */
    guess_from("198.51.100.2");
    assert_int_equal(rig.broker.counters.bans, 1);
    struct client *c = guess();
    verdict(AUTH_ALLOWED);
    expect_connack(c, 0, 0);
    rig.broker.ban.seed.k[0]++; /* as if nobody had failed yet */
    guess_from("198.51.100.1");
    guess_from("198.51.100.1");
    assert_int_equal(rig.broker.counters.bans, 2);
    assert_int_equal(rig.broker.counters.logins_banned, 0);
}

/* All guesses at once are no more than one after the other, not even the right one. */
static void guesses_under_way_do_not_count_after_that(void **unused)
{
    (void)unused;
    with_a_delay(1000);
    rig.config.auth_ban_failures = 2;
    struct client *c[4];
    for (int i = 0; i < 4; i++) {
        c[i] = guess();
    }
    verdict(AUTH_DENIED);
    verdict(AUTH_DENIED);
    verdict(AUTH_ALLOWED);
    verdict(AUTH_DENIED);
    assert_int_equal(rig.broker.counters.logins_failed, 2);
    assert_int_equal(rig.broker.counters.logins_banned, 2);
    assert_int_equal(rig.broker.counters.bans, 1);
    settle();
    EXPECT(c[2], "");
    fake_loop_pass(rig.broker.loop, 2000); /* the second failure waits twice as long */
    for (int i = 0; i < 4; i++) {
        expect_connack(c[i], 0, CONNACK_REFUSED);
    }
    assert_int_equal(rig.broker.sessions.online, 0);
}

/* ---- what is told of it ---- */

static struct {
    int count;
    bool allowed;
    char user[16], reason[64];
} told;

static void listener(void *arg, const struct decision *decision)
{
    assert_ptr_equal(arg, &told);
    if (decision->kind == DECIDED_DISCONNECT) {
        return; /* the end of the test */
    }
    assert_int_equal(decision->kind, DECIDED_CONNECT);
    told.count++;
    told.allowed = decision->allowed;
    snprintf(told.user, sizeof told.user, "%s", decision->who->user ? decision->who->user : "");
    snprintf(told.reason, sizeof told.reason, "%s", decision->reason);
}

static void expect_told(bool allowed, const char *user, const char *reason)
{
    assert_int_equal(told.count, 1);
    assert_int_equal(told.allowed, allowed);
    assert_string_equal(told.user, user);
    assert_string_equal(told.reason, reason);
    told.count = 0;
}

static void each_decision_is_told_once(void **unused)
{
    (void)unused;
    memset(&told, 0, sizeof told);
    rig.broker.decisions = (struct decision_listener){.fn = listener, .arg = &told};
    with_a_delay(1000);
    rig.config.auth_ban_failures = 1;
    CONNECT("\0\4MQTT\5\2\0\x3C\0\0\3abc");
    settle();
    assert_int_equal(told.count, 1);
    told.count = 0;
    struct client *c = CONNECT(V4 "\xC2\0\x3C\0\1b\0\4mary\0\5right");
    settle();
    assert_int_equal(told.count, 0);
    verdict(AUTH_ALLOWED);
    settle();
    expect_told(true, "mary", "accepted");
    c = guess();
    assert_int_equal(told.count, 0);
    verdict(AUTH_DENIED);
    expect_told(false, "jane", "wrong user name or password"); /* not only when the answer goes */
    c = guess();
    expect_told(false, "jane", "too many logins have failed (auth_ban_failures)");
    fake_loop_pass(rig.broker.loop, 1000);
    expect_connack(c, 0, CONNACK_REFUSED);
    assert_int_equal(told.count, 0);
}

/* Nothing of the old session is touched before the new client has shown who it is [MQTT-3.1.4-3]. */
static void a_wrong_password_takes_nothing_over(void **unused)
{
    (void)unused;
    rig.door.passwords = some_passwords;
    struct client *old = CONNECT(V4 "\xC0\0\x3C\0\1a\0\4jane\0\6secret");
    settle();
    verdict(AUTH_ALLOWED);
    expect_connack(old, 0, 0);
    struct client *c = CONNECT(V4 "\xC2\0\x3C\0\1a\0\4jane\0\5wrong");
    settle();
    assert_false(old->t.closed);
    verdict(AUTH_DENIED);
    expect_connack(c, 0, CONNACK_REFUSED);
    assert_false(old->t.closed);
    assert_non_null(session_find(&rig.broker.sessions, "a"));
}

static void the_certificate_may_say_who_it_is(void **unused)
{
    (void)unused;
    rig.security.allow_anonymous = false;
    rig.listener.use_identity_as_username = true;
    expect_connack(CONNECT(V4 "\xC2\0\x3C\0\1a\0\1x\0\1y"), 0, CONNACK_BAD_LOGIN); /* no certificate */
    struct client *c = client_open();
    c->conn->who->cert_cn = strdup("pump");
    c->conn->who->cert_subject = strdup("CN=pump,O=mill");
    send_connect(c, "b", true);
    expect_connack(c, 0, 0);
    assert_string_equal(c->conn->who->user, "pump");
    rig.listener.use_subject_as_username = true;
    c = client_open();
    c->conn->who->cert_cn = strdup("pump");
    c->conn->who->cert_subject = strdup("CN=pump,O=mill");
    send_connect(c, "c", true);
    expect_connack(c, 0, 0);
    assert_string_equal(c->conn->who->user, "CN=pump,O=mill");
}

static void the_user_name_may_be_the_client_id(void **unused)
{
    (void)unused;
    rig.listener.use_username_as_clientid = true;
    expect_connack(CONNECT(V4 "\2\0\x3C\0\1a"), 0, CONNACK_REFUSED);
    struct client *c = CONNECT(V4 "\x82\0\x3C\0\1a\0\4jane");
    expect_connack(c, 0, 0);
    assert_non_null(session_find(&rig.broker.sessions, "jane"));
    assert_null(session_find(&rig.broker.sessions, "a"));
}

static void client_ids_may_need_a_prefix(void **unused)
{
    (void)unused;
    rig.config.clientid_prefixes = (char[]){"dev-"};
    expect_connack(CONNECT(V4 "\2\0\x3C\0\4pump"), 0, CONNACK_BAD_ID);
    expect_connack(CONNECT(V4 "\2\0\x3C\0\5dev-1"), 0, 0);
}

static void keep_alive_may_be_limited(void **unused)
{
    (void)unused;
    rig.config.max_keepalive = 100;
    expect_connack(CONNECT(V4 "\2\0\x64\0\1a"), 0, 0);
    expect_connack(CONNECT(V4 "\2\0\x65\0\1b"), 0, CONNACK_BAD_ID);
    expect_connack(CONNECT(V4 "\2\0\0\0\1c"), 0, CONNACK_BAD_ID);
}

/* ---- sessions ---- */

static struct client *watcher(void)
{
    struct client *c = client_up("watch", true);
    subscribe(c, "w", 2);
    return c;
}

static void a_kept_session_goes_on(void **unused)
{
    (void)unused;
    struct client *c = CONNECT(V4 "\0\0\x3C\0\1a");
    expect_connack(c, 0, 0); /* [MQTT-3.2.2-3] */
    subscribe(c, "t", 1);
    struct client *from = client_up("from", true);
    client_drop(c);
    send_publish(from, 2, "t", 1, 1);
    settle();
    c = CONNECT(V4 "\0\0\x3C\0\1a");
    settle();
    EXPECT(c, "\x20\x02\1\0\x32\x06\0\1t\0\1\0"); /* [MQTT-3.2.2-2]; it was never on the wire: no DUP */
    client_drop(c);
    c = CONNECT(V4 "\0\0\x3C\0\1a");
    settle();
    EXPECT(c, "\x20\x02\1\0\x3A\x06\0\1t\0\1\0");
    client_drop(c);
    expect_connack(CONNECT(V4 "\2\0\x3C\0\1a"), 0, 0); /* CleanSession 1 discards it [MQTT-3.1.2-6] */
    assert_int_equal(subs_count(rig.broker.subs), 0);
}

static void mqtt_3_1_knows_no_session_present(void **unused)
{
    (void)unused;
    struct client *c = CONNECT("\0\6MQIsdp\3\0\0\x3C\0\1a");
    expect_connack(c, 0, 0);
    subscribe(c, "t", 1);
    client_drop(c);
    expect_connack(CONNECT("\0\6MQIsdp\3\0\0\x3C\0\1a"), 0, 0);
    assert_int_equal(subs_count(rig.broker.subs), 1);
}

static void a_clean_session_ends_with_its_connection(void **unused)
{
    (void)unused;
    struct client *c = CONNECT(V4 "\2\0\x3C\0\1a");
    expect_connack(c, 0, 0);
    subscribe(c, "t", 1);
    client_drop(c);
    assert_null(session_find(&rig.broker.sessions, "a"));
    assert_int_equal(subs_count(rig.broker.subs), 0);
    expect_connack(CONNECT(V4 "\0\0\x3C\0\1a"), 0, 0);
}

static void the_same_client_id_takes_over(void **unused)
{
    (void)unused;
    for (int clean = 0; clean < 2; clean++) {
        struct client *first = client_up("a", clean);
        subscribe(first, "t", 1);
        struct client *second = client_open();
        send_connect(second, "a", clean);
        settle();
        assert_true(first->t.closed); /* [MQTT-3.1.4-2] */
        expect_connack(second, !clean, 0);
        assert_ptr_equal(session_find(&rig.broker.sessions, "a")->peer, &second->conn->peer);
        assert_int_equal(subs_count(rig.broker.subs), !clean);
        assert_int_equal(rig.broker.sessions.online, 1);
        client_drop(second);
        assert_int_equal(rig.broker.sessions.online, 0);
    }
    assert_int_equal(rig.broker.conn_count, 0);
}

static void a_take_over_in_the_same_turn_works_too(void **unused)
{
    (void)unused;
    struct client *c[4];
    for (int i = 0; i < 4; i++) {
        c[i] = client_open();
        send_connect(c[i], "a", i % 2);
    }
    settle();
    for (int i = 0; i < 3; i++) {
        assert_true(c[i]->t.closed);
    }
    expect_connack(c[3], 0, 0);
    assert_int_equal(rig.broker.conn_count, 1);
}

/* A kept session belongs to client id and user. */
static void another_user_does_not_get_the_session(void **unused)
{
    (void)unused;
    struct client *c = CONNECT(V4 "\x80\0\x3C\0\1a\0\4jane");
    expect_connack(c, 0, 0);
    expect_connack(CONNECT(V4 "\x80\0\x3C\0\1a\0\4mary"), 0, CONNACK_REFUSED);
    assert_false(c->t.closed);
    client_drop(c);
    expect_connack(CONNECT(V4 "\x80\0\x3C\0\1a\0\4mary"), 0, CONNACK_REFUSED);
    expect_connack(CONNECT(V4 "\x82\0\x3C\0\1a\0\4mary"), 0, CONNACK_REFUSED); /* nor may discard it */
    expect_connack(CONNECT(V4 "\0\0\x3C\0\1a"), 0, CONNACK_REFUSED);           /* nor nobody at all */
    expect_connack(CONNECT(V4 "\x80\0\x3C\0\1a\0\0"), 0, CONNACK_REFUSED);
    expect_connack(CONNECT(V4 "\x80\0\x3C\0\1a\0\4jane"), 1, 0);
}

/* discard_session_of_other_user: it ends as with CleanSession 1, and the new one begins with nothing. */
static void or_the_session_of_another_user_ends(void **unused)
{
    (void)unused;
    rig.config.discard_session_of_other_user = true;
    struct client *watch = watcher(), *c = CONNECT(V4 "\x84\0\x3C\0\1a\0\1w\0\4gone\0\4jane");
    expect_connack(c, 0, 0);
    subscribe(c, "t", 1);
    struct client *next = CONNECT(V4 "\x80\0\x3C\0\1a\0\4mary");
    settle();
    assert_true(c->t.closed);
    EXPECT(watch, "\x30\x07\0\1wgone");
    expect_connack(next, 0, 0);
    assert_int_equal(subs_count(rig.broker.subs), 1);
    subscribe(next, "u", 1);
    client_drop(next);
    send_publish(watch, 2, "u", 1, 1);
    settle();
    watch->t.out_size = 0;
    next = CONNECT(V4 "\x80\0\x3C\0\1a\0\4jane"); /* a kept one of somebody absent: as well */
    expect_connack(next, 0, 0);
    assert_int_equal(subs_count(rig.broker.subs), 1);
    client_drop(next);
    expect_connack(CONNECT(V4 "\x80\0\x3C\0\1a\0\4jane"), 1, 0); /* one's own goes on */
    assert_non_null(session_new(&rig.broker.sessions, "$SYS", NULL, true));
    expect_connack(CONNECT(V4 "\2\0\x3C\0\4$SYS"), 0, CONNACK_REFUSED);
}

static void sessions_are_limited(void **unused)
{
    (void)unused;
    /* the broker's own session, for $SYS, is not counted */
    assert_non_null(session_new(&rig.broker.sessions, "$SYS", NULL, true));
    rig.config.global_max_clients = 2;
    struct client *a = client_up("a", false), *b = client_up("b", true);
    client_drop(a);
    expect_connack(CONNECT(V4 "\2\0\x3C\0\1c"), 0, CONNACK_UNAVAILABLE);
    expect_connack(CONNECT(V4 "\0\0\x3C\0\1a"), 1, 0); /* a known one may come back */
    client_drop(b);
    expect_connack(CONNECT(V4 "\2\0\x3C\0\1c"), 0, 0);
}

static void sessions_count_for_the_memory_limit(void **unused)
{
    (void)unused;
    struct client *a = client_up("a", false);
    client_drop(a);
    rig.config.memory_limit = mem_held() - 1;
    expect_connack(CONNECT(V4 "\0\0\x3C\0\1b"), 0, CONNACK_UNAVAILABLE);
    expect_connack(CONNECT(V4 "\0\0\x3C\0\1a"), 1, 0);
    rig.config.memory_limit = mem_held() * 8 / 6 + 8;
    expect_connack(CONNECT(V4 "\0\0\x3C\0\1b"), 0, 0);
}

static void nobody_takes_the_brokers_own_client_id(void **unused)
{
    (void)unused;
    assert_non_null(session_new(&rig.broker.sessions, "$SYS", NULL, true));
    expect_connack(CONNECT(V4 "\2\0\x3C\0\4$SYS"), 0, CONNACK_REFUSED);
}

/* ---- wills ---- */

#define WILL(flags) V4 flags "\0\x3C\0\1a\0\1w\0\4gone"

static void a_will_is_published_when_the_connection_breaks(void **unused)
{
    (void)unused;
    struct client *watch = watcher(), *c = CONNECT(WILL("\6"));
    expect_connack(c, 0, 0);
    client_drop(c);
    EXPECT(watch, "\x30\x07\0\1wgone"); /* [MQTT-3.1.2-8] */
    c = CONNECT(WILL("\x0E"));
    expect_connack(c, 0, 0);
    c->t.read_error = -ECONNRESET;
    settle();
    EXPECT(watch, "\x32\x09\0\1w\0\1gone");
    send_ack(watch, PKT_PUBACK, 1);
    c = CONNECT(WILL("\x16"));
    expect_connack(c, 0, 0);
    SEND(c, "\xF0\0"); /* a protocol error */
    settle();
    EXPECT(watch, "\x34\x09\0\1w\0\2gone");
    send_ack(watch, PKT_PUBREC, 2);
    c = CONNECT(WILL("\6"));
    expect_connack(c, 0, 0);
    fake_loop_pass(rig.broker.loop, 90000); /* silence; the watcher ends as well */
    assert_true(c->t.closed);
}

static void a_will_is_published_on_silence_and_take_over(void **unused)
{
    (void)unused;
    struct client *watch = watcher(), *c = CONNECT(WILL("\6"));
    expect_connack(c, 0, 0);
    fake_loop_pass(rig.broker.loop, 60000);
    SEND(watch, "\xC0\0");
    settle();
    fake_loop_pass(rig.broker.loop, 30000);
    settle();
    EXPECT(watch, "\xD0\0\x30\x07\0\1wgone");
    c = CONNECT(WILL("\6"));
    expect_connack(c, 0, 0);
    struct client *next = CONNECT(V4 "\2\0\x3C\0\1a");
    expect_connack(next, 0, 0);
    EXPECT(watch, "\x30\x07\0\1wgone");
    client_drop(next);
    EXPECT(watch, ""); /* it had none */
}

static void a_disconnect_removes_the_will(void **unused)
{
    (void)unused;
    struct client *watch = watcher(), *c = CONNECT(WILL("\6"));
    expect_connack(c, 0, 0);
    SEND(c, "\xE0\0");
    settle();
    assert_true(c->t.closed);
    EXPECT(watch, ""); /* [MQTT-3.1.2-10] */
    c = CONNECT(WILL("\6"));
    expect_connack(c, 0, 0);
    SEND(c, "\xE1\0"); /* that is no DISCONNECT [MQTT-3.14.1-1] */
    settle();
    EXPECT(watch, "\x30\x07\0\1wgone");
    listen_to_decisions();
    use_acl("retain no\ntopic readwrite #\n");
    c = CONNECT(WILL("\x26"));
    expect_connack(c, 0, 0);
    client_drop(c);
    EXPECT(watch, "");
    assert_int_equal(retain_count(rig.broker.retain), 0);
    expect_denied(1, DECIDED_PUBLISH, "w", 0, 1, "the ACL allows it no retained messages");
    use_acl("qos 0\ntopic readwrite #\n");
    c = CONNECT(WILL("\x0E"));
    expect_connack(c, 0, 0);
    client_drop(c);
    EXPECT(watch, "");
    expect_denied(2, DECIDED_PUBLISH, "w", 1, 1, "its QoS is higher than the ACL allows");
}

/* Also by the client id that use_username_as_clientid gives it. */
static void the_acl_admits_it(void **unused)
{
    (void)unused;
    use_acl("clientid a\nclientid u\n");
    expect_connack(CONNECT(V4 "\2\0\x3C\0\1a"), 0, 0);
    expect_connack(CONNECT(V4 "\2\0\x3C\0\1b"), 0, CONNACK_REFUSED);
    assert_null(session_find(&rig.broker.sessions, "b"));
    rig.listener.use_username_as_clientid = true;
    expect_connack(CONNECT(V4 "\x82\0\x3C\0\1b\0\1u"), 0, 0);
    expect_connack(CONNECT(V4 "\x82\0\x3C\0\1a\0\1v"), 0, CONNACK_REFUSED);
    rig.listener.use_username_as_clientid = false;
    use_acl("tls required\n");
    struct client *c = CONNECT(V4 "\2\0\x3C\0\1a");
    expect_connack(c, 0, CONNACK_REFUSED);
    assert_int_equal(rig.broker.counters.connects_refused, 3);
    assert_int_equal(rig.broker.counters.logins_failed, 0);
}

static void a_refused_client_has_no_will(void **unused)
{
    (void)unused;
    struct client *watch = watcher();
    rig.door.passwords = some_passwords;
    struct client *c = CONNECT(V4 "\xC6\0\x3C\0\1a\0\1w\0\4gone\0\1u\0\1p");
    settle();
    verdict(AUTH_DENIED);
    expect_connack(c, 0, CONNACK_REFUSED);
    c = CONNECT(V4 "\xC6\0\x3C\0\1a\0\1w\0\4gone\0\1u\0\1p");
    settle();
    c->t.at_end = true;
    fake_loop_pass(rig.broker.loop, 20000);
    settle();
    assert_true(c->t.closed);
    EXPECT(watch, "");
}

static void a_retained_will_stays(void **unused)
{
    (void)unused;
    struct client *c = CONNECT(WILL("\x26"));
    expect_connack(c, 0, 0);
    client_drop(c);
    assert_int_equal(retain_count(rig.broker.retain), 1);
    struct client *watch = client_up("watch", true);
    SEND(watch, "\x82\x06\0\1\0\1w\2");
    settle();
    EXPECT(watch, "\x90\x03\0\1\2\x31\x07\0\1wgone");
}

static void a_will_may_ask_for_too_much(void **unused)
{
    (void)unused;
    rig.listener.max_qos = 1;
    expect_connack(CONNECT(WILL("\x16")), 0, CONNACK_REFUSED);
    rig.config.retain_available = false;
    expect_connack(CONNECT(WILL("\x26")), 0, CONNACK_REFUSED);
    rig.config.message_size_limit = 3;
    expect_connack(CONNECT(WILL("\6")), 0, CONNACK_REFUSED);
    rig.config.message_size_limit = 4;
    rig.config.max_topic_levels = 2;
    expect_connack(CONNECT(V4 "\6\0\x3C\0\1a\0\5w/x/y\0\4gone"), 0, CONNACK_REFUSED);
    expect_connack(CONNECT(WILL("\6")), 0, 0);
}

/* The right to publish is asked for when it is used. */
static void a_will_needs_the_right_to_publish(void **unused)
{
    (void)unused;
    struct client *watch = watcher(), *c = CONNECT(WILL("\6"));
    expect_connack(c, 0, 0);
    use_acl("topic read #\n");
    client_drop(c);
    EXPECT(watch, "");
    use_acl("topic readwrite #\n");
    c = CONNECT(WILL("\6"));
    expect_connack(c, 0, 0);
    client_drop(c);
    EXPECT(watch, "\x30\x07\0\1wgone");
}

static void a_will_is_mounted_like_everything(void **unused)
{
    (void)unused;
    rig.listener.mount_point = (char[]){"home/"};
    struct client *watch = watcher(), *c = CONNECT(WILL("\x26"));
    expect_connack(c, 0, 0);
    client_drop(c);
    EXPECT(watch, "\x30\x07\0\1wgone"); /* both are behind the same door */
    struct session *inside = session_new(&rig.broker.sessions, "inside", NULL, true);
    const struct match *matches;
    bool cut;
    subs_add(rig.broker.subs, inside, slice_str("home/w"), 0);
    assert_int_equal(subs_match(rig.broker.subs, slice_str("home/w"), &matches, &cut), 2);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_level_that_is_not_spoken_is_answered),
        T(another_protocol_gets_no_answer),
        T(an_empty_client_id_gets_one),
        T(strangers_come_in_where_that_is_allowed),
        T(passwords_are_asked_for_and_waited_for),
        T(a_wrong_password_is_refused),
        T(a_verdict_may_come_too_late),
        T(all_failures_are_answered_at_the_same_time),
        T(a_late_verdict_waits_for_the_next_step),
        T(who_has_waited_too_long_is_told),
        T(who_waits_to_be_refused_is_not_heard_and_holds_little),
        T(other_refusals_are_immediate),
        T(after_some_failures_nobody_is_asked_any_more),
        T(each_ban_is_counted_once),
        T(guesses_under_way_do_not_count_after_that),
        T(each_decision_is_told_once),
        T(a_wrong_password_takes_nothing_over),
        T(the_certificate_may_say_who_it_is),
        T(the_user_name_may_be_the_client_id),
        T(client_ids_may_need_a_prefix),
        T(keep_alive_may_be_limited),
        T(a_kept_session_goes_on),
        T(mqtt_3_1_knows_no_session_present),
        T(a_clean_session_ends_with_its_connection),
        T(the_same_client_id_takes_over),
        T(a_take_over_in_the_same_turn_works_too),
        T(another_user_does_not_get_the_session),
        T(or_the_session_of_another_user_ends),
        T(sessions_are_limited),
        T(sessions_count_for_the_memory_limit),
        T(nobody_takes_the_brokers_own_client_id),
        T(a_will_is_published_when_the_connection_breaks),
        T(a_will_is_published_on_silence_and_take_over),
        T(a_disconnect_removes_the_will),
        T(a_refused_client_has_no_will),
        T(a_retained_will_stays),
        T(a_will_may_ask_for_too_much),
        T(a_will_needs_the_right_to_publish),
        T(the_acl_admits_it),
        T(a_will_is_mounted_like_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
