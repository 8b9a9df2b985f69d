/*
 * test_subs.c - the subscription tree: against a plain list of subscriptions, and with very many of them.
 *
 * It includes subs.c, so that it can see that nothing is left in the tree at the end.
 */
#include "broker/subs.c"
#include "random.h"
#include "slow_topic.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct subs *subs;

static int setup(void **unused)
{
    (void)unused;
    subs = subs_new();
    return subs ? 0 : -1;
}

/* Every test removes what it added: then nothing may be left. */
static int teardown(void **unused)
{
    (void)unused;
    bool clean = subs_count(subs) == 0 && subs->tree.count == 0 && !subs->tree.root->child &&
                 !((struct sub_node *)subs->tree.root)->plus && !((struct sub_node *)subs->tree.root)->hash;
    subs_free(subs);
    return clean ? 0 : -1;
}

static size_t match(const char *topic, const struct match **out)
{
    bool cut = true;
    size_t n = subs_match(subs, slice_str(topic), out, &cut);
    assert_false(cut);
    return n;
}

static int add(struct session *session, const char *filter, uint8_t qos)
{
    return subs_add(subs, session, slice_str(filter), qos);
}

static bool drop(struct session *session, const char *filter)
{
    return subs_remove(subs, session, slice_str(filter));
}

static void gives_the_subscribers_of_a_topic(void **unused)
{
    struct session a = {0}, b = {0};
    const struct match *m;
    (void)unused;
    assert_int_equal(add(&a, "sport/tennis", 1), 1);
    assert_int_equal(add(&b, "sport/+", 2), 1);
    assert_int_equal(subs_count(subs), 2);
    assert_int_equal(match("sport/golf", &m), 1);
    assert_ptr_equal(m[0].session, &b);
    assert_int_equal(m[0].qos, 2);
    assert_int_equal(match("sport/tennis", &m), 2);
    assert_ptr_not_equal(m[0].session, m[1].session);
    assert_int_equal(match("sport", &m), 0);
    subs_remove_all(subs, &a);
    assert_int_equal(match("sport/tennis", &m), 1);
    assert_ptr_equal(m[0].session, &b);
    subs_remove_all(subs, &b);
    assert_int_equal(match("sport/tennis", &m), 0);
}

static void a_subscription_is_replaced_by_the_same_filter(void **unused)
{
    struct session a = {0};
    const struct match *m;
    (void)unused;
    assert_int_equal(add(&a, "t/#", 0), 1);
    assert_int_equal(add(&a, "t/#", 2), 0); /* [MQTT-3.8.4-3] */
    assert_int_equal(subs_count(subs), 1);
    assert_int_equal(a.sub_count, 1);
    assert_int_equal(match("t/x", &m), 1);
    assert_int_equal(m[0].qos, 2);
    assert_int_equal(add(&a, "t/#", 1), 0); /* downwards as well */
    assert_int_equal(match("t", &m), 1);
    assert_int_equal(m[0].qos, 1);
    assert_true(drop(&a, "t/#"));
    assert_false(drop(&a, "t/#"));
}

static void removes_only_the_very_filter(void **unused)
{
    struct session a = {0}, b = {0};
    const struct match *m;
    (void)unused;
    add(&a, "a/b", 1);
    assert_false(drop(&a, "a"));
    assert_false(drop(&a, "a/b/c"));
    assert_false(drop(&a, "a/+")); /* [MQTT-3.10.4-1] */
    assert_false(drop(&a, "#"));
    assert_false(drop(&b, "a/b"));
    assert_int_equal(match("a/b", &m), 1);
    assert_true(drop(&a, "a/b"));
}

/* [MQTT-3.3.5-1] in the reading that issue and README promise: once, at the highest QoS. */
static void overlapping_subscriptions_count_once_at_the_highest_qos(void **unused)
{
    static const char *const filters[] = {"a/b/c", "a/+/c", "#", "a/#", "+/+/+", "a/b/#", "a/b/c/#"};
    const struct match *m;
    (void)unused;
    for (size_t highest = 0; highest < 7; highest++) {
        struct session a = {0}, b = {0};
        add(&b, "a/b/c", 0);
        for (size_t i = 0; i < 7; i++) {
            add(&a, filters[i], i == highest ? 2 : i % 2);
        }
        assert_int_equal(match("a/b/c", &m), 2);
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(m[i].qos, m[i].session == &a ? 2 : 0);
        }
        subs_remove_all(subs, &a);
        subs_remove_all(subs, &b);
    }
}

