/*
 * fuzz_ws.c - a client's bytes through libwebsockets: requests, upgrades and frames, over the transport that
 * the test holds (fake_transport.h), without a socket.
 *
 * The input is one byte of flags, then steps: what, how, and for most of them some bytes. A step sends raw
 * bytes, or a line of a request, or a whole frame; or it is the owner that writes, stops reading or closes;
 * or the network takes less, breaks or ends. Checked is what must hold for any client:
 *   - what the owner is told: ready() once, nothing after close(), and of well-formed binary frames exactly
 * their payloads
 *   - what goes out: answers of HTTP, then frames as a server makes them, whose payloads are what the owner
 * wrote
 *   - nothing is left behind when all are gone
 */
#include "test/fuzz/fuzz.h"
#include "test/unit/broker/fake_loop.h"
#include "test/unit/broker/fake_transport.h"
#include "ws/ws_conn.h"
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONNS = 2, STEPS_MOST = 200, GIVEN_MOST = 1 << 20, TURNS_MOST = 5000 };

static struct loop *loop;
static struct ws *ws;
static struct ws_site *sites[2]; /* with any origin; with two */
static size_t given;

struct end {
    struct fake_transport below;
    struct transport_ops ops; /* of below, with a descriptor */
    int fd;
    struct transport *t; /* NULL: closed by its owner */
    int readies, error;
    bool exact;                      /* only whole frames were sent until now: what comes in is known */
    struct bytes expect, wrote, out; /* payloads the owner must get, gave, and what went out undecoded */
    bool upgraded, closing;          /* in the output */
    bool raw_out;                    /* its output is not looked at any more */
};

static struct end ends[CONNS];

/* ---- the owner ---- */

static void on_ready(void *owner, int error)
{
    struct end *end = owner;
    CHECK(end->t && end->readies++ == 0);
    end->error = error;
    if (error) {
        CHECK(error < 0);
        (void)end->t->ops->why(end->t);
        end->t->ops->close(end->t);
        end->t = NULL;
        return;
    }
    end->t->ops->want_read(end->t, true);
}

static void on_readable(void *owner)
{
    struct end *end = owner;
    uint8_t buf[1000];
    CHECK(end->t && end->readies == 1 && !end->error);
    ssize_t n = end->t->ops->read(end->t, buf, sizeof buf);
    if (n > 0) {
        if (end->exact) {
            CHECK((size_t)n <= end->expect.len && memcmp(bytes_front(&end->expect), buf, (size_t)n) == 0);
            bytes_drop(&end->expect, (size_t)n);
        }
    } else if (n != -EAGAIN) {
        end->t->ops->close(end->t);
        end->t = NULL;
    }
}

static void on_writable(void *owner)
{
    struct end *end = owner;
    CHECK(end->t && end->readies == 1);
}

static const struct transport_events events = {on_ready, on_readable, on_writable};

static int below_fd(struct transport *t)
{
    return ((struct end *)t)->fd;
}

/* ---- what goes out ---- */

/* The size of the frame at the front with its header, 0 when it is not there as a whole. */
static size_t frame_size(const uint8_t *p, size_t n, size_t *header)
{
    if (n < 2) {
        return 0;
    }
    size_t size = p[1] & 0x7F, more = size < 126 ? 0 : size == 126 ? 2 : 8;
    if (n < 2 + more) {
        return 0;
    }
    for (size_t i = 0; more && i < more; i++) {
        size = (i ? size << 8 : 0) | p[2 + i];
    }
    CHECK(more == 0 || size > (more == 2 ? 125 : 65535)); /* as short as can be */
    *header = 2 + more;
    return n >= 2 + more + size ? 2 + more + size : 0;
}

static void check_frame(struct end *end, const uint8_t *p, size_t header, size_t n)
{
    int opcode = p[0] & 15;
    CHECK((p[0] & 0x70) == 0 && (p[0] & 0x80) && !(p[1] & 0x80)); /* whole, unmasked */
    CHECK(!end->closing);
    CHECK(opcode == 2 || opcode == 8 || opcode == 9 || opcode == 10);
    CHECK(opcode == 2 || n - header <= 125);
    end->closing = opcode == 8;
    if (opcode == 2 && n > header) {
        CHECK(n - header <= end->wrote.len && memcmp(bytes_front(&end->wrote), p + header, n - header) == 0);
        bytes_drop(&end->wrote, n - header);
    }
}

