/*
 * utf8.c - checks the characters of a line.
 */
#include "config/utf8.h"
#include <stddef.h>
#include <stdint.h>

/* The bytes of the character at s (no zero among them), 0 if it is malformed; its number in *code. */
static size_t decode(const unsigned char *s, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n;

    if (*s < 0x80) {
        *code = *s;
        return 1;
    }
    n = *s >= 0xF0 && *s < 0xF8 ? 4 : *s >= 0xE0 ? 3 : 2;
    if (*s < 0xC0 || *s >= 0xF8) {
        return 0;
    }
    *code = *s & (0xFFU >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            return 0;
        }
        *code = *code << 6 | (s[i] & 0x3FU);
    }
    return *code >= least[n] ? n : 0;
}

bool utf8_is_text(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;

    while (*s) {
        uint32_t code = 0;
        size_t n = decode(s, &code);
        bool control = (code < 0x20 && code != '\t') || (code >= 0x7F && code < 0xA0);
        bool surrogate = code >= 0xD800 && code < 0xE000;

        if (n == 0 || control || surrogate || code > 0x10FFFF) {
            return false;
        }
        s += n;
    }
    return true;
}
