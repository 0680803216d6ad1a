package sdigateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/sdiftp"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// readArrivalArgs is the promise to read one message that says that it comes from SdI.
type readArrivalArgs struct {
	Arrival uuid.UUID `json:"arrival"`
}

// Kind names the job in the database.
func (readArrivalArgs) Kind() string { return "sdi_read_mail" }

// Codes of messages in quarantine. They are permanent.
const (
	codeMailUnreadable = "PEC_UNREADABLE"
	codeMailUnproven   = "PEC_NOT_PROVEN"  // no signature of a listed provider, or doubts
	codeMailForeign    = "PEC_FOREIGN"     // proven, and its provider does not manage SdI's domain
	codeMailNotSdI     = "PEC_NOT_SDI"     // proven, and certified for another sender or for none
	codeMailUnexpected = "PEC_UNEXPECTED"  // a file that SdI does not send
	codeMailNoMetadata = "PEC_NO_METADATA" // an invoice without its MT
	// codeMailTwoAddresses: what else is in the letter counts. The name stands in queries and in an index too.
	codeMailTwoAddresses = "PEC_TWO_ADDRESSES"
)

// Files in a message that are handed on; one that is larger than SdI sends is not read.
const (
	mailFileLimit = 16_000_000 // of an AT: the archive has the original in it
	stateTaken    = "TAKEN"
	stateRead     = "READ"
	stateKept     = "QUARANTINED"
)

func (s *Service) onMessageReceived(ctx context.Context, tx pgx.Tx, ev *pecv1.MessageReceived) error {
	return s.takeMail(ctx, tx, ev.GetMessage(), ev.GetContent(), ev.GetReceiveTime(), ev.GetVerdict())
}

// onMessageJudged takes a message out of quarantine that is proven by a later trust list.
func (s *Service) onMessageJudged(ctx context.Context, tx pgx.Tx, ev *pecv1.MessageJudged) error {
	return s.takeMail(ctx, tx, ev.GetMessage(), ev.GetContent(), ev.GetReceiveTime(), ev.GetVerdict())
}

// takeMail writes a message of SdI down and promises to read it. Its bytes are in the archive already. It comes
// to any mailbox of any tenant, whether something is sent from there or not, and however old it is.
func (s *Service) takeMail(ctx context.Context, tx pgx.Tx, message string, content *eventv1.Blob, at *timestamppb.Timestamp, v *pecv1.Verdict) error {
	if !v.GetFromExchange() {
		return nil
	}
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	p := db.TakeArrivalParams{
		ID: id, TenantID: pg.Tenant(ctx), Message: message, ContentUri: content.GetUri(), Proven: v.GetProven() && v.GetSenderManaged(),
		Doubts: plainText(strings.Join(v.GetDoubts(), "; "), 1000), ReceivedAt: pg.Time(at.AsTime()),
	}
	if v.GetProven() && !v.GetSenderManaged() {
		p.Doubts = codeMailForeign + ": " + v.GetProvider() + " signed it and does not manage the domain of its sender, by the trust list"
	}
	if v.GetCertifiedTime() != nil {
		t := pg.Time(v.GetCertifiedTime().AsTime())
		p.CertifiedAt = &t
	}
	id, err = db.New(tx).TakeArrival(ctx, p)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // known
	}
	if err != nil {
		return err
	}
	return s.jobs.InsertTx(ctx, tx, readArrivalArgs{Arrival: id}, nil)
}

// mailReading is what a message was found to bring.
type mailReading struct {
	row      db.ReadArrivalRow
	sender   string
	assigned string
	names    []string
	sdiIDs   []string // of invoices
	problems []string
}

func (r *mailReading) problem(code, format string, args ...any) {
	r.problems = append(r.problems, code+": "+fmt.Sprintf(format, args...))
}

// readArrival reads one message. Only what is proven to come from SdI changes anything; everything else stays in
// quarantine with its reason, and its bytes where they are. Every step may be repeated.
func (s *Service) readArrival(ctx context.Context, job *river.Job[readArrivalArgs]) error {
	r := &mailReading{names: []string{}, sdiIDs: []string{}}
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		r.row, err = db.New(tx).ReadArrival(ctx, job.Args.Arrival)
		return err
	})
	if err != nil || r.row.State != stateTaken {
		return err
	}
	raw, err := s.inboundBytes(ctx, r.row.ContentUri)
	if err != nil {
		return err
	}
	docs := s.openMail(r, raw)
	if len(r.problems) == 0 || len(docs) > 0 {
		err = s.handMail(ctx, r, docs)
		if err != nil {
			return err
		}
	}
	return s.finishArrival(ctx, r)
}

