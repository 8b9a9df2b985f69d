/*
 * store_sqlite_schema.c - connections, the schema with its versions, and all SQL that runs while the broker
 * does.
 *
 * The schema's version is user_version of the file. Each step below leads from one version to the next, in
 * one transaction with the number itself; a new file runs them all. A step that was released is never
 * changed: what is to be different becomes a new one.
 *
 * What is not to be written twice decides the tables. Rows that come and go with traffic are short and lie
 * where they were appended: a message once with all its recipients, a mark apart from its session. What is
 * replaced by name (retained, will, subscription) has its name as key and no second index.
 *
 * Columns that nothing fills yet (level, kind, clean_start, expiry, properties, identifier, delay) are for
 * MQTT 5 and bridges: their rows will not have to be rewritten.
 */
#include "broker/store_sqlite_parts.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

const struct table_form store_tables[TABLES] = {
    [TABLE_META] = {"meta", 3, 1, {"key", "value", "sum"}},
    [TABLE_ORIGIN] = {"origin",
                      10,
                      1,
                      {"number", "client_id", "user", "listener", "address", "tls", "cn", "subject", "sha256",
                       "sum"}},
    [TABLE_SESSION] = {"session",
                       8,
                       1,
                       {"number", "client_id", "origin", "level", "kind", "clean_start", "expiry", "sum"}},
    [TABLE_MARK] = {"mark", 3, 1, {"session", "number", "sum"}},
    [TABLE_DONE] = {"done", 3, 2, {"session", "number", "sum"}},
    [TABLE_OUT] = {"out", 5, 2, {"session", "id", "qos", "number", "sum"}},
    [TABLE_INBOUND] = {"inbound", 3, 2, {"session", "id", "sum"}},
    [TABLE_SUBSCRIPTION] = {"subscription",
                            6,
                            2,
                            {"session", "filter", "options", "identifier", "owing", "sum"}},
    [TABLE_RETAINED] = {"retained",
                        7,
                        1,
                        {"topic", "payload", "flags", "origin", "properties", "expiry", "sum"}},
    [TABLE_MESSAGE] = {"message",
                       9,
                       1,
                       {"number", "topic", "payload", "flags", "origin", "owed", "properties", "expiry",
                        "sum"}},
    [TABLE_WILL] = {"will",
                    9,
                    1,
                    {"client_id", "topic", "payload", "flags", "origin", "delay", "properties", "expiry",
                     "sum"}},
};

/* From nothing to version 1. flags: 1, 2 the QoS, 4 retain. options: the byte of MQTT 5, now only its QoS. */
static const char version_1[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER, sum INTEGER) WITHOUT ROWID;"
    "CREATE TABLE origin(number INTEGER PRIMARY KEY, client_id TEXT, user TEXT, listener TEXT, address TEXT,"
    " tls TEXT, cn TEXT, subject TEXT, sha256 TEXT, sum INTEGER);"
    "CREATE TABLE session(number INTEGER PRIMARY KEY, client_id TEXT, origin INTEGER, level INTEGER,"
    " kind INTEGER, clean_start INTEGER, expiry INTEGER, sum INTEGER);"
    "CREATE TABLE mark(session INTEGER PRIMARY KEY, number INTEGER, sum INTEGER);"
    "CREATE TABLE done(session INTEGER, number INTEGER, sum INTEGER, PRIMARY KEY(session, number))"
    " WITHOUT ROWID;"
    "CREATE TABLE out(session INTEGER, id INTEGER, qos INTEGER, number INTEGER, sum INTEGER,"
    " PRIMARY KEY(session, id)) WITHOUT ROWID;"
    "CREATE TABLE inbound(session INTEGER, id INTEGER, sum INTEGER, PRIMARY KEY(session, id)) WITHOUT ROWID;"
    "CREATE TABLE subscription(session INTEGER, filter TEXT, options INTEGER, identifier INTEGER,"
    " owing INTEGER, sum INTEGER, PRIMARY KEY(session, filter)) WITHOUT ROWID;"
    "CREATE TABLE retained(topic TEXT PRIMARY KEY, payload BLOB, flags INTEGER, origin INTEGER,"
    " properties BLOB, expiry INTEGER, sum INTEGER) WITHOUT ROWID;"
    "CREATE TABLE message(number INTEGER PRIMARY KEY, topic TEXT, payload BLOB, flags INTEGER,"
    " origin INTEGER, owed BLOB, properties BLOB, expiry INTEGER, sum INTEGER);"
    "CREATE TABLE will(client_id TEXT PRIMARY KEY, topic TEXT, payload BLOB, flags INTEGER, origin INTEGER,"
    " delay INTEGER, properties BLOB, expiry INTEGER, sum INTEGER) WITHOUT ROWID;";

