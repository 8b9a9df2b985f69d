/*
 * policy.h - what new passwords and rules do to what is live.
 *
 * A reload swaps the doors (wire.c) and calls policy_changed(). From then on nothing that the new rules
 * forbid leaves the broker, but what was already written out for a socket that takes no more now
 * (conn_out.c): at most one window. Connections and owners of sessions are looked at at once, a look-up each.
 * What sessions hold may be much, so each session carries the number of the policy that it was last looked at
 * under: it is brought up to date before anything is taken from it, and a walk brings the others up to date
 * some per turn.
 *
 *   policy_changed: connections, owners        now
 *   policy_subscriptions(session)              before it is offered anything (router.c), during a walk
 *   policy_refresh(session)                    before anything is taken from it (conn_out.c, on_subscribe.c)
 *                                              and when its client comes (on_connect.c)
 *   policy_walk                                each turn, until all are done (broker.c)
 *
 * So when no walk is under way all sessions of clients are up to date, and a message that is published costs
 * one compare, however many get it.
 */
#ifndef BRAMBLE_POLICY_H
#define BRAMBLE_POLICY_H

#include "broker/broker.h"

/* What a door was before a reload. */
struct policy_before {
    const struct config_listener *config;
    struct passwords *passwords; /* NULL: there was no password_file */
    bool acl;                    /* there was an acl_file */
};

/* Other passwords or rules are in place; before: what each door had. Clients whose user is gone or has
 * another password are disconnected, kept sessions whose user is gone are discarded; what the sessions hold
 * is looked at later, but in time. */
void policy_changed(struct broker *broker, const struct policy_before *before);

/* Whether there is still somebody to whom a right could belong: a user that was removed has none, whatever
 * the rules say. The broker's own (NULL) has. */
bool policy_knows(const struct broker *broker, const struct principal *who);

/* Has the store know that a subscription is there, with this QoS, or is not any more (CHANGE_SUBSCRIBE,
 * CHANGE_UNSUBSCRIBE), if the session is in the store. owing: its retained messages are still to be sent. */
void policy_store_subscription(struct broker *broker, const struct session *session, enum change_kind kind,
                               struct slice filter, uint8_t qos, bool owing);

/* The slow ways of what follows; use that. */
bool policy_check_subscriptions(struct broker *broker, struct session *session);
void policy_check_session(struct broker *broker, struct session *session);

/* Ends or lowers subscriptions as the rules say now. True when it did: matches found before are worth nothing
 * then. */
static inline bool policy_subscriptions(struct broker *broker, struct session *session)
{
    return session->subs_policy != broker->sessions.policy && policy_check_subscriptions(broker, session);
}

/* The same, and drops messages that may no longer be read. Looks at each that it holds: added to turn_visits.
 */
static inline void policy_refresh(struct broker *broker, struct session *session)
{
    if (session->policy != broker->sessions.policy) {
        policy_check_session(broker, session);
    }
}

/* Whether there may be sessions that are not up to date. */
static inline bool policy_walks(const struct broker *broker)
{
    return broker->sessions.walk != NULL;
}

/* Brings some more sessions up to date; at least one, whatever it holds. True when there is nothing left to
 * do. */
bool policy_walk(struct broker *broker);

#endif
