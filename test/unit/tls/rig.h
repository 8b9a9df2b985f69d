/*
 * rig.h - what the tests of tls/ share: a folder with certificates, a server stream on a real loop, and a
 * client.
 *
 *    test (loop thread):   owner <-> tls_accept() <-> transport_tcp
 *                                                           |  socketpair
 *    client thread:                              mbedTLS, or raw bytes
 *
 * The client is a function on a thread of its own that may block; when it returns, and the owner has closed,
 * the loop ends.
 */
#ifndef TEST_UNIT_TLS_RIG_H
#define TEST_UNIT_TLS_RIG_H

#include "broker/principal.h"
#include "broker/transport_tcp.h"
#include "tls/cert.h"
#include "tls/internal.h"
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a folder of certificates ---- */

static char rig_dir[64];

/* A file in the folder. The text stays valid. */
static inline const char *rig_path(const char *name)
{
    static char paths[64][160];
    static int count;
    char path[160];

    snprintf(path, sizeof path, "%s/%s", rig_dir, name);
    for (int i = 0; i < count; i++) {
        if (strcmp(paths[i], path) == 0)
            return paths[i];
    }
    assert_true(count < 64);
    return strcpy(paths[count++], path);
}

static inline int rig_make_dir(void **state)
{
    static const char *const names[] = {"localhost", "127.0.0.1", NULL};
    struct err err = {""};

    (void)state;
    snprintf(rig_dir, sizeof rig_dir, "/tmp/bramble-tls-XXXXXX");
    assert_non_null(mkdtemp(rig_dir));
    if (cert_make_all(rig_dir, names, 0, &err) || cert_make_client(rig_dir, "meter", 0, &err))
        fail_msg("%s", err.text);
    return 0;
}

static inline int rig_remove_dir(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", rig_dir);
    return system(command);
}

/* Runs a shell command in the folder. */
static inline int rig_shell(const char *command)
{
    char all[2048];

    snprintf(all, sizeof all, "cd '%s' && { %s ; } >log 2>&1", rig_dir, command);
    return system(all);
}

static inline void rig_write(const char *name, const void *data, size_t len)
{
    FILE *file = fopen(rig_path(name), "w");

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    fclose(file);
}

static inline struct config_listener rig_listener(void)
{
    return (struct config_listener){.file = "test.conf",
                                    .line = 7,
                                    .port = 8883,
                                    .tls = true,
                                    .certfile = (char *)(uintptr_t)rig_path("server.crt"),
                                    .keyfile = (char *)(uintptr_t)rig_path("server.key")};
}

/* ---- the server's side ---- */

enum { RIG_SECONDS = 30 };

struct rig {
    struct loop *loop;
    struct tls *tls;
    struct tls_context *context;
    struct transport *stream; /* NULL when closed */
    int client_fd;
    struct timer guard;
    bool client_done, stuck;

    /* what the owner does */
    bool echo;   /* gives back what it reads */
    size_t send; /* bytes of rig_pattern() to send, then it closes with close_after_send */
    bool close_after_send;
    bool close_at_end;        /* closes at the end or an error; default */
    bool close_when_stepping; /* closes while a worker has the stream */
    size_t read_size;         /* of one read(); default 1000 */

    /* what it saw */
    int ready_calls, ready;
    char why[512];
    struct principal *who;
    uint8_t *got;
    size_t got_len, got_cap, sent;
    int read_result; /* 0: the end; an error */
    bool closed;
};

static inline uint8_t rig_pattern(size_t i)
{
    return (uint8_t)(i * 2654435761u >> 13);
}

static inline void rig_check_done(struct rig *rig)
{
    if (rig->client_done && rig->closed)
        loop_stop(rig->loop);
}

static inline void rig_close(struct rig *rig)
{
    const char *why;

    if (rig->closed)
        return;
    why = rig->stream->ops->why(rig->stream);
    snprintf(rig->why, sizeof rig->why, "%s", why ? why : "");
    rig->stream->ops->close(rig->stream);
    rig->stream = NULL;
    rig->closed = true;
    rig_check_done(rig);
}

