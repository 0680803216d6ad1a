package remotesign

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"net/http"
	"strings"

	"ceralacca.dev/services/sandbox/client"
)

// swsCodes are the faults of SWS. 1001 (device not known) is public; the others are the sandbox's own.
var swsCodes = []struct {
	err  error
	code int
}{
	{errNoHolder, 1001}, {errWrong, 9000}, {errLocked, 9001}, {errNoSession, 9002}, {errBusy, 9004}, {errHash, 9005}, {errRequest, 9006},
}

func swsFault(err error) error {
	for _, c := range swsCodes {
		if errors.Is(err, c.err) {
			return &serviceFault{code: c.code, text: c.err.Error()}
		}
	}
	return err
}

type swsCredentials struct {
	IDOTP    string `xml:"idOtp"`
	OTP      string `xml:"otp"`
	Password string `xml:"password"`
	Session  string `xml:"sessionKey"`
	Username string `xml:"username"`
}

type swsAsking struct {
	Credentials swsCredentials `xml:"credentials"`
}

type swsText struct {
	Return string `xml:"return"`
}

// SWS is the SOAP endpoint sign-services.
func (w *World) SWS() http.Handler {
	return &service{world: w, namespace: "http://service.ws.nam/", faultName: "WSException", busy: func(string) (any, error) { return nil, swsFault(errBusy) }, ops: map[string]operation{
		"getCertificate": w.swsCertificate, "getOTPList": w.swsOTPList, "sendOtpBySMS": w.swsSend,
		"openSession": w.swsOpen, "signPkcs1": w.swsSign,
	}}
}

func (w *World) swsAsk(d *xml.Decoder, start xml.StartElement) (swsCredentials, *holder, error) {
	var in swsAsking
	if err := d.DecodeElement(&in, &start); err != nil {
		return in.Credentials, nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	h, err := w.holder(in.Credentials.Username)
	if err == nil && !validID(in.Credentials.IDOTP) {
		err = errRequest
	}
	if err != nil {
		err = swsFault(err)
	}
	return in.Credentials, h, err
}

func (w *World) swsCertificate(d *xml.Decoder, start xml.StartElement, _ client.RemoteFault) (any, error) {
	_, h, err := w.swsAsk(d, start)
	if err != nil {
		return nil, err
	}
	return swsText{base64.StdEncoding.EncodeToString(h.chain[0].Raw)}, nil
}

func (w *World) swsOTPList(d *xml.Decoder, start xml.StartElement, _ client.RemoteFault) (any, error) {
	_, h, err := w.swsAsk(d, start)
	if err != nil {
		return nil, err
	}
	type device struct {
		ID   string `xml:"idOtp"`
		Type string `xml:"type"`
	}
	var out struct {
		Return []device `xml:"return"`
	}
	for _, kind := range sortedKinds(h) {
		out.Return = append(out.Return, device{h.idOTP[kind], map[string]string{"SMS": "SMS", "APP": "OTP GENERATOR"}[kind]})
	}
	return out, nil
}

func (w *World) swsSend(d *xml.Decoder, start xml.StartElement, _ client.RemoteFault) (any, error) {
	c, h, err := w.swsAsk(d, start)
	if err != nil {
		return nil, err
	}
	if c.IDOTP != h.idOTP["SMS"] {
		return nil, swsFault(errRequest)
	}
	if err := w.send(h.user, "SMS"); err != nil {
		return nil, swsFault(err)
	}
	return struct{}{}, nil
}

func (w *World) swsOpen(d *xml.Decoder, start xml.StartElement, _ client.RemoteFault) (any, error) {
	c, h, err := w.swsAsk(d, start)
	if err != nil {
		return nil, err
	}
	if c.IDOTP == "" {
		return nil, swsFault(errRequest)
	}
	id, err := w.begin(h.user, c.Password, c.OTP, c.IDOTP)
	if err != nil {
		return nil, swsFault(err)
	}
	return swsText{id}, nil
}

func (w *World) swsSign(d *xml.Decoder, start xml.StartElement, f client.RemoteFault) (any, error) {
	var in struct {
		Credentials swsCredentials `xml:"credentials"`
		Hash        string         `xml:"hash"`
		Preferences struct {
			Algorithm string `xml:"hashAlgorithm"`
		} `xml:"preferences"`
	}
	if err := d.DecodeElement(&in, &start); err != nil {
		return nil, err
	}
	hash, err := base64.StdEncoding.DecodeString(strings.TrimSpace(in.Hash))
	if err != nil || in.Preferences.Algorithm != "SHA256" {
		return nil, swsFault(errRequest)
	}
	var signature []byte
	if in.Credentials.Session == "" {
		signature, err = w.signAlone(in.Credentials.Username, func(h *holder) bool { return in.Credentials.Password == h.pin }, hash, f.Kind == client.RemoteBadSig)
	} else {
		signature, err = w.sign(in.Credentials.Username, in.Credentials.Password, in.Credentials.Session, hash, f.Kind == client.RemoteBadSig)
	}
	if err != nil {
		return nil, swsFault(err)
	}
	return swsText{base64.StdEncoding.EncodeToString(signature)}, nil
}
