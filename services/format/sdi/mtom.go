package sdi

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"io"
	"mime"
	"mime/quotedprintable"
	"strings"
)

// maxParts bounds a multipart body: an envelope, a file, its metadata, and some slack for
// stacks that attach empty parts.
const maxParts = 8

const (
	typeXML       = "text/xml"
	typeXOP       = "application/xop+xml"
	typeMultipart = "multipart/related"
)

type mimePart struct {
	id       string // Content-ID without angle brackets
	ctype    string
	encoding string // Content-Transfer-Encoding, lower case
	body     []byte // aliases the whole body
}

// content undoes the transfer encoding. XOP parts are binary in practice; base64 and
// quoted-printable are legal and cheap to take.
func (p *mimePart) content(limit int) ([]byte, error) {
	switch p.encoding {
	case "", "binary", "8bit", "7bit":
		return p.body, nil
	case "base64":
		if base64.StdEncoding.DecodedLen(len(p.body)) > limit+limit/16+1024 {
			return nil, parseErr("multipart", ErrTooLarge, "part %q is larger than %d bytes", clip(p.id, 60), limit)
		}
		b, err := decodeBase64(p.body)
		if err != nil {
			return nil, parseErr("multipart", ErrMIME, "part %q is not base64: %v", clip(p.id, 60), err)
		}
		return b, nil
	case "quoted-printable":
		b, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(p.body)))
		if err != nil {
			return nil, parseErr("multipart", ErrMIME, "part %q is not quoted-printable: %v", clip(p.id, 60), err)
		}
		return b, nil
	}
	return nil, parseErr("multipart", ErrMIME, "part %q has transfer encoding %q", clip(p.id, 60), clip(p.encoding, 40))
}

// splitBody returns the envelope's bytes and, for multipart, all parts.
func splitBody(contentType string, body []byte, lim Limits) ([]byte, []mimePart, error) {
	if int64(len(body)) > lim.Body {
		return nil, nil, parseErr("body", ErrTooLarge, "%d bytes, the limit is %d", len(body), lim.Body)
	}
	mtype, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, nil, parseErr("Content-Type", ErrContentType, "%q: %v", clip(contentType, 120), err)
	}
	switch mtype {
	case typeXML, "application/xml":
		return body, nil, nil
	case "application/soap+xml":
		return nil, nil, parseErr("Content-Type", ErrSOAPVersion, "application/soap+xml is SOAP 1.2; send SOAP 1.1 as text/xml")
	case typeMultipart:
	default:
		return nil, nil, parseErr("Content-Type", ErrContentType, "%q; send text/xml or multipart/related", clip(mtype, 80))
	}
	parts, err := splitParts(body, params["boundary"])
	if err != nil {
		return nil, nil, err
	}
	root := 0
	if start := strings.Trim(params["start"], "<> "); start != "" {
		root = -1
		for i := range parts {
			if parts[i].id == start {
				root = i
				break
			}
		}
		if root < 0 {
			return nil, nil, parseErr("multipart", ErrMIME, "the root part %q (start parameter) is not there", clip(start, 60))
		}
	}
	switch t, _, _ := strings.Cut(parts[root].ctype, ";"); strings.ToLower(strings.TrimSpace(t)) {
	case "", typeXML, typeXOP, "application/xml":
	default:
		return nil, nil, parseErr("multipart", ErrContentType, "the root part is %q; it must be application/xop+xml or text/xml", clip(parts[root].ctype, 80))
	}
	env, err := parts[root].content(int(lim.Body))
	if err != nil {
		return nil, nil, err
	}
	return env, parts, nil
}

// splitParts cuts a multipart body. Part bodies alias body.
// spec: RFC2046 §5.1.1
func splitParts(body []byte, boundary string) ([]mimePart, error) {
	if boundary == "" || len(boundary) > 200 {
		return nil, parseErr("Content-Type", ErrMIME, "multipart without a usable boundary parameter")
	}
	delim := []byte("\r\n--" + boundary)
	var pos int
	if bytes.HasPrefix(body, delim[2:]) {
		pos = len(delim) - 2
	} else {
		i := bytes.Index(body, delim)
		if i < 0 {
			return nil, parseErr("multipart", ErrMIME, "boundary %q does not occur", clip(boundary, 60))
		}
		pos = i + len(delim)
	}
	parts := make([]mimePart, 0, 2)
	for {
		rest := body[pos:]
		if bytes.HasPrefix(rest, []byte("--")) {
			break
		}
		eol := bytes.Index(rest, []byte("\r\n"))
		if eol < 0 {
			return nil, parseErr("multipart", ErrTruncated, "the body ends in a delimiter line")
		}
		if len(bytes.Trim(rest[:eol], " \t")) > 0 {
			return nil, parseErr("multipart", ErrMIME, "text after a delimiter")
		}
		// A part is cut from the line break that ends its delimiter line, so that a part
		// without headers still begins with a blank line.
		start := pos + eol
		n := bytes.Index(body[start+2:], delim)
		if n < 0 {
			return nil, parseErr("multipart", ErrTruncated, "the closing boundary is missing")
		}
		if len(parts) == maxParts {
			return nil, parseErr("multipart", ErrMIME, "more than %d parts", maxParts)
		}
		part, err := parsePart(body[start : start+2+n])
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		pos = start + 2 + n + len(delim)
	}
	if len(parts) == 0 {
		return nil, parseErr("multipart", ErrMIME, "no parts")
	}
	return parts, nil
}