static int to_version_1(struct connection *connection)
{
    return connection_exec(connection, version_1);
}

/* By the version that they start from. */
static int (*const steps[STORE_VERSION])(struct connection *connection) = {to_version_1};

#define GONE(what) "DELETE FROM " what

static const char *const statements[STATEMENTS] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_META_SET] = "INSERT OR REPLACE INTO meta VALUES(?,?,?)",
    [SQL_ORIGIN_ADD] = "INSERT OR REPLACE INTO origin VALUES(?,?,?,?,?,?,?,?,?,?)",
    [SQL_ORIGIN_DROP] = GONE("origin WHERE number=?"),
    [SQL_MESSAGE_ADD] = "INSERT OR IGNORE INTO message VALUES(?,?,?,?,?,?,?,?,?)",
    [SQL_MESSAGE_ORIGIN] = "SELECT origin FROM message WHERE number=?",
    [SQL_MESSAGE_DROP] = GONE("message WHERE number=?"),
    [SQL_MARK_SET] = "INSERT OR REPLACE INTO mark VALUES(?,?,?)",
    [SQL_DONE_ADD] = "INSERT OR REPLACE INTO done VALUES(?,?,?)",
    [SQL_DONE_PASSED] = GONE("done WHERE session=? AND number<?"),
    [SQL_OUT_SET] = "INSERT OR REPLACE INTO out VALUES(?,?,?,?,?)",
    [SQL_OUT_DROP] = GONE("out WHERE session=? AND id=?"),
    [SQL_INBOUND_ADD] = "INSERT OR REPLACE INTO inbound VALUES(?,?,?)",
    [SQL_INBOUND_DROP] = GONE("inbound WHERE session=? AND id=?"),
    [SQL_RETAINED_SET] = "INSERT OR REPLACE INTO retained VALUES(?,?,?,?,?,?,?)",
    [SQL_RETAINED_ORIGIN] = "SELECT origin FROM retained WHERE topic=?",
    [SQL_RETAINED_DROP] = GONE("retained WHERE topic=?"),
    [SQL_SESSION_SET] = "INSERT OR REPLACE INTO session VALUES(?,?,?,?,?,?,?,?)",
    [SQL_SESSION_ORIGIN] = "SELECT origin FROM session WHERE number=?",
    [SQL_SESSION_DROP] = GONE("session WHERE number=?"),
    [SQL_MARK_CLEAR] = GONE("mark WHERE session=?"),
    [SQL_DONE_CLEAR] = GONE("done WHERE session=?"),
    [SQL_OUT_CLEAR] = GONE("out WHERE session=?"),
    [SQL_INBOUND_CLEAR] = GONE("inbound WHERE session=?"),
    [SQL_SUBSCRIPTION_CLEAR] = GONE("subscription WHERE session=?"),
    [SQL_SUBSCRIPTION_SET] = "INSERT OR REPLACE INTO subscription VALUES(?,?,?,?,?,?)",
    [SQL_SUBSCRIPTION_DROP] = GONE("subscription WHERE session=? AND filter=?"),
    [SQL_WILL_SET] = "INSERT OR REPLACE INTO will VALUES(?,?,?,?,?,?,?,?,?)",
    [SQL_WILL_ORIGIN] = "SELECT origin FROM will WHERE client_id=?",
    [SQL_WILL_DROP] = GONE("will WHERE client_id=?"),
    [SQL_DONE_IS] = "SELECT 1 FROM done WHERE session=? AND number=?",
    [SQL_OUT_OF] = "SELECT id FROM out WHERE session=? AND number=?",
    [SQL_MESSAGE_GET] = "SELECT * FROM message WHERE number=?",
    [SQL_FREE_PAGES] = "PRAGMA freelist_count",
    [SQL_ORIGIN_GET] = "SELECT * FROM origin WHERE number=?",
};

