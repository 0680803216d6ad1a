package pec

import (
	"cmp"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
	"github.com/emersion/go-imap/v2"
)

// ErrNotFound is the cause when something asked for does not exist.
var ErrNotFound = errors.New("not found")

func (w *World) show(g *gestore) client.PECProvider {
	mx := "up"
	if g.down {
		mx = "down"
	}
	c := g.signer.Certificate
	return client.PECProvider{
		ID: g.id, Name: g.signer.Name, Address: g.signer.Address, Service: g.service, Domains: g.domains,
		CertPEM:    string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})),
		CertSHA256: fingerprint(c), CAPEM: string(g.ca.CertPEM()),
		Profile: g.signer.Profile.Name, Recipients: g.limits.Recipients, Volume: g.limits.Volume, PerMinute: g.perMinute, Full: g.full, MX: mx,
	}
}

// Providers lists the providers.
func (w *World) Providers() []client.PECProvider {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := []client.PECProvider{}
	for _, g := range w.gestori {
		out = append(out, w.show(g))
	}
	return out
}

// SetProvider changes the settings that are given.
func (w *World) SetProvider(id string, in client.PECProvider) (client.PECProvider, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.gestori, func(g *gestore) bool { return g.id == id })
	if i < 0 {
		return client.PECProvider{}, fmt.Errorf("%w: no provider has id %q", ErrNotFound, id)
	}
	g := w.gestori[i]
	profile := g.signer.Profile
	if in.Profile != "" {
		all := rfc.Profiles()
		j := slices.IndexFunc(all, func(p rfc.Profile) bool { return p.Name == in.Profile })
		if j < 0 {
			return client.PECProvider{}, fmt.Errorf("profile %q is unknown: give plain, aruba, namirial, sogei or legalmail", in.Profile)
		}
		profile = all[j]
	}
	switch {
	case in.Full != "" && !slices.Contains([]string{fullError, fullRetry24, fullRetry48}, in.Full):
		return client.PECProvider{}, fmt.Errorf("full is %q: give error, retry24h or retry48h", in.Full)
	case in.MX != "" && in.MX != "up" && in.MX != "down":
		return client.PECProvider{}, fmt.Errorf("mx is %q: give up or down", in.MX)
	case in.Recipients < 0 || in.Volume < 0 || in.PerMinute < -1:
		return client.PECProvider{}, errors.New("limits must not be negative (per_minute -1: any number)")
	}
	g.signer.Profile = profile
	if in.Recipients > 0 {
		g.limits.Recipients = in.Recipients
	}
	if in.Volume > 0 {
		g.limits.Volume = in.Volume
	}
	if in.PerMinute != 0 {
		g.perMinute = in.PerMinute
	}
	if in.Full != "" {
		g.full = in.Full
	}
	if in.MX != "" {
		g.down = in.MX == "down"
	}
	return w.show(g), nil
}

// Mailboxes lists the mailboxes by address.
func (w *World) Mailboxes() []client.PECMailbox {
	w.mu.Lock()
	boxes := make([]*mailbox, 0, len(w.mailboxes))
	for _, mb := range w.mailboxes {
		boxes = append(boxes, mb)
	}
	w.mu.Unlock()
	out := []client.PECMailbox{}
	for _, mb := range boxes {
		out = append(out, mb.show())
	}
	slices.SortFunc(out, func(a, b client.PECMailbox) int { return strings.Compare(a.Address, b.Address) })
	return out
}

