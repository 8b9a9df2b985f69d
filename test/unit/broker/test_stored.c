/*
 * test_stored.c - messages and principals from the store. That everything is freed is for the address
 * sanitizer to see, and for mem_held().
 */
#include "broker/mem.h"
#include "broker/stored.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct stored_origin pump = {
    .number = 7,
    .client_id = "pump",
    .user = "mill",
    .address = "192.0.2.7",
    .tls_version = "TLSv1.3",
    .cert_cn = "pump.mill",
    .cert_subject = "CN=pump.mill,O=mill",
    .cert_sha256 = "00ff",
    .listener = 3,
};

static void a_principal_is_as_it_was(void **unused)
{
    (void)unused;
    struct stored_origins *origins = stored_origins_new(10);
    struct principal *who;
    assert_int_equal(stored_principal(origins, &pump, &who), 0);
    stored_origins_free(origins); /* who outlives it */
    assert_int_equal(who->refs, 1);
    assert_string_equal(who->client_id, "pump");
    assert_string_equal(who->user, "mill");
    assert_string_equal(who->address, "192.0.2.7");
    assert_string_equal(who->tls_version, "TLSv1.3");
    assert_string_equal(who->cert_cn, "pump.mill");
    assert_string_equal(who->cert_subject, "CN=pump.mill,O=mill");
    assert_string_equal(who->cert_sha256, "00ff");
    assert_int_equal(who->listener, 3);
    assert_int_equal(who->port, 0);
    principal_unref(who);
    assert_int_equal(mem_held(), 0);
}

static void what_was_not_known_is_not_known(void **unused)
{
    (void)unused;
    struct stored_origins *origins = stored_origins_new(10);
    struct stored_origin origin = {.number = 1, .listener = LISTENER_GONE};
    struct principal *who;
    assert_int_equal(stored_principal(origins, &origin, &who), 0);
    assert_null(who->client_id);
    assert_null(who->user);
    assert_null(who->tls_version);
    assert_string_equal(who->address, "");
    assert_int_equal(who->listener, LISTENER_GONE);
    principal_unref(who);
    origin = (struct stored_origin){.number = 2, .tls_version = "TLSv1.4"};
    assert_int_equal(stored_principal(origins, &origin, &who), 0);
    assert_string_equal(who->tls_version, "TLS");
    principal_unref(who);
    origin = (struct stored_origin){.number = 0, .client_id = "nobody"};
    assert_int_equal(stored_principal(origins, &origin, &who), 0);
    assert_null(who); /* the broker itself */
    stored_origins_free(origins);
    stored_origins_free(NULL);
}

static void the_same_number_is_the_same_principal(void **unused)
{
    (void)unused;
    struct stored_origins *origins = stored_origins_new(2);
    struct stored_origin other = pump;
    struct principal *first, *second, *third;
    other.number = 8;
    assert_int_equal(stored_principal(origins, &pump, &first), 0);
    assert_int_equal(stored_principal(origins, &other, &second), 0);
    assert_int_equal(stored_principal(origins, &pump, &third), 0);
    assert_ptr_equal(first, third);
    assert_ptr_not_equal(first, second);
    assert_int_equal(first->refs, 3);
    principal_unref(third);
    other.number = 9;
    assert_int_equal(stored_principal(origins, &other, &third), 0); /* the third: the oldest is forgotten */
    assert_int_equal(first->refs, 1);
    assert_int_equal(second->refs, 2);
    principal_unref(first);
    principal_unref(second);
    principal_unref(third);
    stored_origins_free(origins);
    assert_int_equal(mem_held(), 0);
}

static void a_message_is_as_it_was_published(void **unused)
{
    (void)unused;
    struct stored_origins *origins = stored_origins_new(10);
    struct stored_message message = {.topic = slice_str("a/b"),
                                     .payload = slice_of((const uint8_t *)"x\0y", 3),
                                     .qos = 2,
                                     .retain = true,
                                     .origin = pump};
    struct msg *a = stored_msg(origins, &message), *b = stored_msg(origins, &message);
    assert_true(slice_eq(msg_topic(a), slice_str("a/b")));
    assert_true(slice_eq(msg_payload(a), message.payload));
    assert_int_equal(a->qos, 2);
    assert_true(a->retain);
    assert_ptr_equal(a->from, b->from);
    assert_int_equal(a->from->refs, 3); /* two messages, and what is kept */
    msg_unref(a);
    msg_unref(b);
    message = (struct stored_message){.topic = slice_str("t")};
    a = stored_msg(origins, &message);
    assert_null(a->from);
    assert_int_equal(a->payload_size, 0);
    assert_false(a->retain);
    msg_unref(a);
    stored_origins_free(origins);
    assert_int_equal(mem_held(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_principal_is_as_it_was),
        cmocka_unit_test(what_was_not_known_is_not_known),
        cmocka_unit_test(the_same_number_is_the_same_principal),
        cmocka_unit_test(a_message_is_as_it_was_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
