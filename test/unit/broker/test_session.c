/*
 * test_session.c - sessions: what is offered comes out in order, with identifiers that nobody else uses,
 * within the limits, and nothing is held at the end.
 */
#include "test/unit/no_memory.h"
/* comes first */
#include "fake_session.h"
#include "random.h"

/* ---- sessions ---- */

static void is_found_by_its_client_id(void **unused)
{
    (void)unused;
    struct principal *who = principal_new();
    struct session *other = session_new(&f.sessions, "valve", who, true);
    assert_int_equal(who->refs, 2);
    assert_ptr_equal(session_find(&f.sessions, "pump"), f.session);
    assert_ptr_equal(session_find(&f.sessions, "valve"), other);
    assert_null(session_find(&f.sessions, "Pump"));
    assert_true(other->number != f.session->number);
    uint64_t number = other->number;
    session_destroy(&f.sessions, other);
    assert_int_equal(who->refs, 1);
    assert_null(session_find(&f.sessions, "valve"));
    other = session_new(&f.sessions, "valve", NULL, true);
    assert_true(other->number > number); /* never used again */
    principal_unref(who);
}

static void goes_with_its_subscriptions(void **unused)
{
    (void)unused;
    subs_add(f.subs, f.session, slice_str("a/#"), 1);
    subs_add(f.subs, f.session, slice_str("+"), 1);
    session_detach(&f.sessions, f.session, 0);
    assert_int_equal(subs_count(f.subs), 2);
    session_destroy(&f.sessions, f.session);
    assert_int_equal(subs_count(f.subs), 0);
}

static void knows_who_is_there(void **unused)
{
    (void)unused;
    struct principal *first = principal_new(), *second = principal_new();
    assert_int_equal(f.sessions.online, 1);
    session_detach(&f.sessions, f.session, 77);
    assert_int_equal(f.sessions.online, 0);
    assert_null(f.session->peer);
    assert_int_equal(f.session->offline_since, 77);
    session_attach(&f.sessions, f.session, &f.peer.peer, first);
    session_detach(&f.sessions, f.session, 78);
    session_attach(&f.sessions, f.session, &f.peer.peer, second);
    assert_ptr_equal(f.session->who, second);
    assert_int_equal(first->refs, 1);
    assert_int_equal(second->refs, 2);
    session_detach(&f.sessions, f.session, 79);
    session_destroy(&f.sessions, f.session);
    assert_int_equal(second->refs, 1);
    principal_unref(first);
    principal_unref(second);
}

/* ---- quality and order ---- */

static void delivers_at_the_lower_quality(void **unused)
{
    (void)unused;
    uint16_t id = 0;
    for (uint8_t published = 0; published < 3; published++) {
        for (uint8_t subscribed = 0; subscribed < 3; subscribed++) {
            uint8_t lower = published < subscribed ? published : subscribed; /* [MQTT-3.8.4-6] */
            assert_int_equal(offer(f.msg[published], subscribed), OFFER_TAKEN);
            take_publish(lower, lower ? ++id : 0, false);
        }
    }
}

static void may_upgrade(void **unused)
{
    (void)unused;
    f.sessions.limits.upgrade_qos = true;
    offer(f.msg[0], 2);
    offer(f.msg[1], 2);
    offer(f.msg[2], 1); /* a subscription never gets more than it asked for */
    offer(f.msg[2], 0);
    take_publish(2, 1, false);
    take_publish(2, 2, false);
    take_publish(1, 3, false);
    take_publish(0, 0, false);
}

/* The largest QoS 0 PUBLISH has no room for the identifier that an upgrade would add. */
static void does_not_upgrade_what_would_not_fit(void **unused)
{
    (void)unused;
    static struct msg large; /* nobody looks at its bytes */
    large = *f.msg[0];
    large.payload_size = PACKET_MAX_BODY - 2 - large.topic_size;
    f.sessions.limits.upgrade_qos = true;
    offer(&large, 1);
    take_publish(0, 0, false);
    large.payload_size -= 2;
    offer(&large, 1);
    take_publish(1, 1, false);
    session_puback(&f.sessions, f.session, 1);
    assert_int_equal(large.refs, 1);
}

static void keeps_the_order_over_qualities(void **unused)
{
    static const uint8_t order[] = {1, 0, 2, 0, 0, 1, 2, 2, 0};
    (void)unused;
    uint16_t id = 0;
    for (size_t i = 0; i < sizeof order; i++) {
        offer(f.msg[order[i]], 2);
    }
    for (size_t i = 0; i < sizeof order; i++) {
        take_publish(order[i], order[i] ? ++id : 0, false);
    }
    take_nothing();
}

static void passes_the_retain_flag_on(void **unused)
{
    (void)unused;
    for (uint8_t qos = 0; qos < 2; qos++) {
        session_offer(&f.sessions, f.session, f.msg[qos], 1, true, NULL);
        assert_true(take().retain);
        offer(f.msg[qos], 1);
        assert_false(take().retain);
    }
    reconnect();
    assert_true(take().retain); /* also when it is sent again */
    assert_false(take().retain);
}

static void wakes_its_peer(void **unused)
{
    (void)unused;
    assert_false(fake_peer_woken(&f.peer));
    offer(f.msg[0], 0);
    assert_true(fake_peer_woken(&f.peer));
    f.sessions.limits.max_inflight = 1;
    offer(f.msg[1], 1);
    offer(f.msg[1], 1);
    fake_peer_woken(&f.peer);
    take();
    take();
    assert_int_equal(session_puback(&f.sessions, f.session, 1), ACK_OK);
    assert_true(fake_peer_woken(&f.peer)); /* the window is open again */
    session_detach(&f.sessions, f.session, 0);
    offer(f.msg[1], 1);
    assert_false(fake_peer_woken(&f.peer));
    session_attach(&f.sessions, f.session, &f.peer.peer, NULL);
    assert_true(fake_peer_woken(&f.peer)); /* something is waiting */
}