// parsePart takes a part from the line break that ends its delimiter line.
func parsePart(b []byte) (mimePart, error) {
	var p mimePart
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return p, parseErr("multipart", ErrMIME, "a part has no blank line after its headers")
	}
	if end > 8<<10 {
		return p, parseErr("multipart", ErrTooLarge, "part headers of %d bytes", end)
	}
	p.body = b[end+4:]
	if end < 2 {
		return p, nil
	}
	head := strings.NewReplacer("\r\n ", " ", "\r\n\t", " ").Replace(string(b[2:end]))
	for line := range strings.SplitSeq(head, "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return p, parseErr("multipart", ErrMIME, "malformed part header %q", clip(line, 60))
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "content-id":
			p.id = strings.Trim(value, "<>")
		case "content-type":
			p.ctype = value
		case "content-transfer-encoding":
			p.encoding = strings.ToLower(value)
		}
	}
	return p, nil
}

// Encoding is how a request or answer carries its file.
type Encoding uint8

// The three shapes that real clients produce; every decoder of this package takes all.
const (
	XOP       Encoding = iota // multipart/related, file as a binary part (MTOM)
	Multipart                 // multipart/related, file as base64 in the envelope
	Plain                     // text/xml, file as base64 in the envelope
)

// maxChunks are an envelope, two files, and what stands between them.
const maxChunks = 5

// A Payload is an encoded SOAP message, ready to travel. It does not copy the files.
type Payload struct {
	ContentType string
	SOAPAction  string // without quotes; "" for answers
	chunks      [maxChunks][]byte
}

// Len is the number of bytes of the body.
func (p *Payload) Len() int64 {
	var n int64
	for _, c := range p.chunks {
		n += int64(len(c))
	}
	return n
}

// Reader reads the body from its beginning; each call gives a new reader.
func (p *Payload) Reader() io.Reader {
	return &payloadReader{chunks: p.chunks}
}

// WriteTo writes the body.
func (p *Payload) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for _, c := range p.chunks {
		if len(c) == 0 {
			continue
		}
		n, err := w.Write(c)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// Bytes joins the body.
func (p *Payload) Bytes() []byte {
	out := make([]byte, 0, p.Len())
	for _, c := range p.chunks {
		out = append(out, c...)
	}
	return out
}

type payloadReader struct {
	chunks [maxChunks][]byte
	i      int
}

func (r *payloadReader) Read(b []byte) (int, error) {
	for r.i < len(r.chunks) && len(r.chunks[r.i]) == 0 {
		r.i++
	}
	if r.i == len(r.chunks) {
		return 0, io.EOF
	}
	n := copy(b, r.chunks[r.i])
	r.chunks[r.i] = r.chunks[r.i][n:]
	return n, nil
}

const (
	rootID     = "envelope@sdi"
	fileID     = "file@sdi"
	metadataID = "metadata@sdi"
)

// attachment is a file that an envelope points to.
type attachment struct {
	id   string
	data []byte
}

// wrap puts an envelope, and a file that the envelope points to when enc is XOP, into a
// payload.
func wrap(env, file []byte, enc Encoding) Payload {
	if file == nil {
		return wrapAll(env, enc)
	}
	return wrapAll(env, enc, attachment{fileID, file})
}

// wrapAll is wrap for at most two files.
func wrapAll(env []byte, enc Encoding, files ...attachment) Payload {
	if enc == Plain {
		return Payload{ContentType: "text/xml; charset=utf-8", chunks: [maxChunks][]byte{env}}
	}
	boundary := "sdi-" + rand.Text()
	rootType, partType := typeXML, "text/xml; charset=utf-8"
	if enc == XOP {
		rootType, partType = typeXOP, `application/xop+xml; charset=utf-8; type="text/xml"`
	}
	head := make([]byte, 0, len(env)+512)
	head = append(head, "--"...)
	head = append(head, boundary...)
	head = append(head, "\r\nContent-Type: "...)
	head = append(head, partType...)
	head = append(head, "\r\nContent-Transfer-Encoding: binary\r\nContent-ID: <"+rootID+">\r\n\r\n"...)
	head = append(head, env...)
	p := Payload{
		ContentType: typeMultipart + `; type="` + rootType + `"; boundary="` + boundary + `"; start="<` + rootID + `>"; start-info="text/xml"`,
	}
	n := 0
	if enc == XOP {
		for _, f := range files {
			head = append(head, "\r\n--"...)
			head = append(head, boundary...)
			head = append(head, "\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\nContent-ID: <"+f.id+">\r\n\r\n"...)
			p.chunks[n], p.chunks[n+1] = head, f.data
			n, head = n+2, nil
		}
	}
	p.chunks[n] = append(head, "\r\n--"+boundary+"--\r\n"...)
	return p
}
