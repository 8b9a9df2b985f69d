/*
 * on_subscribe.c - SUBSCRIBE and UNSUBSCRIBE.
 *
 * The filters of one packet are handled as a sequence with one answer [MQTT-3.8.4-4]. A great many of them
 * take several turns of the loop (struct asking), in which nothing else of that client is parsed: the order
 * of its packets stays, and the others have their turns. Then come the retained messages, filter by filter,
 * as long as the client has room and the turn has time; what is left is owed to the session (session_owed.h)
 * and goes on when the client has taken what it got, on this connection or the next. So a thousand filters
 * over a hundred thousand retained messages neither fill the memory nor stop the loop. Whoever has waited
 * longest for a turn that has time begins the next one, so nobody who is never done keeps the others
 * waiting. Answers leave before messages, so they follow the SUBACK on the wire.
 *
 * The subscriptions of a kept session are in the store, too, and SUBACK and UNSUBACK wait until they are.
 * Each is stored as one that owes, and again when its retained messages have reached the client or the store.
 */
#include "broker/dispatch.h"
#include "broker/log.h"
#include "broker/mem.h"
#include "broker/policy.h"
#include "broker/router.h"
#include "broker/session_owed.h"
#include "broker/topic.h"
#include <stdlib.h>

enum {
    CODES_AT = PACKET_MAX_HEADER + 2, /* in the room for a SUBACK */
    MOST_FILTERS = 60000,             /* of one packet: their SUBACK still fits the output window */
    FILTER_VISITS = 16,               /* what a filter costs at least, in places looked at */
    BYTE_VISITS = 2,               /* and for each byte: a level that is made is dear, and may be as short */
    MOST_VISITS = TURN_VISITS / 2, /* for such packets: the rest of the turn is for those who publish */
    LEAST_VISITS = 2000,           /* that each of them gets, also in a turn that is full */
    MOST_TOLD = 500,               /* filters that the store is told of at once */
};

enum denial { NO_RIGHT, MEMORY_LIMIT, NO_MEMORY, TOO_LONG, DENIALS };

/* A SUBSCRIBE or UNSUBSCRIBE under way; on the stack, unless it takes more than a turn. */
struct asking {
    struct packet_filters filters; /* those still to do */
    struct slice all;              /* all of them: in the packet; when that is gone, in bytes */
    uint32_t done;
    struct owed *owed; /* SUBSCRIBE: the retained messages of those that were granted */
    uint8_t *buf; /* SUBSCRIBE: room for the SUBACK, codes at the end; then for a filter with mount_point */
    struct slice mount; /* mount_point, in buf: a reload may come */
    bool any_denied;
    uint32_t denied[DENIALS], first_denied[DENIALS]; /* how many, and where in all the first of them is */
    uint8_t bytes[];
};

/* Of the SUBACK in buf. */
static size_t suback_room(const struct packet_filters *filters)
{
    return filters->with_qos ? CODES_AT + filters->count : 0;
}

/* The filter behind its mount_point; NULL p when it gets too long. */
static struct slice mounted(const struct asking *asking, struct slice filter)
{
    if (asking->mount.n == 0) {
        return filter;
    }
    size_t n = asking->mount.n + filter.n;
    if (n > UINT16_MAX) {
        return slice_of(NULL, 0);
    }
    memcpy(asking->buf + suback_room(&asking->filters) + asking->mount.n, filter.p, filter.n);
    return slice_of(asking->mount.p, n);
}

static uint8_t deny(struct asking *asking, enum denial why, struct slice filter)
{
    asking->any_denied = true;
    if (asking->denied[why]++ == 0) {
        asking->first_denied[why] = (uint32_t)(filter.p - 2 - asking->all.p); /* its length is before it */
    }
    return SUBACK_FAILURE;
}

/* One line for a packet, or a client could fill the disk with them. */
static void say_denied(const struct conn *conn, const struct asking *asking, enum denial why)
{
    static const char *const reasons[DENIALS] = {
        [NO_RIGHT] = "",
        [MEMORY_LIMIT] = ": memory_limit is reached",
        [NO_MEMORY] = ": out of memory",
        [TOO_LONG] = ": too long with mount_point",
    };
    uint32_t at = asking->first_denied[why];
    struct packet_filters from = {.rest = slice_of(asking->all.p + at, asking->all.n - at)};
    struct slice filter;
    uint8_t unused;
    packet_next_filter(&from, &filter, &unused);
    enum log_type type = why == NO_MEMORY ? LOG_T_ERROR : LOG_T_NOTICE;
    if (asking->denied[why] == 1) {
        log_write(type, "Denied SUBSCRIBE from %s to '%.*s%.*s'%s.", conn_name(conn),
                  SLICE_ARG(asking->mount), SLICE_ARG(filter), reasons[why]);
    } else { /* the number first: a filter may be longer than a line */
        log_write(type, "Denied SUBSCRIBE from %s to %u filters of one packet%s. The first is '%.*s%.*s'.",
                  conn_name(conn), asking->denied[why], reasons[why], SLICE_ARG(asking->mount),
                  SLICE_ARG(filter));
    }
}

