/*
 * test_passwords.c - the password file: what is read, what is refused and where, and that no half file is
 * ever taken.
 */
#include "test/unit/no_memory.h"

#include "auth/passwords.h"
#include "auth/pwhash.h"
#include "test/unit/auth/files.h"
#include "test/unit/auth/vectors.h"
#include "test/unit/sweep.h"

static struct passwords *load(const char *text)
{
    struct err err = {""};
    files_write(text);
    struct passwords *passwords = passwords_load(files_path, &err);
    if (!passwords)
        fail_msg("%s", err.text);
    return passwords;
}

static void reads(void **state)
{
    (void)state;
    struct passwords *passwords = load("# made by hand\n"
                                       "\n"
                                       "alice:" V7_SECRET "\n"
                                       "  bob mit Leer \t:  " V6_SECRET6 "  \r\n"
                                       "#eve:secret\n"
                                       " \t \r\n"
                                       "c#:" VA_SECRET "\n"
                                       "Grüße:" VA_SECRET21); /* no newline at the end */
    assert_int_equal(passwords_count(passwords), 4);
    assert_true(slice_eq(passwords_hash(passwords, slice_str("alice")), slice_str(V7_SECRET)));
    assert_true(slice_eq(passwords_hash(passwords, slice_str("bob mit Leer")), slice_str(V6_SECRET6)));
    assert_true(slice_eq(passwords_hash(passwords, slice_str("c#")), slice_str(VA_SECRET)));
    assert_true(slice_eq(passwords_hash(passwords, slice_str("Grüße")), slice_str(VA_SECRET21)));
    static const char *const nobody[] = {"", "alic", "alice ", "Alice", "eve", "#eve", "alice:", "bob"};
    for (size_t i = 0; i < sizeof nobody / sizeof *nobody; i++)
        assert_int_equal(passwords_hash(passwords, slice_str(nobody[i])).n, 0);
    assert_int_equal(passwords_hash(passwords, slice_of("alice\0", 6)).n, 0);
    passwords_unref(passwords);
}

static void empty(void **state)
{
    (void)state;
    struct passwords *passwords = load("");
    assert_int_equal(passwords_count(passwords), 0);
    assert_int_equal(passwords_mark(passwords, slice_str("alice")), 0);
    passwords_unref(passwords);
    assert_int_equal(passwords_count(NULL), 0);
    assert_int_equal(passwords_mark(NULL, slice_str("alice")), 0);
    passwords_unref(NULL);
}

