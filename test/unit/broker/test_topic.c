/*
 * test_topic.c - UTF-8, topic names, topic filters and matching: the standard's examples, and a slow
 * reference.
 */
#include "broker/topic.h"
#include "slow_topic.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static bool utf8(const char *bytes, size_t n)
{
    /* an exact block on the heap, so that the address sanitizer sees a read beyond the end */
    uint8_t *copy = malloc(n + 1);
    memcpy(copy + 1, bytes, n); /* at an odd address */
    bool valid = utf8_valid(slice_of(copy + 1, n));
    assert_int_equal(valid, slow_utf8(copy + 1, n));
    free(copy);
    return valid;
}

#define UTF8(text) utf8(text, sizeof(text) - 1)

static void takes_well_formed_utf8(void **unused)
{
    (void)unused;
    assert_true(UTF8(""));
    assert_true(UTF8("sport/tennis"));
    assert_true(UTF8("\x01\x7F"));                  /* control characters may be refused; they are not */
    assert_true(UTF8("\xC2\x80 \xDF\xBF"));         /* U+0080, U+07FF */
    assert_true(UTF8("\xE0\xA0\x80 \xEF\xBF\xBF")); /* U+0800, U+FFFF */
    assert_true(UTF8("\xED\x9F\xBF \xEE\x80\x80")); /* beside the surrogates */
    assert_true(UTF8("\xF0\x90\x80\x80 \xF4\x8F\xBF\xBF"));
    assert_true(UTF8("A\xF0\xAA\x9B\x94"));                        /* the example of [1.5.3.1] */
    assert_true(UTF8("\xEF\xBB\xBF first and last \xEF\xBB\xBF")); /* U+FEFF stays [MQTT-1.5.3-3] */
}

static void refuses_malformed_utf8(void **unused)
{
    (void)unused;
    assert_false(UTF8("\0")); /* [MQTT-1.5.3-2] */
    assert_false(UTF8("sport/\0"));
    assert_false(UTF8("\xED\xA0\x80")); /* U+D800 [MQTT-1.5.3-1] */
    assert_false(UTF8("\xED\xBF\xBF")); /* U+DFFF */
    assert_false(UTF8("\xC0\x80"));     /* overlong forms */
    assert_false(UTF8("\xC1\xBF"));
    assert_false(UTF8("\xE0\x9F\xBF"));
    assert_false(UTF8("\xF0\x8F\xBF\xBF"));
    assert_false(UTF8("\xF4\x90\x80\x80")); /* U+110000 */
    assert_false(UTF8("\xF5\x80\x80\x80"));
    assert_false(UTF8("\xF8\x88\x80\x80\x80"));
    assert_false(UTF8("\xFF"));
    assert_false(UTF8("\x80")); /* a second byte first */
    assert_false(UTF8("\xBF"));
    assert_false(UTF8("\xC2")); /* cut short */
    assert_false(UTF8("\xE1\x80"));
    assert_false(UTF8("\xF1\x80\x80"));
    assert_false(UTF8("\xC2 "));
    assert_false(UTF8("\xE1\x80 "));
    assert_false(UTF8("\xF1\x80\x80 "));
}

/* The fast run takes eight bytes at a time: a bad byte must be found wherever it stands in them. */
static void finds_a_bad_byte_at_every_place(void **unused)
{
    (void)unused;
    for (size_t n = 1; n <= 40; n++) {
        for (size_t at = 0; at < n; at++) {
            char text[40];
            memset(text, 'x', n);
            assert_true(utf8(text, n));
            text[at] = 0;
            assert_false(utf8(text, n));
            text[at] = (char)0xFF;
            assert_false(utf8(text, n));
            text[at] = (char)0x80;
            assert_false(utf8(text, n));
            text[at] = 1;
            assert_true(utf8(text, n));
        }
    }
}

/* All of them: every first byte with every second one, and the third and fourth at the edges. */
static void agrees_with_the_slow_utf8(void **unused)
{
    static const uint8_t edges[] = {0x00, 0x2F, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF};
    size_t valid = 0;
    (void)unused;
    for (int a = 0; a < 256; a++) {
        for (int b = 0; b < 256; b++) {
            for (size_t c = 0; c < sizeof edges; c++) {
                for (size_t n = 1; n <= 4; n++) {
                    char text[4] = {(char)a, (char)b, (char)edges[c], (char)edges[(c + 3) % sizeof edges]};
                    valid += utf8(text, n); /* compares by itself */
                }
            }
        }
    }
    assert_true(valid > 1000);
}

