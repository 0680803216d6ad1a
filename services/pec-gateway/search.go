package pecgateway

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// where is a statement in the making: conditions that were asked for, and nothing else, so that the planner sees what
// there is to choose from.
type where struct {
	conditions []string
	args       []any
}

// and adds a condition; each %s stands for the place of the next argument.
func (w *where) and(condition string, args ...any) {
	places := make([]any, len(args))
	for i, a := range args {
		w.args = append(w.args, a)
		places[i] = fmt.Sprintf("$%d", len(w.args))
	}
	w.conditions = append(w.conditions, fmt.Sprintf(condition, places...))
}

// part asks for a part of a text; letters of any case.
func (w *where) part(column, text string) {
	if text != "" {
		w.and("strpos(lower("+column+"), lower(%s::text)) > 0", text)
	}
}

// number asks for a value; 0 for any.
func (w *where) number(column string, value int32) {
	if value != 0 {
		w.and(column+" = %s", value)
	}
}

// in narrows to the mailboxes.
func (w *where) in(tenant string, boxes []uuid.UUID) {
	w.and("tenant_id = %s", tenant)
	if len(boxes) == 1 {
		w.and("mailbox_id = %s", boxes[0])
		return
	}
	w.and("mailbox_id = ANY(%s::uuid[])", boxes)
}

func (w *where) String() string { return strings.Join(w.conditions, " AND ") }

// searchOf turns a request into conditions on messages. Faults: Invalid FILTER_NOT_TAKEN, TEXT_WITHOUT_WORDS.
func searchOf(req *pecv1.ListMessagesRequest, tenant string, boxes []uuid.UUID) (*where, error) {
	if req.GetFilter() != "" {
		return nil, fault.Invalid("FILTER_NOT_TAKEN", "filter: expressions are not taken; use the fields of the request").WithField("filter", "FILTER_NOT_TAKEN", "is not taken")
	}
	w := &where{}
	w.in(tenant, boxes)
	w.and("quarantine_code = ''")
	if req.GetFolder() != "" {
		w.and("folder = %s", req.GetFolder())
	}
	if req.GetType() != "" {
		w.and("tipo = %s", req.GetType())
	}
	w.part("certified_sender || ' ' || from_address", req.GetFrom())
	w.part("array_to_string(recipients, ' ')", req.GetTo())
	w.part("subject", req.GetSubject())
	w.part("array_to_string(attachments, ' ')", req.GetAttachment())
	if req.HasAttachment != nil {
		w.and("(cardinality(attachments) > 0) = %s", req.GetHasAttachment())
	}
	if req.Proven != nil {
		w.and("proven = %s", req.GetProven())
	}
	if t := req.GetStartTime(); t != nil {
		w.and("receive_time >= %s", t.AsTime())
	}
	if t := req.GetEndTime(); t != nil {
		w.and("receive_time < %s", t.AsTime())
	}
	w.number("kind", int32(req.GetKind()))
	w.number("state", int32(req.GetState()))
	w.number("direction", int32(req.GetDirection()))
	if id := pec.TrimID(req.GetMessageId()); id != "" {
		w.and("(message_id = %[1]s OR identificativo = %[1]s OR reference = %[1]s)", id)
	}
	if req.GetAbout() != "" {
		_, _, id, err := splitMessage(req.GetAbout())
		if err != nil {
			return nil, err
		}
		w.and("about_id = %s", id)
	}
	return w, w.text(req.GetText(), tenant, boxes)
}

// text asks for words; each may be the beginning of one. The last character of Unicode comes after all that begin so.
func (w *where) text(text, tenant string, boxes []uuid.UUID) error {
	if text == "" {
		return nil
	}
	list := wordsOf(text)
	if len(list) == 0 || len(list) > mostTerms {
		return fault.Invalid("TEXT_WITHOUT_WORDS", "text: give one to %d words of letters or digits", mostTerms).WithField("text", "TEXT_WITHOUT_WORDS", "has none or too many")
	}
	for _, term := range list {
		w.and("id IN (SELECT w.message_id FROM message_word w WHERE w.tenant_id = %s AND w.mailbox_id = ANY(%s::uuid[]) AND w.word >= %s AND w.word < %s)",
			tenant, boxes, term, term+"\U0010FFFF")
	}
	return nil
}

// ListMessages lists what is kept of a mailbox, or of all that the caller may read, newest first. What is in quarantine is
// not among it. Words are found once a mailbox has been read for the first time.
func (s *Service) ListMessages(ctx context.Context, req *pecv1.ListMessagesRequest) (*pecv1.ListMessagesResponse, error) {
	tenant := strings.Split(req.GetParent(), "/")[1]
	bare := proto.CloneOf(req)
	bare.PageToken, bare.PageSize = "", 0
	filter, err := proto.MarshalOptions{Deterministic: true}.Marshal(bare)
	if err != nil {
		return nil, err
	}
	hash := pg.FilterHash("messages", string(filter))
	var last uuid.UUID
	found, err := pg.DecodePageToken(req.GetPageToken(), hash, &last)
	if err != nil {
		return nil, err
	}
	size := int(pageSize(req.GetPageSize()))
	out := &pecv1.ListMessagesResponse{}
	err = s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		boxes, err := s.reachable(ctx, tx, req.GetParent())
		if err != nil || len(boxes) == 0 {
			return err
		}
		w, err := searchOf(req, tenant, boxes)
		if err != nil {
			return err
		}
		if found {
			w.and("id < %s", last)
		}
		ids, err := w.ids(ctx, tx, size+1)
		if err != nil {
			return err
		}
		if len(ids) > size {
			ids = ids[:size]
			out.NextPageToken, err = pg.EncodePageToken(hash, ids[size-1])
			if err != nil {
				return err
			}
		}
		out.Messages, err = showMessages(ctx, tx, tenant, ids)
		return err
	})
	return out, err
}

// ids runs the search for messages.
func (w *where) ids(ctx context.Context, tx pgx.Tx, most int) ([]uuid.UUID, error) {
	rows, err := tx.Query(ctx, "SELECT id FROM message WHERE "+w.String()+fmt.Sprintf(" ORDER BY id DESC LIMIT %d", most), w.args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

func showMessages(ctx context.Context, tx pgx.Tx, tenant string, ids []uuid.UUID) ([]*pecv1.Message, error) {
	rows, err := q(tx).MessagesByID(ctx, db.MessagesByIDParams{TenantID: tenant, Ids: ids})
	if err != nil {
		return nil, err
	}
	outcomes, err := outcomesOf(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	var out []*pecv1.Message
	for _, r := range rows {
		m, err := showMessage(r, outcomes[r.ID])
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}
