/*
 * check.c - from drafts to a configuration: who shares which security options, what the defaults depend on,
 * and what does not go together. Nothing here touches a file: loaders of certificates, passwords and pages
 * check those.
 *
 * The default listener. No `listener`, `port` or `bind_address` at all is "local only": the default listener
 * on port 1883 (or -p), loopback only, where anonymous clients are allowed unless the file says otherwise.
 */
#include "broker/log.h"
#include "broker/topic.h"
#include "config/parse.h"
#include "config/value.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct config_place said(const struct config_place *seen, const char *name)
{
    return seen[directive_index(directive_find(name))];
}

static struct config_place where_of(const struct draft *draft)
{
    return (struct config_place){draft->listener.file, draft->listener.line};
}

/* ---- bridges ---- */

static int check_bridges(struct parser *p)
{
    if (p->bridge_count > 0 && !p->config->ignore_bridges) {
        return parser_fail(p, p->bridges[0],
                           "Bridges are not in this version: remove the section that begins here, or say "
                           "'ignore_bridges true' to run without it.");
    }
    for (size_t i = 0; i < p->bridge_count; i++) {
        parser_warn(p, p->bridges[i], "The bridge that begins here is ignored (ignore_bridges).");
    }
    return 0;
}

/* ---- which listeners there are ---- */

/* Whether nothing but defaults was said for it: mosquitto 2.0 does not open the default listener for that. */
static bool says_nothing(const struct draft *draft)
{
    struct config_listener plain = {0};
    bool same = scope_default(SCOPE_LISTENER, &plain) == 0;

    for (size_t i = 0; i < directive_count && same; i++) {
        const struct directive *d = &directive_table[i];
        bool listener = d->scope == SCOPE_LISTENER || d->scope == SCOPE_DECLARED;

        same = d->kind != KIND_OPTION || !listener || value_equal(d, &draft->listener, &plain);
    }
    scope_free(SCOPE_LISTENER, &plain);
    return same;
}

static void drop_fallback(struct parser *p)
{
    for (size_t i = 0; i < p->draft_count; i++) {
        if (p->drafts[i] == p->fallback) {
            parser_warn(p, where_of(p->fallback),
                        "The default listener is not opened: only defaults were said for it.");
            memmove(&p->drafts[i], &p->drafts[i + 1], (p->draft_count - i - 1) * sizeof p->drafts[0]);
            p->draft_count--;
            scope_free(SCOPE_LISTENER, &p->fallback->listener);
            scope_free(SCOPE_SECURITY, &p->fallback->security);
            free(p->fallback->seen);
            free(p->fallback);
            p->fallback = NULL;
            return;
        }
    }
}

/* Options that keep somebody out, said before any listener of a file that has some: they would guard nothing
 * but one more listener on port 1883, and the ones that were meant stood open. */
static int check_fallback(struct parser *p)
{
    static const char *const guards[] = {
        "bind_interface",
        "cafile",
        "capath",
        "certfile",
        "ciphers",
        "ciphers_tls1.3",
        "crlfile",
        "keyfile",
        "require_certificate",
        "tls_version",
        "use_identity_as_username",
        "use_subject_as_username",
        "use_username_as_clientid",
    };

    for (size_t i = 0; i < sizeof guards / sizeof guards[0]; i++) {
        struct config_place at = said(p->fallback->seen, guards[i]);

        if (at.line) {
            return parser_fail(
                p, at,
                "'%s' comes before any 'listener' of its file, so the listeners of this configuration "
                "would not have it: put it below the one that it is for.",
                guards[i]);
        }
    }
    return 0;
}

static int settle_fallback(struct parser *p, int port)
{
    struct config_place file = {p->config->path, 0};
    struct config_listener *listener;

    if (p->fallback && p->fallback->implied && p->listens && says_nothing(p->fallback)) {
        drop_fallback(p);
    }
    if (p->fallback && p->fallback->implied && p->listens && check_fallback(p)) {
        return -1;
    }
    if (!p->listens && !p->fallback) {
        p->fallback = parser_add(p, (struct config_place){NULL, 0});
        if (!p->fallback) {
            return -1;
        }
    }
    if (!p->fallback) {
        if (port) {
            parser_warn(p, file, "'-p %d' is ignored: the file defines its listeners.", port);
        }
        return 0;
    }
    listener = &p->fallback->listener;
    if (port && listener->port && port != listener->port) {
        parser_warn(p, file, "'-p %d' is used instead of 'port %d'.", port, listener->port);
    }
    if (port || !listener->port) {
        listener->port = port ? port : 1883;
    }
    if (!p->listens) {
        listener->loopback_only = true;
        parser_warn(p, file,
                    "No listener is defined: only clients on this machine can connect, on port %d. Say "
                    "'listener PORT' "
                    "in the configuration file to be reached from the network.",
                    listener->port);
    }
    return 0;
}

