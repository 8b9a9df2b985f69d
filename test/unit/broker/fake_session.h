/*
 * fake_session.h - one session and what it needs, with somebody behind it who only counts. To be included
 * once in a program.
 */
#ifndef BRAMBLE_TEST_FAKE_SESSION_H
#define BRAMBLE_TEST_FAKE_SESSION_H

#include "broker/mem.h"
#include "broker/session_spill.h"
#include "broker/store_parts.h"
#include "broker/subs.h"
#include "fake_peer.h"
#include "fake_storage.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct {
    struct fake_storage storage;
    struct subs *subs;
    struct store *store;
    struct sessions sessions;
    struct session *session;
    struct fake_peer peer;
    struct principal *who; /* of a durable one */
    int64_t now;
    uint64_t closed;    /* the last holder whose ticket was closed */
    struct msg *msg[3]; /* one of each QoS, ten payload bytes */
} f;

/* The store's clock. */
static inline int64_t session_clock(void)
{
    return f.now;
}

static inline void note_closed(void *arg, uint64_t holder)
{
    (void)arg;
    f.closed = holder;
}

static inline void note_stored(void *arg, struct owing *owing, uint64_t number)
{
    (void)arg;
    sessions_stored(&f.sessions, owing, number);
}

static inline void begin(struct storage *storage, bool clean)
{
    f.subs = subs_new();
    f.store = store_new(storage, &(struct store_events){.closed = note_closed, .stored = note_stored});
    f.store->clock = session_clock;
    f.who = storage ? principal_new() : NULL; /* a session of nobody is not stored */
    f.now = 1000;
    f.closed = 0;
    sessions_init(&f.sessions, f.subs, f.store, &(struct session_limits){.max_inflight = 20});
    fake_peer_init(&f.peer);
    f.peer.peer.id = 1;
    f.session = session_new(&f.sessions, "pump", f.who, clean);
    for (uint8_t qos = 0; qos < 3; qos++) {
        f.msg[qos] = msg_new(slice_str("t"), slice_str("0123456789"), qos, false, NULL);
    }
}

static inline int setup(void **unused)
{
    (void)unused;
    begin(NULL, false);
    session_attach(&f.sessions, f.session, &f.peer.peer, NULL);
    return 0;
}

static inline int setup_durable(void **unused)
{
    (void)unused;
    fake_storage_init(&f.storage);
    begin(&f.storage.port, false);
    session_attach(&f.sessions, f.session, &f.peer.peer, NULL);
    return 0;
}

/* Whatever a test did: when the sessions are gone nobody has a reference on a message any more. */
static inline int teardown(void **unused)
{
    (void)unused;
    sessions_free(&f.sessions);
    store_free(f.store);
    principal_unref(f.who);
    subs_free(f.subs);
    fake_storage_free(&f.storage);
    int kept = 0;
    for (int qos = 0; qos < 3; qos++) {
        kept += f.msg[qos]->refs != 1;
        msg_unref(f.msg[qos]);
    }
    return kept || msg_bytes() != 0 || mem_held() != 0 ? -1 : 0;
}

static inline enum offer offer(struct msg *msg, uint8_t sub_qos)
{
    return session_offer(&f.sessions, f.session, msg, sub_qos, false, NULL);
}

/* Takes, and gives an owned reference back. */
static inline struct outgoing take(void)
{
    struct outgoing out = session_take(&f.sessions, f.session);
    if (out.owned) {
        msg_unref(out.msg);
    }
    return out;
}

static inline void take_publish(uint8_t qos, uint16_t id, bool dup)
{
    assert_true(session_has_output(&f.sessions, f.session));
    struct outgoing out = take();
    assert_int_equal(out.kind, OUT_PUBLISH);
    assert_int_equal(out.qos, qos);
    assert_int_equal(out.id, id);
    assert_int_equal(out.dup, dup);
}

static inline void take_pubrel(uint16_t id)
{
    struct outgoing out = take();
    assert_int_equal(out.kind, OUT_PUBREL);
    assert_int_equal(out.id, id);
}

static inline void take_nothing(void)
{
    assert_int_equal(take().kind, OUT_NONE);
    assert_false(session_has_output(&f.sessions, f.session));
}

static inline enum ack pubrec(uint16_t id)
{
    struct ticket *ticket;
    enum ack ack = session_pubrec(&f.sessions, f.session, id, &ticket);
    ticket_unref(ticket);
    return ack;
}

static inline void reconnect(void)
{
    session_detach(&f.sessions, f.session, 1000);
    session_attach(&f.sessions, f.session, &f.peer.peer, NULL);
}

#endif
