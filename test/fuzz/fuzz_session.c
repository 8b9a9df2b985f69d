/*
 * fuzz_session.c - the whole protocol between several clients and a storage: connections, sessions, router,
 * queues and tickets, over the fakes of the unit tests.
 *
 * The input is a list of steps of four bytes: what, who, and two that say how; a step that sends raw bytes is
 * followed by them. Other steps make packets, so that also few bytes get deep. After each step a turn of the
 * loop (unless bit 7 of `who` says not yet), and after each turn everything that must always hold is looked
 * at (session_check.h), and what each client got (session_model.h). At the end all clients go, and nothing
 * may be left.
 *
 * The mutator works on steps, so that it neither tears them nor changes where they begin.
 */
#include "broker/local.h"
#include "broker/policy.h"
#include "broker/router.h"
#include <stdlib.h>
#include <string.h>

/* The broker's calls of these are linked to __wrap_malloc() and so on, below; the fakes have memory always.
 */
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *text);
#define malloc(n)       __real_malloc(n)
#define calloc(n, size) __real_calloc(n, size)
#define realloc(p, n)   __real_realloc(p, n)

#include "test/fuzz/session_check.h"
#include "test/fuzz/session_model.h"
#include "test/fuzz/session_steps.h"

enum { SLOTS = 6, DOORS = 3, TURNS_MOST = 20000, GIVEN_MOST = 4 << 20 };

static struct slot {
    struct client *c;
    struct witness w;
    struct transport_ops ops; /* framed or not */
    bool ready;               /* the transport has said so */
} slots[SLOTS];

static struct config_listener listeners[DOORS];
static struct config_security securities[DOORS];
static struct door doors[DOORS];
static struct acl *acls[ACLS];
static struct local *local;
static bool trace;
static size_t given; /* bytes, in this run */

/* ---- memory that runs out ---- */

static struct {
    int after, fails; /* so many calls succeed, then so many fail */
    bool on;          /* the broker is at work, not we */
} memory;

static bool memory_fails(void)
{
    if (!memory.on || memory.fails == 0 || memory.after-- > 0) {
        return false;
    }
    memory.after = 0;
    memory.fails--;
    memory_failed = true;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return memory_fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return memory_fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return memory_fails() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *text)
{
    return memory_fails() ? NULL : __real_strdup(text);
}

/* ---- the broker ---- */

static void doors_open(void)
{
    static char mount_point[] = "m/", password_file[] = "passwords";
    for (int i = 0; i < DOORS; i++) {
        securities[i] = rig.security;
        listeners[i] = rig.listener;
        listeners[i].security = &securities[i];
        doors[i] = (struct door){.config = &listeners[i]};
    }
    listeners[1].mount_point = mount_point;
    listeners[1].max_qos = 1;
    doors[2].passwords = (struct passwords *)&rig; /* nobody looks into them */
    securities[2].password_file = password_file;
    securities[2].allow_anonymous = false;
    rig.broker.doors = doors;
    rig.broker.door_count = DOORS;
}

/* The broker's own client, as $SYS and the access log are: it answers what it hears. */
static void local_heard(void *arg, const struct msg *msg)
{
    (void)arg;
    if (msg->from) {
        static const char topic[] = "$SYS/heard";
        known_add(slice_of(NULL, 0), slice_str(topic), msg_topic(msg));
        CHECK(local_publish(local, topic, msg_topic(msg), msg->qos, msg->retain) == 0);
    }
}

static void start(uint8_t flags)
{
    memset(known, 0, sizeof known);
    fuzz_chance = 1;
    given = 0;
    limits_raised = memory_failed = false;
    memory.fails = 0;
    CHECK(rig_start(flags & 1) == 0);
    rig.config.connection_messages = true;
    rig.config.max_inflight_messages = flags & 2 ? 3 : 20;
    rig.config.max_queued_messages = flags & 4 ? 5 : 1000;
    rig.config.queue_memory_limit = flags & 32 ? 100 : 0;
    rig.config.persistence_commit_delay = flags & 64 ? 3600000 : 0; /* as long as it takes */
    limits_changed();
    doors_open();
    for (int i = 0; i < SLOTS; i++) {
        slots[i] = (struct slot){.c = client_new()};
        slots[i].c->t.closed = true; /* not open yet */
    }
    local = NULL;
    if (flags & 8) {
        local = local_new(&rig.broker, "local", local_heard, NULL);
        CHECK(local && local_subscribe(local, "a/#", 2) == 0);
    }
}

