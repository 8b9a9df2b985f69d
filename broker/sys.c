/*
 * sys.c - $SYS and the jobs by the clock. See sys.h.
 *
 * A value is published only when it has changed since the last round, as mosquitto does: an idle broker is
 * quiet.
 */
#include "broker/sys.h"
#include "broker/local.h"
#include "broker/log.h"
#include "broker/mailbox.h"
#include "broker/mem.h"
#include "broker/store_sqlite.h"
#include <inttypes.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SWEEP_MS = 60000 };

/* What is not a counter: one row gives the place under $SYS/broker/ and the expression over struct broker *b.
 */
#define GAUGES(X)                                                                 \
    X("clients/connected", b->sessions.online - 1)                                \
    X("clients/active", b->sessions.online - 1)                                   \
    X("clients/total", HASH_COUNT(b->sessions.by_id) - 1)                         \
    X("clients/disconnected", HASH_COUNT(b->sessions.by_id) - b->sessions.online) \
    X("clients/inactive", HASH_COUNT(b->sessions.by_id) - b->sessions.online)     \
    X("subscriptions/count", subs_count(b->subs))                                 \
    X("retained messages/count", retain_count(b->retain))                         \
    X("store/messages/bytes", retain_bytes(b->retain))                            \
    X("publish/messages/dropped", b->sessions.dropped)                            \
    X("connections/open", b->conn_count)                                          \
    X("messages/bytes", msg_bytes())                                              \
    X("memory/held", mem_held())                                                  \
    X("log_lines_lost", log_lost())                                               \
    X("heap/current", heap_in_use())

/* The same of a durable store: of `c`, what the domain counts, and `f`, what the storage does. */
#define STORE(X)                                                  \
    X("store/commits", c->batches)                                \
    X("store/messages/stored", c->messages)                       \
    X("store/annihilated", c->annihilated)                        \
    X("store/failures", c->failures)                              \
    X("store/pending_bytes", c->pending_bytes)                    \
    X("store/pending_changes", store_changes(sys->broker->store)) \
    X("store/blocked", store_blocked(sys->broker->store))         \
    X("store/syncs", f.syncs)                                     \
    X("store/bytes_written", f.bytes_written)                     \
    X("store/file_bytes", f.file_bytes)                           \
    X("store/wal_bytes", f.wal_bytes)

enum {
    VALUES = 0
#define X(...) +1
    COUNTERS(X) GAUGES(X) STORE(X)
#undef X
};

enum { LINES_WAITING = 1000 };

struct sys {
    struct broker *broker;
    atomic_int lines; /* log lines on their way to the loop */
    struct local *local;
    struct timer round, sweep;
    bool first;
    uint64_t values[VALUES];
    const struct storage *storage; /* NULL: nothing is durable */
    char trouble[256];             /* of the store, as it was published */
};