/* The return code for one filter [MQTT-3.8.4-5]; whole: with its mount_point. */
static uint8_t subscribe_one(struct conn *conn, struct asking *asking, struct slice filter,
                             struct slice whole, uint8_t qos)
{
    struct broker *broker = conn->broker;
    if (!whole.p) {
        return deny(asking, TOO_LONG, filter);
    }
    uint8_t wanted = qos;
    struct acl_answer answer = router_may_subscribe(broker, conn->who, whole, &qos);
    if (!answer.allowed) {
        router_denied(broker, DECIDED_SUBSCRIBE, conn->who, whole, wanted, answer);
        return deny(asking, NO_RIGHT, filter);
    }
    if (broker_memory_full(broker, whole.n, MEMORY_TO_KEEP) &&
        !subs_has(broker->subs, conn->session, whole)) {
        return deny(asking, MEMORY_LIMIT, filter);
    }
    uint8_t max = (uint8_t)conn_door(conn)->config->max_qos;
    qos = qos > max ? max : qos;
    if (subs_add(broker->subs, conn->session, whole, qos) < 0) {
        return deny(asking, NO_MEMORY, filter);
    }
    policy_store_subscription(broker, conn->session, CHANGE_SUBSCRIBE, whole, qos, true);
    log_write(LOG_T_SUBSCRIBE, "%s %d %.*s", conn_name(conn), qos, SLICE_ARG(whole));
    return qos;
}

static void unsubscribe_one(struct conn *conn, struct slice whole)
{
    if (whole.p && subs_remove(conn->broker->subs, conn->session, whole)) {
        policy_store_subscription(conn->broker, conn->session, CHANGE_UNSUBSCRIBE, whole, 0, false);
        log_write(LOG_T_UNSUBSCRIBE, "%s %.*s", conn_name(conn), SLICE_ARG(whole));
    }
}

/* A kept session's answer waits until all changes that were put by now are stored; also where the packet made
 * none: a former one, to the same effect, may not be stored yet. */
static struct ticket *stored(const struct broker *broker, const struct session *session)
{
    struct store *store = broker->store;
    if (!session_is_stored(&broker->sessions, session)) {
        return NULL;
    }
    struct ticket *ticket = store_begin(store);
    store_change(store, ticket, &(struct change){.kind = CHANGE_VOID});
    store_seal(store, ticket);
    return ticket;
}

/* ---- retained messages [MQTT-3.3.1-6]: a few at once, many in turn with what the client takes ---- */

/* Tells the store that what was handed over is not owed any more. What a subscription that is gone owed went
 * with it. False: there is more to tell. */
static bool tell(struct broker *broker, struct session *session)
{
    struct slice filter;
    uint8_t unused;
    for (int i = 0; session->handed && i < MOST_TOLD; i++) {
        if (!packet_next_filter(&session->handed->filters, &filter, &unused)) {
            owed_told(session);
            continue;
        }
        int qos = subs_qos(broker->subs, session, filter);
        if (qos >= 0) {
            policy_store_subscription(broker, session, CHANGE_SUBSCRIBE, filter, (uint8_t)qos, false);
        }
    }
    return !session->handed;
}

/* It is the client's, and nothing of it, nor of anything else, is on its way. Those that came later may be
 * the same filters again. */
static void tell_if_taken(struct conn *conn)
{
    struct session *session = conn->session;
    if (session && session->handed && !session->owed && !session->owing.first &&
        !tell(conn->broker, session)) {
        peer_wake(&conn->peer);
        defer_call(conn->broker->loop, &conn->broker->next_turn);
    }
}

/* What it was handed and has not acknowledged is due now (session_detach), and goes into the same batch: that
 * is urgent, or a large batch would end before the last of it. */
void subscribe_left(struct broker *broker, struct session *session)
{
    if (!session->owed && session->handed) {
        tell(broker, session);
        ticket_unref(session->owing.first ? stored(broker, session) : NULL);
    }
}

/* A ticket that closes and an acknowledgement that comes wake it. */
static bool may_look(struct conn *conn)
{
    struct session *session = conn->session;
    if (session) {
        policy_refresh(conn->broker, session); /* the subscriptions, which may have ended */
    }
    return session && session->owed && ticket_closed(session->owed->ticket) &&
           session_room(&conn->broker->sessions, session);
}

