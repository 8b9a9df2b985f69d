/*
 * test_check.c - what does not go together, what the command line changes, and the files people really have.
 */
#include "broker/log.h"
#include "test/unit/config/helper.h"

#define OPEN "allow_anonymous true\n"

static void certificate_and_key(void **state)
{
    (void)state;
    fine(OPEN "listener 8883\ncertfile c\nkeyfile k\n");
    fine(
        OPEN
        "listener 8883\nkeyfile k\ncertfile c\ncafile a\nciphers x\nciphers_tls1.3 y\ntls_version tlsv1.2\n");
    refused(OPEN "listener 8883\ncertfile c\n", 3, "keyfile is missing");
    refused(OPEN "listener 8883\n\nkeyfile k\n", 4, "certfile is missing");
    refused(OPEN "listener 8883\ncertfile c\nlistener 8884\nkeyfile k\n", 3, "keyfile is missing");
}

static void tls_options_without_tls(void **state)
{
    static const char *const lines[] = {
        "cafile a",
        "capath a",
        "crlfile a",
        "ciphers a",
        "ciphers_tls1.3 a",
        "tls_version tlsv1.2",
        "require_certificate true",
    };

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char text[200];

        snprintf(text, sizeof text, OPEN "listener 8883\n%s\n", lines[i]);
        refused(text, 3, "without certfile and keyfile");
    }
    fine(OPEN "listener 8883\nrequire_certificate false\nuse_identity_as_username false\n");
}

static void client_certificates(void **state)
{
#define TLS "listener 8883\ncertfile c\nkeyfile k\n"
    struct config *c =
        good_with(TLS "cafile a\nrequire_certificate true\nuse_identity_as_username true\ncrlfile r\n", NULL);

    (void)state;
    assert_true(c->listeners[0].require_certificate);
    assert_true(c->listeners[0].use_identity_as_username);
    assert_string_equal(c->listeners[0].crlfile, "r");
    config_free(c);
    fine(TLS "capath a\nrequire_certificate true\nuse_subject_as_username true\n");
    refused(TLS "require_certificate true\n", 4, "needs cafile or capath");
    warns(TLS "cafile a\nuse_identity_as_username true\n",
          "none is asked for without 'require_certificate true'");
    warns(TLS "cafile a\nuse_subject_as_username true\n",
          "none is asked for without 'require_certificate true'");
    warns(OPEN TLS "cafile a\ncrlfile r\n", "crlfile has no effect");
    warns(TLS
          "cafile a\nrequire_certificate true\nuse_identity_as_username true\nuse_subject_as_username true\n",
          "use_subject_as_username has no effect");
}

static void websocket_options(void **state)
{
    (void)state;
    fine(OPEN "listener 1\nhttp_dir /w\nwebsockets_origin o\nprotocol websockets\n");
    refused(OPEN "listener 1\nhttp_dir /w\n", 3, "http_dir needs 'protocol websockets'");
    refused(OPEN "listener 1\nwebsockets_origin o\n", 3, "websockets_origin needs 'protocol websockets'");
    refused("websockets_origin o\n", 1, "requires a listener");
}

static void two_listeners_on_one_socket(void **state)
{
    (void)state;
    refused(OPEN "listener 1883\nlistener 1884\nlistener 1883\n", 4,
            "the same port and address as the one at ");
    refused(OPEN "listener 1883 Localhost\nlistener 1883 localhost\n", 3, "the same port and address");
    refused(OPEN "listener 0 /a\nlistener 0 /a\n", 3, "the same port and address");
    refused(OPEN "port 1883\nlistener 1883\n", 3, "the same port and address");
    refused(OPEN "listener 1\nbind_interface a\nlistener 1\nbind_interface a\n", 4, "the same port");
    fine(OPEN "listener 1883 127.0.0.1\nlistener 1883 ::1\nlistener 0 /a\nlistener 0 /b\n");
    fine(OPEN "listener 1883\nbind_interface eth0\nlistener 1883\nbind_interface wlan0\n");
    fine(OPEN "listener 1883\nsocket_domain ipv4\nlistener 1883\nsocket_domain ipv6\n");
    warns(OPEN "listener 0 /a\nbind_interface eth0\n", "no effect on a Unix socket");
}

static void who_can_connect_at_all(void **state)
{
    (void)state;
    warns("listener 1883\n", "test.conf:1: Warning: Nobody can connect to this listener");
    fine("listener 1883\npassword_file /p\n");
    fine("listener 1883\npassword_file /p\nallow_anonymous true\n");
    warns("listener 1883 127.0.0.1\nlistener_allow_anonymous true\nlistener 1884\n",
          "test.conf:3: Warning: Nobody");
    warns(OPEN "listener 1\nuse_username_as_clientid true\nclientid_prefixes a\n",
          "must begin with the prefix");
}

