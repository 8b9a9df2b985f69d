/*
 * log_sink.h - where log lines go: stderr, stdout, a file, syslog. Private to broker/log*.c.
 *
 * A struct log_setup is everything that one set of options asks for, with its sinks open. It is made on the
 * thread that calls log_start() or log_reopen() and belongs to the log thread from the hand-over until it is
 * replaced.
 */
#ifndef BRAMBLE_LOG_SINK_H
#define BRAMBLE_LOG_SINK_H

#include "broker/log.h"

enum {
    LOG_LINE_MAX =
        2048, /* longest text of a line, escapes included; what is longer is cut and ends in "..." */
    LOG_STAMP_MAX = 128, /* longest timestamp, and longest timestamp format */
    LOG_SINK_BUFFER =
        4096 /* PIPE_BUF: a pipe takes such a piece whole or not at all, and never blocks after poll() */
};

/* How a line begins. */
struct log_stamp {
    bool on;
    char format[LOG_STAMP_MAX]; /* strftime; empty: seconds since the epoch */
};

struct log_line {
    int64_t sec; /* wall clock */
    enum log_type type;
    const char *text;
    size_t len;
};

struct log_sink {
    enum log_dest dest;
    int fd;           /* -1: syslog */
    bool own;         /* fd is ours to close */
    bool nonblocking; /* write() gives EAGAIN instead of waiting */
    bool socket;      /* written with send(), which need not block whatever the flags */
    bool journal;     /* connected to the journal: <N> priorities, no timestamps */
    bool stuck;       /* took nothing for a while; not waited for again before it does */
    bool torn;        /* the last thing written is the first part of a line */
    int error;        /* the errno of the last write that failed for good, or 0 */
    uint64_t missing; /* lines lost and not yet reported there */
    size_t used;
    char buf[LOG_SINK_BUFFER];
};

struct log_setup {
    unsigned dests, types;
    struct log_stamp stamp;
    char *path; /* the log file, or NULL */
    char *access_path;
    int facility; /* for openlog() */
    int count;
    struct log_sink sinks[6];
};

/* fn waits until the sink may take more. False: give up on what is in its buffer. */
struct log_wait {
    bool (*fn)(void *arg, struct log_sink *sink);
    void *arg;
};

/* Opens what the options ask for. NULL with err. May wait for the disk. */
struct log_setup *log_setup_new(const struct log_options *options, struct err *err);
/* Closes the sinks; what is still in their buffers is lost. NULL is allowed. */
void log_setup_free(struct log_setup *setup);

/* On the log thread, when the setup becomes the one that is used (syslog's state is the process's, not the
 * sink's). */
void log_setup_activate(const struct log_setup *setup);

/* The sinks of a new setup will say what those of the old one, of the same kind, have not said yet. */
void log_setup_inherit(struct log_setup *setup, const struct log_setup *old);

/* Stdout or stderr as a sink, as it is used without a setup. */
void log_sink_std(struct log_sink *sink, enum log_dest dest);

/* Adds one line to the sink's buffer; writes the buffer when it is full. Returns how many lines were lost on
 * the way. */
unsigned log_sink_put(struct log_sink *sink, const struct log_stamp *stamp, const struct log_line *line,
                      const struct log_wait *wait);
/* Writes the buffer. Returns how many lines were lost. */
unsigned log_sink_flush(struct log_sink *sink, const struct log_wait *wait);

/* The same for all sinks of a setup. flush() also says in each sink how many lines it misses, as soon as it
 * takes lines; `missing` more were lost before they came here. */
unsigned log_setup_put(struct log_setup *setup, const struct log_line *line, const struct log_wait *wait);
unsigned log_setup_flush(struct log_setup *setup, uint64_t missing, const struct log_wait *wait);

/* The syslog priority of a type. */
int log_priority(enum log_type type);

/* Writes the timestamp and ": " (nothing when it is off) to out, LOG_STAMP_MAX + 4 bytes. Returns its length.
 */
size_t log_stamp_format(char *out, const struct log_stamp *stamp, int64_t sec);
/* 0, or -1 with err when the format is too long. */
int log_stamp_set(struct log_stamp *stamp, const struct log_options *options, struct err *err);

/* Copies n bytes of text to out (size > 4), control characters and broken UTF-8 as \xNN. cut: the text goes
 * on, so it ends in "...", as it does when out is full. Ends in a zero; returns the length. */
size_t log_escape(char *out, size_t size, const char *text, size_t n, bool cut);

#endif
