/*
 * test_conn.c - connections: bytes in whatever pieces, packets that wait, output that the socket does not
 * take, and the end in all its forms.
 */
#include "fake_broker.h"
#include "random.h"

/* ---- input ---- */

static void connects_and_answers(void **unused)
{
    (void)unused;
    struct client *c = client_open();
    assert_true(c->t.started);
    SEND(c, "\x10\x0F\0\4MQTT\4\2\0\x3C\0\3abc");
    settle();
    EXPECT(c, "\x20\x02\0\0");
    assert_string_equal(c->conn->who->client_id, "abc");
    assert_string_equal(c->conn->who->address, "192.0.2.7");
    assert_int_equal(c->conn->keepalive, 60);
    SEND(c, "\xC0\0");
    settle();
    EXPECT(c, "\xD0\0");
    assert_int_equal(rig.broker.counters.messages_received, 2);
    assert_int_equal(rig.broker.counters.messages_sent, 2);
    assert_int_equal(rig.broker.counters.bytes_sent, 6);
    assert_int_equal(rig.broker.counters.bytes_received, 19);
}

static void takes_a_connect_byte_by_byte(void **unused)
{
    (void)unused;
    static const char packet[] = "\x10\x0F\0\4MQTT\4\2\0\x3C\0\3abc";
    struct client *c = client_open();
    for (size_t i = 0; i < sizeof packet - 1; i++) {
        EXPECT(c, "");
        client_send(c, &packet[i], 1);
        settle();
    }
    EXPECT(c, "\x20\x02\0\0");
    assert_null(c->conn->input); /* between two packets it owns no input memory */
}

static void answers_come_in_order(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    SEND(c, "\xC0\0"
            "\x82\x06\0\1\0\1a\1"
            "\x32\x07\0\1b\0\2xy"
            "\xA2\x05\0\3\0\1a"
            "\xC0\0");
    settle();
    EXPECT(c, "\xD0\0"
              "\x90\x03\0\1\1"
              "\x40\x02\0\2"
              "\xB0\x02\0\3"
              "\xD0\0");
}

/* What a client says, from CONNECT to its last packet, with packets of every size class. */
static size_t script(uint8_t *p)
{
    struct client c = {0}; /* only its input is used */
    fake_transport_init(&c.t);
    send_connect(&c, "script", true);
    SEND(&c, "\x82\x08\0\1\0\3t/#\2");
    send_publish(&c, 0, "t/0", 0, 5);
    send_publish(&c, 2, "t/1", 2, 200);
    send_publish(&c, 4, "t/2", 3, 3000);
    send_publish(&c, 2, "t/3", 4, 5000); /* these are read into blocks of their own */
    SEND(&c, "\xC0\0");
    send_publish(&c, 4, "t/4", 5, 70000);
    send_ack(&c, PKT_PUBREL, 3);
    send_publish(&c, 0, "t/5", 0, 0);
    send_ack(&c, PKT_PUBREL, 5);
    SEND(&c, "\xA2\x07\0\6\0\3t/#\xC0\0");
    size_t n = c.t.in_size;
    memcpy(p, c.t.in, n);
    fake_transport_free(&c.t);
    return n;
}

/* The packets of a stream, whatever their order: acknowledgements and messages may change places in other
 * turns. */
static uint64_t sum_of_packets(const uint8_t *p, size_t n)
{
    uint64_t sum = 0;
    for (size_t at = 0; at < n;) {
        struct packet_frame frame;
        assert_int_equal(packet_frame(p + at, n - at, &frame), 1);
        size_t end = at + frame.header_size + frame.body_size;
        assert_true(end <= n);
        uint64_t hash = 14695981039346656037u;
        for (; at < end; at++) {
            hash = (hash ^ p[at]) * 1099511628211u;
        }
        sum += hash;
    }
    return sum;
}

static void the_pieces_do_not_matter(void **unused)
{
    struct random random = {2024};
    uint8_t *p = malloc(100000);
    size_t n = script(p), size = 0;
    uint64_t sum = 0;
    (void)unused;
    for (int round = 0; round < 40; round++) {
        struct client *c = client_open();
        for (size_t at = 0; at < n;) {
            uint32_t most = round < 10 ? 70000u >> round : 1 + random_below(&random, 9000);
            size_t piece = round == 0 ? n : round == 39 ? 1 : 1 + random_below(&random, most);
            piece = piece > n - at ? n - at : piece;
            client_send(c, p + at, piece);
            at += piece;
            settle();
        }
        size = round == 0 ? c->t.out_size : size;
        sum = round == 0 ? sum_of_packets(c->t.out, c->t.out_size) : sum;
        assert_true(size > 78000);
        assert_int_equal(c->t.out_size, size);
        assert_true(sum_of_packets(c->t.out, size) == sum);
        assert_int_equal(c->conn->state, CONN_UP);
        assert_null(c->conn->input);
        assert_null(c->conn->block.msg);
        client_drop(c);
        client_forget(c);
    }
    free(p);
}

