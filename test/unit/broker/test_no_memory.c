/*
 * test_no_memory.c - every single allocation of what clients do fails once, and then all from it on.
 *
 * Each scene is played again and again on a new broker, until it has come to its end without wanting what it
 * did not get. Whatever becomes of its clients: nothing crashes or is left behind (the teardown looks), a
 * bystander is served all the time, and a subscription that was granted counts.
 *
 * Without a store: that one ends the process rather than acknowledge what it cannot keep (store.c).
 */
#include "test/unit/no_memory.h"

#include "fake_broker.h"

/* ---- clients that do not mind how they end ---- */

/* What this client was told. */
struct told {
    bool granted;  /* a subscription to t */
    bool accepted; /* and nothing has ended it */
    int words;     /* messages of one byte on t */
};

/* Acknowledges whatever came, until nothing comes. */
static void serve(struct client *c, struct told *told)
{
    for (settle(); c->t.out_size > 0; settle()) {
        size_t n = c->t.out_size;
        uint8_t *p = malloc(n);
        memcpy(p, c->t.out, n);
        c->t.out_size = 0;
        for (size_t at = 0; at < n;) {
            struct packet_frame frame;
            struct packet_publish publish;
            if (packet_frame(p + at, n - at, &frame) != 1 || frame.header_size + frame.body_size > n - at) {
                break; /* the end of a connection that ended in the middle */
            }
            const uint8_t *body = p + at + frame.header_size;
            switch (frame.type) {
            case PKT_CONNACK:
                told->accepted = body[1] == 0;
                assert_true(body[1] == 0 || body[1] == 3);
                break;
            case PKT_PUBLISH:
                assert_int_equal(
                    packet_decode_publish(frame.flags, slice_of(body, frame.body_size), &publish), PACKET_OK);
                told->words += slice_eq(publish.topic, slice_str("t")) && publish.payload.n == 1;
                if (publish.qos > 0) {
                    send_ack(c, publish.qos == 1 ? PKT_PUBACK : PKT_PUBREC, publish.id);
                }
                break;
            case PKT_PUBREC:
                send_ack(c, PKT_PUBREL, (uint16_t)(body[0] << 8 | body[1]));
                break;
            case PKT_PUBREL:
                send_ack(c, PKT_PUBCOMP, (uint16_t)(body[0] << 8 | body[1]));
                break;
            case PKT_SUBACK:
                told->granted = body[2] != 0x80;
                break;
            default:
                break;
            }
            at += frame.header_size + frame.body_size;
        }
        free(p);
    }
    told->accepted &= !c->t.closed;
}

static struct client *open_as(const void *connect, size_t n, struct told *told)
{
    struct client *c = client_new();
    conn_accept(&rig.broker, &c->t.port, 0);
    client_send(c, connect, n);
    settle();
    serve(c, told);
    return c;
}

#define OPEN(text, told) open_as((text), sizeof(text) - 1, (told))

static void drop(struct client *c)
{
    c->t.at_end = true;
    settle();
}

/* ---- the sweep ---- */

static struct client *bystander;

static void bystander_is_served(void)
{
    bystander->t.out_size = 0;
    send_publish(bystander, 2, "bystander", 1, 3);
    settle();
    struct told told = {.words = 0};
    const uint8_t *end = bystander->t.out + bystander->t.out_size;
    assert_false(bystander->t.closed);
    assert_non_null(memmem(bystander->t.out, bystander->t.out_size, "\x40\2\0\1", 4));
    assert_non_null(memmem(bystander->t.out, (size_t)(end - bystander->t.out), "bystander", 9));
    serve(bystander, &told);
}

static int fails_from(void (*scene)(void), int n, int fails)
{
    assert_int_equal(rig_start(false), 0);
    rig.config.connection_messages = true;
    bystander = client_up("bystander", true);
    subscribe(bystander, "bystander", 1);
    memory_fails(n, fails);
    scene();
    int failed = memory_calm();
    bystander_is_served();
    assert_int_equal(teardown(NULL), 0);
    return failed;
}

