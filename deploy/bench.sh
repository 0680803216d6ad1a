#!/bin/sh
# bench.sh AREA [WORDS...]
# Runs the measurement of one area: `pipeline` is the load program or benchmark of
# tests/load, `sdi` the way to SdI through the gateway, `pec` the figures of certified mail (the library's, then the
# gateway's on Dovecot; a part of them: -bench Report/firstreading -messages 20000), `conservation` the archive's (a part of it: -bench Report/search -documents 10000000), any other area a package of services with benchmarks.
set -eu
area=$1
shift
# What is measured with databases is on a disk, also where tests have it in memory.
case $area in pec | conservation) export TMPDIR="${TMPDIR:-/tmp}" ;; esac
if [ "$area" = pec ]; then
	cd services
	case " $* " in
	*" -bench "*) ;; # a part of the gateway's
	*) go test -run '^$' -bench '^BenchmarkReport$' -benchtime 1x -timeout 10m ./format/pec ;;
	esac
	exec ../.cache/bin/devenv with-postgres go test -run '^$' -bench '^BenchmarkReport$' -benchtime 1x -timeout 60m ./pec-gateway "$@"
fi
if [ "$area" = conservation ]; then
	cd services
	exec ../.cache/bin/devenv with-postgres go test -run '^$' -bench '^BenchmarkReport$' -benchtime 1x -timeout 60m ./conservation "$@"
fi
for dir in $([ "$area" = pipeline ] && echo tests/load) $([ "$area" = sdi ] && echo services/sdi-gateway) "services/format/$area" "services/$area" "services/internal/$area"; do
	[ -d "$dir" ] || continue
	cd "$dir"
	if [ "$(go list -f '{{.Name}}' .)" = main ]; then
		exec go run . "$@"
	fi
	exec go test -run '^$' -bench . -benchmem -timeout 30m "$@" ./...
done
echo "bench: there is no area '$area'; areas: pipeline$(cd services && grep -lrs --include='*_test.go' '^func Benchmark' . |
	xargs -r -n 1 dirname | xargs -r -n 1 basename | sort -u | sed 's/^/, /' | tr -d '\n')" >&2
exit 2
