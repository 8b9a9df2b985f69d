/*
 * ws_conn.c - the life of a connection of a websockets listener.
 *
 *   WS_CONN_NEW --start--> WS_CONN_BELOW --below is ready--> WS_CONN_REQUEST --upgraded--> WS_CONN_OPEN
 *                                                               \--plain request--> WS_CONN_HTTP --^
 *
 *   below.readable -> ws_conn_gather: a request whose header is whole and good   \ -> libwebsockets ->
 *                     (it is adopted by libwebsockets with the first one)        /    ws_conn_recv -> ...
 *     ... request                                     -> ws_conn_callback -> http.c
 *     ... frames, as far as they are good (frames.c)  -> ws_conn_callback RECEIVE -> rx
 *   below.writable -> ws_conn_flush -> libwebsockets, if it waits to write
 *   all of these, timer, deferred call -> ws_conn_deliver -> owner
 *
 * Flow control is done where libwebsockets reads: it is given no more bytes than rx has room for, and without
 * room below is not asked to read. So nothing piles up inside of libwebsockets.
 *
 * It ends in three steps that may come in any order: libwebsockets destroys its struct lws (wsi), the lower
 * transport is closed once `out` is sent or WS_CLOSE_MS are over (below), and the owner closes (orphan).
 * After all three it is freed.
 */
#include "ws/ws_conn.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

/* --- being freed --- */

void ws_conn_leave_http(struct ws_conn *conn)
{
    if (conn->state != WS_CONN_HTTP)
        return;
    TAILQ_REMOVE(&conn->ws->http, conn, http);
    conn->ws->http_count--;
}

static void ws_conn_free(struct ws_conn *conn)
{
    if (conn->ws) {
        timer_stop(conn->ws->loop, &conn->timer);
        defer_cancel(conn->ws->loop, &conn->defer);
        TAILQ_REMOVE(&conn->ws->conns, conn, all);
        ws_conn_leave_http(conn);
        ws_tick_soon(conn->ws); /* without connections it stops its timer */
    }
    bytes_clear(&conn->in);
    bytes_clear(&conn->rx);
    bytes_clear(&conn->out);
    ws_site_unref(conn->site);
    free(conn);
}

void ws_conn_hold(struct ws_conn *conn)
{
    conn->busy++;
}

void ws_conn_release(struct ws_conn *conn)
{
    if (--conn->busy == 0 && conn->orphan && !conn->wsi && !conn->below)
        ws_conn_free(conn);
}

void ws_conn_why(struct ws_conn *conn, const char *fmt, ...)
{
    va_list ap;

    if (conn->why[0])
        return; /* the first reason is the reason */
    va_start(ap, fmt);
    vsnprintf(conn->why, sizeof conn->why, fmt, ap);
    va_end(ap);
}

void ws_conn_end(struct ws_conn *conn, int error)
{
    if (conn->ended)
        return;
    conn->ended = true;
    conn->error = error;
}

void ws_conn_deliver_later(struct ws_conn *conn)
{
    if (conn->ws)
        defer_call(conn->ws->loop, &conn->defer);
}

/* The first call of the two may only begin the closing handshake. */
void ws_conn_kill(struct ws_conn *conn)
{
    conn->kill = false;
    for (int i = 0; conn->wsi && i < 3; i++)
        lws_set_timeout(conn->wsi, PENDING_TIMEOUT_CLOSE_ACK, LWS_TO_KILL_SYNC);
    ws_tick_soon(conn->ws);
}

void ws_conn_close_below(struct ws_conn *conn)
{
    struct transport *below = conn->below;

    if (!below)
        return;
    conn->below = NULL;
    timer_stop(conn->ws->loop, &conn->timer);
    ws_conn_drop_output(conn);
    below->ops->close(below);
}

/* --- the owner --- */

/* Returns false when there is nothing more to tell it. */
static bool ws_conn_tell_ready(struct ws_conn *conn)
{
    int error;

    if (conn->told)
        return conn->state == WS_CONN_OPEN;
    if (conn->state != WS_CONN_OPEN && !conn->ended)
        return false;
    error = conn->state == WS_CONN_OPEN ? 0 : conn->error < 0 ? conn->error : -ECONNRESET;
    conn->told = true;
    conn->t.events->ready(conn->t.owner, error);
    return error == 0;
}

static bool ws_conn_readable(const struct ws_conn *conn)
{
    return !conn->orphan && conn->want_read && (conn->rx.len > 0 || conn->ended);
}

