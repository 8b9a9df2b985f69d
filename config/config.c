/*
 * config.c - the port's functions: load, free, compare, print. parse.c reads, check.c decides.
 */
#include "broker/config.h"
#include "config/parse.h"
#include "config/value.h"
#include <stdlib.h>
#include <string.h>

/* ---- load, free ---- */

static int load(struct parser *p, const struct config_args *args)
{
    p->config = calloc(1, sizeof *p->config);
    p->seen = calloc(directive_count, sizeof *p->seen);
    if (!p->config || !p->seen || scope_default(SCOPE_GENERAL, p->config) ||
        scope_default(SCOPE_SECURITY, &p->security)) {
        return parser_no_memory(p);
    }
    if (args->path) {
        p->config->path = strdup(args->path);
        if (!p->config->path) {
            return parser_no_memory(p);
        }
        if (parser_read(p, args->path)) {
            return -1;
        }
    }
    return config_complete(p, args);
}

struct config *config_load(const struct config_args *args, void (*warn)(void *ctx, const char *text),
                           void *ctx, struct err *err)
{
    struct parser p = {.warn = warn, .ctx = ctx, .err = err};
    int rc = load(&p, args);

    parser_free(&p);
    if (rc) {
        config_free(p.config);
        return NULL;
    }
    return p.config;
}

void config_free(struct config *config)
{
    if (!config) {
        return;
    }
    for (size_t i = 0; i < config->listener_count; i++) {
        free(config->listeners[i].host);
        free(config->listeners[i].unix_path);
        scope_free(SCOPE_LISTENER, &config->listeners[i]);
    }
    for (size_t i = 0; i < config->security_count; i++) {
        scope_free(SCOPE_SECURITY, &config->securities[i]);
    }
    for (size_t i = 0; i < config->file_count; i++) {
        free(config->files[i]);
    }
    scope_free(SCOPE_GENERAL, config);
    free(config->listeners);
    free(config->securities);
    free(config->files);
    free(config->log_file);
    free(config->persistence_path);
    free(config->path);
    free(config);
}

int config_blame(struct config_place at, const char *directive, struct err *err)
{
    struct err why = *err;
    char place[PLACE_MAX];

    place_text(at, place, sizeof place);
    return err_set(err, "%sError: %s: %s", place, directive, why.text);
}

/* ---- compare ---- */

struct diff {
    void (*say)(void *ctx, const char *text);
    void *ctx;
};

static void listener_name(const struct config_listener *listener, char *text, size_t size)
{
    if (listener->file) {
        snprintf(text, size, "the listener at %s:%d", listener->file, listener->line);
    } else {
        snprintf(text, size, "the default listener on port %d", listener->port);
    }
}

