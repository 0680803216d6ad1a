package signer_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/remotesign"
)

// somebody is a person with a telephone, as the process that may be killed knows them.
type somebody struct {
	*ward
	name string
}

func (w *ward) somebody(t *testing.T) *somebody {
	t.Helper()
	s := &somebody{ward: w, name: w.credential(t, company, person, p256).GetName()}
	_, err := w.auth.SetPin(t.Context(), &signv1.SetPinRequest{Name: s.name, Holder: holder, NewPin: goodPIN})
	require.NoError(t, err)
	made, err := w.auth.CreateOtpDevice(t.Context(), &signv1.CreateOtpDeviceRequest{Parent: s.name, Pin: goodPIN, OtpDevice: &signv1.OtpDevice{Type: sms, DisplayName: "phone", Address: phone}})
	require.NoError(t, err)
	_, err = w.auth.ConfirmOtpDevice(t.Context(), &signv1.ConfirmOtpDeviceRequest{Name: made.GetOtpDevice().GetName(), Pin: goodPIN, Otp: s.password(t)})
	require.NoError(t, err)
	return s
}

func (s *somebody) password(t *testing.T) string {
	t.Helper()
	list := s.mail.Sent(phone)
	for i := len(list) - 1; i >= 0; i-- {
		if found := regexp.MustCompile(inMessage).FindString(list[i].Text); found != "" {
			return found
		}
	}
	t.Fatal("no password came")
	return ""
}

// ask makes a challenge over n documents and has a password sent for it.
func (s *somebody) ask(t *testing.T, n int) (ch *signv1.Challenge, documents [][]byte, password string) {
	t.Helper()
	s.exec(t, `UPDATE otp_message SET sent_at = sent_at - interval '1 hour', sent_today = 0`)
	documents, hashes := hashesOf(n)
	ch, err := s.auth.CreateChallenge(t.Context(), &signv1.CreateChallengeRequest{Parent: s.name, DocumentSha256: hashes})
	require.NoError(t, err)
	_, err = s.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
	require.NoError(t, err)
	return ch, documents, s.password(t)
}

func (s *somebody) authorize(ch *signv1.Challenge, password string) (string, error) {
	given, err := s.auth.AuthorizeChallenge(context.Background(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: goodPIN, Otp: password})
	return given.GetAuthorization(), err
}

func (s *somebody) sign(ch *signv1.Challenge, authorization, request string) (*signv1.SignHashesResponse, error) {
	return s.auth.SignHashes(context.Background(), &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: authorization, DocumentSha256: ch.GetDocumentSha256(), RequestId: request})
}

// signedOnce: the request has its signatures, the same each time, and no other request has any.
func (s *somebody) signedOnce(t *testing.T, ch *signv1.Challenge, authorization, request string, documents [][]byte) {
	t.Helper()
	got, err := s.sign(ch, authorization, request)
	require.NoError(t, err)
	require.Len(t, got.GetSignatures(), len(documents))
	again, err := s.sign(ch, authorization, request)
	require.NoError(t, err)
	order := map[string][]byte{}
	for _, d := range documents {
		order[string(hashOf(d))] = d
	}
	for i, one := range got.GetSignatures() {
		require.Equal(t, one.GetCms(), again.GetSignatures()[i].GetCms())
		if i%7 == 0 {
			s.opensslAcceptsDetached(t, one.GetCms(), order[string(one.GetDocumentSha256())])
		}
	}
	_, err = s.sign(ch, authorization, uuid.NewString())
	code(t, err, fault.KindPrecondition, "AUTHORIZATION_USED")
	require.Equal(t, 1, s.counted(t, `SELECT count(*) FROM audit_entry WHERE action = 'challenge.sign' AND resource = $1`, ch.GetName()))
}

