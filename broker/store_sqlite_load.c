/*
 * store_sqlite_load.c - what is in the file, told once at start.
 *
 * Each table is read from end to end, each row is compared with its checksum; one that differs stops the
 * start and is named. While messages are read, whether each recipient is still owed one is asked of what was
 * read before: a table of sessions with their marks, and the rows of `done` only for sessions that have any
 * near that number.
 *
 * What nobody needs any more (a crash came between what belongs together only lazily) is removed then:
 * messages that are owed to nobody, what belongs to sessions that are gone, origins that no row names.
 */
#include "broker/clock.h"
#include "broker/store_sqlite_parts.h"
#include <stdlib.h>

enum { PROGRESS_MS = 1000, PROGRESS_ROWS = 1024 };

struct known {
    uint64_t number, mark;
    uint64_t done_first, done_last; /* what lies between may be done; first 0: nothing is */
    bool outs;                      /* has rows in `out` */
    UT_hash_handle hh;
};

struct load {
    struct sqlite_store *store;
    const struct storage_reader *reader;
    void (*progress)(void *arg, const char *text);
    void *arg;
    struct err *err;
    int64_t start, next;
    uint64_t rows, last;
    uint64_t sessions, subscriptions, retained, messages, deliveries, wills;
    bool ownerless; /* rows of sessions that are gone */
    struct known *known;
    uint64_t *orphans;
    size_t orphan_count, orphan_room;
};

/* ---- helpers ---- */

static int no_memory(const struct load *load)
{
    return err_set(load->err, "%s: no memory to load it", err_path(load->store->path));
}

static int damage(const struct load *load, sqlite3_stmt *statement, enum store_table table, const char *what)
{
    char name[300];
    row_name(statement, table, name, sizeof name);
    return err_set(load->err,
                   "%s: damaged: %s: %s; the file was left as it is: see `bramble store check`, put back a "
                   "copy, or move it away to start empty",
                   err_path(load->store->path), name, what);
}

static int tell_progress(struct load *load)
{
    char text[200];
    int64_t now;
    if (++load->rows % PROGRESS_ROWS != 0 || (now = clock_ms()) < load->next) {
        return 0;
    }
    load->next = now + PROGRESS_MS;
    snprintf(text, sizeof text, "loading: %llu rows read in %.1f s", (unsigned long long)load->rows,
             (double)(now - load->start) / 1000);
    if (load->progress) {
        load->progress(load->arg, text);
    }
    return 0;
}

/* Where the key is a number, whether it is higher than the last one. */
static bool rises(sqlite3_stmt *row, enum store_table table, sqlite3_int64 *last)
{
    sqlite3_int64 before = *last;
    if (store_tables[table].keys > 1 || sqlite3_column_type(row, 0) != SQLITE_INTEGER) {
        return true;
    }
    *last = sqlite3_column_int64(row, 0);
    return *last > before;
}

/* Calls fn for each row of the table, in the order of its key. */
static int each(struct load *load, enum store_table table, int (*fn)(struct load *load, sqlite3_stmt *row))
{
    struct connection *connection = &load->store->db;
    sqlite3_stmt *statement = NULL;
    char sql[80];
    int rc, result = 0;
    snprintf(sql, sizeof sql, "SELECT * FROM %s ORDER BY %s", store_tables[table].name,
             store_tables[table].keys > 1 ? "1, 2" : "1");
    rc = sqlite3_prepare_v2(connection->db, sql, -1, &statement, NULL);
    sqlite3_int64 last = INT64_MIN;
    while (rc == SQLITE_OK && result == 0 && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
        rc = row_whole(statement, table);
        if (rc == SQLITE_CORRUPT) {
            result = damage(load, statement, table, "its checksum is wrong");
        } else if (!rises(statement, table, &last)) {
            result = damage(load, statement, table, "it is not in its place");
        } else if (rc == SQLITE_OK) {
            result = fn(load, statement);
        }
        tell_progress(load);
    }
    if (result == 0 && rc != SQLITE_DONE) {
        result = connection_err(connection, load->store->path, load->err);
    }
    sqlite3_finalize(statement);
    return result;
}

