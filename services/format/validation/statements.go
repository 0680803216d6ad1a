package validation

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"ceralacca.dev/services/format/trustlist"
)

// Statements are the QcStatements of a certificate: what its issuer says that it is. Whether that may
// be believed, trusted lists say. spec: EN319412-5 §4.2, §4.3
type Statements struct {
	// Compliance: it is qualified, by the law of the Union unless Countries says of which other.
	Compliance bool
	Device     bool // QcSSCD: its key is in a qualified device
	// Types are what it is for; none: for signatures.
	Signature, Seal, Web, Other bool
	Countries                   []string // QcCClegislation
}

var (
	oidQCStatements  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 3}
	oidQCCompliance  = asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 1}
	oidQCSSCD        = asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 4}
	oidQCType        = asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 6}
	oidQCLegislation = asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 7}
)

// StatementsOf reads the QcStatements of a certificate; none are no error.
func StatementsOf(cert *x509.Certificate) (Statements, error) {
	var out Statements
	for _, e := range cert.Extensions {
		if !e.Id.Equal(oidQCStatements) {
			continue
		}
		var list []struct {
			ID   asn1.ObjectIdentifier
			Info asn1.RawValue `asn1:"optional"`
		}
		if err := whole(e.Value, &list); err != nil {
			return Statements{}, fmt.Errorf("validation: QcStatements: %w", err)
		}
		for _, st := range list {
			switch {
			case st.ID.Equal(oidQCCompliance):
				out.Compliance = true
			case st.ID.Equal(oidQCSSCD):
				out.Device = true
			case st.ID.Equal(oidQCLegislation):
				if err := whole(st.Info.FullBytes, &out.Countries); err != nil {
					return Statements{}, fmt.Errorf("validation: QcCClegislation: %w", err)
				}
			case st.ID.Equal(oidQCType):
				var types []asn1.ObjectIdentifier
				if err := whole(st.Info.FullBytes, &types); err != nil {
					return Statements{}, fmt.Errorf("validation: QcType: %w", err)
				}
				for _, id := range types {
					switch {
					case id.Equal(append(slices.Clone(oidQCType), 1)):
						out.Signature = true
					case id.Equal(append(slices.Clone(oidQCType), 2)):
						out.Seal = true
					case id.Equal(append(slices.Clone(oidQCType), 3)):
						out.Web = true
					default:
						out.Other = true
					}
				}
			}
		}
	}
	return out, nil
}

func whole(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes after the end", len(rest))
	}
	return err
}

// use is what a certificate is for by its statements, as trusted lists name it.
func (s Statements) use() (string, bool) {
	switch {
	case s.Other:
	case s.Seal && !s.Signature && !s.Web:
		return forSeals, true
	case s.Web && !s.Signature && !s.Seal:
		return forWeb, true
	case !s.Seal && !s.Web: // without a type too. spec: EN319412-5 §4.2.3
		return forSignatures, true
	}
	return "", false
}

// Additional service information. spec: TS119612 §5.5.9.4
const (
	forSignatures = "ForeSignatures"
	forSeals      = "ForeSeals"
	forWeb        = "ForWebSiteAuthentication"
)

// eIDAS is the day from which lists say of a service what its certificates are for; what was issued
// before is for signatures. spec: TS119612 §5.5.9.4; TS119615 §4.4
var eIDAS = time.Date(2016, 6, 30, 22, 0, 0, 0, time.UTC)

