/*
 * test_session_spill.c - messages that are in the store only: whatever the disk does and whenever their
 * client comes, they come in order, once, and nothing of them stays.
 *
 * Each message is one byte of payload, and its topic says nothing. Pages and commits come when the test says
 * so.
 */
#include "test/unit/no_memory.h"
/* comes first */
#include "broker/msg.h"
#include "fake_session.h"

enum { ONE = 301 /* what a message of one byte counts in queue_memory, with no other there */ };

static uint8_t offered, expected;

/* Nobody is there, and only the first message is kept in memory. */
static int setup_away(void **unused)
{
    setup_durable(unused);
    session_detach(&f.sessions, f.session, 0);
    f.sessions.limits.queue_memory = 1;
    offered = expected = 0;
    store_submit(f.store, true); /* the session itself */
    return fake_storage_commit(&f.storage) ? 0 : -1;
}

static enum offer offer_next(uint8_t qos)
{
    struct msg *msg = msg_new(slice_str("t"), slice_of(&offered, 1), qos, false, f.who);
    enum offer offer = session_offer(&f.sessions, f.session, msg, qos, false, NULL);
    offered++;
    msg_unref(msg);
    return offer;
}

static void offer_many(int n)
{
    while (n-- > 0) {
        assert_int_equal(offer_next(1), OFFER_TAKEN);
    }
}

static void commit(void)
{
    store_submit(f.store, true);
    assert_true(fake_storage_commit(&f.storage));
}

static void commit_all(void)
{
    while (!store_idle(f.store)) {
        commit();
    }
}

static void come(void)
{
    session_attach(&f.sessions, f.session, &f.peer.peer, NULL);
}

static void leave(void)
{
    session_detach(&f.sessions, f.session, 1000);
}

static bool page(void)
{
    return fake_storage_read(&f.storage, false);
}

/* Takes and acknowledges all that comes now; returns how many. */
static int take_all(void)
{
    struct outgoing out;
    int n = 0;
    for (; (out = session_take(&f.sessions, f.session)).kind == OUT_PUBLISH; n++) {
        assert_int_equal(out.msg->payload_size, 1);
        assert_int_equal(msg_payload(out.msg).p[0], expected);
        expected++;
        if (out.qos == 1) {
            assert_int_equal(session_puback(&f.sessions, f.session, out.id), ACK_OK);
        } else if (out.qos == 2) {
            assert_int_equal(pubrec(out.id), ACK_OK);
            assert_int_equal(session_pubcomp(&f.sessions, f.session, out.id), ACK_OK);
        }
        if (out.owned) {
            msg_unref(out.msg);
        }
    }
    assert_int_equal(out.kind, OUT_NONE);
    return n;
}

/* Everything has come, and nothing is left of it. */
static void all_came(void)
{
    do {
        take_all();
        while (f.storage.batch || !store_idle(f.store)) {
            commit();
        }
    } while (page() || take_all() > 0);
    assert_int_equal(expected, offered);
    assert_null(f.session->spill);
    assert_false(f.session->owing.spills);
    assert_int_equal(f.session->owing.spilled, 0);
    assert_int_equal(f.session->queue.count + f.session->sent.count, 0);
    assert_int_equal(f.sessions.queued, 0);
    assert_int_equal(f.sessions.queued_bytes, 0);
    assert_int_equal(disk_count(&f.storage, CHANGE_MESSAGE), 0);
}

/* How many wait in memory, behind them in the store, and behind those for their commit. */
static void stands(uint32_t queue, uint32_t numbers, uint32_t pending)
{
    assert_int_equal(f.session->queue.count, queue);
    assert_int_equal(f.session->spill ? f.session->spill->count : 0, numbers);
    assert_int_equal(f.session->spill ? f.session->spill->pending.count : 0, pending);
    assert_int_equal(f.sessions.queued, queue + pending);
    assert_int_equal(f.sessions.queued_bytes, queue + pending);
    assert_int_equal(spill_count(f.session), numbers + pending);
    assert_int_equal(spill_bytes(f.session), numbers);
}

