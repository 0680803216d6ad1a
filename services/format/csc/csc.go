// Package csc holds what both versions of the Cloud Signature Consortium API have in common: names of
// algorithms, errors as they travel, and a reader of requests that says what the specification has it
// say. The messages themselves are in csc1 (version 1.0.4.0) and csc2 (version 2.0.0.2).
//
// It refuses members that come twice, members of another type, base64 with line breaks, and text that
// is not UTF-8. Members that it does not know are passed over, as are those that are null.
package csc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Algorithms, by object identifier. spec: CSC-2.0.0.2 §5, §7.5
const (
	SHA256        = "2.16.840.1.101.3.4.2.1"
	SHA384        = "2.16.840.1.101.3.4.2.2"
	SHA512        = "2.16.840.1.101.3.4.2.3"
	RSA           = "1.2.840.113549.1.1.1" // hash algorithm named apart
	SHA256WithRSA = "1.2.840.113549.1.1.11"
	PSS           = "1.2.840.113549.1.1.10"
	ECDSASHA256   = "1.2.840.10045.4.3.2"
	P256          = "1.2.840.10045.3.1.7"
)

// Error codes. spec: CSC-2.0.0.2 §10.2, CSC-1.0.4.0 §10.2
const (
	CodeInvalidRequest = "invalid_request"
	CodeInvalidAuth    = "invalid_authentication_data" // version 2
	CodeInvalidPIN     = "invalid_pin"                 // version 1
	CodeInvalidOTP     = "invalid_otp"
	CodeInvalidHash    = "invalid_hash"
	CodeInvalidToken   = "invalid_token"
	CodeExpiredToken   = "expired_token"
	CodeAccessDenied   = "access_denied"
	CodeServerError    = "server_error"
	CodeUnavailable    = "temporarily_unavailable"
)

// Error is an error as it travels. spec: CSC-2.0.0.2 §10.2
type Error struct {
	Status      int           `json:"-"` // of HTTP
	Code        string        `json:"error"`
	Description string        `json:"error_description,omitempty"`
	RetryAfter  time.Duration `json:"-"` // 0: not said
}

// Error shows code and description.
func (e *Error) Error() string {
	if e.Description == "" {
		return "csc: " + e.Code
	}
	return "csc: " + e.Code + ": " + e.Description
}

// Invalid is the error of almost everything that a caller does wrong: 400 invalid_request.
func Invalid(format string, a ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: CodeInvalidRequest, Description: fmt.Sprintf(format, a...)}
}

// InvalidParameter says that a parameter has a value that it cannot have.
func InvalidParameter(name string) *Error { return Invalid("Invalid parameter %s", name) }

// ReadError reads the body of an answer that is no success. One that is not as it should be keeps its
// status and has the code server_error.
func ReadError(status int, body []byte) *Error {
	e := &Error{Status: status}
	if json.Unmarshal(body, e) != nil || e.Code == "" {
		return &Error{Status: status, Code: CodeServerError, Description: "the answer " + strconv.Itoa(status) + " says no error"}
	}
	return e
}

// Reader reads the members of a request, one after the other. The first that is wrong stays the error
// of the whole; what is read after it is empty.
type Reader struct {
	members map[string]json.RawMessage
	err     *Error
}

