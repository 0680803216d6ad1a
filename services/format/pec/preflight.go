package pec

import (
	"fmt"
	"slices"
	"strings"
)

// Preflight is CheckSubmission as a gateway runs it, before a message leaves: besides the rules of
// the access point it holds the message to what a gateway has to guarantee, and to what is known of
// the provider. mailbox is the address whose credentials are used. It reads the first bytes of the
// attachments; the error is the source's. spec: RFC6109 §3.1.1
func Preflight(m *Message, e Envelope, mailbox string, lim SubmissionLimits) (Violations, error) {
	vs := CheckSubmission(m, e, lim)
	h := m.Root.Header
	if e.MailFrom != mailbox { // as written: providers compare in different ways
		vs.add("FROM_NOT_MAILBOX", "from", "the reverse path is %q, the mailbox %q", e.MailFrom, mailbox)
	}
	paths := map[string]bool{}
	for _, a := range e.Recipients {
		if !validAddr(a) {
			vs.add("RECIPIENT_INVALID", "recipients", "%q is no address", a)
		}
		paths[strings.ToLower(a)] = true
	}
	for _, name := range []string{"To", "Cc"} {
		for _, a := range ParseAddresses(h.Get(name)) {
			if validAddr(a.Addr) && !paths[strings.ToLower(a.Addr)] {
				vs.add("RECIPIENT_LEFT_OUT", strings.ToLower(name), "%q is named and would not get the message", a.Addr)
			}
		}
	}
	if id := h.MessageID("Message-ID"); h.Count("Message-ID") != 1 || !validMessageID(id) {
		vs.add("MESSAGE_ID_INVALID", "message_id", "%d Message-ID fields, the first is %q: exactly one that every provider leaves as it is has to be there", h.Count("Message-ID"), id)
	}
	if h.Count("Date") != 1 {
		vs.add("DATE_MISSING", "date", "%d Date fields, exactly 1 is expected", h.Count("Date"))
	}
	for _, f := range h {
		if reserved(f.Name) {
			vs.add("FIELD_RESERVED", "headers", "%s is for providers to set", f.Name)
		}
	}
	if lim.NoPrograms {
		if err := checkPrograms(m, &vs); err != nil {
			return nil, err
		}
	}
	return vs, nil
}

// reserved are the fields that providers write. spec: RFC6109 §2.1
func reserved(name string) bool {
	return slices.ContainsFunc([]string{HeaderTrasporto, HeaderRicevuta, HeaderRiferimento, "X-VerificaSicurezza", "X-Mittente"}, func(s string) bool {
		return strings.EqualFold(s, name)
	})
}

// checkPrograms looks for attachments that the provider is known to turn away.
func checkPrograms(m *Message, vs *Violations) error {
	for i, a := range m.Root.Attachments() {
		head, err := a.Part.head(512)
		if err != nil {
			return err
		}
		if d := Danger(a.Sent, head); d != "" {
			vs.add("ATTACHMENT_REFUSED", fmt.Sprintf("attachments[%d]", i), "%q: %s", a.Sent, d)
		}
	}
	return nil
}

// hints say how to mend a violation. spec: RFC6109 §3.1.1; DM-2005-11-02 art. 12
var hints = map[string]string{
	"FROM_COUNT":           "a message has one sender: the mailbox that it goes through",
	"FROM_INVALID":         "put the address of the mailbox into From",
	"FROM_MISMATCH":        "put the address of the mailbox into From, as it stands in the mailbox's settings",
	"FROM_NOT_MAILBOX":     "send through the mailbox whose address is in From, written the same way",
	"TO_MISSING":           "move one of the recipients from Cc to To: a message to Cc alone is refused",
	"BCC_PRESENT":          "name everybody in To or Cc: a hidden recipient makes the provider refuse the message",
	"RECIPIENT_INVALID":    "write local@domain in ASCII; a domain with other letters in its xn-- form",
	"RECIPIENT_NOT_NAMED":  "name every recipient in To or Cc",
	"RECIPIENT_LEFT_OUT":   "send to everybody who is named in To and Cc",
	"RECIPIENTS_MISSING":   "name at least one recipient",
	"FIELD_TWICE":          "write one To and one Cc field, with all addresses",
	"TOO_MANY_RECIPIENTS":  "send several messages, each to fewer recipients; allow_split does so, and each is a legal act of its own",
	"TOO_LARGE":            "make the attachments smaller (they grow by 37 % on the way) or send to fewer recipients at a time; allow_split does the latter",
	"RECEIPT_TYPE_INVALID": "ask for completa, breve or sintetica",
	"MESSAGE_ID_INVALID":   "give 1 to 200 characters of ASCII without blanks and brackets, with one @, never used before",
	"IN_REPLY_TO_INVALID":  "give the Message-ID of the message that is answered",
	"SUBJECT_TOO_LONG":     "shorten the subject",
	"DATE_MISSING":         "set Date to the time of sending",
	"FIELD_RESERVED":       "leave the field out: whoever sets it pretends to be a provider",
	"ATTACHMENT_INVALID":   "give each attachment a name and content",
	"ATTACHMENT_REFUSED":   "this provider turns such files away, also renamed or zipped: send another format",
	"SPLIT_IMPOSSIBLE":     "make the message smaller, or move recipients from Cc to To: each of the messages needs one there",
	"SDI_RECIPIENTS":       "send to one address of the exchange alone",
	"SDI_ADDRESS":          "use the address that the exchange assigned to this mailbox, sdi01@pec.fatturapa.it the first time",
	"SDI_TOO_LARGE":        "send fewer files in one message",
	"SDI_FILE_NAME":        "name the file <country><fiscal id>_<progressive>.xml, .xml.p7m or .zip",
	"SDI_FILE_TWICE":       "send each file once",
	"SDI_FILE_TOO_LARGE":   "files of more than 5,000,000 bytes cannot go to the exchange",
	"SDI_NO_FILE":          "attach the invoice",
}

