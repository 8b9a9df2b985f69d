/*
 * store_wal.h - looks at the -wal of a store before SQLite does, and tells a torn tail from damage.
 *
 * SQLite reads a -wal up to the first frame that is not right and forgets what is behind it, without a word:
 * right after a power cut (the last transaction had not been synced, nobody was told of it), wrong when a
 * byte has gone bad in the middle, because everything behind it was acknowledged.
 *
 * A scan opens and closes the -wal and the -shm, which ends the locks that this process has on them: it is
 * for before SQLite has opened the store in this process, and while no other has it open.
 */
#ifndef BRAMBLE_STORE_WAL_H
#define BRAMBLE_STORE_WAL_H

#include "broker/err.h"
#include <stdint.h>

enum wal_state {
    WAL_NONE,    /* there is none, or it has nothing in it */
    WAL_WHOLE,   /* every transaction in it will be read */
    WAL_TORN,    /* the last one will not: as a power cut or a killed writer leaves it */
    WAL_DAMAGED, /* transactions that were committed will not be read */
};

struct wal_scan {
    enum wal_state state;
    uint32_t page_size;
    uint64_t frames, commits; /* that SQLite will read */
    uint64_t dropped;         /* commits that are seen behind the first bad frame; there may have been more */
    uint64_t bad_at;          /* byte of the -wal where that frame (or the bad header) begins */
    uint64_t known;           /* so many frames were committed, as the -shm says; 0: it does not say */
};

/* store: the path of the file whose -wal it is. 0, or -1: it could not be read, err says why. */
int wal_scan(const char *store, struct wal_scan *scan, struct err *err);

/* One line on what is wrong, for the log; of WAL_NONE and WAL_WHOLE that nothing is. Returns text. */
const char *wal_describe(const struct wal_scan *scan, char *text, size_t size);

#endif
