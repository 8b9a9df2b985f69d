/*
 * transport_tls.c - a TLS stream once it is open, as a transport; and its end.
 *
 *     owner   writev ----> gather ----> mbedTLS ----> stream_bio.c
 *                          (records     (encrypts)
 *                           below 4 KB)
 *     owner   read <------ mbedTLS <------ stream_bio.c
 *                          (decrypts)
 *
 * Bytes that need no socket (decrypted already, or in `in`) do not wake epoll: stream_again() sees to another
 * readable(). All calls of the owner are the last thing a function does, because the owner may close.
 */
#include "broker/principal.h"
#include "tls/internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    EMPTY_READS = 64
}; /* records without data (alerts, refused renegotiations) that one read() puts up with */

static struct stream *stream_of(struct transport *t)
{
    return (struct stream *)t;
}

/* ---- reading ---- */

static bool stream_pending(struct transport *t)
{
    struct stream *stream = stream_of(t);

    if (stream->state != STREAM_OPEN)
        return false;
    return stream->ended || stream->error || stream->in.len || mbedtls_ssl_get_bytes_avail(&stream->ssl);
}

/* Keeps the promise of another readable() for bytes, or an end, that no socket will announce. */
static void stream_again(struct stream *stream)
{
    if (stream->want_read && stream_pending(&stream->t))
        defer_call(stream->tls->loop, &stream->again);
    else
        defer_cancel(stream->tls->loop, &stream->again);
}

static void on_again(void *arg)
{
    struct stream *stream = arg;

    if (!stream->want_read)
        return;
    stream_again(stream); /* unless the owner reads it all */
    stream->t.events->readable(stream->t.owner);
}

/* mbedTLS will give no more: what read() says from now on. */
static void stream_end(struct stream *stream, int ret)
{
    stream->ended = true;
    if (ret == 0 || ret == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY || stream->error)
        return; /* the end, or an error of below that is noted already */
    free(stream->why);
    stream->why = tls_why(&stream->ssl, ret, false);
    tls_stream_break(stream, -EPROTO);
}

/* Gives pages of the input buffer back that a large record has touched. */
static void stream_trim(struct stream *stream, size_t record)
{
    if (record > TLS_RECORD)
        stream->big = true;
    if (stream->big && stream->starved) {
        tls_mem_trim(&stream->ssl);
        stream->big = false;
    }
}

static ssize_t stream_read(struct transport *t, void *buf, size_t n)
{
    struct stream *stream = stream_of(t);
    size_t done = 0, record = 0;
    int ret = 1, empty = 0;

    if (stream->state != STREAM_OPEN)
        return stream->error ? stream->error : -ENOTCONN;
    stream->starved = false;
    while (done < n && !stream->ended && !stream->error) {
        ret = mbedtls_ssl_read(&stream->ssl, (unsigned char *)buf + done, n - done);
        if (ret > 0) {
            done += (size_t)ret;
            if ((size_t)ret + mbedtls_ssl_get_bytes_avail(&stream->ssl) > record)
                record = (size_t)ret + mbedtls_ssl_get_bytes_avail(&stream->ssl);
        } else if (ret != MBEDTLS_ERR_SSL_WANT_READ) {
            stream_end(stream, ret);
        } else if (stream->starved || ++empty >= EMPTY_READS) {
            break;
        }
    }
    tls_stream_scratch_keep(stream);
    tls_stream_wire_flush(stream);
    stream_trim(stream, record);
    stream_again(stream);
    if (done)
        return (ssize_t)done;
    return stream->error ? stream->error : stream->ended ? 0 : -EAGAIN;
}

static void stream_want_read(struct transport *t, bool on)
{
    struct stream *stream = stream_of(t);

    stream->want_read = on;
    if (stream->state != STREAM_OPEN)
        return;
    stream->below->ops->want_read(stream->below, on);
    stream_again(stream);
}

/* ---- writing ---- */

/* Where writev() is in its input. */
struct place {
    const struct iovec *iov;
    int count;
    size_t off; /* in the first */
};

static void place_skip(struct place *at, size_t n)
{
    while (at->count && n >= at->iov->iov_len - at->off) {
        n -= at->iov->iov_len - at->off;
        at->iov++;
        at->count--;
        at->off = 0;
    }
    at->off += n;
}

