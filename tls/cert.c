/*
 * cert.c - a small certificate authority: the CA, the server's certificate, certificates for clients.
 *
 *   ca.crt  CN=bramble CA at HOST (random)   10 years    CA:TRUE, pathlen:0, keyCertSign, cRLSign
 *    +-- server.crt  CN=first name           820 days    names and addresses in subjectAltName, serverAuth
 *    +-- NAME.crt    CN=NAME                 10 years    clientAuth
 *
 * All keys are P-256, all signatures ECDSA with SHA-256. The CA's name is never the same twice: browsers mix
 * up CAs of the same name, and then refuse good certificates.
 *
 * Dates. A Pi has no clock: it may make its certificates in 1970, or clients may be a day behind. So the CA
 * is valid from a fixed date in the past. A server certificate may not (browsers count 825 days from its
 * beginning), so it begins a day before the making; if the clock is certainly wrong it is valid as long as
 * the CA instead, as nobody can say when its 825 days end.
 *
 * Keys are written before certificates, and a key that is there is kept (but for --force): a power cut leaves
 * a key without certificate at worst, never two that do not belong together, and the next run completes it.
 */
#include "tls/cert.h"
#include "broker/log.h"
#include "tls/internal.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BEGINNING \
    ((time_t)1704067200) /* 2024-01-01: certificates are valid from then when the clock cannot say */
#define WRITTEN    ((time_t)1793491200) /* 2026-11-01: any clock before that is wrong */
#define DAY        ((time_t)86400)
#define PATH_SPACE 4096

enum { PEM_SPACE = 8192, SERIAL_LEN = 16 };

enum cert_kind { CERT_CA, CERT_SERVER, CERT_CLIENT };

/* A key with its certificate: read from files (the CA), or just the key (about to get one). */
struct identity {
    mbedtls_pk_context key;
    mbedtls_x509_crt crt;
};

/* ---- files ---- */

static int path_of(char path[PATH_SPACE], const char *dir, const char *name, const char *ending,
                   struct err *err)
{
    if (snprintf(path, PATH_SPACE, "%s/%s%s", dir, name, ending) >= PATH_SPACE)
        return err_set(err, "%s: the path is too long", dir);
    return 0;
}

bool cert_exists(const char *dir, const char *name)
{
    char path[PATH_SPACE];

    return path_of(path, dir, name, "", NULL) == 0 && access(path, F_OK) == 0;
}

static int bad(struct err *err, const char *what, int ret)
{
    char text[128] = "";

    mbedtls_strerror(ret, text, sizeof text);
    return err_set(err, "%s: %s", what, text);
}

static void identity_init(struct identity *id)
{
    mbedtls_pk_init(&id->key);
    mbedtls_x509_crt_init(&id->crt);
}

static void identity_free(struct identity *id)
{
    mbedtls_pk_free(&id->key);
    mbedtls_x509_crt_free(&id->crt);
}

static int key_read(const char *path, mbedtls_pk_context *key, struct err *err)
{
    struct tls_blob blob;
    int ret;

    if (tls_file_read(path, &blob, err))
        return -1;
    ret = mbedtls_pk_parse_key(key, blob.data, tls_blob_size(&blob), NULL, 0, TLS_RNG);
    tls_blob_free(&blob);
    return ret ? bad(err, path, ret) : 0;
}

static int identity_load(struct identity *id, const char *dir, const char *name, struct err *err)
{
    char path[PATH_SPACE];
    struct tls_blob blob;
    int ret;

    if (path_of(path, dir, name, ".crt", err) || tls_file_read(path, &blob, err))
        return -1;
    ret = mbedtls_x509_crt_parse(&id->crt, blob.data, tls_blob_size(&blob));
    tls_blob_free(&blob);
    if (ret)
        return bad(err, path, ret < 0 ? ret : MBEDTLS_ERR_X509_INVALID_FORMAT);
    if (path_of(path, dir, name, ".key", err) || key_read(path, &id->key, err))
        return -1;
    if (mbedtls_pk_check_pair(&id->crt.pk, &id->key, TLS_RNG))
        return err_set(err, "%s: does not belong to %s.crt beside it", path, name);
    return 0;
}

static int key_make(mbedtls_pk_context *key, struct err *err)
{
    int ret = mbedtls_pk_setup(key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));

    if (!ret)
        ret = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*key), TLS_RNG);
    return ret ? bad(err, "making a key", ret) : 0;
}

