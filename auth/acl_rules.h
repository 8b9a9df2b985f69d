/*
 * acl_rules.h - the rules of an acl_file as acl_load.c leaves them and acl.c reads them (drawn in acl.c).
 * They are never changed once loaded.
 */
#ifndef BRAMBLE_AUTH_ACL_RULES_H
#define BRAMBLE_AUTH_ACL_RULES_H

#include "auth/acl_limits.h"
#include "broker/acl.h"
#include "broker/tree.h"

enum { ACL_TOPIC_MAX = 65535, ACL_LEVELS_MAX = 201 /* mosquitto refuses more than 200 slashes */ };

/* What a rule says of the topics that fit it. */
enum right { RIGHT_READ, RIGHT_WRITE, RIGHT_SUBSCRIBE, RIGHT_DENY, RIGHTS };

enum {
    BIT_READ = 1 << RIGHT_READ,
    BIT_WRITE = 1 << RIGHT_WRITE,
    BIT_SUBSCRIBE = 1 << RIGHT_SUBSCRIBE,
    BIT_DENY = 1 << RIGHT_DENY
};

/* A level of the filters of a section, or the section itself. */
struct rule {
    struct tree_node node;      /* first: what the tree knows of it */
    struct rule *plus, *hash;   /* the children "+" and "#" */
    struct rule *templates;     /* the children with %u or %c in them, in a section of patterns... */
    struct rule *next_template; /* ...and their list */
    uint32_t lines[RIGHTS];     /* the first line that says so of the filter that ends here; 0: none does */
    unsigned below;             /* bits of the rights that stand here or anywhere below */
    struct limits *limits;      /* of a user's section; owned */
};

struct acl {
    uint32_t refs;
    struct tree tree;
    struct rule *anonymous, *patterns; /* sections; those of users are children of the root; NULL: none */
    struct limits *general;            /* of those whose section does not say; owned */
    bool limited;                      /* there are limits at all */
    char *path;                        /* of the file */
};

static inline struct slice rule_level(const struct rule *rule)
{
    return slice_of(rule->node.level, rule->node.level_size);
}

/* Whether %u or %c stands in it. */
static inline bool acl_is_template(struct slice text)
{
    for (size_t i = 0; i + 1 < text.n; i++)
        if (text.p[i] == '%' && (text.p[i + 1] == 'u' || text.p[i + 1] == 'c'))
            return true;
    return false;
}

/* The section of the client; NULL: there is none. */
const struct rule *acl_section(const struct acl *acl, const struct principal *who);
/* acl_ask() when the section is known. */
struct acl_answer acl_ask_section(const struct acl *acl, const struct rule *section,
                                  const struct principal *who, enum acl_access access, struct slice topic);

/* Takes it all down, references or not. */
void acl_destroy(struct acl *acl);

#endif
