/*
 * test_args.c - the command line.
 */
#include "test/unit/config/helper.h"

struct line {
    struct config_args args;
    int rc;
    char out[4096], errors[1024];
};

/* words: the command line, blanks between */
static struct line parse(const char *words)
{
    struct line line = {.rc = 99};
    char copy[300], *argv[20], *save = NULL;
    int argc = 0;
    FILE *out = fmemopen(line.out, sizeof line.out, "w"),
         *errors = fmemopen(line.errors, sizeof line.errors, "w");

    assert_non_null(out);
    assert_non_null(errors);
    snprintf(copy, sizeof copy, "bramble %s", words);
    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        argv[argc++] = word;
    }
    argv[argc] = NULL;
    line.rc = config_args_parse(argc, argv, &line.args, out, errors);
    line.args.path = line.args.path ? strdup(line.args.path) : NULL;
    fclose(out);
    fclose(errors);
    return line;
}

static void runs(const char *words, struct config_args expected)
{
    struct line line = parse(words);

    if (line.rc != CONFIG_ARGS_RUN) {
        fail_msg("%s: %d %s", words, line.rc, line.errors);
    }
    assert_int_equal(line.args.port, expected.port);
    assert_int_equal(line.args.daemon, expected.daemon);
    assert_int_equal(line.args.verbose, expected.verbose);
    assert_int_equal(line.args.quiet, expected.quiet);
    assert_int_equal(line.args.test_config, expected.test_config);
    if (expected.path) {
        assert_string_equal(line.args.path, expected.path);
    } else {
        assert_null(line.args.path);
    }
    assert_string_equal(line.out, "");
    assert_string_equal(line.errors, "");
    free((char *)line.args.path);
}

static void mistake(const char *words, const char *text)
{
    struct line line = parse(words);
    const char *newline = strchr(line.errors, '\n');

    assert_int_equal(line.rc, 3);
    if (!strstr(line.errors, text)) {
        fail_msg("%s: '%s'", words, line.errors);
    }
    assert_non_null(newline);
    assert_string_equal(newline, "\n"); /* one line */
    assert_string_equal(line.out, "");
    free((char *)line.args.path);
}

static void options(void **state)
{
    (void)state;
    runs("", (struct config_args){.path = NULL});
    runs("-c a.conf", (struct config_args){.path = "a.conf"});
    runs("--config-file a.conf", (struct config_args){.path = "a.conf"});
    runs("-p 1999", (struct config_args){.port = 1999});
    runs("--port 65535", (struct config_args){.port = 65535});
    runs("-d -v", (struct config_args){.daemon = true, .verbose = true});
    runs("--daemon --verbose --quiet", (struct config_args){.daemon = true, .verbose = true, .quiet = true});
    runs("-q", (struct config_args){.quiet = true});
    runs("-t -c x", (struct config_args){.path = "x", .test_config = true});
    runs("-c x --test-config", (struct config_args){.path = "x", .test_config = true});
    runs("-v -c -d -p 1",
         (struct config_args){.path = "-d", .verbose = true, .port = 1}); /* a value is a value */
}

static void mistakes(void **state)
{
    (void)state;
    mistake("-x", "Unknown option: -x");
    mistake("-dv", "Unknown option: -dv");
    mistake("file.conf", "Unknown option: file.conf");
    mistake("-c", "-c argument given, but no config file specified");
    mistake("--config-file", "no config file specified");
    mistake("-c a -c b", "only one -c");
    mistake("-p", "-p argument given, but no port specified");
    mistake("--port", "no port specified");
    mistake("-p 0", "Invalid port specified: 0");
    mistake("-p 65536", "Invalid port specified: 65536");
    mistake("-p -1", "Invalid port specified: -1");
    mistake("-p 99999999999999999999", "Invalid port specified");
    mistake("-p 12x", "Invalid port specified: 12x");
    mistake("-p mqtt", "Invalid port specified: mqtt");
    mistake("-p 1 -p 2", "only one -p");
    mistake("-t", "needs a configuration file");
    mistake("--tls-keylog f", "--tls-keylog is not supported");
}

static void an_empty_value(void **state)
{
    char program[] = "bramble", option[] = "-c", empty[] = "", port[] = "-p";
    char *path[] = {program, option, empty, NULL}, *number[] = {program, port, empty, NULL};
    struct config_args args;
    FILE *nowhere = fopen("/dev/null", "w");

    (void)state;
    assert_non_null(nowhere);
    assert_int_equal(config_args_parse(3, path, &args, stdout, nowhere), 3);
    assert_int_equal(config_args_parse(3, number, &args, stdout, nowhere), 3);
    assert_int_equal(config_args_parse(1, path, &args, stdout, stderr), CONFIG_ARGS_RUN);
    fclose(nowhere);
}

static void help_and_version(void **state)
{
    static const char *const named[] = {
        "-c, --config-file FILE", "-p, --port PORT", "-d, --daemon", "-v, --verbose", "-q, --quiet",
        "-t, --test-config",      "-h, --help",      "--version"};
    struct line line = parse("-h");

    (void)state;
    assert_int_equal(line.rc, 0);
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        assert_non_null(strstr(line.out, named[i]));
    }
    assert_string_equal(line.errors, "");
    assert_int_equal(parse("-v --help").rc, 0);
    line = parse("--version");
    assert_int_equal(line.rc, 0);
    assert_string_equal(line.out, "bramble " BRAMBLE_VERSION "\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(an_empty_value),
        cmocka_unit_test(help_and_version),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
