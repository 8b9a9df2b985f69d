/*
 * test_store_random.c - the durable store with real sessions, at random, against a plain model of what was
 * promised to whom.
 *
 * Clients come and go, publish, acknowledge in any order, lose what was on the wire; batches commit late,
 * fail or are cut off by a crash, after which all that was in memory is gone and the disk is loaded again.
 * Clients remember across a crash what they have: that is who would see a loss, a duplicate, or a wrong
 * order.
 *
 *   publish -> cell (publish, client) -> taken -> wire -> client -> acknowledgement
 *
 * BRAMBLE_SEEDS=FIRST-LAST tries those seeds instead of the usual few.
 */
#include "broker/mem.h"
#include "broker/session_spill.h"
#include "broker/store_parts.h"
#include "broker/stored.h"
#include "broker/subs.h"
#include "fake_peer.h"
#include "fake_storage.h"
#include "random.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { CLIENTS = 6, PUBLISHES = 1500, WIRE = 64, SHOWN = 20 };

/* One message for one client. */
struct cell {
    bool offered;    /* and taken */
    bool discharged; /* acknowledged or dropped, as far as the broker in memory knows */
    bool on_disk;    /* it was committed... */
    bool off_disk;   /* ...and is owed no more */
    bool arrived;    /* at the client */
    bool forbidden;  /* it may not be read any more */
    bool loaded;
    uint8_t qos;
    uint64_t number; /* of the row, once it is known */
};

struct publish {
    struct ticket *ticket; /* a reference, as long as it is of interest; NULL: closed from the start */
    uint32_t parts;        /* that a commit has still to close */
    bool promised;         /* its ticket was seen closed: the publisher has its acknowledgement */
    struct cell to[CLIENTS];
};

/* What was sent and has not arrived. */
struct wire {
    bool rel;
    uint16_t id;
    uint8_t qos;
    bool dup;
    uint32_t publish;
};

struct client {
    struct session *session;
    struct fake_peer peer;
    bool online;
    struct wire wire[WIRE];
    uint32_t wired;
    struct {
        uint16_t id;
        uint8_t qos;
        uint32_t publish;
    } got[WIRE]; /* what it has to acknowledge */
    uint32_t gots;
    struct {
        uint16_t id;
        struct ticket *ticket;
    } releasing[WIRE]; /* PUBREC has come: PUBREL goes when that is stored */
    uint32_t releases;
    uint32_t has[65536];      /* QoS 2: by identifier, the publish that it stands for, and 1; 0: none */
    uint32_t last_arrived[3]; /* by QoS: the last first arrival, and 1 */
    uint16_t comps[WIRE];     /* PUBREL has come, PUBCOMP has not gone */
    uint32_t comp_count;
};

static struct world {
    struct fake_storage storage;
    struct random random;
    struct store *store;
    struct subs *subs;
    struct sessions sessions;
    struct session_limits limits;
    struct stored_origins *origins;
    struct principal *who;
    struct client clients[CLIENTS];
    struct publish publishes[PUBLISHES];
    uint32_t count;
    int64_t now;
    uint64_t seed;
    bool crashing;
    uint32_t sweeping; /* the client that is swept */
    uint32_t crashes, commits, failures, fetches, spilled, arrivals, lost;
} w;

static bool chance(uint32_t percent)
{
    return random_chance(&w.random, percent);
}

static uint32_t below(uint32_t n)
{
    return random_below(&w.random, n);
}

