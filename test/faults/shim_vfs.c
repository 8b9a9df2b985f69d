/*
 * shim_vfs.c - the disk that remembers, fails, and loses its power. See shim_vfs.h.
 *
 * Making a disk is playing the log: for each file the bytes that are settled, and a list of what is not yet.
 * A sync settles the list; a power cut, or a sync that fails, lets chance decide piece by piece.
 */
#include "test/faults/shim_vfs.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 512, SHM_HEAD = 136, PATH_ROOM = 256 };

enum kind { WRITE, SYNC, TRUNCATE, REMOVE };

struct operation {
    enum kind kind;
    int file;
    bool failed;
    uint64_t at; /* TRUNCATE: the new size */
    size_t n;
    uint8_t *data;
    uint8_t shm[SHM_HEAD]; /* what the -shm began with then */
    bool has_shm;
};

static struct {
    pthread_mutex_t lock;
    char path[PATH_ROOM];
    struct bytes before[SHIM_FILES];
    struct operation *log;
    size_t count, room;
    size_t fail_from, fail_count, failed;
    enum shim_fault fault;
    sqlite3_vfs *real;
} shim = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const char *const endings[SHIM_FILES] = {"", "-wal"};

struct file {
    sqlite3_file base; /* first */
    int number;        /* SHIM_FILES: not watched */
    int error;         /* errno of the last failure */
};

static sqlite3_file *real_of(sqlite3_file *file)
{
    return (sqlite3_file *)((struct file *)file + 1);
}

/* ---- files ---- */

struct bytes bytes_read(const char *path, const char *ending)
{
    char name[PATH_ROOM + 8];
    struct bytes bytes = {0};
    struct stat st;
    snprintf(name, sizeof name, "%s%s", path, ending);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return bytes;
    bytes = (struct bytes){.p = malloc((size_t)st.st_size + 1), .exists = true};
    for (ssize_t n;
         bytes.n < (size_t)st.st_size && (n = read(fd, bytes.p + bytes.n, (size_t)st.st_size - bytes.n)) > 0;)
        bytes.n += (size_t)n;
    close(fd);
    return bytes;
}

void bytes_write(const char *path, const char *ending, const struct bytes *bytes)
{
    char name[PATH_ROOM + 8];
    snprintf(name, sizeof name, "%s%s", path, ending);
    unlink(name);
    int fd = bytes->exists ? open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    if (bytes->exists && (fd < 0 || write(fd, bytes->p, bytes->n) != (ssize_t)bytes->n)) {
        perror(name);
        abort();
    }
    if (fd >= 0)
        close(fd);
}

unsigned int chance(unsigned int *seed)
{
    *seed = *seed * 1664525U + 1013904223U;
    return *seed >> 16;
}

/* ---- the log ---- */

static void clear_log(void)
{
    for (size_t i = 0; i < shim.count; i++)
        free(shim.log[i].data);
    free(shim.log);
    shim.log = NULL;
    shim.count = shim.room = 0;
}

void shim_watch(const char *path)
{
    pthread_mutex_lock(&shim.lock);
    clear_log();
    snprintf(shim.path, sizeof shim.path, "%s", path);
    for (int f = 0; f < SHIM_FILES; f++) {
        free(shim.before[f].p);
        shim.before[f] = bytes_read(path, endings[f]);
    }
    shim.fail_count = shim.failed = 0;
    pthread_mutex_unlock(&shim.lock);
}

size_t shim_position(void)
{
    pthread_mutex_lock(&shim.lock);
    size_t count = shim.count;
    pthread_mutex_unlock(&shim.lock);
    return count;
}

size_t shim_failed(void)
{
    pthread_mutex_lock(&shim.lock);
    size_t failed = shim.failed;
    pthread_mutex_unlock(&shim.lock);
    return failed;
}

