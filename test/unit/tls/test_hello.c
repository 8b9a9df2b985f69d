/*
 * test_hello.c - the look at a client's first bytes: what it finds, and that no bytes lead it astray.
 */
#include "test/unit/tls/rig.h"

/* A ClientHello with these suites and this ALPN extension. Returns its length. */
static size_t make_hello(uint8_t *out, const uint16_t *suites, int suite_count, const char *alpn,
                         size_t alpn_len)
{
    uint8_t body[1024] = {3, 3};
    size_t n = 2 + 32, len;

    body[n++] = 4; /* session id */
    n += 4;
    body[n++] = 0;
    body[n++] = (uint8_t)(2 * suite_count);
    for (int i = 0; i < suite_count; i++) {
        body[n++] = (uint8_t)(suites[i] >> 8);
        body[n++] = (uint8_t)suites[i];
    }
    body[n++] = 1;
    body[n++] = 0;
    len = alpn ? alpn_len + 6 + 5 : 5;
    body[n++] = (uint8_t)(len >> 8);
    body[n++] = (uint8_t)len;
    memcpy(body + n, "\0\x17\0\1\0", 5); /* some other extension */
    n += 5;
    if (alpn) {
        const uint8_t head[] = {0, 16, 0, (uint8_t)(alpn_len + 2), 0, (uint8_t)alpn_len};

        memcpy(body + n, head, 6);
        memcpy(body + n + 6, alpn, alpn_len);
        n += 6 + alpn_len;
    }
    memcpy(
        out,
        (uint8_t[]){22, 3, 1, (uint8_t)((n + 4) >> 8), (uint8_t)(n + 4), 1, 0, (uint8_t)(n >> 8), (uint8_t)n},
        9);
    memcpy(out + 9, body, n);
    return n + 9;
}

static const uint16_t aes[] = {0x1301, 0x1302}, both[] = {0x1301, 0x1303, 0x00ff};

static void test_hints(void **state)
{
    uint8_t data[1100];
    struct hello hello;
    size_t n;

    (void)state;
    n = make_hello(data, aes, 2, NULL, 0);
    hello = tls_hello_look(data, n);
    assert_int_equal(hello.kind, HELLO_TLS);
    assert_false(hello.alpn);
    assert_false(hello.chacha);

    n = make_hello(data, both, 3, "\2h2\4mqtt", 8);
    hello = tls_hello_look(data, n);
    assert_true(hello.alpn);
    assert_true(hello.chacha);

    n = make_hello(data, both, 3, "\2h2\3mqt\5mqtt5", 13);
    assert_false(tls_hello_look(data, n).alpn);
    n = make_hello(data, both, 3, "\2h2\377mqtt", 8);
    assert_false(tls_hello_look(data, n).alpn);
    n = make_hello(data, both, 3, "\10http/1.1", 9);
    assert_true(tls_hello_look(data, n).alpn);
}

static void test_waits_for_the_record(void **state)
{
    uint8_t data[1100];
    size_t n = make_hello(data, both, 3, "\4mqtt", 5);

    (void)state;
    for (size_t i = 1; i < n; i++)
        assert_int_equal(tls_hello_look(data, i).kind, HELLO_MORE);
    assert_int_equal(tls_hello_look(data, n).kind, HELLO_TLS);
    assert_true(tls_hello_look(data, n).alpn);
    /* one that goes on in a second record: no hints, but no waiting either */
    data[8] = (uint8_t)(data[8] + 1);
    assert_int_equal(tls_hello_look(data, n).kind, HELLO_TLS);
    assert_false(tls_hello_look(data, n).alpn);
    /* a length that no record may have is mbedTLS' to refuse */
    assert_int_equal(tls_hello_look((const uint8_t *)"\x16\3\1\xff\xff", 5).kind, HELLO_TLS);
}

static void test_other_languages(void **state)
{
    static const struct {
        const char *data;
        size_t len;
        enum hello_kind kind;
    } cases[] = {
        {"\x10\x0c\0\4MQTT", 8, HELLO_MQTT},
        {"\x10", 1, HELLO_MQTT},
        {"G", 1, HELLO_MORE},
        {"GE", 2, HELLO_MORE},
        {"GET ", 4, HELLO_HTTP},
        {"POST / HTTP/1.1", 15, HELLO_HTTP},
        {"GEM ", 4, HELLO_OTHER},
        {"XYZ", 3, HELLO_OTHER},
        {"PROX", 4, HELLO_MORE},
        {"PROXY TCP4", 10, HELLO_PROXY},
        {"\r\n\r\n\0\r\nQUIT\n", 12, HELLO_PROXY},
        {"\x80\x2e\1", 3, HELLO_OTHER},
        {"\x16", 1, HELLO_MORE},
        {"\x16\2", 2, HELLO_OTHER},
        {"\0", 1, HELLO_OTHER},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum hello_kind kind = tls_hello_look((const uint8_t *)cases[i].data, cases[i].len).kind;

        if (kind != cases[i].kind)
            fail_msg("case %zu: %d", i, (int)kind);
        assert_int_equal(tls_hello_says(kind) != NULL, kind != HELLO_MORE && kind != HELLO_TLS);
    }
}

/* Every byte of a ClientHello changed, and every truncation, on a buffer of just that size: for the address
 * sanitizer. */
static void test_damage(void **state)
{
    uint8_t data[1100];
    size_t n = make_hello(data, both, 3, "\2h2\4mqtt", 8);
    unsigned seed = 7;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        size_t len = (size_t)rand_r(&seed) % n + 1;
        uint8_t *copy = malloc(len);

        assert_non_null(copy);
        memcpy(copy, data, len);
        for (int k = rand_r(&seed) % 4; k > 0; k--)
            copy[(size_t)rand_r(&seed) % len] = (uint8_t)rand_r(&seed);
        if (round % 2 && len > 9) { /* lengths that fit, so that the inside is looked at */
            copy[3] = (uint8_t)((len - 5) >> 8);
            copy[4] = (uint8_t)(len - 5);
            copy[7] = (uint8_t)((len - 9) >> 8);
            copy[8] = (uint8_t)(len - 9);
        }
        (void)tls_hello_look(copy, len);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hints),
        cmocka_unit_test(test_waits_for_the_record),
        cmocka_unit_test(test_other_languages),
        cmocka_unit_test(test_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
