/*
 * principal.c - the counted reference to what is known of a peer. The strings belong to the principal.
 */
#include "broker/principal.h"
#include <assert.h>
#include <stdlib.h>

struct principal *principal_new(void)
{
    struct principal *principal = calloc(1, sizeof *principal);

    if (principal)
        principal->refs = 1;
    return principal;
}

struct principal *principal_ref(struct principal *principal)
{
    assert(principal->refs > 0);
    principal->refs++;
    return principal;
}

void principal_unref(struct principal *principal)
{
    if (!principal)
        return;
    assert(principal->refs > 0);
    if (--principal->refs > 0)
        return;
    free(principal->client_id);
    free(principal->user);
    free(principal->cert_cn);
    free(principal->cert_subject);
    free(principal);
}
