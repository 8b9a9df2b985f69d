/*
 * site.c - the web page in memory.
 *
 * http_dir is read once, before the listener serves it (at start, or on a worker at reload), into a sorted
 * array; a request is then a binary search by its exact path. Nothing of a request can reach the file system:
 * there is no way out of the folder to be guarded against, because there is no way in.
 *
 *   http_dir/app.js  + http_dir/app.js.gz  -->  one entry "/app.js" with both forms
 *   http_dir/a/b.png                       -->  "/a/b.png"
 *   .hidden, sockets, devices              -->  left out
 *   symbolic links                         -->  followed to a plain file inside of http_dir, else left out,
 * with a line
 *
 * A folder that is too large is an error, not a truncated site.
 */
#include "ws/site.h"
#include "broker/log.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

struct ws_site {
    unsigned refs;
    struct site_file *files; /* sorted by path */
    size_t count;
    char **origins;
    size_t origin_count;
    size_t headers_max;
};

/* What the walk through the folder needs; root is the real path of http_dir. */
struct walk {
    struct ws_site *site;
    const struct config_listener *listener;
    struct err *err;
    char *root;
    size_t bytes;
};

static const struct {
    const char *ending;
    const char *type;
} types[] = {
    {"html", "text/html; charset=utf-8"},
    {"htm", "text/html; charset=utf-8"},
    {"js", "text/javascript; charset=utf-8"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"css", "text/css; charset=utf-8"},
    {"json", "application/json"},
    {"map", "application/json"},
    {"webmanifest", "application/manifest+json"},
    {"txt", "text/plain; charset=utf-8"},
    {"md", "text/plain; charset=utf-8"},
    {"csv", "text/csv; charset=utf-8"},
    {"xml", "text/xml; charset=utf-8"},
    {"svg", "image/svg+xml"},
    {"png", "image/png"},
    {"jpg", "image/jpeg"},
    {"jpeg", "image/jpeg"},
    {"gif", "image/gif"},
    {"webp", "image/webp"},
    {"ico", "image/x-icon"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"ttf", "font/ttf"},
    {"wasm", "application/wasm"},
    {"pdf", "application/pdf"},
    {"gz", "application/gzip"},
};

static const char *site_type(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *dot = strrchr(slash ? slash : path, '.');

    for (size_t i = 0; dot && i < sizeof types / sizeof *types; i++) {
        if (strcasecmp(dot + 1, types[i].ending) == 0)
            return types[i].type;
    }
    return "application/octet-stream";
}

/* FNV-1a, 64 bits: tells versions of a file apart; nobody but the owner of the folder chooses what is hashed.
 */
static void site_etag(struct site_file *file)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < file->size; i++)
        hash = (hash ^ file->data[i]) * 0x100000001b3u;
    snprintf(file->etag, sizeof file->etag, "\"%016" PRIx64 "\"", hash);
}

/* --- reading the folder --- */

__attribute__((format(printf, 2, 3))) static int walk_fail(struct walk *walk, const char *fmt, ...)
{
    const struct config_listener *listener = walk->listener;
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_set(walk->err, "%s:%d: Error: http_dir %s: %s",
                   listener->file ? err_path(listener->file) : "-", listener->line,
                   err_path(listener->http_dir), text);
}

static int walk_read(struct walk *walk, int fd, const char *path, struct site_file *file)
{
    size_t left = SITE_MAX_BYTES - walk->bytes;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return walk_fail(walk, "%s: %s", path, strerror(errno));
    if ((uint64_t)st.st_size > left)
        return walk_fail(walk, "holds more than %d MiB; only a small site is served", SITE_MAX_BYTES >> 20);
    file->data = malloc((size_t)st.st_size + 1);
    if (!file->data)
        return walk_fail(walk, "out of memory");
    while (file->size < (size_t)st.st_size) {
        ssize_t got = read(fd, file->data + file->size, (size_t)st.st_size - file->size);
        if (got < 0)
            return walk_fail(walk, "%s: %s", path, strerror(errno));
        if (got == 0)
            break; /* it became shorter meanwhile */
        file->size += (size_t)got;
    }
    walk->bytes += file->size;
    return 0;
}

