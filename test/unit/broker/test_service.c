/*
 * test_service.c - the manners of a daemon. What changes the process for good (user, limits, background,
 * descriptors from systemd) happens in forked children, which tell by their exit status how it went.
 */
#include "broker/service.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];
static char got[1024];

static int setup(void **unused)
{
    (void)unused;
    strcpy(dir, "/tmp/test_service.XXXXXX");
    assert_non_null(mkdtemp(dir));
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return rmdir(dir);
}

/* In a child: leaves with the line number when something is not so (0 and 1 are not lines of checks). */
#define CHECK(what)                    \
    do {                               \
        if (!(what))                   \
            _exit(__LINE__ % 250 + 2); \
    } while (0)

/* Runs fn in a child and gives its exit status; -1 for a signal. */
static int in_child(void (*fn)(void))
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* --- notifications --- */

/* A socket of that name ("@..." for an abstract one), which is also put into the environment. */
static int manager(const char *name)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    size_t n = strlen(name);

    memcpy(un.sun_path, name, n);
    if (name[0] == '@')
        un.sun_path[0] = 0;
    assert_int_equal(
        bind(fd, (struct sockaddr *)&un, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)), 0);
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

static const char *received(int fd)
{
    ssize_t n = recv(fd, got, sizeof got - 1, 0);

    assert_true(n >= 0);
    got[n] = 0;
    return got;
}

static void messages_reach_the_socket(const char *name)
{
    int fd = manager(name);
    struct timespec ts;
    unsigned long long us;
    int end = 0;

    assert_int_equal(service_notify_ready(-1, NULL), 1);
    assert_string_equal(received(fd), "READY=1");
    assert_int_equal(service_notify_stopping(-1, NULL), 1);
    assert_string_equal(received(fd), "STOPPING=1");
    assert_int_equal(service_notify_watchdog(-1, NULL), 1);
    assert_string_equal(received(fd), "WATCHDOG=1");
    assert_int_equal(service_notify_status(-1, "7 clients\nREADY=1", NULL), 1);
    assert_string_equal(received(fd), "STATUS=7 clients?READY=1");
    assert_int_equal(service_notify_reloading(-1, NULL), 1);
    assert_int_equal(sscanf(received(fd), "RELOADING=1\nMONOTONIC_USEC=%llu%n", &us, &end), 1);
    assert_int_equal(got[end], 0);
    clock_gettime(CLOCK_MONOTONIC, &ts);
    assert_true(us / 1000000 <= (unsigned long long)ts.tv_sec &&
                us / 1000000 + 60 > (unsigned long long)ts.tv_sec);
    close(fd);
}

static void a_socket_in_the_file_system_is_told(void **unused)
{
    char name[100];

    (void)unused;
    snprintf(name, sizeof name, "%s/notify", dir);
    messages_reach_the_socket(name);
    unlink(name);
}

static void an_abstract_socket_is_told(void **unused)
{
    char name[100];

    (void)unused;
    snprintf(name, sizeof name, "@%s/notify", dir);
    messages_reach_the_socket(name);
}

static void nobody_to_tell_is_no_error(void **unused)
{
    (void)unused;
    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(service_notify_ready(-1, NULL), 0);
    setenv("NOTIFY_SOCKET", "", 1);
    assert_int_equal(service_notify_ready(-1, NULL), 0);
}

static void expect_unsent(const char *name, const char *why)
{
    struct err err = {""};

    setenv("NOTIFY_SOCKET", name, 1);
    assert_int_equal(service_notify_ready(-1, &err), -1);
    if (!strstr(err.text, why))
        fail_msg("'%s' is not in '%s'", why, err.text);
}

static void a_broken_name_is_an_error(void **unused)
{
    char name[200];

    (void)unused;
    expect_unsent("vsock:2:1", "NOTIFY_SOCKET=vsock:2:1");
    expect_unsent("/", "NOTIFY_SOCKET=/");
    expect_unsent("@", "NOTIFY_SOCKET=@");
    expect_unsent("/nowhere/at/all", "No such file");
    memset(name, 'a', sizeof name - 1);
    name[0] = '@';
    name[sizeof name - 1] = 0;
    expect_unsent(name, "not the name of a socket");
}

