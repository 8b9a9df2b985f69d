/*
 * accesslog.h - who connected, who left and why, what was denied: a line of JSON for each decision.
 *
 * Listens to the port decision.h. Lines go where the options say: into a file and to the journal by the log's
 * thread (log.h), and onto a topic that the router keeps from clients unless an acl_file gives it to them.
 * Loop thread only.
 */
#ifndef BRAMBLE_ACCESSLOG_H
#define BRAMBLE_ACCESSLOG_H

#include "broker/broker.h"

struct accesslog;

/* Listens from now on, if the configuration names a place for the lines. NULL without memory. */
struct accesslog *accesslog_new(struct broker *broker);

/* The options may have changed: behind the exchange of the configuration, before the old one is freed. */
void accesslog_reload(struct accesslog *log);

/* Publishes no more; the ends of connections that follow are still written to file and journal. NULL is
 * allowed. */
void accesslog_stop(struct accesslog *log);
/* After the broker's end, before the log's. NULL is allowed. */
void accesslog_free(struct accesslog *log);

#endif
