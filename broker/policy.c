/*
 * policy.c - what new passwords and rules do to what is live. See policy.h.
 *
 * Two questions are asked of whoever is known by a password file. Is it still the same user, with the same
 * password? If not, it is disconnected. Could somebody else come by this name now? Then what the old one left
 * (kept sessions) must not wait for the new one, and is discarded. So a changed password only disconnects, a
 * removed user loses everything.
 *
 *   check_conn()             everything that may end a connection at a reload
 *   check_owner()            everything that may end a kept session
 *   may_subscribe_no_more()  a subscription
 *   may_read_no_more()       a message
 */
#include "broker/policy.h"
#include "broker/conn.h"
#include "broker/log.h"
#include "broker/router.h"

enum {
    WALK_VISITS = 5000, /* sessions and messages that the walk looks at in one turn */
    VISIT_COST = 4,     /* in places of the tree (turn_visits): a question to the ACL */
};

static void revoked(const struct broker *broker, const struct principal *who, struct slice topic,
                    const char *reason)
{
    broker_decided(broker,
                   &(struct decision){.kind = DECIDED_REVOKED, .who = who, .topic = topic, .reason = reason});
}

/* ---- who is still who ---- */

enum standing {
    STANDS,
    CHANGED, /* the same user, who has to show a new password */
    GONE     /* whoever has this name now is somebody else, or nobody may have it */
};

static bool by_certificate(const struct config_listener *config)
{
    return config->use_identity_as_username || config->use_subject_as_username;
}

static bool same_way_in(const struct config_listener *a, const struct config_listener *b)
{
    return a->use_identity_as_username == b->use_identity_as_username &&
           a->use_subject_as_username == b->use_subject_as_username;
}

static uint64_t mark_of(const struct passwords *passwords, struct slice user)
{
    return passwords ? passwords_mark(passwords, user) : 0;
}

static enum standing standing(const struct policy_before *before, const struct door *door,
                              const struct principal *who)
{
    const struct config_security *security = door->config->security;
    if (!same_way_in(before->config, door->config)) {
        return GONE;
    }
    if (by_certificate(door->config)) {
        return STANDS;
    }
    if (!who->user) {
        return security->allow_anonymous ? STANDS : GONE;
    }
    if (!door->passwords) { /* names are taken as they are, or none is */
        return security->allow_anonymous && !before->passwords ? STANDS : GONE;
    }
    struct slice user = slice_str(who->user);
    uint64_t was = mark_of(before->passwords, user), is = mark_of(door->passwords, user);
    if (is != 0 && is == was) {
        return STANDS;
    }
    bool same_file = before->passwords && slice_eq(slice_str(before->config->security->password_file),
                                                   slice_str(security->password_file));
    return is != 0 && same_file ? CHANGED : GONE;
}

bool policy_knows(const struct broker *broker, const struct principal *who)
{
    const struct door *door = broker_door(broker, who);
    if (!door || by_certificate(door->config)) {
        return !who || who->listener != LISTENER_GONE;
    }
    return who->user && door->passwords ? mark_of(door->passwords, slice_str(who->user)) != 0
                                        : door->config->security->allow_anonymous;
}

struct swap {
    struct broker *broker;
    const struct policy_before *before;
};

/* Its user has no right to publish any more, whatever the rules say about the topic. */
static void forget_will(struct conn *conn)
{
    if (conn->will) {
        log_write(LOG_T_NOTICE, "Denied the will of client %s on '%.*s': its user is gone.", conn_name(conn),
                  SLICE_ARG(msg_topic(conn->will)));
        broker_decided(conn->broker, &(struct decision){.kind = DECIDED_PUBLISH,
                                                        .who = conn->who,
                                                        .topic = msg_topic(conn->will),
                                                        .qos = conn->will->qos,
                                                        .reason = "its user is gone"});
        conn_will_drop(conn);
    }
}

/* Whoever breaks a limit of the ACL on who may be connected. */
static void check_admitted(struct broker *broker, struct conn *conn)
{
    if (conn->state != CONN_UP) {
        return; /* who is not yet, is asked before it will be */
    }
    struct acl_answer answer = acl_admits(conn_door(conn)->acl, conn->who);
    if (!answer.allowed) {
        router_denied(broker, DECIDED_REVOKED, conn->who, slice_of(NULL, 0), 0, answer);
        conn_fail(conn, "%s", answer.reason);
    }
}

/* A right ends with its reason: who logged in with a password that is no longer the user's is disconnected.
 * Who is about to (CONN_LOGIN) has none yet, and must not learn by a reload whether there is such a user: it
 * is refused when others are (on_login.c). */
static void check_conn(void *arg, struct conn *conn)
{
    const struct swap *swap = arg;
    if (conn->state != CONN_UP && conn->state != CONN_LOGIN) {
        return;
    }
    enum standing now = standing(&swap->before[conn->who->listener], conn_door(conn), conn->who);
    if (conn->state == CONN_LOGIN) {
        conn->outdated |= now != STANDS;
        return;
    }
    if (now == STANDS) {
        check_admitted(swap->broker, conn);
        return;
    }
    if (now == GONE) {
        forget_will(conn);
    }
    const char *why = conn->who->user ? "its user was removed or its password changed"
                                      : "anonymous clients are no longer allowed";
    revoked(swap->broker, conn->who, slice_of(NULL, 0), why);
    conn_fail(conn, "%s", why);
}

