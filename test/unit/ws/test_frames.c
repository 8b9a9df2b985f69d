/*
 * test_frames.c - frames that no client may send: found wherever the bytes are split, and before
 * libwebsockets sees them; what came before still counts.
 */
#include "test/unit/ws/rig.h"

#include "test/unit/broker/random.h"

enum { STREAM = 600 * 1024 };

/* Code 0: a frame that is allowed. */
static const struct {
    const char *what;
    const char *bytes;
    size_t n;
    int code;
} cases[] = {
    {"binary", "\x82\x81\1\2\3\4x", 7, 0},
    {"empty", "\x82\x80\1\2\3\4", 6, 0},
    {"16 bits of length, empty", "\x82\xfe\0\0\1\2\3\4", 8, 0},
    {"64 bits of length, one byte", "\x82\xff\0\0\0\0\0\0\0\1\1\2\3\4x", 15, 0},
    {"fragments", "\x02\x80\1\2\3\4\0\x80\1\2\3\4\x80\x80\1\2\3\4", 18, 0},
    {"ping between fragments", "\x02\x80\1\2\3\4\x89\x80\1\2\3\4\x80\x80\1\2\3\4", 18, 0},
    {"pong", "\x8a\x80\1\2\3\4", 6, 0},
    {"close", "\x88\x82\0\0\0\0\x03\xe8", 8, 0},
    {"no mask", "\x82\x01x", 3, 1002},
    {"no mask, empty", "\x82\x00", 2, 1002},
    {"no mask, 16 bits of length", "\x82\x7e\0\0", 4, 1002},
    {"no mask, 64 bits of length", "\x82\x7f\0\0\0\0\0\0\0\0", 10, 1002},
    {"ping without mask", "\x89\x00", 2, 1002},
    {"close without mask", "\x88\x00", 2, 1002},
    {"continuation without mask", "\x02\x80\1\2\3\4\x80\x00", 8, 1002},
    {"text", "\x81\x80\1\2\3\4", 6, 1003},
    {"text, a first fragment", "\x01\x80\1\2\3\4", 6, 1003},
    {"reserved bit 1", "\xc2\x80\1\2\3\4", 6, 1002},
    {"reserved bit 2", "\xa2\x80\1\2\3\4", 6, 1002},
    {"reserved bit 3", "\x92\x80\1\2\3\4", 6, 1002},
    {"reserved bit of a ping", "\xc9\x80\1\2\3\4", 6, 1002},
    {"opcode 3", "\x83\x80\1\2\3\4", 6, 1002},
    {"opcode 7", "\x87\x80\1\2\3\4", 6, 1002},
    {"opcode 11", "\x8b\x80\1\2\3\4", 6, 1002},
    {"opcode 15", "\x8f\x80\1\2\3\4", 6, 1002},
    {"ping in fragments", "\x09\x80\1\2\3\4", 6, 1002},
    {"close in fragments", "\x08\x80\1\2\3\4", 6, 1002},
    {"ping of 126 bytes", "\x89\xfe\0\x7e\1\2\3\4", 8, 1002},
    {"ping with 64 bits of length", "\x89\xff\0\0\0\0\0\0\0\0\1\2\3\4", 14, 1002},
    {"close of one byte", "\x88\x81\1\2\3\4x", 7, 1002},
    {"continues nothing", "\x80\x80\1\2\3\4", 6, 1002},
    {"continues what was finished", "\x02\x80\1\2\3\4\x80\x80\1\2\3\4\x80\x80\1\2\3\4", 18, 1002},
    {"message within a message", "\x02\x80\1\2\3\4\x82\x80\1\2\3\4", 12, 1002},
    {"4 GiB", "\x82\xff\0\0\0\1\0\0\0\0\1\2\3\4", 14, 1009},
    {"2^63", "\x82\xff\x80\0\0\0\0\0\0\0\1\2\3\4", 14, 1009},
    {"2^64 - 1", "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\1\2\3\4", 14, 1009},
};

enum { CASES = sizeof cases / sizeof *cases };

static struct ws_fault follow_split(const uint8_t *data, size_t n, size_t first, size_t *good)
{
    struct ws_frames frames = {0};
    struct ws_fault fault = ws_frames_follow(&frames, data, first, good);
    size_t more = 0;

    if (!fault.code) {
        assert_int_equal(*good, first);
        fault = ws_frames_follow(&frames, data + first, n - first, &more);
    }
    *good += more;
    return fault;
}

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        for (size_t first = 0; first <= cases[i].n; first++) {
            size_t good;
            struct ws_fault fault = follow_split((const uint8_t *)cases[i].bytes, cases[i].n, first, &good);
            if (fault.code != cases[i].code || !fault.text != !cases[i].code)
                fail_msg("%s, split at %zu: %d", cases[i].what, first, fault.code);
            if (!fault.code)
                assert_int_equal(good, cases[i].n);
        }
    }
}

