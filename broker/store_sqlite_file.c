/*
 * store_sqlite_file.c - whether the file may be opened at all, and that no second daemon has it.
 *
 * SQLite is not let near a file before its first bytes say that it is one of ours: it would roll back a
 * foreign journal, or take a mosquitto.db for damage. A new file is made under another name and renamed when
 * it is whole, so under its own name there is none, or a good one, whenever the power goes.
 *
 * The lock is a byte far behind anything that SQLite locks, held through an open file description (F_OFD):
 * it ends with the process, is the same under every name of the file, and keeps no reader out. Its
 * descriptor stays open until all connections are closed, because closing any descriptor of a file drops the
 * POSIX locks that this process has on it, SQLite's among them.
 */
#include "broker/log.h"
#include "broker/store_sqlite_parts.h"
#include "broker/store_wal.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER = 100 }; /* of an SQLite file */

static const off_t lock_at = (off_t)1 << 60;

static int cannot(struct err *err, const char *path, const char *what, int why)
{
    const char *hint = "";
    switch (why) {
    case ENOENT:
        hint = ": persistence_location is to be a directory that exists";
        break;
    case EACCES:
    case EPERM:
        hint = ": the user that bramble runs as must be allowed to read and write it, and its directory";
        break;
    case EROFS:
        hint = ": the store needs a file system that it may write to";
        break;
    case ELOOP:
        hint = ": its name is a symbolic link that leads nowhere else";
        break;
    default:
        break;
    }
    return err_set(err, "%s: %s: %s%s", err_path(path), what, strerror(why), hint);
}

static int take_lock(int fd, const char *path, struct err *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = lock_at, .l_len = 1};
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
        return 0;
    }
    if (errno == EAGAIN || errno == EACCES) {
        return err_set(err,
                       "%s: in use by another bramble; each needs a persistence_file (or "
                       "persistence_location) of its own",
                       err_path(path));
    }
    return cannot(err, path, "cannot be locked", errno);
}

static uint32_t word_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* What the first bytes say: one of ours (its version), or the reason in err. */
static int judge(int fd, const char *path, int *version, struct err *err)
{
    static const uint8_t mosquitto[] = {0x00, 0xb5, 0x00, 'm', 'o', 's', 'q', 'u',
                                        'i',  't',  't',  'o', ' ', 'd', 'b'};
    static const char sqlite[16] = "SQLite format 3";
    uint8_t header[HEADER];
    ssize_t n = pread(fd, header, sizeof header, 0);
    if (n < 0) {
        return cannot(err, path, "cannot be read", errno);
    }
    if ((size_t)n >= sizeof mosquitto && memcmp(header, mosquitto, sizeof mosquitto) == 0) {
        return err_set(err,
                       "%s: this is a store of mosquitto, which is not imported and was left as it is; give "
                       "bramble another name with persistence_file",
                       err_path(path));
    }
    if (n < HEADER || memcmp(header, sqlite, sizeof sqlite) != 0) {
        return err_set(
            err,
            "%s: not a store of bramble (no SQLite file), or damaged at its beginning; it was left "
            "as it is: move it away, or give bramble another name with persistence_file",
            err_path(path));
    }
    if (word_at(header + 68) != STORE_APPLICATION) {
        return err_set(err,
                       "%s: an SQLite file of another program (application id %08x); it was left as it is: "
                       "give bramble another name with persistence_file",
                       err_path(path), word_at(header + 68));
    }
    *version = (int)word_at(header + 60);
    if (*version < 0 || *version > STORE_VERSION) {
        return err_set(
            err,
            "%s: made by a newer bramble (version %d of the store, this one knows %d); it was left "
            "as it is: use that bramble, or another persistence_file",
            err_path(path), *version, STORE_VERSION);
    }
    return 0;
}

/* Opens what is there; *missing: nothing, or an empty file (whose descriptor is returned). */
static int open_file(const char *path, int flags, bool *missing, struct err *err)
{
    struct stat st;
    *missing = false;
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK); /* a FIFO would wait for its other end */
    if (fd < 0) {
        *missing = errno == ENOENT;
        return *missing ? -1 : cannot(err, path, "cannot be opened", errno);
    }
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        close(fd);
        return err_set(err, "%s: not a regular file", err_path(path));
    }
    *missing = st.st_size == 0;
    return fd;
}

static void sync_directory(const char *path)
{
    char *copy = strdup(path);
    int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(copy);
}

