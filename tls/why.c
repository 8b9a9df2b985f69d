/*
 * why.c - mbedTLS' errors in words for the log: what went wrong, and on whose side.
 *
 * "-0x7780" helps nobody. Most failed handshakes are one of a dozen everyday mistakes (a client without the
 * CA, an expired certificate, a plain-text client, an old protocol), and each of these gets its own sentence.
 */
#include "tls/internal.h"
#include <mbedtls/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    int number;
    const char *name, *meaning;
} alerts[] = {
    {0, "close_notify", "it gave up"},
    {10, "unexpected_message", "something came that does not belong there"},
    {20, "bad_record_mac", "a record was damaged on its way"},
    {22, "record_overflow", "a record was too large for it"},
    {40, "handshake_failure", "it found no cipher or curve in common with this listener"},
    {42, "bad_certificate", "it does not accept this listener's certificate"},
    {43, "unsupported_certificate", "it does not support this kind of certificate"},
    {44, "certificate_revoked", "this listener's certificate is on its revocation list"},
    {45, "certificate_expired", "this listener's certificate has expired, or the client's clock is wrong"},
    {46, "certificate_unknown",
     "it does not accept this listener's certificate: does it know the CA, and is the name "
     "it connects to in the certificate?"},
    {47, "illegal_parameter", "it found an impossible value"},
    {48, "unknown_ca",
     "it does not know the CA that signed this listener's certificate: give the CA's certificate to "
     "the client"},
    {49, "access_denied", "it does not want to"},
    {50, "decode_error", "it could not read a message"},
    {51, "decrypt_error", "a signature or a check value was wrong"},
    {70, "protocol_version", "it has no version of TLS in common with this listener"},
    {71, "insufficient_security", "it wants stronger ciphers than this listener offers"},
    {80, "internal_error", "it had trouble of its own"},
    {86, "inappropriate_fallback", "it was made to fall back to an older version of TLS"},
    {90, "user_canceled", "it gave up"},
    {109, "missing_extension", "it misses something in the handshake"},
    {112, "unrecognized_name", "it asked for another server name"},
    {116, "certificate_required", "it wants a certificate"},
    {120, "no_application_protocol", "it has no application protocol in common with this listener"},
};

static char *say(const char *text)
{
    return strdup(text);
}

static char *why_alert(int number)
{
    char *text = NULL;

    for (size_t i = 0; i < sizeof alerts / sizeof *alerts; i++) {
        if (alerts[i].number != number)
            continue;
        if (asprintf(&text, "the client refused: %s (alert %s)", alerts[i].meaning, alerts[i].name) < 0)
            return NULL;
        return text;
    }
    return asprintf(&text, "the client refused (alert %d)", number) < 0 ? NULL : text;
}

/* mbedTLS' own TLS 1.3 client says in plain text that it does not like our certificate, where an encrypted
 * record is due. Anybody could forge that, but it is for the log only. */
static char *why_damaged(const mbedtls_ssl_context *ssl, bool handshake)
{
    const unsigned char *record = ssl->MBEDTLS_PRIVATE(in_hdr);

    if (handshake && record && record[0] == MBEDTLS_SSL_MSG_ALERT && record[3] == 0 && record[4] == 2)
        return why_alert(record[6]);
    return say("the client sent a damaged TLS record");
}

