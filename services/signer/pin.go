package signer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/argon2id"
	"ceralacca.dev/services/signer/internal/db"
)

// A PIN is kept as HMAC(key in Vault, argon2id(PIN, salt)). 8 digits are few for any hash, so the key in Vault is what
// keeps who has the database from trying them all, and the counters keep who has the API; argon2id is the second wall,
// for who has the database and may ask Vault. Its memory and its passes (authorization.pin_passes) are the least that
// OWASP names.
// Two lanes of the same memory and passes are ready in half the time where a processor is idle, and cost as much.
// spec: RFC9106 §3.1
const (
	pinDigits    = 8
	pinMemoryKiB = 7 * 1024
	pinLanes     = 2
	pinSaltSize  = 16
)

// pinCost are the parameters of argon2id, which each row has.
type pinCost struct{ memoryKiB, passes, lanes int32 }

// newPINs is what a PIN costs that is set now; one that was set for another cost is hashed anew at its next use.
func (s *Service) newPINs() pinCost {
	return pinCost{pinMemoryKiB, int32(s.cfg.Authorization.PINPasses), pinLanes} //nolint:gosec // Validate: at most 20
}

func costOf(p db.CredentialPin) pinCost { return pinCost{p.MemoryKib, p.Passes, p.Lanes} }

// pinHasher runs argon2id, as many lanes at a time as there are processors: more would make all of them later, and each
// hash takes its memory. Who came first is served first; a lane lets all else of the process run meanwhile.
type pinHasher struct {
	lanes *semaphore.Weighted
	all   int64
}

func newPINHasher() *pinHasher {
	all := int64(runtime.GOMAXPROCS(0))
	return &pinHasher{lanes: semaphore.NewWeighted(all), all: all}
}

// hash waits for its turn as long as ctx lasts.
func (p *pinHasher) hash(ctx context.Context, pin string, salt []byte, c pinCost) ([]byte, error) {
	n := min(int64(c.lanes), p.all)
	if err := p.lanes.Acquire(ctx, n); err != nil {
		return nil, err
	}
	defer p.lanes.Release(n)
	return argon2id.Key([]byte(pin), salt, uint32(c.passes), uint32(c.memoryKiB), uint8(c.lanes), 32), nil //nolint:gosec // our own rows: small and positive
}

// pinInput is what Vault makes the MAC of: bound to the credential, so that a row moved to another is worth nothing.
func pinInput(credential uuid.UUID, hash []byte) []byte {
	return append([]byte("pin\x00"+credential.String()+"\x00"), hash...)
}

// checkPIN refuses what is no PIN or the first that anybody tries.
func checkPIN(pin string) error {
	if !digits(pin, pinDigits) {
		return fault.Invalid("PIN_FORMAT", "new_pin: a PIN is %d digits", pinDigits).WithField("new_pin", "PIN_FORMAT", "is not 8 digits")
	}
	same, up, down := true, true, true
	for i := 1; i < len(pin); i++ {
		step := (int(pin[i]) - int(pin[i-1]) + 10) % 10
		same, up, down = same && step == 0, up && step == 1, down && step == 9
	}
	if same || up || down || pin[:4] == pin[4:] {
		return fault.Invalid("PIN_WEAK", "new_pin: all the same, in order, or twice the same half: choose another").
			WithField("new_pin", "PIN_WEAK", "is among the first that anybody tries")
	}
	return nil
}

// newPIN makes what is kept of a PIN.
func (s *Service) newPIN(ctx context.Context, c db.Credential, pin string) (salt, mac []byte, err error) {
	salt = make([]byte, pinSaltSize)
	_, _ = rand.Read(salt) // never fails
	hash, err := s.pins.hash(ctx, pin, salt, s.newPINs())
	if err != nil {
		return nil, nil, err
	}
	macs, err := s.vault.macs(ctx, c.KeyName, macVersion, pinInput(c.ID, hash))
	if err != nil {
		return nil, nil, err
	}
	return salt, macs[0], nil
}

// rehash keeps a PIN that was just found right under the parameters of today. It cannot fail the call: the older
// ones stay good until the next use.
func (s *Service) rehash(ctx context.Context, a asked, pin string) {
	cost := s.newPINs()
	if costOf(a.pin) == cost {
		return
	}
	salt, mac, err := s.newPIN(ctx, a.credential, pin)
	if err == nil {
		err = s.db.Tx(ctx, a.credential.TenantID, func(ctx context.Context, tx pgx.Tx) error {
			return db.New(tx).RehashPin(ctx, db.RehashPinParams{
				CredentialID: a.credential.ID, Version: a.pin.Version, OldMac: a.pin.Mac,
				Salt: salt, MemoryKib: cost.memoryKiB, Passes: cost.passes, Lanes: cost.lanes, Mac: mac,
			})
		})
	}
	if err != nil {
		s.log.WarnContext(ctx, "a PIN keeps its older hash", "credential", a.name(), "error", err.Error())
	}
}

