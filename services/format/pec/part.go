package pec

import (
	"io"
	"strings"
)

// Part is one MIME entity: a header and a body with their places in the message.
// Header is [Start, BodyStart), the body [BodyStart, End), both in bytes of the message.
// The body of a multipart includes preamble, delimiters and epilogue.
type Part struct {
	Parent *Part
	Parts  []*Part // of a multipart, or the one message of a message/rfc822
	Header Header

	MediaType   string            // lower case; text/plain when not said (message/rfc822 in a digest)
	Params      map[string]string // of Content-Type, names in lower case, RFC 2231 decoded
	Encoding    string            // transfer encoding in lower case; "" when not said
	Disposition string            // attachment, inline or ""
	DispParams  map[string]string

	Start, BodyStart, End int64
	Closed                bool // a multipart with its closing delimiter

	m     *Message
	depth int
	index int
}

// finish sets where the part and what is open around it, up to but without container, end. A part without a body ends with its
// header. None ends after what holds it, or begins after its own end: the line end before a delimiter belongs to it, also where
// it was the end of the delimiter that began the part.
func (p *Part) finish(container *Part, end int64) {
	if p == nil || p == container {
		return
	}
	p.Parent.finish(container, end)
	p.End = max(end, p.Start)
	if p.Parent != nil && p.Parent != container {
		p.End = min(p.End, p.Parent.End)
	}
	p.Start = min(p.Start, p.End)
	p.BodyStart = min(p.BodyStart, p.End)
}

// readType reads Content-Type, Content-Transfer-Encoding and Content-Disposition.
func (p *Part) readType() {
	value, present := p.Header.Lookup("Content-Type")
	p.MediaType, p.Params = parseParams(value)
	if !strings.Contains(p.MediaType, "/") {
		// spec: RFC2045 §5.2; RFC2046 §5.1.5
		p.MediaType = "text/plain"
		if !present && p.Parent != nil && p.Parent.MediaType == "multipart/digest" {
			p.MediaType = "message/rfc822"
		}
	}
	enc := p.Header.Get("Content-Transfer-Encoding")
	if i := strings.IndexAny(enc, "; \t("); i >= 0 {
		enc = enc[:i]
	}
	p.Encoding = strings.ToLower(enc)
	if disp, ok := p.Header.Lookup("Content-Disposition"); ok {
		p.Disposition, p.DispParams = parseParams(disp)
	}
}

// IsMultipart says whether the part is made of parts.
func (p *Part) IsMultipart() bool { return strings.HasPrefix(p.MediaType, "multipart/") }

// identity says whether the body stands as it is. Unknown encodings do not.
func (p *Part) identity() bool {
	switch p.Encoding {
	case "", "7bit", "8bit", "binary":
		return true
	}
	return false
}

// Depth is how many parts are around this one.
func (p *Part) Depth() int { return p.depth }

// Number is the place in the order of the message, 0 for the whole message.
func (p *Part) Number() int { return p.index }

// Raw is the whole entity, header and body, exactly as it stands: what a signature is over.
func (p *Part) Raw() *io.SectionReader { return io.NewSectionReader(p.m.src, p.Start, p.End-p.Start) }

// Body is the body as it stands, still encoded.
func (p *Part) Body() *io.SectionReader {
	return io.NewSectionReader(p.m.src, p.BodyStart, p.End-p.BodyStart)
}

// FileName is the name that the sender gave, decoded, "" when there is none. It is not safe as a
// path: see SafeName. Content-Disposition goes before Content-Type. spec: RFC2183 §2.3
func (p *Part) FileName() string { return cleanText(p.rawName()) }

// rawName is FileName with control characters and those that turn the direction of reading.
func (p *Part) rawName() string {
	for _, v := range []string{p.DispParams["filename"], p.Params["name"]} {
		if v != "" {
			return decodeText(v)
		}
	}
	return ""
}

// Walk visits the part and all below it in the order of the message until fn says stop.
func (p *Part) Walk(fn func(*Part) bool) bool {
	if !fn(p) {
		return false
	}
	for _, c := range p.Parts {
		if !c.Walk(fn) {
			return false
		}
	}
	return true
}

// Attachment is a file that goes with a message.
type Attachment struct {
	Part *Part
	Name string // safe and unique within the message
	Sent string // the name as sent, without control characters, "" when there was none
	Raw  string // and with them: to say what was sent, never to be printed as it is
	Size int64  // bytes of the encoded body
}

// Attachments lists what a reader would call attachments of the message in p: every leaf with a
// name or with disposition attachment, every attached message, and what is neither text nor
// multipart. It does not look inside attached messages. Names are safe and unique.
func (p *Part) Attachments() []Attachment {
	var out []Attachment
	used := map[string]bool{}
	var walk func(q *Part)
	walk = func(q *Part) {
		if q.IsMultipart() {
			for _, c := range q.Parts {
				walk(c)
			}
			return
		}
		sent := q.FileName()
		if q != p && q.MediaType == "message/rfc822" || sent != "" || q.Disposition == "attachment" ||
			!strings.HasPrefix(q.MediaType, "text/") {
			if q.MediaType == "message/rfc822" && q == p {
				return
			}
			out = append(out, Attachment{Part: q, Name: unique(SafeName(fallbackName(q, sent)), used), Sent: sent, Raw: q.rawName(), Size: q.End - q.BodyStart})
		}
	}
	if p.MediaType == "message/rfc822" && len(p.Parts) == 1 {
		p = p.Parts[0]
	}
	walk(p)
	return out
}

func fallbackName(p *Part, sent string) string {
	switch {
	case sent != "":
		return sent
	case p.MediaType == "message/rfc822":
		return "message.eml"
	case p.MediaType == "application/pkcs7-mime":
		return "smime.p7m"
	case p.MediaType == "application/ms-tnef":
		return "winmail.dat"
	case strings.HasPrefix(p.MediaType, "text/html"):
		return "part.html"
	case strings.HasPrefix(p.MediaType, "text/"):
		return "part.txt"
	}
	return "part.bin"
}

// TextParts gives the leaves that a reader would show as the text of the message in p.
func (p *Part) TextParts() []*Part {
	var out []*Part
	if p.MediaType == "message/rfc822" && len(p.Parts) == 1 {
		p = p.Parts[0]
	}
	p.Walk(func(q *Part) bool {
		if q.Disposition == "attachment" || q.FileName() != "" || q.insideMessage(p) {
			return true
		}
		if q.MediaType == "text/plain" || q.MediaType == "text/html" {
			out = append(out, q)
		}
		return true
	})
	return out
}

// insideMessage says whether a message/rfc822 stands between root and p.
func (p *Part) insideMessage(root *Part) bool {
	for q := p.Parent; q != nil && q != root && p != root; q = q.Parent {
		if q.MediaType == "message/rfc822" {
			return true
		}
	}
	return false
}

// head gives the first bytes of the decoded body, as many as there are.
func (p *Part) head(n int) ([]byte, error) {
	b := make([]byte, n)
	k, err := io.ReadFull(p.Open(), b)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	return b[:k], nil
}
