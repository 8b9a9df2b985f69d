/*
 * http.c - what a websockets listener says in plain HTTP: the page of its site, and refused upgrades.
 *
 * GET and HEAD of files that are in memory (site.c), nothing else. A page and its parts come over few
 * connections that are kept (HTTP/1.1) for HTTP_IDLE_MS; when HTTP_CONNS are there, the one that has been
 * idle for longest makes room.
 *
 * An answer is put together in ws->frame, header and as much of the body as fits, and given to libwebsockets
 * in one piece; the rest of a large file goes out behind it straight from the site (ws_conn_send_tail). For
 * libwebsockets the request is over at once; it waits to be writable before it looks at the next one, so they
 * do not overtake.
 *
 * Only requests that request.c found well formed come here; the others are refused by ws_http_refuse(), past
 * libwebsockets. The decoding of the path (%2e, /../, //) is libwebsockets'; as the look-up knows only exact
 * names of loaded files, nothing depends on it.
 */
#include "broker/log.h"
#include "broker/principal.h"
#include "ws/ws_conn.h"
#include <errno.h>
#include <stdio.h>
#include <strings.h>

/* Everything comes from this host, and nobody may frame it. The page's own connection is a WebSocket, perhaps
 * elsewhere. */
static const char security_headers[] = "Content-Security-Policy: default-src 'self'; connect-src 'self' ws: "
                                       "wss:; object-src 'none'; base-uri 'none'; "
                                       "form-action 'self'; frame-ancestors 'none'\r\n"
                                       "X-Content-Type-Options: nosniff\r\n"
                                       "Referrer-Policy: no-referrer\r\n";

enum { KEY_SIZE = 24 }; /* of Sec-WebSocket-Key: 16 bytes in base64 */

struct answer {
    int status;
    const char *type;  /* NULL: no body and no length (304) */
    const char *extra; /* more header lines, or "" */
    const unsigned char *body;
    size_t size;
    bool head;  /* HEAD: all but the body */
    bool close; /* of the connection, afterwards */
};

static const char *status_text(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 304:
        return "Not Modified";
    case 400:
        return "Bad Request";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 426:
        return "Upgrade Required";
    case 431:
        return "Request Header Fields Too Large";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Service Unavailable";
    }
}

static size_t answer_header(const struct answer *answer, char *to, size_t max)
{
    char body[96] = "";
    int n;

    if (answer->type)
        snprintf(body, sizeof body, "Content-Type: %s\r\nContent-Length: %zu\r\n", answer->type,
                 answer->size);
    n = snprintf(to, max, "HTTP/1.1 %d %s\r\n%s%s%s%s\r\n", answer->status, status_text(answer->status), body,
                 answer->close ? "Connection: close\r\n" : "", answer->extra, security_headers);
    return n > 0 && (size_t)n < max ? (size_t)n : 0;
}

/* Sends it. The result of the callback: 0, or -1 to close. */
static int answer_send(struct ws_conn *conn, struct lws *wsi, const struct answer *answer)
{
    unsigned char *at = conn->ws->frame + LWS_PRE;
    size_t n = answer_header(answer, (char *)at, WS_FRAME_MAX);
    size_t left = answer->head || !answer->type ? 0 : answer->size;
    size_t first = left < WS_FRAME_MAX - n ? left : WS_FRAME_MAX - n;

    if (n == 0)
        return -1;
    if (first > 0)
        memcpy(at + n, answer->body, first);
    if (lws_write(wsi, at, n + first, LWS_WRITE_HTTP_HEADERS) < 0)
        return -1;
    if (left > first)
        ws_conn_send_tail(conn, answer->body + first, left - first);
    if (answer->close)
        return -1;
    return lws_http_transaction_completed(wsi) ? -1 : 0;
}

/* A short text for people, and the end of the connection. */
static int answer_error(struct ws_conn *conn, struct lws *wsi, int status, const char *extra, bool head,
                        bool close, const char *text)
{
    const struct answer answer = {
        .status = status,
        .type = "text/plain; charset=utf-8",
        .extra = extra,
        .body = (const unsigned char *)text,
        .size = strlen(text),
        .head = head,
        .close = close,
    };

    return answer_send(conn, wsi, &answer);
}

/* --- header fields --- */

/* The field's value in buf; false when it is missing, empty or does not fit. */
static bool field(struct lws *wsi, enum lws_token_indexes token, char *buf, size_t n)
{
    return lws_hdr_copy(wsi, buf, (int)n, token) > 0;
}

