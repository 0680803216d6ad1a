package sdigateway

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// Codes of what a list of SdI's and our books do not agree on.
const (
	statementNotOurs = "STATEMENT_NOT_OURS"
	statementNotSent = "STATEMENT_NOT_SENT"
	statementOtherID = "STATEMENT_OTHER_ID"
	statementMissing = "STATEMENT_MESSAGE_MISSING"
	statementLacks   = "STATEMENT_LACKS"
)

// statementFacts is what each word of a list says that we should know.
var statementFacts = map[string]facts{
	"RC": factRC, "MC": factMC, "NS": factNS, "NE": factEC01 | factEC02, "DT": factDT, "AT": factAT,
}

// disagreement is one thing that differs, and the file of ours that it is about, when there is one.
type disagreement struct {
	out    *sdiv1.StatementDifference
	tenant string
}

// CompareStatement compares a list of files that SdI has with our books. Only what is known of differences is
// written: a state follows from messages of SdI, and not from lists.
func (s *Service) CompareStatement(ctx context.Context, req *sdiv1.CompareStatementRequest) (*sdiv1.CompareStatementResponse, error) {
	if (req.GetFromTime() == nil) != (req.GetToTime() == nil) || req.GetFromTime() != nil && !req.GetFromTime().AsTime().Before(req.GetToTime().AsTime()) {
		return nil, fault.Invalid("SDI_PERIOD", "from_time and to_time belong together, and from_time is before to_time").WithField("from_time", "SDI_PERIOD", "must be before to_time")
	}
	for i, line := range req.GetLines() {
		if line.GetSdiId() == "" && line.GetFileName() == "" {
			return nil, fault.Invalid("STATEMENT_LINE", "line %d names no file: give sdi_id or file_name", i+1).
				WithField(fmt.Sprintf("lines[%d]", i), "STATEMENT_LINE", "is empty")
		}
	}
	out := &sdiv1.CompareStatementResponse{}
	return out, s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		list, err := s.disagree(ctx, db.New(tx), req, out)
		if err != nil {
			return err
		}
		err = s.keepDisagreements(ctx, tx, req.GetSource(), list)
		if err != nil {
			return err
		}
		for _, d := range list {
			out.Differences = append(out.Differences, d.out)
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "sdi.statement", Resource: "transmitters/" + s.cfg.Transmitter, Detail: map[string]string{
			"source": req.GetSource(), "lines": fmt.Sprint(len(req.GetLines())), "differences": fmt.Sprint(len(list)),
		}})
	})
}

// disagree compares line by line, and then what of ours the list lacks.
func (s *Service) disagree(ctx context.Context, q *db.Queries, req *sdiv1.CompareStatementRequest, out *sdiv1.CompareStatementResponse) ([]disagreement, error) {
	keys, ids, names := make([]string, 0, len(req.GetLines())), make([]string, 0, len(req.GetLines())), make([]string, 0, len(req.GetLines()))
	for _, line := range req.GetLines() {
		if line.GetFileName() != "" {
			keys, names = append(keys, statementKey(line.GetFileName())), append(names, line.GetFileName())
		}
		if line.GetSdiId() != "" {
			ids = append(ids, line.GetSdiId())
		}
	}
	rows, err := q.StatementTransmissions(ctx, db.StatementTransmissionsParams{Keys: keys, SdiIds: ids})
	if err != nil {
		return nil, err
	}
	byKey, byID := map[string]*db.StatementTransmissionsRow{}, map[string]*db.StatementTransmissionsRow{}
	for i := range rows {
		byKey[rows[i].FileKey] = &rows[i]
		if rows[i].SdiID != "" {
			byID[rows[i].SdiID] = &rows[i]
		}
	}
	received, err := q.StatementReceived(ctx, db.StatementReceivedParams{SdiIds: ids, Names: names})
	if err != nil {
		return nil, err
	}
	came := map[string]bool{}
	for _, r := range received {
		came[r.SdiID], came[r.FileName] = true, true
	}
	var list []disagreement
	for _, line := range req.GetLines() {
		ours := byKey[statementKey(line.GetFileName())]
		if ours == nil {
			ours = byID[line.GetSdiId()]
		}
		if ours == nil && (came[line.GetSdiId()] || came[line.GetFileName()]) {
			out.Agreed++ // one that we received
			continue
		}
		code, words := disagreeLine(line, ours)
		if code == "" {
			out.Agreed++
			continue
		}
		list = append(list, disagreementOf(line, ours, code, words))
	}
	if req.GetFromTime() == nil {
		return list, nil
	}
	lacking, err := q.StatementLacks(ctx, db.StatementLacksParams{
		Since: req.GetFromTime().AsTime(), Until: req.GetToTime().AsTime(), Keys: keys, SdiIds: ids, N: reconcileMost + 1,
	})
	if err != nil {
		return nil, err
	}
	if out.More = len(lacking) > reconcileMost; out.GetMore() {
		lacking = lacking[:reconcileMost]
	}
	for i := range lacking {
		row := db.StatementTransmissionsRow(lacking[i])
		line := &sdiv1.StatementLine{SdiId: row.SdiID, FileName: row.FileName}
		list = append(list, disagreementOf(line, &row, statementLacks,
			fmt.Sprintf("our books say %s, and the list does not name the file: look it up in SdI's portal; do not send it again before", row.State)))
	}
	return list, nil
}

