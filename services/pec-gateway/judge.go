package pecgateway

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// Codes of quarantine. They are permanent.
const (
	codeUnreadable = "MESSAGE_UNREADABLE" // the format library refuses it
	codeTooLarge   = "MESSAGE_TOO_LARGE"  // beyond max_message: archived, not read
	codeReadFailed = "MESSAGE_READ_FAILED"
	codeRejected   = "ORDINARY_REJECTED" // a rule of the mailbox keeps it away
)

// judged is what one message says and what is proven of it.
type judged struct {
	list     int64 // version of the trust list
	kind     pecv1.MessageKind
	tipo     pec.Tipo
	reading  *pec.Reading
	report   *pec.Report
	stored   []byte // the record, JSON
	proven   bool
	doubts   []string
	code     string // of quarantine
	reason   string
	messageD string // Message-ID
	ref      string // msgid
	ident    string
	from     string
	sender   string // certified
	to       []string
	subject  string
	certTime *time.Time
	managed  bool // the signer's provider manages the domain of the certified sender
	files    []string
	words    []string
	exchange bool // it is, or says that it is, a message of the Sistema di Interscambio

	content    *comparison // of a delivery receipt about a message of ours
	registered *registered // of European registered mail
	told       *pec.DSN    // an ordinary delivery report
	trustless  bool        // no provider was trusted when it was judged
	vouched    *vouched    // by whose word it counts as proven
}

// verdict is what others are told of the check.
func (j *judged) verdict() *pecv1.Verdict {
	v := &pecv1.Verdict{Proven: j.proven && j.vouched == nil, SenderManaged: j.managed, CertifiedTime: stamp(j.certTime), FromExchange: j.exchange}
	if j.report != nil {
		v.Provider = j.report.Provider
	}
	if j.vouched != nil { // what others do with it stands on what signatures prove
		v.Doubts = append(v.Doubts, "it counts by a person's word alone: "+trim(j.vouched.says(), 500))
	}
	v.Doubts = append(v.Doubts, j.doubts[:min(len(j.doubts), toldDoubts)]...)
	if j.code != "" {
		v.Doubts = append(v.Doubts, j.code+": "+trim(j.reason, 500))
	}
	return v
}

// toldDoubts bounds what an event says of them; the report has all.
const toldDoubts = 5

// record is what is stored of a verification: the report with the findings of the reading.
type record struct {
	*pec.Report
	Reading pec.Findings `json:"reading,omitempty"`
	PEM     string       `json:"certificate_pem,omitempty"`

	Content    *comparison `json:"content,omitempty"`
	Registered *registered `json:"registered,omitempty"`
	Vouched    *vouched    `json:"vouched,omitempty"`
}

var kinds = map[pec.Tipo]pecv1.MessageKind{
	pec.BustaTrasporto:   pecv1.MessageKind_MESSAGE_KIND_ENVELOPE,
	pec.BustaAnomalia:    pecv1.MessageKind_MESSAGE_KIND_ANOMALY,
	pec.Accettazione:     pecv1.MessageKind_MESSAGE_KIND_ACCEPTANCE,
	pec.NonAccettazione:  pecv1.MessageKind_MESSAGE_KIND_NON_ACCEPTANCE,
	pec.PresaInCarico:    pecv1.MessageKind_MESSAGE_KIND_TAKING_IN_CHARGE,
	pec.AvvenutaConsegna: pecv1.MessageKind_MESSAGE_KIND_DELIVERY,
	pec.ErroreConsegna:   pecv1.MessageKind_MESSAGE_KIND_DELIVERY_FAILURE,
	pec.PreavvisoErrore:  pecv1.MessageKind_MESSAGE_KIND_DELIVERY_FAILURE,
	pec.RilevazioneVirus: pecv1.MessageKind_MESSAGE_KIND_VIRUS_DETECTION,
}

// judge reads and verifies a message. It fails only when the bytes cannot be got at; everything that is
// the message's own fault is in the result: one odd message stops nothing. standing are the words that count in the mailbox.
func (s *Service) judge(ctx context.Context, sp *spool, v pec.Verification, standing []db.Vouching) (j *judged, err error) {
	j = &judged{doubts: []string{}, to: []string{}}
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "reading a message failed", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			*j = judged{doubts: []string{}, to: []string{}, code: codeReadFailed, reason: "the reader failed on this message"}
			err = nil
		}
	}()
	if sp.size > s.cfg.MaxMessage {
		j.code, j.reason = codeTooLarge, fmt.Sprintf("it has %d bytes; at most %d are read", sp.size, s.cfg.MaxMessage)
		return j, nil
	}
	src := &watched{src: sp}
	r, err := pec.Read(src, sp.size, pec.Limits{Size: s.cfg.MaxMessage})
	if src.err != nil {
		return nil, src.err
	}
	if err != nil {
		j.code, j.reason = codeUnreadable, err.Error()
		return j, nil
	}
	report, err := r.Verify(v)
	if err != nil {
		return nil, err
	}
	j.reading, j.report, j.vouched = r, report, word(standing, r, report)
	j.proven = j.vouched != nil || r.Proven(report)
	j.trustless = v.Trust == nil || len(v.Trust.Providers) == 0
	j.describe()
	j.note()
	j.managed = j.sender != "" && report.Provider != "" && v.Trust.ManagedBy(pec.Domain(j.sender), report.Provider)
	j.exchange = claimsExchange(r, j)
	err = j.readRegistered(v)
	if err == nil {
		err = j.readDeliveryReport()
	}
	if err == nil {
		err = j.store()
	}
	return j, err
}

