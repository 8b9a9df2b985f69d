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
 * One word is our own, "subscribe" in the place of "read". Once a rule that could concern a client says it,
 * that client may subscribe only to filters that lie wholly within one of these rules, and not wholly within
 * a "deny". So "#" can be refused while its parts are allowed.
 *
 * And there are limits, each on a line of its own, before the "topic" lines of its section:
 *
 *   qos N               no PUBLISH or will above QoS N; what is subscribed is granted at most N
 *   retain yes|no       no: no PUBLISH or will with RETAIN, nor the empty one that deletes
 *   clientid PATTERN    } may be repeated: one of the section's must fit, or the client is not connected.
 *   address CIDR        } PATTERN: * and ? and %u; CIDR: an address, ADDRESS/BITS, "unix" or "any"
 *   tls required        no connection without TLS; or: tls optional
 *
 * In the section of a user they hold for that user. Before the first "user" line they hold for everybody,
 * anonymous or not, whose own section says nothing of that kind: so a section can tighten what is general and
 * loosen it. Our reasons:
 *
 *   - a limit behind a "topic" line of its section is refused: a file that was cut off could otherwise give
 *     the topics without the limit. The general ones come before all rules, as patterns hold for everybody
 *   - what one section says twice must agree
 *   - a pattern with %u fits nobody who has no name; %u is compared as it is, whatever characters are in it
 *   - :: and ::/0 hold no IPv4 address, but ::ffff:a.b.c.d is one, in the file and as the address of a client
 *   - TLS is what this broker speaks itself; a Unix socket is none
 *
 * What acl_load.c makes of it is one tree of topic levels, with the sections as the children of its root:
 *
 *   root -- mary ------- home -- mary -- #       read and write, line 3
 *      |                             \-- door    deny, line 4
 *      |--- (anonymous) - public -- #            read, line 1
 *      \--- (patterns) -- sensor -- %u -- %c     write, line 5
 *
 * A topic is walked once from left to right, at each level to the child of that name, to "+", and to those
 * with %u or %c in them, whose text is put in as the walk comes by. All edges are in one hash table, so a
 * look-up costs the same in a file of ten rules and in one of a hundred thousand. The limits hang on the
 * section (acl_limits.c).
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

/* ---- the walk: which rules fit a topic, or cover a filter ---- */

struct walk {
    const struct acl *acl;
    struct slice user, client; /* user.p NULL: anonymous */
    struct slice topic;
    uint32_t lines[RIGHTS]; /* the first one of each right that fits */
};

static void take(struct walk *walk, const struct rule *rule)
{
    for (int right = 0; right < RIGHTS; right++) {
        uint32_t line = rule->lines[right];
        if (line && (!walk->lines[right] || line < walk->lines[right]))
            walk->lines[right] = line;
    }
}

/* Where the topic goes on behind the text of the template with the names put in, which may hold slashes; 0:
 * it does not fit. */
static size_t behind_template(const struct walk *walk, struct slice level, size_t at)
{
    const struct slice topic = walk->topic;
    for (size_t i = 0; i < level.n; i++) {
        bool template = acl_is_template(slice_of(level.p + i, level.n - i < 2 ? level.n - i : 2));
        struct slice text = !template               ? slice_of(level.p + i, 1)
                            : level.p[i + 1] == 'u' ? walk->user
                                                    : walk->client;
        if (!text.p || topic.n - at < text.n || memcmp(topic.p + at, text.p, text.n) != 0)
            return 0;
        at += text.n;
        i += template;
    }
    return at == topic.n || topic.p[at] == '/' ? at + 1 : 0;
}

/* The rules below node against what is left of the topic from at, the start of a level; behind the last one
 * that is topic.n + 1. A wildcard of a filter is a level that only the same wildcard or "#" covers. There are
 * no more turns in depth than levels in a rule, ACL_LEVELS_MAX. */
