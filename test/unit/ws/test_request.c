/*
 * test_request.c - headers of HTTP requests that nobody should send: each is refused with a reason, wherever
 * its bytes are split, and libwebsockets never sees it.
 */
#include "test/unit/ws/rig.h"

#define H   "Host: h\r\n"
#define END "\r\n"

/* Status 0: it is good. */
static const struct {
    int status;
    const char *header;
    size_t n; /* 0: that of the text */
} cases[] = {
    {0, "GET / HTTP/1.1\r\n" H END, 0},
    {0, "HEAD /a/b.html?x=y&z=%20%c3%a4 HTTP/1.1\r\n" H END, 0},
    {0, "GET / HTTP/1.0\r\n" END, 0},
    {0, "GET / HTTP/1.0\r\n" H END, 0},
    {0, "GET / HTTP/1.1\r\nhOST:h\r\nAccept:\r\nX-Any_thing~1: \t \xc3\xa4 \"(,)\r\n" END, 0},
    {0, "GET /~!$'()*+,-.;:@_ HTTP/1.1\r\n" H END, 0},
    /* the first line */
    {400, "GET /\r\n" END, 0}, /* HTTP/0.9 */
    {400, "GET / \r\n" H END, 0},
    {400, "GET  / HTTP/1.1\r\n" H END, 0},
    {400, "GET /  HTTP/1.1\r\n" H END, 0},
    {400, "GET / HTTP/1.1 \r\n" H END, 0},
    {400, "GET\t/ HTTP/1.1\r\n" H END, 0},
    {400, "GET / http/1.1\r\n" H END, 0},
    {400, "GET / HTTP/1.\r\n" H END, 0},
    {400, "GET / HTTP/11\r\n" H END, 0},
    {400, "GET / HTTX/1.1\r\n" H END, 0},
    {400, "GET / HTTP/1.10\r\n" H END, 0},
    {400, "G(T / HTTP/1.1\r\n" H END, 0},
    {400, "GET\r\n" H END, 0},
    {400, "GET / HTTP/1.1\n" H END, 0},
    {400, "GET / HTTP/1.1\r" H END, 0},
    {400, "GET / HTTP/1.1\r\r\n" H END, 0},
    {505, "GET / HTTP/2.0\r\n" H END, 0},
    {505, "GET / HTTP/0.9\r\n" H END, 0},
    {505, "GET / HTTP/1.2\r\n" H END, 0},
    {505, "PRI * HTTP/2.0\r\n" END, 0},
    {405, "POST / HTTP/1.1\r\n" H END, 0},
    {405, "CONNECT h:80 HTTP/1.1\r\n" H END, 0},
    {405, "OPTIONS * HTTP/1.1\r\n" H END, 0},
    {405, "TRACE / HTTP/1.1\r\n" H END, 0},
    {405, "BREW /pot HTTP/1.1\r\n" H END, 0},
    {405, "GETS / HTTP/1.1\r\n" H END, 0},
    /* the path */
    {400, "GET * HTTP/1.1\r\n" H END, 0},
    {400, "GET http://h/ HTTP/1.1\r\n" H END, 0},
    {400, "GET index.html HTTP/1.1\r\n" H END, 0},
    {400, "GET /% HTTP/1.1\r\n" H END, 0},
    {400, "GET /%4 HTTP/1.1\r\n" H END, 0},
    {400, "GET /%zz HTTP/1.1\r\n" H END, 0},
    {400, "GET /%4g HTTP/1.1\r\n" H END, 0},
    {400, "GET /%00 HTTP/1.1\r\n" H END, 0},
    {400, "GET /%0a HTTP/1.1\r\n" H END, 0},
    {400, "GET /%0D%0AOrigin:x HTTP/1.1\r\n" H END, 0},
    {400, "GET /?%0aOrigin:x HTTP/1.1\r\n" H END, 0},
    {400, "GET /%1f HTTP/1.1\r\n" H END, 0},
    {400, "GET /%7F HTTP/1.1\r\n" H END, 0},
    {400, "GET /\x7f HTTP/1.1\r\n" H END, 0},
    {400, "GET /\x01 HTTP/1.1\r\n" H END, 0},
    {400, "GET /\xc3\xa4 HTTP/1.1\r\n" H END, 0},
    {400, "GET /\0 HTTP/1.1\r\n" H END, sizeof "GET /\0 HTTP/1.1\r\n" H END - 1},
    {400, "GET /\n HTTP/1.1\r\n" H END, 0},
    /* the fields */
    {400, "GET / HTTP/1.1\r\n" END, 0},
    {400, "GET / HTTP/1.1\r\n" H H END, 0},
    {400, "GET / HTTP/1.0\r\n" H "HOST: h\r\n" END, 0},
    {400, "GET / HTTP/1.1\r\n" H "Content-Length : 5\r\n" END, 0},
    {400, "GET / HTTP/1.1\r\n" H " folded\r\n" END, 0},
    {400, "GET / HTTP/1.1\r\n" H "\tfolded\r\n" END, 0},
    {400, "GET / HTTP/1.1\r\n" H "none\r\n" END, 0},
    {400, "GET / HTTP/1.1\r\n" H ": empty\r\n" END, 0},
    {400, "GET / HTTP/1.1\r\n" H "a b: c\r\n" END, 0},
    {400, "GET / HTTP/1.1\r\n" H "a@: c\r\n" END, 0},
    {400, "GET / HTTP/1.1\r\n" H "a\xc3: c\r\n" END, 0},
    {400, "GET / HTTP/1.1\r\n" H "a: b\nOrigin: c\r\n" END, 0},
    {400, "GET / HTTP/1.1\r\n" H "a: b\rOrigin: c\r\n" END, 0},
    {400, "GET / HTTP/1.1\r\n" H "a: \x1b[2J\r\n" END, 0},
    {400, "GET / HTTP/1.1\r\n" H "a: \x7f\r\n" END, 0},
    {400, "GET / HTTP/1.1\r\n" H "a: \0\r\n" END, sizeof "GET / HTTP/1.1\r\n" H "a: \0\r\n" END - 1},
    {400, "GET / HTTP/1.1\r\n" H "\0: a\r\n" END, sizeof "GET / HTTP/1.1\r\n" H "\0: a\r\n" END - 1},
    {400, "\r\n" END, 0},
};

