/*
 * passwd_file.h - changes a password file as one step: whoever reads it meanwhile sees the old or the new
 * file.
 *
 * The new file is one that a broker takes: a line it would refuse (damaged, twice the same user) refuses the
 * change with file:line, unless it is the line that the change mends. Comments stay. The lock is on the
 * folder, so two changes at the same time are done one after the other.
 */
#ifndef BRAMBLE_AUTH_PASSWD_FILE_H
#define BRAMBLE_AUTH_PASSWD_FILE_H

#include "auth/pwhash.h"
#include "broker/err.h"

enum passwd_file_start {
    PASSWD_FILE_MUST_EXIST,
    PASSWD_FILE_MAY_CREATE,
    PASSWD_FILE_START_ANEW, /* what was there is dropped */
};

/* Sets the hash of a user. 0, or -1 with err. */
int passwd_file_set(const char *path, enum passwd_file_start start, const char *user, const char *hash,
                    struct err *err);

/* 0, or -1 with err, also when there is no such user. */
int passwd_file_delete(const char *path, const char *user, struct err *err);

/* Hashes all passwords that stand there in plain text (device tokens as such); leaves hashes alone. 0, or -1
 * with err. */
int passwd_file_upgrade(const char *path, enum pwhash_kind kind, unsigned iterations, struct err *err);

#endif
