/*
 * context.c - what the TLS directives of a listener become: certificates, keys and mbedTLS configurations.
 *
 * Loading is pure: files are read and checked, nothing else is touched, so it may run on any thread, for a
 * start, a reload or `--test-config` alike. What is wrong is an error with the listener's file:line; what
 * works but should be known (an expired certificate, a key that anybody may read) is a warning in the log.
 *
 * Tickets. Their keys belong to struct tls and outlive a reload, or every SIGHUP would cost each client a
 * full handshake on its next connect. A listener that requires certificates has none: after a TLS 1.3
 * resumption mbedTLS knows neither the certificate nor whether it is still good.
 */
#include "broker/log.h"
#include "tls/internal.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <mbedtls/bignum.h>
#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/platform.h>
#include <mbedtls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAMAGED "is damaged: there is a -----BEGIN without its -----END, or a zero byte"

enum { RSA_COPIES_MAX = 15, CHAIN_DEPTH = 8, CHAIN_MAX = MBEDTLS_SSL_OUT_CONTENT_LEN - 64 };

static const uint16_t groups[] = {
    MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
    MBEDTLS_SSL_IANA_TLS_GROUP_X25519,
    MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1,
    MBEDTLS_SSL_IANA_TLS_GROUP_NONE,
};

/* Where a message belongs: "file:line: directive". */
struct place {
    const struct config_listener *listener;
    const char *directive;
};

static int place_err(struct place at, struct err *err, const char *text)
{
    return err_set(err, "%s:%d: Error: %s %s",
                   at.listener->file ? err_path(at.listener->file) : "command line", at.listener->line,
                   at.directive, text);
}

static void place_warn(struct place at, const char *path, const char *text)
{
    log_write(LOG_T_WARNING, "Warning: %s:%d: %s %s: %s",
              at.listener->file ? at.listener->file : "command line", at.listener->line, at.directive, path,
              text);
}

static int place_read(struct place at, const char *path, struct tls_blob *blob, struct err *err)
{
    struct err reason;

    return tls_file_read(path, blob, &reason) ? place_err(at, err, reason.text) : 0;
}

/* "path: text", with what mbedTLS says when ret is one of its errors. */
static int place_bad(struct place at, const char *path, const char *text, int ret, struct err *err)
{
    char all[640], detail[128] = "";

    if (ret < 0)
        mbedtls_strerror(ret, detail, sizeof detail);
    snprintf(all, sizeof all, "%s: %s%s%s%s", err_path(path), text, *detail ? " (" : "", detail,
             *detail ? ")" : "");
    return place_err(at, err, all);
}

/* ---- certificates ---- */

static size_t count_of(const struct tls_blob *blob, const char *line)
{
    size_t count = 0;

    for (const char *p = (const char *)blob->data; (p = strstr(p, line)); p++)
        count++;
    return count;
}

/* mbedTLS overlooks a last part that has no end, and what stands behind a zero byte. In a file with CAs or
 * revocation lists that would go unnoticed. */
static bool is_damaged(const struct tls_blob *blob)
{
    bool pem = tls_blob_size(blob) > blob->len;

    return pem && (strlen((const char *)blob->data) < blob->len ||
                   count_of(blob, "-----BEGIN ") != count_of(blob, "-----END "));
}

static int read_certificates(struct place at, const char *path, mbedtls_x509_crt *list, struct err *err)
{
    struct tls_blob blob;
    bool key, damaged;
    int ret;

    if (place_read(at, path, &blob, err))
        return -1;
    ret = mbedtls_x509_crt_parse(list, blob.data, tls_blob_size(&blob));
    key = strstr((const char *)blob.data, "PRIVATE KEY-----") != NULL;
    damaged = is_damaged(&blob);
    tls_blob_free(&blob);
    if (damaged)
        return place_bad(at, path, DAMAGED, 0, err);
    if (ret == 0)
        return 0;
    if (ret > 0)
        return place_bad(at, path, "not all certificates in it can be read", 0, err);
    return place_bad(at, path, key ? "is a key, not a certificate" : "is no certificate that can be read",
                     ret, err);
}

static bool is_self_signed(const mbedtls_x509_crt *crt)
{
    return crt->issuer_raw.len == crt->subject_raw.len &&
           memcmp(crt->issuer_raw.p, crt->subject_raw.p, crt->subject_raw.len) == 0;
}

