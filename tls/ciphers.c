/*
 * ciphers.c - the cipher lists of `ciphers` and `ciphers_tls1.3`, and our own choice without them.
 *
 * mosquitto.conf speaks OpenSSL's language: names (ECDHE-ECDSA-AES128-GCM-SHA256), and words that stand for
 * sets of them (HIGH, ECDHE+AESGCM), with ! - + before them. We have ECDHE only, so most words that OpenSSL
 * knows name nothing here: to exclude them is fine, to ask for them is an error that says what to write.
 *
 * Order of preference: AES-GCM first where the CPU has instructions for it, ChaCha20-Poly1305 first elsewhere
 * (the Pi 3: 1.6 to 3 times as fast there). CBC suites are there for old clients, but only when named (or by
 * their MAC: SHA256).
 */
#include "tls/internal.h"
#include <assert.h>
#include <mbedtls/ssl_ciphersuites.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

enum tag {
    T_ECDSA = 1 << 0,
    T_RSA = 1 << 1,
    T_AES128 = 1 << 2,
    T_AES256 = 1 << 3,
    T_GCM = 1 << 4,
    T_CHACHA = 1 << 5,
    T_SHA1 = 1 << 6,
    T_SHA256 = 1 << 7,
    T_SHA384 = 1 << 8,
    T_AES = 1 << 9,
    T_ANY = 1 << 10,
    T_CBC = T_SHA1 | T_SHA256 | T_SHA384 /* the suites with a MAC of their own */
};

struct suite {
    const char *name;
    int id;
    unsigned tags;
};

#define ECDHE(auth, cipher, id) MBEDTLS_TLS_ECDHE_##auth##_WITH_##cipher##_##id

/* Best first, for a CPU with AES instructions. */
static const struct suite suites12[] = {
    {"ECDHE-ECDSA-AES128-GCM-SHA256", ECDHE(ECDSA, AES_128, GCM_SHA256), T_ECDSA | T_AES | T_AES128 | T_GCM},
    {"ECDHE-RSA-AES128-GCM-SHA256", ECDHE(RSA, AES_128, GCM_SHA256), T_RSA | T_AES | T_AES128 | T_GCM},
    {"ECDHE-ECDSA-AES256-GCM-SHA384", ECDHE(ECDSA, AES_256, GCM_SHA384), T_ECDSA | T_AES | T_AES256 | T_GCM},
    {"ECDHE-RSA-AES256-GCM-SHA384", ECDHE(RSA, AES_256, GCM_SHA384), T_RSA | T_AES | T_AES256 | T_GCM},
    {"ECDHE-ECDSA-CHACHA20-POLY1305", ECDHE(ECDSA, CHACHA20_POLY1305, SHA256), T_ECDSA | T_CHACHA},
    {"ECDHE-RSA-CHACHA20-POLY1305", ECDHE(RSA, CHACHA20_POLY1305, SHA256), T_RSA | T_CHACHA},
    {"ECDHE-ECDSA-AES128-SHA256", ECDHE(ECDSA, AES_128, CBC_SHA256), T_ECDSA | T_AES | T_AES128 | T_SHA256},
    {"ECDHE-RSA-AES128-SHA256", ECDHE(RSA, AES_128, CBC_SHA256), T_RSA | T_AES | T_AES128 | T_SHA256},
    {"ECDHE-ECDSA-AES256-SHA384", ECDHE(ECDSA, AES_256, CBC_SHA384), T_ECDSA | T_AES | T_AES256 | T_SHA384},
    {"ECDHE-RSA-AES256-SHA384", ECDHE(RSA, AES_256, CBC_SHA384), T_RSA | T_AES | T_AES256 | T_SHA384},
    {"ECDHE-ECDSA-AES128-SHA", ECDHE(ECDSA, AES_128, CBC_SHA), T_ECDSA | T_AES | T_AES128 | T_SHA1},
    {"ECDHE-RSA-AES128-SHA", ECDHE(RSA, AES_128, CBC_SHA), T_RSA | T_AES | T_AES128 | T_SHA1},
    {"ECDHE-ECDSA-AES256-SHA", ECDHE(ECDSA, AES_256, CBC_SHA), T_ECDSA | T_AES | T_AES256 | T_SHA1},
    {"ECDHE-RSA-AES256-SHA", ECDHE(RSA, AES_256, CBC_SHA), T_RSA | T_AES | T_AES256 | T_SHA1},
};

