/*
 * test_pwhash.c - each kind of hash against vectors of other programs, the bounds, and what is made new.
 */
#include "auth/pwhash.h"
#include "test/unit/auth/files.h"
#include "test/unit/auth/vectors.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

static enum auth_verdict verify(const char *text, const char *password)
{
    assert_null(pwhash_check(slice_str(text)));
    return pwhash_verify(slice_str(text), slice_str(password));
}

static void right_and_wrong(const char *text, const char *password)
{
    char *wrong = strdup(password);
    assert_non_null(wrong);
    assert_int_equal(verify(text, password), AUTH_ALLOWED);
    for (size_t i = 0; i < strlen(password); i += 7) {
        wrong[i] ^= 1;
        assert_int_equal(verify(text, wrong), AUTH_DENIED);
        wrong[i] ^= 1;
    }
    wrong[strlen(password) - 1] = 0;
    assert_int_equal(verify(text, wrong), AUTH_DENIED);
    assert_int_equal(verify(text, ""), AUTH_DENIED);
    assert_int_equal(pwhash_verify(slice_str(text), slice_of(NULL, 0)), AUTH_DENIED);
    free(wrong);
}

static void vectors(void **state)
{
    (void)state;
    char xs[301];
    memset(xs, 'x', 300);
    xs[300] = 0;
    right_and_wrong(V7_SECRET, "secret");
    right_and_wrong(V7_UMLAUT, "pässwörd mit Leer");
    right_and_wrong(V7_LONG, xs);
    right_and_wrong(V6_SECRET6, "secret6");
    right_and_wrong(V7_SECRET21, "secret21");
    right_and_wrong(V6_SECRET21, "secret21");
    right_and_wrong(VA_SECRET, "secret");
    assert_int_equal(verify(VA_SECRET21, "secret21"), AUTH_ALLOWED);
    assert_int_equal(verify(VA_SECRET21, "secret22"), AUTH_DENIED);
}

/* PBKDF2-HMAC-SHA512("password", "saltsalt", 1), computed with Python's hashlib. */
#define ONE_ITERATION \
    "y99Aqyh+xt2ovbJvGRltovGpWf8SfKJATk5ELfdRhStwvGAd6YSOUD0tNyMyqMpAiaYf7puolRhDkqtkfsdXOA=="

static void one_iteration(void **state)
{
    (void)state;
    assert_int_equal(verify("$7$1$c2FsdHNhbHQ=$" ONE_ITERATION, "password"), AUTH_ALLOWED);
    assert_int_equal(verify("$7$2$c2FsdHNhbHQ=$" ONE_ITERATION, "password"), AUTH_DENIED);
}

/* All of a hash is compared, the end of it too. */
static void another_hash(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {V7_SECRET, "secret"}, {V6_SECRET6, "secret6"}, {VA_SECRET, "secret"}, {VT_TOKEN, TOKEN}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[PWHASH_TEXT_MAX];
        size_t at = strlen(strcpy(text, rows[i][0])) - 4; /* before padding, and the last bits */
        text[at] = text[at] == 'A' ? 'B' : 'A';
        assert_int_equal(verify(text, rows[i][1]), AUTH_DENIED);
    }
}

static void zero_bytes_count(void **state)
{
    (void)state;
    /* (HMAC fills a short key up with zeros, so to $7$ alone zeros at the very end make no difference.) */
    assert_int_equal(pwhash_verify(slice_str(V7_SECRET), slice_of("secret\0x", 8)), AUTH_DENIED);
    assert_int_equal(pwhash_verify(slice_str(V6_SECRET6), slice_of("secret6\0", 8)), AUTH_DENIED);
    assert_int_equal(pwhash_verify(slice_str(VA_SECRET), slice_of("secret\0", 7)), AUTH_DENIED);
}

static void made_new(void **state)
{
    (void)state;
    char a[PWHASH_TEXT_MAX], b[PWHASH_TEXT_MAX];
    for (int kind = PWHASH_SHA512; kind <= PWHASH_ARGON2ID; kind++) {
        assert_int_equal(pwhash_make(kind, 1000, slice_str("Grüße"), a), 0);
        assert_int_equal(pwhash_make(kind, 1000, slice_str("Grüße"), b), 0);
        assert_string_not_equal(a, b); /* another salt */
        right_and_wrong(a, "Grüße");
    }
    assert_int_equal(strncmp(a, "$argon2id$v=19$m=19456,t=2,p=1$", 31), 0);
    assert_int_equal(pwhash_make(PWHASH_PBKDF2, 1234, slice_str("x"), a), 0);
    assert_int_equal(strncmp(a, "$7$1234$", 8), 0);
    assert_int_equal(strcspn(a + 8, "$"), 16); /* 12 bytes of salt: mosquitto 2.0 reads no other */
}

