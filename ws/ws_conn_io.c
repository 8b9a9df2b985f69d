/*
 * ws_conn_io.c - the bytes of a connection between libwebsockets and the transport below.
 *
 *     libwebsockets  --ws_conn_send-->  [out] [tail]  --ws_conn_flush-->  below
 *     libwebsockets  <--ws_conn_recv--  below, at most as much as rx has room for
 *
 * Out: a frame is never given back in part, so what below does not take is queued (out), and nothing is added
 * before the queue is empty. A large file is not copied; what is left of it is behind the queue (tail).
 *
 * In: flow control is done here. libwebsockets is given no more bytes than rx has room for, and without room
 * below is not asked to read, so nothing piles up inside of libwebsockets. The size of a request's header is
 * limited here, too.
 */
#include "ws/ws_conn.h"
#include <errno.h>

void ws_conn_drop_output(struct ws_conn *conn)
{
    bytes_clear(&conn->out);
    conn->tail_len = 0;
}

/* --- sending --- */

bool ws_conn_can_send(const struct ws_conn *conn)
{
    return conn->corked || (conn->out.len == 0 && conn->tail_len == 0);
}

/* The lower transport is broken. libwebsockets is told by the next call of ws_conn_recv() or ws_conn_send(),
 * or killed. */
static void ws_conn_broken(struct ws_conn *conn, int error)
{
    const char *why = conn->below->ops->why(conn->below);

    ws_conn_why(conn, "%s", why ? why : strerror(-error));
    ws_conn_end(conn, error);
    conn->broken = true;
    ws_conn_drop_output(conn);
}

/* What it takes of data, or an error. */
static ssize_t ws_conn_push(struct ws_conn *conn, const unsigned char *data, size_t n)
{
    size_t done = 0;

    while (done < n) {
        struct iovec iov = {.iov_base = (void *)(uintptr_t)(data + done), .iov_len = n - done};
        ssize_t sent = conn->below->ops->writev(conn->below, &iov, 1);
        if (sent == -EAGAIN)
            break;
        if (sent < 0) {
            ws_conn_broken(conn, (int)sent);
            return sent;
        }
        done += (size_t)sent;
    }
    return (ssize_t)done;
}

/* Sends what is queued. 1 when something went, 0 when nothing did, -1 when it is broken. */
int ws_conn_flush(struct ws_conn *conn)
{
    ssize_t n = 0, m = 0;

    if (conn->out.len > 0) {
        n = ws_conn_push(conn, bytes_front(&conn->out), conn->out.len);
        if (n < 0)
            return -1;
        bytes_drop(&conn->out, (size_t)n);
    }
    if (conn->out.len == 0 && conn->tail_len > 0) {
        m = ws_conn_push(conn, conn->tail, conn->tail_len);
        if (m < 0)
            return -1;
        conn->tail += m;
        conn->tail_len -= (size_t)m;
    }
    return n + m > 0;
}

ssize_t ws_conn_send(struct ws_conn *conn, const void *buf, size_t n)
{
    ssize_t sent = 0;

    if (conn->broken)
        return -EPIPE;
    if (!conn->corked && ws_conn_can_send(conn))
        sent = ws_conn_push(conn, buf, n);
    if (sent < 0)
        return sent;
    /* one batch of frames and some control frames: more cannot be, as nothing is sent before the queue is
     * empty */
    if (!bytes_add(&conn->out, (const unsigned char *)buf + sent, n - (size_t)sent, WS_OUT_MAX))
        return -ENOBUFS;
    return (ssize_t)n;
}

void ws_conn_send_tail(struct ws_conn *conn, const unsigned char *data, size_t n)
{
    conn->tail = data;
    conn->tail_len = n;
}

/* --- receiving --- */

/* How many bytes libwebsockets may read now. */
static size_t ws_conn_room(const struct ws_conn *conn)
{
    size_t max = conn->want_read || !conn->told ? WS_RX_MAX : WS_RX_PAUSED;

    if (conn->state != WS_CONN_OPEN) {
        /* not before the answer to the request before is on its way */
        return ws_conn_can_send(conn) && !(conn->lws_wants & LOOP_WRITE) ? SIZE_MAX : 0;
    }
    if (conn->ended)
        return SIZE_MAX; /* all that comes now is thrown away, but the closing handshake */
    return conn->rx.len < max ? max - conn->rx.len : 0;
}

bool ws_conn_may_read(const struct ws_conn *conn)
{
    return conn->wsi && conn->below && (conn->lws_wants & LOOP_READ) && ws_conn_room(conn) > 0;
}

ssize_t ws_conn_recv(struct ws_conn *conn, void *buf, size_t n)
{
    size_t room = ws_conn_room(conn);
    ssize_t got;

    if (conn->state == WS_CONN_REQUEST || conn->state == WS_CONN_HTTP) {
        size_t left = ws_site_headers_max(conn->site) - conn->head;
        if (left == 0) {
            ws_http_too_large(conn);
            return -EMSGSIZE;
        }
        room = room < left ? room : left;
    }
    if (conn->broken)
        return -ECONNRESET;
    if (room == 0)
        return -EAGAIN;
    if (n > room)
        n = room;
    got = conn->below->ops->read(conn->below, buf, n);
    conn->read_full = got == (ssize_t)n;
    if (got == 0) {
        ws_conn_end(conn, 0);
    } else if (got < 0 && got != -EAGAIN) {
        ws_conn_broken(conn, (int)got);
    } else if (got > 0 && conn->state != WS_CONN_OPEN) {
        conn->head += (size_t)got;
    }
    return got;
}