// SetMailbox makes a mailbox, or changes what is given of one.
func (w *World) SetMailbox(in client.PECMailbox) (client.PECMailbox, error) {
	list := rfc.ParseAddresses(in.Address)
	switch {
	case len(list) != 1 || list[0].Addr != in.Address || strings.ContainsAny(in.Address, " \r\n\t<>") || !strings.Contains(in.Address, "@"):
		return client.PECMailbox{}, fmt.Errorf("address %q is no address", in.Address)
	case w.manager(in.Address) == nil:
		return client.PECMailbox{}, fmt.Errorf("address %q: no provider manages its domain; GET /v1/pec/providers lists the domains", in.Address)
	case in.Ordinary != "" && in.Ordinary != accept && in.Ordinary != reject:
		return client.PECMailbox{}, fmt.Errorf("ordinary is %q: give accept or reject", in.Ordinary)
	case in.State != "" && !slices.Contains([]string{active, suspended, disabled}, in.State):
		return client.PECMailbox{}, fmt.Errorf("state is %q: give active, suspended or disabled", in.State)
	case in.Quota < 0, in.LockAfter < 0:
		return client.PECMailbox{}, errors.New("quota and lock_after must not be negative")
	}
	mb := w.open(in.Address)
	mb.mu.Lock()
	if in.Password != "" {
		mb.password = in.Password
	}
	if in.Quota > 0 {
		mb.quota = in.Quota
	}
	if in.Ordinary != "" {
		mb.ordinary = in.Ordinary
	}
	if in.LockAfter > 0 {
		mb.locks = in.LockAfter
	}
	if in.State != "" {
		mb.state, mb.refused = in.State, nil
	}
	mb.mu.Unlock()
	return mb.show(), nil
}

func (w *World) known(address string) (*mailbox, error) {
	mb := w.find(address)
	if mb == nil {
		return nil, fmt.Errorf("%w: there is no mailbox %q", ErrNotFound, address)
	}
	return mb, nil
}

// Messages lists what is in a mailbox, in order of arrival.
func (w *World) Messages(address string) ([]client.PECMessage, error) {
	mb, err := w.known(address)
	if err != nil {
		return nil, err
	}
	return mb.messages(), nil
}

// Raw gives the bytes of a message.
func (w *World) Raw(id int) ([]byte, error) {
	w.mu.Lock()
	boxes := make([]*mailbox, 0, len(w.mailboxes))
	for _, mb := range w.mailboxes {
		boxes = append(boxes, mb)
	}
	w.mu.Unlock()
	for _, mb := range boxes {
		if raw := mb.rawOf(id); raw != nil {
			return raw, nil
		}
	}
	return nil, fmt.Errorf("%w: no mailbox holds message %d", ErrNotFound, id)
}

func (mb *mailbox) rawOf(id int) []byte {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	for _, f := range mb.folders {
		for _, l := range f.letters {
			if l.id == id {
				return l.raw
			}
		}
	}
	return nil
}

// maxCopies bounds one Inject.
const maxCopies = 100_000

// Inject puts bytes into a mailbox; nobody looks at them.
func (w *World) Inject(address string, in client.PECInject) error {
	mb, err := w.known(address)
	if err != nil {
		return err
	}
	if in.Times < 0 || in.Times > maxCopies {
		return fmt.Errorf("times must be 1 to %d, is %d", maxCopies, in.Times)
	}
	var flags []imap.Flag
	for _, f := range in.Flags {
		flags = append(flags, imap.Flag(f))
	}
	name := in.Folder
	if name == "" {
		name = inbox
	}
	for range max(in.Times, 1) {
		if _, _, err := w.put(mb, name, in.Data, w.cfg.Clock.Now(), flags); err != nil {
			return fmt.Errorf("%w: %w", ErrNotFound, err)
		}
	}
	return nil
}

// forgeries are what Forge can make.
var forgeries = map[string]string{
	"valid": "", "unsigned": client.FaultPECUnsigned, "wrong_signer": client.FaultPECWrongSigner,
	"bad_signature": client.FaultPECBadSignature, "broken_mime": client.FaultPECBrokenMIME,
	"expired_signer": client.FaultPECExpiredSigner, "early_signer": client.FaultPECEarlySigner, "other_provider": client.FaultPECOtherProvider,
	"cut_signature": client.FaultPECNoSigner, "bare_lf": client.FaultPECBareLF, "mailing_list": client.FaultPECList,
	"wrong_zone": client.FaultPECWrongZone, "no_zone": client.FaultPECNoZone, "no_msgid": client.FaultPECNoMsgID,
	"other_msgid": client.FaultPECOtherMsgID, "other_tipo": client.FaultPECOtherTipo, "unknown_tipo": client.FaultPECUnknownTipo, "other_recipient": client.FaultPECOtherRecipient,
	"doctype": client.FaultPECDoctype, "two_daticert": client.FaultPECTwoDaticert,
}

