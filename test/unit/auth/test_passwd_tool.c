/*
 * test_passwd_tool.c - `bramble passwd`: what it does to the file, what it refuses, and how it asks.
 */
#include "auth/passwd_tool.h"
#include "auth/passwords.h"
#include "auth/pwhash.h"
#include "test/unit/auth/files.h"
#include "test/unit/auth/vectors.h"

#include <dirent.h>
#include <errno.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <termios.h>

#define FAST "-H", "sha512"

static int run(const char *first, ...)
{
    static char name[] = "passwd";
    char *argv[16] = {name};
    int argc = 1;
    va_list ap;
    va_start(ap, first);
    for (const char *arg = first; arg; arg = va_arg(ap, const char *))
        argv[argc++] = (char *)(uintptr_t)arg;
    va_end(ap);
    return passwd_tool(argc, argv);
}

#define RUN(...) run(__VA_ARGS__, (const char *)NULL)

/* Standard input becomes this text for one run. */
static int run_with_input(const char *text, size_t n, const char *user)
{
    int ends[2], before = dup(STDIN_FILENO);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], text, n), n);
    close(ends[1]);
    dup2(ends[0], STDIN_FILENO);
    close(ends[0]);
    int status = RUN(FAST, files_path, user);
    dup2(before, STDIN_FILENO);
    close(before);
    return status;
}

static enum auth_verdict verdict(const char *user, const char *password)
{
    struct err err = {""};
    struct passwords *passwords = passwords_load(files_path, &err);
    if (!passwords)
        fail_msg("%s", err.text);
    struct slice hash = passwords_hash(passwords, slice_str(user));
    enum auth_verdict verdict = hash.n ? pwhash_verify(hash, slice_str(password)) : AUTH_UNAVAILABLE;
    passwords_unref(passwords);
    return verdict;
}

/* Nothing but the file itself may be left in its folder. */
static void no_litter(void)
{
    DIR *folder = opendir(files_folder);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));)
        if (entry->d_name[0] != '.' ? strcmp(entry->d_name, "file") != 0 : strlen(entry->d_name) > 2)
            fail_msg("left behind: %s", entry->d_name);
    closedir(folder);
}

static void expect_file(const char *text)
{
    char *found = files_read();
    assert_string_equal(found, text);
    free(found);
    no_litter();
}

static mode_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void creates(void **state)
{
    (void)state;
    unlink(files_path);
    assert_int_equal(RUN(FAST, "-b", files_path, "alice", "secret"), 1); /* not without -c */
    assert_int_equal(access(files_path, F_OK), -1);
    assert_int_equal(RUN("-c", "-b", files_path, "alice", "secret"), 0);
    assert_int_equal(mode_of(files_path), 0600);
    assert_int_equal(verdict("alice", "secret"), AUTH_ALLOWED);
    assert_int_equal(verdict("alice", "Secret"), AUTH_DENIED);
    char *text = files_read();
    assert_int_equal(strncmp(text, "alice:$argon2id$v=19$m=19456,t=2,p=1$", 37), 0);
    assert_string_equal(text + strlen(text) - 1, "\n");
    free(text);
    assert_int_equal(RUN("-c", FAST, "-b", files_path, "bob", "secret"), 0); /* drops what was there */
    assert_int_equal(verdict("alice", "secret"), AUTH_UNAVAILABLE);
    assert_int_equal(verdict("bob", "secret"), AUTH_ALLOWED);
    no_litter();
}

static void kinds(void **state)
{
    (void)state;
    static const char *const args[][3] = {
        {"-H", "sha512", "alice:$6$"},
        {"-H", "sha512-pbkdf2", "alice:$7$210000$"},
        {"-H", "argon2id", "alice:$argon2id$"},
        {"-I", "500", "alice:$7$500$"},
    };
    for (size_t i = 0; i < sizeof args / sizeof *args; i++) {
        assert_int_equal(RUN(args[i][0], args[i][1], "-c", "-b", files_path, "alice", "Grüße"), 0);
        char *text = files_read();
        assert_int_equal(strncmp(text, args[i][2], strlen(args[i][2])), 0);
        free(text);
        assert_int_equal(verdict("alice", "Grüße"), AUTH_ALLOWED);
    }
    assert_int_equal(RUN("-H", "sha512-pbkdf2", "-I", "777", "-b", files_path, "bob", "x"), 0);
    assert_int_equal(verdict("bob", "x"), AUTH_ALLOWED);
}

