package online

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
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

func identity(c *x509.Certificate) string {
	return "<ServiceDigitalIdentity><DigitalId><X509Certificate>" + base64.StdEncoding.EncodeToString(c.Raw) + "</X509Certificate></DigitalId></ServiceDigitalIdentity>"
}

// tsl is a list in the form of TS 119 612; uris are those of the scheme.
func tsl(kind, territory string, sequence int, next time.Time, uris []string, pointers, services string) string {
	info := ""
	for _, u := range uris {
		info += `<URI xml:lang="en">` + u + "</URI>"
	}
	return fmt.Sprintf(`<TrustServiceStatusList xmlns="http://uri.etsi.org/02231/v2#" TSLTag="http://uri.etsi.org/19612/TSLTag"><SchemeInformation><TSLVersionIdentifier>6</TSLVersionIdentifier><TSLSequenceNumber>%d</TSLSequenceNumber><TSLType>http://uri.etsi.org/TrstSvc/TrustedList/TSLType/%s</TSLType><SchemeInformationURI>%s</SchemeInformationURI><SchemeTerritory>%s</SchemeTerritory><PointersToOtherTSL>%s</PointersToOtherTSL><ListIssueDateTime>2026-02-01T00:00:00Z</ListIssueDateTime><NextUpdate><dateTime>%s</dateTime></NextUpdate></SchemeInformation>%s</TrustServiceStatusList>`,
		sequence, kind, info, territory, pointers, next.UTC().Format(time.RFC3339), services)
}

func pointerTo(kind, territory, location, mime string, signer *x509.Certificate) string {
	return "<OtherTSLPointer><ServiceDigitalIdentities>" + identity(signer) + "</ServiceDigitalIdentities><TSLLocation>" + location +
		"</TSLLocation><AdditionalInformation><OtherInformation><TSLType>http://uri.etsi.org/TrstSvc/TrustedList/TSLType/" + kind +
		"</TSLType></OtherInformation><OtherInformation><SchemeTerritory>" + territory + "</SchemeTerritory></OtherInformation><OtherInformation>" +
		`<MimeType xmlns="http://uri.etsi.org/02231/v2/additionaltypes#">` + mime + "</MimeType></OtherInformation></AdditionalInformation></OtherTSLPointer>"
}

func authority(c *x509.Certificate) string {
	return `<TrustServiceProviderList><TrustServiceProvider><TSPInformation><TSPName><Name xml:lang="en">Provider</Name></TSPName></TSPInformation><TSPServices><TSPService><ServiceInformation><ServiceTypeIdentifier>` +
		trustlist.TypeCAQC + `</ServiceTypeIdentifier><ServiceName><Name xml:lang="en">CA</Name></ServiceName>` + identity(c) +
		"<ServiceStatus>http://uri.etsi.org/TrstSvc/TrustedList/Svcstatus/granted</ServiceStatus><StatusStartingTime>2020-01-01T00:00:00Z</StatusStartingTime></ServiceInformation></TSPService></TSPServices></TrustServiceProvider></TrustServiceProviderList>"
}

// union is the Commission's web server with the lists of two countries.
type union struct {
	*web
	official, second, italy, france cmstest.Pair
	lists                           map[string][]byte
}

