/*
 * session_owed.c - retained messages that SUBSCRIBEs still owe. See session_owed.h.
 */
#include "broker/session_owed.h"
#include "broker/mem.h"
#include <stdlib.h>

enum { MOST_OWED = 4 * 1024 * 1024 }; /* bytes of filters, for one session */

struct owed *owed_new(size_t n)
{
    struct owed *owed = malloc(sizeof *owed + n);
    if (owed) {
        *owed = (struct owed){.size = sizeof *owed + n, .filters = {.with_qos = true}};
        owed->filters.rest.p = owed->bytes;
        mem_hold(owed->size);
    }
    return owed;
}

void owed_put(struct owed *owed, struct slice filter, uint8_t qos)
{
    uint8_t *p = owed->bytes + owed->filters.rest.n;
    packet_put_u16(p, (uint16_t)filter.n);
    memcpy(p + 2, filter.p, filter.n);
    p[2 + filter.n] = qos;
    owed->filters.rest.n += 2 + filter.n + 1;
}

int owed_add(struct session *session, struct owed *owed, struct ticket *ticket)
{
    struct owed **last = &session->owed;
    size_t all = owed->filters.rest.n;
    for (; *last; last = &(*last)->next) {
        all += (*last)->filters.rest.n;
    }
    if (all > MOST_OWED) {
        owed_free(owed);
        return -1;
    }
    owed->ticket = ticket_ref(ticket);
    *last = owed;
    return 0;
}

void owed_done(struct session *session)
{
    struct owed *owed = session->owed;
    session->owed = owed->next;
    owed_free(owed);
}

void owed_handed(struct session *session)
{
    struct owed *owed = session->owed;
    const uint8_t *end = owed->filters.rest.p + owed->filters.rest.n;
    session->owed = owed->next;
    owed->total = owed->size + (session->handed ? session->handed->total : 0);
    if (owed->total > MOST_OWED) {
        owed_free(owed);
        return;
    }
    ticket_unref(owed->ticket);
    owed->ticket = NULL;
    owed->filters.rest = slice_of(owed->bytes, (size_t)(end - owed->bytes));
    owed->next = session->handed;
    session->handed = owed;
}

void owed_told(struct session *session)
{
    struct owed *owed = session->handed;
    session->handed = owed->next;
    owed_free(owed);
}

void owed_drop(struct session *session)
{
    while (session->owed) {
        owed_done(session);
    }
    while (session->handed) {
        owed_told(session);
    }
}

void owed_unanswered(struct session *session)
{
    for (struct owed *owed = session->owed; owed; owed = owed->next) {
        ticket_unref(owed->ticket);
        owed->ticket = NULL;
    }
}

void owed_free(struct owed *owed)
{
    if (owed) {
        ticket_unref(owed->ticket);
        mem_drop(owed->size);
        free(owed);
    }
}
