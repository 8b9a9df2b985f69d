/*
 * stream_bio.c - between mbedTLS and what lies below: where ciphertext waits, and for how long.
 *
 *     mbedTLS --stream_send--> wire --tls_stream_wire_flush--> below.writev
 *                               |  what below does not take
 *                               +--> out --tls_stream_flush--> below.writev, when it is writable again
 *
 *     mbedTLS <--stream_recv-- scratch <-- below.read
 *                 ^              |  what mbedTLS did not ask for yet
 *                 +---- in <-----+  tls_stream_scratch_keep
 *
 * wire and scratch belong to struct tls and are empty again when a call of the owner returns; a stream itself
 * holds bytes only while it has some (in, out). So several small records cost one read and one write below,
 * not two each.
 *
 * mbedTLS must be called again with the same bytes after WANT_WRITE, which owners cannot promise. So its
 * output is always taken, WANT_WRITE never comes, and writev() says -EAGAIN by itself while `out` is too
 * long.
 */
#include "tls/internal.h"
#include <errno.h>
#include <string.h>

/* ---- ciphertext out ---- */

int tls_stream_flush(struct stream *stream)
{
    while (stream->out.len && stream->below) {
        struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes_front(&stream->out),
                            .iov_len = stream->out.len};
        ssize_t n = stream->below->ops->writev(stream->below, &iov, 1);

        if (n == -EAGAIN) {
            stream->below->ops->want_write(stream->below, true);
            return 0;
        }
        if (n < 0) {
            bytes_clear(&stream->out);
            return (int)n;
        }
        bytes_drop(&stream->out, (size_t)n);
    }
    return 0;
}

void tls_stream_break(struct stream *stream, int error)
{
    if (!stream->error)
        stream->error = error;
}

/* The gathered ciphertext to below, or to `out`. Only while `out` is empty is there anything on the wire. */
void tls_stream_wire_flush(struct stream *stream)
{
    struct tls *tls = stream->tls;
    struct iovec iov = {.iov_base = tls->wire, .iov_len = tls->wire_len};
    ssize_t n = 0;

    if (tls->wire_len == 0)
        return;
    tls->wire_len = 0;
    n = stream->below->ops->writev(stream->below, &iov, 1);
    if (n < 0 && n != -EAGAIN) {
        tls_stream_break(stream, (int)n);
        return;
    }
    n = n < 0 ? 0 : n;
    if ((size_t)n == iov.iov_len)
        return;
    if (!bytes_add(&stream->out, tls->wire + n, iov.iov_len - (size_t)n, SIZE_MAX))
        tls_stream_break(stream, -ENOMEM);
    else
        stream->below->ops->want_write(stream->below, true);
}

static int stream_send(void *arg, const unsigned char *data, size_t n)
{
    struct stream *stream = arg;
    struct tls *tls = stream->tls;

    if (stream->out.len == 0 && tls->wire_len + n > sizeof tls->wire)
        tls_stream_wire_flush(stream);
    if (stream->error)
        return MBEDTLS_ERR_SSL_CONN_EOF;
    if (stream->out.len == 0 && n <= sizeof tls->wire) {
        memcpy(tls->wire + tls->wire_len, data, n);
        tls->wire_len += n;
    } else if (stream->out.len > (size_t)2 * TLS_QUEUE_MAX || !bytes_add(&stream->out, data, n, SIZE_MAX)) {
        /* writev() stops long before: it is the client that provokes answers (alerts) and does not read them
         */
        tls_stream_break(stream, -ENOBUFS);
        return MBEDTLS_ERR_SSL_CONN_EOF;
    }
    return (int)n;
}

/* ---- ciphertext in ---- */

static int from_scratch(struct tls *tls, unsigned char *data, size_t n)
{
    n = n < tls->scratch_len ? n : tls->scratch_len;
    memcpy(data, tls->scratch + tls->scratch_off, n);
    tls->scratch_off += n;
    tls->scratch_len -= n;
    return (int)n;
}

static int stream_recv(void *arg, unsigned char *data, size_t n)
{
    struct stream *stream = arg;
    struct tls *tls = stream->tls;
    bool direct = n >= 2048; /* the rest of a large record goes where mbedTLS wants it */
    ssize_t got;

    if (stream->in.len) {
        n = n < stream->in.len ? n : stream->in.len;
        memcpy(data, bytes_front(&stream->in), n);
        bytes_drop(&stream->in, n);
        return (int)n;
    }
    if (tls->scratch_len)
        return from_scratch(tls, data, n);
    got = stream->below->ops->read(stream->below, direct ? data : tls->scratch,
                                   direct ? n : sizeof tls->scratch);
    if (got == -EAGAIN) {
        stream->starved = true;
        return MBEDTLS_ERR_SSL_WANT_READ;
    }
    if (got < 0)
        tls_stream_break(stream, (int)got);
    if (got <= 0)
        return got ? MBEDTLS_ERR_SSL_CONN_EOF : 0;
    if (direct)
        return (int)got;
    tls->scratch_off = 0;
    tls->scratch_len = (size_t)got;
    return from_scratch(tls, data, n);
}

void tls_stream_set_bio(struct stream *stream)
{
    mbedtls_ssl_set_user_data_p(&stream->ssl, stream);
    mbedtls_ssl_set_bio(&stream->ssl, stream, stream_send, stream_recv, NULL);
}

/* What mbedTLS did not ask for stays with the stream. */
void tls_stream_scratch_keep(struct stream *stream)
{
    struct tls *tls = stream->tls;

    if (tls->scratch_len &&
        !bytes_add(&stream->in, tls->scratch + tls->scratch_off, tls->scratch_len, SIZE_MAX))
        tls_stream_break(stream, -ENOMEM);
    tls->scratch_len = 0;
}
