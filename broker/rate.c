/*
 * rate.c - see rate.h.
 */
#include "broker/rate.h"

enum { LINE = 1000 };

/* A quarter, at least one. */
static uint32_t share(uint32_t per_second)
{
    return per_second < 4 ? 1 : per_second / 4;
}

static int64_t full(uint32_t per_second)
{
    return (int64_t)per_second * RATE_BURST_SECONDS * LINE;
}

static void refill(struct rate_bucket *bucket, uint32_t per_second, int64_t now)
{
    int64_t passed = now - bucket->at, most = full(per_second);
    bucket->at = now;
    if (passed >= INT64_C(1000) * RATE_BURST_SECONDS) { /* also keeps the product small */
        bucket->millis = most;
        return;
    }
    bucket->millis += passed * per_second; /* lines a second are thousandths a millisecond */
    if (bucket->millis > most) {
        bucket->millis = most;
    }
}

void rate_init(struct rate *rate, uint32_t per_second, int64_t now)
{
    rate->per_second = per_second;
    rate->all = (struct rate_bucket){full(per_second), now};
    for (int i = 0; i < RATE_SOURCES; i++) {
        rate->sources[i] = (struct rate_bucket){full(share(per_second)), now};
    }
}

void rate_change(struct rate *rate, uint32_t per_second)
{
    rate->per_second = per_second;
}

bool rate_take(struct rate *rate, uint32_t source, int64_t now)
{
    struct rate_bucket *own = &rate->sources[source % RATE_SOURCES];
    refill(&rate->all, rate->per_second, now);
    refill(own, share(rate->per_second), now);
    if (rate->all.millis < LINE || own->millis < LINE) {
        return false;
    }
    rate->all.millis -= LINE;
    own->millis -= LINE;
    return true;
}

/* FNV-1a. That somebody chooses a name which meets another one costs both a part of their lines, no more. */
static uint32_t hash(uint32_t h, const char *text)
{
    for (; *text; text++) {
        h = (h ^ (uint8_t)*text) * 16777619U;
    }
    return h;
}

uint32_t rate_source(const struct principal *who, bool proven)
{
    uint32_t h = hash(2166136261U, who->address);
    h = proven && who->user ? hash(h * 16777619U, who->user) : h;
    return h ^ h >> 16;
}
