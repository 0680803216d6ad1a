package pecgateway

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// fillMessages writes messages beside a log, in the same mailboxes and the same time: a quarter came in, a quarter left, and the rest are
// the two receipts of these. Three thousandths are in a folder of ours, one in five thousand was not delivered, one in five hundred is in
// quarantine; each has two frequent words, one that a thousandth have and one of its own.
func (s logStock) fillMessages(t testing.TB) {
	t.Helper()
	var boxes []uuid.UUID
	for i := range stockBoxes {
		boxes = append(boxes, stockBox(stockTenant, i))
	}
	s.exec(t, `SET session_replication_role = replica`)
	again := func() {}
	if s.n > stockPage {
		again = s.withoutIndexes(t, "message")
	}
	s.exec(t, `INSERT INTO message (tenant_id, id, mailbox_id, direction, kind, tipo, state, message_id, reference, identificativo, from_address, certified_sender, recipients, subject, folder,
			proven, quarantine_code, about_id, content_uri, sha256, size, receive_time, create_time, attachments)
		SELECT tenant, id(i), CASE WHEN tenant = 'acme' THEN ($1::uuid[])[box + 1] ELSE md5(tenant)::uuid END, CASE step WHEN 1 THEN 2 ELSE 1 END, (ARRAY[1, 9, 2, 5])[step + 1],
			(ARRAY['posta-certificata', '', 'accettazione', 'avvenuta-consegna'])[step + 1], CASE WHEN step <> 1 THEN 8 WHEN i % 20000 = 2001 THEN 7 ELSE 5 END,
			'm' || i || '@alfa.test', CASE WHEN step > 1 THEN 'm' || i - step + 1 || '@alfa.test' ELSE '' END, CASE step WHEN 0 THEN '' ELSE 'opec' || i / 4 END,
			own, CASE step WHEN 0 THEN 'cliente' || i || '@pec.example' ELSE '' END, ARRAY['destinatario' || i || '@pec.example'], 'Fattura n. ' || i || ' del fornitore', CASE WHEN i % 1000 < 3 THEN 'Clienti' ELSE 'INBOX' END,
			step <> 1, CASE WHEN i % 500 = 4 THEN 'MESSAGE_ODD' ELSE '' END, CASE WHEN step > 1 THEN id(i - step + 1) END, '', sha256(i::text::bytea), 1, at, at, CASE WHEN step = 0 THEN ARRAY['allegato' || i || '.pdf'] ELSE '{}' END
		FROM (SELECT i, CASE WHEN i / 4 % 10 >= 7 THEN 'altra' || i / 40 % 10 ELSE 'acme' END AS tenant, CASE WHEN i / 40 % 2 = 0 THEN 0 ELSE i / 80 % 200 END AS box, i % 4 AS step,
			'casella' || CASE WHEN i / 40 % 2 = 0 THEN 0 ELSE i / 80 % 200 END || '@acme.test' AS own, $2::timestamptz + i * (interval '1825 days' / $3::int) AS at
			FROM generate_series(0, $3::int - 1) AS i) AS x`, boxes, stockBegin, s.n)
	s.exec(t, `INSERT INTO message_word (tenant_id, mailbox_id, word, message_id) SELECT tenant_id, mailbox_id, unnest(ARRAY['fattura', 'fornitore', 'parola' || size_of % 1000, 'n' || size_of]), id
		FROM (SELECT tenant_id, mailbox_id, id, substr(message_id, 2, strpos(message_id, '@') - 2)::int AS size_of FROM message) AS x ORDER BY 1, 2, 3, 4`)
	again()
	s.exec(t, `SET session_replication_role = origin; DROP FUNCTION id(int)`)
	s.exec(t, `VACUUM ANALYZE message`)
	s.exec(t, `VACUUM ANALYZE message_word`)
}

// messageForm is a way in which people search messages; plain is the same for somebody who reads them all.
type messageForm struct {
	name, plain string
	all, bounds bool
	ask         func(r *pecv1.ListMessagesRequest)
}

func (f messageForm) title() string { return logForm{name: f.name, all: f.all}.title() }

func (f messageForm) request() *pecv1.ListMessagesRequest {
	r := &pecv1.ListMessagesRequest{Parent: logForm{all: f.all}.request().GetParent()}
	f.ask(r)
	return r
}