func newUnion(t *testing.T) *union {
	t.Helper()
	w := newWeb(t)
	who := func(cn string) cmstest.Pair { return w.pki.Issue(t, cn, cmstest.NewECDSA(t)) }
	u := &union{web: w, official: who("Official Journal"), second: who("Second"), italy: who("AgID"), france: who("ANSSI"), lists: map[string][]byte{}}
	for _, p := range []string{"/lotl.xml", "/pivot-1.xml", "/it.xml", "/it2.xml", "/fr.xml"} {
		w.extra[p] = func(out http.ResponseWriter, _ *http.Request) {
			if u.lists[p] == nil {
				out.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			_, _ = out.Write(u.lists[p])
		}
	}
	u.mend()
	return u
}

// mend publishes what is right.
func (u *union) mend() {
	u.publish("/pivot-1.xml", u.lotl(1, u.second, nil), u.official)
	u.publish("/lotl.xml", u.lotl(2, u.second, u.pivots()), u.second)
	u.publish("/it.xml", u.national("IT", 5), u.italy)
	u.publish("/fr.xml", u.national("FR", 7), u.france)
}

func (u *union) national(territory string, n int) string {
	return tsl("EUgeneric", territory, n, u.now.AddDate(0, 3, 0), nil, "", authority(u.pki.Root))
}

func (u *union) lotl(n int, self cmstest.Pair, uris []string) string {
	p := pointerTo("EUlistofthelists", "EU", u.URL+"/lotl.xml", tslXML, self.Cert) + pointerTo("EUgeneric", "IT", u.URL+"/it.xml", tslXML, u.italy.Cert) +
		pointerTo("EUgeneric", "IT", u.URL+"/it.pdf", "application/pdf", u.italy.Cert) + pointerTo("EUgeneric", "FR", u.URL+"/fr.xml", tslXML, u.france.Cert)
	return tsl("EUlistofthelists", "EU", n, u.now.AddDate(0, 6, 0), uris, p, "")
}

func (u *union) pivots() []string {
	return []string{u.URL + "/pivot-1.xml", "https://eur-lex.europa.eu/x", u.URL + "/pivot-0.xml"}
}

// move publishes a list of the lists with something in it changed.
func (u *union) move(text, from, to string) {
	u.t.Helper()
	require.Contains(u.t, text, from)
	u.publish("/lotl.xml", strings.ReplaceAll(text, from, to), u.second)
}

func (u *union) publish(path, text string, by cmstest.Pair) {
	u.t.Helper()
	raw, err := xades.Sign(u.t.Context(), []byte(text), xades.Signer{Chain: by.Chain[:1], Key: by.Key}, xades.Options{SigningTime: cmstest.Now})
	require.NoError(u.t, err)
	u.lists[path] = raw
}

func (u *union) open(change func(*ListsConfig)) *Lists {
	cfg := ListsConfig{Sources: []string{u.URL + "/lotl.xml"}, Signers: []*x509.Certificate{u.official.Cert}}
	if change != nil {
		change(&cfg)
	}
	return NewLists(u.client(loopback), cfg, slog.New(slog.DiscardHandler))
}

func territories(t *trustlist.Trust) (out []string) {
	for _, l := range t.Lists {
		out = append(out, l.Territory)
	}
	return out
}

func TestListsFollowTheListOfTheLists(t *testing.T) {
	u := newUnion(t)
	l := u.open(nil)
	trust, notes := l.Trust(u.now)
	require.Empty(t, trust.Services)
	require.Len(t, notes, 1, "nothing is loaded yet, and the report says so")
	l.Refresh(t.Context())
	trust, notes = l.Trust(u.now)
	require.Empty(t, notes)
	require.ElementsMatch(t, []string{"IT", "FR"}, territories(trust))
	require.Len(t, trust.Services, 2)

	one := u.open(func(c *ListsConfig) { c.Territories = []string{"IT"} })
	one.Refresh(t.Context())
	trust, notes = one.Trust(u.now)
	require.Empty(t, notes)
	require.Equal(t, []string{"IT"}, territories(trust))
}

// TestListsFailClosed: a list that cannot be had, is changed or over is not there, and is told of; the
// others are. When it was held before, that one counts, and it is told that there is none newer.
func TestListsFailClosed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*union)
		left   []string
		note   string
	}{
		"national list away": {func(u *union) { u.lists["/fr.xml"] = nil }, []string{"IT"}, "503"},
		"national list changed": {func(u *union) {
			u.lists["/fr.xml"] = bytes.Replace(u.lists["/fr.xml"], []byte("granted"), []byte("Granted"), 1)
		}, []string{"IT"}, "does not hold"},
		"signed by a stranger": {func(u *union) { u.publish("/fr.xml", u.national("FR", 8), u.official) }, []string{"IT"}, "nobody that is trusted"},
		"the list of another":  {func(u *union) { u.lists["/fr.xml"] = u.lists["/it.xml"] }, []string{"IT"}, "list of IT"},
		"pivot away":           {func(u *union) { u.lists["/pivot-1.xml"] = nil }, nil, "pivot"},
		"pivot by a stranger":  {func(u *union) { u.publish("/pivot-1.xml", u.lotl(1, u.second, nil), u.france) }, nil, "nobody that is trusted"},
		"list of lists changed": {func(u *union) {
			u.lists["/lotl.xml"] = bytes.Replace(u.lists["/lotl.xml"], []byte("fr.xml"), []byte("fx.xml"), 1)
		}, nil, "does not hold"},
		"list of lists is no XML": {func(u *union) { u.lists["/lotl.xml"] = []byte("<html>") }, nil, "trusted list"},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUnion(t)
			c.change(u)
			l := u.open(nil)
			l.Refresh(t.Context())
			trust, notes := l.Trust(u.now)
			require.ElementsMatch(t, c.left, territories(trust))
			require.NotEmpty(t, notes)
			require.Contains(t, fmt.Sprint(notes), c.note)

			u = newUnion(t)
			l = u.open(nil)
			l.Refresh(t.Context())
			_, notes = l.Trust(u.now)
			require.Empty(t, notes)
			c.change(u)
			l.Refresh(t.Context())
			trust, notes = l.Trust(u.now)
			require.ElementsMatch(t, []string{"IT", "FR"}, territories(trust))
			require.Len(t, notes, 1)
			require.Contains(t, notes[0], c.note)
			require.Contains(t, notes[0], "was not refreshed, and number")
			u.mend()
			l.Refresh(t.Context())
			_, notes = l.Trust(u.now)
			require.Empty(t, notes, "the next good one ends it")
		})
	}
}

