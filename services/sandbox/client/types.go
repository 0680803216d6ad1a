// Package client is the vocabulary of the sandbox's control API and a plain HTTP client for it.
// Tests and the development program import it; the sandbox itself answers with these types.
// It owns names and shapes only: no simulator, no state, no TLS. It refuses to be a way into
// anything real: the API that it speaks exists in the sandbox alone.
package client

import "time"

// Endpoints says where a running sandbox listens. cmd/ceralacca-sandbox prints it as one line
// of JSON.
type Endpoints struct {
	SdIURL     string     `json:"sdi_url"`     // RiceviFile, https with mutual TLS
	NotifyURL  string     `json:"notify_url"`  // NotificaEsito, https with mutual TLS
	TSAURL     string     `json:"tsa_url"`     // RFC 3161 over plain HTTP
	SMTPAddr   string     `json:"smtp_addr"`   // host:port of the mail sink
	PEC        PEC        `json:"pec"`         // the certified mail providers
	RemoteSign RemoteSign `json:"remote_sign"` // the providers of remote signatures
	ControlURL string     `json:"control_url"` // this API
	CAFile     string     `json:"ca_file"`     // PEM of the sandbox authority; "" when no directory was given
}

// Clock is the virtual clock.
type Clock struct {
	Now    time.Time  `json:"now"`
	Frozen bool       `json:"frozen"`
	Timers int        `json:"timers"`         // deadlines that wait
	Next   *time.Time `json:"next,omitempty"` // the first of them
}

// Advance asks the clock to move forward.
type Advance struct {
	By string `json:"by"` // a Go duration: "90s", "360h"
}

// AccreditationRequest enables a transmitter. Asking again for the same fiscal id replaces its
// callback address and issues new certificates.
type AccreditationRequest struct {
	FiscalID    string   `json:"fiscal_id"`
	CallbackURL string   `json:"callback_url"`       // https://...; "" for a transmitter that polls nobody
	Hosts       []string `json:"hosts,omitempty"`    // names and addresses of the server certificate; loopback by default
	Receipts    string   `json:"receipts,omitempty"` // encoding of callbacks: "xop" (default), "multipart", "plain"

	// ReceptionURL is the RicezioneFatture endpoint, https://..., and RecipientCodes the codes that are delivered
	// there: seven characters in the private flow, six for offices of public bodies.
	ReceptionURL   string   `json:"reception_url,omitempty"`
	RecipientCodes []string `json:"recipient_codes,omitempty"`
}

// Accreditation is what an accredited transmitter gets: a client certificate (CN SDI-<id>) to
// call SdI, a server certificate for its own endpoint, and the authority to trust.
type Accreditation struct {
	FiscalID    string `json:"fiscal_id"`
	CallbackURL string `json:"callback_url"`
	Receipts    string `json:"receipts"`

	ReceptionURL   string   `json:"reception_url,omitempty"`
	RecipientCodes []string `json:"recipient_codes,omitempty"`

	ClientCertPEM string `json:"client_cert_pem,omitempty"`
	ClientKeyPEM  string `json:"client_key_pem,omitempty"`
	ServerCertPEM string `json:"server_cert_pem,omitempty"`
	ServerKeyPEM  string `json:"server_key_pem,omitempty"`
	CAPEM         string `json:"ca_pem,omitempty"`
}

// CertificateRequest asks for a certificate over a key that stays with the caller.
type CertificateRequest struct {
	CSRPEM  string `json:"csr_pem"`           // PKCS #10
	Profile string `json:"profile,omitempty"` // "signing" (default), "seal", "role", "authentication"
}

// Certificate is the answer: the certificate, then the authority's.
type Certificate struct {
	CertPEM string `json:"cert_pem"`
	CAPEM   string `json:"ca_pem"`
}

// Invoice identifies one invoice of a file as control 00404 does.
type Invoice struct {
	Seller        string `json:"seller"` // country and VAT number (buyer's for self-billing types)
	Number        string `json:"number"`
	Year          string `json:"year"`
	TipoDocumento string `json:"tipo_documento"`
}

