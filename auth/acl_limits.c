/*
 * acl_limits.c - the limits of an acl_file: read, kept, and asked. What they mean stands in acl.c.
 *
 * Each section has at most one struct limits, found with the section by one look-up; the general one hangs on
 * the acl. Kind for kind the section's own counts, or else the general one. Of client ids and addresses there
 * may be LINES_MOST of each in a section, looked at one after the other, and only when a client connects and
 * at a reload.
 *
 * The hard part is that a client chooses its client id, and often its user name: a pattern is matched piece
 * by piece between its '*', each at the first place where it fits, so nothing is ever tried twice over; names
 * are compared as bytes as the match comes by them and never become part of a pattern; and a client id longer
 * than NAME_MOST fits none but "*".
 */
#include "auth/acl_limits.h"
#include "auth/acl_rules.h"
#include "broker/topic.h"

#include <arpa/inet.h>
#include <stdlib.h>

enum { LINES_MOST = 100, NAME_MOST = 512, NOWHERE = NAME_MOST + 1 };

/* qos: the highest one; retain, tls: 1 for yes, required. line 0: it is not said. */
struct setting {
    uint32_t line;
    uint8_t value;
};

struct glob {
    struct glob *next;
    uint32_t line;
    uint32_t n;
    uint8_t text[];
};

/* IPv4-mapped addresses are IPv4 addresses. */
struct network {
    enum { NET_NONE, NET_ANY, NET_UNIX, NET_IPV4, NET_IPV6 } kind;
    unsigned bits;
    uint8_t bytes[16];
    struct network *next;
    uint32_t line;
};

struct limits {
    struct setting qos, retain, tls;
    struct glob *client_ids; /* the last one first */
    struct network *addresses;
    uint32_t client_id_count, address_count;
    uint32_t first_client_id, first_address; /* their lines */
};

static bool is(struct slice word, const char *text)
{
    return slice_eq(word, slice_str(text));
}

/* ---- client ids ---- */

/* The next character of UTF-8. */
static size_t behind_char(struct slice text, size_t at)
{
    do {
        at++;
    } while (at < text.n && (text.p[at] & 0xc0) == 0x80);
    return at;
}

/* Where the text goes on behind a piece of a pattern, without '*', that is put at this place. */
static size_t behind_piece(struct slice piece, struct slice user, struct slice text, size_t at)
{
    for (size_t i = 0; i < piece.n; i++) {
        bool name = piece.p[i] == '%' && i + 1 < piece.n && piece.p[i + 1] == 'u';
        if (name) {
            if (text.n - at < user.n || !slice_eq(slice_of(text.p + at, user.n), user))
                return NOWHERE;
            at += user.n;
            i++;
        } else if (at == text.n || (piece.p[i] != '?' && piece.p[i] != text.p[at])) {
            return NOWHERE;
        } else {
            at = piece.p[i] == '?' ? behind_char(text, at) : at + 1;
        }
    }
    return at;
}

/* The same at the first place from at on where it fits; first: only there; last: so that nothing is left. */
static size_t find_piece(struct slice piece, struct slice user, struct slice text, size_t at, bool first,
                         bool last)
{
    for (;; at = behind_char(text, at)) {
        size_t end = behind_piece(piece, user, text, at);
        if (end != NOWHERE && (!last || end == text.n))
            return end;
        if (first || at >= text.n)
            return NOWHERE;
    }
}

static bool glob_fits(const struct glob *glob, struct slice user, struct slice text)
{
    struct slice rest = slice_of(glob->text, glob->n);
    if (is(rest, "*"))
        return true;
    if (text.n > NAME_MOST || (!user.n && memmem(rest.p, rest.n, "%u", 2)))
        return false;
    size_t at = 0;
    for (bool first = true;; first = false) {
        const uint8_t *star = memchr(rest.p, '*', rest.n);
        size_t n = star ? (size_t)(star - rest.p) : rest.n;
        at = find_piece(slice_of(rest.p, n), user, text, at, first, !star);
        if (at == NOWHERE || !star)
            return at != NOWHERE;
        rest = slice_of(star + 1, rest.n - n - 1);
    }
}

