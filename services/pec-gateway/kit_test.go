package pecgateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/sandbox/client"
)

// believe imports the sandbox's index of providers, as signed, and the authorities behind them.
func (h *house) believe() {
	h.t.Helper()
	index, err := h.sandbox.PECIndex(h.t.Context())
	require.NoError(h.t, err)
	_, err = h.trust.ImportTrustList(h.t.Context(), &pecv1.ImportTrustListRequest{
		Index: index, IndexAuthorityPem: string(h.world.CAPEM()), AuthoritiesPem: h.authorities(),
	})
	require.NoError(h.t, err)
}

func (h *house) authorities() string {
	h.t.Helper()
	list, err := h.sandbox.PECProviders(h.t.Context())
	require.NoError(h.t, err)
	var out strings.Builder
	for _, p := range list {
		out.WriteString(p.CAPEM)
	}
	return out.String()
}

// send submits a message over the sandbox's SMTP as another program of the owner would, and gives its
// Message-ID.
func (h *house) send(to ...string) string {
	h.t.Helper()
	id := h.flood(1, to...)
	h.settle()
	return id
}

// flood submits so many messages one after the other, over one connection and without waiting until they have arrived; it gives the
// Message-ID of the last one.
func (h *house) flood(n int, to ...string) string {
	h.t.Helper()
	pool := x509.NewCertPool()
	require.True(h.t, pool.AppendCertsFromPEM(h.world.CAPEM()))
	c, err := gosmtp.DialTLS(h.world.Endpoints().PEC.SMTPSAddr, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	require.NoError(h.t, err)
	defer c.Close()
	require.NoError(h.t, c.Auth(sasl.NewPlainClient("", sender, h.secretOf(sender))))
	var d *rfc.Draft
	for range n {
		d = h.letter(to...)
		var raw bytes.Buffer
		_, err = rfc.Compose(&raw, d)
		require.NoError(h.t, err)
		require.NoError(h.t, c.SendMail(sender, d.Recipients(), &raw))
		if h.others == nil {
			h.others = map[string]bool{}
		}
		h.others[d.MessageID] = true
	}
	return d.MessageID
}

// letter is the next message that another program of the owner writes.
func (h *house) letter(to ...string) *rfc.Draft {
	h.next++
	d := &rfc.Draft{
		From: rfc.Address{Name: "Società Esempio", Addr: sender}, Subject: fmt.Sprintf("Offerta n. %d – perché così", h.next),
		Date: time.Now(), MessageID: fmt.Sprintf("m%d.%s@alfa.test", h.next, uuid.NewString()), Text: "Buongiorno,\n.\nÈ tutto.\n",
		Attachments: []rfc.File{rfc.BytesFile("offerta.pdf", "application/pdf", []byte("%PDF-1.4 offerta"))},
	}
	for _, a := range to {
		d.To = append(d.To, rfc.Address{Addr: a})
	}
	return d
}

func (h *house) secretOf(address string) string {
	if s, ok := h.secrets[address]; ok {
		return s
	}
	return "sandbox"
}

// settle waits until everything in the sandbox has arrived.
func (h *house) settle() { h.advance(time.Millisecond) }

func (h *house) advance(d time.Duration) {
	h.t.Helper()
	_, err := h.sandbox.Advance(h.t.Context(), d)
	require.NoError(h.t, err)
}

// sent writes down a message of ours, as sending does before it connects.
func (h *house) sent(box *pecv1.Mailbox, messageID string, to ...string) string {
	h.t.Helper()
	id := uuid.Must(uuid.NewV7())
	boxID := box.GetName()[strings.LastIndex(box.GetName(), "/")+1:]
	ref, err := h.Host("pec-gateway").Blobs.Put(context.Background(), tenant, []byte("Message-ID: <"+messageID+">\r\n\r\nours\r\n"))
	require.NoError(h.t, err)
	require.NoError(h.t, h.DB("pec-gateway").Tx(context.Background(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO message (tenant_id, id, mailbox_id, direction, kind, state, message_id, content_uri, sha256, size, receive_time, create_time)
			VALUES ($1, $2, $3, 2, 1, 1, $4, $5, $6, $7, now(), now())`, tenant, id, uuid.MustParse(boxID), messageID, ref.URI(), ref.SHA256[:], ref.Size)
		for i, a := range to {
			if err == nil {
				_, err = tx.Exec(ctx, `INSERT INTO recipient (tenant_id, message_id, position, address, field) VALUES ($1, $2, $3, $4, 'to')`, tenant, id, i, a)
			}
		}
		return err
	}))
	return box.GetName() + "/messages/" + id.String()
}

// receipts are the received messages of a mailbox, newest first.
func (h *house) receipts(box *pecv1.Mailbox) []*pecv1.Message {
	return h.list(box, func(r *pecv1.ListMessagesRequest) { r.Direction = pecv1.MessageDirection_MESSAGE_DIRECTION_RECEIVED })
}

func (h *house) get(name string) *pecv1.Message {
	h.t.Helper()
	m, err := h.api.GetMessage(h.t.Context(), &pecv1.GetMessageRequest{Name: name})
	require.NoError(h.t, err)
	return m
}

func (h *house) box(m *pecv1.Mailbox) *pecv1.Mailbox {
	h.t.Helper()
	got, err := h.api.GetMailbox(h.t.Context(), &pecv1.GetMailboxRequest{Name: m.GetName()})
	require.NoError(h.t, err)
	return got
}

// list gives the messages of a mailbox, newest first.
func (h *house) list(box *pecv1.Mailbox, change ...func(*pecv1.ListMessagesRequest)) []*pecv1.Message {
	h.t.Helper()
	req := &pecv1.ListMessagesRequest{Parent: box.GetName(), PageSize: 1000}
	for _, fn := range change {
		fn(req)
	}
	page, err := h.api.ListMessages(h.t.Context(), req)
	require.NoError(h.t, err)
	return page.GetMessages()
}

// kept waits until the gateway has everything that the sandbox has of the mailboxes.
func (h *house) kept(boxes ...*pecv1.Mailbox) {
	h.t.Helper()
	for _, box := range boxes {
		want := h.offered(box.GetAddress())
		h.eventually("all bytes of "+box.GetAddress()+" are kept", func() bool {
			have := h.hashes(box)
			for sum := range want {
				if !have[sum] {
					return false
				}
			}
			return true
		})
	}
}

// offered are the hashes of what the provider has in folders that are read.
func (h *house) offered(address string) map[string]bool {
	h.t.Helper()
	if stored, ok := h.atDovecot(address); ok {
		out := map[string]bool{}
		for _, m := range stored {
			out[m.SHA256] = true
		}
		return out
	}
	list, err := h.sandbox.PECMessages(h.t.Context(), address)
	require.NoError(h.t, err)
	out := map[string]bool{}
	for _, m := range list {
		out[m.SHA256] = true
	}
	return out
}

// hashes of what is kept, from the archive itself.
func (h *house) hashes(box *pecv1.Mailbox) map[string]bool {
	h.t.Helper()
	out := map[string]bool{}
	id := box.GetName()[strings.LastIndex(box.GetName(), "/")+1:]
	require.NoError(h.t, h.DB("pec-gateway").System(context.Background(), func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT encode(sha256, 'hex') FROM message WHERE mailbox_id = $1 AND direction = 1`, uuid.MustParse(id))
		if err != nil {
			return err
		}
		sums, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, s := range sums {
			out[s] = true
		}
		return err
	}))
	return out
}