static void fit(struct walk *walk, const struct rule *rule, size_t at)
{
    const struct slice topic = walk->topic;
    bool no_wildcards = at == 0 && topic.p[0] == '$'; /* [MQTT-4.7.2-1] */
    if (rule->hash && !no_wildcards)
        take(walk, rule->hash);
    if (at > topic.n) {
        take(walk, rule);
        return;
    }
    const uint8_t *slash = memchr(topic.p + at, '/', topic.n - at);
    size_t end = slash ? (size_t)(slash - topic.p) : topic.n;
    struct slice level = slice_of(topic.p + at, end - at);
    bool plus = slice_eq(level, slice_str("+")), hash = slice_eq(level, slice_str("#"));

    if (rule->plus && !no_wildcards && !hash)
        fit(walk, rule->plus, end + 1);
    if (!plus && !hash) {
        const struct tree *tree = &walk->acl->tree;
        const struct tree_node *child = tree_child(tree, &rule->node, level, tree_hash_level(tree, level));
        if (child && !(rule->templates && acl_is_template(level)))
            fit(walk, (const struct rule *)child, end + 1);
    }
    for (const struct rule *t = rule->templates; t; t = t->next_template) {
        size_t next = behind_template(walk, rule_level(t), at);
        if (next)
            fit(walk, t, next);
    }
}

/* ---- sections ---- */

/* The names put into a pattern must not be wildcards there. */
static bool dangerous(const struct principal *who)
{
    return strpbrk(who->client_id, "+#") || (who->user && strpbrk(who->user, "+#"));
}

const struct rule *acl_section(const struct acl *acl, const struct principal *who)
{
    if (!who->user)
        return acl->anonymous;
    struct slice user = slice_str(who->user);
    return user.n ? (const struct rule *)tree_child(&acl->tree, acl->tree.root, user,
                                                    tree_hash_level(&acl->tree, user))
                  : NULL;
}

static struct walk walk_of(const struct acl *acl, const struct principal *who, struct slice topic)
{
    return (struct walk){.acl = acl,
                         .user = who->user ? slice_str(who->user) : (struct slice){0},
                         .client = slice_str(who->client_id),
                         .topic = topic};
}

/* 1: allowed, -1: denied, 0: nothing fits. */
static int section_says(const struct rule *section, struct walk *walk, enum right wanted, uint32_t *line)
{
    if (!section)
        return 0;
    memset(walk->lines, 0, sizeof walk->lines);
    fit(walk, section, 0);
    *line = walk->lines[walk->lines[RIGHT_DENY] ? RIGHT_DENY : wanted];
    return walk->lines[RIGHT_DENY] ? -1 : *line ? 1 : 0;
}

static bool has(const struct rule *section, unsigned bits)
{
    return section && (section->below & bits);
}

struct acl_answer acl_ask_section(const struct acl *acl, const struct rule *section,
                                  const struct principal *who, enum acl_access access, struct slice topic)
{
    static const enum right rights[] = {
        [ACL_READ] = RIGHT_READ, [ACL_WRITE] = RIGHT_WRITE, [ACL_SUBSCRIBE] = RIGHT_SUBSCRIBE};
    struct acl_answer answer = {.allowed = dollar_allows(access, topic)};
    if (!acl || !answer.allowed)
        return answer;
    answer.allowed = false;
    if (!who || !who->client_id || topic.n == 0)
        return answer;

    if (access == ACL_SUBSCRIBE && !has(section, BIT_SUBSCRIBE) && !has(acl->patterns, BIT_SUBSCRIBE)) {
        answer.allowed = true;
        return answer;
    }
    struct walk walk = walk_of(acl, who, topic);
    int says = section_says(section, &walk, rights[access], &answer.line);
    if (says == 0 && !dangerous(who))
        says = section_says(acl->patterns, &walk, rights[access], &answer.line);
    answer.allowed = says > 0;
    return answer;
}

struct acl_answer acl_ask(const struct acl *acl, const struct principal *who, enum acl_access access,
                          struct slice topic)
{
    return acl_ask_section(acl, acl && who ? acl_section(acl, who) : NULL, who, access, topic);
}

bool acl_allows(const struct acl *acl, const struct principal *who, enum acl_access access,
                struct slice topic)
{
    return acl_ask(acl, who, access, topic).allowed;
}

/* ---- questions about all that a filter matches ---- */

enum { MOST_LOOKED_AT = 256 };

struct overlap {
    const struct walk *walk; /* its topic is the filter */
    enum right right;
    bool slashes; /* in the names that templates stand for: then those are not followed */
    int left;     /* to be looked at */
};

static bool overlaps(struct overlap *o, const struct rule *rule, size_t at);

static bool a_child_overlaps(struct overlap *o, const struct rule *rule, size_t next)
{
    for (const struct tree_node *child = rule->node.child; child; child = child->next)
        if (overlaps(o, (const struct rule *)child, next))
            return true;
    return false;
}

