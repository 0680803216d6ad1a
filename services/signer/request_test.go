package signer_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/dossier"
	"ceralacca.dev/services/format/validation"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/otp"
	"ceralacca.dev/services/sandbox/tsa"
)

const (
	asSigner   = signv1.ParticipantRole_PARTICIPANT_ROLE_SIGNER
	asApprover = signv1.ParticipantRole_PARTICIPANT_ROLE_APPROVER
	isOpen     = signv1.RequestState_REQUEST_STATE_OPEN
	completed  = signv1.RequestState_REQUEST_STATE_COMPLETED
)

// book is a house in which requests go round: time-stamps, e-mail, a seal, and one key that acts for everybody.
type book struct {
	*house
	api     signv1.SignatureRequestServiceClient
	auth    signv1.AuthorizationServiceClient
	docs    signv1.DocumentServiceClient
	mail    *otp.Provider
	stamps  *tsa.Server
	roots   string // the authority of signers, and that of time-stamps
	mandate string
}

func openBook(t *testing.T) *book {
	t.Helper()
	dir := t.TempDir()
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	stampRoots, tokenFile := filepath.Join(dir, "tsa.pem"), filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(stampRoots, authority.CertPEM(), 0o600))
	require.NoError(t, os.WriteFile(tokenFile, []byte("sandbox-token\n"), 0o600))
	b := &book{mail: otp.New("sandbox-token", nil), roots: filepath.Join(dir, "roots.pem")}
	b.stamps, err = tsa.New(tsa.Options{CA: authority, Name: "first"})
	require.NoError(t, err)
	stampWeb, mailWeb := httptest.NewServer(b.stamps), httptest.NewServer(b.mail)
	t.Cleanup(stampWeb.Close)
	t.Cleanup(mailWeb.Close)
	b.house = openWith(t, nil, fmt.Sprintf("  tsa: [{name: first, url: %q, ca_file: %q, timeout: 2s}]\n  authorization: {email: {url: %q, token_file: %q}}\n",
		stampWeb.URL, stampRoots, mailWeb.URL, tokenFile))
	require.NoError(t, os.WriteFile(b.roots, append(b.ca.CertPEM(), authority.CertPEM()...), 0o600))
	conn := b.DialKey("signer", b.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}}))
	b.api, b.auth, b.docs = signv1.NewSignatureRequestServiceClient(conn), signv1.NewAuthorizationServiceClient(conn), signv1.NewDocumentServiceClient(conn)
	seals := b.credential(t, company, seal, p256).GetName()
	m, err := b.docs.CreateMandate(t.Context(), &signv1.CreateMandateRequest{Parent: seals, Mandate: &signv1.Mandate{
		Description: "Seals of audit trails", Forms: []signv1.SignatureForm{detached}, MaxDocuments: 1000, MaxPerDay: 1000,
		StartTime: timestamppb.New(time.Now().Add(-time.Hour)), EndTime: timestamppb.New(time.Now().Add(time.Hour)),
	}})
	require.NoError(t, err)
	b.mandate = m.GetName()
	return b
}

// signer is a person with a credential of their own.
func (b *book) signer(t *testing.T, user string) *signatory {
	t.Helper()
	s := &signatory{house: b.house, name: b.credential(t, company, person, p256).GetName(), auth: b.auth}
	_, err := b.auth.SetPin(t.Context(), &signv1.SetPinRequest{Name: s.name, Holder: user, NewPin: goodPIN})
	require.NoError(t, err)
	enrolled, err := b.auth.CreateOtpDevice(t.Context(), &signv1.CreateOtpDeviceRequest{Parent: s.name, OtpDevice: totp, Pin: goodPIN})
	require.NoError(t, err)
	s.phone, s.device = newApp(t, enrolled.GetOtpauthUri()), enrolled.GetOtpDevice().GetName()
	_, err = b.auth.ConfirmOtpDevice(t.Context(), &signv1.ConfirmOtpDeviceRequest{Name: s.device, Pin: goodPIN, Otp: s.phone.code()})
	require.NoError(t, err)
	return s
}

func user(n int) string { return fmt.Sprintf("tenants/acme/users/u-%d", n) }

