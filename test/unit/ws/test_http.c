/*
 * test_http.c - the page over plain HTTP: files, forms, what is not served, and that it stays small.
 */
#include "test/unit/ws/rig.h"

#include "test/unit/ws/folder.h"

enum { LARGE = 3 * 1024 * 1024 };

static struct folder folder;
static struct rig rig;
static struct client client;
static struct owner owner;

static int set_up(void **state)
{
    struct config_listener listener = {.protocol = PROTOCOL_WEBSOCKETS, .http_dir = folder.path};
    unsigned char *large = malloc(LARGE);

    (void)state;
    folder_make(&folder);
    folder_add(&folder, "index.html", "<h1>bramble</h1>");
    folder_add(&folder, "app.js", "plain();");
    folder_add(&folder, "app.js.gz", "\x1f\x8bpacked");
    folder_add_folder(&folder, "sub");
    folder_add(&folder, "sub/a b.txt", "with a blank");
    for (size_t i = 0; i < LARGE; i++)
        large[i] = (unsigned char)(i ^ i >> 8 ^ i >> 16);
    folder_add_bytes(&folder, "large.bin", large, LARGE);
    free(large);
    memset(&owner, 0, sizeof owner);
    memset(&client, 0, sizeof client);
    client.fd = -1;
    rig_open(&rig, &listener, RIG_HANDSHAKE_MS);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    client_close(&client);
    owner_free(&owner);
    rig_close(&rig);
    folder_remove(&folder);
    return 0;
}

static size_t content_length(const char *head)
{
    const char *at = strstr(head, "Content-Length: ");

    assert_non_null(at);
    return strtoul(at + 16, NULL, 10);
}

/* One request, over the connection that there is or a new one. The caller frees the header; the body is in
 * client.in. */
static char *ask(const char *request)
{
    if (client.fd < 0)
        rig_connect(&rig, &client, &owner);
    client_say(&rig, &client, request);
    return client_head(&rig, &client);
}

static void assert_body(const char *text)
{
    WAIT_LEN(&rig, &client, strlen(text));
    assert_memory_equal(client.in, text, strlen(text));
    client_drop(&client, strlen(text));
    rig_step_ms(&rig, 3);
    client_poll(&client);
    assert_int_equal(client.len, 0);
}

#define GET(path)         "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"
#define GET_WITH(path, h) "GET " path " HTTP/1.1\r\nHost: h\r\n" h "\r\n\r\n"

static void test_index(void **state)
{
    char *head = ask(GET("/"));

    (void)state;
    assert_true(has(head, "HTTP/1.1 200 OK\r\n"));
    assert_true(has(head, "Content-Type: text/html; charset=utf-8\r\n"));
    assert_true(has(head, "Content-Length: 16\r\n"));
    assert_true(has(head, "Content-Security-Policy: default-src 'self'; connect-src 'self' ws: wss:;"));
    assert_true(has(head, "base-uri 'none'"));
    assert_true(has(head, "frame-ancestors 'none'"));
    assert_true(has(head, "X-Content-Type-Options: nosniff\r\n"));
    assert_true(has(head, "Referrer-Policy: no-referrer\r\n"));
    assert_true(has(head, "Cache-Control: no-cache\r\n"));
    assert_true(has(head, "ETag: \""));
    assert_false(has(head, "Vary:"));
    assert_false(has(head, "Connection: close"));
    assert_body("<h1>bramble</h1>");
    free(head);
    assert_int_equal(owner.readies, 0); /* it is no client until it has left */
    close(client.fd);
    client.fd = -1;
    WAIT_FOR(&rig, owner.readies == 1);
    assert_int_equal(owner.error, -ECONNRESET);
    assert_null(owner.t->ops->why(owner.t));
}

