/*
 * test_value.c - the values of directives, by type; said twice.
 */
#include "broker/log.h"
#include "test/unit/config/helper.h"

/* ---- values ---- */

static int64_t expiration(const char *value)
{
    char text[100];
    struct config *c;
    int64_t seconds;

    snprintf(text, sizeof text, "persistent_client_expiration %s\n", value);
    c = good(text);
    seconds = c->persistent_client_expiration;
    config_free(c);
    return seconds;
}

static void durations(void **state)
{
    static const char *const bad[] = {"0d",
                                      "-1d",
                                      "d",
                                      "14",
                                      "14D",
                                      "1.5d",
                                      "1d2h",
                                      "14 d",
                                      "99999999999999999y",
                                      "9223372036854776s"}; /* as milliseconds it does not fit */

    (void)state;
    assert_int_equal(expiration("5s"), 5);
    assert_int_equal(expiration("1h"), 3600);
    assert_int_equal(expiration("2d"), 2 * 86400);
    assert_int_equal(expiration("3w"), 21 * 86400);
    assert_int_equal(expiration("4m"), 120 * 86400);
    assert_int_equal(expiration("5y # years"), 5 * 365 * 86400);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[100];

        snprintf(text, sizeof text, "\npersistent_client_expiration %s\n", bad[i]);
        refused(text, 2, "persistent_client_expiration");
    }
}

static void negative_numbers_mean_no_limit(void **state)
{
    struct config *c = good("max_inflight_bytes -1\nmax_queued_bytes -5\nmax_queued_messages -1\n"
                            "max_inflight_messages -1\nglobal_max_connections -7\nglobal_max_clients 0\n"
                            "listener 1883\nmax_connections -3\nlistener 1884\nmax_connections 0x10\n");

    (void)state;
    assert_int_equal(c->max_inflight_bytes, 0);
    assert_int_equal(c->max_queued_bytes, 0);
    assert_int_equal(c->max_queued_messages, 0);
    assert_int_equal(c->max_inflight_messages, 0);
    assert_int_equal(c->global_max_connections, -1);
    assert_int_equal(c->global_max_clients, -1);
    assert_int_equal(c->listeners[0].max_connections, -1);
    assert_int_equal(c->listeners[1].max_connections, 16);
    config_free(c);
}

static void words_as_mosquitto_says_them(void **state)
{
    (void)state;
    refused("user\n", 1, "Error: Empty 'user' value in configuration.");
    refused("allow_anonymous falst\n", 1, "Error: Invalid 'allow_anonymous' value (falst).");
    refused("max_keepalive 65536\n", 1, "Error: Invalid 'max_keepalive' value (65536).");
    refused("pid_file /tmp/pid\npid_file /tmp/pid\n", 2,
            "Error: Duplicate 'pid_file' value in configuration");
    refused("listener\n", 1, "Error: Empty 'listener port' value in configuration.");
    refused("bind_address #\n", 1, "Error: Empty 'bind_address' value in configuration.");
    refused("topic x\n", 1, "Error: The 'topic' option requires a bridge to be defined first.");
    refused("mount_point test/\n", 1,
            "Error: The 'mount_point' option requires a listener to be defined first.");
    refused("max_qos 1\nmount_point a/\n", 2,
            "The 'mount_point' option requires a listener to be defined first.");
}

static unsigned log_dest(const char *text, const char *file)
{
    struct config *c = good(text);
    unsigned dest = c->log_dest;

    if (file) {
        assert_string_equal(c->log_file, file);
    } else {
        assert_null(c->log_file);
    }
    config_free(c);
    return dest;
}

static void log_destinations(void **state)
{
    (void)state;
    assert_int_equal(log_dest("log_dest none\n", NULL), 0);
    assert_int_equal(log_dest("log_dest stdout\n", NULL), LOG_D_STDOUT);
    assert_int_equal(log_dest("log_dest stderr # here\nlog_dest syslog\nlog_dest topic\n", NULL),
                     LOG_D_STDERR | LOG_D_SYSLOG | LOG_D_TOPIC);
    assert_int_equal(log_dest("log_dest file  /var/log/my log.log \n", "/var/log/my log.log"), LOG_D_FILE);
    assert_int_equal(log_dest("log_dest file /a\nlog_dest stdout\n", "/a"), LOG_D_FILE | LOG_D_STDOUT);
    assert_int_equal(log_dest("log_dest file /a\nlog_dest none\nlog_dest stdout\n", NULL), LOG_D_STDOUT);
    refused("log_dest file\n", 1, "Empty 'log_dest file'");
    refused("log_dest file /a\nlog_dest file /b\n", 2, "Duplicate 'log_dest file'");
    refused("log_dest dlt\n", 1, "not supported");
    refused("log_dest android\n", 1, "not supported");
    refused("log_dest printer\n", 1, "Invalid 'log_dest' value (printer)");
    refused("log_dest stdout stderr\n", 1, "'stderr' is too much");
}

static unsigned log_type(const char *text)
{
    struct config *c = good(text);
    unsigned type = c->log_type;

    config_free(c);
    return type;
}

