/*
 * topic.c - topic names and filters. Pure functions over slices; nothing is owned.
 */
#include "broker/topic.h"

/* The length of the well-formed sequence at p, or 0. Table 3-7 of the Unicode standard. */
static size_t utf8_sequence(const uint8_t *p, size_t n)
{
    uint8_t c = p[0];
    if (c < 0x80) {
        return c == 0 ? 0 : 1;
    }
    size_t need = c >= 0xC2 && c <= 0xDF ? 2 : (c & 0xF0) == 0xE0 ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 0;
    if (need == 0 || n < need) {
        return 0;
    }
    /* The second byte rules out overlong forms, surrogates (ED A0..) and what lies above U+10FFFF. */
    uint8_t low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    uint8_t high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < need; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return need;
}

/* Eight bytes at a time while all are ASCII and none is zero: topics nearly always are. */
static size_t ascii_run(struct slice s)
{
    const uint64_t ones = 0x0101010101010101u;
    const uint64_t highs = 0x8080808080808080u;
    size_t i = 0;
    while (s.n - i >= 8) {
        uint64_t w;
        memcpy(&w, s.p + i, 8);
        if ((w & highs) || ((w - ones) & ~w & highs)) {
            break;
        }
        i += 8;
    }
    return i;
}

bool utf8_valid(struct slice s)
{
    size_t i = ascii_run(s);
    while (i < s.n) {
        size_t len = utf8_sequence(s.p + i, s.n - i);
        if (len == 0) {
            return false;
        }
        i += len;
    }
    return true;
}

bool topic_name_valid(struct slice name)
{
    return name.n > 0 && !memchr(name.p, '+', name.n) && !memchr(name.p, '#', name.n);
}

bool topic_filter_valid(struct slice filter)
{
    if (filter.n == 0) {
        return false;
    }
    for (size_t i = 0; i < filter.n; i++) {
        bool first = i == 0 || filter.p[i - 1] == '/';
        bool last = i + 1 == filter.n;
        if (filter.p[i] == '#' && !(first && last)) {
            return false;
        }
        if (filter.p[i] == '+' && !(first && (last || filter.p[i + 1] == '/'))) {
            return false;
        }
    }
    return true;
}

uint32_t topic_levels(struct slice topic)
{
    uint32_t levels = 1;
    for (size_t i = 0; i < topic.n; i++) {
        levels += topic.p[i] == '/';
    }
    return levels;
}

bool topic_next_level(struct topic_walk *walk, struct slice *level)
{
    if (!walk->more) {
        return false;
    }
    size_t left = (size_t)(walk->end - walk->p);
    const uint8_t *slash = left ? memchr(walk->p, '/', left) : NULL;
    *level = slice_of(walk->p, slash ? (size_t)(slash - walk->p) : left);
    walk->more = slash != NULL;
    walk->p = slash ? slash + 1 : walk->end;
    return true;
}

static bool level_is(struct slice level, char c)
{
    return level.n == 1 && level.p[0] == (uint8_t)c;
}

bool topic_matches(struct slice filter, struct slice name)
{
    if (name.n > 0 && name.p[0] == '$' && filter.n > 0 && (filter.p[0] == '+' || filter.p[0] == '#')) {
        return false;
    }
    struct topic_walk f = topic_walk(filter);
    struct topic_walk t = topic_walk(name);
    struct slice fl, tl;
    while (topic_next_level(&f, &fl)) {
        if (level_is(fl, '#')) {
            return true; /* also the parent level itself: sport/# matches sport */
        }
        if (!topic_next_level(&t, &tl)) {
            return false;
        }
        if (!level_is(fl, '+') && !slice_eq(fl, tl)) {
            return false;
        }
    }
    return !t.more;
}