static const struct suite suites13[] = {
    {"TLS_AES_128_GCM_SHA256", MBEDTLS_TLS1_3_AES_128_GCM_SHA256, T_AES | T_AES128 | T_GCM},
    {"TLS_AES_256_GCM_SHA384", MBEDTLS_TLS1_3_AES_256_GCM_SHA384, T_AES | T_AES256 | T_GCM},
    {"TLS_CHACHA20_POLY1305_SHA256", MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256, T_CHACHA},
};

enum { COUNT12 = sizeof suites12 / sizeof *suites12, COUNT13 = sizeof suites13 / sizeof *suites13 };

static_assert(COUNT12 + COUNT13 <= TLS_SUITES_MAX, "struct tls_suites is too small");

/* OpenSSL's words that match suites of ours. */
static const struct {
    const char *word;
    unsigned tags;
} words[] = {
    {"ALL", T_ANY},         {"DEFAULT", T_ANY},   {"HIGH", T_ANY},     {"ECDHE", T_ANY},
    {"EECDH", T_ANY},       {"kECDHE", T_ANY},    {"kEECDH", T_ANY},   {"ECDH", T_ANY},
    {"TLSv1.2", T_ANY},     {"ECDSA", T_ECDSA},   {"aECDSA", T_ECDSA}, {"aRSA", T_RSA},
    {"AES128", T_AES128},   {"AES256", T_AES256}, {"AES", T_AES},      {"AESGCM", T_GCM},
    {"CHACHA20", T_CHACHA}, {"SHA1", T_SHA1},     {"SHA", T_SHA1},     {"SHA256", T_SHA256},
    {"SHA384", T_SHA384},
};

/* Words that match nothing here: good for excluding. RSA alone means the key exchange without forward
 * secrecy. */
static const char *const absent[] = {
    "aNULL",
    "eNULL",
    "NULL",
    "ADH",
    "AECDH",
    "MD5",
    "RC4",
    "RC2",
    "DES",
    "3DES",
    "IDEA",
    "SEED",
    "CAMELLIA",
    "CAMELLIA128",
    "CAMELLIA256",
    "ARIA",
    "ARIAGCM",
    "ARIA128",
    "ARIA256",
    "AESCCM",
    "AESCCM8",
    "PSK",
    "aPSK",
    "kPSK",
    "kECDHEPSK",
    "kDHEPSK",
    "kRSAPSK",
    "SRP",
    "aSRP",
    "kSRP",
    "DSS",
    "aDSS",
    "kDHE",
    "kEDH",
    "DHE",
    "EDH",
    "DH",
    "aDH",
    "kDH",
    "kDHd",
    "kDHr",
    "kECDH",
    "kECDHe",
    "kECDHr",
    "aECDH",
    "kRSA",
    "RSA",
    "EXP",
    "EXPORT",
    "EXPORT40",
    "EXPORT56",
    "LOW",
    "MEDIUM",
    "SSLv2",
    "SSLv3",
    "TLSv1",
    "TLSv1.0",
    "TLSv1.1",
    "kGOST",
    "aGOST",
    "GOST94",
    "GOST89MAC",
    "COMPLEMENTOFALL",
    "COMPLEMENTOFDEFAULT",
};

/* The order is of indices into suites12. */
struct choice {
    int order[COUNT12]; /* our preference */
    int list[COUNT12];  /* chosen so far */
    int count;
    bool killed[COUNT12]; /* excluded for good */
};

bool tls_cpu_has_aes(void)
{
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
    return (getauxval(AT_HWCAP) & (1UL << 3)) != 0; /* HWCAP_AES */
#else
    return false; /* mbedTLS would not use them */
#endif
}

static bool suite_usable(const struct suite *suite)
{
    return mbedtls_ssl_ciphersuite_from_id(suite->id) != NULL;
}

static bool suite_named(const struct suite *suite, const char *name)
{
    const mbedtls_ssl_ciphersuite_t *info = mbedtls_ssl_ciphersuite_from_id(suite->id);
    const char *other =
        info ? mbedtls_ssl_ciphersuite_get_name(info) : NULL; /* TLS-ECDHE-... for TLS_ECDHE_... */

    if (strcmp(suite->name, name) == 0)
        return true;
    for (; other && *other && (*other == *name || (*other == '-' && *name == '_')); other++)
        name++;
    return other && !*other && !*name;
}

static int suite12_find(const char *name)
{
    for (int i = 0; i < COUNT12; i++) {
        if (suite_usable(&suites12[i]) && suite_named(&suites12[i], name))
            return i;
    }
    return -1;
}