func numbers(trust *trustlist.Trust) map[string]int {
	out := map[string]int{}
	for _, l := range trust.Lists {
		out[l.Territory] = l.Sequence
	}
	return out
}

func TestListsKeepTheLastGoodCopyUntilItsEnd(t *testing.T) {
	u := newUnion(t)
	dir := filepath.Join(t.TempDir(), "lists")
	keep := func(c *ListsConfig) { c.Dir = dir }
	l := u.open(keep)
	l.Refresh(t.Context())

	u.publish("/it.xml", u.national("IT", 4), u.italy) // an older one, as an attacker would play back
	u.lists["/fr.xml"] = nil
	l.Refresh(t.Context())
	trust, notes := l.Trust(u.now)
	require.Equal(t, map[string]int{"IT": 5, "FR": 7}, numbers(trust))
	require.Len(t, notes, 2)
	require.Contains(t, notes[0], "/fr.xml was not refreshed, and number 7")
	require.Contains(t, notes[0], "503")
	require.Contains(t, notes[1], "/it.xml was not refreshed, and number 5")
	require.Contains(t, notes[1], "older than 5")

	clear(u.lists) // everything is away, and the process starts anew: the copies are verified like new ones
	again := u.open(keep)
	again.Refresh(t.Context())
	trust, notes = again.Trust(u.now)
	require.ElementsMatch(t, []string{"IT", "FR"}, territories(trust))
	require.Len(t, notes, 3, "of each list it is told that it is a copy")
	for _, n := range notes {
		require.Contains(t, n, "was not refreshed")
	}

	trust, notes = again.Trust(u.now.AddDate(0, 4, 0))
	require.Empty(t, trust.Services, "after their next update lists say nothing")
	require.Contains(t, fmt.Sprint(notes), "the list of IT was to be replaced")
	require.Contains(t, fmt.Sprint(notes), "the list of FR was to be replaced")

	copies, err := filepath.Glob(filepath.Join(dir, "*.xml"))
	require.NoError(t, err)
	require.Len(t, copies, 4)
	for _, name := range copies {
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(name, bytes.Replace(raw, []byte("/granted"), []byte("/Granted"), 1), 0o600))
	}
	changed := u.open(keep)
	changed.Refresh(t.Context())
	trust, notes = changed.Trust(u.now)
	require.Empty(t, trust.Services)
	require.Contains(t, fmt.Sprint(notes), "is missing")
}

