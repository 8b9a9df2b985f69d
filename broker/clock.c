/*
 * clock.c - CLOCK_BOOTTIME in handy units. The call goes through the vDSO: no system call on the machines we
 * run on.
 */
#include "broker/clock.h"
#include <time.h>

static int64_t clock_read(int64_t per_second)
{
    struct timespec ts = {0, 0};

    clock_gettime(CLOCK_BOOTTIME, &ts); /* cannot fail on any kernel that we support */
    return (int64_t)ts.tv_sec * per_second + ts.tv_nsec / (1000000000 / per_second);
}

int64_t clock_ms(void)
{
    return clock_read(1000);
}

int64_t clock_us(void)
{
    return clock_read(1000000);
}
