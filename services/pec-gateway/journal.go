package pecgateway

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// happened names what a row of the log says: 0 that a message was received, otherwise the kind of the fact.
var happened = []string{
	"received", pec.FactQueued: "queued", pec.FactSubmitted: "submitted", pec.FactUnknown: "outcome-unknown", pec.FactRejected: "rejected",
	pec.FactAccepted: "accepted", pec.FactRefused: "refused", pec.FactNotice: "delay-notice", pec.FactDelivered: "delivered",
	pec.FactFailed: "not-delivered", pec.FactCancelled: "cancelled",
}

// logRow is a row of the log as it is read.
type logRow struct {
	number                   int64
	mailbox, message         uuid.UUID
	receipt                  *uuid.UUID
	at                       time.Time
	certified                *time.Time
	event                    int16
	tipo, msgid, reference   string
	identificativo, sender   string
	recipients               []string
	subject, proof, detailed string
}

const logColumns = "number, mailbox_id, message_id, receipt_id, at, certified_time, event, tipo, msgid, reference, identificativo, sender, recipients, subject, proof, detail"

func scanLog(row pgx.CollectableRow) (logRow, error) {
	var r logRow
	err := row.Scan(&r.number, &r.mailbox, &r.message, &r.receipt, &r.at, &r.certified, &r.event, &r.tipo, &r.msgid, &r.reference, &r.identificativo,
		&r.sender, &r.recipients, &r.subject, &r.proof, &r.detailed)
	return r, err
}

func (r *logRow) show(tenant string) *pecv1.LogEntry {
	e := &pecv1.LogEntry{
		Number: r.number, Time: timestamppb.New(r.at), Event: happened[r.event], Message: messageName(tenant, r.mailbox, r.message), Type: r.tipo,
		MessageId: r.msgid, Reference: r.reference, ProviderId: r.identificativo, Sender: r.sender, Recipients: r.recipients, Subject: r.subject,
		CertifiedTime: stamp(r.certified), Proof: r.proof, Detail: r.detailed,
	}
	if r.receipt != nil {
		e.Receipt = messageName(tenant, r.mailbox, *r.receipt)
	}
	return e
}

// logSearch is a search of the log: the trail to what can fit, and what else has to.
type logSearch struct {
	trail
	rest where
}

// searchLog turns a filter into a search. Faults: Invalid EVENT_UNKNOWN.
func searchLog(f *pecv1.LogFilter, tenant string, boxes []uuid.UUID) (*logSearch, error) {
	event := -1
	if f.GetEvent() != "" {
		event = slices.Index(happened, strings.ToLower(f.GetEvent()))
		if event < 0 {
			return nil, fault.Invalid("EVENT_UNKNOWN", "filter.event: %q is none of %s", f.GetEvent(), strings.Join(happened, ", ")).WithField("filter.event", "EVENT_UNKNOWN", "is unknown")
		}
	}
	s := &logSearch{trail: trail{from: "log_entry", at: "at", key: "number", boxes: boxes, since: timeOf(f.GetStartTime()), until: timeOf(f.GetEndTime())}}
	s.condition.and("tenant_id = %s", tenant)
	s.rest.in(tenant, boxes)
	address := strings.TrimSpace(f.GetAddress())
	s.choose(pec.TrimID(f.GetIdentifier()), address, event, f)
	if address != "" && s.from != "log_address" {
		// One look for each entry: with a join all that have the address might be read.
		s.narrow("(SELECT true FROM log_address a WHERE a.tenant_id = log_entry.tenant_id AND a.mailbox_id = log_entry.mailbox_id AND a.address = left(lower(%s), 320) AND a.at = log_entry.at AND a.number = log_entry.number LIMIT 1)", address)
	}
	return s, nil
}

// narrow adds a condition that the trail does not answer.
func (s *logSearch) narrow(condition string, args ...any) {
	s.remaining = true
	s.rest.and(condition, args...)
}

