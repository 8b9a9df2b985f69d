/*
 * acl_rules.h - the rules of an acl_file as acl_load.c leaves them and acl.c reads them (drawn in acl.c).
 * They are never changed once loaded.
 */
#ifndef BRAMBLE_AUTH_ACL_RULES_H
#define BRAMBLE_AUTH_ACL_RULES_H

#include "broker/acl.h"
#include "broker/hash.h"

enum { ACL_TOPIC_MAX = 65535 };

/* What a rule says of the topics that fit it. */
enum right {
    RIGHT_READ = 1 << 0,
    RIGHT_WRITE = 1 << 1,
    RIGHT_DENY = 1 << 2,
};

/* A topic without wildcards; all its lines in one. */
struct literal {
    UT_hash_handle hh;
    unsigned rights;
    unsigned n;
    uint8_t topic[];
};

struct wildcard {
    struct wildcard *next;
    unsigned rights;
    size_t n;
    uint8_t filter[];
};

/* The rules of one user, or of anonymous clients. */
struct section {
    UT_hash_handle hh;
    struct literal *literals;
    struct wildcard *wildcards;
    unsigned n;
    uint8_t user[];
};

enum part_kind {
    PART_TEXT,
    PART_USER,
    PART_CLIENT,
    PART_LEVEL, /* "+" */
    PART_REST,  /* "/#": the end, or a slash and anything */
    PART_ALL,   /* "#" alone */
};

struct part {
    enum part_kind kind;
    struct slice text; /* PART_TEXT: within pattern.filter */
};

/* A line that holds for everybody, with the names still to be put in. */
struct pattern {
    struct pattern *next;
    unsigned rights;
    bool wants_user;
    size_t parts_n;
    struct part *parts;
    uint8_t filter[];
};

struct acl {
    uint32_t refs;
    struct section *users;
    struct section *anonymous;
    struct pattern *patterns;
};

/* Takes it all down, references or not. */
void acl_destroy(struct acl *acl);

#endif
