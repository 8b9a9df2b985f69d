/*
 * fuzz_tls.c - a client's bytes into TLS, from the first record to the last.
 *
 * Random bytes do not get past a handshake, and recorded ones do not either: each answer depends on the
 * question. So there is a real client (mbedTLS) in the same process, whose output the input damages on its
 * way: bits flipped, bytes cut, doubled, put in between, in pieces of any size; or the client itself sends
 * what it should not, as records of any kind under its own keys. Chance is the same in each run
 * (mbedtls_ctr_drbg_random is linked to ours), and the steps of the handshake are made when a worker would,
 * but on this thread (in the place of tls/pool.c).
 *
 * Whatever was damaged: the owner gets nothing that the client did not write, and the client nothing that the
 * owner did not. At the end nothing is left.
 *
 * With bit 7 of the flags the input is a certificate instead, for what is told of those (tls/facts.c), and
 * the first bytes of a client (tls/hello.c).
 */
#include "test/fuzz/curve_memo.h"
#include "test/fuzz/fuzz.h"
#include "test/unit/broker/fake_loop.h"
#include "test/unit/broker/fake_transport.h"
#include "tls/cert.h"
#include "tls/internal.h"
#include <unistd.h>

int __wrap_mbedtls_ctr_drbg_random(void *rng, unsigned char *output, size_t n);
int mbedtls_ssl_write_record(mbedtls_ssl_context *ssl, int force_flush); /* of mbedTLS, in no public header */

enum { STEPS_MOST = 100, FLIGHT_MOST = 100000, TURNS_MOST = 1000, CONTEXTS = 2, VERSIONS = 2 };

static struct loop *loop;
static struct tls tls;
static struct tls_context *contexts[CONTEXTS]; /* the second one wants certificates */
static struct step *submitted;

static struct {
    mbedtls_ssl_config conf[VERSIONS][2]; /* with a certificate, without */
    mbedtls_x509_crt crt;
    mbedtls_pk_context key;
    mbedtls_ssl_session session[VERSIONS]; /* of a handshake before, to be resumed */
} makings;

static struct run {
    struct fake_transport below;
    struct transport *t;    /* NULL: closed by its owner */
    struct tls_context *of; /* the listener's */
    int readies, error;
    bool hold; /* the worker is busy with others */
    mbedtls_ssl_context client;
    int handshake;         /* of the client: its last result */
    bool dead;             /* it wants no more */
    struct bytes flight;   /* from the client, on its way */
    struct bytes from, to; /* what the client wrote, and what it is to read */
    uint8_t next;          /* of the bytes they write */
} run;

int __wrap_mbedtls_ctr_drbg_random(void *rng, unsigned char *output, size_t n)
{
    (void)rng;
    return getrandom(output, n, 0) == (ssize_t)n ? 0 : -1;
}

/* ---- in the place of pool.c ---- */

void tls_submit(struct tls *unused, struct step *step)
{
    struct step **last = &submitted;
    (void)unused;
    step->next = NULL;
    while (*last) {
        last = &(*last)->next;
    }
    *last = step;
}

void tls_ref(struct tls *of)
{
    of->refs++;
}

void tls_unref(struct tls *of)
{
    CHECK(--of->refs > 0); /* ours stays */
}

static bool work(void)
{
    struct step *step = submitted;
    if (!step) {
        return false;
    }
    submitted = step->next;
    if (!atomic_load(&step->cancelled)) {
        tls_handshake_run(step);
    }
    step->mail.fn(&step->mail);
    return true;
}

/* ---- the owner ---- */

static void owner_close(void)
{
    if (run.t) {
        run.t->ops->close(run.t);
        run.t = NULL;
    }
}

static void on_ready(void *owner, int error)
{
    struct principal *who = principal_new();
    CHECK(owner == &run && run.t && run.readies++ == 0);
    run.error = error;
    run.t->ops->peer(run.t, who);
    CHECK(error || who->tls_version);
    CHECK(error || run.of == contexts[0] || who->cert_subject); /* nobody without a certificate */
    principal_unref(who);
    if (error) {
        CHECK(error < 0 && run.t->ops->why(run.t));
        owner_close();
        return;
    }
    run.t->ops->want_read(run.t, true);
}

