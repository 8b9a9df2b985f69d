/*
 * test_session_sweep.c - messages that may no longer be read: queued, and in each state of being under way.
 *
 * f.msg[q] is published at QoS q; sweep(f.msg[q]) takes the right to read it.
 */
#include "fake_session.h"

/* ---- queued ---- */

static bool is_of(void *arg, const struct session *session, const struct msg *msg)
{
    assert_ptr_equal(session, f.session);
    return msg == arg;
}

static uint32_t sweep(struct msg *msg)
{
    return session_sweep(&f.sessions, f.session, is_of, msg);
}

static void what_is_swept_is_not_sent(void **unused)
{
    (void)unused;
    for (int i = 0; i < 6; i++) {
        offer(f.msg[i % 3], 2); /* 0 1 2 0 1 2 */
    }
    assert_int_equal(session_sweep(&f.sessions, f.session, is_of, f.msg[1]), 2);
    assert_int_equal(session_sweep(&f.sessions, f.session, is_of, f.msg[0]), 2);
    assert_int_equal(session_sweep(&f.sessions, f.session, is_of, f.msg[0]), 0);
    assert_int_equal(f.msg[0]->refs, 1);
    assert_int_equal(f.msg[1]->refs, 1);
    assert_int_equal(f.sessions.dropped, 0); /* that is by limits */
    assert_int_equal(f.session->queued_bytes, 20);
    take_publish(2, 2, false); /* those swept used their identifiers up */
    take_publish(2, 4, false);
    take_nothing();
}

static void the_last_ones_may_be_swept(void **unused)
{
    (void)unused;
    offer(f.msg[2], 2);
    offer(f.msg[1], 2);
    offer(f.msg[1], 2);
    sweep(f.msg[1]);
    offer(f.msg[1], 2);
    sweep(f.msg[1]); /* and once more */
    offer(f.msg[0], 2);
    offer(f.msg[2], 2);
    take_publish(2, 1, false);
    take_publish(0, 0, false);
    take_publish(2, 5, false);
    take_nothing();
    assert_int_equal(pubrec(5), ACK_OK);
}

/* The identifiers that were used up are a gap between those under way: each must still be found. */
static void acknowledgements_are_found_across_what_was_swept(void **unused)
{
    (void)unused;
    f.sessions.limits.max_inflight = 3;
    offer(f.msg[1], 1);
    take_publish(1, 1, false);
    offer(f.msg[2], 2);
    offer(f.msg[1], 1);
    offer(f.msg[2], 2);
    offer(f.msg[1], 1);
    sweep(f.msg[2]);
    take_publish(1, 3, false);
    take_publish(1, 5, false);
    take_nothing();
    assert_int_equal(session_puback(&f.sessions, f.session, 2), ACK_UNKNOWN);
    assert_int_equal(session_puback(&f.sessions, f.session, 3), ACK_OK);
    assert_int_equal(session_puback(&f.sessions, f.session, 5), ACK_OK);
    assert_int_equal(session_puback(&f.sessions, f.session, 1), ACK_OK);
    assert_int_equal(f.session->inflight, 0);
}

static void sweeping_is_a_discharge_and_gives_room(void **unused)
{
    (void)unused;
    f.sessions.limits.max_queued = 2;
    f.sessions.limits.queue_qos0 = true;
    session_detach(&f.sessions, f.session, 0);
    struct ticket *ticket = store_begin(f.store);
    session_offer(&f.sessions, f.session, f.msg[1], 1, false, ticket);
    session_offer(&f.sessions, f.session, f.msg[1], 1, false, ticket);
    offer(f.msg[0], 0);
    offer(f.msg[0], 0);
    store_seal(f.store, ticket);
    sweep(f.msg[1]);
    assert_true(ticket->closed);
    ticket_unref(ticket);
    sweep(f.msg[0]);
    assert_true(session_room(&f.sessions, f.session));
    assert_int_equal(offer(f.msg[1], 1), OFFER_TAKEN);
    assert_int_equal(offer(f.msg[0], 0), OFFER_TAKEN);
    session_attach(&f.sessions, f.session, &f.peer.peer, NULL);
    take();
    take();
    take_nothing();
}

/* ---- under way ---- */

/* Sends a message of this QoS; returns its identifier. */
static uint16_t send(uint8_t qos)
{
    offer(f.msg[qos], qos);
    struct outgoing out = take();
    assert_int_equal(out.kind, OUT_PUBLISH);
    assert_int_equal(out.qos, qos);
    return out.id;
}

static enum delivery_state state_of(uint16_t id)
{
    const struct delivery *d = ring_find(&f.session->sent, id);
    return d ? d->state : D_GONE;
}

