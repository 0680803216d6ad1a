package run

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLoginsInURLs: what logs in is in no name of a server that is logged or shown, and masked in the configuration in force.
func TestLoginsInURLs(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]struct{ servers, masked string }{
		"nats://a:4222":          {"nats://a:4222", "nats://a:4222"},
		"a:4222":                 {"a:4222", "a:4222"},
		"s3cret@a":               {"a", masked},
		"nats://s3cret@a:4222":   {"nats://a:4222", "nats://xxxxx@a:4222"},
		"tls://me:s3cret@a:4222": {"tls://a:4222", "tls://me:xxxxx@a:4222"},
		"nats://me:s3cret@a, nats://you:s3cret@b:42": {"nats://a, nats://b:42", "nats://me:xxxxx@a,nats://you:xxxxx@b:42"},
		"nats://s3cret@a,nats://b,tls://s3cret@c":    {"nats://a, nats://b, tls://c", "nats://xxxxx@a,nats://b,tls://xxxxx@c"},
	} {
		require.Equal(t, want.servers, serversOf(url), url)
		require.Equal(t, want.masked, maskText("url", url), url)
	}
	require.Equal(t, "postgres://me:xxxxx@a,b:5432/x", maskText("url", "postgres://me:s3cret@a,b:5432/x"))
}
