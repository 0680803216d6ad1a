package tsp_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/tsp"
)

var (
	policy = asn1.ObjectIdentifier{2, 999, 1}
	data   = []byte("indice di conservazione")
	sum    = sha256.Sum256(data)
)

func authority(t testing.TB, pki *cmstest.PKI, change ...func(*x509.Certificate)) *tsp.Authority {
	t.Helper()
	p := pki.Issue(t, "TSA", cmstest.NewECDSA(t), append([]func(*x509.Certificate){cmstest.TimeStamping}, change...)...)
	serial := big.NewInt(41)
	return &tsp.Authority{
		Certificate: p.Cert, Chain: p.Chain[1:], Key: p.Key, Policy: policy, Accuracy: 1500 * time.Millisecond,
		Now:    func() time.Time { return cmstest.Now },
		Serial: func() *big.Int { return serial.Add(serial, big.NewInt(1)) },
	}
}

func ask(t testing.TB, a *tsp.Authority, req tsp.Request) *tsp.Response {
	t.Helper()
	der, err := req.Marshal()
	require.NoError(t, err)
	answer, err := a.Respond(context.Background(), der)
	require.NoError(t, err)
	resp, err := tsp.ParseResponse(answer)
	require.NoError(t, err)
	return resp
}

func TestTokenStatesTheRequest(t *testing.T) {
	pki := cmstest.New(t)
	a := authority(t, pki)
	big512 := sha512.Sum512(data)
	for name, req := range map[string]tsp.Request{
		"all":            {Hash: crypto.SHA256, Digest: sum[:], Policy: policy, Nonce: big.NewInt(1 << 40), CertReq: true},
		"little":         {Hash: crypto.SHA256, Digest: sum[:], CertReq: true},
		"sha-512":        {Hash: crypto.SHA512, Digest: big512[:], CertReq: true},
		"no certificate": {Hash: crypto.SHA256, Digest: sum[:], Nonce: big.NewInt(7)},
	} {
		t.Run(name, func(t *testing.T) {
			resp := ask(t, a, req)
			require.NoError(t, resp.Err())
			tok, err := tsp.ParseToken(resp.Token)
			require.NoError(t, err)
			require.Equal(t, req.Digest, tok.Info.Digest)
			require.Equal(t, req.Nonce, tok.Info.Nonce)
			require.Equal(t, cmstest.Now, tok.Info.Time)
			require.Equal(t, 1500*time.Millisecond, tok.Info.Accuracy)
			require.True(t, tok.Info.Policy.Equal(policy))
			opts := tsp.VerifyOptions{Digest: req.Digest, Nonce: req.Nonce, Policy: req.Policy, Roots: pki.Pool()}
			if !req.CertReq {
				require.Nil(t, tok.Certificate())
				require.Error(t, tok.Verify(opts))
				opts.Intermediates = []*x509.Certificate{a.Certificate}
			}
			require.NoError(t, tok.Verify(opts))
			args := []string{"ts", "-verify", "-token_in", "-in", cmstest.File(t, "t", resp.Token),
				"-data", cmstest.File(t, "d", data), "-CAfile", cmstest.CertFile(t, pki.Root), "-attime", "1772447415"}
			if !req.CertReq {
				args = append(args, "-untrusted", cmstest.CertFile(t, a.Certificate))
			}
			cmstest.OpenSSL(t, args...)
		})
	}
}

