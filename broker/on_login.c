/*
 * on_login.c - who is it: by certificate, anonymous, or by password; and what a failure costs.
 *
 *   login_start -- certificate, anonymous --> login_done() | fail()
 *        \------ password --> ban_refuses? --> a hashing thread, the cache, a token (auth.h); reading is off
 *                                                 --> on_verdict() (later, by id): login_done() | fail()
 *
 *   fail(): counted, logged, decided now; the CONNACK waits for the next multiple of auth_fail_delay behind
 *           the CONNECT (conn->timer) --> login_due()
 *
 * The hard part is that the time of a refusal must not say why: whether the user exists, which kind of hash
 * his entry has, whether a thread was needed. So all failures are answered at the same time, by a timer. A
 * success is answered at once, and whoever waits for less than the time of a refusal has been counted
 * already.
 *
 * Guesses that were under way at once when a ban begins are not looked at either: also a right one is
 * refused.
 */
#include "broker/on_login.h"
#include "broker/dispatch.h"
#include "broker/log.h"
#include "broker/router.h"
#include <stdlib.h>

/* ---- refusing ---- */

static void tell_refused(struct conn *conn, const char *why)
{
    conn->broker->counters.connects_refused++;
    broker_decided(conn->broker,
                   &(struct decision){.kind = DECIDED_CONNECT, .who = conn->who, .reason = why});
}

static void log_refused(struct conn *conn, const char *why)
{
    if (conn_is_news(conn)) {
        log_write(LOG_T_NOTICE, "Client %s [%s:%u] refused: %s.", conn_name(conn), conn->who->address,
                  conn->who->port, why);
    }
}

static void answer(struct conn *conn, uint8_t code)
{
    uint8_t connack[4] = {0};
    conn_answer(conn, connack, packet_put_connack(connack, false, code));
    conn_finish(conn);
}

void login_refuse(struct conn *conn, uint8_t code, const char *why)
{
    log_refused(conn, why);
    tell_refused(conn, why);
    answer(conn, code);
}

void login_not_admitted(struct conn *conn, struct acl_answer by)
{
    log_refused(conn, by.reason);
    conn->broker->counters.connects_refused++;
    router_denied(conn->broker, DECIDED_CONNECT, conn->who, slice_of(NULL, 0), 0, by);
    answer(conn, CONNACK_REFUSED);
}

/* A login has failed: the answer comes slower times auth_fail_delay after its CONNECT, or a multiple of that
 * when it took longer to find out. What it holds meanwhile is its connection and its names. */
static void fail(struct conn *conn, uint8_t code, const char *why, unsigned slower)
{
    int64_t step = (int64_t)conn->broker->config->auth_fail_delay * slower;
    int64_t elapsed = loop_now(conn->broker->loop) - conn->last_input; /* since its CONNECT */
    tell_refused(conn, why);
    if (step == 0) {
        answer(conn, code);
        return;
    }
    conn_greeted(conn);
    msg_unref(conn->will);
    conn->will = NULL;
    conn->refusal = code;
    int64_t steps = elapsed > 0 ? (elapsed + step - 1) / step : 1;
    timer_start(conn->broker->loop, &conn->timer, steps * step - elapsed);
}

void login_due(struct conn *conn)
{
    if (conn->refusal) {
        answer(conn, conn->refusal);
    } else {
        conn->broker->counters.logins_full++;
        login_refuse(conn, CONNACK_UNAVAILABLE, "its login has waited longer than auth_timeout");
    }
}

/* Without a password that could have been guessed. */
static void fail_plainly(struct conn *conn, uint8_t code, const char *why)
{
    log_refused(conn, why);
    fail(conn, code, why, 1);
}

/* ---- by password ---- */

static struct ban_rule ban_rule(const struct config *config)
{
    return (struct ban_rule){config->auth_ban_failures, config->auth_ban_window * INT64_C(1000),
                             config->auth_ban_time * INT64_C(1000)};
}

/* Said when a ban begins, not of each login that it refuses. */
static bool refused_by_ban(struct conn *conn)
{
    struct broker *broker = conn->broker;
    struct ban_rule rule = ban_rule(broker->config);
    if (!ban_refuses(&broker->ban, &rule, conn->who, loop_now(broker->loop))) {
        return false;
    }
    broker->counters.logins_banned++;
    fail(conn, CONNACK_REFUSED, "too many logins have failed (auth_ban_failures)", 1);
    return true;
}

