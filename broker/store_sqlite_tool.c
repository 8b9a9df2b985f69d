/*
 * store_sqlite_tool.c - check, dump and vacuum a store offline.
 *
 * Check and dump change nothing. A file that no -wal belongs to is opened as one that nobody changes
 * (immutable): SQLite then makes no other files beside it. With a -wal it has to make or use a -shm, which is
 * an index of the -wal and holds nothing. While a broker runs both see the last commit.
 */
#include "broker/log.h"
#include "broker/store_sqlite_parts.h"
#include "broker/store_wal.h"
#include "broker/topic.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WHOLE, DAMAGED, TROUBLE, MOST_LINES = 100 };

struct check {
    const char *path;
    FILE *out;
    sqlite3 *db;
    uint64_t damages, remarks;
    bool wal_damaged;
};

/* ---- opening ---- */

/* The name as a URI. NULL without memory. */
static char *uri_of(const char *path, const char *parameters)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t n = strlen(path);
    char *uri = malloc(sizeof "file:" + 3 * n + strlen(parameters));
    if (!uri) {
        return NULL;
    }
    char *at = uri + sprintf(uri, "file:");
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)path[i];
        if (c == '%' || c == '?' || c == '#') {
            *at++ = '%';
            *at++ = digits[c >> 4];
            *at++ = digits[c & 15];
        } else {
            *at++ = (char)c;
        }
    }
    memcpy(at, parameters, strlen(parameters) + 1);
    return uri;
}

static bool has_wal(const char *path)
{
    char *wal;
    bool there = asprintf(&wal, "%s-wal", path) >= 0;
    if (there) {
        there = access(wal, F_OK) == 0;
        free(wal);
    }
    return there;
}

/* NULL, and err says why. */
static sqlite3 *open_to_read(const char *path, FILE *err)
{
    char *uri = uri_of(path, has_wal(path) ? "" : "?immutable=1");
    sqlite3 *db = NULL;
    int rc = uri ? sqlite3_open_v2(uri, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL) : SQLITE_NOMEM;
    if (rc == SQLITE_OK) {
        sqlite3_busy_timeout(db, 5000);
        sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        rc = sqlite3_exec(db, "PRAGMA trusted_schema=OFF; PRAGMA mmap_size=0; BEGIN", NULL, NULL, NULL);
    }
    if (rc != SQLITE_OK) {
        fprintf(err, "%s: %s\n", path, db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
        sqlite3_close(db);
        db = NULL;
    }
    free(uri);
    return db;
}

/* Whether it is one of ours, of the version that is known. */
static bool is_ours(const char *path, FILE *err)
{
    struct err why;
    int version;
    int fd = sqlite_file_look(path, &version, &why);
    if (fd < 0) {
        fprintf(err, "%s\n", why.text);
        return false;
    }
    close(fd);
    if (version < STORE_VERSION) {
        fprintf(err,
                "%s: made by an older bramble (version %d of the store); it is brought up to date when "
                "this one starts with it\n",
                path, version);
        return false;
    }
    return true;
}

/* ---- check ---- */

__attribute__((format(printf, 2, 3))) static void damaged(struct check *check, const char *format, ...)
{
    va_list ap;
    if (++check->damages <= MOST_LINES) {
        va_start(ap, format);
        fprintf(check->out, "damaged: ");
        vfprintf(check->out, format, ap);
        fprintf(check->out, "\n");
        va_end(ap);
    }
}

/* A -wal that is being written has no whole end: it is looked at only when nobody has the file open. */
static void check_wal(struct check *check)
{
    struct wal_scan scan;
    struct err err;
    char text[200];
    if (sqlite_file_in_use(check->path)) {
        fprintf(check->out, "in use by a running bramble: what follows is as of its last commit\n");
    } else if (wal_scan(check->path, &scan, &err)) {
        damaged(check, "%s", err.text);
    } else if (scan.state == WAL_DAMAGED) {
        damaged(check, "%s-wal: %s", check->path, wal_describe(&scan, text, sizeof text));
        check->wal_damaged = true;
    } else if (scan.state == WAL_TORN) {
        fprintf(check->out, "%s-wal: %s\n", check->path, wal_describe(&scan, text, sizeof text));
    }
}

/* Calls fn for each row; an SQLite error is damage, too. */
static void each_row(struct check *check, const char *sql,
                     void (*fn)(struct check *check, sqlite3_stmt *row, void *arg), void *arg)
{
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(check->db, sql, -1, &statement, NULL);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW) {
            fn(check, statement, arg);
        }
    }
    if (rc != SQLITE_DONE) {
        damaged(check, "%s (%s)", sqlite3_errmsg(check->db), sql);
    }
    sqlite3_finalize(statement);
}

