/*
 * fuzz_passwords.c - any bytes as a password file. When they are taken as one, each line that says something
 * is a user who can be found, with a hash that passes the check; else the complaint names the file and a
 * line.
 */
#include "auth/passwords.h"
#include "auth/pwhash.h"
#include "test/fuzz/fuzz.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    fuzz_log_start();
    return pwhash_init() ? 0 : -1;
}

static void check_loaded(const struct passwords *passwords, const uint8_t *data, size_t size)
{
    size_t users = 0;
    for (size_t start = 0; start < size;) {
        const uint8_t *end = memchr(data + start, '\n', size - start);
        size_t n = end ? (size_t)(end - data) - start : size - start;
        struct slice line = slice_of(data + start, n), user, hash;
        start += n + 1;
        if (passwords_skips(line))
            continue;
        users++;
        if (!passwords_split(line, &user, &hash) || !slice_eq(passwords_hash(passwords, user), hash) ||
            pwhash_check(hash) || passwords_mark(passwords, user) == 0)
            abort();
    }
    if (users != passwords_count(passwords))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[32];
    struct err err = {""};
    int fd = memfd_create("passwords", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (fd < 0 || fchmod(fd, 0600) != 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    struct passwords *passwords = passwords_load(path, &err);
    if (passwords)
        check_loaded(passwords, data, size);
    else if (strncmp(err.text, path, strlen(path)) != 0 || !strchr(err.text + strlen(path), ' '))
        abort();
    passwords_unref(passwords);
    close(fd);
    return 0;
}
