/*
 * store_sqlite_origin.c - who published, or whose session it is: each different one is stored once.
 *
 * A message is kept with its publisher, because its rights are asked for again when it is delivered; but a
 * publisher sends many messages. So an origin has a row of its own, found by content, and lives as long as
 * any row (message, session, retained, will) names its number. How many do is counted here, in memory: the
 * counts are built while the file is read at start and follow each transaction, back too when it fails.
 *
 * A number is never given to another origin while the process lives: the loop may know somebody by it.
 * Content is compared by 128 bits of SipHash under secret keys; nobody can find two that collide.
 */
#include "broker/principal.h"
#include "broker/store_sqlite_parts.h"
#include <stdlib.h>

void origins_start(struct origins *origins)
{
    *origins = (struct origins){.secret = {siphash_key_new(), siphash_key_new()}};
}

static void forget(struct origins *origins, struct origin *origin)
{
    HASH_DELETE(by_key, origins->by_key, origin);
    HASH_DELETE(by_number, origins->by_number, origin);
    free(origin->told);
    free(origin);
}

void origins_free(struct origins *origins)
{
    while (origins->by_number) {
        forget(origins, origins->by_number);
    }
    origins->touched = NULL;
}

static void key_of(const struct origins *origins, const struct slice fields[ORIGIN_FIELDS], uint64_t key[2])
{
    for (int half = 0; half < 2; half++) {
        struct sum sum;
        sum_start(&sum, &origins->secret[half], 0);
        for (int i = 0; i < ORIGIN_FIELDS; i++) {
            sum_bytes(&sum, fields[i]);
        }
        key[half] = sum_end(&sum);
    }
}

static struct origin *find(struct origins *origins, uint64_t number)
{
    struct origin *origin;
    HASH_FIND(by_number, origins->by_number, &number, sizeof number, origin);
    return origin;
}

/* NULL without memory. */
static struct origin *add(struct origins *origins, uint64_t number, const uint64_t key[2])
{
    struct origin *origin = calloc(1, sizeof *origin);
    if (!origin) {
        return NULL;
    }
    origin->number = number;
    memcpy(origin->key, key, sizeof origin->key);
    HASH_ADD(by_key, origins->by_key, key, sizeof origin->key, origin);
    if (!origin->by_key.tbl) {
        free(origin);
        return NULL;
    }
    HASH_ADD(by_number, origins->by_number, number, sizeof origin->number, origin);
    if (!origin->by_number.tbl) {
        HASH_DELETE(by_key, origins->by_key, origin);
        free(origin);
        return NULL;
    }
    if (number > origins->last) {
        origins->last = number;
    }
    return origin;
}

static void touch(struct origins *origins, struct origin *origin)
{
    if (!origin->touched) {
        origin->touched = true;
        origin->next_touched = origins->touched;
        origins->touched = origin;
    }
}

/* The name of its listener. NULL: in-process. Empty: one that is there no more. */
static struct slice listener_name(const struct sqlite_store *store, int listener)
{
    if (listener == -1) {
        return slice_of(NULL, 0);
    }
    bool known = listener >= 0 && (size_t)listener < store->listener_count;
    return slice_str(known ? store->listeners[listener] : "");
}

/* The port, with the space behind it. Empty: a socket's path. */
static struct slice port_of(struct slice name)
{
    size_t n = 0;
    while (n < name.n && name.p[n] >= '0' && name.p[n] <= '9') {
        n++;
    }
    return n > 0 && n < name.n && name.p[n] == ' ' ? slice_of(name.p, n + 1) : slice_of(NULL, 0);
}

/* One that only has another address now is the same, unless that port has several. */
int origin_listener(const struct sqlite_store *store, struct slice name)
{
    struct slice port = port_of(name);
    int same_port = LISTENER_GONE, count = 0;
    if (!name.p) {
        return -1;
    }
    for (size_t i = 0; name.n && i < store->listener_count; i++) {
        struct slice now = slice_str(store->listeners[i]);
        if (slice_eq(name, now)) {
            return (int)i;
        }
        if (port.n && slice_eq(port, port_of(now))) {
            same_port = (int)i;
            count++;
        }
    }
    return count == 1 ? same_port : store->stand_in;
}

static int insert(struct sqlite_store *store, uint64_t number, const struct slice fields[ORIGIN_FIELDS])
{
    struct row row;
    row_start(&row, &store->db, SQL_ORIGIN_ADD, TABLE_ORIGIN);
    row_number(&row, (int64_t)number);
    for (int i = 0; i < ORIGIN_FIELDS; i++) {
        row_text(&row, fields[i]);
    }
    return row_end(&row);
}