static int key_write(const char *path, const mbedtls_pk_context *key, struct err *err)
{
    unsigned char pem[PEM_SPACE];
    int ret = mbedtls_pk_write_key_pem(key, pem, sizeof pem);

    if (ret)
        bad(err, "writing a key", ret);
    else
        ret = tls_file_write(path, pem, strlen((const char *)pem), 0600, err);
    mbedtls_platform_zeroize(pem, sizeof pem);
    return ret ? -1 : 0;
}

/* ---- what a certificate says ---- */

bool cert_clock_is_wrong(void)
{
    return time(NULL) < WRITTEN;
}

static void format_time(time_t t, char text[16])
{
    struct tm tm;

    gmtime_r(&t, &tm);
    strftime(text, 16, "%Y%m%d%H%M%S", &tm);
}

static time_t end_of(const mbedtls_x509_time *t)
{
    struct tm tm = {.tm_year = t->year - 1900,
                    .tm_mon = t->mon - 1,
                    .tm_mday = t->day,
                    .tm_hour = t->hour,
                    .tm_min = t->min,
                    .tm_sec = t->sec};

    return timegm(&tm);
}

static int set_dates(mbedtls_x509write_cert *crt, enum cert_kind kind, const mbedtls_x509_crt *ca, int days)
{
    bool wrong = cert_clock_is_wrong();
    time_t now = wrong ? WRITTEN : time(NULL);
    time_t begin = kind == CERT_SERVER && !wrong ? (now / DAY - 1) * DAY : BEGINNING;
    time_t end = now + days * DAY, ca_end = ca ? end_of(&ca->valid_to) : 0;
    char from[16], to[16];

    if (ca && ((kind == CERT_SERVER && wrong) || end > ca_end))
        end = ca_end;
    format_time(begin, from);
    format_time(end, to);
    return mbedtls_x509write_crt_set_validity(crt, from, to);
}

static int set_serial(mbedtls_x509write_cert *crt)
{
    unsigned char serial[SERIAL_LEN];
    int ret = mbedtls_psa_get_random(MBEDTLS_PSA_RANDOM_STATE, serial, sizeof serial);

    if (ret)
        return ret;
    serial[0] = (unsigned char)((serial[0] & 0x7f) | 0x40); /* positive, and of full length */
    return mbedtls_x509write_crt_set_serial_raw(crt, serial, sizeof serial);
}

static int set_usage(mbedtls_x509write_cert *crt, enum cert_kind kind)
{
    static const char *const oids[] = {
        [CERT_SERVER] = MBEDTLS_OID_SERVER_AUTH, [CERT_CLIENT] = MBEDTLS_OID_CLIENT_AUTH};
    mbedtls_asn1_sequence usage = {.buf = {.tag = MBEDTLS_ASN1_OID}};
    int ret;

    if (kind == CERT_CA) {
        ret = mbedtls_x509write_crt_set_basic_constraints(crt, 1, 0);
        return ret ? ret
                   : mbedtls_x509write_crt_set_key_usage(crt, MBEDTLS_X509_KU_KEY_CERT_SIGN |
                                                                  MBEDTLS_X509_KU_CRL_SIGN);
    }
    usage.buf.p = (unsigned char *)(uintptr_t)oids[kind];
    usage.buf.len = strlen(oids[kind]);
    ret = mbedtls_x509write_crt_set_basic_constraints(crt, 0, -1);
    if (!ret)
        ret = mbedtls_x509write_crt_set_key_usage(crt, MBEDTLS_X509_KU_DIGITAL_SIGNATURE);
    return ret ? ret : mbedtls_x509write_crt_set_ext_key_usage(crt, &usage);
}

static int set_alt_names(mbedtls_x509write_cert *crt, const struct cert_names *names)
{
    mbedtls_x509_san_list list[CERT_NAMES_MAX] = {0};
    unsigned char addresses[CERT_NAMES_MAX][16];

    for (int i = 0; i < names->count; i++) {
        mbedtls_x509_buf *value = &list[i].node.san.unstructured_name;

        list[i].next = i + 1 < names->count ? &list[i + 1] : NULL;
        list[i].node.type = MBEDTLS_X509_SAN_IP_ADDRESS;
        value->p = addresses[i];
        if (inet_pton(AF_INET, names->name[i], addresses[i]) == 1) {
            value->len = 4;
        } else if (inet_pton(AF_INET6, names->name[i], addresses[i]) == 1) {
            value->len = 16;
        } else {
            list[i].node.type = MBEDTLS_X509_SAN_DNS_NAME;
            value->p = (unsigned char *)names->name[i];
            value->len = strlen(names->name[i]);
        }
    }
    return mbedtls_x509write_crt_set_subject_alternative_name(crt, list);
}

