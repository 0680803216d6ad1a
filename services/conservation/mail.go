package conservation

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// stateMail is the state of what is no invoice.
const stateMail = "KEPT"

// mailFacts is what a message of a mailbox, or the register of one of its days, told about itself.
type mailFacts struct {
	Message    string   `json:"message,omitempty"` // name; empty: the register of a day
	Mailbox    string   `json:"mailbox"`
	Address    string   `json:"address"`
	Direction  string   `json:"direction,omitempty"` // RECEIVED or SENT
	Type       string   `json:"type,omitempty"`
	MessageID  string   `json:"message_id,omitempty"`
	ProviderID string   `json:"provider_id,omitempty"`
	Sender     string   `json:"sender,omitempty"`
	Recipients []string `json:"recipients,omitempty"`
	Title      string   `json:"title,omitempty"`
	About      string   `json:"about,omitempty"`     // the sent message that a receipt is about
	AboutSum   string   `json:"about_sum,omitempty"` // base64
	Received   string   `json:"received,omitempty"`  // RFC 3339
	Certified  string   `json:"certified,omitempty"`
	Proven     bool     `json:"proven,omitempty"`
	Provider   string   `json:"provider,omitempty"`
	Day        string   `json:"day,omitempty"` // of the set
	Count      int64    `json:"count,omitempty"`
}

// key says which message or register it is.
func (m *mailFacts) key() string {
	if m.Message == "" {
		return "PECDAY|" + m.Mailbox + "|" + m.Day
	}
	return "PEC|" + m.Message
}

// kind is the sort of document, in Italian. spec: AgID-All5-2021 §DocumentoInformatico.3
func (m *mailFacts) kind() string {
	switch {
	case m.Message == "":
		return "Registro giornaliero PEC"
	case m.Direction == "SENT":
		return "Messaggio PEC inviato"
	case m.Type == "" || m.Type == "ordinaria":
		return "Messaggio di posta elettronica non certificato"
	case m.Type == "posta-certificata":
		return "Busta di trasporto PEC"
	case m.Type == "errore":
		return "Busta di anomalia PEC"
	}
	return "Ricevuta PEC " + m.Type
}

// onMessageHandedOver takes a message of a mailbox into custody, byte by byte: one unit, however often its event comes.
func (s *Service) onMessageHandedOver(ctx context.Context, tx pgx.Tx, ev *pecv1.MessageHandedOver) error {
	tenant := pg.Tenant(ctx)
	mailbox, err := mailboxOf(tenant, ev.GetMessage())
	if err != nil {
		return err
	}
	received := ev.GetReceiveTime().AsTime()
	m := &mailFacts{
		Message: ev.GetMessage(), Mailbox: mailbox, Address: ev.GetMailboxAddress(), Direction: ev.GetDirection(), Type: ev.GetType(), MessageID: ev.GetMessageId(),
		ProviderID: ev.GetProviderId(), Sender: ev.GetSender(), Recipients: ev.GetRecipients(), Title: ev.GetTitle(), About: ev.GetAbout(),
		Received: received.UTC().Format(time.RFC3339), Proven: ev.GetProven(), Provider: ev.GetProvider(), Day: ev.GetDay(),
	}
	if len(ev.GetAboutSha256()) > 0 {
		m.AboutSum = base64.StdEncoding.EncodeToString(ev.GetAboutSha256())
	}
	if ev.GetCertifiedTime() != nil {
		m.Certified = ev.GetCertifiedTime().AsTime().UTC().Format(time.RFC3339)
	}
	in := s.mailIntake(tenant, ev.GetMessage(), m, received)
	id := ev.GetMessage()[strings.LastIndexByte(ev.GetMessage(), '/')+1:]
	document, err := in.file("transmitted", "", id+".eml", ev.GetContent())
	if err != nil {
		return err
	}
	in.files = append(in.files, document)
	if ev.GetDay() != "" {
		day, err := dayOf(ev.GetDay())
		if err != nil {
			return err
		}
		err = db.New(tx).InsertMailItem(ctx, db.InsertMailItemParams{TenantID: tenant, Mailbox: mailbox, Day: day, Message: ev.GetMessage()})
		if err != nil {
			return fmt.Errorf("conservation: message of a day: %w", err)
		}
	}
	return s.gather(ctx, tx, in, nil)
}

