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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_new_store_is_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(each_kind_of_change_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(each_kind_goes_again, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_replaced_is_there_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
