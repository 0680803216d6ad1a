package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"ceralacca.dev/services/internal/fault"
)

// Domain is the ErrorInfo domain of every fault of this platform.
const Domain = "ceralacca.dev"

// maxViolations bounds the list in one answer: a document with a million bad
// lines must not become a million details. The rest is counted in the message.
const maxViolations = 100

var toCode = map[fault.Kind]codes.Code{
	fault.KindInternal:        codes.Internal,
	fault.KindInvalid:         codes.InvalidArgument,
	fault.KindUnauthenticated: codes.Unauthenticated,
	fault.KindDenied:          codes.PermissionDenied,
	fault.KindNotFound:        codes.NotFound,
	fault.KindConflict:        codes.AlreadyExists,
	fault.KindPrecondition:    codes.FailedPrecondition,
	fault.KindExhausted:       codes.ResourceExhausted,
	fault.KindUnavailable:     codes.Unavailable,
	fault.KindAborted:         codes.Aborted,
}

var toKind = map[codes.Code]fault.Kind{
	codes.InvalidArgument:    fault.KindInvalid,
	codes.OutOfRange:         fault.KindInvalid,
	codes.Unauthenticated:    fault.KindUnauthenticated,
	codes.PermissionDenied:   fault.KindDenied,
	codes.NotFound:           fault.KindNotFound,
	codes.AlreadyExists:      fault.KindConflict,
	codes.FailedPrecondition: fault.KindPrecondition,
	codes.ResourceExhausted:  fault.KindExhausted,
	codes.Unavailable:        fault.KindUnavailable,
	codes.DeadlineExceeded:   fault.KindUnavailable,
	codes.Canceled:           fault.KindUnavailable,
	codes.Aborted:            fault.KindAborted,
	// A neighbour that does not know the method yet is an older release in
	// the middle of an update: trying again helps.
	codes.Unimplemented: fault.KindUnavailable,
}

// Status maps an error to the gRPC status that leaves the process: ErrorInfo
// with the code, BadRequest with the fields, RetryInfo. The text of an
// Internal fault stays here; the caller gets the trace id to quote instead.
func Status(err error, trace string) *status.Status {
	if err == nil {
		return nil
	}
	if st, ok := status.FromError(err); ok && st.Code() == codes.Unimplemented {
		return st // generated code answers for methods that nobody wrote
	}
	f := asFault(err)
	code, message := toCode[f.Kind], f.Message
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	case f.Kind == fault.KindInternal:
		message = "internal error: it was logged; quote the trace id " + trace + " to the operator"
	}
	fields := f.Fields
	if len(fields) > maxViolations {
		fields = fields[:maxViolations]
	}
	details := []protoadapt.MessageV1{protoadapt.MessageV1Of(&errdetails.ErrorInfo{Reason: f.Code, Domain: Domain})}
	if len(fields) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range fields {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
				Field: v.Path, Reason: v.Code, Description: v.Message})
		}
		details = append(details, protoadapt.MessageV1Of(bad))
	}
	if f.RetryAfter > 0 {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(f.RetryAfter)}))
	}
	if trace != "" {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RequestInfo{RequestId: trace}))
	}
	st := status.New(code, message)
	if full, err := st.WithDetails(details...); err == nil {
		return full
	}
	return st
}

// asFault is fault.Of that also understands a status a handler passed on.
func asFault(err error) *fault.Fault {
	var f *fault.Fault
	if errors.As(err, &f) {
		return f
	}
	if _, ok := status.FromError(err); ok {
		return fault.Of(FromStatus(err))
	}
	return fault.Of(err)
}

// FromStatus turns the error of a gRPC call back into the fault that the other
// side raised. A status without our details keeps its message and gets the
// name of its gRPC code as code. nil stays nil.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	var known *fault.Fault
	if errors.As(err, &known) {
		return err
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	kind := toKind[st.Code()] // Internal, Unknown and DataLoss: KindInternal
	f := fault.New(kind, upperSnake(st.Code().String()), "%s", st.Message())
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == Domain {
				f.Code = d.GetReason()
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				f.Fields = append(f.Fields, fault.Field{Path: v.GetField(), Code: v.GetReason(), Message: v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			f.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	switch st.Code() {
	case codes.DeadlineExceeded:
		return f.With(context.DeadlineExceeded)
	case codes.Canceled:
		return f.With(context.Canceled)
	}
	return f
}

// Trace returns the trace id that came with an error, or "".
func Trace(err error) string {
	st, ok := status.FromError(err)
	if !ok {
		return ""
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RequestInfo); ok {
			return info.GetRequestId()
		}
	}
	return ""
}

// upperSnake writes a gRPC code name (InvalidArgument) as ours (INVALID_ARGUMENT).
func upperSnake(s string) string {
	var b strings.Builder
	for i, r := range s {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}

// invalidFields turns protovalidate's violations into one fault with fields.
func invalidFields(err error) error {
	var violated *protovalidate.ValidationError
	if !errors.As(err, &violated) {
		return fault.Internal("VALIDATION_BROKEN", "the rules of this message cannot be evaluated").With(err)
	}
	f := fault.Invalid("REQUEST_INVALID", "the request is not valid")
	for i, v := range violated.Violations {
		path := protovalidate.FieldPathString(v.Proto.GetField())
		if i == 0 {
			f.Message += ": " + strings.TrimSpace(path+" "+ruleText(v))
		}
		code := strings.ToUpper(strings.ReplaceAll(v.Proto.GetRuleId(), ".", "_"))
		f.Fields = append(f.Fields, fault.Field{Path: path, Code: code, Message: ruleText(v)})
	}
	if more := len(f.Fields) - 1; more > 0 {
		f.Message += fmt.Sprintf(", and %d more", more)
	}
	return f
}

// shave is what a server keeps of its caller's deadline, so that it can still
// say what timed out before the caller gives up.
const shave = 20 * time.Millisecond