/* ---- identifiers ---- */

static void identifiers_go_round_without_zero(void **unused)
{
    (void)unused;
    uint16_t expected = 0;
    for (int i = 0; i < 140000; i++) {
        offer(f.msg[1], 1);
        expected = expected == 65535 ? 1 : (uint16_t)(expected + 1);
        take_publish(1, expected, false);
        assert_int_equal(session_puback(&f.sessions, f.session, expected), ACK_OK);
    }
    assert_true(f.session->sent.cap <= 8);
}

/* One that is never acknowledged keeps its identifier, and what is acknowledged behind it costs no memory. */
static void an_identifier_in_use_is_skipped(void **unused)
{
    (void)unused;
    for (int i = 0; i < 5; i++) {
        offer(f.msg[1], 1);
        take();
    }
    assert_int_equal(session_puback(&f.sessions, f.session, 2), ACK_OK); /* 1, 3, 4, 5 stay */
    bool seen_two = false;
    for (int i = 0; i < 200000; i++) {
        offer(f.msg[1], 1);
        struct outgoing out = take();
        assert_int_equal(out.kind, OUT_PUBLISH);
        assert_true(out.id == 2 || out.id > 5);
        seen_two |= out.id == 2;
        assert_int_equal(session_puback(&f.sessions, f.session, out.id), ACK_OK);
        assert_true(f.session->sent.count <= 128);
    }
    assert_true(seen_two);
    assert_int_equal(f.session->inflight, 4);
    for (uint16_t id = 1; id <= 5; id++) {
        assert_int_equal(session_puback(&f.sessions, f.session, id), id == 2 ? ACK_UNKNOWN : ACK_OK);
    }
    assert_int_equal(f.session->inflight, 0);
    assert_int_equal(f.session->sent.count, 0);
    assert_int_equal(f.session->sent_bytes, 0);
}

static void the_largest_window_uses_every_identifier_but_one(void **unused)
{
    (void)unused;
    static bool used[65536];
    f.sessions.limits.max_inflight = 65534;
    for (int i = 0; i < 65600; i++) {
        offer(f.msg[1], 1);
    }
    for (int i = 0; i < 65534; i++) {
        uint16_t id = take().id;
        assert_true(id != 0 && !used[id]);
        used[id] = true;
    }
    take_nothing();
    session_puback(&f.sessions, f.session, 40000); /* in the middle: one more may go */
    uint16_t id = take().id;
    assert_true(id == 40000 || id == 65535);
    take_nothing();
    session_puback(&f.sessions, f.session, 50000); /* now as many places as identifiers are taken */
    take_nothing();
    session_puback(&f.sessions, f.session, 1); /* the oldest gives back its place */
    id = take().id;
    assert_true(id == 1 || id == 50000 || id == 40000 || id == 65535);
}

/* ---- limits ---- */

static void the_window_holds_back(void **unused)
{
    (void)unused;
    f.sessions.limits.max_inflight = 2;
    for (int i = 0; i < 4; i++) {
        offer(f.msg[2], 2);
    }
    take_publish(2, 1, false);
    take_publish(2, 2, false);
    take_nothing();
    assert_int_equal(pubrec(1), ACK_OK);
    take_nothing(); /* still under way */
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 1), ACK_OK);
    take_publish(2, 3, false);
    take_nothing();
}

static void quality_0_does_not_wait_for_the_window(void **unused)
{
    (void)unused;
    f.sessions.limits.max_inflight = 1;
    offer(f.msg[1], 1);
    offer(f.msg[1], 1);
    offer(f.msg[0], 1);
    take_publish(1, 1, false);
    take_publish(0, 0, false);
    take_nothing();
}

static void the_window_counts_bytes(void **unused)
{
    (void)unused;
    f.sessions.limits.max_inflight_bytes = 25;
    for (int i = 0; i < 4; i++) {
        offer(f.msg[2], 2);
    }
    take_publish(2, 1, false);
    take_publish(2, 2, false);
    take_nothing(); /* 30 bytes would be too many */
    assert_int_equal(pubrec(1), ACK_OK);
    take_publish(2, 3, false); /* the client has the first one's bytes */
    take_nothing();
    pubrec(2);
    pubrec(3);
    session_pubcomp(&f.sessions, f.session, 1);
    session_pubcomp(&f.sessions, f.session, 2);
    session_pubcomp(&f.sessions, f.session, 3);
    f.sessions.limits.max_inflight_bytes = 5;
    take_publish(2, 4, false); /* one alone always goes, or it would wait for ever */
}

static void the_queue_counts_messages(void **unused)
{
    (void)unused;
    f.sessions.limits.max_queued = 3;
    f.sessions.limits.max_inflight = 1;
    session_detach(&f.sessions, f.session, 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(session_room(&f.sessions, f.session), i < 3);
        assert_int_equal(offer(f.msg[1], 1), i < 3 ? OFFER_TAKEN : OFFER_DROPPED);
    }
    assert_int_equal(f.session->dropped, 2);
    assert_int_equal(f.sessions.dropped, 2);
    assert_int_equal(f.msg[1]->refs, 4);
    session_attach(&f.sessions, f.session, &f.peer.peer, NULL);
    take_publish(1, 1, false); /* on its way it does not count any more */
    assert_int_not_equal(offer(f.msg[1], 1), OFFER_DROPPED);
    assert_int_equal(offer(f.msg[1], 1), OFFER_DROPPED); /* while a client is there as well */
    assert_int_equal(f.session->dropped, 3);
}