// Received is one file that SdI took, with everything that happened to it.
type Received struct {
	ID                 string    `json:"id"` // IdentificativoSdI
	Name               string    `json:"name"`
	SHA256             string    `json:"sha256"` // of the bytes received, hex
	Size               int       `json:"size"`
	At                 time.Time `json:"at"` // virtual time of reception
	Transmitter        string    `json:"transmitter"`
	Archive            string    `json:"archive,omitempty"` // IdentificativoSdI of the zip it came in
	Format             string    `json:"format,omitempty"`  // FPA12, FPR12, FSM10
	CodiceDestinatario string    `json:"codice_destinatario,omitempty"`
	Signed             bool      `json:"signed"` // CAdES envelope or XML signature present
	Invoices           []Invoice `json:"invoices,omitempty"`
	State              string    `json:"state"`            // received, discarded, delivered, undelivered, accepted, refused, expired, attested
	Errors             []string  `json:"errors,omitempty"` // codes of the NS
	Receipts           []Receipt `json:"receipts,omitempty"`
}

// Receipt is one message on its way back.
type Receipt struct {
	Name        string     `json:"name"`
	Type        string     `json:"type"` // RC, NS, MC, NE, DT, AT
	Attempts    int        `json:"attempts"`
	DeliveredAt *time.Time `json:"delivered_at,omitempty"`
	GivenUp     bool       `json:"given_up,omitempty"` // all attempts spent
	Fault       string     `json:"fault,omitempty"`    // the fault that was played on it
	LastError   string     `json:"last_error,omitempty"`
}

// ReceivedPage is an answer to a query. Files come in order of reception.
type ReceivedPage struct {
	Files []Received `json:"files"`
	Total int        `json:"total"` // of all that match, beyond the limit too
}

// Query selects received files; zero fields select all.
type Query struct {
	Name        string // exact, ignoring case
	SHA256      string
	ID          string
	Transmitter string
	Number      string // number of an invoice inside
	State       string
	Limit       int // default 100
}

// Counts sums up what SdI saw. Accepted counts every file that was taken; a repeat of a name is
// taken too and then discarded with 00002.
type Counts struct {
	Requests     int `json:"requests"`  // RiceviFile calls that were decoded
	Malformed    int `json:"malformed"` // calls that were not
	Refused      int `json:"refused"`   // EI01, EI02, EI03 and ordered faults
	Unauthorized int `json:"unauthorized"`
	Accepted     int `json:"accepted"`
	Names        int `json:"names"`    // distinct names taken
	Contents     int `json:"contents"` // distinct contents taken
	Invoices     int `json:"invoices"` // distinct invoices not discarded

	Letters       int `json:"letters"`        // certified messages that came
	LettersAstray int `json:"letters_astray"` // to another address than the assigned one: not looked at

	// What exactly-once is judged by. The last two are zero when each document was submitted
	// once. A repeated name is right after an unknown outcome (a cut connection, EI02), and
	// only then: the repeat is discarded with 00002.
	RepeatedNames    int `json:"repeated_names"`    // names taken more than once
	RepeatedContents int `json:"repeated_contents"` // contents taken under more than one name
	RepeatedInvoices int `json:"repeated_invoices"` // discards with 00404: the invoice was live already

	ReceiptsMade      int            `json:"receipts_made"`
	ReceiptsDelivered int            `json:"receipts_delivered"`
	ReceiptsPending   int            `json:"receipts_pending"`
	ReceiptsGivenUp   int            `json:"receipts_given_up"`
	CallbackErrors    int            `json:"callback_errors"` // failed attempts
	States            map[string]int `json:"states"`
	SigningMicros     int64          `json:"signing_micros"` // time spent signing receipts, all workers
}

// Duplicates lists what was submitted more than once.
type Duplicates struct {
	Names    []Duplicate `json:"names"`
	Contents []Duplicate `json:"contents"`
	Invoices []Duplicate `json:"invoices"`
}

// Duplicate is one thing and the files that carry it.
type Duplicate struct {
	Key string   `json:"key"`
	IDs []string `json:"ids"` // IdentificativoSdI of each
}