func (s logStock) messageForms(nth int) []messageForm {
	i := nth * 7919 % s.n / 80 * 80 // of the first mailbox
	sent := messageName(stockTenant, stockBox(stockTenant, 0), stockMessage(i+1))
	day := stockBegin.Add(time.Duration(nth*104729%s.n) * (5 * 365 * 24 * time.Hour / time.Duration(s.n)))
	within := fmt.Sprintf("receive_time >= '%s' AND receive_time < '%s'", day.Format(time.RFC3339Nano), day.AddDate(0, 0, 3).Format(time.RFC3339Nano))
	days := func(r *pecv1.ListMessagesRequest) {
		r.StartTime, r.EndTime = timestamppb.New(day), timestamppb.New(day.AddDate(0, 0, 3))
	}
	no := false
	word := func(w string) string {
		return fmt.Sprintf("id IN (SELECT message_id FROM message_word WHERE word LIKE '%s%%')", w)
	}
	var out []messageForm
	for _, all := range []bool{false, true} {
		out = append(out, []messageForm{
			{"nothing", "true", all, false, func(*pecv1.ListMessagesRequest) {}},
			{"Message-ID", fmt.Sprintf("'m%d@alfa.test' IN (message_id, reference)", i+1), all, false, func(r *pecv1.ListMessagesRequest) { r.MessageId = fmt.Sprintf("<m%d@alfa.test>", i+1) }},
			{"identificativo", fmt.Sprintf("identificativo = 'opec%d'", i/4), all, false, func(r *pecv1.ListMessagesRequest) { r.MessageId = fmt.Sprintf("opec%d", i/4) }},
			{"about", "about_id = '" + stockMessage(i+1).String() + "'", all, false, func(r *pecv1.ListMessagesRequest) { r.About = sent }},
			{"days", within, all, false, days},
			{"folder", "folder = 'Clienti'", all, false, func(r *pecv1.ListMessagesRequest) { r.Folder = "Clienti" }},
			{"INBOX", "folder = 'INBOX'", all, false, func(r *pecv1.ListMessagesRequest) { r.Folder = "INBOX" }},
			{"folder that none is in", "false", all, false, func(r *pecv1.ListMessagesRequest) { r.Folder = "Vuota" }},
			{"kind", "kind = 5", all, false, func(r *pecv1.ListMessagesRequest) { r.Kind = pecv1.MessageKind_MESSAGE_KIND_DELIVERY }},
			{"kind that none is of", "false", all, false, func(r *pecv1.ListMessagesRequest) { r.Kind = pecv1.MessageKind_MESSAGE_KIND_VIRUS_DETECTION }},
			{"type and days", "tipo = 'accettazione' AND " + within, all, false, func(r *pecv1.ListMessagesRequest) { days(r); r.Type = "accettazione" }},
			{"type that none is of", "false", all, false, func(r *pecv1.ListMessagesRequest) { r.Type = "rilevazione-virus" }},
			{"state", "state = 5", all, false, func(r *pecv1.ListMessagesRequest) { r.State = pecv1.MessageState_MESSAGE_STATE_DELIVERED }},
			{"rare state", "state = 7", all, false, func(r *pecv1.ListMessagesRequest) { r.State = pecv1.MessageState_MESSAGE_STATE_FAILED }},
			{"own word", word(fmt.Sprintf("n%d", i)), all, false, func(r *pecv1.ListMessagesRequest) { r.Text = fmt.Sprintf("N%d", i) }},
			{"word of some, frequent word", word(fmt.Sprintf("parola%d", 100+i%900)), all, false, func(r *pecv1.ListMessagesRequest) { r.Text = fmt.Sprintf("fattura parola%d", 100+i%900) }},
			{"word that none has", "false", all, false, func(r *pecv1.ListMessagesRequest) { r.Text = "inesistente" }},
			{"frequent word", "true", all, true, func(r *pecv1.ListMessagesRequest) { r.Text = "fattura" }},
			{"sent", "direction = 2", all, true, func(r *pecv1.ListMessagesRequest) { r.Direction = pecv1.MessageDirection_MESSAGE_DIRECTION_SENT }},
			{"not proven", "NOT proven", all, true, func(r *pecv1.ListMessagesRequest) { r.Proven = &no }},
			{"without files", "attachments = '{}'", all, true, func(r *pecv1.ListMessagesRequest) { r.HasAttachment = &no }},
			{"part of the sender", fmt.Sprintf("certified_sender LIKE '%%cliente%d@%%'", i), all, true, func(r *pecv1.ListMessagesRequest) { r.From = fmt.Sprintf("Cliente%d@", i) }},
			{"part of a recipient", fmt.Sprintf("array_to_string(recipients, ' ') LIKE '%%destinatario%d@%%'", i), all, true, func(r *pecv1.ListMessagesRequest) { r.To = fmt.Sprintf("destinatario%d@", i) }},
			{"part of the subject", fmt.Sprintf("subject LIKE '%%n. %d %%'", i), all, true, func(r *pecv1.ListMessagesRequest) { r.Subject = fmt.Sprintf("N. %d ", i) }},
			{"part of a file's name, days", fmt.Sprintf("array_to_string(attachments, ' ') LIKE '%%allegato%d.%%' AND %s", i, within), all, true, func(r *pecv1.ListMessagesRequest) { days(r); r.Attachment = fmt.Sprintf("Allegato%d.", i) }},
		}...)
	}
	return out
}

func stockMessage(i int) uuid.UUID {
	return uuid.MustParse(fmt.Sprintf("%012x70008000000000000000", i))
}