static void the_queue_counts_bytes(void **unused)
{
    (void)unused;
    f.sessions.limits.max_queued_bytes = 25;
    assert_int_equal(offer(f.msg[1], 1), OFFER_TAKEN);
    assert_int_equal(offer(f.msg[1], 1), OFFER_TAKEN);
    assert_int_equal(offer(f.msg[1], 1), OFFER_DROPPED);
    take_publish(1, 1, false);
    assert_int_equal(offer(f.msg[1], 1), OFFER_TAKEN);
    assert_int_equal(session_offer(&f.sessions, f.session, f.msg[1], 1, true, NULL), OFFER_DROPPED);
    assert_int_equal(f.session->dropped, 2);
    take();
    take();
    assert_int_equal(f.session->queued_bytes, 0);
}

/* What goes out at the end of this turn does not wait behind the window, so it does not count. */
static void the_queue_begins_behind_the_window(void **unused)
{
    (void)unused;
    f.sessions.limits.max_queued = 3;
    f.sessions.limits.max_inflight = 5;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(offer(f.msg[1], 1) == OFFER_DROPPED, i >= 8);
    }
    for (uint16_t id = 1; id <= 5; id++) {
        take_publish(1, id, false);
    }
    take_nothing();
    assert_int_equal(offer(f.msg[1], 1), OFFER_DROPPED);
    session_puback(&f.sessions, f.session, 2);
    assert_int_not_equal(offer(f.msg[1], 1), OFFER_DROPPED);
    session_detach(&f.sessions, f.session, 0);
    assert_int_equal(offer(f.msg[1], 1), OFFER_DROPPED); /* for those who are away there is no window */
}

/* The bytes of QoS 0 messages that went with the connection are not counted for ever. */
static void bytes_that_go_with_the_connection_are_given_back(void **unused)
{
    (void)unused;
    f.sessions.limits.max_queued_bytes = 25;
    offer(f.msg[0], 0);
    offer(f.msg[1], 1);
    assert_int_equal(f.session->queued_bytes, 20);
    session_detach(&f.sessions, f.session, 0);
    assert_int_equal(f.session->queued_bytes, 10);
    assert_int_equal(f.msg[0]->refs, 1);
    assert_int_equal(offer(f.msg[1], 1), OFFER_TAKEN);
}

/* What was offered in this turn had no chance to be written yet: QoS 0 counts only when the socket takes
 * nothing. */
static void quality_0_is_limited_only_while_the_socket_is_blocked(void **unused)
{
    (void)unused;
    f.sessions.limits.max_queued = 2;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(offer(f.msg[0], 0), OFFER_TAKEN);
    }
    f.peer.peer.blocked = true;
    assert_int_equal(offer(f.msg[0], 0), OFFER_DROPPED);
    assert_int_equal(f.session->dropped, 1);
    for (int i = 0; i < 99; i++) {
        take();
    }
    assert_int_equal(offer(f.msg[0], 0), OFFER_TAKEN);
    assert_int_equal(offer(f.msg[0], 0), OFFER_DROPPED);
    f.peer.peer.blocked = false;
    assert_int_equal(offer(f.msg[0], 0), OFFER_TAKEN);
}

static void quality_0_is_not_for_those_who_are_away(void **unused)
{
    (void)unused;
    session_detach(&f.sessions, f.session, 0);
    assert_int_equal(offer(f.msg[0], 1), OFFER_IGNORED);
    assert_int_equal(offer(f.msg[1], 0), OFFER_IGNORED);
    assert_int_equal(f.session->dropped, 0); /* that is no loss */
    f.sessions.limits.queue_qos0 = true;
    f.sessions.limits.max_queued = 2;
    assert_int_equal(offer(f.msg[0], 1), OFFER_TAKEN);
    assert_int_equal(offer(f.msg[0], 1), OFFER_TAKEN);
    assert_int_equal(offer(f.msg[0], 1), OFFER_DROPPED);
    session_attach(&f.sessions, f.session, &f.peer.peer, NULL);
    take_publish(0, 0, false);
    session_detach(&f.sessions, f.session, 0);
    session_attach(&f.sessions, f.session, &f.peer.peer, NULL);
    take_publish(0, 0, false); /* it was kept */
    take_nothing();
}

static void retained_messages_are_exempt_from_the_count(void **unused)
{
    (void)unused;
    f.sessions.limits.max_queued = 2;
    f.sessions.limits.max_inflight = 1;
    f.peer.peer.blocked = true;
    for (int i = 0; i < 10; i++) {
        assert_int_not_equal(session_offer(&f.sessions, f.session, f.msg[i % 2], 1, true, NULL),
                             OFFER_DROPPED);
    }
    assert_false(session_room(&f.sessions, f.session));
    assert_int_equal(offer(f.msg[1], 1), OFFER_DROPPED);
    assert_int_equal(offer(f.msg[0], 1), OFFER_DROPPED);
}