static uint64_t heap_in_use(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void publish(struct sys *sys, const char *topic, const char *text)
{
    if (local_publish(sys->local, topic, slice_str(text), 0, true) < 0) {
        log_write(LOG_T_ERROR, "Out of memory for %s.", topic);
    }
}

static void report(struct sys *sys, size_t i, const char *topic, uint64_t value)
{
    if (sys->first || sys->values[i] != value) {
        char text[24];
        snprintf(text, sizeof text, "%" PRIu64, value);
        sys->values[i] = value;
        publish(sys, topic, text);
    }
}

static void publish_store(struct sys *sys, size_t i)
{
    const struct store_counts *c = store_counts(sys->broker->store);
    struct storage_figures f = storage_figures(sys->storage);
    char trouble[sizeof sys->trouble];
#define X(topic, value) report(sys, i++, "$SYS/broker/" topic, (uint64_t)(value));
    STORE(X)
#undef X
    snprintf(trouble, sizeof trouble, "%s", store_trouble(sys->broker->store));
    if (sys->first || strcmp(trouble, sys->trouble) != 0) {
        memcpy(sys->trouble, trouble, sizeof trouble);
        publish(sys, "$SYS/broker/store/trouble", *trouble ? trouble : "none");
    }
}

static void publish_round(struct sys *sys)
{
    struct broker *b = sys->broker;
    struct counters counters = b->counters; /* as they were before this round */
    size_t i = 0;
    char text[64];
    if (sys->first) {
        publish(sys, "$SYS/broker/version", "bramble version " BRAMBLE_VERSION);
    }
    snprintf(text, sizeof text, "%" PRId64 " seconds", (loop_now(b->loop) - b->started) / 1000);
    publish(sys, "$SYS/broker/uptime", text);
#define X(name, topic, words) report(sys, i++, "$SYS/broker/" topic, counters.name);
    COUNTERS(X)
#undef X
#define X(topic, value) report(sys, i++, "$SYS/broker/" topic, (uint64_t)(value));
    GAUGES(X)
#undef X
    if (sys->storage) {
        publish_store(sys, i);
    }
    sys->first = false;
}

/* ---- log_dest topic ---- */

struct line {
    struct mail mail; /* first */
    struct sys *sys;
    enum log_type type;
    char text[];
};

static const char *line_topic(enum log_type type)
{
    switch (type) {
    case LOG_T_ERROR:
        return "$SYS/broker/log/E";
    case LOG_T_WARNING:
        return "$SYS/broker/log/W";
    case LOG_T_NOTICE:
        return "$SYS/broker/log/N";
    case LOG_T_INFO:
        return "$SYS/broker/log/I";
    case LOG_T_SUBSCRIBE:
        return "$SYS/broker/log/M/subscribe";
    case LOG_T_UNSUBSCRIBE:
        return "$SYS/broker/log/M/unsubscribe";
    case LOG_T_WEBSOCKETS:
        return "$SYS/broker/log/WS";
    default:
        return "$SYS/broker/log/D";
    }
}

static void publish_line(struct mail *mail)
{
    struct line *line = (struct line *)mail;
    atomic_fetch_sub(&line->sys->lines, 1);
    if (line->sys->local) {
        local_publish(line->sys->local, line_topic(line->type), slice_str(line->text), 0, false);
    }
    free(line);
}

/* From any thread, and from the middle of anything on the loop: so by mail. */
static void post_line(void *arg, enum log_type type, const char *text)
{
    struct sys *sys = arg;
    size_t n = strlen(text) + 1;
    struct line *line = atomic_load(&sys->lines) < LINES_WAITING ? malloc(sizeof *line + n) : NULL;
    if (line) {
        *line = (struct line){.mail = {.fn = publish_line}, .sys = sys, .type = type};
        memcpy(line->text, text, n);
        atomic_fetch_add(&sys->lines, 1);
        mailbox_post(loop_mailbox(sys->broker->loop), &line->mail);
    }
}

static void start_timers(struct sys *sys)
{
    struct broker *b = sys->broker;
    timer_stop(b->loop, &sys->round);
    timer_stop(b->loop, &sys->sweep);
    if (b->config->sys_interval > 0) {
        timer_start(b->loop, &sys->round, b->config->sys_interval * 1000LL);
    }
    if (b->config->persistent_client_expiration > 0) {
        timer_start(b->loop, &sys->sweep, SWEEP_MS);
    }
}

static void round_due(void *arg)
{
    struct sys *sys = arg;
    publish_round(sys);
    timer_start(sys->broker->loop, &sys->round, sys->broker->config->sys_interval * 1000LL);
}

/* persistent_client_expiration: kept sessions that nobody came back for. */
static void sweep_due(void *arg)
{
    struct sys *sys = arg;
    struct broker *b = sys->broker;
    int64_t before = loop_now(b->loop) - b->config->persistent_client_expiration * 1000;
    struct session *session, *next;
    HASH_ITER(hh, b->sessions.by_id, session, next) {
        if (!session->peer && session->offline_since < before) {
            log_write(LOG_T_NOTICE,
                      "Expiring client %s: it was away for longer than persistent_client_expiration.",
                      session->client_id);
            session_destroy(&b->sessions, session);
        }
    }
    timer_start(b->loop, &sys->sweep, SWEEP_MS);
}

struct sys *sys_new(struct broker *broker, const struct storage *storage)
{
    struct sys *sys = calloc(1, sizeof *sys);
    if (!sys) {
        return NULL;
    }
    sys->broker = broker;
    sys->storage = storage;
    sys->first = true;
    sys->local = local_new(broker, "$SYS", NULL, NULL);
    if (!sys->local) {
        free(sys);
        return NULL;
    }
    log_on_topic(post_line, sys);
    timer_setup(&sys->round, round_due, sys);
    timer_setup(&sys->sweep, sweep_due, sys);
    if (broker->config->sys_interval > 0) {
        publish_round(sys);
    }
    start_timers(sys);
    return sys;
}

void sys_stop(struct sys *sys)
{
    if (sys) {
        log_on_topic(NULL, NULL);
        timer_stop(sys->broker->loop, &sys->round);
        timer_stop(sys->broker->loop, &sys->sweep);
        local_free(sys->local);
        sys->local = NULL;
    }
}

void sys_free(struct sys *sys)
{
    if (sys) {
        mailbox_drain(loop_mailbox(sys->broker->loop)); /* lines under way name this structure */
        free(sys);
    }
}

void sys_reload(struct sys *sys)
{
    start_timers(sys);
}
