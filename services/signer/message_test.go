package signer_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/sandbox/otp"
)

const (
	phone     = "+393331234567"
	newPhone  = "+393337654321"
	sms       = signv1.OtpDeviceType_OTP_DEVICE_TYPE_SMS
	email     = signv1.OtpDeviceType_OTP_DEVICE_TYPE_EMAIL
	inMessage = "[0-9]{8}"
)

// holderBySMS is a person whose passwords come by message.
type holderBySMS struct {
	*house
	provider *otp.Provider
	auth     signv1.AuthorizationServiceClient
	name     string
	log      *syncBuffer
}

func openSMS(t *testing.T) *holderBySMS {
	t.Helper()
	const token = "sandbox-token"
	h := &holderBySMS{provider: otp.New(token, nil), log: &syncBuffer{}}
	web := httptest.NewServer(h.provider)
	t.Cleanup(web.Close)
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
	h.house = openWith(t, h.log, fmt.Sprintf("  authorization: {sms: {url: %q, token_file: %q}, email: {url: %q, token_file: %q}}\n", web.URL, file, web.URL, file))
	h.name = h.credential(t, company, person, p256).GetName()
	h.auth = signv1.NewAuthorizationServiceClient(h.DialKey("signer", h.Key(auth.Caller{
		Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"credentials.write", "credentials.read", "credentials.sign"},
	})))
	_, err := h.auth.SetPin(t.Context(), &signv1.SetPinRequest{Name: h.name, Holder: holder, NewPin: goodPIN})
	require.NoError(t, err)
	return h
}

// password is the one in the newest message to an address.
func (h *holderBySMS) password(t *testing.T, to string) string {
	t.Helper()
	list := h.provider.Sent(to)
	require.NotEmpty(t, list)
	found := regexp.MustCompile(inMessage).FindString(list[len(list)-1].Text)
	require.NotEmpty(t, found)
	return found
}

func (h *holderBySMS) enrol(t *testing.T, kind signv1.OtpDeviceType, to string) string {
	t.Helper()
	made, err := h.auth.CreateOtpDevice(t.Context(), &signv1.CreateOtpDeviceRequest{
		Parent: h.name, Pin: goodPIN, OtpDevice: &signv1.OtpDevice{Type: kind, DisplayName: "phone", Address: to},
	})
	require.NoError(t, err)
	require.Empty(t, made.GetOtpauthUri())
	require.NotContains(t, made.GetOtpDevice().GetAddress(), to[4:10])
	_, err = h.auth.ConfirmOtpDevice(t.Context(), &signv1.ConfirmOtpDeviceRequest{Name: made.GetOtpDevice().GetName(), Pin: goodPIN, Otp: h.password(t, to)})
	require.NoError(t, err)
	return made.GetOtpDevice().GetName()
}

func (h *holderBySMS) challenge(t *testing.T, text string) *signv1.Challenge {
	t.Helper()
	sum := sha256.Sum256([]byte(text))
	ch, err := h.auth.CreateChallenge(t.Context(), &signv1.CreateChallengeRequest{Parent: h.name, DocumentSha256: [][]byte{sum[:]}})
	require.NoError(t, err)
	return ch
}