static void trace_bytes(const struct slot *s, const char *way, const uint8_t *p, size_t n)
{
    if (trace) {
        fprintf(stderr, "    %d %s %zu:", (int)(s - slots), way, n);
        for (size_t i = 0; i < n && i < 40; i++) {
            fprintf(stderr, " %02x", p[i]);
        }
        fprintf(stderr, "\n");
    }
}

static void hear(struct slot *s)
{
    struct fake_transport *t = &s->c->t;
    if (t->out_size > 0) {
        trace_bytes(s, "<-", t->out, t->out_size);
        witness_down(&s->w, t->out, t->out_size);
        t->out_size = 0;
    }
}

/* One turn; false when there was nothing to do. */
static bool fuzz_turn(void)
{
    while (rig.login_count > LOGINS - SLOTS) { /* as many as may come in a turn */
        verdict(AUTH_UNAVAILABLE);
    }
    memory.on = true;
    bool busy = one_turn();
    memory.on = false;
    busy |= rig.broker.loop->first != NULL; /* that turn left something for the next */
    for (int i = 0; i < SLOTS; i++) {
        hear(&slots[i]);
    }
    check_state();
    return busy;
}

static void fuzz_settle(void)
{
    for (int i = 0; i < SLOTS; i++) {
        struct fake_transport *t = &slots[i].c->t;
        t->read_most = t->in_size > 2000 ? 0 : t->read_most; /* else it takes too long, byte by byte */
    }
    for (int turns = 0; fuzz_turn(); turns++) {
        CHECK(turns < TURNS_MOST); /* it goes round and round */
    }
    check_settled();
}

static void give(struct slot *s, const void *p, size_t n)
{
    if (!s->c->t.closed && n > 0 && given + n <= GIVEN_MOST) {
        given += n;
        trace_bytes(s, "->", p, n);
        witness_up(&s->w, p, n);
        client_send(s->c, p, n);
    }
}

/* ---- steps: the connection ---- */

static void do_open(struct slot *s, uint8_t a, uint8_t b)
{
    struct fake_transport *t = &s->c->t;
    if (!t->closed) {
        return;
    }
    witness_free(&s->w);
    fake_transport_free(t);
    fake_transport_init(t);
    s->ops = *t->port.ops;
    s->ops.framed = a & 0x10;
    t->port.ops = &s->ops;
    t->late = a & 0x20;
    t->read_most = b;
    s->ready = !t->late;
    int door = a % DOORS;
    s->w.mount = slice_str(listeners[door].mount_point);
    memory.on = true;
    conn_accept(&rig.broker, &t->port, door);
    memory.on = false;
    s->c->conn = t->closed ? NULL : t->port.owner;
}

static void do_ready(struct slot *s, uint8_t a, uint8_t b)
{
    struct fake_transport *t = &s->c->t;
    if (!t->closed && t->started && !s->ready) {
        s->ready = true;
        t->why = b & 1 ? "its handshake failed" : NULL;
        t->port.events->ready(t->port.owner, a & 1 ? -EPROTO : 0);
    }
}

static void do_write(struct slot *s, uint8_t a, uint8_t b)
{
    s->c->t.write_limit = a == 255 ? FAKE_NO_LIMIT : a < 64 ? a : (a - 63) * 1000;
    s->c->t.write_most = b < 128 ? b : (size_t)(b - 127) * 500;
}

