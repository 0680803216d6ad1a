package pecgateway_test

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/sandbox/client"
)

// known is everything that is known of the messages of a mailbox, without the names that this platform gave.
func (h *house) known(box *pecv1.Mailbox) []string {
	h.t.Helper()
	var out []string
	require.NoError(h.t, h.DB("pec-gateway").System(context.Background(), func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT concat_ws('|', m.direction, encode(m.sha256, 'hex'), m.kind, m.tipo, m.state, m.message_id, m.reference, m.identificativo, m.from_address,
				m.certified_sender, m.recipients::text, m.subject, m.folder, m.proven, m.verification, m.doubts::text, m.contradictions::text, m.quarantine_code, m.certified_time,
				m.receive_time, encode(a.sha256, 'hex'),
				(SELECT string_agg(concat_ws(' ', r.address, r.field, r.state, r.final, r.late, r.at, r.cause), ', ' ORDER BY r.address) FROM recipient r WHERE r.message_id = m.id),
				(SELECT string_agg(concat_ws(' ', f.kind, f.at, f.recipient, f.identificativo, f.cause, f.remark), ', ' ORDER BY f.kind, f.at, f.recipient) FROM fact f WHERE f.message_id = m.id))
			FROM message m JOIN mailbox b ON b.id = m.mailbox_id LEFT JOIN message a ON a.id = m.about_id WHERE b.address = $1`, box.GetAddress())
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	}))
	slices.Sort(out)
	return out
}

// upload keeps a file for a request.
func (h *house) upload(data []byte) *eventv1.Blob {
	h.t.Helper()
	up, err := pecv1.NewPecDeliveryServiceClient(h.Tenant("pec-gateway", tenant)).UploadAttachment(h.t.Context())
	require.NoError(h.t, err)
	for i, part := range slices.Collect(slices.Chunk(data, 1<<19)) {
		req := &pecv1.UploadAttachmentRequest{Data: part}
		if i == 0 {
			req.Parent = parent
		}
		require.NoError(h.t, up.Send(req))
	}
	kept, err := up.CloseAndRecv()
	require.NoError(h.t, err)
	return kept.GetContent()
}

// TestG3RestoredFromTheArchiveAlone: a mailbox with messages in every state, receipts in odd orders, forgeries, mail that a
// rule kept away and a quarantine is exported, and restored into an empty platform from that file alone: everything that was
// known is known again, and nothing is sent. A second time changes nothing, and a changed file is refused.
func TestG3RestoredFromTheArchiveAlone(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	_, err := p.api.UpdateMailbox(t.Context(), &pecv1.UpdateMailboxRequest{Mailbox: &pecv1.Mailbox{Name: p.box, OrdinaryRule: &pecv1.OrdinaryRule{
		Action: pecv1.OrdinaryAction_ORDINARY_ACTION_REJECT}}, UpdateMask: mask("ordinary_rule")})
	require.NoError(t, err)
	for _, to := range [][]string{{recipient, "inesistente@beta.test", "qualcuno@example.test"}, {"contraddetta@beta.test"}, {"muta@beta.test"}} {
		m := p.send(to...)
		p.eventually("accepted", func() bool { return p.get(m.GetName()).GetProviderId() != "" })
	}
	p.state(p.send("non-accettata@beta.test"), pecv1.MessageState_MESSAGE_STATE_REFUSED)
	p.fault(client.FaultPECCutBefore)
	unknown := p.send(recipient)
	p.reaches(unknown, pecv1.DeliveryStep_DELIVERY_STEP_DECISION_NEEDED)
	for _, how := range []string{"unsigned", "bad_signature", "two_daticert"} {
		require.NoError(t, p.sandbox.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: "avvenuta-consegna", MsgID: unknown.GetMessageId(), Recipient: recipient, How: how}))
	}
	p.inject(sender, plain("non certificata"))
	p.settle()
	p.kept(p.mailbox())
	p.house.lookedAgain(p.mailbox())
	want := p.known(p.mailbox())
	submissions := len(p.submissions())

	stream, err := p.desk().ExportMailbox(t.Context(), &pecv1.ExportMailboxRequest{Name: p.box})
	require.NoError(t, err)
	file := drain(t, func() ([]byte, error) {
		r, err := stream.Recv()
		return r.GetData(), err
	}).Bytes()

	// Another platform: nothing of the first but its trust list and the file.
	h := open(t, "")
	index, err := p.sandbox.PECIndex(t.Context())
	require.NoError(t, err)
	_, err = h.trust.ImportTrustList(t.Context(), &pecv1.ImportTrustListRequest{Index: index, IndexAuthorityPem: string(p.world.CAPEM()), AuthoritiesPem: p.authorities()})
	require.NoError(t, err)
	box := h.add(sender)
	archive := h.upload(file)
	restore := func(from *eventv1.Blob) (restored, known int64, err error) {
		for position, done := int64(0), false; !done; {
			got, err := h.desk().RestoreMailbox(t.Context(), &pecv1.RestoreMailboxRequest{Name: box.GetName(), Archive: from, Position: position})
			if err != nil {
				return restored, known, err
			}
			restored, known, position, done = restored+got.GetRestored(), known+got.GetKnown(), got.GetPosition(), got.GetDone()
		}
		return restored, known, nil
	}
	_, _, err = restore(archive)
	requireFault(t, err, "MAILBOX_NOT_SUSPENDED")
	_, err = h.api.SuspendMailbox(t.Context(), &pecv1.SuspendMailboxRequest{Name: box.GetName()})
	require.NoError(t, err)
	restored, known, err := restore(archive)
	require.NoError(t, err)
	require.Equal(t, []int64{int64(len(want)), 0}, []int64{restored, known})
	require.Equal(t, strings.Join(want, "\n"), strings.Join(h.known(box), "\n"))
	restored, known, err = restore(archive)
	require.NoError(t, err)
	require.Equal(t, []int64{0, int64(len(want))}, []int64{restored, known}, "a second time changes nothing")
	require.Equal(t, want, h.known(box))
	require.Empty(t, heard[*pecv1.MessageReceived](h), "nobody is told of mail that came long ago")
	require.Len(t, p.submissions(), submissions)
	list, err := h.sandbox.PECSubmissions(t.Context(), sender)
	require.NoError(t, err)
	require.Empty(t, list, "nothing is sent")

	_, _, err = restore(h.upload(changed(t, file)))
	requireFault(t, err, "ARCHIVE_INVALID")
	_, _, err = restore(h.upload([]byte("no zip")))
	requireFault(t, err, "ARCHIVE_INVALID")
	_, _, err = restore(&eventv1.Blob{Uri: strings.Replace(archive.GetUri(), "tenants/"+tenant, "tenants/other", 1), Sha256: make([]byte, 32)})
	requireFault(t, err, "ARCHIVE_INVALID")
	p.invariants()
	p.house.invariants(p.mailbox())
	_, err = h.api.ResumeMailbox(t.Context(), &pecv1.ResumeMailboxRequest{Name: box.GetName()})
	require.NoError(t, err)
	h.invariants(box)
}

// changed is a ZIP with one byte of its first message changed.
func changed(t *testing.T, file []byte) []byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for i, f := range z.File {
		r, err := f.Open()
		require.NoError(t, err)
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		if i == 0 {
			data[len(data)/2] ^= 1
		}
		in, err := w.Create(f.Name)
		require.NoError(t, err)
		_, err = in.Write(data)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}