// onMailboxDayClosed takes the register of a day into custody, and remembers how many messages the day has. A second
// register of the same day with another content is for a person: sets are closed once.
func (s *Service) onMailboxDayClosed(ctx context.Context, tx pgx.Tx, ev *pecv1.MailboxDayClosed) error {
	tenant := pg.Tenant(ctx)
	if ids, ok := cut(ev.GetMailbox(), "tenants", "mailboxes"); !ok || ids[0] != tenant {
		return fault.Invalid("NAME_INVALID", "%q is no mailbox of tenant %s", ev.GetMailbox(), tenant)
	}
	day, err := dayOf(ev.GetDay())
	if err != nil {
		return err
	}
	m := &mailFacts{Mailbox: ev.GetMailbox(), Address: ev.GetMailboxAddress(), Day: ev.GetDay(), Count: ev.GetMessageCount(), Received: ev.GetCloseTime().AsTime().UTC().Format(time.RFC3339)}
	in := s.mailIntake(tenant, ev.GetMailbox()+"/days/"+ev.GetDay(), m, day.Time)
	document, err := in.file("transmitted", "", "registro-"+ev.GetDay()+".csv", ev.GetRegister())
	if err != nil {
		return err
	}
	in.files = append(in.files, document)
	q := db.New(tx)
	n, err := q.InsertMailDay(ctx, db.InsertMailDayParams{TenantID: tenant, Mailbox: ev.GetMailbox(), Day: day, Messages: ev.GetMessageCount(),
		RegisterSha256: document.Sha256, CloseTime: pg.Time(ev.GetCloseTime().AsTime())})
	if err != nil {
		return fmt.Errorf("conservation: day of a mailbox: %w", err)
	}
	if n == 0 {
		held, err := q.GetMailDay(ctx, db.GetMailDayParams{TenantID: tenant, Mailbox: ev.GetMailbox(), Day: day})
		if err != nil {
			return fmt.Errorf("conservation: day of a mailbox: %w", err)
		}
		if string(held.RegisterSha256) != string(document.Sha256) {
			return fault.Conflict(codeConflict, "the day %s of %s was closed with another register", ev.GetDay(), ev.GetMailbox())
		}
	}
	return s.gather(ctx, tx, in, nil)
}

// mailIntake is a unit of the class of mail. Its year is that of the moment in Rome.
func (s *Service) mailIntake(tenant, subject string, m *mailFacts, at time.Time) *intake {
	at = at.In(s.rome)
	f := facts{State: stateMail, FileName: m.MessageID, Mail: m, Holder: &party{Name: m.Address}, Seller: party{Name: m.Sender},
		Buyer:  party{Name: strings.Join(m.Recipients[:min(len(m.Recipients), 5)], ", ")},
		Bodies: []body{{Type: m.kind(), Number: m.number(), Date: at.Format(time.DateOnly)}}}
	if m.Message == "" {
		f.Seller, f.Bodies[0].Date = party{Name: m.Address}, m.Day
	}
	return &intake{tenant: tenant, subject: subject, key: m.key(), class: classMail, year: int32(at.Year()), facts: f} //nolint:gosec // a year
}

// number is what the document is called by: its Message-ID, or its place in the platform.
func (m *mailFacts) number() string {
	switch {
	case m.Message == "":
		return m.Day
	case m.MessageID != "":
		return m.MessageID
	}
	return m.Message[strings.LastIndexByte(m.Message, '/')+1:]
}

func mailboxOf(tenant, message string) (string, error) {
	ids, ok := cut(message, "tenants", "mailboxes", "messages")
	if !ok || ids[0] != tenant {
		return "", fault.Invalid("NAME_INVALID", "%q is no message of a mailbox of tenant %s", message, tenant)
	}
	return strings.TrimSuffix(message, "/messages/"+ids[2]), nil
}

func dayOf(text string) (pgtype.Date, error) {
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return pgtype.Date{}, fault.Invalid("EVENT_MALFORMED", "day %q is no date such as 2026-11-22", text)
	}
	return pgtype.Date{Time: day, Valid: true}, nil
}

