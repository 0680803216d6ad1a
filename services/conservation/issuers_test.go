package conservation

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"ceralacca.dev/services/format/revocation"
	"ceralacca.dev/services/format/validation"
)

// issuing is an authority of certificates that a test makes as it likes: all are of one key, and in force while the test runs.
type issuing struct {
	key  *ecdsa.PrivateKey
	root *x509.Certificate
	now  time.Time
}

func newIssuing(t testing.TB) *issuing {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a := &issuing{key: key, now: time.Now()}
	top := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "top"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	a.root = top
	a.root = a.issue(t, top)
	return a
}

// issue signs a certificate that names its lists and responders.
func (a *issuing) issue(t testing.TB, c *x509.Certificate) *x509.Certificate {
	t.Helper()
	c.NotBefore, c.NotAfter = a.now.AddDate(0, -1, 0), a.now.AddDate(0, 1, 0)
	der, err := x509.CreateCertificate(rand.Reader, c, a.root, a.key.Public(), a.key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert
}

// TestRespondersAreAsked: where a certificate names no list its responder is asked (RFC 6960), and what is no answer about that
// certificate is noted and not kept.
func TestRespondersAreAsked(t *testing.T) {
	t.Parallel()
	a := newIssuing(t)
	now, key, root := a.now, a.key, a.root
	answer := ocsp.Response{SerialNumber: big.NewInt(7), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Minute)}
	signed := func(change func(*ocsp.Response)) []byte {
		a := answer
		change(&a)
		raw, err := ocsp.CreateResponse(root, root, a, key)
		require.NoError(t, err)
		return raw
	}
	for name, c := range map[string]struct {
		status int
		body   []byte
		lacks  string // empty: it is kept
	}{
		"good":    {http.StatusOK, signed(func(a *ocsp.Response) { a.Status = ocsp.Good }), ""},
		"revoked": {http.StatusOK, signed(func(a *ocsp.Response) { a.Status, a.RevokedAt = ocsp.Revoked, now.Add(-time.Minute) }), ""},
		"unknown": {http.StatusOK, signed(func(a *ocsp.Response) { a.Status = ocsp.Unknown }), "says nothing of this certificate"},
		"too old": {http.StatusOK, signed(func(a *ocsp.Response) {
			a.Status, a.ThisUpdate, a.NextUpdate = ocsp.Good, now.Add(-time.Hour), now.Add(-30*time.Minute)
		}), "says nothing of this certificate"},
		"of another":    {http.StatusOK, signed(func(a *ocsp.Response) { a.SerialNumber = big.NewInt(8) }), "OCSP: "},
		"no answer":     {http.StatusOK, []byte("<html>"), "OCSP: "},
		"nothing":       {http.StatusOK, nil, "OCSP: "},
		"broken server": {http.StatusBadGateway, nil, "502"},
		"endless":       {http.StatusOK, make([]byte, revocationOCSP+1), "larger than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				raw, err := io.ReadAll(r.Body)
				if err == nil {
					_, err = ocsp.ParseRequest(raw)
				}
				if err != nil || r.Header.Get("Content-Type") != "application/ocsp-request" {
					http.Error(w, "no question", http.StatusBadRequest)
					return
				}
				w.WriteHeader(c.status)
				_, _ = w.Write(c.body)
			}))
			t.Cleanup(srv.Close)
			leaf := a.issue(t, &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "leaf"}, OCSPServer: []string{srv.URL}})
			cfg := defaultRevocation()
			cfg.AllowNetworks = []string{"127.0.0.0/8"}
			ask, err := newIssuers(cfg, func() time.Time { return now }) // the answers were made for then, and subtests wait for their turn
			require.NoError(t, err)
			said, _ := ask.chain(t.Context(), []*x509.Certificate{leaf, root})
			if c.lacks != "" {
				require.Empty(t, said.OCSPs)
				require.Len(t, said.Lacks, 1)
				require.Contains(t, said.Lacks[0], c.lacks)
				return
			}
			require.Empty(t, said.Lacks)
			e, err := revocation.Read(said.Files()[revocation.Lists], said.Files()[revocation.Answers])
			require.NoError(t, err)
			_, revoked := revocation.Revoked(revocation.Judge([]*x509.Certificate{leaf, root}, e, now), now)
			require.Equal(t, name == "revoked", revoked)
		})
	}
}

