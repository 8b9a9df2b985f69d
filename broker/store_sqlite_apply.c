/*
 * store_sqlite_apply.c - a change becomes rows. Writer thread (and while loading the opening one).
 *
 * A batch, or a part of it, may be handed over again after it has failed: every change says what is to be,
 * not what is to be done, so applying it twice gives the same. Only the counts of origins would notice, hence
 * the look at the old row before it goes.
 */
#include "broker/msg.h"
#include "broker/principal.h"
#include "broker/store_sqlite_parts.h"
#include <stdlib.h>

/* The origin in the row that the statement finds; 0: there is no such row. */
static int origin_in(sqlite3_stmt *statement, uint64_t *number)
{
    *number = 0;
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        *number = (uint64_t)sqlite3_column_int64(statement, 0);
    }
    sqlite3_reset(statement);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* The row with that number goes: its origin has one user less. */
static int drop_numbered(struct sqlite_store *store, enum statement find, enum statement drop,
                         uint64_t number)
{
    sqlite3_stmt *statement = connection_statement(&store->db, find);
    uint64_t origin;
    sqlite3_bind_int64(statement, 1, (int64_t)number);
    int rc = origin_in(statement, &origin);
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
    int rc = origin_in(statement, &origin);
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

int sqlite_apply(struct sqlite_store *store, const struct change *change)
{
    return appliers[change->kind](store, change);
}

/* ---- while loading ---- */

int sqlite_apply_orphans(struct sqlite_store *store, const uint64_t *messages, size_t count)
{
    static const char *const ownerless[] = {
        "DELETE FROM mark WHERE session NOT IN (SELECT number FROM session)",
        "DELETE FROM done WHERE session NOT IN (SELECT number FROM session)",
        "DELETE FROM out WHERE session NOT IN (SELECT number FROM session)",
        "DELETE FROM inbound WHERE session NOT IN (SELECT number FROM session)",
        "DELETE FROM subscription WHERE session NOT IN (SELECT number FROM session)",
    };
    int rc = SQLITE_OK;
    for (size_t i = 0; i < sizeof ownerless / sizeof *ownerless && rc == SQLITE_OK; i++) {
        rc = connection_exec(&store->db, ownerless[i]);
    }
    for (size_t i = 0; i < count && rc == SQLITE_OK; i++) {
        rc = drop_numbered(store, SQL_MESSAGE_ORIGIN, SQL_MESSAGE_DROP, messages[i]);
    }
    return rc;
}