/* The payload of a big PUBLISH is where it was read, all the way to its subscriber. */
static void a_big_publish_is_read_into_its_message(void **unused)
{
    (void)unused;
    for (uint8_t qos = 0; qos < 3; qos++) {
        struct client *from = client_up("from", true), *to = client_up("to", true);
        subscribe(to, "big", qos);
        to->t.write_limit = 0;
        send_publish(from, (uint8_t)(qos << 1), "big", 1, 150000);
        one_turn();
        const struct msg *block = from->conn->block.msg;
        assert_non_null(block);
        settle();
        const struct ring *ring = qos ? &to->conn->session->sent : NULL;
        assert_true(!ring || ring_at(ring, 0)->msg == block);
        assert_true(to->conn->peer.blocked);
        to->t.write_limit = FAKE_NO_LIMIT;
        settle();
        assert_int_equal(to->t.out_size, 150000 + 4 + 5 + (qos ? 2 : 0));
        for (size_t i = 0; i < 150000; i++) {
            assert_int_equal(to->t.out[to->t.out_size - 150000 + i], (uint8_t)i);
        }
        client_drop(from);
        client_drop(to);
    }
}

static void a_big_packet_that_is_no_publish_waits_for_its_end(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    uint8_t *p = malloc(7 * 2000 + 16);
    size_t n = packet_put_header(p, 0x82, 2 + 7 * 2000);
    memcpy(p + n, "\0\1", 2);
    n += 2;
    for (int i = 0; i < 2000; i++) {
        n += (size_t)snprintf((char *)p + n, 16, "%c%c%04d%c", 0, 4, i, 1);
    }
    client_send(c, p, 5000);
    settle();
    assert_non_null(c->conn->block.bytes);
    client_send(c, p + 5000, n - 5000);
    settle();
    assert_int_equal(subs_count(rig.broker.subs), 2000);
    assert_int_equal(c->t.out_size, 3 + 2 + 2000);
    free(p);
}

static void ends_within_a_block(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    fake_transport_give(&c->t, "\x30\xFF\xFF\x03\0\1t", 7);
    settle();
    assert_non_null(c->conn->block.msg);
    client_drop(c);
}

/* ---- packets that end a connection ---- */

static void dies_of(const char *packet, size_t n)
{
    uint64_t errors = rig.broker.counters.protocol_errors;
    struct client *c = client_up("c", true);
    client_send(c, packet, n);
    SEND(c, "\xC0\0"); /* must not be looked at any more */
    settle();
    assert_true(c->t.closed);
    EXPECT(c, "");
    assert_int_equal(rig.broker.counters.protocol_errors, errors + 1);
    assert_int_equal(rig.broker.conn_count, 0);
}

#define DIES_OF(text) dies_of(text, sizeof(text) - 1)

static void forbidden_packets_end_it(void **unused)
{
    (void)unused;
    DIES_OF("\x10\x0D\0\4MQTT\4\2\0\0\0\1c"); /* CONNECT again [MQTT-3.1.0-2] */
    DIES_OF("\x20\x02\0\0");                  /* what only a server sends */
    DIES_OF("\x90\x03\0\1\0");
    DIES_OF("\xB0\x02\0\1");
    DIES_OF("\xD0\0");
    DIES_OF("\0\0"); /* reserved types */
    DIES_OF("\xF0\0");
    DIES_OF("\xC1\0");               /* flags */
    DIES_OF("\xC0\1x");              /* a body where none belongs */
    DIES_OF("\x30\xFF\xFF\xFF\xFF"); /* a fifth length byte */
    DIES_OF("\x30\x02\0\0");         /* no topic */
    DIES_OF("\x36\x05\0\1t\0\1");    /* QoS 3 */
    DIES_OF("\x60\x02\0\1");         /* PUBREL without its flags */
    DIES_OF("\xE1\0");
}

static void the_first_packet_must_be_connect(void **unused)
{
    static const char *const first[] = {"\xC0", "\x30\x05", "GET / HTTP/1.1\r\n\r\n",
                                        "\x16\x03\x01\x02\x03\x01"};
    (void)unused;
    for (int i = 0; i < 4; i++) {
        struct client *c = client_open();
        client_send(c, first[i], strlen(first[i]));
        settle();
        assert_true(c->t.closed);
        EXPECT(c, "");
    }
    assert_int_equal(rig.broker.counters.protocol_errors, 4);
}

static void too_large_packets_end_it_before_they_are_read(void **unused)
{
    (void)unused;
    rig.config.max_packet_size = 100;
    struct client *c = client_up("c", true);
    assert_int_equal(send_publish(c, 0, "t", 0, 95), 100);
    settle();
    assert_false(c->t.closed);
    SEND(c, "\x30\x63"); /* 2 + 99: the head is enough */
    settle();
    assert_true(c->t.closed);
    rig.config.max_packet_size = 0;
    c = client_open();
    SEND(c, "\x10\xFF\xFF\xFF\x7F"); /* a stranger may not make us allocate 256 MB */
    settle();
    assert_true(c->t.closed);
    c = client_up("c", true);
    SEND(c, "\x30\xFF\xFF\xFF\x7F\0\1t"); /* a client may */
    settle();
    assert_false(c->t.closed);
}

