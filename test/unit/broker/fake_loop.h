/*
 * fake_loop.h - the event loop (broker/loop.h) with a clock that the test turns by hand. To be included once
 * in a program: it takes the place of loop.c, so it defines every function of the header.
 */
#ifndef BRAMBLE_TEST_FAKE_LOOP_H
#define BRAMBLE_TEST_FAKE_LOOP_H

#include "broker/loop.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct loop {
    int64_t now;
    struct timer *timers; /* running, in no order */
    struct defer *first, **last;
    struct mailbox *mailbox; /* the test's, or NULL */
};

/* What a running timer keeps in its priv[]. */
struct fake_timer {
    struct timer *next;
    int64_t due;
    bool running;
};

static inline struct fake_timer *fake_timer(const struct timer *timer)
{
    return (struct fake_timer *)(uintptr_t)timer->priv;
}

struct loop *loop_new(void)
{
    struct loop *loop = calloc(1, sizeof *loop);
    loop->now = 1000000;
    loop->last = &loop->first;
    return loop;
}

void loop_free(struct loop *loop)
{
    free(loop);
}

int64_t loop_now(struct loop *loop)
{
    return loop->now;
}

void timer_setup(struct timer *timer, void (*fn)(void *arg), void *arg)
{
    *timer = (struct timer){.fn = fn, .arg = arg};
}

void timer_stop(struct loop *loop, struct timer *timer)
{
    struct timer **p = &loop->timers;
    while (*p && *p != timer) {
        p = &fake_timer(*p)->next;
    }
    if (*p) {
        *p = fake_timer(timer)->next;
    }
    fake_timer(timer)->running = false;
}

void timer_start(struct loop *loop, struct timer *timer, int64_t after_ms)
{
    timer_stop(loop, timer);
    *fake_timer(timer) = (struct fake_timer){loop->timers, loop->now + after_ms, true};
    loop->timers = timer;
}

bool timer_running(const struct timer *timer)
{
    return fake_timer(timer)->running;
}

/* Turns the clock, calling each timer at its time. */
static inline void fake_loop_pass(struct loop *loop, int64_t ms)
{
    int64_t end = loop->now + ms;
    for (;;) {
        struct timer *next = NULL;
        for (struct timer *t = loop->timers; t; t = fake_timer(t)->next) {
            if (fake_timer(t)->due <= end && (!next || fake_timer(t)->due < fake_timer(next)->due)) {
                next = t;
            }
        }
        if (!next) {
            break;
        }
        loop->now = fake_timer(next)->due > loop->now ? fake_timer(next)->due : loop->now;
        timer_stop(loop, next);
        next->fn(next->arg);
    }
    loop->now = end;
}

void defer_setup(struct defer *defer, void (*fn)(void *arg), void *arg)
{
    *defer = (struct defer){.fn = fn, .arg = arg};
}

void defer_call(struct loop *loop, struct defer *defer)
{
    if (!defer->queued) {
        defer->queued = true;
        defer->next = NULL;
        *loop->last = defer;
        loop->last = &defer->next;
    }
}

void defer_cancel(struct loop *loop, struct defer *defer)
{
    for (struct defer **p = &loop->first; *p; p = &(*p)->next) {
        if (*p == defer) {
            *p = defer->next;
            loop->last = *p ? loop->last : p;
            break;
        }
    }
    defer->queued = false;
}

/* Calls what was deferred until now. */
static inline void fake_loop_deferred(struct loop *loop)
{
    struct defer *defer = loop->first;
    loop->first = NULL;
    loop->last = &loop->first;
    while (defer) {
        struct defer *next = defer->next;
        defer->queued = false;
        defer->fn(defer->arg);
        defer = next;
    }
}

/* Watches are kept and never fire: there are no descriptors. */
void watch_init(struct watch *watch, int fd, void (*fn)(void *arg, int events), void *arg)
{
    *watch = (struct watch){.fn = fn, .arg = arg, .fd = fd};
}

void watch_set(struct loop *loop, struct watch *watch, int events)
{
    (void)loop;
    watch->events = events;
}

/* What the tests of the protocol do without. */
void loop_run(struct loop *loop)
{
    (void)loop;
    abort();
}

void loop_stop(struct loop *loop)
{
    (void)loop;
    abort();
}

void loop_before_sleep(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    (void)loop;
    fn(arg);
    abort();
}

int loop_on_signal(struct loop *loop, int signo, void (*fn)(void *arg, int signo), void *arg)
{
    (void)loop;
    fn(arg, signo);
    abort();
}

struct mailbox *loop_mailbox(struct loop *loop)
{
    return loop->mailbox;
}

void loop_after_fork(struct loop *loop)
{
    (void)loop;
    abort();
}

#endif