static void refuse(const char *text, size_t n, unsigned line, const char *reason)
{
    struct err err = {""};
    files_write_n(text, n);
    assert_null(passwords_load(files_path, &err));
    files_expect(err.text, line, reason);
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned line;
        const char *reason;
    } bad[] = {
        {"alice:secret\n", 1, "bramble passwd -U"},
        {"\n\nalice:secret", 3, "plain text"},
        {"alice:" V7_SECRET "\n# x\nbob\n", 3, "no colon"},
        {"bob", 1, "no colon"},
        {"alice:" V7_SECRET "\n:" V7_SECRET "\n", 2, "no user name"},
        {" \t:" V7_SECRET "\n", 1, "no user name"},
        {"alice:\n", 1, "no hash"},
        {"alice:  \r\n", 1, "no hash"},
        {"alice:" V7_SECRET "\nbob:" V6_SECRET6 "\nalice:" V6_SECRET6 "\n", 3, "line 1"},
        {"alice:" V7_SECRET "\nalice :" V7_SECRET "\n", 2, "\"alice\""},
        {"alice:$7$101$x$y\n", 1, "salt"},
        {"alice:" V7_SECRET ":more\n", 1, "\"alice\""},
        {"alice:$7$10000001$TPYmNjg5ihf6b+/w$AAAA\n", 1, "10 million"},
        {"alice:$argon2id$v=19$m=300000,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAA\n", 1, "256 MiB"},
        {"alice:$1$abc$def\n", 1, "unknown kind"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuse(bad[i].text, strlen(bad[i].text), bad[i].line, bad[i].reason);
    static const char zero[] = "alice:" V7_SECRET "\nbo\0b:" V7_SECRET "\n";
    refuse(zero, sizeof zero - 1, 2, "zero byte");
}

static void long_lines(void **state)
{
    (void)state;
    struct err err = {""};
    size_t n = 65537;
    char *text = malloc(n + 1);
    assert_non_null(text);
    memset(text, 'x', n);
    text[0] = '#';
    text[n] = 0;
    refuse(text, n, 1, "too long");
    files_write_n(text, n - 1); /* a comment of the longest length */
    struct passwords *passwords = passwords_load(files_path, &err);
    assert_non_null(passwords);
    passwords_unref(passwords);
    memset(text, 'x', n); /* a long name is shown by its beginning */
    memcpy(text + 200, ":$1$", 4);
    refuse(text, 204, 1, "xxx\": unknown kind");
    int twice = snprintf(text, n, "%0200d:" V7_SECRET "\n%0200d:" V7_SECRET "\n", 0, 0);
    refuse(text, (size_t)twice, 2, "000\" stands already on line 1");
    free(text);
}

static void not_a_file(void **state)
{
    (void)state;
    struct err err = {""};
    unlink(files_path);
    assert_null(passwords_load(files_path, &err));
    assert_non_null(strstr(err.text, "No such file"));
    assert_null(passwords_load(files_folder, &err));
    assert_non_null(strstr(err.text, "not a file"));
    assert_int_equal(mkfifo(files_path, 0600), 0);
    assert_null(passwords_load(files_path, &err)); /* and does not wait for a writer */
    assert_non_null(strstr(err.text, "not a file"));
    unlink(files_path);
    assert_null(passwords_load("/dev/zero", NULL));
}

/* A file cut anywhere is refused, or holds whole entries only. */
static void cut_anywhere(void **state)
{
    (void)state;
    static const char *const users[] = {"alice", "bob", "carol"};
    static const char *const hashes[] = {V7_SECRET, VA_SECRET, V6_SECRET6};
    char text[1024];
    size_t ends[3], n = 0;
    for (int i = 0; i < 3; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, "%s:%s", users[i], hashes[i]);
        ends[i] = n;
        text[n++] = '\n';
    }
    for (size_t cut = 0; cut <= n; cut++) {
        struct err err = {""};
        files_write_n(text, cut);
        struct passwords *passwords = passwords_load(files_path, &err);
        size_t whole = 0;
        while (whole < 3 && ends[whole] <= cut)
            whole++;
        bool between = cut == 0 || (whole && (cut == ends[whole - 1] || cut == ends[whole - 1] + 1));
        if (between != (passwords != NULL))
            fail_msg("cut after %zu of %zu bytes: %s", cut, n, passwords ? "accepted" : err.text);
        assert_int_equal(passwords_count(passwords), between ? whole : 0);
        if (!passwords)
            files_expect(err.text, (unsigned)whole + 1, "");
        passwords_unref(passwords);
    }
}

/* A damaged line refuses the file, or is somebody else's or another password: never a user without one, and
 * never a password that was not there. */
static void check_damaged(const char *bytes, size_t n, size_t at)
{
    struct err err = {""};
    files_write_n(bytes, n);
    struct passwords *passwords = passwords_load(files_path, &err);
    if (!passwords) {
        files_expect(err.text, (unsigned)strtoul(err.text + strlen(files_path) + 1, NULL, 10), "");
        assert_null(strstr(err.text, &(V7_SECRET)[7])); /* nothing of a hash */
        return;
    }
    struct slice hash = passwords_hash(passwords, slice_str("alice"));
    if (hash.n)
        assert_null(pwhash_check(hash));
    assert_int_equal(passwords_hash(passwords, slice_str("")).n, 0);
    assert_true(passwords_count(passwords) <= 3);
    if (at > strlen("alice:" V7_SECRET "\n"))
        assert_true(slice_eq(hash, slice_str(V7_SECRET)));
    passwords_unref(passwords);
}