#define CHECK(what)                                                                           \
    do {                                                                                      \
        if (!(what)) {                                                                        \
            fprintf(stderr, "%s:%d: seed %llu, publish %u: not so: %s\n", __FILE__, __LINE__, \
                    (unsigned long long)w.seed, w.count, #what);                              \
            abort();                                                                          \
        }                                                                                     \
    } while (0)

/* ---- the broker's side ---- */

static int64_t world_clock(void)
{
    return w.now;
}

static void on_stored(void *arg, struct owing *owing, uint64_t number)
{
    (void)arg;
    sessions_stored(&w.sessions, owing, number);
    w.spilled++;
}

static void start(void)
{
    w.subs = subs_new();
    w.store = store_new(&w.storage.port, &(struct store_events){.stored = on_stored});
    w.store->clock = world_clock;
    store_use_times(w.store, &(struct store_times){.commit_delay = 100, .lazy_delay = 1000});
    sessions_init(&w.sessions, w.subs, w.store, &w.limits);
    w.sessions.clock = world_clock;
    w.origins = stored_origins_new(4);
}

/* Everything in memory is gone. */
static void stop(void)
{
    w.crashing = true;
    while (fake_storage_read(&w.storage, true)) {
    }
    for (uint32_t c = 0; c < CLIENTS; c++) {
        struct client *client = &w.clients[c];
        for (uint32_t i = 0; i < client->releases; i++) {
            ticket_unref(client->releasing[i].ticket);
        }
        client->releases = 0;
        if (client->online) {
            session_detach(&w.sessions, client->session, w.now);
        }
        client->online = false;
        client->session = NULL;
        client->wired = client->gots = client->comp_count = 0;
    }
    for (uint32_t p = 0; p < w.count; p++) {
        ticket_unref(w.publishes[p].ticket);
        w.publishes[p].ticket = NULL;
    }
    fake_storage_crash(&w.storage);
    sessions_free(&w.sessions);
    store_free(w.store);
    subs_free(w.subs);
    stored_origins_free(w.origins);
    w.crashing = false;
}

static uint32_t client_of(const struct session *session)
{
    for (uint32_t c = 0; c < CLIENTS; c++) {
        if (w.clients[c].session == session) {
            return c;
        }
    }
    CHECK(!"a session of nobody");
    return 0;
}

static uint32_t publish_of(struct slice payload)
{
    uint32_t p;
    memcpy(&p, payload.p, sizeof p);
    CHECK(p < w.count);
    return p;
}

/* ---- loading ---- */

static int load_session(void *arg, uint64_t number, const char *client_id, const struct stored_origin *who)
{
    (void)arg;
    struct principal *principal;
    CHECK(stored_principal(w.origins, who, &principal) == 0);
    CHECK(client_id[0] == 'c');
    struct client *client = &w.clients[client_id[1] - '0'];
    CHECK(!client->session);
    client->session = session_restore(&w.sessions, number, client_id, principal);
    principal_unref(principal);
    return 0;
}

static struct client *client_by_number(uint64_t number)
{
    for (uint32_t c = 0; c < CLIENTS; c++) {
        if (w.clients[c].session && w.clients[c].session->number == number) {
            return &w.clients[c];
        }
    }
    CHECK(!"a session that is not there");
    return NULL;
}

static int load_nothing(void *arg, uint64_t session, uint16_t id)
{
    (void)arg;
    (void)session;
    (void)id;
    return 0;
}

static int load_retained(void *arg, const struct stored_message *message)
{
    (void)arg;
    (void)message;
    return 0;
}

static int load_released(void *arg, uint64_t session, uint16_t id)
{
    (void)arg;
    return session_restore_released(client_by_number(session)->session, id);
}

static int load_delivery(void *arg, const struct stored_delivery *d)
{
    struct client *client = client_by_number(d->session);
    uint32_t p = publish_of(d->message->payload), *last = arg;
    uint32_t c = (uint32_t)(client - w.clients);
    struct cell *cell = &w.publishes[p].to[c];
    CHECK(cell->offered && !cell->off_disk && cell->on_disk);
    CHECK(cell->qos == d->qos);
    CHECK(p >= last[c]); /* in the order of the offers */
    last[c] = p;
    cell->loaded = true;
    cell->discharged = false; /* that it was is forgotten */
    struct msg *msg = stored_msg(w.origins, d->message);
    int result = session_restore_delivery(&w.sessions, client->session, msg, d);
    msg_unref(msg);
    return result;
}

static void crash(void)
{
    uint32_t last[CLIENTS] = {0};
    const struct storage_reader reader = {.arg = last,
                                          .session = load_session,
                                          .inbound = load_nothing,
                                          .released = load_released,
                                          .retained = load_retained,
                                          .delivery = load_delivery};
    w.crashes++;
    stop();
    start();
    store_go_on(w.store, w.storage.last);
    for (uint32_t p = 0; p < w.count; p++) {
        for (uint32_t c = 0; c < CLIENTS; c++) {
            w.publishes[p].to[c].loaded = false;
        }
    }
    CHECK(disk_load(&w.storage, &reader) == 0);
    for (uint32_t p = 0; p < w.count; p++) {
        struct publish *publish = &w.publishes[p];
        publish->parts = 0;
        for (uint32_t c = 0; c < CLIENTS; c++) {
            struct cell *cell = &publish->to[c];
            CHECK(!cell->offered || cell->discharged || cell->loaded || !publish->promised);
            cell->discharged |= !cell->loaded; /* nobody was promised it */
        }
    }
    for (uint32_t c = 0; c < CLIENTS; c++) {
        if (!w.clients[c].session) { /* which nobody was promised, either */
            const char id[] = {'c', (char)('0' + c), 0};
            w.clients[c].session = session_new(&w.sessions, id, w.who, false);
        }
    }
}

/* ---- commits ---- */

/* What this batch would bring, if it is committed. */
static void note_batch(void)
{
    for (size_t i = 0; i < w.storage.count; i++) {
        const struct change *change = &w.storage.copy[i];
        for (uint32_t p = 0; change->ticket && p < w.count; p++) {
            w.publishes[p].parts -= w.publishes[p].ticket == change->ticket;
        }
        for (uint32_t to = 0; change->kind == CHANGE_MESSAGE && to < change->count; to++) {
            for (uint32_t c = 0; c < CLIENTS; c++) {
                struct cell *cell = &w.publishes[publish_of(msg_payload(change->msg))].to[c];
                if (w.clients[c].session->number == change->owed[to].session) {
                    CHECK(cell->offered && !cell->on_disk);
                    cell->on_disk = true;
                    cell->number = change->number;
                }
            }
        }
    }
}

static void note_off_disk(void)
{
    for (uint32_t p = 0; p < w.count; p++) {
        for (uint32_t c = 0; c < CLIENTS; c++) {
            struct cell *cell = &w.publishes[p].to[c];
            if (cell->on_disk && !cell->off_disk &&
                !disk_owed(&w.storage, w.clients[c].session->number, cell->number)) {
                CHECK(cell->discharged);
                cell->off_disk = true;
            }
        }
    }
}

static void commit(void)
{
    if (w.storage.batch) {
        note_batch();
        CHECK(fake_storage_commit(&w.storage));
        w.commits++;
        note_off_disk();
    }
}

static void answer(void)
{
    if (w.storage.batch && chance(15)) {
        CHECK(fake_storage_answer(&w.storage, chance(50) ? STORAGE_FULL : STORAGE_ERROR, "chance"));
        w.failures++;
    } else {
        commit();
    }
}

/* ---- publishing ---- */

static void publish(void)
{
    if (w.count == PUBLISHES) {
        return;
    }
    uint32_t p = w.count++;
    struct publish *publish = &w.publishes[p];
    uint8_t qos = (uint8_t)(chance(10) ? 0 : 1 + below(2)), payload[64] = {0};
    memcpy(payload, &p, sizeof p);
    *publish = (struct publish){0};
    struct ticket *ticket = chance(85) ? store_begin(w.store) : NULL;
    struct msg *msg =
        msg_new(slice_str("t"), slice_of(payload, 4 + below(60)), qos, false, chance(80) ? w.who : NULL);
    if (ticket && chance(25)) {
        struct change id = {.kind = CHANGE_IN_ID, .session = w.clients[0].session->number, .id = 9};
        store_change(w.store, ticket, &id);
        publish->parts++;
    }
    if (ticket && chance(15)) {
        store_change(w.store, ticket, &(struct change){.kind = CHANGE_RETAINED, .msg = msg});
        publish->parts++;
    }
    for (uint32_t c = 0, some = 1 + below(100); c < CLIENTS; c++) {
        struct cell *cell = &publish->to[c];
        uint8_t most = (uint8_t)(chance(70) ? 2 : 1);
        *cell = (struct cell){.discharged = true};
        if (chance(some)) {
            enum offer offer = session_offer(&w.sessions, w.clients[c].session, msg, most, false, ticket);
            if (offer == OFFER_TAKEN || offer == OFFER_PRESSURE) {
                *cell = (struct cell){.offered = true, .qos = qos < most ? qos : most};
                cell->discharged = cell->qos == 0;
            }
        }
    }
    store_seal(w.store, ticket);
    msg_unref(msg);
    publish->ticket = ticket;
}

/* A ticket is closed exactly when it must be. Only what sessions that are gone still had goes bit by bit. */
static void look_at_tickets(void)
{
    for (uint32_t p = 0; p < w.count; p++) {
        struct publish *publish = &w.publishes[p];
        if (!publish->ticket) {
            continue;
        }
        bool closed = publish->parts == 0;
        for (uint32_t c = 0; c < CLIENTS; c++) {
            const struct cell *cell = &publish->to[c];
            closed &= !cell->offered || cell->discharged || cell->on_disk;
        }
        CHECK(closed || !ticket_closed(publish->ticket));
        CHECK(!closed || ticket_closed(publish->ticket) || w.sessions.gone);
        if (ticket_closed(publish->ticket)) {
            publish->promised = true;
            ticket_unref(publish->ticket);
            publish->ticket = NULL;
        }
    }
}

/* ---- rules ---- */

static bool drop_some(void *arg, const struct session *session, const struct msg *msg)
{
    uint32_t p = publish_of(msg_payload(msg));
    if ((p + *(const uint32_t *)arg) % 5 != 0) {
        return false;
    }
    struct cell *cell = &w.publishes[p].to[client_of(session)];
    cell->discharged = cell->forbidden = true;
    return true;
}

/* The rules are the same after a crash, and for what comes back from the store. */
static bool drop_forbidden(void *arg, const struct session *session, const struct msg *msg)
{
    struct cell *cell = &w.publishes[publish_of(msg_payload(msg))].to[client_of(session)];
    (void)arg;
    cell->discharged |= cell->forbidden;
    return cell->forbidden;
}

/* ---- a client ---- */

static void come(uint32_t c)
{
    struct client *client = &w.clients[c];
    if (!client->online) {
        fake_peer_init(&client->peer);
        client->peer.peer.id = c + 1;
        session_attach(&w.sessions, client->session, &client->peer.peer, chance(20) ? w.who : NULL);
        client->online = true;
    }
}

static void leave(uint32_t c)
{
    struct client *client = &w.clients[c];
    if (client->online) {
        session_detach(&w.sessions, client->session, w.now);
        client->online = false;
        client->wired = client->gots = client->comp_count = 0;
        for (uint32_t i = 0; i < client->releases; i++) {
            ticket_unref(client->releasing[i].ticket);
        }
        client->releases = 0;
    }
}

/* What the broker writes. */
static void take(uint32_t c, uint32_t most)
{
    struct client *client = &w.clients[c];
    if (client->session->policy == 0) { /* policy_refresh() */
        session_sweep(&w.sessions, client->session, drop_forbidden, NULL);
        client->session->policy = 1;
    }
    while (client->online && most-- > 0 && client->wired < WIRE && client->releases < WIRE) {
        struct outgoing out = session_take(&w.sessions, client->session);
        struct wire *wire = &client->wire[client->wired];
        if (out.kind == OUT_NONE) {
            return;
        }
        if (out.wait) {
            CHECK(client->releases < WIRE);
            client->releasing[client->releases].id = out.id;
            client->releasing[client->releases++].ticket = out.wait;
            continue;
        }
        *wire = (struct wire){.rel = out.kind == OUT_PUBREL, .id = out.id, .qos = out.qos, .dup = out.dup};
        if (out.kind == OUT_PUBLISH) {
            wire->publish = publish_of(msg_payload(out.msg));
            const struct cell *cell = &w.publishes[wire->publish].to[c];
            CHECK(cell->offered && cell->qos == out.qos);
            CHECK(out.qos == 0 || !cell->discharged);
            CHECK(out.qos != 2 || disk_out_id(&w.storage, client->session->number, cell->number) == out.id);
        }
        client->wired++;
        if (out.owned) {
            msg_unref(out.msg);
        }
    }
}

static void first_arrival(struct client *client, const struct wire *wire)
{
    if (wire->publish + 1 <= client->last_arrived[wire->qos]) {
        fprintf(stderr, "client %u: %u arrives at QoS %u behind %u; crashes %u\n",
                (uint32_t)(client - w.clients), wire->publish, wire->qos, client->last_arrived[wire->qos] - 1,
                w.crashes);
    }
    CHECK(wire->publish + 1 > client->last_arrived[wire->qos]); /* in the order of the offers */
    client->last_arrived[wire->qos] = wire->publish + 1;
    w.arrivals++;
}

static void arrives(uint32_t c, const struct wire *wire)
{
    struct client *client = &w.clients[c];
    if (wire->rel) {
        client->has[wire->id] = 0;
        if (client->comp_count < WIRE) {
            client->comps[client->comp_count++] = wire->id;
        }
        return;
    }
    struct cell *cell = &w.publishes[wire->publish].to[c];
    if (wire->qos == 2) {
        uint32_t *has = &client->has[wire->id];
        CHECK(*has == 0 || *has == wire->publish + 1); /* no identifier in use is given to another */
        CHECK(*has != 0 || !cell->arrived);            /* once */
        *has = wire->publish + 1;
    }
    if (!cell->arrived) {
        first_arrival(client, wire);
    }
    cell->arrived = true;
    if (wire->qos > 0 && client->gots < WIRE) {
        client->got[client->gots].id = wire->id;
        client->got[client->gots].qos = wire->qos;
        client->got[client->gots++].publish = wire->publish;
    }
}

static void read_wire(uint32_t c, uint32_t most)
{
    struct client *client = &w.clients[c];
    uint32_t n = most < client->wired ? most : client->wired;
    for (uint32_t i = 0; i < n; i++) {
        struct wire wire = client->wire[i];
        arrives(c, &wire);
    }
    client->wired -= n;
    memmove(client->wire, client->wire + n, client->wired * sizeof client->wire[0]);
}

static void acknowledge(uint32_t c)
{
    struct client *client = &w.clients[c];
    if (client->gots == 0) {
        return;
    }
    uint32_t i = chance(70) ? 0 : below(client->gots);
    uint16_t id = client->got[i].id;
    uint8_t qos = client->got[i].qos;
    struct cell *cell = &w.publishes[client->got[i].publish].to[c];
    if (qos == 1) {
        session_puback(&w.sessions, client->session, id);
        cell->discharged = true;
    } else if (client->has[id] == client->got[i].publish + 1 && client->releases < WIRE) {
        struct ticket *ticket;
        enum ack ack = session_pubrec(&w.sessions, client->session, id, &ticket);
        CHECK(ack == ACK_OK);
        cell->discharged = true;
        client->releasing[client->releases].id = id;
        client->releasing[client->releases++].ticket = ticket;
    }
    if (qos == 1 || chance(90)) { /* or it is said again */
        client->gots--;
        memmove(&client->got[i], &client->got[i + 1], (client->gots - i) * sizeof client->got[0]);
    }
}

static void release(uint32_t c)
{
    struct client *client = &w.clients[c];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < client->releases; i++) {
        struct ticket *ticket = client->releasing[i].ticket;
        if (ticket_closed(ticket) && client->wired < WIRE) {
            client->wire[client->wired++] = (struct wire){.rel = true, .id = client->releasing[i].id};
            ticket_unref(ticket);
        } else {
            client->releasing[kept++] = client->releasing[i];
        }
    }
    client->releases = kept;
}

