package signer_test

import (
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/sandbox/client"
)

// planOf says that a document will be signed in a form.
func planOf(form signv1.SignatureForm, pdf *signv1.PdfSignature, documents ...*signv1.DocumentToSign) *signv1.SigningPlan {
	return &signv1.SigningPlan{What: &signv1.SigningPlan_Documents{Documents: &signv1.PlannedDocuments{Documents: documents, Form: form, Pdf: pdf}}}
}

func contentOf(content []byte) *signv1.DocumentToSign {
	return &signv1.DocumentToSign{Source: &signv1.DocumentToSign_Content{Content: content}}
}

// planned signs one document in a form that the challenge named, at a provider with SCAL 2, and gives the file.
func (c *consortium) planned(t *testing.T, f *far, authorize func(*signv1.Challenge) string, form signv1.SignatureForm, content []byte, pdf *signv1.PdfSignature) []byte {
	t.Helper()
	ch, err := f.auth.CreateChallenge(t.Context(), &signv1.CreateChallengeRequest{
		Parent: f.name, DocumentSha256: [][]byte{hashOf(content)}, Plan: planOf(form, pdf, contentOf(content)),
	})
	require.NoError(t, err, form)
	req := &signv1.SignDocumentsRequest{Credential: f.name, Challenge: ch.GetName(), Authorization: authorize(ch), Form: form, Pdf: pdf,
		Documents: []*signv1.DocumentToSign{contentOf(content)}, RequestId: uuid.NewString()}
	got, err := f.documents.SignDocuments(t.Context(), req)
	require.NoError(t, err, form)
	again, err := f.documents.SignDocuments(t.Context(), req)
	require.NoError(t, err)
	file := got.GetDocuments()[0].GetContent()
	require.Equal(t, file, again.GetDocuments()[0].GetContent(), "the same request has the same answer")
	path := cmstest.File(t, "file", file)
	said := ""
	switch form {
	case inXML:
		said, err = c.xmlsec(t, path, "1")
	case inPDF:
		said, err = cmstest.Run(t, "poppler-utils", "pdfsig", "-nocert", path)
		require.Contains(t, said, "Signature is Valid")
	default:
		said, err = cmstest.Run(t, "openssl", "openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", path, "-CAfile", c.everybody(t), "-purpose", "any", "-out", path+".out")
	}
	require.NoError(t, err, said)
	return file
}

// everybody is a file with the authorities of providers and of this house.
func (c *consortium) everybody(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(c.roots)
	require.NoError(t, err)
	return cmstest.File(t, "everybody.pem", append(raw, c.house.ca.CertPEM()...))
}

// xmlsec judges one signature of an XML. It reads one certificate of a file.
func (c *consortium) xmlsec(t *testing.T, file, which string) (string, error) {
	t.Helper()
	args := []string{"--verify", "--id-attr:Id", "http://uri.etsi.org/01903/v1.3.2#:SignedProperties", "--id-attr:Id", "http://www.w3.org/2000/09/xmldsig#:KeyInfo",
		"--node-xpath", "(//*[local-name()='Signature' and namespace-uri()='http://www.w3.org/2000/09/xmldsig#'])[" + which + "]"}
	for i, cert := range certificatesOf(t, c.everybody(t)) {
		args = append(args, "--trusted-pem", cmstest.File(t, fmt.Sprintf("root%d.pem", i), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})))
	}
	return cmstest.Run(t, "xmlsec1", "xmlsec1", append(args, file)...)
}

