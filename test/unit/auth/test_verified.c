/*
 * test_verified.c - the cache of verified secrets: what it knows, what it forgets, and that it stays small.
 */
#include "test/unit/no_memory.h"

#include "auth/pwhash.h"
#include "auth/verified.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void tag_of(const struct verified *verified, const char *entry, const char *user, const char *password,
                   uint8_t tag[VERIFIED_TAG])
{
    verified_tag(verified, slice_str(entry), slice_str(user), slice_str(password), tag);
}

static void add(struct verified *verified, const char *entry, const char *user, const char *password)
{
    uint8_t tag[VERIFIED_TAG];
    tag_of(verified, entry, user, password, tag);
    verified_add(verified, tag);
}

static bool has(struct verified *verified, const char *entry, const char *user, const char *password)
{
    uint8_t tag[VERIFIED_TAG];
    tag_of(verified, entry, user, password, tag);
    return verified_has(verified, tag);
}

static void knows_what_was_added_and_nothing_near_it(void **unused)
{
    struct verified *verified = verified_new(16);
    (void)unused;
    assert_false(has(verified, "entry", "user", "secret"));
    add(verified, "entry", "user", "secret");
    add(verified, "entry", "user", "secret");
    assert_true(has(verified, "entry", "user", "secret"));
    assert_false(has(verified, "entry2", "user", "secret")); /* the entry was changed */
    assert_false(has(verified, "entry", "other", "secret"));
    assert_false(has(verified, "entry", "user", "secre"));
    assert_false(has(verified, "entry", "users", "ecret")); /* the parts are told apart */
    assert_false(has(verified, "entryu", "ser", "secret"));
    assert_false(has(verified, "entry", "user", ""));
    verified_unref(verified);
}

static void forgets_all_and_takes_no_old_tags(void **unused)
{
    struct verified *verified = verified_new(16);
    uint8_t tag[VERIFIED_TAG];
    (void)unused;
    tag_of(verified, "entry", "user", "secret", tag);
    verified_add(verified, tag);
    verified_forget(verified);
    assert_false(verified_has(verified, tag));
    verified_add(verified, tag); /* a check that was under way meanwhile */
    assert_false(has(verified, "entry", "user", "secret"));
    add(verified, "entry", "user", "secret");
    assert_true(has(verified, "entry", "user", "secret"));
    verified_unref(verified);
}

static void tags_of_two_caches_differ(void **unused)
{
    struct verified *a = verified_new(16), *b = verified_new(16);
    uint8_t of_a[VERIFIED_TAG], of_b[VERIFIED_TAG];
    (void)unused;
    tag_of(a, "entry", "user", "secret", of_a);
    tag_of(b, "entry", "user", "secret", of_b);
    assert_memory_not_equal(of_a, of_b, VERIFIED_TAG); /* the key is made at random */
    verified_unref(verified_ref(a));
    verified_unref(a);
    verified_unref(b);
}

/* Four places, one set: a fifth replaces the one used longest ago. */
static void the_one_used_least_recently_goes(void **unused)
{
    struct verified *verified = verified_new(3);
    (void)unused;
    add(verified, "e", "u", "1");
    add(verified, "e", "u", "2");
    add(verified, "e", "u", "3");
    add(verified, "e", "u", "4");
    assert_true(has(verified, "e", "u", "1"));
    add(verified, "e", "u", "5");
    assert_true(has(verified, "e", "u", "1"));
    assert_false(has(verified, "e", "u", "2"));
    assert_true(has(verified, "e", "u", "3"));
    assert_true(has(verified, "e", "u", "4"));
    assert_true(has(verified, "e", "u", "5"));
    verified_unref(verified);
}

static void of_no_size_it_keeps_nothing(void **unused)
{
    struct verified *verified = verified_new(0);
    (void)unused;
    add(verified, "e", "u", "1");
    assert_false(has(verified, "e", "u", "1"));
    verified_unref(verified);
    verified_unref(NULL);
}

static void without_memory_nothing_is_kept(void **unused)
{
    (void)unused;
    memory_fails(0, 1);
    assert_null(verified_new(16));
    memory_calm();
    struct verified *verified = verified_new(16);
    memory_fails(0, 1);
    add(verified, "e", "u", "1");
    memory_calm();
    assert_false(has(verified, "e", "u", "1"));
    verified_unref(verified);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_what_was_added_and_nothing_near_it),
        cmocka_unit_test(forgets_all_and_takes_no_old_tags),
        cmocka_unit_test(tags_of_two_caches_differ),
        cmocka_unit_test(the_one_used_least_recently_goes),
        cmocka_unit_test(of_no_size_it_keeps_nothing),
        cmocka_unit_test(without_memory_nothing_is_kept),
    };
    return pwhash_init() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
