#!/bin/sh
# clean.sh CACHE OUT
# Removes what the targets made. A database folder may be a link to a place that the
# server's account can reach (see services/internal/devenv/postgres): its target goes too.
set -eu
cache=$1
out=$2
[ "$(basename "$cache")" = .cache ] || { echo "clean: $cache is no cache folder" >&2; exit 1; }
for link in "$cache"/*; do
	[ -L "$link" ] || continue
	target=$(readlink "$link")
	case $target in
	/var/tmp/ceralacca-*) rm -rf "$target" ;;
	esac
done
rm -rf "$cache" "$out"
