/*
 * test_accesslog.c - from a decision to the line on its topic: when it is published, what is left out and
 * said later, and what a reload changes; by a clock that the test turns. How clients end is heard here too.
 */
#include "test/unit/no_memory.h"

#include "broker/accesslog.h"
#include "fake_broker.h"

static struct accesslog *log_;

/* Whoever reads is there before the log is: its own CONNECT is no line. */
static struct client *begin(uint32_t per_second)
{
    rig.config.access_log_topic = (char *)(uintptr_t) "client/accessLog";
    rig.config.access_log_rate = per_second;
    use_acl("topic readwrite #\n");
    struct client *c = client_up("watcher", true);
    subscribe(c, "client/#", 0);
    log_ = accesslog_new(&rig.broker);
    assert_non_null(log_);
    return c;
}

static void end(void)
{
    accesslog_stop(log_);
    accesslog_free(log_);
    assert_null(rig.broker.decisions.fn);
}

static struct principal stranger = {.refs = 1, .client_id = (char[]){"stranger"}, .address = "10.0.0.9"};

static void decide(enum decision_kind kind, bool allowed, const char *reason)
{
    broker_decided(&rig.broker,
                   &(struct decision){.kind = kind, .allowed = allowed, .who = &stranger, .reason = reason});
}

/* Takes the next PUBLISH off what came out; its payload. */
static const char *next_line(struct client *c)
{
    static char text[4096];
    struct packet_frame frame;
    struct packet_publish publish;
    if (packet_frame(c->t.out, c->t.out_size, &frame) != 1) {
        return NULL;
    }
    assert_int_equal(frame.type, PKT_PUBLISH);
    assert_int_equal(frame.flags, 0); /* QoS 0, not retained */
    assert_int_equal(
        packet_decode_publish(frame.flags, slice_of(c->t.out + frame.header_size, frame.body_size), &publish),
        PACKET_OK);
    assert_true(slice_eq(publish.topic, slice_str("client/accessLog")));
    snprintf(text, sizeof text, "%.*s", SLICE_ARG(publish.payload));
    size_t n = frame.header_size + frame.body_size;
    c->t.out_size -= n;
    memmove(c->t.out, c->t.out + n, c->t.out_size);
    return text;
}

static int lines(struct client *c, const char *with)
{
    int n = 0;
    for (const char *line; (line = next_line(c));) {
        n += strstr(line, with) != NULL;
    }
    return n;
}

static void a_line_leaves_at_the_end_of_the_turn(void **unused)
{
    (void)unused;
    struct client *c = begin(100);
    decide(DECIDED_CONNECT, false, "one");
    decide(DECIDED_REVOKED, false, "two");
    assert_int_equal(c->conn->session->queue.count,
                     0); /* whoever decides may be in the middle of a fan-out */
    settle();
    assert_non_null(strstr(next_line(c), "\"event\":\"connect\",\"allowed\":false,\"client\":\"stranger\""));
    assert_non_null(strstr(next_line(c), "two"));
    assert_null(next_line(c));
    assert_int_equal(retain_count(rig.broker.retain), 0);
    end();
}

static void what_is_allowed_needs_no_line(void **unused)
{
    (void)unused;
    struct client *c = begin(100);
    decide(DECIDED_PUBLISH, true, "");
    decide(DECIDED_SUBSCRIBE, true, "");
    decide(DECIDED_PUBLISH, false, "");
    decide(DECIDED_CONNECT, true, "");
    settle();
    assert_non_null(strstr(next_line(c), "publish"));
    assert_non_null(strstr(next_line(c), "connect"));
    assert_null(next_line(c));
    end();
}

