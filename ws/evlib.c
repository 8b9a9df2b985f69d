/*
 * evlib.c - libwebsockets on our loop: its context, its timers, its own descriptor, its log.
 *
 * libwebsockets takes an "event library" from its user (info.event_lib_custom); this is ours, and it is
 * small: of all its operations only io() is needed, "wait for these events on this connection from now on".
 * For a connection that is passed to ws_conn.c, which waits for the lower transport; for libwebsockets' event
 * pipe there is a watch.
 *
 * Timers: libwebsockets keeps a sorted list and says when the next one is due. ws_tick() asks, and runs what
 * is due. It is called at the end of a turn in which libwebsockets may have set a timer, and by one loop
 * timer; without connections that timer does not run.
 *
 * The look-up table. libwebsockets indexes connections by descriptor when its table is as large as
 * RLIMIT_NOFILE, and searches a list for each call when it is told a smaller number. So the limit is lowered
 * to max_fds while the context is made, and put back after; connections with higher descriptors are refused.
 */
#include "broker/log.h"
#include "ws/ws_conn.h"
#include <errno.h>
#include <sys/resource.h>

enum {
    TICK_MAX_MS = 60 * 1000,
    MOST_FDS = 32 * 1024, /* libwebsockets' tables take 16 bytes for each */
};

/* --- libwebsockets' log --- */

static void ws_log(int level, const char *line)
{
    const char *text = strstr(line, ": "); /* after "[date time] E" */
    int n;

    text = line[0] == '[' && text ? text + 2 : line;
    n = (int)strcspn(text, "\r\n");
    log_write(level == LLL_ERR ? LOG_T_WARNING : LOG_T_WEBSOCKETS, "libwebsockets: %.*s", n, text);
}

/* --- timers --- */

static void ws_tick(void *arg)
{
    struct ws *ws = arg;
    int ms = lws_service_adjust_timeout(ws->lws, TICK_MAX_MS, 0);

    if (ms == 0) {
        _lws_plat_service_forced_tsi(ws->lws, 0);
        ms = lws_service_adjust_timeout(ws->lws, TICK_MAX_MS, 0);
    }
    if (TAILQ_EMPTY(&ws->conns))
        timer_stop(ws->loop, &ws->timer);
    else
        timer_start(ws->loop, &ws->timer, ms > 0 ? ms : 1);
}

void ws_tick_soon(struct ws *ws)
{
    defer_call(ws->loop, &ws->tick);
}

/* --- the operations --- */

static void on_pipe(void *arg, int events)
{
    struct ws *ws = arg;
    struct lws_pollfd pfd = {.fd = ws->pipe.fd, .events = POLLIN, .revents = POLLIN};

    (void)events;
    lws_service_fd(ws->lws, &pfd);
}

static int evlib_init_pt(struct lws_context *context, void *loop, int tsi)
{
    struct ws **ws = lws_evlib_tsi_to_evlib_pt(context, tsi);

    *ws = loop;
    return 0;
}

static void evlib_pipe(struct ws *ws, int fd, int events)
{
    if (ws->pipe.fd < 0 && events)
        watch_init(&ws->pipe, fd, on_pipe, ws);
    if (ws->pipe.fd == fd)
        watch_set(ws->loop, &ws->pipe, events);
}

static void evlib_io(struct lws *wsi, unsigned flags)
{
    struct ws_conn *conn = lws_get_opaque_user_data(wsi);
    int events = (flags & LWS_EV_READ ? LOOP_READ : 0) | (flags & LWS_EV_WRITE ? LOOP_WRITE : 0);
    struct ws **ws;

    if (conn) {
        ws_conn_lws_wants(conn, events, flags & LWS_EV_START);
        return;
    }
    ws = lws_evlib_wsi_to_evlib_pt(wsi);
    evlib_pipe(*ws, lws_get_socket_fd(wsi), flags & LWS_EV_START && events & LOOP_READ ? LOOP_READ : 0);
}

static const struct lws_event_loop_ops evlib_ops = {
    .name = "bramble",
    .init_pt = evlib_init_pt,
    .io = evlib_io,
    .evlib_size_pt = sizeof(struct ws *),
};

static const lws_plugin_evlib_t evlib = {
    .hdr = {"bramble", "lws_evlib_plugin", LWS_BUILD_HASH, LWS_PLUGIN_API_MAGIC},
    .ops = &evlib_ops,
};

/* The name of the first is for plain HTTP; no client can ask for it, as no sub-protocol has such characters
 * in its name. With a (tiny) session block libwebsockets also tells when it begins to close a connection. */
enum { SESSION_BYTES = 1, RX_BYTES = 4096, TX_BYTES = 2 * WS_FRAME_MAX };

