#!/usr/bin/env bash
# deps.sh - builds the two libraries that bramble links statically, from Debian 13's source packages:
#
#   mbedTLS 3.6         with our own configuration, tls/mbedtls_config.h
#   libwebsockets 4.3   plain: no TLS of its own (ours goes below it), no event library (ours drives it)
#
# Called by the Makefile (`make deps`); alone: .ci/deps.sh [DIRECTORY], default build/deps. The result is
#
#   DIRECTORY/include, DIRECTORY/lib/{libmbedtls,libmbedx509,libmbedcrypto,liblwsio}.a, DIRECTORY/.done
#
# liblwsio.a is libwebsockets with its calls of recv, send, poll, shutdown and close renamed to lwsio_recv and so on,
# which ws/ defines: that is how a TLS stream of ours gets below it.
#
# The machine's own package sources say where to fetch from, and apt checks every file against the signed index.
# Everything is built beside DIRECTORY and moved there at the end, so DIRECTORY is never half finished; .done holds a
# checksum of what went in, and a second run with the same input does nothing. Fetched files stay in build/sources.
#
# From the environment: CROSS (tool prefix, as aarch64-linux-gnu-), CC, AR, RANLIB, OBJCOPY, CFLAGS, SYSROOT, JOBS, V=1;
# DEPS_MIRROR=ADDRESS, a Debian archive to fetch from where this machine's package sources have none.
set -euo pipefail
export LC_ALL=C
unset MAKEFLAGS MFLAGS MAKELEVEL # of the make that calls this; the libraries have their own rules
cd "$(dirname "$0")/.."
top=$PWD
out=${1:-build/deps}
case $out in /*) ;; *) out=$top/$out ;; esac

suite=trixie
cross=${CROSS:-}
CC=${CC:-${cross}gcc}
AR=${AR:-${cross}ar}
RANLIB=${RANLIB:-${cross}ranlib}
OBJCOPY=${OBJCOPY:-${cross}objcopy}
jobs=${JOBS:-$(nproc 2>/dev/null || echo 1)}
sources=$top/build/sources
log=$out.log
start=$(date +%s)

say() { printf '  DEPS  %s\n' "$*"; }
elapsed() { echo "$(($(date +%s) - start)) s"; }
die() {
    printf 'deps: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '      %s\n' "$line" >&2; done
    exit 1
}
# run WHAT COMMAND...: output goes to the log, whose end is shown when the command fails
run() {
    what=$1
    shift
    printf '\n### %s: %s\n' "$what" "$*" >>"$log"
    if [ "${V:-}" = 1 ]; then
        "$@" 2>&1 | tee -a "$log" || die "$what failed"
    elif ! "$@" >>"$log" 2>&1; then
        tail -n 25 "$log" >&2
        die "$what failed; all of the output is in $log"
    fi
}

machine=$($CC -dumpmachine 2>/dev/null) || die "there is no working C compiler '$CC'"
# shellcheck disable=SC2086  # CC may have options
flags="-O2 -g -ffunction-sections -fdata-sections $(.ci/hardening $CC)"
flags="$flags${SYSROOT:+ --sysroot=$SYSROOT}${CFLAGS:+ $CFLAGS}"

# ---- nothing to do? (and one at a time: two makes may come here at once) ----
mkdir -p "$(dirname "$out")" "$sources"
exec 9>"$out.lock"
flock 9
# what counts is what this script and the configuration do, not their comments (clang cannot take those away alone)
strip_comments() { "${cross}gcc" -fpreprocessed -dD -E -P "$1" 2>>"$log" || cat "$1"; }
stamp=$({ grep -v '^ *#' .ci/deps.sh && cat .ci/*.patch && strip_comments tls/mbedtls_config.h && echo "$machine $CC $flags"; } | sha256sum | cut -d' ' -f1)
if [ -f "$out/.done" ] && [ "$(head -n 1 "$out/.done")" = "$stamp" ]; then
    # newer than its input, or make comes back each time (a fresh checkout has new dates on old content)
    for f in .ci/deps.sh .ci/hardening .ci/*.patch tls/mbedtls_config.h; do [ ! "$f" -nt "$out/.done" ] || touch "$out/.done"; done
    say "mbedTLS and libwebsockets are up to date in ${out#"$top"/}"
    exit 0
fi
say "building mbedTLS and libwebsockets for $machine (once; a minute on a PC, some minutes on a Pi)"
: >"$log"
missing=
for tool in cmake make patch tar xz bzip2 gzip sha256sum "$AR" "$OBJCOPY"; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
[ -z "$missing" ] || die "these programs are needed and not installed:$missing"
work=$(mktemp -d "$out.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

# ---- where from: the Debian archive that this machine already uses ----
# One line per package index that apt knows: origin, label, address, key. Origin and label are empty until the first
# `apt-get update`; then the address has to tell.
archive_of() { # archive_of LABEL ENDING -> "address|key"
    awk -F'|' -v label="$1" -v ending="$2" '
        $1 == "Debian" && $2 == label { print $3 "|" $4; exit }
        $1 == "" && $3 ~ ("(^|[/:])" ending "(/|[.]list)?$") { print $3 "|" $4; exit }' "$work/targets"
}
find_archive() {
    command -v apt-get >/dev/null || die "fetching the sources needs apt-get (Debian, Raspberry Pi OS)." \
        "Elsewhere install mbedTLS >= 3.6 and libwebsockets >= 4.3 with its static archive, then: make DEPS=system"
    # shellcheck disable=SC2016  # apt's own placeholders, not the shell's
    apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)|$(SIGNED_BY)' 'Created-By: Packages' |
        sort -u >"$work/targets" 2>>"$log" || :
    if [ -n "${DEPS_MIRROR:-}" ]; then
        archive="$DEPS_MIRROR|" security=
    else
        archive=$(archive_of Debian debian) security=$(archive_of Debian-Security debian-security)
    fi
    key=
    for k in "${archive#*|}" /usr/share/keyrings/debian-archive-keyring.pgp \
        /usr/share/keyrings/debian-archive-keyring.gpg; do
        [ -z "$key" ] && [ -n "$k" ] && [ -r "$k" ] && key=$k
    done
    archive=${archive%|*} security=${security%|*}
    [ -n "$archive" ] || die "no Debian archive is among this machine's package sources (apt-get indextargets)." \
        "On 32-bit Raspberry Pi OS, which has an archive of its own, either" \
        "  - version 13: apt-get install libmbedtls-dev libwebsockets-dev, then make DEPS=system" \
        "  - any version: install debian-archive-keyring, then give a Debian mirror: DEPS_MIRROR=ADDRESS make deps" \
        "or use the 64-bit system, where nothing of this is needed."
    [ -n "$key" ] || die "Debian's signing keys are missing: install the package debian-archive-keyring"
}

# A configuration of apt's that knows nothing but these indexes, in our own folder: nothing of the system is changed
# and no rights are needed.
private_apt() {
    a=$work/apt
    mkdir -p "$a/etc/preferences.d" "$a/etc/sources.list.d" "$a/etc/apt.conf.d" "$a/lists/partial" "$a/cache/archives/partial"
    echo "deb-src [signed-by=$key] $archive $suite main" >"$a/etc/suite.list"
    echo "${security:+deb-src [signed-by=$key] $security $suite-security main}" >"$a/etc/security.list"
    cat "$a/etc/suite.list" "$a/etc/security.list" >"$a/etc/sources.list"
    {
        # the system's proxy settings stay in force
        apt-config dump 2>/dev/null | grep -E '^Acquire::[a-z]+::([^ ]*::)?Proxy' || :
        cat <<CONF
Dir::Etc "$a/etc";
Dir::Etc::parts "$a/etc/apt.conf.d";
Dir::State::lists "$a/lists";
Dir::Cache "$a/cache";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "root";
CONF
    } >"$a/apt.conf"
}

fetch() {
    if [ -f "$sources/SHA256SUMS" ] && (cd "$sources" && sha256sum --quiet -c SHA256SUMS) >>"$log" 2>&1; then
        say "sources: those in build/sources"
        return
    fi
    find_archive
    private_apt
    say "fetching the source packages"
    run "reading the source package index" env APT_CONFIG="$work/apt/apt.conf" apt-get -q update
    mkdir "$work/fetched"
    # The .dsc is not asked for: mirrors exist that lack one, and apt checks each file against the index anyway. The
    # newest version wins. Of a version that both archives list, a mirror may have the one file in the one archive and
    # the other in the other: apt asks only the first, so each is asked alone then.
    cd "$work/fetched"
    export APT_CONFIG=$work/apt/apt.conf
    for p in mbedtls libwebsockets; do
        for part in --tar-only --diff-only; do
            for list in sources security suite; do
                apt-get -q -o "Dir::Etc::SourceList=$work/apt/etc/$list.list" source --download-only $part $p >>"$log" 2>&1 && break
            done || die "fetching $p ($part) failed; all of the output is in $log"
        done
    done
    unset APT_CONFIG
    cd "$top"
    for f in mbedtls libwebsockets; do
        original=$(ls "$work/fetched/${f}_"*.orig.tar.* 2>>"$log") patches=$(ls "$work/fetched/${f}_"*.debian.tar.* 2>>"$log") ||
            die "the source package of $f did not come; see $log"
        [[ $patches == "${original%.orig.tar.*}"-* ]] || die "original and patches of $f are not of one version; see $log"
    done
    rm -rf "$sources"
    mv "$work/fetched" "$sources"
    (cd "$sources" && sha256sum -- *.tar.* >SHA256SUMS)
}

# unpack NAME: the original source with Debian's patches (security fixes come as such) in $work/NAME, and with ours
# (.ci/NAME-*.patch; each says what for)
unpack() {
    mkdir "$work/$1"
    tar xf "$sources/$1_"*.orig.tar.* -C "$work/$1" --strip-components=1
    tar xf "$sources/$1_"*.debian.tar.* -C "$work/$1"
    [ ! -f "$work/$1/debian/patches/series" ] ||
        grep -v -e '^#' -e '^ *$' "$work/$1/debian/patches/series" | while read -r p _; do
            run "patching $1 ($p)" patch -f -d "$work/$1" -p1 -i "$work/$1/debian/patches/$p"
        done
    for p in "$top/.ci/$1"-*.patch; do
        [ ! -e "$p" ] || run "patching $1 (${p##*/})" patch -f -d "$work/$1" -p1 -i "$p"
    done
}

