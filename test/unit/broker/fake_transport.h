/*
 * fake_transport.h - a transport (broker/transport.h) between a test and a connection: the test says which
 * bytes come in and how many go out, and sees what was written.
 *
 * It checks its user as well: nothing may be called after close().
 */
#ifndef BRAMBLE_TEST_FAKE_TRANSPORT_H
#define BRAMBLE_TEST_FAKE_TRANSPORT_H

#include "broker/principal.h"
#include "broker/transport.h"
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAKE_NO_LIMIT = -1 };

struct fake_transport {
    struct transport port; /* first */
    uint8_t *in;           /* what is still to be read: in_size bytes from in_at on */
    size_t in_at, in_size, in_cap;
    size_t read_most; /* bytes per read; 0: as many as are asked for */
    bool at_end;      /* after what is in, the end */
    int read_error;   /* after what is in; a negative errno, or 0 */

    uint8_t *out; /* what was written and not looked at yet */
    size_t out_size, out_cap;
    size_t write_most;   /* bytes per writev; 0: all */
    ssize_t write_limit; /* bytes until it takes no more; FAKE_NO_LIMIT */
    int write_error;     /* a negative errno, or 0 */

    bool started, closed, reading, wants_write;
    int reads, writes, most_pieces;
    const char *why;
    bool late; /* the test calls ready() itself */
};

static inline struct fake_transport *fake_transport(struct transport *t)
{
    struct fake_transport *fake = (struct fake_transport *)t;
    if (fake->closed) {
        fprintf(stderr, "fake_transport.h: used after close()\n");
        abort();
    }
    return fake;
}

static inline void fake_transport_start(struct transport *t)
{
    struct fake_transport *fake = fake_transport(t);
    fake->started = true;
    if (!fake->late) {
        t->events->ready(t->owner, 0);
    }
}

static inline ssize_t fake_transport_read(struct transport *t, void *buf, size_t n)
{
    struct fake_transport *fake = fake_transport(t);
    fake->reads++;
    if (fake->in_size == 0) {
        return fake->read_error ? fake->read_error : fake->at_end ? 0 : -EAGAIN;
    }
    n = n < fake->in_size ? n : fake->in_size;
    n = fake->read_most && fake->read_most < n ? fake->read_most : n;
    memcpy(buf, fake->in + fake->in_at, n);
    fake->in_size -= n;
    fake->in_at = fake->in_size ? fake->in_at + n : 0;
    return (ssize_t)n;
}

static inline ssize_t fake_transport_writev(struct transport *t, const struct iovec *iov, int count)
{
    struct fake_transport *fake = fake_transport(t);
    size_t room = fake->write_most ? fake->write_most : SIZE_MAX, taken = 0;
    fake->writes++;
    fake->most_pieces = count > fake->most_pieces ? count : fake->most_pieces;
    if (fake->write_error) {
        return fake->write_error;
    }
    if (fake->write_limit >= 0 && (size_t)fake->write_limit < room) {
        room = (size_t)fake->write_limit;
    }
    for (int i = 0; i < count && taken < room; i++) {
        size_t n = iov[i].iov_len < room - taken ? iov[i].iov_len : room - taken;
        if (fake->out_size + n > fake->out_cap) {
            fake->out_cap = 2 * (fake->out_size + n);
            fake->out = realloc(fake->out, fake->out_cap);
        }
        memcpy(fake->out + fake->out_size, iov[i].iov_base, n);
        fake->out_size += n;
        taken += n;
    }
    if (fake->write_limit >= 0) {
        fake->write_limit -= (ssize_t)taken;
    }
    return taken ? (ssize_t)taken : -EAGAIN;
}

static inline void fake_transport_want_read(struct transport *t, bool on)
{
    fake_transport(t)->reading = on;
}

static inline void fake_transport_want_write(struct transport *t, bool on)
{
    fake_transport(t)->wants_write = on;
}

static inline bool fake_transport_pending(struct transport *t)
{
    return fake_transport(t)->in_size > 0;
}

static inline void fake_transport_peer(struct transport *t, struct principal *who)
{
    (void)fake_transport(t);
    snprintf(who->address, sizeof who->address, "192.0.2.7");
    who->port = 4711;
}

static inline const char *fake_transport_why(struct transport *t)
{
    return fake_transport(t)->why;
}

static inline void fake_transport_close(struct transport *t)
{
    struct fake_transport *fake = fake_transport(t);
    fake->closed = true;
    fake->reading = fake->wants_write = false;
}

static inline int fake_transport_fd(struct transport *t)
{
    (void)fake_transport(t);
    return -1;
}

static inline void fake_transport_init(struct fake_transport *fake)
{
    static const struct transport_ops ops = {
        .name = "fake",
        .start = fake_transport_start,
        .read = fake_transport_read,
        .writev = fake_transport_writev,
        .want_read = fake_transport_want_read,
        .want_write = fake_transport_want_write,
        .pending = fake_transport_pending,
        .peer = fake_transport_peer,
        .why = fake_transport_why,
        .close = fake_transport_close,
        .fd = fake_transport_fd,
    };
    *fake = (struct fake_transport){.port = {.ops = &ops}, .write_limit = FAKE_NO_LIMIT};
}

static inline void fake_transport_free(struct fake_transport *fake)
{
    free(fake->in);
    free(fake->out);
    fake->in = fake->out = NULL;
    fake->in_at = fake->in_size = fake->in_cap = 0;
    fake->out_size = fake->out_cap = 0;
}

/* More bytes that will be read. */
static inline void fake_transport_give(struct fake_transport *fake, const void *p, size_t n)
{
    size_t end = fake->in_at + fake->in_size;
    if (end + n > fake->in_cap) {
        fake->in_cap = 2 * (end + n);
        fake->in = realloc(fake->in, fake->in_cap);
    }
    memcpy(fake->in + end, p, n);
    fake->in_size += n;
}

#endif
