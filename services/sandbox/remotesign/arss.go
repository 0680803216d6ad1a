package remotesign

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"net/http"
	"strings"

	"ceralacca.dev/services/sandbox/client"
)

// arssCodes are the answers of ARSS. 0003 is public ("Invalid User Credentials"); the others are the
// sandbox's own.
var arssCodes = []struct {
	err  error
	code string
}{
	{errWrong, "0003"}, {errLocked, "9001"}, {errNoSession, "9002"}, {errNoHolder, "9003"}, {errBusy, "9004"}, {errHash, "9005"}, {errRequest, "9006"},
}

func arssCode(err error) string {
	for _, c := range arssCodes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return "9000"
}

type arssAuth struct {
	DelegateDomain   string `xml:"delegated_domain"`
	DelegatePassword string `xml:"delegated_password"`
	DelegateUser     string `xml:"delegated_user"`

	OTP    string `xml:"otpPwd"`
	Domain string `xml:"typeOtpAuth"`
	User   string `xml:"user"`
	PIN    string `xml:"userPWD"`
}

type arssApplication struct {
	Password string `xml:"applicationpassword"`
	User     string `xml:"applicationuser"`
}

func (a arssApplication) known(domain string) error {
	if a.User != AppUser || a.Password != AppPassword || (domain != Domain && domain != AutomaticDomain) {
		return errWrong
	}
	return nil
}

type arssResult struct {
	Description string `xml:"description,omitempty"`
	Code        string `xml:"return_code,omitempty"`
	Status      string `xml:"status"`
}

func arssResultOf(err error) arssResult {
	if err != nil {
		return arssResult{Description: err.Error(), Code: arssCode(err), Status: "KO"}
	}
	return arssResult{Code: "0000", Status: "OK"}
}

// ARSS is the SOAP endpoint of ArubaSignService.
func (w *World) ARSS() http.Handler {
	return &service{world: w, namespace: "http://arubasignservice.arubapec.it/", busy: arssBusy, ops: map[string]operation{
		"listCertAuth": w.arssListCert, "sendCredentialAuth": w.arssSend, "opensession": w.arssOpen,
		"closesession": w.arssClose, "signhash": w.arssSign,
	}}
}

// arssBusy is how each kind of answer says that nothing was done.
func arssBusy(operation string) (any, error) {
	code := arssCode(errBusy)
	switch operation {
	case "opensession", "closesession":
		return arssText{"KO-" + code}, nil
	case "listCertAuth": // without a return_code, see arssListCert
		return struct {
			Return arssResult `xml:"return"`
		}{arssResult{Description: code + ": " + errBusy.Error(), Status: "KO"}}, nil
	}
	return struct {
		Return arssResult `xml:"return"`
	}{arssResultOf(errBusy)}, nil
}

func (w *World) arssListCert(d *xml.Decoder, start xml.StartElement, _ client.RemoteFault) (any, error) {
	var in struct {
		Identity arssApplication `xml:"Identity"`
		Domain   string          `xml:"domain"`
		User     string          `xml:"username"`
	}
	if err := d.DecodeElement(&in, &start); err != nil {
		return nil, err
	}
	type cert struct {
		ID    string `xml:"id"`
		Value string `xml:"value"`
	}
	// The schema's userCertListAuth has no return_code: the code is in the description, if anywhere.
	type list struct {
		Certs       []cert `xml:"certs"`
		Description string `xml:"description,omitempty"`
		Status      string `xml:"status"`
	}
	var out struct {
		Return list `xml:"return"`
	}
	err := in.Identity.known(in.Domain)
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		var h *holder
		if h, err = w.holder(in.User); err == nil {
			out.Return = list{Certs: []cert{{certID, base64.StdEncoding.EncodeToString(h.chain[0].Raw)}}, Status: "OK"}
			return out, nil
		}
	}
	out.Return = list{Description: arssCode(err) + ": " + err.Error(), Status: "KO"}
	return out, nil
}

