/*
 * fake_storage.h - stable storage that commits when the test says so, with a disk in memory.
 *
 * It keeps a copy of the batch under way and sees to it that the batch stays as it was until the commit, as
 * storage.h promises to the thread that will write it. A commit writes the batch to the disk, row by row as
 * storage.h says; disk_owed() and its neighbours look at that, disk_load() tells it to a reader as at the
 * start after a crash, and fake_storage_read() answers who fetches.
 *
 * It checks its user as well: one batch at a time, numbers that rise, marks that never go back, and in a
 * batch of removals nothing but removals. What it takes itself is in no account of memory (mem.h).
 */
#ifndef BRAMBLE_TEST_FAKE_STORAGE_H
#define BRAMBLE_TEST_FAKE_STORAGE_H

#include "broker/hash.h"
#include "broker/msg.h"
#include "broker/store.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FETCHES = 64 };

/* One row; its key is its kind, numbers and text, as much of it as it has. */
struct disk_row {
    UT_hash_handle hh;
    uint8_t kind; /* enum change_kind: the change that makes it */
    uint8_t qos;
    bool retain, owing, damaged;
    uint64_t number, from; /* from: names the principal */
    struct recipient *owed;
    uint32_t count;
    char *topic, *payload, *client_id, *user;
    int listener;
    uint32_t topic_size, payload_size;
    size_t key_size;
    uint8_t key[];
};

struct fake_storage {
    struct storage port;       /* first */
    const struct batch *batch; /* under way, or NULL */
    struct change *copy;
    size_t count;
    int batches; /* handed over until now */
    /* the disk */
    struct disk_row *rows; /* uthash keeps the order of adding: messages are in that of their numbers */
    uint64_t last;         /* of the last batch */
    uint64_t written;      /* rows of messages, ever */
    uint64_t last_message;
    /* who waits for what is read */
    struct fetch *fetches[FETCHES];
    int fetch_count;
};

static inline void disk_wrong(const char *what)
{
    fprintf(stderr, "fake_storage.h: %s\n", what);
    abort();
}

/* ---- rows ---- */

struct disk_key {
    uint8_t bytes[17 + 65536];
    size_t n;
};

static inline void disk_key(struct disk_key *key, uint8_t kind, uint64_t one, uint64_t two, const void *text,
                            size_t n)
{
    key->bytes[0] = kind;
    memcpy(key->bytes + 1, &one, sizeof one);
    memcpy(key->bytes + 9, &two, sizeof two);
    if (n > 0) {
        memcpy(key->bytes + 17, text, n);
    }
    key->n = 17 + n;
}

static inline struct disk_row *disk_find_text(const struct fake_storage *fake, uint8_t kind, uint64_t one,
                                              const void *text, size_t n)
{
    static struct disk_key key;
    struct disk_row *row;
    disk_key(&key, kind, one, 0, text, n);
    HASH_FIND(hh, fake->rows, key.bytes, key.n, row);
    return row;
}

static inline struct disk_row *disk_find(const struct fake_storage *fake, uint8_t kind, uint64_t one,
                                         uint64_t two)
{
    static struct disk_key key;
    struct disk_row *row;
    disk_key(&key, kind, one, two, NULL, 0);
    HASH_FIND(hh, fake->rows, key.bytes, key.n, row);
    return row;
}

static inline void disk_drop(struct fake_storage *fake, struct disk_row *row)
{
    if (row) {
        HASH_DEL(fake->rows, row);
        free(row->owed);
        free(row->topic);
        free(row->payload);
        free(row->client_id);
        free(row->user);
        free(row);
    }
}