/* ---- what is left to the store ---- */

static void what_is_too_much_is_left_to_the_store(void **unused)
{
    (void)unused;
    offer_many(5);
    stands(1, 0, 4);
    uint64_t before = msg_bytes();
    commit();
    stands(1, 4, 0);
    assert_true(msg_bytes() < before - 4 * sizeof(struct msg)); /* that is what it is for */
    assert_int_equal(disk_count(&f.storage, CHANGE_MESSAGE), 5);
    offer_many(2);
    stands(1, 4, 2);
    come();
    all_came();
}

static void the_limit_counts_all_sessions(void **unused)
{
    (void)unused;
    struct session *other = session_new(&f.sessions, "other", f.who, false);
    f.sessions.limits.queue_memory = 2 * ONE;
    offer_many(1);
    session_offer(&f.sessions, other, f.msg[1], 1, false, NULL);
    assert_null(other->spill);
    session_offer(&f.sessions, other, f.msg[1], 1, false, NULL);
    assert_non_null(other->spill);
    offer_many(1);
    assert_non_null(f.session->spill);
    session_destroy(&f.sessions, other);
    come();
    all_came();
}

static void who_is_there_has_all_in_memory(void **unused)
{
    (void)unused;
    come();
    f.sessions.limits.max_inflight = 1;
    offer_many(10);
    assert_null(f.session->spill);
    leave();
    offer_many(1);
    assert_non_null(f.session->spill);
    come();
    offer_many(3); /* behind it, although somebody is there now */
    assert_int_equal(f.session->spill->pending.count, 4);
    all_came();
}

/* As long as it acknowledges. */
static void who_is_there_and_far_behind_has_not(void **unused)
{
    (void)unused;
    come();
    f.sessions.limits.max_inflight = 1;
    offer_many(256);
    assert_null(f.session->spill);
    offer_many(100);
    assert_int_equal(f.session->spill->pending.count, 100);
    commit();
    stands(256, 100, 0);
    offer_many(10);
    while (f.session->spill) { /* no commit: what is on its way to the disk comes as well */
        assert_true(take_all() > 0);
        page();
    }
    take_all();
    assert_int_equal(expected, (uint8_t)366);
    assert_null(f.session->spill);
    offer_many(1);
    assert_null(f.session->spill);
    all_came();
}

static void quality_0_and_sessions_of_nobody_stay_in_memory(void **unused)
{
    (void)unused;
    struct session *nobody = session_new(&f.sessions, "nobody", NULL, false);
    f.sessions.limits.queue_qos0 = true;
    offer_many(1);
    for (int i = 0; i < 3; i++) {
        session_offer(&f.sessions, f.session, f.msg[0], 1, false, NULL);
        session_offer(&f.sessions, nobody, f.msg[1], 1, false, NULL);
    }
    assert_null(f.session->spill);
    assert_null(nobody->spill);
    assert_int_equal(f.session->queue0.count, 3);
    session_destroy(&f.sessions, nobody);
}

/* ---- in order, whatever comes when ---- */

static void many_come_page_by_page(void **unused)
{
    (void)unused;
    offer_many(200);
    commit();
    stands(1, 199, 0);
    come();
    assert_true(fake_peer_woken(&f.peer));
    assert_int_equal(take_all(), 1);
    assert_int_equal(f.storage.fetch_count, 1); /* one at a time */
    assert_int_equal(f.storage.fetches[0]->count, 64);
    fake_peer_woken(&f.peer);
    assert_true(page());
    assert_true(fake_peer_woken(&f.peer));
    assert_int_equal(f.session->policy, 0); /* whether it may have them is to be asked again */
    stands(64, 135, 0);
    assert_int_equal(f.storage.fetch_count, 0);
    assert_int_equal(take_all(), 64);
    assert_int_equal(f.storage.fetch_count, 1);
    all_came();
}