version_of() { # of a fetched package, as 3.6.4-2
    basename "$sources/$1_"*.debian.tar.* | sed 's/^[^_]*_//; s/\.debian\.tar\..*//'
}

build_mbedtls() {
    say "mbedTLS $(version_of mbedtls) ($(elapsed))"
    unpack mbedtls
    # in the place of the library's own: whoever includes a header of mbedTLS gets the configuration it was built with
    cp tls/mbedtls_config.h "$work/mbedtls/include/mbedtls/mbedtls_config.h"
    mbed_flags=$flags
    # its ARM code switches the instruction set within a file, which the checked string functions do not survive
    # when the compiler was told a CPU (-mcpu=cortex-a53)
    case $machine in aarch64* | arm*) mbed_flags="$flags -U_FORTIFY_SOURCE" ;; esac
    # GEN_FILES=: the release carries its generated files, no Perl or Python is needed to make them
    run "building mbedTLS" make -C "$work/mbedtls/library" -j"$jobs" CC="$CC" AR="$AR" RANLIB="$RANLIB" GEN_FILES= \
        CFLAGS="$mbed_flags" libmbedcrypto.a libmbedx509.a libmbedtls.a
    cp -r "$work/mbedtls/include/mbedtls" "$work/mbedtls/include/psa" "$new/include/"
    cp "$work/mbedtls/library/libmbedcrypto.a" "$work/mbedtls/library/libmbedx509.a" \
        "$work/mbedtls/library/libmbedtls.a" "$new/lib/" || die "building mbedTLS failed; see $log"
}

