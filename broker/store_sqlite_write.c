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
 *
 * A batch, or a part of it, may be handed over again: every change says what is to be, not what is to be
 * done, so applying it twice gives the same.
 */
#include "broker/msg.h"
#include "broker/store_sqlite_parts.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* ---- one change ---- */

/* The origin in the row that the statement finds; 0: there is no such row. */
static int origin_of(struct sqlite_store *store, sqlite3_stmt *statement, uint64_t *number)
{
    *number = 0;
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        *number = (uint64_t)sqlite3_column_int64(statement, 0);
    }
    sqlite3_reset(statement);
    (void)store;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* The row with that number goes: its origin has one user less. */
static int drop_numbered(struct sqlite_store *store, enum statement find, enum statement drop,
                         uint64_t number)
{
    sqlite3_stmt *statement = connection_statement(&store->db, find);
    uint64_t origin;
    sqlite3_bind_int64(statement, 1, (int64_t)number);
    int rc = origin_of(store, statement, &origin);
    rc = rc == SQLITE_OK ? connection_run(&store->db, drop, (int64_t)number, 0) : rc;
    if (rc == SQLITE_OK) {
        origin_drop(store, origin);
    }
    return rc;
}

/* The same of a row with a name. */
static int drop_named(struct sqlite_store *store, enum statement find, enum statement drop, struct slice name)
{
    sqlite3_stmt *statement = connection_statement(&store->db, find);
    uint64_t origin;
    sqlite3_bind_text64(statement, 1, (const char *)name.p, name.n, SQLITE_STATIC, SQLITE_UTF8);
    int rc = origin_of(store, statement, &origin);
    if (rc == SQLITE_OK) {
        statement = connection_statement(&store->db, drop);
        sqlite3_bind_text64(statement, 1, (const char *)name.p, name.n, SQLITE_STATIC, SQLITE_UTF8);
        rc = sqlite3_step(statement);
        sqlite3_reset(statement);
        rc = rc == SQLITE_DONE ? SQLITE_OK : rc;
    }
    if (rc == SQLITE_OK) {
        origin_drop(store, origin);
    }
    return rc;
}

static int flags_of(const struct msg *msg)
{
    return (msg->qos & FLAG_QOS) | (msg->retain ? FLAG_RETAIN : 0);
}

static struct slice text_of(const struct change *change)
{
    return slice_of(change->text ? change->text : (const uint8_t *)"", change->count);
}

static int insert_message(struct sqlite_store *store, const struct change *change, uint64_t origin,
                          struct slice owed)
{
    struct row row;
    row_start(&row, &store->db, SQL_MESSAGE_ADD, TABLE_MESSAGE);
    row_number(&row, (int64_t)change->number);
    row_text(&row, msg_topic(change->msg));
    row_blob(&row, msg_payload(change->msg));
    row_number(&row, flags_of(change->msg));
    row_number(&row, (int64_t)origin);
    row_blob(&row, owed);
    row_null(&row);
    row_null(&row);
    return row_end(&row);
}

static int message(struct sqlite_store *store, const struct change *change)
{
    uint8_t few[512], *owed = few;
    uint64_t origin;
    if (recipients_most(change->count) > sizeof few && !(owed = malloc(recipients_most(change->count)))) {
        return SQLITE_NOMEM;
    }
    struct slice recipients = slice_of(owed, recipients_put(owed, change->owed, change->count));
    int rc = origin_take(store, change->msg->from, &origin);
    rc = rc == SQLITE_OK ? insert_message(store, change, origin, recipients) : rc;
    if (rc == SQLITE_OK && sqlite3_changes(store->db.db) == 0) { /* it is there: a batch that comes again */
        rc = drop_numbered(store, SQL_MESSAGE_ORIGIN, SQL_MESSAGE_DROP, change->number);
        rc = rc == SQLITE_OK ? insert_message(store, change, origin, recipients) : rc;
    }
    if (owed != few) {
        free(owed);
    }
    return rc;
}

static int message_gone(struct sqlite_store *store, const struct change *change)
{
    return drop_numbered(store, SQL_MESSAGE_ORIGIN, SQL_MESSAGE_DROP, change->number);
}

/* A row of two or three numbers. */
static int put_numbers(struct sqlite_store *store, enum statement which, enum store_table table,
                       const int64_t *numbers, int count)
{
    struct row row;
    row_start(&row, &store->db, which, table);
    for (int i = 0; i < count; i++) {
        row_number(&row, numbers[i]);
    }
    return row_end(&row);
}

static int mark(struct sqlite_store *store, const struct change *change)
{
    const int64_t numbers[] = {(int64_t)change->session, (int64_t)change->number};
    int rc = put_numbers(store, SQL_MARK_SET, TABLE_MARK, numbers, 2);
    return rc == SQLITE_OK ? connection_run(&store->db, SQL_DONE_PASSED, numbers[0], numbers[1]) : rc;
}