/* Clients have the root already: sending it only costs bytes, and room in the one record for the chain. */
static void drop_root(mbedtls_x509_crt *chain)
{
    mbedtls_x509_crt *before = chain;

    if (!chain->next)
        return;
    while (before->next->next)
        before = before->next;
    if (!is_self_signed(before->next))
        return;
    mbedtls_x509_crt_free(before->next);
    mbedtls_free(before->next);
    before->next = NULL;
}

static void warn_dates(struct place at, const char *path, const mbedtls_x509_crt *crt)
{
    if (mbedtls_x509_time_is_past(&crt->valid_to))
        place_warn(at, path, "has expired: clients will refuse it (bramble cert server makes a new one)");
    if (mbedtls_x509_time_is_future(&crt->valid_from))
        place_warn(at, path, "is not valid yet: is this machine's clock right?");
}

static int load_chain(struct tls_context *context, const struct config_listener *listener, struct err *err)
{
    struct place at = {listener, "certfile"};

    if (read_certificates(at, listener->certfile, &context->chain, err))
        return -1;
    drop_root(&context->chain);
    for (const mbedtls_x509_crt *crt = &context->chain; crt->next; crt = crt->next) {
        if (crt->issuer_raw.len != crt->next->subject_raw.len ||
            memcmp(crt->issuer_raw.p, crt->next->subject_raw.p, crt->issuer_raw.len) != 0) {
            place_warn(at, listener->certfile,
                       "its certificates are no chain: the server's comes first, then the one "
                       "that signed it, and so on");
            break;
        }
    }
    warn_dates(at, listener->certfile, &context->chain);
    return 0;
}

/* ---- the key ---- */

static int parse_key(struct place at, const char *path, const struct tls_blob *blob, mbedtls_pk_context *key,
                     struct err *err)
{
    int ret = mbedtls_pk_parse_key(key, blob->data, tls_blob_size(blob), NULL, 0, TLS_RNG);

    if (ret == 0)
        return 0;
    if (ret == MBEDTLS_ERR_PK_PASSWORD_REQUIRED || strstr((const char *)blob->data, "ENCRYPTED"))
        return place_bad(at, path,
                         "is encrypted, and a daemon has nobody to ask for the password: write it without "
                         "(openssl pkey -in OLD -out NEW, then chmod 600 NEW)",
                         0, err);
    if (strstr((const char *)blob->data, "BEGIN CERTIFICATE-----"))
        return place_bad(at, path, "is a certificate, not a key", 0, err);
    if (ret == MBEDTLS_ERR_PK_UNKNOWN_PK_ALG || ret == MBEDTLS_ERR_PK_UNKNOWN_NAMED_CURVE)
        return place_bad(at, path,
                         "is of a kind that TLS here does not support: use RSA, or an elliptic curve key on "
                         "P-256, P-384 or P-521",
                         0, err);
    return place_bad(at, path, "is no private key that can be read", ret, err);
}

/* mbedTLS locks an RSA key for as long as it is used: without copies only one worker could sign at a time. */
static int copy_rsa(struct tls_context *context, const struct tls_blob *blob)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int copies = (int)(cpus - 1 > RSA_COPIES_MAX ? RSA_COPIES_MAX : cpus - 1);

    if (mbedtls_pk_get_type(&context->key) != MBEDTLS_PK_RSA || copies < 1)
        return 0;
    context->rsa_copy = calloc((size_t)copies, sizeof *context->rsa_copy);
    if (!context->rsa_copy)
        return -1;
    while (context->rsa_copies < copies) {
        mbedtls_pk_context *copy = &context->rsa_copy[context->rsa_copies++];

        mbedtls_pk_init(copy);
        if (mbedtls_pk_parse_key(copy, blob->data, tls_blob_size(blob), NULL, 0, TLS_RNG))
            return -1;
    }
    return 0;
}

