/*
 * folder.h - a temporary folder with files, for the tests of the site.
 */
#ifndef BRAMBLE_TEST_WS_FOLDER_H
#define BRAMBLE_TEST_WS_FOLDER_H

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct folder {
    char path[128];
};

static inline void folder_make(struct folder *folder)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(folder->path, sizeof folder->path, "%.90s/bramble-site-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(folder->path));
}

static inline int folder_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void folder_remove(struct folder *folder)
{
    nftw(folder->path, folder_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static inline const char *folder_name(const struct folder *folder, const char *name, char buf[PATH_MAX])
{
    snprintf(buf, PATH_MAX, "%s/%s", folder->path, name);
    return buf;
}

static inline void folder_add_bytes(struct folder *folder, const char *name, const void *data, size_t n)
{
    char path[PATH_MAX];
    FILE *f = fopen(folder_name(folder, name, path), "w");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static inline void folder_add(struct folder *folder, const char *name, const char *text)
{
    folder_add_bytes(folder, name, text, strlen(text));
}

static inline void folder_add_folder(struct folder *folder, const char *name)
{
    char path[PATH_MAX];

    assert_int_equal(mkdir(folder_name(folder, name, path), 0755), 0);
}

static inline void folder_add_link(struct folder *folder, const char *name, const char *to)
{
    char path[PATH_MAX];

    assert_int_equal(symlink(to, folder_name(folder, name, path)), 0);
}

#endif
