/*
 * transport.h - the port to everything that moves bytes: TCP, Unix sockets, TLS, WebSocket. Bytes in, bytes
 * out.
 *
 * A transport never sees MQTT; its owner never sees a socket. Transports stack (ws on tls on tcp): each is
 * the owner of the one below it. main.c wires the stacks.
 *
 *     conn                     owner of the top: gets ready / readable / writable
 *      |  read, writev, want_*, pending, peer, close
 *     ws      \
 *      |       }  each of these is optional
 *     tls     /
 *      |
 *     tcp                      has the descriptor and the watch
 *
 * Rules that every implementation keeps:
 *  - All calls and callbacks are on the loop thread. Nothing blocks.
 *  - start() is called once, after owner and events are set. It answers by events->ready(owner, 0) exactly
 * once, perhaps before it returns, or by ready(owner, -errno-like reason) when the handshake fails, times
 * out, or the peer turns out to be no client of ours (a plain HTTP request that was answered): the owner then
 * calls close(). For plain TCP ready comes at once.
 *  - After start() reading is off. want_read(true) turns readable() on: level-triggered, called while read()
 * would give bytes, an end or an error, including bytes that were already decrypted (pending() is true while
 * such bytes wait; the transport calls readable() again by itself in a later turn, without needing the
 * socket).
 *  - want_write(true) asks for one writable() as soon as writev() would take bytes again; it then turns
 * itself off.
 *  - close() may be called at any time, from within any callback. After it no callback comes and the owner
 * must not touch the transport again; it closes what lies below. What writev() took is still sent if the
 * socket takes it within a short, bounded time (TLS close_notify and the WebSocket close frame included),
 * without holding anything up.
 */
#ifndef BRAMBLE_TRANSPORT_H
#define BRAMBLE_TRANSPORT_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

struct principal;
struct transport;

struct transport_events {
    void (*ready)(void *owner, int error); /* 0, or a negative errno */
    void (*readable)(void *owner);
    void (*writable)(void *owner);
};

struct transport_ops {
    const char *name; /* "tcp", "tls", "ws" */
    bool framed; /* writev() sends each element of iov as a frame of its own (a very big one as several): the
                    owner gives it a packet an element, because some clients (paho C) stall behind the first
                    packet of a frame */
    void (*start)(struct transport *t);
    /* Bytes read (> 0); 0 at the orderly end; -EAGAIN when there are none now; another negative errno when it
     * is broken. */
    ssize_t (*read)(struct transport *t, void *buf, size_t n);
    /* Bytes taken (> 0, perhaps fewer than given); -EAGAIN when it takes none now; another negative errno
     * when broken. What was taken need not be on the wire yet; a transport that buffers bounds its buffer (64
     * KiB and a record). */
    ssize_t (*writev)(struct transport *t, const struct iovec *iov, int iovcnt);
    void (*want_read)(struct transport *t, bool on);
    void (*want_write)(struct transport *t, bool on);
    bool (*pending)(struct transport *t);
    /* Fills in what this layer knows (address and port; TLS version and certificate); calls the layer below
     * first. */
    void (*peer)(struct transport *t, struct principal *who);
    /* Why it failed, one line for the log, or NULL; valid until close(). */
    const char *(*why)(struct transport *t);
    void (*close)(struct transport *t);
    /* The descriptor at the bottom of the stack, or -1: for libwebsockets' table only, nobody reads or writes
     * it. */
    int (*fd)(struct transport *t);
};

/* The first member of every transport. events and owner belong to the one above, who sets them before
 * start(). */
struct transport {
    const struct transport_ops *ops;
    const struct transport_events *events;
    void *owner;
};

#endif
