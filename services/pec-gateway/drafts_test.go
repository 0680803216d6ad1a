package pecgateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/fault"
)

func (h *house) drafts() pecv1.PecDraftServiceClient {
	return pecv1.NewPecDraftServiceClient(h.Tenant("pec-gateway", tenant))
}

// draft keeps a draft.
func (h *house) draft(box string, d *pecv1.Draft) *pecv1.Draft {
	h.t.Helper()
	kept, err := h.drafts().CreateDraft(h.t.Context(), &pecv1.CreateDraftRequest{Parent: box, Draft: d, RequestId: uuid.NewString()})
	require.NoError(h.t, err)
	return kept
}

// TestDraftIsSentOnce: a draft that lacks everything is kept, found, changed and sent: once, although two send it at the
// same time and one of them asks again. What the checks refuse stays a draft.
func TestDraftIsSentOnce(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	ctx, api := t.Context(), p.drafts()
	big := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
	save := &pecv1.CreateDraftRequest{Parent: p.box, RequestId: uuid.NewString(), Draft: &pecv1.Draft{
		Subject: "Disdetta", Text: "Buongiorno,\nda finire", To: []string{"non ancora"},
		Attachments: []*pecv1.Attachment{{FileName: "piccolo.txt", MediaType: "text/plain", Data: []byte("piccolo")}, {FileName: "grande.bin", Content: p.upload(big)}},
	}}
	d, err := api.CreateDraft(ctx, save)
	require.NoError(t, err)
	again, err := api.CreateDraft(ctx, save)
	require.NoError(t, err)
	require.Equal(t, d.GetName(), again.GetName(), "the same request makes one draft")
	require.Empty(t, d.GetAttachments()[0].GetData())
	require.EqualValues(t, 7, d.GetAttachments()[0].GetContent().GetSize())

	list, err := api.ListDrafts(ctx, &pecv1.ListDraftsRequest{Parent: p.box})
	require.NoError(t, err)
	require.Len(t, list.GetDrafts(), 1)
	require.Equal(t, "Disdetta", list.GetDrafts()[0].GetSubject())
	require.Empty(t, list.GetDrafts()[0].GetText(), "lists do without the text")

	_, err = api.SendDraft(ctx, &pecv1.SendDraftRequest{Name: d.GetName(), RequestId: uuid.NewString()})
	requireFault(t, err, "MESSAGE_NOT_ACCEPTABLE")
	require.Contains(t, fmt.Sprint(fault.Of(err).Fields), "RECIPIENT_INVALID")
	kept, err := api.GetDraft(ctx, &pecv1.GetDraftRequest{Name: d.GetName()})
	require.NoError(t, err, "what cannot be sent stays")
	require.Equal(t, "Buongiorno,\nda finire", kept.GetText())

	_, err = api.UpdateDraft(ctx, &pecv1.UpdateDraftRequest{Draft: &pecv1.Draft{Name: d.GetName(), Etag: `"7"`}, UpdateMask: mask("to")})
	requireFault(t, err, "ETAG_MISMATCH")
	changed, err := api.UpdateDraft(ctx, &pecv1.UpdateDraftRequest{
		Draft: &pecv1.Draft{Name: d.GetName(), Etag: kept.GetEtag(), To: []string{recipient}, Text: "Buongiorno,\nfinito."}, UpdateMask: mask("to", "text"),
	})
	require.NoError(t, err)
	require.Equal(t, "Disdetta", changed.GetSubject(), "what the mask does not name stays")
	require.Len(t, changed.GetAttachments(), 2)
	_, err = api.SendDraft(ctx, &pecv1.SendDraftRequest{Name: d.GetName(), Etag: kept.GetEtag(), RequestId: uuid.NewString()})
	requireFault(t, err, "ETAG_MISMATCH")
	_, err = api.DeleteDraft(ctx, &pecv1.DeleteDraftRequest{Name: d.GetName(), Etag: kept.GetEtag()})
	requireFault(t, err, "ETAG_MISMATCH")

	p.oneOfTwoSends(changed)
	require.Len(t, p.submissions(), 1)
	p.everything()
}