/* Large CONNECT packets of strangers share a room: beyond it they are turned away, until others are settled.
 */
static void large_greetings_are_limited(void **unused)
{
    enum { SIZE = 100000, FIT = 8 * 1024 * 1024 / SIZE };
    (void)unused;
    struct client *c[FIT + 1];
    uint64_t held = mem_held();
    uint8_t start[] = {0x10, 0xA0, 0x8D, 0x06, 0, 4, 'M', 'Q', 'T', 'T', 4, 0x42, 0, 60, 0, 1, 'c'};
    for (int i = 0; i <= FIT; i++) {
        c[i] = client_open();
        client_send(c[i], start, sizeof start);
        settle();
        assert_int_equal(c[i]->t.closed, i == FIT);
    }
    assert_in_range(rig.broker.greeting_bytes, FIT * SIZE, 8 * 1024 * 1024);
    assert_in_range(mem_held() - held, FIT * SIZE, 9 * 1024 * 1024); /* in the account of memory too */
    struct client *small = client_up("small", true);                 /* does not need that room */
    c[0]->t.at_end = true;
    settle();
    assert_true(c[0]->t.closed);
    struct client *again = client_open();
    client_send(again, start, sizeof start);
    settle();
    assert_false(again->t.closed);
    for (int i = 1; i < FIT; i++) {
        c[i]->t.at_end = true;
    }
    again->t.at_end = true;
    settle();
    assert_false(small->t.closed);
    assert_int_equal(rig.broker.greeting_bytes, 0);
}

/* A large CONNECT takes its room until it is accepted, whether it came in pieces or whole. */
static void an_accepted_client_needs_no_room_for_its_greeting(void **unused)
{
    (void)unused;
    uint8_t p[5000 + 3] = {0x10, 0x88, 0x27, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0x13, 0x7C};
    memset(p + 15, 'c', sizeof p - 15);
    for (int whole = 0; whole <= 1; whole++) {
        struct client *c = client_open();
        client_send(c, p, 2000);
        if (!whole) {
            settle();
            assert_int_equal(rig.broker.greeting_bytes, 5000);
        }
        client_send(c, p + 2000, sizeof p - 2000);
        settle();
        EXPECT(c, "\x20\2\0\0");
        assert_int_equal(rig.broker.greeting_bytes, 0);
    }
}

/* ---- the end ---- */

static void disconnect_ends_it_after_its_answers(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    SEND(c, "\xC0\0\x32\x05\0\1t\0\1\xE0\0\xC0\0");
    settle();
    EXPECT(c, "\xD0\0\x40\x02\0\1"); /* nothing for what came after DISCONNECT */
    assert_true(c->t.closed);
    assert_int_equal(rig.broker.counters.protocol_errors, 0);
    assert_int_equal(rig.broker.conn_count, 0);
    assert_null(session_find(&rig.broker.sessions, "c"));
}

static void a_last_answer_may_take_a_while_but_not_for_ever(void **unused)
{
    (void)unused;
    for (int taken = 0; taken < 2; taken++) {
        struct client *c = client_up("c", true);
        c->t.write_limit = 0;
        SEND(c, "\xC0\0\xE0\0");
        settle();
        assert_false(c->t.closed);
        assert_false(c->t.reading);
        fake_loop_pass(rig.broker.loop, 4000);
        settle();
        assert_false(c->t.closed);
        if (taken) {
            c->t.write_limit = FAKE_NO_LIMIT;
            settle();
            EXPECT(c, "\xD0\0");
        } else {
            fake_loop_pass(rig.broker.loop, 1000);
            settle();
        }
        assert_true(c->t.closed);
    }
}

static void it_is_gone_at_the_end_of_the_turn(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    uint64_t id = c->conn->id;
    assert_ptr_equal(conn_by_id(&rig.broker, id), c->conn);
    conn_fail(c->conn, "the test wants it");
    assert_null(conn_by_id(&rig.broker, id)); /* nobody finds it from now on */
    assert_true(c->t.closed);
    assert_int_equal(rig.broker.conn_count, 0);
    assert_int_equal(c->conn->state, CONN_DEAD); /* whoever called may still look at it */
    conn_fail(c->conn, "twice");
    assert_int_equal(rig.broker.conn_count, 0);
    assert_ptr_equal(rig.broker.conns[(uint32_t)id], c->conn);
    turn();
    assert_null(rig.broker.conns[(uint32_t)id]);
}

static void identifiers_are_never_used_again(void **unused)
{
    (void)unused;
    uint64_t last = 0;
    for (int i = 0; i < 5; i++) {
        struct client *c = client_up("c", true);
        assert_true(c->conn->id > last);
        assert_null(conn_by_id(&rig.broker, last)); /* whose place it has */
        last = c->conn->id;
        client_drop(c);
        assert_null(conn_by_id(&rig.broker, last));
    }
    assert_null(conn_by_id(&rig.broker, 0));
    assert_null(conn_by_id(&rig.broker, UINT64_MAX));
}