// SetPin sets the first PIN of a credential, or changes it with the present one and a password.
func (s *Service) SetPin(ctx context.Context, req *signv1.SetPinRequest) (*signv1.SetPinResponse, error) {
	name, err := parseCredentialName("name", req.GetName())
	if err != nil {
		return nil, err
	}
	err = checkPIN(req.GetNewPin())
	if err != nil {
		return nil, err
	}
	var a asked
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		a.credential, err = personal(ctx, q, name)
		if err != nil {
			return err
		}
		a.pin, err = q.GetPin(ctx, name.id)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("signer: read PIN: %w", err)
		}
		a, err = withDevice(ctx, q, name)
		if err != nil {
			return err
		}
		if req.GetHolder() != "" && req.GetHolder() != a.pin.Holder {
			return fault.Invalid("HOLDER_FIXED", "holder: the credential has its holder, who cannot be changed: create another credential").
				WithField("holder", "HOLDER_FIXED", "cannot be changed")
		}
		return s.count(ctx, q, a)
	})
	if err != nil {
		return nil, err
	}
	if a.pin.Mac == nil {
		return s.firstPIN(ctx, a.credential, req)
	}
	return s.changePIN(ctx, a, req)
}

func (s *Service) firstPIN(ctx context.Context, c db.Credential, req *signv1.SetPinRequest) (*signv1.SetPinResponse, error) {
	if req.GetHolder() == "" {
		return nil, fault.Invalid("HOLDER_MISSING", "holder: say whose credential this is: tenants/{tenant}/users/{user}").
			WithField("holder", "HOLDER_MISSING", "is required with the first PIN")
	}
	if !strings.HasPrefix(req.GetHolder(), "tenants/"+c.TenantID+"/users/") {
		return nil, holderForeign(req.GetHolder(), c.TenantID)
	}
	salt, mac, err := s.newPIN(ctx, c, req.GetNewPin())
	if err != nil {
		return nil, err
	}
	now, cost := pg.Time(s.now()), s.newPINs()
	err = s.db.Tx(ctx, c.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		n, err := q.InsertPin(ctx, db.InsertPinParams{
			CredentialID: c.ID, Holder: req.GetHolder(), Salt: salt, MemoryKib: cost.memoryKiB, Passes: cost.passes, Lanes: cost.lanes, Mac: mac, At: now,
		})
		if err != nil {
			return fmt.Errorf("signer: insert PIN: %w", err)
		}
		if n == 0 {
			return fault.Conflict("PIN_EXISTS", "the credential got its PIN a moment ago, or was revoked: look at it again")
		}
		for subject, allowed := range map[string]int32{nameOfCredential(c): credentialAttempts, req.GetHolder(): holderAttempts} {
			err = q.InsertGuard(ctx, db.InsertGuardParams{TenantID: c.TenantID, Subject: subject, Allowed: allowed, At: now})
			if err != nil {
				return fmt.Errorf("signer: insert guard: %w", err)
			}
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "pin.set", Resource: nameOfCredential(c), Detail: map[string]string{"holder": req.GetHolder()},
		})
	})
	if err != nil {
		return nil, err
	}
	return &signv1.SetPinResponse{Holder: req.GetHolder(), SetTime: timestamppb.New(now)}, nil
}

func holderForeign(holder, tenant string) error {
	return fault.Invalid("HOLDER_FOREIGN", "holder: %q is not a user of tenants/%s", holder, tenant).
		WithField("holder", "HOLDER_FOREIGN", "is of another tenant")
}

func (s *Service) changePIN(ctx context.Context, a asked, req *signv1.SetPinRequest) (*signv1.SetPinResponse, error) {
	salt, mac, err := s.newPIN(ctx, a.credential, req.GetNewPin())
	if err != nil {
		return nil, s.giveBack(ctx, a, err, nil)
	}
	now, cost := pg.Time(s.now()), s.newPINs()
	err = s.prove(ctx, a, factors{req.GetPin(), req.GetOtp()}, telemetry.Act{Action: "pin.change", Resource: a.name()},
		func(ctx context.Context, tx pgx.Tx) error {
			n, err := db.New(tx).ChangePin(ctx, db.ChangePinParams{
				CredentialID: a.credential.ID, Version: a.pin.Version, Salt: salt, MemoryKib: cost.memoryKiB, Passes: cost.passes, Lanes: cost.lanes, Mac: mac, At: now,
			})
			if err == nil && n == 0 {
				return fault.Aborted("PIN_CHANGED", "the PIN was changed a moment ago by another request, or the credential was revoked")
			}
			return err
		})
	if err != nil {
		return nil, err
	}
	return &signv1.SetPinResponse{Holder: a.pin.Holder, SetTime: timestamppb.New(now)}, nil
}