// shape is what the provider has, as its owner would notice a change of it (I7).
func (h *house) shape(address string) []string {
	h.t.Helper()
	if stored, ok := h.atDovecot(address); ok {
		var out []string
		for _, m := range stored {
			out = append(out, fmt.Sprint(m.Folder, m.SHA256, m.Flags))
		}
		return out
	}
	list, err := h.sandbox.PECMessages(h.t.Context(), address)
	require.NoError(h.t, err)
	var out []string
	for _, m := range list {
		slices.Sort(m.Flags)
		out = append(out, fmt.Sprint(m.Folder, m.SHA256, m.Flags))
	}
	slices.Sort(out)
	return out
}

// lookedAgain waits for a visit of a mailbox that went well.
func (h *house) lookedAgain(box *pecv1.Mailbox) {
	h.t.Helper()
	before := h.box(box).GetLastPollTime().AsTime()
	h.eventually("another look into "+box.GetAddress(), func() bool {
		got := h.box(box).GetLastPollTime()
		return got != nil && got.AsTime().After(before)
	})
}

// invariants holds after every case. Those about submissions (I3) are the sandbox's to count.
func (h *house) invariants(boxes ...*pecv1.Mailbox) {
	h.t.Helper()
	h.kept(boxes...) // I1
	h.unwell()
	h.othersRest(boxes)
	// I2: a state other than waiting stands on a proven receipt, or on one that was proven when it counted and whose loss of proof
	// is shown as a contradiction; on none that a person struck out.
	require.Zero(h.t, h.query(`SELECT count(*) FROM recipient r WHERE r.state <> 'waiting' AND NOT EXISTS (
		SELECT FROM fact f JOIN message m ON m.tenant_id = f.tenant_id AND m.id = f.receipt_id
		WHERE f.tenant_id = r.tenant_id AND f.message_id = r.message_id AND f.struck_time IS NULL AND (m.proven OR f.doubt <> ''
			AND EXISTS (SELECT FROM report p WHERE p.tenant_id = m.tenant_id AND p.message_id = m.id AND p.proven)
			AND EXISTS (SELECT FROM message s, unnest(s.contradictions) c WHERE s.tenant_id = f.tenant_id AND s.id = f.message_id
				AND c LIKE 'RECEIPTS_NOT_PROVEN_ANY_MORE: %')))`), "I2")
	require.Zero(h.t, h.query(`SELECT count(*) FROM fact f JOIN message m ON m.tenant_id = f.tenant_id AND m.id = f.receipt_id
		WHERE m.proven = (f.doubt <> '')`), "I2: a receipt that counts is proven, or its fact says why not")
	shapes := map[string][]string{}
	for _, b := range boxes {
		shapes[b.GetAddress()] = h.shape(b.GetAddress())
	}
	// I5: everything again under new numbers changes nothing and tells nothing.
	h.eventually("the outbox is empty", func() bool { return h.query(`SELECT count(*) FROM outbox`) == 0 })
	states, told := h.states(), h.told()
	for _, b := range boxes {
		id := b.GetName()[strings.LastIndex(b.GetName(), "/")+1:]
		places := func() int { return h.query(`SELECT count(*) FROM location WHERE mailbox_id = $1`, uuid.MustParse(id)) }
		want := places() + len(shapes[b.GetAddress()]) // asked before: the gateway may see all of it at once
		h.renumber(b)
		if b.GetAccess() == pecv1.MailboxAccess_MAILBOX_ACCESS_POP3 {
			continue
		}
		h.eventually("everything in "+b.GetAddress()+" is seen again", func() bool { return places() >= want })
		h.lookedAgain(b)
	}
	h.eventually("the outbox is empty", func() bool { return h.query(`SELECT count(*) FROM outbox`) == 0 })
	require.Equal(h.t, states, h.states(), "I5")
	require.Zero(h.t, told(), "I5: no new event of any kind")
	once := map[string]bool{}
	for _, ev := range heard[*pecv1.MessageReceived](h) {
		require.False(h.t, once[ev.GetMessage()], "I5: %s is told twice", ev.GetMessage())
		once[ev.GetMessage()] = true
	}
	for address, secret := range h.secrets { // I6
		require.NotContains(h.t, h.log.String(), secret, address)
		require.NotContains(h.t, h.dump(), secret, address)
	}
	for address, before := range shapes { // I7
		require.Equal(h.t, before, h.shape(address), "I7")
	}
}