// mailMetadata writes metadati.xml of a message or a register. A receipt names the message that it is about as its primary
// document. spec: AgID-All5-2021 §DocumentoInformatico
func mailMetadata(f facts, files []db.UnitFile) []byte {
	m, d, document := f.Mail, &xmlText{}, files[0]
	d.raw(`<?xml version="1.0" encoding="UTF-8"?>` + "\n<DocumentoInformatico>")
	d.document("IdDoc", document.Sha256, m.identifier())
	formed, flow := formedAcquired, "E"
	switch {
	case m.Message == "":
		formed, flow = formedGathered, "I"
	case m.Direction == "SENT":
		formed, flow = formedHere, "U"
	}
	d.element("ModalitaDiFormazione", formed)
	d.element("TipologiaDocumentale", m.kind())
	d.raw("<DatiDiRegistrazione>")
	d.element("TipologiaDiFlusso", flow)
	d.raw("<TipoRegistro><Nessuno>")
	d.element("TipoRegistro", "Nessuno")
	d.element("DataDocumento", f.Bodies[0].Date)
	d.element("NumeroDocumento", f.Bodies[0].Number)
	d.raw("</Nessuno></TipoRegistro></DatiDiRegistrazione>")
	d.correspondents(m)
	d.raw("<ChiaveDescrittiva>")
	d.element("Oggetto", m.object())
	for _, word := range []string{m.Address, m.ProviderID, m.Day} {
		if word != "" {
			d.element("ParoleChiave", word)
		}
	}
	d.raw("</ChiaveDescrittiva><Allegati>")
	d.element("NumeroAllegati", "0")
	d.raw("</Allegati>")
	d.element("Riservato", "false")
	d.raw("<IdentificativoDelFormato>")
	format := "EML (message/rfc822)"
	if m.Message == "" {
		format = "CSV (RFC 4180, UTF-8)"
	}
	d.element("Formato", format)
	d.raw("</IdentificativoDelFormato><Verifica>")
	d.element("FirmatoDigitalmente", "false")
	d.element("SigillatoElettronicamente", strconv.FormatBool(m.Proven))
	d.element("MarcaturaTemporale", "false")
	d.element("ConformitaCopieImmagineSuSupportoInformatico", "false")
	d.raw("</Verifica><Agg/>")
	if m.AboutSum != "" {
		d.raw("<IdIdentificativoDocumentoPrimario>")
		d.impronta(m.AboutSum)
		d.element("Identificativo", "pec:"+m.About)
		d.raw("</IdIdentificativoDocumentoPrimario>")
	}
	d.element("NomeDelDocumento", document.FileName)
	d.element("VersioneDelDocumento", "1")
	d.element("TempoDiConservazione", strconv.Itoa(retentionYears))
	if note := m.note(); note != "" {
		d.element("Note", note)
	}
	d.raw("</DocumentoInformatico>\n")
	return d.Bytes()
}

// formedGathered is how a register is formed. spec: AgID-All5-2021 §DocumentoInformatico.2
const formedGathered = "generazione o raggruppamento anche in via automatica di un insieme di dati o registrazioni, provenienti da una o più banche dati, anche appartenenti a più soggetti interoperanti, secondo una struttura logica predeterminata e memorizzata in forma statica"

func (m *mailFacts) identifier() string {
	if m.Message == "" {
		return "pec:" + m.Mailbox + "/days/" + m.Day
	}
	return "pec:" + m.Message
}

// mostRecipients are named in the metadata of a message; all of them are in the message.
const mostRecipients = 100

// correspondents: who writes and who is written to. An address is no name of a person: it stands where the name of an
// organisation does, and as the digital domicile.
func (d *xmlText) correspondents(m *mailFacts) {
	d.raw("<Soggetti>")
	role := func(role, address string) {
		d.raw("<Ruolo><" + role + ">")
		d.element("TipoRuolo", role)
		d.raw("<PG>")
		d.element("DenominazioneOrganizzazione", address)
		d.element("IndirizziDigitaliDiRiferimento", address)
		d.raw("</PG></" + role + "></Ruolo>")
	}
	if m.Message == "" {
		role("Autore", m.Address)
	} else {
		sender := m.Sender
		if sender == "" {
			sender = "(mittente non indicato)"
		}
		role("Mittente", sender)
		recipients := m.Recipients
		if len(recipients) == 0 {
			recipients = []string{m.Address}
		}
		for _, r := range recipients[:min(len(recipients), mostRecipients)] {
			role("Destinatario", r)
		}
	}
	d.raw("<Ruolo><Produttore>")
	d.element("TipoRuolo", "Produttore")
	d.raw("<SW>")
	d.element("DenominazioneSistema", applicationName)
	d.raw("</SW></Produttore></Ruolo></Soggetti>")
}