// TestListsArePrunedByTheListOfTheLists: only what the newest list of the lists names counts, once for
// each country, and nothing without it.
func TestListsArePrunedByTheListOfTheLists(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*union)
		want   map[string]int
		note   string // "": none
	}{
		"the address moves": {func(u *union) {
			u.publish("/it2.xml", u.national("IT", 6), u.italy)
			u.move(u.lotl(3, u.second, u.pivots()), "/it.xml", "/it2.xml")
		}, map[string]int{"IT": 6, "FR": 7}, ""},
		"the address moves, and nothing is there": {func(u *union) {
			u.move(u.lotl(3, u.second, u.pivots()), "/it.xml", "/it2.xml")
		}, map[string]int{"IT": 5, "FR": 7}, "/it2.xml was not refreshed, and number 5"},
		"a country goes": {func(u *union) {
			u.move(u.lotl(3, u.second, u.pivots()), ">FR<", ">XX<")
		}, map[string]int{"IT": 5}, "list of FR"},
		"who signs is named no more": {func(u *union) {
			u.france = u.official
			u.publish("/lotl.xml", u.lotl(3, u.second, u.pivots()), u.second)
		}, map[string]int{"IT": 5}, "nobody that is trusted"},
		"who signs is named no more, and the address is away": {func(u *union) {
			u.france = u.official
			u.publish("/lotl.xml", u.lotl(3, u.second, u.pivots()), u.second)
			u.lists["/fr.xml"] = nil
		}, map[string]int{"IT": 5}, "/fr.xml is missing"},
		"it is over": {func(u *union) { u.now = u.now.AddDate(0, 2, 0) }, map[string]int{}, "the list of EU was to be replaced"},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUnion(t)
			if name == "it is over" {
				u.publish("/lotl.xml", strings.Replace(u.lotl(2, u.second, u.pivots()), u.now.AddDate(0, 6, 0).UTC().Format(time.RFC3339), u.now.AddDate(0, 1, 0).UTC().Format(time.RFC3339), 1), u.second)
			}
			l := u.open(nil)
			l.Refresh(t.Context())
			trust, notes := l.Trust(u.now)
			require.Empty(t, notes)
			require.Equal(t, map[string]int{"IT": 5, "FR": 7}, numbers(trust))
			c.change(u)
			l.Refresh(t.Context())
			trust, notes = l.Trust(u.now)
			require.Equal(t, c.want, numbers(trust))
			require.Len(t, trust.Services, len(c.want))
			if c.note == "" {
				require.Empty(t, notes)
			} else {
				require.Contains(t, fmt.Sprint(notes), c.note)
			}
		})
	}
}

// TestNumbersOutliveTheProcess: after a restart nothing is taken that is older than what was held, not
// even where the copy of it is gone.
func TestNumbersOutliveTheProcess(t *testing.T) {
	u := newUnion(t)
	dir := filepath.Join(t.TempDir(), "lists")
	keep := func(c *ListsConfig) { c.Dir = dir }
	u.open(keep).Refresh(t.Context())

	u.publish("/it.xml", u.national("IT", 4), u.italy)
	again := u.open(keep)
	again.Refresh(t.Context())
	trust, notes := again.Trust(u.now)
	require.Equal(t, map[string]int{"IT": 5, "FR": 7}, numbers(trust), "the copy is newer")
	require.Contains(t, fmt.Sprint(notes), "older than 5")

	copies, err := filepath.Glob(filepath.Join(dir, "*.xml"))
	require.NoError(t, err)
	for _, name := range copies {
		require.NoError(t, os.Remove(name))
	}
	bare := u.open(keep)
	bare.Refresh(t.Context())
	trust, notes = bare.Trust(u.now)
	require.Equal(t, map[string]int{"FR": 7}, numbers(trust))
	require.Contains(t, fmt.Sprint(notes), "older than 5")

	u.publish("/it.xml", u.national("IT", 6), u.italy)
	bare.Refresh(t.Context())
	u.publish("/lotl.xml", u.lotl(1, u.second, nil), u.official)
	last := u.open(keep)
	last.Refresh(t.Context())
	trust, notes = last.Trust(u.now)
	require.Equal(t, map[string]int{"IT": 6, "FR": 7}, numbers(trust))
	require.Contains(t, fmt.Sprint(notes), "older than 2", "the list of the lists too")
	floors, err := filepath.Glob(filepath.Join(dir, "*"+floorEnding))
	require.NoError(t, err)
	require.Equal(t, []string{"FR.7.held", "IT.6.held", "lotl.2.held"}, bases(floors), "one for each")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "IT.9.held"), nil, 0o600)) // another replica held a newer one
	last.Refresh(t.Context())
	floors, err = filepath.Glob(filepath.Join(dir, "*"+floorEnding))
	require.NoError(t, err)
	require.Contains(t, bases(floors), "IT.9.held", "nobody takes it back")

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	none := u.open(func(c *ListsConfig) { c.Dir = file })
	none.Refresh(t.Context())
	_, notes = none.Trust(u.now)
	require.Contains(t, fmt.Sprint(notes), "an older list might be taken")
}

