/*
 * store_parts.h - what the files of the store share: store.c (tickets, obligations) and store_batch.c (what
 * is handed over, and what becomes of it). Nobody else includes it.
 */
#ifndef BRAMBLE_STORE_PARTS_H
#define BRAMBLE_STORE_PARTS_H

#include "broker/msg.h"
#include "broker/store.h"
#include "broker/tally.h"

enum stage {
    OB_WAITING, /* its client may still acknowledge */
    OB_DUE,     /* goes with the next batch */
    OB_SENT,    /* with the storage */
    OB_MET,     /* the same, but it was discharged meanwhile */
    OB_STORED,
    OB_OVER, /* discharged; it is there as long as a change or a batch has it */
};

struct obligation {
    struct obligation *older, *newer; /* of its session */
    struct obligation *next, **link;  /* of one of the store's lists, unless it is stored or over */
    struct owing *owing;              /* NULL: over */
    struct ticket *ticket;            /* a reference, until it is committed; or NULL */
    struct msg *msg;                  /* the same */
    uint64_t number;                  /* 0: it has none yet */
    int64_t deadline;                 /* OB_WAITING */
    uint32_t refs;                    /* its delivery, its place in a batch, each CHANGE_OUT */
    uint32_t weight;                  /* in pending_bytes */
    struct recipient to;
    uint8_t stage;
};

enum { SPARES_MOST = 1024 };

struct ob_list {
    struct obligation *first, **last;
    size_t count;
};

struct changes {
    struct change *v;
    size_t count, cap;
};

struct store {
    struct storage *storage;
    struct store_events events;
    struct store_times times;
    int64_t (*clock)(void); /* clock_ms(), but in tests */
    int64_t (*clock_us)(void);
    uint64_t last;            /* number given */
    uint64_t loaded;          /* the last one that store_loaded() was told of */
    struct tally tally;       /* of stored messages owed to more than one */
    struct obligation *spare; /* by next: to be used again */
    uint32_t spares;

    struct ob_list waiting, due; /* in the order of publishing */
    struct changes open;
    size_t urgent;         /* changes in open that somebody waits for */
    size_t urgent_sent;    /* the same of the batch under way, and the obligations in it */
    int64_t lazy_deadline; /* when open goes although nobody waits; 0: there is nothing */
    struct owing *marked;

    bool busy; /* a batch is with the storage */
    struct batch batch;
    struct changes sent;
    struct ob_list under_way;
    int64_t submitted_us; /* clock_us() */
    size_t gather;        /* so much that somebody waits for is expected, until... */
    int64_t gather_us;

    bool failed, full;
    int64_t retry_at;
    char trouble[256];
    bool blocked;
    struct store_counts counts;
};

/* store.c */
void store_out_of_memory(void) __attribute__((noreturn));
struct change *store_append(struct changes *changes);
void ob_put(struct ob_list *list, struct obligation *ob);
void ob_take_out(struct ob_list *list, struct obligation *ob);
void ob_unref(struct store *store, struct obligation *ob); /* store NULL: it is not kept to be used again */
/* Nothing of it waits to be stored any more: its message and its ticket go. */
void ob_settled(struct store *store, struct obligation *ob);
/* It has been stored, and discharged: its message goes, or the session's mark moves. */
void ob_met(struct store *store, struct obligation *ob);
/* It was discharged, and nothing of it is in the store. */
void ob_never_stored(struct store *store, struct obligation *ob);
void ticket_part_over(struct store *store, struct ticket *ticket);
/* Tells when store_blocked() has another answer. */
void store_look_blocked(struct store *store);

/* store_batch.c */
void store_batch_listen(struct store *store); /* sets the storage's events */
void changes_clear(struct changes *changes);

#endif
