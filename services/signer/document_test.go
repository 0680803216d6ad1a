package signer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/xades"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/tsa"
)

const (
	seal     = signv1.CredentialKind_CREDENTIAL_KIND_SEAL
	attached = signv1.SignatureForm_SIGNATURE_FORM_CADES_ATTACHED
	detached = signv1.SignatureForm_SIGNATURE_FORM_CADES_DETACHED
	parallel = signv1.SignatureForm_SIGNATURE_FORM_CADES_PARALLEL
	inXML    = signv1.SignatureForm_SIGNATURE_FORM_XADES_ENVELOPED
	inPDF    = signv1.SignatureForm_SIGNATURE_FORM_PADES
)

// desk is a house with two time-stamp authorities and what signs documents.
type desk struct {
	*house
	api         signv1.DocumentServiceClient
	operator    signv1.DocumentServiceClient
	first, next *tsa.Server
	stampRoots  string
	cred        string
}

func openDesk(t *testing.T) *desk {
	t.Helper()
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	d := &desk{stampRoots: filepath.Join(t.TempDir(), "tsa.pem")}
	require.NoError(t, os.WriteFile(d.stampRoots, authority.CertPEM(), 0o600))
	open := func(name string) (*tsa.Server, string) {
		s, err := tsa.New(tsa.Options{CA: authority, Name: name})
		require.NoError(t, err)
		web := httptest.NewServer(s)
		t.Cleanup(web.Close)
		return s, web.URL
	}
	var one, two string
	d.first, one = open("first")
	d.next, two = open("next")
	d.house = openWith(t, nil, fmt.Sprintf("  documents: {stamps_per_month: 20}\n  tsa: [{name: first, url: %q, ca_file: %q, timeout: 2s}, {name: next, url: %q, ca_file: %q, timeout: 2s}]\n",
		one, d.stampRoots, two, d.stampRoots))
	d.api = signv1.NewDocumentServiceClient(d.Tenant("signer", "acme", "documents.sign", "documents.stamp", "credentials.write", "credentials.read"))
	d.operator = signv1.NewDocumentServiceClient(d.Operator("signer"))
	d.cred = d.credential(t, company, seal, p256).GetName()
	return d
}

func (d *desk) mandate(t *testing.T, all int64, day int32, forms ...signv1.SignatureForm) *signv1.Mandate {
	t.Helper()
	now := time.Now()
	m, err := d.api.CreateMandate(t.Context(), &signv1.CreateMandateRequest{Parent: d.cred, Mandate: &signv1.Mandate{
		Description: "Contracts of sale, board of 2 March", Forms: forms, MaxDocuments: all, MaxPerDay: day,
		StartTime: timestamppb.New(now.Add(-time.Hour)), EndTime: timestamppb.New(now.Add(time.Hour)),
	}})
	require.NoError(t, err)
	return m
}

func (d *desk) request(m *signv1.Mandate, form signv1.SignatureForm, documents ...[]byte) *signv1.SignDocumentsRequest {
	r := &signv1.SignDocumentsRequest{Credential: d.cred, Mandate: m.GetName(), Form: form, RequestId: uuid.NewString()}
	for _, b := range documents {
		r.Documents = append(r.Documents, &signv1.DocumentToSign{Source: &signv1.DocumentToSign_Content{Content: b}})
	}
	return r
}

func (d *desk) sign(t *testing.T, r *signv1.SignDocumentsRequest) [][]byte {
	t.Helper()
	resp, err := d.api.SignDocuments(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, signv1.SignatureLevel_SIGNATURE_LEVEL_ADVANCED, resp.GetLevel())
	var out [][]byte
	for _, one := range resp.GetDocuments() {
		require.Equal(t, one.GetContent(), d.get(t, one.GetSigned()))
		out = append(out, one.GetContent())
	}
	return out
}

func (d *desk) roots(t *testing.T) string { return cmstest.File(t, "ca.pem", d.ca.CertPEM()) }

