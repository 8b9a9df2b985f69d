/*
 * acl.h - the port to the ACL: may this principal do this with this topic?
 *
 * Loading is pure and may be done on any thread; the result is immutable. References are counted on the loop
 * thread.
 */
#ifndef BRAMBLE_ACL_H
#define BRAMBLE_ACL_H

#include "broker/err.h"
#include "broker/principal.h"
#include "broker/slice.h"

enum acl_access {
    ACL_READ,      /* a message with this topic name may be sent to the principal */
    ACL_WRITE,     /* the principal may publish to this topic name (wills included) */
    ACL_SUBSCRIBE, /* the principal may subscribe to this topic filter */
};

struct acl;

/* Reads a mosquitto acl_file. NULL with err "file:line: reason". */
struct acl *acl_load(const char *path, struct err *err);
struct acl *acl_ref(struct acl *acl);
void acl_unref(struct acl *acl);

/* acl NULL: no acl_file is configured, all is allowed, except what mosquitto refuses to clients even then:
 * publishing to $SYS (but $SYS/broker/connection/+/state), and $share topics. Never allocates, never fails
 * open; the work does not grow with the number of rules. */
bool acl_allows(const struct acl *acl, const struct principal *who, enum acl_access access,
                struct slice topic);

/* The same answer, and the line of the acl_file that gave it; 0: no line says anything. */
struct acl_answer {
    bool allowed;
    uint32_t line;
    const char *reason; /* static text, where a limit denies rather than a rule; or NULL */
};
struct acl_answer acl_ask(const struct acl *acl, const struct principal *who, enum acl_access access,
                          struct slice topic);

/* Whether who may be connected: the limits clientid, address and tls. The line is that of the last one that
 * concerned it, or of the one that it breaks (the first, of those that may be repeated). */
struct acl_answer acl_admits(const struct acl *acl, const struct principal *who);
/* A PUBLISH, a will or what is retained of it: the limits qos and retain, then ACL_WRITE. */
struct acl_answer acl_publishes(const struct acl *acl, const struct principal *who, struct slice topic,
                                uint8_t qos, bool retain);
/* A SUBSCRIBE: ACL_SUBSCRIBE, and with readable_only whether it may ever match what may be read. At which
 * QoS, says acl_most_qos(). */
struct acl_answer acl_subscribes(const struct acl *acl, const struct principal *who, struct slice filter,
                                 bool readable_only);
/* The highest QoS that who may use, and the line that says so; 2 and 0: there is no limit. */
struct acl_qos {
    uint8_t most;
    uint32_t line;
};
struct acl_qos acl_most_qos(const struct acl *acl, const struct principal *who);
/* The file it was read from; NULL for NULL. */
const char *acl_path(const struct acl *acl);

/* Whether all topics that the filter matches may be read, as far as can be said without looking for long:
 * false says nothing. */
bool acl_reads_all(const struct acl *acl, const struct principal *who, struct slice filter);
/* Whether one of them may perhaps be read: false is certain. */
bool acl_reads_some(const struct acl *acl, const struct principal *who, struct slice filter);
/* Whether ACL_SUBSCRIBE can be denied to anybody. NULL is allowed. */
bool acl_limits_subscribing(const struct acl *acl);

#endif
