/*
 * ban.h - who has failed to log in too often, and for how long he is not listened to.
 *
 * Failed logins are counted for the address (principal_origin()), for the user, and for the two together,
 * each within a window from its first failure. From half of `failures` on answers take longer; at `failures`
 * logins are refused without a look at their password, for a time. What is refused so neither counts nor
 * prolongs it.
 *
 *   counted for        refuses                                       but not
 *   user at address    that user at that address                     -
 *   address            every user at that address                    this machine; users known there
 *   user               that user where he has failed too             addresses where he is known
 *
 * The hard part is that nobody may use this to shut others out:
 *   - A user is known at an address once he has logged in from there: no failures of others, at that address
 *     or elsewhere, keep him out.
 *   - A ban of a user hits only addresses from which a login of that user has failed. Whoever has the right
 *     password does not fail, so strangers do not keep him out even where he is not known yet (after a start
 *     of the daemon, at a new address). Somebody who guesses from ever new addresses has one try at each.
 *   - Services on this machine share an address: one with a wrong password is alone with its user name.
 * What remains: who shares address and user name shares the ban.
 *
 * A success ends the count of that user at that address only; else one good account would be a way to go on
 * guessing others. Unknown users are counted like known ones.
 *
 * Bounded: of failures and of known users so many entries (the one used least recently goes), each under a
 * seeded hash, so names cost no memory and nobody can choose entries that meet. Time is handed in.
 */
#ifndef BRAMBLE_BAN_H
#define BRAMBLE_BAN_H

#include "broker/hash.h"
#include "broker/principal.h"
#include "broker/siphash.h"

enum {
    BAN_FAILING_MOST = 8192, /* entries; some 100 bytes each */
    BAN_KNOWN_MOST = 4096,
    BAN_SLOWEST = 8, /* times the usual delay */
};

struct ban_rule {
    uint32_t failures; /* 0: nobody is ever refused */
    int64_t window_ms, time_ms;
};

struct ban_entry {
    UT_hash_handle hh;
    uint64_t key;
    int64_t since; /* of the first failure that counts */
    int64_t until; /* of the ban; 0: none */
    uint32_t failures;
};

struct ban {
    struct siphash_key seed;
    struct ban_entry *failing, *known; /* the one used least recently first */
};

/* What began with a failure. */
enum ban_began { BAN_NONE, BAN_PAIR, BAN_ADDRESS, BAN_USER };

struct ban_failure {
    unsigned slower; /* by how many times the usual delay it is to be answered: 1 to BAN_SLOWEST */
    enum ban_began began;
};

/* Makes an empty one, which holds no memory yet. */
void ban_init(struct ban *ban);
void ban_free(struct ban *ban);

/* Whether a login of who->user from who->address is to be refused without a look. who->user may be NULL. */
bool ban_refuses(const struct ban *ban, const struct ban_rule *rule, const struct principal *who,
                 int64_t now);

/* A login has failed. Without memory it is not counted. */
struct ban_failure ban_failed(struct ban *ban, const struct ban_rule *rule, const struct principal *who,
                              int64_t now);

/* A login with a password has succeeded. */
void ban_succeeded(struct ban *ban, const struct ban_rule *rule, const struct principal *who);

#endif
