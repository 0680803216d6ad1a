package arss_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/sandbox/remotesign"
	"ceralacca.dev/services/signer/internal/provider"
	"ceralacca.dev/services/signer/internal/provider/arss"
	"ceralacca.dev/services/signer/internal/provider/providertest"
	"ceralacca.dev/services/signer/internal/provider/soap"
)

// codes are those of the sandbox: they stand for what a contract's manual says.
var codes = provider.Codes{"9001": provider.MeansLocked, "9002": provider.MeansSpent, "9003": provider.MeansUnknown, "9004": provider.MeansBusy}

func client(url string, kinds ...provider.OTPKind) *arss.Client {
	return arss.New(arss.Config{
		SOAP:   soap.Client{HTTP: provider.NewHTTPClient(nil, providertest.Timeout), Endpoint: url},
		Domain: remotesign.Domain, HSM: "COSIGN", User: remotesign.AppUser, Password: remotesign.AppPassword,
		OTP: kinds, Codes: codes, Now: time.Now,
	})
}

var update = flag.Bool("update", false, "write the golden files")

func TestConformance(t *testing.T) {
	for name, key := range map[string]string{"EC, by telephone": "p256", "RSA, app": "rsa2048"} {
		kind, only := provider.OTPSMS, []string(nil)
		if key == "rsa2048" {
			kind, only = provider.OTPApp, providertest.Signing
		}
		t.Run(name, func(t *testing.T) {
			var users atomic.Int64
			providertest.Run(t, func(t testing.TB) *providertest.Bench {
				w := providertest.OpenWorld(t, (*remotesign.World).ARSS, map[providertest.Step]string{providertest.Authorize: "opensession", providertest.Sign: "signhash"})
				p := client(w.URL, kind)
				return &providertest.Bench{
					Provider: p, Away: client("http://127.0.0.1:1", kind), OneByOne: true, Fail: w.Fail,
					Enrol: func(t testing.TB) providertest.Holder {
						return w.Enrol(t, fmt.Sprintf("user%d", users.Add(1)), key)
					},
					OTP: func(t testing.TB, h providertest.Holder, d provider.OTPDevice) string {
						return w.OTP(t, p, h, h.Credential.User, d)
					},
					Signed: func(t testing.TB, h providertest.Holder) int { return w.Signed(t, h.Credential.User) },
					End:    func(_ testing.TB, h providertest.Holder) { w.EndSessions(h.Credential.User) },
				}
			}, only...)
		})
	}
}

// TestRequests compares what goes out with files, which were checked by hand against the published schema.
func TestRequests(t *testing.T) {
	var got []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		http.Error(w, "", http.StatusForbidden)
	}))
	defer server.Close()
	c := client(server.URL, provider.OTPSMS)
	who := provider.Credential{ID: "AS0", User: "anna"}
	grant := provider.Grant{Token: []byte(`{"id":"S&1","pin":"12345678"}`), Expires: time.Now().Add(time.Hour)}
	for operation, call := range map[string]func() error{
		"listCertAuth": func() error { _, err := c.Describe(t.Context(), who); return err },
		"sendCredentialAuth": func() error {
			_, err := c.SendOTP(t.Context(), who, provider.OTPDevice{Kind: provider.OTPSMS}, nil)
			return err
		},
		"opensession": func() error {
			_, err := c.Authorize(t.Context(), who, nil, provider.Factors{PIN: "12345678", OTP: "654321"})
			return err
		},
		"signhash": func() error {
			_, err := c.SignHashes(t.Context(), who, grant, []provider.Hash{{1, 2, 3}})
			return err
		},
		"closesession": func() error { return c.Close(t.Context(), who, grant) },
	} {
		err := call()
		require.Equal(t, provider.Refused, provider.OutcomeOf(err), operation)
		require.ErrorContains(t, err, provider.AccountRefused)
		path := filepath.Join("testdata", operation+".xml")
		if *update {
			require.NoError(t, os.WriteFile(path, got, 0o600))
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), operation)
	}
}

func TestWhatIsNotPublicIsNamed(t *testing.T) {
	answer := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `<S:Envelope xmlns:S="http://schemas.xmlsoap.org/soap/envelope/"><S:Body>`+answer+`</S:Body></S:Envelope>`)
	}))
	defer server.Close()
	c := client(server.URL)
	for in, want := range map[string]string{
		`<a:opensessionResponse xmlns:a="x"><return>KO-0009</return></a:opensessionResponse>`: provider.Undocumented,
		`<a:opensessionResponse xmlns:a="x"><return>KO-0003</return></a:opensessionResponse>`: provider.FactorsWrong,
		`<a:opensessionResponse xmlns:a="x"><return> </return></a:opensessionResponse>`:       provider.OutcomeUnknown,
		`<a:other xmlns:a="x"/>`: provider.OutcomeUnknown,
		`<S:Fault><faultstring>Could not send Message</faultstring></S:Fault>`:           provider.OutcomeUnknown,
		`<S:Fault><faultstring>0003: x</faultstring><detail><e>1</e></detail></S:Fault>`: provider.FactorsWrong,
	} {
		answer = in
		_, err := c.Authorize(t.Context(), provider.Credential{ID: "AS0", User: "anna"}, nil, provider.Factors{PIN: "12345678", OTP: "654321"})
		var e *provider.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, want, e.Code, in)
	}
}