static void changes_one_line(void **state)
{
    (void)state;
    files_write("# head\nalice:" V7_SECRET "\r\n\n bob : " VT_TOKEN "\nalice : " V6_SECRET6 "\n#end");
    chmod(files_path, 0640);
    assert_int_equal(RUN(FAST, "-b", files_path, "alice", "new"), 0);
    char *text = files_read();
    static const char start[] = "# head\nalice:$6$", end[] = "==\n\n bob : " VT_TOKEN "\n#end\n";
    assert_int_equal(strncmp(text, start, strlen(start)), 0);
    assert_string_equal(strstr(text, "==\n"), end); /* one entry of alice, the rest as it was */
    free(text);
    assert_int_equal(mode_of(files_path), 0640);
    no_litter();
}

static void deletes(void **state)
{
    (void)state;
    files_write("alice:" V7_SECRET "\n# alice\nbob:" V6_SECRET6);
    assert_int_equal(RUN("-D", files_path, "carol"), 1);
    assert_int_equal(RUN("-D", files_path, "alice"), 0);
    expect_file("# alice\nbob:" V6_SECRET6 "\n");
    assert_int_equal(RUN("-D", files_path, "bob"), 0);
    expect_file("# alice\n");
}

static void upgrades(void **state)
{
    (void)state;
    files_write("# plain\nalice:secret\nbob: pass:word \r\ncarol:" V7_SECRET "\npump:" VT_TOKEN
                "\nvalve: " TOKEN "\n");
    assert_int_equal(RUN(FAST, "-U", files_path), 0);
    assert_int_equal(verdict("alice", "secret"), AUTH_ALLOWED);
    assert_int_equal(verdict("bob", "pass:word"), AUTH_ALLOWED);
    assert_int_equal(verdict("carol", "secret"), AUTH_ALLOWED); /* not hashed a second time */
    assert_int_equal(verdict("pump", TOKEN), AUTH_ALLOWED);
    assert_int_equal(verdict("valve", TOKEN), AUTH_ALLOWED);
    char *before = files_read();
    assert_non_null(strstr(before, "pump:" VT_TOKEN "\nvalve:$blake2b$"));
    assert_int_equal(RUN(FAST, "-U", files_path), 0);
    expect_file(before);
    free(before);

    static const char *const bad[] = {"alice:secret\nbob\n", "alice:secret\n:x\n", "alice:secret\nbob:\n",
                                      "alice:secret\nbob:$7$abc\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        files_write(bad[i]);
        assert_int_equal(RUN(FAST, "-U", files_path), 1);
        expect_file(bad[i]);
    }
}

static void refuses(void **state)
{
    (void)state;
    static const char *const args[][7] = {
        {"-x", "f", "u"},
        {"-H"},
        {"-H", "md5", "-b", "f", "u", "p"},
        {"-I", "0", "-b", "f", "u", "p"},
        {"-I", "10x", "-b", "f", "u", "p"},
        {"-I", "99999999999", "-b", "f", "u", "p"},
        {"-I", "-5", "-b", "f", "u", "p"},
        {"-c", "-D", "f", "u"},
        {"-c", "-U", "f"},
        {"-D", "-U", "f"},
        {"-b", "-D", "f", "u"},
        {"-b", "-U", "f"},
        {"-U"},
        {"-U", "f", "u"},
        {"-D", "f"},
        {"-b", "f", "u"},
        {"-b", "f", "u", "p", "more"},
        {"-c", "f", "u", "p"},
        {"-c", "f"},
        {"f"},
        {"-H", "argon2id", "-I", "5", "f", "u"},
        {"--token", "-b", "-c", "f", "u", "p"},
        {"--token", "-D", "f", "u"},
        {"--token", "-U", "f"},
        {"--token", "-H", "argon2id", "-c", "f", "u"},
        {"--token", "-I", "5", "-c", "f", "u"},
        {"--token", "-c", "-", "u"},
        {"--token", "-c", "f"},
        {"-b", "-", "u", "p"},
        {"-D", "-", "u"},
        {"-b", "-c", "/nonexistent/folder/f", "u", "p"},
        {"-b", "-c", "/dev/null", "u", "p"},
        {"-b", "-c", "/tmp", "u", "p"},
    };
    for (size_t i = 0; i < sizeof args / sizeof *args; i++) {
        const char *const *a = args[i];
        if (run(a[0], a[1], a[2], a[3], a[4], a[5], a[6], (const char *)NULL) != 1)
            fail_msg("row %zu was accepted", i);
    }
    static char name[] = "passwd";
    char *none[] = {name, NULL};
    assert_int_equal(passwd_tool(1, none), 1);
    assert_int_equal(RUN("-h"), 0);
}

