/*
 * test_restore.c - what the store tells at start, and what has become of it when the first client comes.
 */
#include "fake_broker.h"

#include "broker/log.h"
#include "broker/policy.h"
#include "broker/restore.h"
#include "broker/session_owed.h"

static struct restore *restore;
static const struct storage_reader *reader;

static const struct stored_origin alice = {
    .number = 90, .client_id = "a", .user = "alice", .address = "192.0.2.1", .listener = 0};

static int begin(void **state)
{
    int result = setup_durable(state);
    restore = restore_new(&rig.broker);
    reader = restore_reader(restore);
    return result;
}

static void a_session(uint64_t number, const char *client_id, const struct stored_origin *who)
{
    assert_int_equal(reader->session(reader->arg, number, client_id, who), 0);
    disk_put(&rig.storage, CHANGE_SESSION, number, 0); /* where it comes from */
}

static void a_subscription(uint64_t session, const char *filter, uint8_t qos, bool owing)
{
    assert_int_equal(reader->subscription(reader->arg, session, slice_str(filter), qos, owing), 0);
}

static struct stored_message message(uint64_t number, const char *topic, const char *payload, uint8_t qos)
{
    return (struct stored_message){.number = number,
                                   .topic = slice_str(topic),
                                   .payload = slice_str(payload),
                                   .qos = qos,
                                   .origin = alice};
}

static void owed_to(uint64_t session, const struct stored_message *m, uint16_t id, uint32_t others)
{
    struct stored_delivery delivery = {
        .session = session, .others = others, .id = id, .qos = m->qos, .message = m};
    assert_int_equal(reader->delivery(reader->arg, &delivery), 0);
    disk_put(&rig.storage, CHANGE_MESSAGE, m->number, 0);
}

static void finish(void)
{
    assert_int_equal(restore_loaded(restore, 100), 0);
    restore_finish(restore);
}

/* It comes back; its CONNACK is taken off, which says that its session is there. */
static struct client *back(const char *id, bool present)
{
    struct client *c = client_open();
    send_connect(c, id, false);
    settle();
    assert_true(c->t.out_size >= 4);
    assert_memory_equal(c->t.out, present ? "\x20\2\1\0" : "\x20\2\0\0", 4);
    c->t.out_size -= 4;
    memmove(c->t.out, c->t.out + 4, c->t.out_size);
    return c;
}

/* Without a password file the name of the user is taken as it is, so here nobody has one. */
static struct stored_origin nobody(const char *client_id)
{
    return (struct stored_origin){.number = 91, .client_id = client_id, .address = "192.0.2.1"};
}

static void an_empty_store_is_no_news(void **unused)
{
    (void)unused;
    finish();
    settle();
    assert_int_equal(HASH_COUNT(rig.broker.sessions.by_id), 0);
    assert_true(store_number(rig.broker.store) > 100);
    assert_int_equal(rig.storage.batches, 0);
}

static void a_session_goes_on_where_it_was(void **unused)
{
    (void)unused;
    struct stored_origin who = nobody("kept");
    struct stored_message sent = message(11, "t", "1", 1), waits = message(12, "t", "2", 1);
    a_session(5, "kept", &who);
    a_subscription(5, "t/+", 1, false);
    assert_int_equal(reader->inbound(reader->arg, 5, 7), 0);
    assert_int_equal(reader->released(reader->arg, 5, 9), 0);
    owed_to(5, &sent, 3, 0);
    owed_to(5, &waits, 0, 0);
    finish();
    struct session *session = session_find(&rig.broker.sessions, "kept");
    assert_int_equal(session->number, 5);
    struct client *kept = back("kept", true), *from = client_up("from", true);
    /* PUBREL, what was sent under the identifier it had, and what may have been sent */
    EXPECT(kept, "\x62\2\0\x9"
                 "\x3A\6\0\1t\0\3"
                 "1\x3A\6\0\1t\0\4"
                 "2");
    SEND(kept, "\x34\6\0\1x\0\7y"); /* a repetition */
    settle();
    EXPECT(kept, "\x50\2\0\7");
    SEND(from, "\x32\7\0\3t/a\0\1");
    settle();
    EXPECT(kept, "\x32\7\0\3t/a\0\5");
    SEND(kept, "\x40\2\0\3\x40\2\0\4\x40\2\0\5");
    settle();
    EXPECT(from, "\x40\2\0\1");
    commit_lazy();
    assert_true(store_idle(rig.broker.store));
}

