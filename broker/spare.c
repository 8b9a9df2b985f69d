/*
 * spare.c - descriptors kept back. See spare.h.
 */
#include "broker/spare.h"
#include <fcntl.h>
#include <unistd.h>

void spare_init(struct spare *spare)
{
    for (int i = 0; i < SPARE_FDS; i++) {
        spare->fd[i] = -1;
    }
}

/* Not copies of standard error: somebody may wait for its end when we go to the background. */
void spare_take(struct spare *spare)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC | O_NOCTTY);

    for (int i = 0; i < SPARE_FDS && null >= 0; i++) {
        if (spare->fd[i] < 0) {
            spare->fd[i] = null;
            null = fcntl(null, F_DUPFD_CLOEXEC, 0);
        }
    }
    if (null >= 0) {
        close(null);
    }
}

void spare_give(struct spare *spare)
{
    for (int i = 0; i < SPARE_FDS; i++) {
        if (spare->fd[i] >= 0) {
            close(spare->fd[i]);
            spare->fd[i] = -1;
        }
    }
}
