/*
 * cert.h - making certificates: what cert.c gives to cert_tool.c. See cert.c for what they look like.
 */
#ifndef TLS_CERT_H
#define TLS_CERT_H

#include "broker/err.h"
#include <stdbool.h>

enum {
    CERT_DAYS_CA = 3650,
    CERT_DAYS_SERVER = 820,     /* the default */
    CERT_DAYS_SERVER_MAX = 823, /* with the day before: browsers refuse more than 825 */
    CERT_DAYS_CLIENT = 3650,
    CERT_NAMES_MAX = 64
};

/* Host names and addresses for a server certificate. */
struct cert_names {
    char *name[CERT_NAMES_MAX];
    int count;
};

/* Takes a copy, unless it is there already. -1 with err for what is neither a host name nor an address. */
int cert_names_add(struct cert_names *names, const char *name, struct err *err);
/* localhost, this machine's names and addresses. No look-ups: a name server may be far away. */
int cert_names_default(struct cert_names *names, struct err *err);
void cert_names_free(struct cert_names *names);
bool cert_is_host_name(const char *name);

/* Each makes NAME.crt in dir, over what is there, for the key in NAME.key, which is made (0600) when it is
 * not there or new_key is set. days <= 0: the default. 0, or -1 with err. */
int cert_make_ca(const char *dir, bool new_key, struct err *err);
int cert_make_server(const char *dir, const struct cert_names *names, int days, bool new_key,
                     struct err *err);
int cert_make_client(const char *dir, const char *name, int days, struct err *err);

/* The same as cert_make_all() of tls.h; force: over what is there. */
int cert_make_missing(const char *dir, const char *const *names, int days, bool force, struct err *err);

/* Whether dir/name is there. */
bool cert_exists(const char *dir, const char *name);
/* A clock before the making of this program cannot be right (a Pi has none of its own at start). */
bool cert_clock_is_wrong(void);

#endif
