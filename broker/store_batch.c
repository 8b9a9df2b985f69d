/*
 * store_batch.c - what is handed to the storage, and what becomes of it. See store.h.
 *
 * One batch is under way at a time; what comes meanwhile is the next group. A batch is one transaction:
 *
 *   the changes, as they came; the messages that are due, each with all to whom it is owed by now; marks
 *
 * A commit costs some pages beside what is in it, and the time of a sync, so it matters how many share one.
 * Publishers that wait for their acknowledgements come in step with the commits: those of the last batch
 * publish again when it is done, and find those who came meanwhile waiting. Were the next batch made at once,
 * there would be two groups that take turns. So it is made when as many are there as waited all together when
 * the last one was done, or after as long as that one has taken (at most times.gather): one group, and
 * nobody waits longer than for a commit that is under way. A single publisher waits for nobody.
 *
 * The hard part is a batch that fails. Nothing of it was kept, so all of it is open again, as if it had never
 * been handed over: what was owed is due again (and may be discharged without being written), the changes
 * come before those that came meanwhile. When the disk is full, what gives room goes first, in a batch of its
 * own, which may use the room that is kept free; only such changes are in it as mean the same before any
 * other.
 */
#include "broker/clock.h"
#include "broker/log.h"
#include "broker/store_parts.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RETRY_MS = 1000,
    BATCH_MOST = 4194304, /* bytes of messages in one, about */
    CHANGES_KEEP = 1024,  /* places that are kept when they are empty */
    GATHER_FROM_US = 200, /* a disk that is faster need not be spared */
};

/* ---- making one ---- */

static void change_free(struct change *change)
{
    msg_unref(change->msg);
    principal_unref(change->who);
    ticket_unref(change->ticket);
    ob_unref(NULL, change->obligation);
    free(change->text); /* or owed */
    *change = (struct change){.kind = CHANGE_VOID};
}

void changes_clear(struct changes *changes)
{
    for (size_t i = 0; i < changes->count; i++) {
        change_free(&changes->v[i]);
    }
    changes->count = 0;
    if (changes->cap > CHANGES_KEEP) {
        free(changes->v);
        *changes = (struct changes){NULL, 0, 0};
    }
}

/* Neighbours in the list that came with one publish are one row. */
static uint32_t together(const struct obligation *first)
{
    uint32_t n = 1;
    for (const struct obligation *ob = first->next; ob && first->ticket && ob->ticket == first->ticket;
         ob = ob->next) {
        n++;
    }
    return n;
}

static uint64_t hand_over_message(struct store *store)
{
    uint32_t n = together(store->due.first);
    struct change *change = store_append(&store->open);
    struct recipient *owed = malloc(n * sizeof *owed);
    if (!owed) {
        store_out_of_memory();
    }
    uint64_t weight = 0;
    *change = (struct change){.kind = CHANGE_MESSAGE,
                              .number = store_number(store),
                              .msg = msg_ref(store->due.first->msg),
                              .count = n,
                              .owed = owed};
    for (uint32_t i = 0; i < n; i++) {
        struct obligation *ob = store->due.first;
        ob_take_out(&store->due, ob);
        ob->stage = OB_SENT;
        ob->number = change->number;
        ob->refs++;
        ob_put(&store->under_way, ob);
        owed[i] = ob->to;
        weight += ob->weight;
    }
    return weight;
}

/* A bounded one: a group that is too large to be undone is no use to anybody. A whole ticket, whose parts are
 * in this batch, goes whole: what is due of it stands behind what is due before it. */
static void hand_over_messages(struct store *store)
{
    uint64_t weight = 0;
    while (store->due.first && (weight < BATCH_MOST || store->urgent > 0)) {
        weight += hand_over_message(store);
    }
}

/* The lowest number that is still owed to it. */
static uint64_t low(const struct store *store, const struct owing *owing)
{
    uint64_t number = owing->first ? owing->first->number : 0;
    if (owing->spilled && (number == 0 || owing->spilled < number)) {
        number = owing->spilled;
    }
    return number ? number : store->last + 1;
}

static void put_marks(struct store *store)
{
    while (store->marked) {
        struct owing *owing = store->marked;
        store->marked = owing->next_marked;
        owing->marked = false;
        uint64_t number = low(store, owing);
        owing->done = owing->done == UINT64_MAX ? store->last : owing->done;
        owing->done = owing->done < number ? 0 : owing->done;
        *store_append(&store->open) =
            (struct change){.kind = CHANGE_MARK, .session = owing->session, .number = number};
    }
}

/* An id that goes out is noted with the number that its message has only now. */
static void put_numbers(struct changes *changes)
{
    for (size_t i = 0; i < changes->count; i++) {
        struct change *change = &changes->v[i];
        if (change->kind == CHANGE_OUT && change->obligation) {
            change->number = change->obligation->number;
            if (change->obligation->stage == OB_OVER && change->number == 0) {
                change->kind = CHANGE_VOID; /* dropped before it was written */
            }
        }
    }
}

