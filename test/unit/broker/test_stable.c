/*
 * test_stable.c - the life of the durable store with a real file, a real loop and the adapter's threads: what
 * was published is there the next time, under the names of the listeners; and what an end does that the disk
 * does not let come.
 */
#include "broker/conn.h"
#include "broker/log.h"
#include "broker/router.h"
#include "broker/stable.h"
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { DOORS = 6 };

static struct {
    char dir[32], path[64], other[64];
    struct config config;
    struct config_listener listeners[DOORS];
    struct config_security security;
    struct door doors[DOORS];
    struct broker broker;
    struct stable *stable;
    struct err err;
} f;

static int setup(void **unused)
{
    (void)unused;
    memset(&f, 0, sizeof f);
    strcpy(f.dir, "/tmp/test_stable.XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    snprintf(f.path, sizeof f.path, "%s/bramble.db", f.dir);
    snprintf(f.other, sizeof f.other, "%s/mosquitto.db", f.dir);
    f.listeners[0] = (struct config_listener){.port = 1883, .loopback_only = true};
    f.listeners[1] = (struct config_listener){.port = 8883};
    f.listeners[2] = (struct config_listener){.port = 8883, .host = (char *)(uintptr_t) "10.0.0.1"};
    f.listeners[3] = (struct config_listener){.port = 8884, .socket_domain = DOMAIN_IPV6};
    f.listeners[4] = (struct config_listener){.port = 8885, .bind_interface = (char *)(uintptr_t) "wlan0"};
    f.listeners[5] = (struct config_listener){.unix_path = (char *)(uintptr_t) "/run/a socket"};
    for (int i = 0; i < DOORS; i++) {
        f.listeners[i].security = &f.security;
        f.doors[i].config = &f.listeners[i];
    }
    f.security.allow_anonymous = true;
    f.config = (struct config){.listeners = f.listeners,
                               .listener_count = DOORS,
                               .securities = &f.security,
                               .security_count = 1,
                               .persistence = true,
                               .persistence_location = f.dir,
                               .persistence_file = (char *)(uintptr_t) "bramble.db",
                               .persistence_path = f.path,
                               .persistence_lazy_delay = 3600000,
                               .persistence_at = {"a.conf", 3},
                               .retain_available = true};
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    static const char *const beside[] = {"-wal", "-shm"}; /* of a file that was refused */
    for (int i = 0; i < 2; i++) {
        char path[80];
        snprintf(path, sizeof path, "%s%s", f.path, beside[i]);
        unlink(path);
    }
    unlink(f.path);
    unlink(f.other);
    return rmdir(f.dir);
}

static void open_all(void)
{
    struct loop *loop = loop_new();
    assert_int_equal(stable_open(&f.stable, &f.config, loop_mailbox(loop), &f.err), 0);
    assert_int_equal(broker_init(&f.broker, loop, &f.config, stable_storage(f.stable)), 0);
    f.broker.doors = f.doors;
    f.broker.door_count = DOORS;
    if (stable_load(f.stable, &f.broker, -1, &f.err) < 0 || stable_start(f.stable, &f.err) < 0) {
        fail_msg("%s", f.err.text);
    }
}

static void close_all(void)
{
    broker_stop(&f.broker);
    stable_stop(f.stable, &f.broker);
    broker_free(&f.broker);
    stable_close(f.stable);
    loop_free(f.broker.loop);
    f.stable = NULL;
    char path[80];
    snprintf(path, sizeof path, "%s-wal", f.path);
    assert_int_equal(access(path, F_OK), -1); /* all of it is in the file */
}

/* Retained, at QoS 0: nobody waits for it. */
static void publish(const char *topic, int listener)
{
    struct principal *who = principal_new();
    who->listener = listener;
    struct msg *msg = msg_new(slice_str(topic), slice_str("value"), 0, true, who);
    router_publish_now(&f.broker, msg);
    msg_unref(msg);
    principal_unref(who);
}

static void refused_with(const char *words)
{
    struct loop *loop = loop_new();
    assert_int_equal(stable_open(&f.stable, &f.config, loop_mailbox(loop), &f.err), -1);
    assert_null(f.stable);
    if (!strstr(f.err.text, words)) {
        fail_msg("'%s' does not say '%s'", f.err.text, words);
    }
    loop_free(loop);
}

/* ---- tests ---- */

static void without_persistence_there_is_none(void **unused)
{
    (void)unused;
    f.config.persistence = false;
    open_all();
    assert_null(f.stable);
    assert_false(store_durable(f.broker.store));
    stable_drain(f.stable, &f.broker);
    close_all();
    assert_int_equal(access(f.path, F_OK), -1);
}

static void the_end_writes_what_nobody_waits_for(void **unused)
{
    (void)unused;
    open_all();
    publish("a", 1);
    assert_false(store_idle(f.broker.store));
    stable_drain(f.stable, &f.broker);
    assert_true(store_idle(f.broker.store));
    publish("b", 1); /* as a will does, when its connection ends */
    close_all();
    open_all();
    assert_int_equal(retain_count(f.broker.retain), 2);
    close_all();
}

static void each_listener_has_a_name_of_its_own(void **unused)
{
    static const char *const names[DOORS] = {"1883 localhost", "8883 *",       "8883 10.0.0.1",
                                             "8884 * ipv6",    "8885 * wlan0", "/run/a socket"};
    char text[20000] = "";
    (void)unused;
    open_all();
    for (int i = 0; i < DOORS; i++) {
        publish((const char[]){(char)('a' + i), '\0'}, i);
    }
    close_all();
    FILE *out = fmemopen(text, sizeof text - 1, "w");
    assert_int_equal(storage_dump(f.path, out, stderr), 0);
    fclose(out);
    for (int i = 0; i < DOORS; i++) {
        char quoted[40];
        snprintf(quoted, sizeof quoted, "\"%s\"", names[i]);
        if (!strstr(text, quoted)) {
            fail_msg("%s is not in\n%s", quoted, text);
        }
    }
}

static void a_file_that_is_refused_is_named(void **unused)
{
    (void)unused;
    f.config.persistence_sync = SYNC_OFF;
    open_all();
    close_all();
    assert_int_equal(truncate(f.path, 100), 0);
    refused_with(f.path);
    refused_with("a.conf:3: Error: persistence: ");
    assert_int_equal(unlink(f.path), 0);
    f.config.persistence_path = (char *)(uintptr_t) "/none/bramble.db";
    refused_with("/none/bramble.db");
}

/* Nothing may be written, and the end comes all the same, at once. */
static void a_disk_that_is_full_is_not_waited_for(void **unused)
{
    (void)unused;
    f.config.persistence_min_free = UINT64_C(1) << 62;
    open_all();
    publish("a", 1);
    stable_drain(f.stable, &f.broker);
    assert_true(*store_trouble(f.broker.store));
    close_all();
    f.config.persistence_min_free = 0;
    open_all();
    assert_int_equal(retain_count(f.broker.retain), 0);
    close_all();
}

static void a_store_of_mosquitto_stays(void **unused)
{
    (void)unused;
    FILE *file = fopen(f.other, "we");
    assert_non_null(file);
    fputs("as it was", file);
    fclose(file);
    open_all();
    close_all();
    struct stat st;
    assert_int_equal(stat(f.other, &st), 0);
    assert_int_equal(st.st_size, 9);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(without_persistence_there_is_none),     TEST(the_end_writes_what_nobody_waits_for),
        TEST(each_listener_has_a_name_of_its_own),   TEST(a_file_that_is_refused_is_named),
        TEST(a_disk_that_is_full_is_not_waited_for), TEST(a_store_of_mosquitto_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