/* ---- what does not go together ---- */

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcasecmp(a, b) == 0);
}

static bool same_socket(const struct config_listener *a, const struct config_listener *b)
{
    bool one_family = a->socket_domain == DOMAIN_ANY || b->socket_domain == DOMAIN_ANY ||
                      a->socket_domain == b->socket_domain;

    if (a->port != b->port) {
        return false;
    }
    if (a->port == 0) {
        return strcmp(a->unix_path, b->unix_path) == 0;
    }
    return one_family && same_text(a->host, b->host) && same_text(a->bind_interface, b->bind_interface);
}

static int check_sockets(struct parser *p, size_t n)
{
    const struct config_listener *listener = &p->drafts[n]->listener;

    for (size_t i = 0; i < n; i++) {
        const struct config_listener *other = &p->drafts[i]->listener;

        if (!same_socket(listener, other)) {
            continue;
        }
        if (other->file) {
            return parser_fail(p, where_of(p->drafts[n]),
                               "This listener has the same port and address as the one at %.150s:%d.",
                               other->file, other->line);
        }
        return parser_fail(p, where_of(p->drafts[n]),
                           "This listener has the same port and address as another one.");
    }
    if (listener->port == 0 && (listener->bind_interface || listener->socket_domain != DOMAIN_ANY)) {
        parser_warn(p, where_of(p->drafts[n]),
                    "bind_interface and socket_domain have no effect on a Unix socket.");
    }
    return 0;
}

/* TLS options on a listener that is no TLS listener would leave it open to everybody who reads along. */
static int check_certificate(struct parser *p, const struct draft *draft)
{
    static const char *const needs[] = {"cafile",  "capath",      "crlfile",
                                        "ciphers", "tls_version", "ciphers_tls1.3"};
    const struct config_listener *listener = &draft->listener;

    if (listener->certfile && !listener->keyfile) {
        return parser_fail(
            p, said(draft->seen, "certfile"),
            "Both certfile and keyfile must be provided to enable a TLS listener: keyfile is missing.");
    }
    if (listener->keyfile && !listener->certfile) {
        return parser_fail(
            p, said(draft->seen, "keyfile"),
            "Both certfile and keyfile must be provided to enable a TLS listener: certfile is missing.");
    }
    for (size_t i = 0; i < sizeof needs / sizeof needs[0] && !listener->certfile; i++) {
        if (said(draft->seen, needs[i]).line) {
            return parser_fail(
                p, said(draft->seen, needs[i]),
                "%s specified without certfile and keyfile: the listener would not be encrypted.", needs[i]);
        }
    }
    if (listener->require_certificate && !listener->certfile) {
        return parser_fail(p, said(draft->seen, "require_certificate"),
                           "require_certificate specified without certfile and keyfile.");
    }
    return 0;
}

static int check_identity(struct parser *p, const struct draft *draft)
{
    const struct config_listener *listener = &draft->listener;

    if (listener->require_certificate && !listener->cafile && !listener->capath) {
        return parser_fail(
            p, said(draft->seen, "require_certificate"),
            "require_certificate needs cafile or capath: no client certificate could be valid.");
    }
    if ((listener->use_identity_as_username || listener->use_subject_as_username) &&
        !listener->require_certificate) {
        parser_warn(p,
                    said(draft->seen, listener->use_identity_as_username ? "use_identity_as_username"
                                                                         : "use_subject_as_username"),
                    "Nobody can connect to this listener: the user name is taken from a certificate, "
                    "and none is asked for without 'require_certificate true'.");
    }
    if (listener->use_identity_as_username && listener->use_subject_as_username) {
        parser_warn(p, said(draft->seen, "use_subject_as_username"),
                    "use_subject_as_username has no effect: use_identity_as_username is set too.");
    }
    if (listener->crlfile && !listener->require_certificate) {
        parser_warn(p, said(draft->seen, "crlfile"),
                    "crlfile has no effect without 'require_certificate true'.");
    }
    return 0;
}

enum { MOST_LEVELS = 256 }; /* that the subscription tree matches (broker/subs.c) */

/* The levels that a mount point puts before a topic. */
static uint32_t mount_levels(const struct config_listener *listener)
{
    return listener->mount_point ? topic_levels(slice_str(listener->mount_point)) : 0;
}

