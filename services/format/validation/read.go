package validation

import (
	"bytes"
	"context"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"strings"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/tsp"
)

// Validate judges every signature and time-stamp of a file; what the file is, its bytes decide.
// A signature that does not hold is no error. Errors: ErrNoTime, ErrUnsigned, and the context's.
func Validate(ctx context.Context, raw []byte, o Options) (*Report, error) {
	r, err := ValidateSource(ctx, memory{bytes.NewReader(raw), raw}, o)
	if err != nil {
		return nil, err
	}
	if r.Extracted != nil {
		if r.Content, err = held(r.Extracted); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// ValidateSource is Validate for a file that is not in memory: a .p7m, whatever is around its content
// and however that is cut up, and a PDF are judged where they lie, with flat memory. What was signed is
// Report.Extracted; Report.Content stays nil. Errors: those of src too.
func ValidateSource(ctx context.Context, src Source, o Options) (*Report, error) {
	if o.At.IsZero() {
		return nil, ErrNoTime
	}
	if o.Policy == nil {
		o.Policy = DefaultPolicy()
	}
	if o.InMemory == 0 {
		o.InMemory = 64 << 20
	}
	j := &judge{ctx: ctx, o: o}
	switch {
	case o.Content != nil:
		j.content = memory{bytes.NewReader(o.Content), o.Content}
	case o.Beside != nil:
		j.content = j.watch(o.Beside)
	}
	r := &Report{At: o.At}
	err := j.file(r, j.watch(src), proof{at: o.At}, 0)
	switch {
	case j.unread != nil:
		return nil, fmt.Errorf("validation: read the file: %w", j.unread)
	case err != nil:
		return nil, err
	case ctx.Err() != nil:
		return nil, fmt.Errorf("validation: %w", ctx.Err())
	case r.Verdict == "" && len(r.Signatures) == 0 && len(r.Stamps) == 0:
		return nil, ErrUnsigned
	}
	r.conclude()
	return r, nil
}

// file adds what is in a file to the report. depth counts the containers around it.
func (j *judge) file(r *Report, src Source, p proof, depth int) error {
	if err := j.ctx.Err(); err != nil {
		return fmt.Errorf("validation: %w", err)
	}
	kind := func(k string) {
		if r.Kind == "" {
			r.Kind = k
		}
	}
	if depth > cms.MaxLayers {
		return fmt.Errorf("validation: more than %d containers inside each other", cms.MaxLayers)
	}
	start, err := headOf(src)
	if err != nil {
		return err
	}
	switch {
	case looksTSD(start):
	case cms.Looks(start):
		if tok := tokenIn(src); tok != nil {
			kind(KindTSR)
			return j.tsr(r, tok.Raw, p)
		}
		kind(KindCAdES)
		return j.cms(r, src, p, depth)
	case looksPDF(start):
		kind(KindPAdES)
		return j.pdf(r, src, p)
	}
	return j.whole(r, src, start, kind, p, depth)
}

// whole judges the forms that are read in one piece.
func (j *judge) whole(r *Report, src Source, start []byte, kind func(string), p proof, depth int) error {
	limit, form := j.o.InMemory, ""
	switch {
	case looksTSD(start):
		form = KindTSD
	case looksXML(start):
		limit, form = min(limit, largestXML), KindXAdES
		if depth > 0 && src.Size() > limit && !mentions(src, "http://www.w3.org/2000/09/xmldsig#") {
			return nil // a large document in an envelope, with no signature of its own
		}
	}
	if src.Size() > limit {
		kind(form)
		j.tooLarge(r, form, src, limit, depth)
		return nil
	}
	raw, err := held(src)
	if err != nil {
		return err
	}
	switch {
	case looksTSD(raw):
		kind(KindTSD)
		return j.tsd(r, raw, p, depth)
	case looksXML(raw):
		kind(KindXAdES)
		return j.xml(r, raw, p, depth)
	case len(raw) > 0 && raw[0] == 0x30:
		if tok, err := tsp.ParseToken(raw); err == nil {
			kind(KindTSR)
			return j.tsr(r, tok.Raw, p)
		}
	default:
		return j.mime(r, raw, p, depth)
	}
	return nil
}

// largestXML is what package xades takes.
const largestXML = 32 << 20

// tooLarge is the verdict on what could not be read. Inside an envelope it is that of one signature.
func (j *judge) tooLarge(r *Report, form string, src Source, limit int64, depth int) {
	c := unsure(Generic, fmt.Sprintf("it has %d bytes, and a file of this form is judged up to %d", src.Size(), limit))
	if depth == 0 {
		r.Conclusion = c
		return
	}
	r.Signatures = append(r.Signatures, Signature{Form: form, Conclusion: c})
}

// largestToken bounds what is tried as a bare time-stamp.
const largestToken = 1 << 20

func tokenIn(src Source) *tsp.Token {
	if src.Size() > largestToken {
		return nil
	}
	raw, err := held(src)
	if err != nil {
		return nil
	}
	tok, err := tsp.ParseToken(raw)
	if err != nil {
		return nil
	}
	return tok
}

func looksPDF(raw []byte) bool { return bytes.Contains(raw[:min(len(raw), 1024)], []byte("%PDF-")) }

func looksXML(raw []byte) bool {
	if bytes.HasPrefix(raw, []byte{0xff, 0xfe}) || bytes.HasPrefix(raw, []byte{0xfe, 0xff}) {
		return true
	}
	head := bytes.TrimSpace(bytes.TrimPrefix(raw[:min(len(raw), 1024)], []byte{0xEF, 0xBB, 0xBF}))
	return len(head) > 0 && head[0] == '<'
}

func (j *judge) tsr(r *Report, token []byte, p proof) error {
	var data []Source
	if j.content != nil {
		data = []Source{j.content}
	}
	r.Stamps = append(r.Stamps, j.stamp(rawStamp{token, data}, "file", p.at))
	return nil
}

// derOIDTSD is id-ct-timestampedData. spec: RFC5544 §2
var derOIDTSD = []byte{0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x1f}

func looksTSD(raw []byte) bool {
	return len(raw) > 0 && raw[0] == 0x30 && bytes.Contains(raw[:min(len(raw), 24)], derOIDTSD)
}

// timeStampedData: spec: RFC5544 §2
type timeStampedData struct {
	DataURI  string
	MetaData asn1.RawValue
	Content  []byte // nil: not in the file
	Evidence asn1.RawValue
}

// tsd judges the chain of time-stamps of a .tsd and then what is in it, which the first stamp
// that holds proves to be as old. Only DER is read. spec: RFC5544 §2, §3
func (j *judge) tsd(r *Report, raw []byte, p proof, depth int) error {
	t, metadata, err := readTSD(raw)
	if err != nil {
		r.Conclusion = failed(FormatFailure, "time-stamped data: "+err.Error())
		return nil
	}
	content := j.content
	if t.Content != nil {
		content = inMemory(t.Content)
	}
	tokens, err := tsdTokens(t.Evidence)
	if err != nil {
		r.Conclusion = failed(FormatFailure, "time-stamped data: "+err.Error())
		return nil
	}
	// The last stamp is over the one before it, and so on: it proves that one's age.
	stamps := make([]Stamp, len(tokens))
	inner := p
	for i := len(tokens) - 1; i >= 0; i-- {
		var data []Source
		switch {
		case i > 0:
			data = append(data, inMemory(tokens[i-1].whole))
		case content != nil:
			data = append(data, inMemory(metadata), content)
		}
		stamps[i] = j.stamp(rawStamp{tokens[i].token, data}, "file", inner.at)
		if stamps[i].Verdict == Passed {
			inner = inner.earlier(stamps[i].Time)
		}
	}
	r.Stamps = append(r.Stamps, stamps...)
	if content == nil {
		return nil
	}
	r.Extracted, r.Given = content, t.Content == nil
	return j.file(r, content, inner, depth+1)
}

// readTSD gives the parts, and the metadata when the stamp is over it too.
func readTSD(raw []byte) (timeStampedData, []byte, error) {
	var t timeStampedData
	var outer asn1.RawValue
	if rest, err := asn1.Unmarshal(raw, &outer); err != nil {
		return t, nil, fmt.Errorf("the envelope cannot be read as DER: %w", err)
	} else if len(rest) > 0 {
		return t, nil, fmt.Errorf("%d bytes after the end", len(rest))
	}
	var body, members []asn1.RawValue
	info, err := children(raw)
	if err == nil && len(info) == 2 && bytes.Equal(info[0].FullBytes, derOIDTSD) {
		body, err = children(info[1].FullBytes)
	}
	if err == nil && len(body) == 1 {
		members, err = children(body[0].FullBytes)
	}
	if err != nil {
		return t, nil, fmt.Errorf("TimeStampedData is malformed: %w", err)
	}
	if len(members) < 2 {
		return t, nil, fmt.Errorf("TimeStampedData has %d members, 2 at least are expected", len(members))
	}
	var metadata []byte
	t.Evidence = members[len(members)-1]
	for _, m := range members[1 : len(members)-1] {
		switch {
		case m.Class == asn1.ClassUniversal && m.Tag == asn1.TagIA5String:
			t.DataURI = string(m.Bytes)
		case m.Class == asn1.ClassUniversal && m.Tag == asn1.TagSequence:
			t.MetaData = m
		case m.Class == asn1.ClassUniversal && m.Tag == asn1.TagOctetString && !m.IsCompound:
			t.Content = m.Bytes
		default:
			return t, nil, fmt.Errorf("member with tag %d is not expected (only DER is read)", m.Tag)
		}
	}
	if fields, err := children(t.MetaData.FullBytes); err == nil && len(fields) > 0 && len(fields[0].Bytes) == 1 && fields[0].Bytes[0] != 0 {
		metadata = t.MetaData.FullBytes
	}
	return t, metadata, nil
}

// children gives the members of a SEQUENCE or of a constructed context tag.
func children(der []byte) ([]asn1.RawValue, error) {
	if len(der) == 0 {
		return nil, nil
	}
	var outer asn1.RawValue
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil, err
	}
	var out []asn1.RawValue
	for rest := outer.Bytes; len(rest) > 0; {
		var m asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &m); err != nil {
			return nil, err
		}
		if out = append(out, m); len(out) > 1024 {
			return nil, fmt.Errorf("more than 1024 members")
		}
	}
	return out, nil
}

