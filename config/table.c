/*
 * table.c - directives.def made into an array, looked up by name, and written out.
 *
 * The macros below also check at compile time that a field has the C type that its directive's type writes
 * into.
 */
#include "config/table.h"
#include "broker/config.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct config scope_GENERAL;
typedef struct config_listener scope_LISTENER, scope_DECLARED;
typedef struct config_security scope_SECURITY, scope_OVERRIDE;

typedef bool type_BOOL;
typedef int type_INT, type_LIMIT;
typedef uint32_t type_U32, type_COUNT;
typedef uint64_t type_U64, type_BYTES;
typedef int64_t type_DURATION;
typedef char *type_TEXT, *type_NAME, *type_TOPIC_PREFIX, *type_TLS_VERSION, *type_LOG_FACILITY;
typedef unsigned type_LOG_DEST, type_LOG_TYPE, type_VERSIONS;
typedef enum config_protocol type_PROTOCOL;
typedef enum config_domain type_DOMAIN;
typedef enum config_sync type_SYNC;
typedef char **type_ORIGIN;

#define RELOAD  true
#define RESTART false

/* clang-format off */
#define OPTION(name, scope, type, field, fallback, low, high, reload, note)                       \
    _Static_assert(_Generic(&((scope_##scope *)0)->field, type_##type *: 1, default: 0),          \
                   name " has a field of another type");
#define SPECIAL(name, type, reload, note)
#define ACCEPTED(name, type, low, high, note)
#define ONLY(name, value, note)
#define REFUSED(name, note)
#define BRIDGE(name)
#define ALIAS(name, target)
#include "config/directives.def"
#undef OPTION
#undef SPECIAL
#undef ACCEPTED
#undef ONLY
#undef REFUSED
#undef BRIDGE
#undef ALIAS

#define BRIDGE_NOTE "bridges are not in this version: say `ignore_bridges true` to run without them"

#define OPTION(name, scope, type, field, fallback, low, high, reload, note)                       \
    {name, KIND_OPTION, SCOPE_##scope, TYPE_##type, offsetof(scope_##scope, field), fallback, low, high,   \
     reload, note},
#define SPECIAL(name, type, reload, note)                                                         \
    {name, KIND_SPECIAL, SCOPE_GENERAL, TYPE_##type, 0, NULL, 0, 0, reload, note},
#define ACCEPTED(name, type, low, high, note)                                                     \
    {name, KIND_ACCEPTED, SCOPE_GENERAL, TYPE_##type, 0, NULL, low, high, true, note},
#define ONLY(name, value, note)                                                                   \
    {name, KIND_ONLY, SCOPE_GENERAL, TYPE_BOOL, 0, value, 0, 0, true, note},
#define REFUSED(name, note)                                                                       \
    {name, KIND_REFUSED, SCOPE_GENERAL, TYPE_NONE, 0, NULL, 0, 0, true, note},
#define BRIDGE(name)                                                                              \
    {name, KIND_BRIDGE, SCOPE_GENERAL, TYPE_NONE, 0, NULL, 0, 0, true, BRIDGE_NOTE},
#define ALIAS(name, target)                                                                       \
    {name, KIND_ALIAS, SCOPE_GENERAL, TYPE_NONE, 0, target, 0, 0, true, "The same as " target "."},

const struct directive directive_table[] = {
#include "config/directives.def"
};
/* clang-format on */

const size_t directive_count = sizeof directive_table / sizeof directive_table[0];

static bool name_fits(const char *pattern, const char *name)
{
    size_t n = strlen(pattern);
    if (pattern[n - 1] == '*') {
        return strncmp(pattern, name, n - 1) == 0;
    }
    return strcmp(pattern, name) == 0;
}

const struct directive *directive_find(const char *name)
{
    for (size_t i = 0; i < directive_count; i++) {
        if (name_fits(directive_table[i].name, name)) {
            return &directive_table[i];
        }
    }
    return NULL;
}

const struct directive *directive_target(const struct directive *directive)
{
    return directive->kind == KIND_ALIAS ? directive_find(directive->fallback) : directive;
}

size_t directive_index(const struct directive *directive)
{
    return (size_t)(directive - directive_table);
}

/* How many letters must be put in, taken out, replaced or swapped with their neighbour to make b of a. */
static size_t distance(const char *a, const char *b)
{
    enum { MAX = 40 };
    size_t rows[3][MAX + 1] = {{0}};
    size_t na = strlen(a), nb = strlen(b);

    if (na > MAX || nb > MAX) {
        return SIZE_MAX;
    }
    for (size_t j = 0; j <= nb; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= na; i++) {
        size_t *now = rows[i % 3];
        const size_t *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];

        now[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t best = up[j - 1] + (a[i - 1] != b[j - 1]);

            best = up[j] + 1 < best ? up[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && up2[j - 2] + 1 < best) {
                best = up2[j - 2] + 1;
            }
            now[j] = best;
        }
    }
    return rows[na % 3][nb];
}

const char *directive_nearest(const char *name)
{
    const char *nearest = NULL;
    size_t least = strlen(name) / 4 + 2;

    for (size_t i = 0; i < directive_count; i++) {
        size_t d = distance(name, directive_table[i].name);
        if (d < least) {
            least = d;
            nearest = directive_table[i].name;
        }
    }
    return nearest;
}

static const char *const kind_names[] = {
    [KIND_OPTION] = "option",   [KIND_SPECIAL] = "option", [KIND_ACCEPTED] = "accepted", [KIND_ONLY] = "only",
    [KIND_REFUSED] = "refused", [KIND_BRIDGE] = "bridge",  [KIND_ALIAS] = "alias",
};

static const char *const scope_names[] = {
    [SCOPE_GENERAL] = "general",   [SCOPE_LISTENER] = "listener", [SCOPE_DECLARED] = "listener",
    [SCOPE_SECURITY] = "security", [SCOPE_OVERRIDE] = "listener",
};

static const char *const type_names[] = {
    [TYPE_NONE] = "",
    [TYPE_BOOL] = "true|false",
    [TYPE_INT] = "number",
    [TYPE_LIMIT] = "number",
    [TYPE_U32] = "number",
    [TYPE_COUNT] = "number",
    [TYPE_U64] = "number",
    [TYPE_BYTES] = "number",
    [TYPE_DURATION] = "duration",
    [TYPE_TEXT] = "text",
    [TYPE_NAME] = "text",
    [TYPE_TOPIC_PREFIX] = "topic prefix",
    [TYPE_TLS_VERSION] = "tlsv1.2|tlsv1.3",
    [TYPE_LOG_FACILITY] = "number",
    [TYPE_LOG_DEST] = "destination",
    [TYPE_LOG_TYPE] = "log type",
    [TYPE_PROTOCOL] = "mqtt|websockets",
    [TYPE_DOMAIN] = "ipv4|ipv6",
    [TYPE_SYNC] = "full|normal|off",
    [TYPE_VERSIONS] = "versions",
    [TYPE_ORIGIN] = "text",
    [TYPE_LISTENER] = "port [address|path]",
    [TYPE_PORT] = "number",
    [TYPE_ADDRESS] = "text",
    [TYPE_INCLUDE] = "text",
    [TYPE_PER_LISTENER] = "true|false",
    [TYPE_KEYFORM] = "pem",
    [TYPE_ANY] = "text",
};

void config_dump(FILE *out)
{
    for (size_t i = 0; i < directive_count; i++) {
        const struct directive *d = &directive_table[i];

        fprintf(out, "%s\t%s\t%s\t%s\t%s\t", d->name, kind_names[d->kind], scope_names[d->scope],
                type_names[d->type], d->fallback ? d->fallback : "");
        if (d->low != 0 || d->high != 0) {
            fprintf(out, "%" PRId64 "\t%" PRId64, d->low, d->high);
        } else {
            fputc('\t', out);
        }
        fprintf(out, "\t%s\t%s\n", d->reload ? "reload" : "restart", d->note);
    }
}