/* The next record's payload: in place when the next piece fills it or is the last, else gathered from
 * several. */
static const uint8_t *place_record(struct place at, uint8_t *gather, size_t max, size_t *len)
{
    size_t first = at.iov->iov_len - at.off;

    if (first >= max || at.count == 1) {
        *len = first < max ? first : max;
        return (const uint8_t *)at.iov->iov_base + at.off;
    }
    *len = 0;
    while (at.count && *len < max) {
        size_t n = at.iov->iov_len - at.off;

        n = n < max - *len ? n : max - *len;
        if (n)
            memcpy(gather + *len, (const uint8_t *)at.iov->iov_base + at.off, n);
        *len += n;
        place_skip(&at, n);
    }
    return gather;
}

static size_t record_max(const struct stream *stream)
{
    int max =
        mbedtls_ssl_get_max_out_record_payload(&stream->ssl); /* the client may want them smaller still */

    return max > 0 && max < TLS_RECORD ? (size_t)max : TLS_RECORD;
}

static ssize_t stream_writev(struct transport *t, const struct iovec *iov, int iovcnt)
{
    struct stream *stream = stream_of(t);
    struct place at = {.iov = iov, .count = iovcnt};
    size_t max, done = 0;

    if (stream->state != STREAM_OPEN || stream->error)
        return stream->error ? stream->error : -ENOTCONN;
    if (stream->out.len > TLS_QUEUE_MAX)
        return -EAGAIN;
    max = record_max(stream);
    place_skip(&at, 0); /* empty pieces at the beginning */
    while (at.count && stream->out.len <= TLS_QUEUE_MAX && !stream->error) {
        size_t len;
        const uint8_t *data = place_record(at, stream->tls->gather, max, &len);
        int ret = mbedtls_ssl_write(&stream->ssl, data, len);

        if (ret <= 0) {
            tls_stream_break(stream, -EPROTO);
            break;
        }
        done += (size_t)ret;
        place_skip(&at, (size_t)ret);
    }
    tls_stream_wire_flush(stream);
    if (stream->error)
        return stream->error;
    return (ssize_t)done;
}

static void stream_want_write(struct transport *t, bool on)
{
    struct stream *stream = stream_of(t);

    stream->want_write = on;
    if (stream->state == STREAM_OPEN && on)
        stream->below->ops->want_write(stream->below, true);
}

/* ---- events of below ---- */

static void on_below_ready(void *owner, int error)
{
    tls_handshake_below_ready(owner, error);
}

static void on_below_readable(void *owner)
{
    struct stream *stream = owner;

    if (stream->state == STREAM_HELLO || stream->state == STREAM_WAIT) {
        tls_handshake_readable(stream);
    } else if (stream->state == STREAM_OPEN && stream->want_read) {
        stream_again(stream); /* should the owner not read */
        stream->t.events->readable(stream->t.owner);
    } else {
        stream->below->ops->want_read(stream->below, false);
    }
}

static void on_below_writable(void *owner)
{
    struct stream *stream = owner;
    int error = 0;

    if (!stream->stepping) /* else a worker may be adding to it */
        error = tls_stream_flush(stream);
    if (stream->state == STREAM_LINGER) {
        if (error || stream->out.len == 0)
            tls_stream_free(stream);
        return;
    }
    if (error)
        tls_stream_break(stream, error);
    if (stream->state != STREAM_OPEN || stream->out.len || !stream->want_write)
        return;
    stream->want_write = false;
    stream->t.events->writable(stream->t.owner);
}

static const struct transport_events below_events = {on_below_ready, on_below_readable, on_below_writable};

/* ---- what is known of the peer ---- */

static void replace(char **text, const char *by)
{
    free(*text);
    *text = by ? strdup(by) : NULL; /* without memory: no identity, and whoever needs one refuses */
}

static void stream_peer(struct transport *t, struct principal *who)
{
    struct stream *stream = stream_of(t);

    stream->below->ops->peer(stream->below, who);
    if (stream->state != STREAM_OPEN)
        return;
    who->tls_version =
        mbedtls_ssl_get_version_number(&stream->ssl) == MBEDTLS_SSL_VERSION_TLS1_3 ? "TLSv1.3" : "TLSv1.2";
    if (!stream->facts)
        return;
    replace(&who->cert_cn, stream->facts->cn);
    replace(&who->cert_subject, stream->facts->subject);
    memcpy(who->cert_sha256, stream->facts->sha256, sizeof who->cert_sha256);
}