// TestEverySearchOfMessagesIsIndexed: each field of ListMessages is answered by an index in the order of the list, under row-level
// security, on each page that is looked at; what is compared row by row is bounded; and all that reading everything finds is found, once.
func TestEverySearchOfMessagesIsIndexed(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, "pec-gateway")
	s := logStock{pgtest.Admin(t, db), 40_000}
	s.boxes(t)
	s.exec(t, stockMessageID)
	s.fillMessages(t)
	ctx := auth.With(t.Context(), auth.Caller{Role: auth.RoleOperator})
	service := &Service{db: db}
	const size = 20
	for _, form := range s.messageForms(11) {
		mailboxes := "tenant_id = 'acme'"
		if !form.all {
			mailboxes += " AND mailbox_id = '" + stockBox(stockTenant, 0).String() + "'"
		}
		rows, err := s.admin.Query(ctx, "SELECT id FROM message WHERE quarantine_code = '' AND "+mailboxes+" AND "+form.plain+" ORDER BY receive_time DESC, id DESC")
		require.NoError(t, err)
		want, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		require.NoError(t, err)
		require.NoError(t, db.View(ctx, stockTenant, func(ctx context.Context, tx pgx.Tx) error {
			boxes, err := service.reachable(ctx, tx, form.request().GetParent())
			require.NoError(t, err)
			search, err := searchMessages(ctx, tx, form.request(), stockTenant, boxes)
			require.NoError(t, err)
			found := []uuid.UUID{}
			var after *spot[uuid.UUID]
			for page := 0; page == 0 || after != nil && (page < 4 || len(want) < 400); page++ {
				var place *afterSpot
				if after != nil {
					place = &afterSpot{after.At, after.Key}
				}
				most := float64(size + 1)
				if search.remaining {
					most = firstLooked
				}
				allowed := 4 * most // of a union each branch
				if len(search.boxes) > 1 {
					allowed = 2*float64(len(boxes)) + max(4*most, leastShare*float64(len(boxes)))
				}
				if form.request().GetText() != "" && search.boxes == nil {
					allowed = 3 * mostRare // those that have the word, who are few enough for this
				}
				sql, args := search.sql(place, false, int(most))
				read, indexes, plan := explained(t, ctx, tx, sql, args)
				require.LessOrEqual(t, read, allowed, "%s, page %d:\n%s", form.title(), page, plan)
				for index := range indexes {
					require.NotContains(t, index, "no index", "%s:\n%s", form.title(), plan)
				}
				spots, _, err := nextSpots(ctx, tx, search.trail, after, false, int(most))
				require.NoError(t, err)
				var keys []uuid.UUID
				for _, s := range spots {
					keys = append(keys, s.Key)
				}
				if len(keys) > 0 {
					sql, args = search.messages(keys, size+1)
					read, indexes, plan = explained(t, ctx, tx, sql, args)
					require.LessOrEqual(t, read, float64(len(keys)*(2+len(search.probed))), "%s, rows of page %d:\n%s", form.title(), page, plan)
					for index := range indexes {
						require.Contains(t, []string{"message_pkey", "message_word_of", ""}, index, "%s:\n%s", form.title(), plan)
					}
				}
				shown, next, err := search.page(ctx, tx, after, size)
				require.NoError(t, err)
				for _, m := range shown {
					found = append(found, m.Key)
				}
				after = next
			}
			if after != nil {
				require.GreaterOrEqual(t, len(want), len(found), form.title())
				want = want[:len(found)]
			}
			require.Equal(t, want, found, form.title())
			return nil
		}))
	}
}

const stockMessageID = `CREATE FUNCTION id(i int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT (lpad(to_hex(i), 12, '0') || '70008000000000000000')::uuid $$`

// reportMessages times searches of messages.
func (s logStock) reportMessages(b *testing.B, ctx context.Context, db *pg.DB) {
	b.Helper()
	began := time.Now()
	s.exec(b, stockMessageID)
	s.fillMessages(b)
	logFigure(fmt.Sprintf("pec: %d messages of 11 tenants filled, their indexes made", s.n), time.Since(began).Seconds(), "s", "-")
	s.reportSizes(b, "message", "message_word")
	service := &Service{db: db}
	t := timings{}
	for nth := range *benchSearches {
		for _, form := range s.messageForms(nth + 1) {
			t.time(form.title(), func() {
				_, err := service.ListMessages(ctx, form.request())
				require.NoError(b, err)
			})
			t.time(form.title()+", deep page", func() {
				require.NoError(b, db.View(ctx, stockTenant, func(ctx context.Context, tx pgx.Tx) error {
					boxes, err := service.reachable(ctx, tx, form.request().GetParent())
					require.NoError(b, err)
					search, err := searchMessages(ctx, tx, form.request(), stockTenant, boxes)
					require.NoError(b, err)
					_, _, err = search.page(ctx, tx, &spot[uuid.UUID]{stockBegin.AddDate(0, 0, 1825/(2+nth%7)), uuid.Max}, 50)
					return err
				}))
			})
		}
	}
	t.report(fmt.Sprintf("pec: %d messages, ", s.n))
}
