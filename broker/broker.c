/*
 * broker.c - putting the domain together, and the end of each turn. See broker.h.
 */
#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/dispatch.h"
#include "broker/log.h"
#include "broker/mem.h"
#include "broker/policy.h"
#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>

/* ---- what the store asks for ---- */

static void session_stored(void *arg, struct owing *owing, uint64_t number)
{
    struct broker *broker = arg;
    sessions_stored(&broker->sessions, owing, number);
}

static void retained_changed(void *arg, struct msg *msg)
{
    store_change(arg, NULL, &(struct change){.kind = CHANGE_RETAINED, .msg = msg});
}

static bool again(void *arg, struct msg *retained)
{
    struct broker *broker = arg;
    return retain_again(broker->retain, retained) == 0;
}

static void collect(void *arg)
{
    struct broker *broker = arg;
    retain_collect(broker->retain, retained_changed, broker->store);
    conn_will_collect(broker);
}

static void blocked(void *arg, bool blocked)
{
    if (!blocked) {
        conn_release_held(arg);
    }
}

/* The next batch is due, although nothing has come. */
static void store_due(void *arg)
{
    (void)arg;
}

/* The disk may be readable again, and a client that waits for its messages need not say anything. */
static void read_again(void *arg)
{
    struct broker *broker = arg;
    sessions_read_again(&broker->sessions);
}

/* ---- */

static void nothing(void *arg)
{
    (void)arg;
}

/* The publishers that waited for a subscriber go on. */
static void slow_over(void *arg)
{
    struct broker *broker = arg;
    peer_list_flush(&broker->slow);
}

static void trim(void *arg)
{
    (void)arg;
    malloc_trim(0);
}

void broker_trim_soon(struct broker *broker)
{
    if (!timer_running(&broker->trim_timer)) {
        timer_start(broker->loop, &broker->trim_timer, TRIM_MS);
    }
}

void broker_use_limits(struct broker *broker)
{
    const struct config *config = broker->config;
    store_use_times(broker->store, &(struct store_times){.commit_delay = config->persistence_commit_delay,
                                                         .lazy_delay = config->persistence_lazy_delay,
                                                         .gather = GATHER_MS});
    strangers_change(&broker->strangers, config->log_strangers_rate);
    uint32_t inflight = config->max_inflight_messages;
    broker->sessions.limits = (struct session_limits){
        .max_inflight = inflight == 0 || inflight > UINT16_MAX - 1 ? UINT16_MAX - 1 : inflight,
        .max_inflight_bytes = config->max_inflight_bytes,
        .max_queued = config->max_queued_messages,
        .stored_uncounted = config->stored_uncounted,
        .max_burst = config->max_queued_burst,
        .max_queued_bytes = config->max_queued_bytes,
        .queue_memory = config->queue_memory_limit,
        .queue_qos0 = config->queue_qos0_messages,
        .upgrade_qos = config->upgrade_outgoing_qos,
    };
}

int broker_init(struct broker *broker, struct loop *loop, struct config *config, struct storage *storage)
{
    *broker = (struct broker){.loop = loop, .config = config};
    ban_init(&broker->ban);
    strangers_init(&broker->strangers, loop, config->log_strangers_rate);
    broker->subs = subs_new();
    broker->retain = retain_new();
    broker->store = store_new(storage, &(struct store_events){.arg = broker,
                                                              .closed = conn_ticket_closed,
                                                              .stored = session_stored,
                                                              .collect = collect,
                                                              .again = again,
                                                              .blocked = blocked});
    broker->window = malloc(sizeof *broker->window);
    broker->read_buffer = malloc(READ_SIZE);
    if (!broker->subs || !broker->retain || !broker->store || !broker->window || !broker->read_buffer) {
        broker_free(broker);
        return -1;
    }
    broker->window->used = broker->window->total = 0;
    broker->window->pieces = 0;
    sessions_init(&broker->sessions, broker->subs, broker->store, &(struct session_limits){0});
    broker_use_limits(broker);
    peer_list_init(&broker->flush);
    peer_list_init(&broker->resume);
    peer_list_init(&broker->slow);
    timer_setup(&broker->slow_timer, slow_over, broker);
    timer_setup(&broker->trim_timer, trim, NULL);
    timer_setup(&broker->store_timer, store_due, NULL);
    timer_setup(&broker->read_timer, read_again, broker);
    defer_setup(&broker->next_turn, nothing, NULL);
    broker->started = loop_now(loop);
    return 0;
}