// plans: a provider that binds the password to digests signs XML, PDF and a p7m that is there, where the challenge said so
// beforehand; what was not said leaves nothing.
func (c *consortium) plans(t *testing.T, f *far, authorize func(*signv1.Challenge) string) {
	t.Helper()
	xml, pdf := []byte("<f><a>1</a></f>"), onePage("Planned")
	elsewhere := (&book{house: c.house}).signedElsewhere(t, []byte("signed elsewhere first"))
	c.planned(t, f, authorize, inXML, xml, nil)
	c.planned(t, f, authorize, inPDF, pdf, &signv1.PdfSignature{Reason: "Planned", Box: &signv1.PdfBox{Page: 1, X: 36, Y: 36, Width: 200, Height: 60}})
	_, report, err := cades.Verify(c.planned(t, f, authorize, parallel, elsewhere, nil), cades.VerifyOptions{})
	require.NoError(t, err)
	require.Len(t, report.Signers, 2)

	before := f.signed(t)
	ask := func(plan *signv1.SigningPlan) (*signv1.Challenge, error) {
		return f.auth.CreateChallenge(t.Context(), &signv1.CreateChallengeRequest{Parent: f.name, DocumentSha256: [][]byte{hashOf(xml)}, Plan: plan})
	}
	_, err = ask(planOf(inXML, nil, contentOf([]byte("<f/>"))))
	requireCode(t, "PLAN_MISMATCH", err)
	_, err = ask(planOf(inXML, nil, &signv1.DocumentToSign{Source: &signv1.DocumentToSign_Sha256{Sha256: hashOf(xml)}}))
	requireCode(t, "DOCUMENT_MISSING", err)
	_, err = ask(planOf(inPDF, nil, contentOf(xml)))
	requireCode(t, "DOCUMENT_NOT_SIGNABLE", err)
	ch, err := ask(planOf(inXML, nil, contentOf(xml)))
	require.NoError(t, err)
	_, err = f.documents.SignDocuments(t.Context(), &signv1.SignDocumentsRequest{Credential: f.name, Challenge: ch.GetName(), Authorization: authorize(ch),
		Form: attached, Documents: []*signv1.DocumentToSign{contentOf(xml)}, RequestId: uuid.NewString()})
	requireCode(t, "FORM_NOT_AUTHORIZED", err)
	require.Equal(t, before, f.signed(t), "nothing has left")
}

// goesThroughARequest: the first signer has a key in Vault, the second one at a provider, for a p7m, an XML, a PDF and a p7m
// that was there; an answer that is lost leaves the request as it was, and another challenge signs.
func (c *consortium) goesThroughARequest(t *testing.T) {
	conn := c.DialKey("signer", c.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}}))
	b := &book{house: c.house, api: signv1.NewSignatureRequestServiceClient(conn), auth: signv1.NewAuthorizationServiceClient(conn)}
	_, err := c.world.Enrol(client.RemoteHolderRequest{User: "holder-two", PIN: remotePIN, CommonName: "Anna Verdi"})
	require.NoError(t, err)
	create := func(holder string) (*signv1.Credential, error) {
		return c.providers.CreateProviderCredential(t.Context(), &signv1.CreateProviderCredentialRequest{
			Parent: company, RequestId: uuid.NewString(), Key: &signv1.RemoteKey{Provider: "first", Id: "holder-two"}, Holder: holder,
		})
	}
	_, err = create("tenants/other/users/u-2")
	requireCode(t, "FOREIGN_RESOURCE", err)
	made, err := create(user(2))
	require.NoError(t, err)
	f := &far{abroad: &abroad{house: c.house, world: c.world, auth: b.auth}, user: "holder-two", kind: "SMS", name: made.GetName()}
	list, err := c.providers.ListHoldings(t.Context(), &signv1.ListHoldingsRequest{Parent: f.name})
	require.NoError(t, err)
	require.Equal(t, user(2), list.GetHoldings()[0].GetHolder())

	text := []byte("the whole of the contract")
	r := c.requestFor(t, b, text, user(2))
	one, two := at(r, 0, 0), at(r, 1, 0)
	require.NoError(t, b.sign(b.ready(t, one, b.signer(t, user(1)))))
	prepare := func(participant string, plan *signv1.SigningPlan) *signv1.SignSignatureRequestRequest {
		ch, err := b.auth.CreateChallenge(t.Context(), &signv1.CreateChallengeRequest{Parent: f.name, DocumentSha256: b.view(t, participant), Plan: plan})
		require.NoError(t, err)
		c.exec(t, `UPDATE provider_session SET otp_sent_at = otp_sent_at - interval '1 minute' WHERE otp_sent_at IS NOT NULL`)
		return &signv1.SignSignatureRequestRequest{Participant: participant, Challenge: ch.GetName(), Authorization: f.authorize(t, ch), RequestId: uuid.NewString()}
	}
	plan := &signv1.SigningPlan{What: &signv1.SigningPlan_Participant{Participant: two}}
	_, err = b.api.SignSignatureRequest(t.Context(), prepare(two, nil))
	requireCode(t, "FORM_NOT_AUTHORIZED", err)
	_, err = b.auth.CreateChallenge(t.Context(), &signv1.CreateChallengeRequest{Parent: f.name, DocumentSha256: [][]byte{hashOf(text)}, Plan: plan})
	requireCode(t, "CHALLENGE_MISMATCH", err)
	require.Zero(t, f.signed(t))

	lost := prepare(two, plan)
	f.fail(t, client.RemoteCutAfter, "signatures/signHash", 0, 1)
	for range 2 {
		_, err = b.api.SignSignatureRequest(t.Context(), lost)
		requireCode(t, unknown, err)
	}
	require.Equal(t, 4, f.signed(t), "they were signed there, once, and the request knows of none")
	require.Equal(t, isOpen, b.get(t, r.GetName()).GetState())
	call := prepare(two, plan)
	f.fail(t, client.RemoteBusy, "signatures/signHash", 0, 1)
	_, err = b.api.SignSignatureRequest(t.Context(), call)
	requireCode(t, "PROVIDER_UNAVAILABLE", err)
	require.NoError(t, b.sign(call), "what took nothing goes on")
	require.NoError(t, b.sign(call), "a repeat has the same answer")
	require.Equal(t, 8, f.signed(t))
	got := b.get(t, r.GetName())
	require.Equal(t, completed, got.GetState())
	c.twice(t, b, got, text)

	other := c.requestFor(t, b, text, user(3))
	require.NoError(t, b.sign(b.ready(t, at(other, 0, 0), b.signer(t, user(1)))))
	_, err = b.api.SignSignatureRequest(t.Context(), prepare(at(other, 1, 0), nil))
	requireCode(t, "CREDENTIAL_OF_ANOTHER", err)
}

