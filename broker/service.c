/*
 * service.c - being a daemon, without libsystemd: the protocols are a datagram and three environment
 * variables.
 *
 * Going to the background:
 *
 *     parent   fork --> read(pipe) .................. "ready" -> exit 0    | end of file -> waitpid, exit as
 * the child child           setsid, bind, load, drop ... --> write(pipe), /dev/null
 */
#include "broker/service.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_LISTEN_FD = 3, PASSWD_BUFFER = 64 * 1024 };

/* --- notifications --- */

/* "/path" or "@abstract". Returns the length of the address, or -1. */
static int notify_address(const char *name, struct sockaddr_un *un)
{
    size_t n = strlen(name);

    if ((name[0] != '/' && name[0] != '@') || n < 2 || n >= sizeof un->sun_path)
        return -1;
    *un = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(un->sun_path, name, n);
    if (name[0] == '@') {
        un->sun_path[0] = 0;
        return (int)(offsetof(struct sockaddr_un, sun_path) +
                     n); /* an abstract name has no zero at its end */
    }
    return (int)(offsetof(struct sockaddr_un, sun_path) + n + 1);
}

int service_notify_socket(int *fd, struct err *err)
{
    const char *name = getenv("NOTIFY_SOCKET");

    *fd = -1;
    if (!name || !name[0])
        return 0;
    *fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return *fd < 0 ? err_set(err, "Error: cannot notify the service manager: %s", strerror(errno)) : 0;
}

int service_notify(int fd, const char *message, struct err *err)
{
    const char *name = getenv("NOTIFY_SOCKET");
    struct sockaddr_un un;
    ssize_t sent;
    int length, own = -1;

    if (!name || !name[0])
        return 0;
    length = notify_address(name, &un);
    if (length < 0)
        return err_set(err, "NOTIFY_SOCKET=%s is not the name of a socket", name);
    if (fd < 0 && service_notify_socket(&own, err) < 0)
        return -1;
    sent = sendto(own < 0 ? fd : own, message, strlen(message), MSG_NOSIGNAL, (struct sockaddr *)&un,
                  (socklen_t)length);
    if (sent < 0)
        err_set(err, "cannot notify the service manager at %s: %s", name, strerror(errno));
    if (own >= 0)
        close(own);
    return sent < 0 ? -1 : 1;
}

int service_notify_ready(int fd, struct err *err)
{
    return service_notify(fd, "READY=1", err);
}