/* Answers of HTTP up to the one that upgrades; true when that is passed. */
static bool skip_answers(struct end *end)
{
    static const char hello[] = "HTTP/1.1 ";
    size_t n = end->out.len;
    if (n < sizeof hello + 3) {
        return false;
    }
    const char *p = (const char *)bytes_front(&end->out);
    CHECK(memcmp(p, hello, 7) == 0 && (p[7] == '0' || p[7] == '1') &&
          p[8] == ' '); /* 1.0: libwebsockets' own */
    const char *head = memmem(p, n, "\r\n\r\n", 4);
    if (memcmp(p + sizeof hello - 1, "101", 3) == 0 && head) {
        bytes_drop(&end->out, (size_t)(head - p) + 4);
        end->upgraded = true;
        return true;
    }
    end->raw_out = memcmp(p + sizeof hello - 1, "101", 3) != 0; /* bodies: the site's, or a sentence */
    return false;
}

static void hear(struct end *end)
{
    if (end->below.out_size == 0) {
        return;
    }
    if (!end->raw_out) {
        CHECK(bytes_add(&end->out, end->below.out, end->below.out_size, SIZE_MAX));
    }
    end->below.out_size = 0;
    while (!end->raw_out && end->out.len > 0 && (end->upgraded || skip_answers(end))) {
        size_t header = 0, left = end->out.len;
        size_t n = left ? frame_size(bytes_front(&end->out), left, &header) : 0;
        if (n == 0) {
            break;
        }
        check_frame(end, bytes_front(&end->out), header, n);
        bytes_drop(&end->out, n);
    }
}

/* ---- turns ---- */

static bool serve(struct end *end)
{
    struct fake_transport *t = &end->below;
    bool in = t->in_size > 0 || t->at_end || t->read_error, busy = false;
    if (t->started && !t->closed && t->reading && in) {
        busy = true;
        t->port.events->readable(t->port.owner);
    }
    if (t->started && !t->closed && t->wants_write && t->write_limit != 0) {
        busy = true;
        t->wants_write = false;
        t->port.events->writable(t->port.owner);
    }
    hear(end);
    return busy;
}

static bool turn(void)
{
    bool busy = loop->first != NULL;
    for (int i = 0; i < CONNS; i++) {
        busy |= serve(&ends[i]);
    }
    fake_loop_deferred(loop);
    for (int i = 0; i < CONNS; i++) {
        hear(&ends[i]);
    }
    return busy || loop->first;
}

static void settle(void)
{
    for (int turns = 0; turn(); turns++) {
        CHECK(turns < TURNS_MOST); /* it goes round and round */
    }
}

/* ---- steps ---- */

static const char *const lines[] = {
    "GET /mqtt HTTP/1.1\r\n",
    "GET / HTTP/1.1\r\n",
    "HEAD /a.js HTTP/1.1\r\n",
    "Host: localhost\r\n",
    "Upgrade: websocket\r\n",
    "Connection: Upgrade\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "Sec-WebSocket-Version: 13\r\n",
    "Sec-WebSocket-Protocol: mqtt\r\n",
    "Origin: https://a.example\r\n",
    "Accept-Encoding: gzip\r\n",
    "If-None-Match: *\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "GET /sub/%2e%2e/../b.txt?x=y HTTP/1.0\r\n",
    "\r\n",
};

static const char upgrade[] =
    "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: mqtt\r\nOrigin: https://a.example\r\n\r\n";

static void give(struct end *end, const void *p, size_t n)
{
    if (n > 0 && end->below.started && !end->below.closed && given + n <= GIVEN_MOST) {
        given += n;
        fake_transport_give(&end->below, p, n);
    }
}

static void do_open(struct end *end, uint8_t how)
{
    struct fake_transport *below = &end->below;
    if (end->t || (below->started && !below->closed)) {
        return;
    }
    int fd = end->fd;
    fake_transport_free(below);
    bytes_clear(&end->expect);
    bytes_clear(&end->wrote);
    bytes_clear(&end->out);
    memset(end, 0, sizeof *end);
    end->fd = fd;
    fake_transport_init(below);
    end->ops = *below->port.ops;
    end->ops.fd = below_fd;
    below->port.ops = &end->ops;
    below->late = how & 2;
    end->t = ws_accept(ws, sites[how & 1], &below->port);
    CHECK(end->t);
    end->t->owner = end;
    end->t->events = &events;
    end->t->ops->start(end->t);
    if (below->late) {
        below->port.events->ready(below->port.owner, how & 4 ? -EPROTO : 0);
    }
    end->exact = how & 8;
    if (how & 8) {
        give(end, upgrade, sizeof upgrade - 1);
    }
}