// TestOldListsAreNoAnswer: a server goes on giving out a list that was to be replaced. It is not kept, where other programs would take it
// for a good word, and the responder is asked; of one that names the certificate its age does not matter.
func TestOldListsAreNoAnswer(t *testing.T) {
	t.Parallel()
	a := newIssuing(t)
	now, key, root := a.now, a.key, a.root
	list := func(age time.Duration, revoked ...x509.RevocationListEntry) []byte {
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-age), NextUpdate: now.Add(-age).Add(24 * time.Hour), RevokedCertificateEntries: revoked}, root, key)
		require.NoError(t, err)
		return der
	}
	gone := x509.RevocationListEntry{SerialNumber: big.NewInt(7), RevocationTime: now.AddDate(0, 0, -3)}
	old := 48 * time.Hour
	for name, c := range map[string]struct {
		list          []byte
		responder     bool
		lists, others int
		lacks         string
	}{
		"fresh":                     {list(time.Hour), true, 1, 0, ""},
		"old, and a responder":      {list(old), true, 0, 1, ""},
		"old, and nobody else":      {list(old), false, 0, 0, "it is too old, or of others"},
		"old, and names it revoked": {list(old, gone), true, 1, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			mux.HandleFunc("/list", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(c.list) })
			mux.HandleFunc("/responder", func(w http.ResponseWriter, _ *http.Request) {
				raw, err := ocsp.CreateResponse(root, root, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(7), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour)}, key)
				if err == nil {
					_, _ = w.Write(raw)
				}
			})
			srv := httptest.NewServer(mux)
			t.Cleanup(srv.Close)
			leaf := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "leaf"}, CRLDistributionPoints: []string{srv.URL + "/list"}}
			if c.responder {
				leaf.OCSPServer = []string{srv.URL + "/responder"}
			}
			cfg := defaultRevocation()
			cfg.AllowNetworks = []string{"127.0.0.0/8"}
			ask, err := newIssuers(cfg, time.Now)
			require.NoError(t, err)
			said, _ := ask.chain(t.Context(), []*x509.Certificate{a.issue(t, leaf), root})
			require.Len(t, said.CRLs, c.lists)
			require.Len(t, said.OCSPs, c.others)
			if c.lacks == "" {
				require.Empty(t, said.Lacks)
				return
			}
			require.Len(t, said.Lacks, 1)
			require.Contains(t, said.Lacks[0], c.lacks)
		})
	}
}

