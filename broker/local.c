/*
 * local.c - the in-process peer. See local.h.
 *
 * What it takes from its session it acknowledges at once: there is no wire to wait for.
 */
#include "broker/local.h"
#include "broker/router.h"
#include <stdlib.h>

enum { LOCAL_BATCH = 1000 }; /* messages taken in one turn */

struct local {
    struct peer peer; /* first */
    struct broker *broker;
    struct session *session;
    void (*fn)(void *arg, const struct msg *msg);
    void *arg;
};

/* PUBREC, PUBREL and PUBCOMP in one. */
static void acknowledge(struct local *local, const struct outgoing *out)
{
    struct sessions *sessions = &local->broker->sessions;
    struct ticket *ticket = NULL;
    if (out->qos == 1) {
        session_puback(sessions, local->session, out->id);
    } else if (out->qos == 2) {
        session_pubrec(sessions, local->session, out->id, &ticket);
        session_pubcomp(sessions, local->session, out->id);
        ticket_unref(ticket);
    }
}

static void local_flush(struct peer *peer)
{
    struct local *local = (struct local *)peer;
    for (int i = 0; i < LOCAL_BATCH; i++) {
        struct outgoing out = session_take(&local->broker->sessions, local->session);
        if (out.kind == OUT_NONE) {
            return;
        }
        struct msg *msg = out.owned ? out.msg : msg_ref(out.msg); /* outlives its acknowledgement */
        acknowledge(local, &out);
        if (local->fn) {
            local->fn(local->arg, msg);
        }
        msg_unref(msg);
    }
    peer_wake(peer); /* the rest in the next turn */
}

static void local_kick(struct peer *peer, const char *why)
{
    (void)peer; /* never comes: CONNECT refuses the client id of a session without a principal */
    (void)why;
}

static void local_pause(struct peer *peer, bool on)
{
    (void)peer;
    (void)on;
}

static const struct peer_ops local_ops = {local_flush, local_kick, local_pause};

struct local *local_new(struct broker *broker, const char *name, void (*fn)(void *arg, const struct msg *msg),
                        void *arg)
{
    struct local *local = calloc(1, sizeof *local);
    if (!local) {
        return NULL;
    }
    local->session = session_new(&broker->sessions, name, NULL, true);
    if (!local->session) {
        free(local);
        return NULL;
    }
    local->peer = (struct peer){.ops = &local_ops, .list = &broker->flush};
    local->broker = broker;
    local->fn = fn;
    local->arg = arg;
    session_attach(&broker->sessions, local->session, &local->peer, NULL);
    return local;
}

void local_free(struct local *local)
{
    if (!local) {
        return;
    }
    while (local->peer.scheduled) {
        peer_list_flush(local->peer.list);
    }
    session_detach(&local->broker->sessions, local->session, 0);
    session_destroy(&local->broker->sessions, local->session);
    free(local);
}

int local_subscribe(struct local *local, const char *filter, uint8_t qos)
{
    if (subs_add(local->broker->subs, local->session, slice_str(filter), qos) < 0) {
        return -1;
    }
    router_send_retained(local->broker, local->session, slice_str(filter), qos);
    return 0;
}

int local_publish(struct local *local, const char *topic, struct slice payload, uint8_t qos, bool retain)
{
    struct msg *msg = msg_new(slice_str(topic), payload, qos, retain, NULL);
    if (!msg) {
        return -1;
    }
    router_publish_now(local->broker, msg);
    msg_unref(msg);
    return 0;
}
