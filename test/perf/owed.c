/*
 * owed.c - a load for the durable store: publishers whose messages are owed to kept sessions, here or away.
 *
 *   owed PORT [NAME=NUMBER ...]
 *
 *   publishers=1     with CleanSession 1
 *   window=20        messages that each has under way, not acknowledged
 *   messages=1000    in all
 *   payload=64       bytes
 *   qos=1            0 or 1
 *   retain=0         1: with RETAIN
 *   topics=1         of each publisher, in turn
 *   root=0           number of the tree that all topics are in
 *   rate=0           messages a second of each publisher, in rounds of a tenth of a second; 0: as the window
 *                    allows. QoS 0 needs it
 *   subscribers=0    with CleanSession 0, QoS 1
 *   online=0         so many of them stay; the others go before the load begins
 *   delay=0          milliseconds after which those acknowledge
 *   closed=0         1: a message is under way until those who are there have it, too
 *   pairs=0          1: subscriber i takes the topics of publisher i only, instead of all
 *
 * It prints "ready" and waits for a line. Then the load is played; when the last acknowledgement has come,
 * and the last delivery to those who are there, it prints
 *
 *   MESSAGES SECONDS MEDIAN 99TH LONGEST DELIVERIES         the latencies of acknowledgements in microseconds
 *
 * and stays connected until its input ends.
 *
 * One loop, one thread. An acknowledgement is late by less than a millisecond: times of epoll are whole ones.
 */
#include "test/perf/load.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/epoll.h>

enum { IDS = 4096, IN_SIZE = 65536, AT_ONCE = 256, STALLED_MS = 60000 };

static struct {
    const char *name;
    long value;
} options[] = {{"publishers", 1}, {"window", 20}, {"messages", 1000}, {"payload", 64}, {"qos", 1},
               {"retain", 0},     {"topics", 1},  {"root", 0},        {"rate", 0},     {"subscribers", 0},
               {"online", 0},     {"delay", 0},   {"closed", 0},      {"pairs", 0}};

enum {
    PUBLISHERS,
    WINDOW,
    MESSAGES,
    PAYLOAD,
    QOS,
    RETAIN,
    TOPICS,
    ROOT,
    RATE,
    SUBSCRIBERS,
    ONLINE,
    DELAY,
    CLOSED,
    PAIRS,
    OPTIONS
};

struct client {
    int fd;
    bool publisher;
    uint8_t in[IN_SIZE];
    size_t have;
    /* a publisher */
    long sent, answered;
    double sent_at[IDS];
    double next_round;
};

/* Acknowledgements that wait, all for the same time: a ring in the order in which they are due. */
struct ack {
    double due;
    struct client *to;
    uint8_t id[2];
};

static struct load {
    int port, epoll;
    struct client **publishers, **online;
    long started, answered, deliveries;
    long each; /* deliveries of a message to those who are there */
    uint32_t *latencies;
    struct ack *acks;
    size_t first, waiting, size;
} load;

static long option(int which)
{
    return options[which].value;
}

static void parse(int argc, char **argv)
{
    load.port = argc > 1 ? atoi(argv[1]) : 0;
    for (int i = 2; i < argc; i++) {
        int k = 0;
        size_t n = strcspn(argv[i], "=");
        while (k < OPTIONS && (strlen(options[k].name) != n || strncmp(argv[i], options[k].name, n) != 0)) {
            k++;
        }
        if (k == OPTIONS || argv[i][n] != '=') {
            fprintf(stderr, "owed: what is '%s'?\n", argv[i]);
            exit(2);
        }
        options[k].value = atol(argv[i] + n + 1);
    }
    if (load.port <= 0 || option(WINDOW) >= IDS || option(ONLINE) > option(SUBSCRIBERS) ||
        (option(QOS) == 0 && option(RATE) == 0)) {
        fprintf(stderr, "usage: owed PORT [NAME=NUMBER ...], see owed.c\n");
        exit(2);
    }
}

/* ---- who takes part ---- */

static struct client *client_new(int fd, bool publisher)
{
    struct client *c = calloc(1, sizeof *c);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    if (!c || epoll_ctl(load.epoll, EPOLL_CTL_ADD, fd, &e) < 0) {
        die("a client");
    }
    c->fd = fd;
    c->publisher = publisher;
    return c;
}

