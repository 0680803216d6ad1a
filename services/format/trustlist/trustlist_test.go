package trustlist_test

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/trustlist"
	"ceralacca.dev/services/format/xades"
)

var now = cmstest.Now

const (
	granted   = "http://uri.etsi.org/TrstSvc/TrustedList/Svcstatus/granted"
	withdrawn = "http://uri.etsi.org/TrstSvc/TrustedList/Svcstatus/withdrawn"
)

func identity(c *x509.Certificate) string {
	return "<ServiceDigitalIdentity><DigitalId><X509Certificate>" + base64.StdEncoding.EncodeToString(c.Raw) + "</X509Certificate></DigitalId></ServiceDigitalIdentity>"
}

// service is one TSPService; each state is a status and its start, the newest first.
func service(kind string, cert *x509.Certificate, states ...[2]string) string {
	one := func(tag string, s [2]string) string {
		return "<" + tag + "><ServiceTypeIdentifier>" + kind + `</ServiceTypeIdentifier><ServiceName><Name xml:lang="en">Service of ` + cert.Subject.CommonName +
			"</Name></ServiceName>" + identity(cert) + "<ServiceStatus>" + s[0] + "</ServiceStatus><StatusStartingTime>" + s[1] + "</StatusStartingTime></" + tag + ">"
	}
	out := "<TSPService>" + one("ServiceInformation", states[0])
	if len(states) > 1 {
		out += "<ServiceHistory>"
		for _, s := range states[1:] {
			out += one("ServiceHistoryInstance", s)
		}
		out += "</ServiceHistory>"
	}
	return out + "</TSPService>"
}

func pointer(kind, territory string, signer *x509.Certificate) string {
	return "<OtherTSLPointer><ServiceDigitalIdentities>" + identity(signer) + "</ServiceDigitalIdentities><TSLLocation>https://lists.example/" + territory +
		"</TSLLocation><AdditionalInformation><OtherInformation><TSLType>http://uri.etsi.org/TrstSvc/TrustedList/TSLType/" + kind +
		"</TSLType></OtherInformation><OtherInformation><SchemeTerritory>" + territory + "</SchemeTerritory></OtherInformation></AdditionalInformation></OtherTSLPointer>"
}

func list(kind, territory string, sequence int, next time.Time, inside string) string {
	update := "<NextUpdate/>"
	if !next.IsZero() {
		update = "<NextUpdate><dateTime>" + next.Format(time.RFC3339) + "</dateTime></NextUpdate>"
	}
	pointers, providers := "", inside
	if strings.HasPrefix(inside, "<OtherTSLPointer>") {
		pointers, providers = "<PointersToOtherTSL>"+inside+"</PointersToOtherTSL>", ""
	}
	if providers != "" {
		providers = `<TrustServiceProviderList><TrustServiceProvider><TSPInformation><TSPName><Name xml:lang="it">Fornitore</Name><Name xml:lang="en">Provider</Name></TSPName></TSPInformation><TSPServices>` +
			providers + "</TSPServices></TrustServiceProvider></TrustServiceProviderList>"
	}
	return fmt.Sprintf(`<TrustServiceStatusList xmlns="http://uri.etsi.org/02231/v2#" Id="TSL" TSLTag="http://uri.etsi.org/19612/TSLTag"><SchemeInformation><TSLVersionIdentifier>6</TSLVersionIdentifier><TSLSequenceNumber>%d</TSLSequenceNumber><TSLType>http://uri.etsi.org/TrstSvc/TrustedList/TSLType/%s</TSLType><SchemeTerritory>%s</SchemeTerritory><ListIssueDateTime>2026-02-01T00:00:00Z</ListIssueDateTime>%s%s</SchemeInformation>%s</TrustServiceStatusList>`,
		sequence, kind, territory, update, pointers, providers)
}

func sign(t testing.TB, text string, by cmstest.Pair) []byte {
	t.Helper()
	out, err := xades.Sign(t.Context(), []byte(text), xades.Signer{Chain: by.Chain[:1], Key: by.Key}, xades.Options{SigningTime: now})
	require.NoError(t, err)
	return out
}

func certs(p ...cmstest.Pair) (out []*x509.Certificate) {
	for _, x := range p {
		out = append(out, x.Cert)
	}
	return out
}

