/*
 * outq.c - the output of a connection. See outq.h.
 *
 * The rest is one block: the pieces, then the bytes of those that stood in the window. Pieces by reference
 * keep their message. A connection that reads as fast as it is written to never has one, and owns no output
 * memory at all.
 */
#include "broker/outq.h"
#include <errno.h>
#include <stdlib.h>

struct answer {
    struct ticket *ticket;
    union {
        uint8_t *big;    /* owned, when it does not fit into small */
        struct msg *msg; /* else: the PUBLISH that it acknowledges, a reference, or NULL */
    };
    uint32_t size;
    uint8_t order;
    uint8_t small[7];
};

struct rest {
    int first, count;
    struct piece {
        const uint8_t *p;
        size_t n;
        struct msg *ref;
    } piece[];
};

static bool is_big(const struct answer *a)
{
    return a->size > sizeof a->small;
}

static void answer_free(struct answer *a)
{
    ticket_unref(a->ticket);
    if (is_big(a)) {
        free(a->big);
    } else {
        msg_unref(a->msg);
    }
}

static void rest_free(struct rest *rest)
{
    for (int i = rest->first; i < rest->count; i++) {
        msg_unref(rest->piece[i].ref);
    }
    free(rest);
}

void outq_free(struct outq *q)
{
    /* The tickets keep their holder: it may be the next connection by now, and ids are never used again. */
    for (uint32_t i = 0; i < q->count; i++) {
        answer_free(&q->v[i]);
    }
    free(q->v);
    if (q->rest) {
        rest_free(q->rest);
    }
    *q = (struct outq){0};
}

int outq_hold(struct outq *q, struct ticket *ticket, enum outq_order order, uint64_t holder,
              const uint8_t *bytes, size_t n)
{
    if (q->count == q->cap) {
        uint32_t cap = q->cap ? 2 * q->cap : 4;
        struct answer *v = realloc(q->v, cap * sizeof *v);
        if (!v) {
            return -1;
        }
        q->v = v;
        q->cap = cap;
    }
    struct answer a = {.size = (uint32_t)n, .order = (uint8_t)order};
    uint8_t *to = a.small;
    if (n > sizeof a.small) {
        to = a.big = malloc(n);
        if (!to) {
            return -1;
        }
    }
    memcpy(to, bytes, n);
    if (!ticket_closed(ticket)) {
        ticket->holder = holder;
        a.ticket = ticket_ref(ticket);
        q->held++;
    }
    q->v[q->count++] = a;
    q->bytes += n;
    return 0;
}

int outq_hold_ack(struct outq *q, struct ticket *ticket, uint64_t holder, uint8_t type, uint16_t id,
                  struct msg *msg)
{
    uint8_t bytes[4];
    size_t n = packet_put_ack(bytes, type, id);
    if (outq_hold(q, ticket, OUTQ_ACK, holder, bytes, n) < 0) {
        return -1;
    }
    struct answer *a = &q->v[q->count - 1];
    a->msg = msg && a->ticket ? msg_ref(msg) : NULL;
    return 0;
}

bool outq_finds(const struct outq *q, uint8_t type, uint16_t id, struct msg **msg)
{
    uint8_t bytes[4];
    size_t n = packet_put_ack(bytes, type, id);
    for (uint32_t i = 0; q->held > 0 && i < q->count; i++) {
        const struct answer *a = &q->v[i];
        if (a->size == n && memcmp(a->small, bytes, n) == 0) {
            *msg = a->msg;
            return true;
        }
    }
    return false;
}

int outq_put(struct outq *q, const uint8_t *bytes, size_t n)
{
    return outq_hold(q, NULL, OUTQ_ANY, 0, bytes, n);
}

bool outq_greets(const struct outq *q)
{
    return q->count > 0 && q->v[0].order == OUTQ_FIRST;
}

