package signer_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/signer/internal/db"
)

const push = signv1.OtpDeviceType_OTP_DEVICE_TYPE_PUSH

// pushApp is the partner's app on the holder's telephone, with its key.
type pushApp struct {
	*signerOf
	key    *ecdsa.PrivateKey
	device string
}

// newPushApp enrols an app; to is how the push provider knows it.
func (s *signerOf) newPushApp(t testing.TB, to string) *pushApp {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	made, err := s.auth.CreateOtpDevice(t.Context(), &signv1.CreateOtpDeviceRequest{
		Parent: s.name, Pin: goodPIN, OtpDevice: &signv1.OtpDevice{Type: push, DisplayName: "app", PublicKey: spki, Address: to},
	})
	require.NoError(t, err)
	a := &pushApp{signerOf: s, key: key, device: made.GetOtpDevice().GetName()}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	_, err = s.auth.ConfirmOtpDevice(t.Context(), &signv1.ConfirmOtpDeviceRequest{Name: a.device, Pin: goodPIN, Proof: signText(t, stranger, made.GetToSign())})
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED")
	_, err = s.auth.ConfirmOtpDevice(t.Context(), &signv1.ConfirmOtpDeviceRequest{Name: a.device, Pin: goodPIN, Proof: signText(t, key, made.GetToSign())})
	require.NoError(t, err)
	return a
}

func signText(t testing.TB, key *ecdsa.PrivateKey, text string) []byte {
	t.Helper()
	sum := sha256.Sum256([]byte(text))
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	require.NoError(t, err)
	return sig
}

// asked is what the app gets by asking.
func (a *pushApp) asked(t testing.TB, wait int32) *signv1.PushRequest {
	t.Helper()
	got, err := a.devices.WaitPushRequests(t.Context(), &signv1.WaitPushRequestsRequest{OtpDevice: a.device, WaitSeconds: wait})
	require.NoError(t, err)
	require.Len(t, got.GetPushRequests(), 1)
	return got.GetPushRequests()[0]
}

func (a *pushApp) approve(t testing.TB, p *signv1.PushRequest, number string) error {
	t.Helper()
	_, err := a.devices.AnswerPushRequest(context.Background(), &signv1.AnswerPushRequestRequest{
		Name: p.GetName(), Number: number, Signature: signText(t, a.key, p.GetToSign()+"approve "+number),
	})
	return err
}

