/*
 * shim.c - for LD_PRELOAD: a daemon whose memory, system calls and clocks do what a test wants.
 *
 * The test and the daemon share a page (struct control, a file named by SHIM_CONTROL); shims.py is the other
 * end.
 *
 *   memory       every allocation has a number; those from `fail_from` to `fail_to` - 1 get nothing
 *   accept...    fail with the errno in errors[], as long as it is not 0
 *   clocks       ahead[CLOCK] is added, in nanoseconds
 *
 * The hard part is what is asked for before the real functions are known, by the constructors of other
 * libraries and by sanitizers: it comes from a block that is never given back, and is not counted.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { ACCEPT, OPEN, SOCKET, THREAD, CALLS };

struct control {
    _Atomic uint64_t allocations;
    _Atomic uint64_t fail_from, fail_to;
    _Atomic uint64_t failed; /* that got nothing */
    _Atomic int64_t errors[CALLS];
    _Atomic uint64_t refused[CALLS]; /* how often they failed */
    _Atomic int64_t ahead[16];       /* by clockid_t */
};

static struct control none;
static struct control *control = &none;

static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    int (*accept4)(int, struct sockaddr *, socklen_t *, int);
    int (*open)(const char *, int, ...);
    int (*socket)(int, int, int);
    int (*pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    int (*pthread_getattr_np)(pthread_t, pthread_attr_t *);
    int (*clock_gettime)(clockid_t, struct timespec *);
} real;

/* ---- the beginning ---- */

static _Alignas(16) uint8_t early[1 << 20];
static size_t early_used;
static bool ready;

static void *early_take(size_t size)
{
    size_t whole = (size + 15) / 16 * 16;
    void *p = early + early_used;

    if (whole > sizeof early - early_used)
        return NULL;
    early_used += whole;
    return p;
}

static bool is_early(const void *p)
{
    return (const uint8_t *)p >= early && (const uint8_t *)p < early + sizeof early;
}

#define FIND(name) *(void **)(&real.name) = dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("SHIM_CONTROL");
    void *page;
    int fd;

    FIND(malloc);
    FIND(calloc);
    FIND(realloc);
    FIND(free);
    FIND(posix_memalign);
    FIND(aligned_alloc);
    FIND(accept4);
    FIND(open);
    FIND(socket);
    FIND(pthread_create);
    FIND(pthread_getattr_np);
    FIND(clock_gettime);
    ready = true;
    fd = path ? real.open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    page = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (page != MAP_FAILED)
        control = page;
}

/* ---- memory ---- */

static _Thread_local bool spared;

static bool fails(void)
{
    if (spared)
        return false;

    uint64_t number = atomic_fetch_add(&control->allocations, 1);

    if (number < atomic_load(&control->fail_from) || number >= atomic_load(&control->fail_to))
        return false;
    atomic_fetch_add(&control->failed, 1);
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    if (!ready)
        return early_take(size);
    return fails() ? NULL : real.malloc(size);
}

void *calloc(size_t n, size_t size)
{
    if (!ready)
        return early_take(n * size); /* it is zero */
    return fails() ? NULL : real.calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    size_t most = (size_t)(early + sizeof early - (uint8_t *)p);
    void *q;

    if (ready && !is_early(p))
        return size > 0 && fails() ? NULL : real.realloc(p, size);
    q = malloc(size);
    if (q && p)
        memcpy(q, p, size < most ? size : most);
    return q;
}

void free(void *p)
{
    if (p && !is_early(p))
        real.free(p);
}

int posix_memalign(void **p, size_t alignment, size_t size)
{
    return !ready || fails() ? ENOMEM : real.posix_memalign(p, alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return !ready || fails() ? NULL : real.aligned_alloc(alignment, size);
}

/* ---- system calls ---- */

static bool refuses(int call)
{
    int error = (int)atomic_load(&control->errors[call]);

    if (error) {
        atomic_fetch_add(&control->refused[call], 1);
        errno = error;
    }
    return error != 0;
}

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    return refuses(ACCEPT) ? -1 : real.accept4(fd, address, size, flags);
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    int mode = 0;

    if (flags & (O_CREAT | O_TMPFILE)) {
        va_start(ap, flags);
        mode = va_arg(ap, int);
        va_end(ap);
    }
    return refuses(OPEN) ? -1 : real.open(path, flags, mode);
}

int socket(int domain, int type, int protocol)
{
    return refuses(SOCKET) ? -1 : real.socket(domain, type, protocol);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    if (fails() || refuses(THREAD))
        return EAGAIN;
    return real.pthread_create(thread, attr, fn, arg);
}

/* With this call a sanitizer begins each thread; it would end the program when the call got no memory. */
int pthread_getattr_np(pthread_t thread, pthread_attr_t *attr)
{
    spared = true;
    int rc = real.pthread_getattr_np(thread, attr);
    spared = false;
    return rc;
}

/* ---- clocks ---- */

int clock_gettime(clockid_t clock, struct timespec *ts)
{
    int64_t ahead = clock >= 0 && clock < 16 ? atomic_load(&control->ahead[clock]) : 0;
    int rc;

    if (!ready)
        return (int)syscall(SYS_clock_gettime, clock, ts);
    rc = real.clock_gettime(clock, ts);
    if (rc == 0 && ahead) {
        int64_t ns = ts->tv_nsec + ahead % 1000000000;

        ts->tv_sec += ahead / 1000000000 + (ns < 0 ? -1 : ns / 1000000000);
        ts->tv_nsec = (ns + 1000000000) % 1000000000;
    }
    return rc;
}

time_t time(time_t *t)
{
    struct timespec ts = {0, 0};

    clock_gettime(CLOCK_REALTIME, &ts);
    if (t)
        *t = ts.tv_sec;
    return ts.tv_sec;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    struct timespec ts = {0, 0};

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &ts);
    *tv = (struct timeval){ts.tv_sec, ts.tv_nsec / 1000};
    return 0;
}
