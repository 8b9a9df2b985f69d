/*
 * strangers.c - see strangers.h.
 */
#include "broker/strangers.h"
#include "broker/log.h"
#include <inttypes.h>

enum { SAY_AGAIN_MS = 1000 };

/* Outside the rate: it is one line a second. */
static void say_left_out(void *arg)
{
    struct strangers *strangers = arg;
    log_write(LOG_T_NOTICE, "%" PRIu64 " more lines about connections were left out (log_strangers_rate).",
              strangers->left_out);
    strangers->left_out = 0;
}

void strangers_init(struct strangers *strangers, struct loop *loop, uint32_t per_second)
{
    *strangers = (struct strangers){.loop = loop};
    rate_init(&strangers->rate, per_second, loop_now(loop));
    timer_setup(&strangers->say, say_left_out, strangers);
}

/* From 0 on nothing was counted: then the measures are full. */
void strangers_change(struct strangers *strangers, uint32_t per_second)
{
    if (strangers->rate.per_second == 0) {
        rate_init(&strangers->rate, per_second, loop_now(strangers->loop));
    } else {
        rate_change(&strangers->rate, per_second);
    }
}

void strangers_stop(struct strangers *strangers)
{
    if (strangers->left_out > 0) {
        timer_stop(strangers->loop, &strangers->say);
        say_left_out(strangers);
    }
}

bool strangers_line(struct strangers *strangers, const struct principal *who)
{
    uint32_t source = who ? rate_source(who, false) : 0;
    if (strangers->rate.per_second == 0 || rate_take(&strangers->rate, source, loop_now(strangers->loop))) {
        return true;
    }
    if (strangers->left_out++ == 0) {
        timer_start(strangers->loop, &strangers->say, SAY_AGAIN_MS);
    }
    return false;
}