void shim_fail(size_t position, size_t count, enum shim_fault fault)
{
    pthread_mutex_lock(&shim.lock);
    shim.fail_from = position;
    shim.fail_count = count;
    shim.fault = fault;
    shim.failed = 0;
    pthread_mutex_unlock(&shim.lock);
}

const char *shim_operation(size_t position)
{
    static char text[120];
    static const char *const names[] = {"write", "sync", "truncation", "removal"};
    pthread_mutex_lock(&shim.lock);
    const struct operation *op = position < shim.count ? &shim.log[position] : NULL;
    if (op)
        snprintf(text, sizeof text, "%s of %zu bytes at %llu, %s%s", names[op->kind], op->n,
                 (unsigned long long)op->at, op->file == SHIM_WAL ? "-wal" : "main file",
                 op->failed ? ", failed" : "");
    else
        snprintf(text, sizeof text, "the end");
    pthread_mutex_unlock(&shim.lock);
    return text;
}

/* Only its first bytes matter: they say how many frames were committed. */
static void note_shm(struct operation *op)
{
    char name[PATH_ROOM + 8];
    snprintf(name, sizeof name, "%s-shm", shim.path);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    op->has_shm = pread(fd, op->shm, SHM_HEAD, 0) == SHM_HEAD;
    close(fd);
}

/* Notes an operation; whether it is to fail. */
static bool note(enum kind kind, int file, uint64_t at, const void *data, size_t n)
{
    pthread_mutex_lock(&shim.lock);
    if (shim.count == shim.room) {
        shim.room = shim.room ? 2 * shim.room : 1024;
        shim.log = realloc(shim.log, shim.room * sizeof *shim.log);
    }
    struct operation *op = &shim.log[shim.count];
    *op = (struct operation){.kind = kind, .file = file, .at = at, .n = n};
    op->failed = shim.count >= shim.fail_from && shim.count - shim.fail_from < shim.fail_count;
    shim.failed += op->failed;
    if (kind == WRITE) {
        op->n = op->failed ? n / 2 : n;
        op->data = malloc(op->n + 1);
        memcpy(op->data, data, op->n);
    }
    note_shm(op);
    shim.count++;
    bool failed = op->failed;
    pthread_mutex_unlock(&shim.lock);
    return failed;
}

/* ---- a power cut ---- */

struct disk {
    struct bytes settled[SHIM_FILES];
    size_t *open[SHIM_FILES]; /* operations that are not settled */
    size_t open_count[SHIM_FILES];
};

static void put(struct bytes *bytes, uint64_t at, const uint8_t *p, size_t n)
{
    if (bytes->n < at + n) {
        if (bytes->room < at + n) {
            bytes->room = 2 * (at + n);
            bytes->p = realloc(bytes->p, bytes->room);
        }
        memset(bytes->p + bytes->n, 0, at + n - bytes->n);
        bytes->n = at + n;
    }
    memcpy(bytes->p + at, p, n);
    bytes->exists = true;
}

static void set_size(struct bytes *bytes, uint64_t size)
{
    if (bytes->n < size)
        put(bytes, size, bytes->p, 0);
    bytes->n = size;
}

/* All of the operation, or (seed) what chance leaves of it, one time in so many lost. */
static void settle(struct bytes *bytes, const struct operation *op, unsigned int *seed, unsigned int lost_in)
{
    if (op->kind == TRUNCATE) {
        if (!seed || chance(seed) % lost_in)
            set_size(bytes, op->at);
        return;
    }
    for (size_t from = 0; from < op->n;) {
        size_t n = PIECE - (op->at + from) % PIECE;
        n = n < op->n - from ? n : op->n - from;
        if (!seed || chance(seed) % lost_in)
            put(bytes, op->at + from, op->data + from, n);
        from += n;
    }
}

