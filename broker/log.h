/*
 * log.h - what the broker says, and to whom.
 *
 * log_write() formats a line into a bounded ring and returns; a thread writes the ring to the sinks (stderr,
 * stdout, a file, syslog). A full ring loses the line and counts it; the log thread says how many were lost
 * as soon as it can. So no log destination, however slow, ever holds the loop. Any thread may call
 * log_write().
 *
 * Before log_start() (start-up, tools, unit tests) lines go straight to stderr.
 * Topic sinks ($SYS/broker/log/...) get their lines on the loop thread through a callback.
 *
 * The access log (accesslog.c) takes the same way to sinks of its own, which get nothing else: log_access().
 */
#ifndef BRAMBLE_LOG_H
#define BRAMBLE_LOG_H

#include "broker/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One bit for each log_type of mosquitto.conf. */
enum log_type {
    LOG_T_ERROR = 1 << 0,
    LOG_T_WARNING = 1 << 1,
    LOG_T_NOTICE = 1 << 2,
    LOG_T_INFO = 1 << 3,
    LOG_T_DEBUG = 1 << 4,
    LOG_T_SUBSCRIBE = 1 << 5,
    LOG_T_UNSUBSCRIBE = 1 << 6,
    LOG_T_WEBSOCKETS = 1 << 7,
    LOG_T_INTERNAL = 1 << 8,
    LOG_T_DEFAULT = LOG_T_ERROR | LOG_T_WARNING | LOG_T_NOTICE | LOG_T_INFO,
    LOG_T_ALL = 0x1ff,
    LOG_T_ACCESS = 1 << 9, /* no log_type: a line of log_access() */
};

enum log_dest {
    LOG_D_STDERR = 1 << 0,
    LOG_D_STDOUT = 1 << 1,
    LOG_D_FILE = 1 << 2,
    LOG_D_SYSLOG = 1 << 3,
    LOG_D_TOPIC = 1 << 4,
    LOG_D_ACCESS_FILE = 1 << 5, /* these two for log_access() and nothing else */
    LOG_D_ACCESS_SYSLOG = 1 << 6,
    LOG_D_ACCESS = LOG_D_ACCESS_FILE | LOG_D_ACCESS_SYSLOG,
};

struct log_options {
    unsigned dests;               /* log_dest bits; 0 means nothing is logged */
    unsigned types;               /* log_type bits that are let through */
    const char *file;             /* for LOG_D_FILE; copied */
    const char *access_file;      /* for LOG_D_ACCESS_FILE; copied */
    enum log_dest *failed;        /* set to the destination whose file cannot be opened; NULL is allowed */
    const char *facility;         /* syslog facility name ("daemon", "local0"..); NULL means daemon; copied */
    bool timestamp;               /* log_timestamp */
    const char *timestamp_format; /* for strftime; NULL means seconds since the epoch as mosquitto; copied */
};

/* Opens the sinks and starts the log thread. 0, or -1 with err (an unwritable file is an error). */
int log_start(const struct log_options *options, struct err *err);

/* Swaps the options and opens the log file again (SIGHUP, logrotate). On error the old sinks stay. Blocks on
 * no sink; but the file is opened on the calling thread, so while the loop runs call it from the worker that
 * reads the configuration. */
int log_reopen(const struct log_options *options, struct err *err);

/* Writes what is in the ring (waiting at most two seconds for a stuck sink), ends the thread, closes the
 * sinks. Later lines go to stderr again, if it takes them at once. */
void log_stop(void);

/* One line, without newline; control characters are written as \xNN so that no client can forge a line. Never
 * blocks. */
void log_write(enum log_type type, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Whether a line of this type would go anywhere: lets callers skip costly arguments. */
bool log_wants(enum log_type type);

/* A whole line of the access log, without newline and as it is to be written: to the sinks that the
 * LOG_D_ACCESS bits name. Never blocks. False when there is no room for it now: these lines may fill half of
 * the ring only, the rest is for the log. */
bool log_access(const char *line, size_t n);

/* The longest line that log_access() takes. */
enum { LOG_ACCESS_MAX = 3584 };

/* The n bytes of text as the inside of a JSON string, into out (size > 0): valid whatever the text is; what
 * is no UTF-8 becomes U+FFFD, and what could steer a terminal \uXXXX. Cut between two characters where out is
 * full; *cut is then set, otherwise left alone. Ends in a zero; returns the length. */
size_t log_escape_json(char *out, size_t size, const void *text, size_t n, bool *cut);

/* The time, milliseconds since 1970, as RFC 3339 has it, in UTC: "2026-01-31T12:00:00.123Z". */
enum { LOG_TIME_SIZE = 32 };
void log_time_utc(char out[LOG_TIME_SIZE], int64_t ms);

/* LOG_D_TOPIC: fn is called on the thread that calls log_write (it must check for the loop thread itself, and
 * not log). */
void log_on_topic(void (*fn)(void *arg, enum log_type type, const char *line), void *arg);

/* Lines lost since the start: to a full ring, and to each sink that was stuck or broken. */
uint64_t log_lost(void);

#endif
