package sws_test

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
	"ceralacca.dev/services/signer/internal/provider/providertest"
	"ceralacca.dev/services/signer/internal/provider/soap"
	"ceralacca.dev/services/signer/internal/provider/sws"
)

// codes are those of the sandbox: they stand for what a contract's manual says.
var codes = provider.Codes{"9000": provider.MeansWrong, "9001": provider.MeansLocked, "9002": provider.MeansSpent, "9004": provider.MeansBusy}

func client(url string) *sws.Client {
	return sws.New(sws.Config{
		SOAP: soap.Client{HTTP: provider.NewHTTPClient(nil, providertest.Timeout), Endpoint: url}, Codes: codes, Now: time.Now,
	})
}

var update = flag.Bool("update", false, "write the golden files")

func TestConformance(t *testing.T) {
	for _, key := range []string{"p256", "rsa2048"} {
		var only []string
		if key == "rsa2048" {
			only = providertest.Signing
		}
		t.Run(key, func(t *testing.T) {
			var users atomic.Int64
			providertest.Run(t, func(t testing.TB) *providertest.Bench {
				w := providertest.OpenWorld(t, (*remotesign.World).SWS, map[providertest.Step]string{providertest.Authorize: "openSession", providertest.Sign: "signPkcs1"})
				p := client(w.URL)
				return &providertest.Bench{
					Provider: p, Away: client("http://127.0.0.1:1"), OneByOne: true, Fail: w.Fail,
					Enrol: func(t testing.TB) providertest.Holder {
						h := w.Enrol(t, fmt.Sprintf("RHIP%07d", users.Add(1)), key)
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

// TestRequests compares what goes out with files, which were checked by hand against what is published.
func TestRequests(t *testing.T) {
	var got []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		http.Error(w, "", http.StatusForbidden)
	}))
	defer server.Close()
	c := client(server.URL)
	who := provider.Credential{ID: "RHIP1234567"}
	for operation, call := range map[string]func() error{
		"getCertificate": func() error { _, err := c.Describe(t.Context(), who); return err },
		"sendOtpBySMS": func() error {
			_, err := c.SendOTP(t.Context(), who, provider.OTPDevice{ID: "501719", Kind: provider.OTPSMS}, nil)
			return err
		},
		"sendOtpByPUSH": func() error {
			_, err := c.SendOTP(t.Context(), who, provider.OTPDevice{ID: "501719", Kind: provider.OTPPush}, nil)
			return err
		},
		"openSession": func() error {
			_, err := c.Authorize(t.Context(), who, nil, provider.Factors{PIN: "12345678", OTP: "654321", Device: "501719"})
			return err
		},
		"signPkcs1": func() error {
			_, err := c.SignHashes(t.Context(), who, provider.Grant{Token: []byte(`{"key":"S&1","pin":"12345678"}`), Expires: time.Now().Add(time.Hour)}, []provider.Hash{{1, 2, 3}})
			return err
		},
	} {
		require.ErrorContains(t, call(), provider.AccountRefused, operation)
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
	status, answer := http.StatusOK, ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `<S:Envelope xmlns:S="http://schemas.xmlsoap.org/soap/envelope/"><S:Body>`+answer+`</S:Body></S:Envelope>`)
	}))
	defer server.Close()
	c := client(server.URL)
	status = http.StatusInternalServerError
	for in, want := range map[string]string{
		`<S:Fault><faultstring>x</faultstring><detail><n:WSException xmlns:n="x"><error>1001</error></n:WSException></detail></S:Fault>`: provider.CredentialUnknown,
		`<S:Fault><faultstring>x</faultstring><detail><n:WSException xmlns:n="x"><error>44</error></n:WSException></detail></S:Fault>`:   provider.Undocumented,
		`<S:Fault><faultstring>Could not send Message</faultstring></S:Fault>`:                                                           provider.OutcomeUnknown,
	} {
		answer = in
		_, err := c.Authorize(t.Context(), provider.Credential{ID: "RHIP1"}, nil, provider.Factors{PIN: "12345678", OTP: "654321", Device: "1"})
		var e *provider.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, want, e.Code, in)
	}
}