// oneOfTwoSends sends a draft twice at the same time, and the request that did it once more.
func (p *post) oneOfTwoSends(d *pecv1.Draft) {
	p.t.Helper()
	api := p.drafts()
	reqs := []*pecv1.SendDraftRequest{{Name: d.GetName(), RequestId: uuid.NewString()}, {Name: d.GetName(), RequestId: uuid.NewString()}}
	type answer struct {
		m   *pecv1.Message
		err error
	}
	answers := make([]chan answer, len(reqs))
	for i, req := range reqs {
		answers[i] = make(chan answer, 1)
		go func() {
			m, err := api.SendDraft(p.t.Context(), req)
			answers[i] <- answer{m, err}
		}()
	}
	var sent *pecv1.Message
	for i, req := range reqs {
		a := <-answers[i]
		if a.err != nil {
			requireFault(p.t, a.err, "DRAFT_NOT_FOUND")
			continue
		}
		require.Nil(p.t, sent, "one draft is one message")
		sent = a.m
		again, err := api.SendDraft(p.t.Context(), req)
		require.NoError(p.t, err, "the answer is there, though the draft is gone")
		require.Equal(p.t, sent.GetName(), again.GetName())
	}
	require.NotNil(p.t, sent)
	require.Zero(p.t, p.query(`SELECT count(*) FROM draft`))
	_, err := api.GetDraft(p.t.Context(), &pecv1.GetDraftRequest{Name: d.GetName()})
	requireFault(p.t, err, "DRAFT_NOT_FOUND")
	require.Equal(p.t, 1, p.query(`SELECT count(*) FROM message WHERE direction = 2`))
	p.reaches(sent, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	p.settle()
	p.eventually("it is delivered", func() bool { return p.get(sent.GetName()).GetState() == pecv1.MessageState_MESSAGE_STATE_DELIVERED })
	m, err := pec.ParseBytes(p.content(&pecv1.GetMessageContentRequest{Name: sent.GetName()}).Bytes())
	require.NoError(p.t, err)
	var names []string
	for _, a := range m.Root.Attachments() {
		n, err := io.Copy(io.Discard, a.Part.Open())
		require.NoError(p.t, err)
		names = append(names, fmt.Sprint(a.Name, " ", n))
	}
	require.Equal(p.t, []string{"piccolo.txt 7", "grande.bin 131072"}, names)
}

// TestDraftChangedWhileItIsSent: what somebody changed after it was composed does not leave in its former words.
func TestDraftChangedWhileItIsSent(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	d := p.draft(p.box, &pecv1.Draft{To: []string{recipient}, Subject: "Offerta", Text: "cento"})
	sent := make(chan error, 1)
	require.NoError(t, p.DB("pec-gateway").System(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		var me int
		err := tx.QueryRow(ctx, `SELECT pg_backend_pid() FROM draft FOR UPDATE`).Scan(&me)
		if err != nil {
			return err
		}
		go func() {
			_, err := p.drafts().SendDraft(t.Context(), &pecv1.SendDraftRequest{Name: d.GetName(), RequestId: uuid.NewString()})
			sent <- err
		}()
		p.eventually("the one who sends has composed, and waits for the draft", func() bool {
			return p.query(`SELECT count(*) FROM pg_locks WHERE NOT granted AND $1 = ANY (pg_blocking_pids(pid))`, me) > 0
		})
		_, err = tx.Exec(ctx, `UPDATE draft SET version = version + 1`) // as UpdateDraft does
		return err
	}))
	requireFault(t, <-sent, "ETAG_MISMATCH")
	require.Zero(t, p.query(`SELECT count(*) FROM message WHERE direction = 2`))
	require.Equal(t, 1, p.query(`SELECT count(*) FROM draft`))
	p.everything()
}

