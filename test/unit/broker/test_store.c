/*
 * test_store.c - tickets, obligations and batches, with a disk that commits when the test says so.
 *
 * The sessions here are only what the store sees of them: struct owing. At random, with real sessions, it is
 * tried in test_store_random.c.
 */
#include "test/unit/no_memory.h"
/* comes first */
#include "broker/mem.h"
#include "broker/store_parts.h"
#include "fake_storage.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { MOST_CLOSED = 16, SESSIONS = 3 };

static struct {
    struct fake_storage storage;
    struct store *store;
    struct msg *msg;
    struct principal *who;
    struct owing owing[SESSIONS];
    int64_t now;
    uint64_t closed[MOST_CLOSED]; /* holders, in the order of closing */
    int closings;
    int collected, blocked, again;
    bool again_works;
    bool is_blocked;
    struct owing *stored;
    uint64_t stored_number;
} f;

static void on_closed(void *arg, uint64_t holder)
{
    assert_ptr_equal(arg, &f);
    f.closed[f.closings++ % MOST_CLOSED] = holder;
}

static void on_stored(void *arg, struct owing *owing, uint64_t number)
{
    assert_ptr_equal(arg, &f);
    f.stored = owing;
    f.stored_number = number;
}

static void on_collect(void *arg)
{
    assert_ptr_equal(arg, &f);
    f.collected++;
}

static bool on_again(void *arg, struct msg *msg)
{
    assert_ptr_equal(arg, &f);
    assert_ptr_equal(msg, f.msg);
    f.again++;
    return f.again_works;
}

static void on_blocked(void *arg, bool blocked)
{
    assert_ptr_equal(arg, &f);
    f.blocked++;
    f.is_blocked = blocked;
    assert_int_equal(store_blocked(f.store), blocked);
}

static int64_t fake_clock(void)
{
    return f.now;
}

static int64_t fake_clock_us(void)
{
    return f.now * 1000;
}

static void change(struct ticket *ticket, struct change change)
{
    store_change(f.store, ticket, &change);
}

static int setup(void **unused)
{
    (void)unused;
    memset(&f, 0, sizeof f);
    fake_storage_init(&f.storage);
    f.store = store_new(&f.storage.port, &(struct store_events){.arg = &f,
                                                                .closed = on_closed,
                                                                .stored = on_stored,
                                                                .collect = on_collect,
                                                                .again = on_again,
                                                                .blocked = on_blocked});
    if (!f.store) {
        return -1;
    }
    f.store->clock = fake_clock;
    f.store->clock_us = fake_clock_us;
    f.now = 100000;
    f.who = principal_new();
    f.msg = msg_new(slice_str("t"), slice_str("x"), 1, false, NULL);
    store_use_times(f.store, &(struct store_times){.commit_delay = 250, .lazy_delay = 5000});
    for (int i = 0; i < SESSIONS; i++) {
        f.owing[i].session = store_number(f.store);
        change(NULL, (struct change){.kind = CHANGE_SESSION,
                                     .session = f.owing[i].session,
                                     .who = f.who,
                                     .text = (uint8_t *)"client",
                                     .count = 6});
    }
    store_submit(f.store, true);
    bool same = fake_storage_commit(&f.storage);
    f.storage.batches = f.closings = f.collected = 0;
    return same && store_idle(f.store) ? 0 : -1;
}

/* Nothing may be left on the message, whatever became of its batches. */
static int teardown(void **unused)
{
    (void)unused;
    store_free(f.store);
    fake_storage_free(&f.storage);
    int refs = (int)f.msg->refs, who = (int)f.who->refs;
    msg_unref(f.msg);
    principal_unref(f.who);
    return refs == 1 && who == 1 && mem_held() == 0 && msg_bytes() == 0 ? 0 : -1;
}

/* ---- in short ---- */

static struct obligation *owe(struct ticket *ticket, int to, bool online)
{
    return store_owe(f.store, ticket, &f.owing[to],
                     &(struct recipient){.session = f.owing[to].session, .qos = 1}, f.msg, online);
}

/* To a session that is away: due at once. */
static struct obligation *away(struct ticket *ticket, int to)
{
    return owe(ticket, to, false);
}

static struct obligation *online(struct ticket *ticket, int to)
{
    return owe(ticket, to, true);
}

static void discharge(struct obligation *ob)
{
    store_discharge(f.store, ob);
}

static void seal(struct ticket *ticket)
{
    store_seal(f.store, ticket);
}

static void submit(void)
{
    store_submit(f.store, false);
}

static void commit(void)
{
    assert_true(fake_storage_commit(&f.storage));
}

static void batch_fails(enum storage_error error, const char *why)
{
    assert_true(fake_storage_answer(&f.storage, error, why));
}

/* All there is, until nothing is left. */
static void store_all(void)
{
    for (int i = 0; i < 10 && !store_idle(f.store); i++) {
        store_submit(f.store, true);
        commit();
    }
    assert_true(store_idle(f.store));
    assert_int_equal(store_counts(f.store)->pending_bytes, 0);
}

static size_t messages(void)
{
    return disk_count(&f.storage, CHANGE_MESSAGE);
}

static bool owed(int to, uint64_t number)
{
    return disk_owed(&f.storage, f.owing[to].session, number);
}

/* A ticket that conn 1 waits for. */
static struct ticket *held(void)
{
    struct ticket *ticket = store_begin(f.store);
    assert_non_null(ticket);
    assert_int_equal(ticket->refs, 1);
    ticket->holder = 1;
    return ticket;
}

/* One message that is stored. */
static struct obligation *stored(int to)
{
    struct ticket *ticket = store_begin(f.store);
    struct obligation *ob = away(ticket, to);
    seal(ticket);
    submit();
    commit();
    assert_true(ticket_closed(ticket));
    ticket_unref(ticket);
    return ob;
}

/* ---- tickets ---- */

static void without_storage_every_ticket_is_closed(void **unused)
{
    (void)unused;
    struct store *store = store_new(NULL, &(struct store_events){.closed = on_closed, .arg = &f});
    assert_false(store_durable(store));
    assert_true(store_durable(f.store));
    struct ticket *ticket = store_begin(store);
    assert_null(ticket);
    assert_true(ticket_closed(ticket));
    assert_null(store_owe(store, ticket, &f.owing[0], &(struct recipient){.qos = 1}, f.msg, false));
    store_change(store, ticket, &(struct change){.kind = CHANGE_RETAINED, .msg = f.msg});
    store_seal(store, ticket);
    assert_null(store_out(store, NULL, 1));
    store_sent_as(NULL, 1);
    store_discharge(store, NULL);
    assert_int_equal(f.msg->refs, 1);
    store_submit(store, true);
    assert_int_equal(store_next(store), -1);
    assert_true(store_idle(store));
    assert_true(store_number(store) < store_number(store)); /* sessions have numbers all the same */
    ticket_unref(ticket_ref(ticket));
    store_free(store);
    store_free(NULL);
    assert_int_equal(f.closings, 0);
}

