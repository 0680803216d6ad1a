package signer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// devicePush is the type of an app that approves.
const devicePush = "PUSH"

const (
	// pushTTL is how long a question waits for its answer, and an approval for its use.
	pushTTL = 2 * time.Minute
	// pushLook is the pause between two looks of one long poll.
	pushLook = 300 * time.Millisecond
)

func nameOfPush(c db.Credential, id uuid.UUID) string {
	return nameOfCredential(c) + "/pushRequests/" + id.String()
}

func parsePushName(name string) (credentialName, uuid.UUID, error) {
	return parseBelow(name, "pushRequests", "PUSH_REQUEST_NOT_FOUND", "push request")
}

// pushKey reads the public key of an app: ECDSA P-256 and nothing else.
func pushKey(der []byte) (*ecdsa.PublicKey, error) {
	bad := func(why string) error {
		return fault.Invalid("PUSH_KEY", "otp_device.public_key: %s: send the SubjectPublicKeyInfo of an ECDSA P-256 key, DER", why).
			WithField("otp_device.public_key", "PUSH_KEY", why)
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, bad("it cannot be read")
	}
	key, ok := public.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, bad("it is of another algorithm or curve")
	}
	return key, nil
}

// enrolmentText is what an app signs to prove that it has the key it was enrolled with. The name holds an
// id that was made for this enrolment.
func enrolmentText(device string) string { return "ceralacca push enrolment v1\n" + device + "\n" }

// pushText is what every answer to a question begins with: all that makes it this one question.
func pushText(c db.Credential, p db.PushRequest) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ceralacca push v1\nrequest %s\ndevice %s\n", nameOfPush(c, p.ID), nameOfDevice(c, p.DeviceID))
	if p.Binding == uuid.Nil {
		b.WriteString("for a change of PIN or device\n")
	} else {
		fmt.Fprintf(&b, "challenge %s\nsignatures %d\ndigest %x\n", nameOfChallenge(c, p.Binding), len(p.Hashes), p.Digest)
	}
	fmt.Fprintf(&b, "until %s\n", p.ExpiresAt.UTC().Format(time.RFC3339))
	return b.String()
}

func pushMessage(c db.Credential, p db.PushRequest, now time.Time) *signv1.PushRequest {
	state := p.State
	if (state == "PENDING" || state == "APPROVED") && !now.Before(p.ExpiresAt) {
		state = "EXPIRED"
	}
	m := &signv1.PushRequest{
		Name: nameOfPush(c, p.ID), OtpDevice: nameOfDevice(c, p.DeviceID), DocumentSha256: p.Hashes, Digest: p.Digest,
		SignatureCount: int32(len(p.Hashes)), State: signv1.PushState(signv1.PushState_value["PUSH_STATE_"+state]), //nolint:gosec // at most 500
		CreateTime: timestamppb.New(p.CreatedAt), ExpireTime: timestamppb.New(p.ExpiresAt), ToSign: pushText(c, p),
	}
	if p.Binding != uuid.Nil {
		m.Challenge = nameOfChallenge(c, p.Binding)
	}
	if p.AnsweredAt != nil {
		m.AnswerTime = timestamppb.New(*p.AnsweredAt)
	}
	return m
}

// numberMAC is what the number of a question is kept as. Two digits are few for any MAC: what protects
// them is that a question is answered once, and that the key of the MAC is in Vault.
func numberMAC(request uuid.UUID, number string) []byte {
	return append([]byte("push\x00"+request.String()+"\x00"), number...)
}

// question is one that is to be asked, with what is kept of its number.
type question struct {
	id  uuid.UUID
	mac []byte
}

// newQuestion makes a question and its number, which is shown where the signature was asked for.
func (s *Service) newQuestion(ctx context.Context, a asked) (q question, number string, err error) {
	n, err := rand.Int(rand.Reader, big.NewInt(90))
	if err != nil {
		return q, "", fmt.Errorf("signer: number: %w", err)
	}
	number = fmt.Sprint(10 + n.Int64())
	if q.id, err = pg.NewID(); err != nil {
		return q, "", err
	}
	macs, err := s.vault.macs(ctx, a.credential.KeyName, macVersion, numberMAC(q.id, number))
	if err != nil {
		return q, "", err
	}
	q.mac = macs[0]
	return q, number, nil
}

// sendPush asks an app.
func (s *Service) sendPush(ctx context.Context, a asked, hashes [][]byte) (*signv1.SendOtpResponse, error) {
	ask, number, err := s.newQuestion(ctx, a)
	if err != nil {
		return nil, err
	}
	until, err := s.askApp(ctx, a, ask, hashes, func(context.Context, *db.Queries) error { return nil })
	if err != nil {
		return nil, err
	}
	return &signv1.SendOtpResponse{
		OtpDevice: nameOfDevice(a.credential, a.device.ID), Type: signv1.OtpDeviceType_OTP_DEVICE_TYPE_PUSH, Address: masked(a.device.Address),
		ExpireTime: timestamppb.New(until), PushRequest: nameOfPush(a.credential, ask.id), Number: number,
	}, nil
}

