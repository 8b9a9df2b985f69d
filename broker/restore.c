/*
 * restore.c - from rows to sessions. See restore.h.
 *
 * The store names sessions by number. Messages come in the order of their numbers, so all deliveries of one
 * come together and share it. A session that is to be discarded is restored first, whole: discarding it is
 * then what it always is, and the store learns what is not owed any more.
 */
#include "broker/restore.h"
#include "broker/clock.h"
#include "broker/conn.h"
#include "broker/log.h"
#include "broker/policy.h"
#include "broker/session_owed.h"
#include "broker/stored.h"
#include <inttypes.h>
#include <stdlib.h>

enum {
    PROGRESS_MS = 1000,
    PROGRESS_ROWS = 1024, /* between two looks at the clock */
};

struct numbered {
    UT_hash_handle hh;
    uint64_t number;
    struct session *session;
};

struct left_will {
    struct left_will *next;
    char *client_id;
    struct msg *msg;
};

struct restore {
    struct broker *broker;
    struct storage_reader reader;
    struct stored_origins *origins;
    struct numbered *sessions;
    struct numbered *last; /* that was looked for */
    uint64_t message_number;
    struct msg *message; /* the last one that is owed; a reference */
    struct left_will *wills;

    uint64_t owing_session;
    struct packet_filters owing; /* its filters with retained messages to come, as in a SUBSCRIBE */
    uint8_t *owing_bytes;
    size_t owing_size;

    uint64_t rows, sessions_read, subscriptions, retained, deliveries, wills_read, discarded;
    int64_t said;
};

static void progress(struct restore *restore)
{
    if (++restore->rows % PROGRESS_ROWS != 0) {
        return;
    }
    int64_t now = clock_ms();
    if (now - restore->said >= PROGRESS_MS) {
        restore->said = now;
        log_write(LOG_T_INFO,
                  "Reading the store: %" PRIu64 " sessions, %" PRIu64 " retained and %" PRIu64
                  " waiting messages so far.",
                  restore->sessions_read, restore->retained, restore->deliveries);
    }
}

/* NULL: there is no such session, and nothing is owed to it. */
static struct session *by_number(struct restore *restore, uint64_t number)
{
    if (!restore->last || restore->last->number != number) {
        struct numbered *found;
        HASH_FIND(hh, restore->sessions, &number, sizeof number, found);
        if (!found) {
            return NULL;
        }
        restore->last = found;
    }
    return restore->last->session;
}

/* ---- sessions ---- */

static int note_number(struct restore *restore, uint64_t number, struct session *session)
{
    struct numbered *numbered = malloc(sizeof *numbered);
    if (!numbered) {
        return -1;
    }
    numbered->number = number;
    numbered->session = session;
    HASH_ADD(hh, restore->sessions, number, sizeof numbered->number, numbered);
    if (!numbered->hh.tbl) {
        free(numbered);
        return -1;
    }
    return 0;
}

static int on_session(void *arg, uint64_t number, const char *client_id, const struct stored_origin *origin)
{
    struct restore *restore = arg;
    struct sessions *sessions = &restore->broker->sessions;
    struct principal *who;
    if (stored_principal(restore->origins, origin, &who) < 0) {
        return -1;
    }
    if (!who || session_find(sessions, client_id)) { /* clients have a principal, and an id each */
        log_write(LOG_T_WARNING, "A stored session of client %s is passed over: it is nobody's.", client_id);
        principal_unref(who);
        return 0;
    }
    struct session *session = session_restore(sessions, number, client_id, who);
    principal_unref(who);
    restore->sessions_read++;
    progress(restore);
    return session ? note_number(restore, number, session) : -1;
}

/* The filters of one session whose retained messages are still to come: they start when its client does. */
static int owe(struct restore *restore)
{
    struct slice filter;
    uint8_t qos;
    struct session *session = restore->owing.rest.n > 0 ? by_number(restore, restore->owing_session) : NULL;
    if (!session) {
        return 0;
    }
    struct owed *owed = owed_new(restore->owing.rest.n);
    restore->owing.rest.p = restore->owing_bytes;
    while (owed && packet_next_filter(&restore->owing, &filter, &qos)) {
        owed_put(owed, filter, qos);
    }
    restore->owing.rest.n = 0;
    if (owed) {
        owed_add(session, owed, NULL); /* of more than may be owed it loses these, as with a SUBSCRIBE */
    }
    return owed ? 0 : -1;
}

static int note_owing(struct restore *restore, uint64_t number, struct slice filter, uint8_t qos)
{
    size_t used = restore->owing.rest.n, more = 2 + filter.n + 1;
    if (restore->owing_session != number) {
        if (owe(restore) < 0) {
            return -1;
        }
        restore->owing_session = number;
        used = 0;
    }
    if (used + more > restore->owing_size) {
        size_t size = 2 * (used + more);
        uint8_t *grown = realloc(restore->owing_bytes, size);
        if (!grown) {
            return -1;
        }
        restore->owing_bytes = grown;
        restore->owing_size = size;
    }
    uint8_t *p = restore->owing_bytes + used;
    packet_put_u16(p, (uint16_t)filter.n);
    memcpy(p + 2, filter.p, filter.n);
    p[2 + filter.n] = qos;
    restore->owing.rest.n = used + more;
    return 0;
}

static int on_subscription(void *arg, uint64_t number, struct slice filter, uint8_t qos, bool owing)
{
    struct restore *restore = arg;
    struct session *session = by_number(restore, number);
    if (!session) {
        return 0;
    }
    restore->subscriptions++;
    progress(restore);
    if (subs_add(restore->broker->subs, session, filter, qos) < 0) {
        return -1;
    }
    return owing ? note_owing(restore, number, filter, qos) : 0;
}

