/*
 * on_connect.c - CONNECT and DISCONNECT.
 *
 *   on_connect: decode, keep what is needed in conn and principal
 *      -> login(): by certificate, anonymous, or password -> a hashing worker; reading is off
 *           -> on_verdict() (later, by id): accept() or refuse()
 *                accept(): takeover, CleanSession, session, will, CONNACK, in this order
 *
 * Nothing of the old session is touched before the new client has shown who it is [MQTT-3.1.4-3]. A kept
 * session belongs to client id and user: another user never gets its queue.
 */
#include "broker/dispatch.h"
#include "broker/log.h"
#include "broker/router.h"
#include "broker/topic.h"
#include <stdlib.h>
#include <sys/random.h>

/* CONNACK with a code, then the end [MQTT-3.2.2-5]. */
static void refuse(struct conn *conn, uint8_t code, const char *why)
{
    conn->broker->counters.connects_refused++;
    if (conn->broker->config->connection_messages) {
        log_write(LOG_T_NOTICE, "Client %s [%s:%u] refused: %s.", conn_name(conn), conn->who->address,
                  conn->who->port, why);
    }
    uint8_t answer[4] = {0};
    conn_answer(conn, answer, packet_put_connack(answer, false, code));
    conn_finish(conn);
}

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

static const struct config_security *security_of(const struct conn *conn)
{
    return conn_door(conn)->config->security;
}

/* ---- accepting ---- */

/* Ends whoever uses the client id now [MQTT-3.1.4-2], and the old session with CleanSession 1 [MQTT-3.1.2-6].
 * Returns the session to go on with, or NULL. */