// Kinds of Fault. The first group hits requests, the second receipts, the third mail, the last
// the time-stamp authority.
const (
	FaultDelay          = "delay"            // answer after DelayMS of real time
	FaultCutBefore      = "cut_before"       // cut the connection, file not taken
	FaultCutAfterAccept = "cut_after_accept" // take the file, cut the connection
	FaultEI01           = "ei01"             // answer EI01, file not taken
	FaultEI02           = "ei02"             // answer EI02, file not taken
	FaultEI02Accepted   = "ei02_accepted"    // answer EI02 with identifier 0, yet take the file
	FaultEI03           = "ei03"             // answer EI03, file not taken
	FaultSOAP           = "soap_fault"       // Server fault, file not taken
	FaultHTTP503        = "http_503"         // HTTP 503, file not taken

	FaultDuplicate  = "duplicate"  // deliver the receipt twice
	FaultReorder    = "reorder"    // hold the receipt until a later one has gone out
	FaultMalformed  = "malformed"  // deliver truncated XML
	FaultUnknownID  = "unknown_id" // deliver under an IdentificativoSdI that was never given out
	FaultWrongHash  = "wrong_hash" // state another hash (private schema and AT)
	FaultDrop       = "drop"       // never deliver
	FaultUnsigned   = "unsigned"   // deliver without signature
	FaultBadSig     = "bad_signature"
	FaultSlowNotice = "delay_receipt" // deliver DelayMS of real time later

	FaultFTPCutGet       = "ftp_cut_get"            // cut in the middle of a support that SdI reads; not taken
	FaultFTPKeep         = "ftp_keep"               // take a support, cut before it is removed
	FaultFTPER           = "ftp_er"                 // refuse a support: signature (ER)
	FaultFTPET02         = "ftp_et02"               // refuse a support: form (EO with ET02)
	FaultFTPSilent       = "ftp_no_outcome"         // take a support, never tell its outcome
	FaultFTPBadSignature = "ftp_bad_signature"      // sign a support to the node by a stranger
	FaultFTPHalf         = "ftp_half"               // put half a file and mark it as whole
	FaultFTPDuplicate    = "ftp_duplicate"          // put the same file twice
	FaultFTPCutPut       = "ftp_cut_put"            // cut in the middle of a file that SdI puts
	FaultDeliverTwice    = "deliver_duplicate"      // a passive invoice twice, with the same TentativiInvio
	FaultDeliverCut      = "deliver_cut"            // deliver it, and lose the answer
	FaultDeliverBadMT    = "deliver_bad_metadata"   // with truncated metadata
	FaultDeliverOtherMT  = "deliver_other_metadata" // with the metadata of another file
	FaultDeliverApart    = "deliver_apart"          // SDIFTP: the metadata in the support after that of the file
	FaultOutcomeES02     = "outcome_es02"           // answer ES02, outcome not taken
	FaultOutcomeES02Kept = "outcome_es02_accepted"  // answer ES02, yet take the outcome
	FaultOutcomeCut      = "outcome_cut"            // take the outcome, cut the connection
	FaultOutcomeES00     = "outcome_es00"           // answer ES00 without SE (by certified mail: an SE), outcome not taken

	FaultLetterForged     = "letter_forged"     // before SdI's next answer by certified mail a forged one comes, with another address; Mode says what is wrong with it
	FaultLetterAstray     = "letter_astray"     // the answer assigns an address that is not SdI's
	FaultLetterChanged    = "letter_changed"    // SdI's next letter assigns another address, and what goes to the one before is not looked at any more
	FaultLetterTwo        = "letter_two"        // SdI's next letter names two addresses, the one that it assigned and another: nothing changes by it
	FaultLetterSimulation = "letter_simulation" // the subject of SdI's next letter says (SIMULAZIONE), as those of its test environment do

	FaultMailReject = "mail_reject" // 550 to RCPT
	FaultMailDefer  = "mail_defer"  // 451 to DATA
	FaultMailCut    = "mail_cut"    // cut the connection at DATA, message not taken
	FaultMailDelay  = "mail_delay"  // answer DATA after DelayMS

	FaultTSA = "tsa" // Mode is one of package tsa

	FaultPECCutBefore = "pec_cut_before" // cut the submission after its end, message not taken
	FaultPECCutAfter  = "pec_cut_after"  // take the submission, cut before the answer
	FaultPECReject    = "pec_reject"     // 550 to RCPT of a submission
	FaultPECDefer     = "pec_defer"      // 451 to a submission, not taken
	FaultPECThrottle  = "pec_throttle"   // 550 to MAIL: "Too much traffic from this sender"
	FaultPECAuth      = "pec_auth"       // refuse a login (SMTP, IMAP, POP3)
	FaultPECMX        = "pec_mx"         // 451 between providers: the message waits in the queue

	FaultPECDuplicate    = "pec_duplicate"     // a receipt twice
	FaultPECDrop         = "pec_drop"          // a receipt never
	FaultPECLate         = "pec_late"          // a receipt After later, on the virtual clock
	FaultPECBadSignature = "pec_bad_signature" // one signed byte changed
	FaultPECUnsigned     = "pec_unsigned"      // a perfect receipt without signature
	FaultPECWrongSigner  = "pec_wrong_signer"  // signed by a person, not by the provider
	FaultPECBrokenMIME   = "pec_broken_mime"   // cut off in the middle

	FaultPECExpiredSigner  = "pec_expired_signer"  // signed by the provider with a certificate that ended the day before
	FaultPECEarlySigner    = "pec_early_signer"    // ... that begins the day after
	FaultPECOtherProvider  = "pec_other_provider"  // signed by the next provider, in its own name
	FaultPECNoSigner       = "pec_cut_signature"   // the signature cut off in the middle
	FaultPECBareLF         = "pec_bare_lf"         // stored with LF alone
	FaultPECList           = "pec_mailing_list"    // passed on by a mailing list, which wraps it
	FaultPECWrongZone      = "pec_wrong_zone"      // daticert.xml, well signed, with a zona that is three hours off
	FaultPECNoZone         = "pec_no_zone"         // ... without zona
	FaultPECNoMsgID        = "pec_no_msgid"        // ... without msgid
	FaultPECOtherMsgID     = "pec_other_msgid"     // ... with the msgid of another message
	FaultPECOtherTipo      = "pec_other_tipo"      // ... of another type than the header says
	FaultPECUnknownTipo    = "pec_unknown_tipo"    // ... of a type that the rules do not have
	FaultPECOtherRecipient = "pec_other_recipient" // ... about somebody who is not among the recipients
	FaultPECDoctype        = "pec_doctype"         // ... with a DOCTYPE that names a file elsewhere
	FaultPECTwoDaticert    = "pec_two_daticert"    // two daticert.xml side by side

	FaultPECIMAPCut  = "pec_imap_cut"  // cut the connection in the middle of a literal
	FaultPECIMAPSlow = "pec_imap_slow" // DelayMS of real time before each FETCH and SELECT
)