func bases(paths []string) (out []string) {
	for _, p := range paths {
		out = append(out, filepath.Base(p))
	}
	return out
}

// TestOnlyWhatIsVerifiedIsStored: an answer that is no good replaces no copy, whatever it is in place of,
// and the copy stands in for it.
func TestOnlyWhatIsVerifiedIsStored(t *testing.T) {
	for name, change := range map[string]func(*union){
		"rubbish everywhere":  func(u *union) { u.replace("<html>", "/lotl.xml", "/pivot-1.xml", "/it.xml", "/fr.xml") },
		"pivot is rubbish":    func(u *union) { u.replace("<html>", "/pivot-1.xml") },
		"pivot by a stranger": func(u *union) { u.publish("/pivot-1.xml", u.lotl(1, u.second, nil), u.france) },
		"list of the lists by a stranger": func(u *union) {
			u.publish("/lotl.xml", u.lotl(3, u.second, u.pivots()), u.france)
		},
		"list of another kind": func(u *union) { u.lists["/it.xml"] = u.lists["/lotl.xml"] },
		"list by a stranger":   func(u *union) { u.publish("/it.xml", u.national("IT", 6), u.france) },
	} {
		t.Run(name, func(t *testing.T) {
			u := newUnion(t)
			dir := filepath.Join(t.TempDir(), "lists")
			keep := func(c *ListsConfig) { c.Dir = dir }
			u.open(keep).Refresh(t.Context())
			before := contents(t, dir)
			require.Len(t, before, 4+3, "lists and numbers")
			change(u)
			for range 2 {
				l := u.open(keep)
				l.Refresh(t.Context())
				trust, notes := l.Trust(u.now)
				require.Equal(t, map[string]int{"IT": 5, "FR": 7}, numbers(trust), notes)
				if name != "pivot is rubbish" { // a pivot is read from its copy as well as from its address
					require.NotEmpty(t, notes)
				}
			}
			require.Equal(t, before, contents(t, dir))
		})
	}
}

func (u *union) replace(text string, paths ...string) {
	for _, p := range paths {
		u.lists[p] = []byte(text)
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		out[e.Name()] = string(raw)
	}
	return out
}

func TestListsFromFiles(t *testing.T) {
	u := newUnion(t)
	name := filepath.Join(t.TempDir(), "it.xml")
	require.NoError(t, os.WriteFile(name, u.lists["/it.xml"], 0o600))
	l := u.open(func(c *ListsConfig) { c.Sources, c.Signers = []string{name}, []*x509.Certificate{u.italy.Cert} })
	l.Refresh(t.Context())
	trust, notes := l.Trust(u.now)
	require.Empty(t, notes)
	require.Equal(t, []string{"IT"}, territories(trust))
	none := u.open(func(c *ListsConfig) { c.Sources = nil })
	trust, notes = none.Trust(u.now)
	require.Nil(t, trust)
	require.Empty(t, notes)
}
