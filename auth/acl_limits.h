/*
 * acl_limits.h - the limits of a section of an acl_file: how they are read and kept. What they mean stands in
 * acl.c; what they answer is acl_admits(), acl_publishes() and acl_most_qos() of broker/acl.h.
 */
#ifndef BRAMBLE_AUTH_ACL_LIMITS_H
#define BRAMBLE_AUTH_ACL_LIMITS_H

#include "auth/lines.h"

struct limits;

/* Whether a line that begins with this word is a limit. */
bool limits_word(struct slice word);

/* Reads the value behind such a word. *limits is made when it is NULL. 0, or -1 with err. */
int limits_load(struct limits **limits, struct lines *lines, struct slice word, struct slice value,
                struct err *err);

/* NULL is allowed. */
void limits_free(struct limits *limits);

#endif
