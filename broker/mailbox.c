/*
 * mailbox.c - many threads post, the loop takes.
 *
 * A stack that any thread pushes to with one compare-and-swap, and that the loop takes whole with one
 * exchange:
 *
 *     post c:   top -> c -> b -> a          drain:   take c b a, turn it round, call a b c
 *
 * Taking the whole stack at once is what makes it safe without locks or counters: nobody ever pops a single
 * piece of mail, so a piece that is freed and posted again while another thread is pushing cannot be mistaken
 * (no ABA). The push that finds the stack empty wakes the loop; the others know that somebody before them
 * has.
 */
#include "broker/mailbox.h"
#include <stdatomic.h>
#include <stdlib.h>

struct mailbox {
    _Atomic(struct mail *) top;
    void (*wake)(void *arg);
    void *arg;
};

struct mailbox *mailbox_new(void (*wake)(void *arg), void *arg)
{
    struct mailbox *mailbox = malloc(sizeof *mailbox);

    if (!mailbox)
        return NULL;
    atomic_init(&mailbox->top, NULL);
    mailbox->wake = wake;
    mailbox->arg = arg;
    return mailbox;
}

void mailbox_free(struct mailbox *mailbox)
{
    if (!mailbox)
        return;
    while (mailbox_drain(mailbox) > 0) {
        /* what a piece of mail posts while it is delivered is delivered too */
    }
    free(mailbox);
}

void mailbox_post(struct mailbox *mailbox, struct mail *mail)
{
    /* Nothing of the mail, and nothing that the loop could free on its account, is touched after the swap. */
    void (*wake)(void *arg) = mailbox->wake;
    void *arg = mailbox->arg;
    struct mail *top = atomic_load_explicit(&mailbox->top, memory_order_relaxed);

    do {
        mail->next = top;
    } while (!atomic_compare_exchange_weak_explicit(&mailbox->top, &top, mail, memory_order_release,
                                                    memory_order_relaxed));
    if (!top)
        wake(arg);
}

int mailbox_drain(struct mailbox *mailbox)
{
    struct mail *stack = atomic_exchange_explicit(&mailbox->top, NULL, memory_order_acquire);
    struct mail *queue = NULL;
    int count = 0;

    while (stack) {
        struct mail *next = stack->next;
        stack->next = queue;
        queue = stack;
        stack = next;
    }
    while (queue) {
        struct mail *mail = queue;
        queue = mail->next; /* fn may free the mail */
        mail->fn(mail);
        count++;
    }
    return count;
}
