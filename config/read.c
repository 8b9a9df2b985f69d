/*
 * read.c - whole files and lists of files, with bounds.
 */
#include "config/read.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MAX_BYTES = 4 << 20 };

/* mosquitto's order: by letter, and at the first difference in case only, upper case first. */
static int compare_names(const void *a, const void *b)
{
    const unsigned char *x = *(const unsigned char *const *)a, *y = *(const unsigned char *const *)b;

    for (; *x && *y; x++, y++) {
        int upper_x = *x >= 'a' && *x <= 'z' ? *x - 32 : *x, upper_y = *y >= 'a' && *y <= 'z' ? *y - 32 : *y;

        if (*x != *y) {
            return upper_x != upper_y ? upper_x - upper_y : *x - *y;
        }
    }
    return *x - *y;
}

void read_names_free(char **names, size_t count)
{
    while (count > 0) {
        free(names[--count]);
    }
    free(names);
}

int read_folder(const char *path, char ***names, size_t *count)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    int error;

    *names = NULL;
    *count = 0;
    if (!dir) {
        return -1;
    }
    while ((errno = 0, entry = readdir(dir))) {
        size_t n = strlen(entry->d_name);
        char **more;

        if (n <= 5 || strcmp(entry->d_name + n - 5, ".conf") != 0) {
            continue;
        }
        more = realloc(*names, (*count + 1) * sizeof *more);
        if (more) {
            *names = more;
        }
        if (!more || asprintf(&more[*count], "%s/%s", path, entry->d_name) < 0) {
            closedir(dir);
            read_names_free(*names, *count);
            errno = ENOMEM;
            return -1;
        }
        (*count)++;
    }
    error = errno;
    closedir(dir);
    if (error) { /* what is missing may be what keeps others out */
        read_names_free(*names, *count);
        errno = error;
        return -1;
    }
    if (*count > 0) {
        qsort(*names, *count, sizeof **names, compare_names);
    }
    return 0;
}

char *read_all(int fd, off_t expected, size_t *size)
{
    size_t have = 0, room = 16384;
    char *data;

    if (expected > FILE_MAX_BYTES) {
        errno = EFBIG;
        return NULL;
    }
    data = malloc(room + 1);
    while (data) {
        ssize_t n = read(fd, data + have, room - have);
        char *more;

        if (n == 0) {
            *size = have;
            return data;
        }
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 || have + (size_t)n > FILE_MAX_BYTES) {
            int error = n < 0 ? errno : EFBIG;

            free(data);
            errno = error;
            return NULL;
        }
        have += (size_t)n;
        if (have == room) {
            room = 2 * room > FILE_MAX_BYTES ? FILE_MAX_BYTES + 1 : 2 * room;
            more = realloc(data, room + 1);
            if (!more) {
                free(data);
                errno = ENOMEM;
            }
            data = more;
        }
    }
    return NULL;
}
