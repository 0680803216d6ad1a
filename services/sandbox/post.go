package sandbox

import (
	"fmt"
	"strings"
	"time"

	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/sdi"
)

// connectPost gives SdI its mailboxes at the provider that manages its domain: what comes there goes to the
// exchange, and what the exchange sends leaves from there.
func (s *Server) connectPost() {
	s.pec.Attend(rfc.SdIDomain, func(mailbox string, raw []byte, at time.Time) {
		l, ok, err := readLetter(mailbox, raw)
		switch {
		case err != nil:
			s.log.Warn("a letter to SdI cannot be read", "mailbox", mailbox, "error", err.Error())
		case ok:
			s.exchange.TakeLetter(l, at)
		}
	})
	s.exchange.SetPost(func(l sdi.Letter) error {
		id, err := rfc.NewMessageID(nil, l.From)
		if err != nil {
			return fmt.Errorf("letter: %w", err)
		}
		d := rfc.Draft{
			From: rfc.Address{Addr: l.From}, To: []rfc.Address{{Addr: l.To}}, Subject: l.Subject, Date: s.clock.Now(), MessageID: id,
			Ricevuta: rfc.Breve, Text: l.Text,
		}
		for _, f := range l.Files {
			d.Attachments = append(d.Attachments, rfc.BytesFile(f.Name, "application/octet-stream", f.Data))
		}
		how := ""
		if l.Forged != "" {
			how = "pec_" + l.Forged
		}
		return s.pec.Post(d, how)
	}, s.pec.Has)
}

// readLetter reads a transport envelope; ok is false for receipts and for what is not certified. The point of
// reception has checked the signature.
func readLetter(mailbox string, raw []byte) (l sdi.Letter, ok bool, err error) {
	r, err := rfc.ReadBytes(raw)
	if err != nil || r.Tipo() != rfc.BustaTrasporto || r.Daticert == nil {
		return l, false, err
	}
	p, err := r.OriginalMessage()
	if err != nil || p == nil {
		return l, false, err
	}
	l = sdi.Letter{From: strings.ToLower(r.Daticert.Mittente), To: mailbox, Subject: p.Header.Text("Subject")}
	for _, a := range p.Attachments() {
		data, err := a.Part.Bytes(0)
		if err != nil {
			return l, false, err
		}
		l.Files = append(l.Files, sdi.LetterFile{Name: a.Sent, Data: data})
	}
	return l, true, nil
}
