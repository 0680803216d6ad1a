package sandbox

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/tsa"
)

// control is the control API: JSON over HTTP on its own listener. Its shapes are those of
// package client.
func (s *Server) control() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, fn func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			out, err := fn(r)
			s.answer(w, out, err)
		})
	}
	handle("GET /v1/ready", func(*http.Request) (any, error) { return map[string]bool{"ready": true}, nil })
	handle("GET /v1/endpoints", func(*http.Request) (any, error) { return s.endpoints, nil })
	handle("GET /v1/ca.pem", func(*http.Request) (any, error) { return plain(s.ca.CertPEM()), nil })
	handle("GET /v1/ca.crl", s.getCRL)
	handle("GET "+crlPath, s.getPublishedCRL)

	handle("GET /v1/clock", func(*http.Request) (any, error) { return s.clockState(), nil })
	handle("POST /v1/clock/advance", s.postAdvance)
	handle("POST /v1/clock/freeze", func(*http.Request) (any, error) { s.clock.Freeze(); return s.clockState(), nil })
	handle("POST /v1/clock/resume", func(*http.Request) (any, error) { s.clock.Resume(); return s.clockState(), nil })

	handle("GET /v1/accreditations", func(*http.Request) (any, error) { return s.exchange.Accreditations(), nil })
	handle("POST /v1/accreditations", s.postAccreditation)
	handle("POST /v1/certificates", s.postCertificate)

	handle("GET /v1/received", s.getReceived)
	handle("GET /v1/received/{id}/file", s.getFile)
	handle("POST /v1/received/{id}/resend", s.postResend)
	handle("GET /v1/deliveries", func(r *http.Request) (any, error) { return s.exchange.Deliveries(r.URL.Query().Get("id")), nil })
	handle("POST /v1/deliveries", s.postDelivery)
	handle("POST /v1/deliveries/{id}/redeliver", s.postRedeliver)
	handle("GET /v1/counts", func(*http.Request) (any, error) { return s.exchange.Counts(), nil })
	handle("GET /v1/duplicates", func(*http.Request) (any, error) { return s.exchange.Duplicates(), nil })

	handle("GET /v1/faults", func(*http.Request) (any, error) { return s.faults.List(), nil })
	handle("POST /v1/faults", s.postFault)
	handle("DELETE /v1/faults", s.deleteFaults)

	handle("GET /v1/mail", func(r *http.Request) (any, error) { return s.mail.Mails(r.URL.Query().Get("to")), nil })
	handle("DELETE /v1/mail", func(*http.Request) (any, error) { s.mail.Clear(); return nil, nil })

	s.controlPEC(handle)
	s.controlFTP(handle)
	s.controlRemoteSign(handle)

	handle("POST /v1/reset", s.postReset)
	handle("/", func(r *http.Request) (any, error) {
		return nil, &apiError{http.StatusNotFound, fmt.Sprintf("no %s %s here; sandbox/README.md lists the control API", r.Method, r.URL.Path)}
	})
	return limitBodies(mux)
}

// plain is an answer that is not JSON.
type plain []byte

type apiError struct {
	status int
	text   string
}

func (e *apiError) Error() string { return e.text }

func bad(err error) error { return &apiError{http.StatusBadRequest, err.Error()} }

func (s *Server) answer(w http.ResponseWriter, out any, err error) {
	status := http.StatusOK
	if err != nil {
		status = http.StatusInternalServerError
		var e *apiError
		if errors.As(err, &e) {
			status = e.status
		}
		out = client.Error{Status: status, Message: err.Error()}
	}
	if raw, ok := out.(plain); ok {
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(raw)
		return
	}
	if out == nil {
		out = struct{}{}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	err = json.NewEncoder(w).Encode(out)
	if err != nil {
		s.log.Debug("control answer not written", "error", err.Error())
	}
}

// decode reads a JSON body strictly: an unknown field is an error.
func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err != nil {
		return bad(fmt.Errorf("body: %w", err))
	}
	if _, err := d.Token(); err != io.EOF {
		return bad(errors.New("body: one JSON object only"))
	}
	return nil
}

func (s *Server) clockState() client.Clock {
	st := s.clock.State()
	c := client.Clock{Now: st.Now, Frozen: st.Frozen, Timers: st.Timers}
	if !st.Next.IsZero() {
		c.Next = &st.Next
	}
	return c
}

// maxAdvance bounds one step of the clock; ten years are enough for preservation.
const maxAdvance = 10 * 366 * 24 * time.Hour

