/*
 * utf8.h - is this text that may stand in a configuration?
 */
#ifndef BRAMBLE_CONFIG_UTF8_H
#define BRAMBLE_CONFIG_UTF8_H

#include <stdbool.h>

/* Well-formed UTF-8 without control characters (a tab is allowed), as mosquitto demands of values. */
bool utf8_is_text(const char *text);

#endif
