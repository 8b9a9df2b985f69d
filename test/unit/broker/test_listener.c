/*
 * test_listener.c - listening sockets on the real loop; what would become of the connections is this
 * program's.
 */
#include "test/unit/no_memory.h"

#include "broker/conn.h"
#include "broker/listener.h"
#include "broker/log.h"
#include "broker/transport_tcp.h"
#include "ports.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

enum { PORTS = 2 };

static struct {
    struct broker broker;
    struct config config;
    struct config_listener listeners[PORTS];
    struct listeners *all;
    struct err err;
    char dir[32], path[sizeof((struct sockaddr_un *)0)->sun_path];
    int accepted, door; /* how often, and where last */
    bool no_memory;     /* for what is stacked on the socket */
    bool held;          /* CONNECT packets wait */
    struct timer soon;
} f;

/* ---- in the place of conn.c ---- */

void conn_accept(struct broker *broker, struct transport *transport, int door)
{
    assert_ptr_equal(broker, &f.broker);
    transport->ops->close(transport);
    f.accepted++;
    f.door = door;
    loop_stop(broker->loop);
}

void conn_hold_greetings(struct broker *broker, bool hold)
{
    assert_ptr_equal(broker, &f.broker);
    f.held = hold;
}

static struct transport *stack(void *arg, int door, struct transport *below)
{
    assert_ptr_equal(arg, &f);
    assert_true(door >= 0 && door < PORTS);
    if (f.no_memory) {
        below->ops->close(below);
        loop_stop(f.broker.loop);
        return NULL;
    }
    return below;
}

/* ---- the frame ---- */

static void stop(void *arg)
{
    loop_stop(arg);
}

static int setup(void **unused)
{
    (void)unused;
    memset(&f, 0, sizeof f);
    strcpy(f.dir, "/tmp/test_listener.XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    f.config.listeners = f.listeners;
    f.broker.config = &f.config;
    f.broker.loop = loop_new();
    assert_non_null(f.broker.loop);
    timer_setup(&f.soon, stop, f.broker.loop);
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    listeners_close(f.all);
    loop_free(f.broker.loop);
    return rmdir(f.dir);
}

static struct config_listener *want_tcp(const char *host)
{
    struct config_listener *c = &f.listeners[f.config.listener_count++];
    *c = (struct config_listener){.port = port_free(), .host = (char *)(uintptr_t)host};
    return c;
}

static struct config_listener *want_unix(const char *name)
{
    struct config_listener *c = &f.listeners[f.config.listener_count++];
    snprintf(f.path, sizeof f.path, "%s/%s", f.dir, name);
    *c = (struct config_listener){.unix_path = f.path};
    return c;
}

static bool opens(void)
{
    f.err.text[0] = '\0';
    f.all = listeners_open(&f.broker, &f.err);
    assert_true(f.all || f.err.text[0]);
    return f.all != NULL;
}

static void start(void)
{
    assert_int_equal(listeners_listen(f.all, &f.err), 0);
    listeners_start(f.all, stack, &f);
}

static void refused_with(const char *words)
{
    assert_false(opens());
    assert_non_null(strstr(f.err.text, words));
}

static int call_tcp(int port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    return fd;
}

/* of f.path */
static struct sockaddr_un unix_address(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    memcpy(un.sun_path, f.path, sizeof un.sun_path);
    return un;
}

static int call_unix(void)
{
    struct sockaddr_un un = unix_address();
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof un), 0);
    return fd;
}

/* One turn of the loop, at least. */
static void turn(void)
{
    timer_start(f.broker.loop, &f.soon, 1);
    loop_run(f.broker.loop);
}

/* ---- tests ---- */

static void each_door_is_told_apart(void **unused)
{
    (void)unused;
    int port = want_tcp("127.0.0.1")->port;
    want_unix("socket");
    assert_true(opens());
    assert_int_equal(listeners_listen(f.all, &f.err), 0);
    int early = call_tcp(port); /* waits in the kernel until the start */
    listeners_start(f.all, stack, &f);
    loop_run(f.broker.loop);
    assert_int_equal(f.accepted, 1);
    assert_int_equal(f.door, 0);
    int second = call_unix();
    loop_run(f.broker.loop);
    assert_int_equal(f.accepted, 2);
    assert_int_equal(f.door, 1);
    close(early);
    close(second);
    listeners_close(f.all);
    f.all = NULL;
    assert_int_not_equal(access(f.path, F_OK), 0); /* taken away by who made it */
}

/* While the store is read nobody is let in to wait. */
static void nobody_can_connect_before_it_listens(void **unused)
{
    (void)unused;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)want_tcp("127.0.0.1")->port)};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(opens());
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(fd);
    start();
    close(call_tcp(ntohs(in.sin_port)));
}

/* Two may have bound the same port, as long as neither listens. */
static void who_listens_later_is_told(void **unused)
{
    (void)unused;
    struct config_listener *c = want_tcp("127.0.0.1");
    c->file = (char *)(uintptr_t) "a.conf";
    assert_true(opens());
    struct listeners *first = f.all;
    assert_true(opens());
    assert_int_equal(listeners_listen(first, &f.err), 0);
    assert_int_equal(listeners_listen(f.all, &f.err), -1);
    assert_non_null(strstr(f.err.text, "a.conf:0: Error: cannot listen on 127.0.0.1 port "));
    assert_non_null(strstr(f.err.text, "another program listens there"));
    listeners_close(first);
}

