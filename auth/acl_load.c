/*
 * acl_load.c - reads mosquitto's acl_file into the rules of acl_rules.h (what they mean stands in acl.c).
 *
 *   topic|pattern [read|write|readwrite|deny|subscribe] FILTER
 *   user NAME
 *   qos|retain|clientid|address|tls VALUE
 *   # comment
 *
 * Words are parted by spaces only; FILTER and NAME may hold spaces. What mosquitto refuses is refused here,
 * with file and line; and so are zero bytes and a topic that is not UTF-8: a "deny" that could never fit
 * would not deny.
 */
#include "auth/acl_rules.h"
#include "auth/lines.h"
#include "broker/topic.h"

#include <stdlib.h>

/* No user has the names of the other two sections: a line holds no zero byte. */
#define ANONYMOUS slice_of("\0", 1)
#define PATTERNS  slice_of("\0\0", 2)

static struct rule *child_of(struct acl *acl, struct rule *parent, struct slice level)
{
    return (struct rule *)tree_make_child(&acl->tree, &parent->node, level);
}

/* The section of user (empty: the anonymous one), or of the patterns, made when it is not there. NULL without
 * memory. */
static struct rule *section_need(struct acl *acl, struct slice user, bool is_pattern)
{
    struct slice name = is_pattern ? PATTERNS : user.n ? user : ANONYMOUS;
    struct rule *section = child_of(acl, (struct rule *)acl->tree.root, name);
    if (is_pattern)
        acl->patterns = section;
    else if (!user.n)
        acl->anonymous = section;
    return section;
}

/* The rule for the next level below, which is linked where the look-up finds it. */
static struct rule *descend(struct acl *acl, struct rule *rule, struct slice level, bool is_pattern)
{
    struct rule *child = child_of(acl, rule, level);
    if (!child || child->below)
        return child; /* no memory, or linked already */
    if (slice_eq(level, slice_str("+"))) {
        rule->plus = child;
    } else if (slice_eq(level, slice_str("#"))) {
        rule->hash = child;
    } else if (is_pattern && acl_is_template(level)) {
        child->next_template = rule->templates;
        rule->templates = child;
    }
    return child;
}

static int add_rule(struct acl *acl, struct slice user, bool is_pattern, struct slice filter, unsigned bits,
                    unsigned line)
{
    struct topic_walk walk = topic_walk(filter);
    struct slice level;
    struct rule *rule = section_need(acl, user, is_pattern);
    ((struct rule *)acl->tree.root)->below |= bits;
    while (rule) {
        rule->below |= bits;
        if (!topic_next_level(&walk, &level))
            break;
        rule = descend(acl, rule, level, is_pattern);
    }
    for (int right = 0; rule && right < RIGHTS; right++)
        if ((bits & 1u << right) && !rule->lines[right])
            rule->lines[right] = line;
    return rule ? 0 : -1;
}

/* Takes the next word off the front of rest. Only spaces part words, as in mosquitto. */
static struct slice next_word(struct slice *rest)
{
    struct slice word;
    while (rest->n && rest->p[0] == ' ')
        *rest = slice_of(rest->p + 1, rest->n - 1);
    word = slice_of(rest->p, 0);
    while (word.n < rest->n && word.p[word.n] != ' ')
        word.n++;
    *rest = slice_of(rest->p + word.n, rest->n - word.n);
    return word;
}

static bool is(struct slice word, const char *text)
{
    return slice_eq(word, slice_str(text));
}

/* The bits of the rights that a word gives; 0 when it is not such a word. */
static unsigned rights_of(struct slice word)
{
    return is(word, "read")        ? BIT_READ
           : is(word, "write")     ? BIT_WRITE
           : is(word, "readwrite") ? BIT_READ | BIT_WRITE
           : is(word, "subscribe") ? BIT_SUBSCRIBE
           : is(word, "deny")      ? BIT_DENY
                                   : 0;
}

/* For messages: not more of it than fits. */
static struct slice shown(struct slice s)
{
    return slice_of(s.p, s.n < 100 ? s.n : 100);
}

static int check_filter(struct lines *lines, struct slice filter, struct err *err)
{
    if (!topic_filter_valid(filter))
        return lines_fail(lines, err,
                          "\"%.*s\" is not a topic filter (+ must be a whole level, # the last one)",
                          SLICE_ARG(shown(filter)));
    if (!utf8_valid(filter))
        return lines_fail(lines, err,
                          "the topic is not UTF-8, so it could never fit (save the file as UTF-8)");
    if (filter.n > ACL_TOPIC_MAX || topic_levels(filter) > ACL_LEVELS_MAX)
        return lines_fail(lines, err, "the topic is too long (at most %d bytes and %d levels)", ACL_TOPIC_MAX,
                          ACL_LEVELS_MAX);
    return 0;
}

/* What may be a slip of the pen, and is no mistake. */
static void warn_of_names(struct lines *lines, bool is_pattern, struct slice filter)
{
    bool names = acl_is_template(filter);
    if (is_pattern && !names)
        lines_warn(lines, "a pattern without %%u and %%c: this rule holds for every client");
    if (!is_pattern && names)
        lines_warn(lines,
                   "%%u and %%c are plain text in a \"topic\" line (a \"pattern\" line replaces them)");
}

