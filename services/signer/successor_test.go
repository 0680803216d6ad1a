package signer_test

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
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
	"ceralacca.dev/services/sandbox/ca"
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

func openHeirs(t *testing.T, more ...string) *heirs {
	t.Helper()
	world, section := remoteWorld(t)
	c := &clock{}
	h := &heirs{clock: c, world: world, messages: openMessagesWith(t, nil, c, section+strings.Join(more, ""))}
	h.conn = h.DialKey("signer", h.Key(auth.Caller{ID: "product", Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}}))
	h.lives, h.providers, h.documents = signv1.NewCredentialServiceClient(h.conn), signv1.NewProviderServiceClient(h.conn), signv1.NewDocumentServiceClient(h.conn)
	return h
}

// afar is a credential with its key at the provider.
func (h *heirs) afar(t *testing.T, parent, user, whose string, kind signv1.CredentialKind) string {
	t.Helper()
	return h.afarOf(t, parent, user, "at the provider", whose, kind)
}

// afarOf is one whose certificate names somebody.
func (h *heirs) afarOf(t *testing.T, parent, user, named, whose string, kind signv1.CredentialKind) string {
	t.Helper()
	key := &signv1.RemoteKey{Provider: "namirial", Id: user, OtpKind: "APP"}
	if kind != person {
		key.OtpKind, key.Secret = "", "pin"
	}
	_, err := h.world.Enrol(client.RemoteHolderRequest{User: user, PIN: remotePIN, CommonName: named, Automatic: kind != person})
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
	return certificateOfCMS(t, der).Subject.CommonName
}

