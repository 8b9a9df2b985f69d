/*
 * router.c - the fan-out. See router.h.
 */
#include "broker/router.h"
#include "broker/log.h"
#include "broker/policy.h"

/* The common way: an in-process peer, or no acl_file. */
static bool nothing_to_ask(const struct door *door, enum acl_access access, struct slice topic)
{
    return !door || (!door->acl && access == ACL_READ && topic.p[0] != '$');
}

static const char kept_reason[] = "it is the topic of the access log";

static bool is_access_log(const struct broker *broker, struct slice topic)
{
    return slice_eq(topic, broker->decisions.topic);
}

/* The access log tells of everybody. No client publishes there, and one reads it only by a line of an
 * acl_file: without one nobody does. Who may not read it may not subscribe to just that either, and so learns
 * of it. */
static bool is_kept_from(const struct broker *broker, const struct principal *who, enum acl_access access,
                         struct slice topic)
{
    const struct door *door = broker_door(broker, who);
    return door && is_access_log(broker, topic) &&
           (access == ACL_WRITE || !door->acl || !acl_allows(door->acl, who, ACL_READ, topic));
}

bool router_may(const struct broker *broker, const struct principal *who, enum acl_access access,
                struct slice topic)
{
    const struct door *door = broker_door(broker, who);
    return !is_kept_from(broker, who, access, topic) &&
           (nothing_to_ask(door, access, topic) || acl_allows(door->acl, who, access, topic));
}

struct acl_answer router_may_publish(const struct broker *broker, const struct principal *who,
                                     struct slice topic, uint8_t qos, bool retain)
{
    const struct door *door = broker_door(broker, who);
    if (is_kept_from(broker, who, ACL_WRITE, topic)) {
        return (struct acl_answer){.reason = kept_reason};
    }
    return door ? acl_publishes(door->acl, who, topic, qos, retain) : (struct acl_answer){.allowed = true};
}

uint8_t router_most_qos(const struct broker *broker, const struct principal *who)
{
    return acl_most_qos(broker_door(broker, who)->acl, who).most;
}

struct acl_answer router_may_subscribe(const struct broker *broker, const struct principal *who,
                                       struct slice filter, uint8_t *qos)
{
    const struct door *door = broker_door(broker, who);
    if (!door) {
        return (struct acl_answer){.allowed = true};
    }
    if (is_kept_from(broker, who, ACL_SUBSCRIBE, filter)) {
        return (struct acl_answer){.reason = kept_reason};
    }
    uint8_t most = router_most_qos(broker, who);
    *qos = *qos > most ? most : *qos;
    return acl_subscribes(door->acl, who, filter, broker->config->acl_refuse_unreadable);
}

void router_denied(const struct broker *broker, enum decision_kind kind, const struct principal *who,
                   struct slice topic, uint8_t qos, struct acl_answer answer)
{
    const struct door *door = broker_door(broker, who);
    broker_decided(broker, &(struct decision){.kind = kind,
                                              .who = who,
                                              .topic = topic,
                                              .qos = qos,
                                              .reason = answer.reason ? answer.reason
                                                        : answer.line ? "a rule of the ACL denies it"
                                                                      : "no rule of the ACL allows it",
                                              .file = answer.line && door ? acl_path(door->acl) : NULL,
                                              .line = answer.line});
}

/* Asked once for a subscription rather than for each message, where everything that it matches may be read.
 */
static bool may_read_all(const struct broker *broker, const struct match *match)
{
    uint8_t buf[1024]; /* longer filters are asked for message by message */
    const struct door *door = broker_door(broker, match->session->who);
    size_t n = subs_filter(match->sub, buf, sizeof buf);
    bool all = n > 0 && acl_reads_all(door->acl, match->session->who, slice_of(buf, n));
    subs_reads(match->sub, all);
    return all;
}

/* Asked of each who gets it; log: it is a line of the access log, so that alone is asked once for all. */
static bool may_receive(const struct broker *broker, const struct match *match, struct slice topic, bool log)
{
    const struct principal *who = match->session->who;
    if (log) {
        return router_may(broker, who, ACL_READ, topic);
    }
    return nothing_to_ask(broker_door(broker, who), ACL_READ, topic) || match->reads == READS_ALL ||
           (match->reads == READS_UNKNOWN && may_read_all(broker, match)) ||
           router_may(broker, who, ACL_READ, topic);
}