func signing(holder string) *signv1.RequestParticipant {
	return &signv1.RequestParticipant{Role: asSigner, Holder: holder, Email: "signer@example.com"}
}

func approverOf(holder string) *signv1.RequestParticipant {
	return &signv1.RequestParticipant{Role: asApprover, Holder: holder, Email: "approver@example.com"}
}

func step(required int32, people ...*signv1.RequestParticipant) *signv1.RequestStep {
	return &signv1.RequestStep{Participants: people, Required: required}
}

func document(name string, form signv1.SignatureForm, content []byte) *signv1.RequestDocument {
	return &signv1.RequestDocument{DisplayName: name, Form: form, Source: &signv1.DocumentToSign{Source: &signv1.DocumentToSign_Content{Content: content}}}
}

func draft(docs []*signv1.RequestDocument, steps ...*signv1.RequestStep) *signv1.SignatureRequest {
	return &signv1.SignatureRequest{Title: "Lease of the shop", Documents: docs, Steps: steps, Deadline: timestamppb.New(time.Now().Add(time.Hour))}
}

func createOf(r *signv1.SignatureRequest) *signv1.CreateSignatureRequestRequest {
	return &signv1.CreateSignatureRequestRequest{Parent: "tenants/acme", SignatureRequest: r, RequestId: uuid.NewString()}
}

func at(r *signv1.SignatureRequest, stepNo, i int) string {
	return r.GetSteps()[stepNo].GetParticipants()[i].GetName()
}

func (b *book) view(t testing.TB, participant string) [][]byte {
	t.Helper()
	v, err := b.api.ViewSignatureRequest(context.Background(), &signv1.ViewSignatureRequestRequest{Participant: participant})
	require.NoError(t, err)
	return seen(v)
}

func seen(v *signv1.ViewSignatureRequestResponse) [][]byte {
	var hashes [][]byte
	for _, d := range v.GetDocuments() {
		hashes = append(hashes, d.GetSha256())
	}
	return hashes
}

func (b *book) approve(participant string, hashes [][]byte) (*signv1.SignatureRequest, error) {
	return b.api.ApproveSignatureRequest(context.Background(), &signv1.ApproveSignatureRequestRequest{Participant: participant, DocumentSha256: hashes, RequestId: uuid.NewString()})
}

// prepared is the call by which a signer who has viewed and authorized signs.
func (b *book) prepared(t *testing.T, participant string, s *signatory) *signv1.SignSignatureRequestRequest {
	t.Helper()
	ch := s.challenge(t, b.view(t, participant))
	return &signv1.SignSignatureRequestRequest{Participant: participant, Challenge: ch.GetName(), Authorization: s.authorize(t, ch), RequestId: uuid.NewString()}
}

func (b *book) get(t testing.TB, name string) *signv1.SignatureRequest {
	t.Helper()
	r, err := b.api.GetSignatureRequest(context.Background(), &signv1.GetSignatureRequestRequest{Name: name})
	require.NoError(t, err)
	return r
}

func (b *book) bundle(t testing.TB, name string) []byte {
	t.Helper()
	eventually(t, "the bundle is made", func() bool { return b.get(t, name).GetBundleTime() != nil })
	stream, err := b.api.DownloadBundle(context.Background(), &signv1.DownloadBundleRequest{Name: name})
	require.NoError(t, err)
	var out bytes.Buffer
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out.Bytes()
		}
		require.NoError(t, err)
		out.Write(m.GetData())
	}
}

// watch reads the trail as it comes, to the end of the request.
func (b *book) watch(name string, after int64) <-chan []string {
	done := make(chan []string, 1)
	go func() {
		var actions []string
		defer func() { done <- actions }()
		stream, err := b.api.WatchSignatureRequest(context.Background(), &signv1.WatchSignatureRequestRequest{Name: name, AfterSequence: after})
		if err != nil {
			return
		}
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			if m.GetEvent() != nil {
				actions = append(actions, m.GetEvent().GetAction())
			}
		}
	}()
	return done
}

func refusedWith(t testing.TB, want string, err error) {
	t.Helper()
	require.Error(t, err, want)
	require.Equal(t, want, fault.Of(err).Code, err)
}

