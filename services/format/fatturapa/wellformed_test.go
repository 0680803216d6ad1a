package fatturapa_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// scramble changes a text byte by byte: what mutants of the tree never reach.
func scramble(r *rand.Rand, raw []byte) ([]byte, string) {
	bits := []string{"<", ">", "&", "\"", "'", "/", "!", "?", "-", "--", "[", "]]>", "=", " ", "\n", "\r", "\t", ":", ";", "x", "é", "\x00", "\x01", "\xff",
		"&amp;", "&#65;", "&#x41;", "&#0;", "&lt;", "&nope;", "<!-- c -->", "<!---->", "<![CDATA[x]]>", "<?pi d?>", "<?xml?>", "<a/>", "<a b='c'/>", "</a>", "<!DOCTYPE a>", " xmlns='urn:x'", " xmlns:q='urn:x'", "q:", "p:", "\u2028", "\ufffe"}
	at := r.IntN(len(raw))
	out := append([]byte{}, raw[:at]...)
	switch r.IntN(6) {
	case 0:
		n := 1 + r.IntN(3)
		return append(out, raw[min(at+n, len(raw)):]...), fmt.Sprintf("delete %q at %d", raw[at:min(at+n, len(raw))], at)
	case 1:
		return out, fmt.Sprintf("cut at %d", at)
	case 2:
		to := min(at+1+r.IntN(60), len(raw))
		return append(append(append(out, raw[at:to]...), raw[at:to]...), raw[to:]...), fmt.Sprintf("double %q", raw[at:to])
	case 3:
		s := bits[r.IntN(len(bits))]
		return append(append(out, s...), raw[at+1:]...), fmt.Sprintf("replace %q by %q at %d", raw[at], s, at)
	}
	s := bits[r.IntN(len(bits))]
	return append(append(out, s...), raw[at:]...), fmt.Sprintf("insert %q at %d", s, at)
}

// Files whose bytes were scrambled are valid for us exactly when they are for
// libxml2: the reader is as strict about XML as a general one.
func TestReaderAgreesWithLibxml2(t *testing.T) {
	if !haveReference(t) {
		return
	}
	var bases [][]byte
	for _, name := range []string{"fpr12.xml", "fpa12_completa.xml", "allegato.xml"} {
		raw, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		bases = append(bases, raw)
	}
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(7, 2026))
	raws, changes, files := map[string][]byte{}, map[string]string{}, []string{}
	for i := range 2 * *mutants {
		name := fmt.Sprintf("b%06d.xml", i)
		doc, how := scramble(r, bases[i%len(bases)])
		raws[name], changes[name] = doc, how
		files = append(files, name)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), doc, 0o644))
	}
	theirs := xmllint(t, dir, "VFPR12_1.2.3.xsd", files)
	known := map[string]int{}
	for _, name := range files {
		ok, why := verdict(t, raws[name], "1.2.3")
		if ok == strings.HasSuffix(theirs[name], "|validates") {
			continue
		}
		if d := knownReaderDifference(why, theirs[name]); d != "" {
			known[d]++
			continue
		}
		t.Errorf("%s (%s)\n  ours:   %s\n  theirs: %s", name, changes[name], why, theirs[name])
	}
	t.Logf("%d files, known differences %v", len(files), known)
}

// knownReaderDifference names the reasoned differences, besides those of values.
//
//   - doctype: an invoice with a document type declaration is refused, even when
//     it declares nothing;
//   - encoding-name: a declared encoding that we do not know is refused; libxml2
//     warns and reads on;
//   - namespaces: names and prefixes that Namespaces in XML forbids are refused;
//     libxml2 reports them and reads on;
//   - xml-version: so is a declaration of version "1." and nothing more;
//   - any-uri: xs:anyURI takes almost any text (its form is for the application
//     to check); libxml2 parses it. It occurs in signatures only.
func knownReaderDifference(ours, theirs string) string {
	errors := strings.Count(theirs, "validity error")
	switch {
	case strings.Contains(ours, ": dtd "):
		return "doctype"
	case strings.Contains(ours, ": encoding ") && strings.Contains(ours, "is not supported"):
		return "encoding-name"
	case strings.Contains(theirs, "namespace error") && !strings.HasPrefix(ours, "valid"):
		return "namespaces"
	case strings.Contains(theirs, "Unsupported version") && !strings.HasPrefix(ours, "valid"):
		return "xml-version"
	case ours == "valid" && errors > 0 && errors == strings.Count(theirs, "'xs:anyURI'"):
		return "any-uri"
	}
	return knownDifference(ours, theirs)
}