static void on_readable(void *owner)
{
    uint8_t buf[3000];
    CHECK(owner == &run && run.t && run.readies == 1 && !run.error);
    ssize_t n = run.t->ops->read(run.t, buf, sizeof buf);
    if (n > 0) {
        CHECK((size_t)n <= run.from.len && memcmp(bytes_front(&run.from), buf, (size_t)n) == 0);
        bytes_drop(&run.from, (size_t)n);
    } else if (n != -EAGAIN) {
        owner_close();
    }
}

static void on_writable(void *owner)
{
    CHECK(owner == &run && run.t && run.readies == 1);
}

static const struct transport_events events = {on_ready, on_readable, on_writable};

/* ---- the client ---- */

static int client_send(void *arg, const unsigned char *data, size_t n)
{
    (void)arg;
    return bytes_add(&run.flight, data, n, FLIGHT_MOST) ? (int)n : MBEDTLS_ERR_SSL_CONN_EOF;
}

static int client_recv(void *arg, unsigned char *data, size_t n)
{
    struct fake_transport *below = &run.below;
    (void)arg;
    n = n < below->out_size ? n : below->out_size;
    if (n == 0) {
        return MBEDTLS_ERR_SSL_WANT_READ;
    }
    memcpy(data, below->out, n);
    below->out_size -= n;
    memmove(below->out, below->out + n, below->out_size);
    return (int)n;
}

static void client_handshake(void)
{
    if (run.handshake == MBEDTLS_ERR_SSL_WANT_READ) {
        run.handshake = mbedtls_ssl_handshake(&run.client);
        run.dead = run.handshake && run.handshake != MBEDTLS_ERR_SSL_WANT_READ;
    }
}

static void client_write(size_t n)
{
    static uint8_t data[255 * 80];
    if (run.dead || run.handshake || run.flight.len > FLIGHT_MOST / 2) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        data[i] = run.next++;
    }
    int sent = mbedtls_ssl_write(&run.client, data, n);
    run.dead = sent < 0 && sent != MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET;
    CHECK(sent <= 0 || bytes_add(&run.from, data, (size_t)sent, SIZE_MAX));
}

static void client_read(void)
{
    uint8_t data[2000];
    for (int i = 0; i < 50 && !run.dead && !run.handshake; i++) {
        int n = mbedtls_ssl_read(&run.client, data, sizeof data);
        if (n == MBEDTLS_ERR_SSL_WANT_READ) {
            break;
        }
        if (n == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET) {
            continue;
        }
        run.dead = n <= 0;
        if (n > 0) {
            CHECK((size_t)n <= run.to.len && memcmp(bytes_front(&run.to), data, (size_t)n) == 0);
            bytes_drop(&run.to, (size_t)n);
        }
    }
}

/* A record of any kind, under its keys where it has some. */
static void client_record(uint8_t type, struct slice content)
{
    mbedtls_ssl_context *ssl = &run.client;
    if (run.dead || content.n == 0 || !ssl->MBEDTLS_PRIVATE(out_msg) || ssl->MBEDTLS_PRIVATE(out_left)) {
        return;
    }
    ssl->MBEDTLS_PRIVATE(out_msgtype) = type;
    ssl->MBEDTLS_PRIVATE(out_msglen) = content.n;
    memcpy(ssl->MBEDTLS_PRIVATE(out_msg), content.p, content.n);
    run.dead = mbedtls_ssl_write_record(ssl, 1) != 0;
    if (type == MBEDTLS_SSL_MSG_APPLICATION_DATA) {
        CHECK(bytes_add(&run.from, content.p, content.n, SIZE_MAX));
    }
}

/* ---- turns ---- */

static bool turn(void)
{
    struct fake_transport *t = &run.below;
    bool in = t->in_size > 0 || t->at_end || t->read_error, busy = loop->first != NULL;
    if (!run.hold) {
        busy |= work();
    }
    if (t->started && !t->closed && t->reading && in) {
        busy = true;
        t->port.events->readable(t->port.owner);
    }
    if (t->started && !t->closed && t->wants_write && t->write_limit != 0) {
        busy = true;
        t->wants_write = false;
        t->port.events->writable(t->port.owner);
    }
    fake_loop_deferred(loop);
    return busy || loop->first;
}

static void settle(void)
{
    for (int turns = 0; turn(); turns++) {
        CHECK(turns < TURNS_MOST); /* it goes round and round */
    }
}

