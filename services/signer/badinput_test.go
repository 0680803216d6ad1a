package signer_test

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/sandbox/ca"
)

// TestBadInput has one case for each thing that the house is asked to withstand.
func TestBadInput(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	s := d.signatory(t, p256)
	_, hashes := hashesOf(3)
	ch := s.challenge(t, hashes)
	secret := s.authorize(t, ch)
	sign := func(change func(*signv1.SignHashesRequest)) error {
		req := &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: secret, DocumentSha256: hashes, RequestId: uuid.NewString()}
		change(req)
		_, err := s.auth.SignHashes(t.Context(), req)
		return err
	}
	t.Run("wrong hash length", func(t *testing.T) {
		_, err := s.auth.CreateChallenge(t.Context(), &signv1.CreateChallengeRequest{Parent: s.name, DocumentSha256: [][]byte{make([]byte, 20)}})
		code(t, err, fault.KindInvalid, "HASH_LENGTH")
		code(t, sign(func(r *signv1.SignHashesRequest) { r.DocumentSha256 = [][]byte{make([]byte, 64)} }), fault.KindInvalid, "HASH_LENGTH")
	})
	t.Run("hash not in the authorisation", func(t *testing.T) {
		_, more := hashesOf(4)
		code(t, sign(func(r *signv1.SignHashesRequest) { r.DocumentSha256 = more[1:] }), fault.KindDenied, "HASH_NOT_AUTHORIZED")
	})
	t.Run("document changed after the challenge", func(t *testing.T) {
		changed := []byte("contract 0, and a clause more")
		sum := sha256.Sum256(changed)
		code(t, sign(func(r *signv1.SignHashesRequest) { r.DocumentSha256 = [][]byte{sum[:], hashes[1], hashes[2]} }), fault.KindDenied, "HASH_NOT_AUTHORIZED")
		req := &signv1.SignDocumentsRequest{Credential: s.name, Challenge: ch.GetName(), Authorization: secret, Form: attached, RequestId: uuid.NewString()}
		for _, b := range [][]byte{changed, []byte("contract 1"), []byte("contract 2")} {
			req.Documents = append(req.Documents, &signv1.DocumentToSign{Source: &signv1.DocumentToSign_Content{Content: b}})
		}
		_, err := signv1.NewDocumentServiceClient(d.DialKey("signer", s.key)).SignDocuments(t.Context(), req)
		require.Equal(t, fault.KindDenied, fault.Of(err).Kind, "%v", err)
	})
	t.Run("foreign challenge", func(t *testing.T) {
		foreign := signv1.NewAuthorizationServiceClient(d.Tenant("signer", "acme"))
		_, err := foreign.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: goodPIN, Otp: "123456"})
		code(t, err, fault.KindNotFound, "CHALLENGE_NOT_FOUND")
		code(t, sign(func(r *signv1.SignHashesRequest) { r.Name = s.challenge(t, hashes).GetName() }), fault.KindDenied, "AUTHORIZATION_INVALID")
	})
	t.Run("expired challenge", func(t *testing.T) {
		late := s.challenge(t, hashes)
		d.exec(t, `UPDATE challenge SET expires_at = now() - interval '1 second' WHERE id = $1`, last(late.GetName()))
		_, err := s.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: late.GetName(), Pin: goodPIN, Otp: "123456"})
		code(t, err, fault.KindPrecondition, "CHALLENGE_EXPIRED")
	})
	t.Run("second use", func(t *testing.T) {
		require.NoError(t, sign(func(*signv1.SignHashesRequest) {}))
		code(t, sign(func(*signv1.SignHashesRequest) {}), fault.KindPrecondition, "AUTHORIZATION_USED")
	})
	t.Run("certificate that does not match the key", func(t *testing.T) {
		other := d.credential(t, company, automatic, p256)
		mine, err := d.client.CreateCredential(t.Context(), &signv1.CreateCredentialRequest{Parent: company, Credential: &signv1.Credential{Kind: automatic, KeyType: p256, CommonName: "A"}})
		require.NoError(t, err)
		_, err = d.client.ImportCertificate(t.Context(), &signv1.ImportCertificateRequest{Name: mine.GetName(), CertificatePem: other.GetCertificatePem()})
		code(t, err, fault.KindInvalid, "CERTIFICATE_KEY_MISMATCH")
		_, err = d.client.ImportCertificate(t.Context(), &signv1.ImportCertificateRequest{Name: mine.GetName(), CertificatePem: d.issue(t, mine.GetCsrPem(), ca.ProfileAuthentication)})
		code(t, err, fault.KindInvalid, "CERTIFICATE_NOT_FOR_SIGNING")
	})
	all := d.mandate(t, 100, 100, attached, parallel)
	whole := d.sign(t, d.request(all, attached, []byte("contract")))[0]
	for name, file := range map[string][]byte{
		"p7m bomb":         bytes.Repeat([]byte{0x30, 0x80}, 2<<20), // 4 MB of nesting
		"truncated p7m":    whole[:len(whole)-20],
		"trailing garbage": append(bytes.Clone(whole), "and more"...),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := d.api.SignDocuments(t.Context(), d.request(all, parallel, file))
			require.Equal(t, fault.KindInvalid, fault.Of(err).Kind, "%v", err)
			_, err = d.client.ListCredentials(t.Context(), &signv1.ListCredentialsRequest{Parent: company})
			require.NoError(t, err, "the process lives")
		})
	}
}

