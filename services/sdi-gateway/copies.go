package sdigateway

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/format/sdiftp"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// answering is how this service signs its answers to the archive.
const answering = "sdi-gateway"

// copiesArgs is the job of answering what the platform's store has of documents that were destroyed. Supports and what came before
// it was known whose it was are of no tenant, and no event's transaction sees them.
type copiesArgs struct {
	Disposal string      `json:"disposal"`
	Package  string      `json:"package"`
	Part     int32       `json:"part"`
	Invoices []string    `json:"invoices"`
	Inbound  []uuid.UUID `json:"inbound"`
}

// Kind implements river.JobArgs.
func (copiesArgs) Kind() string { return "tell-copies" }

// tellCopies answers.
func (s *Service) tellCopies(ctx context.Context, job *river.Job[copiesArgs]) error {
	tenant, a := pg.Tenant(ctx), job.Args
	answer := &conservationv1.CopiesFound{Disposal: a.Disposal, Package: a.Package, Part: a.Part, Service: answering}
	seen := map[string]bool{}
	add := func(uri, what string) {
		if !seen[uri] {
			seen[uri] = true
			answer.Copies = append(answer.Copies, &conservationv1.FoundCopy{Uri: uri, What: what})
		}
	}
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		sent, err := db.New(tx).CopiesOfSent(ctx, db.CopiesOfSentParams{TenantID: tenant, Invoices: a.Invoices})
		for _, r := range sent {
			add(r.Uri, r.What)
		}
		if err != nil {
			return err
		}
		received, err := db.New(tx).CopiesOfReceived(ctx, db.CopiesOfReceivedParams{TenantID: tenant, Ids: a.Inbound})
		for _, r := range received {
			add(r.Uri, r.What)
			ref, err := blob.ParseURI(r.Uri)
			if err != nil {
				return err
			}
			for _, of := range []string{tenant, inboundBlobs} { // as it came, and as it was placed
				if ref.Tenant == inboundBlobs || ref.Tenant == tenant {
					ref.Tenant = of
					add(ref.URI(), r.What)
				}
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("sdi-gateway: copies of what was destroyed: %w", err)
	}
	return s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error { return s.bus.Emit(ctx, tx, answer) })
}

// needsArgs is the job of answering what is still needed.
type needsArgs struct {
	Disposal string   `json:"disposal"`
	Package  string   `json:"package"`
	Round    int32    `json:"round"`
	Part     int32    `json:"part"`
	URIs     []string `json:"uris"`
}

// Kind implements river.JobArgs.
func (needsArgs) Kind() string { return "tell-needs" }

// onCopiesCondemned promises the answer.
func (s *Service) onCopiesCondemned(ctx context.Context, tx pgx.Tx, ev *conservationv1.CopiesCondemned) error {
	args := needsArgs{Disposal: ev.GetDisposal(), Package: ev.GetPackage(), Round: ev.GetRound(), Part: ev.GetPart()}
	for _, uri := range ev.GetUris() {
		own := strings.HasPrefix(uri, "blob:tenants/"+pg.Tenant(ctx)+"/")
		if own || strings.HasPrefix(uri, "blob:tenants/"+inboundBlobs+"/") || strings.HasPrefix(uri, "blob:tenants/"+supportTenant+"/") {
			args.URIs = append(args.URIs, uri)
		}
	}
	return s.jobs.InsertTx(ctx, tx, args, nil)
}

// tellNeeds says which of these bytes a document needs that stands, whosever it is.
func (s *Service) tellNeeds(ctx context.Context, job *river.Job[needsArgs]) error {
	a := job.Args
	answer := &conservationv1.CopiesNeeded{Disposal: a.Disposal, Package: a.Package, Round: a.Round, Part: a.Part, Service: answering}
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).NeedsOf(ctx, a.URIs)
		for _, r := range rows {
			answer.Copies = append(answer.Copies, &conservationv1.NeededCopy{Uri: r.Uri, Others: r.Others})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("sdi-gateway: who needs copies: %w", err)
	}
	return s.db.Tx(ctx, pg.Tenant(ctx), func(ctx context.Context, tx pgx.Tx) error { return s.bus.Emit(ctx, tx, answer) })
}

// noteMessages writes down which messages a support brought.
func (s *Service) noteMessages(ctx context.Context, support uuid.UUID, docs []sdiftp.Documento) error {
	sums := make([][]byte, len(docs))
	for i, d := range docs {
		sum := sha256.Sum256(d.Data)
		sums[i] = sum[:]
	}
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).NoteSupportMessages(ctx, db.NoteSupportMessagesParams{SupportID: support, Sums: sums})
	})
}