/* ---- steps ---- */

static void give(const void *p, size_t n)
{
    if (n > 0 && !run.below.closed) {
        fake_transport_give(&run.below, p, n);
    }
}

static void deliver(size_t n)
{
    n = n == 0 || n > run.flight.len ? run.flight.len : n;
    if (n > 0) {
        give(bytes_front(&run.flight), n);
        bytes_drop(&run.flight, n);
    }
}

/* All of it, until both sides wait. */
static void converse(void)
{
    size_t before;
    do {
        before = run.flight.len + run.below.out_size + run.below.in_size;
        client_handshake();
        deliver(0);
        settle();
        client_read();
    } while (run.below.out_size > 0 && before != run.flight.len + run.below.out_size + run.below.in_size);
}

static size_t place(struct input *in, size_t of)
{
    size_t at = (size_t)input_u8(in) << 8 | input_u8(in);
    return of ? at % of : 0;
}

/* Bytes out of the flight, bytes into it. */
static void change(size_t at, size_t gone, struct slice come)
{
    struct bytes old = run.flight;
    run.flight = (struct bytes){0};
    gone = gone < old.len - at ? gone : old.len - at;
    CHECK(bytes_add(&run.flight, at ? bytes_front(&old) : NULL, at, SIZE_MAX));
    CHECK(bytes_add(&run.flight, come.p, come.n, SIZE_MAX));
    CHECK(bytes_add(&run.flight, old.len - at - gone ? bytes_front(&old) + at + gone : NULL,
                    old.len - at - gone, SIZE_MAX));
    bytes_clear(&old);
}

static void do_flip(struct input *in)
{
    size_t at = place(in, run.flight.len);
    uint8_t by = input_u8(in);
    if (run.flight.len > 0) {
        run.flight.block[run.flight.at + at] ^= by;
    }
}

static void do_repeat(struct input *in)
{
    size_t at = place(in, run.flight.len), n = input_u8(in);
    if (run.flight.len > 0 && run.flight.len < FLIGHT_MOST / 2) {
        uint8_t copy[256];
        n = n < run.flight.len - at ? n : run.flight.len - at;
        memcpy(copy, bytes_front(&run.flight) + at, n);
        change(place(in, run.flight.len), 0, slice_of(copy, n));
    }
}

static void do_write(uint8_t how)
{
    static uint8_t data[20000];
    size_t n = how < 128 ? how : (size_t)(how - 127) * 100, third = n / 3;
    if (!run.t || !run.readies || run.error || n == 0) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        data[i] = (uint8_t)~run.next++;
    }
    struct iovec iov[] = {{data, third}, {data + third, third}, {data + 2 * third, n - 2 * third}};
    ssize_t taken = run.t->ops->writev(run.t, iov, 3);
    CHECK(taken <= (ssize_t)n);
    if (taken > 0) {
        CHECK(bytes_add(&run.to, data, (size_t)taken, SIZE_MAX));
    } else if (taken == -EAGAIN) {
        run.t->ops->want_write(run.t, true);
    } else if (taken < 0 && how & 1) { /* or it finds out by reading */
        owner_close();
    }
}

static void do_network(uint8_t how)
{
    struct fake_transport *t = &run.below;
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
        t->write_limit = (how >> 3) * 20;
        break;
    case 6:
        run.hold = how & 8;
        break;
    default:
        t->write_limit = FAKE_NO_LIMIT;
        break;
    }
}

static void do_owner(uint8_t how)
{
    if (how & 4) {
        owner_close();
    } else if (run.t && run.readies) {
        run.t->ops->want_read(run.t, how & 1);
    }
}

/* What it says in its certificate is not what was signed. */
static void do_certificate(struct input *in)
{
    size_t at = place(in, makings.crt.raw.len);
    makings.crt.raw.p[at] ^= input_u8(in);
}

static struct slice some(struct input *in)
{
    return input_bytes(in, input_u8(in));
}

