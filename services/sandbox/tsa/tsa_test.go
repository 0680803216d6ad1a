package tsa_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/tsa"
)

var start = time.Date(2026, 3, 2, 10, 30, 15, 0, time.UTC)

type bench struct {
	ca     *ca.CA
	server *tsa.Server
	client *tsp.Client
}

func set(t *testing.T) bench {
	t.Helper()
	now := func() time.Time { return start }
	authority, err := ca.New(ca.Options{Now: now})
	require.NoError(t, err)
	server, err := tsa.New(tsa.Options{CA: authority, Now: now})
	require.NoError(t, err)
	h := httptest.NewUnstartedServer(server)
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.Start()
	t.Cleanup(h.Close)
	return bench{authority, server, &tsp.Client{
		URL: h.URL, HTTP: &http.Client{Timeout: 2 * time.Second}, Roots: authority.Pool(), Now: now,
	}}
}

func TestStampIsAcceptedByOpenSSL(t *testing.T) {
	b := set(t)
	data := []byte("indice di conservazione")
	sum := sha256.Sum256(data)
	for _, policy := range []bool{false, true} {
		if policy {
			b.client.Policy = tsa.Policy
		}
		tok, err := b.client.Stamp(t.Context(), sum[:])
		require.NoError(t, err)
		require.Equal(t, start, tok.Info.Time)
		require.Equal(t, time.Second, tok.Info.Accuracy)
		openssl(t, "ts", "-verify", "-token_in", "-in", file(t, "t.tst", tok.Raw), "-data", file(t, "data", data),
			"-CAfile", file(t, "ca.pem", b.ca.CertPEM()), "-attime", "1772447415")
	}
	require.Equal(t, 2, b.server.Granted())
}

// The other way round: openssl asks, the sandbox answers, openssl checks nonce and all.
func TestRequestByOpenSSL(t *testing.T) {
	b := set(t)
	data := file(t, "data", []byte("documento"))
	query := filepath.Join(t.TempDir(), "q.tsq")
	openssl(t, "ts", "-query", "-data", data, "-sha512", "-cert", "-out", query)
	raw, err := os.ReadFile(query)
	require.NoError(t, err)
	resp, err := http.Post(b.client.URL, tsp.MIMERequest, bytes.NewReader(raw))
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, tsp.MIMEResponse, resp.Header.Get("Content-Type"))
	openssl(t, "ts", "-verify", "-queryfile", query, "-in", file(t, "a.tsr", answer),
		"-CAfile", file(t, "ca.pem", b.ca.CertPEM()), "-attime", "1772447415")
}

func TestFaultsAreTyped(t *testing.T) {
	b := set(t)
	sum := sha256.Sum256([]byte("x"))
	token := func(want tsp.Fault) func(*testing.T, error) {
		return func(t *testing.T, err error) {
			var e *tsp.TokenError
			require.ErrorAs(t, err, &e)
			require.Equal(t, want, e.Fault)
		}
	}
	transport := func(status int) func(*testing.T, error) {
		return func(t *testing.T, err error) {
			var e *tsp.TransportError
			require.ErrorAs(t, err, &e)
			require.Equal(t, status, e.Status)
		}
	}
	for mode, check := range map[tsa.Mode]func(*testing.T, error){
		tsa.FaultDown:        transport(0),
		tsa.FaultUnavailable: transport(503),
		tsa.FaultWrongNonce:  token(tsp.FaultNonce),
		tsa.FaultWrongDigest: token(tsp.FaultImprint),
		tsa.FaultWrongTime:   token(tsp.FaultTime),
		tsa.FaultGarbage:     token(tsp.FaultMalformed),
		tsa.FaultRejection: func(t *testing.T, err error) {
			var e *tsp.RefusedError
			require.ErrorAs(t, err, &e)
			require.Equal(t, tsp.Rejection, e.Status)
			require.Equal(t, []tsp.Failure{tsp.FailSystemFailure}, e.Failures)
			require.True(t, e.Temporary())
		},
	} {
		t.Run(string(mode), func(t *testing.T) {
			require.NoError(t, b.server.SetFault(tsa.Fault{Mode: mode, Times: 1}))
			_, err := b.client.Stamp(t.Context(), sum[:])
			check(t, err)
			_, err = b.client.Stamp(t.Context(), sum[:])
			require.NoError(t, err, "the fault was ordered for one request")
		})
	}
	require.Error(t, b.server.SetFault(tsa.Fault{Mode: "earthquake"}))
}

