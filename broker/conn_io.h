/*
 * conn_io.h - what the files of a connection share: conn.c (beginning and end), conn_in.c, conn_out.c. Nobody
 * else includes it.
 */
#ifndef BRAMBLE_CONN_IO_H
#define BRAMBLE_CONN_IO_H

#include "broker/conn.h"

#define CONN_BROKEN "its connection is broken" /* when the transport knows no better reason */

enum { LAST_PACKETS_MS = 5000 }; /* for parsing what came before the other end went */

/* conn.c: takes everything from it but its memory; and its memory, at the end of a turn. */
void conn_die(struct conn *conn);
void conn_free(struct conn *conn);

/* conn_in.c: events of the transport, and of conn->peer and conn->resume. */
void conn_readable(void *owner);
void conn_work(struct peer *resume);
void conn_pause(struct peer *peer, bool on);
/* Tells the transport whether it is read from now. */
void conn_want_input(struct conn *conn);
/* What was read and not parsed goes. */
void conn_free_input(struct conn *conn);

/* conn_hold.c: whether this packet, whose body may not be here yet, has to wait for the store. Then reading
 * is off. */
bool conn_must_hold(struct conn *conn, const struct packet_frame *frame, struct slice body);
/* Something has left: perhaps it is held no more. */
void conn_hold_look(struct conn *conn);
/* Its time is up while it is held. */
void conn_hold_timeout(struct conn *conn);

/* conn_out.c */
void conn_flush(struct peer *peer);
void conn_writable(void *owner);

#endif
