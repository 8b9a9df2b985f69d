/*
 * parse.c - reads mosquitto.conf-style files into drafts.
 *
 * The form, as mosquitto has it: a line is a name, blanks, and a value up to the end of the line. # begins a
 * comment at the start of a line, and after a value that is a single word; a text (a path) may contain #.
 * There is no quoting. CR before the line's end is dropped. What mosquitto would misread silently is an error
 * here: a zero byte, a broken character, a word too many, a line without end.
 *
 * Which listener an option belongs to is remembered per file: the first options of an included file belong to
 * the default listener again, as in mosquitto.
 */
#include "config/parse.h"
#include "broker/topic.h"
#include "config/read.h"
#include "config/value.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 65536 };

/* One file being read. */
struct reader {
    struct parser *p;
    struct config_place here;
    struct draft *listener; /* the latest of this file */
    bool bridge;            /* a `connection` was said in this file */
    bool included;
};

static int read_file(struct parser *p, const char *path, bool included);

/* ---- special directives ---- */

/* The default listener: for options before any listener, for port and bind_address. */
static struct draft *default_listener(struct reader *r, const char *name)
{
    struct parser *p = r->p;

    if (!p->fallback) {
        p->fallback = parser_add(p, r->here);
        if (!p->fallback) {
            return NULL;
        }
        p->fallback->implied = true;
        if (strcmp(name, "port") != 0 && strcmp(name, "bind_address") != 0) {
            parser_warn(
                p, r->here,
                "'%s' comes before any 'listener' and so belongs to the default listener on port 1883.",
                name);
        }
    }
    r->listener = p->fallback;
    return p->fallback;
}

static int no_path(struct reader *r, const char *address)
{
    return strchr(address, '/')
               ? parser_fail(r->p, r->here, "A Unix socket needs port 0: say 'listener 0 %s'.", address)
               : 0;
}

static int apply_listener(struct reader *r, const char *name, char *rest)
{
    const char *port_word = value_word(&rest);
    char *address = value_word(&rest);
    struct draft *draft;
    struct err reason;
    int64_t port;

    if (value_number(name, port_word, 0, 65535, &port, &reason)) {
        return parser_fail(r->p, r->here, "%s", reason.text);
    }
    if (address && *address == '#') {
        address = NULL;
    } else if (value_end(name, rest, &reason)) {
        return parser_fail(r->p, r->here, "%s", reason.text);
    }
    if (port == 0 && !address) {
        return parser_fail(r->p, r->here, "A listener with port 0 must provide a Unix socket path.");
    }
    if (port == 0 && strlen(address) > 107) {
        return parser_fail(r->p, r->here, "The path of a Unix socket must have at most 107 bytes.");
    }
    if (port != 0 && address && no_path(r, address)) {
        return -1;
    }
    draft = parser_add(r->p, r->here);
    if (!draft) {
        return -1;
    }
    r->listener = draft;
    r->p->listens = true;
    draft->listener.port = (int)port;
    if (address) {
        char **field = port == 0 ? &draft->listener.unix_path : &draft->listener.host;

        *field = strdup(address);
        return *field ? 0 : parser_no_memory(r->p);
    }
    return 0;
}

static int apply_port(struct reader *r, const char *name, char *rest)
{
    const char *word = value_word(&rest);
    struct draft *draft;
    struct err reason;
    int64_t port;

    if (value_number(name, word, 1, 65535, &port, &reason) || value_end(name, rest, &reason)) {
        return parser_fail(r->p, r->here, "%s", reason.text);
    }
    draft = default_listener(r, name);
    if (!draft) {
        return -1;
    }
    if (draft->listener.port) {
        parser_warn(r->p, r->here,
                    "Default listener port specified multiple times. Only the latest will be used.");
    }
    draft->listener.port = (int)port;
    draft->implied = false;
    r->p->listens = true;
    return 0;
}

static int apply_address(struct reader *r, const char *name, char *rest)
{
    char *address = value_word(&rest);
    struct draft *draft;
    struct err reason;

    if (value_end(name, rest, &reason)) {
        return parser_fail(r->p, r->here, "%s", reason.text);
    }
    if (*address == '#') { /* as in 'listener 1883 # all addresses' */
        return parser_fail(r->p, r->here, "Empty '%s' value in configuration.", name);
    }
    draft = no_path(r, address) ? NULL : default_listener(r, name);
    if (!draft) {
        return -1;
    }
    if (draft->listener.host) {
        return parser_fail(r->p, r->here, "Duplicate '%s' value in configuration.", name);
    }
    draft->listener.host = strdup(address);
    draft->implied = false;
    r->p->listens = true;
    return draft->listener.host ? 0 : parser_no_memory(r->p);
}