void ws_conn_interest(struct ws_conn *conn)
{
    struct transport *below = conn->below;

    if (!below || conn->state <= WS_CONN_BELOW)
        return;
    below->ops->want_read(below, ws_conn_may_read(conn));
    if (!ws_conn_can_send(conn) || (conn->lws_wants & LOOP_WRITE) ||
        (conn->want_write && conn->state == WS_CONN_OPEN))
        below->ops->want_write(below, true);
    if (ws_conn_has_input(conn) && ws_conn_may_read(conn))
        ws_conn_deliver_later(conn);
}

void ws_conn_deliver(struct ws_conn *conn)
{
    ws_conn_hold(conn);
    if (conn->ws && conn->kill)
        ws_conn_kill(conn);
    if (conn->ws && conn->ended && !conn->wsi && conn->state > WS_CONN_BELOW && ws_conn_can_send(conn))
        ws_conn_close_below(conn);
    if (!conn->orphan && ws_conn_tell_ready(conn)) {
        if (ws_conn_readable(conn))
            conn->t.events->readable(conn->t.owner);
        if (!conn->orphan && conn->want_write && (ws_conn_can_send(conn) || conn->ended)) {
            conn->want_write = false;
            conn->t.events->writable(conn->t.owner);
        }
        if (ws_conn_readable(conn))
            ws_conn_deliver_later(conn);
    }
    ws_conn_interest(conn);
    ws_conn_release(conn);
}

/* --- events from below and timers --- */

/* libwebsockets has not seen it: the close frame goes past it, and what still comes is not read. */
static void ws_conn_bad_frame(struct ws_conn *conn)
{
    int code = conn->fault.code;
    const unsigned char bye[] = {0x88, 2, (unsigned char)(code >> 8), (unsigned char)code};

    if (!conn->ended) {
        ws_conn_why(conn, "%s", conn->fault.text);
        ws_conn_end(conn, -EPROTO);
        ws_conn_send(conn, bye, sizeof bye);
    }
    conn->kill = true;
}

static void ws_conn_service(struct ws_conn *conn, short events)
{
    struct lws_pollfd pfd = {.fd = conn->fd, .events = events, .revents = events};
    bool steady = conn->state == WS_CONN_OPEN && !conn->ended;

    if (!conn->wsi)
        return;
    lws_service_fd(conn->ws->lws, &pfd);
    if (conn->fault.code)
        ws_conn_bad_frame(conn);
    if (!steady || conn->ended)
        ws_tick_soon(conn->ws);
}

/* The first request is whole: from now on libwebsockets knows the connection. Before, a client that says
 * nothing, or nothing that makes sense, costs next to nothing. */
static void ws_conn_adopt(struct ws_conn *conn)
{
    lws_adopt_desc_t desc = {
        .vh = conn->ws->vhost,
        .type = LWS_ADOPT_SOCKET | LWS_ADOPT_HTTP,
        .opaque = conn,
        .fd.sockfd = conn->fd,
    };

    lwsio_set(conn->fd, conn);
    if (!lws_adopt_descriptor_vhost_via_info(&desc)) {
        lwsio_set(conn->fd, NULL); /* whatever it has closed already */
        ws_conn_why(conn, "libwebsockets did not take the connection");
        ws_conn_end(conn, -ENOMEM);
    }
    ws_tick_soon(conn->ws);
}

static void ws_conn_begin(struct ws_conn *conn)
{
    conn->state = WS_CONN_REQUEST;
    conn->fd = conn->below->ops->fd(conn->below);
    if (conn->fd >= 0 && conn->fd < conn->ws->max_fds)
        return;
    ws_conn_why(conn, "too many open descriptors for WebSocket (number %d, at most %d)", conn->fd,
                conn->ws->max_fds);
    ws_conn_end(conn, -EMFILE);
}

static void ws_conn_below_ready(void *owner, int error)
{
    struct ws_conn *conn = owner;
    const char *why;

    ws_conn_hold(conn);
    if (error == 0 && !conn->ended) {
        ws_conn_begin(conn);
    } else if (error != 0) {
        why = conn->below->ops->why(conn->below);
        if (why)
            ws_conn_why(conn, "%s", why);
        ws_conn_end(conn, error);
    }
    ws_conn_deliver(conn);
    ws_conn_release(conn);
}

/* One portion of input. */
static void ws_conn_read(struct ws_conn *conn)
{
    if (conn->state != WS_CONN_OPEN && !conn->header) {
        ws_conn_gather(conn);
        if (!conn->header || conn->ended)
            return;
    }
    if (!conn->wsi)
        ws_conn_adopt(conn);
    ws_conn_service(conn, POLLIN);
}

static void ws_conn_below_readable(void *owner)
{
    struct ws_conn *conn = owner;

    ws_conn_hold(conn);
    for (int i = 0; i < WS_READS && ws_conn_may_read(conn); i++) {
        conn->read_full = false;
        ws_conn_read(conn);
        if (!conn->read_full)
            break;
    }
    ws_conn_deliver(conn);
    ws_conn_release(conn);
}

