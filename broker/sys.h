/*
 * sys.h - $SYS: what the broker says about itself, as retained messages, every sys_interval seconds; and the
 * small jobs that come round by the clock (sessions that have expired).
 */
#ifndef BRAMBLE_SYS_H
#define BRAMBLE_SYS_H

#include "broker/broker.h"

struct sys;

/* Publishes the first round. storage: whose figures are told too, until sys_stop(); NULL: there is none. NULL
 * without memory. */
struct sys *sys_new(struct broker *broker, const struct storage *storage);
/* Ends what it does, while the broker still lives. NULL is allowed. */
void sys_stop(struct sys *sys);
/* After sys_stop() and the end of all threads but the log's: until then one of them may still be handing it a
 * log line. NULL is allowed. */
void sys_free(struct sys *sys);

/* The interval may have changed. */
void sys_reload(struct sys *sys);

#endif