static void nothing_is_under_way(void)
{
    assert_int_equal(f.session->inflight, 0);
    assert_int_equal(f.session->sent_bytes, 0);
    assert_int_equal(f.session->sent.count, 0);
    take_nothing();
}

static void quality_1_waits_for_its_puback(void **unused)
{
    (void)unused;
    send(1);
    send(2);
    send(1);
    assert_int_equal(sweep(f.msg[1]), 2);
    assert_int_equal(f.msg[1]->refs, 1);
    assert_int_equal(f.session->inflight, 3); /* identifiers, not messages */
    assert_int_equal(f.session->sent_bytes, 10);
    take_nothing();
    assert_int_equal(sweep(f.msg[1]), 0); /* counted once */
    assert_int_equal(pubrec(1), ACK_WRONG);
    assert_int_equal(session_puback(&f.sessions, f.session, 3), ACK_OK);
    assert_int_equal(session_puback(&f.sessions, f.session, 1), ACK_OK);
    assert_int_equal(session_puback(&f.sessions, f.session, 1), ACK_UNKNOWN);
    assert_int_equal(pubrec(2), ACK_OK);
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 2), ACK_OK);
    nothing_is_under_way();
}

static void quality_1_is_not_sent_again(void **unused)
{
    (void)unused;
    send(1);
    send(2);
    send(1);
    sweep(f.msg[1]);
    reconnect();
    assert_int_equal(f.session->inflight, 1);
    assert_int_equal(state_of(1), D_GONE); /* free */
    take_publish(2, 2, true);
    take_nothing();
    assert_int_equal(session_puback(&f.sessions, f.session, 3), ACK_UNKNOWN);
    sweep(f.msg[2]);
    reconnect();
    take_pubrel(2);
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 2), ACK_OK);
    nothing_is_under_way();
}

static void quality_2_ends_as_usual_on_its_connection(void **unused)
{
    (void)unused;
    send(2);
    assert_int_equal(sweep(f.msg[2]), 1);
    assert_int_equal(f.msg[2]->refs, 1);
    assert_int_equal(f.session->sent_bytes, 0);
    assert_int_equal(state_of(1), D_RETIRED);
    take_nothing();
    assert_int_equal(session_puback(&f.sessions, f.session, 1), ACK_WRONG);
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 1), ACK_WRONG); /* before PUBREC */
    assert_int_equal(pubrec(1), ACK_OK);
    assert_int_equal(pubrec(1), ACK_OK);
    assert_int_equal(f.session->inflight, 1);
    reconnect();
    take_pubrel(1);
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 1), ACK_OK);
    nothing_is_under_way();
}

/* The client gets PUBREL in the place of the PUBLISH, as often as it takes. */
static void quality_2_is_released_after_a_resume(void **unused)
{
    (void)unused;
    send(2);
    send(1);
    send(2);
    sweep(f.msg[2]);
    for (int i = 0; i < 3; i++) {
        reconnect();
        take_pubrel(1);
        take_publish(1, 2, true);
        take_pubrel(3);
        take_nothing();
        assert_int_equal(f.session->inflight, 3);
    }
    assert_int_equal(pubrec(3), ACK_OK); /* which the client had sent before */
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 3), ACK_OK);
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 1), ACK_OK);
    session_puback(&f.sessions, f.session, 2);
    nothing_is_under_way();
}

static void what_was_released_stays_so(void **unused)
{
    (void)unused;
    send(2);
    assert_int_equal(pubrec(1), ACK_OK);
    assert_int_equal(sweep(f.msg[2]), 0);
    assert_int_equal(state_of(1), D_RELEASED);
    reconnect();
    take_pubrel(1);
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 1), ACK_OK);
    nothing_is_under_way();
}

/* Nobody is there to answer: QoS 1 is over at once, QoS 2 as soon as the client says so. */
static void sessions_that_are_away(void **unused)
{
    (void)unused;
    send(1);
    send(2);
    send(1);
    session_detach(&f.sessions, f.session, 1000);
    assert_int_equal(sweep(f.msg[1]), 2);
    assert_int_equal(f.session->inflight, 1);
    assert_int_equal(sweep(f.msg[2]), 1);
    assert_int_equal(state_of(2), D_RELEASED);
    assert_int_equal(f.session->sent_bytes, 0);
    session_attach(&f.sessions, f.session, &f.peer.peer, NULL);
    take_pubrel(2);
    take_nothing();
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 2), ACK_OK);
    nothing_is_under_way();
}

