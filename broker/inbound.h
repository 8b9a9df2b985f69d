/*
 * inbound.h - the inbound QoS 2 identifiers of a session: taken over by PUBLISH, free again with PUBREL
 * [MQTT-4.3.3-2].
 *
 * Each keeps the ticket of its PUBLISH, so that a repeated PUBLISH gets no PUBREC before the first one's
 * ticket closes. Nothing obliges a client to send PUBREL ever, nor to use identifiers in any order: a session
 * may have all 65535 of them, so every operation has to cost the same with one as with all. They stand in
 * pages of 64, and the pages, at most 1024, in a sorted list.
 *
 *     pages -> | 0 | 3 | 1023 |        page 3: identifiers 192 to 255
 *                    \-> used: a bit each; ticket[64]
 */
#ifndef BRAMBLE_INBOUND_H
#define BRAMBLE_INBOUND_H

#include "broker/store.h"

struct inbound_page;

struct inbound {
    struct inbound_page **page; /* in rising order; none is empty */
    uint32_t pages, cap;
    uint32_t count;       /* identifiers */
    struct ticket *freed; /* of the last one that was removed, until it is stored: a reference, or NULL */
};

/* Whether the identifier is taken. *ticket (if not NULL): its PUBLISH's, borrowed, or NULL. */
bool inbound_has(const struct inbound *in, uint16_t id, struct ticket **ticket);
/* Adds one that is not taken, and a reference on ticket, which may be NULL. 0, or -1 without memory. */
int inbound_add(struct inbound *in, uint16_t id, struct ticket *ticket);
/* False when it was not taken. */
bool inbound_remove(struct inbound *in, uint16_t id);
/* That the last one is free is stored when this ticket is closed, and so are all before it; a reference. */
void inbound_freed(struct inbound *in, struct ticket *ticket);
void inbound_free(struct inbound *in);

#endif
