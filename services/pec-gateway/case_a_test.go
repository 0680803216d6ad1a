package pecgateway_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/devenv/nats"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/sandbox/client"
)

// TestA7A16A20A21A22A23Sending: what may happen between asking and acceptance, on one gateway.
func TestA7A16A20A21A22A23Sending(t *testing.T) {
	t.Parallel()
	all := t
	p := openPost(t, watching)
	p.believe()
	step := func(name string, part func(t *testing.T)) {
		require.True(t, t.Run(name, func(t *testing.T) {
			p.t = t
			defer func() { p.t = all }()
			part(t)
		}))
	}
	step("A22 the store of bytes cannot be written", func(t *testing.T) {
		dir := filepath.Join(p.opts.Dir, "blobs")
		require.NoError(t, os.Rename(dir, dir+".away"))
		require.NoError(t, os.WriteFile(dir, nil, 0o600))
		req := p.request(recipient)
		_, err := p.api.SendMessage(t.Context(), req)
		require.Error(t, err)
		require.False(t, fault.Permanent(err), "the caller may try again: %v", err)
		require.NoError(t, os.Remove(dir))
		require.NoError(t, os.Rename(dir+".away", dir))
		require.Zero(t, p.query(`SELECT count(*) FROM message WHERE direction = 2`))
		require.Empty(t, p.submissions(), "bytes left that nobody has kept")
		m, err := p.api.SendMessage(t.Context(), req)
		require.NoError(t, err)
		p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	})
	step("A21 the same request after a restart", func(t *testing.T) {
		req := p.request(recipient)
		m, err := p.api.SendMessage(t.Context(), req)
		require.NoError(t, err)
		p.Stop()
		p.t = all // the process outlives this part
		p.start()
		p.delivery = pecv1.NewPecDeliveryServiceClient(p.Tenant("pec-gateway", tenant))
		p.t = t
		again, err := p.api.SendMessage(t.Context(), req)
		require.NoError(t, err)
		require.True(t, proto.Equal(m, again))
		p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
		require.Equal(t, 1, p.taken(m))
	})
	step("A20 subjects and names come back as they were", func(t *testing.T) {
		for _, subject := range []string{
			strings.TrimSpace(strings.Repeat("Disdetta perché così – ", 85)), "🖂 emoji 🇮🇹 e accenti àèìòù", "=?utf-8?Q?finta?= parola", "a  due  spazi", `"virgolette" <x@y.test>; \ barra`,
		} {
			req := p.request(recipient)
			req.Subject, req.Attachments[0].FileName = subject, "città – "+strings.Repeat("lungo", 20)+".pdf"
			m, err := p.api.SendMessage(t.Context(), req)
			require.NoError(t, err)
			receipt := p.delivered(m)
			xml := p.content(&pecv1.GetMessageContentRequest{Name: receipt.GetName(), What: &pecv1.GetMessageContentRequest_Certification{Certification: true}})
			d, _, err := pec.ParseDaticert(xml.Bytes())
			require.NoError(t, err)
			require.Equal(t, subject, d.Oggetto)
			require.Equal(t, subject, p.get(m.GetName()).GetSubject())
			require.Equal(t, req.GetAttachments()[0].GetFileName(), p.get(m.GetName()).GetParts()[0].GetFileName())
		}
	})
	step("A16 refused after it was taken", func(t *testing.T) {
		_, err := p.sandbox.SetPECProvider(t.Context(), client.PECProvider{ID: "alfa", Volume: 500})
		require.NoError(t, err)
		m := p.send(recipient)
		got := p.state(m, pecv1.MessageState_MESSAGE_STATE_REFUSED)
		require.NotEmpty(t, got.GetRefusal(), "the reason is shown")
		require.Equal(t, got.GetRefusal(), p.way(m).GetRefusal())
		_, err = p.sandbox.SetPECProvider(t.Context(), client.PECProvider{ID: "alfa", Volume: 30_000_000})
		require.NoError(t, err)
		require.Equal(t, 1, p.taken(m), "it is final")
	})
	step("A7 the receipt is there before the answer is", func(t *testing.T) {
		// A lost answer and a receipt that came in the meantime: the fact of the hand-over comes last.
		p.fault(client.FaultPECCutAfter)
		m := p.send(recipient)
		p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
		p.exec(`INSERT INTO fact (tenant_id, message_id, id, kind, at, create_time) SELECT tenant_id, id, gen_random_uuid(), $2, now(), now() FROM message WHERE id::text = right($1, 36)`,
			m.GetName(), int16(pec.FactSubmitted))
		for _, r := range p.list(p.mailbox(), func(r *pecv1.ListMessagesRequest) { r.About = m.GetName() }) {
			_, err := p.api.ReadMessageAgain(t.Context(), &pecv1.ReadMessageAgainRequest{Name: r.GetName()})
			require.NoError(t, err)
		}
		require.Equal(t, pecv1.MessageState_MESSAGE_STATE_DELIVERED, p.get(m.GetName()).GetState())
		require.Empty(t, p.get(m.GetName()).GetContradictions())
		require.Equal(t, 1, p.taken(m))
	})
	step("A23 the clock jumps while it waits", func(t *testing.T) {
		p.suspend(true)
		m := p.send(recipient)
		p.eventually("the queue is held", func() bool { return p.way(m).GetHeld() != "" })
		before := len(heard[*pecv1.DeliveryStalled](p.house))
		p.ahead.Add(int64(-2 * time.Hour))
		p.turn()
		p.ahead.Add(int64(4 * time.Hour))
		p.turn()
		require.Equal(t, pecv1.MessageState_MESSAGE_STATE_PENDING, p.way(m).GetState())
		p.ahead.Add(int64(-2 * time.Hour))
		require.Len(t, heard[*pecv1.DeliveryStalled](p.house), before, "no alarm of a message that has not left")
		require.Empty(t, p.way(m).GetStallCode())
		p.suspend(false)
		p.resume()
		p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
		require.Equal(t, 1, p.taken(m))
	})
	require.Empty(t, heard[*pecv1.DeliveryDecisionNeeded](p.house))
	p.invariants()
	p.house.invariants(p.mailbox())
}

