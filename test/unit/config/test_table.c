/*
 * test_table.c - every row of directives.def: known, with the right default, held to its bounds; every name
 * of mosquitto's manuals is known; the nearest name; the dump.
 */
#include "broker/log.h"
#include "config/table.h"
#include "config/value.h"
#include "test/unit/config/helper.h"
#include <inttypes.h>
#include <unistd.h>

/* All options of mosquitto.conf(5) of 2.0 and 2.1, and those its parsers know besides. Written down here by
 * hand, so that a row lost from the table is found. */
static const char *const manual[] = {
    "accept_protocol_versions",
    "acl_file",
    "acl_refuse_unreadable",
    "address",
    "addresses",
    "allow_anonymous",
    "allow_duplicate_messages",
    "allow_zero_length_clientid",
    "auth_opt_host",
    "auth_plugin",
    "auth_plugin_deny_special_chars",
    "auto_id_prefix",
    "autosave_interval",
    "autosave_on_changes",
    "bind_address",
    "bind_interface",
    "bridge_alpn",
    "bridge_attempt_unsubscribe",
    "bridge_bind_address",
    "bridge_cafile",
    "bridge_capath",
    "bridge_certfile",
    "bridge_ciphers",
    "bridge_ciphers_tls1.3",
    "bridge_identity",
    "bridge_insecure",
    "bridge_keyfile",
    "bridge_max_packet_size",
    "bridge_max_topic_alias",
    "bridge_outgoing_retain",
    "bridge_protocol_version",
    "bridge_psk",
    "bridge_receive_maximum",
    "bridge_reload_type",
    "bridge_require_ocsp",
    "bridge_session_expiry_interval",
    "bridge_tcp_keepalive",
    "bridge_tcp_user_timeout",
    "bridge_tls_use_os_certs",
    "bridge_tls_version",
    "cafile",
    "capath",
    "certfile",
    "check_retain_source",
    "ciphers",
    "ciphers_tls1.3",
    "cleansession",
    "clientid",
    "clientid_prefixes",
    "connection",
    "connection_messages",
    "crlfile",
    "dhparamfile",
    "disable_client_cert_date_checks",
    "enable_control_api",
    "enable_proxy_protocol",
    "global_max_clients",
    "global_max_connections",
    "global_plugin",
    "http_dir",
    "idle_timeout",
    "include_dir",
    "keepalive_interval",
    "keyfile",
    "listener",
    "listener_allow_anonymous",
    "listener_auto_id_prefix",
    "local_cleansession",
    "local_clientid",
    "local_password",
    "local_username",
    "log_dest",
    "log_facility",
    "log_timestamp",
    "log_timestamp_format",
    "log_type",
    "max_connections",
    "max_inflight_bytes",
    "max_inflight_messages",
    "max_keepalive",
    "max_packet_size",
    "max_qos",
    "max_queued_bytes",
    "max_queued_messages",
    "max_topic_alias",
    "max_topic_alias_broker",
    "maximum_qos",
    "memory_limit",
    "message_size_limit",
    "mount_point",
    "notification_topic",
    "notifications",
    "notifications_local_only",
    "packet_buffer_size",
    "password",
    "password_file",
    "per_listener_settings",
    "persistence",
    "persistence_file",
    "persistence_location",
    "persistent_client_expiration",
    "pid_file",
    "plugin",
    "plugin_load",
    "plugin_opt_x",
    "plugin_use",
    "port",
    "protocol",
    "proxy_protocol_v2_require_tls",
    "psk_file",
    "psk_hint",
    "queue_qos0_messages",
    "remote_clientid",
    "remote_password",
    "remote_username",
    "require_certificate",
    "restart_timeout",
    "retain_available",
    "retain_expiry_interval",
    "retained_persistence",
    "retry_interval",
    "round_robin",
    "set_tcp_nodelay",
    "socket_domain",
    "start_type",
    "sys_interval",
    "threshold",
    "tls_engine",
    "tls_engine_kpass_sha1",
    "tls_keyform",
    "tls_version",
    "topic",
    "try_private",
    "upgrade_outgoing_qos",
    "use_identity_as_username",
    "use_subject_as_username",
    "use_username_as_clientid",
    "user",
    "username",
    "websockets_headers_size",
    "websockets_log_level",
    "websockets_origin",
    /* bramble's own */
    "access_log_file",
    "access_log_journal",
    "access_log_rate",
    "access_log_topic",
    "auth_ban_failures",
    "auth_ban_time",
    "auth_ban_window",
    "auth_cache",
    "auth_fail_delay",
    "auth_threads",
    "auth_timeout",
    "connect_timeout",
    "discard_session_of_other_user",
    "handshake_timeout",
    "ignore_bridges",
    "log_strangers_rate",
    "max_topic_levels",
    "max_queued_burst",
    "persistence_commit_delay",
    "persistence_hold_timeout",
    "persistence_lazy_delay",
    "persistence_min_free",
    "persistence_sync",
    "queue_memory_limit",
    "tls_threads",
};

