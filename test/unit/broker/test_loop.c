/*
 * test_loop.c - the turn of the loop: what runs in which order, and that everything can be stopped from
 * anywhere.
 */
#include "broker/clock.h"
#include "broker/loop.h"
#include "broker/mailbox.h"
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct {
    struct loop *loop;
    int pair[2];
    struct watch watch, other;
    struct timer timer, timer2;
    struct defer defer, defer2;
    char trace[128]; /* what happened, a letter each */
    int events;
    int turns;
} t;

static void trace(char what)
{
    size_t n = strlen(t.trace);

    assert_true(n + 1 < sizeof t.trace);
    t.trace[n] = what;
}

/* A letter as an argument. */
static void *letter(char what)
{
    return (void *)(intptr_t)what;
}

static int setup(void **unused)
{
    (void)unused;
    memset(&t, 0, sizeof t);
    t.loop = loop_new();
    assert_non_null(t.loop);
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, t.pair);
}

static int teardown(void **unused)
{
    (void)unused;
    loop_free(t.loop);
    close(t.pair[0]);
    close(t.pair[1]);
    return 0;
}

static void stop(void *arg)
{
    (void)arg;
    loop_stop(t.loop);
}

static void trace_and_stop(void *arg)
{
    trace((char)(intptr_t)arg);
    loop_stop(t.loop);
}

static void trace_only(void *arg)
{
    trace((char)(intptr_t)arg);
}

/* --- watches --- */

static void on_event_stop(void *arg, int events)
{
    (void)arg;
    t.events = events;
    watch_set(t.loop, &t.watch, 0);
    loop_stop(t.loop);
}

static void a_watch_sees_what_was_asked_for(void **unused)
{
    (void)unused;
    watch_init(&t.watch, t.pair[0], on_event_stop, NULL);
    assert_int_equal(t.watch.events, 0);
    watch_set(t.loop, &t.watch, LOOP_WRITE);
    assert_int_equal(t.watch.events, LOOP_WRITE);
    assert_int_equal(write(t.pair[1], "x", 1), 1); /* readable too, but nobody asked */
    loop_run(t.loop);
    assert_int_equal(t.events, LOOP_WRITE);

    watch_set(t.loop, &t.watch, LOOP_READ);
    loop_run(t.loop);
    assert_int_equal(t.events, LOOP_READ);

    watch_set(t.loop, &t.watch, LOOP_READ | LOOP_WRITE);
    loop_run(t.loop);
    assert_int_equal(t.events, LOOP_READ | LOOP_WRITE);
}

static void on_event_count(void *arg, int events)
{
    (void)arg;
    (void)events;
    if (++t.events == 3)
        loop_stop(t.loop);
}

static void watches_are_level_triggered(void **unused)
{
    (void)unused;
    watch_init(&t.watch, t.pair[0], on_event_count, NULL);
    watch_set(t.loop, &t.watch, LOOP_READ);
    assert_int_equal(write(t.pair[1], "x", 1), 1);
    loop_run(t.loop);
    assert_int_equal(t.events, 3);
    watch_set(t.loop, &t.watch, 0);
}

static void on_event_stop_both(void *arg, int events)
{
    (void)arg;
    (void)events;
    t.events++;
    watch_set(t.loop, &t.watch, 0);
    watch_set(t.loop, &t.other, 0);
    memset(&t.watch, 0xff, sizeof t.watch); /* its owner is gone */
    memset(&t.other, 0xff, sizeof t.other);
    loop_stop(t.loop);
}

static void a_stopped_watch_is_not_called_although_its_event_is_there(void **unused)
{
    (void)unused;
    watch_init(&t.watch, t.pair[0], on_event_stop_both, NULL);
    watch_init(&t.other, t.pair[1], on_event_stop_both, NULL);
    watch_set(t.loop, &t.watch, LOOP_WRITE);
    watch_set(t.loop, &t.other, LOOP_WRITE);
    loop_run(t.loop);
    assert_int_equal(t.events, 1);
}