/* path is the request's; name is what to open. */
static int walk_file(struct walk *walk, const char *path, const char *name)
{
    struct ws_site *site = walk->site;
    struct site_file *file;
    int fd, rc;

    if (site->count == SITE_MAX_FILES)
        return walk_fail(walk, "holds more than %d files; only a small site is served", SITE_MAX_FILES);
    file = &site->files[site->count];
    *file = (struct site_file){.path = strdup(path)};
    if (!file->path)
        return walk_fail(walk, "out of memory");
    site->count++;
    fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return walk_fail(walk, "%s: %s", path, strerror(errno));
    rc = walk_read(walk, fd, path, file);
    close(fd);
    file->type = site_type(path);
    site_etag(file);
    return rc;
}

/* A link may lead to a plain file inside of the folder. Whatever else it is, is left out: 1. */
static int walk_link(struct walk *walk, const char *path, const char *name)
{
    size_t n = strlen(walk->root);
    char *real = realpath(name, NULL);
    struct stat st;
    int rc = 1;

    if (real && strncmp(real, walk->root, n) == 0 && real[n] == '/' && stat(real, &st) == 0 &&
        S_ISREG(st.st_mode))
        rc = walk_file(walk, path, real);
    else
        log_write(LOG_T_WARNING,
                  "http_dir %s: %s is a symbolic link to no plain file inside of it, and not served",
                  walk->listener->http_dir, path);
    free(real);
    return rc;
}

static int walk_folder(struct walk *walk, const char *path, int depth);

static int walk_entry(struct walk *walk, const char *folder, const char *entry, int depth)
{
    char path[PATH_MAX], name[PATH_MAX];
    struct stat st;

    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, entry) >= sizeof path ||
        (size_t)snprintf(name, sizeof name, "%s%s", walk->root, path) >= sizeof name)
        return walk_fail(walk, "a name below %.200s is too long", folder);
    if (lstat(name, &st) < 0)
        return errno == ENOENT ? 0 : walk_fail(walk, "%s: %s", path, strerror(errno));
    if (S_ISLNK(st.st_mode))
        return walk_link(walk, path, name) < 0 ? -1 : 0;
    if (S_ISDIR(st.st_mode))
        return walk_folder(walk, path, depth + 1);
    return S_ISREG(st.st_mode) ? walk_file(walk, path, name) : 0;
}

static int walk_folder(struct walk *walk, const char *path, int depth)
{
    char name[PATH_MAX];
    struct dirent *entry;
    DIR *dir;
    int rc = 0;

    if (depth > SITE_MAX_DEPTH)
        return walk_fail(walk, "has folders nested deeper than %d", SITE_MAX_DEPTH);
    if ((size_t)snprintf(name, sizeof name, "%s%s", walk->root, path) >= sizeof name)
        return walk_fail(walk, "a name below %.200s is too long", path);
    dir = opendir(name);
    if (!dir)
        return walk_fail(walk, "%s: %s", *path ? path : "/", strerror(errno));
    while (rc == 0 && (errno = 0, entry = readdir(dir))) {
        if (entry->d_name[0] != '.')
            rc = walk_entry(walk, path, entry->d_name, depth);
    }
    if (rc == 0 && errno)
        rc = walk_fail(walk, "%s: %s", *path ? path : "/", strerror(errno));
    closedir(dir);
    return rc;
}

/* --- the array --- */

static int site_compare(const void *a, const void *b)
{
    return strcmp(((const struct site_file *)a)->path, ((const struct site_file *)b)->path);
}

static struct site_file *site_look_up(const struct ws_site *site, char *path)
{
    struct site_file key = {.path = path};

    return site->count ? bsearch(&key, site->files, site->count, sizeof key, site_compare) : NULL;
}

/* "x.gz" beside "x" becomes the compressed form of "x" and is no file of its own. */
static void site_pair(struct ws_site *site)
{
    size_t kept = 0;

    for (size_t i = 0; i < site->count; i++) {
        struct site_file *gz = &site->files[i], *plain;
        size_t n = strlen(gz->path);
        char path[PATH_MAX];
        if (n < 3 || strcmp(gz->path + n - 3, ".gz") != 0)
            continue;
        snprintf(path, sizeof path, "%.*s", (int)n - 3, gz->path);
        plain = site_look_up(site, path);
        if (!plain || !plain->data || plain->gz)
            continue;
        plain->gz = gz->data;
        plain->gz_size = gz->size;
        gz->data = NULL; /* marks it for the sweep below; the array must stay sorted until then */
    }
    for (size_t i = 0; i < site->count; i++) {
        if (site->files[i].data)
            site->files[kept++] = site->files[i];
        else
            free(site->files[i].path);
    }
    site->count = kept;
}

