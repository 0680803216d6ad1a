package validation_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/trustlist"
	"ceralacca.dev/services/format/validation"
	"ceralacca.dev/services/format/xades"
)

// trusted makes a national list with one CA/QC and one TSA/QTST service, signs and loads it.
// states are status and start of the first, the newest first; extra are its extensions.
func (w world) trusted(extra string, states ...string) *trustlist.Trust {
	w.t.Helper()
	return w.trustedTwice([]string{extra}, states...)
}

// trustedTwice lists the CA once for each of the extensions, which it has had in all its states.
func (w world) trustedTwice(extras []string, states ...string) *trustlist.Trust {
	w.t.Helper()
	services := ""
	for _, extra := range extras {
		var history []state
		for i := 0; i < len(states); i += 2 {
			history = append(history, state{states[i], states[i+1], extra})
		}
		services += serviceOf(trustlist.TypeCAQC, w.pki.Root, history...)
	}
	return w.trust(services)
}

// trustedSince lists the CA, always granted, with extensions that changed on a day.
func (w world) trustedSince(extra, since, extraBefore, sinceBefore string) *trustlist.Trust {
	w.t.Helper()
	return w.trust(serviceOf(trustlist.TypeCAQC, w.pki.Root, state{"granted", since, extra}, state{"granted", sinceBefore, extraBefore}))
}

// state is what a service was from a time on.
type state struct{ status, since, extra string }

func serviceOf(kind string, c *x509.Certificate, history ...state) string {
	one := func(tag string, st state) string {
		return "<" + tag + "><ServiceTypeIdentifier>" + kind + "</ServiceTypeIdentifier><ServiceName><Name xml:lang=\"en\">" + c.Subject.CommonName +
			"</Name></ServiceName><ServiceDigitalIdentity><DigitalId><X509Certificate>" + base64.StdEncoding.EncodeToString(c.Raw) +
			"</X509Certificate></DigitalId></ServiceDigitalIdentity><ServiceStatus>http://uri.etsi.org/TrstSvc/TrustedList/Svcstatus/" + st.status +
			"</ServiceStatus><StatusStartingTime>" + st.since + "</StatusStartingTime>" + st.extra + "</" + tag + ">"
	}
	out := "<TSPService>" + one("ServiceInformation", history[0]) + "<ServiceHistory>"
	for _, st := range history[1:] {
		out += one("ServiceHistoryInstance", st)
	}
	return out + "</ServiceHistory></TSPService>"
}

// trust is a list of these services and of the time-stamp authority.
func (w world) trust(services string) *trustlist.Trust {
	w.t.Helper()
	text := `<TrustServiceStatusList xmlns="http://uri.etsi.org/02231/v2#"><SchemeInformation><TSLSequenceNumber>7</TSLSequenceNumber><TSLType>http://uri.etsi.org/TrstSvc/TrustedList/TSLType/EUgeneric</TSLType><SchemeTerritory>IT</SchemeTerritory><ListIssueDateTime>2026-01-01T00:00:00Z</ListIssueDateTime><NextUpdate><dateTime>2046-01-01T00:00:00Z</dateTime></NextUpdate></SchemeInformation><TrustServiceProviderList><TrustServiceProvider><TSPInformation><TSPName><Name xml:lang="en">P</Name></TSPName></TSPInformation><TSPServices>` +
		services + serviceOf(trustlist.TypeTSAQTST, w.tsa.Cert, state{"granted", "2020-01-01T00:00:00Z", ""}) +
		`</TSPServices></TrustServiceProvider></TrustServiceProviderList></TrustServiceStatusList>`
	by := w.pki.Issue(w.t, "List", cmstest.NewECDSA(w.t))
	raw, err := xades.Sign(w.t.Context(), []byte(text), xades.Signer{Chain: by.Chain[:1], Key: by.Key}, xades.Options{SigningTime: now})
	require.NoError(w.t, err)
	trust, err := trustlist.Load([][]byte{raw}, []*x509.Certificate{by.Cert}, now)
	require.NoError(w.t, err)
	return trust
}