static const char *stream_why(struct transport *t)
{
    struct stream *stream = stream_of(t);

    if (stream->why || !stream->below)
        return stream->why;
    return stream->below->ops->why(stream->below);
}

/* ---- the end ---- */

static void linger_unlink(struct stream *stream)
{
    if (!stream->prev)
        return;
    *stream->prev = stream->next;
    if (stream->next)
        stream->next->prev = stream->prev;
    stream->prev = NULL;
}

static void on_linger_end(void *arg)
{
    tls_stream_free(arg);
}

/* The owner is gone; what it wrote, and our good-bye, still go out if the client takes them soon. */
static void stream_linger(struct stream *stream)
{
    struct tls *tls = stream->tls;

    stream->state = STREAM_LINGER;
    stream->next = tls->lingering;
    if (stream->next)
        stream->next->prev = &stream->next;
    stream->prev = &tls->lingering;
    tls->lingering = stream;
    timer_setup(&stream->timer, on_linger_end, stream);
    timer_start(tls->loop, &stream->timer, TLS_LINGER_MS);
    stream->below->ops->want_read(stream->below, false);
    stream->below->ops->want_write(stream->below, true);
}

static void close_below(struct stream *stream)
{
    if (stream->below)
        stream->below->ops->close(stream->below);
    stream->below = NULL;
}

/* Everything that lingering does not need. */
static void stream_strip(struct stream *stream)
{
    mbedtls_ssl_free(&stream->ssl);
    bytes_clear(&stream->in);
    cert_facts_free(stream->facts);
    stream->facts = NULL;
    tls_context_unref(stream->context);
    stream->context = NULL;
    if (stream->step)
        free(stream->step->why);
    free(stream->step);
    stream->step = NULL;
}

void tls_stream_free(struct stream *stream)
{
    if (stream->state == STREAM_LINGER)
        timer_stop(stream->tls->loop, &stream->timer);
    linger_unlink(stream);
    close_below(stream);
    stream_strip(stream);
    bytes_clear(&stream->out);
    free(stream->why);
    tls_unref(stream->tls);
    free(stream);
}

static void stream_close(struct transport *t)
{
    struct stream *stream = stream_of(t);

    defer_cancel(stream->tls->loop, &stream->again);
    if (stream->step)
        tls_handshake_cancel(stream);
    if (stream->state == STREAM_OPEN && !stream->error) {
        (void)mbedtls_ssl_close_notify(&stream->ssl);
        tls_stream_wire_flush(stream);
    }
    if (stream->stepping) {
        close_below(stream);
        stream->orphaned = true;
        return;
    }
    if (stream->out.len && !stream->error && stream->state == STREAM_OPEN) {
        stream_strip(stream);
        stream_linger(stream);
        return;
    }
    tls_stream_free(stream);
}

static void stream_start(struct transport *t)
{
    tls_handshake_start(stream_of(t));
}

static int stream_fd(struct transport *t)
{
    struct stream *stream = stream_of(t);

    return stream->below ? stream->below->ops->fd(stream->below) : -1;
}

static const struct transport_ops stream_ops = {
    .name = "tls",
    .start = stream_start,
    .read = stream_read,
    .writev = stream_writev,
    .want_read = stream_want_read,
    .want_write = stream_want_write,
    .pending = stream_pending,
    .peer = stream_peer,
    .why = stream_why,
    .close = stream_close,
    .fd = stream_fd,
};

struct transport *tls_accept(struct tls *tls, struct tls_context *context, struct transport *below)
{
    struct stream *stream = calloc(1, sizeof *stream);

    if (!stream) {
        below->ops->close(below);
        return NULL;
    }
    stream->t.ops = &stream_ops;
    stream->tls = tls;
    stream->context = tls_context_ref(context);
    stream->below = below;
    below->events = &below_events;
    below->owner = stream;
    mbedtls_ssl_init(&stream->ssl);
    defer_setup(&stream->again, on_again, stream);
    tls_ref(tls);
    if (context->tls != tls)
        context->tls = tls;
    return &stream->t;
}