static void a_manager_that_does_not_read_holds_nobody(void **unused)
{
    char name[100];
    struct err err = {""};
    int fd, sent = 0;

    (void)unused;
    snprintf(name, sizeof name, "@%s/notify", dir);
    fd = manager(name);
    while (service_notify_watchdog(-1, &err) == 1)
        sent++;
    assert_true(sent > 0);
    assert_non_null(strstr(err.text, strerror(EAGAIN)));
    close(fd);
}

static void the_watchdog_is_ours_or_nobodys(void **unused)
{
    char pid[20];

    (void)unused;
    assert_int_equal(service_watchdog_us(), 0);
    setenv("WATCHDOG_USEC", "30000000", 1);
    assert_int_equal(service_watchdog_us(), 30000000);
    setenv("WATCHDOG_PID", "1", 1);
    assert_int_equal(service_watchdog_us(), 0);
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    assert_int_equal(service_watchdog_us(), 30000000);
    setenv("WATCHDOG_USEC", "soon", 1);
    assert_int_equal(service_watchdog_us(), 0);
    setenv("WATCHDOG_USEC", "-1", 1);
    assert_int_equal(service_watchdog_us(), 0);
}

/* --- sockets from systemd --- */

static void set_listen(const char *pid, const char *fds, const char *names)
{
    char own[20];

    snprintf(own, sizeof own, "%ld", (long)getpid());
    setenv("LISTEN_PID", pid ? pid : own, 1);
    setenv("LISTEN_FDS", fds, 1);
    unsetenv("LISTEN_FDNAMES");
    if (names)
        setenv("LISTEN_FDNAMES", names, 1);
}

static void child_takes_fds(void)
{
    struct service_fd *fds;
    struct err err;

    for (int fd = 3; fd < 6; fd++)
        CHECK(dup2(0, fd) == fd);
    set_listen(NULL, "3", "mqtt::tls:too:many");
    CHECK(service_listen_fds(&fds, &err) == 3);
    CHECK(fds[0].fd == 3 && strcmp(fds[0].name, "mqtt") == 0);
    CHECK(fds[1].fd == 4 && strcmp(fds[1].name, "") == 0);
    CHECK(fds[2].fd == 5 && strcmp(fds[2].name, "tls") == 0);
    for (int fd = 3; fd < 6; fd++) {
        CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    }
    free(fds);
    CHECK(!getenv("LISTEN_PID") && !getenv("LISTEN_FDS") && !getenv("LISTEN_FDNAMES"));
    CHECK(service_listen_fds(&fds, &err) == 0); /* not twice */
    CHECK(!fds);

    set_listen(NULL, "2", "one");
    CHECK(service_listen_fds(&fds, &err) == 2);
    CHECK(strcmp(fds[0].name, "one") == 0 && strcmp(fds[1].name, "unknown") == 0);
    free(fds);
    set_listen(NULL, "1", NULL);
    CHECK(service_listen_fds(&fds, &err) == 1);
    CHECK(strcmp(fds[0].name, "unknown") == 0);
    free(fds);
}

static void sockets_are_taken_over_with_their_names(void **unused)
{
    (void)unused;
    assert_int_equal(in_child(child_takes_fds), 0);
}

static void child_refuses_fds(void)
{
    static const char *const broken[][3] = {
        {"x", "1", "LISTEN_PID=x"},
        {"-1", "1", "LISTEN_PID=-1"},
        {NULL, "", "LISTEN_FDS="},
        {NULL, "-1", "LISTEN_FDS=-1"},
        {NULL, "1x", "LISTEN_FDS=1x"},
        {NULL, "99999999999999999999", "LISTEN_FDS=999"},
        {NULL, "1", "descriptor 3: Bad file descriptor"},
    };
    struct service_fd *fds;
    struct err err = {""};

    close(3);
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        set_listen(broken[i][0], broken[i][1], NULL);
        CHECK(service_listen_fds(&fds, &err) == -1);
        CHECK(!fds && strstr(err.text, broken[i][2]));
        CHECK(!getenv("LISTEN_FDS"));
    }
    set_listen("1", "1", NULL); /* somebody else's */
    CHECK(service_listen_fds(&fds, &err) == 0);
    set_listen(NULL, "0", NULL);
    CHECK(service_listen_fds(&fds, &err) == 0);
}