static void a_ticket_with_nothing_in_it_closes_when_it_is_sealed(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    assert_false(ticket_closed(ticket));
    seal(ticket);
    assert_true(ticket_closed(ticket));
    assert_int_equal(f.closings, 1);
    assert_int_equal(f.closed[0], 1);
    submit();
    assert_int_equal(f.storage.batches, 0);
    ticket_unref(ticket);
}

static void a_commit_closes(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct obligation *ob = away(ticket, 1);
    assert_int_equal(store_number_of(ob), 0);
    store_sent_as(ob, 3); /* it came back and got it before the batch was made */
    seal(ticket);
    assert_false(ticket_closed(ticket));
    submit();
    assert_int_equal(f.storage.batches, 1);
    assert_int_equal(f.storage.count, 1);
    const struct change *row = fake_storage_change(&f.storage, CHANGE_MESSAGE, 0);
    assert_int_equal(row->count, 1);
    assert_int_equal(row->owed[0].session, f.owing[1].session);
    assert_int_equal(row->owed[0].qos, 1);
    assert_int_equal(row->owed[0].id, 3);
    assert_ptr_equal(row->msg, f.msg);
    assert_int_equal(row->number, store_number_of(ob));
    store_sent_as(ob, 4); /* too late, and it must not change what a thread reads */
    assert_false(ticket_closed(ticket));
    commit();
    assert_true(ticket_closed(ticket));
    assert_int_equal(f.closings, 1);
    assert_int_equal(f.msg->refs, 1); /* the store needs it no more */
    assert_int_equal(ticket->refs, 1);
    assert_true(owed(1, store_number_of(ob)));
    assert_int_equal(store_counts(f.store)->messages, 1);
    discharge(ob);
    assert_int_equal(f.closings, 1); /* once */
    store_all();
    assert_int_equal(messages(), 0);
    ticket_unref(ticket);
}

/* All recipients acknowledged in time: nothing is written at all. */
static void what_is_discharged_in_time_annihilates(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct obligation *one = online(ticket, 0), *two = online(ticket, 1);
    seal(ticket);
    f.now += 249;
    submit();
    assert_int_equal(f.storage.batches, 0);
    discharge(one);
    assert_false(ticket_closed(ticket));
    discharge(two);
    assert_true(ticket_closed(ticket));
    assert_int_equal(f.closings, 1);
    assert_int_equal(ticket->refs, 1); /* the store has let go */
    assert_int_equal(f.msg->refs, 1);  /* of the message as well: it may be large */
    assert_int_equal(store_counts(f.store)->annihilated, 2);
    assert_int_equal(store_counts(f.store)->pending_bytes, 0);
    store_submit(f.store, true);
    assert_int_equal(f.storage.batches, 0);
    assert_true(store_idle(f.store));
    ticket_unref(ticket);
}

static void who_does_not_acknowledge_in_time_is_stored(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct obligation *one = online(ticket, 0), *two = online(ticket, 1);
    seal(ticket);
    assert_int_equal(store_next(f.store), 250);
    discharge(one);
    f.now += 249;
    submit();
    assert_int_equal(f.storage.batches, 0);
    assert_int_equal(store_next(f.store), 1);
    f.now += 1;
    assert_int_equal(store_next(f.store), 0);
    submit();
    assert_int_equal(fake_storage_change(&f.storage, CHANGE_MESSAGE, 0)->count, 1);
    assert_int_equal(store_next(f.store), -1);
    commit();
    assert_true(ticket_closed(ticket));
    discharge(two);
    store_all();
    ticket_unref(ticket);
}

/* The others may still acknowledge, and need not be written then. */
static void who_is_away_does_not_wait_for_who_is_there(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct obligation *one = online(ticket, 0), *two = away(ticket, 1);
    seal(ticket);
    submit();
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_MESSAGE), 1);
    assert_int_equal(fake_storage_change(&f.storage, CHANGE_MESSAGE, 0)->owed[0].session, f.owing[1].session);
    commit();
    assert_false(ticket_closed(ticket));
    discharge(one);
    assert_true(ticket_closed(ticket));
    assert_int_equal(f.storage.written, 1);
    discharge(two);
    store_all();
    ticket_unref(ticket);
}

static void one_publish_to_many_is_one_row(void **unused)
{
    (void)unused;
    struct ticket *first = held(), *second = held();
    struct obligation *a[SESSIONS], *b[SESSIONS];
    for (int i = 0; i < SESSIONS; i++) {
        a[i] = away(first, i);
    }
    for (int i = 0; i < SESSIONS; i++) {
        b[i] = away(second, i);
    }
    seal(first);
    seal(second);
    submit();
    assert_int_equal(f.storage.count, 2);
    for (int i = 0; i < SESSIONS; i++) {
        assert_int_equal(store_number_of(a[i]), store_number_of(a[0]));
        assert_true(store_number_of(b[i]) > store_number_of(a[i]));
    }
    commit();
    for (int i = 0; i < SESSIONS; i++) {
        assert_int_equal(messages(), 2);
        discharge(a[i]);
        store_all();
        assert_false(owed(i, f.storage.last_message - 1));
        assert_true(owed(i, f.storage.last_message));
        assert_int_equal(messages(), i < SESSIONS - 1 ? 2 : 1);
    }
    for (int i = 0; i < SESSIONS; i++) {
        discharge(b[i]);
    }
    store_all();
    assert_int_equal(messages(), 0);
    ticket_unref(first);
    ticket_unref(second);
}

/* Without a ticket nobody knows which belong together. */
static void nobody_need_wait_for_what_is_owed(void **unused)
{
    (void)unused;
    struct obligation *one = away(NULL, 0), *two = away(NULL, 1);
    submit();
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_MESSAGE), 2);
    commit();
    discharge(one);
    discharge(two);
    store_all();
    assert_int_equal(messages(), 0);
}

/* Numbers must rise along what is owed to a session: what is due takes along what came before. */
static void what_is_due_takes_along_what_came_before(void **unused)
{
    (void)unused;
    struct ticket *tickets[4];
    struct obligation *obs[4];
    for (int i = 0; i < 4; i++) {
        tickets[i] = held();
        obs[i] = owe(tickets[i], i == 1 ? 1 : 0, i < 3);
        seal(tickets[i]);
    }
    submit(); /* 0, 2 and 3: of session 0; 1 may still be acknowledged */
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_MESSAGE), 3);
    assert_true(store_number_of(obs[0]) < store_number_of(obs[2]));
    assert_true(store_number_of(obs[2]) < store_number_of(obs[3]));
    assert_int_equal(store_number_of(obs[1]), 0);
    commit();
    for (int i = 0; i < 4; i++) {
        assert_int_equal(ticket_closed(tickets[i]), i != 1);
        discharge(obs[i]);
        ticket_unref(tickets[i]);
    }
    store_all();
}

