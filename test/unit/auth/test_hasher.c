/*
 * test_hasher.c - the hashing threads: every question is answered once, later, on this thread; addresses take
 * turns; a full queue says so; what was verified before needs no thread.
 */
#include "test/unit/no_memory.h"

#include "auth/pwhash.h"
#include "auth/waiting.h"
#include "broker/auth.h"
#include "broker/clock.h"
#include "broker/counters.h"
#include "broker/mailbox.h"
#include "test/unit/auth/files.h"
#include "test/unit/auth/vectors.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

enum { IDS = 2048 };

/* Stands for the loop. */
struct desk {
    struct mailbox *mailbox;
    sem_t woken;
    pthread_t thread;
    int answers[IDS];
    enum auth_verdict verdict[IDS];
    int answered;
    int order[IDS]; /* when it came, counted from 1 */
    struct counters counters;
    const char *from; /* the address that asks; NULL: 192.0.2.1 */
    int64_t patience; /* ms; 0: a minute */
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
    desk->order[id] = ++desk->answered;
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

static struct hasher *open_hasher(struct desk *desk, int threads, size_t cache)
{
    return hasher_new(desk->mailbox, &(struct hasher_options){threads, 2, cache, &desk->counters});
}

static void ask(struct desk *desk, struct hasher *hasher, struct passwords *passwords, const char *user,
                const char *password, uint64_t id)
{
    /* Copies that are gone right after the call: nothing of them may be needed later. */
    char *u = strdup(user), *p = password ? strdup(password) : NULL;
    struct principal who = {.user = u, .listener = 0};
    int before = desk->answered;
    snprintf(who.address, sizeof who.address, "%s", desk->from ? desk->from : "192.0.2.1");
    struct auth_question question = {
        .who = &who, .password = slice_str(p), .done = done, .ctx = desk, .id = id};
    question.until = clock_ms() + (desk->patience ? desk->patience : 60000);
    hasher_verify(hasher, passwords, &question);
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
    struct hasher *hasher = open_hasher(&desk, 2, 0);
    struct passwords *passwords = load();
    for (uint64_t i = 0; i < N; i++)
        ask(&desk, hasher, passwords, questions[i].user, questions[i].password, i);
    passwords_unref(passwords); /* not needed after the calls */
    wait_for(&desk, N);
    for (int i = 0; i < N; i++) {
        assert_int_equal(desk.answers[i], 1);
        assert_int_equal(desk.verdict[i], questions[i].verdict);
    }
    ask(&desk, hasher, NULL, "seven", "secret", 100);
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
    struct hasher *hasher = open_hasher(&desk, 1, 16);
    ask(&desk, hasher, passwords, "alice", "", 0);
    ask(&desk, hasher, passwords, "alice", NULL, 1);
    wait_for(&desk, 2);
    assert_int_equal(desk.verdict[0], AUTH_ALLOWED);
    assert_int_equal(desk.verdict[1], AUTH_DENIED);
    passwords_unref(passwords);
    hasher_free(hasher);
    desk_close(&desk);
}

/* One address may fill its share and no more; another gets in, and when some are done there is room again. */
static void queue_full(void **state)
{
    (void)state;
    enum { N = WAITING_ADDRESS + 20 };
    int unavailable = 0;
    struct desk desk;
    desk_open(&desk);
    struct hasher *hasher = open_hasher(&desk, 1, 0);
    struct passwords *passwords = load();
    desk.patience = 200;
    for (uint64_t i = 0; i < N; i++)
        ask(&desk, hasher, passwords, "slow", "secret", i);
    mailbox_drain(desk.mailbox);
    for (int i = 0; i < N; i++)
        unavailable += desk.answers[i] && desk.verdict[i] == AUTH_UNAVAILABLE;
    assert_true(unavailable >= 1);
    desk.from = "192.0.2.2";
    desk.patience = 0;
    ask(&desk, hasher, passwords, "seven", "secret", N);
    wait_for(&desk, N + 1);
    assert_int_equal(desk.verdict[N], AUTH_ALLOWED);
    for (int i = 0; i < N; i++)
        assert_int_equal(desk.answers[i], 1);

    desk.from = NULL;
    ask(&desk, hasher, passwords, "seven", "secret", N + 1);
    wait_for(&desk, N + 2);
    assert_int_equal(desk.verdict[N + 1], AUTH_ALLOWED);
    passwords_unref(passwords);
    hasher_free(hasher);
    desk_close(&desk);
}

/* A hundred of one address wait when one of another comes: it is not behind them. (That it is behind no more
 * than one for each thread is for test_waiting.c to show; here the machine may be slow.) */
static void a_flood_from_one_address_holds_nobody_else_up(void **state)
{
    (void)state;
    enum { FLOOD = 100, THREADS = 2 };
    struct desk desk;
    desk_open(&desk);
    struct hasher *hasher = open_hasher(&desk, THREADS, 0);
    struct passwords *passwords = load();
    for (uint64_t i = 0; i < FLOOD; i++)
        ask(&desk, hasher, passwords, "slow", "wrong", i);
    desk.from = "192.0.2.2";
    ask(&desk, hasher, passwords, "six", "secret6", FLOOD);
    while (!desk.answers[FLOOD])
        wait_for(&desk, desk.answered + 1);
    assert_true(desk.order[FLOOD] <= FLOOD / 2);
    passwords_unref(passwords);
    hasher_free(hasher);
    desk_close(&desk);
}

/* For whom nobody waits any more no thread works. */
static void who_gave_up_waiting_costs_nothing(void **state)
{
    (void)state;
    struct desk desk;
    desk_open(&desk);
    struct hasher *hasher = open_hasher(&desk, 1, 0);
    struct passwords *passwords = load();
    desk.patience = -1;
    ask(&desk, hasher, passwords, "seven", "secret", 0);
    wait_for(&desk, 1);
    assert_int_equal(desk.verdict[0], AUTH_UNAVAILABLE);
    passwords_unref(passwords);
    hasher_free(hasher);
    desk_close(&desk);
}

/* The answer comes although the one thread is busy: it was not asked. */
static void a_password_that_was_verified_is_known_again(void **state)
{
    (void)state;
    struct desk desk;
    desk_open(&desk);
    struct hasher *hasher = open_hasher(&desk, 1, 64);
    struct passwords *passwords = load();
    ask(&desk, hasher, passwords, "seven", "wrong", 0);
    ask(&desk, hasher, passwords, "seven", "secret", 1);
    wait_for(&desk, 2);
    assert_int_equal(desk.counters.logins_cached, 0);
    for (uint64_t i = 2; i < 6; i++)
        ask(&desk, hasher, passwords, "slow", "secret", i); /* some tenths of a second */
    ask(&desk, hasher, passwords, "seven", "secret", 6);
    assert_int_equal(desk.counters.logins_cached, 1);
    wait_for(&desk, 3);
    assert_true(desk.answers[6]);
    assert_int_equal(desk.verdict[6], AUTH_ALLOWED);
    ask(&desk, hasher, passwords, "seven", "wrong", 7); /* what was wrong is not kept */
    ask(&desk, hasher, passwords, "seven", NULL, 8);
    assert_int_equal(desk.counters.logins_cached, 1);
    wait_for(&desk, 9);
    assert_int_equal(desk.verdict[7], AUTH_DENIED);
    assert_int_equal(desk.verdict[8], AUTH_DENIED);
    hasher_forget(hasher);
    ask(&desk, hasher, passwords, "seven", "secret", 9);
    assert_int_equal(desk.counters.logins_cached, 1);
    wait_for(&desk, 10);
    assert_int_equal(desk.verdict[9], AUTH_ALLOWED);
    passwords_unref(passwords);
    hasher_free(hasher);
    desk_close(&desk);
}

/* The password's change ends it, without a word to the hasher. */
static void another_entry_is_not_known(void **state)
{
    (void)state;
    char hash[PWHASH_TEXT_MAX], text[PWHASH_TEXT_MAX + 16];
    struct err err;
    struct desk desk;
    desk_open(&desk);
    struct hasher *hasher = open_hasher(&desk, 1, 64);
    struct passwords *passwords = load();
    ask(&desk, hasher, passwords, "seven", "secret", 0);
    wait_for(&desk, 1);
    uint64_t print = passwords_print(passwords);
    passwords_unref(passwords);
    assert_int_equal(pwhash_make(PWHASH_SHA512, 0, slice_str("other"), hash), 0);
    snprintf(text, sizeof text, "seven:%s\n", hash);
    files_write(text);
    passwords = passwords_load(files_path, &err);
    assert_non_null(passwords);
    assert_true(passwords_print(passwords) != print && passwords_print(NULL) == 0);
    ask(&desk, hasher, passwords, "seven", "secret", 1);
    wait_for(&desk, 2);
    assert_int_equal(desk.verdict[1], AUTH_DENIED);
    assert_int_equal(desk.counters.logins_cached, 0);
    passwords_unref(passwords);
    hasher_free(hasher);
    desk_close(&desk);
}

/* Device tokens: the answer does not wait for the thread, whatever it is; an ordinary password for a token's
 * entry does, as if there were no such user. */
static void tokens_need_no_thread(void **state)
{
    (void)state;
    char token[PWHASH_TOKEN_LEN + 1], other[PWHASH_TOKEN_LEN + 1], hash[PWHASH_TEXT_MAX], text[1024];
    struct err err;
    struct desk desk;
    desk_open(&desk);
    pwhash_new_token(token);
    pwhash_new_token(other);
    assert_int_equal(pwhash_make(PWHASH_TOKEN, 0, slice_str(token), hash), 0);
    snprintf(text, sizeof text, "device:%s\nslow:%s\n", hash, slow_entry());
    files_write(text);
    struct passwords *passwords = passwords_load(files_path, &err);
    struct hasher *hasher = open_hasher(&desk, 1, 64);
    assert_non_null(passwords);
    for (uint64_t i = 0; i < 3; i++)
        ask(&desk, hasher, passwords, "slow", "secret", i);
    ask(&desk, hasher, passwords, "device", token, 3);
    ask(&desk, hasher, passwords, "device", other, 4);
    ask(&desk, hasher, passwords, "slow", token, 5);
    ask(&desk, hasher, passwords, "nobody", token, 6);
    ask(&desk, hasher, passwords, "device", "secret", 7);
    wait_for(&desk, 4);
    assert_true(desk.answers[3] && desk.answers[4] && desk.answers[5] && desk.answers[6]);
    wait_for(&desk, 8);
    for (int i = 0; i < 8; i++)
        assert_int_equal(desk.verdict[i], i <= 3 ? AUTH_ALLOWED : AUTH_DENIED);
    assert_int_equal(desk.order[7], 8);
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
    enum { N = 512 };
    struct hasher *hasher = open_hasher(&desk, 4, 0);
    struct passwords *passwords = load();
    for (uint64_t i = 0; i < N; i++) {
        ask(&desk, hasher, passwords, users[i % 4], passwords_of[i % 4], i);
        if (i % 16 == 0)
            mailbox_drain(desk.mailbox);
    }
    wait_for(&desk, N);
    for (int i = 0; i < N; i++) {
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
    struct hasher *hasher = open_hasher(&desk, 2, 64);
    struct passwords *passwords = load();
    for (uint64_t i = 0; i < 40; i++)
        ask(&desk, hasher, passwords, "slow", "secret", i);
    hasher_free(hasher);
    assert_int_equal(desk.answered, 0);
    mailbox_drain(desk.mailbox);
    assert_true(desk.answered < 40); /* what the workers had begun */
    passwords_unref(passwords);
    desk_close(&desk);
    hasher_free(NULL);
}

/* Stopping waits as long as it is told, and can be gone on with; what waits is not begun any more. */
static void stopped_in_the_midst(void **state)
{
    (void)state;
    struct desk desk;
    desk_open(&desk);
    struct hasher *hasher = open_hasher(&desk, 2, 64);
    assert_true(hasher_stop(NULL, 0));
    struct passwords *passwords = load();
    for (uint64_t i = 0; i < 4; i++)
        ask(&desk, hasher, passwords, "slow", "secret", i);
    hasher_stop(hasher, 0); /* most probably false: see integration/test_signals.py */
    assert_true(hasher_stop(hasher, 600000));
    mailbox_drain(desk.mailbox);
    assert_true(desk.answered < 4);
    assert_true(hasher_stop(hasher, 0));
    hasher_free(hasher);
    passwords_unref(passwords);
    desk_close(&desk);
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
        struct hasher *hasher = open_hasher(&desk, 2, 64);
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
    struct hasher *hasher = open_hasher(&desk, 1, 0);
    struct passwords *passwords = load();
    int answered = 1, asked = 0;
    memory_fails(0, ALL_OF_THEM);
    while (answered == 1) {
        assert_true(asked < IDS / 2);
        ask(&desk, hasher, passwords, "seven", "secret", (uint64_t)asked);
        mailbox_drain(desk.mailbox);
        answered = desk.answers[asked++];
    }
    ask(&desk, hasher, passwords, "seven", "brmbl_j1ZK85-rEqQGRCde1qwg13KQgijpxmetQg3uGlQmS0c", IDS - 1);
    mailbox_drain(desk.mailbox);
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
        cmocka_unit_test(a_flood_from_one_address_holds_nobody_else_up),
        cmocka_unit_test(who_gave_up_waiting_costs_nothing),
        cmocka_unit_test(a_password_that_was_verified_is_known_again),
        cmocka_unit_test(another_entry_is_not_known),
        cmocka_unit_test(tokens_need_no_thread),
        cmocka_unit_test(under_load),
        cmocka_unit_test(freed_under_load),
        cmocka_unit_test(stopped_in_the_midst),
        cmocka_unit_test(no_start_without_memory),
        cmocka_unit_test(without_memory_the_answer_is_unavailable),
    };
    return pwhash_init() ? cmocka_run_group_tests(tests, files_make, files_remove) : 1;
}
