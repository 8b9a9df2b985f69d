/*
 * restore.h - what was in the store becomes sessions, retained messages and wills again.
 *
 * At start, on the loop thread, before the loop runs and before anybody can connect:
 *
 *   restore_new -> storage_load(restore_reader) -> restore_loaded -> ... -> restore_finish -> listening
 *
 * Rights may have changed while nobody watched. So those of each session are asked for anew before anything
 * goes out; sessions that have nobody any more to whom they could belong are discarded.
 */
#ifndef BRAMBLE_RESTORE_H
#define BRAMBLE_RESTORE_H

#include "broker/broker.h"

struct restore;

/* NULL without memory. */
struct restore *restore_new(struct broker *broker);
/* What storage_load() tells; valid as long as restore. */
const struct storage_reader *restore_reader(struct restore *restore);
/* All is read. last: the highest number that was ever given; to be called before anything else makes a
 * session or publishes. 0, or -1 without memory. */
int restore_loaded(struct restore *restore, uint64_t last);
/* The doors are there, and whoever listens to decisions: discards the sessions whose user or listener is
 * gone, publishes the wills of the last time, logs what has come back, frees restore. */
void restore_finish(struct restore *restore);
/* After a start that failed half-way. NULL is allowed. */
void restore_free(struct restore *restore);

#endif
