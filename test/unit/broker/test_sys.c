/*
 * test_sys.c - what the broker says about itself, log lines on topics, and sessions that expire, by a clock
 * that the test turns.
 */
#include "test/unit/no_memory.h"

#include "broker/log.h"
#include "broker/mailbox.h"
#include "broker/store_sqlite.h"
#include "broker/sys.h"
#include "fake_broker.h"

static struct sys *sys;

/* Mail is fetched by the test. */
static void wake(void *unused)
{
    (void)unused;
}

static void begin_with(int interval, const struct storage *storage)
{
    rig.config.sys_interval = interval;
    rig.broker.loop->mailbox = mailbox_new(wake, NULL);
    assert_non_null(rig.broker.loop->mailbox);
    sys = sys_new(&rig.broker, storage);
    assert_non_null(sys);
}

static void begin(int interval)
{
    begin_with(interval, NULL);
}

static void end(void)
{
    sys_stop(sys);
    sys_free(sys);
    mailbox_free(rig.broker.loop->mailbox);
}

static void pass(int seconds)
{
    fake_loop_pass(rig.broker.loop, seconds * 1000);
    settle();
}

/* A client that has all of $SYS: its SUBACK and what was retained are in its output. */
static struct client *watcher(void)
{
    struct client *c = client_up("watcher", true);
    SEND(c, "\x82\x0b\0\1\0\6$SYS/#\0");
    settle();
    assert_memory_equal(c->t.out, "\x90\x03\0\1\0", 5);
    c->t.out_size -= 5;
    memmove(c->t.out, c->t.out + 5, c->t.out_size);
    return c;
}

/* The last PUBLISH among what came out that is on this topic: its payload, or NULL. */
static const char *published(struct client *c, const char *topic)
{
    static char payload[128];
    const char *found = NULL;
    for (size_t at = 0; at < c->t.out_size;) {
        struct packet_frame frame;
        struct packet_publish publish;
        assert_int_equal(packet_frame(c->t.out + at, c->t.out_size - at, &frame), 1);
        assert_int_equal(frame.type, PKT_PUBLISH);
        struct slice body = slice_of(c->t.out + at + frame.header_size, frame.body_size);
        assert_int_equal(packet_decode_publish(frame.flags, body, &publish), PACKET_OK);
        if (slice_eq(publish.topic, slice_str(topic))) {
            snprintf(payload, sizeof payload, "%.*s", SLICE_ARG(publish.payload));
            found = payload;
        }
        at += frame.header_size + frame.body_size;
    }
    return found;
}

static void expect_said(struct client *c, const char *topic, const char *value)
{
    const char *got = published(c, topic);
    if (!got || strcmp(got, value) != 0) {
        fail_msg("%s is '%s', not '%s'", topic, got ? got : "(not published)", value);
    }
}

static void the_first_round_is_retained(void **unused)
{
    (void)unused;
    begin(10);
    struct client *c = watcher();
    expect_said(c, "$SYS/broker/version", "bramble version " BRAMBLE_VERSION);
    expect_said(c, "$SYS/broker/uptime", "0 seconds");
    expect_said(c, "$SYS/broker/clients/connected", "0"); /* there was nobody yet */
    assert_non_null(published(c, "$SYS/broker/heap/current"));
    end();
}

/* Two subscribers, one of them away, and a message of five bytes for them. */
static void the_values_are_those_of_the_broker(void **unused)
{
    (void)unused;
    begin(10);
    struct client *away = client_up("away", false);
    subscribe(away, "t", 1);
    client_drop(away);
    struct client *c = watcher(), *writer = client_up("writer", true);
    c->t.out_size = 0;
    send_publish(writer, 1, "t", 0, 5);
    SEND(writer, "\x30"); /* a packet that has only begun is no packet yet */
    settle();
    pass(10);
    expect_said(c, "$SYS/broker/uptime", "10 seconds");
    expect_said(c, "$SYS/broker/clients/connected", "2");
    expect_said(c, "$SYS/broker/clients/active", "2");
    expect_said(c, "$SYS/broker/clients/disconnected", "1");
    expect_said(c, "$SYS/broker/clients/inactive", "1");
    expect_said(c, "$SYS/broker/clients/total", "3");
    expect_said(c, "$SYS/broker/connections/open", "2");
    expect_said(c, "$SYS/broker/connections/accepted", "3");
    expect_said(c, "$SYS/broker/subscriptions/count", "2");
    expect_said(c, "$SYS/broker/messages/received", "6"); /* CONNECT 3, SUBSCRIBE 2, PUBLISH */
    expect_said(c, "$SYS/broker/publish/messages/received", "1");
    expect_said(c, "$SYS/broker/publish/bytes/received", "5");
    assert_null(published(c, "$SYS/broker/publish/messages/dropped")); /* still 0 */
    end();
}