// certificateOfCMS is the one that is no authority's.
func certificateOfCMS(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	sd, err := cms.Parse(der)
	require.NoError(t, err)
	at := slices.IndexFunc(sd.Certificates, func(c *x509.Certificate) bool { return !c.IsCA })
	require.GreaterOrEqual(t, at, 0)
	return sd.Certificates[at]
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
	home := day.Add(20 * time.Minute)
	require.NoError(t, h.succeed(t, far, back.name, home))
	require.Equal(t, "SUCCESSOR_CIRCLE", fault.Of(h.succeed(t, back.name, s.name, home)).Code)
	require.Equal(t, far, of(ask(home.Add(-time.Microsecond), "late")))
	require.Equal(t, back.name, of(ask(home, "home")), "the successor of the successor")
	again, err := h.documents.SignDocuments(t.Context(), req)
	require.NoError(t, err, "the answer may have been lost: what was begun before the next succession is the same by the name that the caller knows")
	require.Equal(t, signed.GetDocuments()[0].GetContent(), again.GetDocuments()[0].GetContent())
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

// TestMandateFollowsItsOwner: a mandate that was given for a successor too signs with whoever has the place, when both certificates
// name one owner, within the limits that it had; it does not follow to another owner's key, and one that was not given so stays.
func TestMandateFollowsItsOwner(t *testing.T) {
	t.Parallel()
	h := openHeirs(t)
	own := h.credential(t, company, seal, p256).GetName()
	const userOfSame = "AHI8100001"
	same, other := h.afarOf(t, company, userOfSame, "Alfa di prova", "", seal), h.afarOf(t, company, "AHI8100002", "Beta di prova", "", seal)
	home := h.credential(t, company, seal, p256).GetName()
	start := h.clock.now().UTC().Truncate(time.Microsecond)
	day := start.Add(time.Hour)
	give := func(follow bool) string {
		m, err := h.documents.CreateMandate(t.Context(), &signv1.CreateMandateRequest{Parent: own, Mandate: &signv1.Mandate{
			Description: "Notes", Forms: []signv1.SignatureForm{attached, detached}, MaxDocuments: 6, MaxPerDay: 6, FollowSuccessor: follow,
			StartTime: timestamppb.New(start.Add(-time.Hour)), EndTime: timestamppb.New(start.Add(24 * time.Hour)),
		}})
		require.NoError(t, err)
		require.Equal(t, follow, m.GetFollowSuccessor())
		return m.GetName()
	}
	stays, follows := give(false), give(true)
	sign := func(req *signv1.SignDocumentsRequest) (string, error) {
		got, err := h.documents.SignDocuments(t.Context(), req)
		if err == nil {
			c, err := h.client.GetCredential(t.Context(), &signv1.GetCredentialRequest{Name: got.GetCredential()})
			require.NoError(t, err)
			leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificateOfCMS(t, got.GetDocuments()[0].GetContent()).Raw})
			require.True(t, strings.HasPrefix(c.GetCertificatePem(), string(leaf)), "it is signed by %s", c.GetName())
		}
		return got.GetCredential(), err
	}
	signedBy := func(want string, req *signv1.SignDocumentsRequest) {
		t.Helper()
		by, err := sign(req)
		require.NoError(t, err)
		require.Equal(t, want, by)
	}
	require.NoError(t, h.succeed(t, own, same, day))
	h.clock.stand(day.Add(-time.Microsecond))
	before := byMandate(own, follows, attached, []byte("before"))
	signedBy(own, before)
	_, err := sign(byMandate(same, follows, attached, []byte("too early")))
	requireCode(t, "MANDATE_MISMATCH", err)

	h.clock.stand(day)
	signedBy(own, before) // what was begun before ends as it began
	after := byMandate(own, follows, attached, []byte("after"))
	signedBy(same, after)
	signedBy(same, after)
	there, err := h.world.Holder(userOfSame)
	require.NoError(t, err)
	require.Len(t, there.Signed, 1, "a request that comes again is not signed again")
	byName := byMandate(same, follows, attached, []byte("by its own name"))
	signedBy(same, byName)
	_, err = sign(byMandate(own, stays, attached, []byte("stays")))
	requireCode(t, "CREDENTIAL_SUCCEEDED", err)
	require.Contains(t, err.Error(), same)
	require.Contains(t, err.Error(), "follow_successor")
	_, err = sign(byMandate(own, follows, attached, []byte("1"), []byte("2"), []byte("3"), []byte("4")))
	requireCode(t, "MANDATE_REFUSED", err)
	m, err := h.documents.GetMandate(t.Context(), &signv1.GetMandateRequest{Name: follows})
	require.NoError(t, err)
	require.EqualValues(t, 3, m.GetUsedDocuments(), "one count, whoever signs")

	// A request's trail is sealed under such a mandate too.
	asks := signv1.NewSignatureRequestServiceClient(h.conn)
	r := draft([]*signv1.RequestDocument{document("a lease", attached, []byte("a lease"))}, step(0, &signv1.RequestParticipant{Role: asApprover, Holder: user(1)}))
	r.Deadline, r.SealMandate = timestamppb.New(day.Add(time.Hour)), stays
	_, err = asks.CreateSignatureRequest(t.Context(), createOf(r))
	requireCode(t, "CREDENTIAL_SUCCEEDED", err)
	r.SealMandate = follows
	made, err := asks.CreateSignatureRequest(t.Context(), createOf(r))
	require.NoError(t, err)
	v, err := asks.ViewSignatureRequest(t.Context(), &signv1.ViewSignatureRequestRequest{Participant: at(made, 0, 0)})
	require.NoError(t, err)
	_, err = asks.ApproveSignatureRequest(t.Context(), &signv1.ApproveSignatureRequestRequest{Participant: at(made, 0, 0), DocumentSha256: seen(v), RequestId: uuid.NewString()})
	require.NoError(t, err)
	eventually(t, "the bundle is made", func() bool {
		made, err = asks.GetSignatureRequest(t.Context(), &signv1.GetSignatureRequestRequest{Name: made.GetName()})
		require.NoError(t, err)
		return made.GetBundleTime() != nil
	})
	require.Empty(t, made.GetBundleNote(), "it is sealed")
	there, err = h.world.Holder(userOfSame)
	require.NoError(t, err)
	require.Len(t, there.Signed, 3)

	// The successor of the successor, a key in Vault; and then a key of somebody else.
	require.NoError(t, h.succeed(t, same, home, day.Add(time.Minute)))
	h.clock.stand(day.Add(time.Minute))
	signedBy(same, after)
	signedBy(same, byName) // its answer may have been lost
	_, err = sign(byMandate(same, follows, attached, []byte("its place is taken")))
	requireCode(t, "MANDATE_MISMATCH", err)
	signedBy(home, byMandate(own, follows, attached, []byte("home")))
	require.NoError(t, h.succeed(t, home, other, day.Add(2*time.Minute)))
	h.clock.stand(day.Add(2 * time.Minute))
	_, err = sign(byMandate(own, follows, attached, []byte("another's")))
	requireCode(t, "CREDENTIAL_SUCCEEDED", err)
	require.Contains(t, err.Error(), other)
	require.Contains(t, err.Error(), "same owner")
	_, err = h.lives.SetSuccessor(t.Context(), &signv1.SetSuccessorRequest{Name: home})
	require.NoError(t, err)
	_, err = h.client.RevokeCredential(t.Context(), &signv1.RevokeCredentialRequest{Name: home})
	require.NoError(t, err)
	_, err = sign(byMandate(own, follows, attached, []byte("revoked")))
	requireCode(t, "CREDENTIAL_NOT_ACTIVE", err)
	require.Contains(t, err.Error(), home)
	_, err = h.documents.RevokeMandate(t.Context(), &signv1.RevokeMandateRequest{Name: follows})
	require.NoError(t, err)
	_, err = sign(byMandate(own, follows, attached, []byte("no more")))
	requireCode(t, "MANDATE_REFUSED", err)
}