// An authority that is not ours: openssl answers, and our reader and checks take it.
func TestTokenByOpenSSL(t *testing.T) {
	pki := cmstest.New(t)
	a := authority(t, pki)
	req := tsp.Request{Hash: crypto.SHA256, Digest: sum[:], Nonce: big.NewInt(99), CertReq: true}
	der, err := req.Marshal()
	require.NoError(t, err)
	config := "[one]\nserial=" + cmstest.File(t, "serial", []byte("0A\n")) +
		"\ndefault_policy=2.999.1\ndigests=sha256\naccuracy=secs:1,millisecs:500,microsecs:100\nsigner_digest=sha256\n" +
		"clock_precision_digits=3\nordering=yes\ntsa_name=yes\n"
	for _, alg := range []string{"sha1", "sha256"} {
		out := filepath.Join(t.TempDir(), "out.tsr")
		cmstest.OpenSSL(t, "ts", "-reply", "-config", cmstest.File(t, "tsa.cnf", []byte(config+"ess_cert_id_alg="+alg+"\n")), "-section", "one",
			"-queryfile", cmstest.File(t, "q", der), "-signer", cmstest.CertFile(t, a.Certificate), "-inkey", cmstest.KeyFile(t, a.Key), "-out", out)
		raw, err := os.ReadFile(out)
		require.NoError(t, err)
		tok, err := tsp.ParseToken(raw)
		require.NoError(t, err)
		require.NoError(t, tok.Verify(tsp.VerifyOptions{Digest: sum[:], Nonce: req.Nonce, Policy: policy, Roots: pki.Pool()}), alg)
		require.Equal(t, time.Second+500*time.Millisecond+100*time.Microsecond, tok.Info.Accuracy)
		require.True(t, tok.Info.Ordering)
	}
}

func TestTokenFromTheWild(t *testing.T) {
	path := filepath.Join("..", "..", "..", "..", "shared", "reference", "conservation", "samples", "pda-example", "data", "PIndex.xml.p7m")
	raw, err := os.ReadFile(path + ".tsr")
	stamped, err2 := os.ReadFile(path)
	if err != nil || err2 != nil {
		t.Log("the sample is not at hand: own fixtures alone were read")
		return
	}
	tok, err := tsp.ParseToken(raw)
	require.NoError(t, err)
	digest := sha256.Sum256(stamped)
	require.NoError(t, tok.Verify(tsp.VerifyOptions{Digest: digest[:]}))
}

func TestVerifyNamesTheFault(t *testing.T) {
	pki := cmstest.New(t)
	req := tsp.Request{Hash: crypto.SHA256, Digest: sum[:], Nonce: big.NewInt(5), CertReq: true}
	good := tsp.VerifyOptions{Digest: sum[:], Nonce: req.Nonce, Policy: policy, Roots: pki.Pool()}
	other := sha256.Sum256([]byte("other"))
	for name, c := range map[string]struct {
		authority *tsp.Authority
		amend     func(*tsp.Info)
		judge     func(*tsp.VerifyOptions)
		want      tsp.Fault
	}{
		"imprint": {judge: func(o *tsp.VerifyOptions) { o.Digest = other[:] }, want: tsp.FaultImprint},
		"nonce":   {judge: func(o *tsp.VerifyOptions) { o.Nonce = big.NewInt(6) }, want: tsp.FaultNonce},
		"no nonce": {
			amend: func(i *tsp.Info) { i.Nonce = nil }, want: tsp.FaultNonce,
		},
		"policy": {judge: func(o *tsp.VerifyOptions) { o.Policy = asn1.ObjectIdentifier{2, 999, 2} }, want: tsp.FaultPolicy},
		"root":   {judge: func(o *tsp.VerifyOptions) { o.Roots = cmstest.New(t).Pool() }, want: tsp.FaultTrust},
		"expired": {
			judge: func(o *tsp.VerifyOptions) { o.At = cmstest.Now.AddDate(15, 0, 0) }, want: tsp.FaultTrust,
		},
		"time": {
			amend: func(i *tsp.Info) { i.Time = cmstest.Now.AddDate(-1, 0, 0) },
			judge: func(o *tsp.VerifyOptions) { o.Roots = nil }, want: tsp.FaultTime,
		},
		"usage missing":      {authority: authority(t, pki, noUsage), want: tsp.FaultUsage},
		"usage not critical": {authority: authority(t, pki, softUsage), want: tsp.FaultUsage},
		"usage not alone":    {authority: authority(t, pki, twoUsages), want: tsp.FaultUsage},
	} {
		t.Run(name, func(t *testing.T) {
			a := c.authority
			if a == nil {
				a = authority(t, pki)
			}
			a.Amend = c.amend
			tok, err := tsp.ParseToken(ask(t, a, req).Token)
			require.NoError(t, err)
			opts := good
			if c.judge != nil {
				c.judge(&opts)
			}
			var fault *tsp.TokenError
			require.ErrorAs(t, tok.Verify(opts), &fault)
			require.Equal(t, c.want, fault.Fault, fault.Reason)
		})
	}
}

