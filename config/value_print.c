/*
 * value_print.c - the values of directives: comparing, writing as text, freeing, by type. value.c reads them.
 */
#include "broker/config.h"
#include "broker/log.h"
#include "config/value.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static size_t field_size(const struct directive *d)
{
    switch (d->type) {
    case TYPE_BOOL:
        return sizeof(bool);
    case TYPE_U32:
    case TYPE_COUNT:
        return sizeof(uint32_t);
    case TYPE_U64:
    case TYPE_BYTES:
    case TYPE_DURATION:
        return sizeof(uint64_t);
    default:
        return sizeof(int); /* unsigned and the enums are as large */
    }
}

static bool texts_equal(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool origins_equal(const struct config_listener *a, const struct config_listener *b)
{
    if (a->websockets_origins != b->websockets_origins) {
        return false;
    }
    for (size_t i = 0; i < a->websockets_origins; i++) {
        if (strcmp(a->websockets_origin[i], b->websockets_origin[i]) != 0) {
            return false;
        }
    }
    return true;
}

static bool holds_text(const struct directive *d)
{
    return value_is_text(d) || d->type == TYPE_NAME || d->type == TYPE_LOG_FACILITY;
}

bool value_equal(const struct directive *d, const void *a, const void *b)
{
    const char *one = (const char *)a + d->offset, *two = (const char *)b + d->offset;

    if (d->type == TYPE_ORIGIN) {
        return origins_equal(a, b);
    }
    if (holds_text(d)) {
        return texts_equal(*(char *const *)(const void *)one, *(char *const *)(const void *)two);
    }
    return memcmp(one, two, field_size(d)) == 0;
}

static void print_bits(const char *name, const struct word *words, unsigned bits, const char *file, FILE *out)
{
    if (bits == 0) {
        fprintf(out, "%s none\n", name);
    }
    for (; words->name; words++) {
        if (bits & words->value) {
            fprintf(out, "%s %s%s%s\n", name, words->name, words->value == LOG_D_FILE && file ? " " : "",
                    words->value == LOG_D_FILE && file ? file : "");
        }
    }
}

static void print_word(const char *name, const struct word *words, const void *field, FILE *out)
{
    unsigned value;

    memcpy(&value, field, sizeof value);
    for (; words->name; words++) {
        if (words->value == value) {
            fprintf(out, "%s %s\n", name, words->name);
        }
    }
}

static void print_duration(const char *name, int64_t seconds, FILE *out)
{
    for (const struct duration *d = value_durations; seconds > 0 && d->unit; d++) {
        if (seconds % d->seconds == 0) {
            fprintf(out, "%s %" PRId64 "%c\n", name, seconds / d->seconds, d->unit);
            return;
        }
    }
}

static void print_versions(const char *name, unsigned versions, FILE *out)
{
    const char *between = " ";

    fputs(name, out);
    for (unsigned v = 3; v <= 5; v++) {
        if (versions & 1U << v) {
            fprintf(out, "%s%u", between, v);
            between = ",";
        }
    }
    fputc('\n', out);
}

static void print_number(const struct directive *d, const void *field, FILE *out)
{
    switch (d->type) {
    case TYPE_U32:
    case TYPE_COUNT:
        fprintf(out, "%s %" PRIu32 "\n", d->name, *(const uint32_t *)field);
        return;
    case TYPE_U64:
    case TYPE_BYTES:
        fprintf(out, "%s %" PRIu64 "\n", d->name, *(const uint64_t *)field);
        return;
    default:
        fprintf(out, "%s %d\n", d->name, *(const int *)field);
        return;
    }
}

static void print_text(const struct directive *d, const char *text, FILE *out)
{
    if (text) {
        fprintf(out, "%s %s\n", d->name, d->type == TYPE_LOG_FACILITY ? text + strlen("local") : text);
    }
}

void value_print(const struct directive *d, const void *base, FILE *out)
{
    const void *field = (const char *)base + d->offset;
    const struct config_listener *listener = base;

    if (holds_text(d)) {
        print_text(d, *(char *const *)field, out);
        return;
    }
    switch (d->type) {
    case TYPE_BOOL:
        fprintf(out, "%s %s\n", d->name, *(const bool *)field ? "true" : "false");
        return;
    case TYPE_DURATION:
        print_duration(d->name, *(const int64_t *)field, out);
        return;
    case TYPE_LOG_DEST:
        print_bits(d->name, value_log_dests, *(const unsigned *)field,
                   ((const struct config *)base)->log_file, out);
        return;
    case TYPE_LOG_TYPE:
        print_bits(d->name, value_log_types, *(const unsigned *)field, NULL, out);
        return;
    case TYPE_PROTOCOL:
        print_word(d->name, value_protocols, field, out);
        return;
    case TYPE_DOMAIN:
        print_word(d->name, value_domains, field, out);
        return;
    case TYPE_SYNC:
        print_word(d->name, value_syncs, field, out);
        return;
    case TYPE_VERSIONS:
        print_versions(d->name, *(const unsigned *)field, out);
        return;
    case TYPE_ORIGIN:
        for (size_t i = 0; i < listener->websockets_origins; i++) {
            fprintf(out, "%s %s\n", d->name, listener->websockets_origin[i]);
        }
        return;
    default:
        print_number(d, field, out);
        return;
    }
}

void value_free(const struct directive *d, void *base)
{
    char **text = (char **)(void *)((char *)base + d->offset);
    struct config_listener *listener = base;

    if (holds_text(d)) {
        free(*text);
        *text = NULL;
    } else if (d->type == TYPE_ORIGIN) {
        for (size_t i = 0; i < listener->websockets_origins; i++) {
            free(listener->websockets_origin[i]);
        }
        free(listener->websockets_origin);
        listener->websockets_origin = NULL;
        listener->websockets_origins = 0;
    }
}