static void look(struct conn *conn)
{
    struct broker *broker = conn->broker;
    struct session *session = conn->session;
    struct owed *owed = session->owed;
    struct slice filter;
    uint8_t qos;
    owed->number = 0;
    if (packet_next_filter(&owed->filters, &filter, &qos) &&
        subs_has(broker->subs, session, filter)) {            /* it may have been unsubscribed meanwhile */
        uint8_t most = router_most_qos(broker, session->who); /* a reload may have lowered it */
        router_send_retained(broker, session, filter, qos > most ? most : qos);
    }
    if (owed->filters.rest.n > 0) {
        return;
    }
    if (session_is_stored(&broker->sessions, session)) {
        owed_handed(session);
    } else {
        owed_done(session);
    }
}

/* It draws a number, as at a counter. Whoever has had a turn draws another one. */
static void wait_for_turn(struct conn *conn)
{
    struct turn_waiting *waiting = &conn->broker->waiting;
    struct owed *owed = conn->session->owed;
    if (owed->number == 0) {
        owed->number = ++waiting->drawn;
    }
    if (waiting->first == 0 || owed->number < waiting->number) {
        waiting->first = conn->id;
        waiting->number = owed->number;
    }
    peer_wake(&conn->peer);
}

bool subscribe_go_on(struct conn *conn)
{
    tell_if_taken(conn);
    if (!may_look(conn)) {
        return false;
    }
    if (conn->broker->turn_visits >= TURN_VISITS) {
        wait_for_turn(conn);
        return false;
    }
    look(conn);
    return true;
}

void subscribe_begin_turn(struct broker *broker)
{
    struct conn *conn = broker->waiting.first ? conn_by_id(broker, broker->waiting.first) : NULL;
    broker->waiting.first = 0;
    while (conn && broker->turn_visits < MOST_VISITS && may_look(conn)) {
        look(conn);
    }
}

static void owe(struct conn *conn, struct owed *owed, struct ticket *ticket)
{
    if (!owed || owed_add(conn->session, owed, ticket) < 0) {
        session_lost(&conn->broker->sessions, conn->session);
    }
}

/* ---- the filters of one packet, in as many turns as they need ---- */

static void answer_subscribe(struct conn *conn, struct asking *asking)
{
    uint32_t count = asking->filters.count;
    uint8_t *codes = asking->buf + CODES_AT;
    uint8_t head[PACKET_MAX_HEADER + 2];
    size_t n = packet_put_header(head, PKT_SUBACK << 4, 2 + count);
    packet_put_u16(head + n, asking->filters.id); /* [MQTT-3.8.4-2] */
    n += 2;
    memcpy(codes - n, head, n);
    struct ticket *ticket = stored(conn->broker, conn->session);
    if (outq_hold(&conn->out, ticket, OUTQ_ANY, conn->id, codes - n, n + count) < 0) {
        conn_fail(conn, "out of memory for a SUBACK");
    } else {
        peer_wake(&conn->peer);
        owe(conn, asking->owed, ticket);
        asking->owed = NULL;
    }
    ticket_unref(ticket);
}

static void answer_unsubscribe(struct conn *conn, uint16_t id)
{
    struct ticket *ticket = stored(conn->broker, conn->session);
    conn_answer_held(conn, ticket, OUTQ_ANY, PKT_UNSUBACK,
                     id); /* also where nothing was removed [MQTT-3.10.4-5] */
    ticket_unref(ticket);
}

/* False: the turn was not enough. */
static bool do_filters(struct conn *conn, struct asking *asking)
{
    struct broker *broker = conn->broker;
    struct packet_filters *filters = &asking->filters;
    size_t least = broker->turn_visits + LEAST_VISITS;
    size_t most = least > MOST_VISITS ? least : MOST_VISITS;
    struct slice filter;
    uint8_t qos;
    while (broker->turn_visits < most && packet_next_filter(filters, &filter, &qos)) {
        struct slice whole = mounted(asking, filter);
        if (filters->with_qos) {
            uint8_t code = subscribe_one(conn, asking, filter, whole, qos);
            asking->buf[CODES_AT + asking->done++] = code;
            if (asking->owed && code != SUBACK_FAILURE) {
                owed_put(asking->owed, whole, code);
            }
        } else {
            unsubscribe_one(conn, whole);
        }
        broker->turn_visits += FILTER_VISITS + BYTE_VISITS * filter.n;
    }
    return filters->rest.n == 0;
}

