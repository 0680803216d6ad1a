package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"ceralacca.dev/services/internal/fault"
)

// Exit codes, part of the contract with scripts.
const (
	exitOK          = 0
	exitRefused     = 1 // the request was understood and refused, or a check found errors
	exitUsage       = 2 // wrong arguments, or a file that cannot be read or written
	exitNotFound    = 3
	exitDenied      = 4   // no key, a wrong key, or a key that may not do this
	exitUnavailable = 5   // the server cannot be reached or asks to try again
	exitInternal    = 6   // the server failed; it names a trace to report
	exitInterrupted = 130 // Ctrl-C or a signal, as shells count it
)

const exitHelp = `Exit codes:
    0  done
    1  refused: the request is wrong in itself, or a check found errors
    2  wrong arguments, or a file that cannot be read or written
    3  not found; of verify: indeterminate
    4  a wrong key, or a key that may not do this
    5  the server cannot be reached, or asks to try again later
    6  the server failed; its message names the trace
  130  interrupted

With --format json the result is JSON on standard output, and an error is one JSON object on standard error.`

// usageError is a mistake in the words of the command.
type usageError struct{ error }

func usage(format string, a ...any) error {
	for i := range a {
		if err, ok := a[i].(error); ok {
			a[i] = readable{err}
		}
	}
	return usageError{fmt.Errorf(format, a...)}
}

// readable is an error in words.
type readable struct{ error }

func (r readable) Error() string { return inWords(r.error) }

func (r readable) Unwrap() error { return r.error }

// inWords says what the system has against a file so that a person can mend it.
func inWords(err error) string {
	message := err.Error()
	var of *fs.PathError
	if !errors.As(err, &of) {
		return message
	}
	name := of.Path
	if name == "/dev/stdout" || name == "/dev/stdin" {
		name = "standard " + strings.TrimPrefix(name, "/dev/std") + "put"
	}
	said := ""
	switch {
	case errors.Is(of, fs.ErrNotExist):
		said = "there is no file " + name
		if folder := filepath.Dir(of.Path); !isFolder(folder) {
			said = "there is no folder " + folder
		}
	case errors.Is(of, fs.ErrPermission):
		said = name + ": this user may not read or write there"
	case errors.Is(of, fs.ErrExist):
		said = name + " is there already: remove it, or give another name"
	case errors.Is(of, syscall.EISDIR):
		said = name + " is a folder; a file is wanted"
	case errors.Is(of, syscall.ENOTDIR):
		said = name + ": a part of it that should be a folder is a file"
	case errors.Is(of, syscall.ENOSPC):
		said = name + " cannot be written: the disk is full"
	case errors.Is(of, syscall.EROFS):
		said = name + " cannot be written: the disk is read-only"
	default:
		return message
	}
	return strings.ReplaceAll(message, of.Error(), said)
}

