package notification

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/wneessen/go-mail"

	"ceralacca.dev/proto/catalog"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/notification/internal/db"
)

// Channels of mail about mailboxes of certified mail: the owner of the mailbox named the addresses.
const (
	byNotice  = "notice"
	byForward = "forward"
)

// Types of that mail. Nobody subscribes to them.
const (
	typeNotice  = "pec.incoming_notice"
	typeForward = "pec.forwarded"
)

// Fields by which the platform knows its own mail again, should it come into a mailbox in keeping.
const (
	fieldNotice  = "X-Ceralacca-Notice"
	fieldForward = "X-Ceralacca-Forward"
)

// largestForward is how much of a message goes with a mail; what is larger is told of and stays in the mailbox.
const largestForward = 20 << 20

// addressSpace makes the id of an address, so that one event makes one mail to it.
var addressSpace = uuid.MustParse("6f1f7a44-3b0e-4c39-8f0b-1d0c6d9d7b11")

// noticed is a message as a notice names it.
type noticed struct {
	Message   string `json:"message"`
	Sender    string `json:"sender"`
	Recipient string `json:"recipient"`
	Subject   string `json:"subject"`
	Time      string `json:"receive_time"`
	Certified bool   `json:"certified"`
}

// onIncomingNoticeDue promises a mail to each address: who wrote to whom, under which subject, and nothing else.
func (s *Service) onIncomingNoticeDue(ctx context.Context, tx pgx.Tx, ev *pecv1.IncomingNoticeDue) error {
	messages := make([]noticed, len(ev.GetMessages()))
	for i, m := range ev.GetMessages() {
		messages[i] = noticed{m.GetMessage(), m.GetSender(), m.GetRecipient(), m.GetTitle(), m.GetReceiveTime().AsTime().UTC().Format(time.RFC3339), m.GetCertified()}
	}
	for _, a := range ev.GetAddresses() {
		err := s.promiseMail(ctx, tx, db.InsertMailboxDeliveryParams{Channel: byNotice, EventType: typeNotice, Subject: ev.GetMailbox(), Address: a, Language: ev.GetLanguage()},
			map[string]any{"messages": messages, "more": ev.GetMore()})
		if err != nil {
			return err
		}
	}
	return nil
}

// onForwardDue promises to send mail that is not certified on, as an attachment.
func (s *Service) onForwardDue(ctx context.Context, tx pgx.Tx, ev *pecv1.ForwardDue) error {
	ref, err := blob.ParseURI(ev.GetContent().GetUri())
	if err != nil {
		return err
	}
	if ref.Tenant != pg.Tenant(ctx) {
		return fault.Denied("FOREIGN_BLOB", "%s belongs to another tenant", ev.GetMessage())
	}
	return s.promiseMail(ctx, tx, db.InsertMailboxDeliveryParams{Channel: byForward, EventType: typeForward, Subject: ev.GetMessage(), Address: ev.GetAddress(),
		Language: ev.GetLanguage(), ContentUri: ref.URI()},
		map[string]any{"sender": ev.GetSender(), "recipient": ev.GetRecipient(), "title": ev.GetTitle()})
}

// promiseMail writes a delivery. Without a mail server there is no mail.
func (s *Service) promiseMail(ctx context.Context, tx pgx.Tx, p db.InsertMailboxDeliveryParams, data map[string]any) error {
	if s.mail == nil {
		return nil
	}
	meta := bus.Meta(ctx)
	event, err := uuid.Parse(meta.ID)
	if err != nil {
		return fault.Invalid("EVENT_MALFORMED", "event id %q is no UUID", meta.ID).With(err)
	}
	p.Payload, err = payloadOf(catalog.Notice{Type: p.EventType, Invoice: p.Subject, Data: data}, meta.Time)
	if err != nil {
		return err
	}
	p.ID, err = pg.NewID()
	if err != nil {
		return err
	}
	if p.Language == "" {
		p.Language = italian
	}
	p.TenantID, p.EventID, p.EventTime, p.State, p.CreateTime = pg.Tenant(ctx), event, pg.Time(meta.Time), pending, pg.Time(s.now())
	p.TargetID = uuid.NewSHA1(addressSpace, []byte(strings.ToLower(p.Address)))
	n, err := q(tx).InsertMailboxDelivery(ctx, p)
	if err != nil || n == 0 {
		return err
	}
	return s.jobs.InsertTx(ctx, tx, deliverArgs{Tenant: p.TenantID, Delivery: p.ID}, nil)
}

