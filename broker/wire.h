/*
 * wire.h - everything that a configuration names, loaded; and how transports are stacked from it.
 *
 * The one place that knows the rooms tls/, ws/ and auth/ by name. struct wiring holds, for each listener, the
 * TLS context, the web site, the passwords and the ACL. It is loaded purely, so a reload does it on a worker
 * thread; the loop then swaps.
 *
 *   start:  wire_load -> wire_use                 reload: worker: wire_load | mail | loop: wire_use (old one
 * freed)
 */
#ifndef BRAMBLE_WIRE_H
#define BRAMBLE_WIRE_H

#include "broker/broker.h"
#include "broker/transport.h"

struct wiring;
struct wire; /* what lives as long as the daemon: handshake workers, hashing workers, libwebsockets */

/* Reads the files of every listener of config, which must outlive it. NULL with err after the first that is
 * wrong. Any thread. */
struct wiring *wire_load(const struct config *config, struct err *err);
/* Whether there is a place for the store, if one is wanted. 0, or -1 with err. */
int wire_check_store(const struct config *config, struct err *err);
/* Loop thread; NULL is allowed. */
void wire_unload(struct wiring *wiring);

/* Threads and the libwebsockets context, as the configuration needs them. NULL with err. */
struct wire *wire_new(struct broker *broker, struct err *err);
/* After all connections have ended. NULL is allowed. */
void wire_free(struct wire *wire);

/* Makes a wiring (taken over) the one that counts, for config (which becomes broker->config), from the next
 * packet on; the old wiring is unloaded. Clients whose password has changed or gone are disconnected. */
void wire_use(struct wire *wire, struct wiring *wiring, struct config *config);

/* listener_stack. arg is the struct wire. */
struct transport *wire_stack(void *arg, int door, struct transport *below);

#endif