static void says_when_the_queue_fills_up(void **unused)
{
    (void)unused;
    f.sessions.limits.max_queued = 10;
    f.sessions.limits.max_inflight = 1;
    for (int i = 1; i <= 7; i++) {
        /* once, and not again before it has shown that it reads */
        assert_int_equal(offer(f.msg[1], 1), i == 6 ? OFFER_PRESSURE : OFFER_TAKEN);
    }
    take();
    assert_int_equal(session_puback(&f.sessions, f.session, 1), ACK_OK);
    assert_int_equal(offer(f.msg[0], 1), OFFER_TAKEN);
    assert_int_equal(offer(f.msg[1], 1), OFFER_PRESSURE);
    assert_int_equal(offer(f.msg[1], 1), OFFER_TAKEN);
    take();
    take();
    session_puback(&f.sessions, f.session, 2);
    session_detach(&f.sessions, f.session, 0);
    assert_int_equal(offer(f.msg[1], 1), OFFER_TAKEN); /* nobody is there */
}

static int64_t now;

static int64_t fake_clock(void)
{
    return now;
}

/* Fills the queue to a count; how many of those offered were taken. */
static uint32_t offer_many(uint32_t n)
{
    uint32_t taken = 0;
    for (uint32_t i = 0; i < n; i++) {
        taken += offer(f.msg[1], 1) != OFFER_DROPPED;
    }
    return taken;
}

/* However many came while a client did not run: it is a slow reader only when time has passed. */
static void a_burst_is_no_slow_reader(void **unused)
{
    (void)unused;
    f.sessions.limits = (struct session_limits){.max_inflight = 1, .max_queued = 10, .max_burst = 90};
    f.sessions.clock = fake_clock;
    now = 1000000; /* nothing has happened for long */
    assert_int_equal(offer_many(50), 50);
    now += 9999;
    assert_int_equal(offer_many(1), 1);
    now += 1;
    assert_int_equal(offer_many(1), 0);
    take_publish(1, 1, false);
    assert_int_equal(session_puback(&f.sessions, f.session, 1), ACK_OK); /* it does read */
    now += 20000;
    assert_int_equal(offer_many(100), 50); /* max_queued and max_burst */
    session_detach(&f.sessions, f.session, 0);
    f.sessions.limits.max_burst = 1000;
    assert_int_equal(offer_many(1), 0); /* nobody is there */
}

static void a_burst_is_bounded_in_bytes(void **unused)
{
    (void)unused;
    f.sessions.limits = (struct session_limits){.max_inflight = 1, .max_queued = 10, .max_burst = 9000};
    f.session->queued_bytes = (1 << 20) - 10;
    assert_int_equal(offer_many(20), 11); /* max_queued and the window */
    f.session->queued_bytes = 110;
}

/* ---- resuming ---- */

static void sends_again_in_order_with_dup(void **unused)
{
    (void)unused;
    for (int i = 0; i < 6; i++) {
        offer(f.msg[1 + i % 2], 2); /* 1: QoS 1, 2: QoS 2, ... */
    }
    for (int i = 0; i < 5; i++) {
        take();
    }
    session_puback(&f.sessions, f.session, 3);
    assert_int_equal(pubrec(2), ACK_OK);
    reconnect();
    offer(f.msg[1], 1);
    take_publish(1, 1, true); /* [MQTT-4.4.0-1] */
    take_pubrel(2);
    take_publish(2, 4, true);
    take_publish(1, 5, true);
    take_publish(2, 6, false); /* was never on the wire */
    take_publish(1, 7, false);
    take_nothing();
}

static void sends_again_as_often_as_it_takes(void **unused)
{
    (void)unused;
    offer(f.msg[1], 1);
    offer(f.msg[1], 1);
    take();
    take();
    for (int i = 0; i < 3; i++) {
        reconnect();
        take_publish(1, 1, true);
        reconnect(); /* in the middle of it */
        take_publish(1, 1, true);
        take_publish(1, 2, true);
        take_nothing();
    }
    reconnect();
    take_publish(1, 1, true);
    assert_int_equal(session_puback(&f.sessions, f.session, 1), ACK_OK); /* while it is not done */
    take_publish(1, 2, true);
    assert_int_equal(session_puback(&f.sessions, f.session, 2), ACK_OK);
    take_nothing();
}

/* What is acknowledged before its turn comes is not sent again. */
static void an_early_acknowledgement_counts(void **unused)
{
    (void)unused;
    for (int i = 0; i < 4; i++) {
        offer(f.msg[1], 1);
        take();
    }
    reconnect();
    session_puback(&f.sessions, f.session, 1);
    session_puback(&f.sessions, f.session, 3);
    take_publish(1, 2, true);
    take_publish(1, 4, true);
    take_nothing();
    session_puback(&f.sessions, f.session, 2);
    session_puback(&f.sessions, f.session, 4);
    reconnect();
    take_nothing();
}

static void everything_under_way_is_sent_again_whatever_the_window(void **unused)
{
    (void)unused;
    for (int i = 0; i < 10; i++) {
        offer(f.msg[1], 1);
        take();
    }
    f.sessions.limits.max_inflight = 2;
    reconnect();
    offer(f.msg[1], 1);
    for (uint16_t id = 1; id <= 10; id++) {
        take_publish(1, id, true);
    }
    take_nothing();
}

/* ---- acknowledgements ---- */

static void quality_2_goes_its_four_steps(void **unused)
{
    (void)unused;
    offer(f.msg[2], 2);
    take_publish(2, 1, false);
    assert_int_equal(f.msg[2]->refs, 2);
    assert_int_equal(pubrec(1), ACK_OK);
    assert_int_equal(f.msg[2]->refs, 1); /* it is the client's now */
    assert_int_equal(pubrec(1), ACK_OK); /* again: PUBREL again */
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 1), ACK_OK);
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 1), ACK_UNKNOWN);
    assert_int_equal(pubrec(1), ACK_UNKNOWN);
    assert_int_equal(f.session->inflight, 0);
}