static char *why_certificate(const mbedtls_ssl_context *ssl)
{
    static const struct {
        uint32_t flag;
        const char *text;
    } reasons[] = {
        {MBEDTLS_X509_BADCERT_MISSING, "the client sent no certificate, and this listener requires one"},
        {MBEDTLS_X509_BADCERT_REVOKED, "the client's certificate is revoked"},
        {MBEDTLS_X509_BADCERT_EXPIRED, "the client's certificate, or one of its CAs, has expired"},
        {MBEDTLS_X509_BADCERT_FUTURE,
         "the client's certificate is not valid yet: is this machine's clock right?"},
        {MBEDTLS_X509_BADCRL_EXPIRED, "the revocation list (crlfile) has expired: no client can be checked"},
        {MBEDTLS_X509_BADCRL_FUTURE,
         "the revocation list (crlfile) is not valid yet: is this machine's clock right?"},
        {MBEDTLS_X509_BADCRL_NOT_TRUSTED,
         "there is no trustworthy revocation list (crlfile) of the CA of the client's "
         "certificate"},
        {MBEDTLS_X509_BADCERT_NOT_TRUSTED,
         "the client's certificate is not signed by a CA in cafile or capath"},
        {MBEDTLS_X509_BADCERT_EXT_KEY_USAGE,
         "the client's certificate is not meant for clients (extendedKeyUsage)"},
        {MBEDTLS_X509_BADCERT_KEY_USAGE, "the client's certificate is not meant for this (keyUsage)"},
        {MBEDTLS_X509_BADCERT_BAD_MD, "the client's certificate is signed with too weak a hash"},
        {MBEDTLS_X509_BADCERT_BAD_PK, "the client's certificate has an unacceptable kind of key"},
        {MBEDTLS_X509_BADCERT_BAD_KEY,
         "the client's certificate has too weak a key, or one on an unsupported curve"},
    };
    uint32_t flags = mbedtls_ssl_get_verify_result(ssl);
    char text[256];

    for (size_t i = 0; i < sizeof reasons / sizeof *reasons && flags != UINT32_MAX; i++) {
        if (flags & reasons[i].flag)
            return say(reasons[i].text);
    }
    if (flags == UINT32_MAX || mbedtls_x509_crt_verify_info(text, sizeof text, "", flags) <= 0)
        return say("the client's certificate was refused");
    text[strcspn(text, "\n")] = 0;
    return say(text);
}

/* Of reading a certificate, or the key in it; in a handshake only the client's is read. */
static bool is_of_certificate(int ret)
{
    int code = -ret & 0xff80;

    return (code >= -MBEDTLS_ERR_X509_FEATURE_UNAVAILABLE && code <= -MBEDTLS_ERR_X509_FATAL_ERROR) ||
           code == -MBEDTLS_ERR_PK_INVALID_PUBKEY || code == -MBEDTLS_ERR_PK_UNKNOWN_PK_ALG ||
           code == -MBEDTLS_ERR_PK_UNKNOWN_NAMED_CURVE || code == -MBEDTLS_ERR_PK_KEY_INVALID_FORMAT;
}

static char *why_other(int ret, bool handshake)
{
    const char *what = handshake ? is_of_certificate(ret) ? "the client's certificate cannot be used"
                                                          : "the TLS handshake failed"
                                 : "TLS failed";
    char text[200], *all = NULL;

    mbedtls_strerror(ret, text, sizeof text);
    return asprintf(&all, "%s: %s (-0x%04x)", what, text, (unsigned)-ret) < 0 ? NULL : all;
}

char *tls_why(const mbedtls_ssl_context *ssl, int ret, bool handshake)
{
    switch (ret) {
    case MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE:
        return why_alert(ssl->MBEDTLS_PRIVATE(in_msg)[1]);
    case MBEDTLS_ERR_X509_CERT_VERIFY_FAILED:
        return why_certificate(ssl);
    case MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE:
        return say("the client sent no certificate, and this listener requires one");
    case MBEDTLS_ERR_SSL_BAD_CERTIFICATE:
        return say("the client's certificate is malformed, or not meant for clients");
    case MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION:
        return say("the client and this listener have no version of TLS in common");
    case MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE:
        return say("the client and this listener have no cipher or curve in common");
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
    case MBEDTLS_ERR_SSL_CONN_EOF:
        return say(
            "the client closed the connection during the TLS handshake (perhaps it does not accept this "
            "listener's certificate)");
    case MBEDTLS_ERR_SSL_INVALID_MAC:
    case MBEDTLS_ERR_SSL_INVALID_RECORD:
        return why_damaged(ssl, handshake);
    case MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE:
        return say(handshake
                       ? "the client sent a TLS message that does not belong there"
                       : "the client sent a TLS message that does not belong there, or asked for new keys "
                         "(KeyUpdate), which bramble does not do");
    case MBEDTLS_ERR_SSL_ALLOC_FAILED:
        return say("no memory for TLS");
    case MBEDTLS_ERR_SSL_BAD_INPUT_DATA: /* more is announced than the buffer for input holds */
        return say("the client sent a TLS record that is too large");
    default:
        return why_other(ret, handshake);
    }
}