// qualify says what trusted lists make of the certificate, at its issue and at the best time.
// A qualifier that the list puts on some certificates of a service by criteria that are not read
// here makes the result undetermined when it says another thing than the certificate does.
// spec: TS119615 §4.4, §4.5
func (j *judge) qualify(p *path, best time.Time) Qualification {
	if j.o.Trust == nil {
		return Qualification{Result: "undetermined", Reason: "no trusted list was given"}
	}
	if p == nil {
		return Qualification{Result: "undetermined", Reason: "no chain to a service of a trusted list"}
	}
	leaf := p.certs[0]
	var services []*trustlist.Service
	for _, c := range p.certs {
		for _, s := range j.o.Trust.Find(c, trustlist.TypeCAQC) {
			if !slices.Contains(services, s) {
				services = append(services, s)
			}
		}
	}
	none := Qualification{Result: "not qualified", Reason: "no service of a trusted list issued the certificate"}
	var first, other *Qualification // of services that were granted at both times; of those that are for something else
	for _, s := range services {
		q := Qualification{Service: s.Name, Country: s.Territory}
		now, ok := s.At(best)
		then, okThen := s.At(leaf.NotBefore)
		if !ok || !okThen || now.Type != trustlist.TypeCAQC || then.Type != trustlist.TypeCAQC || !now.Granted() || !then.Granted() {
			q.Result, q.Reason = "not qualified", "the service was not granted at the issue of the certificate and at the time of the signature"
			none = q
			continue
		}
		q, fits := qualified(q, leaf, now, then)
		switch {
		case !fits:
			other = &q
		case first == nil:
			first = &q
		case first.Result != q.Result:
			return Qualification{Result: "undetermined", Reason: fmt.Sprintf("the trusted lists contradict themselves: %s by %q, %s by %q", first.Result, first.Service, q.Result, q.Service)}
		}
	}
	switch {
	case first != nil:
		return *first
	case other != nil:
		return *other
	}
	return none
}

// qualified judges by one service, granted at both times. fits: the service is for such certificates.
func qualified(q Qualification, leaf *x509.Certificate, now, then trustlist.Status) (_ Qualification, fits bool) {
	undetermined := func(reason string) Qualification {
		q.Result, q.Reason = "undetermined", reason
		return q
	}
	not := func(reason string) Qualification {
		q.Result, q.Reason = "not qualified", reason
		return q
	}
	st, err := StatementsOf(leaf)
	if err != nil {
		return undetermined("the QcStatements of the certificate cannot be read"), true
	}
	names := qualifiers(now, then)
	listed := func(any ...string) bool {
		return slices.ContainsFunc(any, func(n string) bool { return slices.Contains(names, n) })
	}
	use, clear := st.use()
	switch {
	case !st.Compliance && listed("QCStatement"):
		return undetermined("the list says of some certificates of the service that they are qualified; its criteria are not read"), true
	case !st.Compliance:
		return not("the certificate does not state that it is qualified"), true
	case len(st.Countries) > 0:
		return not(fmt.Sprintf("the certificate states that it is qualified by the law of %q, which is not that of the Union", st.Countries)), true
	case !clear:
		return undetermined("the certificate states several uses, or one that is not known"), true
	}
	if !leaf.NotBefore.Before(eIDAS) && !(now.For(use) && then.For(use)) {
		if use == forWeb {
			return not("the certificate is for web sites"), true
		}
		return undetermined("the list does not have the service for such certificates (" + use + ")"), false
	}
	if against := contradicting(use, st.Device, names); against != "" {
		return undetermined("the list says of some certificates of the service what this one does not (" + against + "); its criteria are not read"), true
	}
	switch {
	case use == forWeb:
		return not("the certificate is for web sites"), true
	case use == forSeals && st.Device:
		q.Result = "qualified seal"
	case use == forSeals:
		q.Result = "advanced seal with a qualified certificate"
	case st.Device:
		q.Result = "qualified signature"
	default:
		q.Result = "advanced signature with a qualified certificate"
	}
	return q, true
}

// qualifiers are the names at the end of the URIs of both statuses.
func qualifiers(list ...trustlist.Status) (out []string) {
	for _, st := range list {
		for _, uri := range st.Qualifiers {
			out = append(out, trustlist.Last(uri))
		}
	}
	return out
}

// contradicting gives the first qualifier that does not say what the certificate does, or that is not
// known. spec: TS119612 §5.5.9.2.3
func contradicting(use string, device bool, names []string) string {
	agrees := map[string]bool{
		"QCStatement": true, "NotQualified": false,
		"QCForESig": use == forSignatures, "QCForESeal": use == forSeals, "QCForWSA": use == forWeb, "QCForLegalPerson": use == forSeals,
		"QCWithSSCD": device, "QCWithQSCD": device, "QCQSCDManagedOnBehalf": device, "QCNoSSCD": !device, "QCNoQSCD": !device,
		"QCSSCDStatusAsInCert": true, "QCQSCDStatusAsInCert": true,
	}
	for _, n := range names {
		if !agrees[n] {
			return n
		}
	}
	return ""
}
