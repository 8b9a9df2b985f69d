/*
 * test_inflight.c - rings of deliveries, and the look-up by identifier.
 */
#include "broker/inflight.h"
#include "random.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct delivery *push(struct ring *ring, uint16_t id)
{
    struct delivery *d = ring_push(ring);
    assert_non_null(d);
    *d = (struct delivery){.id = id, .state = D_SENT};
    return d;
}

static void keeps_the_order_while_it_turns_and_grows(void **unused)
{
    struct ring ring = {0};
    uint16_t in = 0, out = 0;
    struct random random = {5};
    (void)unused;
    for (int i = 0; i < 20000; i++) {
        if (ring.count < 50 && random_chance(&random, 52)) {
            push(&ring, ++in);
        } else if (ring.count > 0) {
            assert_int_equal(ring_at(&ring, 0)->id, ++out);
            ring_pop(&ring);
        }
        for (uint32_t k = 0; k < ring.count; k++) {
            assert_int_equal(ring_at(&ring, k)->id, (uint16_t)(out + 1 + k));
        }
        assert_true(ring.cap == 0 || (ring.cap & (ring.cap - 1)) == 0);
    }
    assert_true(ring.cap <= 64);
    ring_free(&ring);
}

static void gives_memory_back(void **unused)
{
    struct ring ring = {0};
    (void)unused;
    for (uint16_t id = 1; id <= 1000; id++) {
        push(&ring, id);
    }
    ring_trim(&ring);
    assert_int_equal(ring.count, 1000); /* it is not empty: nothing happens */
    while (ring.count) {
        ring_pop(&ring);
    }
    ring_trim(&ring);
    assert_null(ring.v);
    assert_int_equal(ring.cap, 0);
    push(&ring, 1);
    ring_pop(&ring);
    ring_trim(&ring);
    assert_non_null(ring.v); /* a few places are kept: it will be used again */
    ring_free(&ring);
}

static void finds_by_distance(void **unused)
{
    struct ring ring = {0};
    (void)unused;
    assert_null(ring_find(&ring, 1));
    for (uint16_t id = 100; id < 200; id++) {
        push(&ring, id);
    }
    for (uint16_t id = 100; id < 200; id++) {
        assert_ptr_equal(ring_find(&ring, id), ring_at(&ring, id - 100u));
    }
    assert_null(ring_find(&ring, 99));
    assert_null(ring_find(&ring, 200));
    assert_null(ring_find(&ring, 1));
    assert_null(ring_find(&ring, 65535));
    ring_at(&ring, 7)->state = D_GONE;
    assert_null(ring_find(&ring, 107)); /* a tombstone is nobody's */
    assert_non_null(ring_find(&ring, 108));
    ring_free(&ring);
}

/* After 65535 comes 1. */
static void finds_across_the_wrap(void **unused)
{
    struct ring ring = {0};
    (void)unused;
    for (uint32_t id = 65500; id <= 65535; id++) {
        push(&ring, (uint16_t)id);
    }
    for (uint16_t id = 1; id <= 50; id++) {
        push(&ring, id);
    }
    for (uint32_t id = 65500; id <= 65535; id++) {
        assert_int_equal(ring_find(&ring, (uint16_t)id)->id, id);
    }
    for (uint16_t id = 1; id <= 50; id++) {
        assert_int_equal(ring_find(&ring, id)->id, id);
    }
    assert_null(ring_find(&ring, 0));
    assert_null(ring_find(&ring, 51));
    assert_null(ring_find(&ring, 65499));
    ring_free(&ring);
}

static void squeezes_tombstones_out(void **unused)
{
    struct ring ring = {0};
    (void)unused;
    for (uint16_t id = 1; id <= 100; id++) {
        push(&ring, id)->state = id % 10 == 1 ? D_SENT : D_GONE;
    }
    for (int i = 0; i < 30; i++) {
        ring_pop(&ring); /* so that the head is in the middle of the array */
        push(&ring, (uint16_t)(101 + i))->state = D_GONE;
    }
    ring_squeeze(&ring);
    assert_int_equal(ring.count, 7);
    for (uint32_t i = 0; i < 7; i++) {
        assert_int_equal(ring_at(&ring, i)->id, 31 + 10 * i);
        assert_ptr_equal(ring_find(&ring, (uint16_t)(31 + 10 * i)), ring_at(&ring, i));
    }
    assert_null(ring_find(&ring, 32));
    push(&ring, 131); /* a later one is found as well, though its distance is wrong */
    assert_int_equal(ring_find(&ring, 131)->id, 131);
    while (ring.count) {
        ring_pop(&ring);
    }
    ring_trim(&ring);
    assert_false(ring.gaps); /* an empty ring begins anew */
    ring_free(&ring);
}

/* Identifiers in use, against a plain table; one look must be enough as long as nothing was squeezed or
 * skipped. */
static void finds_what_a_plain_table_has(void **unused)
{
    static bool in_use[65536];
    struct ring ring = {0};
    struct random random = {11};
    uint32_t next = 65000, squeezes = 0;
    (void)unused;
    for (int i = 0; i < 30000; i++) {
        if (ring.count < 300 && random_chance(&random, 50)) {
            while (in_use[next]) {
                next = next == 65535 ? 1 : next + 1;
                ring.gaps = true;
            }
            push(&ring, (uint16_t)next);
            in_use[next] = true;
            next = next == 65535 ? 1 : next + 1;
        } else if (ring.count > 0) {
            struct delivery *d =
                ring_at(&ring, random_below(&random, random_chance(&random, 80) ? 1 : ring.count));
            in_use[d->id] = false;
            d->state = D_GONE;
        }
        while (ring.count && ring_at(&ring, 0)->state == D_GONE) {
            ring_pop(&ring);
        }
        if (random_below(&random, 3000) == 0) {
            ring_squeeze(&ring);
            squeezes++;
        }
        ring_trim(&ring);
        for (int k = 0; k < 20; k++) {
            uint16_t id = (uint16_t)(next - 400 + random_below(&random, 420));
            const struct delivery *d = ring_find(&ring, id);
            assert_int_equal(d != NULL, in_use[id]);
            assert_true(!d || d->id == id);
        }
    }
    assert_true(squeezes > 3);
    ring_free(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_the_order_while_it_turns_and_grows),
        cmocka_unit_test(gives_memory_back),
        cmocka_unit_test(finds_by_distance),
        cmocka_unit_test(finds_across_the_wrap),
        cmocka_unit_test(squeezes_tombstones_out),
        cmocka_unit_test(finds_what_a_plain_table_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