static void a_password_file_without_a_listener(void **state)
{
    struct loaded loaded;

    (void)state;
    load_text(&loaded, "password_file /p\n");
    assert_non_null(loaded.config);
    assert_true(loaded.config->securities[0].allow_anonymous); /* as in mosquitto, and only on this machine */
    assert_true(loaded.config->listeners[0].loopback_only);
    assert_non_null(
        strstr(loaded.warnings, "Anonymous clients are allowed although there is a password_file"));
    config_free(loaded.config);
    load_text(&loaded, "password_file /p\nallow_anonymous true\n");
    assert_null(strstr(loaded.warnings, "Anonymous clients"));
    config_free(loaded.config);
}

static void persistence(void **state)
{
    struct config *c = good_with(OPEN "listener 1\npersistence true\n", NULL);

    (void)state;
    assert_true(c->persistence);
    assert_string_equal(c->persistence_path, "bramble.db");
    assert_int_equal(c->persistence_at.line, 3);
    assert_int_equal(c->persistence_sync, SYNC_FULL);
    config_free(c);
    c = good_with(OPEN "listener 1\nretained_persistence true\n", NULL);
    assert_true(c->persistence);
    config_free(c);
    c = good_with(OPEN "listener 1\npersistence false\n", NULL);
    assert_false(c->persistence);
    assert_null(c->persistence_path);
    config_free(c);
    warns(OPEN "listener 1\nautosave_interval 1800\npersistence true\n",
          "'autosave_interval' has no effect: with `persistence true` each change is on disk before");
    warns(OPEN "listener 1\nautosave_on_changes true\n", "'autosave_on_changes' has no effect");
}

static void the_path_of_the_store(void **state)
{
    static const char *const lines[][2] = {
        {"persistence_location /var/lib/bramble/\n", "/var/lib/bramble/bramble.db"},
        {"persistence_location /var/lib/bramble\n", "/var/lib/bramble/bramble.db"},
        {"persistence_location /\n", "/bramble.db"},
        {"persistence_location here\n", "here/bramble.db"},
        {"persistence_location /a b/\npersistence_file c d\n", "/a b/c d"},
        {"persistence_file /srv/x.db\n", "/srv/x.db"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char text[200];
        struct config *c;

        snprintf(text, sizeof text, OPEN "listener 1\npersistence true\n%s", lines[i][0]);
        c = good_with(text, NULL);
        assert_string_equal(c->persistence_path, lines[i][1]);
        config_free(c);
    }
}

static void options_of_a_store_that_is_not_there(void **state)
{
    static const char *const lines[] = {
        "persistence_commit_delay 100",
        "persistence_file a",
        "persistence_hold_timeout 5",
        "persistence_lazy_delay 1",
        "persistence_location /var/lib/mosquitto/",
        "persistence_min_free 1",
        "persistence_sync full",
        "queue_memory_limit 1",
    };

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char text[200];

        snprintf(text, sizeof text, OPEN "listener 1\n%s\n", lines[i]);
        warns(text, "has no effect without 'persistence true'");
        snprintf(text, sizeof text, OPEN "listener 1\n%s\npersistence true\n", lines[i]);
        fine(text);
    }
}

static void what_a_sync_can_lose_is_said(void **state)
{
    struct config *c;

    (void)state;
    fine(OPEN "listener 1\npersistence true\npersistence_sync full\n");
    c = good_with(OPEN "listener 1\npersistence true\npersistence_sync normal\n", "the last minutes");
    assert_int_equal(c->persistence_sync, SYNC_NORMAL);
    config_free(c);
    c = good_with(OPEN "listener 1\npersistence true\npersistence_sync off\n", "the whole store");
    assert_int_equal(c->persistence_sync, SYNC_OFF);
    config_free(c);
    refused("persistence_sync on\n", 1, "It must be full, normal or off.");
}

static bool uncounted(const char *text)
{
    struct config *c = good(text);
    bool stored = c->persistence && c->stored_uncounted;

    config_free(c);
    return stored;
}

/* A limit by count would break the promise, unless an administrator sets it so. */
static void what_is_stored_is_not_counted(void **state)
{
    (void)state;
    assert_false(uncounted("listener 1\n"));
    assert_true(uncounted("listener 1\npersistence true\n"));
    assert_false(uncounted("listener 1\npersistence true\nmax_queued_messages 1000\n"));
    assert_false(uncounted("listener 1\nmax_queued_messages 7\npersistence true\n"));
}

