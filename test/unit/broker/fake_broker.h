/*
 * fake_broker.h - a whole broker without a socket, a thread or a file: real sessions, router and connections
 * between a loop whose clock the test turns, transports whose bytes the test writes, a storage that commits
 * when the test says so, and a password check that waits for the test's verdict. To be included once in a
 * program.
 *
 *   client c;  client_open(&c);  SEND(&c, "\x10...");  settle();  EXPECT(&c, "\x20\x02\0\0");
 */
#ifndef BRAMBLE_TEST_FAKE_BROKER_H
#define BRAMBLE_TEST_FAKE_BROKER_H

#include "broker/conn.h"
#include "broker/mem.h"
#include "fake_loop.h"
#include "fake_storage.h"
#include "fake_transport.h"
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

enum { CLIENTS = 128, LOGINS = 8 };

struct client {
    struct fake_transport t;
    struct conn *conn; /* the broker's; gone when t.closed and the turn is over */
};

static struct rig {
    struct config config;
    struct config_listener listener;
    struct config_security security;
    struct door door;
    struct broker broker;
    struct fake_storage storage;
    bool durable;
    struct client *clients[CLIENTS];
    int client_count;
    struct login {
        auth_done *done;
        void *ctx;
        uint64_t id;
        char user[32], password[32];
    } logins[LOGINS];
    int login_count;
} rig;

/* Takes the place of auth/hasher.c. */
void hasher_verify(struct hasher *hasher, const struct passwords *passwords,
                   const struct auth_question *question)
{
    (void)hasher;
    assert_non_null(passwords);
    assert_true(rig.login_count < LOGINS);
    struct login *login = &rig.logins[rig.login_count++];
    *login = (struct login){.done = question->done, .ctx = question->ctx, .id = question->id};
    snprintf(login->user, sizeof login->user, "%s", question->who->user);
    snprintf(login->password, sizeof login->password, "%.*s", SLICE_ARG(question->password));
}

/* Answers the oldest login that waits. */
static inline void verdict(enum auth_verdict v)
{
    assert_true(rig.login_count > 0);
    struct login login = rig.logins[0];
    memmove(rig.logins, rig.logins + 1, (size_t)--rig.login_count * sizeof login);
    login.done(login.ctx, login.id, v);
}

/* Nobody is waited for: how long a commit takes here says nothing. */
static inline void limits_changed(void)
{
    broker_use_limits(&rig.broker);
    store_use_times(rig.broker.store,
                    &(struct store_times){.commit_delay = rig.config.persistence_commit_delay,
                                          .lazy_delay = rig.config.persistence_lazy_delay});
}

/* The broker with its defaults; change rig.config and the like after it, then call limits_changed(). */
static inline int rig_start(bool durable)
{
    memset(&rig, 0, sizeof rig);
    rig.security = (struct config_security){.allow_anonymous = true, .allow_zero_length_clientid = true};
    rig.listener = (struct config_listener){
        .max_connections = -1, .max_qos = 2, .accept_protocol_versions = 0x38, .security = &rig.security};
    rig.config = (struct config){.listeners = &rig.listener,
                                 .listener_count = 1,
                                 .securities = &rig.security,
                                 .security_count = 1,
                                 .max_inflight_messages = 20,
                                 .max_queued_messages = 1000,
                                 .max_packet_size = 2000000,
                                 .global_max_connections = -1,
                                 .global_max_clients = -1,
                                 .retain_available = true,
                                 .max_topic_levels = 200,
                                 .connect_timeout = 10,
                                 .auth_timeout = 20,
                                 .persistence_lazy_delay = 3600000, /* nothing goes just because of time */
                                 .persistence_hold_timeout = 60};
    rig.door = (struct door){.config = &rig.listener};
    fake_storage_init(&rig.storage);
    rig.durable = durable;
    int result = broker_init(&rig.broker, loop_new(), &rig.config, durable ? &rig.storage.port : NULL);
    rig.broker.doors = &rig.door;
    rig.broker.door_count = 1;
    if (result == 0) {
        limits_changed();
    }
    return result;
}

static inline int setup(void **unused)
{
    (void)unused;
    return rig_start(false);
}

static inline int setup_durable(void **unused)
{
    (void)unused;
    return rig_start(true);
}

static inline int teardown(void **unused)
{
    (void)unused;
    struct loop *loop = rig.broker.loop;
    broker_free(&rig.broker);
    bool clean = rig.broker.conn_count == 0 && rig.door.connections == 0 && !loop->timers && !loop->first;
    for (int i = 0; i < rig.client_count; i++) {
        clean &= !rig.clients[i]->t.started || rig.clients[i]->t.closed;
        fake_transport_free(&rig.clients[i]->t);
        free(rig.clients[i]);
    }
    acl_unref(rig.door.acl);
    fake_storage_free(&rig.storage);
    loop_free(loop);
    return clean && msg_bytes() == 0 && mem_held() == 0 ? 0 : -1;
}

