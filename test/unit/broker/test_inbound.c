/*
 * test_inbound.c - the set of inbound QoS 2 identifiers, their tickets, and that all of them cost no more
 * than few.
 */
#include "broker/inbound.h"
#include "random.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct ticket *ticket_with(uint32_t refs)
{
    struct ticket *ticket = calloc(1, sizeof *ticket);
    ticket->refs = refs;
    return ticket;
}

static void remembers_inbound_identifiers(void **unused)
{
    struct inbound in = {0};
    (void)unused;
    assert_false(inbound_has(&in, 1, NULL));
    assert_false(inbound_remove(&in, 1));
    assert_int_equal(inbound_add(&in, 7, NULL), 0);
    assert_int_equal(inbound_add(&in, 65535, NULL), 0);
    assert_int_equal(inbound_add(&in, 1, NULL), 0);
    assert_int_equal(in.count, 3);
    assert_true(inbound_has(&in, 7, NULL));
    assert_true(inbound_has(&in, 65535, NULL));
    assert_true(inbound_has(&in, 1, NULL));
    assert_false(inbound_has(&in, 8, NULL));
    assert_true(inbound_remove(&in, 7));
    assert_false(inbound_has(&in, 7, NULL));
    assert_true(inbound_remove(&in, 1));
    assert_true(inbound_remove(&in, 65535));
    assert_null(in.page); /* memory was given back */
}

static void lets_the_tickets_of_inbound_identifiers_go(void **unused)
{
    struct inbound in = {0};
    struct ticket *one = ticket_with(1), *two = ticket_with(1), *found;
    (void)unused;
    inbound_add(&in, 1, one);
    inbound_add(&in, 2, two);
    assert_true(inbound_has(&in, 2, &found));
    assert_ptr_equal(found, two);
    assert_int_equal(one->refs, 2);
    inbound_remove(&in, 1);
    assert_int_equal(one->refs, 1);
    assert_int_equal(two->refs, 2);
    inbound_free(&in);
    assert_int_equal(two->refs, 1);
    ticket_unref(one);
    ticket_unref(two);
}

static void inbound_agrees_with_a_plain_table(void **unused)
{
    static bool known[65536];
    struct inbound in = {0};
    struct random random = {17};
    uint32_t count = 0;
    (void)unused;
    for (int i = 0; i < 40000; i++) {
        uint16_t id = (uint16_t)(1 + random_below(&random, i < 20000 ? 65535 : 100));
        assert_int_equal(inbound_has(&in, id, NULL), known[id]);
        if (known[id]) {
            assert_true(inbound_remove(&in, id));
            count--;
        } else {
            assert_int_equal(inbound_add(&in, id, NULL), 0);
            count++;
        }
        known[id] = !known[id];
        assert_int_equal(in.count, count);
    }
    inbound_free(&in);
}

/* Every one, from the end, as only a hostile client would. */
static void takes_all_there_are(void **unused)
{
    struct inbound in = {0};
    (void)unused;
    for (uint32_t id = 65535; id > 0; id--) {
        assert_int_equal(inbound_add(&in, (uint16_t)id, NULL), 0);
    }
    assert_int_equal(in.count, 65535);
    assert_int_equal(in.pages, 1024);
    for (uint32_t id = 1; id <= 65535; id++) {
        assert_true(inbound_remove(&in, (uint16_t)id));
    }
    assert_int_equal(in.count, 0);
    assert_null(in.page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(remembers_inbound_identifiers),
        cmocka_unit_test(lets_the_tickets_of_inbound_identifiers_go),
        cmocka_unit_test(inbound_agrees_with_a_plain_table),
        cmocka_unit_test(takes_all_there_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