static int apply_per_listener(struct reader *r, const char *name, char *rest)
{
    struct parser *p = r->p;
    const char *word = value_word(&rest);
    struct err reason;
    bool on;

    if (value_bool(name, word, &on, &reason) || value_end(name, rest, &reason)) {
        return parser_fail(p, r->here, "%s", reason.text);
    }
    if (on && p->security_said.line) {
        return parser_fail(p, r->here,
                           "per_listener_settings must be set before any other security settings "
                           "(the first is at %.150s:%d).",
                           p->security_said.file, p->security_said.line);
    }
    if (!on && p->config->per_listener_settings) {
        parser_warn(p, r->here, "'per_listener_settings' was set to true before: that stays.");
        return 0;
    }
    p->config->per_listener_settings = on;
    return 0;
}

static int apply_keyform(struct reader *r, const char *name, char *rest)
{
    const char *word = value_word(&rest);
    struct err reason;

    if (value_end(name, rest, &reason)) {
        return parser_fail(r->p, r->here, "%s", reason.text);
    }
    if (strcmp(word, "pem") != 0) {
        return parser_fail(
            r->p, r->here,
            "Invalid '%s' value (%.60s). Keys are read from PEM files only: give keyfile a PEM file.", name,
            word);
    }
    return 0;
}

static int apply_include(struct reader *r, char *path)
{
    char **names;
    size_t count;
    int rc = 0;

    if (r->included) {
        return parser_fail(
            r->p, r->here,
            "The include_dir option is only valid in the main configuration file: an included file "
            "cannot include more.");
    }
    if (read_folder(path, &names, &count)) {
        return parser_fail(r->p, r->here, "Unable to open include_dir '%.200s': %s.", path, strerror(errno));
    }
    for (size_t i = 0; i < count && !rc; i++) {
        rc = read_file(r->p, names[i], true);
    }
    read_names_free(names, count);
    return rc;
}

static int apply_special(struct reader *r, const struct directive *d, const char *name, char *text)
{
    switch (d->type) {
    case TYPE_LISTENER:
        return apply_listener(r, name, text);
    case TYPE_PORT:
        return apply_port(r, name, text);
    case TYPE_ADDRESS:
        return apply_address(r, name, text);
    case TYPE_INCLUDE:
        return apply_include(r, text);
    case TYPE_PER_LISTENER:
        return apply_per_listener(r, name, text);
    default:
        return apply_keyform(r, name, text);
    }
}

/* ---- the other directives ---- */

/* Finds the struct that an option of this scope goes into now, and where it was said before. */
static void *option_base(struct reader *r, const struct directive *d, const char *name,
                         struct config_place **seen)
{
    struct parser *p = r->p;
    struct draft *draft = r->listener;
    bool own = d->scope == SCOPE_SECURITY && p->config->per_listener_settings;

    *seen = p->seen;
    if (d->scope == SCOPE_GENERAL) {
        return p->config;
    }
    if (d->scope == SCOPE_SECURITY && !own) {
        if (!p->security_said.line) {
            p->security_said = r->here;
        }
        return &p->security;
    }
    if (!draft && d->scope == SCOPE_LISTENER) {
        draft = default_listener(r, name);
        if (!draft) {
            return NULL;
        }
    }
    if (!draft || (d->scope == SCOPE_DECLARED && draft->implied)) {
        parser_fail(p, r->here, "The '%s' option requires a listener to be defined first.", name);
        return NULL;
    }
    *seen = draft->seen;
    if (own) {
        return &draft->security;
    }
    return d->scope == SCOPE_OVERRIDE ? (void *)&draft->override : (void *)&draft->listener;
}

/* The same directive again. 1: there is nothing left to do; 0: it is to be set; -1: refused. */
static int said_again(struct reader *r, const struct directive *d, const void *base, const char *name,
                      char *text, struct config_place before)
{
    struct err reason;
    bool same;

    if (value_is_text(d)) {
        return parser_fail(r->p, r->here,
                           "Duplicate '%s' value in configuration (the first is at %.150s:%d).", name,
                           before.file, before.line);
    }
    if (!value_must_agree(d)) {
        if (!value_adds_up(d)) {
            parser_warn(r->p, r->here, "'%s' was said before, at %.150s:%d: this one counts.", name,
                        before.file, before.line);
        }
        return 0;
    }
    if (value_agrees(d, base, name, text, &same, &reason)) {
        return parser_fail(r->p, r->here, "%s", reason.text);
    }
    if (!same) {
        return parser_fail(r->p, r->here, "'%s' was said before with another value, at %.150s:%d.", name,
                           before.file, before.line);
    }
    return 1;
}

