/*
 * test_store.c - tickets and batches, with a storage that commits when the test says so.
 */
#include "broker/inflight.h"
#include "broker/store.h"
#include "fake_storage.h"
#include "random.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MOST_CLOSED = 16 };

static struct {
    struct fake_storage storage;
    struct store *store;
    struct msg *msg;
    uint64_t closed[MOST_CLOSED]; /* holders, in the order of closing */
    int closings;
} f;

static void on_close(void *arg, uint64_t holder)
{
    assert_ptr_equal(arg, &f);
    f.closed[f.closings++ % MOST_CLOSED] = holder;
}

static int setup(void **unused)
{
    (void)unused;
    memset(&f, 0, sizeof f);
    fake_storage_init(&f.storage);
    f.store = store_new(&f.storage.port, on_close, &f);
    f.msg = msg_new(slice_str("t"), slice_str("x"), 1, false, NULL);
    return f.store ? 0 : -1;
}

/* Nothing may be left on the message, whatever became of its batches. */
static int teardown(void **unused)
{
    (void)unused;
    store_free(f.store);
    fake_storage_free(&f.storage);
    int refs = (int)f.msg->refs;
    msg_unref(f.msg);
    return refs == 1 ? 0 : -1;
}

static struct delivery delivery(uint32_t seq)
{
    return (struct delivery){.msg = f.msg, .seq = seq, .qos = 1, .id = 0};
}

static void put(struct ticket *ticket, struct delivery *d)
{
    store_put_delivery(f.store, ticket, 7, d);
}

static void discharge(struct delivery *d)
{
    store_discharge(f.store, 7, d);
}

static void submit(void)
{
    store_submit(f.store, false);
}