static void form_of_a_token(void **state)
{
    (void)state;
    assert_true(pwhash_is_token(slice_str(TOKEN)));
    assert_int_equal(strlen(TOKEN), PWHASH_TOKEN_LEN);
    static const char *const others[] = {
        "",
        "brmbl_",
        "j1ZK85-rEqQGRCde1qwg13KQgijpxmetQg3uGlQmS0c",
        "brmbl_j1ZK85-rEqQGRCde1qwg13KQgijpxmetQg3uGlQmS0",   /* one short */
        "brmbl_j1ZK85-rEqQGRCde1qwg13KQgijpxmetQg3uGlQmS0cA", /* one long */
        "brmbl_j1ZK85-rEqQGRCde1qwg13KQgijpxmetQg3uGlQmS0=",  /* padded */
        "brmbl_j1ZK85+rEqQGRCde1qwg13KQgijpxmetQg3uGlQmS0c",  /* the other base64 */
        "brmbl_j1ZK85-r!qQGRCde1qwg13KQgijpxmetQg3uGlQmS0c",
        "brmbl_j1ZK85 rEqQGRCde1qwg13KQgijpxmetQg3uGlQmS0c",
        "brmbl_j1ZK85-rEqQGRCde1qwg13KQgijpxmetQg3uGlQmS0d", /* more than 256 bits */
        "brmbl-j1ZK85-rEqQGRCde1qwg13KQgijpxmetQg3uGlQmS0c",
        "Brmbl_j1ZK85-rEqQGRCde1qwg13KQgijpxmetQg3uGlQmS0c",
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (pwhash_is_token(slice_str(others[i])))
            fail_msg("a token: %s", others[i]);
    assert_false(pwhash_is_token(slice_of(NULL, 0)));
    assert_false(pwhash_is_token(slice_of("brmbl_j1ZK85\0rEqQGRCde1qwg13KQgijpxmetQg3uGlQmS0c", 49)));
    assert_true(pwhash_for_tokens(slice_str(VT_TOKEN)));
    assert_false(pwhash_for_tokens(slice_str(VA_SECRET)));
    assert_false(pwhash_for_tokens(slice_str(TOKEN)));
}

static void tokens(void **state)
{
    (void)state;
    char one[PWHASH_TOKEN_LEN + 1], two[PWHASH_TOKEN_LEN + 1], text[PWHASH_TEXT_MAX], again[PWHASH_TEXT_MAX];
    right_and_wrong(VT_TOKEN, TOKEN);
    pwhash_new_token(one);
    pwhash_new_token(two);
    assert_true(pwhash_is_token(slice_str(one)) && pwhash_is_token(slice_str(two)));
    assert_string_not_equal(one, two);
    assert_int_equal(pwhash_make(PWHASH_TOKEN, 0, slice_str(one), text), 0);
    assert_int_equal(pwhash_make(PWHASH_TOKEN, 0, slice_str(one), again), 0);
    assert_string_not_equal(text, again); /* another salt */
    assert_true(pwhash_for_tokens(slice_str(text)));
    right_and_wrong(text, one);
    assert_int_equal(verify(text, two), AUTH_DENIED);
    assert_int_equal(verify(again, one), AUTH_ALLOWED);
}

/* A token is a token only: other entries do not know it, even one that was made of it, and no entry is made
 * that only a mistake could need. */
static void tokens_and_passwords_do_not_mix(void **state)
{
    (void)state;
    /* hashlib.pbkdf2_hmac("sha512", TOKEN, b"saltsalt", 1) and sha512(TOKEN + b"saltsalt") */
    static const char *const made_of_it[] = {
        "$7$1$c2FsdHNhbHQ=$EOi1CG3H+OB24lu1yusGPPSTM7IHDpbB87E2y8zOpr17VDdIXio9YMo0GOkHgV9O+"
        "RfoItQ1tDIqGrijmV+aHA==",
        "$6$c2FsdHNhbHQ=$wfm/5qjOsNsP1H3ZpwnznOQy9pk7sCW67oe3Jk8NOCikQCQTBV+v4cG3qNJ/"
        "EAMmweYMPU2oOsTjHF+eeYwCBw==",
    };
    for (size_t i = 0; i < sizeof made_of_it / sizeof *made_of_it; i++)
        assert_int_equal(verify(made_of_it[i], TOKEN), AUTH_DENIED);
    assert_int_equal(verify(VT_TOKEN, "secret"), AUTH_DENIED);
    char text[PWHASH_TEXT_MAX];
    for (int kind = PWHASH_SHA512; kind <= PWHASH_ARGON2ID; kind++)
        assert_int_equal(pwhash_make(kind, 1, slice_str(TOKEN), text), -1);
    assert_int_equal(pwhash_make(PWHASH_TOKEN, 0, slice_str("secret"), text), -1);
    assert_int_equal(pwhash_make(PWHASH_TOKEN, 0, slice_of(NULL, 0), text), -1);
}

static double cpu_ms(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* The shortest of some tries, in CPU time: steady enough on a busy machine. */
static double cost_of(const char *text, const char *password)
{
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        double start = cpu_ms(CLOCK_THREAD_CPUTIME_ID);
        enum auth_verdict verdict = text ? pwhash_verify(slice_str(text), slice_str(password)) : //
                                        pwhash_verify_nobody(slice_str(password));
        double took = cpu_ms(CLOCK_THREAD_CPUTIME_ID) - start;
        assert_int_equal(verdict, AUTH_DENIED);
        best = took < best ? took : best;
    }
    return best;
}

static void nobody_costs_as_much(void **state)
{
    (void)state;
    char text[PWHASH_TEXT_MAX];
    assert_int_equal(pwhash_make(PWHASH_ARGON2ID, 0, slice_str("yes"), text), 0);
    double known = cost_of(text, "no"), unknown = cost_of(NULL, "no");
    assert_true(unknown > known * 0.6 && unknown < known * 1.7);
    assert_int_equal(pwhash_verify_nobody(slice_of(NULL, 0)), AUTH_DENIED);
    /* A guessed token moves nobody to an argon2id: not for a user who has one, and not for nobody. */
    assert_true(cost_of(text, TOKEN) < known / 10);
    assert_true(cost_of(NULL, TOKEN) < known / 10);
    assert_true(cost_of(VT_TOKEN, "no") < known / 10);
}

#define DIGEST64   "/3KbtF+nTymTspgo/4+MD1+dGHfMb+FQXIYSWHR8jQrtksBp4bUk4YjXlILIfwq6ZAP05YplK82hiE9s5lUXRg=="
#define SALT       "TPYmNjg5ihf6b+/w"
#define TOKEN_SALT "AAECAwQFBgcICQoLDA0ODw"
#define TOKEN_HASH "e6STenLHNNaFO4vMqOeH2QZVSM5J5IYGqOWXXhLrKsU"
#define ARGON      "$c2FsdHNhbHRzYWx0c2FsdA$+v0rf6ETYAIpqJIjJyARZ3W3zqJlkf+0TRXzsLHmR6o"

static void refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "secret",
        "$",
        "$5$abc$def",
        "$8$" SALT "$" DIGEST64,
        "$7$",
        "$7$101",
        "$7$101$",
        "$7$101$" SALT,
        "$7$101$" SALT "$",
        "$7$0$" SALT "$" DIGEST64,
        "$7$-1$" SALT "$" DIGEST64,
        "$7$ 101$" SALT "$" DIGEST64,
        "$7$0101$" SALT "$" DIGEST64,
        "$7$10000001$" SALT "$" DIGEST64,
        "$7$4294967397$" SALT "$" DIGEST64,
        "$7$101$$" DIGEST64,
        "$7$101$TPYm$" DIGEST64,             /* a salt of three bytes */
        "$7$101$TPYmNjg5ihf6b+/*$" DIGEST64, /* not base64 */
        "$7$101$" SALT "$" DIGEST64 "$",
        "$7$101$" SALT "$" DIGEST64 "x",
        "$7$101$" SALT "$AAAA",
        "$6$" SALT,
        "$6$101$" SALT "$" DIGEST64,
        "$argon2i$v=19$m=64,t=1,p=1" ARGON,
        "$argon2id$v=16$m=64,t=1,p=1" ARGON,
        "$argon2id$m=64,t=1,p=1" ARGON,
        "$argon2id$v=19$t=1,m=64,p=1" ARGON,
        "$argon2id$v=19$m=64,t=1" ARGON,
        "$argon2id$v=19$m=7,t=1,p=1" ARGON,
        "$argon2id$v=19$m=64,t=0,p=1" ARGON,
        "$argon2id$v=19$m=64,t=1,p=0" ARGON,
        "$argon2id$v=19$m=64,t=1,p=17" ARGON,
        "$argon2id$v=19$m=262145,t=1,p=1" ARGON,
        "$argon2id$v=19$m=4294967360,t=1,p=1" ARGON,
        "$argon2id$v=19$m=262144,t=17,p=1" ARGON,
        "$argon2id$v=19$m=64,t=999999999,p=1" ARGON,
        "$argon2id$v=19$m=64,t=1,p=1$c2FsdA$+v0rf6ETYAIpqJIjJyARZ3W3zqJlkf+0TRXzsLHmR6o",
        "$argon2id$v=19$m=64,t=1,p=1" ARGON "=",
        "$argon2id$v=19$m=64,t=1,p=1" ARGON "$",
        "$blake2b$",
        "$blake2b$" TOKEN_SALT,
        "$blake2b$" TOKEN_SALT "$",
        "$blake2b$$" TOKEN_HASH,
        "$blake2b$" TOKEN_SALT "$" TOKEN_HASH "$",
        "$blake2b$" TOKEN_SALT "$" TOKEN_HASH "=",
        "$blake2b$" TOKEN_SALT "==$" TOKEN_HASH,
        "$blake2b" TOKEN_SALT "$" TOKEN_HASH,
        "$blake2s$" TOKEN_SALT "$" TOKEN_HASH,
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!pwhash_check(slice_str(bad[i])))
            fail_msg("accepted: %s", bad[i]);
    char longer[PWHASH_TEXT_MAX + 1];
    memset(longer, 'x', PWHASH_TEXT_MAX);
    memcpy(longer, "$6$" SALT "$", sizeof "$6$" SALT "$" - 1);
    longer[PWHASH_TEXT_MAX] = 0;
    assert_string_equal(pwhash_check(slice_str(longer)), "the hash is too long");
    assert_string_equal(pwhash_check(slice_str("$blake2b$AAECAwQFBgcICQoLDA0O$" TOKEN_HASH)),
                        "the salt is damaged (a token's must be base64 of 16 bytes)");
    assert_string_equal(pwhash_check(slice_str("$blake2b$AAECAwQFBgcICQoLDA0ODxA$" TOKEN_HASH)),
                        "the salt is damaged (a token's must be base64 of 16 bytes)");
    assert_string_equal(pwhash_check(slice_str("$blake2b$" TOKEN_SALT "$" TOKEN_SALT)),
                        "the hash is damaged (a token's must be base64 of 32 bytes)");
    assert_string_equal(pwhash_check(slice_str("$blake2b$" TOKEN_SALT "$" DIGEST64)),
                        "the hash is damaged (it must be base64 of at most 64 bytes)");
    assert_null(pwhash_check(slice_str("$blake2b$" TOKEN_SALT "$" TOKEN_HASH)));
    assert_false(pwhash_tagged(slice_of("", 0)));
    assert_null(pwhash_check(slice_str("$argon2id$v=19$m=262144,t=16,p=1" ARGON)));
    assert_null(pwhash_check(slice_str("$7$10000000$" SALT "$" DIGEST64)));
    assert_int_equal(pwhash_verify(slice_str("secret"), slice_str("secret")), AUTH_DENIED);
}

