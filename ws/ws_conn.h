/*
 * ws_conn.h - one connection of a websockets listener, seen from inside of ws/.
 *
 *     owner (a connection of the broker)   transport_ws.c   the port: read, writev, want_*, close
 *   ------------------------------------------------------------------------------------------------
 *     struct ws_conn                       ws_conn.c        life, readiness
 *        |            \                    ws_conn_lws.c    what libwebsockets says
 *        |             |                   ws_conn_io.c     its bytes, and what bounds them
 *        |             |  requests         http.c           plain HTTP, and whether an upgrade may be
 *     struct lws       |                   evlib.c          libwebsockets' "event library": us
 *        |             |                   lwsio.c          its recv, send, poll, shutdown, close
 *        |   request.c, frames.c            input.h          what may reach libwebsockets at all
 *     below (tls or tcp)
 *
 * Two rules keep this simple. First: the owner is never called from within libwebsockets. Its callbacks only
 * note what happened (and ask for a deferred call where nobody above on the stack will look);
 * ws_conn_deliver() tells the owner when libwebsockets has returned. So an owner may close this or any other
 * connection from any callback. Second: to libwebsockets a send is never partial. What the lower transport
 * does not take at once is queued here, and until that queue is empty the connection is "not writable" for
 * libwebsockets and for the owner.
 */
#ifndef BRAMBLE_WS_WS_CONN_H
#define BRAMBLE_WS_WS_CONN_H

#include "broker/bytes.h"
#include "broker/loop.h"
#include "broker/strangers.h"
#include "broker/transport.h"
#include "ws/input.h"
#include "ws/site.h"
#include <libwebsockets.h>
#include <poll.h>
#include <sys/queue.h>

enum {
    WS_FRAME_MAX = 64 * 1024, /* most bytes of one frame that we send */
    WS_RX_MAX = 64 * 1024,    /* received and not yet read by the owner */
    WS_RX_PAUSED = 4 * 1024,  /* the same while the owner does not want to read */
    WS_OUT_MAX = WS_FRAME_MAX + 4 * 1024,
    WS_READS = 8, /* reads of one connection per turn of the loop */

    HTTP_CONNS = 64,          /* plain HTTP connections kept at a time */
    HTTP_IDLE_MS = 30 * 1000, /* without a request, or without progress of an answer */
    WS_CLOSE_MS = 3 * 1000,   /* for the closing handshake, and for sending what is queued */
};

enum ws_conn_state {
    WS_CONN_NEW,     /* before start() */
    WS_CONN_BELOW,   /* the lower transport is getting ready */
    WS_CONN_REQUEST, /* the first request is awaited */
    WS_CONN_HTTP,    /* plain HTTP, so far */
    WS_CONN_OPEN,    /* upgraded */
};

struct ws_conn {
    struct transport t;      /* must be first */
    struct ws *ws;           /* NULL once ws_free() was called */
    struct ws_site *site;    /* counted */
    struct transport *below; /* NULL once closed */
    struct lws *wsi;         /* NULL before it is adopted and after it was destroyed */
    int fd;
    enum ws_conn_state state;
    int lws_wants;              /* LOOP_READ | LOOP_WRITE, as libwebsockets asked by evlib's io() */
    int error;                  /* with ended: 0 or -errno for the owner, after the last byte */
    int busy;                   /* handlers on the stack: it is not freed under them */
    bool want_read, want_write; /* of the owner */
    bool told;                  /* ready() was called */
    bool orphan;                /* the owner has closed it */
    bool ended;                 /* nothing more will come for the owner */
    bool broken;                /* below failed */
    bool kill;                  /* to be closed when libwebsockets has returned */
    bool corked;                /* frames are being put together: they leave when all are */
    bool read_full;             /* the last read gave all that was asked for: there may be more */
    bool asked;                 /* libwebsockets has a request that nobody has answered yet */
    struct bytes in;            /* requests for libwebsockets, and what came behind an upgrade */
    size_t seen;                /* bytes of it that were searched for the end of a header */
    size_t header;              /* bytes of it that are a good header, for libwebsockets to read */
    struct ws_frames frames;    /* once upgraded */
    struct ws_fault fault;      /* what is wrong with them */
    struct bytes rx;            /* payload for the owner */
    struct bytes out;           /* for below */
    const unsigned char *tail;  /* the rest of a file (of site), behind out */
    size_t tail_len;
    struct timer timer;
    struct defer defer;
    TAILQ_ENTRY(ws_conn) all;
    TAILQ_ENTRY(ws_conn) http; /* state WS_CONN_HTTP only; the one that was busy last is last */
    char why[160];
};

TAILQ_HEAD(ws_conn_list, ws_conn);

struct ws {
    struct loop *loop;
    struct strangers *strangers;
    struct lws_context *lws;
    struct lws_vhost *vhost;
    int max_fds;
    int handshake_ms;
    struct watch pipe; /* libwebsockets' own descriptor */
    struct timer timer;
    struct defer tick;
    struct ws_conn_list conns, http;
    int http_count;
    unsigned char
        *frame; /* LWS_PRE bytes of headroom, then WS_FRAME_MAX: where a frame or an answer is put together */
};

