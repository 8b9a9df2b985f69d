/*
 * test_hash.c - the seeded hash, and that uthash uses it.
 */
#include "broker/hash.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct item {
    UT_hash_handle hh;
    char id[16];
};

static unsigned longest_bucket(const struct item *table)
{
    unsigned longest = 0;
    for (unsigned i = 0; i < table->hh.tbl->num_buckets; i++) {
        unsigned count = table->hh.tbl->buckets[i].count;
        longest = count > longest ? count : longest;
    }
    return longest;
}

static struct item *add(struct item *table, const char *id)
{
    struct item *item = calloc(1, sizeof *item), *found;
    strcpy(item->id, id);
    HASH_ADD_STR(table, id, item);
    assert_non_null(item->hh.tbl);
    HASH_FIND_STR(table, id, found);
    assert_ptr_equal(found, item);
    return table;
}

static void free_all(struct item *table)
{
    struct item *item, *next;
    HASH_ITER(hh, table, item, next) {
        HASH_DEL(table, item);
        free(item);
    }
}

/* uthash's own hash has no seed: client ids that it puts into one bucket, however many buckets there are, are
 * found in a moment. */
static void chosen_ids_do_not_share_a_bucket(void **unused)
{
    enum { IDS = 300, EQUAL_BITS = 0x7FF };
    (void)unused;
    struct item *table = NULL;
    unsigned chosen = 0;
    for (unsigned i = 0; chosen < IDS; i++) {
        char id[16];
        unsigned hash;
        unsigned n = (unsigned)snprintf(id, sizeof id, "c%u", i);
        HASH_JEN(id, n, hash);
        if ((hash & EQUAL_BITS) == 0) {
            table = add(table, id);
            chosen++;
        }
    }
    assert_in_range(longest_bucket(table), 1, 50);
    free_all(table);
}

static void ids_that_count_up_spread(void **unused)
{
    enum { IDS = 10000 };
    (void)unused;
    struct item *table = NULL;
    for (unsigned i = 0; i < IDS; i++) {
        char id[16];
        snprintf(id, sizeof id, "sensor%u", i);
        table = add(table, id);
    }
    assert_in_range(longest_bucket(table), 1, 50);
    free_all(table);
}

/* The same for the same bytes and seed, another one for each byte that differs, the length included; nothing
 * beyond the bytes is read. */
static void each_byte_and_the_seed_count(void **unused)
{
    enum { MOST = 40 };
    (void)unused;
    for (size_t n = 0; n <= MOST; n++) {
        uint8_t *bytes = calloc(1, n + !n), *longer = calloc(1, n + 1);
        uint32_t hash = hash_bytes(1, bytes, n);
        assert_int_equal(hash_bytes(1, longer, n), hash);
        assert_int_not_equal(hash_bytes(2, bytes, n), hash);
        assert_int_not_equal(hash_bytes(1, longer, n + 1), hash);
        for (size_t i = 0; i < n; i++) {
            bytes[i] = 'x';
            assert_int_not_equal(hash_bytes(1, bytes, n), hash);
            bytes[i] = 0;
        }
        free(bytes);
        free(longer);
    }
}

/* A word that made a factor 0 would make all equal that stands before it. The constants of hash.c. */
static void no_bytes_undo_those_before(void **unused)
{
    static const uint64_t constants[] = {0x9E3779B97F4A7C15u, 0xD6E8FEB86659FD93u};
    (void)unused;
    for (size_t i = 0; i < 2; i++) {
        const uint64_t a[] = {1, constants[i]}, b[] = {2, constants[i]};
        assert_int_not_equal(hash_bytes(1, a, sizeof a), hash_bytes(1, b, sizeof b));
    }
}

static void seeds_differ(void **unused)
{
    (void)unused;
    assert_true(hash_seed() != hash_seed());
    assert_int_not_equal(hash_key("id", 2), hash_bytes(0, "id", 2)); /* it was made before main() */
    assert_int_equal(hash_key("id", 2), hash_key("idle", 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chosen_ids_do_not_share_a_bucket),
        cmocka_unit_test(ids_that_count_up_spread),
        cmocka_unit_test(each_byte_and_the_seed_count),
        cmocka_unit_test(no_bytes_undo_those_before),
        cmocka_unit_test(seeds_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
