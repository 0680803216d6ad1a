// Package providertest is what a provider.Provider has to do, as a test: the same for each, against the
// provider's own protocol spoken by a sandbox. It owns no sandbox; a [Bench] brings one.
package providertest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/signer/internal/provider"
)

// Step is a call of the interface.
type Step string

// The steps that spend something.
const (
	Authorize Step = "authorize"
	Sign      Step = "sign"
)

// Trouble is what goes wrong with a call.
type Trouble string

// The troubles, each with one call.
const (
	CutBefore   Trouble = "cut before"   // the connection ends, nothing was done
	CutAfter    Trouble = "cut after"    // it was done, the connection ends
	Broken      Trouble = "broken"       // HTTP 500, nothing was done
	BrokenAfter Trouble = "broken after" // it was done, then HTTP 500
	Slow        Trouble = "slow"         // it is done, and the answer comes after Bench.Timeout
	Busy        Trouble = "busy"         // the provider says so in its own words, nothing was done
	Garbage     Trouble = "garbage"      // it was done, HTTP 200 with a page that is none of the protocol's
	// As of a proxy that was out of reach of the provider, or lost it once the request was handed on.
	Unavailable      Trouble = "unavailable"       // a bare HTTP 503, nothing was done
	UnavailableAfter Trouble = "unavailable after" // it was done, then a bare HTTP 503
)

// Holder is somebody who signs.
type Holder struct {
	Credential provider.Credential
	PIN        string
}

// Bench is a provider and its sandbox. Provider's calls end after about a second.
type Bench struct {
	Provider provider.Provider
	// Away is the same at an address where nobody listens.
	Away provider.Provider
	// Enrol makes a new holder with a key.
	Enrol func(t testing.TB) Holder
	// OTP gets the holder a password, through Provider.SendOTP where the device wants that.
	OTP func(t testing.TB, h Holder, d provider.OTPDevice) string
	// Signed is how many signatures were made with the holder's key.
	Signed func(t testing.TB, h Holder) int
	// Fail makes a call of that step go wrong, after skip of them that do not.
	Fail func(t testing.TB, step Step, trouble Trouble, skip int)
	// End makes the provider forget what it granted the holder.
	End func(t testing.TB, h Holder)
	// SingleUse says that a grant is good for one SignHashes.
	SingleUse bool
	// OneByOne says that hashes go out one a call.
	OneByOne bool
}

// Signing are the tests that depend on the kind of key.
var Signing = []string{"signs one and many", "openssl agrees"}

// Run runs the suite, or those of its tests that are named. open is called for each test.
func Run(t *testing.T, open func(t testing.TB) *Bench, only ...string) {
	for name, test := range map[string]func(t *testing.T, b *Bench){
		"describes": describes, "signs one and many": signs, "openssl agrees": opensslAgrees,
		"wrong PIN, wrong password, spent password": wrongFactors, "locked": locked,
		"reused and ended grants": spentGrants, "hashes": hashes, "lost answers": lost, "lost authorization": lostAuthorization,
		"busy, then signed once": busy, "partly signed": partly, "away": away, "unknown credential": unknownCredential,
		"breaker": breaker, "secrets print as nothing": secrets,
	} {
		if len(only) > 0 && !slices.Contains(only, name) {
			continue
		}
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func hashOf(i int) provider.Hash { return sha256.Sum256(fmt.Appendf(nil, "document %d", i)) }

func several(n int) []provider.Hash {
	out := make([]provider.Hash, n)
	for i := range out {
		out[i] = hashOf(i)
	}
	return out
}

func describe(t testing.TB, b *Bench, h Holder) provider.Description {
	t.Helper()
	d, err := b.Provider.Describe(t.Context(), h.Credential)
	require.NoError(t, err)
	return d
}

func factors(t testing.TB, b *Bench, h Holder) provider.Factors {
	t.Helper()
	d := describe(t, b, h)
	require.NotEmpty(t, d.OTP)
	return provider.Factors{PIN: h.PIN, OTP: b.OTP(t, h, d.OTP[0]), Device: d.OTP[0].ID}
}

func authorize(t testing.TB, b *Bench, h Holder, hashes []provider.Hash) provider.Grant {
	t.Helper()
	g, err := b.Provider.Authorize(t.Context(), h.Credential, hashes, factors(t, b, h))
	require.NoError(t, err)
	require.True(t, g.Expires.After(time.Now()))
	return g
}

func requireOutcome(t testing.TB, want provider.Outcome, code string, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, want.String(), provider.OutcomeOf(err).String(), "%v", err)
	var e *provider.Error
	require.ErrorAs(t, err, &e)
	if code != "" {
		require.Equal(t, code, e.Code, "%v", err)
	}
}

func requireSigned(t testing.TB, b *Bench, h Holder, want int) {
	t.Helper()
	require.Eventually(t, func() bool { return b.Signed(t, h) >= want }, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, want, b.Signed(t, h), "signatures that the provider made")
}

func verify(t testing.TB, cert *x509.Certificate, h provider.Hash, signature []byte) {
	t.Helper()
	switch k := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		require.NoError(t, rsa.VerifyPKCS1v15(k, crypto.SHA256, h[:], signature))
	case *ecdsa.PublicKey:
		require.True(t, ecdsa.VerifyASN1(k, h[:], signature))
	default:
		t.Fatalf("key %T", k)
	}
}

