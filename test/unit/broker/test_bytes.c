/*
 * test_bytes.c - the queue of bytes that TLS and WebSocket use.
 */
#include "test/unit/no_memory.h"

#include "broker/bytes.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* after the others */
#include <cmocka.h>

static void in_order(void **state)
{
    struct bytes queue = {0};
    uint8_t expected = 0, next = 0;
    unsigned seed = 3;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        uint8_t chunk[300];
        size_t n = (size_t)rand_r(&seed) % sizeof chunk;

        if (rand_r(&seed) % 2) {
            for (size_t i = 0; i < n; i++)
                chunk[i] = next++;
            assert_true(bytes_add(&queue, chunk, n, SIZE_MAX));
        } else if (queue.len) {
            n = n < queue.len ? n : queue.len;
            for (size_t i = 0; i < n; i++)
                assert_int_equal(bytes_front(&queue)[i], expected++);
            bytes_drop(&queue, n);
        }
        if (queue.len == 0)
            assert_null(queue.block);
    }
    bytes_clear(&queue);
    assert_int_equal(queue.cap, 0);
}

static void bounded(void **state)
{
    struct bytes queue = {0};
    (void)state;
    assert_true(bytes_add(&queue, "abc", 3, 4));
    assert_false(bytes_add(&queue, "de", 2, 4));
    assert_int_equal(queue.len, 3);
    assert_true(bytes_add(&queue, "d", 1, 4));
    assert_memory_equal(bytes_front(&queue), "abcd", 4);
    assert_false(bytes_add(&queue, "abcde", 5, 4)); /* more than there is ever room for */
    bytes_clear(&queue);
}

static void without_memory_it_stays_as_it_was(void **state)
{
    static const char big[100000];
    struct bytes queue = {0};
    (void)state;
    memory_fails(0, ALL_OF_THEM);
    assert_null(bytes_room(&queue, 1));
    assert_false(bytes_add(&queue, "abc", 3, 100));
    memory_calm();
    assert_true(bytes_add(&queue, "abc", 3, SIZE_MAX));
    memory_fails(0, ALL_OF_THEM);
    assert_false(bytes_add(&queue, big, sizeof big, SIZE_MAX));
    memory_calm();
    assert_int_equal(queue.len, 3);
    assert_memory_equal(bytes_front(&queue), "abc", 3);
    bytes_clear(&queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_order), cmocka_unit_test(bounded),
                                       cmocka_unit_test(without_memory_it_stays_as_it_was)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
