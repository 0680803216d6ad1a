package signer

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// How many wrong attempts are too many, within the window of the configuration.
const (
	credentialAttempts = 5
	holderAttempts     = 10 // over all the credentials of one person
	challengeAttempts  = 3
)

// keepSpent is how long a spent password is remembered: Vault finds it right for a minute and a half.
const keepSpent = time.Hour

const codeWrong = "AUTHENTICATION_FAILED"

// wrong is the one answer to a wrong PIN, a wrong password, a spent one, and both.
func wrong() error {
	return fault.Denied(codeWrong, "PIN or one-time password is not right: wait for the next password before you try again")
}

// factors are what a holder shows. They live as long as the call.
type factors struct{ pin, otp string }

// asked is whom a proof is asked of: a credential, its PIN, and the device whose password counts.
type asked struct {
	credential db.Credential
	pin        db.CredentialPin
	device     *db.OtpDevice // nil: the PIN alone is asked
	cooling    *cooling      // of the device, when it was read with it
	binding    uuid.UUID     // the challenge that a sent password must be for; zero: device and PIN

	of       *db.Credential // whose device it is, when it is another credential's of the same holder
	proof    []byte         // of an app that is enrolled: its signature
	second   string         // of a hardware token that is put back in step: the code after the first
	replaces *uuid.UUID     // the device that is to be replaced, when it is not the one that proves
	told     *uuid.UUID     // a device whose address is told of the act
	cool     bool           // the device that is enrolled may not be used at once
}

// deviceCredential is whose device it is: passwords are kept under its key.
func (a asked) deviceCredential() db.Credential {
	if a.of != nil {
		return *a.of
	}
	return a.credential
}

// sent says whether the device gets its passwords by message.
func (a asked) sent() bool {
	return a.device != nil && (a.device.Type == "SMS" || a.device.Type == "EMAIL")
}

func (a asked) name() string { return nameOfCredential(a.credential) }

// subjects are whose wrong attempts are counted.
func (a asked) subjects() []string { return []string{a.name(), a.pin.Holder} }

func (a asked) detail() map[string]string {
	if a.device == nil {
		return map[string]string{"holder": a.pin.Holder}
	}
	return map[string]string{"holder": a.pin.Holder, "device": nameOfDevice(a.deviceCredential(), a.device.ID), "device_name": a.device.DisplayName}
}

func callerOf(ctx context.Context) string {
	c, _ := auth.From(ctx)
	return c.Actor()
}

// personal reads a credential of kind PERSON that is not revoked and has its key.
func personal(ctx context.Context, q *db.Queries, name credentialName) (db.Credential, error) {
	c, err := q.GetCredential(ctx, name.id)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, noCredential(name.full())
	}
	if err != nil {
		return c, fmt.Errorf("signer: read credential: %w", err)
	}
	return c, fit(c, name)
}

func (n credentialName) full() string {
	return "tenants/" + n.tenant + "/companies/" + n.company + "/credentials/" + n.id.String()
}

// fit refuses a credential that is not the one of that name, or cannot be a person's to sign with.
func fit(c db.Credential, name credentialName) error {
	full := name.full()
	switch {
	case c.CompanyID != name.company || c.TenantID != name.tenant:
		return noCredential(full)
	case c.Kind != "PERSON":
		return fault.Precondition("CREDENTIAL_WRONG_KIND", "credential %s is of kind %s: PIN, devices and challenges are for kind PERSON", full, c.Kind)
	case c.State == "REVOKED":
		return fault.Precondition("CREDENTIAL_REVOKED", "credential %s is revoked for good: create another", full)
	case c.State == "SUSPENDED":
		return suspended(c)
	case c.Provider != "":
		return heldElsewhere(c)
	case c.KeyVersion == 0:
		return fault.Precondition("KEY_NOT_READY", "the key of this credential is still being made: try again in a moment")
	}
	return nil
}

