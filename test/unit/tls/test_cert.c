/*
 * test_cert.c - `bramble cert`: the certificates as OpenSSL sees them, and what must not be overwritten.
 */
#include "test/unit/tls/rig.h"
#include <sys/stat.h>

static struct err why;

static char *output(void)
{
    static char text[20000];
    FILE *file = fopen(rig_path("log"), "r");
    size_t n;

    assert_non_null(file);
    n = fread(text, 1, sizeof text - 1, file);
    text[n] = 0;
    fclose(file);
    return text;
}

static void expect_output(const char *command, const char *text)
{
    int status = rig_shell(command);

    if (status || !strstr(output(), text))
        fail_msg("%s: %d: %s", command, status, output());
}

static unsigned mode_of(const char *name)
{
    struct stat st;

    assert_int_equal(stat(rig_path(name), &st), 0);
    return st.st_mode & 07777;
}

static char *content_of(const char *name)
{
    struct tls_blob blob;
    char *copy;

    assert_int_equal(tls_file_read(rig_path(name), &blob, &why), 0);
    copy = strdup((const char *)blob.data);
    tls_blob_free(&blob);
    return copy;
}

/* Runs the tool with its standard output and error in `log`. */
static int tool(const char *a, const char *b, const char *c, const char *d, const char *e)
{
    const char *args[] = {"cert", a, b, c, d, e};
    int argc = 1, out = dup(1), err = dup(2), status;

    while (argc < 6 && args[argc])
        argc++;
    fflush(stdout);
    assert_non_null(freopen(rig_path("log"), "w", stdout));
    dup2(1, 2);
    status = cert_tool(argc, (char **)(uintptr_t)args);
    fflush(stdout);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    return status;
}

static void test_server(void **state)
{
    (void)state;
    expect_output(
        "openssl verify -x509_strict -purpose sslserver -verify_hostname localhost -CAfile ca.crt server.crt",
        ": OK");
    expect_output(
        "openssl verify -x509_strict -purpose sslserver -verify_ip 127.0.0.1 -CAfile ca.crt server.crt",
        ": OK");
    assert_int_not_equal(rig_shell("openssl verify -verify_hostname other -CAfile ca.crt server.crt"), 0);
    assert_int_not_equal(rig_shell("openssl verify -purpose sslclient -CAfile ca.crt server.crt"), 0);
    expect_output("openssl x509 -in server.crt -noout -text", "Digital Signature");
    assert_non_null(strstr(output(), "TLS Web Server Authentication"));
    assert_non_null(strstr(output(), "ecdsa-with-SHA256"));
    assert_non_null(strstr(output(), "NIST CURVE: P-256"));
    assert_non_null(strstr(output(), "DNS:localhost"));
    assert_non_null(strstr(output(), "IP Address:127.0.0.1"));
    assert_null(strstr(output(), "IP Address:0"));
    assert_non_null(strstr(output(), "Authority Key Identifier"));
    assert_int_equal(mode_of("server.key"), 0600);
    assert_int_equal(mode_of("ca.key"), 0600);
    assert_int_equal(mode_of("server.crt"), 0644);
}

static void test_ca(void **state)
{
    (void)state;
    expect_output("openssl x509 -in ca.crt -noout -text", "CA:TRUE, pathlen:0");
    assert_non_null(strstr(output(), "Basic Constraints: critical"));
    assert_non_null(strstr(output(), "Certificate Sign, CRL Sign"));
    assert_non_null(strstr(output(), "Not Before: Jan  1 00:00:00 2024"));
    expect_output("openssl x509 -in ca.crt -noout -subject -nameopt RFC2253", "CN=bramble CA at ");
}

/* Browsers: 825 days from the first to the last; and it is valid now, here and for a client whose clock is a
 * day behind. */
static void test_dates(void **state)
{
    mbedtls_x509_crt crt;

    (void)state;
    mbedtls_x509_crt_init(&crt);
    assert_int_equal(mbedtls_x509_crt_parse_file(&crt, rig_path("server.crt")), 0);
    assert_int_equal(
        rig_shell(
            "test $(( ($(date -d \"$(openssl x509 -in server.crt -noout -enddate | cut -d= -f2)\" +%s) - "
            "$(date -d \"$(openssl x509 -in server.crt -noout -startdate | cut -d= -f2)\" +%s)) / 86400 )) "
            "-le 825"),
        0);
    assert_int_equal(rig_shell("openssl verify -attime $(( $(date +%s) - 86400 )) -CAfile ca.crt server.crt"),
                     0);
    assert_int_equal(
        rig_shell("openssl verify -attime $(( $(date +%s) + 800*86400 )) -CAfile ca.crt server.crt"), 0);
    assert_int_not_equal(
        rig_shell("openssl verify -attime $(( $(date +%s) + 830*86400 )) -CAfile ca.crt server.crt"), 0);
    mbedtls_x509_crt_free(&crt);
    assert_int_equal(tool("server", rig_dir, "--days", "824", NULL), EXIT_FAILURE);
    assert_non_null(strstr(output(), "825"));
}

