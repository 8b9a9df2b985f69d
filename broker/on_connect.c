/*
 * on_connect.c - CONNECT and DISCONNECT.
 *
 *   on_connect: decode, keep what is needed in conn and principal
 *      -> login_start() (on_login.c), which may take a while; nothing is read meanwhile
 *           -> login_done(): it has shown who it is
 *                -> accept_client(): takeover, CleanSession, session, CONNACK, will, in this order
 *
 * CONNACK waits for the disk when the store has to forget a session or to know a will: a client that was told
 * "clean" must not meet its old session after a power cut. Until it leaves nothing else does, and nothing
 * behind CONNECT is parsed (conn_hold.c). While the store has failed such a client is told so, rather than
 * kept waiting.
 *
 * Nothing of the old session is touched before the new client has shown who it is [MQTT-3.1.4-3]. A kept
 * session belongs to client id and user: another user never gets its queue.
 */
#include "broker/dispatch.h"
#include "broker/log.h"
#include "broker/on_login.h"
#include "broker/policy.h"
#include "broker/router.h"
#include "broker/topic.h"
#include <stdlib.h>
#include <sys/random.h>

/* What may wait to be stored while that cannot be done. */
enum { PENDING_BYTES = 16 * 1024 * 1024, PENDING_CHANGES = 100000 };

static char *copy_string(struct slice s)
{
    char *copy = calloc(1, s.n + 1);
    if (copy && s.n > 0) {
        memcpy(copy, s.p, s.n);
    }
    return copy;
}

/* The id the server gives [MQTT-3.1.3-6]: a prefix and 128 random bits, written as a UUID. */
static char *make_client_id(const char *prefix)
{
    uint8_t r[16];
    prefix = prefix ? prefix : "";
    size_t size = strlen(prefix) + 37;
    char *id = getrandom(r, sizeof r, 0) == sizeof r ? malloc(size) : NULL;
    if (id) {
        snprintf(id, size, "%s%02X%02X%02X%02X-%02X%02X-%02X%02X-%02X%02X-%02X%02X%02X%02X%02X%02X", prefix,
                 r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13],
                 r[14], r[15]);
    }
    return id;
}

/* ---- whose session is it ---- */

/* The same name in another password file is another user. */
static bool other_users_file(const struct broker *broker, const struct principal *a,
                             const struct principal *b)
{
    const struct door *da = &broker->doors[a->listener], *db = &broker->doors[b->listener];
    return a->user && !slice_eq(slice_str(da->config->security->password_file),
                                slice_str(db->config->security->password_file));
}

static bool another_users(const struct conn *conn)
{
    const struct session *old = session_find(&conn->broker->sessions, conn->who->client_id);
    if (!old) {
        return false;
    }
    if (!old->who) {
        return true; /* the broker's own (local.h) */
    }
    if (!slice_eq(slice_str(old->who->user), slice_str(conn->who->user)) ||
        !old->who->user != !conn->who->user) {
        return true;
    }
    return other_users_file(conn->broker, old->who, conn->who);
}

/* discard_session_of_other_user; the broker's own stay. */
static bool may_discard(const struct conn *conn)
{
    return conn->broker->config->discard_session_of_other_user &&
           session_find(&conn->broker->sessions, conn->who->client_id)->who;
}

/* ---- sessions that the store still has to forget ---- */

/* Discarded, and not committed yet: whoever comes by the same client id meanwhile finds no session, but is
 * not told so before it is true for good. One for each CONNECT that waits for that, as long as it does. */
struct discard {
    struct discard *next;
    struct ticket *ticket;
    char client_id[];
};

static void note_discard(struct conn *conn, struct ticket *ticket)
{
    const char *client_id = conn->who->client_id;
    size_t size = strlen(client_id) + 1;
    struct discard *discard = malloc(sizeof *discard + size);
    if (!discard) {
        return; /* this one waits all the same */
    }
    memcpy(discard->client_id, client_id, size);
    discard->ticket = ticket_ref(ticket);
    discard->next = conn->broker->discards;
    conn->broker->discards = discard;
}

