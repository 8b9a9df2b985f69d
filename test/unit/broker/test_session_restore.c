/*
 * test_session_restore.c - a session as it was stored goes on where it was: what it is owed, in order, under
 * the identifiers that its client may have seen.
 */
#include "test/unit/no_memory.h"
/* comes first */
#include "fake_session.h"

/* The setup's session is another one: this is read back. */
static struct session *back(void)
{
    session_detach(&f.sessions, f.session, 0);
    session_destroy(&f.sessions, f.session);
    f.session = session_restore(&f.sessions, 40, "pump", f.who);
    store_go_on(f.store, 1000);
    return f.session;
}

/* A message that is owed, and to others as well. Its payload is one byte. */
static int restore(uint64_t number, uint8_t qos, uint16_t id, uint32_t others)
{
    const struct stored_message message = {.number = number, .qos = qos};
    const struct stored_delivery delivery = {
        .session = 40, .others = others, .id = id, .qos = qos, .retain = number == 77, .message = &message};
    uint8_t byte = (uint8_t)number;
    struct msg *msg = msg_new(slice_str("t"), slice_of(&byte, 1), qos, false, NULL);
    int result = session_restore_delivery(&f.sessions, f.session, msg, &delivery);
    msg_unref(msg);
    return result;
}

static void come(void)
{
    session_attach(&f.sessions, f.session, &f.peer.peer, f.who);
}

/* The next thing that goes out is this message. */
static void goes_out(uint64_t number, uint8_t qos, uint16_t id)
{
    struct outgoing out = session_take(&f.sessions, f.session);
    assert_int_equal(out.kind, OUT_PUBLISH);
    assert_int_equal(msg_payload(out.msg).p[0], (uint8_t)number);
    assert_int_equal(out.qos, qos);
    assert_int_equal(out.id, id);
    assert_true(out.dup); /* it may have been sent before */
    assert_int_equal(out.retain, number == 77);
}

static void commit(void)
{
    store_submit(f.store, true);
    assert_true(fake_storage_commit(&f.storage));
}

static void is_found_again(void **unused)
{
    (void)unused;
    struct session *session = back();
    assert_ptr_equal(session_find(&f.sessions, "pump"), session);
    assert_int_equal(session->number, 40);
    assert_false(session->clean);
    assert_true(session_is_stored(&f.sessions, session));
    assert_int_equal(session->policy, 0); /* the rules may be others */
    assert_int_equal(session->subs_policy, 0);
    commit();
    assert_int_equal(disk_count(&f.storage, CHANGE_SESSION), 0); /* it is not stored again */
}

static void goes_on_in_order(void **unused)
{
    (void)unused;
    back();
    assert_int_equal(session_restore_released(f.session, 9), 0);
    restore(70, 1, 5, 0);
    restore(71, 2, 6, 0);
    restore(77, 1, 0, 0);
    restore(78, 2, 0, 0);
    assert_int_equal(f.session->inflight, 3);
    assert_int_equal(f.session->sent_bytes, 2);
    assert_int_equal(f.session->queued_bytes, 2);
    assert_int_equal(f.sessions.queued, 2);
    come();
    take_pubrel(9);
    goes_out(70, 1, 5);
    goes_out(71, 2, 6);
    goes_out(77, 1, 7);
    take_nothing();
    commit(); /* the identifier of the last */
    goes_out(78, 2, 8);
    take_nothing();
    assert_int_equal(disk_find(&f.storage, CHANGE_OUT, 40, 8)->number, 78);
    assert_int_equal(session_pubcomp(&f.sessions, f.session, 9), ACK_OK);
    assert_int_equal(session_puback(&f.sessions, f.session, 5), ACK_OK);
}

/* Neither of the two may have arrived: what is sent again under its identifier would come first. */
static void a_known_identifier_does_not_overtake(void **unused)
{
    (void)unused;
    back();
    restore(70, 1, 0, 0);
    restore(71, 1, 5, 0);
    restore(72, 2, 6, 0); /* an identifier of QoS 2 is kept whatever comes */
    come();
    goes_out(72, 2, 6);
    goes_out(70, 1, 7);
    goes_out(71, 1, 8);
    take_nothing();
}

static void an_identifier_twice_is_given_once(void **unused)
{
    (void)unused;
    back();
    session_restore_released(f.session, 5);
    restore(70, 1, 5, 0);
    come();
    take_pubrel(5);
    goes_out(70, 1, 6);
    take_nothing();
}

/* The first was acknowledged before its identifier was given again, but that was not stored: the client holds
 * the identifier for the message of QoS 2. */