// uses is what a service is listed for.
func uses(names ...string) string {
	out := ""
	for _, n := range names {
		out += `<Extension Critical="true"><AdditionalServiceInformation><URI xml:lang="en">http://uri.etsi.org/TrstSvc/TrustedList/SvcInfoExt/` + n + `</URI></AdditionalServiceInformation></Extension>`
	}
	return "<ServiceInformationExtensions>" + out + "</ServiceInformationExtensions>"
}

var signaturesAndSeals = uses("ForeSignatures", "ForeSeals")

// qualifier adds one to a service for signatures and seals.
func qualifier(name string) string {
	return strings.Replace(signaturesAndSeals, "</ServiceInformationExtensions>", `<Extension Critical="true"><Qualifications xmlns="http://uri.etsi.org/TrstSvc/SvcInfoExt/eSigDir-1999-93-EC-TrustedList/#"><QualificationElement><Qualifiers><Qualifier uri="http://uri.etsi.org/TrstSvc/TrustedList/SvcInfoExt/`+name+
		`"/></Qualifiers></QualificationElement></Qualifications></Extension></ServiceInformationExtensions>`, 1)
}

// statementsOf gives a certificate QcStatements by the last number of 0.4.0.1862.1, and a type of
// 0.4.0.1862.1.6 when it is not 0.
func statementsOf(kind int, numbers ...int) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		type plain struct{ ID asn1.ObjectIdentifier }
		var members []byte
		add := func(v any) {
			der, err := asn1.Marshal(v)
			if err != nil {
				panic(err)
			}
			members = append(members, der...)
		}
		for _, n := range numbers {
			add(plain{asn1.ObjectIdentifier{0, 4, 0, 1862, 1, n}})
		}
		if kind > 0 {
			add(struct {
				ID    asn1.ObjectIdentifier
				Types []asn1.ObjectIdentifier
			}{asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 6}, []asn1.ObjectIdentifier{{0, 4, 0, 1862, 1, 6, kind}}})
		}
		der, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: members})
		if err != nil {
			panic(err)
		}
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 3}, Value: der})
	}
}

// statementsAs puts bytes where the QcStatements are.
func statementsAs(der []byte) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 3}, Value: der})
	}
}

// both makes both changes.
func both(a, b func(*x509.Certificate)) func(*x509.Certificate) {
	return func(c *x509.Certificate) { a(c); b(c) }
}