static uint64_t number_at(sqlite3_stmt *row, int column)
{
    return (uint64_t)sqlite3_column_int64(row, column);
}

static struct known *find(const struct load *load, uint64_t session)
{
    struct known *known;
    HASH_FIND(hh, load->known, &session, sizeof session, known);
    return known;
}

static void highest(struct load *load, uint64_t number)
{
    if (number > load->last) {
        load->last = number;
    }
}

static int is_done(const struct load *load, uint64_t session, uint64_t number)
{
    sqlite3_stmt *statement = connection_statement(&load->store->db, SQL_DONE_IS);
    sqlite3_bind_int64(statement, 1, (int64_t)session);
    sqlite3_bind_int64(statement, 2, (int64_t)number);
    int rc = sqlite3_step(statement);
    sqlite3_reset(statement);
    return rc == SQLITE_ROW;
}

static bool is_owed(const struct load *load, const struct known *known, uint64_t number)
{
    return known && number >= known->mark &&
           !(known->done_first && number >= known->done_first && number <= known->done_last &&
             is_done(load, known->number, number));
}

/* ---- what each table holds ---- */

static int on_meta(struct load *load, sqlite3_stmt *row)
{
    if (slice_eq(row_slice(row, 0), slice_str("reserved"))) {
        load->store->reserved = number_at(row, 1);
        highest(load, load->store->reserved);
    }
    return 0;
}

static int on_origin(struct load *load, sqlite3_stmt *row)
{
    return origin_load(load->store, row) == SQLITE_OK ? 0 : no_memory(load);
}

/* NULL, and err is set: the row names an origin that is not there, so nobody could say what is allowed. */
static const struct stored_origin *who_of(struct load *load, sqlite3_stmt *row, enum store_table table,
                                          int column)
{
    const struct stored_origin *who = origin_told(load->store, number_at(row, column));
    if (!who) {
        damage(load, row, table, "the origin that it names is missing");
    }
    return who;
}

static int on_session(struct load *load, sqlite3_stmt *row)
{
    const struct stored_origin *who = who_of(load, row, TABLE_SESSION, 2);
    struct known *known = calloc(1, sizeof *known);
    if (!who || !known) {
        free(known);
        return who ? no_memory(load) : -1;
    }
    known->number = number_at(row, 0);
    HASH_ADD(hh, load->known, number, sizeof known->number, known);
    if (!known->hh.tbl) {
        free(known);
        return no_memory(load);
    }
    highest(load, known->number);
    load->sessions++;
    return load->reader->session(load->reader->arg, known->number, (const char *)row_slice(row, 1).p, who)
               ? no_memory(load)
               : 0;
}

/* The session of the row, or NULL: it is gone. */
static struct known *owner(struct load *load, sqlite3_stmt *row)
{
    struct known *known = find(load, number_at(row, 0));
    load->ownerless |= !known;
    return known;
}

static int on_mark(struct load *load, sqlite3_stmt *row)
{
    struct known *known = owner(load, row);
    if (known) {
        known->mark = number_at(row, 1);
    }
    return 0;
}

static int on_done(struct load *load, sqlite3_stmt *row)
{
    struct known *known = owner(load, row);
    if (known) { /* rising numbers */
        known->done_first = known->done_first ? known->done_first : number_at(row, 1);
        known->done_last = number_at(row, 1);
    }
    return 0;
}

static int on_subscription(struct load *load, sqlite3_stmt *row)
{
    if (!owner(load, row)) {
        return 0;
    }
    load->subscriptions++;
    return load->reader->subscription(load->reader->arg, number_at(row, 0), row_slice(row, 1),
                                      (uint8_t)(sqlite3_column_int(row, 2) & FLAG_QOS),
                                      sqlite3_column_int(row, 4) != 0)
               ? no_memory(load)
               : 0;
}

static int on_inbound(struct load *load, sqlite3_stmt *row)
{
    if (!owner(load, row)) {
        return 0;
    }
    return load->reader->inbound(load->reader->arg, number_at(row, 0), (uint16_t)sqlite3_column_int(row, 1))
               ? no_memory(load)
               : 0;
}

