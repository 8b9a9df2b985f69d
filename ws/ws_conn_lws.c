/*
 * ws_conn_lws.c - what libwebsockets says about a connection, and what is noted of it.
 *
 * Nothing here calls the owner: libwebsockets is on the stack. See ws_conn.h.
 */
#include "ws/ws_conn.h"
#include <errno.h>

/* Something happened that the owner should know. The handler on the stack will tell it; if there is none
 * (libwebsockets' timers, input that it had read before), a deferred call does. */
static void ws_conn_note(struct ws_conn *conn)
{
    if (conn->busy == 0)
        ws_conn_deliver_later(conn);
}

void ws_conn_lws_wants(struct ws_conn *conn, int events, bool on)
{
    conn->lws_wants = on ? conn->lws_wants | events : conn->lws_wants & ~events;
    ws_conn_note(conn);
}

/* libwebsockets is done with the descriptor. What is queued gets some time. */
void ws_conn_lws_closed(struct ws_conn *conn)
{
    conn->lws_wants = 0;
    if (ws_conn_can_send(conn))
        ws_conn_close_below(conn);
    else
        timer_start(conn->ws->loop, &conn->timer, WS_CLOSE_MS);
    ws_conn_note(conn);
}

static int ws_conn_received(struct ws_conn *conn, struct lws *wsi, const void *data, size_t n)
{
    if (conn->ended)
        return 0;
    ws_conn_note(conn);
    if (bytes_add(&conn->rx, data, n, WS_RX_MAX)) /* ws_conn_room() sees to it that it fits */
        return 0;
    ws_conn_why(conn, "out of memory");
    ws_conn_end(conn, -ENOMEM);
    lws_close_reason(wsi, LWS_CLOSE_STATUS_UNEXPECTED_CONDITION, NULL, 0);
    return -1;
}

static void ws_conn_peer_closes(struct ws_conn *conn, const unsigned char *code, size_t n)
{
    if (n >= 2)
        ws_conn_why(conn, "closed by the client, WebSocket status %u", code[0] << 8 | code[1]);
    ws_conn_end(conn, 0);
    ws_conn_note(conn);
}

static void ws_conn_opened(struct ws_conn *conn)
{
    ws_conn_leave_http(conn); /* a page's connection that turned into a WebSocket */
    conn->state = WS_CONN_OPEN;
    conn->asked = false;
    timer_stop(conn->ws->loop, &conn->timer);
    ws_conn_note(conn);
}

/* libwebsockets begins to close by itself: a frame was wrong, or one of the cases above that were noted
 * already. */
static void ws_conn_dropped(struct ws_conn *conn)
{
    if (!conn->ended)
        ws_conn_why(conn, "WebSocket protocol error");
    ws_conn_end(conn, -EPROTO);
    ws_conn_note(conn);
}

static void ws_conn_destroyed(struct ws_conn *conn)
{
    if (conn->asked && !conn->ended)
        ws_conn_why(conn, "libwebsockets refused the HTTP request");
    conn->wsi = NULL;
    ws_conn_end(conn, -ECONNRESET);
    ws_conn_note(conn);
}

int ws_conn_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    struct ws_conn *conn;

    (void)user;
    switch (reason) {
    case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
    case LWS_CALLBACK_HTTP:
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
    case LWS_CALLBACK_ESTABLISHED:
    case LWS_CALLBACK_RECEIVE:
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
    case LWS_CALLBACK_WS_SERVER_DROP_PROTOCOL:
    case LWS_CALLBACK_WSI_DESTROY:
        break;
    case LWS_CALLBACK_RAW_ADOPT:
    case LWS_CALLBACK_RAW_RX:
        return -1; /* method CONNECT: libwebsockets would leave HTTP for a raw stream */
    default:
        return 0; /* among them those that come without a connection */
    }
    conn = lws_get_opaque_user_data(wsi);
    if (!conn)
        return 0;
    switch (reason) {
    case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
        conn->wsi = wsi;
        return 0;
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return ws_http_upgrade(conn, wsi, in);
    case LWS_CALLBACK_HTTP:
        return ws_http_request(conn, wsi, in, len);
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
        return lws_get_protocol(wsi) == ws_protocols ? -1 : 0; /* ws_http_upgrade() leaves no such case */
    case LWS_CALLBACK_ESTABLISHED:
        ws_conn_opened(conn);
        return 0;
    case LWS_CALLBACK_RECEIVE:
        return ws_conn_received(conn, wsi, in, len);
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        ws_conn_peer_closes(conn, in, len);
        return 0;
    case LWS_CALLBACK_WS_SERVER_DROP_PROTOCOL:
        ws_conn_dropped(conn);
        return 0;
    default: /* LWS_CALLBACK_WSI_DESTROY */
        ws_conn_destroyed(conn);
        return 0;
    }
}