static void random_bytes_agree_with_the_slow_utf8(void **unused)
{
    struct random random = {20240501};
    (void)unused;
    for (int i = 0; i < 200000; i++) {
        static const uint8_t likely[] = {'a',  0x80, 0xBF, 0xC2, 0xE0, 0xA0,
                                         0xED, 0x9F, 0xF0, 0x90, 0xF4, 0x8F};
        char text[24];
        size_t n = random_below(&random, sizeof text);
        for (size_t k = 0; k < n; k++) {
            text[k] = (char)(random_chance(&random, 60) ? likely[random_below(&random, sizeof likely)]
                                                        : random_next(&random));
        }
        utf8(text, n);
    }
}

static void knows_a_topic_name(void **unused)
{
    (void)unused;
    assert_true(topic_name_valid(slice_str("sport/tennis/player1")));
    assert_true(topic_name_valid(slice_str("/")));
    assert_true(topic_name_valid(slice_str("/finance")));
    assert_true(topic_name_valid(slice_str("$SYS/broker")));
    assert_true(topic_name_valid(slice_str(" ")));
    assert_false(topic_name_valid(slice_str("")));
    assert_false(topic_name_valid(slice_str("sport/#")));
    assert_false(topic_name_valid(slice_str("sport+")));
    assert_false(topic_name_valid(slice_str("+")));
}

