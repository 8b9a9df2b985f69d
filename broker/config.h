/*
 * config.h - the port to the configuration: what the file said, as plain structures.
 *
 * Made by config/ from a mosquitto.conf-style file and the command line. Loading is pure and may be done on
 * any thread; the result is never changed afterwards, so a reload makes a new one and the loop swaps them.
 * Field names are the directives' names. config/directives.def is the one table of all directives.
 * All strings are owned by the struct config. Numbers keep mosquitto's meaning: where 0 or -1 means "no
 * limit" there, it does here.
 */
#ifndef BRAMBLE_CONFIG_H
#define BRAMBLE_CONFIG_H

#include "broker/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifndef BRAMBLE_VERSION
#define BRAMBLE_VERSION "0.1.0"
#endif

enum config_protocol { PROTOCOL_MQTT, PROTOCOL_WEBSOCKETS };
enum config_domain { DOMAIN_ANY, DOMAIN_IPV4, DOMAIN_IPV6 };
enum config_sync { SYNC_FULL, SYNC_NORMAL, SYNC_OFF };

/* Where something was said, for messages; NULL and 0: nowhere. The name belongs to config.files. */
struct config_place {
    const char *file;
    int line;
};

/* Who may connect. One for all listeners, or one each where they differ. */
struct config_security {
    bool allow_anonymous; /* already resolved: false by default; true for `-p PORT` or a file without any
                             listener */
    bool allow_zero_length_clientid;
    char *auto_id_prefix; /* default "auto-" */
    char *password_file;
    char *acl_file;
    struct config_place password_file_at, acl_file_at;
};

struct config_listener {
    const char *file; /* where it was said, for messages; NULL and 0 for the implied listener */
    int line;
    uint32_t number; /* 0, 1, ... in the order of the file: its name between threads and in the log */

    int port;             /* 0: Unix socket */
    char *host;           /* bind address or host name, NULL: all addresses */
    char *unix_path;      /* for port 0 */
    char *bind_interface; /* NULL: any */
    enum config_domain socket_domain;
    enum config_protocol protocol;
    bool loopback_only; /* the implied listener of `-p` or an empty file: 127.0.0.1 and ::1; host is NULL */

    int max_connections;           /* -1: no limit */
    int max_qos;                   /* 0..2 */
    char *mount_point;             /* NULL: none */
    bool use_username_as_clientid; /* the user name becomes the client id; a client without one is refused */
    unsigned accept_protocol_versions; /* bit n is set: CONNECT may ask for protocol level n (3, 4, 5) */

    bool tls; /* certfile and keyfile are given */
    char *cafile, *capath, *certfile, *keyfile, *crlfile;
    char *ciphers, *ciphers_tls13; /* OpenSSL's names, separated by colons */
    char *tls_version; /* NULL, "tlsv1.2", "tlsv1.3": the lowest that is accepted, as in mosquitto */
    bool require_certificate;
    bool use_identity_as_username;
    bool use_subject_as_username;

    char *http_dir; /* websockets: files served to plain HTTP requests */
    char **websockets_origin;
    size_t websockets_origins;
    int websockets_headers_size; /* 0: default; the general option, copied to every listener */

    struct config_security *security; /* the one that counts for this listener, perhaps shared with others */
};

struct config {
    struct config_listener *listeners;
    size_t listener_count;
    struct config_security *securities; /* [0] is the general one; then those of listeners with their own */
    size_t security_count;
    bool per_listener_settings;

    /* limits */
    uint32_t max_inflight_messages; /* 0: no limit (65535) */
    uint64_t max_inflight_bytes;    /* 0: no limit */
    uint32_t max_queued_messages;   /* 0: no limit */
    uint32_t max_queued_burst;      /* own: beyond that, for a client that is reading; default 9000 */
    uint64_t max_queued_bytes;      /* 0: no limit */
    uint32_t max_packet_size;       /* 0: no limit (the standard's); a file can say 20 and more */
    uint32_t message_size_limit;    /* payload; 0: no limit */
    uint32_t max_keepalive;         /* seconds; 0: no limit */
    int global_max_connections;     /* -1: no limit */
    int global_max_clients;         /* connected clients and kept sessions together; -1: no limit */
    uint64_t memory_limit;          /* 0: no limit */
    bool queue_qos0_messages;
    bool upgrade_outgoing_qos;
    bool retain_available;
    bool check_retain_source;
    bool acl_refuse_unreadable;           /* own: a filter under which nothing may be read is refused */
    char *clientid_prefixes;              /* only client ids that begin with this may connect; NULL: all */
    int64_t persistent_client_expiration; /* seconds, 0: never */
    bool set_tcp_nodelay;
    int sys_interval;            /* seconds, 0: off */
    uint32_t max_topic_levels;   /* own: deeper topics and filters are refused; default 201 */
    uint32_t connect_timeout;    /* own: seconds from accept to CONNECT; default 10 */
    uint32_t handshake_timeout;  /* own: seconds a TLS or WebSocket handshake may take; default 10 */
    int auth_threads;            /* own: 0: cores - 1, at least 1 */
    uint32_t auth_cache;         /* own: verified secrets that are remembered; 0: none */
    uint32_t auth_timeout;       /* own: seconds a login may wait for a hashing thread; default 20 */
    uint32_t auth_fail_delay;    /* own: ms from CONNECT to the answer of a failed login; 0: at once */
    uint32_t auth_ban_failures;  /* own: failed logins until more are refused without a look; 0: never */
    uint32_t auth_ban_window;    /* own: seconds in which they are counted */
    uint32_t auth_ban_time;      /* own: seconds for which more are refused */
    int tls_threads;             /* own: 0: cores - 1, at least 1 */
    bool ignore_bridges;         /* own: bridge sections are skipped with a warning instead of refused */
    int websockets_headers_size; /* 0: default */

