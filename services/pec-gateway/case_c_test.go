package pecgateway_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
)

// genuine is a delivery receipt about a message of ours, as the provider signed it, that never came: the connection to
// the mailbox is ours to fill.
func (p *post) genuine(t *testing.T, m *pecv1.Message) []byte {
	t.Helper()
	list, err := p.sandbox.PECMessages(t.Context(), sender)
	require.NoError(t, err)
	for _, r := range list {
		if r.Tipo == "avvenuta-consegna" && r.MsgID == m.GetMessageId() {
			raw, err := p.sandbox.PECRaw(t.Context(), r.ID)
			require.NoError(t, err)
			return raw
		}
	}
	t.Fatal("the provider has no delivery receipt about it")
	return nil
}

// envelope is the transport envelope in which a message of ours came to a mailbox.
func (p *post) envelope(t *testing.T, address string, m *pecv1.Message) []byte {
	t.Helper()
	list, err := p.sandbox.PECMessages(t.Context(), address)
	require.NoError(t, err)
	for _, r := range list {
		if r.Tipo == "posta-certificata" && r.MsgID == m.GetMessageId() {
			raw, err := p.sandbox.PECRaw(t.Context(), r.ID)
			require.NoError(t, err)
			return raw
		}
	}
	t.Fatal("the provider has no envelope of it")
	return nil
}

// lines is Base64 in lines, without which openssl does not read it.
func lines(der []byte) []byte {
	var out []byte
	for part := range slices.Chunk(der, 57) {
		out = append(base64.StdEncoding.AppendEncode(out, part), "\r\n"...)
	}
	return bytes.TrimSuffix(out, []byte("\r\n"))
}

