/*
 * no_memory.h - memory that runs out: malloc, calloc, realloc, strdup and threads of the code under test.
 *
 *   memory_fails(n, m)   n of them succeed, then m fail, then all succeed
 *   memory_calm()        returns how many have failed
 *
 * To be included once in a program, before what allocates; the program stands in the Makefile (unit_wrap),
 * which has it linked so that all calls arrive here. What the test itself and its fakes take does not count.
 */
#ifndef BRAMBLE_TEST_NO_MEMORY_H
#define BRAMBLE_TEST_NO_MEMORY_H

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *text);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *text);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
#define malloc(n)       __real_malloc(n)
#define calloc(n, size) __real_calloc(n, size)
#define realloc(p, n)   __real_realloc(p, n)
#undef strdup
#define strdup(text) __real_strdup(text)

enum { ALL_OF_THEM = INT_MAX };

static struct {
    atomic_int number, from, fails, failed; /* threads may take memory, too */
} memory;

static inline void memory_fails(int succeed, int fail)
{
    atomic_store(&memory.failed, 0);
    atomic_store(&memory.from, atomic_load(&memory.number) + succeed);
    atomic_store(&memory.fails, fail);
}

static inline int memory_calm(void)
{
    atomic_store(&memory.fails, 0);
    return atomic_load(&memory.failed);
}

static inline bool memory_is_out(void)
{
    int nth = atomic_fetch_add(&memory.number, 1) - atomic_load(&memory.from);
    bool out = nth >= 0 && nth < atomic_load(&memory.fails);
    atomic_fetch_add(&memory.failed, out);
    return out;
}

void *__wrap_malloc(size_t n)
{
    return memory_is_out() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return memory_is_out() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return memory_is_out() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *text)
{
    return memory_is_out() ? NULL : __real_strdup(text);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    return memory_is_out() ? EAGAIN : __real_pthread_create(thread, attr, fn, arg);
}

#endif
