/*
 * test_ban.c - failed logins: who is refused after how many, for how long, and who is not because of others.
 */
#include "test/unit/no_memory.h"

#include "broker/ban.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static const struct ban_rule rule = {.failures = 4, .window_ms = 1000, .time_ms = 5000};
static struct ban ban;

static int begin(void **unused)
{
    (void)unused;
    ban_init(&ban);
    return 0;
}

static int end(void **unused)
{
    (void)unused;
    ban_free(&ban);
    return 0;
}

static struct principal who(const char *address, const char *user)
{
    struct principal principal = {.user = (char *)(uintptr_t)user};
    snprintf(principal.address, sizeof principal.address, "%s", address);
    return principal;
}

static bool refused(const char *address, const char *user, int64_t now)
{
    struct principal p = who(address, user);
    return ban_refuses(&ban, &rule, &p, now);
}

static struct ban_failure fail_once(const char *address, const char *user, int64_t now)
{
    struct principal p = who(address, user);
    return ban_failed(&ban, &rule, &p, now);
}

static void fail_often(const char *address, const char *user, int64_t now)
{
    for (uint32_t i = 0; i < rule.failures; i++)
        fail_once(address, user, now);
}

static void succeed(const char *address, const char *user)
{
    struct principal p = who(address, user);
    ban_succeeded(&ban, &rule, &p);
}

#define A "192.0.2.1"
#define B "192.0.2.2"

static void an_address_is_refused_after_so_many_and_for_so_long(void **unused)
{
    (void)unused;
    static const char *const users[] = {"a", "b", "c", "d"};
    for (int i = 0; i < 4; i++) {
        assert_false(refused(A, "x", 100));
        assert_int_equal(fail_once(A, users[i], 100 + i).began, i == 3 ? BAN_ADDRESS : BAN_NONE);
    }
    assert_true(refused(A, "x", 103));
    assert_true(refused(A, NULL, 103));
    assert_false(refused(B, "x", 103));
    assert_true(refused(A, "x", 103 + 4999));
    assert_false(refused(A, "x", 103 + 5000));
    assert_int_equal(fail_once(A, "a", 103 + 5000).began, BAN_NONE); /* from the start */
    assert_false(refused(A, "x", 103 + 5001));
}

static void only_what_fails_within_the_window_counts(void **unused)
{
    (void)unused;
    for (int i = 0; i < 40; i++)
        assert_int_equal(fail_once(A, "a", 400 * i).began, BAN_NONE);
    assert_false(refused(A, "a", 400 * 40));
}

static void answers_take_longer_before(void **unused)
{
    (void)unused;
    static const unsigned slower[] = {1, 1, 2, 4, 1};
    for (int i = 0; i < 5; i++)
        assert_int_equal(fail_once(A, "a", 0).slower, slower[i]);
    struct ban_rule many = {.failures = 100, .window_ms = 1000, .time_ms = 5000};
    struct principal p = who(B, "b");
    unsigned last = 0;
    for (int i = 0; i < 99; i++)
        last = ban_failed(&ban, &many, &p, 0).slower;
    assert_int_equal(last, BAN_SLOWEST);
}

/* A service on this machine with a wrong password is alone with its name. */
static void this_machine_is_not_refused_as_a_whole(void **unused)
{
    (void)unused;
    fail_often("127.0.0.1", "wrong", 0);
    fail_often("unix", "wrong too", 0);
    assert_true(refused("::1", "wrong", 1));
    assert_true(refused("127.0.0.1", "wrong too", 1));
    assert_false(refused("127.0.0.1", "right", 1));
    assert_false(refused("unix", "right", 1));
    for (int i = 0; i < 4; i++) {
        struct ban_failure failure = fail_once("unix", (const char *[]){"a", "b", "c", "d"}[i], 2);
        assert_int_equal(failure.slower, 1);
        assert_int_equal(failure.began, BAN_NONE);
    }
    fail_often("127.0.0.2", "x", 0); /* that is for tests: not this place */
    assert_true(refused("127.0.0.2", "right", 1));
}

/* Strangers try a user's name from everywhere: they are refused where they have failed, and nobody else is.
 */
static void nobody_is_kept_out_by_strangers(void **unused)
{
    char address[32];
    (void)unused;
    for (int i = 0; i < 4; i++) {
        snprintf(address, sizeof address, "198.51.100.%d", i);
        assert_int_equal(fail_once(address, "jane", i).began, i == 3 ? BAN_USER : BAN_NONE);
    }
    assert_true(refused("198.51.100.0", "jane", 10)); /* one try each */
    assert_true(refused("198.51.100.3", "jane", 10));
    assert_false(refused("198.51.100.3", "mary", 10));
    assert_false(refused(A, "jane", 10)); /* who does not fail is not concerned */
    assert_false(refused("198.51.100.0", "jane", 5010));
    fail_once(A, "jane", 20);
    assert_true(refused(A, "jane", 21)); /* a typing mistake at a new address, and in a bad moment */
}

/* What is longer ago than a window and a ban does not count as having failed. */
static void a_failure_of_long_ago_is_forgotten(void **unused)
{
    char address[32];
    (void)unused;
    fail_once(A, "jane", 0);
    for (int i = 0; i < 4; i++) {
        snprintf(address, sizeof address, "198.51.100.%d", i);
        fail_once(address, "jane", 5000);
    }
    assert_true(refused("198.51.100.0", "jane", 6500));
    assert_true(refused(A, "jane", 5999));
    assert_false(refused(A, "jane", 6000));
}

