/*
 * test_reserve.c - libev's memory when there is none. The file under test is included, with malloc() and
 * realloc() that fail when told to.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static bool none;

static void *short_malloc(size_t n)
{
    return none ? NULL : malloc(n);
}

static void *short_realloc(void *p, size_t n)
{
    return none ? NULL : realloc(p, n);
}

#define malloc  short_malloc
#define realloc short_realloc
#include "broker/reserve.c"
#undef malloc
#undef realloc

static void fill(uint8_t *p, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        p[i] = (uint8_t)(i * 7);
}

static void check(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(p[i], (uint8_t)(i * 7));
}

static void as_realloc_while_there_is_memory(void **state)
{
    uint8_t *p = reserve_realloc(NULL, 100);

    (void)state;
    none = false;
    assert_non_null(p);
    assert_false(is_reserved(p));
    fill(p, 0, 100);
    p = reserve_realloc(p, 100000);
    check(p, 100);
    assert_null(reserve_realloc(p, 0));
    assert_null(reserve_realloc(NULL, 0));
}

/* Grows without memory, shrinks, and leaves the reserve when there is memory again. */
static void from_the_reserve_and_back(void **state)
{
    uint8_t *p = reserve_realloc(NULL, 1000), *q;

    (void)state;
    fill(p, 0, 1000);
    none = true;
    p = reserve_realloc(p, 2000);
    assert_true(is_reserved(p));
    assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
    check(p, 1000);
    fill(p, 1000, 2000);
    q = reserve_realloc(NULL, 1); /* a neighbour */
    assert_true(is_reserved(q));
    p = reserve_realloc(p, 4000);
    check(p, 2000);
    p = reserve_realloc(p, 500);
    check(p, 500);
    none = false;
    p = reserve_realloc(p, 5000);
    assert_false(is_reserved(p));
    check(p, 500);
    reserve_realloc(p, 0);
    assert_int_equal(reserve.blocks, 1);
    reserve_realloc(q, 0);
    assert_int_equal(reserve.blocks, 0);
    assert_int_equal(reserve.used, 0);
}

static void used_up(void **state)
{
    uint8_t *blocks[5];

    (void)state;
    none = true;
    assert_null(reserve_realloc(NULL, 5 << 20));
    assert_null(reserve_realloc(NULL, LONG_MAX));
    for (int i = 0; i < 4; i++)
        assert_non_null(blocks[i] = reserve_realloc(NULL, 1000000));
    assert_null(reserve_realloc(NULL, 1000000));
    assert_null(reserve_realloc(blocks[0], 2000000)); /* stays as it was */
    for (int i = 0; i < 4; i++)
        reserve_realloc(blocks[i], 0);
    assert_non_null(blocks[0] = reserve_realloc(NULL, 4000000)); /* it is whole again */
    reserve_realloc(blocks[0], 0);
    none = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_realloc_while_there_is_memory),
        cmocka_unit_test(from_the_reserve_and_back),
        cmocka_unit_test(used_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
