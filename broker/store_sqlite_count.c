/*
 * store_sqlite_count.c - what the writer writes and syncs, as figures: wear of a card is a figure, and only
 * what goes to the system tells it (a checkpoint writes a page once, however often it is in the -wal).
 *
 *   sqlite3_file of the connection -> pMethods -> ours (a copy of the real ones, two of them replaced)
 *
 * The table of a file lies in the store, so the store is found from the file.
 */
#include "broker/store_sqlite_parts.h"

static struct counted_file *counted_of(const sqlite3_file *file)
{
    return (struct counted_file *)((char *)file->pMethods - offsetof(struct counted_file, ours));
}

static int write_counted(sqlite3_file *file, const void *bytes, int n, sqlite3_int64 at)
{
    struct counted_file *counted = counted_of(file);
    atomic_fetch_add(&counted->store->bytes_written, (uint64_t)n);
    return counted->real->xWrite(file, bytes, n, at);
}

static int sync_counted(sqlite3_file *file, int flags)
{
    struct counted_file *counted = counted_of(file);
    atomic_fetch_add(&counted->store->syncs, 1);
    return counted->real->xSync(file, flags);
}

void sqlite_count_writes(struct sqlite_store *store)
{
    static const int which[] = {SQLITE_FCNTL_FILE_POINTER,
                                SQLITE_FCNTL_JOURNAL_POINTER}; /* that is the -wal */
    for (size_t i = 0; i < sizeof which / sizeof *which; i++) {
        struct counted_file *counted = &store->counted[i];
        sqlite3_file *file = NULL;
        if (sqlite3_file_control(store->db.db, "main", which[i], &file) != SQLITE_OK || !file ||
            !file->pMethods || file->pMethods == &counted->ours) {
            continue;
        }
        counted->store = store;
        counted->real = file->pMethods;
        counted->ours = *file->pMethods;
        counted->ours.xWrite = write_counted;
        counted->ours.xSync = sync_counted;
        file->pMethods = &counted->ours;
    }
}