/* Between two re-sendings: what is on the wire again waits for its answer, what is not is never sent. */
static void in_the_middle_of_a_resume(void **unused)
{
    (void)unused;
    for (int i = 0; i < 3; i++) {
        send(1); /* 1, 3, 5 */
        send(2); /* 2, 4, 6 */
    }
    reconnect();
    take_publish(1, 1, true);
    take_publish(2, 2, true);
    assert_int_equal(sweep(f.msg[1]), 3);
    assert_int_equal(sweep(f.msg[2]), 3);
    assert_int_equal(state_of(1), D_RETIRED);
    assert_int_equal(state_of(2), D_RETIRED);
    assert_int_equal(state_of(3), D_GONE);
    assert_int_equal(f.session->inflight, 4);
    take_pubrel(4);
    take_pubrel(6);
    take_nothing();
    session_puback(&f.sessions, f.session, 1);
    assert_int_equal(pubrec(2), ACK_OK);
    for (uint16_t id = 2; id <= 6; id += 2) {
        assert_int_equal(session_pubcomp(&f.sessions, f.session, id), ACK_OK);
    }
    nothing_is_under_way();
}

/* No identifier of an exchange that has not ended is given to another message, once around all of them. */
static void retired_identifiers_are_skipped(void **unused)
{
    (void)unused;
    send(2);
    send(1);
    send(2);
    assert_int_equal(pubrec(3), ACK_OK);
    sweep(f.msg[1]);
    sweep(f.msg[2]);
    for (int i = 0; i < 140000; i++) {
        uint16_t id = send(1);
        assert_true(id > 3);
        assert_int_equal(session_puback(&f.sessions, f.session, id), ACK_OK);
    }
    assert_true(f.session->sent.count <= 128);
    assert_int_equal(f.session->inflight, 3);
    reconnect(); /* now that of QoS 1 is free */
    take_pubrel(1);
    take_pubrel(3);
    bool two = false;
    for (int i = 0; i < 70000; i++) {
        uint16_t id = send(1);
        two |= id == 2;
        assert_true(id != 1 && id != 3);
        assert_int_equal(session_puback(&f.sessions, f.session, id), ACK_OK);
    }
    assert_true(two);
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 1), ACK_OK);
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 3), ACK_OK);
    nothing_is_under_way();
}

/* A retired identifier holds its place of the window; one that is free gives it back, and the peer is told.
 */
static void the_window_counts_identifiers(void **unused)
{
    (void)unused;
    f.sessions.limits.max_inflight = 2;
    send(1);
    send(2);
    offer(f.msg[0], 0);
    take();
    sweep(f.msg[1]);
    sweep(f.msg[2]);
    offer(f.msg[1], 1);
    take_nothing();
    session_puback(&f.sessions, f.session, 1);
    take_publish(1, 3, false);
    offer(f.msg[2], 2);
    offer(f.msg[2], 2);
    take_nothing();
    reconnect();
    take_pubrel(2);
    fake_peer_woken(&f.peer);
    sweep(f.msg[1]); /* 3, which was not sent again yet */
    assert_true(fake_peer_woken(&f.peer));
    take_publish(2, 4, false);
    take_nothing();
}

static void bytes_of_the_window_are_given_back(void **unused)
{
    (void)unused;
    f.sessions.limits.max_inflight_bytes = 15;
    send(2);
    offer(f.msg[1], 1);
    take_nothing();
    sweep(f.msg[2]);
    take_publish(1, 2, false);
}

/* A thousand of them in the middle do not stay as tombstones. */
static void a_large_window_gets_small_again(void **unused)
{
    (void)unused;
    f.sessions.limits.max_inflight = 2000;
    send(2);
    for (int i = 0; i < 1000; i++) {
        send(1);
    }
    sweep(f.msg[1]);
    assert_int_equal(f.session->inflight, 1001);
    reconnect();
    assert_int_equal(f.session->inflight, 1);
    take_publish(2, 1, true);
    take_nothing();
    session_puback(&f.sessions, f.session, send(1));
    assert_true(f.session->sent.count < 10);
    assert_int_equal(pubrec(1), ACK_OK);
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 1), ACK_OK);
    nothing_is_under_way();
}

static void sessions_go_with_what_is_retired(void **unused)
{
    (void)unused;
    send(1);
    send(2);
    sweep(f.msg[1]);
    sweep(f.msg[2]);
    session_detach(&f.sessions, f.session, 0);
    session_destroy(&f.sessions, f.session);
}

/* ---- durable ---- */

static void commit(void)
{
    store_submit(f.store, true);
    assert_true(fake_storage_commit(&f.storage));
}

static struct ticket *offer_durable(uint8_t qos)
{
    struct ticket *ticket = store_begin(f.store);
    session_offer(&f.sessions, f.session, f.msg[qos], qos, false, ticket);
    store_seal(f.store, ticket);
    return ticket;
}