enum { CASES = sizeof cases / sizeof *cases };

static size_t case_size(size_t i)
{
    return cases[i].n ? cases[i].n : strlen(cases[i].header);
}

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        /* in a block of its own, so that a sanitizer sees a byte too many */
        char *header = malloc(case_size(i));
        memcpy(header, cases[i].header, case_size(i));
        struct ws_fault fault = ws_request_check(header, case_size(i));
        if (fault.code != cases[i].status || !fault.text != !fault.code)
            fail_msg("%d %s: %s", fault.code, fault.text ? fault.text : "", cases[i].header);
        free(header);
    }
}

static void test_size(void **state)
{
    static const char two[] = "GET / HTTP/1.1\r\n" H END "GET / HTTP/1.1\r\n" H END;
    size_t first = (sizeof two - 1) / 2;

    (void)state;
    for (size_t n = 1; n < sizeof two; n++) {
        for (size_t seen = 0; seen < n && seen < first; seen++)
            assert_int_equal(ws_request_size(two, n, seen), n < first ? 0 : first);
    }
}

static void test_first_byte(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++)
        assert_int_equal(ws_request_begins((unsigned char)c).code == 0, c >= 'A' && c <= 'Z');
    assert_true(has(ws_request_begins(0x16).text, "TLS"));
    assert_true(has(ws_request_begins(0x10).text, "MQTT"));
}

/* As many as fit, and one more; parts of the query count like fields. */
static void test_many_fields(void **state)
{
    char header[4096];

    (void)state;
    for (int fields = 62; fields <= 65; fields++) {
        for (int in_query = 0; in_query < 2; in_query++) {
            size_t n = (size_t)sprintf(header, "GET /");
            for (int i = 0; in_query && i < fields; i++)
                n += (size_t)sprintf(header + n, "%s", i ? "&a=b" : "?a=b");
            n += (size_t)sprintf(header + n, " HTTP/1.1\r\n" H);
            for (int i = 0; !in_query && i < fields; i++)
                n += (size_t)sprintf(header + n, "Accept: x\r\n");
            n += (size_t)sprintf(header + n, "\r\n");
            assert_int_equal(ws_request_check(header, n).code, fields <= 62 ? 0 : 431);
        }
    }
}