static void choice_init(struct choice *choice, bool hw_aes)
{
    int n = 0;

    *choice = (struct choice){0};
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < COUNT12; i++) {
            bool early = !hw_aes && (suites12[i].tags & T_CHACHA);

            if (early == (pass == 0))
                choice->order[n++] = i;
        }
    }
}

static void choice_remove(struct choice *choice, int suite)
{
    int n = 0;

    for (int i = 0; i < choice->count; i++) {
        if (choice->list[i] != suite)
            choice->list[n++] = choice->list[i];
    }
    choice->count = n;
}

static bool choice_has(const struct choice *choice, int suite)
{
    for (int i = 0; i < choice->count; i++) {
        if (choice->list[i] == suite)
            return true;
    }
    return false;
}

/* One word's suites, in order of preference: op is ' ' (add), '!', '-' or '+' (move to the end). */
static void choice_apply(struct choice *choice, char op, const bool *matches)
{
    for (int k = 0; k < COUNT12; k++) {
        int i = choice->order[k];
        bool had = choice_has(choice, i);

        if (!matches[i])
            continue;
        if (op == '!')
            choice->killed[i] = true;
        if (op != ' ')
            choice_remove(choice, i);
        if ((op == ' ' && !had && !choice->killed[i]) || (op == '+' && had))
            choice->list[choice->count++] = i;
    }
}

/* @STRENGTH: 256-bit keys before 128-bit ones, else as they are. */
static void choice_sort(struct choice *choice)
{
    int sorted[COUNT12], n = 0;

    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < choice->count; i++) {
            if (!(suites12[choice->list[i]].tags & T_AES128) == (pass == 0))
                sorted[n++] = choice->list[i];
        }
    }
    memcpy(choice->list, sorted, sizeof(int) * (size_t)n);
}

static bool is_absent(const char *word)
{
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        if (strcmp(absent[i], word) == 0)
            return true;
    }
    return false;
}

/* What bramble does not have though OpenSSL does, by the look of its name. */
static const char *suite_reason(const char *word)
{
    if (strncmp(word, "TLS_AES", 7) == 0 || strncmp(word, "TLS_CHACHA", 10) == 0)
        return "is for TLS 1.3: write it into ciphers_tls1.3";
    if (strncmp(word, "DHE-", 4) == 0 || strncmp(word, "EDH-", 4) == 0)
        return "uses finite-field Diffie-Hellman, which bramble does not have: write ECDHE-... instead of "
               "DHE-...";
    if (strstr(word, "NULL") || strncmp(word, "ADH", 3) == 0 || strncmp(word, "AECDH", 5) == 0)
        return "does not protect anything, and bramble does not have it";
    if (strstr(word, "PSK") || strstr(word, "RC4") || strstr(word, "DES") || strstr(word, "CAMELLIA") ||
        strstr(word, "ARIA") || strstr(word, "CCM"))
        return "is not among bramble's ciphers: write for example ECDHE-ECDSA-AES128-GCM-SHA256 or "
               "ECDHE+AESGCM";
    if (strncmp(word, "AES", 3) == 0 && strchr(word, '-'))
        return "has no forward secrecy, and bramble does not have it: write it with ECDHE-ECDSA- or "
               "ECDHE-RSA- before it";
    return NULL;
}

/* A word, perhaps of parts joined by +, to the suites it means. Sets nothing when a part matches nothing of
 * ours. */
static int word_match(char *word, char op, bool *matches, struct err *err)
{
    unsigned tags = 0;
    bool none = false;
    char *save = NULL;

    for (char *part = strtok_r(word, "+", &save); part; part = strtok_r(NULL, "+", &save)) {
        size_t i = 0, count = sizeof words / sizeof *words;

        while (i < count && strcmp(words[i].word, part) != 0)
            i++;
        if (i < count)
            tags |= words[i].tags;
        else if (is_absent(part) || (op != ' ' && suite_reason(part)))
            none = true;
        else
            return err_set(err, "'%s' %s", part,
                           suite_reason(part) ? suite_reason(part) : "is no cipher that bramble knows");
        if (none && op == ' ')
            return err_set(err,
                           "'%s' names ciphers that bramble does not have (all of its ciphers use ECDHE with "
                           "AES-GCM or ChaCha20-Poly1305): leave it out, or write HIGH",
                           part);
    }
    for (int i = 0; i < COUNT12 && !none; i++) {
        unsigned want = tags & ~(unsigned)T_ANY, has = suites12[i].tags;

        matches[i] = tags && (has & want) == want && suite_usable(&suites12[i]) &&
                     (op != ' ' || !(has & T_CBC) || (want & T_CBC));
    }
    return 0;
}