static inline void rig_writable(void *owner)
{
    struct rig *rig = owner;
    uint8_t data[3][700];
    size_t goal = rig->echo ? rig->got_len : rig->send;

    while (rig->sent < goal) {
        struct iovec iov[3];
        size_t off = rig->sent, n = 0;
        ssize_t taken;

        for (int i = 0; i < 3; i++) {
            size_t part = i == 1 ? 9 : sizeof data[0];

            part = part < goal - off - n ? part : goal - off - n;
            for (size_t k = 0; k < part; k++)
                data[i][k] = rig->echo ? rig->got[off + n + k] : rig_pattern(off + n + k);
            iov[i] = (struct iovec){data[i], part};
            n += part;
        }
        taken = rig->stream->ops->writev(rig->stream, iov, 3);
        if (taken == -EAGAIN) {
            rig->stream->ops->want_write(rig->stream, true);
            return;
        }
        if (taken < 0) {
            rig->read_result = (int)taken;
            rig_close(rig);
            return;
        }
        rig->sent += (size_t)taken;
    }
    if (rig->close_after_send && rig->sent == rig->send && !rig->echo)
        rig_close(rig);
}

static inline void rig_readable(void *owner)
{
    struct rig *rig = owner;
    size_t size = rig->read_size ? rig->read_size : 1000;
    ssize_t n;

    if (rig->got_len + size > rig->got_cap) {
        rig->got_cap = (rig->got_len + size) * 2;
        rig->got = realloc(rig->got, rig->got_cap);
        assert_non_null(rig->got);
    }
    /* one read only: what is left must be announced again */
    n = rig->stream->ops->read(rig->stream, rig->got + rig->got_len, size);
    if (n == -EAGAIN)
        return;
    if (n > 0) {
        rig->got_len += (size_t)n;
        if (rig->echo)
            rig_writable(rig);
        return;
    }
    rig->read_result = (int)n;
    rig_close(rig);
}

static inline void rig_ready(void *owner, int error)
{
    struct rig *rig = owner;

    rig->ready_calls++;
    rig->ready = error;
    if (error) {
        rig_close(rig);
        return;
    }
    rig->stream->ops->peer(rig->stream, rig->who);
    rig->stream->ops->want_read(rig->stream, true);
    if (rig->send)
        rig_writable(rig);
}

static const struct transport_events rig_events = {rig_ready, rig_readable, rig_writable};

static inline void rig_on_guard(void *arg)
{
    struct rig *rig = arg;

    rig->stuck = true;
    loop_stop(rig->loop);
}

static inline void rig_before_sleep(void *arg)
{
    struct rig *rig = arg;

    if (rig->close_when_stepping && rig->stream && ((struct stream *)rig->stream)->stepping)
        rig_close(rig);
}

static inline void rig_new(struct rig *rig, struct config_listener *listener)
{
    struct err err = {""};

    *rig = (struct rig){.client_fd = -1};
    rig->loop = loop_new();
    assert_non_null(rig->loop);
    rig->tls = tls_new(rig->loop, 1, 10, 5000, &err);
    if (!rig->tls)
        fail_msg("%s", err.text);
    rig->context = tls_context_load(listener, &err);
    if (!rig->context)
        fail_msg("%s", err.text);
    timer_setup(&rig->guard, rig_on_guard, rig);
    loop_before_sleep(rig->loop, rig_before_sleep, rig);
}

static inline void rig_reset(struct rig *rig)
{
    principal_unref(rig->who);
    free(rig->got);
    rig->who = NULL;
    rig->got = NULL;
    rig->got_len = rig->got_cap = rig->sent = 0;
    rig->closed = rig->client_done = false;
    rig->ready_calls = rig->ready = rig->read_result = 0;
    rig->why[0] = 0;
}

static inline void rig_free(struct rig *rig)
{
    rig_reset(rig);
    tls_context_unref(rig->context);
    tls_free(rig->tls);
    loop_free(rig->loop);
    assert_int_equal(tls_mem_slots_used(), 0);
}

/* ---- the client's side, on a thread ---- */