/* Part of an entry is never an entry. The slices lie in blocks of their size, so that a read beyond is found.
 */
static void cut_short(void **state)
{
    (void)state;
    static const char *const good[] = {V7_SECRET, V6_SECRET6, VA_SECRET, VT_TOKEN};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        for (size_t n = 0; n < strlen(good[i]); n++) {
            char *part = malloc(n + (n == 0));
            assert_non_null(part);
            memcpy(part, good[i], n);
            if (!pwhash_check(slice_of(part, n)))
                fail_msg("%zu bytes of %s", n, good[i]);
            free(part);
        }
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

/* Without memory the answer is "unavailable", not "wrong password". In a child, as the limit cannot be taken
 * back. */
static void memory_runs_out(void **state)
{
    (void)state;
    if (SANITIZED)
        skip(); /* sanitizers need the address space themselves */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit few = {64 << 20, 64 << 20};
        if (setrlimit(RLIMIT_AS, &few) != 0)
            _exit(100);
        _exit((int)pwhash_verify(slice_str("$argon2id$v=19$m=262144,t=1,p=1" ARGON), slice_str("secret")));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), AUTH_UNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors),
        cmocka_unit_test(one_iteration),
        cmocka_unit_test(another_hash),
        cmocka_unit_test(zero_bytes_count),
        cmocka_unit_test(made_new),
        cmocka_unit_test(form_of_a_token),
        cmocka_unit_test(tokens),
        cmocka_unit_test(tokens_and_passwords_do_not_mix),
        cmocka_unit_test(nobody_costs_as_much),
        cmocka_unit_test(refused),
        cmocka_unit_test(cut_short),
        cmocka_unit_test(memory_runs_out),
    };
    return pwhash_init() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
