package pecgateway_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/bus"
)

// destroyed plays the archive: it says that units about these subjects were destroyed.
func (h *house) destroyed(disposal string, at time.Time, subjects ...string) {
	h.t.Helper()
	require.NoError(h.t, h.DB("probe").Tx(context.Background(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		return h.Host("probe").Bus.Emit(bus.WithCorrelation(ctx, disposal), tx, &conservationv1.UnitsDestroyed{
			Disposal: parent + "/disposals/" + disposal, Package: parent + "/packages/p1", Subjects: subjects, Time: stampOf(at), Part: 1})
	}))
}

// TestDestroyedMessages: when the archive has destroyed messages, nothing is left of them here but ids, digests, times and kinds,
// also in the log of the mailbox, which lets nothing else through; whoever asks for more is told why; what the provider still has
// is not taken in again; others stay as they are.
func TestDestroyedMessages(t *testing.T) {
	t.Parallel()
	h := open(t, quick)
	h.believe()
	box := h.add(recipient)
	h.inject(recipient, withAttachment("Preventivo zappaterra", "La parola quintiliano sta nel testo.", "sesto-2026.pdf"))
	h.inject(recipient, plain("resta"))
	sent, err := h.api.SendMessage(t.Context(), &pecv1.SendMessageRequest{Parent: box.GetName(), To: []string{sender}, Subject: "nostra zappaterra", Text: "quintiliano", RequestId: uuid.NewString()})
	require.NoError(t, err)
	h.eventually("delivered, and its hand-over is in the log", func() bool {
		h.settle()
		return h.get(sent.GetName()).GetState() == pecv1.MessageState_MESSAGE_STATE_DELIVERED && h.query(`SELECT count(*) FROM sending WHERE step = 'done'`) == 1
	})
	h.kept(box)
	h.eventually("words are entered", func() bool { return h.query(`SELECT count(*) FROM word_owed`) == 0 })
	uploaded, err := h.Host("pec-gateway").Blobs.Put(t.Context(), tenant, []byte("%PDF")) // by itself, before it was attached
	require.NoError(t, err)
	var gone []string
	var stays *pecv1.Message
	for _, m := range h.list(box) {
		if m.GetSubject() == "resta" {
			stays = m
		} else {
			gone = append(gone, m.GetName())
		}
	}
	require.Len(t, gone, 4, "ours with its two receipts, and what came")
	before, lines := h.get(gone[0]), h.query(`SELECT count(*) FROM log_entry`)

	at := time.Date(2037, 2, 3, 4, 5, 6, 0, time.UTC)
	h.destroyed("d1", at, append([]string{box.GetName() + "/days/2026-01-01", parent + "/deposits/x", "tenants/other/mailboxes/" + uuid.NewString() + "/messages/" + lastOf(stays.GetName())}, gone...)...)
	h.eventually("it is told", func() bool { return h.get(gone[3]).GetDestruction() != nil })
	after := h.get(gone[0])
	h.destroyed("d2", time.Now(), gone...)
	h.eventually("told twice", func() bool { return h.query(`SELECT count(*) FROM inbox WHERE consumer = 'destroyed'`) == 2 })
	require.True(t, proto.Equal(after, h.get(gone[0])), "what is reduced stays as it is")
	for _, name := range gone {
		m := h.get(name)
		require.Equal(t, parent+"/disposals/d1", m.GetDestruction().GetDisposal())
		require.Equal(t, at, m.GetDestruction().GetTime().AsTime())
		require.NotEmpty(t, m.GetContent().GetSha256())
		require.Empty(t, m.GetSubject()+m.GetFrom()+m.GetMessageId()+m.GetCertifiedSender()+strings.Join(m.GetTo(), ""))
		stream, err := h.api.GetMessageContent(t.Context(), &pecv1.GetMessageContentRequest{Name: name})
		require.NoError(t, err)
		_, err = stream.Recv()
		requireFault(t, err, "DOCUMENT_DESTROYED")
		require.ErrorContains(t, err, "2037-02-03T04:05:06Z by "+parent+"/disposals/d1")
		evidence, err := h.api.GetMessageEvidence(t.Context(), &pecv1.GetMessageEvidenceRequest{Name: name})
		require.NoError(t, err)
		_, err = evidence.Recv()
		requireFault(t, err, "DOCUMENT_DESTROYED")
		_, err = h.api.ReadMessageAgain(t.Context(), &pecv1.ReadMessageAgainRequest{Name: name})
		requireFault(t, err, "DOCUMENT_DESTROYED")
	}
	require.Equal(t, before.GetContent().GetSha256(), after.GetContent().GetSha256())
	require.Equal(t, before.GetKind(), after.GetKind())
	require.Empty(t, h.list(box, func(r *pecv1.ListMessagesRequest) { r.Text = "quintiliano" }))
	require.Len(t, h.list(box, func(r *pecv1.ListMessagesRequest) { r.Subject = "resta" }), 1)

	h.answers(t, gone, stays, uploaded.URI())
	h.renumber(box) // the provider shows all of it anew
	h.lookedAgain(box)
	require.Len(t, h.list(box), 5)
	dump := strings.ToLower(h.dump())
	for _, word := range []string{"zappaterra", "quintiliano", "sesto-2026", "ditta rossi"} {
		require.NotContains(t, dump, word)
	}
	require.Contains(t, dump, "resta")
	require.Equal(t, lines, h.query(`SELECT count(*) FROM log_entry`), "the log keeps its lines")
	found := `SELECT count(*) FROM log_address a JOIN log_entry l ON l.tenant_id = a.tenant_id AND l.number = a.number WHERE (l.detail LIKE 'destroyed by %') = $1`
	require.Zero(t, h.query(found, true), "and nobody is found by them")
	require.Positive(t, h.query(found, false))
	require.Positive(t, h.query(`SELECT count(*) FROM log_entry WHERE detail = 'destroyed by tenants/acme/disposals/d1'`))
	for _, change := range []string{
		`UPDATE log_entry SET subject = '' WHERE message_id = $1`,
		`UPDATE log_entry SET msgid = '', reference = '', identificativo = '', sender = '', recipients = '{}', subject = '', detail = 'destroyed by tenants/acme/disposals/d1' WHERE message_id = $1`,
		`DELETE FROM log_entry WHERE message_id = $1`,
	} {
		err = h.DB("pec-gateway").Tx(context.Background(), tenant, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, change, uuid.MustParse(lastOf(stays.GetName())))
			return err
		})
		require.ErrorContains(t, err, "what happened is not changed", change)
	}
}