static void settle_file(struct disk *disk, int file, unsigned int *seed)
{
    unsigned int lost_in = seed ? 1 + chance(seed) % 8 : 1; /* 1: all of it is lost */
    for (size_t i = 0; i < disk->open_count[file]; i++)
        settle(&disk->settled[file], &shim.log[disk->open[file][i]], seed, lost_in);
    disk->open_count[file] = 0;
}

/* Whether a file that was removed has been made again: then the removal is on the disk. */
static bool touched_again(size_t removal, size_t position)
{
    for (size_t i = removal + 1; i < position && i < shim.count; i++)
        if (shim.log[i].file == shim.log[removal].file)
            return true;
    return false;
}

static void play(struct disk *disk, size_t position, unsigned int *seed)
{
    for (size_t i = 0; i < position && i < shim.count; i++) {
        const struct operation *op = &shim.log[i];
        if (op->kind == SYNC)
            settle_file(disk, op->file, op->failed ? seed : NULL);
        else if (op->kind == REMOVE && !op->failed && (touched_again(i, position) || chance(seed) % 2)) {
            disk->settled[op->file].n = 0;
            disk->settled[op->file].exists = false;
            disk->open_count[op->file] = 0;
        } else if (op->kind == WRITE || (op->kind == TRUNCATE && !op->failed))
            disk->open[op->file][disk->open_count[op->file]++] = i;
    }
    for (int f = 0; f < SHIM_FILES; f++)
        settle_file(disk, f, seed);
}

static struct bytes shm_of_some_time(size_t position, unsigned int *seed)
{
    struct bytes shm = {0};
    const struct operation *op = position ? &shim.log[(chance(seed) << 8 | chance(seed)) % position] : NULL;
    if (op && op->has_shm && chance(seed) % 2) {
        shm = (struct bytes){.p = calloc(1, 32768), .n = 32768, .exists = true};
        memcpy(shm.p, op->shm, SHM_HEAD);
    }
    return shm;
}

void shim_cut(size_t position, unsigned int seed, const char *path)
{
    struct disk disk = {0};
    pthread_mutex_lock(&shim.lock);
    for (int f = 0; f < SHIM_FILES; f++) {
        disk.settled[f] = shim.before[f];
        disk.settled[f].room = shim.before[f].n + 1;
        disk.settled[f].p = malloc(disk.settled[f].room);
        if (shim.before[f].n > 0)
            memcpy(disk.settled[f].p, shim.before[f].p, shim.before[f].n);
        disk.open[f] = calloc(shim.count + 1, sizeof *disk.open[f]);
    }
    chance(&seed);
    struct bytes shm = shm_of_some_time(position < shim.count ? position : shim.count, &seed);
    play(&disk, position, &seed);
    for (int f = 0; f < SHIM_FILES; f++) {
        bytes_write(path, endings[f], &disk.settled[f]);
        free(disk.settled[f].p);
        free(disk.open[f]);
    }
    bytes_write(path, "-shm", &shm);
    free(shm.p);
    pthread_mutex_unlock(&shim.lock);
}

/* ---- the VFS ---- */

static int watched(const char *name)
{
    for (int f = 0; name && f < SHIM_FILES; f++) {
        char path[PATH_ROOM + 8];
        snprintf(path, sizeof path, "%s%s", shim.path, endings[f]);
        if (strcmp(name, path) == 0)
            return f;
    }
    return SHIM_FILES;
}

static int code(sqlite3_file *file, int io_error)
{
    errno = shim.fault == SHIM_ENOSPC ? ENOSPC : EIO;
    if (file)
        ((struct file *)file)->error = errno;
    return shim.fault == SHIM_ENOSPC && io_error == SQLITE_IOERR_WRITE ? SQLITE_FULL : io_error;
}

static int shim_close(sqlite3_file *file)
{
    return real_of(file)->pMethods->xClose(real_of(file));
}

static int shim_read(sqlite3_file *file, void *p, int n, sqlite3_int64 at)
{
    return real_of(file)->pMethods->xRead(real_of(file), p, n, at);
}

