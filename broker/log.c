/*
 * log.c - the ring between those who log and the thread that writes.
 *
 *     log_write()  --lock, copy-->  [ ring, 256 KiB ]  --lock, copy a batch-->  log thread  -->  sinks
 *
 * The lock is held only while bytes are copied (16 KiB at the most), never while a sink is written, so
 * whoever logs waits for no destination. The thread sleeps on an eventfd (`kick`) that is written only when
 * it has said that it sleeps: nothing logged, nothing woken. The same eventfd gets it out of waiting for a
 * stuck sink when the log is stopped or opened again.
 *
 * A stuck sink: alone, it is waited for, and the ring fills and then loses lines; beside others, it is waited
 * for one second, and then only its own lines are lost. Each sink says how many are missing when it takes
 * lines again.
 *
 * A write() that blocks although poll() allowed it, or a syslog() to a hanging syslogd, cannot be called
 * back. The engine (ring, thread, sinks) is therefore an object of its own: log_stop() waits two seconds for
 * its thread and then leaves the engine to it, to be freed by the thread if that ever comes back.
 */
#include "broker/log.h"
#include "broker/clock.h"
#include "broker/log_ring.h"
#include "broker/log_sink.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
    BATCH_SIZE = 16 * 1024,
    STUCK_MS = 1000,      /* a stuck sink beside others */
    STOP_WRITE_MS = 1500, /* log_stop(): until then the thread goes on writing */
    STOP_MS = 2000        /* log_stop(): then it is left to itself */
};

struct engine {
    uint64_t lost; /* to the full ring, not yet seen by the thread */
    bool sleeping; /* the thread waits for a kick */
    bool stop;
    bool done;          /* the thread touches nothing any more */
    bool abandoned;     /* log_stop() has gone; the thread frees the engine */
    int64_t stop_at;    /* clock_ms() at which writing ends */
    int kick, finished; /* eventfds: to the thread, from the thread */
    pthread_t thread;
    struct log_setup *next; /* for the thread to take over */
    /* the thread's own */
    struct log_setup *setup;
    struct log_wait wait;
    size_t batch_len;
    char batch[BATCH_SIZE];
    struct log_ring ring; /* under the lock */
};

/* The log is one for the process: one of the few globals. `lock` guards everything but the atomics. */
static struct {
    pthread_mutex_t lock;
    struct engine *engine;
    bool was_started; /* log_stop() was called: no longer wait for stderr */
    struct log_stamp stamp;
    void (*topic_fn)(void *arg, enum log_type type, const char *line);
    void *topic_arg;
    atomic_uint types, dests;
    atomic_ullong lost;
} state = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .stamp = {.on = true},
    .types = LOG_T_DEFAULT,
    .dests = LOG_D_STDERR,
};

