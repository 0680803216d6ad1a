package pecgateway_test

import (
	"context"
	"crypto/sha1" // the index of providers names certificates by SHA-1
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/sandbox/client"
)

const (
	alfa = "Gestore Alfa SANDBOX"
	beta = "Gestore Beta SANDBOX"
)

// indexOf is an index of providers, as LDIF, that names these alone.
func (h *house) indexOf(names ...string) []byte {
	h.t.Helper()
	list, err := h.sandbox.PECProviders(h.t.Context())
	require.NoError(h.t, err)
	var b strings.Builder
	for _, p := range list {
		for _, name := range names {
			if p.Name == name {
				block, _ := pem.Decode([]byte(p.CertPEM))
				sum := sha1.Sum(block.Bytes) // as the index has it
				fmt.Fprintf(&b, "dn: providerName=%s,o=postacert\nproviderName: %s\nproviderCertificateHash: %s\nmanagedDomains: %s\n\n",
					name, name, hex.EncodeToString(sum[:]), strings.Join(p.Domains, "\nmanagedDomains: "))
			}
		}
	}
	require.Equal(h.t, len(names), strings.Count(b.String(), "dn: "))
	return []byte(b.String())
}

func (h *house) imported(index []byte) *pecv1.ImportTrustListResponse {
	h.t.Helper()
	got, err := h.trust.ImportTrustList(h.t.Context(), &pecv1.ImportTrustListRequest{Index: index, AuthoritiesPem: h.authorities()})
	require.NoError(h.t, err)
	return got
}

// business counts the events that others act upon, which a later judgement alone may not bring about. What left the outbox is
// heard a moment later.
func (h *house) business() int {
	h.t.Helper()
	count := func() (n int) {
		for _, ev := range h.heard.all() {
			switch ev.(type) {
			case *pecv1.MessageReceived, *pecv1.ReceiptVerified, *pecv1.DeliveryStateChanged, *pecv1.ForwardDue, *pecv1.IncomingNoticeDue:
				n++
			}
		}
		return n
	}
	last, since := -1, time.Now()
	h.eventually("events come to rest", func() bool {
		if n := count(); n != last || h.query(`SELECT count(*) FROM outbox`) > 0 {
			last, since = n, time.Now()
		}
		return time.Since(since) > 500*time.Millisecond
	})
	return last
}

// receiptOf waits for a receipt of a sent message, proven or not.
func (p *post) receiptOf(m *pecv1.Message, tipo string) *pecv1.Message {
	p.t.Helper()
	var out *pecv1.Message
	p.eventually(tipo+" of "+m.GetMessageId(), func() bool {
		for _, r := range p.receipts(p.mailbox()) {
			for _, f := range p.get(r.GetName()).GetHeaders() {
				if f.GetName() == "X-Riferimento-Message-ID" && strings.Trim(f.GetValue(), " <>") == m.GetMessageId() && strings.Contains(r.GetType(), tipo) {
					out = r
				}
			}
		}
		return out != nil
	})
	return out
}

func (h *house) reread(name string) *pecv1.Message {
	h.t.Helper()
	m, err := h.api.ReadMessageAgain(h.t.Context(), &pecv1.ReadMessageAgainRequest{Name: name})
	require.NoError(h.t, err)
	return m
}

// withdrawn waits until a withdrawal has been gone through.
func (h *house) withdrawn(name string) *pecv1.TrustWithdrawal {
	h.t.Helper()
	var out *pecv1.TrustWithdrawal
	h.eventually(name+" is gone through", func() bool {
		list, err := h.trust.ListTrustWithdrawals(h.t.Context(), &pecv1.ListTrustWithdrawalsRequest{})
		require.NoError(h.t, err)
		for _, w := range list.GetWithdrawals() {
			if w.GetName() == name {
				out = w
			}
		}
		return out.GetJudgeTime() != nil
	})
	return out
}

func (h *house) reports(m *pecv1.Message) int {
	h.t.Helper()
	return h.query(`SELECT count(*) FROM report WHERE message_id = $1::uuid`, m.GetName()[strings.LastIndex(m.GetName(), "/")+1:])
}

