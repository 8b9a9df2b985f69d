/*
 * loop.h - the port to the event loop (libev behind broker/loop.c, the only file that includes ev.h).
 *
 * Watches and timers are embedded in the structures of their users: no allocation, and stopping is always
 * safe. All functions are for the loop thread only, except those of the mailbox that loop_mailbox() gives.
 *
 * One turn of the loop:
 *   wait -> watches, timers, signals, mail -> deferred calls -> before_sleep (the one place that writes to
 * sockets)
 */
#ifndef BRAMBLE_LOOP_H
#define BRAMBLE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#define LOOP_READ  1
#define LOOP_WRITE 2

struct loop;
struct mailbox;

struct watch {
    uint64_t priv[8]; /* the ev_io; loop.c asserts that it fits */
    void (*fn)(void *arg, int events);
    void *arg;
    int fd;
    int events; /* what is asked for now: LOOP_READ | LOOP_WRITE */
};

struct timer {
    uint64_t priv[8];
    void (*fn)(void *arg);
    void *arg;
};

struct defer {
    struct defer *next;
    void (*fn)(void *arg);
    void *arg;
    bool queued;
};

/* NULL without memory or without a usable kernel interface. */
struct loop *loop_new(void);
void loop_free(struct loop *loop);

/* Runs until loop_stop(). */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Milliseconds on the loop's clock (CLOCK_BOOTTIME), read once per turn: cheap. */
int64_t loop_now(struct loop *loop);

/* A watch starts idle; watch_set() changes what is asked for (0 stops it). The descriptor must stay open
 * while events != 0. */
void watch_init(struct watch *watch, int fd, void (*fn)(void *arg, int events), void *arg);
void watch_set(struct loop *loop, struct watch *watch, int events);

/* One-shot timers, milliseconds. Starting a running timer moves it. */
void timer_setup(struct timer *timer, void (*fn)(void *arg), void *arg);
void timer_start(struct loop *loop, struct timer *timer, int64_t after_ms);
void timer_stop(struct loop *loop, struct timer *timer);
bool timer_running(const struct timer *timer);

/* Calls fn once at the end of this turn, before before_sleep. Deferring from a deferred call runs in the next
 * turn, which then does not wait. A queued defer is not queued twice; defer_cancel() takes it out. */
void defer_setup(struct defer *defer, void (*fn)(void *arg), void *arg);
void defer_call(struct loop *loop, struct defer *defer);
void defer_cancel(struct loop *loop, struct defer *defer);

/* The one hook that runs before the loop sleeps. */
void loop_before_sleep(struct loop *loop, void (*fn)(void *arg), void *arg);

/* fn runs on the loop (not in signal context) when the signal arrives. At most one handler a signal. 0, or
 * -1. */
int loop_on_signal(struct loop *loop, int signo, void (*fn)(void *arg, int signo), void *arg);

/* Mail posted there is delivered on the loop. Owned by the loop. */
struct mailbox *loop_mailbox(struct loop *loop);

/* After fork() in the child that goes on with the loop. */
void loop_after_fork(struct loop *loop);

#endif
