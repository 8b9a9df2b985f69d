/*
 * store_sqlite_write.c - a batch is one transaction, and when the -wal is written back. Writer thread.
 *
 * With synchronous=FULL a COMMIT returns when the frames of the transaction were written to the -wal and the
 * -wal was synced: then the batch is told as committed, and only after that the -wal is written back to the
 * file when it has grown past its bound. What a failure leaves: store_sqlite_recover.c.
 */
#include "broker/msg.h"
#include "broker/store_sqlite_parts.h"
#include <sys/stat.h>
#include <sys/statvfs.h>

enum {
    TIDY_MS = 100, /* how long a checkpoint waits for readers, behind a commit that was told */
    ASKED_BYTES = 65536,
};

/* ---- a transaction ---- */

/* Numbers up to the batch's last are given: with that a block of them is, so that this is seldom written. But
 * an empty batch asks whether the disk takes something: it is written with that. */
static int set_aside(struct sqlite_store *store, const struct batch *batch, uint64_t *reserved)
{
    struct row row;
    if (batch->last > store->reserved) {
        *reserved = batch->last + STORE_RESERVE;
    } else if (batch->count > 0) {
        return SQLITE_OK;
    }
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
    rc = rc == SQLITE_OK ? set_aside(store, batch, reserved) : rc;
    rc = rc == SQLITE_OK ? origins_settle(store) : rc;
    return rc == SQLITE_OK ? connection_run(&store->db, SQL_COMMIT, 0, 0) : rc;
}

/* Bytes that the batch adds, about; an empty one asks for room for some messages. */
static uint64_t weight_of(const struct batch *batch)
{
    uint64_t bytes = batch->count == 0 ? ASKED_BYTES : 0;
    for (size_t i = 0; i < batch->count; i++) {
        const struct msg *msg = batch->changes[i].msg;
        bytes += 128 + (msg ? (uint64_t)msg->topic_size + msg->payload_size : 0) +
                 (uint64_t)batch->changes[i].count * sizeof(struct recipient);
    }
    return bytes;
}

/* Bytes of the file that are free for something else. */
static uint64_t free_inside(struct sqlite_store *store)
{
    sqlite3_stmt *statement = store->db.db ? connection_statement(&store->db, SQL_FREE_PAGES) : NULL;
    uint64_t pages = 0;
    if (statement && sqlite3_step(statement) == SQLITE_ROW) {
        pages = (uint64_t)sqlite3_column_int64(statement, 0);
    }
    sqlite3_reset(statement);
    return pages * store->page_size;
}

static uint64_t wal_bytes(const struct sqlite_store *store)
{
    return (uint64_t)store->wal_frames * (store->page_size + 24);
}

static uint64_t not_written_back(const struct sqlite_store *store)
{
    return (uint64_t)(store->wal_frames - store->wal_done) * store->page_size;
}

/* Whether the batch would use what is to be kept free: it goes into the -wal first, and into the file later,
 * as does what is in the -wal still. Without room for that nothing could be written back ever again, not even
 * what frees room. What removals have freed is inside the file, where the file system does not see it: as
 * long as a batch fits in there, half of the reserve is enough, for the -wal.
 */
static bool low(struct sqlite_store *store, const struct batch *batch, struct err *why)
{
    struct statvfs fs;
    if (statvfs(store->path, &fs)) {
        return false; /* what cannot be asked will say so when it is written to */
    }
    uint64_t outside = (uint64_t)fs.f_bavail * fs.f_frsize, weight = weight_of(batch);
    uint64_t more = weight + not_written_back(store);
    if ((outside >= more + weight && outside - more - weight >= store->min_free) ||
        (outside >= more && outside - more >= store->min_free / 2 && free_inside(store) >= 2 * weight)) {
        return false;
    }
    err_set(
        why,
        "%s: %llu KiB free on its file system, persistence_min_free keeps %llu KiB, and %llu KiB are to be "
        "written",
        err_path(store->path), (unsigned long long)outside / 1024, (unsigned long long)store->min_free / 1024,
        (unsigned long long)(more + weight) / 1024);
    return true;
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

/* Waits for readers no longer than for a moment. */
static void write_back(struct sqlite_store *store, int mode)
{
    sqlite3_busy_timeout(store->db.db, TIDY_MS);
    sqlite_checkpoint(store, mode);
    sqlite3_busy_timeout(store->db.db, CONNECTION_BUSY_MS);
}

/* When that much is missing the -wal need not be there: what is in it is written back, and its room given
 * back. */
static bool no_room(struct sqlite_store *store, const struct batch *batch, struct err *why)
{
    if (low(store, batch, why) && !store->suspect && store->wal_frames > 0) {
        write_back(store, SQLITE_CHECKPOINT_TRUNCATE);
    }
    return low(store, batch, why);
}

int sqlite_write(struct sqlite_store *store, const struct batch *batch, enum storage_error *error,
                 struct err *why)
{
    uint64_t reserved = store->reserved;
    if (!batch->removals && no_room(store, batch, why)) {
        *error = STORAGE_FULL;
        return -1;
    }
    *error = STORAGE_ERROR;
    if (sqlite_look_at_files(store, why) || sqlite_recover(store, error, why)) {
        return -1;
    }
    int rc = apply_all(store, batch, &reserved);
    if (rc != SQLITE_OK) {
        sqlite_note_failure(store, rc, error, why);
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
    sqlite_checkpoint(store,
                      SQLITE_CHECKPOINT_PASSIVE); /* if it fails, and still does, the next batch says it */
    if (wal_bytes(store) >= 2 * (uint64_t)STORE_WAL_BOUND && !store->suspect) {
        write_back(store, SQLITE_CHECKPOINT_RESTART);
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
    if (store->db.db && sqlite_recover(store, &error, &why) == 0) {
        sqlite_checkpoint(store, SQLITE_CHECKPOINT_TRUNCATE);
    }
}

/* ---- while loading ---- */

int sqlite_remove_orphans(struct sqlite_store *store, const uint64_t *messages, size_t count)
{
    enum storage_error error;
    struct err why;
    if (sqlite_recover(store, &error, &why)) {
        return SQLITE_ERROR;
    }
    int rc = connection_run(&store->db, SQL_BEGIN, 0, 0);
    rc = rc == SQLITE_OK ? sqlite_apply_orphans(store, messages, count) : rc;
    rc = rc == SQLITE_OK ? origins_settle(store) : rc;
    rc = rc == SQLITE_OK ? connection_run(&store->db, SQL_COMMIT, 0, 0) : rc;
    if (rc == SQLITE_OK) {
        origins_committed(&store->origins);
    } else {
        sqlite_note_failure(store, rc, &error, &why);
        roll_back(store);
    }
    return rc;
}
