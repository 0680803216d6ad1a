package signer_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // what TOTP is made of
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
)

const (
	person  = signv1.CredentialKind_CREDENTIAL_KIND_PERSON
	holder  = "tenants/acme/users/u-17"
	goodPIN = "40718362"
)

var totp = &signv1.OtpDevice{Type: signv1.OtpDeviceType_OTP_DEVICE_TYPE_TOTP, DisplayName: "phone"}

// app is a TOTP app of the holder's: it shows codes, each of them once.
type app struct {
	secret []byte
	next   int64 // step from which codes have not been shown
}

func newApp(t testing.TB, uri string) *app {
	t.Helper()
	u, err := url.Parse(uri)
	require.NoError(t, err)
	require.Equal(t, "otpauth", u.Scheme)
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(u.Query().Get("secret"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(secret), 20)
	return &app{secret: secret}
}

// at is the code of a step. spec: RFC6238 §4.2, RFC4226 §5.3
func (a *app) at(step int64) string {
	mac := hmac.New(sha1.New, a.secret)
	_ = binary.Write(mac, binary.BigEndian, step)
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[at:])&0x7fffffff)%1_000_000)
}

// code gives a code that was not given before and is right for ten seconds more at least; it waits
// when the three that Vault takes were all given.
func (a *app) code() string {
	for {
		now := time.Now().Unix()
		step, left := now/30, 30-now%30
		first := step - 1
		if left < 10 {
			first = step
		}
		if use := max(a.next, first); use <= step+1 {
			a.next = use + 1
			return a.at(use)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// signatory is a person with a credential that is ready, as the tenant's product calls for them.
type signatory struct {
	*house
	name   string
	auth   signv1.AuthorizationServiceClient
	key    string
	phone  *app
	device string
}

func (h *house) signatory(t testing.TB, key signv1.KeyType) *signatory {
	t.Helper()
	ctx := context.Background()
	s := &signatory{house: h, name: h.credential(t, company, person, key).GetName()}
	s.key = h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"credentials.write", "credentials.read", "credentials.sign"}})
	s.auth = signv1.NewAuthorizationServiceClient(h.DialKey("signer", s.key))
	set, err := s.auth.SetPin(ctx, &signv1.SetPinRequest{Name: s.name, Holder: holder, NewPin: goodPIN})
	require.NoError(t, err)
	require.Equal(t, holder, set.GetHolder())
	enrolled, err := s.auth.CreateOtpDevice(ctx, &signv1.CreateOtpDeviceRequest{Parent: s.name, OtpDevice: totp, Pin: goodPIN})
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(enrolled.GetQrPng(), []byte("\x89PNG")))
	s.phone, s.device = newApp(t, enrolled.GetOtpauthUri()), enrolled.GetOtpDevice().GetName()
	active, err := s.auth.ConfirmOtpDevice(ctx, &signv1.ConfirmOtpDeviceRequest{Name: s.device, Pin: goodPIN, Otp: s.phone.code()})
	require.NoError(t, err)
	require.Equal(t, signv1.OtpDeviceState_OTP_DEVICE_STATE_ACTIVE, active.GetState())
	return s
}

func hashesOf(n int) (documents [][]byte, hashes [][]byte) {
	for i := range n {
		d := fmt.Appendf(nil, "contract %d", i)
		sum := sha256.Sum256(d)
		documents, hashes = append(documents, d), append(hashes, sum[:])
	}
	return documents, hashes
}

func (s *signatory) challenge(t testing.TB, hashes [][]byte) *signv1.Challenge {
	t.Helper()
	ch, err := s.auth.CreateChallenge(context.Background(), &signv1.CreateChallengeRequest{Parent: s.name, DocumentSha256: hashes, SignatureCount: int32(len(hashes))})
	require.NoError(t, err)
	return ch
}

func (s *signatory) authorize(t testing.TB, ch *signv1.Challenge) string {
	t.Helper()
	given, err := s.auth.AuthorizeChallenge(context.Background(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: goodPIN, Otp: s.phone.code()})
	require.NoError(t, err)
	require.Equal(t, s.device, given.GetOtpDevice())
	return given.GetAuthorization()
}