/* how: opcode (4), FIN, unmasked, a length that lies, two reserved bits in one */
static void do_frame(struct end *end, uint8_t how, struct slice payload)
{
    static uint8_t frame[2000];
    size_t n = 0, told = payload.n + (how & 0x40 ? 3 : 0);
    static const uint8_t mask[] = {0x5a, 0x00, 0xc3, 0x11};
    bool masked = !(how & 0x20);
    frame[n++] = (uint8_t)((how & 15) | (how & 0x10 ? 0 : 0x80) | (how & 0x80 ? 0x40 : 0));
    frame[n++] = (uint8_t)((masked ? 0x80 : 0) | (told < 126 ? told : 126));
    if (told >= 126) {
        frame[n++] = (uint8_t)(told >> 8);
        frame[n++] = (uint8_t)told;
    }
    if (masked) {
        memcpy(frame + n, mask, sizeof mask);
        n += sizeof mask;
    }
    for (size_t i = 0; i < payload.n; i++) {
        frame[n + i] = payload.p[i] ^ (masked ? mask[i % sizeof mask] : 0);
    }
    bool good = how == 2;
    if (good && end->exact && end->below.started && !end->below.closed) {
        CHECK(bytes_add(&end->expect, payload.p, payload.n, SIZE_MAX));
    }
    end->exact &= good;
    give(end, frame, n + payload.n);
}

static void do_write(struct end *end, uint8_t how, struct slice payload)
{
    size_t most = (how & 1 ? 4000 : 1) * (payload.n ? payload.n : 1), third = most / 3;
    if (!end->t || most > 200000) {
        return;
    }
    uint8_t *bytes = malloc(most);
    for (size_t i = 0; i < most; i++) {
        bytes[i] = payload.n ? payload.p[i % payload.n] : 0;
    }
    struct iovec iov[] = {{bytes, third}, {bytes + third, third}, {bytes + 2 * third, most - 2 * third}};
    size_t before = end->wrote.len;
    CHECK(bytes_add(&end->wrote, bytes, most, SIZE_MAX)); /* it goes out from within writev() */
    ssize_t n = end->readies && !end->error ? end->t->ops->writev(end->t, iov, 3) : -EAGAIN;
    CHECK(n <= (ssize_t)most);
    size_t taken = n > 0 ? (size_t)n : 0;
    if (n >= 0 || n == -EAGAIN) {
        end->wrote.len = before + taken; /* hear() has not run yet */
    }
    free(bytes);
    if (n == -EAGAIN) {
        end->t->ops->want_write(end->t, true);
    }
}

static void do_network(struct end *end, uint8_t how)
{
    struct fake_transport *t = &end->below;
    switch (how & 7) {
    case 0:
        t->at_end = true;
        break;
    case 1:
        t->read_error = -ECONNRESET;
        break;
    case 2:
        t->write_error = -EPIPE;
        break;
    case 3:
        t->read_most = how >> 3;
        break;
    case 4:
        t->write_most = how >> 3;
        break;
    case 5:
        t->write_limit = FAKE_NO_LIMIT;
        break;
    default:
        t->write_limit = how >> 3;
        break;
    }
}

static void do_owner(struct end *end, uint8_t how)
{
    if (!end->t) {
        return;
    }
    if (how & 4) {
        end->t->ops->close(end->t);
        end->t = NULL;
    } else if (how & 2) {
        end->t->ops->want_write(end->t, how & 1);
    } else if (end->readies) {
        end->t->ops->want_read(end->t, how & 1);
    }
}

/* Raw bytes and lines before the upgrade leave what is known as it is only when the whole upgrade was sent.
 */
static void do_bytes(struct end *end, const void *p, size_t n)
{
    end->exact &= n == 0;
    give(end, p, n);
}

