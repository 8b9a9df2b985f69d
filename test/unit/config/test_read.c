/*
 * test_read.c - the form of the files: comments, blanks, CRLF, bad bytes; include_dir. Every message names
 * the file and the line.
 */
#include "test/unit/config/helper.h"

/* ---- the form ---- */

static void comments_and_blank_lines(void **state)
{
    struct config *c = good_with("# a comment\n"
                                 "\n"
                                 "   \n"
                                 "\t\n"
                                 "  # with blanks before\n"
                                 "#listener 1884\n"
                                 "listener 1883 # the usual one\n"
                                 "allow_anonymous true # for now\n"
                                 "max_queued_messages 5 #five\n",
                                 NULL);

    (void)state;
    assert_int_equal(c->listener_count, 1);
    assert_int_equal(c->listeners[0].line, 7);
    assert_null(c->listeners[0].host);
    assert_int_equal(c->max_queued_messages, 5);
    config_free(c);
}

static void blanks_around_values(void **state)
{
    struct config *c = good("  listener\t 1883 \t localhost  \n"
                            "password_file    /etc/my passwd # file \t \n"
                            "log_timestamp_format %H:%M  %S\n"
                            "allow_anonymous   false   \n");

    (void)state;
    assert_string_equal(c->listeners[0].host, "localhost");
    assert_string_equal(c->listeners[0].security->password_file, "/etc/my passwd # file");
    assert_string_equal(c->log_timestamp_format, "%H:%M  %S");
    config_free(c);
}

static void crlf_and_no_end_of_line(void **state)
{
    struct config *c = good("listener 1883\r\npassword_file /p\r\r\n\r\n# x\r\nmax_qos 1");

    (void)state;
    assert_string_equal(c->listeners[0].security->password_file, "/p");
    assert_int_equal(c->listeners[0].max_qos, 1);
    config_free(c);
    config_free(good("\xEF\xBB\xBFlistener 1883\n")); /* a byte order mark */
    refused("listener 1883\n\r\nmax_qos\r 1\r\n", 3, "UTF-8");
}

static void quotes_are_ordinary_letters(void **state)
{
    struct config *c = good("listener 1883\npassword_file \"/p\"\n");

    (void)state;
    assert_string_equal(c->securities[0].password_file, "\"/p\"");
    config_free(c);
    refused("listener \"1883\"\n", 1, "not a number");
}

static void refused_bytes(const void *bytes, size_t n, int line, const char *words)
{
    const char *path = write_bytes("bytes.conf", bytes, n);
    struct loaded loaded;
    char start[300];

    load_path(&loaded, path);
    assert_null(loaded.config);
    snprintf(start, sizeof start, "%s:%d: Error: ", path, line);
    assert_memory_equal(loaded.err.text, start, strlen(start));
    assert_non_null(strstr(loaded.err.text, words));
}

static void bad_bytes(void **state)
{
    static const char *const malformed[] = {
        "user \xFF\n",
        "user \x80\n",
        "user \xC3\n",
        "user \xC0\xAF\n",
        "user \xE0\x80\xAF\n",
        "user \xED\xA0\x80\n",
        "user \xF5\x80\x80\x80\n",
        "user \xF4\x90\x80\x80\n",
        "user a\x01z\n",
        "user a\x7Fz\n",
        "user \xC2\x85\n",
        "user a\x1Bz\n",
    };
    static const char zero[] = "listener 1883\nuser a\0b\n";
    static const char zero_comment[] = "#\0\n";

    (void)state;
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        refused(malformed[i], 1, "Malformed UTF-8");
    }
    refused_bytes(zero, sizeof zero - 1, 2, "zero byte");
    refused_bytes(zero_comment, sizeof zero_comment - 1, 1, "zero byte");
    config_free(good("# caf\xE9 in Latin-1\nuser caf\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\n"));
}

static void long_lines_and_files(void **state)
{
    size_t n = 65536;
    char *line = malloc(n + 64);

    (void)state;
    assert_non_null(line);
    memset(line, 'x', n + 64);
    memcpy(line, "user ", 5);
    line[n] = '\n';
    {
        const char *path = write_bytes("bytes.conf", line, n + 1);
        struct loaded loaded;

        load_path(&loaded, path);
        assert_non_null(loaded.config);
        assert_int_equal(strlen(loaded.config->user), n - 5);
        config_free(loaded.config);
    }
    line[n] = 'x';
    line[n + 1] = '\n';
    refused_bytes(line, n + 2, 1, "longer than 65536 bytes");
    line[0] = '#';
    refused_bytes(line, n + 2, 1, "longer than 65536 bytes");
    line[0] = 'u';
    line[4] = 'x';
    line[1000] = '\n';
    refused_bytes(line, 1001, 1, "Unknown configuration variable");
    free(line);

    n = (4 << 20) + 1;
    line = malloc(n);
    assert_non_null(line);
    memset(line, '\n', n);
    {
        const char *path = write_bytes("bytes.conf", line, n);
        struct loaded loaded;

        load_path(&loaded, path);
        assert_null(loaded.config);
        assert_non_null(strstr(loaded.err.text, "bytes.conf: Error: Unable to read"));
    }
    free(line);
}