static int check_listener(struct parser *p, const struct draft *draft)
{
    const struct config_listener *listener = &draft->listener;

    if (mount_levels(listener) + p->config->max_topic_levels > MOST_LEVELS) {
        return parser_fail(p, said(draft->seen, "mount_point"),
                           "mount_point is too deep: with max_topic_levels below it, topics would have more "
                           "than 256 levels.");
    }
    if (listener->http_dir && listener->protocol != PROTOCOL_WEBSOCKETS) {
        return parser_fail(p, said(draft->seen, "http_dir"), "http_dir needs 'protocol websockets'.");
    }
    if (listener->websockets_origins && listener->protocol != PROTOCOL_WEBSOCKETS) {
        return parser_fail(p, said(draft->seen, "websockets_origin"),
                           "websockets_origin needs 'protocol websockets'.");
    }
    if (listener->use_username_as_clientid && p->config->clientid_prefixes) {
        parser_warn(p, said(draft->seen, "use_username_as_clientid"),
                    "use_username_as_clientid together with clientid_prefixes: user names must begin with "
                    "the prefix.");
    }
    return check_certificate(p, draft) || check_identity(p, draft) ? -1 : 0;
}

/* ---- who may connect ---- */

static int clone_text(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return from && !*to ? -1 : 0;
}

static int clone_security(struct config_security *to, const struct config_security *from)
{
    *to = *from;
    to->auto_id_prefix = to->password_file = to->acl_file = NULL;
    return clone_text(&to->auto_id_prefix, from->auto_id_prefix) ||
                   clone_text(&to->password_file, from->password_file) ||
                   clone_text(&to->acl_file, from->acl_file)
               ? -1
               : 0;
}

static void security_places(struct config_security *security, const struct config_place *seen)
{
    security->password_file_at = said(seen, "password_file");
    security->acl_file_at = said(seen, "acl_file");
}

/* What the listener's clients meet; and whether that can be what was meant. */
static void warn_security(struct parser *p, const struct draft *draft, bool explicit_anonymous)
{
    const struct config_security *security = draft->listener.security;
    bool certificate = draft->listener.use_identity_as_username || draft->listener.use_subject_as_username;
    struct config_place where =
        draft->listener.file ? where_of(draft) : (struct config_place){p->config->path, 0};

    if (security->allow_anonymous && security->password_file && !explicit_anonymous) {
        parser_warn(p, where,
                    "Anonymous clients are allowed although there is a password_file, because no listener is "
                    "defined: "
                    "say 'allow_anonymous false' if they should not be.");
    }
    if (security->allow_anonymous && security->acl_file && !security->password_file && !certificate) {
        parser_warn(p, where,
                    "Without a password_file user names are not checked: whoever gives a name of the "
                    "acl_file has its "
                    "rights.");
    }
    if (!security->allow_anonymous && !security->password_file && !certificate) {
        parser_warn(
            p, where,
            "Nobody can connect to this listener: allow_anonymous is false and there is no password_file.");
    }
}

/* Gives the draft the security options that count for it, its own (p->config->securities[n]) or the general
 * ones. */
static int settle_security(struct parser *p, struct draft *draft)
{
    struct config *config = p->config;
    bool own = config->per_listener_settings;
    bool anonymous_said = said(own ? draft->seen : p->seen, "allow_anonymous").line != 0;
    struct config_place anonymous = said(draft->seen, "listener_allow_anonymous");
    struct config_security *security = &config->securities[0];

    if (own || anonymous.line || draft->override.auto_id_prefix) {
        security = &config->securities[config->security_count++];
        if (clone_security(security, own ? &draft->security : &config->securities[0])) {
            return parser_no_memory(p);
        }
        if (own) {
            security_places(security, draft->seen);
        }
    }
    if (own && !anonymous_said) {
        security->allow_anonymous = !p->listens;
    }
    if (anonymous.line) {
        security->allow_anonymous = draft->override.allow_anonymous;
    }
    if (draft->override.auto_id_prefix) {
        free(security->auto_id_prefix);
        security->auto_id_prefix = draft->override.auto_id_prefix;
        draft->override.auto_id_prefix = NULL;
    }
    draft->listener.security = security;
    warn_security(p, draft, anonymous_said || anonymous.line);
    return 0;
}

/* ---- the store ---- */