static int failed;

static void fail_it(void *arg, struct conn *conn)
{
    assert_null(arg);
    failed++;
    conn_fail(conn, "all of them");
}

static void all_may_be_ended_at_once(void **unused)
{
    (void)unused;
    char id[2] = "a";
    for (int i = 0; i < 10; i++, id[0]++) {
        client_up(id, true);
    }
    failed = 0;
    conn_each(&rig.broker, fail_it, NULL);
    assert_int_equal(failed, 10);
    conn_each(&rig.broker, fail_it, NULL);
    assert_int_equal(failed, 10); /* the dead do not count */
    settle();
    assert_int_equal(rig.broker.conn_count, 0);
}

static void the_table_grows(void **unused)
{
    enum { MANY = 300 };
    static struct fake_transport many[MANY];
    (void)unused;
    for (int i = 0; i < MANY; i++) {
        fake_transport_init(&many[i]);
        conn_accept(&rig.broker, &many[i].port, 0);
        assert_true(many[i].started);
    }
    assert_int_equal(rig.broker.conn_count, MANY);
    for (int i = 0; i < MANY; i++) {
        struct conn *conn = many[i].port.owner;
        assert_ptr_equal(conn_by_id(&rig.broker, conn->id), conn);
        if (i % 3 == 0) {
            conn_fail(conn, "every third");
        }
    }
    turn();
    assert_int_equal(rig.broker.conn_count, MANY - MANY / 3);
    /* the others end with the broker */
}

static void a_broken_transport_ends_it(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    c->t.read_error = -ECONNRESET;
    settle();
    assert_true(c->t.closed);
    c = client_up("c", true);
    c->t.write_error = -EPIPE;
    SEND(c, "\xC0\0");
    settle();
    assert_true(c->t.closed);
    assert_int_equal(rig.broker.conn_count, 0);
}

/* What it sent before it went counts, also when it was not even read: behind it a DISCONNECT may stand. */
static void what_a_broken_transport_still_has_is_read(void **unused)
{
    (void)unused;
    struct client *watcher = client_up("watcher", true);
    subscribe(watcher, "t", 0);
    for (int disconnects = 0; disconnects <= 1; disconnects++) {
        struct client *c = client_open();
        SEND(c, "\x10\x13\0\4MQTT\4\6\0\x3C\0\1w\0\1t\0\1!");
        settle();
        c->t.read_most = 2;
        c->t.write_error = -EPIPE;
        c->t.read_error = -ECONNRESET;
        SEND(c, "\xC0\0\xC0\0\xC0\0");
        if (disconnects) {
            SEND(c, "\xE0\0");
        }
        while (!c->t.closed) {
            assert_true(one_turn());
            assert_true(c->t.closed || c->conn->out.count == 0); /* answers to nobody are not kept */
        }
        assert_int_equal(c->t.in_size, 0);
        settle();
        if (disconnects) {
            EXPECT(watcher, "");
        } else {
            EXPECT(watcher, "\x30\4\0\1t!");
        }
    }
}

static void a_handshake_may_fail(void **unused)
{
    (void)unused;
    struct client *c = client_new();
    c->t.late = true;
    client_accept(c);
    settle();
    assert_false(c->t.reading);
    c->t.why = "no shared cipher";
    c->t.port.events->ready(c->t.port.owner, -EPROTO);
    settle();
    assert_true(c->t.closed);
    assert_int_equal(rig.broker.counters.connects_refused, 1);
    c = client_new();
    c->t.late = true;
    client_accept(c);
    c->t.port.events->ready(c->t.port.owner, -ECONNABORTED); /* a web page was served: no news */
    settle();
    assert_true(c->t.closed);
    assert_int_equal(rig.broker.counters.connects_refused, 1);
    assert_int_equal(rig.broker.conn_count, 0);
}

static void connections_are_limited(void **unused)
{
    (void)unused;
    rig.listener.max_connections = 2;
    struct client *a = client_open(), *b = client_open(), *c = client_open();
    assert_true(a->t.started && b->t.started);
    assert_true(c->t.closed && !c->t.started);
    assert_int_equal(rig.broker.counters.connects_refused, 1);
    client_drop(a);
    assert_int_equal(rig.door.connections, 1);
    rig.config.global_max_connections = 2;
    rig.listener.max_connections = -1;
    assert_true(client_open()->t.started);
    assert_true(client_open()->t.closed);
}

/* ---- the clock ---- */

static void connect_must_come_in_time(void **unused)
{
    (void)unused;
    struct client *c = client_open();
    SEND(c, "\x10\x0F\0\4MQ");
    settle();
    fake_loop_pass(rig.broker.loop, 9999);
    assert_false(c->t.closed);
    fake_loop_pass(rig.broker.loop, 1);
    assert_true(c->t.closed);
}