static void event_send(int fd)
{
    uint64_t one = 1;

    while (write(fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

/* The lock is held. */
static void engine_wake(struct engine *e)
{
    if (!e->sleeping)
        return;
    e->sleeping = false;
    event_send(e->kick);
}

/* The lock is held. */
static void engine_push(struct engine *e, const struct log_line *line)
{
    if (!log_ring_push(&e->ring, line)) {
        e->lost++;
        atomic_fetch_add_explicit(&state.lost, 1, memory_order_relaxed);
    }
    engine_wake(e);
}

/* --- the log thread --- */

static void kick_clear(struct engine *e)
{
    uint64_t count;

    while (read(e->kick, &count, sizeof count) < 0 && errno == EINTR) {
    }
}

/* How long to wait for the sink, in ms: -1 for ever, 0 no more. */
static int wait_time(struct engine *e, const struct log_sink *sink)
{
    bool others = e->setup->count > 1;
    int64_t left = -1;

    pthread_mutex_lock(&state.lock);
    if (e->next) {
        left = 0; /* SIGHUP is what frees the log from a sink that hangs */
    } else if (sink->stuck && others) {
        left = 0;
    } else if (e->stop) {
        left = e->stop_at - clock_ms();
        if (left < 0)
            left = 0;
    } else if (others) {
        left = STUCK_MS;
    }
    pthread_mutex_unlock(&state.lock);
    return (int)left;
}

/* The fn of e->wait. */
static bool sink_wait(void *arg, struct log_sink *sink)
{
    struct engine *e = arg;

    for (;;) {
        struct pollfd pfd[2] = {{.fd = sink->fd, .events = POLLOUT}, {.fd = e->kick, .events = POLLIN}};
        int ms = wait_time(e, sink);
        int n = ms == 0 ? 0 : poll(pfd, 2, ms);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        if (pfd[1].revents)
            kick_clear(e);
        if (pfd[0].revents)
            return true;
    }
}

static void count_lost(unsigned lost)
{
    if (lost)
        atomic_fetch_add_explicit(&state.lost, lost, memory_order_relaxed);
}

static void engine_write(struct engine *e, uint64_t lost)
{
    for (size_t at = 0; at < e->batch_len;) {
        struct log_line line;
        at = log_ring_line(e->batch, at, &line);
        count_lost(log_setup_put(e->setup, &line, &e->wait));
    }
    count_lost(log_setup_flush(e->setup, lost, &e->wait));
}

/* Sleeps until there is something to do: a kick, or a stuck sink that moves again and is told what it missed.
 */
static void engine_sleep(struct engine *e)
{
    struct pollfd pfd[1 + sizeof e->setup->sinks / sizeof e->setup->sinks[0]];
    nfds_t n = 0;

    pfd[n++] = (struct pollfd){.fd = e->kick, .events = POLLIN};
    for (int i = 0; i < e->setup->count; i++) {
        if (e->setup->sinks[i].stuck)
            pfd[n++] = (struct pollfd){.fd = e->setup->sinks[i].fd, .events = POLLOUT};
    }
    if (poll(pfd, n, -1) <= 0)
        return;
    if (pfd[0].revents) {
        kick_clear(e);
        return;
    }
    for (int i = 0; i < e->setup->count; i++)
        e->setup->sinks[i].stuck = false;
    count_lost(log_setup_flush(e->setup, 0, &e->wait));
}

/* Takes what there is to do. False: nothing more will come. */
static bool engine_take(struct engine *e, uint64_t *lost)
{
    struct log_setup *old = NULL;
    bool more;

    pthread_mutex_lock(&state.lock);
    if (e->next) {
        old = e->setup;
        e->setup = e->next;
        e->next = NULL;
    }
    e->batch_len = log_ring_take(&e->ring, e->batch, sizeof e->batch);
    *lost = e->lost;
    e->lost = 0;
    e->sleeping = e->batch_len == 0 && *lost == 0 && !e->stop;
    more = e->sleeping || e->batch_len > 0 || *lost > 0;
    pthread_mutex_unlock(&state.lock);
    if (old) {
        log_setup_activate(e->setup);
        log_setup_inherit(e->setup, old);
        log_setup_free(old);
    }
    return more;
}

static void engine_free(struct engine *e)
{
    if (!e)
        return;
    if (e->kick >= 0)
        close(e->kick);
    if (e->finished >= 0)
        close(e->finished);
    log_setup_free(e->next);
    log_setup_free(e->setup);
    free(e);
}

static void *log_thread(void *arg)
{
    struct engine *e = arg;
    uint64_t lost;
    bool abandoned;

    log_setup_activate(e->setup);
    while (engine_take(e, &lost)) {
        if (e->batch_len > 0 || lost > 0) {
            engine_write(e, lost);
        } else {
            engine_sleep(e);
        }
    }
    log_setup_activate(NULL);
    pthread_mutex_lock(&state.lock);
    abandoned = e->abandoned;
    e->done = true;
    event_send(e->finished);
    pthread_mutex_unlock(&state.lock);
    if (abandoned)
        engine_free(e);
    return NULL;
}

/* --- start, reopen, stop --- */

static struct engine *engine_new(const struct log_options *options, struct err *err)
{
    struct engine *e = calloc(1, sizeof *e);

    if (!e) {
        err_set(err, "out of memory");
        return NULL;
    }
    e->wait = (struct log_wait){sink_wait, e};
    e->kick = eventfd(0, EFD_CLOEXEC);
    e->finished = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->kick < 0 || e->finished < 0) {
        err_set(err, "cannot start the log: %s", strerror(errno));
    } else {
        e->setup = log_setup_new(options, err);
    }
    if (e->setup)
        return e;
    engine_free(e);
    return NULL;
}

/* All signals belong to the other threads; SIGPIPE becomes EPIPE. */
static int engine_run(struct engine *e, struct err *err)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&e->thread, NULL, log_thread, e);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return err_set(err, "cannot start the log thread: %s", strerror(rc));
    pthread_setname_np(e->thread, "log");
    return 0;
}

