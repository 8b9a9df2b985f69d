/*
 * store_sqlite_write.c - a batch is one transaction, and when the -wal is written back. Writer thread.
 *
 * Why a batch that was told as committed is on disk, and one that has failed does no harm:
 *
 * With synchronous=FULL a COMMIT returns when the frames of the transaction were written to the -wal and the
 * -wal was synced. When the write or the sync fails, SQLite leaves its index of the -wal as it was: for this
 * and every other connection the transaction has not happened, and the next one writes over its frames. But
 * they are in the file, and after a failed fsync nobody knows what of the file is on disk: Linux may take the
 * pages for clean, and the next fsync says yes to something that was never written. So after any such failure
 * the store is `suspect`: before another batch, what is visible is copied from the -wal into the file
 * (written anew, so that this fsync counts) and the -wal is cut to nothing, the failed frames with it. Only
 * when all of that has succeeded is a batch written again. A file that is opened is suspect too: what ran
 * before may have died between its failed fsync and this.
 *
 * If the process dies before, the failed frames may come back when the file is opened: then a batch that was
 * reported as failed is there after all, whole. Nobody was told that it is (nothing of it was acknowledged),
 * and whoever was told that it is not died with the process.
 */
#include "broker/store_sqlite_parts.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum { TIDY_MS = 100 }; /* how long a checkpoint waits for readers, behind a commit that was told */

/* ---- a transaction ---- */

/* Numbers up to the batch's last are given: with that a block of them is, so that this is seldom written. */
static int set_aside(struct sqlite_store *store, uint64_t last, uint64_t *reserved)
{
    struct row row;
    if (last <= store->reserved) {
        return SQLITE_OK;
    }
    *reserved = last + STORE_RESERVE;
    row_start(&row, &store->db, SQL_META_SET, TABLE_META);
    row_text(&row, slice_str("reserved"));
    row_number(&row, (int64_t)*reserved);
    return row_end(&row);
}

static int apply_all(struct sqlite_store *store, const struct batch *batch, uint64_t *reserved)
{
    int rc = connection_run(&store->db, SQL_BEGIN, 0, 0);
    for (size_t i = 0; i < batch->count && rc == SQLITE_OK; i++) {
        rc = sqlite_apply(store, &batch->changes[i]);
    }
    rc = rc == SQLITE_OK ? set_aside(store, batch->last, reserved) : rc;
    rc = rc == SQLITE_OK ? origins_settle(store) : rc;
    return rc == SQLITE_OK ? connection_run(&store->db, SQL_COMMIT, 0, 0) : rc;
}

static bool means_full(int rc, int system)
{
    return (rc & 0xff) == SQLITE_FULL ||
           ((rc & 0xff) == SQLITE_IOERR && (system == ENOSPC || system == EDQUOT || system == EFBIG));
}

/* What has failed, in words, and what it means for the next batch. */
static void note_failure(struct sqlite_store *store, int rc, enum storage_error *error, struct err *why)
{
    bool full = means_full(rc, connection_errno(&store->db));
    if ((rc & 0xff) == SQLITE_NOMEM) {
        err_set(why, "%s: no memory", err_path(store->path));
    } else {
        connection_err(&store->db, store->path, why);
    }
    *error = full ? STORAGE_FULL : STORAGE_ERROR;
    switch (rc & 0xff) {
    case SQLITE_FULL:
        store->full = true;
        break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_NOMEM:
        break;
    default:
        store->suspect = store->reopen = true;
        break;
    }
}

static int checkpoint(struct sqlite_store *store, int mode)
{
    int frames = 0, done_frames = 0;
    int rc = sqlite3_wal_checkpoint_v2(store->db.db, NULL, mode, &frames, &done_frames);
    if (rc == SQLITE_OK && mode == SQLITE_CHECKPOINT_TRUNCATE) {
        store->wal_frames = 0;
    }
    if (rc == SQLITE_OK && frames > done_frames) {
        rc = SQLITE_BUSY; /* a reader still needs the older pages */
    }
    return rc;
}

static int count_frames(void *arg, sqlite3 *db, const char *name, int frames)
{
    struct sqlite_store *store = arg;
    (void)db, (void)name;
    store->wal_frames = frames;
    return SQLITE_OK;
}

int sqlite_open_writer(struct sqlite_store *store, struct err *err)
{
    if (connection_open(&store->db, store->path, CONNECTION_WRITER, store->sync, err)) {
        return -1;
    }
    sqlite3_wal_hook(store->db.db, count_frames, store);
    sqlite_count_writes(store);
    return 0;
}

/* A new connection before the old one is closed: so the index of the -wal lives on, and with it what of the
 * -wal is valid. A file that is another one now is not ours to write. */
static int open_again(struct sqlite_store *store, struct err *err)
{
    struct connection old = store->db;
    struct stat st;
    if (stat(store->path, &st)) {
        return err_set(err, "%s: %s", err_path(store->path), strerror(errno));
    }
    if (st.st_dev != store->device || st.st_ino != store->inode) {
        return err_set(err, "%s: another file is there now; bramble must be started again",
                       err_path(store->path));
    }
    if (sqlite_open_writer(store, err)) {
        store->db = old;
        return -1;
    }
    connection_close(&old, true);
    store->reopen = false;
    return 0;
}