static void keep_alive_is_one_and_a_half_times_what_was_said(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true); /* 60 seconds */
    fake_loop_pass(rig.broker.loop, 80000);
    SEND(c, "\xC0\0");
    settle();
    fake_loop_pass(rig.broker.loop, 89999);
    assert_false(c->t.closed);
    fake_loop_pass(rig.broker.loop, 1); /* [MQTT-3.1.2-24] */
    assert_true(c->t.closed);
}

static void bytes_that_are_no_packet_do_not_keep_alive(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true); /* 60 seconds */
    SEND(c, "\x30\x05\0");
    settle();
    fake_loop_pass(rig.broker.loop, 80000);
    SEND(c, "\1");
    settle();
    fake_loop_pass(rig.broker.loop, 9999);
    assert_false(c->t.closed);
    fake_loop_pass(rig.broker.loop, 1);
    assert_true(c->t.closed);
}

static void a_big_packet_may_take_longer_than_the_keep_alive(void **unused)
{
    (void)unused;
    static const uint8_t part[4096];
    struct client *c = client_up("c", true); /* 60 seconds */
    SEND(c, "\x30\xA0\x8D\6\0\1t");          /* 100000 bytes */
    for (int i = 0; i < 10; i++) {
        settle();
        fake_loop_pass(rig.broker.loop, 80000);
        assert_false(c->t.closed);
        client_send(c, part, sizeof part);
    }
    for (int i = 0; i < 2; i++) { /* less than that is not enough */
        settle();
        fake_loop_pass(rig.broker.loop, 80000);
        client_send(c, part, 100);
    }
    assert_true(c->t.closed);
}

static void without_keep_alive_silence_is_allowed(void **unused)
{
    (void)unused;
    struct client *c = client_open();
    SEND(c, "\x10\x0D\0\4MQTT\4\2\0\0\0\1c");
    settle();
    fake_loop_pass(rig.broker.loop, 1000000000);
    assert_false(c->t.closed);
}

static void keep_alive_does_not_count_while_it_is_paused(void **unused)
{
    (void)unused;
    struct client *c = client_up("c", true);
    c->conn->peer.ops->pause(&c->conn->peer, true);
    assert_false(c->t.reading);
    SEND(c, "\xC0\0");
    fake_loop_pass(rig.broker.loop, 500000);
    settle();
    assert_false(c->t.closed);
    EXPECT(c, "");
    c->conn->peer.ops->pause(&c->conn->peer, false);
    settle();
    EXPECT(c, "\xD0\0");
    fake_loop_pass(rig.broker.loop, 89000);
    assert_false(c->t.closed);
    fake_loop_pass(rig.broker.loop, 200000);
    assert_true(c->t.closed);
}

/* ---- output ---- */

static void many_messages_are_one_write(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 0);
    int before = to->t.writes;
    for (int i = 0; i < 100; i++) {
        send_publish(from, 0, "t", 0, 10);
    }
    settle();
    assert_int_equal(to->t.out_size, 100 * 15);
    assert_int_equal(to->t.writes, before + 1);
    assert_int_equal(rig.broker.counters.publish_sent, 100);
    assert_int_equal(rig.broker.counters.publish_bytes_sent, 1000);
}

static void a_blocked_socket_goes_on_where_it_stopped(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 1);
    to->t.write_limit = 7;
    for (uint16_t i = 1; i <= 5; i++) {
        send_publish(from, 2, "t", i, 1);
    }
    settle();
    assert_true(to->conn->peer.blocked);
    assert_true(to->t.wants_write);
    for (int i = 0; i < 60; i++) {
        to->t.write_limit = 1;
        settle();
    }
    EXPECT(to,
           "\x32\x06\0\1t\0\1\0\x32\x06\0\1t\0\2\0\x32\x06\0\1t\0\3\0\x32\x06\0\1t\0\4\0\x32\x06\0\1t\0\5\0");
    assert_null(to->conn->out.rest);
}

static void a_slow_reader_loses_and_holds_nobody_back(void **unused)
{
    (void)unused;
    rig.config.max_queued_messages = 50;
    limits_changed();
    struct client *from = client_up("from", true), *slow = client_up("slow", true),
                  *quick = client_up("quick", true);
    subscribe(slow, "t", 0);
    subscribe(quick, "t", 0);
    slow->t.write_limit = 0;
    send_publish(from, 0, "t", 0, 1);
    settle();
    for (int i = 0; i < 200; i++) {
        send_publish(from, 0, "t", 0, 1);
    }
    settle();
    assert_int_equal(quick->t.out_size, 201 * 6);
    assert_int_equal(slow->conn->session->dropped, 150);
    assert_int_equal(rig.broker.sessions.dropped, 150);
    slow->t.write_limit = FAKE_NO_LIMIT;
    settle();
    assert_int_equal(slow->t.out_size, 51 * 6);
}

