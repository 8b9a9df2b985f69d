/*
 * accesslog.c - the listener to decisions. See accesslog.h.
 *
 *   broker_decided --> hear --rate--> accesslog_line --> log_access    (log thread: file, journal)
 *                              |                    \--> waiting --end of the turn--> router_publish_now
 *                              \--> left_out, said once a second
 *
 * A decision is made in the middle of anything, a fan-out too, so nothing is published there and then. What
 * is published reaches readers as any message does; that one of them is too slow for it, or goes, is a
 * decision like others and waits for the next turn, within the same rate: nothing feeds itself. What is left
 * out costs a comparison and no text.
 */
#include "broker/accesslog.h"
#include "broker/accesslog_line.h"
#include "broker/bytes.h"
#include "broker/log.h"
#include "broker/rate.h"
#include "broker/router.h"
#include <stdlib.h>
#include <time.h>

enum { WAITING_MAX = 256 * 1024, SAY_AGAIN_MS = 1000 };

struct accesslog {
    struct broker *broker;
    bool written; /* to file or journal */
    struct rate rate;
    uint64_t left_out;    /* and not yet said */
    struct timer say;     /* runs while that is not 0 */
    struct bytes waiting; /* lines to be published at the end of the turn, each with a newline behind it */
    struct defer publish;
};

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* A decision that somebody will not read about, as far as can be said. */
static void leave_out(struct accesslog *log)
{
    log->broker->counters.access_left_out++;
    if (log->left_out++ == 0) {
        timer_start(log->broker->loop, &log->say, SAY_AGAIN_MS);
    }
}

/* ---- onto the topic ---- */

static void publish_line(struct accesslog *log, struct slice line)
{
    struct msg *msg = msg_new(log->broker->decisions.topic, line, 0, false, NULL);
    if (!msg) {
        leave_out(log);
        return;
    }
    router_publish_now(log->broker, msg);
    msg_unref(msg);
}

static void publish_waiting(void *arg)
{
    struct accesslog *log = arg;
    struct bytes lines = log->waiting; /* more may come while these are passed on */
    log->waiting = (struct bytes){0};
    while (lines.len > 0) {
        const uint8_t *line = bytes_front(&lines);
        const uint8_t *newline = memchr(line, '\n', lines.len);
        size_t n = (size_t)(newline - line);
        publish_line(log, slice_of(line, n));
        bytes_drop(&lines, n + 1);
    }
    bytes_clear(&lines);
}

static bool let_wait(struct accesslog *log, const char *line, size_t n)
{
    if (!bytes_add(&log->waiting, line, n, WAITING_MAX)) {
        return false;
    }
    defer_call(log->broker->loop, &log->publish);
    return true;
}

/* ---- lines ---- */

/* False when one of its places has no room for it. line has a byte more than n. */
static bool put(struct accesslog *log, char *line, size_t n)
{
    bool written = !log->written || log_access(line, n);
    line[n] = '\n';
    bool waits = log->broker->decisions.topic.n == 0 || let_wait(log, line, n + 1);
    return written && waits;
}

/* Outside the rate: it is one line a second. */
static void say_left_out(void *arg)
{
    struct accesslog *log = arg;
    char line[LOG_ACCESS_MAX + 1];
    if (put(log, line, accesslog_left_out(line, log->left_out, wall_ms()))) {
        log->left_out = 0;
    } else {
        timer_start(log->broker->loop, &log->say, SAY_AGAIN_MS);
    }
}

static void hear(void *arg, const struct decision *decision)
{
    struct accesslog *log = arg;
    bool asked = decision->kind == DECIDED_PUBLISH || decision->kind == DECIDED_SUBSCRIBE;
    if (asked && decision->allowed) {
        return;
    }
    bool proven = decision->kind != DECIDED_CONNECT || decision->allowed;
    if (!rate_take(&log->rate, rate_source(decision->who, proven), loop_now(log->broker->loop))) {
        leave_out(log);
        return;
    }
    char line[LOG_ACCESS_MAX + 1];
    const struct door *door = broker_door(log->broker, decision->who);
    if (!put(log, line, accesslog_line(line, decision, door ? door->config : NULL, wall_ms()))) {
        leave_out(log);
    }
}

/* ---- life ---- */

static void use_options(struct accesslog *log)
{
    const struct config *config = log->broker->config;
    struct slice topic = slice_str(config->access_log_topic);
    log->written = config->access_log_file || config->access_log_journal;
    bool wanted = log->written || topic.n > 0;
    log->broker->decisions =
        (struct decision_listener){.fn = wanted ? hear : NULL, .arg = log, .topic = topic};
}

struct accesslog *accesslog_new(struct broker *broker)
{
    struct accesslog *log = calloc(1, sizeof *log);
    if (!log) {
        return NULL;
    }
    log->broker = broker;
    timer_setup(&log->say, say_left_out, log);
    defer_setup(&log->publish, publish_waiting, log);
    rate_init(&log->rate, broker->config->access_log_rate, loop_now(broker->loop));
    use_options(log);
    return log;
}

void accesslog_reload(struct accesslog *log)
{
    publish_waiting(log); /* on the topic for which they were meant */
    rate_change(&log->rate, log->broker->config->access_log_rate);
    use_options(log);
}

void accesslog_stop(struct accesslog *log)
{
    if (log) {
        log->broker->decisions.topic = slice_of(NULL, 0);
        defer_cancel(log->broker->loop, &log->publish);
        bytes_clear(&log->waiting);
    }
}

void accesslog_free(struct accesslog *log)
{
    if (!log) {
        return;
    }
    if (log->left_out > 0) {
        say_left_out(log);
    }
    timer_stop(log->broker->loop, &log->say);
    log->broker->decisions = (struct decision_listener){0};
    free(log);
}
