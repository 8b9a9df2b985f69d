/*
 * store.c - tickets and obligations. See store.h for what they are; batches are in store_batch.c.
 *
 * Obligations of one session are handed over in the order of its deliveries, so their numbers rise along its
 * list, and its mark can be one number. Most are in the list `waiting` first, which is in the order of
 * publishing and of deadlines. What makes one due takes those of the same session along that wait before it.
 */
#include "broker/clock.h"
#include "broker/log.h"
#include "broker/mem.h"
#include "broker/store_parts.h"
#include <stdlib.h>
#include <string.h>

enum {
    OB_WEIGHT = 128,         /* bytes, beside the message */
    PENDING_MOST = 8388608,  /* bytes that wait to be stored before publishers are held */
    PENDING_AGAIN = 4194304, /* ...until there are fewer again */
    LAZY_MOST = 10000,       /* changes that nobody waits for */
};

void store_out_of_memory(void)
{
    log_write(LOG_T_ERROR,
              "out of memory in the durable store: stopping rather than acknowledging what is not stored");
    abort();
}

/* ---- tickets ---- */

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

struct ticket *store_begin(struct store *store)
{
    if (!store->storage) {
        return NULL;
    }
    struct ticket *ticket = calloc(1, sizeof *ticket);
    if (!ticket) {
        store_out_of_memory();
    }
    ticket->refs = 1;
    return ticket;
}

static void close_if_done(struct store *store, struct ticket *ticket)
{
    if (!ticket->sealed || ticket->closed || ticket->parts > 0 || ticket->open > 0) {
        return;
    }
    ticket->closed = true;
    if (ticket->holder && store->events.closed) {
        store->events.closed(store->events.arg, ticket->holder);
    }
}

void store_seal(struct store *store, struct ticket *ticket)
{
    if (ticket) {
        ticket->sealed = true;
        close_if_done(store, ticket);
    }
}

void ticket_part_over(struct store *store, struct ticket *ticket)
{
    ticket->parts--;
    close_if_done(store, ticket);
}

/* ---- the store ---- */

static void list_init(struct ob_list *list)
{
    list->first = NULL;
    list->last = &list->first;
}

struct store *store_new(struct storage *storage, const struct store_events *events)
{
    struct store *store = calloc(1, sizeof *store);
    if (!store) {
        return NULL;
    }
    store->storage = storage;
    store->events = *events;
    store->clock = clock_ms;
    store->clock_us = clock_us;
    list_init(&store->waiting);
    list_init(&store->due);
    list_init(&store->under_way);
    if (storage) {
        store_batch_listen(store);
    }
    return store;
}

static void drop_list(struct ob_list *list)
{
    while (list->first) {
        struct obligation *ob = list->first;
        ob_take_out(list, ob);
        ob_unref(NULL, ob);
    }
}

/* Whatever still waits belongs to nobody: sessions were freed before. */
void store_free(struct store *store)
{
    if (!store) {
        return;
    }
    changes_clear(&store->open);
    changes_clear(&store->sent);
    drop_list(&store->under_way);
    free(store->open.v);
    free(store->sent.v);
    tally_free(&store->tally);
    while (store->spare) {
        struct obligation *ob = store->spare;
        store->spare = ob->next;
        free(ob);
    }
    free(store);
}

void store_use_times(struct store *store, const struct store_times *times)
{
    store->times = *times;
}

void store_go_on(struct store *store, uint64_t last)
{
    store->last = store->last > last ? store->last : last;
}

bool store_durable(const struct store *store)
{
    return store->storage != NULL;
}

uint64_t store_number(struct store *store)
{
    return ++store->last;
}

bool store_blocked(const struct store *store)
{
    return store->blocked;
}

const char *store_trouble(const struct store *store)
{
    return store->failed ? store->trouble : "";
}

const struct store_counts *store_counts(const struct store *store)
{
    return &store->counts;
}

size_t store_changes(const struct store *store)
{
    return store->open.count + store->sent.count;
}

void store_look_blocked(struct store *store)
{
    uint64_t most = store->blocked ? PENDING_AGAIN : PENDING_MOST;
    bool blocked = store->failed || store->counts.pending_bytes > most;
    if (blocked != store->blocked) {
        store->blocked = blocked;
        if (store->events.blocked) {
            store->events.blocked(store->events.arg, blocked);
        }
    }
}

/* ---- changes ---- */

struct change *store_append(struct changes *changes)
{
    if (changes->count == changes->cap) {
        size_t cap = changes->cap ? 2 * changes->cap : 64;
        struct change *grown = realloc(changes->v, cap * sizeof *grown);
        if (!grown) {
            store_out_of_memory();
        }
        changes->v = grown;
        changes->cap = cap;
    }
    struct change *change = &changes->v[changes->count++];
    *change = (struct change){.kind = CHANGE_VOID};
    return change;
}

/* Nobody waits for what has changed: it goes with the next batch, or after a while, or when there is much of
 * it.
 */
static void lazy(struct store *store)
{
    if (store->open.count >= LAZY_MOST) {
        store->lazy_deadline = store->clock();
    } else if (store->lazy_deadline == 0) {
        store->lazy_deadline = store->clock() + store->times.lazy_delay;
    }
}

