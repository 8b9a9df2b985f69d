/*
 * auth.h - the port to passwords: a loaded password file and the threads that verify against it.
 *
 * Loading is pure and may be done on any thread; the result is immutable. References are counted on the loop
 * thread. Verifying is asked for on the loop and always answered later, on the loop, through the mailbox:
 * CONNECT waits, the loop does not. The asker names itself by an id, never by a pointer.
 */
#ifndef BRAMBLE_AUTH_H
#define BRAMBLE_AUTH_H

#include "broker/err.h"
#include "broker/slice.h"

struct mailbox;
struct passwords;
struct hasher;

enum auth_verdict {
    AUTH_ALLOWED,
    AUTH_DENIED,      /* unknown user or wrong password: never says which */
    AUTH_UNAVAILABLE, /* the queue is full or memory ran out: CONNACK 3 */
};

typedef void auth_done(void *ctx, uint64_t id, enum auth_verdict verdict);

/* Reads a mosquitto password file ($7$, $6$, $argon2id$ entries). NULL with err "file:line: reason"; never
 * half a file. */
struct passwords *passwords_load(const char *path, struct err *err);
struct passwords *passwords_ref(struct passwords *passwords);
void passwords_unref(struct passwords *passwords);
size_t passwords_count(const struct passwords *passwords);

/* A value that changes when this user's entry changes or vanishes (0: no such user), to find at a reload
 * whose right has ended. */
uint64_t passwords_mark(const struct passwords *passwords, struct slice user);

/* threads >= 1 workers, at most queue_max waiting requests. NULL without memory. */
struct hasher *hasher_new(struct mailbox *mailbox, int threads, int queue_max);
/* Ends the threads; requests still waiting are dropped without an answer. */
void hasher_free(struct hasher *hasher);

/* Asks whether password belongs to user. done(ctx, id, verdict) is called later on the loop, never from
 * within this call. An unknown user costs as much as a known one. The slices and the table are not needed
 * after the return. */
void hasher_verify(struct hasher *hasher, const struct passwords *passwords, struct slice user,
                   struct slice password, auth_done *done, void *ctx, uint64_t id);

#endif
