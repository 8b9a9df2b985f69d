/*
 * test_store_sqlite.c - the durable store on real files: what goes in comes back, whatever happened between.
 *
 * What a load tells is written down as text, one line for each call, and compared as a whole. Some tests look
 * at the file, or harm it, through an SQLite connection of their own.
 */
#include "broker/msg.h"
#include "broker/principal.h"
#include "broker/store_sqlite.h"
#include "test/unit/no_memory.h"
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { MANY = 4096 };

static struct {
    char dir[64], path[128];
    struct mailbox *mailbox;
    int woken; /* eventfd */
    struct storage *storage;
    struct err err;
    enum storage_sync sync;
    uint64_t min_free;
    const char *listeners[4];
    size_t listener_count;
    /* the batch that is being made */
    struct change *changes;
    size_t count;
    uint64_t batch, last;
    bool removals;
    /* events */
    int committed, failed;
    uint64_t told;
    enum storage_error error;
    char why[1024];
    /* what was loaded */
    char text[16384];
    size_t text_n;
    char progress[4096];
    uint64_t loaded_last;
} t;

static const char *const two_listeners[] = {"1883", "8883"};

static void wake(void *arg)
{
    uint64_t one = 1;
    (void)arg;
    assert_int_equal(write(t.woken, &one, sizeof one), sizeof one);
}

/* Waits until there was mail, and delivers it. */
static void drain(void)
{
    struct pollfd pfd = {.fd = t.woken, .events = POLLIN};
    uint64_t n;
    assert_int_equal(poll(&pfd, 1, 60000), 1);
    assert_int_equal(read(t.woken, &n, sizeof n), sizeof n);
    mailbox_drain(t.mailbox);
}

static void on_committed(void *arg, uint64_t batch)
{
    (void)arg;
    t.committed++;
    t.told = batch;
}

static void on_failed(void *arg, uint64_t batch, enum storage_error error, const char *why)
{
    (void)arg;
    t.failed++;
    t.told = batch;
    t.error = error;
    snprintf(t.why, sizeof t.why, "%s", why);
}

static int setup(void **unused)
{
    (void)unused;
    memset(&t, 0, sizeof t);
    strcpy(t.dir, "/tmp/bramble-store-XXXXXX");
    assert_non_null(mkdtemp(t.dir));
    snprintf(t.path, sizeof t.path, "%s/bramble.db", t.dir);
    t.woken = eventfd(0, EFD_CLOEXEC);
    t.mailbox = mailbox_new(wake, NULL);
    memcpy(t.listeners, two_listeners, sizeof two_listeners);
    t.listener_count = 2;
    t.changes = calloc(MANY, sizeof *t.changes);
    return 0;
}

static void clear_changes(void)
{
    for (size_t i = 0; i < t.count; i++) {
        msg_unref(t.changes[i].msg);
        principal_unref(t.changes[i].who);
        free(t.changes[i].text);
    }
    t.count = 0;
}

static void close_store(void)
{
    storage_close(t.storage);
    t.storage = NULL;
}

static int teardown(void **unused)
{
    char command[256];
    (void)unused;
    close_store();
    clear_changes();
    free(t.changes);
    mailbox_free(t.mailbox);
    close(t.woken);
    snprintf(command, sizeof command, "chmod -R u+rwX %s; rm -rf %s", t.dir, t.dir);
    assert_int_equal(system(command), 0);
    return 0;
}

/* ---- opening and loading ---- */

static bool open_store(void)
{
    struct storage_options options = {.path = t.path,
                                      .sync = t.sync,
                                      .min_free = t.min_free,
                                      .listeners = t.listeners,
                                      .listener_count = t.listener_count,
                                      .mailbox = t.mailbox};
    t.err.text[0] = 0;
    t.storage = storage_open(&options, &t.err);
    if (!t.storage) {
        return false;
    }
    t.storage->events.committed = on_committed;
    t.storage->events.failed = on_failed;
    return true;
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    t.text_n += (size_t)vsnprintf(t.text + t.text_n, sizeof t.text - t.text_n, format, ap);
    va_end(ap);
    assert_true(t.text_n < sizeof t.text);
}

static void say_origin(const struct stored_origin *who)
{
    if (who->number == 0) {
        say(" by the broker\n");
        return;
    }
    say(" by %s", who->client_id ? who->client_id : "-");
    if (who->user) {
        say(" user %s", who->user);
    }
    if (who->listener) {
        say(" listener %d", who->listener);
    }
    if (who->tls_version) {
        say(" %s cn %s subject %s sha %s", who->tls_version, who->cert_cn, who->cert_subject,
            who->cert_sha256);
    }
    say(" at %s\n", who->address);
}

static void say_message(const struct stored_message *message)
{
    say(" %.*s=%.*s qos %d%s", SLICE_ARG(message->topic), SLICE_ARG(message->payload), message->qos,
        message->retain ? " retain" : "");
    say_origin(&message->origin);
}

static int on_session(void *arg, uint64_t number, const char *client_id, const struct stored_origin *who)
{
    (void)arg;
    say("session %d %s", (int)number, client_id);
    say_origin(who);
    return 0;
}

static int on_subscription(void *arg, uint64_t session, struct slice filter, uint8_t qos, bool owing)
{
    (void)arg;
    say("subscription %d %.*s qos %d%s\n", (int)session, SLICE_ARG(filter), qos, owing ? " owing" : "");
    return 0;
}

static int on_inbound(void *arg, uint64_t session, uint16_t id)
{
    (void)arg;
    say("inbound %d %d\n", (int)session, id);
    return 0;
}

static int on_released(void *arg, uint64_t session, uint16_t id)
{
    (void)arg;
    say("released %d %d\n", (int)session, id);
    return 0;
}

static int on_retained(void *arg, const struct stored_message *message)
{
    (void)arg;
    assert_int_equal(message->number, 0);
    say("retained");
    say_message(message);
    return 0;
}

static int on_delivery(void *arg, const struct stored_delivery *delivery)
{
    (void)arg;
    say("delivery %d to %d, %d others, id %d qos %d%s:", (int)delivery->message->number,
        (int)delivery->session, (int)delivery->others, delivery->id, delivery->qos,
        delivery->retain ? " retain" : "");
    say_message(delivery->message);
    return 0;
}

static int on_will(void *arg, const char *client_id, const struct stored_message *message)
{
    (void)arg;
    say("will of %s", client_id);
    say_message(message);
    return 0;
}

static void on_progress(void *arg, const char *text)
{
    (void)arg;
    size_t n = strlen(t.progress);
    snprintf(t.progress + n, sizeof t.progress - n, "%s\n", text);
}

static const struct storage_reader reader = {.session = on_session,
                                             .subscription = on_subscription,
                                             .inbound = on_inbound,
                                             .released = on_released,
                                             .retained = on_retained,
                                             .delivery = on_delivery,
                                             .will = on_will};

static int load_store(void)
{
    t.text[0] = 0;
    t.text_n = 0;
    t.progress[0] = 0;
    return storage_load(t.storage, &reader, &t.loaded_last, on_progress, NULL, &t.err);
}

static void start_store(void)
{
    if (!open_store() || load_store() || storage_start(t.storage, &t.err)) {
        fail_msg("%s", t.err.text);
    }
}

/* Closed, and opened again: what is in the file. */
static const char *stored(void)
{
    close_store();
    start_store();
    return t.text;
}

/* ---- batches ---- */

static struct principal *somebody(const char *client_id)
{
    struct principal *who = principal_new();
    who->client_id = strdup(client_id);
    strcpy(who->address, "10.0.0.1");
    return who;
}

static struct msg *message(const char *topic, const char *payload, uint8_t qos, bool retain, const char *by)
{
    struct principal *who = by ? somebody(by) : NULL;
    struct msg *msg = msg_new(slice_str(topic), slice_str(payload), qos, retain, who);
    principal_unref(who);
    return msg;
}

static struct change *put(enum change_kind kind, uint64_t session, uint64_t number)
{
    struct change *change = &t.changes[t.count++];
    assert_true(t.count <= MANY);
    *change = (struct change){.kind = (uint8_t)kind, .session = session, .number = number};
    if (number > t.last) {
        t.last = number;
    }
    if (session > t.last) {
        t.last = session;
    }
    return change;
}

static struct change *put_text(enum change_kind kind, uint64_t session, const char *text)
{
    struct change *change = put(kind, session, 0);
    change->text = (uint8_t *)strdup(text);
    change->count = (uint32_t)strlen(text);
    return change;
}

static void put_session(uint64_t session, const char *client_id)
{
    put_text(CHANGE_SESSION, session, client_id)->who = somebody(client_id);
}

/* Owed to the sessions whose numbers follow, up to 0. */
static struct change *put_message(uint64_t number, struct msg *msg, ...)
{
    struct change *change = put(CHANGE_MESSAGE, 0, number);
    int session;
    va_list ap;
    change->msg = msg;
    change->owed = calloc(8, sizeof *change->owed);
    va_start(ap, msg);
    while ((session = va_arg(ap, int)) != 0) {
        change->owed[change->count++] = (struct recipient){.session = (uint64_t)session, .qos = msg->qos};
    }
    va_end(ap);
    return change;
}

