/*
 * store.c - tickets and batches. See store.h.
 *
 * Two batches exist: `open` collects, `sent` is with the storage. A ticket's changes all go into one batch,
 * because they are put within one turn of the loop and batches are handed over only at its end.
 */
#include "broker/store.h"
#include "broker/inflight.h"
#include "broker/log.h"
#include "broker/msg.h"
#include <stdlib.h>
#include <string.h>

struct group {
    struct batch batch;
    size_t cap;
    size_t urgent; /* changes that somebody waits for */
};

struct store {
    struct storage *storage;
    void (*on_close)(void *arg, uint64_t holder);
    void *arg;
    struct group open, sent;
    bool busy; /* sent is with the storage */
};

struct ticket *ticket_ref(struct ticket *ticket)
{
    if (ticket) {
        ticket->refs++;
    }
    return ticket;
}

void ticket_unref(struct ticket *ticket)
{
    if (ticket && --ticket->refs == 0) {
        free(ticket);
    }
}

struct store *store_new(struct storage *storage, void (*on_close)(void *arg, uint64_t holder), void *arg)
{
    struct store *store = calloc(1, sizeof *store);
    if (store) {
        store->storage = storage;
        store->on_close = on_close;
        store->arg = arg;
        store->open.batch.number = 1;
    }
    return store;
}

static void group_clear(struct group *group)
{
    for (size_t i = 0; i < group->batch.count; i++) {
        msg_unref(group->batch.changes[i].msg);
        ticket_unref(group->batch.changes[i].ticket);
    }
    group->batch.count = 0;
    group->urgent = 0;
}

void store_free(struct store *store)
{
    if (store) {
        group_clear(&store->open);
        group_clear(&store->sent);
        free(store->open.batch.changes);
        free(store->sent.batch.changes);
        free(store);
    }
}

bool store_durable(const struct store *store)
{
    return store->storage != NULL;
}

static void out_of_memory(void)
{
    log_write(LOG_T_ERROR,
              "out of memory in the durable store: stopping rather than acknowledging what is not stored");
    abort();
}

struct ticket *store_begin(struct store *store)
{
    if (!store->storage) {
        return NULL;
    }
    struct ticket *ticket = calloc(1, sizeof *ticket);
    if (!ticket) {
        out_of_memory();
    }
    ticket->refs = 1;
    ticket->batch = store->open.batch.number;
    return ticket;
}

static struct change *append(struct store *store, enum change_kind kind)
{
    struct group *group = &store->open;
    if (group->batch.count == group->cap) {
        size_t cap = group->cap ? 2 * group->cap : 64;
        struct change *grown = realloc(group->batch.changes, cap * sizeof *grown);
        if (!grown) {
            out_of_memory();
        }
        group->batch.changes = grown;
        group->cap = cap;
    }
    struct change *change = &group->batch.changes[group->batch.count++];
    *change = (struct change){.kind = kind};
    return change;
}

void store_put_delivery(struct store *store, struct ticket *ticket, uint64_t session,
                        struct delivery *delivery)
{
    if (!ticket) {
        return;
    }
    struct change *change = append(store, CHANGE_DELIVERY);
    change->session = session;
    change->seq = delivery->seq;
    change->qos = delivery->qos;
    change->id = delivery->id;
    change->msg = msg_ref(delivery->msg);
    change->ticket = ticket_ref(ticket);
    store->open.urgent++;
    ticket->deliveries++;
    delivery->ticket = ticket_ref(ticket);
    delivery->batch = store->open.batch.number;
    delivery->change = (uint32_t)(store->open.batch.count - 1);
}

void store_put(struct store *store, struct ticket *ticket, enum change_kind kind, uint64_t session,
               struct msg *msg, uint16_t id)
{
    if (!ticket) {
        return;
    }
    struct change *change = append(store, kind);
    change->session = session;
    change->id = id;
    change->msg = msg ? msg_ref(msg) : NULL;
    change->ticket = ticket_ref(ticket);
    store->open.urgent++;
    ticket->parts++;
}

static void close_if_done(struct store *store, struct ticket *ticket, bool committed)
{
    if (ticket->closed || !ticket->sealed) {
        return;
    }
    if (committed || (ticket->parts == 0 && ticket->deliveries == 0)) {
        ticket->closed = true;
        if (ticket->holder) {
            store->on_close(store->arg, ticket->holder);
        }
    }
}

void store_seal(struct store *store, struct ticket *ticket)
{
    if (ticket) {
        ticket->sealed = true;
        close_if_done(store, ticket, false);
    }
}

/* Never written at all: it lets go at once of what may be large, and voids at the end do not pile up. */
static void annihilate(struct group *group, uint32_t at)
{
    struct change *change = &group->batch.changes[at];
    msg_unref(change->msg);
    ticket_unref(change->ticket);
    *change = (struct change){.kind = CHANGE_VOID};
    group->urgent--;
    while (group->batch.count > 0 && group->batch.changes[group->batch.count - 1].kind == CHANGE_VOID) {
        group->batch.count--;
    }
}

void store_discharge(struct store *store, uint64_t session, struct delivery *delivery)
{
    struct ticket *ticket = delivery->ticket;
    if (!ticket) {
        return;
    }
    delivery->ticket = NULL;
    if (delivery->batch == store->open.batch.number) {
        annihilate(&store->open, delivery->change);
    } else {
        struct change *change = append(store, CHANGE_DISCHARGE);
        change->session = session;
        change->seq = delivery->seq;
    }
    ticket->deliveries--;
    close_if_done(store, ticket, false);
    ticket_unref(ticket);
}

void store_submit(struct store *store, bool lazy_too)
{
    if (!store->storage || store->busy || store->open.batch.count == 0 ||
        (store->open.urgent == 0 && !lazy_too)) {
        return;
    }
    struct group spare = store->sent;
    store->sent = store->open;
    store->open = spare;
    store->open.batch.number = store->sent.batch.number + 1;
    store->busy = true;
    store->storage->submit(store->storage, &store->sent.batch);
}

void store_committed(struct store *store, uint64_t batch)
{
    if (!store->busy || batch != store->sent.batch.number) {
        return;
    }
    for (size_t i = 0; i < store->sent.batch.count; i++) {
        struct ticket *ticket = store->sent.batch.changes[i].ticket;
        if (ticket) {
            ticket->parts = 0; /* all of them are in this batch */
            close_if_done(store, ticket, true);
        }
    }
    group_clear(&store->sent);
    store->busy = false;
}
