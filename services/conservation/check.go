package conservation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// ChecksConfig says how often the archive looks at itself. Zero turns a check off; it can still be asked for.
type ChecksConfig struct {
	// Scrub is the time between two rounds over the copies that are due.
	Scrub time.Duration `yaml:"scrub"`
	// ScrubEvery is how often each copy is read whole, after its first month.
	ScrubEvery time.Duration `yaml:"scrub_every"`
	// ScrubBytes is how many bytes one round reads at most.
	ScrubBytes int64 `yaml:"scrub_bytes"`
	// Deep is the time between two rounds of deep checks.
	Deep time.Duration `yaml:"deep"`
	// DeepEvery is how often each package is judged from its bytes. The law wants five years at most.
	DeepEvery time.Duration `yaml:"deep_every"`
	// DeepPackages is how many packages one round judges at most.
	DeepPackages int `yaml:"deep_packages"`
	// Completeness is the time between two comparisons with the invoices and the log.
	Completeness time.Duration `yaml:"completeness"`
	// Settling is how long an event may be on its way before its document counts as missing.
	Settling time.Duration `yaml:"settling"`
	// RestoreDrill is the time between two drills.
	RestoreDrill time.Duration `yaml:"restore_drill"`
	// Renewal is the time between two looks for evidence that has to be renewed.
	Renewal time.Duration `yaml:"renewal"`
	// Inventory is the time between two comparisons of what the replicas list.
	Inventory time.Duration `yaml:"inventory"`
}

const aDay = 24 * time.Hour

func defaultChecks() ChecksConfig {
	return ChecksConfig{
		Scrub: aDay, ScrubEvery: 30 * aDay, ScrubBytes: 50 << 30, Deep: aDay, DeepEvery: 365 * aDay, DeepPackages: 200,
		Completeness: aDay, Settling: time.Hour, RestoreDrill: 90 * aDay, Renewal: aDay, Inventory: 30 * aDay,
	}
}

func (c ChecksConfig) check(bad func(when bool, path, format string, a ...any)) {
	for name, d := range map[string]time.Duration{"scrub": c.Scrub, "deep": c.Deep, "completeness": c.Completeness, "restore_drill": c.RestoreDrill, "renewal": c.Renewal, "inventory": c.Inventory} {
		bad(d < 0, "checks."+name, "must not be negative; 0s turns it off")
	}
	bad(c.Settling < 0, "checks.settling", "must not be negative")
	bad(c.ScrubEvery <= 0, "checks.scrub_every", "must be more than 0s")
	bad(c.ScrubBytes < 1, "checks.scrub_bytes", "must be at least 1")
	bad(c.DeepEvery <= 0 || c.DeepEvery > 5*365*aDay, "checks.deep_every", "must be more than 0s and at most five years")
	bad(c.DeepPackages < 1, "checks.deep_packages", "must be at least 1")
}

// byTimer is who asked for a check that came by itself.
const byTimer = "timer"

// Kinds of checks.
const (
	checkScrub        = "SCRUB"
	checkDeep         = "DEEP"
	checkCompleteness = "COMPLETENESS"
	checkDrill        = "RESTORE_DRILL"
	checkRenewal      = "RENEWAL"
	checkInventory    = "INVENTORY"
	checkRestore      = "RESTORE"
)

