/*
 * log_sink.c - opening the log's destinations, and writing to them without ever being held for good.
 *
 * A sink collects whole lines in a buffer of PIPE_BUF bytes and writes it in one go. Descriptors of our own
 * (the file, a terminal that we opened again) do not block; stdout and stderr are shared with whoever started
 * us, so their flags are left alone and poll() asks before each piece (a socket, the journal's, has a flag
 * for each send). When a sink takes nothing, the caller's wait() decides how long to stay; lines given up are
 * counted in sink->missing and reported in the sink itself, at the gap.
 */
#include "broker/log_sink.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

/* --- opening --- */

/* 0..7 are local0..local7, as mosquitto has it; otherwise the usual names. -1: unknown. */
static int facility_find(const char *name)
{
    static const struct {
        const char *name;
        int facility;
    } names[] = {
        {"auth", LOG_AUTH},     {"authpriv", LOG_AUTHPRIV}, {"cron", LOG_CRON},     {"daemon", LOG_DAEMON},
        {"ftp", LOG_FTP},       {"kern", LOG_KERN},         {"lpr", LOG_LPR},       {"mail", LOG_MAIL},
        {"news", LOG_NEWS},     {"syslog", LOG_SYSLOG},     {"user", LOG_USER},     {"uucp", LOG_UUCP},
        {"local0", LOG_LOCAL0}, {"local1", LOG_LOCAL1},     {"local2", LOG_LOCAL2}, {"local3", LOG_LOCAL3},
        {"local4", LOG_LOCAL4}, {"local5", LOG_LOCAL5},     {"local6", LOG_LOCAL6}, {"local7", LOG_LOCAL7},
    };

    if (!name)
        return LOG_DAEMON;
    if (name[0] >= '0' && name[0] <= '7' && !name[1])
        return LOG_LOCAL0 + ((name[0] - '0') << 3);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i].name, name) == 0)
            return names[i].facility;
    }
    return -1;
}

/* Whether fd is the stream that systemd says is the journal's ("device:inode" of JOURNAL_STREAM). */
static bool is_journal(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    if (!stream || sscanf(stream, "%llu:%llu", &device, &inode) != 2 || fstat(fd, &st) != 0)
        return false;
    return st.st_dev == (dev_t)device && st.st_ino == (ino_t)inode;
}

