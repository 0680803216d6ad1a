package csc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	wire "ceralacca.dev/services/format/csc"
	"ceralacca.dev/services/format/csc/csc1"
	"ceralacca.dev/services/format/csc/csc2"
	"ceralacca.dev/services/sandbox/remotesign"
	"ceralacca.dev/services/signer/internal/provider"
	"ceralacca.dev/services/signer/internal/provider/csc"
	"ceralacca.dev/services/signer/internal/provider/providertest"
)

func client(url string) *csc.Client {
	return csc.New(csc.Config{
		URL: url, HTTP: provider.NewHTTPClient(nil, providertest.Timeout), User: remotesign.AppUser, Password: remotesign.AppPassword,
		Poll: 5 * time.Millisecond, Now: time.Now,
	})
}

var operations = map[providertest.Step]string{providertest.Authorize: csc1.Authorize, providertest.Sign: csc1.SignHash}

// TestConformance1 is the suite of all providers, on version 1 of the API.
func TestConformance1(t *testing.T) {
	for _, key := range []string{"p256", "rsa2048"} {
		var only []string
		if key == "rsa2048" {
			only = providertest.Signing
		}
		t.Run(key, func(t *testing.T) {
			var users atomic.Int64
			providertest.Run(t, func(t testing.TB) *providertest.Bench {
				w := providertest.OpenWorld(t, (*remotesign.World).CSC1, operations)
				p := client(w.URL)
				return &providertest.Bench{
					Provider: p, Away: client("http://127.0.0.1:1/csc/v1"), SingleUse: true, Fail: w.Fail,
					Enrol: func(t testing.TB) providertest.Holder {
						h := w.Enrol(t, fmt.Sprintf("CSC%04d", users.Add(1)), key)
						h.Credential = provider.Credential{ID: h.Credential.User}
						return h
					},
					OTP: func(t testing.TB, h providertest.Holder, d provider.OTPDevice) string {
						return w.OTP(t, p, h, h.Credential.ID, d)
					},
					Signed: func(t testing.TB, h providertest.Holder) int { return w.Signed(t, h.Credential.ID) },
					End:    func(_ testing.TB, h providertest.Holder) { w.EndSessions(h.Credential.ID) },
				}
			}, only...)
		})
	}
}

// TestTokenEnds: a token that is over is got anew within the call, and what was asked for is done once.
func TestTokenEnds(t *testing.T) {
	w := providertest.OpenWorld(t, (*remotesign.World).CSC1, operations)
	p := client(w.URL)
	h := w.Enrol(t, "CSC1", "p256")
	who := provider.Credential{ID: "CSC1"}
	d, err := p.Describe(t.Context(), who)
	require.NoError(t, err)
	list := []provider.Hash{sha256.Sum256([]byte("x"))}
	otp := w.OTP(t, p, providertest.Holder{Credential: who}, "CSC1", d.OTP[0])
	w.EndTokens()
	g, err := p.Authorize(t.Context(), who, list, provider.Factors{PIN: h.PIN, OTP: otp, Device: d.OTP[0].ID})
	require.NoError(t, err)
	w.EndTokens()
	_, err = p.SignHashes(t.Context(), who, g, list)
	require.NoError(t, err)
	require.Equal(t, 1, w.Signed(t, "CSC1"))

	wrong := csc.New(csc.Config{URL: w.URL, HTTP: provider.NewHTTPClient(nil, providertest.Timeout), User: "x", Password: "y", Now: time.Now})
	_, err = wrong.Describe(t.Context(), who)
	requireCode(t, provider.AccountRefused, err)
}

func requireCode(t *testing.T, code string, err error) {
	t.Helper()
	var e *provider.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, code, e.Code, "%v", err)
}

// script is a server whose answers a test writes down.
type script struct {
	mu      sync.Mutex
	answers map[string]func(body string) (int, any)
	asked   []string
	heads   map[string]http.Header
	bodies  map[string]string
}