static void test_client(void **state)
{
    (void)state;
    expect_output("openssl verify -x509_strict -purpose sslclient -CAfile ca.crt meter.crt", ": OK");
    assert_int_not_equal(rig_shell("openssl verify -purpose sslserver -CAfile ca.crt meter.crt"), 0);
    expect_output("openssl x509 -in meter.crt -noout -subject -nameopt RFC2253", "subject=CN=meter\n");
    assert_int_equal(mode_of("meter.key"), 0600);
    assert_int_equal(cert_make_client(rig_dir, "../evil", 0, &why), -1);
    assert_int_equal(cert_make_client(rig_dir, "", 0, &why), -1);
    assert_int_equal(cert_make_client(rig_dir, "ca", 0, &why), -1);
    assert_int_equal(cert_make_client(rig_dir, ".hidden", 0, &why), -1);
    assert_int_equal(cert_make_client(rig_dir, "a,CN=b", 0, &why), -1);
    assert_int_equal(cert_make_client(rig_dir, "sensor_1.attic@home", 5, &why), 0);
    expect_output("openssl x509 -in sensor_1.attic@home.crt -noout -subject -nameopt RFC2253",
                  "CN=sensor_1.attic@home");
    assert_int_not_equal(
        rig_shell("openssl verify -attime $(( $(date +%s) + 6*86400 )) -CAfile ca.crt sensor*.crt"), 0);
}

static void test_names(void **state)
{
    struct cert_names names = {.count = 0};
    bool local = false;

    (void)state;
    assert_int_equal(cert_names_add(&names, "broker.home.example", &why), 0);
    assert_int_equal(cert_names_add(&names, "BROKER.home.example", &why), 0);
    assert_int_equal(cert_names_add(&names, "*.home.example", &why), 0);
    assert_int_equal(cert_names_add(&names, "192.0.2.7", &why), 0);
    assert_int_equal(cert_names_add(&names, "2001:db8::1", &why), 0);
    assert_int_equal(names.count, 4);
    assert_int_equal(cert_names_add(&names, "a b", &why), -1);
    assert_int_equal(cert_names_add(&names, "", &why), -1);
    assert_int_equal(cert_names_add(&names, "x..y", &why), -1);
    assert_int_equal(cert_names_add(&names, "a*b.c", &why), -1);
    assert_int_equal(cert_make_server(rig_dir, &names, 30, false, &why), 0);
    cert_names_free(&names);
    expect_output("openssl x509 -in server.crt -noout -ext subjectAltName", "DNS:broker.home.example");
    assert_non_null(strstr(output(), "DNS:*.home.example"));
    assert_non_null(strstr(output(), "IP Address:192.0.2.7"));
    assert_non_null(strstr(output(), "IP Address:2001:DB8:0:0:0:0:0:1"));
    assert_int_equal(rig_shell("openssl verify -verify_ip 2001:db8::1 -CAfile ca.crt server.crt"), 0);

    assert_int_equal(cert_names_default(&names, &why), 0);
    for (int i = 0; i < names.count; i++)
        local |= strcmp(names.name[i], "::1") == 0;
    assert_true(local);
    assert_string_equal(names.name[0], "localhost");
    cert_names_free(&names);
}