/* The next entry of a comma-separated list, without the blanks around; NULL at the end. Changes the list. */
static char *list_next(char **list)
{
    char *entry = strsep(list, ",");
    size_t n;

    if (!entry)
        return NULL;
    entry += strspn(entry, " \t");
    n = strlen(entry);
    while (n > 0 && (entry[n - 1] == ' ' || entry[n - 1] == '\t'))
        entry[--n] = '\0';
    return entry;
}

static bool list_has(char *list, const char *word, bool any_case)
{
    const char *entry;

    while ((entry = list_next(&list))) {
        if ((any_case ? strcasecmp(entry, word) : strcmp(entry, word)) == 0)
            return true;
    }
    return false;
}

static bool is_quality_zero(const char *parameters)
{
    const char *q = strcasestr(parameters, "q=");

    return q && strtod(q + 2, NULL) <= 0;
}

/* Accept-Encoding: gzip, deflate;q=0.5, *;q=0 */
static bool accepts_gzip(struct lws *wsi)
{
    char value[256], *list = value, *entry;

    if (!field(wsi, WSI_TOKEN_HTTP_ACCEPT_ENCODING, value, sizeof value))
        return false;
    while ((entry = list_next(&list))) {
        size_t n = strcspn(entry, " \t;");
        if ((n == 4 && strncasecmp(entry, "gzip", 4) == 0) ||
            (n == 6 && strncasecmp(entry, "x-gzip", 6) == 0))
            return !is_quality_zero(entry + n);
    }
    return false;
}

/* Whether If-None-Match names this ETag (weak comparison, as the standard asks for here). */
static bool is_known(struct lws *wsi, const char *etag)
{
    char value[512], *list = value, *entry;

    if (!field(wsi, WSI_TOKEN_HTTP_IF_NONE_MATCH, value, sizeof value))
        return false;
    while ((entry = list_next(&list))) {
        if (strncmp(entry, "W/", 2) == 0)
            entry += 2;
        if (strcmp(entry, "*") == 0 || strcmp(entry, etag) == 0)
            return true;
    }
    return false;
}

/* HTTP/1.1 keeps a connection that is not said to be closed. A request with a body is answered and closed:
 * nobody who may talk to us has a reason to send one, and so it need not be read. */
static bool wants_close(struct lws *wsi)
{
    char value[128];

    if (!field(wsi, WSI_TOKEN_HTTP, value, sizeof value) || strcmp(value, "HTTP/1.1") != 0)
        return true;
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0)
        return true;
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) > 0 &&
        (!field(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH, value, sizeof value) || strcmp(value, "0") != 0))
        return true;
    if (lws_hdr_total_length(wsi, WSI_TOKEN_CONNECTION) == 0)
        return false;
    return !field(wsi, WSI_TOKEN_CONNECTION, value, sizeof value) || list_has(value, "close", true);
}

/* --- plain requests --- */

/* Makes room for one more. False when all are busy. */
static bool http_admit(struct ws_conn *conn)
{
    struct ws *ws = conn->ws;
    struct ws_conn *victim;

    if (conn->state == WS_CONN_HTTP || ws->http_count < HTTP_CONNS)
        return true;
    TAILQ_FOREACH(victim, &ws->http, http) {
        if (victim->kill || !victim->wsi || !ws_conn_can_send(victim))
            continue;
        victim->kill = true; /* not here: libwebsockets is on the stack */
        ws_conn_deliver_later(victim);
        return true;
    }
    return false;
}

static int http_file(struct ws_conn *conn, struct lws *wsi, const struct site_file *file, bool head)
{
    bool gzip = file->gz && accepts_gzip(wsi);
    struct answer answer = {
        .status = 200,
        .type = file->type,
        .body = gzip ? file->gz : file->data,
        .size = gzip ? file->gz_size : file->size,
        .head = head,
        .close = wants_close(wsi),
    };
    char etag[sizeof file->etag + 4], extra[192];

    /* "0123..." and "0123...-gz" */
    snprintf(etag, sizeof etag, "%.*s%s\"", (int)strlen(file->etag) - 1, file->etag, gzip ? "-gz" : "");
    snprintf(extra, sizeof extra, "ETag: %s\r\nCache-Control: no-cache\r\n%s%s", etag,
             file->gz ? "Vary: Accept-Encoding\r\n" : "", gzip ? "Content-Encoding: gzip\r\n" : "");
    answer.extra = extra;
    if (is_known(wsi, etag)) {
        answer.status = 304;
        answer.type = NULL;
    }
    return answer_send(conn, wsi, &answer);
}