func (s *Server) postAdvance(r *http.Request) (any, error) {
	var in client.Advance
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	d, err := time.ParseDuration(in.By)
	if err != nil || d < 0 || d > maxAdvance {
		return nil, bad(fmt.Errorf("by %q must be a positive Go duration of at most ten years, such as 360h", in.By))
	}
	err = s.advance(r.Context(), d)
	if err != nil {
		return nil, bad(err)
	}
	return s.clockState(), nil
}

func (s *Server) postAccreditation(r *http.Request) (any, error) {
	var in client.AccreditationRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	a, err := s.exchange.Accredit(in)
	if err != nil {
		return nil, bad(err)
	}
	return a, nil
}

func (s *Server) postCertificate(r *http.Request) (any, error) {
	var in client.CertificateRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(in.CSRPEM))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, bad(errors.New("csr_pem must be one PEM block of type CERTIFICATE REQUEST (openssl req -new)"))
	}
	profile := ca.Profile(in.Profile)
	if profile == "" {
		profile = ca.ProfileSigning
	}
	cert, err := s.ca.SignCSR(block.Bytes, profile)
	if err != nil {
		return nil, bad(err)
	}
	caPEM := string(s.ca.CertPEM())
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	return client.Certificate{CertPEM: string(own) + caPEM, CAPEM: caPEM}, nil
}

func (s *Server) getReceived(r *http.Request) (any, error) {
	v := r.URL.Query()
	q := client.Query{
		Name: v.Get("name"), SHA256: v.Get("sha256"), ID: v.Get("id"), Transmitter: v.Get("transmitter"),
		Number: v.Get("number"), State: v.Get("state"),
	}
	if raw := v.Get("limit"); raw != "" {
		n, err := strconv.Atoi(raw)
		if err != nil || n < 1 || n > 1_000_000 {
			return nil, bad(fmt.Errorf("limit %q must be 1 to 1000000", raw))
		}
		q.Limit = n
	}
	return s.exchange.Received(q), nil
}

func (s *Server) getCRL(*http.Request) (any, error) {
	list, err := s.ca.CRL()
	return plain(list), err
}

// crlPath is where certificates say that the list is: DER, as issuers publish theirs.
const crlPath = "/crl/sandbox-ca.crl"

func (s *Server) getPublishedCRL(*http.Request) (any, error) {
	list, err := s.ca.CRLDER()
	return plain(list), err
}

func (s *Server) getFile(r *http.Request) (any, error) {
	_, raw, err := s.exchange.File(r.PathValue("id"))
	if err != nil {
		return nil, &apiError{http.StatusNotFound, err.Error()}
	}
	return plain(raw), nil
}

func (s *Server) postResend(r *http.Request) (any, error) {
	n, err := s.exchange.Resend(r.PathValue("id"))
	if err != nil {
		return nil, &apiError{http.StatusNotFound, err.Error()}
	}
	return map[string]int{"receipts": n}, nil
}

func (s *Server) postDelivery(r *http.Request) (any, error) {
	var in client.DeliveryRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	d, err := s.exchange.Deliver(in)
	if err != nil {
		return nil, bad(err)
	}
	return d, nil
}

func (s *Server) postRedeliver(r *http.Request) (any, error) {
	err := s.exchange.Redeliver(r.PathValue("id"))
	if err != nil {
		return nil, &apiError{http.StatusNotFound, err.Error()}
	}
	return nil, nil
}

func (s *Server) postFault(r *http.Request) (any, error) {
	var in client.Fault
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if in.Kind == client.FaultTSA {
		if in.Count < 0 {
			return nil, bad(fmt.Errorf("count must not be negative, is %d", in.Count))
		}
		err := s.tsa.SetFault(tsa.Fault{Mode: tsa.Mode(in.Mode), Delay: time.Duration(in.DelayMS) * time.Millisecond, Times: max(1, in.Count)})
		if err != nil {
			return nil, bad(err)
		}
		return in, nil
	}
	out, err := s.faults.Add(in)
	if err != nil {
		return nil, bad(err)
	}
	return out, nil
}

func (s *Server) deleteFaults(*http.Request) (any, error) {
	s.faults.Clear()
	return nil, s.tsa.SetFault(tsa.Fault{})
}

func (s *Server) postReset(r *http.Request) (any, error) {
	s.exchange.Reset()
	s.mail.Clear()
	s.pec.Reset()
	s.remote.Reset()
	return s.deleteFaults(r)
}
