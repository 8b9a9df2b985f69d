/*
 * test_transport_tcp.c - the rules of transport.h, kept by plain sockets: over loopback TCP and over a socket
 * pair.
 */
#include "test/unit/no_memory.h"

#include "broker/loop.h"
#include "broker/principal.h"
#include "broker/transport_tcp.h"
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static struct {
    struct loop *loop;
    struct transport *t;
    int peer; /* the other end; blocking */
    int ready, ready_error;
    int readable, writable;
    int stop_after; /* readable calls */
    bool close_in_readable, close_in_writable;
} f;

static void do_close(void)
{
    f.t->ops->close(f.t);
    f.t = NULL;
    loop_stop(f.loop);
}

static void on_ready(void *owner, int error)
{
    assert_ptr_equal(owner, &f);
    f.ready++;
    f.ready_error = error;
}

static void on_readable(void *owner)
{
    assert_ptr_equal(owner, &f);
    f.readable++;
    if (f.close_in_readable) {
        do_close();
    } else if (f.readable >= f.stop_after) {
        loop_stop(f.loop);
    }
}

static void on_writable(void *owner)
{
    assert_ptr_equal(owner, &f);
    f.writable++;
    if (f.close_in_writable) {
        do_close();
    } else {
        loop_stop(f.loop);
    }
}

static const struct transport_events events = {on_ready, on_readable, on_writable};

static void take_over(int fd, const struct sockaddr *address, bool no_delay)
{
    f.t = transport_tcp_new(f.loop, fd, address, no_delay);
    assert_non_null(f.t);
    f.t->events = &events;
    f.t->owner = &f;
    f.stop_after = 1;
}

static int setup_pair(void **unused)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int pair[2];

    (void)unused;
    memset(&f, 0, sizeof f);
    f.loop = loop_new();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    f.peer = pair[1];
    take_over(pair[0], (struct sockaddr *)&un, true);
    return 0;
}

/* A connection over loopback; returns our end, the other is f.peer. address is the other's. */
static int connect_tcp(struct sockaddr_in *address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof in;
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd;

    assert_int_equal(bind(listener, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&in, &n), 0);
    f.peer = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(f.peer, (struct sockaddr *)&in, sizeof in), 0);
    n = sizeof *address;
    fd = accept4(listener, (struct sockaddr *)address, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd >= 0);
    close(listener);
    return fd;
}

static int setup_tcp(void **unused)
{
    struct sockaddr_in address;
    int fd;

    (void)unused;
    memset(&f, 0, sizeof f);
    f.loop = loop_new();
    fd = connect_tcp(&address);
    take_over(fd, (struct sockaddr *)&address, true);
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    if (f.t)
        f.t->ops->close(f.t);
    loop_free(f.loop);
    close(f.peer);
    return 0;
}

static ssize_t send_text(const char *text)
{
    struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};

    return f.t->ops->writev(f.t, &iov, 1);
}

static void peer_says(const char *text)
{
    assert_int_equal(write(f.peer, text, strlen(text)), strlen(text));
}

/* Writes until the socket takes no more. */
static size_t fill(void)
{
    static char block[65536];
    struct iovec iov = {block, sizeof block};
    size_t sum = 0;
    ssize_t n;

    while ((n = f.t->ops->writev(f.t, &iov, 1)) > 0)
        sum += (size_t)n;
    assert_int_equal(n, -EAGAIN);
    return sum;
}

static void is_ready_at_once(void **unused)
{
    (void)unused;
    assert_string_equal(f.t->ops->name, "tcp");
    f.t->ops->start(f.t);
    assert_int_equal(f.ready, 1);
    assert_int_equal(f.ready_error, 0);
    assert_false(f.t->ops->pending(f.t));
    assert_null(f.t->ops->why(f.t));
}

static void reads_what_is_there_then_eagain_then_the_end(void **unused)
{
    char buf[16];

    (void)unused;
    f.t->ops->start(f.t);
    assert_int_equal(f.t->ops->read(f.t, buf, sizeof buf), -EAGAIN);
    peer_says("hello");
    assert_int_equal(f.t->ops->read(f.t, buf, 0), -EAGAIN); /* not the end */
    assert_int_equal(f.t->ops->read(f.t, buf, 3), 3);
    assert_int_equal(f.t->ops->read(f.t, buf + 3, sizeof buf), 2);
    assert_memory_equal(buf, "hello", 5);
    shutdown(f.peer, SHUT_WR);
    f.t->ops->want_read(f.t, true); /* the end makes it readable */
    loop_run(f.loop);
    assert_int_equal(f.readable, 1);
    assert_int_equal(f.t->ops->read(f.t, buf, sizeof buf), 0);
    assert_null(f.t->ops->why(f.t));
}

