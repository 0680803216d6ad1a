package pecgateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// answering is how this service signs its answers to the archive.
const answering = "pec-gateway"

// copiesArgs is the job of answering what the platform's store has of messages that were destroyed: they are read once more, for
// what was attached to them was uploaded by itself, and lies there by itself.
type copiesArgs struct {
	Disposal  string      `json:"disposal"`
	Package   string      `json:"package"`
	Part      int32       `json:"part"`
	Messages  []uuid.UUID `json:"messages"`
	Mailboxes []uuid.UUID `json:"mailboxes"` // of the days
	Days      []string    `json:"days"`      // {mailbox}/{day}
}

// Kind implements river.JobArgs.
func (copiesArgs) Kind() string { return "tell-copies" }

// promiseCopies has the answer made after the transaction.
func (s *Service) promiseCopies(ctx context.Context, tx pgx.Tx, ev *conservationv1.UnitsDestroyed) error {
	args := copiesArgs{Disposal: ev.GetDisposal(), Package: ev.GetPackage(), Part: ev.GetPart()}
	prefix := "tenants/" + pg.Tenant(ctx) + "/mailboxes/"
	for _, subject := range ev.GetSubjects() {
		if _, id, ok := messageOf(ctx, subject); ok {
			args.Messages = append(args.Messages, id)
			continue
		}
		box, day, isDay := strings.Cut(strings.TrimPrefix(subject, prefix), "/days/")
		if id, err := uuid.Parse(box); isDay && err == nil && strings.HasPrefix(subject, prefix) {
			args.Mailboxes, args.Days = append(args.Mailboxes, id), append(args.Days, id.String()+"/"+day)
		}
	}
	if len(args.Days) > 0 {
		err := q(tx).BuryDays(ctx, db.BuryDaysParams{DestroyedBy: ev.GetDisposal(), TenantID: pg.Tenant(ctx), Days: args.Days, Mailboxes: args.Mailboxes})
		if err != nil {
			return fmt.Errorf("pec-gateway: reduce days that were destroyed: %w", err)
		}
	}
	if ev.GetPart() == 0 {
		return nil
	}
	return s.jobs.InsertTx(ctx, tx, args, nil)
}

// tellCopies answers.
func (s *Service) tellCopies(ctx context.Context, job *river.Job[copiesArgs]) error {
	tenant, a := pg.Tenant(ctx), job.Args
	var messages []db.CopiesOfRow
	var registers, archives []string
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		messages, err = q(tx).CopiesOf(ctx, db.CopiesOfParams{TenantID: tenant, Ids: a.Messages})
		if err == nil {
			registers, err = q(tx).RegistersOf(ctx, db.RegistersOfParams{TenantID: tenant, Days: a.Days, Mailboxes: a.Mailboxes})
		}
		if err == nil {
			archives, err = q(tx).ArchivesOf(ctx, db.ArchivesOfParams{TenantID: tenant, Ids: a.Messages})
		}
		return err
	})
	if err != nil {
		return err
	}
	c := &remains{s: s, tenant: tenant, seen: map[string]bool{},
		answer: &conservationv1.CopiesFound{Disposal: a.Disposal, Package: a.Package, Part: a.Part, Service: answering}}
	for _, uri := range registers {
		c.add("register", uri)
	}
	for _, uri := range archives {
		c.add("mailbox archive", uri)
	}
	for _, m := range messages {
		c.add("message", m.ContentUri)
		err = c.attached(ctx, m.ContentUri)
		if err != nil {
			return fmt.Errorf("pec-gateway: what is attached to message %s: %w", m.ID, err)
		}
	}
	return s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error { return s.bus.Emit(ctx, tx, c.answer) })
}

// remains gathers an answer.
type remains struct {
	s      *Service
	tenant string
	seen   map[string]bool
	answer *conservationv1.CopiesFound
}

func (c *remains) add(what, uri string) {
	if !c.seen[uri] {
		c.seen[uri] = true
		c.answer.Copies = append(c.answer.Copies, &conservationv1.FoundCopy{Uri: uri, What: what})
	}
}

// attached adds the parts of a message that the store has by themselves. A message that is there no more was answered for before,
// and one that cannot be read was never taken apart here.
func (c *remains) attached(ctx context.Context, uri string) error {
	sp, err := c.s.fromArchive(ctx, uri)
	if errors.Is(err, fault.NotFound("BLOB_NOT_FOUND", "")) {
		return nil
	}
	if err != nil {
		return err
	}
	defer sp.close()
	m, err := pec.Parse(sp, sp.size, pec.Limits{})
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	return c.parts(ctx, m.Root)
}

func (c *remains) parts(ctx context.Context, p *pec.Part) error {
	for _, child := range p.Parts {
		err := c.parts(ctx, child)
		if err != nil {
			return err
		}
	}
	if p.IsMultipart() {
		return nil
	}
	hash := sha256.New()
	size, err := io.Copy(hash, p.Open())
	if err != nil {
		return nil //nolint:nilerr // what does not decode was never stored by itself
	}
	ref := blob.Ref{Tenant: c.tenant, SHA256: [32]byte(hash.Sum(nil)), Size: size}
	_, err = c.s.blobs.Mark(ctx, ref)
	switch {
	case errors.Is(err, fault.NotFound("BLOB_NOT_FOUND", "")):
		return nil
	case err != nil:
		return err
	}
	c.add("attachment", ref.URI())
	return nil
}

// onCopiesCondemned says which of these bytes a message, a day or a draft needs that stands. An exported mailbox that was restored
// is needed by each message that came in it.
func (s *Service) onCopiesCondemned(ctx context.Context, tx pgx.Tx, ev *conservationv1.CopiesCondemned) error {
	rows, err := q(tx).NeedsOf(ctx, db.NeedsOfParams{TenantID: pg.Tenant(ctx), Uris: ev.GetUris()})
	if err != nil {
		return fmt.Errorf("pec-gateway: who needs copies: %w", err)
	}
	answer := &conservationv1.CopiesNeeded{Disposal: ev.GetDisposal(), Package: ev.GetPackage(), Round: ev.GetRound(), Part: ev.GetPart(), Service: answering}
	for _, r := range rows {
		answer.Copies = append(answer.Copies, &conservationv1.NeededCopy{Uri: r.Uri, Others: r.Others})
	}
	return s.bus.Emit(ctx, tx, answer)
}
