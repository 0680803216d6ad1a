package trustlist_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/trustlist"
)

// qualified reads the one status of a list whose service has these extensions.
func qualified(t testing.TB, cert *x509.Certificate, extensions string) trustlist.Status {
	t.Helper()
	text := strings.Replace(service(trustlist.TypeCAQC, cert, [2]string{granted, "2020-01-01T00:00:00Z"}), "</ServiceInformation>",
		"<ServiceInformationExtensions>"+extensions+"</ServiceInformationExtensions></ServiceInformation>", 1)
	l, err := trustlist.Parse([]byte(list("EUgeneric", "IT", 1, now, text)))
	require.NoError(t, err)
	return l.Services[0].History[0]
}

func element(criteria string, names ...string) string {
	out := ""
	for _, n := range names {
		out += `<s:Qualifier uri="http://uri.etsi.org/TrstSvc/TrustedList/SvcInfoExt/` + n + `"/>`
	}
	return `<s:QualificationElement><s:Qualifiers>` + out + `</s:Qualifiers>` + criteria + `</s:QualificationElement>`
}

func qualifications(elements ...string) string {
	return `<Extension Critical="true"><s:Qualifications xmlns:s="http://uri.etsi.org/TrstSvc/SvcInfoExt/eSigDir-1999-93-EC-TrustedList/#" xmlns:x="http://uri.etsi.org/01903/v1.3.2#" xmlns:a="http://uri.etsi.org/02231/v2/additionaltypes#">` +
		strings.Join(elements, "") + `</s:Qualifications></Extension>`
}

func criteria(assert string, inside ...string) string {
	return `<s:CriteriaList assert="` + assert + `">` + strings.Join(inside, "") + `</s:CriteriaList>`
}

func oids(tag string, ids ...string) string {
	out := ""
	for _, id := range ids {
		out += "<" + tag + "><x:Identifier>" + id + "</x:Identifier></" + tag + ">"
	}
	return out
}

func policySet(ids ...string) string {
	return "<s:PolicySet>" + oids("s:PolicyIdentifier", ids...) + "</s:PolicySet>"
}

func bits(pairs ...string) string {
	out := ""
	for i := 0; i < len(pairs); i += 2 {
		out += `<s:KeyUsageBit name="` + pairs[i] + `">` + pairs[i+1] + `</s:KeyUsageBit>`
	}
	return "<s:KeyUsage>" + out + "</s:KeyUsage>"
}

func others(inside string) string {
	return "<s:otherCriteriaList>" + inside + "</s:otherCriteriaList>"
}