/* ---- connections ---- */

/* Every connection: what a damaged file says is not believed, and nothing of the file is mapped (an I/O error
 * would be a SIGBUS). secure_delete, which the distribution has switched on, would write pages that are
 * freed. */
static const char pragmas[] = "PRAGMA mmap_size=0; PRAGMA cache_size=-2048; PRAGMA cell_size_check=ON;"
                              "PRAGMA trusted_schema=OFF; PRAGMA secure_delete=OFF; PRAGMA temp_store=MEMORY;"
                              "PRAGMA wal_autocheckpoint=0;";

int connection_exec(struct connection *connection, const char *sql)
{
    return sqlite3_exec(connection->db, sql, NULL, NULL, NULL);
}

int connection_errno(const struct connection *connection)
{
    static const int files[] = {SQLITE_FCNTL_JOURNAL_POINTER, SQLITE_FCNTL_FILE_POINTER};
    int found = connection->db ? sqlite3_system_errno(connection->db) : 0;
    for (size_t i = 0; connection->db && found == 0 && i < sizeof files / sizeof *files; i++) {
        sqlite3_file *file = NULL; /* what sqlite3_system_errno() knows of is but the opening */
        if (sqlite3_file_control(connection->db, "main", files[i], &file) == SQLITE_OK && file &&
            file->pMethods) {
            file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &found);
        }
    }
    return found;
}

