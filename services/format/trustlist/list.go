package trustlist

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits of one list, far above what is met (the largest national lists have some 10 MB).
const (
	maxSize     = 32 << 20
	maxServices = 20_000
	maxHistory  = 256 // of one service
	maxPointers = 256
)

// Types of list. spec: TS119612 §5.3.3
const (
	typeEUList = "http://uri.etsi.org/TrstSvc/TrustedList/TSLType/EUlistofthelists"
	typeEU     = "http://uri.etsi.org/TrstSvc/TrustedList/TSLType/EUgeneric"
)

// List is one trusted list that was read. Nothing in it has been verified before Load says so.
type List struct {
	Territory string // ISO 3166 code, upper case; EU for the LOTL
	Sequence  int
	Issued    time.Time
	Next      time.Time // zero: the list is closed, there will be no other
	LOTL      bool
	Services  []*Service
	Pointers  []Pointer
	// Information are the addresses of the scheme: of a LOTL its pivots, the newest first, and
	// then the notice of the Official Journal that names who signs the oldest.
	Information []string

	raw    []byte
	signer *x509.Certificate // nil: not verified
}

// Pointer names another list and who signs it. spec: TS119612 §5.3.13
type Pointer struct {
	Territory string
	Location  string
	MIME      string // empty: not said
	LOTL      bool
	Signers   []*x509.Certificate
}

// Service is one trust service. spec: TS119612 §5.5
type Service struct {
	Territory    string
	Provider     string
	Name         string
	Certificates []*x509.Certificate // the digital identities of the service that Go can parse
	// History holds the statuses, the newest (current) first.
	History []Status
}

// Status is what a service was from a time on.
type Status struct {
	Type           string // URI of the service type
	URI            string // of the status
	Since          time.Time
	Qualifications []Qualification
	// Additional are the URIs of additional service information, such as ForeSignatures.
	Additional []string
}

// At gives the status at a time, false before the first one.
func (s *Service) At(t time.Time) (Status, bool) {
	for _, st := range s.History {
		if !st.Since.After(t) {
			return st, true
		}
	}
	return Status{}, false
}

// Speaks says whether a certificate is one of the service's identities.
func (s *Service) Speaks(cert *x509.Certificate) bool {
	for _, c := range s.Certificates {
		// The key and the name make the identity; the certificate may be renewed over the same key.
		if c.Equal(cert) || bytes.Equal(c.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo) && bytes.Equal(c.RawSubject, cert.RawSubject) {
			return true
		}
	}
	return false
}

// Types of service. spec: TS119612 §5.5.1, annex D
const (
	TypeCAQC    = "http://uri.etsi.org/TrstSvc/Svctype/CA/QC"
	TypeTSAQTST = "http://uri.etsi.org/TrstSvc/Svctype/TSA/QTST"
)

// granted are the statuses under which a service issues what is qualified; the first is today's,
// the others are from before July 2016. spec: TS119612 §5.5.4, annex D.5
var granted = []string{
	"http://uri.etsi.org/TrstSvc/TrustedList/Svcstatus/granted",
	"http://uri.etsi.org/TrstSvc/TrustedList/Svcstatus/undersupervision",
	"http://uri.etsi.org/TrstSvc/TrustedList/Svcstatus/supervisionincessation",
	"http://uri.etsi.org/TrstSvc/TrustedList/Svcstatus/accredited",
}

// Granted says whether the status lets the service issue what is qualified.
func (s Status) Granted() bool {
	for _, g := range granted {
		if s.URI == g {
			return true
		}
	}
	return false
}

// For says whether the additional service information names a use, such as ForeSignatures.
// spec: TS119612 §5.5.9.4
func (s Status) For(use string) bool {
	return slices.Contains(s.Additional, "http://uri.etsi.org/TrstSvc/TrustedList/SvcInfoExt/"+use)
}

// Short is the last part of the status URI.
func (s Status) Short() string { return Last(s.URI) }

// Last is the last part of a URI.
func Last(uri string) string { return uri[strings.LastIndexByte(uri, '/')+1:] }

// Parse reads a list without verifying anything. spec: TS119612 §5.2 to §5.5
func Parse(raw []byte) (*List, error) {
	if len(raw) > maxSize {
		return nil, fmt.Errorf("trustlist: the list has %d bytes, the limit is %d", len(raw), maxSize)
	}
	var w wireList
	dec := xml.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(&w); err != nil {
		return nil, fmt.Errorf("trustlist: not a trusted list (TrustServiceStatusList of TS 119 612): %w", err)
	}
	return w.list(raw)
}