static void a_client_that_goes_makes_its_own_due(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct obligation *one = online(ticket, 0), *two = online(ticket, 1);
    seal(ticket);
    store_hurry(f.store, &f.owing[0]);
    store_hurry(f.store, &f.owing[2]); /* who is owed nothing */
    submit();
    assert_int_equal(fake_storage_change(&f.storage, CHANGE_MESSAGE, 0)->owed[0].session, f.owing[0].session);
    assert_int_equal(fake_storage_change(&f.storage, CHANGE_MESSAGE, 0)->count, 1);
    commit();
    discharge(one);
    discharge(two);
    store_all();
    ticket_unref(ticket);
}

/* The recipients were faster than the disk. */
static void discharged_while_under_way_closes_early(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct obligation *one = away(ticket, 0), *two = away(ticket, 1);
    seal(ticket);
    submit();
    discharge(one);
    assert_false(ticket_closed(ticket));
    discharge(two);
    assert_true(ticket_closed(ticket));
    assert_int_equal(f.closings, 1);
    commit();
    assert_int_equal(f.closings, 1);
    assert_int_equal(ticket->refs, 1);
    /* what was written has to be taken back, but nobody waits for that */
    submit();
    assert_int_equal(f.storage.batches, 1);
    assert_int_equal(store_next(f.store), 5000);
    f.now += 5000;
    submit();
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_MESSAGE_GONE), 1);
    commit();
    assert_int_equal(messages(), 0);
    assert_true(store_idle(f.store));
    ticket_unref(ticket);
}

/* Whether the last delivery is discharged before sealing or after must not matter. */
static void does_not_close_before_it_is_sealed(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    discharge(online(ticket, 0));
    assert_false(ticket_closed(ticket));
    discharge(online(ticket, 1));
    assert_false(ticket_closed(ticket));
    seal(ticket);
    assert_true(ticket_closed(ticket));
    ticket_unref(ticket);
}

static void annihilation_leaves_nothing_behind(void **unused)
{
    (void)unused;
    struct obligation *kept = away(NULL, 0);
    submit(); /* the disk is busy from now on */
    for (int i = 0; i < 1000; i++) {
        struct ticket *ticket = held();
        struct obligation *one = owe(ticket, 1, i % 3 > 0), *two = owe(ticket, 2, i % 5 > 0);
        seal(ticket);
        discharge(i % 2 ? one : two);
        discharge(i % 2 ? two : one);
        assert_int_equal(ticket->refs, 1);
        ticket_unref(ticket);
    }
    struct obligation *last = away(NULL, 1);
    submit();
    assert_int_equal(f.storage.batches, 1); /* one at a time */
    commit();
    submit();
    assert_int_equal(f.storage.batches, 2);
    assert_int_equal(f.storage.count, 1);
    commit();
    discharge(kept);
    discharge(last);
    store_all();
}

/* ---- changes ---- */

/* Retained, inbound ids, subscriptions: no acknowledgement of a recipient closes those. */
static void a_part_waits_for_its_commit(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    change(ticket, (struct change){.kind = CHANGE_RETAINED, .msg = f.msg});
    change(ticket, (struct change){.kind = CHANGE_IN_ID, .session = f.owing[2].session, .id = 99});
    struct obligation *ob = online(ticket, 0);
    seal(ticket);
    assert_int_equal(ticket->parts, 2);
    discharge(ob);
    assert_false(ticket_closed(ticket));
    submit();
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_RETAINED), 1);
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_IN_ID), 1);
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_MESSAGE), 0);
    assert_int_equal(f.collected, 1);
    assert_false(ticket_closed(ticket));
    commit();
    assert_true(ticket_closed(ticket));
    assert_int_equal(f.closings, 1);
    ticket_unref(ticket);
}

/* A crash between the two would bring the publish again, or lose what is owed. */
static void an_inbound_id_goes_in_one_transaction_with_what_is_owed(void **unused)
{
    (void)unused;
    struct ticket *other = held(), *ticket = held();
    struct obligation *before = online(other, 1);
    seal(other);
    change(ticket, (struct change){.kind = CHANGE_IN_ID, .session = f.owing[2].session, .id = 99});
    struct obligation *one = online(ticket, 0), *two = online(ticket, 1);
    seal(ticket);
    submit();
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_IN_ID), 1);
    assert_true(store_number_of(one) > 0 && store_number_of(two) > 0);
    assert_true(store_number_of(before) > 0 && store_number_of(before) < store_number_of(two));
    batch_fails(STORAGE_ERROR, "a broken disk");
    assert_int_equal(store_number_of(one), 0);
    f.now += 1000;
    submit();
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_IN_ID), 1);
    assert_true(store_number_of(one) > 0 && store_number_of(two) > 0);
    commit();
    assert_true(ticket_closed(ticket) && ticket_closed(other));
    discharge(before);
    discharge(one);
    discharge(two);
    store_all();
    ticket_unref(ticket);
    ticket_unref(other);
}

/* A large group is handed over bit by bit, but not what must go whole. */
static void a_batch_is_bounded(void **unused)
{
    enum { MANY = 9 };
    static uint8_t megabyte[1 << 20];
    struct obligation *obs[2 * MANY];
    (void)unused;
    struct msg *large = msg_new(slice_str("t"), slice_of(megabyte, sizeof megabyte), 1, false, NULL);
    for (int round = 0; round < 2; round++) {
        struct ticket *ticket = held();
        for (int i = 0; i < MANY; i++) {
            if (round == 1 && i == MANY - 1) {
                change(ticket, (struct change){.kind = CHANGE_IN_ID, .session = f.owing[2].session, .id = 1});
            }
            obs[i] = store_owe(f.store, i == MANY - 1 ? ticket : NULL, &f.owing[0],
                               &(struct recipient){.session = f.owing[0].session, .qos = 1}, large, false);
        }
        seal(ticket);
        submit();
        assert_int_equal(fake_storage_has(&f.storage, CHANGE_MESSAGE), round == 0 ? 4 : MANY);
        commit();
        assert_int_equal(ticket_closed(ticket), round == 1);
        store_all();
        assert_true(ticket_closed(ticket));
        for (int i = 0; i < MANY; i++) {
            discharge(obs[i]);
        }
        store_all();
        ticket_unref(ticket);
    }
    assert_int_equal(large->refs, 1);
    msg_unref(large);
}