static void log_ban(const struct conn *conn, enum ban_began began)
{
    const struct principal *who = conn->who;
    uint32_t seconds = conn->broker->config->auth_ban_time;
    switch (began) {
    case BAN_NONE:
        return;
    case BAN_PAIR:
        log_write(LOG_T_WARNING,
                  "Logins of user '%.64s' from %s are refused for %u seconds: too many failed.", who->user,
                  who->address, seconds);
        break;
    case BAN_ADDRESS:
        log_write(LOG_T_WARNING, "Logins from %s are refused for %u seconds: too many failed.", who->address,
                  seconds);
        break;
    case BAN_USER:
        log_write(LOG_T_WARNING,
                  "Logins of user '%.64s' are refused for %u seconds where some have failed: too many did "
                  "(the last from %s).",
                  who->user, seconds, who->address);
        break;
    }
    conn->broker->counters.bans++;
}

static void wrong_password(struct conn *conn)
{
    static const char why[] = "wrong user name or password";
    struct broker *broker = conn->broker;
    struct ban_rule rule = ban_rule(broker->config);
    struct ban_failure failure = ban_failed(&broker->ban, &rule, conn->who, loop_now(broker->loop));
    broker->counters.logins_failed++;
    log_refused(conn, why);
    log_ban(conn, failure.began);
    fail(conn, CONNACK_REFUSED, why, failure.slower);
}

static void on_verdict(void *arg, uint64_t id, enum auth_verdict verdict)
{
    struct broker *broker = arg;
    struct conn *conn = conn_by_id(broker, id);
    if (!conn || conn->state != CONN_LOGIN) {
        return; /* it has gone meanwhile */
    }
    if (verdict == AUTH_UNAVAILABLE) {
        broker->counters.logins_full++;
        login_refuse(conn, CONNACK_UNAVAILABLE, "too many logins are waiting");
    } else if (refused_by_ban(conn)) {
        return;
    } else if (verdict == AUTH_ALLOWED && conn->outdated) {
        fail_plainly(conn, CONNACK_REFUSED, "its user was removed or its password changed meanwhile");
    } else if (verdict == AUTH_ALLOWED) {
        struct ban_rule rule = ban_rule(broker->config);
        ban_succeeded(&broker->ban, &rule, conn->who);
        login_done(conn);
    } else {
        wrong_password(conn);
    }
}

static void ask_password(struct conn *conn, struct slice password)
{
    struct broker *broker = conn->broker;
    int64_t patience = broker->config->auth_timeout * INT64_C(1000);
    if (!refused_by_ban(conn)) {
        timer_start(broker->loop, &conn->timer, patience);
        hasher_verify(broker->hasher, conn_door(conn)->passwords,
                      &(struct auth_question){
                          .who = conn->who,
                          .password = password,
                          .until = loop_now(broker->loop) + patience,
                          .done = on_verdict,
                          .ctx = broker,
                          .id = conn->id,
                      });
    }
}

/* ---- who is it ---- */

/* The certificate says who it is; no password is asked for. */
static void login_by_certificate(struct conn *conn, bool whole_subject)
{
    const char *name = whole_subject ? conn->who->cert_subject : conn->who->cert_cn;
    char *user = name ? strdup(name) : NULL;
    if (!user) {
        fail_plainly(conn, CONNACK_BAD_LOGIN, "no certificate with a name to be used as user name");
        return;
    }
    free(conn->who->user);
    conn->who->user = user;
    login_done(conn);
}

void login_start(struct conn *conn, const struct packet_connect *connect)
{
    const struct door *door = conn_door(conn);
    bool strangers = door->config->security->allow_anonymous;
    if (door->config->use_identity_as_username || door->config->use_subject_as_username) {
        login_by_certificate(conn, door->config->use_subject_as_username);
    } else if (connect->has_user && door->passwords) {
        ask_password(conn, connect->password);
    } else if (strangers) {
        login_done(conn); /* as mosquitto: without a password file the name is taken as it is */
    } else if (connect->has_user) {
        fail_plainly(conn, CONNACK_REFUSED, "there is no password file to check its password against");
    } else {
        fail_plainly(conn, CONNACK_REFUSED, "anonymous clients are not allowed");
    }
}
