package tsa

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"sync"
	"time"

	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/sandbox/ca"
)

// Policy is the sandbox's time-stamp policy, in the arc that is kept for examples (2.999).
var Policy = asn1.ObjectIdentifier{2, 999, 3161, 1}

// maxRequest bounds a request; real ones have less than 200 bytes.
const maxRequest = 64 << 10

// Mode is what goes wrong.
type Mode string

// The faults that can be ordered.
const (
	FaultNone        Mode = ""
	FaultDown        Mode = "down"         // the connection is cut without an answer
	FaultUnavailable Mode = "unavailable"  // HTTP 503
	FaultSlow        Mode = "slow"         // answers after Delay
	FaultWrongNonce  Mode = "wrong-nonce"  // the token repeats another nonce
	FaultWrongDigest Mode = "wrong-digest" // the token stamps other bytes
	FaultWrongTime   Mode = "wrong-time"   // the token states a time a day ahead
	FaultRejection   Mode = "rejection"    // refused: systemFailure
	FaultGarbage     Mode = "garbage"      // HTTP 200 with something else
)

// Fault is one order. Times is how many requests it hits; 0 means until the next order.
type Fault struct {
	Mode  Mode
	Delay time.Duration // of FaultSlow
	Times int
}

// Server answers time-stamp requests. It is an http.Handler.
type Server struct {
	issued *ca.Issued
	now    func() time.Time

	mu      sync.Mutex
	fault   Fault
	left    int
	serial  *big.Int
	granted int
}

// Options of New; CA is required.
type Options struct {
	CA   *ca.CA
	Now  func() time.Time // time.Now by default
	Name string           // common name of the authority
	Rand io.Reader        // of the first serial number; crypto/rand by default
}

// New gets a certificate from the sandbox authority and is ready to answer.
func New(o Options) (*Server, error) {
	if o.CA == nil {
		return nil, errors.New("sandbox tsa: no certification authority given")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Name == "" {
		o.Name = ca.Mark + " - TSA"
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	issued, err := o.CA.IssueTSA(o.Name)
	if err != nil {
		return nil, fmt.Errorf("sandbox tsa: %w", err)
	}
	// A random start: numbers of two runs do not meet, as an archive of stamps expects.
	var b [8]byte
	if _, err := io.ReadFull(o.Rand, b[:]); err != nil {
		return nil, fmt.Errorf("sandbox tsa: serial number: %w", err)
	}
	serial := new(big.Int).SetBytes(b[:])
	return &Server{issued: issued, now: o.Now, serial: serial.Lsh(serial, 32)}, nil
}

// SetFault orders what goes wrong from now on; Fault{} puts things right.
// Errors: an unknown mode.
func (s *Server) SetFault(f Fault) error {
	switch f.Mode {
	case FaultNone, FaultDown, FaultUnavailable, FaultSlow, FaultWrongNonce, FaultWrongDigest, FaultWrongTime, FaultRejection, FaultGarbage:
	default:
		return fmt.Errorf("sandbox tsa: unknown fault %q", f.Mode)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.left = f, f.Times
	return nil
}

// Certificate is the authority's own.
func (s *Server) Certificate() *x509.Certificate { return s.issued.Certificate() }

// Granted is how many tokens were given out, faulty ones included.
func (s *Server) Granted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.granted
}

// takeFault gives the fault that hits this request.
func (s *Server) takeFault() Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.fault
	if f.Times > 0 {
		if s.left--; s.left <= 0 {
			s.fault = Fault{}
		}
	}
	return f
}

func (s *Server) nextSerial() *big.Int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.granted++
	s.serial.Add(s.serial, big.NewInt(1))
	return new(big.Int).Set(s.serial)
}

// ServeHTTP answers one request. spec: RFC3161 §3.4
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "sandbox tsa: POST a time-stamp request", http.StatusMethodNotAllowed)
		return
	}
	if ct := r.Header.Get("Content-Type"); ct != tsp.MIMERequest {
		http.Error(w, "sandbox tsa: Content-Type is not "+tsp.MIMERequest, http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		http.Error(w, "sandbox tsa: request cannot be read or is too long", http.StatusBadRequest)
		return
	}
	f := s.takeFault()
	switch f.Mode {
	case FaultDown:
		panic(http.ErrAbortHandler) // net/http cuts the connection, as a dead authority would
	case FaultUnavailable:
		http.Error(w, "sandbox tsa: out of order", http.StatusServiceUnavailable)
		return
	case FaultSlow:
		wait := time.NewTimer(f.Delay)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-r.Context().Done():
			return
		}
	case FaultGarbage:
		s.write(w, []byte("<html>maintenance</html>"))
		return
	}
	answer, err := s.respond(r, body, f)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.write(w, answer)
}

func (s *Server) respond(r *http.Request, body []byte, f Fault) ([]byte, error) {
	if f.Mode == FaultRejection {
		return tsp.Refuse(tsp.FailSystemFailure, "sandbox: ordered to refuse")
	}
	a := tsp.Authority{
		Certificate: s.issued.Certificate(), Chain: s.issued.Chain[1:], Key: s.issued.Key,
		Policy: Policy, Accuracy: time.Second, Now: s.now, Serial: s.nextSerial,
		Amend: func(i *tsp.Info) { spoil(i, f.Mode) },
	}
	return a.Respond(r.Context(), body)
}

// spoil makes the token say what was not asked for.
func spoil(i *tsp.Info, m Mode) {
	switch m {
	case FaultWrongNonce:
		if i.Nonce == nil {
			i.Nonce = new(big.Int)
		}
		i.Nonce = new(big.Int).Add(i.Nonce, big.NewInt(1))
	case FaultWrongDigest:
		i.Digest = bytes.Clone(i.Digest)
		i.Digest[0] ^= 0xff
	case FaultWrongTime:
		i.Time = i.Time.Add(24 * time.Hour)
	}
}

func (s *Server) write(w http.ResponseWriter, answer []byte) {
	w.Header().Set("Content-Type", tsp.MIMEResponse)
	if _, err := w.Write(answer); err != nil {
		panic(http.ErrAbortHandler) // the client is gone: nothing to tell anyone
	}
}