static int shim_write(sqlite3_file *file, const void *p, int n, sqlite3_int64 at)
{
    int number = ((struct file *)file)->number;
    if (number < SHIM_FILES && note(WRITE, number, (uint64_t)at, p, (size_t)n)) {
        if (n > 1)
            real_of(file)->pMethods->xWrite(real_of(file), p, n / 2, at);
        return code(file, SQLITE_IOERR_WRITE);
    }
    return real_of(file)->pMethods->xWrite(real_of(file), p, n, at);
}

static int shim_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int number = ((struct file *)file)->number;
    if (number < SHIM_FILES && note(TRUNCATE, number, (uint64_t)size, NULL, 0))
        return code(file, SQLITE_IOERR_TRUNCATE);
    return real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int shim_sync(sqlite3_file *file, int flags)
{
    int number = ((struct file *)file)->number;
    (void)flags;
    return number < SHIM_FILES && note(SYNC, number, 0, NULL, 0) ? code(file, SQLITE_IOERR_FSYNC) : SQLITE_OK;
}

static int shim_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int shim_lock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int shim_unlock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int shim_check_lock(sqlite3_file *file, int *held)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), held);
}

static int shim_control(sqlite3_file *file, int what, void *arg)
{
    if (what == SQLITE_FCNTL_LAST_ERRNO && ((struct file *)file)->error) {
        *(int *)arg = ((struct file *)file)->error;
        return SQLITE_OK;
    }
    return real_of(file)->pMethods->xFileControl(real_of(file), what, arg);
}

static int shim_sector(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int shim_device(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int shim_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **p)
{
    return real_of(file)->pMethods->xShmMap(real_of(file), page, size, extend, p);
}

static int shim_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return real_of(file)->pMethods->xShmLock(real_of(file), offset, n, flags);
}

static void shim_shm_barrier(sqlite3_file *file)
{
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int shim_shm_unmap(sqlite3_file *file, int remove)
{
    return real_of(file)->pMethods->xShmUnmap(real_of(file), remove);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = shim_close,
    .xRead = shim_read,
    .xWrite = shim_write,
    .xTruncate = shim_truncate,
    .xSync = shim_sync,
    .xFileSize = shim_size,
    .xLock = shim_lock,
    .xUnlock = shim_unlock,
    .xCheckReservedLock = shim_check_lock,
    .xFileControl = shim_control,
    .xSectorSize = shim_sector,
    .xDeviceCharacteristics = shim_device,
    .xShmMap = shim_shm_map,
    .xShmLock = shim_shm_lock,
    .xShmBarrier = shim_shm_barrier,
    .xShmUnmap = shim_shm_unmap,
};

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    (void)vfs;
    int rc = shim.real->xOpen(shim.real, name, real_of(file), flags, out);
    ((struct file *)file)->number = watched(name);
    ((struct file *)file)->error = 0;
    file->pMethods = real_of(file)->pMethods ? &methods : NULL;
    return rc;
}

static int shim_delete(sqlite3_vfs *vfs, const char *name, int sync_directory)
{
    int number = watched(name);
    (void)vfs;
    if (number < SHIM_FILES && access(name, F_OK) == 0 && note(REMOVE, number, 0, NULL, 0))
        return code(NULL, SQLITE_IOERR_DELETE);
    return shim.real->xDelete(shim.real, name, sync_directory && number == SHIM_FILES);
}

void shim_install(void)
{
    static sqlite3_vfs vfs;
    shim.real = sqlite3_vfs_find(NULL);
    vfs = *shim.real; /* what is not ours goes straight to it: it looks at its own pAppData, which is the same
                       */
    vfs.zName = "shim";
    vfs.szOsFile = (int)sizeof(struct file) + shim.real->szOsFile;
    vfs.xOpen = shim_open;
    vfs.xDelete = shim_delete;
    sqlite3_vfs_register(&vfs, 1);
}
