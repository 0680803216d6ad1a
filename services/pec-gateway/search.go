package pecgateway

import (
	"context"
	"fmt"
	"slices"
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

// messageSearch is a search of messages: the trail to what can fit, and what else has to.
type messageSearch struct {
	trail
	rest   where
	tenant string
	among  []uuid.UUID // mailboxes
	probed []string    // words that the trail does not answer
}

// searchMessages turns a request into a search. Faults: Invalid FILTER_NOT_TAKEN, TEXT_WITHOUT_WORDS.
func searchMessages(ctx context.Context, tx pgx.Tx, req *pecv1.ListMessagesRequest, tenant string, boxes []uuid.UUID) (*messageSearch, error) {
	if req.GetFilter() != "" {
		return nil, fault.Invalid("FILTER_NOT_TAKEN", "filter: expressions are not taken; use the fields of the request").WithField("filter", "FILTER_NOT_TAKEN", "is not taken")
	}
	s := &messageSearch{tenant: tenant, among: boxes, trail: trail{
		from: "message", at: "receive_time", key: "id", boxes: boxes, since: timeOf(req.GetStartTime()), until: timeOf(req.GetEndTime()),
	}}
	s.condition.and("tenant_id = %s", tenant)
	s.rest.in(tenant, boxes)
	s.rest.and("quarantine_code = ''") // these are few: they alone do not make a page look further
	err := s.asked(req)
	if err != nil {
		return nil, err
	}
	return s, s.choose(ctx, tx, req)
}

// asked are the conditions, of which the trail will answer one.
func (s *messageSearch) asked(req *pecv1.ListMessagesRequest) error {
	w := &s.rest
	before := len(w.conditions)
	if req.GetFolder() != "" {
		w.and("folder = %s", req.GetFolder())
	}
	if req.GetType() != "" {
		w.and("tipo = %s", req.GetType())
	}
	w.number("kind", int32(req.GetKind()))
	w.number("state", int32(req.GetState()))
	s.remaining = len(w.conditions) > before+1
	before = len(w.conditions)
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
	w.number("direction", int32(req.GetDirection()))
	s.remaining = s.remaining || len(w.conditions) > before
	if id := pec.TrimID(req.GetMessageId()); id != "" {
		w.and("(message_id = %[1]s OR identificativo = %[1]s OR reference = %[1]s)", id)
	}
	if req.GetAbout() != "" {
		_, _, id, err := splitMessage(req.GetAbout())
		if err != nil {
			return err
		}
		w.and("about_id = %s", id)
	}
	return nil
}

// choose takes the trail that leads past the fewest messages which do not fit.
func (s *messageSearch) choose(ctx context.Context, tx pgx.Tx, req *pecv1.ListMessagesRequest) error {
	rare, err := s.words(ctx, tx, req.GetText())
	if err != nil {
		return err
	}
	state := req.GetState() != pecv1.MessageState_MESSAGE_STATE_UNSPECIFIED && req.GetState() != pecv1.MessageState_MESSAGE_STATE_RECEIVED
	switch {
	case pec.TrimID(req.GetMessageId()) != "":
		s.few([]any{s.among, pec.TrimID(req.GetMessageId())}, "mailbox_id = ANY($2::uuid[]) AND message_id = $3 AND message_id <> ''",
			"mailbox_id = ANY($2::uuid[]) AND reference = $3 AND reference <> ''", "mailbox_id = ANY($2::uuid[]) AND identificativo = $3 AND identificativo <> ''")
	case req.GetAbout() != "":
		_, _, id, err := splitMessage(req.GetAbout())
		if err != nil {
			return err
		}
		s.few([]any{id}, "about_id = $2")
	case rare != "":
		s.condition.args = append(s.condition.args, s.among, rare, rare+lastLetter)
		s.from, s.boxes, s.remaining = rareWord, nil, true
	case state:
		s.condition.and("state = %s AND direction = 2", int32(req.GetState()))
	case req.GetFolder() != "" && req.GetFolder() != "INBOX": // where nearly everything is
		s.condition.and("folder = %s", req.GetFolder())
	case req.GetType() != "":
		s.condition.and("tipo = %s AND tipo <> ''", req.GetType())
	case req.GetKind() != pecv1.MessageKind_MESSAGE_KIND_UNSPECIFIED:
		s.condition.and("kind = %s", int32(req.GetKind()))
	case req.GetFolder() != "":
		s.condition.and("folder = %s", req.GetFolder())
	default:
		s.remaining = s.remaining || req.GetState() != pecv1.MessageState_MESSAGE_STATE_UNSPECIFIED
		if len(s.boxes) > 1 { // in the order of all, from which other mailboxes are sorted out
			s.boxes, s.remaining = nil, true
		}
	}
	return nil
}

// few takes a trail of all that fit one of several conditions.
func (s *messageSearch) few(args []any, conditions ...string) {
	s.condition.args = append(s.condition.args, args...)
	s.from = few("message", "receive_time", "id, tenant_id", "", conditions...)
	s.boxes, s.remaining = nil, true
}

const (
	lastLetter = "\U0010FFFF" // it comes after all that begin with the same letters
	mostRare   = 20_000       // messages that a word is in, for the search to begin with them
)

// rareWord is what a trail begins with that has such a word, one look for each message: with a join a planner that takes it for more
// frequent than it is might read all messages there are.
const rareWord = `(SELECT m.receive_time, m.id, m.tenant_id FROM (
		SELECT DISTINCT message_id FROM message_word WHERE tenant_id = $1 AND mailbox_id = ANY($2::uuid[]) AND word >= $3 AND word < $4
	) AS w, LATERAL (SELECT receive_time, id, tenant_id FROM message WHERE tenant_id = $1 AND id = w.message_id OFFSET 0) AS m OFFSET 0) AS fitting`

// words asks for words; each may be the beginning of one. The one that the fewest messages have is given, if they are few enough to
// begin with; the others are looked for among messages that fit otherwise.
func (s *messageSearch) words(ctx context.Context, tx pgx.Tx, text string) (string, error) {
	if text == "" {
		return "", nil
	}
	list := wordsOf(text)
	if len(list) == 0 || len(list) > mostTerms {
		return "", fault.Invalid("TEXT_WITHOUT_WORDS", "text: give one to %d words of letters or digits", mostTerms).WithField("text", "TEXT_WITHOUT_WORDS", "has none or too many")
	}
	rare, fewest := "", mostRare+1
	for _, term := range list {
		var n int
		err := tx.QueryRow(ctx, `SELECT count(*) FROM (SELECT FROM message_word w WHERE w.tenant_id = $1 AND w.mailbox_id = ANY($2::uuid[]) AND w.word >= $3 AND w.word < $4 LIMIT $5) AS x`,
			s.tenant, s.among, term, term+lastLetter, mostRare+1).Scan(&n)
		if err != nil {
			return "", err
		}
		if n < fewest {
			rare, fewest = term, n
		}
	}
	s.probed = slices.DeleteFunc(list, func(term string) bool { return term == rare })
	s.remaining = s.remaining || len(s.probed) > 0
	return rare, nil
}

// searchColumns are what is asked of a message.
const searchColumns = "id, tenant_id, mailbox_id, receive_time, quarantine_code, folder, tipo, kind, state, certified_sender, from_address, recipients, subject, attachments, proven, direction, message_id, identificativo, reference, about_id"

// messages are those of the ids that fit. The inner statement knows the ids alone: with anything else beside them a planner might
// take an index that leads to many more rows.
func (s *messageSearch) messages(ids []uuid.UUID, most int) (string, []any) {
	w := where{conditions: slices.Clone(s.rest.conditions), args: append(slices.Clone(s.rest.args), ids)}
	given := len(w.args)
	for _, term := range s.probed { // one look for each message: with a join all that have the word might be read
		w.and("(SELECT true FROM message_word w WHERE w.tenant_id = %s AND w.message_id = message.id AND w.word >= %s AND w.word < %s LIMIT 1)", s.tenant, term, term+lastLetter)
	}
	return fmt.Sprintf("SELECT receive_time, id FROM (SELECT %s FROM message WHERE tenant_id = $1 AND id = ANY($%d::uuid[]) OFFSET 0) AS message WHERE %s ORDER BY receive_time DESC, id DESC LIMIT %d",
		searchColumns, given, w.String(), most), w.args
}

// page gives the messages of a page, and where the next one begins.
func (s *messageSearch) page(ctx context.Context, tx pgx.Tx, after *spot[uuid.UUID], size int) ([]spot[uuid.UUID], *spot[uuid.UUID], error) {
	fetch := func(ids []uuid.UUID, most int) ([]spot[uuid.UUID], error) {
		sql, args := s.messages(ids, most)
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, func(row pgx.CollectableRow) (found spot[uuid.UUID], err error) {
			return found, row.Scan(&found.At, &found.Key)
		})
	}
	return follow(ctx, tx, s.trail, after, false, size, fetch, func(found spot[uuid.UUID]) spot[uuid.UUID] { return found })
}