static void only_what_has_changed_is_published_again(void **unused)
{
    (void)unused;
    begin(10);
    struct client *c = watcher();
    c->t.out_size = 0;
    pass(9);
    assert_int_equal(c->t.out_size, 0); /* its time has not come */
    pass(1);
    expect_said(c, "$SYS/broker/clients/connected", "1");
    assert_null(published(c, "$SYS/broker/clients/disconnected"));
    assert_null(published(c, "$SYS/broker/version"));
    c->t.out_size = 0;
    pass(10);
    expect_said(c, "$SYS/broker/uptime", "20 seconds");
    assert_null(published(c, "$SYS/broker/clients/connected"));
    end();
}

static void an_interval_of_0_says_nothing_until_a_reload_says_another(void **unused)
{
    (void)unused;
    begin(0);
    struct client *c = watcher();
    pass(30);
    assert_int_equal(retain_count(rig.broker.retain), 0);
    rig.config.sys_interval = 5;
    sys_reload(sys);
    pass(5);
    expect_said(c, "$SYS/broker/uptime", "35 seconds");
    expect_said(c, "$SYS/broker/version", "bramble version " BRAMBLE_VERSION);
    rig.config.sys_interval = 0;
    sys_reload(sys);
    c->t.out_size = 0;
    pass(30);
    assert_int_equal(c->t.out_size, 0);
    end();
}

static void log_lines_go_to_the_topic_of_their_type(void **unused)
{
    static const struct {
        enum log_type type;
        const char *topic, *text;
    } lines[] = {{LOG_T_ERROR, "$SYS/broker/log/E", "an error"},
                 {LOG_T_WARNING, "$SYS/broker/log/W", "a warning"},
                 {LOG_T_NOTICE, "$SYS/broker/log/N", "a notice"},
                 {LOG_T_INFO, "$SYS/broker/log/I", "information"},
                 {LOG_T_SUBSCRIBE, "$SYS/broker/log/M/subscribe", "a subscription"},
                 {LOG_T_UNSUBSCRIBE, "$SYS/broker/log/M/unsubscribe", "its end"},
                 {LOG_T_WEBSOCKETS, "$SYS/broker/log/WS", "of libwebsockets"}};
    enum { LINES = sizeof lines / sizeof *lines };
    struct log_options options = {.dests = LOG_D_TOPIC, .types = LOG_T_ALL};
    struct err err;
    (void)unused;
    begin(0);
    struct client *c = watcher();
    assert_int_equal(log_start(&options, &err), 0);
    for (size_t i = 0; i < LINES; i++) {
        log_write(lines[i].type, "%s", lines[i].text);
    }
    log_write(LOG_T_DEBUG, "what publishing logs: it would never end");
    log_stop();
    settle();
    assert_int_equal(c->t.out_size,
                     0); /* it may be any thread that logs: nothing is published but from the loop */
    assert_int_equal(mailbox_drain(rig.broker.loop->mailbox), LINES);
    settle();
    for (size_t i = 0; i < LINES; i++) {
        const char *got = published(c, lines[i].topic);
        assert_non_null(got);
        assert_non_null(strstr(got, lines[i].text));
    }
    assert_int_equal(retain_count(rig.broker.retain), 0); /* a line is news, no state */
    end();
}

/* They name the structure that sys_free() frees, and its session has gone. */
static void log_lines_under_way_at_the_end_are_dropped(void **unused)
{
    struct log_options options = {.dests = LOG_D_TOPIC, .types = LOG_T_ALL};
    struct err err;
    (void)unused;
    begin(0);
    struct client *c = watcher();
    assert_int_equal(log_start(&options, &err), 0);
    log_write(LOG_T_NOTICE, "too late");
    log_stop();
    sys_stop(sys);
    sys_free(sys);
    settle();
    assert_int_equal(c->t.out_size, 0);
    mailbox_free(rig.broker.loop->mailbox);
}