struct client {
    struct mail mail;
    struct rig *rig;
    void (*script)(struct client *client);
    int fd;
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config conf;
    mbedtls_x509_crt ca, crt;
    mbedtls_pk_context key;
    mbedtls_ssl_session *session; /* to resume, and where the new one is kept */
    bool have_session;
    int verified;   /* certificates of the server that were looked at: 0 when resumed */
    int handshake;  /* result */
    int flip_after; /* flips a bit of a record this many sends after the handshake; -1: never */
    bool trickle;   /* sends one byte at a time */
    /* settings */
    int version;             /* 12, 13, 0: any */
    const char *certificate; /* client certificate without ending, or NULL */
    const char **alpn;
    const int *ciphers;
    bool no_ca;
    /* what it got */
    uint8_t *got;
    size_t got_len;
    const char *chosen_alpn;
    const char *suite;
};

static inline int client_send(void *arg, const unsigned char *data, size_t n)
{
    struct client *client = arg;
    unsigned char copy[20000];
    ssize_t sent;

    assert_true(n <= sizeof copy);
    memcpy(copy, data, n);
    if (client->flip_after >= 0 && client->handshake == 0 && client->flip_after-- == 0)
        copy[n - 3] ^= 0x10;
    sent = send(client->fd, copy, client->trickle ? 1 : n, MSG_NOSIGNAL);
    return sent < 0 ? MBEDTLS_ERR_SSL_CONN_EOF : (int)sent;
}

static inline int client_recv(void *arg, unsigned char *data, size_t n)
{
    struct client *client = arg;
    ssize_t got = recv(client->fd, data, n, 0);

    return got < 0 ? MBEDTLS_ERR_SSL_CONN_EOF : (int)got;
}

static inline int client_verify(void *arg, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    struct client *client = arg;

    (void)crt;
    (void)depth;
    (void)flags;
    client->verified++;
    return 0;
}

static inline void client_setup(struct client *client)
{
    mbedtls_ssl_init(&client->ssl);
    mbedtls_ssl_config_init(&client->conf);
    mbedtls_x509_crt_init(&client->ca);
    mbedtls_x509_crt_init(&client->crt);
    mbedtls_pk_init(&client->key);
    assert_int_equal(mbedtls_ssl_config_defaults(&client->conf, MBEDTLS_SSL_IS_CLIENT,
                                                 MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT),
                     0);
    mbedtls_ssl_conf_rng(&client->conf, TLS_RNG);
    if (!client->no_ca)
        assert_int_equal(mbedtls_x509_crt_parse_file(&client->ca, rig_path("ca.crt")), 0);
    mbedtls_ssl_conf_ca_chain(&client->conf, &client->ca, NULL);
    mbedtls_ssl_conf_verify(&client->conf, client_verify, client);
    if (client->certificate) {
        char name[64];

        snprintf(name, sizeof name, "%s.crt", client->certificate);
        assert_int_equal(mbedtls_x509_crt_parse_file(&client->crt, rig_path(name)), 0);
        snprintf(name, sizeof name, "%s.key", client->certificate);
        assert_int_equal(mbedtls_pk_parse_keyfile(&client->key, rig_path(name), NULL, TLS_RNG), 0);
        assert_int_equal(mbedtls_ssl_conf_own_cert(&client->conf, &client->crt, &client->key), 0);
    }
    if (client->version) {
        mbedtls_ssl_protocol_version v =
            client->version == 12 ? MBEDTLS_SSL_VERSION_TLS1_2 : MBEDTLS_SSL_VERSION_TLS1_3;

        mbedtls_ssl_conf_min_tls_version(&client->conf, v);
        mbedtls_ssl_conf_max_tls_version(&client->conf, v);
    }
    if (client->alpn)
        assert_int_equal(mbedtls_ssl_conf_alpn_protocols(&client->conf, client->alpn), 0);
    if (client->ciphers)
        mbedtls_ssl_conf_ciphersuites(&client->conf, client->ciphers);
#ifdef MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED
    mbedtls_ssl_conf_tls13_enable_signal_new_session_tickets(&client->conf, 1);
#endif
    assert_int_equal(mbedtls_ssl_setup(&client->ssl, &client->conf), 0);
    assert_int_equal(mbedtls_ssl_set_hostname(&client->ssl, "localhost"), 0);
    if (client->have_session)
        assert_int_equal(mbedtls_ssl_set_session(&client->ssl, client->session), 0);
    mbedtls_ssl_set_bio(&client->ssl, client, client_send, client_recv, NULL);
}

