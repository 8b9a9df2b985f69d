/*
 * broker.h - the one structure that is passed around: what the daemon is made of.
 *
 * Owned by main.c, which fills it from the outside in (config, loop, listeners) and empties it the other way
 * round. There are no globals; whoever needs the broker gets a pointer to it. Loop thread only.
 */
#ifndef BRAMBLE_BROKER_H
#define BRAMBLE_BROKER_H

#include "broker/acl.h"
#include "broker/auth.h"
#include "broker/ban.h"
#include "broker/config.h"
#include "broker/counters.h"
#include "broker/decision.h"
#include "broker/loop.h"
#include "broker/peer.h"
#include "broker/retain.h"
#include "broker/session.h"
#include "broker/store.h"
#include "broker/strangers.h"
#include "broker/subs.h"

struct conn;
struct window;

/* What the protocol needs to know of a listener. Exchanged whole at a reload; its number never changes. */
struct door {
    const struct config_listener *config;
    struct passwords *passwords; /* a reference, or NULL: no password_file */
    struct acl *acl;             /* a reference, or NULL: no acl_file */
    int connections;
};

enum {
    READ_SIZE = 65536,   /* of the shared read buffer */
    TURN_OFFERS = 20000, /* deliveries queued in one turn of the loop before reading rests */
    TURN_VISITS = 50000, /* places looked at in matching before that rests until the next turn */
    TURN_BURY =
        5000,       /* deliveries and places of the tree that sessions which are gone give back in one turn */
    SLOW_MS = 2,    /* what a publisher waits for a subscriber whose queue fills up */
    GATHER_MS = 20, /* at most, for publishers that wait for their acknowledgements to share a commit */
    READ_AGAIN_MS = 1000, /* until what could not be read from the store is asked for again */
    TRIM_MS = 10000,      /* after a connection has gone, until unused memory goes back to the system */
};

/* What more memory is asked for. What stays may not take all of memory_limit, or messages would have no way
 * through: whoever fills it shuts himself out and not the others. */
enum memory_for {
    MEMORY_TO_KEEP, /* sessions, subscriptions, topics of retained messages: up to 6/8 of memory_limit */
    MEMORY_TO_READ, /* the block of a large packet, which may take its time: 7/8 */
    MEMORY_TO_PASS, /* a message that is there: all */
    MEMORY_SHARES
};

/* Who waits with retained messages that are still to be looked for (on_subscribe.c), because turns are full:
 * each has drawn a number, and the lowest comes first in the next turn. */
struct turn_waiting {
    uint64_t drawn; /* the last number */
    uint64_t first,
        number; /* the connection with the lowest of this turn, 0: nobody waits; and that number */
};

struct broker {
    struct loop *loop;
    struct config *config;
    struct door *doors;
    size_t door_count;
    struct hasher *hasher;
    struct ban ban; /* failed logins */

    struct subs *subs;
    struct retain *retain;
    struct store *store;
    struct sessions sessions;

    struct conn **conns; /* by slot; conn.c */
    uint32_t conn_slots, conn_free, conn_count;
    uint64_t conn_generation;
    struct peer_list flush;  /* who has something to write before the loop sleeps */
    struct peer_list resume; /* whose input waits for the next turn */
    struct defer next_turn;  /* keeps the loop from sleeping while resume or flush is not empty */
    uint32_t turn_offers;
    size_t turn_visits; /* places that subscriptions and retained messages were looked for at in this turn */
    struct turn_waiting waiting;
    bool pressure;            /* the packet just routed met OFFER_PRESSURE */
    struct peer_list slow;    /* publishers that wait a moment for it */
    struct timer slow_timer;  /* runs while that list is not empty */
    struct timer trim_timer;  /* broker_trim_soon() */
    struct timer store_timer; /* until the next batch is due */
    struct timer read_timer;  /* runs while messages could not be read from the store */
    struct discard *discards; /* of kept sessions, that are not committed (on_connect.c) */
    struct conn *noted_wills; /* that are to be stored with the next batch (conn_will.c) */
    uint32_t greeting_bytes;  /* of large CONNECT packets that are not settled (conn_in.c) */
    bool greetings_wait;      /* no CONNECT is read: a reload is under way (conn_hold_greetings) */

    struct window *window; /* output is gathered here, for one connection at a time */
    uint8_t *read_buffer;  /* READ_SIZE, for one read at a time */

    struct counters counters;
    struct decision_listener decisions;
    struct strangers strangers; /* how much the log says about them */
    int64_t started;
    bool memory_said[MEMORY_SHARES]; /* that there was no more for this */
};

/* Makes the domain (subscriptions, sessions, retained messages, store, buffers) for a configuration that
 * outlives it or is exchanged by broker_use_config(). storage may be NULL. 0, or -1 without memory. */
int broker_init(struct broker *broker, struct loop *loop, struct config *config, struct storage *storage);
/* Ends all connections: what they were to leave behind (wills, messages of kept sessions) is with the store.
 */
void broker_stop(struct broker *broker);
/* The same, and frees everything made by broker_init. */
void broker_free(struct broker *broker);

/* The limits of sessions from the configuration. */
void broker_use_limits(struct broker *broker);

/* Whether that many bytes more would go beyond the share of memory_limit; said in the log once, until there
 * is room again. Whoever asks for it is then refused. */
bool broker_memory_full(struct broker *broker, uint64_t more, enum memory_for what);

/* Somebody has gone. What many clients needed at once goes back to the system a little later: the C library
 * keeps what lies below anything that is still used, nearly all of it as soon as one client remains. Costs
 * about 0.1 ms for each MiB, some microseconds when there is nothing. */
void broker_trim_soon(struct broker *broker);

/* What happens before the loop sleeps: batches are handed over, every scheduled peer is flushed. */
void broker_before_sleep(void *broker);

/* Tells whoever listens to decisions (decision.h). */
static inline void broker_decided(const struct broker *broker, const struct decision *decision)
{
    if (broker->decisions.fn) {
        broker->decisions.fn(broker->decisions.arg, decision);
    }
}

static inline const struct door *broker_door(const struct broker *broker, const struct principal *who)
{
    return who && who->listener >= 0 ? &broker->doors[who->listener] : NULL;
}

#endif