/* More than one connection's share of a turn: the rest comes in the next ones, without anybody waking it. */
static void output_goes_on_in_the_next_turn(void **unused)
{
    (void)unused;
    rig.config.max_queued_messages = 0;
    rig.config.max_inflight_messages = 0;
    limits_changed();
    struct client *c = client_up("c", false);
    subscribe(c, "t", 1);
    struct client *from = client_up("from", true);
    client_drop(c);
    for (uint16_t i = 1; i <= 2000; i++) {
        send_publish(from, 2, "t", i, 1000);
    }
    settle();
    c = client_open();
    send_connect(c, "c", false);
    one_turn();
    assert_in_range(c->t.out_size, 100000, 5 * WINDOW_SIZE);
    settle();
    assert_int_equal(c->t.out_size, 4 + 2000 * 1008);
}

/* QoS 0 from more publishers than its share of a turn has room for: while its socket takes all, it loses
 * nothing, and no more waits at the end of a turn than the limit allows. */
static void publishers_do_not_outrun_a_socket_that_takes_all(void **unused)
{
    (void)unused;
    rig.config.max_queued_messages = 50;
    limits_changed();
    struct client *c = client_up("c", true), *from[10];
    subscribe(c, "t", 0);
    for (int i = 0; i < 10; i++) {
        from[i] = client_up((char[]){'f', (char)('0' + i), 0}, true);
    }
    for (int i = 0; i < 10 * 200; i++) {
        send_publish(from[i % 10], 0, "t", 0, 1200);
    }
    while (one_turn()) {
        assert_in_range(c->conn->session->queue0.count, 0, 50);
    }
    assert_int_equal(c->t.out_size, 10 * 200 * 1206);
    assert_int_equal(c->conn->session->dropped, 0);
}

static void large_answers_go_on_in_the_next_turn(void **unused)
{
    enum { FILTERS = 50000, PACKETS = 8 };
    (void)unused;
    struct client *c = client_up("c", true);
    uint8_t *p = malloc(4 * FILTERS + 16);
    size_t n = packet_put_header(p, 0x82, 2 + 4 * FILTERS);
    memcpy(p + n, "\0\1", 2);
    n += 2;
    for (int i = 0; i < FILTERS; i++, n += 4) {
        memcpy(p + n, "\0\1t", 4);
    }
    c->t.write_limit = 0;
    for (int i = 0; i < PACKETS; i++) {
        client_send(c, p, n);
    }
    settle();
    c->t.write_limit = FAKE_NO_LIMIT;
    settle();
    assert_int_equal(c->t.out_size, PACKETS * (FILTERS + 6));
    free(p);
}

/* A client that asks and never reads must not make the broker grow. */
static void answers_that_nobody_takes_are_limited(void **unused)
{
    enum { MANY = 200000 };
    (void)unused;
    struct client *c = client_up("c", true);
    uint8_t *pings = malloc(2 * MANY);
    for (int i = 0; i < MANY; i++) {
        memcpy(pings + 2 * i, "\xC0\0", 2);
    }
    c->t.write_limit = 0;
    client_send(c, pings, 2 * MANY);
    settle();
    assert_true(c->conn->out.count < 70000); /* what one read can hold, and a bit */
    assert_true(c->t.in_size > 0);
    c->t.write_limit = FAKE_NO_LIMIT;
    settle();
    assert_int_equal(c->t.out_size, 2 * MANY); /* and all are answered when it reads */
    assert_int_equal(c->t.in_size, 0);
    assert_null(c->conn->out.v);
    free(pings);
}

/* ---- input that waits ---- */

static void a_full_turn_lets_the_input_rest(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 0);
    rig.broker.turn_offers = TURN_OFFERS - 2;
    for (int i = 0; i < 10; i++) {
        send_publish(from, 0, "t", 0, 1);
    }
    from->t.port.events->readable(from->conn);
    assert_int_equal(rig.broker.counters.publish_received, 2);
    assert_true(from->conn->input_rests);
    assert_false(from->t.reading);
    from->t.port.events->readable(from->conn); /* a transport may be late */
    assert_int_equal(rig.broker.counters.publish_received, 2);
    settle();
    assert_int_equal(rig.broker.counters.publish_received, 10);
    assert_int_equal(to->t.out_size, 60);
    assert_false(from->conn->input_rests);
    assert_true(from->t.reading);
    assert_null(from->conn->input);
}

/* A topic that a great many filters match costs the others no more than any: after each such match come they.
 */
static void a_dear_match_is_a_full_turn(void **unused)
{
    (void)unused;
    enum { LEVELS = 12, FILTERS = 1 << LEVELS };
    struct client *to = client_up("to", true), *from = client_up("from", true);
    for (unsigned mix = 0; mix < FILTERS; mix++) { /* a/a/a, a/a/+, a/+/a, a/+/+... */
        char filter[2 * LEVELS];
        for (int i = 0; i < LEVELS; i++) {
            filter[2 * i] = mix >> i & 1 ? '+' : 'a';
            filter[2 * i + 1] = '/';
        }
        assert_int_equal(subs_add(rig.broker.subs, to->conn->session, slice_of(filter, 2 * LEVELS - 1), 0),
                         1);
    }
    for (int i = 0; i < 10; i++) {
        send_publish(from, 0, "a/a/a/a/a/a/a/a/a/a/a/a", 0, 1);
    }
    from->t.port.events->readable(from->conn);
    assert_in_range(rig.broker.turn_visits, TURN_VISITS, TURN_VISITS + 4 * FILTERS);
    assert_in_range(rig.broker.counters.publish_received, 1, 9);
    settle();
    assert_int_equal(rig.broker.counters.publish_received, 10);
    assert_int_equal(to->t.out_size, 10 * 28);
}

