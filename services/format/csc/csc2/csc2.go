// Package csc2 holds the messages of the Cloud Signature Consortium API, version 2.0.0.2: what a server
// reads and a client writes, and the other way round. Members that this project does not use (OAuth 2.0
// endpoints, auth/login) are not there.
package csc2

import (
	"ceralacca.dev/services/format/csc"
)

// Specs is the version as info gives it. spec: CSC-2.0.0.2 §11.1
const Specs = "2.0.0.2"

// Methods, by the path below csc/v2/. spec: CSC-2.0.0.2 §11
const (
	Info        = "info"
	List        = "credentials/list"
	Credential  = "credentials/info"
	Authorize   = "credentials/authorize"
	Check       = "credentials/authorizeCheck"
	Challenge   = "credentials/getChallenge"
	SendOTP     = "credentials/sendOTP"
	Extend      = "credentials/extendTransaction"
	SignHash    = "signatures/signHash"
	SignDoc     = "signatures/signDoc"
	SignPolling = "signatures/signPolling"
	Timestamp   = "signatures/timestamp"
)

// Bounds of strings, in bytes.
const (
	maxClientData  = 4096
	maxDescription = 2000 // 500 characters
	maxName        = 512
	maxSecret      = 64
)

// InfoRequest asks what the service offers. spec: CSC-2.0.0.2 §11.1
type InfoRequest struct {
	Lang string `json:"lang,omitempty"`
}

// InfoResponse says what the service offers. spec: CSC-2.0.0.2 §11.1
type InfoResponse struct {
	Specs             string     `json:"specs"`
	Name              string     `json:"name"`
	Logo              string     `json:"logo"`
	Region            string     `json:"region"`
	Lang              string     `json:"lang"`
	Description       string     `json:"description"`
	AuthType          []string   `json:"authType"`
	OAuth2            string     `json:"oauth2,omitempty"`
	OAuth2Issuer      string     `json:"oauth2Issuer,omitempty"`
	AsynchronousMode  bool       `json:"asynchronousOperationMode"`
	Methods           []string   `json:"methods"`
	ValidationInfo    bool       `json:"validationInfo"`
	SignAlgorithms    Algorithms `json:"signAlgorithms"`
	SignatureFormats  Formats    `json:"signature_formats"`
	ConformanceLevels []string   `json:"conformance_levels"`
}

// Algorithms are what the service signs with.
type Algorithms struct {
	Algos      []string `json:"algos"`
	AlgoParams []string `json:"algoParams,omitempty"`
}

// Formats are the forms of signDoc, and the envelopes of each.
type Formats struct {
	Formats   []string   `json:"formats"`
	Envelopes [][]string `json:"envelope_properties,omitempty"`
}

// ListRequest asks for credentials. spec: CSC-2.0.0.2 §11.4
type ListRequest struct {
	UserID         string `json:"userID,omitempty"`
	CredentialInfo bool   `json:"credentialInfo,omitempty"`
	OnlyValid      bool   `json:"onlyValid,omitempty"`
	Detail
}

// Detail is how much is said of a credential. spec: CSC-2.0.0.2 §11.4, §11.5
type Detail struct {
	Certificates string `json:"certificates,omitempty"` // none, single, chain
	CertInfo     bool   `json:"certInfo,omitempty"`
	AuthInfo     bool   `json:"authInfo,omitempty"`
	Lang         string `json:"lang,omitempty"`
	ClientData   string `json:"clientData,omitempty"`
}

// ListResponse names credentials. spec: CSC-2.0.0.2 §11.4
type ListResponse struct {
	CredentialIDs   []string         `json:"credentialIDs"`
	CredentialInfos []CredentialInfo `json:"credentialInfos,omitempty"`
	OnlyValid       bool             `json:"onlyValid,omitempty"`
}

// CredentialRequest asks about one credential. spec: CSC-2.0.0.2 §11.5
type CredentialRequest struct {
	CredentialID string `json:"credentialID"`
	Detail
}