static void sessions_that_nobody_came_back_for_expire(void **unused)
{
    (void)unused;
    rig.config.persistent_client_expiration = 100;
    begin(0);
    struct client *stays = client_up("stays", false);
    struct client *leaves = client_up("leaves", false);
    client_drop(leaves);
    pass(60);
    assert_non_null(session_find(&rig.broker.sessions, "leaves"));
    SEND(stays, "\xc0\0");
    settle();
    pass(60);
    assert_null(session_find(&rig.broker.sessions, "leaves"));
    assert_non_null(session_find(&rig.broker.sessions, "stays"));
    assert_false(stays->t.closed);
    assert_non_null(session_find(&rig.broker.sessions, "$SYS")); /* its own is never away */

    rig.config.persistent_client_expiration = 0; /* for ever */
    sys_reload(sys);
    client_drop(stays);
    pass(100000);
    assert_non_null(session_find(&rig.broker.sessions, "stays"));
    end();
}

/* ---- the durable store ---- */

/* Takes the place of the adapter's. */
struct storage_figures storage_figures(const struct storage *storage)
{
    assert_ptr_equal(storage, &rig.storage.port);
    return (struct storage_figures){
        .commits = 1, .syncs = 12, .bytes_written = 123, .file_bytes = 1234, .wal_bytes = 12345};
}

static void a_durable_store_tells_of_its_troubles(void **unused)
{
    (void)unused;
    begin_with(10, &rig.storage.port);
    struct client *c = watcher();
    expect_said(c, "$SYS/broker/store/trouble", "none");
    expect_said(c, "$SYS/broker/store/blocked", "0");
    expect_said(c, "$SYS/broker/store/syncs", "12");
    expect_said(c, "$SYS/broker/store/bytes_written", "123");
    expect_said(c, "$SYS/broker/store/file_bytes", "1234");
    expect_said(c, "$SYS/broker/store/wal_bytes", "12345");
    SEND(client_up("writer", true), "\x33\x07\0\1t\0\7xx"); /* retained: somebody waits for it */
    settle();
    c->t.out_size = 0;
    fail_batch("the disk is full");
    pass(10);
    expect_said(c, "$SYS/broker/store/trouble", "the disk is full");
    expect_said(c, "$SYS/broker/store/failures", "1");
    expect_said(c, "$SYS/broker/store/blocked", "1");
    c->t.out_size = 0;
    commit_lazy(); /* tries again, whatever the time is */
    pass(10);
    expect_said(c, "$SYS/broker/store/trouble", "none");
    expect_said(c, "$SYS/broker/store/blocked", "0");
    expect_said(c, "$SYS/broker/store/commits", "1");
    c->t.out_size = 0;
    pass(10);
    assert_null(published(c, "$SYS/broker/store/trouble")); /* only what has changed */
    end();
}

/* There is no half of it; a value that could not be published is logged, and comes when it changes. */
static void without_memory_there_is_no_start(void **unused)
{
    (void)unused;
    int failed = 1, n = 0;
    rig.config.sys_interval = 10;
    for (; failed > 0; n++) {
        memory_fails(n, 1);
        struct sys *made = sys_new(&rig.broker, NULL);
        failed = memory_calm();
        assert_true(made || failed);
        assert_true(made || n < 10); /* of its own: the rest is for values */
        sys_stop(made);
        if (made) {
            rig.broker.loop->mailbox = mailbox_new(wake, NULL);
            sys_free(made);
            mailbox_free(rig.broker.loop->mailbox);
        }
    }
    assert_true(n > 30);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_first_round_is_retained),
        TEST(without_memory_there_is_no_start),
        TEST(the_values_are_those_of_the_broker),
        TEST(only_what_has_changed_is_published_again),
        TEST(an_interval_of_0_says_nothing_until_a_reload_says_another),
        TEST(log_lines_go_to_the_topic_of_their_type),
        TEST(log_lines_under_way_at_the_end_are_dropped),
        TEST(sessions_that_nobody_came_back_for_expire),
        cmocka_unit_test_setup_teardown(a_durable_store_tells_of_its_troubles, setup_durable, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
