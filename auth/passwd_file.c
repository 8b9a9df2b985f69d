/*
 * passwd_file.c - rewrites a password file (see passwd_file.h).
 *
 *   lock the folder, read FILE line by line -> edit -> .FILE.XXXXXX -> fsync -> rename -> fsync the folder
 *
 * A power cut, a full disk or a damaged line leaves the old file as it was.
 */
#include "auth/passwd_file.h"

#include "auth/lines.h"
#include "auth/passwords.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct edit {
    struct slice user, hash; /* set and delete */
    enum pwhash_kind kind;   /* upgrade */
    unsigned iterations;
    bool done;
    struct passwords *kept; /* all that the new file holds so far, but for the user that is set */
    /* One line of the old file; writes to out what shall stand there. 0, or -1 with err. */
    int (*line)(struct edit *edit, const struct lines *lines, struct slice line, FILE *out, struct err *err);
};

static void put(FILE *out, struct slice s)
{
    fwrite(s.p, 1, s.n, out);
}

static void put_entry(FILE *out, struct slice user, struct slice hash)
{
    put(out, user);
    putc(':', out);
    put(out, hash);
    putc('\n', out);
}

static int keep_line(struct edit *edit, const struct lines *lines, struct slice line, FILE *out,
                     struct err *err)
{
    if (passwords_add_line(edit->kept, lines, line, err) != 0)
        return -1;
    put(out, line);
    putc('\n', out);
    return 0;
}

static bool is_line_of(struct slice line, struct slice user)
{
    struct slice name, hash;
    return !passwords_skips(line) && passwords_split(line, &name, &hash) && slice_eq(name, user);
}

static int edit_set(struct edit *edit, const struct lines *lines, struct slice line, FILE *out,
                    struct err *err)
{
    if (!is_line_of(line, edit->user))
        return keep_line(edit, lines, line, out, err);
    if (!edit->done)
        put_entry(out, edit->user, edit->hash);
    edit->done = true;
    return 0;
}

static int edit_delete(struct edit *edit, const struct lines *lines, struct slice line, FILE *out,
                       struct err *err)
{
    if (!is_line_of(line, edit->user))
        return keep_line(edit, lines, line, out, err);
    edit->done = true;
    return 0;
}

static int edit_upgrade(struct edit *edit, const struct lines *lines, struct slice line, FILE *out,
                        struct err *err)
{
    struct slice user, password;
    char hash[PWHASH_TEXT_MAX], entry[LINES_MAX];
    if (passwords_skips(line) || !passwords_split(line, &user, &password) || user.n == 0 || password.n == 0)
        return keep_line(edit, lines, line, out, err);
    if (pwhash_tagged(password)) {
        const char *why = pwhash_check(password);
        if (why)
            return lines_fail(lines, err,
                              "starts like a hash, but %s (set it with: bramble passwd FILE USER)", why);
        return keep_line(edit, lines, line, out, err);
    }
    enum pwhash_kind kind = pwhash_is_token(password) ? PWHASH_TOKEN : edit->kind;
    if (pwhash_make(kind, edit->iterations, password, hash) != 0)
        return lines_fail(lines, err, "out of memory");
    int n = snprintf(entry, sizeof entry, "%.*s:%s", SLICE_ARG(user), hash);
    if (n < 0 || (size_t)n >= sizeof entry)
        return lines_fail(lines, err, "the user name is too long");
    return keep_line(edit, lines, slice_of(entry, (size_t)n), out, err);
}

static int edit_lines(struct edit *edit, const char *path, FILE *out, struct err *err)
{
    struct slice line;
    int got;
    struct lines *lines = lines_open(path, true, err);
    if (!lines)
        return -1;
    while ((got = lines_next(lines, &line, err)) > 0)
        if (edit->line(edit, lines, line, out, err) != 0) {
            got = -1;
            break;
        }
    lines_close(lines);
    return got;
}

/* Gives the new file the owner and mode of the old one. An owner that cannot be set costs the group its
 * rights: they would be another group's. With -c nothing is left of the old one that others could rely on. */
static int keep_owner_and_mode(int fd, const struct stat *old, bool anew)
{
    mode_t mode = old->st_mode & (anew ? 0770 : 0777);
    if (fchown(fd, old->st_uid, old->st_gid) != 0 && fchown(fd, (uid_t)-1, old->st_gid) != 0)
        mode &= 0707;
    return fchmod(fd, mode);
}

