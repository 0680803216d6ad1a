package remotesign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"ceralacca.dev/services/format/csc"
	"ceralacca.dev/services/format/csc/csc1"
	"ceralacca.dev/services/sandbox/client"
)

const (
	tokenLife     = time.Hour
	sadLife       = 5 * time.Minute
	cscMultisign  = 100
	cscPage       = 10
	cscOnlineKind = "SMS"
)

// cscFaults are what the tables of the specification have for what calls can be answered.
// spec: CSC-1.0.4.0 §11.5 to §11.9
var cscFaults = []struct {
	err error
	as  *csc.Error
}{
	{errNoHolder, csc.InvalidParameter("credentialID")},
	{errLocked, csc.Invalid("PIN locked")},
	{errNoSession, csc.InvalidParameter("SAD")},
	{errHash, csc.Invalid("Invalid digest value length")},
}

func cscFault(err error) *csc.Error {
	var own *csc.Error
	if errors.As(err, &own) {
		return own
	}
	for _, f := range cscFaults {
		if errors.Is(err, f.err) {
			return f.as
		}
	}
	return &csc.Error{Status: http.StatusInternalServerError, Code: csc.CodeServerError}
}

type cscMethod func(r *csc.Reader, f client.RemoteFault) (any, error)

// CSC1 is a server of the Cloud Signature Consortium API 1.0.4.0, below /csc/v1/ of wherever it is
// mounted. Holders are its credentials; it is entered with auth/login and the application account.
// Operations of faults are paths, such as signatures/signHash.
func (w *World) CSC1() http.Handler {
	return &csc1Server{world: w, methods: map[string]cscMethod{
		csc1.List: w.cscList, csc1.Credential: w.cscCredential, csc1.SendOTP: w.cscSendOTP,
		csc1.Authorize: w.cscAuthorize, csc1.Extend: w.cscExtend, csc1.SignHash: w.cscSignHash,
	}}
}

type csc1Server struct {
	world   *World
	methods map[string]cscMethod
}

// ServeHTTP answers one call, with what was ordered to go wrong.
func (s *csc1Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, method, ok := strings.Cut(r.URL.Path, "/csc/v1/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil || r.Method != http.MethodPost {
		cscAnswer(w, http.StatusBadRequest, csc.Invalid("POST, at most %d bytes", maxRequest))
		return
	}
	f := s.world.fault(method)
	switch f.Kind {
	case client.RemoteCutBefore:
		panic(http.ErrAbortHandler)
	case client.Remote500:
		http.Error(w, "sandbox: out of order", http.StatusInternalServerError)
		return
	case client.Remote503:
		http.Error(w, "sandbox: a proxy is out of order", http.StatusServiceUnavailable)
		return
	case client.RemoteBusy:
		w.Header().Set("Retry-After", "1")
		cscAnswer(w, http.StatusServiceUnavailable, &csc.Error{Code: csc.CodeUnavailable})
		return
	}
	wait(r.Context(), f)
	out, err := s.answer(r, method, raw, f)
	switch f.Kind {
	case client.RemoteCutAfter:
		panic(http.ErrAbortHandler)
	case client.Remote500After:
		http.Error(w, "sandbox: out of order", http.StatusInternalServerError)
		return
	case client.Remote503After:
		http.Error(w, "sandbox: a proxy is out of order", http.StatusServiceUnavailable)
		return
	case client.RemoteGarbage:
		_, _ = io.WriteString(w, "<html>sandbox: a page of a proxy</html>")
		return
	}
	switch {
	case err != nil:
		e := cscFault(err)
		cscAnswer(w, e.Status, e)
	case out == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		cscAnswer(w, http.StatusOK, out)
	}
}