// TestFiveHundredDocumentsInOneSession: one authorization, in batches of 16 for Vault, two at a time; 501 are refused.
func TestFiveHundredDocumentsInOneSession(t *testing.T) {
	t.Parallel()
	ownVault(t)
	vaultOf(t).patience = 20 * time.Second // it is not away here
	h := open(t)
	s := h.signatory(t, rsa3072) // Vault is the slow one then, as it is where it has a machine of its own
	documents, hashes := hashesOf(501)
	_, err := s.auth.CreateChallenge(t.Context(), &signv1.CreateChallengeRequest{Parent: s.name, DocumentSha256: hashes})
	require.Equal(t, fault.KindInvalid, fault.Of(err).Kind)
	documents, hashes = documents[:500], hashes[:500]
	ch := s.challenge(t, hashes)
	_, before := h.batches(t, 0)
	signed, err := s.auth.SignHashes(patient(t), &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: s.authorize(t, ch), DocumentSha256: hashes, RequestId: uuid.NewString()})
	require.NoError(t, err)
	require.Len(t, signed.GetSignatures(), 500)
	require.Equal(t, signv1.SignatureLevel_SIGNATURE_LEVEL_ADVANCED, signed.GetLevel())
	for _, i := range []int{0, 250, 499} {
		h.opensslAcceptsDetached(t, signed.GetSignatures()[i].GetCms(), documents[i])
	}
	b, _ := h.batches(t, before)
	require.Equal(t, 500, b.digests(), "each once")
	require.Equal(t, 500, b.signed)
	require.LessOrEqual(t, slices.Max(b.asked), 16, "the most that travel in one call")
	require.GreaterOrEqual(t, 500/len(b.asked), 10, "and hardly fewer: %v", b.asked)
	require.Equal(t, 2, b.most, "two calls are under way at the same time")
}

// TestVaultSealedInTheMiddleOfABatch: Vault is sealed while a session of 300 signs. Nothing of it is released;
// unsealed, the same request gets all 300, and no other request does. The signer begins anew in between.
func TestVaultSealedInTheMiddleOfABatch(t *testing.T) {
	t.Parallel()
	ownVault(t)
	m := openMessages(t)
	s := m.person(t, holder)
	g := m.eventToken(t, s)
	var documents []string
	for range 300 {
		documents = append(documents, uuid.NewString())
	}
	ch := s.challenge(t, documents...)
	given, err := s.authorize(ch, g.at(1))
	require.NoError(t, err)
	req := &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: given.GetAuthorization(), DocumentSha256: ch.GetDocumentSha256(), RequestId: uuid.NewString()}
	root, err := m.vault.Client()
	require.NoError(t, err)
	_, before := m.batches(t, 0)
	broken, ctx := make(chan error, 1), patient(t)
	go func() {
		_, err := s.auth.SignHashes(ctx, req)
		broken <- err
	}()
	deadline := time.Now().Add(time.Minute)
	begun := func() int {
		b, _ := m.batches(t, before)
		return b.signed
	}
	for begun() == 0 && time.Now().Before(deadline) { // as soon as a batch is signed
		time.Sleep(time.Millisecond)
	}
	require.NoError(t, root.Sys().Seal())
	require.Equal(t, fault.KindUnavailable, fault.Of(<-broken).Kind)
	require.Positive(t, begun(), "some were signed")
	require.Less(t, begun(), 300, "and some were not")
	var state string
	var released bool
	require.NoError(t, pgtest.Admin(t, m.DB("signer")).QueryRow(t.Context(), `SELECT state, signed_sha256 IS NOT NULL FROM challenge WHERE id = $1`, last(ch.GetName())).Scan(&state, &released))
	require.Equal(t, "SIGNING", state)
	require.False(t, released, "nothing half signed is released")

	m.Stop()
	require.NoError(t, m.vault.Restart(t.Context())) // unsealed
	m.again(t)
	s.dial()
	stranger := &signv1.SignHashesRequest{Name: req.GetName(), Authorization: req.GetAuthorization(), DocumentSha256: req.GetDocumentSha256(), RequestId: uuid.NewString()}
	_, err = s.auth.SignHashes(t.Context(), stranger)
	code(t, err, fault.KindPrecondition, "AUTHORIZATION_USED")
	signed, err := s.auth.SignHashes(patient(t), req)
	require.NoError(t, err)
	require.Len(t, signed.GetSignatures(), 300)
	for i, sig := range signed.GetSignatures() {
		require.Equal(t, ch.GetDocumentSha256()[i], sig.GetDocumentSha256())
	}
	sum := map[[32]byte]string{}
	for _, d := range documents {
		sum[sha256.Sum256([]byte(d))] = d
	}
	m.opensslAcceptsDetached(t, signed.GetSignatures()[299].GetCms(), []byte(sum[[32]byte(signed.GetSignatures()[299].GetDocumentSha256())]))
}

// eventToken gives a person a token whose code 0 is used.
func (m *messages) eventToken(t testing.TB, s *signerOf) gadget {
	t.Helper()
	g := hotpGadget
	_, err := m.importToken(t, hotpToken("HT-"+last(s.name)), g.seed)
	require.NoError(t, err)
	s.enrolToken(t, "HT-"+last(s.name), g.at(0))
	return g
}
