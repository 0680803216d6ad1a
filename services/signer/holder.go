package signer

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// TellHolderArgs asks for a notice to the holder of a credential. Addresses are looked up when it is sent;
// the text has names, counts, digests and times, and never a secret.
type TellHolderArgs struct {
	Tenant     string      `json:"tenant"`
	Credential uuid.UUID   `json:"credential"`
	Devices    []uuid.UUID `json:"devices,omitempty"` // whose addresses are told too
	Former     []string    `json:"former,omitempty"`  // e-mail and telephone that are given up just now
	Text       string      `json:"text"`
}

// Kind names the job.
func (TellHolderArgs) Kind() string { return "tell_holder" }

// sentences are what the holder is told of an act on PIN, device or contact.
var sentences = map[string]string{
	"pin.change":               "il PIN della firma è stato cambiato",
	"otp_device.enrol":         "è iniziata l'attivazione di un nuovo dispositivo della firma",
	"otp_device.confirm":       "un nuovo dispositivo della firma è attivo",
	"otp_device.remove":        "un dispositivo della firma è stato rimosso",
	"otp_device.resynchronize": "il dispositivo della firma è stato risincronizzato",
	"otp_device.recover":       "è iniziata la sostituzione del dispositivo della firma senza il dispositivo attuale: il nuovo potrà firmare solo dopo un tempo di attesa",
	"holder_contact.set":       "i recapiti per gli avvisi della firma sono stati impostati",
}

const notYou = ". Se non è opera tua, fai sospendere subito la credenziale."

// notify puts a notice to the holder into the transaction of what it tells, when there is anybody to be told.
func (s *Service) notify(ctx context.Context, tx pgx.Tx, c db.Credential, text string, devices ...uuid.UUID) error {
	if len(s.messengers) == 0 {
		return nil
	}
	if len(devices) == 0 {
		_, err := db.New(tx).GetContact(ctx, c.ID)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("signer: read contact: %w", err)
		}
	}
	return s.jobs.InsertTx(ctx, tx, TellHolderArgs{Tenant: c.TenantID, Credential: c.ID, Devices: devices, Text: text}, nil)
}

// tellChange tells of an act on PIN, device or contact that was proven: the bus, and the holder.
func (s *Service) tellChange(ctx context.Context, tx pgx.Tx, a asked, act telemetry.Act) error {
	now := s.now()
	ev := &signv1.OtpDeviceChanged{Credential: a.name(), Change: act.Action, Time: timestamppb.New(pg.Time(now))}
	if strings.Contains(act.Resource, "/otpDevices/") {
		ev.OtpDevice = act.Resource
	}
	err := s.bus.Emit(bus.WithCorrelation(ctx, a.credential.ID.String()), tx, ev)
	if err != nil {
		return err
	}
	sentence, ok := sentences[act.Action]
	if !ok {
		return nil
	}
	// Where the holder had passwords sent until now is told too, so that nobody changes a number in silence.
	var devices []uuid.UUID
	if a.told != nil {
		devices = append(devices, *a.told)
	}
	text := fmt.Sprintf("%s: %s (%s)%s", s.cfg.Authorization.Issuer, sentence, now.UTC().Format("02/01/2006 15:04 UTC"), notYou)
	return s.notify(ctx, tx, a.credential, text, devices...)
}

// tellUse tells of an authorization: the bus, and the holder.
func (s *Service) tellUse(ctx context.Context, tx pgx.Tx, a asked, ch db.Challenge) error {
	now := s.now()
	err := s.bus.Emit(bus.WithCorrelation(ctx, a.credential.ID.String()), tx, &signv1.CredentialUsed{
		Credential: a.name(), Challenge: nameOfChallenge(a.credential, ch.ID), OtpDevice: nameOfDevice(a.credential, a.device.ID),
		SignatureCount: int32(len(ch.Hashes)), DocumentsSha256: ch.Digest, Time: timestamppb.New(pg.Time(now)), //nolint:gosec // at most 500
	})
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s: con la tua firma è stata autorizzata la firma di %d documenti, impronta %x (%s)%s",
		s.cfg.Authorization.Issuer, len(ch.Hashes), ch.Digest[:4], now.UTC().Format("02/01/2006 15:04 UTC"), notYou)
	return s.notify(ctx, tx, a.credential, text)
}