// exec runs SQL as superuser on the signer's schema.
func (h *house) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := pgtest.Admin(t, h.DB("signer")).Exec(context.Background(), sql, args...)
	require.NoError(t, err)
}

// opensslAcceptsDetached has openssl verify a detached signature against the document.
func (h *house) opensslAcceptsDetached(t testing.TB, der, document []byte) {
	t.Helper()
	bin, err := exec.LookPath("openssl")
	require.NoError(t, err, "openssl is what judges the signatures: install it")
	dir := t.TempDir()
	in, roots, doc := filepath.Join(dir, "in.p7s"), filepath.Join(dir, "ca.pem"), filepath.Join(dir, "document")
	require.NoError(t, os.WriteFile(in, der, 0o600))
	require.NoError(t, os.WriteFile(roots, h.ca.CertPEM(), 0o600))
	require.NoError(t, os.WriteFile(doc, document, 0o600))
	said, err := exec.Command(bin, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", in, "-content", doc,
		"-CAfile", roots, "-purpose", "any", "-out", filepath.Join(dir, "out")).CombinedOutput()
	require.NoError(t, err, "%s", said)
}

// syncBuffer is a log that is written by many and read at the end.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestPersonSignsWhatTheyAuthorized(t *testing.T) {
	for name, key := range map[string]signv1.KeyType{"P-256": p256, "RSA-3072": rsa3072} {
		t.Run(name, func(t *testing.T) {
			log := &syncBuffer{}
			spans := tracetest.NewSpanRecorder()
			h, ctx := openWith(t, log, "", spans), context.Background()
			s := h.signatory(t, key)
			documents, hashes := hashesOf(20)
			ch := s.challenge(t, hashes)
			require.Equal(t, signv1.ChallengeState_CHALLENGE_STATE_OPEN, ch.GetState())
			require.EqualValues(t, 20, ch.GetSignatureCount())
			sum := sha256.Sum256(bytes.Join(ch.GetDocumentSha256(), nil))
			require.Equal(t, sum[:], ch.GetDigest())
			otp := s.phone.code()
			given, err := s.auth.AuthorizeChallenge(ctx, &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: goodPIN, Otp: otp})
			require.NoError(t, err)
			req := &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: given.GetAuthorization(), DocumentSha256: hashes, RequestId: uuid.NewString()}
			signed, err := s.auth.SignHashes(ctx, req)
			require.NoError(t, err)
			require.Equal(t, signv1.SignatureLevel_SIGNATURE_LEVEL_ADVANCED, signed.GetLevel())
			require.Len(t, signed.GetSignatures(), 20)
			for i, sig := range signed.GetSignatures() {
				require.Equal(t, hashes[i], sig.GetDocumentSha256())
				if i < 3 {
					h.opensslAcceptsDetached(t, sig.GetCms(), documents[i])
				}
			}
			again, err := s.auth.SignHashes(ctx, req)
			require.NoError(t, err, "the same request may ask again: its answer was lost")
			require.Equal(t, signed.GetSignatures()[7].GetCms(), again.GetSignatures()[7].GetCms())
			req.RequestId = uuid.NewString()
			_, err = s.auth.SignHashes(ctx, req)
			code(t, err, fault.KindPrecondition, "AUTHORIZATION_USED")
			_, err = s.auth.AuthorizeChallenge(ctx, &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: goodPIN, Otp: s.phone.code()})
			code(t, err, fault.KindPrecondition, "CHALLENGE_CLOSED")
			now, err := s.auth.GetChallenge(ctx, &signv1.GetChallengeRequest{Name: ch.GetName()})
			require.NoError(t, err)
			require.Equal(t, signv1.ChallengeState_CHALLENGE_STATE_SIGNED, now.GetState())

			var acts, named int
			require.NoError(t, pgtest.Admin(t, h.DB("signer")).QueryRow(ctx, `
				SELECT count(*), count(*) FILTER (WHERE detail->>'device' = $2) FROM audit_entry WHERE resource = $1`,
				ch.GetName(), s.device).Scan(&acts, &named))
			require.Equal(t, 4, acts, "create, authorize, use, sign")
			require.Equal(t, 3, named, "which device")
			h.Stop() // the log is complete
			var traces strings.Builder
			for _, span := range spans.Ended() {
				fmt.Fprintln(&traces, span.Name(), span.Attributes(), span.Events(), span.Status())
			}
			require.Contains(t, traces.String(), "SignHashes")
			// Codes are six digits, which are found by chance in any time: the long secrets are looked for in traces.
			for _, secret := range []string{goodPIN, given.GetAuthorization(), base32.StdEncoding.EncodeToString(s.phone.secret)} {
				require.NotContains(t, traces.String(), secret)
			}
			h.nowhere(t, log.String(), goodPIN, otp, given.GetAuthorization(), base32.StdEncoding.EncodeToString(s.phone.secret))
		})
	}
}