// TestLoad: the chain of lists, and every way in which it is broken.
func TestLoad(t *testing.T) {
	pki := cmstest.New(t)
	who := func(cn string) cmstest.Pair { return pki.Issue(t, cn, cmstest.NewECDSA(t)) }
	lotl, lotlNext, italy, other := who("LOTL"), who("LOTL next"), who("AgID"), who("Other")
	next := now.AddDate(0, 3, 0)
	body := service(trustlist.TypeCAQC, pki.Root, [2]string{granted, "2020-01-01T00:00:00Z"})
	it := list("EUgeneric", "IT", 50, next, body)
	points := pointer("EUgeneric", "IT", italy.Cert)
	top := func(n int, self cmstest.Pair, extra string) string {
		return list("EUlistofthelists", "EU", n, next, pointer("EUlistofthelists", "EU", self.Cert)+extra)
	}
	for name, c := range map[string]struct {
		raws    [][]byte
		signers []*x509.Certificate
		at      time.Time
		want    string // of the error; empty: it loads
	}{
		"LOTL and national":           {[][]byte{sign(t, top(1, lotl, points), lotl), sign(t, it, italy)}, certs(lotl), now, ""},
		"in another order":            {[][]byte{sign(t, it, italy), sign(t, top(1, lotl, points), lotl)}, certs(lotl), now, ""},
		"pivot":                       {[][]byte{sign(t, top(2, lotlNext, points), lotlNext), sign(t, top(1, lotlNext, points), lotl), sign(t, it, italy)}, certs(lotl), now, ""},
		"pivot that is missing":       {[][]byte{sign(t, top(2, lotlNext, points), lotlNext), sign(t, it, italy)}, certs(lotl), now, "nobody that is trusted"},
		"national by itself":          {[][]byte{sign(t, it, italy)}, certs(italy), now, ""},
		"national, nobody named":      {[][]byte{sign(t, it, italy)}, nil, now, "nobody that is trusted"},
		"national by another":         {[][]byte{sign(t, top(1, lotl, points), lotl), sign(t, it, other)}, certs(lotl), now, "nobody that is trusted"},
		"anchors do not sign it":      {[][]byte{sign(t, top(1, lotl, points), lotl), sign(t, it, lotl)}, certs(lotl), now, "nobody that is trusted"},
		"not pointed to":              {[][]byte{sign(t, top(1, lotl, ""), lotl), sign(t, it, italy)}, certs(lotl), now, "nobody that is trusted"},
		"pointer to another country":  {[][]byte{sign(t, top(1, lotl, pointer("EUgeneric", "FR", italy.Cert)), lotl), sign(t, it, italy)}, certs(lotl), now, "nobody that is trusted"},
		"LOTL by another":             {[][]byte{sign(t, top(1, lotl, points), other), sign(t, it, italy)}, certs(lotl), now, "nobody that is trusted"},
		"changed":                     {[][]byte{[]byte(strings.Replace(string(sign(t, it, italy)), "/granted", "/Granted", 1))}, certs(italy), now, "does not hold"},
		"not signed":                  {[][]byte{[]byte(it)}, certs(italy), now, "0 signatures"},
		"signed twice":                {[][]byte{sign(t, string(sign(t, it, italy)), italy)}, certs(italy), now, "2 signatures"},
		"expired":                     {[][]byte{sign(t, it, italy)}, certs(italy), next.Add(time.Second), "get the new one"},
		"expired LOTL":                {[][]byte{sign(t, list("EUlistofthelists", "EU", 1, now.Add(-time.Hour), points), lotl), sign(t, it, italy)}, certs(lotl), now, "get the new one"},
		"closed":                      {[][]byte{sign(t, list("EUgeneric", "IT", 50, time.Time{}, body), italy)}, certs(italy), now, "get the new one"},
		"two of one country":          {[][]byte{sign(t, it, italy), sign(t, it, italy)}, certs(italy), now, "two lists of IT"},
		"two LOTLs of one number":     {[][]byte{sign(t, top(1, lotl, points), lotl), sign(t, top(1, lotl, points), lotl)}, certs(lotl), now, "sequence number 1"},
		"not a list":                  {[][]byte{[]byte("<x/>")}, certs(italy), now, "not a trusted list"},
		"another type":                {[][]byte{sign(t, list("CClist", "US", 1, next, body), italy)}, certs(italy), now, "an EU list is expected"},
		"history out of order":        {[][]byte{sign(t, list("EUgeneric", "IT", 1, next, service(trustlist.TypeCAQC, pki.Root, [2]string{granted, "2020-01-01T00:00:00Z"}, [2]string{granted, "2021-01-01T00:00:00Z"})), italy)}, certs(italy), now, "not in order"},
		"a date that is none":         {[][]byte{sign(t, strings.Replace(it, "2026-02-01T00:00:00Z", "yesterday", 1), italy)}, certs(italy), now, "ListIssueDateTime"},
		"no lists":                    {nil, nil, now, ""},
		"one good and one bad":        {[][]byte{sign(t, it, italy), sign(t, strings.Replace(it, ">IT<", ">FR<", 1), other)}, certs(italy), now, "list of FR"},
		"services outside the signed": {[][]byte{[]byte(strings.Replace(string(sign(t, it, italy)), "</TrustServiceStatusList>", "<TrustServiceProviderList/></TrustServiceStatusList>", 1))}, certs(italy), now, "does not hold"},
	} {
		t.Run(name, func(t *testing.T) {
			trust, err := trustlist.Load(c.raws, c.signers, c.at)
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				require.Nil(t, trust)
				return
			}
			require.NoError(t, err)
			if len(c.raws) > 0 {
				require.Len(t, trust.Services, 1)
				require.Equal(t, "Provider", trust.Services[0].Provider)
				require.Len(t, trust.Anchors(trustlist.TypeCAQC, now), 1)
				require.Empty(t, trust.Anchors(trustlist.TypeTSAQTST, now))
			}
		})
	}
}