static void a_broken_environment_is_refused_and_anothers_left_alone(void **unused)
{
    (void)unused;
    assert_int_equal(in_child(child_refuses_fds), 0);
}

/* --- the background --- */

static int from_daemon[2]; /* what the daemon wants to tell the test */

static void child_becomes_daemon(void)
{
    struct stat null, st;
    char answer = 'y';
    int ready;

    CHECK(service_daemonise(&ready, NULL) == 0);
    if (getsid(0) != getpid())
        answer = 's';
    if (service_daemon_ready(ready, NULL) != 0)
        answer = 'r';
    stat("/dev/null", &null);
    for (int fd = 0; fd < 3; fd++) {
        if (fstat(fd, &st) != 0 || st.st_rdev != null.st_rdev)
            answer = (char)('0' + fd);
    }
    CHECK(write(from_daemon[1], &answer, 1) == 1);
    _exit(9); /* nobody's business any more */
}

static void the_parent_leaves_when_the_daemon_is_ready(void **unused)
{
    char answer = 0;

    (void)unused;
    assert_int_equal(pipe2(from_daemon, O_CLOEXEC), 0);
    assert_int_equal(in_child(child_becomes_daemon), 0);
    assert_int_equal(read(from_daemon[0], &answer, 1), 1);
    assert_int_equal(answer, 'y');
    close(from_daemon[0]);
    close(from_daemon[1]);
}

static void child_fails_as_daemon(void)
{
    int ready;

    CHECK(service_daemonise(&ready, NULL) == 0);
    _exit(3);
}

static void child_is_killed_as_daemon(void)
{
    int ready;

    CHECK(service_daemonise(&ready, NULL) == 0);
    raise(SIGKILL);
}

static void a_daemon_that_does_not_start_is_told_to_whoever_started_it(void **unused)
{
    (void)unused;
    assert_int_equal(in_child(child_fails_as_daemon), 3);
    assert_int_equal(in_child(child_is_killed_as_daemon), 1);
}

static void child_without_stdio(void)
{
    struct stat st, null;
    int fd;

    close(0);
    close(2);
    CHECK(service_std_fds(NULL) == 0);
    stat("/dev/null", &null);
    CHECK(fstat(0, &st) == 0 && st.st_rdev == null.st_rdev);
    CHECK(fstat(2, &st) == 0 && st.st_rdev == null.st_rdev);
    fd = dup(0);
    CHECK(fd > 2);
    close(fd);
    CHECK(service_std_fds(NULL) == 0);
    CHECK(dup(0) == fd); /* and keeps nothing open */
}

static void no_socket_becomes_stderr(void **unused)
{
    (void)unused;
    assert_int_equal(in_child(child_without_stdio), 0);
}

/* --- pid file --- */

static const char *read_text(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, got, sizeof got - 1);

    close(fd);
    got[n < 0 ? 0 : n] = 0;
    return n < 0 ? NULL : got;
}

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void the_pid_file_replaces_an_old_one_and_goes_in_the_end(void **unused)
{
    char path[100], expected[32];
    struct stat st;

    (void)unused;
    snprintf(path, sizeof path, "%s/pid", dir);
    snprintf(expected, sizeof expected, "%ld\n", (long)getpid());
    write_text(path, "123456789\nand more\n");
    assert_int_equal(service_pid_file_write(path, NULL), 0);
    assert_string_equal(read_text(path), expected);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
    service_pid_file_remove(path);
    assert_int_equal(access(path, F_OK), -1);
    service_pid_file_remove(path); /* nothing there: nothing to do */
    /* rmdir() in teardown() finds a temporary file that was left behind */
}

static void the_pid_file_of_another_process_stays(void **unused)
{
    char path[100];

    (void)unused;
    snprintf(path, sizeof path, "%s/pid", dir);
    write_text(path, "1\n");
    service_pid_file_remove(path);
    assert_string_equal(read_text(path), "1\n");
    unlink(path);
}