static void open_subscriber(long i)
{
    char id[32], topic[48];
    snprintf(id, sizeof id, "s%ld-%ld", option(ROOT), i);
    snprintf(topic, sizeof topic, option(PAIRS) ? "w%ld/%ld/#" : "w%ld/#", option(ROOT), i);
    int fd = connect_kept(load.port, id);
    subscribe_at(fd, topic, 1);
    if (i < option(ONLINE)) {
        load.online[i] = client_new(fd, false);
    } else {
        write_all(fd, "\xE0", 2); /* DISCONNECT */
        close(fd);
    }
}

static void open_all(void)
{
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    load.publishers = calloc((size_t)option(PUBLISHERS), sizeof(struct client *));
    load.online = calloc((size_t)option(ONLINE) + 1, sizeof(struct client *));
    load.latencies = calloc((size_t)option(MESSAGES) + 1, sizeof *load.latencies);
    if (!load.publishers || !load.online || !load.latencies) {
        die("memory");
    }
    for (long i = 0; i < option(SUBSCRIBERS); i++) {
        open_subscriber(i);
    }
    for (long i = 0; i < option(PUBLISHERS); i++) {
        load.publishers[i] = client_new(connect_client(load.port, "", NULL, NULL), true);
    }
}

/* ---- publishing ---- */

static size_t put_publish(uint8_t *packet, long publisher, long sequence)
{
    char topic[48];
    uint8_t body[70000];
    snprintf(topic, sizeof topic, "w%ld/%ld/%ld", option(ROOT), publisher, sequence % option(TOPICS));
    uint8_t *b = put_text(body, topic), *p = packet;
    if (option(QOS)) {
        long id = 1 + sequence % (IDS - 1);
        *b++ = (uint8_t)(id >> 8);
        *b++ = (uint8_t)id;
    }
    memset(b, 'a' + (int)(sequence % 26), (size_t)option(PAYLOAD));
    size_t n = (size_t)(b - body) + (size_t)option(PAYLOAD), left = n;
    *p++ = (uint8_t)(0x30 | option(QOS) << 1 | option(RETAIN));
    do {
        *p++ = (uint8_t)((left & 127) | (left > 127 ? 128 : 0));
        left >>= 7;
    } while (left);
    memcpy(p, body, n);
    return (size_t)(p - packet) + n;
}

static bool all_full(void)
{
    return option(CLOSED) && load.each &&
           load.started - load.deliveries / load.each >= option(WINDOW) * option(PUBLISHERS);
}

/* Whether this publisher has one more to send now. */
static bool may_send(const struct client *c, long share, double t)
{
    return !all_full() && c->sent < share && load.started < option(MESSAGES) &&
           (!option(QOS) || c->sent - c->answered < option(WINDOW)) && (!option(RATE) || t >= c->next_round);
}

static void publish(long i)
{
    static uint8_t out[1 << 20];
    struct client *c = load.publishers[i];
    double t = now();
    size_t n = 0;
    long share = option(MESSAGES) / option(PUBLISHERS) + 1, round = option(RATE) / 10;
    while (n < sizeof out - 80000 && may_send(c, share, t)) {
        c->sent_at[1 + c->sent % (IDS - 1)] = t;
        n += put_publish(out + n, i, c->sent++);
        load.started++;
        if (round && c->sent % round == 0) {
            c->next_round += 0.1;
        }
    }
    write_all(c->fd, out, n);
}

static void answered(struct client *c, double t)
{
    double sent = c->sent_at[1 + c->answered % (IDS - 1)]; /* acknowledged in order [MQTT-4.6.0-2] */
    c->answered++;
    load.latencies[load.answered++] = (uint32_t)((t - sent) * 1e6);
}

/* ---- acknowledging ---- */

static void ack_later(struct client *c, const uint8_t id[2], double t)
{
    if (load.waiting == load.size) {
        struct ack *acks = calloc(load.size * 2 + 1024, sizeof *acks);
        if (!acks) {
            die("memory");
        }
        for (size_t i = 0; i < load.waiting; i++) {
            acks[i] = load.acks[(load.first + i) % load.size];
        }
        free(load.acks);
        load.acks = acks;
        load.size = load.size * 2 + 1024;
        load.first = 0;
    }
    load.acks[(load.first + load.waiting++) % load.size] =
        (struct ack){t + (double)option(DELAY) / 1000, c, {id[0], id[1]}};
}

