/*
 * store_sqlite_parts.h - what the files of the SQLite adapter share. Private to broker/store_sqlite*.c.
 *
 *   store_sqlite.c         the port, the threads, what a failure is called
 *   store_sqlite_file.c    whether the file may be opened at all, and that nobody else has it
 *   store_sqlite_schema.c  connections, pragmas, the schema and its versions, statements
 *   store_sqlite_row.c     rows: columns with their checksum, recipients
 *   store_sqlite_origin.c  who published: each different one stored once, counted
 *   store_sqlite_apply.c   a change becomes rows
 *   store_sqlite_write.c   a batch is one transaction; checkpoints
 *   store_sqlite_recover.c what a failure leaves, and what must be done before another batch
 *   store_sqlite_count.c   what is written and synced
 *   store_sqlite_load.c    what is in the file, told at start
 *   store_sqlite_fetch.c   messages of one session, on the reader thread
 *   store_sqlite_tool.c    check, dump, vacuum
 *
 * Until storage_start() everything is the opening thread's; from then on `db`, `origins` and `reserved` are
 * the writer thread's alone, `reader` is whose who holds reader_lock, and what `lock` guards is said there.
 */
#ifndef BRAMBLE_STORE_SQLITE_PARTS_H
#define BRAMBLE_STORE_SQLITE_PARTS_H

#include "broker/hash.h"
#include "broker/siphash.h"
#include "broker/store_sqlite.h"
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/types.h>

enum {
    STORE_PAGE_SIZE =
        1024,          /* of a new file: the fewest bytes for each commit, see test/perf/store_layout.c */
    STORE_VERSION = 1, /* user_version of the file */
    STORE_APPLICATION = 0x6272616d,    /* "bram", application_id of the file */
    STORE_WAL_BOUND = 4 * 1024 * 1024, /* bytes of -wal from which on it is written back to the file */
    STORE_RESERVE = 100000,            /* numbers that are set aside at a time */
    STORE_QUICK_BOUND =
        1024 * 1024 * 1024, /* a file up to so many bytes is looked at page by page at start */
};

/* ---- tables ---- */

enum store_table {
    TABLE_META,
    TABLE_ORIGIN,
    TABLE_SESSION,
    TABLE_MARK,
    TABLE_DONE,
    TABLE_OUT,
    TABLE_INBOUND,
    TABLE_SUBSCRIPTION,
    TABLE_RETAINED,
    TABLE_MESSAGE,
    TABLE_WILL,
    TABLES
};

/* Columns in the order of the schema: first the keys, last the checksum. */
struct table_form {
    const char *name;
    int columns, keys;
    const char *column[10];
};
extern const struct table_form store_tables[TABLES];

/* ---- connections and statements ---- */

enum statement {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_META_SET,
    SQL_ORIGIN_ADD,
    SQL_ORIGIN_DROP,
    SQL_MESSAGE_ADD,
    SQL_MESSAGE_ORIGIN,
    SQL_MESSAGE_DROP,
    SQL_MARK_SET,
    SQL_DONE_ADD,
    SQL_DONE_PASSED,
    SQL_OUT_SET,
    SQL_OUT_DROP,
    SQL_INBOUND_ADD,
    SQL_INBOUND_DROP,
    SQL_RETAINED_SET,
    SQL_RETAINED_ORIGIN,
    SQL_RETAINED_DROP,
    SQL_SESSION_SET,
    SQL_SESSION_ORIGIN,
    SQL_SESSION_DROP,
    SQL_MARK_CLEAR,
    SQL_DONE_CLEAR,
    SQL_OUT_CLEAR,
    SQL_INBOUND_CLEAR,
    SQL_SUBSCRIPTION_CLEAR,
    SQL_SUBSCRIPTION_SET,
    SQL_SUBSCRIPTION_DROP,
    SQL_WILL_SET,
    SQL_WILL_ORIGIN,
    SQL_WILL_DROP,
    SQL_DONE_IS,
    SQL_OUT_OF,
    SQL_MESSAGE_GET,
    SQL_ORIGIN_GET,
    SQL_FREE_PAGES,
    STATEMENTS
};

struct connection {
    sqlite3 *db;                         /* NULL: closed */
    sqlite3_stmt *statement[STATEMENTS]; /* made when first asked for */
};

/* Somebody with a shell may hold the file for that long before we give up. */
enum { CONNECTION_BUSY_MS = 5000 };

enum connection_kind { CONNECTION_WRITER, CONNECTION_READER };

/* Opens the file, which must exist. 0, or -1. */
int connection_open(struct connection *connection, const char *path, enum connection_kind kind,
                    enum storage_sync sync, struct err *err);