/* ---- the command line ---- */

static struct config *with_args(const char *text, struct config_args args, struct loaded *loaded)
{
    if (text) {
        args.path = write_text("args.conf", text);
    }
    load_args(loaded, &args);
    assert_non_null(loaded->config);
    return loaded->config;
}

static void a_store_that_depends_on_where_it_is_started(void **state)
{
    struct loaded loaded;
    const struct config_args background = {.daemon = true};

    (void)state;
    config_free(with_args(OPEN "listener 1\npersistence true\n", background, &loaded));
    assert_int_equal(loaded.warning_count, 1);
    assert_non_null(strstr(loaded.warnings, "args.conf:3: Warning: bramble.db, the store, is sought from"));
    config_free(
        with_args(OPEN "listener 1\npersistence true\npersistence_location x\n", background, &loaded));
    assert_non_null(strstr(loaded.warnings, "args.conf:4: Warning: x/bramble.db, the store"));
    config_free(
        with_args(OPEN "listener 1\npersistence true\npersistence_location /x\n", background, &loaded));
    assert_int_equal(loaded.warning_count, 0);
}

static void no_file(void **state)
{
    struct loaded loaded;
    struct config *c = with_args(NULL, (struct config_args){.port = 0}, &loaded);

    (void)state;
    assert_null(c->path);
    assert_int_equal(c->listener_count, 1);
    assert_int_equal(c->listeners[0].port, 1883);
    assert_null(c->listeners[0].host);
    assert_true(c->listeners[0].loopback_only);
    assert_null(c->listeners[0].file);
    assert_true(c->listeners[0].security->allow_anonymous);
    assert_int_equal(loaded.warning_count, 1);
    assert_memory_equal(loaded.warnings, "Warning: No listener is defined", 31);
    config_free(c);
    c = with_args(NULL, (struct config_args){.port = 1999}, &loaded);
    assert_int_equal(c->listeners[0].port, 1999);
    assert_true(c->listeners[0].loopback_only);
    assert_true(c->listeners[0].security->allow_anonymous);
    config_free(c);
}

static void port_with_a_file(void **state)
{
    const struct config_args args = {.port = 1999};
    struct loaded loaded;
    struct config *c = with_args("max_qos 1\n", args, &loaded);

    (void)state;
    assert_int_equal(c->listeners[0].port, 1999);
    assert_int_equal(c->listeners[0].max_qos, 1);
    assert_true(c->listeners[0].loopback_only);
    config_free(c);

    c = with_args("port 1884\n", args, &loaded);
    assert_int_equal(c->listener_count, 1);
    assert_int_equal(c->listeners[0].port, 1999);
    assert_false(c->listeners[0].loopback_only);
    assert_non_null(strstr(loaded.warnings, "'-p 1999' is used instead of 'port 1884'"));
    config_free(c);

    c = with_args("bind_address 127.0.0.1\n", args, &loaded);
    assert_int_equal(c->listeners[0].port, 1999);
    config_free(c);

    c = with_args("listener 1884\n", args, &loaded);
    assert_int_equal(c->listener_count, 1);
    assert_int_equal(c->listeners[0].port, 1884);
    assert_false(c->securities[0].allow_anonymous);
    assert_non_null(strstr(loaded.warnings, "'-p 1999' is ignored"));
    config_free(c);
}

static void verbose_and_quiet(void **state)
{
    struct loaded loaded;
    struct config *c =
        with_args("log_type error\n", (struct config_args){.verbose = true, .daemon = true}, &loaded);

    (void)state;
    assert_int_equal(c->log_type, LOG_T_ALL);
    assert_true(c->verbose && c->daemon && !c->quiet);
    config_free(c);
    c = with_args("log_type all\n", (struct config_args){.verbose = true, .quiet = true}, &loaded);
    assert_int_equal(c->log_type, 0);
    assert_true(c->quiet && !c->verbose);
    config_free(c);
}

static void no_one_needs_to_listen_to_warnings(void **state)
{
    const struct config_args args = {.path = write_text("test.conf", "autosave_interval 3\n")};
    const struct config_args wrong = {.path = write_text("wrong.conf", "x\n")};
    struct config *c = config_load(&args, NULL, NULL, NULL);

    (void)state;
    assert_non_null(c);
    config_free(c);
    assert_null(config_load(&wrong, NULL, NULL, NULL));
    config_free(NULL);
}

/* ---- files people have ---- */

