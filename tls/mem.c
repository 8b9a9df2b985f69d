/*
 * mem.c - mbedTLS started once, and its record buffers on pages of their own.
 *
 * Every connection has an input and an output buffer for records of up to 16 KB, though most MQTT packets are
 * far below 1 KB. From malloc they would be resident as a whole: calloc has to clear recycled memory. So
 * buffers of just that size come from one reserved range of addresses, cut into slots of whole pages:
 *
 *      slot 0           slot 1           slot 2
 *     |#...|....|....|  |##..|....|....|  ...        #  touched, so resident
 *
 * Pages never touched cost nothing, and those that a large record touched are given back (tls_mem_trim) once
 * it was read; a freed slot is given back as a whole and is then zero again, as calloc promises. With our
 * records below a page (TLS_RECORD) an idle connection keeps one page of each buffer. When the slots are used
 * up, calloc takes over.
 *
 * mbedTLS' allocation hooks have no argument, so this file has the one global state of tls/.
 * Under the address sanitizer buffers come from calloc, so that it can watch their ends.
 */
#include "tls/internal.h"
#include <mbedtls/platform.h>
#include <mbedtls/version.h>
#include <psa/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static pthread_once_t started = PTHREAD_ONCE_INIT;
static psa_status_t psa_status = PSA_ERROR_BAD_STATE;

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MEM_PLAIN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || !defined(MBEDTLS_PLATFORM_MEMORY)
#define MEM_PLAIN 1
#endif

#ifndef MEM_PLAIN

enum { BUFFER_MIN = 16384, BUFFER_MAX = 16384 + 1024 };

static struct {
    pthread_mutex_t mutex; /* guards free, free_count, fresh */
    uint8_t *base, *end;   /* NULL when there is no range */
    size_t page, slot;
    uint32_t *free; /* numbers of slots that were used and are free, a stack: the last one is taken first */
    uint32_t free_count, fresh, count; /* slots from `fresh` on were never used */
} mem = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void mem_reserve(void)
{
    size_t range = sizeof(void *) >= 8 ? (size_t)512 << 20 : (size_t)64 << 20;
    void *base;

    mem.page = (size_t)sysconf(_SC_PAGESIZE);
    mem.slot = (BUFFER_MAX + mem.page - 1) / mem.page * mem.page;
    mem.count = (uint32_t)(range / mem.slot);
    mem.free = malloc(mem.count * sizeof *mem.free);
    if (!mem.free)
        return;
    base = mmap(NULL, mem.count * mem.slot, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) { /* a limit on addresses: calloc will do */
        free(mem.free);
        return;
    }
    madvise(base, mem.count * mem.slot, MADV_NOHUGEPAGE); /* one huge page for a byte would defeat it all */
    mem.base = base;
    mem.end = mem.base + mem.count * mem.slot;
}

static bool mem_is_slot(const void *ptr)
{
    return (const uint8_t *)ptr >= mem.base && (const uint8_t *)ptr < mem.end;
}

static void *mem_calloc(size_t n, size_t size)
{
    void *ptr = NULL;

    if (n == 1 && size >= BUFFER_MIN && size <= BUFFER_MAX) {
        pthread_mutex_lock(&mem.mutex);
        if (mem.free_count)
            ptr = mem.base + mem.free[--mem.free_count] * mem.slot;
        else if (mem.fresh < mem.count)
            ptr = mem.base + mem.fresh++ * mem.slot;
        pthread_mutex_unlock(&mem.mutex);
    }
    return ptr ? ptr : calloc(n, size);
}

static void mem_free(void *ptr)
{
    if (!ptr || !mem_is_slot(ptr)) {
        free(ptr);
        return;
    }
    if (madvise(ptr, mem.slot, MADV_DONTNEED))
        memset(ptr, 0, mem.slot);
    pthread_mutex_lock(&mem.mutex);
    mem.free[mem.free_count++] = (uint32_t)((size_t)((uint8_t *)ptr - mem.base) / mem.slot);
    pthread_mutex_unlock(&mem.mutex);
}

static void mem_start(void)
{
    mem_reserve();
    if (mem.base)
        mbedtls_platform_set_calloc_free(mem_calloc, mem_free);
}

static void mem_trim(unsigned char *buffer)
{
    if (buffer && mem_is_slot(buffer))
        (void)madvise(buffer + mem.page, mem.slot - mem.page, MADV_DONTNEED);
}

int tls_mem_slots_used(void)
{
    int used;

    pthread_mutex_lock(&mem.mutex);
    used = (int)(mem.fresh - mem.free_count);
    pthread_mutex_unlock(&mem.mutex);
    return used;
}

#else

static void mem_start(void) {}

static void mem_trim(unsigned char *buffer)
{
    (void)buffer;
}

int tls_mem_slots_used(void)
{
    return 0;
}

#endif

static void library_start(void)
{
    mem_start();
    psa_status = psa_crypto_init();
}

int tls_library_start(struct err *err)
{
    pthread_once(&started, library_start);
    if (psa_status != PSA_SUCCESS)
        return err_set(err, "Error: TLS: the cryptographic library does not start (error %d)",
                       (int)psa_status);
    return 0;
}

/* mbedTLS' own, not in its public headers. Weak: where a library does not have it, or hides it, we do
 * without. */
#if MBEDTLS_VERSION_MAJOR == 3
void mbedtls_ssl_handshake_wrapup_free_hs_transform(mbedtls_ssl_context *ssl) __attribute__((weak));
#endif

void tls_mem_handshake_done(mbedtls_ssl_context *ssl)
{
#if MBEDTLS_VERSION_MAJOR == 3
    /* After a TLS 1.3 handshake (not after one of 1.2) mbedTLS keeps its state and its keys until the end: 4
     * KB. Nothing looks at them any more; in TLS 1.2 `handshake` is NULL from here on as well. */
    if (ssl->MBEDTLS_PRIVATE(handshake) && mbedtls_ssl_handshake_wrapup_free_hs_transform &&
        mbedtls_ssl_get_version_number(ssl) == MBEDTLS_SSL_VERSION_TLS1_3)
        mbedtls_ssl_handshake_wrapup_free_hs_transform(ssl);
#endif
    tls_mem_trim(ssl);
}

void tls_mem_trim(mbedtls_ssl_context *ssl)
{
    /* Only mbedTLS knows what is in its buffers: a record that has come in part, data not read yet, fragments
     * of a handshake message. Input is there only when one of these says so. */
    if (ssl->MBEDTLS_PRIVATE(in_left) == 0 && !ssl->MBEDTLS_PRIVATE(in_offt) &&
        ssl->MBEDTLS_PRIVATE(in_hslen) == 0)
        mem_trim(ssl->MBEDTLS_PRIVATE(in_buf));
    if (ssl->MBEDTLS_PRIVATE(out_left) == 0)
        mem_trim(ssl->MBEDTLS_PRIVATE(out_buf));
}