static void sweep(void (*scene)(void))
{
    static const int fails[] = {1, 2, ALL_OF_THEM};
    for (size_t i = 0; i < sizeof fails / sizeof *fails; i++) {
        int n = 0;
        while (fails_from(scene, n, fails[i]) > 0) {
            n++;
        }
        assert_true(n > 3);
    }
}

/* With memory again, a subscription that was granted on a connection that is up is one. */
static void keeps_its_word(struct client *c, struct told *told)
{
    memory.fails = 0;
    serve(c, told);
    if (told->accepted && told->granted) {
        int before = told->words;
        send_publish(bystander, 0, "t", 0, 1);
        serve(c, told);
        assert_int_equal(told->words, before + 1);
    }
}

/* ---- the scenes ---- */

#define CONNECT_WILL "\x10\x1c\0\4MQTT\4\x0c\0\x3c\0\6leaver\0\1w\0\5ended" /* kept: bit 1 is not set */
#define CONNECT_A    "\x10\x14\0\4MQTT\4\x80\0\x3c\0\1a\0\5owner"
#define CONNECT_B    "\x10\x0d\0\4MQTT\4\2\0\x3c\0\1b"
#define CONNECT_NONE "\x10\x0c\0\4MQTT\4\2\0\x3c\0\0"
#define SUBSCRIBE_T  "\x82\6\0\1\0\1t\2"

static void a_login_and_a_will(void)
{
    struct told told = {.words = 0}, other = {.words = 0};
    struct client *c = OPEN(CONNECT_WILL, &told);
    struct client *none = OPEN(CONNECT_NONE, &other);
    client_send(none, "\x82\6\0\1\0\1w\1", 8);
    serve(none, &other);
    drop(c); /* publishes the will */
    serve(none, &other);
    struct client *again = OPEN(CONNECT_WILL, &told); /* its session is still there, or is made */
    struct client *twin = OPEN(CONNECT_WILL, &told);  /* which takes it over */
    (void)again;
    (void)twin;
}

/* The broker's memory is as large for a login that waits for its password. */
static void a_login_with_a_password(void)
{
    static const struct passwords *some = (const struct passwords *)&rig; /* nobody looks into them */
    struct told told = {.words = 0};
    rig.door.passwords = (struct passwords *)(uintptr_t)some;
    rig.security.allow_anonymous = false;
    struct client *c = OPEN("\x10\x19\0\4MQTT\4\xc2\0\x3c\0\1c\0\4user\0\4word", &told);
    client_send(c, SUBSCRIBE_T, sizeof SUBSCRIBE_T - 1); /* waits, too */
    settle();
    if (rig.login_count > 0) {
        verdict(AUTH_ALLOWED);
    }
    serve(c, &told);
    rig.door.passwords = NULL;
    keeps_its_word(c, &told);
}

/* Its SUBACK is no small answer. */
static void many_filters_at_once(void)
{
    enum { FILTERS = 100 };
    struct told told = {.words = 0};
    struct client *a = OPEN(CONNECT_A, &told);
    uint8_t p[16 + 5 * FILTERS];
    size_t n = packet_put_header(p, 0x82, 2 + 5 * FILTERS);
    packet_put_u16(p + n, 1);
    n += 2;
    for (int i = 0; i < FILTERS; i++, n += 5) {
        memcpy(p + n, "\0\2t\0\1", 5);
        p[n + 3] = (uint8_t)('0' + i % 50);
    }
    client_send(a, p, n);
    serve(a, &told);
    client_send(a, SUBSCRIBE_T, sizeof SUBSCRIBE_T - 1);
    serve(a, &told);
    keeps_its_word(a, &told);
}