func (m *mailFacts) object() string {
	if m.Message == "" {
		return fmt.Sprintf("Registro dei messaggi della casella %s, insieme del %s: %d messaggi", m.Address, m.Day, m.Count)
	}
	if m.Title == "" {
		return "(senza oggetto)"
	}
	return m.Title
}

func (m *mailFacts) note() string {
	var notes []string
	if more := len(m.Recipients) - mostRecipients; more > 0 {
		notes = append(notes, fmt.Sprintf("Altri %d destinatari sono nel messaggio e non in questi metadati.", more))
	}
	if m.Certified != "" {
		notes = append(notes, "Istante certificato dal gestore: "+m.Certified+".")
	}
	switch {
	case m.Proven:
		notes = append(notes, "Firma del gestore verificata all'arrivo: "+m.Provider+".")
	case m.Message != "" && m.Direction != "SENT":
		notes = append(notes, "Nessuna firma di gestore prova questo messaggio.")
	}
	return strings.Join(notes, " ")
}

// mailKept compares the days that mailboxes closed with what is in custody.
func (s *Service) mailKept(ctx context.Context, f *findings, tenant string) error {
	before := pg.Time(s.now().Add(-s.cfg.Checks.Settling))
	return s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		days, err := q.CountMailDays(ctx, db.CountMailDaysParams{TenantID: tenant, Before: before})
		if err != nil {
			return err
		}
		f.Checked += days
		short, err := q.ShortMailDays(ctx, db.ShortMailDaysParams{TenantID: tenant, Before: before, Page: mostProblems})
		for _, d := range short {
			f.bad(d.Mailbox+"/days/"+d.Day.Time.Format(time.DateOnly), "the set has %d messages and %d are in custody: look for their events among the parked ones of conservation", d.Messages, d.Kept)
		}
		return err
	})
}

// mailDays answers MailService.
type mailDays struct {
	conservationv1.UnimplementedMailServiceServer
	s *Service
}

// ListMailDays shows the days that mailboxes closed, newest first.
func (m mailDays) ListMailDays(ctx context.Context, req *conservationv1.ListMailDaysRequest) (*conservationv1.ListMailDaysResponse, error) {
	ids, ok := cut(req.GetParent(), "tenants")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}", req.GetParent())
	}
	filter := pg.FilterHash("mail-days", ids[0], req.GetMailbox(), strconv.FormatBool(req.GetIncomplete()))
	var day time.Time
	p := db.ListMailDaysParams{TenantID: ids[0], Mailbox: req.GetMailbox(), Incomplete: req.GetIncomplete()}
	found, err := pg.DecodePageToken(req.GetPageToken(), filter, &day, &p.BeforeMailbox)
	if err != nil {
		return nil, err
	}
	if found {
		p.BeforeDay = pgtype.Date{Time: day, Valid: true}
	}
	size := pageSize(req.GetPageSize())
	p.Page = int32(size + 1) //nolint:gosec // at most 1001
	out := &conservationv1.ListMailDaysResponse{}
	err = m.s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListMailDays(ctx, p)
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListMailDaysRow) []any { return []any{r.Day.Time, r.Mailbox} })
		if err != nil {
			return err
		}
		for _, r := range rows {
			out.Days = append(out.Days, &conservationv1.MailDay{
				Mailbox: r.Mailbox, Day: r.Day.Time.Format(time.DateOnly), Messages: r.Messages, InCustody: r.Kept, RegisterSha256: hex.EncodeToString(r.RegisterSha256),
				CloseTime: timestamppb.New(r.CloseTime), Complete: r.Kept == r.Messages,
			})
		}
		return err
	})
	return out, err
}
