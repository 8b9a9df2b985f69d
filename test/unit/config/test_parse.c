/*
 * test_parse.c - listeners and what belongs to them, security options, bridges; files cut off or damaged.
 */
#include "test/unit/config/helper.h"
#include "test/unit/sweep.h"

/* ---- listeners ---- */

static void options_belong_to_the_latest_listener(void **state)
{
    struct config *c = good("listener 1883\nmax_connections 5\nlistener 1884 127.0.0.1\nmax_connections 6\n"
                            "certfile c\nkeyfile k\nlistener 0 /run/b.sock\n");
    const struct config_listener *l = c->listeners;

    (void)state;
    assert_int_equal(c->listener_count, 3);
    assert_int_equal(l[0].max_connections, 5);
    assert_false(l[0].tls);
    assert_int_equal(l[1].max_connections, 6);
    assert_true(l[1].tls);
    assert_string_equal(l[1].host, "127.0.0.1");
    assert_int_equal(l[1].line, 3);
    assert_int_equal(l[1].number, 1);
    assert_int_equal(l[2].max_connections, -1);
    assert_int_equal(l[2].port, 0);
    assert_string_equal(l[2].unix_path, "/run/b.sock");
    assert_null(l[2].host);
    config_free(c);
}

static void wrong_listeners(void **state)
{
    char text[200] = "listener 0 /";

    (void)state;
    refused("listener 65536\n", 1, "between 0 and 65535");
    refused("listener -1\n", 1, "between 0 and 65535");
    refused("listener mqtt\n", 1, "not a number");
    refused("listener 1883x\n", 1, "not a number");
    refused("listener 0\n", 1, "must provide a Unix socket path");
    refused("listener 0 # no path\n", 1, "must provide a Unix socket path");
    refused("listener 1883 /run/b.sock\n", 1, "say 'listener 0 /run/b.sock'");
    refused("listener 1883 a b\n", 1, "'b' is too much");
    memset(text + 12, 'x', 106);
    fine(strcat(text, "\nallow_anonymous true\n"));
    text[118] = 'x';
    text[119] = '\0';
    refused(text, 1, "at most 107 bytes");
}

static void port_and_bind_address_make_the_default_listener(void **state)
{
    struct config *c = good("port 1884\nbind_address 127.0.0.1\nmax_connections 7\nlistener 1885\n");

    (void)state;
    assert_int_equal(c->listener_count, 2);
    assert_int_equal(c->listeners[0].port, 1884);
    assert_string_equal(c->listeners[0].host, "127.0.0.1");
    assert_int_equal(c->listeners[0].max_connections, 7);
    assert_false(c->listeners[0].loopback_only);
    assert_false(c->securities[0].allow_anonymous);
    config_free(c);
    c = good("bind_address ::1\n");
    assert_int_equal(c->listeners[0].port, 1883);
    assert_false(c->listeners[0].loopback_only);
    config_free(c);
    warns("port 1884\nport 1885\nallow_anonymous true\n", "Only the latest will be used");
    refused("port 0\n", 1, "between 1 and 65535");
    refused("port 1883 127.0.0.1\n", 1, "too much");
    refused("bind_address a\nbind_address b\n", 2, "Duplicate 'bind_address'");
    refused("bind_address a b\n", 1, "too much");
    refused("bind_address /run/x\n", 1, "A Unix socket needs port 0");
}

static void options_before_any_listener(void **state)
{
    struct config *c = good_with("max_connections 5\nport 1884\nallow_anonymous true\n",
                                 "'max_connections' comes before any 'listener'");

    (void)state;
    assert_int_equal(c->listener_count, 1);
    assert_int_equal(c->listeners[0].max_connections, 5);
    assert_int_equal(c->listeners[0].port, 1884);
    config_free(c);
    c = good("protocol websockets\nlistener 9001\n");
    assert_int_equal(c->listener_count, 2);
    assert_int_equal(c->listeners[0].port, 1883);
    assert_int_equal(c->listeners[0].protocol, PROTOCOL_WEBSOCKETS);
    assert_false(c->listeners[0].loopback_only);
    config_free(c);
    c = good("max_connections -1\nprotocol mqtt\nlistener 9001\n"); /* nothing but defaults: not opened */
    assert_int_equal(c->listener_count, 1);
    assert_int_equal(c->listeners[0].port, 9001);
    config_free(c);
}