// tellHolder sends one notice to every address that is known. One that a provider refuses does not keep the
// others from being told.
func (s *Service) tellHolder(ctx context.Context, job *river.Job[TellHolderArgs]) error {
	args := job.Args
	to := map[string]string{} // address -> kind
	err := s.db.Tx(ctx, args.Tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		contact, err := q.GetContact(ctx, args.Credential)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		to[contact.Email], to[contact.Phone] = "EMAIL", "SMS"
		for _, id := range args.Devices {
			d, err := q.GetDevice(ctx, id)
			if err != nil {
				return err
			}
			if d.Type == "SMS" || d.Type == "EMAIL" {
				to[d.Address] = d.Type
			}
		}
		if len(args.Former) == 2 {
			to[args.Former[0]], to[args.Former[1]] = "EMAIL", "SMS"
		}
		delete(to, "")
		return nil
	})
	if err != nil {
		return fmt.Errorf("signer: whom to tell: %w", err)
	}
	var again error
	for address, kind := range to {
		m := s.messengers[kind]
		if m == nil {
			continue
		}
		err := m.send(ctx, address, s.cfg.Authorization.Issuer+": avviso sulla tua firma", args.Text)
		switch {
		case err == nil:
		case fault.Permanent(err):
			s.log.WarnContext(ctx, "a holder cannot be told", "credential", args.Credential, "kind", kind, "code", fault.Of(err).Code)
		default:
			again = errors.Join(again, err)
		}
	}
	return again
}

// SetHolderContact sets where the holder is told. The addresses until now are told of it.
func (s *Service) SetHolderContact(ctx context.Context, req *signv1.SetHolderContactRequest) (*signv1.HolderContact, error) {
	name, err := parseCredentialName("name", req.GetName())
	if err != nil {
		return nil, err
	}
	err = s.checkContact(req.GetEmail(), req.GetPhone())
	if err != nil {
		return nil, err
	}
	var a asked
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		a, err = withDevice(ctx, q, name)
		if fault.Of(err) != nil && fault.Of(err).Code == "NO_OTP_DEVICE" {
			a, err = withPIN(ctx, q, name)
		}
		if err != nil {
			return err
		}
		return s.count(ctx, q, a)
	})
	if err != nil {
		return nil, err
	}
	now := pg.Time(s.now())
	err = s.prove(ctx, a, factors{req.GetPin(), req.GetOtp()}, telemetry.Act{Action: "holder_contact.set", Resource: a.name()}, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		old, err := q.GetContact(ctx, a.credential.ID)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("signer: read contact: %w", err)
		}
		if err == nil { // it is about to be overwritten
			text := fmt.Sprintf("%s: %s (%s)%s", s.cfg.Authorization.Issuer, sentences["holder_contact.set"], now.UTC().Format("02/01/2006 15:04 UTC"), notYou)
			err = s.jobs.InsertTx(ctx, tx, TellHolderArgs{Tenant: name.tenant, Credential: a.credential.ID, Former: []string{old.Email, old.Phone}, Text: text}, nil)
			if err != nil {
				return err
			}
		}
		return q.PutContact(ctx, db.PutContactParams{CredentialID: a.credential.ID, TenantID: name.tenant, Email: req.GetEmail(), Phone: req.GetPhone(), At: now})
	})
	if err != nil {
		return nil, err
	}
	return contactMessage(a.credential, req.GetEmail(), req.GetPhone(), timestamppb.New(now)), nil
}

func (s *Service) checkContact(email, phone string) error {
	bad := func(field, why string) error {
		return fault.Invalid("CONTACT_ADDRESS", "%s: %s", field, why).WithField(field, "CONTACT_ADDRESS", why)
	}
	switch {
	case email == "" && phone == "":
		return bad("email", "name an e-mail address, a telephone number, or both")
	case phone != "" && !phoneNumber.MatchString(phone):
		return bad("phone", "is no telephone number: write it as +393331234567")
	case phone != "" && s.messengers["SMS"] == nil:
		return fault.Precondition("OTP_PROVIDER_NOT_CONFIGURED", "this installation sends no messages of kind SMS (signer.authorization): name an e-mail address")
	case email != "" && s.messengers["EMAIL"] == nil:
		return fault.Precondition("OTP_PROVIDER_NOT_CONFIGURED", "this installation sends no messages of kind EMAIL (signer.authorization): name a telephone number")
	}
	if email != "" {
		a, err := mail.ParseAddress(email)
		if err != nil || a.Address != email || strings.ContainsAny(email, "\r\n ") {
			return bad("email", "is no e-mail address: write it as name@example.com")
		}
	}
	return nil
}

func contactMessage(c db.Credential, email, phone string, at *timestamppb.Timestamp) *signv1.HolderContact {
	return &signv1.HolderContact{Credential: nameOfCredential(c), Email: masked(email), Phone: masked(phone), UpdateTime: at}
}

// GetHolderContact shows where the holder is told, masked.
func (s *Service) GetHolderContact(ctx context.Context, req *signv1.GetHolderContactRequest) (*signv1.HolderContact, error) {
	name, err := parseCredentialName("name", req.GetName())
	if err != nil {
		return nil, err
	}
	var a asked
	var row db.HolderContact
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		a, err = withPIN(ctx, q, name)
		if err != nil {
			return err
		}
		row, err = q.GetContact(ctx, name.id)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fault.NotFound("CONTACT_NOT_SET", "credential %s has no contact for notices: set one", req.GetName())
	}
	if err != nil {
		return nil, err
	}
	return contactMessage(a.credential, row.Email, row.Phone, timestamppb.New(row.UpdatedAt)), nil
}
