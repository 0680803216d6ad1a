package validation

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"ceralacca.dev/services/format/trustlist"
)

// Additional service information. spec: TS119612 §5.5.9.4
const (
	forSignatures = "ForeSignatures"
	forSeals      = "ForeSeals"
	forWeb        = "ForWebSiteAuthentication"
)

// eIDAS is the day from which lists say of a service what its certificates are for; what was issued
// before is for signatures. spec: TS119612 §5.5.9.4; TS119615 §4.4
var eIDAS = time.Date(2016, 6, 30, 22, 0, 0, 0, time.UTC)

// Names of the warnings about what a list says of a certificate; each stands before its text and a colon. The list is right
// in all of them: it is there to say what the certificate does not, or says wrongly. spec: TS119612 §5.5.9.2.3
const (
	// WarnQualifiedByList: the certificate does not state that it is qualified.
	WarnQualifiedByList = "QUALIFIED_BY_THE_LIST_ALONE"
	// WarnUseByList: the certificate states another use, or several.
	WarnUseByList = "USE_BY_THE_LIST"
	// WarnDeviceByList: the certificate does not state that its key is in a qualified device.
	WarnDeviceByList = "DEVICE_BY_THE_LIST"
	// WarnNoDeviceByList: it does.
	WarnNoDeviceByList = "NO_DEVICE_BY_THE_LIST"
	// WarnDeviceChanged: when the certificate was issued the list said another thing of its device than at the time of the
	// signature, which counts.
	WarnDeviceChanged = "DEVICE_CHANGED_IN_THE_LIST"
	// WarnDeviceOfOtherTime: all that the list says of the device is by the law before July 2016 for a status since, or
	// the other way round. It is not followed; some verifiers conclude from it that there is no device.
	WarnDeviceOfOtherTime = "DEVICE_BY_ANOTHER_LAW"
)

