/*
 * session.h - sessions: what the broker knows of a client id, connected or not [4.1].
 *
 * A session owns its deliveries (queued, sent) and its inbound QoS 2 identifiers; its subscriptions hang in
 * subs.h. It speaks to a peer (peer.h) while somebody is connected, and to nobody while not. It never sees a
 * socket: the peer takes from it with session_take() when the loop is about to sleep.
 *
 *   session_offer -> queue0 (QoS 0)  \
 *                 -> queue  (QoS 1,2) }- session_take -> wire
 *                 sent: re-sent first after a resume /        then: sent ring until PUBACK or PUBCOMP
 *
 * What a kept session is owed is in the store too (store.h). QoS 2 messages of such a session stand in
 * `storing` between queue and wire, until their identifier is on disk: nothing else waits behind them. Of a
 * session that is away, what does not fit into queue_memory_limit is in the store only (session_spill.h).
 */
#ifndef BRAMBLE_SESSION_H
#define BRAMBLE_SESSION_H

#include "broker/hash.h"
#include "broker/inbound.h"
#include "broker/inflight.h"
#include "broker/peer.h"
#include "broker/principal.h"
#include "broker/store.h"

struct spill;
struct stored_origins;
struct subs;
struct sub;

struct session_limits {
    uint32_t max_inflight;       /* sent and not acknowledged; 1 to 65535 */
    uint64_t max_inflight_bytes; /* 0: no limit */
    uint32_t max_queued;         /* waiting behind those; 0: no limit */
    bool stored_uncounted;       /* that is not for what is in the store, or will be */
    uint32_t max_burst;          /* QoS 1, 2: that many more for a client that goes on acknowledging */
    uint64_t max_queued_bytes;   /* payload bytes waiting; 0: no limit */
    uint64_t queue_memory; /* bytes of all that waits, before those who are away, or far behind, have it in
                              the store only; 0: no limit */
    bool queue_qos0;       /* keep QoS 0 messages for offline sessions */
    bool upgrade_qos;      /* upgrade_outgoing_qos */
};

struct session {
    UT_hash_handle hh;
    uint64_t number; /* never used again: names it where a pointer could dangle */
    char *client_id;
    struct principal *who; /* the one connected now or last: its rights count for deliveries; a reference */
    uint32_t rights;       /* another number whenever these may have changed; never 0 */
    uint32_t policy; /* what it holds was looked at when sessions->policy was this; 0: under other rights */
    uint32_t subs_policy; /* the same of its subscriptions */
    struct peer *peer;    /* NULL: offline */
    bool clean;           /* ends with its connection [MQTT-3.1.2-6] */
    bool gone;            /* destroyed; it is there only as long as what it had is being removed */
    bool drop_logged;
    bool progress; /* an acknowledgement came since the last OFFER_PRESSURE */
    bool acked;    /* an acknowledgement came since the queue was last seen above max_queued... */

    struct ring queue0, queue, storing, sent;
    struct owing owing;
    struct spill *spill; /* NULL: all is in memory */
    uint32_t inflight;   /* those in storing, and in sent that are not tombstones */
    uint32_t resend;     /* how many of sent were re-sent since the resume; == sent.count: all */
    uint32_t seq;
    uint16_t last_id;
    uint16_t skip; /* for the next delivery that is queued */
    struct inbound inbound;
    uint64_t queued_bytes, sent_bytes;
    uint64_t dropped;      /* messages it should have got and did not, by a limit */
    int64_t offline_since; /* loop_now() when the peer went */
    int64_t full_since;    /* ...and when that was (clock of sessions) */

    struct session *next_gone;
    struct sub **subs; /* subs.c */
    uint32_t sub_count, sub_cap;
    struct owed *owed,
        *handed; /* what its SUBSCRIBEs still have to bring, and have brought (session_owed.h) */
    uint64_t match_stamp;
    uint32_t match_index;
};

struct sessions {
    struct session *by_id; /* uthash by client id */
    struct session *gone;  /* those with something still to be removed (sessions_bury) */
    struct session *walk;  /* the next one that is to be brought up to date (policy.h), or NULL */
    uint32_t policy;       /* number of the rules that count now; never 0 */
    struct subs *subs;
    struct store *store;
    struct session_limits limits;
    uint64_t dropped;               /* of all sessions */
    uint64_t queued, queued_bytes;  /* messages that wait in memory, and their payloads */
    struct stored_origins *origins; /* of messages that come back from the store; made when needed */
    bool unread; /* messages could not be read from the store: it is time for sessions_read_again() in a while
                  */
    size_t online;
    int64_t (*clock)(void); /* clock_ms(), but in tests */
};

enum offer {
    OFFER_TAKEN,
    OFFER_PRESSURE, /* taken; the queue is more than half full, and the client has acknowledged something
                       since this was last said: the publisher should wait a moment for it */
    OFFER_DROPPED,  /* a limit, or QoS 0 and want of memory; counted */
    OFFER_LOST, /* QoS 1, 2: want of memory; counted. Whoever published it is not to hear that it was taken */
    OFFER_IGNORED, /* QoS 0 for an offline session: not meant for it */
};