static void knows_what_was_acknowledged_wrongly(void **unused)
{
    (void)unused;
    offer(f.msg[1], 1);
    offer(f.msg[2], 2);
    take();
    take();
    assert_int_equal(session_puback(&f.sessions, f.session, 9), ACK_UNKNOWN);
    assert_int_equal(pubrec(9), ACK_UNKNOWN);
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 9), ACK_UNKNOWN);
    assert_int_equal(session_puback(&f.sessions, f.session, 2), ACK_WRONG);
    assert_int_equal(pubrec(1), ACK_WRONG);
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 1), ACK_WRONG);
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 2), ACK_WRONG); /* before PUBREC */
    assert_int_equal(f.session->inflight, 2);
    assert_int_equal(session_puback(&f.sessions, f.session, 1), ACK_OK);
    assert_int_equal(session_puback(&f.sessions, f.session, 1), ACK_UNKNOWN); /* twice */
}

static void lets_everything_go(void **unused)
{
    (void)unused;
    f.sessions.limits.queue_qos0 = true;
    f.sessions.limits.max_inflight = 3;
    for (int i = 0; i < 30; i++) {
        offer(f.msg[i % 3], 2);
    }
    for (int i = 0; i < 5; i++) {
        take();
    }
    pubrec(2);
    session_puback(&f.sessions, f.session, 1);
    assert_true(f.msg[0]->refs > 1 && f.msg[1]->refs > 1 && f.msg[2]->refs > 1);
    session_detach(&f.sessions, f.session, 0);
    session_destroy(&f.sessions, f.session);
    for (int qos = 0; qos < 3; qos++) {
        assert_int_equal(f.msg[qos]->refs, 1);
    }
}

static void what_is_gone_is_freed_bit_by_bit(void **unused)
{
    (void)unused;
    f.sessions.limits.queue_qos0 = true;
    for (int i = 0; i < 9; i++) {
        offer(f.msg[i % 3], 2);
    }
    session_detach(&f.sessions, f.session, 0);
    session_discard(&f.sessions, f.session);
    assert_false(sessions_bury(&f.sessions, 2));
    assert_int_equal(f.msg[0]->refs, 1 + 1);
    assert_false(sessions_bury(&f.sessions, 2));
    assert_int_equal(f.msg[0]->refs, 1);
    assert_true(sessions_bury(&f.sessions, 100));
    assert_true(f.msg[1]->refs == 1 && f.msg[2]->refs == 1);
}

/* ---- durable ---- */

static void kept_sessions_put_their_deliveries_into_the_ticket(void **unused)
{
    (void)unused;
    struct session *clean = session_new(&f.sessions, "clean", NULL, true);
    struct ticket *ticket = store_begin(f.store);
    session_offer(&f.sessions, f.session, f.msg[1], 1, false, ticket);
    session_offer(&f.sessions, f.session, f.msg[1], 0, false, ticket); /* QoS 0: no promise */
    session_offer(&f.sessions, clean, f.msg[1], 1, false, ticket);     /* ends with its connection */
    store_seal(f.store, ticket);
    assert_int_equal(ticket->open, 1);
    assert_int_equal(ticket->parts, 0);
    take();
    take();
    assert_false(ticket->closed);
    assert_int_equal(session_puback(&f.sessions, f.session, 1), ACK_OK);
    assert_true(ticket->closed);
    ticket_unref(ticket);
}

static void a_dropped_delivery_is_no_obligation(void **unused)
{
    (void)unused;
    f.sessions.limits.max_queued = 1;
    f.sessions.limits.max_inflight = 1;
    offer(f.msg[1], 1);
    take();
    offer(f.msg[1], 1);
    struct ticket *ticket = store_begin(f.store);
    assert_int_equal(session_offer(&f.sessions, f.session, f.msg[1], 1, false, ticket), OFFER_DROPPED);
    store_seal(f.store, ticket);
    assert_true(ticket->closed);
    ticket_unref(ticket);
}

static void commit(void)
{
    store_submit(f.store, false);
    assert_true(fake_storage_commit(&f.storage));
}

static void pubrel_waits_for_the_commit(void **unused)
{
    (void)unused;
    struct ticket *publish = store_begin(f.store), *release;
    session_offer(&f.sessions, f.session, f.msg[2], 2, false, publish);
    store_seal(f.store, publish);
    take_nothing();
    commit();
    assert_true(publish->closed);
    take_publish(2, 1, false);
    assert_int_equal(session_pubrec(&f.sessions, f.session, 1, &release), ACK_OK);
    assert_non_null(release);
    assert_false(ticket_closed(release));
    store_submit(f.store, false);
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_OUT), 1);
    assert_int_equal(fake_storage_change(&f.storage, CHANGE_OUT, 0)->number, 0);
    assert_true(fake_storage_commit(&f.storage));
    assert_true(ticket_closed(release));
    ticket_unref(release);
    ticket_unref(publish);
}

/* Neither a client that says PUBREC again nor one that has come again gets PUBREL before that. */
static void pubrel_waits_whoever_asks_for_it(void **unused)
{
    (void)unused;
    offer(f.msg[2], 2);
    take_nothing();
    commit();
    take_publish(2, 1, false);
    struct ticket *first, *again;
    session_pubrec(&f.sessions, f.session, 1, &first);
    session_pubrec(&f.sessions, f.session, 1, &again);
    assert_ptr_equal(again, first);
    assert_false(ticket_closed(again));
    reconnect();
    struct outgoing out = session_take(&f.sessions, f.session);
    assert_int_equal(out.kind, OUT_PUBREL);
    assert_int_equal(out.id, 1);
    assert_ptr_equal(out.wait, first);
    ticket_unref(out.wait);
    commit();
    assert_true(ticket_closed(first));
    ticket_unref(first);
    ticket_unref(again);
    session_pubrec(&f.sessions, f.session, 1, &again);
    assert_null(again);
    reconnect();
    out = session_take(&f.sessions, f.session);
    assert_int_equal(out.kind, OUT_PUBREL);
    assert_null(out.wait);
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 1), ACK_OK);
}

