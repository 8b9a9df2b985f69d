/*
 * fanout.c - a closed-loop load: one publisher, N subscribers, a bounded number of deliveries outstanding.
 *
 *   fanout PORT PID SUBSCRIBERS PAYLOAD MESSAGES OUTSTANDING
 *
 * Publishes QoS 0 messages on one topic, never more than OUTSTANDING deliveries ahead of what the subscribers
 * have read, so no broker is pushed into dropping. Prints one line: deliveries, CPU nanoseconds of the broker
 * per delivery (schedstat of all threads of process PID, user and kernel), and the wall time. The subscribers
 * only count bytes: the load's own work is small.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void write_all(int fd, const void *p, size_t n)
{
    while (n > 0) {
        ssize_t w = write(fd, p, n);
        if (w < 0) {
            die("write");
        }
        p = (const char *)p + w;
        n -= (size_t)w;
    }
}

static void read_exactly(int fd, void *p, size_t n)
{
    while (n > 0) {
        ssize_t r = read(fd, p, n);
        if (r <= 0) {
            die("the broker closed a connection");
        }
        p = (char *)p + r;
        n -= (size_t)r;
    }
}

static int connect_client(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        die("connect");
    }
    static const unsigned char hello[] = {0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 0};
    unsigned char answer[4];
    write_all(fd, hello, sizeof hello);
    read_exactly(fd, answer, sizeof answer);
    if (answer[3] != 0) {
        fprintf(stderr, "refused with code %d\n", answer[3]);
        exit(1);
    }
    return fd;
}

static void subscribe(int fd)
{
    static const unsigned char packet[] = {0x82, 10, 0, 1, 0, 5, 'b', '/', 't', 'o', 'p', 0};
    unsigned char answer[5];
    write_all(fd, packet, sizeof packet);
    read_exactly(fd, answer, sizeof answer);
}

/* On-CPU nanoseconds of all threads. */
static unsigned long long cpu_ns(const char *pid)
{
    char path[300];
    unsigned long long sum = 0;
    snprintf(path, sizeof path, "/proc/%s/task", pid);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        unsigned long long ns;
        snprintf(path, sizeof path, "/proc/%s/task/%s/schedstat", pid, e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (f && fscanf(f, "%llu", &ns) == 1) {
            sum += ns;
        }
        if (f) {
            fclose(f);
        }
    }
    if (!dir || sum == 0) {
        die("schedstat");
    }
    closedir(dir);
    return sum;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct load {
    int epoll, publisher, subscribers;
    size_t packet_size;
    unsigned char packet[70000];
    unsigned long long bytes_read;
};

static void make_packet(struct load *load, size_t payload)
{
    unsigned char *p = load->packet;
    size_t body = 2 + 5 + payload, left = body;
    *p++ = 0x30;
    do {
        *p++ = (unsigned char)((left & 127) | (left > 127 ? 128 : 0));
        left >>= 7;
    } while (left);
    memcpy(p, "\0\5b/top", 7);
    memset(p + 7, 'x', payload);
    load->packet_size = (size_t)(p - load->packet) + body;
}

static void open_all(struct load *load, int port)
{
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < load->subscribers; i++) {
        int fd = connect_client(port);
        subscribe(fd);
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(load->epoll, EPOLL_CTL_ADD, fd, &e);
    }
    load->publisher = connect_client(port);
}

static void drain(struct load *load)
{
    static char sink[1 << 18];
    struct epoll_event events[256];
    int n = epoll_wait(load->epoll, events, 256, 10000);
    if (n <= 0) {
        fprintf(stderr, "no delivery for 10 s: %llu bytes so far\n", load->bytes_read);
        exit(1);
    }
    for (int i = 0; i < n; i++) {
        ssize_t r = read(events[i].data.fd, sink, sizeof sink);
        if (r <= 0) {
            die("a subscriber was disconnected");
        }
        load->bytes_read += (unsigned long long)r;
    }
}

static void run(struct load *load, long messages, long outstanding)
{
    unsigned long long start = load->bytes_read;
    unsigned long long per_message = load->packet_size * (unsigned long long)load->subscribers;
    long sent = 0, ahead = outstanding / load->subscribers;
    ahead = ahead < 1 ? 1 : ahead;
    while (load->bytes_read - start < per_message * (unsigned long long)messages) {
        long done = (long)((load->bytes_read - start) / per_message);
        for (; sent < messages && sent - done < ahead; sent++) {
            write_all(load->publisher, load->packet, load->packet_size);
        }
        drain(load);
    }
}

int main(int argc, char **argv)
{
    static struct load load;
    if (argc != 7) {
        fprintf(stderr, "usage: fanout PORT PID SUBSCRIBERS PAYLOAD MESSAGES OUTSTANDING\n");
        return 2;
    }
    long messages = atol(argv[5]), outstanding = atol(argv[6]);
    load.subscribers = atoi(argv[3]);
    make_packet(&load, (size_t)atol(argv[4]));
    open_all(&load, atoi(argv[1]));
    run(&load, messages / 10 + 1, outstanding); /* warm */
    unsigned long long cpu = cpu_ns(argv[2]);
    double t = now();
    run(&load, messages, outstanding);
    cpu = cpu_ns(argv[2]) - cpu;
    double deliveries = (double)messages * load.subscribers;
    printf("deliveries %.0f cpu_ns_per_delivery %.1f wall_s %.3f\n", deliveries, (double)cpu / deliveries,
           now() - t);
    return 0;
}
