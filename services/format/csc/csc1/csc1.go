// Package csc1 holds the messages of the Cloud Signature Consortium API, version 1.0.4.0, which many
// providers still speak: what a server reads and a client writes, and the other way round. OAuth 2.0
// endpoints are not there.
package csc1

import (
	"encoding/json"
	"slices"

	"ceralacca.dev/services/format/csc"
)

// Specs is the version as info gives it. spec: CSC-1.0.4.0 §11.1
const Specs = "1.0.4.0"

// Methods, by the path below csc/v1/. spec: CSC-1.0.4.0 §11
const (
	Info       = "info"
	Login      = "auth/login"
	Revoke     = "auth/revoke"
	List       = "credentials/list"
	Credential = "credentials/info"
	Authorize  = "credentials/authorize"
	Extend     = "credentials/extendTransaction"
	SendOTP    = "credentials/sendOTP"
	SignHash   = "signatures/signHash"
	Timestamp  = "signatures/timestamp"
)

const (
	maxClientData  = 4096
	maxDescription = 2000
	maxName        = 512
	maxSecret      = 64
)

// InfoRequest asks what the service offers. spec: CSC-1.0.4.0 §11.1
type InfoRequest struct {
	Lang string `json:"lang,omitempty"`
}

// InfoResponse says what the service offers. spec: CSC-1.0.4.0 §11.1
type InfoResponse struct {
	Specs       string   `json:"specs"`
	Name        string   `json:"name"`
	Logo        string   `json:"logo"`
	Region      string   `json:"region"`
	Lang        string   `json:"lang"`
	Description string   `json:"description"`
	AuthType    []string `json:"authType"`
	OAuth2      string   `json:"oauth2,omitempty"`
	Methods     []string `json:"methods"`
}

// LoginRequest asks for an access token with HTTP Basic. spec: CSC-1.0.4.0 §11.2
type LoginRequest struct {
	RefreshToken string `json:"refresh_token,omitempty"`
	RememberMe   bool   `json:"rememberMe,omitempty"`
	ClientData   string `json:"clientData,omitempty"`
}

// LoginResponse has an access token. spec: CSC-1.0.4.0 §11.2
type LoginResponse struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token,omitempty"`
	ExpiresIn    int    `json:"expires_in,omitempty"` // seconds; 3600 when missing
}

// ListRequest asks for credentials, by pages. spec: CSC-1.0.4.0 §11.4
type ListRequest struct {
	UserID     string `json:"userID,omitempty"`
	MaxResults int    `json:"maxResults,omitempty"`
	PageToken  string `json:"pageToken,omitempty"`
	ClientData string `json:"clientData,omitempty"`
}

// ListResponse names credentials. spec: CSC-1.0.4.0 §11.4
type ListResponse struct {
	CredentialIDs []string `json:"credentialIDs"`
	NextPageToken string   `json:"nextPageToken,omitempty"`
}

// CredentialRequest asks about one credential. spec: CSC-1.0.4.0 §11.5
type CredentialRequest struct {
	CredentialID string `json:"credentialID"`
	Certificates string `json:"certificates,omitempty"` // none, single, chain
	CertInfo     bool   `json:"certInfo,omitempty"`
	AuthInfo     bool   `json:"authInfo,omitempty"`
	Lang         string `json:"lang,omitempty"`
	ClientData   string `json:"clientData,omitempty"`
}

// CredentialInfo says what a credential is. spec: CSC-1.0.4.0 §11.5
type CredentialInfo struct {
	Description string `json:"description,omitempty"`
	Key         Key    `json:"key"`
	Cert        Cert   `json:"cert"`
	AuthMode    string `json:"authMode"` // implicit, explicit, oauth2code
	SCAL        string `json:"SCAL,omitempty"`
	PIN         *PIN   `json:"PIN,omitempty"`
	OTP         *OTP   `json:"OTP,omitempty"`
	Multisign   int    `json:"multisign"`
	Lang        string `json:"lang,omitempty"`
}

// Key is the signing key.
type Key struct {
	Status string   `json:"status"`
	Algo   []string `json:"algo"`
	Len    int      `json:"len"`
	Curve  string   `json:"curve,omitempty"`
}

// Cert is the certificate, in DER, and what stands in it.
type Cert struct {
	Status       string   `json:"status,omitempty"`
	Certificates [][]byte `json:"certificates,omitempty"`
	IssuerDN     string   `json:"issuerDN,omitempty"`
	SerialNumber string   `json:"serialNumber,omitempty"`
	SubjectDN    string   `json:"subjectDN,omitempty"`
	ValidFrom    string   `json:"validFrom,omitempty"`
	ValidTo      string   `json:"validTo,omitempty"`
}

// Presence is true, false or optional; servers write it as a string and as a boolean.
type Presence string

// UnmarshalJSON takes both.
func (p *Presence) UnmarshalJSON(raw []byte) error {
	switch string(raw) {
	case "true", "false":
		*p = Presence(raw)
		return nil
	}
	return json.Unmarshal(raw, (*string)(p))
}

// PIN says whether and how a PIN is asked.
type PIN struct {
	Presence    Presence `json:"presence"`
	Format      string   `json:"format,omitempty"` // A, N
	Label       string   `json:"label,omitempty"`
	Description string   `json:"description,omitempty"`
}

// OTP says whether and how a one-time password is asked.
type OTP struct {
	Presence    Presence `json:"presence"`
	Type        string   `json:"type,omitempty"` // online: sendOTP sends it; offline: a device shows it
	Format      string   `json:"format,omitempty"`
	Label       string   `json:"label,omitempty"`
	Description string   `json:"description,omitempty"`
	ID          string   `json:"ID,omitempty"`
	Provider    string   `json:"provider,omitempty"`
}