static void commit(void)
{
    assert_true(fake_storage_commit(&f.storage));
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

static void without_storage_every_ticket_is_closed(void **unused)
{
    (void)unused;
    struct store *store = store_new(NULL, on_close, &f);
    struct delivery d = delivery(1);
    assert_false(store_durable(store));
    assert_true(store_durable(f.store));
    struct ticket *ticket = store_begin(store);
    assert_null(ticket);
    assert_true(ticket_closed(ticket));
    store_put_delivery(store, ticket, 7, &d);
    store_put(store, ticket, CHANGE_RETAINED, 0, f.msg, 0);
    store_seal(store, ticket);
    assert_null(d.ticket);
    assert_int_equal(f.msg->refs, 1);
    store_discharge(store, 7, &d);
    store_submit(store, true);
    store_committed(store, 1);
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
    store_seal(f.store, ticket);
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
    struct delivery d = delivery(5);
    d.id = 3;
    put(ticket, &d);
    store_seal(f.store, ticket);
    assert_false(ticket_closed(ticket));
    submit();
    assert_int_equal(f.storage.batches, 1);
    assert_int_equal(f.storage.count, 1);
    assert_int_equal(f.storage.copy[0].kind, CHANGE_DELIVERY);
    assert_int_equal(f.storage.copy[0].session, 7);
    assert_int_equal(f.storage.copy[0].seq, 5);
    assert_int_equal(f.storage.copy[0].qos, 1);
    assert_int_equal(f.storage.copy[0].id, 3);
    assert_ptr_equal(f.storage.copy[0].msg, f.msg);
    assert_false(ticket_closed(ticket));
    commit();
    assert_true(ticket_closed(ticket));
    assert_int_equal(f.closings, 1);
    assert_int_equal(f.msg->refs, 1);
    assert_int_equal(ticket->refs, 2); /* ours, and the delivery's until it is discharged */
    discharge(&d);
    assert_int_equal(ticket->refs, 1);
    assert_int_equal(f.closings, 1); /* once */
    ticket_unref(ticket);
}

/* All recipients acknowledged before the batch was handed over: nothing is written at all. */
static void what_is_discharged_at_once_annihilates(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct delivery one = delivery(1), two = delivery(2);
    put(ticket, &one);
    put(ticket, &two);
    store_seal(f.store, ticket);
    discharge(&one);
    assert_false(ticket_closed(ticket));
    assert_null(one.ticket);
    discharge(&two);
    assert_true(ticket_closed(ticket));
    assert_int_equal(f.closings, 1);
    assert_int_equal(ticket->refs, 1); /* the store has let go */
    assert_int_equal(f.msg->refs, 1);  /* of the message as well: it may be large */
    submit();
    store_submit(f.store, true);
    assert_int_equal(f.storage.batches, 0);
    ticket_unref(ticket);
}

/* Void changes must not pile up while nothing is handed over. */
static void annihilation_leaves_nothing_behind(void **unused)
{
    (void)unused;
    struct ticket *first = held();
    struct delivery kept = delivery(1);
    put(first, &kept);
    store_seal(f.store, first);
    submit(); /* the disk is busy from now on */
    for (uint32_t i = 0; i < 1000; i++) {
        struct ticket *ticket = held();
        struct delivery one = delivery(2 * i), two = delivery(2 * i + 1);
        put(ticket, &one);
        put(ticket, &two);
        store_seal(f.store, ticket);
        discharge(i % 2 ? &one : &two);
        discharge(i % 2 ? &two : &one);
        assert_int_equal(ticket->refs, 1);
        ticket_unref(ticket);
    }
    struct ticket *last = held();
    struct delivery d = delivery(5000);
    put(last, &d);
    store_seal(f.store, last);
    submit();
    assert_int_equal(f.storage.batches, 1); /* one at a time */
    commit();
    submit();
    assert_int_equal(f.storage.batches, 2);
    assert_int_equal(f.storage.count, 1);
    assert_int_equal(f.storage.copy[0].seq, 5000);
    commit();
    discharge(&kept);
    discharge(&d);
    ticket_unref(first);
    ticket_unref(last);
}

/* One is gone from the middle, the others are written. */
static void a_partly_annihilated_batch_writes_the_rest(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct delivery d[3] = {delivery(1), delivery(2), delivery(3)};
    for (int i = 0; i < 3; i++) {
        put(ticket, &d[i]);
    }
    store_seal(f.store, ticket);
    discharge(&d[1]);
    submit();
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_DELIVERY), 2);
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_VOID), 1);
    for (size_t i = 0; i < f.storage.count; i++) {
        if (f.storage.copy[i].kind == CHANGE_VOID) {
            assert_null(f.storage.copy[i].msg);
            assert_null(f.storage.copy[i].ticket);
        } else {
            assert_int_not_equal(f.storage.copy[i].seq, 2);
        }
    }
    commit();
    assert_true(ticket_closed(ticket));
    discharge(&d[0]);
    discharge(&d[2]);
    ticket_unref(ticket);
}

/* The recipients were faster than the disk. */
static void discharged_while_under_way_closes_early(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct delivery one = delivery(1), two = delivery(2);
    put(ticket, &one);
    put(ticket, &two);
    store_seal(f.store, ticket);
    submit();
    discharge(&one);
    assert_false(ticket_closed(ticket));
    discharge(&two);
    assert_true(ticket_closed(ticket));
    assert_int_equal(f.closings, 1);
    commit();
    assert_int_equal(f.closings, 1);
    /* what was written has to be taken back, but nobody waits for that */
    submit();
    assert_int_equal(f.storage.batches, 1);
    store_submit(f.store, true);
    assert_int_equal(f.storage.batches, 2);
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_DISCHARGE), 2);
    assert_int_equal(f.storage.copy[0].session, 7);
    assert_int_equal(f.storage.copy[0].seq, 1);
    assert_int_equal(f.storage.copy[1].seq, 2);
    commit();
    assert_int_equal(ticket->refs, 1);
    ticket_unref(ticket);
}

static void lazy_changes_ride_with_the_next_urgent_one(void **unused)
{
    (void)unused;
    struct ticket *first = held(), *second;
    struct delivery one = delivery(1), two = delivery(2);
    put(first, &one);
    store_seal(f.store, first);
    submit();
    commit();
    discharge(&one);
    submit();
    assert_int_equal(f.storage.batches, 1);
    second = held();
    put(second, &two);
    store_seal(f.store, second);
    submit();
    assert_int_equal(f.storage.batches, 2);
    assert_int_equal(f.storage.count, 2);
    commit();
    discharge(&two);
    ticket_unref(first);
    ticket_unref(second);
}