static void do_step(uint8_t what, uint8_t how, struct input *in)
{
    static const int64_t times[] = {1, 100, 3000, 5000, 30000, 0};
    struct end *end = &ends[what >> 4 & 1];
    struct slice bytes = slice_of(NULL, 0);
    if ((what & 15) < 8) {
        size_t n = input_u8(in);
        bytes = input_bytes(in, n == 255 ? 1500 : n);
    }
    switch (what & 15) {
    case 0:
    case 1:
        do_bytes(end, bytes.p, bytes.n);
        break;
    case 2:
    case 3:
    case 4:
        do_frame(end, how, bytes);
        break;
    case 5:
    case 6:
        do_write(end, how, bytes);
        break;
    case 8:
    case 9:
        do_bytes(end, lines[how % 16], strlen(lines[how % 16]));
        break;
    case 10:
        do_network(end, how);
        break;
    case 11:
        do_owner(end, how);
        break;
    case 12:
        fake_loop_pass(loop, times[how % 6]);
        break;
    case 13:
        do_open(end, how);
        break;
    default:
        settle();
        break;
    }
}

static void finish(void)
{
    for (int i = 0; i < CONNS; i++) {
        do_network(&ends[i], 5);
    }
    settle();
    for (int i = 0; i < CONNS; i++) {
        struct end *end = &ends[i];
        if (end->exact && end->t && end->readies && !end->error && !end->below.read_error &&
            ((struct ws_conn *)end->t)->want_read) {
            CHECK(end->expect.len == 0); /* nothing is kept back */
        }
        do_owner(end, 4);
        end->below.at_end = true;
    }
    settle();
    fake_loop_pass(loop, 60000);
    settle();
    CHECK(TAILQ_EMPTY(&ws->conns) && TAILQ_EMPTY(&ws->http) && ws->http_count == 0);
    CHECK(!loop->timers);
    for (int i = 0; i < CONNS; i++) {
        CHECK(!ends[i].below.started || ends[i].below.closed);
        fake_transport_free(&ends[i].below);
        bytes_clear(&ends[i].expect);
        bytes_clear(&ends[i].wrote);
        bytes_clear(&ends[i].out);
        memset(&ends[i].below, 0, sizeof ends[i].below);
    }
}

/* ---- the beginning ---- */

static void put_file(const char *dir, const char *name, const char *text, size_t times)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    CHECK(file);
    while (times-- > 0) {
        CHECK(fputs(text, file) >= 0);
    }
    fclose(file);
}

static void make_sites(void)
{
    char dir[] = "/tmp/bramble-fuzz-XXXXXX", sub[64], command[64];
    static char first[] = "https://a.example", second[] = "http://b.example:8080";
    char *origins[] = {first, second};
    struct config_listener listener = {.protocol = PROTOCOL_WEBSOCKETS, .websockets_headers_size = 1000};
    struct err err;
    CHECK(mkdtemp(dir));
    snprintf(sub, sizeof sub, "%s/sub", dir);
    CHECK(mkdir(sub, 0700) == 0);
    put_file(dir, "index.html", "<p>hello\n", 10);
    put_file(dir, "a.js", "let a = 1;\n", 20000); /* more than a frame */
    put_file(dir, "a.js.gz", "not really compressed\n", 5);
    put_file(sub, "b.txt", "b", 1);
    listener.http_dir = dir;
    sites[0] = ws_site_load(&listener, &err);
    listener.websockets_origin = origins;
    listener.websockets_origins = 2;
    listener.websockets_headers_size = 0;
    sites[1] = ws_site_load(&listener, &err);
    CHECK(sites[0] && sites[1]);
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    CHECK(system(command) == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    struct err err;
    fuzz_log_start();
    loop = loop_new();
    static struct strangers unlimited;
    ws = ws_new(loop, &unlimited, 1000, 5000, &err);
    CHECK(ws);
    make_sites();
    for (int i = 0; i < CONNS; i++) {
        int pair[2]; /* libwebsockets sets options of a socket; nothing is ever sent on it */
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
        ends[i].fd = pair[0];
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    fuzz_chance = 1;
    given = 0;
    do_open(&ends[0], input_u8(&in));
    for (int n = 0; n < STEPS_MOST && in.n > 0; n++) {
        uint8_t what = input_u8(&in), how = input_u8(&in);
        do_step(what, how, &in);
        if (!(what & 0x80)) {
            turn();
        }
    }
    finish();
    return 0;
}
