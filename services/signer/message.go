package signer

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/mail"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// MessengerConfig is a provider that sends text messages or e-mails. It gets a POST with
// {"id", "to", "subject", "text"} in JSON and answers 2xx when it has taken the message.
type MessengerConfig struct {
	// URL takes the messages; empty: there are none of this kind.
	URL string `yaml:"url"`
	// TokenFile holds the bearer token that the provider knows us by.
	TokenFile string `yaml:"token_file"`
}

const (
	messageDigits  = 8
	messageTTL     = 5 * time.Minute
	messageTries   = 3
	messagePause   = 30 * time.Second // between two messages for the same
	messagesPerDay = 20
	messengerWaits = 10 * time.Second
)

func (m MessengerConfig) validate(path string, bad func(when bool, path, format string, a ...any)) {
	if m.URL == "" && m.TokenFile == "" {
		return
	}
	u, err := url.Parse(m.URL)
	bad(err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"), path+".url", "%q is no http(s) address", m.URL)
	bad(m.TokenFile == "", path+".token_file", "is missing: a provider that takes messages from anybody is none")
}

// messenger sends passwords, behind its circuit breaker.
type messenger struct {
	cfg     MessengerConfig
	token   string
	http    *http.Client
	breaker *run.Breaker
}

func openMessengers(cfg AuthorizationConfig, h *run.Host) (map[string]*messenger, error) {
	out := map[string]*messenger{}
	for kind, m := range map[string]MessengerConfig{"SMS": cfg.SMS, "EMAIL": cfg.Email, "PUSH": cfg.Push} {
		if m.URL == "" {
			continue
		}
		token, err := run.ReadSecret(m.TokenFile)
		if err != nil {
			return nil, run.BadField("authorization."+strings.ToLower(kind)+".token_file", "%v", err)
		}
		out[kind] = &messenger{cfg: m, token: token, http: &http.Client{Timeout: messengerWaits}, breaker: h.Breaker("otp-" + strings.ToLower(kind))}
	}
	return out, nil
}

// send hands a message over.
func (m *messenger) send(ctx context.Context, to, subject, text string) error {
	return m.post(ctx, map[string]any{"id": uuid.NewString(), "to": to, "subject": subject, "text": text})
}

// post hands a message over. What the provider answers is not repeated in errors: it may hold the text.
func (m *messenger) post(ctx context.Context, message map[string]any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("signer: message: %w", err)
	}
	return m.breaker.Do(ctx, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.cfg.URL, bytes.NewReader(body))
		if err != nil {
			return fmt.Errorf("signer: message: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+m.token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := m.http.Do(req)
		if err != nil {
			return fault.Unavailable("OTP_PROVIDER_UNAVAILABLE", "the provider of messages did not answer: try again").With(err)
		}
		defer resp.Body.Close()
		switch {
		case resp.StatusCode/100 == 2:
			return nil
		case resp.StatusCode == http.StatusUnprocessableEntity || resp.StatusCode == http.StatusBadRequest:
			return fault.Precondition("OTP_ADDRESS_REFUSED", "the provider of messages refuses the address of the device: replace the device")
		}
		return fault.Unavailable("OTP_PROVIDER_UNAVAILABLE", "the provider of messages answered %d: try again", resp.StatusCode)
	})
}

var phoneNumber = regexp.MustCompile(`^\+[1-9][0-9]{7,14}$`) // spec: ITU-T E.164 §6

