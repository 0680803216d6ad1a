package signer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
)

// told says whether a notice with these words came to an address.
func (m *messages) told(to, words string) func() bool {
	return func() bool {
		for _, msg := range m.provider.Sent(to) {
			if strings.Contains(msg.Text, words) {
				return true
			}
		}
		return false
	}
}

// TestNumberChangedByAnotherDevice: the telephone is lost. PIN and the holder's other device enrol a new number,
// the old number hears of it, and the new one signs only after the time of cooling.
func TestNumberChangedByAnotherDevice(t *testing.T) {
	t.Parallel()
	c := &clock{}
	m := openMessagesWith(t, nil, c, "")
	s, second, stranger := m.person(t, holder), m.person(t, holder), m.person(t, "tenants/acme/users/u-99")
	old := s.enrolSent(t, sms, phone)
	other := second.enrolSent(t, email, "maria.rossi@example.com")
	foreign := stranger.enrolSent(t, email, "luca.bianchi@example.com")
	_, err := s.devices.SetHolderContact(t.Context(), &signv1.SetHolderContactRequest{Name: s.name, Email: "not an address", Pin: goodPIN})
	code(t, err, fault.KindInvalid, "CONTACT_ADDRESS")

	recoverBy := func(device, pin, otp string) (*signv1.EnrolledOtpDevice, error) {
		return s.devices.RecoverOtpDevice(t.Context(), &signv1.RecoverOtpDeviceRequest{
			Parent: s.name, OtpDevice: &signv1.OtpDevice{Type: sms, DisplayName: "new", Address: newPhone}, Pin: pin, OtherDevice: device, Otp: otp,
		})
	}
	_, err = recoverBy(foreign, goodPIN, "00000000")
	code(t, err, fault.KindPrecondition, "OTHER_DEVICE_UNFIT") // another holder's
	_, err = recoverBy(old, goodPIN, "00000000")
	code(t, err, fault.KindPrecondition, "OTHER_DEVICE_UNFIT") // that is ReplaceOtpDevice
	c.advance(time.Minute)
	_, err = second.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{OtpDevice: other})
	require.NoError(t, err)
	_, err = recoverBy(other, "40718361", s.lastPassword(t, "maria.rossi@example.com"))
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED")
	c.advance(time.Minute)
	_, err = second.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{OtpDevice: other})
	require.NoError(t, err)
	made, err := recoverBy(other, goodPIN, s.lastPassword(t, "maria.rossi@example.com"))
	require.NoError(t, err)
	eventually(t, "the old number hears of it", m.told(phone, "senza il dispositivo attuale"))
	_, err = s.auth.ConfirmOtpDevice(t.Context(), &signv1.ConfirmOtpDeviceRequest{Name: made.GetOtpDevice().GetName(), Pin: goodPIN, Otp: s.lastPassword(t, newPhone)})
	require.NoError(t, err)
	eventually(t, "and that it is done", m.told(phone, "un nuovo dispositivo della firma è attivo"))

	ch := s.challenge(t, "contract")
	_, err = s.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
	require.NoError(t, err)
	_, err = s.authorize(ch, s.lastPassword(t, newPhone))
	code(t, err, fault.KindPrecondition, "OTP_DEVICE_COOLING")
	c.advance(25 * time.Hour)
	ch = s.challenge(t, "contract")
	_, err = s.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
	require.NoError(t, err)
	_, err = s.authorize(ch, s.lastPassword(t, newPhone))
	require.NoError(t, err)
}

// TestHoldersAreToldOfEachUse: to the contact, on the bus, and the contact that is given up hears of that.
func TestHoldersAreToldOfEachUse(t *testing.T) {
	t.Parallel()
	c := &clock{}
	m := openMessagesWith(t, nil, c, "")
	s := m.person(t, holder)
	_, err := s.devices.GetHolderContact(t.Context(), &signv1.GetHolderContactRequest{Name: s.name})
	code(t, err, fault.KindNotFound, "CONTACT_NOT_SET")
	set, err := s.devices.SetHolderContact(t.Context(), &signv1.SetHolderContactRequest{Name: s.name, Email: "maria.rossi@example.com", Phone: newPhone, Pin: goodPIN})
	require.NoError(t, err)
	require.Equal(t, "m***@example.com", set.GetEmail())
	device := s.enrolSent(t, sms, phone)
	eventually(t, "told of the device", m.told("maria.rossi@example.com", "un nuovo dispositivo della firma è attivo"))
	c.advance(time.Minute)
	ch := s.challenge(t, "one", "two")
	_, err = s.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
	require.NoError(t, err)
	_, err = s.authorize(ch, s.lastPassword(t, phone))
	require.NoError(t, err)
	for _, to := range []string{"maria.rossi@example.com", newPhone} {
		eventually(t, "told of the use", m.told(to, "autorizzata la firma di 2 documenti"))
	}
	eventually(t, "the bus too", func() bool { return len(heard[*signv1.CredentialUsed](m.probe, s.name)) == 1 })
	ev := heard[*signv1.CredentialUsed](m.probe, s.name)[0]
	require.Equal(t, ch.GetDigest(), ev.GetDocumentsSha256())
	require.Equal(t, device, ev.GetOtpDevice())

	_, err = s.devices.SetHolderContact(t.Context(), &signv1.SetHolderContactRequest{Name: s.name, Email: "thief@example.com", Pin: goodPIN})
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED") // with a device the PIN alone is not enough
	c.advance(time.Minute)
	_, err = s.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{OtpDevice: device})
	require.NoError(t, err)
	_, err = s.devices.SetHolderContact(t.Context(), &signv1.SetHolderContactRequest{Name: s.name, Email: "other@example.com", Pin: goodPIN, Otp: s.lastPassword(t, phone)})
	require.NoError(t, err)
	eventually(t, "the former contact hears of it", m.told("maria.rossi@example.com", "i recapiti per gli avvisi"))
	eventually(t, "and the new one", m.told("other@example.com", "i recapiti per gli avvisi"))
}