/* A new row, in the place of one with the same key. */
static inline struct disk_row *disk_put_text(struct fake_storage *fake, uint8_t kind, uint64_t one,
                                             uint64_t two, const void *text, size_t n)
{
    static struct disk_key key;
    struct disk_row *row;
    disk_key(&key, kind, one, two, text, n);
    HASH_FIND(hh, fake->rows, key.bytes, key.n, row);
    disk_drop(fake, row);
    row = calloc(1, sizeof *row + key.n);
    row->kind = kind;
    row->key_size = key.n;
    memcpy(row->key, key.bytes, key.n);
    HASH_ADD_KEYPTR(hh, fake->rows, row->key, row->key_size, row);
    return row;
}

static inline struct disk_row *disk_put(struct fake_storage *fake, uint8_t kind, uint64_t one, uint64_t two)
{
    return disk_put_text(fake, kind, one, two, NULL, 0);
}

static inline uint64_t disk_key_one(const struct disk_row *row)
{
    uint64_t one;
    memcpy(&one, row->key + 1, sizeof one);
    return one;
}

static inline uint64_t disk_key_two(const struct disk_row *row)
{
    uint64_t two;
    memcpy(&two, row->key + 9, sizeof two);
    return two;
}

static inline char *disk_bytes(const void *p, size_t n)
{
    char *copy = calloc(1, n + 1);
    if (n > 0) {
        memcpy(copy, p, n);
    }
    return copy;
}

static inline void disk_keep_who(struct disk_row *row, const struct principal *who)
{
    row->from = (uint64_t)(uintptr_t)who;
    if (who) {
        row->client_id = who->client_id ? disk_bytes(who->client_id, strlen(who->client_id)) : NULL;
        row->user = who->user ? disk_bytes(who->user, strlen(who->user)) : NULL;
        row->listener = who->listener;
    }
}

static inline void disk_keep_msg(struct disk_row *row, const struct msg *msg)
{
    struct slice topic = msg_topic(msg), payload = msg_payload(msg);
    row->topic = disk_bytes(topic.p, topic.n);
    row->topic_size = (uint32_t)topic.n;
    row->payload = disk_bytes(payload.p, payload.n);
    row->payload_size = (uint32_t)payload.n;
    row->qos = msg->qos;
    row->retain = msg->retain;
    disk_keep_who(row, msg->from);
}

/* ---- what is on it ---- */

/* How many rows of a kind (that of the change that makes it). */
static inline size_t disk_count(const struct fake_storage *fake, enum change_kind kind)
{
    size_t n = 0;
    for (const struct disk_row *row = fake->rows; row; row = row->hh.next) {
        n += row->kind == kind;
    }
    return n;
}

static inline uint64_t disk_mark(const struct fake_storage *fake, uint64_t session)
{
    const struct disk_row *row = disk_find(fake, CHANGE_MARK, session, 0);
    return row ? row->number : 0;
}

static inline bool disk_still_owed(const struct fake_storage *fake, uint64_t session, uint64_t number)
{
    return disk_find(fake, CHANGE_SESSION, session, 0) && number >= disk_mark(fake, session) &&
           !disk_find(fake, CHANGE_DONE, session, number);
}

static inline uint32_t disk_owed_to(const struct fake_storage *fake, const struct disk_row *message)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < message->count; i++) {
        n += disk_still_owed(fake, message->owed[i].session, message->number);
    }
    return n;
}

/* Whether message number is still owed to a session. */
static inline bool disk_owed(const struct fake_storage *fake, uint64_t session, uint64_t number)
{
    const struct disk_row *row = disk_find(fake, CHANGE_MESSAGE, number, 0);
    bool named = false;
    for (uint32_t i = 0; row && i < row->count; i++) {
        named |= row->owed[i].session == session;
    }
    return named && disk_still_owed(fake, session, number);
}

/* ---- a commit ---- */

static inline bool disk_is_of(const struct disk_row *row, uint64_t session)
{
    switch (row->kind) {
    case CHANGE_SESSION:
    case CHANGE_MARK:
    case CHANGE_DONE:
    case CHANGE_OUT:
    case CHANGE_IN_ID:
    case CHANGE_SUBSCRIBE:
        return disk_key_one(row) == session;
    default:
        return false;
    }
}