// send asks the app and gives what is shown to the person.
func (a *pushApp) send(t testing.TB, ch *signv1.Challenge) *signv1.SendOtpResponse {
	t.Helper()
	sent, err := a.auth.SendOtp(context.Background(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
	require.NoError(t, err)
	require.Regexp(t, `^[1-9][0-9]$`, sent.GetNumber())
	return sent
}

func other(number string) string {
	if number == "42" {
		return "43"
	}
	return "42"
}

func failuresOf(t testing.TB, h *house, subject string) (n int) {
	t.Helper()
	require.NoError(t, pgtest.Admin(t, h.DB("signer")).QueryRow(context.Background(), `SELECT failures FROM authentication_guard WHERE subject = $1`, subject).Scan(&n))
	return n
}

// TestPushApproval: the app sees what is authorized, the person brings the number, the key signs both.
func TestPushApproval(t *testing.T) {
	t.Parallel()
	h := openMessages(t)
	s := h.person(t, holder)
	a := s.newPushApp(t, "app-instance-0001")
	h.exec(t, `UPDATE authentication_guard SET failures = 0`)
	ch, second := s.challenge(t, "one", "two"), s.challenge(t, "three")

	waited := make(chan *signv1.PushRequest, 1)
	go func() {
		got, err := a.devices.WaitPushRequests(context.Background(), &signv1.WaitPushRequestsRequest{OtpDevice: a.device, WaitSeconds: 20})
		if err == nil && len(got.GetPushRequests()) == 1 {
			waited <- got.GetPushRequests()[0]
		}
		close(waited)
	}()
	sent := a.send(t, ch)
	p := <-waited
	require.NotNil(t, p, "the long poll has it")
	require.Equal(t, sent.GetPushRequest(), p.GetName())
	require.Equal(t, ch.GetName(), p.GetChallenge())
	require.Equal(t, ch.GetDigest(), p.GetDigest())
	require.Equal(t, ch.GetDocumentSha256(), p.GetDocumentSha256())
	require.EqualValues(t, 2, p.GetSignatureCount())
	require.NotContains(t, p.String(), "number")
	nudges := h.provider.Sent("app-instance-0001")
	require.Len(t, nudges, 1)
	require.Equal(t, map[string]string{"push_request": p.GetName()}, nudges[0].Data, "the provider learns a name and nothing else")
	require.NotContains(t, nudges[0].Text, sent.GetNumber())

	id := last(p.GetName())
	_, err := s.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: goodPIN, Otp: id})
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED") // not answered yet
	_, err = a.devices.AnswerPushRequest(t.Context(), &signv1.AnswerPushRequestRequest{Name: p.GetName(), Number: sent.GetNumber(), Signature: signText(t, a.key, p.GetToSign()+"approve "+other(sent.GetNumber()))})
	code(t, err, fault.KindDenied, "PUSH_SIGNATURE_INVALID") // signed with another number than is sent
	_, err = a.devices.AnswerPushRequest(t.Context(), &signv1.AnswerPushRequestRequest{Name: p.GetName(), Number: sent.GetNumber(), Signature: signText(t, a.key, p.GetToSign()+"refuse")})
	code(t, err, fault.KindDenied, "PUSH_SIGNATURE_INVALID")
	require.NoError(t, a.approve(t, p, sent.GetNumber()))
	code(t, a.approve(t, p, sent.GetNumber()), fault.KindPrecondition, "PUSH_REQUEST_CLOSED")

	_, err = s.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: second.GetName(), Pin: goodPIN, Otp: id})
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED") // approved for another challenge
	given, err := s.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: goodPIN, Otp: id})
	require.NoError(t, err)
	require.Equal(t, a.device, given.GetOtpDevice())
	signed, err := s.auth.SignHashes(t.Context(), &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: given.GetAuthorization(), DocumentSha256: ch.GetDocumentSha256(), RequestId: uuid.NewString()})
	require.NoError(t, err)
	require.Len(t, signed.GetSignatures(), 2)
	used, err := a.devices.GetPushRequest(t.Context(), &signv1.GetPushRequestRequest{Name: p.GetName()})
	require.NoError(t, err)
	require.Equal(t, signv1.PushState_PUSH_STATE_USED, used.GetState())
	require.Zero(t, failuresOf(t, h.house, s.name))
}

// TestPushRefusedExpiredWrongNumberAreCounted: five of them lock, and a right approval is not among them.
func TestPushRefusedExpiredWrongNumberAreCounted(t *testing.T) {
	t.Parallel()
	h := openMessages(t)
	s := h.person(t, holder)
	a := s.newPushApp(t, "")
	h.exec(t, `UPDATE authentication_guard SET failures = 0`)
	ch := s.challenge(t, "one")

	sent := a.send(t, ch)
	wrongNumber := a.approve(t, a.asked(t, 0), other(sent.GetNumber()))
	code(t, wrongNumber, fault.KindDenied, "AUTHENTICATION_FAILED")
	_, err := s.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: s.challenge(t, "two").GetName(), Pin: goodPIN, Otp: uuid.NewString()})
	require.Equal(t, fault.Of(err).Message, fault.Of(wrongNumber).Message, "one text for all that is wrong")
	require.Equal(t, 2, failuresOf(t, h.house, s.name))

	sent = a.send(t, ch)
	p := a.asked(t, 0)
	refused, err := a.devices.AnswerPushRequest(t.Context(), &signv1.AnswerPushRequestRequest{Name: p.GetName(), Refuse: true, Signature: signText(t, a.key, p.GetToSign()+"refuse")})
	require.NoError(t, err)
	require.Equal(t, signv1.PushState_PUSH_STATE_REFUSED, refused.GetState())
	code(t, a.approve(t, p, sent.GetNumber()), fault.KindPrecondition, "PUSH_REQUEST_CLOSED")
	require.Equal(t, 3, failuresOf(t, h.house, s.name))

	sent = a.send(t, ch)
	p = a.asked(t, 0)
	h.exec(t, `UPDATE push_request SET expires_at = date_trunc('second', now()) - interval '1 second' WHERE id = $1`, last(p.GetName()))
	late, err := a.devices.GetPushRequest(t.Context(), &signv1.GetPushRequestRequest{Name: p.GetName()})
	require.NoError(t, err)
	require.Equal(t, signv1.PushState_PUSH_STATE_EXPIRED, late.GetState())
	code(t, a.approve(t, late, sent.GetNumber()), fault.KindPrecondition, "PUSH_REQUEST_CLOSED")
	require.Equal(t, 4, failuresOf(t, h.house, s.name))

	first := a.send(t, ch)
	older := a.asked(t, 0)
	require.Equal(t, first.GetPushRequest(), older.GetName())
	_, err = a.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
	code(t, err, fault.KindExhausted, "AUTHENTICATION_LOCKED") // nobody is worn down with questions
	h.exec(t, `UPDATE authentication_guard SET failures = 0, locked_until = NULL, locks = 0`)
	sent = a.send(t, ch)
	code(t, a.approve(t, older, first.GetNumber()), fault.KindPrecondition, "PUSH_REQUEST_CLOSED") // superseded
	require.NoError(t, a.approve(t, a.asked(t, 0), sent.GetNumber()))
	require.Zero(t, failuresOf(t, h.house, s.name))
}

