/*
 * listener.h - the listening sockets: opening them as the configuration says, and accepting.
 *
 * A listener knows addresses and descriptors. What is stacked on an accepted socket (TLS, WebSocket) is
 * decided by a callback of main's wiring; what comes of the connection is the business of conn.h.
 */
#ifndef BRAMBLE_LISTENER_H
#define BRAMBLE_LISTENER_H

#include "broker/broker.h"
#include "broker/transport.h"

struct listeners;

/* Stacks what the door's listener wants on top of below, which it takes over; NULL (below closed) without
 * memory. */
typedef struct transport *listener_stack(void *arg, int door, struct transport *below);

/* Opens all sockets of broker->config, in order, which may take root's rights; of the broker nothing but loop
 * and config needs to be there. NULL with err, which names the directive's file:line, the address, and what
 * to do when it is in use. */
struct listeners *listeners_open(struct broker *broker, struct err *err);
/* Clients can connect from now on (before, they are refused by the kernel), but nothing is accepted before
 * listeners_start(). 0, or -1 with err. */
int listeners_listen(struct listeners *listeners, struct err *err);
/* Accepts from now on. */
void listeners_start(struct listeners *listeners, listener_stack *stack, void *arg);
/* New connections wait in the kernel, and CONNECT packets in their connections, until
 * listeners_start_again(), but at most for max_ms: a reload is under way, and whoever comes after the signal
 * shall meet the new rules. */
void listeners_pause(struct listeners *listeners, int64_t max_ms);
void listeners_start_again(struct listeners *listeners);
/* Accepts no more and closes the sockets. NULL is allowed. */
void listeners_close(struct listeners *listeners);

#endif