static inline void disk_drop_session(struct fake_storage *fake, uint64_t session)
{
    for (struct disk_row *row = fake->rows, *next; row; row = next) {
        next = row->hh.next;
        if (disk_is_of(row, session)) {
            disk_drop(fake, row);
        }
    }
}

static inline void disk_put_message(struct fake_storage *fake, const struct change *change)
{
    if (change->number <= fake->last_message) {
        disk_wrong("the numbers of messages do not rise");
    }
    fake->last_message = change->number;
    if (change->count == 0 || !change->owed || !change->msg) {
        disk_wrong("a message that is owed to nobody");
    }
    struct disk_row *row = disk_put(fake, CHANGE_MESSAGE, change->number, 0);
    row->number = change->number;
    row->count = change->count;
    row->owed = malloc(change->count * sizeof *row->owed);
    memcpy(row->owed, change->owed, change->count * sizeof *row->owed);
    disk_keep_msg(row, change->msg);
    fake->written++;
}

/* What it passes is no exception any more. */
static inline void disk_move_mark(struct fake_storage *fake, const struct change *change)
{
    if (!disk_find(fake, CHANGE_SESSION, change->session, 0)) {
        return;
    }
    if (change->number < disk_mark(fake, change->session)) {
        disk_wrong("a mark goes back");
    }
    disk_put(fake, CHANGE_MARK, change->session, 0)->number = change->number;
    for (struct disk_row *row = fake->rows, *next; row; row = next) {
        next = row->hh.next;
        if (row->kind == CHANGE_DONE && disk_key_one(row) == change->session &&
            disk_key_two(row) < change->number) {
            disk_drop(fake, row);
        }
    }
}

static inline void disk_put_retained(struct fake_storage *fake, const struct msg *msg)
{
    struct slice topic = msg_topic(msg);
    if (msg->payload_size == 0) {
        disk_drop(fake, disk_find_text(fake, CHANGE_RETAINED, 0, topic.p, topic.n));
    } else {
        disk_keep_msg(disk_put_text(fake, CHANGE_RETAINED, 0, 0, topic.p, topic.n), msg);
    }
}

static inline void disk_apply(struct fake_storage *fake, const struct change *change)
{
    struct disk_row *row;
    const uint64_t session = change->session;
    switch (change->kind) {
    case CHANGE_MESSAGE:
        disk_put_message(fake, change);
        break;
    case CHANGE_MESSAGE_GONE:
        row = disk_find(fake, CHANGE_MESSAGE, change->number, 0);
        if (!row) {
            disk_wrong("a message goes that is not there");
        }
        disk_drop(fake, row);
        break;
    case CHANGE_MARK:
        disk_move_mark(fake, change);
        break;
    case CHANGE_DONE:
        if (disk_find(fake, CHANGE_SESSION, session, 0) && change->number >= disk_mark(fake, session)) {
            disk_put(fake, CHANGE_DONE, session, change->number)->number = change->number;
        }
        break;
    case CHANGE_OUT:
        if (change->id == 0) {
            disk_wrong("an identifier of 0");
        }
        row = disk_put(fake, CHANGE_OUT, session, change->id);
        row->number = change->number;
        row->qos = change->qos;
        break;
    case CHANGE_OUT_DONE:
        disk_drop(fake, disk_find(fake, CHANGE_OUT, session, change->id));
        break;
    case CHANGE_IN_ID:
        disk_put(fake, CHANGE_IN_ID, session, change->id);
        break;
    case CHANGE_IN_ID_DONE:
        disk_drop(fake, disk_find(fake, CHANGE_IN_ID, session, change->id));
        break;
    case CHANGE_RETAINED:
        disk_put_retained(fake, change->msg);
        break;
    case CHANGE_SESSION:
        row = disk_put(fake, CHANGE_SESSION, session, 0);
        disk_keep_who(row, change->who);
        free(row->client_id);
        row->client_id = disk_bytes(change->text, change->count);
        break;
    case CHANGE_SESSION_GONE:
        disk_drop_session(fake, session);
        break;
    case CHANGE_SUBSCRIBE:
        if (!disk_find(fake, CHANGE_SESSION, session, 0)) {
            disk_wrong("a subscription of a session that is not there");
        }
        row = disk_put_text(fake, CHANGE_SUBSCRIBE, session, 0, change->text, change->count);
        row->topic = disk_bytes(change->text, change->count);
        row->topic_size = change->count;
        row->qos = change->qos;
        row->owing = change->owing;
        break;
    case CHANGE_UNSUBSCRIBE:
        disk_drop(fake, disk_find_text(fake, CHANGE_SUBSCRIBE, session, change->text, change->count));
        break;
    case CHANGE_WILL:
        disk_keep_msg(disk_put_text(fake, CHANGE_WILL, 0, 0, change->text, change->count), change->msg);
        break;
    case CHANGE_WILL_GONE:
        disk_drop(fake, disk_find_text(fake, CHANGE_WILL, 0, change->text, change->count));
        break;
    default:
        break;
    }
}

