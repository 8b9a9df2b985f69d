/*
 * strangers.h - how much the log says about who has not logged in, so that nobody fills a disk with refusals.
 *
 * Each line about a connection that has not been accepted yet (it has come, its handshake or its CONNECT
 * failed, it was refused) is asked for here. As many as log_strangers_rate are written, five seconds' worth
 * at once, of one address a quarter (rate.h); the others are counted, and once a second a line says how many
 * they were. Lines about who was accepted are not asked for. Loop thread only.
 */
#ifndef BRAMBLE_STRANGERS_H
#define BRAMBLE_STRANGERS_H

#include "broker/loop.h"
#include "broker/rate.h"

/* All zero: without a limit. */
struct strangers {
    struct loop *loop;
    struct rate rate;
    uint64_t left_out; /* and not yet said */
    struct timer say;  /* runs while that is not 0 */
};

/* per_second 0: no limit. */
void strangers_init(struct strangers *strangers, struct loop *loop, uint32_t per_second);
/* A reload. */
void strangers_change(struct strangers *strangers, uint32_t per_second);
/* Says what was not said yet. */
void strangers_stop(struct strangers *strangers);

/* Whether a line about it may be written now; if not, it is counted. NULL: nobody knows who it is. */
bool strangers_line(struct strangers *strangers, const struct principal *who);

#endif
