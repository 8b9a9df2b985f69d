/*
 * pwhash.h - one password hash as it stands in a password file: its form, verifying with it, making a new
 * one.
 *
 *   $6$SALT$HASH                                     SHA512(password, salt)          mosquitto 1.x
 *   $7$ITERATIONS$SALT$HASH                          PBKDF2-HMAC-SHA512              mosquitto 2.0
 *   $argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH  argon2id                        mosquitto 2.1, bramble
 *   $blake2b$SALT$HASH                               BLAKE2b-256(token), key SALT    bramble, device tokens
 *
 * The first two write base64 with padding, the others without. Any thread may call these.
 *
 * A device token is a password that a machine made: "brmbl_" and 256 random bits as base64url (43 characters,
 * no padding). Nobody can guess one, so a fast hash of it is enough, and a gateway checks a thousand of them
 * in the time of one argon2id. The two worlds never meet: what has the form of a token is checked against
 * $blake2b$ only, and $blake2b$ is checked with nothing else.
 */
#ifndef BRAMBLE_AUTH_PWHASH_H
#define BRAMBLE_AUTH_PWHASH_H

#include "broker/auth.h"

enum pwhash_kind {
    PWHASH_SHA512,
    PWHASH_PBKDF2,
    PWHASH_ARGON2ID,
    PWHASH_TOKEN,
};

enum {
    PWHASH_TEXT_MAX = 320, /* room for any accepted text and a zero */
    PWHASH_TOKEN_LEN = 49, /* characters of a device token */

    /* What an entry may cost at most, each time somebody tries to log in with it. */
    PWHASH_ITERATIONS_MAX = 10000000,
    PWHASH_MEMORY_MAX_KIB = 256 * 1024,
    PWHASH_WORK_MAX_KIB = 4 * 1024 * 1024, /* memory times passes */

    PWHASH_ITERATIONS_NEW = 210000, /* what OWASP names for PBKDF2-HMAC-SHA512 */
};

/* Gets libsodium ready. True when it is; to be called before anything else here. Cheap when repeated. */
bool pwhash_init(void);

/* NULL when text is a hash that can be verified, else a static sentence that says what is wrong. */
const char *pwhash_check(struct slice text);

/* Whether text looks like a hash of some kind (not like a plain password): it starts with "$". */
bool pwhash_tagged(struct slice text);

/* Whether a password has the form of a device token. */
bool pwhash_is_token(struct slice password);

/* Whether text is the hash of a device token (text must have passed pwhash_check()). */
bool pwhash_for_tokens(struct slice text);

/* Makes a new device token and a zero. */
void pwhash_new_token(char out[PWHASH_TOKEN_LEN + 1]);

/* text must have passed pwhash_check(). Takes as long as the text demands, whatever the answer; only a token
 * where a password is wanted, or the other way round, is denied at once. */
enum auth_verdict pwhash_verify(struct slice text, struct slice password);

/* Costs what the verification of a new entry costs (a token: next to nothing, as with each entry), and never
 * matches: for users that do not exist. */
enum auth_verdict pwhash_verify_nobody(struct slice password);

/* Writes the hash of password into out. iterations is for PWHASH_PBKDF2 only. 0, or -1 without memory or
 * randomness. An entry that nothing could ever match, of another kind than the password's form asks for, is
 * not made: -1. */
int pwhash_make(enum pwhash_kind kind, unsigned iterations, struct slice password, char out[PWHASH_TEXT_MAX]);

#endif