static void wildcards_at_the_first_level_do_not_meet_a_dollar(void **unused)
{
    struct session a = {0};
    const struct match *m;
    (void)unused;
    add(&a, "#", 0);
    add(&a, "+/x", 0);
    add(&a, "+/#", 0);
    assert_int_equal(match("$SYS", &m), 0); /* [MQTT-4.7.2-1] */
    assert_int_equal(match("$SYS/x", &m), 0);
    assert_int_equal(match("$", &m), 0);
    assert_int_equal(match("y/$x", &m), 1);
    add(&a, "$SYS/#", 1);
    add(&a, "$SYS/+", 2);
    assert_int_equal(match("$SYS/x", &m), 1);
    assert_int_equal(m[0].qos, 2);
    assert_int_equal(match("$SYS", &m), 1);
    assert_int_equal(m[0].qos, 1);
    subs_remove_all(subs, &a);
}

static void a_hash_meets_its_parent(void **unused)
{
    struct session a = {0};
    const struct match *m;
    (void)unused;
    add(&a, "sport/#", 1);
    assert_int_equal(match("sport", &m), 1);
    assert_int_equal(match("sport/", &m), 1);
    assert_int_equal(match("sports", &m), 0);
    assert_int_equal(match("/sport", &m), 0);
    subs_remove_all(subs, &a);
}

/* A wildcard node that goes must not leave a pointer to it in its parent, whichever goes first. */
static void forgets_wildcards_that_are_gone(void **unused)
{
    static const char *const filters[] = {"+", "#", "a/+", "a/#", "a/+/b", "+/+/#", "a/+/#"};
    static const char *const topics[] = {"a", "a/x", "a/x/b", "q", "q/x"};
    (void)unused;
    for (size_t first = 0; first < 7; first++) {
        struct session a = {0};
        for (size_t i = 0; i < 7; i++) {
            add(&a, filters[i], 0);
        }
        for (size_t gone = 1; gone <= 7; gone++) {
            assert_true(drop(&a, filters[(first + gone) % 7]));
            for (size_t t = 0; t < 5; t++) {
                const struct match *m;
                bool expected = false;
                for (size_t i = gone + 1; i <= 7; i++) {
                    const char *filter = filters[(first + i) % 7];
                    expected |= slow_match((const uint8_t *)filter, strlen(filter),
                                           (const uint8_t *)topics[t], strlen(topics[t]));
                }
                assert_int_equal(match(topics[t], &m), expected);
            }
        }
        assert_int_equal(subs->tree.count, 0);
    }
}

static void says_when_a_topic_has_too_many_levels(void **unused)
{
    struct session a = {0};
    const struct match *m;
    char topic[MOST_LEVELS + 1];
    bool cut;
    (void)unused;
    add(&a, "#", 0);
    memset(topic, '/', sizeof topic);
    assert_int_equal(subs_match(subs, slice_of(topic, MOST_LEVELS - 1), &m, &cut), 1);
    assert_false(cut);
    subs_match(subs, slice_of(topic, MOST_LEVELS), &m, &cut);
    assert_true(cut);
    subs_remove_all(subs, &a);
}

static int seen;

static bool see(void *arg, struct slice filter, uint8_t qos)
{
    static const char *const filters[] = {"a", "b/+", "/c/#"};
    const char *drop = arg;
    assert_true(slice_eq(filter, slice_str(filters[qos])));
    seen |= 1 << qos;
    return drop && slice_eq(filter, slice_str(drop));
}

