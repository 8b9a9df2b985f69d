/*
 * on_login.h - what the two files of a CONNECT say to each other: on_connect.c (the packet, the session) and
 * on_login.c (who is it).
 */
#ifndef BRAMBLE_ON_LOGIN_H
#define BRAMBLE_ON_LOGIN_H

#include "broker/conn.h"

/* Finds out who it is; login_done() is called when that is known, now or in a later turn. A login that fails
 * is counted and told at once to log and decisions, and answered at its time. conn is in CONN_LOGIN, its
 * principal has the names, its will is kept. */
void login_start(struct conn *conn, const struct packet_connect *connect);

/* on_connect.c: it is who->user. */
void login_done(struct conn *conn);

/* CONNACK with a code, at once, then the end [MQTT-3.2.2-5]; counted and told. why is static text. */
void login_refuse(struct conn *conn, uint8_t code, const char *why);
/* The same because of a limit of the ACL on who may be connected, which is told with its line. */
void login_not_admitted(struct conn *conn, struct acl_answer by);

#endif