static void quality_2_keeps_its_identifier(void **unused)
{
    (void)unused;
    back();
    restore(70, 1, 5, 0);
    restore(71, 1, 6, 0);
    restore(72, 2, 5, 0);
    restore(73, 2, 7, 0); /* which the first may just have got */
    come();
    goes_out(70, 1, 8);
    goes_out(71, 1, 6);
    goes_out(72, 2, 5);
    goes_out(73, 2, 7);
    take_nothing();
    assert_int_equal(pubrec(5), ACK_OK);
    assert_int_equal(session_puback(&f.sessions, f.session, 8), ACK_OK);
}

static void what_is_acknowledged_goes_from_the_disk(void **unused)
{
    (void)unused;
    back();
    disk_put(&f.storage, CHANGE_MESSAGE, 70, 0)->number = 70;
    disk_put(&f.storage, CHANGE_MESSAGE, 71, 0)->number = 71;
    disk_put(&f.storage, CHANGE_SESSION, 40, 0);
    restore(70, 1, 5, 0);
    restore(71, 1, 6, 1); /* to one more */
    come();
    goes_out(70, 1, 5);
    goes_out(71, 1, 6);
    session_puback(&f.sessions, f.session, 6);
    commit();
    assert_non_null(disk_find(&f.storage, CHANGE_DONE, 40, 71));
    session_puback(&f.sessions, f.session, 5);
    commit();
    assert_null(disk_find(&f.storage, CHANGE_MESSAGE, 70, 0));
    assert_non_null(disk_find(&f.storage, CHANGE_MESSAGE, 71, 0));
    assert_int_equal(disk_mark(&f.storage, 40), f.store->last + 1);
    assert_null(disk_find(&f.storage, CHANGE_DONE, 40, 71));
}

/* Exceptions that were there before the start go with the first mark that passes them. */
static void exceptions_from_before_go_too(void **unused)
{
    (void)unused;
    back();
    disk_put(&f.storage, CHANGE_MESSAGE, 70, 0)->number = 70;
    disk_put(&f.storage, CHANGE_SESSION, 40, 0);
    disk_put(&f.storage, CHANGE_DONE, 40, 75)->number = 75;
    restore(70, 1, 5, 0);
    come();
    goes_out(70, 1, 5);
    session_puback(&f.sessions, f.session, 5);
    commit();
    assert_int_equal(disk_count(&f.storage, CHANGE_DONE), 0);
    assert_int_equal(f.session->owing.done, 0);
}

/* What does not fit into memory stays where it is, and what is behind it too. */
static void what_is_too_much_stays_in_the_store(void **unused)
{
    (void)unused;
    back();
    f.sessions.limits.queue_memory = 700;
    restore(69, 1, 4, 0);
    for (uint64_t number = 70; number < 80; number++) {
        restore(number, 1, number == 75 ? 9 : 0, 0);
    }
    assert_int_equal(f.session->sent.count, 1);
    assert_int_equal(f.session->queue.count, 3);
    assert_int_equal(spill_count(f.session), 7);
    assert_int_equal(spill_bytes(f.session), 7);
    assert_int_equal(f.session->owing.spilled, 73);
    assert_int_equal(f.session->spill->old, 79);
}

/* The start fails: what is not in memory would be lost with the first mark. */
static void without_memory_it_says_so(void **unused)
{
    (void)unused;
    session_detach(&f.sessions, f.session, 0);
    session_destroy(&f.sessions, f.session);
    for (int i = 0; i < 2; i++) {
        memory_fails(i, 1);
        assert_null(session_restore(&f.sessions, 40, "pump", f.who));
    }
    memory_calm();
    f.session = session_restore(&f.sessions, 40, "pump", f.who);
    memory_fails(0, 1);
    assert_int_equal(session_restore_released(f.session, 5), -1);
    memory_fails(1, 1); /* the first is for the message itself */
    assert_int_equal(restore(70, 1, 5, 0), -1);
    memory_fails(1, 1);
    assert_int_equal(restore(70, 1, 0, 0), -1);
    f.sessions.limits.queue_memory = 1;
    f.sessions.queued = 1;
    for (int i = 1; i < 3; i++) {
        memory_fails(i, 1);
        assert_int_equal(restore(70, 1, 0, 0), -1);
    }
    f.sessions.queued = 0;
    assert_int_equal(memory_calm(), 1);
}

int main(void)
{
#define D(name) cmocka_unit_test_setup_teardown(name, setup_durable, teardown)
    const struct CMUnitTest tests[] = {
        D(is_found_again),
        D(goes_on_in_order),
        D(a_known_identifier_does_not_overtake),
        D(an_identifier_twice_is_given_once),
        D(quality_2_keeps_its_identifier),
        D(what_is_acknowledged_goes_from_the_disk),
        D(exceptions_from_before_go_too),
        D(what_is_too_much_stays_in_the_store),
        D(without_memory_it_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