static void sweeps_the_subscriptions_of_a_session(void **unused)
{
    static char drop[] = "b/+";
    const struct match *m;
    struct session a = {0}, b = {0};
    (void)unused;
    add(&a, "a", 0);
    add(&b, "a", 2);
    add(&a, "b/+", 1);
    add(&a, "/c/#", 2);
    seen = 0;
    subs_sweep(subs, &a, see, NULL);
    assert_int_equal(seen, 7);
    subs_sweep(subs, &a, see, drop);
    assert_int_equal(a.sub_count, 2);
    assert_int_equal(match("b/x", &m), 0);
    assert_int_equal(match("a", &m), 2);
    seen = 0;
    subs_sweep(subs, &a, see, NULL);
    assert_int_equal(seen, 5);
    subs_remove_all(subs, &a);
    subs_remove_all(subs, &b);
    subs_sweep(subs, &a, see, drop);
    assert_int_equal(seen, 5);
    assert_null(a.subs); /* memory was given back */
}

/* ---- against a plain list ---- */

enum { SESSIONS = 12, MOST = 150 };

struct entry {
    int session;
    uint8_t filter[40];
    size_t n;
    uint8_t qos;
};

static struct session all[SESSIONS];
static struct entry list[MOST];
static size_t listed;

static struct entry *find(int session, const uint8_t *filter, size_t n)
{
    for (size_t i = 0; i < listed; i++) {
        if (list[i].session == session && list[i].n == n && memcmp(list[i].filter, filter, n) == 0) {
            return &list[i];
        }
    }
    return NULL;
}

static void random_add(struct random *random)
{
    struct entry e = {.session = (int)random_below(random, SESSIONS),
                      .qos = (uint8_t)random_below(random, 3)};
    e.n = random_filter(random, e.filter);
    struct entry *old = find(e.session, e.filter, e.n);
    if (!old && listed == MOST) {
        return;
    }
    assert_int_equal(subs_add(subs, &all[e.session], slice_of(e.filter, e.n), e.qos), old ? 0 : 1);
    if (old) {
        old->qos = e.qos;
    } else {
        list[listed++] = e;
    }
}

static void random_remove(struct random *random)
{
    struct entry e = {.session = (int)random_below(random, SESSIONS)};
    e.n = random_filter(random, e.filter);
    if (listed > 0 && random_chance(random, 80)) {
        e = list[random_below(random, (uint32_t)listed)];
    }
    struct entry *old = find(e.session, e.filter, e.n);
    assert_int_equal(subs_remove(subs, &all[e.session], slice_of(e.filter, e.n)), old != NULL);
    if (old) {
        *old = list[--listed];
    }
}

static void remove_session(int session)
{
    subs_remove_all(subs, &all[session]);
    for (size_t i = 0; i < listed;) {
        if (list[i].session == session) {
            list[i] = list[--listed];
        } else {
            i++;
        }
    }
}

static int compare_one(struct random *random)
{
    uint8_t name[40];
    size_t n = random_name(random, name);
    int expected[SESSIONS];
    size_t sessions = 0;
    for (int s = 0; s < SESSIONS; s++) {
        expected[s] = -1;
    }
    for (size_t i = 0; i < listed; i++) {
        int *best = &expected[list[i].session];
        if (slow_match(list[i].filter, list[i].n, name, n)) {
            sessions += *best < 0;
            *best = list[i].qos > *best ? list[i].qos : *best;
        }
    }
    const struct match *m;
    bool cut;
    assert_int_equal(subs_match(subs, slice_of(name, n), &m, &cut), sessions);
    assert_false(cut);
    for (size_t i = 0; i < sessions; i++) {
        ptrdiff_t s = m[i].session - all;
        assert_int_equal(m[i].qos, expected[s]);
        expected[s] = -2; /* not a second time */
    }
    return sessions > 0;
}

static void agrees_with_a_plain_list(void **unused)
{
    struct random random = {123456789};
    int hits = 0;
    (void)unused;
    for (int i = 0; i < 60000; i++) {
        uint32_t what = random_below(&random, 100);
        if (what < 35) {
            random_add(&random);
        } else if (what < 60) {
            random_remove(&random);
        } else if (what == 60) {
            remove_session((int)random_below(&random, SESSIONS));
        } else {
            hits += compare_one(&random);
        }
        assert_int_equal(subs_count(subs), listed);
    }
    assert_true(hits > 5000);
    for (int s = 0; s < SESSIONS; s++) {
        remove_session(s);
    }
}

/* ---- many ---- */

enum { MANY = 100000 };