func cscAnswer(w http.ResponseWriter, status int, content any) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(content); err != nil {
		http.Error(w, "sandbox: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // who is gone is told nothing
}

func (s *csc1Server) answer(r *http.Request, method string, raw []byte, f client.RemoteFault) (any, error) {
	reader, err := csc.Read(raw)
	if err != nil {
		return nil, err
	}
	switch method {
	case csc1.Info:
		return csc1.InfoResponse{
			Specs: csc1.Specs, Name: "SANDBOX - NOT VALID", Logo: "https://sandbox.example/logo.png", Region: "IT", Lang: "en-US",
			Description: "Plays a provider of version 1", AuthType: []string{"basic"}, Methods: []string{
				csc1.Login, csc1.List, csc1.Credential, csc1.Authorize, csc1.Extend, csc1.SendOTP, csc1.SignHash,
			},
		}, nil
	case csc1.Login:
		return s.world.cscLogin(r)
	}
	do := s.methods[method]
	if do == nil {
		return nil, &csc.Error{Status: http.StatusNotImplemented, Code: csc.CodeInvalidRequest, Description: "no such method"}
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return nil, csc.Invalid("Malformed authorization header")
	}
	if !s.world.cscToken(token) {
		return nil, &csc.Error{Status: http.StatusUnauthorized, Code: csc.CodeInvalidToken, Description: "The access token is not valid"}
	}
	return do(reader, f)
}

// cscLogin gives a token to the application account. spec: CSC-1.0.4.0 §11.2
func (w *World) cscLogin(r *http.Request) (any, error) {
	user, password, ok := r.BasicAuth()
	if !ok {
		return nil, &csc.Error{Status: http.StatusUnauthorized, Code: csc.CodeInvalidRequest, Description: "Malformed authentication parameter"}
	}
	if user != AppUser || password != AppPassword {
		return nil, &csc.Error{Status: http.StatusBadRequest, Code: "authentication_error", Description: "An error occurred during authentication process"}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	token := rand.Text()
	w.tokens[token] = w.now().Add(tokenLife)
	return csc1.LoginResponse{AccessToken: token, ExpiresIn: int(tokenLife.Seconds())}, nil
}

func (w *World) cscToken(token string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now().Before(w.tokens[token])
}

// EndTokens ends the access tokens of version 1, as time would.
func (w *World) EndTokens() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.tokens)
}

func (w *World) cscList(r *csc.Reader, _ client.RemoteFault) (any, error) {
	req, err := csc1.ReadList(r)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for user := range w.holders {
		all = append(all, user)
	}
	slices.Sort(all)
	from, err := strconv.Atoi("0" + req.PageToken)
	if err != nil || from > len(all) {
		return nil, csc.InvalidParameter("pageToken")
	}
	page := cscPage
	if req.MaxResults > 0 {
		page = min(page, req.MaxResults)
	}
	out := csc1.ListResponse{CredentialIDs: all[from:min(from+page, len(all))]}
	if from+page < len(all) {
		out.NextPageToken = strconv.Itoa(from + page)
	}
	return out, nil
}

// cscCredential describes a holder's key. spec: CSC-1.0.4.0 §11.5
func (w *World) cscCredential(r *csc.Reader, _ client.RemoteFault) (any, error) {
	req, err := csc1.ReadCredential(r)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	h, err := w.holder(req.CredentialID)
	if err != nil {
		return nil, err
	}
	leaf := h.chain[0]
	out := csc1.CredentialInfo{
		Description: leaf.Subject.CommonName, Key: csc1.Key{Status: "enabled"}, Cert: csc1.Cert{Status: "valid"},
		AuthMode: "explicit", SCAL: "2", Multisign: cscMultisign, Lang: "en-US",
	}
	switch k := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		out.Key.Algo, out.Key.Len = []string{csc.RSA}, k.N.BitLen()
	case *ecdsa.PublicKey:
		out.Key.Algo, out.Key.Len, out.Key.Curve = []string{csc.ECDSASHA256}, k.Params().BitSize, csc.P256
	}
	if req.Certificates != "none" {
		out.Cert.Certificates = [][]byte{leaf.Raw}
	}
	if req.Certificates == "chain" {
		out.Cert.Certificates = append(out.Cert.Certificates, h.chain[1].Raw)
	}
	if req.CertInfo {
		out.Cert.IssuerDN, out.Cert.SubjectDN, out.Cert.SerialNumber = leaf.Issuer.String(), leaf.Subject.String(), fmt.Sprintf("%X", leaf.SerialNumber)
		out.Cert.ValidFrom, out.Cert.ValidTo = csc.Time(leaf.NotBefore), csc.Time(leaf.NotAfter)
	}
	if req.AuthInfo {
		out.PIN = &csc1.PIN{Presence: "true", Format: "N", Label: "PIN"}
		if h.automatic {
			out.OTP = &csc1.OTP{Presence: "false"}
			return out, nil
		}
		out.OTP = &csc1.OTP{Presence: "true", Type: "online", Format: "N", Label: "Code by text message", ID: h.idOTP[cscOnlineKind], Provider: "SANDBOX"}
	}
	return out, nil
}

