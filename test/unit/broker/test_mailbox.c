/*
 * test_mailbox.c - order, waking, and posting from many threads at once.
 */
#include "broker/mailbox.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

struct letter {
    struct mail mail; /* first: a mail is a letter */
    int number;
    struct mailbox *again; /* where fn posts `next` */
    struct letter *next;
};

static int seen[16];
static int seen_count;

static void count_wake(void *arg)
{
    ++*(int *)arg;
}

static void note(struct mail *mail)
{
    struct letter *letter = (struct letter *)mail;

    seen[seen_count++] = letter->number;
    if (letter->again)
        mailbox_post(letter->again, &letter->next->mail);
}

static int setup(void **unused)
{
    (void)unused;
    seen_count = 0;
    return 0;
}

static void delivers_in_order_of_posting(void **unused)
{
    int wakes = 0;
    struct mailbox *mailbox = mailbox_new(count_wake, &wakes);
    struct letter letters[3] = {
        {{NULL, note}, 1, NULL, NULL}, {{NULL, note}, 2, NULL, NULL}, {{NULL, note}, 3, NULL, NULL}};

    (void)unused;
    for (int i = 0; i < 3; i++)
        mailbox_post(mailbox, &letters[i].mail);
    assert_int_equal(seen_count, 0);
    assert_int_equal(mailbox_drain(mailbox), 3);
    assert_int_equal(seen_count, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(seen[i], i + 1);
    assert_int_equal(mailbox_drain(mailbox), 0);
    mailbox_free(mailbox);
}

static void wakes_once_for_each_filling(void **unused)
{
    int wakes = 0;
    struct mailbox *mailbox = mailbox_new(count_wake, &wakes);
    struct letter a = {{NULL, note}, 1, NULL, NULL}, b = {{NULL, note}, 2, NULL, NULL};

    (void)unused;
    mailbox_post(mailbox, &a.mail);
    mailbox_post(mailbox, &b.mail);
    assert_int_equal(wakes, 1);
    mailbox_drain(mailbox);
    mailbox_post(mailbox, &a.mail);
    assert_int_equal(wakes, 2);
    mailbox_drain(mailbox);
    mailbox_free(mailbox);
}

/* Else two pieces of mail that answer each other would hold the loop for ever. */
static void mail_posted_while_draining_waits_for_the_next_drain(void **unused)
{
    int wakes = 0;
    struct mailbox *mailbox = mailbox_new(count_wake, &wakes);
    struct letter second = {{NULL, note}, 2, NULL, NULL};
    struct letter first = {{NULL, note}, 1, mailbox, &second};

    (void)unused;
    mailbox_post(mailbox, &first.mail);
    assert_int_equal(mailbox_drain(mailbox), 1);
    assert_int_equal(seen_count, 1);
    assert_int_equal(wakes, 2);
    assert_int_equal(mailbox_drain(mailbox), 1);
    assert_int_equal(seen[1], 2);
    mailbox_free(mailbox);
}

static void freeing_delivers_what_is_left(void **unused)
{
    int wakes = 0;
    struct mailbox *mailbox = mailbox_new(count_wake, &wakes);
    struct letter second = {{NULL, note}, 2, NULL, NULL};
    struct letter first = {{NULL, note}, 1, mailbox, &second};

    (void)unused;
    mailbox_post(mailbox, &first.mail);
    mailbox_free(mailbox);
    assert_int_equal(seen_count, 2);
}

/* --- many threads --- */

enum { THREADS = 4, LETTERS = 20000 };

struct job {
    struct mail mail;
    int thread, number;
};

static struct {
    struct mailbox *mailbox;
    int wake_fd;
    int next[THREADS];
    int total;
} crowd;

static void wake_fd(void *arg)
{
    uint64_t one = 1;

    assert_int_equal(write(*(int *)arg, &one, sizeof one), sizeof one);
}

static void take_job(struct mail *mail)
{
    struct job *job = (struct job *)mail;

    assert_int_equal(job->number, crowd.next[job->thread]);
    crowd.next[job->thread]++;
    crowd.total++;
    free(job);
}

static void *post_jobs(void *arg)
{
    for (int i = 0; i < LETTERS; i++) {
        struct job *job = malloc(sizeof *job);
        if (!job)
            abort();
        *job = (struct job){{NULL, take_job}, (int)(intptr_t)arg, i};
        mailbox_post(crowd.mailbox, &job->mail);
    }
    return NULL;
}

static void many_threads_lose_nothing_and_keep_their_order(void **unused)
{
    pthread_t threads[THREADS];

    (void)unused;
    crowd.wake_fd = eventfd(0, EFD_CLOEXEC);
    crowd.mailbox = mailbox_new(wake_fd, &crowd.wake_fd);
    for (intptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post_jobs, (void *)i), 0);
    /* a lost wake-up would leave this waiting for ever */
    while (crowd.total < THREADS * LETTERS) {
        uint64_t count;
        assert_int_equal(read(crowd.wake_fd, &count, sizeof count), sizeof count);
        mailbox_drain(crowd.mailbox);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(crowd.next[i], LETTERS);
    }
    assert_int_equal(mailbox_drain(crowd.mailbox), 0);
    mailbox_free(crowd.mailbox);
    close(crowd.wake_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(delivers_in_order_of_posting, setup),
        cmocka_unit_test_setup(wakes_once_for_each_filling, setup),
        cmocka_unit_test_setup(mail_posted_while_draining_waits_for_the_next_drain, setup),
        cmocka_unit_test_setup(freeing_delivers_what_is_left, setup),
        cmocka_unit_test(many_threads_lose_nothing_and_keep_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