/* A torn tail is what a power cut leaves: nobody was told of it. Damage before the end is another thing:
 * SQLite would drop all commits behind it without a word. When commits were not synced one by one, a power
 * cut can leave that, too. */
static int judge_wal(const char *path, enum storage_sync sync, struct err *err)
{
    struct wal_scan scan;
    char text[200];
    if (wal_scan(path, &scan, err)) {
        return -1;
    }
    if (scan.state == WAL_DAMAGED && sync == STORAGE_SYNC_FULL) {
        return err_set(
            err,
            "%s-wal: %s; it was left as it is: see `bramble store check`, put back a copy of both files, "
            "or move both away to start empty (or start once with persistence_sync normal, to go on "
            "without what is lost)",
            err_path(path), wal_describe(&scan, text, sizeof text));
    }
    if (scan.state == WAL_DAMAGED || scan.state == WAL_TORN) {
        log_write(LOG_T_WARNING, "%s-wal: %s", err_path(path), wal_describe(&scan, text, sizeof text));
    }
    return 0;
}

bool sqlite_file_in_use(const char *path)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = lock_at, .l_len = 1};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool used = fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    if (fd >= 0) {
        close(fd);
    }
    return used;
}

/* Puts the new file where none may be by now (or an empty one that we have locked). */
static int put_in_place(const char *made, const char *path, bool replace, struct err *err)
{
    int rc = renameat2(AT_FDCWD, made, AT_FDCWD, path, replace ? 0 : RENAME_NOREPLACE);
    if (rc && (errno == EINVAL || errno == ENOSYS)) { /* not every file system can be asked for it */
        rc = rename(made, path);
    }
    if (rc) {
        return cannot(err, path, "cannot be made", errno);
    }
    sync_directory(path);
    return 0;
}

/* A -wal whose file is gone may hold what was acknowledged; SQLite would remove it. */
static int look_for_wal(const char *path, struct err *err)
{
    struct stat st;
    char *wal;
    if (asprintf(&wal, "%s-wal", path) < 0) {
        return err_set(err, "no memory");
    }
    int rc =
        stat(wal, &st) == 0 && st.st_size > 0
            ? err_set(err,
                      "%s: there is a %s-wal without it, which may hold acknowledged messages: put the file "
                      "back, or move the -wal away to start empty",
                      err_path(path), err_path(path))
            : 0;
    free(wal);
    return rc;
}

/* A whole new file under its name, locked. */
static int make_file(const char *path, bool replace, struct err *err)
{
    char *made;
    if (look_for_wal(path, err)) {
        return -1;
    }
    if (asprintf(&made, "%s.new", path) < 0) {
        return err_set(err, "no memory");
    }
    int fd = open(made, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int rc = -1;
    if (fd < 0) {
        cannot(err, path, "cannot be made", errno);
    } else if (take_lock(fd, path, err) == 0) {
        /* what an earlier attempt has left, which nobody else has open now */
        rc = ftruncate(fd, 0) ? cannot(err, path, "cannot be made", errno) : sqlite_schema_make(made, err);
        rc = rc ? -1 : put_in_place(made, path, replace, err);
        if (rc) {
            unlink(made);
        }
    }
    if (rc && fd >= 0) {
        close(fd);
    }
    free(made);
    return rc ? -1 : fd;
}

int sqlite_file_take(const char *path, enum storage_sync sync, struct err *err)
{
    bool missing;
    int version = STORE_VERSION;
    int fd = open_file(path, O_RDWR, &missing, err);
    if (fd < 0) {
        return missing ? make_file(path, false, err) : -1;
    }
    if (take_lock(fd, path, err)) {
        close(fd);
        return -1;
    }
    if (missing) {
        int made = make_file(path, true, err);
        close(fd);
        return made;
    }
    if (judge(fd, path, &version, err) || judge_wal(path, sync, err) ||
        (version < STORE_VERSION && sqlite_schema_migrate(path, fd, version, err))) {
        close(fd);
        return -1;
    }
    return fd;
}

int sqlite_file_look(const char *path, int *version, struct err *err)
{
    bool missing;
    int found;
    int fd = open_file(path, O_RDONLY, &missing, err);
    if (fd < 0) {
        return missing ? cannot(err, path, "cannot be opened", ENOENT) : -1;
    }
    if (judge(fd, path, version ? version : &found, err)) {
        close(fd);
        return -1;
    }
    return fd;
}