static void refuses_names(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "a:b", "#a", " a", "a ", "a\nb", "a\tb", "\x7f", "\xff"};
    char long_name[66000], long_password[70000];
    memset(long_name, 'n', sizeof long_name);
    long_name[sizeof long_name - 1] = 0;
    memset(long_password, 'p', sizeof long_password);
    long_password[sizeof long_password - 1] = 0;
    files_write("keep:" V7_SECRET "\n");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(RUN(FAST, "-b", files_path, bad[i], "x"), 1);
    assert_int_equal(RUN(FAST, "-b", files_path, long_name, "x"), 1);
    assert_int_equal(RUN(FAST, "-b", files_path, "alice", ""), 1);
    assert_int_equal(RUN(FAST, "-b", files_path, "alice", long_password), 1);
    expect_file("keep:" V7_SECRET "\n");
    long_name[65000] = 0;
    long_password[65535] = 0;
    assert_int_equal(RUN(FAST, "-c", "-b", files_path, long_name, long_password), 0);
    assert_int_equal(verdict(long_name, long_password), AUTH_ALLOWED);
}

static void from_standard_input(void **state)
{
    (void)state;
    files_write("");
    assert_int_equal(run_with_input("secret\nsecret\n", 14, "alice"), 0);
    assert_int_equal(verdict("alice", "secret"), AUTH_ALLOWED);
    assert_int_equal(run_with_input(" with blanks \r\n", 15, "alice"), 0);
    assert_int_equal(verdict("alice", " with blanks "), AUTH_ALLOWED);
    assert_int_equal(run_with_input("no newline", 10, "alice"), 0);
    assert_int_equal(verdict("alice", "no newline"), AUTH_ALLOWED);
    assert_int_equal(run_with_input("", 0, "alice"), 1);
    assert_int_equal(run_with_input("\nsecret\n", 8, "alice"), 1);
    assert_int_equal(run_with_input("sec\0ret\n", 8, "alice"), 1);
    assert_int_equal(verdict("alice", "no newline"), AUTH_ALLOWED);
}

/* Standard output becomes this descriptor, which is closed. Returns what it was. */
static int redirect(int fd)
{
    fflush(stdout);
    int before = dup(STDOUT_FILENO);
    assert_true(fd >= 0 && before >= 0);
    dup2(fd, STDOUT_FILENO);
    close(fd);
    return before;
}

static void restore(int before)
{
    fflush(stdout);
    dup2(before, STDOUT_FILENO);
    close(before);
}

static void to_standard_output(void **state)
{
    (void)state;
    files_write("");
    int before = redirect(open(files_path, O_WRONLY | O_CLOEXEC));
    int status = RUN(FAST, "-c", "-b", "-", "alice", "secret");
    restore(before);
    assert_int_equal(status, 0);
    assert_int_equal(verdict("alice", "secret"), AUTH_ALLOWED);
}

/* Runs `passwd [-c] --token FILE USER`; out gets what it said on standard output. */
static int run_token(bool create, const char *user, char out[128])
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    int before = redirect(ends[1]);
    int status = create ? RUN("-c", "--token", files_path, user) : RUN("--token", files_path, user);
    restore(before);
    ssize_t n = read(ends[0], out, 127);
    close(ends[0]);
    assert_true(n >= 0);
    out[n] = 0;
    return status;
}

static void makes_tokens(void **state)
{
    (void)state;
    char one[128], two[128];
    unlink(files_path);
    assert_int_equal(run_token(false, "pump", one), 1); /* not without -c */
    assert_string_equal(one, "");
    assert_int_equal(run_token(true, "pump", one), 0);
    assert_int_equal(mode_of(files_path), 0600);
    assert_int_equal(strlen(one), PWHASH_TOKEN_LEN + 1); /* the token, a newline and nothing else */
    one[PWHASH_TOKEN_LEN] = 0;
    assert_true(pwhash_is_token(slice_str(one)));
    char *text = files_read();
    assert_int_equal(strncmp(text, "pump:$blake2b$", 14), 0);
    assert_null(strstr(text, one + 6));
    free(text);
    assert_int_equal(verdict("pump", one), AUTH_ALLOWED);

    assert_int_equal(RUN(FAST, "-b", files_path, "alice", "secret"), 0);
    assert_int_equal(run_token(false, "pump", two), 0); /* replaces the first one, and nothing else */
    two[PWHASH_TOKEN_LEN] = 0;
    assert_int_equal(verdict("pump", one), AUTH_DENIED);
    assert_int_equal(verdict("pump", two), AUTH_ALLOWED);
    assert_int_equal(verdict("alice", "secret"), AUTH_ALLOWED);
    assert_int_equal(run_token(false, "alice", one), 0); /* from now on she is a device */
    one[PWHASH_TOKEN_LEN] = 0;
    assert_int_equal(verdict("alice", "secret"), AUTH_DENIED);
    assert_int_equal(verdict("alice", one), AUTH_ALLOWED);
    no_litter();
}

