package pec

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// SdIFirst is where the first message to the Sistema di Interscambio goes; its answer assigns
// another address to the mailbox. spec: AllA-1.9 §1.3.1
const SdIFirst = "sdi01@pec.fatturapa.it"

// SdIDomain is the domain of all its mailboxes.
const SdIDomain = "pec.fatturapa.it"

var sdiLocal = regexp.MustCompile(`^sdi(\d{2,4})$`)

// SdIAddress says whether an address is one of the Sistema di Interscambio, and its number.
// An address proves nothing about who sent: only a verified envelope from it does.
func SdIAddress(addr string) (number int, ok bool) {
	local, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(addr)), "@")
	m := sdiLocal.FindStringSubmatch(local)
	if m == nil || Domain(addr) != SdIDomain {
		return 0, false
	}
	n, err := strconv.Atoi(m[1])
	return n, err == nil
}

// SdIKind is what a message of the Sistema di Interscambio brings.
type SdIKind string

// Kinds of messages.
const (
	SdINotice   SdIKind = "notifica" // a message about a file of ours: RC, NS, MC, NE, DT, AT, ...
	SdIInvoice  SdIKind = "fattura"  // an invoice for us with its metadata (MT)
	SdICourtesy SdIKind = "cortesia" // words only: there was no file in what we sent, or an address is assigned
)

// SdIFile is one file that the message brings.
type SdIFile struct {
	Part *Part
	Name string // as sent
	Code string // RC, NS, MC, MT, NE, DT, AT, EC, SE; "" for an invoice or an unknown file
}

// SdIMessage is a message from the Sistema di Interscambio as read. What it says is a fact only
// when the envelope around it is proven: see FromSdI.
type SdIMessage struct {
	Kind     SdIKind
	Files    []SdIFile
	Assigned string // the address to use from now on, "" when none is named or more than one is
	// Named are all addresses that the text tells to use: two different ones assign nothing, and somebody should know.
	Named      []string
	Simulation bool // a test of the exchange
}

var (
	sdiNotice   = regexp.MustCompile(`(?i)^[A-Z]{2}[A-Z0-9]{1,28}_[A-Z0-9]{1,5}_(RC|NS|MC|MT|NE|DT|AT|EC|SE)_[A-Z0-9]{1,3}\.(xml|xml\.p7m|zip)$`)
	sdiInvoice  = regexp.MustCompile(`(?i)^[A-Z]{2}[A-Z0-9]{1,28}_[A-Z0-9]{1,5}\.(xml|xml\.p7m|zip)$`)
	sdiAssigned = regexp.MustCompile(`(?i)\bsdi\d{2,4}@pec\.fatturapa\.it\b`)
	sdiNew      = regexp.MustCompile(`(?i)(nuovo indirizzo|prossim[ei]|new address|next)`)
)

// FromSdI says whether a message is a proven transport envelope whose certified sender is the
// Sistema di Interscambio: only then may its content change anything. A receipt of certified
// mail for a message to it is not from it.
func (r *Reading) FromSdI(rep *Report) bool {
	if r.Tipo() != BustaTrasporto || r.Daticert == nil || !r.Proven(rep) {
		return false
	}
	_, ok := SdIAddress(r.Daticert.Mittente)
	return ok
}

// ReadSdI reads the original in an envelope of the Sistema di Interscambio: its files are told
// apart by their names, subject and body do not count, but for the address that a text assigns.
// nil when the certified sender, or without daticert the From of the original, is not it.
// spec: AllA-1.9 §1.3.1, §1.5.7, §2
func (r *Reading) ReadSdI() (*SdIMessage, error) {
	if r.Claim.Tipo != BustaTrasporto || r.Original == nil {
		return nil, nil
	}
	p, err := r.OriginalMessage()
	if err != nil || p == nil {
		return nil, err
	}
	sender := ""
	if r.Daticert != nil {
		sender = r.Daticert.Mittente
	} else if from := ParseAddresses(p.Header.Get("From")); len(from) == 1 {
		sender = from[0].Addr
	}
	if _, ok := SdIAddress(sender); !ok {
		return nil, nil
	}
	m := &SdIMessage{Kind: SdICourtesy, Simulation: strings.Contains(strings.ToUpper(p.Header.Text("Subject")), "SIMULAZIONE")}
	for _, a := range p.Attachments() {
		f := SdIFile{Part: a.Part, Name: a.Sent}
		if match := sdiNotice.FindStringSubmatch(a.Sent); match != nil {
			f.Code = strings.ToUpper(match[1])
		}
		if f.Code == "" && !sdiInvoice.MatchString(a.Sent) {
			continue
		}
		m.Files = append(m.Files, f)
	}
	m.judge()
	return m, m.assignment(p)
}