static void complete(uint32_t c)
{
    struct client *client = &w.clients[c];
    while (client->comp_count > 0) {
        uint16_t id = client->comps[--client->comp_count];
        if (client->has[id] == 0) {
            CHECK(session_pubcomp(&w.sessions, client->session, id) != ACK_WRONG);
        }
    }
}

static void sweep(uint32_t c)
{
    uint32_t salt = below(5);
    session_sweep(&w.sessions, w.clients[c].session, drop_some, &salt);
}

/* CleanSession: another session from now on. CONNACK waits for the commit, and its client for that. */
static void begin_anew(uint32_t c)
{
    struct client *client = &w.clients[c];
    const char id[] = {'c', (char)('0' + c), 0};
    leave(c);
    uint64_t old = client->session->number;
    if (chance(50)) {
        session_destroy(&w.sessions, client->session);
    } else {
        session_discard(&w.sessions, client->session);
    }
    for (uint32_t p = 0; p < w.count; p++) {
        struct cell *cell = &w.publishes[p].to[c];
        cell->discharged = true;
        cell->off_disk = true;
    }
    memset(client->has, 0, sizeof client->has);
    client->session = session_new(&w.sessions, id, w.who, false);
    CHECK(client->session->number > old);
    while (!store_idle(w.store)) { /* the old one may even be under way to the disk */
        store_submit(w.store, true);
        commit();
    }
}

