/*
 * value.c - the values of directives: from text into their fields, by type. value_print.c goes the other way.
 *
 * The words of the refusals are close to mosquitto's on purpose: people search for them, and its test suite
 * looks for some of them.
 */
#include "config/value.h"
#include "broker/config.h"
#include "broker/log.h"
#include "broker/topic.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* none and all are told apart by code; the others add up. */
const struct word value_log_dests[] = {
    {"stderr", LOG_D_STDERR}, {"stdout", LOG_D_STDOUT}, {"file", LOG_D_FILE},
    {"syslog", LOG_D_SYSLOG}, {"topic", LOG_D_TOPIC},   {NULL, 0},
};

const struct word value_log_types[] = {
    {"error", LOG_T_ERROR},
    {"warning", LOG_T_WARNING},
    {"notice", LOG_T_NOTICE},
    {"information", LOG_T_INFO},
    {"debug", LOG_T_DEBUG},
    {"subscribe", LOG_T_SUBSCRIBE},
    {"unsubscribe", LOG_T_UNSUBSCRIBE},
    {"websockets", LOG_T_WEBSOCKETS},
    {"internal", LOG_T_INTERNAL},
    {NULL, 0},
};

const struct word value_protocols[] = {
    {"mqtt", PROTOCOL_MQTT}, {"websockets", PROTOCOL_WEBSOCKETS}, {NULL, 0}};
const struct word value_domains[] = {{"ipv4", DOMAIN_IPV4}, {"ipv6", DOMAIN_IPV6}, {NULL, 0}};
const struct word value_syncs[] = {
    {"full", SYNC_FULL}, {"normal", SYNC_NORMAL}, {"off", SYNC_OFF}, {NULL, 0}};

#define DAY INT64_C(86400)
const struct duration value_durations[] = {
    {'y', 365 * DAY}, {'m', 30 * DAY}, {'w', 7 * DAY}, {'d', DAY}, {'h', 3600}, {'s', 1}, {'\0', 0},
};

_Static_assert(sizeof(enum config_protocol) == sizeof(unsigned) &&
                   sizeof(enum config_domain) == sizeof(unsigned) &&
                   sizeof(enum config_sync) == sizeof(unsigned),
               "set_word() copies an unsigned");

static const struct word *word_find(const struct word *words, const char *name)
{
    for (; words->name; words++) {
        if (strcmp(words->name, name) == 0) {
            return words;
        }
    }
    return NULL;
}

/* ---- pieces ---- */

char *value_word(char **rest)
{
    char *word = *rest + strspn(*rest, " \t");
    size_t n = strcspn(word, " \t");

    if (n == 0) {
        return NULL;
    }
    *rest = word + n;
    if (word[n]) {
        word[n] = '\0';
        (*rest)++;
    }
    return word;
}

int value_empty(const char *name, struct err *err)
{
    return err_set(err, "Empty '%s' value in configuration.", name);
}

int value_end(const char *name, char *rest, struct err *err)
{
    rest += strspn(rest, " \t");
    if (*rest == '\0' || *rest == '#') {
        return 0;
    }
    return err_set(err, "Invalid '%s' value: '%.60s' is too much.", name, rest);
}

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t")] == '\0';
}

/* Octal for some versions of mosquitto and decimal for others: nobody can mean it. */
static bool has_leading_zero(const char *digits)
{
    digits += *digits == '-';
    return digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9';
}

int value_number(const char *name, const char *word, int64_t low, int64_t high, int64_t *number,
                 struct err *err)
{
    char *end;
    long long value;
    const char *digits = word + (*word == '-');

    errno = 0;
    value = strtoll(word, &end, 0);
    if (*digits < '0' || *digits > '9' || *end != '\0') {
        return err_set(err, "Invalid '%s' value (%.60s): it is not a number.", name, word);
    }
    if (has_leading_zero(word)) {
        return err_set(err, "Invalid '%s' value (%.60s): leave out the leading zero.", name, word);
    }
    if (errno == ERANGE || value < low || value > high) {
        return err_set(err, "Invalid '%s' value (%.60s). It must be between %" PRId64 " and %" PRId64 ".",
                       name, word, low, high);
    }
    *number = value;
    return 0;
}

