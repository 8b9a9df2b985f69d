/*
 * load.h - what the load programs of this folder share: the clock, blocking reads and writes, and a client
 * that is connected when the call returns. A load that cannot go on ends with a message: a figure from half a
 * load would be wrong without anybody seeing it.
 */
#ifndef BRAMBLE_TEST_LOAD_H
#define BRAMBLE_TEST_LOAD_H

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Seconds, monotonic. */
static inline double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline void write_all(int fd, const void *p, size_t n)
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

static inline void read_exactly(int fd, void *p, size_t n)
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

static inline struct sockaddr_in loopback(int port, uint32_t host)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK + host);
    return a;
}

static inline uint8_t *put_text(uint8_t *p, const char *text)
{
    size_t n = strlen(text);
    *p++ = (uint8_t)(n >> 8);
    *p++ = (uint8_t)n;
    memcpy(p, text, n);
    return p + n;
}

/* A CONNECT of MQTT 3.1.1 with CleanSession and without keep alive; user NULL: neither user nor password. All
 * texts together below 100 bytes. Returns its size. */
static inline size_t put_connect(uint8_t packet[128], const char *client_id, const char *user,
                                 const char *password)
{
    static const uint8_t head[] = {0x10, 0, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0};
    memcpy(packet, head, sizeof head);
    uint8_t *p = put_text(packet + sizeof head, client_id);
    if (user) {
        packet[9] |= 0xC0;
        p = put_text(put_text(p, user), password);
    }
    packet[1] = (uint8_t)(p - packet - 2);
    return (size_t)(p - packet);
}

/* Writes the CONNECT and blocks until CONNACK 0 is there. */
static inline int connect_with(int port, const uint8_t *packet, size_t size)
{
    struct sockaddr_in a = loopback(port, 0);
    uint8_t answer[4];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        die("connect");
    }
    write_all(fd, packet, size);
    read_exactly(fd, answer, sizeof answer);
    if (answer[0] != 0x20 || answer[3] != 0) {
        fprintf(stderr, "refused with code %d\n", answer[3]);
        exit(1);
    }
    return fd;
}

static inline int connect_client(int port, const char *client_id, const char *user, const char *password)
{
    uint8_t packet[128];
    return connect_with(port, packet, put_connect(packet, client_id, user, password));
}

/* With CleanSession 0. */
static inline int connect_kept(int port, const char *client_id)
{
    uint8_t packet[128];
    size_t n = put_connect(packet, client_id, NULL, NULL);
    packet[9] &= (uint8_t)~2U;
    return connect_with(port, packet, n);
}

/* Blocks until SUBACK is there, which must be the next packet to come. */
static inline void subscribe_at(int fd, const char *topic, uint8_t qos)
{
    uint8_t packet[128] = {0x82, 0, 0, 1}, answer[5];
    uint8_t *p = put_text(packet + 4, topic);
    *p++ = qos;
    packet[1] = (uint8_t)(p - packet - 2);
    write_all(fd, packet, (size_t)(p - packet));
    read_exactly(fd, answer, sizeof answer);
    if (answer[0] != 0x90 || answer[4] != qos) {
        fprintf(stderr, "SUBSCRIBE was answered with code %d\n", answer[4]);
        exit(1);
    }
}

static inline void subscribe(int fd, const char *topic)
{
    subscribe_at(fd, topic, 0);
}

#endif