/* The next page is asked for while the last ones of this go out. */
static void a_page_is_asked_for_in_time(void **unused)
{
    (void)unused;
    offer_many(150);
    commit();
    come();
    take_all();
    page();
    f.sessions.limits.max_inflight = 33;
    while (f.session->queue.count > 32) {
        assert_int_equal(f.storage.fetch_count, 0);
        assert_int_equal(session_take(&f.sessions, f.session).kind, OUT_PUBLISH);
    }
    session_take(&f.sessions, f.session);
    assert_int_equal(f.storage.fetch_count, 0);
    session_take(&f.sessions, f.session); /* 31 are left now, and it is asked before it is given */
    assert_int_equal(f.storage.fetch_count, 1);
    page();
    session_detach(&f.sessions, f.session, 0);
    session_destroy(&f.sessions, f.session);
}

static void who_comes_before_the_commit(void **unused)
{
    (void)unused;
    offer_many(4);
    come();
    assert_int_equal(take_all(), 4); /* all of it is still there */
    assert_null(f.session->spill);
    all_came();
    assert_int_equal(f.storage.written, 0);
}

static void who_comes_during_the_commit(void **unused)
{
    (void)unused;
    offer_many(4);
    store_submit(f.store, true);
    come();
    assert_int_equal(take_all(), 4);
    assert_true(fake_storage_commit(&f.storage));
    all_came();
}

static void who_comes_after_the_commit_of_some(void **unused)
{
    (void)unused;
    offer_many(4);
    commit();
    offer_many(3);
    store_submit(f.store, true);
    come();
    stands(1, 3, 3);
    assert_int_equal(take_all(), 1);
    offer_many(2);
    assert_int_equal(take_all(), 0); /* until the page comes */
    assert_true(fake_storage_commit(&f.storage));
    stands(0, 6, 2);
    assert_true(page());
    stands(3, 3, 2); /* the page was asked for before */
    assert_int_equal(take_all(), 3);
    commit();
    all_came();
}

static void a_commit_that_fails_leaves_all_where_it_is(void **unused)
{
    (void)unused;
    offer_many(4);
    store_submit(f.store, true);
    fake_storage_answer(&f.storage, STORAGE_ERROR, "a broken disk");
    stands(1, 0, 3);
    offer_many(1);
    commit();
    stands(1, 4, 0);
    come();
    all_came();
}

static void who_goes_and_comes_again(void **unused)
{
    (void)unused;
    offer_many(100);
    commit();
    for (int i = 0; i < 5; i++) {
        come();
        take_all();
        leave();
        page(); /* comes while nobody is there */
        assert_true(f.session->queue.count <= 64);
        offer_many(2);
        come();
        leave();
        commit_all();
    }
    come();
    all_came();
}

static void quality_2_keeps_its_order_too(void **unused)
{
    (void)unused;
    for (int i = 0; i < 20; i++) {
        offer_next(2);
    }
    commit();
    stands(1, 19, 0);
    come();
    take_all();
    assert_true(page());
    take_all(); /* their identifiers are stored first */
    assert_int_equal(f.session->storing.count, 20);
    all_came();
    assert_int_equal(disk_count(&f.storage, CHANGE_OUT), 0);
}

/* ---- what goes wrong ---- */

static void a_page_that_cannot_be_read_is_asked_for_again(void **unused)
{
    (void)unused;
    offer_many(10);
    commit();
    come();
    for (int i = 0; i < 3; i++) {
        take_all();
        assert_true(fake_storage_read(&f.storage, true));
        stands(0, 9, 0);
    }
    all_came();
}