// noticeMail writes the notice of mail that came in.
func (s *Service) noticeMail(row db.Delivery) (func(context.Context) outcome, error) {
	var payload struct {
		Data struct {
			Messages []noticed `json:"messages"`
			More     int64     `json:"more"`
		} `json:"data"`
	}
	err := json.Unmarshal(row.Payload, &payload)
	if err != nil {
		return nil, fmt.Errorf("notification: payload of %s: %w", row.ID, err)
	}
	count := int64(len(payload.Data.Messages)) + payload.Data.More
	w := noticeWords[row.Language]
	var b strings.Builder
	for i, m := range payload.Data.Messages {
		kind := w.ordinary
		if m.Certified {
			kind = w.certified
		}
		if i == 0 {
			fmt.Fprintf(&b, "%s %s\r\n", w.came, oneLine(m.Recipient))
		}
		fmt.Fprintf(&b, "\r\n%s: %s (%s)\r\n%s: %s\r\n%s: %s\r\n", w.sender, oneLine(m.Sender), kind, w.recipient, oneLine(m.Recipient), w.subject, oneLine(m.Subject))
	}
	if payload.Data.More > 0 {
		fmt.Fprintf(&b, "\r\n%s\r\n", fmt.Sprintf(w.more, payload.Data.More))
	}
	fmt.Fprintf(&b, "\r\n%s\r\n", w.footer)
	return s.hand(row, row.Address, fmt.Sprintf(w.title, count), b.String(), func(m *mail.Msg) { m.SetGenHeader(fieldNotice, row.ID.String()) }), nil
}

// forwardMail writes the mail that carries another one. It says that it is no certified mail, and comes from the platform.
func (s *Service) forwardMail(ctx context.Context, row db.Delivery) (func(context.Context) outcome, error) {
	var payload struct {
		Data struct{ Sender, Recipient, Title string } `json:"data"`
	}
	err := json.Unmarshal(row.Payload, &payload)
	if err != nil {
		return nil, fmt.Errorf("notification: payload of %s: %w", row.ID, err)
	}
	ref, err := blob.ParseURI(row.ContentUri)
	if err != nil {
		return nil, err
	}
	d, w := payload.Data, forwardWords[row.Language]
	text := fmt.Sprintf("%s\r\n\r\n%s: %s\r\n%s: %s\r\n%s: %s\r\n", w.about, w.sender, oneLine(d.Sender), w.recipient, oneLine(d.Recipient), w.subject, oneLine(d.Title))
	var content []byte
	if ref.Size <= largestForward {
		content, err = s.blobs.Get(ctx, ref)
		if err != nil {
			return nil, err
		}
		text += "\r\n" + w.attached + "\r\n"
	} else {
		text += "\r\n" + w.large + "\r\n"
	}
	return s.hand(row, row.Address, w.prefix+" "+oneLine(d.Title), text, func(m *mail.Msg) {
		m.SetGenHeader(fieldForward, row.ID.String())
		if content != nil {
			_ = m.AttachReader("messaggio.eml", bytes.NewReader(content), mail.WithFileContentType("message/rfc822"), mail.WithFileEncoding(mail.EncodingB64)) // reads from memory
		}
	}), nil
}

type words struct {
	title, came, sender, recipient, subject, certified, ordinary, more, footer string
	prefix, about, attached, large                                             string
}

var noticeWords = map[string]words{
	italian: {
		title: "Posta nella casella PEC (%d)", came: "È arrivata posta nella casella", sender: "Mittente", recipient: "Destinatario", subject: "Oggetto",
		certified: "posta certificata", ordinary: "posta non certificata", more: "E altri %d messaggi.",
		footer: "Avviso automatico, senza valore legale. I messaggi si leggono nella casella.",
	},
	english: {
		title: "Mail in the certified mailbox (%d)", came: "Mail has come into the mailbox", sender: "Sender", recipient: "Recipient", subject: "Subject",
		certified: "certified mail", ordinary: "not certified", more: "And %d further messages.",
		footer: "Automatic notice, without legal value. The messages are in the mailbox.",
	},
}

var forwardWords = map[string]words{
	italian: {
		prefix: "[posta non certificata]", sender: "Mittente dichiarato", recipient: "Casella", subject: "Oggetto",
		about:    "Una regola della casella inoltra questo messaggio. Non è posta certificata, e questo inoltro non lo rende tale: il mittente è quello che il messaggio dichiara.",
		attached: "Il messaggio è allegato come è giunto.", large: "Il messaggio è troppo grande per essere allegato: si legge nella casella.",
	},
	english: {
		prefix: "[not certified]", sender: "Sender as claimed", recipient: "Mailbox", subject: "Subject",
		about:    "A rule of the mailbox sends this message on. It is not certified mail and this does not make it so: its sender is whom it claims to be from.",
		attached: "The message is attached as it came.", large: "The message is too large to be attached: it is in the mailbox.",
	},
}