/* NULL and closed ones are allowed. With keep nothing of the -wal is written back. */
void connection_close(struct connection *connection, bool keep);
/* Ready for binding. NULL: sqlite3_errcode() of the connection says why. */
sqlite3_stmt *connection_statement(struct connection *connection, enum statement which);
/* Runs it with up to two numbers bound; an SQLite code. */
int connection_run(struct connection *connection, enum statement which, int64_t first, int64_t second);
/* Runs SQL text. */
int connection_exec(struct connection *connection, const char *sql);
/* What the system said when a read, write or sync of its files failed last; 0: nothing. */
int connection_errno(const struct connection *connection);
/* "PATH: what SQLite says (and the system)". Returns -1. */
int connection_err(const struct connection *connection, const char *path, struct err *err);

/* Makes the file of the current version where there is none; brings an older one up to date, behind a copy.
 */
int sqlite_schema_make(const char *path, struct err *err);
int sqlite_schema_migrate(const char *path, int lock, int version, struct err *err);

/* ---- the file ---- */

/* Opens it for the lock that keeps a second daemon out, and looks whether it is one of ours. The descriptor,
 * to be closed when every connection is closed (closing it drops SQLite's own locks), or -1. Makes the file
 * when there is none. No connection of this process may be open: the -wal is looked at, too. */
int sqlite_file_take(const char *path, enum storage_sync sync, struct err *err);
/* The same for reading only, without a lock, and without making anything; *version of its schema, when not
 * NULL. */
int sqlite_file_look(const char *path, int *version, struct err *err);
/* Whether a broker has it. */
bool sqlite_file_in_use(const char *path);

/* ---- rows ---- */

enum { ROW_COLUMNS = 10 };

/* What a checksum is taken of: two words for each value. */
struct sum {
    const struct siphash_key *key;
    uint64_t words[2 * ROW_COLUMNS + 1];
    size_t count;
};
void sum_start(struct sum *sum, const struct siphash_key *key, uint64_t tag);
void sum_number(struct sum *sum, int64_t value);
void sum_bytes(struct sum *sum, struct slice bytes); /* p NULL: no value */
uint64_t sum_end(const struct sum *sum);

/* A row that is being written: the columns in their order, the checksum is added at the end. */
struct row {
    struct connection *connection;
    sqlite3_stmt *statement;
    struct sum sum;
    int at, rc;
};
void row_start(struct row *row, struct connection *connection, enum statement which, enum store_table table);
void row_number(struct row *row, int64_t value);
void row_text(struct row *row, struct slice text); /* p NULL: NULL; valid until row_end() */
void row_blob(struct row *row, struct slice blob); /* never NULL */
void row_null(struct row *row);
int row_end(struct row *row); /* an SQLite code */

/* Whether the row that the statement stands on is as it was written: SQLITE_OK, SQLITE_CORRUPT, or another
 * code when it could not be read. The statement gives all columns, in order. */
int row_whole(sqlite3_stmt *statement, enum store_table table);
/* "table message, number 17": which row the statement stands on. */
void row_name(sqlite3_stmt *statement, enum store_table table, char *out, size_t size);
struct slice row_slice(sqlite3_stmt *statement, int column);

/* flags of messages */
enum { FLAG_QOS = 3, FLAG_RETAIN = 4 };

/* Recipients as they stand in a row: each the difference to the session before (zigzag, 7 bits a byte), a
 * byte of flags, and the id when there is one. */
size_t recipients_most(size_t count); /* bytes that so many can take */
size_t recipients_put(uint8_t *out, const struct recipient *owed, size_t count);
struct recipients {
    struct slice left;
    uint64_t session;
};
/* 1: the next one; 0: no more; -1: damaged. */
int recipients_next(struct recipients *recipients, struct recipient *recipient);

/* ---- origins ---- */

enum { ORIGIN_FIELDS = 8, ORIGIN_LISTENER = 2 };

struct origin {
    uint64_t number;
    uint64_t key[2];      /* what it is, in 128 bits that nobody can steer */
    uint64_t count, was;  /* rows that use it; was: by what is committed */
    bool touched, stored; /* stored: its row is committed */
    struct origin *next_touched;
    struct stored_origin *told; /* while loading: one block with its texts */
    UT_hash_handle by_key, by_number;
};

struct origins {
    struct siphash_key secret[2];
    struct origin *by_key, *by_number, *touched;
    uint64_t last;
};

struct sqlite_store;