static void state_set(const struct log_setup *setup)
{
    state.stamp = setup->stamp;
    atomic_store(&state.dests, setup->dests);
    atomic_store(&state.types, setup->types);
}

int log_start(const struct log_options *options, struct err *err)
{
    struct engine *e;

    tzset(); /* reads the time zone now, so that localtime_r() need not later */
    pthread_mutex_lock(&state.lock);
    e = state.engine;
    pthread_mutex_unlock(&state.lock);
    if (e)
        return err_set(err, "the log is already started");
    e = engine_new(options, err);
    if (!e)
        return -1;
    if (engine_run(e, err) < 0) {
        engine_free(e);
        return -1;
    }
    pthread_mutex_lock(&state.lock);
    state.engine = e;
    state_set(e->setup);
    pthread_mutex_unlock(&state.lock);
    return 0;
}

int log_reopen(const struct log_options *options, struct err *err)
{
    struct log_setup *setup = log_setup_new(options, err);
    struct log_setup *unused = setup;
    struct engine *e;

    if (!setup)
        return -1;
    pthread_mutex_lock(&state.lock);
    e = state.engine;
    if (e) {
        unused = e->next;
        e->next = setup;
        e->sleeping = false;
        state_set(setup);
        event_send(e->kick);
    }
    pthread_mutex_unlock(&state.lock);
    log_setup_free(unused);
    return e ? 0 : err_set(err, "the log is not started");
}

/* Back to plain stderr. Returns the engine that was in use. */
static struct engine *state_detach(void)
{
    struct engine *e;

    pthread_mutex_lock(&state.lock);
    e = state.engine;
    if (e) {
        state.engine = NULL;
        state.was_started = true;
        state.stamp = (struct log_stamp){.on = true};
        atomic_store(&state.dests, LOG_D_STDERR);
        atomic_store(&state.types, LOG_T_DEFAULT);
        e->stop = true;
        e->stop_at = clock_ms() + STOP_WRITE_MS;
        e->sleeping = false;
        event_send(e->kick);
    }
    pthread_mutex_unlock(&state.lock);
    return e;
}

void log_stop(void)
{
    struct engine *e = state_detach();
    struct pollfd pfd = {.events = POLLIN};
    int64_t until = clock_ms() + STOP_MS;
    bool done;

    if (!e)
        return;
    pfd.fd = e->finished;
    while (poll(&pfd, 1, until > clock_ms() ? (int)(until - clock_ms()) : 0) < 0 && errno == EINTR) {
    }
    pthread_mutex_lock(&state.lock);
    done = e->done;
    e->abandoned = !done;
    if (!done)
        pthread_detach(e->thread);
    pthread_mutex_unlock(&state.lock);
    if (!done)
        return;
    pthread_join(e->thread, NULL);
    engine_free(e);
}

/* --- logging --- */

/* arg: whether log_start() is still to come. */
static bool direct_wait(void *arg, struct log_sink *sink)
{
    struct pollfd pfd = {.fd = sink->fd, .events = POLLOUT};

    return *(const bool *)arg && (poll(&pfd, 1, -1) > 0 || errno == EINTR);
}