int value_bool(const char *name, const char *word, bool *value, struct err *err)
{
    bool yes = strcmp(word, "true") == 0 || strcmp(word, "1") == 0;

    if (!yes && strcmp(word, "false") != 0 && strcmp(word, "0") != 0) {
        return err_set(err, "Invalid '%s' value (%.60s). It must be true or false.", name, word);
    }
    *value = yes;
    return 0;
}

static int text_keep(char **field, const char *text, struct err *err)
{
    char *copy = strdup(text);

    if (!copy) {
        return err_set(err, "Out of memory.");
    }
    free(*field);
    *field = copy;
    return 0;
}

/* ---- reading, by type ---- */

static int set_number(const struct directive *d, void *field, const char *name, const char *word,
                      struct err *err)
{
    int64_t n;

    if (value_number(name, word, d->low, d->high, &n, err)) {
        return -1;
    }
    switch (d->type) {
    case TYPE_LIMIT:
        *(int *)field = n <= 0 ? -1 : (int)n;
        return 0;
    case TYPE_U32:
        *(uint32_t *)field = (uint32_t)n;
        return 0;
    case TYPE_COUNT:
        *(uint32_t *)field = n < 0 ? 0 : (uint32_t)n;
        return 0;
    case TYPE_U64:
    case TYPE_BYTES:
        *(uint64_t *)field = n < 0 ? 0 : (uint64_t)n;
        return 0;
    default:
        *(int *)field = (int)n;
        return 0;
    }
}

static int set_duration(int64_t *field, const char *name, char *word, struct err *err)
{
    size_t n = strlen(word);
    char unit = word[n - 1];

    for (const struct duration *d = value_durations; d->unit; d++) {
        int64_t number;

        if (d->unit != unit) {
            continue;
        }
        word[n - 1] = '\0';
        if (value_number(name, word, 1, INT64_MAX / 1000 / d->seconds, &number, err)) {
            return -1;
        }
        *field = number * d->seconds;
        return 0;
    }
    return err_set(err, "Invalid '%s' value (%.60s). It must be a number and one of s h d w m y, like 14d.",
                   name, word);
}

static int set_text(const struct directive *d, char **field, const char *name, const char *text,
                    struct err *err)
{
    if (is_blank(text)) {
        return value_empty(name, err);
    }
    if (d->high > 0 && strlen(text) > (size_t)d->high) {
        return err_set(err, "Invalid '%s' value: its length must be <= %" PRId64 ".", name, d->high);
    }
    if (d->type == TYPE_TOPIC_PREFIX && strpbrk(text, "+#")) {
        return err_set(err, "Invalid '%s' value (%.200s). Does it contain a wildcard character?", name, text);
    }
    if (d->type == TYPE_TOPIC_PREFIX && !utf8_valid(slice_str(text))) {
        return err_set(err, "Invalid '%s' value: it is not UTF-8.", name);
    }
    if (d->type == TYPE_TOPIC_PREFIX && strlen(text) > 65535) {
        return err_set(err, "Invalid '%s' value: it is longer than a topic may be.", name);
    }
    return text_keep(field, text, err);
}

static int set_tls_version(char **field, const char *name, const char *word, struct err *err)
{
    if (strcmp(word, "tlsv1.2") == 0 || strcmp(word, "tlsv1.3") == 0) {
        return text_keep(field, word, err);
    }
    if (strcmp(word, "tlsv1.1") == 0 || strcmp(word, "tlsv1") == 0) {
        return err_set(err, "Invalid '%s' value (%s). It is no longer secure: say tlsv1.2 or tlsv1.3.", name,
                       word);
    }
    return err_set(err, "Invalid '%s' value (%.60s). It must be tlsv1.2 or tlsv1.3.", name, word);
}

static int set_facility(char **field, const char *name, const char *word, struct err *err)
{
    char text[] = "local0";
    int64_t n;

    if (value_number(name, word, 0, 7, &n, err)) {
        return -1;
    }
    text[5] = (char)('0' + n);
    return text_keep(field, text, err);
}