func lastOf(name string) string { return name[strings.LastIndex(name, "/")+1:] }

// answers: the messages and what was attached to them are told, twice alike, and needed by none of them; what stands needs its own.
func (h *house) answers(t *testing.T, gone []string, stays *pecv1.Message, attached string) {
	t.Helper()
	h.eventually("answered", func() bool { return len(heard[*conservationv1.CopiesFound](h)) == 2 })
	for _, answer := range heard[*conservationv1.CopiesFound](h) {
		uris := map[string]string{}
		for _, c := range answer.GetCopies() {
			uris[c.GetUri()] = c.GetWhat()
		}
		require.Len(t, uris, len(gone)+1)
		require.Equal(t, "attachment", uris[attached])
		for _, name := range gone {
			require.Equal(t, "message", uris[h.get(name).GetContent().GetUri()])
		}
	}
	require.NoError(t, h.DB("probe").Tx(context.Background(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		return h.Host("probe").Bus.Emit(ctx, tx, &conservationv1.CopiesCondemned{Disposal: parent + "/disposals/d1", Package: parent + "/packages/p1", Round: 1, Part: 1,
			Uris: []string{h.get(gone[0]).GetContent().GetUri(), stays.GetContent().GetUri(), attached}})
	}))
	h.eventually("asked", func() bool { return len(heard[*conservationv1.CopiesNeeded](h)) == 1 })
	needed := heard[*conservationv1.CopiesNeeded](h)[0]
	require.Len(t, needed.GetCopies(), 1)
	require.Equal(t, stays.GetContent().GetUri(), needed.GetCopies()[0].GetUri())
	require.Equal(t, int64(1), needed.GetCopies()[0].GetOthers())
}