int ws_http_request(struct ws_conn *conn, struct lws *wsi, const char *path, size_t n)
{
    bool head = lws_hdr_total_length(wsi, WSI_TOKEN_HEAD_URI) > 0;
    const struct site_file *file = ws_site_find(conn->site, path, n);
    bool admitted = http_admit(conn);

    ws_conn_http_touch(conn);
    log_write(LOG_T_WEBSOCKETS, "HTTP request for %.*s%s", (int)(n < 200 ? n : 200), path,
              file ? "" : ": not found");
    if (!admitted)
        return answer_error(conn, wsi, 503, "Retry-After: 1\r\nCache-Control: no-store\r\n", head, true,
                            "Too many connections; try again.\n");
    if (!file)
        return answer_error(conn, wsi, 404, "Cache-Control: no-store\r\n", head, wants_close(wsi),
                            "Not found.\n");
    return http_file(conn, wsi, file, head);
}

void ws_http_refuse(struct ws_conn *conn, int status)
{
    const char *extra = status == 405 ? "Allow: GET, HEAD\r\n" : "";
    const struct answer answer = {.status = status,
                                  .type = "text/plain; charset=utf-8",
                                  .extra = extra,
                                  .size = strlen(conn->why) + 1,
                                  .close = true};
    char text[1024];
    size_t n = answer_header(&answer, text, sizeof text - sizeof conn->why);

    n += (size_t)snprintf(text + n, sizeof text - n, "%s\n", conn->why);
    ws_conn_end(conn, status == 431 ? -EMSGSIZE : -EPROTO);
    ws_conn_send(conn, text, n);
    timer_start(conn->ws->loop, &conn->timer, WS_CLOSE_MS);
    conn->kill = true;
}

/* --- upgrades --- */

/* Says in the log who was refused, and why; the answer says it to the client. */
static int upgrade_refuse(struct ws_conn *conn, struct lws *wsi, int status, const char *extra,
                          const char *reason, const char *text)
{
    struct principal *who = principal_new();

    conn->asked = false;
    if (who)
        conn->below->ops->peer(conn->below, who);
    if (strangers_line(conn->ws->strangers, who))
        log_write(LOG_T_NOTICE, "WebSocket connection from %s:%u refused: %s", who ? who->address : "?",
                  who ? (unsigned)who->port : 0, reason);
    principal_unref(who);
    return answer_error(conn, wsi, status, extra, false, true, text);
}

static bool offers_mqtt(struct lws *wsi)
{
    char value[128], copy[sizeof value];

    if (!field(wsi, WSI_TOKEN_PROTOCOL, value, sizeof value - 1)) /* - 1: libwebsockets' own limit */
        return false;
    memcpy(copy, value, sizeof copy);
    return list_has(value, "mqtt", false) || list_has(copy, "mqttv3.1", false);
}

int ws_http_upgrade(struct ws_conn *conn, struct lws *wsi, const char *protocol)
{
    char value[256], reason[320];

    if (strcasecmp(protocol, "websocket") != 0)
        return 0; /* h2c: is taken as a plain request, as it should be by who does not know it */
    if (lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) == 0)
        return upgrade_refuse(conn, wsi, 405, "Allow: GET\r\n", "its method is not GET",
                              "Only GET can be upgraded.\n");
    if (!field(wsi, WSI_TOKEN_VERSION, value, sizeof value) || strcmp(value, "13") != 0)
        return upgrade_refuse(conn, wsi, 426, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
                              "its WebSocket version is not 13", "WebSocket version 13 is needed.\n");
    if (!field(wsi, WSI_TOKEN_HTTP, value, sizeof value) || strcmp(value, "HTTP/1.1") != 0 ||
        !field(wsi, WSI_TOKEN_CONNECTION, value, sizeof value) || !list_has(value, "upgrade", true) ||
        lws_hdr_total_length(wsi, WSI_TOKEN_KEY) != KEY_SIZE)
        return upgrade_refuse(conn, wsi, 400, "", "its upgrade request is not complete",
                              "HTTP/1.1, Connection: Upgrade or a Sec-WebSocket-Key of 16 bytes in base64 is "
                              "missing.\n");
    if (!field(wsi, WSI_TOKEN_ORIGIN, value, sizeof value))
        value[0] = '\0';
    if (!ws_site_origin_allowed(conn->site, value[0] ? value : NULL)) {
        snprintf(reason, sizeof reason, "%s%s is not one of websockets_origin",
                 value[0] ? "its origin " : "no origin", value);
        return upgrade_refuse(conn, wsi, 403, "", reason, "This origin is not allowed.\n");
    }
    if (!offers_mqtt(wsi))
        return upgrade_refuse(conn, wsi, 400, "", "it does not offer the sub-protocol \"mqtt\"",
                              "The WebSocket sub-protocol mqtt is needed.\n");
    return 0;
}