func noUsage(c *x509.Certificate) { c.ExtraExtensions = nil }
func softUsage(c *x509.Certificate) {
	c.ExtraExtensions = nil
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}
}
func twoUsages(c *x509.Certificate) {
	c.ExtraExtensions = nil
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping, x509.ExtKeyUsageClientAuth}
}

// A token whose signature or content was changed, and one without the ESS attribute.
func TestTamperedTokens(t *testing.T) {
	pki := cmstest.New(t)
	a := authority(t, pki)
	raw := ask(t, a, tsp.Request{Hash: crypto.SHA256, Digest: sum[:], CertReq: true}).Token
	at := bytes.Index(raw, []byte("20260302103015Z"))
	require.Positive(t, at)
	bad := bytes.Clone(raw)
	bad[at+3] = '5' // another year
	tok, err := tsp.ParseToken(bad)
	require.NoError(t, err)
	var fault *tsp.TokenError
	require.ErrorAs(t, tok.Verify(tsp.VerifyOptions{Digest: sum[:]}), &fault)
	require.Equal(t, tsp.FaultSignature, fault.Fault)

	good, err := tsp.ParseToken(raw)
	require.NoError(t, err)
	bare, err := cms.Sign(t.Context(), good.Signed.Content(), a.Key, cms.Options{Certificate: a.Certificate, ContentType: cms.OIDTSTInfo})
	require.NoError(t, err)
	tok, err = tsp.ParseToken(bare)
	require.NoError(t, err)
	require.ErrorAs(t, tok.Verify(tsp.VerifyOptions{Digest: sum[:]}), &fault)
	require.Equal(t, tsp.FaultESS, fault.Fault)

	_, err = tsp.ParseToken([]byte("token"))
	require.Error(t, err)
	plain, err := cms.Sign(t.Context(), data, a.Key, cms.Options{Certificate: a.Certificate})
	require.NoError(t, err)
	_, err = tsp.ParseToken(plain)
	require.ErrorContains(t, err, "not a time-stamp")
}

func TestRespondRefuses(t *testing.T) {
	a := authority(t, cmstest.New(t))
	md5Imprint := []byte("\x30\x25\x02\x01\x01\x30\x20\x30\x0c\x06\x08\x2a\x86\x48\x86\xf7\x0d\x02\x05\x05\x00\x04\x10AAAAAAAAAAAAAAAA")
	good, err := (&tsp.Request{Hash: crypto.SHA256, Digest: sum[:]}).Marshal()
	require.NoError(t, err)
	extended := bytes.Clone(good)
	extended = append(extended, "\xa0\x0c\x30\x0a\x06\x03\x55\x1d\x0e\x04\x03\x02\x01\x00"...)
	extended[1] += 14
	foreign, err := (&tsp.Request{Hash: crypto.SHA256, Digest: sum[:], Policy: asn1.ObjectIdentifier{1, 2, 3}}).Marshal()
	require.NoError(t, err)
	for name, c := range map[string]struct {
		der  []byte
		want tsp.Failure
	}{
		"garbage":    {[]byte("x"), tsp.FailBadDataFormat},
		"trailing":   {append(bytes.Clone(good), 0), tsp.FailBadDataFormat},
		"algorithm":  {md5Imprint, tsp.FailBadAlg},
		"extensions": {extended, tsp.FailUnacceptedExtension},
		"policy":     {foreign, tsp.FailUnacceptedPolicy},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := a.Respond(t.Context(), c.der)
			require.NoError(t, err)
			resp, err := tsp.ParseResponse(answer)
			require.NoError(t, err)
			var refused *tsp.RefusedError
			require.ErrorAs(t, resp.Err(), &refused)
			require.Equal(t, []tsp.Failure{c.want}, refused.Failures)
			require.NotEmpty(t, refused.Text)
			require.Contains(t, refused.Error(), c.want.String())
			require.Contains(t, cmstest.OpenSSL(t, "ts", "-reply", "-in", cmstest.File(t, "r", answer), "-text"), "Rejected.")
		})
	}
	_, err = (&tsp.Request{Hash: crypto.SHA256, Digest: sum[:20]}).Marshal()
	require.ErrorIs(t, err, tsp.ErrHash)
	_, err = (&tsp.Request{Hash: crypto.SHA1, Digest: sum[:20]}).Marshal()
	require.ErrorIs(t, err, tsp.ErrHash)
}

