package signer

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// How far a hardware token may be out of step.
const (
	tokenSkew       = 1   // steps before and after, of kind TOTP. spec: RFC6238 §5.2
	tokenLookAhead  = 10  // codes that were shown and not used, of kind HOTP. spec: RFC4226 §7.2
	tokenResyncTime = 10  // steps either way, with two codes. spec: RFC6238 §6
	tokenResyncHOTP = 100 // codes ahead, with two codes. spec: RFC4226 §7.4
	tokenMaxDrift   = 120 // steps in all: an hour of a token with codes of 30 seconds
)

// ForgetTokenArgs asks for a retired token's seed to be deleted from Vault.
type ForgetTokenArgs struct {
	Token uuid.UUID `json:"token"`
}

// Kind names the job.
func (ForgetTokenArgs) Kind() string { return "forget_oath_token" }

func (s *Service) forgetToken(ctx context.Context, job *river.Job[ForgetTokenArgs]) error {
	return s.vault.deleteSeed(ctx, job.Args.Token)
}

// hotp is the code of a MAC. spec: RFC4226 §5.3
func hotp(mac []byte, digits int32) string {
	at := mac[len(mac)-1] & 0xf
	modulus := uint32(1_000_000)
	if digits == 8 {
		modulus = 100_000_000
	}
	return fmt.Sprintf("%0*d", digits, (binary.BigEndian.Uint32(mac[at:])&0x7fffffff)%modulus)
}

// span is a run of counters whose codes are to be tried, and the one that is expected.
type span struct {
	from     int64
	n        int
	expected int64
}

// tokenSpan says which counters could be right now.
func (s *Service) tokenSpan(t db.OathToken, resync bool) span {
	if t.Kind == "HOTP" {
		if resync {
			return span{t.Counter, tokenResyncHOTP + 1, t.Counter}
		}
		return span{t.Counter, tokenLookAhead + 1, t.Counter}
	}
	expected := s.now().Unix()/int64(t.Period) + int64(t.Drift)
	reach := int64(tokenSkew)
	if resync {
		reach = tokenResyncTime
	}
	from := max(expected-reach, t.Counter)
	return span{from, int(max(expected+reach-from+1, 0)), expected}
}

// tokenCodes has Vault make the codes of a run of counters, in one call.
func (s *Service) tokenCodes(ctx context.Context, t db.OathToken, from int64, n int) ([]string, error) {
	inputs := make([][]byte, n)
	for i := range inputs {
		inputs[i] = binary.BigEndian.AppendUint64(nil, uint64(from+int64(i))) //nolint:gosec // counters are not negative
	}
	macs, err := s.vault.seedMACs(ctx, t.ID, t.Algorithm, inputs...)
	if err != nil {
		return nil, err
	}
	out := make([]string, n)
	for i, mac := range macs {
		out[i] = hotp(mac, t.Digits)
	}
	return out, nil
}

// checkToken accepts a code of a hardware token once: the statement that moves the counter past it is what
// decides. second is the code after it, when the token is put back in step; empty otherwise.
func (s *Service) checkToken(ctx context.Context, a asked, first, second string) (bool, error) {
	tenant := a.deviceCredential().TenantID
	var t db.OathToken
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		t, err = db.New(tx).TokenOfDevice(ctx, &a.device.ID)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("signer: read token: %w", err)
	}
	resync := second != ""
	if !digits(first, int(t.Digits)) || resync && !digits(second, int(t.Digits)) {
		return false, nil
	}
	tried := s.tokenSpan(t, resync)
	if tried.n == 0 {
		return false, nil
	}
	extra := 0
	if resync {
		extra = 1
	}
	codes, err := s.tokenCodes(ctx, t, tried.from, tried.n+extra)
	if err != nil {
		return false, err
	}
	accepted := int64(-1)
	for i := range tried.n { // all of them are compared: where a code stands shows in no time
		same := subtle.ConstantTimeCompare([]byte(codes[i]), []byte(first))
		if resync {
			same &= subtle.ConstantTimeCompare([]byte(codes[i+1]), []byte(second))
		}
		if same == 1 && accepted < 0 {
			accepted = tried.from + int64(i)
		}
	}
	if accepted < 0 {
		return false, nil
	}
	next, drift := accepted+1+int64(extra), t.Drift
	if t.Kind == "TOTP" {
		drift = int32(min(max(int64(t.Drift)+accepted-tried.expected, -tokenMaxDrift), tokenMaxDrift)) //nolint:gosec // bounded
		if resync {
			drift = int32(min(max(accepted+1-s.now().Unix()/int64(t.Period), -tokenMaxDrift), tokenMaxDrift)) //nolint:gosec // bounded
		}
	}
	var n int64
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		n, err = db.New(tx).AdvanceToken(ctx, db.AdvanceTokenParams{ID: t.ID, Next: next, Accepted: accepted, Drift: drift})
		return err
	})
	if err != nil {
		return false, fmt.Errorf("signer: advance token: %w", err)
	}
	return n == 1, nil
}

