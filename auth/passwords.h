/*
 * passwords.h - what the rest of this room may know of a loaded password file (the port is broker/auth.h).
 */
#ifndef BRAMBLE_AUTH_PASSWORDS_H
#define BRAMBLE_AUTH_PASSWORDS_H

#include "auth/lines.h"
#include "broker/auth.h"

/* A table without users, for passwords_add_line(). NULL without memory. */
struct passwords *passwords_new(void);

/* Adds what a line says, as the loader does; lines is where it stands. 0, or -1 with err "file:line: reason".
 */
int passwords_add_line(struct passwords *passwords, const struct lines *lines, struct slice line,
                       struct err *err);

/* The hash of this user as text that has passed pwhash_check(), valid as long as the table; empty: no such
 * user. */
struct slice passwords_hash(const struct passwords *passwords, struct slice user);

/* Splits a line into the name and the rest after the first colon, both without blanks around. False without a
 * colon. */
bool passwords_split(struct slice line, struct slice *user, struct slice *hash);

/* A line that says nothing: blank, or a comment ('#' as the first character, as mosquitto has it). */
bool passwords_skips(struct slice line);

#endif