// TestStatusAtATime: a service is an anchor while it is granted.
func TestStatusAtATime(t *testing.T) {
	pki := cmstest.New(t)
	by := pki.Issue(t, "AgID", cmstest.NewECDSA(t))
	raw := sign(t, list("EUgeneric", "IT", 1, now.AddDate(1, 0, 0), service(trustlist.TypeCAQC, pki.Root,
		[2]string{withdrawn, "2026-01-01T00:00:00Z"}, [2]string{granted, "2020-01-01T00:00:00Z"})), by)
	trust, err := trustlist.Load([][]byte{raw}, certs(by), now)
	require.NoError(t, err)
	for when, want := range map[string]int{"2019-12-31T23:59:59Z": 0, "2020-01-01T00:00:00Z": 1, "2025-12-31T23:59:59Z": 1, "2026-01-01T00:00:00Z": 0} {
		at, err := time.Parse(time.RFC3339, when)
		require.NoError(t, err)
		require.Len(t, trust.Anchors(trustlist.TypeCAQC, at), want, when)
	}
	found := trust.Find(pki.Root, trustlist.TypeCAQC)
	require.Len(t, found, 1)
	require.Equal(t, "withdrawn", found[0].History[0].Short())
	require.Empty(t, trust.Find(by.Cert, trustlist.TypeCAQC))
	var none *trustlist.Trust
	require.Empty(t, none.Anchors(trustlist.TypeCAQC, now))
}

// TestListsFromTheWild reads real lists where they are at hand; they stay outside the repository.
func TestListsFromTheWild(t *testing.T) {
	paths, err := filepath.Glob("../../../../shared/reference/signing/*.xml")
	require.NoError(t, err)
	if len(paths) == 0 {
		t.Log("no real lists on this machine: own ones only")
	}
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		require.NoError(t, err)
		_, err = trustlist.Parse(raw)
		require.NoError(t, err, p)
	}
}

// FuzzParse: whatever the bytes, there is a list or an error, and nobody's list is trusted.
func FuzzParse(f *testing.F) {
	f.Add([]byte(list("EUgeneric", "IT", 1, now, "")))
	f.Add([]byte(list("EUlistofthelists", "EU", 1, now, "<OtherTSLPointer/>")))
	pki := cmstest.New(f)
	cert := pki.Issue(f, "Maria Rossi", cmstest.NewECDSA(f)).Cert
	f.Add([]byte(list("EUgeneric", "IT", 1, now, strings.Replace(service(trustlist.TypeCAQC, pki.Root, [2]string{granted, "2020-01-01T00:00:00Z"}), "</ServiceInformation>",
		"<ServiceInformationExtensions>"+qualifications(element(criteria("none", policySet("1.2.3"), criteria("all", bits("crlSign", "true"), others("<a:CertSubjectDNAttribute>"+oids("a:AttributeOID", "2.5.4.5")+"</a:CertSubjectDNAttribute>"))), "NotQualified"))+
			"</ServiceInformationExtensions></ServiceInformation>", 1))))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := trustlist.Parse(raw)
		if err == nil {
			require.NotEmpty(t, l.Territory)
			require.Positive(t, l.Sequence)
			for _, s := range l.Services {
				for _, st := range s.History {
					for _, q := range st.Qualifications {
						require.Contains(t, []trustlist.Answer{trustlist.No, trustlist.Unknown, trustlist.Yes}, q.Criteria.Meets(cert))
					}
				}
			}
		}
		_, err = trustlist.Load([][]byte{raw}, nil, now)
		require.Error(t, err)
	})
}