// TestG7ProviderAdded: a provider that a later index names proves nothing of what came before, until a person has it read
// again; then the new report stands beside the old one and the state follows. TESTPLAN G7.
func TestG7ProviderAdded(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.imported(p.indexOf(alfa))
	m := p.send(recipient)
	receipt := p.receiptOf(m, "avvenuta-consegna")
	p.eventually("accepted", func() bool { return p.get(m.GetName()).GetState() == pecv1.MessageState_MESSAGE_STATE_ACCEPTED })
	require.Equal(t, "valid-cert-unlisted", receipt.GetVerification().GetStatus())
	before, states := p.business(), p.states()

	got := p.imported(p.indexOf(alfa, beta))
	require.EqualValues(t, 1, got.GetProvidersAdded())
	p.lookedAgain(p.mailbox())
	require.Equal(t, before, p.business(), "nothing follows without a person")
	require.Equal(t, states, p.states())
	require.Equal(t, 1, p.reports(receipt))

	again := p.reread(receipt.GetName())
	require.True(t, again.GetProven(), "%v", again.GetDoubts())
	require.Equal(t, beta, again.GetVerification().GetProvider())
	require.Equal(t, got.GetVersion(), again.GetVerification().GetTrustList())
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_DELIVERED, p.get(m.GetName()).GetState())
	require.Equal(t, 2, p.reports(receipt))
	require.Equal(t, 1, p.query(`SELECT count(*) FROM report WHERE status = 'valid-cert-unlisted' AND NOT proven`), "the former report stands")
	p.everything()
}

