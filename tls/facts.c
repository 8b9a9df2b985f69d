/*
 * facts.c - what the rest of the broker is told about a client's certificate: common name, subject,
 * fingerprint.
 *
 * Names become user names (use_identity_as_username, use_subject_as_username), so they must be what mosquitto
 * would have made of them: the first common name, and the subject as OpenSSL's XN_FLAG_RFC2253 writes it,
 * last part first:
 *
 *    C=AT, O=Home, CN=meter, in the certificate    ->    "CN=meter,O=Home,C=AT"
 *
 * A common name that is no plain text (a zero byte, a character set of two bytes) is no name at all: better
 * nobody than somebody else.
 */
#include "tls/internal.h"
#include <ctype.h>
#include <errno.h>
#include <mbedtls/asn1.h>
#include <mbedtls/md.h>
#include <mbedtls/oid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_PARTS = 64 };

/* OpenSSL's short names, as RFC 2253 output has them. */
static const struct {
    const char *oid;
    const char *name;
} attributes[] = {
    {MBEDTLS_OID_AT_CN, "CN"},
    {MBEDTLS_OID_AT_SUR_NAME, "SN"},
    {MBEDTLS_OID_AT_SERIAL_NUMBER, "serialNumber"},
    {MBEDTLS_OID_AT_COUNTRY, "C"},
    {MBEDTLS_OID_AT_LOCALITY, "L"},
    {MBEDTLS_OID_AT_STATE, "ST"},
    {MBEDTLS_OID_AT "\x09", "street"},
    {MBEDTLS_OID_AT_ORGANIZATION, "O"},
    {MBEDTLS_OID_AT_ORG_UNIT, "OU"},
    {MBEDTLS_OID_AT_TITLE, "title"},
    {MBEDTLS_OID_AT "\x0d", "description"},
    {MBEDTLS_OID_AT_POSTAL_ADDRESS, "postalAddress"},
    {MBEDTLS_OID_AT_POSTAL_CODE, "postalCode"},
    {MBEDTLS_OID_AT_GIVEN_NAME, "GN"},
    {MBEDTLS_OID_AT_INITIALS, "initials"},
    {MBEDTLS_OID_AT_GENERATION_QUALIFIER, "generationQualifier"},
    {MBEDTLS_OID_AT_UNIQUE_IDENTIFIER, "x500UniqueIdentifier"},
    {MBEDTLS_OID_AT_DN_QUALIFIER, "dnQualifier"},
    {MBEDTLS_OID_AT_PSEUDONYM, "pseudonym"},
    {MBEDTLS_OID_UID, "UID"},
    {MBEDTLS_OID_DOMAIN_COMPONENT, "DC"},
    {MBEDTLS_OID_PKCS9_EMAIL, "emailAddress"},
};

static bool oid_is(const mbedtls_x509_buf *oid, const char *text)
{
    return oid->len == strlen(text) && memcmp(oid->p, text, oid->len) == 0;
}

static const char *attribute_name(const mbedtls_x509_buf *oid)
{
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++) {
        if (oid_is(oid, attributes[i].oid))
            return attributes[i].name;
    }
    return NULL;
}

static bool is_text(const mbedtls_x509_buf *val)
{
    return val->tag == MBEDTLS_ASN1_UTF8_STRING || val->tag == MBEDTLS_ASN1_PRINTABLE_STRING ||
           val->tag == MBEDTLS_ASN1_IA5_STRING || val->tag == 0x12 /* NumericString */;
}

/* RFC 2253, 2.4: which bytes need a backslash; beyond ASCII and control characters become \XX, as OpenSSL
 * does. */
static void put_text(FILE *out, const mbedtls_x509_buf *val)
{
    for (size_t i = 0; i < val->len; i++) {
        unsigned char c = val->p[i];

        if (c < ' ' || c >= 127)
            fprintf(out, "\\%02X", c);
        else if (strchr(",+\"\\<>;", c) || (i == 0 && (c == ' ' || c == '#')) ||
                 (i == val->len - 1 && c == ' '))
            fprintf(out, "\\%c", c);
        else
            putc(c, out);
    }
}