static void what_is_left_out_is_counted_and_said(void **unused)
{
    (void)unused;
    struct client *c = begin(4); /* five at once of one source, then one a second */
    for (int i = 0; i < 1000; i++) {
        decide(DECIDED_PUBLISH, false, "");
    }
    settle();
    assert_int_equal(lines(c, "publish"), 5);
    assert_int_equal(rig.broker.counters.access_left_out, 995);
    fake_loop_pass(rig.broker.loop, 999);
    settle();
    assert_null(next_line(c));
    fake_loop_pass(rig.broker.loop, 1);
    settle();
    assert_non_null(strstr(next_line(c), "\"event\":\"left_out\",\"count\":995}"));
    decide(DECIDED_PUBLISH, false, "");
    settle();
    assert_int_equal(lines(c, "publish"), 1);
    fake_loop_pass(rig.broker.loop, 10000);
    settle();
    assert_null(next_line(c));    /* nothing more was */
    for (int i = 0; i < 7; i++) { /* and a second time */
        decide(DECIDED_PUBLISH, false, "");
    }
    fake_loop_pass(rig.broker.loop, 1000);
    settle();
    assert_int_equal(lines(c, "\"count\":2}"), 1);
    end();
}

/* Without a place for it a decision costs nothing, and the topic is one like others. */
static void nobody_listens_unless_told_to(void **unused)
{
    (void)unused;
    struct client *c = begin(100);
    decide(DECIDED_REVOKED, false, "waits");
    rig.config.access_log_topic = NULL;
    accesslog_reload(log_);
    assert_null(rig.broker.decisions.fn);
    decide(DECIDED_REVOKED, false, "unheard");
    settle();
    assert_int_equal(lines(c, "waits"), 1); /* it was on its way */
    send_publish(c, 0, "client/accessLog", 0, 3);
    settle();
    assert_non_null(next_line(c));
    rig.config.access_log_topic = (char *)(uintptr_t) "client/accessLog";
    session_rights_changed(c->conn->session); /* as a reload does before (policy.h) */
    accesslog_reload(log_);
    send_publish(c, 0, "client/accessLog", 0, 3);
    decide(DECIDED_REVOKED, false, "again");
    settle();
    assert_int_equal(lines(c, "again"), 1);
    assert_int_equal(rig.broker.counters.publish_denied, 1);
    end();
}

/* A file, while the log has not started: there is no room for a line, which is left out and said again. */
static void a_place_without_room_is_left_out_too(void **unused)
{
    (void)unused;
    struct client *c = begin(100);
    rig.config.access_log_file = (char *)(uintptr_t) "/unused";
    accesslog_reload(log_);
    decide(DECIDED_REVOKED, false, "here");
    settle();
    assert_int_equal(lines(c, "here"), 1); /* the other place has it */
    assert_int_equal(rig.broker.counters.access_left_out, 1);
    for (int second = 0; second < 3; second++) {
        fake_loop_pass(rig.broker.loop, 1000);
        settle();
        assert_int_equal(lines(c, "\"count\":1}"), 1);
    }
    end();
}

/* A reader that takes nothing: what waits for it is bounded by its queue, and nothing goes round. */
static void a_slow_reader_feeds_nothing(void **unused)
{
    (void)unused;
    rig.config.max_queued_messages = 10;
    limits_changed();
    struct client *c = begin(10000);
    c->t.write_limit = 0;
    for (int turns = 0; turns < 100; turns++) {
        decide(DECIDED_REVOKED, false, "x");
        settle();
    }
    assert_true(c->conn->session->queue.count <= 10);
    assert_true(rig.broker.sessions.dropped >= 80);
    c->t.write_limit = -1;
    end();
}

