package signer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/csc"
	"ceralacca.dev/services/format/csc/csc2"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/remotesign"
)

// heirs is a house whose clock stands, with a provider outside.
type heirs struct {
	*messages
	clock     *clock
	world     *remotesign.World
	conn      *grpc.ClientConn
	lives     signv1.CredentialServiceClient
	providers signv1.ProviderServiceClient
	documents signv1.DocumentServiceClient
}

func openHeirs(t *testing.T) *heirs {
	t.Helper()
	world, section := remoteWorld(t)
	c := &clock{}
	h := &heirs{clock: c, world: world, messages: openMessagesWith(t, nil, c, section)}
	h.conn = h.DialKey("signer", h.Key(auth.Caller{ID: "product", Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}}))
	h.lives, h.providers, h.documents = signv1.NewCredentialServiceClient(h.conn), signv1.NewProviderServiceClient(h.conn), signv1.NewDocumentServiceClient(h.conn)
	return h
}

// afar is a credential with its key at the provider.
func (h *heirs) afar(t *testing.T, parent, user, whose string, kind signv1.CredentialKind) string {
	t.Helper()
	key := &signv1.RemoteKey{Provider: "namirial", Id: user, OtpKind: "APP"}
	if kind != person {
		key.OtpKind, key.Secret = "", "pin"
	}
	_, err := h.world.Enrol(client.RemoteHolderRequest{User: user, PIN: remotePIN, CommonName: "at the provider", Automatic: kind != person})
	require.NoError(t, err)
	c, err := h.providers.CreateProviderCredential(t.Context(), &signv1.CreateProviderCredentialRequest{Parent: parent, Kind: kind, Key: key, Holder: whose, RequestId: uuid.NewString()})
	require.NoError(t, err)
	return c.GetName()
}

func (h *heirs) succeed(t *testing.T, name, by string, from time.Time) error {
	t.Helper()
	got, err := h.lives.SetSuccessor(t.Context(), &signv1.SetSuccessorRequest{Name: name, Successor: by, EffectiveTime: timestamppb.New(from)})
	if err == nil {
		require.Equal(t, by, got.GetSuccessor())
		require.True(t, from.Equal(got.GetSuccessorTime().AsTime()))
	}
	return err
}

// of is the credential that a challenge is of.
func of(ch *signv1.Challenge) string {
	name, _, _ := strings.Cut(ch.GetName(), "/challenges/")
	return name
}

func signerOfCMS(t *testing.T, der []byte) string {
	t.Helper()
	sd, err := cms.Parse(der)
	require.NoError(t, err)
	for _, c := range sd.Certificates {
		if !c.IsCA {
			return c.Subject.CommonName
		}
	}
	return ""
}