// TestKilledWhileItSigns: the signer's own process is killed (SIGKILL) between a password and its authorization, between
// the authorization and its use, and between the signatures and their record; in the middle of a batch of invoices; in a
// request under a mandate; between a provider's answer and its record; and between the store and the record of what is signed
// without a person, of a request's documents, and of its bundle. After it has started again no password is
// accepted twice, nothing is released twice under one authorization (with keys in Vault what was not recorded is made
// anew), and what was in hand goes on or is told.
func TestKilledWhileItSigns(t *testing.T) {
	t.Parallel()
	ownVault(t)
	world, section := remoteWorld(t)
	w := newWard(t, section+stampSection(t))
	s := w.somebody(t)

	t.Run("a password that was shown, not recorded", func(t *testing.T) {
		ch, documents, password := s.ask(t, 2)
		w.cutAt(t, boundary{"challenge", "UPDATE", "NEW.state = 'AUTHORIZED' AND OLD.state = 'OPEN'"}, func() error {
			_, err := s.authorize(ch, password)
			return err
		})
		given, err := s.authorize(ch, password)
		require.NoError(t, err, "nothing came of it: it is still good, once")
		_, err = s.authorize(ch, password)
		code(t, err, fault.KindPrecondition, "CHALLENGE_CLOSED")
		other, _, _ := s.ask(t, 3)
		_, err = s.authorize(other, password)
		require.Error(t, err, "a password is for one challenge")
		s.signedOnce(t, ch, given, uuid.NewString(), documents)
	})
	t.Run("authorized, not used", func(t *testing.T) {
		ch, documents, password := s.ask(t, 2)
		given, err := s.authorize(ch, password)
		require.NoError(t, err)
		request := uuid.NewString()
		w.cutAt(t, boundary{"challenge", "UPDATE", "NEW.state = 'SIGNING' AND OLD.state = 'AUTHORIZED'"}, func() error {
			_, err := s.sign(ch, given, request)
			return err
		})
		_, err = s.authorize(ch, password)
		code(t, err, fault.KindPrecondition, "CHALLENGE_CLOSED")
		s.signedOnce(t, ch, given, request, documents)
	})
	t.Run("signed, not recorded", func(t *testing.T) {
		ch, documents, password := s.ask(t, 40)
		given, err := s.authorize(ch, password)
		require.NoError(t, err)
		request := uuid.NewString()
		_, before := w.batches(t, 0)
		w.cutAt(t, boundary{"challenge", "UPDATE", "NEW.state = 'SIGNED' AND OLD.state = 'SIGNING'"}, func() error {
			_, err := s.sign(ch, given, request)
			return err
		})
		_, err = s.sign(ch, given, uuid.NewString())
		code(t, err, fault.KindPrecondition, "AUTHORIZATION_USED")
		s.signedOnce(t, ch, given, request, documents)
		b, _ := w.batches(t, before)
		require.Equal(t, 2*len(documents), b.signed, "Vault made them twice, of which one set was released")
	})
	t.Run("in the middle of a batch of invoices", w.killedInABatch)
	t.Run("under a mandate", w.killedUnderAMandate)
	t.Run("a provider answered, nobody wrote it down", func(t *testing.T) { w.killedAtAProvider(t, world) })
	t.Run("stored, not recorded", func(t *testing.T) { w.killedBeforeTheRecord(t, world) })
	t.Run("a request's documents and its bundle", w.killedWithARequest)
	require.Zero(t, w.counted(t, "SELECT count(*) FROM parked_event"))
}

// remoteWorld is a provider outside, in this process, which lives on.
func remoteWorld(t *testing.T) (*remotesign.World, string) {
	t.Helper()
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	world, dir := remotesign.New(remotesign.Options{CA: authority}), t.TempDir()
	web := httptest.NewTLSServer(world.SWS())
	t.Cleanup(web.Close)
	roots, tlsCA := filepath.Join(dir, "roots.pem"), filepath.Join(dir, "tls.pem")
	require.NoError(t, os.WriteFile(roots, authority.CertPEM(), 0o600))
	require.NoError(t, os.WriteFile(tlsCA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600))
	return world, fmt.Sprintf("  providers: [{name: namirial, kind: sws, address: %q, ca_file: %q, issuers_file: %q, timeout: 1s}]\n", web.URL, tlsCA, roots)
}