func describes(t *testing.T, b *Bench) {
	d := describe(t, b, b.Enrol(t))
	require.Equal(t, provider.Enabled, d.Status)
	require.NotEmpty(t, d.Chain)
	require.Contains(t, []int{1, 2}, d.SCAL)
	require.Positive(t, d.Multisign)
	require.True(t, d.PIN)
	require.NotEmpty(t, d.OTP)
}

func signs(t *testing.T, b *Bench) {
	for _, n := range []int{1, 7} {
		h := b.Enrol(t)
		leaf, list := describe(t, b, h).Chain[0], several(n)
		got, err := b.Provider.SignHashes(t.Context(), h.Credential, authorize(t, b, h, list), list)
		require.NoError(t, err)
		require.Len(t, got, n)
		for i := range list {
			verify(t, leaf, list[i], got[i])
		}
		requireSigned(t, b, h, n)
	}
}

// opensslAgrees has a program that is not ours verify a signature with the certificate.
func opensslAgrees(t *testing.T, b *Bench) {
	bin, err := exec.LookPath("openssl")
	require.NoError(t, err, "openssl is what judges the signatures: install it")
	h, list := b.Enrol(t), several(1)
	got, err := b.Provider.SignHashes(t.Context(), h.Credential, authorize(t, b, h, list), list)
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name string, raw []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		return path
	}
	cert := write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: describe(t, b, h).Chain[0].Raw}))
	said, err := exec.Command(bin, "pkeyutl", "-verify", "-certin", "-inkey", cert, "-pkeyopt", "digest:sha256",
		"-in", write("hash", list[0][:]), "-sigfile", write("signature", got[0])).CombinedOutput()
	require.NoError(t, err, "%s", said)
	require.Contains(t, string(said), "Verified Successfully")
}

func wrongFactors(t *testing.T, b *Bench) {
	h, list := b.Enrol(t), several(1)
	good := factors(t, b, h)
	wrongPIN := good
	wrongPIN.PIN = "00000000"
	_, err := b.Provider.Authorize(t.Context(), h.Credential, list, wrongPIN)
	requireOutcome(t, provider.UserFault, provider.FactorsWrong, err)
	wrongOTP := factors(t, b, h)
	wrongOTP.OTP = "000000"
	_, err = b.Provider.Authorize(t.Context(), h.Credential, list, wrongOTP)
	requireOutcome(t, provider.UserFault, provider.FactorsWrong, err)
	spent := factors(t, b, h)
	_, err = b.Provider.Authorize(t.Context(), h.Credential, list, spent)
	require.NoError(t, err)
	_, err = b.Provider.Authorize(t.Context(), h.Credential, list, spent)
	requireOutcome(t, provider.UserFault, provider.FactorsWrong, err)
	requireSigned(t, b, h, 0)
}

func locked(t *testing.T, b *Bench) {
	h, list := b.Enrol(t), several(1)
	f := factors(t, b, h)
	for i := range 20 {
		f.OTP = fmt.Sprintf("%06d", i)
		_, err := b.Provider.Authorize(t.Context(), h.Credential, list, f)
		require.Equal(t, provider.UserFault, provider.OutcomeOf(err), "%v", err)
		var e *provider.Error
		require.ErrorAs(t, err, &e)
		if e.Code == provider.FactorsLocked {
			return
		}
	}
	t.Fatal("twenty wrong passwords and not locked")
}