void origins_start(struct origins *origins);
void origins_free(struct origins *origins);
/* One more row uses the principal's origin (who may be NULL: 0). An SQLite code. */
int origin_take(struct sqlite_store *store, const struct principal *who, uint64_t *number);
/* One row less. */
void origin_drop(struct sqlite_store *store, uint64_t number);
/* Removes rows that nobody uses any more; before COMMIT. */
int origins_settle(struct sqlite_store *store);
void origins_committed(struct origins *origins);
void origins_rolled_back(struct origins *origins);
/* While loading: the row that the statement stands on. An SQLite code. */
int origin_load(struct sqlite_store *store, sqlite3_stmt *statement);
/* While loading: one more row uses this number. NULL: there is no such origin. */
const struct stored_origin *origin_told(struct sqlite_store *store, uint64_t number);
/* Loading is over: those that no row uses go with the next batch. */
void origins_loaded(struct origins *origins);
/* The number of a listener now, by what is stored of it. */
int origin_listener(const struct sqlite_store *store, struct slice name);

/* ---- the store ---- */

/* A file of the writer's connection, of which writes and syncs are counted. */
struct counted_file {
    sqlite3_io_methods ours;
    const sqlite3_io_methods *real;
    struct sqlite_store *store;
};

struct result; /* of a batch, on its way to the loop */

struct sqlite_store {
    struct storage port; /* first */
    char *path;
    enum storage_sync sync;
    uint64_t min_free;
    char **listeners;
    size_t listener_count;
    int stand_in; /* number of a listener, or LISTENER_GONE */
    struct mailbox *mailbox;
    int file; /* holds the lock */
    dev_t device;
    ino_t inode;

    struct connection db;
    struct counted_file counted[2];
    struct origins origins;
    uint64_t reserved; /* numbers up to this one may be given without a word in the file */
    bool suspect;      /* see store_sqlite_recover.c */
    bool reopen, index_suspect;
    bool full;        /* the last batch had no room */
    uint64_t tidy_at; /* bytes of -wal from which on it is written back */
    int wal_frames;   /* in the -wal, after the last commit */
    int wal_done;     /* of these: are in the file, too */

    bool loaded; /* only then it may be changed */

    pthread_mutex_t reader_lock; /* held by the reader while it reads */
    struct connection reader;
    uint32_t page_size; /* of the file */

    pthread_t writer_thread, reader_thread;
    bool writer_runs, reader_runs; /* as threads: they are to be joined */
    pthread_mutex_t lock;          /* guards the next four */
    pthread_cond_t wake, wake_reader;
    const struct batch *batch;
    struct mail *fetches; /* waiting, oldest first */
    bool ending;
    struct result *result;

    _Atomic uint64_t commits, syncs, bytes_written, file_bytes, wal_bytes;
};

/* One change; an SQLite code. */
int sqlite_apply(struct sqlite_store *store, const struct change *change);
/* Messages go by their numbers, and all that belongs to sessions that are gone; an SQLite code. */
int sqlite_apply_orphans(struct sqlite_store *store, const uint64_t *messages, size_t count);
/* From now on what the writer's connection writes is counted. */
void sqlite_count_writes(struct sqlite_store *store);
/* Opens the connection of the writer. 0, or -1. */
int sqlite_open_writer(struct sqlite_store *store, struct err *err);
/* Applies the batch in one transaction: 0, or -1 with error and why. Writer thread. */
int sqlite_write(struct sqlite_store *store, const struct batch *batch, enum storage_error *error,
                 struct err *why);
/* What has failed, in words, and what it means for the next batch. Before anything else is asked of the
 * connection. */
void sqlite_note_failure(struct sqlite_store *store, int rc, enum storage_error *error, struct err *why);
/* Whether the file and its -wal are still under their names. 0, or -1. */
int sqlite_look_at_files(const struct sqlite_store *store, struct err *err);
/* Makes the store fit for another batch. 0, or -1: it is not yet. */
int sqlite_recover(struct sqlite_store *store, enum storage_error *error, struct err *why);
/* Writes the -wal back, in one of SQLite's modes; an SQLite code. */
int sqlite_checkpoint(struct sqlite_store *store, int mode);
/* After the commit was told: writes back what is in the -wal when it has grown past its bound. */
void sqlite_tidy(struct sqlite_store *store);
/* Everything to the file, and the -wal empty, as far as possible. */
void sqlite_settle_all(struct sqlite_store *store);
/* sqlite_apply_orphans() as one transaction: while loading. An SQLite code. */
int sqlite_remove_orphans(struct sqlite_store *store, const uint64_t *messages, size_t count);
/* Answers a fetch into fetch->rows or fetch->failed. Reader thread. */
void sqlite_fetch(struct sqlite_store *store, struct fetch *fetch);

#endif
