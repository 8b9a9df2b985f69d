/*
 * inflight.c - rings of deliveries. See inflight.h.
 */
#include "broker/inflight.h"
#include "broker/mem.h"
#include <stdlib.h>

enum { RING_FIRST = 4, RING_KEEP = 8 };

static void free_places(struct ring *ring)
{
    if (ring->v) {
        mem_drop(ring->cap * sizeof *ring->v);
        free(ring->v);
    }
}

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
    mem_hold(cap * sizeof *v);
    free_places(ring);
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
    free_places(ring);
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
