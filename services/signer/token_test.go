package signer_test

import (
	"context"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // what HOTP is made of
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"hash"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/pskc"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/signer/internal/db"
)

const (
	tokenDevice = signv1.OtpDeviceType_OTP_DEVICE_TYPE_TOKEN
	rfcSeed     = "12345678901234567890" // spec: RFC4226 Appendix D
)

// gadget is a hardware token in somebody's pocket.
type gadget struct {
	seed   []byte
	sum    func() hash.Hash
	digits int
}

// at is the code of a counter or a time step. spec: RFC4226 §5.3
func (g gadget) at(counter int64) string {
	mac := hmac.New(g.sum, g.seed)
	_ = binary.Write(mac, binary.BigEndian, counter)
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	mod := uint32(1)
	for range g.digits {
		mod *= 10
	}
	return fmt.Sprintf("%0*d", g.digits, (binary.BigEndian.Uint32(sum[at:])&0x7fffffff)%mod)
}

// importToken takes a token in as an operator does: the seed is wrapped here and nobody else sees it.
func (m *messages) importToken(t testing.TB, token *signv1.OathToken, seed []byte) (*signv1.OathToken, error) {
	t.Helper()
	api := signv1.NewDeviceServiceClient(m.Operator("signer"))
	key, err := api.GetSeedWrappingKey(t.Context(), &signv1.GetSeedWrappingKeyRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	block, _ := pem.Decode([]byte(key.GetPublicKeyPem()))
	require.NotNil(t, block)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(t, err)
	wrapped, err := pskc.WrapSeed(public.(*rsa.PublicKey), seed)
	require.NoError(t, err)
	return api.ImportOathToken(t.Context(), &signv1.ImportOathTokenRequest{Parent: "tenants/acme", OathToken: token, WrappedSeed: wrapped})
}

// enrolToken makes a token the device of a person, with its first code.
func (s *signerOf) enrolToken(t testing.TB, serial, first string) string {
	t.Helper()
	made, err := s.auth.CreateOtpDevice(t.Context(), &signv1.CreateOtpDeviceRequest{Parent: s.name, Pin: goodPIN, OtpDevice: &signv1.OtpDevice{Type: tokenDevice, DisplayName: "token", TokenSerial: serial}})
	require.NoError(t, err)
	_, err = s.auth.ConfirmOtpDevice(t.Context(), &signv1.ConfirmOtpDeviceRequest{Name: made.GetOtpDevice().GetName(), Pin: goodPIN, Otp: first})
	require.NoError(t, err)
	return made.GetOtpDevice().GetName()
}

func hotpToken(serial string) *signv1.OathToken {
	return &signv1.OathToken{Serial: serial, Kind: signv1.OathKind_OATH_KIND_HOTP, Algorithm: signv1.OathAlgorithm_OATH_ALGORITHM_SHA1, Digits: 6}
}

// TestHardwareTokenByEvent: the codes of the standard, each once, in order, within reach; beyond it two
// codes bring the token back.
func TestHardwareTokenByEvent(t *testing.T) {
	t.Parallel()
	m := openMessages(t)
	s := m.person(t, holder)
	g := gadget{[]byte(rfcSeed), sha1.New, 6}
	require.Equal(t, "755224", g.at(0)) // spec: RFC4226 Appendix D
	require.Equal(t, "520489", g.at(9))
	made, err := m.importToken(t, hotpToken("HT-0001"), g.seed)
	require.NoError(t, err)
	_, err = m.importToken(t, hotpToken("HT-0001"), g.seed)
	code(t, err, fault.KindConflict, "TOKEN_EXISTS")
	_, err = s.auth.CreateOtpDevice(t.Context(), &signv1.CreateOtpDeviceRequest{Parent: s.name, Pin: goodPIN, OtpDevice: &signv1.OtpDevice{Type: tokenDevice, TokenSerial: "HT-9999"}})
	code(t, err, fault.KindPrecondition, "TOKEN_NOT_AVAILABLE")
	device := s.enrolToken(t, "HT-0001", g.at(0))

	clear := func() { m.exec(t, `UPDATE authentication_guard SET failures = 0, locked_until = NULL, locks = 0`) }
	try := func(otp string) error {
		clear()
		_, err := s.authorize(s.challenge(t, uuid.NewString()), otp)
		return err
	}
	code(t, try(g.at(0)), fault.KindDenied, "AUTHENTICATION_FAILED") // that enrolled it
	require.NoError(t, try(g.at(4)), "three were pressed in the pocket")
	for c := range int64(5) {
		code(t, try(g.at(c)), fault.KindDenied, "AUTHENTICATION_FAILED")
	}
	code(t, try(g.at(16)), fault.KindDenied, "AUTHENTICATION_FAILED") // 5 is next: 15 is the last within reach
	code(t, try("75522"), fault.KindDenied, "AUTHENTICATION_FAILED")
	require.NoError(t, try(g.at(15)))

	resync := func(pin, first, second string) error {
		clear()
		_, err := s.devices.ResynchronizeOtpDevice(t.Context(), &signv1.ResynchronizeOtpDeviceRequest{Name: device, Pin: pin, FirstOtp: first, SecondOtp: second})
		return err
	}
	code(t, try(g.at(60)), fault.KindDenied, "AUTHENTICATION_FAILED")
	code(t, resync("40718361", g.at(60), g.at(61)), fault.KindDenied, "AUTHENTICATION_FAILED")
	code(t, resync(goodPIN, g.at(70), g.at(72)), fault.KindDenied, "AUTHENTICATION_FAILED") // not one after the other
	code(t, resync(goodPIN, g.at(3), g.at(4)), fault.KindDenied, "AUTHENTICATION_FAILED")   // used
	code(t, resync(goodPIN, g.at(70), ""), fault.KindDenied, "AUTHENTICATION_FAILED")
	require.NoError(t, resync(goodPIN, g.at(80), g.at(81)))
	code(t, try(g.at(81)), fault.KindDenied, "AUTHENTICATION_FAILED") // both are used up
	require.NoError(t, try(g.at(82)))

	operator := signv1.NewDeviceServiceClient(m.Operator("signer"))
	_, err = operator.RetireOathToken(t.Context(), &signv1.RetireOathTokenRequest{Name: made.GetName()})
	code(t, err, fault.KindPrecondition, "TOKEN_IN_USE")
	list, err := operator.ListOathTokens(t.Context(), &signv1.ListOathTokensRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	require.Equal(t, device, list.GetOathTokens()[0].GetOtpDevice())
	require.EqualValues(t, 83, list.GetOathTokens()[0].GetCounter())
	clear()
	_, err = s.auth.DeleteOtpDevice(t.Context(), &signv1.DeleteOtpDeviceRequest{Name: device, Pin: goodPIN, Otp: g.at(83)})
	require.NoError(t, err)
	next := m.person(t, "tenants/acme/users/u-18")
	made2, err := next.auth.CreateOtpDevice(t.Context(), &signv1.CreateOtpDeviceRequest{Parent: next.name, Pin: goodPIN, OtpDevice: &signv1.OtpDevice{Type: tokenDevice, TokenSerial: "HT-0001"}})
	require.NoError(t, err, "a token that came back may be given out")
	_, err = next.auth.ConfirmOtpDevice(t.Context(), &signv1.ConfirmOtpDeviceRequest{Name: made2.GetOtpDevice().GetName(), Pin: goodPIN, Otp: g.at(83)})
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED") // but its last holder's codes are good for nothing
	_, err = next.auth.DeleteOtpDevice(t.Context(), &signv1.DeleteOtpDeviceRequest{Name: made2.GetOtpDevice().GetName(), Pin: goodPIN})
	require.NoError(t, err)
	retired, err := operator.RetireOathToken(t.Context(), &signv1.RetireOathTokenRequest{Name: made.GetName()})
	require.NoError(t, err)
	require.NotNil(t, retired.GetRetireTime())
	root, err := m.vault.Client()
	require.NoError(t, err)
	eventually(t, "the seed is deleted from Vault", func() bool {
		key, err := root.Logical().Read("oath/keys/ceralacca-token-" + last(made.GetName()))
		return err == nil && key == nil
	})
}

// TestHardwareTokenByTime: a clock that drifts is followed; one that is far off is brought back by two codes.
func TestHardwareTokenByTime(t *testing.T) {
	t.Parallel()
	c := &clock{}
	m := openMessagesWith(t, nil, c, "")
	s := m.person(t, holder)
	g := gadget{[]byte(rfcSeed + rfcSeed + rfcSeed + "1234"), sha512.New, 8}
	_, err := m.importToken(t, &signv1.OathToken{Serial: "TT-1", Kind: signv1.OathKind_OATH_KIND_TOTP, Algorithm: signv1.OathAlgorithm_OATH_ALGORITHM_SHA512, Digits: 8, Period: 60}, g.seed)
	require.NoError(t, err)
	// Just after a step begins on the server's clock, so that a call of seconds does not cross one.
	settle := func() int64 {
		now := c.now()
		c.advance(now.Truncate(time.Minute).Add(61 * time.Second).Sub(now))
		return c.now().Unix() / 60
	}
	step := settle()
	device := s.enrolToken(t, "TT-1", g.at(step))
	try := func(otp string) error {
		m.exec(t, `UPDATE authentication_guard SET failures = 0, locked_until = NULL, locks = 0`)
		_, err := s.authorize(s.challenge(t, uuid.NewString()), otp)
		return err
	}
	code(t, try(g.at(step)), fault.KindDenied, "AUTHENTICATION_FAILED") // once
	step = settle()
	code(t, try(g.at(step+2)), fault.KindDenied, "AUTHENTICATION_FAILED")
	require.NoError(t, try(g.at(step+1)), "one step ahead")
	code(t, try(g.at(step)), fault.KindDenied, "AUTHENTICATION_FAILED") // nothing before what was accepted
	settle()
	step = settle()
	require.NoError(t, try(g.at(step+2)), "the drift is remembered")
	settle()
	settle()
	settle()
	step = settle()
	code(t, try(g.at(step+9)), fault.KindDenied, "AUTHENTICATION_FAILED")
	_, err = s.devices.ResynchronizeOtpDevice(t.Context(), &signv1.ResynchronizeOtpDeviceRequest{Name: device, Pin: goodPIN, FirstOtp: g.at(step + 9), SecondOtp: g.at(step + 10)})
	require.NoError(t, err)
	step = settle()
	require.NoError(t, try(g.at(step+10)))
	code(t, try(g.at(step)), fault.KindDenied, "AUTHENTICATION_FAILED")
}

// TestSeedsAreRefused: what Vault cannot unwrap is no token, and leaves none.
func TestSeedsAreRefused(t *testing.T) {
	t.Parallel()
	m := openMessages(t)
	api := signv1.NewDeviceServiceClient(m.Operator("signer"))
	_, err := api.ImportOathToken(t.Context(), &signv1.ImportOathTokenRequest{Parent: "tenants/acme", OathToken: hotpToken("X"), WrappedSeed: make([]byte, 552)})
	code(t, err, fault.KindInvalid, "SEED_REFUSED")
	_, err = api.ImportOathToken(t.Context(), &signv1.ImportOathTokenRequest{Parent: "tenants/acme", OathToken: hotpToken("X"), WrappedSeed: []byte(rfcSeed)})
	require.Equal(t, fault.KindInvalid, fault.Of(err).Kind, "a seed in clear is refused by its length")
	var n int
	require.NoError(t, pgtest.Admin(t, m.DB("signer")).QueryRow(t.Context(), `SELECT count(*) FROM oath_token`).Scan(&n))
	require.Zero(t, n)
	sum := sha256.Sum256([]byte("seed of 32 bytes"))
	made, err := m.importToken(t, &signv1.OathToken{Serial: "S-256", Kind: signv1.OathKind_OATH_KIND_HOTP, Algorithm: signv1.OathAlgorithm_OATH_ALGORITHM_SHA256, Digits: 8}, sum[:])
	require.NoError(t, err)
	root, err := m.vault.Client()
	require.NoError(t, err)
	_, err = root.Logical().Read("oath/export/hmac-key/ceralacca-token-" + last(made.GetName()))
	require.ErrorContains(t, err, "not exportable", "not even root reads a seed")
	g := gadget{sum[:], sha256.New, 8}
	m.person(t, holder).enrolToken(t, "S-256", g.at(0))
}

// TestOneTokenCodeOneWinner: a thousand acceptances of one code, at the statement that decides, and calls
// through the API.
func TestOneTokenCodeOneWinner(t *testing.T) {
	t.Parallel()
	m := openMessages(t)
	s := m.person(t, holder)
	g := gadget{[]byte(rfcSeed), sha1.New, 6}
	made, err := m.importToken(t, hotpToken("HT-1"), g.seed)
	require.NoError(t, err)
	s.enrolToken(t, "HT-1", g.at(0))
	var won, errs atomic.Int32
	together(crowd, func(int) {
		err := m.DB("signer").Tx(context.Background(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			n, err := db.New(tx).AdvanceToken(ctx, db.AdvanceTokenParams{ID: uuid.MustParse(last(made.GetName())), Accepted: 1, Next: 2})
			won.Add(int32(n)) //nolint:gosec // 0 or 1
			return err
		})
		if err != nil {
			errs.Add(1)
		}
	})
	require.Zero(t, errs.Load(), "each was decided by the statement")
	require.EqualValues(t, 1, won.Load())
	challenges := make([]*signv1.Challenge, 5) // as many as the guard lets through
	for i := range challenges {
		challenges[i] = s.challenge(t, uuid.NewString())
	}
	won.Store(0)
	together(len(challenges), func(i int) {
		if _, err := s.authorize(challenges[i], g.at(2)); err == nil {
			won.Add(1)
		}
	})
	require.EqualValues(t, 1, won.Load())
}

// hotpGadget is the token of the standard's appendix.
var hotpGadget = gadget{[]byte(rfcSeed), sha1.New, 6}