func isFolder(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// quietError ends with a code and has said already what there is to say.
type quietError int

func (quietError) Error() string { return "" }

// refusedError is what a check found, when what it shows is no error of its own.
type refusedError struct{ error }

// refused ends with code 1: all was done that was asked, and the answer is no.
func refused(format string, a ...any) error { return refusedError{fmt.Errorf(format, a...)} }

// hintedError is an error with what to do besides what it says itself.
type hintedError struct {
	error
	hint string
}

func (e hintedError) Unwrap() error { return e.error }

// repeatError is the error of a call that is safe to repeat under its request id.
type repeatError struct {
	error
	requestID string
}

func (e repeatError) Unwrap() error { return e.error }

// failure is an error as this tool shows it.
type failure struct {
	Code       string         `json:"code"` // permanent: scripts switch on it
	Kind       string         `json:"kind"`
	Message    string         `json:"message"`
	Fields     []fieldFailure `json:"fields,omitempty"`
	RetryAfter string         `json:"retry_after,omitempty"` // a Go duration, such as 2.5s
	RequestID  string         `json:"request_id,omitempty"`  // repeat the command with it
	Hint       string         `json:"hint,omitempty"`        // what to do
	ExitCode   int            `json:"exit_code"`
}

type fieldFailure struct {
	Path    string `json:"path"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// fail says what went wrong and how to mend it, and gives the exit code.
func (c *cli) fail(err error) int {
	var quiet quietError
	if errors.As(err, &quiet) {
		return int(quiet)
	}
	f := c.describeError(err)
	var hinted hintedError
	if errors.As(err, &hinted) {
		f.Hint = hinted.hint
	}
	if c.format == formatJSON {
		printJSON(c.errOut, map[string]any{"error": f})
		return f.ExitCode
	}
	c.showFailure(f)
	return f.ExitCode
}

// describeError gives every error a code: the server's, or USAGE and INTERRUPTED of this tool.
func (c *cli) describeError(err error) failure {
	var words usageError
	var no refusedError
	var f *fault.Fault
	switch {
	case errors.As(err, &no):
		return failure{Code: "CHECK_FAILED", Kind: "refused", Message: err.Error(), ExitCode: exitRefused}
	case errors.As(err, &words):
		return failure{Code: "USAGE", Kind: "usage", Message: err.Error(), ExitCode: exitUsage}
	case errors.Is(err, context.Canceled):
		return failure{Code: "INTERRUPTED", Kind: "interrupted", Message: "interrupted", ExitCode: exitInterrupted, RequestID: requestOf(err)}
	case !errors.As(err, &f):
		return failure{Code: "USAGE", Kind: "usage", Message: inWords(err), ExitCode: exitUsage}
	}
	f = c.explain(f)
	out := failure{Code: f.Code, Kind: f.Kind.String(), Message: f.Message, ExitCode: exitOf(f.Kind)}
	for _, field := range f.Fields {
		out.Fields = append(out.Fields, fieldFailure(field))
	}
	if f.RetryAfter > 0 {
		out.RetryAfter = f.RetryAfter.String()
	}
	if out.ExitCode == exitUnavailable || out.ExitCode == exitInternal {
		out.RequestID = requestOf(err)
	}
	return out
}

func requestOf(err error) string {
	var repeat repeatError
	if errors.As(err, &repeat) {
		return repeat.requestID
	}
	return ""
}

func exitOf(k fault.Kind) int {
	switch k {
	case fault.KindNotFound:
		return exitNotFound
	case fault.KindUnauthenticated, fault.KindDenied:
		return exitDenied
	case fault.KindUnavailable, fault.KindExhausted, fault.KindAborted:
		return exitUnavailable
	case fault.KindInternal:
		return exitInternal
	}
	return exitRefused
}

// hints say what to do about codes whose message cannot know how this tool was called.
var hints = map[string]string{
	"ROLE_NOT_ALLOWED":   "operators' commands need an operator's key; invoices, documents and webhooks need a key of the tenant",
	"FOREIGN_RESOURCE":   "the key belongs to another tenant or reseller: check --tenant and the key",
	"COMPANY_NOT_FOUND":  "ceralacca company ls lists the companies of the tenant",
	"SERIES_NOT_FOUND":   "ceralacca series ls lists them, ceralacca series create makes one",
	"INVOICE_NOT_FOUND":  "ceralacca invoice ls lists them",
	"CREDENTIAL_UNKNOWN": "look at CERALACCA_API_KEY or --key-file",
	"API_KEY_UNKNOWN":    "is the key of this server? look at CERALACCA_SERVER, CERALACCA_API_KEY and --key-file",
}

func (c *cli) showFailure(f failure) {
	if f.ExitCode == exitUsage || f.ExitCode == exitInterrupted {
		fmt.Fprintf(c.errOut, "ceralacca: %s\n", f.Message)
	} else {
		fmt.Fprintf(c.errOut, "ceralacca: %s: %s\n", f.Code, f.Message)
	}
	for _, field := range f.Fields {
		if len(f.Fields) == 1 && strings.Contains(f.Message, field.Message) {
			continue // the message says it already
		}
		fmt.Fprintf(c.errOut, "  %s: %s (%s)\n", field.Path, field.Message, field.Code)
	}
	if hint := hints[f.Code]; hint != "" {
		fmt.Fprintf(c.errOut, "  %s\n", hint)
	}
	if f.Hint != "" {
		fmt.Fprintf(c.errOut, "  %s\n", f.Hint)
	}
	if f.RetryAfter != "" {
		fmt.Fprintf(c.errOut, "  try again in %s\n", f.RetryAfter)
	}
	if f.RequestID != "" {
		fmt.Fprintf(c.errOut, "  whether it was done is not known; to repeat it safely add --request-id %s\n", f.RequestID)
	}
}

// explain turns what gRPC says about a connection into what a person can mend. Faults that the server
// raised have codes of their own and pass unchanged.
func (c *cli) explain(f *fault.Fault) *fault.Fault {
	if f.Kind != fault.KindUnavailable {
		return f
	}
	text := f.Message
	if i := strings.LastIndex(text, "desc = "); i >= 0 {
		text = strings.Trim(text[i+len("desc = "):], `"`)
	}
	text = strings.TrimPrefix(text, "transport: ")
	switch {
	case f.Code == "DEADLINE_EXCEEDED" && strings.Contains(text, "context deadline exceeded"):
		return fault.Unavailable("DEADLINE_EXCEEDED", "no answer within %s: try again, or allow more with --timeout", c.timeout)
	case f.Code == "UNIMPLEMENTED":
		return fault.Unavailable("UNIMPLEMENTED", "the server does not know this method: it is older than this tool, or --server (%s) names another program: %s", c.server, text)
	case f.Code != "UNAVAILABLE":
		return f
	case strings.Contains(text, "x509:"):
		_, reason, _ := strings.Cut(text, "x509: ")
		return fault.Unavailable("SERVER_UNTRUSTED", "the certificate of the server %s is not accepted: %s: name the CA that signed it with --ca-file or CERALACCA_CA_FILE", c.server, reason)
	case strings.Contains(text, "does not look like a TLS handshake"):
		return fault.Unavailable("SERVER_UNTRUSTED", "the server %s does not speak TLS: is it the gRPC address, not the admin or sandbox one?", c.server)
	case strings.Contains(text, "produced zero addresses"), strings.Contains(text, "no such host"):
		return fault.Unavailable("SERVER_UNREACHABLE", "the name in --server (%s) does not resolve", c.server)
	case strings.Contains(text, "connection refused"):
		return fault.Unavailable("SERVER_UNREACHABLE", "nobody listens at %s: is the platform running, and is --server right?", c.server)
	}
	return fault.Unavailable("SERVER_UNREACHABLE", "the server %s cannot be reached: %s", c.server, text)
}