// Read takes a request apart. No bytes are an object without members.
func Read(body []byte) (*Reader, error) {
	r := &Reader{members: map[string]json.RawMessage{}}
	if len(bytes.TrimSpace(body)) == 0 {
		return r, nil
	}
	if !utf8.Valid(body) {
		return nil, Invalid("The request is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	open, err := dec.Token()
	if err != nil || open != json.Delim('{') {
		return nil, Invalid("The request is not a JSON object")
	}
	for dec.More() {
		key, err := dec.Token()
		name, ok := key.(string)
		var value json.RawMessage
		if err == nil {
			err = dec.Decode(&value)
		}
		if err != nil || !ok {
			return nil, Invalid("The request is not a JSON object")
		}
		if _, twice := r.members[name]; twice {
			return nil, Invalid("Parameter %.40q is repeated", name)
		}
		r.members[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, Invalid("The request is not a JSON object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, Invalid("Something follows the JSON object of the request")
	}
	return r, nil
}

// Err is the first thing that was wrong, nil when there was none.
func (r *Reader) Err() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

// Fail makes e the error of the whole, unless there is one.
func (r *Reader) Fail(e *Error) {
	if r.err == nil {
		r.err = e
	}
}

// Has says whether a member is there and not null.
func (r *Reader) Has(name string) bool {
	value, ok := r.members[name]
	return ok && !bytes.Equal(value, []byte("null"))
}

// member reads one member into dst and says whether it is there. what is its type for the error of one
// that has to be there; "" for one that may be missing.
func (r *Reader) member(name, what string, dst any) bool {
	if r.err != nil {
		return false
	}
	if !r.Has(name) {
		if what != "" {
			r.missing(what, name)
		}
		return false
	}
	if json.Unmarshal(r.members[name], dst) == nil {
		return true
	}
	if what != "" {
		r.missing(what, name)
	} else {
		r.Fail(InvalidParameter(name))
	}
	return false
}

func (r *Reader) missing(what, name string) {
	r.Fail(Invalid("Missing (or invalid type) %s parameter %s", what, name))
}

// String reads a string that has to be there and not empty.
func (r *Reader) String(name string) string {
	var s string
	if r.member(name, "string", &s) && s == "" {
		r.missing("string", name)
	}
	return s
}

// Optional reads a string of at most limit bytes that may be missing.
func (r *Reader) Optional(name string, limit int) string {
	var s string
	if r.member(name, "", &s) && len(s) > limit {
		r.Fail(InvalidParameter(name))
	}
	return s
}

// Bool reads a boolean that is false when it is missing.
func (r *Reader) Bool(name string) bool {
	var b bool
	r.member(name, "", &b)
	return b
}

// Int reads a whole number that has to be there.
func (r *Reader) Int(name string) int {
	var n json.Number
	if !r.member(name, "integer", &n) {
		return 0
	}
	// 1, 1.0 and 1e0 are one number; "1" is none.
	f, err := n.Float64()
	if err != nil || f != math.Trunc(f) || math.Abs(f) > math.MaxInt32 || bytes.HasPrefix(r.members[name], []byte(`"`)) {
		r.missing("integer", name)
		return 0
	}
	return int(f)
}

// OptionalInt reads a whole number that may be missing.
func (r *Reader) OptionalInt(name string) int {
	if r.err != nil || !r.Has(name) {
		return 0
	}
	n := r.Int(name)
	if r.err != nil {
		r.err = InvalidParameter(name)
	}
	return n
}

// Strings reads an array of strings; nil when it is missing.
func (r *Reader) Strings(name string) []string {
	var list []*string
	if !r.member(name, "", &list) {
		return nil
	}
	out := make([]string, len(list))
	for i, s := range list {
		if s == nil {
			r.Fail(InvalidParameter(name))
			return nil
		}
		out[i] = *s
	}
	return out
}

// Hashes reads an array of digests in base64. When it has to be there, its not being there is an error,
// and so is its being empty. The digests are of size bytes each.
func (r *Reader) Hashes(name string, required bool, size int) [][]byte {
	if r.err != nil || (!required && !r.Has(name)) {
		return nil
	}
	list := r.Strings(name)
	if r.err != nil || list == nil {
		r.err = nil
		r.missing("array", name)
		return nil
	}
	if len(list) == 0 {
		r.Fail(Invalid("Empty hash array"))
	}
	out := make([][]byte, 0, len(list))
	for _, s := range list {
		digest, err := Base64(s)
		switch {
		case err != nil:
			r.Fail(Invalid("Invalid Base64 hash string parameter"))
		case len(digest) != size:
			r.Fail(Invalid("Invalid digest value length"))
		}
		out = append(out, digest)
	}
	return out
}

// Bytes reads a string in base64 that may be missing; nil when there are no bytes.
func (r *Reader) Bytes(name string) []byte {
	var s string
	if !r.member(name, "", &s) {
		return nil
	}
	b, err := Base64(s)
	if err != nil {
		r.Fail(InvalidParameter(name))
	}
	if len(b) == 0 {
		return nil
	}
	return b
}

// Objects reads an array of objects, each with a reader of its own; nil when it is missing. What is no
// such array has the error bad. An error in one of the objects is the error of r once Join was called.
func (r *Reader) Objects(name string, bad *Error) []*Reader {
	if r.err != nil || !r.Has(name) {
		return nil
	}
	var list []json.RawMessage
	if json.Unmarshal(r.members[name], &list) != nil {
		r.Fail(bad)
		return nil
	}
	out := make([]*Reader, len(list))
	for i, raw := range list {
		one, err := Read(raw)
		if err != nil {
			r.Fail(bad)
			return nil
		}
		out[i] = one
	}
	return out
}

// Join takes over the error of an object of this one.
func (r *Reader) Join(of *Reader) {
	if of.err != nil {
		r.Fail(of.err)
	}
}

var errBase64 = errors.New("csc: not base64")

// Base64 decodes the standard alphabet with padding and without line breaks. spec: RFC4648 §4
func Base64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errBase64
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errBase64
	}
	return b, nil
}

// Time writes a time as GeneralizedTime. spec: CSC-2.0.0.2 §11.4 validFrom
func Time(t time.Time) string { return t.UTC().Format("20060102150405Z") }