/* --- ws_conn.c --- */

extern const struct transport_events ws_conn_below_events;

/* Handlers that may end the connection are put between these two; ws_conn_release() frees it if all is over.
 */
void ws_conn_hold(struct ws_conn *conn);
void ws_conn_release(struct ws_conn *conn);

/* Tells the owner what there is to tell, and sets what is wanted of below. Not from within libwebsockets. */
void ws_conn_deliver(struct ws_conn *conn);
/* The same at the end of this turn. */
void ws_conn_deliver_later(struct ws_conn *conn);

/* Sets what is wanted of below; after anything that may have changed it. */
void ws_conn_interest(struct ws_conn *conn);

/* Nothing more comes: read() gives what is there, then error (0 or -errno). The first call counts. */
void ws_conn_end(struct ws_conn *conn, int error);
void ws_conn_why(struct ws_conn *conn, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Destroys the struct lws, at once. Not from within libwebsockets. */
void ws_conn_kill(struct ws_conn *conn);

/* Ends it at once for good: ws is going away. The struct stays until the owner has closed it, too. */
void ws_conn_forsake(struct ws_conn *conn);

/* A connection of ws on below; NULL without memory, and then nothing was taken over. */
struct ws_conn *ws_conn_new(struct ws *ws, struct ws_site *site, struct transport *below);

/* The owner goes away: says goodbye and lingers for a bounded time. */
void ws_conn_close(struct ws_conn *conn);

/* Closes below, at once. */
void ws_conn_close_below(struct ws_conn *conn);

/* It has become a plain HTTP connection, or shows life as one; or it is none any more. */
void ws_conn_http_touch(struct ws_conn *conn);
void ws_conn_leave_http(struct ws_conn *conn);

/* --- ws_conn_lws.c --- */

/* libwebsockets' callback, for all of its protocols. */
int ws_conn_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len);

/* libwebsockets has closed the descriptor. */
void ws_conn_lws_closed(struct ws_conn *conn);

/* For evlib.c: libwebsockets starts or stops to wait for events. */
void ws_conn_lws_wants(struct ws_conn *conn, int events, bool on);

/* --- ws_conn_io.c --- */

/* For libwebsockets; results as of the transport port, but a send is all of it, or an error. */
ssize_t ws_conn_recv(struct ws_conn *conn, void *buf, size_t n);
ssize_t ws_conn_send(struct ws_conn *conn, const void *buf, size_t n);
/* n bytes that stay where they are as long as conn->site; sent behind what is queued. */
void ws_conn_send_tail(struct ws_conn *conn, const unsigned char *data, size_t n);
/* Nothing is queued. */
bool ws_conn_can_send(const struct ws_conn *conn);
/* More of the client's bytes may be looked at. */
bool ws_conn_may_read(const struct ws_conn *conn);
/* There are such bytes here already, which no socket will announce. */
bool ws_conn_has_input(const struct ws_conn *conn);
/* Takes in what there is of a request. Once its header is whole and good conn->header says so. */
void ws_conn_gather(struct ws_conn *conn);
/* Sends what is queued. 1 when something went, 0 when nothing did, -1 when below is broken. */
int ws_conn_flush(struct ws_conn *conn);
/* Throws away what is queued. */
void ws_conn_drop_output(struct ws_conn *conn);

/* --- http.c: answers of callbacks of libwebsockets --- */

/* A plain request. 0: go on, -1: close it (what is queued is still sent). */
int ws_http_request(struct ws_conn *conn, struct lws *wsi, const char *path, size_t n);
/* An upgrade to protocol ("websocket"). 0: let it be; -1: it was refused and answered. */
int ws_http_upgrade(struct ws_conn *conn, struct lws *wsi, const char *protocol);
/* What comes is no request that libwebsockets may see: says why(), past libwebsockets, and ends it. */
void ws_http_refuse(struct ws_conn *conn, int status);

/* --- evlib.c --- */

extern const struct lws_protocols ws_protocols[];

/* libwebsockets may have got something to do later: looks after its timers at the end of this turn. */
void ws_tick_soon(struct ws *ws);

/* --- lwsio.c --- */

/* The table from descriptor to connection; one for the process, so opened and released by each struct ws. */
int lwsio_open(int max_fds);
void lwsio_release(void);
void lwsio_set(int fd, struct ws_conn *conn);

/* libwebsockets calls these in place of the system's. */
ssize_t lwsio_recv(int fd, void *buf, size_t n, int flags);
ssize_t lwsio_send(int fd, const void *buf, size_t n, int flags);
int lwsio_poll(struct pollfd *fds, nfds_t n, int timeout);
int lwsio_shutdown(int fd, int how);
int lwsio_close(int fd);

#endif
