/*
 * test_strangers.c - which lines about connections the log gets, by a clock that the test turns. All come
 * from one address, which has a quarter of the rate.
 */
#include "broker/log.h"
#include "broker/strangers.h"
#include "fake_broker.h"

enum { PER_SECOND = 8, QUARTER = 2, BURST = QUARTER * RATE_BURST_SECONDS };

static struct {
    int of_strangers, left_out_lines, of_others;
    unsigned long left_out;
} said;

/* On the topic, for there it comes on this thread. */
static void hear(void *arg, enum log_type type, const char *line)
{
    (void)arg;
    (void)type;
    char *end;
    unsigned long n = strtoul(line, &end, 10);
    if (strcmp(end, " more lines about connections were left out (log_strangers_rate).") == 0) {
        said.left_out_lines++;
        said.left_out += n;
    } else if (strncmp(line, "New connection", 14) == 0 || strncmp(line, "Client 192.0.2.7", 16) == 0 ||
               strstr(line, "refused")) {
        said.of_strangers++;
    } else {
        said.of_others++;
    }
}

static void begin(uint32_t per_second)
{
    rig.config.connection_messages = true;
    rig.config.log_strangers_rate = per_second;
    limits_changed();
    memset(&said, 0, sizeof said);
}

/* They come and go without a CONNECT: two lines each. */
static void strangers_come(int n)
{
    for (int i = 0; i < n; i++) {
        struct client *c = client_open();
        SEND(c, "\xe0\x00");
        settle();
        assert_true(c->t.closed);
    }
}

static void no_more_than_the_rate(void **unused)
{
    (void)unused;
    begin(PER_SECOND);
    strangers_come(30);
    assert_int_equal(said.of_strangers, BURST);
    assert_int_equal(said.left_out_lines, 0);
    fake_loop_pass(rig.broker.loop, 1000);
    assert_int_equal(said.left_out_lines, 1);
    assert_int_equal(said.left_out, 60 - BURST);
    strangers_come(5);
    assert_int_equal(said.of_strangers, BURST + QUARTER); /* a second's */
    fake_loop_pass(rig.broker.loop, 3600000);
    assert_int_equal(said.left_out_lines, 2); /* and none for nothing */
    strangers_come(1);
    assert_int_equal(said.of_strangers, BURST + QUARTER + 2); /* who comes after a quiet time is seen */
}

static void who_was_accepted_is_always_heard_of(void **unused)
{
    (void)unused;
    begin(PER_SECOND);
    strangers_come(30);
    struct client *one = client_up("one", true), *two = client_up("two", true),
                  *three = client_up("three", true);
    int before = said.of_others;
    SEND(one, "\xe0\x00");
    SEND(two, "\x10\x00");
    settle();
    assert_int_equal(said.of_others, before + 2);
    three->t.write_limit = 0; /* it has left its session when it fails */
    SEND(three, "\xc0\x00\xe0\x00");
    settle();
    fake_loop_pass(rig.broker.loop, 60000);
    assert_true(three->t.closed);
    assert_int_equal(said.of_others, before + 4);
    assert_int_equal(said.of_strangers, BURST);
}

static void refusals_and_full_listeners_count_too(void **unused)
{
    (void)unused;
    begin(PER_SECOND);
    rig.security.allow_anonymous = false;
    for (int i = 0; i < 20; i++) {
        struct client *c = client_open();
        send_connect(c, "c", true);
        settle();
        assert_true(c->t.closed);
    }
    assert_int_equal(said.of_strangers, BURST);
    rig.listener.max_connections = 0;
    for (int i = 0; i < 20; i++) {
        client_accept(client_new());
    }
    assert_int_equal(said.of_strangers, 2 * BURST); /* these have no address: another source */
    strangers_stop(&rig.broker.strangers);
    assert_int_equal(said.of_strangers + said.left_out, 60);
}

static void without_a_limit_all_are_written(void **unused)
{
    (void)unused;
    begin(0);
    strangers_come(30);
    assert_int_equal(said.of_strangers, 60);
    rig.config.log_strangers_rate = PER_SECOND; /* a reload: with full measures */
    limits_changed();
    strangers_come(30);
    assert_int_equal(said.of_strangers, 60 + BURST);
    limits_changed(); /* what was taken stays taken */
    strangers_come(10);
    assert_int_equal(said.of_strangers, 60 + BURST);
    strangers_stop(&rig.broker.strangers);
    strangers_stop(&rig.broker.strangers);
    assert_int_equal(said.left_out_lines, 1);
}

static void quiet_means_quiet(void **unused)
{
    (void)unused;
    begin(PER_SECOND);
    rig.config.connection_messages = false;
    strangers_come(30);
    fake_loop_pass(rig.broker.loop, 1000);
    assert_int_equal(said.of_strangers + said.left_out_lines, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(no_more_than_the_rate),
        T(who_was_accepted_is_always_heard_of),
        T(refusals_and_full_listeners_count_too),
        T(without_a_limit_all_are_written),
        T(quiet_means_quiet),
    };
    struct log_options options = {.dests = LOG_D_TOPIC, .types = LOG_T_DEFAULT};
    struct err err;
    log_on_topic(hear, NULL);
    if (log_start(&options, &err) < 0) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    log_stop();
    return failed;
}