static void every_name_of_the_manuals_is_known(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof manual / sizeof manual[0]; i++) {
        if (!directive_find(manual[i])) {
            fail_msg("%s is not known", manual[i]);
        }
    }
}

static void every_row_is_in_the_manuals(void **state)
{
    (void)state;
    for (size_t i = 0; i < directive_count; i++) {
        const struct directive *d = &directive_table[i];
        size_t n = 0;

        for (size_t k = 0; k < sizeof manual / sizeof manual[0]; k++) {
            n += directive_find(manual[k]) == d;
        }
        if (strcmp(d->name, "store_clean_interval") != 0 && n != 1) {
            fail_msg("%s is there %zu times", d->name, n);
        }
    }
}

static void names_are_unique_and_noted(void **state)
{
    (void)state;
    for (size_t i = 0; i < directive_count; i++) {
        assert_ptr_equal(directive_find(directive_table[i].name), &directive_table[i]);
        assert_int_equal(directive_index(&directive_table[i]), i);
        assert_true(strlen(directive_table[i].note) > 5);
        assert_non_null(directive_target(&directive_table[i]));
        assert_int_not_equal(directive_target(&directive_table[i])->kind, KIND_ALIAS);
    }
}

static void defaults_of_general_options(void **state)
{
    struct loaded loaded;
    const struct config_args args = {.path = NULL};
    const struct config *c;

    (void)state;
    load_args(&loaded, &args);
    c = loaded.config;
    assert_non_null(c);
    assert_false(c->per_listener_settings);
    assert_int_equal(c->max_inflight_messages, 20);
    assert_int_equal(c->max_inflight_bytes, 0);
    assert_int_equal(c->max_queued_messages, 1000);
    assert_int_equal(c->max_queued_bytes, 0);
    assert_int_equal(c->max_packet_size, 2000000);
    assert_int_equal(c->message_size_limit, 0);
    assert_int_equal(c->max_keepalive, 0);
    assert_int_equal(c->global_max_connections, -1);
    assert_int_equal(c->global_max_clients, -1);
    assert_int_equal(c->memory_limit,
                     (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2);
    assert_false(c->queue_qos0_messages);
    assert_false(c->upgrade_outgoing_qos);
    assert_true(c->retain_available);
    assert_true(c->check_retain_source);
    assert_false(c->acl_refuse_unreadable);
    assert_null(c->clientid_prefixes);
    assert_int_equal(c->persistent_client_expiration, 0);
    assert_false(c->set_tcp_nodelay);
    assert_int_equal(c->sys_interval, 10);
    assert_int_equal(c->max_topic_levels, 201);
    assert_int_equal(c->max_queued_burst, 9000);
    assert_int_equal(c->connect_timeout, 10);
    assert_int_equal(c->handshake_timeout, 10);
    assert_int_equal(c->auth_threads, 0);
    assert_int_equal(c->auth_cache, 4096);
    assert_int_equal(c->auth_fail_delay, 1000);
    assert_int_equal(c->auth_timeout, 20);
    assert_int_equal(c->auth_ban_failures, 10);
    assert_int_equal(c->auth_ban_window, 60);
    assert_int_equal(c->auth_ban_time, 300);
    assert_false(c->discard_session_of_other_user);
    assert_int_equal(c->tls_threads, 0);
    assert_false(c->persistence);
    assert_null(c->persistence_location);
    assert_string_equal(c->persistence_file, "bramble.db");
    assert_null(c->persistence_path);
    assert_int_equal(c->persistence_commit_delay, 250);
    assert_int_equal(c->persistence_lazy_delay, 5000);
    assert_int_equal(c->persistence_sync, SYNC_FULL);
    assert_int_equal(c->persistence_hold_timeout, 60);
    assert_int_equal(c->persistence_min_free, 16777216);
    assert_int_equal(c->queue_memory_limit, 16777216);
    assert_true(c->stored_uncounted);
    assert_false(c->ignore_bridges);
    assert_int_equal(c->websockets_headers_size, 0);
    assert_int_equal(c->log_dest, LOG_D_STDERR);
    assert_int_equal(c->log_type, LOG_T_DEFAULT);
    assert_null(c->log_file);
    assert_null(c->log_facility);
    assert_true(c->log_timestamp);
    assert_null(c->log_timestamp_format);
    assert_true(c->connection_messages);
    assert_null(c->access_log_topic);
    assert_null(c->access_log_file);
    assert_false(c->access_log_journal);
    assert_int_equal(c->access_log_rate, 100);
    assert_int_equal(c->log_strangers_rate, 100);
    assert_false(c->daemon || c->verbose || c->quiet);
    assert_null(c->pid_file);
    assert_string_equal(c->user, "bramble");
    assert_null(c->path);
    config_free(loaded.config);
}

static void defaults_of_a_listener(void **state)
{
    struct config *c = good("listener 1883\n");
    const struct config_listener *l = &c->listeners[0];

    (void)state;
    assert_int_equal(c->listener_count, 1);
    assert_int_equal(l->line, 1);
    assert_string_equal(l->file, c->path);
    assert_int_equal(l->number, 0);
    assert_int_equal(l->port, 1883);
    assert_null(l->host);
    assert_null(l->unix_path);
    assert_null(l->bind_interface);
    assert_int_equal(l->socket_domain, DOMAIN_ANY);
    assert_int_equal(l->protocol, PROTOCOL_MQTT);
    assert_false(l->loopback_only);
    assert_int_equal(l->max_connections, -1);
    assert_int_equal(l->max_qos, 2);
    assert_null(l->mount_point);
    assert_false(l->use_username_as_clientid);
    assert_int_equal(l->accept_protocol_versions, 1 << 3 | 1 << 4 | 1 << 5);
    assert_false(l->tls);
    assert_null(l->cafile);
    assert_null(l->capath);
    assert_null(l->certfile);
    assert_null(l->keyfile);
    assert_null(l->crlfile);
    assert_null(l->ciphers);
    assert_null(l->ciphers_tls13);
    assert_null(l->tls_version);
    assert_false(l->require_certificate || l->use_identity_as_username || l->use_subject_as_username);
    assert_null(l->http_dir);
    assert_int_equal(l->websockets_origins, 0);
    assert_int_equal(l->websockets_headers_size, 0);
    assert_ptr_equal(l->security, &c->securities[0]);
    assert_false(l->security->allow_anonymous);
    assert_true(l->security->allow_zero_length_clientid);
    assert_string_equal(l->security->auto_id_prefix, "auto-");
    assert_null(l->security->password_file);
    assert_null(l->security->acl_file);
    config_free(c);
}

/* What must come before an option so that nothing but the option itself can be wrong. */
static const char *before(const struct directive *d)
{
    if (d->type == TYPE_ORIGIN || d->scope != SCOPE_GENERAL || d->kind != KIND_OPTION) {
        return "listener 1883\nprotocol websockets\ncertfile c\nkeyfile k\n";
    }
    return "";
}

static bool is_number(const struct directive *d)
{
    return d->type == TYPE_INT || d->type == TYPE_LIMIT || d->type == TYPE_U32 || d->type == TYPE_COUNT ||
           d->type == TYPE_U64 || d->type == TYPE_BYTES || d->type == TYPE_LOG_FACILITY;
}

static struct loaded try_value(const struct directive *d, const char *value)
{
    struct loaded loaded;
    char text[512];

    snprintf(text, sizeof text, "%s%s %s\n", before(d), d->name, value);
    load_text(&loaded, text);
    return loaded;
}

static void accepts(const struct directive *d, const char *value)
{
    struct loaded loaded = try_value(d, value);

    if (!loaded.config) {
        fail_msg("%s %s: %s", d->name, value, loaded.err.text);
    }
    config_free(loaded.config);
}

static void rejects(const struct directive *d, const char *value)
{
    struct loaded loaded = try_value(d, value);

    if (loaded.config) {
        fail_msg("%s %s was accepted", d->name, value);
    }
    if (!strstr(loaded.err.text, d->name)) {
        fail_msg("%s %s: %s", d->name, value, loaded.err.text);
    }
}

static void numbers_keep_to_their_bounds(void **state)
{
    size_t seen = 0;

    (void)state;
    for (size_t i = 0; i < directive_count; i++) {
        const struct directive *d = &directive_table[i];
        char value[40];

        if (!is_number(d)) {
            continue;
        }
        seen++;
        snprintf(value, sizeof value, "%" PRId64, d->low);
        accepts(d, value);
        snprintf(value, sizeof value, "%" PRId64, d->high);
        accepts(d, value);
        if (d->low > INT64_MIN) {
            snprintf(value, sizeof value, "%" PRId64, d->low - 1);
            rejects(d, value);
        }
        if (d->high < INT64_MAX) {
            snprintf(value, sizeof value, "%" PRId64, d->high + 1);
            rejects(d, value);
        }
        rejects(d, "99999999999999999999");
        rejects(d, "-99999999999999999999");
        rejects(d, "ten");
        rejects(d, "30s");
        rejects(d, "30 40");
        rejects(d, "030");
        rejects(d, "+30");
        rejects(d, "3.5");
        rejects(d, "0x");
        rejects(d, "-");
    }
    assert_true(seen > 20);
}

static void booleans_are_true_or_false(void **state)
{
    size_t seen = 0;

    (void)state;
    for (size_t i = 0; i < directive_count; i++) {
        const struct directive *d = &directive_table[i];

        if (d->type != TYPE_BOOL && d->type != TYPE_PER_LISTENER) {
            continue;
        }
        seen++;
        rejects(d, "yes");
        rejects(d, "TRUE");
        rejects(d, "2");
        rejects(d, "true false");
        if (strstr(d->name, "_as_username") == NULL && d->kind != KIND_ONLY && d->type != TYPE_PER_LISTENER &&
            strcmp(d->name, "require_certificate") != 0) {
            accepts(d, "true");
            accepts(d, "1");
        }
        accepts(d, "false");
        accepts(d, "0");
        accepts(d, "false # said so");
    }
    assert_true(seen > 20);
}

/* No directive may take an empty value for something: above all not one about security. */
static void nothing_may_be_empty(void **state)
{
    (void)state;
    for (size_t i = 0; i < directive_count; i++) {
        const struct directive *d = &directive_table[i];
        bool bridge = d->kind == KIND_BRIDGE && strcmp(d->name, "connection") != 0;

        if (d->type == TYPE_ANY || bridge || d->kind == KIND_REFUSED || d->kind == KIND_ALIAS) {
            continue;
        }
        for (int form = 0; form < 3; form++) {
            const char *const blanks[] = {"", "  ", " \t "};
            struct loaded loaded = try_value(d, blanks[form]);

            if (loaded.config || !strstr(loaded.err.text, "Empty '")) {
                fail_msg("%s: %s", d->name, loaded.err.text);
            }
        }
    }
}

static void texts_are_kept_whole_and_said_once(void **state)
{
    size_t seen = 0;

    (void)state;
    for (size_t i = 0; i < directive_count; i++) {
        const struct directive *d = &directive_table[i];
        struct loaded loaded;
        char text[512];

        if (d->kind != KIND_OPTION || !value_is_text(d) || d->type == TYPE_TLS_VERSION ||
            strcmp(d->name, "certfile") == 0 || strcmp(d->name, "keyfile") == 0) {
            continue;
        }
        seen++;
        accepts(d, "a b c");
        snprintf(text, sizeof text, "%s%s x\n%s y\n", before(d), d->name, d->name);
        load_text(&loaded, text);
        assert_null(loaded.config);
        assert_non_null(strstr(loaded.err.text, "Duplicate '"));
        if (d->high) {
            char longest[128];

            memset(longest, 'x', sizeof longest);
            longest[d->high] = '\0';
            accepts(d, longest);
            longest[d->high] = 'x';
            longest[d->high + 1] = '\0';
            rejects(d, longest);
        }
    }
    assert_true(seen > 12);
}

static void accepted_ones_warn_and_say_why(void **state)
{
    (void)state;
    for (size_t i = 0; i < directive_count; i++) {
        const struct directive *d = &directive_table[i];
        char text[200];

        if (d->kind == KIND_ACCEPTED) {
            snprintf(text, sizeof text, "listener 1883\nallow_anonymous true\n%s %s\n", d->name,
                     d->type == TYPE_BOOL ? "true" : "7");
            warns(text, d->note);
        }
    }
}

static void refused_ones_say_what_to_do(void **state)
{
    (void)state;
    for (size_t i = 0; i < directive_count; i++) {
        const struct directive *d = &directive_table[i];
        char text[200];

        if (d->kind == KIND_REFUSED) {
            snprintf(text, sizeof text, "listener 1883\n%s x\n", d->name);
            refused(text, 2, d->note);
        }
        if (d->kind == KIND_ONLY) {
            snprintf(text, sizeof text, "listener 1883\n\n%s %s\n", d->name,
                     strcmp(d->fallback, "true") == 0 ? "false" : "true");
            refused(text, 3, d->note);
            snprintf(text, sizeof text, "listener 1883\nallow_anonymous true\n%s %s\n", d->name, d->fallback);
            fine(text);
        }
    }
}

static void similar_names_are_suggested(void **state)
{
    (void)state;
    assert_string_equal(directive_nearest("listner"), "listener");
    assert_string_equal(directive_nearest("pasword_file"), "password_file");
    assert_string_equal(directive_nearest("allow_annonymous"), "allow_anonymous");
    assert_string_equal(directive_nearest("max_quequed_messages"), "max_queued_messages");
    assert_string_equal(directive_nearest("user_name"), "username");
    assert_null(directive_nearest("bandwidth"));
    assert_null(directive_nearest(""));
    assert_null(directive_nearest("x"));
    assert_null(
        directive_nearest("a_name_that_is_much_longer_than_any_directive_of_any_broker_in_the_world"));
}

static void the_dump_has_a_line_for_each(void **state)
{
    char *text = NULL;
    size_t size = 0, lines = 0;
    FILE *out = open_memstream(&text, &size);

    (void)state;
    assert_non_null(out);
    config_dump(out);
    assert_int_equal(fclose(out), 0);
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        size_t tabs = 0;

        for (const char *c = line; *c; c++) {
            tabs += *c == '\t';
        }
        assert_int_equal(tabs, 8);
        assert_memory_equal(line, directive_table[lines].name, strlen(directive_table[lines].name));
        lines++;
    }
    assert_int_equal(lines, directive_count);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_of_the_manuals_is_known),
        cmocka_unit_test(every_row_is_in_the_manuals),
        cmocka_unit_test(names_are_unique_and_noted),
        cmocka_unit_test(defaults_of_general_options),
        cmocka_unit_test(defaults_of_a_listener),
        cmocka_unit_test(numbers_keep_to_their_bounds),
        cmocka_unit_test(booleans_are_true_or_false),
        cmocka_unit_test(nothing_may_be_empty),
        cmocka_unit_test(texts_are_kept_whole_and_said_once),
        cmocka_unit_test(accepted_ones_warn_and_say_why),
        cmocka_unit_test(refused_ones_say_what_to_do),
        cmocka_unit_test(similar_names_are_suggested),
        cmocka_unit_test(the_dump_has_a_line_for_each),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
