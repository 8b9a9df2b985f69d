/*
 * test_context.c - what becomes of a listener's TLS directives, above all of wrong ones: each gets a message
 * that names file, line, directive and what to do.
 */
#include "broker/log.h"
#include "test/unit/sweep.h"
#include "test/unit/tls/rig.h"
#include <sys/stat.h>

static struct err why;
static char logged[4096];

static void on_log(void *arg, enum log_type type, const char *line)
{
    (void)arg;
    if (type == LOG_T_WARNING)
        snprintf(logged + strlen(logged), sizeof logged - strlen(logged), "%s\n", line);
}

static struct tls_context *load(const struct config_listener *listener)
{
    why.text[0] = 0;
    logged[0] = 0;
    return tls_context_load(listener, &why);
}

static void expect_good(const struct config_listener *listener, const char *warning)
{
    struct tls_context *context = load(listener);

    if (!context)
        fail_msg("%s", why.text);
    if (warning ? !strstr(logged, warning) : *logged)
        fail_msg("logged: %s", logged);
    if (warning)
        assert_non_null(strstr(logged, "test.conf:7: "));
    tls_context_unref(context);
}

static void expect_bad(const struct config_listener *listener, const char *directive, const char *text)
{
    char begin[64];

    snprintf(begin, sizeof begin, "test.conf:7: Error: %s ", directive);
    assert_null(load(listener));
    if (strncmp(why.text, begin, strlen(begin)) != 0 || !strstr(why.text, text))
        fail_msg("%s", why.text);
}

static char *path(const char *name)
{
    return (char *)(uintptr_t)rig_path(name);
}

static char *text(const char *words)
{
    return (char *)(uintptr_t)words;
}

static void test_good(void **state)
{
    struct config_listener listener = rig_listener();
    struct tls_context *context;

    (void)state;
    expect_good(&listener, NULL);
    listener.cafile = path("ca.crt");
    listener.tls_version = text("tlsv1.2");
    listener.ciphers = text("HIGH:!aNULL");
    expect_good(&listener, NULL);
    context = load(&listener);
    assert_true(context->tickets);
    assert_ptr_equal(tls_context_ref(context), context);
    tls_context_unref(context);
    tls_context_unref(context);
    listener.require_certificate = true;
    context = load(&listener);
    assert_false(context->tickets);
    tls_context_unref(context);
}

static void test_files(void **state)
{
    struct config_listener listener = rig_listener();

    (void)state;
    listener.certfile = path("nowhere.crt");
    expect_bad(&listener, "certfile", "nowhere.crt: No such file");
    listener.certfile = rig_dir;
    expect_bad(&listener, "certfile", "is a folder");
    rig_write("empty", "", 0);
    listener.certfile = path("empty");
    expect_bad(&listener, "certfile", "is empty");
    rig_write("rubbish", "rubbish", 7);
    listener.certfile = path("rubbish");
    expect_bad(&listener, "certfile", "is no certificate");
    listener.certfile = path("server.key");
    expect_bad(&listener, "certfile", "is a key, not a certificate");
    assert_int_equal(rig_shell("mkfifo pipe"), 0);
    listener.certfile = path("pipe");
    expect_bad(&listener, "certfile", "not a file");
    assert_int_equal(rig_shell("head -c 5000000 /dev/zero >large"), 0);
    listener.certfile = path("large");
    expect_bad(&listener, "certfile", "too large");

    listener = rig_listener();
    listener.keyfile = path("nowhere.key");
    expect_bad(&listener, "keyfile", "No such file");
    listener.keyfile = path("rubbish");
    expect_bad(&listener, "keyfile", "is no private key");
    listener.keyfile = path("server.crt");
    expect_bad(&listener, "keyfile", "is a certificate, not a key");
    listener.keyfile = path("ca.key");
    expect_bad(&listener, "keyfile", "does not belong to the certificate");
    listener.keyfile = NULL;
    expect_bad(&listener, "TLS", "both certfile and keyfile");
}

/* Root may read everything, so the test asks as somebody else. */
static void test_unreadable(void **state)
{
    struct config_listener listener = rig_listener();

    (void)state;
    if (geteuid() == 0) {
        assert_int_equal(chmod(rig_dir, 0755), 0);
        assert_int_equal(seteuid(65534), 0);
    } else {
        assert_int_equal(chmod(rig_path("server.key"), 0), 0);
    }
    expect_bad(&listener, "keyfile", "Permission denied");
    if (getuid() == 0)
        assert_int_equal(seteuid(0), 0);
    else
        assert_int_equal(chmod(rig_path("server.key"), 0600), 0);
    expect_good(&listener, NULL);
}

