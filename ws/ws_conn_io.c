/*
 * ws_conn_io.c - the bytes of a connection between libwebsockets and the transport below.
 *
 *     libwebsockets  --ws_conn_send-->  [out] [tail]  --ws_conn_flush-->  below
 *     libwebsockets  <--ws_conn_recv--  [in]  <--ws_conn_gather--  below, while it asks for pages
 *     libwebsockets  <--ws_conn_recv--  below, at most as much as rx has room for, once it is upgraded
 *
 * Out: a frame is never given back in part, so what below does not take is queued (out), and nothing is added
 * before the queue is empty. A large file is not copied; what is left of it is behind the queue (tail).
 *
 * In: libwebsockets gets whole headers of requests that request.c found good, one at a time and no byte of
 * what comes behind; then frames as far as frames.c finds them good. Flow control is done here, too: it is
 * given no more bytes than rx has room for, and without room below is not asked to read, so nothing piles up
 * inside of libwebsockets.
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
    if (!conn->below || conn->fault.code)
        return false;
    if (!conn->wsi)
        return conn->state == WS_CONN_REQUEST && !conn->ended; /* libwebsockets has yet to hear of it */
    return (conn->lws_wants & LOOP_READ) && ws_conn_room(conn) > 0;
}

bool ws_conn_has_input(const struct ws_conn *conn)
{
    return conn->in.len > (conn->state == WS_CONN_OPEN || conn->header ? 0 : conn->seen);
}

/* What below has, in buf; notes its end and its errors. */
static ssize_t ws_conn_read_below(struct ws_conn *conn, void *buf, size_t n)
{
    ssize_t got = conn->below->ops->read(conn->below, buf, n);

    conn->read_full = got == (ssize_t)n;
    if (got == 0)
        ws_conn_end(conn, 0);
    else if (got < 0 && got != -EAGAIN)
        ws_conn_broken(conn, (int)got);
    return got;
}

/* More of a request. False: there was none, and an end is dealt with. */
static bool ws_conn_read_request(struct ws_conn *conn, size_t max)
{
    unsigned char buf[4096];
    ssize_t got = ws_conn_read_below(conn, buf, max < sizeof buf ? max : sizeof buf);

    if (got > 0 && !bytes_add(&conn->in, buf, (size_t)got, SIZE_MAX)) {
        ws_conn_why(conn, "out of memory");
        ws_conn_end(conn, -ENOMEM);
    }
    conn->kill |= conn->ended; /* libwebsockets need not know why */
    return got > 0 && !conn->ended;
}

void ws_conn_gather(struct ws_conn *conn)
{
    size_t max = ws_site_headers_max(conn->site);
    struct ws_fault wrong;
    const char *front;

    if (!ws_conn_has_input(conn) && !ws_conn_read_request(conn, max - conn->in.len))
        return;
    front = (const char *)bytes_front(&conn->in);
    wrong = ws_request_begins((unsigned char)*front);
    if (!wrong.code && (conn->header = ws_request_size(front, conn->in.len, conn->seen)))
        wrong = ws_request_check(front, conn->header);
    conn->seen = conn->in.len;
    if (wrong.code) {
        ws_conn_why(conn, "%s", wrong.text);
        ws_http_refuse(conn, wrong.code);
    } else if (!conn->header && conn->in.len >= max) {
        ws_conn_why(conn, "the header of the HTTP request is larger than %zu bytes (websockets_headers_size)",
                    max);
        ws_http_refuse(conn, 431);
    }
}

/* The next bytes that were taken in before; at most n. */
static size_t ws_conn_take(struct ws_conn *conn, void *buf, size_t n)
{
    n = n < conn->in.len ? n : conn->in.len;
    memcpy(buf, bytes_front(&conn->in), n);
    bytes_drop(&conn->in, n);
    conn->seen = 0;
    conn->read_full = true;
    return n;
}

static ssize_t ws_conn_recv_header(struct ws_conn *conn, void *buf, size_t n)
{
    if (conn->header == 0)
        return -EAGAIN;
    n = ws_conn_take(conn, buf, n < conn->header ? n : conn->header);
    conn->header -= n;
    conn->asked = true;
    return (ssize_t)n;
}

static ssize_t ws_conn_recv_frames(struct ws_conn *conn, void *buf, size_t n)
{
    size_t room = ws_conn_room(conn), good;
    ssize_t got;

    if (room == 0 || conn->fault.code)
        return -EAGAIN;
    n = n < room ? n : room;
    got = conn->in.len ? (ssize_t)ws_conn_take(conn, buf, n) : ws_conn_read_below(conn, buf, n);
    if (got <= 0)
        return got;
    conn->fault = ws_frames_follow(&conn->frames, buf, (size_t)got, &good);
    return good ? (ssize_t)good : -EAGAIN; /* what was good still counts; then ws_conn_service() ends it */
}

ssize_t ws_conn_recv(struct ws_conn *conn, void *buf, size_t n)
{
    if (conn->broken)
        return -ECONNRESET;
    return conn->state == WS_CONN_OPEN ? ws_conn_recv_frames(conn, buf, n)
                                       : ws_conn_recv_header(conn, buf, n);
}