// TestQualification: only a trusted list makes a signature qualified, and only as far as it says.
func TestQualification(t *testing.T) {
	const long, recent = "2020-01-01T00:00:00Z", "2026-03-02T12:00:00Z"
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		extra  string
		states []string
		result string
		sub    validation.Sub
	}{
		"qualified signature":     {statementsOf(1, 1, 4), signaturesAndSeals, []string{"granted", long}, "qualified signature", ""},
		"no device":               {statementsOf(1, 1), signaturesAndSeals, []string{"granted", long}, "advanced signature with a qualified certificate", ""},
		"seal":                    {statementsOf(2, 1, 4), signaturesAndSeals, []string{"granted", long}, "qualified seal", ""},
		"seal, no device":         {statementsOf(2, 1), signaturesAndSeals, []string{"granted", long}, "advanced seal with a qualified certificate", ""},
		"web site":                {statementsOf(3, 1), signaturesAndSeals, []string{"granted", long}, "not qualified", ""},
		"does not say so":         {statementsOf(0, 4), signaturesAndSeals, []string{"granted", long}, "not qualified", ""},
		"list takes it away":      {statementsOf(1, 1, 4), qualifier("NotQualified"), []string{"granted", long}, "undetermined", ""},
		"list takes device away":  {statementsOf(1, 1, 4), qualifier("QCNoQSCD"), []string{"granted", long}, "undetermined", ""},
		"the list says it":        {statementsOf(0, 4), qualifier("QCStatement"), []string{"granted", long}, "undetermined", ""},
		"granted after the issue": {statementsOf(1, 1, 4), signaturesAndSeals, []string{"granted", "2026-03-02T00:00:00Z", "withdrawn", long}, "not qualified", ""},
		"withdrawn":               {statementsOf(1, 1, 4), signaturesAndSeals, []string{"withdrawn", recent, "granted", long}, "undetermined", validation.NoChain},
		"of before 2016":          {statementsOf(1, 1, 4), signaturesAndSeals, []string{"undersupervision", long}, "qualified signature", ""},

		"listed for signatures":           {statementsOf(1, 1, 4), uses("ForeSignatures"), []string{"granted", long}, "qualified signature", ""},
		"listed for seals alone":          {statementsOf(1, 1, 4), uses("ForeSeals"), []string{"granted", long}, "undetermined", ""},
		"listed for web sites alone":      {statementsOf(1, 1, 4), uses("ForWebSiteAuthentication"), []string{"granted", long}, "undetermined", ""},
		"listed for nothing":              {statementsOf(1, 1, 4), "", []string{"granted", long}, "undetermined", ""},
		"no type, listed for seals alone": {statementsOf(0, 1, 4), uses("ForeSeals"), []string{"granted", long}, "undetermined", ""},
		"seal, listed for signatures":     {statementsOf(2, 1, 4), uses("ForeSignatures"), []string{"granted", long}, "undetermined", ""},
		"seal, listed for seals":          {statementsOf(2, 1, 4), uses("ForeSeals"), []string{"granted", long}, "qualified seal", ""},
		"of before, listed for nothing": {both(statementsOf(0, 1, 4), func(c *x509.Certificate) { c.NotBefore = time.Date(2016, 6, 30, 0, 0, 0, 0, time.UTC) }), "",
			[]string{"granted", "2010-01-01T00:00:00Z"}, "qualified signature", ""},
		"of after, listed for nothing": {both(statementsOf(0, 1, 4), func(c *x509.Certificate) { c.NotBefore = time.Date(2016, 7, 1, 0, 0, 0, 0, time.UTC) }), "",
			[]string{"granted", "2010-01-01T00:00:00Z"}, "undetermined", ""},
		"said: seals":                  {statementsOf(1, 1, 4), qualifier("QCForESeal"), []string{"granted", long}, "undetermined", ""},
		"said: legal persons":          {statementsOf(1, 1, 4), qualifier("QCForLegalPerson"), []string{"granted", long}, "undetermined", ""},
		"said: web sites":              {statementsOf(1, 1, 4), qualifier("QCForWSA"), []string{"granted", long}, "undetermined", ""},
		"said: signatures":             {statementsOf(1, 1, 4), qualifier("QCForESig"), []string{"granted", long}, "qualified signature", ""},
		"said: as in the certificate":  {statementsOf(1, 1, 4), qualifier("QCQSCDStatusAsInCert"), []string{"granted", long}, "qualified signature", ""},
		"said: device":                 {statementsOf(1, 1, 4), qualifier("QCWithQSCD"), []string{"granted", long}, "qualified signature", ""},
		"said: device of the provider": {statementsOf(1, 1, 4), qualifier("QCQSCDManagedOnBehalf"), []string{"granted", long}, "qualified signature", ""},
		"said: device, and is none":    {statementsOf(1, 1), qualifier("QCQSCDManagedOnBehalf"), []string{"granted", long}, "undetermined", ""},
		"said: no device, and is none": {statementsOf(1, 1), qualifier("QCNoSSCD"), []string{"granted", long}, "advanced signature with a qualified certificate", ""},
		"said: what nobody knows":      {statementsOf(1, 1, 4), qualifier("QCSomething"), []string{"granted", long}, "undetermined", ""},
		"seal, said: legal persons":    {statementsOf(2, 1, 4), qualifier("QCForLegalPerson"), []string{"granted", long}, "qualified seal", ""},
		"seal, said: signatures":       {statementsOf(2, 1, 4), qualifier("QCForESig"), []string{"granted", long}, "undetermined", ""},
		// QcPDS whose text holds the OIDs of QcCompliance and QcSSCD.
		"said within another statement": {statementsAs(derOf(t, []any{struct {
			ID   asn1.ObjectIdentifier
			Info []byte
		}{asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 5}, []byte("\x06\x06\x04\x00\x8e\x46\x01\x01\x06\x06\x04\x00\x8e\x46\x01\x04")}}...)), signaturesAndSeals, []string{"granted", long}, "not qualified", ""},
		"statements that are none": {statementsAs([]byte("0\x0a\x06\x06\x04\x00\x8e\x46\x01\x01")), signaturesAndSeals, []string{"granted", long}, "undetermined", ""},
		"of another country": {statementsAs(derOf(t, struct{ ID asn1.ObjectIdentifier }{asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 1}}, struct {
			ID   asn1.ObjectIdentifier
			Info []string
		}{asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 7}, []string{"GB"}})), signaturesAndSeals, []string{"granted", long}, "not qualified", ""},
		"for two uses": {statementsAs(derOf(t, plainStatement(1), usesStatement(1, 2))), signaturesAndSeals, []string{"granted", long}, "undetermined", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.change)
			o := w.options(now.Add(6 * time.Hour))
			o.Roots, o.Trust = nil, w.trusted(c.extra, c.states...)
			r, err := validation.Validate(t.Context(), w.p7m(doc), o)
			require.NoError(t, err)
			require.Equal(t, c.sub, r.Sub, r.Reason)
			require.Equal(t, c.result, r.Signatures[0].Qualification.Result, r.Signatures[0].Qualification.Reason)
			if c.sub == validation.NoChain {
				require.Contains(t, r.Reason, "withdrawn since 2026-03-02")
			}
		})
	}
	// A stamp from while the service was granted keeps the signature; the stamp is a listed one.
	w := newWorld(t, statementsOf(1, 1, 4))
	o := w.options(now.Add(6 * time.Hour))
	o.Roots, o.Trust = nil, w.trusted(signaturesAndSeals, "withdrawn", recent, "granted", long)
	r, err := validation.Validate(t.Context(), w.p7m(doc, now.Add(time.Minute)), o)
	require.NoError(t, err)
	require.Equal(t, pass, r.Verdict, r.Reason)
	require.Equal(t, "qualified signature", r.Signatures[0].Qualification.Result)
	require.Equal(t, "yes", r.Signatures[0].Stamps[0].Qualified)
	// Nothing that does not hold is called qualified.
	o.Trust = w.trusted(signaturesAndSeals, "granted", long)
	r, err = validation.Validate(t.Context(), changed(t, w.p7m(doc), "100 euro", "900 euro"), o)
	require.NoError(t, err)
	require.Equal(t, fail, r.Verdict)
	require.Equal(t, "undetermined", r.Signatures[0].Qualification.Result)
	// Roots that the caller trusts by himself make nothing qualified.
	other := newWorld(t, statementsOf(1, 1, 4))
	o = other.options(now.Add(time.Hour))
	o.Trust = w.trusted(signaturesAndSeals, "granted", long)
	r, err = validation.Validate(t.Context(), other.p7m(doc), o)
	require.NoError(t, err)
	require.Equal(t, pass, r.Verdict)
	require.Equal(t, "not qualified", r.Signatures[0].Qualification.Result)
}

