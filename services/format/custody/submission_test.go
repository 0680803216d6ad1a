package custody_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
)

// reportOf writes a report over all leaves of the book.
func (b *book) reportOf(units []string) string {
	receipts := b.receipts()
	proof, err := receipts[len(receipts)-1].Marshal()
	require.NoError(b.t, err)
	var x strings.Builder
	x.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<RapportoDiVersamento xmlns="https://ceralacca.dev/schemi/rdv/1" versione="1"><Identificativo>tenants/acme/submissions/1</Identificativo>`)
	for i, u := range units {
		sum := sha256.Sum256([]byte(u))
		fmt.Fprintf(&x, "<UnitaDocumentaria><Identificativo>tenants/acme/units/%s</Identificativo><File><ImprontaCrittograficaDelDocumento><Impronta>%s</Impronta></ImprontaCrittograficaDelDocumento></File><Sequenza>%d</Sequenza></UnitaDocumentaria>",
			u, base64.StdEncoding.EncodeToString(sum[:]), i+1)
	}
	fmt.Fprintf(&x, "<Registro><Prova>%s</Prova>", proof)
	for _, e := range b.leaves {
		fmt.Fprintf(&x, "<Foglia>%s</Foglia>", base64.StdEncoding.EncodeToString(e.Data))
	}
	x.WriteString("</Registro></RapportoDiVersamento>\n")
	return x.String()
}

// TestVerifySubmission: a report holds by the log's key alone, and nothing in it can be changed, taken out or put in.
func TestVerifySubmission(t *testing.T) {
	b, units := newBook(t), []string{"u-1", "u-2", "u-3"}
	for _, u := range units {
		objects, note := custody.UnitObjects(u, [][32]byte{sha256.Sum256([]byte(u))})
		b.add(custody.Taken, objects, note)
	}
	good := b.reportOf(units)
	require.True(t, custody.IsSubmission([]byte(good)))
	require.False(t, custody.IsSubmission([]byte("\x30\x82"+good)), "it is inside of something else, such as its signed form")
	r, err := custody.VerifySubmission([]byte(good), b.policy(), tlog.StampPolicy{})
	require.NoError(t, err)
	require.Empty(t, r.Problems)
	require.Len(t, r.Holds, 1)
	leaf := func(i int) string {
		return "<Foglia>" + base64.StdEncoding.EncodeToString(b.leaves[i].Data) + "</Foglia>"
	}
	other := sha256.Sum256([]byte("other"))
	own := sha256.Sum256([]byte("u-2"))
	for name, bad := range map[string]string{
		"another file":     strings.Replace(good, base64.StdEncoding.EncodeToString(own[:]), base64.StdEncoding.EncodeToString(other[:]), 1),
		"another unit":     strings.Replace(good, "units/u-2", "units/u-9", 1),
		"a leaf less":      strings.Replace(good, leaf(1), "", 1),
		"the last is gone": strings.Replace(good, leaf(2), "", 1),
		"leaves swapped":   strings.Replace(strings.Replace(strings.Replace(good, leaf(0), "@", 1), leaf(1), leaf(0), 1), "@", leaf(1), 1),
		"a number outside": strings.Replace(good, "<Sequenza>3<", "<Sequenza>9<", 1),
		"no files":         strings.Replace(good, "<File><ImprontaCrittograficaDelDocumento><Impronta>"+base64.StdEncoding.EncodeToString(own[:])+"</Impronta></ImprontaCrittograficaDelDocumento></File>", "", 1),
	} {
		t.Run(name, func(t *testing.T) {
			require.NotEqual(t, good, bad)
			r, err := custody.VerifySubmission([]byte(bad), b.policy(), tlog.StampPolicy{})
			require.NoError(t, err)
			require.True(t, r.Has(custody.SubmissionInvalid), r)
			require.Empty(t, r.Holds)
		})
	}
	_, err = custody.VerifySubmission([]byte(good+"<a/>"), b.policy(), tlog.StampPolicy{})
	require.ErrorContains(t, err, "something follows")
	_, err = custody.VerifySubmission([]byte("<a/>"), b.policy(), tlog.StampPolicy{})
	require.Error(t, err)
}

// filesOf gives a report's elements for files, the last of which is the metadata file.
func filesOf(sums ...[32]byte) (text string) {
	for i, sum := range sums {
		role := "ricevuta"
		switch i {
		case 0:
			role = "documento"
		case len(sums) - 1:
			role = "metadati"
		}
		text += "<File><Ruolo>" + role + "</Ruolo><ImprontaCrittograficaDelDocumento><Impronta>" + base64.StdEncoding.EncodeToString(sum[:]) +
			"</Impronta><Algoritmo>SHA-256</Algoritmo></ImprontaCrittograficaDelDocumento><Dimensione>1</Dimensione></File>"
	}
	return text
}

// TestSubmissionTellsAll: a report lists what the leaf names, each file as often, and says each thing once, in words that it has: programs
// differ in which of two they take.
func TestSubmissionTellsAll(t *testing.T) {
	b, unit := newBook(t), "0199d2f0-0000-7000-8000-00000000beef"
	sums := [][32]byte{file(1), file(2), file(2), file(3)}
	objects, note := custody.UnitObjects(unit, sums)
	b.add(custody.Taken, objects, note)
	proof, err := b.receipts()[0].Marshal()
	require.NoError(t, err)
	report := func(files, log string) string {
		return `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<RapportoDiVersamento xmlns="https://ceralacca.dev/schemi/rdv/1" versione="1"><Identificativo>tenants/acme/submissions/1</Identificativo>` +
			"<UnitaDocumentaria><Identificativo>tenants/acme/units/" + unit + "</Identificativo>" + files + "<Copie>2</Copie><Sequenza>1</Sequenza></UnitaDocumentaria>" +
			"<Registro><Origine>" + origin + "</Origine><Sequenza>1</Sequenza><Prova>" + string(proof) + "</Prova>" + log + "</Registro><Esito>POSITIVO</Esito></RapportoDiVersamento>\n"
	}
	judge := func(report string) *custody.Report {
		r, err := custody.VerifySubmission([]byte(report), b.policy(), tlog.StampPolicy{})
		require.NoError(t, err)
		return r
	}
	all, leaf := filesOf(sums...), "<Foglia>"+base64.StdEncoding.EncodeToString(b.leaves[0].Data)+"</Foglia>"
	for _, log := range []string{"", leaf} {
		r := judge(report(all, log))
		require.Empty(t, r.Problems)
		require.Len(t, r.Holds, 1)
	}
	good, first := report(all, leaf), filesOf(file(1))
	unitText := good[strings.Index(good, "<UnitaDocumentaria>") : strings.Index(good, "</UnitaDocumentaria>")+len("</UnitaDocumentaria>")]
	for name, bad := range map[string]string{
		"the document is missing":     report(strings.Replace(all, first, "", 1), leaf),
		"a receipt is missing":        report(filesOf(file(1), file(2), file(3)), leaf),
		"metadata missing, no leaves": report(all[:strings.LastIndex(all, "<File>")], ""),
		"metadata and one receipt":    report(strings.Replace(filesOf(file(1), file(2)), "metadati", "ricevuta", 1), leaf),
		"a file once more":            report(all+first, leaf),
		"the unit twice":              strings.Replace(good, unitText, unitText+unitText, 1),
		"the unit twice, no leaves":   strings.Replace(report(all, ""), unitText, unitText+unitText, 1),
		"a second digest":             strings.Replace(good, "<Algoritmo>", "<Impronta>AAAA</Impronta><Algoritmo>", 1),
		"a second digest of a file":   strings.Replace(good, "</ImprontaCrittograficaDelDocumento>", "</ImprontaCrittograficaDelDocumento><ImprontaCrittograficaDelDocumento/>", 1),
		"a second name":               strings.Replace(good, "<Copie>", "<Identificativo>x</Identificativo><Copie>", 1),
		"a second log":                strings.Replace(good, "<Esito>", "<Registro/><Esito>", 1),
		"a second outcome":            strings.Replace(good, "</Esito>", "</Esito><Esito>NEGATIVO</Esito>", 1),
		"an unknown name":             strings.Replace(good, "<Esito>", "<Nota>x</Nota><Esito>", 1),
		"a known name elsewhere":      strings.Replace(good, "<Esito>", "<File>x</File><Esito>", 1),
		"of another namespace":        strings.Replace(good, "<Copie>", `<Copie xmlns="urn:x">`, 1),
		"an attribute":                strings.Replace(good, "<Esito>", `<Esito x="y">`, 1),
		"another version":             strings.Replace(good, `versione="1"`, `versione="2"`, 1),
		"text between":                strings.Replace(good, "<Esito>", "x<Esito>", 1),
		"an element in a text":        strings.Replace(good, "POSITIVO", "POSI<b/>TIVO", 1),
		"a comment":                   strings.Replace(good, "<Esito>", "<!-- x --><Esito>", 1),
		"an instruction":              strings.Replace(good, "<Esito>", "<?x y?><Esito>", 1),
		"a second declaration":        strings.Replace(good, "<Esito>", `<?xml version="1.0"?><Esito>`, 1),
		"another algorithm":           strings.Replace(good, "SHA-256", "SHA-1", 1),
		"another number of the log":   strings.Replace(good, "</Origine><Sequenza>1<", "</Origine><Sequenza>2<", 1),
		"another log":                 strings.Replace(good, "<Origine>", "<Origine>x", 1),
	} {
		require.NotEqual(t, good, bad, name)
		r := judge(bad)
		require.True(t, r.Has(custody.SubmissionInvalid), name)
		require.Empty(t, r.Holds, name)
	}

	// Reports were written from what a unit had by then: a receipt that came meanwhile had its metadata made anew, and the former ones
	// were not listed.
	r := judge(report(all[:strings.LastIndex(all, "<File>")], leaf))
	require.Empty(t, r.Problems)
	require.Len(t, r.Holds, 2)
	require.Contains(t, r.Holds[0], "metadata")
}

// FuzzVerifySubmission: whatever is read, it ends with a verdict and none is good but of what the log has.
func FuzzVerifySubmission(f *testing.F) {
	f.Add([]byte(`<RapportoDiVersamento xmlns="https://ceralacca.dev/schemi/rdv/1"><UnitaDocumentaria/><Registro><Prova>c2sp.org/tlog-proof@v1</Prova><Foglia>e30=</Foglia></Registro></RapportoDiVersamento>`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := custody.VerifySubmission(raw, newBook(t).policy(), tlog.StampPolicy{})
		if err == nil {
			require.Empty(t, r.Holds, "nothing is in an empty log")
		}
	})
}
