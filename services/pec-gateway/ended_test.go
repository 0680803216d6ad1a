package pecgateway_test

import (
	"bytes"
	"crypto/sha1" // the index of providers names certificates by SHA-1
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/client"
)

const mute = "muta@beta.test" // of whom no delivery is told

// oldProvider signs with a certificate that has ended.
type oldProvider struct {
	p       *post
	gestore pec.Gestore
	ended   time.Time
}

// oldProvider makes one, in the trust list or not. Its authority is an hour old.
func (p *post) oldProvider(name, address string, ago time.Duration, listed bool) *oldProvider {
	p.t.Helper()
	authority, err := ca.New(ca.Options{})
	require.NoError(p.t, err)
	now := p.opts.Now()
	o := &oldProvider{p: p, ended: now.Add(-ago)}
	issued, err := authority.IssueMailSignerValid(name, address, now.AddDate(-2, 0, 0), o.ended)
	require.NoError(p.t, err)
	o.gestore = pec.Gestore{Name: name, Address: address, Certificate: issued.Chain[0], Chain: issued.Chain[1:], Key: issued.Key}
	req := &pecv1.ImportTrustListRequest{AuthoritiesPem: string(authority.CertPEM())}
	if listed {
		sum := sha1.Sum(issued.Chain[0].Raw)
		req.Index = fmt.Appendf(nil, "dn: providerName=%[1]s,o=postacert\nproviderName: %[1]s\nproviderCertificateHash: %[2]s\nmanagedDomains: beta.test\n", name, hex.EncodeToString(sum[:]))
	}
	_, err = p.trust.ImportTrustList(p.t.Context(), req)
	require.NoError(p.t, err)
	return o
}

// receipt is the delivery receipt of a message to mute.
func (o *oldProvider) receipt(m *pecv1.Message, signed time.Time) []byte {
	t, p := o.p.t, o.p
	t.Helper()
	sent, err := p.bytesOf(m)
	require.ErrorIs(t, err, io.EOF)
	original, err := pec.ParseBytes(sent)
	require.NoError(t, err)
	way := pec.NewTransito(original, pec.Envelope{MailFrom: sender, Recipients: []string{mute}}, p.get(m.GetName()).GetProviderId(), nil)
	receipt, err := way.Consegna(signed, mute)
	require.NoError(t, err)
	var raw bytes.Buffer
	_, err = o.gestore.Write(t.Context(), &raw, receipt)
	require.NoError(t, err)
	return raw.Bytes()
}

// copied puts such a receipt into the mailbox, as of now.
func (o *oldProvider) copied(m *pecv1.Message, signed time.Time) *pecv1.Message {
	o.p.t.Helper()
	return o.p.copied(o.receipt(m, signed))
}

func (p *post) copied(raw []byte) *pecv1.Message {
	p.t.Helper()
	require.NoError(p.t, p.sandbox.InjectPEC(p.t.Context(), sender, client.PECInject{Data: raw}))
	p.kept(p.mailbox())
	return p.receipts(p.mailbox())[0]
}

// TestC10CopiedAfterTheEnd: a genuine receipt whose signer's certificate has ended comes into the mailbox once more with the day of
// the copying, as all mail does that is taken to another provider. Nothing follows from it, since whoever has the key could date it
// so, and it is not told as a forgery; one that was signed after the end is. TESTPLAN C10.
func TestC10CopiedAfterTheEnd(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	old := p.oldProvider("Gestore Vecchio", "posta-certificata@vecchio.test", time.Hour, true)
	m := p.send(mute)
	p.state(m, pecv1.MessageState_MESSAGE_STATE_ACCEPTED)
	p.eventually("read for the first time", func() bool { return p.mailbox().GetSync().GetDone() })
	ended := old.ended
	for _, c := range []struct {
		signed         time.Time
		status, reason string
		kind           pecv1.MessageKind
		told           string
	}{
		{ended.Add(-time.Hour), "valid-cert-ended", "only the signature itself says", pecv1.MessageKind_MESSAGE_KIND_DELIVERY, "DOUBTFUL_CLAIM"},
		{ended.Add(time.Minute), "untrusted-signer", "was not valid", pecv1.MessageKind_MESSAGE_KIND_ORDINARY, "FALSE_CLAIM"},
	} {
		r := old.copied(m, c.signed)
		p.eventually("it is told", func() bool { return p.claims(r) != "" })
		require.Equal(t, c.told, p.claims(r))
		r = p.get(r.GetName())
		require.Equal(t, c.status, r.GetVerification().GetStatus(), r.GetVerification().GetReason())
		require.Equal(t, c.kind, r.GetKind())
		require.Contains(t, strings.Join(r.GetDoubts(), "\n"), c.reason)
		again, err := p.api.ReadMessageAgain(t.Context(), &pecv1.ReadMessageAgainRequest{Name: r.GetName()})
		require.NoError(t, err)
		require.Equal(t, c.status, again.GetVerification().GetStatus(), "the moment that it came at is kept")
		require.False(t, again.GetProven())
		require.Empty(t, again.GetAbout())
	}
	seen, err := p.trust.ListSeenCertificates(t.Context(), &pecv1.ListSeenCertificatesRequest{State: pecv1.SeenCertificateState_SEEN_CERTIFICATE_STATE_PENDING})
	require.NoError(t, err)
	require.Empty(t, seen.GetCertificates(), "to approve it would prove nothing")
	require.Equal(t, "waiting", p.get(m.GetName()).GetRecipients()[0].GetState())
	p.everything()
}
