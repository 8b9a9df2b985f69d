/*
 * test_rate.c - how many lines are let through, by a clock that is a number here.
 */
#include "broker/rate.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct rate rate;

/* How many of 10,000 come through at this time. */
static int taken(uint32_t source, int64_t now)
{
    int n = 0;
    for (int i = 0; i < 10000; i++) {
        n += rate_take(&rate, source, now);
    }
    return n;
}

static void a_source_has_a_quarter(void **unused)
{
    (void)unused;
    rate_init(&rate, 100, 5000);
    assert_int_equal(taken(1, 5000), 25 * RATE_BURST_SECONDS);
    assert_int_equal(taken(1, 5000), 0);
    assert_int_equal(taken(1, 5039), 0);
    assert_int_equal(taken(1, 5040), 1);
    assert_int_equal(taken(1, 6040), 25);
    assert_int_equal(taken(1, 3600000), 25 * RATE_BURST_SECONDS); /* and no more, however long it was quiet */
}

static void who_floods_leaves_the_rest_to_others(void **unused)
{
    (void)unused;
    rate_init(&rate, 100, 0);
    for (int64_t now = 0; now < 60000; now += 100) {
        taken(1, now);
        if (now % 1000 == 0) { /* ten a second of somebody else: every one of them */
            for (int i = 0; i < 10; i++) {
                assert_true(rate_take(&rate, 2, now));
            }
        }
    }
}

static void all_together_have_one_measure(void **unused)
{
    (void)unused;
    int n = 0;
    rate_init(&rate, 100, 0);
    for (uint32_t source = 0; source < 2 * RATE_SOURCES; source++) {
        n += taken(source, 0);
    }
    assert_int_equal(n, 100 * RATE_BURST_SECONDS);
    n = 0;
    for (uint32_t source = 0; source < RATE_SOURCES; source++) {
        n += taken(source, 1000);
    }
    assert_int_equal(n, 100);
}

static void a_small_rate_is_one_for_each(void **unused)
{
    (void)unused;
    rate_init(&rate, 1, 0);
    assert_int_equal(taken(1, 0), RATE_BURST_SECONDS);
    assert_int_equal(taken(1, 999), 0);
    assert_int_equal(taken(1, 1000), 1);
}

static void another_rate_gives_nothing_back(void **unused)
{
    (void)unused;
    rate_init(&rate, 100, 0);
    taken(1, 0);
    rate_change(&rate, 1000);
    assert_int_equal(taken(1, 0), 0);
    assert_int_equal(taken(1, 1000), 250);
    rate_change(&rate, 4);
    assert_int_equal(taken(1, 10000), RATE_BURST_SECONDS);
}

static void a_source_is_who_has_shown_who_it_is(void **unused)
{
    (void)unused;
    struct principal a = {.address = "10.0.0.1", .user = (char[]){"a"}, .client_id = (char[]){"x"}}, b = a,
                     c = a;
    b.user = (char[]){"b"};
    c.client_id = (char[]){"another"};
    c.port = 7;
    assert_int_equal(rate_source(&a, true), rate_source(&c, true)); /* not as many as it gives itself ids */
    assert_int_not_equal(rate_source(&a, true), rate_source(&b, true));
    assert_int_equal(rate_source(&a, false), rate_source(&b, false)); /* names that were only said */
    b.user = NULL;
    assert_int_equal(rate_source(&b, true), rate_source(&a, false));
    strcpy(c.address, "10.0.0.2");
    assert_int_not_equal(rate_source(&a, false), rate_source(&c, false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_source_has_a_quarter),
        cmocka_unit_test(who_floods_leaves_the_rest_to_others),
        cmocka_unit_test(all_together_have_one_measure),
        cmocka_unit_test(a_small_rate_is_one_for_each),
        cmocka_unit_test(another_rate_gives_nothing_back),
        cmocka_unit_test(a_source_is_who_has_shown_who_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
