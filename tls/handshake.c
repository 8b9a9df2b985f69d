/*
 * handshake.c - a stream from start() to ready(): bytes are gathered on the loop, the sums are done on a
 * worker.
 *
 *   NEW --start--> HELLO --first record is whole--> STEP --mail--> WAIT --bytes--> STEP ... --mail--> OPEN
 *                    |   (plain text? said so)         |             |                  |
 *                    +---------------------------------+-- deadline, end, error --------+----> FAILED
 *
 * While a worker has the stream (STEP) nothing is read below, so `in`, `out`, `ssl` and `facts` have one user
 * at a time and need no lock: the queue to the worker and the mail back carry them over. The deadline may
 * strike and the owner may close meanwhile: the stream then stays until the mail comes, which finds it FAILED
 * or orphaned and does nothing more.
 *
 * mbedTLS is set up only when a whole ClientHello is there: a client that connects and says nothing costs
 * less than a kilobyte and a timer.
 */
#include "tls/internal.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READ_STEP = 4096, ALERT_CERTIFICATE_REQUIRED = 116 };

/* ---- on a worker ---- */

static int step_recv(void *arg, unsigned char *data, size_t n)
{
    struct step *step = arg;
    struct bytes *in = &step->stream->in;

    if (in->len == 0) {
        step->starved = true;
        return MBEDTLS_ERR_SSL_WANT_READ;
    }
    n = n < in->len ? n : in->len;
    memcpy(data, bytes_front(in), n);
    bytes_drop(in, n);
    return (int)n;
}

static int step_send(void *arg, const unsigned char *data, size_t n)
{
    struct step *step = arg;

    if (!bytes_add(&step->stream->out, data, n, SIZE_MAX))
        return MBEDTLS_ERR_SSL_ALLOC_FAILED;
    return (int)n;
}

static int step_facts(struct stream *stream)
{
    const mbedtls_x509_crt *crt = mbedtls_ssl_get_peer_cert(&stream->ssl);

    if (!crt)
        return 0;
    errno = 0;
    stream->facts = cert_facts_new(crt);
    return stream->facts ? 0 : errno == E2BIG ? MBEDTLS_ERR_X509_INVALID_NAME : MBEDTLS_ERR_SSL_ALLOC_FAILED;
}

static unsigned char refusal(uint32_t flags)
{
    return flags & MBEDTLS_X509_BADCERT_MISSING       ? ALERT_CERTIFICATE_REQUIRED
           : flags & MBEDTLS_X509_BADCERT_REVOKED     ? MBEDTLS_SSL_ALERT_MSG_CERT_REVOKED
           : flags & MBEDTLS_X509_BADCERT_EXPIRED     ? MBEDTLS_SSL_ALERT_MSG_CERT_EXPIRED
           : flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED ? MBEDTLS_SSL_ALERT_MSG_UNKNOWN_CA
                                                      : MBEDTLS_SSL_ALERT_MSG_BAD_CERT;
}

/* In TLS 1.3 mbedTLS sends its refusal of a client certificate under the keys of the handshake, when the
 * client already reads with those of the application: it would only see a damaged record. So there the
 * certificate is optional for mbedTLS (context.c) and required here, after the handshake and before a single
 * byte is read; the alert then says why. */
static int step_verify(struct stream *stream)
{
    uint32_t flags = mbedtls_ssl_get_verify_result(&stream->ssl);

    if (!stream->context->required || (flags == 0 && mbedtls_ssl_get_peer_cert(&stream->ssl)))
        return 0;
    mbedtls_ssl_send_alert_message(&stream->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL, refusal(flags));
    return MBEDTLS_ERR_X509_CERT_VERIFY_FAILED;
}

void tls_handshake_run(struct step *step)
{
    struct stream *stream = step->stream;
    int ret = 0;

    if (!step->setup) {
        step->setup = true;
        ret = mbedtls_ssl_setup(&stream->ssl, step->conf);
        mbedtls_ssl_set_user_data_p(&stream->ssl, step);
        mbedtls_ssl_set_bio(&stream->ssl, step, step_send, step_recv, NULL);
    }
    step->starved = false;
    /* mbedTLS also says WANT_READ when it has thrown a message away: it wants to be called again */
    while (!ret) {
        ret = mbedtls_ssl_handshake(&stream->ssl);
        if (ret == 0 || ret != MBEDTLS_ERR_SSL_WANT_READ || step->starved)
            break;
        ret = 0;
    }
    if (ret == 0)
        ret = step_verify(stream);
    if (ret == 0)
        ret = step_facts(stream);
    step->result = ret;
    if (ret == 0)
        tls_mem_handshake_done(&stream->ssl);
    else if (ret != MBEDTLS_ERR_SSL_WANT_READ)
        step->why = tls_why(&stream->ssl, ret, true);
}

/* ---- on the loop ---- */

void tls_handshake_cancel(struct stream *stream)
{
    timer_stop(stream->tls->loop, &stream->timer);
    if (stream->in_flight)
        stream->tls->in_flight--;
    stream->in_flight = false;
    if (stream->step)
        atomic_store(&stream->step->cancelled, true);
}

/* The last thing that its callers do: the owner may close. */
void tls_handshake_fail(struct stream *stream, int error, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (!stream->why && vasprintf(&stream->why, fmt, ap) < 0)
        stream->why = NULL;
    va_end(ap);
    tls_handshake_cancel(stream);
    stream->below->ops->want_read(stream->below, false);
    stream->state = STREAM_FAILED;
    stream->error = error;
    stream->t.events->ready(stream->t.owner, error);
}

