/*
 * test_tally.c - counts by number: against a plain array, and what it takes is given back.
 */
#include "test/unit/no_memory.h"
/* comes first */
#include "broker/mem.h"
#include "broker/tally.h"
#include "random.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct tally tally;

static int setup(void **unused)
{
    (void)unused;
    tally = (struct tally){0};
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    tally_free(&tally);
    return mem_held() == 0 ? 0 : -1;
}

static void an_empty_one_takes_nothing(void **unused)
{
    (void)unused;
    assert_int_equal(mem_held(), 0);
    assert_int_equal(tally_less(&tally, 5), 0); /* owed to one */
    tally_free(&tally);
    tally_free(&tally);
    assert_int_equal(mem_held(), 0);
}

static void counts_down_to_the_last_one(void **unused)
{
    (void)unused;
    assert_int_equal(tally_set(&tally, 5, 3), 0);
    assert_int_equal(tally_set(&tally, 6, 2), 0);
    assert_true(mem_held() > 0);
    assert_int_equal(tally_less(&tally, 5), 2);
    assert_int_equal(tally_less(&tally, 6), 1);
    assert_int_equal(tally_less(&tally, 6), 0); /* it is not in it any more, and so is owed to one */
    assert_int_equal(tally_less(&tally, 5), 1);
    assert_int_equal(tally.cap, 0); /* given back */
    assert_int_equal(mem_held(), 0);
    assert_int_equal(tally_less(&tally, 5), 0);
}

enum { NUMBERS = 20000 };

/* Numbers rise and mostly go in that order; places are filled from behind, around the end as well. */
static void agrees_with_an_array(void **unused)
{
    static uint32_t counts[NUMBERS];
    struct random random = {4711};
    uint32_t next = 0, oldest = 0;
    (void)unused;
    memset(counts, 0, sizeof counts);
    while (oldest < NUMBERS) {
        uint32_t what = random_below(&random, 100);
        if (what < 30 && next < NUMBERS && next - oldest < 2000) {
            counts[next] = 2 + random_below(&random, 4);
            assert_int_equal(tally_set(&tally, next * 3, counts[next]), 0);
            next += 1;
        } else if (next > oldest) {
            uint32_t i = oldest + random_below(&random, what < 80 ? 1 : next - oldest);
            uint32_t left = counts[i] > 1 ? --counts[i] : 0;
            assert_int_equal(tally_less(&tally, i * 3), left);
            counts[i] = left == 1 ? 0 : counts[i];
        }
        while (oldest < next && counts[oldest] == 0) {
            oldest++;
        }
        size_t used = 0;
        for (uint32_t i = oldest; i < next; i++) {
            used += counts[i] > 0;
        }
        assert_int_equal(tally.used, used);
        if (next == NUMBERS && oldest == next) {
            break;
        }
    }
    assert_int_equal(mem_held(), 0);
}

static void gets_small_again(void **unused)
{
    (void)unused;
    for (uint64_t i = 0; i < 10000; i++) {
        assert_int_equal(tally_set(&tally, i, 2), 0);
    }
    size_t large = tally.cap;
    assert_true(large >= 10000 && large <= 40000);
    for (uint64_t i = 0; i < 9990; i++) {
        assert_int_equal(tally_less(&tally, i), 1);
    }
    assert_true(tally.cap <= 128);
    for (uint64_t i = 9990; i < 10000; i++) {
        assert_int_equal(tally_less(&tally, i), 1);
    }
}

/* It says so when there is no room, and does not forget what it has; to stay large is no fault. */
static void without_memory(void **unused)
{
    (void)unused;
    memory_fails(0, 1);
    assert_int_equal(tally_set(&tally, 1, 2), -1);
    memory_fails(1, 1);
    assert_int_equal(tally_set(&tally, 1, 2), -1);
    assert_int_equal(memory_calm(), 1);
    assert_int_equal(mem_held(), 0);
    uint64_t number = 0;
    while (tally_set(&tally, number, 2) == 0) {
        number++;
        memory_fails(number < 48 ? 1000 : 0, 2); /* from three quarters of the first places on */
    }
    memory_calm();
    assert_int_equal(number, 48);
    for (uint64_t i = 0; i < number; i++) {
        assert_int_equal(tally_less(&tally, i), 1);
    }
    for (uint64_t i = 0; i < 1000; i++) {
        assert_int_equal(tally_set(&tally, i, 2), 0);
    }
    size_t large = tally.cap;
    memory_fails(0, ALL_OF_THEM);
    for (uint64_t i = 0; i < 999; i++) {
        assert_int_equal(tally_less(&tally, i), 1);
    }
    memory_calm();
    assert_int_equal(tally.cap, large);
    assert_int_equal(tally_less(&tally, 999), 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(an_empty_one_takes_nothing),
        T(counts_down_to_the_last_one),
        T(agrees_with_an_array),
        T(gets_small_again),
        T(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
