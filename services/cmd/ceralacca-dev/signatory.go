package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"time"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/sandbox/otp"
)

// The person who signs in development.
const (
	signatoryPIN   = "40718362"
	signatoryPhone = "+393331234567"
	signatoryName  = tenantName + "/users/rossi"
)

// offerSigning makes signatures of persons possible: a provider of text messages that sends them nowhere,
// and the CSC API on HTTP. It comes before the platform starts.
func (w *world) offerSigning(ctx context.Context) error {
	token, err := keepSecret(w.path("secrets", "messages.token"), func() (string, error) { return auth.NewKey(false) })
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("text messages: %w", err)
	}
	w.phones = otp.New(token, nil)
	w.messages = &http.Server{Handler: w.phones, ReadHeaderTimeout: 5 * time.Second}
	w.ports["messages"] = l.Addr().String()
	go func() { _ = w.messages.Serve(l) }() // ends with Close
	return w.choosePort("http")
}

func (w *world) cscURL() string { return "http://" + w.ports["http"] + "/csc/v2" }

func (w *world) messagesURL() string {
	return "http://" + w.ports["messages"] + "/?to=" + url.QueryEscape(signatoryPhone)
}

// signatory is a person with a credential, a PIN and a telephone. Doing it again changes nothing.
func (w *world) signatory(ctx context.Context, c *customer) (credential string, err error) {
	operator, err := w.dial(ctx, w.key)
	if err != nil {
		return "", err
	}
	defer operator.Close()
	keys := signv1.NewSignServiceClient(operator)
	err = w.certify(ctx, keys, companyName, signv1.CredentialKind_CREDENTIAL_KIND_PERSON, signv1.KeyType_KEY_TYPE_EC_P256)
	if err != nil {
		return "", err
	}
	list, err := keys.ListCredentials(ctx, &signv1.ListCredentialsRequest{Parent: companyName})
	if err != nil {
		return "", fmt.Errorf("credentials of %s: %w", companyName, err)
	}
	for _, one := range list.GetCredentials() {
		if one.GetKind() == signv1.CredentialKind_CREDENTIAL_KIND_PERSON && one.GetState() == signv1.CredentialState_CREDENTIAL_STATE_ACTIVE {
			credential = one.GetName()
		}
	}
	api := signv1.NewAuthorizationServiceClient(c.conn)
	devices, err := api.ListOtpDevices(ctx, &signv1.ListOtpDevicesRequest{Parent: credential})
	if err != nil {
		return "", fmt.Errorf("devices of %s: %w", credential, err)
	}
	for _, d := range devices.GetOtpDevices() {
		if d.GetState() == signv1.OtpDeviceState_OTP_DEVICE_STATE_ACTIVE {
			return credential, nil
		}
	}
	_, err = api.SetPin(ctx, &signv1.SetPinRequest{Name: credential, Holder: signatoryName, NewPin: signatoryPIN})
	if err != nil && fault.Of(err).Code != "NO_OTP_DEVICE" { // that one says that the PIN is set already
		return "", fmt.Errorf("PIN of %s: %w", credential, err)
	}
	made, err := api.CreateOtpDevice(ctx, &signv1.CreateOtpDeviceRequest{Parent: credential, Pin: signatoryPIN, OtpDevice: &signv1.OtpDevice{
		Type: signv1.OtpDeviceType_OTP_DEVICE_TYPE_SMS, DisplayName: "sandbox telephone", Address: signatoryPhone,
	}})
	if err != nil {
		return "", fmt.Errorf("device of %s: %w", credential, err)
	}
	sent := w.phones.Sent(signatoryPhone)
	if len(sent) == 0 {
		return "", fmt.Errorf("no message came to %s", signatoryPhone)
	}
	password := regexp.MustCompile(`\b[0-9]{8}\b`).FindString(sent[len(sent)-1].Text)
	_, err = api.ConfirmOtpDevice(ctx, &signv1.ConfirmOtpDeviceRequest{Name: made.GetOtpDevice().GetName(), Pin: signatoryPIN, Otp: password})
	if err != nil {
		return "", fmt.Errorf("device of %s: %w", credential, err)
	}
	return credential, nil
}
