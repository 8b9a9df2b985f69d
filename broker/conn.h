/*
 * conn.h - a connection: one transport, one principal, perhaps one session.
 *
 * A connection turns bytes into packets (conn_in.c), hands them to the handlers (dispatch.c, on_*.c) and
 * writes what the session and the handlers left for it (conn_out.c), once per turn of the loop. It is the
 * session's peer.
 *
 *   TRANSPORT --ready--> GREETING --CONNECT--> LOGIN --verdict--> UP --close--> CLOSING --flushed--> DEAD
 *   (handshake)          (10 s)                                     (no reading)      (turn's end: freed)
 *
 * Whatever its state, it may be held until the durable store is ready for it (conn_hold.c).
 *
 * It is freed only at the end of a turn (broker_before_sleep), so a handler may close it at any time. Whoever
 * answers later (the hashing workers, a ticket) names it by id.
 */
#ifndef BRAMBLE_CONN_H
#define BRAMBLE_CONN_H

#include "broker/broker.h"
#include "broker/outq.h"
#include "broker/packet.h"
#include "broker/transport.h"

enum conn_state { CONN_TRANSPORT, CONN_GREETING, CONN_LOGIN, CONN_UP, CONN_CLOSING, CONN_DEAD };

/* Why nothing is read from it until the store is ready. */
enum conn_hold {
    HOLD_NOT,
    HOLD_CONNACK, /* its CONNACK waits for a commit */
    HOLD_ANSWERS, /* too many of its acknowledgements do */
    HOLD_STORE,   /* store_blocked() */
};

enum will_state {
    WILL_HERE,   /* the store knows nothing of it, and need not */
    WILL_NOTED,  /* it is on broker->noted_wills */
    WILL_STORED, /* that it is gone has to be stored, too */
};

struct conn {
    struct peer peer;   /* first: the session's view of it */
    struct peer resume; /* its place on the list of those whose input waits */
    struct broker *broker;
    uint64_t id;
    struct transport *transport;
    struct principal *who;
    struct session *session;
    uint8_t state, level;
    uint8_t refusal;  /* in CONN_LOGIN: the code of a CONNACK that waits for its time; 0: none does */
    bool outdated;    /* in CONN_LOGIN: a reload has changed the user whose password is being checked */
    bool input_rests; /* input is left over and waits for the next turn, the verdict or the end of a pause */
    bool paused;
    uint8_t hold;       /* enum conn_hold */
    bool broken;        /* nothing can be written any more; what was received before is still heard */
    bool clean;         /* CONNECT's CleanSession, until the session has it */
    bool disconnecting; /* a DISCONNECT came: no will */
    bool accepted;      /* it has logged in: no stranger any more, also when it has left its session */
    uint16_t keepalive; /* seconds */
    uint32_t greeting;  /* what its CONNECT takes of the room for large ones, until it is accepted */
    int64_t last_input; /* loop_now() of its last packet */
    struct timer timer; /* handshake and CONNECT deadline, the time of a refusal, then keep alive */
    struct msg *will;   /* published when it ends without DISCONNECT [MQTT-3.1.2-8]; a reference */
    uint8_t will_state;
    struct conn *next_will, **will_link; /* WILL_NOTED */
    struct outq out;
    struct published *published; /* the last PUBLISH that the ACL allowed (on_publish.c) */
    struct asking *asking;       /* a SUBSCRIBE or UNSUBSCRIBE that takes more than a turn (on_subscribe.c) */

    uint8_t *input; /* what was read and not parsed yet, NULL: nothing */
    uint32_t input_at, input_size;
    struct block {       /* a big packet is read into a block of its own size */
        struct msg *msg; /* a PUBLISH: straight into its message */
        uint8_t *bytes;  /* any other */
        struct packet_frame frame;
        uint32_t have;
    } block;
};

/* Takes over a transport that was accepted at the door, and starts it. Without memory, or above a limit, it
 * closes the transport, counts and logs. */
void conn_accept(struct broker *broker, struct transport *transport, int door);

/* The listener by which it came, with its configuration, password file and ACL: it always has one. */
static inline const struct door *conn_door(const struct conn *conn)
{
    return &conn->broker->doors[conn->who->listener];
}

/* The connection with this id, or NULL when it is gone. */
struct conn *conn_by_id(struct broker *broker, uint64_t id);

/* Calls fn for each connection that is not dead; fn may close it. */
void conn_each(struct broker *broker, void (*fn)(void *arg, struct conn *conn), void *arg);

/* Ends it as a failure of the network: the session is detached, the will published. The reason goes into the
 * log. */
void conn_fail(struct conn *conn, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same for a packet that the standard forbids [MQTT-4.8.0-1]; counted. */
void conn_violation(struct conn *conn, const char *packet, const char *reason);
/* Sends what is queued, then ends it, without session and will (they must be settled). */
void conn_finish(struct conn *conn);

/* A reload begins (true) or is over: between the two no CONNECT is read, so that whoever comes after SIGHUP
 * meets the new rules, also when its connection was accepted in the same turn. */
void conn_hold_greetings(struct broker *broker, bool hold);

/* Its CONNECT was accepted, or it is gone: it takes no more of the room for large ones. */
void conn_greeted(struct conn *conn);

/* Its packet needs another turn (conn->asking), or what it has sent is to be read once more: the input rests
 * until then. */
void conn_again(struct conn *conn);

/* The rest of the input may be parsed again (the verdict is in, the pause is over). */
void conn_resume(struct conn *conn);

/* Its keep alive counts from now. */
void conn_start_keepalive(struct conn *conn);

/* Its CONNACK is queued: if that waits for a commit, so does everything else. */
void conn_hold_greeting(struct conn *conn);
/* The store takes more again (store_events.blocked): those who were held go on. */
void conn_release_held(struct broker *broker);

/* Queues an answer; ends the connection when there is no memory for it. */
void conn_answer(struct conn *conn, const uint8_t *bytes, size_t n);
void conn_answer_held(struct conn *conn, struct ticket *ticket, enum outq_order order, uint8_t type,
                      uint16_t id);

/* Detaches the session, for a reason that is told to whoever listens to decisions; a clean one is destroyed.
 * The will is published unless a DISCONNECT came. */
void conn_leave_session(struct conn *conn, const char *why);

/* ---- conn_will.c ---- */

/* Whether it has one that is to be stored; and whether its CONNACK has to wait for that. */
bool conn_will_durable(const struct conn *conn);
bool conn_will_urgent(const struct conn *conn);
/* It is accepted: its will is stored as part of the ticket, or later, or need not be. */
void conn_will_store(struct conn *conn, struct ticket *ticket);
/* A batch is being made (store_events.collect): it takes along what is only noted. */
void conn_will_collect(struct broker *broker);
/* The connection ends: its will is published, unless a DISCONNECT came. */
void conn_will_end(struct conn *conn);
/* It is not to be published any more. */
void conn_will_drop(struct conn *conn);
/* Publishes a will under the rights of whoever left it. stored: it is in the store, and goes from there in
 * the same transaction; also when it is denied. */
void will_publish(struct broker *broker, const char *client_id, struct msg *will, bool stored);

/* The client id, before CONNECT the address: for the log. */
const char *conn_name(const struct conn *conn);

/* Whether its coming and going is logged: connection_messages, and for strangers log_strangers_rate. */
bool conn_is_news(struct conn *conn);

/* A ticket that this connection waits for was closed (store_events.closed). */
void conn_ticket_closed(void *broker, uint64_t holder);

#endif
