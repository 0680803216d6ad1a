package sdigateway

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/format/sdiftp"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// difference is one thing on which SdI and we do not agree.
type difference struct{ name, problem string }

// saveDifferences keeps them for operators; one that was found before is not found again.
func (s *Service) saveDifferences(ctx context.Context, source uuid.UUID, list []difference) error {
	if len(list) == 0 {
		return nil
	}
	p := db.SaveDifferencesParams{SupportID: source, FoundAt: pg.Time(s.now())}
	for _, d := range list {
		id, err := pg.NewID()
		if err != nil {
			return err
		}
		s.log.WarnContext(ctx, "SdI and our books do not agree", "name", d.name, "problem", d.problem)
		p.Ids, p.Names, p.Problems = append(p.Ids, id), append(p.Names, d.name), append(p.Problems, d.problem)
	}
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error { return db.New(tx).SaveDifferences(ctx, p) })
}

// compareCounts compares the counts in a support with what it holds.
func (s *Service) compareCounts(ctx context.Context, id uuid.UUID, name sdiftp.Name, content *sdiftp.Supporto) error {
	var list []difference
	add := func(about, format string, args ...any) {
		list = append(list, difference{about, fmt.Sprintf(format, args...)})
	}
	switch q := content.Quadratura; {
	case q == nil:
		add(name.Support(), "SDIFTP_NO_COUNTS: the support has no readable file of counts")
	case q.Supporto != name.Support():
		add(name.Support(), "SDIFTP_COUNTS_NAME: the counts are of support %s", q.Supporto)
	default:
		for _, d := range content.Differenze() {
			add(name.Support(), "SDIFTP_COUNTS: %d of type %s are counted, %d are there", d.Dichiarati, d.Tipo, d.Trovati)
		}
	}
	for _, f := range content.Scartati {
		about := f.Name
		if !validText(about) {
			about = fmt.Sprintf("%q", about)
		}
		add(about, "SDIFTP_FILE: in support %s: %s", name.Support(), f.Reason)
	}
	return s.saveDifferences(ctx, id, list)
}

// validText says whether the database takes it as text.
func validText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// book is a support as our rows have it.
type book struct {
	state string
	taken bool // SdI certified that it has it, or brought it
}

// compareBooks compares a daily report with our own rows: what SdI names and we do not know, what we know that
// it should name and does not. recent says whether a support of ours falls into the days of the report.
func compareBooks(flow sdiftp.Kind, report []string, books map[string]book, recent map[string]bool) []difference {
	var list []difference
	named := map[string]bool{}
	for _, name := range report {
		if named[name] {
			continue
		}
		named[name] = true
		b, known := books[name]
		switch {
		case flow == sdiftp.FO && !known:
			list = append(list, difference{name, "SDIFTP_NOT_RECEIVED: SdI says that it sent this support, and it did not arrive: ask for it again"})
		case flow == sdiftp.FI && !known:
			list = append(list, difference{name, "SDIFTP_NOT_OURS: SdI says that it took this support, and we never made it"})
		case flow == sdiftp.FI && (b.state == "WITHDRAWN" || b.state == "GATHERED"):
			list = append(list, difference{name, "SDIFTP_TAKEN_UNSEEN: SdI says that it took this support, and it is " + b.state + " here"})
		}
	}
	for name := range recent {
		if flow == sdiftp.FI && books[name].taken && !named[name] {
			list = append(list, difference{name, "SDIFTP_NOT_REPORTED: SdI removed this support and does not report it"})
		}
	}
	return list
}

// readReport reads a daily report and compares it with our books.
// spec: SDIFTP-4.3 §3.2 (reports of the last five days)
func (s *Service) readReport(ctx context.Context, id uuid.UUID, name sdiftp.Name, raw []byte) (int32, error) {
	report, err := sdiftp.ParseRendiconto(raw)
	if err != nil {
		return 0, fault.Invalid("SDIFTP_REPORT", "report %s cannot be read: %v", name, err)
	}
	var names []string
	var list []difference
	for _, row := range report.Righe {
		if row.Supporto.Kind == name.Flow && row.Supporto.Node == name.Node {
			names = append(names, row.Supporto.Whole().String())
			continue
		}
		list = append(list, difference{row.Supporto.String(), "SDIFTP_REPORT_LINE: in report " + name.String() + " and not of its kind or node"})
	}
	for _, line := range report.Scartate {
		if validText(line) {
			list = append(list, difference{name.String(), "SDIFTP_REPORT_LINE: names no support: " + line})
		}
	}
	books, recent := map[string]book{}, map[string]bool{}
	// A report is of its own morning: what SdI took since is not in it yet, and what is five days old not any more.
	made := s.now().Add(-reportDays)
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).SupportBooks(ctx, db.SupportBooksParams{Kind: string(name.Flow), Names: names, Since: made})
		for _, row := range rows {
			books[row.Name] = book{state: row.State, taken: row.State == "TAKEN" || row.State == "ACCEPTED"}
			own, err := sdiftp.ParseName(row.Name)
			if err == nil && before(own, name) && row.At.After(made) {
				recent[row.Name] = true
			}
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	list = append(list, compareBooks(name.Flow, names, books, recent)...)
	return int32(len(report.Righe)), s.saveDifferences(ctx, id, list) //nolint:gosec // bounded by the reader
}

// before says whether a support was named on a day before that of the report: reports are made in the morning.
func before(support, report sdiftp.Name) bool {
	return support.Year < report.Year || support.Year == report.Year && support.Day < report.Day
}