// TestPushKeysAreChecked: what is no P-256 key is no app.
func TestPushKeysAreChecked(t *testing.T) {
	t.Parallel()
	h := openMessages(t)
	s := h.person(t, holder)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	spki, err := x509.MarshalPKIXPublicKey(p384.Public())
	require.NoError(t, err)
	for _, key := range [][]byte{nil, {1, 2, 3}, spki} {
		_, err := s.auth.CreateOtpDevice(t.Context(), &signv1.CreateOtpDeviceRequest{Parent: s.name, Pin: goodPIN, OtpDevice: &signv1.OtpDevice{Type: push, PublicKey: key}})
		code(t, err, fault.KindInvalid, "PUSH_KEY")
	}
	_, err = s.auth.CreateOtpDevice(t.Context(), &signv1.CreateOtpDeviceRequest{Parent: s.name, Pin: goodPIN, OtpDevice: &signv1.OtpDevice{Type: email, Address: "a@example.com", PublicKey: spki}})
	code(t, err, fault.KindInvalid, "OTP_DEVICE_FIELDS")
}

// TestOnePushAnswerOneWinner: a thousand answers to one question, then a thousand uses of one approval.
func TestOnePushAnswerOneWinner(t *testing.T) {
	t.Parallel()
	h := openMessages(t)
	s := h.person(t, holder)
	a := s.newPushApp(t, "")
	h.exec(t, `UPDATE authentication_guard SET failures = 0`)
	ch := s.challenge(t, "one")
	sent := a.send(t, ch)
	p := a.asked(t, 0)
	answer := &signv1.AnswerPushRequestRequest{Name: p.GetName(), Number: sent.GetNumber(), Signature: signText(t, a.key, p.GetToSign()+"approve "+sent.GetNumber())}
	var won, closed atomic.Int32
	together(crowd, func(int) {
		_, err := a.devices.AnswerPushRequest(context.Background(), answer)
		switch {
		case err == nil:
			won.Add(1)
		case fault.Of(err).Code == "PUSH_REQUEST_CLOSED":
			closed.Add(1)
		}
	})
	require.EqualValues(t, 1, won.Load())
	require.EqualValues(t, crowd-1, closed.Load())

	store := h.DB("signer")
	won.Store(0)
	var errs atomic.Int32
	together(crowd, func(int) {
		now := pg.Time(time.Now())
		err := store.Tx(context.Background(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			n, err := db.New(tx).UsePush(ctx, db.UsePushParams{
				ID: uuid.MustParse(last(p.GetName())), DeviceID: uuid.MustParse(last(a.device)), Binding: uuid.MustParse(last(ch.GetName())), At: &now,
			})
			won.Add(int32(n)) //nolint:gosec // 0 or 1
			return err
		})
		if err != nil {
			errs.Add(1)
		}
	})
	require.Zero(t, errs.Load(), "each was decided by the statement")
	require.EqualValues(t, 1, won.Load())
}
