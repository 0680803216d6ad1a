#!/bin/sh
# clean.sh CACHE OUT
# Removes what the targets made. A database folder may be a link to a place that the
# server's account can reach (see services/internal/devenv/postgres): its target goes too.
set -eu
cache=$1
out=$2
[ "$(basename "$cache")" = .cache ] || { echo "clean: $cache is no cache folder" >&2; exit 1; }
if [ -d "$cache" ]; then
	find "$cache" -maxdepth 4 -type l -lname '/var/tmp/ceralacca-*' | while read -r link; do
		rm -rf "$(readlink "$link")"
	done
fi
rm -rf "$cache" "$out"
