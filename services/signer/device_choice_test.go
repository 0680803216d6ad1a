package signer_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
)

// providerDevice: a challenge names another device of the holder's than the holding has, and its password alone opens it.
func providerDevice(t *testing.T, a *abroad) {
	f := a.enrol(t, "namirial", "RHIP0000011", "APP")
	_, hashes := hashesOf(1)
	with := func(device string) (*signv1.Challenge, error) {
		return f.auth.CreateChallenge(t.Context(), &signv1.CreateChallengeRequest{Parent: f.name, DocumentSha256: hashes, Device: device})
	}
	_, err := with("FAX")
	requireCode(t, "OTP_KIND", err)
	texted := &far{abroad: a, user: f.user, kind: "SMS", name: f.name}
	ch, err := with("SMS")
	require.NoError(t, err)
	sent, err := f.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
	require.NoError(t, err)
	require.Equal(t, signv1.OtpDeviceType_OTP_DEVICE_TYPE_SMS, sent.GetType())
	_, err = f.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: remotePIN, Otp: f.password(t, ch)})
	requireCode(t, "AUTHENTICATION_FAILED", err)
	o, err := f.world.OTP(f.user, "SMS")
	require.NoError(t, err)
	texted.shown = append(texted.shown, o.Password)
	given, err := f.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: remotePIN, Otp: o.Password})
	require.NoError(t, err)
	_, err = f.auth.SignHashes(t.Context(), &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: given.GetAuthorization(), DocumentSha256: hashes, RequestId: uuid.NewString()})
	require.NoError(t, err)

	for _, device := range []string{"", "APP"} { // the holding's, and the same by name
		ch, err := with(device)
		require.NoError(t, err)
		sent, err := f.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
		require.NoError(t, err)
		require.Equal(t, signv1.OtpDeviceType_OTP_DEVICE_TYPE_TOTP, sent.GetType())
		f.authorize(t, ch)
	}
	a.shown = append(a.shown, texted.shown...)
}

// TestDeviceOfAChallenge: with a key in Vault the device that is named is the active one, or the refusal says what it is.
func TestDeviceOfAChallenge(t *testing.T) {
	t.Parallel()
	h := open(t)
	s, other := h.signatory(t, p256), h.signatory(t, p256)
	_, hashes := hashesOf(1)
	with := func(device string) error {
		_, err := s.auth.CreateChallenge(t.Context(), &signv1.CreateChallengeRequest{Parent: s.name, DocumentSha256: hashes, Device: device})
		return err
	}
	require.NoError(t, with(""))
	require.NoError(t, with(s.device))
	for _, device := range []string{other.device, s.name + "/otpDevices/" + uuid.NewString(), "APP"} {
		code(t, with(device), fault.KindNotFound, "OTP_DEVICE_NOT_FOUND")
	}
	next, err := s.auth.ReplaceOtpDevice(t.Context(), &signv1.ReplaceOtpDeviceRequest{Name: s.device, OtpDevice: totp, Pin: goodPIN, Otp: s.phone.code()})
	require.NoError(t, err)
	err = with(next.GetOtpDevice().GetName())
	code(t, err, fault.KindPrecondition, "OTP_DEVICE_STATE")
	require.ErrorContains(t, err, "PENDING")
	h.exec(t, `INSERT INTO otp_device_cooling (device_id, tenant_id, usable_from) VALUES ($1, 'acme', clock_timestamp() + interval '1 hour')`, uuid.MustParse(last(s.device)))
	code(t, with(s.device), fault.KindPrecondition, "OTP_DEVICE_COOLING")
}