// tsdToken is a token and the TimeStampAndCRL that the next one is over.
type tsdToken struct{ token, whole []byte }

func tsdTokens(evidence asn1.RawValue) ([]tsdToken, error) {
	if evidence.Class != asn1.ClassContextSpecific || evidence.Tag != 0 {
		return nil, fmt.Errorf("the evidence is no time-stamp (tag %d)", evidence.Tag)
	}
	list, err := children(evidence.FullBytes)
	if err != nil || len(list) == 0 {
		return nil, fmt.Errorf("the evidence holds no time-stamp")
	}
	var out []tsdToken
	for _, m := range list {
		parts, err := children(m.FullBytes)
		if err != nil || len(parts) == 0 {
			return nil, fmt.Errorf("a time-stamp is malformed")
		}
		out = append(out, tsdToken{parts[0].FullBytes, m.FullBytes})
	}
	return out, nil
}

// maxPart bounds one part of an M7M; the whole is in memory already.
const maxPart = 256 << 20

// mime judges an M7M: a MIME message with a p7m and the time-stamp over it.
func (j *judge) mime(r *Report, raw []byte, p proof, depth int) error {
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return nil
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/mixed" || params["boundary"] == "" {
		return nil // a signed message (multipart/signed) is mail, not an M7M
	}
	var signed, token []byte
	var broken error
	claims := false // to hold a time-stamp
	parts := multipart.NewReader(m.Body, params["boundary"])
	for range 16 {
		part, err := parts.NextRawPart()
		if err != nil {
			break
		}
		var body io.Reader = part
		if strings.EqualFold(strings.TrimSpace(part.Header.Get("Content-Transfer-Encoding")), "base64") {
			body = base64.NewDecoder(base64.StdEncoding, body)
		}
		claims = claims || strings.Contains(strings.ToLower(part.Header.Get("Content-Type")), "timestamp")
		b, err := io.ReadAll(io.LimitReader(body, maxPart))
		if err != nil {
			broken = err
			break
		}
		if tok, err := tsp.ParseToken(b); err == nil && token == nil {
			token = tok.Raw
		} else if cms.Looks(b) && signed == nil {
			signed = b
		}
	}
	if token == nil && !claims {
		return nil // mail with attachments
	}
	r.Kind = KindM7M
	if broken != nil {
		r.Conclusion = failed(FormatFailure, "a part of the message cannot be read: "+broken.Error())
		return nil
	}
	if token == nil {
		r.Conclusion = failed(FormatFailure, "the message holds no time-stamp")
		return nil
	}
	raws := rawStamp{token: token}
	if signed != nil {
		raws.data = []Source{inMemory(signed)}
	}
	st := j.stamp(raws, "file", p.at)
	r.Stamps = append(r.Stamps, st)
	if signed == nil {
		return nil
	}
	if st.Verdict == Passed {
		p = p.earlier(st.Time)
	}
	return j.file(r, inMemory(signed), p, depth+1)
}
