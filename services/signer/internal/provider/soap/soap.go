// Package soap is the little of SOAP 1.1 that the providers of remote signatures speak: document/literal
// messages without headers, over HTTP POST. It writes and reads envelopes, and tells a fault that the
// other side's application answered from one that only says that something broke.
//
// It refuses document types, attachments (MTOM is neither sent nor asked for), and answers in which the
// element that the operation names is missing.
package soap

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"ceralacca.dev/services/signer/internal/provider"
)

// Client calls one endpoint. The address is the configured one, never that of a WSDL: those name hosts
// that only the provider can reach.
type Client struct {
	HTTP     *http.Client
	Endpoint string
	// Namespace of the operations' elements. What is inside them is unqualified.
	Namespace string
}

// Fault is a fault of the application: it has a detail. Text is what it says of itself and may quote the
// request: it is not for logs.
type Fault struct {
	Code string // what the detail or the text has as a number; may be empty
	Text string
}

func (f *Fault) Error() string { return "SOAP fault " + f.Code }

const envelopeNS = "http://schemas.xmlsoap.org/soap/envelope/" // spec: SOAP11 §4

// Call sends in as the element operation and reads <operation>Response into out. Errors are
// *provider.Error, or *Fault for what the application answered.
func (c *Client) Call(ctx context.Context, operation string, again provider.Repeatable, in, out any) error {
	body, err := c.envelope(operation, in)
	if err != nil {
		return provider.Errorf(provider.Refused, provider.Undocumented, "the request cannot be written").With(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Endpoint, bytes.NewReader(body))
	if err != nil {
		return provider.Errorf(provider.Refused, provider.AccountRefused, "the address of the provider is none").With(err)
	}
	req.Header.Set("Content-Type", "text/xml; charset=utf-8")
	req.Header.Set("Accept", "text/xml")
	req.Header.Set("SOAPAction", `""`)
	status, answer, err := provider.Call(c.HTTP, req, again)
	if err != nil {
		var fault *Fault
		if parse(answer, operation, nil, &fault) == nil && fault != nil {
			return fault
		}
		return err
	}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return provider.Errorf(provider.Refused, provider.AccountRefused, "the provider does not let this installation in (HTTP %d): look at its certificate and its contract", status)
	case status != http.StatusOK:
		return provider.Unreadable(again, "the provider answered HTTP %d", status)
	}
	var fault *Fault
	if err := parse(answer, operation, out, &fault); err != nil {
		return provider.Unreadable(again, "the answer to %s is not what public material says of it", operation).With(err)
	}
	if fault != nil {
		return fault
	}
	return nil
}

func (c *Client) envelope(operation string, in any) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s=%q><s:Body>`, envelopeNS)
	e := xml.NewEncoder(&b)
	start := xml.StartElement{Name: xml.Name{Local: "t:" + operation}, Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns:t"}, Value: c.Namespace}}}
	if err := e.EncodeElement(in, start); err != nil {
		return nil, err
	}
	if err := e.Close(); err != nil {
		return nil, err
	}
	b.WriteString(`</s:Body></s:Envelope>`)
	return b.Bytes(), nil
}

var errNoEnvelope = errors.New("no SOAP envelope with the operation's response")

// parse reads the body of an envelope: the response into out, or a fault.
func parse(raw []byte, operation string, out any, fault **Fault) error {
	d := xml.NewDecoder(bytes.NewReader(raw))
	inside := 0 // 1: in the envelope, 2: in its body
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return errNoEnvelope
		}
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.Directive:
			return errors.New("a document type is not allowed")
		case xml.StartElement:
			switch {
			case inside == 0 && t.Name == xml.Name{Space: envelopeNS, Local: "Envelope"}:
				inside = 1
			case inside == 1 && t.Name == xml.Name{Space: envelopeNS, Local: "Header"}:
				if err := d.Skip(); err != nil {
					return err
				}
			case inside == 1 && t.Name == xml.Name{Space: envelopeNS, Local: "Body"}:
				inside = 2
			case inside == 2 && t.Name == xml.Name{Space: envelopeNS, Local: "Fault"}:
				*fault, err = readFault(d, t)
				return err
			case inside == 2 && t.Name.Local == operation+"Response" && out != nil:
				return d.DecodeElement(out, &t)
			default:
				return errNoEnvelope
			}
		}
	}
}

// readFault reads a fault. nil without an error is one that has no detail: the machinery's, not the
// application's. The code is the first number in an element that is called so, or at the start of the text.
func readFault(d *xml.Decoder, start xml.StartElement) (*Fault, error) {
	var f struct {
		Text   string `xml:"faultstring"`
		Detail *struct {
			Inner []byte `xml:",innerxml"`
		} `xml:"detail"`
	}
	if err := d.DecodeElement(&f, &start); err != nil {
		return nil, err
	}
	if f.Detail == nil || len(bytes.TrimSpace(f.Detail.Inner)) == 0 {
		return nil, errors.New("a fault without a detail")
	}
	out := &Fault{Text: strings.TrimSpace(f.Text)}
	in, name := xml.NewDecoder(bytes.NewReader(f.Detail.Inner)), ""
	for out.Code == "" {
		tok, err := in.Token()
		if err != nil {
			break // the detail is no more than what was found of it
		}
		switch t := tok.(type) {
		case xml.StartElement:
			name = t.Name.Local
		case xml.CharData:
			if name == "error" || name == "code" || name == "errorCode" {
				out.Code = number(string(t))
			}
		}
	}
	if out.Code == "" {
		out.Code = number(out.Text)
	}
	return out, nil
}

// number is the digits (with a sign) at the start of s.
func number(s string) string {
	s = strings.TrimSpace(s)
	end := 0
	for end < len(s) && end < 12 && (s[end] >= '0' && s[end] <= '9' || end == 0 && s[end] == '-') {
		end++
	}
	return strings.Trim(s[:end], "-") // "-4" and "4" are told apart by nobody's documentation
}

// Tell makes the error out of what err says: a fault by what its code means (see provider.Codes), anything
// else as it is.
func Tell(err error, codes provider.Codes) error {
	var f *Fault
	if err == nil || !errors.As(err, &f) {
		return err
	}
	return codes.Error(f.Code).With(f)
}
