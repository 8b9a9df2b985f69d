/*
 * store_sqlite.h - stable storage in one SQLite file (WAL, one writer thread, one reader thread).
 *
 * storage_open(), storage_load() and storage_start() are called once each, in this order, before the loop
 * runs; storage_stop() and storage_close() after it has ended. In between everything goes through the port
 * (storage.h): answers come by the mailbox.
 */
#ifndef BRAMBLE_STORE_SQLITE_H
#define BRAMBLE_STORE_SQLITE_H

#include "broker/err.h"
#include "broker/storage.h"
#include <stdio.h>

enum storage_sync {
    STORAGE_SYNC_FULL,   /* every commit is synced: nothing acknowledged can be lost */
    STORAGE_SYNC_NORMAL, /* only checkpoints are: a power cut can take the last commits, the file stays whole
                          */
    STORAGE_SYNC_OFF,    /* never: a power cut can take everything; a killed daemon loses nothing */
};

struct storage_options {
    const char *path;
    enum storage_sync sync;
    uint64_t min_free;            /* bytes of the file system that new obligations leave free */
    const char *const *listeners; /* their names, by number: what is stored of a listener */
    size_t listener_count;
    size_t stand_in; /* of them, counted from 1: for those that are not there any more; 0: LISTENER_GONE */
    struct mailbox *mailbox;
};

/* Opens or makes the file, as the user who will write it. A file that is damaged, foreign (a mosquitto.db
 * too), newer than this program, or in use by another process stops the start and is left as it is: NULL, err
 * says what is wrong and what to do. */
struct storage *storage_open(const struct storage_options *options, struct err *err);
/* Tells the reader what is in the file; last: the highest number ever given. progress(arg, text) is called
 * now and then. A row whose checksum is wrong stops the start, as damage of the file. 0, or -1. */
int storage_load(struct storage *storage, const struct storage_reader *reader, uint64_t *last,
                 void (*progress)(void *arg, const char *text), void *arg, struct err *err);
/* Starts the threads. 0, or -1. */
int storage_start(struct storage *storage, struct err *err);
/* Waits for the batch under way and ends the threads; their last answers are then in the mailbox. Nothing may
 * be handed over any more. */
void storage_stop(struct storage *storage);
/* The same, if need be, and then checkpoints and closes. NULL is allowed. */
void storage_close(struct storage *storage);

struct storage_figures {
    uint64_t commits, syncs, bytes_written; /* by the writer: to the file and its -wal */
    uint64_t file_bytes, wal_bytes;
};
struct storage_figures storage_figures(const struct storage *storage); /* from any thread */

/* ---- offline (tool_store.c) ---- */

/* Writes what is wrong, or that all is well, to out. 0: whole; 1: damaged; 2: not one of ours, or not
 * readable. Changes nothing. */
int storage_check(const char *path, FILE *out, FILE *err);
/* Everything in the file as text, one object a line. 0 or as above. */
int storage_dump(const char *path, FILE *out, FILE *err);
/* Writes the file anew without holes; not while a daemon has it open. 0 or as above. */
int storage_vacuum(const char *path, FILE *out, FILE *err);

#endif