void store_change(struct store *store, struct ticket *ticket, const struct change *change)
{
    if (!store->storage) {
        return;
    }
    if (change->kind == CHANGE_VOID && !ticket) {
        lazy(store);
        return;
    }
    struct change *own = store_append(&store->open);
    *own = *change;
    own->msg = change->msg ? msg_ref(change->msg) : NULL;
    own->who = change->who ? principal_ref(change->who) : NULL;
    own->ticket = ticket_ref(ticket);
    if (change->text) {
        own->text = malloc(change->count + 1U);
        if (!own->text) {
            store_out_of_memory();
        }
        memcpy(own->text, change->text, change->count);
    }
    if (!ticket) {
        lazy(store);
        return;
    }
    ticket->parts++;
    ticket->whole |= change->kind == CHANGE_IN_ID || change->kind == CHANGE_WILL_GONE;
    store->urgent++;
}

/* ---- lists of obligations ---- */

void ob_put(struct ob_list *list, struct obligation *ob)
{
    ob->next = NULL;
    ob->link = list->last;
    *list->last = ob;
    list->last = &ob->next;
    list->count++;
}

void ob_take_out(struct ob_list *list, struct obligation *ob)
{
    *ob->link = ob->next;
    if (ob->next) {
        ob->next->link = ob->link;
    } else {
        list->last = ob->link;
    }
    ob->next = NULL;
    ob->link = NULL;
    list->count--;
}

/* Some are kept to be used again: each delivery to a client that is there takes one, for some milliseconds.
 */
void ob_unref(struct store *store, struct obligation *ob)
{
    if (!ob || --ob->refs > 0) {
        return;
    }
    ticket_unref(ob->ticket);
    msg_unref(ob->msg);
    mem_drop(sizeof *ob);
    if (!store || store->spares == SPARES_MOST) {
        free(ob);
        return;
    }
    ob->next = store->spare;
    store->spare = ob;
    store->spares++;
}

/* Those read back come before those that came later and have higher numbers, or none yet. */
static void owing_put(struct owing *owing, struct obligation *ob)
{
    struct obligation *before = owing->last;
    while (before && ob->number > 0 && (before->number == 0 || before->number > ob->number)) {
        before = before->older;
    }
    ob->older = before;
    ob->newer = before ? before->newer : owing->first;
    *(ob->newer ? &ob->newer->older : &owing->last) = ob;
    *(before ? &before->newer : &owing->first) = ob;
}

static void owing_take_out(struct owing *owing, struct obligation *ob)
{
    *(ob->newer ? &ob->newer->older : &owing->last) = ob->older;
    *(ob->older ? &ob->older->newer : &owing->first) = ob->newer;
    ob->older = ob->newer = NULL;
    ob->owing = NULL;
}

/* ---- obligations ---- */

static struct obligation *ob_new(struct store *store, struct owing *owing)
{
    struct obligation *ob = store ? store->spare : NULL;
    if (ob) {
        store->spare = ob->next;
        store->spares--;
    } else if (!(ob = malloc(sizeof *ob))) {
        store_out_of_memory();
    }
    mem_hold(sizeof *ob);
    *ob = (struct obligation){.refs = 1, .owing = owing};
    return ob;
}

/* Those of the session that wait before it go first. */
static void make_due(struct store *store, struct obligation *ob)
{
    struct obligation *first = ob;
    while (first->older && first->older->stage == OB_WAITING) {
        first = first->older;
    }
    for (;; first = first->newer) {
        if (first->stage == OB_WAITING) {
            ob_take_out(&store->waiting, first);
            first->stage = OB_DUE;
            ob_put(&store->due, first);
        }
        if (first == ob) {
            return;
        }
    }
}

struct obligation *store_owe(struct store *store, struct ticket *ticket, struct owing *owing,
                             const struct recipient *recipient, struct msg *msg, bool online)
{
    if (!store->storage) {
        return NULL;
    }
    struct obligation *ob = ob_new(store, owing);
    ob->to = *recipient;
    ob->msg = msg_ref(msg);
    ob->ticket = ticket_ref(ticket);
    ob->weight = OB_WEIGHT + (ticket && ticket->open > 0 ? 0 : msg->topic_size + msg->payload_size);
    store->counts.pending_bytes += ob->weight;
    if (ticket) {
        ticket->open++;
    }
    owing_put(owing, ob);
    ob->deadline = store->clock() + store->times.commit_delay;
    ob_put(&store->waiting, ob);
    if (!online || (ticket && ticket->whole)) {
        make_due(store, ob);
    }
    store_look_blocked(store);
    return ob;
}

struct obligation *store_owed(struct owing *owing, uint64_t number)
{
    struct obligation *ob = ob_new(NULL, owing);
    ob->number = number;
    ob->stage = OB_STORED;
    owing_put(owing, ob);
    return ob;
}

void store_loaded(struct store *store, uint64_t number, uint32_t owed)
{
    if (number == store->loaded) {
        return;
    }
    store->loaded = number;
    if (owed > 1 && tally_set(&store->tally, number, owed) < 0) {
        store_out_of_memory();
    }
}

