/*
 * test_hasher.c - the hashing threads: every question is answered once, later, on this thread; a full queue
 * says so.
 */
#include "test/unit/no_memory.h"

#include "auth/pwhash.h"
#include "broker/auth.h"
#include "broker/mailbox.h"
#include "test/unit/auth/files.h"
#include "test/unit/auth/vectors.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

enum { IDS = 512 };

/* Stands for the loop. */
struct desk {
    struct mailbox *mailbox;
    sem_t woken;
    pthread_t thread;
    int answers[IDS];
    enum auth_verdict verdict[IDS];
    int answered;
};

static void wake(void *arg)
{
    sem_post(&((struct desk *)arg)->woken);
}

static void done(void *ctx, uint64_t id, enum auth_verdict verdict)
{
    struct desk *desk = ctx;
    assert_true(pthread_equal(pthread_self(), desk->thread));
    assert_true(id < IDS);
    desk->answers[id]++;
    desk->verdict[id] = verdict;
    desk->answered++;
}

static void desk_open(struct desk *desk)
{
    memset(desk, 0, sizeof *desk);
    sem_init(&desk->woken, 0, 0);
    desk->thread = pthread_self();
    desk->mailbox = mailbox_new(wake, desk);
    assert_non_null(desk->mailbox);
}

static void desk_close(struct desk *desk)
{
    mailbox_free(desk->mailbox);
    sem_destroy(&desk->woken);
}

static void wait_for(struct desk *desk, int answers)
{
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 60;
    while (desk->answered < answers) {
        int rc;
        while ((rc = sem_timedwait(&desk->woken, &limit)) != 0 && errno == EINTR)
            ;
        assert_int_equal(rc, 0);
        mailbox_drain(desk->mailbox);
    }
}

/* The time that an entry of this file takes is what the queue tests rest on: about 0.1 s. */
static const char *slow_entry(void)
{
    static char text[PWHASH_TEXT_MAX];
    assert_int_equal(pwhash_make(PWHASH_PBKDF2, 100000, slice_str("secret"), text), 0);
    return text;
}

static struct passwords *load(void)
{
    char text[2048];
    struct err err = {""};
    snprintf(text, sizeof text, "seven:%s\nsix:%s\nargon:%s\nslow:%s\n", V7_SECRET, V6_SECRET6, VA_SECRET,
             slow_entry());
    files_write(text);
    struct passwords *passwords = passwords_load(files_path, &err);
    if (!passwords)
        fail_msg("%s", err.text);
    return passwords;
}

static void ask(struct desk *desk, struct hasher *hasher, struct passwords *passwords, const char *user,
                const char *password, uint64_t id)
{
    /* Copies that are gone right after the call: nothing of them may be needed later. */
    char *u = strdup(user), *p = password ? strdup(password) : NULL;
    int before = desk->answered;
    hasher_verify(hasher, passwords, slice_str(u), slice_str(p), done, desk, id);
    assert_int_equal(desk->answered, before);
    if (p)
        memset(p, 'X', strlen(p));
    free(u);
    free(p);
}

static void verdicts(void **state)
{
    (void)state;
    static const struct {
        const char *user, *password;
        enum auth_verdict verdict;
    } questions[] = {
        {"seven", "secret", AUTH_ALLOWED}, {"seven", "secreT", AUTH_DENIED},
        {"seven", "", AUTH_DENIED},        {"seven", NULL, AUTH_DENIED},
        {"six", "secret6", AUTH_ALLOWED},  {"six", "secret", AUTH_DENIED},
        {"argon", "secret", AUTH_ALLOWED}, {"argon", "secre", AUTH_DENIED},
        {"nobody", "secret", AUTH_DENIED}, {"", "secret", AUTH_DENIED},
        {"", NULL, AUTH_DENIED},           {"slow", "secret", AUTH_ALLOWED},
    };
    enum { N = sizeof questions / sizeof *questions };
    struct desk desk;
    desk_open(&desk);
    struct hasher *hasher = hasher_new(desk.mailbox, 2, N);
    struct passwords *passwords = load();
    for (uint64_t i = 0; i < N; i++)
        ask(&desk, hasher, passwords, questions[i].user, questions[i].password, i);
    passwords_unref(passwords); /* not needed after the calls */
    wait_for(&desk, N);
    for (int i = 0; i < N; i++) {
        assert_int_equal(desk.answers[i], 1);
        assert_int_equal(desk.verdict[i], questions[i].verdict);
    }
    hasher_verify(hasher, NULL, slice_str("seven"), slice_str("secret"), done, &desk, 100);
    wait_for(&desk, N + 1);
    assert_int_equal(desk.verdict[100], AUTH_DENIED);
    hasher_free(hasher);
    desk_close(&desk);
}

/* An empty password that was hashed as such is one; no password at all is none. */
static void no_password(void **state)
{
    (void)state;
    char hash[PWHASH_TEXT_MAX], text[PWHASH_TEXT_MAX + 16];
    struct err err;
    struct desk desk;
    assert_int_equal(pwhash_make(PWHASH_SHA512, 0, slice_str(""), hash), 0);
    snprintf(text, sizeof text, "alice:%s\n", hash);
    files_write(text);
    struct passwords *passwords = passwords_load(files_path, &err);
    assert_non_null(passwords);
    desk_open(&desk);
    struct hasher *hasher = hasher_new(desk.mailbox, 1, 4);
    ask(&desk, hasher, passwords, "alice", "", 0);
    ask(&desk, hasher, passwords, "alice", NULL, 1);
    wait_for(&desk, 2);
    assert_int_equal(desk.verdict[0], AUTH_ALLOWED);
    assert_int_equal(desk.verdict[1], AUTH_DENIED);
    passwords_unref(passwords);
    hasher_free(hasher);
    desk_close(&desk);
}

