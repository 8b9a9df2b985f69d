/*
 * test_outq.c - the output of a connection: the order of held answers, and that whatever the socket takes at
 * a time, the same bytes come out.
 */
#include "broker/outq.h"
#include "fake_transport.h"
#include "random.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct {
    struct outq q;
    struct window *window;
    struct fake_transport transport;
    uint64_t sent;
} f;

static int setup(void **unused)
{
    (void)unused;
    memset(&f, 0, sizeof f);
    f.window = calloc(1, sizeof *f.window);
    fake_transport_init(&f.transport);
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    outq_free(&f.q);
    free(f.window);
    fake_transport_free(&f.transport);
    return 0;
}

static struct ticket *open_ticket(void)
{
    struct ticket *ticket = calloc(1, sizeof *ticket);
    ticket->refs = 1;
    ticket->sealed = true;
    return ticket;
}

static void hold(struct ticket *ticket, enum outq_order order, char name)
{
    assert_int_equal(outq_hold(&f.q, ticket, order, 77, (uint8_t *)&name, 1), 0);
}

/* What leaves now, each answer one letter. */
static const char *leaving(void)
{
    static char text[128];
    uint32_t n = outq_fill(&f.q, f.window);
    assert_int_equal(outq_write(&f.q, f.window, &f.transport.port, &f.sent), OUTQ_DONE);
    assert_int_equal(f.transport.out_size, n);
    memcpy(text, f.transport.out ? (char *)f.transport.out : "", n);
    text[n] = 0;
    f.transport.out_size = 0;
    return text;
}

/* ---- answers ---- */

static void answers_leave_in_order(void **unused)
{
    (void)unused;
    for (char c = 'a'; c <= 'z'; c++) {
        assert_int_equal(outq_put(&f.q, (uint8_t *)&c, 1), 0);
    }
    assert_string_equal(leaving(), "abcdefghijklmnopqrstuvwxyz");
    assert_string_equal(leaving(), "");
    assert_int_equal(f.transport.writes, 1); /* all in one, and nothing when there is nothing */
}

/* On WebSocket each has a frame of its own, and a window has room for so many. */
static void answers_in_frames_leave_window_by_window(void **unused)
{
    (void)unused;
    char text[WINDOW_PIECES + 11] = "";
    f.window->framed = true;
    for (int i = 0; i < WINDOW_PIECES + 10; i++) {
        hold(NULL, OUTQ_ANY, text[i] = (char)('a' + i % 26));
    }
    assert_memory_equal(leaving(), text, WINDOW_PIECES);
    assert_string_equal(leaving(), text + WINDOW_PIECES);
}

static void acknowledgements_keep_their_order(void **unused)
{
    (void)unused;
    struct ticket *one = open_ticket(), *two = open_ticket();
    hold(one, OUTQ_ACK, 'a');
    hold(NULL, OUTQ_ACK, 'b'); /* nothing to wait for, but not before the first [MQTT-4.6.0-2] */
    hold(two, OUTQ_ACK, 'c');
    hold(NULL, OUTQ_ACK, 'd');
    assert_int_equal(f.q.held, 2);
    assert_string_equal(leaving(), "");
    two->closed = true;
    assert_string_equal(leaving(), "");
    assert_int_equal(f.q.held, 2); /* it is still there */
    one->closed = true;
    assert_string_equal(leaving(), "abcd");
    assert_int_equal(f.q.held, 0);
    assert_int_equal(one->refs, 1);
    assert_int_equal(two->refs, 1);
    ticket_unref(one);
    ticket_unref(two);
}

static void those_up_to_the_first_open_one_leave(void **unused)
{
    (void)unused;
    struct ticket *one = open_ticket(), *two = open_ticket();
    hold(NULL, OUTQ_ACK, 'a');
    hold(one, OUTQ_ACK, 'b');
    hold(NULL, OUTQ_ACK, 'c');
    hold(two, OUTQ_ACK, 'd');
    hold(NULL, OUTQ_ACK, 'e');
    assert_string_equal(leaving(), "a");
    one->closed = true;
    assert_string_equal(leaving(), "bc");
    two->closed = true;
    assert_string_equal(leaving(), "de");
    ticket_unref(one);
    ticket_unref(two);
}