// findings is what a check found. Its JSON is the report.
type findings struct {
	Report   string    `json:"report"`
	Kind     string    `json:"kind"`
	Tenant   string    `json:"tenant,omitempty"`
	AskedBy  string    `json:"asked_by"`
	Program  string    `json:"program"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	Verdict  string    `json:"verdict"`
	Checked  int64     `json:"checked"`
	Bytes    int64     `json:"bytes"`
	What     string    `json:"what"` // that was checked
	Problems []problem `json:"problems"`
	Notes    []string  `json:"notes,omitempty"`

	cursor *cursor // of a check that goes on in the next round
}

type problem struct {
	What    string `json:"what"`
	Problem string `json:"problem"`
}

// A check is a job, and jobs that run for a quarter of an hour count as dead: a round ends before, and what it
// did not come to is due in the next.
const (
	checkTime = 14 * time.Minute
	roundTime = 10 * time.Minute
)

// mostProblems bounds a report; the rest is counted.
const mostProblems = 1000

func (f *findings) bad(what, format string, a ...any) {
	p := problem{what, fmt.Sprintf(format, a...)}
	if slices.Contains(f.Problems, p) {
		return // an object and a package may both show it
	}
	if len(f.Problems) == mostProblems {
		f.note("there are more problems than the %d named", mostProblems)
	}
	if len(f.Problems) < mostProblems {
		f.Problems = append(f.Problems, p)
	}
}

func (f *findings) note(format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	for _, n := range f.Notes {
		if n == text {
			return
		}
	}
	f.Notes = append(f.Notes, text)
}

// checkArgs asks for the check of a report.
type checkArgs struct {
	Tenant string    `json:"tenant"` // that the report belongs to
	Report uuid.UUID `json:"report"`
}

// Kind names the job.
func (checkArgs) Kind() string { return "check" }

// reportArgs asks for the signature and the keeping of a report.
type reportArgs struct {
	Tenant string    `json:"tenant"`
	Report uuid.UUID `json:"report"`
}

// Kind names the job.
func (reportArgs) Kind() string { return "report" }

// keeper is the tenant whom reports belong to: the one that owns the credential.
func (s *Service) keeper() string { return strings.Split(s.cfg.Credential, "/")[1] }

// clockwork starts checks when they are due until ctx ends.
func (s *Service) clockwork(ctx context.Context) error {
	ctx = telemetry.WithActor(ctx, "service:conservation")
	every := map[string]time.Duration{
		checkScrub: s.cfg.Checks.Scrub, checkDeep: s.cfg.Checks.Deep, checkCompleteness: s.cfg.Checks.Completeness, checkDrill: s.cfg.Checks.RestoreDrill,
		checkRenewal: s.cfg.Checks.Renewal, checkInventory: s.cfg.Checks.Inventory,
	}
	for ctx.Err() == nil {
		for kind, d := range every {
			if d == 0 {
				continue
			}
			err := s.startDue(ctx, kind, d)
			if err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "a check could not be started", "kind", kind, "error", err)
			}
		}
		pause(ctx, time.Minute)
	}
	return nil
}

// startDue starts a check when its time has come. Of several processes one moves the row on.
func (s *Service) startDue(ctx context.Context, kind string, every time.Duration) error {
	now := pg.Time(s.now())
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		err := q.PlanTimer(ctx, db.PlanTimerParams{Kind: kind, Due: now.Add(every)})
		if err != nil {
			return err
		}
		n, err := q.MoveTimer(ctx, db.MoveTimerParams{Kind: kind, Now: now, Next: now.Add(every)})
		if err != nil || n == 0 {
			return err
		}
		_, err = s.startCheck(pg.WithTenant(ctx, s.keeper()), tx, kind, "", byTimer)
		return err
	})
}

func (s *Service) startCheck(ctx context.Context, tx pgx.Tx, kind, tenant, by string) (uuid.UUID, error) {
	id, err := pg.NewID()
	if err != nil {
		return id, err
	}
	err = db.New(tx).InsertReport(ctx, db.InsertReportParams{ID: id, TenantID: s.keeper(), Kind: kind, Subject: tenant, AskedBy: by, At: pg.Time(s.now())})
	if err != nil {
		return id, fmt.Errorf("conservation: insert report: %w", err)
	}
	err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "check.start", Resource: "reports/" + id.String(), Detail: map[string]string{"kind": kind, "tenant": tenant}})
	if err != nil {
		return id, err
	}
	return id, s.jobs.InsertTx(ctx, tx, checkArgs{Tenant: s.keeper(), Report: id}, nil)
}

func (s *Service) report(ctx context.Context, id uuid.UUID) (db.ArchiveReport, error) {
	var row db.ArchiveReport
	err := s.db.Tx(ctx, s.keeper(), func(ctx context.Context, tx pgx.Tx) error {
		var err error
		row, err = db.New(tx).GetReport(ctx, id)
		return err
	})
	return row, err
}

// check makes one check and writes its report down. A repeat after a crash begins anew: what was checked
// before is not due any more.
func (s *Service) checkNow(ctx context.Context, job *river.Job[checkArgs]) error {
	row, err := s.report(ctx, job.Args.Report)
	if err != nil || row.State != "RUNNING" {
		return err
	}
	f := &findings{
		Report: row.ID.String(), Kind: row.Kind, Tenant: row.Subject, AskedBy: row.AskedBy,
		Program: applicationName + " " + fmt.Sprint(layoutVersion), Began: row.BeganAt.UTC(), Problems: []problem{},
	}
	checks := map[string]func(context.Context, *findings) error{
		checkScrub: s.scrub, checkDeep: s.deep, checkCompleteness: s.completeness, checkDrill: s.drill,
		checkRenewal: s.renew, checkInventory: s.inventory, checkRestore: s.restore,
	}
	err = checks[row.Kind](ctx, f)
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err() // the process drains: the check begins anew elsewhere
	}
	ctx = context.WithoutCancel(ctx) // a check that took too long leaves a report that says so
	f.Verdict = "GOOD"
	switch {
	case err != nil:
		f.Verdict = "FAILED"
		f.note("the check could not be made to its end: %s", fault.Of(err).Error())
	case len(f.Problems) > 0:
		f.Verdict = "PROBLEMS"
	}
	f.Ended = pg.Time(s.now()).UTC()
	if f.Verdict != "GOOD" {
		s.log.ErrorContext(ctx, "a check of the archive is not good", "report", f.Report, "kind", f.Kind, "verdict", f.Verdict, "problems", len(f.Problems), "error", err)
	}
	return s.endCheck(ctx, row, f)
}

func (s *Service) endCheck(ctx context.Context, row db.ArchiveReport, f *findings) error {
	content, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("conservation: report: %w", err)
	}
	at := pg.Time(s.now())
	return s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		n, err := db.New(tx).EndReport(ctx, db.EndReportParams{ID: row.ID, State: f.Verdict, At: &at, Content: content})
		if err != nil || n == 0 {
			return err
		}
		err = s.keepCursor(pg.WithTenant(ctx, row.TenantID), tx, row, f)
		if err != nil {
			return err
		}
		return s.jobs.InsertTx(ctx, tx, reportArgs{Tenant: row.TenantID, Report: row.ID}, nil)
	})
}

// reportSpace makes ids from the report's, so that a repeat signs and writes the same.
var reportSpace = uuid.MustParse("5b7c2a36-52d0-4a54-9a0c-4c53a8a2f6f1")

// keepReport has a report signed and keeps it as the archive keeps everything: in both replicas.
func (s *Service) keepReport(ctx context.Context, job *river.Job[reportArgs]) error {
	row, err := s.report(ctx, job.Args.Report)
	if err != nil || row.ObjectID != nil {
		return err
	}
	p7m, err := s.signReport(ctx, row)
	if err == nil {
		err = s.storeReport(ctx, row, p7m)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	switch fault.Of(err).Kind {
	case fault.KindUnavailable, fault.KindExhausted, fault.KindPrecondition, fault.KindAborted:
		if !cannotSign(err) { // which was told
			s.log.WarnContext(ctx, "a report waits for its signature", "report", row.ID, "error", err)
		}
		return river.JobSnooze(max(time.Minute, fault.Of(err).RetryAfter)) // others mend it
	}
	return err
}

func (s *Service) signReport(ctx context.Context, row db.ArchiveReport) ([]byte, error) {
	return s.signContent(ctx, row.TenantID, "reports/"+row.ID.String(), mimeJSON, uuid.NewSHA1(reportSpace, row.ID[:]), row.Content)
}

const mimeJSON = "application/json"

func (s *Service) storeReport(ctx context.Context, row db.ArchiveReport, p7m []byte) error {
	sum := sha256.Sum256(p7m)
	o := &object{
		id: uuid.NewSHA1(reportSpace, append(row.ID[:], sum[:]...)), kind: kindReport, retain: retainUntil(int32(row.BeganAt.Year()), retentionYears), //nolint:gosec // a year
		Object: vault.Object{
			Key:  fmt.Sprintf("tenants/%s/reports/%s/%s-%s-%s.json.p7m", row.TenantID, row.BeganAt.UTC().Format("2006-01"), strings.ToLower(row.Kind), row.ID, hex.EncodeToString(sum[:4])),
			Size: int64(len(p7m)), SHA256: sum,
		},
	}
	s.replicas.place(o)
	err := s.replicas.write(ctx, o, bytes.NewReader(p7m))
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		err := s.replicas.record(ctx, tx, row.TenantID, []*object{o})
		if err != nil {
			return err
		}
		n, err := db.New(tx).SetReportObject(ctx, db.SetReportObjectParams{ID: row.ID, Object: &o.id})
		if err != nil || n == 0 {
			return err
		}
		return db.New(tx).LogReport(ctx, db.LogReportParams{TenantID: row.TenantID, Object: o.id})
	})
}
