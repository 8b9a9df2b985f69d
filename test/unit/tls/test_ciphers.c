/*
 * test_ciphers.c - OpenSSL's cipher lists as mosquitto.conf has them.
 */
#include "test/unit/tls/rig.h"
#include <mbedtls/ssl_ciphersuites.h>

static struct tls_suites parsed;
static struct err why;

static int parse(const char *ciphers, const char *ciphers13, bool hw_aes)
{
    why.text[0] = 0;
    return tls_suites_parse(&parsed, ciphers, ciphers13, hw_aes, &why);
}

/* The TLS 1.2 suites, as short as readable. */
static const char *list12(void)
{
    static char text[1024];

    text[0] = 0;
    for (int i = 0; i < parsed.count12; i++) {
        const char *name = mbedtls_ssl_get_ciphersuite_name(parsed.all[parsed.count13 + i]);

        assert_memory_equal(name, "TLS-ECDHE-", 10);
        sprintf(text + strlen(text), "%s%s", i ? " " : "", name + 10);
    }
    assert_int_equal(parsed.all[parsed.count13 + parsed.count12], 0);
    return text;
}

static void expect12(const char *ciphers, const char *list)
{
    if (parse(ciphers, NULL, true))
        fail_msg("%s: %s", ciphers, why.text);
    if (strcmp(list12(), list) != 0)
        fail_msg("%s: %s", ciphers, list12());
}

static void expect_bad(const char *ciphers, const char *text)
{
    assert_int_equal(parse(ciphers, NULL, true), -1);
    if (!strstr(why.text, text))
        fail_msg("%s: %s", ciphers, why.text);
}

#define G1E "ECDSA-WITH-AES-128-GCM-SHA256"
#define G1R "RSA-WITH-AES-128-GCM-SHA256"
#define G2E "ECDSA-WITH-AES-256-GCM-SHA384"
#define G2R "RSA-WITH-AES-256-GCM-SHA384"
#define CE  "ECDSA-WITH-CHACHA20-POLY1305-SHA256"
#define CR  "RSA-WITH-CHACHA20-POLY1305-SHA256"

#define ALL G1E " " G1R " " G2E " " G2R " " CE " " CR

static void test_default(void **state)
{
    (void)state;
    expect12(NULL, ALL);
    assert_int_equal(parsed.count13, 3);
    assert_int_equal(parsed.all[0], MBEDTLS_TLS1_3_AES_128_GCM_SHA256);
    assert_false(parsed.prefer_chacha);
    assert_true(parsed.rsa12 && parsed.ecdsa12);
    assert_int_equal(parse(NULL, NULL, false), 0);
    assert_string_equal(list12(), CE " " CR " " G1E " " G1R " " G2E " " G2R);
    assert_int_equal(parsed.all[0], MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256);
    assert_true(parsed.prefer_chacha);
    assert_int_equal(parsed.chacha[0], MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256);
    assert_int_equal(parsed.chacha[1], parsed.all[3]);
    assert_int_equal(parsed.chacha[7], 0);
}

static void test_names(void **state)
{
    (void)state;
    expect12("ECDHE-ECDSA-AES256-GCM-SHA384", G2E);
    assert_false(parsed.rsa12);
    expect12("ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256", CR " " G1E);
    expect12("ECDHE-RSA-AES128-GCM-SHA256,ECDHE-RSA-AES128-GCM-SHA256", G1R);
    expect12("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", G1R);
    expect12("ECDHE-RSA-AES128-SHA256", "RSA-WITH-AES-128-CBC-SHA256");
    expect_bad("ECDHE-RSA-AES128-GCM-SHA257", "'ECDHE-RSA-AES128-GCM-SHA257' is no cipher");
    expect_bad("ECDHE-RSA-AES128-GCM-SHA256:QUATSCH", "'QUATSCH'");
    expect_bad("DHE-RSA-AES128-GCM-SHA256", "ECDHE-");
    expect_bad("AES256-GCM-SHA384", "forward secrecy");
    expect_bad("PSK-AES128-GCM-SHA256", "is not among");
    expect_bad("TLS_AES_128_GCM_SHA256", "ciphers_tls1.3");
}

static void test_words(void **state)
{
    (void)state;
    expect12("HIGH:!aNULL:!MD5:!RC4:!3DES:!DHE-RSA-AES128-SHA", ALL);
    expect12("DEFAULT:@SECLEVEL=1", ALL);
    expect12("ECDHE+AESGCM", G1E " " G1R " " G2E " " G2R);
    expect12("EECDH+aRSA+AESGCM", G1R " " G2R);
    expect12("ECDHE+AESGCM:ECDHE+CHACHA20:!aRSA", G1E " " G2E " " CE);
    expect12("CHACHA20:HIGH", CE " " CR " " G1E " " G1R " " G2E " " G2R);
    expect12("HIGH:+aECDSA", G1R " " G2R " " CR " " G1E " " G2E " " CE);
    expect12("HIGH:-AES128:ECDHE-RSA-AES128-GCM-SHA256", G2E " " G2R " " CE " " CR " " G1R);
    expect12("HIGH:!AES128:ECDHE-RSA-AES128-GCM-SHA256", G2E " " G2R " " CE " " CR);
    expect12("AES+aRSA:@STRENGTH", G2R " " G1R);
    expect12("ECDHE+SHA256+aRSA", "RSA-WITH-AES-128-CBC-SHA256");
    expect_bad("RC4", "'RC4'");
    expect_bad("kRSA+AESGCM", "'kRSA'");
    expect_bad("HIGH:!ECDHE", "no cipher at all");
    expect_bad("!aNULL", "no cipher at all");
    expect_bad("HIGH:@SECLEVEL=5", "SECLEVEL=5");
}

static void test_tls13(void **state)
{
    (void)state;
    assert_int_equal(parse(NULL, "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384", true), 0);
    assert_int_equal(parsed.count13, 2);
    assert_int_equal(parsed.all[0], MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256);
    assert_true(parsed.prefer_chacha);
    assert_int_equal(parse(NULL, "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256", false), 0);
    assert_false(parsed.prefer_chacha);
    assert_int_equal(parse(NULL, "TLS_AES_128_CCM_SHA256", true), -1);
    assert_non_null(strstr(why.text, "'TLS_AES_128_CCM_SHA256'"));
    assert_int_equal(parse(NULL, "", true), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_tls13),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