static int set_log_file(struct config *config, const char *name, char *rest, struct err *err)
{
    rest += strspn(rest, " \t");
    if (*rest == '\0') {
        return err_set(err, "Empty '%s file' value in configuration.", name);
    }
    if (config->log_file) {
        return err_set(err, "Duplicate '%s file' value: there can be only one file.", name);
    }
    return text_keep(&config->log_file, rest, err);
}

static int set_log_dest(struct config *config, const char *name, char *rest, bool again, struct err *err)
{
    const char *word = value_word(&rest);
    const struct word *dest = word ? word_find(value_log_dests, word) : NULL;
    unsigned before = again ? config->log_dest : 0;

    if (!word) {
        return value_empty(name, err);
    }
    if (strcmp(word, "dlt") == 0 || strcmp(word, "android") == 0) {
        return err_set(err, "Invalid '%s' value (%s). It is not supported: use syslog or stderr.", name,
                       word);
    }
    if (!dest && strcmp(word, "none") != 0) {
        return err_set(
            err, "Invalid '%s' value (%.60s). It must be none, stderr, stdout, syslog, topic or file PATH.",
            name, word);
    }
    if (dest && dest->value == LOG_D_FILE) {
        if (set_log_file(config, name, rest, err)) {
            return -1;
        }
    } else if (value_end(name, rest, err)) {
        return -1;
    }
    if (!dest) {
        free(config->log_file);
        config->log_file = NULL;
        before = 0;
    }
    config->log_dest = before | (dest ? dest->value : 0);
    return 0;
}

static int set_log_type(unsigned *field, const char *name, const char *word, bool again, struct err *err)
{
    const struct word *type = word_find(value_log_types, word);

    if (strcmp(word, "none") == 0) {
        *field = 0;
    } else if (strcmp(word, "all") == 0) {
        *field = LOG_T_ALL;
    } else if (type) {
        *field = (again ? *field : 0) | type->value;
    } else {
        return err_set(
            err, "Invalid '%s' value (%.60s). It must be one of the types that mosquitto.conf(5) names.",
            name, word);
    }
    return 0;
}

static int set_word(const struct word *words, void *field, const char *name, const char *word,
                    struct err *err)
{
    const struct word *found = word_find(words, word);

    if (!found) {
        const char *third = words[2].name;

        return err_set(err, "Invalid '%s' value (%.60s). It must be %s%s%s or %s.%s", name, word,
                       words[0].name, third ? ", " : "", third ? words[1].name : "",
                       third ? third : words[1].name,
                       strcmp(word, "http_api") == 0 ? " For a page say http_dir too." : "");
    }
    memcpy(field, &found->value, sizeof found->value);
    return 0;
}

/* "3, 4" or "3,4,5" */
static int set_versions(unsigned *field, const char *name, char *text, struct err *err)
{
    unsigned versions = 0;
    char *save = NULL;

    for (char *word = strtok_r(text, ", \t", &save); word && *word != '#';
         word = strtok_r(NULL, ", \t", &save)) {
        if (word[0] < '3' || word[0] > '5' || word[1] != '\0') {
            return err_set(err, "Invalid '%s' value (%.60s). It must be made of 3, 4 and 5.", name, word);
        }
        versions |= 1U << (word[0] - '0');
    }
    if (!versions) {
        return value_empty(name, err);
    }
    if (versions == 1U << 5) {
        return err_set(err, "Invalid '%s' value (5). MQTT 5 is not in this version: say 3, 4 or both.", name);
    }
    *field = versions;
    return 0;
}

static int add_origin(struct config_listener *listener, const char *name, const char *text, struct err *err)
{
    size_t n = listener->websockets_origins;

    if (is_blank(text)) {
        return value_empty(name, err);
    }
    char **more = realloc(listener->websockets_origin, (n + 1) * sizeof *more);
    if (!more) {
        return err_set(err, "Out of memory.");
    }
    listener->websockets_origin = more;
    more[n] = NULL;
    if (text_keep(&more[n], text, err)) {
        return -1;
    }
    listener->websockets_origins++;
    return 0;
}