// onePage is a PDF with a line of text.
func onePage(text string) []byte {
	b := bytes.NewBufferString("%PDF-1.7\n")
	text = "BT /F1 24 Tf 72 720 Td (" + text + ") Tj ET"
	var offsets []int
	for i, o := range []string{
		"<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[3 0 R]/Count 1>>",
		"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
		fmt.Sprintf("<</Length %d>>\nstream\n%s\nendstream", len(text), text), "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
	} {
		offsets = append(offsets, b.Len())
		fmt.Fprintf(b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	start := b.Len()
	fmt.Fprintf(b, "xref\n0 6\n0000000000 65535 f \n")
	for _, o := range offsets {
		fmt.Fprintf(b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(b, "trailer\n<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n", start)
	return b.Bytes()
}

// TestDocumentsByMandate: every form, verified by programs that are not ours.
func TestDocumentsByMandate(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	all := d.mandate(t, 100, 100, attached, detached, parallel, inXML, inPDF)
	one, two := []byte("first contract"), []byte("second contract")

	made := d.sign(t, d.request(all, attached, one, two))
	d.opensslAccepts(t, made[0], one)
	d.opensslAccepts(t, made[1], two)

	stamped := d.request(all, attached, one)
	stamped.Timestamp = true
	require.NoError(t, d.first.SetFault(tsa.Fault{Mode: tsa.FaultUnavailable}))
	withStamp := d.sign(t, stamped)[0]
	require.Zero(t, d.first.Granted())
	require.Equal(t, 1, d.next.Granted(), "the second authority stands in")
	d.opensslAccepts(t, withStamp, one)
	_, report, err := cades.Verify(withStamp, cades.VerifyOptions{})
	require.NoError(t, err)
	require.Equal(t, cades.LevelT, report.Signers[0].Level)
	require.NoError(t, d.first.SetFault(tsa.Fault{}))

	d.opensslAcceptsDetached(t, d.sign(t, d.request(all, detached, two))[0], two)

	both := d.sign(t, d.request(all, parallel, made[0]))[0]
	d.opensslAccepts(t, both, one)
	_, report, err = cades.Verify(both, cades.VerifyOptions{})
	require.NoError(t, err)
	require.Len(t, report.Signers, 2)

	doc := []byte("<?xml version=\"1.0\"?>\n<doc><a>1</a></doc>")
	xml := d.sign(t, d.request(all, inXML, doc))[0]
	said, err := cmstest.Run(t, "xmlsec1", "xmlsec1", "--verify", "--id-attr:Id", "http://uri.etsi.org/01903/v1.3.2#:SignedProperties",
		"--id-attr:Id", "http://www.w3.org/2000/09/xmldsig#:KeyInfo", "--trusted-pem", d.roots(t), cmstest.File(t, "doc.xml", xml))
	require.NoError(t, err, said)

	inTime := d.request(all, inXML, doc)
	inTime.Timestamp = true
	xml = d.sign(t, inTime)[0]
	said, err = cmstest.Run(t, "xmlsec1", "xmlsec1", "--verify", "--id-attr:Id", "http://uri.etsi.org/01903/v1.3.2#:SignedProperties",
		"--id-attr:Id", "http://www.w3.org/2000/09/xmldsig#:KeyInfo", "--trusted-pem", d.roots(t), cmstest.File(t, "doc.xml", xml))
	require.NoError(t, err, said)
	inXMLReport, err := xades.Verify(xml, xades.VerifyOptions{})
	require.NoError(t, err)
	require.Equal(t, xades.LevelT, inXMLReport.Signatures[0].Level)

	// Documents that stay with the caller: the answer is the signature beside them, whatever CAdES form.
	for _, form := range []signv1.SignatureForm{attached, parallel, detached} {
		away := d.request(all, form)
		away.Documents, away.Timestamp = byDigest(two), form == attached
		d.opensslAcceptsDetached(t, d.sign(t, away)[0], two)
	}

	page := d.request(all, inPDF, onePage("Sold"))
	page.Timestamp, page.Pdf = true, &signv1.PdfSignature{Reason: "Sale", Location: "Milano", Box: &signv1.PdfBox{Page: -1, X: 36, Y: 36, Width: 200, Height: 60, Border: true}}
	pdf := cmstest.File(t, "doc.pdf", d.sign(t, page)[0])
	said, err = cmstest.Run(t, "poppler-utils", "pdfsig", "-nocert", pdf)
	require.NoError(t, err, said)
	require.Contains(t, said, "Signature is Valid")
	require.Contains(t, said, "Total document signed")
	tiny := d.request(all, inPDF, onePage("Sold"))
	tiny.Pdf = &signv1.PdfSignature{Box: &signv1.PdfBox{Width: 3, Height: 3, Lines: []string{"much more than fits"}}}
	_, err = d.api.SignDocuments(t.Context(), tiny)
	require.Equal(t, "DOCUMENT_NOT_SIGNABLE", fault.Of(err).Code, err)
	said, err = cmstest.Run(t, "qpdf", "qpdf", "--check", pdf)
	require.NoError(t, err, said)

	blob := mustPut(t, d.house, two)
	byRef := d.request(all, attached)
	byRef.Documents = []*signv1.DocumentToSign{{Source: &signv1.DocumentToSign_Blob{Blob: blobOf(blob)}}}
	d.opensslAccepts(t, d.sign(t, byRef)[0], two)

	now, err := d.api.GetMandate(t.Context(), &signv1.GetMandateRequest{Name: all.GetName()})
	require.NoError(t, err)
	require.EqualValues(t, 13, now.GetUsedDocuments())
	require.EqualValues(t, 13, now.GetUsedToday())
	again := d.sign(t, stamped)[0] // the same request: the same file, and nothing is counted
	require.Equal(t, withStamp, again)
	now, err = d.api.GetMandate(t.Context(), &signv1.GetMandateRequest{Name: all.GetName()})
	require.NoError(t, err)
	require.EqualValues(t, 13, now.GetUsedDocuments())
	list, err := d.api.ListMandates(t.Context(), &signv1.ListMandatesRequest{Parent: d.cred})
	require.NoError(t, err)
	require.Len(t, list.GetMandates(), 1)
}

func byDigest(document []byte) []*signv1.DocumentToSign {
	sum := sha256.Sum256(document)
	return []*signv1.DocumentToSign{{Source: &signv1.DocumentToSign_Sha256{Sha256: sum[:]}}}
}

func TestMandatesRefuse(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	m := d.mandate(t, 6, 4, attached, parallel, inPDF, inXML)
	doc := []byte("contract")
	good := d.request(m, attached, doc)
	signed := d.sign(t, good)[0]
	other := func(r *signv1.SignDocumentsRequest, change func(*signv1.SignDocumentsRequest)) *signv1.SignDocumentsRequest {
		change(r)
		return r
	}
	invoices := d.credential(t, company, signv1.CredentialKind_CREDENTIAL_KIND_AUTOMATIC, p256).GetName()
	early, over, spent := d.mandate(t, 6, 4, attached), d.mandate(t, 6, 4, attached), d.mandate(t, 1, 4, attached)
	d.exec(t, `UPDATE mandate SET valid_from = now() + interval '1 minute' WHERE id = $1`, last(early.GetName()))
	d.exec(t, `UPDATE mandate SET valid_until = now() - interval '1 second' WHERE id = $1`, last(over.GetName()))
	changed := bytes.Replace(signed, doc, []byte("Contract"), 1)
	for name, c := range map[string]struct {
		req  *signv1.SignDocumentsRequest
		want string
	}{
		"form that is not given":    {d.request(m, detached, doc), "MANDATE_REFUSED"},
		"more than a day":           {d.request(m, attached, []byte("1"), []byte("2"), []byte("3"), []byte("4")), "MANDATE_REFUSED"},
		"before it begins":          {d.request(early, attached, doc), "MANDATE_REFUSED"},
		"after its end":             {d.request(over, attached, doc), "MANDATE_REFUSED"},
		"more than in all":          {d.request(spent, attached, []byte("1"), []byte("2")), "MANDATE_REFUSED"},
		"another's mandate":         {other(d.request(m, attached, doc), func(r *signv1.SignDocumentsRequest) { r.Credential = invoices }), "MANDATE_MISMATCH"},
		"mandate that is not there": {other(d.request(m, attached, doc), func(r *signv1.SignDocumentsRequest) { r.Mandate = d.cred + "/mandates/" + uuid.NewString() }), "MANDATE_NOT_FOUND"},
		"no authority":              {other(d.request(m, attached, doc), func(r *signv1.SignDocumentsRequest) { r.Mandate = "" }), "AUTHORITY_MISSING"},
		"the same twice":            {d.request(m, attached, doc, doc), "HASH_TWICE"},
		"empty":                     {d.request(m, attached, nil), "DOCUMENT_EMPTY"},
		"request of another":        {other(d.request(m, attached, []byte("other")), func(r *signv1.SignDocumentsRequest) { r.RequestId = good.GetRequestId() }), "REQUEST_ID_REUSED"},
		"XML by its digest":         {other(d.request(m, inXML), func(r *signv1.SignDocumentsRequest) { r.Documents = byDigest(doc) }), "DOCUMENT_MISSING"},
		"some by their digest":      {other(d.request(m, attached, doc), func(r *signv1.SignDocumentsRequest) { r.Documents = append(r.Documents, byDigest([]byte("x"))...) }), "DOCUMENTS_MIXED"},
		"PDF words in a p7m":        {other(d.request(m, attached, doc), func(r *signv1.SignDocumentsRequest) { r.Pdf = &signv1.PdfSignature{Reason: "x"} }), "FORM_WITHOUT_PDF"},
	} {
		_, err := d.api.SignDocuments(t.Context(), c.req)
		require.Error(t, err, name)
		require.Equal(t, c.want, fault.Of(err).Code, "%s: %v", name, err)
	}
	for name, r := range map[string]*signv1.SignDocumentsRequest{
		"no PDF": d.request(m, inPDF, doc), "broken p7m": d.request(m, parallel, changed),
	} {
		_, err := d.api.SignDocuments(t.Context(), r)
		require.Error(t, err, name)
		require.Equal(t, "DOCUMENT_NOT_SIGNABLE", fault.Of(err).Code, "%s: %v", name, err)
	}
	// Three are used: what could not be signed was counted, since it is counted first. Of many at a time
	// one more is signed today.
	var won atomic.Int64
	requests := make([]*signv1.SignDocumentsRequest, 12)
	for i := range requests {
		requests[i] = d.request(m, attached, fmt.Appendf(nil, "race %d", i))
	}
	together(len(requests), func(i int) {
		_, err := d.api.SignDocuments(context.Background(), requests[i])
		if err == nil {
			won.Add(1)
		} else if fault.Of(err).Code != "MANDATE_REFUSED" {
			t.Error(err)
		}
	})
	require.EqualValues(t, 1, won.Load())
	revoked, err := d.operator.RevokeMandate(t.Context(), &signv1.RevokeMandateRequest{Name: m.GetName()})
	require.NoError(t, err)
	require.NotNil(t, revoked.GetRevokeTime())
	_, err = d.api.SignDocuments(t.Context(), d.request(m, attached, []byte("late")))
	require.ErrorContains(t, err, "revoked")
	require.Equal(t, signed, d.sign(t, good)[0], "what was signed is still given")

	person := d.credential(t, company, person, p256).GetName()
	_, err = d.api.CreateMandate(t.Context(), &signv1.CreateMandateRequest{Parent: person, Mandate: &signv1.Mandate{
		Description: "x", Forms: []signv1.SignatureForm{attached}, MaxDocuments: 1, MaxPerDay: 1, StartTime: timestamppb.Now(), EndTime: timestamppb.New(time.Now().Add(time.Hour)),
	}})
	require.Error(t, err)
	require.Equal(t, "CREDENTIAL_WRONG_KIND", fault.Of(err).Code)
}

func TestTimestampsAndTheirQuota(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	data := []byte("what was there")
	sum := sha256.Sum256(data)
	req := &signv1.CreateTimestampRequest{Parent: "tenants/acme", Sha256: sum[:]}
	got, err := d.api.CreateTimestamp(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, "first", got.GetAuthority())
	said, err := cmstest.Run(t, "openssl", "openssl", "ts", "-verify", "-in", cmstest.File(t, "a.tsr", got.GetTsr()), "-data", cmstest.File(t, "data", data), "-CAfile", d.stampRoots)
	require.NoError(t, err, said)

	name := "tenants/acme/stampQuota"
	for _, wrong := range []tsa.Mode{tsa.FaultWrongNonce, tsa.FaultWrongDigest, tsa.FaultWrongTime, tsa.FaultGarbage} {
		require.NoError(t, d.first.SetFault(tsa.Fault{Mode: wrong, Times: 1}))
		got, err = d.api.CreateTimestamp(t.Context(), req)
		require.NoError(t, err, wrong)
		require.Equal(t, "next", got.GetAuthority(), wrong)
	}
	require.NoError(t, d.first.SetFault(tsa.Fault{Mode: tsa.FaultDown, Times: 1}))
	require.NoError(t, d.next.SetFault(tsa.Fault{Mode: tsa.FaultDown, Times: 1}))
	_, err = d.api.CreateTimestamp(t.Context(), req)
	require.Error(t, err)
	require.Equal(t, "TSA_UNAVAILABLE", fault.Of(err).Code)
	quota, err := d.api.GetStampQuota(t.Context(), &signv1.GetStampQuotaRequest{Name: name})
	require.NoError(t, err)
	require.EqualValues(t, 5, quota.GetUsed(), "what was not made is not counted")
	require.EqualValues(t, 20, quota.GetPerMonth())

	quota, err = d.operator.UpdateStampQuota(t.Context(), &signv1.UpdateStampQuotaRequest{StampQuota: &signv1.StampQuota{Name: name, PerMonth: 7}})
	require.NoError(t, err)
	require.EqualValues(t, 7, quota.GetPerMonth())
	var made atomic.Int64
	together(10, func(int) {
		_, err := d.api.CreateTimestamp(context.Background(), req)
		if err == nil {
			made.Add(1)
		} else if fault.Of(err).Code != "STAMP_QUOTA_USED" {
			t.Error(err)
		}
	})
	require.EqualValues(t, 2, made.Load(), "the last two, however many ask")
	_, err = d.api.UpdateStampQuota(t.Context(), &signv1.UpdateStampQuotaRequest{StampQuota: &signv1.StampQuota{Name: name, PerMonth: 100}})
	require.Error(t, err, "a tenant cannot give itself more")
	require.Equal(t, fault.KindDenied, fault.Of(err).Kind)
}

// TestPersonSignsWholeDocuments: the authorization is for these documents, in the form of the request
// that used it.
func TestPersonSignsWholeDocuments(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	s := d.signatory(t, p256)
	key := d.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"credentials.read", "credentials.sign", "documents.sign"}})
	api := signv1.NewDocumentServiceClient(d.DialKey("signer", key))
	s.auth = signv1.NewAuthorizationServiceClient(d.DialKey("signer", key))
	one, two := onePage("Rent"), onePage("Deposit")
	a, b := sha256.Sum256(one), sha256.Sum256(two)
	ch := s.challenge(t, [][]byte{a[:], b[:]})
	given := s.authorize(t, ch)
	request := func(documents ...[]byte) *signv1.SignDocumentsRequest {
		r := d.request(nil, inPDF, documents...)
		r.Credential, r.Challenge, r.Authorization, r.Timestamp = s.name, ch.GetName(), given, true
		return r
	}
	for want, r := range map[string]*signv1.SignDocumentsRequest{
		"HASH_NOT_AUTHORIZED": request(one, onePage("Another")), "HASHES_MISSING": request(one),
		"AUTHORIZATION_INVALID": func() *signv1.SignDocumentsRequest { r := request(one, two); r.Authorization = "AAAA"; return r }(),
		"CHALLENGE_MISMATCH":    func() *signv1.SignDocumentsRequest { r := request(one, two); r.Credential = d.cred; return r }(),
	} {
		_, err := api.SignDocuments(t.Context(), r)
		require.Error(t, err, want)
		require.Equal(t, want, fault.Of(err).Code, err)
	}
	// No authority stamps: nothing is released, and the same request goes on when one is back.
	require.NoError(t, d.first.SetFault(tsa.Fault{Mode: tsa.FaultUnavailable}))
	require.NoError(t, d.next.SetFault(tsa.Fault{Mode: tsa.FaultUnavailable}))
	good := request(one, two)
	_, err := api.SignDocuments(t.Context(), good)
	require.Error(t, err)
	require.Equal(t, "TSA_UNAVAILABLE", fault.Of(err).Code)
	require.NoError(t, d.first.SetFault(tsa.Fault{}))
	require.NoError(t, d.next.SetFault(tsa.Fault{}))
	resp, err := api.SignDocuments(t.Context(), good)
	require.NoError(t, err)
	require.Len(t, resp.GetDocuments(), 2)
	for i, file := range [][]byte{one, two} {
		pdf := resp.GetDocuments()[i].GetContent()
		require.True(t, bytes.HasPrefix(pdf, file))
		said, err := cmstest.Run(t, "poppler-utils", "pdfsig", "-nocert", cmstest.File(t, "doc.pdf", pdf))
		require.NoError(t, err, said)
		require.Contains(t, said, "Signature is Valid")
	}
	again, err := api.SignDocuments(t.Context(), good)
	require.NoError(t, err)
	require.Equal(t, resp.GetDocuments()[0].GetSigned().GetSha256(), again.GetDocuments()[0].GetSigned().GetSha256())
	otherForm := request(one, two)
	otherForm.RequestId, otherForm.Form = good.GetRequestId(), attached
	_, err = api.SignDocuments(t.Context(), otherForm)
	require.Error(t, err)
	require.Equal(t, "REQUEST_ID_REUSED", fault.Of(err).Code)
	_, err = api.SignDocuments(t.Context(), request(one, two))
	require.Error(t, err)
	require.Equal(t, "AUTHORIZATION_USED", fault.Of(err).Code)
	_, err = s.auth.SignHashes(t.Context(), &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: given, DocumentSha256: [][]byte{a[:], b[:]}, RequestId: good.GetRequestId()})
	require.Error(t, err, "SignHashes does not answer with files of another form")
	require.Equal(t, "REQUEST_ID_REUSED", fault.Of(err).Code)
}
