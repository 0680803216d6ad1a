package remotesign

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"

	"ceralacca.dev/services/sandbox/client"
)

const (
	envelopeNS = "http://schemas.xmlsoap.org/soap/envelope/" // spec: SOAP11 §4
	maxRequest = 1 << 20
)

// operation reads its element and gives the contents of the response's element.
type operation func(d *xml.Decoder, start xml.StartElement, f client.RemoteFault) (any, error)

// serviceFault is a fault of the application, with a detail.
type serviceFault struct {
	code int
	text string
}

func (f *serviceFault) Error() string { return f.text }

// service is one SOAP endpoint.
type service struct {
	world     *World
	namespace string
	faultName string                              // of the detail's element; "" for a service that has none
	busy      func(operation string) (any, error) // in the protocol's words
	ops       map[string]operation
}

// ServeHTTP answers one call, with what was ordered to go wrong.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		http.Error(w, "sandbox: SOAP over POST", http.StatusMethodNotAllowed)
		return
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		http.Error(w, "sandbox: the request is too large or was cut", http.StatusBadRequest)
		return
	}
	d, start, err := body(raw)
	if err != nil || start.Name.Space != s.namespace || s.ops[start.Name.Local] == nil {
		s.fault(w, &serviceFault{text: fmt.Sprintf("no such operation: %s (%v)", start.Name.Local, err)}, false)
		return
	}
	f := s.world.fault(start.Name.Local)
	switch f.Kind {
	case client.RemoteCutBefore:
		panic(http.ErrAbortHandler)
	case client.Remote500:
		http.Error(w, "sandbox: out of order", http.StatusInternalServerError)
		return
	case client.Remote503:
		http.Error(w, "sandbox: a proxy is out of order", http.StatusServiceUnavailable)
		return
	}
	wait(r.Context(), f)
	var out any
	if f.Kind == client.RemoteBusy {
		out, err = s.busy(start.Name.Local)
	} else {
		out, err = s.ops[start.Name.Local](d, start, f)
	}
	switch f.Kind {
	case client.RemoteCutAfter:
		panic(http.ErrAbortHandler)
	case client.Remote500After:
		http.Error(w, "sandbox: out of order", http.StatusInternalServerError)
		return
	case client.Remote503After:
		http.Error(w, "sandbox: a proxy is out of order", http.StatusServiceUnavailable)
		return
	case client.RemoteGarbage:
		_, _ = io.WriteString(w, "<html>sandbox: a page of a proxy</html>")
		return
	}
	var told *serviceFault
	if errors.As(err, &told) {
		s.fault(w, told, true)
		return
	}
	if err != nil {
		s.fault(w, &serviceFault{text: err.Error()}, false)
		return
	}
	s.answer(w, http.StatusOK, start.Name.Local+"Response", out)
}

// body finds the first element of the body.
func body(raw []byte) (*xml.Decoder, xml.StartElement, error) {
	d := xml.NewDecoder(bytes.NewReader(raw))
	for _, want := range []string{"Envelope", "Body", ""} {
		for {
			tok, err := d.Token()
			if err != nil {
				return nil, xml.StartElement{}, err
			}
			start, ok := tok.(xml.StartElement)
			if !ok {
				continue
			}
			if want == "" {
				return d, start, nil
			}
			if start.Name.Local != want || start.Name.Space != envelopeNS {
				return nil, start, fmt.Errorf("%s is no SOAP 1.1 %s", start.Name.Local, want)
			}
			break
		}
	}
	return nil, xml.StartElement{}, io.ErrUnexpectedEOF
}

func (s *service) answer(w http.ResponseWriter, status int, name string, content any) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<?xml version='1.0' encoding='UTF-8'?><S:Envelope xmlns:S=%q><S:Body>`, envelopeNS)
	e := xml.NewEncoder(&b)
	err := e.EncodeElement(content, xml.StartElement{
		Name: xml.Name{Local: "ns2:" + name}, Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns:ns2"}, Value: s.namespace}},
	})
	if err == nil {
		err = e.Close()
	}
	if err != nil {
		http.Error(w, "sandbox: "+err.Error(), http.StatusInternalServerError)
		return
	}
	b.WriteString(`</S:Body></S:Envelope>`)
	w.Header().Set("Content-Type", "text/xml;charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the caller is gone when this fails
}

func (s *service) fault(w http.ResponseWriter, f *serviceFault, detail bool) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<S:Envelope xmlns:S=%q><S:Body><S:Fault><faultcode>S:Server</faultcode><faultstring>`, envelopeNS)
	_ = xml.EscapeText(&b, []byte(f.text)) // a bytes.Buffer never fails
	b.WriteString(`</faultstring>`)
	if detail && s.faultName != "" {
		fmt.Fprintf(&b, `<detail><ns2:%[1]s xmlns:ns2=%[2]q><error>%[3]d</error></ns2:%[1]s></detail>`, s.faultName, s.namespace, f.code)
	}
	b.WriteString(`</S:Fault></S:Body></S:Envelope>`)
	w.Header().Set("Content-Type", "text/xml;charset=utf-8")
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = w.Write(b.Bytes())
}
