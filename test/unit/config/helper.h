/*
 * helper.h - for the tests of config/: loads texts through files in a temporary folder.
 */
#ifndef BRAMBLE_TEST_CONFIG_HELPER_H
#define BRAMBLE_TEST_CONFIG_HELPER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/config.h"

struct loaded {
    struct config *config;
    struct err err;
    char warnings[16384]; /* a line each */
    size_t warning_count;
};

/* The folder of this test program, made on first use; removed at exit. */
static inline const char *folder(void);

static inline void folder_remove(void)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf %s", folder());
    if (system(command) != 0) {
        fprintf(stderr, "%s stays\n", folder());
    }
}

static inline const char *folder(void)
{
    static char path[] = "/tmp/bramble-test-XXXXXX";
    static int made;

    if (!made) {
        made = 1;
        if (!mkdtemp(path)) {
            abort();
        }
        atexit(folder_remove);
    }
    return path;
}

/* The path of a file of that name in the folder; valid until the fourth call after this one. */
static inline const char *path_of(const char *name)
{
    static char paths[4][256];
    static unsigned n;
    char *path = paths[n++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", folder(), name);
    return path;
}

static inline const char *write_bytes(const char *name, const void *bytes, size_t n)
{
    const char *path = path_of(name);
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}

static inline const char *write_text(const char *name, const char *text)
{
    return write_bytes(name, text, strlen(text));
}

static inline void keep_warning(void *ctx, const char *text)
{
    struct loaded *loaded = ctx;
    size_t n = strlen(loaded->warnings);

    assert_null(strchr(text, '\n'));
    snprintf(loaded->warnings + n, sizeof loaded->warnings - n, "%s\n", text);
    loaded->warning_count++;
}

static inline void load_args(struct loaded *loaded, const struct config_args *args)
{
    memset(loaded, 0, sizeof *loaded);
    loaded->config = config_load(args, keep_warning, loaded, &loaded->err);
    if (!loaded->config) {
        assert_true(loaded->err.text[0] != '\0');
        assert_null(strchr(loaded->err.text, '\n'));
    }
}

static inline void load_path(struct loaded *loaded, const char *path)
{
    const struct config_args args = {.path = path};

    load_args(loaded, &args);
}

static inline void load_text(struct loaded *loaded, const char *text)
{
    load_path(loaded, write_text("test.conf", text));
}

/* Loads what must be good; free it with config_free(). */
static inline struct config *good(const char *text)
{
    struct loaded loaded;

    load_text(&loaded, text);
    if (!loaded.config) {
        fail_msg("%s\n%s", loaded.err.text, text);
    }
    return loaded.config;
}

/* The same; every warning it gives must be the one that contains `warning`; NULL: there must be none. */
static inline struct config *good_with(const char *text, const char *warning)
{
    struct loaded loaded;

    load_text(&loaded, text);
    if (!loaded.config) {
        fail_msg("%s\n%s", loaded.err.text, text);
    }
    if (!warning && loaded.warning_count) {
        fail_msg("unexpected: %s", loaded.warnings);
    }
    if (warning && (loaded.warning_count != 1 || !strstr(loaded.warnings, warning))) {
        fail_msg("%zu warnings, not one with '%s': %s", loaded.warning_count, warning, loaded.warnings);
    }
    return loaded.config;
}

static inline void fine(const char *text)
{
    config_free(good_with(text, NULL));
}

static inline void warns(const char *text, const char *warning)
{
    config_free(good_with(text, warning));
}

/* Must be refused in that line of that file of the folder (line 0: of the file as a whole) with these words.
 */
static inline void refused_in(const char *name, const char *text, int line, const char *words)
{
    struct loaded loaded;
    char start[300];

    load_text(&loaded, text);
    if (loaded.config) {
        fail_msg("not refused: %s", text);
    }
    if (line) {
        snprintf(start, sizeof start, "%s/%s:%d: Error: ", folder(), name, line);
    } else {
        snprintf(start, sizeof start, "%s/%s: Error: ", folder(), name);
    }
    if (strncmp(loaded.err.text, start, strlen(start)) != 0 || !strstr(loaded.err.text, words)) {
        fail_msg("'%s' is not '%s...%s'", loaded.err.text, start, words);
    }
}

static inline void refused(const char *text, int line, const char *words)
{
    refused_in("test.conf", text, line, words);
}

#endif