bool value_is_text(const struct directive *d)
{
    return d->type == TYPE_TEXT || d->type == TYPE_TOPIC_PREFIX || d->type == TYPE_TLS_VERSION;
}

bool value_adds_up(const struct directive *d)
{
    return d->type == TYPE_LOG_DEST || d->type == TYPE_LOG_TYPE || d->type == TYPE_ORIGIN;
}

/* The types that are one word. */
static int set_one_word(const struct directive *d, void *field, const char *name, char *text, bool again,
                        struct err *err)
{
    char *word = value_word(&text);

    if (!word) {
        return value_empty(name, err);
    }
    if (value_end(name, text, err)) {
        return -1;
    }
    switch (d->type) {
    case TYPE_BOOL:
        return value_bool(name, word, field, err);
    case TYPE_DURATION:
        return set_duration(field, name, word, err);
    case TYPE_TLS_VERSION:
        return set_tls_version(field, name, word, err);
    case TYPE_LOG_FACILITY:
        return set_facility(field, name, word, err);
    case TYPE_LOG_TYPE:
        return set_log_type(field, name, word, again, err);
    case TYPE_PROTOCOL:
        return set_word(value_protocols, field, name, word, err);
    case TYPE_DOMAIN:
        return set_word(value_domains, field, name, word, err);
    case TYPE_SYNC:
        return set_word(value_syncs, field, name, word, err);
    default:
        return set_number(d, field, name, word, err);
    }
}

int value_set(const struct directive *d, void *base, const char *name, char *text, bool again,
              struct err *err)
{
    void *field = (char *)base + d->offset;

    switch (d->type) {
    case TYPE_TEXT:
    case TYPE_NAME:
    case TYPE_TOPIC_PREFIX:
        return set_text(d, field, name, text, err);
    case TYPE_ORIGIN:
        return add_origin(base, name, text, err);
    case TYPE_LOG_DEST:
        return set_log_dest(base, name, text, again, err);
    case TYPE_VERSIONS:
        return set_versions(field, name, text, err);
    default:
        return set_one_word(d, field, name, text, again, err);
    }
}

bool value_must_agree(const struct directive *d)
{
    return d->type == TYPE_BOOL || d->type == TYPE_NAME;
}

/* A place for one value on its own, and the directive as if it wrote there. */
struct scratch {
    struct directive d;
    union {
        bool b;
        int i;
        int64_t seconds;
        char *text;
    } field;
};

static int scratch_set(struct scratch *scratch, const struct directive *d, const char *name, char *text,
                       struct err *err)
{
    memset(scratch, 0, sizeof *scratch); /* all of the union */
    scratch->d = *d;
    scratch->d.offset = 0;
    return value_set(&scratch->d, &scratch->field, name, text, false, err);
}

int value_check(const struct directive *d, const char *name, char *text, struct err *err)
{
    struct scratch scratch;
    int rc;

    if (d->type == TYPE_ANY) {
        return 0;
    }
    rc = scratch_set(&scratch, d, name, text, err);
    value_free(&scratch.d, &scratch.field);
    return rc;
}

int value_agrees(const struct directive *d, const void *base, const char *name, char *text, bool *same,
                 struct err *err)
{
    struct scratch scratch;
    int rc = scratch_set(&scratch, d, name, text, err);

    *same = rc == 0 && value_equal(&scratch.d, (const char *)base + d->offset, &scratch.field);
    value_free(&scratch.d, &scratch.field);
    return rc;
}

int value_default(const struct directive *d, void *base)
{
    struct err err;
    char text[64];

    if (d->type == TYPE_LOG_TYPE) {
        *(unsigned *)((char *)base + d->offset) = LOG_T_DEFAULT;
        return 0;
    }
    if (!d->fallback) {
        return 0; /* the struct was zeroed */
    }
    snprintf(text, sizeof text, "%s", d->fallback);
    return value_set(d, base, d->name, text, false, &err);
}
