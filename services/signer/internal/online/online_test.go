package online

import (
	"crypto/rand"
	"crypto/x509"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/internal/guard"
)

// web is an authority's web server: /ocsp, /crl and what a test adds.
type web struct {
	*httptest.Server
	t     *testing.T
	pki   *cmstest.PKI
	now   time.Time
	asked atomic.Int64
	extra map[string]http.HandlerFunc
	state int // of every certificate, by OCSP
	by    *cmstest.PKI
	next  time.Time
}

func newWeb(t *testing.T) *web {
	t.Helper()
	pki := cmstest.New(t)
	w := &web{t: t, pki: pki, by: pki, now: cmstest.Now, next: cmstest.Now.Add(time.Hour), extra: map[string]http.HandlerFunc{}, state: ocsp.Good}
	w.Server = httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.Close)
	return w
}

func (w *web) serve(out http.ResponseWriter, in *http.Request) {
	w.asked.Add(1)
	switch h := w.extra[in.URL.Path]; {
	case h != nil:
		h(out, in)
	case in.URL.Path == "/ocsp":
		body, err := io.ReadAll(in.Body)
		if err != nil || in.Header.Get("Content-Type") != "application/ocsp-request" {
			out.WriteHeader(http.StatusBadRequest)
			return
		}
		q, err := ocsp.ParseRequest(body)
		if err != nil {
			out.WriteHeader(http.StatusBadRequest)
			return
		}
		der, err := ocsp.CreateResponse(w.by.Root, w.by.Root, ocsp.Response{Status: w.state, SerialNumber: q.SerialNumber, ThisUpdate: w.now, NextUpdate: w.next, RevokedAt: w.now}, w.by.Key)
		if err == nil {
			_, _ = out.Write(der)
		}
	case in.URL.Path == "/crl":
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: w.next.Add(-time.Hour), NextUpdate: w.next}, w.by.Root, w.by.Key)
		if err == nil {
			_, _ = out.Write(der)
		}
	default:
		out.WriteHeader(http.StatusNotFound)
	}
}

// cert names addresses, of which those that begin with / are this server's.
func (w *web) cert(responders, lists []string) *x509.Certificate {
	w.t.Helper()
	whole := func(list []string) (out []string) {
		for _, a := range list {
			if strings.HasPrefix(a, "/") {
				a = w.URL + a
			}
			out = append(out, a)
		}
		return out
	}
	return w.pki.Issue(w.t, "Maria Rossi", cmstest.NewECDSA(w.t), func(c *x509.Certificate) {
		c.OCSPServer, c.CRLDistributionPoints = whole(responders), whole(lists)
	}).Cert
}

func (w *web) client(networks ...string) *Client {
	w.t.Helper()
	g, err := guard.New(networks)
	require.NoError(w.t, err)
	return New(Config{Guard: g, Timeout: 5 * time.Second, MaxCRL: 1 << 20, MaxList: 4 << 20, Memory: 1 << 20, Now: func() time.Time { return w.now }})
}

const loopback = "127.0.0.0/8"

func TestAskGetsWhatIsVerifiedAndRemembersIt(t *testing.T) {
	w := newWeb(t)
	c := w.client(loopback)
	both := w.cert([]string{"/ocsp"}, []string{"/crl"})
	for range 3 {
		e, err := c.Ask(8)(t.Context(), both, w.pki.Root)
		require.NoError(t, err)
		require.Len(t, e.OCSPs, 1)
		require.Empty(t, e.CRLs, "the responder is enough")
	}
	require.Equal(t, int64(1), w.asked.Load(), "the same question goes out once")

	listed := w.cert([]string{"/nothing"}, []string{"/crl"})
	e, err := c.Ask(8)(t.Context(), listed, w.pki.Root)
	require.NoError(t, err)
	require.Len(t, e.CRLs, 1)
	require.Equal(t, int64(3), w.asked.Load())

	w.now = w.now.Add(2 * time.Hour) // what is remembered is over, and what comes is too
	_, err = c.Ask(8)(t.Context(), both, w.pki.Root)
	require.ErrorContains(t, err, "was good until")
	w.next = w.now.Add(time.Hour)
	w.now = w.now.Add(again)
	e, err = c.Ask(8)(t.Context(), both, w.pki.Root)
	require.NoError(t, err)
	require.Len(t, e.OCSPs, 1)
}

