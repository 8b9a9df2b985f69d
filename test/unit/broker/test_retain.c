/*
 * test_retain.c - retained messages: one per topic, wildcard walks against a slow reference, sweeping.
 *
 * It includes retain.c, so that it can see that nothing is left in the tree at the end.
 */
#include "broker/retain.c"
#include "random.h"
#include "slow_topic.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct retain *retain;

static int setup(void **unused)
{
    (void)unused;
    retain = retain_new();
    return retain ? 0 : -1;
}

static int teardown(void **unused)
{
    (void)unused;
    retain_free(retain);
    return 0;
}

static struct msg *message(const char *topic, const char *payload)
{
    return msg_new(slice_str(topic), slice_str(payload), 1, true, NULL);
}

static void keep(const char *topic, const char *payload)
{
    struct msg *msg = message(topic, payload);
    assert_int_equal(retain_update(retain, msg), 0);
    msg_unref(msg);
}

/* What a walk met, one topic=payload after the other, sorted. */
static struct {
    char text[64][48];
    size_t n;
} met;

static void meet(void *arg, struct msg *msg)
{
    (void)arg;
    assert_true(met.n < 64);
    snprintf(met.text[met.n++], sizeof met.text[0], "%.*s=%.*s", SLICE_ARG(msg_topic(msg)),
             SLICE_ARG(msg_payload(msg)));
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static const char *walked(const char *filter)
{
    static char line[2048];
    met.n = 0;
    retain_match(retain, slice_str(filter), meet, NULL);
    qsort(met.text, met.n, sizeof met.text[0], by_text);
    line[0] = 0;
    for (size_t i = 0; i < met.n; i++) {
        strcat(strcat(line, i ? " " : ""), met.text[i]);
    }
    return line;
}

static void keeps_the_last_message_of_a_topic(void **unused)
{
    (void)unused;
    struct msg *first = message("a/b", "one");
    assert_int_equal(retain_update(retain, first), 0);
    assert_int_equal(first->refs, 2);
    assert_int_equal(retain_count(retain), 1);
    assert_int_equal(retain_bytes(retain), 6);
    keep("a/b", "three");
    assert_int_equal(first->refs, 1); /* it was let go */
    assert_int_equal(retain_count(retain), 1);
    assert_int_equal(retain_bytes(retain), 8);
    assert_string_equal(walked("a/b"), "a/b=three");
    msg_unref(first);
}

static void the_same_message_again_changes_nothing(void **unused)
{
    (void)unused;
    struct msg *msg = message("a", "x");
    retain_update(retain, msg);
    retain_update(retain, msg);
    assert_int_equal(msg->refs, 2);
    assert_int_equal(retain_count(retain), 1);
    assert_int_equal(retain_bytes(retain), 2);
    msg_unref(msg);
}

static void an_empty_payload_removes(void **unused)
{
    (void)unused;
    keep("a/b", "x");
    keep("a/b/c", "y");
    keep("a", ""); /* nothing there, nothing kept [MQTT-3.3.1-11] */
    keep("q/r", "");
    assert_int_equal(retain_count(retain), 2);
    keep("a/b", ""); /* [MQTT-3.3.1-10] */
    assert_int_equal(retain_count(retain), 1);
    assert_string_equal(walked("#"), "a/b/c=y");
    keep("a/b/c", "");
    assert_int_equal(retain_count(retain), 0);
    assert_int_equal(retain_bytes(retain), 0);
    assert_int_equal(retain->tree.count, 0); /* no node of any of them is left */
}

static void walks_as_the_filter_says(void **unused)
{
    (void)unused;
    keep("sport", "0");
    keep("sport/tennis", "1");
    keep("sport/tennis/player1", "2");
    keep("sport/golf/player1", "3");
    keep("/sport", "4");
    keep("sport/", "5");
    keep("$SYS/sport", "6");
    keep("$SYS", "7");
    assert_string_equal(walked("sport"), "sport=0");
    assert_string_equal(walked("sport/+"), "sport/=5 sport/tennis=1");
    assert_string_equal(walked("sport/+/player1"), "sport/golf/player1=3 sport/tennis/player1=2");
    assert_string_equal(walked("sport/tennis/#"), "sport/tennis/player1=2 sport/tennis=1");
    assert_string_equal(walked("+"), "sport=0");
    assert_string_equal(walked("+/+"), "/sport=4 sport/=5 sport/tennis=1");
    assert_string_equal(walked("/+"), "/sport=4");
    assert_string_equal(walked("sport/tennis/player1/#"), "sport/tennis/player1=2");
    assert_string_equal(walked("golf/#"), "");
    assert_string_equal(walked("sport/tenni"), "");
}

static void wildcards_at_the_first_level_do_not_meet_a_dollar(void **unused)
{
    (void)unused;
    keep("$SYS/broker/uptime", "1");
    keep("$SYS", "2");
    keep("a/$b", "3");
    assert_string_equal(walked("#"), "a/$b=3"); /* [MQTT-4.7.2-1] */
    assert_string_equal(walked("+"), "");
    assert_string_equal(walked("+/broker/uptime"), "");
    assert_string_equal(walked("+/#"), "a/$b=3");
    assert_string_equal(walked("$SYS/#"), "$SYS/broker/uptime=1 $SYS=2");
    assert_string_equal(walked("$SYS/+/uptime"), "$SYS/broker/uptime=1");
    assert_string_equal(walked("a/+"), "a/$b=3");
}

static bool drop_even(void *arg, const struct msg *msg)
{
    int *asked = arg;
    (*asked)++;
    return msg_payload(msg).p[0] % 2 == 0;
}

static bool drop_all(void *arg, const struct msg *msg)
{
    (void)arg;
    return msg != NULL;
}

static void sweeps(void **unused)
{
    int asked = 0;
    (void)unused;
    keep("a", "2");
    keep("a/b", "3");
    keep("a/b/c", "4");
    keep("a/d", "6");
    keep("e/f/g", "8");
    keep("$x", "1");
    retain_sweep(retain, drop_even, &asked);
    assert_int_equal(asked, 6);
    assert_int_equal(retain_count(retain), 2);
    assert_int_equal(retain_bytes(retain), 4 + 3);
    assert_string_equal(walked("#"), "a/b=3");
    assert_string_equal(walked("$x"), "$x=1");
    assert_int_equal(retain->tree.count, 3); /* a, b, $x */
    retain_sweep(retain, drop_all, NULL);
    assert_int_equal(retain_count(retain), 0);
    assert_int_equal(retain->tree.count, 0);
    retain_sweep(retain, drop_all, NULL); /* nothing to do */
}

static void lets_all_go_at_the_end(void **unused)
{
    (void)unused;
    struct retain *other = retain_new();
    struct msg *msg = message("x/y", "z");
    retain_update(other, msg);
    retain_free(other);
    assert_int_equal(msg->refs, 1);
    msg_unref(msg);
    retain_free(NULL);
}

/* ---- against a plain table ---- */

enum { TOPICS = 300 };

static struct {
    uint8_t name[40];
    size_t n;
    bool kept;
    uint8_t value;
    bool met;
} table[TOPICS];
static size_t topics;

static void note(void *arg, struct msg *msg)
{
    (void)arg;
    struct slice name = msg_topic(msg);
    for (size_t i = 0; i < topics; i++) {
        if (slice_eq(name, slice_of(table[i].name, table[i].n))) {
            assert_true(table[i].kept);
            assert_false(table[i].met);
            assert_int_equal(msg_payload(msg).p[0], table[i].value);
            table[i].met = true;
            return;
        }
    }
    fail_msg("unknown topic");
}

static void update_one(struct random *random)
{
    uint8_t name[40];
    size_t n = random_name(random, name), i = 0;
    while (i < topics && !slice_eq(slice_of(name, n), slice_of(table[i].name, table[i].n))) {
        i++;
    }
    if (i == TOPICS) {
        return;
    }
    memcpy(table[i].name, name, n);
    table[i].n = n;
    topics += i == topics;
    table[i].kept = random_chance(random, 60);
    table[i].value = (uint8_t)(1 + random_below(random, 255));
    struct msg *msg = msg_new(slice_of(name, n), slice_of(&table[i].value, table[i].kept), 0, true, NULL);
    assert_int_equal(retain_update(retain, msg), 0);
    msg_unref(msg);
}

static size_t compare_one(struct random *random)
{
    uint8_t filter[40];
    size_t n = random_filter(random, filter), hits = 0;
    for (size_t i = 0; i < topics; i++) {
        table[i].met = false;
    }
    retain_match(retain, slice_of(filter, n), note, NULL);
    for (size_t i = 0; i < topics; i++) {
        bool expected = table[i].kept && slow_match(filter, n, table[i].name, table[i].n);
        assert_int_equal(table[i].met, expected);
        hits += expected;
    }
    return hits;
}

static bool drop_low(void *arg, const struct msg *msg)
{
    return msg_payload(msg).p[0] < *(uint8_t *)arg;
}

static void agrees_with_a_plain_table(void **unused)
{
    struct random random = {987654321};
    size_t hits = 0;
    (void)unused;
    for (int i = 0; i < 30000; i++) {
        update_one(&random);
        if (random_chance(&random, 30)) {
            hits += compare_one(&random);
        }
        if (random_chance(&random, 1)) {
            uint8_t below = (uint8_t)random_below(&random, 256);
            retain_sweep(retain, drop_low, &below);
            for (size_t t = 0; t < topics; t++) {
                table[t].kept &= table[t].value >= below;
            }
        }
        size_t kept = 0, bytes = 0;
        for (size_t t = 0; t < topics; t++) {
            kept += table[t].kept;
            bytes += table[t].kept ? table[t].n + 1 : 0;
        }
        assert_int_equal(retain_count(retain), kept);
        assert_int_equal(retain_bytes(retain), bytes);
    }
    assert_true(hits > 10000);
    retain_sweep(retain, drop_all, NULL);
    assert_int_equal(retain->tree.count, 0);
}

/* ---- what the store does not know yet ---- */

static void keep_stored(const char *topic, const char *payload)
{
    struct msg *msg = message(topic, payload);
    assert_int_equal(retain_update_stored(retain, msg), 0);
    msg_unref(msg);
}

/* Collects, and compares; what is expected is sorted. */
static void collects(const char *expected)
{
    char all[512] = "";
    met.n = 0;
    retain_collect(retain, meet, NULL);
    qsort(met.text, met.n, sizeof met.text[0], by_text);
    for (size_t i = 0; i < met.n; i++) {
        strcat(strcat(all, met.text[i]), " ");
    }
    assert_string_equal(all, expected);
}

static void the_last_value_of_a_topic_is_collected_once(void **unused)
{
    (void)unused;
    collects("");
    keep_stored("a/b", "1");
    keep_stored("a", "2");
    keep_stored("a/b", "3");
    collects("a/b=3 a=2 ");
    collects("");
    keep("a", "4"); /* of the broker itself */
    collects("");
    keep_stored("a/b", "5");
    collects("a/b=5 ");
    assert_int_equal(retain_count(retain), 2);
}

/* The store has to be told that it is gone, and the topic takes no room after that. */
static void that_it_is_gone_is_collected(void **unused)
{
    (void)unused;
    keep_stored("a/b", "1");
    keep_stored("a/b", "");
    assert_int_equal(retain_count(retain), 0);
    collects("a/b= ");
    assert_int_equal(retain->tree.count, 0);
    keep_stored("a/b", ""); /* it was gone before */
    collects("");
    keep_stored("a/b", "1");
    collects("a/b=1 ");
    keep_stored("a/b", "");
    keep_stored("a/b", "2");
    collects("a/b=2 ");
    retain_sweep(retain, drop_all, NULL);
    assert_int_equal(retain->tree.count, 0);
}

static void what_was_not_stored_is_collected_again(void **unused)
{
    (void)unused;
    struct msg *gone = message("a", ""), *old = message("b", "1"), *same = message("c", "3");
    keep_stored("b", "2");
    assert_int_equal(retain_again(retain, gone), 0);
    assert_int_equal(retain_again(retain, old), 0); /* which has changed since */
    assert_int_equal(retain_again(retain, same), 0);
    collects("a= b=2 c=3 ");
    assert_int_equal(retain_count(retain), 1); /* nothing is retained by that */
    assert_int_equal(gone->refs + old->refs + same->refs, 3);
    msg_unref(gone);
    msg_unref(old);
    msg_unref(same);
}

static void ends_with_changes_that_nobody_has_collected(void **unused)
{
    (void)unused;
    keep_stored("a/b", "1");
    keep_stored("c", "1");
    keep_stored("c", "");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(keeps_the_last_message_of_a_topic),
        T(the_same_message_again_changes_nothing),
        T(an_empty_payload_removes),
        T(walks_as_the_filter_says),
        T(wildcards_at_the_first_level_do_not_meet_a_dollar),
        T(sweeps),
        T(lets_all_go_at_the_end),
        T(the_last_value_of_a_topic_is_collected_once),
        T(that_it_is_gone_is_collected),
        T(what_was_not_stored_is_collected_again),
        T(ends_with_changes_that_nobody_has_collected),
        T(agrees_with_a_plain_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
