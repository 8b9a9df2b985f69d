/*
 * clock.h - what time it is.
 *
 * Keep alive, timeouts and expiry count on CLOCK_BOOTTIME: it cannot be set, and it goes on while the machine
 * sleeps. A Pi has no clock at start, so nothing that must work uses the wall clock; it is for log lines
 * only.
 */
#ifndef BRAMBLE_CLOCK_H
#define BRAMBLE_CLOCK_H

#include <stdint.h>

/* Milliseconds since boot (CLOCK_BOOTTIME). Never goes back. */
int64_t clock_ms(void);

/* Microseconds since boot. */
int64_t clock_us(void);

#endif