// checkDevice says whether a device of this type can be enrolled with this address.
func (s *Service) checkDevice(d *signv1.OtpDevice) error {
	kind := strings.TrimPrefix(d.GetType().String(), "OTP_DEVICE_TYPE_")
	bad := func(format string, a ...any) error {
		why := fmt.Sprintf(format, a...)
		return fault.Invalid("OTP_ADDRESS", "otp_device.address: %s", why).WithField("otp_device.address", "OTP_ADDRESS", why)
	}
	if kind != "PUSH" && len(d.GetPublicKey()) > 0 || kind != "TOKEN" && d.GetTokenSerial() != "" {
		return fault.Invalid("OTP_DEVICE_FIELDS", "otp_device: public_key is of type PUSH, token_serial of type TOKEN: this is of type %s", kind)
	}
	switch kind {
	case "TOTP":
		if d.GetAddress() != "" {
			return bad("an app has none")
		}
		return nil
	case "PUSH":
		_, err := pushKey(d.GetPublicKey())
		return err
	case "TOKEN":
		if d.GetTokenSerial() == "" || d.GetAddress() != "" {
			return fault.Invalid("OTP_DEVICE_FIELDS", "otp_device.token_serial: name the token by its serial, and no address")
		}
		return nil
	case "SMS":
		if !phoneNumber.MatchString(d.GetAddress()) {
			return bad("is no telephone number: write it as +393331234567")
		}
	case "EMAIL":
		a, err := mail.ParseAddress(d.GetAddress())
		if err != nil || a.Address != d.GetAddress() || strings.ContainsAny(a.Address, "\r\n ") {
			return bad("is no e-mail address: write it as name@example.com")
		}
	default:
		return fault.Precondition("UNIMPLEMENTED_DEVICE_TYPE", "devices of type %s are not known here: enrol one of type TOTP, SMS, EMAIL, PUSH or TOKEN", kind)
	}
	if s.messengers[kind] == nil {
		return fault.Precondition("OTP_PROVIDER_NOT_CONFIGURED", "this installation sends no messages of kind %s (signer.authorization): enrol a device of type TOTP", kind)
	}
	return nil
}

// masked is an address that its owner knows again and nobody else learns.
func masked(address string) string {
	if address == "" {
		return ""
	}
	if name, domain, ok := strings.Cut(address, "@"); ok {
		return string([]rune(name)[:1]) + "***@" + domain
	}
	return address[:3] + strings.Repeat("*", len(address)-6) + address[len(address)-3:]
}

// sentMAC is what a password that is sent is kept as.
func sentMAC(device, binding uuid.UUID, password string) []byte {
	return append([]byte("sent\x00"+device.String()+"\x00"+binding.String()+"\x00"), password...)
}

// checkSent says whether a password is the one that was sent for this. A try is taken before.
func (s *Service) checkSent(ctx context.Context, a asked, mac []byte) (bool, error) {
	var want []byte
	err := s.db.Tx(ctx, a.credential.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		want, err = db.New(tx).TryMessage(ctx, db.TryMessageParams{DeviceID: a.device.ID, Binding: a.binding, At: pg.Time(s.now()), Allowed: messageTries})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("signer: try password: %w", err)
	}
	return hmac.Equal(want, mac), nil
}

// SendOtp sends a password to a device that gets them by message: for a challenge, whose documents the
// message names, or for the device and the PIN themselves.
func (s *Service) SendOtp(ctx context.Context, req *signv1.SendOtpRequest) (*signv1.SendOtpResponse, error) {
	if (req.GetChallenge() == "") == (req.GetOtpDevice() == "") {
		return nil, fault.Invalid("OTP_PURPOSE", "challenge: name a challenge, or a device: one of both")
	}
	full, collection, code, what := req.GetChallenge(), "challenges", "CHALLENGE_NOT_FOUND", "challenge"
	if full == "" {
		full, collection, code, what = req.GetOtpDevice(), "otpDevices", "OTP_DEVICE_NOT_FOUND", "device"
	}
	name, id, err := parseBelow(full, collection, code, what)
	if err != nil {
		return nil, err
	}
	var a asked
	text := "per cambiare PIN o dispositivo della firma"
	var hashes [][]byte
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		if req.GetChallenge() == "" {
			a, err = ownDevice(ctx, q, name, id)
			return err
		}
		if a, err = withDevice(ctx, q, name); err != nil {
			return err
		}
		ch, err := ownChallenge(ctx, q, full, name, id)
		if err != nil {
			return err
		}
		if ch.State != "OPEN" || !s.now().Before(ch.ExpiresAt) {
			return fault.Precondition("CHALLENGE_CLOSED", "the challenge is authorized already or its time is over: make another")
		}
		a.binding, hashes = id, ch.Hashes
		text = fmt.Sprintf("per firmare %d documenti, impronta %s", len(ch.Hashes), hex.EncodeToString(ch.Digest[:4]))
		return nil
	})
	if errors.Is(err, errHeld) && req.GetChallenge() != "" {
		return s.sendHeld(ctx, full, name, id)
	}
	if err != nil {
		return nil, err
	}
	resp := &signv1.SendOtpResponse{OtpDevice: nameOfDevice(a.credential, a.device.ID), Type: signv1.OtpDeviceType(signv1.OtpDeviceType_value["OTP_DEVICE_TYPE_"+a.device.Type])}
	switch a.device.Type {
	case "TOTP", "TOKEN": // they show passwords by themselves
		return resp, nil
	case "PUSH":
		return s.sendPush(ctx, a, hashes)
	}
	until, err := s.sendPassword(ctx, a, text)
	if err != nil {
		return nil, err
	}
	resp.Address, resp.ExpireTime = masked(a.device.Address), timestamppb.New(until)
	return resp, nil
}