/* --- through libwebsockets --- */

static struct rig rig;

static int set_up(void **state)
{
    (void)state;
    rig_open(&rig, NULL, RIG_HANDSHAKE_MS);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}

/* The body of the answer before may be in front of it. */
static int status_of(const char *head)
{
    const char *at = strstr(head, "HTTP/1.1 ");
    int status = 0;

    assert_non_null(at);
    assert_int_equal(sscanf(at, "HTTP/1.1 %d ", &status), 1);
    return status;
}

/* The answer is the refusal, the connection ends, and the reason is told. */
static void try_case(size_t i, bool byte_by_byte)
{
    struct client client;
    struct owner owner = {0};
    char *head;

    rig_connect(&rig, &client, &owner);
    for (size_t k = 0; byte_by_byte && k < case_size(i); k++) {
        client_send(&rig, &client, cases[i].header + k, 1);
        rig_step(&rig);
    }
    if (!byte_by_byte)
        client_send(&rig, &client, cases[i].header, case_size(i));
    head = client_head(&rig, &client);
    assert_int_equal(status_of(head), cases[i].status ? cases[i].status : 404);
    if (cases[i].status) {
        WAIT_END(&rig, &client);
        WAIT_FOR(&rig, owner.readies == 1);
        assert_int_equal(owner.error, -EPROTO);
        assert_true(has((char *)client.in, owner.t->ops->why(owner.t)));
        assert_true(has(head, "Connection: close\r\n"));
    }
    free(head);
    client_close(&client);
    owner_free(&owner);
}

static void test_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        try_case(i, false);
        try_case(i, true);
    }
}

/* A good request, and one behind it that is not: both are answered, in this order. */
static void test_behind_a_good_one(void **state)
{
    struct client client;
    struct owner owner = {0};
    char *head;

    (void)state;
    rig_connect(&rig, &client, &owner);
    client_say(&rig, &client, "GET /x HTTP/1.1\r\n" H END "GET /y HTTP/1.1\r\n" H END "junk\r\n\r\n");
    for (int i = 0; i < 3; i++) {
        head = client_head(&rig, &client);
        assert_int_equal(status_of(head), i < 2 ? 404 : 400);
        free(head);
    }
    WAIT_END(&rig, &client);
    WAIT_FOR(&rig, owner.readies == 1);
    assert_non_null(owner.t->ops->why(owner.t));
    client_close(&client);
    owner_free(&owner);
}

/* Before there is a whole request nobody but us knows the connection, and little is kept of it. */
static void test_slow_ones_cost_little(void **state)
{
    struct client client;
    struct owner owner = {0};

    (void)state;
    rig_connect(&rig, &client, &owner);
    client_say(&rig, &client, "GET / HTTP/1.1\r\nHo");
    WAIT_FOR(&rig, owner_conn(&owner)->in.len > 0);
    assert_null(owner_conn(&owner)->wsi);
    assert_in_range(owner_conn(&owner)->in.cap, 1, 1024);
    client_say(&rig, &client, "st: h\r\n\r\n");
    free(client_head(&rig, &client));
    assert_non_null(owner_conn(&owner)->wsi);
    assert_int_equal(owner_conn(&owner)->in.cap, 0);
    client_close(&client);
    owner_free(&owner);
}

/* What libwebsockets itself does not like has a reason, too. */
static void test_refused_by_libwebsockets(void **state)
{
    struct client client;
    struct owner owner = {0};

    (void)state;
    rig_connect(&rig, &client, &owner);
    client_say(&rig, &client, "GET / HTTP/1.1\r\n" H "Upgrade: nonsense\r\nConnection: Upgrade\r\n" END);
    WAIT_END(&rig, &client);
    WAIT_FOR(&rig, owner.readies == 1);
    assert_true(owner.error < 0);
    assert_true(has(owner.t->ops->why(owner.t), "libwebsockets refused"));
    client_close(&client);
    owner_free(&owner);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_first_byte),
        cmocka_unit_test(test_many_fields),
        TEST(test_answers),
        TEST(test_behind_a_good_one),
        TEST(test_slow_ones_cost_little),
        TEST(test_refused_by_libwebsockets),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