// Hint says how to mend it.
func (v Violation) Hint() string { return hints[v.Code] }

// Split plans how a draft has to be sent under the limits: one list of recipients when it fits, or
// else several, in order, each with somebody in To. size is that of the draft as Compose writes it.
// Each list is a message of its own, with its own Message-ID, acceptance and legal effect: who calls
// this has the sender's consent. Errors: Violations with SPLIT_IMPOSSIBLE or TOO_LARGE.
// spec: DM-2005-11-02 art. 12 c. 2
func (d *Draft) Split(size int64, lim SubmissionLimits) ([]Draft, error) {
	lim = lim.orDefaults()
	to, cc := once(d.To, nil), []Address(nil)
	cc = once(d.Cc, to)
	n := len(to) + len(cc)
	most := int64(lim.Recipients)
	if each := size + lim.Reserve; each > 0 {
		most = min(most, lim.Volume/each)
	}
	if most < 1 {
		var vs Violations
		vs.add("TOO_LARGE", "size", "%d bytes, at most %d are allowed even for one recipient", size, lim.Volume-lim.Reserve)
		return nil, vs
	}
	count := int((int64(n) + most - 1) / most)
	if count <= 1 {
		return []Draft{*d}, nil
	}
	if len(to) < count {
		var vs Violations
		vs.add("SPLIT_IMPOSSIBLE", "to", "%d messages of at most %d recipients are needed, and To names only %d", count, most, len(to))
		return nil, vs
	}
	out := make([]Draft, count)
	for i := range out {
		out[i] = *d
		out[i].To = share(to, i, count)
		out[i].Cc = share(cc, i, count)
	}
	for i := range out { // rounding gives the first ones most of both lists
		if over := len(out[i].To) + len(out[i].Cc) - int(most); over > 0 {
			if !handOver(out, i, over, int(most)) {
				var vs Violations
				vs.add("SPLIT_IMPOSSIBLE", "to", "the recipients do not fit into %d messages of at most %d", count, most)
				return nil, vs
			}
		}
	}
	return out, nil
}

// once drops addresses that stand twice, or in the other list.
func once(list, other []Address) []Address {
	seen := map[string]bool{}
	for _, a := range other {
		seen[strings.ToLower(a.Addr)] = true
	}
	var out []Address
	for _, a := range list {
		if k := strings.ToLower(a.Addr); !seen[k] {
			seen[k] = true
			out = append(out, a)
		}
	}
	return out
}

// share is the i-th of n consecutive pieces, as equal as can be.
func share(list []Address, i, n int) []Address {
	return slices.Clone(list[len(list)*i/n : len(list)*(i+1)/n])
}

// handOver moves recipients in Cc, and then in To, to messages with room.
func handOver(out []Draft, from, over, most int) bool {
	for j := range out {
		room := most - len(out[j].To) - len(out[j].Cc)
		for ; j != from && room > 0 && over > 0; room, over = room-1, over-1 {
			f := &out[from]
			if n := len(f.Cc); n > 0 {
				out[j].Cc, f.Cc = append(out[j].Cc, f.Cc[n-1]), f.Cc[:n-1]
				continue
			}
			n := len(f.To)
			out[j].To, f.To = append(out[j].To, f.To[n-1]), f.To[:n-1]
		}
	}
	return over == 0
}