/* Copied bytes grow the last piece when it is the end of the window's own bytes. */
static void window_copied(struct window *w, size_t n)
{
    uint8_t *p = w->bytes + w->used;
    struct iovec *last = w->pieces ? &w->iov[w->pieces - 1] : NULL;
    bool joins = last && (uint8_t *)last->iov_base + last->iov_len == p && !w->refs[w->pieces - 1];
    if (joins && !(w->framed && w->fresh)) {
        last->iov_len += n;
    } else {
        w->refs[w->pieces] = NULL;
        w->iov[w->pieces++] = (struct iovec){p, n};
    }
    w->used += n;
    w->total += n;
    w->fresh = false;
}

static void window_copy(struct window *w, const void *p, size_t n)
{
    memcpy(w->bytes + w->used, p, n);
    window_copied(w, n);
}

/* By reference when it is big, else copied. */
static void window_slice(struct window *w, struct msg *msg, struct slice s)
{
    if (s.n == 0) {
        return;
    }
    /* A frame is one piece, if it can be; 16 bytes stay free for the identifier behind a topic. */
    size_t left = WINDOW_SIZE - w->used, most = left < 16 ? 0 : left - 16;
    if (s.n <= (w->framed ? most : WINDOW_COPY / 2)) {
        window_copy(w, s.p, s.n);
        return;
    }
    w->fresh = false;
    w->refs[w->pieces] = msg_ref(msg);
    w->iov[w->pieces++] = (struct iovec){(void *)s.p, s.n};
    w->total += s.n;
}

static bool answer_fits(const struct window *w, const struct answer *a)
{
    return w->used + a->size <= WINDOW_SIZE && w->pieces < WINDOW_PIECES;
}

uint32_t outq_fill(struct outq *q, struct window *w)
{
    bool waits[OUTQ_ORDERS] = {false};
    uint32_t kept = 0, sent = 0;
    for (uint32_t i = 0; i < q->count; i++) {
        struct answer *a = &q->v[i];
        bool may_leave =
            ticket_closed(a->ticket) && !waits[OUTQ_FIRST] && !(a->order != OUTQ_ANY && waits[a->order]);
        if (may_leave && answer_fits(w, a)) {
            w->fresh = true;
            window_copy(w, is_big(a) ? a->big : a->small, a->size);
            q->bytes -= a->size;
            q->held -= a->ticket != NULL;
            answer_free(a);
            sent++;
            continue;
        }
        waits[a->order] = true;
        q->v[kept++] = *a;
    }
    q->count = kept;
    if (kept == 0 && q->cap > 16) {
        free(q->v);
        q->v = NULL;
        q->cap = 0;
    }
    return sent;
}

/* A kept session may know topics from another listener, so not every topic begins with the mount point of
 * this one. */
static struct slice unmounted(struct slice topic, struct slice mount)
{
    bool below = mount.n > 0 && topic.n > mount.n && memcmp(topic.p, mount.p, mount.n) == 0;
    return below ? slice_of(topic.p + mount.n, topic.n - mount.n) : topic;
}

static size_t put_publish(struct window *w, const struct outgoing *out, struct slice mount)
{
    struct msg *msg = out->msg;
    size_t before = w->total;
    if (out->qos == 0 && !out->retain && mount.n == 0) {
        window_slice(w, msg, msg_wire(msg)); /* ready made */
        return w->total - before;
    }
    struct slice topic = unmounted(msg_topic(msg), mount);
    uint8_t flags = (uint8_t)((out->dup ? 8 : 0) | out->qos << 1 | (out->retain ? 1 : 0));
    uint8_t head[PACKET_MAX_HEADER + 2];
    size_t n = packet_put_header(head, (uint8_t)(PKT_PUBLISH << 4 | flags),
                                 (uint32_t)(2 + topic.n + (out->qos ? 2 : 0) + msg->payload_size));
    packet_put_u16(head + n, (uint16_t)topic.n);
    window_copy(w, head, n + 2);
    window_slice(w, msg, topic);
    if (out->qos) {
        uint8_t id[2];
        packet_put_u16(id, out->id);
        window_copy(w, id, 2);
    }
    window_slice(w, msg, msg_payload(msg));
    return w->total - before;
}