// TestRequestGoesRound: one approver with a mailed code, then two signers in order, a p7m and a PDF, and the
// bundle, verified by the commands that it holds.
func TestRequestGoesRound(t *testing.T) {
	t.Parallel()
	b, ctx := openBook(t), t.Context()
	first, second := b.signer(t, user(1)), b.signer(t, user(2))
	text, pdf := []byte("the whole of the contract"), onePage("Plan of the shop")
	approver := approverOf("")
	approver.RequireLink = true
	r := draft([]*signv1.RequestDocument{document("contract.txt", attached, text), document("the plan's.pdf", inPDF, pdf)},
		step(0, approver), step(0, signing(user(1))), step(0, signing(user(2))))
	r.Timestamp, r.SealMandate = true, b.mandate
	req := createOf(r)
	made, err := b.api.CreateSignatureRequest(ctx, req)
	require.NoError(t, err)
	again, err := b.api.CreateSignatureRequest(ctx, req)
	require.NoError(t, err)
	require.Equal(t, made.GetName(), again.GetName(), "the same request is made once")
	watched := b.watch(made.GetName(), 0)

	one := at(made, 0, 0)
	hashes := b.view(t, one)
	_, err = b.approve(one, hashes)
	refusedWith(t, "LINK_REQUIRED", err)
	sent, err := b.api.SendRequestLink(ctx, &signv1.SendRequestLinkRequest{Participant: one})
	require.NoError(t, err)
	require.Equal(t, "a***@example.com", sent.GetAddress())
	_, err = b.api.SendRequestLink(ctx, &signv1.SendRequestLinkRequest{Participant: one})
	refusedWith(t, "LINK_SENT_TOO_OFTEN", err)
	code := regexp.MustCompile(`[A-Za-z0-9_-]{43}`).FindString(b.mail.Sent("approver@example.com")[0].Text)
	secret, err := base64.RawURLEncoding.DecodeString(code)
	require.NoError(t, err)
	var kept []byte
	require.NoError(t, pgtest.Admin(t, b.DB("signer")).QueryRow(ctx, `SELECT sha256 FROM signing_request_link`).Scan(&kept))
	require.Equal(t, sha256.Sum256(secret), [32]byte(kept))
	approve := &signv1.ApproveSignatureRequestRequest{Participant: one, DocumentSha256: hashes, LinkToken: code[1:] + "A", RequestId: uuid.NewString()}
	_, err = b.api.ApproveSignatureRequest(ctx, approve)
	refusedWith(t, "LINK_INVALID", err)
	approve.LinkToken, approve.DocumentSha256 = code, hashes[:1]
	_, err = b.api.ApproveSignatureRequest(ctx, approve)
	refusedWith(t, "DOCUMENT_CHANGED", err)
	approve.DocumentSha256 = hashes
	got, err := b.api.ApproveSignatureRequest(ctx, approve)
	require.NoError(t, err, "an approval that was refused has not used the code")
	require.EqualValues(t, 2, got.GetCurrentStep())
	_, err = b.api.ApproveSignatureRequest(ctx, approve)
	require.NoError(t, err, "a repeat gives the first answer")

	_, err = b.api.SignSignatureRequest(ctx, b.early(t, at(made, 2, 0), second))
	refusedWith(t, "NOT_YOUR_TURN", err)

	// No authority stamps: nothing is recorded, and the same call goes on when one is back.
	call := b.prepared(t, at(made, 1, 0), first)
	require.NoError(t, b.stamps.SetFault(tsa.Fault{Mode: tsa.FaultUnavailable}))
	_, err = b.api.SignSignatureRequest(ctx, call)
	refusedWith(t, "TSA_UNAVAILABLE", err)
	require.Nil(t, b.get(t, made.GetName()).GetDocuments()[0].GetSigned())
	require.NoError(t, b.stamps.SetFault(tsa.Fault{}))
	got, err = b.api.SignSignatureRequest(ctx, call)
	require.NoError(t, err)
	lost, err := b.api.SignSignatureRequest(ctx, call)
	require.NoError(t, err, "the answer was lost")
	require.Equal(t, got.GetDocuments()[0].GetSigned().GetSha256(), lost.GetDocuments()[0].GetSigned().GetSha256())
	require.Equal(t, got.GetSequence(), lost.GetSequence(), "nothing happened twice")

	call = b.prepared(t, at(made, 2, 0), second)
	got, err = b.api.SignSignatureRequest(ctx, call)
	require.NoError(t, err)
	require.Equal(t, completed, got.GetState())

	zipped := b.bundle(t, made.GetName())
	require.Equal(t, []string{"CREATED", "VIEWED", "LINK_SENT", "APPROVED", "VIEWED", "VIEWED", "SIGNED", "VIEWED", "SIGNED", "SEALED"}, <-watched)
	require.Equal(t, []string{"SEALED"}, <-b.watch(made.GetName(), got.GetSequence()), "resumed at the last that was known")
	require.Empty(t, b.get(t, made.GetName()).GetBundleNote())
	b.judge(t, zipped)
	b.obey(t, zipped)
}