const struct lws_protocols ws_protocols[] = {
    {"(http)", ws_conn_callback, SESSION_BYTES, RX_BYTES, 0, NULL, TX_BYTES},
    {"mqtt", ws_conn_callback, SESSION_BYTES, RX_BYTES, 0, NULL, TX_BYTES},
    {"mqttv3.1", ws_conn_callback, SESSION_BYTES, RX_BYTES, 0, NULL, TX_BYTES},
    {0},
};

/* --- its memory --- */

/* libwebsockets goes on without some of what it wanted when it is made, and falls over that later. Its hook
 * has no argument: hence the global. */
static bool starved;

static void *ws_realloc(void *block, size_t size, const char *reason)
{
    void *other;

    (void)reason;
    if (size == 0) {
        free(block);
        return NULL;
    }
    other = realloc(block, size);
    starved |= !other;
    return other;
}

/* --- the context --- */

static const lws_retry_bo_t no_pings; /* MQTT's keep alive looks after dead connections */

static int ws_create(struct ws *ws)
{
    void *loops[] = {ws};
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_SKIP_SERVER_CANONICAL_NAME,
        .event_lib_custom = &evlib,
        .foreign_loops = loops,
        .max_http_header_data2 = UINT16_MAX,
        .timeout_secs = (unsigned)(ws->handshake_ms / 1000 + 2),
        .retry_and_idle_policy = &no_pings,
    };

    ws->lws = lws_create_context(&info);
    if (!ws->lws)
        return -1;
    info.port = CONTEXT_PORT_NO_LISTEN_SERVER;
    info.vhost_name = "mqtt";
    info.protocols = ws_protocols;
    /* our own timers come first; these two are a safety net */
    info.timeout_secs_ah_idle = (unsigned)(ws->handshake_ms + HTTP_IDLE_MS) / 1000 + 2;
    info.keepalive_timeout = 3600;
    ws->vhost = lws_create_vhost(ws->lws, &info);
    return ws->vhost ? 0 : -1;
}

/* With RLIMIT_NOFILE lowered to max_fds for as long as it takes; see the top of this file. */
static int ws_create_bounded(struct ws *ws)
{
    struct rlimit before, lowered;
    int rc;

    if (getrlimit(RLIMIT_NOFILE, &before) < 0)
        return -1;
    lowered = before;
    if (before.rlim_cur > (rlim_t)ws->max_fds)
        lowered.rlim_cur = (rlim_t)ws->max_fds;
    else
        ws->max_fds = (int)before.rlim_cur;
    if (setrlimit(RLIMIT_NOFILE, &lowered) < 0)
        return -1;
    lws_set_allocator(ws_realloc);
    starved = false;
    rc = ws_create(ws);
    setrlimit(RLIMIT_NOFILE, &before);
    if (starved)
        errno = ENOMEM;
    return starved ? -1 : rc;
}

static void ws_discard(struct ws *ws)
{
    struct lws_context *lws = ws->lws;

    if (lws)
        lws_context_destroy(lws);
    free(ws->frame);
    free(ws);
}

struct ws *ws_new(struct loop *loop, struct strangers *strangers, int max_fds, int handshake_ms,
                  struct err *err)
{
    struct ws *ws = calloc(1, sizeof *ws);

    if (ws)
        ws->frame = malloc(LWS_PRE + WS_FRAME_MAX);
    if (!ws || !ws->frame) {
        free(ws);
        err_set(err, "Error: WebSocket: out of memory");
        return NULL;
    }
    ws->loop = loop;
    ws->strangers = strangers;
    ws->max_fds = max_fds < MOST_FDS ? max_fds : MOST_FDS;
    ws->handshake_ms = handshake_ms;
    ws->pipe.fd = -1;
    TAILQ_INIT(&ws->conns);
    TAILQ_INIT(&ws->http);
    timer_setup(&ws->timer, ws_tick, ws);
    defer_setup(&ws->tick, ws_tick, ws);
    lws_set_log_level(LLL_ERR | LLL_WARN | LLL_NOTICE, ws_log);
    if (ws_create_bounded(ws) < 0 || lwsio_open(ws->max_fds) < 0) {
        err_set(err, "Error: WebSocket: libwebsockets could not be started for %d descriptors: %s",
                ws->max_fds, strerror(errno));
        ws_discard(ws);
        return NULL;
    }
    lws_service_adjust_timeout(ws->lws, TICK_MAX_MS, 0); /* its protocols are initialised by the first call */
    return ws;
}

void ws_free(struct ws *ws)
{
    struct ws_conn *conn;

    if (!ws)
        return;
    while ((conn = TAILQ_FIRST(&ws->conns)))
        ws_conn_forsake(conn);
    timer_stop(ws->loop, &ws->timer);
    defer_cancel(ws->loop, &ws->tick);
    ws_discard(ws);
    lwsio_release();
}