static int on_inbound(void *arg, uint64_t number, uint16_t id)
{
    struct session *session = by_number(arg, number);
    progress(arg);
    return session && !inbound_has(&session->inbound, id, NULL) ? inbound_add(&session->inbound, id, NULL)
                                                                : 0;
}

static int on_released(void *arg, uint64_t number, uint16_t id)
{
    struct session *session = by_number(arg, number);
    progress(arg);
    return session ? session_restore_released(session, id) : 0;
}

/* ---- messages ---- */

/* One whose publisher's listener is gone stays; with check_retain_source nobody gets it (policy_knows()). */
static int on_retained(void *arg, const struct stored_message *message)
{
    struct restore *restore = arg;
    struct msg *msg = stored_msg(restore->origins, message);
    int result = msg ? retain_update(restore->broker->retain, msg) : -1;
    msg_unref(msg);
    restore->retained++;
    progress(restore);
    return result;
}

static int on_delivery(void *arg, const struct stored_delivery *delivery)
{
    struct restore *restore = arg;
    struct session *session = by_number(restore, delivery->session);
    progress(restore);
    if (!session) {
        return 0;
    }
    if (!restore->message || restore->message_number != delivery->message->number) {
        msg_unref(restore->message);
        restore->message = stored_msg(restore->origins, delivery->message);
        restore->message_number = delivery->message->number;
    }
    restore->deliveries++;
    return restore->message
               ? session_restore_delivery(&restore->broker->sessions, session, restore->message, delivery)
               : -1;
}

static int on_will(void *arg, const char *client_id, const struct stored_message *message)
{
    struct restore *restore = arg;
    struct left_will *will = calloc(1, sizeof *will);
    if (will) {
        will->client_id = strdup(client_id);
        will->msg = stored_msg(restore->origins, message);
        will->next = restore->wills;
        restore->wills = will;
    }
    restore->wills_read++;
    progress(restore);
    return will && will->client_id && will->msg ? 0 : -1;
}

/* ---- from the beginning to the end ---- */

struct restore *restore_new(struct broker *broker)
{
    struct restore *restore = calloc(1, sizeof *restore);
    if (!restore) {
        return NULL;
    }
    restore->broker = broker;
    restore->owing.with_qos = true;
    restore->said = clock_ms();
    restore->origins = stored_origins_new(UINT32_MAX); /* as many as there are, until it is done */
    restore->reader = (struct storage_reader){
        .arg = restore,
        .session = on_session,
        .subscription = on_subscription,
        .inbound = on_inbound,
        .released = on_released,
        .retained = on_retained,
        .delivery = on_delivery,
        .will = on_will,
    };
    if (!restore->origins) {
        free(restore);
        return NULL;
    }
    return restore;
}

const struct storage_reader *restore_reader(struct restore *restore)
{
    return &restore->reader;
}

int restore_loaded(struct restore *restore, uint64_t last)
{
    store_go_on(restore->broker->store, last);
    return owe(restore);
}

static void discard(struct restore *restore, struct session *session, const char *why)
{
    struct broker *broker = restore->broker;
    log_write(LOG_T_NOTICE, "The stored session of client %s is discarded: %s.", session->client_id, why);
    broker_decided(broker, &(struct decision){.kind = DECIDED_REVOKED, .who = session->who, .reason = why});
    broker->counters.sessions_revoked++;
    restore->discarded++;
    session_discard(&broker->sessions, session);
}

/* persistent_client_expiration counts from now: for how long the broker was away nobody knows. */
static void look_at_owners(struct restore *restore)
{
    struct broker *broker = restore->broker;
    int64_t now = loop_now(broker->loop);
    struct numbered *numbered, *next;
    HASH_ITER(hh, restore->sessions, numbered, next) {
        struct session *session = numbered->session;
        session->offline_since = now;
        if (session->who->listener == LISTENER_GONE) {
            discard(restore, session, "the listener by which it came is gone");
        } else if (!policy_knows(broker, session->who)) {
            discard(restore, session,
                    session->who->user ? "its user is gone" : "anonymous clients are no longer allowed");
        }
    }
    broker->sessions.walk = broker->sessions.by_id; /* the rest are asked for their rights */
    defer_call(broker->loop, &broker->next_turn);
}

static void publish_wills(struct restore *restore)
{
    for (struct left_will *will = restore->wills; will; will = will->next) {
        will_publish(restore->broker, will->client_id, will->msg, true);
    }
}

void restore_finish(struct restore *restore)
{
    look_at_owners(restore);
    publish_wills(restore);
    log_write(LOG_T_INFO,
              "From the store: %" PRIu64 " sessions (%" PRIu64 " of them are discarded) with %" PRIu64
              " subscriptions and %" PRIu64 " waiting messages; %" PRIu64 " retained messages, %" PRIu64
              " wills.",
              restore->sessions_read, restore->discarded, restore->subscriptions, restore->deliveries,
              restore->retained, restore->wills_read);
    restore_free(restore);
}

void restore_free(struct restore *restore)
{
    if (!restore) {
        return;
    }
    struct numbered *numbered, *next;
    HASH_ITER(hh, restore->sessions, numbered, next) {
        HASH_DEL(restore->sessions, numbered);
        free(numbered);
    }
    while (restore->wills) {
        struct left_will *will = restore->wills;
        restore->wills = will->next;
        free(will->client_id);
        msg_unref(will->msg);
        free(will);
    }
    msg_unref(restore->message);
    stored_origins_free(restore->origins);
    free(restore->owing_bytes);
    free(restore);
}
