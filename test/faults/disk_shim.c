/*
 * disk_shim.c - for LD_PRELOAD: a daemon whose disk stalls, fills up or fails when a test wants it.
 *
 * The test and the daemon share a page (struct control, a file named by DISK_CONTROL); disk.py is the other
 * end. What DISK_STORE is a prefix of are the store's files (bramble.db, bramble.db-wal...); what DISK_PLACE
 * is a prefix of are other files of the same disk (a log).
 *
 *   stall     calls wait as long as the bit is set: syncs and writes of the store, syncs and writes of others
 *   error     what syncs and writes of the store give, instead of being done; EROFS also opening to write
 *   room      bytes by which files may still grow, and what statvfs() tells is free; -1: as it is
 *   by_loop   calls to the store's files that came from the first thread since `watch` was set
 *
 * Writing over what a file already has takes no room, and what is cut off or removed gives room back: as a
 * file system does. Only the size of a file counts, so a file with holes is counted as if it had none.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { STALL_SYNC = 1, STALL_WRITE = 2, STALL_OTHERS = 4 };
enum { NOT_OURS, STORE, OTHER };
enum { FILES = 65536 };

struct control {
    _Atomic int64_t stall;
    _Atomic int64_t waiting; /* calls that are stalled now */
    _Atomic int64_t sync_error, write_error;
    _Atomic int64_t room;
    _Atomic int64_t watch;
    _Atomic int64_t by_loop;
    _Atomic int64_t syncs, writes; /* of the store, done */
    _Atomic int64_t refused;       /* calls that failed by error or room */
};

static struct control none = {.room = -1};
static struct control *control = &none;
static const char *store, *place;
static _Atomic uint8_t kinds[FILES]; /* by descriptor */

static struct {
    int (*open)(const char *, int, ...);
    int (*close)(int);
    int (*fsync)(int);
    int (*fdatasync)(int);
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*writev)(int, const struct iovec *, int);
    ssize_t (*pwrite64)(int, const void *, size_t, off64_t);
    int (*ftruncate64)(int, off64_t);
    int (*unlink)(const char *);
    int (*statvfs64)(const char *, struct statvfs64 *);
} real;

/* Others may be constructed before us and already open files. */
static void find(void)
{
    if (real.statvfs64) {
        return;
    }
    *(void **)&real.open = dlsym(RTLD_NEXT, "open64");
    *(void **)&real.close = dlsym(RTLD_NEXT, "close");
    *(void **)&real.fsync = dlsym(RTLD_NEXT, "fsync");
    *(void **)&real.fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    *(void **)&real.write = dlsym(RTLD_NEXT, "write");
    *(void **)&real.writev = dlsym(RTLD_NEXT, "writev");
    *(void **)&real.pwrite64 = dlsym(RTLD_NEXT, "pwrite64");
    *(void **)&real.ftruncate64 = dlsym(RTLD_NEXT, "ftruncate64");
    *(void **)&real.unlink = dlsym(RTLD_NEXT, "unlink");
    *(void **)&real.statvfs64 = dlsym(RTLD_NEXT, "statvfs64");
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("DISK_CONTROL");

    find();
    int fd = path ? real.open(path, O_RDWR | O_CLOEXEC) : -1;

    store = getenv("DISK_STORE");
    place = getenv("DISK_PLACE");
    if (fd < 0) {
        return;
    }
    void *page = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    real.close(fd);
    if (page != MAP_FAILED) {
        control = page;
    }
}

static uint8_t kind_of_path(const char *path)
{
    if (store && strncmp(path, store, strlen(store)) == 0) {
        return STORE;
    }
    return place && strncmp(path, place, strlen(place)) == 0 ? OTHER : NOT_OURS;
}

static uint8_t kind_of(int fd)
{
    return fd >= 0 && fd < FILES ? atomic_load(&kinds[fd]) : NOT_OURS;
}

/* ---- what each call goes through ---- */

static void stall(int64_t bit)
{
    const struct timespec tick = {0, 1000000};

    if (!(atomic_load(&control->stall) & bit)) {
        return;
    }
    atomic_fetch_add(&control->waiting, 1);
    while (atomic_load(&control->stall) & bit) {
        nanosleep(&tick, NULL);
    }
    atomic_fetch_sub(&control->waiting, 1);
}

static bool refuse(int64_t error)
{
    if (error) {
        atomic_fetch_add(&control->refused, 1);
        errno = (int)error;
    }
    return error != 0;
}

static void note_thread(uint8_t kind)
{
    if (kind == STORE && atomic_load(&control->watch) && syscall(SYS_gettid) == getpid()) {
        atomic_fetch_add(&control->by_loop, 1);
    }
}

/* Before a sync. */
static bool sync_fails(uint8_t kind)
{
    note_thread(kind);
    stall(kind == STORE ? STALL_SYNC : STALL_OTHERS);
    return kind == STORE && refuse(atomic_load(&control->sync_error));
}

static int64_t size_of(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 ? (int64_t)st.st_size : 0;
}

static bool takes(int64_t bytes)
{
    int64_t room = atomic_load(&control->room);

    if (room < 0) {
        return true;
    }
    if (bytes > room) {
        refuse(ENOSPC);
        return false;
    }
    atomic_fetch_sub(&control->room, bytes);
    return true;
}

static void gives(int64_t bytes)
{
    if (atomic_load(&control->room) >= 0) {
        atomic_fetch_add(&control->room, bytes);
    }
}