// TestG7ProviderRemoved: what a provider signed before it was withdrawn stays proven. What loses its proof gets a new report
// beside the old one; no state changes and nobody acts, but the message is contradicted and somebody is told, once. An index
// that still names the provider brings nothing back, and one that does not name it takes nothing away. TESTPLAN G7.
func TestG7ProviderRemoved(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.imported(p.indexOf(alfa, beta))
	first := p.send(recipient)
	delivered := func(m *pecv1.Message) bool {
		return p.get(m.GetName()).GetState() == pecv1.MessageState_MESSAGE_STATE_DELIVERED
	}
	p.eventually("delivered", func() bool { return delivered(first) })
	receipt := p.receiptOf(first, "avvenuta-consegna")
	require.True(t, receipt.GetProven())

	// From a moment after it on.
	from := receipt.GetVerification().GetJudgeTime().AsTime().Add(time.Second)
	tenantTrust := pecv1.NewPecTrustServiceClient(p.Tenant("pec-gateway", tenant))
	req := &pecv1.WithdrawTrustRequest{Provider: beta, EffectiveTime: timestamppb.New(from), Reason: "left the list of the supervisory body"}
	_, err := tenantTrust.WithdrawTrust(t.Context(), req)
	require.Error(t, err, "a tenant does not decide for all")
	for code, change := range map[string]func(*pecv1.WithdrawTrustRequest){
		"PROVIDER_NOT_LISTED":     func(r *pecv1.WithdrawTrustRequest) { r.Provider = "Nessuno" },
		"CERTIFICATE_NOT_LISTED":  func(r *pecv1.WithdrawTrustRequest) { r.Certificate = strings.Repeat("ab", 32) },
		"EFFECTIVE_TIME_REQUIRED": func(r *pecv1.WithdrawTrustRequest) { r.EffectiveTime = nil },
	} {
		bad := proto.CloneOf(req)
		change(bad)
		_, err = p.trust.WithdrawTrust(t.Context(), bad)
		requireFault(t, err, code)
	}
	dated, err := p.trust.WithdrawTrust(t.Context(), req)
	require.NoError(t, err)
	require.NotEmpty(t, dated.GetDecidedBy())
	require.Zero(t, p.withdrawn(dated.GetName()).GetUnprovenMessages(), "it was received before")
	require.Equal(t, 1, p.reports(receipt))
	require.True(t, p.reread(receipt.GetName()).GetProven(), "and keeps its judgement when a person asks")
	require.Empty(t, p.get(first.GetName()).GetContradictions())
	_, err = p.trust.WithdrawTrust(t.Context(), req)
	requireFault(t, err, "ALREADY_WITHDRAWN")

	p.eventually("the moment passes", func() bool { return time.Now().After(from.Add(time.Second)) })
	second := p.send(recipient)
	late := p.receiptOf(second, "avvenuta-consegna")
	require.False(t, late.GetProven())
	require.Equal(t, "untrusted-signer", late.GetVerification().GetStatus())
	require.Contains(t, late.GetVerification().GetReason(), "withdrew")
	require.False(t, delivered(second))
	require.Zero(t, p.query(`SELECT count(*) FROM seen_certificate WHERE state = 1`), "nobody is asked again what was decided")

	// From the beginning.
	before, states := p.business(), p.states()
	never := proto.CloneOf(req)
	never.EffectiveTime, never.FromBeginning, never.Reason = nil, true, "its key was never its own"
	whole, err := p.trust.WithdrawTrust(t.Context(), never)
	require.NoError(t, err)
	w := p.withdrawn(whole.GetName())
	require.Equal(t, []int64{1, 1, 0}, []int64{w.GetUnprovenMessages(), w.GetDoubtedReceipts(), w.GetFailedMessages()})
	now := p.get(receipt.GetName())
	require.False(t, now.GetProven())
	require.Equal(t, first.GetName(), now.GetAbout(), "what it counted for is said")
	require.Equal(t, 3, p.reports(receipt), "the first, the person's, and this one")
	require.Equal(t, 2, p.query(`SELECT count(*) FROM report WHERE message_id = $1::uuid AND proven`, receipt.GetName()[strings.LastIndex(receipt.GetName(), "/")+1:]))
	require.True(t, delivered(first), "the state stands")
	contradictions := p.get(first.GetName()).GetContradictions()
	require.Len(t, contradictions, 1)
	require.Contains(t, contradictions[0], recipient)
	require.Equal(t, before, p.business(), "no event that others act upon")
	p.eventually("somebody is told", func() bool { return len(heard[*pecv1.DeliveryDoubted](p.house)) > 0 })
	require.Equal(t, first.GetName(), heard[*pecv1.DeliveryDoubted](p.house)[0].GetMessage())
	require.NotEqual(t, states, p.states(), "the contradiction is part of what is shown")
	require.Equal(t, 1, p.query(`SELECT count(*) FROM audit_entry WHERE action = 'pectrust.change' AND detail->>'change' LIKE '%its key was never its own%'`))
	require.Equal(t, 1, p.query(`SELECT count(*) FROM audit_entry WHERE action = 'message.read_again' AND detail->>'because' = $1`, whole.GetName()))
	require.Equal(t, 0, p.query(`SELECT count(*) FROM fact WHERE doubt <> '' AND kind <> 8`), "the acceptance is the other provider's")

	// An index is no person.
	got := p.imported(p.indexOf(alfa, beta))
	require.ElementsMatch(t, []string{dated.GetName(), whole.GetName()}, got.GetStandingWithdrawals())
	require.Empty(t, got.GetAbsentProviders())
	require.False(t, p.reread(late.GetName()).GetProven())
	got = p.imported(p.indexOf(alfa))
	require.Equal(t, []string{beta}, got.GetAbsentProviders())
	since := p.provider(beta).GetAbsentSince()
	require.NotNil(t, since)
	require.Len(t, p.provider(beta).GetWithdrawn(), 2)
	require.Nil(t, p.provider(alfa).GetAbsentSince())
	p.imported(p.indexOf(alfa))
	require.Equal(t, since.AsTime(), p.provider(beta).GetAbsentSince().AsTime(), "since the first")
	p.imported(nil)
	require.NotNil(t, p.provider(beta).GetAbsentSince(), "authorities alone say nothing of providers")
	p.imported(p.indexOf(alfa, beta))
	require.Nil(t, p.provider(beta).GetAbsentSince())

	// Taken back: nothing moves by itself.
	states = p.states()
	for _, name := range []string{dated.GetName(), whole.GetName()} {
		_, err = p.trust.ReinstateTrust(t.Context(), &pecv1.ReinstateTrustRequest{Name: name, Reason: "it was another Beta"})
		require.NoError(t, err)
		_, err = p.trust.ReinstateTrust(t.Context(), &pecv1.ReinstateTrustRequest{Name: name, Reason: "again"})
		requireFault(t, err, "WITHDRAWAL_ENDED")
	}
	p.lookedAgain(p.mailbox())
	require.Equal(t, states, p.states())
	require.Equal(t, before, p.business())
	require.True(t, p.reread(receipt.GetName()).GetProven())
	require.Empty(t, p.get(first.GetName()).GetContradictions())
	require.Equal(t, before, p.business(), "it had counted")
	require.True(t, p.reread(late.GetName()).GetProven())
	require.True(t, delivered(second), "a person had it read again")
	require.Len(t, heard[*pecv1.DeliveryDoubted](p.house), 1)
	p.everything()
}

func (h *house) provider(name string) *pecv1.TrustedProvider {
	h.t.Helper()
	list, err := h.trust.ListTrustedProviders(h.t.Context(), &pecv1.ListTrustedProvidersRequest{})
	require.NoError(h.t, err)
	for _, p := range list.GetProviders() {
		if p.GetDisplayName() == name {
			return p
		}
	}
	require.Failf(h.t, "not in the list", "%s", name)
	return nil
}