/* What cannot be shown is of no use to anybody, and that is said. */
static void a_token_that_nobody_sees(void **state)
{
    (void)state;
    files_write("");
    fflush(stdout);
    pid_t child = fork(); /* whose stdout keeps what it cannot get rid of */
    assert_true(child >= 0);
    if (child == 0) {
        dup2(open("/dev/full", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
        _exit(RUN("--token", files_path, "pump"));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
}

/* A token typed as a password would be hashed as one, and never match. */
static void a_token_is_no_password(void **state)
{
    (void)state;
    files_write("keep:" V7_SECRET "\n");
    assert_int_equal(RUN(FAST, "-b", files_path, "alice", TOKEN), 1);
    assert_int_equal(RUN("-b", files_path, "alice", TOKEN), 1);
    assert_int_equal(run_with_input(TOKEN "\n", strlen(TOKEN) + 1, "alice"), 1);
    struct err err = {""};
    assert_int_equal(passwd_set(files_path, "alice", TOKEN, &err), -1);
    assert_non_null(strstr(err.text, "bramble passwd --token"));
    expect_file("keep:" V7_SECRET "\n");
    assert_int_equal(RUN(FAST, "-b", files_path, "alice", TOKEN "x"), 0);
    assert_int_equal(RUN(FAST, "-D", files_path, "keep"), 0);
    assert_int_equal(verdict("alice", TOKEN "x"), AUTH_ALLOWED);
}

/* The file behind a symbolic link is replaced, not the link. */
static void through_a_link(void **state)
{
    (void)state;
    char link[64];
    snprintf(link, sizeof link, "%s/link", files_folder);
    files_write("alice:" V7_SECRET "\n");
    assert_int_equal(symlink("file", link), 0);
    assert_int_equal(RUN(FAST, "-b", link, "alice", "new"), 0);
    struct stat st;
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    unlink(link);
    assert_int_equal(verdict("alice", "new"), AUTH_ALLOWED);
    no_litter();
}

/* Several at the same time: no change is lost. */
static void at_the_same_time(void **state)
{
    (void)state;
    enum { WRITERS = 4, EACH = 8 };
    files_write("");
    pid_t pids[WRITERS];
    for (int w = 0; w < WRITERS; w++) {
        pids[w] = fork();
        assert_true(pids[w] >= 0);
        for (int i = 0; pids[w] == 0; i++) {
            char user[32];
            snprintf(user, sizeof user, "user%d-%d", w, i);
            if (i == EACH || RUN(FAST, "-b", files_path, user, "x") != 0)
                _exit(i == EACH ? 0 : 1);
        }
    }
    for (int w = 0; w < WRITERS; w++) {
        int status;
        assert_int_equal(waitpid(pids[w], &status, 0), pids[w]);
        assert_int_equal(status, 0);
    }
    struct err err;
    struct passwords *passwords = passwords_load(files_path, &err);
    assert_non_null(passwords);
    assert_int_equal(passwords_count(passwords), WRITERS * EACH);
    passwords_unref(passwords);
    no_litter();
}

/* A terminal: the child runs the tool, we type. */
struct terminal {
    int fd;
    pid_t pid;
    char shown[4096];
    size_t n;
};

static void terminal_open(struct terminal *t)
{
    *t = (struct terminal){.n = 0};
    t->pid = forkpty(&t->fd, NULL, NULL, NULL);
    assert_true(t->pid >= 0);
    if (t->pid == 0)
        _exit(RUN(FAST, files_path, "alice"));
}

static bool echo_is_on(const struct terminal *t)
{
    struct termios settings;
    assert_int_equal(tcgetattr(t->fd, &settings), 0);
    return settings.c_lflag & ECHO;
}

/* Until the question is asked and the echo is off. */
static void terminal_expect(struct terminal *t, const char *text)
{
    while (!strstr(t->shown, text) && t->n < sizeof t->shown - 1) {
        ssize_t got = read(t->fd, t->shown + t->n, sizeof t->shown - 1 - t->n);
        if (got <= 0)
            fail_msg("\"%s\" did not come after \"%s\"", text, t->shown);
        t->n += (size_t)got;
        t->shown[t->n] = 0;
    }
    for (int i = 0; echo_is_on(t) && i < 5000; i++)
        usleep(1000);
    assert_false(echo_is_on(t));
}

static void terminal_type(struct terminal *t, const char *text)
{
    assert_int_equal(write(t->fd, text, strlen(text)), strlen(text));
}

static int terminal_close(struct terminal *t)
{
    int status;
    ssize_t got;
    while (t->n < sizeof t->shown - 1 && (got = read(t->fd, t->shown + t->n, sizeof t->shown - 1 - t->n)) > 0)
        t->n += (size_t)got;
    t->shown[t->n] = 0;
    assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
    close(t->fd);
    return status;
}

static void at_a_terminal(void **state)
{
    (void)state;
    struct terminal t;
    files_write("");
    terminal_open(&t);
    terminal_expect(&t, "Password: ");
    terminal_type(&t, "typed secret\n");
    terminal_expect(&t, "Reenter password: ");
    terminal_type(&t, "typed secret\n");
    assert_int_equal(terminal_close(&t), 0);
    assert_null(strstr(t.shown, "secret"));
    assert_int_equal(verdict("alice", "typed secret"), AUTH_ALLOWED);

    terminal_open(&t);
    terminal_expect(&t, "Password: ");
    terminal_type(&t, "one\n");
    terminal_expect(&t, "Reenter password: ");
    terminal_type(&t, "two\n");
    assert_int_equal(WEXITSTATUS(terminal_close(&t)), 1);
    assert_non_null(strstr(t.shown, "not the same"));
    assert_int_equal(verdict("alice", "typed secret"), AUTH_ALLOWED);
}

/* Ctrl-C while the echo is off: the process dies of it, and the terminal echoes again. */
static void interrupted(void **state)
{
    (void)state;
    struct terminal t;
    files_write("keep:" V7_SECRET "\n");
    terminal_open(&t);
    int slave =
        open(ptsname(t.fd), O_RDWR | O_NOCTTY | O_CLOEXEC); /* keeps the settings after the child's end */
    terminal_expect(&t, "Password: ");
    terminal_type(&t, "half\x03");
    int status;
    assert_int_equal(waitpid(t.pid, &status, 0), t.pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    assert_true(echo_is_on(&t));
    close(slave);
    close(t.fd);
    expect_file("keep:" V7_SECRET "\n");
}

static void sets_for_setup(void **state)
{
    (void)state;
    struct err err = {""};
    char one[21], two[21];
    unlink(files_path);
    passwd_random(one);
    passwd_random(two);
    assert_int_equal(strlen(one), 20);
    assert_int_equal(strspn(one, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"), 20);
    assert_string_not_equal(one, two);
    assert_int_equal(passwd_set(files_path, "admin", one, &err), 0);
    assert_int_equal(mode_of(files_path), 0600);
    assert_int_equal(passwd_set(files_path, "tom", two, &err), 0);
    assert_int_equal(verdict("admin", one), AUTH_ALLOWED);
    assert_int_equal(verdict("tom", two), AUTH_ALLOWED);
    assert_int_equal(verdict("tom", one), AUTH_DENIED);
    assert_int_equal(passwd_set(files_path, "a:b", one, &err), -1);
    assert_non_null(strstr(err.text, "colon"));
    assert_int_equal(passwd_set(files_path, "a", "", &err), -1);
    assert_int_equal(passwd_set("/nonexistent/f", "a", "b", &err), -1);
    assert_non_null(strstr(err.text, "/nonexistent"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(creates),
        cmocka_unit_test(kinds),
        cmocka_unit_test(changes_one_line),
        cmocka_unit_test(deletes),
        cmocka_unit_test(upgrades),
        cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_names),
        cmocka_unit_test(from_standard_input),
        cmocka_unit_test(to_standard_output),
        cmocka_unit_test(makes_tokens),
        cmocka_unit_test(a_token_that_nobody_sees),
        cmocka_unit_test(a_token_is_no_password),
        cmocka_unit_test(through_a_link),
        cmocka_unit_test(at_the_same_time),
        cmocka_unit_test(at_a_terminal),
        cmocka_unit_test(interrupted),
        cmocka_unit_test(sets_for_setup),
    };
    return cmocka_run_group_tests(tests, files_make, files_remove);
}