static inline void disk_write(struct fake_storage *fake)
{
    for (size_t i = 0; i < fake->count; i++) {
        const struct change *change = &fake->copy[i];
        uint64_t most = fake->batch->last + (change->kind == CHANGE_MARK);
        if (change->number > most || change->session > fake->batch->last) {
            disk_wrong("a number beyond the last one that was given");
        }
        disk_apply(fake, change);
    }
    if (fake->batch->last < fake->last) {
        disk_wrong("the last number goes back");
    }
    fake->last = fake->batch->last;
}

/* ---- batches ---- */

static inline void fake_storage_submit(struct storage *port, const struct batch *batch)
{
    struct fake_storage *fake = (struct fake_storage *)port;
    if (fake->batch) {
        disk_wrong("two batches at a time");
    }
    fake->batch = batch;
    fake->count = batch->count;
    fake->copy = malloc(batch->count * sizeof *fake->copy + 1);
    if (batch->count > 0) {
        memcpy(fake->copy, batch->changes, batch->count * sizeof *fake->copy);
    }
    fake->batches++;
    for (size_t i = 0; batch->removals && i < batch->count; i++) {
        uint8_t kind = batch->changes[i].kind;
        if (kind != CHANGE_VOID && kind != CHANGE_MESSAGE_GONE && kind != CHANGE_IN_ID_DONE) {
            disk_wrong("a batch of removals takes room");
        }
    }
}

/* How many changes of a kind are under way. */
static inline size_t fake_storage_has(const struct fake_storage *fake, enum change_kind kind)
{
    size_t n = 0;
    for (size_t i = 0; fake->batch && i < fake->count; i++) {
        n += fake->copy[i].kind == kind;
    }
    return n;
}

/* The nth change of a kind under way, or NULL. */
static inline const struct change *fake_storage_change(const struct fake_storage *fake, enum change_kind kind,
                                                       size_t nth)
{
    for (size_t i = 0; fake->batch && i < fake->count; i++) {
        if (fake->copy[i].kind == kind && nth-- == 0) {
            return &fake->copy[i];
        }
    }
    return NULL;
}

/* The answer comes. False when nothing is under way, or when somebody changed what is. */
static inline bool fake_storage_answer(struct fake_storage *fake, enum storage_error error, const char *why)
{
    if (!fake->batch) {
        return false;
    }
    bool same =
        fake->batch->count == fake->count &&
        (fake->count == 0 || memcmp(fake->batch->changes, fake->copy, fake->count * sizeof *fake->copy) == 0);
    uint64_t number = fake->batch->number;
    if (!why) {
        disk_write(fake);
    }
    fake->batch = NULL;
    free(fake->copy);
    fake->copy = NULL;
    const struct storage_events *events = &fake->port.events;
    if (why) {
        events->failed(events->arg, number, error, why);
    } else {
        events->committed(events->arg, number);
    }
    return same;
}