static int done(struct sqlite_store *store, const struct change *change)
{
    const int64_t numbers[] = {(int64_t)change->session, (int64_t)change->number};
    return put_numbers(store, SQL_DONE_ADD, TABLE_DONE, numbers, 2);
}

static int out(struct sqlite_store *store, const struct change *change)
{
    const int64_t numbers[] = {(int64_t)change->session, change->id, change->qos, (int64_t)change->number};
    return put_numbers(store, SQL_OUT_SET, TABLE_OUT, numbers, 4);
}

static int out_done(struct sqlite_store *store, const struct change *change)
{
    return connection_run(&store->db, SQL_OUT_DROP, (int64_t)change->session, change->id);
}

static int in_id(struct sqlite_store *store, const struct change *change)
{
    const int64_t numbers[] = {(int64_t)change->session, change->id};
    return put_numbers(store, SQL_INBOUND_ADD, TABLE_INBOUND, numbers, 2);
}

static int in_id_done(struct sqlite_store *store, const struct change *change)
{
    return connection_run(&store->db, SQL_INBOUND_DROP, (int64_t)change->session, change->id);
}

static int retained(struct sqlite_store *store, const struct change *change)
{
    const struct msg *msg = change->msg;
    struct row row;
    uint64_t origin;
    int rc = SQLITE_OK;
    if (msg->payload_size > 0) { /* taken before the old one is dropped: often it is the same */
        rc = origin_take(store, msg->from, &origin);
    }
    rc = rc == SQLITE_OK ? drop_named(store, SQL_RETAINED_ORIGIN, SQL_RETAINED_DROP, msg_topic(msg)) : rc;
    if (rc != SQLITE_OK || msg->payload_size == 0) {
        return rc;
    }
    row_start(&row, &store->db, SQL_RETAINED_SET, TABLE_RETAINED);
    row_text(&row, msg_topic(msg));
    row_blob(&row, msg_payload(msg));
    row_number(&row, flags_of(msg));
    row_number(&row, (int64_t)origin);
    row_null(&row);
    row_null(&row);
    return row_end(&row);
}

enum { LEVEL_3_1_1 = 4 };

static int session(struct sqlite_store *store, const struct change *change)
{
    struct row row;
    uint64_t origin;
    int rc = origin_take(store, change->who, &origin);
    rc = rc == SQLITE_OK ? drop_numbered(store, SQL_SESSION_ORIGIN, SQL_SESSION_DROP, change->session) : rc;
    if (rc != SQLITE_OK) {
        return rc;
    }
    row_start(&row, &store->db, SQL_SESSION_SET, TABLE_SESSION);
    row_number(&row, (int64_t)change->session);
    row_text(&row, text_of(change));
    row_number(&row, (int64_t)origin);
    row_number(&row, LEVEL_3_1_1);
    row_number(&row, 0); /* kind: a client */
    row_number(&row, 0); /* clean_start */
    row_null(&row);      /* expiry: never */
    return row_end(&row);
}

static int session_gone(struct sqlite_store *store, const struct change *change)
{
    static const enum statement own[] = {SQL_MARK_CLEAR, SQL_DONE_CLEAR, SQL_OUT_CLEAR, SQL_INBOUND_CLEAR,
                                         SQL_SUBSCRIPTION_CLEAR};
    int rc = drop_numbered(store, SQL_SESSION_ORIGIN, SQL_SESSION_DROP, change->session);
    for (size_t i = 0; i < sizeof own / sizeof *own && rc == SQLITE_OK; i++) {
        rc = connection_run(&store->db, own[i], (int64_t)change->session, 0);
    }
    return rc;
}

static int subscribe(struct sqlite_store *store, const struct change *change)
{
    struct row row;
    row_start(&row, &store->db, SQL_SUBSCRIPTION_SET, TABLE_SUBSCRIPTION);
    row_number(&row, (int64_t)change->session);
    row_text(&row, text_of(change));
    row_number(&row, change->qos);
    row_null(&row);
    row_number(&row, change->owing);
    return row_end(&row);
}