// TestG7WithdrawnWhileMailComes: whatever is being judged while the list changes, and however often the gateway is stopped,
// each message that the withdrawal takes the proof from loses it once, and none keeps it. TESTPLAN G7.
func TestG7WithdrawnWhileMailComes(t *testing.T) {
	t.Parallel()
	const messages = 60
	h := open(t, "")
	h.imported(h.indexOf(alfa, beta))
	box := h.add(sender)
	var names []string
	forge := func(n int) error {
		return h.sandbox.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: "accettazione", MsgID: fmt.Sprintf("m%d@alfa.test", n),
			Recipient: recipient, How: "valid", Identificativo: fmt.Sprintf("opec%d.1@pec.alfa.test", n)})
	}
	for n := range messages {
		names = append(names, h.sent(box, fmt.Sprintf("m%d@alfa.test", n), recipient))
	}
	for n := range messages / 2 {
		require.NoError(t, forge(n))
	}
	h.kept(box)
	h.eventually("counted", func() bool { return h.query(`SELECT count(*) FROM fact`) >= messages/2 })
	more := make(chan error, 1)
	go func() {
		var err error
		for n := messages / 2; n < messages && err == nil; n++ {
			err = forge(n)
		}
		more <- err
	}()
	h.eventually("mail comes", func() bool { return h.query(`SELECT count(*) FROM fact`) > messages/2 })
	w, err := h.trust.WithdrawTrust(t.Context(), &pecv1.WithdrawTrustRequest{Provider: alfa, FromBeginning: true, Reason: "never"})
	require.NoError(t, err)
	for range 3 {
		h.Stop()
		h.start()
	}
	require.NoError(t, <-more)
	h.kept(box)
	got := h.withdrawn(w.GetName())
	facts := h.query(`SELECT count(*) FROM fact`)
	require.EqualValues(t, facts, got.GetDoubtedReceipts(), "all that had counted, each once")
	require.EqualValues(t, facts, got.GetUnprovenMessages())
	require.Zero(t, h.query(`SELECT count(*) FROM message WHERE direction = 1 AND proven`))
	require.Equal(t, messages+facts, h.query(`SELECT count(*) FROM report`))
	doubted := 0
	for _, name := range names {
		m := h.get(name)
		doubted += len(m.GetContradictions())
		if len(m.GetContradictions()) > 0 {
			require.Equal(t, pecv1.MessageState_MESSAGE_STATE_ACCEPTED, m.GetState())
		}
	}
	require.Equal(t, facts, doubted)
	h.invariants(box)
}

// TestG7WithdrawnAfterTheJudging: a change of the list waits for messages that were judged by the list of before and are being
// written down; what goes through all messages after it finds them. TESTPLAN G7.
func TestG7WithdrawnAfterTheJudging(t *testing.T) {
	t.Parallel()
	h := open(t, "")
	h.imported(h.indexOf(alfa, beta))
	box := h.add(sender)
	h.lookedAgain(box)
	name := h.sent(box, "m@alfa.test", recipient)
	type answer struct {
		w   *pecv1.TrustWithdrawal
		err error
	}
	answered := make(chan answer, 1)
	require.NoError(t, h.DB("pec-gateway").System(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `LOCK TABLE message IN SHARE MODE`)
		if err != nil {
			return err
		}
		err = h.sandbox.ForgePEC(ctx, client.PECForge{Mailbox: sender, Tipo: "accettazione", MsgID: "m@alfa.test", Recipient: recipient, How: "valid"})
		if err != nil {
			return err
		}
		h.eventually("it is judged and being written down", func() bool {
			return h.query(`SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'message'::regclass`) > 0
		})
		go func() {
			w, err := h.trust.WithdrawTrust(ctx, &pecv1.WithdrawTrustRequest{Provider: alfa, FromBeginning: true, Reason: "never"})
			answered <- answer{w, err}
		}()
		select {
		case <-answered:
			return errors.New("the list was changed under a message that is being written down")
		case <-time.After(time.Second):
			return nil
		}
	}))
	got := <-answered
	require.NoError(t, got.err)
	require.EqualValues(t, 1, h.withdrawn(got.w.GetName()).GetUnprovenMessages())
	h.kept(box)
	m := h.receipts(box)[0]
	require.False(t, m.GetProven())
	require.Equal(t, "untrusted-signer", m.GetVerification().GetStatus())
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_ACCEPTED, h.get(name).GetState())
	require.Len(t, h.get(name).GetContradictions(), 1)
	require.Equal(t, 2, h.reports(m))
	h.invariants(box)
}
