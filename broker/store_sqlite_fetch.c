/*
 * store_sqlite_fetch.c - messages of one session that are only in the file come back. Reader thread.
 *
 * The reader has a connection of its own, opened for reading only: in WAL mode it waits for no writer, not
 * even for one whose fsync hangs. All of an answer is one block: the deliveries, the messages, then the bytes
 * and texts that they point to. While the block still grows what is pointed to is noted as its distance from
 * the start.
 *
 * To how many others a message is owed (`others`) is not looked up: the loop knows it since the start.
 */
#include "broker/store_sqlite_parts.h"
#include <stdlib.h>

enum { PAGE_BYTES = 262144 }; /* of an answer: behind the message that goes beyond that it ends */

struct answer {
    struct sqlite_store *store;
    struct fetch *fetch;
    uint32_t count; /* that there is room for */
    uint8_t *block;
    size_t used, room;
    bool failed;
    struct stored_origin last; /* in distances; number 0: none */
};

static struct stored_delivery *delivery_at(const struct answer *answer, uint32_t i)
{
    return (struct stored_delivery *)answer->block + i;
}

static struct stored_message *message_at(const struct answer *answer, uint32_t i)
{
    return (struct stored_message *)(delivery_at(answer, 0) + answer->count) + i;
}

static bool grow(struct answer *answer, size_t n)
{
    if (n > answer->room - answer->used) {
        size_t room = 2 * answer->room > answer->used + n ? 2 * answer->room : answer->used + n;
        uint8_t *more = realloc(answer->block, room);
        if (!more) {
            answer->failed = true;
            return false;
        }
        answer->block = more;
        answer->room = room;
    }
    return true;
}

/* A copy of the bytes, with a zero behind them; their distance, or 0: none, or no memory. */
static size_t keep(struct answer *answer, struct slice bytes)
{
    if (!bytes.p || !grow(answer, bytes.n + 1)) {
        return 0;
    }
    size_t at = answer->used;
    memcpy(answer->block + at, bytes.p, bytes.n);
    answer->block[at + bytes.n] = 0;
    answer->used += bytes.n + 1;
    return at;
}

static const char *text_at(size_t distance)
{
    return (const char *)distance; /* until settle() */
}

/* 0; 1: there is none, or it is damaged; -1: it cannot be read now. */
static int row_of(struct answer *answer, enum statement which, enum store_table table, uint64_t number,
                  sqlite3_stmt **statement)
{
    struct connection *reader = &answer->store->reader;
    *statement = connection_statement(reader, which);
    if (!*statement) {
        return -1;
    }
    sqlite3_bind_int64(*statement, 1, (int64_t)number);
    int rc = sqlite3_step(*statement);
    if (rc == SQLITE_ROW) {
        rc = row_whole(*statement, table);
    } else if (rc == SQLITE_DONE) {
        return 1;
    }
    return rc == SQLITE_OK ? 0 : (rc & 0xff) == SQLITE_CORRUPT ? 1 : -1;
}

/* Who published: often the same as before. The result as of row_of(). */
static int origin_of(struct answer *answer, uint64_t number, struct stored_origin *origin)
{
    sqlite3_stmt *row;
    if (number == 0) {
        *origin = (struct stored_origin){.listener = -1};
        return 0;
    }
    if (answer->last.number != number) {
        int rc = row_of(answer, SQL_ORIGIN_GET, TABLE_ORIGIN, number, &row);
        if (rc == 0) {
            const char **texts[] = {
                &answer->last.client_id,    &answer->last.user,        NULL,
                &answer->last.address,      &answer->last.tls_version, &answer->last.cert_cn,
                &answer->last.cert_subject, &answer->last.cert_sha256};
            for (int i = 0; i < ORIGIN_FIELDS; i++) {
                if (texts[i]) {
                    *texts[i] = text_at(keep(answer, row_slice(row, i + 1)));
                }
            }
            answer->last.number = number;
            answer->last.listener = origin_listener(answer->store, row_slice(row, 1 + ORIGIN_LISTENER));
        }
        sqlite3_reset(row);
        if (rc) {
            return rc;
        }
    }
    *origin = answer->last;
    return 0;
}

static uint16_t out_id(struct answer *answer, uint64_t number)
{
    sqlite3_stmt *statement = connection_statement(&answer->store->reader, SQL_OUT_OF);
    uint16_t id = 0;
    sqlite3_bind_int64(statement, 1, (int64_t)answer->fetch->session);
    sqlite3_bind_int64(statement, 2, (int64_t)number);
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        id = (uint16_t)sqlite3_column_int(statement, 0);
    } else if (rc != SQLITE_DONE) {
        answer->failed = true;
    }
    sqlite3_reset(statement);
    return id;
}

