package signer_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/csc"
	"ceralacca.dev/services/format/csc/csc2"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/signer/internal/provider"
	cscclient "ceralacca.dev/services/signer/internal/provider/csc"
)

// cscApp is a CSC client and the app of its holder.
type cscApp struct {
	*cscPerson
	app *pushApp
}

func (r *rssp) withApp(t testing.TB, whose string) *cscApp {
	t.Helper()
	s := &signerOf{messages: &messages{house: r.house, provider: r.provider}, name: r.credential(t, company, person, p256).GetName()}
	s.caller = auth.Caller{ID: "product", Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}}
	s.dial()
	_, err := s.auth.SetPin(t.Context(), &signv1.SetPinRequest{Name: s.name, Holder: whose, NewPin: goodPIN})
	require.NoError(t, err)
	p := &cscApp{cscPerson: &cscPerson{rssp: r, name: s.name, id: last(s.name), key: r.Key(s.caller), auth: s.auth}, app: s.newPushApp(t, "")}
	r.exec(t, `UPDATE authentication_guard SET failures = 0`)
	return p
}

// number is what the client shows.
func (p *cscApp) number(t testing.TB) string {
	t.Helper()
	var asked csc2.ChallengeResponse
	require.NoError(t, p.post(t, csc2.Challenge, csc2.ChallengeRequest{CredentialID: p.id, AuthObjectID: "OTP"}, &asked))
	require.Regexp(t, `^[1-9][0-9]$`, asked.Challenge)
	return asked.Challenge
}

func (p *cscApp) shows(hashes [][]byte, pin string) *csc2.AuthorizeRequest {
	return &csc2.AuthorizeRequest{
		CredentialID: p.id, NumSignatures: len(hashes), Hashes: hashes, HashAlgorithm: csc.SHA256, AuthData: []csc2.AuthValue{{ID: "PIN", Value: pin}, {ID: "OTP"}},
	}
}

// begin has the app asked for digests and gives the handle.
func (p *cscApp) begin(t testing.TB, hashes [][]byte, pin string) string {
	t.Helper()
	var given csc2.SADResponse
	status, err := p.postFor(t, csc2.Authorize, p.shows(hashes, pin), &given)
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, status)
	require.Empty(t, given.SAD)
	require.NotEmpty(t, given.Handle)
	return given.Handle
}

func (p *cscApp) check(t testing.TB, handle string) (status int, given csc2.SADResponse, err error) {
	t.Helper()
	status, err = p.postFor(t, csc2.Check, csc2.CheckRequest{Handle: handle}, &given)
	return status, given, err
}

func (p *cscApp) refuse(t testing.TB) {
	t.Helper()
	q := p.app.asked(t, 0)
	_, err := p.app.devices.AnswerPushRequest(t.Context(), &signv1.AnswerPushRequestRequest{Name: q.GetName(), Refuse: true, Signature: signText(t, p.app.key, q.GetToSign()+"refuse")})
	require.NoError(t, err)
}