/* ---- clients ---- */

static inline struct client *client_new(void)
{
    assert_true(rig.client_count < CLIENTS);
    struct client *c = calloc(1, sizeof *c);
    rig.clients[rig.client_count++] = c;
    fake_transport_init(&c->t);
    return c;
}

/* Accepted at the one door. */
static inline void client_accept(struct client *c)
{
    conn_accept(&rig.broker, &c->t.port, 0);
    c->conn = c->t.port.owner;
}

static inline struct client *client_open(void)
{
    struct client *c = client_new();
    client_accept(c);
    return c;
}

static inline void client_send(struct client *c, const void *p, size_t n)
{
    fake_transport_give(&c->t, p, n);
}

#define SEND(c, text) client_send((c), (text), sizeof(text) - 1)

/* ---- turns ---- */

/* The end of a turn. The loop may not be left to sleep while something is to be done. */
static inline void turn(void)
{
    fake_loop_deferred(rig.broker.loop);
    broker_before_sleep(&rig.broker);
    if (rig.broker.flush.first || rig.broker.resume.first || rig.broker.sessions.gone ||
        rig.broker.sessions.walk) {
        assert_true(rig.broker.next_turn.queued);
    }
    for (int i = 0; i < rig.client_count; i++) {
        if (rig.clients[i]->t.closed) {
            rig.clients[i]->conn = NULL;
        }
    }
}

static inline bool readable(struct client *c)
{
    return c->t.started && !c->t.closed && c->t.reading &&
           (c->t.in_size > 0 || c->t.at_end || c->t.read_error);
}

static inline bool writable(struct client *c)
{
    return !c->t.closed && c->t.wants_write && c->t.write_limit != 0;
}

/* One turn: every socket that is ready is served once, as the loop would. True when anything was to be done.
 */
static inline bool one_turn(void)
{
    bool busy = rig.broker.loop->first != NULL;
    for (int i = 0; i < rig.client_count; i++) {
        struct client *c = rig.clients[i];
        if (readable(c)) {
            busy = true;
            c->t.port.events->readable(c->t.port.owner);
        }
        if (writable(c)) {
            busy = true;
            c->t.wants_write = false; /* one-shot */
            c->t.port.events->writable(c->t.port.owner);
        }
    }
    turn();
    return busy || rig.broker.loop->first;
}

/* Turns until nothing is left to do. */
static inline void settle(void)
{
    for (int turns = 0; one_turn(); turns++) {
        assert_true(turns < 100000); /* it goes round and round */
    }
}

static inline void commit(void)
{
    assert_true(fake_storage_commit(&rig.storage));
}

/* The first change of a kind in the batch that is under way, or NULL. */
static inline const struct change *under_way(enum change_kind kind)
{
    return fake_storage_change(&rig.storage, kind, 0);
}

/* The batch that is under way could not be written. */
static inline void fail_batch(const char *why)
{
    assert_true(fake_storage_answer(&rig.storage, STORAGE_ERROR, why));
}

/* Until nothing is under way any more. */
static inline void commit_all(void)
{
    for (settle(); rig.storage.batch; settle()) {
        commit();
    }
}

/* What nobody waits for is handed over, too. */
static inline void commit_lazy(void)
{
    commit_all();
    store_submit(rig.broker.store, true);
    commit_all();
}

/* ---- what came out ---- */

static inline void expect(struct client *c, const char *what, size_t n, const char *file, int line)
{
    if (c->t.out_size != n || memcmp(c->t.out ? c->t.out : (const uint8_t *)"", what, n) != 0) {
        print_error("%s:%d: expected %zu bytes, got %zu:", file, line, n, c->t.out_size);
        for (size_t i = 0; i < c->t.out_size && i < 100; i++) {
            print_error(" %02x", c->t.out[i]);
        }
        print_error("\n");
        _fail(file, line);
    }
    c->t.out_size = 0;
}

/* Everything that came out since the last time is exactly this. */
#define EXPECT(c, text) expect((c), (text), sizeof(text) - 1, __FILE__, __LINE__)

/* ---- packets ---- */