static void no_file(void **state)
{
    struct loaded loaded;

    (void)state;
    load_path(&loaded, folder());
    assert_null(loaded.config);
    assert_non_null(strstr(loaded.err.text, "is a directory"));
    load_path(&loaded, path_of("nothing.conf"));
    assert_null(loaded.config);
    assert_non_null(strstr(loaded.err.text, "nothing.conf: Error: Unable to open config file: No such file"));
    load_path(&loaded, "");
    assert_null(loaded.config);
    load_path(&loaded, "/proc/self/mem");
    assert_null(loaded.config);
    if (geteuid() != 0) {
        const char *path = write_text("secret.conf", "listener 1883\n");

        assert_int_equal(chmod(path, 0), 0);
        load_path(&loaded, path);
        assert_null(loaded.config);
        assert_non_null(strstr(loaded.err.text, "Permission denied"));
    }
}

static void a_long_path_leaves_room_for_the_reason(void **state)
{
    char path[4000];
    struct loaded loaded;

    (void)state;
    memset(path, 'x', sizeof path);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    load_path(&loaded, path);
    assert_null(loaded.config);
    assert_non_null(strstr(loaded.err.text, "Unable to open config file: File name too long."));
    assert_memory_equal(loaded.err.text, "...xxx", 6); /* its end is shown */
}

static void unknown_names(void **state)
{
    (void)state;
    refused("listener 1883\n\nlistner 1884\n", 3,
            "Unknown configuration variable 'listner'. Did you mean 'listener'?");
    refused("zzzzzzzzzz\n", 1, "Unknown configuration variable 'zzzzzzzzzz'.");
    refused("Listener 1883\n", 1, "Did you mean 'listener'?");
    refused("listener= 1883\n", 1, "Did you mean 'listener'?");
}

/* What is no name may be a secret that lies in the wrong place: it is not repeated. */
static void secrets_are_not_shown(void **state)
{
    static const char *const lines[] = {
        "tom:canary\n",
        "tom:$7$101$canarycanary$x\n",
        "canary+canary/canary==\n",
        "canarycanarycanarycanarycanarycanarycanarycanarycanarycanarycana\n",
        "listener 1\npassword canary\n",
        "ignore_bridges true\nconnection a\nremote_password canary\nx:\n",
        "auth_opt_password canary\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct loaded loaded;

        load_text(&loaded, lines[i]);
        assert_null(loaded.config);
        assert_null(strstr(loaded.err.text, "canary"));
    }
}

/* What would never end, or never begin, is not waited for. */
static void no_plain_file(void **state)
{
    const char *pipe = path_of("pipe.conf"), *loop = path_of("loop.conf");
    char text[300];
    struct loaded loaded;

    (void)state;
    assert_int_equal(mkfifo(pipe, 0600), 0);
    load_path(&loaded, pipe);
    assert_null(loaded.config);
    assert_non_null(strstr(loaded.err.text, "pipe.conf: Error: Config file is no file"));
    assert_int_equal(symlink("loop.conf", loop), 0);
    load_path(&loaded, loop);
    assert_null(loaded.config);
    assert_non_null(strstr(loaded.err.text, "Too many levels of symbolic links"));
    load_path(&loaded, "/dev/zero");
    assert_null(loaded.config);
    assert_non_null(strstr(loaded.err.text, "File too large"));
    load_path(&loaded, "/dev/null");
    assert_non_null(loaded.config);
    config_free(loaded.config);
    assert_int_equal(mkdir(path_of("pipes"), 0700), 0);
    assert_int_equal(mkfifo(path_of("pipes/a.conf"), 0600), 0);
    snprintf(text, sizeof text, "include_dir %s/pipes\n", folder());
    refused_in("pipes/a.conf", text, 0, "is no file");
    snprintf(text, sizeof text, "include_dir %s/pipe.conf\n", folder());
    refused(text, 1, "Not a directory");
}

/* ---- include_dir ---- */

static void make_folder(const char *name)
{
    assert_int_equal(mkdir(path_of(name), 0700), 0);
}