static void damaged_anywhere(void **state)
{
    (void)state;
    static const char text[] = "alice:" V7_SECRET "\nbob:" VA_SECRET "\n# carol\ncarol:" V6_SECRET6 "\n";
    sweep_bytes(text, strlen(text), 3, check_damaged);
    sweep_cuts(text, strlen(text), 1, check_damaged);
}

static void marks(void **state)
{
    (void)state;
    struct slice alice = slice_str("alice"), bob = slice_str("bob");
    struct passwords *one = load("alice:" V7_SECRET "\nbob:" V6_SECRET6 "\n");
    struct passwords *two = load("# moved\nbob:" V6_SECRET6 "\r\nalice: " VA_SECRET "\n");
    struct passwords *three = load("bob:" V7_SECRET "\n");
    assert_int_not_equal(passwords_mark(one, alice), 0);
    assert_int_not_equal(passwords_mark(one, alice), passwords_mark(one, bob));
    assert_int_not_equal(passwords_mark(one, alice), passwords_mark(two, alice));
    assert_true(passwords_mark(one, bob) == passwords_mark(two, bob));
    assert_true(passwords_mark(three, alice) == 0);
    assert_int_not_equal(passwords_mark(three, bob), passwords_mark(one, bob));
    passwords_unref(one);
    passwords_unref(two);
    passwords_unref(three);
}

static void references(void **state)
{
    (void)state;
    struct passwords *passwords = load("alice:" V7_SECRET "\n");
    assert_ptr_equal(passwords_ref(passwords), passwords);
    passwords_unref(passwords);
    assert_int_equal(passwords_count(passwords), 1);
    passwords_unref(passwords); /* and the leak checker agrees */
    assert_null(passwords_ref(NULL));
}

static void many(void **state)
{
    (void)state;
    struct err err = {""};
    FILE *file = fopen(files_path, "w");
    assert_non_null(file);
    for (int i = 0; i < 20000; i++)
        fprintf(file, "user%d:%s\n", i, i % 2 ? V7_SECRET : VA_SECRET);
    fclose(file);
    struct passwords *passwords = passwords_load(files_path, &err);
    assert_non_null(passwords);
    assert_int_equal(passwords_count(passwords), 20000);
    for (int i = 0; i < 20001; i++) {
        char name[16];
        snprintf(name, sizeof name, "user%d", i);
        assert_int_equal(passwords_mark(passwords, slice_str(name)) != 0, i < 20000);
    }
    passwords_unref(passwords);
}

/* All users or none: each allocation fails once. */
static void no_half_file_without_memory(void **state)
{
    (void)state;
    char text[4096] = "";
    for (int i = 0; i < 20; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "user%d:" V7_SECRET "\n", i);
    files_write(text);
    int failed = 1, n = 0;
    for (; failed > 0; n++) {
        struct err err = {""};
        memory_fails(n, 1);
        struct passwords *passwords = passwords_load(files_path, &err);
        failed = memory_calm();
        assert_int_equal(passwords_count(passwords), failed ? 0 : 20);
        assert_int_equal(strstr(err.text, "memory") != NULL, failed);
        passwords_unref(passwords);
    }
    assert_true(n > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(empty),
        cmocka_unit_test(refuses),
        cmocka_unit_test(long_lines),
        cmocka_unit_test(not_a_file),
        cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(damaged_anywhere),
        cmocka_unit_test(marks),
        cmocka_unit_test(references),
        cmocka_unit_test(many),
        cmocka_unit_test(no_half_file_without_memory),
    };
    return cmocka_run_group_tests(tests, files_make, files_remove);
}
