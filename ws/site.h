/*
 * site.h - what one websockets listener serves, as the rest of ws/ sees it: read-only after ws_site_load()
 * (ws.h).
 */
#ifndef BRAMBLE_WS_SITE_H
#define BRAMBLE_WS_SITE_H

#include "ws/ws.h"
#include <stdbool.h>
#include <stddef.h>

enum {
    SITE_MAX_FILES = 500,
    SITE_MAX_BYTES = 8 * 1024 * 1024,
    SITE_MAX_DEPTH = 16,
    SITE_HEADERS_DEFAULT = 4096, /* websockets_headers_size 0 */
    SITE_HEADERS_MAX = 65000, /* libwebsockets keeps a request's headers in one block of less than 64 KiB */
};

struct site_file {
    char *path;       /* as in the request: "/index.html" */
    const char *type; /* Content-Type; static text */
    char etag[24];    /* quoted hash of the content */
    unsigned char *data;
    size_t size;
    unsigned char *gz; /* the same, compressed beforehand (from PATH.gz), or NULL */
    size_t gz_size;
};

/* The file for a decoded and normalised request path of n bytes; "/" and "/folder/" mean their index.html.
 * NULL: none. */
const struct site_file *ws_site_find(const struct ws_site *site, const char *path, size_t n);

/* Whether a WebSocket may be opened from this Origin (NULL: the client sent none). True without
 * websockets_origin; with it a client that names no origin is refused as well. */
bool ws_site_origin_allowed(const struct ws_site *site, const char *origin);

/* Most bytes that the header of a request may have. */
size_t ws_site_headers_max(const struct ws_site *site);

#endif