static inline bool fake_storage_commit(struct fake_storage *fake)
{
    return fake_storage_answer(fake, STORAGE_ERROR, NULL);
}

/* ---- reading ---- */

static inline struct stored_message disk_message(const struct disk_row *row)
{
    return (struct stored_message){
        .number = row->number,
        .topic = slice_of((const uint8_t *)row->topic, row->topic_size),
        .payload = slice_of((const uint8_t *)row->payload, row->payload_size),
        .qos = row->qos,
        .retain = row->retain,
        .origin = {.number = row->from,
                   .client_id = row->client_id,
                   .user = row->user,
                   .listener = row->listener},
    };
}

/* Under which identifier a message went out to a session at QoS 2, 0: none is known. */
static inline uint16_t disk_out_id(const struct fake_storage *fake, uint64_t session, uint64_t number)
{
    for (const struct disk_row *row = fake->rows; row; row = row->hh.next) {
        if (row->kind == CHANGE_OUT && disk_key_one(row) == session && row->number == number) {
            return (uint16_t)disk_key_two(row);
        }
    }
    return 0;
}

static inline struct stored_delivery disk_delivery(const struct fake_storage *fake,
                                                   const struct disk_row *row, const struct recipient *to,
                                                   const struct stored_message *message)
{
    return (struct stored_delivery){
        .session = to->session,
        .others = disk_owed_to(fake, row) - 1,
        .id = to->qos == 2 ? disk_out_id(fake, to->session, row->number) : to->id,
        .qos = to->qos,
        .retain = to->retain,
        .message = message,
    };
}

static inline void fake_storage_fetch(struct storage *port, struct fetch *fetch)
{
    struct fake_storage *fake = (struct fake_storage *)port;
    if (fake->fetch_count == FETCHES || fetch->count == 0) {
        disk_wrong("too many are read at once, or nothing is");
    }
    fake->fetches[fake->fetch_count++] = fetch;
}

static inline void fake_storage_rows_free(struct storage *port, struct fetch *fetch)
{
    (void)port;
    for (uint32_t i = 0; fetch->rows && i < fetch->count; i++) {
        free((void *)(uintptr_t)fetch->rows[i].message);
    }
    free(fetch->rows);
    fetch->rows = NULL;
}

static inline void disk_read_row(const struct fake_storage *fake, const struct fetch *fetch, uint32_t i)
{
    const struct disk_row *row = disk_find(fake, CHANGE_MESSAGE, fetch->numbers[i], 0);
    if (i > 0 && fetch->numbers[i] <= fetch->numbers[i - 1]) {
        disk_wrong("the numbers that are asked for do not rise");
    }
    for (uint32_t to = 0; row && !row->damaged && to < row->count; to++) {
        if (row->owed[to].session == fetch->session) {
            struct stored_message *message = malloc(sizeof *message);
            *message = disk_message(row);
            fetch->rows[i] = disk_delivery(fake, row, &row->owed[to], message);
        }
    }
}

/* The oldest one who fetches gets his answer. False when nobody does. */
static inline bool fake_storage_read(struct fake_storage *fake, bool fails)
{
    if (fake->fetch_count == 0) {
        return false;
    }
    struct fetch *fetch = fake->fetches[0];
    fake->fetch_count--;
    memmove(fake->fetches, fake->fetches + 1, (size_t)fake->fetch_count * sizeof fake->fetches[0]);
    fetch->failed = fails;
    if (!fails) {
        fetch->rows = calloc(fetch->count, sizeof *fetch->rows);
        for (uint32_t i = 0; i < fetch->count; i++) {
            disk_read_row(fake, fetch, i);
        }
    }
    fetch->mail.fn(&fetch->mail);
    return true;
}

