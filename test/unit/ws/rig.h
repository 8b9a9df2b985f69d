/*
 * rig.h - what the tests of ws/ share: a loop, a listener's site, connections over loopback TCP whose other
 * end is a plain descriptor in the hands of the test, and an owner that writes down what it is told.
 *
 * The loop runs in short steps (rig_step), between which the test acts as the client.
 */
#ifndef BRAMBLE_TEST_WS_RIG_H
#define BRAMBLE_TEST_WS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/loop.h"
#include "broker/principal.h"
#include "broker/transport_tcp.h"
#include "ws/ws.h"
#include "ws/ws_conn.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RIG_FDS = 256, RIG_HANDSHAKE_MS = 5000 };

struct rig {
    struct loop *loop;
    struct strangers strangers; /* no limit */
    struct ws *ws;
    struct ws_site *site;
    struct timer step;
};

/* The other side of the port: what a connection of the broker would do, as far as told to. */
struct owner {
    struct transport *t;
    int readies, error; /* calls of ready(), and the last result */
    int readables, writables;
    bool keep_silent;                                 /* ready() does not turn reading on */
    bool close_ready, close_readable, close_writable; /* close from within that callback */
    struct owner *victim;                             /* to be closed together with it */
    size_t chunk;                                     /* bytes per readable(), 0: all */
    bool ended;
    ssize_t end; /* the last result of read() */
    unsigned char *in;
    size_t len;
};

struct client {
    int fd;
    unsigned char *in; /* received and not consumed yet */
    size_t len;
    bool ended;
};

/* --- the loop --- */

static inline void rig_stop(void *arg)
{
    loop_stop(arg);
}

static inline void rig_step_ms(struct rig *rig, int ms)
{
    timer_start(rig->loop, &rig->step, ms);
    loop_run(rig->loop);
}

static inline void rig_step(struct rig *rig)
{
    rig_step_ms(rig, 0);
}

/* For loop_before_sleep(): counts the turns of the loop in an int. */
static inline void rig_count(void *arg)
{
    ++*(int *)arg;
}

#define WAIT_FOR(rig, condition)                                   \
    do {                                                           \
        for (int step_ = 0; step_ < 5000 && !(condition); step_++) \
            rig_step_ms(rig, step_ < 20 ? 0 : 1);                  \
        assert_true(condition);                                    \
    } while (0)

static inline void rig_open(struct rig *rig, const struct config_listener *listener, int handshake_ms)
{
    static const struct config_listener plain = {.protocol = PROTOCOL_WEBSOCKETS};
    struct err err = {""};

    memset(rig, 0, sizeof *rig);
    rig->loop = loop_new();
    assert_non_null(rig->loop);
    timer_setup(&rig->step, rig_stop, rig->loop);
    rig->site = ws_site_load(listener ? listener : &plain, &err);
    if (!rig->site)
        fail_msg("%s", err.text);
    rig->ws = ws_new(rig->loop, &rig->strangers, RIG_FDS, handshake_ms, &err);
    if (!rig->ws)
        fail_msg("%s", err.text);
}

static inline void rig_close(struct rig *rig)
{
    ws_free(rig->ws);
    ws_site_unref(rig->site);
    timer_stop(rig->loop, &rig->step);
    loop_free(rig->loop);
}

/* --- the owner --- */

static inline void owner_close(struct owner *owner)
{
    if (owner->t)
        owner->t->ops->close(owner->t);
    owner->t = NULL;
}

static inline void owner_free(struct owner *owner)
{
    owner_close(owner);
    free(owner->in);
    owner->in = NULL;
}

static inline bool owner_leaves(struct owner *owner, bool leaves)
{
    if (leaves) {
        owner_close(owner);
        if (owner->victim)
            owner_close(owner->victim);
    }
    return leaves;
}

static inline void owner_ready(void *arg, int error)
{
    struct owner *owner = arg;

    owner->readies++;
    owner->error = error;
    if (owner_leaves(owner, owner->close_ready))
        return;
    if (error == 0 && !owner->keep_silent)
        owner->t->ops->want_read(owner->t, true);
}

static inline void owner_readable(void *arg)
{
    struct owner *owner = arg;
    unsigned char buf[8192];
    ssize_t n;

    owner->readables++;
    if (owner_leaves(owner, owner->close_readable))
        return;
    while ((n = owner->t->ops->read(owner->t, buf, owner->chunk ? owner->chunk : sizeof buf)) > 0) {
        owner->in = realloc(owner->in, owner->len + (size_t)n);
        memcpy(owner->in + owner->len, buf, (size_t)n);
        owner->len += (size_t)n;
        if (owner->chunk)
            return;
    }
    if (n == -EAGAIN)
        return;
    owner->ended = true;
    owner->end = n;
    owner->t->ops->want_read(owner->t, false);
}