static void do_end(struct slot *s, uint8_t a)
{
    struct fake_transport *t = &s->c->t;
    t->at_end |= a % 3 == 0;
    t->read_error = a % 3 == 1 ? -ECONNRESET : t->read_error;
    t->write_error = a % 3 == 2 ? -EPIPE : t->write_error;
}

/* ---- steps: packets ---- */

static void do_packet(struct slot *s, uint8_t what, uint8_t a, uint8_t b)
{
    static uint8_t packet[PACKET_MOST];
    size_t n = step_packet(packet, what, a, b);
    give(s, packet, n);
}

/* What a good client says to what it got: the first `a` of it, or (b) the last first. */
static void do_owed(struct slot *s, uint8_t a, uint8_t b)
{
    for (int i = 0; i <= a && s->w.ack_count > 0; i++) {
        uint8_t p[4];
        uint32_t at = b & 1 ? s->w.ack_count - 1 : b & 2 ? b % s->w.ack_count : 0;
        struct owed ack = s->w.acks[at];
        owed_drop(s->w.acks, &s->w.ack_count, at);
        give(s, p, packet_put_ack(p, ack.type, ack.id));
    }
}

/* Many at once: what fills windows, queues and rings. */
static void do_storm(struct slot *s, uint8_t a, uint8_t b)
{
    for (int i = 0; i <= b % 100; i++) {
        do_packet(s, STEP_PUBLISH, a, (uint8_t)(i << 3 | (b >> 6)));
    }
}

static void do_raw(struct slot *s, struct slice bytes)
{
    give(s, bytes.p, bytes.n);
}

/* ---- steps: the broker's side ---- */

/* The password file of the one door that has one: every name is in it. A reload may bring another. */
static uint64_t mark = 1; /* of every user now */

uint64_t __wrap_passwords_mark(const struct passwords *passwords, struct slice user);
uint64_t __wrap_passwords_mark(const struct passwords *passwords, struct slice user)
{
    (void)user;
    return passwords == doors[2].passwords ? mark : 1;
}

static void do_rights(uint8_t a, uint8_t b)
{
    struct door *door = &doors[b % DOORS];
    struct acl *acl = a % (ACLS + 1) ? acls[a % (ACLS + 1) - 1] : NULL;
    struct policy_before before[DOORS];
    for (int i = 0; i < DOORS; i++) {
        struct passwords *passwords = doors[i].passwords ? (struct passwords *)&before : NULL;
        before[i] = (struct policy_before){doors[i].config, passwords, doors[i].acl != NULL};
    }
    acl_unref(door->acl);
    door->acl = acl ? acl_ref(acl) : NULL;
    mark = a & 0x80 ? a >> 5 & 2 : 1; /* all as before, or all removed, or all changed */
    policy_changed(&rig.broker, before);
}

static void do_limits(uint8_t a, uint8_t b)
{
    struct config *c = &rig.config;
    struct config_listener *l = &listeners[b >> 6 & 1];
    static char prefix[] = "a";
    bool on = b & 1;
    uint32_t v = step_limit(b);
    switch (a % LIMITS) {
    case 0:
        c->max_inflight_messages = v;
        break;
    case 1:
        c->max_inflight_bytes = v;
        break;
    case 2:
        c->max_queued_messages = v;
        break;
    case 3:
        c->max_queued_burst = v;
        break;
    case 4:
        c->max_queued_bytes = v;
        break;
    case 5:
        c->queue_qos0_messages = on;
        break;
    case 6:
        c->upgrade_outgoing_qos = on;
        break;
    case 7:
        c->max_packet_size = v && v < 20 ? 20 : v;
        break;
    case 8:
        c->message_size_limit = v;
        break;
    case 9:
        c->memory_limit = v * 100;
        break;
    case 10:
        c->max_topic_levels = v ? v : 1;
        break;
    case 11:
        c->retain_available = on;
        break;
    case 12:
        c->check_retain_source = on;
        break;
    case 13:
        c->max_keepalive = v;
        break;
    case 14:
        c->global_max_connections = (int)v - 1;
        break;
    case 15:
        c->global_max_clients = (int)v - 1;
        break;
    case 16:
        c->clientid_prefixes = on ? prefix : NULL;
        break;
    case 17:
        l->max_connections = (int)v - 1;
        break;
    case 18:
        l->max_qos = b % 3;
        break;
    case 19:
        l->use_username_as_clientid = on;
        break;
    case 20:
        l->accept_protocol_versions = b & 0x38;
        break;
    case 21:
        l->security->allow_anonymous = on;
        break;
    case 22:
        l->security->allow_zero_length_clientid = on;
        break;
    default:
        c->connection_messages = on;
        break;
    }
    limits_raised = true;
    limits_changed();
}