func play(t *testing.T, answers map[string]func(string) (int, any)) (*script, string) {
	t.Helper()
	s := &script{answers: answers, heads: map[string]http.Header{}, bodies: map[string]string{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server.URL
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.Path)
	s.heads[r.URL.Path], s.bodies[r.URL.Path] = r.Header.Clone(), string(body)
	answer := s.answers[r.URL.Path]
	s.mu.Unlock()
	if answer == nil {
		http.NotFound(w, r)
		return
	}
	status, content := answer(string(body))
	w.WriteHeader(status)
	if content != nil {
		_ = json.NewEncoder(w).Encode(content)
	}
}

func always(status int, content any) func(string) (int, any) {
	return func(string) (int, any) { return status, content }
}

func withToken(url string) *csc.Client {
	return csc.New(csc.Config{URL: url, HTTP: provider.NewHTTPClient(nil, 2*time.Second), Token: "tok", Poll: time.Millisecond, Now: time.Now})
}

// leaf is a certificate with a key of P-256.
func leaf(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Alfa"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	require.NoError(t, err)
	return key, der
}

func info2(methods ...string) csc2.InfoResponse {
	return csc2.InfoResponse{Specs: "2.0.0.2", Name: "x", AuthType: []string{"external"}, Methods: methods}
}

func credential2(der []byte, objects ...csc2.AuthObject) csc2.CredentialInfo {
	return csc2.CredentialInfo{
		Key: csc2.Key{Status: "enabled", Algo: []string{wire.ECDSASHA256}, Len: 256}, Cert: csc2.Cert{Status: "valid", Certificates: [][]byte{der}},
		Auth: &csc2.Auth{Mode: "explicit", Objects: objects}, SCAL: "2", Multisign: 5,
	}
}

// TestVersions: version 2 is asked for first, version 1 where there is none; what info says of itself
// holds; silence chooses nothing.
func TestVersions(t *testing.T) {
	_, der := leaf(t)
	old := csc1.CredentialInfo{Key: csc1.Key{Status: "enabled"}, Cert: csc1.Cert{Certificates: [][]byte{der}}, AuthMode: "explicit", Multisign: 1}
	s, url := play(t, map[string]func(string) (int, any){
		"/x/csc/v1/info":             always(200, csc1.InfoResponse{Specs: "1.0.4.0"}),
		"/x/csc/v1/credentials/info": always(200, old),
	})
	d, err := withToken(url+"/x").Describe(t.Context(), provider.Credential{ID: "a"})
	require.NoError(t, err)
	require.Equal(t, provider.Description{Chain: d.Chain, Status: provider.Enabled, SCAL: 1, Multisign: 1}, d)
	require.Equal(t, []string{"/x/csc/v2/info", "/x/csc/v1/info", "/x/csc/v1/credentials/info"}, s.asked)
	require.Equal(t, "Bearer tok", s.heads["/x/csc/v1/credentials/info"].Get("Authorization"))
	require.Empty(t, s.heads["/x/csc/v1/info"].Get("Authorization"))

	_, url = play(t, map[string]func(string) (int, any){
		"/csc/v2/info": always(200, csc1.InfoResponse{Specs: "1.0.4.0"}), "/csc/v2/credentials/info": always(200, old),
	})
	d, err = withToken(url+"/csc/v2/").Describe(t.Context(), provider.Credential{ID: "a"})
	require.NoError(t, err)
	require.Equal(t, 1, d.SCAL)

	s, url = play(t, map[string]func(string) (int, any){"/csc/v2/info": always(503, nil), "/csc/v1/info": always(200, csc1.InfoResponse{Specs: "1.0.4.0"})})
	_, err = withToken(url).Describe(t.Context(), provider.Credential{ID: "a"})
	requireCode(t, provider.Away, err)
	require.Equal(t, []string{"/csc/v2/info"}, s.asked)

	_, url = play(t, map[string]func(string) (int, any){"/csc/v2/info": always(200, csc2.InfoResponse{Specs: "3.1"})})
	_, err = withToken(url).Describe(t.Context(), provider.Credential{ID: "a"})
	requireCode(t, provider.Undocumented, err)
	_, url = play(t, nil)
	_, err = withToken(url).Describe(t.Context(), provider.Credential{ID: "a"})
	requireCode(t, provider.AccountRefused, err)
}

// TestConfirmedElsewhere: an authorization that the holder gives on a device of theirs is asked for until
// it is there; a signature of two bare numbers comes out in ASN.1.
func TestConfirmedElsewhere(t *testing.T) {
	key, der := leaf(t)
	hash := sha256.Sum256([]byte("x"))
	r, v, err := ecdsa.Sign(rand.Reader, key, hash[:])
	require.NoError(t, err)
	two := append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
	var checks atomic.Int32
	s, url := play(t, map[string]func(string) (int, any){
		"/csc/v2/info": always(200, info2()),
		"/csc/v2/credentials/info": always(200, credential2(der, csc2.AuthObject{Type: "Password", ID: "PW", Label: "Signing password"},
			csc2.AuthObject{Type: "ChallengeResponseOOB", ID: "mobile"})),
		"/csc/v2/credentials/authorize": always(202, csc2.SADResponse{Handle: "h1"}),
		"/csc/v2/credentials/authorizeCheck": func(string) (int, any) {
			switch checks.Add(1) {
			case 1:
				return 202, csc2.SADResponse{Handle: "h2"}
			case 2:
				return 503, nil
			}
			return 200, csc2.SADResponse{SAD: "sad", ExpiresIn: 60}
		},
		"/csc/v2/signatures/signHash": always(200, csc2.SignHashResponse{Signatures: [][]byte{two}}),
	})
	p, who := withToken(url), provider.Credential{ID: "a"}
	d, err := p.Describe(t.Context(), who)
	require.NoError(t, err)
	require.Equal(t, []provider.OTPDevice{{ID: "mobile", Kind: provider.OTPPush}}, d.OTP)
	require.True(t, d.PIN)
	_, err = p.SendOTP(t.Context(), who, d.OTP[0], nil)
	requireCode(t, provider.OTPNotSent, err)
	g, err := p.Authorize(t.Context(), who, []provider.Hash{hash}, provider.Factors{PIN: "12345678", OTP: "what a holder typed by habit", Device: "mobile"})
	require.NoError(t, err)
	require.JSONEq(t, `{"handle":"h2"}`, s.bodies["/csc/v2/credentials/authorizeCheck"])
	require.Contains(t, s.bodies["/csc/v2/credentials/authorize"], `"authData":[{"id":"PW","value":"12345678"},{"id":"mobile"}]`)
	made, err := p.SignHashes(t.Context(), who, g, []provider.Hash{hash})
	require.NoError(t, err)
	require.True(t, ecdsa.VerifyASN1(&key.PublicKey, hash[:], made[0]))
	_, url = play(t, map[string]func(string) (int, any){
		"/csc/v2/info": always(200, info2(csc2.Challenge)), "/csc/v2/credentials/getChallenge": always(200, csc2.ChallengeResponse{Challenge: "42"}),
	})
	shown, err := withToken(url).SendOTP(t.Context(), who, d.OTP[0], nil)
	require.NoError(t, err)
	require.Equal(t, "42", shown, "the holder types it into the device")
	_, url = play(t, map[string]func(string) (int, any){
		"/csc/v2/info": always(200, info2(csc2.Challenge)), "/csc/v2/credentials/getChallenge": always(200, csc2.ChallengeResponse{Challenge: strings.Repeat("4", 65)}),
	})
	_, err = withToken(url).SendOTP(t.Context(), who, d.OTP[0], nil)
	requireCode(t, provider.Undocumented, err)
	g.Expires = time.Now().Add(-time.Second)
	_, err = p.SignHashes(t.Context(), who, g, []provider.Hash{hash})
	requireCode(t, provider.GrantSpent, err)
}

// TestClientCredentials: a token of the provider's authorization server, kept for as long as it says.
func TestClientCredentials(t *testing.T) {
	_, der := leaf(t)
	var url string
	s, url := play(t, map[string]func(string) (int, any){
		"/csc/v2/info": func(string) (int, any) {
			in := info2()
			in.OAuth2 = url + "/as/"
			return 200, in
		},
		"/as/oauth2/token":         always(200, csc1.LoginResponse{AccessToken: "granted", ExpiresIn: 3600}),
		"/csc/v2/credentials/info": always(200, credential2(der)),
	})
	p := csc.New(csc.Config{URL: url, HTTP: provider.NewHTTPClient(nil, 2*time.Second), ClientID: "us", ClientSecret: "s&cret", Now: time.Now})
	for range 2 {
		_, err := p.Describe(t.Context(), provider.Credential{ID: "a"})
		require.NoError(t, err)
	}
	require.Equal(t, "Bearer granted", s.heads["/csc/v2/credentials/info"].Get("Authorization"))
	require.Equal(t, "client_id=us&client_secret=s%26cret&grant_type=client_credentials&scope=service", s.bodies["/as/oauth2/token"])
	require.Equal(t, 1, strings.Count(strings.Join(s.asked, " "), "/as/oauth2/token"))
}

// TestWhatIsNotDoneHere: what needs a browser, a question to the holder or another algorithm is refused by
// name, and what an answer quotes is in no message.
func TestWhatIsNotDoneHere(t *testing.T) {
	_, der := leaf(t)
	browser := credential2(der)
	browser.Auth.Mode = "oauth2code"
	bare := credential2(der)
	bare.Cert.Certificates = nil
	for name, c := range map[string]struct {
		info csc2.CredentialInfo
		code string
	}{
		"browser": {browser, provider.Undocumented}, "no certificate": {bare, provider.AnswerUnreadable},
	} {
		_, url := play(t, map[string]func(string) (int, any){"/csc/v2/info": always(200, info2()), "/csc/v2/credentials/info": always(200, c.info)})
		_, err := withToken(url).Describe(t.Context(), provider.Credential{ID: "a"})
		requireCode(t, c.code, err)
		require.NotEmpty(t, name)
	}
	sms := provider.OTPDevice{ID: "OTP", Kind: provider.OTPSMS}
	s, url := play(t, map[string]func(string) (int, any){
		"/csc/v2/info":                     always(200, info2(csc2.Challenge)),
		"/csc/v2/credentials/getChallenge": always(200, csc2.ChallengeResponse{Challenge: "Your mother's name?"}),
		"/csc/v2/credentials/info":         always(200, credential2(der)),
		"/csc/v2/credentials/authorize":    always(400, wire.Error{Code: "strange", Description: "PIN 12345678 is odd"}),
	})
	_, err := withToken(url).SendOTP(t.Context(), provider.Credential{ID: "a"}, sms, []provider.Hash{{1}})
	requireCode(t, provider.Undocumented, err)
	require.JSONEq(t, `{"credentialID":"a","authObjectID":"OTP"}`, s.bodies["/csc/v2/credentials/getChallenge"], "no more than the specification has")
	_, err = withToken(url).Authorize(t.Context(), provider.Credential{ID: "a"}, []provider.Hash{{1}}, provider.Factors{PIN: "12345678"})
	requireCode(t, provider.Undocumented, err)
	require.NotContains(t, err.Error(), "12345678")

	s, url = play(t, map[string]func(string) (int, any){"/csc/v2/info": always(200, info2(csc2.SendOTP)), "/csc/v2/credentials/sendOTP": always(204, nil)})
	_, err = withToken(url).SendOTP(t.Context(), provider.Credential{ID: "a"}, sms, nil)
	require.NoError(t, err)
	require.Contains(t, s.asked, "/csc/v2/credentials/sendOTP", "the method that info lists")
	_, url = play(t, map[string]func(string) (int, any){"/csc/v2/info": always(200, info2())})
	_, err = withToken(url).SendOTP(t.Context(), provider.Credential{ID: "a"}, sms, nil)
	requireCode(t, provider.OTPNotSent, err)
}
