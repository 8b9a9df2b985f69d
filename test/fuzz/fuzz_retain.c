/*
 * fuzz_retain.c - retained messages against a list: kept, replaced, removed, swept and asked for by any
 * filter.
 *
 * The input is a list of steps: a byte that says what, and a line, a topic or a filter. What the filter finds
 * in the tree is compared with what the slow reference finds in the list: each once, and nothing else.
 */
#include "broker/retain.h"
#include "test/fuzz/fuzz.h"
#include "test/unit/broker/slow_topic.h"

enum { MOST = 64 };

struct kept {
    struct msg *msg; /* a reference */
    bool found;
};

static struct {
    struct retain *retain;
    struct kept v[MOST];
    size_t n;
    struct slice filter; /* of the walk under way */
    size_t found;
} run;

/* The rest of the line, in a block of its own so that a byte too many is seen. */
static uint8_t *next_line(struct input *in, size_t *n)
{
    const uint8_t *end = in->n ? memchr(in->p, '\n', in->n) : NULL;
    struct slice line = input_bytes(in, end ? (size_t)(end - in->p) : in->n);
    if (end) {
        input_u8(in);
    }
    uint8_t *copy = malloc(line.n + 1);
    memcpy(copy, line.p, line.n);
    *n = line.n;
    return copy;
}

static struct kept *list_find(struct slice topic)
{
    for (size_t i = 0; i < run.n; i++) {
        if (slice_eq(msg_topic(run.v[i].msg), topic)) {
            return &run.v[i];
        }
    }
    return NULL;
}

static void list_remove(struct kept *kept)
{
    msg_unref(kept->msg);
    *kept = run.v[--run.n];
}

static void check_counts(void)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < run.n; i++) {
        bytes += run.v[i].msg->topic_size + run.v[i].msg->payload_size;
    }
    CHECK(retain_count(run.retain) == run.n && retain_bytes(run.retain) == bytes);
}

static void update(struct slice topic, uint8_t payload)
{
    uint8_t bytes[16];
    memset(bytes, payload, sizeof bytes);
    struct kept *kept = list_find(topic);
    if (!slow_name_valid(topic.p, topic.n) || topic.n > UINT16_MAX || (!kept && run.n == MOST)) {
        return;
    }
    struct msg *msg = msg_new(topic, slice_of(bytes, payload % sizeof bytes), 1, true, NULL);
    CHECK(msg && retain_update(run.retain, msg) == 0);
    if (kept) {
        list_remove(kept);
    }
    if (msg->payload_size > 0) {
        run.v[run.n++] = (struct kept){.msg = msg};
    } else {
        msg_unref(msg);
    }
    check_counts();
}

static void found(void *arg, struct msg *msg)
{
    struct kept *kept = list_find(msg_topic(msg));
    CHECK(arg == &run && kept && kept->msg == msg && !kept->found);
    CHECK(slow_match(run.filter.p, run.filter.n, msg_topic(msg).p, msg_topic(msg).n));
    kept->found = true;
    run.found++;
}

static void match(struct slice filter)
{
    if (!slow_filter_valid(filter.p, filter.n) || filter.n > UINT16_MAX) {
        return;
    }
    size_t expected = 0;
    for (size_t i = 0; i < run.n; i++) {
        struct slice topic = msg_topic(run.v[i].msg);
        expected += slow_match(filter.p, filter.n, topic.p, topic.n);
        run.v[i].found = false;
    }
    run.filter = filter;
    run.found = 0;
    size_t visits = retain_match(run.retain, filter, found, &run);
    CHECK(run.found == expected && visits >= expected);
}

/* Those whose topic is longer than that. */
static bool longer(void *arg, const struct msg *msg)
{
    return msg->topic_size > *(const uint8_t *)arg;
}

static void sweep(uint8_t most)
{
    retain_sweep(run.retain, longer, &most);
    for (size_t i = run.n; i > 0; i--) {
        if (longer(&most, run.v[i - 1].msg)) {
            list_remove(&run.v[i - 1]);
        }
    }
    check_counts();
}

static void finish(bool swept)
{
    if (swept) {
        sweep(0);
        CHECK(run.n == 0);
    }
    retain_free(run.retain);
    while (run.n > 0) {
        CHECK(run.v[run.n - 1].msg->refs == 1);
        list_remove(&run.v[run.n - 1]);
    }
    CHECK(msg_bytes() == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    fuzz_chance = 1;
    run.retain = retain_new();
    run.n = 0;
    while (in.n > 0) {
        uint8_t what = input_u8(&in);
        size_t n;
        uint8_t *line = next_line(&in, &n);
        switch (what >> 6) {
        case 0:
        case 1:
            update(slice_of(line, n), what & 0x7F);
            break;
        case 2:
            match(slice_of(line, n));
            break;
        default:
            if (what == 0xFF) {
                sweep((uint8_t)n);
            } else {
                match(slice_of(line, n));
            }
            break;
        }
        free(line);
    }
    finish(size % 2);
    return 0;
}
