package signer

import (
	"context"
	"crypto/sha256"
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

// ForgetDeviceArgs asks for a removed device's secret to be deleted from Vault.
type ForgetDeviceArgs struct {
	Device uuid.UUID `json:"device"`
}

// Kind names the job.
func (ForgetDeviceArgs) Kind() string { return "forget_otp_device" }

func (s *Service) forgetDevice(ctx context.Context, job *river.Job[ForgetDeviceArgs]) error {
	return s.vault.deleteOTP(ctx, job.Args.Device)
}

func (s *Service) forgetDevices(ctx context.Context, tx pgx.Tx, ids ...uuid.UUID) error {
	for _, id := range ids {
		err := s.jobs.InsertTx(ctx, tx, ForgetDeviceArgs{Device: id}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

func nameOfDevice(c db.Credential, id uuid.UUID) string {
	return nameOfCredential(c) + "/otpDevices/" + id.String()
}

// parseBelow reads the name of something that belongs to a credential: {credential}/{collection}/{id}.
func parseBelow(name, collection, code, what string) (credentialName, uuid.UUID, error) {
	missing := fault.NotFound(code, "there is no %s %s", what, name)
	parent, own, ok := strings.Cut(name, "/"+collection+"/")
	if !ok {
		return credentialName{}, uuid.Nil, missing
	}
	of, err := parseCredentialName("name", parent)
	if err != nil {
		return of, uuid.Nil, err
	}
	id, err := uuid.Parse(own)
	if err != nil {
		return of, uuid.Nil, missing
	}
	return of, id, nil
}

func parseDeviceName(name string) (credentialName, uuid.UUID, error) {
	return parseBelow(name, "otpDevices", "OTP_DEVICE_NOT_FOUND", "device")
}

func deviceMessage(c db.Credential, d db.OtpDevice) *signv1.OtpDevice {
	m := &signv1.OtpDevice{
		Name: nameOfDevice(c, d.ID), DisplayName: d.DisplayName, Address: masked(d.Address), CreateTime: timestamppb.New(d.CreatedAt),
		Type:  signv1.OtpDeviceType(signv1.OtpDeviceType_value["OTP_DEVICE_TYPE_"+d.Type]),
		State: signv1.OtpDeviceState(signv1.OtpDeviceState_value["OTP_DEVICE_STATE_"+d.State]),
	}
	if d.ConfirmedAt != nil {
		m.ConfirmTime = timestamppb.New(*d.ConfirmedAt)
	}
	if d.RemovedAt != nil {
		m.RemoveTime = timestamppb.New(*d.RemovedAt)
	}
	return m
}

// CreateOtpDevice begins to enrol the device of a credential that has none.
func (s *Service) CreateOtpDevice(ctx context.Context, req *signv1.CreateOtpDeviceRequest) (*signv1.EnrolledOtpDevice, error) {
	name, err := parseCredentialName("parent", req.GetParent())
	if err != nil {
		return nil, err
	}
	err = s.checkDevice(req.GetOtpDevice())
	if err != nil {
		return nil, err
	}
	var a asked
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		a, err = withPIN(ctx, q, name)
		if err != nil {
			return err
		}
		_, err = q.ActiveDevice(ctx, name.id)
		if err == nil {
			return deviceExists()
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("signer: read device: %w", err)
		}
		return s.count(ctx, q, a)
	})
	if err != nil {
		return nil, err
	}
	return s.enrol(ctx, a, factors{pin: req.GetPin()}, req.GetOtpDevice(), nil)
}

func deviceExists() error {
	return fault.Precondition("OTP_DEVICE_EXISTS", "the credential has an active device: replace it, with a password of it")
}

// ReplaceOtpDevice begins to enrol the device that takes the place of the active one.
func (s *Service) ReplaceOtpDevice(ctx context.Context, req *signv1.ReplaceOtpDeviceRequest) (*signv1.EnrolledOtpDevice, error) {
	name, id, err := parseDeviceName(req.GetName())
	if err != nil {
		return nil, err
	}
	err = s.checkDevice(req.GetOtpDevice())
	if err != nil {
		return nil, err
	}
	var a asked
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		a, err = withDevice(ctx, q, name)
		if err != nil {
			return err
		}
		if a.device.ID != id {
			return fault.Precondition("OTP_DEVICE_STATE", "%s is not the active device: %s is", req.GetName(), nameOfDevice(a.credential, a.device.ID))
		}
		return s.count(ctx, q, a)
	})
	if err != nil {
		return nil, err
	}
	return s.enrol(ctx, a, factors{req.GetPin(), req.GetOtp()}, req.GetOtpDevice(), &id)
}