static void do_step(uint8_t what, struct input *in)
{
    static const int64_t times[] = {1, 1000, 2000, 5000};
    size_t at;
    switch ((what & 0x7F) % 18) {
    case 0:
        converse();
        break;
    case 1:
        client_handshake();
        break;
    case 2:
        deliver((size_t)input_u8(in) * 4);
        break;
    case 3:
        do_flip(in);
        break;
    case 4:
        at = place(in, run.flight.len);
        change(at, input_u8(in), slice_of(NULL, 0));
        break;
    case 5:
        at = place(in, run.flight.len);
        change(at, 0, some(in));
        break;
    case 6:
        do_repeat(in);
        break;
    case 7: {
        struct slice raw = some(in);
        give(raw.p, raw.n);
        break;
    }
    case 8:
        client_write((size_t)input_u8(in) * 80);
        break;
    case 9:
        client_read();
        break;
    case 10: {
        uint8_t type = input_u8(in);
        client_record(type % 8 < 5 ? 20 + type % 8 : type, some(in));
        break;
    }
    case 11:
        run.dead |= mbedtls_ssl_close_notify(&run.client) != 0;
        break;
    case 12:
        do_write(input_u8(in));
        break;
    case 13:
        do_network(input_u8(in));
        break;
    case 14:
        do_owner(input_u8(in));
        break;
    case 15:
        fake_loop_pass(loop, times[input_u8(in) % 4]);
        break;
    case 16:
        do_certificate(in);
        break;
    default:
        settle();
        break;
    }
}

/* ---- a run ---- */

/* flags: TLS 1.3, a listener that wants certificates, a client that has none, to resume */
static void begin(uint8_t flags)
{
    int version = flags & 1;
    memset(&run, 0, sizeof run);
    fuzz_chance = 1;
    run.of = contexts[flags >> 1 & 1];
    fake_transport_init(&run.below);
    run.t = tls_accept(&tls, run.of, &run.below.port);
    CHECK(run.t);
    run.t->owner = &run;
    run.t->events = &events;
    mbedtls_ssl_init(&run.client);
    mbedtls_ssl_config *conf = &makings.conf[version][flags >> 2 & 1];
    CHECK(mbedtls_ssl_setup(&run.client, conf) == 0);
    CHECK(mbedtls_ssl_set_hostname(&run.client, "localhost") == 0);
    if (flags & 8 && makings.session[version].MBEDTLS_PRIVATE(ticket)) {
        CHECK(mbedtls_ssl_set_session(&run.client, &makings.session[version]) == 0);
    }
    mbedtls_ssl_set_bio(&run.client, NULL, client_send, client_recv, NULL);
    run.handshake = MBEDTLS_ERR_SSL_WANT_READ;
    run.t->ops->start(run.t);
}

static void end(void)
{
    run.hold = false;
    do_network(7);
    settle();
    owner_close();
    settle();
    fake_loop_pass(loop, TLS_LINGER_MS);
    settle();
    CHECK(!submitted && !tls.lingering && tls.in_flight == 0 && tls.refs == 1 && !loop->timers);
    CHECK(run.below.closed && run.of->refs == 1);
    mbedtls_ssl_free(&run.client);
    fake_transport_free(&run.below);
    bytes_clear(&run.flight);
    bytes_clear(&run.from);
    bytes_clear(&run.to);
}

/* ---- the other kind of input ---- */

static void look_at(struct slice bytes)
{
    mbedtls_x509_crt crt;
    mbedtls_x509_crt_init(&crt);
    if (bytes.n > 0 && mbedtls_x509_crt_parse_der(&crt, bytes.p, bytes.n) == 0) {
        struct cert_facts *facts = cert_facts_new(&crt);
        CHECK(!facts || (strlen(facts->sha256) == 64 && facts->subject));
        CHECK(!facts || !facts->cn || *facts->cn);
        cert_facts_free(facts);
    }
    mbedtls_x509_crt_free(&crt);
    enum hello_kind kind = HELLO_MORE;
    for (size_t n = 1; n <= bytes.n; n++) { /* once it is known it stays the same */
        struct hello hello = tls_hello_look(bytes.p, n);
        CHECK(kind == HELLO_MORE || hello.kind == kind);
        kind = hello.kind;
        CHECK(kind == HELLO_MORE || kind == HELLO_TLS || tls_hello_says(kind));
    }
}

/* ---- the beginning ---- */