// statementKey is a file's name as names are compared: lists name files with or without their extension.
func statementKey(name string) string {
	key := sdi.NameKey(strings.TrimSpace(name))
	for _, ext := range []string{".XML.P7M", ".XML", ".ZIP"} {
		if stem, ok := strings.CutSuffix(key, ext); ok {
			return stem
		}
	}
	return key
}

// disagreeLine says in words what a line and our row do not agree on; "" when they do. A list may be older than our
// books, so a message that we have and it does not is no difference.
func disagreeLine(line *sdiv1.StatementLine, ours *db.StatementTransmissionsRow) (code, words string) {
	if ours == nil {
		return statementNotOurs, "SdI has a file that these books do not know, neither sent nor received: who else transmits under this identity?"
	}
	known := facts(ours.Facts)
	switch want := statementFacts[line.GetState()]; {
	case line.GetSdiId() != "" && ours.SdiID != "" && line.GetSdiId() != ours.SdiID:
		return statementOtherID, fmt.Sprintf("SdI's list has IdentificativoSdI %s for the file, our books %s: one of the two submissions is not the one that counts", line.GetSdiId(), ours.SdiID)
	case known == 0:
		return statementNotSent, "SdI has the file and our books do not know that it arrived: do not send it by another channel; its messages, or a repeat under its name, settle it"
	case want != 0 && known&want == 0:
		return statementMissing, fmt.Sprintf("SdI has made %s and we have not received it (our books say %s): ask SdI to deliver it again (ceralacca sdi reconcile --output), or claim it by hand", line.GetState(), ours.State)
	}
	return "", ""
}

func disagreementOf(line *sdiv1.StatementLine, ours *db.StatementTransmissionsRow, code, words string) disagreement {
	d := disagreement{out: &sdiv1.StatementDifference{SdiId: line.GetSdiId(), FileName: line.GetFileName(), Code: code, Message: words}}
	if ours != nil {
		d.tenant, d.out.Invoice, d.out.Transmission = ours.TenantID, ours.Invoice, transmissionName(ours.TenantID, ours.ID)
		d.out.FileName = ours.FileName
	}
	return d
}

// keepDisagreements writes them down for operators, and tells once of those about our files.
func (s *Service) keepDisagreements(ctx context.Context, tx pgx.Tx, source string, list []disagreement) error {
	if len(list) == 0 {
		return nil
	}
	p := db.SaveStatementDifferencesParams{Source: plainText(source, 200), FoundAt: pg.Time(s.now())}
	at := map[uuid.UUID]int{}
	for i, d := range list {
		id, err := pg.NewID()
		if err != nil {
			return err
		}
		name := d.out.GetFileName()
		if name == "" {
			name = "IdentificativoSdI " + d.out.GetSdiId()
		}
		at[id] = i
		p.Ids, p.Names, p.Problems = append(p.Ids, id), append(p.Names, name), append(p.Problems, d.out.GetCode()+": "+d.out.GetMessage())
		d.out.Known = true
	}
	fresh, err := db.New(tx).SaveStatementDifferences(ctx, p)
	if err != nil {
		return err
	}
	for _, id := range fresh {
		d := list[at[id]]
		d.out.Known = false
		s.log.WarnContext(ctx, "SdI's list and our books do not agree", "file", d.out.GetFileName(), "code", d.out.GetCode())
		if d.out.GetInvoice() == "" {
			continue
		}
		ev := &sdiv1.StatementDiffered{Invoice: d.out.GetInvoice(), Transmission: d.out.GetTransmission(), FileName: d.out.GetFileName(),
			SdiId: d.out.GetSdiId(), Code: d.out.GetCode(), Message: d.out.GetMessage(), Source: p.Source}
		err = s.bus.Emit(bus.WithCorrelation(pg.WithTenant(ctx, d.tenant), invoiceID(ev.GetInvoice())), tx, ev)
		if err != nil {
			return err
		}
	}
	return nil
}

// invoiceID is the last part of an invoice's name.
func invoiceID(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