static void only_this_machine_without_a_listener(void **state)
{
    struct config *c =
        good_with("max_queued_messages 5\n", "No listener is defined: only clients on this machine");

    (void)state;
    assert_int_equal(c->listener_count, 1);
    assert_int_equal(c->listeners[0].port, 1883);
    assert_true(c->listeners[0].loopback_only);
    assert_true(c->listeners[0].security->allow_anonymous);
    config_free(c);
    c = good("allow_anonymous false\npassword_file /p\n");
    assert_true(c->listeners[0].loopback_only);
    assert_false(c->listeners[0].security->allow_anonymous);
    config_free(c);
    c = good("certfile c\nkeyfile k\n");
    assert_true(c->listeners[0].loopback_only);
    assert_true(c->listeners[0].tls);
    config_free(c);
}

/* ---- security options ---- */

static void security_is_shared_by_default(void **state)
{
    struct config *c = good("listener 1883\npassword_file /p\nlistener 1884\nallow_anonymous true\n"
                            "acl_file /a\nauto_id_prefix x-\nallow_zero_length_clientid false\n");
    const struct config_security *s = &c->securities[0];

    (void)state;
    assert_int_equal(c->security_count, 1);
    assert_ptr_equal(c->listeners[0].security, s);
    assert_ptr_equal(c->listeners[1].security, s);
    assert_true(s->allow_anonymous);
    assert_false(s->allow_zero_length_clientid);
    assert_string_equal(s->password_file, "/p");
    assert_string_equal(s->acl_file, "/a");
    assert_string_equal(s->auto_id_prefix, "x-");
    assert_int_equal(s->password_file_at.line, 2);
    assert_int_equal(s->acl_file_at.line, 5);
    config_free(c);
}

static void per_listener_settings(void **state)
{
    struct config *c = good("per_listener_settings true\n"
                            "listener 1883\npassword_file /p\n"
                            "listener 1884\nallow_anonymous true\nauto_id_prefix y-\n"
                            "listener 1885\n");

    (void)state;
    assert_true(c->per_listener_settings);
    assert_int_equal(c->security_count, 4);
    assert_string_equal(c->listeners[0].security->password_file, "/p");
    assert_false(c->listeners[0].security->allow_anonymous);
    assert_null(c->listeners[1].security->password_file);
    assert_true(c->listeners[1].security->allow_anonymous);
    assert_string_equal(c->listeners[1].security->auto_id_prefix, "y-");
    assert_false(c->listeners[2].security->allow_anonymous);
    assert_string_equal(c->listeners[2].security->auto_id_prefix, "auto-");
    assert_int_equal(c->listeners[0].security->password_file_at.line, 3);
    config_free(c);
    refused("listener 1\nallow_anonymous true\nper_listener_settings true\n", 3,
            "per_listener_settings must be set before any other security settings");
    refused("per_listener_settings true\npassword_file /p\n", 2, "requires a listener to be defined first.");
    refused("per_listener_settings true\nallow_anonymous true\n", 2,
            "requires a listener to be defined first.");
    warns("per_listener_settings true\nper_listener_settings false\nlistener 1\nallow_anonymous true\n",
          "was set to true before: that stays");
    fine("allow_anonymous true\nper_listener_settings false\nlistener 1\n");
}