static void one_session_may_have_very_many_filters(void **unused)
{
    struct session a = {0}, b = {0};
    const struct match *m;
    char filter[40];
    (void)unused;
    for (int i = 0; i < MANY; i++) {
        snprintf(filter, sizeof filter, "house/%d/room%d/+", i / 100, i);
        assert_int_equal(add(&a, filter, 1), 1);
    }
    add(&b, "house/#", 0);
    assert_int_equal(subs_count(subs), MANY + 1);
    for (int i = 0; i < MANY; i += 997) {
        snprintf(filter, sizeof filter, "house/%d/room%d/temp", i / 100, i);
        assert_int_equal(match(filter, &m), 2);
    }
    assert_int_equal(match("house/0/room101/temp", &m), 1);
    for (int i = 0; i < MANY; i += 2) {
        snprintf(filter, sizeof filter, "house/%d/room%d/+", i / 100, i);
        assert_true(drop(&a, filter));
    }
    assert_int_equal(subs_count(subs), MANY / 2 + 1);
    subs_remove_all(subs, &a);
    subs_remove_all(subs, &b);
}

static void one_filter_may_have_very_many_sessions(void **unused)
{
    struct session *many = calloc(MANY, sizeof *many);
    const struct match *m;
    (void)unused;
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(add(&many[i], "news/+", (uint8_t)(i % 3)), 1);
        assert_int_equal(add(&many[i], "news/sport", (uint8_t)(i % 2)), 1);
    }
    assert_int_equal(subs_count(subs), 2 * MANY);
    assert_int_equal(match("news/sport", &m), MANY);
    for (int i = 0; i < MANY; i++) {
        int at = (int)(m[i].session - many);
        assert_int_equal(m[i].qos, at % 3 > at % 2 ? at % 3 : at % 2);
    }
    for (int i = MANY - 1; i >= 0; i -= 2) {
        assert_true(drop(&many[i], "news/+"));
    }
    assert_int_equal(match("news/golf", &m), MANY / 2);
    for (int i = 0; i < MANY; i++) {
        subs_remove_all(subs, &many[i]);
    }
    free(many);
}

/* Of several matching subscriptions the one that says most counts, until the rights change. */
static void knows_what_may_be_read(void **unused)
{
    (void)unused;
    const struct match *m;
    uint8_t buf[8];
    struct session a = {.rights = 1};
    add(&a, "a/#", 0);
    add(&a, "a/+", 1);
    assert_int_equal(match("a/b", &m), 1);
    assert_int_equal(m[0].reads, READS_UNKNOWN);
    struct sub *first = m[0].sub;
    subs_reads(first, false);
    match("a/b", &m);
    assert_int_equal(m[0].reads, READS_UNKNOWN); /* of the other one */
    assert_ptr_not_equal(m[0].sub, first);
    subs_reads(m[0].sub, true);
    match("a/b", &m);
    assert_int_equal(m[0].reads, READS_ALL);
    assert_int_equal(m[0].qos, 1);
    subs_reads(first, false);
    a.rights++;
    match("a/b", &m);
    assert_int_equal(m[0].reads, READS_UNKNOWN);
    assert_int_equal(subs_filter(m[0].sub, buf, sizeof buf), 3);
    assert_memory_equal(buf, "a/", 2);
    assert_int_equal(subs_filter(m[0].sub, buf, 2), 0);
    drop(&a, "a/+");
    add(&a, "a/+", 1); /* a new one knows nothing */
    match("a/b", &m);
    subs_reads(m[0].sub, false);
    match("a/b", &m);
    assert_int_equal(m[0].reads, READS_UNKNOWN);
    subs_remove_all(subs, &a);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(gives_the_subscribers_of_a_topic),
        T(a_subscription_is_replaced_by_the_same_filter),
        T(removes_only_the_very_filter),
        T(overlapping_subscriptions_count_once_at_the_highest_qos),
        T(wildcards_at_the_first_level_do_not_meet_a_dollar),
        T(a_hash_meets_its_parent),
        T(forgets_wildcards_that_are_gone),
        T(says_when_a_topic_has_too_many_levels),
        T(sweeps_the_subscriptions_of_a_session),
        T(knows_what_may_be_read),
        T(agrees_with_a_plain_list),
        T(one_session_may_have_very_many_filters),
        T(one_filter_may_have_very_many_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
