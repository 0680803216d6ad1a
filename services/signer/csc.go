package signer

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/csc"
	"ceralacca.dev/services/format/csc/csc2"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/telemetry"
)

// CSCConfig offers the credentials of persons through the API of the Cloud Signature Consortium, version
// 2.0.0.2, below /csc/v2/ of http.listen.
type CSCConfig struct {
	// URL is the base address as clients know it, for example https://sign.example.it/csc/v2. Empty: the
	// API is not offered.
	URL string `yaml:"url"`
	// Name of the service, as info gives it.
	Name string `yaml:"name"`
	// Description of the service, as info gives it.
	Description string `yaml:"description"`
	// Region is the country of the service, ISO 3166-1.
	Region string `yaml:"region"`
	// OAuth2Issuer is the identity provider of auth.oidc as clients reach it; info names it. Empty:
	// clients come with API keys, which they get by another way (authType external).
	OAuth2Issuer string `yaml:"oauth2_issuer"`
	// TransactionTTL is how long after PIN and password credentials/extendTransaction gives further
	// authorizations, within the number of signatures that was authorized beyond the digests that were named: the
	// signer knows of those only how many they are. 0s: it is not offered, and each signature has its digest
	// named when it is authorized.
	TransactionTTL time.Duration `yaml:"transaction_ttl"`
	// OTPWithoutHashes has getChallenge and sendOTP send a password also when they name no digests, as clients that
	// know the specification alone ask. The message then names no document, and the password is good for whatever
	// the same caller authorizes next.
	OTPWithoutHashes bool `yaml:"otp_without_hashes"`
}

func defaultCSC() CSCConfig {
	return CSCConfig{Name: "Ceralacca", Description: "Remote signature, advanced", Region: "IT", TransactionTTL: 5 * time.Minute}
}

func (c *CSCConfig) validate(bad func(when bool, path, format string, a ...any)) {
	if c.URL == "" {
		return
	}
	u, err := url.Parse(c.URL)
	bad(err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.RawQuery != "" || !strings.HasSuffix(u.Path, "/csc/v2"),
		"csc.url", "%q is not the base address of the API: it is http(s) and ends in /csc/v2", c.URL)
	bad(c.Name == "" || len(c.Name) > 255, "csc.name", "has 1 to 255 bytes")
	bad(len(c.Description) > 255, "csc.description", "has 255 bytes at most")
	bad(len(c.Region) != 2 || c.Region != strings.ToUpper(c.Region), "csc.region", "%q is no country of ISO 3166-1, such as IT", c.Region)
	bad(c.TransactionTTL < 0 || c.TransactionTTL > time.Hour, "csc.transaction_ttl", "must be between 0s and 1h")
	if c.OAuth2Issuer != "" {
		i, err := url.Parse(c.OAuth2Issuer)
		bad(err != nil || i.Host == "" || i.Scheme != "https", "csc.oauth2_issuer", "%q is no https address", c.OAuth2Issuer)
	}
}

const (
	cscPath    = "/csc/v2/"
	cscBody    = 1 << 20  // bytes of a request; signDoc has documents in base64 on top
	cscDocs    = 16 << 20 // bytes of documents in one call, as over gRPC, or documents.max_size
	cscTimeout = 30 * time.Second
	cscRepeat  = "Idempotency-Key" // header: an answer that was lost can be had again
)

// cscCall is a request on its way.
type cscCall struct {
	service *Service
	caller  auth.Caller
	repeat  string // request id of what uses an authorization
}

// cscMethod is one method of the API. A nil answer is 204.
type cscMethod struct {
	grpc string // whose access option holds; "" for everybody
	body int64
	do   func(ctx context.Context, c *cscCall, r *csc.Reader) (any, error)
}

// cscAnswer reads a request with read and answers it with answer.
func cscAnswer[Q, A any](read func(*csc.Reader) (*Q, error), answer func(*cscCall, context.Context, *Q) (A, error)) func(context.Context, *cscCall, *csc.Reader) (any, error) {
	return func(ctx context.Context, c *cscCall, r *csc.Reader) (any, error) {
		req, err := read(r)
		if err != nil {
			return nil, err
		}
		return answer(c, ctx, req)
	}
}