// CredentialInfo says what a credential is. In the answer of credentials/info it has no id.
// spec: CSC-2.0.0.2 §11.4, §11.5
type CredentialInfo struct {
	CredentialID       string `json:"credentialID,omitempty"`
	Description        string `json:"description,omitempty"`
	SignatureQualifier string `json:"signatureQualifier,omitempty"`
	Key                Key    `json:"key"`
	Cert               Cert   `json:"cert"`
	Auth               *Auth  `json:"auth,omitempty"`
	SCAL               string `json:"SCAL,omitempty"`
	Multisign          int    `json:"multisign"`
	Lang               string `json:"lang,omitempty"`
}

// Key is the signing key.
type Key struct {
	Status string   `json:"status"` // enabled, disabled
	Algo   []string `json:"algo"`
	Len    int      `json:"len"`             // bits
	Curve  string   `json:"curve,omitempty"` // object identifier
}

// Cert is the certificate, in DER, and what stands in it.
type Cert struct {
	Status       string   `json:"status,omitempty"` // valid, expired, revoked, suspended
	Certificates [][]byte `json:"certificates,omitempty"`
	IssuerDN     string   `json:"issuerDN,omitempty"`
	SerialNumber string   `json:"serialNumber,omitempty"` // hexadecimal
	SubjectDN    string   `json:"subjectDN,omitempty"`
	ValidFrom    string   `json:"validFrom,omitempty"` // GeneralizedTime
	ValidTo      string   `json:"validTo,omitempty"`
}

// Auth is how the use of a credential is authorized. spec: CSC-2.0.0.2 §8.3, §11.5
type Auth struct {
	Mode       string       `json:"mode"` // explicit, oauth2code
	Expression string       `json:"expression,omitempty"`
	Objects    []AuthObject `json:"objects,omitempty"`
}

// AuthObject is one thing that is to be shown. spec: CSC-2.0.0.2 §8.3.1
type AuthObject struct {
	Type        string `json:"type"` // Password, PasswordOOB, ChallengeResponse, ChallengeResponseOOB
	ID          string `json:"id"`
	Format      string `json:"format,omitempty"` // A, N
	Generator   string `json:"generator,omitempty"`
	Label       string `json:"label,omitempty"`
	Description string `json:"description,omitempty"`
}

// AuthValue is one thing that is shown. spec: CSC-2.0.0.2 §8.3.1
type AuthValue struct {
	ID    string `json:"id"`
	Value string `json:"value,omitempty"`
}

// AuthorizeRequest asks for a SAD. spec: CSC-2.0.0.2 §11.6
type AuthorizeRequest struct {
	CredentialID  string      `json:"credentialID"`
	NumSignatures int         `json:"numSignatures"`
	Hashes        [][]byte    `json:"hashes,omitempty"`
	HashAlgorithm string      `json:"hashAlgorithmOID,omitempty"`
	AuthData      []AuthValue `json:"authData,omitempty"`
	Description   string      `json:"description,omitempty"`
	ClientData    string      `json:"clientData,omitempty"`
}

// SADResponse is what authorize, authorizeCheck and extendTransaction give. spec: CSC-2.0.0.2 §11.6, §11.7, §11.9
type SADResponse struct {
	SAD       string `json:"SAD,omitempty"`
	ExpiresIn int    `json:"expiresIn,omitempty"` // seconds; 3600 when missing
	Handle    string `json:"handle,omitempty"`    // with status 202
}

// CheckRequest asks how far an authorization is. spec: CSC-2.0.0.2 §11.7
type CheckRequest struct {
	Handle string `json:"handle"`
}

// ChallengeRequest has a challenge made, or a password sent. spec: CSC-2.0.0.2 §11.8
//
// Hashes, HashAlgorithm and NumSignatures are not of the specification, which lets servers pass over
// members that they do not know: a server that knows them binds what it sends to those hashes.
type ChallengeRequest struct {
	CredentialID  string   `json:"credentialID"`
	AuthObjectID  string   `json:"authObjectID,omitempty"`
	Hashes        [][]byte `json:"hashes,omitempty"`
	HashAlgorithm string   `json:"hashAlgorithmOID,omitempty"`
	NumSignatures int      `json:"numSignatures,omitempty"`
	ClientData    string   `json:"clientData,omitempty"`
}

// ChallengeResponse is a challenge to be shown. spec: CSC-2.0.0.2 §11.8
type ChallengeResponse struct {
	Challenge string `json:"challenge"`
}