// nowhere looks for secrets in the log and in every table of the schema.
func (h *house) nowhere(t testing.TB, log string, secrets ...string) {
	t.Helper()
	ctx, admin := context.Background(), pgtest.Admin(t, pgtest.Again(t, h.DB("signer")))
	rows, err := admin.Query(ctx, `SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'`)
	require.NoError(t, err)
	var tables []string
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		tables = append(tables, name)
	}
	require.NoError(t, rows.Err())
	require.Greater(t, len(tables), 10)
	require.Regexp(t, "AuthorizeChallenge|credentials/authorize", log, "the log says that it happened")
	for _, secret := range secrets {
		// Six digits are found by chance in times and ids: a code would stand by itself.
		require.NotRegexp(t, `(^|[^0-9a-f.])`+regexp.QuoteMeta(secret)+`($|[^0-9a-f])`, log)
		for _, table := range tables {
			// Ids and times are left out: six digits are found in them by chance.
			var found int
			require.NoError(t, admin.QueryRow(ctx, fmt.Sprintf(`SELECT count(*) FROM %q r, jsonb_each_text(to_jsonb(r)) AS f(k, v)
				WHERE strpos(v, $1) > 0 AND v !~ '^[0-9]{4}-[0-9]{2}-' AND v !~ '[0-9a-f]{8}-[0-9a-f]{4}-' AND v !~ '^\\x' AND k NOT IN ('detail', 'trace_id', 'traceparent', 'metadata')`, table), secret).Scan(&found))
			require.Zero(t, found, "table %s", table)
			if len(secret) > 6 {
				require.NoError(t, admin.QueryRow(ctx, fmt.Sprintf(`SELECT count(*) FROM %q r WHERE strpos(to_jsonb(r)::text, $1) > 0`, table), secret).Scan(&found))
				require.Zero(t, found, "table %s", table)
			}
		}
	}
}

