/*
 * test_passwd_file.c - a change of the password file is one step, wherever it is cut.
 *
 * The functions that make a file last are stood in for, below: each notes its letter, and the one that a test
 * names kills the process or fails. rename() also looks whether all that goes into the file's place has been
 * through fsync(): what a power cut would take is seen without one.
 */
#include "test/unit/auth/files.h"
#include "test/unit/auth/vectors.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { NEVER = -1, KILLED = 77 };

static struct {
    char steps[32];
    int n;
    int kill_at, fail_at;
    off_t synced; /* size of the new file at its fsync */
} trace;

/* True: this one fails. */
static bool step(char letter)
{
    assert_true(trace.n < (int)sizeof trace.steps - 1);
    if (trace.n == trace.kill_at)
        _exit(KILLED);
    trace.steps[trace.n] = letter;
    errno = ENOSPC;
    return trace.n++ == trace.fail_at;
}

static int make_traced(char *name, int flags)
{
    return step('o') ? -1 : mkostemp(name, flags);
}

static int flush_traced(FILE *file)
{
    return step('w') ? EOF : fflush(file);
}

static int chmod_traced(int fd, mode_t mode)
{
    return step('m') ? -1 : fchmod(fd, mode);
}

static int sync_traced(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    if (step(S_ISDIR(st.st_mode) ? 'F' : 's'))
        return -1;
    if (S_ISREG(st.st_mode))
        trace.synced = st.st_size;
    return fsync(fd);
}

static int close_traced(FILE *file)
{
    bool fails = step('c');
    return fclose(file) != 0 || fails ? EOF : 0;
}

static int rename_traced(const char *from, const char *to)
{
    struct stat st;
    assert_int_equal(stat(from, &st), 0);
    assert_true(st.st_size > 0);
    assert_int_equal(st.st_size, trace.synced);
    return step('r') ? -1 : rename(from, to);
}

#define mkostemp(name, flags) make_traced(name, flags)
#define fflush(file)          flush_traced(file)
#define fchmod(fd, mode)      chmod_traced(fd, mode)
#define fsync(fd)             sync_traced(fd)
#define fclose(file)          close_traced(file)
#define rename(from, to)      rename_traced(from, to)
#include "auth/passwd_file.c"
#undef mkostemp
#undef fflush
#undef fchmod
#undef fsync
#undef fclose
#undef rename

static const char before[] = "alice:" V7_SECRET "\nbob:" V6_SECRET6 "\n";
static const char after[] = "alice:" VT_TOKEN "\nbob:" V6_SECRET6 "\n";

static int change(int kill_at, int fail_at, struct err *err)
{
    memset(&trace, 0, sizeof trace);
    trace.kill_at = kill_at;
    trace.fail_at = fail_at;
    return passwd_file_set(files_path, PASSWD_FILE_MUST_EXIST, "alice", VT_TOKEN, err);
}

/* How many files are in the folder beside the file itself; they are removed. Each is for the owner alone. */
static int litter(void)
{
    int n = 0;
    DIR *folder = opendir(files_folder);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        struct stat st;
        if (entry->d_type != DT_REG || strcmp(entry->d_name, "file") == 0)
            continue;
        assert_int_equal(fstatat(dirfd(folder), entry->d_name, &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(unlinkat(dirfd(folder), entry->d_name, 0), 0);
        n++;
    }
    closedir(folder);
    return n;
}

static void expect_file(const char *text)
{
    char *found = files_read();
    assert_string_equal(found, text);
    free(found);
}

static void in_this_order(void **state)
{
    (void)state;
    struct err err = {""};
    files_write(before);
    assert_int_equal(change(NEVER, NEVER, &err), 0);
    assert_string_equal(trace.steps, "owmscrF");
    expect_file(after);
    unlink(files_path);
    memset(&trace, 0, sizeof trace);
    trace.kill_at = trace.fail_at = NEVER;
    assert_int_equal(passwd_file_set(files_path, PASSWD_FILE_MAY_CREATE, "alice", VT_TOKEN, &err), 0);
    assert_string_equal(trace.steps, "owscrF");
    expect_file("alice:" VT_TOKEN "\n");
    assert_int_equal(litter(), 0);
}

/* Killed before each step: the old file until the rename is done, then the new one. */
static void killed_anywhere(void **state)
{
    (void)state;
    static const char steps[] = "owmscrF";
    for (int at = 0; at < (int)strlen(steps); at++) {
        struct err err = {""};
        int status;
        files_write(before);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(change(at, NEVER, &err) == 0 ? 1 : 2);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), KILLED);
        expect_file(steps[at] == 'F' ? after : before);
        assert_int_equal(litter(), steps[at] != 'o' && steps[at] != 'F');
    }
}