static void lazy_changes_ride_with_the_next_urgent_one(void **unused)
{
    (void)unused;
    discharge(stored(0));
    submit();
    assert_int_equal(f.storage.batches, 1);
    struct obligation *two = away(NULL, 1);
    submit();
    assert_int_equal(f.storage.batches, 2);
    assert_int_equal(f.storage.count, 2);
    commit();
    discharge(two);
    store_all();
}

/* What annihilates is not urgent any more, whatever else there is. */
static void annihilation_leaves_lazy_changes_lazy(void **unused)
{
    (void)unused;
    struct obligation *one = stored(0);
    struct ticket *ticket = held();
    struct obligation *two = away(ticket, 1);
    seal(ticket);
    discharge(one);
    discharge(two);
    submit();
    assert_int_equal(f.storage.batches, 1);
    store_submit(f.store, true);
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_MESSAGE_GONE), 1);
    commit();
    ticket_unref(ticket);
}

static void a_noted_change_is_collected_when_its_time_comes(void **unused)
{
    (void)unused;
    change(NULL, (struct change){.kind = CHANGE_VOID});
    assert_false(store_idle(f.store));
    submit();
    assert_int_equal(f.collected, 0);
    assert_int_equal(store_next(f.store), 5000);
    struct ticket *ticket = held();
    change(ticket, (struct change){.kind = CHANGE_VOID});
    seal(ticket);
    submit();
    assert_int_equal(f.collected, 1);
    assert_false(ticket_closed(ticket));
    commit();
    assert_true(ticket_closed(ticket));
    assert_true(store_idle(f.store));
    ticket_unref(ticket);
}

static void text_and_principal_are_the_stores_own(void **unused)
{
    (void)unused;
    char text[] = "name";
    change(NULL, (struct change){.kind = CHANGE_SESSION,
                                 .session = f.owing[0].session,
                                 .who = f.who,
                                 .text = (uint8_t *)text,
                                 .count = 4});
    change(NULL,
           (struct change){
               .kind = CHANGE_WILL, .text = (uint8_t *)text, .count = 4, .msg = f.msg}); /* a new will */
    assert_int_equal(f.who->refs, 2);
    assert_int_equal(f.msg->refs, 2);
    memset(text, 'x', 4);
    store_all();
    assert_string_equal(disk_find(&f.storage, CHANGE_SESSION, f.owing[0].session, 0)->client_id, "name");
    assert_non_null(disk_find_text(&f.storage, CHANGE_WILL, 0, "name", 4));
    change(NULL, (struct change){.kind = CHANGE_WILL_GONE, .text = (uint8_t *)"name", .count = 4});
    store_all();
    assert_int_equal(disk_count(&f.storage, CHANGE_WILL), 0);
    assert_int_equal(f.who->refs, 1);
}

static void two_batches_follow_each_other(void **unused)
{
    (void)unused;
    struct ticket *first = held(), *second = held();
    struct obligation *one = away(first, 0);
    seal(first);
    submit();
    uint64_t number = f.storage.batch->number;
    second->holder = 2;
    struct obligation *two = away(second, 0);
    seal(second);
    submit();
    assert_int_equal(f.storage.batches, 1); /* the next group waits */
    commit();
    assert_true(ticket_closed(first));
    assert_false(ticket_closed(second));
    submit();
    assert_int_equal(f.storage.batches, 2);
    assert_true(f.storage.batch->number > number);
    f.storage.port.events.committed(f.store, number); /* an old answer says nothing about the new batch */
    f.storage.port.events.failed(f.store, number, STORAGE_ERROR, "late");
    assert_false(ticket_closed(second));
    assert_string_equal(store_trouble(f.store), "");
    commit();
    assert_true(ticket_closed(second));
    assert_int_equal(f.closings, 2);
    assert_int_equal(f.closed[0], 1);
    assert_int_equal(f.closed[1], 2);
    discharge(one);
    discharge(two);
    store_all();
    ticket_unref(first);
    ticket_unref(second);
}

static void a_commit_closes_in_the_order_of_publishing(void **unused)
{
    (void)unused;
    struct ticket *tickets[5];
    for (uint64_t i = 0; i < 5; i++) {
        tickets[i] = held();
        tickets[i]->holder = 10 + i;
        change(tickets[i], (struct change){.kind = CHANGE_RETAINED, .msg = f.msg});
        seal(tickets[i]);
    }
    submit();
    commit();
    assert_int_equal(f.closings, 5);
    for (uint64_t i = 0; i < 5; i++) {
        assert_int_equal(f.closed[i], 10 + i);
        ticket_unref(tickets[i]);
    }
}

static void nobody_need_wait_for_a_ticket(void **unused)
{
    (void)unused;
    struct ticket *ticket = store_begin(f.store);
    change(ticket, (struct change){.kind = CHANGE_SUBSCRIBE,
                                   .session = f.owing[0].session,
                                   .text = (uint8_t *)"a/#",
                                   .count = 3,
                                   .qos = 1});
    seal(ticket);
    assert_int_equal(ticket->refs, 2);
    ticket_unref(ticket); /* the batch still has it */
    submit();
    commit();
    assert_int_equal(f.closings, 0);
    assert_int_equal(disk_count(&f.storage, CHANGE_SUBSCRIBE), 1);
}

static void ends_with_a_batch_under_way(void **unused)
{
    (void)unused;
    struct ticket *ticket = held(), *next = held();
    struct obligation *one = away(ticket, 0), *two = away(next, 1), *three;
    ticket_unref(store_out(f.store, one, 7));
    seal(ticket);
    submit();
    three = away(next, 0);
    seal(next);
    change(NULL, (struct change){.kind = CHANGE_RETAINED, .msg = f.msg});
    discharge(one);
    discharge(two);
    discharge(three);
    ticket_unref(ticket);
    ticket_unref(next);
    /* teardown frees the store with both groups filled, and sees to the references */
}

/* ---- marks ---- */

static void what_is_acknowledged_in_order_is_one_number(void **unused)
{
    enum { MANY = 50 };
    struct obligation *obs[2][MANY];
    (void)unused;
    for (int i = 0; i < MANY; i++) {
        struct ticket *ticket = held();
        obs[0][i] = away(ticket, 0);
        obs[1][i] = away(ticket, 1);
        seal(ticket);
        ticket_unref(ticket);
    }
    store_all();
    int batches = f.storage.batches;
    for (int i = 0; i < MANY; i++) {
        discharge(obs[0][i]);
    }
    store_submit(f.store, true);
    assert_int_equal(f.storage.count, 1);
    assert_int_equal(f.storage.copy[0].kind, CHANGE_MARK);
    assert_int_equal(f.storage.copy[0].number, f.store->last + 1);
    commit();
    assert_int_equal(f.storage.batches, batches + 1);
    for (int i = 0; i < MANY; i++) {
        assert_false(owed(0, store_number_of(obs[1][i])));
        assert_true(owed(1, store_number_of(obs[1][i])));
        discharge(obs[1][i]);
    }
    store_all();
    assert_int_equal(messages(), 0);
}