bool broker_memory_full(struct broker *broker, uint64_t more, enum memory_for what)
{
    static const struct {
        uint8_t eighths;
        const char *closed, *open;
    } shares[MEMORY_SHARES] = {
        [MEMORY_TO_KEEP] = {6, "no new sessions, subscriptions and topics of retained messages",
                            "New sessions, subscriptions and topics of retained messages are welcome again."},
        [MEMORY_TO_READ] = {7, "no new large packets", "Large packets are welcome again."},
        [MEMORY_TO_PASS] = {8, "no new messages", "Messages are welcome again."},
    };
    uint64_t eighth = broker->config->memory_limit / 8, held = mem_held() + more;
    uint64_t limit = broker->config->memory_limit - (8 - shares[what].eighths) * eighth;
    bool full = broker->config->memory_limit && held > limit;
    bool *said = &broker->memory_said[what];
    if (full && !*said) {
        log_write(LOG_T_WARNING, "memory_limit: %" PRIu64 " of its %" PRIu64 " bytes are held: %s.",
                  mem_held(), broker->config->memory_limit, shares[what].closed);
    } else if (*said && held < limit - eighth) {
        log_write(LOG_T_NOTICE, "%s", shares[what].open);
    }
    *said = full || (*said && held >= limit - eighth);
    return full;
}

static void end_conn(void *arg, struct conn *conn)
{
    (void)arg;
    conn_fail(conn, "the broker stops");
}

void broker_stop(struct broker *broker)
{
    if (broker->conns) {
        conn_each(broker, end_conn, NULL);
    }
    timer_stop(broker->loop, &broker->slow_timer);
    while (broker->flush.first) { /* on which all are that have just ended, whatever else they wait for */
        peer_list_flush(&broker->slow);
        peer_list_flush(&broker->resume);
        peer_list_flush(&broker->flush);
    }
}

void broker_free(struct broker *broker)
{
    broker_stop(broker);
    timer_stop(broker->loop, &broker->trim_timer);
    timer_stop(broker->loop, &broker->store_timer);
    timer_stop(broker->loop, &broker->read_timer);
    if (broker->subs && broker->store) {
        sessions_free(&broker->sessions);
    }
    defer_cancel(broker->loop, &broker->next_turn);
    if (broker->retain) {
        retain_free(broker->retain);
    }
    subs_free(broker->subs);
    connect_forget(broker);
    store_free(broker->store);
    ban_free(&broker->ban);
    strangers_stop(&broker->strangers);
    free(broker->window);
    free(broker->read_buffer);
    free(broker->conns);
    broker->conns = NULL; /* verdicts still in the mailbox look for their connections */
    broker->conn_slots = 0;
}

/* Hands over what is due, and comes back when the next is. */
static void submit(struct broker *broker)
{
    store_submit(broker->store, false);
    int64_t next = store_next(broker->store);
    if (next >= 0) {
        timer_start(broker->loop, &broker->store_timer, next);
    }
    if (broker->sessions.unread && !timer_running(&broker->read_timer)) {
        timer_start(broker->loop, &broker->read_timer, READ_AGAIN_MS);
    }
}

/*
 * The order matters: input that waited is parsed first, so that what it publishes goes out in this turn; then
 * each peer is flushed once; then what must be durable goes to the disk, with the packet identifiers that the
 * messages of QoS 2 have got just now. Behind that a new turn begins, with those who had to wait in this one.
 */
void broker_before_sleep(void *arg)
{
    struct broker *broker = arg;
    peer_list_flush(&broker->resume);
    peer_list_flush(&broker->flush);
    submit(broker);
    broker->turn_offers = 0;
    broker->turn_visits = 0;
    subscribe_begin_turn(broker);
    bool buried = sessions_bury(&broker->sessions, TURN_BURY);
    bool walked = policy_walk(broker);
    if (broker->flush.first || broker->resume.first || !buried || !walked) {
        defer_call(broker->loop, &broker->next_turn);
    }
}