static int unsubscribe(struct sqlite_store *store, const struct change *change)
{
    sqlite3_stmt *statement = connection_statement(&store->db, SQL_SUBSCRIPTION_DROP);
    struct slice filter = text_of(change);
    sqlite3_bind_int64(statement, 1, (int64_t)change->session);
    sqlite3_bind_text64(statement, 2, (const char *)filter.p, filter.n, SQLITE_STATIC, SQLITE_UTF8);
    int rc = sqlite3_step(statement);
    sqlite3_reset(statement);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int will(struct sqlite_store *store, const struct change *change)
{
    struct row row;
    uint64_t origin;
    int rc = origin_take(store, change->msg->from, &origin);
    rc = rc == SQLITE_OK ? drop_named(store, SQL_WILL_ORIGIN, SQL_WILL_DROP, text_of(change)) : rc;
    if (rc != SQLITE_OK) {
        return rc;
    }
    row_start(&row, &store->db, SQL_WILL_SET, TABLE_WILL);
    row_text(&row, text_of(change));
    row_text(&row, msg_topic(change->msg));
    row_blob(&row, msg_payload(change->msg));
    row_number(&row, flags_of(change->msg));
    row_number(&row, (int64_t)origin);
    row_number(&row, 0); /* delay */
    row_null(&row);
    row_null(&row);
    return row_end(&row);
}

static int will_gone(struct sqlite_store *store, const struct change *change)
{
    return drop_named(store, SQL_WILL_ORIGIN, SQL_WILL_DROP, text_of(change));
}

static int nothing(struct sqlite_store *store, const struct change *change)
{
    (void)store, (void)change;
    return SQLITE_OK;
}

static int (*const appliers[CHANGE_KINDS])(struct sqlite_store *store, const struct change *change) = {
    [CHANGE_VOID] = nothing,
    [CHANGE_MESSAGE] = message,
    [CHANGE_MESSAGE_GONE] = message_gone,
    [CHANGE_MARK] = mark,
    [CHANGE_DONE] = done,
    [CHANGE_OUT] = out,
    [CHANGE_OUT_DONE] = out_done,
    [CHANGE_IN_ID] = in_id,
    [CHANGE_IN_ID_DONE] = in_id_done,
    [CHANGE_RETAINED] = retained,
    [CHANGE_SESSION] = session,
    [CHANGE_SESSION_GONE] = session_gone,
    [CHANGE_SUBSCRIBE] = subscribe,
    [CHANGE_UNSUBSCRIBE] = unsubscribe,
    [CHANGE_WILL] = will,
    [CHANGE_WILL_GONE] = will_gone,
};

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
        rc = appliers[batch->changes[i].kind](store, &batch->changes[i]);
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
    if (store->sync != STORAGE_SYNC_OFF) {
        atomic_fetch_add(&store->syncs, 2);
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
    int pages = 0, unused;
    sqlite3_db_status(store->db.db, SQLITE_DBSTATUS_CACHE_WRITE, &pages, &unused, 1);
    atomic_fetch_add(&store->bytes_written, (uint64_t)pages * (STORE_PAGE_SIZE + 24));
    atomic_fetch_add(&store->commits, 1);
    atomic_fetch_add(&store->syncs, store->sync == STORAGE_SYNC_FULL ? 1 : 0);
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

void sqlite_tidy(struct sqlite_store *store)
{
    struct stat st;
    if (store->suspect || wal_bytes(store) < STORE_WAL_BOUND) {
        return;
    }
    int rc = checkpoint(store, SQLITE_CHECKPOINT_PASSIVE);
    if (rc == SQLITE_BUSY && wal_bytes(store) > 2 * (uint64_t)STORE_WAL_BOUND) {
        rc = checkpoint(store, SQLITE_CHECKPOINT_RESTART);
    }
    if (rc != SQLITE_OK && rc != SQLITE_BUSY) {
        store->suspect = store->reopen = true; /* the next batch says it, if it is still so */
    }
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
    static const char *const ownerless[] = {
        "DELETE FROM mark WHERE session NOT IN (SELECT number FROM session)",
        "DELETE FROM done WHERE session NOT IN (SELECT number FROM session)",
        "DELETE FROM out WHERE session NOT IN (SELECT number FROM session)",
        "DELETE FROM inbound WHERE session NOT IN (SELECT number FROM session)",
        "DELETE FROM subscription WHERE session NOT IN (SELECT number FROM session)",
    };
    enum storage_error error;
    struct err why;
    if (recover(store, &error, &why)) {
        return SQLITE_ERROR;
    }
    int rc = connection_run(&store->db, SQL_BEGIN, 0, 0);
    for (size_t i = 0; i < sizeof ownerless / sizeof *ownerless && rc == SQLITE_OK; i++) {
        rc = connection_exec(&store->db, ownerless[i]);
    }
    for (size_t i = 0; i < count && rc == SQLITE_OK; i++) {
        rc = drop_numbered(store, SQL_MESSAGE_ORIGIN, SQL_MESSAGE_DROP, messages[i]);
    }
    rc = rc == SQLITE_OK ? origins_settle(store) : rc;
    rc = rc == SQLITE_OK ? connection_run(&store->db, SQL_COMMIT, 0, 0) : rc;
    if (rc == SQLITE_OK) {
        origins_committed(&store->origins);
    } else {
        roll_back(store);
    }
    return rc;
}