/* A client that comes and goes writes nothing by that, nor do its connections pile up on a disk that is full.
 */
static void who_comes_back_from_where_it_went_is_not_stored_again(void **unused)
{
    (void)unused;
    while (!store_idle(f.store)) {
        store_submit(f.store, true);
        assert_true(fake_storage_commit(&f.storage));
    }
    for (int i = 0; i < 3; i++) {
        struct principal *again = principal_new();
        again->port = (uint16_t)(1000 + i);
        again->listener = f.who->listener + (i == 2);
        session_detach(&f.sessions, f.session, 0);
        session_attach(&f.sessions, f.session, &f.peer.peer, again);
        principal_unref(again);
        assert_int_equal(store_idle(f.store), i < 2);
    }
}

/* ---- QoS 2 of a kept session, until its identifier is stored ---- */

/* QoS 0 and 1 do not wait behind it; what is of QoS 2 keeps its order. */
static void what_has_to_be_stored_first_holds_nobody_up(void **unused)
{
    (void)unused;
    offer(f.msg[2], 2);
    offer(f.msg[1], 1);
    offer(f.msg[0], 0);
    offer(f.msg[2], 2);
    offer(f.msg[1], 1);
    take_publish(1, 2, false);
    take_publish(0, 0, false);
    take_publish(1, 4, false);
    take_nothing();
    assert_int_equal(f.session->storing.count, 2);
    assert_int_equal(f.session->queue.count, 0);
    commit();
    assert_int_equal(f.closed, 1);
    take_publish(2, 1, false);
    take_publish(2, 3, false);
    take_nothing();
    for (uint16_t id = 1; id <= 4; id++) { /* all are found, whatever the order in which they went */
        assert_int_equal(id % 2 ? pubrec(id) : session_puback(&f.sessions, f.session, id), ACK_OK);
    }
    session_pubcomp(&f.sessions, f.session, 1);
    session_pubcomp(&f.sessions, f.session, 3);
    assert_int_equal(f.session->inflight, 0);
    assert_int_equal(f.session->sent_bytes, 0);
}

/* It is on its way: the window counts it, and its bytes. */
static void what_is_being_stored_is_in_the_window(void **unused)
{
    (void)unused;
    f.sessions.limits.max_inflight = 2;
    offer(f.msg[2], 2);
    offer(f.msg[2], 2);
    offer(f.msg[1], 1);
    take_nothing();
    assert_int_equal(f.session->inflight, 2);
    assert_int_equal(f.session->queue.count, 1);
    assert_int_equal(f.sessions.queued, 1);
    assert_int_equal(f.session->sent_bytes, 20);
    f.sessions.limits.max_inflight = 3;
    f.sessions.limits.max_inflight_bytes = 25;
    take_nothing();
    f.sessions.limits.max_inflight_bytes = 0;
    take_publish(1, 3, false);
    commit();
    take_publish(2, 1, false);
    take_publish(2, 2, false);
    take_nothing();
}

/* Its batch is made while it waits: the identifier goes with the next one, and so does the delivery. */
static void an_identifier_for_what_is_stored_already(void **unused)
{
    (void)unused;
    f.sessions.limits.max_inflight = 1;
    offer(f.msg[1], 1);
    offer(f.msg[2], 2);
    take_publish(1, 1, false);
    commit();
    uint64_t number = f.storage.last_message;
    session_puback(&f.sessions, f.session, 1);
    take_nothing();
    store_submit(f.store, false);
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_MESSAGE), 0);
    assert_int_equal(fake_storage_change(&f.storage, CHANGE_OUT, 0)->number, number);
    assert_true(fake_storage_commit(&f.storage));
    take_publish(2, 2, false);
}

static void another_connection_gets_what_was_being_stored(void **unused)
{
    struct fake_peer other;
    (void)unused;
    offer(f.msg[2], 2);
    take_nothing();
    fake_peer_init(&other);
    other.peer.id = 77;
    session_detach(&f.sessions, f.session, 0);
    session_attach(&f.sessions, f.session, &other.peer, NULL);
    commit();
    assert_int_equal(f.closed, 77); /* who is told */
    take_publish(2, 1, false);
    reconnect();
    take_publish(2, 1, true);
    session_detach(&f.sessions, f.session, 0);
    offer(f.msg[2], 2);
    session_attach(&f.sessions, f.session, &f.peer.peer, NULL);
    take_publish(2, 1, true);
    take_nothing();
    session_detach(&f.sessions, f.session, 0);
    commit(); /* while nobody is there */
    fake_peer_woken(&f.peer);
    session_attach(&f.sessions, f.session, &f.peer.peer, NULL);
    assert_true(fake_peer_woken(&f.peer));
    take_publish(2, 1, true);
    take_publish(2, 2, false);
    take_nothing();
}

