/*
 * session_restore.c - a session as it was stored: what it is owed, and which identifiers are in use. See
 * session.h.
 *
 * A message that had gone out under a known identifier is sent again under that one. One whose identifier is
 * not known may have gone out as well: it gets a new one, and DUP. What is sent again goes first, so at QoS 1
 * a known identifier counts only as long as no older message is without one: neither may have arrived, and
 * order is worth more. At QoS 2 identifiers are stored in the order of the messages.
 */
#include "broker/session_spill.h"

static struct delivery *into_sent(struct session *session, uint16_t id)
{
    struct delivery *d = ring_push(&session->sent);
    if (d) {
        session->sent.gaps = true;
        session->inflight++;
        session->last_id = id;
    }
    return d;
}

/* That it was acknowledged may not have been stored, and its identifier have been given to a message of QoS
 * 2, which must keep it: QoS 1 takes another. */
static bool is_free(struct session *session, uint16_t id, uint8_t qos)
{
    struct delivery *other = ring_find(&session->sent, id);
    if (other && qos == 2 && other->qos == 1) {
        other->id = session_next_id(session, 0);
        return true;
    }
    return !other;
}

int session_restore_released(struct session *session, uint16_t id)
{
    struct delivery *d = into_sent(session, id);
    if (!d) {
        return -1;
    }
    *d = (struct delivery){.seq = session->seq++, .id = id, .qos = 2, .state = D_RELEASED, .dup = true};
    return 0;
}

int session_restore_delivery(struct sessions *sessions, struct session *session, struct msg *msg,
                             const struct stored_delivery *delivery)
{
    uint64_t number = delivery->message->number;
    bool first = delivery->qos == 2 || (session->queue.count == 0 && !session->spill);
    bool sent = first && delivery->id > 0 && is_free(session, delivery->id, delivery->qos);
    store_loaded(sessions->store, number, delivery->others + 1);
    if (!sent && spill_wanted(sessions, session)) {
        if (spill_put(session, number, msg->payload_size) < 0) {
            return -1;
        }
        session->spill->old = number;
        return 0;
    }
    struct delivery *d = sent ? into_sent(session, delivery->id) : ring_push(&session->queue);
    if (!d) {
        return -1;
    }
    *d = (struct delivery){.msg = msg_ref(msg),
                           .owed = store_owed(&session->owing, number),
                           .seq = session->seq++,
                           .id = sent ? delivery->id : 0,
                           .qos = delivery->qos,
                           .state = sent ? D_SENT : D_QUEUED,
                           .retain = delivery->retain,
                           .dup = true};
    if (sent) {
        session->sent_bytes += msg->payload_size;
    } else {
        session_queued(sessions, session, msg);
    }
    return 0;
}