static void without_memory_a_connection_is_refused(void **unused)
{
    (void)unused;
    int port = want_tcp("127.0.0.1")->port;
    assert_true(opens());
    start();
    f.no_memory = true;
    int fd = call_tcp(port);
    loop_run(f.broker.loop);
    assert_int_equal(f.accepted, 0);
    assert_int_equal(f.broker.counters.connects_refused, 1);
    close(fd);
}

static void what_cannot_be_listened_on_is_named(void **unused)
{
    (void)unused;
    struct config_listener *c = want_tcp("127.0.0.1");
    int fd = port_listen(&c->port);
    refused_with("another program listens there");
    c->file = (char *)(uintptr_t) "a.conf";
    c->line = 7;
    refused_with("a.conf:7: Error: cannot bind 127.0.0.1 port ");
    close(fd);
    c->host = (char *)(uintptr_t) "192.0.2.1"; /* for documentation: nobody has it */
    refused_with("this machine does not have that address");
    c->host = (char *)(uintptr_t) "not a name";
    refused_with("a.conf:7: Error: address 'not a name': ");
    c->host = (char *)(uintptr_t) "127.0.0.1";
    c->bind_interface = (char *)(uintptr_t) "nothing0";
    refused_with("cannot set the options of the socket for 127.0.0.1");
}

static void without_memory_nothing_is_listened_on(void **unused)
{
    (void)unused;
    int port = want_tcp("127.0.0.1")->port, failed = 1, n = 0;
    want_unix("socket");
    for (; failed > 0; n++) {
        memory_fails(n, 1);
        f.all = listeners_open(&f.broker, &f.err);
        failed = memory_calm();
        assert_int_equal(f.all == NULL, failed);
        if (failed) {
            assert_non_null(strstr(f.err.text, "memory"));
            assert_int_not_equal(access(f.path, F_OK), 0);
        }
    }
    assert_true(n > 3);
    start();
    close(call_tcp(port)); /* the last time it was opened */
    loop_run(f.broker.loop);
    assert_int_equal(f.accepted, 1);
}

static void the_first_door_is_closed_when_the_second_cannot_be_opened(void **unused)
{
    (void)unused;
    int port = want_tcp("127.0.0.1")->port;
    struct config_listener *second = want_tcp("127.0.0.1");
    int fd = port_listen(&second->port);
    refused_with("another program");
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* the first port can be had again */
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    close(fd);
}

static void loopback_only_takes_what_families_there_are(void **unused)
{
    (void)unused;
    struct config_listener *c = want_tcp(NULL);
    c->loopback_only = true;
    assert_true(opens());
    start();
    int fd = call_tcp(c->port);
    loop_run(f.broker.loop);
    assert_int_equal(f.accepted, 1);
    close(fd);
}

static void a_socket_left_over_is_replaced(void **unused)
{
    (void)unused;
    want_unix("socket");
    struct sockaddr_un un = unix_address();
    int dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(dead, (struct sockaddr *)&un, sizeof un), 0);
    close(dead); /* as a crash leaves it */
    assert_true(opens());
    start();
    int fd = call_unix();
    loop_run(f.broker.loop);
    assert_int_equal(f.accepted, 1);
    close(fd);
}

static void what_is_no_socket_left_over_stays(void **unused)
{
    (void)unused;
    want_unix("socket");
    struct sockaddr_un un = unix_address();
    int alive = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(alive, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(listen(alive, 1), 0);
    refused_with("another program listens there");
    close(call_unix()); /* still the other's */
    close(alive);
    assert_int_equal(unlink(f.path), 0);

    close(open(f.path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    refused_with("another program listens there");
    assert_int_equal(access(f.path, F_OK), 0);
    assert_int_equal(unlink(f.path), 0);
}

static void a_path_that_is_too_long(void **unused)
{
    (void)unused;
    char path[200];
    struct config_listener *c = want_unix("x");
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    c->unix_path = path;
    refused_with("File name too long");
}

static void who_comes_during_a_reload_waits(void **unused)
{
    (void)unused;
    int port = want_tcp("127.0.0.1")->port;
    assert_true(opens());
    start();
    listeners_pause(f.all, 1000000);
    assert_true(f.held);
    int fd = call_tcp(port);
    turn();
    assert_int_equal(f.accepted, 0);
    listeners_start_again(f.all);
    assert_false(f.held);
    loop_run(f.broker.loop);
    assert_int_equal(f.accepted, 1);
    close(fd);

    listeners_pause(f.all, 1); /* a reload that takes longer than that */
    fd = call_tcp(port);
    loop_run(f.broker.loop);
    assert_int_equal(f.accepted, 2);
    assert_false(f.held);
    close(fd);
}

static void without_descriptors_it_tries_again(void **unused)
{
    (void)unused;
    struct rlimit before, none;
    int port = want_tcp("127.0.0.1")->port;
    assert_true(opens());
    start();
    int fd = call_tcp(port), lowest = dup(fd); /* that is free */
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){(rlim_t)lowest, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    turn();
    assert_int_equal(f.accepted, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    loop_run(f.broker.loop); /* when the pause is over */
    assert_int_equal(f.accepted, 1);
    close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(each_door_is_told_apart),
        TEST(nobody_can_connect_before_it_listens),
        TEST(who_listens_later_is_told),
        TEST(without_memory_a_connection_is_refused),
        TEST(what_cannot_be_listened_on_is_named),
        TEST(without_memory_nothing_is_listened_on),
        TEST(the_first_door_is_closed_when_the_second_cannot_be_opened),
        TEST(loopback_only_takes_what_families_there_are),
        TEST(a_socket_left_over_is_replaced),
        TEST(what_is_no_socket_left_over_stays),
        TEST(a_path_that_is_too_long),
        TEST(who_comes_during_a_reload_waits),
        TEST(without_descriptors_it_tries_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
