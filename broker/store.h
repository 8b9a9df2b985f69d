/*
 * store.h - what must be on disk before whom may be told: tickets, obligations and batches.
 *
 * A ticket stands for one publish (or one other packet that is answered). It counts the durable deliveries
 * that are still open and the parts that only a commit can close, and closes when nothing of either is left:
 * an obligation ends by a commit, or before that because it was discharged (acknowledged, dropped by rule,
 * session gone). A held PUBACK leaves when its ticket is closed (outq.h). NULL is a closed ticket: nothing
 * durable to wait for.
 *
 *   router_publish               ev_prepare              storage thread         mailbox
 *   store_begin                  store_submit ---------> write, fsync --------> storage_events.committed
 *    store_owe *  store_part *     the changes that are due                      tickets close ->
 * closed(holder) store_seal
 *
 * An obligation has three stages:
 *
 *     OPEN --------due--------> SENT ----commit----> STORED          discharged while OPEN: never written at
 * all
 *       ^---------failed--------'                                     SENT: after the commit, as if STORED
 *                                                                     STORED: lazily, by a mark or a removal
 *
 * It is due at once, unless its session is online: then its client has persistence_commit_delay to
 * acknowledge. So the deliveries of one QoS 1 publish may go in several batches, and those to clients that
 * are there go in none; its PUBACK waits for all of them. A publish with a part of its own (store_part)
 * goes whole, in one transaction.
 *
 * Domain layer: no thread, no descriptor. References are counted on the loop.
 */
#ifndef BRAMBLE_STORE_H
#define BRAMBLE_STORE_H

#include "broker/storage.h"

struct store;

struct ticket {
    uint32_t refs;
    uint32_t open;  /* obligations that are neither committed nor discharged */
    uint32_t parts; /* open, commit-only */
    bool sealed;    /* no more will be added */
    bool closed;
    bool whole;      /* all of it is one transaction */
    uint64_t holder; /* id of the connection that waits for it, 0: none */
};

static inline bool ticket_closed(const struct ticket *ticket)
{
    return !ticket || ticket->closed;
}

struct ticket *ticket_ref(struct ticket *ticket); /* NULL is allowed */
void ticket_unref(struct ticket *ticket);         /* NULL is allowed */

/* What is owed to one kept session, in the order of its deliveries. Part of the session. */
struct owing {
    uint64_t session; /* its number */
    struct obligation *first, *last;
    uint64_t spilled; /* the lowest number of those that are only in the store (session_spill.h), 0: none */
    uint64_t done; /* the highest number of a CHANGE_DONE that its mark has not passed, 0: none; UINT64_MAX:
                      it was read back, and may have some */
    struct owing *next_marked;
    bool marked; /* its mark has moved since the last batch */
    bool gone;   /* what is discharged now needs no mark any more */
    bool spills; /* stored(owing, number) is called for each that is committed */
};

struct obligation; /* a delivery has one when it is durable */

struct store_events {
    void *arg;
    /* A held ticket was closed. */
    void (*closed)(void *arg, uint64_t holder);
    /* The oldest obligation of a session that spills and that was not stored yet, is now. */
    void (*stored)(void *arg, struct owing *owing, uint64_t number);
    /* A batch is being made: time for store_change() of what is only noted as changed. */
    void (*collect)(void *arg);
    /* A batch with this CHANGE_RETAINED has failed: it is to be noted as changed, unless it has changed
     * since. False: no memory, the store goes on with it itself. */
    bool (*again)(void *arg, struct msg *retained);
    /* store_blocked() has another answer now. */
    void (*blocked)(void *arg, bool blocked);
};

/* How long things may wait, in milliseconds. */
struct store_times {
    int64_t commit_delay; /* urgent, but those who are there may acknowledge first */
    int64_t lazy_delay;   /* nobody waits for it */
    int64_t gather;       /* for those who publish again after a commit; never longer than that took */
};

/* storage NULL: nothing is durable, no ticket is ever made; else its events are set. events may have NULLs.
 * NULL without memory. */