static void queue_full(void **state)
{
    (void)state;
    enum { N = 60, QUEUE = 3 };
    int allowed = 0, unavailable = 0;
    struct desk desk;
    desk_open(&desk);
    struct hasher *hasher = hasher_new(desk.mailbox, 1, QUEUE);
    struct passwords *passwords = load();
    for (uint64_t i = 0; i < N; i++)
        ask(&desk, hasher, passwords, "slow", "secret", i);
    wait_for(&desk, N);
    for (int i = 0; i < N; i++) {
        assert_int_equal(desk.answers[i], 1);
        allowed += desk.verdict[i] == AUTH_ALLOWED;
        unavailable += desk.verdict[i] == AUTH_UNAVAILABLE;
    }
    assert_int_equal(allowed + unavailable, N);
    assert_true(allowed >= QUEUE);
    assert_true(unavailable >= N / 2);
    assert_int_equal(desk.verdict[0], AUTH_ALLOWED);

    ask(&desk, hasher, passwords, "seven", "secret", N); /* there is room again */
    wait_for(&desk, N + 1);
    assert_int_equal(desk.verdict[N], AUTH_ALLOWED);
    passwords_unref(passwords);
    hasher_free(hasher);
    desk_close(&desk);
}

static void under_load(void **state)
{
    (void)state;
    static const char *const users[] = {"seven", "argon", "six", "seven"};
    static const char *const passwords_of[] = {"secret", "secret", "secret6", "wrong"};
    struct desk desk;
    desk_open(&desk);
    struct hasher *hasher = hasher_new(desk.mailbox, 4, IDS);
    struct passwords *passwords = load();
    for (uint64_t i = 0; i < IDS; i++) {
        ask(&desk, hasher, passwords, users[i % 4], passwords_of[i % 4], i);
        if (i % 16 == 0)
            mailbox_drain(desk.mailbox);
    }
    wait_for(&desk, IDS);
    for (int i = 0; i < IDS; i++) {
        assert_int_equal(desk.answers[i], 1);
        assert_int_equal(desk.verdict[i], i % 4 == 3 ? AUTH_DENIED : AUTH_ALLOWED);
    }
    passwords_unref(passwords);
    hasher_free(hasher);
    desk_close(&desk);
}

/* What waits is dropped without an answer, what was answered is still delivered; nothing leaks. */
static void freed_under_load(void **state)
{
    (void)state;
    struct desk desk;
    desk_open(&desk);
    struct hasher *hasher = hasher_new(desk.mailbox, 2, 20);
    struct passwords *passwords = load();
    for (uint64_t i = 0; i < 40; i++)
        ask(&desk, hasher, passwords, "slow", "secret", i);
    hasher_free(hasher);
    assert_int_equal(desk.answered, 0);
    mailbox_drain(desk.mailbox);
    assert_true(desk.answered >= 16 && desk.answered < 40); /* the refusals, and what the workers had begun */
    passwords_unref(passwords);
    desk_close(&desk);
    hasher_free(NULL);
}

/* A start is whole or none. */
static void no_start_without_memory(void **state)
{
    (void)state;
    struct desk desk;
    desk_open(&desk);
    int failed = 1, n = 0;
    for (; failed > 0; n++) {
        memory_fails(n, 1);
        struct hasher *hasher = hasher_new(desk.mailbox, 2, 1);
        failed = memory_calm();
        assert_int_equal(hasher == NULL, failed);
        hasher_free(hasher);
    }
    assert_true(n > 3);
    desk_close(&desk);
}

/* As long as there are answers set aside nobody waits in vain, and nobody is let in. */
static void without_memory_the_answer_is_unavailable(void **state)
{
    (void)state;
    struct desk desk;
    desk_open(&desk);
    struct hasher *hasher = hasher_new(desk.mailbox, 1, IDS);
    struct passwords *passwords = load();
    int answered = 1, asked = 0;
    memory_fails(0, ALL_OF_THEM);
    while (answered == 1) {
        assert_true(asked < IDS / 2);
        ask(&desk, hasher, passwords, "seven", "secret", (uint64_t)asked);
        mailbox_drain(desk.mailbox);
        answered = desk.answers[asked++];
    }
    assert_int_equal(desk.answered, asked - 1); /* the connection without an answer ends by connect_timeout */
    assert_true(asked > 20);
    for (int i = 0; i < asked - 1; i++)
        assert_int_equal(desk.verdict[i], AUTH_UNAVAILABLE);
    memory_calm();
    ask(&desk, hasher, passwords, "seven", "secret", (uint64_t)asked);
    wait_for(&desk, asked);
    assert_int_equal(desk.verdict[asked], AUTH_ALLOWED);
    memory_fails(0, ALL_OF_THEM); /* and there is an answer set aside again */
    ask(&desk, hasher, passwords, "seven", "secret", (uint64_t)asked + 1);
    memory_calm();
    wait_for(&desk, asked + 1);
    assert_int_equal(desk.verdict[asked + 1], AUTH_UNAVAILABLE);
    passwords_unref(passwords);
    hasher_free(hasher);
    desk_close(&desk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts),
        cmocka_unit_test(no_password),
        cmocka_unit_test(queue_full),
        cmocka_unit_test(under_load),
        cmocka_unit_test(freed_under_load),
        cmocka_unit_test(no_start_without_memory),
        cmocka_unit_test(without_memory_the_answer_is_unavailable),
    };
    return pwhash_init() ? cmocka_run_group_tests(tests, files_make, files_remove) : 1;
}
