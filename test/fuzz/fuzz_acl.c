/*
 * fuzz_acl.c - any bytes as an acl_file and as names.
 *
 * The input is four parts, ended by newlines but for the last: user, client id, topic, acl_file. The file is
 * loaded and asked, and each answer is compared with that of the plain way: read the whole file line by line
 * for each question, put the names in, and match the result as a filter. What is said of all topics that a
 * filter matches must be so for those that we know. So must be what the limits let through, of some
 * addresses, with TLS and without, at each QoS. Then its first line alone is taken as the filter of a pattern
 * and asked in the same way.
 */
#include "auth/lines.h"
#include "broker/acl.h"
#include "broker/topic.h"
#include "test/fuzz/acl_plain_limits.h"
#include "test/fuzz/fuzz.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    fuzz_log_start();
    return 0;
}

static struct acl *load(const char *start, struct slice text)
{
    char path[32];
    struct err err = {""};
    int fd = memfd_create("acl", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (fd < 0 || fchmod(fd, 0600) != 0 || write(fd, start, strlen(start)) < 0 ||
        write(fd, text.p, text.n) < 0)
        abort();
    struct acl *acl = acl_load(path, &err);
    if (!acl && strncmp(err.text, path, strlen(path)) != 0)
        abort();
    close(fd);
    return acl;
}

/* The next line of the input, without its newline. */
static struct slice next_line(struct slice *rest)
{
    const uint8_t *end = rest->n ? memchr(rest->p, '\n', rest->n) : NULL;
    struct slice line = slice_of(rest->p, end ? (size_t)(end - rest->p) : rest->n);
    *rest = slice_of(rest->p + line.n + (end ? 1 : 0), rest->n - line.n - (end ? 1 : 0));
    return line;
}

/* As a C string: names have no zero bytes, the codec sees to that. */
static char *name_of(struct slice s)
{
    char *name = calloc(1, s.n + 1);
    if (!name)
        abort();
    for (size_t i = 0; i < s.n; i++)
        name[i] = (char)(s.p[i] ? s.p[i] : '0');
    return name;
}

/* Whether all that the wanted filter matches, or the topic name, is matched by the rule's: level for level.
 */
static bool covers(struct slice rule, struct slice wanted)
{
    struct topic_walk rules = topic_walk(rule), wants = topic_walk(wanted);
    struct slice r, w;
    if (wanted.p[0] == '$' && (rule.p[0] == '+' || rule.p[0] == '#'))
        return false;
    while (topic_next_level(&rules, &r)) {
        if (slice_eq(r, slice_str("#")))
            return true;
        if (!topic_next_level(&wants, &w) || slice_eq(w, slice_str("#")))
            return false;
        if (!slice_eq(r, slice_str("+")) && !slice_eq(r, w))
            return false;
    }
    return !wants.more;
}

static bool plain_way(struct slice filter, const struct principal *who, struct slice topic)
{
    size_t user_n = who->user ? strlen(who->user) : 0, client_n = strlen(who->client_id), n = 0;
    uint8_t *expanded = malloc(filter.n * (user_n + client_n + 1) + 1);
    if (!expanded)
        abort();
    for (size_t i = 0; i < filter.n; i++) {
        uint8_t next = i + 1 < filter.n ? filter.p[i + 1] : 0;
        if (filter.p[i] == '%' && (next == 'c' || (next == 'u' && who->user))) {
            const char *name = next == 'u' ? who->user : who->client_id;
            memcpy(expanded + n, name, strlen(name));
            n += strlen(name);
            i++;
        } else {
            expanded[n++] = filter.p[i];
        }
    }
    bool yes = n && covers(slice_of(expanded, n), topic);
    free(expanded);
    return yes;
}

/* ---- the whole file, once for each question ---- */

static bool is(struct slice word, const char *text)
{
    return slice_eq(word, slice_str(text));
}

static struct slice next_word(struct slice *rest)
{
    while (rest->n && rest->p[0] == ' ')
        *rest = slice_of(rest->p + 1, rest->n - 1);
    const uint8_t *end = rest->n ? memchr(rest->p, ' ', rest->n) : NULL;
    struct slice word = slice_of(rest->p, end ? (size_t)(end - rest->p) : rest->n);
    *rest = slice_of(rest->p + word.n, rest->n - word.n);
    return word;
}

enum { OWN, PATTERN, KINDS };

struct question {
    const struct principal *who;
    enum acl_access access;
    struct slice topic, section; /* the user whose section it is */
    bool allowed[KINDS], denied[KINDS];
    bool subscribes;               /* some rule of that kind could concern the client */
    struct plain_limits limits[2]; /* general, own */
    bool any_rule, any_own_rule;   /* before this line */
};

static bool mine(const struct question *q)
{
    return q->who->user ? q->section.n && is(q->section, q->who->user) : q->section.n == 0;
}

static void plain_rule(struct question *q, int kind, struct slice rest)
{
    struct slice word = next_word(&rest), filter = lines_trim(rest);
    bool both = !filter.n || is(word, "readwrite");
    if (!filter.n)
        filter = word;
    q->subscribes |= !both && is(word, "subscribe") && (kind == PATTERN || mine(q));
    if (kind == PATTERN && !q->who->user && memmem(filter.p, filter.n, "%u", 2))
        return;
    if (kind == OWN ? !mine(q) || !covers(filter, q->topic) : !plain_way(filter, q->who, q->topic))
        return;
    q->denied[kind] |= !both && is(word, "deny");
    q->allowed[kind] |= q->access == ACL_SUBSCRIBE
                            ? !both && is(word, "subscribe")
                            : both || is(word, q->access == ACL_READ ? "read" : "write");
}

static void plain_line(struct question *q, struct slice line)
{
    struct slice rest = line, word;
    if (line.n && line.p[0] == '#')
        return;
    while (rest.n && lines_trim(slice_of(rest.p + rest.n - 1, 1)).n == 0)
        rest.n--;
    word = next_word(&rest);
    if (is(word, "user")) {
        q->section = lines_trim(rest);
    } else if (plain_limit_word(word)) {
        bool own = q->section.n > 0;
        CHECK(own ? !mine(q) || !q->any_own_rule : !q->any_rule); /* it would have been refused */
        if (!own || (q->who->user && mine(q)))
            plain_limit(&q->limits[own], q->who, word, lines_trim(rest));
    } else if (word.n) {
        q->any_rule = true;
        q->any_own_rule |= is(word, "topic") && mine(q);
        plain_rule(q, is(word, "pattern") ? PATTERN : OWN, rest);
    }
}

static struct question plain_question(struct slice file, const struct principal *who, enum acl_access access,
                                      struct slice topic)
{
    const struct plain_limits nothing = {.qos = -1, .retain = -1, .tls = -1};
    struct question q = {.who = who, .access = access, .topic = topic, .limits = {nothing, nothing}};
    while (file.n)
        plain_line(&q, next_line(&file));
    return q;
}

static bool plain_allows(struct slice file, const struct principal *who, enum acl_access access,
                         struct slice topic)
{
    bool dangerous = strpbrk(who->client_id, "+#") || (who->user && strpbrk(who->user, "+#"));
    bool share = topic.n >= 6 && memcmp(topic.p, "$share", 6) == 0;
    bool sys = topic.n >= 4 && memcmp(topic.p, "$SYS", 4) == 0;
    if ((share && access != ACL_SUBSCRIBE) ||
        (sys && access == ACL_WRITE && !topic_matches(slice_str("$SYS/broker/connection/+/state"), topic)))
        return false;
    struct question q = plain_question(file, who, access, topic);
    if (access == ACL_SUBSCRIBE && !q.subscribes)
        return true;
    if (q.denied[OWN] || q.allowed[OWN])
        return !q.denied[OWN];
    return !dangerous && q.allowed[PATTERN] && !q.denied[PATTERN];
}

/* The topic with some of its levels made "+", and perhaps cut with "#" at the end, as choice says. */
static struct slice filter_of(struct slice topic, uint32_t choice, uint8_t *buf)
{
    struct topic_walk walk = topic_walk(topic);
    struct slice level;
    size_t n = 0;
    for (bool first = true; topic_next_level(&walk, &level);
         first = false, choice = choice >> 3 | choice << 29) {
        if (!first)
            buf[n++] = '/';
        if ((choice & 7) == 7) {
            buf[n++] = '#';
            break;
        }
        if ((choice & 7) >= 5)
            level = slice_str("+");
        memcpy(buf + n, level.p, level.n);
        n += level.n;
    }
    return slice_of(buf, n);
}

static void ask_filters(const struct acl *acl, struct slice file, const struct principal *who,
                        struct slice topic)
{
    uint8_t *buf = malloc(2 * topic.n + 2);
    bool readable = plain_allows(file, who, ACL_READ, topic);
    if (!buf)
        abort();
    for (int i = 0; i < 8; i++) {
        uint32_t choice;
        CHECK(getrandom(&choice, sizeof choice, 0) == sizeof choice);
        struct slice filter = filter_of(topic, choice, buf);
        CHECK(acl_allows(acl, who, ACL_SUBSCRIBE, filter) == plain_allows(file, who, ACL_SUBSCRIBE, filter));
        CHECK(acl_subscribes(acl, who, filter, true).allowed ==
              (acl_allows(acl, who, ACL_SUBSCRIBE, filter) && acl_reads_some(acl, who, filter)));
        CHECK(acl_limits_subscribing(acl) || acl_allows(acl, who, ACL_SUBSCRIBE, filter));
        if (topic_matches(filter, topic)) {
            CHECK(readable || !acl_reads_all(acl, who, filter));
            CHECK(!readable || acl_reads_some(acl, who, filter));
        }
    }
    free(buf);
}

static void ask_limits(const struct acl *acl, struct slice file, const struct principal *who,
                       struct slice topic)
{
    static const char *const addresses[] = {"10.1.2.3",        "192.168.7.9", "::1",  "fe80::1%eth0",
                                            "::ffff:10.1.2.3", "2001:db8::7", "unix", ""};
    struct principal peer = *who;
    bool text = utf8_valid(slice_str(who->client_id)) && utf8_valid(slice_str(who->user));
    for (size_t i = 0; i < 2 * sizeof addresses / sizeof *addresses; i++) {
        snprintf(peer.address, sizeof peer.address, "%s", addresses[i / 2]);
        peer.tls_version = i % 2 ? "TLSv1.3" : NULL;
        struct acl_answer answer = acl_admits(acl, &peer);
        struct question q = plain_question(file, &peer, ACL_WRITE, slice_str("x"));
        bool admitted = plain_admits(&q.limits[1], &q.limits[0], &peer);
        CHECK(text ? answer.allowed == admitted : admitted || !answer.allowed);
        CHECK(answer.allowed || (answer.line && answer.reason));
    }
    struct question q = plain_question(file, who, ACL_WRITE, slice_str("x"));
    int most = q.limits[1].qos >= 0 ? q.limits[1].qos : q.limits[0].qos >= 0 ? q.limits[0].qos : 2;
    int keeps = q.limits[1].retain >= 0 ? q.limits[1].retain : q.limits[0].retain != 0;
    CHECK(acl_most_qos(acl, who).most == most);
    for (int qos = 0; qos <= 2; qos++)
        for (int retain = 0; retain <= 1; retain++)
            CHECK(acl_publishes(acl, who, topic, (uint8_t)qos, retain).allowed ==
                  (acl_allows(acl, who, ACL_WRITE, topic) && qos <= most && (!retain || keeps)));
}

static void ask(const struct acl *acl, struct slice file, const struct principal *who, struct slice topic)
{
    ask_limits(acl, file, who, topic);
    for (int access = ACL_READ; access <= ACL_SUBSCRIBE; access++) {
        bool allowed = acl_allows(acl, who, access, topic);
        CHECK(!topic_name_valid(topic) || allowed == plain_allows(file, who, access, topic));
    }
    if (topic_name_valid(topic))
        ask_filters(acl, file, who, topic);
}

/* ---- one pattern ---- */

static void compare(struct slice filter, const struct principal *who, struct slice topic)
{
    struct slice trimmed = lines_trim(filter);
    struct acl *acl = trimmed.n == filter.n && filter.n ? load("pattern read ", filter) : NULL;
    bool dangerous = strpbrk(who->user, "+#") || strpbrk(who->client_id, "+#");
    bool dollar_share = topic.n >= 6 && memcmp(topic.p, "$share", 6) == 0;
    if (acl && !dollar_share &&
        acl_allows(acl, who, ACL_READ, topic) != (!dangerous && plain_way(filter, who, topic)))
        abort();
    acl_unref(acl);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_of(data, size);
    char *user = name_of(next_line(&rest)), *client = name_of(next_line(&rest));
    struct slice topic = next_line(&rest);
    struct principal who = {.user = user, .client_id = client}, anonymous = {.client_id = client};

    struct acl *acl = load("", rest);
    if (acl) {
        ask(acl, rest, &who, topic);
        ask(acl, rest, &anonymous, topic);
        acl_unref(acl);
    }
    if (topic_name_valid(topic))
        compare(next_line(&rest), &who, topic);
    free(user);
    free(client);
    return 0;
}
