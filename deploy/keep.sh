#!/bin/sh
# keep.sh FILE PROGRAM
# For `go run -exec`: copies the program that go run has linked to FILE instead of running it. Unlike go build
# and go install, go run finds a program that it has linked before in the build cache, also from another
# checkout.
set -eu
cp "$2" "$1.new"
mv "$1.new" "$1"
