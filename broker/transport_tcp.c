/*
 * transport_tcp.c - the bottom of every transport stack: a stream socket and its watch.
 *
 * Nothing is buffered here: read() and writev() go straight to the kernel, so pending() is always false and
 * closing has nothing of ours to send. The one care on closing: a socket that is closed with unread input
 * answers with a reset, and a reset makes the peer (and our own kernel) throw away what we had sent, a
 * CONNACK that says why for example. So close() says its FIN first, reads away what has already come, up to a
 * bound, and only then closes.
 *
 * The owner may call close() from within readable() or writable(); on_watch() learns of it through `gone`.
 */
#include "broker/transport_tcp.h"
#include "broker/loop.h"
#include "broker/principal.h"
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DRAIN_STEP = 16 * 1024, DRAIN_STEPS = 16 };

struct tcp {
    struct transport t; /* must be first */
    struct loop *loop;
    struct watch watch;
    bool *gone; /* set while a callback runs: where close() says that the struct is no more */
    int fd;
    int error; /* the errno that broke it, or 0 */
    uint16_t port;
    char address[48];
};

static struct tcp *tcp_of(struct transport *t)
{
    return (struct tcp *)t;
}

static void tcp_want(struct tcp *tcp, int event, bool on)
{
    watch_set(tcp->loop, &tcp->watch, on ? tcp->watch.events | event : tcp->watch.events & ~event);
}

static void on_watch(void *arg, int events)
{
    struct tcp *tcp = arg;
    bool gone = false;

    tcp->gone = &gone;
    if (events & LOOP_WRITE) {
        tcp_want(tcp, LOOP_WRITE, false);
        tcp->t.events->writable(tcp->t.owner);
        if (gone)
            return;
    }
    /* writable() may have turned reading off */
    if (events & tcp->watch.events & LOOP_READ) {
        tcp->t.events->readable(tcp->t.owner);
        if (gone)
            return;
    }
    tcp->gone = NULL;
}

static void tcp_start(struct transport *t)
{
    t->events->ready(t->owner, 0);
}

static ssize_t tcp_result(struct tcp *tcp, ssize_t n)
{
    if (n >= 0)
        return n;
    if (errno == EAGAIN)
        return -EAGAIN;
    tcp->error = errno;
    return -tcp->error;
}

static ssize_t tcp_read(struct transport *t, void *buf, size_t n)
{
    struct tcp *tcp = tcp_of(t);
    ssize_t got;

    if (n == 0)
        return -EAGAIN; /* recv() would say 0, which would look like the end */
    do {
        got = recv(tcp->fd, buf, n, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    return tcp_result(tcp, got);
}

static ssize_t tcp_writev(struct transport *t, const struct iovec *iov, int iovcnt)
{
    struct tcp *tcp = tcp_of(t);
    struct msghdr msg = {
        .msg_iov = (struct iovec *)(uintptr_t)iov, /* sendmsg() does not change it */
        .msg_iovlen = (size_t)(iovcnt < IOV_MAX ? iovcnt : IOV_MAX),
    };
    ssize_t sent;

    do {
        sent = sendmsg(tcp->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return tcp_result(tcp, sent);
}

static void tcp_want_read(struct transport *t, bool on)
{
    tcp_want(tcp_of(t), LOOP_READ, on);
}

static void tcp_want_write(struct transport *t, bool on)
{
    tcp_want(tcp_of(t), LOOP_WRITE, on);
}

static bool tcp_pending(struct transport *t)
{
    (void)t;
    return false;
}

static void tcp_peer(struct transport *t, struct principal *who)
{
    const struct tcp *tcp = tcp_of(t);

    snprintf(who->address, sizeof who->address, "%s", tcp->address);
    who->port = tcp->port;
}

static const char *tcp_why(struct transport *t)
{
    const struct tcp *tcp = tcp_of(t);

    return tcp->error ? strerror(tcp->error) : NULL;
}

static void tcp_drain(int fd)
{
    char scrap[DRAIN_STEP];

    for (int i = 0; i < DRAIN_STEPS; i++) {
        ssize_t got = recv(fd, scrap, sizeof scrap, MSG_DONTWAIT);
        if (got <= 0)
            return;
    }
}

static void tcp_close(struct transport *t)
{
    struct tcp *tcp = tcp_of(t);

    if (tcp->gone)
        *tcp->gone = true;
    watch_set(tcp->loop, &tcp->watch, 0);
    if (!tcp->error) {
        shutdown(tcp->fd, SHUT_WR);
        tcp_drain(tcp->fd);
    }
    close(tcp->fd);
    free(tcp);
}

static int tcp_fd(struct transport *t)
{
    return tcp_of(t)->fd;
}

static const struct transport_ops tcp_ops = {
    .name = "tcp",
    .start = tcp_start,
    .read = tcp_read,
    .writev = tcp_writev,
    .want_read = tcp_want_read,
    .want_write = tcp_want_write,
    .pending = tcp_pending,
    .peer = tcp_peer,
    .why = tcp_why,
    .close = tcp_close,
    .fd = tcp_fd,
};

/* IPv4 clients of an IPv6 socket come as ::ffff:1.2.3.4; people, ACLs and logs expect 1.2.3.4. */
static void tcp_name_ipv6(struct tcp *tcp, const struct sockaddr_in6 *in6)
{
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], tcp->address, sizeof tcp->address);
    } else {
        inet_ntop(AF_INET6, &in6->sin6_addr, tcp->address, sizeof tcp->address);
    }
    tcp->port = ntohs(in6->sin6_port);
}

static void tcp_name(struct tcp *tcp, const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
        inet_ntop(AF_INET, &in->sin_addr, tcp->address, sizeof tcp->address);
        tcp->port = ntohs(in->sin_port);
    } else if (address->sa_family == AF_INET6) {
        tcp_name_ipv6(tcp, (const struct sockaddr_in6 *)(const void *)address);
    } else {
        snprintf(tcp->address, sizeof tcp->address, "unix");
    }
}

struct transport *transport_tcp_new(struct loop *loop, int fd, const struct sockaddr *address, bool no_delay)
{
    struct tcp *tcp = calloc(1, sizeof *tcp);

    if (!tcp) {
        close(fd);
        return NULL;
    }
    tcp->t.ops = &tcp_ops;
    tcp->loop = loop;
    tcp->fd = fd;
    tcp_name(tcp, address);
    watch_init(&tcp->watch, fd, on_watch, tcp);
    if (no_delay && (address->sa_family == AF_INET || address->sa_family == AF_INET6)) {
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* only speed is lost without it */
    }
    return &tcp->t;
}
