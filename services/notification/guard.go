package notification

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"ceralacca.dev/services/internal/fault"
)

// guard keeps webhooks from reaching what only this network can reach. It looks at the address that
// is really connected to, after the name was resolved, so a name that resolves to something else
// later gains nothing.
type guard struct{ allow []netip.Prefix }

func newGuard(networks []string) (guard, error) {
	var g guard
	for _, s := range networks {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return guard{}, fmt.Errorf("notification: network %q: %w", s, err)
		}
		g.allow = append(g.allow, p)
	}
	return g, nil
}

// notPublic are the ranges that netip does not already tell apart.
//
// spec: IANA IPv4 and IPv6 Special-Purpose Address Registries, not globally reachable; with the
// translation prefixes, which reach IPv4 addresses of any kind
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("3fff::/20"), netip.MustParsePrefix("5f00::/16"),
	netip.MustParsePrefix("fec0::/10"),
}

// allowed tells whether the configuration opens this address although it is not public.
func (g guard) allowed(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	for _, p := range g.allow {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

func (g guard) permits(ip netip.Addr) bool {
	if g.allowed(ip) {
		return true
	}
	ip = ip.Unmap().WithZone("")
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

// control refuses a connection before its first packet.
func (g guard) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q cannot be read: %w", address, err)
	}
	if !g.permits(ap.Addr()) {
		return fmt.Errorf("the name resolves to %s, which is no public address", ap.Addr())
	}
	return nil
}

// client posts without proxy, redirect or cookie.
func (g guard) client(timeout time.Duration) *http.Client {
	dialer := &net.Dialer{Timeout: min(timeout, 10*time.Second), Control: g.control}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, address)
			},
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    min(timeout, 10*time.Second),
			ResponseHeaderTimeout:  timeout,
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConnsPerHost:    4,
			IdleConnTimeout:        30 * time.Second,
			ForceAttemptHTTP2:      true,
		},
	}
}

// checkURL refuses a URL that could never be called: Invalid WEBHOOK_URL_INVALID.
func (g guard) checkURL(raw string) error {
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
	if literal && !g.permits(ip) {
		return refuse("%s is no public address", u.Hostname())
	}
	if u.Scheme == "https" || (u.Scheme == "http" && literal && g.allowed(ip)) {
		return nil
	}
	return refuse("the scheme is %q: use https", u.Scheme)
}
