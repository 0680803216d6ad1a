package signer_test

import (
	"crypto/sha1" //nolint:gosec // what HOTP is made of
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/protobuf/encoding/prototext"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// dump is what pg_dump writes of the signer's schema: every table, the queue and the outbox with it.
func (h *house) dump(t testing.TB) string {
	t.Helper()
	bin, err := exec.LookPath("pg_dump")
	require.NoError(t, err, "pg_dump is what a thief would run: install postgresql-client")
	store := pgtest.Again(t, h.DB("signer"))
	admin := pgtest.Admin(t, store).Config()
	cmd := exec.Command(bin, "--data-only", "--schema", store.Schema(), "--host", admin.Host, "--port", fmt.Sprint(admin.Port), "--username", admin.User, admin.Database)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+admin.Password)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), ".otp_device ")
	return string(out)
}

// stream is all that JetStream has on disk: every event that was ever put on the bus.
func (h *house) stream(t testing.TB) string {
	t.Helper()
	var all strings.Builder
	require.NoError(t, filepath.WalkDir(filepath.Join(h.dir, "nats"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		all.Write(raw)
		return err
	}))
	return all.String()
}

// TestSecretsAreNowhere: one credential with every kind of device is used; then logs, traces, the bus, a dump of
// the database and Vault's audit log are searched for every PIN, code, authorization and seed that there was.
// It is alone in the process, which has one tracer.
func TestSecretsAreNowhere(t *testing.T) {
	ownVault(t)
	log, spans := &syncBuffer{}, tracetest.NewSpanRecorder()
	m := openMessagesWith(t, log, nil, "", spans)
	secrets := newHoard(goodPIN)
	keep, keepCode := secrets.keep, secrets.keepCode
	authorize := func(s *signerOf, what, otp string) {
		t.Helper()
		ch := s.challenge(t, what)
		given, err := s.authorize(ch, keepCode("code of "+what, otp))
		require.NoError(t, err)
		keep("authorization of "+what, given.GetAuthorization())
		_, err = s.auth.SignHashes(t.Context(), &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: given.GetAuthorization(), DocumentSha256: ch.GetDocumentSha256(), RequestId: uuid.NewString()})
		require.NoError(t, err)
	}
	for kind, to := range map[signv1.OtpDeviceType]string{sms: phone, email: "maria.rossi@example.com"} {
		s := m.person(t, holder)
		s.enrolSent(t, kind, to)
		keepCode("enrolment of "+kind.String(), s.lastPassword(t, to))
		ch := s.challenge(t, kind.String())
		_, err := s.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
		require.NoError(t, err)
		given, err := s.authorize(ch, keepCode("code of "+kind.String(), s.lastPassword(t, to)))
		require.NoError(t, err)
		keep("authorization of "+kind.String(), given.GetAuthorization())
		wrong := keepCode("wrong code of "+kind.String(), "91827364")
		_, err = s.authorize(s.challenge(t, "wrong"+kind.String()), wrong)
		code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED")
	}
	g := gadget{[]byte("a seed of twenty byt"), sha1.New, 8}
	token := hotpToken("HT-7")
	token.Digits = 8
	_, err := m.importToken(t, token, g.seed)
	require.NoError(t, err)
	keep("seed", string(g.seed))
	keep("seed in hexadecimal", hex.EncodeToString(g.seed))
	keep("seed in base32", base32.StdEncoding.EncodeToString(g.seed))
	withApp := m.person(t, holder)
	enrolled, err := withApp.auth.CreateOtpDevice(t.Context(), &signv1.CreateOtpDeviceRequest{Parent: withApp.name, OtpDevice: totp, Pin: goodPIN})
	require.NoError(t, err)
	address, err := url.Parse(enrolled.GetOtpauthUri())
	require.NoError(t, err)
	keep("secret of the app", address.Query().Get("secret"))
	shared, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(address.Query().Get("secret"))
	require.NoError(t, err)
	keep("secret of the app in hexadecimal", hex.EncodeToString(shared))
	app := newApp(t, enrolled.GetOtpauthUri())
	_, err = withApp.auth.ConfirmOtpDevice(t.Context(), &signv1.ConfirmOtpDeviceRequest{Name: enrolled.GetOtpDevice().GetName(), Pin: goodPIN, Otp: app.code()})
	require.NoError(t, err)
	given, err := withApp.authorize(withApp.challenge(t, "app"), app.code()) // six digits are everywhere: what is searched for is what makes them
	require.NoError(t, err)
	keep("authorization of the app", given.GetAuthorization())
	withToken := m.person(t, holder)
	withToken.enrolToken(t, "HT-7", keepCode("first code of the token", g.at(0)))
	authorize(withToken, "token", g.at(1))
	_, err = withToken.devices.SetHolderContact(t.Context(), &signv1.SetHolderContactRequest{Name: withToken.name, Email: "notices@example.com", Pin: goodPIN, Otp: keepCode("code of the contact", g.at(2))})
	require.NoError(t, err)
	withPush := m.person(t, holder)
	a := withPush.newPushApp(t, "app-instance-0007")
	ch := withPush.challenge(t, "push")
	sent := a.send(t, ch)
	require.NoError(t, a.approve(t, a.asked(t, 0), sent.GetNumber()))
	given, err = withPush.authorize(ch, last(sent.GetPushRequest()))
	require.NoError(t, err)
	keep("authorization of push", given.GetAuthorization())
	eventually(t, "events are out", func() bool { return len(heard[*signv1.CredentialUsed](m.probe, withPush.name)) == 1 })
	eventually(t, "the holder was told", func() bool { return len(m.provider.Sent("notices@example.com")) > 0 })
	for _, notice := range m.provider.Sent("notices@example.com") {
		require.Empty(t, secrets.in(notice.Text), "a notice holds a secret")
	}

	m.Stop() // all is written
	var traces, events strings.Builder
	for _, span := range spans.Ended() {
		fmt.Fprintln(&traces, span.Name(), span.Attributes(), span.Events(), span.Status())
	}
	m.probe.mu.Lock()
	for _, ev := range m.probe.others {
		fmt.Fprintln(&events, prototext.Format(ev))
	}
	m.probe.mu.Unlock()
	audit, err := os.ReadFile(m.audit)
	require.NoError(t, err)
	places := map[string]string{
		"the log": log.String(), "the traces": traces.String(), "the events": events.String(), "the bus on disk": m.stream(t),
		"a dump of the database": m.dump(t), "Vault's audit log": string(audit),
	}
	for place, has := range map[string]string{
		"the log": "AuthorizeChallenge", "the traces": "AuthorizeChallenge", "the events": "signature_count", "the bus on disk": "ceralacca.sign.credential_used.v1",
		"a dump of the database": withPush.name, "Vault's audit log": "oath/hmac/",
	} {
		require.Contains(t, places[place], has, "%s is not what it should be: the search would find nothing", place)
	}
	require.Greater(t, secrets.size(), 15)
	for place, text := range places {
		require.Empty(t, secrets.in(text), "%s holds a secret", place)
	}
	// The number of a push is two digits, which are everywhere: what is kept of it is a MAC, and its column says so.
	require.NotContains(t, places["a dump of the database"], "number text")
	require.NotContains(t, places["the bus on disk"], "number")
}