// askApp asks an app, and runs also in the transaction that writes the question down. Each question is an attempt, counted before it
// is asked: who refuses, answers with a wrong number or not at all has spent it, and nobody can be worn down with questions.
func (s *Service) askApp(ctx context.Context, a asked, asks question, hashes [][]byte, also func(context.Context, *db.Queries) error) (time.Time, error) {
	now := pg.Time(s.now())
	// The text that is signed has whole seconds.
	ask := db.InsertPushParams{
		ID: asks.id, DeviceID: a.device.ID, Binding: a.binding, NumberMac: asks.mac, Hashes: hashes, Digest: digestOf(hashes),
		At: now, ExpiresAt: now.Add(pushTTL).Truncate(time.Second),
	}
	if ask.Hashes == nil {
		ask.Hashes = [][]byte{}
	}
	name := nameOfPush(a.credential, asks.id)
	err := s.db.Tx(ctx, a.credential.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		if err := s.count(ctx, q, a); err != nil {
			return err
		}
		if err := q.SupersedePush(ctx, a.device.ID); err != nil {
			return fmt.Errorf("signer: end earlier push: %w", err)
		}
		made, err := q.InsertPush(ctx, ask)
		if err != nil {
			return fmt.Errorf("signer: insert push: %w", err)
		}
		if made == 0 {
			return fault.Precondition("OTP_DEVICE_STATE", "device %s is not active any more", nameOfDevice(a.credential, a.device.ID))
		}
		if err := also(ctx, q); err != nil {
			return err
		}
		err = s.bus.Emit(bus.WithCorrelation(ctx, a.credential.ID.String()), tx, &signv1.PushRequested{
			Credential: a.name(), OtpDevice: nameOfDevice(a.credential, a.device.ID), PushRequest: name, ExpireTime: timestamppb.New(ask.ExpiresAt),
		})
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "push.send", Resource: name, Detail: map[string]string{"holder": a.pin.Holder, "device": nameOfDevice(a.credential, a.device.ID), "binding": a.binding.String()},
		})
	})
	if err != nil {
		return time.Time{}, err
	}
	s.nudge(ctx, a, name)
	return ask.ExpiresAt, nil
}

// nudge has the push provider wake the app. It carries the name of the question and nothing else; an app
// that is not woken finds it with WaitPushRequests, so failure is no error.
func (s *Service) nudge(ctx context.Context, a asked, name string) {
	m := s.messengers["PUSH"]
	if m == nil || a.device.Address == "" {
		return
	}
	err := m.post(ctx, map[string]any{
		"id": uuid.NewString(), "to": a.device.Address, "subject": s.cfg.Authorization.Issuer,
		"text": "Richiesta di firma: apri l'app per rispondere.", "data": map[string]string{"push_request": name},
	})
	if err != nil {
		s.log.WarnContext(ctx, "an app was not woken", "push_request", name, "code", fault.Of(err).Code)
	}
}

// checkPush uses the approval of a question for what it was asked for. Its id is the password: no secret,
// for what counts is that the app has signed.
func (s *Service) checkPush(ctx context.Context, a asked, password string) (bool, error) {
	id, err := uuid.Parse(password)
	if err != nil {
		return false, nil //nolint:nilerr // a wrong password, which is an answer
	}
	var n int64
	err = s.db.Tx(ctx, a.deviceCredential().TenantID, func(ctx context.Context, tx pgx.Tx) error {
		n, err = db.New(tx).UsePush(ctx, db.UsePushParams{ID: id, DeviceID: a.device.ID, Binding: a.binding, At: ptr(pg.Time(s.now()))})
		return err
	})
	if err != nil {
		return false, fmt.Errorf("signer: use push: %w", err)
	}
	return n == 1, nil
}

// checkProof says whether an app has the key that it is enrolled with.
func (s *Service) checkProof(ctx context.Context, a asked) (bool, error) {
	return s.signedBy(ctx, a.credential, a.device.ID, enrolmentText(nameOfDevice(a.credential, a.device.ID)), a.proof)
}

// signedBy verifies a signature of an app.
func (s *Service) signedBy(ctx context.Context, c db.Credential, device uuid.UUID, text string, signature []byte) (bool, error) {
	var der []byte
	err := s.db.Tx(ctx, c.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		der, err = db.New(tx).GetPushKey(ctx, device)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("signer: read key of an app: %w", err)
	}
	key, err := pushKey(der)
	if err != nil {
		return false, fmt.Errorf("signer: kept key of an app: %w", err)
	}
	sum := sha256.Sum256([]byte(text))
	return ecdsa.VerifyASN1(key, sum[:], signature), nil
}

