package pecgateway_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/xades"
	"ceralacca.dev/services/sandbox/client"
)

// registrar is a provider of registered mail under an authority of its own.
type registrar struct {
	root    *x509.Certificate
	rootKey crypto.Signer
	cert    *x509.Certificate
	key     crypto.Signer
}

const registrarAddress = "rem-service@rem.test"

func newRegistrar(t *testing.T) *registrar {
	t.Helper()
	rootKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	r := &registrar{rootKey: rootKey}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "REM test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(30 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, rootKey.Public(), rootKey)
	require.NoError(t, err)
	r.root, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "REM test provider", Organization: []string{"REM test provider"}},
		NotBefore: tpl.NotBefore, NotAfter: tpl.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, EmailAddresses: []string{registrarAddress}}
	der, err = x509.CreateCertificate(rand.Reader, leaf, r.root, key.Public(), rootKey)
	require.NoError(t, err)
	r.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	r.key = key
	return r
}

// write makes a message of registered mail about an original; spoil changes the evidence after it was signed.
func (r *registrar) write(t *testing.T, event, original string, spoil func(string) string) []byte {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	evidence := `<t:Evidence xmlns:t="http://uri.etsi.org/19522/v1#"><t:EvidenceIdentifier>e1@rem.test</t:EvidenceIdentifier><t:ERDSEventId>http://uri.etsi.org/19522/Event/` + event +
		`</t:ERDSEventId><t:EventReasons><t:EventReason><t:Details>RD01</t:Details></t:EventReason></t:EventReasons><t:EventTime>` + now.Format(time.RFC3339) + `</t:EventTime></t:Evidence>`
	signed, err := xades.Sign(context.Background(), []byte(evidence), xades.Signer{Chain: []*x509.Certificate{r.cert}, Key: r.key}, xades.Options{SigningTime: now})
	require.NoError(t, err)
	content := "Content-Type: multipart/mixed; boundary=IN\r\n\r\n--IN\r\nREM-Section-Type: rem_message/introduction\r\n\r\ntesto\r\n--IN\r\nContent-Type: message/rfc822\r\n" +
		"REM-Section-Type: rem_message/original\r\n\r\n" + original + "--IN\r\nContent-Type: application/xml\r\nContent-Transfer-Encoding: base64\r\n" +
		"REM-Section-Type: rem_message/xml_evidence\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte(spoil(string(signed)))) + "\r\n--IN--\r\n"
	sum := sha256.Sum256([]byte(content))
	p7s, err := cms.SignDetached(context.Background(), sum[:], r.key, cms.Options{Certificate: r.cert, SigningTime: now})
	require.NoError(t, err)
	digest := sha256.Sum256([]byte(original))
	var out bytes.Buffer
	out.WriteString("From: \"On behalf of: a@alfa.test\" <" + registrarAddress + ">\r\nTo: " + sender + "\r\nSubject: REM " + event + ": prova\r\nMessage-ID: <" + event + "@rem.test>\r\n" +
		"REM-MessageType: http://uri.etsi.org/19522/v1#/ERDMessageType/receipt\r\nREM-EventIdentifier: http://uri.etsi.org/19522/Event/" + event + "\r\n" +
		"REM-Evidence-ID: <e1@rem.test>\r\nREM-UAMessageIdentifier: <ours@alfa.test>\r\nREM-DigestAlgorithm: http://www.w3.org/2001/04/xmlenc#sha256\r\nREM-DigestValue: " +
		base64.StdEncoding.EncodeToString(digest[:]) + "\r\nX-Riferimento-Message-ID: <ours@alfa.test>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=\"OUT\"\r\n\r\n--OUT\r\n" + content +
		"\r\n--OUT\r\nContent-Type: application/pkcs7-signature; name=smime.p7s\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString(p7s) + "\r\n--OUT--\r\n")
	return out.Bytes()
}

// TestG11RegisteredMail: registered mail is recognised, its evidence verified, shown, and no fact about a message of ours:
// not even evidence that names our Message-ID and was signed by somebody whom a person approved.
func TestG11RegisteredMail(t *testing.T) {
	t.Parallel()
	h := open(t, "")
	h.believe()
	r := newRegistrar(t)
	_, err := h.trust.ImportTrustList(t.Context(), &pecv1.ImportTrustListRequest{
		AuthoritiesPem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.root.Raw}))})
	require.NoError(t, err)
	box := h.add(sender)
	name := h.sent(box, "ours@alfa.test", recipient)
	as := func(s string) string { return s }
	original := "Subject: prova\r\n\r\nciao\r\n"
	for event, raw := range map[string][]byte{
		"ContentConsignment":   r.write(t, "ContentConsignment", original, as),
		"SubmissionAcceptance": r.write(t, "SubmissionAcceptance", original, func(s string) string { return strings.Replace(s, "RD01", "RD03", 1) }),
		"RelayAcceptance":      newRegistrar(t).write(t, "RelayAcceptance", original, as),
	} {
		require.NoError(t, h.sandbox.InjectPEC(t.Context(), sender, client.PECInject{Data: raw}), event)
	}
	h.kept(box)
	by := func() map[string]*pecv1.Message {
		out := map[string]*pecv1.Message{}
		for _, m := range h.receipts(box) {
			out[m.GetRegisteredMail().GetEvent()] = m
		}
		return out
	}
	got := by()
	require.Len(t, got, 3)
	good := got["ContentConsignment"]
	require.Equal(t, pecv1.MessageKind_MESSAGE_KIND_REGISTERED, good.GetKind(), good)
	require.Equal(t, "valid-cert-unlisted", good.GetVerification().GetStatus())
	require.False(t, good.GetRegisteredMail().GetVerified(), "a person has not approved the certificate")
	e := good.GetRegisteredMail().GetEvidence()
	require.Len(t, e, 1)
	require.True(t, e[0].GetVerified(), e[0].GetProblem())
	require.Equal(t, []string{"RD01"}, e[0].GetReasons())
	require.Contains(t, e[0].GetSigner(), "REM test provider")
	require.NotEmpty(t, good.GetRegisteredMail().GetOriginalDigest())
	require.NotEqual(t, "differs", good.GetRegisteredMail().GetOriginalDigest())

	_, err = h.trust.DecideSeenCertificate(t.Context(), &pecv1.DecideSeenCertificateRequest{Sha256: good.GetVerification().GetCertificateSha256(), Approve: true,
		Provider: "REM test provider", Reason: "on the EU trusted list"})
	require.NoError(t, err)
	for _, m := range got {
		_, err = h.api.ReadMessageAgain(t.Context(), &pecv1.ReadMessageAgainRequest{Name: m.GetName()})
		require.NoError(t, err)
	}
	got = by()
	require.True(t, got["ContentConsignment"].GetRegisteredMail().GetVerified(), got["ContentConsignment"].GetDoubts())
	require.Empty(t, got["ContentConsignment"].GetDoubts())
	changed := got["SubmissionAcceptance"].GetRegisteredMail()
	require.False(t, changed.GetVerified())
	require.Contains(t, changed.GetEvidence()[0].GetProblem(), "not what was signed")
	require.Equal(t, pecv1.MessageKind_MESSAGE_KIND_ORDINARY, got["RelayAcceptance"].GetKind(), "whoever signs under no authority of the list is nobody")
	require.NotEmpty(t, got["RelayAcceptance"].GetDoubts())
	for _, m := range got {
		require.False(t, m.GetProven(), "registered mail proves nothing of PEC")
		require.Empty(t, m.GetAbout())
	}
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_PENDING, h.get(name).GetState())
	require.Equal(t, "waiting", h.get(name).GetRecipients()[0].GetState())
	h.invariants(box)
}