// claimsExchange says whether a message is, or wants to be taken for, one of the Sistema di Interscambio: by its
// certified sender, by whom the envelope speaks for, or by whom its original says that it is from. It decides
// only who looks at the message.
func claimsExchange(r *pec.Reading, j *judged) bool {
	if j.tipo.Receipt() {
		return false
	}
	for _, a := range []string{j.sender, j.from, first(pec.ParseAddresses(r.Root.Header.Get("From")))} {
		if pec.Domain(a) == pec.SdIDomain {
			return true
		}
	}
	original, err := r.OriginalMessage()
	return err == nil && original != nil && pec.Domain(first(pec.ParseAddresses(original.Header.Get("From")))) == pec.SdIDomain
}

// watched tells errors of the source from those of the message.
type watched struct {
	src *spool
	err error
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.src.ReadAt(p, off)
	if err != nil && err.Error() != "EOF" {
		w.err = err
	}
	return n, err
}

// describe takes from the reading what rows hold.
func (j *judged) describe() {
	r := j.reading
	h := r.Root.Header
	j.tipo = r.Tipo()
	j.messageD, j.ref = trim(h.MessageID("Message-ID"), 500), trim(r.Claim.Riferimento, 500)
	j.subject = trim(h.Text("Subject"), 2000)
	j.from = first(pec.ParseAddresses(h.Get("From")))
	if j.tipo == pec.BustaTrasporto || j.tipo == pec.BustaAnomalia {
		// The envelope comes from the provider; its Reply-To is whom it speaks for.
		j.from = or(first(pec.ParseAddresses(h.Get("Reply-To"))), j.from)
	}
	for _, field := range []string{"To", "Cc"} {
		for _, a := range pec.ParseAddresses(h.Get(field)) {
			if len(j.to) < 5000 {
				j.to = append(j.to, trim(or(a.Addr, a.Name), 320))
			}
		}
	}
	j.kind = pecv1.MessageKind_MESSAGE_KIND_ORDINARY
	signed := j.signed()
	if kind, certified := kinds[j.tipo]; certified && signed {
		j.kind = kind
	}
	j.certified(r.Daticert)
	j.doubt(signed)
}

// signed says whether a provider signed it as it stands, or whoever has its key, as far as is known here.
func (j *judged) signed() bool {
	switch j.report.Status {
	case pec.StatusValid, pec.StatusUnlisted, pec.StatusEnded:
		return true
	}
	return false
}

// certified takes from daticert what a proven message certifies, and what correlation goes by.
func (j *judged) certified(d *pec.Daticert) {
	if d == nil {
		return
	}
	j.ident, j.ref = trim(pec.TrimID(d.Identificativo), 500), or(trim(pec.TrimID(d.MsgID), 500), j.ref)
	if !j.proven {
		return
	}
	j.sender = trim(d.Mittente, 320)
	if at, err := d.Istante(); err == nil {
		t := pg.Time(at)
		j.certTime = &t
	}
	j.to = j.to[:0]
	for _, a := range d.Destinatari {
		if len(j.to) < 5000 {
			j.to = append(j.to, trim(a.Indirizzo, 320))
		}
	}
}

// doubt says in words why nothing follows from the message.
func (j *judged) doubt(signed bool) {
	if j.proven {
		return
	}
	claims := j.tipo.Certified() || j.tipo == pec.TipoIgnoto
	if claims && !signed {
		j.doubts = append(j.doubts, fmt.Sprintf("it claims to be %s and is not: %s", or(string(j.reading.Claim.Tipo), string(j.tipo)), j.report.Status))
	}
	if claims && j.report.Reason != "" {
		j.doubts = append(j.doubts, j.report.Reason)
	}
	for _, fs := range []pec.Findings{j.report.Findings, j.reading.Findings} {
		for _, f := range fs {
			if f.Severity >= pec.Doubt && len(j.doubts) < 50 {
				j.doubts = append(j.doubts, trim(f.Code+": "+f.Message, 500))
			}
		}
	}
	if !claims {
		j.doubts = j.doubts[:0] // ordinary mail claims nothing
	}
}

func first(list []pec.Address) string {
	for _, a := range list {
		if a.Addr != "" {
			return trim(a.Addr, 320)
		}
	}
	return ""
}

// trim makes text fit for a row: valid, without NUL, not endless.
func trim(s string, most int) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "?")
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}
