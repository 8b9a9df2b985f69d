/*
 * wire.c - loading what the configuration names, and stacking transports. See wire.h.
 *
 * Passwords and ACLs are loaded once per struct config_security and shared by the listeners that it counts
 * for. To free a hundred thousand rules takes as long as to load them, so those that a reload replaces are
 * freed by a thread, too.
 */
#include "broker/wire.h"
#include "broker/log.h"
#include "broker/policy.h"
#include "tls/tls.h"
#include "ws/ws.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
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
    struct policy_before *before; /* by listener: room for what this one replaces */
};

/* A thread that frees what a reload has replaced. */
struct cleaner {
    struct cleaner *next;
    pthread_t thread;
    struct wiring *wiring;
};

struct wire {
    struct broker *broker;
    struct cleaner *cleaners; /* those that were not joined yet */
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
        w->before = calloc(config->listener_count, sizeof *w->before);
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

int wire_check_store(const struct config *config, struct err *err)
{
    const char *location = config->persistence_location ? config->persistence_location : ".";
    struct stat st;
    errno = 0;
    if (!config->persistence || (stat(location, &st) == 0 && S_ISDIR(st.st_mode))) {
        return 0;
    }
    err_set(err, "%.300s: %s", location, errno ? strerror(errno) : "it is no directory");
    return config_blame(config->persistence_location_at, "persistence_location", err);
}

static void unload_stacks(struct wiring *w)
{
    for (size_t i = 0; w->stacks && i < w->count; i++) {
        tls_context_unref(w->stacks[i].tls);
        ws_site_unref(w->stacks[i].site);
    }
}

static void unload_rest(struct wiring *w)
{
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

void wire_unload(struct wiring *w)
{
    if (w) {
        unload_stacks(w);
        unload_rest(w);
    }
}

/* ---- what was replaced ---- */

static void join_cleaners(struct wire *wire, bool wait)
{
    for (struct cleaner **at = &wire->cleaners; *at;) {
        struct cleaner *cleaner = *at;
        if ((wait ? pthread_join(cleaner->thread, NULL) : pthread_tryjoin_np(cleaner->thread, NULL)) != 0) {
            at = &cleaner->next;
            continue;
        }
        *at = cleaner->next;
        free(cleaner);
    }
}

static void *clean(void *cleaner)
{
    unload_rest(((struct cleaner *)cleaner)->wiring);
    return NULL;
}

/* No listener uses its passwords and rules any more, so the last references are its own: they may be counted
 * down by another thread. Those of TLS contexts and sites are also held by connections. */
static void unload_replaced(struct wire *wire, struct wiring *w)
{
    if (!w) {
        return;
    }
    join_cleaners(wire, false);
    unload_stacks(w);
    struct cleaner *cleaner = malloc(sizeof *cleaner);
    if (cleaner) {
        cleaner->wiring = w;
    }
    if (!cleaner || pthread_create(&cleaner->thread, NULL, clean, cleaner) != 0) {
        free(cleaner);
        unload_rest(w);
        return;
    }
    cleaner->next = wire->cleaners;
    wire->cleaners = cleaner;
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
    broker->hasher = hasher_new(loop_mailbox(broker->loop),
                                &(struct hasher_options){.threads = threads(config->auth_threads),
                                                         .listeners = config->listener_count,
                                                         .cache = config->auth_cache,
                                                         .counters = &broker->counters});
    bool ok = broker->doors || err_set(err, "Error: out of memory for the listeners") == 0;
    ok = ok && (broker->hasher || err_set(err, "Error: cannot start the threads that check passwords") == 0);
    if (ok && any_listener(config, true)) {
        wire->tls =
            tls_new(broker->loop, threads(config->tls_threads), HANDSHAKES_WAITING, handshake_ms, err);
        ok = wire->tls != NULL;
    }
    if (ok && any_listener(config, false)) {
        wire->ws = ws_new(broker->loop, &broker->strangers, (int)sysconf(_SC_OPEN_MAX), handshake_ms, err);
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
    join_cleaners(wire, true);
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
    for (size_t i = 0; broker->doors && i < broker->door_count; i++) {
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

static void use_doors(struct wire *wire, struct policy_before *before)
{
    struct broker *broker = wire->broker;
    struct wiring *w = wire->wiring;
    const struct config *config = broker->config;
    for (size_t i = 0; i < broker->door_count; i++) {
        struct door *door = &broker->doors[i];
        const struct config_listener *listener = &config->listeners[i];
        size_t security = (size_t)(listener->security - config->securities);
        before[i] = (struct policy_before){door->config, door->passwords, door->acl != NULL};
        acl_unref(door->acl);
        door->config = listener;
        door->passwords = w->passwords[security] ? passwords_ref(w->passwords[security]) : NULL;
        door->acl = w->acls[security] ? acl_ref(w->acls[security]) : NULL;
    }
}

/* The cache of verified secrets ends with any change of a file; a reload that brings none keeps it. */
static void forget_secrets(struct broker *broker, const struct policy_before *before)
{
    for (size_t i = 0; i < broker->door_count; i++) {
        if (passwords_print(before[i].passwords) != passwords_print(broker->doors[i].passwords)) {
            hasher_forget(broker->hasher);
            return;
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
        forget_secrets(broker, wiring->before);
        policy_changed(broker, wiring->before);
    }
    for (size_t i = 0; i < broker->door_count; i++) {
        passwords_unref(wiring->before[i].passwords);
        wiring->before[i] = (struct policy_before){0};
    }
    unload_replaced(wire, old);
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