static void the_file_of_the_paper(void **state)
{
    struct config *c = good_with("listener 1883\n"
                                 "cafile /etc/mosquitto/certs/ca.crt\n"
                                 "certfile /etc/mosquitto/certs/server.crt\n"
                                 "keyfile /etc/mosquitto/certs/server.key\n"
                                 "password_file /etc/mosquitto/passwd\n"
                                 "allow_anonymous false\n",
                                 NULL);
    const struct config_listener *l = &c->listeners[0];

    (void)state;
    assert_int_equal(c->listener_count, 1);
    assert_int_equal(l->port, 1883);
    assert_true(l->tls);
    assert_string_equal(l->cafile, "/etc/mosquitto/certs/ca.crt");
    assert_string_equal(l->certfile, "/etc/mosquitto/certs/server.crt");
    assert_string_equal(l->keyfile, "/etc/mosquitto/certs/server.key");
    assert_string_equal(l->security->password_file, "/etc/mosquitto/passwd");
    assert_false(l->security->allow_anonymous);
    assert_false(l->require_certificate);
    config_free(c);
}

static void debians_file(void **state)
{
    char text[600];
    struct loaded loaded;

    (void)state;
    assert_int_equal(mkdir(path_of("conf.d"), 0700), 0);
    write_text("conf.d/README",
               "Any files placed in this directory that have a .conf ending will be loaded\n");
    snprintf(text, sizeof text,
             "# Place your local configuration in /etc/mosquitto/conf.d/\n#\n\n"
             "pid_file /run/mosquitto/mosquitto.pid\n\n"
             "persistence true\npersistence_location /var/lib/mosquitto/\n\n"
             "log_dest file /var/log/mosquitto/mosquitto.log\n\n"
             "include_dir %s/conf.d\n",
             folder());
    load_text(&loaded, text);
    assert_non_null(loaded.config);
    assert_string_equal(loaded.config->pid_file, "/run/mosquitto/mosquitto.pid");
    assert_string_equal(loaded.config->log_file, "/var/log/mosquitto/mosquitto.log");
    assert_int_equal(loaded.config->log_dest, LOG_D_FILE);
    assert_string_equal(loaded.config->persistence_path, "/var/lib/mosquitto/bramble.db");
    assert_true(loaded.config->listeners[0].loopback_only);
    assert_int_equal(loaded.warning_count, 1);
    config_free(loaded.config);
}

static void the_samples_load(void **state)
{
    static const char *const samples[] = {"config/bramble.conf", "config/paper.conf"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct loaded loaded;

        load_path(&loaded, samples[i]);
        if (!loaded.config || loaded.warning_count) {
            fail_msg("%s %s", loaded.err.text, loaded.warnings);
        }
        assert_false(loaded.config->securities[0].allow_anonymous);
        assert_non_null(loaded.config->securities[0].password_file);
        config_free(loaded.config);
    }
}

/* The sample says which lines it has commented out; they too must be possible. */
static void the_commented_lines_of_the_sample_load(void **state)
{
    char text[20000] = "", line[300];
    FILE *f = fopen("config/bramble.conf", "r");
    size_t uncommented = 0;

    (void)state;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        bool option = line[0] == '#' && line[1] >= 'a' && line[1] <= 'z';

        uncommented += option;
        strcat(text, option ? line + 1 : line);
    }
    fclose(f);
    assert_int_equal(uncommented, 12);
    fine(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificate_and_key),
        cmocka_unit_test(tls_options_without_tls),
        cmocka_unit_test(client_certificates),
        cmocka_unit_test(websocket_options),
        cmocka_unit_test(two_listeners_on_one_socket),
        cmocka_unit_test(who_can_connect_at_all),
        cmocka_unit_test(a_password_file_without_a_listener),
        cmocka_unit_test(persistence),
        cmocka_unit_test(the_path_of_the_store),
        cmocka_unit_test(options_of_a_store_that_is_not_there),
        cmocka_unit_test(what_a_sync_can_lose_is_said),
        cmocka_unit_test(what_is_stored_is_not_counted),
        cmocka_unit_test(a_store_that_depends_on_where_it_is_started),
        cmocka_unit_test(no_file),
        cmocka_unit_test(port_with_a_file),
        cmocka_unit_test(verbose_and_quiet),
        cmocka_unit_test(no_one_needs_to_listen_to_warnings),
        cmocka_unit_test(the_file_of_the_paper),
        cmocka_unit_test(debians_file),
        cmocka_unit_test(the_samples_load),
        cmocka_unit_test(the_commented_lines_of_the_sample_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
