/*
 * waiting.c - logins in turn. See waiting.h.
 *
 * Two levels of the same ring: listeners that have lanes, and each listener's lanes, one for each address
 * from which a login waits. The head of a ring is served next and then goes to the tail. A lane lives as long
 * as a login waits in it.
 */
#include "auth/waiting.h"

#include "broker/hash.h"

#include <stdlib.h>

struct link {
    struct link *next, *prev;
    bool served; /* since it came or was stepped in front of */
};

struct ring {
    struct link *head; /* the tail is head->prev */
};

struct lane {
    struct link link; /* first */
    UT_hash_handle hh;
    uint64_t key[2]; /* listener and address */
    struct waiting_place *first, **last;
    uint32_t places;
};

struct door {
    struct link link; /* first */
    struct ring lanes;
    uint32_t places;
};

struct waiting {
    struct lane *lanes;
    struct ring doors;
    uint32_t places;
    struct door listener[];
};

/* Before the tail when that has been served since it came, else behind it. */
static void ring_add(struct ring *ring, struct link *link)
{
    struct link *head = ring->head;
    link->served = false;
    if (!head) {
        ring->head = link->next = link->prev = link;
        return;
    }
    struct link *after = head;
    if (head->prev->served) {
        after = head->prev;
        after->served = false;
        if (after == head)
            ring->head = link;
    }
    link->next = after;
    link->prev = after->prev;
    link->prev->next = link->next->prev = link;
}

/* The head has been served: it goes to the tail, or away. */
static void ring_turn(struct ring *ring, bool stays)
{
    struct link *head = ring->head;
    head->served = true;
    ring->head = head->next;
    if (stays)
        return;
    head->next->prev = head->prev;
    head->prev->next = head->next;
    if (ring->head == head)
        ring->head = NULL;
}

struct waiting *waiting_new(size_t listeners)
{
    return calloc(1, sizeof(struct waiting) + listeners * sizeof(struct door));
}

void waiting_free(struct waiting *waiting)
{
    free(waiting);
}

static struct lane *lane_of(struct waiting *waiting, size_t listener, uint64_t origin)
{
    struct lane *lane = NULL;
    const uint64_t key[2] = {listener, origin};
    HASH_FIND(hh, waiting->lanes, key, sizeof key, lane);
    if (lane)
        return lane;
    lane = calloc(1, sizeof *lane);
    if (!lane)
        return NULL;
    memcpy(lane->key, key, sizeof key);
    lane->last = &lane->first;
    HASH_ADD(hh, waiting->lanes, key, sizeof lane->key, lane);
    if (!lane->hh.tbl) {
        free(lane);
        return NULL;
    }
    return lane;
}

static void lane_free(struct waiting *waiting, struct lane *lane)
{
    HASH_DEL(waiting->lanes, lane);
    free(lane);
}

bool waiting_add(struct waiting *waiting, struct waiting_place *place, size_t password_n, size_t listener,
                 uint64_t origin)
{
    struct door *door = &waiting->listener[listener];
    uint32_t places = 1 + (uint32_t)(password_n / 1024);
    if (waiting->places + places > WAITING_MOST || door->places + places > WAITING_LISTENER)
        return false;
    struct lane *lane = lane_of(waiting, listener, origin);
    if (!lane || lane->places + places > WAITING_ADDRESS)
        return false; /* a lane just made has room for any password */
    if (!lane->first) {
        if (!door->lanes.head)
            ring_add(&waiting->doors, &door->link);
        ring_add(&door->lanes, &lane->link);
    }
    place->next = NULL;
    place->places = places;
    *lane->last = place;
    lane->last = &place->next;
    lane->places += places;
    door->places += places;
    waiting->places += places;
    return true;
}

struct waiting_place *waiting_take(struct waiting *waiting)
{
    struct door *door = (struct door *)waiting->doors.head;
    if (!door)
        return NULL;
    struct lane *lane = (struct lane *)door->lanes.head;
    struct waiting_place *place = lane->first;
    lane->first = place->next;
    lane->places -= place->places;
    door->places -= place->places;
    waiting->places -= place->places;
    ring_turn(&door->lanes, lane->first != NULL);
    ring_turn(&waiting->doors, door->lanes.head != NULL);
    if (!lane->first)
        lane_free(waiting, lane);
    return place;
}