func TestChallengesAndAuthorizationsRefuse(t *testing.T) {
	t.Parallel()
	h, ctx := open(t), context.Background()
	s := h.signatory(t, p256)
	_, hashes := hashesOf(3)
	create := func(kind fault.Kind, want string, req *signv1.CreateChallengeRequest) {
		t.Helper()
		_, err := s.auth.CreateChallenge(ctx, req)
		code(t, err, kind, want)
	}
	create(fault.KindInvalid, "HASH_LENGTH", &signv1.CreateChallengeRequest{Parent: s.name, DocumentSha256: [][]byte{hashes[0], hashes[1][:31]}})
	create(fault.KindInvalid, "HASH_TWICE", &signv1.CreateChallengeRequest{Parent: s.name, DocumentSha256: [][]byte{hashes[0], hashes[1], hashes[0]}})
	create(fault.KindInvalid, "SIGNATURE_COUNT", &signv1.CreateChallengeRequest{Parent: s.name, DocumentSha256: hashes, SignatureCount: 4})
	create(fault.KindPrecondition, "CREDENTIAL_WRONG_KIND", &signv1.CreateChallengeRequest{Parent: h.credential(t, company, automatic, p256).GetName(), DocumentSha256: hashes})
	create(fault.KindPrecondition, "PIN_NOT_SET", &signv1.CreateChallengeRequest{Parent: h.credential(t, company, person, p256).GetName(), DocumentSha256: hashes})
	create(fault.KindNotFound, "CREDENTIAL_NOT_FOUND", &signv1.CreateChallengeRequest{Parent: strings.Replace(s.name, "/main/", "/other/", 1), DocumentSha256: hashes})

	ch := s.challenge(t, hashes)
	foreign := signv1.NewAuthorizationServiceClient(h.Tenant("signer", "acme"))
	other := signv1.NewAuthorizationServiceClient(h.Tenant("signer", "other"))
	try := &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: goodPIN, Otp: "123456"}
	_, err := foreign.AuthorizeChallenge(ctx, try)
	code(t, err, fault.KindNotFound, "CHALLENGE_NOT_FOUND")
	_, err = foreign.GetChallenge(ctx, &signv1.GetChallengeRequest{Name: ch.GetName()})
	code(t, err, fault.KindNotFound, "CHALLENGE_NOT_FOUND")
	_, err = other.AuthorizeChallenge(ctx, try)
	code(t, err, fault.KindDenied, "FOREIGN_RESOURCE")
	_, err = other.AuthorizeChallenge(ctx, &signv1.AuthorizeChallengeRequest{Name: strings.Replace(ch.GetName(), "acme", "other", 1), Pin: goodPIN, Otp: "123456"})
	code(t, err, fault.KindNotFound, "CREDENTIAL_NOT_FOUND")
	_, err = signv1.NewAuthorizationServiceClient(h.Operator("signer")).AuthorizeChallenge(ctx, try)
	code(t, err, fault.KindDenied, "ROLE_NOT_ALLOWED")
	_, err = signv1.NewAuthorizationServiceClient(h.Tenant("signer", "acme", "credentials.write")).AuthorizeChallenge(ctx, try)
	require.Equal(t, fault.KindDenied, fault.Of(err).Kind)

	counts := func(tenant string) (n int) {
		t.Helper()
		require.NoError(t, h.DB("signer").Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
			n = 0
			for _, table := range []string{"credential_pin", "otp_device", "otp_spent", "authentication_guard", "challenge"} {
				var rows int
				err := tx.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&rows)
				if err != nil {
					return err
				}
				n += rows
			}
			return nil
		}))
		return n
	}
	require.Zero(t, counts("other"), "through SQL either")
	require.Equal(t, 1+1+1+2+1, counts("acme"))

	late := s.challenge(t, hashes)
	h.exec(t, `UPDATE challenge SET expires_at = now() - interval '1 second' WHERE id = $1`, last(late.GetName()))
	_, err = s.auth.AuthorizeChallenge(ctx, &signv1.AuthorizeChallengeRequest{Name: late.GetName(), Pin: goodPIN, Otp: "123456"})
	code(t, err, fault.KindPrecondition, "CHALLENGE_EXPIRED")

	secret := s.authorize(t, ch)
	sign := func(kind fault.Kind, want string, change func(*signv1.SignHashesRequest)) {
		t.Helper()
		req := &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: secret, DocumentSha256: hashes, RequestId: uuid.NewString()}
		change(req)
		_, err := s.auth.SignHashes(ctx, req)
		code(t, err, kind, want)
	}
	_, more := hashesOf(5)
	sign(fault.KindInvalid, "HASH_LENGTH", func(r *signv1.SignHashesRequest) { r.DocumentSha256 = [][]byte{{1, 2, 3}} })
	sign(fault.KindDenied, "HASH_NOT_AUTHORIZED", func(r *signv1.SignHashesRequest) { r.DocumentSha256 = [][]byte{hashes[0], hashes[1], more[4]} })
	sign(fault.KindDenied, "HASH_NOT_AUTHORIZED", func(r *signv1.SignHashesRequest) { r.DocumentSha256 = more })
	sign(fault.KindInvalid, "HASHES_MISSING", func(r *signv1.SignHashesRequest) { r.DocumentSha256 = hashes[:2] })
	sign(fault.KindDenied, "AUTHORIZATION_INVALID", func(r *signv1.SignHashesRequest) { r.Authorization = strings.Repeat("A", 43) })
	sign(fault.KindDenied, "AUTHORIZATION_INVALID", func(r *signv1.SignHashesRequest) { r.Name = s.challenge(t, hashes).GetName() })
	_, err = foreign.SignHashes(ctx, &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: secret, DocumentSha256: hashes, RequestId: uuid.NewString()})
	code(t, err, fault.KindNotFound, "CHALLENGE_NOT_FOUND")
	h.exec(t, `UPDATE challenge SET expires_at = now() - interval '1 second' WHERE id = $1`, last(ch.GetName()))
	sign(fault.KindPrecondition, "AUTHORIZATION_EXPIRED", func(*signv1.SignHashesRequest) {})
	h.exec(t, `UPDATE challenge SET expires_at = now() + interval '1 minute' WHERE id = $1`, last(ch.GetName()))
	_, err = h.client.RevokeCredential(ctx, &signv1.RevokeCredentialRequest{Name: s.name})
	require.NoError(t, err)
	sign(fault.KindPrecondition, "CREDENTIAL_REVOKED", func(*signv1.SignHashesRequest) {})
	devices, err := s.auth.ListOtpDevices(ctx, &signv1.ListOtpDevicesRequest{Parent: s.name})
	require.NoError(t, err)
	require.Equal(t, signv1.OtpDeviceState_OTP_DEVICE_STATE_REMOVED, devices.GetOtpDevices()[0].GetState(), "devices end with the credential")
}

