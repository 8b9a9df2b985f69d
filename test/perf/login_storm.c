/*
 * login_storm.c - many clients log in at once.
 *
 *   login_storm PORT CLIENTS PASSWORD
 *
 * For each line on standard input: "in" connects all clients at once (client i is user uI with the password,
 * from an address of its own in 127.0.0.0/8) and prints one line when the last one has its CONNACK 0; "out"
 * closes all connections and prints "out". The end of input ends it.
 *
 *   in SECONDS ACCEPTED REFUSED CUT MEDIAN       refused: CONNACK 3; cut: closed without a CONNACK;
 *                                                median: from the start to CONNACK 0, seconds
 *
 * A client that is refused or cut does what a patient one does: it tries again a second later, as often as
 * need be, but after LIMIT_SECONDS the storm is over and ACCEPTED says who got in. Any other answer is an
 * error and ends the program.
 *
 * One loop; a connection is opened without waiting, its CONNECT is written when it is open.
 */
#include "test/perf/load.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>

enum { CLIENTS_MAX = 10000, LIMIT_SECONDS = 120, AT_ONCE = 256 };

static const double PATIENCE = 1.0; /* seconds */

enum state { OUT, OPENING, WAITING, IN };

struct client {
    int fd;
    enum state state;
    size_t came; /* bytes of CONNACK */
    uint8_t answer[4];
    double retry; /* when, while OUT */
    double done;  /* seconds to CONNACK 0 */
};

struct storm {
    struct client client[CLIENTS_MAX];
    int epoll, port, clients, in;
    bool one_address;
    long refused, cut;
    const char *password;
    double start;
};

static void watch(struct storm *storm, struct client *c, int operation, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(storm->epoll, operation, c->fd, &e) < 0) {
        die("epoll_ctl");
    }
}

static void open_one(struct storm *storm, struct client *c)
{
    struct sockaddr_in from = loopback(0, storm->one_address ? 0 : 256 + (uint32_t)(c - storm->client));
    struct sockaddr_in to = loopback(storm->port, 0);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0 || bind(c->fd, (struct sockaddr *)&from, sizeof from) < 0) {
        die("a socket");
    }
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) {
        die("connect");
    }
    c->state = OPENING;
    c->came = 0;
    watch(storm, c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void again_later(struct client *c)
{
    close(c->fd);
    c->state = OUT;
    c->retry = now() + PATIENCE;
}

static void greet(struct storm *storm, struct client *c)
{
    uint8_t packet[128];
    char id[16], user[16];
    snprintf(id, sizeof id, "storm-%d", (int)(c - storm->client));
    snprintf(user, sizeof user, "u%d", (int)(c - storm->client));
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    errno = error;
    size_t n = put_connect(packet, id, user, storm->password);
    if (error || write(c->fd, packet, n) != (ssize_t)n) {
        storm->cut++;
        again_later(c);
        return;
    }
    c->state = WAITING;
    watch(storm, c, EPOLL_CTL_MOD, EPOLLIN);
}

static void answered(struct storm *storm, struct client *c)
{
    if (c->answer[0] != 0x20 || c->answer[1] != 2 || (c->answer[3] != 0 && c->answer[3] != 3)) {
        fprintf(stderr, "CONNECT was answered by %02x %02x %02x %02x\n", c->answer[0], c->answer[1],
                c->answer[2], c->answer[3]);
        exit(1);
    }
    if (c->answer[3] == 3) {
        storm->refused++;
        again_later(c);
        return;
    }
    c->state = IN;
    c->done = now() - storm->start;
    storm->in++;
}

static void readable(struct storm *storm, struct client *c)
{
    ssize_t n = read(c->fd, c->answer + c->came, sizeof c->answer - c->came);
    if (c->state == IN) {
        fprintf(stderr, "client %d was %s after its CONNACK\n", (int)(c - storm->client),
                n > 0 ? "sent something" : "disconnected");
        exit(1);
    }
    if (n <= 0) {
        storm->cut++;
        again_later(c);
        return;
    }
    c->came += (size_t)n;
    if (c->came == sizeof c->answer) {
        answered(storm, c);
    }
}

static void open_due(struct storm *storm)
{
    double t = now();
    for (int i = 0; i < storm->clients; i++) {
        if (storm->client[i].state == OUT && storm->client[i].retry <= t) {
            open_one(storm, &storm->client[i]);
        }
    }
}

static void turn(struct storm *storm)
{
    struct epoll_event events[AT_ONCE];
    open_due(storm);
    int n = epoll_wait(storm->epoll, events, AT_ONCE, 100);
    for (int i = 0; i < n; i++) {
        struct client *c = events[i].data.ptr;
        if (c->state == OPENING) {
            greet(storm, c);
        } else if (c->state == WAITING || c->state == IN) {
            readable(storm, c);
        }
    }
}

static int later(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void all_in(struct storm *storm)
{
    static double done[CLIENTS_MAX];
    storm->in = 0;
    storm->refused = storm->cut = 0;
    storm->start = now();
    while (storm->in < storm->clients && now() - storm->start < LIMIT_SECONDS) {
        turn(storm);
    }
    double seconds = now() - storm->start;
    int n = 0;
    for (int i = 0; i < storm->clients; i++) {
        if (storm->client[i].state == IN) {
            done[n++] = storm->client[i].done;
        }
    }
    qsort(done, (size_t)n, sizeof *done, later);
    printf("in %.3f %d %ld %ld %.3f\n", seconds, n, storm->refused, storm->cut, n ? done[n / 2] : seconds);
}

static void all_out(struct storm *storm)
{
    static const uint8_t disconnect[] = {0xE0, 0};
    for (int i = 0; i < storm->clients; i++) {
        struct client *c = &storm->client[i];
        if (c->state == IN) {
            write_all(c->fd, disconnect, sizeof disconnect);
        }
        if (c->state != OUT) {
            close(c->fd);
        }
        *c = (struct client){0};
    }
    puts("out");
}

int main(int argc, char **argv)
{
    static struct storm storm;
    char line[16];
    if (argc != 5 || atoi(argv[2]) < 1 || atoi(argv[2]) > CLIENTS_MAX || strlen(argv[3]) > 64) {
        fprintf(stderr, "usage: login_storm PORT CLIENTS PASSWORD ONE_ADDRESS\n");
        return 2;
    }
    storm.port = atoi(argv[1]);
    storm.clients = atoi(argv[2]);
    storm.password = argv[3];
    storm.one_address = atoi(argv[4]) != 0;
    storm.epoll = epoll_create1(EPOLL_CLOEXEC);
    signal(SIGPIPE, SIG_IGN);
    while (fgets(line, sizeof line, stdin)) {
        if (strcmp(line, "in\n") == 0) {
            all_in(&storm);
        } else if (strcmp(line, "out\n") == 0) {
            all_out(&storm);
        }
        fflush(stdout);
    }
    return 0;
}