/* Whether that message names that session, and still owes it. */
static bool still_owed(const struct load *load, const struct known *known, uint64_t number)
{
    sqlite3_stmt *statement = connection_statement(&load->store->db, SQL_MESSAGE_GET);
    struct recipient recipient;
    bool found = false;
    sqlite3_bind_int64(statement, 1, (int64_t)number);
    if (is_owed(load, known, number) && sqlite3_step(statement) == SQLITE_ROW) {
        struct recipients recipients = {.left = row_slice(statement, 5)};
        while (!found && recipients_next(&recipients, &recipient) == 1) {
            found = recipient.session == known->number;
        }
    }
    sqlite3_reset(statement);
    return found;
}

/* An id whose message is not owed any more stays in use until its client has said PUBCOMP. */
static int on_out(struct load *load, sqlite3_stmt *row)
{
    struct known *known = owner(load, row);
    uint64_t number = number_at(row, 3);
    if (!known) {
        return 0;
    }
    if (number && still_owed(load, known, number)) {
        known->outs = true;
        return 0;
    }
    return load->reader->released(load->reader->arg, known->number, (uint16_t)sqlite3_column_int(row, 1))
               ? no_memory(load)
               : 0;
}

/* What message, retained and will have in common, from the column of the topic on. */
static int message_of(struct load *load, sqlite3_stmt *row, enum store_table table, int topic, int payload,
                      struct stored_message *message)
{
    const struct stored_origin *who = who_of(load, row, table, payload + 2);
    int flags = sqlite3_column_int(row, payload + 1);
    if (!who) {
        return -1;
    }
    *message = (struct stored_message){
        .topic = row_slice(row, topic),
        .payload = row_slice(row, payload),
        .qos = (uint8_t)(flags & FLAG_QOS),
        .retain = flags & FLAG_RETAIN,
        .origin = *who,
    };
    return 0;
}

static int on_retained(struct load *load, sqlite3_stmt *row)
{
    struct stored_message message;
    if (message_of(load, row, TABLE_RETAINED, 0, 1, &message)) {
        return -1;
    }
    load->retained++;
    return load->reader->retained(load->reader->arg, &message) ? no_memory(load) : 0;
}

static int on_will(struct load *load, sqlite3_stmt *row)
{
    struct stored_message message;
    if (message_of(load, row, TABLE_WILL, 1, 2, &message)) {
        return -1;
    }
    load->wills++;
    return load->reader->will(load->reader->arg, (const char *)row_slice(row, 0).p, &message)
               ? no_memory(load)
               : 0;
}

static int orphan(struct load *load, uint64_t number)
{
    if (load->orphan_count == load->orphan_room) {
        size_t room = load->orphan_room ? 2 * load->orphan_room : 256;
        uint64_t *more = realloc(load->orphans, room * sizeof *more);
        if (!more) {
            return no_memory(load);
        }
        load->orphans = more;
        load->orphan_room = room;
    }
    load->orphans[load->orphan_count++] = number;
    return 0;
}

static uint16_t out_id(const struct load *load, uint64_t session, uint64_t number)
{
    sqlite3_stmt *statement = connection_statement(&load->store->db, SQL_OUT_OF);
    uint16_t id = 0;
    sqlite3_bind_int64(statement, 1, (int64_t)session);
    sqlite3_bind_int64(statement, 2, (int64_t)number);
    if (sqlite3_step(statement) == SQLITE_ROW) {
        id = (uint16_t)sqlite3_column_int(statement, 0);
    }
    sqlite3_reset(statement);
    return id;
}

/* How many are owed the message; -1: the recipients make no sense. */
static int64_t count_owed(const struct load *load, struct slice owed, uint64_t number)
{
    struct recipients recipients = {.left = owed};
    struct recipient recipient;
    int64_t count = 0;
    int more;
    while ((more = recipients_next(&recipients, &recipient)) == 1) {
        count += is_owed(load, find(load, recipient.session), number);
    }
    return more < 0 ? -1 : count;
}