static void test_keys(void **state)
{
    struct config_listener listener = rig_listener();

    (void)state;
    assert_int_equal(rig_shell("openssl pkcs8 -topk8 -in server.key -out pkcs8.key -nocrypt && "
                               "openssl pkcs8 -topk8 -in server.key -out pkcs8e.key -passout pass:x && "
                               "openssl ec -in server.key -out sec1e.key -aes128 -passout pass:x && "
                               "openssl genpkey -algorithm ed25519 -out ed.key && cp server.key open.key && "
                               "chmod 600 *.key && chmod 644 open.key && "
                               "openssl x509 -in server.crt -outform DER -out der.crt && "
                               "openssl ec -in server.key -outform DER -out der.key && chmod 600 der.key"),
                     0);
    listener.keyfile = path("pkcs8.key");
    expect_good(&listener, NULL);
    listener.keyfile = path("der.key");
    listener.certfile = path("der.crt");
    expect_good(&listener, NULL);
    listener.keyfile = path("pkcs8e.key");
    expect_bad(&listener, "keyfile", "is encrypted");
    assert_non_null(strstr(why.text, "openssl pkey"));
    listener.keyfile = path("sec1e.key");
    expect_bad(&listener, "keyfile", "is encrypted");
    listener.keyfile = path("ed.key");
    expect_bad(&listener, "keyfile", "does not support");
    listener.keyfile = path("open.key");
    expect_good(&listener, "every user");
}

static void test_dates(void **state)
{
    struct config_listener listener = rig_listener();

    (void)state;
    assert_int_equal(
        rig_shell(
            "touch index && echo 77 >serial && printf '[ca]\\ndefault_ca=x\\n[x]\\ndatabase=index\\n"
            "serial=serial\\nnew_certs_dir=.\\npolicy=p\\ndefault_md=sha256\\nunique_subject=no\\n[p]\\n"
            "commonName=supplied\\n' >ca.conf && openssl req -new -key server.key -subj /CN=x -out x.csr && "
            "openssl ca -batch -config ca.conf -cert ca.crt -keyfile ca.key -in x.csr -out old.crt -notext "
            "-startdate 20240101000000Z -enddate 20250101000000Z && openssl ca -batch -config ca.conf -cert "
            "ca.crt -keyfile ca.key -in x.csr -out new.crt -notext -startdate 20350101000000Z -enddate "
            "20360101000000Z"),
        0);
    listener.certfile = path("old.crt");
    expect_good(&listener, "has expired");
    listener.certfile = path("new.crt");
    expect_good(&listener, "not valid yet");
}

static void test_chains(void **state)
{
    struct config_listener listener = rig_listener();

    (void)state;
    assert_int_equal(
        rig_shell(
            "cat server.crt meter.crt >mixed.crt && cat server.crt ca.crt >root.crt && cp server.crt "
            "long.crt && for i in `seq 40`; do cat meter.crt >>long.crt; done && { cat server.crt; echo "
            "-----BEGIN CERTIFICATE-----; echo AAAA; echo -----END CERTIFICATE-----; } >broken.crt"),
        0);
    listener.certfile = path("root.crt");
    expect_good(&listener, NULL);
    listener.certfile = path("mixed.crt");
    expect_good(&listener, "are no chain");
    listener.certfile = path("long.crt");
    expect_bad(&listener, "certfile", "more certificates than fit");
    listener.certfile = path("broken.crt");
    expect_bad(&listener, "certfile", "not all certificates");
}

static void test_cas(void **state)
{
    struct config_listener listener = rig_listener();

    (void)state;
    listener.require_certificate = true;
    expect_bad(&listener, "require_certificate", "needs cafile");
    listener.cafile = path("nowhere.crt");
    expect_bad(&listener, "cafile", "No such file");
    listener.cafile = path("ca.crt");
    expect_good(&listener, NULL);
    listener.cafile = NULL;
    assert_int_equal(rig_shell("rm -rf cas && mkdir cas none && cp ca.crt cas/ca.pem"), 0);
    listener.capath = path("none");
    expect_bad(&listener, "require_certificate", "no certificate in capath");
    listener.capath = path("cas");
    expect_good(&listener, NULL);
    assert_int_equal(rig_shell("echo x >cas/README"), 0);
    expect_good(&listener, "/README: is no certificate");
    assert_int_equal(
        rig_shell("rm cas/README && mkdir cas/folder && mkfifo cas/pipe && ln -s nowhere cas/dangling && "
                  "truncate -s 9G cas/huge && head -c 300 ca.crt >cas/cut"),
        0);
    expect_good(&listener, "is left out");
    for (const char *const *name = (const char *const[]){"pipe", "dangling", "huge", "cut", NULL}; *name;
         name++) {
        char place[32];

        snprintf(place, sizeof place, "cas/%s: ", *name);
        assert_non_null(strstr(logged, place));
    }
    listener.capath = path("nowhere");
    expect_bad(&listener, "capath", "No such file");
    listener.capath = path("ca.crt");
    expect_bad(&listener, "capath", "Not a directory");
    listener.capath = NULL;
    listener.cafile = path("ca.crt");
    listener.crlfile = path("server.crt");
    expect_bad(&listener, "crlfile", "no revocation list");
    listener.crlfile = path("nowhere");
    expect_bad(&listener, "crlfile", "No such file");
}