// ExtendRequest asks for the next SAD of a transaction. spec: CSC-2.0.0.2 §11.9
type ExtendRequest struct {
	CredentialID  string   `json:"credentialID"`
	SAD           string   `json:"SAD"`
	Hashes        [][]byte `json:"hashes,omitempty"`
	HashAlgorithm string   `json:"hashAlgorithmOID,omitempty"`
	ClientData    string   `json:"clientData,omitempty"`
}

// SignHashRequest asks for signatures of digests. spec: CSC-2.0.0.2 §11.10
type SignHashRequest struct {
	CredentialID   string   `json:"credentialID"`
	SAD            string   `json:"SAD,omitempty"`
	Hashes         [][]byte `json:"hashes"`
	HashAlgorithm  string   `json:"hashAlgorithmOID,omitempty"`
	SignAlgo       string   `json:"signAlgo"`
	SignAlgoParams []byte   `json:"signAlgoParams,omitempty"`
	OperationMode  string   `json:"operationMode,omitempty"` // S, A
	ClientData     string   `json:"clientData,omitempty"`
}

// SignHashResponse has the signatures in the order of the digests. spec: CSC-2.0.0.2 §11.10
type SignHashResponse struct {
	Signatures [][]byte `json:"signatures,omitempty"`
	ResponseID string   `json:"responseID,omitempty"`
}

// SignDocRequest asks for AdES signatures. spec: CSC-2.0.0.2 §11.11
type SignDocRequest struct {
	CredentialID         string           `json:"credentialID,omitempty"`
	SignatureQualifier   string           `json:"signatureQualifier,omitempty"`
	SAD                  string           `json:"SAD,omitempty"`
	DocumentDigests      []DocumentDigest `json:"documentDigests,omitempty"`
	Documents            []Document       `json:"documents,omitempty"`
	OperationMode        string           `json:"operationMode,omitempty"`
	ClientData           string           `json:"clientData,omitempty"`
	ReturnValidationInfo bool             `json:"returnValidationInfo,omitempty"`
}

// Form is how a document is signed. spec: CSC-2.0.0.2 §11.11
type Form struct {
	Format         string       `json:"signature_format"` // C, X, P, J
	Level          string       `json:"conformance_level,omitempty"`
	SignAlgo       string       `json:"signAlgo"`
	SignAlgoParams []byte       `json:"signAlgoParams,omitempty"`
	SignedProps    []SignedProp `json:"signed_props,omitempty"`
	Envelope       string       `json:"signed_envelope_property,omitempty"`
}

// SignedProp is a signed attribute.
type SignedProp struct {
	Name  string `json:"attribute_name"`
	Value string `json:"attribute_value,omitempty"`
}

// DocumentDigest are documents of which only the digests leave the house.
type DocumentDigest struct {
	Hashes        [][]byte `json:"hashes"`
	HashAlgorithm string   `json:"hashAlgorithmOID,omitempty"`
	Form
}

// Document is a document.
type Document struct {
	Document []byte `json:"document"`
	Form
}

// SignDocResponse has what was signed, each list in the order of the request. spec: CSC-2.0.0.2 §11.11
type SignDocResponse struct {
	DocumentWithSignature [][]byte `json:"DocumentWithSignature,omitempty"`
	SignatureObject       [][]byte `json:"SignatureObject,omitempty"`
	ResponseID            string   `json:"responseID,omitempty"`
}

// TimestampRequest asks for a time-stamp. spec: CSC-2.0.0.2 §11.13
type TimestampRequest struct {
	Hash       []byte `json:"hash"`
	HashAlgo   string `json:"hashAlgo"`
	Nonce      string `json:"nonce,omitempty"` // hexadecimal
	ClientData string `json:"clientData,omitempty"`
}

// TimestampResponse has the token, DER. spec: CSC-2.0.0.2 §11.13
type TimestampResponse struct {
	Timestamp []byte `json:"timestamp"`
}

// HashSize is how many bytes a digest of the algorithm has: 0 for one that is not known.
func HashSize(oid string) int {
	switch oid {
	case csc.SHA256:
		return 32
	case csc.SHA384:
		return 48
	case csc.SHA512:
		return 64
	}
	return 0
}
