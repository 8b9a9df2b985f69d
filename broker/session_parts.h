/*
 * session_parts.h - what the files of a session share: session.c (what comes and goes) and session_sweep.c
 * (what rights that end take back). Nobody else includes it.
 */
#ifndef BRAMBLE_SESSION_PARTS_H
#define BRAMBLE_SESSION_PARTS_H

#include "broker/session.h"

/* session.c: the delivery becomes a tombstone, its obligation is discharged. */
void session_drop(struct sessions *sessions, struct session *session, struct delivery *d);
/* Tombstones leave the sent ring, as far as may be. */
void session_tidy_sent(struct session *session);
/* Has it stored that only PUBREL may follow for this identifier. A reference for the caller, or NULL. */
struct ticket *session_released(struct sessions *sessions, struct session *session, uint16_t id);

/* session_sweep.c: the connection ends, on which answers to D_RETIRED would have come. */
void session_retired_over(struct session *session);

#endif
