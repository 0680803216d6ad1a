package signer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/signer/internal/db"
)

// RecoverOtpDevice begins to enrol a device in the place of one that is lost, with the PIN and another device
// of the same holder. The present device is told, and the new one may not sign before the time of cooling.
func (s *Service) RecoverOtpDevice(ctx context.Context, req *signv1.RecoverOtpDeviceRequest) (*signv1.EnrolledOtpDevice, error) {
	name, err := parseCredentialName("parent", req.GetParent())
	if err != nil {
		return nil, err
	}
	other, id, err := parseDeviceName(req.GetOtherDevice())
	if err != nil {
		return nil, err
	}
	if other.tenant != name.tenant {
		return nil, fault.Denied("HOLDER_FOREIGN", "other_device: it is of another tenant")
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
		by, err := ownDevice(ctx, q, other, id)
		if err != nil {
			return err
		}
		if by.credential.ID == a.credential.ID || by.pin.Holder != a.pin.Holder || by.device.State != "ACTIVE" {
			return fault.Precondition("OTHER_DEVICE_UNFIT", "other_device: it is not the active device of another credential of the same holder")
		}
		present, err := q.ActiveDevice(ctx, name.id)
		if err == nil {
			a.replaces, a.told = &present.ID, &present.ID
		} else if !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("signer: read device: %w", err)
		}
		a.device, a.of = by.device, &by.credential
		return s.count(ctx, q, a)
	})
	if err != nil {
		return nil, err
	}
	a.cool = true
	return s.enrol(ctx, a, factors{req.GetPin(), req.GetOtp()}, req.GetOtpDevice(), a.replaces)
}

// cooling is from when a device may be used; nil: at once.
type cooling struct{ until *time.Time }

// cooled refuses a device that may not be used yet.
func (s *Service) cooled(ctx context.Context, q *db.Queries, a asked) error {
	if a.device == nil || a.device.State != "ACTIVE" {
		return nil
	}
	if a.cooling == nil {
		from, err := q.GetCooling(ctx, a.device.ID)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("signer: read cooling: %w", err)
		}
		a.cooling = &cooling{&from}
	}
	if from := a.cooling.until; from != nil && s.now().Before(*from) {
		return fault.Precondition("OTP_DEVICE_COOLING", "device %s took another one's place without a password of it: it may be used from %s",
			nameOfDevice(a.deviceCredential(), a.device.ID), from.UTC().Format(time.RFC3339))
	}
	return nil
}
