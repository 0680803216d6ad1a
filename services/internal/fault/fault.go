// Package fault owns the one typed error of the platform: a closed list of kinds, a permanent code,
// a message fit for the caller, and the fields at fault. Each edge (gRPC, HTTP, bus, jobs) maps it once.
//
// It refuses to carry internal text across an edge: the cause stays unexported, reachable only by
// errors.Is/As and by the log line of the process where it happened.
package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind says what sort of failure it is, and so who has to act. The list is closed.
type Kind uint8

// The kinds. KindInternal is the zero value on purpose: what nobody classified is a defect of ours.
const (
	KindInternal        Kind = iota // a defect or an unclassified failure; the text never leaves the process
	KindInvalid                     // the request is wrong in itself; repeating it cannot help
	KindUnauthenticated             // nobody proved who is calling
	KindDenied                      // the caller is known and may not do this
	KindNotFound                    // the named thing does not exist for this caller
	KindConflict                    // the thing exists already, or another request holds its place
	KindPrecondition                // right request, wrong state of the thing
	KindExhausted                   // a quota or a rate; try later, see RetryAfter
	KindUnavailable                 // something we depend on is away; try again
	KindAborted                     // somebody changed the thing in between (etag); read again and repeat
)

var kindNames = [...]string{
	"internal", "invalid", "unauthenticated", "denied", "not found",
	"conflict", "precondition", "exhausted", "unavailable", "aborted",
}

// String gives the lower-case English name of the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Fault is the error that crosses edges.
type Fault struct {
	Kind       Kind
	Code       string        // UPPER_SNAKE, permanent: clients switch on it
	Message    string        // for the caller: what is wrong and how to mend it
	Fields     []Field       // which parts of the request, when there are any
	RetryAfter time.Duration // how long to wait before a repeat may help; 0 = not said

	cause error
}

// Field is one violation inside a request.
type Field struct {
	Path    string // dotted proto path, e.g. "invoice.lines[2].price"
	Code    string // UPPER_SNAKE
	Message string
}

// New makes a fault. The message is format with its arguments; it is shown to callers unless the
// kind is Internal.
func New(k Kind, code, format string, a ...any) *Fault {
	msg := format
	if len(a) > 0 {
		msg = fmt.Sprintf(format, a...)
	}
	return &Fault{Kind: k, Code: code, Message: msg}
}

// Internal makes a fault of kind Internal: its message is logged, never shown.
func Internal(code, format string, a ...any) *Fault { return New(KindInternal, code, format, a...) }

// Invalid makes a fault of kind Invalid.
func Invalid(code, format string, a ...any) *Fault { return New(KindInvalid, code, format, a...) }

// Unauthenticated makes a fault of kind Unauthenticated.
func Unauthenticated(code, format string, a ...any) *Fault {
	return New(KindUnauthenticated, code, format, a...)
}

// Denied makes a fault of kind Denied.
func Denied(code, format string, a ...any) *Fault { return New(KindDenied, code, format, a...) }

// NotFound makes a fault of kind NotFound.
func NotFound(code, format string, a ...any) *Fault { return New(KindNotFound, code, format, a...) }

// Conflict makes a fault of kind Conflict.
func Conflict(code, format string, a ...any) *Fault { return New(KindConflict, code, format, a...) }

// Precondition makes a fault of kind Precondition.
func Precondition(code, format string, a ...any) *Fault {
	return New(KindPrecondition, code, format, a...)
}

// Exhausted makes a fault of kind Exhausted; retryAfter says when a repeat may succeed.
func Exhausted(retryAfter time.Duration, code, format string, a ...any) *Fault {
	f := New(KindExhausted, code, format, a...)
	f.RetryAfter = retryAfter
	return f
}

// Unavailable makes a fault of kind Unavailable.
func Unavailable(code, format string, a ...any) *Fault {
	return New(KindUnavailable, code, format, a...)
}

// Aborted makes a fault of kind Aborted.
func Aborted(code, format string, a ...any) *Fault { return New(KindAborted, code, format, a...) }

// Error gives the code, the message and the cause: text for logs, not for callers.
func (f *Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.Code)
	if f.Message != "" {
		b.WriteString(": ")
		b.WriteString(f.Message)
	}
	for _, x := range f.Fields {
		fmt.Fprintf(&b, " [%s: %s]", x.Path, x.Message)
	}
	if f.cause != nil {
		b.WriteString(": ")
		b.WriteString(f.cause.Error())
	}
	return b.String()
}

// Unwrap gives the cause to errors.Is and errors.As.
func (f *Fault) Unwrap() error { return f.cause }

// Is compares by code, so that errors.Is(err, errSomething) works with a fault built elsewhere.
func (f *Fault) Is(target error) bool {
	t, ok := target.(*Fault)
	return ok && t.Code == f.Code
}

// With returns a copy that carries cause.
func (f *Fault) With(cause error) *Fault {
	c := *f
	c.cause = cause
	return &c
}

// WithField returns a copy with one more field violation.
func (f *Fault) WithField(path, code, msg string) *Fault {
	c := *f
	c.Fields = append(slices.Clip(f.Fields), Field{Path: path, Code: code, Message: msg})
	return &c
}

// WithRetryAfter returns a copy that says when a repeat may help.
func (f *Fault) WithRetryAfter(d time.Duration) *Fault {
	c := *f
	c.RetryAfter = d
	return &c
}

// Of finds the fault in err's chain. nil gives nil; a context that ended gives Unavailable;
// anything untyped is Internal with err as its cause.
func Of(err error) *Fault {
	if err == nil {
		return nil
	}
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return Unavailable("DEADLINE_EXCEEDED", "the time allowed for this call ran out").With(err)
	case errors.Is(err, context.Canceled):
		return Unavailable("CANCELED", "the caller went away").With(err)
	}
	return Internal("INTERNAL", "internal error").With(err)
}

// Permanent tells whether repeating the same act unchanged is pointless. Internal counts as not
// permanent: a defect may be mended, or a neighbour restarted, before the attempts are spent.
// nil is not permanent.
func Permanent(err error) bool {
	if err == nil {
		return false
	}
	switch Of(err).Kind {
	case KindInvalid, KindUnauthenticated, KindDenied, KindNotFound, KindConflict, KindPrecondition:
		return true
	case KindInternal, KindExhausted, KindUnavailable, KindAborted:
		return false
	}
	return false
}