/* As sys.c's sweep_due(): persistent_client_expiration. */
static void do_expire(void)
{
    struct session *session, *next;
    HASH_ITER(hh, rig.broker.sessions.by_id, session, next) {
        if (!session->peer) {
            session_destroy(&rig.broker.sessions, session);
        }
    }
}

/* So near the end of the identifiers as only many messages would bring it. */
static void do_wrap(struct slot *s, uint8_t a)
{
    struct conn *conn = s->c->t.closed ? NULL : s->c->conn;
    if (conn && conn->session && conn->session->sent.count == 0) {
        conn->session->last_id = (uint16_t)(UINT16_MAX - a % 8);
    }
}

/* Or it is not done: all of it is to be handed over again. */
static void do_commit(uint8_t a)
{
    if (rig.storage.batch) {
        enum storage_error error = a & 1 ? STORAGE_FULL : STORAGE_ERROR;
        CHECK(fake_storage_answer(&rig.storage, error, a % 8 == 7 || a % 8 == 6 ? "no" : NULL));
    }
}

/* Who waits for messages that are in the store only; or they cannot be read now. */
static void do_fetch(uint8_t a)
{
    fake_storage_read(&rig.storage, a % 8 == 7);
}

static void do_local(uint8_t a, uint8_t b)
{
    if (local) {
        struct slice payload = slice_of(&b, b ? 1 : 0);
        struct slice topic = step_topic(a);
        char name[64];
        if (topic.n < sizeof name) {
            snprintf(name, sizeof name, "%.*s", SLICE_ARG(topic));
            known_add(slice_of(NULL, 0), topic, payload);
            CHECK(local_publish(local, name, payload, b % 3, b & 4) == 0);
        }
    }
}

static void do_verdict(uint8_t a)
{
    if (rig.login_count > 0) {
        verdict(a % 3 == 0 ? AUTH_ALLOWED : a % 3 == 1 ? AUTH_DENIED : AUTH_UNAVAILABLE);
    }
}

static void do_pause(struct slot *s, uint8_t a)
{
    struct conn *conn = s->c->t.closed ? NULL : s->c->conn;
    if (conn && conn->session) {
        conn->peer.ops->pause(&conn->peer, a & 1);
    }
}

/* Where something is durable the broker ends itself rather than go on without memory. */
static void do_no_memory(uint8_t a, uint8_t b)
{
    if (!rig.durable && !local) {
        memory.after = a % 64;
        memory.fails = b % 4 + 1;
    }
}

