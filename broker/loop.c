/*
 * loop.c - the event loop on libev (epoll). The only file that knows libev.
 *
 * How libev's turn carries ours (see loop.h):
 *
 *     ev_prepare  on_prepare: deferred calls, before_sleep; an ev_idle watcher runs while something was
 * deferred again, so that libev does not wait epoll_wait ev_check    on_check: reads the clock once (libev
 * calls it first: it has the highest priority) ev_io, ev_timer, ev_signal, ev_async (mail): what came in
 *
 * A struct watch and a struct timer hold their libev watcher in priv. libev finds nothing that is not
 * started, and stopping takes back an event that is already on its way, so an owner may go away from within
 * any callback once it has stopped its watches.
 *
 * With no timer running libev itself wakes once a minute to look for clock jumps; apart from that an idle
 * loop sleeps.
 */
#include "broker/loop.h"
#include "broker/clock.h"
#include "broker/mailbox.h"
#include "broker/reserve.h"
#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static_assert(sizeof(ev_io) <= sizeof(((struct watch *)0)->priv), "ev_io must fit into struct watch");
static_assert(sizeof(ev_timer) <= sizeof(((struct timer *)0)->priv), "ev_timer must fit into struct timer");
static_assert(_Alignof(ev_io) <= _Alignof(struct watch), "ev_io must be aligned in struct watch");
static_assert(_Alignof(ev_timer) <= _Alignof(struct timer), "ev_timer must be aligned in struct timer");

struct defer_list {
    struct defer *head;
    struct defer **tail;
};

struct signal_handler {
    ev_signal ev;
    struct signal_handler *next;
    void (*fn)(void *arg, int signo);
    void *arg;
};

struct loop {
    struct ev_loop *ev;
    ev_prepare prepare;
    ev_check check;
    ev_idle idle;
    ev_async async;
    struct mailbox *mailbox;
    struct signal_handler *signals;
    struct defer_list now;   /* being called in this turn */
    struct defer_list later; /* for the end of this turn, or of the next one while deferred calls run */
    void (*before_sleep)(void *arg);
    void *before_sleep_arg;
    int64_t now_ms;
    bool running;
    bool stopping;
};

/* --- deferred calls --- */

static void defer_list_init(struct defer_list *list)
{
    list->head = NULL;
    list->tail = &list->head;
}

static struct defer *defer_list_pop(struct defer_list *list)
{
    struct defer *defer = list->head;

    if (!defer)
        return NULL;
    list->head = defer->next;
    if (!list->head)
        list->tail = &list->head;
    defer->next = NULL;
    return defer;
}

static bool defer_list_remove(struct defer_list *list, struct defer *defer)
{
    for (struct defer **at = &list->head; *at; at = &(*at)->next) {
        if (*at != defer)
            continue;
        *at = defer->next;
        if (!*at)
            list->tail = at;
        defer->next = NULL;
        return true;
    }
    return false;
}

static void defer_run(struct loop *loop)
{
    struct defer *defer;

    assert(!loop->now.head);
    if (!loop->later.head)
        return;
    loop->now.head = loop->later.head;
    loop->now.tail = loop->later.tail;
    defer_list_init(&loop->later);
    while ((defer = defer_list_pop(&loop->now))) {
        defer->queued = false;
        defer->fn(defer->arg);
    }
}

void defer_setup(struct defer *defer, void (*fn)(void *arg), void *arg)
{
    *defer = (struct defer){.fn = fn, .arg = arg};
}

void defer_call(struct loop *loop, struct defer *defer)
{
    if (defer->queued)
        return;
    defer->queued = true;
    defer->next = NULL;
    *loop->later.tail = defer;
    loop->later.tail = &defer->next;
}

void defer_cancel(struct loop *loop, struct defer *defer)
{
    if (!defer->queued)
        return;
    defer->queued = false;
    if (!defer_list_remove(&loop->now, defer))
        defer_list_remove(&loop->later, defer);
}

/* --- the turn --- */

static void loop_end_turn(struct loop *loop)
{
    defer_run(loop);
    if (loop->before_sleep)
        loop->before_sleep(loop->before_sleep_arg);
}