static int load_key(struct tls_context *context, const struct config_listener *listener, struct err *err)
{
    struct place at = {listener, "keyfile"};
    struct tls_blob blob;
    char text[360];
    int ret;

    if (place_read(at, listener->keyfile, &blob, err))
        return -1;
    ret = parse_key(at, listener->keyfile, &blob, &context->key, err);
    if (!ret && copy_rsa(context, &blob))
        ret = place_bad(at, listener->keyfile, "no memory", 0, err);
    if (!ret && blob.mode & (S_IROTH | S_IWOTH))
        place_warn(at, listener->keyfile, "every user of this machine may read it: chmod 600 it");
    tls_blob_free(&blob);
    if (ret)
        return -1;
    ret = mbedtls_pk_check_pair(&context->chain.pk, &context->key, TLS_RNG);
    if (ret == MBEDTLS_ERR_MPI_ALLOC_FAILED || ret == MBEDTLS_ERR_ECP_ALLOC_FAILED)
        return place_bad(at, listener->keyfile, "cannot be compared with the certificate", ret, err);
    if (ret) {
        snprintf(text, sizeof text, "does not belong to the certificate in certfile %s",
                 err_path(listener->certfile));
        return place_bad(at, listener->keyfile, text, 0, err);
    }
    return 0;
}

/* ---- what clients are checked against ---- */

/* One entry of capath. What is no certificate is left out, which lets fewer clients in, not more. */
static void load_ca(struct tls_context *context, struct place at, const char *path)
{
    struct err reason;
    struct stat st;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return;
    if (read_certificates(at, path, &context->ca, &reason))
        log_write(LOG_T_WARNING, "Warning: %s; it is left out", reason.text);
}

static int load_capath(struct tls_context *context, struct place at, const char *folder, struct err *err)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    char path[PATH_MAX];
    int error;

    if (!dir)
        return place_bad(at, folder, strerror(errno), 0, err);
    while ((errno = 0, entry = readdir(dir))) {
        if (entry->d_name[0] != '.' &&
            (size_t)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) < sizeof path)
            load_ca(context, at, path);
    }
    error = errno;
    closedir(dir);
    return error ? place_bad(at, folder, strerror(error), 0, err) : 0;
}

static int load_cas(struct tls_context *context, const struct config_listener *listener, struct err *err)
{
    struct place at = {listener, "cafile"};

    if (listener->cafile && read_certificates(at, listener->cafile, &context->ca, err))
        return -1;
    at.directive = "capath";
    if (listener->capath && load_capath(context, at, listener->capath, err))
        return -1;
    if (listener->require_certificate && !context->ca.raw.p) {
        at.directive = "require_certificate";
        return place_err(at, err,
                         listener->capath ? "true: there is no certificate in capath"
                                          : "true needs cafile (or capath): the CA that signs the clients' "
                                            "certificates");
    }
    return 0;
}

static mbedtls_x509_crt *find_issuer(mbedtls_x509_crt *list, const mbedtls_x509_crt *of)
{
    for (; list && list->raw.p; list = list->next) {
        if (list->subject_raw.len == of->issuer_raw.len &&
            memcmp(list->subject_raw.p, of->issuer_raw.p, of->issuer_raw.len) == 0)
            return list;
    }
    return NULL;
}

/* Where certfile ends before the root, what lies between is taken from cafile: OpenSSL does so, and many
 * set-ups that were made for mosquitto (the leaf in certfile, all CAs in cafile) work only because of it. */
static int complete_chain(struct tls_context *context, const struct config_listener *listener,
                          struct err *err)
{
    struct place at = {listener, "certfile"};
    mbedtls_x509_crt *last = &context->chain, *issuer;
    size_t size = 0;

    for (int depth = 0; depth < CHAIN_DEPTH; depth++) {
        while (last->next)
            last = last->next;
        issuer = is_self_signed(last) ? NULL : find_issuer(&context->ca, last);
        if (!issuer || is_self_signed(issuer))
            break;
        if (mbedtls_x509_crt_parse_der(&context->chain, issuer->raw.p, issuer->raw.len) != 0)
            return place_err(at, err, "no memory for the chain of certificates");
    }
    for (const mbedtls_x509_crt *crt = &context->chain; crt; crt = crt->next)
        size += crt->raw.len + 5;
    if (size > CHAIN_MAX)
        return place_bad(at, listener->certfile,
                         "holds more certificates than fit into one message: only the server's "
                         "certificate and those between it and the CA belong there",
                         0, err);
    return 0;
}

static int load_crl(struct tls_context *context, const struct config_listener *listener, struct err *err)
{
    struct place at = {listener, "crlfile"};
    struct tls_blob blob;
    bool damaged;
    int ret;

    if (!listener->crlfile)
        return 0;
    if (place_read(at, listener->crlfile, &blob, err))
        return -1;
    ret = mbedtls_x509_crl_parse(&context->crl, blob.data, tls_blob_size(&blob));
    damaged = is_damaged(&blob);
    tls_blob_free(&blob);
    if (damaged)
        return place_bad(at, listener->crlfile, DAMAGED, 0, err);
    if (ret)
        return place_bad(at, listener->crlfile, "is no revocation list that can be read", ret < 0 ? ret : 0,
                         err);
    for (const mbedtls_x509_crl *crl = &context->crl; crl; crl = crl->next) {
        if (mbedtls_x509_time_is_past(&crl->next_update))
            place_warn(at, listener->crlfile, "has expired: clients whose CA made it will be refused");
    }
    context->has_crl = true;
    return 0;
}