/* Connections have ended before. True: it is discarded. */
static bool check_owner(const struct swap *swap, struct session *session)
{
    struct broker *broker = swap->broker;
    const struct door *door = broker_door(broker, session->who);
    if (!door || session->peer ||
        standing(&swap->before[session->who->listener], door, session->who) != GONE) {
        return false;
    }
    const char *user = session->who->user;
    log_write(LOG_T_NOTICE, "The session of client %s is discarded: %s%s.", session->client_id,
              user ? "its user is gone: " : "anonymous clients are no longer allowed", user ? user : "");
    revoked(broker, session->who, slice_of(NULL, 0), "its session is discarded: its user is gone");
    broker->counters.sessions_revoked++;
    session_discard(&broker->sessions, session);
    return true;
}

static bool any_rules(const struct broker *broker, const struct policy_before *before)
{
    for (size_t i = 0; i < broker->door_count; i++) {
        if (before[i].acl || broker->doors[i].acl) {
            return true;
        }
    }
    return false;
}

void policy_changed(struct broker *broker, const struct policy_before *before)
{
    struct sessions *sessions = &broker->sessions;
    struct swap swap = {broker, before};
    bool rules = any_rules(broker, before);
    conn_each(broker, check_conn, &swap);
    struct session *session, *next;
    HASH_ITER(hh, sessions->by_id, session, next) {
        if (!check_owner(&swap, session) && rules) {
            session_rights_changed(session);
        }
    }
    if (rules) {
        sessions->policy++;
        sessions->policy += sessions->policy == 0;
        sessions->walk = sessions->by_id;
    }
    if (rules || sessions->gone) {
        defer_call(broker->loop, &broker->next_turn);
    }
}

/* ---- what sessions hold ---- */

void policy_store_subscription(struct broker *broker, const struct session *session, enum change_kind kind,
                               struct slice filter, uint8_t qos, bool owing)
{
    if (session_is_stored(&broker->sessions, session)) {
        store_change(broker->store, NULL,
                     &(struct change){.kind = (uint8_t)kind,
                                      .session = session->number,
                                      .text = (uint8_t *)filter.p,
                                      .count = (uint32_t)filter.n,
                                      .qos = qos,
                                      .owing = owing});
    }
}

struct subscriber {
    struct broker *broker;
    const struct session *session;
    bool any; /* has ended, or is lower now */
};

/* One that still owes is stored again, as it is then, when it does not any more. */
static void is_lower(void *arg, struct slice filter, uint8_t qos)
{
    struct subscriber *subscriber = arg;
    if (!subscriber->session->owed) {
        policy_store_subscription(subscriber->broker, subscriber->session, CHANGE_SUBSCRIBE, filter, qos,
                                  false);
    }
}

static bool may_subscribe_no_more(void *arg, struct slice filter, uint8_t qos)
{
    struct subscriber *subscriber = arg;
    const struct session *session = subscriber->session;
    struct acl_answer answer = router_may_subscribe(subscriber->broker, session->who, filter, &qos);
    if (answer.allowed) {
        return false;
    }
    subscriber->any = true;
    policy_store_subscription(subscriber->broker, session, CHANGE_UNSUBSCRIBE, filter, 0, false);
    log_write(LOG_T_NOTICE, "The subscription of %s to '%.*s' has ended: it is no longer allowed.",
              session->client_id, SLICE_ARG(filter));
    router_denied(subscriber->broker, DECIDED_REVOKED, session->who, filter, qos, answer);
    return true;
}

/* Those that are no longer allowed end; those above the QoS that the ACL allows come down to it. */
bool policy_check_subscriptions(struct broker *broker, struct session *session)
{
    const struct door *door = session->gone ? NULL : broker_door(broker, session->who);
    struct subscriber subscriber = {broker, session, false};
    session->subs_policy = broker->sessions.policy;
    if (!door) {
        return false;
    }
    subscriber.any = subs_lower(session, router_most_qos(broker, session->who), is_lower, &subscriber);
    if (acl_limits_subscribing(door->acl) || broker->config->acl_refuse_unreadable) {
        broker->turn_visits += VISIT_COST * (size_t)session->sub_count;
        subs_sweep(broker->subs, session, may_subscribe_no_more, &subscriber);
    }
    return subscriber.any;
}

static bool may_read_no_more(void *arg, const struct session *session, const struct msg *msg)
{
    return !router_may(arg, session->who, ACL_READ, msg_topic(msg));
}

static void say_dropped(struct broker *broker, const struct session *session, uint32_t count)
{
    char reason[64];
    broker->counters.messages_revoked += count;
    snprintf(reason, sizeof reason, "%u waiting messages may no longer be read", count);
    log_write(LOG_T_NOTICE, "Messages for client %s are dropped: %s.", session->client_id, reason);
    revoked(broker, session->who, slice_of(NULL, 0), reason);
}

void policy_check_session(struct broker *broker, struct session *session)
{
    policy_subscriptions(broker, session);
    session->policy = broker->sessions.policy;
    const struct door *door = session->gone ? NULL : broker_door(broker, session->who);
    if (!door) { /* without an acl_file, too: the access log is then for nobody */
        return;
    }
    broker->turn_visits +=
        VISIT_COST * (size_t)(session->queue0.count + session->queue.count + session->sent.count);
    uint32_t count = session_sweep(&broker->sessions, session, may_read_no_more, broker);
    if (count > 0) {
        say_dropped(broker, session, count);
    }
}

bool policy_walk(struct broker *broker)
{
    struct sessions *sessions = &broker->sessions;
    size_t visits = broker->turn_visits, most = visits + VISIT_COST * (size_t)WALK_VISITS;
    while (sessions->walk && broker->turn_visits < most) {
        struct session *session = sessions->walk;
        sessions->walk = session->hh.next;
        policy_refresh(broker, session);
        broker->turn_visits += VISIT_COST;
    }
    broker->turn_visits = visits;
    return !sessions->walk;
}
