/*
 * test_waiting.c - logins that wait for a thread: whose turn it is, and how many may wait.
 */
#include "test/unit/no_memory.h"

#include "auth/waiting.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { PLACES = 5000 };

/* What a test has put in; its index is its name. */
static struct {
    struct waiting_place place;
    uint64_t origin;
    size_t listener;
} who[PLACES];
static int count;

static int begin(void **unused)
{
    (void)unused;
    memset(who, 0, sizeof who);
    count = 0;
    return 0;
}

/* The index of one more, or -1 when there is no room. */
static int put(struct waiting *waiting, size_t listener, uint64_t origin, size_t password_n)
{
    assert_true(count < PLACES);
    who[count].origin = origin;
    who[count].listener = listener;
    return waiting_add(waiting, &who[count].place, password_n, listener, origin) ? count++ : -1;
}

static int take(struct waiting *waiting)
{
    struct waiting_place *place = waiting_take(waiting);
    return place ? (int)(((char *)place - (char *)&who[0].place) / (ptrdiff_t)sizeof who[0]) : -1;
}

static void empty(struct waiting *waiting)
{
    while (take(waiting) >= 0)
        ;
    waiting_free(waiting);
}

static void one_address_is_served_in_order(void **unused)
{
    struct waiting *waiting = waiting_new(1);
    (void)unused;
    assert_int_equal(take(waiting), -1);
    for (int i = 0; i < 10; i++)
        assert_int_equal(put(waiting, 0, 7, 0), i);
    for (int i = 0; i < 10; i++)
        assert_int_equal(take(waiting), i);
    assert_int_equal(take(waiting), -1);
    assert_int_equal(put(waiting, 0, 7, 0), 10);
    empty(waiting);
}

/* Threads are busy with a flood: who comes then is next. With 0 busy threads he is second at most. */
static void a_flood_costs_another_address_one_job_for_each_thread(void **unused)
{
    (void)unused;
    for (int threads = 0; threads < 5; threads++) {
        struct waiting *waiting = waiting_new(1);
        begin(NULL);
        for (int i = 0; i < 100; i++)
            put(waiting, 0, 7, 0);
        for (int i = 0; i < threads; i++)
            assert_int_equal(take(waiting), i);
        int other = put(waiting, 0, 8, 0);
        int before = 0;
        while (take(waiting) != other)
            before++;
        assert_int_equal(before, threads == 0);
        empty(waiting);
    }
}

/* Three addresses with much to do have equal shares, whatever the order in which they came. */
static void addresses_take_turns(void **unused)
{
    struct waiting *waiting = waiting_new(1);
    int shares[3] = {0};
    (void)unused;
    for (int i = 0; i < 300; i++)
        put(waiting, 0, (uint64_t)i / 100, 0);
    for (int i = 0; i < 90; i++)
        shares[who[take(waiting)].origin]++;
    assert_int_equal(shares[0], 30);
    assert_int_equal(shares[1], 30);
    assert_int_equal(shares[2], 30);
    empty(waiting);
}

/* Ever new addresses come, as many as every other turn can serve: the old one has the rest of them. */
static void new_addresses_do_not_starve_an_old_one(void **unused)
{
    struct waiting *waiting = waiting_new(1);
    int served = 0;
    (void)unused;
    for (int i = 0; i < 200; i++)
        put(waiting, 0, 7, 0);
    for (int i = 0; i < 200; i++) {
        put(waiting, 0, 1000 + (uint64_t)i, 0);
        served += who[take(waiting)].origin == 7;
        served += who[take(waiting)].origin == 7;
    }
    assert_true(served >= 190);
    empty(waiting);
}

/* Who comes is next behind those who have not had a turn yet, and before those who have. */
static void who_comes_is_before_who_was_served(void **unused)
{
    struct waiting *waiting = waiting_new(1);
    (void)unused;
    for (int i = 0; i < 2; i++) {
        put(waiting, 0, 1, 0);
        put(waiting, 0, 2, 0);
    }
    static const uint64_t order[] = {1, 2, 3, 1, 2};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        assert_int_equal(who[take(waiting)].origin, order[i]);
        if (i == 0)
            put(waiting, 0, 3, 0);
    }
    empty(waiting);
}

/* A listener that is flooded from a thousand addresses has as many turns as one with a single client. */
static void listeners_take_turns(void **unused)
{
    struct waiting *waiting = waiting_new(2);
    (void)unused;
    for (int i = 0; i < 1000; i++)
        put(waiting, 1, (uint64_t)i, 0);
    take(waiting);
    int a = put(waiting, 0, 7, 0), b = put(waiting, 0, 7, 0);
    assert_int_equal(take(waiting), a);
    take(waiting);
    assert_int_equal(take(waiting), b);
    empty(waiting);
}

static void room_is_bounded_for_each_address_and_listener_and_in_all(void **unused)
{
    struct waiting *waiting = waiting_new(3);
    (void)unused;
    for (int i = 0; i < WAITING_ADDRESS; i++)
        assert_int_equal(put(waiting, 0, 7, 0), i);
    assert_int_equal(put(waiting, 0, 7, 0), -1);
    for (int i = WAITING_ADDRESS; i < WAITING_LISTENER; i++)
        assert_int_equal(put(waiting, 0, 8, 0), i);
    assert_int_equal(put(waiting, 0, 9, 0), -1); /* the listener is full, whoever comes */
    for (int i = WAITING_LISTENER; i < WAITING_MOST; i++)
        assert_int_equal(put(waiting, 1, (uint64_t)i, 0), i);
    assert_int_equal(put(waiting, 2, 7, 0), -1);
    take(waiting); /* there is a place again, in all and for listener 0, but not for 1 */
    assert_int_equal(put(waiting, 1, 5000, 0), -1);
    assert_int_equal(put(waiting, 0, 7, 0), WAITING_MOST);
    empty(waiting);
}

static void long_passwords_take_more_places(void **unused)
{
    struct waiting *waiting = waiting_new(1);
    int fits = 0;
    (void)unused;
    while (put(waiting, 0, 7, 65535) >= 0)
        fits++;
    assert_int_equal(fits, WAITING_ADDRESS / 64);
    empty(waiting);
}

/* Neither a lane nor uthash's first table: no place is given, and nothing leaks. */
static void without_memory_nobody_may_wait(void **unused)
{
    struct waiting *waiting = waiting_new(1);
    int failed = 1, n = 0;
    (void)unused;
    for (; failed > 0; n++) {
        memory_fails(n, 1);
        int got = put(waiting, 0, (uint64_t)n, 0);
        failed = memory_calm();
        assert_int_equal(got < 0, failed);
    }
    assert_true(n >= 3);
    memory_fails(0, 1);
    assert_null(waiting_new(1));
    memory_calm();
    empty(waiting);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_address_is_served_in_order, begin),
        cmocka_unit_test_setup(a_flood_costs_another_address_one_job_for_each_thread, begin),
        cmocka_unit_test_setup(addresses_take_turns, begin),
        cmocka_unit_test_setup(new_addresses_do_not_starve_an_old_one, begin),
        cmocka_unit_test_setup(who_comes_is_before_who_was_served, begin),
        cmocka_unit_test_setup(listeners_take_turns, begin),
        cmocka_unit_test_setup(room_is_bounded_for_each_address_and_listener_and_in_all, begin),
        cmocka_unit_test_setup(long_passwords_take_more_places, begin),
        cmocka_unit_test_setup(without_memory_nobody_may_wait, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
