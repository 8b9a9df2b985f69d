/*
 * talk.c - how long a small message takes while something else goes on: ten clients talk in a ring.
 *
 *   talk PORT CLIENTS MESSAGES_PER_SECOND USER PASSWORD
 *
 * Each client subscribes to a topic of its own; by turns they publish a QoS 0 message to their neighbour's.
 * The message carries the time at which it was written, so what is measured is writing, broker and reading.
 * For each line on standard input the messages under way are awaited, the latencies since the last line are
 * printed (one line of whole microseconds), and it goes on. The end of input ends it.
 *
 * Messages are sent by the clock, not when the last one has come back: a broker that stands still for a
 * second makes a second's worth of late messages, not one. TCP_NODELAY is on, as it should be in the broker:
 * else Nagle's algorithm is what is measured.
 */
#include "test/perf/load.h"

#include <netinet/tcp.h>
#include <poll.h>

enum { CLIENTS_MAX = 100, LOST_SECONDS = 60, TOPIC = sizeof "t/00" - 1, PACKET = 2 + 2 + TOPIC + 8 };

struct talk {
    struct pollfd fd[CLIENTS_MAX + 1]; /* the last used one: standard input */
    uint8_t in[CLIENTS_MAX][PACKET];   /* what has come of a message */
    size_t in_n[CLIENTS_MAX];
    int clients, turn;
    double interval, next;
    uint32_t *latencies;
    size_t sent, came, size;
};

static void topic_of(int client, char topic[TOPIC + 1])
{
    snprintf(topic, TOPIC + 1, "t/%02u", (unsigned)client % CLIENTS_MAX);
}

static void open_all(struct talk *talk, int port, const char *user, const char *password)
{
    for (int i = 0; i < talk->clients; i++) {
        char topic[TOPIC + 1];
        int on = 1;
        topic_of(i, topic);
        int fd = connect_client(port, topic, user, password);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        subscribe(fd, topic);
        talk->fd[i] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    talk->fd[talk->clients] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
}

static void send_one(struct talk *talk)
{
    char topic[TOPIC + 1];
    uint8_t packet[PACKET] = {0x30, PACKET - 2};
    topic_of((talk->turn + 1) % talk->clients, topic);
    double t = now();
    memcpy(put_text(packet + 2, topic), &t, sizeof t);
    write_all(talk->fd[talk->turn].fd, packet, sizeof packet);
    talk->turn = (talk->turn + 1) % talk->clients;
    talk->sent++;
}

static void note(struct talk *talk, const uint8_t packet[PACKET])
{
    double t;
    memcpy(&t, packet + PACKET - sizeof t, sizeof t);
    if (talk->came == talk->size) {
        talk->size = talk->size * 2 + 1024;
        talk->latencies = realloc(talk->latencies, talk->size * sizeof *talk->latencies);
        if (!talk->latencies) {
            die("latencies");
        }
    }
    talk->latencies[talk->came++] = (uint32_t)((now() - t) * 1e6);
}

static void read_some(struct talk *talk, int i)
{
    ssize_t n = read(talk->fd[i].fd, talk->in[i] + talk->in_n[i], PACKET - talk->in_n[i]);
    if (n <= 0) {
        die("a talking client was disconnected");
    }
    talk->in_n[i] += (size_t)n;
    if (talk->in_n[i] == PACKET) {
        note(talk, talk->in[i]);
        talk->in_n[i] = 0;
    }
}

/* Reads what comes within the time; whether a line is there to be read. */
static int wait_and_read(struct talk *talk, double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds,
                         .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    if (ppoll(talk->fd, (nfds_t)talk->clients + 1, &t, NULL) < 0) {
        die("poll");
    }
    for (int i = 0; i < talk->clients; i++) {
        if (talk->fd[i].revents) {
            read_some(talk, i);
        }
    }
    return talk->fd[talk->clients].revents != 0;
}

static void report(struct talk *talk)
{
    double end = now() + LOST_SECONDS;
    while (talk->came < talk->sent) {
        wait_and_read(talk, 0.1);
        if (now() > end) {
            fprintf(stderr, "%zu messages did not come\n", talk->sent - talk->came);
            exit(1);
        }
    }
    for (size_t i = 0; i < talk->came; i++) {
        printf("%u ", talk->latencies[i]);
    }
    puts("");
    fflush(stdout);
    talk->sent = talk->came = 0;
    talk->next = now();
}

int main(int argc, char **argv)
{
    static struct talk talk;
    char line[2];
    if (argc != 6 || atoi(argv[2]) < 1 || atoi(argv[2]) > CLIENTS_MAX || atof(argv[3]) <= 0) {
        fprintf(stderr, "usage: talk PORT CLIENTS MESSAGES_PER_SECOND USER PASSWORD\n");
        return 2;
    }
    talk.clients = atoi(argv[2]);
    talk.interval = 1 / atof(argv[3]);
    open_all(&talk, atoi(argv[1]), argv[4], argv[5]);
    for (talk.next = now();;) {
        double t = now();
        for (; talk.next <= t; talk.next += talk.interval) {
            send_one(&talk);
        }
        if (wait_and_read(&talk, talk.next > t ? talk.next - t : 0)) {
            if (read(STDIN_FILENO, line, 1) != 1) {
                return 0;
            }
            report(&talk);
        }
    }
}