static void pubrels_keep_their_own_order(void **unused)
{
    (void)unused;
    struct ticket *publish = open_ticket(), *release = open_ticket();
    hold(publish, OUTQ_ACK, 'a');
    hold(release, OUTQ_REL, 'r');
    hold(NULL, OUTQ_REL, 's'); /* [MQTT-4.6.0-4] */
    hold(NULL, OUTQ_ACK, 'b');
    assert_string_equal(leaving(), "");
    release->closed = true;
    assert_string_equal(leaving(), "rs"); /* they do not wait for a PUBACK */
    publish->closed = true;
    assert_string_equal(leaving(), "ab");
    ticket_unref(publish);
    ticket_unref(release);
}

static void others_never_wait_behind_a_held_one(void **unused)
{
    (void)unused;
    struct ticket *publish = open_ticket(), *subscribe = open_ticket();
    hold(publish, OUTQ_ACK, 'a');
    hold(subscribe, OUTQ_ANY, 's');
    hold(NULL, OUTQ_ANY, 'p'); /* PINGRESP */
    hold(NULL, OUTQ_REL, 'r');
    outq_put(&f.q, (const uint8_t *)"q", 1);
    assert_string_equal(leaving(), "prq");
    subscribe->closed = true;
    assert_string_equal(leaving(), "s");
    publish->closed = true;
    assert_string_equal(leaving(), "a");
    ticket_unref(publish);
    ticket_unref(subscribe);
}

static void a_held_answer_names_its_connection(void **unused)
{
    (void)unused;
    struct ticket *ticket = open_ticket();
    hold(ticket, OUTQ_ACK, 'a');
    assert_int_equal(ticket->holder, 77);
    assert_int_equal(ticket->refs, 2);
    ticket_unref(ticket); /* the queue keeps it */
    ticket->closed = true;
    assert_string_equal(leaving(), "a");
}

static void nothing_comes_before_connack(void **unused)
{
    (void)unused;
    struct ticket *ticket = open_ticket();
    assert_false(outq_greets(&f.q));
    hold(ticket, OUTQ_FIRST, 'c');
    hold(NULL, OUTQ_ANY, 'a');
    hold(NULL, OUTQ_ACK, 'b');
    assert_string_equal(leaving(), "");
    assert_true(outq_greets(&f.q));
    ticket->closed = true;
    assert_string_equal(leaving(), "cab");
    assert_false(outq_greets(&f.q));
    ticket_unref(ticket);
}

static void a_held_acknowledgement_knows_its_message(void **unused)
{
    (void)unused;
    struct ticket *ticket = open_ticket();
    struct msg *msg = msg_new(slice_str("t"), slice_str("x"), 1, false, NULL), *found;
    assert_int_equal(outq_hold_ack(&f.q, NULL, 77, PKT_PUBACK, 6, msg), 0); /* it will leave at once */
    assert_int_equal(msg->refs, 1);
    assert_false(outq_finds(&f.q, PKT_PUBACK, 6, &found));
    assert_int_equal(outq_hold_ack(&f.q, ticket, 77, PKT_PUBACK, 7, msg), 0);
    assert_int_equal(outq_hold_ack(&f.q, ticket, 77, PKT_PUBREC, 8, NULL), 0);
    assert_int_equal(msg->refs, 2);
    assert_true(outq_finds(&f.q, PKT_PUBACK, 7, &found));
    assert_ptr_equal(found, msg);
    assert_true(outq_finds(&f.q, PKT_PUBREC, 8, &found));
    assert_null(found);
    assert_false(outq_finds(&f.q, PKT_PUBREC, 7, &found));
    assert_false(outq_finds(&f.q, PKT_PUBACK, 8, &found));
    ticket->closed = true; /* but it has not left */
    assert_true(outq_finds(&f.q, PKT_PUBACK, 7, &found));
    assert_int_equal(outq_fill(&f.q, f.window), 3);
    assert_false(outq_finds(&f.q, PKT_PUBACK, 7, &found));
    assert_int_equal(msg->refs, 1);
    outq_write(&f.q, f.window, &f.transport.port, &f.sent);
    assert_int_equal(outq_hold_ack(&f.q, (ticket->closed = false, ticket), 77, PKT_PUBACK, 7, msg), 0);
    outq_free(&f.q);
    assert_int_equal(msg->refs, 1);
    msg_unref(msg);
    ticket_unref(ticket);
}

