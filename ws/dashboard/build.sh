#!/bin/sh
# build.sh OUTDIR: makes the web page that the broker serves.
#
#   modules (*.js) --bundle.awk--> app.js worker.js\
#   index.html style.css icon.svg                  > temporary folder, *.gz beside each, renamed to OUTDIR
#   mqtt-V.tgz uplot-V.tgz --sha512 checked-->     /
#
# The two parts (names, exact versions, sha512) stand in package-lock.json. They come from $DASHBOARD_PARTS, a
# folder with mqtt-*.tgz and uplot-*.tgz, and then no network is used; otherwise npm fetches them once into
# build/dashboard-parts. A part whose sha512 differs stops the build. The same input gives the same bytes.
# Needs: sh, awk, tar, gzip, base64, od, sha512sum; npm only to fetch.

set -eu
umask 022
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
lock=$here/package-lock.json
cache=$here/../../build/dashboard-parts
page_modules="dom format values filters model remote chart topics detail publish access app"
worker_modules="values link worker"

stop()
{
    echo "dashboard: $*" >&2
    exit 1
}

# lock_value PART KEY: what the lock file says, for example: lock_value mqtt version
lock_value()
{
    awk -v part="\"node_modules/$1\":" -v key="\"$2\":" '
        $1 == part { inside = 1 }
        inside && $1 == key { gsub(/[",]/, "", $2); print $2; exit }
        inside && $1 ~ /^}/ { exit }' "$lock"
}

# matches FILE PART: is this the file that the lock file means?
matches()
{
    want=$(lock_value "$2" integrity)
    case $want in
        sha512-?*) ;;
        *) stop "no sha512 for $2 in $lock" ;;
    esac
    want=$(printf '%s' "${want#sha512-}" | base64 -d | od -An -v -tx1 | tr -d ' \n')
    have=$(sha512sum < "$1")
    [ "${have%% *}" = "$want" ]
}

fetch()
{
    command -v npm > /dev/null || stop "npm is needed to fetch $1-$2.tgz." \
        "Without npm or network: DASHBOARD_PARTS=DIR, a folder with mqtt-*.tgz and uplot-*.tgz."
    mkdir -p "$cache"
    echo "dashboard: fetching $1 $2"
    got=$(mktemp -d "$cache/.fetch.XXXXXX")
    (cd "$got" && npm pack --silent --ignore-scripts "$1@$2" > /dev/null) ||
        { rm -rf "$got"; stop "npm could not fetch $1 $2."; }
    mv "$got/$1-$2.tgz" "$cache/"
    rm -rf "$got"
}

# part_file PART: prints the path of the checked tarball
part_file()
{
    version=$(lock_value "$1" version)
    [ -n "$version" ] || stop "no version of $1 in $lock"
    if [ -n "${DASHBOARD_PARTS:-}" ]; then
        [ -d "$DASHBOARD_PARTS" ] || stop "DASHBOARD_PARTS=$DASHBOARD_PARTS is not a folder."
        folder=$DASHBOARD_PARTS
    else
        folder=$cache
        [ -f "$cache/$1-$version.tgz" ] || fetch "$1" "$version" >&2
    fi
    seen=
    for file in "$folder/$1-$version.tgz" "$folder/$1"-*.tgz; do
        [ -f "$file" ] || continue
        seen=$file
        if matches "$file" "$1"; then
            echo "$file"
            return
        fi
    done
    [ -n "$seen" ] || stop "no $1-$version.tgz in $folder."
    stop "$seen is not $1 $version as package-lock.json has it (its sha512 differs)." \
        "Delete it if it was cut short; otherwise do not trust it."
}

# unpack PART FILE...: the named files of the part's package/ folder, into $tmp/PART
unpack()
{
    part=$1
    shift
    tarball=$(part_file "$part")
    mkdir "$tmp/$part"
    for file; do
        tar -xzf "$tarball" -C "$tmp/$part" "package/$file" || stop "$tarball has no $file."
    done
}

# bundle MODULE...: one script from several, on standard output
bundle()
{
    (
        cd "$here"
        for module; do
            set -- "$@" "$module.js"
            shift
        done
        awk -f bundle.awk "$@"
    ) || stop "the modules could not be put together."
}

licences()
{
    echo "The page is part of bramble; bramble's own licence is the file LICENSE of its sources."
    echo "It brings two libraries and what these contain."
    printf '\n==== mqtt %s (mqtt.min.js)\n\n' "$(lock_value mqtt version)"
    cat "$tmp/mqtt/package/LICENSE.md"
    printf '\n==== bundled inside mqtt.min.js\n\n'
    awk '/^\/\*! Bundled license information/ { on = 1 } on { print }' "$tmp/mqtt/package/dist/mqtt.min.js"
    printf '\n==== uPlot %s (uPlot.iife.min.js, uPlot.min.css)\n\n' "$(lock_value uplot version)"
    cat "$tmp/uplot/package/LICENSE"
}

[ $# -eq 1 ] && [ -n "$1" ] || { echo "usage: build.sh OUTDIR" >&2; exit 2; }
out=${1%/}
if [ -e "$out" ] && [ ! -f "$out/app.js" ] && { [ ! -d "$out" ] || [ -n "$(ls -A "$out")" ]; }; then
    stop "$out exists and is not a page that was built before; it is left alone."
fi
mkdir -p "$(dirname "$out")"
tmp=$(mktemp -d "$(dirname "$out")/.dashboard.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

unpack mqtt dist/mqtt.min.js LICENSE.md
unpack uplot dist/uPlot.iife.min.js dist/uPlot.min.css LICENSE
page=$tmp/page
mkdir "$page"
cp "$here/index.html" "$here/style.css" "$here/icon.svg" "$page/"
{
    echo "importScripts('mqtt.min.js');"
    # shellcheck disable=SC2086 # a list of names
    bundle $worker_modules
} > "$page/worker.js"
# shellcheck disable=SC2086 # a list of names
bundle $page_modules > "$page/app.js"
cp "$tmp/mqtt/package/dist/mqtt.min.js" "$tmp/uplot/package/dist/uPlot.iife.min.js" \
    "$tmp/uplot/package/dist/uPlot.min.css" "$page/"
licences > "$page/LICENSES.txt"
chmod 644 "$page"/*
for file in "$page"/*; do
    gzip -9nc "$file" > "$file.gz"
done
chmod 755 "$page"

[ ! -e "$out" ] || mv "$out" "$tmp/old"
mv "$page" "$out"