func (w *World) cscSendOTP(r *csc.Reader, _ client.RemoteFault) (any, error) {
	req, err := csc1.ReadSendOTP(r)
	if err != nil {
		return nil, err
	}
	return nil, w.send(req.CredentialID, cscOnlineKind)
}

// cscAuthorize gives a SAD for the digests, and for so many more as numSignatures says. spec: CSC-1.0.4.0 §11.6
func (w *World) cscAuthorize(r *csc.Reader, _ client.RemoteFault) (any, error) {
	req, err := csc1.ReadAuthorize(r)
	if err != nil {
		return nil, err
	}
	switch {
	case req.NumSignatures > cscMultisign:
		return nil, csc.Invalid("Numbers of signatures is too high")
	case len(req.Hash) == 0: // SCAL 2
		return nil, csc.Invalid("Missing (or invalid type) array parameter hash")
	case len(req.Hash) > req.NumSignatures:
		return nil, csc.Invalid("Invalid value for parameter numSignatures")
	}
	id, err := w.beginAlone(req.CredentialID, req.PIN)
	if errors.Is(err, errRequest) { // it wants a one-time password
		id, err = w.begin(req.CredentialID, req.PIN, req.OTP, "")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if errors.Is(err, errWrong) {
		if h := w.holders[req.CredentialID]; h != nil && h.pin != req.PIN {
			return nil, &csc.Error{Status: http.StatusBadRequest, Code: csc.CodeInvalidPIN, Description: "The PIN is invalid"}
		}
		return nil, &csc.Error{Status: http.StatusBadRequest, Code: csc.CodeInvalidOTP, Description: "The OTP is invalid"}
	}
	if err != nil {
		return nil, err
	}
	s := w.sessions[id]
	s.until, s.hashes, s.left = w.now().Add(sadLife), req.Hash, req.NumSignatures
	return csc1.SADResponse{SAD: id, ExpiresIn: int(sadLife.Seconds())}, nil
}

// sad finds a SAD that is not over. The world is locked.
func (w *World) sad(credential, id string) (*session, error) {
	s := w.sessions[id]
	switch {
	case s == nil || s.hashes == nil || s.holder.user != credential:
		return nil, errNoSession
	case !w.now().Before(s.until):
		return nil, csc.Invalid("SAD expired")
	}
	return s, nil
}

// cscExtend gives the next SAD of the same number of signatures. spec: CSC-1.0.4.0 §11.7
func (w *World) cscExtend(r *csc.Reader, _ client.RemoteFault) (any, error) {
	req, err := csc1.ReadExtend(r)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.sad(req.CredentialID, req.SAD)
	if err != nil {
		return nil, err
	}
	if len(req.Hash) == 0 || len(req.Hash) > s.left {
		return nil, csc.Invalid("Numbers of signatures is too high")
	}
	delete(w.sessions, req.SAD)
	next := rand.Text()
	w.sessions[next] = &session{holder: s.holder, until: w.now().Add(sadLife), hashes: req.Hash, left: s.left}
	return csc1.SADResponse{SAD: next, ExpiresIn: int(sadLife.Seconds())}, nil
}

// cscSignHash signs digests of the SAD, until as many are signed as were authorized. spec: CSC-1.0.4.0 §11.9
func (w *World) cscSignHash(r *csc.Reader, f client.RemoteFault) (any, error) {
	req, err := csc1.ReadSignHash(r)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	s, err := w.sad(req.CredentialID, req.SAD)
	if err == nil {
		for _, h := range req.Hash {
			if !slices.ContainsFunc(s.hashes, func(o []byte) bool { return bytes.Equal(o, h) }) {
				err = csc.Invalid("Hash is not authorized by the SAD")
			}
		}
		if len(req.Hash) > s.left {
			err = errNoSession
		}
	}
	if err != nil {
		w.mu.Unlock()
		return nil, err
	}
	holder := s.holder
	s.left -= len(req.Hash)
	w.mu.Unlock()
	var out csc1.SignHashResponse
	for _, h := range req.Hash {
		signature, err := w.sign(holder.user, holder.pin, req.SAD, h, f.Kind == client.RemoteBadSig)
		if err != nil {
			return nil, err
		}
		out.Signatures = append(out.Signatures, signature)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.left == 0 {
		delete(w.sessions, req.SAD)
	}
	return out, nil
}