func spentGrants(t *testing.T, b *Bench) {
	h, list := b.Enrol(t), several(2)
	g := authorize(t, b, h, list)
	_, err := b.Provider.SignHashes(t.Context(), h.Credential, g, list)
	require.NoError(t, err)
	if b.SingleUse {
		_, err = b.Provider.SignHashes(t.Context(), h.Credential, g, list)
		requireOutcome(t, provider.Refused, provider.GrantSpent, err)
	}
	g = authorize(t, b, h, list)
	b.End(t, h)
	_, err = b.Provider.SignHashes(t.Context(), h.Credential, g, list)
	requireOutcome(t, provider.Refused, provider.GrantSpent, err)
	_, err = b.Provider.SignHashes(t.Context(), h.Credential, provider.Grant{Token: []byte("none"), Expires: g.Expires}, list)
	requireOutcome(t, provider.Refused, provider.GrantSpent, err)
	g = authorize(t, b, h, list)
	require.NoError(t, b.Provider.Close(t.Context(), h.Credential, g))
	requireSigned(t, b, h, 2)
}

func hashes(t *testing.T, b *Bench) {
	for _, size := range []int{0, 20, 31, 33, 64} {
		_, err := provider.Hashes([][]byte{make([]byte, size)})
		requireOutcome(t, provider.Refused, provider.HashInvalid, err)
	}
	h := b.Enrol(t)
	d := describe(t, b, h)
	if d.SCAL == 2 {
		g := authorize(t, b, h, several(1))
		_, err := b.Provider.SignHashes(t.Context(), h.Credential, g, []provider.Hash{hashOf(99)})
		requireOutcome(t, provider.Refused, provider.HashNotAuthorized, err)
	}
	_, err := b.Provider.Authorize(t.Context(), h.Credential, several(d.Multisign+1), factors(t, b, h))
	requireOutcome(t, provider.Refused, provider.TooManyHashes, err)
	requireSigned(t, b, h, 0)
}

// lost is the heart of it: an answer that is lost after the request left is never a failure.
func lost(t *testing.T, b *Bench) {
	for trouble, made := range map[Trouble]int{
		CutBefore: 0, CutAfter: 1, Broken: 0, BrokenAfter: 1, Unavailable: 0, UnavailableAfter: 1, Slow: 1, Garbage: 1,
	} {
		h, list := b.Enrol(t), several(1)
		g := authorize(t, b, h, list)
		b.Fail(t, Sign, trouble, 0)
		got, err := b.Provider.SignHashes(t.Context(), h.Credential, g, list)
		requireOutcome(t, provider.Unknown, provider.OutcomeUnknown, err)
		require.Empty(t, got, trouble)
		requireSigned(t, b, h, made)
	}
}

func lostAuthorization(t *testing.T, b *Bench) {
	for _, trouble := range []Trouble{CutAfter, UnavailableAfter} {
		h, list := b.Enrol(t), several(1)
		f := factors(t, b, h)
		b.Fail(t, Authorize, trouble, 0)
		_, err := b.Provider.Authorize(t.Context(), h.Credential, list, f)
		requireOutcome(t, provider.Unknown, provider.OutcomeUnknown, err)
		_, err = b.Provider.Authorize(t.Context(), h.Credential, list, f)
		requireOutcome(t, provider.UserFault, provider.FactorsWrong, err) // it was spent: who repeats it learns nothing
		requireSigned(t, b, h, 0)
	}
}

func busy(t *testing.T, b *Bench) {
	h, list := b.Enrol(t), several(1)
	f := factors(t, b, h)
	b.Fail(t, Authorize, Busy, 0)
	_, err := b.Provider.Authorize(t.Context(), h.Credential, list, f)
	requireOutcome(t, provider.Busy, provider.Away, err)
	g, err := b.Provider.Authorize(t.Context(), h.Credential, list, f)
	require.NoError(t, err, "nothing was taken: the same password is good")
	b.Fail(t, Sign, Busy, 0)
	got, err := b.Provider.SignHashes(t.Context(), h.Credential, g, list)
	requireOutcome(t, provider.Busy, provider.Away, err)
	require.Empty(t, got)
	got, err = b.Provider.SignHashes(t.Context(), h.Credential, g, list)
	require.NoError(t, err, "nothing was taken: the same grant is good")
	verify(t, describe(t, b, h).Chain[0], list[0], got[0])
	requireSigned(t, b, h, 1)
}