static void one_message_for_many_is_shared(void **unused)
{
    (void)unused;
    struct stored_origin who = nobody("a"), other = nobody("b");
    other.number = 92;
    struct stored_message m = message(11, "t", "1", 1);
    a_session(5, "a", &who);
    a_session(6, "b", &other);
    owed_to(5, &m, 0, 1);
    owed_to(6, &m, 0, 1);
    finish();
    struct session *a = session_find(&rig.broker.sessions, "a"), *b = session_find(&rig.broker.sessions, "b");
    assert_ptr_equal(ring_at(&a->queue, 0)->msg, ring_at(&b->queue, 0)->msg);
    assert_string_equal(ring_at(&a->queue, 0)->msg->from->user, "alice");
    struct client *c = back("a", true);
    EXPECT(c, "\x3A\6\0\1t\0\1"
              "1");
    SEND(c, "\x40\2\0\1");
    settle();
    store_submit(rig.broker.store, true);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_MESSAGE_GONE), 0);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_MARK), 1);
    commit_lazy();
    c = back("b", true);
    SEND(c, "\x40\2\0\1");
    settle();
    store_submit(rig.broker.store, true);
    assert_int_equal(under_way(CHANGE_MESSAGE_GONE)->number, 11);
    commit_lazy();
}

static void retained_messages_are_there(void **unused)
{
    (void)unused;
    struct stored_message m = message(0, "r", "x", 1);
    m.retain = true;
    m.origin.listener = LISTENER_GONE;
    assert_int_equal(reader->retained(reader->arg, &m), 0);
    finish();
    struct client *c = client_up("c", true);
    SEND(c, "\x82\6\0\1\0\1r\1");
    settle();
    EXPECT(c, "\x90\3\0\1\1\x33\6\0\1r\0\1x");
    SEND(c, "\x40\2\0\1");
    rig.config.check_retain_source = true; /* nobody can say whether the publisher still may */
    SEND(c, "\x82\6\0\1\0\1r\1");
    settle();
    EXPECT(c, "\x90\3\0\1\1");
    commit_lazy();
    assert_int_equal(rig.storage.batches, 0); /* it is in the store as it is */
}

/* A subscription that had its SUBACK, and not yet its retained messages. */
static void what_was_owed_comes_with_the_client(void **unused)
{
    (void)unused;
    struct stored_origin who = nobody("kept"), other = nobody("other");
    struct stored_message m = message(0, "r", "x", 1);
    other.number = 92;
    a_session(5, "kept", &who);
    a_session(6, "other", &other);
    a_subscription(5, "r", 1, true);
    a_subscription(5, "q", 1, false);
    a_subscription(5, "s", 0, true);
    a_subscription(6, "+", 1, true);
    m.retain = true;
    assert_int_equal(reader->retained(reader->arg, &m), 0);
    m.topic = slice_str("q");
    assert_int_equal(reader->retained(reader->arg, &m), 0);
    m.topic = slice_str("s");
    assert_int_equal(reader->retained(reader->arg, &m), 0);
    finish();
    struct client *c = back("kept", true);
    EXPECT(c, "\x33\6\0\1r\0\1x\x31\4\0\1sx");
    SEND(c, "\x40\2\0\1");
    settle();
    assert_null(session_find(&rig.broker.sessions, "kept")->owed);
    c = back("other", true);
    assert_int_equal(c->t.out_size, 24);
    SEND(c, "\x40\2\0\1\x40\2\0\2\x40\2\0\3");
    commit_lazy();
}