/* Every value of a frame's first two bytes: exactly the ones that the standard allows to a client. */
static void test_every_beginning(void **state)
{
    (void)state;
    for (unsigned first = 0; first < 256; first++) {
        for (unsigned second = 0; second < 256; second++) {
            const uint8_t data[] = {(uint8_t)first, (uint8_t)second};
            unsigned opcode = first & 15, length = second & 127;
            bool control = opcode == 8 || opcode == 9 || opcode == 10;
            bool allowed = (opcode == 2 || (control && (first & 0x80) && length < 126)) && !(first & 0x70) &&
                           (second & 0x80) && !(opcode == 8 && length == 1);
            struct ws_frames frames = {0};
            size_t good;
            assert_int_equal(ws_frames_follow(&frames, data, 2, &good).code == 0, allowed);
            assert_int_equal(good, allowed ? 2 : 0);
        }
    }
}

static size_t random_size(struct random *random)
{
    static const uint32_t edges[] = {0, 1, 2, 125, 126, 127, 128, 255, 256, 65535, 65536, 70000};

    return random_chance(random, 50) ? edges[random_below(random, sizeof edges / sizeof *edges)]
                                     : random_below(random, 300);
}

/* One frame that is allowed; *unfinished: inside of a message in fragments. */
static size_t put_frame(struct random *random, uint8_t *to, bool *unfinished)
{
    static uint8_t payload[80 * 1024];
    size_t n = random_size(random);

    for (size_t i = 0; i < n; i++)
        payload[i] = (uint8_t)random_next(random);
    if (random_chance(random, 30)) {
        bool ping = random_chance(random, 50);
        return frame_make(to, F_FIN | (ping ? F_PING : F_PONG), payload, n % 126);
    }
    int first = (*unfinished ? F_CONT : F_BIN) | (random_chance(random, 60) ? F_FIN : 0);
    *unfinished = !(first & F_FIN);
    return frame_make(to, first, payload, n);
}

/* Any frames in any portions are good; a wrong one among them is found at its place. */
static void test_random(void **state)
{
    struct random random = {.state = 0x77656273};
    uint8_t *stream = malloc(STREAM);

    (void)state;
    for (int round = 0; round < 300; round++) {
        size_t n = 0, wrong_at, sum = 0, good = 0;
        struct ws_frames frames = {0};
        struct ws_fault fault = {0};
        bool unfinished = false;
        for (int i = (int)random_below(&random, 6); i > 0; i--)
            n += put_frame(&random, stream + n, &unfinished);
        wrong_at = n;
        n += put_frame(&random, stream + n, &unfinished);
        if (round & 1)
            stream[wrong_at + 1] &= 0x7f; /* takes its mask away */
        for (size_t at = 0; at < n && !fault.code; at += good, sum += good) {
            size_t portion = 1 + random_below(&random, random_chance(&random, 50) ? 8 : 5000);
            fault = ws_frames_follow(&frames, stream + at, portion < n - at ? portion : n - at, &good);
        }
        assert_int_equal(fault.code, round & 1 ? 1002 : 0);
        assert_in_range(sum, round & 1 ? wrong_at : n, round & 1 ? wrong_at + 1 : n);
    }
    free(stream);
}

/* The close frame is the last one: nothing behind it counts, right or wrong. */
static void test_nothing_behind_a_close_frame(void **state)
{
    static const uint8_t data[] = "\x82\x81\1\2\3\4x\x88\x82\0\0\0\0\x03\xe8\x82\x81\1\2\3\4y\xff\xff\xff";
    enum { END = 15 };

    (void)state;
    for (size_t first = 0; first < sizeof data; first++) {
        struct ws_frames frames = {0};
        size_t good[2];
        assert_int_equal(ws_frames_follow(&frames, data, first, &good[0]).code, 0);
        assert_int_equal(ws_frames_follow(&frames, data + first, sizeof data - first, &good[1]).code, 0);
        assert_int_equal(good[0], first < END ? first : END);
        assert_int_equal(good[0] + good[1], END);
    }
}

/* --- through libwebsockets --- */

static struct rig rig;

static int set_up(void **state)
{
    (void)state;
    rig_open(&rig, NULL, RIG_HANDSHAKE_MS);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}

/* Sends the first bytes, lets the broker see them, then the others. What came before the wrong frame is read,
 * then the error, and the client gets a close frame that says why. */