static void out_of_order_there_are_exceptions(void **unused)
{
    struct obligation *obs[2][4];
    uint64_t number[4];
    (void)unused;
    for (int i = 0; i < 4; i++) {
        struct ticket *ticket = held();
        obs[0][i] = away(ticket, 0);
        obs[1][i] = away(ticket, 1);
        seal(ticket);
        ticket_unref(ticket);
    }
    store_all();
    for (int i = 0; i < 4; i++) {
        number[i] = store_number_of(obs[0][i]);
    }
    discharge(obs[0][2]);
    discharge(obs[0][1]);
    store_all();
    assert_int_equal(disk_count(&f.storage, CHANGE_DONE), 2);
    assert_true(owed(0, number[0]) && !owed(0, number[1]) && !owed(0, number[2]) && owed(0, number[3]));
    discharge(obs[0][0]);
    store_all();
    assert_int_equal(disk_mark(&f.storage, f.owing[0].session), number[3]);
    assert_int_equal(disk_count(&f.storage, CHANGE_DONE), 0); /* the mark has passed them */
    assert_true(owed(0, number[3]));
    discharge(obs[0][3]);
    for (int i = 0; i < 4; i++) {
        discharge(obs[1][i]);
    }
    store_all();
    assert_int_equal(messages(), 0);
}

/* The exceptions of one who never again acknowledges a shared message in order must not stay for ever. */
static void exceptions_go_with_the_oldest_one(void **unused)
{
    (void)unused;
    for (int round = 0; round < 20; round++) {
        struct obligation *first = away(NULL, 0); /* its own */
        struct ticket *ticket = held();
        struct obligation *both[2] = {away(ticket, 0), away(ticket, 1)};
        seal(ticket);
        ticket_unref(ticket);
        store_all();
        discharge(both[0]); /* an exception */
        store_all();
        assert_int_equal(disk_count(&f.storage, CHANGE_DONE), 1);
        discharge(first); /* a message that goes: no mark is needed for itself */
        store_all();
        assert_int_equal(disk_count(&f.storage, CHANGE_DONE), 0);
        discharge(both[1]);
        store_all();
        assert_int_equal(messages(), 0);
    }
}

/* A mark is what is owed when the batch is made. */
static void a_mark_stops_before_what_is_in_the_same_batch(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct obligation *one = away(ticket, 0), *other = away(ticket, 1);
    seal(ticket);
    store_all();
    discharge(one);
    struct obligation *two = away(NULL, 0), *three = online(NULL, 0);
    store_submit(f.store, false);
    commit();
    uint64_t number = store_number_of(two);
    assert_int_equal(disk_mark(&f.storage, f.owing[0].session), number);
    assert_true(owed(0, number));
    discharge(two);
    discharge(three);
    discharge(other);
    store_all();
    ticket_unref(ticket);
}

static void what_is_only_in_the_store_holds_the_mark(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct obligation *spilled = away(ticket, 0), *other = away(ticket, 1);
    f.owing[0].spills = true;
    seal(ticket);
    store_all();
    assert_ptr_equal(f.stored, &f.owing[0]);
    assert_int_equal(f.stored_number, store_number_of(spilled));
    uint64_t number = store_number_of(spilled);
    store_forget(spilled);
    f.owing[0].spilled = number;
    ticket_unref(ticket);
    ticket = held();
    struct obligation *later = away(ticket, 0), *later_other = away(ticket, 1);
    seal(ticket);
    ticket_unref(ticket);
    store_all();
    discharge(later); /* out of order, for the older one is owed */
    store_all();
    assert_int_equal(disk_count(&f.storage, CHANGE_DONE), 1);
    assert_true(owed(0, number));
    f.owing[0].spilled = 0;
    store_discharge_spilled(f.store, &f.owing[0], number);
    store_all();
    assert_false(owed(0, number));
    assert_int_equal(disk_count(&f.storage, CHANGE_DONE), 0);
    discharge(other);
    discharge(later_other);
    store_all();
    assert_int_equal(messages(), 0);
}

static void what_was_read_back_keeps_its_place(void **unused)
{
    (void)unused;
    struct obligation *fresh = away(NULL, 0);
    store_go_on(f.store, 1000);
    store_go_on(f.store, 5); /* never back */
    assert_int_equal(store_number(f.store), 1001);
    struct obligation *back[3];
    static const uint64_t numbers[] = {900, 902, 901};
    for (int i = 0; i < 3; i++) {
        back[i] = store_owed(&f.owing[0], numbers[i]);
    }
    assert_ptr_equal(f.owing[0].first, back[0]);
    assert_ptr_equal(f.owing[0].first->newer, back[2]);
    assert_ptr_equal(f.owing[0].first->newer->newer, back[1]);
    assert_ptr_equal(f.owing[0].last, fresh);
    for (int i = 0; i < 3; i++) {
        store_forget(back[i]);
    }
    assert_ptr_equal(f.owing[0].first, fresh);
    discharge(fresh);
    assert_null(f.owing[0].first);
}

static void a_loaded_message_goes_with_the_last_to_whom_it_is_owed(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    for (int i = 0; i < SESSIONS; i++) {
        away(ticket, i);
    }
    seal(ticket);
    ticket_unref(ticket);
    store_all();
    uint64_t number = f.storage.last_message;
    for (int i = 0; i < SESSIONS; i++) {
        store_forget(f.owing[i].first);
    }
    tally_free(&f.store->tally); /* a new start */
    f.store->loaded = 0;
    struct obligation *obs[SESSIONS];
    for (int i = 0; i < SESSIONS; i++) {
        store_loaded(f.store, number, SESSIONS); /* said again for each of them */
        obs[i] = store_owed(&f.owing[i], number);
    }
    for (int i = 0; i < SESSIONS; i++) {
        assert_int_equal(messages(), 1);
        discharge(obs[i]);
        store_all();
    }
    assert_int_equal(messages(), 0);
}

/* ---- QoS 2 ---- */

static void an_identifier_is_stored_with_the_number_of_its_message(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct obligation *ob = online(ticket, 0);
    seal(ticket);
    struct ticket *out = store_out(f.store, ob, 17);
    assert_false(ticket_closed(out));
    submit(); /* both at once: its client waits for it */
    assert_int_equal(fake_storage_change(&f.storage, CHANGE_OUT, 0)->number, store_number_of(ob));
    assert_int_equal(fake_storage_change(&f.storage, CHANGE_OUT, 0)->qos, 2);
    commit();
    assert_true(ticket_closed(out) && ticket_closed(ticket));
    assert_int_equal(disk_out_id(&f.storage, f.owing[0].session, store_number_of(ob)), 17);
    ticket_unref(out);
    ticket_unref(ticket);
    discharge(ob);
    change(NULL, (struct change){.kind = CHANGE_OUT_DONE, .session = f.owing[0].session, .id = 17});
    store_all();
    assert_int_equal(disk_count(&f.storage, CHANGE_OUT), 0);
}