static void submit(struct store *store, bool removals)
{
    store->batch = (struct batch){.number = store->batch.number + 1,
                                  .last = store->last,
                                  .changes = store->sent.v,
                                  .count = store->sent.count,
                                  .removals = removals};
    store->busy = true;
    store->submitted_us = store->clock_us();
    store->storage->submit(store->storage, &store->batch);
}

static void submit_all(struct store *store)
{
    if (store->events.collect) {
        store->events.collect(store->events.arg);
    }
    hand_over_messages(store);
    put_marks(store);
    put_numbers(&store->open);
    struct changes spare = store->sent;
    store->sent = store->open;
    store->open = spare;
    store->urgent_sent = store->urgent + store->under_way.count;
    store->urgent = 0;
    store->lazy_deadline = 0;
    submit(store, false);
}

/* The inbound ids that kept changes take over, a bit for each, which it may share with others: there may be
 * tens of thousands, and as many that are free again. */
struct taken_ids {
    uint64_t bits[128];
};

/* Whether it was set before. */
static bool id_taken(struct taken_ids *ids, const struct change *change, bool set)
{
    size_t at = (size_t)((change->session * 0x9E3779B97F4A7C15ULL >> 32) + change->id) % 8192;
    uint64_t bit = (uint64_t)1 << at % 64;
    bool was = ids->bits[at / 64] & bit;
    ids->bits[at / 64] |= set ? bit : 0;
    return was;
}

/* It frees room, and means the same before the kept ones that it overtakes. */
static bool may_go_first(const struct change *change, struct taken_ids *kept)
{
    return change->kind == CHANGE_MESSAGE_GONE ||
           (change->kind == CHANGE_IN_ID_DONE && !id_taken(kept, change, false));
}

/* False: there is nothing to remove. */
static bool submit_removals(struct store *store)
{
    size_t kept = 0;
    struct taken_ids ids = {{0}};
    for (size_t i = 0; i < store->open.count; i++) {
        struct change *change = &store->open.v[i];
        if (may_go_first(change, &ids)) {
            store->urgent -= change->ticket != NULL;
            *store_append(&store->sent) = *change;
        } else {
            id_taken(&ids, change, change->kind == CHANGE_IN_ID);
            store->open.v[kept++] = *change;
        }
    }
    store->open.count = kept;
    if (store->sent.count == 0) {
        return false;
    }
    submit(store, true);
    return true;
}

/* ---- when ---- */

static void look_deadlines(struct store *store, bool all)
{
    if (!store->waiting.first) {
        return;
    }
    int64_t now = all ? INT64_MAX : store->clock();
    while (store->waiting.first && store->waiting.first->deadline <= now) {
        struct obligation *ob = store->waiting.first;
        ob_take_out(&store->waiting, ob);
        ob->stage = OB_DUE;
        ob_put(&store->due, ob);
    }
}

static void gather(struct store *store)
{
    int64_t now = store->clock_us(), took = now - store->submitted_us, most = store->times.gather * 1000;
    store->gather = 0;
    if (took >= GATHER_FROM_US && !store->batch.removals) {
        store->gather = store->urgent_sent + store->due.count + store->urgent;
        store->gather_us = now + (took < most ? took : most);
    }
}

/* Microseconds for which others are waited for. */
static int64_t gathers(const struct store *store)
{
    int64_t left =
        store->gather > store->due.count + store->urgent ? store->gather_us - store->clock_us() : 0;
    return left > 0 ? left : 0;
}

static bool lazy_due(const struct store *store, bool all)
{
    return store->lazy_deadline != 0 && (all || store->lazy_deadline <= store->clock());
}

/* After a failure it is tried again, also when all that waited was discharged meanwhile: an empty batch asks
 * whether the disk works. Those who are held have put nothing that would. */
void store_submit(struct store *store, bool all)
{
    if (!store->storage || store->busy || (store->failed && !all && store->clock() < store->retry_at)) {
        return;
    }
    look_deadlines(store, all);
    if (!store->due.first && store->urgent == 0 && !lazy_due(store, all) && !store->failed) {
        return;
    }
    if (!all && gathers(store) > 0) {
        return;
    }
    if (!(store->full && submit_removals(store))) {
        submit_all(store);
    }
}

int64_t store_next(const struct store *store)
{
    if (!store->storage || store->busy) {
        return -1;
    }
    int64_t at = INT64_MAX, now = store->clock();
    if (store->due.first || store->urgent > 0) {
        at = now + (gathers(store) + 999) / 1000;
    }
    if (store->waiting.first && store->waiting.first->deadline < at) {
        at = store->waiting.first->deadline;
    }
    if (store->lazy_deadline && store->lazy_deadline < at) {
        at = store->lazy_deadline;
    }
    if (store->failed) {
        at = store->retry_at;
    }
    if (at == INT64_MAX) {
        return -1;
    }
    return at > now ? at - now : 0;
}