// choose takes the trail that leads past the fewest entries which do not fit.
func (s *logSearch) choose(id, address string, event int, f *pecv1.LogFilter) {
	tipo, subject := f.GetType(), f.GetSubject()
	byTipo := id == "" && address == "" && tipo != "" && (subject == "" || len(s.boxes) == 1)
	byEvent := id == "" && address == "" && !byTipo && event >= 0 && (subject == "" || len(s.boxes) == 1)
	switch {
	case id != "":
		s.condition.args = append(s.condition.args, id)
		s.from = few("log_entry", "at", "number, tenant_id", "", "msgid = $2 AND msgid <> ''", "reference = $2 AND reference <> ''", "identificativo = $2 AND identificativo <> ''")
		s.boxes, s.remaining = nil, true
	case address != "":
		s.from = "log_address"
		s.condition.and("address = left(lower(%s), 320)", address)
	case byTipo:
		s.condition.and("tipo = %s AND tipo <> ''", tipo)
	case byEvent:
		s.condition.and("event = %s", event)
	case len(s.boxes) > 1: // in the order of all, from which other mailboxes are sorted out
		s.boxes, s.remaining = nil, true
	}
	if event >= 0 && !byEvent {
		s.narrow("event = %s", event)
	}
	if tipo != "" && !byTipo {
		s.narrow("tipo = %s", tipo)
	}
	if subject != "" {
		s.remaining = true
		s.rest.part("subject", subject)
	}
}

func timeOf(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}

// entries are those of the numbers that fit. The inner statement knows the numbers alone: with anything else beside them a planner
// might take an index that leads to many more rows.
func (s *logSearch) entries(numbers []int64, ascending bool, most int) (string, []any) {
	order := "DESC"
	if ascending {
		order = "ASC"
	}
	return fmt.Sprintf("SELECT %[1]s FROM (SELECT tenant_id, %[1]s FROM log_entry WHERE tenant_id = $1 AND number = ANY($%[2]d::bigint[]) OFFSET 0) AS log_entry WHERE %[3]s ORDER BY at %[4]s, number %[4]s LIMIT %[5]d",
		logColumns, len(s.rest.args)+1, s.rest.String(), order, most), append(slices.Clone(s.rest.args), numbers)
}

// readLog reads a page of the log, and says where the next one begins.
func readLog(ctx context.Context, tx pgx.Tx, s *logSearch, after *spot[int64], ascending bool, size int) ([]logRow, *spot[int64], error) {
	fetch := func(numbers []int64, most int) ([]logRow, error) {
		sql, args := s.entries(numbers, ascending, most)
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, scanLog)
	}
	return follow(ctx, tx, s.trail, after, ascending, size, fetch, func(r logRow) spot[int64] { return spot[int64]{r.at, r.number} })
}

// ListLogEntries shows what happened to messages, newest first. A search that no index answers looks at so many entries for a page
// and no more: the page may then hold fewer than were asked for, or none, and says where the next one begins.
func (s *Service) ListLogEntries(ctx context.Context, req *pecv1.ListLogEntriesRequest) (*pecv1.ListLogEntriesResponse, error) {
	tenant := strings.Split(req.GetParent(), "/")[1]
	filter, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pecv1.ListLogEntriesRequest{Parent: req.GetParent(), Filter: req.GetFilter()})
	if err != nil {
		return nil, err
	}
	hash := pg.FilterHash("log", string(filter))
	after := &spot[int64]{}
	found, err := pg.DecodePageToken(req.GetPageToken(), hash, &after.At, &after.Key)
	if err != nil {
		return nil, err
	}
	if !found {
		after = nil
	}
	out := &pecv1.ListLogEntriesResponse{}
	err = s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		boxes, err := s.reachable(ctx, tx, req.GetParent())
		if err != nil || len(boxes) == 0 {
			return err
		}
		search, err := searchLog(req.GetFilter(), tenant, boxes)
		if err != nil {
			return err
		}
		rows, next, err := readLog(ctx, tx, search, after, false, int(pageSize(req.GetPageSize())))
		if err == nil && next != nil {
			out.NextPageToken, err = pg.EncodePageToken(hash, next.At, next.Key)
		}
		for i := range rows {
			out.Entries = append(out.Entries, rows[i].show(tenant))
		}
		return err
	})
	return out, err
}

func (r *logRow) line(tenant string) []string {
	e := r.show(tenant)
	return []string{strconv.FormatInt(r.number, 10), stamped(&r.at), e.GetEvent(), cell(r.tipo), cell(r.msgid), cell(r.reference), cell(r.identificativo), cell(r.sender),
		cell(strings.Join(r.recipients, " ")), cell(r.subject), stamped(r.certified), r.proof, cell(r.detailed), e.GetMessage(), e.GetReceipt()}
}

func stamped(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// cell keeps a spreadsheet from running what a stranger wrote: what looks like a formula gets an apostrophe before it.
func cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
