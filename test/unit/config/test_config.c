/*
 * test_config.c - what a reload can and cannot take over, and printing a configuration so that it can be read
 * again.
 */
#include "config/table.h"
#include "config/value.h"
#include "test/unit/config/helper.h"

static const char base[] = "allow_anonymous true\n"
                           "listener 1883 127.0.0.1\n"
                           "listener 8884\nprotocol websockets\ncertfile c\nkeyfile k\n"
                           "listener 0 /run/b\n";

static void collect(void *ctx, const char *text)
{
    strcat(ctx, text);
    strcat(ctx, "\n");
}

static void differ(const char *before, const char *after, const char *what, bool same_listeners)
{
    struct config *a = good(before), *b = good(after);
    char said[4096] = "";

    config_diff(a, b, collect, said);
    if (!what ? said[0] != '\0' : !strstr(said, what)) {
        fail_msg("said '%s', not '%s'", said, what ? what : "");
    }
    assert_int_equal(config_same_listeners(a, b), same_listeners);
    config_free(a);
    config_free(b);
}

/* base with the first `from` replaced by `to` */
static const char *changed(const char *from, const char *to)
{
    static char text[1000];
    const char *at = strstr(base, from);

    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - base), base, to, at + strlen(from));
    return text;
}

static void nothing_changed(void **state)
{
    (void)state;
    differ(base, base, NULL, true);
    differ("# x\n", "", NULL, true);
}

static void what_a_reload_takes_over(void **state)
{
    (void)state;
    differ(base, changed("allow_anonymous true", "allow_anonymous false\npassword_file /p\nacl_file /a"),
           NULL, true);
    differ(base, changed("certfile c", "certfile d\ncafile a\nhttp_dir w\nmax_connections 3\nmax_qos 1"),
           NULL, true);
    differ(base, changed("listener 0", "max_queued_messages 3\nlog_type all\nlistener 0"), NULL, true);
    differ(base, changed("allow_anonymous true", "per_listener_settings true"), NULL, true);
}

static void what_it_cannot(void **state)
{
    (void)state;
    differ(base, changed("1883", "1884"), "port of the listener at ", false);
    differ(base, changed("127.0.0.1", "::1"), "address of the listener at ", false);
    differ(base, changed("/run/b", "/run/c"), "path of the listener at ", false);
    differ(base, changed("protocol websockets", "protocol mqtt"), "protocol of the listener at ", false);
    differ(base, changed("certfile c\nkeyfile k\n", ""), "whether there is TLS (certfile, keyfile) of ",
           false);
    differ(base, changed("listener 0 /run/b\n", ""), "removal of the listener at ", false);
    differ(base, changed("listener 0", "listener 9\nlistener 0"), "addition of the listener at ", false);
    differ(base, changed("protocol", "bind_interface lo\nprotocol"), "bind_interface of ", false);
    differ(base, changed("protocol", "socket_domain ipv4\nprotocol"), "socket_domain of ", false);
    differ(base, changed("protocol", "mount_point a\nprotocol"), "mount_point of ", false);
    differ(base, "", "address of the default listener on port 1883", false);
    differ(base, changed("allow", "user x\nallow"), "user\n", true);
    differ(base, changed("allow", "pid_file x\nallow"), "pid_file\n", true);
    differ(base, changed("allow", "tls_threads 2\nallow"), "tls_threads\n", true);
    differ(base, changed("allow", "auth_threads 2\nallow"), "auth_threads\n", true);
    differ(base, changed("allow", "handshake_timeout 2\nallow"), "handshake_timeout\n", true);
    differ(base, changed("allow", "websockets_headers_size 2\nallow"), "websockets_headers_size\n", true);
}