// TestC1C2C3C6C14C15C16C17C18D4ChangedReceipts: a genuine receipt, changed, cut, wrapped or doubled in every way that the plan
// names, comes into a mailbox that waits for it. None moves anything, each is kept with its doubts; the one that only lost
// its line ends does.
func TestC1C2C3C6C14C15C16C17C18D4ChangedReceipts(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	// A second mailbox of ours waits for receipts about a message that left through the first one.
	first := p.send(recipient)
	p.state(first, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	raw := p.genuine(t, first)
	const other = "attesa@alfa.test"
	box := p.add(other)
	p.eventually("read for the first time", func() bool { return p.house.box(box).GetSync().GetDone() })
	name := p.sent(box, first.GetMessageId(), recipient)
	r, err := pec.ReadBytes(raw)
	require.NoError(t, err)
	flip := func(at int64) []byte {
		out := bytes.Clone(raw)
		out[at] ^= 1
		return out
	}
	boundary := r.Root.Params["boundary"]
	replace := func(from, to string) []byte {
		out := bytes.Replace(raw, []byte(from), []byte(to), 1)
		require.NotEqual(t, raw, out, from)
		return out
	}
	body := bytes.Index(raw, []byte("\r\n\r\n")) + 4
	rewritten := "From: lista@example.test\r\nSubject: [lista]\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=LISTA\r\n\r\n--LISTA\r\n" +
		"Content-Type: " + r.Root.Header.Get("Content-Type") + "\r\n\r\n" + string(raw[body:]) + "\r\n--LISTA\r\nContent-Type: text/plain\r\n\r\npiede della lista\r\n--LISTA--\r\n"
	forwarded := "From: mario@example.test\r\nSubject: I: CONSEGNA\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=FWD\r\n\r\n--FWD\r\nContent-Type: message/rfc822\r\n\r\n" +
		string(raw) + "\r\n--FWD--\r\n"
	p7s, err := r.P7S.Bytes(0)
	require.NoError(t, err)
	signed := func(change func(der []byte)) []byte { // the same message with another signature
		der := bytes.Clone(p7s)
		change(der)
		require.NotEqual(t, p7s, der)
		return slices.Concat(raw[:r.P7S.BodyStart], lines(der), raw[r.P7S.End:])
	}
	attribute := func(oid byte, value int) func(der []byte) { // a byte of the value of a signed attribute
		return func(der []byte) {
			der[bytes.Index(der, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, oid})+9+value] ^= 1
		}
	}
	cases := map[string][]byte{
		"C2 cut signature":                 raw[:r.P7S.BodyStart+200],
		"C2 placeholder":                   append(bytes.Clone(raw[:r.P7S.BodyStart]), []byte("MII...njA==\r\n--"+boundary+"--\r\n")...),
		"C3 a byte of the text":            flip(r.Signed.BodyStart + 120),
		"C3 a byte of daticert":            flip(int64(bytes.Index(raw, []byte("daticert.xml"))) + 120),
		"C3 a byte of the original":        flip(r.Original.End - 20),
		"C3 a byte of the signed digest":   signed(attribute(4, 10)),
		"C3 a byte of the signing time":    signed(attribute(5, 6)),
		"C3 a byte of the signature":       signed(func(der []byte) { der[len(der)-1] ^= 1 }),
		"D4 a type that nobody knows":      replace("X-Ricevuta: avvenuta-consegna", "X-Ricevuta: avvenuta-lettura"),
		"C14 never closed":                 replace("\r\n--"+boundary+"--", "\r\n"),
		"C14 a part after the signature":   replace("\r\n--"+boundary+"--", "\r\n--"+boundary+"\r\nContent-Type: text/plain\r\n\r\nx\r\n--"+boundary+"--"),
		"C14 another boundary's beginning": replace("\r\n--"+boundary+"--", "\r\n--"+boundary+"X\r\n--"+boundary+"--"),
		"C15 two daticert":                 replace("Content-Type: application/xml", "Content-Type: application/xml; name=\"daticert.xml\"\r\n\r\n<postacert/>\r\n--"+r.Signed.Params["boundary"]+"\r\nContent-Type: application/xml"),
		"C18 rewritten by a list":          []byte(rewritten),
		"C16 forwarded":                    []byte(forwarded),
		"C1 headers alone":                 append(bytes.Clone(raw[:bytes.Index(raw, []byte("MIME-Version"))]), []byte("\r\nconsegnato\r\n")...),
	}
	said, ok := cmstest.OpenSSLSays(t, raw)
	require.True(t, ok, "openssl takes the genuine one: %s", said)
	for what, in := range cases {
		if strings.HasPrefix(what, "C3 ") { // what is refused here, another verifier refuses
			said, ok := cmstest.OpenSSLSays(t, in)
			require.False(t, ok, what)
			require.Contains(t, said, "Verification failure", what)
		}
		require.NoError(t, p.sandbox.InjectPEC(t.Context(), other, client.PECInject{Data: in}), what)
	}
	// C16: the receipt inside a transport envelope inside another inside a third, all genuine.
	inside := raw
	for range 3 {
		req := p.request(other)
		req.Attachments = []*pecv1.Attachment{{FileName: "dentro.eml", MediaType: "message/rfc822", Data: inside}}
		m, err := p.api.SendMessage(t.Context(), req)
		require.NoError(t, err)
		p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
		inside = p.envelope(t, other, m)
	}
	// C17: a changed receipt comes to the recipient's provider from anybody, who wraps it in an anomaly envelope of its own.
	p.reception("x@example.test", other, cases["C3 a byte of the text"])
	p.settle()
	p.kept(box)
	list := p.receipts(box)
	require.Len(t, list, len(cases)+4)
	what := map[string]string{}
	for name, in := range cases {
		sum := sha256.Sum256(in)
		what[hex.EncodeToString(sum[:])] = name
	}
	outcome := map[string][2]string{ // status of the signature, and what is told
		"C1 headers alone": {"unsigned", "FALSE_CLAIM"}, "C2 cut signature": {"unparsable", "FALSE_CLAIM"}, "C2 placeholder": {"unparsable", "FALSE_CLAIM"},
		"C3 a byte of the text": {"invalid-digest", "FALSE_CLAIM"}, "C3 a byte of daticert": {"invalid-digest", "FALSE_CLAIM"},
		"C3 a byte of the original": {"invalid-digest", "FALSE_CLAIM"}, "C3 a byte of the signed digest": {"invalid-digest", "FALSE_CLAIM"},
		"C3 a byte of the signing time": {"invalid-signature", "FALSE_CLAIM"}, "C3 a byte of the signature": {"invalid-signature", "FALSE_CLAIM"},
		"C14 never closed": {"unparsable", "FALSE_CLAIM"}, "C14 a part after the signature": {"unparsable", "FALSE_CLAIM"},
		"C14 another boundary's beginning": {"unparsable", "FALSE_CLAIM"}, "C15 two daticert": {"unparsable", "FALSE_CLAIM"},
		"D4 a type that nobody knows": {"valid", "UNKNOWN_TYPE"},
	}
	wrapped := map[pecv1.MessageKind]int{}
	for _, got := range list {
		kind := got.GetKind()
		if kind == pecv1.MessageKind_MESSAGE_KIND_ANOMALY { // linked for display, and no more
			require.Equal(t, name, got.GetAbout())
			require.Contains(t, strings.Join(p.get(got.GetName()).GetDoubts(), " "), "WRAPPED_MAIL: it holds what says that it is avvenuta-consegna")
		} else {
			require.Empty(t, got.GetAbout(), got.GetSubject())
		}
		if kind == pecv1.MessageKind_MESSAGE_KIND_ENVELOPE || kind == pecv1.MessageKind_MESSAGE_KIND_ANOMALY {
			require.True(t, got.GetProven(), "the envelope is what it is: %v", got.GetDoubts())
			wrapped[kind]++
			continue
		}
		require.False(t, got.GetProven(), got.GetSubject())
		require.Equal(t, pecv1.MessageKind_MESSAGE_KIND_ORDINARY, got.GetKind())
		what := what[hex.EncodeToString(got.GetContent().GetSha256())]
		want, claims := outcome[what]
		require.Equal(t, claims, what != "C18 rewritten by a list" && what != "C16 forwarded", "%s: the last two claim nothing", what)
		if !claims {
			require.Empty(t, p.claims(got), what)
			continue
		}
		require.Equal(t, want[0], got.GetVerification().GetStatus(), "%s: %s", what, got.GetVerification().GetReason())
		p.eventually(what+": somebody is told", func() bool { return p.claims(got) != "" })
		require.Equal(t, want[1], p.claims(got), what)
	}
	require.Equal(t, map[pecv1.MessageKind]int{pecv1.MessageKind_MESSAGE_KIND_ENVELOPE: 3, pecv1.MessageKind_MESSAGE_KIND_ANOMALY: 1}, wrapped)
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_PENDING, p.get(name).GetState())
	require.Equal(t, "waiting", p.get(name).GetRecipients()[0].GetState())

	// C6: a copy that was kept with LF alone is the receipt.
	require.NoError(t, p.sandbox.InjectPEC(t.Context(), other, client.PECInject{Data: bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))}))
	p.state(&pecv1.Message{Name: name}, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	p.invariants()
	p.house.invariants(box, p.mailbox())
}