/* A QoS 2 PUBLISH that is repeated on the next connection waits for the same ticket; the end of the first
 * connection, perhaps later, must not take that away. */
static void the_last_one_to_hold_a_ticket_is_told(void **unused)
{
    (void)unused;
    struct ticket *ticket = open_ticket();
    struct outq next = {0};
    hold(ticket, OUTQ_ACK, 'a');
    assert_int_equal(outq_hold(&next, ticket, OUTQ_ACK, 78, (const uint8_t *)"a", 1), 0);
    outq_free(&f.q);
    assert_int_equal(ticket->holder, 78);
    outq_free(&next);
    assert_int_equal(ticket->refs, 1);
    ticket_unref(ticket);
}

static void large_answers_leave_whole(void **unused)
{
    (void)unused;
    uint8_t *large = malloc(60000);
    memset(large, 'L', 60000);
    outq_put(&f.q, (const uint8_t *)"first", 5);
    outq_put(&f.q, large, 60000);
    outq_put(&f.q, (const uint8_t *)"12345678", 8); /* just too long for the small place */
    outq_put(&f.q, large, 60000);
    assert_int_equal(outq_fill(&f.q, f.window), 3);
    assert_int_equal(f.window->total, 60013);
    assert_int_equal(outq_write(&f.q, f.window, &f.transport.port, &f.sent), OUTQ_DONE);
    assert_int_equal(outq_fill(&f.q, f.window), 1);
    assert_int_equal(outq_write(&f.q, f.window, &f.transport.port, &f.sent), OUTQ_DONE);
    assert_int_equal(f.transport.out_size, 120013);
    assert_memory_equal(f.transport.out, "firstLLLL", 9);
    assert_memory_equal(f.transport.out + 60005, "12345678LLLL", 12);
    assert_int_equal(f.sent, 120013);
    free(large);
}

static void gives_memory_back(void **unused)
{
    (void)unused;
    for (int i = 0; i < 1000; i++) {
        outq_put(&f.q, (const uint8_t *)"x", 1);
    }
    outq_fill(&f.q, f.window);
    assert_null(f.q.v);
    assert_int_equal(f.q.cap, 0);
    outq_write(&f.q, f.window, &f.transport.port, &f.sent);
    assert_null(f.q.rest);
}

static void what_is_held_goes_with_the_connection(void **unused)
{
    (void)unused;
    struct ticket *ticket = open_ticket();
    hold(ticket, OUTQ_ACK, 'a');
    outq_hold(&f.q, ticket, OUTQ_ANY, 77, (const uint8_t *)"a long answer", 13);
    assert_int_equal(ticket->refs, 3);
    outq_free(&f.q);
    assert_int_equal(ticket->refs, 1);
    assert_int_equal(f.q.held, 0);
    ticket_unref(ticket);
}

/* ---- messages ---- */

static struct msg *message(const char *topic, size_t payload)
{
    char *bytes = malloc(payload + 1);
    for (size_t i = 0; i < payload; i++) {
        bytes[i] = (char)('0' + i % 75);
    }
    struct msg *msg = msg_new(slice_str(topic), slice_of(bytes, payload), 1, false, NULL);
    free(bytes);
    return msg;
}

/* The packet as it goes out. */
static struct slice written(const struct outgoing *out, const char *mount)
{
    f.transport.out_size = 0;
    size_t n = window_put(f.window, out, slice_str(mount));
    assert_int_equal(n, f.window->total);
    assert_int_equal(outq_write(&f.q, f.window, &f.transport.port, &f.sent), OUTQ_DONE);
    assert_int_equal(f.window->total, 0);
    assert_int_equal(f.transport.out_size, n);
    return slice_of(f.transport.out, n);
}

