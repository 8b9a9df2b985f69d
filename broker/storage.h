/*
 * storage.h - the port to stable storage: takes batches of changes, says when each is on disk, reads back.
 *
 * The adapter is store_sqlite.c. Without one nothing is durable and every ticket is closed from the start.
 *
 * What is kept (each number is given once and never again, also after a restart):
 *
 *   message   number, topic, payload, QoS, origin, and to whom it is owed: (session, QoS, id), ...
 *   session   number, client id, who, and its mark: nothing with a lower number is owed to it any more
 *   done      (session, number): above the mark, but not owed any more
 *   out, in   packet identifiers in use: of QoS 2 in both directions, and what the outbound ones carry
 *   retained, subscription, will
 *
 * A message is written once, in one row with all to whom it is owed, and that row is never changed: it goes
 * when nobody is owed it any more. A client acknowledges nearly always in order, so what it has acknowledged
 * is one number, its mark, however much that was. One publish to 1000 sessions that are away is one row, and
 * one of them that comes back and takes 1000 messages is a mark that moves: not 1000 rows in as many pages.
 */
#ifndef BRAMBLE_STORAGE_H
#define BRAMBLE_STORAGE_H

#include "broker/mailbox.h"
#include "broker/slice.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct msg;
struct obligation;
struct principal;
struct ticket;

/* In the order of a batch. An adapter passes over CHANGE_VOID. */
enum change_kind {
    CHANGE_VOID,
    CHANGE_MESSAGE,      /* number, msg, owed[count]: as above; at least one */
    CHANGE_MESSAGE_GONE, /* number: nobody is owed it any more */
    CHANGE_MARK,         /* session, number: what has a lower number is not owed to it */
    CHANGE_DONE,         /* session, number: not owed to it, but older ones are */
    CHANGE_OUT,        /* session, id, qos, number: it goes out under this id; number 0: only the id is in use
                          (PUBREC came). Replaces what was noted for the id */
    CHANGE_OUT_DONE,   /* session, id: free (PUBCOMP); it may be unknown */
    CHANGE_IN_ID,      /* session, id: inbound QoS 2 id taken over */
    CHANGE_IN_ID_DONE, /* session, id: free (PUBREL) */
    CHANGE_RETAINED,   /* msg is retained on its topic; empty payload: nothing is, any more */
    CHANGE_SESSION,    /* session, text (client id), who: new, or another who */
    CHANGE_SESSION_GONE, /* session, with all that is its own; messages owed to it go by CHANGE_MESSAGE_GONE
                          */
    CHANGE_SUBSCRIBE,    /* session, text (topic filter), qos, owing: new, or replaced */
    CHANGE_UNSUBSCRIBE,  /* session, text */
    CHANGE_WILL,         /* text (client id), msg: published by whoever starts next, unless it goes before */
    CHANGE_WILL_GONE,    /* text (client id) */
    CHANGE_KINDS
};

/* One to whom a message is owed. */
struct recipient {
    uint64_t session;
    uint16_t id; /* QoS 1: under which it went out, 0: not known. QoS 2: see CHANGE_OUT */
    uint8_t qos;
    bool retain; /* sent because of a new subscription */
};

struct change {
    uint8_t kind;
    uint8_t qos;
    uint16_t id;
    bool owing;     /* a subscription: its retained messages are still to be sent */
    uint32_t count; /* of recipients, or bytes of text */
    uint64_t session, number;
    struct msg *msg;       /* a reference that only the loop takes and drops; may be NULL */
    struct principal *who; /* the same */
    union {
        struct recipient *owed;
        uint8_t *text;             /* no zero at its end */
    };                             /* the domain's, valid as long as the batch */
    struct ticket *ticket;         /* the domain's, as the next */
    struct obligation *obligation; /* CHANGE_OUT: whose number it is */
};

/* One without changes is asked after a failure: is the disk ready for more? So it is not committed without a
 * write. */
struct batch {
    uint64_t number;
    uint64_t last; /* the highest number that was ever given to a message or session */
    struct change *changes;
    size_t count;
    bool removals; /* nothing in it takes more room: it may use what is kept free (persistence_min_free) */
};

enum storage_error {
    STORAGE_FULL,  /* no space, or less than is to be kept free */
    STORAGE_ERROR, /* I/O error, read-only, damage: why says it */
};

/* What is read back. Numbers of listeners are those of now; LISTENER_GONE: it is not there any more. */
enum { LISTENER_GONE = -2 };

struct stored_origin {
    uint64_t number; /* the same number: the same origin; 0: the broker itself, the rest is empty */
    const char *client_id, *user, *address, *tls_version, *cert_cn, *cert_subject, *cert_sha256; /* or NULL */
    int listener;
};

struct stored_message {
    uint64_t number; /* 0: not one that is owed (retained, will) */
    struct slice topic, payload;
    uint8_t qos;
    bool retain; /* as it was published */
    struct stored_origin origin;
};

struct stored_delivery {
    uint64_t session;
    uint32_t others; /* to how many more sessions the same message is owed */
    uint16_t id;     /* 0: never sent, as far as is known */
    uint8_t qos;
    bool retain;
    const struct stored_message *message;
};

/* What was in the file, told once at start, in this order; whatever is pointed to ends with the call. Each
 * returns 0, or -1: no memory, the start fails. */
struct storage_reader {
    void *arg;
    int (*session)(void *arg, uint64_t number, const char *client_id, const struct stored_origin *who);
    int (*subscription)(void *arg, uint64_t session, struct slice filter, uint8_t qos, bool owing);
    int (*inbound)(void *arg, uint64_t session, uint16_t id);
    int (*released)(void *arg, uint64_t session, uint16_t id); /* outbound, PUBREC came */
    int (*retained)(void *arg, const struct stored_message *message);
    int (*delivery)(void *arg, const struct stored_delivery *delivery); /* in rising order of numbers */
    int (*will)(void *arg, const char *client_id, const struct stored_message *message);
};

/* Messages of one session that are to come back from the file (session_spill.c). Everything is the asker's
 * but rows, which the adapter makes and storage_rows_free() takes. */
struct fetch {
    struct mail mail; /* first: fn is called on the loop when it is done; set by the asker */
    uint64_t session;
    uint32_t count;    /* of numbers; the answer may have fewer, at least one, when they are large */
    uint64_t *numbers; /* rising */
    /* the answer */
    bool failed;                  /* it could not be read now: ask again later */
    struct stored_delivery *rows; /* in the same order; one without message: its row is damaged or missing */
};

struct storage_events {
    void *arg;
    /* On the loop, for each batch that was submitted, one of the two. failed: nothing of it was kept. */
    void (*committed)(void *arg, uint64_t batch);
    void (*failed)(void *arg, uint64_t batch, enum storage_error error, const char *why);
};

struct storage {
    struct storage_events events; /* set by store_new() */
    /* Takes the batch, which stays valid and unchanged until it was committed or has failed. One at a time.
     */
    void (*submit)(struct storage *storage, const struct batch *batch);
    /* Reads, on a thread and a connection of its own: never behind a submit. */
    void (*fetch)(struct storage *storage, struct fetch *fetch);
    void (*rows_free)(struct storage *storage, struct fetch *fetch);
};

#endif