/* The new file, from nothing to fsync. */
static int write_file(struct edit *edit, int fd, const char *path, const struct stat *old, bool anew,
                      struct err *err)
{
    FILE *out = fdopen(fd, "w");
    if (!out) {
        close(fd);
        return err_set(err, "%s: out of memory", err_path(path));
    }
    int rc = old && !anew ? edit_lines(edit, path, out, err) : 0;
    if (rc == 0 && edit->line == edit_set && !edit->done)
        put_entry(out, edit->user, edit->hash);
    if (rc == 0 && edit->line == edit_delete && !edit->done)
        rc = err_set(err, "%s: there is no user \"%.*s\"", path, SLICE_ARG(edit->user));
    if (rc == 0 && (fflush(out) != 0 || ferror(out) || (old && keep_owner_and_mode(fd, old, anew) != 0) ||
                    fsync(fd) != 0))
        rc = err_set(err, "%s: the new file cannot be written: %s", err_path(path), strerror(errno));
    if (fclose(out) != 0 && rc == 0)
        rc = err_set(err, "%s: the new file cannot be written: %s", err_path(path), strerror(errno));
    return rc;
}

/* With the folder locked. */
static int replace(struct edit *edit, const char *path, const char *folder, int folder_fd,
                   enum passwd_file_start start, struct err *err)
{
    struct stat st;
    bool exists = stat(path, &st) == 0;
    if (!exists && errno != ENOENT)
        return err_set(err, "%s: %s", err_path(path), strerror(errno));
    if (!exists && start == PASSWD_FILE_MUST_EXIST)
        return err_set(err, "%s: there is no such file (make it with -c)", err_path(path));
    if (exists && !S_ISREG(st.st_mode))
        return err_set(err, "%s: not a file", err_path(path));

    char temporary[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int n = snprintf(temporary, sizeof temporary, "%s/.%s.XXXXXX", folder, slash ? slash + 1 : path);
    if (n < 0 || (size_t)n >= sizeof temporary)
        return err_set(err, "%s: the name is too long", err_path(path));
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return err_set(err, "%s: no new file can be made in its folder: %s", err_path(path), strerror(errno));
    if (write_file(edit, fd, path, exists ? &st : NULL, start == PASSWD_FILE_START_ANEW, err) != 0) {
        unlink(temporary);
        return -1;
    }
    if (rename(temporary, path) != 0) {
        err_set(err, "%s: %s", err_path(path), strerror(errno));
        unlink(temporary);
        return -1;
    }
    return fsync(folder_fd) == 0 ? 0 : err_set(err, "%s: %s", folder, strerror(errno));
}

static int rewrite(struct edit *edit, const char *path, enum passwd_file_start start, struct err *err)
{
    char real[PATH_MAX], copy[PATH_MAX];
    if (!pwhash_init())
        return err_set(err, "no source of randomness");
    /* Behind a symbolic link it is the file that is replaced, not the link. */
    if (!realpath(path, real) && (errno != ENOENT || snprintf(real, sizeof real, "%s", path) >= PATH_MAX))
        return err_set(err, "%s: %s", err_path(path), strerror(errno));
    snprintf(copy, sizeof copy, "%s", real);
    const char *folder = dirname(copy);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, "%s: %s", folder, strerror(errno));
    flock(fd, LOCK_EX); /* where the file system has no locks it goes without */
    edit->kept = passwords_new();
    int rc = edit->kept ? replace(edit, real, folder, fd, start, err) : err_set(err, "out of memory");
    passwords_unref(edit->kept);
    close(fd);
    return rc;
}

int passwd_file_set(const char *path, enum passwd_file_start start, const char *user, const char *hash,
                    struct err *err)
{
    struct edit edit = {.user = slice_str(user), .hash = slice_str(hash), .line = edit_set};
    return rewrite(&edit, path, start, err);
}

int passwd_file_delete(const char *path, const char *user, struct err *err)
{
    struct edit edit = {.user = slice_str(user), .line = edit_delete};
    return rewrite(&edit, path, PASSWD_FILE_MUST_EXIST, err);
}

int passwd_file_upgrade(const char *path, enum pwhash_kind kind, unsigned iterations, struct err *err)
{
    struct edit edit = {.kind = kind, .iterations = iterations, .line = edit_upgrade};
    return rewrite(&edit, path, PASSWD_FILE_MUST_EXIST, err);
}
