// Package guard keeps calls to addresses that others chose (webhooks, what certificates and lists
// point at) from reaching what only this network can reach.
//
// It owns the judgement of addresses and an HTTP client that obeys it. It refuses to judge names:
// what counts is the address that is really connected to.
package guard

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// Guard permits public addresses, and those of the networks that it was given. It looks at the
// address that is really connected to, after the name was resolved, so a name that resolves to
// something else later gains nothing. The zero value permits public addresses only.
type Guard struct{ allow []netip.Prefix }

// New opens networks (CIDR, such as 127.0.0.0/8) that are not public.
func New(networks []string) (Guard, error) {
	var g Guard
	for _, s := range networks {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return Guard{}, fmt.Errorf("guard: network %q: %w", s, err)
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

// Allowed tells whether the configuration opens this address although it is not public.
func (g Guard) Allowed(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	for _, p := range g.allow {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// Permits tells whether an address may be connected to.
func (g Guard) Permits(ip netip.Addr) bool {
	if g.Allowed(ip) {
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

// ErrNotPublic ends an attempt to connect to an address that Permits refuses.
var ErrNotPublic = errors.New("which is no public address")

// control refuses a connection before its first packet.
func (g Guard) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q cannot be read: %w", address, err)
	}
	if !g.Permits(ap.Addr()) {
		return fmt.Errorf("the name resolves to %s, %w", ap.Addr(), ErrNotPublic)
	}
	return nil
}

// Dialer connects to permitted addresses only, for protocols other than HTTP.
func (g Guard) Dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, Control: g.control}
}

// Client calls without proxy, redirect or cookie; timeout is for the answer's head. A redirect is
// given to the caller as the answer that it is.
func (g Guard) Client(timeout time.Duration) *http.Client {
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