// TestAskFailsClosed: whatever is wrong, there is an error that says so and no evidence.
func TestAskFailsClosed(t *testing.T) {
	w := newWeb(t)
	stranger := cmstest.New(t)
	blocked := make(chan struct{})
	t.Cleanup(func() { close(blocked) })
	w.extra["/big"] = func(out http.ResponseWriter, _ *http.Request) { _, _ = out.Write(make([]byte, 2<<20)) }
	w.extra["/rubbish"] = func(out http.ResponseWriter, _ *http.Request) { _, _ = out.Write([]byte("0\x82hello")) }
	w.extra["/loop"] = func(out http.ResponseWriter, in *http.Request) { http.Redirect(out, in, "/loop", http.StatusFound) }
	w.extra["/to-file"] = func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Location", "file:///etc/passwd")
		out.WriteHeader(http.StatusFound)
	}
	w.extra["/to-inside"] = func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Location", "http://10.0.0.1/crl")
		out.WriteHeader(http.StatusFound)
	}
	w.extra["/hangs"] = func(_ http.ResponseWriter, in *http.Request) {
		select {
		case <-in.Context().Done():
		case <-blocked:
		}
	}
	for name, c := range map[string]struct {
		responders, lists []string
		networks          []string
		change            func(*web)
		want              string
	}{
		"no addresses":          {want: "names no OCSP responder"},
		"not public":            {lists: []string{"/crl"}, networks: []string{"192.0.2.0/24"}, want: "no public address"},
		"a file":                {lists: []string{"file:///etc/passwd"}, want: "only http and https"},
		"LDAP":                  {lists: []string{"ldap://127.0.0.1/cn=x"}, want: "only http and https"},
		"user name":             {lists: []string{"http://me:word@127.0.0.1/crl"}, want: "user name"},
		"too long":              {lists: []string{"http://127.0.0.1/" + strings.Repeat("x", maxAddress)}, want: "is not called"},
		"no host":               {lists: []string{"http:///crl"}, want: "no address that can be called"},
		"not there":             {lists: []string{"/none"}, want: "404"},
		"too large":             {lists: []string{"/big"}, want: "limit"},
		"rubbish":               {lists: []string{"/rubbish"}, want: "revocation list"},
		"rubbish response":      {responders: []string{"/rubbish"}, want: "response"},
		"redirects without end": {lists: []string{"/loop"}, want: "redirects"},
		"redirect to a file":    {lists: []string{"/to-file"}, want: "only http and https"},
		"redirect inside":       {lists: []string{"/to-inside"}, want: "no public address"},
		"no answer":             {lists: []string{"/hangs"}, want: "deadline"},
		"list of another":       {lists: []string{"/crl"}, change: func(w *web) { w.by = stranger }, want: "not signed by the issuer"},
		"response of another":   {responders: []string{"/ocsp"}, change: func(w *web) { w.by = stranger }, want: "response"},
		"list that is over":     {lists: []string{"/crl"}, change: func(w *web) { w.next = w.now.Add(-time.Minute) }, want: "was good until"},
		"not known":             {responders: []string{"/ocsp"}, change: func(w *web) { w.state = ocsp.Unknown }, want: "does not know"},
	} {
		t.Run(name, func(t *testing.T) {
			w.by, w.next, w.state = w.pki, w.now.Add(time.Hour), ocsp.Good
			if c.change != nil {
				c.change(w)
			}
			networks := c.networks
			if networks == nil {
				networks = []string{loopback}
			}
			client := w.client(networks...)
			if name == "no answer" {
				client.cfg.Timeout = 50 * time.Millisecond
			}
			e, err := client.Ask(8)(t.Context(), w.cert(c.responders, c.lists), w.pki.Root)
			require.ErrorContains(t, err, c.want)
			require.Empty(t, e.CRLs)
			require.Empty(t, e.OCSPs)
		})
	}
}

func TestAskIsBounded(t *testing.T) {
	w := newWeb(t)
	ask := w.client(loopback).Ask(3)
	for i := range 6 {
		_, err := ask(t.Context(), w.cert(nil, []string{"/none"}), w.pki.Root)
		require.Error(t, err, i)
		if i > 0 {
			require.Equal(t, int64(1), w.asked.Load(), "an address that failed is left alone for a moment")
		}
	}
	for i := range 6 {
		_, err := ask(t.Context(), w.cert([]string{"/ocsp"}, nil), w.pki.Root)
		if i < 2 {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, "more than 3 questions")
		}
	}
	require.Equal(t, int64(3), w.asked.Load())
}

func TestCacheIsBounded(t *testing.T) {
	now := cmstest.Now
	c := newCache(2000, func() time.Time { return now })
	for i := range 50 {
		c.put(strings.Repeat("k", i+1), i, 100, now.Add(time.Hour))
		require.LessOrEqual(t, c.held, 2000)
	}
	_, ok := c.get("k")
	require.False(t, ok, "the oldest is gone")
	v, ok := c.get(strings.Repeat("k", 50))
	require.True(t, ok)
	require.Equal(t, 49, v)
	c.put("huge", 1, 5000, now.Add(time.Hour))
	_, ok = c.get("huge")
	require.False(t, ok)
	now = now.Add(2 * time.Hour)
	_, ok = c.get(strings.Repeat("k", 50))
	require.False(t, ok)
}