/* Drops those that are done; all: also the others. Whether one of this client id is left. */
static bool look_discards(struct broker *broker, const char *client_id, bool all)
{
    bool found = false;
    for (struct discard **at = &broker->discards, *discard; (discard = *at);) {
        if (all || ticket_closed(discard->ticket)) {
            *at = discard->next;
            ticket_unref(discard->ticket);
            free(discard);
            continue;
        }
        found |= client_id && strcmp(discard->client_id, client_id) == 0;
        at = &discard->next;
    }
    return found;
}

void connect_forget(struct broker *broker)
{
    look_discards(broker, NULL, true);
}

/* ---- accepting ---- */

/* Ends whoever uses the client id now [MQTT-3.1.4-2], and the old session with CleanSession 1 [MQTT-3.1.2-6]
 * or when it is another user's, which login_done() has allowed. Returns the session to go on with, or NULL.
 * *unstored: one goes, or has gone just now, that is in the store. */
static struct session *take_over(struct conn *conn, bool *unstored)
{
    struct sessions *sessions = &conn->broker->sessions;
    struct session *old = session_find(sessions, conn->who->client_id);
    if (old && old->peer) {
        old->peer->ops->kick(old->peer, "the same client id connected again");
        old = session_find(sessions, conn->who->client_id); /* a clean one is gone */
    }
    *unstored = look_discards(conn->broker, conn->who->client_id, false);
    if (old && (conn->clean || another_users(conn))) {
        *unstored |= session_is_stored(sessions, old);
        session_destroy(sessions, old);
        old = NULL;
    }
    return old;
}

static void log_accepted(const struct conn *conn)
{
    const struct principal *who = conn->who;
    if (conn->broker->config->connection_messages) {
        log_write(LOG_T_NOTICE, "New client connected from %s:%u as %s (p%d, c%d, k%u%s%s%s%s%s).",
                  who->address, who->port, who->client_id, conn->level == 3 ? 1 : 2, conn->clean,
                  conn->keepalive, who->user ? ", u'" : "", who->user ? who->user : "", who->user ? "'" : "",
                  who->tls_version ? ", " : "", who->tls_version ? who->tls_version : "");
    }
}

/* False: no memory for the answer, and the connection has ended. */
static bool greet(struct conn *conn, bool present, struct ticket *ticket)
{
    uint8_t answer[4] = {0};
    size_t n = packet_put_connack(answer, present, CONNACK_ACCEPTED); /* [MQTT-3.2.2-2], [MQTT-3.2.2-3] */
    if (outq_hold(&conn->out, ticket, OUTQ_FIRST, conn->id, answer, n) < 0) {
        conn_fail(conn, "out of memory for an answer");
        return false;
    }
    peer_wake(&conn->peer);
    return true;
}

static void begin(struct conn *conn, struct session *session, struct ticket *ticket)
{
    conn->session = session;
    conn->accepted = true;
    conn_greeted(conn);
    session_attach(&conn->broker->sessions, session, &conn->peer, conn->who);
    policy_refresh(conn->broker, session); /* before anything is published to it */
    conn_will_store(conn, ticket);
    log_accepted(conn);
    broker_decided(
        conn->broker,
        &(struct decision){.kind = DECIDED_CONNECT, .allowed = true, .who = conn->who, .reason = "accepted"});
    conn_start_keepalive(conn);
    conn_hold_greeting(conn);
    conn_resume(conn);
}

static void accept_client(struct conn *conn)
{
    struct sessions *sessions = &conn->broker->sessions;
    bool unstored = false;
    struct session *session = take_over(conn, &unstored);
    bool present = session != NULL;
    if (!session) {
        session = session_new(sessions, conn->who->client_id, conn->who, conn->clean);
    }
    if (!session) {
        login_refuse(conn, CONNACK_UNAVAILABLE, "out of memory for its session");
        return;
    }
    struct ticket *ticket = unstored || conn_will_urgent(conn) ? store_begin(conn->broker->store) : NULL;
    conn->state = CONN_UP;
    if (greet(conn, present && conn->level >= 4, ticket)) {
        begin(conn, session, ticket);
    } else if (!present) {
        session_destroy(sessions, session);
    }
    if (ticket) { /* behind what was put before */
        store_change(conn->broker->store, ticket, &(struct change){.kind = CHANGE_VOID});
        store_seal(conn->broker->store, ticket);
        if (unstored) {
            note_discard(conn, ticket);
        }
        ticket_unref(ticket);
    }
}