// TestSuccessorEndsWarnings: nobody is warned of the end of a credential whose place is taken, or will be by one that can; where the
// plan is given up, or cannot be carried out, they are.
func TestSuccessorEndsWarnings(t *testing.T) {
	t.Parallel()
	h := openHeirs(t, "  keys: {check_every: 30ms}\n")
	own, control := h.credential(t, company, automatic, p256), h.credential(t, "tenants/acme/companies/other", automatic, p256)
	end := own.GetExpireTime().AsTime()
	h.clock.advance(10 * aDay)
	later, err := ca.New(ca.Options{Now: h.clock.now})
	require.NoError(t, err)
	heir := func() string {
		c, err := h.client.CreateCredential(t.Context(), &signv1.CreateCredentialRequest{Parent: company, RequestId: uuid.NewString(), Credential: &signv1.Credential{Kind: automatic, KeyType: p256, CommonName: "Alfa di prova"}})
		require.NoError(t, err)
		block, _ := pem.Decode([]byte(c.GetCsrPem()))
		cert, err := later.SignCSR(block.Bytes, ca.ProfileSigning)
		require.NoError(t, err)
		_, err = h.client.ImportCertificate(t.Context(), &signv1.ImportCertificateRequest{Name: c.GetName(),
			CertificatePem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})) + string(later.CertPEM())})
		require.NoError(t, err)
		return c.GetName()
	}
	next, final := heir(), heir()
	warned := func(of *signv1.Credential) int { return h.acts(t, "credential.warn", of.GetName()) }
	// until goes to so many days before the end, and waits for what is warned of there.
	until := func(days, wantControl int) {
		t.Helper()
		h.clock.advance(end.Add(-time.Duration(days) * aDay).Add(time.Hour).Sub(h.clock.now()))
		eventually(t, "the other credential is warned of", func() bool { return warned(control) == wantControl })
	}
	listed := func() (out []string) {
		got, err := h.lives.ListExpiringCredentials(t.Context(), &signv1.ListExpiringCredentialsRequest{Parent: "tenants/acme"})
		require.NoError(t, err)
		for _, c := range got.GetCredentials() {
			out = append(out, c.GetCredential().GetName())
		}
		return out
	}
	require.NoError(t, h.succeed(t, own.GetName(), next, end.Add(-20*aDay)))
	until(60, 1)
	require.Zero(t, warned(own), "it has somebody who takes its place before it ends")
	require.Equal(t, []string{control.GetName()}, listed())
	_, err = h.lives.SetSuccessor(t.Context(), &signv1.SetSuccessorRequest{Name: own.GetName()})
	require.NoError(t, err)
	eventually(t, "the plan is given up", func() bool { return warned(own) == 1 })
	require.Len(t, listed(), 2)

	require.NoError(t, h.succeed(t, own.GetName(), next, end.Add(-20*aDay)))
	until(30, 2)
	require.Equal(t, 1, warned(own))
	_, err = h.client.RevokeCredential(t.Context(), &signv1.RevokeCredentialRequest{Name: next})
	require.NoError(t, err)
	eventually(t, "who was to take its place cannot", func() bool { return warned(own) == 2 })

	_, err = h.lives.SetSuccessor(t.Context(), &signv1.SetSuccessorRequest{Name: own.GetName()})
	require.NoError(t, err)
	require.NoError(t, h.succeed(t, own.GetName(), final, h.clock.now().Add(time.Hour).Truncate(time.Microsecond)))
	until(7, 3)
	require.Equal(t, 2, warned(own), "its place is taken")
	require.Equal(t, []string{control.GetName(), final}, listed())
}