static void what_is_nobodys_any_more_is_discarded(void **unused)
{
    (void)unused;
    struct stored_origin gone = nobody("gone"), stays = nobody("stays");
    struct stored_message m = message(11, "t", "1", 1);
    gone.listener = LISTENER_GONE;
    gone.number = 92;
    a_session(5, "gone", &gone);
    a_session(6, "stays", &stays);
    a_subscription(5, "#", 1, true);
    owed_to(5, &m, 0, 1);
    owed_to(6, &m, 0, 1);
    listen_to_decisions();
    finish();
    assert_string_equal(decided.reason, "the listener by which it came is gone");
    assert_null(session_find(&rig.broker.sessions, "gone"));
    assert_non_null(session_find(&rig.broker.sessions, "stays"));
    assert_int_equal(rig.broker.counters.sessions_revoked, 1);
    settle();
    store_submit(rig.broker.store, true);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_SESSION_GONE), 1);
    assert_int_equal(under_way(CHANGE_SESSION_GONE)->session, 5);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_MESSAGE_GONE),
                     0); /* it is owed to the other one */
    commit_lazy();
    struct client *c = back("stays", true);
    SEND(c, "\x40\2\0\1");
    settle();
    store_submit(rig.broker.store, true);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_MESSAGE_GONE), 1);
    commit_lazy();
}

static void strangers_may_not_be_allowed_any_more(void **unused)
{
    (void)unused;
    struct stored_origin who = nobody("kept");
    a_session(5, "kept", &who);
    rig.security.allow_anonymous = false;
    listen_to_decisions();
    finish();
    assert_null(session_find(&rig.broker.sessions, "kept"));
    assert_int_equal(decided.count, 1);
    assert_string_equal(decided.client, "kept");
    commit_lazy();
}

/* Rights are asked for anew before anything goes out. */
static void rights_may_have_changed(void **unused)
{
    (void)unused;
    struct stored_origin who = nobody("kept");
    struct stored_message m = message(11, "secret", "1", 1), other = message(12, "open", "2", 1);
    use_acl("topic readwrite open\n");
    rig.config.acl_refuse_unreadable = true;
    a_session(5, "kept", &who);
    a_subscription(5, "secret", 1, false);
    a_subscription(5, "open", 1, false);
    owed_to(5, &m, 0, 0);
    owed_to(5, &other, 0, 0);
    finish();
    settle();
    struct session *session = session_find(&rig.broker.sessions, "kept");
    assert_int_equal(session->sub_count, 1);
    assert_int_equal(session->queue.count, 1);
    store_submit(rig.broker.store, true);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_UNSUBSCRIBE), 1);
    assert_int_equal(under_way(CHANGE_MESSAGE_GONE)->number, 11);
    commit_lazy();
}

static void a_will(const char *client_id, struct stored_message *m)
{
    assert_int_equal(reader->will(reader->arg, client_id, m), 0);
}

static void wills_are_published_with_their_removal(void **unused)
{
    (void)unused;
    struct stored_origin who = nobody("kept");
    struct stored_message m = message(0, "w", "1", 1);
    m.origin = nobody("dead");
    a_session(5, "kept", &who);
    a_subscription(5, "w", 1, false);
    a_will("dead", &m);
    finish();
    settle();
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_WILL_GONE), 1);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_MESSAGE), 1);
    assert_int_equal(under_way(CHANGE_WILL_GONE)->count, 4);
    assert_memory_equal(under_way(CHANGE_WILL_GONE)->text, "dead", 4);
    commit_lazy();
    struct client *c = back("kept", true);
    EXPECT(c, "\x32\6\0\1w\0\1"
              "1");
    SEND(c, "\x40\2\0\1");
    commit_lazy();
}

static void a_will_that_is_not_allowed_goes(void **unused)
{
    (void)unused;
    struct stored_message m = message(0, "w", "1", 1), other = message(0, "x", "2", 1);
    m.origin = nobody("dead");
    other.origin = nobody("away");
    other.origin.number = 92;
    other.origin.listener = LISTENER_GONE;
    use_acl("topic readwrite x\n");
    m.retain = other.retain = true;
    a_will("dead", &m);
    a_will("away", &other);
    listen_to_decisions();
    finish();
    assert_int_equal(decided.count, 2);
    assert_int_equal(retain_count(rig.broker.retain), 0);
    store_submit(rig.broker.store, true);
    assert_int_equal(fake_storage_has(&rig.storage, CHANGE_WILL_GONE), 2);
    commit_lazy();
}

