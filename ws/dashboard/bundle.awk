# bundle.awk: puts the page's modules into one file, so that a browser asks for one and not for nine.
#
# Each module becomes a function that returns its exports; the order on the command line must be such that a
# module comes after those it imports. Only these forms are known, one line each, and any other import or
# export stops:
#     import { a, b } from './x.js';          const { a, b } = x_js;
#     import * as x from './x.js';            const x = x_js;
#     export function f / class C / const K   the same without `export`
# Lines that hold nothing but a comment are left out. The result is a plain script, which runs even when a
# server forgets to say that it is JavaScript.

function stop(words)
{
    print "bundle.awk: " FILENAME ":" FNR ": " words | "cat 1>&2"
    failed = 1
    exit 1
}

function close_module()
{
    if (module != "")
        print (names == "" ? "" : "return { " names " };\n") "})();"
}

BEGIN { print "(() => {\n'use strict';" }

FNR == 1 {
    close_module()
    module = FILENAME
    sub(/.*\//, "", module)
    sub(/\.js$/, "_js", module)
    names = ""
    print "const " module " = (() => {"
}

/^[ \t]*\/\// || /^[ \t]*$/ { next }

/^import / {
    if (!match($0, /from '\.\/[a-z]+\.js';$/))
        stop("import of another form")
    from = substr($0, RSTART + 8, RLENGTH - 13) "_js"
    if (!(from in done))
        stop(from " is not known yet: order of the files")
    what = substr($0, 8, RSTART - 9)
    sub(/^\* as /, "", what)
    print "const " what " = " from ";"
    next
}

/^export / {
    if ($2 != "function" && $2 != "class" && $2 != "const")
        stop("export of another form")
    name = $3
    sub(/[^A-Za-z0-9_$].*/, "", name)
    names = names (names == "" ? "" : ", ") name
    sub(/^export /, "")
}

{
    done[module] = 1
    print
}

END {
    if (failed)
        exit 1
    close_module()
    print "})();"
}