static void a_damaged_row_is_lost_and_said(void **unused)
{
    (void)unused;
    offer_many(10);
    commit();
    uint64_t number = f.storage.last_message - 5;
    disk_find(&f.storage, CHANGE_MESSAGE, number, 0)->damaged = true;
    come();
    take_all();
    page();
    assert_int_equal(f.session->queue.count, 8);
    assert_int_equal(f.session->dropped, 1);
    assert_int_equal(f.sessions.dropped, 1);
    for (int i = 0; i < 8; i++) {
        session_puback(&f.sessions, f.session, take().id);
    }
    expected = offered;
    all_came(); /* the row is not owed any more */
}

static void without_memory_for_a_page_it_is_asked_for_later(void **unused)
{
    (void)unused;
    offer_many(10);
    commit();
    come();
    for (int i = 0; i < 3; i++) {
        memory_fails(0, ALL_OF_THEM);
        take_all();
        memory_calm();
    }
    assert_int_equal(f.storage.fetch_count, 0);
    take_all();
    assert_int_equal(f.storage.fetch_count, 1);
    for (int i = 0; i < 3; i++) {
        memory_fails(0, 1);
        assert_true(page());
        assert_int_equal(memory_calm(), 1);
        stands(0, 9, 0);
        assert_int_equal(take_all(), 0);
    }
    all_came();
}

/* What has no place behind the numbers stays in memory, and so does all behind it. */
static void without_memory_for_a_number_the_message_stays(void **unused)
{
    (void)unused;
    offer_many(70);
    store_submit(f.store, true);
    memory_fails(0, ALL_OF_THEM);
    assert_true(fake_storage_commit(&f.storage));
    assert_true(memory_calm() > 0);
    stands(1, 0, 69);
    offer_many(1);
    commit();
    stands(1, 0, 70);
    come();
    all_came();
}

static void without_memory_for_the_first_one_it_is_dropped(void **unused)
{
    (void)unused;
    offer_many(1);
    struct msg *msg = msg_ref(f.msg[1]);
    memory_fails(0, ALL_OF_THEM);
    assert_int_equal(session_offer(&f.sessions, f.session, msg, 1, false, NULL), OFFER_LOST);
    memory_calm();
    memory_fails(1, ALL_OF_THEM);
    assert_int_equal(session_offer(&f.sessions, f.session, msg, 1, false, NULL), OFFER_LOST);
    memory_calm();
    msg_unref(msg);
    offer_many(3);
    commit();
    stands(1, 3, 0);
    come();
    all_came();
}

/* It has caught up, but there is no memory to say so: the rest comes later. */
static void without_memory_to_catch_up(void **unused)
{
    (void)unused;
    offer_many(40);
    come();
    memory_fails(1, ALL_OF_THEM);
    take_all();
    memory_calm();
    assert_true(expected < 40);
    all_came();
}

/* ---- its end ---- */

static void a_session_ends_with_a_page_under_way(void **unused)
{
    (void)unused;
    offer_many(100);
    commit();
    offer_many(3);
    come();
    take_all();
    leave();
    session_destroy(&f.sessions, f.session);
    f.session = NULL;
    assert_true(page()); /* for nobody */
    commit_all();
    assert_int_equal(disk_count(&f.storage, CHANGE_MESSAGE), 0);
    assert_int_equal(f.sessions.queued, 0);
}

/* Neither a page nor a commit brings anything to a session that goes bit by bit. */
static void what_comes_while_it_is_buried(void **unused)
{
    (void)unused;
    offer_many(100);
    commit();
    offer_many(5);
    come();
    take_all();
    leave();
    session_discard(&f.sessions, f.session);
    f.session = NULL;
    assert_int_equal(f.sessions.queued, 0);
    assert_true(page());
    commit();
    assert_int_equal(f.sessions.queued, 0);
    assert_int_equal(f.sessions.queued_bytes, 0);
    for (int turns = 0; !sessions_bury(&f.sessions, 7); turns++) {
        commit();
        assert_true(turns < 20);
    }
    commit_all();
    assert_int_equal(disk_count(&f.storage, CHANGE_MESSAGE), 0);
    assert_int_equal(f.sessions.queued, 0);
}