static void on_prepare(struct ev_loop *ev, ev_prepare *w, int revents)
{
    struct loop *loop = w->data;

    (void)revents;
    loop_end_turn(loop);
    if (loop->later.head) {
        ev_idle_start(ev, &loop->idle);
    } else {
        ev_idle_stop(ev, &loop->idle);
    }
}

static void on_idle(struct ev_loop *ev, ev_idle *w, int revents)
{
    (void)ev; /* its being there is all: libev does not wait while an idle watcher runs */
    (void)w;
    (void)revents;
}

static void on_check(struct ev_loop *ev, ev_check *w, int revents)
{
    struct loop *loop = w->data;

    (void)ev;
    (void)revents;
    loop->now_ms = clock_ms();
}

static void on_async(struct ev_loop *ev, ev_async *w, int revents)
{
    struct loop *loop = w->data;

    (void)ev;
    (void)revents;
    mailbox_drain(loop->mailbox);
}

/* On the thread that posts. */
static void on_post(void *arg)
{
    struct loop *loop = arg;

    ev_async_send(loop->ev, &loop->async);
}

static void loop_start_watchers(struct loop *loop)
{
    ev_prepare_init(&loop->prepare, on_prepare);
    ev_check_init(&loop->check, on_check);
    ev_set_priority(&loop->check, EV_MAXPRI);
    ev_idle_init(&loop->idle, on_idle);
    ev_set_priority(&loop->idle, EV_MINPRI);
    ev_async_init(&loop->async, on_async);
    loop->prepare.data = loop->check.data = loop->async.data = loop;
    ev_prepare_start(loop->ev, &loop->prepare);
    ev_check_start(loop->ev, &loop->check);
    ev_async_start(loop->ev, &loop->async);
}

/* libev ends the program when it gets no descriptors for its wake-up pipe, so it is asked for only when there
 * are. */
static bool has_pipes(int n)
{
    int fds[2];

    if (n == 0)
        return true;
    if (pipe2(fds, O_CLOEXEC) != 0)
        return false;
    bool more = has_pipes(n - 1);
    int error = errno;
    close(fds[0]);
    close(fds[1]);
    errno = error;
    return more;
}

struct loop *loop_new(void)
{
    struct loop *loop = calloc(1, sizeof *loop);

    if (!loop)
        return NULL;
    defer_list_init(&loop->now);
    defer_list_init(&loop->later);
    ev_set_allocator(reserve_realloc);
    loop->ev = has_pipes(2) ? ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV | EVFLAG_NOSIGMASK) : NULL;
    loop->mailbox = loop->ev ? mailbox_new(on_post, loop) : NULL;
    if (!loop->mailbox) {
        if (loop->ev)
            ev_loop_destroy(loop->ev);
        free(loop);
        return NULL;
    }
    loop_start_watchers(loop);
    loop->now_ms = clock_ms();
    return loop;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    mailbox_free(loop->mailbox);
    while (loop->signals) {
        struct signal_handler *handler = loop->signals;
        loop->signals = handler->next;
        ev_signal_stop(loop->ev, &handler->ev);
        free(handler);
    }
    ev_idle_stop(loop->ev, &loop->idle);
    ev_async_stop(loop->ev, &loop->async);
    ev_check_stop(loop->ev, &loop->check);
    ev_prepare_stop(loop->ev, &loop->prepare);
    ev_loop_destroy(loop->ev);
    free(loop);
}

void loop_run(struct loop *loop)
{
    if (!loop->stopping) {
        ev_now_update(loop->ev);
        loop->now_ms = clock_ms();
        loop->running = true;
        ev_run(loop->ev, 0);
        loop->running = false;
    }
    loop->stopping = false;
    /* libev leaves after the callbacks of the last turn: its deferred calls and its writes are still to be
     * done. */
    loop_end_turn(loop);
}

void loop_stop(struct loop *loop)
{
    loop->stopping = true;
    ev_break(loop->ev, EVBREAK_ALL);
}

int64_t loop_now(struct loop *loop)
{
    if (!loop->running)
        loop->now_ms = clock_ms();
    return loop->now_ms;
}

void loop_before_sleep(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    loop->before_sleep = fn;
    loop->before_sleep_arg = arg;
}

struct mailbox *loop_mailbox(struct loop *loop)
{
    return loop->mailbox;
}

