/*
 * accesslog_line.h - what a line of the access log says: one JSON object for a decision.
 *
 * Names and topics are strangers' text, names of certificates any bytes: each is escaped, and cut when its
 * escaped form would be too long, which the field "cut" says. So a line is valid JSON and at most
 * LOG_ACCESS_MAX bytes long, whoever it is about. Pure.
 */
#ifndef BRAMBLE_ACCESSLOG_LINE_H
#define BRAMBLE_ACCESSLOG_LINE_H

#include "broker/config.h"
#include "broker/decision.h"

/* Writes the line, without newline, into out (LOG_ACCESS_MAX bytes) and returns its length. listener: by
 * which the client came, NULL: none. wall: ms since 1970. */
size_t accesslog_line(char *out, const struct decision *decision, const struct config_listener *listener,
                      int64_t wall);

/* The same for what was left out. */
size_t accesslog_left_out(char *out, uint64_t count, int64_t wall);

#endif