/* A value that is no text: its DER encoding in hex. */
static void put_hex(FILE *out, const mbedtls_x509_buf *val)
{
    fprintf(out, "#%02X", (unsigned)val->tag & 0xff);
    if (val->len < 128)
        fprintf(out, "%02X", (unsigned)val->len);
    else if (val->len < 256)
        fprintf(out, "81%02X", (unsigned)val->len);
    else
        fprintf(out, "82%04X", (unsigned)val->len & 0xffff);
    for (size_t i = 0; i < val->len; i++)
        fprintf(out, "%02X", val->p[i]);
}

static void put_attribute(FILE *out, const mbedtls_x509_name *name)
{
    const char *known = attribute_name(&name->oid);
    char oid[128];

    if (known)
        fputs(known, out);
    else if (mbedtls_oid_get_numeric_string(oid, sizeof oid, &name->oid) > 0)
        fputs(oid, out);
    else
        fputs("?", out);
    putc('=', out);
    if (known && is_text(&name->val))
        put_text(out, &name->val);
    else
        put_hex(out, &name->val);
}

/* Last relative name first; within one (parts joined by +) mbedTLS' order is turned as well, as OpenSSL does.
 */
static void put_reversed(FILE *out, const mbedtls_x509_name *name, bool *first)
{
    if (!name)
        return;
    put_reversed(out, name->next, first);
    if (!name->oid.p)
        return;
    /* next_merged says that this part belongs to the same relative name as the one after it, which is written
     * already */
    if (!*first)
        putc(name->MBEDTLS_PRIVATE(next_merged) ? '+' : ',', out);
    *first = false;
    put_attribute(out, name);
}

char *cert_name_rfc2253(const mbedtls_x509_name *name)
{
    char *text = NULL;
    size_t size = 0;
    int parts = 0;
    FILE *out;
    bool first = true, failed;

    for (const mbedtls_x509_name *part = name; part; part = part->next)
        parts++;
    if (parts > NAME_PARTS) {
        errno = E2BIG;
        return NULL;
    }
    out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    put_reversed(out, name, &first);
    failed = ferror(out) != 0;
    if (fclose(out) || failed) {
        free(text);
        return NULL;
    }
    return text;
}

/* The first common name, as mosquitto takes it. *failed is set without memory. */
static char *common_name(const mbedtls_x509_name *name, bool *failed)
{
    for (; name; name = name->next) {
        char *cn;

        if (!name->oid.p || !oid_is(&name->oid, MBEDTLS_OID_AT_CN))
            continue;
        if (!is_text(&name->val) || name->val.len == 0 || memchr(name->val.p, 0, name->val.len))
            return NULL;
        cn = strndup((const char *)name->val.p, name->val.len);
        *failed = !cn;
        return cn;
    }
    return NULL;
}

int cert_sha256(const mbedtls_x509_crt *crt, char hex[65])
{
    unsigned char hash[32];

    if (mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), crt->raw.p, crt->raw.len, hash))
        return -1;
    for (size_t i = 0; i < sizeof hash; i++)
        snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    return 0;
}

struct cert_facts *cert_facts_new(const mbedtls_x509_crt *crt)
{
    struct cert_facts *facts = calloc(1, sizeof *facts);
    bool failed = false;

    if (!facts)
        return NULL;
    facts->cn = common_name(&crt->subject, &failed);
    facts->subject = cert_name_rfc2253(&crt->subject);
    if (failed || !facts->subject || cert_sha256(crt, facts->sha256)) {
        cert_facts_free(facts);
        return NULL;
    }
    return facts;
}

void cert_facts_free(struct cert_facts *facts)
{
    if (!facts)
        return;
    free(facts->cn);
    free(facts->subject);
    free(facts);
}
