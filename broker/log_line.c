/*
 * log_line.c - what a log line looks like: its timestamp, and its text made safe to show.
 *
 * Most of what is logged comes from strangers (client ids, topics, user names). A line must stay one line,
 * and must not steer the terminal or the pager that somebody reads it in.
 */
#include "broker/log_sink.h"
#include <string.h>
#include <syslog.h>
#include <time.h>

/* The length of the well-formed UTF-8 character at p, 0 when it is broken; *code is its number. */
static size_t utf8_length(const unsigned char *p, size_t n, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length;

    if (p[0] < 0x80) {
        *code = p[0];
        return 1;
    }
    length = (p[0] & 0xe0) == 0xc0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : (p[0] & 0xf8) == 0xf0 ? 4 : 0;
    if (length == 0 || length > n)
        return 0;
    *code = p[0] & (0xffU >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (p[i] & 0x3f);
    }
    if (*code < least[length] || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff))
        return 0;
    return length;
}

/* What could move a cursor, end a line or turn the order of the text round in somebody's terminal. */
static bool is_control(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x2028 || code == 0x2029 ||
           (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

/* One character of text to out as it may be seen. Returns its length there (at most 16); *taken is its length
 * in text. */
static size_t escape_one(char *out, const unsigned char *text, size_t n, size_t *taken)
{
    static const char digits[] = "0123456789abcdef";
    uint32_t code = 0;
    size_t length = utf8_length(text, n, &code);
    size_t o = 0;

    *taken = length ? length : 1;
    if (length && !is_control(code)) {
        memcpy(out, text, length);
        return length;
    }
    for (size_t i = 0; i < *taken; i++) {
        out[o++] = '\\';
        out[o++] = 'x';
        out[o++] = digits[text[i] >> 4];
        out[o++] = digits[text[i] & 15];
    }
    return o;
}

size_t log_escape(char *out, size_t size, const char *text, size_t n, bool cut)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t at = 0, o = 0, dots = 0; /* dots: the last place where "..." still fits */
    char one[16];

    while (at < n) {
        size_t taken, length = escape_one(one, p + at, n - at, &taken);
        if (o + length + 1 > size) {
            cut = true;
            break;
        }
        memcpy(out + o, one, length);
        o += length;
        at += taken;
        if (o + 4 <= size)
            dots = o;
    }
    if (cut) {
        memcpy(out + dots, "...", 3);
        o = dots + 3;
    }
    out[o] = 0;
    return o;
}

/* One character of text as it stands in a JSON string. Returns its length there (at most 6); *taken is its
 * length in text. */
static size_t json_one(char *out, const unsigned char *text, size_t n, size_t *taken)
{
    uint32_t code = 0;
    size_t length = utf8_length(text, n, &code);

    *taken = length ? length : 1;
    if (length == 0 || is_control(code)) /* all of these are of the first plane */
        return (size_t)snprintf(out, 7, "\\u%04x", length ? code : 0xfffd);
    if (code == '"' || code == '\\')
        return (size_t)snprintf(out, 7, "\\%c", (char)code);
    memcpy(out, text, length);
    return length;
}

size_t log_escape_json(char *out, size_t size, const void *text, size_t n, bool *cut)
{
    const unsigned char *p = text;
    size_t at = 0, o = 0;
    char one[8];

    while (at < n) {
        size_t taken, length = json_one(one, p + at, n - at, &taken);
        if (o + length + 1 > size) {
            *cut = true;
            break;
        }
        memcpy(out + o, one, length);
        o += length;
        at += taken;
    }
    out[o] = 0;
    return o;
}

void log_time_utc(char out[LOG_TIME_SIZE], int64_t ms)
{
    time_t when = (time_t)(ms / 1000);
    struct tm tm = {0};
    size_t n;

    gmtime_r(&when, &tm);
    n = strftime(out, LOG_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, LOG_TIME_SIZE - n, ".%03dZ", (int)(ms % 1000));
}

int log_stamp_set(struct log_stamp *stamp, const struct log_options *options, struct err *err)
{
    const char *format = options->timestamp_format ? options->timestamp_format : "";
    size_t n = strlen(format);

    if (n >= sizeof stamp->format) {
        return err_set(err, "log_timestamp_format is longer than %d characters", LOG_STAMP_MAX - 1);
    }
    stamp->on = options->timestamp;
    memcpy(stamp->format, format, n + 1);
    return 0;
}

size_t log_stamp_format(char *out, const struct log_stamp *stamp, int64_t sec)
{
    time_t when = (time_t)sec;
    struct tm tm;
    size_t n = 0;

    if (!stamp->on) {
        out[0] = 0;
        return 0;
    }
    if (stamp->format[0] && localtime_r(&when, &tm)) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* it is the administrator's */
        n = strftime(out, LOG_STAMP_MAX, stamp->format, &tm);
#pragma GCC diagnostic pop
    }
    if (n == 0)
        n = (size_t)snprintf(out, LOG_STAMP_MAX, "%lld", (long long)sec);
    memcpy(out + n, ": ", 3);
    return n + 2;
}

int log_priority(enum log_type type)
{
    switch (type) {
    case LOG_T_ERROR:
        return LOG_ERR;
    case LOG_T_WARNING:
        return LOG_WARNING;
    case LOG_T_NOTICE:
    case LOG_T_SUBSCRIBE:
    case LOG_T_UNSUBSCRIBE:
        return LOG_NOTICE;
    case LOG_T_INFO:
    case LOG_T_ACCESS:
        return LOG_INFO;
    default:
        return LOG_DEBUG;
    }
}
