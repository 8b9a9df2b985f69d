/*
 * rate.h - how many lines the access log takes, and the log about strangers, so that nobody fills a disk or
 * a subscriber with them.
 *
 * Two measures, both refilled as time goes by: one for all, and one for each source (a user at an address)
 * that is a quarter of it. So whoever floods leaves three quarters to the others. Sources share SOURCES
 * places by hash; two that meet there share a quarter. Pure: the clock is the caller's.
 */
#ifndef BRAMBLE_RATE_H
#define BRAMBLE_RATE_H

#include "broker/principal.h"

enum {
    RATE_SOURCES = 256,
    RATE_BURST_SECONDS = 5, /* what may come at once after a quiet time: so many seconds' worth */
};

struct rate_bucket {
    int64_t millis; /* thousandths of a line that may be taken */
    int64_t at;     /* when that was so, in ms */
};

struct rate {
    uint32_t per_second;
    struct rate_bucket all, sources[RATE_SOURCES];
};

/* Full measures at the time now (ms). */
void rate_init(struct rate *rate, uint32_t per_second, int64_t now);
/* A reload: what was taken stays taken. */
void rate_change(struct rate *rate, uint32_t per_second);

/* Whether one more line of this source may be written; if so, it is counted. */
bool rate_take(struct rate *rate, uint32_t source, int64_t now);

/* The source that a principal counts for; proven: its user has shown who it is, otherwise the address alone
 * counts, or one could pass for many. */
uint32_t rate_source(const struct principal *who, bool proven);

#endif