/* Makes the store fit for another batch after a failure: see the top of this file. */
static int recover(struct sqlite_store *store, enum storage_error *error, struct err *why)
{
    if (store->reopen && open_again(store, why)) {
        *error = STORAGE_ERROR;
        return -1;
    }
    if (store->suspect) {
        int rc = checkpoint(store, SQLITE_CHECKPOINT_TRUNCATE);
        if (rc != SQLITE_OK) {
            note_failure(store, rc, error, why);
            store->suspect = true;
            return -1;
        }
        store->suspect = false;
    } else if (store->full) { /* perhaps there is room at the beginning of the -wal */
        checkpoint(store, SQLITE_CHECKPOINT_RESTART);
    }
    store->full = false;
    return 0;
}

/* Whether less is free than is to be kept free. */
static bool low(const struct sqlite_store *store, struct err *why)
{
    struct statvfs fs;
    if (store->min_free == 0 || statvfs(store->path, &fs)) {
        return false; /* what cannot be asked will say so when it is written to */
    }
    uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (free_bytes >= store->min_free) {
        return false;
    }
    err_set(why, "%s: %llu KiB free on its file system, persistence_min_free keeps %llu KiB",
            err_path(store->path), (unsigned long long)free_bytes / 1024,
            (unsigned long long)store->min_free / 1024);
    return true;
}

static uint64_t wal_bytes(const struct sqlite_store *store)
{
    return (uint64_t)store->wal_frames * (STORE_PAGE_SIZE + 24);
}

static void count_commit(struct sqlite_store *store)
{
    if (wal_bytes(store) < STORE_WAL_BOUND) {
        store->tidy_at = STORE_WAL_BOUND;
    }
    atomic_fetch_add(&store->commits, 1);
    atomic_store(&store->wal_bytes, wal_bytes(store));
}

static void roll_back(struct sqlite_store *store)
{
    if (store->db.db && !sqlite3_get_autocommit(store->db.db)) {
        connection_run(&store->db, SQL_ROLLBACK, 0, 0);
    }
    origins_rolled_back(&store->origins);
}

int sqlite_write(struct sqlite_store *store, const struct batch *batch, enum storage_error *error,
                 struct err *why)
{
    uint64_t reserved = store->reserved;
    if (!batch->removals && low(store, why)) {
        *error = STORAGE_FULL;
        return -1;
    }
    if (recover(store, error, why)) {
        return -1;
    }
    int rc = apply_all(store, batch, &reserved);
    if (rc != SQLITE_OK) {
        note_failure(store, rc, error, why);
        roll_back(store);
        return -1;
    }
    store->reserved = reserved;
    origins_committed(&store->origins);
    count_commit(store);
    return 0;
}

/* Normally the next commit begins the -wal anew after this. Who reads may keep it from that (somebody with a
 * shell for as long as he likes): then it grows, and this is tried again only now and then. */
void sqlite_tidy(struct sqlite_store *store)
{
    struct stat st;
    if (store->suspect || wal_bytes(store) < store->tidy_at) {
        return;
    }
    int rc = checkpoint(store, SQLITE_CHECKPOINT_PASSIVE);
    if (wal_bytes(store) >= 2 * (uint64_t)STORE_WAL_BOUND && (rc == SQLITE_OK || rc == SQLITE_BUSY)) {
        sqlite3_busy_timeout(store->db.db, TIDY_MS);
        rc = checkpoint(store, SQLITE_CHECKPOINT_RESTART);
        sqlite3_busy_timeout(store->db.db, CONNECTION_BUSY_MS);
    }
    if (rc != SQLITE_OK && rc != SQLITE_BUSY) {
        store->suspect = store->reopen = true; /* the next batch says it, if it is still so */
    }
    store->tidy_at = wal_bytes(store) + STORE_WAL_BOUND;
    if (fstat(store->file, &st) == 0) {
        atomic_store(&store->file_bytes, (uint64_t)st.st_size);
    }
}

void sqlite_settle_all(struct sqlite_store *store)
{
    enum storage_error error;
    struct err why;
    if (store->db.db && recover(store, &error, &why) == 0) {
        checkpoint(store, SQLITE_CHECKPOINT_TRUNCATE);
    }
}

/* ---- while loading ---- */

int sqlite_remove_orphans(struct sqlite_store *store, const uint64_t *messages, size_t count)
{
    enum storage_error error;
    struct err why;
    if (recover(store, &error, &why)) {
        return SQLITE_ERROR;
    }
    int rc = connection_run(&store->db, SQL_BEGIN, 0, 0);
    rc = rc == SQLITE_OK ? sqlite_apply_orphans(store, messages, count) : rc;
    rc = rc == SQLITE_OK ? origins_settle(store) : rc;
    rc = rc == SQLITE_OK ? connection_run(&store->db, SQL_COMMIT, 0, 0) : rc;
    if (rc == SQLITE_OK) {
        origins_committed(&store->origins);
    } else {
        note_failure(store, rc, &error, &why);
        roll_back(store);
    }
    return rc;
}
