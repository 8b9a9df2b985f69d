/*
 * acl.c - mosquitto's acl_file: what its rules mean, and the answer to "may this client?".
 *
 *   topic read public/#          before the first "user" line: rules of anonymous clients, of nobody else
 *   user mary
 *   topic readwrite home/mary/#  rules of mary alone
 *   topic deny home/mary/door
 *   pattern write sensor/%u/%c   rules of everybody, wherever they stand; %u user name, %c client id
 *
 * A question is put to the rules of the client's own section first and, if none of them fits, to the
 * patterns. Within either, order does not matter: one fitting "deny" denies, else one fitting rule with the
 * wanted access allows. What nothing allows is denied. These follow mosquitto 2.0.11, which also says:
 *
 *   - subscribing is always allowed: what arrives through the subscription is checked as it is read
 *   - where patterns are asked, a client whose user name or client id holds a wildcard (+ or #) is denied;
 *     a slash in them is allowed, and is a slash of the topic
 *   - a pattern with %u does not exist for an anonymous client
 *   - nobody publishes below $SYS (but $SYS/broker/connection/+/state) or to $share, acl_file or not
 *
 * What acl_load.c makes of it:
 *
 *   acl --> users (hash by name) --> section: literals (hash by topic), wildcards (list)
 *       --> anonymous section
 *       --> patterns (list), each cut into parts, so that a look-up substitutes without building a string
 *
 * So a look-up costs nothing for the rules of other users, and little for a client's own rules without
 * wildcards.
 */
#include "auth/acl_rules.h"
#include "broker/topic.h"

#include <stdlib.h>

static bool starts(struct slice s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.n >= n && memcmp(s.p, prefix, n) == 0;
}

/* What holds for topics that start with $, whatever the file says. */
static bool dollar_allows(enum acl_access access, struct slice topic)
{
    if (starts(topic, "$SYS"))
        return access != ACL_WRITE || topic_matches(slice_str("$SYS/broker/connection/+/state"), topic);
    if (starts(topic, "$share"))
        return access == ACL_SUBSCRIBE;
    return true;
}

static const struct section *section_of(const struct acl *acl, const char *user)
{
    struct section *section = NULL;
    if (!user)
        return acl->anonymous;
    HASH_FIND(hh, acl->users, user, (unsigned)strlen(user), section);
    return section;
}

static unsigned section_rights(const struct section *section, struct slice topic)
{
    struct literal *literal = NULL;
    if (topic.n <= ACL_TOPIC_MAX)
        HASH_FIND(hh, section->literals, topic.p, (unsigned)topic.n, literal);
    unsigned rights = literal ? literal->rights : 0;
    for (const struct wildcard *rule = section->wildcards; rule; rule = rule->next)
        if (topic_matches(slice_of(rule->filter, rule->n), topic))
            rights |= rule->rights;
    return rights;
}

/* The names put into a pattern hold no wildcards (acl_allows sees to that), so each part without a wildcard
 * stands for exact text and the topic is walked once, from left to right. */
static bool pattern_matches(const struct pattern *pattern, struct slice user, struct slice client,
                            struct slice topic)
{
    size_t at = 0;
    for (size_t i = 0; i < pattern->parts_n; i++) {
        const struct part *part = &pattern->parts[i];
        struct slice text = part->kind == PART_USER ? user : part->kind == PART_CLIENT ? client : part->text;
        switch (part->kind) {
        case PART_ALL:
            return topic.p[0] != '$';
        case PART_REST:
            return at == topic.n || topic.p[at] == '/';
        case PART_LEVEL:
            if (i == 0 && topic.p[0] == '$')
                return false;
            while (at < topic.n && topic.p[at] != '/')
                at++;
            break;
        case PART_TEXT:
        case PART_USER:
        case PART_CLIENT:
            if (topic.n - at < text.n || (text.n && memcmp(topic.p + at, text.p, text.n) != 0))
                return false;
            at += text.n;
            break;
        }
    }
    return at == topic.n;
}

static unsigned pattern_rights(const struct acl *acl, const struct principal *who, struct slice topic)
{
    unsigned rights = 0;
    struct slice user = slice_str(who->user), client = slice_str(who->client_id);
    for (const struct pattern *pattern = acl->patterns; pattern; pattern = pattern->next)
        if ((who->user || !pattern->wants_user) && pattern_matches(pattern, user, client, topic))
            rights |= pattern->rights;
    return rights;
}

bool acl_allows(const struct acl *acl, const struct principal *who, enum acl_access access,
                struct slice topic)
{
    unsigned rights = 0, wanted = access == ACL_READ ? RIGHT_READ : RIGHT_WRITE;
    if (!dollar_allows(access, topic))
        return false;
    if (!acl || access == ACL_SUBSCRIBE)
        return true;
    if (!who || !who->client_id || topic.n == 0)
        return false;

    const struct section *section = section_of(acl, who->user);
    if (section)
        rights = section_rights(section, topic);
    if (rights & (RIGHT_DENY | wanted))
        return !(rights & RIGHT_DENY);

    if (!acl->patterns || strpbrk(who->client_id, "+#") || (who->user && strpbrk(who->user, "+#")))
        return false;
    rights = pattern_rights(acl, who, topic);
    return (rights & wanted) && !(rights & RIGHT_DENY);
}

static void section_free(struct section *section)
{
    struct literal *literal, *next;
    if (!section)
        return;
    HASH_ITER(hh, section->literals, literal, next) {
        HASH_DEL(section->literals, literal);
        free(literal);
    }
    while (section->wildcards) {
        struct wildcard *rule = section->wildcards;
        section->wildcards = rule->next;
        free(rule);
    }
    free(section);
}

void acl_destroy(struct acl *acl)
{
    struct section *section, *next;
    HASH_ITER(hh, acl->users, section, next) {
        HASH_DEL(acl->users, section);
        section_free(section);
    }
    section_free(acl->anonymous);
    while (acl->patterns) {
        struct pattern *pattern = acl->patterns;
        acl->patterns = pattern->next;
        free(pattern->parts);
        free(pattern);
    }
    free(acl);
}

struct acl *acl_ref(struct acl *acl)
{
    if (acl)
        acl->refs++;
    return acl;
}

void acl_unref(struct acl *acl)
{
    if (acl && --acl->refs == 0)
        acl_destroy(acl);
}
