#!/bin/sh
# build_test.sh PARTS: ws/dashboard/build.sh, without a network. PARTS holds the tarballs of the parts (made
# by an earlier build: build/dashboard-parts). Prints "N passed, N failed"; exits 1 when one failed.

set -u
top=$(cd "$(dirname "$0")/../../.." && pwd)
parts=$(cd "${1:-$top/build/dashboard-parts}" && pwd) || exit 2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0
failed=0

# No npm: a build that asks for it fails here.
mkdir "$tmp/bin"
printf '#!/bin/sh\necho "npm was called" >&2\nexit 1\n' > "$tmp/bin/npm"
chmod +x "$tmp/bin/npm"
PATH=$tmp/bin:$PATH

verdict()
{
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok   $1"
    else
        failed=$((failed + 1))
        echo "FAIL $1"
        sed 's/^/     /' "$tmp/log"
    fi
}

build()
{
    DASHBOARD_PARTS=$1 sh "$top/ws/dashboard/build.sh" "$2" > "$tmp/log" 2>&1
}

# refused WORDS PARTS OUTDIR: the build stops, says so, and leaves OUTDIR and its surroundings as they were
refused()
{
    before=$(ls -AR "$tmp/out")
    if build "$2" "$3"; then
        return 1
    fi
    grep -q "$1" "$tmp/log" && [ "$before" = "$(ls -AR "$tmp/out")" ]
}

mkdir "$tmp/out"
build "$parts" "$tmp/out/a" && build "$parts" "$tmp/out/b" && diff -r "$tmp/out/a" "$tmp/out/b" >> "$tmp/log"
verdict "two builds are the same, byte for byte" $?

all=0
for file in index.html app.js worker.js style.css icon.svg mqtt.min.js uPlot.iife.min.js uPlot.min.css \
    LICENSES.txt; do
    gzip -dc "$tmp/out/a/$file.gz" | cmp -s - "$tmp/out/a/$file" || { echo "$file" >> "$tmp/log"; all=1; }
done
verdict "every file is there, with its .gz" $all

! cat "$tmp/out/a/index.html" "$tmp/out/a/app.js" "$tmp/out/a/worker.js" "$tmp/out/a/style.css" |
    grep -Eo 'https?://[a-z0-9.]+' | grep -v '^http://www\.w3\.org$' > "$tmp/log" &&
    ! grep '"resolved"' "$top/ws/dashboard/package-lock.json" "$top/test/interop/package-lock.json" > "$tmp/log"
verdict "nothing is loaded from elsewhere, and no lock file holds an address" $?

! cat "$tmp/out/a/app.js" "$tmp/out/a/worker.js" |
    grep -E 'innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function' > "$tmp/log" &&
    ! grep -Eq '<script>|<style|style=| on[a-z]+=' "$tmp/out/a/index.html"
verdict "nothing inline, no way from text to markup" $?

ls -A "$tmp/out" > "$tmp/log"
build "$parts" "$tmp/out/a" && [ "$(ls -A "$tmp/out" | tr '\n' ' ')" = "a b " ]
verdict "building again replaces the page and leaves no temporary folder" $?

cp -r "$parts" "$tmp/bad"
for file in "$tmp/bad"/uplot-*.tgz; do
    printf 'x' >> "$file"
done
refused "sha512 differs" "$tmp/bad" "$tmp/out/a"
verdict "a part that was changed stops the build" $?

rm "$tmp/bad"/uplot-*.tgz
refused "no uplot-.*tgz in" "$tmp/bad" "$tmp/out/a"
verdict "a missing part stops the build" $?

refused "is not a folder" "$tmp/nowhere" "$tmp/out/a"
verdict "a missing folder of parts stops the build" $?

mkdir "$tmp/out/mine"
echo precious > "$tmp/out/mine/file"
refused "left alone" "$parts" "$tmp/out/mine"
verdict "a folder that is not ours is left alone" $?

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
