// Package s3test runs the conformance suite of blob stores against a real
// S3-compatible server, versitygw, built from its Go module into .cache/bin on
// first use (about a minute). The tests carry the build tag s3, because of that
// build: `make test-s3`, part of `make test-all`, or
//
//	go test -tags s3 ./internal/blob/s3test
package s3test