/* log_dest may be said several times; only one of them names the file. */
static void remember_log_file(struct reader *r)
{
    struct config *config = r->p->config;

    if (!config->log_file) {
        config->log_file_at = (struct config_place){NULL, 0};
    } else if (!config->log_file_at.line) {
        config->log_file_at = r->here;
    }
}

static int apply_option(struct reader *r, const struct directive *d, const char *name, char *text)
{
    struct config_place *seen, *before;
    struct err reason;
    void *base;
    int again;

    /* Empty first: it says more than that a listener is missing. */
    if (*text == '\0') {
        value_empty(name, &reason);
        return parser_fail(r->p, r->here, "%s", reason.text);
    }
    base = option_base(r, d, name, &seen);
    if (!base) {
        return -1;
    }
    before = &seen[directive_index(d)];
    again = before->line ? said_again(r, d, base, name, text, *before) : 0;
    if (again) {
        return again < 0 ? -1 : 0;
    }
    if (value_set(d, base, name, text, before->line != 0, &reason)) {
        return parser_fail(r->p, r->here, "%s", reason.text);
    }
    *before = r->here;
    if (d->type == TYPE_LOG_DEST) {
        remember_log_file(r);
    }
    return 0;
}

static int apply_accepted(struct reader *r, const struct directive *d, const char *name, char *text)
{
    struct err reason;
    bool value;

    if (d->kind == KIND_ACCEPTED) {
        if (value_check(d, name, text, &reason)) {
            return parser_fail(r->p, r->here, "%s", reason.text);
        }
        parser_warn(r->p, r->here, "'%s' has no effect: %s.", name, d->note);
        return 0;
    }
    if (*text == '\0') {
        value_empty(name, &reason);
        return parser_fail(r->p, r->here, "%s", reason.text);
    }
    char *word = value_word(&text);

    if (value_bool(name, word, &value, &reason) || value_end(name, text, &reason)) {
        return parser_fail(r->p, r->here, "%s", reason.text);
    }
    if (value != (strcmp(d->fallback, "true") == 0)) {
        return parser_fail(r->p, r->here, "'%s %s' is not possible: %s.", name, word, d->note);
    }
    return 0;
}

/* Whether bridges are refused or ignored is known at the end; until then their lines are passed over. */
static int apply_bridge(struct reader *r, const char *name, const char *text)
{
    struct parser *p = r->p;
    struct config_place *more;

    if (strcmp(name, "connection") != 0) {
        if (!r->bridge) {
            return parser_fail(
                p, r->here,
                "The '%s' option requires a bridge to be defined first. (Bridges are not in this "
                "version: remove the line.)",
                name);
        }
        return 0;
    }
    if (*text == '\0') {
        return parser_fail(p, r->here, "Empty '%s' value in configuration.", name);
    }
    more = realloc(p->bridges, (p->bridge_count + 1) * sizeof *more);
    if (!more) {
        return parser_no_memory(p);
    }
    p->bridges = more;
    p->bridges[p->bridge_count++] = r->here;
    r->bridge = true;
    return 0;
}

/* A password file or a key given as configuration by mistake must not end up in the log, so only what could
 * have been meant as a name is shown. */
static bool like_a_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-=";
    size_t n = strlen(name);

    return n <= 40 && strspn(name, letters) == n;
}

static int unknown(struct reader *r, const char *name)
{
    const char *nearest = directive_nearest(name);

    if (nearest) {
        return parser_fail(r->p, r->here, "Unknown configuration variable '%.60s'. Did you mean '%s'?", name,
                           nearest);
    }
    if (!like_a_name(name)) {
        return parser_fail(r->p, r->here,
                           "Unknown configuration variable (not shown here: is this a configuration file?).");
    }
    return parser_fail(r->p, r->here, "Unknown configuration variable '%.60s'.", name);
}

