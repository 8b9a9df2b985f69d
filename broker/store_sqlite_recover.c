/*
 * store_sqlite_recover.c - what a failure leaves, and what must be done before another batch. Writer thread.
 *
 * Why a batch that was told as committed is on disk, and one that has failed does no harm:
 *
 * When the write or the sync of a COMMIT fails, SQLite leaves its index of the -wal as it was: for this and
 * every other connection the transaction has not happened, and the next one writes over its frames. But they
 * are in the file, and after a failed fsync nobody knows what of the file is on disk: Linux may take the
 * pages for clean, and the next fsync says yes to something that was never written. So after any such failure
 * the store is `suspect`: before another batch, what is visible is copied from the -wal into the file
 * (written anew, so that this fsync counts) and the -wal is cut to nothing, the failed frames with it. Only
 * when all of that has succeeded is a batch written again. A file that is opened is suspect too: what ran
 * before may have died between its failed fsync and this.
 *
 * A write back that fails is the same matter for the file: how much of it was written back stands in the
 * index, and part of that may have been written without a sync yet. So then the index is dropped with all
 * connections, the reader's too; the new one makes it again from the -wal, and all of it is written again.
 *
 * If the process dies before, the failed frames may come back when the file is opened: then a batch that was
 * reported as failed is there after all, whole. Nobody was told that it is (nothing of it was acknowledged),
 * and whoever was told that it is not died with the process.
 */
#include "broker/store_sqlite_parts.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

static bool means_full(int rc, int system)
{
    return (rc & 0xff) == SQLITE_FULL ||
           ((rc & 0xff) == SQLITE_IOERR && (system == ENOSPC || system == EDQUOT || system == EFBIG));
}

/* What has failed, in words, and what it means for the next batch. */
void sqlite_note_failure(struct sqlite_store *store, int rc, enum storage_error *error, struct err *why)
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

int sqlite_checkpoint(struct sqlite_store *store, int mode)
{
    int frames = 0, done_frames = 0;
    int rc = sqlite3_wal_checkpoint_v2(store->db.db, NULL, mode, &frames, &done_frames);
    if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY && (rc & 0xff) != SQLITE_NOMEM) {
        store->suspect = store->reopen = store->index_suspect = true;
    }
    if (rc == SQLITE_OK && mode == SQLITE_CHECKPOINT_TRUNCATE) {
        store->wal_frames = store->wal_done = 0;
    } else if (rc == SQLITE_OK) {
        store->wal_done = done_frames;
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
    if (frames < store->wal_frames || store->wal_done == store->wal_frames) {
        store->wal_done = 0; /* it has begun anew, or may have */
    }
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

/* Cuts what is behind the last commit off the -wal, as the index says, which is in the -shm still: frames of
 * a commit that has failed. Only without any connection: closing the -shm drops our locks on it. */
static int cut_wal(const struct sqlite_store *store, struct err *err)
{
    struct {
        uint32_t version, unused, change;
        uint8_t ready, big_endian;
        uint16_t page_size;
        uint32_t frames, pages, sum[2], salt[2], own_sum[2];
    } header[2]; /* the same, twice */
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s-shm", store->path);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? pread(fd, header, sizeof header, 0) : -1;
    if (fd >= 0) {
        close(fd);
    }
    if (n != sizeof header || memcmp(&header[0], &header[1], sizeof *header) != 0 || !header[0].ready) {
        return 0; /* nobody knows */
    }
    off_t size = header[0].frames ? (off_t)header[0].frames * (store->page_size + 24) + 32 : 0;
    struct stat st;
    snprintf(name, sizeof name, "%s-wal", store->path);
    if (stat(name, &st) == 0 && st.st_size > size && truncate(name, size)) {
        return err_set(err, "%s: %s", err_path(name), strerror(errno));
    }
    return 0;
}

/* The index of the -wal ends with the last connection. */
static int drop_index(struct sqlite_store *store, struct err *err)
{
    pthread_mutex_lock(&store->reader_lock);
    connection_close(&store->reader, true);
    connection_close(&store->db, true);
    store->wal_frames = store->wal_done = 0; /* SQLite may remove the -wal */
    int rc = cut_wal(store, err);
    pthread_mutex_unlock(&store->reader_lock);
    return rc;
}

/* One that cannot be asked may be there. */
static bool is_gone(const char *path, struct stat *st, struct err *err)
{
    bool gone = stat(path, st) != 0 && (errno == ENOENT || errno == ENOTDIR);
    if (gone) {
        err_set(err, "%s: %s", err_path(path), strerror(errno));
    }
    return gone;
}

/* Under its name there may be another file now, or none: that is not ours to write. */
static int look_at_file(const struct sqlite_store *store, struct err *err)
{
    struct stat st = {.st_dev = store->device, .st_ino = store->inode};
    if (is_gone(store->path, &st, err)) {
        return -1;
    }
    if (st.st_dev != store->device || st.st_ino != store->inode) {
        return err_set(err, "%s: another file is there now; bramble must be started again",
                       err_path(store->path));
    }
    return 0;
}

/* What somebody has removed can be written to and synced as before, and is gone with this process. */
int sqlite_look_at_files(const struct sqlite_store *store, struct err *err)
{
    struct stat st;
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s-wal", store->path);
    return look_at_file(store, err) || (store->wal_frames > 0 && is_gone(name, &st, err)) ? -1 : 0;
}

/* A new connection before the old one is closed: so the index of the -wal lives on, and with it what of the
 * -wal is valid. */
static int open_again(struct sqlite_store *store, struct err *err)
{
    if (look_at_file(store, err)) {
        return -1;
    }
    if (store->index_suspect && drop_index(store, err)) {
        return -1;
    }
    struct connection old = store->db; /* or none, which is closed as well */
    if (sqlite_open_writer(store, err)) {
        store->db = old;
        return -1;
    }
    connection_close(&old, true);
    store->reopen = store->index_suspect = false;
    return 0;
}

/* Makes the store fit for another batch after a failure: see the top of this file. */
int sqlite_recover(struct sqlite_store *store, enum storage_error *error, struct err *why)
{
    if (store->reopen && open_again(store, why)) {
        *error = STORAGE_ERROR;
        return -1;
    }
    if (store->suspect) {
        int rc = sqlite_checkpoint(store, SQLITE_CHECKPOINT_TRUNCATE);
        if (rc != SQLITE_OK) {
            sqlite_note_failure(store, rc, error, why);
            store->suspect = true;
            return -1;
        }
        store->suspect = false;
    } else if (store->full) { /* perhaps there is room at the beginning of the -wal */
        sqlite_checkpoint(store, SQLITE_CHECKPOINT_RESTART);
    }
    store->full = false;
    return 0;
}