static void log_types(void **state)
{
    (void)state;
    assert_int_equal(log_type("log_type all\n"), LOG_T_ALL);
    assert_int_equal(log_type("log_type none\n"), 0);
    assert_int_equal(log_type("log_type error\n"), LOG_T_ERROR);
    assert_int_equal(
        log_type("log_type error\nlog_type warning\nlog_type notice\nlog_type information\n"
                 "log_type debug\nlog_type subscribe\nlog_type unsubscribe\nlog_type websockets\n"
                 "log_type internal\n"),
        LOG_T_ALL);
    assert_int_equal(log_type("log_type all\nlog_type none\nlog_type debug\n"), LOG_T_DEBUG);
    refused("log_type errors\n", 1, "Invalid 'log_type' value (errors)");
    refused("log_type error warning\n", 1, "'warning' is too much");
}

static void other_words(void **state)
{
    struct config *c =
        good("log_facility 5\n"
             "listener 1883\nprotocol mqtt\nsocket_domain ipv6\naccept_protocol_versions 3, 4\n"
             "mount_point house/\nbind_interface eth0\nmaximum_qos 1\n"
             "listener 8884\nprotocol websockets\nsocket_domain ipv4\naccept_protocol_versions 4,5\n"
             "certfile c\nkeyfile k\ntls_version tlsv1.3\ntls_keyform pem\nhttp_dir /w\n"
             "websockets_origin https://a\nwebsockets_origin https://b:8\n");
    const struct config_listener *l = c->listeners;

    (void)state;
    assert_string_equal(c->log_facility, "local5");
    assert_int_equal(l[0].socket_domain, DOMAIN_IPV6);
    assert_int_equal(l[0].protocol, PROTOCOL_MQTT);
    assert_int_equal(l[0].accept_protocol_versions, 1 << 3 | 1 << 4);
    assert_string_equal(l[0].mount_point, "house/");
    assert_string_equal(l[0].bind_interface, "eth0");
    assert_int_equal(l[0].max_qos, 1);
    assert_int_equal(l[1].socket_domain, DOMAIN_IPV4);
    assert_int_equal(l[1].protocol, PROTOCOL_WEBSOCKETS);
    assert_int_equal(l[1].accept_protocol_versions, 1 << 4 | 1 << 5);
    assert_true(l[1].tls);
    assert_string_equal(l[1].tls_version, "tlsv1.3");
    assert_string_equal(l[1].http_dir, "/w");
    assert_int_equal(l[1].websockets_origins, 2);
    assert_string_equal(l[1].websockets_origin[0], "https://a");
    assert_string_equal(l[1].websockets_origin[1], "https://b:8");
    config_free(c);
}

static void wrong_words(void **state)
{
    (void)state;
    refused("listener 1\nprotocol http_api\n", 2, "Invalid 'protocol' value (http_api)");
    refused("listener 1\nprotocol mqttsn\n", 2, "Invalid 'protocol' value (mqttsn)");
    refused("listener 1\nsocket_domain ipv5\n", 2, "It must be ipv4 or ipv6");
    refused("listener 1\naccept_protocol_versions 5\n", 2, "MQTT 5 is not in this version");
    refused("listener 1\naccept_protocol_versions 3,6\n", 2, "(6)");
    refused("listener 1\naccept_protocol_versions ,\n", 2, "Empty");
    refused("accept_protocol_versions 3\n", 1, "requires a listener to be defined first.");
    refused("listener 1\nmount_point a/+/b\n", 2, "Does it contain a wildcard character?");
    refused("listener 1\nmount_point a/#\n", 2, "Does it contain a wildcard character?");
    refused("listener 1\ntls_version tlsv1.1\n", 2, "no longer secure");
    refused("listener 1\ntls_version sslv3\n", 2, "It must be tlsv1.2 or tlsv1.3");
    refused("tls_keyform engine\n", 1, "PEM files only");
    refused("max_packet_size 19\n", 1, "between 20 and");
    refused("maximum_qos 3\n", 1, "'maximum_qos'");
}

static void said_twice(void **state)
{
    struct config *c;

    (void)state;
    c = good_with("max_keepalive 5\nmax_keepalive 6\n"
                  "listener 1883\nallow_anonymous true\n",
                  "test.conf:2: Warning: 'max_keepalive' was said before, at ");
    assert_int_equal(c->max_keepalive, 6);
    config_free(c);
    refused("user a\nuser b\n", 2, "'user' was said before with another value, at ");
    refused("allow_anonymous false\nallow_anonymous true\n", 2, "with another value");
    refused("listener 1\nrequire_certificate true\n\nrequire_certificate 0\n", 4, "with another value");
    refused("set_tcp_nodelay true\nset_tcp_nodelay nonsense\n", 2, "It must be true or false");
    refused("set_tcp_nodelay true\nset_tcp_nodelay true x\n", 2, "too much");
    fine("user a\nuser a\nallow_anonymous true\nallow_anonymous 1 # again\nlistener 1\n");
    fine("per_listener_settings true\nlistener 1\nallow_anonymous true\nlistener 2\n"
         "allow_anonymous false\npassword_file /p\n");
    refused("password_file /a\npassword_file /b\n", 2, "(the first is at ");
    refused("listener 1\ncertfile /a\ncertfile /b\n", 3, "Duplicate 'certfile'");
    fine("listener 1\nallow_anonymous true\nmax_qos 1\nlistener 2\nmax_qos 0\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations),
        cmocka_unit_test(negative_numbers_mean_no_limit),
        cmocka_unit_test(words_as_mosquitto_says_them),
        cmocka_unit_test(log_destinations),
        cmocka_unit_test(log_types),
        cmocka_unit_test(other_words),
        cmocka_unit_test(wrong_words),
        cmocka_unit_test(said_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
