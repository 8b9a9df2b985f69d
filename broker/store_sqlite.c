/*
 * store_sqlite.c - the port of the durable store: two threads behind it.
 *
 *   loop                     writer ("store")               loop
 *   submit(batch) --wake---> sqlite_write: one transaction -> committed() or failed()
 *                            sqlite_tidy: when the -wal is long
 *   fetch(fetch)  --wake---> sqlite_fetch: reader ("store-read") -> fetch->mail.fn()
 *
 * The batch stays the domain's: the writer reads it, and the constant parts of the messages and principals in
 * it, until it has posted the result; it never touches a reference count. There is one batch at a time, so
 * its result is one piece of mail. It is a block of its own because the mailbox may deliver it when the store
 * is closed already.
 */
#include "broker/log.h"
#include "broker/store_sqlite_parts.h"
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct result {
    struct mail mail;           /* first */
    struct sqlite_store *store; /* NULL: closed meanwhile */
    bool posted, failed;
    uint64_t batch;
    enum storage_error error;
    struct err why;
};

/* ---- the writer ---- */

/* On the loop. */
static void tell(struct mail *mail)
{
    struct result *result = (struct result *)mail;
    if (!result->store) {
        free(result);
        return;
    }
    const struct storage_events *events = &result->store->port.events;
    result->posted = false; /* the event may submit the next one */
    if (result->failed && events->failed) {
        events->failed(events->arg, result->batch, result->error, result->why.text);
    } else if (!result->failed && events->committed) {
        events->committed(events->arg, result->batch);
    }
}

static const struct batch *next_batch(struct sqlite_store *store)
{
    pthread_mutex_lock(&store->lock);
    while (!store->batch && !store->ending) {
        pthread_cond_wait(&store->wake, &store->lock);
    }
    const struct batch *batch = store->batch;
    store->batch = NULL;
    pthread_mutex_unlock(&store->lock);
    return batch;
}

static void *writer(void *arg)
{
    struct sqlite_store *store = arg;
    const struct batch *batch;
    while ((batch = next_batch(store))) {
        struct result *result = store->result;
        result->batch = batch->number;
        result->failed = sqlite_write(store, batch, &result->error, &result->why) != 0;
        mailbox_post(store->mailbox, &result->mail);
        sqlite_tidy(store);
    }
    return NULL;
}

static void submit(struct storage *storage, const struct batch *batch)
{
    struct sqlite_store *store = (struct sqlite_store *)storage;
    store->result->posted = true;
    pthread_mutex_lock(&store->lock);
    store->batch = batch;
    pthread_cond_signal(&store->wake);
    pthread_mutex_unlock(&store->lock);
}

/* ---- the reader ---- */

static struct fetch *next_fetch(struct sqlite_store *store, bool *ending)
{
    pthread_mutex_lock(&store->lock);
    while (!store->fetches && !store->ending) {
        pthread_cond_wait(&store->wake_reader, &store->lock);
    }
    struct mail *mail = store->fetches;
    if (mail) {
        store->fetches = mail->next;
    }
    *ending = store->ending;
    pthread_mutex_unlock(&store->lock);
    return (struct fetch *)mail;
}

/* What is asked for when the store ends is answered, as failed: each has somebody who waits for its mail. */
static void *reader(void *arg)
{
    struct sqlite_store *store = arg;
    struct fetch *fetch;
    bool ending;
    while ((fetch = next_fetch(store, &ending))) {
        fetch->rows = NULL;
        fetch->failed = true;
        if (!ending) {
            pthread_mutex_lock(&store->reader_lock); /* free but for when the writer mends a failure */
            sqlite_fetch(store, fetch);
            pthread_mutex_unlock(&store->reader_lock);
        }
        mailbox_post(store->mailbox, &fetch->mail);
    }
    return NULL;
}

static void fetch(struct storage *storage, struct fetch *fetch)
{
    struct sqlite_store *store = (struct sqlite_store *)storage;
    struct mail **last = &store->fetches;
    fetch->mail.next = NULL;
    pthread_mutex_lock(&store->lock);
    while (*last) {
        last = &(*last)->next;
    }
    *last = &fetch->mail;
    pthread_cond_signal(&store->wake_reader);
    pthread_mutex_unlock(&store->lock);
}

static void rows_free(struct storage *storage, struct fetch *fetch)
{
    (void)storage;
    free(fetch->rows);
    fetch->rows = NULL;
}

/* ---- opening and closing ---- */

static bool copy_names(struct sqlite_store *store, const struct storage_options *options)
{
    store->listeners = calloc(options->listener_count + 1, sizeof *store->listeners);
    if (!store->listeners) {
        return false;
    }
    for (; store->listener_count < options->listener_count; store->listener_count++) {
        char *name = strdup(options->listeners[store->listener_count]);
        if (!name) {
            return false;
        }
        store->listeners[store->listener_count] = name;
    }
    return true;
}

static struct sqlite_store *store_of(const struct storage_options *options)
{
    struct sqlite_store *store = calloc(1, sizeof *store);
    if (!store) {
        return NULL;
    }
    store->port.submit = submit;
    store->port.fetch = fetch;
    store->port.rows_free = rows_free;
    store->sync = options->sync;
    store->min_free = options->min_free;
    store->mailbox = options->mailbox;
    store->file = -1;
    store->suspect = true;
    store->tidy_at = STORE_WAL_BOUND;
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->reader_lock, NULL);
    pthread_cond_init(&store->wake, NULL);
    pthread_cond_init(&store->wake_reader, NULL);
    origins_start(&store->origins);
    store->path = strdup(options->path);
    store->result = calloc(1, sizeof *store->result);
    if (!store->path || !store->result || !copy_names(store, options)) {
        storage_close(&store->port);
        return NULL;
    }
    store->stand_in = options->stand_in > 0 ? (int)options->stand_in - 1 : LISTENER_GONE;
    store->result->mail.fn = tell;
    store->result->store = store;
    return store;
}

