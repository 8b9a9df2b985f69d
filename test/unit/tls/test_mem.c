/*
 * test_mem.c - files on disk, and record buffers that give their pages back.
 */
#include "test/unit/tls/rig.h"
#include <mbedtls/platform.h>
#include <sys/mman.h>
#include <sys/stat.h>

static void test_files(void **state)
{
    struct tls_blob blob;
    struct stat st;
    struct err why;

    (void)state;
    assert_int_equal(tls_file_write(rig_path("a"), "old", 3, 0600, &why), 0);
    assert_int_equal(tls_file_write(rig_path("a"), "newer", 5, 0640, &why), 0);
    assert_int_equal(tls_file_read(rig_path("a"), &blob, &why), 0);
    assert_int_equal(blob.len, 5);
    assert_string_equal((const char *)blob.data, "newer");
    assert_int_equal(blob.mode, 0640);
    tls_blob_free(&blob);
    assert_int_equal(tls_file_write(rig_path("no/a"), "x", 1, 0600, &why), -1);
    assert_non_null(strstr(why.text, "No such file"));
    /* a failed write leaves the old file, and nothing beside it */
    assert_int_equal(mkdir(rig_path("dir"), 0755), 0);
    rig_write("dir/x", "x", 1);
    assert_int_equal(tls_file_write(rig_path("dir"), "x", 1, 0600, &why), -1);
    assert_int_equal(stat(rig_path("dir/x"), &st), 0);
    assert_int_not_equal(rig_shell("ls dir.* a.*"), 0);
}

static int resident(const void *at, size_t pages)
{
    unsigned char map[64] = {0};
    int n = 0;

    assert_int_equal(mincore((void *)(uintptr_t)at, pages * (size_t)sysconf(_SC_PAGESIZE), map), 0);
    for (size_t i = 0; i < pages; i++)
        n += map[i] & 1;
    return n;
}

static void test_slots(void **state)
{
    struct err why;
    int before;
    uint8_t *a, *b;
    mbedtls_ssl_context ssl;

    (void)state;
    assert_int_equal(tls_library_start(&why), 0);
    before = tls_mem_slots_used();
    a = mbedtls_calloc(1, 16384 + 300);
    b = mbedtls_calloc(1, 16384 + 300);
    if (tls_mem_slots_used() == before) { /* address sanitizer, or a library without allocation hooks */
        mbedtls_free(a);
        mbedtls_free(b);
        skip();
    }
    assert_int_equal(tls_mem_slots_used(), before + 2);
    assert_int_equal(resident(a, 5), 0);
    memset(a, 7, 16684);
    assert_int_equal(resident(a, 5), 5);

    /* mbedTLS has half a record in the buffer: it stays; nothing: all but the first page go */
    mbedtls_ssl_init(&ssl);
    ssl.MBEDTLS_PRIVATE(in_buf) = a;
    ssl.MBEDTLS_PRIVATE(in_left) = 9000;
    tls_mem_trim(&ssl);
    assert_int_equal(resident(a, 5), 5);
    assert_int_equal(a[8999], 7);
    ssl.MBEDTLS_PRIVATE(in_left) = 0;
    tls_mem_trim(&ssl);
    assert_int_equal(resident(a, 5), 1);
    assert_int_equal(a[100], 7);

    /* a slot that is used again is zero, as calloc promises */
    mbedtls_free(a);
    assert_int_equal(tls_mem_slots_used(), before + 1);
    assert_ptr_equal(mbedtls_calloc(1, 16384 + 300), a);
    for (size_t i = 0; i < 16684; i++)
        assert_int_equal(a[i], 0);
    mbedtls_free(a);
    mbedtls_free(b);
    assert_int_equal(tls_mem_slots_used(), before);
    a = mbedtls_calloc(3, 100); /* anything else is malloc's */
    assert_non_null(a);
    assert_int_equal(tls_mem_slots_used(), before);
    mbedtls_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_slots),
    };

    return cmocka_run_group_tests(tests, rig_make_dir, rig_remove_dir);
}
