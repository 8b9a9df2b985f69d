/*
 * passwords.c - a mosquitto password file as a table from user to hash.
 *
 *   # comment            only with '#' as the first character
 *   USER:HASH            the forms of HASH are drawn in pwhash.h; blanks around either are dropped
 *
 * The table owns a copy of each name and hash, and is never changed once loaded. mosquitto skips lines that
 * it does not understand, so a slip of the pen locks a user out without a word; here every such line refuses
 * the whole file.
 */
#include "auth/passwords.h"

#include "auth/pwhash.h"
#include "broker/hash.h"

#include <sodium.h>
#include <stdlib.h>

/* A user name that fits into a line with its colon fits into a string of MQTT. */
_Static_assert(LINES_MAX - 1 <= UINT16_MAX, "user names");

struct entry {
    UT_hash_handle hh;
    uint64_t mark;
    unsigned line;
    unsigned user_n, hash_n;
    char text[]; /* the user, then the hash; no zeros */
};

struct passwords {
    uint32_t refs;
    uint64_t print; /* the sum of the marks of all lines */
    struct entry *users;
};

static struct entry *find(const struct passwords *passwords, struct slice user)
{
    struct entry *entry = NULL;
    if (user.n)
        HASH_FIND(hh, passwords->users, user.p, (unsigned)user.n, entry);
    return entry;
}

static uint64_t mark_of(struct slice hash)
{
    uint64_t mark = 0;
    _Static_assert(sizeof mark < crypto_generichash_BYTES_MIN, "shortened below");
    uint8_t digest[crypto_generichash_BYTES_MIN];
    crypto_generichash(digest, sizeof digest, hash.p, hash.n, NULL, 0);
    memcpy(&mark, digest, sizeof mark);
    return mark ? mark : 1;
}

static int add(struct passwords *passwords, struct slice user, struct slice hash, unsigned line)
{
    struct entry *entry = calloc(1, sizeof *entry + user.n + hash.n);
    if (!entry)
        return -1;
    entry->mark = mark_of(hash);
    entry->line = line;
    entry->user_n = (unsigned)user.n;
    entry->hash_n = (unsigned)hash.n;
    memcpy(entry->text, user.p, user.n);
    memcpy(entry->text + user.n, hash.p, hash.n);
    HASH_ADD_KEYPTR(hh, passwords->users, entry->text, entry->user_n, entry);
    if (!entry->hh.tbl) {
        free(entry);
        return -1;
    }
    passwords->print += mark_of(slice_of(entry->text, user.n + hash.n)) + user.n;
    return 0;
}

bool passwords_split(struct slice line, struct slice *user, struct slice *hash)
{
    const uint8_t *colon = memchr(line.p, ':', line.n);
    if (!colon)
        return false;
    size_t n = (size_t)(colon - line.p);
    *user = lines_trim(slice_of(line.p, n));
    *hash = lines_trim(slice_of(colon + 1, line.n - n - 1));
    return true;
}

bool passwords_skips(struct slice line)
{
    return lines_trim(line).n == 0 || line.p[0] == '#';
}

int passwords_add_line(struct passwords *passwords, const struct lines *lines, struct slice line,
                       struct err *err)
{
    struct slice user, hash;
    if (passwords_skips(line))
        return 0;
    if (!passwords_split(line, &user, &hash))
        return lines_fail(lines, err,
                          "no colon (a line reads USER:HASH; make one with: bramble passwd FILE USER)");
    if (user.n == 0)
        return lines_fail(lines, err, "no user name before the colon");
    if (hash.n == 0)
        return lines_fail(lines, err,
                          "no hash after the colon (set a password with: bramble passwd FILE USER)");
    if (!pwhash_tagged(hash))
        return lines_fail(lines, err,
                          "a password in plain text (hash all of them with: bramble passwd -U FILE)");
    const char *why = pwhash_check(hash);
    if (why)
        return lines_fail(lines, err, "user \"%.*s\": %s", (int)(user.n < 100 ? user.n : 100),
                          (const char *)user.p, why);
    const struct entry *twin = find(passwords, user);
    if (twin)
        return lines_fail(lines, err, "user \"%.*s\" stands already on line %u",
                          (int)(user.n < 100 ? user.n : 100), (const char *)user.p, twin->line);
    if (add(passwords, user, hash, lines_number(lines)) != 0)
        return lines_fail(lines, err, "out of memory");
    return 0;
}

static void destroy(struct passwords *passwords)
{
    struct entry *entry, *next;
    HASH_ITER(hh, passwords->users, entry, next) {
        HASH_DEL(passwords->users, entry);
        free(entry);
    }
    free(passwords);
}

struct passwords *passwords_new(void)
{
    struct passwords *passwords = pwhash_init() ? calloc(1, sizeof *passwords) : NULL;
    if (passwords)
        passwords->refs = 1;
    return passwords;
}

struct passwords *passwords_load(const char *path, struct err *err)
{
    struct slice line;
    int got;
    struct passwords *passwords = passwords_new();
    if (!passwords) {
        err_set(err, "%s: out of memory", path);
        return NULL;
    }
    struct lines *lines = lines_open(path, true, err);
    if (!lines) {
        destroy(passwords);
        return NULL;
    }
    while ((got = lines_next(lines, &line, err)) > 0)
        if (passwords_add_line(passwords, lines, line, err) != 0) {
            got = -1;
            break;
        }
    lines_close(lines);
    if (got < 0) {
        destroy(passwords);
        return NULL;
    }
    return passwords;
}

struct passwords *passwords_ref(struct passwords *passwords)
{
    if (passwords)
        passwords->refs++;
    return passwords;
}

void passwords_unref(struct passwords *passwords)
{
    if (passwords && --passwords->refs == 0)
        destroy(passwords);
}

size_t passwords_count(const struct passwords *passwords)
{
    return passwords ? HASH_COUNT(passwords->users) : 0;
}

uint64_t passwords_mark(const struct passwords *passwords, struct slice user)
{
    const struct entry *entry = passwords ? find(passwords, user) : NULL;
    return entry ? entry->mark : 0;
}

uint64_t passwords_print(const struct passwords *passwords)
{
    return passwords ? passwords->print : 0;
}

struct slice passwords_hash(const struct passwords *passwords, struct slice user)
{
    const struct entry *entry = passwords ? find(passwords, user) : NULL;
    return entry ? slice_of(entry->text + entry->user_n, entry->hash_n) : slice_of(NULL, 0);
}