// Fault orders something to go wrong for the next Count matching events.
type Fault struct {
	ID          int    `json:"id,omitempty"` // given by the sandbox
	Kind        string `json:"kind"`
	Count       int    `json:"count,omitempty"`       // default 1; what is left, in answers
	DelayMS     int    `json:"delay_ms,omitempty"`    // for the delay kinds
	Mode        string `json:"mode,omitempty"`        // for tsa and letter_forged
	Name        string `json:"name,omitempty"`        // only for this file name; "" any
	Transmitter string `json:"transmitter,omitempty"` // only for this fiscal id; "" any
	Type        string `json:"type,omitempty"`        // only for receipts of this type; "" any
	After       string `json:"after,omitempty"`       // virtual time, a Go duration, for pec_late; default 1h
	Hits        int    `json:"hits,omitempty"`        // how often it was played, in answers
}

// Mail is one message that the sink took.
type Mail struct {
	ID      int       `json:"id"`
	At      time.Time `json:"at"`
	From    string    `json:"from"`
	To      []string  `json:"to"`
	Subject string    `json:"subject"` // decoded
	Size    int       `json:"size"`
	Data    string    `json:"data,omitempty"` // the message, as received
}

// Error is the body of every answer that is not a success.
type Error struct {
	Status  int    `json:"status"`
	Message string `json:"message"` // what, where, how to mend it
}