func last(name string) string { return name[strings.LastIndex(name, "/")+1:] }

func TestDevicesAndPINs(t *testing.T) {
	t.Parallel()
	h, ctx := open(t), context.Background()
	fresh := h.credential(t, company, person, p256).GetName()
	api := signv1.NewAuthorizationServiceClient(h.Tenant("signer", "acme"))
	pin := func(kind fault.Kind, want, holder, value string) {
		t.Helper()
		_, err := api.SetPin(ctx, &signv1.SetPinRequest{Name: fresh, Holder: holder, NewPin: value})
		code(t, err, kind, want)
	}
	for _, bad := range []string{"", "1234567", "123456789", "1234567a", "４０７１８３６２"} {
		pin(fault.KindInvalid, "PIN_FORMAT", holder, bad)
	}
	for _, weak := range []string{"11111111", "12345678", "87654321", "90123456", "20272027"} {
		pin(fault.KindInvalid, "PIN_WEAK", holder, weak)
	}
	pin(fault.KindInvalid, "HOLDER_MISSING", "", goodPIN)
	pin(fault.KindDenied, "FOREIGN_RESOURCE", "tenants/other/users/u", goodPIN)
	_, err := api.CreateOtpDevice(ctx, &signv1.CreateOtpDeviceRequest{Parent: fresh, OtpDevice: totp, Pin: goodPIN})
	code(t, err, fault.KindPrecondition, "PIN_NOT_SET")
	var wg sync.WaitGroup
	won := make(chan string, 20)
	for range cap(won) { // the first PIN is set once
		wg.Go(func() {
			if _, err := api.SetPin(ctx, &signv1.SetPinRequest{Name: fresh, Holder: holder, NewPin: goodPIN}); err == nil {
				won <- "set"
			}
		})
	}
	wg.Wait()
	require.Len(t, won, 1)
	for want, device := range map[string]*signv1.OtpDevice{
		"OTP_PROVIDER_NOT_CONFIGURED": {Type: signv1.OtpDeviceType_OTP_DEVICE_TYPE_SMS, Address: "+393331234567"},
	} {
		_, err = api.CreateOtpDevice(ctx, &signv1.CreateOtpDeviceRequest{Parent: fresh, OtpDevice: device, Pin: goodPIN})
		code(t, err, fault.KindPrecondition, want)
	}
	_, err = api.CreateOtpDevice(ctx, &signv1.CreateOtpDeviceRequest{Parent: fresh, OtpDevice: totp, Pin: "40718363"})
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED")
	_, err = api.CreateChallenge(ctx, &signv1.CreateChallengeRequest{Parent: fresh, DocumentSha256: [][]byte{make([]byte, 32)}})
	code(t, err, fault.KindPrecondition, "NO_OTP_DEVICE")

	s := h.signatory(t, p256)
	_, err = s.auth.CreateOtpDevice(ctx, &signv1.CreateOtpDeviceRequest{Parent: s.name, OtpDevice: totp, Pin: goodPIN})
	code(t, err, fault.KindPrecondition, "OTP_DEVICE_EXISTS")
	// Replaced through the old device, which is the active one until the new one has shown a code.
	replace := &signv1.ReplaceOtpDeviceRequest{Name: s.device, OtpDevice: totp, Pin: goodPIN, Otp: s.phone.code()}
	second, err := s.auth.ReplaceOtpDevice(ctx, replace)
	require.NoError(t, err)
	_, err = s.auth.ReplaceOtpDevice(ctx, replace)
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED") // that code is spent
	phone := newApp(t, second.GetOtpauthUri())
	_, err = s.auth.ConfirmOtpDevice(ctx, &signv1.ConfirmOtpDeviceRequest{Name: second.GetOtpDevice().GetName(), Pin: goodPIN, Otp: s.phone.code()})
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED") // of the old device
	active, err := s.auth.ConfirmOtpDevice(ctx, &signv1.ConfirmOtpDeviceRequest{Name: second.GetOtpDevice().GetName(), Pin: goodPIN, Otp: phone.code()})
	require.NoError(t, err)
	list, err := s.auth.ListOtpDevices(ctx, &signv1.ListOtpDevicesRequest{Parent: s.name})
	require.NoError(t, err)
	require.Len(t, list.GetOtpDevices(), 2)
	require.Equal(t, active.GetName(), list.GetOtpDevices()[0].GetName())
	require.Equal(t, signv1.OtpDeviceState_OTP_DEVICE_STATE_REMOVED, list.GetOtpDevices()[1].GetState())
	root, err := h.vault.Client()
	require.NoError(t, err)
	eventually(t, "the old secret is deleted from Vault", func() bool {
		key, err := root.Logical().Read("totp/keys/ceralacca-otp-" + last(s.device))
		return err == nil && key == nil
	})

	const other = "59260471"
	_, err = s.auth.SetPin(ctx, &signv1.SetPinRequest{Name: s.name, NewPin: other, Pin: goodPIN, Otp: phone.code()})
	require.NoError(t, err)
	_, err = s.auth.DeleteOtpDevice(ctx, &signv1.DeleteOtpDeviceRequest{Name: active.GetName(), Pin: other})
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED")
	gone, err := s.auth.DeleteOtpDevice(ctx, &signv1.DeleteOtpDeviceRequest{Name: active.GetName(), Pin: other, Otp: phone.code()})
	require.NoError(t, err)
	require.Equal(t, signv1.OtpDeviceState_OTP_DEVICE_STATE_REMOVED, gone.GetState())
	_, err = s.auth.CreateChallenge(ctx, &signv1.CreateChallengeRequest{Parent: s.name, DocumentSha256: [][]byte{make([]byte, 32)}})
	code(t, err, fault.KindPrecondition, "NO_OTP_DEVICE")
	_, err = s.auth.CreateOtpDevice(ctx, &signv1.CreateOtpDeviceRequest{Parent: s.name, OtpDevice: totp, Pin: goodPIN})
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED") // the earlier PIN
	pending, err := s.auth.CreateOtpDevice(ctx, &signv1.CreateOtpDeviceRequest{Parent: s.name, OtpDevice: totp, Pin: other})
	require.NoError(t, err)
	_, err = s.auth.DeleteOtpDevice(ctx, &signv1.DeleteOtpDeviceRequest{Name: pending.GetOtpDevice().GetName(), Pin: other})
	require.NoError(t, err)
}
