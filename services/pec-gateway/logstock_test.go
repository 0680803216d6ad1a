package pecgateway

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/pec"
)

// logStock is a log of certified mail written into the tables as it would have come in five years: seven tenths of the entries
// are of one tenant with 200 mailboxes, half of these of its first one, and the rest of ten tenants with ten mailboxes each. Five entries
// in six are of messages that left, each queued, submitted, accepted and delivered with the two receipts of it; one is of mail that came.
type logStock struct {
	admin *pgx.Conn
	n     int
}

const (
	stockTenant  = "acme"
	stockBoxes   = 200
	frequentPeer = "sdi01@pec.fatturapa.test" // in a fifth of all entries
	formerPeer   = "vecchio@pec.example"      // in all of the oldest hundredth, and never again
)

var stockBegin = time.Date(2021, 11, 1, 0, 0, 0, 0, time.UTC)

func stockBox(tenant string, nth int) uuid.UUID {
	return uuid.NewSHA1(uuid.Nil, fmt.Appendf(nil, "%s/%d", tenant, nth))
}

func stockAddress(tenant string, nth int) string {
	return fmt.Sprintf("casella%d@%s.test", nth, tenant)
}

func (s logStock) at(i int) time.Time {
	return stockBegin.Add(time.Duration(float64(5*365*24*time.Hour) * float64(i) / float64(s.n))).Truncate(time.Microsecond)
}

// whose tells of which tenant and mailbox the entries of a message are.
func (s logStock) whose(message int) (tenant string, box int) {
	h := int(uint64(message) * 0x9E3779B97F4A7C15 >> 33)
	switch {
	case h%10 >= 7:
		return fmt.Sprintf("altra%d", h/10%10), h / 100 % 10
	case h/10%2 == 0:
		return stockTenant, 0
	}
	return stockTenant, h / 100 % stockBoxes
}

// peer is with whom a message was exchanged: the exchange, one of some hundred, or somebody who is never met again.
func (s logStock) peer(message int) string {
	switch {
	case message*6 < s.n/100:
		return formerPeer
	case message%5 == 0:
		return frequentPeer
	case message%5 < 3:
		return fmt.Sprintf("Fornitore%d@pec.example", message/5%400)
	}
	return s.rarePeer(message)
}

func (logStock) rarePeer(message int) string { return fmt.Sprintf("cliente%d@pec.example", message) }

func stockMsgid(message int) string { return fmt.Sprintf("opec%d.20260101.1.1@pec.alfa.test", message) }

func stockIdent(message int) string { return fmt.Sprintf("opec21.2026.%d.alfa", message) }

var stockColumns = []string{"number", "tenant_id", "mailbox_id", "at", "event", "message_id", "receipt_id", "tipo", "msgid", "reference", "identificativo", "sender", "recipients", "subject", "certified_time", "proof", "detail"}

// row is the i-th entry.
func (s logStock) row(i int) []any {
	message, step := i/6, i%6
	tenant, nth := s.whose(message)
	own, peer, at := stockAddress(tenant, nth), s.peer(message), s.at(i)
	id := uuid.NewSHA1(uuid.Nil, fmt.Appendf(nil, "m%d", message))
	subject := fmt.Sprintf("Fattura n. %d/%d per %s", message, at.Year(), peer)
	sent := func(event pec.FactKind, tipo pec.Tipo, ident, proof string) []any {
		return []any{int64(i + 1), tenant, stockBox(tenant, nth), at, int16(event), id, nil, string(tipo), stockMsgid(message), "", ident, own, []string{peer}, subject, nil, proof, ""} //nolint:gosec // a small number
	}
	receipt := func(tipo pec.Tipo) []any {
		return []any{int64(i + 1), tenant, stockBox(tenant, nth), at, int16(0), id, nil, string(tipo), fmt.Sprintf("r%d@pec.alfa.test", i), stockMsgid(message), stockIdent(message),
			"posta-certificata@pec.alfa.test", []string{own}, string(tipo) + ": " + subject, at, "proven", ""}
	}
	outcome, kind := pec.AvvenutaConsegna, pec.FactDelivered
	if message%5000 == 17 {
		outcome, kind = pec.ErroreConsegna, pec.FactFailed
	}
	switch step {
	case 0:
		return []any{int64(i + 1), tenant, stockBox(tenant, nth), at, int16(0), uuid.NewSHA1(id, []byte("in")), nil, "posta-certificata", fmt.Sprintf("in%d@pec.beta.test", message), "", "beta." + stockIdent(message),
			peer, []string{own}, "POSTA CERTIFICATA: ordine " + subject, at, "proven", ""}
	case 1:
		return sent(pec.FactQueued, "", "", "ours")
	case 2:
		return sent(pec.FactSubmitted, "", "", "ours")
	case 3:
		return sent(pec.FactAccepted, pec.Accettazione, stockIdent(message), "proven")
	case 4:
		return receipt(outcome)
	}
	return sent(kind, outcome, stockIdent(message), "proven")
}