func (c *consortium) requestFor(t *testing.T, b *book, text []byte, second string) *signv1.SignatureRequest {
	t.Helper()
	return b.create(t, draft([]*signv1.RequestDocument{
		document("contract.txt", attached, text), document("lease.xml", inXML, []byte(leaseXML)), document("plan.pdf", inPDF, onePage("Plan of the shop")),
		document("old.p7m", parallel, b.signedElsewhere(t, []byte("an older contract"))),
	}, step(0, signing(user(1))), step(0, signing(second))))
}

// twice wants both signatures on each document, by programs that are not ours.
func (c *consortium) twice(t *testing.T, b *book, r *signv1.SignatureRequest, text []byte) {
	t.Helper()
	roots := c.everybody(t)
	for i, text := range map[int][]byte{0: text, 3: []byte("an older contract")} {
		file := b.house.get(t, r.GetDocuments()[i].GetSigned())
		path := cmstest.File(t, "in.p7m", file)
		said, err := cmstest.Run(t, "openssl", "openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", path, "-CAfile", roots, "-purpose", "any", "-out", path+".out")
		require.NoError(t, err, said)
		content, err := os.ReadFile(path + ".out")
		require.NoError(t, err)
		require.Equal(t, text, content)
		_, report, err := cades.Verify(file, cades.VerifyOptions{})
		require.NoError(t, err)
		require.Len(t, report.Signers, map[int]int{0: 2, 3: 3}[i], "the two, and who signed elsewhere")
	}
	xml := filepath.Join(t.TempDir(), "lease.xml")
	require.NoError(t, os.WriteFile(xml, b.house.get(t, r.GetDocuments()[1].GetSigned()), 0o600))
	for _, which := range []string{"1", "2"} {
		said, err := c.xmlsec(t, xml, which)
		require.NoError(t, err, said)
	}
	said, err := cmstest.Run(t, "poppler-utils", "pdfsig", "-nocert", cmstest.File(t, "plan.pdf", b.house.get(t, r.GetDocuments()[2].GetSigned())))
	require.NoError(t, err, said)
	require.Contains(t, said, "Signature #2")
	require.NotContains(t, said, "Invalid")
}