// cscMethods are the methods by their path; info lists these and no others.
func (s *Service) cscMethods() map[string]cscMethod {
	const (
		list      = signv1.SignService_ListCredentials_FullMethodName
		challenge = signv1.AuthorizationService_CreateChallenge_FullMethodName
		sign      = signv1.AuthorizationService_SignHashes_FullMethodName
		documents = signv1.DocumentService_SignDocuments_FullMethodName
		stamp     = signv1.DocumentService_CreateTimestamp_FullMethodName
	)
	m := map[string]cscMethod{
		csc2.Info:       {"", cscBody, cscAnswer(csc2.ReadInfo, (*cscCall).info)},
		csc2.List:       {list, cscBody, cscAnswer(csc2.ReadList, (*cscCall).list)},
		csc2.Credential: {list, cscBody, cscAnswer(csc2.ReadCredential, (*cscCall).credential)},
		csc2.Challenge:  {challenge, cscBody, cscAnswer(csc2.ReadChallenge, (*cscCall).challenge)},
		csc2.SendOTP:    {challenge, cscBody, cscAnswer(csc2.ReadSendOTP, (*cscCall).challenge)},
		csc2.Authorize:  {challenge, cscBody, cscAnswer(csc2.ReadAuthorize, (*cscCall).authorize)},
		csc2.Check:      {challenge, cscBody, cscAnswer(csc2.ReadCheck, (*cscCall).check)},
		csc2.SignHash:   {sign, cscBody, cscAnswer(csc2.ReadSignHash, (*cscCall).signHash)},
		csc2.SignDoc:    {documents, cscBody + min(s.cfg.Documents.MaxSize, cscDocs)/3*4 + 4, cscAnswer(csc2.ReadSignDoc, (*cscCall).signDoc)},
	}
	if s.cfg.CSC.TransactionTTL > 0 {
		m[csc2.Extend] = cscMethod{sign, cscBody, cscAnswer(csc2.ReadExtend, (*cscCall).extend)}
	}
	if len(s.stamps) > 0 {
		m[csc2.Timestamp] = cscMethod{stamp, cscBody, cscAnswer(csc2.ReadTimestamp, (*cscCall).timestamp)}
	}
	return m
}

// cscServer is the API on HTTP.
type cscServer struct {
	service *Service
	methods map[string]cscMethod
	admit   func(ctx context.Context, method, authorization string) (context.Context, auth.Caller, error)
}

// offerCSC serves the API when the configuration has an address for it.
func (s *Service) offerCSC(h *run.Host) {
	if s.cfg.CSC.URL == "" {
		return
	}
	server := &cscServer{service: s, methods: s.cscMethods(), admit: h.Admit}
	h.HTTP.Handle(cscPath, server)
	h.HTTP.HandleFunc("GET "+cscPath+cscLogo, serveLogo)
}

// ServeHTTP answers one request and writes the one line of the access log. Neither shows what was sent.
func (s *cscServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start, method := s.service.now(), strings.TrimPrefix(r.URL.Path, cscPath)
	m, known := s.methods[method]
	if !known {
		method = "unknown"
	}
	ctx, cancel := context.WithTimeout(telemetry.Extract(r.Context(), r.Header.Get("traceparent")), cscTimeout)
	defer cancel()
	ctx, span := telemetry.Tracer().Start(ctx, "csc "+method, trace.WithSpanKind(trace.SpanKindServer))
	defer span.End()
	c := &cscCall{service: s.service}
	answer, err := s.answer(ctx, c, m, known, w, r)
	status := http.StatusOK
	var failed *csc.Error
	switch {
	case err != nil:
		failed = cscError(err, span.SpanContext())
		status = failed.Status
	case answer == nil:
		status = http.StatusNoContent
	case underway(answer):
		status = http.StatusAccepted
	}
	span.SetAttributes(attribute.Int("http.response.status_code", status))
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("method", method), slog.String("caller", c.caller.Actor()), slog.Int("status", status),
		slog.Duration("took", s.service.now().Sub(start)), slog.String("tenant", c.caller.Tenant),
	}
	if failed != nil {
		attrs = append(attrs, slog.String("fault", failed.Code))
		if status >= http.StatusInternalServerError && status != http.StatusNotImplemented {
			level = slog.LevelError
			attrs = append(attrs, slog.String("error", err.Error()))
		}
		answer = failed
	}
	s.service.log.LogAttrs(ctx, level, "csc", attrs...)
	writeCSC(w, status, answer, failed)
}