int origin_take(struct sqlite_store *store, const struct principal *who, uint64_t *number)
{
    struct origins *origins = &store->origins;
    struct origin *origin;
    uint64_t key[2];
    *number = 0;
    if (!who) {
        return SQLITE_OK;
    }
    const struct slice fields[ORIGIN_FIELDS] = {
        slice_str(who->client_id),           slice_str(who->user),
        listener_name(store, who->listener), slice_str(who->address),
        slice_str(who->tls_version),         slice_str(who->cert_cn),
        slice_str(who->cert_subject),        slice_str(who->cert_sha256[0] ? who->cert_sha256 : NULL),
    };
    key_of(origins, fields, key);
    HASH_FIND(by_key, origins->by_key, key, sizeof key, origin);
    if (!origin) {
        origin = add(origins, origins->last + 1, key);
        if (!origin) {
            return SQLITE_NOMEM;
        }
        touch(origins, origin);
        int rc = insert(store, origin->number, fields);
        if (rc != SQLITE_OK) {
            return rc;
        }
    }
    touch(origins, origin);
    origin->count++;
    *number = origin->number;
    return SQLITE_OK;
}

void origin_drop(struct sqlite_store *store, uint64_t number)
{
    struct origin *origin = number ? find(&store->origins, number) : NULL;
    if (origin && origin->count > 0) {
        touch(&store->origins, origin);
        origin->count--;
    }
}

int origins_settle(struct sqlite_store *store)
{
    for (struct origin *origin = store->origins.touched; origin; origin = origin->next_touched) {
        if (origin->count == 0) {
            int rc = connection_run(&store->db, SQL_ORIGIN_DROP, (int64_t)origin->number, 0);
            if (rc != SQLITE_OK) {
                return rc;
            }
        }
    }
    return SQLITE_OK;
}

void origins_committed(struct origins *origins)
{
    while (origins->touched) {
        struct origin *origin = origins->touched;
        origins->touched = origin->next_touched;
        origin->touched = false;
        origin->was = origin->count;
        origin->stored = true;
        if (origin->count == 0) {
            forget(origins, origin);
        }
    }
}

void origins_rolled_back(struct origins *origins)
{
    struct origin *again = NULL;
    while (origins->touched) {
        struct origin *origin = origins->touched;
        origins->touched = origin->next_touched;
        origin->touched = false;
        origin->count = origin->was;
        if (!origin->stored) {
            forget(origins, origin);
        } else if (origin->count == 0) { /* its row could not be removed: with the next batch */
            origin->touched = true;
            origin->next_touched = again;
            again = origin;
        }
    }
    origins->touched = again;
}

/* ---- loading ---- */

/* A stored_origin and the texts that it points to, in one block. */
static struct stored_origin *tell(const struct sqlite_store *store, uint64_t number,
                                  const struct slice fields[ORIGIN_FIELDS])
{
    size_t size = sizeof(struct stored_origin);
    for (int i = 0; i < ORIGIN_FIELDS; i++) {
        size += i != ORIGIN_LISTENER && fields[i].p ? fields[i].n + 1 : 0;
    }
    struct stored_origin *told = calloc(1, size);
    if (!told) {
        return NULL;
    }
    const char **texts[ORIGIN_FIELDS] = {&told->client_id,    &told->user,        NULL,
                                         &told->address,      &told->tls_version, &told->cert_cn,
                                         &told->cert_subject, &told->cert_sha256};
    char *at = (char *)(told + 1);
    told->number = number;
    told->listener = origin_listener(store, fields[ORIGIN_LISTENER]);
    for (int i = 0; i < ORIGIN_FIELDS; i++) {
        if (texts[i] && fields[i].p) {
            memcpy(at, fields[i].p, fields[i].n); /* calloc() has set the zero behind it */
            *texts[i] = at;
            at += fields[i].n + 1;
        }
    }
    return told;
}

int origin_load(struct sqlite_store *store, sqlite3_stmt *statement)
{
    struct origins *origins = &store->origins;
    uint64_t number = (uint64_t)sqlite3_column_int64(statement, 0), key[2];
    struct slice fields[ORIGIN_FIELDS];
    for (int i = 0; i < ORIGIN_FIELDS; i++) {
        fields[i] = row_slice(statement, i + 1);
    }
    key_of(origins, fields, key);
    struct origin *origin = add(origins, number, key);
    if (!origin) {
        return SQLITE_NOMEM;
    }
    origin->stored = true;
    origin->told = tell(store, number, fields);
    return origin->told ? SQLITE_OK : SQLITE_NOMEM;
}

const struct stored_origin *origin_told(struct sqlite_store *store, uint64_t number)
{
    static const struct stored_origin nobody = {.listener = -1};
    if (number == 0) {
        return &nobody;
    }
    struct origin *origin = find(&store->origins, number);
    if (!origin) {
        return NULL;
    }
    origin->count++;
    origin->was++;
    return origin->told;
}

void origins_loaded(struct origins *origins)
{
    for (struct origin *origin = origins->by_number; origin; origin = origin->by_number.next) {
        free(origin->told);
        origin->told = NULL;
        if (origin->count == 0) {
            touch(origins, origin);
        }
    }
}