// TestSuccessor: a person's key moves from Vault to a provider, and back, on dates. Up to the instant who names the credential
// gets its own signatures, from the instant on its successor's; what was begun before ends as it began.
func TestSuccessor(t *testing.T) {
	t.Parallel()
	h := openHeirs(t)
	s := h.person(t, holder)
	s.enrolSent(t, sms, phone)
	const user = "RHIP8000001"
	sibling := h.person(t, holder).name
	far, stranger := h.afar(t, company, user, holder, person), h.afar(t, company, "RHIP8000002", "tenants/acme/users/u-99", person)
	start := h.clock.now().UTC().Truncate(time.Microsecond)
	day := start.Add(time.Hour)
	for name, c := range map[string]struct {
		by, code string
		from     time.Time
	}{
		"itself": {s.name, "SUCCESSOR_CIRCLE", day}, "another holder's": {stranger, "SUCCESSOR_UNFIT", day}, "in the past": {far, "EFFECTIVE_TIME", start.Add(-time.Hour)},
		"after its certificate": {far, "SUCCESSOR_UNFIT", day.AddDate(50, 0, 0)}, "of another kind": {h.credential(t, company, seal, p256).GetName(), "SUCCESSOR_UNFIT", day},
		"of another company": {h.credential(t, "tenants/acme/companies/other", person, p256).GetName(), "SUCCESSOR_UNFIT", day},
	} {
		require.Equal(t, c.code, fault.Of(h.succeed(t, s.name, c.by, c.from)).Code, name)
	}
	require.NoError(t, h.succeed(t, s.name, sibling, day.Add(time.Minute)), "a date that has not come may be changed")
	require.NoError(t, h.succeed(t, s.name, far, day))
	require.Equal(t, "SUCCESSOR_CIRCLE", fault.Of(h.succeed(t, far, s.name, day)).Code)

	ask := func(at time.Time, documents ...string) *signv1.Challenge {
		h.clock.stand(at)
		return s.challenge(t, documents...)
	}
	before := ask(day.Add(-time.Microsecond), "old")
	require.Equal(t, s.name, of(before), "the instant before")
	after := ask(day, "new")
	require.Equal(t, far, of(after), "the instant itself")
	h.clock.stand(day.Add(time.Second))
	_, err := s.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: before.GetName()})
	require.NoError(t, err)
	given, err := s.authorize(before, s.lastPassword(t, phone))
	require.NoError(t, err)
	got, err := s.auth.SignHashes(t.Context(), &signv1.SignHashesRequest{Name: before.GetName(), Authorization: given.GetAuthorization(), DocumentSha256: before.GetDocumentSha256(), RequestId: uuid.NewString()})
	require.NoError(t, err)
	require.Equal(t, "Alfa di prova", signerOfCMS(t, got.GetSignatures()[0].GetCms()), "what was begun before ends as it began")

	shown, err := h.world.OTP(user, "APP")
	require.NoError(t, err)
	remote, err := s.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: after.GetName(), Pin: remotePIN, Otp: shown.Password})
	require.NoError(t, err)
	req := &signv1.SignDocumentsRequest{Credential: stranger, Challenge: after.GetName(), Authorization: remote.GetAuthorization(), Form: attached, RequestId: uuid.NewString(),
		Documents: []*signv1.DocumentToSign{{Source: &signv1.DocumentToSign_Content{Content: []byte("new")}}}}
	_, err = h.documents.SignDocuments(t.Context(), req)
	requireCode(t, "CHALLENGE_MISMATCH", err)
	req.Credential = s.name
	signed, err := h.documents.SignDocuments(t.Context(), req)
	require.NoError(t, err, "the caller names the credential that it knows")
	require.Equal(t, far, signed.GetCredential())
	require.Equal(t, "at the provider", signerOfCMS(t, signed.GetDocuments()[0].GetContent()))

	_, err = h.client.RevokeCredential(t.Context(), &signv1.RevokeCredentialRequest{Name: s.name})
	require.NoError(t, err)
	require.Equal(t, far, of(ask(day.Add(time.Minute), "newer")), "also when the first is gone")
	require.Equal(t, "SUCCESSOR_IN_FORCE", fault.Of(h.succeed(t, s.name, sibling, day.Add(time.Hour))).Code)

	back := h.person(t, holder)
	back.enrolSent(t, sms, newPhone)
	home := day.Add(2 * time.Hour)
	require.NoError(t, h.succeed(t, far, back.name, home))
	require.Equal(t, "SUCCESSOR_CIRCLE", fault.Of(h.succeed(t, back.name, s.name, home)).Code)
	require.Equal(t, far, of(ask(home.Add(-time.Microsecond), "late")))
	require.Equal(t, back.name, of(ask(home, "home")), "the successor of the successor")
	_, err = h.lives.SetSuccessor(t.Context(), &signv1.SetSuccessorRequest{Name: far})
	require.NoError(t, err)
	require.Equal(t, far, of(ask(home, "far again")), "nobody takes its place any more")
	there, err := h.world.Holder(user)
	require.NoError(t, err)
	require.Len(t, there.Signed, 1)
}

