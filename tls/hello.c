/*
 * hello.c - a look at a client's first bytes, before anything is spent on it.
 *
 * Two questions: is this TLS at all (people do point MQTT clients and browsers at the wrong port, and deserve
 * to be told), and what does the ClientHello offer? mbedTLS asks for the answer to the second in its
 * configuration: with ALPN configured it refuses clients that offer only protocols it does not know (we would
 * rather not), and in TLS 1.3 it takes the client's first cipher. So the configuration is chosen by the
 * ClientHello.
 *
 *    record: type 22 | version 2 | length 2 | ClientHello, or its beginning
 *    ClientHello: type 1 | length 3 | version 2 | random 32 | session id 1+n | suites 2+2n |
 *                 compression 1+n | extensions 2+n: (type 2 | length 2+n)...
 *
 * Whatever is not as expected just gives no hints; mbedTLS then finds the right alert.
 */
#include "tls/internal.h"
#include <string.h>

const char *const tls_protocols[] = {"mqtt", "x-amzn-mqtt-ca", "http/1.1", NULL};

/* What is left to read; reading beyond the end gives zeroes and sets bad. */
struct cursor {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static const uint8_t *take(struct cursor *cursor, size_t n)
{
    const uint8_t *at = cursor->at;

    if (cursor->bad || n > cursor->left) {
        cursor->bad = true;
        return NULL;
    }
    cursor->at += n;
    cursor->left -= n;
    return at;
}

static size_t take_number(struct cursor *cursor, int bytes)
{
    const uint8_t *at = take(cursor, (size_t)bytes);
    size_t number = 0;

    for (int i = 0; at && i < bytes; i++)
        number = number << 8 | at[i];
    return number;
}

/* A field with its length (of so many bytes) before it. */
static struct cursor take_field(struct cursor *cursor, int length_bytes)
{
    size_t n = take_number(cursor, length_bytes);
    const uint8_t *at = take(cursor, n);

    return (struct cursor){.at = at, .left = at ? n : 0, .bad = !at};
}

static bool alpn_is_ours(struct cursor extension)
{
    struct cursor list = take_field(&extension, 2);

    while (!list.bad && list.left) {
        struct cursor name = take_field(&list, 1);

        for (const char *const *ours = tls_protocols; *ours && !name.bad; ours++) {
            if (name.left == strlen(*ours) && memcmp(name.at, *ours, name.left) == 0)
                return true;
        }
    }
    return false;
}

static void look_into(struct cursor body, struct hello *hello)
{
    struct cursor suites, extensions;

    take(&body, 2 + 32);
    take_field(&body, 1);
    suites = take_field(&body, 2);
    take_field(&body, 1);
    extensions = take_field(&body, 2);
    if (extensions.bad)
        return;
    while (suites.left >= 2)
        hello->chacha |= take_number(&suites, 2) == MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256;
    while (extensions.left && !extensions.bad) {
        size_t type = take_number(&extensions, 2);
        struct cursor extension = take_field(&extensions, 2);

        if (type == 16 && !extension.bad)
            hello->alpn = alpn_is_ours(extension);
    }
}

/* A word of an HTTP request, or the beginning of one. */
static enum hello_kind look_at_text(const uint8_t *data, size_t n)
{
    static const char *const methods[] = {"GET ", "POST", "HEAD", "PUT ", "OPTI",
                                          "DELE", "PATC", "CONN", "PRI "};

    if (memcmp(data, "PROXY ", n < 6 ? n : 6) == 0 && n >= 2)
        return n < 6 ? HELLO_MORE : HELLO_PROXY;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (memcmp(data, methods[i], n < 4 ? n : 4) == 0)
            return n < 4 ? HELLO_MORE : HELLO_HTTP;
    }
    return HELLO_OTHER;
}

struct hello tls_hello_look(const uint8_t *data, size_t n)
{
    struct cursor record = {.at = data, .left = n}, message, body;
    struct hello hello = {.kind = HELLO_TLS};

    if (data[0] == 0x10)
        hello.kind = HELLO_MQTT;
    else if (data[0] == '\r' && n >= 12 && memcmp(data, "\r\n\r\n\0\r\nQUIT\n", 12) == 0)
        hello.kind = HELLO_PROXY;
    else if (data[0] >= 'A' && data[0] <= 'Z')
        hello.kind = look_at_text(data, n);
    else if (data[0] != 22 || (n > 1 && data[1] != 3))
        hello.kind = HELLO_OTHER;
    if (hello.kind != HELLO_TLS)
        return hello;

    take(&record, 3);
    message = take_field(&record, 2);
    if (message.bad) { /* records that are too long are mbedTLS' to refuse */
        if (n < 5 || (data[3] << 8 | data[4]) <= 16384)
            hello.kind = HELLO_MORE;
        return hello;
    }
    if (take_number(&message, 1) != 1)
        return hello;
    body = take_field(&message, 3); /* bad when the ClientHello goes on in another record */
    if (!body.bad)
        look_into(body, &hello);
    return hello;
}

const char *tls_hello_says(enum hello_kind kind)
{
    switch (kind) {
    case HELLO_MORE:
    case HELLO_TLS:
        return NULL;
    case HELLO_MQTT:
        return "the client speaks plain MQTT, but this listener speaks TLS: give the client the CA's "
               "certificate "
               "(--cafile), or another port";
    case HELLO_HTTP:
        return "the client speaks plain HTTP, but this listener speaks TLS: use https:// or wss://";
    case HELLO_PROXY:
        return "the client sends a PROXY protocol header, which bramble does not understand";
    case HELLO_OTHER:
        break;
    }
    return "the client does not speak TLS";
}