// TestAskedOnceWhileItMayBeReused: a list and an answer are fetched once by all who ask, at the same time and later, and again when they
// end or revocation.reuse is over. Neither silence nor what has ended is reused.
func TestAskedOnceWhileItMayBeReused(t *testing.T) {
	t.Parallel()
	a := newIssuing(t)
	began, key, root := a.now, a.key, a.root

	// world is an issuer whose clock is the asker's.
	type world struct {
		ask     *issuers
		now     atomic.Int64 // since began
		asked   atomic.Int32
		validly time.Duration // how long what it says is in force
		frozen  atomic.Bool   // it goes on giving out its first words
		broken  atomic.Bool
		gone    atomic.Bool // it has taken the certificate back
		slow    time.Duration
		list    []*x509.Certificate // a chain whose certificate names a list
		respond []*x509.Certificate // and one whose names a responder
	}
	open := func(t *testing.T, validly, reuse time.Duration) *world {
		t.Helper()
		w := &world{validly: validly}
		clock := func() time.Time { return began.Add(time.Duration(w.now.Load())) }
		said := func() time.Time {
			if w.frozen.Load() {
				return began
			}
			return clock()
		}
		serve := func(make func(at time.Time) ([]byte, error)) http.HandlerFunc {
			return func(rw http.ResponseWriter, _ *http.Request) {
				w.asked.Add(1)
				time.Sleep(w.slow)
				raw, err := make(said())
				if err != nil || w.broken.Load() {
					http.Error(rw, "broken", http.StatusInternalServerError)
					return
				}
				_, _ = rw.Write(raw)
			}
		}
		mux := http.NewServeMux()
		mux.Handle("/list", serve(func(at time.Time) ([]byte, error) {
			l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: at, NextUpdate: at.Add(w.validly)}
			if w.gone.Load() {
				l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: at}}
			}
			return x509.CreateRevocationList(rand.Reader, l, root, key)
		}))
		mux.Handle("/responder", serve(func(at time.Time) ([]byte, error) {
			a := ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(8), ThisUpdate: at, NextUpdate: at.Add(w.validly)}
			if w.gone.Load() {
				a.Status, a.RevokedAt = ocsp.Revoked, at
			}
			return ocsp.CreateResponse(root, root, a, key)
		}))
		srv := httptest.NewServer(mux)
		t.Cleanup(srv.Close)
		w.list = []*x509.Certificate{a.issue(t, &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "listed"}, CRLDistributionPoints: []string{srv.URL + "/list"}}), root}
		w.respond = []*x509.Certificate{a.issue(t, &x509.Certificate{SerialNumber: big.NewInt(8), Subject: pkix.Name{CommonName: "answered"}, OCSPServer: []string{srv.URL + "/responder"}}), root}
		cfg := defaultRevocation()
		cfg.AllowNetworks, cfg.Reuse = []string{"127.0.0.0/8"}, reuse
		var err error
		w.ask, err = newIssuers(cfg, clock)
		require.NoError(t, err)
		return w
	}
	for kind, of := range map[string]func(*world) []*x509.Certificate{
		"list":   func(w *world) []*x509.Certificate { return w.list },
		"answer": func(w *world) []*x509.Certificate { return w.respond },
	} {
		// told asks, and says what is known of the certificate now.
		told := func(t *testing.T, w *world) (state string, at time.Time) {
			t.Helper()
			said, at := w.ask.chain(t.Context(), of(w))
			e, err := revocation.Read(said.Files()[revocation.Lists], said.Files()[revocation.Answers])
			require.NoError(t, err)
			links := revocation.Judge(of(w), e, w.ask.now())
			require.Len(t, links, 1)
			return links[0].Revocation, at
		}
		t.Run(kind+"/many at once", func(t *testing.T) {
			t.Parallel()
			w := open(t, 24*time.Hour, 10*time.Minute)
			w.slow = 300 * time.Millisecond
			states := make([]string, 20)
			var all sync.WaitGroup
			for i := range states {
				all.Go(func() { states[i], _ = told(t, w) })
			}
			all.Wait()
			for _, state := range states {
				require.Equal(t, validation.StateGood, state)
			}
			require.Equal(t, int32(1), w.asked.Load())
		})
		t.Run(kind+"/again when reuse is over", func(t *testing.T) {
			t.Parallel()
			w := open(t, 24*time.Hour, 10*time.Minute)
			_, first := told(t, w)
			require.WithinDuration(t, began, first, 0)
			w.gone.Store(true)
			w.now.Store(int64(10*time.Minute - time.Second))
			state, at := told(t, w)
			require.Equal(t, validation.StateGood, state)
			require.Equal(t, first, at, "it is said when it was asked for")
			require.Equal(t, int32(1), w.asked.Load())
			w.now.Store(int64(10 * time.Minute))
			state, at = told(t, w)
			require.Equal(t, validation.StateRevoked, state)
			require.WithinDuration(t, began.Add(10*time.Minute), at, 0)
			require.Equal(t, int32(2), w.asked.Load())
			w.now.Store(int64(-time.Hour)) // a clock that was put back
			_, _ = told(t, w)
			require.Equal(t, int32(3), w.asked.Load())
		})
		t.Run(kind+"/again when it ends", func(t *testing.T) {
			t.Parallel()
			w := open(t, 2*time.Minute, 10*time.Minute)
			w.frozen.Store(true)
			state, _ := told(t, w)
			require.Equal(t, validation.StateGood, state)
			for i := range 3 { // its server does not tend it
				w.now.Store(int64(3 * time.Minute))
				state, at := told(t, w)
				require.Equal(t, validation.StateUnknown, state)
				require.Zero(t, at)
				require.Equal(t, int32(2+i), w.asked.Load())
			}
			w.frozen.Store(false)
			state, _ = told(t, w)
			require.Equal(t, validation.StateGood, state)
			require.Equal(t, int32(5), w.asked.Load())
		})
		t.Run(kind+"/silence is not remembered", func(t *testing.T) {
			t.Parallel()
			w := open(t, 24*time.Hour, 10*time.Minute)
			w.broken.Store(true)
			for range 2 {
				state, _ := told(t, w)
				require.Equal(t, validation.StateUnknown, state)
			}
			w.broken.Store(false)
			for range 2 {
				state, _ := told(t, w)
				require.Equal(t, validation.StateGood, state)
			}
			require.Equal(t, int32(3), w.asked.Load())
		})
		t.Run(kind+"/each time when nothing is reused", func(t *testing.T) {
			t.Parallel()
			w := open(t, 24*time.Hour, 0)
			for range 3 {
				state, _ := told(t, w)
				require.Equal(t, validation.StateGood, state)
			}
			require.Equal(t, int32(3), w.asked.Load())
		})
	}
	t.Run("not without bound", func(t *testing.T) {
		t.Parallel()
		w := open(t, 24*time.Hour, 10*time.Minute)
		for i := range 3 * revocationHeard {
			w.now.Add(int64(time.Second))
			_, err := w.ask.once(t.Context(), fmt.Sprint(i), func(context.Context) ([]byte, time.Time, error) { return []byte{1}, began.Add(time.Hour), nil })
			require.NoError(t, err)
			require.LessOrEqual(t, len(w.ask.said), revocationHeard)
		}
		require.Contains(t, w.ask.said, fmt.Sprint(3*revocationHeard-1), "the first to end goes first")
		require.NotContains(t, w.ask.said, "0")
	})
}