static void ws_conn_below_writable(void *owner)
{
    struct ws_conn *conn = owner;
    int flushed;

    ws_conn_hold(conn);
    flushed = ws_conn_flush(conn);
    if (flushed < 0) {
        ws_conn_kill(conn);
    } else if (flushed > 0 && (conn->state == WS_CONN_HTTP || !conn->wsi)) {
        timer_start(conn->ws->loop, &conn->timer, conn->wsi ? HTTP_IDLE_MS : WS_CLOSE_MS);
    }
    if ((conn->lws_wants & LOOP_WRITE) && ws_conn_can_send(conn))
        ws_conn_service(conn, POLLOUT);
    ws_conn_deliver(conn);
    ws_conn_release(conn);
}

static void ws_conn_on_defer(void *arg)
{
    struct ws_conn *conn = arg;

    if (ws_conn_has_input(conn) && ws_conn_may_read(conn))
        ws_conn_below_readable(conn);
    else
        ws_conn_deliver(conn);
}

const struct transport_events ws_conn_below_events = {
    .ready = ws_conn_below_ready,
    .readable = ws_conn_below_readable,
    .writable = ws_conn_below_writable,
};

static void ws_conn_on_timer(void *arg)
{
    struct ws_conn *conn = arg;

    ws_conn_hold(conn);
    if (conn->state == WS_CONN_BELOW || conn->state == WS_CONN_REQUEST) {
        ws_conn_why(conn, "no WebSocket request within %d ms", conn->ws->handshake_ms);
        ws_conn_end(conn, -ETIMEDOUT);
    }
    if (conn->orphan || !conn->wsi)
        ws_conn_drop_output(conn); /* it has had its time */
    if (conn->wsi)
        ws_conn_kill(conn);
    else if (conn->state > WS_CONN_BELOW)
        ws_conn_close_below(conn);
    ws_conn_deliver(conn);
    ws_conn_release(conn);
}

void ws_conn_http_touch(struct ws_conn *conn)
{
    struct ws *ws = conn->ws;

    ws_conn_leave_http(conn);
    conn->state = WS_CONN_HTTP;
    TAILQ_INSERT_TAIL(&ws->http, conn, http);
    ws->http_count++;
    conn->asked = false;
    timer_start(ws->loop, &conn->timer, HTTP_IDLE_MS);
}

/* --- beginning and end --- */

struct ws_conn *ws_conn_new(struct ws *ws, struct ws_site *site, struct transport *below)
{
    struct ws_conn *conn = calloc(1, sizeof *conn);

    if (!conn)
        return NULL;
    conn->ws = ws;
    conn->site = ws_site_ref(site);
    conn->below = below;
    conn->fd = -1;
    below->events = &ws_conn_below_events;
    below->owner = conn;
    timer_setup(&conn->timer, ws_conn_on_timer, conn);
    defer_setup(&conn->defer, ws_conn_on_defer, conn);
    TAILQ_INSERT_TAIL(&ws->conns, conn, all);
    return conn;
}

void ws_conn_close(struct ws_conn *conn)
{
    ws_conn_hold(conn);
    conn->orphan = true;
    conn->want_read = conn->want_write = false;
    bytes_clear(&conn->rx);
    bytes_clear(&conn->in);
    conn->header = conn->seen = 0;
    if (conn->ws && conn->wsi) {
        if (conn->state != WS_CONN_OPEN) {
            ws_conn_kill(conn);
        } else {
            if (!conn->ended) {
                ws_conn_end(conn, 0);
                lws_close_reason(conn->wsi, LWS_CLOSE_STATUS_NORMAL, NULL, 0);
                lws_set_timeout(conn->wsi, PENDING_TIMEOUT_CLOSE_SEND, LWS_TO_KILL_SYNC);
            }
            timer_start(conn->ws->loop, &conn->timer, WS_CLOSE_MS);
            ws_tick_soon(conn->ws);
        }
    }
    if (conn->ws && !conn->wsi && ws_conn_can_send(conn))
        ws_conn_close_below(conn);
    ws_conn_interest(conn);
    ws_conn_release(conn);
}

void ws_conn_forsake(struct ws_conn *conn)
{
    struct ws *ws = conn->ws;

    ws_conn_hold(conn);
    ws_conn_kill(conn);
    ws_conn_close_below(conn);
    ws_conn_end(conn, -ESHUTDOWN);
    timer_stop(ws->loop, &conn->timer);
    defer_cancel(ws->loop, &conn->defer);
    TAILQ_REMOVE(&ws->conns, conn, all);
    ws_conn_leave_http(conn);
    conn->ws = NULL;
    ws_conn_release(conn);
}