const stockPage = 250_000

// fill writes the log by COPY, without the triggers, whose work is done here; without indexes too where they cost time, and made again.
func (s logStock) fill(t testing.TB) {
	t.Helper()
	s.exec(t, `SET maintenance_work_mem = '512MB'; SET synchronous_commit = off; ALTER TABLE log_entry DISABLE TRIGGER USER`)
	again := func() {}
	if s.n > stockPage {
		again = s.withoutIndexes(t, "log_entry")
	}
	for from := 0; from < s.n; from += stockPage {
		s.page(t, from, min(from+stockPage, s.n))
	}
	again()
	s.exec(t, `ALTER TABLE log_entry ENABLE TRIGGER USER`)
	s.exec(t, `VACUUM ANALYZE log_entry`) // as autovacuum leaves them
	s.exec(t, `VACUUM ANALYZE log_address`)
}

// withoutIndexes takes the indexes from a table that are not its key; of the log's addresses that one too.
func (s logStock) withoutIndexes(t testing.TB, table string) (again func()) {
	t.Helper()
	rows, err := s.admin.Query(context.Background(), `SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename = $1 AND indexname NOT LIKE '%\_pkey' ORDER BY 1`, table)
	require.NoError(t, err)
	var name, definition string
	var names, definitions []string
	_, err = pgx.ForEachRow(rows, []any{&name, &definition}, func() error {
		names, definitions = append(names, name), append(definitions, definition)
		return nil
	})
	require.NoError(t, err)
	for _, name := range names {
		s.exec(t, "DROP INDEX "+name)
	}
	if table == "log_entry" {
		s.exec(t, `ALTER TABLE log_address DROP CONSTRAINT log_address_pkey`)
		definitions = append(definitions, `ALTER TABLE log_address ADD CONSTRAINT log_address_pkey PRIMARY KEY (tenant_id, mailbox_id, address, at, number)`)
	}
	return func() {
		for _, definition := range definitions {
			s.exec(t, definition)
		}
	}
}

func (s logStock) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := s.admin.Exec(context.Background(), sql, args...)
	require.NoError(t, err, sql)
}

func (s logStock) page(t testing.TB, from, to int) {
	t.Helper()
	var addresses [][]any
	_, err := s.admin.CopyFrom(context.Background(), pgx.Identifier{"log_entry"}, stockColumns, pgx.CopyFromSlice(to-from, func(k int) ([]any, error) {
		row := s.row(from + k)
		for _, a := range append([]string{row[11].(string)}, row[12].([]string)...) { //nolint:forcetypeassert // made above
			addresses = append(addresses, []any{row[1], row[2], key(a), row[3], row[0]})
		}
		return row, nil
	}))
	require.NoError(t, err)
	_, err = s.admin.CopyFrom(context.Background(), pgx.Identifier{"log_address"}, []string{"tenant_id", "mailbox_id", "address", "at", "number"}, pgx.CopyFromRows(addresses))
	require.NoError(t, err)
}

// boxes writes the mailboxes, which are not looked into.
func (s logStock) boxes(t testing.TB) {
	t.Helper()
	for i := range stockBoxes {
		s.exec(t, `INSERT INTO mailbox (tenant_id, id, address, address_key, provider, username, access, paused, state, next_poll_time, create_time, update_time)
			VALUES ($1, $2, $3, $3, 'sandbox', $3, 1, true, 1, now(), now(), now())`, stockTenant, stockBox(stockTenant, i), stockAddress(stockTenant, i))
	}
}
