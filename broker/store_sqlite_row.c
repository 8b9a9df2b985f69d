/*
 * store_sqlite_row.c - rows with a checksum over all their columns, and recipients as bytes.
 *
 * SQLite's pages have no checksums: a flipped bit in a topic would be served as it stands. So each row ends
 * with 32 bits of SipHash over what its columns mean (their kind and value, not how SQLite has packed them)
 * and over which table it is in. The key is no secret and must never change: this finds accidents, nobody who
 * can write to the file needs to be kept from it.
 */
#include "broker/log.h"
#include "broker/store_sqlite_parts.h"
#include <endian.h>

static const struct siphash_key row_key = {{0x6272616d626c6520u, 0x726f772073756d73u}};

/* The letter of a table in its checksums: never to be changed. */
static const char table_tags[TABLES + 1] = "?osmdxisrMw";

enum { SUM_NUMBER = 1, SUM_BYTES = 2, SUM_NULL = 3 };

void sum_start(struct sum *sum, const struct siphash_key *key, uint64_t tag)
{
    sum->key = key;
    sum->words[0] = htole64(tag);
    sum->count = 1;
}

static void put(struct sum *sum, uint64_t kind, uint64_t value)
{
    if (sum->count + 2 <= sizeof sum->words / sizeof *sum->words) {
        sum->words[sum->count++] = htole64(kind);
        sum->words[sum->count++] = htole64(value);
    }
}

void sum_number(struct sum *sum, int64_t value)
{
    put(sum, SUM_NUMBER, (uint64_t)value);
}

void sum_bytes(struct sum *sum, struct slice bytes)
{
    if (bytes.p) {
        put(sum, SUM_BYTES | (uint64_t)bytes.n << 8, siphash(sum->key, bytes.p, bytes.n));
    } else {
        put(sum, SUM_NULL, 0);
    }
}

uint64_t sum_end(const struct sum *sum)
{
    return siphash(sum->key, sum->words, sum->count * sizeof *sum->words);
}

/* ---- writing ---- */

void row_start(struct row *row, struct connection *connection, enum statement which, enum store_table table)
{
    row->connection = connection;
    row->statement = connection_statement(connection, which);
    row->at = 0;
    row->rc = row->statement ? SQLITE_OK : sqlite3_errcode(connection->db);
    sum_start(&row->sum, &row_key, (uint64_t)table_tags[table]);
}

static void bound(struct row *row, int rc)
{
    if (row->rc == SQLITE_OK) {
        row->rc = rc;
    }
}

void row_number(struct row *row, int64_t value)
{
    sum_number(&row->sum, value);
    bound(row, sqlite3_bind_int64(row->statement, ++row->at, value));
}

void row_text(struct row *row, struct slice text)
{
    if (!text.p) {
        row_null(row);
        return;
    }
    sum_bytes(&row->sum, text);
    bound(row, sqlite3_bind_text64(row->statement, ++row->at, (const char *)text.p, text.n, SQLITE_STATIC,
                                   SQLITE_UTF8));
}

void row_blob(struct row *row, struct slice blob)
{
    if (!blob.p) {
        blob.p = (const uint8_t *)""; /* NULL would be no value instead of an empty one */
    }
    sum_bytes(&row->sum, blob);
    bound(row, sqlite3_bind_blob64(row->statement, ++row->at, blob.p, blob.n, SQLITE_STATIC));
}

void row_null(struct row *row)
{
    sum_bytes(&row->sum, slice_of(NULL, 0));
    bound(row, sqlite3_bind_null(row->statement, ++row->at));
}

int row_end(struct row *row)
{
    bound(row, sqlite3_bind_int64(row->statement, ++row->at, (int32_t)sum_end(&row->sum)));
    if (row->rc == SQLITE_OK) {
        int rc = sqlite3_step(row->statement);
        row->rc = rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
    }
    if (row->statement) {
        sqlite3_reset(row->statement);
        sqlite3_clear_bindings(row->statement); /* they point to what is the caller's */
    }
    return row->rc;
}

/* ---- reading ---- */

struct slice row_slice(sqlite3_stmt *statement, int column)
{
    int type = sqlite3_column_type(statement, column);
    if (type == SQLITE_NULL) {
        return slice_of(NULL, 0);
    }
    const void *p = type == SQLITE_TEXT ? (const void *)sqlite3_column_text(statement, column)
                                        : sqlite3_column_blob(statement, column);
    int n = sqlite3_column_bytes(statement, column);
    return slice_of(p ? p : "", (size_t)n); /* an empty blob has no address */
}

