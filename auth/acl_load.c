/*
 * acl_load.c - reads mosquitto's acl_file into the rules of acl_rules.h (what they mean stands in acl.c).
 *
 *   topic|pattern [read|write|readwrite|deny] FILTER
 *   user NAME
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

enum { LEVELS_MAX = 201 /* mosquitto refuses more than 200 slashes */ };

static struct section *section_new(struct slice user)
{
    struct section *section = calloc(1, sizeof *section + user.n);
    if (section && user.n) {
        section->n = (unsigned)user.n;
        memcpy(section->user, user.p, user.n);
    }
    return section;
}

/* The section of user (empty: the anonymous one), made when it is not there. NULL without memory. */
static struct section *section_need(struct acl *acl, struct slice user)
{
    struct section *section = NULL;
    if (user.n == 0) {
        if (!acl->anonymous)
            acl->anonymous = section_new(user);
        return acl->anonymous;
    }
    HASH_FIND(hh, acl->users, user.p, (unsigned)user.n, section);
    if (section || !(section = section_new(user)))
        return section;
    HASH_ADD_KEYPTR(hh, acl->users, section->user, section->n, section);
    if (!section->hh.tbl) {
        free(section);
        return NULL;
    }
    return section;
}

static int add_literal(struct section *section, struct slice topic, unsigned rights)
{
    struct literal *literal = NULL;
    HASH_FIND(hh, section->literals, topic.p, (unsigned)topic.n, literal);
    if (!literal) {
        literal = calloc(1, sizeof *literal + topic.n);
        if (!literal)
            return -1;
        literal->n = (unsigned)topic.n;
        memcpy(literal->topic, topic.p, topic.n);
        HASH_ADD_KEYPTR(hh, section->literals, literal->topic, literal->n, literal);
        if (!literal->hh.tbl) {
            free(literal);
            return -1;
        }
    }
    literal->rights |= rights;
    return 0;
}

static int add_wildcard(struct section *section, struct slice filter, unsigned rights)
{
    struct wildcard *rule = calloc(1, sizeof *rule + filter.n);
    if (!rule)
        return -1;
    rule->rights = rights;
    rule->n = filter.n;
    memcpy(rule->filter, filter.p, filter.n);
    rule->next = section->wildcards;
    section->wildcards = rule;
    return 0;
}

static int add_topic(struct acl *acl, struct slice user, struct slice filter, unsigned rights)
{
    struct section *section = section_need(acl, user);
    if (!section)
        return -1;
    if (memchr(filter.p, '+', filter.n) || memchr(filter.p, '#', filter.n))
        return add_wildcard(section, filter, rights);
    return add_literal(section, filter, rights);
}

/* The kind of the part that starts at filter[i]. */
static enum part_kind part_at(struct slice filter, size_t i)
{
    const uint8_t *p = filter.p + i;
    if (p[0] == '%' && filter.n - i >= 2 && p[1] == 'u')
        return PART_USER;
    if (p[0] == '%' && filter.n - i >= 2 && p[1] == 'c')
        return PART_CLIENT;
    if (p[0] == '/' && filter.n - i == 2 && p[1] == '#')
        return PART_REST;
    return p[0] == '#' ? PART_ALL : p[0] == '+' ? PART_LEVEL : PART_TEXT;
}

/* Cuts the filter into parts. There are at most as many as bytes; parts NULL: only counts them. */
static size_t cut(struct slice filter, struct part *parts)
{
    size_t n = 0, i = 0;
    while (i < filter.n) {
        enum part_kind kind = part_at(filter, i);
        size_t start = i;
        if (kind == PART_TEXT) {
            while (i < filter.n && part_at(filter, i) == PART_TEXT)
                i++;
        } else {
            i += kind == PART_LEVEL || kind == PART_ALL ? 1 : 2;
        }
        if (parts)
            parts[n] = (struct part){kind, slice_of(filter.p + start, kind == PART_TEXT ? i - start : 0)};
        n++;
    }
    return n;
}

static bool has_part(const struct pattern *pattern, enum part_kind kind)
{
    for (size_t i = 0; i < pattern->parts_n; i++)
        if (pattern->parts[i].kind == kind)
            return true;
    return false;
}

static int add_pattern(struct acl *acl, struct lines *lines, struct slice filter, unsigned rights)
{
    struct pattern *pattern = calloc(1, sizeof *pattern + filter.n);
    if (!pattern)
        return -1;
    memcpy(pattern->filter, filter.p, filter.n);
    filter.p = pattern->filter;
    pattern->rights = rights;
    pattern->parts_n = cut(filter, NULL);
    pattern->parts = calloc(pattern->parts_n, sizeof *pattern->parts);
    if (!pattern->parts) {
        free(pattern);
        return -1;
    }
    cut(filter, pattern->parts);
    pattern->wants_user = has_part(pattern, PART_USER);
    if (!pattern->wants_user && !has_part(pattern, PART_CLIENT))
        lines_warn(lines, "a pattern without %%u and %%c: this rule holds for every client");
    pattern->next = acl->patterns;
    acl->patterns = pattern;
    return 0;
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

/* The rights that a word gives; 0 when it is not such a word. */
static unsigned rights_of(struct slice word)
{
    return is(word, "read")        ? RIGHT_READ
           : is(word, "write")     ? RIGHT_WRITE
           : is(word, "readwrite") ? RIGHT_READ | RIGHT_WRITE
           : is(word, "deny")      ? RIGHT_DENY
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
    if (filter.n > ACL_TOPIC_MAX || topic_levels(filter) > LEVELS_MAX)
        return lines_fail(lines, err, "the topic is too long (at most %d bytes and %d levels)", ACL_TOPIC_MAX,
                          LEVELS_MAX);
    return 0;
}

/* "topic" and "pattern": [read|write|readwrite|deny] FILTER. The right may be left out, if there is no space
 * in FILTER. */
static int load_rule(struct acl *acl, struct lines *lines, struct slice user, bool is_pattern,
                     struct slice rest, struct err *err)
{
    struct slice word = next_word(&rest), filter = lines_trim(rest);
    unsigned rights = RIGHT_READ | RIGHT_WRITE;
    if (word.n == 0)
        return lines_fail(lines, err, "no topic");
    if (filter.n) {
        rights = rights_of(word);
        if (!rights)
            return lines_fail(lines, err, "\"%.*s\" is not read, write, readwrite or deny",
                              SLICE_ARG(shown(word)));
    } else {
        filter = word;
        if (rights_of(word))
            lines_warn(lines, "\"%.*s\" is taken as a topic, as no topic follows it", SLICE_ARG(word));
    }
    if (check_filter(lines, filter, err) != 0)
        return -1;
    if (!is_pattern && (memmem(filter.p, filter.n, "%u", 2) || memmem(filter.p, filter.n, "%c", 2)))
        lines_warn(lines,
                   "%%u and %%c are plain text in a \"topic\" line (a \"pattern\" line replaces them)");
    if ((is_pattern ? add_pattern(acl, lines, filter, rights) : add_topic(acl, user, filter, rights)) != 0)
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
        return lines_fail(lines, err, "\"%.*s\" is not topic, pattern or user", SLICE_ARG(word));
    return lines_fail(lines, err, "the line does not begin with topic, pattern or user");
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
    if (!acl) {
        err_set(err, "%s: out of memory", path);
        return NULL;
    }
    acl->refs = 1;
    struct lines *lines = lines_open(path, false, err);
    int rc = lines ? load(acl, lines, err) : -1;
    lines_close(lines);
    if (rc != 0) {
        acl_destroy(acl);
        return NULL;
    }
    return acl;
}
