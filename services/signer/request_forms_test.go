package signer_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/dossier"
	"ceralacca.dev/services/format/validation"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/sandbox/ca"
)

// leaseXML has what parsers trip over: a comment, a processing instruction, white space in an attribute.
const leaseXML = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<?xml-stylesheet type=\"text/xsl\" href=\"a.xsl\"?>\n<!-- lease -->\n" +
	"<lease id=\"L1\" note=\"a\tb\"><rent currency=\"EUR\">1000.00</rent></lease>\n"

// TestRequestOfXMLAndParallel: an XML and a p7m that somebody else has signed, two signers of the same step. Each
// signature is judged by programs that are not ours, and the whole bundle by what VERIFY.txt says and by our verifier.
func TestRequestOfXMLAndParallel(t *testing.T) {
	t.Parallel()
	b := openBook(t)
	first, second := b.signer(t, user(1)), b.signer(t, user(2))
	text := []byte("a contract that was signed elsewhere first")
	p7m := b.signedElsewhere(t, text)
	r := draft([]*signv1.RequestDocument{document("lease.xml", inXML, []byte(leaseXML)), document("contract.txt.p7m", parallel, p7m)},
		step(0, signing(user(1)), signing(user(2))))
	r.Timestamp, r.SealMandate = true, b.mandate
	made := b.create(t, r)
	one, two := at(made, 0, 0), at(made, 0, 1)

	late := b.ready(t, two, second)
	require.NoError(t, b.sign(b.ready(t, one, first)))
	_, err := b.api.SignSignatureRequest(t.Context(), late)
	refusedWith(t, "DOCUMENT_CHANGED", err)
	require.Equal(t, isOpen, b.get(t, made.GetName()).GetState())
	call := b.ready(t, two, second)
	require.NoError(t, b.sign(call))
	b.bundle(t, made.GetName()) // the trail's last line: nothing is written after it by itself
	got := b.get(t, made.GetName())
	require.Equal(t, completed, got.GetState())
	require.NoError(t, b.sign(call), "the answer was lost: the same call has the same answer")
	require.Equal(t, got.GetSequence(), b.get(t, made.GetName()).GetSequence())
	_, err = b.api.SignSignatureRequest(t.Context(), &signv1.SignSignatureRequestRequest{
		Participant: two, Challenge: call.GetChallenge(), Authorization: call.GetAuthorization(), RequestId: uuid.NewString(),
	})
	require.Error(t, err, "the authorization is used")

	xml, whole := b.house.get(t, got.GetDocuments()[0].GetSigned()), b.house.get(t, got.GetDocuments()[1].GetSigned())
	require.True(t, bytes.HasPrefix(xml, []byte(leaseXML[:strings.Index(leaseXML, "</lease>")])), "the document's own bytes stay as they were")
	dir := t.TempDir()
	lease, contract := filepath.Join(dir, "lease.xml"), filepath.Join(dir, "contract.p7m")
	require.NoError(t, os.WriteFile(lease, xml, 0o600))
	require.NoError(t, os.WriteFile(contract, whole, 0o600))
	for _, which := range []string{"1", "2"} {
		said, err := cmstest.Run(t, "xmlsec1", "xmlsec1", "--verify", "--id-attr:Id", "http://uri.etsi.org/01903/v1.3.2#:SignedProperties",
			"--id-attr:Id", "http://www.w3.org/2000/09/xmldsig#:KeyInfo", "--node-xpath", "(//*[local-name()='Signature' and namespace-uri()='http://www.w3.org/2000/09/xmldsig#'])["+which+"]",
			"--trusted-pem", b.roots, lease)
		require.NoError(t, err, said)
	}
	signers, content := filepath.Join(dir, "signers.pem"), filepath.Join(dir, "content")
	said, err := cmstest.Run(t, "openssl", "openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", contract, "-CAfile", b.roots,
		"-purpose", "any", "-signer", signers, "-out", content)
	require.NoError(t, err, said)
	pems, err := os.ReadFile(signers)
	require.NoError(t, err)
	require.Equal(t, 3, bytes.Count(pems, []byte("BEGIN CERTIFICATE")), "who signed elsewhere, and the two")
	read, err := os.ReadFile(content)
	require.NoError(t, err)
	require.Equal(t, text, read)

	b.judgeForms(t, b.bundle(t, made.GetName()))
}

