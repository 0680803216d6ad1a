package client

import (
	"context"
	"net/http"
	"net/url"
)

// FTPAccreditationRequest enables a node of SDIFTP: SdI's client will visit it.
type FTPAccreditationRequest struct {
	FiscalID string `json:"fiscal_id"`
	Address  string `json:"address"`            // host:port of the node's SFTP server
	User     string `json:"user,omitempty"`     // default sdi
	HostKey  string `json:"host_key"`           // the server's public key, as OpenSSH writes it
	Test     bool   `json:"test,omitempty"`     // the test environment's directories and numbers
	VisitMS  int    `json:"visit_ms,omitempty"` // visit by itself every so many milliseconds of real time; 0: on command
	// RecipientCodes are those whose invoices are brought to the node in supports.
	RecipientCodes []string `json:"recipient_codes,omitempty"`
}

// FTPAccreditation is what an accredited node gets.
type FTPAccreditation struct {
	FiscalID       string `json:"fiscal_id"`
	ClientKey      string `json:"client_key"`   // SdI's public key, for authorized_keys
	SdICertPEM     string `json:"sdi_cert_pem"` // supports to SdI are encrypted for it
	SdISigner      string `json:"sdi_signer"`   // common name of who signs supports from SdI
	SignCertPEM    string `json:"sign_cert_pem"`
	SignKeyPEM     string `json:"sign_key_pem"`
	DecryptCertPEM string `json:"decrypt_cert_pem"`
	DecryptKeyPEM  string `json:"decrypt_key_pem"`
	CAPEM          string `json:"ca_pem"`
}

// FTPVisit is what happened on one visit.
type FTPVisit struct {
	Taken []string `json:"taken,omitempty"` // supports acquired
	Put   []string `json:"put,omitempty"`   // files brought
	Error string   `json:"error,omitempty"` // why it ended early
}

// FTPFile is a file to be brought to a node inside a support.
type FTPFile struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// AccreditFTP enables a node.
func (c *Client) AccreditFTP(ctx context.Context, r FTPAccreditationRequest) (FTPAccreditation, error) {
	var a FTPAccreditation
	return a, c.do(ctx, http.MethodPost, "/v1/ftp", r, &a)
}

// VisitFTP has SdI's client visit a node once, now.
func (c *Client) VisitFTP(ctx context.Context, id string) (FTPVisit, error) {
	var v FTPVisit
	return v, c.do(ctx, http.MethodPost, "/v1/ftp/"+url.PathEscape(id)+"/visit", nil, &v)
}

// PassiveFTP gives files to be brought with the next support.
func (c *Client) PassiveFTP(ctx context.Context, id string, files ...FTPFile) error {
	return c.do(ctx, http.MethodPost, "/v1/ftp/"+url.PathEscape(id)+"/passive", files, nil)
}

// ReportFTP makes the daily reports of supports; without and with name a support that is left out or made up.
func (c *Client) ReportFTP(ctx context.Context, id, without, with string) error {
	q := url.Values{"without": {without}, "with": {with}}
	return c.do(ctx, http.MethodPost, "/v1/ftp/"+url.PathEscape(id)+"/report?"+q.Encode(), nil, nil)
}