/* What annihilates is not urgent any more, whatever else is in the batch. */
static void annihilation_leaves_lazy_changes_lazy(void **unused)
{
    (void)unused;
    struct ticket *first = held(), *second = held();
    struct delivery one = delivery(1), two = delivery(2);
    put(first, &one);
    store_seal(f.store, first);
    submit();
    commit();
    put(second, &two);
    store_seal(f.store, second);
    discharge(&one);
    discharge(&two);
    submit();
    assert_int_equal(f.storage.batches, 1);
    store_submit(f.store, true);
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_DISCHARGE), 1);
    commit();
    ticket_unref(first);
    ticket_unref(second);
}

/* Retained, inbound ids, subscriptions: no acknowledgement of a recipient closes those. */
static void a_part_waits_for_its_commit(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct delivery d = delivery(1);
    put(ticket, &d);
    store_put(f.store, ticket, CHANGE_RETAINED, 0, f.msg, 0);
    store_put(f.store, ticket, CHANGE_IN_ID, 7, NULL, 99);
    store_seal(f.store, ticket);
    assert_int_equal(ticket->parts, 2);
    discharge(&d);
    assert_false(ticket_closed(ticket));
    submit();
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_RETAINED), 1);
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_IN_ID), 1);
    assert_int_equal(fake_storage_has(&f.storage, CHANGE_DELIVERY), 0);
    assert_int_equal(f.storage.copy[f.storage.count - 1].id, 99);
    assert_false(ticket_closed(ticket));
    commit();
    assert_true(ticket_closed(ticket));
    assert_int_equal(f.closings, 1);
    ticket_unref(ticket);
}

/* Whether the last delivery is discharged before sealing or after must not matter. */
static void does_not_close_before_it_is_sealed(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct delivery one = delivery(1), two = delivery(2);
    put(ticket, &one);
    discharge(&one);
    assert_false(ticket_closed(ticket));
    put(ticket, &two);
    discharge(&two);
    assert_false(ticket_closed(ticket));
    store_seal(f.store, ticket);
    assert_true(ticket_closed(ticket));
    ticket_unref(ticket);
}

static void two_batches_follow_each_other(void **unused)
{
    (void)unused;
    struct ticket *first = held(), *second;
    struct delivery one = delivery(1), two = delivery(2);
    put(first, &one);
    store_seal(f.store, first);
    submit();
    uint64_t number = f.storage.batch->number;
    second = held();
    second->holder = 2;
    put(second, &two);
    store_seal(f.store, second);
    submit();
    assert_int_equal(f.storage.batches, 1); /* the next group waits */
    commit();
    assert_true(ticket_closed(first));
    assert_false(ticket_closed(second));
    submit();
    assert_int_equal(f.storage.batches, 2);
    assert_true(f.storage.batch->number > number);
    store_committed(f.store, number); /* an old commit says nothing about the new batch */
    assert_false(ticket_closed(second));
    commit();
    assert_true(ticket_closed(second));
    assert_int_equal(f.closings, 2);
    assert_int_equal(f.closed[0], 1);
    assert_int_equal(f.closed[1], 2);
    discharge(&one);
    discharge(&two);
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
        store_put(f.store, tickets[i], CHANGE_RETAINED, 0, f.msg, 0);
        store_seal(f.store, tickets[i]);
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
    store_put(f.store, ticket, CHANGE_SUBSCRIBE, 7, NULL, 0);
    store_seal(f.store, ticket);
    assert_int_equal(ticket->refs, 2);
    ticket_unref(ticket); /* the batch still has it */
    submit();
    commit();
    assert_int_equal(f.closings, 0);
}

/* The publisher has gone, then the session of the recipient: nothing dangles. */
static void references_end_in_any_order(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct delivery one = delivery(1), two = delivery(2);
    put(ticket, &one);
    put(ticket, &two);
    store_seal(f.store, ticket);
    ticket->holder = 0;
    ticket_unref(ticket);
    submit();
    discharge(&one);
    commit();
    discharge(&two);
    store_submit(f.store, true);
    commit();
    assert_int_equal(f.closings, 0);
}