func (w *wireList) list(raw []byte) (*List, error) {
	l := &List{Territory: strings.ToUpper(strings.TrimSpace(w.Territory)), Sequence: w.Sequence, raw: raw}
	var err error
	switch strings.TrimSpace(w.Type) {
	case typeEUList:
		l.LOTL = true
	case typeEU:
	default:
		return nil, fmt.Errorf("trustlist: list of type %q, an EU list is expected", w.Type)
	}
	if l.Territory == "" || w.Sequence <= 0 {
		return nil, errors.New("trustlist: the list has no territory or no sequence number")
	}
	if l.Issued, err = instant("ListIssueDateTime", w.Issued); err != nil {
		return nil, err
	}
	if text := strings.TrimSpace(w.Next); text != "" {
		if l.Next, err = instant("NextUpdate", text); err != nil {
			return nil, err
		}
	}
	for _, uri := range w.Information {
		l.Information = append(l.Information, strings.TrimSpace(uri))
	}
	if len(w.Pointers) > maxPointers {
		return nil, fmt.Errorf("trustlist: %d pointers, the limit is %d", len(w.Pointers), maxPointers)
	}
	for _, p := range w.Pointers {
		out := Pointer{Location: strings.TrimSpace(p.Location), Signers: certificates(p.Certificates)}
		for _, info := range p.Information {
			if t := strings.TrimSpace(info.Territory); t != "" {
				out.Territory = strings.ToUpper(t)
			}
			if m := strings.TrimSpace(info.MIME); m != "" {
				out.MIME = m
			}
			out.LOTL = out.LOTL || strings.TrimSpace(info.Type) == typeEUList
		}
		l.Pointers = append(l.Pointers, out)
	}
	for _, p := range w.Providers {
		for i := range p.Services {
			s, err := p.Services[i].service(l.Territory, english(p.Names))
			if err != nil {
				return nil, err
			}
			if l.Services = append(l.Services, s); len(l.Services) > maxServices {
				return nil, fmt.Errorf("trustlist: more than %d services", maxServices)
			}
		}
	}
	return l, nil
}

func (w *wireService) service(territory, provider string) (*Service, error) {
	s := &Service{Territory: territory, Provider: provider, Name: english(w.Current.Names), Certificates: certificates(w.Current.Certificates)}
	if len(w.History) > maxHistory {
		return nil, fmt.Errorf("trustlist: service %q has %d entries of history, the limit is %d", s.Name, len(w.History), maxHistory)
	}
	for _, e := range append([]wireStatus{w.Current}, w.History...) {
		since, err := instant("StatusStartingTime of "+s.Name, e.Since)
		if err != nil {
			return nil, err
		}
		st := Status{Type: strings.TrimSpace(e.Type), URI: strings.TrimSpace(e.Status), Since: since}
		for _, x := range e.Extensions {
			for _, e := range x.Elements {
				var q Qualification
				for _, one := range e.Qualifiers {
					q.Qualifiers = append(q.Qualifiers, strings.TrimSpace(one.URI))
				}
				if len(e.Criteria) == 1 {
					q.Criteria = e.Criteria[0].criteria()
				}
				st.Qualifications = append(st.Qualifications, q)
			}
			for _, a := range x.Additional {
				st.Additional = append(st.Additional, strings.TrimSpace(a))
			}
		}
		if n := len(s.History); n > 0 && since.After(s.History[n-1].Since) {
			return nil, fmt.Errorf("trustlist: the history of service %q is not in order of time", s.Name)
		}
		s.History = append(s.History, st)
	}
	return s, nil
}

func instant(what, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, strings.TrimSpace(text))
	if err != nil {
		return t, fmt.Errorf("trustlist: %s: %w", what, err)
	}
	return t, nil
}

// certificates leaves out what Go cannot parse: such an identity then speaks for nothing.
func certificates(texts []string) []*x509.Certificate {
	var out []*x509.Certificate
	for _, text := range texts {
		der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
		if err != nil {
			continue
		}
		if c, err := x509.ParseCertificate(der); err == nil {
			out = append(out, c)
		}
	}
	return out
}

func english(names []wireName) string {
	for _, n := range names {
		if n.Lang == "en" {
			return strings.TrimSpace(n.Text)
		}
	}
	if len(names) > 0 {
		return strings.TrimSpace(names[0].Text)
	}
	return ""
}
