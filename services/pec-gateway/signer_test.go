package pecgateway_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/client"
)

// TestC8PersonUnderAnAuthority: an authority that is trusted has issued a certificate to a person, who writes a delivery receipt about a
// message of ours that is right in everything else. It is a forgery, and told as one; nobody is asked to approve the certificate, as
// somebody is for one that a provider may have. Mail that the person signs and that claims nothing is ordinary mail. TESTPLAN C8, C9.
func TestC8PersonUnderAnAuthority(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	_, err = p.trust.ImportTrustList(t.Context(), &pecv1.ImportTrustListRequest{AuthoritiesPem: string(authority.CertPEM())})
	require.NoError(t, err)
	const mute = "muta@beta.test"
	m := p.send(mute)
	p.state(m, pecv1.MessageState_MESSAGE_STATE_ACCEPTED)
	sent, err := p.bytesOf(m)
	require.ErrorIs(t, err, io.EOF)
	original, err := pec.ParseBytes(sent)
	require.NoError(t, err)
	way := pec.NewTransito(original, pec.Envelope{MailFrom: sender, Recipients: []string{mute}}, p.get(m.GetName()).GetProviderId(), nil)
	at := p.opts.Now()
	receipt, err := way.Consegna(at, mute)
	require.NoError(t, err)
	written := func(name, address string, claims bool) *pecv1.Message {
		t.Helper()
		issued, err := authority.IssueMailSigner(name, address)
		require.NoError(t, err)
		g := pec.Gestore{Name: name, Address: address, Certificate: issued.Chain[0], Chain: issued.Chain[1:], Key: issued.Key}
		var raw bytes.Buffer
		_, err = g.Write(t.Context(), &raw, receipt)
		require.NoError(t, err)
		data := raw.Bytes()
		if !claims {
			data = bytes.Replace(data, []byte("X-Ricevuta: avvenuta-consegna\r\n"), nil, 1)
			require.Less(t, len(data), raw.Len())
		}
		require.NoError(t, p.sandbox.InjectPEC(t.Context(), sender, client.PECInject{Data: data}))
		p.kept(p.mailbox())
		return p.receipts(p.mailbox())[0]
	}
	pending := func() int {
		seen, err := p.trust.ListSeenCertificates(t.Context(), &pecv1.ListSeenCertificatesRequest{State: pecv1.SeenCertificateState_SEEN_CERTIFICATE_STATE_PENDING})
		require.NoError(t, err)
		return len(seen.GetCertificates())
	}
	forged := written("Una Persona", "una.persona@beta.test", true)
	require.Equal(t, "untrusted-signer", forged.GetVerification().GetStatus())
	require.Equal(t, pecv1.MessageKind_MESSAGE_KIND_ORDINARY, forged.GetKind())
	require.Contains(t, strings.Join(p.get(forged.GetName()).GetDoubts(), "\n"), `for "una.persona@beta.test", as which no provider signs`)
	p.eventually("it is told", func() bool { return p.claims(forged) == "FALSE_CLAIM" })
	require.Zero(t, pending(), "nobody is asked about a person")

	plain := written("Una Persona", "una.persona@beta.test", false)
	require.Equal(t, pecv1.MessageKind_MESSAGE_KIND_ORDINARY, plain.GetKind())
	require.Empty(t, plain.GetDoubts())
	require.Zero(t, pending())

	unknown := written("Gestore Nuovo", "posta-certificata@nuovo.test", true)
	require.Equal(t, "valid-cert-unlisted", unknown.GetVerification().GetStatus())
	require.Equal(t, 1, pending(), "that one may be a provider's")
	require.Empty(t, p.claims(unknown))
	for _, r := range []*pecv1.Message{forged, plain, unknown} {
		require.False(t, r.GetProven())
		require.Empty(t, r.GetAbout())
	}
	require.Equal(t, "waiting", p.get(m.GetName()).GetRecipients()[0].GetState())
	p.everything()
}
