/*
 * files.h - small files for the tests of this folder.
 */
#ifndef TEST_UNIT_AUTH_FILES_H
#define TEST_UNIT_AUTH_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A folder of this test program, removed by files_remove(). */
static char files_folder[] = "/tmp/bramble-test-XXXXXX";
static char files_path[sizeof files_folder + 16];

static inline int files_make(void **state)
{
    (void)state;
    if (!mkdtemp(files_folder))
        return -1;
    snprintf(files_path, sizeof files_path, "%s/file", files_folder);
    return 0;
}

static inline int files_remove(void **state)
{
    (void)state;
    unlink(files_path);
    return rmdir(files_folder); /* fails, and says so, when something was left behind */
}

static inline void files_write_n(const void *text, size_t n)
{
    int fd = open(files_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), n);
    close(fd);
}

static inline void files_write(const char *text)
{
    files_write_n(text, strlen(text));
}

/* The whole file, to be freed. */
static inline char *files_read(void)
{
    FILE *file = fopen(files_path, "r");
    char *text = calloc(1, 1 << 20);
    assert_non_null(file);
    assert_non_null(text);
    text[fread(text, 1, (1 << 20) - 1, file)] = 0;
    fclose(file);
    return text;
}

/* What a loader says of "file:line: reason" must start with the path and line, and hold this text. */
static inline void files_expect(const char *said, unsigned line, const char *text)
{
    char start[64];
    snprintf(start, sizeof start, "%s:%u: ", files_path, line);
    if (strncmp(said, start, strlen(start)) != 0 || !strstr(said, text))
        fail_msg("\"%s\" does not start with \"%s\" or does not hold \"%s\"", said, start, text);
}

#endif