static bool damaged(uint64_t number)
{
    const struct disk_row *row = disk_find(&w.storage, CHANGE_MESSAGE, number, 0);
    return !row || row->damaged;
}

/* Sometimes a row cannot be read any more. Then it is lost, once its session is told. */
static void fetch(void)
{
    const struct fetch *first = w.storage.fetches[0];
    bool fails = chance(10);
    if (w.storage.fetch_count == 0) {
        return;
    }
    if (chance(3)) {
        struct disk_row *row = disk_find(&w.storage, CHANGE_MESSAGE, first->numbers[0], 0);
        if (row) {
            row->damaged = true;
        }
    }
    for (uint32_t p = 0; p < w.count; p++) {
        for (uint32_t c = 0; c < CLIENTS; c++) {
            struct cell *cell = &w.publishes[p].to[c];
            bool asked = w.clients[c].session->number == first->session && cell->offered && !cell->discharged;
            for (uint32_t i = 0; asked && !fails && i < first->count; i++) {
                if (first->numbers[i] == cell->number && damaged(cell->number)) {
                    cell->discharged = cell->forbidden = true; /* it does not come again */
                    w.lost++;
                }
            }
        }
    }
    fake_storage_read(&w.storage, fails);
    w.fetches++;
}

/* ---- */

static void step(void)
{
    uint32_t c = below(CLIENTS), what = below(1000);
    w.now += below(20);
    if (what < 150) {
        publish();
    } else if (what < 350) {
        take(c, 1 + below(10));
    } else if (what < 550) {
        read_wire(c, 1 + below(5));
    } else if (what < 700) {
        acknowledge(c);
    } else if (what < 740) {
        release(c);
    } else if (what < 780) {
        complete(c);
    } else if (what < 850) {
        store_submit(w.store, chance(2));
    } else if (what < 920) {
        answer();
    } else if (what < 950) {
        fetch();
    } else if (what < 970) {
        leave(c);
    } else if (what < 990) {
        come(c);
    } else if (what < 995) {
        sessions_bury(&w.sessions, below(10));
    } else if (what < 997) {
        sweep(c);
    } else if (what < 998) {
        crash();
    } else if (what == 998 && chance(50)) {
        begin_anew(c);
    }
    look_at_tickets();
}