build_libwebsockets() {
    say "libwebsockets $(version_of libwebsockets) ($(elapsed))"
    unpack libwebsockets
    set -- -DCMAKE_BUILD_TYPE=None "-DCMAKE_C_FLAGS=$flags -DNDEBUG" -DCMAKE_C_COMPILER="$(command -v "$CC")" \
        -DCMAKE_AR="$(command -v "$AR")" -DCMAKE_RANLIB="$(command -v "$RANLIB")" -DDISABLE_WERROR=1
    if [ -n "$cross" ] || [ -n "${SYSROOT:-}" ]; then
        set -- "$@" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR="${machine%%-*}" ${SYSROOT:+"-DCMAKE_SYSROOT=$SYSROOT"}
    fi
    off= # what is switched off: everything but an HTTP/1 and WebSocket server on sockets that we hand over
    for o in SHARED SSL EVLIB_PLUGINS HTTP2 LEJP LEJP_CONF LWSAC DIR SYS_SMD NETLINK UDP CONMON CACHE_NSCOOKIEJAR \
        CUSTOM_HEADERS HTTP_BASIC_AUTH; do
        off="$off -DLWS_WITH_$o=0"
    done
    # shellcheck disable=SC2086  # a list of words
    run "configuring libwebsockets" cmake -S "$work/libwebsockets" -B "$work/lws-build" "$@" $off \
        -DLWS_WITH_STATIC=1 -DLWS_WITHOUT_CLIENT=1 -DLWS_WITHOUT_TESTAPPS=1 -DLWS_WITHOUT_EXTENSIONS=1 \
        -DLWS_IPV6=1 -DLWS_UNIX_SOCK=1 -DLWS_ROLE_RAW_FILE=0 -DLWS_LOG_TAG_LIFECYCLE=0 \
        -DLWS_CTEST_INTERNET_AVAILABLE=0 -DLWS_HAVE_LIBCAP=0 -DLWS_HAVE_SYS_CAPABILITY_H=0
    run "building libwebsockets" make -C "$work/lws-build" -j"$jobs" websockets
    b=$work/lws-build
    cp "$b/include/libwebsockets.h" "$b/include/lws_config.h" "$new/include/"
    cp -r "$b/include/libwebsockets" "$new/include/"
    run "redirecting libwebsockets' socket calls" "$OBJCOPY" --redefine-sym recv=lwsio_recv --redefine-sym send=lwsio_send \
        --redefine-sym poll=lwsio_poll --redefine-sym shutdown=lwsio_shutdown --redefine-sym close=lwsio_close \
        "$b/lib/libwebsockets.a" "$new/lib/liblwsio.a"
    [ -s "$new/lib/liblwsio.a" ] || die "building libwebsockets failed; see $log"
}

new=$work/new
mkdir -p "$new/include" "$new/lib"
fetch
build_mbedtls
build_libwebsockets
{
    echo "$stamp"
    echo "mbedtls $(version_of mbedtls)"
    echo "libwebsockets $(version_of libwebsockets)"
} >"$new/.done"
rm -rf "$out"
mv "$new" "$out"
say "done in $(elapsed): $(cd "$out/lib" && du -ch ./*.a | tail -n 1 | cut -f1) of static libraries in ${out#"$top"/}/lib"