/* Whether the session is among the recipients. */
static bool find_recipient(struct slice owed, uint64_t session, struct recipient *recipient)
{
    struct recipients recipients = {.left = owed};
    while (recipients_next(&recipients, recipient) == 1) {
        if (recipient->session == session) {
            return true;
        }
    }
    return false;
}

/* The row that the statement stands on as the i-th of the answer. */
static void take_row(struct answer *answer, uint32_t i, sqlite3_stmt *row)
{
    uint64_t number = answer->fetch->numbers[i];
    struct recipient recipient;
    struct stored_message message = {.number = number};
    if (!find_recipient(row_slice(row, 5), answer->fetch->session, &recipient)) {
        return;
    }
    int rc = origin_of(answer, (uint64_t)sqlite3_column_int64(row, 4), &message.origin);
    answer->failed |= rc < 0;
    if (rc) {
        return; /* nobody could say what the message is allowed to do */
    }
    struct slice topic = row_slice(row, 1), payload = row_slice(row, 2);
    int flags = sqlite3_column_int(row, 3);
    message.topic = slice_of(text_at(keep(answer, topic)), topic.n);
    message.payload = slice_of(text_at(keep(answer, payload)), payload.n);
    message.qos = (uint8_t)(flags & FLAG_QOS);
    message.retain = flags & FLAG_RETAIN;
    uint16_t id = recipient.qos == 2 ? out_id(answer, number) : 0;
    *message_at(answer, i) = message;
    *delivery_at(answer, i) = (struct stored_delivery){.session = recipient.session,
                                                       .id = id ? id : recipient.id,
                                                       .qos = recipient.qos,
                                                       .retain = recipient.retain,
                                                       .message = message_at(answer, i)};
}

static void place_text(const struct answer *answer, const char **text)
{
    *text = *text ? (const char *)answer->block + (size_t)*text : NULL;
}

/* The block does not move any more: distances become pointers. */
static void settle(struct answer *answer)
{
    for (uint32_t i = 0; i < answer->fetch->count; i++) {
        struct stored_delivery *delivery = delivery_at(answer, i);
        struct stored_message *message = message_at(answer, i);
        struct stored_origin *origin = &message->origin;
        const char **texts[] = {&origin->client_id,   &origin->user,    &origin->address,
                                &origin->tls_version, &origin->cert_cn, &origin->cert_subject,
                                &origin->cert_sha256};
        if (!delivery->message) {
            continue;
        }
        delivery->message = message;
        message->topic.p = answer->block + (size_t)message->topic.p;
        message->payload.p = answer->block + (size_t)message->payload.p;
        for (size_t j = 0; j < sizeof texts / sizeof *texts; j++) {
            place_text(answer, texts[j]);
        }
    }
}

static bool start(struct answer *answer)
{
    uint32_t count = answer->fetch->count;
    answer->count = count;
    answer->used = count * (sizeof(struct stored_delivery) + sizeof(struct stored_message));
    answer->room = answer->used + (size_t)count * 256 + 1;
    answer->block = calloc(1, answer->room);
    return answer->block != NULL;
}

static bool open_reader(struct sqlite_store *store)
{
    struct err err;
    return store->reader.db ||
           connection_open(&store->reader, store->path, CONNECTION_READER, store->sync, &err) == 0;
}

void sqlite_fetch(struct sqlite_store *store, struct fetch *fetch)
{
    struct answer answer = {.store = store, .fetch = fetch};
    fetch->rows = NULL;
    fetch->failed = true;
    if (!open_reader(store) || !start(&answer)) {
        return;
    }
    answer.failed = connection_exec(&store->reader, "BEGIN") != SQLITE_OK;
    for (uint32_t i = 0; i < fetch->count && !answer.failed; i++) {
        sqlite3_stmt *row;
        int rc = row_of(&answer, SQL_MESSAGE_GET, TABLE_MESSAGE, fetch->numbers[i], &row);
        answer.failed = rc < 0;
        if (rc == 0) {
            take_row(&answer, i, row);
        }
        sqlite3_reset(row);
        if (answer.used >= PAGE_BYTES) {
            fetch->count = i + 1;
        }
    }
    connection_exec(&store->reader, "COMMIT");
    if (answer.failed) {
        free(answer.block);
        connection_close(&store->reader, true); /* a new one for the next time */
        return;
    }
    settle(&answer);
    fetch->rows = delivery_at(&answer, 0);
    fetch->failed = false;
}
