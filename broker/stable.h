/*
 * stable.h - the life of the durable store in the daemon: opened, read back, drained, closed.
 *
 *   stable_open -> broker_init(storage) -> wire_use -> stable_load -> stable_start -> loop
 *     -> stable_drain -> broker_stop -> stable_stop -> broker_free -> stable_close
 *
 * Knows the adapter (store_sqlite.h) by name; the domain sees only the port (storage.h). Without `persistence
 * true` there is none: NULL is allowed everywhere, and does nothing.
 */
#ifndef BRAMBLE_STABLE_H
#define BRAMBLE_STABLE_H

#include "broker/broker.h"
#include "broker/store_sqlite.h"

struct stable;

/* Opens the store of the configuration, as the user who will write it; *stable is NULL when there is to be
 * none. 0, or -1 with err: the file is damaged, foreign, in use, or cannot be had. */
int stable_open(struct stable **stable, const struct config *config, struct mailbox *mailbox,
                struct err *err);

struct storage *stable_storage(const struct stable *stable);

/* Reads back what is in it. The rights must be there (wire_use()), and nothing may have published yet.
 * notify_fd: the service manager is told that it goes on. 0, or -1 with err. */
int stable_load(struct stable *stable, struct broker *broker, int notify_fd, struct err *err);
/* Publishes the wills that a crash has left, and starts its threads. 0, or -1 with err. */
int stable_start(struct stable *stable, struct err *err);

/* After the loop: hands over what there is, and lets go of the acknowledgements that waited for it, until all
 * is on disk, or the store has failed, or some seconds have passed; the log says which. */
void stable_drain(struct stable *stable, struct broker *broker);

/* The same, and then its threads end. */
void stable_stop(struct stable *stable, struct broker *broker);

/* After broker_free(). */
void stable_close(struct stable *stable);

#endif