// ResynchronizeOtpDevice puts a hardware token back in step.
func (s *Service) ResynchronizeOtpDevice(ctx context.Context, req *signv1.ResynchronizeOtpDeviceRequest) (*signv1.OtpDevice, error) {
	name, id, err := parseDeviceName(req.GetName())
	if err != nil {
		return nil, err
	}
	var a asked
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		a, err = ownDevice(ctx, q, name, id)
		if err != nil {
			return err
		}
		if a.device.Type != "TOKEN" {
			return fault.Precondition("OTP_DEVICE_TYPE", "%s is of type %s: only hardware tokens fall out of step", req.GetName(), a.device.Type)
		}
		return s.count(ctx, q, a)
	})
	if err != nil {
		return nil, err
	}
	a.second = req.GetSecondOtp()
	if a.second == "" {
		a.second = "-" // no code, and no single one either
	}
	act := telemetry.Act{Action: "otp_device.resynchronize", Resource: req.GetName()}
	err = s.prove(ctx, a, factors{req.GetPin(), req.GetFirstOtp()}, act, func(context.Context, pgx.Tx) error { return nil })
	if err != nil {
		return nil, err
	}
	return deviceMessage(a.credential, *a.device), nil
}

func nameOfToken(tenant string, id uuid.UUID) string {
	return "tenants/" + tenant + "/oathTokens/" + id.String()
}

func tokenMessage(t db.OathToken, device string) *signv1.OathToken {
	m := &signv1.OathToken{
		Name: nameOfToken(t.TenantID, t.ID), Serial: t.Serial, Digits: t.Digits, OtpDevice: device, ImportTime: timestamppb.New(t.ImportedAt), Drift: t.Drift,
		Kind:      signv1.OathKind(signv1.OathKind_value["OATH_KIND_"+t.Kind]),
		Algorithm: signv1.OathAlgorithm(signv1.OathAlgorithm_value["OATH_ALGORITHM_"+t.Algorithm]),
	}
	if t.Kind == "TOTP" {
		m.Period = t.Period
	} else {
		m.Counter = t.Counter
	}
	if t.RetiredAt != nil {
		m.RetireTime = timestamppb.New(*t.RetiredAt)
	}
	return m
}

// GetSeedWrappingKey gives the key under which seeds travel.
func (s *Service) GetSeedWrappingKey(ctx context.Context, _ *signv1.GetSeedWrappingKeyRequest) (*signv1.SeedWrappingKey, error) {
	text, err := s.vault.wrappingKey(ctx)
	if err != nil {
		return nil, err
	}
	return &signv1.SeedWrappingKey{PublicKeyPem: text}, nil
}