/* QoS 1: the obligation ends by rule. QoS 2: the store holds the identifier until PUBCOMP, as one that PUBREC
 * came for. */
static void retiring_is_stored(void **unused)
{
    (void)unused;
    struct ticket *one = offer_durable(1), *two = offer_durable(2);
    take_publish(1, 1, false);
    take_nothing();
    commit(); /* both, and the identifier of QoS 2 */
    take_publish(2, 2, false);
    uint64_t session = f.session->number;
    assert_int_equal(disk_find(&f.storage, CHANGE_OUT, session, 2)->number, f.storage.last_message);
    sweep(f.msg[1]);
    sweep(f.msg[2]);
    struct ticket *rel;
    assert_int_equal(session_pubrec(&f.sessions, f.session, 2, &rel), ACK_OK);
    assert_false(ticket_closed(rel)); /* PUBREL waits as ever */
    commit();
    assert_true(ticket_closed(rel));
    ticket_unref(rel);
    assert_int_equal(disk_count(&f.storage, CHANGE_MESSAGE), 0);
    assert_int_equal(disk_find(&f.storage, CHANGE_OUT, session, 2)->number, 0);
    session_pubcomp(&f.sessions, f.session, 2);
    commit();
    assert_int_equal(disk_count(&f.storage, CHANGE_OUT), 0);
    ticket_unref(one);
    ticket_unref(two);
}

static void what_is_swept_before_it_is_stored_never_is(void **unused)
{
    (void)unused;
    struct ticket *one = offer_durable(1), *two = offer_durable(2);
    take_publish(1, 1, false);
    take_nothing(); /* QoS 2 waits for its identifier to be stored */
    assert_int_equal(sweep(f.msg[1]), 1);
    assert_int_equal(sweep(f.msg[2]), 1);
    assert_true(ticket_closed(one) && ticket_closed(two));
    commit();
    assert_int_equal(disk_count(&f.storage, CHANGE_MESSAGE), 0);
    assert_int_equal(disk_count(&f.storage, CHANGE_OUT), 0);
    assert_int_equal(f.session->inflight, 1); /* PUBACK of the first */
    assert_int_equal(f.session->sent_bytes, 0);
    ticket_unref(one);
    ticket_unref(two);
}

/* Its client has not seen the identifier, whatever the disk knows of it. */
static void what_is_swept_while_it_is_stored_goes_again(void **unused)
{
    (void)unused;
    for (int committed = 0; committed < 2; committed++) {
        struct ticket *ticket = offer_durable(2), *other = offer_durable(2);
        struct msg *stays = f.msg[1];
        offer(stays, 1);
        take_publish(1, f.session->last_id + 1 + 2, false);
        take_nothing();
        store_submit(f.store, true);
        if (committed) {
            assert_true(fake_storage_commit(&f.storage));
        }
        assert_int_equal(sweep(f.msg[2]), 2);
        assert_int_equal(f.session->storing.count, 0);
        take_nothing();
        if (!committed) {
            assert_true(fake_storage_commit(&f.storage));
        }
        assert_true(ticket_closed(ticket) && ticket_closed(other));
        commit();
        assert_int_equal(disk_count(&f.storage, CHANGE_OUT), 0);
        assert_int_equal(disk_count(&f.storage, CHANGE_MESSAGE), 1);
        assert_int_equal(session_puback(&f.sessions, f.session, f.session->last_id), ACK_OK);
        nothing_is_under_way();
        commit();
        assert_int_equal(disk_count(&f.storage, CHANGE_MESSAGE), 0);
        ticket_unref(ticket);
        ticket_unref(other);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define D(name) cmocka_unit_test_setup_teardown(name, setup_durable, teardown)
    const struct CMUnitTest tests[] = {
        T(what_is_swept_is_not_sent),
        T(the_last_ones_may_be_swept),
        T(acknowledgements_are_found_across_what_was_swept),
        D(sweeping_is_a_discharge_and_gives_room),
        T(quality_1_waits_for_its_puback),
        T(quality_1_is_not_sent_again),
        T(quality_2_ends_as_usual_on_its_connection),
        T(quality_2_is_released_after_a_resume),
        T(what_was_released_stays_so),
        T(sessions_that_are_away),
        T(in_the_middle_of_a_resume),
        T(retired_identifiers_are_skipped),
        T(the_window_counts_identifiers),
        T(bytes_of_the_window_are_given_back),
        T(a_large_window_gets_small_again),
        T(sessions_go_with_what_is_retired),
        D(retiring_is_stored),
        D(what_is_swept_before_it_is_stored_never_is),
        D(what_is_swept_while_it_is_stored_goes_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