/* No identifier in use is given again, wherever its message stands. */
static void identifiers_that_are_being_stored_are_in_use(void **unused)
{
    (void)unused;
    offer(f.msg[2], 2);
    offer(f.msg[1], 1);
    take_publish(1, 2, false);
    session_puback(&f.sessions, f.session, 2);
    f.session->last_id = UINT16_MAX;
    offer(f.msg[1], 1);
    take_publish(1, 2, false); /* 1 waits for the disk */
    offer(f.msg[2], 2);
    take_nothing();
    f.session->last_id = UINT16_MAX;
    offer(f.msg[1], 1);
    take_publish(1, 4, false);
    commit();
    take_publish(2, 1, false);
    take_publish(2, 3, false);
    assert_int_equal(session_puback(&f.sessions, f.session, 4), ACK_OK);
    assert_int_equal(session_puback(&f.sessions, f.session, 2), ACK_OK);
    assert_int_equal(pubrec(1), ACK_OK);
    assert_int_equal(pubrec(3), ACK_OK);
}

/* An acknowledgement of what has not gone out is of nothing that is known. */
static void nobody_acknowledges_what_is_being_stored(void **unused)
{
    (void)unused;
    offer(f.msg[2], 2);
    take_nothing();
    assert_int_equal(pubrec(1), ACK_UNKNOWN);
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 1), ACK_UNKNOWN);
    assert_int_equal(session_puback(&f.sessions, f.session, 1), ACK_UNKNOWN);
    commit();
    take_publish(2, 1, false);
}

static void a_session_that_ends_while_it_stores(void **unused)
{
    (void)unused;
    struct ticket *ticket = store_begin(f.store);
    session_offer(&f.sessions, f.session, f.msg[2], 2, false, ticket);
    store_seal(f.store, ticket);
    offer(f.msg[2], 2);
    take_nothing();
    store_submit(f.store, false);
    offer(f.msg[2], 2);
    take_nothing();
    session_detach(&f.sessions, f.session, 0);
    session_destroy(&f.sessions, f.session);
    assert_true(ticket_closed(ticket));
    ticket_unref(ticket);
    assert_true(fake_storage_commit(&f.storage));
    commit();
    assert_int_equal(disk_count(&f.storage, CHANGE_MESSAGE), 0);
    assert_int_equal(disk_count(&f.storage, CHANGE_OUT), 0);
    assert_true(store_idle(f.store));
}

/* The disk works again: what waited goes out, once. */
static void what_could_not_be_stored_goes_out_later(void **unused)
{
    (void)unused;
    offer(f.msg[2], 2);
    take_nothing();
    for (int i = 0; i < 3; i++) {
        store_submit(f.store, true);
        fake_storage_answer(&f.storage, STORAGE_ERROR, "a broken disk");
        take_nothing();
    }
    store_submit(f.store, true);
    assert_true(fake_storage_commit(&f.storage));
    take_publish(2, 1, false);
    take_nothing();
}

static void take_nothing_yet(void)
{
    assert_int_equal(take().kind, OUT_NONE);
}

/* It stays where it is, and its turn comes. */
static void without_memory_to_store_one_it_waits(void **unused)
{
    (void)unused;
    offer(f.msg[2], 2);
    offer(f.msg[1], 1);
    for (int i = 0; i < 3; i++) {
        memory_fails(0, 1);
        take_nothing_yet();
        assert_int_equal(memory_calm(), 1);
        assert_int_equal(f.session->queue.count, 2);
        assert_int_equal(f.session->inflight, 0);
    }
    take_publish(1, 5, false);
    take_nothing();
    commit();
    take_publish(2, 4, false);
    take_nothing();
    assert_int_equal(session_puback(&f.sessions, f.session, 5), ACK_OK);
    assert_int_equal(pubrec(4), ACK_OK);
}

/* Its identifier is stored, but there is no place among what was sent. Its client may come again meanwhile.
 */
static void without_memory_what_is_stored_waits(void **unused)
{
    (void)unused;
    offer(f.msg[2], 2);
    for (uint16_t id = 2; id <= 5; id++) {
        offer(f.msg[1], 1);
        take_publish(1, id, false);
    }
    commit();
    assert_int_equal(f.session->sent.count, f.session->sent.cap);
    for (int i = 0; i < 2; i++) {
        memory_fails(0, 1);
        struct outgoing out = session_take(&f.sessions, f.session);
        assert_int_equal(memory_calm(), 1);
        assert_int_equal(out.kind, OUT_NONE);
        assert_int_equal(f.session->storing.count, 1);
        reconnect();
        for (uint16_t id = 2; id <= 5; id++) {
            take_publish(1, id, true);
        }
    }
    take_publish(2, 1, false);
    take_nothing();
}

static void destroying_a_session_discharges_all(void **unused)
{
    (void)unused;
    struct ticket *tickets[6];
    f.sessions.limits.max_inflight = 3;
    for (int i = 0; i < 6; i++) {
        tickets[i] = store_begin(f.store);
        session_offer(&f.sessions, f.session, f.msg[1 + i % 2], 2, false, tickets[i]);
        store_seal(f.store, tickets[i]);
    }
    store_submit(f.store, false);
    take();
    take();
    session_detach(&f.sessions, f.session, 0);
    for (int i = 0; i < 6; i++) {
        assert_false(tickets[i]->closed);
    }
    session_destroy(&f.sessions, f.session);
    for (int i = 0; i < 6; i++) {
        assert_true(tickets[i]->closed);
        ticket_unref(tickets[i]);
    }
}

/* ---- at random ---- */

/* The session against a plain model: what is under way, in the order of sending, and whether PUBREC came. */
static struct {
    struct {
        uint16_t id;
        uint8_t qos;
        bool released;
    } way[64];
    int count;
    int queued; /* QoS 1 and 2 */
    int again;  /* how many of way[] are still to be sent again */
    bool used[65536];
} model;