void loop_after_fork(struct loop *loop)
{
    ev_loop_fork(loop->ev);
}

/* --- watches --- */

static ev_io *watch_io(struct watch *watch)
{
    return (ev_io *)(void *)watch->priv;
}

static void on_io(struct ev_loop *ev, ev_io *io, int revents)
{
    struct watch *watch = io->data;
    int events = 0;

    (void)ev;
    if (revents & EV_ERROR) {
        /* The kernel refused the watch (its limit of watches is reached, say) and libev has stopped it: let
         * the owner find out by using the descriptor. */
        events = watch->events;
        watch->events = 0;
    } else {
        if (revents & EV_READ)
            events |= LOOP_READ;
        if (revents & EV_WRITE)
            events |= LOOP_WRITE;
        events &= watch->events;
    }
    if (events)
        watch->fn(watch->arg, events);
}

void watch_init(struct watch *watch, int fd, void (*fn)(void *arg, int events), void *arg)
{
    memset(watch, 0, sizeof *watch);
    watch->fn = fn;
    watch->arg = arg;
    watch->fd = fd;
    ev_io_init(watch_io(watch), on_io, fd, 0);
    watch_io(watch)->data = watch;
}

void watch_set(struct loop *loop, struct watch *watch, int events)
{
    ev_io *io = watch_io(watch);

    if (watch->events == events)
        return;
    ev_io_stop(loop->ev, io);
    watch->events = events;
    if (!events)
        return;
    ev_io_modify(io, ((events & LOOP_READ) ? EV_READ : 0) | ((events & LOOP_WRITE) ? EV_WRITE : 0));
    ev_io_start(loop->ev, io);
}

/* --- timers --- */

static ev_timer *timer_ev(const struct timer *timer)
{
    return (ev_timer *)(void *)(uintptr_t)timer->priv;
}

static void on_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct timer *timer = w->data;

    (void)ev;
    (void)revents;
    timer->fn(timer->arg);
}

void timer_setup(struct timer *timer, void (*fn)(void *arg), void *arg)
{
    memset(timer, 0, sizeof *timer);
    timer->fn = fn;
    timer->arg = arg;
    ev_timer_init(timer_ev(timer), on_timer, 0., 0.);
    timer_ev(timer)->data = timer;
}

void timer_start(struct loop *loop, struct timer *timer, int64_t after_ms)
{
    ev_timer *w = timer_ev(timer);

    /* libev counts from its own reading of the clock, which is old while the loop does not run. One
     * millisecond more, because that reading comes a little before ours: loop_now() has then always moved by
     * after_ms. */
    if (!loop->running)
        ev_now_update(loop->ev);
    ev_timer_stop(loop->ev, w);
    ev_timer_set(w, after_ms > 0 ? (double)(after_ms + 1) / 1000. : 0., 0.);
    ev_timer_start(loop->ev, w);
}

void timer_stop(struct loop *loop, struct timer *timer)
{
    ev_timer_stop(loop->ev, timer_ev(timer));
}

bool timer_running(const struct timer *timer)
{
    return ev_is_active(timer_ev(timer)) || ev_is_pending(timer_ev(timer));
}

/* --- signals --- */

static void on_signal(struct ev_loop *ev, ev_signal *w, int revents)
{
    struct signal_handler *handler = w->data;

    (void)ev;
    (void)revents;
    handler->fn(handler->arg, w->signum);
}

int loop_on_signal(struct loop *loop, int signo, void (*fn)(void *arg, int signo), void *arg)
{
    struct signal_handler *handler;

    if (signo <= 0 || signo >= NSIG) {
        errno = EINVAL;
        return -1;
    }
    for (handler = loop->signals; handler; handler = handler->next) {
        if (handler->ev.signum != signo)
            continue;
        errno = EEXIST;
        return -1;
    }
    handler = calloc(1, sizeof *handler);
    if (!handler)
        return -1;
    handler->fn = fn;
    handler->arg = arg;
    ev_signal_init(&handler->ev, on_signal, signo);
    ev_set_priority(&handler->ev, EV_MAXPRI); /* before what arrived after it: SIGHUP, then a connection */
    handler->ev.data = handler;
    handler->next = loop->signals;
    loop->signals = handler;
    ev_signal_start(loop->ev, &handler->ev);
    return 0;
}