static void writes_every_form_of_a_publish(void **unused)
{
    static const size_t sizes[] = {0, 1, 100, 130, 1000, 1100, 20000};
    static const char *const mounts[] = {"", "home/", "other/", "home/a", "home/a/b"};
    (void)unused;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct msg *msg = message("home/a", sizes[i]);
        for (int form = 0; form < 3 * 2 * 2 * 5; form++) {
            struct outgoing out = {.kind = OUT_PUBLISH, .msg = msg, .qos = (uint8_t)(form % 3)};
            const char *mount = mounts[form / 12];
            out.retain = form / 3 % 2;
            out.dup = out.qos && form / 6 % 2;
            out.id = out.qos ? 0x1234 : 0;
            struct slice wire = written(&out, mount);
            struct packet_frame frame;
            struct packet_publish p;
            assert_int_equal(packet_frame(wire.p, wire.n, &frame), 1);
            assert_int_equal(frame.type, PKT_PUBLISH);
            assert_int_equal(frame.header_size + (size_t)frame.body_size, wire.n);
            assert_int_equal(
                packet_decode_publish(frame.flags, slice_of(wire.p + frame.header_size, frame.body_size), &p),
                PACKET_OK);
            assert_true(slice_eq(p.topic, slice_str(strcmp(mount, "home/") ? "home/a" : "a")));
            assert_true(slice_eq(p.payload, msg_payload(msg)));
            assert_int_equal(p.qos, out.qos);
            assert_int_equal(p.id, out.id);
            assert_int_equal(p.dup, out.dup);
            assert_int_equal(p.retain, out.retain);
        }
        assert_int_equal(msg->refs, 1);
        msg_unref(msg);
    }
}

static void writes_pubrel(void **unused)
{
    (void)unused;
    struct outgoing out = {.kind = OUT_PUBREL, .id = 0x1234};
    struct slice wire = written(&out, "");
    assert_int_equal(wire.n, 4);
    assert_memory_equal(wire.p, "\x62\x02\x12\x34", 4);
}

static void small_messages_are_copied_together(void **unused)
{
    (void)unused;
    struct msg *msg = message("a/b", 64);
    struct outgoing out = {.kind = OUT_PUBLISH, .msg = msg};
    for (int i = 0; i < 500; i++) {
        out.qos = i % 2;
        out.id = (uint16_t)i;
        assert_true(window_has_room(f.window));
        window_put(f.window, &out, slice_of(NULL, 0));
    }
    assert_int_equal(f.window->pieces, 1);
    assert_int_equal(msg->refs, 1);
    outq_write(&f.q, f.window, &f.transport.port, &f.sent);
    msg_unref(msg);
}

static void large_payloads_go_by_reference(void **unused)
{
    (void)unused;
    struct msg *msg = message("a/b", 100000);
    struct outgoing out = {.kind = OUT_PUBLISH, .msg = msg, .qos = 1, .id = 1};
    window_put(f.window, &out, slice_of(NULL, 0));
    assert_int_equal(f.window->used, 4 + 2 + 3 + 2);
    assert_ptr_equal(f.window->iov[f.window->pieces - 1].iov_base, msg_payload(msg).p);
    assert_int_equal(msg->refs, 2);
    out.qos = 0;
    window_put(f.window, &out, slice_of(NULL, 0)); /* ready made: header and all */
    assert_ptr_equal(f.window->iov[f.window->pieces - 1].iov_base, msg_wire(msg).p);
    assert_int_equal(msg->refs, 3);
    outq_write(&f.q, f.window, &f.transport.port, &f.sent);
    assert_int_equal(msg->refs, 1);
    msg_unref(msg);
}