// openMail reads a message and gives the files that it brings, none of one that is not proven to be of SdI.
func (s *Service) openMail(r *mailReading, raw []byte) []sdiftp.Documento {
	if !r.row.Proven {
		if strings.HasPrefix(r.row.Doubts, codeMailForeign) {
			// Ordinary mail is wrapped by the provider of who gets it, and certified for no sender: no trust list is wrong.
			if reading, err := pec.ReadBytes(raw); err == nil && reading.Tipo() == pec.BustaAnomalia {
				r.problem(codeMailNotSdI, "it is %s, not a message that somebody sent by certified mail", reading.Tipo())
				return nil
			}
			r.problems = append(r.problems, r.row.Doubts)
			return nil
		}
		r.problem(codeMailUnproven, "it says that it comes from SdI and that is not proven (%s): nothing in it counts; when the trust list lacks the provider, mend it and read the message again", r.row.Doubts)
		return nil
	}
	reading, err := pec.ReadBytes(raw)
	if err != nil {
		r.problem(codeMailUnreadable, "%s", sentence(err))
		return nil
	}
	if reading.Tipo() != pec.BustaTrasporto || reading.Daticert == nil {
		r.problem(codeMailNotSdI, "it is %s, not a message that somebody sent", reading.Tipo())
		return nil
	}
	r.sender = strings.ToLower(strings.TrimSpace(reading.Daticert.Mittente))
	if _, ok := pec.SdIAddress(r.sender); !ok {
		r.problem(codeMailNotSdI, "it is certified for the sender %.100q, which is no address of SdI", r.sender)
		r.sender = plainText(r.sender, 200)
		return nil
	}
	m, err := reading.ReadSdI()
	if err != nil || m == nil {
		r.problem(codeMailUnreadable, "the message inside cannot be read: %v", err)
		return nil
	}
	r.assigned = m.Assigned
	if len(m.Named) > 1 {
		r.problem(codeMailTwoAddresses, "it names %s as addresses to use next, so none is taken over: documents go where they went before, and wait when there was none. A later letter that names one alone "+
			"settles it: ask SdI, or send it a message without a file from the mailbox (ceralacca pec send), whose answer may name it", strings.Join(m.Named, " and "))
	}
	var docs []sdiftp.Documento
	for _, f := range m.Files {
		data, err := f.Part.Bytes(mailFileLimit)
		if err != nil {
			r.problem(codeMailUnreadable, "the file %.100q cannot be read: %s", f.Name, sentence(err))
			continue
		}
		tipo := sdiftp.Tipo(f.Code)
		if f.Code == "" {
			tipo = sdiftp.FA
		}
		docs = append(docs, sdiftp.Documento{Tipo: tipo, Name: f.Name, Data: data})
	}
	return docs
}

// handMail gives the files to those who read them, as every channel does: messages about what we sent, notices to
// receivers, invoices with their metadata, answers to outcomes.
func (s *Service) handMail(ctx context.Context, r *mailReading, docs []sdiftp.Documento) error {
	messages, others, err := s.sortDocuments(ctx, docs)
	if err == nil {
		err = s.takeMessages(ctx, messages)
	}
	if err != nil {
		return err
	}
	for _, d := range messages {
		r.names = append(r.names, d.Name)
	}
	for i, d := range others {
		switch sdi.MessageType(d.Tipo) {
		case sdi.MessageType(sdiftp.FA):
			err = s.takeMailedInvoice(ctx, r, i, d, others)
		case sdi.MT:
			continue // goes with its invoice
		case sdi.DT:
			err = s.takeNotice(ctx, sdi.FileSdI{IdentificativoSdI: statedID(d), NomeFile: d.Name, File: d.Data})
		case sdi.SE:
			err = s.takeRefusal(ctx, r, d)
		default:
			r.problem(codeMailUnexpected, "%.100q is no file that SdI sends to us", d.Name)
			continue
		}
		if err != nil {
			return err
		}
		r.names = append(r.names, d.Name)
	}
	return nil
}