static void one_listener_may_differ(void **state)
{
    struct config *c = good("password_file /p\nacl_file /a\n"
                            "listener 1883 127.0.0.1\nlistener_allow_anonymous true\n"
                            "listener 1884\nlistener_auto_id_prefix z-\n"
                            "listener 1885\n");

    (void)state;
    assert_int_equal(c->security_count, 3);
    assert_true(c->listeners[0].security->allow_anonymous);
    assert_string_equal(c->listeners[0].security->password_file, "/p");
    assert_string_equal(c->listeners[0].security->acl_file, "/a");
    assert_string_equal(c->listeners[0].security->auto_id_prefix, "auto-");
    assert_false(c->listeners[1].security->allow_anonymous);
    assert_string_equal(c->listeners[1].security->auto_id_prefix, "z-");
    assert_ptr_equal(c->listeners[2].security, &c->securities[0]);
    assert_false(c->listeners[2].security->allow_anonymous);
    config_free(c);
    c = good("per_listener_settings true\nlistener 1\nallow_anonymous true\nlistener_allow_anonymous false\n"
             "password_file /p\n");
    assert_false(c->listeners[0].security->allow_anonymous);
    config_free(c);
    refused("listener_allow_anonymous true\n", 1, "requires a listener to be defined first.");
}

/* ---- bridges ---- */

#define BRIDGE_TEXT                                                                                       \
    "connection cloud\naddress mqtt.example.org:8883\ntopic # both 2 local/ remote/\nremote_password p\n" \
    "bridge_cafile /ca\nnotifications true\n"

static void bridges_are_refused(void **state)
{
    (void)state;
    refused("listener 1\n" BRIDGE_TEXT, 2, "say 'ignore_bridges true'");
    refused("ignore_bridges false\nlistener 1\n" BRIDGE_TEXT, 3, "say 'ignore_bridges true'");
    refused("connection\n", 1, "Empty 'connection'");
    refused("ignore_bridges true\naddress x\n", 2, "requires a bridge to be defined first");
}

static void bridges_may_be_ignored(void **state)
{
    struct config *c = good_with("allow_anonymous true\nlistener 1\n" BRIDGE_TEXT "max_qos 1\nlistener 2\n"
                                 "ignore_bridges true\n",
                                 "test.conf:3: Warning: The bridge that begins here is ignored");
    struct loaded loaded;

    (void)state;
    assert_int_equal(c->listener_count, 2);
    assert_int_equal(c->listeners[0].max_qos, 1); /* the listener's options go on */
    config_free(c);
    load_text(&loaded, "ignore_bridges true\nallow_anonymous true\nlistener 1\n" BRIDGE_TEXT BRIDGE_TEXT);
    assert_non_null(loaded.config);
    assert_int_equal(loaded.warning_count, 2);
    config_free(loaded.config);
}

/* ---- what must never happen ---- */

/* A file cut off anywhere is read or refused, and never with more rights than the whole: a listener that was
 * to be closed to strangers is still closed, and TLS is not lost silently. */
static void a_file_cut_off_anywhere(void **state)
{
    static const char whole[] = "allow_anonymous false\r\n"
                                "password_file /etc/pass wd\n"
                                "listener 8883 127.0.0.1 # TLS\n"
                                "cafile /ca\ncertfile /c\nkeyfile /k\nrequire_certificate true\n"
                                "use_identity_as_username true\ntls_version tlsv1.2\n"
                                "accept_protocol_versions 3, 4\n"
                                "persistent_client_expiration 2m\nlog_dest file /l\nlog_type all\n"
                                "listener 9001\nprotocol websockets\nwebsockets_origin http://\xC3\xA9\n"
                                "mount_point \xE2\x82\xAC/\nmax_connections -1\n"
                                "listener 0 /run/x\nlistener_allow_anonymous true\n"
                                "ignore_bridges true\nconnection x\naddress y\ndhparamfile /d\n";
    size_t n = sizeof whole - 1, read = 0;

    (void)state;
    for (size_t i = 0; i <= n; i++) {
        struct loaded loaded;

        load_path(&loaded, write_bytes("cut.conf", whole, i));
        if (!loaded.config) {
            continue;
        }
        read++;
        for (size_t k = 0; k < loaded.config->listener_count; k++) {
            const struct config_listener *l = &loaded.config->listeners[k];

            assert_true(!l->security->allow_anonymous || l->loopback_only || l->port == 0);
            assert_true(l->port != 8883 || l->tls || i < strlen(whole) - strlen(strstr(whole, "cafile")) + 8);
        }
        config_free(loaded.config);
    }
    assert_true(read > 20 && read < n);
    config_free(good(whole));
}