func (w *World) arssSend(d *xml.Decoder, start xml.StartElement, _ client.RemoteFault) (any, error) {
	var in struct {
		Identity arssApplication `xml:"identity"`
		Type     string          `xml:"type"`
		Domain   string          `xml:"domain"`
		User     string          `xml:"username"`
	}
	if err := d.DecodeElement(&in, &start); err != nil {
		return nil, err
	}
	err := in.Identity.known(in.Domain)
	if err == nil && in.Type != "SMS" && in.Type != "ARUBACALL" {
		err = errRequest
	}
	if err == nil {
		err = w.send(in.User, in.Type)
	}
	var out struct {
		Return arssResult `xml:"return"`
	}
	out.Return = arssResultOf(err)
	return out, nil
}

type arssText struct {
	Return string `xml:"return"`
}

func (w *World) arssOpen(d *xml.Decoder, start xml.StartElement, _ client.RemoteFault) (any, error) {
	var in struct {
		Identity arssAuth `xml:"Identity"`
	}
	if err := d.DecodeElement(&in, &start); err != nil {
		return nil, err
	}
	if in.Identity.Domain != Domain {
		return arssText{"KO-" + arssCode(errWrong)}, nil
	}
	id, err := w.begin(in.Identity.User, in.Identity.PIN, in.Identity.OTP, "")
	if err != nil {
		return arssText{"KO-" + arssCode(err)}, nil
	}
	return arssText{id}, nil
}

func (w *World) arssClose(d *xml.Decoder, start xml.StartElement, _ client.RemoteFault) (any, error) {
	var in struct {
		Session string `xml:"sessionid"`
	}
	if err := d.DecodeElement(&in, &start); err != nil {
		return nil, err
	}
	w.end(in.Session)
	return arssText{"OK"}, nil
}

func (w *World) arssSign(d *xml.Decoder, start xml.StartElement, f client.RemoteFault) (any, error) {
	var in struct {
		Request struct {
			CertID   string   `xml:"certID"`
			Hash     string   `xml:"hash"`
			HashType string   `xml:"hashtype"`
			Identity arssAuth `xml:"identity"`
			Session  string   `xml:"session_id"`
		} `xml:"SignHashRequest"`
	}
	if err := d.DecodeElement(&in, &start); err != nil {
		return nil, err
	}
	type result struct {
		CertID      string `xml:"certID,omitempty"`
		Description string `xml:"description,omitempty"`
		Code        string `xml:"return_code"`
		Signature   string `xml:"signature,omitempty"`
		Status      string `xml:"status"`
	}
	var out struct {
		Return result `xml:"return"`
	}
	r := in.Request
	hash, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Hash))
	alone := r.Identity.DelegateUser != ""
	if err == nil && (r.HashType != "SHA256" || r.CertID != certID || (r.Identity.Domain != Domain && !alone)) {
		err = errRequest
	}
	var signature []byte
	switch {
	case err != nil:
	case alone:
		signature, err = w.signAlone(r.Identity.User, func(*holder) bool {
			return r.Identity.Domain == AutomaticDomain && r.Identity.OTP == AutomaticOTP && r.Identity.DelegateDomain == DelegateDomain &&
				r.Identity.DelegateUser == DelegateUser && r.Identity.DelegatePassword == DelegatePassword
		}, hash, f.Kind == client.RemoteBadSig)
	default:
		signature, err = w.sign(r.Identity.User, r.Identity.PIN, r.Session, hash, f.Kind == client.RemoteBadSig)
	}
	if err != nil {
		out.Return = result{Description: err.Error(), Code: arssCode(err), Status: "KO"}
		return out, nil
	}
	out.Return = result{CertID: certID, Code: "0000", Signature: base64.StdEncoding.EncodeToString(signature), Status: "OK"}
	return out, nil
}
