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

// logSearch turns a filter into conditions on the log. Faults: Invalid EVENT_UNKNOWN.
func logSearch(f *pecv1.LogFilter, tenant string, boxes []uuid.UUID) (*where, error) {
	w := &where{}
	w.in(tenant, boxes)
	if t := f.GetStartTime(); t != nil {
		w.and("at >= %s", t.AsTime())
	}
	if t := f.GetEndTime(); t != nil {
		w.and("at < %s", t.AsTime())
	}
	if id := pec.TrimID(f.GetIdentifier()); id != "" {
		w.and("(msgid = %[1]s OR reference = %[1]s OR identificativo = %[1]s)", id)
	}
	if a := key(f.GetAddress()); a != "" {
		w.and("(lower(sender) = %[1]s OR EXISTS (SELECT 1 FROM unnest(recipients) x WHERE lower(x) = %[1]s))", a)
	}
	if f.GetEvent() != "" {
		n := slices.Index(happened, strings.ToLower(f.GetEvent()))
		if n < 0 {
			return nil, fault.Invalid("EVENT_UNKNOWN", "filter.event: %q is none of %s", f.GetEvent(), strings.Join(happened, ", ")).WithField("filter.event", "EVENT_UNKNOWN", "is unknown")
		}
		w.and("event = %s", n)
	}
	if f.GetType() != "" {
		w.and("tipo = %s", f.GetType())
	}
	w.part("subject", f.GetSubject())
	return w, nil
}

func readLog(ctx context.Context, tx pgx.Tx, w *where, order string, most int) ([]logRow, error) {
	rows, err := tx.Query(ctx, "SELECT "+logColumns+" FROM log_entry WHERE "+w.String()+" ORDER BY number "+order+fmt.Sprintf(" LIMIT %d", most), w.args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanLog)
}

// ListLogEntries shows what happened to messages, newest first.
func (s *Service) ListLogEntries(ctx context.Context, req *pecv1.ListLogEntriesRequest) (*pecv1.ListLogEntriesResponse, error) {
	tenant := strings.Split(req.GetParent(), "/")[1]
	filter, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pecv1.ListLogEntriesRequest{Parent: req.GetParent(), Filter: req.GetFilter()})
	if err != nil {
		return nil, err
	}
	hash := pg.FilterHash("log", string(filter))
	var last int64
	found, err := pg.DecodePageToken(req.GetPageToken(), hash, &last)
	if err != nil {
		return nil, err
	}
	size := int(pageSize(req.GetPageSize()))
	out := &pecv1.ListLogEntriesResponse{}
	err = s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		boxes, err := s.reachable(ctx, tx, req.GetParent())
		if err != nil || len(boxes) == 0 {
			return err
		}
		w, err := logSearch(req.GetFilter(), tenant, boxes)
		if err != nil {
			return err
		}
		if found {
			w.and("number < %s", last)
		}
		rows, err := readLog(ctx, tx, w, "DESC", size+1)
		if err != nil {
			return err
		}
		if len(rows) > size {
			rows = rows[:size]
			out.NextPageToken, err = pg.EncodePageToken(hash, rows[size-1].number)
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
