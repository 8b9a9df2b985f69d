/*
 * router.h - the only fan-out in the program: from one message to all who get it.
 *
 * It never sees a transport, nor who asks: connections, in-process peers, wills and $SYS all publish through
 * here.
 */
#ifndef BRAMBLE_ROUTER_H
#define BRAMBLE_ROUTER_H

#include "broker/broker.h"

/* Keeps a retained message, matches, checks each reader's right, offers. The deliveries become part of the
 * ticket, which the caller has begun and seals (NULL: nothing is durable). False: for want of memory somebody
 * did not get it, or it is not kept, so it must not be acknowledged. */
bool router_publish(struct broker *broker, struct msg *msg, struct ticket *ticket);

/* The same for a publisher that waits for nothing (wills, $SYS). The publisher's own right is the caller's
 * business. */
void router_publish_now(struct broker *broker, struct msg *msg);

/* Offers the retained messages that match the filter to a session that has just subscribed [MQTT-3.3.1-6]. */
void router_send_retained(struct broker *broker, struct session *session, struct slice filter, uint8_t qos);

/* Whether who may do this with the topic now, by the ACL of the door it came in by. In-process principals
 * may. */
bool router_may(const struct broker *broker, const struct principal *who, enum acl_access access,
                struct slice topic);

/* The same for a PUBLISH, a will or a retained message, and for a SUBSCRIBE, with what limits them, and the
 * line that decided. *qos is lowered to what who may have. */
struct acl_answer router_may_publish(const struct broker *broker, const struct principal *who,
                                     struct slice topic, uint8_t qos, bool retain);
struct acl_answer router_may_subscribe(const struct broker *broker, const struct principal *who,
                                       struct slice filter, uint8_t *qos);

/* The highest QoS at which who, a client, may get messages. */
uint8_t router_most_qos(const struct broker *broker, const struct principal *who);

/* Tells whoever listens what the ACL has denied to who (decision.h). */
void router_denied(const struct broker *broker, enum decision_kind kind, const struct principal *who,
                   struct slice topic, uint8_t qos, struct acl_answer answer);

#endif