/* Whatever became of the file, who was kept out by "allow_anonymous false" or its default still is. */
static void check_damaged(const char *bytes, size_t n, size_t at)
{
    struct loaded loaded;
    char start[300];

    (void)at;
    load_path(&loaded, write_bytes("damaged.conf", bytes, n));
    if (!loaded.config) {
        snprintf(start, sizeof start, "%s/damaged.conf:", folder());
        assert_memory_equal(loaded.err.text, start, strlen(start));
        assert_true(atoi(loaded.err.text + strlen(start)) > 0);
        return;
    }
    for (size_t k = 0; k < loaded.config->listener_count; k++) {
        const struct config_listener *l = &loaded.config->listeners[k];

        assert_true(!l->security->allow_anonymous || l->loopback_only);
    }
    config_free(loaded.config);
}

static void damaged_anywhere(void **state)
{
    static const char whole[] =
        "allow_anonymous false\r\npassword_file /p\nlistener 8883 h\ncertfile /c\nkeyfile /k\n"
        "log_dest file /l # \xC3\xA9\npersistent_client_expiration 2m\nmax_connections 12345\n";
    static const char by_default[] = "listener 8883\nacl_file /a\nmax_qos 1\n";

    (void)state;
    sweep_bytes(whole, strlen(whole), 1, check_damaged);
    sweep_cuts(by_default, strlen(by_default), 1, check_damaged);
    sweep_bytes(by_default, strlen(by_default), 1, check_damaged);
}

/* Half a value may be another good value, so who reads the log is told. */
static void the_last_line_without_an_end(void **state)
{
    (void)state;
    warns("allow_anonymous true\nlistener 1883 127.0.0.1\nmax_connections 1",
          "test.conf:3: Warning: The last line");
    fine("allow_anonymous true\nlistener 1883 127.0.0.1\n# a comment");
    fine("allow_anonymous true\nlistener 1883 127.0.0.1\n \t");
}

/* Locks that hang on no door. */
static void guards_before_any_listener(void **state)
{
    static const char *const lines[] = {
        "cafile a",
        "certfile a",
        "keyfile a",
        "crlfile a",
        "tls_version tlsv1.2",
        "bind_interface lo",
        "require_certificate true",
        "use_username_as_clientid true",
    };

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char text[200];

        snprintf(text, sizeof text, "# x\n%s\nlistener 8883\n", lines[i]);
        refused(text, 2, "comes before any 'listener'");
    }
    refused("certfile c\nkeyfile k\nlistener 8883\n", 1, "'certfile' comes before any 'listener'");
    config_free(good("require_certificate false\nlistener 8883\n")); /* it keeps nobody out */
    config_free(good("certfile c\nkeyfile k\nport 8883\n"));         /* the default listener was meant */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_belong_to_the_latest_listener),
        cmocka_unit_test(wrong_listeners),
        cmocka_unit_test(port_and_bind_address_make_the_default_listener),
        cmocka_unit_test(options_before_any_listener),
        cmocka_unit_test(only_this_machine_without_a_listener),
        cmocka_unit_test(security_is_shared_by_default),
        cmocka_unit_test(per_listener_settings),
        cmocka_unit_test(one_listener_may_differ),
        cmocka_unit_test(bridges_are_refused),
        cmocka_unit_test(bridges_may_be_ignored),
        cmocka_unit_test(a_file_cut_off_anywhere),
        cmocka_unit_test(damaged_anywhere),
        cmocka_unit_test(the_last_line_without_an_end),
        cmocka_unit_test(guards_before_any_listener),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