static void on_structure(struct check *check, sqlite3_stmt *row, void *arg)
{
    struct slice text = row_slice(row, 0);
    (void)arg;
    if (!slice_eq(text, slice_str("ok"))) {
        damaged(check, "structure: %.*s", SLICE_ARG(text));
    }
}

struct counting {
    enum store_table table;
    uint64_t rows;
    sqlite3_stmt *session; /* of messages: is there such a session? */
    uint64_t ownerless;
};

static bool there_is(sqlite3_stmt *statement, uint64_t number)
{
    sqlite3_bind_int64(statement, 1, (int64_t)number);
    bool there = sqlite3_step(statement) == SQLITE_ROW;
    sqlite3_reset(statement);
    return there;
}

static void check_recipients(struct check *check, sqlite3_stmt *row, struct counting *counting)
{
    struct recipients recipients = {.left = row_slice(row, 5)};
    struct recipient recipient;
    int more;
    while ((more = recipients_next(&recipients, &recipient)) == 1) {
        counting->ownerless += !there_is(counting->session, recipient.session);
    }
    if (more < 0) {
        damaged(check, "table message, number %lld: its recipients cannot be read",
                (long long)sqlite3_column_int64(row, 0));
    }
}

static void on_row(struct check *check, sqlite3_stmt *row, void *arg)
{
    struct counting *counting = arg;
    char name[600];
    counting->rows++;
    if (row_whole(row, counting->table) != SQLITE_OK) {
        row_name(row, counting->table, name, sizeof name);
        damaged(check, "%s: its checksum is wrong", name);
    } else if (counting->session) {
        check_recipients(check, row, counting);
    }
}

static void check_tables(struct check *check)
{
    char sql[80];
    for (int i = 0; i < TABLES; i++) {
        struct counting counting = {.table = (enum store_table)i};
        if (i == TABLE_MESSAGE) {
            sqlite3_prepare_v2(check->db, "SELECT 1 FROM session WHERE number=?", -1, &counting.session,
                               NULL);
        }
        snprintf(sql, sizeof sql, "SELECT * FROM %s", store_tables[i].name);
        each_row(check, sql, on_row, &counting);
        sqlite3_finalize(counting.session);
        fprintf(check->out, "%-12s %llu rows\n", store_tables[i].name, (unsigned long long)counting.rows);
        if (counting.ownerless) {
            check->remarks++;
            fprintf(check->out, "remark: %llu deliveries are to sessions that are gone\n",
                    (unsigned long long)counting.ownerless);
        }
    }
}