static inline void owner_writable(void *arg)
{
    struct owner *owner = arg;

    owner->writables++;
    owner_leaves(owner, owner->close_writable);
}

static const struct transport_events owner_events = {
    .ready = owner_ready,
    .readable = owner_readable,
    .writable = owner_writable,
};

static inline ssize_t owner_write(struct owner *owner, const void *data, size_t n)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = n};

    return owner->t->ops->writev(owner->t, &iov, 1);
}

static inline struct ws_conn *owner_conn(const struct owner *owner)
{
    return (struct ws_conn *)owner->t;
}

/* --- connections --- */

/* A connected pair over loopback; *theirs (the server's end) does not block. */
static inline void rig_pair(int *ours, int *theirs, int buffer)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof in;
    int ls = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(ls >= 0);
    if (buffer) {
        setsockopt(ls, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
        setsockopt(ls, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    }
    assert_int_equal(bind(ls, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(ls, 1), 0);
    assert_int_equal(getsockname(ls, (struct sockaddr *)&in, &n), 0);
    *ours = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (buffer) {
        setsockopt(*ours, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
        setsockopt(*ours, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    }
    assert_int_equal(connect(*ours, (struct sockaddr *)&in, sizeof in), 0);
    fcntl(*ours, F_SETFL, O_NONBLOCK);
    *theirs = accept4(ls, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(*theirs >= 0);
    close(ls);
}

static inline struct transport *rig_tcp(struct rig *rig, int fd)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(4711)};
    struct transport *tcp = transport_tcp_new(rig->loop, fd, (const struct sockaddr *)&address, true);

    assert_non_null(tcp);
    return tcp;
}

static inline void rig_own(struct rig *rig, struct owner *owner, struct transport *below)
{
    owner->t = ws_accept(rig->ws, rig->site, below);
    assert_non_null(owner->t);
    owner->t->owner = owner;
    owner->t->events = &owner_events;
    owner->t->ops->start(owner->t);
}

/* buffer: of both sockets, 0: the system's default. owner is kept as the caller prepared it. */
static inline void rig_connect_buffer(struct rig *rig, struct client *client, struct owner *owner, int buffer)
{
    int theirs;

    memset(client, 0, sizeof *client);
    rig_pair(&client->fd, &theirs, buffer);
    rig_own(rig, owner, rig_tcp(rig, theirs));
}

static inline void rig_connect(struct rig *rig, struct client *client, struct owner *owner)
{
    rig_connect_buffer(rig, client, owner, 0);
}

/* --- the client --- */

static inline void client_close(struct client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
    free(client->in);
    client->in = NULL;
    client->len = 0;
}

/* Reads what is there, at most max bytes. */
static inline void client_poll_max(struct client *client, size_t max)
{
    client->in = realloc(client->in, client->len + max + 1);
    while (max > 0) {
        ssize_t n = recv(client->fd, client->in + client->len, max, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            client->ended = true;
        if (n <= 0)
            break;
        client->len += (size_t)n;
        max -= (size_t)n;
    }
    client->in[client->len] = '\0';
}

static inline bool client_poll(struct client *client)
{
    client_poll_max(client, 256 * 1024);
    return true;
}

static inline void client_drop(struct client *client, size_t n)
{
    assert_true(n <= client->len);
    memmove(client->in, client->in + n, client->len - n + 1);
    client->len -= n;
}

static inline void client_send(struct rig *rig, struct client *client, const void *data, size_t n)
{
    const unsigned char *at = data;

    for (int i = 0; n > 0 && i < 5000; i++) {
        ssize_t sent = send(client->fd, at, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            return; /* closed by the other side: the test sees that by itself */
        if (sent > 0) {
            at += sent;
            n -= (size_t)sent;
        } else {
            rig_step_ms(rig, 1);
        }
    }
    assert_int_equal(n, 0);
}

static inline void client_say(struct rig *rig, struct client *client, const char *text)
{
    client_send(rig, client, text, strlen(text));
}

#define WAIT_LEN(rig, client, n) WAIT_FOR(rig, client_poll(client) && (client)->len >= (n))
#define WAIT_END(rig, client)    WAIT_FOR(rig, client_poll(client) && (client)->ended)

static inline bool client_has_head(struct client *client)
{
    client_poll(client);
    return strstr((char *)client->in, "\r\n\r\n");
}

/* Takes the header of an answer out of what was received. The caller frees it. */
static inline char *client_head(struct rig *rig, struct client *client)
{
    char *end, *head;
    size_t n;

    WAIT_FOR(rig, client_has_head(client));
    end = strstr((char *)client->in, "\r\n\r\n");
    n = (size_t)(end - (char *)client->in) + 4;
    head = strndup((char *)client->in, n);
    client_drop(client, n);
    return head;
}

static inline bool has(const char *text, const char *part)
{
    return strstr(text, part);
}

/* --- frames (RFC 6455 section 5.2) --- */

enum { F_CONT = 0, F_TEXT = 1, F_BIN = 2, F_CLOSE = 8, F_PING = 9, F_PONG = 10, F_FIN = 0x80 };

/* A masked frame in buf, which has 14 bytes more than n. Returns its size. */
static inline size_t frame_make(unsigned char *buf, int first, const void *payload, size_t n)
{
    static const unsigned char mask[4] = {0x5a, 0x00, 0xc3, 0x11};
    size_t at = 0;

    buf[at++] = (unsigned char)first;
    if (n < 126) {
        buf[at++] = (unsigned char)(0x80 | n);
    } else if (n < 65536) {
        buf[at++] = 0x80 | 126;
        buf[at++] = (unsigned char)(n >> 8);
        buf[at++] = (unsigned char)n;
    } else {
        buf[at++] = 0x80 | 127;
        for (int i = 7; i >= 0; i--)
            buf[at++] = (unsigned char)((uint64_t)n >> (8 * i));
    }
    memcpy(buf + at, mask, 4);
    at += 4;
    for (size_t i = 0; i < n; i++)
        buf[at + i] = ((const unsigned char *)payload)[i] ^ mask[i & 3];
    return at + n;
}

static inline void client_frame(struct rig *rig, struct client *client, int first, const void *payload,
                                size_t n)
{
    unsigned char *buf = malloc(n + 14);

    client_send(rig, client, buf, frame_make(buf, first, payload, n));
    free(buf);
}

struct frame {
    int first;
    size_t n;
    unsigned char *payload; /* in client->in; valid until the next call */
    size_t size;            /* with its header */
};

/* The frame at the front, if it is there as a whole. Frames of a server are not masked. */
static inline bool frame_parse(const struct client *client, struct frame *frame)
{
    const unsigned char *in = client->in;
    size_t at = 2;

    if (client->len < 2)
        return false;
    frame->first = in[0];
    frame->n = in[1];
    assert_true(frame->n < 128);
    if (frame->n >= 126) {
        size_t bytes = frame->n == 126 ? 2 : 8;
        if (client->len < 2 + bytes)
            return false;
        for (frame->n = 0; bytes > 0; bytes--)
            frame->n = frame->n << 8 | in[at++];
    }
    frame->payload = client->in + at;
    frame->size = at + frame->n;
    return client->len >= frame->size;
}

static inline bool client_has_frame(struct client *client, struct frame *frame)
{
    client_poll(client);
    return frame_parse(client, frame);
}

#define WAIT_FRAME(rig, client, frame) WAIT_FOR(rig, client_has_frame(client, frame))

/* --- the handshake --- */

#define REQUEST_LINE "GET /mqtt HTTP/1.1\r\nHost: localhost\r\n"
#define UPGRADE_LINES                                                                              \
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" \
    "Sec-WebSocket-Version: 13\r\n"
#define MQTT_LINE "Sec-WebSocket-Protocol: mqtt\r\n"
#define UPGRADE   REQUEST_LINE UPGRADE_LINES MQTT_LINE "\r\n"

/* Connects and upgrades; the client has consumed the answer. */
static inline void rig_upgrade_buffer(struct rig *rig, struct client *client, struct owner *owner, int buffer)
{
    char *head;

    rig_connect_buffer(rig, client, owner, buffer);
    client_say(rig, client, UPGRADE);
    head = client_head(rig, client);
    assert_true(has(head, "HTTP/1.1 101 "));
    free(head);
    WAIT_FOR(rig, owner->readies == 1);
    assert_int_equal(owner->error, 0);
}

static inline void rig_upgrade(struct rig *rig, struct client *client, struct owner *owner)
{
    rig_upgrade_buffer(rig, client, owner, 0);
}

#endif