/* Its number is another one then. */
static void an_identifier_whose_batch_fails_follows_its_message(void **unused)
{
    (void)unused;
    struct obligation *ob = away(NULL, 0);
    struct ticket *out = store_out(f.store, ob, 17);
    submit();
    uint64_t number = store_number_of(ob);
    batch_fails(STORAGE_ERROR, "a broken disk");
    f.now += 1000;
    submit();
    assert_true(store_number_of(ob) > number);
    assert_int_equal(fake_storage_change(&f.storage, CHANGE_OUT, 0)->number, store_number_of(ob));
    commit();
    assert_true(ticket_closed(out));
    ticket_unref(out);
    discharge(ob);
    store_all();
}

static void an_identifier_of_what_was_dropped_is_not_stored(void **unused)
{
    (void)unused;
    struct obligation *ob = away(NULL, 0), *under_way = away(NULL, 1);
    struct ticket *out = store_out(f.store, ob, 17), *second = NULL;
    discharge(ob);
    assert_false(ticket_closed(out)); /* whoever waits is told in time */
    submit();
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_OUT), 0);
    second = store_out(f.store, under_way, 18);
    discharge(under_way);
    batch_fails(STORAGE_ERROR, "a broken disk");
    f.now += 1000;
    submit();
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_OUT), 0);
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_MESSAGE), 0);
    commit();
    assert_true(ticket_closed(out) && ticket_closed(second));
    ticket_unref(out);
    ticket_unref(second);
    store_all();
    assert_int_equal(disk_count(&f.storage, CHANGE_OUT), 0);
}

/* A client that takes all that waited for it makes a great many: those go before their time, and what they
 * took is given back. */
static void a_great_many_lazy_changes_are_not_kept(void **unused)
{
    (void)unused;
    for (int i = 0; i < 9999; i++) {
        change(NULL, (struct change){.kind = CHANGE_UNSUBSCRIBE, .text = (uint8_t *)"t", .count = 1});
    }
    assert_int_equal(store_next(f.store), 5000);
    change(NULL, (struct change){.kind = CHANGE_UNSUBSCRIBE, .text = (uint8_t *)"t", .count = 1});
    assert_int_equal(store_next(f.store), 0);
    submit();
    assert_int_equal(f.storage.count, 10000);
    commit();
    store_all();
    assert_true(f.store->open.cap + f.store->sent.cap <= 2048);
}

/* ---- sessions that end ---- */

static void a_session_that_ends_at_each_stage(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct obligation *is_stored = stored(0), *met, *sent, *due, *waiting;
    struct obligation *others = away(ticket, 1);
    sent = away(ticket, 0);
    met = away(NULL, 0);
    seal(ticket);
    submit();
    discharge(met);
    due = away(NULL, 0);
    waiting = online(NULL, 0);
    change(NULL, (struct change){.kind = CHANGE_SESSION_GONE, .session = f.owing[0].session});
    store_owing_over(f.store, &f.owing[0]);
    discharge(waiting);
    discharge(due);
    discharge(sent);
    discharge(is_stored);
    assert_null(f.owing[0].first);
    memset(&f.owing[0], 0xee, sizeof f.owing[0]); /* it is freed */
    commit();
    assert_true(ticket_closed(ticket));
    store_all();
    assert_int_equal(messages(), 1); /* the other's */
    assert_int_equal(disk_count(&f.storage, CHANGE_SESSION), 2);
    discharge(others);
    store_all();
    assert_int_equal(messages(), 0);
    ticket_unref(ticket);
}

static void a_session_that_ends_leaves_no_mark(void **unused)
{
    (void)unused;
    struct obligation *obs[SESSIONS];
    struct ticket *ticket = held();
    for (int i = 0; i < SESSIONS; i++) {
        obs[i] = away(ticket, i);
    }
    seal(ticket);
    ticket_unref(ticket);
    store_all();
    for (int i = 0; i < SESSIONS - 1; i++) {
        discharge(obs[i]);
    }
    store_owing_over(f.store, &f.owing[0]); /* the last in the list of those marked */
    store_owing_over(f.store, &f.owing[0]);
    store_submit(f.store, true);
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_MARK), 1);
    assert_int_equal(fake_storage_change(&f.storage, CHANGE_MARK, 0)->session, f.owing[1].session);
    commit();
    discharge(obs[SESSIONS - 1]);
    store_all();
}

/* ---- failures ---- */

static void a_failed_batch_is_open_again(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    change(ticket, (struct change){.kind = CHANGE_RETAINED, .msg = f.msg});
    struct obligation *one = away(ticket, 0), *two = away(ticket, 1);
    seal(ticket);
    submit();
    struct ticket *later = held();
    struct obligation *three = away(later, 0);
    seal(later);
    discharge(two);
    batch_fails(STORAGE_ERROR, "a broken disk");
    assert_false(ticket_closed(ticket));
    assert_true(store_blocked(f.store) && f.is_blocked);
    assert_string_equal(store_trouble(f.store), "a broken disk");
    assert_int_equal(store_counts(f.store)->failures, 1);
    assert_int_equal(store_next(f.store), 1000);
    submit(); /* not yet */
    assert_null(f.storage.batch);
    f.now += 1000;
    submit();
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_MESSAGE), 2); /* what was met is not written */
    assert_int_equal(fake_storage_change(&f.storage, CHANGE_MESSAGE, 0)->count, 1);
    assert_true(store_number_of(one) < store_number_of(three));
    commit();
    assert_true(ticket_closed(ticket) && ticket_closed(later));
    assert_false(store_blocked(f.store) || f.is_blocked);
    assert_int_equal(f.blocked, 2);
    assert_string_equal(store_trouble(f.store), "");
    discharge(one);
    discharge(three);
    store_all();
    assert_int_equal(messages(), 0);
    ticket_unref(ticket);
    ticket_unref(later);
}

static void what_was_owed_in_a_failed_batch_may_be_discharged(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct obligation *ob = away(ticket, 0);
    seal(ticket);
    submit();
    batch_fails(STORAGE_ERROR, "a broken disk");
    discharge(ob);
    assert_true(ticket_closed(ticket));
    assert_true(store_blocked(f.store));
    f.now += 1000;
    assert_int_equal(f.storage.written, 0);
    ticket_unref(ticket);
    /* nothing is left to be written: only the next change finds out that the disk works again */
    change(NULL, (struct change){.kind = CHANGE_RETAINED, .msg = f.msg});
    store_all();
    assert_false(store_blocked(f.store));
}