/* Who gets it by subscriptions that are allowed now; walk: they are to be asked about that. */
static size_t match(struct broker *broker, struct slice topic, bool walk, const struct match **matches,
                    bool *cut)
{
    size_t n = subs_match(broker->subs, topic, matches, cut);
    bool ended = false;
    for (size_t i = 0; walk && i < n; i++) {
        ended |= policy_subscriptions(broker, (*matches)[i].session);
    }
    return ended ? subs_match(broker->subs, topic, matches, cut) : n;
}

/* What a session may no longer get takes no room from what it may. In a turn that has done enough it does:
 * the walk will come by. */
static void make_room(struct broker *broker, struct session *session)
{
    if (broker->turn_visits < TURN_VISITS) {
        policy_refresh(broker, session);
    }
}

/* What the broker says itself ($SYS) is not stored. Who has published at QoS 0 waits for nothing. False: no
 * memory. */
static bool retain(struct broker *broker, struct msg *msg, struct ticket *ticket)
{
    bool stored = msg->from && store_durable(broker->store);
    if ((stored ? retain_update_stored(broker->retain, msg) : retain_update(broker->retain, msg)) < 0) {
        log_write(LOG_T_ERROR, "out of memory: the message on '%.*s' is not retained",
                  SLICE_ARG(msg_topic(msg)));
        return false;
    }
    if (stored) {
        store_change(broker->store, msg->qos > 0 ? ticket : NULL, &(struct change){.kind = CHANGE_VOID});
    }
    return true;
}

bool router_publish(struct broker *broker, struct msg *msg, struct ticket *ticket)
{
    bool all = !msg->retain || retain(broker, msg, ticket);
    const struct match *matches;
    bool cut;
    struct slice topic = msg_topic(msg);
    bool log = is_access_log(broker, topic), walk = policy_walks(broker);
    size_t n = match(broker, topic, walk, &matches, &cut);
    for (size_t i = 0; i < n; i++) {
        struct session *session = matches[i].session;
        if (!may_receive(broker, &matches[i], topic, log)) {
            continue;
        }
        if (walk) {
            make_room(broker, session);
        }
        enum offer offer = session_offer(&broker->sessions, session, msg, matches[i].qos, false, ticket);
        broker->pressure |= offer == OFFER_PRESSURE;
        all &= offer != OFFER_LOST;
    }
    broker->turn_offers += (uint32_t)n;
    broker->turn_visits += subs_visits(broker->subs);
    if (cut) {
        log_write(LOG_T_ERROR, "out of memory: a message on '%.*s' did not reach all its subscribers",
                  SLICE_ARG(topic));
    }
    return all && !cut;
}

void router_publish_now(struct broker *broker, struct msg *msg)
{
    struct ticket *ticket = store_begin(broker->store);
    router_publish(broker, msg, ticket);
    store_seal(broker->store, ticket);
    ticket_unref(ticket);
}

struct retained_walk {
    struct broker *broker;
    struct session *session;
    uint8_t qos;
};

/* The rights of both ends count now, not when the message was kept: the reader's, and with
 * check_retain_source those of the client that sent it. */
static void send_retained(void *arg, struct msg *msg)
{
    struct retained_walk *walk = arg;
    struct broker *broker = walk->broker;
    struct slice topic = msg_topic(msg);
    if (!router_may(broker, walk->session->who, ACL_READ, topic)) {
        return;
    }
    if (broker->config->check_retain_source &&
        (!policy_knows(broker, msg->from) ||
         !router_may_publish(broker, msg->from, topic, msg->qos, true).allowed)) {
        return;
    }
    session_offer(&broker->sessions, walk->session, msg, walk->qos, true, NULL);
    broker->turn_offers++;
}

void router_send_retained(struct broker *broker, struct session *session, struct slice filter, uint8_t qos)
{
    struct retained_walk walk = {broker, session, qos};
    broker->turn_visits += retain_match(broker->retain, filter, send_retained, &walk);
}