/* All were done, or it ends with its connection. */
static void asking_over(const struct conn *conn, struct asking *asking)
{
    for (enum denial why = 0; asking->any_denied && why < DENIALS; why++) {
        if (asking->denied[why] > 0) {
            say_denied(conn, asking, why);
        }
    }
    owed_free(asking->owed);
    free(asking->buf);
}

static void answer(struct conn *conn, struct asking *asking)
{
    bool with_qos = asking->filters.with_qos;
    if (with_qos) {
        answer_subscribe(conn, asking);
    } else {
        answer_unsubscribe(conn, asking->filters.id);
    }
    asking_over(conn, asking);
    while (with_qos && conn->state == CONN_UP && subscribe_go_on(conn)) {
    }
}

static size_t kept_size(const struct asking *asking)
{
    return sizeof *asking + asking->all.n + suback_room(&asking->filters);
}

/* It goes on in the next turn, when the packet is not there any more. */
static void keep(struct conn *conn, struct asking *asking)
{
    struct asking *kept = malloc(sizeof *kept + asking->all.n);
    if (!kept) {
        asking_over(conn, asking);
        conn_fail(conn, "out of memory for a packet with many filters");
        return;
    }
    *kept = *asking;
    memcpy(kept->bytes, asking->all.p, asking->all.n);
    kept->all.p = kept->bytes;
    kept->filters.rest.p = kept->bytes + (asking->filters.rest.p - asking->all.p);
    mem_hold(kept_size(kept));
    conn->asking = kept;
    conn_again(conn);
}

static void drop_kept(struct asking *kept)
{
    mem_drop(kept_size(kept));
    free(kept);
}

void subscribe_work(struct conn *conn)
{
    struct asking *kept = conn->asking;
    if (!do_filters(conn, kept)) {
        conn_again(conn);
        return;
    }
    conn->asking = NULL;
    answer(conn, kept);
    drop_kept(kept);
}

void subscribe_forget(struct conn *conn)
{
    struct asking *kept = conn->asking;
    if (kept) {
        conn->asking = NULL;
        asking_over(conn, kept);
        drop_kept(kept);
    }
}

/* Room for the answer and for mounted(). */
static bool make_room(struct asking *asking, struct slice mount)
{
    size_t room = suback_room(&asking->filters);
    if (!asking->filters.with_qos && mount.n == 0) {
        return true;
    }
    asking->buf = malloc(room + (mount.n ? mount.n + UINT16_MAX : 0));
    if (asking->buf && mount.n > 0) {
        asking->mount = slice_of(memcpy(asking->buf + room, mount.p, mount.n), mount.n);
    }
    return asking->buf;
}

static void ask(struct conn *conn, const struct packet_filters *filters)
{
    struct slice mount = slice_str(conn_door(conn)->config->mount_point);
    struct asking asking = {.filters = *filters, .all = filters->rest};
    if (!make_room(&asking, mount)) {
        conn_fail(conn, "out of memory for %s", filters->with_qos ? "a SUBACK" : "an UNSUBSCRIBE");
        return;
    }
    if (filters->with_qos) { /* without memory for it the answer comes all the same (owe) */
        asking.owed = owed_new(filters->rest.n + filters->count * mount.n);
    }
    if (do_filters(conn, &asking)) {
        answer(conn, &asking);
    } else {
        keep(conn, &asking);
    }
}

static bool too_deep(const struct conn *conn, struct packet_filters filters)
{
    uint32_t most = conn->broker->config->max_topic_levels;
    struct slice filter;
    uint8_t qos;
    while (packet_next_filter(&filters, &filter, &qos)) {
        if (filter.n >= most && topic_levels(filter) > most) { /* a short one need not be counted */
            return true;
        }
    }
    return false;
}

void on_subscribe(struct conn *conn, uint8_t flags, struct slice body)
{
    struct packet_filters filters;
    enum packet_error error = packet_decode_filters(flags, body, true, &filters);
    const char *reason = error                          ? packet_error_text(error)
                         : filters.count > MOST_FILTERS ? "it has too many filters"
                         : too_deep(conn, filters)      ? "a filter has more levels than max_topic_levels"
                                                        : NULL;
    if (reason) {
        conn_violation(conn, "SUBSCRIBE", reason);
        return;
    }
    ask(conn, &filters);
}

void on_unsubscribe(struct conn *conn, uint8_t flags, struct slice body)
{
    struct packet_filters filters;
    enum packet_error error = packet_decode_filters(flags, body, false, &filters);
    if (error) {
        conn_violation(conn, "UNSUBSCRIBE", packet_error_text(error));
        return;
    }
    ask(conn, &filters);
}