static void a_watch_follows_a_number_that_is_used_again(void **unused)
{
    int fds[2];

    (void)unused;
    watch_init(&t.watch, t.pair[0], on_event_stop, NULL);
    watch_set(t.loop, &t.watch, LOOP_WRITE);
    loop_run(t.loop);
    close(t.pair[0]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    if (fds[0] != t.pair[0]) {
        assert_int_equal(dup2(fds[0], t.pair[0]), t.pair[0]);
        close(fds[0]);
    }
    close(t.pair[1]);
    t.pair[1] = fds[1];
    watch_init(&t.watch, t.pair[0], on_event_stop, NULL);
    watch_set(t.loop, &t.watch, LOOP_READ);
    assert_int_equal(write(t.pair[1], "x", 1), 1);
    loop_run(t.loop);
    assert_int_equal(t.events, LOOP_READ);
}

/* --- timers --- */

static void timers_fire_in_the_order_of_their_times(void **unused)
{
    (void)unused;
    timer_setup(&t.timer, trace_and_stop, letter('b'));
    timer_setup(&t.timer2, trace_only, letter('a'));
    assert_false(timer_running(&t.timer));
    timer_start(t.loop, &t.timer, 30);
    timer_start(t.loop, &t.timer2, 5);
    assert_true(timer_running(&t.timer));
    loop_run(t.loop);
    assert_string_equal(t.trace, "ab");
    assert_false(timer_running(&t.timer));
}

static void a_timer_never_fires_early(void **unused)
{
    int64_t start;

    (void)unused;
    timer_setup(&t.timer, stop, NULL);
    usleep(20000); /* the loop was made a while ago */
    start = loop_now(t.loop);
    timer_start(t.loop, &t.timer, 15);
    loop_run(t.loop);
    assert_true(loop_now(t.loop) - start >= 15);
}

static void starting_again_moves_a_timer_and_stopping_ends_it(void **unused)
{
    (void)unused;
    timer_setup(&t.timer, trace_only, letter('x'));
    timer_setup(&t.timer2, trace_and_stop, letter('e'));
    timer_start(t.loop, &t.timer, 1);
    timer_start(t.loop, &t.timer, 3600 * 1000);
    timer_start(t.loop, &t.timer2, 10);
    loop_run(t.loop);
    assert_string_equal(t.trace, "e");
    timer_stop(t.loop, &t.timer);
    timer_stop(t.loop, &t.timer); /* twice does no harm */
    assert_false(timer_running(&t.timer));
    timer_start(t.loop, &t.timer, 1);
    timer_stop(t.loop, &t.timer);
    timer_start(t.loop, &t.timer2, 10);
    loop_run(t.loop);
    assert_string_equal(t.trace, "ee");
}

static void stop_the_other_timer(void *arg)
{
    trace('1');
    timer_stop(t.loop, arg);
    loop_stop(t.loop);
}

static void a_timer_that_is_due_can_still_be_stopped(void **unused)
{
    (void)unused;
    timer_setup(&t.timer, stop_the_other_timer, &t.timer2);
    timer_setup(&t.timer2, stop_the_other_timer, &t.timer);
    timer_start(t.loop, &t.timer, 0);
    timer_start(t.loop, &t.timer2, 0);
    loop_run(t.loop);
    assert_string_equal(t.trace, "1");
    assert_false(timer_running(&t.timer));
    assert_false(timer_running(&t.timer2));
}

static void timer_again(void *arg)
{
    (void)arg;
    if (++t.events < 3) {
        timer_start(t.loop, &t.timer, 1);
    } else {
        loop_stop(t.loop);
    }
}

static void a_timer_may_start_itself_again(void **unused)
{
    (void)unused;
    timer_setup(&t.timer, timer_again, NULL);
    timer_start(t.loop, &t.timer, 0);
    loop_run(t.loop);
    assert_int_equal(t.events, 3);
}

static void now_stands_still(void *arg)
{
    int64_t now = loop_now(t.loop);

    (void)arg;
    while (clock_ms() < now + 3) {
    }
    assert_int_equal(loop_now(t.loop), now);
    loop_stop(t.loop);
}

static void now_is_read_once_a_turn(void **unused)
{
    int64_t before = clock_ms();

    (void)unused;
    timer_setup(&t.timer, now_stands_still, NULL);
    timer_start(t.loop, &t.timer, 5);
    loop_run(t.loop);
    assert_true(loop_now(t.loop) >= before + 5);
}

/* --- deferred calls and before_sleep --- */

static void before_sleep(void *arg)
{
    (void)arg;
    trace('s');
    if (++t.turns == 3)
        loop_stop(t.loop);
}

static void defer_itself(void *arg)
{
    (void)arg;
    trace('d');
    defer_call(t.loop, &t.defer);
}

/* Nothing else wakes this loop: it would hang if it waited. */
static void what_is_deferred_while_deferred_calls_run_comes_in_the_next_turn_without_waiting(void **unused)
{
    (void)unused;
    loop_before_sleep(t.loop, before_sleep, NULL);
    defer_setup(&t.defer, defer_itself, NULL);
    defer_call(t.loop, &t.defer);
    loop_run(t.loop);
    assert_memory_equal(t.trace, "dsdsds", 6);
    defer_cancel(t.loop, &t.defer);
}

static void before_sleep_defers(void *arg)
{
    (void)arg;
    trace('s');
    if (t.turns++ == 0)
        defer_call(t.loop, &t.defer);
}

static void what_before_sleep_defers_is_not_slept_over(void **unused)
{
    (void)unused;
    loop_before_sleep(t.loop, before_sleep_defers, NULL);
    defer_setup(&t.defer, trace_and_stop, letter('d'));
    loop_run(t.loop);
    assert_memory_equal(t.trace, "sds", 3);
}

static void deferred_calls_keep_their_order_and_are_not_doubled(void **unused)
{
    (void)unused;
    defer_setup(&t.defer, trace_only, letter('a'));
    defer_setup(&t.defer2, trace_and_stop, letter('b'));
    defer_call(t.loop, &t.defer);
    defer_call(t.loop, &t.defer2);
    defer_call(t.loop, &t.defer);
    assert_true(t.defer.queued);
    loop_run(t.loop);
    assert_string_equal(t.trace, "ab");
    assert_false(t.defer.queued);
}

static void a_cancelled_call_is_not_made(void **unused)
{
    struct defer third;

    (void)unused;
    defer_setup(&t.defer, trace_only, letter('a'));
    defer_setup(&t.defer2, trace_only, letter('b'));
    defer_setup(&third, trace_and_stop, letter('c'));
    defer_cancel(t.loop, &t.defer); /* not queued: nothing to do */
    defer_call(t.loop, &t.defer);
    defer_call(t.loop, &t.defer2);
    defer_cancel(t.loop, &t.defer2); /* the last in the list... */
    defer_call(t.loop, &third);      /* ...and the list goes on behind it */
    defer_cancel(t.loop, &t.defer);
    loop_run(t.loop);
    assert_string_equal(t.trace, "c");
    assert_false(t.defer.queued);
}

static void cancel_the_next(void *arg)
{
    (void)arg;
    trace('1');
    defer_cancel(t.loop, &t.defer2);
    memset(&t.defer2, 0xff, sizeof t.defer2); /* its owner is gone */
    loop_stop(t.loop);
}

static void a_call_can_be_cancelled_from_the_one_before_it(void **unused)
{
    (void)unused;
    defer_setup(&t.defer, cancel_the_next, NULL);
    defer_setup(&t.defer2, trace_only, letter('2'));
    defer_call(t.loop, &t.defer);
    defer_call(t.loop, &t.defer2);
    loop_run(t.loop);
    assert_string_equal(t.trace, "1");
}

static void on_event_defer(void *arg, int events)
{
    (void)arg;
    (void)events;
    trace('e');
    watch_set(t.loop, &t.watch, 0);
    defer_call(t.loop, &t.defer);
    loop_stop(t.loop);
}

/* The answer to a last packet must still be written. */
static void the_turn_in_which_the_loop_is_stopped_is_finished(void **unused)
{
    (void)unused;
    loop_before_sleep(t.loop, before_sleep, NULL);
    defer_setup(&t.defer, trace_only, letter('d'));
    watch_init(&t.watch, t.pair[0], on_event_defer, NULL);
    watch_set(t.loop, &t.watch, LOOP_WRITE);
    loop_run(t.loop);
    assert_string_equal(t.trace, "seds");
}

static void count_turns(void *arg)
{
    (void)arg;
    t.turns++;
}

static void an_idle_loop_makes_no_turns(void **unused)
{
    (void)unused;
    loop_before_sleep(t.loop, count_turns, NULL);
    watch_init(&t.watch, t.pair[0], on_event_count, NULL);
    watch_set(t.loop, &t.watch, LOOP_READ);
    defer_setup(&t.defer, trace_only, letter('d'));
    defer_call(t.loop, &t.defer);
    timer_setup(&t.timer, stop, NULL);
    timer_start(t.loop, &t.timer, 200);
    loop_run(t.loop);
    assert_int_equal(t.turns, 2); /* before the timer, and after it */
    watch_set(t.loop, &t.watch, 0);
}

static void a_loop_stopped_before_it_runs_does_not_wait(void **unused)
{
    (void)unused;
    loop_stop(t.loop);
    loop_run(t.loop);
}

/* --- signals, mail --- */

static void on_signal(void *arg, int signo)
{
    *(int *)arg = signo;
    loop_stop(t.loop);
}

static void a_signal_is_handled_on_the_loop(void **unused)
{
    int hup = 0, usr = 0;

    (void)unused;
    assert_int_equal(loop_on_signal(t.loop, SIGHUP, on_signal, &hup), 0);
    assert_int_equal(loop_on_signal(t.loop, SIGUSR1, on_signal, &usr), 0);
    raise(SIGUSR1);
    assert_int_equal(usr, 0);
    loop_run(t.loop);
    assert_int_equal(usr, SIGUSR1);
    assert_int_equal(hup, 0);
}

static void a_second_handler_is_refused(void **unused)
{
    int seen = 0, never = 0;

    (void)unused;
    assert_int_equal(loop_on_signal(t.loop, SIGHUP, on_signal, &seen), 0);
    assert_int_equal(loop_on_signal(t.loop, SIGHUP, on_signal, &never), -1);
    assert_int_equal(errno, EEXIST);
    assert_int_equal(loop_on_signal(t.loop, 0, on_signal, &never), -1);
    assert_int_equal(loop_on_signal(t.loop, 10000, on_signal, &never), -1);
    raise(SIGHUP);
    loop_run(t.loop);
    assert_int_equal(seen, SIGHUP);
    assert_int_equal(never, 0);
}

enum { LETTERS = 1000 };

static struct mail letters[LETTERS];
static pthread_t loop_thread;

static void on_mail(struct mail *mail)
{
    (void)mail;
    assert_true(pthread_equal(pthread_self(), loop_thread));
    if (++t.events == LETTERS)
        loop_stop(t.loop);
}

static void *post(void *arg)
{
    for (int i = 0; i < LETTERS; i++) {
        letters[i].fn = on_mail;
        mailbox_post(arg, &letters[i]);
    }
    return NULL;
}

static void mail_of_a_thread_is_delivered_on_the_loop(void **unused)
{
    pthread_t thread;

    (void)unused;
    loop_thread = pthread_self();
    assert_int_equal(pthread_create(&thread, NULL, post, loop_mailbox(t.loop)), 0);
    loop_run(t.loop);
    pthread_join(thread, NULL);
    assert_int_equal(t.events, LETTERS);
}

static void post_from_before_sleep(void *arg)
{
    (void)arg;
    if (t.turns++ > 0)
        return;
    letters[0].fn = on_mail;
    t.events = LETTERS - 1;
    mailbox_post(loop_mailbox(t.loop), &letters[0]);
}

static void mail_posted_just_before_sleeping_is_not_slept_over(void **unused)
{
    (void)unused;
    loop_thread = pthread_self();
    loop_before_sleep(t.loop, post_from_before_sleep, NULL);
    loop_run(t.loop);
    assert_int_equal(t.events, LETTERS);
}

static void the_loop_goes_on_in_a_forked_child(void **unused)
{
    pid_t child;
    int status;

    (void)unused;
    watch_init(&t.watch, t.pair[0], on_event_stop, NULL);
    watch_set(t.loop, &t.watch, LOOP_WRITE);
    loop_run(t.loop);
    watch_set(t.loop, &t.watch, LOOP_READ);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        loop_after_fork(t.loop);
        loop_run(t.loop);
        _exit(t.events == LOOP_READ ? 7 : 1);
    }
    assert_int_equal(write(t.pair[1], "x", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    watch_set(t.loop, &t.watch, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_watch_sees_what_was_asked_for),
        TEST(watches_are_level_triggered),
        TEST(a_stopped_watch_is_not_called_although_its_event_is_there),
        TEST(a_watch_follows_a_number_that_is_used_again),
        TEST(timers_fire_in_the_order_of_their_times),
        TEST(a_timer_never_fires_early),
        TEST(starting_again_moves_a_timer_and_stopping_ends_it),
        TEST(a_timer_that_is_due_can_still_be_stopped),
        TEST(a_timer_may_start_itself_again),
        TEST(now_is_read_once_a_turn),
        TEST(what_is_deferred_while_deferred_calls_run_comes_in_the_next_turn_without_waiting),
        TEST(what_before_sleep_defers_is_not_slept_over),
        TEST(deferred_calls_keep_their_order_and_are_not_doubled),
        TEST(a_cancelled_call_is_not_made),
        TEST(a_call_can_be_cancelled_from_the_one_before_it),
        TEST(the_turn_in_which_the_loop_is_stopped_is_finished),
        TEST(an_idle_loop_makes_no_turns),
        TEST(a_loop_stopped_before_it_runs_does_not_wait),
        TEST(a_signal_is_handled_on_the_loop),
        TEST(a_second_handler_is_refused),
        TEST(mail_of_a_thread_is_delivered_on_the_loop),
        TEST(mail_posted_just_before_sleeping_is_not_slept_over),
        TEST(the_loop_goes_on_in_a_forked_child),
    };
    alarm(100); /* a loop that wrongly waits must not wait for ever */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
