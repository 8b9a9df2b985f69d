/*
 * wire.c - loading what the configuration names, and stacking transports. See wire.h.
 *
 * Passwords and ACLs are loaded once per struct config_security and shared by the listeners that it counts
 * for.
 */
#include "broker/wire.h"
#include "broker/conn.h"
#include "broker/log.h"
#include "broker/router.h"
#include "tls/tls.h"
#include "ws/ws.h"
#include <stdlib.h>
#include <unistd.h>

enum {
    LOGINS_WAITING = 1024,     /* passwords that wait for a hashing worker */
    HANDSHAKES_WAITING = 4096, /* TLS handshakes under way */
};

struct stack {
    struct tls_context *tls;
    struct ws_site *site;
};

struct wiring {
    size_t count;
    struct stack *stacks; /* by listener */
    size_t securities;
    struct passwords **passwords; /* by security */
    struct acl **acls;
    struct passwords **before; /* by listener: room for those that this one replaces */
};

struct wire {
    struct broker *broker;
    struct wiring *wiring;
    struct tls *tls;
    struct ws *ws;
};

/* ---- loading ---- */

static int load_security(struct wiring *w, size_t i, const struct config_security *security, struct err *err)
{
    if (security->password_file && !(w->passwords[i] = passwords_load(security->password_file, err))) {
        return config_blame(security->password_file_at, "password_file", err);
    }
    if (security->acl_file && !(w->acls[i] = acl_load(security->acl_file, err))) {
        return config_blame(security->acl_file_at, "acl_file", err);
    }
    return 0;
}

static int load_stack(struct stack *stack, const struct config_listener *listener, struct err *err)
{
    if (listener->tls && !(stack->tls = tls_context_load(listener, err))) {
        return -1;
    }
    if (listener->protocol == PROTOCOL_WEBSOCKETS && !(stack->site = ws_site_load(listener, err))) {
        return -1;
    }
    return 0;
}

struct wiring *wire_load(const struct config *config, struct err *err)
{
    struct wiring *w = calloc(1, sizeof *w);
    if (w) {
        w->stacks = calloc(config->listener_count, sizeof *w->stacks);
        w->passwords = calloc(config->security_count, sizeof(struct passwords *));
        w->acls = calloc(config->security_count, sizeof(struct acl *));
        w->before = calloc(config->listener_count, sizeof(struct passwords *));
    }
    if (!w || !w->stacks || !w->passwords || !w->acls || !w->before) {
        err_set(err, "Error: out of memory for the configuration's files");
        wire_unload(w);
        return NULL;
    }
    w->count = config->listener_count;
    w->securities = config->security_count;
    int result = 0;
    for (size_t i = 0; i < w->securities && result == 0; i++) {
        result = load_security(w, i, &config->securities[i], err);
    }
    for (size_t i = 0; i < w->count && result == 0; i++) {
        result = load_stack(&w->stacks[i], &config->listeners[i], err);
    }
    if (result < 0) {
        wire_unload(w);
        return NULL;
    }
    return w;
}

void wire_unload(struct wiring *w)
{
    if (!w) {
        return;
    }
    for (size_t i = 0; w->stacks && i < w->count; i++) {
        tls_context_unref(w->stacks[i].tls);
        ws_site_unref(w->stacks[i].site);
    }
    for (size_t i = 0; i < w->securities; i++) {
        passwords_unref(w->passwords[i]);
        acl_unref(w->acls[i]);
    }
    free(w->stacks);
    free(w->passwords);
    free(w->acls);
    free(w->before);
    free(w);
}

/* ---- living ---- */

static int threads(int configured)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return configured > 0 ? configured : cores > 2 ? (int)cores - 1 : 1;
}

static bool any_listener(const struct config *config, bool tls)
{
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *l = &config->listeners[i];
        if (tls ? l->tls : l->protocol == PROTOCOL_WEBSOCKETS) {
            return true;
        }
    }
    return false;
}

struct wire *wire_new(struct broker *broker, struct err *err)
{
    const struct config *config = broker->config;
    int handshake_ms = (int)config->handshake_timeout * 1000;
    struct wire *wire = calloc(1, sizeof *wire);
    if (!wire) {
        err_set(err, "Error: out of memory");
        return NULL;
    }
    wire->broker = broker;
    broker->doors = calloc(config->listener_count, sizeof *broker->doors);
    broker->door_count = broker->doors ? config->listener_count : 0;
    broker->hasher = hasher_new(loop_mailbox(broker->loop), threads(config->auth_threads), LOGINS_WAITING);
    bool ok = broker->doors || err_set(err, "Error: out of memory for the listeners") == 0;
    ok = ok && (broker->hasher || err_set(err, "Error: cannot start the threads that check passwords") == 0);
    if (ok && any_listener(config, true)) {
        wire->tls =
            tls_new(broker->loop, threads(config->tls_threads), HANDSHAKES_WAITING, handshake_ms, err);
        ok = wire->tls != NULL;
    }
    if (ok && any_listener(config, false)) {
        wire->ws = ws_new(broker->loop, (int)sysconf(_SC_OPEN_MAX), handshake_ms, err);
        ok = wire->ws != NULL;
    }
    if (!ok) {
        wire_free(wire);
        return NULL;
    }
    return wire;
}