static void do_step(const struct step *step)
{
    struct slot *s = &slots[(step->who & 0x3F) % SLOTS];
    uint8_t a = step->a, b = step->b;
    if (trace) {
        fprintf(stderr, "%s %d, %d %d%s\n", step_names[step->what % STEPS], (int)(s - slots), a, b,
                step->who & 0x80 ? "" : ", turn");
    }
    switch (step->what % STEPS) {
    case STEP_OPEN:
        do_open(s, a, b);
        break;
    case STEP_READY:
        do_ready(s, a, b);
        break;
    case STEP_OWED:
        do_owed(s, a, b);
        break;
    case STEP_STORM:
        do_storm(s, a, b);
        break;
    case STEP_RAW:
        do_raw(s, step->bytes);
        break;
    case STEP_WRITE:
        do_write(s, a, b);
        break;
    case STEP_READ:
        s->c->t.read_most = a;
        break;
    case STEP_END:
        do_end(s, a);
        break;
    case STEP_TIME:
        fake_loop_pass(rig.broker.loop, step_time(a));
        break;
    case STEP_COMMIT:
        do_commit(a);
        do_fetch(b);
        break;
    case STEP_LIMITS:
        do_limits(a, b);
        break;
    case STEP_RIGHTS:
        do_rights(a, b);
        break;
    case STEP_GREET:
        conn_hold_greetings(&rig.broker, a & 1);
        break;
    case STEP_VERDICT:
        do_verdict(a);
        break;
    case STEP_SETTLE:
        fuzz_settle();
        break;
    case STEP_LOCAL:
        do_local(a, b);
        break;
    case STEP_EXPIRE:
        do_expire();
        break;
    case STEP_WRAP:
        do_wrap(s, a);
        break;
    case STEP_PAUSE:
        do_pause(s, a);
        break;
    case STEP_NO_MEMORY:
        do_no_memory(a, b);
        break;
    case STEP_MANY:
        rig.broker.turn_visits = TURN_VISITS; /* others were dear */
        do_packet(s, STEP_MANY, a, b);
        break;
    default:
        do_packet(s, step->what % STEPS, a, b);
        break;
    }
}

/* ---- the end ---- */

static void unpause(void *arg, struct conn *conn)
{
    (void)arg;
    conn->peer.ops->pause(&conn->peer, false);
}

/* Everybody reads, everything is stored: then nobody may wait any more. */
static void quiet(void)
{
    memory.fails = 0;
    for (int i = 0; i < SLOTS; i++) {
        do_write(&slots[i], 255, 0);
    }
    conn_hold_greetings(&rig.broker, false);
    conn_each(&rig.broker, unpause, NULL);
    fuzz_settle();
    for (int rounds = 0;
         rig.login_count || rig.storage.batch || rig.storage.fetch_count || rig.broker.slow.first ||
         (rounds == 0 && rig.durable) || *store_trouble(rig.broker.store);
         rounds++) {
        CHECK(rounds < TURNS_MOST);
        do_verdict(1);
        do_commit(0);
        do_fetch(0);
        store_submit(rig.broker.store, true); /* not only after a while */
        fake_loop_pass(rig.broker.loop, SLOW_MS);
        fuzz_settle();
    }
}

static void leave(void)
{
    for (int i = 0; i < SLOTS; i++) {
        slots[i].c->t.at_end = true;
        do_ready(&slots[i], 1, 0);
    }
    quiet();
    fake_loop_pass(rig.broker.loop, 20000); /* who got its last answer and did not see the end */
    fuzz_settle();
    CHECK(rig.broker.conn_count == 0 && rig.broker.sessions.online == (local ? 1 : 0));
}

static void finish(uint8_t flags)
{
    quiet();
    if (flags & 16) {
        leave();
    }
    local_free(local);
    for (int i = 0; i < DOORS; i++) {
        acl_unref(doors[i].acl);
        doors[i].acl = NULL;
    }
    CHECK(teardown(NULL) == 0);
    for (int i = 0; i < DOORS; i++) {
        CHECK(doors[i].connections == 0);
    }
    for (int i = 0; i < SLOTS; i++) {
        witness_free(&slots[i].w);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    trace = getenv("FUZZ_TRACE") != NULL;
    setenv("CMOCKA_TEST_ABORT", "1", 1); /* the fakes complain through cmocka */
    fuzz_log_start();
    rig_start(false);
    for (int i = 0; i < ACLS; i++) {
        use_acl(acl_texts[i]);
        acls[i] = acl_ref(rig.door.acl);
    }
    return teardown(NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct step step;
    uint8_t flags = input_u8(&in);
    start(flags);
    for (int n = 0; n < STEPS_MOST && step_next(&in, &step); n++) {
        do_step(&step);
        hear(&slots[(step.who & 0x3F) % SLOTS]);
        if (!(step.who & 0x80)) {
            fuzz_turn();
        }
    }
    finish(flags);
    return 0;
}