// qualify says what trusted lists make of the certificate, at its issue and at the best time, with warnings.
// spec: TS119615 §4.4, §4.5
func (j *judge) qualify(p *path, best time.Time) (Qualification, []string) {
	if j.o.Trust == nil {
		return Qualification{Result: undetermined, Reason: "no trusted list was given"}, nil
	}
	if p == nil {
		return Qualification{Result: undetermined, Reason: "no chain to a service of a trusted list"}, nil
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
	none := Qualification{Result: notQualified, Reason: "no service of a trusted list issued the certificate"}
	var first, other *opinion // of services that were granted at both times; of those that are for something else
	for _, s := range services {
		now, ok := s.At(best)
		then, okThen := s.At(leaf.NotBefore)
		if !ok || !okThen || now.Type != trustlist.TypeCAQC || then.Type != trustlist.TypeCAQC || !now.Granted() || !then.Granted() {
			none = Qualification{Service: s.Name, Country: s.Territory,
				Result: notQualified, Reason: "the service was not granted at the issue of the certificate and at the time of the signature"}
			continue
		}
		o := opinionOf(leaf, now, then)
		o.Service, o.Country = s.Name, s.Territory
		switch {
		case !o.fits:
			other = o
		case first == nil:
			first = o
		case first.Result != o.Result:
			return Qualification{Result: undetermined, Reason: fmt.Sprintf("the trusted lists contradict themselves: %s by %q, %s by %q", first.Result, first.Service, o.Result, o.Service)}, nil
		}
	}
	switch {
	case first != nil:
		return first.Qualification, first.warnings
	case other != nil:
		return other.Qualification, other.warnings
	}
	return none, nil
}

const (
	undetermined = "undetermined"
	notQualified = "not qualified"
)

// opinion is what one service of a list makes of a certificate.
type opinion struct {
	Qualification
	fits     bool // the service is for such certificates
	warnings []string
}

// opinionOf judges by one service, granted at both times. What the list says of the device counts as it is at the time of the
// signature, all else at both.
func opinionOf(leaf *x509.Certificate, now, then trustlist.Status) *opinion {
	st, err := StatementsOf(leaf)
	if err != nil {
		return &opinion{Qualification: Qualification{Result: undetermined, Reason: "the QcStatements of the certificate cannot be read"}, fits: true}
	}
	at, issued := stand(leaf, st, now), stand(leaf, st, then)
	for _, ends := range []func(standing) bool{
		func(s standing) bool { return !s.fits },
		func(s standing) bool { return s.Result == notQualified },
		func(s standing) bool { return s.Result != "" },
	} {
		for _, s := range []standing{at, issued} {
			if ends(s) {
				return &s.opinion
			}
		}
	}
	o := at.opinion
	for _, w := range issued.warnings {
		if !slices.Contains(o.warnings, w) {
			o.warnings = append(o.warnings, w)
		}
	}
	switch {
	case at.use != issued.use:
		return &opinion{Qualification: Qualification{Result: undetermined, Reason: "the list says another thing of what the certificate is for than when it was issued (" + at.use + ", " + issued.use + ")"}, fits: true}
	case at.device.open != "":
		return &opinion{Qualification: Qualification{Result: undetermined, Reason: at.device.open}, fits: true}
	case issued.device.open != "" || at.device.in != issued.device.in:
		o.warnings = append(o.warnings, WarnDeviceChanged+": the list says another thing of the device of the key than when the certificate was issued")
	}
	o.warnings = append(o.warnings, at.device.warnings...)
	o.Result, o.Reason = resultOf(at.use, at.device.in), at.device.reason
	return &o
}

func resultOf(use string, device bool) string {
	switch {
	case use == forSeals && device:
		return "qualified seal"
	case use == forSeals:
		return "advanced seal with a qualified certificate"
	case device:
		return "qualified signature"
	}
	return "advanced signature with a qualified certificate"
}

// said are the qualifiers that a list puts on one certificate, by their short names. What cannot be read matters only where
// it would change a conclusion.
type said struct {
	sure  []string
	maybe []string // it cannot be told whether the certificate meets their criteria
}

func saidOf(leaf *x509.Certificate, st trustlist.Status) (s said) {
	for _, q := range st.Qualifications {
		meets := q.Criteria.Meets(leaf)
		for _, uri := range q.Qualifiers {
			switch name := trustlist.Last(uri); meets {
			case trustlist.Yes:
				s.sure = append(s.sure, name)
			case trustlist.Unknown:
				s.maybe = append(s.maybe, name)
			case trustlist.No:
			}
		}
	}
	return s
}

func (s said) surely(name string) bool { return slices.Contains(s.sure, name) }

// perhaps says that it would change a conclusion, and cannot be told.
func (s said) perhaps(name string) bool { return slices.Contains(s.maybe, name) && !s.surely(name) }

// standing is what a list says of a certificate in one status of the service. Its result is empty when nothing stands
// against the certificate.
type standing struct {
	opinion
	use    string
	device device
}

// stand follows what the list says. spec: TS119615 §4.4
func stand(leaf *x509.Certificate, st Statements, status trustlist.Status) standing {
	s, list := standing{opinion: opinion{fits: true}}, saidOf(leaf, status)
	end := func(result, reason string) standing {
		s.Result, s.Reason = result, reason
		return s
	}
	stated := list.surely("QCStatement")
	switch {
	case !st.Compliance && list.perhaps("QCStatement"):
		return end(undetermined, "the list says of some certificates of the service that they are qualified, and its criteria cannot be read")
	case !st.Compliance && !stated:
		return end(notQualified, "the certificate does not state that it is qualified")
	case len(st.Countries) > 0 && stated:
		return end(undetermined, fmt.Sprintf("the list says that the certificate is qualified, and the certificate that it is so by the law of %q, which is not that of the Union", st.Countries))
	case len(st.Countries) > 0:
		return end(notQualified, fmt.Sprintf("the certificate states that it is qualified by the law of %q, which is not that of the Union", st.Countries))
	case !st.Compliance:
		s.warnings = append(s.warnings, WarnQualifiedByList+": the certificate does not state that it is qualified, and the list says so of it")
	}
	var problem string
	if s.use, problem = s.useOf(st, list); problem != "" {
		return end(undetermined, problem)
	}
	switch {
	case s.use == forWeb:
		return end(notQualified, "the certificate is for web sites")
	case !leaf.NotBefore.Before(eIDAS) && !status.For(s.use):
		s.fits = false
		return end(undetermined, "the list does not have the service for such certificates ("+s.use+")")
	case list.surely("NotQualified") && stated:
		return end(undetermined, "the list says of the certificate both that it is qualified and that it is not")
	case list.surely("NotQualified"):
		return end(notQualified, "the list says that the certificate is not qualified (NotQualified)")
	case list.perhaps("NotQualified"):
		return end(undetermined, "the list says of some certificates of the service that they are not qualified, and its criteria cannot be read")
	case s.use == forSignatures && (list.surely("QCForLegalPerson") || list.perhaps("QCForLegalPerson")):
		return end(undetermined, "the list says of the certificate, or may say, that it was issued to a legal person (QCForLegalPerson), and it is for signatures")
	}
	for _, name := range slices.Concat(list.sure, list.maybe) {
		if !slices.Contains(known, name) {
			return end(undetermined, "the list says of the certificate, or may say, what is not known here ("+name+")")
		}
	}
	s.device = deviceOf(st, list, !status.Since.Before(eIDAS))
	return s
}

// known are the qualifiers. spec: TS119612 §5.5.9.2.3
var known = []string{
	"QCStatement", "NotQualified", "QCForLegalPerson", "QCForESig", "QCForESeal", "QCForWSA",
	"QCWithQSCD", "QCNoQSCD", "QCQSCDStatusAsInCert", "QCQSCDManagedOnBehalf", "QCWithSSCD", "QCNoSSCD", "QCSSCDStatusAsInCert",
}

// useOf is what the certificate is for: what the list says of it, else what it states.
func (s *standing) useOf(st Statements, list said) (use, problem string) {
	use, clear := st.use()
	var says, may []string
	for _, u := range []struct{ qualifier, use string }{{"QCForESig", forSignatures}, {"QCForESeal", forSeals}, {"QCForWSA", forWeb}} {
		switch {
		case list.surely(u.qualifier):
			says = append(says, u.use)
		case list.perhaps(u.qualifier):
			may = append(may, u.use)
		}
	}
	switch {
	case len(says) > 1:
		return "", fmt.Sprintf("the list says of the certificate that it is for several uses (%s)", strings.Join(says, ", "))
	case len(says) == 1 && (!clear || says[0] != use):
		use = says[0]
		s.warnings = append(s.warnings, WarnUseByList+": the list says what the certificate is for ("+use+"), and the certificate states another use, or several")
	case len(says) == 0 && !clear:
		return "", "the certificate states several uses, or one that is not known"
	}
	for _, other := range may {
		if other != use {
			return "", "the list says of some certificates of the service that they are for another use (" + other + "), and its criteria cannot be read"
		}
	}
	return use, ""
}

// device is whether the key is in a qualified device.
type device struct {
	in       bool
	open     string // why it cannot be told
	reason   string // where the list says it
	warnings []string
}

// deviceOf asks the list, by the law of the status, and then the certificate. A key that its provider keeps for the holder in a
// qualified device (QCQSCDManagedOnBehalf) is in one. spec: TS119612 §5.5.9.2.3; TS119615 §4.5
func deviceOf(st Statements, list said, sinceEIDAS bool) device {
	d := device{in: st.Device}
	own, other := map[string]bool{"QCWithQSCD": true, "QCQSCDManagedOnBehalf": true, "QCNoQSCD": false, "QCQSCDStatusAsInCert": st.Device},
		map[string]bool{"QCWithSSCD": true, "QCNoSSCD": false, "QCSSCDStatusAsInCert": st.Device}
	if !sinceEIDAS {
		own, other = other, own
	}
	var says, ignored []string
	for _, name := range list.sure {
		if _, about := own[name]; about {
			says = append(says, name)
		} else if _, about := other[name]; about {
			ignored = append(ignored, name)
		}
	}
	for i, name := range says {
		if i > 0 && own[name] != d.in {
			d.open = "the list says of the certificate both that its key is in a qualified device and that it is not (" + strings.Join(says, ", ") + ")"
			return d
		}
		d.in = own[name]
	}
	for _, name := range slices.Concat(list.maybe, ignored) {
		in, about := own[name]
		if !about {
			in, about = other[name]
		}
		if about && in != d.in {
			d.open = "the list may say another thing of the device of the key (" + name + "): its criteria cannot be read, or it is by another law than that of the time"
			return d
		}
	}
	if len(says) == 0 && len(ignored) > 0 {
		d.warnings = append(d.warnings, WarnDeviceOfOtherTime+": what the list says of the device of the key is by another law than that of the time ("+strings.Join(ignored, ", ")+")")
	}
	if slices.Contains(says, "QCQSCDManagedOnBehalf") {
		d.reason = "the list says that the provider keeps the key for the holder in a qualified device (QCQSCDManagedOnBehalf)"
	}
	switch {
	case d.in && !st.Device:
		d.warnings = append(d.warnings, WarnDeviceByList+": the certificate does not state that its key is in a qualified device, and the list says so ("+strings.Join(says, ", ")+")")
	case !d.in && st.Device:
		d.warnings = append(d.warnings, WarnNoDeviceByList+": the certificate states that its key is in a qualified device, and the list says that it is not ("+strings.Join(says, ", ")+")")
	}
	return d
}
