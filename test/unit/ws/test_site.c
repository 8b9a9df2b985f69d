/*
 * test_site.c - reading http_dir into memory: what is served, what is left out, what is too much.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/ws/folder.h"
#include "ws/site.h"

static struct folder folder;
static struct ws_site *site;
static struct err err;

static int set_up(void **state)
{
    (void)state;
    folder_make(&folder);
    site = NULL;
    err.text[0] = '\0';
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ws_site_unref(site);
    folder_remove(&folder);
    return 0;
}

static bool load(void)
{
    const struct config_listener listener = {.file = (char[]){"bramble.conf"},
                                             .line = 7,
                                             .protocol = PROTOCOL_WEBSOCKETS,
                                             .http_dir = folder.path};

    site = ws_site_load(&listener, &err);
    return site;
}

static const struct site_file *find(const char *path)
{
    return ws_site_find(site, path, strlen(path));
}

static void assert_file(const char *path, const char *text, const char *type)
{
    const struct site_file *file = find(path);

    if (!file)
        fail_msg("%s is not there", path);
    assert_int_equal(file->size, strlen(text));
    assert_memory_equal(file->data, text, file->size);
    assert_string_equal(file->type, type);
}

static void test_files(void **state)
{
    (void)state;
    folder_add(&folder, "index.html", "<p>");
    folder_add(&folder, "app.js", "1;");
    folder_add(&folder, "STYLE.CSS", "p{}");
    folder_add(&folder, "icon.svg", "<svg/>");
    folder_add(&folder, "no_ending", "?");
    folder_add(&folder, "empty.txt", "");
    folder_add(&folder, "a name", "x");
    folder_add_folder(&folder, "img");
    folder_add(&folder, "img/a.png", "png");
    folder_add(&folder, "img/index.html", "images");
    folder_add_folder(&folder, "v1.2");
    folder_add(&folder, "v1.2/readme", "r");
    assert_true(load());
    assert_file("/index.html", "<p>", "text/html; charset=utf-8");
    assert_file("/", "<p>", "text/html; charset=utf-8");
    assert_file("/app.js", "1;", "text/javascript; charset=utf-8");
    assert_file("/STYLE.CSS", "p{}", "text/css; charset=utf-8");
    assert_file("/icon.svg", "<svg/>", "image/svg+xml");
    assert_file("/no_ending", "?", "application/octet-stream");
    assert_file("/empty.txt", "", "text/plain; charset=utf-8");
    assert_file("/a name", "x", "application/octet-stream");
    assert_file("/img/a.png", "png", "image/png");
    assert_file("/img/", "images", "text/html; charset=utf-8");
    assert_file("/v1.2/readme", "r", "application/octet-stream");
}

static void test_what_is_not_there(void **state)
{
    static const char *const paths[] = {
        "",   "index.html",    "/index.htm",   "/Index.html",        "/img",         "/..", "/../index.html",
        "//", "/./index.html", "/index.html/", "/img/../index.html", "/%69ndex.html"};
    char longest[PATH_MAX + 10];

    (void)state;
    folder_add(&folder, "index.html", "<p>");
    folder_add_folder(&folder, "img");
    assert_true(load());
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        if (find(paths[i]))
            fail_msg("%s is found", paths[i]);
    }
    assert_null(ws_site_find(site, "/index.html\0.js", 15));
    assert_null(ws_site_find(site, "/\0", 2));
    memset(longest, '/', sizeof longest);
    assert_null(ws_site_find(site, longest, sizeof longest));
}

static void test_compressed(void **state)
{
    const struct site_file *file;

    (void)state;
    folder_add(&folder, "app.js", "plain");
    folder_add(&folder, "app.js.gz", "packed");
    folder_add(&folder, "app.js.gz.gz", "twice");
    folder_add(&folder, "lonely.gz", "alone");
    folder_add(&folder, "a", "a");
    assert_true(load());
    file = find("/app.js");
    assert_int_equal(file->gz_size, 6);
    assert_memory_equal(file->gz, "packed", 6);
    assert_null(find("/app.js.gz"));
    assert_file("/app.js.gz.gz", "twice", "application/gzip");
    assert_file("/lonely.gz", "alone", "application/gzip");
    assert_null(find("/a")->gz);
}

static void test_etag(void **state)
{
    char before[24];

    (void)state;
    folder_add(&folder, "a", "one");
    folder_add(&folder, "b", "one");
    folder_add(&folder, "c", "two");
    assert_true(load());
    assert_string_equal(find("/a")->etag, find("/b")->etag);
    assert_string_not_equal(find("/a")->etag, find("/c")->etag);
    assert_int_equal(find("/a")->etag[0], '"');
    strcpy(before, find("/a")->etag);
    ws_site_unref(site);
    folder_add(&folder, "a", "two");
    assert_true(load());
    assert_string_not_equal(before, find("/a")->etag);
}

static void test_left_out(void **state)
{
    char path[PATH_MAX];

    (void)state;
    folder_add(&folder, ".hidden", "x");
    folder_add_folder(&folder, ".git");
    folder_add(&folder, ".git/config", "x");
    assert_int_equal(mkfifo(folder_name(&folder, "fifo", path), 0600), 0); /* reading it would wait forever */
    assert_true(load());
    assert_null(find("/.hidden"));
    assert_null(find("/.git/config"));
    assert_null(find("/fifo"));
}

