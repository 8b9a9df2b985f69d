/*
 * principal.c - the counted reference to what is known of a peer. The strings belong to the principal.
 */
#include "broker/principal.h"
#include <arpa/inet.h>
#include <assert.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

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

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool principal_same(const struct principal *a, const struct principal *b)
{
    return a->listener == b->listener && same_text(a->address, b->address) &&
           same_text(a->client_id, b->client_id) && same_text(a->user, b->user) &&
           same_text(a->tls_version, b->tls_version) && same_text(a->cert_cn, b->cert_cn) &&
           same_text(a->cert_subject, b->cert_subject) && same_text(a->cert_sha256, b->cert_sha256);
}

/* An IPv4 address is a number below 2^32, and no network has an IPv6 prefix like that: 0::/8 is reserved. */
uint64_t principal_origin(const struct principal *principal)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    uint8_t b[16];
    uint64_t half[2];

    if (inet_pton(AF_INET, principal->address, b + 12) != 1) {
        if (inet_pton(AF_INET6, principal->address, b) != 1)
            return ORIGIN_HERE;
        memcpy(half, b, sizeof half);
        if (b[0] == 0xfe && (b[1] & 0xc0) == 0x80)
            return (uint64_t)0xfe80 << 48 | (be64toh(half[1]) & 0xffffffffffff);
        if (memcmp(b, mapped, sizeof mapped) != 0)
            return half[0] ? be64toh(half[0]) : ORIGIN_HERE;
    }
    return (uint64_t)b[12] << 24 | (uint64_t)b[13] << 16 | (uint64_t)b[14] << 8 | b[15];
}