func (w *ward) killedInABatch(t *testing.T) {
	w.credential(t, company, automatic, p256)
	before := w.strays(t)
	const invoices = 40
	subjects := make([]string, invoices)
	w.cutAt(t, boundary{"signature", "UPDATE", "NEW.state = 'DONE' AND OLD.state = 'PENDING'"}, func() error {
		for i := range subjects {
			subjects[i] = w.probe.accept(t, true, fmt.Appendf(nil, "<f n='%d'/>", i), 1)
		}
		return errors.New("events are answered by events")
	})
	for i, subject := range subjects {
		eventually(t, "each is signed", func() bool { return len(w.probe.signedOf(subject)) > 0 })
		if i%10 == 0 {
			w.opensslAccepts(t, w.get(t, w.probe.signedOf(subject)[0].GetSigned()), fmt.Appendf(nil, "<f n='%d'/>", i))
		}
	}
	require.Len(t, w.probe.signedOf(""), invoices, "and told once")
	require.Equal(t, invoices, w.counted(t, "SELECT count(*) FROM signature WHERE state = 'DONE'"))
	require.Equal(t, before, w.strays(t), "no file is in the store that no row names")
}

func (w *ward) killedUnderAMandate(t *testing.T) {
	sealing := w.credential(t, company, seal, p256).GetName()
	m, err := w.docs.CreateMandate(t.Context(), &signv1.CreateMandateRequest{Parent: sealing, Mandate: &signv1.Mandate{
		Description: "Notes", Forms: []signv1.SignatureForm{attached}, MaxDocuments: 10, MaxPerDay: 10,
		StartTime: timestamppb.New(time.Now().Add(-time.Hour)), EndTime: timestamppb.New(time.Now().Add(time.Hour)),
	}})
	require.NoError(t, err)
	req := byMandate(sealing, m.GetName(), attached, []byte("one"), []byte("two"))
	w.cutAt(t, boundary{"document_signing", "UPDATE", "NEW.state = 'SIGNED'"}, func() error {
		_, err := w.docs.SignDocuments(context.Background(), req)
		return err
	})
	got, err := w.docs.SignDocuments(t.Context(), req)
	require.NoError(t, err)
	w.opensslAccepts(t, got.GetDocuments()[1].GetContent(), []byte("two"))
	m, err = w.docs.GetMandate(t.Context(), &signv1.GetMandateRequest{Name: m.GetName()})
	require.NoError(t, err)
	require.EqualValues(t, 2, m.GetUsedDocuments(), "counted once")
}

func (w *ward) killedAtAProvider(t *testing.T, world *remotesign.World) {
	const user = "RHIP7000001"
	_, err := world.Enrol(client.RemoteHolderRequest{User: user, PIN: remotePIN, CommonName: "Anna Verdi"})
	require.NoError(t, err)
	c, err := w.remote.CreateProviderCredential(t.Context(), &signv1.CreateProviderCredentialRequest{
		Parent: company, RequestId: uuid.NewString(), Key: &signv1.RemoteKey{Provider: "namirial", Id: user, OtpKind: "APP"},
	})
	require.NoError(t, err)
	_, hashes := hashesOf(1)
	ch, err := w.auth.CreateChallenge(t.Context(), &signv1.CreateChallengeRequest{Parent: c.GetName(), DocumentSha256: hashes})
	require.NoError(t, err)
	shown, err := world.OTP(user, "APP")
	require.NoError(t, err)
	given, err := w.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: remotePIN, Otp: shown.Password})
	require.NoError(t, err)
	req := &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: given.GetAuthorization(), DocumentSha256: hashes, RequestId: uuid.NewString()}
	w.cutAt(t, boundary{"provider_call", "UPDATE", "NEW.state = 'DONE' AND NEW.step = 'SIGN'"}, func() error {
		_, err := w.auth.SignHashes(context.Background(), req)
		return err
	})
	eventually(t, "it is told that the outcome is not known", func() bool {
		_, err := w.auth.SignHashes(context.Background(), req)
		require.Contains(t, []string{"REQUEST_IN_HAND", unknown}, fault.Of(err).Code, "%v", err)
		return fault.Of(err).Code == unknown
	})
	h, err := world.Holder(user)
	require.NoError(t, err)
	require.Len(t, h.Signed, 1, "and it was never asked for again")
}
