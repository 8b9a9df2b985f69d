/*
 * subs.h - who subscribed to what, and who gets a message.
 *
 * Subscriptions hang on a tree of topic levels (tree.h) in which '+' and '#' are levels like any other, with
 * direct pointers to them. A match walks the levels of the topic name once, going also into '+', and collects
 * at '#'. Several matching subscriptions of one session count once, at the highest QoS [MQTT-3.3.5-1].
 */
#ifndef BRAMBLE_SUBS_H
#define BRAMBLE_SUBS_H

#include "broker/session.h"
#include "broker/slice.h"

struct subs;
struct sub; /* one subscription; a session keeps an array of pointers to its own */

/* Whether the session may read all that one of its matching subscriptions matches. An answer counts as long
 * as session->rights is what it was. */
enum reads {
    READS_SOME,    /* not all: each message is to be asked for */
    READS_UNKNOWN, /* nobody has asked: see subs_reads() */
    READS_ALL,
};

struct match {
    struct session *session;
    struct sub *sub; /* READS_UNKNOWN: one that nobody has asked for */
    uint8_t qos;
    uint8_t reads;
};

/* NULL without memory. */
struct subs *subs_new(void);
void subs_free(struct subs *subs);

/* Adds or replaces [MQTT-3.8.4-3]. 1: new; 0: replaced; -1: no memory. The filter is valid. */
int subs_add(struct subs *subs, struct session *session, struct slice filter, uint8_t qos);
/* False when the session had no such subscription. Filters are compared byte for byte [MQTT-3.10.4-1]. */
bool subs_remove(struct subs *subs, struct session *session, struct slice filter);
bool subs_has(struct subs *subs, struct session *session, struct slice filter);
/* The QoS it was granted, or -1: it has no such subscription. */
int subs_qos(struct subs *subs, struct session *session, struct slice filter);
void subs_remove_all(struct subs *subs, struct session *session);
/* The same until *places of the tree were looked at, which is counted down. True when all are gone. */
bool subs_remove_some(struct subs *subs, struct session *session, size_t *places);

/* The sessions that get a message on this topic name. *out belongs to subs and is valid until the next call.
 * Without memory the list is cut and *cut is set: the caller must say so. */
size_t subs_match(struct subs *subs, struct slice topic, const struct match **out, bool *cut);

/* What the last match cost: nodes and subscriptions that it looked at. A client can make it dear for
 * everybody, with a filter for each mixture of '+' and names, so the turns of the loop are counted by it. */
size_t subs_visits(const struct subs *subs);

/* Notes for the next matches whether the session may read all that this subscription matches. */
void subs_reads(struct sub *sub, bool all);
/* The filter, written into buf; 0: it is longer than size. */
size_t subs_filter(const struct sub *sub, uint8_t *buf, size_t size);

/* Removes those subscriptions of the session for which drop(arg, filter, qos) is true. */
void subs_sweep(struct subs *subs, struct session *session,
                bool (*drop)(void *arg, struct slice filter, uint8_t qos), void *arg);

/* Those of the session above that QoS come down to it; fn is called for each. Whether there were any. */
bool subs_lower(struct session *session, uint8_t qos, void (*fn)(void *arg, struct slice filter, uint8_t qos),
                void *arg);

size_t subs_count(const struct subs *subs);

#endif
