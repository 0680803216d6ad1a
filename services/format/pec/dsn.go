package pec

import (
	"bytes"
	"strings"
)

// DSNRecipient is what a delivery status notification says of one recipient. spec: RFC3464 §2.3
type DSNRecipient struct {
	Address    string
	Action     string // failed, delayed, delivered, relayed, expanded
	Status     string // enhanced status code
	Diagnostic string
}

// DSN is a delivery status notification of ordinary mail. It proves nothing: anybody can write
// one. It usually comes in an anomaly envelope.
type DSN struct {
	ReportingMTA string
	Recipients   []DSNRecipient
	OriginalID   string // Message-ID of the message that it is about, without brackets
}

// ReadDSN reads the notification that m is, or that its anomaly envelope holds; nil when there is none.
func (r *Reading) ReadDSN() (*DSN, error) {
	root := r.Root
	if r.Claim.Tipo == BustaAnomalia && r.Original != nil {
		inner, err := r.OriginalMessage()
		if err != nil || inner == nil {
			return nil, err
		}
		root = inner
	}
	if root.MediaType != "multipart/report" || !strings.EqualFold(root.Params["report-type"], "delivery-status") {
		return nil, nil
	}
	d := &DSN{}
	for _, p := range root.Parts {
		switch p.MediaType {
		case "message/delivery-status", "message/global-delivery-status":
			raw, err := p.Bytes(1 << 20)
			if err != nil {
				if isLimit(err) {
					return nil, nil
				}
				return nil, err
			}
			d.groups(raw)
		case "message/rfc822", "text/rfc822-headers", "message/global":
			if err := d.original(p); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

// groups reads the groups of fields. spec: RFC3464 §2.1
func (d *DSN) groups(raw []byte) {
	for i, g := range bytes.Split(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n\n")) {
		m, err := ParseBytes(append(bytes.TrimLeft(g, "\n"), '\n', '\n'))
		if err != nil {
			continue
		}
		h := m.Root.Header
		if i == 0 {
			d.ReportingMTA = afterType(h.Get("Reporting-MTA"))
		}
		addr := afterType(h.Get("Final-Recipient"))
		if v := afterType(h.Get("Original-Recipient")); v != "" {
			addr = v
		}
		if addr == "" {
			continue
		}
		d.Recipients = append(d.Recipients, DSNRecipient{
			Address: addr, Action: strings.ToLower(h.Get("Action")), Status: h.Get("Status"),
			Diagnostic: cleanText(afterType(h.Text("Diagnostic-Code"))),
		})
	}
}

// afterType takes "rfc822;" off.
func afterType(v string) string {
	if _, rest, ok := strings.Cut(v, ";"); ok {
		return strings.TrimSpace(rest)
	}
	return v
}

func (d *DSN) original(p *Part) error {
	if len(p.Parts) == 1 {
		d.OriginalID = p.Parts[0].Header.MessageID("Message-ID")
		return nil
	}
	raw, err := p.Bytes(1 << 20)
	if err != nil {
		if isLimit(err) {
			return nil
		}
		return err
	}
	if m, err := ParseBytes(raw); err == nil {
		d.OriginalID = m.Root.Header.MessageID("Message-ID")
	}
	return nil
}
