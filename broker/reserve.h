/*
 * reserve.h - memory for libev, which ends the program when it gets none.
 *
 * What libev wants is little (64 bytes for each descriptor, in arrays that double), but it may want it at any
 * time, and cannot be told that there is none. So when malloc() gives nothing, blocks come from a stretch of
 * 4 MiB that was set aside. Loop thread only.
 */
#ifndef BRAMBLE_RESERVE_H
#define BRAMBLE_RESERVE_H

/* As realloc(), and with size 0 as free(). NULL when the reserve is used up, too. */
void *reserve_realloc(void *block, long size);

#endif