static bool a_template_overlaps(struct overlap *o, const struct rule *rule, size_t at)
{
    for (const struct rule *t = rule->templates; t; t = t->next_template) {
        size_t next = behind_template(o->walk, rule_level(t), at);
        if (o->slashes || (next && overlaps(o, t, next)))
            return true;
    }
    return false;
}

/* Whether a rule of this right, here or below, may fit something that the filter from at on matches. True
 * when that takes long to find out. */
static bool overlaps(struct overlap *o, const struct rule *rule, size_t at)
{
    const struct slice filter = o->walk->topic;
    bool no_wildcards = at == 0 && filter.p[0] == '$';
    if (!(rule->below & 1u << o->right))
        return false;
    if (o->left-- <= 0 || (rule->hash && !no_wildcards && rule->hash->lines[o->right]))
        return true;
    if (at > filter.n)
        return rule->lines[o->right] != 0;
    const uint8_t *slash = memchr(filter.p + at, '/', filter.n - at);
    size_t end = slash ? (size_t)(slash - filter.p) : filter.n;
    struct slice level = slice_of(filter.p + at, end - at);
    if (slice_eq(level, slice_str("#")) || (o->slashes && rule->templates))
        return true;
    if (slice_eq(level, slice_str("+")))
        return a_child_overlaps(o, rule, end + 1);
    const struct tree *tree = &o->walk->acl->tree;
    const struct tree_node *child = tree_child(tree, &rule->node, level, tree_hash_level(tree, level));
    return (child && overlaps(o, (const struct rule *)child, end + 1)) ||
           (rule->plus && !no_wildcards && overlaps(o, rule->plus, end + 1)) ||
           a_template_overlaps(o, rule, at);
}

static bool section_overlaps(const struct rule *section, const struct walk *walk, enum right right)
{
    struct overlap o = {.walk = walk, .right = right, .left = MOST_LOOKED_AT};
    o.slashes = memchr(walk->client.p, '/', walk->client.n) ||
                (walk->user.p && memchr(walk->user.p, '/', walk->user.n));
    return section && overlaps(&o, section, 0);
}

bool acl_reads_all(const struct acl *acl, const struct principal *who, struct slice filter)
{
    if (!dollar_allows(ACL_READ, filter))
        return false;
    if (!acl)
        return true;
    const struct rule *section = acl_section(acl, who);
    struct walk walk = walk_of(acl, who, filter);
    uint32_t line;
    int says = section_says(section, &walk, RIGHT_READ, &line);
    if (section_overlaps(section, &walk, RIGHT_DENY))
        return false;
    return says > 0 ||
           (says == 0 && !dangerous(who) && section_says(acl->patterns, &walk, RIGHT_READ, &line) > 0 &&
            !section_overlaps(acl->patterns, &walk, RIGHT_DENY));
}

bool acl_reads_some(const struct acl *acl, const struct principal *who, struct slice filter)
{
    if (!dollar_allows(ACL_READ, filter))
        return false;
    if (!acl)
        return true;
    const struct rule *section = acl_section(acl, who);
    struct walk walk = walk_of(acl, who, filter);
    uint32_t line;
    if (section_says(section, &walk, RIGHT_READ, &line) < 0)
        return false;
    return section_overlaps(section, &walk, RIGHT_READ) ||
           (!dangerous(who) && section_says(acl->patterns, &walk, RIGHT_READ, &line) >= 0 &&
            section_overlaps(acl->patterns, &walk, RIGHT_READ));
}

struct acl_answer acl_subscribes(const struct acl *acl, const struct principal *who, struct slice filter,
                                 bool readable_only)
{
    struct acl_answer answer = acl_ask(acl, who, ACL_SUBSCRIBE, filter);
    if (answer.allowed && readable_only && !acl_reads_some(acl, who, filter))
        return (struct acl_answer){.reason = "nothing that it matches may be read"};
    return answer;
}

bool acl_limits_subscribing(const struct acl *acl)
{
    return acl && has((const struct rule *)acl->tree.root, BIT_SUBSCRIBE);
}

const char *acl_path(const struct acl *acl)
{
    return acl ? acl->path : NULL;
}

/* ---- references ---- */

static void drop_limits(struct tree_node *node)
{
    limits_free(((struct rule *)node)->limits);
}

void acl_destroy(struct acl *acl)
{
    tree_destroy(&acl->tree, drop_limits);
    limits_free(acl->general);
    free(acl->path);
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