/* What must not be, and what may be: a crash can come between what is removed only lazily. */
static const struct reference {
    bool damage;
    const char *what, *sql;
} references[] = {
    {true, "sessions name an origin that is missing",
     "SELECT count(*) FROM session WHERE origin<>0 AND origin NOT IN (SELECT number FROM origin)"},
    {true, "messages name an origin that is missing",
     "SELECT count(*) FROM message WHERE origin<>0 AND origin NOT IN (SELECT number FROM origin)"},
    {true, "retained messages name an origin that is missing",
     "SELECT count(*) FROM retained WHERE origin<>0 AND origin NOT IN (SELECT number FROM origin)"},
    {true, "wills name an origin that is missing",
     "SELECT count(*) FROM will WHERE origin<>0 AND origin NOT IN (SELECT number FROM origin)"},
    {true, "client ids have more than one session",
     "SELECT count(*) FROM (SELECT 1 FROM session GROUP BY client_id HAVING count(*)>1)"},
    {true, "numbers are higher than what was given",
     "SELECT count(*) FROM (SELECT number FROM message UNION ALL SELECT number FROM session)"
     " WHERE number>coalesce((SELECT value FROM meta WHERE key='reserved'), 0)"},
    {false, "subscriptions are of sessions that are gone",
     "SELECT count(*) FROM subscription WHERE session NOT IN (SELECT number FROM session)"},
    {false, "marks are of sessions that are gone",
     "SELECT count(*) FROM mark WHERE session NOT IN (SELECT number FROM session)"},
    {false, "discharges are of sessions that are gone",
     "SELECT count(*) FROM done WHERE session NOT IN (SELECT number FROM session)"},
    {false, "discharges are below the mark of their session",
     "SELECT count(*) FROM done JOIN mark USING(session) WHERE done.number<mark.number"},
    {false, "packet ids are of sessions that are gone",
     "SELECT count(*) FROM (SELECT session FROM out UNION ALL SELECT session FROM inbound)"
     " WHERE session NOT IN (SELECT number FROM session)"},
    {false, "outgoing packet ids are of messages that are gone",
     "SELECT count(*) FROM out WHERE number<>0 AND number NOT IN (SELECT number FROM message)"},
};

static void on_reference(struct check *check, sqlite3_stmt *row, void *arg)
{
    const struct reference *reference = arg;
    long long count = sqlite3_column_int64(row, 0);
    if (count > 0 && reference->damage) {
        damaged(check, "%lld %s", count, reference->what);
    } else if (count > 0) {
        check->remarks++;
        fprintf(check->out, "remark: %lld %s\n", count, reference->what);
    }
}

static void check_references(struct check *check)
{
    for (size_t i = 0; i < sizeof references / sizeof *references; i++) {
        struct reference reference = references[i];
        each_row(check, reference.sql, on_reference, &reference);
    }
}

int storage_check(const char *path, FILE *out, FILE *err)
{
    struct check check = {.path = path, .out = out};
    if (!is_ours(path, err)) {
        return TROUBLE;
    }
    check_wal(&check); /* before SQLite has its files open: see store_wal.h */
    check.db = open_to_read(path, err);
    if (!check.db) {
        return check.damages ? DAMAGED : TROUBLE;
    }
    each_row(&check, "PRAGMA integrity_check", on_structure, NULL);
    check_tables(&check);
    check_references(&check);
    sqlite3_close(check.db);
    if (check.damages > MOST_LINES) {
        fprintf(out, "and so on\n");
    }
    if (check.damages) {
        fprintf(out, "%s: DAMAGED, %llu places\n", path, (unsigned long long)check.damages);
    } else if (check.remarks) {
        fprintf(out, "%s: whole; what is remarked is put in order at the next start\n", path);
    } else {
        fprintf(out, "%s: whole\n", path);
    }
    return check.damages ? DAMAGED : WHOLE;
}

/* ---- dump ---- */

static void put_text(FILE *out, struct slice text)
{
    enum { CHUNK = 2048 };
    char escaped[6 * CHUNK + 1];
    bool cut;
    fputc('"', out);
    while (text.n > 0) {
        size_t n = text.n < CHUNK ? text.n : CHUNK;
        while (n > CHUNK - 4 && n < text.n && (text.p[n] & 0xc0) == 0x80) {
            n--; /* not in the middle of a character */
        }
        log_escape_json(escaped, sizeof escaped, text.p, n, &cut);
        fputs(escaped, out);
        text.p += n;
        text.n -= n;
    }
    fputc('"', out);
}

static void put_hex(FILE *out, struct slice bytes)
{
    fputc('"', out);
    for (size_t i = 0; i < bytes.n; i++) {
        fprintf(out, "%02x", bytes.p[i]);
    }
    fputc('"', out);
}