static void after_start_reading_is_off(void **unused)
{
    (void)unused;
    f.t->ops->start(f.t);
    peer_says("x");
    f.t->ops->want_write(f.t, true);
    loop_run(f.loop); /* ends by writable() */
    assert_int_equal(f.writable, 1);
    assert_int_equal(f.readable, 0);
}

static void readable_comes_as_long_as_there_is_something(void **unused)
{
    (void)unused;
    f.t->ops->start(f.t);
    f.t->ops->want_read(f.t, true);
    f.stop_after = 3;
    peer_says("x");
    loop_run(f.loop);
    assert_int_equal(f.readable, 3);
    f.t->ops->want_read(f.t, false);
    f.t->ops->want_write(f.t, true);
    loop_run(f.loop);
    assert_int_equal(f.readable, 3);
}

static void writable_comes_once_for_each_wish(void **unused)
{
    struct timer end;

    (void)unused;
    f.t->ops->start(f.t);
    f.t->ops->want_write(f.t, true);
    loop_run(f.loop);
    timer_setup(&end, (void (*)(void *))loop_stop, f.loop);
    timer_start(f.loop, &end, 20); /* turns enough for a second call */
    loop_run(f.loop);
    assert_int_equal(f.writable, 1);
    f.t->ops->want_write(f.t, true);
    f.t->ops->want_write(f.t, false); /* a wish can be taken back */
    timer_start(f.loop, &end, 20);
    loop_run(f.loop);
    assert_int_equal(f.writable, 1);
}

static void drain_peer(size_t sum)
{
    static char block[65536];

    while (sum > 0) {
        ssize_t n = read(f.peer, block, sizeof block < sum ? sizeof block : sum);
        assert_true(n > 0);
        sum -= (size_t)n;
    }
}

static void writable_waits_until_the_peer_reads(void **unused)
{
    size_t sum;

    (void)unused;
    f.t->ops->start(f.t);
    sum = fill();
    assert_true(sum > 0);
    f.t->ops->want_write(f.t, true);
    drain_peer(sum);
    loop_run(f.loop);
    assert_int_equal(f.writable, 1);
    assert_int_equal(send_text("more"), 4);
}

static void gathers_more_pieces_than_the_kernel_takes_at_once(void **unused)
{
    enum { PIECES = IOV_MAX + 10 };
    static struct iovec iov[PIECES];
    static char got[PIECES], letters[] = "abcdefghij";
    ssize_t n;

    (void)unused;
    for (int i = 0; i < PIECES; i++)
        iov[i] = (struct iovec){letters + i % 10, 1};
    n = f.t->ops->writev(f.t, iov, PIECES);
    assert_int_equal(n, IOV_MAX);
    assert_int_equal(f.t->ops->writev(f.t, iov + n, PIECES - (int)n), 10);
    assert_int_equal(recv(f.peer, got, PIECES, MSG_WAITALL), PIECES);
    for (int i = 0; i < PIECES; i++)
        assert_int_equal(got[i], 'a' + i % 10);
}

static void may_be_closed_from_within_readable(void **unused)
{
    char c;

    (void)unused;
    f.t->ops->start(f.t);
    f.close_in_readable = true;
    f.t->ops->want_read(f.t, true);
    f.t->ops->want_write(f.t, false);
    peer_says("x");
    loop_run(f.loop);
    assert_int_equal(f.readable, 1);
    assert_int_equal(read(f.peer, &c, 1), 0);
}

/* Both events have come; after close() in the first there is no second. */
static void may_be_closed_from_within_writable(void **unused)
{
    (void)unused;
    f.t->ops->start(f.t);
    f.close_in_writable = true;
    f.t->ops->want_read(f.t, true);
    f.t->ops->want_write(f.t, true);
    peer_says("x");
    loop_run(f.loop);
    assert_int_equal(f.writable, 1);
    assert_int_equal(f.readable, 0);
}

/* Without the care in close() the kernel answers unread input with a reset and drops what it has not sent. */
static void closing_with_unread_input_still_delivers_what_was_written(void **unused)
{
    char buf[64];

    (void)unused;
    f.t->ops->start(f.t);
    f.t->ops->want_read(f.t, true);
    for (int i = 0; i < 100; i++)
        peer_says("something that is never read ");
    loop_run(f.loop);
    assert_int_equal(f.readable, 1);
    assert_int_equal(send_text("the reason"), 10);
    do_close();
    assert_int_equal(recv(f.peer, buf, sizeof buf, MSG_WAITALL), 10);
    assert_memory_equal(buf, "the reason", 10);
    assert_int_equal(recv(f.peer, buf, sizeof buf, 0), 0); /* an orderly end, not ECONNRESET */
}

