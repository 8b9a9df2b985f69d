/*
 * lines.h - reads an administrator's text file line by line, with the bounds and complaints both loaders
 * want.
 *
 * A line has at most LINES_MAX bytes, no zero byte, and comes without its newline. Any thread may use a
 * reader of its own.
 */
#ifndef BRAMBLE_AUTH_LINES_H
#define BRAMBLE_AUTH_LINES_H

#include "broker/err.h"
#include "broker/slice.h"

enum { LINES_MAX = 65536 };

struct lines;

/* Opens a regular file (or a device such as /dev/null). Files that others can write to, and files with
 * secrets that others can read, are warned of in the log. NULL with err. path is borrowed. */
struct lines *lines_open(const char *path, bool secret, struct err *err);
void lines_close(struct lines *lines);

/* 1 and a line that is valid until the next call; 0 at the end; -1 with err. */
int lines_next(struct lines *lines, struct slice *line, struct err *err);

/* Whether the line that was read last is the last one and has no newline, as in a file that was cut off. */
bool lines_unfinished(const struct lines *lines);

/* The number of the line that was read last, from 1. */
unsigned lines_number(const struct lines *lines);

/* Sets err to "file:line: " and the reason. Returns -1. */
int lines_fail(const struct lines *lines, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Logs a warning about the line that was read last. */
void lines_warn(const struct lines *lines, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Without the blanks (spaces, tabs, carriage returns..) at both ends. */
struct slice lines_trim(struct slice s);

#endif
