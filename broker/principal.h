/*
 * principal.h - the port "who is this": all that is known of a peer.
 *
 * Passwords, ACL and usage control take a principal, never a connection. A principal is made when a
 * connection is accepted, filled by the transport (address, TLS) and by CONNECT (client id, user), and shared
 * by reference: a message or a will keeps the principal of its publisher, so its rights can still be asked
 * for when the publisher is gone. References are counted on the loop thread only.
 */
#ifndef BRAMBLE_PRINCIPAL_H
#define BRAMBLE_PRINCIPAL_H

#include <stdbool.h>
#include <stdint.h>

struct principal {
    uint32_t refs;
    char *client_id;         /* without zero bytes (the codec refuses them); NULL before CONNECT */
    char *user;              /* NULL: anonymous */
    char address[48];        /* numeric address, or "unix", "local" */
    uint16_t port;           /* the peer's port */
    int listener;            /* number of the listener it came in by; -1: in-process peer; or LISTENER_GONE */
    const char *tls_version; /* static text "TLSv1.2" or "TLSv1.3", NULL without TLS */
    char *cert_cn;           /* subject common name of the verified client certificate, or NULL */
    char *cert_subject;      /* the whole subject in RFC 2253 style, or NULL */
    char cert_sha256[65];    /* hex fingerprint of that certificate, or "" */
};

/* One reference; NULL without memory. */
struct principal *principal_new(void);
struct principal *principal_ref(struct principal *principal);
/* NULL is allowed. The last one frees it with all its strings. */
void principal_unref(struct principal *principal);

/* Whether all that is known of the two is the same, but for the port. */
bool principal_same(const struct principal *a, const struct principal *b);

/* Where the peer is, for what is limited or counted by address: an IPv4 address, or the first 64 bits of an
 * IPv6 address, since whoever has one of those has the others too (of a link-local one, which share those,
 * the last 48). 127.0.0.1, ::1, Unix sockets and what runs in this process are one place. */
enum { ORIGIN_HERE = 0x7f000001 };
uint64_t principal_origin(const struct principal *principal);

#endif