// SendOTPRequest has a password sent. spec: CSC-1.0.4.0 §11.8
type SendOTPRequest struct {
	CredentialID string `json:"credentialID"`
	ClientData   string `json:"clientData,omitempty"`
}

// AuthorizeRequest asks for a SAD. spec: CSC-1.0.4.0 §11.6
type AuthorizeRequest struct {
	CredentialID  string   `json:"credentialID"`
	NumSignatures int      `json:"numSignatures"`
	Hash          [][]byte `json:"hash,omitempty"`
	PIN           string   `json:"PIN,omitempty"`
	OTP           string   `json:"OTP,omitempty"`
	Description   string   `json:"description,omitempty"`
	ClientData    string   `json:"clientData,omitempty"`
}

// SADResponse is what authorize and extendTransaction give. spec: CSC-1.0.4.0 §11.6, §11.7
type SADResponse struct {
	SAD       string `json:"SAD"`
	ExpiresIn int    `json:"expiresIn,omitempty"` // seconds; 3600 when missing
}

// ExtendRequest asks for the next SAD of a transaction. spec: CSC-1.0.4.0 §11.7
type ExtendRequest struct {
	CredentialID string   `json:"credentialID"`
	Hash         [][]byte `json:"hash,omitempty"`
	SAD          string   `json:"SAD"`
	ClientData   string   `json:"clientData,omitempty"`
}

// SignHashRequest asks for signatures of digests. spec: CSC-1.0.4.0 §11.9
type SignHashRequest struct {
	CredentialID   string   `json:"credentialID"`
	SAD            string   `json:"SAD"`
	Hash           [][]byte `json:"hash"`
	HashAlgo       string   `json:"hashAlgo,omitempty"`
	SignAlgo       string   `json:"signAlgo"`
	SignAlgoParams []byte   `json:"signAlgoParams,omitempty"`
	ClientData     string   `json:"clientData,omitempty"`
}

// SignHashResponse has the signatures in the order of the digests. spec: CSC-1.0.4.0 §11.9
type SignHashResponse struct {
	Signatures [][]byte `json:"signatures"`
}

// ReadList reads a request of credentials/list.
func ReadList(r *csc.Reader) (*ListRequest, error) {
	req := &ListRequest{UserID: r.Optional("userID", maxName), MaxResults: r.OptionalInt("maxResults")}
	req.PageToken, req.ClientData = r.Optional("pageToken", maxName), r.Optional("clientData", maxClientData)
	if req.MaxResults < 0 {
		r.Fail(csc.InvalidParameter("maxResults"))
	}
	return req, r.Err()
}

// ReadCredential reads a request of credentials/info.
func ReadCredential(r *csc.Reader) (*CredentialRequest, error) {
	req := &CredentialRequest{
		CredentialID: r.String("credentialID"), Certificates: r.Optional("certificates", maxName),
		CertInfo: r.Bool("certInfo"), AuthInfo: r.Bool("authInfo"), Lang: r.Optional("lang", maxName),
	}
	if !slices.Contains([]string{"", "none", "single", "chain"}, req.Certificates) {
		r.Fail(csc.InvalidParameter("certificates"))
	}
	req.ClientData = r.Optional("clientData", maxClientData)
	return req, r.Err()
}

// ReadSendOTP reads a request of credentials/sendOTP.
func ReadSendOTP(r *csc.Reader) (*SendOTPRequest, error) {
	req := &SendOTPRequest{CredentialID: r.String("credentialID"), ClientData: r.Optional("clientData", maxClientData)}
	return req, r.Err()
}

// ReadAuthorize reads a request of credentials/authorize. The digests are of SHA-256.
func ReadAuthorize(r *csc.Reader) (*AuthorizeRequest, error) {
	req := &AuthorizeRequest{CredentialID: r.String("credentialID"), NumSignatures: r.Int("numSignatures")}
	if req.NumSignatures < 1 {
		r.Fail(csc.Invalid("Invalid value for parameter numSignatures"))
	}
	req.Hash = r.Hashes("hash", false, 32)
	req.PIN, req.OTP = r.Optional("PIN", maxSecret), r.Optional("OTP", maxSecret)
	req.Description, req.ClientData = r.Optional("description", maxDescription), r.Optional("clientData", maxClientData)
	return req, r.Err()
}

// ReadExtend reads a request of credentials/extendTransaction.
func ReadExtend(r *csc.Reader) (*ExtendRequest, error) {
	req := &ExtendRequest{CredentialID: r.String("credentialID"), SAD: r.String("SAD"), Hash: r.Hashes("hash", false, 32)}
	req.ClientData = r.Optional("clientData", maxClientData)
	return req, r.Err()
}

// ReadSignHash reads a request of signatures/signHash. The digests are of SHA-256.
func ReadSignHash(r *csc.Reader) (*SignHashRequest, error) {
	req := &SignHashRequest{SAD: r.String("SAD"), CredentialID: r.String("credentialID"), SignAlgo: r.String("signAlgo")}
	switch req.SignAlgo {
	case csc.RSA:
		req.HashAlgo = r.String("hashAlgo")
	case csc.SHA256WithRSA, csc.ECDSASHA256:
		req.HashAlgo = csc.SHA256
	default:
		r.Fail(csc.InvalidParameter("signAlgo"))
	}
	if req.HashAlgo != csc.SHA256 {
		r.Fail(csc.InvalidParameter("hashAlgo"))
	}
	req.SignAlgoParams = r.Bytes("signAlgoParams")
	req.Hash = r.Hashes("hash", true, 32)
	req.ClientData = r.Optional("clientData", maxClientData)
	return req, r.Err()
}