/* Page by page, when that does not take for ever. What load reads is compared row by row, but a page whose
 * list of rows is damaged may hide one. 100 MiB take a quarter of a second of a PC's CPU. */
static int look_at_pages(struct sqlite_store *store, off_t size, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    if (size > STORE_QUICK_BOUND) {
        log_write(LOG_T_WARNING,
                  "%s: too large to be looked at page by page at each start: see `bramble store check`.",
                  err_path(store->path));
        return 0;
    }
    int rc = sqlite3_prepare_v2(store->db.db, "PRAGMA quick_check(1)", -1, &statement, NULL);
    rc = rc == SQLITE_OK ? sqlite3_step(statement) : rc;
    if (rc != SQLITE_ROW) {
        sqlite3_finalize(statement);
        return connection_err(&store->db, store->path, err);
    }
    struct slice said = row_slice(statement, 0);
    if (!slice_eq(said, slice_str("ok"))) {
        err_set(
            err,
            "%s: damaged: %.*s; the file was left as it is: see `bramble store check`, put back a copy, or "
            "move it away to start empty",
            err_path(store->path), (int)(said.n < 300 ? said.n : 300), (const char *)said.p);
        rc = SQLITE_CORRUPT;
    }
    sqlite3_finalize(statement);
    return rc == SQLITE_ROW ? 0 : -1;
}

/* As the file says: it may be older than the constant. */
static uint32_t page_size_of(int fd)
{
    uint8_t bytes[2] = {0, 0};
    uint32_t size =
        pread(fd, bytes, sizeof bytes, 16) == sizeof bytes ? (uint32_t)bytes[0] << 8 | bytes[1] : 0;
    return size == 1 ? 65536 : size;
}

static int open_all(struct sqlite_store *store, struct err *err)
{
    struct stat st;
    store->file = sqlite_file_take(store->path, store->sync, err);
    if (store->file < 0) {
        return -1;
    }
    if (fstat(store->file, &st)) {
        return err_set(err, "%s: cannot be read", err_path(store->path));
    }
    store->page_size = page_size_of(store->file);
    store->device = st.st_dev;
    store->inode = st.st_ino;
    atomic_store(&store->file_bytes, (uint64_t)st.st_size);
    return sqlite_open_writer(store, err) || look_at_pages(store, st.st_size, err) ? -1 : 0;
}

struct storage *storage_open(const struct storage_options *options, struct err *err)
{
    struct sqlite_store *store = store_of(options);
    if (!store) {
        err_set(err, "no memory");
        return NULL;
    }
    if (open_all(store, err)) {
        connection_close(&store->db, true);
        storage_close(&store->port);
        return NULL;
    }
    return &store->port;
}

/* Signals are the loop thread's. */
int storage_start(struct storage *storage, struct err *err)
{
    struct sqlite_store *store = (struct sqlite_store *)storage;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    store->writer_runs = pthread_create(&store->writer_thread, NULL, writer, store) == 0;
    store->reader_runs = pthread_create(&store->reader_thread, NULL, reader, store) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!store->writer_runs || !store->reader_runs) {
        return err_set(err, "%s: its threads cannot be started", err_path(store->path));
    }
    pthread_setname_np(store->writer_thread, "store");
    pthread_setname_np(store->reader_thread, "store-read");
    return 0;
}

static void end_threads(struct sqlite_store *store)
{
    pthread_mutex_lock(&store->lock);
    store->ending = true;
    pthread_cond_broadcast(&store->wake);
    pthread_cond_broadcast(&store->wake_reader);
    pthread_mutex_unlock(&store->lock);
    if (store->writer_runs) {
        pthread_join(store->writer_thread, NULL);
    }
    if (store->reader_runs) {
        pthread_join(store->reader_thread, NULL);
    }
    store->writer_runs = store->reader_runs = false;
}

void storage_stop(struct storage *storage)
{
    end_threads((struct sqlite_store *)storage);
}

/* The result is the mailbox's when it was posted and not told yet. */
static void leave_result(struct sqlite_store *store)
{
    if (store->result && store->result->posted) {
        store->result->store = NULL;
    } else {
        free(store->result);
    }
}

void storage_close(struct storage *storage)
{
    struct sqlite_store *store = (struct sqlite_store *)storage;
    if (!store) {
        return;
    }
    end_threads(store);
    connection_close(&store->reader, true);
    if (store->loaded) {
        sqlite_settle_all(store);
    }
    connection_close(&store->db, !store->loaded || store->suspect);
    if (store->file >= 0) {
        close(store->file); /* the last: it takes all locks of the process along */
    }
    leave_result(store);
    origins_free(&store->origins);
    for (size_t i = 0; i < store->listener_count; i++) {
        free(store->listeners[i]);
    }
    free(store->listeners);
    pthread_cond_destroy(&store->wake);
    pthread_cond_destroy(&store->wake_reader);
    pthread_mutex_destroy(&store->lock);
    pthread_mutex_destroy(&store->reader_lock);
    free(store->path);
    free(store);
}

struct storage_figures storage_figures(const struct storage *storage)
{
    const struct sqlite_store *store = (const struct sqlite_store *)storage;
    return (struct storage_figures){.commits = atomic_load(&store->commits),
                                    .syncs = atomic_load(&store->syncs),
                                    .bytes_written = atomic_load(&store->bytes_written),
                                    .file_bytes = atomic_load(&store->file_bytes),
                                    .wal_bytes = atomic_load(&store->wal_bytes)};
}
