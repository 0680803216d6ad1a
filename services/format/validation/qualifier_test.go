package validation_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/validation"
)

// said is a service for signatures and seals with qualification elements.
func said(elements ...string) string {
	return strings.Replace(signaturesAndSeals, "</ServiceInformationExtensions>", `<Extension Critical="true"><Qualifications xmlns="http://uri.etsi.org/TrstSvc/SvcInfoExt/eSigDir-1999-93-EC-TrustedList/#" xmlns:x="http://uri.etsi.org/01903/v1.3.2#">`+
		strings.Join(elements, "")+`</Qualifications></Extension></ServiceInformationExtensions>`, 1)
}

// of are qualifiers for the certificates that meet criteria.
func of(criteria string, names ...string) string {
	out := ""
	for _, n := range names {
		out += `<Qualifier uri="http://uri.etsi.org/TrstSvc/TrustedList/SvcInfoExt/` + n + `"/>`
	}
	return "<QualificationElement><Qualifiers>" + out + "</Qualifiers>" + criteria + "</QualificationElement>"
}

const (
	signing = `<CriteriaList assert="all"><KeyUsage><KeyUsageBit name="nonRepudiation">true</KeyUsageBit></KeyUsage></CriteriaList>`
	others  = `<CriteriaList assert="all"><KeyUsage><KeyUsageBit name="nonRepudiation">false</KeyUsageBit></KeyUsage></CriteriaList>`
	remote  = `<CriteriaList assert="atLeastOne"><PolicySet><PolicyIdentifier><x:Identifier Qualifier="OIDAsURN">urn:oid:1.3.76.16.1.2</x:Identifier></PolicyIdentifier></PolicySet></CriteriaList>`
	nobody  = `<CriteriaList assert="all"><otherCriteriaList><Mood>good</Mood></otherCriteriaList></CriteriaList>`
)