// TestSuccessorWithoutAPerson: a company's invoices, what a role signs, and mandates, around the instant at which a key at a
// provider takes the place of one in Vault.
func TestSuccessorWithoutAPerson(t *testing.T) {
	t.Parallel()
	h := openHeirs(t)
	const archive = "tenants/acme/companies/archive"
	own := h.credential(t, company, automatic, p256).GetName()
	far := h.afar(t, company, "AHI8000001", "", automatic)
	keeper := h.credential(t, archive, role, p256).GetName()
	farKeeper := h.afar(t, archive, "AHI8000002", "", role)
	sealing := h.credential(t, company, seal, p256).GetName()
	farSeal := h.afar(t, company, "AHI8000003", "", seal)
	start := h.clock.now().UTC().Truncate(time.Microsecond)
	day := start.Add(time.Hour)
	mandate, err := h.documents.CreateMandate(t.Context(), &signv1.CreateMandateRequest{Parent: sealing, Mandate: &signv1.Mandate{
		Description: "Notes", Forms: []signv1.SignatureForm{attached}, MaxDocuments: 10, MaxPerDay: 10,
		StartTime: timestamppb.New(start.Add(-time.Hour)), EndTime: timestamppb.New(start.Add(24 * time.Hour)),
	}})
	require.NoError(t, err)
	for name, by := range map[string]string{own: far, keeper: farKeeper, sealing: farSeal} {
		require.NoError(t, h.succeed(t, name, by, day))
	}
	others := signv1.NewSignServiceClient(h.DialAs("signer", "conservation"))
	blobBy := func(credential string) string {
		ref, err := h.probe.host.Blobs.Put(t.Context(), "acme", []byte(uuid.NewString()))
		require.NoError(t, err)
		got, err := others.SignBlob(t.Context(), &signv1.SignBlobRequest{Parent: "tenants/acme", Credential: credential, Subject: "tenants/acme/packages/" + uuid.NewString(), Content: blobOf(ref), RequestId: uuid.NewString()})
		require.NoError(t, err)
		return got.GetCredential()
	}
	invoiceBy := func() string {
		subject := h.probe.accept(t, true, []byte("<f id='"+uuid.NewString()+"'/>"), 1)
		eventually(t, "it is signed", func() bool { return len(h.probe.signedOf(subject)) == 1 })
		got, err := h.client.GetSignature(t.Context(), &signv1.GetSignatureRequest{Name: h.probe.signedOf(subject)[0].GetSignature()})
		require.NoError(t, err)
		return got.GetCredential()
	}
	for _, c := range []struct {
		at              time.Time
		invoice, keeper string
	}{{day.Add(-time.Microsecond), own, keeper}, {day, far, farKeeper}} {
		h.clock.stand(c.at)
		require.Equal(t, c.invoice, invoiceBy(), "by which certificate is newer is not the question")
		require.Equal(t, c.keeper, blobBy(archive+"/credentials/-"))
		require.Equal(t, c.keeper, blobBy(keeper))
	}
	// A mandate is for one credential: what was begun under it ends, and nothing new begins.
	req := byMandate(sealing, mandate.GetName(), attached, []byte("a note"))
	h.clock.stand(day.Add(-time.Microsecond))
	first, err := h.documents.SignDocuments(t.Context(), req)
	require.NoError(t, err)
	h.clock.stand(day)
	again, err := h.documents.SignDocuments(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, first.GetDocuments()[0].GetContent(), again.GetDocuments()[0].GetContent())
	_, err = h.documents.SignDocuments(t.Context(), byMandate(sealing, mandate.GetName(), attached, []byte("another")))
	requireCode(t, "CREDENTIAL_SUCCEEDED", err)
	require.Contains(t, err.Error(), farSeal)

	// Before its date a successor signs when there is nobody else.
	h.clock.stand(start.Add(time.Minute))
	require.Equal(t, own, invoiceBy())
	_, err = h.client.RevokeCredential(t.Context(), &signv1.RevokeCredentialRequest{Name: own})
	require.NoError(t, err)
	require.Equal(t, far, invoiceBy())
}

// TestSuccessorInARequest: who was asked to sign with a credential signs with the one that has taken its place, and with no
// other.
func TestSuccessorInARequest(t *testing.T) {
	t.Parallel()
	b := openBook(t)
	first, next, other := b.signer(t, user(1)), b.signer(t, user(1)), b.signer(t, user(1))
	asked := func() *signv1.SignatureRequest {
		return b.create(t, draft(contract(1), step(0, &signv1.RequestParticipant{Role: asSigner, Credential: first.name, Email: "signer@example.com"})))
	}
	before, after := asked(), asked()
	early := b.prepared(t, at(before, 0, 0), first)
	lives := signv1.NewCredentialServiceClient(b.DialKey("signer", b.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}})))
	_, err := lives.SetSuccessor(t.Context(), &signv1.SetSuccessorRequest{Name: first.name, Successor: next.name})
	require.NoError(t, err)
	require.NoError(t, b.sign(early), "it was begun before")
	call := b.prepared(t, at(after, 0, 0), other)
	require.Equal(t, "CREDENTIAL_OF_ANOTHER", fault.Of(b.sign(call)).Code)
	byOldName := *next
	byOldName.name = first.name
	call = b.prepared(t, at(after, 0, 0), &byOldName)
	require.True(t, strings.HasPrefix(call.GetChallenge(), next.name+"/"))
	require.NoError(t, b.sign(call))
	require.Equal(t, completed, b.get(t, after.GetName()).GetState())
}

// TestSuccessorOverCSC: a CSC client has the certificate of the credential that it names, so nothing is signed with another;
// what it has a SAD for is.
func TestSuccessorOverCSC(t *testing.T) {
	t.Parallel()
	r := openCSC(t, "")
	apiKey := r.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}})
	p, next := r.personWith(t, apiKey, p256, phone), r.credential(t, company, person, p256)
	_, err := p.auth.SetPin(t.Context(), &signv1.SetPinRequest{Name: next.GetName(), Holder: "tenants/acme/users/" + phone[1:], NewPin: goodPIN})
	require.NoError(t, err)
	hashes := digests("a contract")
	sad := p.sad(t, hashes, 1)
	_, err = signv1.NewCredentialServiceClient(r.DialKey("signer", apiKey)).SetSuccessor(t.Context(), &signv1.SetSuccessorRequest{Name: p.name, Successor: next.GetName()})
	require.NoError(t, err)
	_, err = p.signHash(t, sad, hashes)
	require.NoError(t, err)
	refused(t, p.post(t, csc2.Challenge, csc2.ChallengeRequest{CredentialID: p.id, AuthObjectID: "OTP", Hashes: digests("another"), HashAlgorithm: csc.SHA256, NumSignatures: 1}, nil),
		"invalid_request", "The credential identified by credentialID is disabled")
}
