/*
 * counters.h - what the broker counts: one row gives the field, its place under $SYS/broker/, and the words.
 *
 * Kept in struct broker, written on the loop thread only.
 */
#ifndef BRAMBLE_COUNTERS_H
#define BRAMBLE_COUNTERS_H

#include <stdint.h>

#define COUNTERS(X)                                                                              \
    X(messages_received, "messages/received", "control packets received")                        \
    X(messages_sent, "messages/sent", "control packets sent")                                    \
    X(publish_received, "publish/messages/received", "PUBLISH packets received")                 \
    X(publish_sent, "publish/messages/sent", "PUBLISH packets sent")                             \
    X(publish_bytes_received, "publish/bytes/received", "payload bytes received")                \
    X(publish_bytes_sent, "publish/bytes/sent", "payload bytes sent")                            \
    X(bytes_received, "bytes/received", "bytes received")                                        \
    X(bytes_sent, "bytes/sent", "bytes sent")                                                    \
    X(connections, "connections/accepted", "connections accepted since the start")               \
    X(connects_refused, "connections/refused", "CONNECT packets and connections refused")        \
    X(logins_failed, "connections/logins_failed", "logins with a wrong user name or password")   \
    X(logins_full, "connections/logins_full", "logins refused because too many were waiting")    \
    X(logins_cached, "connections/logins_cached", "logins with a known password")                \
    X(logins_banned, "connections/logins_banned", "logins refused without a look")               \
    X(bans, "connections/bans", "times that a ban began")                                        \
    X(publish_denied, "publish/messages/denied", "PUBLISH packets that the ACL denied")          \
    X(messages_revoked, "publish/messages/revoked",                                              \
      "messages dropped because the client they waited for may no longer read them")             \
    X(sessions_revoked, "clients/revoked", "kept sessions discarded: their user is gone")        \
    X(protocol_errors, "connections/protocol_errors",                                            \
      "connections closed for a malformed or forbidden packet")                                  \
    X(publishers_held, "store/publishers/held", "times that a client had to wait for the store") \
    X(publishers_given_up, "store/publishers/given_up",                                          \
      "clients disconnected because the store had failed for too long")                          \
    X(access_left_out, "access_log/left_out", "decisions that the access log did not write down")

struct counters {
#define X(name, topic, text) uint64_t name;
    COUNTERS(X)
#undef X
};

#endif
