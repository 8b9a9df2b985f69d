/*
 * hasher.c - threads that verify passwords, so that the loop does not wait for argon2id.
 *
 *   loop                                worker                              loop
 *   hasher_verify --waiting (bounded)--> pwhash_verify --mailbox--> answer(): done(ctx, id, verdict)
 *        \---- queue full ------------------------------mailbox-->  answer(): AUTH_UNAVAILABLE
 *
 * A job is one block that holds copies of all it needs; it belongs to the queue, then to one worker, then to
 * the mailbox, and is wiped and freed in answer(). The password is wiped as soon as it has been verified.
 *
 * The hard part is an answer when memory is gone: even a refusal needs a block to travel in. A few are set
 * aside. When they are used up too, the request is not answered, which the caller's CONNECT deadline ends.
 */
#include "auth/passwords.h"
#include "auth/pwhash.h"
#include "broker/log.h"
#include "broker/mailbox.h"

#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>

enum { SPARES = 32 };

struct job {
    struct mail mail; /* first: the mailbox gives this back */
    struct job *next;
    auth_done *done;
    void *ctx;
    uint64_t id;
    enum auth_verdict verdict;
    bool no_password;            /* CONNECT came without one: denied, after the same work */
    uint32_t hash_n, password_n; /* hash_n 0: no such user */
    uint8_t text[];              /* the hash, then the password */
};

struct hasher {
    struct mailbox *mailbox;
    int threads, queue_max;
    pthread_t *thread;
    struct job *spares; /* blocks for refusals; loop thread only, as spare_n */
    int spare_n;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work;
    struct job *first, **last;
    int waiting;
    bool ending;
};

static void wipe(struct job *job)
{
    sodium_memzero(job->text, job->hash_n + job->password_n);
    job->hash_n = job->password_n = 0;
}

/* On the loop thread, from mailbox_drain(). */
static void answer(struct mail *mail)
{
    struct job *job = (struct job *)mail;
    auth_done *done = job->done;
    void *ctx = job->ctx;
    uint64_t id = job->id;
    enum auth_verdict verdict = job->verdict;
    wipe(job);
    free(job);
    done(ctx, id, verdict);
}

static void verify(struct job *job)
{
    struct slice hash = slice_of(job->text, job->hash_n);
    struct slice password = slice_of(job->text + job->hash_n, job->password_n);
    job->verdict = hash.n ? pwhash_verify(hash, password) : pwhash_verify_nobody(password);
    if (job->no_password && job->verdict == AUTH_ALLOWED)
        job->verdict = AUTH_DENIED;
    wipe(job);
}

/* The next job, or NULL when the hasher ends. */
static struct job *take(struct hasher *hasher)
{
    struct job *job = NULL;
    pthread_mutex_lock(&hasher->lock);
    while (!hasher->first && !hasher->ending)
        pthread_cond_wait(&hasher->work, &hasher->lock);
    if (!hasher->ending) {
        job = hasher->first;
        hasher->first = job->next;
        if (!hasher->first)
            hasher->last = &hasher->first;
        hasher->waiting--;
    }
    pthread_mutex_unlock(&hasher->lock);
    return job;
}

static void *worker(void *arg)
{
    struct hasher *hasher = arg;
    struct job *job;
    while ((job = take(hasher))) {
        verify(job);
        mailbox_post(hasher->mailbox, &job->mail);
    }
    return NULL;
}

/* Signals are the loop thread's: workers start with all of them blocked. */
static int start(struct hasher *hasher, int threads)
{
    sigset_t all, before;
    int rc = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (rc == 0 && hasher->threads < threads) {
        rc = pthread_create(&hasher->thread[hasher->threads], NULL, worker, hasher);
        if (rc == 0)
            pthread_setname_np(hasher->thread[hasher->threads++], "hasher");
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc ? -1 : 0;
}

/* Fills the store of spares as far as memory allows. */
static void set_aside_spares(struct hasher *hasher)
{
    while (hasher->spare_n < SPARES) {
        struct job *job = calloc(1, sizeof *job);
        if (!job)
            return;
        job->next = hasher->spares;
        hasher->spares = job;
        hasher->spare_n++;
    }
}

struct hasher *hasher_new(struct mailbox *mailbox, int threads, int queue_max)
{
    struct hasher *hasher = calloc(1, sizeof *hasher);
    if (!hasher)
        return NULL;
    hasher->mailbox = mailbox;
    hasher->queue_max = queue_max;
    hasher->last = &hasher->first;
    pthread_mutex_init(&hasher->lock, NULL);
    pthread_cond_init(&hasher->work, NULL);
    hasher->thread = calloc((size_t)threads, sizeof *hasher->thread);
    set_aside_spares(hasher);
    if (!hasher->thread || hasher->spare_n < SPARES || !pwhash_init() || start(hasher, threads) != 0) {
        hasher_free(hasher);
        return NULL;
    }
    return hasher;
}

static void jobs_free(struct job *job)
{
    while (job) {
        struct job *next = job->next;
        wipe(job);
        free(job);
        job = next;
    }
}

/* Answers that lie in the mailbox need nothing of the hasher: they are delivered whenever the mailbox is
 * drained next. */
void hasher_free(struct hasher *hasher)
{
    if (!hasher)
        return;
    pthread_mutex_lock(&hasher->lock);
    hasher->ending = true;
    pthread_cond_broadcast(&hasher->work);
    pthread_mutex_unlock(&hasher->lock);
    for (int i = 0; i < hasher->threads; i++)
        pthread_join(hasher->thread[i], NULL);
    jobs_free(hasher->first);
    jobs_free(hasher->spares);
    pthread_cond_destroy(&hasher->work);
    pthread_mutex_destroy(&hasher->lock);
    free(hasher->thread);
    free(hasher);
}

/* False when the queue is full. */
static bool enqueue(struct hasher *hasher, struct job *job)
{
    pthread_mutex_lock(&hasher->lock);
    bool room = hasher->waiting < hasher->queue_max;
    if (room) {
        *hasher->last = job;
        hasher->last = &job->next;
        hasher->waiting++;
        pthread_cond_signal(&hasher->work);
    }
    pthread_mutex_unlock(&hasher->lock);
    return room;
}

static struct job *take_spare(struct hasher *hasher)
{
    struct job *job = hasher->spares;
    if (job) {
        hasher->spares = job->next;
        hasher->spare_n--;
        job->next = NULL;
    }
    return job;
}

void hasher_verify(struct hasher *hasher, const struct passwords *passwords, struct slice user,
                   struct slice password, auth_done *done, void *ctx, uint64_t id)
{
    struct slice hash = passwords_hash(passwords, user);
    set_aside_spares(hasher);
    struct job *job = calloc(1, sizeof *job + hash.n + password.n);
    bool whole = job != NULL;
    if (!job && !(job = take_spare(hasher))) {
        log_write(LOG_T_ERROR, "out of memory: a log-in stays without an answer");
        return;
    }
    job->mail.fn = answer;
    job->done = done;
    job->ctx = ctx;
    job->id = id;
    job->verdict = AUTH_UNAVAILABLE;
    if (whole) {
        job->no_password = password.p == NULL;
        job->hash_n = (uint32_t)hash.n;
        job->password_n = (uint32_t)password.n;
        if (hash.n)
            memcpy(job->text, hash.p, hash.n);
        if (password.p)
            memcpy(job->text + hash.n, password.p, password.n);
    }
    if (!whole || !enqueue(hasher, job)) {
        wipe(job);
        mailbox_post(hasher->mailbox, &job->mail);
    }
}
