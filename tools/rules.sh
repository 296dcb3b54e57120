#!/usr/bin/env bash
# Rules of the architecture that no compiler keeps. One line per breach, exit 1 if there is any.
# Then, for information, the ten largest files: at some 500 lines look for the second noun inside.
set -uo pipefail
cd "$(dirname "$0")/.."
bad=0

code() { # code lines of Rust sources below the given folders, as path:line:text; no comments, no tests
    grep -rnE --include='*.rs' '' "$@" 2>/dev/null | grep -vE '^[^:]*/tests(\.rs|/)|^[^:]*:[0-9]+:\s*//'
}
forbid() { # forbid REASON, breaches on stdin
    local found
    found=$(cat)
    [ -z "$found" ] && return
    bad=1
    echo "rule: $1"
    echo "$found" | cut -c1-160 | sed 's/^/  /'
}

{ code rust/mesh/src rust/hbone/src rust/proxy/src | grep -E '\bpyo3\b|\bPy<|\bPython<'
  grep -nE '^pyo3\b' rust/{mesh,hbone,proxy}/Cargo.toml; } |
    forbid "only rust/bindings knows Python, and Rust never calls it"

code rust/*/src | grep -E '\bstd::env\b|\benv::(var|vars|args|current_dir|temp_dir|home_dir)\b' |
    forbid "Rust reads no environment: knobs arrive in settings"

code rust/*/src | grep -E '\bunsafe\b' | grep -vE '^rust/proxy/src/sys(\.rs|/)' |
    forbid "unsafe lives under rust/proxy/src/sys"

code rust/*/src | grep -E '\b(rustls|webpki|rcgen|x509_parser|aws_lc_rs|ring)::' | grep -vE '^rust/proxy/src/tls(\.rs|/)' |
    forbid "rust/proxy/src/tls is the one folder that names TLS types"

code rust/*/src | grep -E '\bprost\b' | grep -vE '^rust/mesh/src/decode/protobuf(\.rs|/)' |
    forbid "the messages of the wire stop at rust/mesh/src/decode/protobuf"

code rust/proxy/src | grep -E '\btask::(\{[^}]*)?spawn_local\b' | grep -vE '^rust/proxy/src/tasks\.rs' |
    forbid "tasks of a worker begin in rust/proxy/src/tasks.rs, which counts them"

code rust/mesh/src rust/hbone/src | grep -E '\btokio\b|\bstd::(net::(Tcp|Udp)|thread|fs|time::(Instant|SystemTime))' |
    forbid "mesh and hbone have no sockets, threads, files or clock"

git ls-files -z -- '*.py' '*.pyi' '*.rs' '*.toml' '*.md' '*.sh' '*.yaml' Makefile .ci 2>/dev/null |
    xargs -0 grep -nE '(^|[^A-Za-z0-9_.])/(root|home/[a-z]+)/' /dev/null | grep -v '^tools/rules.sh:' |
    forbid "no path of one person's machine in the tree"

echo "ten largest files:"
{ git ls-files -z -- '*.rs' '*.py' '*.pyi' 2>/dev/null || find rust python tests bench tools -name '*.rs' -o -name '*.py' -print0; } |
    xargs -0 wc -l | grep -v ' total$' | sort -rn | head -10
exit $bad