// TestQualifiers: what a list says of some certificates of a service counts for those that meet its criteria, before what
// they state of themselves, and for no others. What cannot be read leaves the result open where it would matter.
func TestQualifiers(t *testing.T) {
	const long, before = "2020-01-01T00:00:00Z", "2012-01-01T00:00:00Z"
	const qes, aes, qeseal = "qualified signature", "advanced signature with a qualified certificate", "qualified seal"
	const open, not = "undetermined", "not qualified"
	policy := func(id string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			oid, err := x509.ParseOID(id)
			require.NoError(t, err)
			c.Policies = append(c.Policies, oid)
		}
	}
	remoteKey := policy("1.3.76.16.1.2")
	for name, c := range map[string]struct {
		change   func(*x509.Certificate)
		list     string
		result   string
		warnings string
	}{
		"key kept by the provider":                {both(statementsOf(1, 1, 4), remoteKey), said(of(remote, "QCQSCDManagedOnBehalf")), qes, ""},
		"key kept by the provider, not stated":    {both(statementsOf(1, 1), remoteKey), said(of(remote, "QCQSCDManagedOnBehalf")), qes, "DEVICE_BY_THE_LIST"},
		"another's key is kept by the provider":   {statementsOf(1, 1), said(of(remote, "QCQSCDManagedOnBehalf")), aes, ""},
		"kept or not, it cannot be read":          {statementsOf(1, 1), said(of(nobody, "QCQSCDManagedOnBehalf")), open, ""},
		"kept or not, and it is stated":           {statementsOf(1, 1, 4), said(of(nobody, "QCQSCDManagedOnBehalf")), qes, ""},
		"kept, with all that lists say":           {both(statementsOf(1, 1, 4), remoteKey), said(of(remote, "QCForESig", "QCQSCDManagedOnBehalf", "QCStatement", "QCWithQSCD")), qes, ""},
		"a seal kept by the provider":             {both(statementsOf(2, 1), remoteKey), said(of(remote, "QCForESeal", "QCQSCDManagedOnBehalf")), qeseal, "DEVICE_BY_THE_LIST"},
		"kept, and no device":                     {both(statementsOf(1, 1, 4), remoteKey), said(of(remote, "QCQSCDManagedOnBehalf", "QCNoQSCD")), open, ""},
		"kept, and in no device, by two elements": {both(statementsOf(1, 1, 4), remoteKey), said(of(remote, "QCQSCDManagedOnBehalf"), of(signing, "QCNoQSCD")), open, ""},
		"kept, as in the certificate":             {both(statementsOf(1, 1, 4), remoteKey), said(of(remote, "QCQSCDManagedOnBehalf", "QCQSCDStatusAsInCert")), qes, ""},
		"kept, as not in the certificate":         {both(statementsOf(1, 1), remoteKey), said(of(remote, "QCQSCDManagedOnBehalf", "QCQSCDStatusAsInCert")), open, ""},

		"device":                          {statementsOf(1, 1), said(of(signing, "QCWithQSCD")), qes, "DEVICE_BY_THE_LIST"},
		"device of others":                {statementsOf(1, 1), said(of(others, "QCWithQSCD")), aes, ""},
		"no device":                       {statementsOf(1, 1, 4), said(of(signing, "QCNoQSCD")), aes, "NO_DEVICE_BY_THE_LIST"},
		"no device of others":             {statementsOf(1, 1, 4), said(of(others, "QCNoQSCD")), qes, ""},
		"device as stated":                {statementsOf(1, 1, 4), said(of(signing, "QCQSCDStatusAsInCert")), qes, ""},
		"no device as stated":             {statementsOf(1, 1), said(of(signing, "QCQSCDStatusAsInCert")), aes, ""},
		"by the law before, stated":       {statementsOf(1, 1, 4), said(of(signing, "QCWithSSCD")), qes, "DEVICE_BY_ANOTHER_LAW"},
		"by the law before, not stated":   {statementsOf(1, 1), said(of(signing, "QCWithSSCD")), open, ""},
		"by the law before, of others":    {statementsOf(1, 1), said(of(others, "QCWithSSCD")), aes, ""},
		"by both laws":                    {statementsOf(1, 1), said(of(signing, "QCWithSSCD", "QCWithQSCD")), qes, "DEVICE_BY_THE_LIST"},
		"not qualified":                   {statementsOf(1, 1, 4), said(of(signing, "NotQualified")), not, ""},
		"others are not qualified":        {statementsOf(1, 1, 4), said(of(others, "NotQualified")), qes, ""},
		"who is not cannot be read":       {statementsOf(1, 1, 4), said(of(nobody, "NotQualified")), open, ""},
		"qualified and not":               {statementsOf(1, 1, 4), said(of(signing, "NotQualified", "QCStatement", "QCForESig")), open, ""},
		"qualified, not stated":           {statementsOf(0, 4), said(of(signing, "QCStatement")), qes, "QUALIFIED_BY_THE_LIST_ALONE"},
		"qualified without any statement": {func(*x509.Certificate) {}, said(of(signing, "QCStatement", "QCForESig", "QCWithQSCD")), qes, "QUALIFIED_BY_THE_LIST_ALONE DEVICE_BY_THE_LIST"},
		"others are qualified":            {statementsOf(0, 4), said(of(others, "QCStatement")), not, ""},
		"who is qualified cannot be read": {statementsOf(0, 4), said(of(nobody, "QCStatement")), open, ""},

		"for seals":                      {statementsOf(1, 1, 4), said(of(signing, "QCForESeal")), qeseal, "USE_BY_THE_LIST"},
		"others are for seals":           {statementsOf(1, 1, 4), said(of(others, "QCForESeal")), qes, ""},
		"for web sites":                  {statementsOf(1, 1, 4), said(of(signing, "QCForWSA")), not, "USE_BY_THE_LIST"},
		"for signatures and seals":       {statementsOf(1, 1, 4), said(of(signing, "QCForESig", "QCForESeal")), open, ""},
		"for seals, cannot be read":      {statementsOf(1, 1, 4), said(of(nobody, "QCForESeal")), open, ""},
		"for signatures, cannot be read": {statementsOf(1, 1, 4), said(of(nobody, "QCForESig")), qes, ""},
		"a seal of a legal person":       {statementsOf(2, 1, 4), said(of(signing, "QCForLegalPerson")), qeseal, ""},
		"a signature of a legal person":  {statementsOf(1, 1, 4), said(of(signing, "QCForLegalPerson")), open, ""},
		"others are of legal persons":    {statementsOf(1, 1, 4), said(of(others, "QCForLegalPerson")), qes, ""},
		"what nobody knows":              {statementsOf(1, 1, 4), said(of(signing, "QCSomething")), open, ""},
		"what nobody knows, of others":   {statementsOf(1, 1, 4), said(of(others, "QCSomething")), qes, ""},
		"two uses stated, one listed": {statementsAs(derOf(t, plainStatement(1), usesStatement(1, 2))),
			said(of(signing, "QCForESeal", "QCWithQSCD")), qeseal, "USE_BY_THE_LIST DEVICE_BY_THE_LIST"},
		"for seals by the list, listed for signatures": {statementsOf(1, 1, 4), strings.Replace(said(of(signing, "QCForESeal")), "ForeSeals", "ForWebSiteAuthentication", 1), open, "USE_BY_THE_LIST"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.change)
			o := w.options(now.Add(6 * time.Hour))
			o.Roots, o.Trust = nil, w.trusted(c.list, "granted", long)
			r, err := validation.Validate(t.Context(), w.p7m(doc), o)
			require.NoError(t, err)
			require.Equal(t, pass, r.Verdict, r.Reason)
			got := r.Signatures[0]
			require.Equal(t, c.result, got.Qualification.Result, got.Qualification.Reason)
			require.Equal(t, c.warnings, warningNames(got.Warnings), got.Warnings)
			if strings.Contains(c.list, "ManagedOnBehalf") && c.result == qes && c.list != said(of(nobody, "QCQSCDManagedOnBehalf")) {
				require.Contains(t, got.Qualification.Reason, "QCQSCDManagedOnBehalf")
			}
		})
	}
	// By the law before, of a service that has not been listed anew: the other names count.
	old := func(extra string, numbers ...int) validation.Signature {
		w := newWorld(t, both(statementsOf(0, numbers...), func(c *x509.Certificate) { c.NotBefore = time.Date(2015, 6, 30, 0, 0, 0, 0, time.UTC) }))
		o := w.options(now.Add(6 * time.Hour))
		o.Roots, o.Trust = nil, w.trusted(extra, "undersupervision", before)
		r, err := validation.Validate(t.Context(), w.p7m(doc), o)
		require.NoError(t, err)
		return r.Signatures[0]
	}
	require.Equal(t, qes, old(said(of(signing, "QCWithSSCD")), 1).Qualification.Result)
	require.Equal(t, aes, old(said(of(signing, "QCNoSSCD")), 1, 4).Qualification.Result)
	require.Equal(t, open, old(said(of(signing, "QCWithQSCD")), 1).Qualification.Result)
}