// judgeForms holds a bundle of an XML and a p7m against our verifier and against the commands in it, and then with
// a signed file in it changed.
func (b *book) judgeForms(t *testing.T, zipped []byte) {
	t.Helper()
	options := validation.Options{At: time.Now(), Roots: certificatesOf(t, b.roots)}
	report, err := dossier.Verify(t.Context(), bytes.NewReader(zipped), options)
	require.NoError(t, err)
	require.Empty(t, report.Faults)
	require.Equal(t, validation.TryLater, report.Sub, "nobody was asked about revocation: %s", report.Reason)
	require.Len(t, report.Documents, 2)
	require.Len(t, report.Documents[0].Signatures, 2)
	require.Len(t, report.Documents[1].Signatures, 3)
	for _, d := range report.Documents {
		require.Equal(t, validation.TryLater, d.Sub, d.Reason)
	}
	dir := t.TempDir()
	files := unzip(t, zipped)
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, content, 0o600))
	}
	roots, err := os.ReadFile(b.roots)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ROOTS.pem"), roots, 0o600))
	commands := regexp.MustCompile(`(?m)^    ((?:openssl|sha256sum|xmlsec1) .*)$`).FindAllStringSubmatch(string(files[dossier.ManualName]), -1)
	require.Len(t, commands, 6, "%s", files[dossier.ManualName])
	for _, c := range commands {
		said, err := cmstest.Run(t, "what VERIFY.txt names", "sh", "-e", "-c", "cd "+dir+"; "+c[1])
		require.NoError(t, err, "%s\n%s", c[1], said)
	}
	for name, content := range files {
		if strings.HasPrefix(name, "signed/") {
			files[name] = bytes.Replace(content, []byte("1000.00"), []byte("9000.00"), 1)
		}
	}
	changed, err := dossier.Verify(t.Context(), bytes.NewReader(zipOf(t, files)), options)
	require.NoError(t, err)
	require.Equal(t, validation.Failed, changed.Verdict)
}

func zipOf(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for name, content := range files {
		f, err := z.Create(name)
		require.NoError(t, err)
		_, err = f.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	return out.Bytes()
}

// signedElsewhere is a p7m by somebody whose key is not here.
func (b *book) signedElsewhere(t *testing.T, content []byte) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Notary elsewhere"}}, key)
	require.NoError(t, err)
	cert, err := b.ca.SignCSR(csr, ca.ProfileSigning)
	require.NoError(t, err)
	p7m, err := cades.Sign(context.Background(), content, cades.Signer{Chain: []*x509.Certificate{cert, b.ca.Certificate()}, Key: key},
		cades.Options{SigningTime: time.Now().UTC().Truncate(time.Second)})
	require.NoError(t, err)
	return p7m
}

// raceRounds is how often each of the races below is run.
const raceRounds = 6