/* A topic of that many bytes, and a payload. */
static struct msg *sized(size_t topic_size, size_t payload)
{
    static char topic[4000];
    assert_in_range(topic_size, 1, sizeof topic - 1);
    memset(topic, 't', topic_size);
    topic[topic_size] = 0;
    return message(topic, payload);
}

/* As long as it says that there is room, a packet of any kind fits; also one whose topic ends where the
 * window does. */
static void the_window_never_overflows(void **unused)
{
    struct random random = {4};
    (void)unused;
    for (int round = 0; round < 1000; round++) {
        int kind = round / 2 % 6;
        f.window->framed = round % 2;
        while (window_has_room(f.window)) {
            size_t left = WINDOW_SIZE - f.window->used;
            size_t topic = kind == 0   ? 1
                           : kind == 1 ? 1024
                           : kind == 2 ? 1025
                                       : 1 + random_below(&random, 2999);
            size_t payload = kind == 3   ? 0
                             : kind == 4 ? 1024
                             : kind == 5 ? 1025
                                         : random_below(&random, 2000);
            if (left < 3500 && random_chance(&random, 70)) {
                topic = left - 30 + random_below(&random, 26);
            }
            struct msg *msg = sized(topic, payload);
            struct outgoing out = {.kind = OUT_PUBLISH, .msg = msg, .qos = random_below(&random, 3), .id = 9};
            window_put(f.window, &out, slice_of(NULL, 0));
            msg_unref(msg);
            assert_true(f.window->pieces <= WINDOW_PIECES);
            assert_true(f.window->used <= WINDOW_SIZE);
        }
        assert_int_equal(outq_write(&f.q, f.window, &f.transport.port, &f.sent), OUTQ_DONE);
        assert_true(f.transport.most_pieces <= WINDOW_PIECES);
        f.transport.out_size = 0;
    }
}

/* For a transport that makes a frame of each piece: a packet is a piece, as long as it fits into the window.
 */
static void where_pieces_are_frames_a_packet_is_a_piece(void **unused)
{
    static const size_t payloads[] = {0, 10, 1000, 1100, 5000, 20000};
    (void)unused;
    f.window->framed = true;
    outq_put(&f.q, (const uint8_t *)"\x20\x02\0\0", 4);
    outq_put(&f.q, (const uint8_t *)"\xD0\0", 2);
    outq_fill(&f.q, f.window);
    for (int i = 0; i < 12; i++) {
        struct msg *msg = sized(1 + 100 * (size_t)i, payloads[i % 6]);
        struct outgoing out = {.kind = OUT_PUBLISH, .msg = msg, .qos = (uint8_t)(i % 3), .id = 7};
        assert_true(window_has_room(f.window));
        window_put(f.window, &out, slice_of(NULL, 0));
        msg_unref(msg);
    }
    assert_int_equal(f.window->pieces, 2 + 12);
    for (int i = 0; i < f.window->pieces; i++) {
        struct packet_frame frame;
        const struct iovec *piece = &f.window->iov[i];
        assert_int_equal(packet_frame(piece->iov_base, piece->iov_len, &frame), 1);
        assert_int_equal(frame.header_size + (size_t)frame.body_size, piece->iov_len);
    }
    assert_int_equal(outq_write(&f.q, f.window, &f.transport.port, &f.sent), OUTQ_DONE);
    f.transport.out_size = 0;
    struct msg *msg = message("big", 100000); /* does not fit: its head, and the payload by reference */
    struct outgoing out = {.kind = OUT_PUBLISH, .msg = msg, .qos = 1, .id = 7};
    window_put(f.window, &out, slice_of(NULL, 0));
    assert_int_equal(f.window->pieces, 2);
    assert_int_equal(msg->refs, 2);
    assert_int_equal(outq_write(&f.q, f.window, &f.transport.port, &f.sent), OUTQ_DONE);
    msg_unref(msg);
}

/* ---- what the socket takes ---- */

static struct msg *mixed[5];