/* Straight to stderr: before log_start() as long as it takes, after log_stop() only if that is at once. */
static void write_direct(const struct log_line *line, const struct log_stamp *stamp, bool patient)
{
    const struct log_wait wait = {direct_wait, &patient};
    struct log_sink sink;

    log_sink_std(&sink, LOG_D_STDERR);
    log_sink_put(&sink, stamp, line, &wait);
    count_lost(log_sink_flush(&sink, &wait));
}

/* To $SYS/broker/log/..., on this thread. As in mosquitto without debug lines, which publishing makes. */
static void write_topic(const struct log_line *line, const struct log_stamp *stamp)
{
    static _Thread_local bool busy; /* a callback that logs after all must not call itself */
    char text[LOG_STAMP_MAX + 4 + LOG_LINE_MAX];
    void (*fn)(void *arg, enum log_type type, const char *line);
    void *arg;
    size_t n;

    if (busy || line->type & (LOG_T_DEBUG | LOG_T_INTERNAL))
        return;
    pthread_mutex_lock(&state.lock);
    fn = state.topic_fn;
    arg = state.topic_arg;
    pthread_mutex_unlock(&state.lock);
    if (!fn)
        return;
    n = log_stamp_format(text, stamp, line->sec);
    memcpy(text + n, line->text, line->len + 1);
    busy = true;
    fn(arg, line->type, text);
    busy = false;
}

bool log_access(const char *text, size_t n)
{
    const struct log_line line = {.sec = (int64_t)time(NULL), .type = LOG_T_ACCESS, .text = text, .len = n};
    bool taken = false;

    pthread_mutex_lock(&state.lock);
    if (state.engine && n <= LOG_ACCESS_MAX) {
        taken = log_ring_push(&state.engine->ring, &line);
        engine_wake(state.engine);
    }
    pthread_mutex_unlock(&state.lock);
    return taken;
}

static void log_line_write(const struct log_line *line)
{
    unsigned dests = atomic_load_explicit(&state.dests, memory_order_relaxed);
    struct log_stamp stamp;
    bool direct, patient;

    pthread_mutex_lock(&state.lock);
    direct = !state.engine;
    patient = !state.was_started;
    stamp = state.stamp;
    if (!direct && dests & ~(unsigned)(LOG_D_TOPIC | LOG_D_ACCESS))
        engine_push(state.engine, line);
    pthread_mutex_unlock(&state.lock);
    if (direct) {
        write_direct(line, &stamp, patient);
    } else if (dests & LOG_D_TOPIC) {
        write_topic(line, &stamp);
    }
}

void log_write(enum log_type type, const char *fmt, ...)
{
    char raw[LOG_LINE_MAX], text[LOG_LINE_MAX];
    struct log_line line = {.type = type, .text = text};
    int saved = errno;
    va_list ap;
    int n;

    if (!log_wants(type))
        return;
    va_start(ap, fmt);
    n = vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    if (n < 0)
        n = snprintf(raw, sizeof raw, "a log line that cannot be formatted: %s", fmt);
    if ((size_t)n < sizeof raw) {
        line.len = log_escape(text, sizeof text, raw, (size_t)n, false);
    } else {
        line.len = log_escape(text, sizeof text, raw, sizeof raw - 1, true);
    }
    line.sec = (int64_t)time(NULL);
    log_line_write(&line);
    errno = saved;
}

bool log_wants(enum log_type type)
{
    return (atomic_load_explicit(&state.types, memory_order_relaxed) & type) != 0;
}

void log_on_topic(void (*fn)(void *arg, enum log_type type, const char *line), void *arg)
{
    pthread_mutex_lock(&state.lock);
    state.topic_fn = fn;
    state.topic_arg = arg;
    pthread_mutex_unlock(&state.lock);
}

uint64_t log_lost(void)
{
    return atomic_load_explicit(&state.lost, memory_order_relaxed);
}
