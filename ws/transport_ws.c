/*
 * transport_ws.c - the transport port on top of ws_conn.c: MQTT's byte stream in binary frames.
 *
 * Packets and frames need not begin or end together [MQTT-6.0.0-2]: what writev() takes becomes one frame,
 * what comes in frames is read as a stream.
 *
 * writev() writes at once, from the owner's flush, when nothing is queued: header and payload are put
 * together in one buffer of struct ws (libwebsockets writes the frame's header in front of the payload) and
 * go to the transport below.
 */
#include "ws/ws.h"
#include "ws/ws_conn.h"
#include <errno.h>

static struct ws_conn *ws_conn_of(struct transport *t)
{
    return (struct ws_conn *)t;
}

static void ws_start(struct transport *t)
{
    struct ws_conn *conn = ws_conn_of(t);

    if (!conn->ws)
        return;
    ws_conn_hold(conn);
    conn->state = WS_CONN_BELOW;
    timer_start(conn->ws->loop, &conn->timer, conn->ws->handshake_ms);
    conn->below->ops->start(conn->below);
    ws_conn_release(conn);
}

static ssize_t ws_read(struct transport *t, void *buf, size_t n)
{
    struct ws_conn *conn = ws_conn_of(t);

    if (conn->rx.len == 0)
        return conn->ended ? conn->error : -EAGAIN;
    if (n > conn->rx.len)
        n = conn->rx.len;
    memcpy(buf, bytes_front(&conn->rx), n);
    bytes_drop(&conn->rx, n);
    if (conn->rx.len == 0 && conn->busy == 0)
        ws_conn_deliver_later(conn); /* there is room again: below may be read */
    return (ssize_t)n;
}

/* One frame, at most WS_FRAME_MAX; false when libwebsockets would have none of it. */
static bool ws_frame(struct ws_conn *conn, const unsigned char *data, size_t n)
{
    unsigned char *payload = conn->ws->frame + LWS_PRE;

    memcpy(payload, data, n);
    return lws_write(conn->wsi, payload, n, LWS_WRITE_BINARY) >= 0;
}

/* A frame for each element, about WS_FRAME_MAX bytes in all. Meanwhile the connection is corked: the frames
 * leave together. */
static ssize_t ws_frames(struct ws_conn *conn, const struct iovec *iov, int iovcnt)
{
    size_t taken = 0;

    for (int i = 0; i < iovcnt; i++) {
        const unsigned char *data = iov[i].iov_base;

        for (size_t at = 0, n; at < iov[i].iov_len; at += n, taken += n) {
            if (taken == WS_FRAME_MAX)
                return (ssize_t)taken;
            n = iov[i].iov_len - at;
            n = n < WS_FRAME_MAX - taken ? n : WS_FRAME_MAX - taken;
            if (!ws_frame(conn, data + at, n))
                return -EPIPE;
        }
    }
    return (ssize_t)taken;
}

static ssize_t ws_writev(struct transport *t, const struct iovec *iov, int iovcnt)
{
    struct ws_conn *conn = ws_conn_of(t);
    ssize_t taken;

    if (conn->ended)
        return conn->error < 0 ? conn->error : -EPIPE;
    if (conn->state != WS_CONN_OPEN || !ws_conn_can_send(conn))
        return -EAGAIN;
    ws_conn_hold(conn);
    conn->corked = true;
    taken = ws_frames(conn, iov, iovcnt);
    conn->corked = false;
    if (taken < 0 || ws_conn_flush(conn) < 0) {
        ws_conn_end(conn, -EPIPE);
        conn->kill = true;
        ws_conn_deliver_later(conn);
    }
    ws_conn_interest(conn);
    ws_conn_release(conn);
    return conn->ended ? conn->error : taken;
}

static void ws_want_read(struct transport *t, bool on)
{
    struct ws_conn *conn = ws_conn_of(t);

    if (conn->want_read == on)
        return;
    conn->want_read = on;
    if (on && (conn->rx.len > 0 || conn->ended))
        ws_conn_deliver_later(conn);
    ws_conn_interest(conn);
}

static void ws_want_write(struct transport *t, bool on)
{
    struct ws_conn *conn = ws_conn_of(t);

    conn->want_write = on;
    if (on && conn->ended)
        ws_conn_deliver_later(conn);
    ws_conn_interest(conn);
}

static bool ws_pending(struct transport *t)
{
    const struct ws_conn *conn = ws_conn_of(t);

    return conn->rx.len > 0 || (conn->below && conn->below->ops->pending(conn->below));
}

static void ws_peer(struct transport *t, struct principal *who)
{
    const struct ws_conn *conn = ws_conn_of(t);

    if (conn->below)
        conn->below->ops->peer(conn->below, who);
}

static const char *ws_why(struct transport *t)
{
    const struct ws_conn *conn = ws_conn_of(t);

    return conn->why[0] ? conn->why : NULL;
}

static void ws_close(struct transport *t)
{
    ws_conn_close(ws_conn_of(t));
}

static int ws_fd(struct transport *t)
{
    const struct ws_conn *conn = ws_conn_of(t);

    return conn->below ? conn->below->ops->fd(conn->below) : -1;
}

static const struct transport_ops ws_ops = {
    .name = "ws",
    .framed = true,
    .start = ws_start,
    .read = ws_read,
    .writev = ws_writev,
    .want_read = ws_want_read,
    .want_write = ws_want_write,
    .pending = ws_pending,
    .peer = ws_peer,
    .why = ws_why,
    .close = ws_close,
    .fd = ws_fd,
};

struct transport *ws_accept(struct ws *ws, struct ws_site *site, struct transport *below)
{
    struct ws_conn *conn = ws_conn_new(ws, site, below);

    if (!conn) {
        below->ops->close(below);
        return NULL;
    }
    conn->t.ops = &ws_ops;
    return &conn->t;
}