size_t window_put(struct window *w, const struct outgoing *out, struct slice mount)
{
    w->fresh = true;
    if (out->kind == OUT_PUBLISH) {
        return put_publish(w, out, mount);
    }
    uint8_t rel[4];
    size_t n = packet_put_ack(rel, PKT_PUBREL, out->id);
    window_copy(w, rel, n);
    return n;
}

static void window_clear(struct window *w)
{
    for (int i = 0; i < w->pieces; i++) {
        msg_unref(w->refs[i]);
    }
    w->used = w->total = 0;
    w->pieces = 0;
}

/* Keeps what stands behind the first `taken` bytes. References move over; own bytes are copied. */
static struct rest *rest_from(struct window *w, size_t taken)
{
    struct rest *rest = malloc(sizeof *rest + (size_t)w->pieces * sizeof(struct piece) + w->used);
    if (!rest) {
        return NULL;
    }
    uint8_t *own = (uint8_t *)&rest->piece[w->pieces];
    *rest = (struct rest){0};
    for (int i = 0; i < w->pieces; i++) {
        size_t skip = taken < w->iov[i].iov_len ? taken : w->iov[i].iov_len;
        taken -= skip;
        size_t n = w->iov[i].iov_len - skip;
        if (n == 0) {
            continue;
        }
        struct piece piece = {(uint8_t *)w->iov[i].iov_base + skip, n, w->refs[i]};
        if (piece.ref) {
            w->refs[i] = NULL;
        } else {
            memcpy(own, piece.p, n);
            piece.p = own;
            own += n;
        }
        rest->piece[rest->count++] = piece;
    }
    return rest;
}

enum outq_result outq_write(struct outq *q, struct window *w, struct transport *t, uint64_t *sent)
{
    if (w->pieces == 0) {
        return OUTQ_DONE;
    }
    ssize_t n = t->ops->writev(t, w->iov, w->pieces);
    if (n < 0 && n != -EAGAIN) {
        window_clear(w);
        return OUTQ_ERROR;
    }
    size_t taken = n > 0 ? (size_t)n : 0;
    *sent += taken;
    enum outq_result result = OUTQ_DONE;
    if (taken < w->total) {
        q->rest = rest_from(w, taken);
        result = q->rest ? OUTQ_BLOCKED : OUTQ_ERROR;
    }
    window_clear(w);
    return result;
}

static void rest_advance(struct rest *rest, size_t taken)
{
    while (taken > 0) {
        struct piece *piece = &rest->piece[rest->first];
        size_t n = taken < piece->n ? taken : piece->n;
        piece->p += n;
        piece->n -= n;
        taken -= n;
        if (piece->n == 0) {
            msg_unref(piece->ref);
            rest->first++;
        }
    }
}

enum outq_result outq_write_rest(struct outq *q, struct transport *t, uint64_t *sent)
{
    while (q->rest) {
        struct rest *rest = q->rest;
        struct iovec iov[WINDOW_PIECES];
        int n = 0;
        size_t total = 0;
        for (int i = rest->first; i < rest->count; i++) {
            iov[n++] = (struct iovec){(void *)rest->piece[i].p, rest->piece[i].n};
            total += rest->piece[i].n;
        }
        ssize_t taken = t->ops->writev(t, iov, n);
        if (taken < 0) {
            return taken == -EAGAIN ? OUTQ_BLOCKED : OUTQ_ERROR;
        }
        *sent += (size_t)taken;
        rest_advance(rest, (size_t)taken);
        if ((size_t)taken < total) {
            continue; /* until it says that it takes no more: a transport may take a record at a time */
        }
        rest_free(rest);
        q->rest = NULL;
    }
    return OUTQ_DONE;
}