// TestExpiryAgainstSignature: the deadline passes, the job that expires the request runs and the signature is recorded
// at the same moment. There is one outcome, and the trail, the state and the file tell the same one.
func TestExpiryAgainstSignature(t *testing.T) {
	t.Parallel()
	b := openBook(t)
	s := b.signer(t, user(1))
	outcomes := map[signv1.RequestState]int{}
	for i := range raceRounds {
		made := b.create(t, draft(contract(i), step(0, signing(user(1)))))
		call := b.ready(t, at(made, 0, 0), s)
		var signed error
		together(2, func(n int) {
			if n == 0 {
				signed = b.sign(call)
				return
			}
			b.exec(t, `UPDATE signing_request SET deadline = clock_timestamp() + $2 * interval '3 milliseconds' WHERE id = $1`, last(made.GetName()), i)
			b.exec(t, `UPDATE river_job SET scheduled_at = clock_timestamp(), state = 'available' WHERE kind = 'request-time' AND args->>'request' = $1 AND state = 'scheduled'`, last(made.GetName()))
			b.exec(t, `SELECT pg_notify(current_schema() || '.river_insert', '{"queue":"request"}')`)
		})
		eventually(t, "the request ends", func() bool { return b.get(t, made.GetName()).GetState() != isOpen })
		got := b.get(t, made.GetName())
		outcomes[got.GetState()]++
		if signed == nil {
			require.Equal(t, completed, got.GetState())
			require.NotNil(t, got.GetDocuments()[0].GetSigned())
		} else {
			if fault.Of(signed).Code == "REQUEST_CLOSED" { // the job was first, and the answer says what it did
				require.ErrorContains(t, signed, "EXPIRED")
			} else {
				require.Equal(t, "REQUEST_EXPIRED", fault.Of(signed).Code, signed)
			}
			require.Equal(t, signv1.RequestState_REQUEST_STATE_EXPIRED, got.GetState())
			require.Nil(t, got.GetDocuments()[0].GetSigned())
		}
		b.whole(t, made.GetName())
	}
	t.Logf("outcomes: %v", outcomes)
}

// TestChallengeExpiry: a challenge that nobody authorized in time, and an authorization that nobody used in time, are
// over for good, also for whoever comes at that very moment.
func TestChallengeExpiry(t *testing.T) {
	t.Parallel()
	c := &clock{}
	m := openMessagesWith(t, nil, c, "")
	s := m.person(t, holder)
	s.enrolSent(t, sms, phone)
	again := func() { m.exec(t, `UPDATE otp_message SET sent_at = sent_at - interval '1 hour', sent_today = 0`) }
	ask := func(ch *signv1.Challenge) string {
		t.Helper()
		again()
		_, err := s.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
		require.NoError(t, err)
		return m.lastPassword(t, phone)
	}
	late := s.challenge(t, "late")
	password := ask(late)
	c.advance(6 * time.Minute) // a challenge waits for five
	_, err := s.authorize(late, password)
	code(t, err, fault.KindPrecondition, "CHALLENGE_EXPIRED")

	unused := s.challenge(t, "unused")
	given, err := s.authorize(unused, ask(unused))
	require.NoError(t, err)
	c.advance(3 * time.Minute) // an authorization for two
	sign := func() error {
		_, err := s.auth.SignHashes(t.Context(), &signv1.SignHashesRequest{Name: unused.GetName(), Authorization: given.GetAuthorization(),
			DocumentSha256: unused.GetDocumentSha256(), RequestId: uuid.NewString()})
		return err
	}
	code(t, sign(), fault.KindPrecondition, "AUTHORIZATION_EXPIRED")

	// At the moment of its end: it is used or it is over, for all who ask at once.
	won := 0
	for i := range raceRounds {
		ch := s.challenge(t, "edge "+uuid.NewString())
		given, err := s.authorize(ch, ask(ch))
		require.NoError(t, err)
		m.exec(t, `UPDATE challenge SET expires_at = $2 WHERE id = $1`, uuid.MustParse(last(ch.GetName())), c.now().Add(time.Duration(4*i*i)*time.Millisecond))
		codes := make([]string, 8)
		together(len(codes), func(n int) {
			_, err := s.auth.SignHashes(context.Background(), &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: given.GetAuthorization(),
				DocumentSha256: ch.GetDocumentSha256(), RequestId: uuid.NewString()})
			codes[n] = "signed"
			if err != nil {
				codes[n] = fault.Of(err).Code
			}
		})
		used := 0
		for _, c := range codes {
			require.Contains(t, []string{"signed", "AUTHORIZATION_USED", "AUTHORIZATION_EXPIRED"}, c)
			if c == "signed" {
				used++
			}
		}
		require.LessOrEqual(t, used, 1)
		won += used
	}
	t.Logf("%d of %d were in time", won, raceRounds)
}
