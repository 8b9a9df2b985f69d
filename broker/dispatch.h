/*
 * dispatch.h - from a packet to its handler.
 *
 * dispatch_packet() is called with one whole packet. Handlers (on_*.c) decode, decide, change sessions and
 * queue answers; they never write to a socket. One that finds the packet wrong ends the connection.
 */
#ifndef BRAMBLE_DISPATCH_H
#define BRAMBLE_DISPATCH_H

#include "broker/conn.h"

/* body holds frame->body_size bytes, borrowed for the call. block: the message into whose body they were
 * read, or NULL; a PUBLISH handler may take a reference on it and msg_adopt() it. */
void dispatch_packet(struct conn *conn, const struct packet_frame *frame, struct slice body,
                     struct msg *block);

/* The largest packet that may come now, fixed header included. */
uint32_t dispatch_max_packet(const struct conn *conn);

/* on_connect.c [3.1] */
void on_connect(struct conn *conn, uint8_t flags, struct slice body);
void on_disconnect(struct conn *conn, uint8_t flags, struct slice body);
/* on_login.c: the time of its refusal has come (conn->refusal), or it has waited for too long. */
void login_due(struct conn *conn);
/* The broker ends: what it noted of sessions that were discarded. */
void connect_forget(struct broker *broker);
/* on_publish.c [3.3] to [3.7] */
void on_publish(struct conn *conn, uint8_t flags, struct slice body, struct msg *block);
/* Whether it only repeats one that is being acknowledged. body is empty when it is not all there yet: no. */
bool publish_repeats(struct conn *conn, uint8_t flags, struct slice body);
/* The connection goes: what is remembered of its last PUBLISH. */
void publish_forget(struct conn *conn);
void on_ack(struct conn *conn, uint8_t type, uint8_t flags, struct slice body);
/* on_subscribe.c [3.8], [3.10] */
void on_subscribe(struct conn *conn, uint8_t flags, struct slice body);
/* Offers the next retained messages that a SUBSCRIBE still owes to a session that has taken all it had. False
 * when there are none, or not now: then it has seen to it that the connection is flushed again. */
bool subscribe_go_on(struct conn *conn);
/* The first half of a turn's time for looking them up is for the one that has waited longest for it. */
void subscribe_begin_turn(struct broker *broker);
void on_unsubscribe(struct conn *conn, uint8_t flags, struct slice body);
/* Goes on with one that a turn was not enough for (conn->asking); and gives it up. */
void subscribe_work(struct conn *conn);
void subscribe_forget(struct conn *conn);
/* The connection has left its session. */
void subscribe_left(struct broker *broker, struct session *session);

#endif
