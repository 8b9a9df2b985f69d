/*
 * local.h - an in-process peer: publishes and subscribes like a client, without a connection.
 *
 * For what the broker says about itself ($SYS, the access log) and for what it listens to (attributes of
 * usage control). It has a session like everybody, is flushed once per turn like everybody, and needs no
 * right: it is the broker.
 */
#ifndef BRAMBLE_LOCAL_H
#define BRAMBLE_LOCAL_H

#include "broker/broker.h"

struct local;

/* fn(arg, msg) is called for each message that its subscriptions bring, at the end of the turn; msg is
 * borrowed. It may publish. name is its client id, which no client can then use. NULL without memory. */
struct local *local_new(struct broker *broker, const char *name, void (*fn)(void *arg, const struct msg *msg),
                        void *arg);
/* NULL is allowed. */
void local_free(struct local *local);

/* 0, or -1 without memory. The retained messages come as well. */
int local_subscribe(struct local *local, const char *filter, uint8_t qos);

/* Publishes at once. 0, or -1 without memory. */
int local_publish(struct local *local, const char *topic, struct slice payload, uint8_t qos, bool retain);

#endif