// sendPassword makes a password, writes down what is kept of it, and sends it. One that could not be
// handed over is taken back.
func (s *Service) sendPassword(ctx context.Context, a asked, purpose string) (time.Time, error) {
	if a.device.Type != "SMS" && a.device.Type != "EMAIL" {
		return time.Time{}, fault.Precondition("OTP_DEVICE_TYPE", "device %s is of type %s: no password is sent to it", nameOfDevice(a.credential, a.device.ID), a.device.Type)
	}
	m := s.messengers[a.device.Type]
	if m == nil {
		return time.Time{}, fault.Precondition("OTP_PROVIDER_NOT_CONFIGURED", "this installation sends no messages of kind %s any more: set signer.authorization", a.device.Type)
	}
	n, err := rand.Int(rand.Reader, big.NewInt(100_000_000))
	if err != nil {
		return time.Time{}, fmt.Errorf("signer: password: %w", err)
	}
	password := fmt.Sprintf("%0*d", messageDigits, n)
	macs, err := s.vault.macs(ctx, a.credential.KeyName, macVersion, sentMAC(a.device.ID, a.binding, password))
	if err != nil {
		return time.Time{}, err
	}
	now := pg.Time(s.now())
	until, before := now.Add(messageTTL), now.Add(-messagePause)
	err = s.db.Tx(ctx, a.credential.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		n, err := db.New(tx).PutMessage(ctx, db.PutMessageParams{
			DeviceID: a.device.ID, Binding: a.binding, Mac: macs[0], At: now, ExpiresAt: until, Today: now.UTC().Format(time.DateOnly),
			SentBefore: before, PerDay: messagesPerDay,
		})
		if err != nil {
			return fmt.Errorf("signer: put password: %w", err)
		}
		if n == 0 {
			return fault.Exhausted(messagePause, "OTP_SENT_TOO_OFTEN", "a password was sent less than %s ago, or %d today: use it, or wait", messagePause, messagesPerDay)
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "otp.send", Resource: nameOfDevice(a.credential, a.device.ID), Detail: map[string]string{"holder": a.pin.Holder, "binding": a.binding.String()},
		})
	})
	if err != nil {
		return time.Time{}, err
	}
	text := fmt.Sprintf("%s: codice %s %s. Vale 5 minuti. Non comunicarlo a nessuno.", s.cfg.Authorization.Issuer, password, purpose)
	err = m.send(ctx, a.device.Address, s.cfg.Authorization.Issuer+": codice per la firma", text)
	if err == nil {
		return until, nil
	}
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Vault.Timeout)
	defer cancel()
	undo := s.db.Tx(back, a.credential.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).UnsendMessage(ctx, db.UnsendMessageParams{DeviceID: a.device.ID, Mac: macs[0], At: now, SentBefore: before})
	})
	if undo != nil {
		s.log.WarnContext(ctx, "a password that was not sent stays", "device", a.device.ID, "error", undo.Error())
	}
	return time.Time{}, err
}