// enrol proves, writes the intent, and makes the secret. When that fails the enrolment is begun again:
// a device without a secret can confirm nothing.
func (s *Service) enrol(ctx context.Context, a asked, f factors, want *signv1.OtpDevice, replaces *uuid.UUID) (*signv1.EnrolledOtpDevice, error) {
	id, err := pg.NewID()
	if err != nil {
		return nil, err
	}
	c, now := a.credential, pg.Time(s.now())
	var made db.OtpDevice
	act := telemetry.Act{Action: "otp_device.enrol", Resource: nameOfDevice(c, id)}
	if a.cool {
		act.Action = "otp_device.recover"
	}
	if a.told == nil {
		a.told = replaces
	}
	err = s.prove(ctx, a, f, act, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		old, err := q.DropPendingDevice(ctx, db.DropPendingDeviceParams{CredentialID: c.ID, At: &now})
		if err != nil {
			return fmt.Errorf("signer: end earlier enrolment: %w", err)
		}
		err = s.forgetDevices(ctx, tx, old...)
		if err != nil {
			return err
		}
		n, err := q.InsertDevice(ctx, db.InsertDeviceParams{
			ID: id, CredentialID: c.ID, Type: strings.TrimPrefix(want.GetType().String(), "OTP_DEVICE_TYPE_"),
			DisplayName: want.GetDisplayName(), Replaces: replaces, Address: want.GetAddress(), At: now,
		})
		if err != nil {
			return fmt.Errorf("signer: insert device: %w", err)
		}
		if n == 0 {
			return fault.Aborted("OTP_DEVICE_CHANGED", "the active device changed a moment ago, or the credential was revoked: look at it again")
		}
		err = s.enrolKind(ctx, q, a, id, want)
		if err != nil {
			return err
		}
		made, err = q.GetDevice(ctx, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.begun(ctx, a, made)
}

// begun gives what the holder of a new device needs next: a secret, a password, or a text to sign.
func (s *Service) begun(ctx context.Context, a asked, made db.OtpDevice) (*signv1.EnrolledOtpDevice, error) {
	c, id := a.credential, made.ID
	switch made.Type {
	case "PUSH":
		return &signv1.EnrolledOtpDevice{OtpDevice: deviceMessage(c, made), ToSign: enrolmentText(nameOfDevice(c, id))}, nil
	case "TOKEN":
		return &signv1.EnrolledOtpDevice{OtpDevice: deviceMessage(c, made)}, nil
	case "SMS", "EMAIL":
		a.device, a.of, a.cooling = &made, nil, nil
		_, err := s.sendPassword(ctx, a, "per attivare questo dispositivo della firma")
		if err != nil { // the enrolment stands: SendOtp sends another
			s.log.WarnContext(ctx, "first password of a device not sent", "device", id, "code", fault.Of(err).Code)
		}
		return &signv1.EnrolledOtpDevice{OtpDevice: deviceMessage(c, made)}, nil
	}
	secret, err := s.vault.createOTP(ctx, id, s.cfg.Authorization.Issuer, c.ID.String())
	if err != nil {
		return nil, err
	}
	return &signv1.EnrolledOtpDevice{OtpDevice: deviceMessage(c, made), OtpauthUri: secret.uri, QrPng: secret.png}, nil
}

// enrolKind writes what a kind of device has beside its row.
func (s *Service) enrolKind(ctx context.Context, q *db.Queries, a asked, id uuid.UUID, want *signv1.OtpDevice) error {
	if a.cool {
		err := q.InsertCooling(ctx, db.InsertCoolingParams{DeviceID: id, TenantID: a.credential.TenantID, UsableFrom: pg.Time(s.now()).Add(s.cfg.Authorization.Cooling)})
		if err != nil {
			return fmt.Errorf("signer: insert cooling: %w", err)
		}
	}
	switch want.GetType() {
	case signv1.OtpDeviceType_OTP_DEVICE_TYPE_PUSH:
		err := q.InsertPushKey(ctx, db.InsertPushKeyParams{DeviceID: id, TenantID: a.credential.TenantID, PublicKey: want.GetPublicKey()})
		if err != nil {
			return fmt.Errorf("signer: insert key of an app: %w", err)
		}
	case signv1.OtpDeviceType_OTP_DEVICE_TYPE_TOKEN:
		n, err := q.AssignToken(ctx, db.AssignTokenParams{DeviceID: &id, TenantID: a.credential.TenantID, Serial: want.GetTokenSerial()})
		if err != nil {
			return fmt.Errorf("signer: assign token: %w", err)
		}
		if n == 0 {
			return fault.Precondition("TOKEN_NOT_AVAILABLE", "otp_device.token_serial: there is no token %s that is nobody's: import it, or look at its serial", want.GetTokenSerial())
		}
	}
	return nil
}

// ownDevice reads a personal credential with its PIN and one of its devices that is not removed.
func ownDevice(ctx context.Context, q *db.Queries, name credentialName, id uuid.UUID) (asked, error) {
	a, err := withPIN(ctx, q, name)
	if err != nil {
		return a, err
	}
	d, err := q.GetDevice(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) || (err == nil && d.CredentialID != a.credential.ID) {
		return a, fault.NotFound("OTP_DEVICE_NOT_FOUND", "there is no device %s", nameOfDevice(a.credential, id))
	}
	if err != nil {
		return a, fmt.Errorf("signer: read device: %w", err)
	}
	if d.State == "REMOVED" {
		return a, fault.Precondition("OTP_DEVICE_STATE", "device %s is removed", nameOfDevice(a.credential, id))
	}
	a.device = &d
	return a, nil
}

// ConfirmOtpDevice makes a pending device the active one, in place of the one that it replaces.
func (s *Service) ConfirmOtpDevice(ctx context.Context, req *signv1.ConfirmOtpDeviceRequest) (*signv1.OtpDevice, error) {
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
		if a.device.State != "PENDING" {
			return fault.Precondition("OTP_DEVICE_STATE", "device %s is %s: only a pending one is confirmed", req.GetName(), a.device.State)
		}
		return s.count(ctx, q, a)
	})
	if err != nil {
		return nil, err
	}
	now := pg.Time(s.now())
	var done db.OtpDevice
	act := telemetry.Act{Action: "otp_device.confirm", Resource: req.GetName()}
	shown := factors{req.GetPin(), req.GetOtp()}
	if a.device.Type == "PUSH" { // its proof is what is spent
		a.proof = req.GetProof()
		shown.otp = fmt.Sprintf("%x", sha256.Sum256(a.proof))
	}
	a.told = a.device.Replaces
	err = s.prove(ctx, a, shown, act, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		if old := a.device.Replaces; old != nil {
			n, err := q.RemoveDevice(ctx, db.RemoveDeviceParams{ID: *old, State: "ACTIVE", At: &now})
			if err != nil {
				return fmt.Errorf("signer: remove old device: %w", err)
			}
			if n == 1 {
				err = s.forgetDevices(ctx, tx, *old)
				if err != nil {
					return err
				}
			}
		}
		n, err := q.ConfirmDevice(ctx, db.ConfirmDeviceParams{ID: id, At: &now})
		if err != nil {
			return fmt.Errorf("signer: confirm device: %w", err)
		}
		if n == 0 {
			return fault.Aborted("OTP_DEVICE_CHANGED", "the devices of the credential changed a moment ago: look at them again")
		}
		done, err = q.GetDevice(ctx, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return deviceMessage(a.credential, done), nil
}

// DeleteOtpDevice removes a device for good.
func (s *Service) DeleteOtpDevice(ctx context.Context, req *signv1.DeleteOtpDeviceRequest) (*signv1.OtpDevice, error) {
	name, id, err := parseDeviceName(req.GetName())
	if err != nil {
		return nil, err
	}
	var a asked
	state := ""
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		a, err = ownDevice(ctx, q, name, id)
		if err != nil {
			return err
		}
		state = a.device.State
		if state == "PENDING" {
			a.device = nil // it has no password to ask for: nobody has confirmed it
		}
		return s.count(ctx, q, a)
	})
	if err != nil {
		return nil, err
	}
	now := pg.Time(s.now())
	var done db.OtpDevice
	act := telemetry.Act{Action: "otp_device.remove", Resource: req.GetName()}
	err = s.prove(ctx, a, factors{req.GetPin(), req.GetOtp()}, act, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		n, err := q.RemoveDevice(ctx, db.RemoveDeviceParams{ID: id, State: state, At: &now})
		if err != nil {
			return fmt.Errorf("signer: remove device: %w", err)
		}
		if n == 0 {
			return fault.Aborted("OTP_DEVICE_CHANGED", "the device changed a moment ago: look at it again")
		}
		err = s.forgetDevices(ctx, tx, id)
		if err != nil {
			return err
		}
		done, err = q.GetDevice(ctx, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return deviceMessage(a.credential, done), nil
}

// ListOtpDevices lists the devices of a credential, newest first.
func (s *Service) ListOtpDevices(ctx context.Context, req *signv1.ListOtpDevicesRequest) (*signv1.ListOtpDevicesResponse, error) {
	name, err := parseCredentialName("parent", req.GetParent())
	if err != nil {
		return nil, err
	}
	size, before, filter := int(req.GetPageSize()), lastID, pg.FilterHash("otpDevices", req.GetParent())
	if size == 0 {
		size = defaultPage
	}
	_, err = pg.DecodePageToken(req.GetPageToken(), filter, &before)
	if err != nil {
		return nil, err
	}
	c, err := s.credential(ctx, name.tenant, name.id)
	if err != nil {
		return nil, err
	}
	if c.CompanyID != name.company {
		return nil, noCredential(req.GetParent())
	}
	var rows []db.OtpDevice
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err = db.New(tx).ListDevices(ctx, db.ListDevicesParams{
			CredentialID: name.id, Before: before, Page: int32(size + 1), //nolint:gosec // at most 1001
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &signv1.ListOtpDevicesResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.OtpDevice) []any { return []any{r.ID} })
	if err != nil {
		return nil, err
	}
	for _, d := range rows {
		resp.OtpDevices = append(resp.OtpDevices, deviceMessage(c, d))
	}
	return resp, nil
}