// serve gives a client of an authority that answers by f.
func serve(t *testing.T, pki *cmstest.PKI, f func(request []byte) []byte) *tsp.Client {
	t.Helper()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Content-Type") != tsp.MIMERequest || r.Header.Get("Authorization") != "Basic x" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = w.Write(f(body))
	}))
	t.Cleanup(h.Close)
	return &tsp.Client{
		URL: h.URL, HTTP: h.Client(), Roots: pki.Pool(), Now: func() time.Time { return cmstest.Now },
		Header: http.Header{"Authorization": {"Basic x"}},
	}
}

func TestClientTakesGrantedWithMods(t *testing.T) {
	pki := cmstest.New(t)
	a := authority(t, pki)
	for _, status := range []tsp.Status{tsp.Granted, tsp.GrantedWithMods} {
		c := serve(t, pki, func(req []byte) []byte {
			answer, err := a.Respond(context.Background(), req)
			if err != nil {
				return nil
			}
			resp, err := tsp.ParseResponse(answer)
			if err != nil {
				return nil
			}
			resp.Status = status
			out, err := resp.Marshal()
			if err != nil {
				return nil
			}
			return out
		})
		tok, err := c.Stamp(t.Context(), sum[:])
		require.NoError(t, err, status)
		raw, err := c.StampToken(t.Context(), sum[:])
		require.NoError(t, err)
		require.NotEqual(t, tok.Raw, raw, "two stamps, two serial numbers")
	}
}

func TestClientErrors(t *testing.T) {
	pki := cmstest.New(t)
	_, err := (&tsp.Client{}).Stamp(t.Context(), sum[:])
	require.ErrorContains(t, err, "lacks URL")

	c := serve(t, pki, func([]byte) []byte { return make([]byte, 2<<20) })
	_, err = c.Stamp(t.Context(), sum[:])
	require.ErrorContains(t, err, "longer than")

	c = serve(t, pki, func([]byte) []byte { return []byte("\x30\x05\x30\x03\x02\x01\x00") })
	_, err = c.Stamp(t.Context(), sum[:])
	require.ErrorContains(t, err, "without a token")

	c.Rand = bytes.NewReader(nil)
	_, err = c.Stamp(t.Context(), sum[:])
	require.ErrorContains(t, err, "nonce")

	c = serve(t, pki, func([]byte) []byte { return nil })
	c.Header = nil
	_, err = c.Stamp(t.Context(), sum[:])
	var transport *tsp.TransportError
	require.True(t, errors.As(err, &transport))
	require.Equal(t, http.StatusBadRequest, transport.Status)

	c.URL = "http://127.0.0.1:1"
	_, err = c.Stamp(t.Context(), sum[:])
	require.ErrorAs(t, err, &transport)
	require.Zero(t, transport.Status)
}

func FuzzParse(f *testing.F) {
	a := authority(f, cmstest.New(f))
	resp := ask(f, a, tsp.Request{Hash: crypto.SHA256, Digest: sum[:], Nonce: big.NewInt(5), CertReq: true})
	whole, err := resp.Marshal()
	require.NoError(f, err)
	req, err := (&tsp.Request{Hash: crypto.SHA256, Digest: sum[:], Policy: policy, Nonce: big.NewInt(5)}).Marshal()
	require.NoError(f, err)
	f.Add(resp.Token)
	f.Add(whole)
	f.Add(req)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := tsp.ParseRequest(raw); err == nil {
			if _, err := r.Marshal(); err != nil {
				t.Fatalf("a request that was read cannot be written: %v", err)
			}
		}
		if r, err := tsp.ParseResponse(raw); err == nil && r.Err() != nil {
			_ = r.Err().Error()
		}
		if tok, err := tsp.ParseToken(raw); err == nil {
			_ = tok.Verify(tsp.VerifyOptions{Digest: sum[:]})
		}
	})
}
