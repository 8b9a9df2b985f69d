/*
 * storage.h - the port to stable storage: takes batches of changes, says when each is on disk.
 *
 * No adapter exists yet (SQLite comes with the durable store); without one nothing is durable and every
 * ticket is closed from the start. The shape is fixed now, because acknowledgements are built on it
 * (store.h).
 */
#ifndef BRAMBLE_STORAGE_H
#define BRAMBLE_STORAGE_H

#include <stddef.h>
#include <stdint.h>

struct msg;
struct ticket;

enum change_kind {
    CHANGE_VOID,       /* annihilated before it was handed over */
    CHANGE_DELIVERY,   /* an obligation: session, msg, id (0: not sent yet), qos */
    CHANGE_DISCHARGE,  /* that obligation is met: lazy */
    CHANGE_OUT_STATE,  /* outbound QoS 2: PUBREC was received */
    CHANGE_IN_ID,      /* inbound QoS 2 id taken over */
    CHANGE_IN_ID_DONE, /* inbound QoS 2 id released by PUBREL */
    CHANGE_RETAINED,   /* msg replaces (empty payload: removes) what was retained on its topic */
    CHANGE_SUBSCRIBE,
    CHANGE_UNSUBSCRIBE,
};

struct change {
    enum change_kind kind;
    uint8_t qos;
    uint16_t id;
    uint64_t session; /* session number */
    uint64_t seq;     /* of the delivery in its session */
    struct msg *msg;  /* a reference that only the loop takes and drops; may be NULL */
    struct ticket *ticket;
};

struct batch {
    uint64_t number;
    struct change *changes;
    size_t count;
};

struct storage {
    /* Takes the batch, which stays valid and unchanged until store_committed(batch->number) has been called
     * on the loop. */
    void (*submit)(struct storage *storage, const struct batch *batch);
};

#endif
