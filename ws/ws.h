/*
 * ws.h - MQTT in WebSocket frames, and the web page: libwebsockets as a transport.
 *
 * libwebsockets does HTTP and the frames; its socket calls are redirected to the transport below (plain TCP
 * or TLS), and its event loop is ours. It never sees a certificate and never opens a socket.
 */
#ifndef BRAMBLE_WS_H
#define BRAMBLE_WS_H

#include "broker/config.h"
#include "broker/err.h"
#include "broker/transport.h"

struct loop;
struct strangers;
struct ws;
struct ws_site;

/* What one websockets listener serves: allowed origins, and the files of http_dir, read into memory
 * (bounded), so that no request ever reads a disk or leaves the folder. Pure, any thread; immutable; counted
 * on the loop thread. */
struct ws_site *ws_site_load(const struct config_listener *listener, struct err *err);
struct ws_site *ws_site_ref(struct ws_site *site);
void ws_site_unref(struct ws_site *site);

/* The libwebsockets context on our loop. max_fds (what RLIMIT_NOFILE allows, or better what the limits on
 * connections need) bounds its tables, 16 bytes each; connections with a descriptor of max_fds, or of 32768,
 * and more are refused. RLIMIT_NOFILE is lowered to max_fds for a moment: call it while few files are open.
 * strangers: asked before a line about a refused upgrade; outlives it.
 * handshake_ms: from start() to the end of the upgrade. NULL with err. */
struct ws *ws_new(struct loop *loop, struct strangers *strangers, int max_fds, int handshake_ms,
                  struct err *err);
/* NULL is allowed. Connections that are still open end at once; their owners close them as usual, now or
 * later. Not from within a callback of a transport. */
void ws_free(struct ws *ws);

/* A WebSocket transport on top of below (tcp or tls), which it then owns (also when NULL is returned, for
 * want of memory). ready(0) comes when the sub-protocol "mqtt" (or "mqttv3.1") is agreed; a plain HTTP
 * request is answered from the site and ends with ready(-ECONNRESET), why() NULL, when the peer is done. So
 * does a refused upgrade, which was answered and logged here. Any other result of ready() is a failure with a
 * why(). */
struct transport *ws_accept(struct ws *ws, struct ws_site *site, struct transport *below);

#endif