/* More than one turn does: the packet is kept meanwhile. */
static void filters_for_several_turns(void)
{
    enum { LONG = 60000, LONG_ONES = 3, SHORT_ONES = 40, SIZE = LONG_ONES * (LONG + 3) + SHORT_ONES * 5 };
    struct told told = {.words = 0};
    struct client *a = OPEN(CONNECT_A, &told);
    uint8_t *p = malloc(SIZE + 16);
    size_t n = packet_put_header(p, 0x82, 2 + SIZE);
    packet_put_u16(p + n, 1);
    n += 2;
    for (int i = 0; i < LONG_ONES; i++, n += LONG + 3) {
        packet_put_u16(p + n, LONG);
        memset(p + n + 2, 'a' + i, LONG);
        p[n + 2 + LONG] = 1;
    }
    for (int i = 0; i < SHORT_ONES; i++, n += 5) {
        memcpy(p + n, "\0\2t\0\1", 5);
        p[n + 3] = (uint8_t)('0' + i);
    }
    client_send(a, p, n);
    free(p);
    serve(a, &told);
    client_send(a, SUBSCRIBE_T, sizeof SUBSCRIBE_T - 1);
    serve(a, &told);
    keeps_its_word(a, &told);
}

static void messages_of_all_kinds(void)
{
    struct told told = {.words = 0}, other = {.words = 0};
    struct client *a = OPEN(CONNECT_A, &told), *b = OPEN(CONNECT_B, &other);
    client_send(a, SUBSCRIBE_T, sizeof SUBSCRIBE_T - 1);
    client_send(a, "\x82\x0f\0\2\0\3t/#\1\0\4+/x/\0", 17);
    serve(a, &told);
    for (uint8_t qos = 0; qos <= 2; qos++) {
        send_publish(b, (uint8_t)(qos << 1), "t", 10 + qos, 5);
        send_publish(b, (uint8_t)(qos << 1 | 1), "t/x/y", 20 + qos, 20000);
        serve(b, &other);
        serve(a, &told);
    }
    for (uint16_t id = 1; id < 1000; id += 130) { /* identifiers of several pages */
        send_publish(b, 4, "elsewhere", id, 0);
        settle();
    }
    serve(b, &other);
    keeps_its_word(a, &told);
    client_send(a, "\xa2\5\0\3\0\1t", 7);
    serve(a, &told);
}

static void a_client_that_is_away_and_comes_back(void)
{
    struct told told = {.words = 0}, other = {.words = 0};
    struct client *a = OPEN(CONNECT_A, &told), *b = OPEN(CONNECT_B, &other);
    client_send(a, SUBSCRIBE_T, sizeof SUBSCRIBE_T - 1);
    serve(a, &told);
    drop(a);
    for (uint16_t i = 0; i < 40; i++) {
        send_publish(b, i & 1 ? 2 : 4, "t", 1 + i, 100);
        settle();
    }
    serve(b, &other);
    struct client *again = OPEN(CONNECT_A, &told);
    serve(again, &told);
    keeps_its_word(again, &told);
}

static void retained_messages(void)
{
    struct told told = {.words = 0}, other = {.words = 0};
    struct client *b = OPEN(CONNECT_B, &other);
    char topic[16];
    for (uint16_t i = 0; i < 100; i++) { /* the tree grows */
        snprintf(topic, sizeof topic, "r/%u/x", i);
        send_publish(b, 3, topic, 1 + i, 50);
        settle();
    }
    serve(b, &other);
    struct client *a = OPEN(CONNECT_A, &told);
    client_send(a, "\x82\x08\0\1\0\3r/#\2", 10);
    serve(a, &told);
    for (uint16_t i = 0; i < 100; i++) {
        snprintf(topic, sizeof topic, "r/%u/x", i);
        send_publish(b, 3, topic, 1 + i, 0);
        settle();
    }
}