func partly(t *testing.T, b *Bench) {
	if !b.OneByOne { // then a list is signed or not, which "lost" and "busy" look at
		return
	}
	for trouble, want := range map[Trouble]provider.Outcome{CutAfter: provider.Unknown, Busy: provider.Busy} {
		h, list := b.Enrol(t), several(4)
		leaf, g := describe(t, b, h).Chain[0], authorize(t, b, h, list)
		b.Fail(t, Sign, trouble, 2)
		got, err := b.Provider.SignHashes(t.Context(), h.Credential, g, list)
		requireOutcome(t, want, "", err)
		require.Len(t, got, 2, "what was made is given")
		if want == provider.Unknown {
			requireSigned(t, b, h, 3)
			continue
		}
		rest, err := b.Provider.SignHashes(t.Context(), h.Credential, g, list[2:])
		require.NoError(t, err)
		for i, signature := range append(got, rest...) {
			verify(t, leaf, list[i], signature)
		}
		requireSigned(t, b, h, 4)
	}
}

func away(t *testing.T, b *Bench) {
	h, list := b.Enrol(t), several(1)
	f := factors(t, b, h)
	g := authorize(t, b, h, list)
	f.OTP = b.OTP(t, h, describe(t, b, h).OTP[0])
	_, err := b.Away.Describe(t.Context(), h.Credential)
	requireOutcome(t, provider.Busy, provider.Away, err)
	_, err = b.Away.Authorize(t.Context(), h.Credential, list, f)
	requireOutcome(t, provider.Busy, provider.Away, err)
	_, err = b.Away.SignHashes(t.Context(), h.Credential, g, list)
	requireOutcome(t, provider.Busy, provider.Away, err)
	_, err = b.Provider.Authorize(t.Context(), h.Credential, list, f)
	require.NoError(t, err, "nothing left: the password is good")
	requireSigned(t, b, h, 0)
}

func unknownCredential(t *testing.T, b *Bench) {
	c := b.Enrol(t).Credential
	if c.User != "" {
		c.User = "nobody"
	} else {
		c.ID = "nobody"
	}
	_, err := b.Provider.Describe(t.Context(), c)
	requireOutcome(t, provider.Refused, provider.CredentialUnknown, err)
}

// breaker: holders who mistype say nothing of the provider; a provider that does not answer does.
func breaker(t *testing.T, b *Bench) {
	const failures = 5
	cfg := run.BreakerConfig{Failures: failures, Open: time.Hour}
	kit := run.NewBreaker("provider", cfg, time.Now)
	guarded := provider.Guard(b.Provider, kit)
	h, list := b.Enrol(t), several(1)
	f := factors(t, b, h)
	for i := range 100 {
		f.OTP = fmt.Sprintf("%06d", i)
		_, err := guarded.Authorize(t.Context(), h.Credential, list, f)
		require.Equal(t, provider.UserFault, provider.OutcomeOf(err), "%v", err)
	}
	require.Equal(t, "closed", kit.State().State)
	for trouble, want := range map[Trouble]provider.Outcome{Broken: provider.Unknown, Busy: provider.Busy} {
		kit := run.NewBreaker("provider", cfg, time.Now)
		guarded := provider.Guard(b.Provider, kit)
		h := b.Enrol(t)
		g := authorize(t, b, h, list)
		for range failures {
			b.Fail(t, Sign, trouble, 0)
			_, err := guarded.SignHashes(t.Context(), h.Credential, g, list)
			requireOutcome(t, want, "", err)
		}
		require.Equal(t, "open", kit.State().State)
		_, err := guarded.SignHashes(t.Context(), h.Credential, g, list)
		requireOutcome(t, provider.Busy, provider.Away, err)
		requireSigned(t, b, h, 0)
	}
}

func secrets(t *testing.T, b *Bench) {
	h, list := b.Enrol(t), several(1)
	f := factors(t, b, h)
	g, err := b.Provider.Authorize(t.Context(), h.Credential, list, f)
	require.NoError(t, err)
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "f", f, "g", g, "pf", &f)
	raw, err := json.Marshal([]any{f, g})
	require.NoError(t, err)
	f.OTP = "000000"
	_, wrong := b.Provider.Authorize(context.WithoutCancel(t.Context()), h.Credential, list, f)
	all := log.String() + string(raw) + fmt.Sprintf("%v %+v %#v %s %v %+v %#v %v %+v", f, f, f, f, g, g, g, wrong, wrong)
	for what, secret := range map[string]string{"PIN": h.PIN, "password": f.OTP, "grant": string(g.Token)} {
		require.NotContains(t, all, secret, what)
	}
}