// statedID is the identifier that a message states; empty when it cannot be read.
func statedID(d sdiftp.Documento) string {
	m, err := sdi.ParseMessage(d.Name, d.Data)
	if err != nil {
		return ""
	}
	return m.Head().IdentificativoSdI
}

// takeMailedInvoice hands an invoice in with its metadata, which alone say under which identifier SdI knows it.
// spec: AllA-1.9 §1.5.7
func (s *Service) takeMailedInvoice(ctx context.Context, r *mailReading, number int, d sdiftp.Documento, all []sdiftp.Documento) error {
	i := slices.IndexFunc(all, func(o sdiftp.Documento) bool { return sdi.MessageType(o.Tipo) == sdi.MT && metadataOf(o.Name, d.Name) })
	if i < 0 {
		r.problem(codeMailNoMetadata, "the invoice %.100q came without its metadata (MT)", d.Name)
		return nil
	}
	id := statedID(all[i])
	if id == "" {
		r.problem(codeMailNoMetadata, "the metadata of the invoice %.100q cannot be read", d.Name)
		return nil
	}
	// The same message read again is the same delivery.
	seed := sha256.Sum256(fmt.Appendf(nil, "%s %d %s", r.row.ID, number, d.Name))
	delivery, err := uuid.FromBytes(seed[:16])
	if err != nil {
		return err
	}
	r.sdiIDs = append(r.sdiIDs, plainText(id, 36))
	return s.takeInbound(ctx, inboundArrival{
		channel: channelPEC, sdiID: id, fileName: d.Name, file: d.Data, metadataName: all[i].Name, metadata: all[i].Data, delivery: delivery,
	})
}

// metadataOf says whether an MT is that of a file, by their names.
func metadataOf(message, file string) bool {
	m, err := sdi.ParseMessageName(message)
	if err != nil {
		return false
	}
	f, err := sdi.ParseFileName(file)
	return err == nil && sdi.NameKey(m.Stem) == sdi.NameKey(f.Stem())
}

// finishArrival writes down what a message was found to be, and takes the address over that it assigns.
func (s *Service) finishArrival(ctx context.Context, r *mailReading) error {
	p := db.FinishArrivalParams{ID: r.row.ID, State: stateRead, Sender: r.sender, FileNames: r.names, SdiIds: r.sdiIDs}
	if len(r.problems) > 0 {
		p.State, p.Problem = stateKept, plainText(strings.Join(r.problems, "; "), 2000)
		s.log.WarnContext(ctx, "a message that says that it comes from SdI is kept in quarantine", "message", r.row.Message, "problem", p.Problem)
	}
	ctx = telemetry.WithActor(ctx, "service:sdi-gateway")
	return s.db.Tx(ctx, r.row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		err := db.New(tx).FinishArrival(ctx, p)
		if err != nil || r.assigned == "" {
			return err
		}
		return s.assign(ctx, tx, r)
	})
}

// assign keeps the address that SdI assigned to a mailbox. Which one counts follows from the moments that SdI's
// provider certifies, not from the order in which messages are read.
// spec: AllA-1.9 §1.3.1
func (s *Service) assign(ctx context.Context, tx pgx.Tx, r *mailReading) error {
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	mailbox, _, _ := strings.Cut(r.row.Message, "/messages/")
	at := r.row.ReceivedAt
	if r.row.CertifiedAt != nil {
		at = *r.row.CertifiedAt
	}
	n, err := db.New(tx).AssignAddress(ctx, db.AssignAddressParams{
		ID: id, TenantID: r.row.TenantID, Mailbox: mailbox, Address: r.assigned, AssignedAt: at, Message: r.row.Message, LearnedAt: pg.Time(s.now()),
	})
	if err != nil || n == 0 {
		return err
	}
	s.log.InfoContext(ctx, "SdI assigned an address", "mailbox", mailbox, "address", r.assigned, "message", r.row.Message)
	return telemetry.Audit(ctx, tx, telemetry.Act{Action: "pec_address.assign", Resource: mailbox, Detail: map[string]string{
		"address": r.assigned, "message": r.row.Message, "sender": r.sender,
	}})
}
