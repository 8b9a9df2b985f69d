/*
 * test_transport_ws.c - MQTT's byte stream over WebSocket: handshake, frames, flow control, every way to end.
 */
#include "test/unit/ws/rig.h"

static struct rig rig;
static struct client client;
static struct owner owner;

static int set_up(void **state)
{
    (void)state;
    memset(&owner, 0, sizeof owner);
    memset(&client, 0, sizeof client);
    client.fd = -1;
    rig_open(&rig, NULL, RIG_HANDSHAKE_MS);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    client_close(&client);
    owner_free(&owner);
    rig_close(&rig);
    return 0;
}

static void fill(unsigned char *buf, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf[i] = (unsigned char)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

/* --- handshake --- */

static void test_upgrade(void **state)
{
    char *head;

    (void)state;
    rig_connect(&rig, &client, &owner);
    assert_int_equal(owner.readies, 0);
    client_say(&rig, &client, UPGRADE);
    head = client_head(&rig, &client);
    assert_true(has(head, "HTTP/1.1 101 "));
    /* the example of RFC 6455, section 1.3 */
    assert_true(has(head, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_true(has(head, "Sec-WebSocket-Protocol: mqtt\r\n"));
    assert_false(has(head, "Sec-WebSocket-Extensions"));
    free(head);
    WAIT_FOR(&rig, owner.readies > 0);
    rig_step_ms(&rig, 5);
    assert_int_equal(owner.readies, 1);
    assert_int_equal(owner.error, 0);
    assert_null(owner.t->ops->why(owner.t));
}

static void test_peer_comes_from_below(void **state)
{
    struct principal *who = principal_new();

    (void)state;
    rig_upgrade(&rig, &client, &owner);
    owner.t->ops->peer(owner.t, who);
    assert_string_equal(who->address, "127.0.0.1");
    assert_int_equal(who->port, 4711);
    assert_true(owner.t->ops->fd(owner.t) > 0);
    principal_unref(who);
}

static void try_handshake(const char *request, const char *status, bool accepted)
{
    struct client c;
    struct owner o = {0};
    char *head;

    rig_connect(&rig, &c, &o);
    client_say(&rig, &c, request);
    head = client_head(&rig, &c);
    if (!has(head, status))
        fail_msg("%s answered by %s", request, head);
    free(head);
    WAIT_FOR(&rig, o.readies > 0);
    assert_int_equal(o.readies, 1);
    assert_true(accepted ? o.error == 0 : o.error < 0);
    if (!accepted)
        WAIT_END(&rig, &c);
    owner_free(&o);
    client_close(&c);
}

#define WITH_PROTOCOL(list) REQUEST_LINE UPGRADE_LINES "Sec-WebSocket-Protocol: " list "\r\n\r\n"

static void test_sub_protocol(void **state)
{
    (void)state;
    try_handshake(WITH_PROTOCOL("mqttv3.1"), "Sec-WebSocket-Protocol: mqttv3.1\r\n", true);
    try_handshake(WITH_PROTOCOL("chat, mqtt"), "Sec-WebSocket-Protocol: mqtt\r\n", true);
    try_handshake(WITH_PROTOCOL("mqtt,chat"), "Sec-WebSocket-Protocol: mqtt\r\n", true);
    try_handshake(WITH_PROTOCOL("chat"), "HTTP/1.1 400 ", false);
    try_handshake(WITH_PROTOCOL("MQTT"), "HTTP/1.1 400 ", false);
    try_handshake(WITH_PROTOCOL("mqtt2"), "HTTP/1.1 400 ", false);
    try_handshake(WITH_PROTOCOL("(http)"), "HTTP/1.1 400 ", false);
    try_handshake(REQUEST_LINE UPGRADE_LINES "\r\n", "HTTP/1.1 400 ", false);
}

static void test_any_path(void **state)
{
    (void)state;
    try_handshake("GET / HTTP/1.1\r\nHost: h\r\n" UPGRADE_LINES MQTT_LINE "\r\n", "HTTP/1.1 101 ", true);
    try_handshake("GET /a/b?c=d HTTP/1.1\r\nHost: h\r\n" UPGRADE_LINES MQTT_LINE "\r\n", "HTTP/1.1 101 ",
                  true);
}

static void test_bad_upgrades(void **state)
{
    (void)state;
    try_handshake(REQUEST_LINE "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n"
                               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" MQTT_LINE "\r\n",
                  "HTTP/1.1 426 ", false);
    try_handshake(REQUEST_LINE "Upgrade: websocket\r\nConnection: keep-alive\r\nSec-WebSocket-Version: 13\r\n"
                               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" MQTT_LINE "\r\n",
                  "HTTP/1.1 400 ", false);
    try_handshake(REQUEST_LINE
                  "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" MQTT_LINE "\r\n",
                  "HTTP/1.1 101 ", true);
    try_handshake(REQUEST_LINE "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" MQTT_LINE "\r\n",
                  "HTTP/1.1 400 ", false);
    try_handshake(REQUEST_LINE
                  "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" MQTT_LINE
                  "\r\n",
                  "HTTP/1.1 400 ", false);
    try_handshake("GET / HTTP/1.1\r\n" UPGRADE_LINES MQTT_LINE "\r\n", "HTTP/1.1 400 ", false);
    try_handshake("POST / HTTP/1.1\r\nHost: h\r\n" UPGRADE_LINES MQTT_LINE "\r\n", "HTTP/1.1 405 ", false);
}

static void test_origin(void **state)
{
    char one[] = "https://panel.example", two[] = "http://localhost:8080";
    char *origins[] = {one, two};
    struct config_listener listener = {.websockets_origin = origins, .websockets_origins = 2};

    (void)state;
    rig_close(&rig);
    rig_open(&rig, &listener, RIG_HANDSHAKE_MS);
#define WITH_ORIGIN(o) REQUEST_LINE UPGRADE_LINES MQTT_LINE "Origin: " o "\r\n\r\n"
    try_handshake(WITH_ORIGIN("https://panel.example"), "HTTP/1.1 101 ", true);
    try_handshake(WITH_ORIGIN("http://LocalHost:8080"), "HTTP/1.1 101 ", true);
    try_handshake(WITH_ORIGIN("https://panel.example.org"), "HTTP/1.1 403 ", false);
    try_handshake(WITH_ORIGIN("http://panel.example"), "HTTP/1.1 403 ", false);
    try_handshake(WITH_ORIGIN("null"), "HTTP/1.1 403 ", false);
    try_handshake(UPGRADE, "HTTP/1.1 403 ", false);
}

/* What is no HTTP at all, and the one method by which libwebsockets would leave HTTP. */
static void test_garbage(void **state)
{
    static const char *const requests[] = {
        "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
        "CONNECT host:80 HTTP/1.1\r\nHost: host\r\n\r\n",
        "BREW /pot HTTP/1.1\r\n\r\n",
        "GET /%zz HTTP/1.1\r\n\r\n",
        "\r\n\r\n\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct client c;
        struct owner o = {0};
        rig_connect(&rig, &c, &o);
        client_say(&rig, &c, requests[i]);
        rig_step_ms(&rig, 5);
        shutdown(c.fd, SHUT_WR);
        WAIT_FOR(&rig, o.readies > 0);
        assert_true(o.error < 0);
        WAIT_END(&rig, &c);
        owner_free(&o);
        client_close(&c);
    }
}

static void test_handshake_deadline(void **state)
{
    struct client other;
    struct owner o = {0};

    (void)state;
    rig_close(&rig);
    rig_open(&rig, NULL, 60);
    rig_connect(&rig, &client, &owner);
    rig_connect(&rig, &other, &o);
    client_say(&rig, &other, REQUEST_LINE "X-Slow: ");
    WAIT_FOR(&rig, owner.readies > 0 && o.readies > 0);
    assert_int_equal(owner.error, -ETIMEDOUT);
    assert_int_equal(o.error, -ETIMEDOUT);
    assert_true(has(owner.t->ops->why(owner.t), "60 ms"));
    WAIT_END(&rig, &client);
    WAIT_END(&rig, &other);
    owner_free(&o);
    client_close(&other);
}

/* The deadline is for the handshake only. */
static void test_no_deadline_when_open(void **state)
{
    (void)state;
    rig_close(&rig);
    rig_open(&rig, NULL, 60);
    rig_upgrade(&rig, &client, &owner);
    rig_step_ms(&rig, 150);
    client_frame(&rig, &client, F_FIN | F_BIN, "alive", 5);
    WAIT_FOR(&rig, owner.len == 5);
    assert_false(owner.ended);
}

static void test_large_header(void **state)
{
    char line[1024];
    char *head;

    (void)state;
    memset(line, 'x', sizeof line);
    memcpy(line, "X-Fill: ", 8);
    memcpy(line + sizeof line - 3, "\r\n", 3);
    rig_connect(&rig, &client, &owner);
    client_say(&rig, &client, REQUEST_LINE);
    for (int i = 0; i < 8; i++)
        client_say(&rig, &client, line);
    head = client_head(&rig, &client);
    assert_true(has(head, "HTTP/1.1 431 "));
    free(head);
    WAIT_FOR(&rig, owner.readies > 0);
    assert_int_equal(owner.error, -EMSGSIZE);
    assert_true(has(owner.t->ops->why(owner.t), "websockets_headers_size"));
}

static void test_headers_size(void **state)
{
    struct config_listener listener = {.websockets_headers_size = 20000};
    char line[16000];
    char *head;

    (void)state;
    rig_close(&rig);
    rig_open(&rig, &listener, RIG_HANDSHAKE_MS);
    memset(line, 'x', sizeof line);
    memcpy(line, "Cookie: ", 8);
    memcpy(line + sizeof line - 3, "\r\n", 3);
    rig_connect(&rig, &client, &owner);
    client_say(&rig, &client, REQUEST_LINE UPGRADE_LINES);
    client_say(&rig, &client, line);
    client_say(&rig, &client, MQTT_LINE "\r\n");
    head = client_head(&rig, &client);
    assert_true(has(head, "HTTP/1.1 101 "));
    free(head);
}

/* --- receiving --- */

static void test_merged_and_split(void **state)
{
    (void)state;
    rig_upgrade(&rig, &client, &owner);
    client_frame(&rig, &client, F_FIN | F_BIN, "abcdefgh", 8); /* packets merged in a frame */
    client_frame(&rig, &client, F_FIN | F_BIN, "ij", 2);       /* a packet over three frames */
    client_frame(&rig, &client, F_FIN | F_BIN, "", 0);
    client_frame(&rig, &client, F_FIN | F_BIN, "kl", 2);
    client_frame(&rig, &client, F_BIN, "mn", 2); /* a message in fragments */
    client_frame(&rig, &client, F_CONT, "op", 2);
    client_frame(&rig, &client, F_FIN | F_PING, "now", 3); /* control frames may come between them */
    client_frame(&rig, &client, F_FIN | F_CONT, "qr", 2);
    WAIT_FOR(&rig, owner.len == 18);
    assert_memory_equal(owner.in, "abcdefghijklmnopqr", 18);
    assert_false(owner.ended);
}

static void test_byte_by_byte(void **state)
{
    static const char text[] = "one byte at a time";
    unsigned char buf[64];
    size_t n = frame_make(buf, F_FIN | F_BIN, text, sizeof text);

    (void)state;
    rig_connect(&rig, &client, &owner);
    for (const char *at = UPGRADE; *at; at++) {
        client_send(&rig, &client, at, 1);
        rig_step(&rig);
    }
    free(client_head(&rig, &client));
    for (size_t i = 0; i < n; i++) {
        client_send(&rig, &client, buf + i, 1);
        rig_step(&rig);
    }
    WAIT_FOR(&rig, owner.len == sizeof text);
    assert_memory_equal(owner.in, text, sizeof text);
}

/* mqtt.js sends CONNECT as soon as it may; a proxy may merge it with the request. */
static void test_frames_behind_the_request(void **state)
{
    unsigned char buf[1024];
    size_t n = strlen(UPGRADE);

    (void)state;
    memcpy(buf, UPGRADE, n);
    n += frame_make(buf + n, F_FIN | F_BIN, "first", 5);
    n += frame_make(buf + n, F_FIN | F_BIN, "second", 6);
    rig_connect(&rig, &client, &owner);
    client_send(&rig, &client, buf, n);
    WAIT_FOR(&rig, owner.len == 11);
    assert_memory_equal(owner.in, "firstsecond", 11);
    assert_int_equal(owner.readies, 1);
}

/* libwebsockets puts its answer together in the buffer that it reads into: what stands there must not be
 * frames. */
static void test_long_frames_behind_the_request(void **state)
{
    static unsigned char buf[4000], payload[3000];
    size_t n = strlen(UPGRADE);

    (void)state;
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (unsigned char)(i * 7 + 1);
    memcpy(buf, UPGRADE, n);
    n += frame_make(buf + n, F_FIN | F_BIN, payload, sizeof payload);
    for (size_t first = strlen(UPGRADE) - 1; first <= n; first += n - first > 1 ? n - first : 1) {
        struct owner another = {0};
        rig_connect(&rig, &client, &another);
        client_send(&rig, &client, buf, first); /* all but the last byte of the request, then all */
        rig_step(&rig);
        client_send(&rig, &client, buf + first, n - first);
        WAIT_FOR(&rig, another.len == sizeof payload);
        assert_memory_equal(another.in, payload, sizeof payload);
        assert_int_equal(another.readies, 1);
        owner_free(&another);
        client_close(&client);
    }
}

static void test_text_frame(void **state)
{
    struct frame frame = {0};

    (void)state;
    rig_upgrade(&rig, &client, &owner);
    client_frame(&rig, &client, F_FIN | F_BIN, "ok", 2);
    client_frame(&rig, &client, F_FIN | F_TEXT, "no", 2);
    WAIT_FOR(&rig, owner.ended);
    assert_int_equal(owner.len, 2); /* what came before counts */
    assert_int_equal(owner.end, -EPROTO);
    assert_true(has(owner.t->ops->why(owner.t), "[MQTT-6.0.0-1]"));
    assert_int_equal(owner_write(&owner, "x", 1), -EPROTO);
    WAIT_FRAME(&rig, &client, &frame);
    assert_int_equal(frame.first, F_FIN | F_CLOSE);
    assert_int_equal(frame.payload[0] << 8 | frame.payload[1], 1003);
    owner_close(&owner);
    client_frame(&rig, &client, F_FIN | F_CLOSE, "\x03\xeb", 2);
    WAIT_END(&rig, &client);
}

static void test_empty_text_frame(void **state)
{
    (void)state;
    rig_upgrade(&rig, &client, &owner);
    client_frame(&rig, &client, F_FIN | F_TEXT, "", 0);
    WAIT_FOR(&rig, owner.ended);
    assert_int_equal(owner.end, -EPROTO);
}

static void test_protocol_errors(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } bad[] = {
        {"\x83\x80\x00\x00\x00\x00", 6}, /* reserved opcode */
        {"\xc2\x80\x00\x00\x00\x00", 6}, /* a compressed frame that was not agreed on */
        {"\x80\x80\x00\x00\x00\x00", 6}, /* continues nothing */
        {"\x09\x80\x00\x00\x00\x00", 6}, /* a ping in fragments */
        {"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", 14}, /* 2^63 bytes and more */
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct client c;
        struct owner o = {0};
        rig_upgrade(&rig, &c, &o);
        client_send(&rig, &c, bad[i].bytes, bad[i].n);
        WAIT_FOR(&rig, o.ended);
        assert_int_equal(o.end, -EPROTO);
        assert_non_null(o.t->ops->why(o.t));
        owner_free(&o);
        client_close(&c);
    }
}

static void test_ping(void **state)
{
    struct frame frame = {0};

    (void)state;
    rig_upgrade(&rig, &client, &owner);
    client_frame(&rig, &client, F_FIN | F_PING, "are you there", 13);
    WAIT_FRAME(&rig, &client, &frame);
    assert_int_equal(frame.first, F_FIN | F_PONG);
    assert_int_equal(frame.n, 13);
    assert_memory_equal(frame.payload, "are you there", 13);
    client_drop(&client, frame.size);
    /* also while the owner does not want to read */
    owner.t->ops->want_read(owner.t, false);
    client_frame(&rig, &client, F_FIN | F_PING, "", 0);
    WAIT_FRAME(&rig, &client, &frame);
    assert_int_equal(frame.first, F_FIN | F_PONG);
    assert_int_equal(owner.len, 0);
    /* a pong that nobody asked for is allowed */
    client_frame(&rig, &client, F_FIN | F_PONG, "x", 1);
    owner.t->ops->want_read(owner.t, true);
    client_frame(&rig, &client, F_FIN | F_BIN, "data", 4);
    WAIT_FOR(&rig, owner.len == 4);
}

/* A slow owner: what is taken from the client is bounded, and nothing is lost. */
static void test_receiving_is_bounded(void **state)
{
    enum { N = 512 * 1024 };
    unsigned char *data = malloc(N), *frame = malloc(N + 14);
    size_t n, sent = 0;

    (void)state;
    fill(data, N);
    n = frame_make(frame, F_FIN | F_BIN, data, N);
    owner.keep_silent = true;
    rig_upgrade_buffer(&rig, &client, &owner, 8192);
    for (int i = 0; i < 300; i++) {
        ssize_t m = send(client.fd, frame + sent, n - sent, MSG_DONTWAIT);
        sent += m > 0 ? (size_t)m : 0;
        rig_step(&rig);
    }
    assert_true(sent < N);
    assert_true(owner_conn(&owner)->rx.len > 0);
    assert_true(owner_conn(&owner)->rx.len <= WS_RX_PAUSED);
    assert_true(owner.t->ops->pending(owner.t));
    assert_int_equal(owner.readables, 0);
    owner.chunk = 1000;
    owner.t->ops->want_read(owner.t, true);
    for (int i = 0; i < 100000 && owner.len < N; i++) {
        ssize_t m = sent < n ? send(client.fd, frame + sent, n - sent, MSG_DONTWAIT) : 0;
        sent += m > 0 ? (size_t)m : 0;
        rig_step(&rig);
        assert_true(owner_conn(&owner)->rx.len <= WS_RX_MAX);
        if (i > 200)
            owner.chunk = 0;
    }
    assert_int_equal(owner.len, N);
    assert_memory_equal(owner.in, data, N);
    assert_null(owner_conn(&owner)->rx.block); /* the memory was given back */
    assert_false(owner.t->ops->pending(owner.t));
    free(data);
    free(frame);
}

/* readable() is level-triggered: it comes again while there is something, and not when it is not wanted. */
static void test_level_triggered(void **state)
{
    (void)state;
    owner.chunk = 1;
    rig_upgrade(&rig, &client, &owner);
    client_frame(&rig, &client, F_FIN | F_BIN, "abc", 3);
    WAIT_FOR(&rig, owner.len == 3);
    assert_int_equal(owner.readables, 3);
    owner.t->ops->want_read(owner.t, false);
    client_frame(&rig, &client, F_FIN | F_BIN, "d", 1);
    rig_step_ms(&rig, 10);
    assert_int_equal(owner.readables, 3);
    owner.t->ops->want_read(owner.t, true);
    WAIT_FOR(&rig, owner.len == 4);
}

/* --- sending --- */

static void test_a_frame_for_each_element(void **state)
{
    struct iovec iov[] = {{.iov_base = (char[]){"ab"}, .iov_len = 2},
                          {.iov_base = NULL, .iov_len = 0},
                          {.iov_base = (char[]){"cde"}, .iov_len = 3}};
    struct frame frame = {0};

    (void)state;
    rig_upgrade(&rig, &client, &owner);
    assert_int_equal(owner.t->ops->writev(owner.t, iov, 3), 5);
    WAIT_FRAME(&rig, &client, &frame);
    assert_int_equal(frame.first, F_FIN | F_BIN);
    assert_int_equal(frame.n, 2);
    assert_memory_equal(frame.payload, "ab", 2);
    client_drop(&client, frame.size);
    WAIT_FRAME(&rig, &client, &frame);
    assert_int_equal(frame.n, 3);
    assert_memory_equal(frame.payload, "cde", 3);
}

static void test_not_before_ready(void **state)
{
    (void)state;
    rig_connect(&rig, &client, &owner);
    assert_int_equal(owner_write(&owner, "x", 1), -EAGAIN);
}

/* A slow client: writev() says -EAGAIN, writable() comes when it is worth it, what waits is bounded, nothing
 * is lost. */
static void test_sending_is_bounded(void **state)
{
    enum { N = 1024 * 1024 };
    unsigned char *data = malloc(N), *got = malloc(N);
    size_t sent = 0, len = 0;
    struct frame frame = {0};
    struct pollfd choked = {.events = POLLOUT};
    int waits = 0;

    (void)state;
    fill(data, N);
    rig_upgrade_buffer(&rig, &client, &owner, 4096);
    choked.fd = owner.t->ops->fd(owner.t);
    assert_int_equal(lwsio_poll(&choked, 1, 0), 1);
    for (int i = 0; i < 200000 && len < N; i++) {
        ssize_t n = sent < N ? owner_write(&owner, data + sent, N - sent) : 0;
        if (n == -EAGAIN) {
            int before = owner.writables;
            waits++;
            assert_true(owner_conn(&owner)->out.len > 0);
            assert_int_equal(lwsio_poll(&choked, 1, 0), 0);
            owner.t->ops->want_write(owner.t, true);
            while (owner.writables == before) {
                assert_true(owner_conn(&owner)->out.len <= WS_FRAME_MAX + 16);
                client_poll_max(&client, 1500);
                rig_step(&rig);
            }
            assert_int_equal(owner.writables, before + 1);
        } else {
            assert_true(n >= 0);
            sent += (size_t)n;
        }
        client_poll_max(&client, 1500);
        while (frame_parse(&client, &frame)) {
            assert_int_equal(frame.first, F_FIN | F_BIN);
            assert_true(frame.n <= WS_FRAME_MAX);
            memcpy(got + len, frame.payload, frame.n);
            len += frame.n;
            client_drop(&client, frame.size);
        }
        rig_step(&rig);
    }
    assert_int_equal(len, N);
    assert_memory_equal(got, data, N);
    assert_true(waits > 3);
    assert_null(owner_conn(&owner)->out.block);
    free(data);
    free(got);
}

/* The pong of a ping waits behind a frame that is partly sent; it must not come into the middle of it. */
static void test_pong_behind_a_queued_frame(void **state)
{
    unsigned char *data = calloc(1, WS_FRAME_MAX);
    struct frame frame = {0};

    (void)state;
    rig_upgrade_buffer(&rig, &client, &owner, 4096);
    while (owner_write(&owner, data, WS_FRAME_MAX) > 0)
        rig_step(&rig);
    client_frame(&rig, &client, F_FIN | F_PING, "p", 1);
    rig_step_ms(&rig, 5);
    do {
        WAIT_FRAME(&rig, &client, &frame);
        assert_true(frame.n == 1 || frame.n == WS_FRAME_MAX);
        client_drop(&client, frame.size);
    } while (frame.n != 1);
    free(data);
}

/* --- a lower transport that does everything in small pieces --- */

struct drip {
    struct transport t;
    struct transport *tcp;
    unsigned calls;
};

static struct drip *drip_of(struct transport *t)
{
    return (struct drip *)t;
}

static void drip_ready(void *arg, int error)
{
    struct drip *drip = arg;
    drip->t.events->ready(drip->t.owner, error);
}

static void drip_readable(void *arg)
{
    struct drip *drip = arg;
    drip->t.events->readable(drip->t.owner);
}

static void drip_writable(void *arg)
{
    struct drip *drip = arg;
    drip->t.events->writable(drip->t.owner);
}

static const struct transport_events drip_events = {drip_ready, drip_readable, drip_writable};

static void drip_start(struct transport *t)
{
    struct drip *drip = drip_of(t);
    drip->tcp->ops->start(drip->tcp);
}

static ssize_t drip_read(struct transport *t, void *buf, size_t n)
{
    struct drip *drip = drip_of(t);
    return ++drip->calls % 3 == 0 ? -EAGAIN : drip->tcp->ops->read(drip->tcp, buf, n < 5 ? n : 5);
}

static ssize_t drip_writev(struct transport *t, const struct iovec *iov, int iovcnt)
{
    struct drip *drip = drip_of(t);
    struct iovec one = {.iov_base = iov->iov_base, .iov_len = iov->iov_len < 700 ? iov->iov_len : 700};
    (void)iovcnt;
    return ++drip->calls % 2 == 0 ? -EAGAIN : drip->tcp->ops->writev(drip->tcp, &one, 1);
}

static void drip_want_read(struct transport *t, bool on)
{
    struct drip *drip = drip_of(t);
    drip->tcp->ops->want_read(drip->tcp, on);
}

static void drip_want_write(struct transport *t, bool on)
{
    struct drip *drip = drip_of(t);
    drip->tcp->ops->want_write(drip->tcp, on);
}

static bool drip_pending(struct transport *t)
{
    (void)t;
    return false;
}

static void drip_peer(struct transport *t, struct principal *who)
{
    struct drip *drip = drip_of(t);
    drip->tcp->ops->peer(drip->tcp, who);
}

static const char *drip_why(struct transport *t)
{
    struct drip *drip = drip_of(t);
    return drip->tcp->ops->why(drip->tcp);
}

static void drip_close(struct transport *t)
{
    struct drip *drip = drip_of(t);
    drip->tcp->ops->close(drip->tcp);
    free(drip);
}

static int drip_fd(struct transport *t)
{
    struct drip *drip = drip_of(t);
    return drip->tcp->ops->fd(drip->tcp);
}

static const struct transport_ops drip_ops = {
    .name = "drip",
    .start = drip_start,
    .read = drip_read,
    .writev = drip_writev,
    .want_read = drip_want_read,
    .want_write = drip_want_write,
    .pending = drip_pending,
    .peer = drip_peer,
    .why = drip_why,
    .close = drip_close,
    .fd = drip_fd,
};

static void test_partial_lower_transport(void **state)
{
    enum { N = 100 * 1000 };
    struct drip *drip = calloc(1, sizeof *drip);
    unsigned char *data = malloc(N), *got = malloc(N);
    size_t sent = 0, len = 0;
    struct frame frame = {0};
    int theirs;

    (void)state;
    fill(data, N);
    rig_pair(&client.fd, &theirs, 0);
    drip->t.ops = &drip_ops;
    drip->tcp = rig_tcp(&rig, theirs);
    drip->tcp->owner = drip;
    drip->tcp->events = &drip_events;
    rig_own(&rig, &owner, &drip->t);
    client_say(&rig, &client, UPGRADE);
    free(client_head(&rig, &client));
    client_frame(&rig, &client, F_FIN | F_BIN, data, 3000);
    WAIT_FOR(&rig, owner.len == 3000);
    assert_memory_equal(owner.in, data, 3000);
    for (int i = 0; i < 100000 && len < N; i++) {
        ssize_t n = sent < N ? owner_write(&owner, data + sent, N - sent) : 0;
        if (n > 0)
            sent += (size_t)n;
        while (client_has_frame(&client, &frame)) {
            memcpy(got + len, frame.payload, frame.n);
            len += frame.n;
            client_drop(&client, frame.size);
        }
        rig_step(&rig);
    }
    assert_int_equal(len, N);
    assert_memory_equal(got, data, N);
    free(data);
    free(got);
}

/* --- ends --- */

static void test_owner_closes(void **state)
{
    struct frame frame = {0};

    (void)state;
    rig_upgrade(&rig, &client, &owner);
    assert_int_equal(owner_write(&owner, "bye", 3), 3);
    owner_close(&owner);
    WAIT_FRAME(&rig, &client, &frame);
    assert_int_equal(frame.first, F_FIN | F_BIN);
    assert_memory_equal(frame.payload, "bye", 3);
    client_drop(&client, frame.size);
    WAIT_FRAME(&rig, &client, &frame);
    assert_int_equal(frame.first, F_FIN | F_CLOSE);
    assert_int_equal(frame.payload[0] << 8 | frame.payload[1], 1000);
    client_drop(&client, frame.size);
    client_frame(&rig, &client, F_FIN | F_CLOSE, "\x03\xe8", 2);
    WAIT_END(&rig, &client);
    assert_int_equal(client.len, 0);
    WAIT_FOR(&rig, TAILQ_EMPTY(&rig.ws->conns));
}

/* What writev() took is sent before the close frame, also when it has to wait. */
static void test_owner_closes_with_a_queue(void **state)
{
    unsigned char *data = calloc(1, WS_FRAME_MAX);
    struct frame frame = {0};
    int sent = 0;

    (void)state;
    rig_upgrade_buffer(&rig, &client, &owner, 4096);
    while (owner_write(&owner, data, WS_FRAME_MAX) > 0)
        sent++;
    owner_close(&owner);
    for (;;) {
        WAIT_FRAME(&rig, &client, &frame);
        if (frame.first == (F_FIN | F_CLOSE))
            break;
        assert_int_equal(frame.n, WS_FRAME_MAX);
        client_drop(&client, frame.size);
        sent--;
    }
    assert_int_equal(sent, 0);
    free(data);
}

/* A client that neither reads nor answers is let go after WS_CLOSE_MS, and costs nothing meanwhile. */
static void test_closing_is_bounded(void **state)
{
    unsigned char *data = calloc(1, WS_FRAME_MAX);
    struct client other;
    struct owner o = {0};
    int64_t start;
    int turns = 0;

    (void)state;
    rig_upgrade_buffer(&rig, &client, &owner, 4096);
    rig_upgrade(&rig, &other, &o);
    loop_before_sleep(rig.loop, rig_count, &turns);
    while (owner_write(&owner, data, WS_FRAME_MAX) > 0)
        rig_step(&rig);
    start = loop_now(rig.loop);
    owner_close(&owner);
    owner_close(&o);
    assert_false(TAILQ_EMPTY(&rig.ws->conns));
    while (!TAILQ_EMPTY(&rig.ws->conns) && loop_now(rig.loop) - start < 4 * WS_CLOSE_MS)
        rig_step_ms(&rig, 50);
    assert_true(TAILQ_EMPTY(&rig.ws->conns));
    assert_in_range(loop_now(rig.loop) - start, WS_CLOSE_MS, WS_CLOSE_MS + 2000);
    assert_in_range(turns, 1, 300); /* this test's own are some 150 */
    client_close(&other);
    owner_free(&o);
    free(data);
}

static void test_client_closes(void **state)
{
    struct frame frame = {0};

    (void)state;
    rig_upgrade(&rig, &client, &owner);
    client_frame(&rig, &client, F_FIN | F_BIN, "last", 4);
    client_frame(&rig, &client, F_FIN | F_CLOSE, "\x03\xe9", 2);
    WAIT_FOR(&rig, owner.ended);
    assert_int_equal(owner.len, 4);
    assert_int_equal(owner.end, 0);
    assert_true(has(owner.t->ops->why(owner.t), "1001"));
    assert_true(owner_write(&owner, "x", 1) < 0);
    WAIT_FRAME(&rig, &client, &frame);
    assert_int_equal(frame.first, F_FIN | F_CLOSE);
    WAIT_END(&rig, &client);
    owner_close(&owner);
    WAIT_FOR(&rig, TAILQ_EMPTY(&rig.ws->conns));
}

static void test_client_hangs_up(void **state)
{
    (void)state;
    rig_upgrade(&rig, &client, &owner);
    client_frame(&rig, &client, F_FIN | F_BIN, "half", 4);
    close(client.fd);
    client.fd = -1;
    WAIT_FOR(&rig, owner.ended);
    assert_int_equal(owner.len, 4);
    assert_int_equal(owner.end, 0);
}

static void test_client_resets(void **state)
{
    struct linger linger = {.l_onoff = 1};

    (void)state;
    rig_upgrade(&rig, &client, &owner);
    setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(client.fd);
    client.fd = -1;
    WAIT_FOR(&rig, owner.ended);
    assert_int_equal(owner.end, -ECONNRESET);
    assert_non_null(owner.t->ops->why(owner.t));
}

/* Writing to a client that is gone fails, and only for the owner of that one. */
static void test_write_to_the_dead(void **state)
{
    unsigned char *data = calloc(1, WS_FRAME_MAX);
    struct linger linger = {.l_onoff = 1};
    ssize_t n = 0;

    (void)state;
    owner.keep_silent = true;
    rig_upgrade(&rig, &client, &owner);
    setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(client.fd);
    client.fd = -1;
    for (int i = 0; i < 50 && (n >= 0 || n == -EAGAIN); i++) {
        n = owner_write(&owner, data, WS_FRAME_MAX);
        if (n != -EAGAIN && n < 0)
            break;
        rig_step(&rig);
    }
    assert_true(n < 0 && n != -EAGAIN);
    owner.t->ops->want_read(owner.t, true);
    WAIT_FOR(&rig, owner.ended);
    free(data);
}

static void test_close_at_any_time(void **state)
{
    struct client c;
    struct owner o = {0};

    (void)state;
    rig_connect(&rig, &client, &owner); /* before the request */
    owner_close(&owner);
    WAIT_END(&rig, &client);
    rig_connect(&rig, &c, &o); /* in the middle of it */
    client_say(&rig, &c, REQUEST_LINE);
    rig_step_ms(&rig, 5);
    owner_close(&o);
    WAIT_END(&rig, &c);
    client_close(&c);
    assert_int_equal(owner.readies + o.readies, 0);
    WAIT_FOR(&rig, TAILQ_EMPTY(&rig.ws->conns));
}

static void test_close_before_start(void **state)
{
    int theirs;

    (void)state;
    rig_pair(&client.fd, &theirs, 0);
    owner.t = ws_accept(rig.ws, rig.site, rig_tcp(&rig, theirs));
    owner_close(&owner);
    WAIT_END(&rig, &client);
}

/* Closing from within each callback, together with another connection that is in use. */
static void test_close_from_callbacks(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct client a, b;
        struct owner other = {0}, closer = {.close_ready = i == 0, .victim = &other};

        rig_upgrade(&rig, &b, &other);
        client_frame(&rig, &b, F_FIN | F_BIN, "x", 1);
        if (i == 0) {
            rig_connect(&rig, &a, &closer);
            client_say(&rig, &a, UPGRADE);
        } else {
            rig_upgrade(&rig, &a, &closer);
            closer.close_readable = i == 1;
            closer.close_writable = i == 2;
            client_frame(&rig, &a, F_FIN | F_BIN, "y", 1);
            if (i == 2)
                closer.t->ops->want_write(closer.t, true);
        }
        WAIT_FOR(&rig, !closer.t && !other.t);
        client_close(&a);
        client_close(&b);
        WAIT_FOR(&rig, TAILQ_EMPTY(&rig.ws->conns));
        owner_free(&closer);
        owner_free(&other);
    }
}

/* ws_free() with everything open: nothing leaks, and the owners can still close. */
static void test_free_while_open(void **state)
{
    static const unsigned char data[WS_FRAME_MAX];
    struct client b, c, d;
    struct owner ob = {0}, oc = {0}, od = {0};

    (void)state;
    rig_upgrade(&rig, &client, &owner);
    rig_upgrade(&rig, &b, &ob);
    rig_connect(&rig, &c, &oc);
    rig_upgrade_buffer(&rig, &d, &od, 4096);
    while (owner_write(&od, data, sizeof data) > 0)
        continue;
    owner_close(&ob);
    owner_close(&od);
    ws_free(rig.ws);
    rig.ws = NULL;
    assert_true(owner_write(&owner, "x", 1) < 0);
    owner.t->ops->want_read(owner.t, true);
    owner.t->ops->want_write(owner.t, true);
    rig_step_ms(&rig, 5);
    WAIT_END(&rig, &client);
    owner_free(&ob);
    owner_free(&oc);
    owner_free(&od);
    client_close(&b);
    client_close(&c);
    client_close(&d);
}

/* Without connections nothing wakes the loop; with an idle one hardly anything does. */
static void test_idle(void **state)
{
    int turns = 0;

    (void)state;
    rig_upgrade(&rig, &client, &owner);
    rig_step_ms(&rig, 20);
    loop_before_sleep(rig.loop, rig_count, &turns);
    rig_step_ms(&rig, 300);
    assert_true(turns <= 4);
    owner_close(&owner);
    client_close(&client);
    client.fd = -1;
    WAIT_FOR(&rig, TAILQ_EMPTY(&rig.ws->conns) && !timer_running(&rig.ws->timer));
}

/* A descriptor beyond the table is refused, not looked up beyond its end. */
static void test_high_descriptor(void **state)
{
    int theirs, high;

    (void)state;
    rig_pair(&client.fd, &theirs, 0);
    high = fcntl(theirs, F_DUPFD_CLOEXEC, RIG_FDS);
    assert_true(high >= RIG_FDS);
    close(theirs);
    rig_own(&rig, &owner, rig_tcp(&rig, high));
    WAIT_FOR(&rig, owner.readies == 1);
    assert_int_equal(owner.error, -EMFILE);
    assert_non_null(owner.t->ops->why(owner.t));
    owner_close(&owner);
    WAIT_END(&rig, &client);
}

static void test_many(void **state)
{
    enum { N = 60 };
    static struct client clients[N];
    static struct owner owners[N];
    struct frame frame = {0};

    (void)state;
    memset(owners, 0, sizeof owners);
    for (int i = 0; i < N; i++)
        rig_upgrade(&rig, &clients[i], &owners[i]);
    for (int i = 0; i < N;
         i += 2) /* libwebsockets moves the last one of its table to the place that becomes free */
        owner_close(&owners[i]);
    for (int i = 1; i < N; i += 2) {
        unsigned char mark = (unsigned char)i;
        client_frame(&rig, &clients[i], F_FIN | F_BIN, &mark, 1);
        WAIT_FOR(&rig, owners[i].len == 1);
        assert_int_equal(owners[i].in[0], i);
        assert_int_equal(owner_write(&owners[i], &mark, 1), 1);
        WAIT_FRAME(&rig, &clients[i], &frame);
        assert_int_equal(frame.payload[0], i);
    }
    for (int i = 0; i < N; i++) {
        owner_free(&owners[i]);
        client_close(&clients[i]);
    }
    WAIT_FOR(&rig, TAILQ_EMPTY(&rig.ws->conns));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_upgrade),
        TEST(test_peer_comes_from_below),
        TEST(test_sub_protocol),
        TEST(test_any_path),
        TEST(test_bad_upgrades),
        TEST(test_origin),
        TEST(test_garbage),
        TEST(test_handshake_deadline),
        TEST(test_no_deadline_when_open),
        TEST(test_large_header),
        TEST(test_headers_size),
        TEST(test_merged_and_split),
        TEST(test_byte_by_byte),
        TEST(test_frames_behind_the_request),
        TEST(test_long_frames_behind_the_request),
        TEST(test_text_frame),
        TEST(test_empty_text_frame),
        TEST(test_protocol_errors),
        TEST(test_ping),
        TEST(test_receiving_is_bounded),
        TEST(test_level_triggered),
        TEST(test_a_frame_for_each_element),
        TEST(test_not_before_ready),
        TEST(test_sending_is_bounded),
        TEST(test_pong_behind_a_queued_frame),
        TEST(test_partial_lower_transport),
        TEST(test_owner_closes),
        TEST(test_owner_closes_with_a_queue),
        TEST(test_closing_is_bounded),
        TEST(test_client_closes),
        TEST(test_client_hangs_up),
        TEST(test_client_resets),
        TEST(test_write_to_the_dead),
        TEST(test_close_at_any_time),
        TEST(test_close_before_start),
        TEST(test_close_from_callbacks),
        TEST(test_free_while_open),
        TEST(test_idle),
        TEST(test_high_descriptor),
        TEST(test_many),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
