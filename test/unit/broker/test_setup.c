/*
 * test_setup.c - `bramble setup`: which files it makes and for whose eyes, what it leaves alone, and what it
 * says when it cannot.
 */
#include "broker/auth.h"
#include "broker/config.h"
#include "broker/setup.h"
#include "ports.h"
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <sys/stat.h>

enum { PORTS = 3 };

static struct {
    char dir[64], folder[80];
    char path[128];       /* in_dir() */
    char ports[PORTS][8]; /* free ones */
    char text[8192];      /* text_of() */
} f;

static const char *in_dir(const char *name)
{
    snprintf(f.path, sizeof f.path, "%s/%s", f.dir, name);
    return f.path;
}

static int setup(void **unused)
{
    int fds[PORTS], port;
    (void)unused;
    memset(&f, 0, sizeof f);
    strcpy(f.dir, "/tmp/test_setup.XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    snprintf(f.folder, sizeof f.folder, "%s/broker", f.dir);
    for (int i = 0; i < PORTS; i++) {
        fds[i] = port_listen(&port);
        snprintf(f.ports[i], sizeof f.ports[i], "%d", port);
    }
    for (int i = 0; i < PORTS; i++) {
        close(fds[i]);
    }
    return 0;
}

static int teardown(void **unused)
{
    static const char *const made[] = {"broker/ca.crt",
                                       "broker/ca.key",
                                       "broker/server.crt",
                                       "broker/server.key",
                                       "broker/passwd",
                                       "broker/bramble.conf/in_the_way",
                                       "broker/bramble.conf",
                                       "broker/conf.d/a.conf",
                                       "broker/conf.d",
                                       "broker/store",
                                       "broker/bramble.conf.new",
                                       "broker",
                                       "file",
                                       "out"};
    (void)unused;
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        remove(in_dir(made[i]));
    }
    return rmdir(f.dir); /* which finds a file that nobody expected */
}

static const char *text_of(const char *name)
{
    FILE *file = fopen(in_dir(name), "re");
    assert_non_null(file);
    f.text[fread(f.text, 1, sizeof f.text - 1, file)] = '\0';
    fclose(file);
    return f.text;
}