// pushOf reads a question of a credential.
func (s *Service) pushOf(ctx context.Context, full string) (asked, db.PushRequest, error) {
	name, id, err := parsePushName(full)
	if err != nil {
		return asked{}, db.PushRequest{}, err
	}
	var a asked
	var p db.PushRequest
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		a, err = withPIN(ctx, q, name)
		if err != nil {
			return err
		}
		p, err = q.GetPush(ctx, db.GetPushParams{ID: id, CredentialID: name.id})
		if errors.Is(err, pgx.ErrNoRows) {
			return fault.NotFound("PUSH_REQUEST_NOT_FOUND", "there is no push request %s", full)
		}
		return err
	})
	return a, p, err
}

// GetPushRequest reads a question to an app.
func (s *Service) GetPushRequest(ctx context.Context, req *signv1.GetPushRequestRequest) (*signv1.PushRequest, error) {
	a, p, err := s.pushOf(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return pushMessage(a.credential, p, s.now()), nil
}

// WaitPushRequests waits for a question to an app.
func (s *Service) WaitPushRequests(ctx context.Context, req *signv1.WaitPushRequestsRequest) (*signv1.WaitPushRequestsResponse, error) {
	name, id, err := parseDeviceName(req.GetOtpDevice())
	if err != nil {
		return nil, err
	}
	var a asked
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		a, err = ownDevice(ctx, db.New(tx), name, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	if a.device.Type != "PUSH" {
		return nil, fault.Precondition("OTP_DEVICE_TYPE", "%s is of type %s: only those of type PUSH are asked", req.GetOtpDevice(), a.device.Type)
	}
	until := time.NewTimer(time.Duration(req.GetWaitSeconds()) * time.Second)
	defer until.Stop()
	look := time.NewTicker(pushLook)
	defer look.Stop()
	for {
		var rows []db.PushRequest
		err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
			rows, err = db.New(tx).PendingPush(ctx, db.PendingPushParams{DeviceID: id, At: pg.Time(s.now())})
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("signer: read push: %w", err)
		}
		if len(rows) > 0 || req.GetWaitSeconds() == 0 {
			resp := &signv1.WaitPushRequestsResponse{}
			for _, p := range rows {
				resp.PushRequests = append(resp.PushRequests, pushMessage(a.credential, p, s.now()))
			}
			return resp, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-until.C:
			return &signv1.WaitPushRequestsResponse{}, nil
		case <-look.C:
		}
	}
}

// AnswerPushRequest takes the answer of an app. What the key of the device has not signed changes nothing.
func (s *Service) AnswerPushRequest(ctx context.Context, req *signv1.AnswerPushRequestRequest) (*signv1.PushRequest, error) {
	a, p, err := s.pushOf(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	text := pushText(a.credential, p) + "approve " + req.GetNumber()
	if req.GetRefuse() {
		text = pushText(a.credential, p) + "refuse"
	}
	signed, err := s.signedBy(ctx, a.credential, p.DeviceID, text, req.GetSignature())
	if err != nil {
		return nil, err
	}
	if !signed {
		return nil, fault.Denied("PUSH_SIGNATURE_INVALID", "the answer is not signed by the key of the device: it signs to_sign of this request, then \"approve NUMBER\" or \"refuse\"")
	}
	macs, err := s.vault.macs(ctx, a.credential.KeyName, macVersion, numberMAC(p.ID, req.GetNumber()))
	if err != nil {
		return nil, err
	}
	state := ""
	err = s.db.Tx(ctx, a.credential.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q, now := db.New(tx), pg.Time(s.now())
		states, err := q.AnswerPush(ctx, db.AnswerPushParams{ID: p.ID, At: &now, Signature: req.GetSignature(), Refuse: req.GetRefuse(), NumberMac: macs[0]})
		if err != nil {
			return fmt.Errorf("signer: answer push: %w", err)
		}
		if len(states) == 0 {
			return fault.Precondition("PUSH_REQUEST_CLOSED", "%s is answered already, over, or of a device that is not active any more", req.GetName())
		}
		state = states[0]
		if state == "APPROVED" { // the question was answered rightly: it is no wrong attempt
			err = q.ForgiveAttempt(ctx, db.ForgiveAttemptParams{TenantID: a.credential.TenantID, Subjects: a.subjects()})
			if err != nil {
				return fmt.Errorf("signer: clear attempt: %w", err)
			}
		}
		p, err = q.GetPush(ctx, db.GetPushParams{ID: p.ID, CredentialID: p.CredentialID})
		if err != nil {
			return fmt.Errorf("signer: read push: %w", err)
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "push.answer", Resource: req.GetName(), Outcome: map[string]string{"APPROVED": "ok"}[state] + strings.TrimPrefix(state, "APPROVED"),
			Detail: map[string]string{"holder": a.pin.Holder, "device": nameOfDevice(a.credential, p.DeviceID), "digest": hex.EncodeToString(p.Digest)},
		})
	})
	if err != nil {
		return nil, err
	}
	if state == "WRONG_NUMBER" {
		return nil, wrong()
	}
	return pushMessage(a.credential, p, s.now()), nil
}