static void test_one_connection_for_many(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        char *head = ask(i & 1 ? GET("/index.html") : GET("/sub/a%20b.txt?x=y"));
        assert_true(has(head, "HTTP/1.1 200 OK\r\n"));
        assert_body(i & 1 ? "<h1>bramble</h1>" : "with a blank");
        free(head);
    }
    assert_int_equal(owner.readies, 0);
}

static void test_upgrade_after_the_page(void **state)
{
    char *head = ask(GET("/"));

    (void)state;
    free(head);
    assert_body("<h1>bramble</h1>");
    head = ask(UPGRADE);
    assert_true(has(head, "HTTP/1.1 101 "));
    free(head);
    WAIT_FOR(&rig, owner.readies == 1);
    assert_int_equal(owner.error, 0);
    client_frame(&rig, &client, F_FIN | F_BIN, "x", 1);
    WAIT_FOR(&rig, owner.len == 1);
    assert_int_equal(rig.ws->http_count, 0);
}

static void test_pipelined(void **state)
{
    static const char two[] = GET("/") GET("/app.js") GET("/nothing");
    char *head = ask(two);

    (void)state;
    assert_true(has(head, "200 OK"));
    client_drop(&client, content_length(head));
    free(head);
    head = client_head(&rig, &client);
    assert_true(has(head, "200 OK"));
    WAIT_LEN(&rig, &client, 8);
    assert_memory_equal(client.in, "plain();", 8);
    client_drop(&client, 8);
    free(head);
    head = client_head(&rig, &client);
    assert_true(has(head, "404 Not Found"));
    free(head);
}