static void sockets_that_take_and_bring_little(void)
{
    struct told told = {.words = 0}, other = {.words = 0};
    struct client *a = OPEN(CONNECT_A, &told), *b = OPEN(CONNECT_B, &other);
    client_send(a, SUBSCRIBE_T, sizeof SUBSCRIBE_T - 1);
    serve(a, &told);
    b->t.read_most = 700; /* the halves of packets are kept */
    a->t.write_limit = 10;
    for (uint16_t i = 1; i < 8; i++) {
        send_publish(b, 2, "t", i, i * 600u);
        settle();
    }
    client_send(a, "\xc0\0\xc0\0", 4);
    settle();
    a->t.write_limit = FAKE_NO_LIMIT;
    settle();
    serve(b, &other);
    keeps_its_word(a, &told);
}

static void a_place_of_its_own_for_each_door(void)
{
    struct told told = {.words = 0};
    rig.listener.mount_point = (char *)(uintptr_t) "mount/";
    struct client *a = OPEN(CONNECT_A, &told);
    client_send(a, "\x82\x0a\0\1\0\1x\2\0\1y\1", 12);
    serve(a, &told);
    send_publish(a, 5, "x", 7, 30);
    serve(a, &told);
    client_send(a, "\xa2\x08\0\3\0\1x\0\1y", 10);
    serve(a, &told);
    rig.listener.mount_point = NULL;
}

/* More connections than the table had room for at first. */
static void many_connections(void)
{
    for (int i = 0; i < 70; i++) {
        struct client *c = client_new();
        conn_accept(&rig.broker, &c->t.port, 0);
    }
    settle();
}

#define SWEEP(scene)                         \
    static void sweep_##scene(void **unused) \
    {                                        \
        (void)unused;                        \
        sweep(scene);                        \
    }

SWEEP(a_login_and_a_will)
SWEEP(a_login_with_a_password)
SWEEP(many_filters_at_once)
SWEEP(filters_for_several_turns)
SWEEP(messages_of_all_kinds)
SWEEP(a_client_that_is_away_and_comes_back)
SWEEP(retained_messages)
SWEEP(sockets_that_take_and_bring_little)
SWEEP(a_place_of_its_own_for_each_door)
SWEEP(many_connections)

static void a_broker_that_cannot_begin(void **unused)
{
    (void)unused;
    int n = 0;
    for (;; n++) {
        memory_fails(n, 1);
        int result = rig_start(false);
        int failed = memory_calm();
        if (!failed) {
            assert_int_equal(result, 0);
            break;
        }
        assert_int_equal(result, -1);
        loop_free(rig.broker.loop);
        assert_int_equal(mem_held(), 0);
    }
    assert_true(n > 3);
    assert_int_equal(teardown(NULL), 0);
}

/* The table of sessions is made for the first one. */
static void the_first_session(void **unused)
{
    (void)unused;
    int failed = 1, n = 0;
    for (; failed > 0; n++) {
        struct told told = {.words = 0};
        assert_int_equal(rig_start(false), 0);
        memory_fails(n, 1);
        OPEN(CONNECT_A, &told);
        failed = memory_calm();
        assert_true(told.accepted || failed);
        told = (struct told){.words = 0};
        OPEN(CONNECT_B, &told);
        assert_true(told.accepted);
        assert_int_equal(teardown(NULL), 0);
    }
    assert_true(n > 3);
}

int main(void)
{
#define TEST(scene) cmocka_unit_test(sweep_##scene)
    const struct CMUnitTest tests[] = {
        TEST(a_login_and_a_will),
        TEST(a_login_with_a_password),
        TEST(many_filters_at_once),
        TEST(filters_for_several_turns),
        TEST(messages_of_all_kinds),
        TEST(a_client_that_is_away_and_comes_back),
        TEST(retained_messages),
        TEST(sockets_that_take_and_bring_little),
        TEST(a_place_of_its_own_for_each_door),
        TEST(many_connections),
        cmocka_unit_test(a_broker_that_cannot_begin),
        cmocka_unit_test(the_first_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