// TestDraftsAreRefused: what is not the caller's, too much, and what a mailbox may not send now.
func TestDraftsAreRefused(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	ctx, api := t.Context(), p.drafts()
	other := p.add(recipient).GetName()
	d := p.draft(p.box, &pecv1.Draft{To: []string{recipient}, Subject: "Prova", Text: "x"})

	elsewhere := strings.Replace(d.GetName(), p.box, other, 1)
	_, err := api.GetDraft(ctx, &pecv1.GetDraftRequest{Name: elsewhere})
	requireFault(t, err, "DRAFT_NOT_FOUND")
	_, err = api.SendDraft(ctx, &pecv1.SendDraftRequest{Name: elsewhere, RequestId: uuid.NewString()})
	requireFault(t, err, "DRAFT_NOT_FOUND")
	_, err = pecv1.NewPecDraftServiceClient(p.Tenant("pec-gateway", "globex")).GetDraft(ctx, &pecv1.GetDraftRequest{Name: d.GetName()})
	require.Error(t, err)
	require.NoError(t, p.DB("pec-gateway").Tx(ctx, "globex", func(ctx context.Context, tx pgx.Tx) error {
		var n int
		err := tx.QueryRow(ctx, `SELECT count(*) FROM draft`).Scan(&n)
		require.Zero(t, n, "rows of a tenant are that tenant's")
		return err
	}))

	for code, a := range map[string]*pecv1.Attachment{
		"ATTACHMENT_FOREIGN": {FileName: "a", Content: &eventv1.Blob{Uri: fmt.Sprintf("blob:tenants/globex/%064x?size=1", 1), Sha256: make([]byte, 32)}},
		"BLOB_NOT_FOUND":     {FileName: "a", Content: &eventv1.Blob{Uri: fmt.Sprintf("blob:tenants/%s/%064x?size=1", tenant, 1), Sha256: make([]byte, 32)}},
		"ATTACHMENT_CONTENT": {FileName: "a"},
	} {
		_, err = api.CreateDraft(ctx, &pecv1.CreateDraftRequest{Parent: p.box, Draft: &pecv1.Draft{Attachments: []*pecv1.Attachment{a}}, RequestId: uuid.NewString()})
		requireFault(t, err, code)
		_, err = api.UpdateDraft(ctx, &pecv1.UpdateDraftRequest{Draft: &pecv1.Draft{Name: d.GetName(), Attachments: []*pecv1.Attachment{a}}, UpdateMask: mask("attachments")})
		requireFault(t, err, code)
	}
	half := strings.Repeat("à", 1<<20)
	_, err = api.UpdateDraft(ctx, &pecv1.UpdateDraftRequest{Draft: &pecv1.Draft{Name: d.GetName(), Html: half}, UpdateMask: mask("html")})
	require.NoError(t, err)
	_, err = api.UpdateDraft(ctx, &pecv1.UpdateDraftRequest{Draft: &pecv1.Draft{Name: d.GetName(), Text: half}, UpdateMask: mask("text")})
	requireFault(t, err, "DRAFT_TOO_LARGE")
	_, err = api.UpdateDraft(ctx, &pecv1.UpdateDraftRequest{Draft: &pecv1.Draft{Name: d.GetName()}, UpdateMask: mask("html")})
	require.NoError(t, err, "small again: it is copied a thousand times below, and all of it is searched for secrets")
	_, err = api.UpdateDraft(ctx, &pecv1.UpdateDraftRequest{Draft: &pecv1.Draft{Name: d.GetName()}, UpdateMask: mask("etag")})
	requireFault(t, err, "FIELD_NOT_CHANGEABLE")

	_, err = p.api.SuspendMailbox(ctx, &pecv1.SuspendMailboxRequest{Name: p.box})
	require.NoError(t, err)
	_, err = api.SendDraft(ctx, &pecv1.SendDraftRequest{Name: d.GetName(), RequestId: uuid.NewString()})
	requireFault(t, err, "MAILBOX_CANNOT_SEND")
	_, err = api.GetDraft(ctx, &pecv1.GetDraftRequest{Name: d.GetName()})
	require.NoError(t, err)
	p.manyDrafts(d)
	_, err = p.api.ResumeMailbox(ctx, &pecv1.ResumeMailboxRequest{Name: p.box})
	require.NoError(t, err)
	require.Empty(t, p.submissions())
	p.everything()
	p.house.invariants(p.house.box(&pecv1.Mailbox{Name: other}))
}

// manyDrafts fills the mailbox with drafts, reads them all page by page, and removes one.
func (p *post) manyDrafts(d *pecv1.Draft) {
	p.t.Helper()
	ctx, api := p.t.Context(), p.drafts()
	p.exec(`INSERT INTO draft (tenant_id, id, mailbox_id, content, texts, create_time, update_time)
		SELECT tenant_id, gen_random_uuid(), mailbox_id, content, texts, create_time, update_time - (i % 7) * interval '1 hour' FROM draft, generate_series(1, 999) i`)
	_, err := api.CreateDraft(ctx, &pecv1.CreateDraftRequest{Parent: p.box, Draft: &pecv1.Draft{}, RequestId: uuid.NewString()})
	requireFault(p.t, err, "DRAFT_LIMIT")
	_, err = api.DeleteDraft(ctx, &pecv1.DeleteDraftRequest{Name: d.GetName()})
	require.NoError(p.t, err)
	var seen []string
	for token := ""; ; {
		page, err := api.ListDrafts(ctx, &pecv1.ListDraftsRequest{Parent: p.box, PageSize: 1000, PageToken: token})
		require.NoError(p.t, err)
		require.LessOrEqual(p.t, len(page.GetDrafts()), 100)
		for _, d := range page.GetDrafts() {
			seen = append(seen, d.GetName())
		}
		token = page.GetNextPageToken()
		if token == "" {
			break
		}
	}
	require.NotContains(p.t, seen, d.GetName())
	slices.Sort(seen)
	require.Len(p.t, slices.Compact(seen), 999)
}