/* Each step fails: the old file and a reason; only the folder's fsync comes too late to take it back. */
static void fails_anywhere(void **state)
{
    (void)state;
    static const char steps[] = "owmscrF";
    for (int at = 0; at < (int)strlen(steps); at++) {
        struct err err = {""};
        files_write(before);
        assert_int_equal(change(NEVER, at, &err), -1);
        assert_int_equal(trace.steps[at], steps[at]);
        assert_non_null(strstr(err.text, "No space left"));
        assert_non_null(strstr(err.text, files_folder));
        expect_file(steps[at] == 'F' ? after : before);
        assert_int_equal(litter(), 0);
    }
}

/* In a child that may write files of this size only. Either it is killed in the midst of a write, or the
 * write fails, as on a full disk. */
static int change_within(rlim_t size, bool is_killed)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct err err = {""};
        struct rlimit limit = {size, size}, no_core = {0, 0};
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || setrlimit(RLIMIT_CORE, &no_core) != 0)
            _exit(100);
        signal(SIGXFSZ, is_killed ? SIG_DFL : SIG_IGN);
        _exit(change(NEVER, NEVER, &err) == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(is_killed ? WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ : WIFEXITED(status));
    return is_killed ? 1 : WEXITSTATUS(status);
}

static void cut_in_a_write(void **state)
{
    (void)state;
    enum { USERS = 200 };
    char *text = calloc(USERS + 2, sizeof before);
    assert_non_null(text);
    size_t n = strlen(strcpy(text, before));
    for (int i = 0; i < USERS; i++)
        n += (size_t)sprintf(text + n, "user%d:" V7_SECRET "\n", i);
    files_write(text);
    for (rlim_t size = 0; size < n - 100; size += 1009) {
        assert_int_equal(change_within(size, true), 1);
        expect_file(text);
        assert_int_equal(litter(), 1);
        assert_int_equal(change_within(size, false), 1);
        expect_file(text);
        assert_int_equal(litter(), 0);
    }
    assert_int_equal(change_within(n, false), 0);
    char *found = files_read();
    assert_int_equal(strncmp(found, after, strlen(after)), 0);
    assert_string_equal(found + strlen(after), text + strlen(before));
    free(found);
    free(text);
}

/* What a broker would refuse is refused here too, by its line; but the line that is changed may be anything.
 */
static void refuses_bad_lines(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned line;
        const char *reason;
    } bad[] = {
        {"alice:" V7_SECRET "\nbob\n", 2, "no colon"},
        {"alice:" V7_SECRET "\n:" V7_SECRET "\n", 2, "no user name"},
        {"carol:\nalice:" V7_SECRET "\n", 1, "no hash"},
        {"alice:" V7_SECRET "\nbob:plain\n", 2, "bramble passwd -U"},
        {"alice:" V7_SECRET "\nbob:$7$101$x$y\n", 2, "salt"},
        {"bob:" V7_SECRET "\nalice:" V7_SECRET "\nbob:" VT_TOKEN "\n", 3, "stands already on line 1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int deletes = 0; deletes <= 1; deletes++) {
            struct err err = {""};
            files_write(bad[i].text);
            trace.n = 0;
            trace.kill_at = trace.fail_at = NEVER;
            assert_int_equal(
                deletes ? passwd_file_delete(files_path, "alice", &err) : change(NEVER, NEVER, &err), -1);
            files_expect(err.text, bad[i].line, bad[i].reason);
            expect_file(bad[i].text);
            assert_int_equal(litter(), 0);
        }
    struct err err = {""};
    static const char *const mended[] = {"alice:\nbob:" V6_SECRET6, "alice:$7$damaged\nbob:" V6_SECRET6 "\n",
                                         "alice:plain\nbob:" V6_SECRET6 "\nalice:" V7_SECRET "\n"};
    for (size_t i = 0; i < sizeof mended / sizeof *mended; i++) {
        files_write(mended[i]);
        assert_int_equal(change(NEVER, NEVER, &err), 0);
        expect_file(after);
    }
}

/* -U looks at what it leaves alone, too. */
static void upgrade_refuses_a_double_user(void **state)
{
    (void)state;
    static const char *const bad[] = {"alice:x\nalice:y\n", "alice:" VT_TOKEN "\nalice:y\n",
                                      "alice:x\nalice:" VT_TOKEN "\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err = {""};
        files_write(bad[i]);
        trace.n = 0;
        assert_int_equal(passwd_file_upgrade(files_path, PWHASH_SHA512, 0, &err), -1);
        files_expect(err.text, 2, "user \"alice\" stands already on line 1");
        expect_file(bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_this_order),     cmocka_unit_test(killed_anywhere),
        cmocka_unit_test(fails_anywhere),    cmocka_unit_test(cut_in_a_write),
        cmocka_unit_test(refuses_bad_lines), cmocka_unit_test(upgrade_refuses_a_double_user),
    };
    return cmocka_run_group_tests(tests, files_make, files_remove);
}
