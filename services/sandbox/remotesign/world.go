// Package remotesign plays providers of remote signatures, with one set of holders: Aruba's ARSS and
// Namirial's SWS, in SOAP, as far as public material describes them, and one that speaks the API of the
// Cloud Signature Consortium in version 1.0.4.0. It owns keys and certificates of the
// sandbox authority, one-time passwords, sessions, and the record of what was signed.
//
// It refuses to be taken for the real thing: certificates say SANDBOX - NOT VALID, everything is in memory,
// and answers for which no public source has a code use codes from 9000, which no provider is known to use.
package remotesign

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/client"
)

// The application account that both know this platform by.
const (
	AppUser     = "ceralacca"
	AppPassword = "sandbox"
	Domain      = "sandbox"
)

// The domain of ARSS's automatic signatures, the name of its transactions, and the delegate.
const (
	AutomaticDomain  = "faSandbox"
	AutomaticOTP     = "dsign"
	DelegateUser     = "delegate"
	DelegatePassword = "sandbox-delegate"
	DelegateDomain   = "faSandbox"
)

// certID is the one certificate of a holder; the name is the one that public clients use.
const certID = "AS0"

const (
	sessionLife = 3 * time.Minute
	otpLife     = 5 * time.Minute
	maxWrong    = 5 // then the holder is locked
)

// Options of New.
type Options struct {
	CA  *ca.CA
	Now func() time.Time // default time.Now
}

// World is both providers.
type World struct {
	ca  *ca.CA
	now func() time.Time

	mu       sync.Mutex
	holders  map[string]*holder
	sessions map[string]*session
	tokens   map[string]time.Time // of CSC
	faults   []client.RemoteFault
}

type holder struct {
	user, pin string
	key       crypto.Signer
	chain     []*x509.Certificate
	idOTP     map[string]string // by kind; SWS names them by number
	otp       map[string]otp    // by kind
	automatic bool
	wrong     int
	signed    []client.RemoteSignature
}

type otp struct {
	password string
	until    time.Time
}

type session struct {
	holder *holder
	until  time.Time
	// Of a SAD (CSC): what it is for, and how many signatures are left.
	hashes [][]byte
	left   int
}

// New makes the providers.
func New(o Options) *World {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &World{ca: o.CA, now: o.Now, holders: map[string]*holder{}, sessions: map[string]*session{}, tokens: map[string]time.Time{}}
}

// Enrol makes a holder with a key.
func (w *World) Enrol(r client.RemoteHolderRequest) (client.RemoteHolder, error) {
	if r.User == "" || len(r.PIN) != 8 || strings.Trim(r.PIN, "0123456789") != "" {
		return client.RemoteHolder{}, errors.New("user must be set and pin have 8 digits")
	}
	if r.CommonName == "" {
		r.CommonName = r.User
	}
	key, err := newKey(r.Key)
	if err != nil {
		return client.RemoteHolder{}, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: r.CommonName}}, key)
	if err != nil {
		return client.RemoteHolder{}, err
	}
	profile := ca.ProfileSigning
	if r.Qualified {
		profile = ca.ProfileQualified
	}
	cert, err := w.ca.SignCSR(csr, profile)
	if err != nil {
		return client.RemoteHolder{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.holders[r.User] != nil {
		return client.RemoteHolder{}, fmt.Errorf("user %q is enrolled already", r.User)
	}
	h := &holder{
		user: r.User, pin: r.PIN, key: key, chain: []*x509.Certificate{cert, w.ca.Certificate()}, otp: map[string]otp{},
		idOTP: map[string]string{"SMS": digits(6), "APP": digits(6)}, automatic: r.Automatic,
	}
	w.holders[r.User] = h
	return h.message(), nil
}

func newKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "", "p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "rsa3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	}
	return nil, fmt.Errorf("key %q must be p256, rsa2048 or rsa3072", kind)
}

func digits(n int) string {
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n-1)), nil)
	v, err := rand.Int(rand.Reader, new(big.Int).Mul(limit, big.NewInt(9)))
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return v.Add(v, limit).String()
}

func (h *holder) message() client.RemoteHolder {
	var chain strings.Builder
	for _, c := range h.chain {
		chain.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return client.RemoteHolder{User: h.user, CertID: certID, CertPEM: chain.String(), Locked: h.wrong >= maxWrong, Signed: slices.Clone(h.signed)}
}

// Holder reads a holder.
func (w *World) Holder(user string) (client.RemoteHolder, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.holders[user]
	if h == nil {
		return client.RemoteHolder{}, fmt.Errorf("there is no user %q", user)
	}
	return h.message(), nil
}

// OTP looks at the holder's telephone.
func (w *World) OTP(user, kind string) (client.RemoteOTP, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.holders[user]
	if h == nil {
		return client.RemoteOTP{}, fmt.Errorf("there is no user %q", user)
	}
	if kind == "APP" {
		h.otp[kind] = otp{digits(6), w.now().Add(otpLife)}
	}
	o := h.otp[kind]
	if o.password == "" {
		return client.RemoteOTP{}, fmt.Errorf("nothing came to %q by %q", user, kind)
	}
	return client.RemoteOTP{Kind: kind, Password: o.password}, nil
}

// Reset forgets holders, sessions and faults.
func (w *World) Reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.holders)
	clear(w.sessions)
	clear(w.tokens)
	w.faults = nil
}