static char *print(const struct config *config)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    config_print(config, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

/* What is printed, read, and printed again is the same, and says everything that was said. */
static void round_trip(const char *text)
{
    struct config *first = good(text), *second;
    char *once = print(first), *twice;
    char said[1000] = "";

    second = good(once);
    twice = print(second);
    assert_string_equal(once, twice);
    config_diff(first, second, collect, said);
    assert_true(config_same_listeners(first, second));
    assert_int_equal(first->security_count, second->security_count);
    assert_int_equal(first->stored_uncounted, second->stored_uncounted);
    for (size_t i = 0; i < directive_count; i++) {
        const struct directive *d = &directive_table[i];

        if (d->kind == KIND_OPTION && d->scope == SCOPE_GENERAL && !value_equal(d, first, second)) {
            fail_msg("%s is not the same in\n%s", d->name, once);
        }
        for (size_t k = 0; d->kind == KIND_OPTION && k < first->listener_count; k++) {
            const struct config_listener *a = &first->listeners[k], *b = &second->listeners[k];
            bool listener = d->scope == SCOPE_LISTENER || d->scope == SCOPE_DECLARED;

            if ((listener && !value_equal(d, a, b)) ||
                (d->scope == SCOPE_SECURITY && !value_equal(d, a->security, b->security))) {
                fail_msg("%s is not the same in\n%s", d->name, once);
            }
        }
    }
    free(once);
    free(twice);
    config_free(first);
    config_free(second);
}

static void a_store_comes_and_goes_with_a_restart(void **state)
{
    struct config *with = good("persistence true\n"), *without = good("");
    char said[1000] = "";

    (void)state;
    config_diff(without, with, collect, said);
    assert_non_null(strstr(said, "persistence"));
    config_keep_store(without, with);
    assert_false(with->persistence);
    config_free(with);
    with = good("persistence true\n");
    config_keep_store(with, without);
    assert_true(without->persistence);
    config_free(with);
    config_free(without);
}

static void what_is_printed_can_be_read(void **state)
{
    (void)state;
    round_trip("");
    round_trip(base);
    round_trip("max_qos 1\nlog_dest none\nlog_type none\n");
    round_trip("per_listener_settings true\nlistener 1\npassword_file /p\nlistener 2\nallow_anonymous true\n"
               "auto_id_prefix x\nallow_zero_length_clientid false\nacl_file /a b\n");
    round_trip("persistence true\npersistence_location /l\npersistence_file f\npersistence_sync off\n"
               "persistence_commit_delay 0\nqueue_memory_limit -1\nlistener 1\n");
    round_trip(
        "listener 1\nlistener_allow_anonymous true\nlistener 2\nlistener_auto_id_prefix y\nlistener 3\n");
    round_trip(
        "log_dest file /a b\nlog_dest syslog\nlog_type debug\nlog_type error\nlog_facility 3\n"
        "log_timestamp_format %H\npersistent_client_expiration 3w\nclientid_prefixes a\nmemory_limit "
        "5000000000\n"
        "max_inflight_bytes 7\nmax_keepalive 9\nuser u\npid_file /p\nsys_interval 0\nignore_bridges true\n"
        "listener 8884 h\nprotocol websockets\nsocket_domain ipv6\nmount_point m/\nmax_connections 5\n"
        "accept_protocol_versions 4\ncertfile c\nkeyfile k\ncafile a\ncapath b\ncrlfile d\nciphers e\n"
        "ciphers_tls1.3 f\ntls_version tlsv1.3\nrequire_certificate true\nuse_identity_as_username true\n"
        "use_username_as_clientid true\nhttp_dir /w\nwebsockets_origin o1\nwebsockets_origin o2\n"
        "bind_interface lo\n");
}

/* The comparison that the tests above and a reload rest on does see each difference. */
static void every_option_can_differ(void **state)
{
    size_t seen = 0;

    (void)state;
    for (size_t i = 0; i < directive_count; i++) {
        const struct directive *d = &directive_table[i];
        struct config_listener listeners[2];
        struct config configs[2];
        struct config_security securities[2];
        char value[2][40];
        void *bases[2];
        struct err err;

        if (d->kind != KIND_OPTION) {
            continue;
        }
        memset(listeners, 0, sizeof listeners);
        memset(configs, 0, sizeof configs);
        memset(securities, 0, sizeof securities);
        for (size_t k = 0; k < 2; k++) {
            static const char *const numbers[] = {"1", "2"};
            static const char *const by_type[][2] = {
                [TYPE_BOOL] = {"true", "false"},
                [TYPE_DURATION] = {"1h", "2h"},
                [TYPE_TLS_VERSION] = {"tlsv1.2", "tlsv1.3"},
                [TYPE_LOG_DEST] = {"stdout", "topic"},
                [TYPE_LOG_TYPE] = {"error", "debug"},
                [TYPE_PROTOCOL] = {"mqtt", "websockets"},
                [TYPE_DOMAIN] = {"ipv4", "ipv6"},
                [TYPE_SYNC] = {"normal", "off"},
                [TYPE_VERSIONS] = {"3", "4"},
                [TYPE_ORIGIN] = {"a", "b"},
            };
            bool listed = d->type < sizeof by_type / sizeof by_type[0] && by_type[d->type][0];

            snprintf(value[k], sizeof value[k], "%s", listed ? by_type[d->type][k] : numbers[k]);
            if (strcmp(d->name, "max_packet_size") == 0) {
                snprintf(value[k], sizeof value[k], "%zu", 20 + k);
            }
            bases[k] = d->scope == SCOPE_GENERAL                                  ? (void *)&configs[k]
                       : d->scope == SCOPE_LISTENER || d->scope == SCOPE_DECLARED ? (void *)&listeners[k]
                                                                                  : (void *)&securities[k];
            if (value_set(d, bases[k], d->name, value[k], false, &err)) {
                fail_msg("%s", err.text);
            }
        }
        assert_true(value_equal(d, bases[0], bases[0]));
        if (value_equal(d, bases[0], bases[1])) {
            fail_msg("%s: the values are taken for equal", d->name);
        }
        value_free(d, bases[0]);
        value_free(d, bases[1]);
        seen++;
    }
    assert_true(seen > 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_changed),
        cmocka_unit_test(what_a_reload_takes_over),
        cmocka_unit_test(what_it_cannot),
        cmocka_unit_test(what_is_printed_can_be_read),
        cmocka_unit_test(a_store_comes_and_goes_with_a_restart),
        cmocka_unit_test(every_option_can_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