static struct session *take_over(struct conn *conn)
{
    struct sessions *sessions = &conn->broker->sessions;
    struct session *old = session_find(sessions, conn->who->client_id);
    if (old && old->peer) {
        old->peer->ops->kick(old->peer, "the same client id connected again");
        old = session_find(sessions, conn->who->client_id); /* a clean one is gone */
    }
    if (old && conn->clean) {
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

static void start_keepalive(struct conn *conn)
{
    timer_stop(conn->broker->loop, &conn->timer);
    conn->last_input = loop_now(conn->broker->loop);
    if (conn->keepalive) {
        timer_start(conn->broker->loop, &conn->timer, conn->keepalive * 1500LL);
    }
}

static void accept_client(struct conn *conn)
{
    struct sessions *sessions = &conn->broker->sessions;
    struct session *session = take_over(conn);
    bool present = session != NULL;
    if (!session) {
        session = session_new(sessions, conn->who->client_id, conn->who, conn->clean);
    }
    if (!session) {
        refuse(conn, CONNACK_UNAVAILABLE, "out of memory for its session");
        return;
    }
    uint8_t answer[4] = {0};
    conn->state = CONN_UP;
    conn_answer(conn, answer,
                packet_put_connack(answer, present && conn->level >= 4,
                                   CONNACK_ACCEPTED)); /* [MQTT-3.2.2-2], [MQTT-3.2.2-3] */
    if (conn->state != CONN_UP) {                      /* no memory for the answer */
        if (!present) {
            session_destroy(sessions, session);
        }
        return;
    }
    conn->session = session;
    conn_greeted(conn);
    session_attach(sessions, session, &conn->peer, conn->who);
    log_accepted(conn);
    start_keepalive(conn);
    conn_resume(conn);
}

/* ---- who is it ---- */

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

static void login_done(struct conn *conn)
{
    bool by_user = conn_door(conn)->config->use_username_as_clientid;
    struct acl_answer admitted;
    if (by_user && !name_by_user(conn)) {
        refuse(conn, CONNACK_REFUSED, "use_username_as_clientid needs a user name");
    } else if (!(admitted = acl_admits(conn_door(conn)->acl, conn->who)).allowed) {
        refuse(conn, CONNACK_REFUSED, admitted.reason);
    } else if (clients_full(conn->broker, conn->who->client_id)) {
        refuse(conn, CONNACK_UNAVAILABLE, "global_max_clients is reached");
    } else if (broker_memory_full(conn->broker, 0, MEMORY_TO_KEEP) &&
               !session_find(&conn->broker->sessions, conn->who->client_id)) {
        refuse(conn, CONNACK_UNAVAILABLE, "memory_limit is reached");
    } else if (another_users(conn)) {
        refuse(conn, CONNACK_REFUSED, "its client id belongs to the session of another user");
    } else {
        accept_client(conn);
    }
}

static void on_verdict(void *arg, uint64_t id, enum auth_verdict verdict)
{
    struct broker *broker = arg;
    struct conn *conn = conn_by_id(broker, id);
    if (!conn || conn->state != CONN_LOGIN) {
        return; /* it has gone meanwhile */
    }
    if (verdict == AUTH_ALLOWED) {
        login_done(conn);
    } else if (verdict == AUTH_UNAVAILABLE) {
        refuse(conn, CONNACK_UNAVAILABLE, "too many logins are waiting");
    } else {
        broker->counters.logins_failed++;
        refuse(conn, CONNACK_REFUSED, "wrong user name or password");
    }
}

/* The certificate says who it is; no password is asked for. */
static void login_by_certificate(struct conn *conn, bool whole_subject)
{
    const char *name = whole_subject ? conn->who->cert_subject : conn->who->cert_cn;
    char *user = name ? strdup(name) : NULL;
    if (!user) {
        refuse(conn, CONNACK_BAD_LOGIN, "no certificate with a name to be used as user name");
        return;
    }
    free(conn->who->user);
    conn->who->user = user;
    login_done(conn);
}

static void login(struct conn *conn, const struct packet_connect *connect)
{
    const struct door *door = conn_door(conn);
    if (door->config->use_identity_as_username || door->config->use_subject_as_username) {
        login_by_certificate(conn, door->config->use_subject_as_username);
    } else if (!connect->has_user) {
        if (security_of(conn)->allow_anonymous) {
            login_done(conn);
        } else {
            refuse(conn, CONNACK_REFUSED, "anonymous clients are not allowed");
        }
    } else if (door->passwords) {
        hasher_verify(conn->broker->hasher, door->passwords, connect->user, connect->password, on_verdict,
                      conn->broker, conn->id);
    } else if (security_of(conn)->allow_anonymous) {
        login_done(conn); /* as mosquitto: without a password file the name is taken as it is */
    } else {
        refuse(conn, CONNACK_REFUSED, "there is no password file to check its password against");
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
        refuse(conn, CONNACK_REFUSED, why);
        return false;
    }
    conn->will = msg_new_mounted(slice_str(config->mount_point), will->topic, will->payload, will->qos,
                                 will->retain, conn->who);
    if (!conn->will) {
        refuse(conn, CONNACK_UNAVAILABLE,
               "out of memory for its will, or the will's topic with mount_point is too long");
        return false;
    }
    return true;
}

static bool keep_names(struct conn *conn, const struct packet_connect *connect)
{
    struct principal *who = conn->who;
    who->client_id = connect->client_id.n ? copy_string(connect->client_id)
                                          : make_client_id(security_of(conn)->auto_id_prefix);
    who->user = connect->has_user ? copy_string(connect->user) : NULL;
    if (!who->client_id || (connect->has_user && !who->user)) {
        refuse(conn, CONNACK_UNAVAILABLE, "out of memory for its names");
        return false;
    }
    const char *prefix = conn->broker->config->clientid_prefixes;
    if (prefix && strncmp(who->client_id, prefix, strlen(prefix)) != 0) {
        refuse(conn, CONNACK_BAD_ID,
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
    if (!connect->clean || connect->level == 3 || !security_of(conn)->allow_zero_length_clientid) {
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
        refuse(conn, CONNACK_BAD_LEVEL, packet_error_text(error)); /* [MQTT-3.1.2-2] */
        return;
    }
    if (error) {
        conn_violation(conn, "CONNECT", packet_error_text(error)); /* [MQTT-3.1.4-1] */
        return;
    }
    const char *why;
    uint8_t code = wrong_wish(conn, &connect, &why);
    if (code) {
        refuse(conn, code, why);
        return;
    }
    conn->state = CONN_LOGIN;
    conn->level = connect.level;
    conn->clean = connect.clean;
    conn->keepalive = connect.keepalive;
    if (keep_names(conn, &connect) && keep_will(conn, &connect)) {
        login(conn, &connect);
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