static void write_text(const char *name, const char *text)
{
    FILE *file = fopen(in_dir(name), "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void says(const char *name, const char *words)
{
    if (!strstr(text_of(name), words)) {
        fail_msg("%s does not say '%s':\n%s", name, words, f.text);
    }
}

/* Runs the tool; what it prints is then in the file "out". No mode is owed to the umask. */
static int run(int argc, const char *const *argv)
{
    int out = open(in_dir("out"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int before[2] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
    mode_t mask = umask(0);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    optind = 0; /* getopt starts anew */
    int status = setup_tool(argc, (char **)(uintptr_t)argv);
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        dup2(before[i], i + 1);
        close(before[i]);
    }
    close(out);
    umask(mask);
    return status;
}

/* With the free ports. */
static int run_in(const char *folder)
{
    const char *const argv[] = {"setup",      "--plain-port", f.ports[0],   "--tls-port",  f.ports[1],
                                "--web-port", f.ports[2],     "--http-dir", "/srv/a page", folder};
    return run(10, argv);
}

static unsigned mode_of(const char *name)
{
    struct stat st;
    assert_int_equal(stat(in_dir(name), &st), 0);
    return st.st_mode & 0777;
}

/* ---- what it makes ---- */

static void secrets_are_for_their_owner_only(void **unused)
{
    (void)unused;
    assert_int_equal(run_in(f.folder), 0);
    assert_int_equal(mode_of("broker"), 0700);
    assert_int_equal(mode_of("broker/conf.d"), 0700);
    assert_int_equal(mode_of("broker/store"), 0700);
    assert_int_equal(mode_of("broker/ca.key"), 0600);
    assert_int_equal(mode_of("broker/server.key"), 0600);
    assert_int_equal(mode_of("broker/passwd"), 0600);
    assert_int_equal(access(in_dir("broker/ca.crt"), R_OK), 0);
    assert_int_equal(access(in_dir("broker/server.crt"), R_OK), 0);
}

/* Read by the daemon's own reader: three doors, and nobody comes in without a password. */
static void the_daemon_understands_its_configuration(void **unused)
{
    struct err err = {""};
    struct config_args args = {.path = NULL};
    (void)unused;
    assert_int_equal(run_in(f.folder), 0);
    args.path = in_dir("broker/bramble.conf");
    struct config *config = config_load(&args, NULL, NULL, &err);
    if (!config) {
        fail_msg("%s", err.text);
        return;
    }
    assert_int_equal(config->listener_count, PORTS);
    assert_true(config->persistence);
    assert_string_equal(config->persistence_path, in_dir("broker/store/bramble.db"));
    for (int i = 0; i < PORTS; i++) {
        const struct config_listener *l = &config->listeners[i];
        assert_int_equal(l->port, atoi(f.ports[i]));
        assert_int_equal(l->tls, i > 0);
        assert_int_equal(l->protocol, i == 2 ? PROTOCOL_WEBSOCKETS : PROTOCOL_MQTT);
        assert_false(l->security->allow_anonymous);
        assert_string_equal(l->security->password_file, in_dir("broker/passwd"));
    }
    assert_string_equal(config->listeners[0].host, "127.0.0.1"); /* what is not encrypted stays here */
    assert_string_equal(config->listeners[2].http_dir, "/srv/a page");
    config_free(config);
}

static void the_user_is_shown_with_a_password_once(void **unused)
{
    struct err err = {""};
    (void)unused;
    assert_int_equal(run_in(f.folder), 0);
    says("out", "User             admin\n");
    const char *at = strstr(f.text, "Password         ");
    assert_non_null(at);
    char password[32] = "", line[64];
    assert_int_equal(sscanf(at, "Password %31s", password), 1);
    assert_int_equal(strlen(password), 20);
    snprintf(line, sizeof line, " -u admin -P %s ", password);
    says("out", line); /* in what can be tried at once */
    snprintf(line, sizeof line, "https://localhost:%s/", f.ports[2]);
    says("out", line);
    assert_null(strstr(text_of("broker/passwd"), password));
    struct passwords *passwords = passwords_load(in_dir("broker/passwd"), &err);
    assert_non_null(passwords);
    assert_int_equal(passwords_count(passwords), 1);
    assert_int_not_equal(passwords_mark(passwords, slice_str("admin")), 0);
    passwords_unref(passwords);
}

static void what_is_there_stays_but_the_configuration(void **unused)
{
    static const char *const kept[] = {"ca.crt",     "ca.key", "server.crt",
                                       "server.key", "passwd", "conf.d/a.conf"};
    enum { KEPT = sizeof kept / sizeof *kept };
    char *before[KEPT], name[64];
    (void)unused;
    assert_int_equal(run_in(f.folder), 0);
    write_text("broker/conf.d/a.conf", "max_topic_levels 10\n");
    write_text("broker/bramble.conf", "an old one\n");
    for (size_t i = 0; i < KEPT; i++) {
        snprintf(name, sizeof name, "broker/%s", kept[i]);
        before[i] = strdup(text_of(name));
    }
    assert_int_equal(run_in(f.folder), 0);
    for (size_t i = 0; i < KEPT; i++) {
        snprintf(name, sizeof name, "broker/%s", kept[i]);
        assert_string_equal(text_of(name), before[i]);
        free(before[i]);
    }
    assert_null(strstr(text_of("broker/bramble.conf"), "an old one"));
    says("broker/bramble.conf", "allow_anonymous false\n");
    says("out", "as shown when");
    says("out", " -P PASSWORD ");
}

/* ---- what it refuses ---- */

static void wrong_arguments(void **unused)
{
    static const char *const wrong[][4] = {
        {"setup", NULL},                              /* no folder */
        {"setup", "a", "b", NULL},                    /* two */
        {"setup", "--nonsense", "a", NULL},           /* no such option */
        {"setup", "--tls-port", "0", "a"},            /* no ports */
        {"setup", "--tls-port", "65536", "a"},        //
        {"setup", "--web-port", "12x", "a"},          //
        {"setup", "--plain-port", "", "a"},           //
        {"setup", "--plain-port", "-1", "a"},         //
        {"setup", "--plain-port", "99999999999", "a"} /* wider than an int */
    };
    (void)unused;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int n = 0;
        while (n < 4 && wrong[i][n]) {
            n++;
        }
        assert_int_equal(run(n, wrong[i]), 3);
        says("out", "Usage: bramble setup");
    }
    const char *const help[] = {"setup", "--help"};
    assert_int_equal(run(2, help), 0);
    says("out", "Usage: bramble setup");
}

static void nothing_is_made_for_ports_that_cannot_be_had(void **unused)
{
    char taken[8];
    int port;
    (void)unused;
    for (int i = 0; i < PORTS; i++) { /* any two that are the same */
        const char *same = f.ports[i], *other = f.ports[(i + 1) % PORTS];
        const char *const twice[] = {"setup",
                                     "--plain-port",
                                     i == 0 ? other : same,
                                     "--tls-port",
                                     i == 1 ? other : same,
                                     "--web-port",
                                     i == 2 ? other : same,
                                     f.folder};
        assert_int_equal(run(8, twice), 1);
        says("out", "must differ");
    }
    int fd = port_listen(&port);
    snprintf(taken, sizeof taken, "%d", port);
    const char *const busy[] = {"setup",    "--plain-port", taken,      "--tls-port",
                                f.ports[1], "--web-port",   f.ports[2], f.folder};
    assert_int_equal(run(8, busy), 1);
    says("out", taken);
    says("out", "--plain-port N");
    close(fd);
    assert_int_not_equal(access(f.folder, F_OK), 0);
    assert_int_equal(run(8, busy), 0); /* it was only that */
}

static void folders_that_cannot_be_made(void **unused)
{
    char path[128];
    (void)unused;
    write_text("file", "");
    snprintf(path, sizeof path, "%s", in_dir("file"));
    assert_int_equal(run_in(path), 1); /* a file is no folder */
    says("out", "bramble setup: ");
    snprintf(path, sizeof path, "%s", in_dir("file/below"));
    assert_int_equal(run_in(path), 1);
    says("out", "cannot make the folder");
}

static void a_configuration_that_cannot_be_written(void **unused)
{
    (void)unused;
    assert_int_equal(mkdir(f.folder, 0700), 0);
    assert_int_equal(mkdir(in_dir("broker/bramble.conf.new"), 0700), 0);
    assert_int_equal(run_in(f.folder), 1);
    says("out", "cannot write");
    assert_int_equal(rmdir(in_dir("broker/bramble.conf.new")), 0);
    assert_int_equal(mkdir(in_dir("broker/bramble.conf"), 0700), 0);
    write_text("broker/bramble.conf/in_the_way", "");
    assert_int_equal(run_in(f.folder), 1);
    says("out", "cannot write");
    assert_int_not_equal(access(in_dir("broker/bramble.conf.new"), F_OK), 0); /* nothing half is left */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(secrets_are_for_their_owner_only),
        TEST(the_daemon_understands_its_configuration),
        TEST(the_user_is_shown_with_a_password_once),
        TEST(what_is_there_stays_but_the_configuration),
        TEST(wrong_arguments),
        TEST(nothing_is_made_for_ports_that_cannot_be_had),
        TEST(folders_that_cannot_be_made),
        TEST(a_configuration_that_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