static int site_load_files(struct ws_site *site, const struct config_listener *listener, struct err *err)
{
    struct walk walk = {.site = site, .listener = listener, .err = err};
    struct site_file *fit;
    int rc;

    walk.root = realpath(listener->http_dir, NULL);
    if (!walk.root)
        return walk_fail(&walk, "%s", strerror(errno));
    if (strcmp(walk.root, "/") == 0) {
        free(walk.root);
        return walk_fail(&walk, "is the root folder");
    }
    site->files = calloc(SITE_MAX_FILES, sizeof *site->files);
    rc = site->files ? walk_folder(&walk, "", 0) : walk_fail(&walk, "out of memory");
    free(walk.root);
    if (rc < 0)
        return rc;
    qsort(site->files, site->count, sizeof *site->files, site_compare);
    site_pair(site);
    fit = realloc(site->files, (site->count ? site->count : 1) * sizeof *site->files);
    if (fit)
        site->files = fit;
    return 0;
}

static int site_copy_origins(struct ws_site *site, const struct config_listener *listener)
{
    if (listener->websockets_origins == 0)
        return 0;
    site->origins = calloc(listener->websockets_origins, sizeof *site->origins);
    if (!site->origins)
        return -1;
    for (size_t i = 0; i < listener->websockets_origins; i++) {
        site->origins[i] = strdup(listener->websockets_origin[i]);
        if (!site->origins[i])
            return -1;
        site->origin_count++;
    }
    return 0;
}

static void site_free(struct ws_site *site)
{
    for (size_t i = 0; i < site->count; i++) {
        free(site->files[i].path);
        free(site->files[i].data);
        free(site->files[i].gz);
    }
    free(site->files);
    for (size_t i = 0; i < site->origin_count; i++)
        free(site->origins[i]);
    free(site->origins);
    free(site);
}

struct ws_site *ws_site_load(const struct config_listener *listener, struct err *err)
{
    struct ws_site *site = calloc(1, sizeof *site);
    int asked = listener->websockets_headers_size;

    if (!site || site_copy_origins(site, listener) < 0) {
        err_set(err, "Error: out of memory");
        if (site)
            site_free(site);
        return NULL;
    }
    site->refs = 1;
    site->headers_max = asked <= 0                 ? SITE_HEADERS_DEFAULT
                        : asked > SITE_HEADERS_MAX ? SITE_HEADERS_MAX
                                                   : (size_t)asked;
    if (listener->http_dir && site_load_files(site, listener, err) < 0) {
        site_free(site);
        return NULL;
    }
    return site;
}

struct ws_site *ws_site_ref(struct ws_site *site)
{
    assert(site->refs > 0);
    site->refs++;
    return site;
}

void ws_site_unref(struct ws_site *site)
{
    if (!site)
        return;
    assert(site->refs > 0);
    if (--site->refs == 0)
        site_free(site);
}

/* --- asking --- */

const struct site_file *ws_site_find(const struct ws_site *site, const char *path, size_t n)
{
    static const char index[] = "index.html";
    char name[PATH_MAX];

    if (n == 0 || path[0] != '/' || n + sizeof index > sizeof name || memchr(path, '\0', n))
        return NULL;
    memcpy(name, path, n);
    name[n] = '\0';
    if (name[n - 1] == '/')
        memcpy(name + n, index, sizeof index);
    return site_look_up(site, name);
}

bool ws_site_origin_allowed(const struct ws_site *site, const char *origin)
{
    if (site->origin_count == 0)
        return true;
    for (size_t i = 0; origin && i < site->origin_count; i++) {
        /* scheme and host do not mind the case, and there is nothing else in an origin */
        if (strcasecmp(site->origins[i], origin) == 0)
            return true;
    }
    return false;
}

size_t ws_site_headers_max(const struct ws_site *site)
{
    return site->headers_max;
}
