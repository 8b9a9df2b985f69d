/*
 * err.h - why something could not be done, in words for the person who has to mend it.
 *
 * A loader that fails fills a struct err of its caller with one line, "file:line: reason" where a file is to
 * blame, and returns NULL or -1. The caller decides whether that stops the start or keeps the last good
 * state.
 */
#ifndef BRAMBLE_ERR_H
#define BRAMBLE_ERR_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct err {
    char text[1024];
};

/* Of a long path the end, which says more than its beginning and leaves room for the reason. */
static inline const char *err_path(const char *path)
{
    size_t n = strlen(path), most = 300;
    return n > most ? path + n - most : path;
}

/* err_set(err, fmt, ...) sets the text (cut at the end of the buffer) and returns -1, so that `return
 * err_set(...)` reads well. err may be NULL. That it is -1 is said by a function without "...": analyzers
 * look into such ones only, and see that what follows a failure is never reached. */
#define err_set(...) err_minus_one(err_format(__VA_ARGS__))

__attribute__((format(printf, 2, 3))) static inline int err_format(struct err *err, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
    }
    return 0;
}

static inline int err_minus_one(int ignored)
{
    (void)ignored;
    return -1;
}

#endif
