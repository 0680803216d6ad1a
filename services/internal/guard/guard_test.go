package guard_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/guard"
)

func TestGuardPermitsPublicAddressesOnly(t *testing.T) {
	g, err := guard.New(nil)
	require.NoError(t, err)
	for _, ip := range []string{"127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
		"169.254.169.254", "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "240.0.0.1",
		"255.255.255.255", "::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "fe80::1", "fe80::1%lo", "fc00::1", "fd12::1", "fec0::1",
		"ff02::1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::1", "2001:0:1::1", "2001:db8::1", "100::1", "3fff::1"} {
		require.False(t, g.Permits(netip.MustParseAddr(ip)), ip)
	}
	for _, ip := range []string{"1.1.1.1", "8.8.8.8", "172.32.0.1", "193.205.1.1", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8"} {
		require.True(t, g.Permits(netip.MustParseAddr(ip)), ip)
	}
	g, err = guard.New([]string{"10.1.0.0/16", "fd12::/16"})
	require.NoError(t, err)
	require.True(t, g.Permits(netip.MustParseAddr("10.1.2.3")))
	require.True(t, g.Permits(netip.MustParseAddr("::ffff:10.1.2.3")))
	require.True(t, g.Permits(netip.MustParseAddr("fd12::9")))
	require.False(t, g.Permits(netip.MustParseAddr("10.2.0.1")))
}

// A name is judged by the address that is connected to, so a server on this machine gets no byte.
func TestGuardLooksAtTheConnectedAddress(t *testing.T) {
	reached := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer server.Close()
	g, err := guard.New(nil)
	require.NoError(t, err)
	for _, address := range []string{server.URL, strings.Replace(server.URL, "127.0.0.1", "localhost", 1)} {
		resp, err := g.Client(5*time.Second).Post(address, "application/json", strings.NewReader("{}"))
		if err == nil {
			resp.Body.Close()
		}
		require.ErrorContains(t, err, "is no public address", address)
	}
	require.False(t, reached)

	open, err := guard.New([]string{"127.0.0.0/8"})
	require.NoError(t, err)
	resp, err := open.Client(5*time.Second).Post(server.URL, "application/json", strings.NewReader("{}"))
	require.NoError(t, err)
	resp.Body.Close()
	require.True(t, reached)
}