/* mbedTLS takes a certificate whose CA has no revocation list as not revoked. With a crlfile that must not
 * be: a list that is missing would let everybody in. (mosquitto and OpenSSL refuse as well.) */
static int check_crl_there(void *arg, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    const struct tls_context *context = arg;

    if (depth > 0)
        return 0;
    for (const mbedtls_x509_crl *crl = &context->crl; crl; crl = crl->next) {
        if (crl->issuer_raw.len == crt->issuer_raw.len &&
            memcmp(crl->issuer_raw.p, crt->issuer_raw.p, crt->issuer_raw.len) == 0)
            return 0;
    }
    *flags |= MBEDTLS_X509_BADCRL_NOT_TRUSTED;
    return 0;
}

/* ---- mbedTLS' configurations ---- */

static int load_options(struct tls_context *context, const struct config_listener *listener, bool *only13,
                        struct err *err)
{
    struct place at = {listener, "tls_version"};
    const char *version = listener->tls_version;
    mbedtls_pk_type_t type = mbedtls_pk_get_type(&context->key);
    struct err reason;

    *only13 = version && strcmp(version, "tlsv1.3") == 0;
    if (version && !*only13 && strcmp(version, "tlsv1.2") != 0)
        return place_bad(at, version, "write tlsv1.2 or tlsv1.3; anything older is not safe any more", 0,
                         err);
    at.directive = "TLS";
    if (tls_suites_parse(&context->suites, listener->ciphers, listener->ciphers_tls13, tls_cpu_has_aes(),
                         &reason))
        return place_err(at, err, reason.text);
    if (!*only13 && !(type == MBEDTLS_PK_RSA ? context->suites.rsa12 : context->suites.ecdsa12)) {
        at.directive = "ciphers";
        place_warn(at, listener->ciphers ? listener->ciphers : "",
                   type == MBEDTLS_PK_RSA
                       ? "none of them is for an RSA key (ECDHE-RSA-...): no client can use TLS 1.2"
                       : "none of them is for an elliptic curve key (ECDHE-ECDSA-...): no client can "
                         "use TLS 1.2");
    }
    return 0;
}

static int on_ticket_write(void *arg, const mbedtls_ssl_session *session, unsigned char *start,
                           const unsigned char *end, size_t *len, uint32_t *lifetime)
{
    struct tls_context *context = arg;

    return mbedtls_ssl_ticket_write(&context->tls->tickets, session, start, end, len, lifetime);
}

static int on_ticket_parse(void *arg, mbedtls_ssl_session *session, unsigned char *data, size_t len)
{
    struct tls_context *context = arg;

    return mbedtls_ssl_ticket_parse(&context->tls->tickets, session, data, len);
}

/* Gives each worker its own copy of an RSA key. */
static int on_certificate(mbedtls_ssl_context *ssl)
{
    const struct step *step = mbedtls_ssl_get_user_data_p(ssl);
    struct tls_context *context = step->stream->context;

    if (context->required && mbedtls_ssl_get_version_number(ssl) == MBEDTLS_SSL_VERSION_TLS1_3)
        mbedtls_ssl_set_hs_authmode(
            ssl, MBEDTLS_SSL_VERIFY_OPTIONAL); /* handshake.c is as strict: step_verify() */
    if (step->worker == 0 || context->rsa_copies == 0)
        return 0;
    return mbedtls_ssl_set_hs_own_cert(ssl, &context->chain,
                                       &context->rsa_copy[(step->worker - 1) % context->rsa_copies]);
}