static inline int client_handshake(struct client *client)
{
    client->handshake = 1;
    client_setup(client);
    do {
        client->handshake = mbedtls_ssl_handshake(&client->ssl);
    } while (client->handshake == MBEDTLS_ERR_SSL_WANT_READ);
    client->chosen_alpn = mbedtls_ssl_get_alpn_protocol(&client->ssl);
    client->suite = mbedtls_ssl_get_ciphersuite(&client->ssl);
    return client->handshake;
}

static inline bool client_write(struct client *client, const void *data, size_t n)
{
    const uint8_t *at = data;

    while (n > 0) {
        int ret = mbedtls_ssl_write(&client->ssl, at, n);

        if (ret <= 0)
            return false;
        at += ret;
        n -= (size_t)ret;
    }
    return true;
}

/* Up to n bytes; 0 at the end, or an mbedTLS error. */
static inline int client_read(struct client *client, void *data, size_t n)
{
    for (;;) {
        int ret = mbedtls_ssl_read(&client->ssl, data, n);

        if (ret == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET && client->session) {
            mbedtls_ssl_session_free(client->session);
            mbedtls_ssl_session_init(client->session);
            if (mbedtls_ssl_get_session(&client->ssl, client->session) == 0)
                client->have_session = true;
        }
        if (ret == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
            return 0;
        if (ret != MBEDTLS_ERR_SSL_WANT_READ && ret != MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)
            return ret;
    }
}

static inline bool client_read_all(struct client *client, size_t n)
{
    client->got = malloc(n ? n : 1);
    while (client->got_len < n) {
        int ret = client_read(client, client->got + client->got_len, n - client->got_len);

        if (ret <= 0)
            return false;
        client->got_len += (size_t)ret;
    }
    return true;
}

static inline void client_done(struct mail *mail)
{
    struct client *client = (struct client *)mail;

    client->rig->client_done = true;
    rig_check_done(client->rig);
}

static inline void *client_main(void *arg)
{
    struct client *client = arg;

    client->script(client);
    shutdown(client->fd, SHUT_RDWR);
    mailbox_post(loop_mailbox(client->rig->loop), &client->mail);
    return NULL;
}

static inline void client_free(struct client *client)
{
    mbedtls_ssl_free(&client->ssl);
    mbedtls_ssl_config_free(&client->conf);
    mbedtls_x509_crt_free(&client->ca);
    mbedtls_x509_crt_free(&client->crt);
    mbedtls_pk_free(&client->key);
    free(client->got);
}

/* One connection from beginning to end. Then look at rig and client; client_free() when it was a TLS client.
 */
static inline void rig_run(struct rig *rig, struct client *client, void (*script)(struct client *client))
{
    struct sockaddr address = {.sa_family = AF_UNIX};
    pthread_t thread;
    int fd[2], size = 8192;

    rig_reset(rig);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    rig->who = principal_new();
    rig->stream = tls_accept(rig->tls, rig->context, transport_tcp_new(rig->loop, fd[0], &address, false));
    assert_non_null(rig->stream);
    rig->stream->events = &rig_events;
    rig->stream->owner = rig;
    client->rig = rig;
    client->script = script;
    client->fd = fd[1];
    client->mail.fn = client_done;
    rig->stream->ops->start(rig->stream);
    timer_start(rig->loop, &rig->guard, RIG_SECONDS * 1000);
    assert_int_equal(pthread_create(&thread, NULL, client_main, client), 0);
    loop_run(rig->loop);
    timer_stop(rig->loop, &rig->guard);
    if (rig->stuck)
        shutdown(client->fd, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(client->fd);
    if (rig->stuck)
        fail_msg("nothing has happened for %d s (ready %d x %d, %s)", RIG_SECONDS, rig->ready_calls,
                 rig->ready, rig->why);
}

#endif
