package notification

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/guard"
)

func TestCheckURL(t *testing.T) {
	g, err := guard.New([]string{"127.0.0.0/8"})
	require.NoError(t, err)
	for _, good := range []string{"https://example.com/hook?x=1", "https://example.com:8443", "http://127.0.0.1:9/x", "http://localhost:9/x", "https://[2606:4700::1111]/"} {
		require.NoError(t, checkURL(g, good), good)
	}
	for bad, says := range map[string]string{
		"http://example.com/":              "use https",
		"ftp://example.com/":               "use https",
		"https://user:word@example.com/":   "user name or password",
		"https://example.com/#x":           "fragment",
		"https://10.0.0.1/":                "no public address",
		"https://[::1]/":                   "no public address",
		"https://169.254.169.254/latest":   "no public address",
		"https:///path":                    "no URL",
		"example.com":                      "no URL",
		"http://10.0.0.1/":                 "no public address",
		"https://exa mple.com/":            "no URL",
		"gopher://127.0.0.1:11211/_set%20": "use https",
	} {
		f := fault.Of(checkURL(g, bad))
		require.NotNil(t, f, bad)
		require.Equal(t, "WEBHOOK_URL_INVALID", f.Code, bad)
		require.Contains(t, f.Message, says, bad)
		require.Equal(t, "webhook_endpoint.url", f.Fields[0].Path)
	}
}

func FuzzCheckURL(f *testing.F) {
	for _, s := range []string{"https://example.com", "http://[::ffff:127.0.0.1]:80/", "https://127.1/", "https://0x7f.1/", "https://example.com\x00", "//x", "https://%31%30.0.0.1/"} {
		f.Add(s)
	}
	g, err := guard.New(nil)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, s string) {
		err := checkURL(g, s)
		if err != nil && fault.Of(err).Code != "WEBHOOK_URL_INVALID" {
			t.Fatalf("%q: %v", s, err)
		}
		if err == nil && !strings.HasPrefix(strings.ToLower(s), "https:") {
			t.Fatalf("%q passes", s)
		}
	})
}