static inline int disk_load_messages(const struct fake_storage *fake, const struct storage_reader *reader)
{
    int result = 0;
    for (const struct disk_row *row = fake->rows; row && result == 0; row = row->hh.next) {
        struct stored_message message = disk_message(row);
        for (uint32_t i = 0; row->kind == CHANGE_MESSAGE && i < row->count && result == 0; i++) {
            if (disk_still_owed(fake, row->owed[i].session, row->number)) {
                struct stored_delivery d = disk_delivery(fake, row, &row->owed[i], &message);
                result = reader->delivery(reader->arg, &d);
            }
        }
    }
    return result;
}

/* An identifier whose message is not owed any more waits for PUBCOMP: PUBREC has come for it. */
static inline int disk_load_row(const struct fake_storage *fake, const struct disk_row *row, uint8_t kind,
                                const struct storage_reader *reader)
{
    uint64_t session = disk_key_one(row);
    struct stored_message message = disk_message(row);
    if (row->kind != kind) {
        return 0;
    }
    switch (kind) {
    case CHANGE_SESSION:
        return reader->session(reader->arg, session, row->client_id, &message.origin);
    case CHANGE_SUBSCRIBE:
        return reader->subscription(reader->arg, session, message.topic, row->qos, row->owing);
    case CHANGE_IN_ID:
        return reader->inbound(reader->arg, session, (uint16_t)disk_key_two(row));
    case CHANGE_OUT:
        return disk_owed(fake, session, row->number)
                   ? 0
                   : reader->released(reader->arg, session, (uint16_t)disk_key_two(row));
    case CHANGE_RETAINED:
        return reader->retained(reader->arg, &message);
    default: {
        char client_id[64] = "";
        size_t n = row->key_size - 17;
        memcpy(client_id, row->key + 17, n < sizeof client_id ? n : sizeof client_id - 1);
        return reader->will(reader->arg, client_id, &message);
    }
    }
}

/* As at the start: tells all there is, in the order of storage.h; messages that are owed to nobody go. */
static inline int disk_load(struct fake_storage *fake, const struct storage_reader *reader)
{
    static const uint8_t kinds[] = {CHANGE_SESSION,  CHANGE_SUBSCRIBE, CHANGE_IN_ID, CHANGE_OUT,
                                    CHANGE_RETAINED, CHANGE_MESSAGE,   CHANGE_WILL};
    int result = 0;
    for (struct disk_row *row = fake->rows, *next; row; row = next) {
        next = row->hh.next;
        if (row->kind == CHANGE_MESSAGE && disk_owed_to(fake, row) == 0) {
            disk_drop(fake, row);
        }
    }
    for (size_t i = 0; i < sizeof kinds && result == 0; i++) {
        if (kinds[i] == CHANGE_MESSAGE) {
            result = disk_load_messages(fake, reader);
            continue;
        }
        for (const struct disk_row *row = fake->rows; row && result == 0; row = row->hh.next) {
            result = disk_load_row(fake, row, kinds[i], reader);
        }
    }
    return result;
}

/* ---- */

static inline void fake_storage_init(struct fake_storage *fake)
{
    *fake = (struct fake_storage){.port = {.submit = fake_storage_submit,
                                           .fetch = fake_storage_fetch,
                                           .rows_free = fake_storage_rows_free}};
}

/* What was under way is forgotten, as in a crash; the disk stays. Who fetches must have had his answer. */
static inline void fake_storage_crash(struct fake_storage *fake)
{
    free(fake->copy);
    fake->copy = NULL;
    fake->batch = NULL;
    fake->fetch_count = 0;
}

/* For teardowns. */
static inline void fake_storage_free(struct fake_storage *fake)
{
    fake_storage_crash(fake);
    while (fake->rows) {
        disk_drop(fake, fake->rows);
    }
    *fake = (struct fake_storage){0};
}

#endif