static void what_belongs_to_no_session_is_passed_over(void **unused)
{
    (void)unused;
    struct stored_message m = message(11, "t", "1", 1);
    struct stored_origin broker = {.number = 0};
    a_session(5, "kept", &broker);
    a_subscription(5, "t", 1, true);
    owed_to(5, &m, 0, 0);
    assert_int_equal(reader->inbound(reader->arg, 5, 7), 0);
    assert_int_equal(reader->released(reader->arg, 5, 9), 0);
    finish();
    assert_int_equal(HASH_COUNT(rig.broker.sessions.by_id), 0);
    assert_int_equal(subs_count(rig.broker.subs), 0);
}

static void a_start_may_fail_half_way(void **unused)
{
    (void)unused;
    struct stored_origin who = nobody("kept");
    struct stored_message m = message(11, "t", "1", 1);
    a_session(5, "kept", &who);
    a_subscription(5, "t", 1, true);
    owed_to(5, &m, 0, 0);
    a_will("kept", &m);
    restore_free(restore);
    restore_free(NULL);
}

/* ---- from one life to the next ---- */

/* The process ends, whatever is under way, and another one begins. */
static void crash(void)
{
    fake_storage_crash(&rig.storage);
    struct fake_storage disk = rig.storage;
    rig.storage.rows = NULL;
    assert_int_equal(teardown(NULL), 0);
    assert_int_equal(rig_start(true), 0);
    disk.port = rig.storage.port;
    rig.storage = disk;
    restore = restore_new(&rig.broker);
    assert_int_equal(disk_load(&rig.storage, restore_reader(restore)), 0);
    assert_int_equal(restore_loaded(restore, disk.last), 0);
    restore_finish(restore);
    settle();
}

static void all_comes_back_as_it_was_stored(void **unused)
{
    (void)unused;
    finish();
    struct client *kept = client_up("kept", false), *from = client_up("from", false);
    subscribe(kept, "t", 1);
    subscribe(kept, "u/#", 2);
    SEND(from, "\x33\6\0\1r\0\1x\x34\6\0\1x\0\7y");
    commit_all();
    EXPECT(from, "\x40\2\0\1\x50\2\0\7");
    client_drop(kept);
    SEND(from, "\x32\6\0\1t\0\2"
               "1\x34\x8\0\3u/v\0\3"
               "2");
    commit_all();
    EXPECT(from, "\x40\2\0\2\x50\2\0\3");
    commit_lazy();
    crash();
    assert_int_equal(HASH_COUNT(rig.broker.sessions.by_id), 2);
    assert_int_equal(retain_count(rig.broker.retain), 1);
    assert_int_equal(subs_qos(rig.broker.subs, session_find(&rig.broker.sessions, "kept"), slice_str("t")),
                     1);
    assert_int_equal(subs_qos(rig.broker.subs, session_find(&rig.broker.sessions, "kept"), slice_str("u/#")),
                     2);
    from = back("from", true);
    SEND(from, "\x3C\6\0\1x\0\7y\x62\2\0\3"); /* it has heard no PUBREC, as far as it knows */
    commit_all();
    EXPECT(from, "\x50\2\0\7\x70\2\0\3");
    kept = back("kept", true);
    commit_all();
    EXPECT(kept, "\x3A\6\0\1t\0\1"
                 "1\x3C\x8\0\3u/v\0\2"
                 "2");
    crash(); /* the QoS 2 one keeps its identifier */
    kept = back("kept", true);
    EXPECT(kept, "\x3C\x8\0\3u/v\0\2"
                 "2\x3A\6\0\1t\0\3"
                 "1");
    SEND(kept, "\x50\2\0\2\x40\2\0\3");
    commit_all();
    EXPECT(kept, "\x62\2\0\2");
    commit_lazy();
    crash(); /* PUBREC was stored: only PUBREL follows */
    kept = back("kept", true);
    EXPECT(kept, "\x62\2\0\2");
    SEND(kept, "\x70\2\0\2");
    commit_lazy();
    crash();
    kept = back("kept", true);
    EXPECT(kept, "");
    assert_int_equal(disk_count(&rig.storage, CHANGE_MESSAGE), 0);
}