// TestCSCApproval: a holder whose device is an app signs through a CSC client: the client shows the number that getChallenge gives, the
// app shows the digests, and the client asks for the SAD until both factors are there.
func TestCSCApproval(t *testing.T) {
	t.Parallel()
	r := openCSC(t, "")
	p := r.withApp(t, holder)
	var info csc2.CredentialInfo
	require.NoError(t, p.post(t, csc2.Credential, csc2.CredentialRequest{CredentialID: p.id, Detail: csc2.Detail{AuthInfo: true}}, &info))
	require.Equal(t, "enabled", info.Key.Status)
	require.Equal(t, "PIN AND OTP", info.Auth.Expression)
	require.Equal(t, "ChallengeResponseOOB", info.Auth.Objects[1].Type)
	hashes := digests("a contract", "its annex")

	refused(t, p.post(t, csc2.Authorize, p.shows(hashes, goodPIN), nil), "invalid_request", "The authentication object OTP has no challenge: call credentials/getChallenge before each authorization")
	number := p.number(t)
	waiting, err := p.app.devices.WaitPushRequests(t.Context(), &signv1.WaitPushRequestsRequest{OtpDevice: p.app.device})
	require.NoError(t, err)
	require.Empty(t, waiting.GetPushRequests(), "the app is asked when it is known what for")
	handle := p.begin(t, hashes, goodPIN)
	q := p.app.asked(t, 0)
	require.ElementsMatch(t, hashes, q.GetDocumentSha256(), "the app sees what is signed")
	status, again, err := p.check(t, handle)
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, status)
	require.Equal(t, handle, again.Handle)
	require.NoError(t, p.app.approve(t, q, number))
	status, given, err := p.check(t, handle)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	require.NotEmpty(t, given.SAD)
	require.Empty(t, given.Handle)
	_, _, err = p.check(t, handle)
	refused(t, err, "invalid_request", "Invalid parameter handle")
	_, err = p.signHash(t, given.SAD, digests("another"))
	refused(t, err, "invalid_request", "Hash is not authorized by the SAD")
	signatures, err := p.signHash(t, given.SAD, hashes)
	require.NoError(t, err)
	require.Len(t, signatures, 2)
	require.Zero(t, failuresOf(t, r.house, p.name))

	t.Run("a wrong PIN is told with the app's answer", func(t *testing.T) {
		number, hashes := p.number(t), digests("wrong PIN")
		handle := p.begin(t, hashes, "19283746")
		status, _, err := p.check(t, handle)
		require.NoError(t, err)
		require.Equal(t, http.StatusAccepted, status)
		require.NoError(t, p.app.approve(t, p.app.asked(t, 0), number))
		_, _, wrongPIN := p.check(t, handle)
		refused(t, wrongPIN, "invalid_authentication_data", "The authentication data is invalid")
		require.Equal(t, 1, failuresOf(t, r.house, p.name))

		p.number(t)
		handle = p.begin(t, digests("refused"), goodPIN)
		p.refuse(t)
		_, _, err = p.check(t, handle)
		require.Equal(t, wrongPIN, err, "as a refusal is")
		r.exec(t, `UPDATE authentication_guard SET failures = 0`)
	})
	t.Run("a wrong number", func(t *testing.T) {
		number := p.number(t)
		handle := p.begin(t, digests("wrong number"), goodPIN)
		require.Error(t, p.app.approve(t, p.app.asked(t, 0), other(number)))
		_, _, err := p.check(t, handle)
		refused(t, err, "invalid_authentication_data", "The authentication data is invalid")
		r.exec(t, `UPDATE authentication_guard SET failures = 0`)
	})
	t.Run("nobody answered", func(t *testing.T) {
		p.number(t)
		handle := p.begin(t, digests("late"), goodPIN)
		r.exec(t, `UPDATE push_request SET expires_at = date_trunc('second', now()) - interval '1 second' WHERE id = $1`, last(p.app.asked(t, 0).GetName()))
		_, _, err := p.check(t, handle)
		refused(t, err, "invalid_authentication_data", "The authentication data is invalid")
		r.exec(t, `UPDATE authentication_guard SET failures = 0`)
	})
	t.Run("the number shown last is the one that counts", func(t *testing.T) {
		first, second := p.number(t), p.number(t)
		for first == second {
			second = p.number(t)
		}
		handle := p.begin(t, digests("two numbers"), goodPIN)
		require.NoError(t, p.app.approve(t, p.app.asked(t, 0), second))
		_, given, err := p.check(t, handle)
		require.NoError(t, err)
		require.NotEmpty(t, given.SAD)
	})
	t.Run("another caller's handle", func(t *testing.T) {
		number := p.number(t)
		handle := p.begin(t, digests("not yours"), goodPIN)
		require.NoError(t, p.app.approve(t, p.app.asked(t, 0), number))
		stranger := *p.cscPerson
		stranger.key = r.Key(auth.Caller{ID: "another", Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}})
		refused(t, stranger.post(t, csc2.Check, csc2.CheckRequest{Handle: handle}, nil), "invalid_request", "Invalid parameter handle")
		foreign := *p.cscPerson
		foreign.key = r.Key(auth.Caller{ID: "product", Role: auth.RoleTenant, Tenant: "other", Scopes: []string{"*"}})
		refused(t, foreign.post(t, csc2.Check, csc2.CheckRequest{Handle: handle}, nil), "invalid_request", "Invalid parameter handle")
		_, given, err := p.check(t, handle)
		require.NoError(t, err)
		require.NotEmpty(t, given.SAD)
	})
	t.Run("fifty ask at the same moment", func(t *testing.T) {
		number := p.number(t)
		handle := p.begin(t, digests("race"), goodPIN)
		require.NoError(t, p.app.approve(t, p.app.asked(t, 0), number))
		var have atomic.Int64
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				_, given, err := p.check(t, handle)
				var e *csc.Error
				if err == nil && given.SAD != "" {
					have.Add(1)
				} else if !errors.As(err, &e) || e.Description != "Invalid parameter handle" {
					t.Errorf("%v", err)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, have.Load())
		require.Zero(t, failuresOf(t, r.house, p.name))
	})
	t.Run("what is not offered", func(t *testing.T) {
		ask := p.shows(digests("more"), goodPIN)
		ask.NumSignatures = 2
		refused(t, p.post(t, csc2.Authorize, ask, nil), "invalid_request", "Invalid value for parameter numSignatures")
		ask = p.shows(digests("a password"), goodPIN)
		ask.AuthData[1].Value = "12345678"
		refused(t, p.post(t, csc2.Authorize, ask, nil), "invalid_request", "Invalid parameter authData")
		ask.AuthData = ask.AuthData[:1]
		refused(t, p.post(t, csc2.Authorize, ask, nil), "invalid_request", "Missing (or invalid type) array parameter authData")
		refused(t, p.post(t, csc2.SendOTP, csc2.ChallengeRequest{CredentialID: p.id, Hashes: digests("x"), HashAlgorithm: csc.SHA256, NumSignatures: 1}, nil), "invalid_request", "The credential identified by credentialID is disabled")
		refused(t, p.post(t, csc2.Check, csc2.CheckRequest{Handle: "nothing"}, nil), "invalid_request", "Invalid parameter handle")
	})
	t.Run("what nobody comes back for is forgotten", func(t *testing.T) {
		p.number(t)
		p.begin(t, digests("nobody comes back"), goodPIN)
		p.number(t)
		waiting := func() (n int) {
			require.NoError(t, pgtest.Admin(t, r.DB("signer")).QueryRow(t.Context(), `SELECT count(*) FROM csc_approval WHERE credential_id = $1`, p.id).Scan(&n))
			return n
		}
		require.GreaterOrEqual(t, waiting(), 2)
		r.exec(t, `UPDATE csc_approval SET expires_at = now() WHERE credential_id = $1`, p.id)
		eventually(t, "it is gone", func() bool { return waiting() == 0 })
		r.exec(t, `UPDATE authentication_guard SET failures = 0`)
	})
	t.Run("many wrong PINs lock", func(t *testing.T) {
		r.exec(t, `UPDATE authentication_guard SET failures = 0`)
		for range 2 {
			number := p.number(t)
			handle := p.begin(t, digests(number+" locks"), "19283746")
			p.refuse(t)
			_, _, err := p.check(t, handle)
			refused(t, err, "invalid_authentication_data", "The authentication data is invalid")
		}
		p.number(t)
		var err error
		for i := 0; i < 3 && err == nil; i++ {
			err = p.post(t, csc2.Authorize, p.shows(digests("locked"), goodPIN), &csc2.SADResponse{})
			p.number(t)
		}
		refused(t, err, "invalid_request", "Credential locked")
	})
}

