/*
 * accesslog_line.c - see accesslog_line.h. What there is nothing to say about is left out, not null.
 */
#include "broker/accesslog_line.h"
#include "broker/log.h"
#include <inttypes.h>

/* The longest escaped form of each text; their sum and what stands between them is below LOG_ACCESS_MAX. */
enum { NAME_MAX_SIZE = 512, TOPIC_MAX_SIZE = 1024, WORDS_MAX_SIZE = 256 };
_Static_assert(2 * NAME_MAX_SIZE + TOPIC_MAX_SIZE + 3 * WORDS_MAX_SIZE + 700 < LOG_ACCESS_MAX, "a line fits");

struct line {
    char *out;
    size_t n;
    char cut[64]; /* the names of the fields that were cut, as JSON strings */
};

static void add(struct line *line, const char *text)
{
    size_t n = strlen(text);
    memcpy(line->out + line->n, text, n);
    line->n += n;
}

/* ,"name":  (the first one opens the object) */
static void add_name(struct line *line, const char *name)
{
    add(line, line->n ? ",\"" : "{\"");
    add(line, name);
    add(line, "\":");
}

static void add_number(struct line *line, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    add_name(line, name);
    add(line, text);
}

/* Nothing when there is no text. */
static void add_text(struct line *line, const char *name, struct slice text, size_t most)
{
    bool cut = false;
    if (!text.p) {
        return;
    }
    add_name(line, name);
    add(line, "\"");
    line->n += log_escape_json(line->out + line->n, most, text.p, text.n, &cut);
    add(line, "\"");
    if (cut) {
        size_t at = strlen(line->cut);
        snprintf(line->cut + at, sizeof line->cut - at, "%s\"%s\"", at ? "," : "", name);
    }
}

static void add_time(struct line *line, int64_t wall)
{
    char text[LOG_TIME_SIZE];
    log_time_utc(text, wall);
    add_text(line, "time", slice_str(text), sizeof text);
}

static size_t end(struct line *line)
{
    if (line->cut[0]) {
        add_name(line, "cut");
        add(line, "[");
        add(line, line->cut);
        add(line, "]");
    }
    add(line, "}");
    return line->n;
}

/* As it stands behind `listener` in the configuration: the port, and the address if there is one; of a Unix
 * socket the path. */
static void add_listener(struct line *line, const struct config_listener *listener)
{
    char text[WORDS_MAX_SIZE];
    if (!listener) {
        return;
    }
    if (listener->unix_path) {
        add_text(line, "listener", slice_str(listener->unix_path), WORDS_MAX_SIZE);
        return;
    }
    snprintf(text, sizeof text, "%d%s%s", listener->port, listener->host ? " " : "",
             listener->host ? listener->host : "");
    add_text(line, "listener", slice_str(text), sizeof text);
}

static void add_rule(struct line *line, const struct decision *decision)
{
    char text[WORDS_MAX_SIZE];
    if (decision->file) {
        const char *file = decision->file;
        size_t n = strlen(file), most = WORDS_MAX_SIZE - 16; /* of a long path its end */
        snprintf(text, sizeof text, "%s:%u", n > most ? file + n - most : file, decision->line);
        add_text(line, "rule", slice_str(text), sizeof text);
    }
}

static void add_who(struct line *line, const struct principal *who)
{
    add_text(line, "client", slice_str(who->client_id), NAME_MAX_SIZE);
    add_text(line, "user", slice_str(who->user), NAME_MAX_SIZE);
    add_text(line, "address", slice_str(who->address), sizeof who->address);
    if (who->port) {
        add_number(line, "port", who->port);
    }
}

size_t accesslog_line(char *out, const struct decision *decision, const struct config_listener *listener,
                      int64_t wall)
{
    static const char *const events[] = {[DECIDED_CONNECT] = "connect",
                                         [DECIDED_DISCONNECT] = "disconnect",
                                         [DECIDED_PUBLISH] = "publish",
                                         [DECIDED_SUBSCRIBE] = "subscribe",
                                         [DECIDED_REVOKED] = "revoked"};
    struct line line = {.out = out};
    add_time(&line, wall);
    add_text(&line, "event", slice_str(events[decision->kind]), WORDS_MAX_SIZE);
    add_name(&line, "allowed");
    add(&line, decision->allowed ? "true" : "false");
    add_who(&line, decision->who);
    add_listener(&line, listener);
    add_text(&line, "tls", slice_str(decision->who->tls_version), WORDS_MAX_SIZE);
    if (decision->topic.n > 0) {
        add_text(&line, "topic", decision->topic, TOPIC_MAX_SIZE);
    }
    if (decision->kind == DECIDED_PUBLISH || decision->kind == DECIDED_SUBSCRIBE) {
        add_number(&line, "qos", decision->qos);
    }
    add_text(&line, "reason", slice_str(decision->reason), WORDS_MAX_SIZE);
    add_rule(&line, decision);
    return end(&line);
}

size_t accesslog_left_out(char *out, uint64_t count, int64_t wall)
{
    struct line line = {.out = out};
    add_time(&line, wall);
    add_text(&line, "event", slice_str("left_out"), WORDS_MAX_SIZE);
    add_number(&line, "count", count);
    return end(&line);
}