// TestSuccessorOverCSC: a CSC client has the certificate of the credential that it names, so nothing is signed with another; what it
// has a SAD for is. It is told that the key is disabled, and which credential has its place.
func TestSuccessorOverCSC(t *testing.T) {
	t.Parallel()
	r := openCSC(t, "")
	apiKey := r.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}})
	p, next := r.personWith(t, apiKey, p256, phone), r.personWith(t, apiKey, p256, phone)
	infoOf := func(lang string) (info csc2.CredentialInfo) {
		require.NoError(t, p.post(t, csc2.Credential, csc2.CredentialRequest{CredentialID: p.id, Detail: csc2.Detail{Lang: lang, AuthInfo: true}}, &info))
		return info
	}
	list := func(onlyValid bool) (ids []string) {
		var resp csc2.ListResponse
		require.NoError(t, p.post(t, csc2.List, csc2.ListRequest{OnlyValid: onlyValid}, &resp))
		return resp.CredentialIDs
	}
	require.Equal(t, "enabled", infoOf("").Key.Status)
	require.ElementsMatch(t, []string{p.id, next.id}, list(true))
	hashes := digests("a contract")
	sad := p.sad(t, hashes, 1)
	_, err := signv1.NewCredentialServiceClient(r.DialKey("signer", apiKey)).SetSuccessor(t.Context(), &signv1.SetSuccessorRequest{Name: p.name, Successor: next.name})
	require.NoError(t, err)

	info := infoOf("")
	require.Equal(t, "disabled", info.Key.Status)
	require.Equal(t, "valid", info.Cert.Status, "its certificate was not withdrawn")
	require.NotEmpty(t, info.Cert.Certificates, "and verifies what was signed")
	require.Equal(t, "Alfa di prova; the credential "+next.id+" has taken its place", info.Description)
	require.Equal(t, "Alfa di prova; al suo posto c'è la credenziale "+next.id, infoOf("it").Description)
	require.Equal(t, []string{next.id}, list(true))
	require.ElementsMatch(t, []string{p.id, next.id}, list(false))

	_, err = p.signHash(t, sad, hashes)
	require.NoError(t, err)
	r.exec(t, `UPDATE otp_message SET sent_at = sent_at - interval '1 hour'`)
	const gone = "The credential identified by credentialID is disabled"
	refused(t, p.post(t, csc2.Challenge, csc2.ChallengeRequest{CredentialID: p.id, AuthObjectID: "OTP", Hashes: digests("another"), HashAlgorithm: csc.SHA256, NumSignatures: 1}, nil), "invalid_request", gone)
	refused(t, p.post(t, csc2.Authorize, p.ask(digests("another"), 1, "12345678"), nil), "invalid_request", gone)
	_, err = next.signHash(t, next.sad(t, hashes, 1), hashes)
	require.NoError(t, err)
}

// TestSuccessorOverCSCWithoutHashes: no password is sent for what cannot begin.
func TestSuccessorOverCSCWithoutHashes(t *testing.T) {
	t.Parallel()
	r := openCSC(t, ", otp_without_hashes: true")
	apiKey := r.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}})
	p, next := r.personWith(t, apiKey, p256, phone), r.personWith(t, apiKey, p256, phone)
	_, err := signv1.NewCredentialServiceClient(r.DialKey("signer", apiKey)).SetSuccessor(t.Context(), &signv1.SetSuccessorRequest{Name: p.name, Successor: next.name})
	require.NoError(t, err)
	r.exec(t, `UPDATE otp_message SET sent_at = sent_at - interval '1 hour'`)
	sent := len(r.provider.Sent(phone))
	refused(t, p.post(t, csc2.Challenge, csc2.ChallengeRequest{CredentialID: p.id, AuthObjectID: "OTP"}, nil), "invalid_request", "The credential identified by credentialID is disabled")
	require.Len(t, r.provider.Sent(phone), sent)
	require.NoError(t, next.post(t, csc2.Challenge, csc2.ChallengeRequest{CredentialID: next.id, AuthObjectID: "OTP"}, nil))
}