// ImportOathToken hands a wrapped seed to Vault and then writes the token down: a crash in between leaves a
// key in Vault that nothing names.
func (s *Service) ImportOathToken(ctx context.Context, req *signv1.ImportOathTokenRequest) (*signv1.OathToken, error) {
	ids, ok := cut(req.GetParent(), "tenants")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}", req.GetParent())
	}
	t := req.GetOathToken()
	row := db.InsertTokenParams{
		TenantID: ids[0], Serial: t.GetSerial(), Digits: t.GetDigits(), Period: t.GetPeriod(), Counter: t.GetCounter(), At: pg.Time(s.now()),
		Kind: strings.TrimPrefix(t.GetKind().String(), "OATH_KIND_"), Algorithm: strings.TrimPrefix(t.GetAlgorithm().String(), "OATH_ALGORITHM_"),
	}
	if row.Kind == "TOTP" {
		row.Counter = 0 // its codes come from the clock
	}
	if row.Period == 0 {
		row.Period = 30
	}
	var err error
	if row.ID, err = pg.NewID(); err != nil {
		return nil, err
	}
	err = s.vault.importSeed(ctx, row.ID, req.GetWrappedSeed())
	if err != nil {
		return nil, err
	}
	var made db.OathToken
	err = s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		n, err := q.InsertToken(ctx, row)
		if err != nil {
			return fmt.Errorf("signer: insert token: %w", err)
		}
		if n == 0 {
			return fault.Conflict("TOKEN_EXISTS", "token %s was imported before: retire it, or look at its serial", row.Serial)
		}
		if made, err = q.GetToken(ctx, row.ID); err != nil {
			return fmt.Errorf("signer: read token: %w", err)
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "oath_token.import", Resource: nameOfToken(ids[0], row.ID), Detail: map[string]string{"serial": row.Serial, "kind": row.Kind},
		})
	})
	if err != nil {
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Vault.Timeout)
		defer cancel()
		if undo := s.vault.deleteSeed(back, row.ID); undo != nil {
			s.log.WarnContext(ctx, "the seed of a token that was not taken in stays in Vault", "token", row.ID, "error", undo.Error())
		}
		return nil, err
	}
	return tokenMessage(made, ""), nil
}

// ListOathTokens lists a tenant's tokens, newest first.
func (s *Service) ListOathTokens(ctx context.Context, req *signv1.ListOathTokensRequest) (*signv1.ListOathTokensResponse, error) {
	ids, ok := cut(req.GetParent(), "tenants")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}", req.GetParent())
	}
	size, before, filter := int(req.GetPageSize()), lastID, pg.FilterHash("oathTokens", ids[0])
	if size == 0 {
		size = defaultPage
	}
	_, err := pg.DecodePageToken(req.GetPageToken(), filter, &before)
	if err != nil {
		return nil, err
	}
	var rows []db.ListTokensRow
	err = s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		rows, err = db.New(tx).ListTokens(ctx, db.ListTokensParams{TenantID: ids[0], Before: before, Page: int32(size + 1)}) //nolint:gosec // at most 1001
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("signer: list tokens: %w", err)
	}
	resp := &signv1.ListOathTokensResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListTokensRow) []any { return []any{r.ID} })
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		device := ""
		if r.CredentialID != nil {
			device = nameOfDevice(db.Credential{TenantID: r.TenantID, CompanyID: r.CompanyID, ID: *r.CredentialID}, *r.DeviceID)
		}
		resp.OathTokens = append(resp.OathTokens, tokenMessage(db.OathToken{
			ID: r.ID, TenantID: r.TenantID, Serial: r.Serial, Kind: r.Kind, Algorithm: r.Algorithm, Digits: r.Digits, Period: r.Period,
			Counter: r.Counter, Drift: r.Drift, ImportedAt: r.ImportedAt, RetiredAt: r.RetiredAt,
		}, device))
	}
	return resp, nil
}

// RetireOathToken ends a token that is nobody's.
func (s *Service) RetireOathToken(ctx context.Context, req *signv1.RetireOathTokenRequest) (*signv1.OathToken, error) {
	ids, ok := cut(req.GetName(), "tenants", "oathTokens")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "name: %q is not tenants/{tenant}/oathTokens/{oath_token}", req.GetName())
	}
	missing := fault.NotFound("TOKEN_NOT_FOUND", "there is no token %s", req.GetName())
	id, err := uuid.Parse(ids[1])
	if err != nil {
		return nil, missing
	}
	var row db.OathToken
	err = s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		n, err := q.RetireToken(ctx, db.RetireTokenParams{ID: id, At: ptr(pg.Time(s.now()))})
		if err != nil {
			return fmt.Errorf("signer: retire token: %w", err)
		}
		row, err = q.GetToken(ctx, id)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return missing
		case err != nil:
			return fmt.Errorf("signer: read token: %w", err)
		case n == 0 && row.RetiredAt == nil:
			return fault.Precondition("TOKEN_IN_USE", "token %s is somebody's device: remove or replace that first", row.Serial)
		case n == 0:
			return nil
		}
		err = s.jobs.InsertTx(ctx, tx, ForgetTokenArgs{Token: id}, nil)
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "oath_token.retire", Resource: req.GetName(), Detail: map[string]string{"serial": row.Serial}})
	})
	if err != nil {
		return nil, err
	}
	return tokenMessage(row, ""), nil
}