static int apply(struct reader *r, const char *name, char *text)
{
    const struct directive *d = directive_find(name);

    if (!d) {
        return unknown(r, name);
    }
    d = directive_target(d);
    switch (d->kind) {
    case KIND_OPTION:
        return apply_option(r, d, name, text);
    case KIND_SPECIAL:
        if (*text == '\0') {
            return parser_fail(r->p, r->here, "Empty '%s%s' value in configuration.", name,
                               d->type == TYPE_LISTENER ? " port" : "");
        }
        return apply_special(r, d, name, text);
    case KIND_BRIDGE:
        return apply_bridge(r, name, text);
    case KIND_REFUSED:
        return parser_fail(r->p, r->here, "'%.60s' is not supported: %s.", name, d->note);
    default:
        return apply_accepted(r, d, name, text);
    }
}

/* ---- lines ---- */

/* Well-formed UTF-8 without control characters (a tab is allowed), as mosquitto demands of values. */
static bool is_text(const char *text)
{
    for (const unsigned char *s = (const unsigned char *)text; *s; s++) {
        bool c0 = (*s < 0x20 && *s != '\t') || *s == 0x7F;
        bool c1 = *s == 0xC2 && s[1] >= 0x80 && s[1] < 0xA0;
        if (c0 || c1) {
            return false;
        }
    }
    return utf8_valid(slice_str(text));
}

static int read_line(struct reader *r, char *line, size_t n)
{
    char *name = line, *text;

    while (n > 0 && line[n - 1] == '\r') {
        n--;
    }
    while (n > 0 && (line[n - 1] == ' ' || line[n - 1] == '\t')) {
        n--;
    }
    line[n] = '\0';
    name += strspn(name, " \t");
    if (*name == '\0' || *name == '#') {
        return 0;
    }
    if (!is_text(name)) {
        return parser_fail(r->p, r->here, "Malformed UTF-8 in configuration.");
    }
    text = name;
    name = value_word(&text);
    text += strspn(text, " \t");
    return apply(r, name, text);
}

static int read_lines(struct reader *r, char *data, size_t size)
{
    char *at = data, *end = data + size;

    if (size >= 3 && memcmp(data, "\xEF\xBB\xBF", 3) == 0) {
        at += 3; /* what some editors put before UTF-8 */
    }
    while (at < end) {
        char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((newline ? newline : end) - at);

        r->here.line++;
        if (n > LINE_MAX_BYTES) {
            return parser_fail(r->p, r->here, "The line is longer than %d bytes.", LINE_MAX_BYTES);
        }
        if (memchr(at, '\0', n)) {
            return parser_fail(r->p, r->here, "There is a zero byte: this is not a configuration file.");
        }
        if (read_line(r, at, n)) {
            return -1;
        }
        if (!newline && !strchr("#", at[strspn(at, " \t")])) {
            parser_warn(r->p, r->here, "The last line has no end: is the file complete?");
        }
        at += n + 1;
    }
    return 0;
}

/* ---- files ---- */

static int check_file(struct parser *p, struct config_place where, const struct stat *st, bool included)
{
    if (S_ISDIR(st->st_mode)) {
        return parser_fail(p, where, "Config file is a directory.");
    }
    if (!S_ISREG(st->st_mode) && !S_ISCHR(st->st_mode)) {
        return parser_fail(p, where, "Config file is no file, but a pipe, a socket or a device.");
    }
    if (included && st->st_dev == p->main_dev && st->st_ino == p->main_ino) {
        return parser_fail(p, where,
                           "This is the main configuration file: it cannot lie in its own include_dir.");
    }
    if (!included) {
        p->main_dev = st->st_dev;
        p->main_ino = st->st_ino;
    }
    return 0;
}

static int read_file(struct parser *p, const char *path, bool included)
{
    struct reader r = {.p = p, .included = included};
    struct stat st;
    size_t size = 0;
    char *data;
    int fd, rc;

    r.here.file = parser_keep_name(p, path);
    if (!r.here.file) {
        return parser_no_memory(p);
    }
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* nobody may write into a pipe */
    if (fd < 0 || fstat(fd, &st) < 0) {
        rc = parser_fail(p, r.here, "Unable to open config file: %s.", strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    if (check_file(p, r.here, &st, included)) {
        close(fd);
        return -1;
    }
    data = read_all(fd, st.st_size, &size);
    rc = data ? 0 : parser_fail(p, r.here, "Unable to read config file: %s.", strerror(errno));
    close(fd);
    if (data) {
        rc = read_lines(&r, data, size);
        free(data);
    }
    return rc;
}

int parser_read(struct parser *p, const char *path)
{
    return read_file(p, path, false);
}