func TestSlowAuthorityObeysTheContext(t *testing.T) {
	b := set(t)
	sum := sha256.Sum256([]byte("x"))
	require.NoError(t, b.server.SetFault(tsa.Fault{Mode: tsa.FaultSlow, Delay: time.Minute}))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := b.client.Stamp(ctx, sum[:])
	require.True(t, errors.Is(err, context.DeadlineExceeded), "%v", err)

	require.NoError(t, b.server.SetFault(tsa.Fault{Mode: tsa.FaultSlow, Delay: time.Millisecond}))
	_, err = b.client.Stamp(t.Context(), sum[:])
	require.NoError(t, err)
}

func TestRefusals(t *testing.T) {
	b := set(t)
	sum := sha256.Sum256([]byte("x"))
	b.client.Policy = []int{2, 999, 1}
	_, err := b.client.Stamp(t.Context(), sum[:])
	var refused *tsp.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, []tsp.Failure{tsp.FailUnacceptedPolicy}, refused.Failures)
	require.False(t, refused.Temporary())

	for _, c := range []struct {
		name, method, mime, body string
		status                   int
	}{
		{"method", http.MethodGet, tsp.MIMERequest, "", http.StatusMethodNotAllowed},
		{"type", http.MethodPost, "text/plain", "", http.StatusUnsupportedMediaType},
		{"too long", http.MethodPost, tsp.MIMERequest, string(make([]byte, 70<<10)), http.StatusBadRequest},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, b.client.URL, bytes.NewReader([]byte(c.body)))
		require.NoError(t, err)
		req.Header.Set("Content-Type", c.mime)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, c.status, resp.StatusCode, c.name)
	}
	resp, err := http.Post(b.client.URL, tsp.MIMERequest, bytes.NewReader([]byte("not a request")))
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	parsed, err := tsp.ParseResponse(answer)
	require.NoError(t, err)
	require.ErrorAs(t, parsed.Err(), &refused)
	require.Equal(t, []tsp.Failure{tsp.FailBadDataFormat}, refused.Failures)
}

// The whole way: CSR, certificate, CAdES-T over HTTP, judged for SdI.
func TestCAdESTWithSandboxAuthorities(t *testing.T) {
	b := set(t)
	key, csr := newCSR(t)
	cert, err := b.ca.SignCSR(csr, ca.ProfileSigning)
	require.NoError(t, err)
	chain := append([]*certificate{cert}, b.ca.Certificate())
	content := []byte("<FatturaElettronica/>")
	out, err := cades.Sign(t.Context(), content, cades.Signer{Chain: chain, Key: key},
		cades.Options{SigningTime: start, Timestamp: b.client.StampToken})
	require.NoError(t, err)
	_, rep, err := cades.Verify(out, cades.VerifyOptions{Roots: b.ca.Pool(), TSARoots: b.ca.Pool(), At: start, ForSdI: true})
	require.NoError(t, err)
	require.NoError(t, rep.Err())
	require.Equal(t, cades.LevelT, rep.Signers[0].Level)
	openssl(t, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", file(t, "f.p7m", out),
		"-CAfile", file(t, "ca.pem", b.ca.CertPEM()), "-purpose", "any", "-attime", "1772447415", "-out", os.DevNull)

	require.NoError(t, b.server.SetFault(tsa.Fault{Mode: tsa.FaultUnavailable, Times: 1}))
	out, err = cades.Sign(t.Context(), content, cades.Signer{Chain: chain, Key: key},
		cades.Options{SigningTime: start, Timestamp: b.client.StampToken})
	var lost *cades.TimestampError
	require.ErrorAs(t, err, &lost)
	require.NoError(t, cades.CheckOutput(out, content, cert))
}

func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

func openssl(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is missing: apt-get install -y openssl")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	require.NoError(t, err, "openssl %v: %s", args, out)
}