// plainStatement is a QcStatement by its last number, usesStatement one of types by theirs.
func plainStatement(number int) any {
	return struct{ ID asn1.ObjectIdentifier }{asn1.ObjectIdentifier{0, 4, 0, 1862, 1, number}}
}

func usesStatement(types ...int) any {
	var ids []asn1.ObjectIdentifier
	for _, n := range types {
		ids = append(ids, asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 6, n})
	}
	return struct {
		ID   asn1.ObjectIdentifier
		Info []asn1.ObjectIdentifier
	}{asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 6}, ids}
}

// derOf is a SEQUENCE of values.
func derOf(t *testing.T, values ...any) []byte {
	t.Helper()
	var members []byte
	for _, v := range values {
		der, err := asn1.Marshal(v)
		require.NoError(t, err)
		members = append(members, der...)
	}
	der, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: members})
	require.NoError(t, err)
	return der
}

// TestServicesOfOneAuthority: an authority may be listed more than once, in any order: the entries that
// are for such certificates count, and have to say the same.
func TestServicesOfOneAuthority(t *testing.T) {
	for name, c := range map[string]struct {
		extras []string
		want   string
	}{
		"one for seals, one for signatures": {[]string{uses("ForeSeals"), uses("ForeSignatures")}, "qualified signature"},
		"in the other order":                {[]string{uses("ForeSignatures"), uses("ForeSeals")}, "qualified signature"},
		"twice the same":                    {[]string{signaturesAndSeals, signaturesAndSeals}, "qualified signature"},
		"one says another thing":            {[]string{signaturesAndSeals, qualifier("QCNoQSCD")}, "undetermined"},
		"one says another thing first":      {[]string{qualifier("QCNoQSCD"), signaturesAndSeals}, "undetermined"},
		"none for signatures":               {[]string{uses("ForeSeals"), uses("ForWebSiteAuthentication")}, "undetermined"},
	} {
		w := newWorld(t, statementsOf(1, 1, 4))
		o := w.options(now.Add(6 * time.Hour))
		o.Roots, o.Trust = nil, w.trustedTwice(c.extras, "granted", "2020-01-01T00:00:00Z")
		r, err := validation.Validate(t.Context(), w.p7m(doc), o)
		require.NoError(t, err, name)
		require.Equal(t, pass, r.Verdict, r.Reason)
		require.Equal(t, c.want, r.Signatures[0].Qualification.Result, name+": "+r.Signatures[0].Qualification.Reason)
	}
}