    bool discard_session_of_other_user; /* own: instead of refusing the client */

    /* the store */
    bool persistence;
    char *persistence_location; /* a directory, NULL: the one the daemon was started in */
    char *persistence_file;
    char *persistence_path;            /* both together; NULL without persistence */
    uint32_t persistence_commit_delay; /* own: ms in which those who are there may acknowledge */
    uint32_t persistence_lazy_delay;   /* own: ms for what nobody waits for */
    enum config_sync persistence_sync; /* own */
    uint32_t persistence_hold_timeout; /* own: seconds */
    uint64_t persistence_min_free;     /* own: bytes of the file system */
    uint64_t queue_memory_limit;       /* own: bytes of messages for clients that are away; 0: no limit */
    bool stored_uncounted; /* max_queued_messages was not said: it is not for what is in the store */
    struct config_place persistence_at, persistence_location_at;

    /* logging */
    unsigned log_dest; /* log_dest bits of log.h */
    unsigned log_type; /* log_type bits of log.h; -v makes it LOG_T_ALL, -q makes it 0 */
    char *log_file;
    char *log_facility; /* "local0" to "local7", NULL: daemon */
    bool log_timestamp;
    char *log_timestamp_format; /* strftime format, NULL: seconds since the epoch */
    bool connection_messages;
    uint32_t
        log_strangers_rate;   /* own: lines a second about connections that are not accepted, 0: no limit */
    char *access_log_topic;   /* own: where decisions about rights are published; NULL: nowhere */
    char *access_log_file;    /* own: the same as lines of a file */
    bool access_log_journal;  /* own: and to syslog, which is the journal's where systemd is */
    uint32_t access_log_rate; /* own: lines a second, over all clients */

    /* the process */
    bool daemon;
    bool verbose;
    bool quiet;
    char *pid_file;
    char *user; /* to become when started as root; default "mosquitto"-like: "bramble" */
    struct config_place log_file_at, access_log_file_at, pid_file_at, user_at;

    char *path;   /* the file, or NULL */
    char **files; /* every file that was read; the `file` pointers above point into it */
    size_t file_count;
};

/* What the command line said that weighs more than the file. */
struct config_args {
    const char *path; /* -c, NULL: none */
    int port;         /* -p, 0: none (at most one is kept; a further -p is an error of the command line) */
    bool daemon;      /* -d */
    bool verbose;     /* -v */
    bool quiet;       /* -q, weighs more than -v */
    bool test_config; /* -t, --test-config: load, say what is wrong, do not start */
};

/* config_args_parse: the daemon is to go on with the arguments. */
#define CONFIG_ARGS_RUN (-1)

/* Reads the command line with mosquitto's meanings. The strings stay in argv. Returns CONFIG_ARGS_RUN, or the
 * status to exit with: 0 after --help and --version (written to out), 3 after a mistake (said in one line on
 * errors). */
int config_args_parse(int argc, char **argv, struct config_args *args, FILE *out, FILE *errors);

/* Reads, checks and completes everything. warn(ctx, text) is called for what works but should be known
 * ("file:line: Warning: ..."); it may be NULL. NULL with err, "file:line: Error: reason", after the first
 * error. */
struct config *config_load(const struct config_args *args, void (*warn)(void *ctx, const char *text),
                           void *ctx, struct err *err);
/* NULL is allowed. */
void config_free(struct config *config);

/* Puts "file:line: Error: directive: " before the reason in err; without the place for what nobody said.
 * Returns -1. */
int config_blame(struct config_place at, const char *directive, struct err *err);

/* What differs between two configurations and cannot change while running ("port of the listener at
 * FILE:LINE", ...), one call of say() each. Everything else is taken over by the swap. */
void config_diff(const struct config *before, const struct config *after,
                 void (*say)(void *ctx, const char *text), void *ctx);

/* Makes `after` say of the store what `before` does, whatever its file says: there is one, or there is none,
 * until a restart. */
void config_keep_store(const struct config *before, struct config *after);

/* Whether the listeners of both are the same sockets in the same order, with the same mount points: only then
 * does a listener's number mean the same in both, and a topic of its clients, and only then may a reload swap
 * them. */
bool config_same_listeners(const struct config *before, const struct config *after);

/* Writes the configuration as a file that says the same, every option with its value. For tools. */
void config_print(const struct config *config, FILE *out);

/* Writes the table of all directives, a line each with tabs between: name, what becomes of it (option,
 * accepted, refused, bridge), scope, type, default, lowest, highest, "reload" or "restart", note. For tools
 * and the man page. */
void config_dump(FILE *out);

#endif