int service_notify_reloading(int fd, struct err *err)
{
    char message[80];
    struct timespec ts = {0, 0};

    clock_gettime(CLOCK_MONOTONIC, &ts); /* the clock that systemd compares with */
    snprintf(message, sizeof message, "RELOADING=1\nMONOTONIC_USEC=%lld",
             (long long)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
    return service_notify(fd, message, err);
}

int service_notify_stopping(int fd, struct err *err)
{
    return service_notify(fd, "STOPPING=1", err);
}

int service_notify_status(int fd, const char *text, struct err *err)
{
    char message[512];
    size_t n = (size_t)snprintf(message, sizeof message, "STATUS=%s", text);

    /* A newline would begin another message. */
    for (size_t i = 0; i < n && i < sizeof message - 1; i++) {
        if ((unsigned char)message[i] < 0x20)
            message[i] = '?';
    }
    return service_notify(fd, message, err);
}

int service_notify_watchdog(int fd, struct err *err)
{
    return service_notify(fd, "WATCHDOG=1", err);
}

/* --- what systemd says in the environment --- */

/* A whole number from 0 to max, and nothing else. */
static bool parse_number(const char *text, uint64_t max, uint64_t *value)
{
    char *end;
    unsigned long long n;

    if (!text || text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    n = strtoull(text, &end, 10);
    if (errno || *end || n > max)
        return false;
    *value = n;
    return true;
}

uint64_t service_watchdog_us(void)
{
    const char *pid_text = getenv("WATCHDOG_PID");
    uint64_t us, pid;

    if (!parse_number(getenv("WATCHDOG_USEC"), UINT64_MAX, &us))
        return 0;
    if (pid_text && (!parse_number(pid_text, INT32_MAX, &pid) || (pid_t)pid != getpid()))
        return 0;
    return us;
}

/* The next of the names "a:b:c". */
static void next_name(const char **names, char *out, size_t size)
{
    size_t n;

    if (!*names) {
        snprintf(out, size, "unknown");
        return;
    }
    n = strcspn(*names, ":");
    snprintf(out, size, "%.*s", (int)n, *names);
    *names = (*names)[n] ? *names + n + 1 : NULL;
}

static int set_flags(int fd)
{
    int cloexec = fcntl(fd, F_GETFD);
    int status = fcntl(fd, F_GETFL);

    if (cloexec < 0 || status < 0)
        return -1;
    if (fcntl(fd, F_SETFD, cloexec | FD_CLOEXEC) < 0)
        return -1;
    return fcntl(fd, F_SETFL, status | O_NONBLOCK);
}

static int take_fds(struct service_fd *fds, int count, const char *names, struct err *err)
{
    for (int i = 0; i < count; i++) {
        fds[i].fd = FIRST_LISTEN_FD + i;
        next_name(&names, fds[i].name, sizeof fds[i].name);
        if (set_flags(fds[i].fd) < 0) {
            return err_set(err, "LISTEN_FDS=%d, but descriptor %d: %s", count, fds[i].fd, strerror(errno));
        }
    }
    return count;
}

static int parse_fds(struct service_fd **fds, struct err *err)
{
    const char *pid_text = getenv("LISTEN_PID"), *count_text = getenv("LISTEN_FDS");
    uint64_t pid, count;
    int taken;

    if (!pid_text || !count_text)
        return 0;
    if (!parse_number(pid_text, INT32_MAX, &pid))
        return err_set(err, "LISTEN_PID=%s is not a number", pid_text);
    if ((pid_t)pid != getpid())
        return 0;
    if (!parse_number(count_text, 1 << 16, &count))
        return err_set(err, "LISTEN_FDS=%s is not a number", count_text);
    if (count == 0)
        return 0;
    *fds = calloc(count, sizeof **fds);
    if (!*fds)
        return err_set(err, "out of memory");
    taken = take_fds(*fds, (int)count, getenv("LISTEN_FDNAMES"), err);
    if (taken >= 0)
        return taken;
    free(*fds);
    *fds = NULL;
    return -1;
}

int service_listen_fds(struct service_fd **fds, struct err *err)
{
    int count;

    *fds = NULL;
    count = parse_fds(fds, err);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return count;
}

/* --- the background --- */

int service_std_fds(struct err *err)
{
    for (;;) {
        int fd = open("/dev/null", O_RDWR | O_NOCTTY);
        if (fd < 0)
            return err_set(err, "/dev/null: %s", strerror(errno));
        if (fd <= STDERR_FILENO)
            continue; /* it has filled a gap: is there another one? */
        close(fd);
        return 0;
    }
}

/* The parent's part: leaves when the child is ready or gone. */
__attribute__((noreturn)) static void parent_wait(pid_t child, int fd)
{
    char word;
    ssize_t n;
    int status;

    do {
        n = read(fd, &word, 1);
    } while (n < 0 && errno == EINTR);
    if (n == 1)
        _exit(0);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

int service_daemonise(int *ready, struct err *err)
{
    int ends[2];
    pid_t child;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_set(err, "cannot go to the background: %s", strerror(errno));
    fflush(NULL); /* else both would write what is still buffered */
    child = fork();
    if (child < 0) {
        err_set(err, "cannot go to the background: %s", strerror(errno));
        close(ends[0]);
        close(ends[1]);
        return -1;
    }
    if (child > 0) {
        close(ends[1]);
        parent_wait(child, ends[0]);
    }
    close(ends[0]);
    setsid(); /* cannot fail: a new child leads no process group */
    *ready = ends[1];
    return 0;
}

int service_daemon_ready(int ready, struct err *err)
{
    int null = open("/dev/null", O_RDWR | O_NOCTTY | O_CLOEXEC);
    int rc = 0;

    if (null < 0) {
        rc = err_set(err, "/dev/null: %s", strerror(errno));
    } else {
        fflush(NULL);
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
            if (dup2(null, fd) < 0)
                rc = err_set(err, "/dev/null: %s", strerror(errno));
        }
        if (null > STDERR_FILENO)
            close(null);
    }
    if (rc == 0) {
        while (write(ready, "r", 1) < 0 && errno == EINTR) {
        }
    }
    close(ready);
    return rc;
}

/* --- pid file --- */

static int pid_write(int fd)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());

    if (write(fd, text, (size_t)n) != n)
        return -1;
    return fchmod(fd, 0644);
}