/* It is collected again then, with the value of that time; what waits for it waits. */
static void what_is_retained_is_collected_again_after_a_failure(void **unused)
{
    (void)unused;
    for (int works = 0; works < 2; works++) {
        struct ticket *ticket = held();
        f.again_works = works;
        f.again = 0;
        change(ticket, (struct change){.kind = CHANGE_VOID});
        change(NULL, (struct change){.kind = CHANGE_RETAINED, .msg = f.msg});
        seal(ticket);
        submit();
        batch_fails(STORAGE_ERROR, "a broken disk");
        assert_int_equal(f.again, 1);
        assert_int_equal(f.msg->refs, works ? 1 : 2);
        assert_false(ticket_closed(ticket));
        f.now += 1000;
        submit();
        assert_int_equal(fake_storage_has(&f.storage, CHANGE_RETAINED), !works);
        commit();
        assert_true(ticket_closed(ticket));
        ticket_unref(ticket);
    }
    /* also where nothing else waits */
    change(NULL, (struct change){.kind = CHANGE_RETAINED, .msg = f.msg});
    store_submit(f.store, true);
    batch_fails(STORAGE_ERROR, "a broken disk");
    assert_false(store_idle(f.store));
    f.now += 1000;
    int collected = f.collected;
    submit();
    assert_int_equal(f.collected, collected + 1);
    commit();
}

/* The order of the changes stays: those of a failed batch come first. */
static void changes_of_a_failed_batch_come_before_later_ones(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    change(ticket, (struct change){.kind = CHANGE_IN_ID, .session = f.owing[0].session, .id = 5});
    seal(ticket);
    submit();
    change(NULL, (struct change){.kind = CHANGE_IN_ID_DONE, .session = f.owing[0].session, .id = 5});
    batch_fails(STORAGE_ERROR, "a broken disk");
    f.now += 1000;
    submit();
    assert_int_equal(f.storage.copy[0].kind, CHANGE_IN_ID);
    assert_int_equal(f.storage.copy[1].kind, CHANGE_IN_ID_DONE);
    commit();
    assert_int_equal(disk_count(&f.storage, CHANGE_IN_ID), 0);
    ticket_unref(ticket);
}

/* On a full disk what gives room goes first, alone, and may use the reserve. */
static void a_full_disk_gets_removals_first(void **unused)
{
    (void)unused;
    struct obligation *old = stored(0);
    change(NULL, (struct change){.kind = CHANGE_IN_ID, .session = f.owing[0].session, .id = 5});
    store_all();
    struct ticket *ticket = held();
    struct obligation *ob = away(ticket, 1);
    seal(ticket);
    submit();
    discharge(old);
    struct ticket *free = held();
    change(free, (struct change){.kind = CHANGE_IN_ID_DONE, .session = f.owing[0].session, .id = 5});
    seal(free);
    batch_fails(STORAGE_FULL, "no space");
    f.now += 1000;
    submit();
    assert_true(f.storage.batch->removals);
    assert_int_equal(f.storage.count, 2);
    commit();
    assert_true(ticket_closed(free));
    assert_false(ticket_closed(ticket));
    assert_true(store_blocked(f.store)); /* nothing has been taken yet */
    assert_int_equal(store_next(f.store), 0);
    submit(); /* at once: there may be room now */
    assert_false(f.storage.batch->removals);
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_MESSAGE), 1);
    commit();
    assert_true(ticket_closed(ticket));
    assert_false(store_blocked(f.store));
    discharge(ob);
    store_all();
    ticket_unref(ticket);
    ticket_unref(free);
}

static void removals_that_fail_are_open_again(void **unused)
{
    (void)unused;
    struct obligation *old = stored(0);
    struct obligation *ob = away(NULL, 1);
    submit();
    discharge(old);
    batch_fails(STORAGE_FULL, "no space");
    for (int i = 0; i < 3; i++) {
        f.now += 1000;
        submit();
        assert_true(f.storage.batch->removals);
        batch_fails(STORAGE_FULL, "no space at all");
        assert_int_equal(messages(), 1);
    }
    assert_string_equal(store_trouble(f.store), "no space at all");
    f.now += 1000;
    submit();
    commit();
    assert_int_equal(messages(), 0);
    submit();
    commit();
    assert_int_equal(messages(), 1);
    assert_false(store_blocked(f.store));
    discharge(ob);
    store_all();
}

/* PUBREL may only take away what a PUBLISH before it has put, also on a full disk. */
static void a_removal_does_not_overtake_what_it_removes(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    change(ticket, (struct change){.kind = CHANGE_IN_ID, .session = f.owing[0].session, .id = 5});
    seal(ticket);
    submit();
    batch_fails(STORAGE_FULL, "no space");
    change(NULL, (struct change){.kind = CHANGE_IN_ID_DONE, .session = f.owing[0].session, .id = 5});
    f.now += 1000;
    store_all();
    assert_int_equal(disk_count(&f.storage, CHANGE_IN_ID), 0);
    ticket_unref(ticket);
}

/* Who publishes is held when too much waits, and let go when it has got much less. */
static void too_much_that_waits_blocks(void **unused)
{
    static uint8_t payload[65536];
    static struct obligation *obs[1000];
    int n = 0;
    (void)unused;
    struct msg *large = msg_new(slice_str("t"), slice_of(payload, sizeof payload), 1, false, NULL);
    while (!store_blocked(f.store)) {
        assert_true(n < 1000);
        obs[n++] = store_owe(f.store, NULL, &f.owing[0],
                             &(struct recipient){.session = f.owing[0].session, .qos = 1}, large, true);
    }
    assert_int_equal(f.blocked, 1);
    assert_int_equal(n, 128); /* 8 MiB */
    int left = n;
    while (store_blocked(f.store)) {
        discharge(obs[--left]);
    }
    assert_int_equal(left, 63);
    assert_int_equal(f.blocked, 2);
    while (left > 0) {
        discharge(obs[--left]);
    }
    assert_int_equal(store_counts(f.store)->pending_bytes, 0);
    assert_int_equal(large->refs, 1);
    msg_unref(large);
}

static void a_commit_unblocks(void **unused)
{
    static uint8_t payload[1 << 20];
    struct obligation *obs[20];
    int n = 0;
    (void)unused;
    struct msg *large = msg_new(slice_str("t"), slice_of(payload, sizeof payload), 1, false, NULL);
    while (!store_blocked(f.store)) {
        obs[n++] = store_owe(f.store, NULL, &f.owing[0],
                             &(struct recipient){.session = f.owing[0].session, .qos = 1}, large, false);
    }
    submit();
    commit();
    assert_true(store_blocked(f.store)); /* half of it is not stored yet */
    submit();
    commit();
    assert_false(store_blocked(f.store));
    store_all();
    while (n > 0) {
        discharge(obs[--n]);
    }
    store_all();
    msg_unref(large);
}