/* Those whose turn never comes while others, whose packets are dear, are always ready before them. */
static void a_full_turn_is_followed_by_one_for_those_who_came_late(void **unused)
{
    (void)unused;
    struct client *dear = client_up("dear", true), *whole = client_up("whole", true);
    struct client *piece = client_up("piece", true), *big = client_up("big", true);
    SEND(piece, "\xC0");                /* the first half of a packet is read */
    SEND(big, "\x32\x87\x40\0\1t\0\1"); /* and the start of a big one */
    settle();
    uint8_t *rest = calloc(1, 8194);
    SEND(whole, "\xC0\0");
    SEND(piece, "\0");
    client_send(big, rest, 8194);
    free(rest);
    for (int i = 0; i < 5; i++) {
        SEND(dear, "\xC0\0");
        dear->t.port.events->readable(dear->conn);
        rig.broker.turn_visits = TURN_VISITS; /* that was dear */
        for (int k = 1; k < rig.client_count; k++) {
            if (readable(rig.clients[k])) {
                rig.clients[k]->t.port.events->readable(rig.clients[k]->conn);
            }
        }
        turn();
    }
    EXPECT(whole, "\xD0\0");
    EXPECT(piece, "\xD0\0");
    EXPECT(big, "\x40\2\0\1");
    assert_true(whole->t.reading && piece->t.reading && big->t.reading);
}

static void the_start_of_a_big_packet_may_rest_too(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 0);
    rig.broker.turn_offers = TURN_OFFERS - 1;
    send_publish(from, 0, "t", 0, 1);
    send_publish(from, 0, "t", 0, 10000);
    from->t.read_most = 2000;
    from->t.port.events->readable(from->conn);
    assert_true(from->conn->input_rests);
    settle();
    assert_int_equal(to->t.out_size, 6 + 10000 + 6);
    assert_null(from->conn->input);
}

/* What is left when the rest was parsed may be the start of a packet again, in the middle of what was kept.
 */
static void a_part_of_what_rested_may_wait_for_its_end(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 0);
    rig.broker.turn_offers = TURN_OFFERS - 1;
    SEND(from, "\x30\x04\0\1ta\x30\x04\0\1tb\x30\x05\0");
    settle();
    EXPECT(to, "\x30\x04\0\1ta\x30\x04\0\1tb");
    assert_int_equal(from->conn->input_size - from->conn->input_at, 3);
    SEND(from, "\1tcc\x30\x04\0\1td");
    settle();
    EXPECT(to, "\x30\x05\0\1tcc\x30\x04\0\1td");
    assert_null(from->conn->input);
}

static void it_may_end_while_its_input_rests(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 0);
    rig.broker.turn_offers = TURN_OFFERS - 1;
    send_publish(from, 0, "t", 0, 1);
    send_publish(from, 0, "t", 0, 1);
    from->t.port.events->readable(from->conn);
    assert_true(from->conn->resume.scheduled);
    conn_fail(from->conn, "in the meantime");
    settle();
    assert_int_equal(rig.broker.conn_count, 1);
    assert_int_equal(to->t.out_size, 6);
}

static void it_may_be_paused_while_its_input_rests(void **unused)
{
    (void)unused;
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 0);
    rig.broker.turn_offers = TURN_OFFERS - 1;
    send_publish(from, 0, "t", 0, 1);
    send_publish(from, 0, "t", 0, 1);
    from->t.port.events->readable(from->conn);
    from->conn->peer.ops->pause(&from->conn->peer, true);
    settle();
    assert_int_equal(to->t.out_size, 6);
    from->conn->peer.ops->pause(&from->conn->peer, false);
    settle();
    assert_int_equal(to->t.out_size, 12);
}

/* Acknowledges the QoS 1 messages of one payload byte on a topic of one letter that came. */
static int acknowledge_all(struct client *c)
{
    int n = 0;
    for (size_t at = 0; at + 8 <= c->t.out_size; at += 8, n++) {
        send_ack(c, PKT_PUBACK, packet_get_u16(c->t.out + at + 5));
    }
    c->t.out_size = 0;
    return n;
}

/* A publisher that is faster than a subscriber waits for it, as long as that one acknowledges. */
static void a_publisher_waits_for_a_subscriber_that_reads(void **unused)
{
    (void)unused;
    rig.config.max_queued_messages = 10;
    limits_changed();
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 1);
    for (uint16_t i = 1; i <= 100; i++) {
        send_publish(from, 2, "t", i, 1);
    }
    from->t.port.events->readable(from->conn);
    assert_int_equal(rig.broker.counters.publish_received, 6); /* the queue is more than half full */
    assert_true(from->conn->input_rests);
    assert_false(from->t.reading);
    settle();
    assert_int_equal(rig.broker.counters.publish_received, 6); /* not before its time */
    int acked = 0;
    for (int i = 0; i < 200; i++) {
        acked += acknowledge_all(to);
        fake_loop_pass(rig.broker.loop, 1);
        settle();
    }
    assert_int_equal(acked, 100);
    assert_int_equal(rig.broker.sessions.dropped, 0);
    assert_int_equal(from->t.out_size, 100 * 4);
    assert_true(from->t.reading);
}

