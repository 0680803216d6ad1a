#!/bin/sh
# Names the packages in which golangci-lint does not look at every file, for go vet to look at. Its govet runs
# all analyzers of go vet (and one more), over tests too, but it is silent about generated files, and it sees
# none that its build tags (.golangci.yml) leave out.
set -eu
cd "$(dirname "$0")/.."
git grep --untracked -l -E '^//go:build .*!(soak|s3)|^// Code generated .* DO NOT EDIT' -- 'proto/*.go' 'migrations/*.go' 'services/*.go' 'tests/*.go' |
	xargs -n 1 dirname | sort -u | sed 's,^,./,'
