/*
 * slow_topic.h - topics and UTF-8 once more, written as the standards say it and without any thought of
 * speed: what the real ones are compared with, by unit tests and by the fuzzer.
 *
 * Nothing is shared with broker/topic.c on purpose.
 */
#ifndef BRAMBLE_TEST_SLOW_TOPIC_H
#define BRAMBLE_TEST_SLOW_TOPIC_H

#include "random.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* RFC 3629: gather the bits, then ask whether they would have been written like that. U+0000 is not allowed.
 */
static inline bool slow_utf8(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        int more = p[i] < 0x80 ? 0 : p[i] >> 5 == 6 ? 1 : p[i] >> 4 == 14 ? 2 : p[i] >> 3 == 30 ? 3 : -1;
        if (more < 0 || (size_t)more >= n - i) {
            return false;
        }
        uint32_t point = more == 0 ? p[i] : p[i] & (0x3Fu >> more);
        for (int k = 1; k <= more; k++) {
            if (p[i + (size_t)k] >> 6 != 2) {
                return false;
            }
            point = point << 6 | (p[i + (size_t)k] & 0x3Fu);
        }
        int needed = point < 0x80 ? 0 : point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
        if (more != needed || point == 0 || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) {
            return false;
        }
        i += (size_t)more + 1;
    }
    return true;
}

/* The end of the level that begins at `at`. */
static inline size_t slow_level_end(const uint8_t *p, size_t n, size_t at)
{
    while (at < n && p[at] != '/') {
        at++;
    }
    return at;
}

/* fi and ti are where a level begins; one beyond the length means that there is no further level. */
static inline bool slow_match_from(const uint8_t *f, size_t fn, size_t fi, const uint8_t *t, size_t tn,
                                   size_t ti)
{
    bool f_ends = fi > fn, t_ends = ti > tn;
    if (f_ends) {
        return t_ends;
    }
    size_t fe = slow_level_end(f, fn, fi);
    if (fe - fi == 1 && f[fi] == '#') {
        return true; /* any number of levels, none included */
    }
    if (t_ends) {
        return false;
    }
    size_t te = slow_level_end(t, tn, ti);
    bool plus = fe - fi == 1 && f[fi] == '+';
    if (!plus && (fe - fi != te - ti || memcmp(f + fi, t + ti, fe - fi) != 0)) {
        return false;
    }
    return slow_match_from(f, fn, fe + 1, t, tn, te + 1);
}

/* Valid filter and valid name only. */
static inline bool slow_match(const uint8_t *f, size_t fn, const uint8_t *t, size_t tn)
{
    if (t[0] == '$' && (f[0] == '+' || f[0] == '#')) {
        return false;
    }
    return slow_match_from(f, fn, 0, t, tn, 0);
}

static inline bool slow_name_valid(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '+' || p[i] == '#') {
            return false;
        }
    }
    return n > 0;
}

static inline bool slow_filter_valid(const uint8_t *p, size_t n)
{
    for (size_t at = 0; at <= n && n > 0;) {
        size_t end = slow_level_end(p, n, at);
        for (size_t i = at; i < end; i++) {
            bool alone = end - at == 1;
            if ((p[i] == '+' && !alone) || (p[i] == '#' && !(alone && end == n))) {
                return false;
            }
        }
        at = end + 1;
    }
    return n > 0;
}

/* Topics over a small alphabet, so that they often meet: one to five levels, some empty, some that begin with
 * '$'. Both return the length; 40 bytes are enough. */
static inline size_t random_level(struct random *random, uint8_t *p)
{
    static const char *const levels[] = {"", "a", "b", "c", "ab", "$", "$a", "A"};
    const char *level = levels[random_below(random, 8)];
    memcpy(p, level, strlen(level));
    return strlen(level);
}

static inline size_t random_name(struct random *random, uint8_t *p)
{
    size_t n = 0;
    do {
        n = 0;
        uint32_t levels = 1 + random_below(random, 5);
        for (uint32_t i = 0; i < levels; i++) {
            if (i) {
                p[n++] = '/';
            }
            n += random_level(random, p + n);
        }
    } while (n == 0);
    return n;
}

static inline size_t random_filter(struct random *random, uint8_t *p)
{
    size_t n;
    do {
        n = 0;
        uint32_t levels = 1 + random_below(random, 5);
        for (uint32_t i = 0; i < levels; i++) {
            if (i) {
                p[n++] = '/';
            }
            if (random_chance(random, 35)) {
                p[n++] = '+';
            } else if (i + 1 == levels && random_chance(random, 35)) {
                p[n++] = '#';
            } else {
                n += random_level(random, p + n);
            }
        }
    } while (n == 0);
    return n;
}

#endif
