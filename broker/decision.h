/*
 * decision.h - the port "something was decided about somebody's rights": what an access log is told.
 *
 * Whoever decides (a CONNECT, a PUBLISH, a SUBSCRIBE, a right that ends while it is used) says so with
 * broker_decided(); whoever listens is told through one callback in struct broker. Without a listener it
 * costs one comparison. Loop thread only; everything a decision points to is borrowed for the call. Nobody
 * may put a secret into it: no password, no token, no payload.
 */
#ifndef BRAMBLE_DECISION_H
#define BRAMBLE_DECISION_H

#include "broker/principal.h"
#include "broker/slice.h"

enum decision_kind {
    DECIDED_CONNECT,    /* CONNACK: allowed or not */
    DECIDED_DISCONNECT, /* a client that was accepted is gone; allowed: it said DISCONNECT */
    DECIDED_PUBLISH,    /* a PUBLISH or a will; topic is its name */
    DECIDED_SUBSCRIBE,  /* one filter of a SUBSCRIBE; topic is the filter */
    DECIDED_REVOKED     /* a right has ended while it was used; topic is what it was for, or empty: all */
};

struct decision {
    enum decision_kind kind;
    bool allowed;
    const struct principal *who;
    struct slice topic;
    uint8_t qos;
    const char *reason; /* one line for people */
    const char *file;   /* the rule that decided, by file and line; NULL: none did */
    uint32_t line;
};

struct decision_listener {
    void (*fn)(void *arg, const struct decision *decision); /* NULL: nobody listens */
    void *arg;
    struct slice topic; /* where it publishes what it hears, or empty: kept from clients by the router */
};

#endif