/* Says it and returns false unless same. */
static bool tell(const struct diff *diff, bool same, const char *what, const struct config_listener *listener)
{
    char name[300], text[400];

    if (same || !diff->say) {
        return same;
    }
    if (listener) {
        listener_name(listener, name, sizeof name);
        snprintf(text, sizeof text, "%s of %s", what, name);
    }
    diff->say(diff->ctx, listener ? text : what);
    return false;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool diff_address(const struct diff *diff, const struct config_listener *a,
                         const struct config_listener *b)
{
    bool same = tell(diff, a->port == b->port, "port", b);

    same &= tell(diff, same_text(a->host, b->host) && a->loopback_only == b->loopback_only, "address", b);
    same &= tell(diff, same_text(a->unix_path, b->unix_path), "path", b);
    return same;
}

static void diff_listener(const struct diff *diff, const struct config_listener *a,
                          const struct config_listener *b)
{
    diff_address(diff, a, b);
    tell(diff, a->tls == b->tls, "whether there is TLS (certfile, keyfile)", b);
    for (size_t i = 0; i < directive_count; i++) {
        const struct directive *d = &directive_table[i];
        bool listener = d->scope == SCOPE_LISTENER || d->scope == SCOPE_DECLARED;

        if (d->kind == KIND_OPTION && listener && !d->reload) {
            tell(diff, value_equal(d, a, b), d->name, b);
        }
    }
}

void config_diff(const struct config *before, const struct config *after,
                 void (*say)(void *ctx, const char *text), void *ctx)
{
    const struct diff diff = {say, ctx};

    for (size_t i = 0; i < directive_count; i++) {
        const struct directive *d = &directive_table[i];

        if (d->kind == KIND_OPTION && d->scope == SCOPE_GENERAL && !d->reload) {
            tell(&diff, value_equal(d, before, after), d->name, NULL);
        }
    }
    for (size_t i = 0; i < before->listener_count && i < after->listener_count; i++) {
        diff_listener(&diff, &before->listeners[i], &after->listeners[i]);
    }
    for (size_t i = after->listener_count; i < before->listener_count; i++) {
        tell(&diff, false, "removal", &before->listeners[i]);
    }
    for (size_t i = before->listener_count; i < after->listener_count; i++) {
        tell(&diff, false, "addition", &after->listeners[i]);
    }
}

void config_keep_store(const struct config *before, struct config *after)
{
    after->persistence = before->persistence;
}

bool config_same_listeners(const struct config *before, const struct config *after)
{
    const struct diff silent = {NULL, NULL};

    if (before->listener_count != after->listener_count) {
        return false;
    }
    for (size_t i = 0; i < before->listener_count; i++) {
        const struct config_listener *a = &before->listeners[i], *b = &after->listeners[i];

        if (!diff_address(&silent, a, b) || a->protocol != b->protocol || a->tls != b->tls ||
            a->socket_domain != b->socket_domain || !same_text(a->bind_interface, b->bind_interface) ||
            !same_text(a->mount_point, b->mount_point)) {
            return false;
        }
    }
    return true;
}

/* ---- print ---- */

/* unsaid: to say it would mean more than its value; or NULL. */
static void print_scope(enum directive_scope scope, const void *base, const struct directive *unsaid,
                        FILE *out)
{
    for (size_t i = 0; i < directive_count; i++) {
        const struct directive *d = &directive_table[i];
        bool left_out = unsaid && d == unsaid;

        if (d->kind == KIND_OPTION && d->scope == scope && !left_out) {
            value_print(d, base, out);
        }
    }
}

static void print_listener(const struct config *config, const struct config_listener *listener, FILE *out)
{
    const struct config_security *security = listener->security;

    fputc('\n', out);
    if (listener->loopback_only) {
        fprintf(out, "# the default listener: port %d of this machine only\n", listener->port);
    } else if (listener->port == 0) {
        fprintf(out, "listener 0 %s\n", listener->unix_path);
    } else {
        fprintf(out, "listener %d%s%s\n", listener->port, listener->host ? " " : "",
                listener->host ? listener->host : "");
    }
    print_scope(SCOPE_LISTENER, listener, NULL, out);
    if (!listener->loopback_only) {
        print_scope(SCOPE_DECLARED, listener, NULL, out);
    }
    if (config->per_listener_settings) {
        print_scope(SCOPE_SECURITY, security, NULL, out);
    } else if (security != &config->securities[0]) {
        print_scope(SCOPE_OVERRIDE, security, NULL, out);
    }
}

void config_print(const struct config *config, FILE *out)
{
    fprintf(out, "per_listener_settings %s\n", config->per_listener_settings ? "true" : "false");
    print_scope(SCOPE_GENERAL, config,
                config->stored_uncounted ? directive_find("max_queued_messages") : NULL, out);
    if (!config->per_listener_settings) {
        print_scope(SCOPE_SECURITY, &config->securities[0], NULL, out);
    }
    for (size_t i = 0; i < config->listener_count; i++) {
        print_listener(config, &config->listeners[i], out);
    }
}