/* The line of a pattern that fits, or 0. */
static uint32_t client_id_fits(const struct limits *limits, const struct principal *who)
{
    for (const struct glob *glob = limits->client_ids; glob; glob = glob->next)
        if (glob_fits(glob, slice_str(who->user), slice_str(who->client_id)))
            return glob->line;
    return 0;
}

static int load_client_id(struct limits *limits, struct lines *lines, struct slice value, struct err *err)
{
    if (value.n > NAME_MOST)
        return lines_fail(lines, err, "the pattern is too long (at most %d bytes)", NAME_MOST);
    if (!utf8_valid(value))
        return lines_fail(lines, err, "the pattern is not UTF-8, so it could never fit");
    if (memmem(value.p, value.n, "%c", 2))
        return lines_fail(lines, err, "%%c is the client id itself: here only %%u is replaced");
    if (limits->client_id_count == LINES_MOST)
        return lines_fail(lines, err, "more than %d clientid lines for one user", LINES_MOST);
    struct glob *glob = malloc(sizeof *glob + value.n);
    if (!glob)
        return lines_fail(lines, err, "out of memory");
    *glob = (struct glob){.line = lines_number(lines), .n = (uint32_t)value.n};
    memcpy(glob->text, value.p, value.n);
    glob->next = limits->client_ids;
    limits->client_ids = glob;
    if (limits->client_id_count++ == 0)
        limits->first_client_id = glob->line;
    return 0;
}

/* ---- addresses ---- */

/* Sets the bits behind the first ones to 0. Whether all of them were. */
static bool mask(struct network *net)
{
    bool clean = true;
    for (unsigned i = 0; i < sizeof net->bytes; i++) {
        unsigned kept = net->bits <= 8 * i ? 0 : net->bits - 8 * i < 8 ? net->bits - 8 * i : 8;
        uint8_t masked = net->bytes[i] & (uint8_t)(0xff00 >> kept);
        clean = clean && masked == net->bytes[i];
        net->bytes[i] = masked;
    }
    return clean;
}

/* An address of its full length; NET_NONE: it is none. */
static struct network address_of(const char *text)
{
    struct network net = {.kind = NET_UNIX};
    if (strcmp(text, "unix") == 0)
        return net;
    net.kind = NET_IPV4;
    net.bits = 32;
    if (inet_pton(AF_INET, text, net.bytes) == 1)
        return net;
    net.kind = inet_pton(AF_INET6, text, net.bytes) == 1 ? NET_IPV6 : NET_NONE;
    net.bits = 128;
    return net;
}

/* ::ffff:10.0.0.0/104 is 10.0.0.0/8. */
static void unmap(struct network *net)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (net->kind == NET_IPV6 && net->bits >= 96 && memcmp(net->bytes, mapped, sizeof mapped) == 0) {
        net->kind = NET_IPV4;
        net->bits -= 96;
        memmove(net->bytes, net->bytes + 12, 4);
        memset(net->bytes + 4, 0, 12);
    }
}

static bool inside(const struct network *net, struct network address)
{
    if (net->kind == NET_ANY)
        return true;
    address.bits = net->bits;
    mask(&address);
    return net->kind == address.kind && memcmp(net->bytes, address.bytes, sizeof net->bytes) == 0;
}

/* The line of a network that the client is in, or 0. A scope behind its address (%eth0) is no part of
 * that. */
static uint32_t address_fits(const struct limits *limits, const struct principal *who)
{
    char text[sizeof who->address];
    size_t n = strcspn(who->address, "%");
    memcpy(text, who->address, n);
    text[n] = 0;
    struct network address = address_of(text);
    unmap(&address);
    for (const struct network *net = limits->addresses; net; net = net->next)
        if (inside(net, address))
            return net->line;
    return 0;
}

/* The number behind the slash; -1: it is none, or too large. */
static int bits_of(const char *text, unsigned most)
{
    long n = strtol(text, NULL, 10);
    bool digits = strspn(text, "0123456789") == strlen(text) && *text && strlen(text) <= 3;
    return digits && n <= (long)most ? (int)n : -1;
}

