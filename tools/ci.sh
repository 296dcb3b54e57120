#!/usr/bin/env bash
# Every verb CI runs, in order. One that fails does not hide the others; the exit status counts them all,
# and the runners' own closing lines stand at the end.
set -uo pipefail
cd "$(dirname "$0")/.."

steps=(lint test test-fallback test-root test-interop test-wheel demo "fuzz SECONDS=6" bench-smoke gates
    bench-macro-smoke docs)
failed=()
report=
mkdir -p target/logs
rm -f target/logs/*.log

for step in "${steps[@]}"; do
    echo "=== make $step"
    begin=$SECONDS
    # shellcheck disable=SC2086 # a step is a verb with its settings
    if env -u MAKEFLAGS -u MAKELEVEL make $step; then outcome=ok; else outcome=FAILED; failed+=("$step"); fi
    report+="$(printf '%-20s %-7s %4d s' "$step" "$outcome" $((SECONDS - begin)))"$'\n'
    echo "--- make $step: $outcome after $((SECONDS - begin)) s"
done

echo "=== summary"
printf '%s' "$report"
logs=()
for name in rust python fallback root interop wheel bench; do
    [ ! -f "target/logs/$name.log" ] || logs+=("target/logs/$name.log")
done
.venv/bin/python tools/summary.py "${logs[@]}" || failed+=(summary)
if [ ${#failed[@]} -gt 0 ]; then
    echo "ci: FAILED: ${failed[*]}"
    exit 1
fi
echo "ci: ok"
