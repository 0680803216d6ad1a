package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// PEC says where the certified mail providers listen. All providers share the listeners: the
// user's address, or the recipient's, says who is meant.
type PEC struct {
	SMTPSAddr      string `json:"smtps_addr"`      // submission, implicit TLS
	SubmissionAddr string `json:"submission_addr"` // submission, STARTTLS
	IMAPSAddr      string `json:"imaps_addr"`
	POP3SAddr      string `json:"pop3s_addr"`
	MXAddr         string `json:"mx_addr"` // reception from other providers and from ordinary mail, STARTTLS
}

// PECProvider is one simulated gestore. Settings that are zero in a request stay as they are.
type PECProvider struct {
	ID         string   `json:"id"`
	Name       string   `json:"name,omitempty"`    // gestore-emittente
	Address    string   `json:"address,omitempty"` // that it signs as
	Service    string   `json:"service,omitempty"` // mailbox for what providers tell each other
	Domains    []string `json:"domains,omitempty"`
	CertPEM    string   `json:"cert_pem,omitempty"`
	CertSHA256 string   `json:"cert_sha256,omitempty"`
	CAPEM      string   `json:"ca_pem,omitempty"`

	Profile    string `json:"profile,omitempty"`    // how it writes: plain, aruba, namirial, sogei, legalmail
	Recipients int    `json:"recipients,omitempty"` // most recipients of one message
	Volume     int64  `json:"volume,omitempty"`     // most bytes, size times recipients
	PerMinute  int    `json:"per_minute,omitempty"` // most submissions of a mailbox in a minute; -1: any number
	Full       string `json:"full,omitempty"`       // full mailbox: "error", "retry24h", "retry48h"
	MX         string `json:"mx,omitempty"`         // "up", or "down": nothing is received from other providers
}

// PECMailbox is a mailbox. Settings that are zero in a request stay as they are.
type PECMailbox struct {
	Address  string `json:"address"`
	Password string `json:"password,omitempty"` // "sandbox" when a new mailbox is given none; not shown
	Quota    int64  `json:"quota,omitempty"`    // bytes
	Used     int64  `json:"used"`
	Messages int    `json:"messages"`
	Ordinary string `json:"ordinary,omitempty"` // mail that is not certified: "accept", "reject"
	State    string `json:"state,omitempty"`    // "active", "suspended" (no sending), "disabled" (no login), "locked" (by refused logins)

	LockAfter     int               `json:"lock_after,omitempty"` // refused logins within an hour that lock the mailbox; 0 when it is made: none do
	RefusedLogins []PECRefusedLogin `json:"refused_logins,omitempty"`
}

// PECRefusedLogin is a login that a provider refused.
type PECRefusedLogin struct {
	At   time.Time `json:"at"`   // virtual time
	Door string    `json:"door"` // smtp, imap, pop3
}

// PECMessage is a message in a mailbox.
type PECMessage struct {
	ID             int       `json:"id"`
	Mailbox        string    `json:"mailbox"`
	Folder         string    `json:"folder"`
	UID            uint32    `json:"uid"`
	UIDValidity    uint32    `json:"uidvalidity"`
	Flags          []string  `json:"flags,omitempty"`
	At             time.Time `json:"at"` // virtual time of arrival
	Size           int       `json:"size"`
	SHA256         string    `json:"sha256"`
	Tipo           string    `json:"tipo"` // as package format/pec names it: accettazione, posta-certificata, anomalia, ordinaria, ...
	Subject        string    `json:"subject"`
	MsgID          string    `json:"msgid,omitempty"`          // of the original, as its sender gave it
	Identificativo string    `json:"identificativo,omitempty"` // as its provider gave it
	Consegna       string    `json:"consegna,omitempty"`       // the one recipient that it is about
}

// PECSubmission is a message that a provider took from a user, with what happened to it: the
// provider's log. spec: RFC6109 §2.3
type PECSubmission struct {
	Identificativo string     `json:"identificativo"`
	MsgID          string     `json:"msgid,omitempty"`
	Provider       string     `json:"provider"`
	From           string     `json:"from"`
	To             []string   `json:"to"`
	Subject        string     `json:"subject"`
	At             time.Time  `json:"at"`
	Size           int        `json:"size"`
	SHA256         string     `json:"sha256"` // of the bytes as submitted
	Accepted       bool       `json:"accepted"`
	Events         []PECEvent `json:"events"`
}

// PECEvent is one line of the log.
type PECEvent struct {
	At        time.Time `json:"at"`
	Type      string    `json:"type"`
	Provider  string    `json:"provider"`
	Recipient string    `json:"recipient,omitempty"`
	Detail    string    `json:"detail,omitempty"`
}

