/*
 * cert_names.c - the names that a server certificate is made out to.
 *
 * Clients compare the name they connect to with these, so all that this machine may be called by should be
 * among them: localhost, its host name, that name in the mDNS of the neighbourhood, and its addresses.
 */
#include "tls/cert.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_address(const char *name)
{
    unsigned char space[16];

    return inet_pton(AF_INET, name, space) == 1 || inet_pton(AF_INET6, name, space) == 1;
}

bool cert_is_host_name(const char *name)
{
    size_t len = strlen(name), label = 0;

    if (len == 0 || len > 253)
        return false;
    if (strncmp(name, "*.", 2) == 0)
        name += 2;
    for (; *name; name++) {
        if (*name == '.' && label == 0)
            return false;
        if (*name != '.' && !isalnum((unsigned char)*name) && *name != '-' && *name != '_')
            return false;
        label = *name == '.' ? 0 : label + 1;
        if (label > 63)
            return false;
    }
    return label > 0;
}

int cert_names_add(struct cert_names *names, const char *name, struct err *err)
{
    if (!is_address(name) && !cert_is_host_name(name))
        return err_set(err, "'%s' is neither a host name nor an address", name);
    for (int i = 0; i < names->count; i++) {
        if (strcasecmp(names->name[i], name) == 0)
            return 0;
    }
    if (names->count == CERT_NAMES_MAX)
        return err_set(err, "more than %d names are too many for one certificate", CERT_NAMES_MAX);
    names->name[names->count] = strdup(name);
    if (!names->name[names->count])
        return err_set(err, "no memory");
    names->count++;
    return 0;
}

/* NAME as the machine knows it, and NAME.local as its neighbours do (mDNS). */
static void add_host_name(struct cert_names *names)
{
    char host[256] = "", local[300];

    if (gethostname(host, sizeof host - 1) || !cert_is_host_name(host))
        return;
    (void)cert_names_add(names, host, NULL);
    snprintf(local, sizeof local, "%.*s.local", (int)strcspn(host, "."), host);
    (void)cert_names_add(names, local, NULL);
}

static void add_interface(struct cert_names *names, const struct ifaddrs *interface)
{
    const struct sockaddr *address = interface->ifa_addr;
    char text[INET6_ADDRSTRLEN];
    const void *bytes = NULL;

    if (!address || !(interface->ifa_flags & IFF_UP) || (interface->ifa_flags & IFF_LOOPBACK))
        return;
    if (address->sa_family == AF_INET)
        bytes = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    if (address->sa_family == AF_INET6)
        bytes = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    if (!bytes || (address->sa_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)bytes)))
        return;
    /* a machine may have more addresses than fit: the first ones then */
    if (inet_ntop(address->sa_family, bytes, text, sizeof text) && names->count < CERT_NAMES_MAX)
        (void)cert_names_add(names, text, NULL);
}

int cert_names_default(struct cert_names *names, struct err *err)
{
    struct ifaddrs *interfaces = NULL;

    if (cert_names_add(names, "localhost", err) || cert_names_add(names, "127.0.0.1", err) ||
        cert_names_add(names, "::1", err))
        return -1;
    add_host_name(names);
    if (getifaddrs(&interfaces) == 0) {
        for (const struct ifaddrs *i = interfaces; i; i = i->ifa_next)
            add_interface(names, i);
        freeifaddrs(interfaces);
    }
    return 0;
}

void cert_names_free(struct cert_names *names)
{
    for (int i = 0; i < names->count; i++)
        free(names->name[i]);
    names->count = 0;
}