bool store_idle(const struct store *store)
{
    return !store->storage || (!store->busy && !store->due.first && !store->waiting.first &&
                               store->open.count == 0 && store->lazy_deadline == 0);
}

/* ---- what became of it ---- */

static void stored(struct store *store, struct obligation *ob)
{
    bool over = ob->stage == OB_MET;
    ob_take_out(&store->under_way, ob);
    ob_settled(store, ob);
    if (over) {
        ob_met(store, ob);
    } else {
        struct owing *owing = ob->owing;
        ob->stage = OB_STORED;
        if (owing->spills && store->events.stored) {
            store->events.stored(store->events.arg, owing, ob->number);
        }
    }
    ob_unref(store, ob);
}

static void message_stored(struct store *store, const struct change *change)
{
    store->counts.messages++;
    store_loaded(store, change->number, change->count);
    for (uint32_t i = 0; i < change->count; i++) {
        stored(store, store->under_way.first);
    }
}

static void well_again(struct store *store)
{
    if (!store->failed) {
        return;
    }
    store->retry_at = 0;
    if (!store->batch.removals) {
        store->failed = store->full = false;
        log_write(LOG_T_NOTICE, "The durable store works again; what waited is stored.");
        store_look_blocked(store);
    }
}

static void on_committed(void *arg, uint64_t number)
{
    struct store *store = arg;
    if (!store->busy || number != store->batch.number) {
        return;
    }
    store->busy = false;
    store->counts.batches++;
    gather(store);
    for (size_t i = 0; i < store->sent.count; i++) {
        struct change *change = &store->sent.v[i];
        if (change->kind == CHANGE_MESSAGE) {
            message_stored(store, change);
        }
        if (change->ticket) {
            ticket_part_over(store, change->ticket);
        }
    }
    changes_clear(&store->sent);
    well_again(store);
    store_look_blocked(store);
}

/* What was owed is due again, before what came later. */
static void take_back_messages(struct store *store)
{
    struct ob_list due = store->due;
    store->due.first = NULL;
    store->due.last = &store->due.first;
    store->due.count = 0;
    while (store->under_way.first) {
        struct obligation *ob = store->under_way.first;
        ob_take_out(&store->under_way, ob);
        ob->number = 0;
        if (ob->stage == OB_MET) {
            ob_never_stored(store, ob);
        } else {
            ob->stage = OB_DUE;
            ob_put(&store->due, ob);
        }
        ob_unref(store, ob);
    }
    if (due.first) {
        due.first->link = store->due.last;
        *store->due.last = due.first;
        store->due.last = due.last;
        store->due.count += due.count;
    }
}

/* Whoever collects it next time has the last value only. Else each attempt would add those that have changed
 * since, as long as the disk is full. */
static bool noted_again(struct store *store, const struct change *change)
{
    return change->kind == CHANGE_RETAINED && !change->ticket && store->events.again &&
           store->events.again(store->events.arg, change->msg);
}

static void take_back_changes(struct store *store)
{
    struct changes later = store->open;
    store->open = store->sent;
    store->sent = (struct changes){NULL, 0, 0};
    bool noted = false;
    size_t kept = 0;
    for (size_t i = 0; i < store->open.count; i++) {
        struct change *change = &store->open.v[i];
        if (change->kind == CHANGE_MESSAGE || noted_again(store, change)) {
            noted |= change->kind == CHANGE_RETAINED;
            change_free(change);
        } else {
            store->urgent += change->ticket != NULL;
            store->open.v[kept++] = *change;
        }
    }
    store->open.count = kept;
    for (size_t i = 0; i < later.count; i++) {
        *store_append(&store->open) = later.v[i];
    }
    free(later.v);
    if ((noted || store->open.count > 0) && store->lazy_deadline == 0) {
        store->lazy_deadline = store->clock();
    }
}

static void on_failed(void *arg, uint64_t number, enum storage_error error, const char *why)
{
    struct store *store = arg;
    if (!store->busy || number != store->batch.number) {
        return;
    }
    store->busy = false;
    store->counts.failures++;
    bool full = error == STORAGE_FULL; /* and why tells another figure each time */
    bool news = !store->failed || store->full != full || (!full && strcmp(store->trouble, why) != 0);
    snprintf(store->trouble, sizeof store->trouble, "%s", why);
    if (news) {
        log_write(LOG_T_ERROR,
                  "The durable store has failed: %s. Nothing that must be stored is acknowledged, and who "
                  "publishes it is held, until it works again.",
                  why);
    }
    store->failed = true;
    store->full = full;
    store->retry_at = store->clock() + RETRY_MS;
    store->gather = 0;
    take_back_messages(store);
    take_back_changes(store);
    store_look_blocked(store);
}

void store_batch_listen(struct store *store)
{
    store->storage->events =
        (struct storage_events){.arg = store, .committed = on_committed, .failed = on_failed};
}