static void test_links(void **state)
{
    char inside[PATH_MAX];

    (void)state;
    folder_add_folder(&folder, "sub");
    folder_add(&folder, "sub/real.txt", "real");
    folder_add_link(&folder, "near", "sub/real.txt");
    folder_add_link(&folder, "absolute", folder_name(&folder, "sub/real.txt", inside));
    folder_add_link(&folder, "passwd", "/etc/passwd");
    folder_add_link(&folder, "up", "../../../../../../etc/passwd");
    folder_add_link(&folder, "etc", "/etc");
    folder_add_link(&folder, "again", ".");
    folder_add_link(&folder, "sub/circle", "..");
    folder_add_link(&folder, "broken", "nowhere");
    folder_add_link(&folder, "self", "self");
    assert_true(load());
    assert_file("/near", "real", "application/octet-stream");
    assert_file("/absolute", "real", "application/octet-stream");
    assert_null(find("/passwd"));
    assert_null(find("/up"));
    assert_null(find("/etc/passwd"));
    assert_null(find("/again/sub/real.txt"));
    assert_null(find("/broken"));
}

/* A folder beside it whose name begins in the same way is not inside of it. */
static void test_link_to_a_neighbour(void **state)
{
    struct folder neighbour;
    char path[PATH_MAX];

    (void)state;
    snprintf(neighbour.path, sizeof neighbour.path, "%.110s-too", folder.path);
    assert_int_equal(mkdir(neighbour.path, 0700), 0);
    folder_add(&neighbour, "secret", "secret");
    folder_add_link(&folder, "secret", folder_name(&neighbour, "secret", path));
    assert_true(load());
    assert_null(find("/secret"));
    folder_remove(&neighbour);
}

static void test_too_many_files(void **state)
{
    char name[16];

    (void)state;
    for (int i = 0; i < SITE_MAX_FILES; i++) {
        snprintf(name, sizeof name, "%d", i);
        folder_add(&folder, name, name);
    }
    assert_true(load());
    assert_file("/499", "499", "application/octet-stream");
    ws_site_unref(site);
    folder_add(&folder, "one too many", "");
    assert_false(load());
    assert_non_null(strstr(err.text, "bramble.conf:7: Error: http_dir"));
    assert_non_null(strstr(err.text, "500 files"));
}

static void test_too_large(void **state)
{
    enum { HALF = SITE_MAX_BYTES / 2 };
    char *data = calloc(1, HALF);

    (void)state;
    folder_add_bytes(&folder, "a", data, HALF);
    folder_add_bytes(&folder, "b", data, HALF);
    assert_true(load());
    ws_site_unref(site);
    folder_add(&folder, "c", "x");
    assert_false(load());
    assert_non_null(strstr(err.text, "8 MiB"));
    free(data);
}

static void test_too_deep(void **state)
{
    char name[128] = "d";

    (void)state;
    for (int i = 0; i < SITE_MAX_DEPTH + 1; i++) {
        folder_add_folder(&folder, name);
        strcat(name, "/d");
    }
    assert_false(load());
    assert_non_null(strstr(err.text, "nested"));
}

static void test_no_folder(void **state)
{
    struct config_listener listener = {
        .file = (char[]){"f"}, .line = 1, .http_dir = (char[]){"/nonexistent/x"}};
    char path[PATH_MAX];

    (void)state;
    assert_null(ws_site_load(&listener, &err));
    assert_non_null(strstr(err.text, "f:1: Error: http_dir /nonexistent/x: No such file"));
    folder_add(&folder, "file", "");
    listener.http_dir = (char *)(uintptr_t)folder_name(&folder, "file", path);
    assert_null(ws_site_load(&listener, &err));
    assert_non_null(strstr(err.text, "Not a directory"));
    listener.http_dir = (char[]){"/"};
    assert_null(ws_site_load(&listener, &err));
}

static void test_without_folder(void **state)
{
    const struct config_listener listener = {0};

    (void)state;
    site = ws_site_load(&listener, &err);
    assert_non_null(site);
    assert_null(find("/"));
    assert_null(find("/index.html"));
    assert_true(ws_site_origin_allowed(site, NULL));
    assert_true(ws_site_origin_allowed(site, "https://anywhere"));
    assert_int_equal(ws_site_headers_max(site), SITE_HEADERS_DEFAULT);
}

static void test_origins(void **state)
{
    char one[] = "https://a.example", two[] = "http://b:8080";
    char *origins[] = {one, two};
    struct config_listener listener = {
        .websockets_origin = origins, .websockets_origins = 2, .websockets_headers_size = 100000};

    (void)state;
    site = ws_site_load(&listener, &err);
    assert_non_null(site);
    one[8] = 'x'; /* the site has its own copy */
    assert_true(ws_site_origin_allowed(site, "https://a.example"));
    assert_true(ws_site_origin_allowed(site, "HTTP://B:8080"));
    assert_false(ws_site_origin_allowed(site, "https://x.example"));
    assert_false(ws_site_origin_allowed(site, "https://a.example/"));
    assert_false(ws_site_origin_allowed(site, "https://a.example.org"));
    assert_false(ws_site_origin_allowed(site, "null"));
    assert_false(ws_site_origin_allowed(site, ""));
    assert_false(ws_site_origin_allowed(site, NULL));
    assert_int_equal(ws_site_headers_max(site), SITE_HEADERS_MAX);
}

static void test_references(void **state)
{
    (void)state;
    folder_add(&folder, "a", "a");
    assert_true(load());
    assert_ptr_equal(ws_site_ref(site), site);
    ws_site_unref(site);
    assert_file("/a", "a", "application/octet-stream");
    ws_site_unref(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_files),
        TEST(test_what_is_not_there),
        TEST(test_compressed),
        TEST(test_etag),
        TEST(test_left_out),
        TEST(test_links),
        TEST(test_link_to_a_neighbour),
        TEST(test_too_many_files),
        TEST(test_too_large),
        TEST(test_too_deep),
        TEST(test_no_folder),
        TEST(test_without_folder),
        TEST(test_origins),
        TEST(test_references),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
