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