// TestDestroyedOfARestoredMailbox: the file that a mailbox was restored from is told with each message in it that is destroyed, and
// needed for as long as another stands; restored once more, it brings nothing back.
func TestDestroyedOfARestoredMailbox(t *testing.T) {
	t.Parallel()
	h := open(t, quick)
	h.believe()
	box := h.add(sender)
	h.inject(sender, plain("zappaterra"))
	h.inject(sender, plain("resta"))
	sent, err := h.api.SendMessage(t.Context(), &pecv1.SendMessageRequest{Parent: box.GetName(), To: []string{recipient}, Subject: "nostra", Text: "testo", RequestId: uuid.NewString()})
	require.NoError(t, err)
	h.eventually("delivered", func() bool {
		h.settle()
		return h.get(sent.GetName()).GetState() == pecv1.MessageState_MESSAGE_STATE_DELIVERED
	})
	h.kept(box)
	stream, err := h.desk().ExportMailbox(t.Context(), &pecv1.ExportMailboxRequest{Name: box.GetName()})
	require.NoError(t, err)
	archive := h.upload(drain(t, func() ([]byte, error) {
		r, err := stream.Recv()
		return r.GetData(), err
	}).Bytes())

	other := h.add(recipient)
	h.kept(other)
	for _, b := range []*pecv1.Mailbox{box, other} {
		_, err = h.api.SuspendMailbox(t.Context(), &pecv1.SuspendMailboxRequest{Name: b.GetName()})
		require.NoError(t, err)
	}
	restore := func() []int64 {
		got, err := h.desk().RestoreMailbox(t.Context(), &pecv1.RestoreMailboxRequest{Name: other.GetName(), Archive: archive})
		require.NoError(t, err)
		require.True(t, got.GetDone())
		return []int64{got.GetRestored(), got.GetKnown()}
	}
	require.Equal(t, []int64{5, 0}, restore(), "what was sent with its two receipts, and what came")
	needed := func(round int32) int64 {
		require.NoError(t, h.DB("probe").Tx(context.Background(), tenant, func(ctx context.Context, tx pgx.Tx) error {
			return h.Host("probe").Bus.Emit(ctx, tx, &conservationv1.CopiesCondemned{Disposal: parent + "/disposals/d1", Package: parent + "/packages/p1", Round: round, Part: 1, Uris: []string{archive.GetUri()}})
		}))
		h.eventually("asked", func() bool { return len(heard[*conservationv1.CopiesNeeded](h)) == int(round) })
		others := int64(0)
		for _, c := range heard[*conservationv1.CopiesNeeded](h)[round-1].GetCopies() {
			others += c.GetOthers()
		}
		return others
	}
	require.EqualValues(t, 5, needed(1))
	var gone []string
	var last string
	for _, m := range h.list(other) {
		if m.GetSubject() == "resta" {
			last = m.GetName()
		} else {
			gone = append(gone, m.GetName())
		}
	}
	h.destroyed("d1", time.Now(), gone...)
	h.eventually("told", func() bool { return len(heard[*conservationv1.CopiesFound](h)) == 1 })
	require.Contains(t, heard[*conservationv1.CopiesFound](h)[0].String(), archive.GetUri())
	require.EqualValues(t, 1, needed(2), "one message that came in it stands")
	h.destroyed("d1", time.Now(), last)
	h.eventually("told", func() bool { return len(heard[*conservationv1.CopiesFound](h)) == 2 })
	require.Contains(t, heard[*conservationv1.CopiesFound](h)[1].String(), archive.GetUri())
	require.Zero(t, needed(3))
	require.Equal(t, []int64{0, 5}, restore(), "what was destroyed is known again by its bytes")
	require.Zero(t, needed(4))
}