// TestMadeAfter: a stamp over the content that is inside the signature proves that it was made
// after the certificate's end, or after its revocation.
func TestMadeAfter(t *testing.T) {
	year := newWorld(t, func(c *x509.Certificate) { c.NotAfter = now.AddDate(1, 0, 0) })
	later := now.AddDate(2, 0, 0)
	at := func(when time.Time) []byte {
		raw, err := cms.Sign(t.Context(), doc, year.pair.Key, cms.Options{Certificate: year.pair.Cert, SigningTime: now,
			Signed: []cms.Attribute{{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 20}, Values: [][]byte{year.token(when, doc)}}}})
		require.NoError(t, err)
		return raw
	}
	r, err := validation.Validate(t.Context(), at(now.AddDate(1, 1, 0)), year.options(later))
	require.NoError(t, err)
	require.Equal(t, fail, r.Verdict, r.Reason)
	require.Equal(t, validation.Expired, r.Sub)
	o := year.options(now.AddDate(0, 2, 0))
	o.CRLs = []*x509.RevocationList{year.crl(now.AddDate(0, 2, 0), entry(year.pair.Cert, now.Add(time.Hour), 1))}
	r, err = validation.Validate(t.Context(), at(now.AddDate(0, 1, 0)), o)
	require.NoError(t, err)
	require.Equal(t, validation.Revoked, r.Sub, r.Reason)
	r, err = validation.Validate(t.Context(), at(now.Add(time.Minute)), o)
	require.NoError(t, err)
	require.Equal(t, validation.RevokedNoPOE, r.Sub, r.Reason)
	// A stamp that is older than the certificate proves that the signature cannot be its own.
	young := newWorld(t)
	young.tsa = young.pki.Issue(t, "Marca", cmstest.NewECDSA(t), cmstest.TimeStamping)
	young.pair = young.pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t), func(c *x509.Certificate) { c.NotBefore = now.Add(-time.Minute) })
	r, err = validation.Validate(t.Context(), young.p7m(doc, now.Add(-time.Hour)), young.options(now.Add(time.Hour)))
	require.NoError(t, err)
	require.Equal(t, validation.NotYetValid, r.Sub, r.Reason)
	require.Equal(t, fail, r.Verdict)
}