// PECInject puts bytes into a mailbox as they are: nobody checks them.
type PECInject struct {
	Data   []byte   `json:"data"`             // base64 in JSON
	Folder string   `json:"folder,omitempty"` // INBOX by default
	Flags  []string `json:"flags,omitempty"`
	Times  int      `json:"times,omitempty"` // so many copies; default 1
}

// PECForge asks for a receipt that no provider issued, put into a mailbox.
type PECForge struct {
	Mailbox        string `json:"mailbox"`
	Tipo           string `json:"tipo"` // accettazione, avvenuta-consegna, errore-consegna, ...
	MsgID          string `json:"msgid,omitempty"`
	Identificativo string `json:"identificativo,omitempty"`
	Recipient      string `json:"recipient,omitempty"`
	Errore         string `json:"errore,omitempty"` // no-dest, no-dominio, virus; altro when empty
	Detail         string `json:"detail,omitempty"` // errore-esteso
	How            string `json:"how"`              // "valid": signed by the mailbox's provider; or a fault of receipts without "pec_", such as "unsigned"
}

// PECProviders lists the providers with their certificates.
func (c *Client) PECProviders(ctx context.Context) ([]PECProvider, error) {
	var out []PECProvider
	err := c.do(ctx, http.MethodGet, "/v1/pec/providers", nil, &out)
	return out, err
}

// SetPECProvider changes settings of a provider.
func (c *Client) SetPECProvider(ctx context.Context, p PECProvider) (PECProvider, error) {
	var out PECProvider
	err := c.do(ctx, http.MethodPost, "/v1/pec/providers/"+url.PathEscape(p.ID), p, &out)
	return out, err
}

// PECIndex is the signed index of providers (LDIF in CMS).
func (c *Client) PECIndex(ctx context.Context) ([]byte, error) {
	return c.raw(ctx, http.MethodGet, "/v1/pec/index.p7m", nil)
}

// PECMailboxes lists the mailboxes.
func (c *Client) PECMailboxes(ctx context.Context) ([]PECMailbox, error) {
	var out []PECMailbox
	err := c.do(ctx, http.MethodGet, "/v1/pec/mailboxes", nil, &out)
	return out, err
}

// SetPECMailbox makes a mailbox or changes it.
func (c *Client) SetPECMailbox(ctx context.Context, m PECMailbox) (PECMailbox, error) {
	var out PECMailbox
	err := c.do(ctx, http.MethodPost, "/v1/pec/mailboxes", m, &out)
	return out, err
}

// PECMessages lists what is in a mailbox, oldest first.
func (c *Client) PECMessages(ctx context.Context, address string) ([]PECMessage, error) {
	var out []PECMessage
	err := c.do(ctx, http.MethodGet, "/v1/pec/mailboxes/"+url.PathEscape(address)+"/messages", nil, &out)
	return out, err
}

// PECRaw is a message's bytes.
func (c *Client) PECRaw(ctx context.Context, id int) ([]byte, error) {
	return c.raw(ctx, http.MethodGet, "/v1/pec/messages/"+strconv.Itoa(id)+"/raw", nil)
}

// InjectPEC puts bytes into a mailbox.
func (c *Client) InjectPEC(ctx context.Context, address string, in PECInject) error {
	return c.do(ctx, http.MethodPost, "/v1/pec/mailboxes/"+url.PathEscape(address)+"/inject", in, nil)
}

// ForgePEC puts a forged receipt into a mailbox.
func (c *Client) ForgePEC(ctx context.Context, in PECForge) error {
	return c.do(ctx, http.MethodPost, "/v1/pec/forge", in, nil)
}

// ChangePECUIDValidity gives all messages of a mailbox new UIDs under a new UIDVALIDITY and cuts
// its sessions.
func (c *Client) ChangePECUIDValidity(ctx context.Context, address string) error {
	return c.do(ctx, http.MethodPost, "/v1/pec/mailboxes/"+url.PathEscape(address)+"/uidvalidity", struct{}{}, nil)
}

// PECSubmissions is the log of what users submitted, oldest first; "" for everybody.
func (c *Client) PECSubmissions(ctx context.Context, from string) ([]PECSubmission, error) {
	var out []PECSubmission
	err := c.do(ctx, http.MethodGet, "/v1/pec/submissions?from="+url.QueryEscape(from), nil, &out)
	return out, err
}

// PECSubmitted is the bytes of a submission as they came.
func (c *Client) PECSubmitted(ctx context.Context, identificativo string) ([]byte, error) {
	return c.raw(ctx, http.MethodGet, "/v1/pec/submissions/"+url.PathEscape(identificativo)+"/raw", nil)
}
