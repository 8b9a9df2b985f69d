/*
 * fuzz_topic.c - UTF-8, names, filters and matching against the slow reference; and the subscription tree
 * against both.
 *
 * The input is a list of lines: the first is a topic name, the others are filters. Each is looked at as it
 * is; those that are valid are subscribed to, by one session each and all by one.
 */
#include "broker/session.h"
#include "broker/subs.h"
#include "broker/topic.h"
#include "test/fuzz/fuzz.h"
#include "test/unit/broker/slow_topic.h"

enum { MOST = 32 };

/* The line at *at in a block of its own, so that a byte too many is seen. */
static uint8_t *next_line(const uint8_t *data, size_t size, size_t *at, size_t *n)
{
    const uint8_t *end = memchr(data + *at, '\n', size - *at);
    *n = end ? (size_t)(end - (data + *at)) : size - *at;
    uint8_t *line = malloc(*n + 1);
    memcpy(line, data + *at, *n);
    *at += *n + 1;
    return line;
}

static void check_line(const uint8_t *p, size_t n)
{
    struct slice s = slice_of(p, n);
    uint32_t levels = 0;
    size_t bytes = 0;
    struct slice level;
    CHECK(utf8_valid(s) == slow_utf8(p, n));
    CHECK(topic_name_valid(s) == slow_name_valid(p, n));
    CHECK(topic_filter_valid(s) == slow_filter_valid(p, n));
    for (struct topic_walk walk = topic_walk(s); topic_next_level(&walk, &level); levels++) {
        bytes += level.n;
        CHECK(level.n == 0 || (level.p >= p && level.p + level.n <= p + n));
    }
    CHECK(levels == topic_levels(s) && bytes + levels - 1 == n);
}

static void check_matches(struct subs *subs, struct slice name, const struct session *each,
                          const bool *expected, size_t count, bool any)
{
    const struct match *m;
    bool cut;
    size_t n = subs_match(subs, name, &m, &cut), own = 0;
    CHECK(cut == (topic_levels(name) > 256));
    if (cut) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        own += expected[i];
    }
    CHECK(n == own + any);
    for (size_t i = 0; i < n; i++) {
        CHECK(m[i].session == &each[count] || expected[m[i].session - each]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct session each[MOST + 1] = {0}; /* the last one of those used subscribes to everything */
    bool expected[MOST];
    uint8_t *lines[MOST];
    size_t sizes[MOST], count = 0, at = 0, n;
    struct subs *subs = subs_new();
    uint8_t *name = next_line(data, size, &at, &n);
    bool any = false, valid = slow_name_valid(name, n);
    check_line(name, n);
    while (at < size && count < MOST) {
        lines[count] = next_line(data, size, &at, &sizes[count]);
        struct slice filter = slice_of(lines[count], sizes[count]);
        check_line(filter.p, filter.n);
        if (!slow_filter_valid(filter.p, filter.n) || filter.n > UINT16_MAX) {
            free(lines[count]);
            continue;
        }
        expected[count] = valid && slow_match(filter.p, filter.n, name, n);
        CHECK(!valid || topic_matches(filter, slice_of(name, n)) == expected[count]);
        any |= expected[count];
        CHECK(subs_add(subs, &each[count], filter, 0) == 1);
        count++;
    }
    for (size_t i = 0; i < count; i++) {
        CHECK(subs_add(subs, &each[count], slice_of(lines[i], sizes[i]), 0) >= 0);
    }
    if (valid) {
        check_matches(subs, slice_of(name, n), each, expected, count, any);
    }
    for (size_t i = 0; i < count; i++) {
        CHECK(subs_remove(subs, &each[i], slice_of(lines[i], sizes[i])));
        free(lines[i]);
    }
    subs_remove_all(subs, &each[count]);
    CHECK(subs_count(subs) == 0);
    subs_free(subs);
    free(name);
    return 0;
}