// What calls can be answered but done. Each protocol has its own codes for them.
var (
	errNoHolder  = errors.New("no such user or device")
	errWrong     = errors.New("wrong PIN or one-time password")
	errLocked    = errors.New("locked")
	errNoSession = errors.New("no such session, or it is over")
	errHash      = errors.New("the hash is no SHA-256 digest")
	errRequest   = errors.New("the request lacks something")
	errBusy      = errors.New("busy: nothing was done")
)

func (w *World) holder(user string) (*holder, error) {
	h := w.holders[user]
	if h == nil {
		return nil, errNoHolder
	}
	return h, nil
}

// send makes a password and sends it nowhere: OTP reads it.
func (w *World) send(user, kind string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	h, err := w.holder(user)
	if err != nil {
		return err
	}
	if h.wrong >= maxWrong {
		return errLocked
	}
	h.otp[kind] = otp{digits(6), w.now().Add(otpLife)}
	return nil
}

// begin opens a session. idOTP "" stands for any way.
func (w *World) begin(user, pin, password, idOTP string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h, err := w.holder(user)
	if err != nil {
		return "", err
	}
	if h.wrong >= maxWrong {
		return "", errLocked
	}
	for kind, o := range h.otp {
		if password != "" && o.password == password && w.now().Before(o.until) && (idOTP == "" || h.idOTP[kind] == idOTP) {
			delete(h.otp, kind) // good once, whatever the PIN
			if pin != h.pin {
				break
			}
			h.wrong = 0
			id := rand.Text()
			w.sessions[id] = &session{holder: h, until: w.now().Add(sessionLife)}
			return id, nil
		}
	}
	h.wrong++
	return "", errWrong
}

// beginAlone opens a session of a key that asks for no one-time password. Error: errRequest for others.
func (w *World) beginAlone(user, pin string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h, err := w.holder(user)
	switch {
	case err != nil:
		return "", err
	case !h.automatic:
		return "", errRequest
	case h.wrong >= maxWrong:
		return "", errLocked
	case pin != h.pin:
		h.wrong++
		return "", errWrong
	}
	h.wrong = 0
	id := rand.Text()
	w.sessions[id] = &session{holder: h, until: w.now().Add(sessionLife)}
	return id, nil
}

func (w *World) end(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.sessions, id)
}

// EndSessions ends all sessions of a holder, as time would.
func (w *World) EndSessions(user string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, s := range w.sessions {
		if s.holder.user == user {
			delete(w.sessions, id)
		}
	}
}

// sign signs in a session, and counts.
func (w *World) sign(user, pin, id string, hash []byte, spoil bool) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h, err := w.holder(user)
	if err != nil {
		return nil, err
	}
	s := w.sessions[id]
	if s == nil || s.holder != h || !w.now().Before(s.until) {
		return nil, errNoSession
	}
	if pin != h.pin {
		h.wrong++
		return nil, errWrong
	}
	return w.use(h, hash, spoil)
}

// signAlone signs with a key that asks for no one-time password. given is its PIN, or that the delegate was shown.
func (w *World) signAlone(user string, given func(*holder) bool, hash []byte, spoil bool) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h, err := w.holder(user)
	switch {
	case err != nil:
		return nil, err
	case !h.automatic:
		return nil, errRequest
	case h.wrong >= maxWrong:
		return nil, errLocked
	case !given(h):
		h.wrong++
		return nil, errWrong
	}
	return w.use(h, hash, spoil)
}

// use signs, and counts. The world is locked.
func (w *World) use(h *holder, hash []byte, spoil bool) ([]byte, error) {
	if len(hash) != crypto.SHA256.Size() {
		return nil, errHash
	}
	signature, err := h.key.Sign(rand.Reader, hash, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	h.signed = append(h.signed, client.RemoteSignature{SHA256: hex.EncodeToString(hash), At: w.now()})
	if spoil {
		signature[len(signature)-1] ^= 1
	}
	return signature, nil
}

// AddFault orders a fault.
func (w *World) AddFault(f client.RemoteFault) error {
	kinds := []string{
		client.RemoteCutBefore, client.RemoteCutAfter, client.Remote500, client.Remote500After, client.RemoteBusy, client.Remote503, client.Remote503After,
		client.RemoteDelay, client.RemoteGarbage, client.RemoteBadSig,
	}
	if !slices.Contains(kinds, f.Kind) || f.Count < 0 || f.Skip < 0 || f.DelayMS < 0 {
		return fmt.Errorf("kind %q must be one of %s; numbers are not negative", f.Kind, strings.Join(kinds, ", "))
	}
	f.Count = max(f.Count, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, f)
	return nil
}

// ClearFaults takes all faults back.
func (w *World) ClearFaults() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = nil
}

// fault takes what goes wrong with this call.
func (w *World) fault(operation string) client.RemoteFault {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.faults {
		f := &w.faults[i]
		if f.Operation != "" && f.Operation != operation {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		taken := *f
		if f.Count--; f.Count == 0 {
			w.faults = slices.Delete(w.faults, i, i+1)
		}
		return taken
	}
	return client.RemoteFault{}
}

// wait waits a fault's delay, or for the caller to go away.
func wait(ctx context.Context, f client.RemoteFault) {
	if f.Kind != client.RemoteDelay {
		return
	}
	t := time.NewTimer(time.Duration(f.DelayMS) * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func sortedKinds(h *holder) []string {
	var kinds []string
	for k := range h.idOTP {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	return kinds
}

func validID(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return s == "" || err == nil
}
