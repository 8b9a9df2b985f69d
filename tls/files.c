/*
 * files.c - certificates and keys on disk: read whole, written so that a power cut leaves the old file or the
 * new one.
 */
#include "tls/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <mbedtls/platform_util.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int blob_open(const char *path, struct stat *st, struct err *err)
{
    /* O_NONBLOCK: a pipe by that name must not hold us */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return err_set(err, "%s: %s%s", err_path(path), strerror(errno),
                       errno == EACCES ? " (the user that bramble runs as must be able to read it)" : "");
    if (fstat(fd, st))
        err_set(err, "%s: %s", err_path(path), strerror(errno));
    else if (!S_ISREG(st->st_mode))
        err_set(err, "%s: is %s, not a file", err_path(path),
                S_ISDIR(st->st_mode) ? "a folder" : "something special");
    else if (st->st_size > TLS_FILE_MAX)
        err_set(err, "%s: is too large (%lld bytes)", err_path(path), (long long)st->st_size);
    else if (st->st_size == 0)
        err_set(err, "%s: is empty", err_path(path));
    else
        return fd;
    close(fd);
    return -1;
}

int tls_file_read(const char *path, struct tls_blob *blob, struct err *err)
{
    struct stat st;
    int fd = blob_open(path, &st, err);
    size_t size;

    *blob = (struct tls_blob){0};
    if (fd < 0)
        return -1;
    size = (size_t)st.st_size;
    blob->mode = st.st_mode & 07777;
    blob->data = malloc(size + 1);
    while (blob->data && blob->len < size) {
        ssize_t n = read(fd, blob->data + blob->len, size - blob->len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        blob->len += (size_t)n;
    }
    close(fd);
    if (!blob->data)
        return err_set(err, "%s: no memory", err_path(path));
    if (blob->len < size) {
        tls_blob_free(blob);
        return err_set(err, "%s: could not be read", err_path(path));
    }
    blob->data[size] = 0;
    return 0;
}

size_t tls_blob_size(const struct tls_blob *blob)
{
    return strstr((const char *)blob->data, "-----BEGIN ") ? blob->len + 1 : blob->len;
}

void tls_blob_free(struct tls_blob *blob)
{
    if (blob->data)
        mbedtls_platform_zeroize(blob->data, blob->len);
    free(blob->data);
    *blob = (struct tls_blob){0};
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int sync_folder(const char *path)
{
    char *copy = strdup(path);
    int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int ret = fd < 0 ? -1 : fsync(fd);

    if (ret && (errno == EINVAL || errno == EROFS))
        ret = 0; /* a file system that cannot do it */
    if (fd >= 0)
        close(fd);
    free(copy);
    return ret;
}

int tls_file_write(const char *path, const void *data, size_t len, unsigned mode, struct err *err)
{
    char temporary[4096];
    int fd, saved;

    if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= (int)sizeof temporary)
        return err_set(err, "%s: the path is too long", err_path(path));
    fd = mkostemp(temporary, O_CLOEXEC); /* made with 0600 */
    if (fd < 0)
        return err_set(err, "%s: %s", temporary, strerror(errno));
    if (fchmod(fd, mode) || write_all(fd, data, len) || fsync(fd)) {
        saved = errno;
        close(fd);
        unlink(temporary);
        return err_set(err, "%s: %s", err_path(path), strerror(saved));
    }
    close(fd);
    if (rename(temporary, path)) {
        saved = errno;
        unlink(temporary);
        return err_set(err, "%s: %s", err_path(path), strerror(saved));
    }
    if (sync_folder(path))
        return err_set(err, "%s: the folder could not be synchronised: %s", err_path(path), strerror(errno));
    return 0;
}