/* CONNECT without anything but a client id, keep alive 60. */
static inline void send_connect(struct client *c, const char *id, bool clean)
{
    uint8_t p[64] = {0x10, (uint8_t)(12 + strlen(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, clean ? 2 : 0, 0, 60,
                     0,    (uint8_t)strlen(id)};
    memcpy(p + 14, id, strlen(id));
    client_send(c, p, 14 + strlen(id));
}

/* A client that is connected; its CONNACK is taken off. */
static inline struct client *client_up(const char *id, bool clean)
{
    struct client *c = client_open();
    send_connect(c, id, clean);
    settle();
    assert_int_equal(c->t.out_size, 4);
    assert_memory_equal(c->t.out, "\x20\x02", 2);
    assert_int_equal(c->t.out[3], 0);
    c->t.out_size = 0;
    return c;
}

/* PUBLISH of n payload bytes that count up. Returns the packet's size. */
static inline size_t send_publish(struct client *c, uint8_t flags, const char *topic, uint16_t id, size_t n)
{
    uint8_t *p = malloc(n + strlen(topic) + 16);
    size_t at = packet_put_header(p, 0x30 | flags, (uint32_t)(2 + strlen(topic) + (flags & 6 ? 2 : 0) + n));
    packet_put_u16(p + at, (uint16_t)strlen(topic));
    memcpy(p + at + 2, topic, strlen(topic));
    at += 2 + strlen(topic);
    if (flags & 6) {
        packet_put_u16(p + at, id);
        at += 2;
    }
    for (size_t i = 0; i < n; i++) {
        p[at++] = (uint8_t)i;
    }
    client_send(c, p, at);
    free(p);
    return at;
}

static inline void send_ack(struct client *c, uint8_t type, uint16_t id)
{
    uint8_t p[4];
    client_send(c, p, packet_put_ack(p, type, id));
}

/* SUBSCRIBE to one filter; its SUBACK is taken off, and nothing may follow it. */
static inline void subscribe(struct client *c, const char *filter, uint8_t qos)
{
    uint8_t p[128] = {0x82, (uint8_t)(5 + strlen(filter)), 0, 9, 0, (uint8_t)strlen(filter)};
    memcpy(p + 6, filter, strlen(filter));
    p[6 + strlen(filter)] = qos;
    client_send(c, p, 7 + strlen(filter));
    commit_all();
    assert_int_equal(c->t.out_size, 5);
    assert_int_equal(c->t.out[4], qos);
    c->t.out_size = 0;
}

/* The socket is at its end. */
static inline void client_drop(struct client *c)
{
    c->t.at_end = true;
    settle();
    assert_true(c->t.closed);
}

/* For tests that need more clients than there are places: this one was the last, and has ended. */
static inline void client_forget(struct client *c)
{
    assert_ptr_equal(c, rig.clients[rig.client_count - 1]);
    assert_true(c->t.closed);
    fake_transport_free(&c->t);
    free(c);
    rig.client_count--;
}

/* The last decision that the broker spoke of, and how many there were; who comes and goes does not count. */
static struct {
    int count;
    enum decision_kind kind;
    bool allowed;
    uint8_t qos;
    uint32_t line;
    char topic[32], reason[80], client[32];
    bool file;
} decided;

static inline void note_decision(void *unused, const struct decision *d)
{
    (void)unused;
    if (d->kind == DECIDED_CONNECT || d->kind == DECIDED_DISCONNECT) {
        return;
    }
    decided.count++;
    decided.kind = d->kind;
    decided.allowed = d->allowed;
    decided.qos = d->qos;
    decided.line = d->line;
    decided.file = d->file != NULL;
    snprintf(decided.topic, sizeof decided.topic, "%.*s", SLICE_ARG(d->topic));
    snprintf(decided.reason, sizeof decided.reason, "%s", d->reason);
    snprintf(decided.client, sizeof decided.client, "%s", d->who->client_id);
}

static inline void listen_to_decisions(void)
{
    memset(&decided, 0, sizeof decided);
    rig.broker.decisions = (struct decision_listener){.fn = note_decision};
}

/* count: of all so far. file and line stand together. */
static inline void expect_denied(int count, enum decision_kind kind, const char *topic, uint8_t qos,
                                 uint32_t line, const char *reason)
{
    assert_int_equal(decided.count, count);
    assert_int_equal(decided.kind, kind);
    assert_false(decided.allowed);
    assert_string_equal(decided.topic, topic);
    assert_int_equal(decided.qos, qos);
    assert_int_equal(decided.line, line);
    assert_int_equal(decided.file, line != 0);
    assert_string_equal(decided.reason, reason);
}

/* An ACL from text. */
static inline void use_acl(const char *text)
{
    char path[] = "/tmp/bramble-acl-XXXXXX";
    struct err err;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    acl_unref(rig.door.acl);
    rig.door.acl = acl_load(path, &err);
    unlink(path);
    assert_non_null(rig.door.acl);
}

#endif