/* ---- rules and limits ---- */

static bool is_odd(void *arg, const struct session *session, const struct msg *msg)
{
    (void)arg;
    (void)session;
    return msg_payload(msg).p[0] % 2 == 1;
}

/* What is only in the store is looked at when it comes back: session->policy is 0 then. */
static void what_may_not_be_read_goes_wherever_it_stands(void **unused)
{
    (void)unused;
    offer_many(4);
    commit();
    offer_many(4);
    assert_int_equal(session_sweep(&f.sessions, f.session, is_odd, NULL), 2);
    stands(1, 3, 2);
    commit_all();
    stands(1, 5, 0);
    come();
    session_take(&f.sessions, f.session);
    session_puback(&f.sessions, f.session, 1);
    page();
    assert_int_equal(session_sweep(&f.sessions, f.session, is_odd, NULL), 2);
    for (uint8_t i = 2; i < 8; i += 2) {
        struct outgoing out = session_take(&f.sessions, f.session);
        assert_int_equal(msg_payload(out.msg).p[0], i);
        session_puback(&f.sessions, f.session, out.id);
    }
    expected = offered;
    all_came();
}

static void the_limits_count_what_is_in_the_store(void **unused)
{
    (void)unused;
    f.sessions.limits.max_queued = 5;
    offer_many(5);
    assert_int_equal(offer_next(1), OFFER_DROPPED);
    commit();
    assert_int_equal(offer_next(1), OFFER_DROPPED);
    assert_false(session_room(&f.sessions, f.session));
    f.sessions.limits.max_queued = 0;
    f.sessions.limits.max_queued_bytes = 6;
    offered = 5;
    offer_many(1);
    assert_int_equal(offer_next(1), OFFER_DROPPED);
    offered = 6;
    come();
    all_came();
    assert_int_equal(f.session->dropped, 3);
}

/* The numbers of a hundred thousand are all that is kept of them, and are given back as they go. */
static void little_is_kept_of_many(void **unused)
{
    enum { MANY = 20000 };
    (void)unused;
    uint64_t before = mem_held();
    for (int i = 0; i < MANY / 100; i++) {
        offer_many(100);
        commit();
    }
    stands(1, MANY - 1, 0);
    assert_true(mem_held() - before < 40ULL * MANY); /* no 8 bytes each, but for the growth */
    come();
    all_came();
    assert_true(mem_held() < before + 2000);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup_away, teardown)
    const struct CMUnitTest tests[] = {
        T(what_is_too_much_is_left_to_the_store),
        T(the_limit_counts_all_sessions),
        T(who_is_there_has_all_in_memory),
        T(who_is_there_and_far_behind_has_not),
        T(quality_0_and_sessions_of_nobody_stay_in_memory),
        T(many_come_page_by_page),
        T(a_page_is_asked_for_in_time),
        T(who_comes_before_the_commit),
        T(who_comes_during_the_commit),
        T(who_comes_after_the_commit_of_some),
        T(a_commit_that_fails_leaves_all_where_it_is),
        T(who_goes_and_comes_again),
        T(quality_2_keeps_its_order_too),
        T(a_page_that_cannot_be_read_is_asked_for_again),
        T(a_damaged_row_is_lost_and_said),
        T(without_memory_for_a_page_it_is_asked_for_later),
        T(without_memory_for_a_number_the_message_stays),
        T(without_memory_for_the_first_one_it_is_dropped),
        T(without_memory_to_catch_up),
        T(a_session_ends_with_a_page_under_way),
        T(what_comes_while_it_is_buried),
        T(what_may_not_be_read_goes_wherever_it_stands),
        T(the_limits_count_what_is_in_the_store),
        T(little_is_kept_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
