/*
 * conn_will.c - wills, and what the store has to know of them.
 *
 * A will that is retained or of QoS 1 or 2 is stored, also that of a client with a clean session: when the
 * broker itself ends without a word, whoever starts next publishes it. Of a kept session CONNACK waits for
 * that. Of a clean one it is only noted, and goes with a later batch: a client that comes and goes between
 * two of them costs no write.
 *
 *               conn_will_store()                   conn_will_collect()
 *   WILL_HERE -- clean session --> WILL_NOTED ----- a batch is made -----> WILL_STORED
 *            \-- kept session ---------------------------------------------^
 *
 * Whichever way a stored one ends, that it is gone is stored as well: with what it is published to in one
 * transaction, or a crash between the two would lose it or publish it twice.
 */
#include "broker/conn.h"
#include "broker/log.h"
#include "broker/policy.h"
#include "broker/router.h"

bool conn_will_durable(const struct conn *conn)
{
    const struct msg *will = conn->will;
    return will && (will->retain || will->qos > 0) && store_durable(conn->broker->store);
}

bool conn_will_urgent(const struct conn *conn)
{
    return conn_will_durable(conn) && !conn->clean;
}

/* ---- the list of those noted ---- */

static void note(struct conn *conn)
{
    struct broker *broker = conn->broker;
    conn->will_state = WILL_NOTED;
    conn->next_will = broker->noted_wills;
    conn->will_link = &broker->noted_wills;
    if (conn->next_will) {
        conn->next_will->will_link = &conn->next_will;
    }
    broker->noted_wills = conn;
    store_change(broker->store, NULL, &(struct change){.kind = CHANGE_VOID}); /* to be collected */
}

static void take_off(struct conn *conn)
{
    *conn->will_link = conn->next_will;
    if (conn->next_will) {
        conn->next_will->will_link = conn->will_link;
    }
    conn->will_state = WILL_HERE;
}

/* ---- what is stored ---- */

static void change(struct broker *broker, struct ticket *ticket, enum change_kind kind, const char *client_id,
                   struct msg *will)
{
    store_change(broker->store, ticket,
                 &(struct change){.kind = (uint8_t)kind,
                                  .text = (uint8_t *)client_id,
                                  .count = (uint32_t)strlen(client_id),
                                  .msg = will});
}

void conn_will_store(struct conn *conn, struct ticket *ticket)
{
    if (conn_will_urgent(conn)) {
        change(conn->broker, ticket, CHANGE_WILL, conn->who->client_id, conn->will);
        conn->will_state = WILL_STORED;
    } else if (conn_will_durable(conn)) {
        note(conn);
    }
}

void conn_will_collect(struct broker *broker)
{
    while (broker->noted_wills) {
        struct conn *conn = broker->noted_wills;
        take_off(conn);
        change(broker, NULL, CHANGE_WILL, conn->who->client_id, conn->will);
        conn->will_state = WILL_STORED;
    }
}

/* Nobody waits for it. Of a kept session it is urgent all the same: a DISCONNECT was read, so a crash just
 * now must not publish it. */
static void gone(struct broker *broker, const char *client_id, bool urgent)
{
    struct ticket *ticket = urgent ? store_begin(broker->store) : NULL;
    change(broker, ticket, CHANGE_WILL_GONE, client_id, NULL);
    store_seal(broker->store, ticket);
    ticket_unref(ticket);
}

/* ---- its end ---- */

void will_publish(struct broker *broker, const char *client_id, struct msg *will, bool stored)
{
    /* The right to publish is asked for when it is used, not when CONNECT stored the will. */
    struct slice topic = msg_topic(will);
    struct acl_answer answer = policy_knows(broker, will->from)
                                   ? router_may_publish(broker, will->from, topic, will->qos, will->retain)
                                   : (struct acl_answer){.reason = "its user is gone"};
    if (!answer.allowed) {
        router_denied(broker, DECIDED_PUBLISH, will->from, topic, will->qos, answer);
        log_write(LOG_T_NOTICE, "Denied the will of client %s on '%.*s'.", client_id, SLICE_ARG(topic));
        if (stored) {
            gone(broker, client_id, false);
        }
    } else if (stored) {
        struct ticket *ticket = store_begin(broker->store);
        change(broker, ticket, CHANGE_WILL_GONE, client_id, NULL); /* makes it whole: first */
        router_publish(broker, will, ticket);
        store_seal(broker->store, ticket);
        ticket_unref(ticket);
    } else {
        router_publish_now(broker, will);
    }
}

/* It is the connection's no more; whether the store has it. */
static bool let_go(struct conn *conn)
{
    bool stored = conn->will_state == WILL_STORED;
    if (conn->will_state == WILL_NOTED) {
        take_off(conn);
    }
    conn->will_state = WILL_HERE;
    conn->will = NULL;
    return stored;
}

void conn_will_drop(struct conn *conn)
{
    struct msg *will = conn->will;
    if (let_go(conn)) {
        gone(conn->broker, conn->who->client_id, !conn->clean);
    }
    msg_unref(will); /* [MQTT-3.1.2-10] */
}

void conn_will_end(struct conn *conn)
{
    struct msg *will = conn->will;
    if (!will || conn->disconnecting) {
        conn_will_drop(conn);
        return;
    }
    bool stored = let_go(conn);
    will_publish(conn->broker, conn->who->client_id, will, stored);
    msg_unref(will);
}