// ListMessages lists what is kept of a mailbox, or of all that the caller may read, newest first. What is in quarantine is
// not among it. Words are found once a mailbox has been read for the first time. A page looks at so many messages and no more, as
// ListLogEntries does.
func (s *Service) ListMessages(ctx context.Context, req *pecv1.ListMessagesRequest) (*pecv1.ListMessagesResponse, error) {
	tenant := strings.Split(req.GetParent(), "/")[1]
	bare := proto.CloneOf(req)
	bare.PageToken, bare.PageSize = "", 0
	filter, err := proto.MarshalOptions{Deterministic: true}.Marshal(bare)
	if err != nil {
		return nil, err
	}
	hash := pg.FilterHash("messages", string(filter))
	after := &spot[uuid.UUID]{}
	found, err := pg.DecodePageToken(req.GetPageToken(), hash, &after.At, &after.Key)
	if err != nil {
		return nil, err
	}
	if !found {
		after = nil
	}
	out := &pecv1.ListMessagesResponse{}
	err = s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		boxes, err := s.reachable(ctx, tx, req.GetParent())
		if err != nil || len(boxes) == 0 {
			return err
		}
		search, err := searchMessages(ctx, tx, req, tenant, boxes)
		if err != nil {
			return err
		}
		page, next, err := search.page(ctx, tx, after, int(pageSize(req.GetPageSize())))
		if err == nil && next != nil {
			out.NextPageToken, err = pg.EncodePageToken(hash, next.At, next.Key)
		}
		if err != nil || len(page) == 0 {
			return err
		}
		ids := make([]uuid.UUID, len(page))
		for i, found := range page {
			ids[i] = found.Key
		}
		out.Messages, err = showMessages(ctx, tx, tenant, ids)
		return err
	})
	return out, err
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