// warningNames are the names that stand before a colon.
func warningNames(warnings []string) string {
	var out []string
	for _, w := range warnings {
		if name, _, ok := strings.Cut(w, ":"); ok && name == strings.ToUpper(name) {
			out = append(out, name)
		}
	}
	return strings.Join(out, " ")
}

// TestQualifiersOfTwoTimes: what the list says at the issue and at the time of the signature may differ.
func TestQualifiersOfTwoTimes(t *testing.T) {
	issue := "2020-01-01T00:00:00Z"
	for name, c := range map[string]struct {
		then, now        string
		result, warnings string
	}{
		"device since":         {signaturesAndSeals, said(of(signing, "QCWithQSCD")), "qualified signature", "DEVICE_CHANGED_IN_THE_LIST DEVICE_BY_THE_LIST"},
		"no device any more":   {said(of(signing, "QCWithQSCD")), said(of(signing, "QCNoQSCD")), "advanced signature with a qualified certificate", "DEVICE_CHANGED_IN_THE_LIST"},
		"not qualified since":  {signaturesAndSeals, said(of(signing, "NotQualified")), "not qualified", ""},
		"not qualified before": {said(of(signing, "NotQualified")), signaturesAndSeals, "not qualified", ""},
		"another use since":    {signaturesAndSeals, said(of(signing, "QCForESeal")), "undetermined", ""},
		"not read before":      {said(of(nobody, "QCWithQSCD")), said(of(others, "QCWithQSCD")), "advanced signature with a qualified certificate", "DEVICE_CHANGED_IN_THE_LIST"},
		"not read since":       {said(of(others, "QCWithQSCD")), said(of(nobody, "QCWithQSCD")), "undetermined", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, statementsOf(1, 1))
			o := w.options(now.Add(6 * time.Hour))
			o.Roots, o.Trust = nil, w.trustedSince(c.now, now.Add(time.Hour).Format(time.RFC3339), c.then, issue)
			r, err := validation.Validate(t.Context(), w.p7m(doc), o)
			require.NoError(t, err)
			require.Equal(t, pass, r.Verdict, r.Reason)
			got := r.Signatures[0]
			require.Equal(t, c.result, got.Qualification.Result, got.Qualification.Reason)
			require.Equal(t, c.warnings, warningNames(got.Warnings), got.Warnings)
		})
	}
}