static int make_conf(struct tls_context *context, int which, bool required, bool only13)
{
    mbedtls_ssl_config *conf = &context->conf[which];
    int ret = mbedtls_ssl_config_defaults(conf, MBEDTLS_SSL_IS_SERVER, MBEDTLS_SSL_TRANSPORT_STREAM,
                                          MBEDTLS_SSL_PRESET_DEFAULT);

    if (ret)
        return ret;
    mbedtls_ssl_conf_rng(conf, TLS_RNG);
    mbedtls_ssl_conf_min_tls_version(conf, only13 ? MBEDTLS_SSL_VERSION_TLS1_3 : MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_max_tls_version(conf, MBEDTLS_SSL_VERSION_TLS1_3);
    mbedtls_ssl_conf_ciphersuites(conf, which & CONF_CHACHA ? context->suites.chacha : context->suites.all);
    mbedtls_ssl_conf_groups(conf, groups);
    mbedtls_ssl_conf_tls13_key_exchange_modes(conf, MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL_ALL);
#ifdef MBEDTLS_SSL_RENEGOTIATION
    mbedtls_ssl_conf_renegotiation(conf, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
#endif
    mbedtls_ssl_conf_authmode(conf, required ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_NONE);
    if (required)
        mbedtls_ssl_conf_ca_chain(conf, &context->ca, context->has_crl ? &context->crl : NULL);
    if (required && context->has_crl)
        mbedtls_ssl_conf_verify(conf, check_crl_there, context);
    if (context->tickets)
        mbedtls_ssl_conf_session_tickets_cb(conf, on_ticket_write, on_ticket_parse, context);
    else
        mbedtls_ssl_conf_session_tickets(conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
    if (context->rsa_copies || required)
        mbedtls_ssl_conf_cert_cb(conf, on_certificate);
    if (which & CONF_ALPN)
        ret = mbedtls_ssl_conf_alpn_protocols(conf, context->protocols);
    return ret ? ret : mbedtls_ssl_conf_own_cert(conf, &context->chain, &context->key);
}

static int make_confs(struct tls_context *context, const struct config_listener *listener, struct err *err)
{
    struct place at = {listener, "TLS"};
    bool only13;

    if (load_options(context, listener, &only13, err))
        return -1;
    for (size_t i = 0; tls_protocols[i]; i++)
        context->protocols[i] = tls_protocols[i];
    context->tickets = !listener->require_certificate;
    for (int i = 0; i < CONF_COUNT; i++) {
        int ret = make_conf(context, i, listener->require_certificate, only13);

        if (ret)
            return place_bad(at, "configuration", "is refused by mbedTLS", ret, err);
    }
    return 0;
}

const mbedtls_ssl_config *tls_context_conf(const struct tls_context *context, struct hello hello)
{
    int which = hello.alpn ? CONF_ALPN : 0;

    if (hello.chacha && context->suites.prefer_chacha)
        which |= CONF_CHACHA;
    return &context->conf[which];
}

/* ---- */

struct tls_context *tls_context_load(const struct config_listener *listener, struct err *err)
{
    struct tls_context *context;
    struct place at = {listener, "TLS"};

    if (tls_library_start(err))
        return NULL;
    if (!listener->certfile || !listener->keyfile) {
        place_err(at, err, "needs both certfile and keyfile");
        return NULL;
    }
    context = calloc(1, sizeof *context);
    if (!context) {
        err_set(err, "Error: no memory");
        return NULL;
    }
    context->refs = 1;
    context->required = listener->require_certificate;
    mbedtls_x509_crt_init(&context->chain);
    mbedtls_pk_init(&context->key);
    mbedtls_x509_crt_init(&context->ca);
    mbedtls_x509_crl_init(&context->crl);
    for (int i = 0; i < CONF_COUNT; i++)
        mbedtls_ssl_config_init(&context->conf[i]);
    if (load_chain(context, listener, err) || load_key(context, listener, err) ||
        load_cas(context, listener, err) || complete_chain(context, listener, err) ||
        load_crl(context, listener, err) || make_confs(context, listener, err)) {
        tls_context_unref(context);
        return NULL;
    }
    return context;
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
    context->refs++;
    return context;
}

void tls_context_unref(struct tls_context *context)
{
    if (!context || --context->refs > 0)
        return;
    for (int i = 0; i < CONF_COUNT; i++)
        mbedtls_ssl_config_free(&context->conf[i]);
    for (int i = 0; i < context->rsa_copies; i++)
        mbedtls_pk_free(&context->rsa_copy[i]);
    free(context->rsa_copy);
    mbedtls_x509_crl_free(&context->crl);
    mbedtls_x509_crt_free(&context->ca);
    mbedtls_pk_free(&context->key);
    mbedtls_x509_crt_free(&context->chain);
    free(context);
}