/* What is to be made. */
struct order {
    enum cert_kind kind;
    const char *file;    /* name without ending */
    const char *subject; /* as mbedtls_x509_string_to_names() takes it */
    const struct cert_names *names;
    int days;
    struct identity *ca; /* NULL: signs itself */
    bool new_key;        /* else a key that is there is kept */
};

static int fill_in(mbedtls_x509write_cert *crt, const struct order *order, mbedtls_pk_context *key)
{
    char issuer[512];
    int ret;

    mbedtls_x509write_crt_set_version(crt, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(crt, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(crt, key);
    mbedtls_x509write_crt_set_issuer_key(crt, order->ca ? &order->ca->key : key);
    if (order->ca && (ret = mbedtls_x509_dn_gets(issuer, sizeof issuer, &order->ca->crt.subject)) < 0)
        return ret;
    if ((ret = mbedtls_x509write_crt_set_subject_name(crt, order->subject)) ||
        (ret = mbedtls_x509write_crt_set_issuer_name(crt, order->ca ? issuer : order->subject)) ||
        (ret = set_serial(crt)) ||
        (ret = set_dates(crt, order->kind, order->ca ? &order->ca->crt : NULL, order->days)) ||
        (ret = set_usage(crt, order->kind)) ||
        (ret = mbedtls_x509write_crt_set_subject_key_identifier(crt)) ||
        (ret = mbedtls_x509write_crt_set_authority_key_identifier(crt)))
        return ret;
    return order->names ? set_alt_names(crt, order->names) : 0;
}

static int cert_write(const char *dir, const struct order *order, mbedtls_pk_context *key, struct err *err)
{
    mbedtls_x509write_cert crt;
    unsigned char pem[PEM_SPACE];
    char path[PATH_SPACE];
    int ret;

    mbedtls_x509write_crt_init(&crt);
    ret = fill_in(&crt, order, key);
    if (!ret)
        ret = mbedtls_x509write_crt_pem(&crt, pem, sizeof pem, TLS_RNG);
    mbedtls_x509write_crt_free(&crt);
    if (ret)
        return bad(err, "making a certificate", ret);
    if (path_of(path, dir, order->file, ".crt", err))
        return -1;
    return tls_file_write(path, pem, strlen((const char *)pem), 0644, err);
}

/* The key that is there, or a new one, written at once. */
static int key_get(const char *dir, const struct order *order, mbedtls_pk_context *key, struct err *err)
{
    char path[PATH_SPACE];

    if (path_of(path, dir, order->file, ".key", err))
        return -1;
    if (!order->new_key && access(path, F_OK) == 0)
        return key_read(path, key, err);
    return key_make(key, err) || key_write(path, key, err) ? -1 : 0;
}

static int make(const char *dir, const struct order *order, struct err *err)
{
    mbedtls_pk_context key;
    int ret;

    if (tls_library_start(err))
        return -1;
    mbedtls_pk_init(&key);
    ret = key_get(dir, order, &key, err) || cert_write(dir, order, &key, err);
    mbedtls_pk_free(&key);
    return ret ? -1 : 0;
}

static int make_signed(const char *dir, struct order *order, struct err *err)
{
    struct identity ca;
    int ret = tls_library_start(err);

    if (ret)
        return -1;
    identity_init(&ca);
    order->ca = &ca;
    ret = identity_load(&ca, dir, "ca", err) || make(dir, order, err);
    order->ca = NULL;
    identity_free(&ca);
    return ret ? -1 : 0;
}

/* ---- the three kinds ---- */

int cert_make_ca(const char *dir, bool new_key, struct err *err)
{
    char host[256] = "", subject[128];
    unsigned char mark[4];
    struct order order = {
        .kind = CERT_CA, .file = "ca", .subject = subject, .days = CERT_DAYS_CA, .new_key = new_key};

    if (tls_library_start(err))
        return -1;
    if (gethostname(host, sizeof host - 1) || !cert_is_host_name(host))
        strcpy(host, "localhost");
    if (mbedtls_psa_get_random(MBEDTLS_PSA_RANDOM_STATE, mark, sizeof mark))
        return err_set(err, "no random numbers");
    /* a common name holds 64 characters at most */
    snprintf(subject, sizeof subject, "O=bramble,CN=bramble CA at %.32s (%02x%02x%02x%02x)", host, mark[0],
             mark[1], mark[2], mark[3]);
    return make(dir, &order, err);
}

int cert_make_server(const char *dir, const struct cert_names *names, int days, bool new_key, struct err *err)
{
    char subject[128];
    struct order order = {.kind = CERT_SERVER,
                          .file = "server",
                          .subject = subject,
                          .names = names,
                          .days = days,
                          .new_key = new_key};

    if (names->count == 0)
        return err_set(err, "a server certificate needs a name");
    if (days <= 0)
        order.days = CERT_DAYS_SERVER;
    if (order.days > CERT_DAYS_SERVER_MAX)
        return err_set(err, "browsers refuse server certificates for more than 825 days: %d days at most",
                       CERT_DAYS_SERVER_MAX);
    snprintf(subject, sizeof subject, "CN=%.64s", names->name[0]);
    return make_signed(dir, &order, err);
}

/* The name becomes a file name and a user name. */
static int check_client_name(const char *name, struct err *err)
{
    size_t len = strlen(name);

    if (len == 0 || len > 64 || *name == '.' || *name == '-' || strcmp(name, "ca") == 0 ||
        strcmp(name, "server") == 0)
        return err_set(
            err,
            "'%s' cannot be a client's name: it needs 1 to 64 characters, not '.' or '-' first, and "
            "not 'ca' or 'server'",
            name);
    for (const char *c = name; *c; c++) {
        if (!isalnum((unsigned char)*c) && !strchr("._-@", *c))
            return err_set(err, "'%s' cannot be a client's name: letters, digits and . _ - @ only", name);
    }
    return 0;
}

int cert_make_client(const char *dir, const char *name, int days, struct err *err)
{
    char subject[80];
    struct order order = {.kind = CERT_CLIENT, .file = name, .subject = subject, .days = days};

    if (check_client_name(name, err))
        return -1;
    if (days <= 0)
        order.days = CERT_DAYS_CLIENT;
    snprintf(subject, sizeof subject, "CN=%s", name);
    return make_signed(dir, &order, err);
}

/* ---- all of it ---- */

static int gather_names(struct cert_names *all, const char *const *names, struct err *err)
{
    if (!names || !*names)
        return cert_names_default(all, err);
    for (; *names; names++) {
        if (cert_names_add(all, *names, err))
            return -1;
    }
    return 0;
}

/* A certificate whose key is gone cannot be mended, and perhaps somebody trusts it: that is for people to
 * decide. */
static int check_half(const char *dir, const char *name, struct err *err)
{
    char crt[32], key[32];

    snprintf(crt, sizeof crt, "%s.crt", name);
    snprintf(key, sizeof key, "%s.key", name);
    if (cert_exists(dir, crt) && !cert_exists(dir, key))
        return err_set(
            err, "%s/%s is there, but %s is not: put it back, or make new ones (bramble cert init --force)",
            dir, crt, key);
    return 0;
}

int cert_make_missing(const char *dir, const char *const *names, int days, bool force, struct err *err)
{
    struct cert_names all = {.count = 0};
    bool ca, server;
    int ret = 0;

    if (mkdir(dir, 0755) && errno != EEXIST)
        return err_set(err, "%s: %s", dir, strerror(errno));
    if (!force && (check_half(dir, "ca", err) || check_half(dir, "server", err)))
        return -1;
    ca = force || !cert_exists(dir, "ca.crt");
    if (ca && !force && cert_exists(dir, "server.crt"))
        return err_set(
            err,
            "%s/server.crt is there, but ca.crt is not: put it back, or make new ones (bramble cert init "
            "--force)",
            dir);
    server = ca || !cert_exists(dir, "server.crt");
    if (!server)
        return 0;
    if (cert_clock_is_wrong())
        log_write(LOG_T_WARNING,
                  "Warning: the clock cannot be right, so the server's certificate gets the lifetime of "
                  "the CA; once it is set, 'bramble cert server %s' makes one that browsers like better",
                  dir);
    ret = gather_names(&all, names, err) || (ca && cert_make_ca(dir, force, err)) ||
          (server && cert_make_server(dir, &all, days, force, err));
    cert_names_free(&all);
    return ret ? -1 : 0;
}

int cert_make_all(const char *dir, const char *const *names, int days, struct err *err)
{
    return cert_make_missing(dir, names, days, false, err);
}
