/*
 * store.h - what must be on disk before whom may be told: tickets and batches.
 *
 * A ticket stands for one publish (or one other packet that is answered). It counts the durable deliveries
 * that are still open and the parts that only a commit can close. It closes
 *   - when the batch that holds its changes is committed, or
 *   - when no commit-only part is left and every delivery was discharged (acknowledged, dropped by rule,
 * session gone). A held PUBACK leaves when its ticket is closed (outq.h). NULL is a closed ticket: nothing
 * durable to wait for.
 *
 *   router_publish            ev_prepare             storage thread          mailbox
 *   store_begin               store_submit ------->  write, fsync  ------->  store_committed
 *    store_put_delivery *                                                     tickets close ->
 * on_close(holder) store_put *              a delivery that is discharged before its batch is handed over
 * annihilates: no write at all store_seal
 *
 * Domain layer: no thread, no descriptor. References of tickets are counted on the loop.
 */
#ifndef BRAMBLE_STORE_H
#define BRAMBLE_STORE_H

#include "broker/storage.h"
#include <stdbool.h>

struct delivery;
struct store;

struct ticket {
    uint32_t refs;
    uint32_t deliveries; /* open */
    uint32_t parts;      /* open, commit-only */
    bool sealed;         /* no more will be added */
    bool closed;
    uint64_t batch;  /* where its changes are */
    uint64_t holder; /* id of the connection that waits for it, 0: none */
};

static inline bool ticket_closed(const struct ticket *ticket)
{
    return !ticket || ticket->closed;
}

struct ticket *ticket_ref(struct ticket *ticket); /* NULL is allowed */
void ticket_unref(struct ticket *ticket);         /* NULL is allowed */

/* storage NULL: nothing is durable, no ticket is ever made. on_close(arg, holder) is called when a held
 * ticket closes. NULL without memory. */
struct store *store_new(struct storage *storage, void (*on_close)(void *arg, uint64_t holder), void *arg);
void store_free(struct store *store);

/* Whether there is anything behind it. */
bool store_durable(const struct store *store);

/* Opens a ticket, one reference for the caller; NULL when nothing is durable. Without memory it ends the
 * process: an acknowledgement without a ticket would be a lie. */
struct ticket *store_begin(struct store *store);

/* Adds a durable delivery of the ticket's publish. delivery gets the ticket and its place. ticket NULL: does
 * nothing. */
void store_put_delivery(struct store *store, struct ticket *ticket, uint64_t session,
                        struct delivery *delivery);

/* Adds a part that only a commit closes. msg may be NULL. ticket NULL: does nothing. */
void store_put(struct store *store, struct ticket *ticket, enum change_kind kind, uint64_t session,
               struct msg *msg, uint16_t id);

/* All parts are in: from now on the ticket may close (and closes at once when nothing was put). NULL is
 * allowed. */
void store_seal(struct store *store, struct ticket *ticket);

/* The obligation of this delivery is met, or ended by a rule. */
void store_discharge(struct store *store, uint64_t session, struct delivery *delivery);

/* Hands the batch over, if somebody waits for one of its changes; with lazy_too also when nobody does. One
 * batch is under way at a time: what comes meanwhile is the next group. */
void store_submit(struct store *store, bool lazy_too);

/* The batch is on stable storage. */
void store_committed(struct store *store, uint64_t batch);

#endif