/* ---- no memory ---- */

static void take_an_obligation(void)
{
    away(NULL, 0);
}

static void open_a_ticket(void)
{
    store_begin(f.store);
}

static void put_text(void)
{
    change(NULL, (struct change){.kind = CHANGE_WILL_GONE, .text = (uint8_t *)"x", .count = 1});
}

static void put_many(void)
{
    for (int i = 0; i < 100; i++) {
        change(NULL, (struct change){.kind = CHANGE_MESSAGE_GONE, .number = 1});
    }
}

static void hand_over(void)
{
    submit();
}

static void hear_of_many(void)
{
    store_loaded(f.store, 77, 2);
}

/* An acknowledgement of what is not stored would be a lie: the process ends. */
/* ---- who shares a commit ---- */

/* A commit that takes so long, with so many who wait for it, while others come. */
static void slow_commit(struct obligation **obs, int with, int meanwhile, int64_t ms)
{
    for (int i = 0; i < with; i++) {
        obs[i] = away(NULL, i % 2);
    }
    submit();
    for (int i = 0; i < meanwhile; i++) {
        obs[with + i] = away(NULL, i % 2);
    }
    f.now += ms;
    commit();
}

static void drop(struct obligation **obs, int n)
{
    for (int i = 0; i < n; i++) {
        discharge(obs[i]);
    }
    store_all();
}

static void gather_for(int64_t ms)
{
    store_use_times(f.store, &(struct store_times){.commit_delay = 250, .lazy_delay = 5000, .gather = ms});
}

static void those_of_the_last_commit_and_those_who_came_meanwhile_share_the_next(void **unused)
{
    (void)unused;
    struct obligation *obs[6];
    gather_for(20);
    slow_commit(obs, 2, 1, 5);
    submit();
    assert_int_equal(f.storage.batches, 1); /* two more are expected */
    assert_int_equal(store_next(f.store), 5);
    obs[3] = away(NULL, 0);
    submit();
    assert_int_equal(f.storage.batches, 1);
    obs[4] = away(NULL, 1);
    assert_int_equal(store_next(f.store), 0);
    submit();
    assert_int_equal(f.storage.batches, 2);
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_MESSAGE), 3);
    commit();
    obs[5] = away(NULL, 0);
    submit(); /* that commit took no time: nobody is waited for */
    assert_int_equal(f.storage.batches, 3);
    commit();
    drop(obs, 6);
}

static void nobody_is_waited_for_longer_than_a_commit_takes(void **unused)
{
    (void)unused;
    struct obligation *obs[5];
    gather_for(20);
    slow_commit(obs, 1, 1, 7);
    f.now += 6;
    submit();
    assert_int_equal(f.storage.batches, 1);
    assert_int_equal(store_next(f.store), 1);
    f.now += 1;
    submit();
    assert_int_equal(f.storage.batches, 2);
    obs[2] = away(NULL, 0);
    f.now += 5000; /* a stalled disk */
    commit();
    assert_int_equal(store_next(f.store), 20);
    f.now += 20;
    submit();
    assert_int_equal(f.storage.batches, 3);
    f.now += 10;
    commit();
    obs[3] = away(NULL, 0); /* a single publisher */
    submit();
    assert_int_equal(f.storage.batches, 4);
    obs[4] = away(NULL, 0);
    f.now += 10;
    commit();
    store_submit(f.store, true); /* the broker stops */
    assert_int_equal(f.storage.batches, 5);
    commit();
    drop(obs, 5);
}

static void without_memory_it_stops(void **unused)
{
    static void (*const ways[])(void) = {take_an_obligation, open_a_ticket, put_text,
                                         put_many,           hand_over,     hear_of_many};
    (void)unused;
    struct obligation *ob = away(NULL, 1);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
            signal(SIGABRT, SIG_DFL);
            memory_fails(0, ALL_OF_THEM);
            ways[i]();
            _exit(0);
        }
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
    memory_fails(0, 1);
    assert_null(store_new(NULL, &(struct store_events){0}));
    memory_calm();
    discharge(ob);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(without_storage_every_ticket_is_closed),
        T(a_ticket_with_nothing_in_it_closes_when_it_is_sealed),
        T(a_commit_closes),
        T(what_is_discharged_in_time_annihilates),
        T(who_does_not_acknowledge_in_time_is_stored),
        T(who_is_away_does_not_wait_for_who_is_there),
        T(one_publish_to_many_is_one_row),
        T(nobody_need_wait_for_what_is_owed),
        T(what_is_due_takes_along_what_came_before),
        T(a_client_that_goes_makes_its_own_due),
        T(discharged_while_under_way_closes_early),
        T(does_not_close_before_it_is_sealed),
        T(annihilation_leaves_nothing_behind),
        T(a_part_waits_for_its_commit),
        T(an_inbound_id_goes_in_one_transaction_with_what_is_owed),
        T(a_batch_is_bounded),
        T(lazy_changes_ride_with_the_next_urgent_one),
        T(annihilation_leaves_lazy_changes_lazy),
        T(a_noted_change_is_collected_when_its_time_comes),
        T(text_and_principal_are_the_stores_own),
        T(two_batches_follow_each_other),
        T(a_commit_closes_in_the_order_of_publishing),
        T(nobody_need_wait_for_a_ticket),
        T(ends_with_a_batch_under_way),
        T(what_is_acknowledged_in_order_is_one_number),
        T(out_of_order_there_are_exceptions),
        T(exceptions_go_with_the_oldest_one),
        T(a_mark_stops_before_what_is_in_the_same_batch),
        T(what_is_only_in_the_store_holds_the_mark),
        T(what_was_read_back_keeps_its_place),
        T(a_loaded_message_goes_with_the_last_to_whom_it_is_owed),
        T(an_identifier_is_stored_with_the_number_of_its_message),
        T(an_identifier_whose_batch_fails_follows_its_message),
        T(an_identifier_of_what_was_dropped_is_not_stored),
        T(a_great_many_lazy_changes_are_not_kept),
        T(a_session_that_ends_at_each_stage),
        T(a_session_that_ends_leaves_no_mark),
        T(a_failed_batch_is_open_again),
        T(what_was_owed_in_a_failed_batch_may_be_discharged),
        T(what_is_retained_is_collected_again_after_a_failure),
        T(changes_of_a_failed_batch_come_before_later_ones),
        T(a_full_disk_gets_removals_first),
        T(removals_that_fail_are_open_again),
        T(a_removal_does_not_overtake_what_it_removes),
        T(too_much_that_waits_blocks),
        T(a_commit_unblocks),
        T(those_of_the_last_commit_and_those_who_came_meanwhile_share_the_next),
        T(nobody_is_waited_for_longer_than_a_commit_takes),
        T(without_memory_it_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
