package tsp

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // imprint hashes
	_ "crypto/sha512"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"ceralacca.dev/services/format/cms"
)

// MIME types of RFC 3161 over HTTP. spec: RFC3161 §3.4
const (
	MIMERequest  = "application/timestamp-query"
	MIMEResponse = "application/timestamp-reply"
)

var (
	oidSHA224 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 4} // in tokens of others only
	oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
)

type algorithmIdentifier struct {
	Algorithm  asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

type messageImprint struct {
	HashAlgorithm algorithmIdentifier
	HashedMessage []byte
}

type timeStampReq struct {
	Version    int
	Imprint    messageImprint
	Policy     asn1.ObjectIdentifier `asn1:"optional"`
	Nonce      *big.Int              `asn1:"optional"`
	CertReq    bool                  `asn1:"optional"`
	Extensions asn1.RawValue         `asn1:"optional,tag:0"`
}

// Request asks for a stamp over a digest. spec: RFC3161 §2.4.1
type Request struct {
	Hash    crypto.Hash // SHA-256, SHA-384 or SHA-512
	Digest  []byte
	Policy  asn1.ObjectIdentifier // nil: the authority's default
	Nonce   *big.Int              // nil: none
	CertReq bool                  // the token shall carry the authority's certificate
}

// ErrHash: the digest algorithm is not SHA-256, SHA-384 or SHA-512, or the length does not fit.
var ErrHash = errors.New("tsp: digest algorithm is not SHA-256, SHA-384 or SHA-512, or its length does not fit")

// Marshal gives the DER of the request. Errors: ErrHash.
func (r *Request) Marshal() ([]byte, error) {
	imprint, err := imprintOf(r.Hash, r.Digest)
	if err != nil {
		return nil, err
	}
	der, err := asn1.Marshal(timeStampReq{Version: 1, Imprint: imprint, Policy: r.Policy, Nonce: r.Nonce, CertReq: r.CertReq})
	if err != nil {
		return nil, fmt.Errorf("tsp: encode request: %w", err)
	}
	return der, nil
}

// ParseRequest reads a request. ErrHash tells an algorithm that is not accepted apart from a
// malformed request; ErrExtensions one that asks for extensions, none of which is known here.
func ParseRequest(der []byte) (*Request, error) {
	var raw timeStampReq
	rest, err := asn1.Unmarshal(der, &raw)
	if err != nil {
		return nil, fmt.Errorf("tsp: request: %w", err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("tsp: request: %d bytes after its end", len(rest))
	}
	if raw.Version != 1 {
		return nil, fmt.Errorf("tsp: request: version %d, 1 is expected", raw.Version)
	}
	h := hashOf(raw.Imprint.HashAlgorithm.Algorithm)
	if h == 0 || len(raw.Imprint.HashedMessage) != h.Size() {
		return nil, ErrHash
	}
	if len(raw.Extensions.FullBytes) > 0 {
		return nil, ErrExtensions
	}
	return &Request{
		Hash: h, Digest: raw.Imprint.HashedMessage, Policy: raw.Policy, Nonce: raw.Nonce, CertReq: raw.CertReq,
	}, nil
}

// ErrExtensions: the request carries extensions. spec: RFC3161 §2.4.1 (an unknown one is refused)
var ErrExtensions = errors.New("tsp: request extensions are not accepted")

func hashOf(oid asn1.ObjectIdentifier) crypto.Hash {
	switch {
	case oid.Equal(oidSHA256):
		return crypto.SHA256
	case oid.Equal(oidSHA384):
		return crypto.SHA384
	case oid.Equal(oidSHA512):
		return crypto.SHA512
	}
	return 0
}

func imprintOf(h crypto.Hash, digest []byte) (messageImprint, error) {
	var oid asn1.ObjectIdentifier
	switch h {
	case crypto.SHA256:
		oid = oidSHA256
	case crypto.SHA384:
		oid = oidSHA384
	case crypto.SHA512:
		oid = oidSHA512
	}
	if oid == nil || len(digest) != h.Size() {
		return messageImprint{}, ErrHash
	}
	return messageImprint{HashAlgorithm: algorithmIdentifier{Algorithm: oid}, HashedMessage: digest}, nil
}

// Status is PKIStatus. spec: RFC3161 §2.4.2
type Status int

// The statuses; a token comes with the first two only.
const (
	Granted                Status = 0
	GrantedWithMods        Status = 1
	Rejection              Status = 2
	Waiting                Status = 3
	RevocationWarning      Status = 4
	RevocationNotification Status = 5
)

func (s Status) String() string {
	names := [...]string{"granted", "grantedWithMods", "rejection", "waiting", "revocationWarning", "revocationNotification"}
	if s >= 0 && int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("status %d", int(s))
}

// Failure is one bit of PKIFailureInfo. spec: RFC3161 §2.4.2
type Failure int

// The failures that RFC 3161 allows.
const (
	FailBadAlg              Failure = 0
	FailBadRequest          Failure = 2
	FailBadDataFormat       Failure = 5
	FailTimeNotAvailable    Failure = 14
	FailUnacceptedPolicy    Failure = 15
	FailUnacceptedExtension Failure = 16
	FailAddInfoNotAvailable Failure = 17
	FailSystemFailure       Failure = 25
)

func (f Failure) String() string {
	switch f {
	case FailBadAlg:
		return "badAlg"
	case FailBadRequest:
		return "badRequest"
	case FailBadDataFormat:
		return "badDataFormat"
	case FailTimeNotAvailable:
		return "timeNotAvailable"
	case FailUnacceptedPolicy:
		return "unacceptedPolicy"
	case FailUnacceptedExtension:
		return "unacceptedExtension"
	case FailAddInfoNotAvailable:
		return "addInfoNotAvailable"
	case FailSystemFailure:
		return "systemFailure"
	}
	return fmt.Sprintf("failure %d", int(f))
}

type pkiStatusInfo struct {
	Status   int
	Text     []asn1.RawValue `asn1:"optional"`
	FailInfo asn1.BitString  `asn1:"optional"`
}

type timeStampResp struct {
	Status pkiStatusInfo
	Token  asn1.RawValue `asn1:"optional"`
}

// Response is an authority's answer.
type Response struct {
	Status   Status
	Text     []string
	Failures []Failure
	Token    []byte // DER or BER of the ContentInfo; nil when refused
}

// ParseResponse reads an answer; a refusal is not an error here (see Response.Err).
func ParseResponse(der []byte) (*Response, error) {
	var raw timeStampResp
	rest, err := asn1.Unmarshal(der, &raw)
	if err != nil {
		return nil, fmt.Errorf("tsp: response: %w", err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("tsp: response: %d bytes after its end", len(rest))
	}
	r := &Response{Status: Status(raw.Status.Status)}
	for _, t := range raw.Status.Text {
		r.Text = append(r.Text, string(t.Bytes))
	}
	for i := range raw.Status.FailInfo.BitLength {
		if raw.Status.FailInfo.At(i) == 1 {
			r.Failures = append(r.Failures, Failure(i))
		}
	}
	if len(raw.Token.FullBytes) > 0 {
		r.Token = raw.Token.FullBytes
	}
	if r.Err() == nil && r.Token == nil {
		return nil, errors.New("tsp: response: granted, but without a token")
	}
	return r, nil
}

// Err is nil for granted and grantedWithMods, else a *RefusedError.
func (r *Response) Err() error {
	if r.Status == Granted || r.Status == GrantedWithMods {
		return nil
	}
	return &RefusedError{Status: r.Status, Text: r.Text, Failures: r.Failures}
}

// Marshal gives the DER of the answer.
func (r *Response) Marshal() ([]byte, error) {
	raw := timeStampResp{Status: pkiStatusInfo{Status: int(r.Status)}}
	for _, t := range r.Text {
		raw.Status.Text = append(raw.Status.Text, asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagUTF8String, Bytes: []byte(t)})
	}
	if len(r.Failures) > 0 {
		raw.Status.FailInfo = failureBits(r.Failures)
	}
	if r.Token != nil {
		raw.Token = asn1.RawValue{FullBytes: r.Token}
	}
	der, err := asn1.Marshal(raw)
	if err != nil {
		return nil, fmt.Errorf("tsp: encode response: %w", err)
	}
	return der, nil
}

// failureBits makes a named bit string: no trailing zero bits. spec: X690 §11.2.2
func failureBits(list []Failure) asn1.BitString {
	last := 0
	for _, f := range list {
		last = max(last, int(f))
	}
	bits := asn1.BitString{Bytes: make([]byte, last/8+1), BitLength: last + 1}
	for _, f := range list {
		bits.Bytes[f/8] |= 0x80 >> (f % 8)
	}
	return bits
}

// accuracy: absent fields are zero.
type accuracy struct {
	Seconds int `asn1:"optional"`
	Millis  int `asn1:"optional,tag:0"`
	Micros  int `asn1:"optional,tag:1"`
}

type tstInfo struct {
	Version    int
	Policy     asn1.ObjectIdentifier
	Imprint    messageImprint
	Serial     *big.Int
	GenTime    time.Time     `asn1:"generalized"`
	Accuracy   accuracy      `asn1:"optional"`
	Ordering   bool          `asn1:"optional"`
	Nonce      *big.Int      `asn1:"optional"`
	TSA        asn1.RawValue `asn1:"optional,tag:0"`
	Extensions asn1.RawValue `asn1:"optional,tag:1"`
}

// Info is what a token states. spec: RFC3161 §2.4.2
type Info struct {
	Policy   asn1.ObjectIdentifier
	Hash     crypto.Hash
	Digest   []byte
	Serial   *big.Int
	Time     time.Time
	Accuracy time.Duration // zero: not stated
	Ordering bool
	Nonce    *big.Int // nil: none
}

// Token is a time-stamp token that was read; Verify says whether it holds.
type Token struct {
	Raw    []byte
	Info   Info
	Signed *cms.SignedData
}

// ParseToken reads a token (a ContentInfo); a whole response (".tsr") is accepted too.
func ParseToken(raw []byte) (*Token, error) {
	sd, err := cms.Parse(raw)
	if err != nil {
		resp, respErr := ParseResponse(raw)
		if respErr != nil || resp.Token == nil {
			return nil, fmt.Errorf("tsp: token: %w", err)
		}
		raw = resp.Token
		if sd, err = cms.Parse(raw); err != nil {
			return nil, fmt.Errorf("tsp: token in the response: %w", err)
		}
	}
	if !sd.ContentType.Equal(cms.OIDTSTInfo) {
		return nil, fmt.Errorf("tsp: token: content is %v, not a time-stamp", sd.ContentType)
	}
	info, err := parseInfo(sd.Content())
	if err != nil {
		return nil, err
	}
	return &Token{Raw: bytes.Clone(raw), Info: info, Signed: sd}, nil
}

func parseInfo(der []byte) (Info, error) {
	var raw tstInfo
	rest, err := asn1.Unmarshal(der, &raw)
	if err != nil || len(rest) > 0 {
		return Info{}, fmt.Errorf("tsp: TSTInfo is malformed (%d bytes after its end): %w", len(rest), err)
	}
	h := hashOf(raw.Imprint.HashAlgorithm.Algorithm)
	if raw.Imprint.HashAlgorithm.Algorithm.Equal(oidSHA224) {
		h = crypto.SHA224
	}
	if h == 0 {
		return Info{}, fmt.Errorf("tsp: TSTInfo: imprint algorithm %v: %w", raw.Imprint.HashAlgorithm.Algorithm, ErrHash)
	}
	acc := time.Duration(raw.Accuracy.Seconds)*time.Second +
		time.Duration(raw.Accuracy.Millis)*time.Millisecond + time.Duration(raw.Accuracy.Micros)*time.Microsecond
	return Info{
		Policy: raw.Policy, Hash: h, Digest: raw.Imprint.HashedMessage, Serial: raw.Serial,
		Time: raw.GenTime, Accuracy: acc, Ordering: raw.Ordering, Nonce: raw.Nonce,
	}, nil
}
