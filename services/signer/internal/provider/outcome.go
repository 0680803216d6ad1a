package provider

import (
	"errors"
	"fmt"
	"time"

	"ceralacca.dev/services/internal/fault"
)

// Outcome is what became of a call. The list is closed.
type Outcome uint8

// The outcomes. Unknown is the zero value on purpose: what nobody classified may have signed.
const (
	// Unknown: the request had left and no answer that is understood came back. It may have been done. It
	// is not repeated with the same password or grant: the holder begins anew.
	Unknown Outcome = iota
	// Done: no error.
	Done
	// UserFault: the holder's PIN or password was wrong, or is locked. The provider works: the circuit
	// breaker does not count it.
	UserFault
	// Refused: no repeat of the same will be done. Nothing was signed.
	Refused
	// Busy: the provider is away or busy and has taken nothing: the same may be asked again later, with
	// the same password.
	Busy
)

var outcomeNames = [...]string{"unknown", "done", "user fault", "refused", "busy"}

// String gives the name of the outcome.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// Codes of errors; permanent. Each adapter uses these and no others.
const (
	// UserFault.
	FactorsWrong  = "PROVIDER_FACTORS_WRONG"  // PIN or password is not right, or spent
	FactorsLocked = "PROVIDER_FACTORS_LOCKED" // too many were not right: the provider has locked PIN or device

	// Refused.
	CredentialUnknown  = "PROVIDER_CREDENTIAL_UNKNOWN"  // the provider has no such key for us
	CredentialDisabled = "PROVIDER_CREDENTIAL_DISABLED" // suspended, revoked or expired there
	HashInvalid        = "PROVIDER_HASH_INVALID"        // not a SHA-256 digest
	HashNotAuthorized  = "PROVIDER_HASH_NOT_AUTHORIZED" // the grant is not for this hash
	TooManyHashes      = "PROVIDER_TOO_MANY_HASHES"     // more than one authorization may be for
	GrantSpent         = "PROVIDER_GRANT_SPENT"         // used, closed, expired, or never given
	OTPNotSent         = "PROVIDER_OTP_NOT_SENT"        // the provider does not send passwords to this device
	AccountRefused     = "PROVIDER_ACCOUNT_REFUSED"     // our own account, not the holder's
	Undocumented       = "PROVIDER_UNDOCUMENTED"        // public material does not say how: the message names what
	AnswerUnreadable   = "PROVIDER_ANSWER_UNREADABLE"   // an answer to a call that changes nothing

	// Busy.
	Away = "PROVIDER_UNAVAILABLE"

	// Unknown.
	OutcomeUnknown = "PROVIDER_OUTCOME_UNKNOWN"
)

// Error is why a call was not done.
type Error struct {
	Outcome Outcome
	Code    string // one of the list above
	Message string // for the caller; never holds what the provider's answer quoted
	// RetryAfter is when whoever answered wants to be asked again; 0: not said. It says nothing of what may be repeated.
	RetryAfter time.Duration

	cause error
}

// Errorf makes an error.
func Errorf(o Outcome, code, format string, a ...any) *Error {
	return &Error{Outcome: o, Code: code, Message: fmt.Sprintf(format, a...)}
}

// Error gives outcome, code, message and cause: text for logs.
func (e *Error) Error() string {
	s := e.Code + ": " + e.Message
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.cause }

// With returns a copy that carries cause.
func (e *Error) With(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// OutcomeOf says what became of a call that returned err. An error that is none of ours is Unknown.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Done
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Outcome
	}
	return Unknown
}

// Fault is err as the platform tells it. Unavailable is for Busy alone: whoever repeats what is
// Unavailable does no harm.
func Fault(err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		e = Errorf(Unknown, OutcomeUnknown, "what the provider did is not known").With(err)
	}
	kind := fault.KindPrecondition
	switch {
	case e.Outcome == Busy:
		kind = fault.KindUnavailable
	case e.Code == FactorsWrong, e.Code == HashNotAuthorized:
		kind = fault.KindDenied
	case e.Code == FactorsLocked:
		kind = fault.KindExhausted
	case e.Code == CredentialUnknown:
		kind = fault.KindNotFound
	case e.Code == HashInvalid, e.Code == TooManyHashes:
		kind = fault.KindInvalid
	}
	f := fault.New(kind, e.Code, "%s", e.Message)
	f.RetryAfter = e.RetryAfter
	return f.With(err)
}
