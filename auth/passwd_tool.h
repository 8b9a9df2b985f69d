/*
 * passwd_tool.h - the tool `bramble passwd`, with mosquitto_passwd's arguments; and what `bramble setup`
 * needs of it.
 */
#ifndef BRAMBLE_PASSWD_TOOL_H
#define BRAMBLE_PASSWD_TOOL_H

#include "broker/err.h"

/* Returns the exit status. */
int passwd_tool(int argc, char **argv);

/* Sets the password of user in the file (made 0600 when new), atomically. 0, or -1 with err. */
int passwd_set(const char *path, const char *user, const char *password, struct err *err);

/* Fills out with a random password of letters and digits (about 119 bits) and a zero. */
void passwd_random(char out[21]);

#endif
