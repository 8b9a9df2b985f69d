#!/usr/bin/env bash
# system-deps.sh DIRECTORY - what `make DEPS=system` does in place of deps.sh: it looks for an installed mbedTLS and an
# installed static libwebsockets, checks that they will do, and leaves in DIRECTORY
#
#   cflags      options for the compiler  (a file that the compiler reads: gcc @cflags)
#   libs        options for the linker    (the same)
#   liblwsio.a  a copy of libwebsockets.a whose recv, send, poll, shutdown and close are called lwsio_recv and so on
#
# From the environment: CC, OBJCOPY, PKG_CONFIG, CPPFLAGS, CFLAGS, LDFLAGS (all may be those of a cross build).
set -euo pipefail
export LC_ALL=C
dir=$1
CC=${CC:-gcc}
OBJCOPY=${OBJCOPY:-objcopy}
PKG_CONFIG=${PKG_CONFIG:-pkg-config}
die() {
    printf 'deps: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '      %s\n' "$line" >&2; done
    exit 1
}
# shellcheck disable=SC2086  # the flags are lists of words
compile() { $CC ${CPPFLAGS:-} ${CFLAGS:-} ${LDFLAGS:-} $cflags "$@"; }
pkg() { "$PKG_CONFIG" "$@" 2>/dev/null || :; }

mkdir -p "$dir"
work=$(mktemp -d "$dir/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
cflags=$(pkg --cflags mbedtls mbedx509 mbedcrypto libwebsockets)

# ---- is what bramble needs there? Asked of the compiler, which knows about sysroots; the message is its #error ----
probe() { # probe NAME < program
    cat >"$work/$1.c"
    if ! compile -Wno-error -fsyntax-only "$work/$1.c" >"$work/$1.err" 2>&1; then
        what=$(sed -n 's/.*#error "\{0,1\}\([^"]*\).*/\1/p' "$work/$1.err" | head -n 1)
        [ -n "$what" ] || cat "$work/$1.err" >&2
        die "DEPS=system: ${what:-the headers of $1 cannot be used}" \
            "Plain 'make' builds this library itself (on Debian and Raspberry Pi OS)."
    fi
}
probe libev <<'C'
#if !__has_include(<ev.h>)
#error "libev is not installed (ev.h)"
#endif
C
probe libsodium <<'C'
#if !__has_include(<sodium.h>)
#error "libsodium is not installed (sodium.h)"
#endif
C
probe uthash <<'C'
#if !__has_include(<uthash.h>)
#error "uthash is not installed (uthash.h)"
#endif
C
probe mbedtls <<'C'
#if !__has_include(<mbedtls/build_info.h>)
#error "mbedTLS 3.6 or later is needed, none (or 2.x) is installed"
#else
#include <mbedtls/build_info.h>
#if MBEDTLS_VERSION_NUMBER < 0x03060000
#error "mbedTLS 3.6 or later is needed, the installed one is older"
#elif MBEDTLS_VERSION_NUMBER >= 0x04000000
#error "mbedTLS 3.6 is needed, the installed one is 4.0 or later, whose interface is another"
#elif !defined(MBEDTLS_THREADING_C)
#error "the installed mbedTLS is built without MBEDTLS_THREADING_C: handshakes on threads need it"
#elif !defined(MBEDTLS_SSL_SRV_C) || !defined(MBEDTLS_SSL_PROTO_TLS1_2) || !defined(MBEDTLS_SSL_TICKET_C)
#error "the installed mbedTLS is built without a TLS 1.2 server or without session tickets"
#elif !defined(MBEDTLS_X509_CRT_WRITE_C) || !defined(MBEDTLS_PEM_WRITE_C)
#error "the installed mbedTLS cannot write certificates (MBEDTLS_X509_CRT_WRITE_C, MBEDTLS_PEM_WRITE_C)"
#endif
#endif
C
probe libwebsockets <<'C'
#if !__has_include(<lws_config.h>)
#error "libwebsockets 4.3 or later is needed, none is installed (lws_config.h)"
#else
#include <lws_config.h>
#if LWS_LIBRARY_VERSION_MAJOR < 4 || (LWS_LIBRARY_VERSION_MAJOR == 4 && LWS_LIBRARY_VERSION_MINOR < 3)
#error "libwebsockets 4.3 or later is needed, the installed one is older"
#elif !defined(LWS_ROLE_WS) || !defined(LWS_WITH_SERVER)
#error "the installed libwebsockets is built without a WebSocket server"
#endif
#endif
C

# ---- the static archive, by pkg-config's folder or where the compiler looks ----
archive=$(pkg --variable=libdir libwebsockets)/libwebsockets.a
[ -f "$archive" ] || archive=$(compile -print-file-name=libwebsockets.a)
[ -f "$archive" ] || die "DEPS=system: libwebsockets is there, but not its static archive (libwebsockets.a)"
"$OBJCOPY" --redefine-sym recv=lwsio_recv --redefine-sym send=lwsio_send --redefine-sym poll=lwsio_poll \
    --redefine-sym shutdown=lwsio_shutdown --redefine-sym close=lwsio_close "$archive" "$work/liblwsio.a"

# What the archive itself needs. Its .pc file names some of that, its own configuration tells the rest: a distribution's
# libwebsockets has OpenSSL inside, which bramble never calls but the linker asks for.
extra=
for word in $(pkg --libs --static libwebsockets); do
    case $word in
        -lwebsockets | -lwebsockets_static | -lev | -luv* | -levent* | -lglib* | -lgobject*) ;;
        *) extra="$extra $word" ;;
    esac
done
compile -dM -E -include lws_config.h -xc /dev/null >"$work/lws"
has() { grep -q "^#define $1\b" "$work/lws"; }
if has LWS_WITH_TLS && ! has LWS_WITH_MBEDTLS; then extra="$extra -lssl -lcrypto"; fi
if has LWS_WITH_ZLIB; then extra="$extra -lz"; fi
if has LWS_HAVE_LIBCAP; then extra="$extra -lcap"; fi
mbed=$(pkg --libs mbedtls mbedx509 mbedcrypto)
libs="$dir/liblwsio.a ${mbed:--lmbedtls -lmbedx509 -lmbedcrypto}$extra"
mv "$work/liblwsio.a" "$dir/liblwsio.a"
echo "$cflags" >"$dir/cflags"
echo "$libs" >"$dir/libs"
touch "$dir/.done"
printf '  DEPS  the system'\''s mbedTLS (%s) and libwebsockets (%s)\n' \
    "$(compile -dM -E -include mbedtls/build_info.h -xc /dev/null | sed -n 's/#define MBEDTLS_VERSION_STRING "\(.*\)"/\1/p')" \
    "$(compile -dM -E -include lws_config.h -xc /dev/null | sed -n 's/#define LWS_LIBRARY_VERSION "\(.*\)"/\1/p')"