// withPIN reads a personal credential with its PIN.
func withPIN(ctx context.Context, q *db.Queries, name credentialName) (asked, error) {
	c, err := personal(ctx, q, name)
	if err != nil {
		return asked{}, err
	}
	pin, err := q.GetPin(ctx, c.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return asked{}, fault.Precondition("PIN_NOT_SET", "credential %s has no PIN yet: its holder sets one first", nameOfCredential(c))
	}
	if err != nil {
		return asked{}, fmt.Errorf("signer: read PIN: %w", err)
	}
	return asked{credential: c, pin: pin}, nil
}

// withDevice reads a personal credential with its PIN and its active device.
func withDevice(ctx context.Context, q *db.Queries, name credentialName) (asked, error) {
	all, err := q.GetAsked(ctx, name.id)
	if err == nil {
		return asked{
			credential: all.Credential, pin: all.CredentialPin, device: &all.OtpDevice, cooling: &cooling{all.UsableFrom},
		}, fit(all.Credential, name)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return asked{}, fmt.Errorf("signer: read credential: %w", err)
	}
	a, err := withPIN(ctx, q, name) // something is missing: which
	if err != nil {
		return a, err
	}
	device, err := q.ActiveDevice(ctx, a.credential.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, fault.Precondition("NO_OTP_DEVICE", "credential %s has no active device for one-time passwords: enrol one", a.name())
	}
	if err != nil {
		return a, fmt.Errorf("signer: read device: %w", err)
	}
	a.device = &device
	return a, nil
}

// count counts an attempt before it is judged. When a subject is locked the transaction is to be given
// up: nothing stays counted. Error: Exhausted AUTHENTICATION_LOCKED with the time to wait.
func (s *Service) count(ctx context.Context, q *db.Queries, a asked) error {
	if err := s.cooled(ctx, q, a); err != nil {
		return err
	}
	now := pg.Time(s.now())
	open, err := q.CountAttempt(ctx, db.CountAttemptParams{
		TenantID: a.credential.TenantID, Subjects: a.subjects(), At: now,
		NextWindow: now.Add(s.cfg.Authorization.Window), LockSeconds: s.cfg.Authorization.Lock.Seconds(),
	})
	if err != nil {
		return fmt.Errorf("signer: count attempt: %w", err)
	}
	if len(open) == len(a.subjects()) {
		return nil
	}
	until, err := q.LockedUntil(ctx, db.LockedUntilParams{TenantID: a.credential.TenantID, Subjects: a.subjects(), At: now})
	if err != nil {
		return fmt.Errorf("signer: read lock: %w", err)
	}
	return fault.Exhausted(max(until.Sub(now), time.Second), "AUTHENTICATION_LOCKED",
		"too many wrong attempts: locked until %s", until.UTC().Format(time.RFC3339))
}

// verdict is what was found of the factors. mac is what is kept of the password.
type verdict struct {
	pin, otp bool
	mac      []byte
}

// judge looks at both factors, whatever it finds of one: a wrong PIN takes as long as a wrong password, and burns
// the password. The PIN is hashed while the password is looked at; then Vault makes all the MACs in one call, which are
// what is kept of both.
func (s *Service) judge(ctx context.Context, a asked, f factors) (verdict, error) {
	var v verdict
	var hash []byte
	var both errgroup.Group // without a context: what one of them began is not left half done for the other's sake
	both.Go(func() (err error) {
		hash, err = s.pins.hash(ctx, f.pin, a.pin.Salt, costOf(a.pin))
		return err
	})
	if a.device != nil && !a.sent() {
		both.Go(func() (err error) {
			v.otp, err = s.judgeOTP(ctx, a, f.otp)
			return err
		})
	}
	if err := both.Wait(); err != nil {
		return v, err
	}
	macs, err := s.factorMACs(ctx, a, hash, f.otp)
	if err != nil {
		return v, err
	}
	v.pin = hmac.Equal(macs[0], a.pin.Mac)
	if a.device == nil {
		return v, nil
	}
	v.mac = macs[1]
	if a.sent() {
		v.otp, err = s.checkSent(ctx, a, macs[2])
	}
	return v, err
}

