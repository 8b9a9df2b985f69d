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
#include "broker/principal.h"
#include "broker/slice.h"

struct counters;
struct mailbox;
struct passwords;
struct hasher;

enum auth_verdict {
    AUTH_ALLOWED,
    AUTH_DENIED,      /* unknown user or wrong password: never says which */
    AUTH_UNAVAILABLE, /* too many wait, or memory ran out: CONNACK 3 */
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

/* A value for all entries together, that changes when any of them does. 0: there are none. */
uint64_t passwords_print(const struct passwords *passwords);

struct hasher_options {
    int threads;               /* >= 1 */
    size_t listeners;          /* principals come by those below this number */
    size_t cache;              /* verified secrets that are remembered; 0: none */
    struct counters *counters; /* written on the loop thread */
};

/* NULL without memory or threads. */
struct hasher *hasher_new(struct mailbox *mailbox, const struct hasher_options *options);
/* Tells the threads to end, and waits for that max_ms. False when one is still in the midst of a check, which
 * may take many seconds: then the process ends without hasher_free(). NULL: there is none. */
bool hasher_stop(struct hasher *hasher, int64_t max_ms);
/* Ends the threads; requests still waiting are dropped without an answer. */
void hasher_free(struct hasher *hasher);

/* A password file has changed: no secret is known any more, each is verified anew. */
void hasher_forget(struct hasher *hasher);

/* Whether password belongs to who->user. Everything is borrowed for the call. */
struct auth_question {
    const struct principal *who; /* with user, listener and address: those take turns */
    struct slice password;       /* p NULL: CONNECT came without one */
    int64_t until;               /* clock_ms() from which on nobody waits for the answer */
    auth_done *done; /* done(ctx, id, verdict) is called later on the loop, never from within the call */
    void *ctx;
    uint64_t id;
};

/* A password is verified by a thread; an unknown user costs as much as a new entry. Passwords verified before
 * and device tokens need no thread. What has the form of a token is compared with a token's entry only, and
 * a token's entry with nothing else. */
void hasher_verify(struct hasher *hasher, const struct passwords *passwords,
                   const struct auth_question *question);

#endif