static void test_gzip(void **state)
{
    static const struct {
        const char *line;
        bool gzip;
    } cases[] = {
        {"Accept-Encoding: gzip, deflate, br", true},
        {"Accept-Encoding: br;q=1, GZIP;q=0.5", true},
        {"Accept-Encoding: deflate", false},
        {"Accept-Encoding: gzip;q=0", false},
        {"Accept-Encoding: gzip ; q=0.0", false},
        {"Accept-Encoding: gzipper", false},
        {"Accept: gzip", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char request[256], *head;
        snprintf(request, sizeof request, "GET /app.js HTTP/1.1\r\nHost: h\r\n%s\r\n\r\n", cases[i].line);
        head = ask(request);
        assert_true(has(head, "Vary: Accept-Encoding\r\n"));
        assert_int_equal(has(head, "Content-Encoding: gzip\r\n"), cases[i].gzip);
        assert_true(has(head, "Content-Type: text/javascript"));
        assert_body(cases[i].gzip ? "\x1f\x8bpacked" : "plain();");
        free(head);
    }
}

static void test_head(void **state)
{
    char *head = ask("HEAD /large.bin HTTP/1.1\r\nHost: h\r\n\r\n");

    (void)state;
    assert_true(has(head, "HTTP/1.1 200 OK\r\n"));
    assert_int_equal(content_length(head), LARGE);
    assert_body("");
    free(head);
    head = ask("HEAD /nothing HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_true(has(head, "HTTP/1.1 404 "));
    assert_body("");
    free(head);
    head = ask(GET("/")); /* and the connection is still in step */
    assert_true(has(head, "HTTP/1.1 200 OK\r\n"));
    free(head);
}

static void etag_of(const char *head, char etag[64])
{
    const char *at = strstr(head, "ETag: ");

    assert_non_null(at);
    assert_int_equal(sscanf(at, "ETag: %63s", etag), 1);
}

static void test_not_modified(void **state)
{
    char plain[64], gzip[64], request[512];
    char *head = ask(GET("/app.js"));

    (void)state;
    etag_of(head, plain);
    free(head);
    assert_body("plain();");
    head = ask(GET_WITH("/app.js", "Accept-Encoding: gzip"));
    etag_of(head, gzip);
    free(head);
    assert_body("\x1f\x8bpacked");
    assert_string_not_equal(plain, gzip);
    for (int i = 0; i < 5; i++) {
        static const char *const before[] = {"", "W/", "\"other\", ", "*", "\"other\""};
        char value[200];
        snprintf(value, sizeof value, "%s%s", before[i], i < 3 ? plain : "");
        snprintf(request, sizeof request, GET_WITH("/app.js", "If-None-Match: %s"), value);
        head = ask(request);
        assert_true(has(head, i < 4 ? "HTTP/1.1 304 Not Modified\r\n" : "HTTP/1.1 200 OK\r\n"));
        assert_true(has(head, plain));
        if (i < 4)
            assert_false(has(head, "Content-Length"));
        assert_body(i < 4 ? "" : "plain();");
        free(head);
    }
    snprintf(request, sizeof request, GET_WITH("/app.js", "If-None-Match: %s"), gzip);
    head = ask(request); /* he has the other form of it */
    assert_true(has(head, "HTTP/1.1 200 OK\r\n"));
    free(head);
}

static void test_not_found(void **state)
{
    char *head = ask(GET("/nothing.html"));

    (void)state;
    assert_true(has(head, "HTTP/1.1 404 Not Found\r\n"));
    assert_true(has(head, "Content-Security-Policy: "));
    assert_true(has(head, "Cache-Control: no-store\r\n"));
    assert_body("Not found.\n");
    free(head);
    head = ask(GET("/sub")); /* no folder without its slash, no listing with it */
    assert_true(has(head, "HTTP/1.1 404 Not Found\r\n"));
    assert_body("Not found.\n");
    free(head);
    head = ask(GET("/sub/"));
    assert_true(has(head, "HTTP/1.1 404 Not Found\r\n"));
    free(head);
}

/* Whatever is asked for: a page of the site, 4xx, or the end of the connection; never a file from outside. */
static void test_traversal(void **state)
{
    static const char *const paths[] = {
        "/../../../../../../etc/passwd",
        "/sub/../../../../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e%2f%2e%2e%2fetc/passwd",
        "/....//....//....//etc/passwd",
        "/..\\..\\..\\etc\\passwd",
        "//etc/passwd",
        "/./././/etc/passwd",
        "/etc/passwd%00.html",
        "/index.html%00",
        "/%00",
        "/%c0%ae%c0%ae/etc/passwd",
        "file:///etc/passwd",
        "/..",
        "/sub/..",
        "/%",
        "/%2",
    };

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct client c;
        struct owner o = {0};
        char request[256];
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
                 paths[i]);
        rig_connect(&rig, &c, &o);
        client_say(&rig, &c, request);
        WAIT_END(&rig, &c);
        if (has((char *)c.in, "root:") ||
            (has((char *)c.in, " 200 ") && !has((char *)c.in, "<h1>bramble</h1>")))
            fail_msg("%s gave %s", paths[i], (char *)c.in);
        owner_free(&o);
        client_close(&c);
    }
    /* a real NUL in the request line */
    rig_connect(&rig, &client, &owner);
    client_send(&rig, &client, "GET /index.html\0x HTTP/1.1\r\nHost: h\r\n\r\n", 40);
    WAIT_END(&rig, &client);
    assert_false(has((char *)client.in, "bramble"));
}

static void test_dots_inside_of_the_site(void **state)
{
    char *head = ask(GET("/sub/../app.js"));

    (void)state;
    assert_true(has(head, "HTTP/1.1 200 OK\r\n"));
    assert_body("plain();");
    free(head);
}

static void test_other_methods(void **state)
{
    static const char *const requests[] = {
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n",
        "DELETE /index.html HTTP/1.1\r\nHost: h\r\n\r\n",
        "OPTIONS / HTTP/1.1\r\nHost: h\r\n\r\n",
        "PATCH / HTTP/1.1\r\nHost: h\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct client c;
        struct owner o = {0};
        char *head;
        rig_connect(&rig, &c, &o);
        client_say(&rig, &c, requests[i]);
        head = client_head(&rig, &c);
        assert_true(has(head, "HTTP/1.1 405 Method Not Allowed\r\n"));
        assert_true(has(head, "Allow: GET, HEAD\r\n"));
        assert_true(has(head, "Connection: close\r\n"));
        free(head);
        WAIT_END(&rig, &c);
        WAIT_FOR(&rig, o.readies == 1);
        owner_free(&o);
        client_close(&c);
    }
}