static int choice_word(struct choice *choice, char *word, struct err *err)
{
    bool matches[COUNT12] = {false};
    char op = strchr("!-+", *word) ? *word++ : ' ';
    int suite;

    if (strcmp(word, "@STRENGTH") == 0) {
        choice_sort(choice);
        return 0;
    }
    if (strncmp(word, "@SECLEVEL=", 10) == 0) {
        if (strchr("012", word[10]) && word[10] && !word[11])
            return 0; /* bramble is always at least there */
        return err_set(err, "'%s' is not possible: leave it out (bramble has 128 bits and more only)", word);
    }
    suite = suite12_find(word);
    if (suite >= 0)
        matches[suite] = true;
    else if (word_match(word, op, matches, err))
        return -1;
    choice_apply(choice, op, matches);
    return 0;
}

static int parse12(struct choice *choice, const char *list, struct err *err)
{
    char *copy = strdup(list ? list : "DEFAULT"), *save = NULL;
    int ret = copy ? 0 : err_set(err, "no memory");

    for (char *word = copy ? strtok_r(copy, ":, ", &save) : NULL; word && !ret;
         word = strtok_r(NULL, ":, ", &save))
        ret = choice_word(choice, word, err);
    free(copy);
    if (!ret && choice->count == 0)
        return err_set(err,
                       "'%s' leaves no cipher at all: write HIGH, or ECDHE-ECDSA-AES128-GCM-SHA256:"
                       "ECDHE-RSA-AES128-GCM-SHA256",
                       list);
    return ret;
}

static int parse13(struct tls_suites *suites, const char *list, struct err *err)
{
    char *copy = strdup(list), *save = NULL;

    if (!copy)
        return err_set(err, "no memory");
    for (char *word = strtok_r(copy, ":, ", &save); word; word = strtok_r(NULL, ":, ", &save)) {
        int i = 0;

        while (i < COUNT13 && (strcmp(suites13[i].name, word) != 0 || !suite_usable(&suites13[i])))
            i++;
        if (i == COUNT13) {
            err_set(err,
                    "'%s' is no TLS 1.3 cipher that bramble knows: write TLS_AES_128_GCM_SHA256, "
                    "TLS_AES_256_GCM_SHA384 or TLS_CHACHA20_POLY1305_SHA256",
                    word);
            free(copy);
            return -1;
        }
        for (int k = 0; k < suites->count13; k++) {
            if (suites->all[k] == suites13[i].id)
                i = COUNT13; /* named twice */
        }
        if (i < COUNT13)
            suites->all[suites->count13++] = suites13[i].id;
    }
    free(copy);
    return suites->count13 ? 0
                           : err_set(err, "the list is empty: leave the line out for bramble's own choice");
}

static void default13(struct tls_suites *suites, bool hw_aes)
{
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < COUNT13; i++) {
            bool early = !hw_aes && (suites13[i].tags & T_CHACHA);

            if (early == (pass == 0) && suite_usable(&suites13[i]))
                suites->all[suites->count13++] = suites13[i].id;
        }
    }
}

int tls_suites_parse(struct tls_suites *suites, const char *ciphers, const char *ciphers13, bool hw_aes,
                     struct err *err)
{
    struct choice choice;
    const int chacha = MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256;
    struct err reason;
    int n = 0;

    *suites = (struct tls_suites){0};
    choice_init(&choice, hw_aes);
    if (ciphers13 && parse13(suites, ciphers13, &reason))
        return err_set(err, "ciphers_tls1.3: %s", reason.text);
    if (!ciphers13)
        default13(suites, hw_aes);
    if (parse12(&choice, ciphers, &reason))
        return err_set(err, "ciphers: %s", reason.text);
    suites->prefer_chacha = suites->count13 > 1 && suites->all[0] == chacha;
    if (suites->count13)
        suites->chacha[n++] = chacha;
    for (int i = 0; i < choice.count; i++) {
        const struct suite *suite = &suites12[choice.list[i]];

        suites->all[suites->count13 + i] = suites->chacha[n++] = suite->id;
        suites->ecdsa12 |= (suite->tags & T_ECDSA) != 0;
        suites->rsa12 |= (suite->tags & T_RSA) != 0;
    }
    suites->count12 = choice.count;
    return 0;
}