static void knows_a_topic_filter(void **unused)
{
    static const char *const good[] = {
        "#",  "sport/tennis/#", "+",      "+/tennis/#", "sport/+/player1", "/", "//", "/+", "+/+",
        "/#", "a//#",           "$SYS/#", "a/+/+/#",    "sport",
    };
    static const char *const bad[] = {
        "",
        "sport/tennis#",
        "sport/tennis/#/ranking",
        "sport+",
        "+a",
        "a/b+",
        "a/+b/c",
        "##",
        "#/",
        "#/a",
        "++",
        "a/#b",
        "+#",
        "/#/",
    };
    (void)unused;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(topic_filter_valid(slice_str(good[i])));
        assert_true(slow_filter_valid((const uint8_t *)good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(topic_filter_valid(slice_str(bad[i])));
        assert_false(slow_filter_valid((const uint8_t *)bad[i], strlen(bad[i])));
    }
}

static void counts_levels(void **unused)
{
    (void)unused;
    assert_int_equal(topic_levels(slice_str("sport")), 1);
    assert_int_equal(topic_levels(slice_str("sport/tennis/player1")), 3);
    assert_int_equal(topic_levels(slice_str("/")), 2);
    assert_int_equal(topic_levels(slice_str("//")), 3);
    assert_int_equal(topic_levels(slice_str("a/")), 2);
}

static void walks_levels(void **unused)
{
    struct topic_walk walk = topic_walk(slice_str("/a//bc/"));
    static const char *const levels[] = {"", "a", "", "bc", ""};
    struct slice level;
    (void)unused;
    for (size_t i = 0; i < 5; i++) {
        assert_true(topic_next_level(&walk, &level));
        assert_true(slice_eq(level, slice_str(levels[i])));
    }
    assert_false(topic_next_level(&walk, &level));
}

static bool matches(const char *filter, const char *name)
{
    bool does = topic_matches(slice_str(filter), slice_str(name));
    assert_int_equal(
        does, slow_match((const uint8_t *)filter, strlen(filter), (const uint8_t *)name, strlen(name)));
    return does;
}

/* [4.7.1.2], [4.7.1.3], [4.7.2], [4.7.3] */
static void follows_the_examples_of_the_standard(void **unused)
{
    (void)unused;
    assert_true(matches("sport/tennis/player1/#", "sport/tennis/player1"));
    assert_true(matches("sport/tennis/player1/#", "sport/tennis/player1/ranking"));
    assert_true(matches("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"));
    assert_true(matches("sport/#", "sport"));
    assert_true(matches("#", "sport/tennis"));
    assert_true(matches("sport/tennis/+", "sport/tennis/player1"));
    assert_true(matches("sport/tennis/+", "sport/tennis/player2"));
    assert_false(matches("sport/tennis/+", "sport/tennis/player1/ranking"));
    assert_false(matches("sport/+", "sport"));
    assert_true(matches("sport/+", "sport/"));
    assert_true(matches("+/+", "/finance"));
    assert_true(matches("/+", "/finance"));
    assert_false(matches("+", "/finance"));
    assert_false(matches("#", "$SYS/monitor/Clients"));
    assert_false(matches("+/monitor/Clients", "$SYS/monitor/Clients"));
    assert_true(matches("$SYS/#", "$SYS/monitor/Clients"));
    assert_true(matches("$SYS/monitor/+", "$SYS/monitor/Clients"));
    assert_true(matches("ACCOUNTS", "ACCOUNTS"));
    assert_false(matches("ACCOUNTS", "Accounts"));
    assert_false(matches("/finance", "finance"));
}

/* No client can send them, but an ACL file is not the only thing that may be empty one day. */
static void takes_what_is_empty(void **unused)
{
    (void)unused;
    struct slice nothing = slice_of("", 0);
    assert_true(topic_matches(nothing, nothing));
    assert_false(topic_matches(nothing, slice_str("a")));
    assert_false(topic_matches(nothing, slice_str("$a")));
    assert_false(topic_matches(slice_str("a"), nothing));
    assert_true(topic_matches(slice_str("#"), nothing));
}

static void compares_whole_levels(void **unused)
{
    (void)unused;
    assert_false(matches("sport", "sport/tennis"));
    assert_false(matches("sport/tennis", "sport"));
    assert_false(matches("spor", "sport"));
    assert_false(matches("sport", "spor"));
    assert_false(matches("sport/#", "sports"));
    assert_false(matches("a/+/c", "a/b/d"));
    assert_true(matches("a/+/c", "a//c"));
    assert_true(matches("+/b/#", "a/b"));
    assert_true(matches("//", "//"));
    assert_false(matches("//", "/"));
    assert_true(matches("a/$b/+", "a/$b/c")); /* '$' means something at the start only */
    assert_true(matches("a/#", "a/$b"));
}

static void agrees_with_the_slow_match(void **unused)
{
    struct random random = {42};
    int hits = 0;
    (void)unused;
    for (int i = 0; i < 300000; i++) {
        uint8_t filter[40], name[40];
        size_t fn = random_filter(&random, filter), tn = random_name(&random, name);
        bool slow = slow_match(filter, fn, name, tn);
        assert_true(topic_filter_valid(slice_of(filter, fn)));
        assert_true(topic_name_valid(slice_of(name, tn)));
        assert_int_equal(topic_matches(slice_of(filter, fn), slice_of(name, tn)), slow);
        hits += slow;
    }
    assert_true(hits > 10000);
}

static void random_filters_agree_with_the_slow_check(void **unused)
{
    struct random random = {7};
    int valid = 0;
    (void)unused;
    for (int i = 0; i < 200000; i++) {
        uint8_t p[8];
        size_t n = random_below(&random, sizeof p);
        for (size_t k = 0; k < n; k++) {
            p[k] = (uint8_t)("a/+#"[random_below(&random, 4)]);
        }
        bool slow = slow_filter_valid(p, n);
        assert_int_equal(topic_filter_valid(slice_of(p, n)), slow);
        assert_int_equal(topic_name_valid(slice_of(p, n)), slow_name_valid(p, n));
        valid += slow;
    }
    assert_true(valid > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_well_formed_utf8),
        cmocka_unit_test(refuses_malformed_utf8),
        cmocka_unit_test(finds_a_bad_byte_at_every_place),
        cmocka_unit_test(agrees_with_the_slow_utf8),
        cmocka_unit_test(random_bytes_agree_with_the_slow_utf8),
        cmocka_unit_test(knows_a_topic_name),
        cmocka_unit_test(knows_a_topic_filter),
        cmocka_unit_test(counts_levels),
        cmocka_unit_test(walks_levels),
        cmocka_unit_test(follows_the_examples_of_the_standard),
        cmocka_unit_test(takes_what_is_empty),
        cmocka_unit_test(compares_whole_levels),
        cmocka_unit_test(agrees_with_the_slow_match),
        cmocka_unit_test(random_filters_agree_with_the_slow_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