// factorMACs has Vault make the MACs of a PIN's hash and, where a device is asked, of its password: one for the list of
// the spent ones, and of one that was sent, one for what it was sent for. A device of another credential has that one's key.
func (s *Service) factorMACs(ctx context.Context, a asked, hash []byte, password string) ([][]byte, error) {
	ofPIN := pinInput(a.credential.ID, hash)
	if a.device == nil {
		return s.vault.macs(ctx, a.credential.KeyName, macVersion, ofPIN)
	}
	ofOTP := [][]byte{append([]byte("otp\x00"+a.device.ID.String()+"\x00"), password...)}
	if a.sent() {
		ofOTP = append(ofOTP, sentMAC(a.device.ID, a.binding, password))
	}
	if key := a.deviceCredential().KeyName; key != a.credential.KeyName {
		first, err := s.vault.macs(ctx, a.credential.KeyName, macVersion, ofPIN)
		if err != nil {
			return nil, err
		}
		others, err := s.vault.macs(ctx, key, macVersion, ofOTP...)
		return append(first, others...), err
	}
	return s.vault.macs(ctx, a.credential.KeyName, macVersion, append([][]byte{ofPIN}, ofOTP...)...)
}

// judgeOTP looks at a password that was not sent.
func (s *Service) judgeOTP(ctx context.Context, a asked, password string) (bool, error) {
	switch {
	case a.device.Type == "TOTP":
		return s.vault.checkOTP(ctx, a.device.ID, password)
	case a.device.Type == "TOKEN":
		return s.checkToken(ctx, a, password, a.second)
	case a.device.State == "PENDING":
		return s.checkProof(ctx, a)
	}
	return s.checkPush(ctx, a, password)
}

// giveBack forgives an attempt that could not be judged because Vault is away.
func (s *Service) giveBack(ctx context.Context, a asked, err error, also func(context.Context, *db.Queries) error) error {
	if fault.Of(err).Kind != fault.KindUnavailable || ctx.Err() != nil {
		return err
	}
	undo := s.db.Tx(ctx, a.credential.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		err := q.ForgiveAttempt(ctx, db.ForgiveAttemptParams{TenantID: a.credential.TenantID, Subjects: a.subjects()})
		if err != nil || also == nil {
			return err
		}
		return also(ctx, q)
	})
	if undo != nil {
		s.log.WarnContext(ctx, "an attempt that was not judged stays counted", "credential", a.name(), "error", undo.Error())
	}
	return err
}

// prove asks for the factors, spends the password, and runs then in the transaction that says they
// were right. The act is written down right or wrong. a must have been counted.
func (s *Service) prove(ctx context.Context, a asked, f factors, act telemetry.Act, then func(ctx context.Context, tx pgx.Tx) error) error {
	v, err := s.judge(ctx, a, f)
	if err != nil {
		return s.giveBack(ctx, a, err, nil)
	}
	right := v.pin && (a.device == nil || v.otp)
	err = s.db.Tx(ctx, a.credential.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q, now := db.New(tx), pg.Time(s.now())
		if a.device != nil {
			n, err := q.SpendPassword(ctx, db.SpendPasswordParams{DeviceID: a.device.ID, OtpRight: v.otp, Mac: v.mac, At: now, Forget: now.Add(-keepSpent)})
			if err != nil {
				return fmt.Errorf("signer: spend password: %w", err)
			}
			right = right && n == 1
		}
		act.Detail, act.Outcome = a.detail(), "ok"
		if !right {
			act.Outcome = codeWrong
			return telemetry.Audit(ctx, tx, act)
		}
		err := then(ctx, tx)
		if err != nil {
			return err
		}
		err = q.ForgiveAttempt(ctx, db.ForgiveAttemptParams{TenantID: a.credential.TenantID, Subjects: a.subjects(), Cleared: a.name()})
		if err != nil {
			return fmt.Errorf("signer: clear attempts: %w", err)
		}
		err = s.tellChange(ctx, tx, a, act)
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, act)
	})
	if err == nil && !right {
		return wrong()
	}
	if err == nil {
		s.rehash(ctx, a, f.pin)
	}
	return err
}
