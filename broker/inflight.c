/*
 * inflight.c - rings of deliveries and the set of inbound identifiers. See inflight.h.
 */
#include "broker/inflight.h"
#include <stdlib.h>

enum { RING_FIRST = 4, RING_KEEP = 8 };

static bool ring_grow(struct ring *ring)
{
    uint32_t cap = ring->cap ? 2 * ring->cap : RING_FIRST;
    struct delivery *v = malloc(cap * sizeof *v);
    if (!v) {
        return false;
    }
    for (uint32_t i = 0; i < ring->count; i++) {
        v[i] = *ring_at(ring, i);
    }
    free(ring->v);
    ring->v = v;
    ring->cap = cap;
    ring->head = 0;
    return true;
}

struct delivery *ring_push(struct ring *ring)
{
    if (ring->count == ring->cap && !ring_grow(ring)) {
        return NULL;
    }
    return ring_at(ring, ring->count++);
}

void ring_trim(struct ring *ring)
{
    if (ring->count == 0) {
        ring->gaps = false;
        if (ring->cap > RING_KEEP) {
            ring_free(ring);
        }
    }
}

void ring_free(struct ring *ring)
{
    free(ring->v);
    *ring = (struct ring){0};
}

void ring_squeeze(struct ring *ring)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < ring->count; i++) {
        if (ring_at(ring, i)->state != D_GONE) {
            *ring_at(ring, kept++) = *ring_at(ring, i);
        }
    }
    ring->count = kept;
    ring->gaps = true;
}

static struct delivery *live(struct delivery *d, uint16_t id)
{
    return d->id == id && d->state != D_GONE ? d : NULL;
}

struct delivery *ring_find(const struct ring *ring, uint16_t id)
{
    if (ring->count == 0) {
        return NULL;
    }
    uint16_t first = ring_at(ring, 0)->id;
    uint32_t distance =
        (uint16_t)(id - first) - (id < first ? 1u : 0u); /* there is no identifier 0 between 65535 and 1 */
    struct delivery *found = distance < ring->count ? live(ring_at(ring, distance), id) : NULL;
    for (uint32_t i = 0; !found && ring->gaps && i < ring->count; i++) {
        found = live(ring_at(ring, i), id);
    }
    return found;
}

/* The first place whose id is not below id. */
static uint32_t inbound_place(const struct inbound *in, uint16_t id)
{
    uint32_t low = 0, high = in->count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (in->v[mid].id < id) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

struct inbound_id *inbound_find(const struct inbound *in, uint16_t id)
{
    uint32_t i = inbound_place(in, id);
    return i < in->count && in->v[i].id == id ? &in->v[i] : NULL;
}

int inbound_add(struct inbound *in, uint16_t id, struct ticket *ticket)
{
    if (in->count == in->cap) {
        uint32_t cap = in->cap ? 2 * in->cap : 4;
        struct inbound_id *v = realloc(in->v, cap * sizeof *v);
        if (!v) {
            return -1;
        }
        in->v = v;
        in->cap = cap;
    }
    uint32_t i = inbound_place(in, id);
    memmove(&in->v[i + 1], &in->v[i], (in->count - i) * sizeof *in->v);
    in->v[i] = (struct inbound_id){id, ticket};
    in->count++;
    return 0;
}

bool inbound_remove(struct inbound *in, uint16_t id)
{
    struct inbound_id *found = inbound_find(in, id);
    if (!found) {
        return false;
    }
    ticket_unref(found->ticket);
    uint32_t i = (uint32_t)(found - in->v);
    memmove(found, found + 1, (in->count - i - 1) * sizeof *in->v);
    if (--in->count == 0) {
        inbound_free(in);
    }
    return true;
}

void inbound_free(struct inbound *in)
{
    for (uint32_t i = 0; i < in->count; i++) {
        ticket_unref(in->v[i].ticket);
    }
    free(in->v);
    *in = (struct inbound){0};
}