// TestC7C8C10SignersInAMailbox: what each provider's way of writing and each wrong signer comes to in the service.
func TestC7C8C10SignersInAMailbox(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	for _, profile := range pec.Profiles() { // legalmail writes BER of indefinite length
		for _, id := range []string{"alfa", "beta"} {
			_, err := p.sandbox.SetPECProvider(t.Context(), client.PECProvider{ID: id, Profile: profile.Name})
			require.NoError(t, err)
		}
		m := p.send(recipient)
		got := p.delivered(m)
		require.Equal(t, "valid", got.GetVerification().GetStatus(), profile.Name)
		require.Equal(t, "unknown", got.GetVerification().GetRevocation(), "no list of revoked certificates is at hand, and that is said")
	}
	for local, status := range map[string]string{"falsa": "unsigned", "altra-firma": "untrusted-signer", "alterata": "invalid-digest", "troncata": "unparsable"} {
		m := p.send(local + "@beta.test")
		p.state(m, pecv1.MessageState_MESSAGE_STATE_ACCEPTED)
		p.eventually("the forged receipt of "+local+" is kept", func() bool {
			for _, r := range p.receipts(p.mailbox()) {
				if r.GetVerification().GetStatus() == status {
					return !r.GetProven() && r.GetAbout() == "" && len(r.GetDoubts()) > 0
				}
			}
			return false
		})
		require.Equal(t, "waiting", p.get(m.GetName()).GetRecipients()[0].GetState(), local)
	}
	// C8: a delivery certified by a provider that does not manage the recipient's domain.
	m := p.send("muta@beta.test")
	p.state(m, pecv1.MessageState_MESSAGE_STATE_ACCEPTED)
	require.NoError(t, p.sandbox.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: "avvenuta-consegna", MsgID: m.GetMessageId(),
		Identificativo: p.get(m.GetName()).GetProviderId(), Recipient: "muta@beta.test", How: "valid"}))
	p.eventually("it is doubted", func() bool {
		for _, r := range p.receipts(p.mailbox()) {
			if strings.Contains(strings.Join(r.GetDoubts(), " "), pec.CodeForeignDomain) {
				return !r.GetProven()
			}
		}
		return false
	})
	require.Equal(t, "waiting", p.get(m.GetName()).GetRecipients()[0].GetState())
	p.invariants()
	p.house.invariants(p.mailbox())
}