/* Answers and messages of all kinds: own bytes and references by turns. */
static void fill_mixed(void)
{
    outq_put(&f.q, (const uint8_t *)"\x20\x02\x00\x00", 4);
    outq_put(&f.q, (const uint8_t *)"a longer answer", 15);
    outq_fill(&f.q, f.window);
    for (uint16_t i = 0; i < 12; i++) {
        struct outgoing out = {.kind = OUT_PUBLISH, .msg = mixed[i % 5], .qos = i % 3, .id = i};
        window_put(f.window, &out, slice_of(NULL, 0));
        if (i % 4 == 3) {
            out.kind = OUT_PUBREL;
            window_put(f.window, &out, slice_of(NULL, 0));
        }
    }
}

static void make_mixed(void)
{
    char topic[1500];
    memset(topic, 'T', sizeof topic);
    topic[sizeof topic - 1] = 0;
    mixed[0] = message("a", 10);
    mixed[1] = message("b", 1030);
    mixed[2] = message(topic, 1);
    mixed[3] = message(topic, 1300);
    mixed[4] = message("e", 0);
}

static void free_mixed(void)
{
    for (int i = 0; i < 5; i++) {
        assert_int_equal(mixed[i]->refs, 1);
        msg_unref(mixed[i]);
    }
}

static uint8_t *expected_stream(size_t *n)
{
    fill_mixed();
    assert_int_equal(outq_write(&f.q, f.window, &f.transport.port, &f.sent), OUTQ_DONE);
    *n = f.transport.out_size;
    uint8_t *stream = malloc(*n);
    memcpy(stream, f.transport.out, *n);
    f.transport.out_size = 0;
    return stream;
}

static void assert_stream(const uint8_t *stream, size_t n)
{
    assert_int_equal(f.transport.out_size, n);
    assert_memory_equal(f.transport.out, stream, n);
    f.transport.out_size = 0;
}

static void a_write_may_stop_at_every_byte(void **unused)
{
    size_t n;
    (void)unused;
    make_mixed();
    uint8_t *stream = expected_stream(&n);
    assert_true(n > 10000);
    for (size_t stop = 0; stop < n; stop++) {
        f.sent = 0;
        f.transport.write_limit = (ssize_t)stop;
        fill_mixed();
        assert_int_equal(outq_write(&f.q, f.window, &f.transport.port, &f.sent), OUTQ_BLOCKED);
        assert_non_null(f.q.rest);
        assert_int_equal(f.window->pieces, 0);
        assert_int_equal(f.sent, stop);
        assert_int_equal(outq_write_rest(&f.q, &f.transport.port, &f.sent), OUTQ_BLOCKED);
        f.transport.write_limit = (ssize_t)((n - stop) / 2); /* and once more on the way */
        assert_int_equal(outq_write_rest(&f.q, &f.transport.port, &f.sent), OUTQ_BLOCKED);
        f.transport.write_limit = FAKE_NO_LIMIT;
        assert_int_equal(outq_write_rest(&f.q, &f.transport.port, &f.sent), OUTQ_DONE);
        assert_null(f.q.rest);
        assert_int_equal(f.sent, n);
        assert_stream(stream, n);
    }
    free(stream);
    free_mixed();
}

static void a_socket_may_take_a_byte_at_a_time(void **unused)
{
    size_t n;
    (void)unused;
    make_mixed();
    uint8_t *stream = expected_stream(&n);
    static const size_t most[] = {1, 2, 7, 1000, 4096};
    for (size_t i = 0; i < 5; i++) {
        f.transport.write_most = most[i];
        fill_mixed();
        assert_int_equal(outq_write(&f.q, f.window, &f.transport.port, &f.sent), OUTQ_BLOCKED);
        assert_int_equal(outq_write_rest(&f.q, &f.transport.port, &f.sent), OUTQ_DONE);
        assert_stream(stream, n);
    }
    free(stream);
    free_mixed();
}

