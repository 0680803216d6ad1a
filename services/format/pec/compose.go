package pec

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"
	"time"
)

// File is an attachment to be sent. Open is called once for each time that the message is
// written; a message may be written twice (once to be measured).
type File struct {
	Name      string
	MediaType string // application/octet-stream when empty; message/rfc822 is sent as such a file too
	Open      func() (io.ReadCloser, error)
}

// BytesFile is a File in memory.
func BytesFile(name, mediaType string, data []byte) File {
	return File{Name: name, MediaType: mediaType, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

// Draft is a message that a user sends over a certified mailbox.
type Draft struct {
	From        Address // the mailbox itself
	To, Cc      []Address
	Subject     string
	Date        time.Time
	MessageID   string // without brackets, see NewMessageID; must be stored before anything is sent
	InReplyTo   string // identifier of the message that is answered, "" for none
	Ricevuta    TipoRicevuta
	Text        string // plain text
	HTML        string // "" for none
	Attachments []File
	Random      io.Reader // for boundaries; crypto/rand when nil
}

// NewMessageID makes an identifier: 128 random bits at the domain of the mailbox.
// random nil: crypto/rand.
func NewMessageID(random io.Reader, mailbox string) (string, error) {
	if random == nil {
		random = rand.Reader
	}
	id, err := token(random, 16)
	if err != nil {
		return "", err
	}
	return id + "@" + orDefault(Domain(mailbox), "invalid"), nil
}

// Recipients are the addresses of To and Cc, each once: the forward path of SMTP is made of
// these and of nothing else. spec: RFC6109 §3.1.1
func (d *Draft) Recipients() []string {
	var out []string
	seen := map[string]bool{}
	for _, list := range [][]Address{d.To, d.Cc} {
		for _, a := range list {
			if key := strings.ToLower(a.Addr); !seen[key] {
				seen[key] = true
				out = append(out, a.Addr)
			}
		}
	}
	return out
}

// Check says why an access point would not take the draft, before it is written.
// spec: RFC6109 §3.1.1
func (d *Draft) Check() Violations {
	var vs Violations
	if !validAddr(d.From.Addr) {
		vs.add("FROM_INVALID", "from", "%q is no address", d.From.Addr)
	}
	if len(d.To) == 0 {
		vs.add("TO_MISSING", "to", "there has to be at least one recipient in To")
	}
	for _, f := range []struct {
		name string
		list []Address
	}{{"to", d.To}, {"cc", d.Cc}} {
		for i, a := range f.list {
			if !validAddr(a.Addr) {
				vs.add("RECIPIENT_INVALID", fmt.Sprintf("%s[%d]", f.name, i), "%q is no address", a.Addr)
			}
		}
	}
	if !validMessageID(d.MessageID) {
		vs.add("MESSAGE_ID_INVALID", "message_id", "%q: give 1 to 200 characters of ASCII without blanks and brackets, with one @", d.MessageID)
	}
	if d.InReplyTo != "" && !validReference(d.InReplyTo) {
		vs.add("IN_REPLY_TO_INVALID", "in_reply_to", "%q is no identifier", d.InReplyTo)
	}
	if len(d.Subject) > maxSubject {
		vs.add("SUBJECT_TOO_LONG", "subject", "%d bytes, at most %d go through every provider", len(d.Subject), maxSubject)
	}
	if d.Date.IsZero() {
		vs.add("DATE_MISSING", "date", "give the time of sending")
	}
	switch d.Ricevuta {
	case "", Completa, Breve, Sintetica:
	default:
		vs.add("RECEIPT_TYPE_INVALID", "receipt_type", "%q: give completa, breve or sintetica", d.Ricevuta)
	}
	for i, f := range d.Attachments {
		if strings.TrimSpace(f.Name) == "" || f.Open == nil {
			vs.add("ATTACHMENT_INVALID", fmt.Sprintf("attachments[%d]", i), "an attachment needs a name and content")
		}
	}
	return vs
}

// maxSubject keeps a subject, escaped, inside the texts that readers of daticert take.
const maxSubject = 8 << 10

// validMessageID: what goes through every provider unchanged.
func validMessageID(id string) bool {
	if id == "" || len(id) > 200 || strings.Count(id, "@") != 1 || strings.HasPrefix(id, "@") || strings.HasSuffix(id, "@") {
		return false
	}
	for i := 0; i < len(id); i++ {
		if c := id[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`<>()[],;:\"`, c) >= 0 {
			return false
		}
	}
	return true
}

// validReference: an identifier that somebody else made, as it may stand between brackets on a line. Programs write what they like there.
func validReference(id string) bool {
	for i := 0; i < len(id); i++ {
		if c := id[i]; c <= ' ' || c >= 0x7f || c == '<' || c == '>' {
			return false
		}
	}
	return id != "" && len(id) <= 900
}

// Compose writes the message: CRLF, lines under 998 bytes, ASCII only, names and subject encoded
// (RFC 2047, RFC 2231), attachments in base64. It gives the bytes written. Errors: Violations
// (nothing was written then), or those of the writer and of the attachments.
// spec: RFC5322, RFC2045; RFC6109 §3.1.1
func Compose(w io.Writer, d *Draft) (int64, error) {
	if vs := d.Check(); len(vs) > 0 {
		return 0, vs
	}
	random := d.Random
	if random == nil {
		random = rand.Reader
	}
	out := &countWriter{w: w}
	c := &composer{w: out, random: random}
	if _, err := out.Write(d.header()); err != nil {
		return out.n, err
	}
	if err := c.body(d); err != nil {
		return out.n, err
	}
	return out.n, nil
}

// Size measures the message as Compose writes it.
func (d *Draft) Size() (int64, error) { return Compose(io.Discard, d) }

func (d *Draft) header() []byte {
	var b bytes.Buffer
	writeField(&b, "From", formatAddress(d.From))
	writeField(&b, "To", formatAddresses(d.To))
	if len(d.Cc) > 0 {
		writeField(&b, "Cc", formatAddresses(d.Cc))
	}
	writeText(&b, "Subject", d.Subject)
	writeField(&b, "Date", d.Date.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	writeField(&b, "Message-ID", "<"+d.MessageID+">")
	if d.InReplyTo != "" {
		writeField(&b, "In-Reply-To", "<"+d.InReplyTo+">")
		writeField(&b, "References", "<"+d.InReplyTo+">")
	}
	writeField(&b, HeaderTipoRicevuta, string(orDefault(d.Ricevuta, Completa)))
	b.WriteString("MIME-Version: 1.0\r\n")
	return b.Bytes()
}

type composer struct {
	w      io.Writer
	random io.Reader
}

func (c *composer) put(s string) error {
	_, err := io.WriteString(c.w, s)
	return err
}

// body writes text, or text and HTML, or either with attachments.
func (c *composer) body(d *Draft) error {
	if len(d.Attachments) == 0 {
		return c.words(d)
	}
	return c.multipart("mixed", func(next func() error) error {
		if err := next(); err != nil {
			return err
		}
		if err := c.words(d); err != nil {
			return err
		}
		for _, f := range d.Attachments {
			if err := next(); err != nil {
				return err
			}
			if err := c.file(f); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *composer) words(d *Draft) error {
	if d.HTML == "" {
		return c.text("text/plain", d.Text)
	}
	return c.multipart("alternative", func(next func() error) error {
		for _, p := range []struct{ kind, text string }{{"text/plain", d.Text}, {"text/html", d.HTML}} {
			if err := next(); err != nil {
				return err
			}
			if err := c.text(p.kind, p.text); err != nil {
				return err
			}
		}
		return nil
	})
}

// multipart writes the header of a multipart and what is in it; next begins a part.
// A boundary with "=_" is in no quoted-printable and no base64 text. spec: RFC2045 §6.7
func (c *composer) multipart(sub string, parts func(next func() error) error) error {
	id, err := token(c.random, 12)
	if err != nil {
		return err
	}
	boundary := "=_" + id
	var b bytes.Buffer
	writeParamField(&b, "Content-Type", "multipart/"+sub, param{"boundary", boundary})
	if err := c.put(b.String()); err != nil {
		return err
	}
	err = parts(func() error { return c.put("\r\n--" + boundary + "\r\n") })
	if err != nil {
		return err
	}
	return c.put("\r\n--" + boundary + "--\r\n")
}

func (c *composer) text(kind, text string) error {
	if err := c.put("Content-Type: " + kind + "; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"); err != nil {
		return err
	}
	if !strings.HasSuffix(text, "\n") {
		text += "\n" // SMTP would end the last line by itself, and the bytes that arrive were not those that we keep
	}
	return writeQP(c.w, strings.ToValidUTF8(text, "\ufffd"))
}

// writeQP encodes a text; line ends become CRLF.
func writeQP(w io.Writer, text string) error {
	q := quotedprintable.NewWriter(w)
	if _, err := io.WriteString(q, strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")); err != nil {
		return err
	}
	return q.Close()
}

func (c *composer) file(f File) (err error) {
	kind := strings.ToLower(f.MediaType)
	if !validMediaType(kind) || kind == "message/rfc822" {
		kind = "application/octet-stream" // spec: RFC2046 §5.2.1: message/rfc822 may not be base64
	}
	var b bytes.Buffer
	writeParamField(&b, "Content-Type", kind, param{"name", f.Name})
	writeParamField(&b, "Content-Disposition", "attachment", param{"filename", f.Name})
	b.WriteString("Content-Transfer-Encoding: base64\r\n\r\n")
	if err := c.put(b.String()); err != nil {
		return err
	}
	in, err := f.Open()
	if err != nil {
		return fmt.Errorf("pec: open attachment %q: %w", f.Name, err)
	}
	defer func() {
		if cerr := in.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("pec: close attachment %q: %w", f.Name, cerr)
		}
	}()
	lines := &base64Lines{w: c.w, width: 57}
	if _, err := io.CopyBuffer(lines, in, make([]byte, 32<<10)); err != nil {
		return fmt.Errorf("pec: write attachment %q: %w", f.Name, err)
	}
	return lines.Close()
}

// validMediaType takes type/subtype of tokens only, and no multipart.
func validMediaType(s string) bool {
	main, sub, ok := strings.Cut(s, "/")
	if !ok || main == "" || sub == "" || main == "multipart" {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; !alnum(c) && strings.IndexByte("/-+._", c) < 0 {
			return false
		}
	}
	return strings.Count(s, "/") == 1
}