// TestG11SamplesOfThePolicy: the samples of the Italian policy, where they are at hand, come into a mailbox as registered
// mail with evidence that is read.
func TestG11SamplesOfThePolicy(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "..", "..", "shared", "reference", "pec", "samples", "rem", "*", "REM_*.eml"))
	require.NoError(t, err)
	if len(files) == 0 {
		t.Log("no reference samples beside the repository: TestG11RegisteredMail reads messages of our own")
		return
	}
	h := open(t, "")
	h.believe()
	var authorities strings.Builder
	certs, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(files[0])), "certificates", "*CA*.crt"))
	require.NoError(t, err)
	for _, f := range certs {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		if strings.Contains(string(text), "BEGIN CERTIFICATE") {
			authorities.Write(text)
		}
	}
	_, err = h.trust.ImportTrustList(t.Context(), &pecv1.ImportTrustListRequest{AuthoritiesPem: authorities.String()})
	require.NoError(t, err)
	box := h.add(sender)
	for _, f := range files {
		raw, err := os.ReadFile(f)
		require.NoError(t, err)
		require.NoError(t, h.sandbox.InjectPEC(t.Context(), sender, client.PECInject{Data: raw}))
	}
	h.kept(box)
	tally := map[string]int{}
	for _, m := range h.receipts(box) {
		r := m.GetRegisteredMail()
		require.NotEmpty(t, r.GetEvent(), m.GetSubject())
		require.NotEmpty(t, r.GetEvidence(), m.GetSubject())
		require.False(t, m.GetProven())
		tally[m.GetKind().String()+", "+m.GetVerification().GetStatus()]++
		for _, e := range r.GetEvidence() {
			tally["evidence "+e.GetLevel()+": "+e.GetProblem()]++
		}
	}
	t.Log(tally)
	h.invariants(box)
}