/* What is there stays; half of something is an error; a key alone is completed. */
static void test_keeps_what_is_there(void **state)
{
    static const char *const names[] = {"localhost", NULL};
    char *ca = content_of("ca.crt"), *server = content_of("server.crt"), *key = content_of("server.key"),
         *after;

    (void)state;
    assert_int_equal(cert_make_all(rig_dir, names, 0, &why), 0);
    after = content_of("server.crt");
    assert_string_equal(after, server);
    free(after);
    assert_int_equal(rig_shell("mv server.crt server.keep"), 0);
    assert_int_equal(cert_make_all(rig_dir, names, 0, &why), 0);
    after = content_of("server.crt");
    assert_string_not_equal(after, server);
    free(after);
    after = content_of("server.key");
    assert_string_equal(after, key);
    free(after);
    after = content_of("ca.crt");
    assert_string_equal(after, ca);
    free(after);
    expect_output("openssl verify -CAfile ca.crt server.crt", ": OK");

    assert_int_equal(rig_shell("mv server.key key.keep"), 0);
    assert_int_equal(cert_make_all(rig_dir, names, 0, &why), -1);
    assert_non_null(strstr(why.text, "server.key is not"));
    assert_int_equal(rig_shell("mv key.keep server.key && mv ca.key key.keep"), 0);
    assert_int_equal(cert_make_all(rig_dir, names, 0, &why), -1);
    assert_non_null(strstr(why.text, "ca.key is not"));
    assert_int_equal(rig_shell("mv key.keep ca.key && mv ca.crt ca.keep"), 0);
    assert_int_equal(cert_make_all(rig_dir, names, 0, &why), -1);
    assert_non_null(strstr(why.text, "ca.crt is not"));
    assert_int_equal(
        rig_shell(
            "mv ca.keep ca.crt && cp server.key other.key && openssl ecparam -name prime256v1 -genkey -noout "
            "-out ca.key"),
        0);
    assert_int_equal(cert_make_client(rig_dir, "lost", 0, &why), -1);
    assert_non_null(strstr(why.text, "does not belong"));
    assert_int_equal(access(rig_path("lost.key"), F_OK), -1);
    free(ca);
    free(server);
    free(key);
}

static void test_unwritable(void **state)
{
    (void)state;
    assert_int_equal(cert_make_all("/proc/nowhere", NULL, 0, &why), -1);
    assert_non_null(strstr(why.text, "/proc/nowhere"));
    assert_int_equal(cert_make_all("/proc/self", NULL, 0, &why), -1);
    assert_non_null(strstr(why.text, "/proc/self/ca.key"));
}

static void test_tool(void **state)
{
    char dir[128], *ca;

    (void)state;
    snprintf(dir, sizeof dir, "%s/made", rig_dir);
    assert_int_equal(tool("init", dir, "--name=box", "--name", "10.0.0.1"), 0);
    assert_non_null(strstr(output(), "made/ca.crt"));
    expect_output("openssl verify -verify_hostname box -CAfile made/ca.crt made/server.crt", ": OK");
    assert_int_equal(tool("init", dir, NULL, NULL, NULL), EXIT_FAILURE);
    assert_non_null(strstr(output(), "--force"));
    ca = content_of("made/ca.crt");
    assert_int_equal(tool("init", dir, "--force", NULL, NULL), 0);
    free(ca);
    assert_int_equal(tool("client", dir, "lamp", NULL, NULL), 0);
    expect_output("openssl verify -purpose sslclient -CAfile made/ca.crt made/lamp.crt", ": OK");
    assert_int_equal(tool("server", dir, "--name", "new.example", NULL), 0);
    expect_output("openssl verify -verify_hostname new.example -CAfile made/ca.crt made/server.crt", ": OK");
    assert_int_equal(tool("show", rig_path("made/server.crt"), NULL, NULL, NULL), 0);
    assert_non_null(strstr(output(), "CN=new.example\n"));
    assert_non_null(strstr(output(), "SHA-256"));
    assert_int_equal(tool("show", rig_path("made/server.key"), NULL, NULL, NULL), EXIT_FAILURE);
    assert_int_equal(tool("--help", NULL, NULL, NULL, NULL), 0);
    assert_int_equal(tool(NULL, NULL, NULL, NULL, NULL), 2);
    assert_int_equal(tool("nonsense", dir, NULL, NULL, NULL), 2);
    assert_int_equal(tool("client", dir, NULL, NULL, NULL), 2);
    assert_int_equal(tool("init", dir, "--days", "soon", NULL), 2);
    assert_int_equal(tool("init", dir, "--nonsense", NULL, NULL), 2);
    assert_int_equal(tool("init", dir, "extra", NULL, NULL), 2);
    assert_int_equal(tool("server", dir, "--name", "a b", NULL), EXIT_FAILURE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server),     cmocka_unit_test(test_ca),
        cmocka_unit_test(test_dates),      cmocka_unit_test(test_client),
        cmocka_unit_test(test_names),      cmocka_unit_test(test_tool),
        cmocka_unit_test(test_unwritable), cmocka_unit_test(test_keeps_what_is_there),
    };

    return cmocka_run_group_tests(tests, rig_make_dir, rig_remove_dir);
}
