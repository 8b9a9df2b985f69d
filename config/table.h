/*
 * table.h - the table of all directives (directives.def) as data, and looking a name up in it.
 */
#ifndef BRAMBLE_CONFIG_TABLE_H
#define BRAMBLE_CONFIG_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum directive_kind {
    KIND_OPTION,
    KIND_SPECIAL,
    KIND_ACCEPTED,
    KIND_ONLY,
    KIND_REFUSED,
    KIND_BRIDGE,
    KIND_ALIAS,
};

enum directive_scope { SCOPE_GENERAL, SCOPE_LISTENER, SCOPE_DECLARED, SCOPE_SECURITY, SCOPE_OVERRIDE };

enum directive_type {
    TYPE_NONE,
    /* a field (value.c) */
    TYPE_BOOL,         /* true, false, 1, 0; said twice, it must be the same */
    TYPE_INT,          /* int */
    TYPE_LIMIT,        /* int; zero and less become -1, "no limit" */
    TYPE_U32,          /* uint32_t */
    TYPE_COUNT,        /* uint32_t; less than zero becomes 0, "no limit" */
    TYPE_U64,          /* uint64_t */
    TYPE_BYTES,        /* uint64_t; less than zero becomes 0, "no limit" */
    TYPE_DURATION,     /* int64_t: seconds, from 14d and the like */
    TYPE_TEXT,         /* char *: the rest of the line; may be said once */
    TYPE_NAME,         /* the rest of the line; said twice, it must be the same */
    TYPE_TOPIC_PREFIX, /* TYPE_TEXT without wildcards */
    TYPE_TLS_VERSION,  /* TYPE_TEXT, one of two */
    TYPE_LOG_FACILITY, /* char *: local0 to local7, from 0 to 7 */
    TYPE_LOG_DEST,     /* unsigned: bits of log.h; sets log_file too */
    TYPE_LOG_TYPE,     /* unsigned: bits of log.h */
    TYPE_PROTOCOL,     /* enum config_protocol */
    TYPE_DOMAIN,       /* enum config_domain */
    TYPE_SYNC,         /* enum config_sync */
    TYPE_VERSIONS,     /* unsigned: bits 3, 4, 5 */
    TYPE_ORIGIN,       /* char **: a list; counts in websockets_origins */
    /* more than a field (parse.c) */
    TYPE_LISTENER,
    TYPE_PORT,
    TYPE_ADDRESS,
    TYPE_INCLUDE,
    TYPE_PER_LISTENER,
    TYPE_KEYFORM,
    TYPE_ANY, /* not even looked at */
};

struct directive {
    const char *name;
    enum directive_kind kind;
    enum directive_scope scope;
    enum directive_type type;
    size_t offset;        /* of the field, in the struct of the scope */
    const char *fallback; /* the default as text, NULL for none; the only value of KIND_ONLY; the target of
                             KIND_ALIAS */
    int64_t low, high;
    bool reload;
    const char *note;
};

extern const struct directive directive_table[];
extern const size_t directive_count;

/* The directive of this name, which may be an alias or fit one that ends in *; NULL: there is none. */
const struct directive *directive_find(const char *name);

/* The directive that an alias stands for; others stand for themselves. */
const struct directive *directive_target(const struct directive *directive);

/* Its place in the table. */
size_t directive_index(const struct directive *directive);

/* The known name that looks most like this one, NULL if none does. */
const char *directive_nearest(const char *name);

#endif