static void a_pid_file_that_cannot_be_written_is_an_error(void **unused)
{
    struct err err = {""};
    char path[100];

    (void)unused;
    assert_int_equal(service_pid_file_write("/nowhere/at/all", &err), -1);
    assert_string_equal(err.text, "pid file /nowhere/at/all: No such file or directory");
    snprintf(path, sizeof path, "%s/folder", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(service_pid_file_write(path, &err), -1);
    assert_non_null(strstr(err.text, "/folder: Is a directory"));
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(service_pid_file_write("/dev/null", &err),
                     -1); /* nor is what is no file replaced by one */
    assert_string_equal(err.text, "pid file /dev/null: it is something else than a file");
}

/* --- privileges and limits --- */

static void child_drops(void)
{
    const struct passwd *pw = getpwnam("nobody");
    struct err err;
    gid_t groups[64];
    uid_t uid;
    gid_t gid;
    int n;

    CHECK(pw);
    uid = pw->pw_uid;
    gid = pw->pw_gid;
    n = 1;
    groups[0] = 0;
    CHECK(setgroups(1, groups) == 0); /* as root has them */
    CHECK(service_drop_privileges("nobody", &err) == 0);
    CHECK(getuid() == uid && geteuid() == uid && getgid() == gid && getegid() == gid);
    CHECK(setuid(0) == -1 && setgid(0) == -1);
    n = getgroups(64, groups);
    for (int i = 0; i < n; i++)
        CHECK(groups[i] != 0);
    CHECK(service_drop_privileges("nobody", &err) == 0); /* nothing left to do */
    CHECK(service_drop_privileges("no-such-user", &err) == 0);
}

static void child_stays_root(void)
{
    struct err err = {""};

    CHECK(service_drop_privileges(NULL, &err) == 0);
    CHECK(service_drop_privileges("", &err) == 0);
    CHECK(service_drop_privileges("root", &err) == 0);
    CHECK(service_drop_privileges("no-such-user", &err) == -1);
    CHECK(strstr(err.text, "no-such-user"));
    CHECK(geteuid() == 0);
}

static void root_is_given_up_for_good(void **unused)
{
    (void)unused;
    if (geteuid() != 0)
        skip();
    assert_int_equal(in_child(child_drops), 0);
}

static void an_unknown_user_is_an_error(void **unused)
{
    (void)unused;
    if (geteuid() != 0)
        skip();
    assert_int_equal(in_child(child_stays_root), 0);
}

static void child_raises_nofile(void)
{
    struct rlimit limit = {64, 256};
    struct err err = {""};

    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (geteuid() == 0)
        CHECK(setuid(65534) == 0);               /* the hard limit counts for users only */
    CHECK(service_raise_nofile(10, &err) == 64); /* never lowered */
    CHECK(service_raise_nofile(200, &err) == 200);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 200 && limit.rlim_max == 256);
    CHECK(service_raise_nofile(1000, &err) == -1);
    CHECK(strstr(err.text, "1000 open files are needed, 256 are allowed"));
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 256); /* as far as it goes */
}

static void the_limit_of_open_files_is_raised_as_far_as_it_goes(void **unused)
{
    (void)unused;
    assert_int_equal(in_child(child_raises_nofile), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_socket_in_the_file_system_is_told),
        TEST(an_abstract_socket_is_told),
        TEST(nobody_to_tell_is_no_error),
        TEST(a_broken_name_is_an_error),
        TEST(a_manager_that_does_not_read_holds_nobody),
        TEST(the_watchdog_is_ours_or_nobodys),
        TEST(sockets_are_taken_over_with_their_names),
        TEST(a_broken_environment_is_refused_and_anothers_left_alone),
        TEST(the_parent_leaves_when_the_daemon_is_ready),
        TEST(a_daemon_that_does_not_start_is_told_to_whoever_started_it),
        TEST(no_socket_becomes_stderr),
        TEST(the_pid_file_replaces_an_old_one_and_goes_in_the_end),
        TEST(the_pid_file_of_another_process_stays),
        TEST(a_pid_file_that_cannot_be_written_is_an_error),
        TEST(root_is_given_up_for_good),
        TEST(an_unknown_user_is_an_error),
        TEST(the_limit_of_open_files_is_raised_as_far_as_it_goes),
    };
    alarm(100);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