// othersRest waits until the other mailboxes of the house have what came for them: what they receive between two looks at all
// states would be taken for a change by the second reading. One that cannot be read is not waited for.
func (h *house) othersRest(boxes []*pecv1.Mailbox) {
	h.t.Helper()
	all, err := h.api.ListMailboxes(h.t.Context(), &pecv1.ListMailboxesRequest{Parent: parent, PageSize: 1000})
	require.NoError(h.t, err)
	for _, other := range all.GetMailboxes() {
		if slices.ContainsFunc(boxes, func(b *pecv1.Mailbox) bool { return b.GetName() == other.GetName() }) {
			continue
		}
		h.eventually("what came to "+other.GetAddress()+" is kept, or it cannot be read", func() bool {
			switch h.box(other).GetState() {
			case pecv1.MailboxState_MAILBOX_STATE_ACTIVE, pecv1.MailboxState_MAILBOX_STATE_SUSPENDED:
			default:
				return true
			}
			want, have := h.offered(other.GetAddress()), h.hashes(other)
			for sum := range want {
				if !have[sum] {
					return false
				}
			}
			return true
		})
	}
}

// told counts the events that are emitted from now on, heard or not.
func (h *house) told() func() int {
	h.t.Helper()
	admin, schema := pgtest.Admin(h.t, h.DB("pec-gateway")), h.DB("pec-gateway").Schema()
	for _, statement := range []string{
		`CREATE TABLE IF NOT EXISTS test_told (id uuid)`, `GRANT SELECT ON test_told TO PUBLIC`, `TRUNCATE test_told`,
		`CREATE OR REPLACE FUNCTION test_told() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
			INSERT INTO ` + schema + `.test_told VALUES (NEW.id); RETURN NULL; END $$`,
		`CREATE OR REPLACE TRIGGER test_told AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION test_told()`,
	} {
		_, err := admin.Exec(h.t.Context(), statement)
		require.NoError(h.t, err)
	}
	return func() (n int) {
		require.NoError(h.t, admin.QueryRow(h.t.Context(), `SELECT count(*) FROM test_told`).Scan(&n))
		return n
	}
}

// states is everything that receipts decide.
func (h *house) states() []string {
	h.t.Helper()
	var out []string
	require.NoError(h.t, h.DB("pec-gateway").System(context.Background(), func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT m.id::text || ' ' || m.state || ' ' || m.contradictions::text || ' ' || coalesce(
			(SELECT string_agg(r.address || '=' || r.state || r.late || r.final, ',' ORDER BY position) FROM recipient r WHERE r.message_id = m.id), '')
			FROM message m ORDER BY m.id`)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	}))
	return out
}

func (h *house) fault(kind string, change ...func(*client.Fault)) {
	h.t.Helper()
	f := client.Fault{Kind: kind}
	for _, fn := range change {
		fn(&f)
	}
	_, err := h.sandbox.AddFault(h.t.Context(), f)
	require.NoError(h.t, err)
}

func mask(paths ...string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: paths} }

// drain reads a stream to its end.
func drain(t testing.TB, recv func() ([]byte, error)) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	for {
		data, err := recv()
		if errors.Is(err, io.EOF) {
			return &out
		}
		require.NoError(t, err)
		out.Write(data)
	}
}