static int parse_network(struct lines *lines, char *text, struct network *net, struct err *err)
{
    char *slash = strchr(text, '/');
    if (strchr(text, '%'))
        return lines_fail(lines, err, "which interface a client came by is not known: leave out %s",
                          strchr(text, '%'));
    if (slash)
        *slash++ = 0;
    *net = address_of(text);
    if (net->kind == NET_NONE || (slash && net->kind == NET_UNIX))
        return lines_fail(lines, err, "\"%s%s%s\" is not an address like 10.0.0.0/8, fe80::/10, unix or any",
                          text, slash ? "/" : "", slash ? slash : "");
    int bits = slash ? bits_of(slash, net->bits) : (int)net->bits;
    if (bits < 0)
        return lines_fail(lines, err, "\"/%s\": behind the slash stands a number up to %u", slash, net->bits);
    net->bits = (unsigned)bits;
    if (!mask(net)) {
        char right[INET6_ADDRSTRLEN] = "";
        inet_ntop(net->kind == NET_IPV4 ? AF_INET : AF_INET6, net->bytes, right, sizeof right);
        return lines_fail(lines, err, "%s/%u has bits behind the first %u: the network is %s/%u", text,
                          net->bits, net->bits, right, net->bits);
    }
    unmap(net);
    return 0;
}

static int load_address(struct limits *limits, struct lines *lines, struct slice value, struct err *err)
{
    char text[INET6_ADDRSTRLEN + 16];
    struct network net = {.kind = NET_ANY};
    if (value.n >= sizeof text)
        return lines_fail(lines, err, "the address is too long");
    memcpy(text, value.p, value.n);
    text[value.n] = 0;
    if (strcmp(text, "any") != 0 && parse_network(lines, text, &net, err) != 0)
        return -1;
    if (limits->address_count == LINES_MOST)
        return lines_fail(lines, err, "more than %d address lines for one user", LINES_MOST);
    struct network *kept = malloc(sizeof *kept);
    if (!kept)
        return lines_fail(lines, err, "out of memory");
    *kept = net;
    kept->line = lines_number(lines);
    kept->next = limits->addresses;
    limits->addresses = kept;
    if (limits->address_count++ == 0)
        limits->first_address = kept->line;
    return 0;
}

/* ---- reading ---- */

static const struct {
    const char *name;
    const char *values[3]; /* at the place of what they mean; NULL: there is no more */
} settings[] = {
    {"qos", {"0", "1", "2"}},
    {"retain", {"no", "yes", NULL}},
    {"tls", {"optional", "required", NULL}},
};

enum { SETTINGS = sizeof settings / sizeof *settings };

static struct setting *setting_at(struct limits *limits, int i)
{
    struct setting *all[SETTINGS] = {&limits->qos, &limits->retain, &limits->tls};
    return all[i];
}

/* What is said twice of one user must agree: which of two to follow would be a guess. */
static int load_setting(struct setting *setting, struct lines *lines, int which, struct slice value,
                        struct err *err)
{
    const char *const *values = settings[which].values;
    uint8_t i = 0;
    while (i < 3 && values[i] && !is(value, values[i]))
        i++;
    if (i == 3 || !values[i])
        return lines_fail(lines, err, "%s is %s%s%s%s%s", settings[which].name, values[0],
                          values[2] ? ", " : " or ", values[1], values[2] ? " or " : "",
                          values[2] ? values[2] : "");
    if (setting->line && setting->value != i)
        return lines_fail(lines, err, "line %u says something else: %s %s", setting->line,
                          settings[which].name, values[setting->value]);
    if (!setting->line)
        *setting = (struct setting){.line = lines_number(lines), .value = i};
    return 0;
}

bool limits_word(struct slice word)
{
    for (int i = 0; i < SETTINGS; i++)
        if (is(word, settings[i].name))
            return true;
    return is(word, "clientid") || is(word, "address");
}

