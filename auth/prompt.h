/*
 * prompt.h - asks the person at the terminal for a new password.
 */
#ifndef BRAMBLE_AUTH_PROMPT_H
#define BRAMBLE_AUTH_PROMPT_H

#include "broker/err.h"
#include <stddef.h>

/* At a terminal: asks twice on stderr, without echo. Otherwise: reads one line from standard input. Fills out
 * with the password and a zero. 0, or -1 with err (empty, too long, the two differ). */
int prompt_password(char *out, size_t size, struct err *err);

#endif