void log_sink_std(struct log_sink *sink, enum log_dest dest)
{
    int fd = dest == LOG_D_STDOUT ? STDOUT_FILENO : STDERR_FILENO;
    struct stat st;

    memset(sink, 0, offsetof(struct log_sink, buf));
    sink->dest = dest;
    sink->fd = fd;
    sink->journal = is_journal(fd);
    sink->socket = fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* A terminal that is stopped (Ctrl-S) blocks its writer half way: write through an open file of our own,
 * which need not, and which can be had without changing the flags of the one that we share. */
static void sink_own_terminal(struct log_sink *sink)
{
    unsigned number;
    char path[32];
    int fd;

    if (!isatty(sink->fd) || ioctl(sink->fd, TIOCGPTN, &number) == 0)
        return; /* opening the master side of a pseudo-terminal would make another one */
    snprintf(path, sizeof path, "/proc/self/fd/%d", sink->fd);
    fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return;
    sink->fd = fd;
    sink->own = sink->nonblocking = true;
}

/* A FIFO is opened for reading too: that never fails or waits for want of a reader, and a reader may come and
 * go. */
static int open_log_file(const char *path, struct err *err)
{
    const int flags = O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_APPEND;
    struct stat st;
    int fd;

    if (stat(path, &st) == 0 && S_ISFIFO(st.st_mode)) {
        fd = open(path, O_RDWR | flags);
    } else {
        fd = open(path, O_WRONLY | O_CREAT | flags, 0640);
    }
    if (fd < 0)
        return err_set(err, "log file %s: %s", err_path(path), strerror(errno));
    return fd;
}

/* name: the option, for err. *kept becomes a copy of path. */
static int sink_open_file(struct log_sink *sink, const char *name, const char *path, char **kept,
                          struct err *err)
{
    if (!path)
        return err_set(err, "%s without a file name", name);
    *kept = strdup(path);
    if (!*kept)
        return err_set(err, "out of memory");
    sink->fd = open_log_file(*kept, err);
    if (sink->fd < 0)
        return -1;
    sink->own = sink->nonblocking = true;
    return 0;
}

static int sink_open(struct log_setup *setup, struct log_sink *sink, const struct log_options *options,
                     struct err *err)
{
    switch (sink->dest) {
    case LOG_D_FILE:
        return sink_open_file(sink, "log_dest file", options->file, &setup->path, err);
    case LOG_D_ACCESS_FILE:
        return sink_open_file(sink, "access_log_file", options->access_file, &setup->access_path, err);
    case LOG_D_SYSLOG:
    case LOG_D_ACCESS_SYSLOG:
        return 0;
    default:
        log_sink_std(sink, sink->dest);
        sink_own_terminal(sink);
        return 0;
    }
}

static int setup_open(struct log_setup *setup, const struct log_options *options, struct err *err)
{
    static const enum log_dest dests[] = {LOG_D_STDERR, LOG_D_STDOUT,      LOG_D_FILE,
                                          LOG_D_SYSLOG, LOG_D_ACCESS_FILE, LOG_D_ACCESS_SYSLOG};

    for (size_t i = 0; i < sizeof dests / sizeof dests[0]; i++) {
        struct log_sink *sink = &setup->sinks[setup->count];
        if (!(options->dests & dests[i]))
            continue;
        sink->dest = dests[i];
        sink->fd = -1;
        if (sink_open(setup, sink, options, err) < 0) {
            if (options->failed)
                *options->failed = dests[i];
            return -1;
        }
        setup->count++;
    }
    return 0;
}

struct log_setup *log_setup_new(const struct log_options *options, struct err *err)
{
    struct log_setup *setup = calloc(1, sizeof *setup);

    if (!setup) {
        err_set(err, "out of memory");
        return NULL;
    }
    setup->dests = options->dests;
    setup->types = options->dests & ~(unsigned)LOG_D_ACCESS ? options->types : 0;
    setup->facility = facility_find(options->facility);
    if (setup->facility < 0) {
        err_set(err, "unknown log_facility %s", options->facility);
    } else if (log_stamp_set(&setup->stamp, options, err) == 0 && setup_open(setup, options, err) == 0) {
        return setup;
    }
    log_setup_free(setup);
    return NULL;
}

void log_setup_free(struct log_setup *setup)
{
    if (!setup)
        return;
    for (int i = 0; i < setup->count; i++) {
        if (setup->sinks[i].own)
            close(setup->sinks[i].fd);
    }
    free(setup->path);
    free(setup->access_path);
    free(setup);
}

void log_setup_inherit(struct log_setup *setup, const struct log_setup *old)
{
    for (int i = 0; i < setup->count; i++) {
        for (int j = 0; j < old->count; j++) {
            if (setup->sinks[i].dest == old->sinks[j].dest)
                setup->sinks[i].missing += old->sinks[j].missing;
        }
    }
}

void log_setup_activate(const struct log_setup *setup)
{
    closelog();
    if (setup && setup->dests & (LOG_D_SYSLOG | LOG_D_ACCESS_SYSLOG))
        openlog("bramble", LOG_PID | LOG_NDELAY, setup->facility);
}

/* --- writing one sink --- */

/* -1 with EAGAIN when the sink takes nothing now. */
static ssize_t sink_write(const struct log_sink *sink, const char *p, size_t n)
{
    struct pollfd pfd = {.fd = sink->fd, .events = POLLOUT};

    if (sink->socket)
        return send(sink->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (!sink->nonblocking && poll(&pfd, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    return write(sink->fd, p, n);
}

/* Gives up on what is left in the buffer from byte `done` on. */
static unsigned sink_lose(struct log_sink *sink, size_t done)
{
    unsigned lost = 0;

    for (size_t i = done; i < sink->used; i++) {
        if (sink->buf[i] == '\n')
            lost++;
    }
    if (sink->torn && done == 0)
        lost--; /* the newline that was to end the torn line */
    if (done > 0)
        sink->torn = sink->buf[done - 1] != '\n';
    sink->missing += lost;
    sink->used = 0;
    return lost;
}

unsigned log_sink_flush(struct log_sink *sink, const struct log_wait *wait)
{
    size_t done = 0;

    while (done < sink->used) {
        ssize_t n = sink_write(sink, sink->buf + done, sink->used - done);
        if (n > 0) {
            done += (size_t)n;
            sink->stuck = false;
            sink->error = 0;
        } else if (n < 0 && errno == EAGAIN) {
            sink->stuck = !wait->fn(wait->arg, sink);
            if (sink->stuck)
                return sink_lose(sink, done);
        } else if (n == 0 || errno != EINTR) {
            sink->error = n < 0 ? errno : EIO;
            sink->stuck = false;
            return sink_lose(sink, done);
        }
    }
    if (sink->used > 0)
        sink->torn = false;
    sink->used = 0;
    return 0;
}

unsigned log_sink_put(struct log_sink *sink, const struct log_stamp *stamp, const struct log_line *line,
                      const struct log_wait *wait)
{
    char head[LOG_STAMP_MAX + 4] = "";
    size_t n;
    unsigned lost = 0;

    if (sink->dest == LOG_D_SYSLOG) {
        syslog(log_priority(line->type), "%.*s", (int)line->len, line->text);
        return 0;
    }
    if (sink->dest == LOG_D_ACCESS_SYSLOG) { /* names and addresses of people: for those who may read that */
        syslog(LOG_AUTHPRIV | log_priority(line->type), "%.*s", (int)line->len, line->text);
        return 0;
    }
    if (sink->dest == LOG_D_ACCESS_FILE) {
        n = 0;
    } else if (sink->journal) {
        n = (size_t)snprintf(head, sizeof head, "<%d>", log_priority(line->type));
    } else {
        n = log_stamp_format(head, stamp, line->sec);
    }
    if (sink->used + n + line->len + 2 > sizeof sink->buf)
        lost = log_sink_flush(sink, wait);
    if (sink->torn && sink->used == 0)
        sink->buf[sink->used++] = '\n';
    memcpy(sink->buf + sink->used, head, n);
    memcpy(sink->buf + sink->used + n, line->text, line->len);
    sink->used += n + line->len;
    sink->buf[sink->used++] = '\n';
    return lost;
}

/* --- writing all of a setup --- */

static bool is_access(const struct log_sink *sink)
{
    return sink->dest & LOG_D_ACCESS;
}

unsigned log_setup_put(struct log_setup *setup, const struct log_line *line, const struct log_wait *wait)
{
    unsigned lost = 0;

    for (int i = 0; i < setup->count; i++) {
        if (is_access(&setup->sinks[i]) == (line->type == LOG_T_ACCESS))
            lost += log_sink_put(&setup->sinks[i], &setup->stamp, line, wait);
    }
    return lost;
}

/* A line of the log's own; cut, should it be longer than that. */
__attribute__((format(printf, 4, 5))) static unsigned
sink_say(struct log_setup *setup, struct log_sink *sink, const struct log_wait *wait, const char *fmt, ...)
{
    char text[512];
    struct log_line line = {.sec = (int64_t)time(NULL), .type = LOG_T_WARNING, .text = text};
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    line.len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    return log_sink_put(sink, &setup->stamp, &line, wait);
}

/* Tells the other sinks that this one has broken. */
static unsigned sink_say_broken(struct log_setup *setup, const struct log_sink *broken,
                                const struct log_wait *wait)
{
    const char *name = broken->dest == LOG_D_STDERR   ? "stderr"
                       : broken->dest == LOG_D_STDOUT ? "stdout"
                       : is_access(broken)            ? setup->access_path
                                                      : setup->path;
    unsigned lost = 0;

    for (int i = 0; i < setup->count; i++) {
        if (&setup->sinks[i] == broken || is_access(&setup->sinks[i]))
            continue;
        lost += sink_say(setup, &setup->sinks[i], wait, "Cannot write the log to %s: %s; its lines are lost",
                         name, strerror(broken->error));
    }
    return lost;
}

/* Says how many lines are missing, if the sink takes lines. */
static void sink_say_missing(struct log_setup *setup, struct log_sink *sink, const struct log_wait *wait)
{
    uint64_t missing = sink->missing;

    if (!missing || sink->error || sink->stuck)
        return;
    sink->missing = 0;
    if (is_access(sink)) {
        char now[LOG_TIME_SIZE];
        log_time_utc(now, 1000 * (int64_t)time(NULL));
        sink_say(setup, sink, wait, "{\"time\":\"%s\",\"event\":\"lost\",\"count\":%llu}", now,
                 (unsigned long long)missing);
    } else {
        sink_say(setup, sink, wait, "%llu log lines lost", (unsigned long long)missing);
    }
    if (log_sink_flush(sink, wait) > 0)
        sink->missing = missing; /* next time; the report itself does not count */
}

unsigned log_setup_flush(struct log_setup *setup, uint64_t missing, const struct log_wait *wait)
{
    unsigned lost = 0;

    for (int i = 0; i < setup->count; i++) {
        struct log_sink *sink = &setup->sinks[i];
        int error = sink->error;
        lost += log_sink_flush(sink, wait);
        if (sink->error && !error)
            lost += sink_say_broken(setup, sink, wait);
        if (!is_access(sink)) /* log_access() says itself what does not come here */
            sink->missing += missing;
    }
    /* again: sinks at the front may have been told that one behind them is broken */
    for (int i = 0; i < setup->count; i++) {
        lost += log_sink_flush(&setup->sinks[i], wait);
        sink_say_missing(setup, &setup->sinks[i], wait);
    }
    return lost;
}
