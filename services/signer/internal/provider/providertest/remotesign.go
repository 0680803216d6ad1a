package providertest

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/remotesign"
	"ceralacca.dev/services/signer/internal/provider"
)

// Timeout is that of one call in the suite; Slow answers later.
const Timeout = 2 * time.Second

// World is the sandbox of ARSS and SWS with one of its endpoints listening.
type World struct {
	*remotesign.World
	URL string
	// Operations of the steps in the protocol.
	Operations map[Step]string
}

// OpenWorld starts the sandbox's endpoint on a loopback address.
func OpenWorld(t testing.TB, endpoint func(*remotesign.World) http.Handler, operations map[Step]string) *World {
	t.Helper()
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	w := &World{World: remotesign.New(remotesign.Options{CA: authority}), Operations: operations}
	server := httptest.NewServer(endpoint(w.World))
	t.Cleanup(server.Close)
	w.URL = server.URL
	return w
}

// Fail is Bench.Fail.
func (w *World) Fail(t testing.TB, step Step, trouble Trouble, skip int) {
	t.Helper()
	kinds := map[Trouble]string{
		CutBefore: client.RemoteCutBefore, CutAfter: client.RemoteCutAfter, Broken: client.Remote500, BrokenAfter: client.Remote500After,
		Slow: client.RemoteDelay, Busy: client.RemoteBusy,
		Unavailable: client.Remote503, UnavailableAfter: client.Remote503After, Garbage: client.RemoteGarbage,
	}
	require.NoError(t, w.AddFault(client.RemoteFault{
		Kind: kinds[trouble], Operation: w.Operations[step], Skip: skip, DelayMS: int((2 * Timeout).Milliseconds()),
	}))
}

// Enrol makes a holder; key as in client.RemoteHolderRequest.
func (w *World) Enrol(t testing.TB, user, key string) Holder {
	t.Helper()
	made, err := w.World.Enrol(client.RemoteHolderRequest{User: user, PIN: "24681357", CommonName: "Anna Verdi", Key: key})
	require.NoError(t, err)
	return Holder{Credential: provider.Credential{ID: made.CertID, User: made.User}, PIN: "24681357"}
}

// Signed is Bench.Signed.
func (w *World) Signed(t testing.TB, user string) int {
	t.Helper()
	h, err := w.Holder(user)
	require.NoError(t, err)
	return len(h.Signed)
}

// OTP sends, where the device wants it, and reads the holder's telephone.
func (w *World) OTP(t testing.TB, p provider.Provider, h Holder, user string, d provider.OTPDevice) string {
	t.Helper()
	kind := map[provider.OTPKind]string{provider.OTPSMS: "SMS", provider.OTPCall: "ARUBACALL", provider.OTPApp: "APP"}[d.Kind]
	if d.Kind.Sent() {
		_, err := p.SendOTP(t.Context(), h.Credential, d, nil)
		require.NoError(t, err)
	}
	got, err := w.World.OTP(user, kind)
	require.NoError(t, err)
	return got.Password
}