/* "topic" and "pattern": [read|write|readwrite|deny|subscribe] FILTER. The right may be left out, if there is
 * no space in FILTER. */
static int load_rule(struct acl *acl, struct lines *lines, struct slice user, bool is_pattern,
                     struct slice rest, struct err *err)
{
    struct slice word = next_word(&rest), filter = lines_trim(rest);
    unsigned bits = BIT_READ | BIT_WRITE;
    if (word.n == 0)
        return lines_fail(lines, err, "no topic");
    if (filter.n) {
        bits = rights_of(word);
        if (!bits)
            return lines_fail(lines, err, "\"%.*s\" is not read, write, readwrite, deny or subscribe",
                              SLICE_ARG(shown(word)));
    } else {
        filter = word;
        if (rights_of(word))
            lines_warn(lines, "\"%.*s\" is taken as a topic, as no topic follows it", SLICE_ARG(word));
    }
    if (check_filter(lines, filter, err) != 0)
        return -1;
    warn_of_names(lines, is_pattern, filter);
    if (add_rule(acl, user, is_pattern, filter, bits, lines_number(lines)) != 0)
        return lines_fail(lines, err, "out of memory");
    return 0;
}

/* The word is shown when it could be a slip of the pen. A password file or a key that was named as acl_file
 * by mistake must not end up in the log. */
static int not_a_rule(struct lines *lines, struct slice word, struct err *err)
{
    bool slip = word.n <= 20;
    for (size_t i = 0; i < word.n && slip; i++)
        slip = (word.p[i] | 0x20) >= 'a' && (word.p[i] | 0x20) <= 'z';
    if (slip)
        return lines_fail(lines, err, "\"%.*s\" is not topic, pattern, user or a limit", SLICE_ARG(word));
    return lines_fail(lines, err, "the line does not begin with topic, pattern or user");
}

/* Before the rules that they limit: where the file was cut off they must not be missing first. */
static int load_limit(struct acl *acl, struct lines *lines, struct slice user, struct slice word,
                      struct slice value, struct err *err)
{
    struct rule *section = user.n ? section_need(acl, user, false) : (struct rule *)acl->tree.root;
    if (!section)
        return lines_fail(lines, err, "out of memory");
    if (section->below)
        return lines_fail(lines, err, "%.*s must stand before the topics %s", SLICE_ARG(word),
                          user.n ? "of its user" : "and patterns");
    acl->limited = true;
    return limits_load(user.n ? &section->limits : &acl->general, lines, word, value, err);
}

/* user: the name of the section that the line stands in, with room for a longest line; user_n its length. */
static int load_line(struct acl *acl, struct lines *lines, struct slice line, uint8_t *user, size_t *user_n,
                     struct err *err)
{
    /* A '#' after blanks does not start a comment: mosquitto would refuse that line too. */
    if (line.n && line.p[0] == '#')
        return 0;
    while (line.n && lines_trim(slice_of(line.p + line.n - 1, 1)).n == 0)
        line.n--;
    struct slice rest = line, word = next_word(&rest);
    if (word.n == 0)
        return 0;
    if (is(word, "topic") || is(word, "pattern"))
        return load_rule(acl, lines, slice_of(user, *user_n), is(word, "pattern"), rest, err);
    if (limits_word(word))
        return load_limit(acl, lines, slice_of(user, *user_n), word, lines_trim(rest), err);
    if (!is(word, "user"))
        return not_a_rule(lines, word, err);
    struct slice name = lines_trim(rest);
    if (name.n == 0)
        return lines_fail(lines, err, "no user name");
    memcpy(user, name.p, name.n);
    *user_n = name.n;
    return 0;
}

static int load(struct acl *acl, struct lines *lines, struct err *err)
{
    struct slice line;
    size_t user_n = 0;
    int got;
    uint8_t *user = malloc(LINES_MAX);
    if (!user)
        return lines_fail(lines, err, "out of memory");
    while ((got = lines_next(lines, &line, err)) > 0)
        if (load_line(acl, lines, line, user, &user_n, err) != 0) {
            got = -1;
            break;
        }
    if (got == 0 && lines_unfinished(lines))
        lines_warn(lines, "the last line has no end: is the file complete?");
    free(user);
    return got;
}

struct acl *acl_load(const char *path, struct err *err)
{
    struct acl *acl = calloc(1, sizeof *acl);
    if (!acl || tree_init(&acl->tree, sizeof(struct rule), false) != 0) {
        free(acl);
        err_set(err, "%s: out of memory", path);
        return NULL;
    }
    acl->refs = 1;
    acl->path = strdup(path);
    if (!acl->path) {
        acl_destroy(acl);
        err_set(err, "%s: out of memory", path);
        return NULL;
    }
    struct lines *lines = lines_open(path, false, err);
    int rc = lines ? load(acl, lines, err) : -1;
    lines_close(lines);
    if (rc != 0) {
        acl_destroy(acl);
        return NULL;
    }
    return acl;
}