static void included_files_come_in_order(void **state)
{
    static const char *const names[] = {"00", "01", "A", "Ab", "a", "aB", "B", "b"};
    char text[300];
    struct config *c;

    (void)state;
    make_folder("order");
    for (size_t i = 0; i < 8; i++) { /* written in another order than wanted */
        size_t k = (i * 5 + 3) % 8;
        char name[40];

        snprintf(name, sizeof name, "order/%s.conf", names[k]);
        snprintf(text, sizeof text, "listener %zu\n", 1000 + k);
        write_text(name, text);
    }
    write_text("order/c.txt", "no directive\n");
    write_text("order/.conf", "no directive\n");
    snprintf(text, sizeof text, "listener 900\ninclude_dir %s/order\nmax_qos 1\n", folder());
    c = good(text);
    assert_int_equal(c->listener_count, 9);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(c->listeners[i + 1].port, 1000 + i);
        assert_int_equal(c->listeners[i + 1].max_qos, 2);
    }
    assert_int_equal(c->listeners[0].max_qos, 1); /* the main file goes on with its own listener */
    assert_int_equal(c->file_count, 9);
    assert_non_null(strstr(c->listeners[4].file, "/order/Ab.conf"));
    config_free(c);
}

static void included_files_start_without_a_listener(void **state)
{
    char text[300];
    struct config *c;

    (void)state;
    make_folder("fresh");
    write_text("fresh/a.conf", "max_connections 5\n");
    snprintf(text, sizeof text, "listener 1900\ninclude_dir %s/fresh\n", folder());
    c = good(text);
    assert_int_equal(c->listener_count, 2);
    assert_int_equal(c->listeners[0].max_connections, -1);
    assert_int_equal(c->listeners[1].port, 1883);
    assert_int_equal(c->listeners[1].max_connections, 5);
    config_free(c);
}

static void mistakes_in_included_files_name_them(void **state)
{
    char text[300];

    (void)state;
    make_folder("wrong");
    write_text("wrong/a.conf", "listener 1883\n\npasword_file /p\n");
    snprintf(text, sizeof text, "# main\ninclude_dir %s/wrong\n", folder());
    refused_in("wrong/a.conf", text, 3, "Did you mean 'password_file'?");
    write_text("wrong/a.conf", "listener 1883\ncertfile c\n");
    refused_in("wrong/a.conf", text, 2, "keyfile is missing");
    assert_int_equal(unlink(path_of("wrong/a.conf")), 0);
    make_folder("wrong/a.conf");
    refused_in("wrong/a.conf", text, 0, "is a directory");
    snprintf(text, sizeof text, "include_dir %s/missing\n", folder());
    refused(text, 1, "Unable to open include_dir");
    refused("include_dir\n", 1, "Empty 'include_dir'");
}

static void inclusion_stops_at_one_level(void **state)
{
    char text[300];
    struct loaded loaded;

    (void)state;
    make_folder("deep");
    snprintf(text, sizeof text, "max_qos 1\ninclude_dir %s/deep\n", folder());
    write_text("deep/a.conf", text);
    refused_in("deep/a.conf", text, 2, "only valid in the main configuration file");
    load_path(&loaded, path_of("deep/a.conf")); /* it includes itself */
    assert_null(loaded.config);
    assert_non_null(strstr(loaded.err.text, "deep/a.conf: Error: This is the main configuration file"));
}

static void an_empty_folder_is_no_mistake(void **state)
{
    char text[300];

    (void)state;
    make_folder("empty");
    snprintf(text, sizeof text, "listener 1\nallow_anonymous true\ninclude_dir %s/empty\n", folder());
    fine(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comments_and_blank_lines),
        cmocka_unit_test(blanks_around_values),
        cmocka_unit_test(crlf_and_no_end_of_line),
        cmocka_unit_test(quotes_are_ordinary_letters),
        cmocka_unit_test(bad_bytes),
        cmocka_unit_test(long_lines_and_files),
        cmocka_unit_test(no_file),
        cmocka_unit_test(a_long_path_leaves_room_for_the_reason),
        cmocka_unit_test(unknown_names),
        cmocka_unit_test(secrets_are_not_shown),
        cmocka_unit_test(no_plain_file),
        cmocka_unit_test(included_files_come_in_order),
        cmocka_unit_test(included_files_start_without_a_listener),
        cmocka_unit_test(mistakes_in_included_files_name_them),
        cmocka_unit_test(inclusion_stops_at_one_level),
        cmocka_unit_test(an_empty_folder_is_no_mistake),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