/* A GET with a body is answered; the body is nobody's next request. */
static void test_get_with_a_body(void **state)
{
    char *head = ask("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 38\r\n\r\n" GET("/app.js"));

    (void)state;
    assert_true(has(head, "HTTP/1.1 200 OK\r\n"));
    assert_true(has(head, "Connection: close\r\n"));
    free(head);
    WAIT_END(&rig, &client);
    assert_false(has((char *)client.in, "plain();"));
}

static void test_closing(void **state)
{
    static const char *const requests[] = {
        "GET / HTTP/1.0\r\n\r\n",
        GET_WITH("/", "Connection: close"),
        GET_WITH("/", "Connection: foo, Close"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        char *head = ask(requests[i]);
        assert_true(has(head, "HTTP/1.1 200 OK\r\n"));
        assert_true(has(head, "Connection: close\r\n"));
        free(head);
        WAIT_END(&rig, &client);
        assert_string_equal((char *)client.in, "<h1>bramble</h1>");
        WAIT_FOR(&rig, owner.readies == 1);
        client_close(&client);
        owner_free(&owner);
        memset(&owner, 0, sizeof owner);
    }
}

static void assert_large(const unsigned char *in)
{
    for (size_t i = 0; i < LARGE; i++)
        if (in[i] != (unsigned char)(i ^ i >> 8 ^ i >> 16))
            fail_msg("differs at %zu", i);
}

/* A large file to a slow reader: nothing of it is copied, the next request waits, other connections do not.
 */
static void test_large_file(void **state)
{
    struct client other;
    struct owner o = {0};
    int turns = 0;
    char *head;

    (void)state;
    rig_connect_buffer(&rig, &client, &owner, 16 * 1024);
    client_say(&rig, &client, GET("/large.bin"));
    WAIT_FOR(&rig, owner_conn(&owner)->tail_len > 0);
    assert_true(owner_conn(&owner)->out.len <= WS_OUT_MAX);
    client_say(&rig, &client, GET("/app.js"));
    rig_step_ms(&rig, 5);
    loop_before_sleep(rig.loop, rig_count, &turns);
    rig_step_ms(&rig, 200);
    assert_in_range(turns, 1, 10); /* what cannot be read yet does not keep the loop busy */
    rig_connect(&rig, &other, &o);
    client_say(&rig, &other, GET("/"));
    head = client_head(&rig, &other);
    assert_true(has(head, "200 OK"));
    free(head);
    client_close(&other);
    owner_free(&o);

    head = client_head(&rig, &client);
    assert_int_equal(content_length(head), LARGE);
    free(head);
    WAIT_LEN(&rig, &client, LARGE);
    assert_large(client.in);
    client_drop(&client, LARGE);
    head = client_head(&rig, &client);
    assert_true(has(head, "Content-Length: 8\r\n"));
    assert_body("plain();");
    free(head);
}

static void test_large_file_and_close(void **state)
{
    char *head;

    (void)state;
    rig_connect_buffer(&rig, &client, &owner, 64 * 1024);
    head = ask("GET /large.bin HTTP/1.0\r\n\r\n");
    assert_true(has(head, "Connection: close\r\n"));
    free(head);
    owner_close(&owner); /* what was taken is sent all the same */
    WAIT_END(&rig, &client);
    assert_int_equal(client.len, LARGE);
    assert_large(client.in);
}

static void test_idle_and_stuck(void **state)
{
    struct client other;
    struct owner o = {0};
    char *head = ask(GET("/"));

    (void)state;
    free(head);
    rig_connect_buffer(&rig, &other, &o, 4096);
    client_say(&rig, &other, GET("/large.bin"));
    WAIT_FOR(&rig, owner_conn(&o)->tail_len > 0);
    assert_true(timer_running(&owner_conn(&owner)->timer));
    assert_true(timer_running(&owner_conn(&o)->timer));
    /* HTTP_IDLE_MS pass quickly */
    timer_start(rig.loop, &owner_conn(&owner)->timer, 1);
    timer_start(rig.loop, &owner_conn(&o)->timer, 1);
    WAIT_FOR(&rig, owner.readies == 1 && o.readies == 1);
    assert_int_equal(owner.error, -ECONNRESET);
    WAIT_END(&rig, &client);
    owner_close(&o);
    client_close(&other);
    owner_free(&o);
}

/* One more than HTTP_CONNS: the one that was idle for longest goes. When none is idle the new one has to. */
static void test_bounded_number(void **state)
{
    static struct client clients[HTTP_CONNS + 1];
    static struct owner owners[HTTP_CONNS + 1];

    (void)state;
    memset(owners, 0, sizeof owners);
    for (int i = 0; i < HTTP_CONNS; i++) {
        rig_connect_buffer(&rig, &clients[i], &owners[i], 4096);
        client_say(&rig, &clients[i], GET("/"));
        free(client_head(&rig, &clients[i]));
    }
    assert_int_equal(rig.ws->http_count, HTTP_CONNS);
    client_say(&rig, &clients[0], GET("/app.js")); /* makes the second the oldest */
    WAIT_LEN(&rig, &clients[0], 100);
    rig_connect(&rig, &clients[HTTP_CONNS], &owners[HTTP_CONNS]);
    client_say(&rig, &clients[HTTP_CONNS], GET("/"));
    free(client_head(&rig, &clients[HTTP_CONNS]));
    WAIT_FOR(&rig, owners[1].readies == 1);
    WAIT_END(&rig, &clients[1]);
    owner_free(&owners[1]);
    WAIT_FOR(&rig, rig.ws->http_count == HTTP_CONNS);
    for (int i = 0; i <= HTTP_CONNS; i++) {
        assert_int_equal(owners[i].readies, i == 1);
        if (i == 1)
            continue;
        client_say(&rig, &clients[i], GET("/large.bin")); /* and does not read it */
    }
    /* the last one has larger buffers, but not that large */
    for (int i = 0; i <= HTTP_CONNS; i++)
        if (i != 1)
            WAIT_FOR(&rig, !ws_conn_can_send(owner_conn(&owners[i])));
    {
        char *head = ask(GET("/"));
        assert_true(has(head, "HTTP/1.1 503 "));
        free(head);
        WAIT_END(&rig, &client);
    }
    for (int i = 0; i <= HTTP_CONNS; i++) {
        client_close(&clients[i]);
        owner_free(&owners[i]);
    }
}

static void test_h2c_is_plain(void **state)
{
    char *head =
        ask(GET_WITH("/", "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk"));

    (void)state;
    assert_true(has(head, "HTTP/1.1 200 OK\r\n"));
    free(head);
    assert_body("<h1>bramble</h1>");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_index),
        TEST(test_one_connection_for_many),
        TEST(test_upgrade_after_the_page),
        TEST(test_pipelined),
        TEST(test_gzip),
        TEST(test_head),
        TEST(test_not_modified),
        TEST(test_not_found),
        TEST(test_traversal),
        TEST(test_dots_inside_of_the_site),
        TEST(test_other_methods),
        TEST(test_get_with_a_body),
        TEST(test_closing),
        TEST(test_large_file),
        TEST(test_large_file_and_close),
        TEST(test_idle_and_stuck),
        TEST(test_bounded_number),
        TEST(test_h2c_is_plain),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
