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
#include "test/perf/load.h"

#include <dirent.h>
#include <sys/epoll.h>

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
        int fd = connect_client(port, "", NULL, NULL);
        subscribe(fd, "b/top");
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(load->epoll, EPOLL_CTL_ADD, fd, &e);
    }
    load->publisher = connect_client(port, "", NULL, NULL);
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