// TestA11ThreeReplicas: three gateways on one database never let more leave in a minute than the provider takes, in the
// order of asking.
func TestA11ThreeReplicas(t *testing.T) {
	t.Parallel()
	server, err := nats.Start(t.Context(), nats.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	file := filepath.Join(t.TempDir(), "limits.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"sandbox": {"per_minute": 6}}`), 0o600))
	extra := strings.Replace(quickly, "sending: {", fmt.Sprintf("sending: {limits_file: %q, ", file), 1)
	p := &post{house: open(t, extra, func(o *runtest.Options) { o.NATS = server.URL() })}
	p.begin()
	for range 2 {
		other := p.opts
		other.Dir = t.TempDir()
		require.NoError(t, os.Symlink(filepath.Join(p.opts.Dir, "blobs"), filepath.Join(other.Dir, "blobs")))
		other.DB = map[string]*pg.DB{"pec-gateway": pgtest.Again(t, p.DB("pec-gateway")), "probe": pgtest.Again(t, p.DB("probe"))}
		runtest.Start(t, other)
	}
	_, err = p.sandbox.SetPECProvider(t.Context(), client.PECProvider{ID: "alfa", PerMinute: 6})
	require.NoError(t, err)
	var all []*pecv1.Message
	for range manyAtOnce {
		all = append(all, p.send(recipient))
	}
	for left := manyAtOnce; left > 0; left -= 6 {
		want := manyAtOnce - left + min(left, 6)
		p.eventually(fmt.Sprint(want, " have left"), func() bool { return len(p.submissions()) >= want })
		require.Len(t, p.submissions(), want)
		p.advance(66 * time.Second) // the provider's minute is over first
		p.ahead.Add(int64(66 * time.Second))
		p.resume()
	}
	for i, s := range p.submissions() {
		require.Equal(t, all[i].GetMessageId(), s.MsgID, "order")
	}
	require.Zero(t, p.query(`SELECT count(*) FROM sending_attempt WHERE cause = 'throttled'`), "the provider had to say that it was too much")
	p.everything()
}

// TestA15SizesAreThoseOfTheProvider: what the pre-flight lets pass the provider takes, to the byte, and what it refuses
// the provider would have refused. Base64 is counted: the size is that of what leaves.
func TestA15SizesAreThoseOfTheProvider(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "limits.json")
	p := &post{house: prepare(t, strings.Replace(quickly, "sending: {", fmt.Sprintf("sending: {limits_file: %q, ", file), 1))}
	sized := func() *pecv1.SendMessageRequest {
		req := p.request(recipient, "destinatario@alfa.test")
		req.Attachments[0].Data = bytes.Repeat([]byte("0123456789"), 6_000)
		return req
	}
	limit := func(volume int64) {
		require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `{"sandbox": {"volume": %d, "reserve": 0}}`, volume), 0o600))
	}
	limit(30_000_000)
	p.start()
	p.begin()
	p.believe()
	m, err := p.api.SendMessage(t.Context(), sized())
	require.NoError(t, err)
	p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	size := m.GetContent().GetSize()
	require.Greater(t, size, int64(60_000*4/3), "as it leaves")
	for _, c := range []struct {
		volume int64
		fits   bool
	}{{2 * size, true}, {2*size - 1, false}} {
		_, err := p.sandbox.SetPECProvider(t.Context(), client.PECProvider{ID: "alfa", Volume: c.volume})
		require.NoError(t, err)
		p.Stop()
		limit(c.volume)
		p.start()
		p.delivery = pecv1.NewPecDeliveryServiceClient(p.Tenant("pec-gateway", tenant))
		m, err := p.api.SendMessage(t.Context(), sized())
		if c.fits {
			require.NoError(t, err)
			require.Equal(t, size, m.GetContent().GetSize())
			p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
			continue
		}
		requireFault(t, err, "MESSAGE_NOT_ACCEPTABLE")
		require.Equal(t, "TOO_LARGE", fault.Of(err).Fields[0].Code)
		// The provider agrees: what our limits let pass then, it refuses.
		p.Stop()
		limit(30_000_000)
		p.start()
		p.delivery = pecv1.NewPecDeliveryServiceClient(p.Tenant("pec-gateway", tenant))
		m, err = p.api.SendMessage(t.Context(), sized())
		require.NoError(t, err)
		p.state(m, pecv1.MessageState_MESSAGE_STATE_REFUSED)
	}
	p.everything()
}