static int deliver(struct load *load, const struct stored_message *message, struct slice owed, uint32_t count)
{
    struct recipients recipients = {.left = owed};
    struct recipient recipient;
    while (recipients_next(&recipients, &recipient) == 1) {
        struct known *known = find(load, recipient.session);
        if (!is_owed(load, known, message->number)) {
            continue;
        }
        uint16_t id = known->outs ? out_id(load, known->number, message->number) : 0;
        struct stored_delivery delivery = {.session = recipient.session,
                                           .others = count - 1,
                                           .id = id ? id : recipient.id,
                                           .qos = recipient.qos,
                                           .retain = recipient.retain,
                                           .message = message};
        load->deliveries++;
        if (load->reader->delivery(load->reader->arg, &delivery)) {
            return no_memory(load);
        }
    }
    return 0;
}

static int on_message(struct load *load, sqlite3_stmt *row)
{
    struct stored_message message;
    uint64_t number = number_at(row, 0);
    struct slice owed = row_slice(row, 5);
    int64_t count = count_owed(load, owed, number);
    highest(load, number);
    if (count < 0) {
        return damage(load, row, TABLE_MESSAGE, "its recipients cannot be read");
    }
    if (message_of(load, row, TABLE_MESSAGE, 1, 2, &message)) {
        return -1;
    }
    message.number = number;
    if (count == 0) {
        return orphan(load, number);
    }
    load->messages++;
    return deliver(load, &message, owed, (uint32_t)count);
}

/* ---- all of it ---- */

static int read_tables(struct load *load)
{
    static const struct {
        enum store_table table;
        int (*fn)(struct load *load, sqlite3_stmt *row);
    } order[] = {
        {TABLE_META, on_meta},       {TABLE_ORIGIN, on_origin}, {TABLE_SESSION, on_session},
        {TABLE_MARK, on_mark},       {TABLE_DONE, on_done},     {TABLE_SUBSCRIPTION, on_subscription},
        {TABLE_INBOUND, on_inbound}, {TABLE_OUT, on_out},       {TABLE_RETAINED, on_retained},
        {TABLE_MESSAGE, on_message}, {TABLE_WILL, on_will},
    };
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        if (each(load, order[i].table, order[i].fn)) {
            return -1;
        }
    }
    return 0;
}

/* A full disk must not keep the broker from starting: then they stay for the next time. */
static void remove_orphans(struct load *load)
{
    char text[200];
    origins_loaded(&load->store->origins);
    if (load->orphan_count == 0 && !load->ownerless) {
        return;
    }
    int rc = sqlite_remove_orphans(load->store, load->orphans, load->orphan_count);
    snprintf(text, sizeof text, "%llu messages that are owed to nobody %s",
             (unsigned long long)load->orphan_count,
             rc == SQLITE_OK ? "were removed" : "could not be removed now: at the next start");
    if (load->progress) {
        load->progress(load->arg, text);
    }
}

static void tell_totals(const struct load *load)
{
    char text[300];
    snprintf(text, sizeof text,
             "loaded %llu sessions, %llu subscriptions, %llu retained messages, %llu queued messages (%llu "
             "deliveries), %llu wills in %.2f s",
             (unsigned long long)load->sessions, (unsigned long long)load->subscriptions,
             (unsigned long long)load->retained, (unsigned long long)load->messages,
             (unsigned long long)load->deliveries, (unsigned long long)load->wills,
             (double)(clock_ms() - load->start) / 1000);
    if (load->progress) {
        load->progress(load->arg, text);
    }
}

static void forget_all(struct load *load)
{
    while (load->known) {
        struct known *known = load->known;
        HASH_DEL(load->known, known);
        free(known);
    }
}

int storage_load(struct storage *storage, const struct storage_reader *reader, uint64_t *last,
                 void (*progress)(void *arg, const char *text), void *arg, struct err *err)
{
    struct load load = {.store = (struct sqlite_store *)storage,
                        .reader = reader,
                        .progress = progress,
                        .arg = arg,
                        .err = err,
                        .start = clock_ms()};
    load.next = load.start + PROGRESS_MS;
    int rc = read_tables(&load);
    forget_all(&load);
    if (rc == 0) {
        load.store->loaded = true;
        remove_orphans(&load);
        tell_totals(&load);
        *last = load.last;
    }
    free(load.orphans);
    return rc;
}