int connection_err(const struct connection *connection, const char *path, struct err *err)
{
    int code = connection->db ? sqlite3_extended_errcode(connection->db) : SQLITE_NOMEM;
    bool io = (code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN;
    int system = io ? connection_errno(connection) : 0;
    const char *why = connection->db ? sqlite3_errmsg(connection->db) : sqlite3_errstr(code);
    return err_set(err, "%s: %s (SQLite code %d%s%s)", err_path(path), why, code, system ? "; " : "",
                   system ? strerror(system) : "");
}

static int use_writer_pragmas(struct connection *connection, enum storage_sync sync)
{
    static const char *const levels[] = {"FULL", "NORMAL", "OFF"};
    char sql[200];
    snprintf(sql, sizeof sql, "PRAGMA journal_mode=WAL; PRAGMA synchronous=%s; PRAGMA journal_size_limit=%d;",
             levels[sync], STORE_WAL_BOUND);
    return connection_exec(connection, sql);
}

static bool prepare_all(struct connection *connection)
{
    for (int i = 0; i < STATEMENTS; i++) {
        if (!connection_statement(connection, (enum statement)i)) {
            return false;
        }
    }
    return true;
}

int connection_open(struct connection *connection, const char *path, enum connection_kind kind,
                    enum storage_sync sync, struct err *err)
{
    int flags = kind == CONNECTION_WRITER ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY;
    *connection = (struct connection){0};
    int rc = sqlite3_open_v2(path, &connection->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_extended_result_codes(connection->db, 1);
        sqlite3_busy_timeout(connection->db, CONNECTION_BUSY_MS);
        sqlite3_db_config(connection->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        rc = connection_exec(connection, pragmas);
    }
    if (rc == SQLITE_OK && kind == CONNECTION_WRITER) {
        rc = use_writer_pragmas(connection, sync);
    }
    if (rc != SQLITE_OK || !prepare_all(connection)) {
        connection_err(connection, path, err);
        connection_close(connection, true);
        return -1;
    }
    return 0;
}

void connection_close(struct connection *connection, bool keep)
{
    if (!connection || !connection->db) {
        return;
    }
    for (int i = 0; i < STATEMENTS; i++) {
        sqlite3_finalize(connection->statement[i]);
    }
    sqlite3_db_config(connection->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep ? 1 : 0, NULL);
    sqlite3_close(connection->db);
    *connection = (struct connection){0};
}

sqlite3_stmt *connection_statement(struct connection *connection, enum statement which)
{
    sqlite3_stmt **statement = &connection->statement[which];
    if (!*statement) {
        sqlite3_prepare_v3(connection->db, statements[which], -1, SQLITE_PREPARE_PERSISTENT, statement, NULL);
    }
    return *statement;
}

int connection_run(struct connection *connection, enum statement which, int64_t first, int64_t second)
{
    sqlite3_stmt *statement = connection_statement(connection, which);
    if (!statement) {
        return sqlite3_errcode(connection->db);
    }
    const int64_t values[] = {first, second};
    for (int i = 0; i < 2 && i < sqlite3_bind_parameter_count(statement); i++) {
        sqlite3_bind_int64(statement, i + 1, values[i]);
    }
    int rc = sqlite3_step(statement);
    sqlite3_reset(statement);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* ---- versions ---- */

/* All steps from that version on, and the number of the last one, in one transaction. */
static int climb(struct connection *connection, int version)
{
    char sql[80];
    int rc = connection_exec(connection, "BEGIN IMMEDIATE");
    for (int i = version; i < STORE_VERSION && rc == SQLITE_OK; i++) {
        rc = steps[i](connection);
    }
    snprintf(sql, sizeof sql, "PRAGMA application_id=%d; PRAGMA user_version=%d;", STORE_APPLICATION,
             STORE_VERSION);
    rc = rc == SQLITE_OK ? connection_exec(connection, sql) : rc;
    rc = rc == SQLITE_OK ? connection_exec(connection, "COMMIT") : rc;
    return rc;
}

/* Opens the file as it is, without statements (there may be no tables yet). */
static int open_bare(struct connection *connection, const char *path)
{
    *connection = (struct connection){0};
    int rc = sqlite3_open_v2(path, &connection->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_extended_result_codes(connection->db, 1);
        sqlite3_busy_timeout(connection->db, CONNECTION_BUSY_MS);
        rc = connection_exec(connection, "PRAGMA synchronous=FULL");
    }
    return rc;
}

int sqlite_schema_make(const char *path, struct err *err)
{
    struct connection connection;
    char sql[80];
    snprintf(sql, sizeof sql, "PRAGMA page_size=%d; PRAGMA auto_vacuum=NONE;", STORE_PAGE_SIZE);
    int rc = open_bare(&connection, path);
    rc = rc == SQLITE_OK ? connection_exec(&connection, sql) : rc;
    rc = rc == SQLITE_OK ? climb(&connection, 0) : rc;
    rc = rc == SQLITE_OK ? connection_exec(&connection, "PRAGMA journal_mode=WAL") : rc;
    if (rc != SQLITE_OK) {
        connection_err(&connection, path, err);
    }
    connection_close(&connection, false);
    return rc == SQLITE_OK ? 0 : -1;
}

/* A copy of what the descriptor reads, under a new name; nothing that is there is replaced. */
static int copy_aside(int from, const char *path, struct err *err)
{
    char block[65536];
    int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0) {
        return err_set(err, "%s: the copy before the file is brought up to date: %s", err_path(path),
                       strerror(errno));
    }
    ssize_t n;
    off_t at = 0;
    while ((n = pread(from, block, sizeof block, at)) > 0 && pwrite(to, block, (size_t)n, at) == n) {
        at += n;
    }
    bool copied = n == 0 && fsync(to) == 0;
    int why = errno;
    close(to);
    if (!copied) {
        unlink(path);
        return err_set(err, "%s: the copy before the file is brought up to date: %s", err_path(path),
                       strerror(why));
    }
    return 0;
}

int sqlite_schema_migrate(const char *path, int lock, int version, struct err *err)
{
    struct connection connection;
    char *aside;
    int rc = open_bare(&connection, path);
    rc = rc == SQLITE_OK
             ? sqlite3_wal_checkpoint_v2(connection.db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL)
             : rc;
    if (rc != SQLITE_OK) {
        connection_err(&connection, path, err);
    } else if (asprintf(&aside, "%s.version-%d", path, version) < 0) {
        rc = SQLITE_NOMEM;
        err_set(err, "no memory");
    } else {
        rc = copy_aside(lock, aside, err);
        if (rc == 0 && (rc = climb(&connection, version)) != SQLITE_OK) {
            connection_err(&connection, path, err);
            unlink(aside); /* of what is as it was: it must not be in the way of the next attempt */
        }
        free(aside);
    }
    connection_close(&connection, true);
    return rc == SQLITE_OK ? 0 : -1;
}
