/*
 * fuzz_passwords.c - any bytes as a password file. When they are taken as one, each line that says something
 * is a user who can be found, with a hash that passes the check; else the complaint names the file and a
 * line. The same bytes as a password: a token has one form only, and is known by its own entry only.
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

static bool tokens_entry_knows(struct slice password)
{
    static const char entry[] = "$blake2b$AAECAwQFBgcICQoLDA0ODw$e6STenLHNNaFO4vMqOeH2QZVSM5J5IYGqOWXXhLrKsU";
    return pwhash_verify(slice_str(entry), password) == AUTH_ALLOWED;
}

static void check_password(struct slice password)
{
    static const char prefix[] = "brmbl_", token[] = "brmbl_j1ZK85-rEqQGRCde1qwg13KQgijpxmetQg3uGlQmS0c";
    char text[PWHASH_TEXT_MAX];
    bool is_token = pwhash_is_token(password);
    if (is_token && (password.n != PWHASH_TOKEN_LEN || memcmp(password.p, prefix, sizeof prefix - 1) != 0))
        abort();
    if (tokens_entry_knows(password) != slice_eq(password, slice_str(token)))
        abort();
    for (int kind = PWHASH_SHA512; kind <= PWHASH_TOKEN; kind += PWHASH_TOKEN - PWHASH_SHA512) {
        bool fits = is_token == (kind == PWHASH_TOKEN);
        if ((pwhash_make(kind, 0, password, text) == 0) != fits ||
            (fits && (pwhash_check(slice_str(text)) || pwhash_for_tokens(slice_str(text)) != is_token ||
                      pwhash_verify(slice_str(text), password) != AUTH_ALLOWED)))
            abort();
    }
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
        if (pwhash_for_tokens(hash) && (hash.n != strlen("$blake2b$") + 22 + 1 + 43 ||
                                        pwhash_verify(hash, slice_str("x")) != AUTH_DENIED))
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
    check_password(slice_of(data, size));
    close(fd);
    return 0;
}
