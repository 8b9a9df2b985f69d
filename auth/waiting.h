/*
 * waiting.h - logins that wait for a hashing thread: who is next, and how many may wait.
 *
 *   listeners in turn  -->  of the one whose turn it is, the addresses in turn  -->  its logins, oldest first
 *
 * So a listener that is flooded delays another's logins by no more than one job for each thread, and the same
 * holds for the addresses of a listener: an address (or listener) that has nothing waiting is let in before
 * the one that was served last. Each of those is stepped in front of only once for each time it is served, so
 * ever new addresses do not starve the old ones.
 *
 * Bounded in all, for each listener and for each address. Every operation takes the same time however many
 * wait. No lock: hasher.c has one.
 */
#ifndef BRAMBLE_AUTH_WAITING_H
#define BRAMBLE_AUTH_WAITING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct waiting;

enum {
    /* Places. A login takes one, and one more for each KiB of its password. */
    WAITING_MOST = 4096,
    WAITING_LISTENER = 2048,
    WAITING_ADDRESS = 1024,
};

/* A login's place; embedded in what it stands for. */
struct waiting_place {
    struct waiting_place *next;
    uint32_t places;
};

/* NULL without memory. */
struct waiting *waiting_new(size_t listeners);
/* NULL is allowed. Whoever waits is to be taken out before. */
void waiting_free(struct waiting *waiting);

/* False when there is no room (or no memory) for one more from this address (principal_origin()). */
bool waiting_add(struct waiting *waiting, struct waiting_place *place, size_t password_n, size_t listener,
                 uint64_t origin);
/* The next, or NULL. */
struct waiting_place *waiting_take(struct waiting *waiting);

#endif
