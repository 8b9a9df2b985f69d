/*
 * test_facts.c - names from certificates, compared with what OpenSSL writes for the same certificate.
 */
#include "test/unit/tls/rig.h"

/* Makes a certificate with that subject (OpenSSL's -subj), or takes in.crt when it is NULL. */
static struct cert_facts *facts_of(const char *subject, char *openssl, size_t size)
{
    char command[1024];
    struct cert_facts *facts;
    mbedtls_x509_crt crt;
    FILE *file;

    if (subject) {
        snprintf(command, sizeof command,
                 "openssl req -x509 -utf8 -key server.key -days 9 -out in.crt -subj '%s'", subject);
        assert_int_equal(rig_shell(command), 0);
    }
    assert_int_equal(rig_shell("openssl x509 -in in.crt -noout -subject -nameopt RFC2253 >subject"), 0);
    file = fopen(rig_path("subject"), "r");
    assert_non_null(file);
    assert_int_equal(fread(openssl, 1, 8, file), 8); /* subject= */
    assert_non_null(fgets(openssl, (int)size, file));
    fclose(file);
    openssl[strcspn(openssl, "\n")] = 0;

    mbedtls_x509_crt_init(&crt);
    assert_int_equal(mbedtls_x509_crt_parse_file(&crt, rig_path("in.crt")), 0);
    facts = cert_facts_new(&crt);
    mbedtls_x509_crt_free(&crt);
    assert_non_null(facts);
    return facts;
}

static void expect(const char *subject, const char *cn)
{
    char openssl[1024];
    struct cert_facts *facts = facts_of(subject, openssl, sizeof openssl);

    assert_string_equal(facts->subject, openssl);
    if (cn)
        assert_string_equal(facts->cn, cn);
    else
        assert_null(facts->cn);
    cert_facts_free(facts);
}

static void test_subjects(void **state)
{
    (void)state;
    expect("/CN=meter", "meter");
    expect("/C=AT/ST=Wien/L=Wien/O=Home/OU=Cellar/CN=meter", "meter");
    expect("/O=only an organisation", NULL);
    expect("/CN=first/O=x/CN=second", "first");
    expect("/CN=a,b\\+c\"d;e<f>g", "a,b+c\"d;e<f>g");
    expect("/CN=\\\\back", "\\back");
    expect("/CN= spaces ", " spaces ");
    expect("/CN=#hash", "#hash");
    expect("/CN=K\xc3\xa4se", "K\xc3\xa4se");
    expect("/CN=x/emailAddress=a@b.example/serialNumber=77/UID=u1/DC=example/DC=com", "x");
    expect("/title=T/street=S/GN=G/SN=S/initials=I/dnQualifier=Q/CN=y/pseudonym=p/postalCode=1/"
           "generationQualifier=g",
           "y");
    expect("/O=o/CN=multi+UID=7/C=AT", "multi");
    expect("/1.2.3.4=odd/CN=z", "z");
}

static void test_fingerprint(void **state)
{
    char openssl[1024];
    struct cert_facts *facts = facts_of("/CN=f", openssl, sizeof openssl);
    char command[256];

    (void)state;
    assert_int_equal(strlen(facts->sha256), 64);
    snprintf(command, sizeof command, "openssl x509 -in in.crt -outform DER | sha256sum | grep -q '^%s '",
             facts->sha256);
    assert_int_equal(rig_shell(command), 0);
    cert_facts_free(facts);
}

/* Common names that are no text must not become a user name. */
static void test_strange_names(void **state)
{
    static const struct {
        int tag;
        const char *value;
        size_t len;
    } cases[] = {{MBEDTLS_ASN1_UTF8_STRING, "admin\0.evil", 11},
                 {MBEDTLS_ASN1_BMP_STRING, "\0a\0b", 4},
                 {MBEDTLS_ASN1_UTF8_STRING, "", 0}};
    static unsigned char oid[] = {0x55, 4, 3};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mbedtls_x509_crt crt;
        struct cert_facts *facts;

        mbedtls_x509_crt_init(&crt);
        crt.subject.oid = (mbedtls_x509_buf){.tag = MBEDTLS_ASN1_OID, .len = 3, .p = oid};
        crt.subject.val = (mbedtls_x509_buf){
            .tag = cases[i].tag, .len = cases[i].len, .p = (unsigned char *)(uintptr_t)cases[i].value};
        crt.raw = crt.subject.oid;
        facts = cert_facts_new(&crt);
        assert_non_null(facts);
        assert_null(facts->cn);
        if (i == 0)
            assert_string_equal(facts->subject, "CN=admin\\00.evil");
        if (i == 1)
            assert_string_equal(facts->subject, "CN=#1E0400610062");
        cert_facts_free(facts);
    }
}

/* A subject with hundreds of parts is refused as a whole, not cut. */
static void test_endless_subject(void **state)
{
    static unsigned char oid[] = {0x55, 4, 3}, value[] = "x";
    static mbedtls_x509_name names[65];
    char *text;

    (void)state;
    for (int i = 0; i < 65; i++) {
        names[i].oid = (mbedtls_x509_buf){.tag = MBEDTLS_ASN1_OID, .len = 3, .p = oid};
        names[i].val = (mbedtls_x509_buf){.tag = MBEDTLS_ASN1_UTF8_STRING, .len = 1, .p = value};
        names[i].next = i < 64 ? &names[i + 1] : NULL;
    }
    assert_null(cert_name_rfc2253(&names[0]));
    names[63].next = NULL;
    text = cert_name_rfc2253(&names[0]);
    assert_non_null(text);
    assert_int_equal(strlen(text), 64 * 5 - 1);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subjects),
        cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_strange_names),
        cmocka_unit_test(test_endless_subject),
    };

    return cmocka_run_group_tests(tests, rig_make_dir, rig_remove_dir);
}