/* A line that there is no memory for is one that is left out. */
static void without_memory_it_is_counted(void **unused)
{
    (void)unused;
    memory_fails(0, 1);
    assert_null(accesslog_new(&rig.broker));
    assert_int_equal(memory_calm(), 1);
    struct client *c = begin(100);
    memory_fails(0, ALL_OF_THEM);
    decide(DECIDED_REVOKED, false, "no room to wait");
    assert_true(memory_calm() > 0);
    decide(DECIDED_REVOKED, false, "no message");
    memory_fails(0, 1);
    settle();
    assert_int_equal(memory_calm(), 1);
    assert_null(next_line(c));
    assert_int_equal(rig.broker.counters.access_left_out, 2);
    fake_loop_pass(rig.broker.loop, 1000);
    settle();
    assert_int_equal(lines(c, "\"event\":\"left_out\",\"count\":2}"), 1);
    end();
}

/* The end of the log says what it had still to say, and the broker's end what becomes of its clients. */
static void the_end_is_heard_but_not_published(void **unused)
{
    (void)unused;
    struct client *c = begin(4);
    for (int i = 0; i < 10; i++) {
        decide(DECIDED_REVOKED, false, "x");
    }
    settle();
    assert_int_equal(lines(c, "revoked"), 5);
    accesslog_stop(log_);
    assert_non_null(rig.broker.decisions.fn);
    decide(DECIDED_CONNECT, true, "late");
    settle();
    assert_null(next_line(c));
    accesslog_free(log_);
    accesslog_stop(NULL);
    accesslog_free(NULL);
}

/* ---- how clients end (conn.c) ---- */

static struct {
    int n;
    bool allowed;
    char client[32], reason[128];
} gone;

static void note(void *arg, const struct decision *decision)
{
    (void)arg;
    if (decision->kind == DECIDED_DISCONNECT) {
        gone.n++;
        gone.allowed = decision->allowed;
        snprintf(gone.client, sizeof gone.client, "%s", decision->who->client_id);
        snprintf(gone.reason, sizeof gone.reason, "%s", decision->reason);
    }
}

static void listen_to_ends(void)
{
    rig.broker.decisions = (struct decision_listener){.fn = note};
    memset(&gone, 0, sizeof gone);
}

/* One client has ended since the last time, so. */
static void expect_end(bool allowed, const char *reason)
{
    settle();
    assert_int_equal(gone.n, 1);
    assert_string_equal(gone.client, "c");
    assert_string_equal(gone.reason, reason);
    assert_int_equal(gone.allowed, allowed);
    gone.n = 0;
}

static void every_end_has_its_reason(void **unused)
{
    (void)unused;
    listen_to_ends();
    struct client *c = client_up("c", true);
    SEND(c, "\xe0\0");
    expect_end(true, "it said DISCONNECT");

    client_drop(client_up("c", true));
    expect_end(false, "it closed its connection");

    c = client_up("c", true);
    SEND(c, "\x20\0");
    expect_end(false, "protocol error in CONNACK: a client may not send this");

    client_up("c", true);
    fake_loop_pass(rig.broker.loop, 90000);
    expect_end(false, "it exceeded its keep alive of 60 seconds");

    client_up("c", false);
    c = client_up("c", false);
    expect_end(false, "the same client id connected again");
    conn_fail(c->conn, "its user was %s", "removed");
    expect_end(false, "its user was removed");
}

/* Only who was accepted can be gone. */
static void strangers_do_not_disconnect(void **unused)
{
    (void)unused;
    listen_to_ends();
    struct client *c = client_open();
    SEND(c, "\xc0\0");
    settle();
    assert_true(c->t.closed);
    rig.security.allow_anonymous = false;
    c = client_open();
    send_connect(c, "c", true);
    settle();
    assert_true(c->t.closed);
    assert_int_equal(gone.n, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_line_leaves_at_the_end_of_the_turn),
        T(what_is_allowed_needs_no_line),
        T(what_is_left_out_is_counted_and_said),
        T(nobody_listens_unless_told_to),
        T(a_place_without_room_is_left_out_too),
        T(a_slow_reader_feeds_nothing),
        T(without_memory_it_is_counted),
        T(the_end_is_heard_but_not_published),
        T(every_end_has_its_reason),
        T(strangers_do_not_disconnect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