struct store *store_new(struct storage *storage, const struct store_events *events);
void store_free(struct store *store);
void store_use_times(struct store *store, const struct store_times *times);
/* Numbers go on behind that one (of what was read back). */
void store_go_on(struct store *store, uint64_t last);

/* Whether there is anything behind it. */
bool store_durable(const struct store *store);
/* A number for a session or a message that was never given before. */
uint64_t store_number(struct store *store);
/* Who asks for something that must be stored has to wait: the store has failed, or too much waits for it. */
bool store_blocked(const struct store *store);
/* The reason of the last failure, "" when there is none. */
const char *store_trouble(const struct store *store);

/* Opens a ticket, one reference for the caller; NULL when nothing is durable. Without memory it ends the
 * process: an acknowledgement without a ticket would be a lie. */
struct ticket *store_begin(struct store *store);

/* What has changed. The store takes references on msg and who, and copies text (count bytes). Urgent with a
 * ticket, of which it becomes a part, else lazy. CHANGE_VOID: something that collect() will tell. A
 * CHANGE_IN_ID or CHANGE_WILL_GONE makes the ticket whole, and comes before what is owed. Nothing is done
 * when nothing is durable. */
void store_change(struct store *store, struct ticket *ticket, const struct change *change);

/* All parts are in: from now on the ticket may close (and closes at once when nothing was put). NULL is
 * allowed. */
void store_seal(struct store *store, struct ticket *ticket);

/* msg is owed to a kept session. online: its client is there and may acknowledge before the batch is due.
 * ticket NULL: nobody waits for it (lazy). One reference for the caller, or NULL when nothing is durable. */
struct obligation *store_owe(struct store *store, struct ticket *ticket, struct owing *owing,
                             const struct recipient *recipient, struct msg *msg, bool online);
/* The same for one that was read back: it is stored, under this number. */
struct obligation *store_owed(struct owing *owing, uint64_t number);
/* At start: to how many sessions a message is owed. May be said again, before another number is. */
void store_loaded(struct store *store, uint64_t number, uint32_t owed);

/* The number of its row; 0: it has none yet. */
uint64_t store_number_of(const struct obligation *obligation);
/* The delivery went out (QoS 1): should its row be written later, then with this id. NULL is allowed. */
void store_sent_as(struct obligation *obligation, uint16_t id);
/* QoS 2: the id is to be on disk with the message before the delivery goes out. A reference on the ticket to
 * wait for; obligation NULL: nothing to wait for (NULL). */
struct ticket *store_out(struct store *store, struct obligation *obligation, uint16_t id);

/* It is met, or ended by a rule; the caller's reference ends. NULL is allowed. */
void store_discharge(struct store *store, struct obligation *ob);
/* The same of one that is only in the store (session_spill.c). */
void store_discharge_spilled(struct store *store, struct owing *owing, uint64_t number);
/* A stored one is only in the store from now on: the caller's reference ends, the obligation does not. */
void store_forget(struct obligation *obligation);

/* Reads messages that are only in the store (storage.h), and takes the answer's rows back. */
void store_fetch(struct store *store, struct fetch *fetch);
void store_rows_free(struct store *store, struct fetch *fetch);

/* Its client has gone: what could have been acknowledged is due. */
void store_hurry(struct store *store, struct owing *owing);
/* The session is at its end, and what is discharged from now on needs no mark. */
void store_owing_over(struct store *store, struct owing *owing);

/* Hands over what is due now, if nothing is under way. all: whatever there is (the broker stops). */
void store_submit(struct store *store, bool all);
/* Milliseconds until store_submit() has something to do, without any change until then; -1: nothing. */
int64_t store_next(const struct store *store);
/* Changes that were put and are not committed. */
size_t store_changes(const struct store *store);
/* Whether everything that was put is committed. */
bool store_idle(const struct store *store);

/* For $SYS. */
struct store_counts {
    uint64_t batches, messages; /* that were committed */
    uint64_t annihilated;       /* obligations that were never written */
    uint64_t failures;          /* of batches */
    uint64_t pending_bytes;     /* of obligations that are not committed */
};
const struct store_counts *store_counts(const struct store *store);

#endif
