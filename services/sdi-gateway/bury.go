package sdigateway

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// gone begins what stands in place of the name of a file that was destroyed, where the name is part of a key.
const gone = "gone:"

// nameLeft is the name of a file as callers see it; empty once it was destroyed.
func nameLeft(stored string) string {
	if strings.HasPrefix(stored, gone) {
		return ""
	}
	return stored
}

// onUnitsDestroyed leaves of what the archive has destroyed what tells of nobody: sendings and SdI's messages about them, received
// invoices with their answers, certified mail that carried either. What is reduced already stays as it is.
func (s *Service) onUnitsDestroyed(ctx context.Context, tx pgx.Tx, ev *conservationv1.UnitsDestroyed) error {
	tenant := pg.Tenant(ctx)
	at := pg.Time(bus.Meta(ctx).Time)
	if ev.GetTime() != nil {
		at = pg.Time(ev.GetTime().AsTime())
	}
	b := &burial{tenant: tenant, by: ev.GetDisposal(), at: at, now: pg.Time(s.now()), q: db.New(tx)}
	for _, subject := range ev.GetSubjects() {
		parts := strings.Split(subject, "/")
		if len(parts) != 6 || parts[1] != tenant {
			continue
		}
		id, err := uuid.Parse(parts[5])
		switch {
		case err != nil:
		case parts[4] == "invoices":
			b.invoices = append(b.invoices, subject)
		case parts[4] == "inboundInvoices":
			b.inbound = append(b.inbound, id)
		case parts[4] == "messages":
			b.mail = append(b.mail, subject)
		}
	}
	for _, act := range []func(context.Context) error{b.sent, b.received, b.carried} {
		err := act(ctx)
		if err != nil {
			return fmt.Errorf("sdi-gateway: reduce what was destroyed: %w", err)
		}
	}
	if len(b.sums) > 0 {
		err := s.jobs.InsertTx(ctx, tx, burySupportsArgs{Sums: b.sums}, nil)
		if err != nil {
			return err
		}
	}
	if ev.GetPart() > 0 {
		err := s.jobs.InsertTx(ctx, tx, copiesArgs{Disposal: ev.GetDisposal(), Package: ev.GetPackage(), Part: ev.GetPart(), Invoices: b.invoices, Inbound: b.inbound}, nil)
		if err != nil {
			return err
		}
	}
	if b.reduced == 0 {
		return nil
	}
	return telemetry.Audit(telemetry.WithActor(ctx, "service:conservation"), tx, telemetry.Act{Action: "documents.destroyed", Resource: ev.GetPackage(),
		Detail: map[string]string{"disposal": ev.GetDisposal(), "documents": strconv.Itoa(b.reduced)}})
}

// burial is what one event takes away.
type burial struct {
	tenant, by string
	at, now    time.Time
	q          *db.Queries

	invoices []string    // issued
	inbound  []uuid.UUID // received
	mail     []string    // messages of certified mail

	sdiIDs  []string // of what was received
	sums    []string // digests of all that went, hex
	reduced int
}

func (b *burial) sent(ctx context.Context) error {
	if len(b.invoices) == 0 {
		return nil
	}
	rows, err := b.q.BuryTransmissions(ctx, db.BuryTransmissionsParams{TenantID: b.tenant, Invoices: b.invoices, DestroyedBy: b.by, DestroyTime: &b.at, Now: b.now})
	if err != nil || len(rows) == 0 {
		return err
	}
	ids, names := make([]uuid.UUID, len(rows)), make([]string, len(rows))
	for i, r := range rows {
		ids[i], names[i] = r.ID, r.FileName
		b.sums = append(b.sums, hex.EncodeToString(r.FileSha256))
	}
	b.reduced += len(rows)
	messages, err := b.q.BuryMessages(ctx, ids)
	for _, sum := range messages {
		b.sums = append(b.sums, hex.EncodeToString(sum))
	}
	if err != nil {
		return err
	}
	return b.q.BuryMailings(ctx, db.BuryMailingsParams{Transmissions: ids, FileNames: names})
}

func (b *burial) received(ctx context.Context) error {
	if len(b.inbound) == 0 {
		return nil
	}
	rows, err := b.q.BuryInboundFiles(ctx, db.BuryInboundFilesParams{TenantID: b.tenant, Ids: b.inbound, DestroyedBy: b.by, DestroyTime: &b.at, Now: b.now})
	if err != nil || len(rows) == 0 {
		return err
	}
	ids := make([]uuid.UUID, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
		b.sums = append(b.sums, hex.EncodeToString(r.Sha256))
		if r.SdiID != "" {
			b.sdiIDs = append(b.sdiIDs, r.SdiID)
		}
	}
	b.reduced += len(rows)
	for _, act := range []func(context.Context, []uuid.UUID) error{b.q.BuryInboundBodies, b.q.BuryInboundDeliveries, b.q.BuryInboundOutcomes} {
		err = act(ctx, ids)
		if err != nil {
			return err
		}
	}
	notices, err := b.q.BuryInboundNotices(ctx, ids)
	for _, sum := range notices {
		b.sums = append(b.sums, hex.EncodeToString(sum))
	}
	return err
}

func (b *burial) carried(ctx context.Context) error {
	if len(b.mail) == 0 && len(b.sdiIDs) == 0 {
		return nil
	}
	err := b.q.BuryArrivals(ctx, db.BuryArrivalsParams{TenantID: b.tenant, Messages: b.mail, SdiIds: b.sdiIDs})
	if err != nil || len(b.mail) == 0 {
		return err
	}
	return b.q.BuryMailingsOf(ctx, db.BuryMailingsOfParams{TenantID: b.tenant, Messages: b.mail})
}

// burySupportsArgs is the rest of a burial: supports are of all tenants, and no event's transaction sees them. It names digests
// only, since jobs are kept for a while.
type burySupportsArgs struct {
	Sums []string `json:"sums"`
}

// Kind implements river.JobArgs.
func (burySupportsArgs) Kind() string { return "bury-supports" }

// burySupports takes bytes and names of documents that came or left by SDIFTP and were destroyed.
func (s *Service) burySupports(ctx context.Context, job *river.Job[burySupportsArgs]) error {
	sums := make([][]byte, 0, len(job.Args.Sums))
	for _, text := range job.Args.Sums {
		sum, err := hex.DecodeString(text)
		if err != nil {
			return fault.Invalid("JOB_MALFORMED", "%q is no digest", text)
		}
		sums = append(sums, sum)
	}
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		err := db.New(tx).BurySupportDifferences(ctx, sums)
		if err != nil {
			return err
		}
		return db.New(tx).BurySupportDocuments(ctx, sums)
	})
}

// destruction says that what a row stands for was destroyed; nil when it stands.
func destruction(by string, at *time.Time) *eventv1.Destruction {
	if by == "" || at == nil {
		return nil
	}
	return &eventv1.Destruction{Time: timestamppb.New(*at), Disposal: by}
}

// notDestroyed refuses to give what is there no more. Precondition DOCUMENT_DESTROYED.
func notDestroyed(name string, d *eventv1.Destruction) error {
	if d == nil {
		return nil
	}
	return fault.Precondition("DOCUMENT_DESTROYED", "%s was destroyed on %s by %s: the report of the archive says what and by whose authorisation",
		name, d.GetTime().AsTime().Format(time.RFC3339), d.GetDisposal())
}