// TestCriteria: which certificates of a service a list speaks of. What cannot be read is neither met nor not met, and spoils
// only what depends on it.
func TestCriteria(t *testing.T) {
	const mine, also, foreign = "1.3.76.16.1", "0.4.0.194112.1.2", "1.2.3.4"
	// An identifier whose numbers are larger than what an int holds.
	const large = "2.25.329800735698586629295641978511506172918"
	pki := cmstest.New(t)
	cert := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t), func(c *x509.Certificate) {
		c.Policies = []x509.OID{mustOID(t, mine), mustOID(t, also), mustOID(t, large)}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
		c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 311, 10, 3, 12}}
		c.Subject = pkix.Name{CommonName: "Maria Rossi", SerialNumber: "TINIT-RSSMRA80A01H501U"}
	}).Cert
	plain := pki.Issue(t, "nobody", cmstest.NewECDSA(t), func(c *x509.Certificate) { c.KeyUsage, c.Subject = 0, pkix.Name{CommonName: "nobody"} }).Cert
	yes, no, unknown := policySet(mine), policySet(foreign), others("<a:Mood>good</a:Mood>")
	const Yes, No, Unknown = trustlist.Yes, trustlist.No, trustlist.Unknown
	for name, c := range map[string]struct {
		criteria string
		want     trustlist.Answer
		plain    trustlist.Answer // of a certificate without extensions
	}{
		"policy":                            {criteria("all", policySet(mine)), Yes, No},
		"both policies of a set":            {criteria("all", policySet(mine, also)), Yes, No},
		"one policy of a set":               {criteria("atLeastOne", policySet(mine, foreign)), No, No},
		"one set of two":                    {criteria("atLeastOne", policySet(foreign), policySet(also)), Yes, No},
		"policy of large numbers":           {criteria("all", policySet(large)), Yes, No},
		"policy that begins the same":       {criteria("all", policySet("1.3.76.16")), No, No},
		"policy as URN":                     {criteria("all", policySet("urn:oid:"+mine)), Yes, No},
		"policy as URN in capitals, spaces": {criteria("all", policySet("\n URN:OID:"+mine+"  ")), Yes, No},
		"policy with oid: alone":            {criteria("all", policySet("oid:"+mine)), Yes, No},
		"policy that is no identifier":      {criteria("all", policySet("1.3.76.16.1.")), Unknown, Unknown},
		"policy in words":                   {criteria("all", policySet("the good one")), Unknown, Unknown},
		"no policy in the set":              {criteria("all", policySet()), Unknown, Unknown},
		"usage":                             {criteria("all", bits("nonRepudiation", "true", "digitalSignature", "false", "keyCertSign", "0", "crlSign", "false")), Yes, No},
		"usage, one bit differs":            {criteria("all", bits("nonRepudiation", "1", "digitalSignature", "true")), No, No},
		"usage that is not there":           {criteria("all", bits("nonRepudiation", "false")), No, Yes},
		"usage in spaces":                   {criteria("all", bits("nonRepudiation", " true\n")), Yes, No},
		"usage that is not known":           {criteria("all", bits("signing", "true")), Unknown, Unknown},
		"usage that is no bit":              {criteria("all", bits("nonRepudiation", "yes")), Unknown, Unknown},
		"usage and policy":                  {criteria("all", bits("nonRepudiation", "true"), policySet(mine)), Yes, No},
		"usage or policy":                   {criteria("atLeastOne", bits("nonRepudiation", "false"), policySet(mine)), Yes, Yes},
		"none of them":                      {criteria("none", no, bits("digitalSignature", "true")), Yes, Yes},
		"none, and one is there":            {criteria("none", no, yes), No, Yes},
		"nested":                            {criteria("all", bits("nonRepudiation", "true"), criteria("atLeastOne", no, yes)), Yes, No},
		"nested, none of at least one":      {criteria("none", criteria("atLeastOne", no, yes)), No, Yes},
		"nested deeply":                     {criteria("none", criteria("none", criteria("all", criteria("atLeastOne", yes)))), Yes, No},
		"subject":                           {criteria("all", others("<a:CertSubjectDNAttribute>"+oids("a:AttributeOID", "urn:oid:2.5.4.5", "2.5.4.3")+"</a:CertSubjectDNAttribute>")), Yes, No},
		"subject without it":                {criteria("all", others("<a:CertSubjectDNAttribute>"+oids("a:AttributeOID", "2.5.4.97")+"</a:CertSubjectDNAttribute>")), No, No},
		"purpose":                           {criteria("all", others("<a:ExtendedKeyUsage>"+oids("a:KeyPurposeId", "1.3.6.1.5.5.7.3.4", "1.3.6.1.4.1.311.10.3.12")+"</a:ExtendedKeyUsage>")), Yes, No},
		"purpose that it has not":           {criteria("all", others("<a:ExtendedKeyUsage>"+oids("a:KeyPurposeId", "1.3.6.1.5.5.7.3.8")+"</a:ExtendedKeyUsage>")), No, No},
		"of another namespace":              {criteria("all", others("<x:ExtendedKeyUsage>"+oids("a:KeyPurposeId", "1.3.6.1.5.5.7.3.4")+"</x:ExtendedKeyUsage>")), Unknown, Unknown},
		"not known":                         {criteria("all", unknown), Unknown, Unknown},
		"not known, and no":                 {criteria("all", unknown, no), No, No},
		"not known, and yes":                {criteria("all", unknown, yes), Unknown, No},
		"not known, or yes":                 {criteria("atLeastOne", unknown, yes), Yes, Unknown},
		"not known, or no":                  {criteria("atLeastOne", unknown, no), Unknown, Unknown},
		"none, of what is not known":        {criteria("none", unknown, no), Unknown, Unknown},
		"none, of what is there beside it":  {criteria("none", unknown, yes), No, Unknown},
		"all of nothing":                    {criteria("all"), Unknown, Unknown},
		"none of nothing":                   {criteria("none"), Unknown, Unknown},
		"at least one of nothing":           {criteria("atLeastOne"), Unknown, Unknown},
		"in words alone":                    {criteria("all", "<s:Description>the good ones</s:Description>"), Unknown, Unknown},
		"asserts what nobody knows":         {criteria("most", yes), Unknown, Unknown},
		"asserts nothing":                   {"<s:CriteriaList>" + yes + "</s:CriteriaList>", Unknown, Unknown},
		"no criteria":                       {"", Unknown, Unknown},
		"two lists where there is one":      {criteria("all", yes) + criteria("all", yes), Unknown, Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			st := qualified(t, pki.Root, qualifications(element(c.criteria, "QCStatement", "QCForESig"), element(criteria("all", no), "NotQualified")))
			require.Len(t, st.Qualifications, 2)
			require.Len(t, st.Qualifications[0].Qualifiers, 2)
			require.Equal(t, "QCForESig", trustlist.Last(st.Qualifications[0].Qualifiers[1]))
			require.Equal(t, c.want, st.Qualifications[0].Criteria.Meets(cert))
			require.Equal(t, c.plain, st.Qualifications[0].Criteria.Meets(plain))
			require.Equal(t, trustlist.No, st.Qualifications[1].Criteria.Meets(cert), "each element has its own")
		})
	}
}

func mustOID(t testing.TB, text string) x509.OID {
	t.Helper()
	oid, err := x509.ParseOID(text)
	require.NoError(t, err)
	return oid
}