/* Who goes on sending does not hold the loop: it may find a reset instead of the rest. */
static void closing_does_not_read_for_ever(void **unused)
{
    static char block[1 << 20];
    ssize_t sent = 0, n;

    (void)unused;
    f.t->ops->start(f.t);
    while ((n = send(f.peer, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
        sent += n;
    assert_true(sent > 500000);
    do_close();
    assert_true(recv(f.peer, block, 1, 0) <= 0);
}

static void a_peer_that_is_gone_is_an_error_and_no_signal(void **unused)
{
    struct linger reset = {1, 0};
    ssize_t n;

    (void)unused;
    f.t->ops->start(f.t);
    f.t->ops->want_read(f.t, true);
    setsockopt(f.peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(f.peer);
    loop_run(f.loop); /* the reset makes it readable */
    n = send_text("x");
    assert_true(n == -ECONNRESET || n == -EPIPE);
    assert_string_equal(f.t->ops->why(f.t), strerror((int)-n));
    f.peer = dup(0);
}

static void a_reset_is_read_as_an_error(void **unused)
{
    struct linger reset = {1, 0};
    char buf[4];

    (void)unused;
    f.t->ops->start(f.t);
    f.t->ops->want_read(f.t, true);
    setsockopt(f.peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(f.peer);
    loop_run(f.loop);
    assert_int_equal(f.t->ops->read(f.t, buf, sizeof buf), -ECONNRESET);
    assert_string_equal(f.t->ops->why(f.t), strerror(ECONNRESET));
    f.peer = dup(0);
}

/* --- who it is --- */

static void expect_peer(const char *address, int port)
{
    struct principal *who = principal_new();

    f.t->ops->peer(f.t, who);
    assert_string_equal(who->address, address);
    assert_int_equal(who->port, port);
    principal_unref(who);
}

/* As if the connection came from there. */
static void pose_as(const struct sockaddr *address)
{
    f.t->ops->close(f.t);
    take_over(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), address, true);
}

static void the_peer_is_named_by_address_and_port(void **unused)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(4711)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(65535)};

    (void)unused;
    expect_peer("unix", 0);
    inet_pton(AF_INET, "192.0.2.33", &in.sin_addr);
    pose_as((struct sockaddr *)&in);
    expect_peer("192.0.2.33", 4711);
    inet_pton(AF_INET6, "2001:db8:1111:2222:3333:4444:5555:6666", &in6.sin6_addr);
    pose_as((struct sockaddr *)&in6);
    expect_peer("2001:db8:1111:2222:3333:4444:5555:6666", 65535);
    inet_pton(AF_INET6, "::ffff:192.0.2.33", &in6.sin6_addr);
    pose_as((struct sockaddr *)&in6);
    expect_peer("192.0.2.33", 65535);
}

static int no_delay_of(bool asked)
{
    struct sockaddr_in address;
    int fd, value = -1;
    socklen_t n = sizeof value;

    f.t->ops->close(f.t);
    close(f.peer);
    fd = connect_tcp(&address);
    take_over(fd, (struct sockaddr *)&address, asked);
    expect_peer("127.0.0.1", ntohs(address.sin_port));
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &n), 0);
    return value;
}

static void nodelay_is_set_when_asked_for(void **unused)
{
    (void)unused;
    assert_int_not_equal(no_delay_of(true), 0);
    assert_int_equal(no_delay_of(false), 0);
}

#define BOTH(name)                                               \
    cmocka_unit_test_setup_teardown(name, setup_pair, teardown), \
        cmocka_unit_test_setup_teardown(name, setup_tcp, teardown)

static void without_memory_the_socket_is_closed(void **unused)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int pair[2];
    char byte;

    (void)unused;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    memory_fails(0, 1);
    assert_null(transport_tcp_new(f.loop, pair[0], (struct sockaddr *)&un, true));
    assert_int_equal(memory_calm(), 1);
    assert_int_equal(read(pair[1], &byte, 1), 0); /* its end */
    close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(is_ready_at_once),
        BOTH(reads_what_is_there_then_eagain_then_the_end),
        BOTH(after_start_reading_is_off),
        BOTH(readable_comes_as_long_as_there_is_something),
        BOTH(writable_comes_once_for_each_wish),
        BOTH(writable_waits_until_the_peer_reads),
        BOTH(gathers_more_pieces_than_the_kernel_takes_at_once),
        BOTH(may_be_closed_from_within_readable),
        BOTH(may_be_closed_from_within_writable),
        BOTH(closing_with_unread_input_still_delivers_what_was_written),
        BOTH(a_peer_that_is_gone_is_an_error_and_no_signal),
        cmocka_unit_test_setup_teardown(closing_does_not_read_for_ever, setup_tcp, teardown),
        cmocka_unit_test_setup_teardown(a_reset_is_read_as_an_error, setup_tcp, teardown),
        cmocka_unit_test_setup_teardown(the_peer_is_named_by_address_and_port, setup_pair, teardown),
        cmocka_unit_test_setup_teardown(nodelay_is_set_when_asked_for, setup_tcp, teardown),
        cmocka_unit_test_setup_teardown(without_memory_the_socket_is_closed, setup_pair, teardown),
    };
    alarm(100); /* a loop that wrongly waits must not wait for ever */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
