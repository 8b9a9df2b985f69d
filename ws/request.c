/*
 * request.c - judges the header of an HTTP request (RFC 7230 3). See input.h.
 *
 *     GET /path?query HTTP/1.1 CRLF
 *     Name: value CRLF
 *     ...
 *     CRLF
 *
 * Strict where leniency has made holes elsewhere: lines end by CR LF only, no field is folded, no blank
 * stands before a colon, no control character comes in, plain or %-encoded. What is left to ask, which file,
 * which origin, is http.c's.
 */
#include "ws/input.h"
#include <string.h>
#include <strings.h>

/* libwebsockets has 89 places (Debian's build has more) for fields and for parts of the query between & and ;
 * and would close without a word. */
enum { FIELDS_MOST = 64 };

struct line {
    const char *at;
    size_t n;
};

static const struct ws_fault none,
    malformed = {400, "the HTTP request is malformed"}, no_http = {400, "the client does not speak HTTP"},
    speaks_tls = {400, "the client speaks TLS, but this listener does not"},
    speaks_mqtt = {400, "the client speaks plain MQTT, but this "
                        "listener speaks WebSocket"},
    old = {505, "the version of the HTTP request is neither 1.1 nor 1.0"},
    method = {405, "the method of the HTTP request is neither GET nor HEAD"},
    target = {400, "the path of the HTTP request is malformed"},
    field = {400, "a header field of the HTTP request is malformed"},
    host = {400, "the HTTP request has no Host field, or several"},
    many = {431, "the HTTP request has more than 64 header fields and parts of its query"};

size_t ws_request_size(const char *data, size_t n, size_t seen)
{
    size_t from = seen > 3 ? seen - 3 : 0;
    const char *end = memmem(data + from, n - from, "\r\n\r\n", 4);

    return end ? (size_t)(end - data) + 4 : 0;
}

struct ws_fault ws_request_begins(unsigned char first)
{
    if (first == 0x16)
        return speaks_tls;
    if (first == 0x10)
        return speaks_mqtt;
    return first >= 'A' && first <= 'Z' ? none : no_http;
}

/* Of a method or of the name of a field (RFC 7230 3.2.6). */
static bool is_token(struct line word)
{
    for (size_t i = 0; i < word.n; i++) {
        char c = word.at[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (c == '\0' || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return word.n > 0;
}

static bool is(struct line word, const char *text)
{
    return word.n == strlen(text) && memcmp(word.at, text, word.n) == 0;
}

/* Up to the next byte c, which is skipped; all of it without one, and then rest->at is NULL. */
static struct line cut(struct line *rest, char c)
{
    const char *found = memchr(rest->at, c, rest->n);
    struct line word = {rest->at, found ? (size_t)(found - rest->at) : rest->n};

    *rest = found ? (struct line){found + 1, rest->n - word.n - 1} : (struct line){NULL, 0};
    return word;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* The value of %XX at the front; -1 when it is none. */
static int escaped(const char *at, size_t n)
{
    int high = n >= 3 ? hex(at[1]) : -1, low = n >= 3 ? hex(at[2]) : -1;

    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* *parts counts those of the query. */
static bool is_path(struct line path, int *parts)
{
    if (path.n == 0 || path.at[0] != '/')
        return false;
    for (size_t i = 0; i < path.n; i++) {
        int c = (unsigned char)path.at[i];
        *parts += c == '&' || c == ';' || c == '?';
        if (c == '%')
            c = escaped(path.at + i, path.n - i);
        else if (c > '~')
            return false;
        if (c < ' ' || c == 0x7f)
            return false;
    }
    return true;
}

static bool is_version(struct line word)
{
    return word.n == 8 && memcmp(word.at, "HTTP/", 5) == 0 && word.at[5] >= '0' && word.at[5] <= '9' &&
           word.at[6] == '.' && word.at[7] >= '0' && word.at[7] <= '9';
}

static struct ws_fault check_first(struct line line, bool *is11, int *parts)
{
    struct line verb = cut(&line, ' '), path = line.at ? cut(&line, ' ') : line;

    if (!line.at || !is_token(verb) || !is_version(line))
        return malformed;
    *is11 = is(line, "HTTP/1.1");
    if (!*is11 && !is(line, "HTTP/1.0"))
        return old;
    if (!is(verb, "GET") && !is(verb, "HEAD"))
        return method;
    return is_path(path, parts) ? none : target;
}

static struct ws_fault check_field(struct line line, int *hosts)
{
    struct line name = cut(&line, ':');

    if (!line.at || !is_token(name))
        return field;
    for (size_t i = 0; i < line.n; i++) {
        unsigned char c = (unsigned char)line.at[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return field;
    }
    *hosts += name.n == 4 && strncasecmp(name.at, "host", 4) == 0;
    return none;
}

struct ws_fault ws_request_check(const char *header, size_t n)
{
    struct line rest = {header, n - 2}, line; /* without the empty line */
    struct ws_fault wrong = none;
    int count = 0, hosts = 0;
    bool is11 = false;

    for (int number = 0; rest.n > 0 && !wrong.code; number++, count++) {
        line = cut(&rest, '\r');
        if (!rest.at || rest.n == 0 || rest.at[0] != '\n')
            return malformed;
        rest = (struct line){rest.at + 1, rest.n - 1};
        wrong = number == 0 ? check_first(line, &is11, &count) : check_field(line, &hosts);
    }
    if (wrong.code)
        return wrong;
    if (count > FIELDS_MOST)
        return many;
    return hosts > 1 || (is11 && hosts == 0) ? host : none;
}