// Forge puts a receipt that nobody is owed into a mailbox.
func (w *World) Forge(in client.PECForge) error {
	mb, err := w.known(in.Mailbox)
	if err != nil {
		return err
	}
	how, ok := forgeries[in.How]
	tipo := rfc.Tipo(in.Tipo)
	switch {
	case !ok:
		return fmt.Errorf("how is %q: give one of %s", in.How, strings.Join(slices.Sorted(maps.Keys(forgeries)), ", "))
	case !tipo.Receipt():
		return fmt.Errorf("tipo is %q: give a receipt, such as accettazione, avvenuta-consegna or errore-consegna", in.Tipo)
	}
	g := w.manager(mb.address)
	now := w.cfg.Clock.Now()
	if in.Identificativo == "" {
		w.mu.Lock()
		s := g.signer
		w.mu.Unlock()
		if in.Identificativo, err = s.NewIdentificativo(now); err != nil {
			return err
		}
	}
	a := rfc.Atto{Tipo: tipo, Istante: now, To: mb.address, Dati: rfc.Daticert{
		Mittente: mb.address, Risposte: mb.address, Oggetto: "forged", HasOggetto: true, Identificativo: in.Identificativo, Errore: rfc.Nessuno,
		Destinatari: []rfc.Destinatario{{Indirizzo: in.Recipient}},
	}}
	if in.MsgID != "" {
		a.Dati.MsgID = "<" + rfc.TrimID(in.MsgID) + ">"
	}
	if tipo.PerRecipient() {
		a.Dati.Consegna = in.Recipient
	}
	if tipo == rfc.AvvenutaConsegna {
		a.Dati.Ricevuta = rfc.Sintetica
	}
	if tipo == rfc.ErroreConsegna || tipo == rfc.PreavvisoErrore || tipo == rfc.NonAccettazione {
		a.Dati.Errore, a.Dati.ErroreEsteso = cmp.Or(rfc.Errore(in.Errore), rfc.AltroErrore), in.Detail
	}
	raw, err := w.sign(g, a, how)
	if err != nil {
		return err
	}
	w.deposit(mb, raw, now)
	return nil
}

// ChangeUIDValidity renumbers a mailbox and cuts its sessions.
func (w *World) ChangeUIDValidity(address string) error {
	mb, err := w.known(address)
	if err != nil {
		return err
	}
	w.renumber(mb)
	return nil
}

// Submissions is the log of what users submitted; from "" is everybody.
func (w *World) Submissions(from string) []client.PECSubmission {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := []client.PECSubmission{}
	for _, s := range w.submissions {
		if from == "" || strings.EqualFold(from, s.from) {
			v := s.view
			v.Events = slices.Clone(s.view.Events)
			out = append(out, v)
		}
	}
	return out
}

// Submitted gives the bytes of a submission as they came.
func (w *World) Submitted(identificativo string) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.byID[identificativo]
	if s == nil || s.raw == nil {
		return nil, fmt.Errorf("%w: no submission kept has identificativo %q", ErrNotFound, identificativo)
	}
	return s.raw, nil
}

// Reset forgets messages, submissions and settings: the preset mailboxes stay, empty. Notices
// that wait are not sent any more.
func (w *World) Reset() {
	w.mu.Lock()
	for _, s := range w.submissions {
		for _, a := range s.view.To {
			s.settled[strings.ToLower(a)] = true
		}
	}
	old := w.mailboxes
	w.mailboxes, w.submissions, w.byID, w.rate = map[string]*mailbox{}, nil, map[string]*submission{}, map[string][]time.Time{}
	for _, g := range w.gestori {
		g.limits = rfc.SubmissionLimits{Recipients: rfc.LegalRecipients, Volume: rfc.LegalVolume}
		g.perMinute, g.full, g.down = -1, fullError, false
	}
	w.mu.Unlock()
	for _, mb := range old {
		mb.cut()
	}
	w.preset()
}
