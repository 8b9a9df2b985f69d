/*
 * parse.h - inside config/: from files to drafts (parse.c), from drafts to a checked struct config (check.c).
 *
 *   main file --+                                general options -> parser.config
 *               +-> lines -> directive + value ->  security      -> parser.security, or the listener's draft
 *   include_dir +                                  listener      -> the latest listener's draft
 *                                                                        |
 *                       config_complete(): defaults, rules, who shares what -> listeners[], securities[]
 *
 * A draft remembers where each of its directives was said: for "said twice" and for messages about what does
 * not go together. Everything in a draft belongs to the draft until config_complete() moves it.
 */
#ifndef BRAMBLE_CONFIG_PARSE_H
#define BRAMBLE_CONFIG_PARSE_H

#include "broker/config.h"
#include "config/table.h"
#include <sys/types.h>

enum { PLACE_MAX = 240 };

/* "file:line: ", or "" for nowhere. The end of a long path is shown, so that a reason fits behind it. */
void place_text(struct config_place at, char *text, size_t size);

struct draft {
    struct config_listener listener;
    struct config_security security; /* what was said with per_listener_settings */
    struct config_security override; /* listener_allow_anonymous, listener_auto_id_prefix */
    struct config_place *seen;       /* by directive_index() */
    bool implied;                    /* the default listener, not (yet) said by port or bind_address */
};

struct parser {
    struct config *config;
    struct config_security security; /* the general one */
    struct config_place *seen;       /* by directive_index() */
    struct draft **drafts;
    size_t draft_count;
    struct draft *fallback;            /* the default listener, one of drafts; NULL: nobody wanted one */
    bool listens;                      /* listener, port or bind_address was said */
    struct config_place security_said; /* the first security option without per_listener_settings */
    struct config_place *bridges;      /* where a `connection` was said */
    size_t bridge_count;
    dev_t main_dev; /* the main file, to find it again in an include_dir */
    ino_t main_ino;

    void (*warn)(void *ctx, const char *text);
    void *ctx;
    struct err *err;
};

/* Reads the main file and what it includes. 0, or -1 with the error set. */
int parser_read(struct parser *p, const char *path);

/* A new listener with the defaults, appended to the drafts; NULL without memory. */
struct draft *parser_add(struct parser *p, struct config_place where);

/* Sets the error "file:line: Error: ..." and returns -1. */
int parser_fail(struct parser *p, struct config_place where, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Passes on "file:line: Warning: ..." */
void parser_warn(struct parser *p, struct config_place where, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

int parser_no_memory(struct parser *p);

/* Keeps the name of a file for the messages and structures that point to it. NULL without memory. */
const char *parser_keep_name(struct parser *p, const char *path);

/* Frees the drafts and everything else but p->config. */
void parser_free(struct parser *p);

/* The defaults of all options of a scope. 0, or -1 without memory. */
int scope_default(enum directive_scope scope, void *base);
void scope_free(enum directive_scope scope, void *base);

/* check.c: checks the drafts and moves them into p->config. 0, or -1 with the error set. */
int config_complete(struct parser *p, const struct config_args *args);

#endif