/* ---- damaged files ---- */

static struct config_listener damaged; /* as it is loaded by check_damaged() */
static size_t good_ends;               /* -----END lines of the whole file */

static size_t count(const char *in, size_t n, const char *what)
{
    const char *p = in;
    size_t found = 0;

    while ((p = memmem(p, n - (size_t)(p - in), what, strlen(what)))) {
        found++;
        p += strlen(what);
    }
    return found;
}

/* Refused with the place and the reason, or nothing was begun that has no end. */
static void check_damaged(const char *bytes, size_t n, size_t at)
{
    struct tls_context *context;

    (void)at;
    rig_write("damaged", bytes, n);
    context = load(&damaged);
    if (!context) {
        assert_memory_equal(why.text, "test.conf:7: Error: ", 20);
        assert_null(strstr(why.text, "-----BEGIN EC")); /* nothing of a key */
        return;
    }
    assert_int_equal(count(bytes, n, "-----BEGIN "), count(bytes, n, "-----END "));
    assert_true(count(bytes, n, "-----END ") <= good_ends);
    tls_context_unref(context);
}

static void sweep_file(const char *name, size_t step)
{
    char text[8192];
    FILE *file = fopen(rig_path(name), "r");
    size_t n;

    assert_non_null(file);
    n = fread(text, 1, sizeof text, file);
    fclose(file);
    assert_true(n > 0 && n < sizeof text);
    good_ends = count(text, n, "-----END ");
    sweep_cuts(text, n, step, check_damaged);
    sweep_bytes(text, n, 7 * step, check_damaged);
}

static void test_damaged(void **state)
{
    (void)state;
    assert_int_equal(
        rig_shell("cat server.crt meter.crt >two.crt && cat ca.crt server.crt >two-cas.crt && "
                  "openssl ca -config ca.conf -cert ca.crt -keyfile ca.key -gencrl -crldays 30 -out a.crl "
                  "&& cat a.crl a.crl >two.crl"),
        0);
    damaged = rig_listener();
    damaged.certfile = path("damaged");
    sweep_file("two.crt", 11);
    damaged = rig_listener();
    damaged.keyfile = path("damaged");
    sweep_file("server.key", 2);
    damaged = rig_listener();
    damaged.require_certificate = true;
    damaged.cafile = path("damaged");
    sweep_file("two-cas.crt", 11);
    damaged.cafile = path("ca.crt");
    damaged.crlfile = path("damaged");
    sweep_file("two.crl", 11);
    damaged = rig_listener();
    damaged.certfile = path("damaged");
    sweep_file("der.crt", 11);
}

static void test_options(void **state)
{
    struct config_listener listener = rig_listener();

    (void)state;
    listener.tls_version = text("tlsv1.1");
    expect_bad(&listener, "tls_version", "tlsv1.2 or tlsv1.3");
    listener.tls_version = NULL;
    listener.ciphers = text("NONSENSE");
    expect_bad(&listener, "TLS", "ciphers: 'NONSENSE'");
    listener.ciphers = text("ECDHE-RSA-AES128-GCM-SHA256");
    expect_good(&listener, "elliptic curve key");
    listener.tls_version = text("tlsv1.3");
    expect_good(&listener, NULL);
    listener.ciphers_tls13 = text("TLS_NULL");
    expect_bad(&listener, "TLS", "ciphers_tls1.3: 'TLS_NULL'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good), cmocka_unit_test(test_files),   cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_keys), cmocka_unit_test(test_dates),   cmocka_unit_test(test_chains),
        cmocka_unit_test(test_cas),  cmocka_unit_test(test_options), cmocka_unit_test(test_damaged),
    };

    struct log_options options = {.dests = LOG_D_TOPIC, .types = LOG_T_ALL};
    int failed;

    log_on_topic(on_log, NULL);
    if (log_start(&options, &why))
        return 1;
    failed = cmocka_run_group_tests(tests, rig_make_dir, rig_remove_dir);
    log_stop();
    return failed;
}