int limits_load(struct limits **limits, struct lines *lines, struct slice word, struct slice value,
                struct err *err)
{
    if (!value.n)
        return lines_fail(lines, err, "nothing stands behind %.*s", SLICE_ARG(word));
    if (!*limits && !(*limits = calloc(1, sizeof **limits)))
        return lines_fail(lines, err, "out of memory");
    for (int i = 0; i < SETTINGS; i++)
        if (is(word, settings[i].name))
            return load_setting(setting_at(*limits, i), lines, i, value, err);
    return is(word, "clientid") ? load_client_id(*limits, lines, value, err)
                                : load_address(*limits, lines, value, err);
}

void limits_free(struct limits *limits)
{
    if (!limits)
        return;
    for (struct glob *glob = limits->client_ids, *next; glob; glob = next) {
        next = glob->next;
        free(glob);
    }
    for (struct network *net = limits->addresses, *next; net; net = next) {
        next = net->next;
        free(net);
    }
    free(limits);
}

/* ---- asking ---- */

/* Whose limits count: those of the client's own section, and the general ones for what it does not say. */
struct both {
    const struct limits *own, *general;
};

static struct both limits_of(const struct acl *acl, const struct rule *section, const struct principal *who)
{
    static const struct limits none;
    const struct limits *own = section && who->user ? section->limits : NULL;
    return (struct both){own ? own : &none, acl->general ? acl->general : &none};
}

static struct setting said(struct setting own, struct setting general)
{
    return own.line ? own : general;
}

static struct acl_answer limit_denies(uint32_t line, const char *reason)
{
    return (struct acl_answer){.line = line, .reason = reason};
}

/* One of a list of lines fits, or the first of them denies. */
static bool one_fits(struct acl_answer *answer, uint32_t line, uint32_t first, const char *reason)
{
    *answer = line ? (struct acl_answer){.allowed = true, .line = line} : limit_denies(first, reason);
    return line;
}

struct acl_answer acl_admits(const struct acl *acl, const struct principal *who)
{
    struct acl_answer answer = {.allowed = true};
    if (!acl || !acl->limited)
        return answer;
    if (!who->client_id)
        return limit_denies(0, "it has no client id");
    const struct both both = limits_of(acl, acl_section(acl, who), who);
    const struct limits *ids = both.own->client_ids ? both.own : both.general;
    const struct limits *nets = both.own->addresses ? both.own : both.general;
    const struct setting tls = said(both.own->tls, both.general->tls);
    if (tls.value && !who->tls_version)
        return limit_denies(tls.line, "the ACL admits it with TLS only");
    answer.line = tls.line;
    if (nets->addresses && !one_fits(&answer, address_fits(nets, who), nets->first_address,
                                     "the ACL does not admit it from its address"))
        return answer;
    if (ids->client_ids)
        one_fits(&answer, client_id_fits(ids, who), ids->first_client_id,
                 "the ACL does not admit it with its client id");
    return answer;
}

struct acl_answer acl_publishes(const struct acl *acl, const struct principal *who, struct slice topic,
                                uint8_t qos, bool retain)
{
    if (!acl || !acl->limited || !who)
        return acl_ask(acl, who, ACL_WRITE, topic);
    const struct rule *section = acl_section(acl, who);
    const struct both both = limits_of(acl, section, who);
    const struct setting most = said(both.own->qos, both.general->qos);
    const struct setting kept = said(both.own->retain, both.general->retain);
    if (most.line && qos > most.value)
        return limit_denies(most.line, "its QoS is higher than the ACL allows");
    if (retain && kept.line && !kept.value)
        return limit_denies(kept.line, "the ACL allows it no retained messages");
    return acl_ask_section(acl, section, who, ACL_WRITE, topic);
}

struct acl_qos acl_most_qos(const struct acl *acl, const struct principal *who)
{
    struct setting most = {0};
    if (acl && acl->limited && who) {
        const struct both both = limits_of(acl, acl_section(acl, who), who);
        most = said(both.own->qos, both.general->qos);
    }
    return (struct acl_qos){.most = most.line ? most.value : 2, .line = most.line};
}