/* Everybody gets and acknowledges all there is. */
static void drain(void)
{
    for (int round = 0; round < 5000; round++) {
        bool idle = store_idle(w.store) && w.storage.fetch_count == 0;
        for (uint32_t c = 0; c < CLIENTS; c++) {
            struct client *client = &w.clients[c];
            come(c);
            take(c, WIRE);
            read_wire(c, WIRE);
            while (client->gots > 0 && client->releases < WIRE) {
                acknowledge(c);
            }
            release(c);
            complete(c);
            idle &= client->wired == 0 && client->gots == 0 && client->releases == 0 &&
                    client->session->inflight == 0 && !client->session->spill &&
                    client->session->queue.count == 0 && client->session->queue0.count == 0;
        }
        sessions_bury(&w.sessions, SIZE_MAX);
        store_submit(w.store, true);
        commit();
        fetch();
        look_at_tickets();
        if (idle) {
            return;
        }
    }
    CHECK(!"it never comes to rest");
}

static void one_seed(uint64_t seed)
{
    memset(&w, 0, sizeof w);
    w.seed = seed;
    w.random.state = seed * 7919 + 1;
    for (int i = 0; i < 10; i++) {
        below(2);
    }
    fake_storage_init(&w.storage);
    w.who = principal_new();
    w.limits = (struct session_limits){.max_inflight = 1 + below(12),
                                       .max_queued = chance(30) ? 20 + below(60) : 0,
                                       .max_queued_bytes = chance(20) ? 1000 + below(3000) : 0,
                                       .max_inflight_bytes = chance(20) ? 50 + below(300) : 0,
                                       .queue_memory = chance(70) ? 400 + below(4000) : 0,
                                       .queue_qos0 = chance(20)};
    start();
    for (uint32_t c = 0; c < CLIENTS; c++) {
        const char id[] = {'c', (char)('0' + c), 0};
        w.clients[c].session = session_new(&w.sessions, id, w.who, false);
    }
    for (int i = 0; i < 10000; i++) {
        step();
    }
    drain();
    for (uint32_t p = 0; p < w.count; p++) {
        for (uint32_t c = 0; c < CLIENTS; c++) {
            const struct cell *cell = &w.publishes[p].to[c];
            CHECK(!cell->offered || cell->discharged);
        }
        CHECK(!w.publishes[p].ticket);
    }
    CHECK(disk_count(&w.storage, CHANGE_MESSAGE) == 0);
    CHECK(disk_count(&w.storage, CHANGE_OUT) == 0);
    CHECK(disk_count(&w.storage, CHANGE_DONE) == 0);
    CHECK(disk_count(&w.storage, CHANGE_SESSION) == CLIENTS);
    CHECK(w.store->tally.used == 0);
    CHECK(store_counts(w.store)->pending_bytes == 0);
    CHECK(w.sessions.queued == 0 && w.sessions.queued_bytes == 0);
    stop();
    fake_storage_free(&w.storage);
    CHECK(w.who->refs == 1);
    principal_unref(w.who);
    CHECK(mem_held() == 0 && msg_bytes() == 0);
}

static void keeps_what_it_promises(void **unused)
{
    (void)unused;
    unsigned long first = 1, last = 20, fetches = 0, spilled = 0, crashes = 0, arrivals = 0, failures = 0;
    const char *seeds = getenv("BRAMBLE_SEEDS");
    if (seeds) {
        char *end;
        first = strtoul(seeds, &end, 10);
        last = *end == '-' ? strtoul(end + 1, NULL, 10) : first;
    }
    for (unsigned long seed = first; seed <= last; seed++) {
        one_seed(seed);
        fetches += w.fetches;
        spilled += w.spilled;
        crashes += w.crashes;
        arrivals += w.arrivals;
        failures += w.failures;
    }
    print_message("seeds %lu-%lu: %lu arrivals, %lu crashes, %lu failures, %lu spilled, %lu pages\n", first,
                  last, arrivals, crashes, failures, spilled, fetches);
    assert_true(seeds || (fetches > 100 && spilled > 100 && crashes > 20 && failures > 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_what_it_promises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