static void a_socket_may_take_what_it_likes(void **unused)
{
    struct random random = {55};
    size_t n;
    (void)unused;
    make_mixed();
    uint8_t *stream = expected_stream(&n);
    for (int i = 0; i < 500; i++) {
        fill_mixed();
        f.transport.write_limit = random_below(&random, (uint32_t)n);
        enum outq_result result = outq_write(&f.q, f.window, &f.transport.port, &f.sent);
        while (result == OUTQ_BLOCKED) {
            f.transport.write_limit = random_below(&random, 3000);
            f.transport.write_most = random_below(&random, 2000);
            result = outq_write_rest(&f.q, &f.transport.port, &f.sent);
        }
        assert_int_equal(result, OUTQ_DONE);
        f.transport.write_limit = FAKE_NO_LIMIT;
        f.transport.write_most = 0;
        assert_stream(stream, n);
    }
    free(stream);
    free_mixed();
}

static void the_rest_keeps_its_messages(void **unused)
{
    (void)unused;
    struct msg *msg = message("a", 5000);
    struct outgoing out = {.kind = OUT_PUBLISH, .msg = msg, .qos = 1, .id = 1};
    window_put(f.window, &out, slice_of(NULL, 0));
    f.transport.write_limit = 100;
    assert_int_equal(outq_write(&f.q, f.window, &f.transport.port, &f.sent), OUTQ_BLOCKED);
    assert_int_equal(msg->refs, 2);
    f.transport.write_limit = FAKE_NO_LIMIT;
    assert_int_equal(outq_write_rest(&f.q, &f.transport.port, &f.sent), OUTQ_DONE);
    assert_int_equal(msg->refs, 1);
    window_put(f.window, &out, slice_of(NULL, 0));
    f.transport.write_limit = 0;
    assert_int_equal(outq_write(&f.q, f.window, &f.transport.port, &f.sent), OUTQ_BLOCKED);
    assert_int_equal(msg->refs, 2);
    outq_free(&f.q); /* the connection ends */
    assert_int_equal(msg->refs, 1);
    msg_unref(msg);
}

static void a_broken_socket_is_an_error(void **unused)
{
    (void)unused;
    struct msg *msg = message("a", 5000);
    struct outgoing out = {.kind = OUT_PUBLISH, .msg = msg, .qos = 1, .id = 1};
    window_put(f.window, &out, slice_of(NULL, 0));
    f.transport.write_error = -EPIPE;
    assert_int_equal(outq_write(&f.q, f.window, &f.transport.port, &f.sent), OUTQ_ERROR);
    assert_int_equal(msg->refs, 1);
    assert_int_equal(f.window->pieces, 0); /* the window is for the next connection */
    f.transport.write_error = 0;
    f.transport.write_limit = 10;
    window_put(f.window, &out, slice_of(NULL, 0));
    assert_int_equal(outq_write(&f.q, f.window, &f.transport.port, &f.sent), OUTQ_BLOCKED);
    f.transport.write_error = -ECONNRESET;
    assert_int_equal(outq_write_rest(&f.q, &f.transport.port, &f.sent), OUTQ_ERROR);
    outq_free(&f.q);
    assert_int_equal(msg->refs, 1);
    assert_int_equal(f.sent, 10);
    msg_unref(msg);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(answers_leave_in_order),
        T(answers_in_frames_leave_window_by_window),
        T(acknowledgements_keep_their_order),
        T(those_up_to_the_first_open_one_leave),
        T(pubrels_keep_their_own_order),
        T(others_never_wait_behind_a_held_one),
        T(a_held_answer_names_its_connection),
        T(nothing_comes_before_connack),
        T(a_held_acknowledgement_knows_its_message),
        T(the_last_one_to_hold_a_ticket_is_told),
        T(large_answers_leave_whole),
        T(gives_memory_back),
        T(what_is_held_goes_with_the_connection),
        T(writes_every_form_of_a_publish),
        T(writes_pubrel),
        T(small_messages_are_copied_together),
        T(large_payloads_go_by_reference),
        T(the_window_never_overflows),
        T(where_pieces_are_frames_a_packet_is_a_piece),
        T(a_write_may_stop_at_every_byte),
        T(a_socket_may_take_a_byte_at_a_time),
        T(a_socket_may_take_what_it_likes),
        T(the_rest_keeps_its_messages),
        T(a_broken_socket_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
