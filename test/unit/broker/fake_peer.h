/*
 * fake_peer.h - somebody behind a session who only counts.
 */
#ifndef BRAMBLE_TEST_FAKE_PEER_H
#define BRAMBLE_TEST_FAKE_PEER_H

#include "broker/peer.h"

struct fake_peer {
    struct peer peer; /* first */
    int flushes, kicks, pauses;
    struct peer_list list;
};

static inline void fake_peer_flush(struct peer *peer)
{
    ((struct fake_peer *)peer)->flushes++;
}

static inline void fake_peer_kick(struct peer *peer, const char *why)
{
    ((struct fake_peer *)peer)->kicks += why != 0;
}

static inline void fake_peer_pause(struct peer *peer, bool on)
{
    ((struct fake_peer *)peer)->pauses += on ? 1 : -1;
}

static inline void fake_peer_init(struct fake_peer *fake)
{
    static const struct peer_ops ops = {fake_peer_flush, fake_peer_kick, fake_peer_pause};
    *fake = (struct fake_peer){.peer = {.ops = &ops}};
    peer_list_init(&fake->list);
    fake->peer.list = &fake->list;
}

/* Whether it was woken since the last time. */
static inline bool fake_peer_woken(struct fake_peer *fake)
{
    int before = fake->flushes;
    peer_list_flush(&fake->list);
    return fake->flushes > before;
}

#endif
