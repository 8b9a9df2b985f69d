/*
 * mailbox.h - how a thread answers the loop.
 *
 *   worker thread                          loop thread
 *   mailbox_post(mb, &job->mail)  --wake-->  mailbox_drain(mb): job->mail.fn(&job->mail)
 *
 * Mail is intrusive: it is the first thing in the job that a worker was given, so posting never allocates and
 * never fails. A job names what it was for by id (connection id), never by pointer: the connection may be
 * gone by then.
 */
#ifndef BRAMBLE_MAILBOX_H
#define BRAMBLE_MAILBOX_H

struct mail {
    struct mail *next;
    void (*fn)(struct mail *mail); /* called on the loop thread; owns the mail from then on */
};

struct mailbox;

/* wake(arg) is called from any thread after a post into an empty mailbox; it must be thread-safe. NULL
 * without memory. */
struct mailbox *mailbox_new(void (*wake)(void *arg), void *arg);

/* All posting threads must have ended; undelivered mail is delivered first (fn is called), so nothing leaks.
 */
void mailbox_free(struct mailbox *mailbox);

/* From any thread. The mail must stay valid until its fn has been called. */
void mailbox_post(struct mailbox *mailbox, struct mail *mail);

/* On the loop thread: calls fn of all mail posted up to now, in the order of posting. Returns how many. */
int mailbox_drain(struct mailbox *mailbox);

#endif