/* But one that does not acknowledge holds nobody up: it loses. */
static void a_publisher_does_not_wait_for_a_subscriber_that_does_not(void **unused)
{
    (void)unused;
    rig.config.max_queued_messages = 10;
    limits_changed();
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 1);
    for (uint16_t i = 1; i <= 300; i++) {
        send_publish(from, 2, "t", i, 1);
    }
    settle();
    fake_loop_pass(rig.broker.loop, 100);
    settle();
    assert_int_equal(from->t.out_size, 300 * 4);
    assert_int_equal(to->conn->session->inflight, 20);
    assert_int_equal(rig.broker.sessions.dropped, 300 - 20 - 10);
}

static void it_may_end_while_it_waits_for_a_subscriber(void **unused)
{
    (void)unused;
    rig.config.max_queued_messages = 10;
    limits_changed();
    struct client *from = client_up("from", true), *to = client_up("to", true);
    subscribe(to, "t", 1);
    for (uint16_t i = 1; i <= 100; i++) {
        send_publish(from, 2, "t", i, 1);
    }
    one_turn();
    assert_true(from->conn->input_rests);
    uint32_t slot = (uint32_t)from->conn->id;
    conn_fail(from->conn, "in the meantime");
    settle();
    fake_loop_pass(rig.broker.loop, 100);
    settle();
    assert_int_equal(rig.broker.conn_count, 1);
    assert_null(rig.broker.conns[slot]); /* its memory as well */
    assert_int_equal(rig.broker.counters.publish_received, 6);
}

/* ---- the end of the broker ---- */

static void the_broker_ends_with_everybody_there(void **unused)
{
    (void)unused;
    struct client *a = client_up("a", false), *b = client_up("b", true);
    subscribe(a, "#", 2);
    subscribe(b, "#", 2);
    b->t.write_limit = 3;
    send_publish(a, 4 | 1, "t", 1, 10000);
    settle();
    SEND(a, "\x32\xFF\xFF\x03\0\1t"); /* in the middle of a big packet */
    settle();
    client_open();
    settle();
    /* teardown frees the broker and sees that nothing is left */
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(connects_and_answers),
        T(takes_a_connect_byte_by_byte),
        T(answers_come_in_order),
        T(the_pieces_do_not_matter),
        T(a_big_publish_is_read_into_its_message),
        T(a_big_packet_that_is_no_publish_waits_for_its_end),
        T(ends_within_a_block),
        T(forbidden_packets_end_it),
        T(the_first_packet_must_be_connect),
        T(too_large_packets_end_it_before_they_are_read),
        T(large_greetings_are_limited),
        T(an_accepted_client_needs_no_room_for_its_greeting),
        T(disconnect_ends_it_after_its_answers),
        T(a_last_answer_may_take_a_while_but_not_for_ever),
        T(it_is_gone_at_the_end_of_the_turn),
        T(identifiers_are_never_used_again),
        T(all_may_be_ended_at_once),
        T(the_table_grows),
        T(a_broken_transport_ends_it),
        T(what_a_broken_transport_still_has_is_read),
        T(a_handshake_may_fail),
        T(connections_are_limited),
        T(connect_must_come_in_time),
        T(keep_alive_is_one_and_a_half_times_what_was_said),
        T(bytes_that_are_no_packet_do_not_keep_alive),
        T(a_big_packet_may_take_longer_than_the_keep_alive),
        T(without_keep_alive_silence_is_allowed),
        T(keep_alive_does_not_count_while_it_is_paused),
        T(many_messages_are_one_write),
        T(a_blocked_socket_goes_on_where_it_stopped),
        T(a_slow_reader_loses_and_holds_nobody_back),
        T(output_goes_on_in_the_next_turn),
        T(publishers_do_not_outrun_a_socket_that_takes_all),
        T(large_answers_go_on_in_the_next_turn),
        T(answers_that_nobody_takes_are_limited),
        T(a_full_turn_lets_the_input_rest),
        T(a_dear_match_is_a_full_turn),
        T(a_full_turn_is_followed_by_one_for_those_who_came_late),
        T(the_start_of_a_big_packet_may_rest_too),
        T(a_part_of_what_rested_may_wait_for_its_end),
        T(it_may_end_while_its_input_rests),
        T(it_may_be_paused_while_its_input_rests),
        T(a_publisher_waits_for_a_subscriber_that_reads),
        T(a_publisher_does_not_wait_for_a_subscriber_that_does_not),
        T(it_may_end_while_it_waits_for_a_subscriber),
        T(the_broker_ends_with_everybody_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
