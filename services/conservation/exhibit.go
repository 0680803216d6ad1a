package conservation

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/pdd"
	"ceralacca.dev/services/format/sincro"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// mostExhibited bounds a distribution: above it the tools of an inspector begin to hurt.
const mostExhibited = 10_000

// distributionSpace makes ids from the distribution's, so that a repeat signs the same.
var distributionSpace = uuid.MustParse("b6a3a0de-5d0e-4b0a-9c4e-2b8f1d7e4c55")

// exhibitArgs asks for the building of a distribution.
type exhibitArgs struct {
	Tenant       string    `json:"tenant"`
	Distribution uuid.UUID `json:"distribution"`
}

// Kind names the job.
func (exhibitArgs) Kind() string { return "exhibit" }

// asked is a distribution about to be ordered.
type asked struct {
	query     query
	units     []uuid.UUID // in place of the query; what the query does not find is not given
	purpose   string
	by        string
	inspector *uuid.UUID
}

// order fixes what goes into a distribution and starts its building.
func (s *Service) order(ctx context.Context, tx pgx.Tx, tenant string, a asked) (db.Distribution, error) {
	var row db.Distribution
	err := db.New(tx).LockDisposals(ctx, tenant) // what is shown is not destroyed in the meantime
	if err != nil {
		return row, err
	}
	units, err := choose(ctx, tx, tenant, a)
	if err != nil {
		return row, err
	}
	terms, err := s.terms()
	if err != nil {
		return row, err
	}
	id, err := pg.NewID()
	if err != nil {
		return row, err
	}
	q := db.New(tx)
	err = q.InsertDistribution(ctx, db.InsertDistributionParams{
		ID: id, TenantID: tenant, Purpose: plain(a.purpose), Units: units, Terms: terms, AskedBy: a.by, Inspector: a.inspector, AskedAt: pg.Time(s.now()),
	})
	if err != nil {
		return row, fmt.Errorf("conservation: insert distribution: %w", err)
	}
	err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "distribution.create", Resource: distributionName(tenant, id), Detail: map[string]string{"units": fmt.Sprint(len(units)), "by": a.by}})
	if err != nil {
		return row, err
	}
	err = s.jobs.InsertTx(ctx, tx, exhibitArgs{Tenant: tenant, Distribution: id}, nil)
	if err != nil {
		return row, err
	}
	return q.GetDistribution(ctx, db.GetDistributionParams{ID: id, TenantID: tenant})
}

func distributionName(tenant string, id uuid.UUID) string {
	return "tenants/" + tenant + "/distributions/" + id.String()
}

// choose gives the units of what is asked for, in a fixed order.
func choose(ctx context.Context, tx pgx.Tx, tenant string, a asked) ([]uuid.UUID, error) {
	wants := []query{a.query}
	if len(a.units) > 0 {
		wants = nil
		for _, id := range a.units {
			q, err := a.query.and(query{{unitCondition(id)}})
			if err != nil {
				return nil, err
			}
			wants = append(wants, q)
		}
	}
	seen := map[uuid.UUID]bool{}
	for _, q := range wants {
		var after *place
		for {
			page, err := find(ctx, tx, tenant, q, after, searchPage)
			if err != nil {
				return nil, err
			}
			for _, p := range page {
				seen[p.Unit] = true
			}
			if len(seen) > mostExhibited {
				return nil, fault.Precondition("DISTRIBUTION_TOO_LARGE", "more than %d documents: ask for fewer at a time, such as by dates", mostExhibited)
			}
			if len(page) < searchPage {
				break
			}
			after = &page[len(page)-1]
		}
	}
	for _, id := range a.units {
		if !seen[id] {
			return nil, notFound(ctx, tx, tenant, id)
		}
	}
	if len(seen) == 0 {
		return nil, fault.Precondition("DISTRIBUTION_EMPTY", "no document is found: a package without documents is not made")
	}
	var units []uuid.UUID
	for id := range seen {
		units = append(units, id)
	}
	slices.SortFunc(units, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return units, nil
}

// buildDistribution is the job. What others have to mend is waited for; what cannot be mended is said in the row.
func (s *Service) buildDistribution(ctx context.Context, job *river.Job[exhibitArgs]) error {
	row, err := s.distribution(ctx, job.Args.Tenant, job.Args.Distribution)
	if err != nil || row.State != "BUILDING" {
		return err
	}
	if row.HeldSha256 == nil {
		err = s.holdUnsigned(ctx, row)
		if err == nil {
			row, err = s.distribution(ctx, row.TenantID, row.ID)
		}
		if err == nil && row.State != "BUILDING" { // it was made, or its documents are destroyed
			return nil
		}
	}
	var file *os.File
	if err == nil {
		file, err = s.goOn(ctx, row)
	}
	if err == nil {
		defer drop(file)
		err = s.deliver(ctx, row, file)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	f, state := fault.Of(err), "BUILDING"
	wait := f.Kind == fault.KindUnavailable || f.Kind == fault.KindExhausted || f.Kind == fault.KindPrecondition || f.Kind == fault.KindAborted
	if !wait && fault.Permanent(err) {
		state = "FAILED"
	}
	if !cannotSign(err) { // which was told
		s.log.WarnContext(ctx, "a distribution could not be built", "distribution", row.ID, "state", state, "error", err)
	}
	noted := s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).SetDistributionTrouble(ctx, db.SetDistributionTroubleParams{ID: row.ID, State: state, LastError: f.Error()})
	})
	switch {
	case noted != nil:
		return noted
	case state == "FAILED":
		return nil
	case wait:
		pause := 5 * time.Second
		if cannotSign(err) {
			pause = credentialPause
		}
		return river.JobSnooze(max(pause, f.RetryAfter))
	}
	return err
}

