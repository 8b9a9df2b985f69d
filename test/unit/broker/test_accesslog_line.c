/*
 * test_accesslog_line.c - lines of the access log: what stands in them, and that they stay valid and bounded
 * whatever the names are. test/hostile asks a JSON parser about the lines of a daemon.
 */
#include "broker/accesslog_line.h"
#include "broker/log.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static char out[LOG_ACCESS_MAX + 1];

static const char *line(const struct decision *decision, const struct config_listener *listener)
{
    memset(out, 'Z', sizeof out);
    size_t n = accesslog_line(out, decision, listener, 1769904000007);
    assert_true(n < LOG_ACCESS_MAX);
    assert_int_equal(out[LOG_ACCESS_MAX], 'Z');
    out[n] = 0;
    assert_int_equal(strlen(out), n);
    return out;
}

static void all_that_is_known_is_said(void **unused)
{
    (void)unused;
    struct principal who = {.client_id = (char[]){"c1"},
                            .user = (char[]){"mary"},
                            .address = "10.0.0.7",
                            .port = 40001,
                            .tls_version = "TLSv1.3"};
    struct config_listener listener = {.port = 8883};
    struct decision decision = {.kind = DECIDED_PUBLISH,
                                .who = &who,
                                .topic = slice_str("door/open"),
                                .qos = 1,
                                .reason = "not allowed",
                                .file = "/etc/acl",
                                .line = 12};
    assert_string_equal(
        line(&decision, &listener),
        "{\"time\":\"2026-02-01T00:00:00.007Z\",\"event\":\"publish\",\"allowed\":false,\"client\":\"c1\","
        "\"user\":\"mary\",\"address\":\"10.0.0.7\",\"port\":40001,\"listener\":\"8883\",\"tls\":\"TLSv1.3\","
        "\"topic\":\"door/open\",\"qos\":1,\"reason\":\"not allowed\",\"rule\":\"/etc/acl:12\"}");
}

static void what_is_not_known_is_left_out(void **unused)
{
    (void)unused;
    struct principal who = {.address = "unix"};
    struct config_listener listener = {.unix_path = (char[]){"/run/bramble.sock"}};
    assert_string_equal(
        line(&(struct decision){.kind = DECIDED_CONNECT, .allowed = true, .who = &who}, &listener),
        "{\"time\":\"2026-02-01T00:00:00.007Z\",\"event\":\"connect\",\"allowed\":true,\"address\":\"unix\","
        "\"listener\":\"/run/bramble.sock\"}");
    assert_null(strstr(line(&(struct decision){.kind = DECIDED_REVOKED, .who = &who}, NULL), "listener"));
    assert_non_null(strstr(out, "\"event\":\"revoked\",\"allowed\":false"));
}

static void events_and_listeners_have_the_names_that_people_know(void **unused)
{
    (void)unused;
    struct principal who = {.address = "::1"};
    struct config_listener listener = {.port = 1883, .host = (char[]){"::1"}};
    line(&(struct decision){.kind = DECIDED_DISCONNECT, .who = &who, .qos = 1}, &listener);
    assert_non_null(strstr(out, "\"event\":\"disconnect\""));
    assert_non_null(strstr(out, "\"listener\":\"1883 ::1\""));
    assert_null(strstr(out, "qos"));
    line(&(struct decision){.kind = DECIDED_SUBSCRIBE, .who = &who, .topic = slice_str("#")}, &listener);
    assert_non_null(strstr(out, "\"event\":\"subscribe\""));
    assert_non_null(strstr(out, "\"topic\":\"#\",\"qos\":0"));
}

static void every_byte_can_be_in_every_text(void **unused)
{
    (void)unused;
    for (int c = 1; c < 256; c++) {
        char text[] = {'<', (char)c, '>', 0};
        struct principal who = {.client_id = text, .user = text, .address = "a"};
        struct config_listener listener = {.port = 1, .host = text};
        struct decision decision = {
            .who = &who, .topic = slice_of(text, 3), .reason = text, .file = text, .line = 1};
        line(&decision, &listener);
        char want[16];
        bool cut = false;
        log_escape_json(want, sizeof want, text, 3, &cut);
        int found = 0;
        for (const char *at = out; (at = strstr(at, want)); at++) {
            found++;
        }
        assert_int_equal(found, 6);
        int quotes = 0; /* that are no part of a text: two around each of 10 names and 9 texts */
        for (const char *at = out; *at; at++) {
            assert_true((unsigned char)*at >= 0x20);
            quotes += *at == '"' && at[-1] != '\\';
        }
        assert_int_equal(quotes, 2 * 19);
    }
}

static void the_longest_is_cut_and_says_so(void **unused)
{
    (void)unused;
    for (int c = 0; c < 256; c += c == 0 ? 1 : 42) {
        char *text = malloc(65536);
        memset(text, c ? c : 0x01, 65535);
        text[65535] = 0;
        struct principal who = {.client_id = text, .user = text, .port = 65535, .tls_version = "TLSv1.3"};
        memset(who.address, '\1', sizeof who.address - 1);
        struct config_listener listener = {.port = 65535, .host = text};
        struct decision decision = {.kind = DECIDED_SUBSCRIBE,
                                    .who = &who,
                                    .topic = slice_of(text, 65535),
                                    .qos = 255,
                                    .reason = text,
                                    .file = text,
                                    .line = UINT32_MAX};
        line(&decision, &listener);
        assert_string_equal(strrchr(out, '['), strstr(out, "[\"client\",\"user\""));
        assert_non_null(strstr(strrchr(out, '['), "\"topic\",\"reason\""));
        assert_string_equal(out + strlen(out) - 2, "]}");
        free(text);
    }
}

static void a_cut_topic_keeps_its_beginning(void **unused)
{
    (void)unused;
    char topic[1100];
    memset(topic, 't', sizeof topic);
    struct principal who = {.client_id = (char[]){"c"}, .address = "a"};
    struct decision decision = {.kind = DECIDED_PUBLISH, .who = &who, .topic = slice_of(topic, 1023)};
    assert_null(strstr(line(&decision, NULL), "cut"));
    decision.topic.n++;
    assert_non_null(strstr(line(&decision, NULL), "ttt\",\"qos\":0,\"cut\":[\"topic\"]}"));
}

static void a_long_path_keeps_its_end(void **unused)
{
    (void)unused;
    char path[400];
    memset(path, 'd', sizeof path);
    strcpy(path + sizeof path - 5, "/acl");
    struct principal who = {.address = "a"};
    line(&(struct decision){.who = &who, .file = path, .line = 4000000000}, NULL);
    assert_non_null(strstr(out, "ddd/acl:4000000000\"}"));
}

static void what_was_left_out_is_a_line_too(void **unused)
{
    (void)unused;
    size_t n = accesslog_left_out(out, 12, 0);
    out[n] = 0;
    assert_string_equal(out, "{\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"left_out\",\"count\":12}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_is_known_is_said),
        cmocka_unit_test(what_is_not_known_is_left_out),
        cmocka_unit_test(events_and_listeners_have_the_names_that_people_know),
        cmocka_unit_test(every_byte_can_be_in_every_text),
        cmocka_unit_test(the_longest_is_cut_and_says_so),
        cmocka_unit_test(a_cut_topic_keeps_its_beginning),
        cmocka_unit_test(a_long_path_keeps_its_end),
        cmocka_unit_test(what_was_left_out_is_a_line_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