// TestA18RefusedBeforeConnecting: a message with a copy and no recipient, or with recipients that are none, is refused at each door (the
// call, a draft, another service's request) with the field that is wrong and what to mend. Nothing is written down and the provider's
// server is not even called. What the access point would do with a message without To the sandbox's tests show. TESTPLAN A18.
func TestA18RefusedBeforeConnecting(t *testing.T) {
	t.Parallel()
	h := prepare(t, quickly)
	conf, text := selfSigned(t, "localhost", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	f := newFront(t, h.world.Endpoints().PEC.SMTPSAddr, h.world.CAPEM(), conf)
	file := filepath.Join(h.opts.Dir, "ca.pem")
	trusted, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, append(append(trusted, '\n'), text...), 0o600))
	h.opts.Config = strings.Replace(h.opts.Config, strconv.Quote(h.world.Endpoints().PEC.SMTPSAddr), strconv.Quote(f.address), 1)
	h.start()
	p := &post{house: h}
	p.begin()
	p.believe()
	before := f.visited() // when the mailbox was tried
	for name, c := range map[string]struct {
		to, cc []string
		field  string
		code   string
	}{
		"a copy alone":           {nil, []string{recipient}, "to", "TO_MISSING"},
		"nobody":                 {nil, nil, "to", "TO_MISSING"},
		"a recipient injected":   {[]string{"a@beta.test>\r\nRCPT TO:<b@beta.test"}, nil, "to[0]", "RECIPIENT_INVALID"},
		"a copy with a new line": {[]string{recipient}, []string{"a@beta.test\r\nBcc: b@beta.test"}, "cc[0]", "RECIPIENT_INVALID"},
	} {
		req := p.request(c.to...)
		req.Cc = c.cc
		_, err := p.api.SendMessage(t.Context(), req)
		require.Error(t, err, name)
		require.True(t, fault.Permanent(err), name)
		named := func(fields []fault.Field, path string) bool {
			return slices.ContainsFunc(fields, func(f fault.Field) bool { return f.Path == path && f.Message != "" })
		}
		require.True(t, named(fault.Of(err).Fields, c.field), "%s: %v %v", name, err, fault.Of(err).Fields)

		d := p.draft(p.box, &pecv1.Draft{Subject: "Bozza", Text: "x", To: c.to, Cc: c.cc})
		_, err = p.drafts().SendDraft(t.Context(), &pecv1.SendDraftRequest{Name: d.GetName(), RequestId: uuid.NewString()})
		requireFault(t, err, "MESSAGE_NOT_ACCEPTABLE")
		fields := fault.Of(err).Fields
		require.True(t, named(fields, c.field), "%s: %v", name, fields)
		require.True(t, slices.ContainsFunc(fields, func(f fault.Field) bool { return f.Code == c.code }), "%s: %v", name, fields)

		req.RequestId = uuid.NewString()
		p.requested(req)
		refused := func() *pecv1.MessageRequestRefused {
			for _, e := range heard[*pecv1.MessageRequestRefused](h) {
				if e.GetRequestId() == req.GetRequestId() {
					return e
				}
			}
			return nil
		}
		p.eventually(name+": who asked is told", func() bool { return refused() != nil })
		require.Equal(t, "MESSAGE_NOT_ACCEPTABLE", refused().GetCode(), name)
		require.Equal(t, fault.Of(err).Message, refused().GetReason(), name)
	}
	require.Zero(t, p.query(`SELECT count(*) FROM message WHERE direction = 2`))
	require.Zero(t, p.query(`SELECT count(*) FROM sending_attempt`))
	require.Equal(t, before, f.visited(), "the provider's server was called")
	require.Empty(t, p.submissions())

	good := p.request(recipient)
	good.Cc = []string{"destinatario@alfa.test"}
	m, err := p.api.SendMessage(t.Context(), good)
	require.NoError(t, err)
	p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	require.Greater(t, f.visited(), before)
	p.everything()
}

// requested asks for a message as another service does.
func (p *post) requested(req *pecv1.SendMessageRequest) {
	p.t.Helper()
	raw, err := proto.Marshal(req)
	require.NoError(p.t, err)
	probe := p.Host("probe")
	ref, err := probe.Blobs.Put(p.t.Context(), tenant, raw)
	require.NoError(p.t, err)
	require.NoError(p.t, probe.DB.Tx(context.Background(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		return probe.Bus.Emit(ctx, tx, &pecv1.MessageRequested{
			Mailbox: p.box, RequestId: req.GetRequestId(), Request: &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size},
		})
	}))
}
