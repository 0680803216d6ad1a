package pec

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	rfc "ceralacca.dev/services/format/pec"
)

// Agent is a user of mailboxes that is a program: it gets what is delivered to them.
type Agent func(mailbox string, raw []byte, at time.Time)

// Attend gives every mailbox of a domain to an agent; they are made as somebody writes to them. Call it before
// anything is sent.
func (w *World) Attend(domain string, agent Agent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.agents[strings.ToLower(domain)] = agent
}

func (w *World) agentOf(address string) Agent {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.agents[strings.ToLower(rfc.Domain(address))]
}

// Post submits a message as the user of its mailbox does. With a kind of spoiling (such as pec_unsigned) it is a forgery
// instead: put beside into the mailboxes of its recipients, by nobody's provider.
func (w *World) Post(d rfc.Draft, how string) error {
	var raw bytes.Buffer
	if _, err := rfc.Compose(&raw, &d); err != nil {
		return fmt.Errorf("sandbox pec: %w", err)
	}
	m, err := rfc.ParseBytes(raw.Bytes())
	if err != nil {
		return fmt.Errorf("sandbox pec: %w", err)
	}
	w.open(d.From.Addr)
	e := rfc.Envelope{MailFrom: d.From.Addr, Recipients: d.Recipients()}
	if how == "" {
		return w.take(m, e, raw.Bytes())
	}
	g, now := w.manager(d.From.Addr), w.cfg.Clock.Now()
	if g == nil {
		return fmt.Errorf("sandbox pec: nobody manages %s", d.From.Addr)
	}
	w.mu.Lock()
	signer := g.signer
	w.mu.Unlock()
	id, err := signer.NewIdentificativo(now)
	if err != nil {
		return err
	}
	forged, err := w.sign(g, rfc.NewTransito(m, e, id, func(string) bool { return false }).Busta(now), how)
	if err != nil {
		return err
	}
	for _, a := range e.Recipients {
		if mb := w.find(a); mb != nil {
			w.deposit(mb, forged, now)
		}
	}
	return nil
}