// TestNoCodeTwiceAcrossRestartsOfAnyKind: what was accepted before both the signer and Vault began anew is
// refused afterwards, for every kind of device.
func TestNoCodeTwiceAcrossRestartsOfAnyKind(t *testing.T) {
	t.Parallel()
	ownVault(t)
	m := openMessages(t)
	type used struct {
		s             *signerOf
		first, second *signv1.Challenge
		otp           string
	}
	all := map[string]*used{}
	begin := func(kind string, s *signerOf, otp func(first *signv1.Challenge) string) {
		t.Helper()
		first := s.challenge(t, "first")
		u := &used{s: s, second: s.challenge(t, "second"), otp: otp(first)}
		_, err := s.authorize(first, u.otp)
		require.NoError(t, err, kind)
		u.first = first
		all[kind] = u
	}
	for i, kind := range []signv1.OtpDeviceType{sms, email} {
		to := []string{phone, "maria.rossi@example.com"}[i]
		s := m.person(t, fmt.Sprintf("tenants/acme/users/u-%d", i))
		s.enrolSent(t, kind, to)
		begin(kind.String(), s, func(first *signv1.Challenge) string {
			_, err := s.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: first.GetName()})
			require.NoError(t, err)
			return s.lastPassword(t, to)
		})
	}
	g := gadget{[]byte(rfcSeed), sha1.New, 6}
	_, err := m.importToken(t, hotpToken("HOTP"), g.seed)
	require.NoError(t, err)
	event := m.person(t, "tenants/acme/users/u-3")
	event.enrolToken(t, "HOTP", g.at(0))
	begin("HOTP", event, func(*signv1.Challenge) string { return g.at(1) })
	_, err = m.importToken(t, &signv1.OathToken{Serial: "TOTP", Kind: signv1.OathKind_OATH_KIND_TOTP, Algorithm: signv1.OathAlgorithm_OATH_ALGORITHM_SHA1, Digits: 6, Period: 300}, g.seed)
	require.NoError(t, err)
	timed := m.person(t, "tenants/acme/users/u-4")
	step := time.Now().Unix() / 300
	timed.enrolToken(t, "TOTP", g.at(step))
	begin("TOTP token", timed, func(*signv1.Challenge) string { return g.at(step + 1) }) // right for five minutes and more
	pushed := m.person(t, "tenants/acme/users/u-5")
	a := pushed.newPushApp(t, "")
	begin("PUSH", pushed, func(first *signv1.Challenge) string {
		sent := a.send(t, first)
		require.NoError(t, a.approve(t, a.asked(t, 0), sent.GetNumber()))
		return last(sent.GetPushRequest())
	})

	m.Stop()
	require.NoError(t, m.vault.Kill())
	require.NoError(t, m.vault.Restart(t.Context()))
	m.again(t)
	for kind, u := range all {
		u.s.dial()
		_, err := u.s.authorize(u.second, u.otp)
		require.Error(t, err, kind)
		code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED")
		// Nor for the very challenge that it was sent or approved for, were that open again: it is spent, whatever it is bound to.
		m.exec(t, `UPDATE authentication_guard SET failures = 0, locks = 0, locked_until = NULL`)
		m.exec(t, `UPDATE challenge SET state = 'OPEN', attempts = 0, expires_at = now() + interval '5 minutes' WHERE id = $1`, last(u.first.GetName()))
		_, err = u.s.authorize(u.first, u.otp)
		require.Error(t, err, kind)
		code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED")
	}
	m.exec(t, `UPDATE authentication_guard SET failures = 0, locks = 0, locked_until = NULL`)
	_, err = event.authorize(event.challenge(t, "third"), g.at(2))
	require.NoError(t, err, "and what was not used is good")
}
