#!/bin/sh
# checkgen.sh COMMAND...
# Runs the generators and fails if they change, add or drop a generated file. It looks
# at the files rather than at git, so it also tells the truth on a work tree in progress.
set -eu
before=$(mktemp)
after=$(mktemp)
trap 'rm -f "$before" "$after"' EXIT
sums() {
	find proto/gen services -type f \( -path 'proto/gen/*.go' -o -path '*/internal/db/*.go' -o -path '*/internal/run/*.json' \) \
		-exec sha256sum {} + | sort -k 2
}
sums >"$before"
"$@"
sums >"$after"
if ! diff "$before" "$after" >/dev/null; then
	echo "generated code was not current; run make gen and commit:" >&2
	diff "$before" "$after" | awk '/^[<>]/ { print "  " $3 }' | sort -u >&2
	exit 1
fi
echo "generated code: current"