static void on_deadline(void *arg)
{
    struct stream *stream = arg;

    tls_handshake_fail(stream, -ETIMEDOUT, "the TLS handshake was not done within %d ms%s",
                       stream->tls->timeout_ms, stream->fed ? "" : " (the client sent nothing)");
}

static void handshake_done(struct stream *stream)
{
    tls_handshake_cancel(stream);
    tls_stream_set_bio(stream);
    free(stream->step);
    stream->step = NULL;
    stream->state = STREAM_OPEN;
    stream->t.ops->want_read(&stream->t, stream->want_read);
    stream->t.ops->want_write(&stream->t, stream->want_write);
    stream->t.events->ready(stream->t.owner, 0);
}

/* A worker has done what it could with the bytes there were. */
static void on_step(struct mail *mail)
{
    struct step *step = (struct step *)mail;
    struct stream *stream = step->stream;
    int error;

    stream->stepping = false;
    if (stream->orphaned) {
        tls_stream_free(stream);
        return;
    }
    if (stream->state != STREAM_STEP)
        return; /* the deadline has passed; close() is yet to come */
    stream->state = STREAM_WAIT;
    error = tls_stream_flush(stream); /* also on failure: the alert tells the client why */
    if (step->result == 0 && !error) {
        handshake_done(stream);
    } else if (step->result && step->result != MBEDTLS_ERR_SSL_WANT_READ) {
        tls_handshake_fail(stream, -EPROTO, "%s", step->why ? step->why : "the TLS handshake failed");
    } else if (error) {
        tls_handshake_fail(stream, error, "the connection broke during the TLS handshake: %s",
                           strerror(-error));
    } else if (stream->fed > TLS_HANDSHAKE_MAX) {
        tls_handshake_fail(stream, -EMSGSIZE,
                           "the client sent %zu bytes, and the TLS handshake is still not done", stream->fed);
    } else {
        stream->below->ops->want_read(stream->below, true);
    }
}

static void handshake_step(struct stream *stream)
{
    stream->below->ops->want_read(stream->below, false);
    stream->state = STREAM_STEP;
    stream->stepping = true;
    stream->step->result = MBEDTLS_ERR_SSL_INTERNAL_ERROR; /* for a step that is never run */
    tls_submit(stream->tls, stream->step);
}

/* The first bytes. Returns whether there is a ClientHello for mbedTLS. */
static bool handshake_hello(struct stream *stream)
{
    static const char answer[] =
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
        "Content-Length: 47\r\n\r\nThis port speaks TLS: use https:// or wss://.\r\n";
    struct hello hello = tls_hello_look(bytes_front(&stream->in), stream->in.len);

    if (hello.kind == HELLO_TLS) {
        stream->step->conf = tls_context_conf(stream->context, hello);
        return true;
    }
    if (hello.kind == HELLO_MORE)
        return false;
    if (hello.kind == HELLO_HTTP) {
        struct iovec iov = {.iov_base = (void *)(uintptr_t)answer, .iov_len = sizeof answer - 1};

        (void)stream->below->ops->writev(stream->below, &iov, 1);
    }
    tls_handshake_fail(stream, -EPROTO, "%s", tls_hello_says(hello.kind));
    return false;
}

void tls_handshake_readable(struct stream *stream)
{
    uint8_t buf[READ_STEP]; /* of those who say little, little is kept */
    ssize_t n = stream->below->ops->read(stream->below, buf, sizeof buf);

    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        tls_handshake_fail(
            stream, n ? (int)n : -ECONNRESET, "the client closed the connection %s%s%s",
            stream->fed ? "during the TLS handshake (perhaps it does not accept this listener's certificate)"
                        : "without a word",
            n ? ": " : "", n ? strerror((int)-n) : "");
        return;
    }
    if (!bytes_add(&stream->in, buf, (size_t)n, SIZE_MAX)) {
        tls_handshake_fail(stream, -ENOMEM, "no memory for TLS");
        return;
    }
    stream->fed += (size_t)n;
    if (stream->state == STREAM_WAIT || handshake_hello(stream))
        handshake_step(stream);
}

void tls_handshake_below_ready(struct stream *stream, int error)
{
    const char *why;

    if (error) {
        why = stream->below->ops->why(stream->below);
        tls_handshake_fail(stream, error, "%s", why ? why : strerror(-error));
        return;
    }
    stream->state = STREAM_HELLO;
    stream->below->ops->want_read(stream->below, true);
}

void tls_handshake_start(struct stream *stream)
{
    struct tls *tls = stream->tls;

    timer_setup(&stream->timer, on_deadline, stream);
    if (tls->in_flight >= tls->queue_max) {
        tls_handshake_fail(stream, -EBUSY, "%d TLS handshakes are under way already", tls->in_flight);
        return;
    }
    stream->step = calloc(1, sizeof *stream->step);
    if (!stream->step) {
        tls_handshake_fail(stream, -ENOMEM, "no memory for TLS");
        return;
    }
    stream->step->stream = stream;
    stream->step->mail.fn = on_step;
    tls->in_flight++;
    stream->in_flight = true;
    timer_start(tls->loop, &stream->timer, tls->timeout_ms);
    stream->below->ops->start(stream->below);
}