func (m *SdIMessage) judge() {
	for _, f := range m.Files {
		switch {
		case f.Code == "" || f.Code == "MT":
			m.Kind = SdIInvoice
			return
		default:
			m.Kind = SdINotice
		}
	}
}

// assignment finds the one address that the text tells to use next.
func (m *SdIMessage) assignment(p *Part) error {
	found := map[string]bool{}
	for _, t := range p.TextParts() {
		text, _, err := t.Text()
		if err != nil {
			if isLimit(err) {
				continue
			}
			return err
		}
		if !sdiNew.MatchString(text) {
			continue
		}
		for _, a := range sdiAssigned.FindAllString(text, -1) {
			found[strings.ToLower(a)] = true
		}
	}
	m.Named = slices.Sorted(maps.Keys(found))
	if len(m.Named) == 1 {
		m.Assigned = m.Named[0]
	}
	return nil
}

// Limits of the certified-mail channel. spec: AllA-1.9 §1.3.1
const (
	SdIMessageLimit = 30_000_000 // bytes of the whole message
	SdIFileLimit    = 5_000_000  // bytes of each file
)

// CheckToSdI says why a message to the Sistema di Interscambio would not do what its sender
// wants: one address of the exchange and nobody else, at least one file with a name that the
// exchange files (an invoice, or the outcome EC of a public buyer), sizes, no name twice.
// Reading sizes decodes the files. Errors are the source's. spec: AllA-1.9 §1.2.2, §1.3.1
func CheckToSdI(m *Message) (Violations, error) {
	var vs Violations
	h := m.Root.Header
	to := append(ParseAddresses(h.Get("To")), ParseAddresses(h.Get("Cc"))...)
	if len(to) != 1 {
		vs.add("SDI_RECIPIENTS", "to", "%d recipients: send to one address of the exchange alone", len(to))
	}
	for _, a := range to {
		if _, ok := SdIAddress(a.Addr); !ok {
			vs.add("SDI_ADDRESS", "to", "%q is no address of the exchange (sdiNN@%s)", a.Addr, SdIDomain)
		}
	}
	if m.Size > SdIMessageLimit {
		vs.add("SDI_TOO_LARGE", "size", "the message has %d bytes, at most %d are taken", m.Size, SdIMessageLimit)
	}
	seen := map[string]bool{}
	for _, a := range m.Root.Attachments() {
		match := sdiNotice.FindStringSubmatch(a.Sent)
		outcome := match != nil && strings.EqualFold(match[1], "EC")
		if !outcome && !sdiInvoice.MatchString(a.Sent) {
			vs.add("SDI_FILE_NAME", "attachments", "%q is no name that the exchange files", a.Sent)
			continue
		}
		if key := strings.ToLower(a.Sent); seen[key] {
			vs.add("SDI_FILE_TWICE", "attachments", "%q stands twice", a.Sent)
		} else {
			seen[key] = true
		}
		if _, err := a.Part.Bytes(SdIFileLimit); err != nil {
			if !isLimit(err) {
				return nil, err
			}
			vs.add("SDI_FILE_TOO_LARGE", "attachments", "%q has more than %d bytes", a.Sent, SdIFileLimit)
		}
	}
	if len(seen) == 0 {
		vs.add("SDI_NO_FILE", "attachments", "there is no file that the exchange would take")
	}
	return vs, nil
}
