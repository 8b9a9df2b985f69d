/*
 * transport_tcp.h - plain sockets (TCP over IPv4 and IPv6, Unix stream sockets) as a transport.
 */
#ifndef BRAMBLE_TRANSPORT_TCP_H
#define BRAMBLE_TRANSPORT_TCP_H

#include "broker/transport.h"

struct loop;
struct sockaddr;

/* Takes over a connected, non-blocking descriptor (closed by the transport's close, also when NULL is
 * returned, for want of memory). address is the peer's, as accept() gave it; may be of any family. */
struct transport *transport_tcp_new(struct loop *loop, int fd, const struct sockaddr *address, bool no_delay);

#endif