uint64_t store_number_of(const struct obligation *obligation)
{
    return obligation->number;
}

void store_sent_as(struct obligation *obligation, uint16_t id)
{
    if (obligation && obligation->stage < OB_SENT) {
        obligation->to.id = id;
    }
}

struct ticket *store_out(struct store *store, struct obligation *obligation, uint16_t id)
{
    if (!obligation) {
        return NULL;
    }
    if (obligation->stage == OB_WAITING) {
        make_due(store, obligation);
    }
    struct ticket *ticket = store_begin(store);
    store_change(store, ticket,
                 &(struct change){.kind = CHANGE_OUT,
                                  .session = obligation->owing->session,
                                  .id = id,
                                  .qos = 2,
                                  .obligation = obligation});
    obligation->refs++;
    store_seal(store, ticket);
    return ticket;
}

static void ticket_over(struct store *store, struct obligation *ob)
{
    struct ticket *ticket = ob->ticket;
    ob->ticket = NULL;
    if (ticket) {
        ticket->open--;
        close_if_done(store, ticket);
        ticket_unref(ticket);
    }
}

void ob_settled(struct store *store, struct obligation *ob)
{
    store->counts.pending_bytes -= ob->weight;
    ob->weight = 0;
    msg_unref(ob->msg);
    ob->msg = NULL;
    ticket_over(store, ob);
}

static void mark(struct store *store, struct owing *owing)
{
    if (!owing->marked) {
        owing->marked = true;
        owing->next_marked = store->marked;
        store->marked = owing;
    }
    lazy(store);
}

/* oldest: nothing older is owed to the session. A message that goes needs neither mark nor exception, but
 * exceptions from before need the mark that passes them. */
static void met(struct store *store, struct owing *owing, uint64_t number, bool oldest)
{
    bool gone = tally_less(&store->tally, number) == 0;
    if (gone) {
        store_change(store, NULL, &(struct change){.kind = CHANGE_MESSAGE_GONE, .number = number});
    }
    if (!owing || owing->gone) {
        return;
    }
    if (oldest && (!gone || owing->done)) {
        mark(store, owing);
    } else if (!oldest && !gone) {
        owing->done = owing->done > number ? owing->done : number;
        store_change(store, NULL,
                     &(struct change){.kind = CHANGE_DONE, .session = owing->session, .number = number});
    }
}

void ob_met(struct store *store, struct obligation *ob)
{
    struct owing *owing = ob->owing;
    bool oldest = owing && owing->first == ob && (owing->spilled == 0 || ob->number < owing->spilled);
    if (owing) {
        owing_take_out(owing, ob);
    }
    ob->stage = OB_OVER;
    met(store, owing, ob->number, oldest);
}

void ob_never_stored(struct store *store, struct obligation *ob)
{
    if (ob->owing) {
        owing_take_out(ob->owing, ob);
    }
    ob->stage = OB_OVER;
    store->counts.annihilated++;
    ob_settled(store, ob);
}

void store_discharge(struct store *store, struct obligation *ob)
{
    if (!ob) {
        return;
    }
    switch (ob->stage) {
    case OB_STORED:
        ob_met(store, ob);
        break;
    case OB_SENT: /* the rest when its batch is over */
        ob->stage = OB_MET;
        ticket_over(store, ob);
        if (ob->owing->gone) {
            owing_take_out(ob->owing, ob);
        }
        break;
    default:
        ob_take_out(ob->stage == OB_DUE ? &store->due : &store->waiting, ob);
        ob_never_stored(store, ob);
        store_look_blocked(store);
        break;
    }
    ob_unref(store, ob);
}

void store_discharge_spilled(struct store *store, struct owing *owing, uint64_t number)
{
    const struct obligation *first = owing->first;
    met(store, owing, number, !first || first->number == 0 || number < first->number);
}

void store_forget(struct obligation *obligation)
{
    owing_take_out(obligation->owing, obligation);
    obligation->stage = OB_OVER;
    ob_unref(NULL, obligation);
}

void store_fetch(struct store *store, struct fetch *fetch)
{
    store->storage->fetch(store->storage, fetch);
}

void store_rows_free(struct store *store, struct fetch *fetch)
{
    store->storage->rows_free(store->storage, fetch);
}

void store_hurry(struct store *store, struct owing *owing)
{
    if (owing->last && owing->last->stage == OB_WAITING) {
        make_due(store, owing->last);
    }
}

/* Those that are with the storage stand behind all that are stored. Of the session's own, not of all that are
 * under way: a great many sessions may end at once. */
void store_owing_over(struct store *store, struct owing *owing)
{
    owing->gone = true;
    for (struct obligation *ob = owing->last, *older; ob && ob->stage != OB_STORED; ob = older) {
        older = ob->older;
        if (ob->stage == OB_MET) {
            owing_take_out(owing, ob);
        }
    }
    for (struct owing **at = &store->marked; owing->marked && *at; at = &(*at)->next_marked) {
        if (*at == owing) {
            *at = owing->next_marked;
            owing->marked = false;
            return;
        }
    }
}
