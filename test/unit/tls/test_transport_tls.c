/*
 * test_transport_tls.c - TLS streams on a real loop against an mbedTLS client, or against raw bytes.
 */
#include "test/unit/tls/rig.h"

static const int versions[] = {12, 13};

#define EACH_VERSION(v)                                                         \
    for (size_t v##_i = 0; v##_i < sizeof versions / sizeof *versions; v##_i++) \
        for (int v = versions[v##_i], v##_once = 1; v##_once; v##_once = 0)

static struct client new_client(int version)
{
    return (struct client){.flip_after = -1, .version = version};
}

/* ---- the good way ---- */

static void script_hello(struct client *client)
{
    if (client_handshake(client) == 0 && client_write(client, "hello", 5))
        client_read_all(client, 5);
    mbedtls_ssl_close_notify(&client->ssl);
}

static void test_echo(void **state)
{
    struct config_listener listener = rig_listener();
    struct rig rig;

    (void)state;
    rig_new(&rig, &listener);
    rig.echo = true;
    EACH_VERSION(version)
    {
        struct client client = new_client(version);

        rig_run(&rig, &client, script_hello);
        assert_int_equal(client.handshake, 0);
        assert_int_equal(rig.ready_calls, 1);
        assert_int_equal(rig.ready, 0);
        assert_int_equal(client.got_len, 5);
        assert_memory_equal(client.got, "hello", 5);
        assert_int_equal(rig.read_result, 0);
        assert_string_equal(rig.who->tls_version, version == 12 ? "TLSv1.2" : "TLSv1.3");
        assert_null(rig.who->cert_cn);
        assert_null(rig.who->cert_subject);
        assert_string_equal(rig.who->cert_sha256, "");
        assert_string_equal(rig.who->address, "unix");
        client_free(&client);
    }
    rig_free(&rig);
}

/* The ClientHello, and everything after it, byte by byte. */
static void test_trickle(void **state)
{
    struct config_listener listener = rig_listener();
    struct rig rig;

    (void)state;
    rig_new(&rig, &listener);
    rig.echo = true;
    EACH_VERSION(version)
    {
        struct client client = new_client(version);

        client.trickle = true;
        rig_run(&rig, &client, script_hello);
        assert_int_equal(client.handshake, 0);
        assert_memory_equal(client.got, "hello", 5);
        client_free(&client);
    }
    rig_free(&rig);
}

/* Early data of the application right behind Finished must not be lost: it comes in the same segment. */
static int hold_send(void *arg, const unsigned char *data, size_t n)
{
    static __thread unsigned char held[8192];
    static __thread size_t held_len;
    struct client *client = arg;
    bool finished = mbedtls_ssl_is_handshake_over(&client->ssl);

    if (client->version == 13 && !finished && data[0] != 23)
        return client_send(arg, data, n); /* ClientHello, CCS */
    if (client->version == 12 && !finished)
        return client_send(arg, data, n);
    assert_true(held_len + n <= sizeof held);
    memcpy(held + held_len, data, n);
    held_len += n;
    if (finished) {
        send(client->fd, held, held_len, MSG_NOSIGNAL);
        held_len = 0;
    }
    return (int)n;
}

static void script_early(struct client *client)
{
    client->handshake = 1;
    client_setup(client);
    mbedtls_ssl_set_bio(&client->ssl, client, hold_send, client_recv, NULL);
    client->handshake = mbedtls_ssl_handshake(&client->ssl);
    if (client->handshake == 0 && client_write(client, "first words", 11))
        client_read_all(client, 11);
    mbedtls_ssl_close_notify(&client->ssl);
}

static void test_data_behind_finished(void **state)
{
    struct config_listener listener = rig_listener();
    struct rig rig;
    struct client client = new_client(13);

    (void)state;
    rig_new(&rig, &listener);
    rig.echo = true;
    rig.read_size = 3;
    rig_run(&rig, &client, script_early);
    assert_int_equal(client.got_len, 11);
    assert_memory_equal(client.got, "first words", 11);
    client_free(&client);
    rig_free(&rig);
}

/* ---- much data ---- */

enum { MUCH = 3 * 1000 * 1000 };

static void script_download(struct client *client)
{
    if (client_handshake(client))
        return;
    usleep(100 * 1000); /* let the server's queues fill */
    if (!client_read_all(client, MUCH))
        return;
    if (client_read(client, client->got, 1) != 0)
        client->got_len = 0; /* the orderly end, with close_notify, is part of it */
}

static void test_download(void **state)
{
    struct config_listener listener = rig_listener();
    struct rig rig;

    (void)state;
    rig_new(&rig, &listener);
    rig.send = MUCH;
    rig.close_after_send = true;
    EACH_VERSION(version)
    {
        struct client client = new_client(version);

        rig_run(&rig, &client, script_download);
        assert_int_equal(client.got_len, MUCH);
        for (size_t i = 0; i < MUCH; i++) {
            if (client.got[i] != rig_pattern(i))
                fail_msg("byte %zu is wrong", i);
        }
        client_free(&client);
    }
    rig_free(&rig);
}

static void script_upload(struct client *client)
{
    static uint8_t data[MUCH];

    for (size_t i = 0; i < MUCH; i++)
        data[i] = rig_pattern(i);
    if (client_handshake(client) == 0)
        client_write(client, data, sizeof data);
    mbedtls_ssl_close_notify(&client->ssl);
}

static void test_upload(void **state)
{
    struct config_listener listener = rig_listener();
    struct rig rig;

    (void)state;
    rig_new(&rig, &listener);
    EACH_VERSION(version)
    {
        struct client client = new_client(version);

        rig.read_size = version == 12 ? 777 : 100000;
        rig_run(&rig, &client, script_upload);
        assert_int_equal(rig.got_len, MUCH);
        for (size_t i = 0; i < MUCH; i++) {
            if (rig.got[i] != rig_pattern(i))
                fail_msg("byte %zu is wrong", i);
        }
        assert_int_equal(rig.read_result, 0);
        client_free(&client);
    }
    rig_free(&rig);
}

/* Many records of one byte in few segments: more than one read() of the owner, with nothing left for the
 * socket to tell. */
static void script_small(struct client *client)
{
    int on = 1;

    (void)on;
    if (client_handshake(client))
        return;
    for (int i = 0; i < 500; i++)
        client_write(client, "x", 1);
    client_read_all(client, 500);
}

static void test_many_small_records(void **state)
{
    struct config_listener listener = rig_listener();
    struct rig rig;
    struct client client = new_client(13);

    (void)state;
    rig_new(&rig, &listener);
    rig.echo = true;
    rig.read_size = 1;
    rig_run(&rig, &client, script_small);
    assert_int_equal(client.got_len, 500);
    client_free(&client);
    rig_free(&rig);
}

/* ---- bad clients ---- */

static void script_flip(struct client *client)
{
    if (client_handshake(client))
        return;
    client_write(client, "good", 4);
    client_write(client, "bad!", 4);
    client_read_all(client, 1);
}

static void test_flipped_bit(void **state)
{
    struct config_listener listener = rig_listener();
    struct rig rig;

    (void)state;
    rig_new(&rig, &listener);
    EACH_VERSION(version)
    {
        struct client client = new_client(version);

        client.flip_after = 1;
        rig_run(&rig, &client, script_flip);
        assert_int_equal(rig.ready, 0);
        assert_int_equal(rig.got_len, 4);
        assert_memory_equal(rig.got, "good", 4);
        assert_int_equal(rig.read_result, -EPROTO);
        assert_non_null(strstr(rig.why, "damaged"));
        assert_int_equal(client.got_len, 0);
        client_free(&client);
    }
    rig_free(&rig);
}

static const char *raw_data;
static size_t raw_len;
static char raw_answer[512];

static void script_raw(struct client *client)
{
    ssize_t n;
    size_t len = 0;

    send(client->fd, raw_data, raw_len, MSG_NOSIGNAL);
    while (len < sizeof raw_answer - 1 &&
           (n = recv(client->fd, raw_answer + len, sizeof raw_answer - 1 - len, 0)) > 0)
        len += (size_t)n;
    raw_answer[len] = 0;
}

static void run_raw(struct rig *rig, const void *data, size_t len)
{
    struct client client = new_client(0);

    raw_data = data;
    raw_len = len;
    rig_run(rig, &client, script_raw);
    assert_int_equal(rig->ready_calls, 1);
}

static void test_plain_clients(void **state)
{
    static const char connect[] = "\x10\x10\0\4MQTT\4\2\0\x3c\0\4abcd";
    static const char get[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    struct config_listener listener = rig_listener();
    struct rig rig;

    (void)state;
    rig_new(&rig, &listener);
    run_raw(&rig, connect, sizeof connect - 1);
    assert_int_equal(rig.ready, -EPROTO);
    assert_non_null(strstr(rig.why, "plain MQTT"));
    run_raw(&rig, get, sizeof get - 1);
    assert_int_equal(rig.ready, -EPROTO);
    assert_non_null(strstr(rig.why, "plain HTTP"));
    assert_memory_equal(raw_answer, "HTTP/1.1 400 ", 13);
    assert_int_equal(strlen(strstr(raw_answer, "\r\n\r\n") + 4), atoi(strstr(raw_answer, "Length: ") + 8));
    run_raw(&rig, "\x80\x2e\x01\0\2 an old one", 15);
    assert_int_equal(rig.ready, -EPROTO);
    assert_non_null(strstr(rig.why, "does not speak TLS"));
    rig_free(&rig);
}

/* A record that claims to be a ClientHello and is garbage: an alert and a reason. */
static void test_garbage_hello(void **state)
{
    struct config_listener listener = rig_listener();
    struct rig rig;
    unsigned char garbage[200] = {22, 3, 1, 0, 195, 1, 0, 0, 191, 3, 3};

    (void)state;
    memset(garbage + 11, 0xff, sizeof garbage - 11);
    rig_new(&rig, &listener);
    run_raw(&rig, garbage, sizeof garbage);
    assert_int_equal(rig.ready, -EPROTO);
    assert_true(strlen(rig.why) > 10);
    assert_int_equal(raw_answer[0], 21); /* an alert */
    rig_free(&rig);
}

static void script_silent(struct client *client)
{
    send(client->fd, raw_data, raw_len, MSG_NOSIGNAL);
    recv(client->fd, raw_answer, 1, 0);
}

static void script_leave(struct client *client)
{
    send(client->fd, raw_data, raw_len, MSG_NOSIGNAL);
}

static void test_deadline(void **state)
{
    struct config_listener listener = rig_listener();
    struct client client = new_client(0);
    struct rig rig;

    (void)state;
    rig_new(&rig, &listener);
    rig.tls->timeout_ms = 200;
    raw_data = "\x16\x03\x01\x02\x00\x01";
    raw_len = 0;
    rig_run(&rig, &client, script_silent);
    assert_int_equal(rig.ready, -ETIMEDOUT);
    assert_non_null(strstr(rig.why, "nothing"));
    raw_len = 6;
    client = new_client(0);
    rig_run(&rig, &client, script_silent);
    assert_int_equal(rig.ready, -ETIMEDOUT);
    assert_null(strstr(rig.why, "nothing"));
    assert_int_equal(rig.tls->in_flight, 0);
    rig_free(&rig);
}

/* A real ClientHello, then silence: mbedTLS is set up and waits. */
static void script_half(struct client *client)
{
    client->handshake = 1;
    client_setup(client);
    for (int i = 0; i < 3; i++)
        mbedtls_ssl_handshake_step(&client->ssl);
    while (recv(client->fd, raw_answer, sizeof raw_answer, 0) > 0)
        ;
}

static void test_stops_in_the_middle(void **state)
{
    struct config_listener listener = rig_listener();
    struct rig rig;

    (void)state;
    rig_new(&rig, &listener);
    rig.tls->timeout_ms = 200;
    EACH_VERSION(version)
    {
        struct client client = new_client(version);

        rig_run(&rig, &client, script_half);
        assert_int_equal(rig.ready, -ETIMEDOUT);
        assert_int_equal(rig.tls->in_flight, 0);
        client_free(&client);
    }
    rig_free(&rig);
}

static void test_client_leaves(void **state)
{
    struct config_listener listener = rig_listener();
    struct client client = new_client(0);
    struct rig rig;

    (void)state;
    rig_new(&rig, &listener);
    raw_len = 0;
    raw_data = "";
    rig_run(&rig, &client, script_leave);
    assert_int_equal(rig.ready, -ECONNRESET);
    assert_non_null(strstr(rig.why, "without a word"));
    rig_free(&rig);
}

static void test_close_during_step(void **state)
{
    struct config_listener listener = rig_listener();
    struct rig rig;

    (void)state;
    for (int round = 0; round < 10; round++) {
        struct client client = new_client(versions[round % 2]);

        rig_new(&rig, &listener);
        rig.close_when_stepping = true;
        rig_run(&rig, &client, script_hello);
        assert_true(rig.closed);
        assert_int_equal(rig.ready_calls, 0);
        assert_int_not_equal(client.handshake, 0);
        assert_int_equal(rig.tls->in_flight, 0);
        client_free(&client);
        rig_free(&rig); /* with the step still out, or its mail undelivered */
    }
}

static void test_queue_limit(void **state)
{
    struct config_listener listener = rig_listener();
    struct client client = new_client(0);
    struct rig rig;

    (void)state;
    rig_new(&rig, &listener);
    rig.tls->in_flight = rig.tls->queue_max;
    raw_len = 0;
    raw_data = "";
    rig_run(&rig, &client, script_leave);
    assert_int_equal(rig.ready, -EBUSY);
    assert_non_null(strstr(rig.why, "under way"));
    assert_int_equal(rig.tls->in_flight, rig.tls->queue_max);
    rig.tls->in_flight = 0;
    rig_free(&rig);
}

static void test_client_without_ca(void **state)
{
    struct config_listener listener = rig_listener();
    struct rig rig;

    (void)state;
    rig_new(&rig, &listener);
    EACH_VERSION(version)
    {
        struct client client = new_client(version);

        client.no_ca = true;
        rig_run(&rig, &client, script_hello);
        assert_int_not_equal(client.handshake, 0);
        assert_int_equal(rig.ready, -EPROTO);
        if (!strstr(rig.why, "client refused: ") || !strstr(rig.why, "CA"))
            fail_msg("%s", rig.why);
        client_free(&client);
    }
    rig_free(&rig);
}

/* ---- versions, ciphers, protocols ---- */

static void test_versions(void **state)
{
    struct config_listener listener = rig_listener();
    struct client client = new_client(12);
    struct rig rig;

    (void)state;
    static char version[] = "tlsv1.3";
    listener.tls_version = version;
    rig_new(&rig, &listener);
    rig.echo = true;
    rig_run(&rig, &client, script_hello);
    assert_int_equal(rig.ready, -EPROTO);
    assert_non_null(strstr(rig.why, "version"));
    client_free(&client);
    client = new_client(13);
    rig_run(&rig, &client, script_hello);
    assert_int_equal(rig.ready, 0);
    client_free(&client);
    rig_free(&rig);
}

static void test_no_common_cipher(void **state)
{
    static const int rsa_only[] = {MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, 0};
    struct config_listener listener = rig_listener();
    struct client client = new_client(12);
    struct rig rig;

    (void)state;
    client.ciphers = rsa_only;
    rig_new(&rig, &listener);
    rig_run(&rig, &client, script_hello);
    assert_int_equal(rig.ready, -EPROTO);
    if (!strstr(rig.why, "no cipher"))
        fail_msg("%s", rig.why);
    client_free(&client);
    rig_free(&rig);
}

/* TLS 1.3: the client prefers AES, the server wants ChaCha20. */
static void test_chacha_first(void **state)
{
    static const int aes_first[] = {MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
                                    MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256, 0};
    static const int aes_only[] = {MBEDTLS_TLS1_3_AES_256_GCM_SHA384, 0};
    struct config_listener listener = rig_listener();
    struct client client = new_client(13);
    struct rig rig;

    (void)state;
    static char suites[] = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384";
    listener.ciphers_tls13 = suites;
    rig_new(&rig, &listener);
    rig.echo = true;
    client.ciphers = aes_first;
    rig_run(&rig, &client, script_hello);
    assert_string_equal(client.suite, "TLS1-3-CHACHA20-POLY1305-SHA256");
    client_free(&client);
    client = new_client(13);
    client.ciphers = aes_only;
    rig_run(&rig, &client, script_hello);
    assert_string_equal(client.suite, "TLS1-3-AES-256-GCM-SHA384");
    client_free(&client);
    rig_free(&rig);
}

static void test_alpn(void **state)
{
    static const char *ours[] = {"h2", "mqtt", NULL}, *others[] = {"h2", "spdy/1", NULL};
    struct config_listener listener = rig_listener();
    struct rig rig;

    (void)state;
    rig_new(&rig, &listener);
    rig.echo = true;
    EACH_VERSION(version)
    {
        struct client client = new_client(version);

        client.alpn = ours;
        rig_run(&rig, &client, script_hello);
        assert_int_equal(client.got_len, 5);
        assert_non_null(client.chosen_alpn);
        assert_string_equal(client.chosen_alpn, "mqtt");
        client_free(&client);
        client = new_client(version);
        client.alpn = others;
        rig_run(&rig, &client, script_hello);
        assert_int_equal(client.got_len, 5);
        assert_null(client.chosen_alpn);
        client_free(&client);
    }
    rig_free(&rig);
}

/* ---- client certificates ---- */

static struct config_listener strict_listener(void)
{
    struct config_listener listener = rig_listener();

    listener.require_certificate = true;
    listener.cafile = (char *)(uintptr_t)rig_path("ca.crt");
    return listener;
}

static void test_client_certificate(void **state)
{
    struct config_listener listener = strict_listener();
    struct rig rig;

    (void)state;
    rig_new(&rig, &listener);
    rig.echo = true;
    EACH_VERSION(version)
    {
        struct client client = new_client(version);

        client.certificate = "meter";
        rig_run(&rig, &client, script_hello);
        assert_int_equal(client.got_len, 5);
        assert_string_equal(rig.who->cert_cn, "meter");
        assert_string_equal(rig.who->cert_subject, "CN=meter");
        assert_int_equal(strlen(rig.who->cert_sha256), 64);
        client_free(&client);

        client = new_client(version);
        rig_run(&rig, &client, script_hello);
        assert_int_equal(rig.ready, -EPROTO);
        if (!strstr(rig.why, "sent no certificate"))
            fail_msg("%s", rig.why);
        client_free(&client);
    }
    rig_free(&rig);
}

/* Certificates that must not get in: of another CA, a server's, revoked, expired, with no revocation list of
 * its CA. */
static void expect_refused(struct config_listener *listener, const char *certificate, const char *why)
{
    struct rig rig;

    rig_new(&rig, listener);
    EACH_VERSION(version)
    {
        struct client client = new_client(version);

        client.certificate = certificate;
        rig_run(&rig, &client, script_hello);
        assert_int_equal(rig.ready, -EPROTO);
        if (!strstr(rig.why, why))
            fail_msg("%s", rig.why);
        client_free(&client);
    }
    rig_free(&rig);
}

static void test_bad_client_certificates(void **state)
{
    struct config_listener listener = strict_listener();

    (void)state;
    assert_int_equal(
        rig_shell("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout self.key "
                  "-out self.crt -days 9 -subj /CN=meter"),
        0);
    assert_int_equal(
        rig_shell(
            "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout old.key -out old.csr "
            "-subj /CN=old && touch index && echo 77 >serial && printf '[ca]\\ndefault_ca=x\\n[x]\\n"
            "database=index\\nserial=serial\\nnew_certs_dir=.\\npolicy=p\\ndefault_md=sha256\\n"
            "default_crl_days=9\\n[p]\\ncommonName=supplied\\n' >ca.conf && openssl ca -batch -config "
            "ca.conf -cert ca.crt -keyfile ca.key -in old.csr -out old.crt -notext -startdate "
            "20240101000000Z -enddate 20250101000000Z"),
        0);
    expect_refused(&listener, "self", "not signed by a CA");
    expect_refused(&listener, "server", "not meant for clients");
    expect_refused(&listener, "old", "expired");
    assert_int_equal(
        rig_shell("openssl ca -config ca.conf -cert ca.crt -keyfile ca.key -revoke meter.crt && openssl ca "
                  "-config ca.conf -cert ca.crt -keyfile ca.key -gencrl -out ca.crl"),
        0);
    listener.crlfile = (char *)(uintptr_t)rig_path("ca.crl");
    expect_refused(&listener, "meter", "revoked");
    assert_int_equal(
        rig_shell("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca2.key -out "
                  "ca2.crt -days 9 -subj /CN=other && openssl ca -config ca.conf -cert ca2.crt -keyfile "
                  "ca2.key -gencrl -out ca2.crl"),
        0);
    listener.crlfile = (char *)(uintptr_t)rig_path("ca2.crl");
    expect_refused(&listener, "meter", "no trustworthy revocation list");
}

/* ---- resumption ---- */

static void script_session(struct client *client)
{
    char c;

    if (client_handshake(client))
        return;
    client_write(client, "x", 1);
    client_read(client, &c, 1);
    if (client->version == 12 && client->session) {
        mbedtls_ssl_session_free(client->session);
        mbedtls_ssl_session_init(client->session);
        client->have_session = mbedtls_ssl_get_session(&client->ssl, client->session) == 0;
    }
    mbedtls_ssl_close_notify(&client->ssl);
}

/* Returns how many certificates the client checked: none when the session was resumed. */
static int connect_again(struct rig *rig, int version, mbedtls_ssl_session *session, bool *have)
{
    struct client client = new_client(version);
    int verified;

    client.session = session;
    client.have_session = *have;
    rig_run(rig, &client, script_session);
    assert_int_equal(rig->ready, 0);
    assert_int_equal(client.handshake, 0);
    assert_int_equal(rig->got_len, 1);
    *have = client.have_session;
    verified = client.verified;
    client_free(&client);
    return verified;
}

static void test_resumption(void **state)
{
    struct config_listener listener = rig_listener();
    struct rig rig;
    struct err err;

    (void)state;
    EACH_VERSION(version)
    {
        mbedtls_ssl_session session;
        bool have = false;

        rig_new(&rig, &listener);
        rig.echo = true;
        mbedtls_ssl_session_init(&session);
        assert_true(connect_again(&rig, version, &session, &have) > 0);
        assert_true(have);
        assert_int_equal(connect_again(&rig, version, &session, &have), 0);
        /* a reload */
        tls_context_unref(rig.context);
        rig.context = tls_context_load(&listener, &err);
        assert_non_null(rig.context);
        assert_int_equal(connect_again(&rig, version, &session, &have), 0);
        rig_free(&rig);
        /* other keys: a full handshake, and no failure */
        rig_new(&rig, &listener);
        rig.echo = true;
        assert_true(connect_again(&rig, version, &session, &have) > 0);
        mbedtls_ssl_session_free(&session);
        rig_free(&rig);
    }
}

/* A ticket from a listener that asks for no certificate must not open one that requires them, nor are any
 * given there. */
static void test_no_tickets_with_certificates(void **state)
{
    struct config_listener open = rig_listener(), strict = strict_listener();
    struct rig rig;
    struct err err;

    (void)state;
    EACH_VERSION(version)
    {
        struct client client = new_client(version);
        mbedtls_ssl_session session;
        bool have = false;

        rig_new(&rig, &open);
        rig.echo = true;
        mbedtls_ssl_session_init(&session);
        assert_true(connect_again(&rig, version, &session, &have) > 0);
        assert_true(have);
        tls_context_unref(rig.context);
        rig.context = tls_context_load(&strict, &err);
        assert_non_null(rig.context);

        client.session = &session;
        client.have_session = true;
        rig_run(&rig, &client, script_session);
        assert_int_equal(rig.ready, -EPROTO);
        assert_non_null(strstr(rig.why, "no certificate"));
        client_free(&client);

        client = new_client(version);
        client.certificate = "meter";
        client.session = &session;
        client.have_session = false;
        rig_run(&rig, &client, script_session);
        assert_int_equal(rig.ready, 0);
        assert_string_equal(rig.who->cert_cn, "meter");
        if (version == 13)
            assert_false(client.have_session);
        client_free(&client);
        client = new_client(version);
        client.certificate = "meter";
        client.session = &session;
        client.have_session = version == 12;
        rig_run(&rig, &client, script_session);
        assert_int_equal(rig.ready, 0);
        assert_string_equal(rig.who->cert_cn, "meter");
        assert_true(client.verified > 0);
        client_free(&client);
        mbedtls_ssl_session_free(&session);
        rig_free(&rig);
    }
}

/* ---- the end ---- */

/* The owner closes with data still queued, and the client reads late: all of it arrives. */
static void script_late(struct client *client)
{
    if (client_handshake(client))
        return;
    usleep(300 * 1000);
    client_read_all(client, 60000);
    if (client_read(client, raw_answer, 1) != 0)
        client->got_len = 0;
}

static void test_close_flushes(void **state)
{
    struct config_listener listener = rig_listener();
    struct rig rig;
    struct client client = new_client(13);

    (void)state;
    rig_new(&rig, &listener);
    rig.send = 60000;
    rig.close_after_send = true;
    rig_run(&rig, &client, script_late);
    assert_int_equal(client.got_len, 60000);
    for (size_t i = 0; i < client.got_len; i++)
        assert_int_equal(client.got[i], rig_pattern(i));
    client_free(&client);
    rig_free(&rig);
}

/* A client that never reads holds a closed stream for a bounded time only, and tls_free() does not wait for
 * it. */
static void script_never(struct client *client)
{
    if (client_handshake(client))
        return;
    usleep(400 * 1000);
}

static void test_linger_is_bounded(void **state)
{
    struct config_listener listener = rig_listener();
    struct rig rig;
    struct client client = new_client(12);

    (void)state;
    rig_new(&rig, &listener);
    rig.send = 60000;
    rig.close_after_send = true;
    rig_run(&rig, &client, script_never);
    client_free(&client);
    rig_free(&rig);
}

/* ---- with openssl as the client ---- */

static void test_rsa_and_chain(void **state)
{
    struct config_listener listener = rig_listener();
    struct rig rig;

    (void)state;
    /* an RSA server certificate below an intermediate CA, and the root behind them, as people put it */
    assert_int_equal(
        rig_shell(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout r.key -out r.crt -days 9 -subj /CN=root && "
            "openssl req "
            "-newkey rsa:2048 -nodes -keyout i.key -out i.csr -subj /CN=middle && echo "
            "basicConstraints=CA:TRUE >i.ext "
            "&& openssl x509 -req -in i.csr -CA r.crt -CAkey r.key -CAcreateserial -extfile i.ext -out i.crt "
            "-days 9 && "
            "openssl req -newkey rsa:2048 -nodes -keyout rsa.key -out s.csr -subj /CN=localhost && echo "
            "subjectAltName=DNS:localhost >s.ext && openssl x509 -req -in s.csr -CA i.crt -CAkey i.key "
            "-CAcreateserial "
            "-extfile s.ext -out s.crt -days 9 && cat s.crt i.crt r.crt >rsa.crt && mv ca.crt ca.keep && cp "
            "r.crt ca.crt"),
        0);
    listener.certfile = (char *)(uintptr_t)rig_path("rsa.crt");
    listener.keyfile = (char *)(uintptr_t)rig_path("rsa.key");
    rig_new(&rig, &listener);
    assert_null(rig.context->chain.next->next); /* the root is not sent */
    rig.echo = true;
    EACH_VERSION(version)
    {
        struct client client = new_client(version);

        rig_run(&rig, &client, script_hello);
        assert_int_equal(client.handshake, 0);
        assert_int_equal(client.got_len, 5);
        client_free(&client);
    }
    rig_free(&rig);
    assert_int_equal(rig_shell("mv ca.keep ca.crt"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_trickle),
        cmocka_unit_test(test_data_behind_finished),
        cmocka_unit_test(test_download),
        cmocka_unit_test(test_upload),
        cmocka_unit_test(test_many_small_records),
        cmocka_unit_test(test_flipped_bit),
        cmocka_unit_test(test_plain_clients),
        cmocka_unit_test(test_garbage_hello),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_stops_in_the_middle),
        cmocka_unit_test(test_client_leaves),
        cmocka_unit_test(test_close_during_step),
        cmocka_unit_test(test_queue_limit),
        cmocka_unit_test(test_client_without_ca),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_no_common_cipher),
        cmocka_unit_test(test_chacha_first),
        cmocka_unit_test(test_alpn),
        cmocka_unit_test(test_client_certificate),
        cmocka_unit_test(test_bad_client_certificates),
        cmocka_unit_test(test_resumption),
        cmocka_unit_test(test_no_tickets_with_certificates),
        cmocka_unit_test(test_close_flushes),
        cmocka_unit_test(test_linger_is_bounded),
        cmocka_unit_test(test_rsa_and_chain),
    };

    return cmocka_run_group_tests(tests, rig_make_dir, rig_remove_dir);
}