static void try_wrong(const unsigned char *bytes, size_t n, size_t first, int code)
{
    struct client client;
    struct owner owner = {0};
    struct frame frame = {0};

    rig_upgrade(&rig, &client, &owner);
    client_frame(&rig, &client, F_FIN | F_BIN, "before", 6);
    client_send(&rig, &client, bytes, first);
    WAIT_FOR(&rig, owner.len == 6);
    client_send(&rig, &client, bytes + first, n - first);
    WAIT_FOR(&rig, owner.ended);
    assert_int_equal(owner.end, -EPROTO);
    assert_int_equal(owner.len, 6);
    assert_true(has(owner.t->ops->why(owner.t), "received") || code == 1009);
    WAIT_FRAME(&rig, &client, &frame);
    assert_int_equal(frame.first, F_FIN | F_CLOSE);
    assert_int_equal(frame.payload[0] << 8 | frame.payload[1], code);
    WAIT_END(&rig, &client);
    assert_int_equal(client.len, frame.size);
    owner_free(&owner);
    client_close(&client);
}

static void test_wrong_frames_end_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        const unsigned char *bytes = (const unsigned char *)cases[i].bytes;
        bool fragments = bytes[0] == 0x02; /* a good frame is in front of the wrong one */
        if (cases[i].code && !fragments) {
            try_wrong(bytes, cases[i].n, 0, cases[i].code);
            try_wrong(bytes, cases[i].n, 1, cases[i].code);
        }
    }
}

/* Of any size, behind frames and split wherever one likes. */
static void test_unmasked(void **state)
{
    static const size_t sizes[] = {0, 1, 125, 126, 65535, 65536};
    unsigned char *bytes = calloc(1, 70000);

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i], header = n < 126 ? 2 : n < 65536 ? 4 : 10;
        bytes[0] = F_FIN | F_BIN;
        bytes[1] = (unsigned char)(n < 126 ? n : n < 65536 ? 126 : 127);
        for (size_t k = 2; k < header; k++)
            bytes[k] = (unsigned char)((uint64_t)n >> 8 * (header - 1 - k));
        for (size_t first = 0; first < header; first++)
            try_wrong(bytes, header + n, first < 2 ? first : 0, 1002);
    }
    free(bytes);
}

/* A wrong frame right behind the upgrade request, before it was answered. */
static void test_wrong_frame_behind_the_request(void **state)
{
    static const char request[] = UPGRADE "\x82\x02hi";
    struct client client;
    struct owner owner = {0};
    struct frame frame = {0};

    (void)state;
    rig_connect(&rig, &client, &owner);
    client_send(&rig, &client, request, sizeof request - 1);
    free(client_head(&rig, &client));
    WAIT_FRAME(&rig, &client, &frame);
    assert_int_equal(frame.first, F_FIN | F_CLOSE);
    WAIT_FOR(&rig, owner.readies == 1);
    WAIT_FOR(&rig, owner.error < 0 || owner.ended);
    assert_int_equal(owner.len, 0);
    owner_free(&owner);
    client_close(&client);
}

/* The owner does not read, the client goes on: nothing is lost of what came before, and nothing piles up. */
static void test_wrong_frame_to_a_silent_owner(void **state)
{
    struct client client;
    struct owner owner = {.keep_silent = true};

    (void)state;
    rig_upgrade(&rig, &client, &owner);
    client_frame(&rig, &client, F_FIN | F_BIN, "before", 6);
    client_send(&rig, &client, "\x82\x02hi", 4);
    WAIT_END(&rig, &client);
    assert_false(owner.ended);
    owner.t->ops->want_read(owner.t, true);
    WAIT_FOR(&rig, owner.ended);
    assert_int_equal(owner.len, 6);
    assert_int_equal(owner.end, -EPROTO);
    owner_free(&owner);
    client_close(&client);
}

/* During our own closing handshake: it ends at once, whatever comes. */
static void test_wrong_frame_while_closing(void **state)
{
    struct client client;
    struct owner owner = {0};
    struct frame frame = {0};

    (void)state;
    rig_upgrade(&rig, &client, &owner);
    owner_close(&owner);
    WAIT_FRAME(&rig, &client, &frame);
    client_send(&rig, &client, "\x82\x02hi\xff\xff\xff", 7);
    WAIT_END(&rig, &client);
    WAIT_FOR(&rig, TAILQ_EMPTY(&rig.ws->conns));
    assert_int_equal(client.len, frame.size);
    client_close(&client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_every_beginning),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_nothing_behind_a_close_frame),
        TEST(test_wrong_frames_end_it),
        TEST(test_unmasked),
        TEST(test_wrong_frame_behind_the_request),
        TEST(test_wrong_frame_to_a_silent_owner),
        TEST(test_wrong_frame_while_closing),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