static void who_is_known_somewhere_is_not_kept_out_there(void **unused)
{
    (void)unused;
    succeed(A, "jane");
    fail_often(A, "mary", 0); /* the address is refused */
    assert_true(refused(A, "anna", 1));
    assert_false(refused(A, "jane", 1));
    fail_often(B, "jane", 0); /* the user is refused */
    fail_once(A, "jane", 1);
    assert_false(refused(A, "jane", 2));
    assert_true(refused(B, "jane", 2));
    fail_often(A, "jane", 2); /* but guessing is not for free there either */
    assert_true(refused(A, "jane", 3));
}

static void a_success_ends_the_count_of_that_user_there_only(void **unused)
{
    (void)unused;
    for (int i = 0; i < 40; i++) {
        fail_once("127.0.0.1", "jane", i);
        succeed("127.0.0.1", "jane");
    }
    assert_false(refused("127.0.0.1", "jane", 50));
    ban_free(&ban);
    ban_init(&ban);
    int began = 0;
    for (int i = 0; i < 4; i++) { /* one's own account, and guesses at others between */
        began += fail_once(A, "victim", i).began != BAN_NONE;
        succeed(A, "me");
    }
    assert_int_equal(began, 1);
    assert_true(refused(A, "victim", 5));
    assert_true(refused(A, "another", 5));
}

static void ipv6_counts_by_its_first_half(void **unused)
{
    (void)unused;
    fail_often("2001:db8:1:2::1", "a", 0);
    assert_true(refused("2001:db8:1:2:ffff::9", "b", 1));
    assert_false(refused("2001:db8:1:3::1", "b", 1));
    assert_false(refused("2001:db8:1:3::1", "a", 1));
}

static void switched_off_it_does_nothing(void **unused)
{
    (void)unused;
    struct ban_rule off = {0, 1000, 5000};
    struct principal p = who(A, "jane");
    for (int i = 0; i < 100; i++) {
        struct ban_failure failure = ban_failed(&ban, &off, &p, 0);
        assert_int_equal(failure.slower, 1);
        assert_int_equal(failure.began, BAN_NONE);
    }
    ban_succeeded(&ban, &off, &p);
    assert_false(ban_refuses(&ban, &off, &p, 0));
    assert_null(ban.failing);
    assert_null(ban.known);
    fail_often(A, "jane", 0); /* and a ban that has begun ends with it */
    assert_true(refused(A, "jane", 1));
    assert_false(ban_refuses(&ban, &off, &p, 1));
}

static void the_tables_are_bounded(void **unused)
{
    (void)unused;
    char name[32];
    fail_often(A, "jane", 0);
    succeed(B, "jane");
    for (int i = 0; i < BAN_FAILING_MOST; i++) {
        snprintf(name, sizeof name, "%d", i);
        fail_once(name, name, 1); /* "unix", all of them */
        succeed(name, name);
    }
    assert_int_equal(HASH_COUNT(ban.known), BAN_KNOWN_MOST);
    assert_true(HASH_COUNT(ban.failing) <= BAN_FAILING_MOST);
    fail_often(A, "jane", 2);
    for (int i = 0; i < 3 * BAN_FAILING_MOST; i++) {
        snprintf(name, sizeof name, "%d", i);
        fail_once("unix", name, 2);
        if (i % 1000 == 0)
            fail_once(A, "x", 2); /* what goes on failing is not forgotten */
    }
    assert_int_equal(HASH_COUNT(ban.failing), BAN_FAILING_MOST);
    assert_true(refused(A, "y", 3));
    assert_false(refused("unix", "0", 3));
}

static void without_memory_nothing_is_counted(void **unused)
{
    (void)unused;
    for (int n = 0, failed = 1; failed; n++) {
        memory_fails(n, ALL_OF_THEM);
        fail_often(A, "jane", n);
        succeed(B, "jane");
        failed = memory_calm();
    }
    assert_true(refused(A, "jane", 100));
}

/* Where a peer is, by its address. */
static void places(void **unused)
{
    (void)unused;
    static const struct {
        const char *address;
        uint64_t origin;
    } places[] = {
        {"192.0.2.1", 0xc0000201},
        {"::ffff:192.0.2.1", 0xc0000201},
        {"127.0.0.1", ORIGIN_HERE},
        {"::1", ORIGIN_HERE},
        {"unix", ORIGIN_HERE},
        {"local", ORIGIN_HERE},
        {"", ORIGIN_HERE},
        {"127.0.0.2", 0x7f000002},
        {"255.0.0.1", 0xff000001},
        {"2001:db8::1", 0x20010db800000000},
        {"2001:db8:0:1:2:3:4:5", 0x20010db800000001},
        {"fe80::1:2", 0xfe80000000010002},
        {"fe80::ffff:0:1:2", 0xfe80000000010002},
        {"febf::3", 0xfe80000000000003},
        {"fec0::3", 0xfec0000000000000},
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct principal p = who(places[i].address, NULL);
        if (principal_origin(&p) != places[i].origin)
            fail_msg("%s: %llx", places[i].address, (unsigned long long)principal_origin(&p));
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        T(an_address_is_refused_after_so_many_and_for_so_long),
        T(only_what_fails_within_the_window_counts),
        T(answers_take_longer_before),
        T(this_machine_is_not_refused_as_a_whole),
        T(nobody_is_kept_out_by_strangers),
        T(a_failure_of_long_ago_is_forgotten),
        T(who_is_known_somewhere_is_not_kept_out_there),
        T(a_success_ends_the_count_of_that_user_there_only),
        T(ipv6_counts_by_its_first_half),
        T(switched_off_it_does_nothing),
        T(the_tables_are_bounded),
        T(without_memory_nothing_is_counted),
        T(places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