static void ends_with_a_batch_under_way(void **unused)
{
    (void)unused;
    struct ticket *ticket = held();
    struct delivery one = delivery(1), two = delivery(2);
    put(ticket, &one);
    store_seal(f.store, ticket);
    submit();
    struct ticket *next = held();
    put(next, &two);
    store_seal(f.store, next);
    discharge(&one);
    discharge(&two);
    ticket_unref(ticket);
    ticket_unref(next);
    /* teardown frees the store with both groups filled, and sees to the message's references */
}

/* ---- at random: a ticket closes exactly when it must ---- */

enum { TICKETS = 20, PER_TICKET = 5 };

static struct model {
    struct ticket *ticket;
    struct delivery deliveries[PER_TICKET];
    int count, open, parts;
    bool handed_over, committed;
} model[TICKETS];

static void model_begin(struct model *m, struct random *random)
{
    *m = (struct model){.ticket = store_begin(f.store)};
    m->count = m->open = (int)random_below(random, PER_TICKET + 1);
    m->parts = random_chance(random, 30);
    for (int i = 0; i < m->count; i++) {
        m->deliveries[i] = delivery((uint32_t)random_next(random));
        put(m->ticket, &m->deliveries[i]);
    }
    if (m->parts) {
        store_put(f.store, m->ticket, CHANGE_RETAINED, 0, f.msg, 0);
    }
    store_seal(f.store, m->ticket);
}

static void model_end(struct model *m)
{
    for (int i = 0; i < m->count; i++) {
        discharge(&m->deliveries[i]);
    }
    ticket_unref(m->ticket);
    m->ticket = NULL;
}

static void closes_exactly_when_it_must(void **unused)
{
    struct random random = {31337};
    (void)unused;
    memset(model, 0, sizeof model);
    for (int i = 0; i < 100000; i++) {
        struct model *m = &model[random_below(&random, TICKETS)];
        uint32_t what = random_below(&random, 100);
        if (!m->ticket) {
            model_begin(m, &random);
        } else if (what < 70 && m->count > 0) {
            struct delivery *d = &m->deliveries[random_below(&random, (uint32_t)m->count)];
            m->open -= d->ticket != NULL;
            discharge(d);
        } else if (what < 80) {
            int before = f.storage.batches;
            store_submit(f.store, random_chance(&random, 20));
            for (int t = 0; t < TICKETS && f.storage.batches > before; t++) {
                model[t].handed_over = model[t].ticket != NULL;
            }
        } else if (what < 90 && f.storage.batch) {
            commit();
            for (int t = 0; t < TICKETS; t++) {
                model[t].committed |= model[t].handed_over;
            }
        } else if (ticket_closed(m->ticket) && what > 95) {
            model_end(m);
            continue;
        }
        for (int t = 0; t < TICKETS; t++) {
            bool expected = model[t].committed || (model[t].open == 0 && model[t].parts == 0);
            assert_int_equal(ticket_closed(model[t].ticket), !model[t].ticket || expected);
        }
    }
    assert_true(f.storage.batches > 1000);
    for (int t = 0; t < TICKETS; t++) {
        if (model[t].ticket) {
            model_end(&model[t]);
        }
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(without_storage_every_ticket_is_closed),
        T(a_ticket_with_nothing_in_it_closes_when_it_is_sealed),
        T(a_commit_closes),
        T(what_is_discharged_at_once_annihilates),
        T(annihilation_leaves_nothing_behind),
        T(a_partly_annihilated_batch_writes_the_rest),
        T(discharged_while_under_way_closes_early),
        T(lazy_changes_ride_with_the_next_urgent_one),
        T(annihilation_leaves_lazy_changes_lazy),
        T(a_part_waits_for_its_commit),
        T(does_not_close_before_it_is_sealed),
        T(two_batches_follow_each_other),
        T(a_commit_closes_in_the_order_of_publishing),
        T(nobody_need_wait_for_a_ticket),
        T(references_end_in_any_order),
        T(ends_with_a_batch_under_way),
        T(closes_exactly_when_it_must),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
