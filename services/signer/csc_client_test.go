package signer_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/csc/csc2"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/signer/internal/provider"
	cscclient "ceralacca.dev/services/signer/internal/provider/csc"
	"ceralacca.dev/services/signer/internal/provider/providertest"
)

// cscPatience is that of one call: argon2id takes its time, more so beside other tests.
const cscPatience = 4 * time.Second

// line is the way from the client to the signer, on which things go wrong when they are told to.
type line struct {
	signer string

	mu   sync.Mutex
	path string
	how  providertest.Trouble
	skip int
}

func (l *line) fail(path string, how providertest.Trouble, skip int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.path, l.how, l.skip = "/csc/v2/"+path, how, skip
}

func (l *line) trouble(path string) providertest.Trouble {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.path != path {
		return ""
	}
	if l.skip > 0 {
		l.skip--
		return ""
	}
	l.path = ""
	return l.how
}

func (l *line) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	how := l.trouble(r.URL.Path)
	switch how {
	case providertest.CutBefore:
		panic(http.ErrAbortHandler)
	case providertest.Broken:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case providertest.Unavailable:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case providertest.Busy: // as the signer says it
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"error":"temporarily_unavailable"}`)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	// What left is done also when who asked goes away.
	req, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, l.signer+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	req.Header = r.Header.Clone()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	switch how {
	case providertest.CutAfter:
		panic(http.ErrAbortHandler)
	case providertest.BrokenAfter:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case providertest.UnavailableAfter:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case providertest.Garbage:
		_, _ = io.WriteString(w, "<html>a page of a proxy</html>")
		return
	case providertest.Slow:
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

// TestCSCClientAndServer is the suite of all providers, with our client of version 2 on one side and the
// signer with a real Vault on the other.
func TestCSCClientAndServer(t *testing.T) {
	t.Parallel()
	r := openCSC(t, ", otp_without_hashes: true") // the suite has passwords sent before it has digests
	wire := &line{signer: "http://" + r.HTTP}
	front := httptest.NewServer(wire)
	t.Cleanup(front.Close)
	key := r.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"credentials.write", "credentials.read", "credentials.sign"}})
	connect := func(url string) *cscclient.Client {
		return cscclient.New(cscclient.Config{URL: url, HTTP: provider.NewHTTPClient(nil, cscPatience), Token: key, BindPasswords: true, Now: time.Now})
	}
	us := connect(front.URL)
	paths := map[providertest.Step]string{providertest.Authorize: csc2.Authorize, providertest.Sign: csc2.SignHash}
	var people atomic.Int64
	bench := func(kind signv1.KeyType) func(testing.TB) *providertest.Bench {
		return func(testing.TB) *providertest.Bench {
			return &providertest.Bench{
				Provider: us, Away: connect("http://127.0.0.1:1/csc/v2"), SingleUse: true,
				Enrol: func(t testing.TB) providertest.Holder {
					p := r.personWith(t, key, kind, fmt.Sprintf("+3934%08d", people.Add(1)))
					return providertest.Holder{Credential: provider.Credential{ID: p.id}, PIN: goodPIN}
				},
				OTP: func(t testing.TB, h providertest.Holder, d provider.OTPDevice) string { return r.otpOf(t, us, h, d) },
				Signed: func(t testing.TB, h providertest.Holder) int {
					var n int
					require.NoError(t, pgtest.Admin(t, r.DB("signer")).QueryRow(context.Background(),
						`SELECT coalesce(sum(cardinality(signed_sha256)), 0) FROM challenge WHERE credential_id = $1 AND state = 'SIGNED'`, h.Credential.ID).Scan(&n))
					return n
				},
				Fail: func(_ testing.TB, step providertest.Step, how providertest.Trouble, skip int) {
					wire.fail(paths[step], how, skip)
				},
				End: func(t testing.TB, h providertest.Holder) {
					r.exec(t, `UPDATE challenge SET expires_at = now() - interval '1 second' WHERE credential_id = $1 AND state = 'AUTHORIZED'`, h.Credential.ID)
				},
			}
		}
	}
	t.Run("P-256", func(t *testing.T) { providertest.Run(t, bench(p256)) })
	t.Run("RSA-3072", func(t *testing.T) { providertest.Run(t, bench(rsa3072), "openssl agrees") })
}

// otpOf has a password sent and reads the holder's telephone. Between two for the same the signer wants
// half a minute, which is made to have passed.
func (r *rssp) otpOf(t testing.TB, p provider.Provider, h providertest.Holder, d provider.OTPDevice) string {
	t.Helper()
	r.exec(t, `UPDATE otp_message SET sent_at = sent_at - interval '1 minute', sent_today = 0
		WHERE device_id IN (SELECT id FROM otp_device WHERE credential_id = $1)`, h.Credential.ID)
	_, err := p.SendOTP(t.Context(), h.Credential, d, nil)
	require.NoError(t, err)
	var to string
	require.NoError(t, pgtest.Admin(t, r.DB("signer")).QueryRow(context.Background(),
		`SELECT address FROM otp_device WHERE credential_id = $1 AND state = 'ACTIVE'`, h.Credential.ID).Scan(&to))
	list := r.provider.Sent(to)
	require.NotEmpty(t, list)
	return regexp.MustCompile(inMessage).FindString(list[len(list)-1].Text)
}
