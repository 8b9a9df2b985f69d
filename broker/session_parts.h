/*
 * session_parts.h - what the files of a session share: session.c (what comes and goes), session_take.c (what
 * goes out), session_sweep.c (what rights that end take back), session_restore.c and session_spill.c (what
 * comes from the store). Nobody else includes it.
 */
#ifndef BRAMBLE_SESSION_PARTS_H
#define BRAMBLE_SESSION_PARTS_H

#include "broker/session.h"

/* session.c: the delivery becomes a tombstone, its obligation is discharged. */
void session_drop(struct sessions *sessions, struct delivery *d);
/* The same for all in the ring, at most *places, which is counted down. True when it is empty, and freed. */
bool session_drop_some(struct sessions *sessions, struct ring *ring, size_t *places);
/* A message waits in memory for this session, or does no more: the accounts. */
void session_queued(struct sessions *sessions, struct session *session, const struct msg *msg);
void session_unqueued(struct sessions *sessions, struct session *session, const struct msg *msg);

/* session_take.c: tombstones leave the sent ring, as far as may be. */
void session_tidy_sent(struct session *session);
/* An identifier that no delivery under way uses [MQTT-2.3.1-4], behind skip others. */
uint16_t session_next_id(struct session *session, uint16_t skip);
/* Only PUBREL may follow for this one: its message goes, and that is stored. A reference on the ticket to
 * wait for, or NULL. */
struct ticket *session_released(struct sessions *sessions, struct session *session, struct delivery *d);
/* The identifier, which was put into the store, is free. */
void session_id_free(struct sessions *sessions, struct session *session, uint16_t id);

/* session_sweep.c: the connection ends, on which answers to D_RETIRED would have come. */
void session_retired_over(struct session *session);

#endif