static void warn_store(struct parser *p)
{
    const struct config *config = p->config;
    struct config_place location = said(p->seen, "persistence_location");

    if (config->persistence_path[0] != '/' && config->daemon) {
        parser_warn(p, location.line ? location : said(p->seen, "persistence"),
                    "%s, the store, is sought from the directory that bramble is started in: say a "
                    "'persistence_location' that begins with /.",
                    config->persistence_path);
    }
    if (config->persistence_sync != SYNC_FULL) {
        parser_warn(p, said(p->seen, "persistence_sync"),
                    config->persistence_sync == SYNC_OFF
                        ? "A power cut may take the whole store, with what was acknowledged."
                        : "A power cut may take what was acknowledged in the last minutes.");
    }
}

/* What was said of a store that is not there is no mistake, but hardly what was meant. */
static void warn_no_store(struct parser *p)
{
    static const char *const needs[] = {
        "persistence_commit_delay", "persistence_file",     "persistence_hold_timeout",
        "persistence_lazy_delay",   "persistence_location", "persistence_min_free",
        "persistence_sync",         "queue_memory_limit",
    };

    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        struct config_place at = said(p->seen, needs[i]);

        if (at.line) {
            parser_warn(p, at, "'%s' has no effect without 'persistence true'.", needs[i]);
        }
    }
}

/* As mosquitto puts it together. */
static char *store_path(const char *location, const char *file)
{
    char *path = NULL;
    size_t n = location ? strlen(location) : 0;

    if (asprintf(&path, "%s%s%s", location ? location : "", n > 0 && location[n - 1] != '/' ? "/" : "",
                 file) < 0) {
        return NULL;
    }
    return path;
}

static int settle_store(struct parser *p)
{
    struct config *config = p->config;

    config->persistence_at = said(p->seen, "persistence");
    config->persistence_location_at = said(p->seen, "persistence_location");
    config->stored_uncounted = said(p->seen, "max_queued_messages").line == 0;
    if (!config->persistence) {
        warn_no_store(p);
        return 0;
    }
    config->persistence_path = store_path(config->persistence_location, config->persistence_file);
    if (!config->persistence_path) {
        return parser_no_memory(p);
    }
    warn_store(p);
    return 0;
}

/* What clients may make the broker remember on a machine that is not the broker's alone. A 32-bit process has
 * less to give than a large machine has. */
static uint64_t half_of_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    uint64_t half = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size / 2 : 0;
    return sizeof(void *) < 8 && half > 1u << 30 ? 1u << 30 : half;
}

static int settle_general(struct parser *p, const struct config_args *args)
{
    struct config *config = p->config;
    static const struct config_security nothing;

    config->securities = calloc(p->draft_count + 1, sizeof *config->securities);
    config->listeners = calloc(p->draft_count, sizeof *config->listeners);
    if (!config->securities || !config->listeners) {
        return parser_no_memory(p);
    }
    config->security_count = 1;
    config->securities[0] = p->security;
    p->security = nothing;
    security_places(&config->securities[0], p->seen);
    config->access_log_file_at = said(p->seen, "access_log_file");
    config->pid_file_at = said(p->seen, "pid_file");
    config->user_at = said(p->seen, "user");
    if (said(p->seen, "max_queued_messages").line && !said(p->seen, "max_queued_burst").line) {
        p->config->max_queued_burst = 0; /* who says a limit means it */
    }
    if (!said(p->seen, "memory_limit").line) {
        p->config->memory_limit = half_of_memory();
    }
    if (!said(p->seen, "allow_anonymous").line) {
        config->securities[0].allow_anonymous = !p->listens;
    }
    config->daemon = args->daemon;
    config->quiet = args->quiet;
    config->verbose = args->verbose && !args->quiet;
    if (args->quiet || args->verbose) {
        config->log_type = args->quiet ? 0 : LOG_T_ALL;
    }
    return 0;
}

int config_complete(struct parser *p, const struct config_args *args)
{
    struct config *config = p->config;
    static const struct config_listener nothing;

    if (check_bridges(p) || settle_fallback(p, args->port) || settle_general(p, args) || settle_store(p)) {
        return -1;
    }
    for (size_t i = 0; i < p->draft_count; i++) {
        struct draft *draft = p->drafts[i];

        if (check_sockets(p, i) || check_listener(p, draft) || settle_security(p, draft)) {
            return -1;
        }
        draft->listener.number = (uint32_t)i;
        draft->listener.tls = draft->listener.certfile != NULL;
        draft->listener.websockets_headers_size = config->websockets_headers_size;
    }
    for (size_t i = 0; i < p->draft_count; i++) {
        config->listeners[i] = p->drafts[i]->listener;
        p->drafts[i]->listener = nothing;
    }
    config->listener_count = p->draft_count;
    return 0;
}