// early is a call of somebody whose turn it is not: the challenge is real, the authorization is not asked for.
func (b *book) early(t *testing.T, participant string, s *signatory) *signv1.SignSignatureRequestRequest {
	t.Helper()
	ch := s.challenge(t, b.view(t, participant))
	return &signv1.SignSignatureRequestRequest{Participant: participant, Challenge: ch.GetName(), Authorization: "AAAA", RequestId: uuid.NewString()}
}

// judge holds the bundle against our own verifier: all is whole; that nobody was asked about revocation makes
// it indeterminate.
func (b *book) judge(t *testing.T, zipped []byte) {
	t.Helper()
	report, err := dossier.Verify(t.Context(), bytes.NewReader(zipped), validation.Options{At: time.Now(), Roots: certificatesOf(t, b.roots)})
	require.NoError(t, err)
	require.Empty(t, report.Faults)
	require.Equal(t, validation.Indeterminate, report.Verdict, report.Reason)
	require.Equal(t, validation.TryLater, report.Sub, report.Reason)
	require.Len(t, report.Documents, 2)
	for _, d := range report.Documents {
		require.Len(t, d.Signatures, 2, d.Path)
	}
	require.NotNil(t, report.Seal)
	require.NotNil(t, report.Stamp)
	// A line that is not there any more is seen.
	files := unzip(t, zipped)
	var trail dossier.Trail
	require.NoError(t, json.Unmarshal(files[dossier.TrailName], &trail))
	lines := append(append([]dossier.Line(nil), trail.Events[:2]...), trail.Events[3:]...)
	_, err = dossier.Check(trail.Request.Name, lines, trail.Head)
	var broken *dossier.BrokenError
	require.ErrorAs(t, err, &broken)
	require.EqualValues(t, 3, broken.Sequence)
}

// obey unpacks the bundle and does what VERIFY.txt says.
func (b *book) obey(t *testing.T, zipped []byte) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range unzip(t, zipped) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, content, 0o600))
	}
	roots, err := os.ReadFile(b.roots)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ROOTS.pem"), roots, 0o600))
	manual, err := os.ReadFile(filepath.Join(dir, dossier.ManualName))
	require.NoError(t, err)
	commands := regexp.MustCompile(`(?m)^    ((?:openssl|sha256sum|pdfsig|cmp) .*)$`).FindAllStringSubmatch(string(manual), -1)
	require.Len(t, commands, 6, "%s", manual)
	for _, c := range commands {
		cmd := exec.Command("sh", "-e", "-c", c[1])
		cmd.Dir = dir
		said, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", c[1], said)
		if strings.HasPrefix(c[1], "pdfsig") {
			require.Equal(t, 2, strings.Count(string(said), "Signature is Valid"), "%s", said)
		}
	}
}

func unzip(t testing.TB, raw []byte) map[string][]byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	out := map[string][]byte{}
	for _, f := range z.File {
		in, err := f.Open()
		require.NoError(t, err)
		out[f.Name], err = io.ReadAll(in)
		require.NoError(t, err)
	}
	return out
}

func certificatesOf(t testing.TB, file string) []*x509.Certificate {
	t.Helper()
	rest, err := os.ReadFile(file)
	require.NoError(t, err)
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		out = append(out, cert)
	}
}
