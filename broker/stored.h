/*
 * stored.h - what comes back from the store becomes messages and principals again.
 *
 * Each message in the store has an origin: who published it, as it was then. Many messages have the same one,
 * and it has a number, so those that were met lately are kept and shared: a thousand messages of one
 * publisher come back with one principal, not with a thousand. Used at start (restore.h) and when messages of
 * a session come back page by page (session_spill.h). Loop thread only.
 */
#ifndef BRAMBLE_STORED_H
#define BRAMBLE_STORED_H

#include "broker/msg.h"
#include "broker/storage.h"

struct stored_origins;

/* Keeps at most that many principals (at least one); whoever has a reference on one that goes keeps it. NULL
 * without memory. */
struct stored_origins *stored_origins_new(uint32_t most);
void stored_origins_free(struct stored_origins *origins); /* NULL is allowed */

/* *who: one reference for the caller; NULL: the broker itself. Its listener may be LISTENER_GONE. 0, or -1
 * without memory. */
int stored_principal(struct stored_origins *origins, const struct stored_origin *origin,
                     struct principal **who);

/* The message, as it was published. One reference for the caller; NULL without memory. */
struct msg *stored_msg(struct stored_origins *origins, const struct stored_message *message);

#endif