/* Before a write that reaches to `end`. */
static bool write_fails(uint8_t kind, int fd, int64_t end)
{
    note_thread(kind);
    stall(kind == STORE ? STALL_WRITE : STALL_OTHERS);
    if (kind == STORE && refuse(atomic_load(&control->write_error))) {
        return true;
    }
    if (kind == STORE) {
        atomic_fetch_add(&control->writes, 1);
    }
    int64_t size = size_of(fd);

    return end > size && !takes(end - size);
}

/* ---- the calls ---- */

static int opens(const char *path, int flags, int mode)
{
    uint8_t kind = kind_of_path(path);

    find();
    if (kind == STORE && (flags & O_ACCMODE) != O_RDONLY && atomic_load(&control->write_error) == EROFS) {
        refuse(EROFS);
        return -1;
    }
    int64_t before = 0;
    struct stat st;

    if (kind && (flags & O_TRUNC) && stat(path, &st) == 0) {
        before = (int64_t)st.st_size;
    }
    int fd = real.open(path, flags, mode);

    if (fd >= 0 && fd < FILES) {
        atomic_store(&kinds[fd], kind);
        gives(before);
    }
    return fd;
}

#define OPEN(name)                             \
    int name(const char *path, int flags, ...) \
    {                                          \
        int mode = 0;                          \
        va_list ap;                            \
        if (flags & (O_CREAT | O_TMPFILE)) {   \
            va_start(ap, flags);               \
            mode = va_arg(ap, int);            \
            va_end(ap);                        \
        }                                      \
        return opens(path, flags, mode);       \
    }
OPEN(open)
OPEN(open64)

/* What open() becomes where the program is built with FORTIFY_SOURCE. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);

int __open_2(const char *path, int flags)
{
    return opens(path, flags, 0);
}

int __open64_2(const char *path, int flags)
{
    return opens(path, flags, 0);
}

int close(int fd)
{
    find();
    if (fd >= 0 && fd < FILES) {
        atomic_store(&kinds[fd], NOT_OURS);
    }
    return real.close(fd);
}

int fsync(int fd)
{
    uint8_t kind = kind_of(fd);

    if (kind && sync_fails(kind)) {
        return -1;
    }
    int rc = real.fsync(fd);

    atomic_fetch_add(&control->syncs, kind == STORE);
    return rc;
}

int fdatasync(int fd)
{
    uint8_t kind = kind_of(fd);

    if (kind && sync_fails(kind)) {
        return -1;
    }
    int rc = real.fdatasync(fd);

    atomic_fetch_add(&control->syncs, kind == STORE);
    return rc;
}

static int64_t place_of(int fd)
{
    return (fcntl(fd, F_GETFL) & O_APPEND) ? size_of(fd) : (int64_t)lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *data, size_t size)
{
    uint8_t kind = kind_of(fd);

    find();
    if (kind && write_fails(kind, fd, place_of(fd) + (int64_t)size)) {
        return -1;
    }
    return real.write(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    uint8_t kind = kind_of(fd);
    int64_t size = 0;

    for (int i = 0; kind && i < count; i++) {
        size += (int64_t)parts[i].iov_len;
    }
    if (kind && write_fails(kind, fd, place_of(fd) + size)) {
        return -1;
    }
    return real.writev(fd, parts, count);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    uint8_t kind = kind_of(fd);

    if (kind && write_fails(kind, fd, (int64_t)at + (int64_t)size)) {
        return -1;
    }
    return real.pwrite64(fd, data, size, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return pwrite64(fd, data, size, at);
}

int ftruncate64(int fd, off64_t size)
{
    uint8_t kind = kind_of(fd);
    int64_t before = kind ? size_of(fd) : 0;

    if (kind && write_fails(kind, fd, (int64_t)size)) {
        return -1;
    }
    int rc = real.ftruncate64(fd, size);

    if (kind && rc == 0 && before > size) {
        gives(before - (int64_t)size);
    }
    return rc;
}

int ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

int unlink(const char *path)
{
    uint8_t kind = kind_of_path(path);
    struct stat st;
    int64_t size = kind && stat(path, &st) == 0 ? (int64_t)st.st_size : 0;

    find();
    note_thread(kind);
    if (kind == STORE && refuse(atomic_load(&control->write_error))) {
        return -1;
    }
    int rc = real.unlink(path);

    if (rc == 0) {
        gives(size);
    }
    return rc;
}

int statvfs64(const char *path, struct statvfs64 *fs)
{
    int rc = real.statvfs64(path, fs);
    int64_t room = atomic_load(&control->room);

    if (rc == 0 && room >= 0 && kind_of_path(path)) {
        fs->f_bavail = fs->f_bfree = (fsblkcnt64_t)room / fs->f_frsize;
    }
    return rc;
}

int statvfs(const char *path, struct statvfs *fs)
{
    struct statvfs64 wide;
    int rc = statvfs64(path, &wide);

    if (rc == 0) {
        fs->f_bsize = wide.f_bsize;
        fs->f_frsize = wide.f_frsize;
        fs->f_blocks = (fsblkcnt_t)wide.f_blocks;
        fs->f_bfree = (fsblkcnt_t)wide.f_bfree;
        fs->f_bavail = (fsblkcnt_t)wide.f_bavail;
        fs->f_flag = wide.f_flag;
        fs->f_namemax = wide.f_namemax;
    }
    return rc;
}