void wire_free(struct wire *wire)
{
    if (!wire) {
        return;
    }
    struct broker *broker = wire->broker;
    if (wire->ws) {
        ws_free(wire->ws);
    }
    if (wire->tls) {
        tls_free(wire->tls);
    }
    if (broker->hasher) {
        hasher_free(broker->hasher);
        broker->hasher = NULL;
    }
    for (size_t i = 0; i < broker->door_count; i++) {
        passwords_unref(broker->doors[i].passwords);
        acl_unref(broker->doors[i].acl);
    }
    free(broker->doors);
    broker->doors = NULL;
    broker->door_count = 0;
    wire_unload(wire->wiring);
    free(wire);
}

/* ---- swapping ---- */

/* A right ends with its reason: who logged in with a password that is no longer the user's is disconnected.
 */
static void end_if_changed(void *passwords_by_door, struct conn *conn)
{
    const struct door *door = conn_door(conn);
    const struct passwords *before = ((struct passwords **)passwords_by_door)[conn->who->listener];
    bool known = conn->state == CONN_UP || conn->state == CONN_LOGIN; /* by a password that was read before */
    if (!known || door->config->use_identity_as_username || door->config->use_subject_as_username) {
        return;
    }
    if (!conn->who->user) {
        if (!door->config->security->allow_anonymous) {
            conn_fail(conn, "anonymous clients are no longer allowed");
        }
        return;
    }
    struct slice user = slice_str(conn->who->user);
    uint64_t was = before ? passwords_mark(before, user) : 0;
    uint64_t is = door->passwords ? passwords_mark(door->passwords, user) : 0;
    if (was != is || (!door->passwords && !door->config->security->allow_anonymous)) {
        conn_fail(conn, "its user was removed or its password changed");
    }
}

static void use_doors(struct wire *wire, struct passwords **before)
{
    struct broker *broker = wire->broker;
    struct wiring *w = wire->wiring;
    const struct config *config = broker->config;
    for (size_t i = 0; i < broker->door_count; i++) {
        struct door *door = &broker->doors[i];
        const struct config_listener *listener = &config->listeners[i];
        size_t security = (size_t)(listener->security - config->securities);
        before[i] = door->passwords;
        acl_unref(door->acl);
        door->config = listener;
        door->passwords = w->passwords[security] ? passwords_ref(w->passwords[security]) : NULL;
        door->acl = w->acls[security] ? acl_ref(w->acls[security]) : NULL;
    }
}

/* What waits for a client that may no longer read it is not sent. */
static bool not_readable(void *arg, const struct session *session, const struct msg *msg)
{
    return session->who && !router_may(arg, session->who, ACL_READ, msg_topic(msg));
}

struct subscriber {
    const struct broker *broker;
    const struct session *session;
};

static bool not_subscribable(void *arg, struct slice filter, uint8_t qos)
{
    const struct subscriber *who = arg;
    (void)qos;
    if (router_may(who->broker, who->session->who, ACL_SUBSCRIBE, filter)) {
        return false;
    }
    log_write(LOG_T_NOTICE, "The subscription of %s to '%.*s' has ended: it is no longer allowed.",
              who->session->client_id, SLICE_ARG(filter));
    return true;
}

static void end_rights(struct broker *broker, struct passwords **before)
{
    conn_each(broker, end_if_changed, before);
    struct session *session, *next;
    HASH_ITER(hh, broker->sessions.by_id, session, next) {
        session_rights_changed(session);
        session_sweep(&broker->sessions, session, not_readable, broker);
        const struct door *door = broker_door(broker, session->who);
        if (door && acl_limits_subscribing(door->acl)) {
            subs_sweep(broker->subs, session, not_subscribable, &(struct subscriber){broker, session});
        }
    }
}

void wire_use(struct wire *wire, struct wiring *wiring, struct config *config)
{
    struct broker *broker = wire->broker;
    struct wiring *old = wire->wiring;
    wire->wiring = wiring;
    broker->config = config;
    broker_use_limits(broker);
    use_doors(wire, wiring->before);
    if (old) {
        end_rights(broker, wiring->before);
    }
    for (size_t i = 0; i < broker->door_count; i++) {
        passwords_unref(wiring->before[i]);
        wiring->before[i] = NULL;
    }
    wire_unload(old);
}

struct transport *wire_stack(void *arg, int door, struct transport *below)
{
    struct wire *wire = arg;
    struct stack *stack = &wire->wiring->stacks[door];
    struct transport *t = below;
    if (stack->tls) {
        t = tls_accept(wire->tls, stack->tls, t);
    }
    if (t && stack->site) {
        t = ws_accept(wire->ws, stack->site, t);
    }
    return t;
}