static void model_drop(int i)
{
    model.used[model.way[i].id] = false;
    model.again -= i >= model.count - model.again;
    memmove(&model.way[i], &model.way[i + 1], (size_t)(63 - i) * sizeof model.way[0]);
    model.count--;
}

static void model_take(int window)
{
    struct outgoing out = take();
    if (model.again > 0) {
        int i = model.count - model.again--;
        assert_int_equal(out.kind, model.way[i].released ? OUT_PUBREL : OUT_PUBLISH);
        assert_int_equal(out.id, model.way[i].id);
        assert_true(out.kind == OUT_PUBREL || (out.dup && out.qos == model.way[i].qos));
    } else if (model.queued > 0 && model.count < window) {
        assert_int_equal(out.kind, OUT_PUBLISH);
        assert_false(out.dup);
        assert_true(out.id > 0 && !model.used[out.id]);
        model.used[out.id] = true;
        model.way[model.count].id = out.id;
        model.way[model.count].qos = out.qos;
        model.way[model.count++].released = false;
        model.queued--;
    } else {
        assert_int_equal(out.kind, OUT_NONE);
    }
}

static void model_acknowledge(struct random *random)
{
    if (model.count == 0) {
        return;
    }
    /* mostly the oldest but one, so that the oldest stays for long and identifiers go round it */
    int i =
        random_chance(random, 97) && model.count > 1 ? 1 : (int)random_below(random, (uint32_t)model.count);
    uint16_t id = model.way[i].id;
    if (model.way[i].qos == 1) {
        assert_int_equal(session_puback(&f.sessions, f.session, id), ACK_OK);
        model_drop(i);
    } else if (!model.way[i].released) {
        assert_int_equal(pubrec(id), ACK_OK);
        model.way[i].released = true;
    } else {
        assert_int_equal(session_pubcomp(&f.sessions, f.session, id), ACK_OK);
        model_drop(i);
    }
}

static void agrees_with_a_plain_model(void **unused)
{
    struct random random = {777};
    int window = 1, rounds = 0;
    uint16_t last = 0;
    (void)unused;
    memset(&model, 0, sizeof model);
    f.sessions.limits.max_inflight = (uint32_t)window;
    for (int i = 0; i < 600000; i++) {
        uint32_t what = random_below(&random, 10000);
        if (what == 0) {
            reconnect();
            model.again = model.count;
        } else if (what < 5) {
            window = 1 + (int)random_below(&random, 60);
            f.sessions.limits.max_inflight = (uint32_t)window;
        } else if (what < 3300 && model.queued < 40) {
            assert_int_equal(offer(f.msg[1 + random_below(&random, 2)], 2), OFFER_TAKEN);
            model.queued++;
        } else if (what < 6700) {
            model_take(window);
        } else {
            model_acknowledge(&random);
        }
        assert_int_equal(f.session->inflight, model.count);
        rounds += f.session->last_id < last;
        last = f.session->last_id;
    }
    assert_true(rounds > 0); /* the identifiers did go round */
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define D(name) cmocka_unit_test_setup_teardown(name, setup_durable, teardown)
    const struct CMUnitTest tests[] = {
        T(is_found_by_its_client_id),
        T(goes_with_its_subscriptions),
        T(knows_who_is_there),
        T(delivers_at_the_lower_quality),
        T(may_upgrade),
        T(does_not_upgrade_what_would_not_fit),
        T(keeps_the_order_over_qualities),
        T(passes_the_retain_flag_on),
        T(wakes_its_peer),
        T(identifiers_go_round_without_zero),
        T(an_identifier_in_use_is_skipped),
        T(the_largest_window_uses_every_identifier_but_one),
        T(the_window_holds_back),
        T(quality_0_does_not_wait_for_the_window),
        T(the_window_counts_bytes),
        T(the_queue_counts_messages),
        T(the_queue_counts_bytes),
        T(the_queue_begins_behind_the_window),
        T(bytes_that_go_with_the_connection_are_given_back),
        T(quality_0_is_limited_only_while_the_socket_is_blocked),
        T(quality_0_is_not_for_those_who_are_away),
        T(retained_messages_are_exempt_from_the_count),
        T(says_when_the_queue_fills_up),
        T(a_burst_is_no_slow_reader),
        T(a_burst_is_bounded_in_bytes),
        T(sends_again_in_order_with_dup),
        T(sends_again_as_often_as_it_takes),
        T(an_early_acknowledgement_counts),
        T(everything_under_way_is_sent_again_whatever_the_window),
        T(quality_2_goes_its_four_steps),
        T(knows_what_was_acknowledged_wrongly),
        T(lets_everything_go),
        T(what_is_gone_is_freed_bit_by_bit),
        D(kept_sessions_put_their_deliveries_into_the_ticket),
        D(a_dropped_delivery_is_no_obligation),
        D(pubrel_waits_for_the_commit),
        D(pubrel_waits_whoever_asks_for_it),
        D(who_comes_back_from_where_it_went_is_not_stored_again),
        D(what_has_to_be_stored_first_holds_nobody_up),
        D(what_is_being_stored_is_in_the_window),
        D(an_identifier_for_what_is_stored_already),
        D(another_connection_gets_what_was_being_stored),
        D(identifiers_that_are_being_stored_are_in_use),
        D(nobody_acknowledges_what_is_being_stored),
        D(a_session_that_ends_while_it_stores),
        D(what_could_not_be_stored_goes_out_later),
        D(without_memory_to_store_one_it_waits),
        D(without_memory_what_is_stored_waits),
        D(destroying_a_session_discharges_all),
        T(agrees_with_a_plain_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