int service_pid_file_write(const char *path, struct err *err)
{
    struct stat st;
    char *temporary;
    int fd, rc = -1;

    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) &&
        !S_ISDIR(st.st_mode)) /* /dev/null must not be replaced */
        return err_set(err, "pid file %s: it is something else than a file", err_path(path));
    if (asprintf(&temporary, "%s.XXXXXX", path) < 0)
        return err_set(err, "out of memory");
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd >= 0) {
        rc = pid_write(fd);
        if (rc == 0)
            rc = rename(temporary, path);
        if (rc < 0)
            err_set(err, "pid file %s: %s", err_path(path), strerror(errno));
        if (rc < 0)
            unlink(temporary);
        close(fd);
    } else {
        err_set(err, "pid file %s: %s", err_path(path), strerror(errno));
    }
    free(temporary);
    return rc;
}

void service_pid_file_remove(const char *path)
{
    char text[24] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n;

    if (fd < 0)
        return;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n > 0 && strtol(text, NULL, 10) == (long)getpid())
        unlink(path);
}

/* --- privileges and limits --- */

/* 0 when root's rights are gone and stay gone. */
static int check_dropped(uid_t uid, gid_t gid, struct err *err)
{
    uid_t ruid, euid, suid;
    gid_t rgid, egid, sgid;

    if (getresuid(&ruid, &euid, &suid) < 0 || getresgid(&rgid, &egid, &sgid) < 0) {
        return err_set(err, "cannot tell which user this is: %s", strerror(errno));
    }
    if (ruid != uid || euid != uid || suid != uid || rgid != gid || egid != gid || sgid != gid) {
        return err_set(err, "the user was not changed completely");
    }
    if (setuid(0) == 0 || seteuid(0) == 0 || (gid != 0 && (setgid(0) == 0 || setegid(0) == 0))) {
        return err_set(err, "root's rights could be had again after giving them up");
    }
    return 0;
}

static int become(const char *user, const struct passwd *pw, struct err *err)
{
    if (pw->pw_uid == 0)
        return err_set(err, "user %s is root under another name", user);
    if (initgroups(user, pw->pw_gid) < 0)
        return err_set(err, "groups of user %s: %s", user, strerror(errno));
    if (setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) < 0) {
        return err_set(err, "group of user %s: %s", user, strerror(errno));
    }
    if (setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0) {
        return err_set(err, "cannot become user %s: %s", user, strerror(errno));
    }
    if (check_dropped(pw->pw_uid, pw->pw_gid, err) < 0)
        return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_set(err, "no_new_privs: %s", strerror(errno));
    return 0;
}

int service_drop_privileges(const char *user, struct err *err)
{
    struct passwd pw, *found = NULL;
    char *buffer;
    int rc;

    if (geteuid() != 0 || !user || !user[0] || strcmp(user, "root") == 0)
        return 0;
    buffer = malloc(PASSWD_BUFFER);
    if (!buffer)
        return err_set(err, "out of memory");
    rc = getpwnam_r(user, &pw, buffer, PASSWD_BUFFER, &found);
    if (found) {
        rc = become(user, found, err);
    } else {
        rc = err_set(err, "user %s: %s", user, rc ? strerror(rc) : "there is no such user");
    }
    free(buffer);
    return rc;
}

int64_t service_raise_nofile(uint64_t wanted, struct err *err)
{
    struct rlimit limit, more;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return err_set(err, "open files: %s", strerror(errno));
    if (limit.rlim_cur < wanted) {
        more = (struct rlimit){wanted, limit.rlim_max > wanted ? limit.rlim_max : wanted};
        if (setrlimit(RLIMIT_NOFILE, &more) < 0) { /* only root may raise the hard limit */
            more = (struct rlimit){limit.rlim_max, limit.rlim_max};
            if (setrlimit(RLIMIT_NOFILE, &more) < 0)
                more = limit;
        }
        limit = more;
    }
    if (limit.rlim_cur < wanted) {
        return err_set(err,
                       "%llu open files are needed, %llu are allowed: raise LimitNOFILE= (systemd) or ulimit "
                       "-n, or lower "
                       "max_connections",
                       (unsigned long long)wanted, (unsigned long long)limit.rlim_cur);
    }
    return limit.rlim_cur > INT64_MAX ? INT64_MAX : (int64_t)limit.rlim_cur;
}