static void put_recipients(FILE *out, struct slice owed)
{
    struct recipients recipients = {.left = owed};
    struct recipient recipient;
    const char *comma = "";
    fputc('[', out);
    while (recipients_next(&recipients, &recipient) == 1) {
        fprintf(out, "%s{\"session\":%llu,\"qos\":%d", comma, (unsigned long long)recipient.session,
                recipient.qos);
        fputs(recipient.retain ? ",\"retain\":true" : "", out);
        if (recipient.id) {
            fprintf(out, ",\"id\":%d", recipient.id);
        }
        fputc('}', out);
        comma = ",";
    }
    fputc(']', out);
}

static void put_column(FILE *out, sqlite3_stmt *row, int column, const char *name)
{
    struct slice bytes = row_slice(row, column);
    switch (sqlite3_column_type(row, column)) {
    case SQLITE_NULL:
        break;
    case SQLITE_INTEGER:
        fprintf(out, ",\"%s\":%lld", name, (long long)sqlite3_column_int64(row, column));
        break;
    default:
        if (strcmp(name, "owed") == 0) {
            fprintf(out, ",\"owed\":");
            put_recipients(out, bytes);
        } else if (utf8_valid(bytes)) {
            fprintf(out, ",\"%s\":", name);
            put_text(out, bytes);
        } else {
            fprintf(out, ",\"%s_hex\":", name);
            put_hex(out, bytes);
        }
    }
}

static void on_dump(struct check *check, sqlite3_stmt *row, void *arg)
{
    const struct counting *counting = arg;
    const struct table_form *form = &store_tables[counting->table];
    fprintf(check->out, "{\"table\":\"%s\"", form->name);
    for (int i = 0; i < form->columns - 1; i++) {
        put_column(check->out, row, i, form->column[i]);
    }
    if (row_whole(row, counting->table) != SQLITE_OK) {
        check->damages++;
        fprintf(check->out, ",\"damaged\":true");
    }
    fprintf(check->out, "}\n");
}

static void on_dump_error(struct check *check, FILE *err)
{
    if (check->damages) {
        fprintf(err, "%s: damaged: see `bramble store check`\n", check->path);
    }
}

int storage_dump(const char *path, FILE *out, FILE *err)
{
    struct check check = {.path = path, .out = out};
    char sql[80];
    if (!is_ours(path, err) || !(check.db = open_to_read(path, err))) {
        return TROUBLE;
    }
    for (int i = 0; i < TABLES; i++) {
        struct counting counting = {.table = (enum store_table)i};
        snprintf(sql, sizeof sql, "SELECT * FROM %s", store_tables[i].name);
        each_row(&check, sql, on_dump, &counting);
    }
    sqlite3_close(check.db);
    on_dump_error(&check, err);
    return check.damages ? DAMAGED : WHOLE;
}

/* ---- vacuum ---- */

static int rewrite(const char *path, FILE *err)
{
    sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(db, "PRAGMA synchronous=FULL; VACUUM", NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    }
    if (rc != SQLITE_OK) {
        fprintf(err, "%s: %s\n", path, db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
    }
    sqlite3_close(db);
    return rc == SQLITE_OK ? WHOLE : TROUBLE;
}

/* A damaged file is not written anew: what is damaged could get lost. */
static int is_whole(const char *path, FILE *out, FILE *err)
{
    FILE *nowhere = fopen("/dev/null", "w");
    int rc = nowhere ? storage_check(path, nowhere, err) : TROUBLE;
    if (nowhere) {
        fclose(nowhere);
    }
    if (rc == DAMAGED) {
        fprintf(out, "%s: damaged, and left as it is: see `bramble store check`\n", path);
    }
    return rc;
}

int storage_vacuum(const char *path, FILE *out, FILE *err)
{
    struct err why;
    struct stat before, after;
    int rc = is_whole(path, out, err);
    if (rc != WHOLE) {
        return rc;
    }
    int lock = sqlite_file_take(path, STORAGE_SYNC_FULL, &why);
    if (lock < 0) {
        fprintf(err, "%s\n", why.text);
        return TROUBLE;
    }
    fstat(lock, &before);
    rc = rewrite(path, err);
    fstat(lock, &after);
    close(lock);
    if (rc == WHOLE) {
        fprintf(out, "%s: %lld bytes, %lld before\n", path, (long long)after.st_size,
                (long long)before.st_size);
    }
    return rc;
}