/* ---- who is it ---- */

/* use_username_as_clientid: who has shown a user name has shown its client id with it. */
static bool name_by_user(struct conn *conn)
{
    char *id = conn->who->user && *conn->who->user ? strdup(conn->who->user) : NULL;
    if (!id) {
        return false;
    }
    free(conn->who->client_id);
    conn->who->client_id = id;
    return true;
}

static bool clients_full(struct broker *broker, const char *client_id)
{
    int most = broker->config->global_max_clients;
    unsigned own = 1; /* the session of $SYS is nobody's */
    return most >= 0 && HASH_COUNT(broker->sessions.by_id) >= (unsigned)most + own &&
           !session_find(&broker->sessions, client_id);
}

static bool much_waits(const struct store *store)
{
    return store_counts(store)->pending_bytes > PENDING_BYTES || store_changes(store) > PENDING_CHANGES;
}

/* What it asks for has to be stored before it is answered; or will have to be some time (a will, a new
 * session), when much waits for that already: clients that come and go would fill the memory as long as the
 * disk does not work. And the store has failed: it is told so. */
static bool not_storable(const struct conn *conn)
{
    const struct broker *broker = conn->broker;
    const struct session *old = session_find(&conn->broker->sessions, conn->who->client_id);
    if (!*store_trouble(broker->store)) {
        return false;
    }
    return conn_will_urgent(conn) ||
           ((conn_will_durable(conn) || (!old && !conn->clean)) && much_waits(broker->store)) ||
           (old && session_is_stored(&broker->sessions, old) && (conn->clean || another_users(conn)));
}

/* It has shown who it is. What else speaks against letting it in is asked here, and answered at once. */
void login_done(struct conn *conn)
{
    bool by_user = conn_door(conn)->config->use_username_as_clientid;
    struct acl_answer admitted;
    if (by_user && !name_by_user(conn)) {
        login_refuse(conn, CONNACK_REFUSED, "use_username_as_clientid needs a user name");
    } else if (!(admitted = acl_admits(conn_door(conn)->acl, conn->who)).allowed) {
        login_not_admitted(conn, admitted);
    } else if (clients_full(conn->broker, conn->who->client_id)) {
        login_refuse(conn, CONNACK_UNAVAILABLE, "global_max_clients is reached");
    } else if (broker_memory_full(conn->broker, 0, MEMORY_TO_KEEP) &&
               !session_find(&conn->broker->sessions, conn->who->client_id)) {
        login_refuse(conn, CONNACK_UNAVAILABLE, "memory_limit is reached");
    } else if (another_users(conn) && !may_discard(conn)) {
        login_refuse(conn, CONNACK_REFUSED, "its client id belongs to the session of another user");
    } else if (not_storable(conn)) {
        login_refuse(conn, CONNACK_UNAVAILABLE, "it asks for what must be stored, and the store has failed");
    } else {
        accept_client(conn);
    }
}

/* ---- what it asks for ---- */

/* What of a will is not available here, or NULL. */
static const char *unwanted(const struct conn *conn, const struct packet_will *will)
{
    const struct config *config = conn->broker->config;
    if (topic_levels(will->topic) > config->max_topic_levels) {
        return "its will's topic has too many levels";
    }
    if (config->message_size_limit && will->payload.n > config->message_size_limit) {
        return "its will is larger than message_size_limit";
    }
    if (will->retain && !config->retain_available) {
        return "its will is retained, and retained messages are not available here";
    }
    if (will->qos > conn_door(conn)->config->max_qos) {
        return "the QoS of its will is higher than this listener allows";
    }
    return NULL;
}

