package pec

import (
	"fmt"
	"strings"
)

// Violation is one reason for which an access point refuses a message.
type Violation struct {
	Code    string // permanent
	Field   string
	Message string
}

// Violations is a list of reasons; it is an error when it is not empty.
type Violations []Violation

func (l *Violations) add(code, field, format string, args ...any) {
	*l = append(*l, Violation{code, field, fmt.Sprintf(format, args...)})
}

func (l Violations) Error() string {
	s := make([]string, len(l))
	for i, v := range l {
		s[i] = v.Field + ": " + v.Message
	}
	return "pec: the message would not be accepted: " + strings.Join(s, "; ")
}

// SubmissionLimits are a provider's. Zero values take what every provider must allow.
type SubmissionLimits struct {
	Recipients int   // 50 by default
	Volume     int64 // size times recipients in bytes, 30,000,000 by default
	Reserve    int64 // bytes that the provider adds to each copy
	NoPrograms bool  // programs, macros and locked archives are turned away: looked at by Preflight
}

// The least that every provider has to allow. spec: DM-2005-11-02 art. 12 c. 2
const (
	LegalRecipients = 50
	LegalVolume     = 30_000_000
)

func (l SubmissionLimits) orDefaults() SubmissionLimits {
	if l.Recipients <= 0 {
		l.Recipients = LegalRecipients
	}
	if l.Volume <= 0 {
		l.Volume = LegalVolume
	}
	return l
}

// Envelope is the SMTP envelope of a submission.
type Envelope struct {
	MailFrom   string
	Recipients []string
}

// CheckSubmission is the formal check of an access point over a message and its envelope. A
// gateway runs it before it connects, the sandbox provider runs it to accept: both decide alike.
// spec: RFC6109 §3.1.1
func CheckSubmission(m *Message, e Envelope, lim SubmissionLimits) Violations {
	lim = lim.orDefaults()
	h := m.Root.Header
	var vs Violations
	from := ParseAddresses(h.Get("From"))
	switch {
	case h.Count("From") != 1:
		vs.add("FROM_COUNT", "from", "%d From fields, exactly 1 is expected", h.Count("From"))
	case len(from) != 1 || !validAddr(from[0].Addr):
		vs.add("FROM_INVALID", "from", "From has to name one address")
	case !SameAddress(from[0].Addr, e.MailFrom):
		vs.add("FROM_MISMATCH", "from", "From is %q, the reverse path %q", from[0].Addr, e.MailFrom)
	}
	named := map[string]bool{}
	to := checkList(h, "To", named, &vs)
	checkList(h, "Cc", named, &vs)
	if to == 0 {
		vs.add("TO_MISSING", "to", "To has to name at least one address")
	}
	for _, v := range h.Values("Bcc") {
		if v != "" {
			vs.add("BCC_PRESENT", "bcc", "Bcc is not allowed in certified mail")
		}
	}
	paths := map[string]bool{}
	for _, a := range e.Recipients {
		paths[strings.ToLower(a)] = true
		if !named[strings.ToLower(a)] {
			vs.add("RECIPIENT_NOT_NAMED", "recipients", "%q is neither in To nor in Cc", a)
		}
	}
	if len(e.Recipients) == 0 {
		vs.add("RECIPIENTS_MISSING", "recipients", "there is no recipient")
	}
	if len(paths) > lim.Recipients {
		vs.add("TOO_MANY_RECIPIENTS", "recipients", "%d recipients, at most %d are allowed", len(paths), lim.Recipients)
	}
	if volume := (m.Size + lim.Reserve) * int64(max(len(paths), 1)); volume > lim.Volume {
		vs.add("TOO_LARGE", "size", "%d bytes for %d recipients are %d, at most %d are allowed", m.Size, len(paths), volume, lim.Volume)
	}
	switch t := TipoRicevuta(strings.ToLower(h.Get(HeaderTipoRicevuta))); t {
	case "", Completa, Breve, Sintetica:
	default:
		vs.add("RECEIPT_TYPE_INVALID", "receipt_type", "%s is %q", HeaderTipoRicevuta, t)
	}
	return vs
}

// checkList reads To or Cc strictly into named and counts the addresses.
func checkList(h Header, name string, named map[string]bool, vs *Violations) int {
	n := 0
	for _, v := range h.Values(name) {
		for _, a := range ParseAddresses(v) {
			if !validAddr(a.Addr) {
				vs.add("RECIPIENT_INVALID", strings.ToLower(name), "%q is no address", strings.TrimSpace(a.Name+" "+a.Addr))
				continue
			}
			named[strings.ToLower(a.Addr)] = true
			n++
		}
	}
	if h.Count(name) > 1 {
		vs.add("FIELD_TWICE", strings.ToLower(name), "%s stands %d times", name, h.Count(name))
	}
	return n
}
