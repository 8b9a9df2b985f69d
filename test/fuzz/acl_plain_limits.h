/*
 * acl_plain_limits.h - the limits of an acl_file the plain way, for fuzz_acl.c: the whole file line by line
 * for each question, patterns tried at every place at once, addresses compared bit by bit.
 */
#ifndef BRAMBLE_FUZZ_ACL_PLAIN_LIMITS_H
#define BRAMBLE_FUZZ_ACL_PLAIN_LIMITS_H

#include "broker/principal.h"
#include "broker/slice.h"

#include <arpa/inet.h>
#include <stdlib.h>

/* What one section says; qos, retain, tls: -1: nothing. */
struct plain_limits {
    int qos, retain, tls;
    bool ids, id_fits, nets, net_fits;
};

static inline bool plain_is(struct slice word, const char *text)
{
    return slice_eq(word, slice_str(text));
}

/* ---- patterns: which of all places in the text can be reached ---- */

static inline size_t plain_next_char(struct slice text, size_t at)
{
    for (at++; at < text.n && (text.p[at] & 0xc0) == 0x80;)
        at++;
    return at;
}

/* reached: text.n + 1 flags, those places where the pattern so far may end. */
static inline void plain_star(bool *reached, struct slice text)
{
    for (size_t at = 0; at < text.n; at++)
        if (reached[at])
            reached[plain_next_char(text, at)] = true;
}

static inline void plain_text(bool *reached, struct slice text, const uint8_t *p, size_t n, bool any)
{
    bool *after = calloc(text.n + 1, 1);
    if (!after)
        abort();
    for (size_t at = 0; at <= text.n; at++) {
        if (reached[at] && any && at < text.n)
            after[plain_next_char(text, at)] = true;
        if (reached[at] && !any && text.n - at >= n && (n == 0 || memcmp(text.p + at, p, n) == 0))
            after[at + n] = true;
    }
    memcpy(reached, after, text.n + 1);
    free(after);
}

static inline bool plain_glob(struct slice pattern, struct slice user, struct slice text)
{
    if (plain_is(pattern, "*"))
        return true;
    if (text.n > 512)
        return false;
    bool *reached = calloc(text.n + 1, 1), fits = true;
    if (!reached)
        abort();
    reached[0] = true;
    for (size_t i = 0; i < pattern.n; i++) {
        uint8_t c = pattern.p[i];
        if (c == '*') {
            plain_star(reached, text);
        } else if (c == '%' && i + 1 < pattern.n && pattern.p[i + 1] == 'u') {
            fits = fits && user.n > 0;
            plain_text(reached, text, user.p, user.n, false);
            i++;
        } else {
            plain_text(reached, text, &c, 1, c == '?');
        }
    }
    fits = fits && reached[text.n];
    free(reached);
    return fits;
}

/* ---- addresses ---- */

/* As IPv6; bits counts those that the text says. 0: no address. */
static inline int plain_address(char *text, uint8_t *bytes, bool *v4)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    char *slash = strchr(text, '/');
    int bits = slash ? atoi(slash + 1) : -1;
    if (slash)
        *slash = 0;
    memcpy(bytes, mapped, sizeof mapped);
    if (inet_pton(AF_INET, text, bytes + 12) == 1) {
        *v4 = true;
        return bits < 0 ? 128 : bits + 96;
    }
    if (inet_pton(AF_INET6, text, bytes) != 1)
        return -1;
    bits = bits < 0 ? 128 : bits;
    *v4 = bits >= 96 && memcmp(bytes, mapped, sizeof mapped) == 0;
    return bits;
}

static inline bool plain_net(struct slice value, const char *address)
{
    char rule[80], peer[80];
    uint8_t a[16], b[16];
    bool a4 = false, b4 = false;
    if (plain_is(value, "any") || plain_is(value, "unix"))
        return value.p[0] == 'a' || strcmp(address, "unix") == 0;
    snprintf(rule, sizeof rule, "%.*s", SLICE_ARG(value));
    snprintf(peer, sizeof peer, "%.*s", (int)strcspn(address, "%"), address);
    int bits = plain_address(rule, a, &a4);
    if (plain_address(peer, b, &b4) < 0 || a4 != b4)
        return false;
    for (int i = 0; i < bits; i++)
        if ((a[i / 8] ^ b[i / 8]) >> (7 - i % 8) & 1)
            return false;
    return true;
}

/* ---- lines ---- */

static inline bool plain_limit_word(struct slice word)
{
    static const char *const words[] = {"qos", "retain", "tls", "clientid", "address"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (plain_is(word, words[i]))
            return true;
    return false;
}

static inline void plain_limit(struct plain_limits *limits, const struct principal *who, struct slice word,
                               struct slice value)
{
    if (plain_is(word, "qos")) {
        limits->qos = value.p[0] - '0';
    } else if (plain_is(word, "retain")) {
        limits->retain = plain_is(value, "yes");
    } else if (plain_is(word, "tls")) {
        limits->tls = plain_is(value, "required");
    } else if (plain_is(word, "clientid")) {
        limits->ids = true;
        limits->id_fits |= plain_glob(value, slice_str(who->user), slice_str(who->client_id));
    } else {
        limits->nets = true;
        limits->net_fits |= plain_net(value, who->address);
    }
}

static inline bool plain_admits(const struct plain_limits *own, const struct plain_limits *general,
                                const struct principal *who)
{
    int tls = own->tls >= 0 ? own->tls : general->tls;
    const struct plain_limits *ids = own->ids ? own : general, *nets = own->nets ? own : general;
    return (tls != 1 || who->tls_version) && (!ids->ids || ids->id_fits) && (!nets->nets || nets->net_fits);
}

#endif