static void what_was_discarded_stays_away(void **unused)
{
    (void)unused;
    finish();
    struct client *kept = client_up("kept", false), *clean = client_open();
    subscribe(kept, "t", 1);
    send_connect(clean, "kept", true);
    commit_all();
    EXPECT(clean, "\x20\2\0\0");
    crash();
    assert_null(session_find(&rig.broker.sessions, "kept"));
}

static void a_will_is_published_by_the_next_life_once(void **unused)
{
    (void)unused;
    finish();
    struct client *watch = client_up("watch", false), *dead = client_open();
    subscribe(watch, "w", 1);
    SEND(dead, "\x10\x15\0\4MQTT\4\x0E\0\x3C\0\1d\0\1w\0\3bye");
    commit_lazy();
    EXPECT(dead, "\x20\2\0\0");
    crash();
    commit_all();
    assert_int_equal(disk_count(&rig.storage, CHANGE_WILL), 0);
    assert_int_equal(disk_count(&rig.storage, CHANGE_MESSAGE), 1);
    crash();
    watch = back("watch", true);
    EXPECT(watch, "\x3A\x8\0\1w\0\1bye");
    SEND(watch, "\x40\2\0\1");
    commit_lazy();
    crash();
    watch = back("watch", true);
    EXPECT(watch, "");
}

/* ---- a crash at each step: what was acknowledged is there, and QoS 2 comes once ---- */

enum { PUBLISHES = 6 };

static struct {
    bool sent[PUBLISHES], puback[PUBLISHES], pubrec[PUBLISHES], pubcomp[PUBLISHES]; /* the publisher's */
    int got[PUBLISHES];                                                             /* the subscriber's */
    uint16_t taken[PUBLISHES]; /* under which identifier it came at QoS 2, until PUBREL */
} seen;

static uint8_t publish_qos(int i)
{
    return i % 2 ? 2 : 1;
}

static void publish_one(struct client *c, int i, bool dup)
{
    uint8_t p[] = {(uint8_t)(0x30 | publish_qos(i) << 1 | (dup ? 8 : 0)),
                   6,
                   0,
                   1,
                   't',
                   0,
                   (uint8_t)(i + 1),
                   (uint8_t)('a' + i)};
    client_send(c, p, sizeof p);
    seen.sent[i] = true;
}

static void hear_publisher(struct client *c)
{
    for (size_t at = 0; at < c->t.out_size; at += 4) {
        const uint8_t *p = c->t.out + at;
        int i = p[3] - 1;
        assert_in_range(i, 0, PUBLISHES - 1);
        seen.puback[i] |= p[0] == 0x40;
        seen.pubcomp[i] |= p[0] == 0x70;
        if (p[0] == 0x50) {
            seen.pubrec[i] = true;
            send_ack(c, PKT_PUBREL, (uint16_t)(i + 1));
        }
    }
    c->t.out_size = 0;
}

/* It takes a QoS 2 message once for an identifier, until PUBREL frees that. */
static void hear_subscriber(struct client *c)
{
    for (size_t at = 0; at < c->t.out_size;) {
        const uint8_t *p = c->t.out + at;
        at += 2U + p[1];
        if ((p[0] & 0xF0) == 0x30) {
            uint16_t id = (uint16_t)(p[5] << 8 | p[6]);
            int i = p[7] - 'a';
            bool again = false;
            for (int k = 0; k < PUBLISHES; k++) {
                again |= (p[0] & 6) == 4 && seen.taken[k] == id;
            }
            seen.got[i] += !again;
            if ((p[0] & 6) == 4) {
                seen.taken[i] = again ? seen.taken[i] : id;
            }
            send_ack(c, (p[0] & 6) == 4 ? PKT_PUBREC : PKT_PUBACK, id);
        } else if (p[0] == 0x62) {
            uint16_t id = (uint16_t)(p[2] << 8 | p[3]);
            for (int k = 0; k < PUBLISHES; k++) {
                seen.taken[k] = seen.taken[k] == id ? 0 : seen.taken[k];
            }
            send_ack(c, PKT_PUBCOMP, id);
        }
    }
    c->t.out_size = 0;
}