enum out_kind { OUT_NONE, OUT_PUBLISH, OUT_PUBREL };

struct outgoing {
    enum out_kind kind;
    struct msg *msg;
    bool owned; /* the reference on msg is now the taker's; otherwise it is the session's and lives until the
                   ack */
    bool dup, retain;
    uint8_t qos;
    uint16_t id;
    struct ticket *wait; /* PUBREL: it leaves when that is closed; a reference for the taker, or NULL */
};

enum ack { ACK_OK, ACK_UNKNOWN, ACK_WRONG };

void sessions_init(struct sessions *sessions, struct subs *subs, struct store *store,
                   const struct session_limits *limits);
void sessions_free(struct sessions *sessions);

struct session *session_find(struct sessions *sessions, const char *client_id);
/* Whether it is in the store: kept, and a client's. */
bool session_is_stored(const struct sessions *sessions, const struct session *session);

/* A new, offline session. NULL without memory. */
struct session *session_new(struct sessions *sessions, const char *client_id, struct principal *who,
                            bool clean);
/* A kept one that was read back. */
struct session *session_restore(struct sessions *sessions, uint64_t number, const char *client_id,
                                struct principal *who);
/* The next one of its messages that was read back. 0, or -1 without memory. */
int session_restore_delivery(struct sessions *sessions, struct session *session, struct msg *msg,
                             const struct stored_delivery *delivery);
/* A packet identifier that waits for PUBCOMP. The same. */
int session_restore_released(struct session *session, uint16_t id);

/* Drops all it holds (obligations are discharged), its subscriptions included; a great many of those go bit
 * by bit, with sessions_bury(). The peer must be detached. */
void session_destroy(struct sessions *sessions, struct session *session);
/* The same, but all that it holds is left to sessions_bury(): for many sessions at once. */
void session_discard(struct sessions *sessions, struct session *session);
/* Goes on removing what sessions that are gone had, at most that many deliveries and places of the tree. True
 * when there is nothing left to do. */
bool sessions_bury(struct sessions *sessions, size_t places);

/* store_events.stored. */
void sessions_stored(struct sessions *sessions, struct owing *owing, uint64_t number);

/* Whoever is there and still has messages in the store only is woken, so they are asked for again. */
void sessions_read_again(struct sessions *sessions);

/* What was found out of its rights counts no more: another policy. */
void session_rights_changed(struct session *session);

/* A peer comes: what was sent and not acknowledged will be re-sent, in order, with DUP [MQTT-4.4.0-1]. */
void session_attach(struct sessions *sessions, struct session *session, struct peer *peer,
                    struct principal *who);
/* The peer goes. QoS 0 messages that wait are dropped silently, unless they are kept for offline sessions. */
void session_detach(struct sessions *sessions, struct session *session, int64_t now);

/* One message for this session, at the subscription's QoS. retain: sent because of a new subscription; such a
 * message is exempt from the count limit (the retained messages of one SUBSCRIBE may be many), the caller
 * sees to session_room(). ticket: the publish it belongs to, or NULL. */
enum offer session_offer(struct sessions *sessions, struct session *session, struct msg *msg, uint8_t sub_qos,
                         bool retain, struct ticket *ticket);
/* Drops what is queued, or sent and not acknowledged, where drop(arg, session, msg) is true; returns how many
 * messages (session_sweep.c). One that was queued uses up its packet identifier, as if it had been sent. */
uint32_t session_sweep(struct sessions *sessions, struct session *session,
                       bool (*drop)(void *arg, const struct session *session, const struct msg *msg),
                       void *arg);
/* Counts, and says once, that it did not get something for want of room. */
void session_lost(struct sessions *sessions, struct session *session);
/* Whether fewer than the allowed number of messages wait. */
bool session_room(const struct sessions *sessions, const struct session *session);

/* The next thing to put on the wire, already booked as sent. OUT_NONE: nothing now. */
struct outgoing session_take(struct sessions *sessions, struct session *session);
/* Whether session_take() would give something. */
bool session_has_output(const struct sessions *sessions, const struct session *session);

/* [4.3.2], [4.3.3]. ACK_WRONG: an acknowledgement of the other QoS. PUBREC: ACK_OK means that PUBREL is to be
 * sent when *ticket (a reference for the caller, or NULL) is closed: a crash must not re-send a PUBLISH whose
 * id the client has freed. */
enum ack session_puback(struct sessions *sessions, struct session *session, uint16_t id);
enum ack session_pubrec(struct sessions *sessions, struct session *session, uint16_t id,
                        struct ticket **ticket);
enum ack session_pubcomp(struct sessions *sessions, struct session *session, uint16_t id);

#endif