static void make_conf(int version, bool certificate)
{
    static const char *protocols[] = {"mqtt", NULL};
    mbedtls_ssl_config *conf = &makings.conf[version][!certificate];
    mbedtls_ssl_protocol_version v = version ? MBEDTLS_SSL_VERSION_TLS1_3 : MBEDTLS_SSL_VERSION_TLS1_2;
    mbedtls_ssl_config_init(conf);
    CHECK(mbedtls_ssl_config_defaults(conf, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                      MBEDTLS_SSL_PRESET_DEFAULT) == 0);
    mbedtls_ssl_conf_rng(conf, TLS_RNG);
    mbedtls_ssl_conf_authmode(conf, MBEDTLS_SSL_VERIFY_NONE); /* it is not the one that is tested */
    mbedtls_ssl_conf_min_tls_version(conf, v);
    mbedtls_ssl_conf_max_tls_version(conf, v);
    CHECK(mbedtls_ssl_conf_alpn_protocols(conf, protocols) == 0);
    CHECK(!certificate || mbedtls_ssl_conf_own_cert(conf, &makings.crt, &makings.key) == 0);
#ifdef MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED
    mbedtls_ssl_conf_tls13_enable_signal_new_session_tickets(conf, 1);
#endif
}

static char *in_dir(const char *dir, const char *name)
{
    static char paths[8][80];
    static int n;
    char *path = paths[n++];
    CHECK(n <= 8 && snprintf(path, sizeof paths[0], "%s/%s", dir, name) > 0);
    return path;
}

static void make_all(void)
{
    static const char *const names[] = {"localhost", NULL};
    char dir[] = "/tmp/bramble-fuzz-XXXXXX", command[64];
    struct err err = {""};
    CHECK(mkdtemp(dir));
    CHECK(cert_make_all(dir, names, 0, &err) == 0 && cert_make_client(dir, "meter", 0, &err) == 0);
    struct config_listener listener = {
        .tls = true, .certfile = in_dir(dir, "server.crt"), .keyfile = in_dir(dir, "server.key")};
    contexts[0] = tls_context_load(&listener, &err);
    listener.cafile = in_dir(dir, "ca.crt");
    listener.require_certificate = true;
    contexts[1] = tls_context_load(&listener, &err);
    CHECK(contexts[0] && contexts[1]);
    char *crt = in_dir(dir, "meter.crt"), *key = in_dir(dir, "meter.key");
    mbedtls_x509_crt_init(&makings.crt);
    mbedtls_pk_init(&makings.key);
    CHECK(mbedtls_x509_crt_parse_file(&makings.crt, crt) == 0);
    CHECK(mbedtls_pk_parse_keyfile(&makings.key, key, NULL, TLS_RNG) == 0);
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    CHECK(system(command) == 0);
}

/* A handshake as it should be; its ticket is kept. */
static void make_session(int version)
{
    begin((uint8_t)version);
    converse();
    CHECK(run.handshake == 0 && run.readies == 1 && run.error == 0);
    client_read(); /* tickets */
    client_write(1000);
    converse();
    CHECK(run.from.len == 0);
    do_write(200);
    converse();
    CHECK(run.to.len == 0);
    CHECK(mbedtls_ssl_get_session(&run.client, &makings.session[version]) == 0);
    end();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    fuzz_log_start();
    loop = loop_new();
    tls = (struct tls){.refs = 1, .loop = loop, .queue_max = 4, .timeout_ms = 5000};
    CHECK(tls_library_start(NULL) == 0);
    mbedtls_ssl_ticket_init(&tls.tickets);
    CHECK(mbedtls_ssl_ticket_setup(&tls.tickets, TLS_RNG, MBEDTLS_CIPHER_AES_256_GCM, 86400) == 0);
    make_all();
    for (int version = 0; version < VERSIONS; version++) {
        make_conf(version, true);
        make_conf(version, false);
        mbedtls_ssl_session_init(&makings.session[version]);
        make_session(version);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    uint8_t flags = input_u8(&in);
    if (flags & 0x80) {
        look_at(slice_of(in.p, in.n));
        return 0;
    }
    size_t raw_size = makings.crt.raw.len;
    uint8_t *raw = malloc(raw_size);
    memcpy(raw, makings.crt.raw.p, raw_size);
    begin(flags);
    for (int n = 0; n < STEPS_MOST && in.n > 0; n++) {
        uint8_t what = input_u8(&in);
        do_step(what, &in);
        if (!(what & 0x80)) {
            turn();
        }
    }
    end();
    memcpy(makings.crt.raw.p, raw, raw_size);
    free(raw);
    return 0;
}