static void put_id(enum change_kind kind, uint64_t session, uint16_t id)
{
    put(kind, session, 0)->id = id;
}

/* Hands the batch over and waits for the answer. True: committed. */
static bool submit(void)
{
    struct batch batch = {
        .number = ++t.batch, .last = t.last, .changes = t.changes, .count = t.count, .removals = t.removals};
    int committed = t.committed, failed = t.failed;
    t.storage->submit(t.storage, &batch);
    drain();
    assert_int_equal(t.committed + t.failed, committed + failed + 1);
    assert_int_equal(t.told, t.batch);
    return t.committed > committed;
}

static void commit(void)
{
    if (!submit()) {
        fail_msg("%s", t.why);
    }
    clear_changes();
}

/* ---- the file, by another way ---- */

__attribute__((format(printf, 1, 2))) static void sql(const char *format, ...)
{
    char text[512], *error = NULL;
    sqlite3 *db;
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    assert_int_equal(sqlite3_open(t.path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, &error) != SQLITE_OK) {
        fail_msg("%s: %s", text, error);
    }
    sqlite3_close(db);
}

static int value_of(const char *column, const char *table)
{
    char text[256];
    sqlite3 *db;
    sqlite3_stmt *statement;
    snprintf(text, sizeof text, "SELECT %s FROM %s", column, table);
    assert_int_equal(sqlite3_open_v2(t.path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int n = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return n;
}

static int count(const char *table)
{
    return value_of("count(*)", table);
}

/* ---- what goes in comes back ---- */

static void a_new_store_is_empty(void **unused)
{
    struct stat st;
    (void)unused;
    start_store();
    assert_string_equal(t.text, "");
    assert_int_equal(stat(t.path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_string_equal(stored(), "");
    assert_non_null(strstr(t.progress, "loaded 0 sessions"));
}

static void fill(void)
{
    struct principal *who = somebody("both");
    who->user = strdup("joe");
    who->listener = 1;
    who->tls_version = "TLSv1.3";
    who->cert_cn = strdup("cn");
    who->cert_subject = strdup("CN=cn");
    strcpy(who->cert_sha256, "abcd");
    put_text(CHANGE_SESSION, 1, "alone")->who = somebody("alone");
    put_text(CHANGE_SESSION, 2, "both")->who = who;
    put_text(CHANGE_SUBSCRIBE, 1, "a/#")->qos = 1;
    struct change *owing = put_text(CHANGE_SUBSCRIBE, 2, "b/+");
    owing->qos = 2;
    owing->owing = true;
    put_id(CHANGE_IN_ID, 1, 7);
    put_id(CHANGE_OUT, 1, 9);
    struct change *first = put_message(3, message("a/b", "one", 1, true, "pub"), 1, 2, 0);
    first->owed[1] = (struct recipient){.session = 2, .qos = 1, .id = 300, .retain = true};
    put_message(4, message("a/c", "", 2, false, NULL), 2, 0);
    struct change *out = put(CHANGE_OUT, 2, 4);
    out->id = 11;
    out->qos = 2;
    put(CHANGE_RETAINED, 0, 0)->msg = message("r/1", "kept", 1, true, "pub");
    put_text(CHANGE_WILL, 0, "both")->msg = message("w/1", "bye", 2, true, "both");
}

static const char filled[] =
    "session 1 alone by alone at 10.0.0.1\n"
    "session 2 both by both user joe listener 1 TLSv1.3 cn cn subject CN=cn sha abcd at 10.0.0.1\n"
    "subscription 1 a/# qos 1\n"
    "subscription 2 b/+ qos 2 owing\n"
    "inbound 1 7\n"
    "released 1 9\n"
    "retained r/1=kept qos 1 retain by pub at 10.0.0.1\n"
    "delivery 3 to 1, 1 others, id 0 qos 1: a/b=one qos 1 retain by pub at 10.0.0.1\n"
    "delivery 3 to 2, 1 others, id 300 qos 1 retain: a/b=one qos 1 retain by pub at 10.0.0.1\n"
    "delivery 4 to 2, 0 others, id 11 qos 2: a/c= qos 2 by the broker\n"
    "will of both w/1=bye qos 2 retain by both at 10.0.0.1\n";

static void each_kind_of_change_comes_back(void **unused)
{
    (void)unused;
    start_store();
    fill();
    commit();
    assert_string_equal(stored(), filled);
    assert_non_null(strstr(t.progress,
                           "loaded 2 sessions, 2 subscriptions, 1 retained messages, 2 queued messages "
                           "(3 deliveries), 1 wills"));
}

static void each_kind_goes_again(void **unused)
{
    (void)unused;
    start_store();
    fill();
    commit();
    put_text(CHANGE_UNSUBSCRIBE, 1, "a/#");
    put_id(CHANGE_IN_ID_DONE, 1, 7);
    put_id(CHANGE_OUT_DONE, 1, 9);
    put_id(CHANGE_OUT_DONE, 1, 10); /* unknown */
    put(CHANGE_MESSAGE_GONE, 0, 3);
    put(CHANGE_RETAINED, 0, 0)->msg = message("r/1", "", 1, true, "pub");
    put_text(CHANGE_WILL_GONE, 0, "both");
    put(CHANGE_VOID, 0, 0);
    commit();
    assert_string_equal(stored(),
                        "session 1 alone by alone at 10.0.0.1\n"
                        "session 2 both by both user joe listener 1 TLSv1.3 cn cn subject CN=cn sha abcd at "
                        "10.0.0.1\n"
                        "subscription 2 b/+ qos 2 owing\n"
                        "delivery 4 to 2, 0 others, id 11 qos 2: a/c= qos 2 by the broker\n");
    put(CHANGE_SESSION_GONE, 2, 0);
    put(CHANGE_MESSAGE_GONE, 0, 4);
    commit();
    assert_string_equal(stored(), "session 1 alone by alone at 10.0.0.1\n");
    assert_int_equal(count("origin"), 1);
}

static void a_session_takes_what_is_its_own_along(void **unused)
{
    static const char *const tables[] = {"mark", "done", "out", "inbound", "subscription", "session"};
    (void)unused;
    start_store();
    for (uint64_t session = 1; session < 3; session++) {
        put_session(session, "one");
        put(CHANGE_MARK, session, 2);
        put(CHANGE_DONE, session, 3);
        put_id(CHANGE_OUT, session, 4);
        put_id(CHANGE_IN_ID, session, 5);
        put_text(CHANGE_SUBSCRIBE, session, "t");
    }
    commit();
    put(CHANGE_SESSION_GONE, 1, 0);
    commit();
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        assert_int_equal(count(tables[i]), 1); /* that of the other one */
    }
}

static void what_is_replaced_is_there_once(void **unused)
{
    (void)unused;
    start_store();
    fill();
    commit();
    put_session(1, "alone");
    put_text(CHANGE_SUBSCRIBE, 2, "b/+")->qos = 0;
    put(CHANGE_RETAINED, 0, 0)->msg = message("r/1", "newer", 0, true, "other");
    put_text(CHANGE_WILL, 0, "both")->msg = message("w/2", "", 0, false, NULL);
    put_id(CHANGE_OUT, 2, 11);
    put(CHANGE_MARK, 2, 5);
    commit();
    assert_string_equal(stored(),
                        "session 1 alone by alone at 10.0.0.1\n"
                        "session 2 both by both user joe listener 1 TLSv1.3 cn cn subject CN=cn sha abcd at "
                        "10.0.0.1\n"
                        "subscription 1 a/# qos 1\n"
                        "subscription 2 b/+ qos 0\n"
                        "inbound 1 7\n"
                        "released 1 9\n"
                        "released 2 11\n"
                        "retained r/1=newer qos 0 retain by other at 10.0.0.1\n"
                        "delivery 3 to 1, 0 others, id 0 qos 1: a/b=one qos 1 retain by pub at 10.0.0.1\n"
                        "will of both w/2= qos 0 by the broker\n");
}

/* ---- who is owed what ---- */

static void a_mark_discharges_what_is_older_and_nothing_else(void **unused)
{
    (void)unused;
    start_store();
    put_session(1, "one");
    put_session(2, "two");
    for (uint64_t n = 10; n < 13; n++) {
        put_message(n, message("t", "x", 1, false, NULL), 1, 2, 0);
    }
    put(CHANGE_MARK, 1, 12);
    put(CHANGE_DONE, 2, 10);
    put(CHANGE_DONE, 2, 12);
    commit();
    assert_string_equal(stored(), "session 1 one by one at 10.0.0.1\n"
                                  "session 2 two by two at 10.0.0.1\n"
                                  "delivery 11 to 2, 0 others, id 0 qos 1: t=x qos 1 by the broker\n"
                                  "delivery 12 to 1, 0 others, id 0 qos 1: t=x qos 1 by the broker\n");
    assert_int_equal(count("message"), 2); /* 10 was owed to nobody */
    put(CHANGE_MARK, 2, 13);
    commit();
    assert_int_equal(count("done"), 0); /* passed by the mark */
    assert_string_equal(stored(), "session 1 one by one at 10.0.0.1\n"
                                  "session 2 two by two at 10.0.0.1\n"
                                  "delivery 12 to 1, 0 others, id 0 qos 1: t=x qos 1 by the broker\n");
}

static void a_session_that_is_new_again_keeps_its_mark(void **unused)
{
    (void)unused;
    start_store();
    put_session(1, "one");
    put_message(2, message("t", "x", 1, false, NULL), 1, 0);
    put(CHANGE_MARK, 1, 3);
    commit();
    put_text(CHANGE_SESSION, 1, "one")->who = somebody("other");
    commit();
    assert_string_equal(stored(), "session 1 one by other at 10.0.0.1\n");
}

static void an_id_whose_message_is_not_owed_any_more_is_released(void **unused)
{
    (void)unused;
    start_store();
    put_session(1, "one");
    for (uint64_t n = 2; n < 6; n++) {
        put_message(n, message("t", "x", 2, false, NULL), 1, 0);
        struct change *out = put(CHANGE_OUT, 1, n);
        out->id = (uint16_t)(n + 100);
        out->qos = 2;
    }
    put(CHANGE_MARK, 1, 3);
    put(CHANGE_DONE, 1, 4);
    put(CHANGE_MESSAGE_GONE, 0, 5);
    commit();
    assert_string_equal(stored(), "session 1 one by one at 10.0.0.1\n"
                                  "released 1 102\n"
                                  "released 1 104\n"
                                  "released 1 105\n"
                                  "delivery 3 to 1, 0 others, id 103 qos 2: t=x qos 2 by the broker\n");
}

static void a_message_to_many_comes_back_to_each(void **unused)
{
    enum { SESSIONS = 1000 };
    char id[16];
    (void)unused;
    start_store();
    for (uint64_t n = 1; n <= SESSIONS; n++) {
        snprintf(id, sizeof id, "%d", (int)n);
        put_text(CHANGE_SESSION, n * n * n, id)->who = NULL; /* numbers far apart */
    }
    struct change *change =
        put_message(SESSIONS * SESSIONS * SESSIONS + 1ull, message("t", "x", 1, false, NULL), 0);
    free(change->owed);
    change->owed = calloc(SESSIONS, sizeof *change->owed);
    change->count = SESSIONS;
    for (uint64_t n = 1; n <= SESSIONS; n++) { /* from the last to the first */
        change->owed[SESSIONS - n] = (struct recipient){.session = n * n * n, .qos = 1, .id = (uint16_t)n};
    }
    commit();
    put(CHANGE_SESSION_GONE, 8, 0);
    for (uint64_t n = 4; n <= SESSIONS; n++) {
        put(CHANGE_SESSION_GONE, n * n * n, 0);
    }
    commit();
    assert_string_equal(stored(),
                        "session 1 1 by the broker\n"
                        "session 27 3 by the broker\n"
                        "delivery 1000000001 to 27, 1 others, id 3 qos 1: t=x qos 1 by the broker\n"
                        "delivery 1000000001 to 1, 1 others, id 1 qos 1: t=x qos 1 by the broker\n");
}

static void what_belongs_to_nobody_is_removed_at_start(void **unused)
{
    (void)unused;
    start_store();
    put_message(2, message("t", "x", 1, false, "pub"), 1, 0); /* no such session */
    put(CHANGE_MARK, 1, 2);
    put(CHANGE_DONE, 1, 2);
    put_id(CHANGE_OUT, 1, 3);
    put_id(CHANGE_IN_ID, 1, 3);
    put_text(CHANGE_SUBSCRIBE, 1, "t");
    commit();
    assert_string_equal(stored(), "");
    assert_non_null(strstr(t.progress, "1 messages that are owed to nobody were removed"));
    static const char *const tables[] = {"message", "mark",         "done",  "out",
                                         "inbound", "subscription", "origin"};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        assert_int_equal(count(tables[i]), 0);
    }
}

/* ---- origins and numbers ---- */

static void an_origin_is_stored_once_and_goes_with_its_last_row(void **unused)
{
    (void)unused;
    start_store();
    put_session(1, "pub");
    put_message(2, message("t", "x", 1, false, "pub"), 1, 0);
    put_message(3, message("t", "x", 1, false, "pub"), 1, 0);
    put(CHANGE_RETAINED, 0, 0)->msg = message("r", "x", 1, true, "pub");
    put_text(CHANGE_WILL, 0, "pub")->msg = message("w", "x", 1, true, "pub");
    commit();
    assert_int_equal(count("origin"), 1);
    stored();
    put(CHANGE_MESSAGE_GONE, 0, 2);
    put(CHANGE_MESSAGE_GONE, 0, 3);
    put_text(CHANGE_WILL_GONE, 0, "pub");
    put(CHANGE_RETAINED, 0, 0)->msg = message("r", "y", 1, true, "pub"); /* replaced by the same one */
    commit();
    assert_int_equal(count("origin"), 1);
    put(CHANGE_SESSION_GONE, 1, 0);
    commit();
    assert_int_equal(count("origin"), 1);
    put(CHANGE_RETAINED, 0, 0)->msg = message("r", "", 1, true, "pub");
    commit();
    assert_int_equal(count("origin"), 0);
}

static void an_origin_of_a_batch_that_failed_is_stored_by_the_next(void **unused)
{
    (void)unused;
    start_store();
    put_session(1, "one");
    commit();
    sql("CREATE TRIGGER no BEFORE INSERT ON mark BEGIN SELECT RAISE(FAIL, 'not now'); END");
    put(CHANGE_SESSION_GONE, 1, 0);
    put_session(2, "two");
    put(CHANGE_MARK, 2, 1);
    assert_false(submit());
    assert_int_equal(t.error, STORAGE_ERROR);
    assert_non_null(strstr(t.why, "not now"));
    assert_int_equal(count("origin"), 1);
    sql("DROP TRIGGER no");
    commit();
    assert_int_equal(count("origin"), 1);
    assert_string_equal(stored(), "session 2 two by two at 10.0.0.1\n");
}

static void listeners_are_known_by_name(void **unused)
{
    struct principal *gone = somebody("gone"), *second = somebody("second");
    (void)unused;
    gone->listener = 0;
    second->listener = 1;
    start_store();
    put_text(CHANGE_SESSION, 1, "gone")->who = gone;
    put_text(CHANGE_SESSION, 2, "second")->who = second;
    commit();
    t.listeners[0] = "new";
    t.listeners[2] = t.listeners[1];
    t.listeners[1] = "other";
    t.listener_count = 3;
    assert_string_equal(stored(), "session 1 gone by gone listener -2 at 10.0.0.1\n"
                                  "session 2 second by second listener 2 at 10.0.0.1\n");
    gone = somebody("gone");
    gone->listener = LISTENER_GONE; /* as it was told */
    put_text(CHANGE_SESSION, 1, "gone")->who = gone;
    put(CHANGE_SESSION_GONE, 2, 0);
    commit();
    assert_string_equal(stored(), "session 1 gone by gone listener -2 at 10.0.0.1\n");
}

static void a_listener_may_get_another_address(void **unused)
{
    (void)unused;
    t.listeners[0] = "1883 *";
    t.listeners[1] = "8883 *";
    start_store();
    put_session(1, "one"); /* by the first */
    commit();
    t.listeners[0] = "188 *";
    t.listeners[1] = "1883 10.0.0.1 eth0";
    assert_string_equal(stored(), "session 1 one by one listener 1 at 10.0.0.1\n");
    t.listeners[0] = "1883 10.0.0.2";
    assert_string_equal(stored(), "session 1 one by one listener -2 at 10.0.0.1\n"); /* which one? */
    t.listeners[0] = "1883 *";
    assert_string_equal(stored(), "session 1 one by one at 10.0.0.1\n");
}

static void numbers_are_never_given_again(void **unused)
{
    (void)unused;
    start_store();
    uint64_t before = t.loaded_last;
    put_session(before + 7, "one");
    commit();
    put(CHANGE_SESSION_GONE, before + 7, 0);
    commit();
    assert_string_equal(stored(), "");
    assert_true(t.loaded_last >= before + 7);
    before = t.loaded_last;
    t.last = before + 1000000; /* many that were never written */
    put_id(CHANGE_OUT_DONE, 1, 1);
    commit();
    stored();
    assert_true(t.loaded_last >= before + 1000000);
    before = t.loaded_last;
    stored();
    assert_int_equal(t.loaded_last, before); /* starting alone uses none up */
    put_session(before + 3, "one");
    put_message(before + 5, message("t", "x", 1, false, NULL), (int)before + 3, 0);
    commit();
    sql("DELETE FROM meta"); /* not even then */
    stored();
    assert_int_equal(t.loaded_last, before + 5);
}

static void a_batch_that_comes_again_changes_nothing(void **unused)
{
    (void)unused;
    start_store();
    fill();
    assert_true(submit());
    assert_true(submit());
    commit();
    assert_int_equal(count("origin"), 4);
    assert_string_equal(stored(), filled);
    put_message(3, message("a/b", "two", 1, false, NULL), 1, 0); /* or with less of it */
    commit();
    put(CHANGE_SESSION_GONE, 2, 0);
    put(CHANGE_MESSAGE_GONE, 0, 4);
    commit();
    assert_string_equal(stored(), "session 1 alone by alone at 10.0.0.1\n"
                                  "subscription 1 a/# qos 1\n"
                                  "inbound 1 7\n"
                                  "released 1 9\n"
                                  "retained r/1=kept qos 1 retain by pub at 10.0.0.1\n"
                                  "delivery 3 to 1, 0 others, id 0 qos 1: a/b=two qos 1 by the broker\n"
                                  "will of both w/1=bye qos 2 retain by both at 10.0.0.1\n");
}

/* ---- failures ---- */

static void below_what_is_kept_free_only_removals_pass(void **unused)
{
    (void)unused;
    t.min_free = UINT64_MAX;
    start_store();
    put_session(1, "one");
    assert_false(submit());
    assert_int_equal(t.error, STORAGE_FULL);
    assert_non_null(strstr(t.why, t.path));
    assert_non_null(strstr(t.why, "persistence_min_free"));
    assert_int_equal(count("session"), 0);
    t.removals = true;
    assert_true(submit());
    assert_int_equal(count("session"), 1);
}

static void what_fits_in_freed_room_of_the_file_passes_with_half_of_it(void **unused)
{
    enum { BIG = 1000000 };
    char *big = malloc(BIG + 1);
    struct statvfs fs;
    (void)unused;
    memset(big, 'x', BIG);
    big[BIG] = 0;
    assert_int_equal(statvfs(t.dir, &fs), 0);
    t.min_free = (uint64_t)fs.f_bavail * fs.f_frsize / 2 * 3;
    start_store();
    t.removals = true; /* to get it filled */
    put_session(1, "one");
    put_message(2, message("t", big, 1, false, NULL), 1, 0);
    commit();
    t.removals = false;
    put_message(3, message("t", "x", 1, false, NULL), 1, 0);
    assert_false(submit());
    assert_int_equal(t.error, STORAGE_FULL);
    clear_changes();
    t.removals = true;
    put(CHANGE_MESSAGE_GONE, 0, 2);
    commit();
    t.removals = false;
    put_message(3, message("t", "x", 1, false, NULL), 1, 0);
    commit();
    put_message(4, message("t", big, 1, false, NULL), 1, 0); /* fits, but barely */
    assert_false(submit());
    assert_int_equal(t.error, STORAGE_FULL);
    free(big);
}

/* No file of this process may be longer: a disk that is full. */
static void file_limit(rlim_t bytes)
{
    struct rlimit limit = {bytes, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_full_disk_fails_batches_until_there_is_room(void **unused)
{
    enum { BIG = 300000 };
    char *big = malloc(BIG + 1);
    (void)unused;
    memset(big, 'x', BIG);
    big[BIG] = 0;
    start_store();
    put_session(1, "one");
    commit();
    file_limit(200000);
    put_message(2, message("t", big, 1, false, "pub"), 1, 0);
    for (int i = 0; i < 3; i++) {
        assert_false(submit());
        assert_int_equal(t.error, STORAGE_FULL);
        assert_non_null(strstr(t.why, t.path));
    }
    assert_int_equal(count("message"), 0);
    clear_changes();
    put_session(3, "small"); /* what fits goes on */
    commit();
    file_limit(RLIM_INFINITY);
    put_message(2, message("t", big, 1, false, "pub"), 1, 0);
    commit();
    assert_int_equal(count("message"), 1);
    free(big);
    close_store();
    assert_true(open_store());
}

/* Every write and sync of it would succeed. */
static void a_file_that_was_removed_takes_nothing(void **unused)
{
    char wal[160], aside[160];
    (void)unused;
    start_store();
    put_session(1, "one");
    commit();
    snprintf(wal, sizeof wal, "%s-wal", t.path);
    snprintf(aside, sizeof aside, "%s.aside", t.path);
    const char *const names[] = {t.path, wal};
    for (size_t i = 0; i < 2; i++) {
        clear_changes();
        put_session(2 + i, names[i]);
        assert_int_equal(rename(names[i], aside), 0);
        assert_false(submit());
        assert_int_equal(t.error, STORAGE_ERROR);
        assert_non_null(strstr(t.why, names[i]));
        assert_non_null(strstr(t.why, "No such file"));
        assert_int_equal(rename(aside, names[i]), 0);
        commit();
    }
    assert_int_equal(count("session"), 3);
    assert_int_equal(unlink(wal), 0);
    close_store(); /* what was in it is in the file */
    assert_int_equal(count("session"), 3);
}

static void a_file_that_was_replaced_is_not_written_to(void **unused)
{
    char aside[160];
    (void)unused;
    start_store();
    put_session(1, "one");
    commit();
    file_limit(1); /* every write fails: the connection is not trusted any more */
    put_session(2, "two");
    assert_false(submit());
    file_limit(RLIM_INFINITY);
    snprintf(aside, sizeof aside, "%s.aside", t.path);
    assert_int_equal(rename(t.path, aside), 0);
    assert_false(submit());
    assert_int_equal(t.error, STORAGE_ERROR);
    assert_non_null(strstr(t.why, "No such file"));
    assert_int_equal(close(open(t.path, O_CREAT | O_WRONLY, 0600)), 0);
    assert_false(submit());
    assert_non_null(strstr(t.why, "another file"));
    assert_int_equal(rename(aside, t.path), 0);
    commit();
    assert_string_equal(stored(), "session 1 one by one at 10.0.0.1\nsession 2 two by two at 10.0.0.1\n");
}

static void the_wal_is_written_back_and_stays_short(void **unused)
{
    char wal[160], payload[4000];
    struct stat st;
    (void)unused;
    memset(payload, 'x', sizeof payload - 1);
    payload[sizeof payload - 1] = 0;
    start_store();
    put_session(1, "one");
    commit();
    for (uint64_t n = 1; n < 100; n++) {
        for (uint64_t i = 0; i < 40; i++) {
            put_message(40 * n + i, message("t", payload, 1, false, "pub"), 1, 0);
        }
        commit();
    }
    snprintf(wal, sizeof wal, "%s-wal", t.path);
    assert_int_equal(stat(wal, &st), 0);
    assert_true(st.st_size < 6 * 1024 * 1024);
    struct storage_figures figures = storage_figures(t.storage);
    assert_int_equal(figures.commits, 100);
    assert_true(figures.file_bytes > 10 * 1024 * 1024 && figures.wal_bytes < 6 * 1024 * 1024);
    assert_in_range(figures.syncs, 100, 150);
    assert_in_range(figures.bytes_written, 28000000, 40000000); /* each page twice, about */
    close_store();
    assert_int_equal(stat(wal, &st), -1); /* an orderly end leaves one file */
}

static void somebody_who_reads_on_delays_the_write_back_and_nothing_else(void **unused)
{
    char wal[160], payload[4000];
    struct stat st;
    sqlite3 *db;
    (void)unused;
    memset(payload, 'x', sizeof payload - 1);
    payload[sizeof payload - 1] = 0;
    snprintf(wal, sizeof wal, "%s-wal", t.path);
    start_store();
    put_session(1, "one");
    commit();
    assert_int_equal(sqlite3_open(t.path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN; SELECT * FROM session", NULL, NULL, NULL), SQLITE_OK);
    for (uint64_t n = 1; n < 130; n++) {
        for (uint64_t i = 0; i < 40; i++) {
            put_message(40 * n + i, message("t", payload, 1, false, "pub"), 1, 0);
        }
        commit();
        if (n == 100) { /* it stays long, and that costs no sync for each commit */
            assert_int_equal(stat(wal, &st), 0);
            assert_true(st.st_size > 16 * 1024 * 1024);
            assert_true(storage_figures(t.storage).syncs < storage_figures(t.storage).commits + 20);
            sqlite3_close(db);
        }
    }
    assert_int_equal(stat(wal, &st), 0);
    assert_true(st.st_size < 6 * 1024 * 1024);
}

static void nothing_waits_for_a_result_that_is_not_taken(void **unused)
{
    struct batch batch = {.number = 1, .last = 1};
    struct pollfd pfd = {.fd = t.woken, .events = POLLIN};
    (void)unused;
    start_store();
    t.storage->submit(t.storage, &batch);
    assert_int_equal(poll(&pfd, 1, 60000), 1);
    close_store();
    mailbox_drain(t.mailbox); /* nobody is told, nothing leaks */
    assert_int_equal(t.committed + t.failed, 0);
}

/* ---- a sync that fails: SQLite's calls to the system, with one of them replaced ---- */

/* What was written and synced, in order: w, s the file, W, S the -wal. */
static struct {
    sqlite3_vfs vfs;
    sqlite3_io_methods methods[2]; /* of the file, of the -wal */
    const sqlite3_io_methods *real[2];
    bool fail_sync, fail_sync_of_file;
    bool written[100000]; /* which pages of the file */
    char log[8192];
    size_t n;
} shim;

static void note(char letter)
{
    if (shim.n + 1 < sizeof shim.log && (shim.n == 0 || shim.log[shim.n - 1] != letter)) {
        shim.log[shim.n++] = letter;
        shim.log[shim.n] = 0;
    }
}

static int write_file_shim(sqlite3_file *file, const void *bytes, int n, sqlite3_int64 at)
{
    note('w');
    shim.written[at / n % (int)sizeof shim.written] = true;
    return shim.real[0]->xWrite(file, bytes, n, at);
}

static int write_wal_shim(sqlite3_file *file, const void *bytes, int n, sqlite3_int64 at)
{
    note('W');
    return shim.real[1]->xWrite(file, bytes, n, at);
}

static int sync_file_shim(sqlite3_file *file, int flags)
{
    note('s');
    return shim.fail_sync || shim.fail_sync_of_file ? SQLITE_IOERR_FSYNC : shim.real[0]->xSync(file, flags);
}

static int sync_wal_shim(sqlite3_file *file, int flags)
{
    note('S');
    return shim.fail_sync ? SQLITE_IOERR_FSYNC : shim.real[1]->xSync(file, flags);
}

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    (void)vfs;
    int rc = sqlite3_vfs_find("unix")->xOpen(sqlite3_vfs_find("unix"), name, file, flags, out);
    bool wal = flags & SQLITE_OPEN_WAL;
    if (rc == SQLITE_OK && (wal || (flags & SQLITE_OPEN_MAIN_DB))) {
        shim.real[wal] = file->pMethods;
        shim.methods[wal] = *file->pMethods;
        shim.methods[wal].xWrite = wal ? write_wal_shim : write_file_shim;
        shim.methods[wal].xSync = wal ? sync_wal_shim : sync_file_shim;
        file->pMethods = &shim.methods[wal];
    }
    return rc;
}

static int setup_shim(void **unused)
{
    memset(&shim, 0, sizeof shim);
    shim.vfs = *sqlite3_vfs_find("unix");
    shim.vfs.zName = "shim";
    shim.vfs.xOpen = shim_open;
    assert_int_equal(sqlite3_vfs_register(&shim.vfs, 1), SQLITE_OK);
    return setup(unused);
}

static int teardown_shim(void **unused)
{
    int rc = teardown(unused);
    sqlite3_vfs_unregister(&shim.vfs);
    return rc;
}

/* The files as they are, as if the process had died: those are looked at from now on. */
static void take_a_copy(void)
{
    char command[512];
    snprintf(command, sizeof command, "mkdir %s/copy && cp %s %s-wal %s/copy", t.dir, t.path, t.path, t.dir);
    assert_int_equal(system(command), 0);
    close_store();
    snprintf(t.path, sizeof t.path, "%s/copy/bramble.db", t.dir);
}

static void go_on_with_a_copy(void)
{
    take_a_copy();
    start_store();
}

static void each_commit_is_one_sync_of_the_wal(void **unused)
{
    (void)unused;
    start_store();
    put_session(1, "one");
    commit();
    shim.n = 0;
    put_session(2, "two");
    commit();
    assert_string_equal(shim.log, "WS");
    shim.n = 0;
    shim.log[0] = 0;
    put(CHANGE_VOID, 0, 0); /* nothing to write */
    commit();
    assert_string_equal(shim.log, "");
    t.sync = STORAGE_SYNC_NORMAL;
    stored();
    put_session(3, "three");
    commit();
    shim.n = 0;
    put_session(4, "four");
    commit();
    assert_string_equal(shim.log, "W");
}

static void after_a_failed_sync_nothing_is_committed_before_all_is_on_disk(void **unused)
{
    (void)unused;
    start_store();
    put_session(1, "one");
    commit();
    shim.fail_sync = true;
    put_session(2, "two");
    assert_false(submit());
    assert_int_equal(t.error, STORAGE_ERROR);
    assert_int_equal(count("session"), 1);
    assert_false(submit());
    assert_int_equal(count("session"), 1);
    clear_changes();
    shim.fail_sync = false;
    shim.n = 0;
    put_session(3, "three");
    commit();
    assert_non_null(strchr(shim.log, 'w'));
    assert_true(strstr(shim.log, "ws") && strstr(shim.log, "ws") < strchr(shim.log, 'W'));
    go_on_with_a_copy();
    assert_string_equal(t.text, "session 1 one by one at 10.0.0.1\nsession 3 three by three at 10.0.0.1\n");
}

static bool fetch(uint64_t session, uint32_t n, uint64_t *numbers);

/* Commits large messages, most of them at most, until one fails. How many. */
static size_t commit_many(uint64_t from, size_t most)
{
    static char payload[40000];
    memset(payload, 'x', sizeof payload - 1);
    size_t n = 0;
    for (bool committed = true; committed && n < most; n += committed) {
        put_message(from + n, message("t", payload, 1, false, NULL), 1, 0);
        committed = submit();
        clear_changes();
    }
    return n;
}

static int root_of(const char *table)
{
    char what[128];
    snprintf(what, sizeof what, "(SELECT rootpage FROM sqlite_schema WHERE name='%s')", table);
    return value_of("rootpage", what);
}

/* What was written back before, while somebody read and so without a sync, is written again. */
static void after_a_failed_write_back_all_of_it_is_done_again(void **unused)
{
    sqlite3 *db;
    (void)unused;
    start_store();
    put_session(1, "one");
    commit();
    assert_int_equal(sqlite3_open(t.path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN; SELECT * FROM session", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(commit_many(1000, 120), 120);
    fetch(1, 1, (uint64_t[]){999}); /* the reader has the index open, too */
    int root = root_of("session") - 1;
    assert_true(shim.written[root]);
    sqlite3_close(db);
    memset(shim.written, 0, sizeof shim.written);
    shim.fail_sync_of_file = true;
    assert_true(commit_many(5000, 5000) <
                5000); /* the write back has failed, and each time that it was tried */
    put_session(2, "two");
    assert_false(submit());
    shim.fail_sync_of_file = false;
    commit();
    assert_true(shim.written[root]);
    assert_int_equal(count("session"), 2);
    assert_true(fetch(1, 1, (uint64_t[]){999}));
}

static void what_failed_and_comes_back_is_whole_and_may_come_again(void **unused)
{
    (void)unused;
    start_store();
    shim.fail_sync = true;
    fill();
    assert_false(submit());
    go_on_with_a_copy(); /* closing fails to sync, too */
    shim.fail_sync = false;
    assert_true(strcmp(t.text, "") == 0 || strcmp(t.text, filled) == 0);
    commit();
    assert_string_equal(stored(), filled);
}

/* ---- files that are not ours ---- */

static char before[4096], after[4096], wal_before[4096];

static size_t read_file(const char *path, char *out)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t n = read(fd, out, 4096);
    close(fd);
    return (size_t)n;
}

/* It is refused, for a reason that has these words in it, and was not touched. */
static void is_left_alone(const char *words)
{
    size_t n = read_file(t.path, before);
    assert_false(open_store());
    if (!strstr(t.err.text, words) || !strstr(t.err.text, t.path)) {
        fail_msg("\"%s\" is not in: %s", words, t.err.text);
    }
    assert_int_equal(read_file(t.path, after), n);
    assert_memory_equal(before, after, n);
}

static void write_file(const void *bytes, size_t n)
{
    int fd = open(t.path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
}

static void a_store_of_mosquitto_is_left_alone(void **unused)
{
    static const char bytes[] = "\x00\xb5\x00mosquitto db\x00\x00\x00\x06 and more";
    (void)unused;
    write_file(bytes, sizeof bytes);
    is_left_alone("not imported");
}

static void other_files_are_left_alone(void **unused)
{
    char text[200];
    (void)unused;
    write_file("x", 1);
    is_left_alone("not a store of bramble");
    memset(text, 'y', sizeof text);
    write_file(text, sizeof text);
    is_left_alone("not a store of bramble");
    unlink(t.path);
    sql("CREATE TABLE mine(x)");
    is_left_alone("another program");
    unlink(t.path);
    start_store();
    close_store();
    sql("PRAGMA user_version=2");
    is_left_alone("newer bramble");
}

static void a_wal_without_its_file_is_not_taken_for_nothing(void **unused)
{
    char wal[160];
    (void)unused;
    snprintf(wal, sizeof wal, "%s-wal", t.path);
    assert_int_equal(close(open(wal, O_CREAT | O_WRONLY, 0600)), 0);
    assert_int_equal(truncate(wal, 5000), 0);
    assert_false(open_store());
    assert_non_null(strstr(t.err.text, "without"));
    struct stat st;
    assert_int_equal(stat(wal, &st), 0);
    assert_int_equal(st.st_size, 5000);
    assert_int_equal(truncate(wal, 0), 0);
    assert_true(open_store());
}

static void places_where_no_file_can_be_say_so(void **unused)
{
    (void)unused;
    char path[128];
    strcpy(path, t.path);
    snprintf(t.path, sizeof t.path, "%s/none/bramble.db", t.dir);
    assert_false(open_store());
    assert_non_null(strstr(t.err.text, "directory that exists"));
    strcpy(t.path, t.dir);
    assert_false(open_store());
    strcpy(t.path, path);
    assert_int_equal(symlink(t.path, t.path), 0);
    assert_false(open_store());
    assert_non_null(strstr(t.err.text, "symbolic link"));
    unlink(t.path);
    assert_int_equal(mkfifo(t.path, 0600), 0);
    assert_false(open_store());
    assert_non_null(strstr(t.err.text, "not a regular file"));
}

static void without_permission_it_says_whose(void **unused)
{
    (void)unused;
    start_store();
    close_store();
    assert_int_equal(chmod(t.dir, 0555), 0);
    assert_int_equal(chmod(t.path, 0444), 0);
    if (geteuid() == 0) {
        assert_int_equal(seteuid(65534), 0);
    }
    bool opened = open_store();
    strcat(t.path, "2");
    bool made = open_store();
    if (getuid() == 0) {
        assert_int_equal(seteuid(0), 0);
    }
    assert_false(opened || made);
    assert_non_null(strstr(t.err.text, "must be allowed"));
}

static void an_empty_file_is_a_new_one(void **unused)
{
    (void)unused;
    write_file("", 0);
    start_store();
    put_session(1, "one");
    commit();
    assert_string_equal(stored(), "session 1 one by one at 10.0.0.1\n");
}

static void what_an_interrupted_start_left_is_made_anew(void **unused)
{
    char left[160];
    (void)unused;
    snprintf(left, sizeof left, "%s.new", t.path);
    assert_int_equal(close(open(left, O_CREAT | O_WRONLY, 0600)), 0);
    assert_int_equal(truncate(left, 3000), 0);
    start_store();
    assert_int_equal(access(left, F_OK), -1);
}

static void a_second_daemon_is_refused_and_a_reader_is_not(void **unused)
{
    (void)unused;
    start_store();
    put_session(1, "one");
    commit();
    struct storage *first = t.storage;
    assert_false(open_store());
    assert_non_null(strstr(t.err.text, "in use by another bramble"));
    assert_int_equal(count("session"), 1);
    t.storage = first;
    put_session(2, "two"); /* the refused one has taken no lock of ours along */
    commit();
    assert_int_equal(count("session"), 2);
    assert_false(open_store());
    t.storage = first;
    close_store();
    assert_true(open_store());
}

/* An older version: here none at all, which is what the first step starts from. */
static void an_older_version_is_brought_up_to_date_behind_a_copy(void **unused)
{
    char aside[160];
    (void)unused;
    sql("PRAGMA application_id=0x6272616d; CREATE TABLE older(x); PRAGMA journal_mode=WAL");
    start_store();
    put_session(1, "one");
    commit();
    assert_string_equal(stored(), "session 1 one by one at 10.0.0.1\n");
    assert_int_equal(count("older"), 0);
    close_store();
    snprintf(aside, sizeof aside, "%s.version-0", t.path);
    assert_int_equal(rename(aside, t.path), 0);
    assert_int_equal(count("sqlite_schema"), 1);
}

static void a_version_that_cannot_be_brought_up_to_date_is_refused_with_the_reason(void **unused)
{
    (void)unused;
    sql("PRAGMA application_id=0x6272616d; CREATE TABLE mark(x)");
    for (int i = 0; i < 2; i++) {
        assert_false(open_store());
        assert_non_null(strstr(t.err.text, "table mark already exists"));
    }
    assert_int_equal(count("mark"), 0);
}

/* ---- damage ---- */

static int page_size(void)
{
    char header[4096];
    read_file(t.path, header);
    return (uint8_t)header[16] << 8 | (uint8_t)header[17];
}

static void a_row_that_has_changed_stops_the_start_and_is_named(void **unused)
{
    static const char *const harms[][2] = {
        {"meta SET value=value+1", "table meta, key \"reserved\""},
        {"origin SET user='root' WHERE client_id='both' AND user IS NOT NULL", "table origin, number 2"},
        {"session SET client_id='other' WHERE number=1", "table session, number 1"},
        {"mark SET number=3", "table mark, session 2"},
        {"done SET number=4", "table done, session 1, number 4"},
        {"out SET id=10 WHERE session=1", "table out, session 1, id 10"},
        {"inbound SET id=8", "table inbound, session 1, id 8"},
        {"subscription SET filter='#' WHERE session=1", "table subscription, session 1, filter \"#\""},
        {"subscription SET options=2 WHERE session=1", "table subscription, session 1, filter \"a/#\""},
        {"retained SET payload=CAST('kepT' AS BLOB)", "table retained, topic \"r/1\""},
        {"message SET payload=x'00' WHERE number=3", "table message, number 3"},
        {"message SET payload=NULL WHERE number=4", "table message, number 4"},
        {"message SET owed=x'0201' WHERE number=3", "table message, number 3"},
        {"message SET number=5 WHERE number=4", "table message, number 5"},
        {"message SET sum=NULL WHERE number=4", "table message, number 4"},
        {"will SET topic=topic||'x'", "table will, client_id \"both\""},
    };
    char aside[160], command[512];
    (void)unused;
    start_store();
    fill();
    put(CHANGE_MARK, 2, 2);
    put(CHANGE_DONE, 1, 3);
    commit();
    close_store();
    snprintf(aside, sizeof aside, "%s.aside", t.path);
    snprintf(command, sizeof command, "cp %s %s", t.path, aside);
    assert_int_equal(system(command), 0);
    for (size_t i = 0; i < sizeof harms / sizeof *harms; i++) {
        snprintf(command, sizeof command, "cp %s %s", aside, t.path);
        assert_int_equal(system(command), 0);
        sql("UPDATE %s", harms[i][0]);
        size_t n = read_file(t.path, before);
        assert_true(open_store());
        assert_int_equal(load_store(), -1);
        close_store();
        if (!strstr(t.err.text, harms[i][1])) {
            fail_msg("UPDATE %s: %s", harms[i][0], t.err.text);
        }
        assert_int_equal(read_file(t.path, after), n);
        assert_memory_equal(before, after, n);
    }
}

static void a_missing_origin_stops_the_start(void **unused)
{
    (void)unused;
    start_store();
    fill();
    commit();
    close_store();
    sql("DELETE FROM origin WHERE client_id='pub'");
    assert_true(open_store());
    assert_int_equal(load_store(), -1);
    assert_non_null(strstr(t.err.text, "origin"));
    assert_non_null(strstr(t.err.text, "table retained, topic \"r/1\""));
}

/* The head of the third one. */
static void harm_a_page(void)
{
    int fd = open(t.path, O_WRONLY);
    assert_int_equal(pwrite(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, 2 * page_size()), 8);
    close(fd);
}

static void damaged_pages_stop_the_start(void **unused)
{
    (void)unused;
    start_store();
    fill();
    commit();
    close_store();
    harm_a_page();
    assert_false(open_store());
    assert_non_null(strstr(t.err.text, "damaged"));
    assert_non_null(strstr(t.err.text, "bramble store check"));
}

static void what_was_refused_is_not_written_back(void **unused)
{
    char wal[160];
    (void)unused;
    start_store();
    fill();
    commit();
    sql("UPDATE session SET client_id='other' WHERE number=1"); /* in the -wal */
    take_a_copy();
    snprintf(wal, sizeof wal, "%s-wal", t.path);
    size_t n = read_file(t.path, before), wal_n = read_file(wal, wal_before);
    assert_true(wal_n > 1000);
    assert_true(open_store());
    assert_int_equal(load_store(), -1);
    close_store();
    assert_int_equal(read_file(t.path, after), n);
    assert_memory_equal(before, after, n);
    assert_int_equal(read_file(wal, after), wal_n);
    assert_memory_equal(wal_before, after, wal_n);
}

/* ---- fetching ---- */

static bool fetched;

static void on_fetched(struct mail *mail)
{
    (void)mail;
    fetched = true;
}

/* Asks for these and writes down what came. */
static bool fetch(uint64_t session, uint32_t n, uint64_t *numbers)
{
    struct fetch fetch = {.mail = {NULL, on_fetched}, .session = session, .count = n, .numbers = numbers};
    t.text_n = 0;
    t.text[0] = 0;
    fetched = false;
    t.storage->fetch(t.storage, &fetch);
    while (!fetched) {
        drain();
    }
    for (uint32_t i = 0; !fetch.failed && i < n; i++) {
        if (fetch.rows[i].message) {
            on_delivery(NULL, &fetch.rows[i]);
        } else {
            say("nothing\n");
        }
    }
    t.storage->rows_free(t.storage, &fetch);
    assert_null(fetch.rows);
    return !fetch.failed;
}

static void messages_are_fetched_in_the_order_asked_for(void **unused)
{
    (void)unused;
    start_store();
    fill();
    put_message(20, message("t", "x", 1, false, "both"), 1, 0);
    put_message(21, message("u", "y", 1, false, "both"), 1, 0);
    commit();
    assert_true(fetch(1, 5, (uint64_t[]){3, 4, 5, 20, 21}));
    assert_string_equal(t.text,
                        "delivery 3 to 1, 0 others, id 0 qos 1: a/b=one qos 1 retain by pub at 10.0.0.1\n"
                        "nothing\n" /* not owed to it */
                        "nothing\n" /* there is none */
                        "delivery 20 to 1, 0 others, id 0 qos 1: t=x qos 1 by both at 10.0.0.1\n"
                        "delivery 21 to 1, 0 others, id 0 qos 1: u=y qos 1 by both at 10.0.0.1\n");
    assert_true(fetch(2, 2, (uint64_t[]){3, 4}));
    assert_string_equal(
        t.text, "delivery 3 to 2, 0 others, id 300 qos 1 retain: a/b=one qos 1 retain by pub at 10.0.0.1\n"
                "delivery 4 to 2, 0 others, id 11 qos 2: a/c= qos 2 by the broker\n");
    assert_true(fetch(2, 0, NULL));
}

static void a_damaged_message_is_not_fetched_and_the_others_are(void **unused)
{
    (void)unused;
    start_store();
    put_session(1, "one");
    for (uint64_t n = 2; n < 6; n++) {
        put_message(n, message("t", "x", 1, false, n == 5 ? "bad" : "good"), 1, 0);
    }
    commit();
    sql("UPDATE message SET payload='y' WHERE number=3; UPDATE origin SET user='root' WHERE client_id='bad'");
    assert_true(fetch(1, 4, (uint64_t[]){2, 3, 4, 5}));
    assert_string_equal(t.text, "delivery 2 to 1, 0 others, id 0 qos 1: t=x qos 1 by good at 10.0.0.1\n"
                                "nothing\n"
                                "delivery 4 to 1, 0 others, id 0 qos 1: t=x qos 1 by good at 10.0.0.1\n"
                                "nothing\n");
}

static void a_fetch_fails_when_there_is_no_file_and_goes_on_when_there_is(void **unused)
{
    char aside[160];
    (void)unused;
    start_store();
    put_session(1, "one");
    put_message(2, message("t", "x", 1, false, NULL), 1, 0);
    commit();
    snprintf(aside, sizeof aside, "%s.aside", t.path);
    assert_int_equal(rename(t.path, aside), 0);
    assert_false(fetch(1, 1, (uint64_t[]){2}));
    assert_int_equal(rename(aside, t.path), 0);
    assert_true(fetch(1, 1, (uint64_t[]){2}));
    assert_string_equal(t.text, "delivery 2 to 1, 0 others, id 0 qos 1: t=x qos 1 by the broker\n");
}

/* An answer with large messages ends early; the rest is asked for later. */
static void large_messages_are_fetched(void **unused)
{
    enum { SIZE = 200000 };
    char *payload = malloc(SIZE + 1);
    struct fetch fetch = {
        .mail = {NULL, on_fetched}, .session = 1, .count = 3, .numbers = (uint64_t[]){2, 3, 4}};
    (void)unused;
    start_store();
    put_session(1, "one");
    for (int n = 2; n < 5; n++) {
        memset(payload, 'a' + n, SIZE);
        payload[SIZE] = 0;
        put_message((uint64_t)n, message("t", payload, 1, false, "pub"), 1, 0);
    }
    commit();
    fetched = false;
    t.storage->fetch(t.storage, &fetch);
    while (!fetched) {
        drain();
    }
    assert_false(fetch.failed);
    assert_int_equal(fetch.count, 2);
    for (uint32_t i = 0; i < fetch.count; i++) {
        const struct stored_message *got = fetch.rows[i].message;
        memset(payload, 'a' + 2 + (int)i, SIZE);
        assert_int_equal(got->payload.n, SIZE);
        assert_memory_equal(got->payload.p, payload, SIZE);
        assert_string_equal(got->origin.client_id, "pub");
        assert_string_equal(got->origin.address, "10.0.0.1");
    }
    t.storage->rows_free(t.storage, &fetch);
    free(payload);
}

/* ---- memory that runs out ---- */

/* Whatever is missing: an error, or all went well, and afterwards all goes well. SQLite has its own memory.
 */
static void without_memory_it_does_not_start_and_forgets_nothing(void **unused)
{
    int n = 0;
    (void)unused;
    start_store();
    fill();
    commit();
    close_store();
    for (int failed = 1; failed; n++) {
        memory_fails(n, 1);
        bool started = open_store() && load_store() == 0 && storage_start(t.storage, &t.err) == 0;
        failed = memory_calm();
        assert_true(!started || strcmp(t.text, filled) == 0);
        assert_true(started || t.err.text[0]);
        close_store();
    }
    assert_true(n > 10);
    start_store();
    assert_string_equal(t.text, filled);
}

static void without_memory_a_batch_fails_and_comes_again(void **unused)
{
    int n = 0;
    (void)unused;
    start_store();
    for (int failed = 1; failed; n++) {
        put_message(100 + (uint64_t)n, message("t", "x", 1, false, "pub"), 1, 0)->count = 0;
        put(CHANGE_MESSAGE_GONE, 0, 100 + (uint64_t)n);
        fill();
        struct change *many = put_message(5, message("t", "x", 1, false, "pub"), 1, 0);
        free(many->owed);
        many->owed = calloc(100, sizeof *many->owed);
        many->count = 100;
        memory_fails(n, 1);
        bool committed = submit();
        failed = memory_calm();
        assert_true(committed || strstr(t.why, "no memory"));
        clear_changes();
        put(CHANGE_SESSION_GONE, 1, 0);
        put(CHANGE_SESSION_GONE, 2, 0);
        for (uint64_t gone = 3; gone < 6; gone++) {
            put(CHANGE_MESSAGE_GONE, 0, gone);
        }
        put(CHANGE_RETAINED, 0, 0)->msg = message("r/1", "", 1, true, "pub");
        put_text(CHANGE_WILL_GONE, 0, "both");
        commit();
        assert_int_equal(count("origin"), 0);
    }
    assert_true(n > 5);
}

static void without_memory_a_fetch_fails_and_comes_again(void **unused)
{
    int n = 0;
    (void)unused;
    start_store();
    fill();
    commit();
    for (int failed = 1; failed; n++) {
        memory_fails(n, 1);
        bool answered = fetch(1, 1, (uint64_t[]){3});
        failed = memory_calm();
        assert_true(answered || failed);
        assert_true(fetch(1, 1, (uint64_t[]){3}));
        assert_non_null(strstr(t.text, "delivery 3 to 1"));
    }
    assert_true(n > 1);
}

/* ---- the tools ---- */

static char said[65536], complained[4096];

/* What a tool says, and its status. */
static int run_tool(int (*tool)(const char *path, FILE *out, FILE *err))
{
    FILE *out = fmemopen(said, sizeof said, "w"), *err = fmemopen(complained, sizeof complained, "w");
    said[0] = complained[0] = 0;
    int rc = tool(t.path, out, err);
    fclose(out);
    fclose(err);
    return rc;
}

static void said_is(const char *words)
{
    if (!strstr(said, words)) {
        fail_msg("\"%s\" is not in:\n%s\n%s", words, said, complained);
    }
}

static void make_filled(void)
{
    start_store();
    fill();
    put(CHANGE_MARK, 2, 2);
    put(CHANGE_DONE, 1, 3);
    commit();
    close_store();
}

static void check_says_that_a_store_is_whole_and_changes_nothing(void **unused)
{
    char wal[160];
    (void)unused;
    make_filled();
    size_t n = read_file(t.path, before);
    assert_int_equal(run_tool(storage_check), 0);
    said_is("message      2 rows");
    said_is("bramble.db: whole\n");
    assert_int_equal(read_file(t.path, after), n);
    assert_memory_equal(before, after, n);
    snprintf(wal, sizeof wal, "%s-wal", t.path);
    assert_int_equal(access(wal, F_OK), -1);
}

static void check_finds_what_is_damaged(void **unused)
{
    (void)unused;
    make_filled();
    sql("UPDATE message SET payload='x' WHERE number=3; UPDATE retained SET origin=99;"
        "UPDATE session SET client_id='both';");
    assert_int_equal(run_tool(storage_check), 1);
    said_is("table message, number 3: its checksum is wrong");
    said_is("table retained, topic \"r/1\": its checksum is wrong");
    said_is("1 retained messages name an origin that is missing");
    said_is("1 client ids have more than one session");
    said_is("DAMAGED, 5 places");
}

static void check_remarks_what_the_next_start_puts_in_order(void **unused)
{
    (void)unused;
    make_filled();
    sql("DELETE FROM session WHERE number=2; DELETE FROM message WHERE number=4");
    assert_int_equal(run_tool(storage_check), 0);
    said_is("remark: 1 deliveries are to sessions that are gone");
    said_is("remark: 1 subscriptions are of sessions that are gone");
    said_is("remark: 1 marks are of sessions that are gone");
    said_is("remark: 1 outgoing packet ids are of messages that are gone");
    said_is("whole; what is remarked");
    stored();
    close_store();
    assert_int_equal(run_tool(storage_check), 0);
    assert_null(strstr(said, "remark"));
}

static void check_finds_damaged_pages(void **unused)
{
    (void)unused;
    make_filled();
    harm_a_page();
    assert_int_equal(run_tool(storage_check), 1);
    said_is("DAMAGED");
}

static void a_damaged_wal_is_refused_and_checked(void **unused)
{
    char wal[160];
    (void)unused;
    start_store();
    for (uint64_t n = 2; n < 12; n++) {
        put_session(n, "one");
        commit();
    }
    take_a_copy();
    snprintf(wal, sizeof wal, "%s-wal", t.path);
    int fd = open(wal, O_RDWR);
    char byte;
    assert_int_equal(pread(fd, &byte, 1, 3000), 1);
    byte = (char)~byte;
    assert_int_equal(pwrite(fd, &byte, 1, 3000), 1);
    close(fd);
    assert_int_equal(run_tool(storage_check), 1);
    said_is("bramble.db-wal: damaged at byte");
    assert_false(open_store());
    assert_non_null(strstr(t.err.text, "bramble.db-wal: damaged at byte"));
    t.sync = STORAGE_SYNC_NORMAL; /* the way out: without what is behind it */
    start_store();
}

static void dump_writes_everything(void **unused)
{
    (void)unused;
    make_filled();
    assert_int_equal(run_tool(storage_dump), 0);
    said_is("{\"table\":\"session\",\"number\":1,\"client_id\":\"alone\",\"origin\":1,\"level\":4");
    said_is(
        "{\"table\":\"message\",\"number\":3,\"topic\":\"a/b\",\"payload\":\"one\",\"flags\":5,\"origin\":3,"
        "\"owed\":[{\"session\":1,\"qos\":1},{\"session\":2,\"qos\":1,\"retain\":true,\"id\":300}]}\n");
    said_is("{\"table\":\"out\",\"session\":2,\"id\":11,\"qos\":2,\"number\":4}\n");
    sql("UPDATE will SET payload=x'00ff'");
    assert_int_equal(run_tool(storage_dump), 1);
    said_is("\"payload_hex\":\"00ff\"");
    said_is(",\"damaged\":true}\n");
}

static void vacuum_gives_room_back(void **unused)
{
    struct stat full, empty;
    (void)unused;
    start_store();
    put_session(1, "one");
    for (uint64_t n = 2; n < 2000; n++) {
        put_message(n, message("t", "x", 1, false, NULL), 1, 0);
    }
    commit();
    for (uint64_t n = 2; n < 1990; n++) {
        put(CHANGE_MESSAGE_GONE, 0, n);
    }
    commit();
    close_store();
    assert_int_equal(stat(t.path, &full), 0);
    assert_int_equal(run_tool(storage_vacuum), 0);
    assert_int_equal(stat(t.path, &empty), 0);
    assert_true(empty.st_size < full.st_size);
    assert_int_equal(run_tool(storage_check), 0);
    sql("UPDATE session SET origin=0");
    assert_int_equal(run_tool(storage_vacuum), 1);
}

static void tools_tell_what_is_not_a_store(void **unused)
{
    (void)unused;
    assert_int_equal(run_tool(storage_check), 2);
    assert_int_equal(run_tool(storage_dump), 2);
    assert_int_equal(run_tool(storage_vacuum), 2);
    assert_int_equal(access(t.path, F_OK), -1); /* nothing was made */
    write_file("hello", 5);
    assert_int_equal(run_tool(storage_check), 2);
    assert_non_null(strstr(complained, "not a store of bramble"));
}

/* By a child: a descriptor of the file that is closed here would drop the locks of the store that is open. */
static void tools_beside_a_daemon(void **unused)
{
    (void)unused;
    int status;
    start_store();
    fill();
    commit();
    pid_t child = fork();
    if (child == 0) {
        int checked = run_tool(storage_check);
        bool right =
            checked == 0 && strstr(said, "in use by a running bramble") && strstr(said, "message      2");
        right &= run_tool(storage_vacuum) == 2 && strstr(complained, "in use");
        _exit(right ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    put_session(30, "more");
    commit();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_new_store_is_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(each_kind_of_change_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(each_kind_goes_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_session_takes_what_is_its_own_along, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_replaced_is_there_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_mark_discharges_what_is_older_and_nothing_else, setup, teardown),
        cmocka_unit_test_setup_teardown(a_session_that_is_new_again_keeps_its_mark, setup, teardown),
        cmocka_unit_test_setup_teardown(an_id_whose_message_is_not_owed_any_more_is_released, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_message_to_many_comes_back_to_each, setup, teardown),
        cmocka_unit_test_setup_teardown(what_belongs_to_nobody_is_removed_at_start, setup, teardown),
        cmocka_unit_test_setup_teardown(an_origin_is_stored_once_and_goes_with_its_last_row, setup, teardown),
        cmocka_unit_test_setup_teardown(an_origin_of_a_batch_that_failed_is_stored_by_the_next, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(listeners_are_known_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(a_listener_may_get_another_address, setup, teardown),
        cmocka_unit_test_setup_teardown(numbers_are_never_given_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_batch_that_comes_again_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(below_what_is_kept_free_only_removals_pass, setup, teardown),
        cmocka_unit_test_setup_teardown(what_fits_in_freed_room_of_the_file_passes_with_half_of_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_fails_batches_until_there_is_room, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_was_removed_takes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_was_replaced_is_not_written_to, setup, teardown),
        cmocka_unit_test_setup_teardown(the_wal_is_written_back_and_stays_short, setup, teardown),
        cmocka_unit_test_setup_teardown(somebody_who_reads_on_delays_the_write_back_and_nothing_else, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(nothing_waits_for_a_result_that_is_not_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(each_commit_is_one_sync_of_the_wal, setup_shim, teardown_shim),
        cmocka_unit_test_setup_teardown(after_a_failed_sync_nothing_is_committed_before_all_is_on_disk,
                                        setup_shim, teardown_shim),
        cmocka_unit_test_setup_teardown(after_a_failed_write_back_all_of_it_is_done_again, setup_shim,
                                        teardown_shim),
        cmocka_unit_test_setup_teardown(what_failed_and_comes_back_is_whole_and_may_come_again, setup_shim,
                                        teardown_shim),
        cmocka_unit_test_setup_teardown(a_store_of_mosquitto_is_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(other_files_are_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_wal_without_its_file_is_not_taken_for_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(places_where_no_file_can_be_say_so, setup, teardown),
        cmocka_unit_test_setup_teardown(without_permission_it_says_whose, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_file_is_a_new_one, setup, teardown),
        cmocka_unit_test_setup_teardown(what_an_interrupted_start_left_is_made_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_daemon_is_refused_and_a_reader_is_not, setup, teardown),
        cmocka_unit_test_setup_teardown(an_older_version_is_brought_up_to_date_behind_a_copy, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            a_version_that_cannot_be_brought_up_to_date_is_refused_with_the_reason, setup, teardown),
        cmocka_unit_test_setup_teardown(a_row_that_has_changed_stops_the_start_and_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_origin_stops_the_start, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_pages_stop_the_start, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_refused_is_not_written_back, setup, teardown),
        cmocka_unit_test_setup_teardown(messages_are_fetched_in_the_order_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_message_is_not_fetched_and_the_others_are, setup, teardown),
        cmocka_unit_test_setup_teardown(a_fetch_fails_when_there_is_no_file_and_goes_on_when_there_is, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(large_messages_are_fetched, setup, teardown),
        cmocka_unit_test_setup_teardown(without_memory_it_does_not_start_and_forgets_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(without_memory_a_batch_fails_and_comes_again, setup, teardown),
        cmocka_unit_test_setup_teardown(without_memory_a_fetch_fails_and_comes_again, setup, teardown),
        cmocka_unit_test_setup_teardown(check_says_that_a_store_is_whole_and_changes_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(check_finds_what_is_damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(check_remarks_what_the_next_start_puts_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(check_finds_damaged_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_wal_is_refused_and_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(dump_writes_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(vacuum_gives_room_back, setup, teardown),
        cmocka_unit_test_setup_teardown(tools_tell_what_is_not_a_store, setup, teardown),
        cmocka_unit_test_setup_teardown(tools_beside_a_daemon, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