func (h *holderBySMS) send(ch *signv1.Challenge) (*signv1.SendOtpResponse, error) {
	return h.auth.SendOtp(context.Background(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
}

func (h *holderBySMS) authorize(ch *signv1.Challenge, password string) (*signv1.AuthorizeChallengeResponse, error) {
	return h.auth.AuthorizeChallenge(context.Background(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: goodPIN, Otp: password})
}

// TestOneSentCodeOneWinner: a thousand calls with one right PIN and a password that was sent, by text message and by
// e-mail: one of them has it, and what was sent has its three tries and no more.
func TestOneSentCodeOneWinner(t *testing.T) {
	t.Parallel()
	for _, by := range []struct {
		kind signv1.OtpDeviceType
		to   string
	}{{sms, phone}, {email, "maria.rossi@example.com"}} {
		h, ctx := openSMS(t), patient(t)
		h.enrol(t, by.kind, by.to)
		ch := h.challenge(t, "one")
		_, err := h.send(ch)
		require.NoError(t, err)
		password := h.password(t, by.to)
		var won atomic.Int32
		var other sync.Map
		together(crowd, func(int) {
			_, err := h.auth.AuthorizeChallenge(ctx, &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: goodPIN, Otp: password})
			if err == nil {
				won.Add(1)
				return
			}
			other.Store(fault.Of(err).Code, true)
		})
		require.EqualValues(t, 1, won.Load())
		other.Range(func(code, _ any) bool {
			require.Contains(t, []any{"CHALLENGE_CLOSED", "AUTHENTICATION_FAILED", "AUTHENTICATION_LOCKED"}, code)
			return true
		})
	}
}

// TestPasswordsByMessage: a password that is sent opens what it was sent for, once, and nothing else.
func TestPasswordsByMessage(t *testing.T) {
	t.Parallel()
	h := openSMS(t)
	device := h.enrol(t, sms, phone)
	enrolment := h.password(t, phone)
	one, two := h.challenge(t, "one"), h.challenge(t, "two")
	_, err := h.authorize(one, enrolment)
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED")

	sent, err := h.send(one)
	require.NoError(t, err)
	require.Equal(t, "+39*******567", sent.GetAddress())
	require.Equal(t, device, sent.GetOtpDevice())
	list := h.provider.Sent(phone)
	require.Contains(t, list[len(list)-1].Text, fmt.Sprintf("1 documenti, impronta %x", one.GetDigest()[:4]), "the holder sees what is authorized")
	password := h.password(t, phone)
	_, err = h.authorize(two, password)
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED")
	_, err = h.send(one)
	code(t, err, fault.KindExhausted, "OTP_SENT_TOO_OFTEN")

	var won atomic.Int64
	together(3, func(int) { // as many as one password has tries
		_, err := h.authorize(one, password)
		if err == nil {
			won.Add(1)
		}
	})
	require.EqualValues(t, 1, won.Load())

	_, err = h.send(two)
	require.NoError(t, err)
	older := h.password(t, phone)
	three := h.challenge(t, "three")
	_, err = h.send(three) // a new one ends the one before
	require.NoError(t, err)
	newest := h.password(t, phone)
	_, err = h.authorize(two, older)
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED")
	given, err := h.authorize(three, newest)
	require.NoError(t, err)
	sum := sha256.Sum256([]byte("three"))
	signed, err := h.auth.SignHashes(t.Context(), &signv1.SignHashesRequest{
		Name: three.GetName(), Authorization: given.GetAuthorization(), DocumentSha256: [][]byte{sum[:]}, RequestId: uuid.NewString(),
	})
	require.NoError(t, err)
	h.opensslAcceptsDetached(t, signed.GetSignatures()[0].GetCms(), []byte("three"))
	for _, secret := range []string{enrolment, password, older, newest, phone} {
		require.NotContains(t, h.log.String(), secret, "neither passwords nor telephone numbers are logged")
	}
}

func TestPasswordsByMessageEndAndAreRefused(t *testing.T) {
	t.Parallel()
	h := openSMS(t)
	for address, want := range map[string]string{"3331234567": "OTP_ADDRESS", "+39 333": "OTP_ADDRESS", "": "OTP_ADDRESS"} {
		_, err := h.auth.CreateOtpDevice(t.Context(), &signv1.CreateOtpDeviceRequest{Parent: h.name, Pin: goodPIN, OtpDevice: &signv1.OtpDevice{Type: sms, Address: address}})
		code(t, err, fault.KindInvalid, want)
	}
	_, err := h.auth.CreateOtpDevice(t.Context(), &signv1.CreateOtpDeviceRequest{Parent: h.name, Pin: goodPIN, OtpDevice: &signv1.OtpDevice{Type: email, Address: "a@b.it\r\nBcc: x@y.it"}})
	code(t, err, fault.KindInvalid, "OTP_ADDRESS")
	device := h.enrol(t, email, "maria.rossi@example.com")
	const to = "maria.rossi@example.com"

	ch := h.challenge(t, "one")
	h.provider.GoAway(1)
	_, err = h.send(ch)
	code(t, err, fault.KindUnavailable, "OTP_PROVIDER_UNAVAILABLE")
	_, err = h.send(ch) // at once: nothing was sent
	require.NoError(t, err)
	h.exec(t, "UPDATE otp_message SET expires_at = now() - interval '1 second'")
	_, err = h.authorize(ch, h.password(t, to))
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED")

	// The new number is confirmed by a password to the old address, and by one to itself.
	_, err = h.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{OtpDevice: device})
	require.NoError(t, err)
	replaced, err := h.auth.ReplaceOtpDevice(t.Context(), &signv1.ReplaceOtpDeviceRequest{
		Name: device, Pin: goodPIN, Otp: h.password(t, to), OtpDevice: &signv1.OtpDevice{Type: sms, Address: newPhone},
	})
	require.NoError(t, err)
	_, err = h.auth.ConfirmOtpDevice(t.Context(), &signv1.ConfirmOtpDeviceRequest{Name: replaced.GetOtpDevice().GetName(), Pin: goodPIN, Otp: h.password(t, newPhone)})
	require.NoError(t, err)
	ch = h.challenge(t, "two")
	sent, err := h.send(ch)
	require.NoError(t, err)
	require.Equal(t, sms, sent.GetType())
	require.Len(t, h.provider.Sent(newPhone), 2)
	_, err = h.authorize(ch, h.password(t, newPhone))
	require.NoError(t, err)
	_, err = h.send(ch)
	code(t, err, fault.KindPrecondition, "CHALLENGE_CLOSED")
}