// TestPartialLists: a list that is not about this certificate says nothing good of it.
func TestPartialLists(t *testing.T) {
	const here, there = "http://crl.example/1.crl", "http://crl.example/2.crl"
	w := newWorld(t, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{here} })
	point := func(uri string) []byte {
		inner := append([]byte{0x86, byte(len(uri))}, uri...)
		inner = append([]byte{0xa0, byte(len(inner))}, inner...)
		return append([]byte{0xa0, byte(len(inner))}, inner...)
	}
	for name, c := range map[string]struct {
		oid     asn1.ObjectIdentifier
		members []byte
		want    validation.Verdict
	}{
		"its own point":      {asn1.ObjectIdentifier{2, 5, 29, 28}, point(here), pass},
		"another point":      {asn1.ObjectIdentifier{2, 5, 29, 28}, point(there), unsure},
		"users only":         {asn1.ObjectIdentifier{2, 5, 29, 28}, []byte{0x81, 1, 0xff}, pass},
		"authorities only":   {asn1.ObjectIdentifier{2, 5, 29, 28}, []byte{0x82, 1, 0xff}, unsure},
		"some reasons only":  {asn1.ObjectIdentifier{2, 5, 29, 28}, []byte{0x83, 2, 0, 0x80}, unsure},
		"indirect":           {asn1.ObjectIdentifier{2, 5, 29, 28}, []byte{0x84, 1, 0xff}, unsure},
		"attributes only":    {asn1.ObjectIdentifier{2, 5, 29, 28}, []byte{0x85, 1, 0xff}, unsure},
		"delta":              {asn1.ObjectIdentifier{2, 5, 29, 27}, nil, unsure},
		"a point, cut short": {asn1.ObjectIdentifier{2, 5, 29, 28}, []byte{0xa0, 9}, unsure},
	} {
		value := append([]byte{0x30, byte(len(c.members))}, c.members...)
		if c.members == nil {
			value = []byte{2, 1, 1}
		}
		at := now.Add(time.Hour)
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(2), ThisUpdate: at.Add(-time.Minute), NextUpdate: at.AddDate(0, 0, 1),
			ExtraExtensions: []pkix.Extension{{Id: c.oid, Critical: true, Value: value}}}, w.pki.Root, w.pki.Key)
		require.NoError(t, err, name)
		list, err := validation.ParseCRL(der)
		require.NoError(t, err, name)
		o := w.options(at)
		o.CRLs = []*x509.RevocationList{list}
		r, err := validation.Validate(t.Context(), w.p7m(doc), o)
		require.NoError(t, err, name)
		require.Equal(t, c.want, r.Verdict, name+": "+r.Reason)
	}
	_, err := validation.ParseCRL([]byte("x"))
	require.ErrorContains(t, err, "revocation list")
}

// subIndications are all that the package gives.
var subIndications = strings.Fields("FORMAT_FAILURE HASH_FAILURE SIG_CRYPTO_FAILURE REVOKED EXPIRED NOT_YET_VALID SIG_CONSTRAINTS_FAILURE CHAIN_CONSTRAINTS_FAILURE CERTIFICATE_CHAIN_GENERAL_FAILURE CRYPTO_CONSTRAINTS_FAILURE CRYPTO_CONSTRAINTS_FAILURE_NO_POE NO_SIGNING_CERTIFICATE_FOUND NO_CERTIFICATE_CHAIN_FOUND REVOKED_NO_POE REVOKED_CA_NO_POE OUT_OF_BOUNDS_NO_POE OUT_OF_BOUNDS_NOT_REVOKED TRY_LATER SIGNED_DATA_NOT_FOUND GENERIC TIMESTAMP_ORDER_FAILURE")

// TestEverySubHasWords: no conclusion is without a sentence in both languages.
func TestEverySubHasWords(t *testing.T) {
	for _, s := range subIndications {
		text := validation.Conclusion{Verdict: unsure, Sub: validation.Sub(s)}.Text()
		require.NotEmpty(t, text.IT, s)
		require.NotEmpty(t, text.EN, s)
	}
}