// TestCSCApprovalWithOurClient: the client of providers shows the number of this server, and waits for the app.
func TestCSCApprovalWithOurClient(t *testing.T) {
	t.Parallel()
	r := openCSC(t, "")
	p := r.withApp(t, holder)
	us := cscclient.New(cscclient.Config{
		URL: r.base, HTTP: provider.NewHTTPClient(nil, cscPatience), Token: p.key, BindPasswords: true, Now: time.Now, Poll: 50 * time.Millisecond,
	})
	who := provider.Credential{ID: p.id}
	d, err := us.Describe(t.Context(), who)
	require.NoError(t, err)
	require.Equal(t, []provider.OTPDevice{{ID: "OTP", Kind: provider.OTPPush}}, d.OTP)
	hash := sha256.Sum256([]byte("a contract"))
	number, err := us.SendOTP(t.Context(), who, d.OTP[0], []provider.Hash{hash})
	require.NoError(t, err)
	type answer struct {
		grant provider.Grant
		err   error
	}
	given := make(chan answer, 1)
	go func() {
		grant, err := us.Authorize(t.Context(), who, []provider.Hash{hash}, provider.Factors{PIN: goodPIN, Device: "OTP"})
		given <- answer{grant, err}
	}()
	require.NoError(t, p.app.approve(t, p.app.asked(t, 20), number))
	got := <-given
	require.NoError(t, got.err)
	signatures, err := us.SignHashes(t.Context(), who, got.grant, []provider.Hash{hash})
	require.NoError(t, err)
	require.True(t, ecdsa.VerifyASN1(d.Chain[0].PublicKey.(*ecdsa.PublicKey), hash[:], signatures[0]))
}