// underway says of an answer that it is none yet. spec: CSC-2.0.0.2 §11.6, §11.7
func underway(answer any) bool {
	given, ok := answer.(*csc2.SADResponse)
	return ok && given.SAD == ""
}

func writeCSC(w http.ResponseWriter, status int, answer any, failed *csc.Error) {
	h := w.Header()
	h.Set("Cache-Control", "no-store") // SADs and signatures are for the caller
	h.Set("X-Content-Type-Options", "nosniff")
	if failed != nil && failed.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(max(1, int(failed.RetryAfter.Seconds()))))
	}
	switch status {
	case http.StatusNoContent:
		w.WriteHeader(status)
		return
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer error="`+failed.Code+`"`) // spec: RFC6750 §3
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodPost)
	}
	body, err := json.Marshal(answer)
	if err != nil { // the messages are strings, numbers and bytes
		status, body = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller that is gone is told nothing
}

// answer admits, reads and does.
func (s *cscServer) answer(ctx context.Context, c *cscCall, m cscMethod, known bool, w http.ResponseWriter, r *http.Request) (answer any, err error) {
	defer func() {
		if p := recover(); p != nil {
			answer, err = nil, fault.Internal("PANIC", "a method panicked").With(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	switch {
	case !known:
		return nil, &csc.Error{Status: http.StatusNotImplemented, Code: csc.CodeInvalidRequest, Description: "The method is not offered: see methods of info"}
	case r.Method != http.MethodPost:
		return nil, &csc.Error{Status: http.StatusMethodNotAllowed, Code: csc.CodeInvalidRequest, Description: "The methods of this API are called with POST"}
	}
	if m.grpc != "" {
		ctx, c.caller, err = s.identify(ctx, m.grpc, r.Header.Values("Authorization"))
		if err != nil {
			return nil, err
		}
	}
	c.repeat, err = repeatKey(r.Header.Get(cscRepeat))
	if err != nil {
		return nil, err
	}
	// The deadline of sockets is of the real clock. One that cannot be set is the test recorder's.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(cscTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, m.body))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &csc.Error{Status: http.StatusRequestEntityTooLarge, Code: csc.CodeInvalidRequest, Description: fmt.Sprintf("The request has more than %d bytes", m.body)}
	case err != nil:
		return nil, csc.Invalid("The request was cut off")
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); len(body) > 0 && (err != nil || kind != "application/json") {
		return nil, csc.Invalid("The Content-Type of requests is application/json")
	}
	reader, err := csc.Read(body)
	if err != nil {
		return nil, err
	}
	return m.do(ctx, c, reader)
}

// identify says who calls, by the rules of the gRPC method that stands behind. It is always a tenant:
// credentials of persons are out of reach for operators and resellers.
func (s *cscServer) identify(ctx context.Context, method string, values []string) (context.Context, auth.Caller, error) {
	scheme, token, ok := strings.Cut(strings.Join(values, ","), " ")
	if len(values) > 1 || (len(values) == 1 && (!ok || !strings.EqualFold(scheme, "bearer") || strings.TrimSpace(token) == "")) {
		return ctx, auth.Caller{}, csc.Invalid("Malformed authorization header")
	}
	ctx, caller, err := s.admit(ctx, method, strings.Join(values, ""))
	if err == nil && (caller.Role != auth.RoleTenant || caller.Tenant == "") {
		err = fault.Denied("ROLE_NOT_ALLOWED", "callers of role %s may not call this method", caller.Role)
	}
	return ctx, caller, err
}

// repeatKey is the request id of a call: what the caller gave, to be able to ask again, or one that
// nobody else has.
func repeatKey(header string) (string, error) {
	if header == "" {
		b := make([]byte, 16)
		_, _ = rand.Read(b) // never fails
		return "csc-" + hex.EncodeToString(b), nil
	}
	if len(header) < 16 || len(header) > 64 || strings.ContainsFunc(header, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", csc.Invalid("%s has 16 to 64 visible characters, such as a UUID", cscRepeat)
	}
	return "csc-key-" + header, nil
}

// cscCodes are errors of ours as errors of theirs, by their permanent codes. spec: CSC-2.0.0.2 §11.6, §11.10
var cscCodes = map[string]func(f *fault.Fault) *csc.Error{
	codeWrong: func(*fault.Fault) *csc.Error {
		return &csc.Error{Status: http.StatusBadRequest, Code: csc.CodeInvalidAuth, Description: "The authentication data is invalid"}
	},
	"AUTHENTICATION_LOCKED": func(f *fault.Fault) *csc.Error {
		e := csc.Invalid("Credential locked")
		e.RetryAfter = f.RetryAfter
		return e
	},
	"CREDENTIAL_NOT_FOUND":  func(*fault.Fault) *csc.Error { return csc.InvalidParameter("credentialID") },
	"CREDENTIAL_WRONG_KIND": func(*fault.Fault) *csc.Error { return csc.InvalidParameter("credentialID") },
	"CREDENTIAL_REVOKED":    disabled,
	"CREDENTIAL_NOT_ACTIVE": disabled,
	"CREDENTIAL_SUSPENDED":  disabled,
	codeSucceeded:           disabled, // the client has its certificate already
	"OTP_DEVICE_COOLING":    disabled,
	"OTP_DEVICE_TYPE":       disabled,
	"PIN_NOT_SET":           disabled,
	"NO_OTP_DEVICE":         disabled,
	"KEY_NOT_READY":         disabled,
	"TENANT_SUSPENDED": func(f *fault.Fault) *csc.Error {
		return &csc.Error{Status: http.StatusForbidden, Code: csc.CodeAccessDenied, Description: f.Message}
	},
	"CHALLENGE_NOT_FOUND":   badSAD,
	"AUTHORIZATION_INVALID": badSAD,
	"AUTHORIZATION_USED":    badSAD,
	"AUTHORIZATION_EXPIRED": func(*fault.Fault) *csc.Error { return csc.Invalid("SAD expired") },
	"HASH_NOT_AUTHORIZED":   func(*fault.Fault) *csc.Error { return csc.Invalid("Hash is not authorized by the SAD") },
	"HASHES_MISSING": func(*fault.Fault) *csc.Error {
		return csc.Invalid("The SAD is used once, for all hashes that it was given for")
	},
	"HASH_TWICE":        func(*fault.Fault) *csc.Error { return csc.Invalid("A hash is there twice: name each once") },
	"TOKEN_EXPIRED":     func(f *fault.Fault) *csc.Error { return token(csc.CodeExpiredToken, f) },
	"DOCUMENT_EMPTY":    func(*fault.Fault) *csc.Error { return csc.Invalid("Empty documentDigests and documents objects") },
	"REQUEST_ID_REUSED": func(*fault.Fault) *csc.Error { return csc.Invalid("%s was used for another request", cscRepeat) },
}

func disabled(*fault.Fault) *csc.Error {
	return csc.Invalid("The credential identified by credentialID is disabled")
}

func badSAD(*fault.Fault) *csc.Error { return csc.InvalidParameter("SAD") }

func token(code string, f *fault.Fault) *csc.Error {
	return &csc.Error{Status: http.StatusUnauthorized, Code: code, Description: f.Message}
}

// cscError is any error as this API tells it. What is internal stays here.
func cscError(err error, span trace.SpanContext) *csc.Error {
	var own *csc.Error
	if errors.As(err, &own) {
		return own
	}
	f := fault.Of(err)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		// Not temporarily_unavailable, by which nothing was done: how far it came is not known.
		return &csc.Error{Status: http.StatusGatewayTimeout, Code: csc.CodeServerError, Description: "The request took too long"}
	}
	if as, ok := cscCodes[f.Code]; ok {
		return as(f)
	}
	e := &csc.Error{Status: http.StatusBadRequest, Code: csc.CodeInvalidRequest, Description: f.Message, RetryAfter: f.RetryAfter}
	switch f.Kind {
	case fault.KindUnauthenticated:
		return token(csc.CodeInvalidToken, f)
	case fault.KindDenied:
		e.Status, e.Code = http.StatusForbidden, csc.CodeAccessDenied
	case fault.KindExhausted:
		e.Status = http.StatusTooManyRequests
	case fault.KindUnavailable, fault.KindAborted:
		e.Status, e.Code = http.StatusServiceUnavailable, csc.CodeUnavailable
	case fault.KindInternal:
		e.Status, e.Code, e.Description = http.StatusInternalServerError, csc.CodeServerError, "It was logged"
		if span.HasTraceID() {
			e.Description += ": quote " + span.TraceID().String()
		}
	}
	return e
}
