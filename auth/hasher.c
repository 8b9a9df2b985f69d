/*
 * hasher.c - threads that verify passwords, so that the loop does not wait for argon2id.
 *
 *   loop                                        worker                              loop
 *   hasher_verify --waiting.h (bounded, in turn)--> pwhash_verify --mailbox--> answer(): done(ctx, id,
 * verdict)
 *        \---- no room --------------------------------------mailbox-->  answer(): AUTH_UNAVAILABLE
 *        \---- a token, or verified before (verified.h) -----mailbox-->  answer(): the verdict
 *
 * A job is one block that holds copies of all it needs; it belongs to the waiting list, then to one worker,
 * then to the mailbox, and is wiped and freed in answer(). The password is wiped as soon as it has been
 * verified. Who would not be waited for any more when his turn comes is not hashed for.
 *
 * The hard part is an answer when memory is gone: even a refusal needs a block to travel in. A few are set
 * aside. When they are used up too, the request is not answered, which the caller's CONNECT deadline ends.
 */
#include "auth/passwords.h"
#include "auth/pwhash.h"
#include "auth/verified.h"
#include "auth/waiting.h"
#include "broker/clock.h"
#include "broker/counters.h"
#include "broker/log.h"
#include "broker/mailbox.h"

#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <unistd.h>

enum { SPARES = 32 };

struct job {
    struct mail mail;           /* first: the mailbox gives this back */
    struct waiting_place place; /* or the next spare */
    auth_done *done;
    void *ctx;
    uint64_t id;
    int64_t until;
    struct verified *verified; /* a reference: where a password that proves right is remembered, or NULL */
    uint8_t tag[VERIFIED_TAG]; /* as this */
    enum auth_verdict verdict;
    bool no_password;            /* CONNECT came without one: denied, after the same work */
    uint32_t hash_n, password_n; /* hash_n 0: no such user */
    uint8_t text[];              /* the hash, then the password */
};

struct hasher {
    struct mailbox *mailbox;
    struct counters *counters;
    struct verified *verified;
    int threads;
    pthread_t *thread;
    struct waiting_place *spares; /* blocks for refusals; loop thread only, as spare_n */
    int spare_n;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work;
    struct waiting *waiting;
    bool said_full; /* since somebody last found nothing to do */
    bool ending;
};

static struct job *job_of(struct waiting_place *place)
{
    return place ? (struct job *)((char *)place - offsetof(struct job, place)) : NULL;
}

static void wipe(struct job *job)
{
    sodium_memzero(job->text, job->hash_n + job->password_n);
    job->hash_n = job->password_n = 0;
}

static void job_free(struct job *job)
{
    wipe(job);
    verified_unref(job->verified);
    free(job);
}

/* On the loop thread, from mailbox_drain(). The hasher may be gone. */
static void answer(struct mail *mail)
{
    struct job *job = (struct job *)mail;
    auth_done *done = job->done;
    void *ctx = job->ctx;
    uint64_t id = job->id;
    enum auth_verdict verdict = job->verdict;
    if (job->verified && verdict == AUTH_ALLOWED)
        verified_add(job->verified, job->tag);
    job_free(job);
    done(ctx, id, verdict);
}

static void verify(struct job *job)
{
    struct slice hash = slice_of(job->text, job->hash_n);
    struct slice password = slice_of(job->text + job->hash_n, job->password_n);
    if (clock_ms() < job->until)
        job->verdict = hash.n ? pwhash_verify(hash, password) : pwhash_verify_nobody(password);
    if (job->no_password && job->verdict == AUTH_ALLOWED)
        job->verdict = AUTH_DENIED;
    wipe(job);
}

/* The next job, or NULL when the hasher ends. */
static struct job *take(struct hasher *hasher)
{
    struct waiting_place *place = NULL;
    pthread_mutex_lock(&hasher->lock);
    while (!hasher->ending && !(place = waiting_take(hasher->waiting))) {
        hasher->said_full = false;
        pthread_cond_wait(&hasher->work, &hasher->lock);
    }
    pthread_mutex_unlock(&hasher->lock);
    return job_of(place);
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
        job->place.next = hasher->spares;
        hasher->spares = &job->place;
        hasher->spare_n++;
    }
}

struct hasher *hasher_new(struct mailbox *mailbox, const struct hasher_options *options)
{
    struct hasher *hasher = calloc(1, sizeof *hasher);
    if (!hasher)
        return NULL;
    hasher->mailbox = mailbox;
    hasher->counters = options->counters;
    pthread_mutex_init(&hasher->lock, NULL);
    pthread_cond_init(&hasher->work, NULL);
    hasher->thread = calloc((size_t)options->threads, sizeof *hasher->thread);
    hasher->waiting = waiting_new(options->listeners);
    hasher->verified = pwhash_init() ? verified_new(options->cache) : NULL;
    set_aside_spares(hasher);
    if (!hasher->thread || !hasher->waiting || !hasher->verified || hasher->spare_n < SPARES ||
        start(hasher, options->threads) != 0) {
        hasher_free(hasher);
        return NULL;
    }
    return hasher;
}

static void end(struct hasher *hasher)
{
    pthread_mutex_lock(&hasher->lock);
    hasher->ending = true;
    pthread_cond_broadcast(&hasher->work);
    pthread_mutex_unlock(&hasher->lock);
}

