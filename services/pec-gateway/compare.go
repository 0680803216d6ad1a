package pecgateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/jackc/pgx/v5"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// codeContent stands before what differs between what was sent and what a receipt says was delivered.
const codeContent = "PEC_CONTENT_DIFFERS"

// comparison is what a delivery receipt shows of the content. It is kept with the report.
type comparison struct {
	Receipt     string           `json:"receipt"` // completa, breve, sintetica
	Compared    bool             `json:"compared"`
	Files       []pec.BreveCheck `json:"files,omitempty"`
	Differences []string         `json:"differences,omitempty"`
	Note        string           `json:"note,omitempty"`
}

// maxDifferences bounds what is kept of a content that has nothing to do with ours.
const maxDifferences = 50

func (c *comparison) differ(format string, a ...any) {
	if len(c.Differences) < maxDifferences {
		c.Differences = append(c.Differences, trim(fmt.Sprintf(format, a...), 500))
	}
}

// compare holds a proven delivery receipt about a message of ours against the bytes that were sent. What cannot be
// compared is said so and stops nothing. An error is that of a store that is away.
// spec: RFC6109 §3.3.2.1, §3.3.2.2
func (s *Service) compare(ctx context.Context, box db.Mailbox, j *judged, batch *sentBatch) error {
	if !j.proven || j.tipo != pec.AvvenutaConsegna {
		return nil
	}
	c := &comparison{Receipt: string(j.reading.Ricevuta())}
	if j.reading.Ricevuta() == pec.Sintetica {
		c.Note = "a synthetic receipt repeats nothing of the content"
		return j.keepComparison(c)
	}
	sent, done := batch.of(ctx, s, box, j)
	defer done()
	if sent.err != nil || !sent.ours {
		return sent.err
	}
	if sent.note != "" {
		c.Note = sent.note
		return j.keepComparison(c)
	}
	if err := c.against(j.reading, sent); err != nil {
		c.Compared, c.Note = false, trim("it could not be compared: "+err.Error(), 500)
	}
	return j.keepComparison(c)
}

// sentOf is the message of ours that a receipt names, nil for none.
func (s *Service) sentOf(ctx context.Context, box db.Mailbox, j *judged) (*db.Message, error) {
	if j.ref == "" && j.ident == "" {
		return nil, nil
	}
	var row db.Message
	err := s.db.View(ctx, box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		row, err = q(tx).SentOf(ctx, db.SentOfParams{TenantID: box.TenantID, MailboxID: box.ID, Msgid: j.ref, Identificativo: j.ident})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &row, err
}

// against compares; a panic of a reader on odd bytes is an error like any other.
func (c *comparison) against(r *pec.Reading, sent *sentContent) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the reader failed: %v\n%s", p, debug.Stack())
		}
	}()
	original, err := r.OriginalMessage()
	if err != nil {
		return err
	}
	if original == nil {
		return errors.New("the receipt brings no original, although its type says so")
	}
	if sent.odd != nil {
		return sent.odd
	}
	if r.Ricevuta() == pec.Breve {
		return c.hashes(original, sent.root)
	}
	return c.whole(original, sent.root)
}

func (c *comparison) hashes(original, sent *pec.Part) error {
	rep, err := pec.CheckBreve(original, sent)
	if err != nil {
		return err
	}
	if rep.Whole { // nothing was replaced by a hash, as in a message without attachments: all of it came back
		return c.whole(original, sent)
	}
	c.Compared = true
	for _, f := range rep.Checks {
		f.Name = trim(f.Name, 300)
		if !f.Match {
			c.differ("the hash of %q is not that of the file that was sent", f.Name)
		}
		if len(c.Files) < maxPieces {
			c.Files = append(c.Files, f)
		}
	}
	for _, name := range rep.Missing {
		c.differ("%q was sent, and the receipt has no hash of it", trim(name, 300))
	}
	return nil
}

func (c *comparison) whole(original, sent *pec.Part) error {
	rep, err := pec.CheckOriginal(original, sent)
	if err != nil {
		return err
	}
	c.Compared = true
	if rep.Variant != "exact" {
		c.Note = rep.Variant
	}
	if !rep.Body {
		c.differ("the content is not the one that was sent")
	}
	for _, name := range rep.Changed {
		c.differ("the header field %s is missing or has another value", trim(name, 100))
	}
	return nil
}

func (c *comparison) differs() bool { return c != nil && len(c.Differences) > 0 }

// keepComparison puts it into the record of the message.
func (j *judged) keepComparison(c *comparison) error {
	j.content = c
	for _, d := range c.Differences {
		if len(j.doubts) < maxDifferences {
			j.doubts = append(j.doubts, codeContent+": "+d)
		}
	}
	return j.store()
}

// store writes the record of the verification anew.
func (j *judged) store() (err error) {
	j.stored, err = json.Marshal(record{Report: j.report, Reading: j.reading.Findings, Content: j.content, Registered: j.registered, Vouched: j.vouched})
	return err
}

// flagContent tells that something else was delivered than was sent, and keeps it beside the fact.
func (s *Service) flagContent(ctx context.Context, tx pgx.Tx, about db.Message, receipt db.RemarkFactParams, j *judged) error {
	receipt.Remark = trim(fmt.Sprintf("delivered to %s: %s", or(j.reading.Daticert.Consegna, "a recipient"), strings.Join(j.content.Differences, "; ")), 1000)
	err := q(tx).RemarkFact(ctx, receipt)
	if err != nil {
		return err
	}
	return s.bus.Emit(bus.WithCorrelation(ctx, about.ID.String()), tx, &pecv1.DeliveredContentDiffers{
		Message: messageName(about.TenantID, about.MailboxID, about.ID), Receipt: messageName(about.TenantID, about.MailboxID, receipt.ReceiptID),
		Differences: int32(len(j.content.Differences)), //nolint:gosec // bounded
	})
}

func showComparison(c *comparison) *pecv1.ContentCheck {
	if c == nil {
		return nil
	}
	out := &pecv1.ContentCheck{ReceiptType: c.Receipt, Differences: c.Differences, Note: c.Note, Verdict: pecv1.ContentVerdict_CONTENT_VERDICT_SAME}
	switch {
	case !c.Compared:
		out.Verdict = pecv1.ContentVerdict_CONTENT_VERDICT_NOT_COMPARED
	case c.differs():
		out.Verdict = pecv1.ContentVerdict_CONTENT_VERDICT_DIFFERS
	}
	for _, f := range c.Files {
		out.Files = append(out.Files, &pecv1.FileHashCheck{FileName: f.Name, Hash: f.Hash, Match: f.Match, Variant: f.Variant})
	}
	return out
}