/* Goes on until `steps` turns are over, or all is done. The disk commits each third turn. */
static bool go_on(struct client *from, struct client *to, int *steps)
{
    for (int quiet = 0; quiet < 8; quiet++) {
        for (int i = 0; i < PUBLISHES; i++) {
            if (!seen.sent[i]) {
                publish_one(from, i, false);
                quiet = 0;
                break;
            }
        }
        if (--*steps < 0) {
            return false;
        }
        one_turn();
        if (*steps % 3 == 0 && rig.storage.batch) {
            commit();
            if (--*steps < 0) { /* committed, and nobody has heard of it */
                return false;
            }
            one_turn();
            quiet = 0;
        }
        quiet = from->t.out_size + to->t.out_size > 0 ? 0 : quiet;
        hear_publisher(from);
        hear_subscriber(to);
    }
    return true;
}

static void again(struct client *from)
{
    for (int i = 0; i < PUBLISHES; i++) {
        if (publish_qos(i) == 2 && seen.pubrec[i] && !seen.pubcomp[i]) {
            send_ack(from, PKT_PUBREL, (uint16_t)(i + 1));
        } else if (seen.sent[i] && !seen.puback[i] && !seen.pubrec[i]) {
            publish_one(from, i, true);
        }
    }
}

static void a_crash_at_each_step_loses_nothing(void **unused)
{
    (void)unused;
    finish();
    bool through = false;
    for (int life = 0; !through; life++) {
        assert_true(life < 200);
        memset(&seen, 0, sizeof seen);
        struct client *to = client_up("to", false), *from = client_up("from", false);
        commit_all();
        subscribe(to, "t", 2);
        int steps = life;
        through = go_on(from, to, &steps);
        crash();
        from = client_open();
        to = client_open();
        send_connect(from, "from", false);
        send_connect(to, "to", false);
        settle();
        assert_memory_equal(to->t.out, "\x20\2\1\0", 4);
        assert_memory_equal(from->t.out, "\x20\2\1\0", 4);
        from->t.out_size = 0;
        to->t.out_size -= 4;
        memmove(to->t.out, to->t.out + 4, to->t.out_size);
        again(from);
        steps = 1000;
        assert_true(go_on(from, to, &steps));
        for (int i = 0; i < PUBLISHES; i++) {
            assert_true(publish_qos(i) == 2 ? seen.got[i] == 1 && seen.pubcomp[i]
                                            : seen.got[i] >= 1 && seen.puback[i]);
        }
        commit_lazy();
        assert_int_equal(disk_count(&rig.storage, CHANGE_MESSAGE), 0);
        assert_int_equal(disk_count(&rig.storage, CHANGE_OUT), 0);
        assert_int_equal(disk_count(&rig.storage, CHANGE_IN_ID), 0);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, begin, teardown)
    const struct CMUnitTest tests[] = {
        T(an_empty_store_is_no_news),
        T(a_session_goes_on_where_it_was),
        T(one_message_for_many_is_shared),
        T(retained_messages_are_there),
        T(what_was_owed_comes_with_the_client),
        T(what_is_nobodys_any_more_is_discarded),
        T(strangers_may_not_be_allowed_any_more),
        T(rights_may_have_changed),
        T(wills_are_published_with_their_removal),
        T(a_will_that_is_not_allowed_goes),
        T(what_belongs_to_no_session_is_passed_over),
        T(a_start_may_fail_half_way),
        T(all_comes_back_as_it_was_stored),
        T(what_was_discarded_stays_away),
        T(a_will_is_published_by_the_next_life_once),
        T(a_crash_at_each_step_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
