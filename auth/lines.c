/*
 * lines.c - line by line through a file that may be anything (see lines.h).
 *
 * The buffer of one longest line is part of the reader, so a file without newlines costs no more than any
 * other. It is wiped at the end: password files pass through here.
 */
#include "auth/lines.h"

#include "broker/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct lines {
    const char *path;
    FILE *file;
    unsigned number;
    bool unfinished;
    uint8_t buf[LINES_MAX];
    char io[4096]; /* stdio's buffer, here so that it is wiped too */
};

static void warn_of_mode(const char *path, const struct stat *st, bool secret)
{
    if (!S_ISREG(st->st_mode))
        return;
    if (st->st_mode & S_IWOTH)
        log_write(LOG_T_WARNING,
                  "%s: every user of this machine can change this file (mend it with: chmod o-rwx)", path);
    else if (secret && (st->st_mode & S_IROTH))
        log_write(LOG_T_WARNING,
                  "%s: every user of this machine can read this file (mend it with: chmod o-rwx)", path);
}

struct lines *lines_open(const char *path, bool secret, struct err *err)
{
    struct stat st;
    /* Without O_NONBLOCK a FIFO would hold the caller until somebody writes into it. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) != 0) {
        err_set(err, "%s: %s", err_path(path), strerror(errno));
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode)) {
        err_set(err, "%s: not a file", err_path(path));
        close(fd);
        return NULL;
    }
    struct lines *lines = calloc(1, sizeof *lines);
    FILE *file = lines ? fdopen(fd, "r") : NULL;
    if (!file) {
        err_set(err, "%s: out of memory", err_path(path));
        free(lines);
        close(fd);
        return NULL;
    }
    warn_of_mode(path, &st, secret);
    lines->path = path;
    lines->file = file;
    setvbuf(file, lines->io, _IOFBF, sizeof lines->io);
    return lines;
}

void lines_close(struct lines *lines)
{
    if (!lines)
        return;
    fclose(lines->file);
    sodium_memzero(lines, sizeof *lines);
    free(lines);
}

int lines_next(struct lines *lines, struct slice *line, struct err *err)
{
    size_t n = 0;
    int c = getc_unlocked(lines->file);
    if (c == EOF && !ferror(lines->file))
        return 0;
    lines->number++;
    for (; c != EOF && c != '\n'; c = getc_unlocked(lines->file)) {
        if (n == LINES_MAX)
            return lines_fail(lines, err, "the line is too long (more than %d bytes)", LINES_MAX);
        if (c == 0)
            return lines_fail(lines, err, "the line holds a zero byte: this is not a text file");
        lines->buf[n++] = (uint8_t)c;
    }
    if (ferror(lines->file))
        return lines_fail(lines, err, "%s", strerror(errno));
    lines->unfinished = c == EOF && n > 0;
    *line = slice_of(lines->buf, n);
    return 1;
}

bool lines_unfinished(const struct lines *lines)
{
    return lines->unfinished;
}

unsigned lines_number(const struct lines *lines)
{
    return lines->number;
}

int lines_fail(const struct lines *lines, struct err *err, const char *fmt, ...)
{
    char reason[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    return err_set(err, "%s:%u: %s", err_path(lines->path), lines->number, reason);
}

void lines_warn(const struct lines *lines, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    log_write(LOG_T_WARNING, "%s:%u: %s", lines->path, lines->number, text);
}

static bool blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

struct slice lines_trim(struct slice s)
{
    while (s.n && blank(s.p[0]))
        s = slice_of(s.p + 1, s.n - 1);
    while (s.n && blank(s.p[s.n - 1]))
        s.n--;
    return s;
}