/* One column into the sum; an SQLite code. */
static int sum_column(struct sum *sum, sqlite3_stmt *statement, int column)
{
    switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER:
        sum_number(sum, sqlite3_column_int64(statement, column));
        return SQLITE_OK;
    case SQLITE_NULL:
        sum_bytes(sum, slice_of(NULL, 0));
        return SQLITE_OK;
    case SQLITE_TEXT:
        if (!sqlite3_column_text(statement, column)) {
            return sqlite3_errcode(sqlite3_db_handle(statement));
        }
        break;
    case SQLITE_BLOB:
        if (!sqlite3_column_blob(statement, column) && sqlite3_column_bytes(statement, column) > 0) {
            return sqlite3_errcode(sqlite3_db_handle(statement));
        }
        break;
    default:
        return SQLITE_CORRUPT; /* we write no floats */
    }
    sum_bytes(sum, row_slice(statement, column));
    return SQLITE_OK;
}

int row_whole(sqlite3_stmt *statement, enum store_table table)
{
    int last = store_tables[table].columns - 1;
    struct sum sum;
    sum_start(&sum, &row_key, (uint64_t)table_tags[table]);
    for (int i = 0; i < last; i++) {
        int rc = sum_column(&sum, statement, i);
        if (rc != SQLITE_OK) {
            return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_CORRUPT : rc;
        }
    }
    bool same = sqlite3_column_type(statement, last) == SQLITE_INTEGER &&
                sqlite3_column_int64(statement, last) == (int32_t)sum_end(&sum);
    return same ? SQLITE_OK : SQLITE_CORRUPT;
}

void row_name(sqlite3_stmt *statement, enum store_table table, char *out, size_t size)
{
    const struct table_form *form = &store_tables[table];
    int at = snprintf(out, size, "table %s", form->name);
    for (int i = 0; i < form->keys && at >= 0 && (size_t)at < size; i++) {
        if (sqlite3_column_type(statement, i) == SQLITE_INTEGER) {
            at += snprintf(out + at, size - (size_t)at, ", %s %lld", form->column[i],
                           (long long)sqlite3_column_int64(statement, i));
        } else {
            struct slice text = row_slice(statement, i);
            bool cut = false;
            char shown[200]; /* it may be anything: damaged, or what a stranger chose */
            log_escape_json(shown, sizeof shown, text.p ? text.p : (const void *)"", text.n, &cut);
            at += snprintf(out + at, size - (size_t)at, ", %s \"%s%s\"", form->column[i], shown,
                           cut ? "..." : "");
        }
    }
}

/* ---- recipients ---- */

enum { RECIPIENT_QOS = 3, RECIPIENT_RETAIN = 4, RECIPIENT_ID = 8, RECIPIENT_MOST = 10 + 1 + 2 };

size_t recipients_most(size_t count)
{
    return count * RECIPIENT_MOST;
}

static uint8_t *put_varint(uint8_t *p, uint64_t value)
{
    for (; value >= 0x80; value >>= 7) {
        *p++ = (uint8_t)(value | 0x80);
    }
    *p++ = (uint8_t)value;
    return p;
}

size_t recipients_put(uint8_t *out, const struct recipient *owed, size_t count)
{
    uint8_t *p = out;
    uint64_t before = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t step = owed[i].session - before; /* modulo 2^64 */
        p = put_varint(p, step << 1 ^ (step >> 63 ? UINT64_MAX : 0));
        before = owed[i].session;
        *p++ = (uint8_t)((owed[i].qos & RECIPIENT_QOS) | (owed[i].retain ? RECIPIENT_RETAIN : 0) |
                         (owed[i].id ? RECIPIENT_ID : 0));
        if (owed[i].id) {
            *p++ = (uint8_t)(owed[i].id >> 8);
            *p++ = (uint8_t)owed[i].id;
        }
    }
    return (size_t)(p - out);
}

/* False: it does not end, or is longer than 64 bits. */
static bool take_varint(struct slice *left, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && left->n > 0; shift += 7) {
        uint8_t byte = *left->p++;
        left->n--;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            return true;
        }
    }
    return false;
}

int recipients_next(struct recipients *recipients, struct recipient *recipient)
{
    struct slice *left = &recipients->left;
    uint64_t zigzag;
    if (left->n == 0) {
        return 0;
    }
    if (!take_varint(left, &zigzag) || left->n == 0) {
        return -1;
    }
    uint8_t flags = *left->p++;
    left->n--;
    recipients->session += zigzag >> 1 ^ (zigzag & 1 ? UINT64_MAX : 0);
    *recipient = (struct recipient){
        .session = recipients->session, .qos = flags & RECIPIENT_QOS, .retain = flags & RECIPIENT_RETAIN};
    if (flags & RECIPIENT_ID) {
        if (left->n < 2) {
            return -1;
        }
        recipient->id = (uint16_t)(left->p[0] << 8 | left->p[1]);
        left->p += 2;
        left->n -= 2;
    }
    return 1;
}