func (s *Service) deliver(ctx context.Context, row db.Distribution, file *os.File) error {
	ref, err := s.storeFor(ctx, row, file)
	if err != nil {
		return err
	}
	at := pg.Time(s.now())
	return s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		_, err := db.New(tx).SetDistributionReady(ctx, db.SetDistributionReadyParams{ID: row.ID, At: &at, Sha256: ref.SHA256[:], Size: &ref.Size})
		return err
	})
}

func noDistribution(name string) *fault.Fault {
	return fault.NotFound("DISTRIBUTION_NOT_FOUND", "there is no distribution %s", name)
}

func (s *Service) distribution(ctx context.Context, tenant string, id uuid.UUID) (db.Distribution, error) {
	var row db.Distribution
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		row, err = db.New(tx).GetDistribution(ctx, db.GetDistributionParams{ID: id, TenantID: tenant})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return row, noDistribution(distributionName(tenant, id))
	}
	return row, err
}

// story is a unit with what later receipts added to it.
type story struct {
	member
	facts facts
	later []member
	state string
}

// stories reads units of a distribution, a page at a time in the order of their ids.
func (s *Service) stories(ctx context.Context, tenant string, ids []uuid.UUID) ([]story, error) {
	var out []story
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		units, err := q.UnitsByID(ctx, db.UnitsByIDParams{TenantID: tenant, Ids: ids})
		if err != nil {
			return err
		}
		later, err := q.IntegrationsOf(ctx, db.IntegrationsOfParams{TenantID: tenant, Ids: ids})
		if err != nil {
			return err
		}
		all := slices.Clone(ids)
		for _, u := range later {
			all = append(all, u.ID)
		}
		files, err := q.FilesOf(ctx, all)
		if err != nil {
			return err
		}
		states, err := statesOf(ctx, tx, ids)
		if err != nil {
			return err
		}
		of := map[uuid.UUID][]db.UnitFile{}
		for _, f := range files {
			of[f.UnitID] = append(of[f.UnitID], f)
		}
		for _, u := range units {
			st := story{member: member{u, of[u.ID]}, state: states[u.ID]}
			err = json.Unmarshal(u.Facts, &st.facts)
			if err != nil {
				return fmt.Errorf("conservation: facts of unit %s: %w", u.ID, err)
			}
			for _, l := range later {
				if l.Integrates != nil && *l.Integrates == u.ID {
					st.later = append(st.later, member{l, of[l.ID]})
				}
			}
			out = append(out, st)
		}
		return nil
	})
	if err == nil && len(out) != len(ids) {
		err = fault.NotFound("UNIT_NOT_FOUND", "a unit of the distribution is not there any more")
	}
	return out, err
}

// index is PdD.xml: a group for each unit, and one for what shows and proves them. spec: UNI11386-2020
func (b *builder) index() ([]byte, error) {
	t, err := decodeTerms(b.row.Terms)
	if err != nil {
		return nil, err
	}
	head := sincro.Index{
		Language: "it", ID: sincro.ID{Scheme: "uuid", Value: uuid.NewSHA1(indexSpace, b.row.ID[:]).String()}, Application: t.Application,
		Volume:  sincro.Volume{ID: sincro.ID{Scheme: "uuid", Value: b.row.ID.String()}, Label: "Pacchetto di distribuzione", Description: b.row.Purpose},
		Process: sincro.Process{Signers: []sincro.Signer{t.signer()}, Time: b.row.AskedAt.UTC(), Laws: t.Laws},
	}
	derivation := sincro.OneToMany
	if len(b.origins) > 1 {
		derivation = sincro.ManyToOne
	}
	for _, p := range b.order {
		o := b.origins[p]
		pindex := sincro.ID{Scheme: "uuid", Value: uuid.NewSHA1(indexSpace, p[:]).String()}
		where := "urn:uuid:" + p.String()
		if o.shown {
			where = o.dir() + "/" + pdd.OriginSigned
		}
		head.Sources = append(head.Sources, sincro.Source{Derivation: derivation, ID: pindex, Path: where, Hash: sincro.HashOf([32]byte(o.pack.IndexSha256))})
		head.Volume.Sources = append(head.Volume.Sources, sincro.VolumeSource{ID: sincro.ID{Scheme: "uuid", Value: p.String()}, PIndex: pindex})
	}
	for _, raw := range b.sellers() {
		head.Process.Holders = append(head.Process.Holders, sincro.Holder{Agent: t.holder(raw), Role: sincro.Produttore})
	}
	head.Process.Submitter = head.Process.Holders[0].Agent
	if len(head.Process.Holders) > 1 {
		head.Process.Submitter = sincro.Agent{Type: sincro.LegalPerson, FormalName: "tenants/" + b.row.TenantID, Documents: []sincro.RelevantDocument{{Text: t.Contract}}}
	}
	viewer := sincro.FileGroup{ID: sincro.ID{Scheme: "local", Value: "visore"}, Label: "Visore, viste e prove", Files: b.rest}
	var out bytes.Buffer
	err = sincro.Write(&out, head, func(yield func(sincro.FileGroup, error) bool) {
		for _, g := range append(b.groups[:len(b.groups):len(b.groups)], viewer) {
			if !yield(g, nil) {
				return
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("conservation: index of distribution %s: %w", b.row.ID, err)
	}
	return out.Bytes(), nil
}

func base64Of(sum []byte) string { return base64.StdEncoding.EncodeToString(sum) }