static bool keep_will(struct conn *conn, const struct packet_connect *connect)
{
    const struct config_listener *config = conn_door(conn)->config;
    const struct packet_will *will = &connect->will;
    if (!connect->has_will) {
        return true;
    }
    const char *why = unwanted(conn, will);
    if (why) {
        login_refuse(conn, CONNACK_REFUSED, why);
        return false;
    }
    conn->will = msg_new_mounted(slice_str(config->mount_point), will->topic, will->payload, will->qos,
                                 will->retain, conn->who);
    if (!conn->will) {
        login_refuse(conn, CONNACK_UNAVAILABLE,
                     "out of memory for its will, or the will's topic with mount_point is too long");
        return false;
    }
    return true;
}

static bool keep_names(struct conn *conn, const struct packet_connect *connect)
{
    struct principal *who = conn->who;
    who->client_id = connect->client_id.n ? copy_string(connect->client_id)
                                          : make_client_id(conn_door(conn)->config->security->auto_id_prefix);
    who->user = connect->has_user ? copy_string(connect->user) : NULL;
    if (!who->client_id || (connect->has_user && !who->user)) {
        login_refuse(conn, CONNACK_UNAVAILABLE, "out of memory for its names");
        return false;
    }
    const char *prefix = conn->broker->config->clientid_prefixes;
    if (prefix && strncmp(who->client_id, prefix, strlen(prefix)) != 0) {
        login_refuse(conn, CONNACK_BAD_ID,
                     "its client id does not begin with clientid_prefixes"); /* [MQTT-3.1.3-9] */
        return false;
    }
    return true;
}

/* Rules that are answered with a code before anybody is asked who it is. 0: none is broken. */
static uint8_t wrong_wish(const struct conn *conn, const struct packet_connect *connect, const char **why)
{
    uint32_t most = conn->broker->config->max_keepalive;
    if (most && (connect->keepalive > most || (connect->keepalive == 0 && most < UINT16_MAX))) {
        *why = "its keep alive is longer than max_keepalive";
        return CONNACK_BAD_ID;
    }
    if (connect->client_id.n > 0) {
        return 0;
    }
    if (!connect->clean || connect->level == 3 ||
        !conn_door(conn)->config->security->allow_zero_length_clientid) {
        *why = "an empty client id needs CleanSession 1 and allow_zero_length_clientid"; /* [MQTT-3.1.3-8] */
        return CONNACK_BAD_ID;
    }
    return 0;
}

void on_connect(struct conn *conn, uint8_t flags, struct slice body)
{
    struct packet_connect connect;
    enum packet_error error = packet_decode_connect(flags, body, &connect);
    unsigned levels = conn_door(conn)->config->accept_protocol_versions;
    if (!error && !(levels >> connect.level & 1)) {
        error = PACKET_BAD_LEVEL;
    }
    if (error == PACKET_BAD_LEVEL) {
        login_refuse(conn, CONNACK_BAD_LEVEL, packet_error_text(error)); /* [MQTT-3.1.2-2] */
        return;
    }
    if (error) {
        conn_violation(conn, "CONNECT", packet_error_text(error)); /* [MQTT-3.1.4-1] */
        return;
    }
    const char *why;
    uint8_t code = wrong_wish(conn, &connect, &why);
    if (code) {
        login_refuse(conn, code, why);
        return;
    }
    conn->state = CONN_LOGIN;
    conn->level = connect.level;
    conn->clean = connect.clean;
    conn->keepalive = connect.keepalive;
    if (keep_names(conn, &connect) && keep_will(conn, &connect)) {
        login_start(conn, &connect);
    }
}

void on_disconnect(struct conn *conn, uint8_t flags, struct slice body)
{
    enum packet_error error = packet_decode_empty(flags, body);
    if (error) {
        conn_violation(conn, "DISCONNECT",
                       packet_error_text(error)); /* a failure: the will is published [MQTT-3.14.1-1] */
        return;
    }
    conn->disconnecting = true; /* [MQTT-3.14.4-3] */
    if (conn->broker->config->connection_messages) {
        log_write(LOG_T_NOTICE, "Client %s disconnected.", conn_name(conn));
    }
    conn_finish(conn);
}