bool hasher_stop(struct hasher *hasher, int64_t max_ms)
{
    if (!hasher)
        return true;
    end(hasher);
    for (int64_t until = clock_ms() + max_ms; hasher->threads > 0;) {
        if (pthread_tryjoin_np(hasher->thread[hasher->threads - 1], NULL) == 0)
            hasher->threads--;
        else if (clock_ms() >= until)
            return false;
        else
            usleep(1000);
    }
    return true;
}

/* Answers that lie in the mailbox need nothing of the hasher: they are delivered whenever the mailbox is
 * drained next. */
void hasher_free(struct hasher *hasher)
{
    if (!hasher)
        return;
    end(hasher);
    for (int i = 0; i < hasher->threads; i++)
        pthread_join(hasher->thread[i], NULL);
    for (struct job *job; hasher->waiting && (job = job_of(waiting_take(hasher->waiting)));)
        job_free(job);
    for (struct job *job; (job = job_of(hasher->spares));) {
        hasher->spares = job->place.next;
        job_free(job);
    }
    waiting_free(hasher->waiting);
    verified_unref(hasher->verified);
    pthread_cond_destroy(&hasher->work);
    pthread_mutex_destroy(&hasher->lock);
    free(hasher->thread);
    free(hasher);
}

void hasher_forget(struct hasher *hasher)
{
    verified_forget(hasher->verified);
}

/* False when there is no room; said once, until the threads have nothing to do. */
static bool enqueue(struct hasher *hasher, struct job *job, const struct auth_question *question)
{
    const struct principal *who = question->who;
    pthread_mutex_lock(&hasher->lock);
    bool room = waiting_add(hasher->waiting, &job->place, question->password.n, (size_t)who->listener,
                            principal_origin(who));
    bool say = !room && !hasher->said_full;
    hasher->said_full |= say;
    if (room)
        pthread_cond_signal(&hasher->work);
    pthread_mutex_unlock(&hasher->lock);
    if (say)
        log_write(LOG_T_WARNING,
                  "So many logins wait for their password's check that more are refused (this one "
                  "came from %s on listener %d).",
                  who->address, who->listener);
    return room;
}

/* With room for text_n bytes, or for none of them when memory is gone: see *whole. NULL: not even that. */
static struct job *job_new(struct hasher *hasher, const struct auth_question *question, size_t text_n,
                           bool *whole)
{
    set_aside_spares(hasher);
    struct job *job = calloc(1, sizeof *job + text_n);
    *whole = job != NULL;
    if (!job && (job = job_of(hasher->spares))) {
        hasher->spares = job->place.next;
        hasher->spare_n--;
    }
    if (!job) {
        log_write(LOG_T_ERROR, "out of memory: a log-in stays without an answer");
        return NULL;
    }
    job->mail.fn = answer;
    job->done = question->done;
    job->ctx = question->ctx;
    job->id = question->id;
    job->until = question->until;
    job->verdict = AUTH_UNAVAILABLE;
    return job;
}

static void answer_at_once(struct hasher *hasher, const struct auth_question *question,
                           enum auth_verdict verdict)
{
    bool whole;
    struct job *job = job_new(hasher, question, 0, &whole);
    if (job) {
        job->verdict = verdict;
        mailbox_post(hasher->mailbox, &job->mail);
    }
}

/* tag: NULL when the password is not to be remembered. */
static void ask_a_thread(struct hasher *hasher, const struct auth_question *question, struct slice hash,
                         const uint8_t *tag)
{
    bool whole;
    struct slice password = question->password;
    struct job *job = job_new(hasher, question, hash.n + password.n, &whole);
    if (!job)
        return;
    if (whole) {
        job->no_password = password.p == NULL;
        job->hash_n = (uint32_t)hash.n;
        job->password_n = (uint32_t)password.n;
        if (hash.n)
            memcpy(job->text, hash.p, hash.n);
        if (password.p)
            memcpy(job->text + hash.n, password.p, password.n);
        if (tag) {
            job->verified = verified_ref(hasher->verified);
            memcpy(job->tag, tag, VERIFIED_TAG);
        }
    }
    if (!whole || !enqueue(hasher, job, question)) {
        wipe(job);
        mailbox_post(hasher->mailbox, &job->mail);
    }
}

void hasher_verify(struct hasher *hasher, const struct passwords *passwords,
                   const struct auth_question *question)
{
    struct slice user = slice_str(question->who->user), password = question->password;
    struct slice hash = passwords_hash(passwords, user);
    bool for_tokens = hash.n && pwhash_for_tokens(hash);
    if (pwhash_is_token(password)) {
        answer_at_once(hasher, question, for_tokens ? pwhash_verify(hash, password) : AUTH_DENIED);
        return;
    }
    uint8_t tag[VERIFIED_TAG];
    bool real = hash.n && !for_tokens && password.p;
    if (real) {
        verified_tag(hasher->verified, hash, user, password, tag);
        if (verified_has(hasher->verified, tag)) {
            hasher->counters->logins_cached++;
            answer_at_once(hasher, question, AUTH_ALLOWED);
            return;
        }
    }
    ask_a_thread(hasher, question, for_tokens ? slice_of(NULL, 0) : hash, real ? tag : NULL);
}
