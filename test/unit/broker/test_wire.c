/*
 * test_wire.c - the files that a configuration names: which mistake is said and how, and what becomes of who
 * is connected when they are swapped by a reload.
 *
 * The hashing threads are the test's own verdicts (fake_broker.h); the rest is real.
 */
#include "test/unit/no_memory.h"

#include "broker/wire.h"
#include "fake_broker.h"
#include "test/unit/auth/vectors.h"

static struct {
    char dir[32];
    char passwd[48], acl[48];
    struct wire *wire;
    bool no_threads;
    int forgotten; /* how often the cache of secrets was emptied */
} f;

struct hasher *hasher_new(struct mailbox *mailbox, const struct hasher_options *options)
{
    assert_null(mailbox);
    assert_true(options->threads >= 1 && options->listeners >= 1 && options->counters);
    return f.no_threads ? NULL : (struct hasher *)&f; /* nobody looks into it */
}

void hasher_forget(struct hasher *hasher)
{
    assert_ptr_equal(hasher, &f);
    f.forgotten++;
}

void hasher_free(struct hasher *hasher)
{
    assert_ptr_equal(hasher, &f);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int wire_setup(void **unused)
{
    memset(&f, 0, sizeof f);
    strcpy(f.dir, "/tmp/test_wire.XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    snprintf(f.passwd, sizeof f.passwd, "%s/passwd", f.dir);
    snprintf(f.acl, sizeof f.acl, "%s/acl", f.dir);
    write_file(f.passwd, "alice:" V7_SECRET "\nbob:" V6_SECRET6 "\n");
    write_file(f.acl, "topic read public/#\nuser alice\ntopic readwrite #\nuser bob\ntopic readwrite #\n");
    int result = setup(unused);
    rig.security.allow_anonymous = false;
    rig.security.password_file = f.passwd;
    rig.security.password_file_at = (struct config_place){"a.conf", 3};
    rig.security.acl_file_at = (struct config_place){"a.conf", 4};
    return result;
}

static int wire_teardown(void **unused)
{
    int result = teardown(unused); /* connections end before what they live on */
    wire_free(f.wire);
    unlink(f.passwd);
    unlink(f.acl);
    return result | rmdir(f.dir);
}

static struct wiring *load(void)
{
    struct err err = {""};
    struct wiring *wiring = wire_load(&rig.config, &err);
    if (!wiring) {
        fail_msg("%s", err.text);
    }
    return wiring;
}

/* The daemon as started, and as after each reload. */
static void use(void)
{
    struct err err = {""};
    if (!f.wire) {
        f.wire = wire_new(&rig.broker, &err);
        assert_non_null(f.wire);
    }
    wire_use(f.wire, load(), &rig.config);
}

static struct client *login(const char *id, const char *user)
{
    uint8_t p[64] = {0x10, 0, 0, 4, 'M', 'Q', 'T', 'T', 4, 0xC0, 0, 60, 0, (uint8_t)strlen(id)};
    size_t n = 14;
    memcpy(p + n, id, strlen(id));
    n += strlen(id);
    packet_put_u16(p + n, (uint16_t)strlen(user));
    memcpy(p + n + 2, user, strlen(user));
    n += 2 + strlen(user);
    memcpy(p + n, "\0\2pw", 4);
    n += 4;
    p[1] = (uint8_t)(n - 2);
    struct client *c = client_open();
    client_send(c, p, n);
    settle();
    if (rig.login_count > 0) {
        verdict(AUTH_ALLOWED);
        settle();
    }
    assert_int_equal(c->t.out_size, 4);
    assert_int_equal(c->t.out[3], 0);
    c->t.out_size = 0;
    return c;
}

/* ---- loading ---- */

static void refused_with(const char *words)
{
    struct err err = {""};
    assert_null(wire_load(&rig.config, &err));
    if (!strstr(err.text, words)) {
        fail_msg("'%s' does not say '%s'", err.text, words);
    }
}

static void a_mistake_is_said_with_its_place(void **unused)
{
    (void)unused;
    write_file(f.passwd, "alice:plain\n");
    refused_with("a.conf:3: Error: password_file: ");
    refused_with("plain text");
    unlink(f.passwd);
    refused_with("a.conf:3: Error: password_file: ");
    rig.security.password_file = NULL;
    rig.security.acl_file = f.acl;
    write_file(f.acl, "nonsense\n");
    refused_with("a.conf:4: Error: acl_file: ");
    unlink(f.acl);
    refused_with("a.conf:4: Error: acl_file: ");
    rig.security.acl_file = NULL;
    rig.listener.tls = true;
    rig.listener.certfile = rig.listener.keyfile = f.acl; /* which is not there */
    refused_with(f.acl);
    rig.listener.tls = false;
    rig.listener.protocol = PROTOCOL_WEBSOCKETS;
    rig.listener.http_dir = f.acl;
    refused_with(f.acl);
}

static void without_memory_nothing_is_loaded(void **unused)
{
    (void)unused;
    rig.security.acl_file = f.acl;
    int failed = 1, n = 0;
    for (; failed > 0; n++) {
        struct err err = {""};
        memory_fails(n, 1);
        struct wiring *wiring = wire_load(&rig.config, &err);
        failed = memory_calm();
        assert_int_equal(wiring == NULL, failed);
        assert_int_equal(strstr(err.text, "memory") != NULL, failed);
        wire_unload(wiring);
    }
    assert_true(n > 10);
    wire_unload(NULL);
    wire_free(NULL);
}

static void without_memory_or_threads_there_is_no_start(void **unused)
{
    (void)unused;
    struct err err = {""};
    int failed = 1, n = 0;
    rig.broker.doors = NULL;
    rig.broker.door_count = 0;
    for (; failed > 0; n++) {
        memory_fails(n, 1);
        struct wire *wire = wire_new(&rig.broker, &err);
        failed = memory_calm();
        assert_int_equal(wire == NULL, failed);
        wire_free(wire);
        assert_null(rig.broker.doors);
    }
    assert_true(n > 2);
    f.no_threads = true;
    assert_null(wire_new(&rig.broker, &err));
    assert_string_equal(err.text, "Error: cannot start the threads that check passwords");
    rig.broker.doors = &rig.door;
    rig.broker.door_count = 1;
}

/* ---- swapping ---- */

static void who_has_another_password_now_is_disconnected(void **unused)
{
    (void)unused;
    use();
    struct client *alice = login("a", "alice"), *bob = login("b", "bob");
    struct client *stranger = client_open(); /* has shown nothing yet */
    settle();
    use(); /* nothing has changed */
    settle();
    assert_false(alice->t.closed || bob->t.closed || stranger->t.closed);
    write_file(f.passwd, "alice:" V7_SECRET "\nbob:" VA_SECRET "\n");
    use();
    settle();
    assert_false(alice->t.closed || stranger->t.closed);
    assert_true(bob->t.closed);
    write_file(f.passwd, "bob:" VA_SECRET "\n");
    use();
    settle();
    assert_true(alice->t.closed);
    assert_false(stranger->t.closed);
}

/* Any change of the file; not a reload that brings none. */
static void verified_secrets_end_with_a_change_of_the_file(void **unused)
{
    (void)unused;
    use();
    use();
    assert_int_equal(f.forgotten, 0);
    write_file(f.passwd, "# a comment\nbob:" V6_SECRET6 "\nalice:" V7_SECRET "\n");
    use();
    assert_int_equal(f.forgotten, 0);
    write_file(f.passwd, "alice:" V7_SECRET "\nbob:" V6_SECRET6 "\ncarol:" VA_SECRET "\n");
    use();
    assert_int_equal(f.forgotten, 1);
    write_file(f.passwd, "alice:" VA_SECRET "\nbob:" V6_SECRET6 "\ncarol:" VA_SECRET "\n");
    use();
    assert_int_equal(f.forgotten, 2);
    rig.security.password_file = NULL;
    use();
    assert_int_equal(f.forgotten, 3);
}

/* The verdict that comes is about a password that counts no more. It is refused then: that a reload closes it
 * would say that there is such a user. */
static void who_waits_for_its_verdict_meanwhile_is_refused(void **unused)
{
    (void)unused;
    use();
    struct client *c = client_open();
    SEND(c, "\x10\x19\0\4MQTT\4\xc2\0\x3c\0\1c\0\5alice\0\3old");
    settle();
    assert_int_equal(rig.login_count, 1);
    write_file(f.passwd, "alice:" VA_SECRET "\n");
    use();
    settle();
    assert_false(c->t.closed);
    verdict(AUTH_ALLOWED);
    settle();
    assert_int_equal(c->t.out_size, 4);
    assert_int_equal(c->t.out[3], CONNACK_REFUSED);
    assert_null(session_find(&rig.broker.sessions, "c"));
}

/* Its answer comes at its time, as that of any other failure: nobody learns from a reload that there is no
 * such user. */
static void a_login_that_fails_anyway_is_left_to_its_answer(void **unused)
{
    (void)unused;
    rig.config.auth_fail_delay = 1000;
    use();
    struct client *waits = client_open(), *failed = client_open();
    SEND(waits, "\x10\x18\0\4MQTT\4\xc2\0\x3c\0\1c\0\4carl\0\3old");
    SEND(failed, "\x10\x18\0\4MQTT\4\xc2\0\x3c\0\1d\0\4carl\0\3old");
    settle();
    assert_int_equal(rig.login_count, 2);
    verdict(AUTH_DENIED);
    write_file(f.passwd, "alice:" VA_SECRET "\n");
    use();
    settle();
    assert_false(waits->t.closed || failed->t.closed);
    verdict(AUTH_DENIED);
    fake_loop_pass(rig.broker.loop, 1000);
    settle();
    EXPECT(waits, "\x20\2\0\5");
    EXPECT(failed, "\x20\2\0\5");
}

static void anonymous_clients_end_with_their_right(void **unused)
{
    (void)unused;
    rig.security.allow_anonymous = true;
    use();
    struct client *nobody = client_up("n", true), *alice = login("a", "alice");
    rig.security.allow_anonymous = false;
    use();
    settle();
    assert_true(nobody->t.closed);
    assert_false(alice->t.closed);
}

/* Without a password file a name is taken as it is, or nobody is. */
static void a_password_file_that_goes_takes_its_users_along(void **unused)
{
    (void)unused;
    use();
    struct client *alice = login("a", "alice");
    rig.security.password_file = NULL;
    use();
    settle();
    assert_true(alice->t.closed);
    rig.security.allow_anonymous = true;
    use();
    struct client *eve = login("e", "eve");
    rig.security.allow_anonymous = false;
    use();
    settle();
    assert_true(eve->t.closed);
}

static void names_of_certificates_are_no_matter_of_passwords(void **unused)
{
    (void)unused;
    rig.listener.use_identity_as_username = true;
    use();
    struct client *c = client_open();
    settle();
    c->conn->who->cert_cn = strdup("alice");
    send_connect(c, "c", true);
    settle();
    EXPECT(c, "\x20\2\0\0");
    write_file(f.passwd, "bob:" VA_SECRET "\n");
    use();
    settle();
    assert_false(c->t.closed);
}

static void what_may_no_longer_be_read_is_not_sent(void **unused)
{
    (void)unused;
    rig.security.acl_file = f.acl;
    use();
    struct client *alice = login("a", "alice"), *bob = login("b", "bob");
    subscribe(bob, "#", 1);
    client_drop(bob);
    send_publish(alice, 2, "secret/1", 1, 1);
    send_publish(alice, 2, "public/1", 2, 1);
    settle();
    EXPECT(alice, "\x40\2\0\1\x40\2\0\2");
    write_file(f.acl, "user alice\ntopic readwrite #\nuser bob\ntopic read public/#\n");
    use();
    bob = client_open();
    SEND(bob, "\x10\x16\0\4MQTT\4\xc0\0\x3c\0\1b\0\3bob\0\2pw");
    settle();
    verdict(AUTH_ALLOWED);
    settle();
    EXPECT(bob, "\x20\2\1\0\x32\x0d\0\x08public/1\0\2\0");
}

static struct session *kept(const char *id)
{
    return session_find(&rig.broker.sessions, id);
}

/* A client that leaves a kept session behind. */
static struct session *leave_session(const char *id, const char *user)
{
    struct client *c = login(id, user);
    subscribe(c, "public/#", 1);
    client_drop(c);
    return kept(id);
}

/* Nobody who comes by that name later gets what was meant for it. */
static void a_removed_user_leaves_nothing(void **unused)
{
    (void)unused;
    use();
    leave_session("a", "alice");
    leave_session("b", "bob");
    struct client *here = login("here", "bob"), *alice = login("alice", "alice");
    send_publish(alice, 2, "public/1", 1, 1);
    settle();
    write_file(f.passwd, "alice:" V7_SECRET "\n");
    use();
    assert_null(kept("b"));
    assert_null(kept("here"));
    assert_non_null(kept("a"));
    settle();
    assert_true(here->t.closed);
    assert_false(alice->t.closed);
    assert_int_equal(rig.broker.counters.sessions_revoked, 2);
    assert_int_equal(subs_count(rig.broker.subs), 1);
}

static void a_changed_password_keeps_the_session(void **unused)
{
    (void)unused;
    use();
    leave_session("b", "bob");
    struct client *here = login("here", "bob");
    write_file(f.passwd, "alice:" V7_SECRET "\nbob:" VA_SECRET "\n");
    use();
    settle();
    assert_true(here->t.closed);
    assert_non_null(kept("b"));
    assert_non_null(kept("here"));
    assert_int_equal(rig.broker.counters.sessions_revoked, 0);
}

static void use_listener(struct config_listener *listener)
{
    *listener = *rig.config.listeners;
    rig.config.listeners = listener;
}

/* The same name in another file is another user, unless it is the same entry. */
static void another_password_file_has_other_users(void **unused)
{
    (void)unused;
    char moved[48];
    snprintf(moved, sizeof moved, "%s/moved", f.dir);
    static struct config_security second;
    static struct config_listener listener;
    use();
    leave_session("a", "alice");
    leave_session("b", "bob");
    write_file(moved, "alice:" V7_SECRET "\nbob:" VA_SECRET "\n");
    use_listener(&listener);
    second = rig.security;
    second.password_file = moved;
    listener.security = rig.config.securities = &second;
    use();
    settle();
    unlink(moved);
    assert_non_null(kept("a"));
    assert_null(kept("b"));
}

/* Names that were taken as they are belong to nobody once there is a file, and the other way round. */
static void proven_and_unproven_names_are_not_the_same(void **unused)
{
    (void)unused;
    use();
    leave_session("a", "alice");
    rig.security.password_file = NULL;
    rig.security.allow_anonymous = true;
    use();
    settle();
    assert_null(kept("a"));
    leave_session("a", "alice");
    use();
    settle();
    assert_non_null(kept("a"));
    rig.security.password_file = f.passwd;
    use();
    settle();
    assert_null(kept("a"));
}

static void sessions_of_anonymous_clients_end_with_their_right(void **unused)
{
    (void)unused;
    rig.security.allow_anonymous = true;
    use();
    client_drop(client_up("n", false));
    leave_session("a", "alice");
    use();
    settle();
    assert_non_null(kept("n"));
    rig.security.allow_anonymous = false;
    use();
    settle();
    assert_null(kept("n"));
    assert_non_null(kept("a"));
}

static void sessions_of_certificates_stay(void **unused)
{
    (void)unused;
    static struct config_listener listener;
    rig.listener.use_identity_as_username = true;
    use();
    struct client *c = client_open();
    settle();
    c->conn->who->cert_cn = strdup("alice");
    send_connect(c, "c", false);
    settle();
    client_drop(c);
    write_file(f.passwd, "bob:" VA_SECRET "\n");
    use();
    settle();
    assert_non_null(kept("c"));
    write_file(f.passwd, "alice:" V7_SECRET "\n"); /* another alice */
    use_listener(&listener);
    listener.use_identity_as_username = false;
    use();
    settle();
    assert_null(kept("c"));
}

/* Whatever the rules say: who is gone has no rights. */
static void the_will_of_who_is_gone_is_not_published(void **unused)
{
    (void)unused;
    for (int gone = 0; gone < 2; gone++) {
        write_file(f.passwd, "alice:" V7_SECRET "\nbob:" V6_SECRET6 "\n");
        use();
        struct client *alice = login("a", "alice"), *bob = client_open();
        subscribe(alice, "w", 0);
        SEND(bob, "\x10\x1e\0\4MQTT\4\xc6\0\x3c\0\1b\0\1w\0\3bye\0\3bob\0\2pw");
        settle();
        verdict(AUTH_ALLOWED);
        settle();
        EXPECT(bob, "\x20\2\0\0");
        write_file(f.passwd, gone ? "alice:" V7_SECRET "\n" : "alice:" V7_SECRET "\nbob:" VA_SECRET "\n");
        use();
        settle();
        assert_true(bob->t.closed);
        if (gone) {
            EXPECT(alice, "");
        } else {
            EXPECT(alice, "\x30\6\0\1wbye"); /* a changed password is no reason */
        }
        client_drop(alice);
    }
}

/* Where no thread is to be had the old rules are freed all the same. (Leaks are looked for by the sanitizer.)
 */
static void old_rules_are_freed_without_a_thread(void **unused)
{
    (void)unused;
    rig.security.acl_file = f.acl;
    use();
    for (int n = 0; n < 2; n++) {
        struct wiring *wiring = load();
        memory_fails(n, 1);
        wire_use(f.wire, wiring, &rig.config);
        assert_int_equal(memory_calm(), 1);
    }
    for (int i = 0; i < 20; i++) {
        use();
    }
}

/* What many sessions held is given back bit by bit, and nothing is put into them any more. */
static void a_great_many_sessions_end_bit_by_bit(void **unused)
{
    (void)unused;
    use();
    for (int i = 0; i < 100; i++) {
        char id[16];
        snprintf(id, sizeof id, "b%d", i);
        leave_session(id, "bob");
        client_forget(rig.clients[rig.client_count - 1]);
    }
    struct client *alice = login("a", "alice");
    for (uint16_t i = 1; i <= 200; i++) {
        send_publish(alice, 2, "public/1", i, 1);
    }
    settle();
    uint64_t held = mem_held();
    write_file(f.passwd, "alice:" V7_SECRET "\n");
    use();
    assert_int_equal(HASH_COUNT(rig.broker.sessions.by_id), 1);
    int turns = 0;
    for (; rig.broker.sessions.gone; turns++) {
        send_publish(alice, 0, "public/1", 0, 1);
        one_turn();
    }
    assert_true(turns >= 100 * 200 / TURN_BURY);
    assert_true(mem_held() < held / 10);
    assert_int_equal(rig.broker.counters.sessions_revoked, 100);
}

static void who_is_no_longer_admitted_is_disconnected(void **unused)
{
    (void)unused;
    rig.security.acl_file = f.acl;
    use();
    listen_to_decisions();
    struct client *alice = login("a", "alice"), *bob = login("b", "bob");
    struct client *stranger = client_open(); /* has shown nothing yet */
    settle();
    write_file(f.acl, "user alice\nclientid a\ntopic readwrite #\nuser bob\nclientid a\n");
    use();
    settle();
    assert_false(alice->t.closed || stranger->t.closed);
    assert_true(bob->t.closed);
    expect_denied(1, DECIDED_REVOKED, "", 0, 5, "the ACL does not admit it with its client id");
    assert_string_equal(decided.client, "b");
}

static void subscriptions_come_down_to_the_qos_that_is_allowed(void **unused)
{
    (void)unused;
    rig.security.acl_file = f.acl;
    use();
    struct client *alice = login("a", "alice"), *bob = login("b", "bob");
    subscribe(bob, "t", 1);
    subscribe(bob, "u", 0);
    write_file(f.acl, "user alice\ntopic readwrite #\nuser bob\nqos 0\ntopic readwrite #\n");
    use();
    send_publish(alice, 2, "t", 1, 1);
    send_publish(alice, 2, "u", 2, 1);
    settle();
    EXPECT(bob, "\x30\4\0\1t\0\x30\4\0\1u\0");
    assert_int_equal(rig.broker.counters.publish_denied, 0);
    send_publish(bob, 0, "v", 0, 1);
    send_publish(bob, 2, "v", 1, 1);
    settle();
    assert_int_equal(rig.broker.counters.publish_denied, 1);
}

static void subscriptions_under_which_nothing_is_readable_end(void **unused)
{
    (void)unused;
    rig.security.acl_file = f.acl;
    use();
    listen_to_decisions();
    struct client *bob = login("b", "bob");
    subscribe(bob, "public/x", 1);
    subscribe(bob, "secret/#", 2);
    write_file(f.acl, "user bob\ntopic read public/#\n");
    use();
    assert_int_equal(bob->conn->session->sub_count, 2);
    rig.config.acl_refuse_unreadable = true;
    use();
    settle();
    assert_int_equal(bob->conn->session->sub_count, 1);
    assert_true(subs_has(rig.broker.subs, bob->conn->session, slice_str("public/x")));
    expect_denied(1, DECIDED_REVOKED, "secret/#", 2, 0, "nothing that it matches may be read");
}

/* What was remembered of its right to publish counts no more. */
static void a_right_to_publish_ends_with_a_reload(void **unused)
{
    (void)unused;
    rig.security.acl_file = f.acl;
    use();
    struct client *bob = login("b", "bob");
    send_publish(bob, 0, "t", 0, 1);
    settle();
    write_file(f.acl, "user bob\ntopic read #\n");
    use();
    send_publish(bob, 0, "t", 0, 1);
    settle();
    assert_int_equal(rig.broker.counters.publish_denied, 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, wire_setup, wire_teardown)
    const struct CMUnitTest tests[] = {
        T(a_mistake_is_said_with_its_place),
        T(without_memory_nothing_is_loaded),
        T(without_memory_or_threads_there_is_no_start),
        T(who_has_another_password_now_is_disconnected),
        T(verified_secrets_end_with_a_change_of_the_file),
        T(a_login_that_fails_anyway_is_left_to_its_answer),
        T(who_waits_for_its_verdict_meanwhile_is_refused),
        T(anonymous_clients_end_with_their_right),
        T(a_password_file_that_goes_takes_its_users_along),
        T(names_of_certificates_are_no_matter_of_passwords),
        T(what_may_no_longer_be_read_is_not_sent),
        T(who_is_no_longer_admitted_is_disconnected),
        T(subscriptions_come_down_to_the_qos_that_is_allowed),
        T(subscriptions_under_which_nothing_is_readable_end),
        T(a_right_to_publish_ends_with_a_reload),
        T(a_removed_user_leaves_nothing),
        T(a_changed_password_keeps_the_session),
        T(another_password_file_has_other_users),
        T(proven_and_unproven_names_are_not_the_same),
        T(sessions_of_anonymous_clients_end_with_their_right),
        T(sessions_of_certificates_stay),
        T(the_will_of_who_is_gone_is_not_published),
        T(a_great_many_sessions_end_bit_by_bit),
        T(old_rules_are_freed_without_a_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
