/*
 * test_principal.c - counting references. That everything is freed is for the address sanitizer to see.
 */
#include "broker/clock.h"
#include "broker/principal.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void begins_empty_with_one_reference(void **unused)
{
    struct principal *principal = principal_new();

    (void)unused;
    assert_int_equal(principal->refs, 1);
    assert_null(principal->client_id);
    assert_null(principal->user);
    assert_null(principal->listener);
    assert_string_equal(principal->address, "");
    assert_string_equal(principal->cert_sha256, "");
    principal_unref(principal);
}

static void lives_as_long_as_its_last_reference(void **unused)
{
    struct principal *principal = principal_new();

    (void)unused;
    principal->client_id = strdup("pump");
    principal->user = strdup("mill");
    principal->cert_cn = strdup("pump.mill");
    principal->cert_subject = strdup("CN=pump.mill");
    assert_ptr_equal(principal_ref(principal), principal);
    principal_unref(principal);
    assert_int_equal(principal->refs, 1);
    assert_string_equal(principal->client_id, "pump");
    principal_unref(principal);
}

static void nothing_may_be_released(void **unused)
{
    (void)unused;
    principal_unref(NULL);
}

static void is_the_same_when_all_but_the_port_is(void **unused)
{
    struct principal *a = principal_new(), *b = principal_new();
    char **texts[] = {&b->client_id, &b->user, &b->cert_cn, &b->cert_subject};

    (void)unused;
    a->port = 1;
    a->listener = b->listener;
    assert_true(principal_same(a, b));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        *texts[i] = strdup("x");
        assert_false(principal_same(a, b));
        assert_false(principal_same(b, a));
        free(*texts[i]);
        *texts[i] = NULL;
    }
    a->client_id = strdup("pump");
    b->client_id = strdup("pump");
    assert_true(principal_same(a, b));
    b->client_id[0] = 'P';
    assert_false(principal_same(a, b));
    b->client_id[0] = 'p';
    b->listener++;
    assert_false(principal_same(a, b));
    b->listener--;
    strcpy(b->address, "192.0.2.7");
    assert_false(principal_same(a, b));
    strcpy(a->address, "192.0.2.7");
    strcpy(b->cert_sha256, "00");
    assert_false(principal_same(a, b));
    b->cert_sha256[0] = 0;
    b->tls_version = "TLSv1.3";
    assert_false(principal_same(a, b));
    principal_unref(a);
    principal_unref(b);
}

static void the_clock_goes_forward_in_both_units(void **unused)
{
    int64_t us = clock_us();
    int64_t ms = clock_ms();
    int64_t later = clock_us();

    (void)unused;
    assert_true(us > 0 && us <= later);
    assert_true(us / 1000 <= ms && ms <= later / 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins_empty_with_one_reference),
        cmocka_unit_test(lives_as_long_as_its_last_reference),
        cmocka_unit_test(nothing_may_be_released),
        cmocka_unit_test(is_the_same_when_all_but_the_port_is),
        cmocka_unit_test(the_clock_goes_forward_in_both_units),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
