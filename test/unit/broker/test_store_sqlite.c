/*
 * test_store_sqlite.c - the durable store on real files: what goes in comes back, whatever happened between.
 *
 * What a load tells is written down as text, one line for each call, and compared as a whole. Some tests look
 * at the file, or harm it, through an SQLite connection of their own.
 */
#include "broker/msg.h"
#include "broker/principal.h"
#include "broker/store_sqlite.h"
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

static int count(const char *table)
{
    char text[128];
    sqlite3 *db;
    sqlite3_stmt *statement;
    snprintf(text, sizeof text, "SELECT count(*) FROM %s", table);
    assert_int_equal(sqlite3_open_v2(t.path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int n = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return n;
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
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(count((const char *[]){"subscription", "out"}[i]), 0);
    }
    assert_int_equal(count("origin"), 1);
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

/* What failed and its frames stay away, though the process dies (the files are copied as they are then). */
static void what_has_failed_is_not_there_after_the_next_commit(void **unused)
{
    char command[512];
    (void)unused;
    start_store();
    put_session(1, "one");
    commit();
    file_limit(1);
    put_session(2, "two");
    assert_false(submit());
    file_limit(RLIM_INFINITY);
    clear_changes();
    put_session(3, "three");
    commit();
    snprintf(command, sizeof command, "mkdir %s/copy && cp %s %s-wal %s/copy", t.dir, t.path, t.path, t.dir);
    assert_int_equal(system(command), 0);
    close_store();
    snprintf(t.path, sizeof t.path, "%s/copy/bramble.db", t.dir);
    start_store();
    assert_string_equal(t.text, "session 1 one by one at 10.0.0.1\nsession 3 three by three at 10.0.0.1\n");
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
    for (uint64_t n = 2; n < 400; n++) {
        for (uint64_t i = 0; i < 10; i++) {
            put_message(10 * n + i, message("t", payload, 1, false, "pub"), 1, 0);
        }
        commit();
    }
    snprintf(wal, sizeof wal, "%s-wal", t.path);
    assert_int_equal(stat(wal, &st), 0);
    assert_true(st.st_size < 6 * 1024 * 1024);
    struct storage_figures figures = storage_figures(t.storage);
    assert_int_equal(figures.commits, 399);
    assert_true(figures.file_bytes > 10 * 1024 * 1024 && figures.wal_bytes < 6 * 1024 * 1024);
    assert_true(figures.syncs >= 399 && figures.bytes_written > 16 * 1024 * 1024);
    close_store();
    assert_int_equal(stat(wal, &st), -1); /* an orderly end leaves one file */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_new_store_is_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(each_kind_of_change_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(each_kind_goes_again, setup, teardown),
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
        cmocka_unit_test_setup_teardown(numbers_are_never_given_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_batch_that_comes_again_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(below_what_is_kept_free_only_removals_pass, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_fails_batches_until_there_is_room, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_was_replaced_is_not_written_to, setup, teardown),
        cmocka_unit_test_setup_teardown(what_has_failed_is_not_there_after_the_next_commit, setup, teardown),
        cmocka_unit_test_setup_teardown(the_wal_is_written_back_and_stays_short, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_waits_for_a_result_that_is_not_taken, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
