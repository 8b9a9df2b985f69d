/*
 * pool.c - struct tls: the workers on which handshakes run, and what all TLS streams share.
 *
 *    loop thread                                   worker
 *    tls_submit(step)  --- first .. last --->      tls_handshake_run(step)
 *    on_step(mail)     <-- the loop's mailbox --   mailbox_post(&step->mail)
 *
 * A stream that is closed while its step is out is marked (stream->orphaned); the step comes back all the
 * same and then frees it. So struct tls is counted: it lives until the last such step has come home, be it in
 * mailbox_free().
 */
#include "tls/internal.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORKER_STACK = 512 * 1024, TICKET_SECONDS = 24 * 3600 };

/* The next step, or NULL when it is time to go. Steps that wait are still handed out then: they come back
 * unrun. */
static struct step *tls_take(struct tls *tls)
{
    struct step *step;

    pthread_mutex_lock(&tls->mutex);
    while (!tls->first && !tls->stop)
        pthread_cond_wait(&tls->cond, &tls->mutex);
    step = tls->first;
    if (step) {
        tls->first = step->next;
        if (!tls->first)
            tls->last = &tls->first;
        if (tls->stop)
            atomic_store(&step->cancelled, true);
    }
    pthread_mutex_unlock(&tls->mutex);
    return step;
}

static void *worker_main(void *arg)
{
    struct tls *tls = arg;
    struct step *step;
    int number;

    pthread_mutex_lock(&tls->mutex);
    number = tls->started++;
    pthread_mutex_unlock(&tls->mutex);
    while ((step = tls_take(tls))) {
        step->worker = number;
        if (!atomic_load(&step->cancelled))
            tls_handshake_run(step);
        mailbox_post(tls->mailbox, &step->mail);
    }
    return NULL;
}

void tls_submit(struct tls *tls, struct step *step)
{
    step->next = NULL;
    pthread_mutex_lock(&tls->mutex);
    *tls->last = step;
    tls->last = &step->next;
    pthread_cond_signal(&tls->cond);
    pthread_mutex_unlock(&tls->mutex);
}

/* Signals are the loop's business: workers block them all. */
static int start_workers(struct tls *tls, int threads)
{
    sigset_t all, before;
    pthread_attr_t attr;
    int ret = 0;

    tls->thread = calloc((size_t)threads, sizeof *tls->thread);
    if (!tls->thread || pthread_attr_init(&attr))
        return -1;
    pthread_attr_setstacksize(&attr, WORKER_STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (tls->threads < threads && !ret) {
        ret = pthread_create(&tls->thread[tls->threads], &attr, worker_main, tls);
        if (!ret) {
            pthread_setname_np(tls->thread[tls->threads], "tls");
            tls->threads++;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return ret ? -1 : 0;
}

static void stop_workers(struct tls *tls)
{
    pthread_mutex_lock(&tls->mutex);
    tls->stop = true;
    pthread_cond_broadcast(&tls->cond);
    pthread_mutex_unlock(&tls->mutex);
    for (int i = 0; i < tls->threads; i++)
        pthread_join(tls->thread[i], NULL);
    tls->threads = 0;
}

struct tls *tls_new(struct loop *loop, int threads, int queue_max, int timeout_ms, struct err *err)
{
    struct tls *tls;

    if (tls_library_start(err))
        return NULL;
    tls = calloc(1, sizeof *tls);
    if (!tls) {
        err_set(err, "Error: no memory for TLS");
        return NULL;
    }
    if (threads < 1) {
        threads = (int)sysconf(_SC_NPROCESSORS_ONLN) - 1;
        threads = threads < 1 ? 1 : threads;
    }
    tls->refs = 1;
    tls->loop = loop;
    tls->mailbox = loop_mailbox(loop);
    tls->queue_max = queue_max;
    tls->timeout_ms = timeout_ms;
    tls->last = &tls->first;
    pthread_mutex_init(&tls->mutex, NULL);
    pthread_cond_init(&tls->cond, NULL);
    mbedtls_ssl_ticket_init(&tls->tickets);
    /* A key makes tickets for a day and is then kept for another, to read them. */
    if (mbedtls_ssl_ticket_setup(&tls->tickets, TLS_RNG, MBEDTLS_CIPHER_AES_256_GCM, TICKET_SECONDS)) {
        err_set(err, "Error: TLS: no keys for session tickets");
        tls_free(tls);
        return NULL;
    }
    if (start_workers(tls, threads)) {
        err_set(err, "Error: TLS: the handshake threads do not start");
        tls_free(tls);
        return NULL;
    }
    return tls;
}

void tls_ref(struct tls *tls)
{
    tls->refs++;
}

void tls_unref(struct tls *tls)
{
    if (--tls->refs > 0)
        return;
    mbedtls_ssl_ticket_free(&tls->tickets);
    pthread_cond_destroy(&tls->cond);
    pthread_mutex_destroy(&tls->mutex);
    free(tls->thread);
    free(tls);
}

void tls_free(struct tls *tls)
{
    if (!tls)
        return;
    stop_workers(tls);
    while (tls->lingering)
        tls_stream_free(tls->lingering);
    tls_unref(tls);
}
