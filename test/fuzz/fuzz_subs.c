/*
 * fuzz_subs.c - the subscriptions of several sessions against a list: added, replaced, removed, and matched.
 *
 * The input is a list of steps: a byte that says what and who, and a line, a filter or a topic name. What the
 * tree says of a name is compared with what the slow reference says of each filter in the list: every session
 * once, at its highest QoS [MQTT-3.3.5-1].
 */
#include "broker/session.h"
#include "broker/subs.h"
#include "broker/topic.h"
#include "test/fuzz/fuzz.h"
#include "test/unit/broker/slow_topic.h"

enum { MOST = 64, SESSIONS = 5 };

struct one {
    struct session *session;
    uint8_t *filter;
    size_t n;
    uint8_t qos;
    bool seen;
};

static struct {
    struct subs *subs;
    struct session sessions[SESSIONS];
    struct one v[MOST];
    size_t n;
} run;

static struct one *list_find(const struct session *session, struct slice filter)
{
    for (size_t i = 0; i < run.n; i++) {
        if (run.v[i].session == session && slice_eq(slice_of(run.v[i].filter, run.v[i].n), filter)) {
            return &run.v[i];
        }
    }
    return NULL;
}

static void list_remove(struct one *one)
{
    free(one->filter);
    *one = run.v[--run.n];
}

static void check_counts(void)
{
    uint32_t own[SESSIONS] = {0};
    for (size_t i = 0; i < run.n; i++) {
        own[run.v[i].session - run.sessions]++;
    }
    for (size_t i = 0; i < SESSIONS; i++) {
        CHECK(run.sessions[i].sub_count == own[i]);
    }
    CHECK(subs_count(run.subs) == run.n);
}

static void add(struct session *session, struct slice filter, uint8_t qos)
{
    struct one *one = list_find(session, filter);
    if (!one && run.n == MOST) {
        return;
    }
    CHECK(subs_has(run.subs, session, filter) == (one != NULL));
    CHECK(subs_add(run.subs, session, filter, qos) == (one ? 0 : 1));
    if (!one) {
        one = &run.v[run.n++];
        *one = (struct one){.session = session, .filter = malloc(filter.n + 1), .n = filter.n};
        memcpy(one->filter, filter.p, filter.n);
    }
    one->qos = qos;
    CHECK(subs_has(run.subs, session, filter));
}

static void drop(struct session *session, struct slice filter)
{
    struct one *one = list_find(session, filter);
    CHECK(subs_remove(run.subs, session, filter) == (one != NULL));
    if (one) {
        list_remove(one);
    }
    CHECK(!subs_has(run.subs, session, filter));
}

static void drop_all(struct session *session)
{
    subs_remove_all(run.subs, session);
    for (size_t i = run.n; i > 0; i--) {
        if (run.v[i - 1].session == session) {
            list_remove(&run.v[i - 1]);
        }
    }
}

static void match(struct slice name)
{
    int expected[SESSIONS], most = 0;
    const struct match *m;
    bool cut;
    for (int s = 0; s < SESSIONS; s++) {
        expected[s] = -1;
    }
    for (size_t i = 0; i < run.n; i++) {
        struct one *one = &run.v[i];
        int *qos = &expected[one->session - run.sessions];
        if (slow_match(one->filter, one->n, name.p, name.n) && one->qos > *qos) {
            most += *qos < 0;
            *qos = one->qos;
        }
    }
    size_t n = subs_match(run.subs, name, &m, &cut);
    CHECK(cut == (topic_levels(name) > 256));
    if (!cut) {
        CHECK(n == (size_t)most);
        for (size_t i = 0; i < n; i++) {
            CHECK(m[i].qos == expected[m[i].session - run.sessions]);
            expected[m[i].session - run.sessions] = -1; /* once */
        }
    }
}

static bool each(void *arg, struct slice filter, uint8_t qos)
{
    struct one *one = list_find(arg, filter);
    CHECK(one && one->qos == qos && !one->seen);
    one->seen = true;
    return false;
}

static void walk(struct session *session)
{
    for (size_t i = 0; i < run.n; i++) {
        run.v[i].seen = false;
    }
    subs_sweep(run.subs, session, each, session);
    for (size_t i = 0; i < run.n; i++) {
        CHECK(run.v[i].seen == (run.v[i].session == session));
    }
}

static void step(uint8_t what, struct slice line)
{
    struct session *session = &run.sessions[(what >> 2) % SESSIONS];
    bool filter = line.n <= UINT16_MAX && slow_filter_valid(line.p, line.n);
    bool name = line.n <= UINT16_MAX && slow_name_valid(line.p, line.n);
    if (what < 128 && filter) {
        add(session, line, (what & 3) % 3);
    } else if (what < 170 && filter) {
        drop(session, line);
    } else if (what >= 250) {
        drop_all(session);
    } else if (what >= 245) {
        walk(session);
    } else if (name) {
        match(line);
    }
    check_counts();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    fuzz_chance = 1;
    memset(&run, 0, sizeof run);
    run.subs = subs_new();
    while (in.n > 0) {
        uint8_t what = input_u8(&in);
        const uint8_t *end = in.n ? memchr(in.p, '\n', in.n) : NULL;
        struct slice line = input_bytes(&in, end ? (size_t)(end - in.p) : in.n);
        uint8_t *copy = malloc(line.n + 1); /* so that a byte too many is seen */
        memcpy(copy, line.p, line.n);
        step(what, slice_of(copy, line.n));
        free(copy);
        if (end) {
            input_u8(&in);
        }
    }
    for (int s = 0; s < SESSIONS; s++) {
        drop_all(&run.sessions[s]);
    }
    CHECK(subs_count(run.subs) == 0 && run.n == 0);
    subs_free(run.subs);
    return 0;
}
