package notification

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/guard"
)

// checkURL refuses a URL that could never be called: Invalid WEBHOOK_URL_INVALID.
func checkURL(g guard.Guard, raw string) error {
	refuse := func(format string, a ...any) error {
		why := fmt.Sprintf(format, a...)
		return fault.Invalid("WEBHOOK_URL_INVALID", "webhook_endpoint.url: %s", why).
			WithField("webhook_endpoint.url", "WEBHOOK_URL_INVALID", why)
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return refuse("%q is no URL: write it as https://example.com/path", raw)
	}
	if u.User != nil {
		return refuse("carries a user name or password: the signature proves who calls, remove them")
	}
	if u.Fragment != "" {
		return refuse("has a fragment (#%s), which is never sent: remove it", u.Fragment)
	}
	host := u.Hostname()
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	literal := err == nil
	if literal && !g.Permits(ip) {
		return refuse("%s is no public address", u.Hostname())
	}
	if u.Scheme == "https" || (u.Scheme == "http" && literal && g.Allowed(ip)) {
		return nil
	}
	return refuse("the scheme is %q: use https", u.Scheme)
}
