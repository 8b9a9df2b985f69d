/*
 * stored.c - messages and principals from the store. See stored.h.
 *
 * uthash keeps entries in the order in which they were added, so the first one is the oldest: it makes room
 * when there are too many. Origins of one publisher mostly follow each other, so which one goes matters
 * little.
 */
#include "broker/stored.h"
#include "broker/hash.h"
#include "broker/mem.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct known {
    UT_hash_handle hh;
    uint64_t number;
    struct principal *who; /* a reference */
};

enum { KNOWN_BYTES = sizeof(struct known) + sizeof(struct principal) };

struct stored_origins {
    struct known *by_number;
    uint32_t most;
};

struct stored_origins *stored_origins_new(uint32_t most)
{
    struct stored_origins *origins = calloc(1, sizeof *origins);
    if (origins) {
        origins->most = most;
    }
    return origins;
}

static void forget_oldest(struct stored_origins *origins)
{
    struct known *known = origins->by_number;
    HASH_DEL(origins->by_number, known);
    principal_unref(known->who);
    mem_drop(KNOWN_BYTES);
    free(known);
}

void stored_origins_free(struct stored_origins *origins)
{
    while (origins && origins->by_number) {
        forget_oldest(origins);
    }
    free(origins);
}

/* ---- a principal ---- */

static bool copy(char **to, const char *text)
{
    *to = text ? strdup(text) : NULL;
    return *to || !text;
}

static const char *static_version(const char *text)
{
    static const char *const versions[] = {"TLSv1.2", "TLSv1.3"};
    for (size_t i = 0; text && i < sizeof versions / sizeof *versions; i++) {
        if (strcmp(text, versions[i]) == 0) {
            return versions[i];
        }
    }
    return text ? "TLS" : NULL; /* another program wrote it: there was TLS */
}

/* What was not stored is of no interest any more: the port it came from. */
static struct principal *make_principal(const struct stored_origin *origin)
{
    struct principal *who = principal_new();
    if (!who) {
        return NULL;
    }
    who->listener = origin->listener;
    who->tls_version = static_version(origin->tls_version);
    snprintf(who->address, sizeof who->address, "%s", origin->address ? origin->address : "");
    snprintf(who->cert_sha256, sizeof who->cert_sha256, "%s", origin->cert_sha256 ? origin->cert_sha256 : "");
    if (!copy(&who->client_id, origin->client_id) || !copy(&who->user, origin->user) ||
        !copy(&who->cert_cn, origin->cert_cn) || !copy(&who->cert_subject, origin->cert_subject)) {
        principal_unref(who);
        return NULL;
    }
    return who;
}

/* Without memory it is not kept, and made again next time. */
static void keep(struct stored_origins *origins, uint64_t number, struct principal *who)
{
    struct known *known = malloc(sizeof *known);
    if (!known) {
        return;
    }
    known->number = number;
    HASH_ADD(hh, origins->by_number, number, sizeof known->number, known);
    if (!known->hh.tbl) {
        free(known);
        return;
    }
    known->who = principal_ref(who);
    mem_hold(KNOWN_BYTES);
    if (HASH_COUNT(origins->by_number) > origins->most) {
        forget_oldest(origins);
    }
}

int stored_principal(struct stored_origins *origins, const struct stored_origin *origin,
                     struct principal **who)
{
    *who = NULL;
    if (origin->number == 0) {
        return 0;
    }
    struct known *known;
    HASH_FIND(hh, origins->by_number, &origin->number, sizeof origin->number, known);
    if (known) {
        *who = principal_ref(known->who);
        return 0;
    }
    *who = make_principal(origin);
    if (!*who) {
        return -1;
    }
    keep(origins, origin->number, *who);
    return 0;
}

/* ---- a message ---- */

struct msg *stored_msg(struct stored_origins *origins, const struct stored_message *message)
{
    struct principal *from;
    if (stored_principal(origins, &message->origin, &from) < 0) {
        return NULL;
    }
    struct msg *msg = msg_new(message->topic, message->payload, message->qos, message->retain, from);
    principal_unref(from);
    return msg;
}