static void ack_due(double t)
{
    static uint8_t out[4 * 4096];
    while (load.waiting > 0 && load.acks[load.first].due <= t) {
        struct client *c = load.acks[load.first].to;
        size_t n = 0;
        /* of one client together, as it would */
        for (; load.waiting > 0 && load.acks[load.first].due <= t && load.acks[load.first].to == c &&
               n < sizeof out;
             n += 4) {
            const struct ack *ack = &load.acks[load.first];
            memcpy(out + n, (uint8_t[]){0x40, 2, ack->id[0], ack->id[1]}, 4);
            load.first = (load.first + 1) % load.size;
            load.waiting--;
        }
        write_all(c->fd, out, n);
    }
}

/* ---- reading ---- */

static void packet_came(struct client *c, const uint8_t *packet, const uint8_t *body, double t)
{
    if (c->publisher) {
        if (packet[0] != 0x40) {
            fprintf(stderr, "a publisher got a packet of type 0x%02x\n", packet[0]);
            exit(1);
        }
        answered(c, t);
    } else if ((packet[0] & 0xF6) == 0x32) {
        ack_later(c, body + 2 + (body[0] << 8 | body[1]), t);
        load.deliveries++;
    }
}

/* The size of the whole packet, 0: not there yet. */
static size_t packet_size(const uint8_t *p, size_t n, size_t *head)
{
    size_t length = 0;
    for (size_t i = 1; i < n && i < 5; i++) {
        length |= (size_t)(p[i] & 127) << 7 * (i - 1);
        if (p[i] < 128) {
            *head = i + 1;
            return i + 1 + length <= n ? i + 1 + length : 0;
        }
    }
    return 0;
}

static void read_some(struct client *c)
{
    ssize_t n = read(c->fd, c->in + c->have, IN_SIZE - c->have);
    if (n <= 0) {
        die("the broker closed a connection");
    }
    double t = now();
    size_t at = 0, size, head;
    c->have += (size_t)n;
    while ((size = packet_size(c->in + at, c->have - at, &head)) > 0) {
        packet_came(c, c->in + at, c->in + at + head, t);
        at += size;
    }
    memmove(c->in, c->in + at, c->have - at);
    c->have -= at;
}

/* ---- the load ---- */

static bool over(void)
{
    return load.started == option(MESSAGES) && load.waiting == 0 &&
           (!option(QOS) || load.answered == load.started) && load.deliveries >= load.started * load.each;
}

static int patience(double t)
{
    double until = t + STALLED_MS / 1000.0;
    if (load.waiting > 0 && load.acks[load.first].due < until) {
        until = load.acks[load.first].due;
    }
    for (long i = 0; option(RATE) && load.started < option(MESSAGES) && i < option(PUBLISHERS); i++) {
        if (load.publishers[i]->next_round > t && load.publishers[i]->next_round < until) {
            until = load.publishers[i]->next_round;
        }
    }
    return until <= t ? 0 : 1 + (int)((until - t) * 1000);
}

static void play(void)
{
    struct epoll_event events[AT_ONCE];
    load.each = !option(QOS) || !option(ONLINE) ? 0 : option(PAIRS) ? 1 : option(ONLINE);
    for (long i = 0; i < option(PUBLISHERS); i++) { /* pairs: as many as subscribers, who are all there */
        load.publishers[i]->next_round = now();
    }
    while (!over()) {
        for (long i = 0; i < option(PUBLISHERS); i++) {
            publish(i);
        }
        if (over()) {
            break;
        }
        int wait = patience(now()), n = epoll_wait(load.epoll, events, AT_ONCE, wait);
        if (n < 0 || (n == 0 && wait >= STALLED_MS)) {
            fprintf(stderr, "owed: %ld sent, %ld acknowledged, %ld deliveries: nothing comes\n", load.started,
                    load.answered, load.deliveries);
            exit(1);
        }
        for (int i = 0; i < n; i++) {
            read_some(events[i].data.ptr);
        }
        ack_due(now());
    }
}

static int by_size(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

int main(int argc, char **argv)
{
    int c;
    parse(argc, argv);
    open_all();
    puts("ready");
    fflush(stdout);
    while ((c = getchar()) != '\n') {
        if (c == EOF) {
            return 0;
        }
    }
    double t = now();
    play();
    t = now() - t;
    size_t n = (size_t)load.answered;
    qsort(load.latencies, n, sizeof *load.latencies, by_size);
    printf("%ld %.3f %u %u %u %ld\n", load.started, t, n ? load.latencies[n / 2] : 0,
           n ? load.latencies[n - n / 100 - 1] : 0, n ? load.latencies[n - 1] : 0, load.deliveries);
    fflush(stdout);
    while (getchar() != EOF) {
    }
    return 0;
}
