/*
 * draft.c - what the parser builds: listeners on their way, their defaults, and the messages about them.
 */
#include "config/parse.h"
#include "config/value.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- messages ---- */

/* The end of a long path says more than its beginning, and the reason must fit as well. */
void place_text(struct config_place where, char *text, size_t size)
{
    size_t n = where.file ? strlen(where.file) : 0;
    const char *from = n > 200 ? where.file + n - 200 : where.file;

    if (!where.file) {
        text[0] = '\0';
    } else if (where.line) {
        snprintf(text, size, "%s%s:%d: ", n > 200 ? "..." : "", from, where.line);
    } else {
        snprintf(text, size, "%s%s: ", n > 200 ? "..." : "", from);
    }
}

int parser_fail(struct parser *p, struct config_place where, const char *fmt, ...)
{
    char place[PLACE_MAX], reason[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    place_text(where, place, sizeof place);
    return err_set(p->err, "%sError: %s", place, reason);
}

void parser_warn(struct parser *p, struct config_place where, const char *fmt, ...)
{
    char place[PLACE_MAX], reason[400], text[700];
    va_list ap;

    if (!p->warn) {
        return;
    }
    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    place_text(where, place, sizeof place);
    snprintf(text, sizeof text, "%sWarning: %s", place, reason);
    p->warn(p->ctx, text);
}

int parser_no_memory(struct parser *p)
{
    return parser_fail(p, (struct config_place){NULL, 0}, "Out of memory.");
}

/* ---- drafts ---- */

static bool in_scope(const struct directive *d, enum directive_scope scope)
{
    bool listener = scope == SCOPE_LISTENER && d->scope == SCOPE_DECLARED;

    return d->kind == KIND_OPTION && (d->scope == scope || listener);
}

int scope_default(enum directive_scope scope, void *base)
{
    for (size_t i = 0; i < directive_count; i++) {
        if (in_scope(&directive_table[i], scope) && value_default(&directive_table[i], base)) {
            return -1;
        }
    }
    return 0;
}

void scope_free(enum directive_scope scope, void *base)
{
    for (size_t i = 0; i < directive_count; i++) {
        if (in_scope(&directive_table[i], scope)) {
            value_free(&directive_table[i], base);
        }
    }
}

struct draft *parser_add(struct parser *p, struct config_place where)
{
    struct draft **more = realloc(p->drafts, (p->draft_count + 1) * sizeof *more);
    struct draft *draft = calloc(1, sizeof *draft);

    if (more) {
        p->drafts = more;
    }
    if (!more || !draft) {
        free(draft);
        parser_no_memory(p);
        return NULL;
    }
    p->drafts[p->draft_count++] = draft;
    draft->listener.file = where.file;
    draft->listener.line = where.line;
    draft->seen = calloc(directive_count, sizeof *draft->seen);
    if (!draft->seen || scope_default(SCOPE_LISTENER, &draft->listener) ||
        scope_default(SCOPE_SECURITY, &draft->security)) {
        parser_no_memory(p);
        return NULL;
    }
    return draft;
}

const char *parser_keep_name(struct parser *p, const char *path)
{
    struct config *config = p->config;
    char **more = realloc(config->files, (config->file_count + 1) * sizeof *more);

    if (!more) {
        return NULL;
    }
    config->files = more;
    more[config->file_count] = strdup(path);
    return more[config->file_count] ? more[config->file_count++] : NULL;
}

void parser_free(struct parser *p)
{
    for (size_t i = 0; i < p->draft_count; i++) {
        struct draft *draft = p->drafts[i];

        free(draft->listener.host);
        free(draft->listener.unix_path);
        scope_free(SCOPE_LISTENER, &draft->listener);
        scope_free(SCOPE_SECURITY, &draft->security);
        scope_free(SCOPE_OVERRIDE, &draft->override);
        free(draft->seen);
        free(draft);
    }
    free(p->drafts);
    free(p->seen);
    free(p->bridges);
    scope_free(SCOPE_SECURITY, &p->security);
}
