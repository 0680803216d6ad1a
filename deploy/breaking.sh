#!/bin/sh
# breaking.sh [REVISION]
# Compares the contracts of the work tree with those of an earlier revision: the one
# given, else the last release tag, else the commit that changed them last before HEAD.
# Needs BUF (the program) and CACHE (a folder).
set -eu
base=${1:-$(git describe --tags --abbrev=0 2>/dev/null || git log -1 --format=%H HEAD~ -- proto 2>/dev/null || true)}
if [ -z "$base" ] || ! git cat-file -e "$base:proto/buf.yaml" 2>/dev/null; then
	echo "buf breaking: no earlier contracts to compare with"
	exit 0
fi
old=$CACHE/proto-base
rm -rf "$old"
mkdir -p "$old"
git archive "$base" proto | tar -x -C "$old"
cp -R proto/.deps "$old/proto/.deps"
"$BUF" breaking proto --against "$old/proto"
