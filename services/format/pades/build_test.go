package pades_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto"
	"encoding/asn1"
	"fmt"
	"math/big"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/pades"
	"ceralacca.dev/services/format/tsp"
)

// objects is a PDF about to be written: the text of each object by number.
type objects map[int]string

func streamText(extra, data string) string {
	return fmt.Sprintf("<<%s/Length %d>>\nstream\n%s\nendstream", extra, len(data), data)
}

// plain is two pages with one line each; change may turn it.
func plain(change ...func(objects)) objects {
	o := objects{
		1: "<</Type/Catalog/Pages 2 0 R>>",
		2: "<</Type/Pages/Kids[3 0 R 6 0 R]/Count 2/MediaBox[0 0 595 842]/Resources<</Font<</F1 5 0 R>>>>>>",
		3: "<</Type/Page/Parent 2 0 R/Contents 4 0 R>>",
		4: streamText("", "BT /F1 24 Tf 72 720 Td (Pay 100 euro) Tj ET"),
		5: "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
		6: "<</Type/Page/Parent 2 0 R/Contents 7 0 R>>",
		7: streamText("", "BT /F1 24 Tf 72 720 Td (Second page) Tj ET"),
	}
	for _, f := range change {
		f(o)
	}
	return o
}

func (o objects) numbers() []int {
	var out []int
	for n := range o {
		out = append(out, n)
	}
	sort.Ints(out)
	return out
}

// table writes the file with a classic cross-reference table.
func (o objects) table(trailer string) []byte {
	b := bytes.NewBufferString("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
	return update(b.Bytes(), o, "/Root 1 0 R"+trailer, -1)
}

// update appends objects and a cross-reference table; prev below zero makes a first section.
func update(file []byte, o objects, trailer string, prev int) []byte {
	b := bytes.NewBuffer(bytes.Clone(file))
	rows := map[int]int{}
	for _, n := range o.numbers() {
		rows[n] = b.Len()
		fmt.Fprintf(b, "%d 0 obj\n%s\nendobj\n", n, o[n])
	}
	start := b.Len()
	b.WriteString("xref\n")
	size := 1
	if prev < 0 {
		b.WriteString("0 1\n0000000000 65535 f \n")
	} else {
		trailer += fmt.Sprintf("/Prev %d", prev)
	}
	for _, n := range o.numbers() {
		fmt.Fprintf(b, "%d 1\n%010d 00000 n \n", n, rows[n])
		size = max(size, n+1)
	}
	fmt.Fprintf(b, "trailer\n<</Size %d%s>>\nstartxref\n%d\n%%%%EOF\n", max(size, 100), trailer, start)
	return b.Bytes()
}

// append adds an increment to a finished file.
func appendTo(file []byte, o objects, trailer string) []byte {
	return update(file, o, "/Root 1 0 R"+trailer, lastStart(file))
}

func lastStart(file []byte) int {
	var at int
	tail := file[bytes.LastIndex(file, []byte("startxref"))+len("startxref"):]
	if _, err := fmt.Sscan(string(tail), &at); err != nil {
		panic(err)
	}
	return at
}

func deflate(b []byte) string {
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.String()
}

// up applies the PNG predictor "Up" to rows.
func up(rows []byte, columns int) []byte {
	var out []byte
	above := make([]byte, columns)
	for at := 0; at < len(rows); at += columns {
		out = append(out, 2)
		for i, c := range rows[at : at+columns] {
			out = append(out, c-above[i])
		}
		above = rows[at : at+columns]
	}
	return out
}

// streamed writes the file with an object stream (all that are no streams themselves) and a
// compressed cross-reference stream with predictor.
func (o objects) streamed() []byte {
	b := bytes.NewBufferString("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
	nums := o.numbers()
	box := nums[len(nums)-1] + 1
	rows := map[int][3]int{0: {0, 0, 65535}}
	var head, body strings.Builder
	index := 0
	for _, n := range nums {
		if strings.Contains(o[n], "endstream") {
			rows[n] = [3]int{1, b.Len(), 0}
			fmt.Fprintf(b, "%d 0 obj\n%s\nendobj\n", n, o[n])
			continue
		}
		fmt.Fprintf(&head, "%d %d ", n, body.Len())
		body.WriteString(o[n] + "\n")
		rows[n] = [3]int{2, box, index}
		index++
	}
	rows[box] = [3]int{1, b.Len(), 0}
	fmt.Fprintf(b, "%d 0 obj\n%s\nendobj\n", box, streamText(
		fmt.Sprintf("/Type/ObjStm/N %d/First %d/Filter/FlateDecode", index, head.Len()), deflate([]byte(head.String()+body.String()))))
	self := box + 1
	start := b.Len()
	rows[self] = [3]int{1, start, 0}
	var data []byte
	for n := 0; n <= self; n++ {
		r, ok := rows[n]
		if !ok {
			r = [3]int{0, 0, 0}
		}
		data = append(data, byte(r[0]), byte(r[1]>>16), byte(r[1]>>8), byte(r[1]), byte(r[2]>>8), byte(r[2]))
	}
	fmt.Fprintf(b, "%d 0 obj\n%s\nendobj\nstartxref\n%d\n%%%%EOF\n", self, streamText(
		fmt.Sprintf("/Type/XRef/Size %d/Root 1 0 R/W[1 3 2]/Filter/FlateDecode/DecodeParms<</Predictor 12/Columns 6>>", self+1),
		deflate(up(data, 6))), start)
	return b.Bytes()
}

// hybrid writes a table in which some objects are free, and a stream that knows them.
func (o objects) hybrid() []byte {
	b := bytes.NewBufferString("%PDF-1.5\n%\xe2\xe3\xcf\xd3\n")
	nums := o.numbers()
	box := nums[len(nums)-1] + 1
	hidden := map[int]bool{5: true}
	offsets := map[int]int{}
	for _, n := range nums {
		if !hidden[n] {
			offsets[n] = b.Len()
			fmt.Fprintf(b, "%d 0 obj\n%s\nendobj\n", n, o[n])
		}
	}
	boxAt := b.Len()
	fmt.Fprintf(b, "%d 0 obj\n%s\nendobj\n", box, streamText("/Type/ObjStm/N 1/First 4", "5 0 "+o[5]))
	stm := b.Len()
	fmt.Fprintf(b, "%d 0 obj\n%s\nendobj\n", box+1, streamText(fmt.Sprintf("/Type/XRef/Size %d/W[1 3 1]/Index[5 1]", box+2), string([]byte{2, 0, 0, byte(box), 0})))
	offsets[box], offsets[box+1] = boxAt, stm
	start := b.Len()
	fmt.Fprintf(b, "xref\n0 %d\n0000000000 65535 f \n", box+2)
	for n := 1; n <= box+1; n++ {
		if at, ok := offsets[n]; ok {
			fmt.Fprintf(b, "%010d 00000 n \n", at)
		} else {
			b.WriteString("0000000000 00000 f \n")
		}
	}
	fmt.Fprintf(b, "trailer\n<</Size %d/Root 1 0 R/XRefStm %d>>\nstartxref\n%d\n%%%%EOF\n", box+2, stm, start)
	return b.Bytes()
}

// forms are the ways in which one document can be written.
func forms(change ...func(objects)) map[string][]byte {
	return map[string][]byte{
		"table":  plain(change...).table(""),
		"stream": plain(change...).streamed(),
		"hybrid": plain(change...).hybrid(),
	}
}

func stamper(t testing.TB, pki *cmstest.PKI) cades.Stamp {
	p := pki.Issue(t, "TSA", cmstest.NewECDSA(t), cmstest.TimeStamping)
	serial := big.NewInt(0)
	a := tsp.Authority{
		Certificate: p.Cert, Chain: p.Chain[1:], Key: p.Key, Policy: asn1.ObjectIdentifier{2, 999, 1},
		Now:    func() time.Time { return cmstest.Now.Add(time.Second) },
		Serial: func() *big.Int { return serial.Add(serial, big.NewInt(1)) },
	}
	return func(ctx context.Context, digest []byte) ([]byte, error) {
		req := tsp.Request{Hash: crypto.SHA256, Digest: digest, CertReq: true}
		der, err := req.Marshal()
		if err != nil {
			return nil, err
		}
		answer, err := a.Respond(ctx, der)
		if err != nil {
			return nil, err
		}
		resp, err := tsp.ParseResponse(answer)
		if err != nil {
			return nil, err
		}
		return resp.Token, resp.Err()
	}
}

// bench of one signer.
type desk struct {
	t     testing.TB
	pki   *cmstest.PKI
	pair  cmstest.Pair
	stamp cades.Stamp
}

func newDesk(t testing.TB) *desk {
	pki := cmstest.New(t)
	return &desk{t, pki, pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t)), stamper(t, pki)}
}

func (k *desk) signer() cades.Signer { return cades.Signer{Chain: k.pair.Chain, Key: k.pair.Key} }

func (k *desk) sign(file []byte, o pades.Options) []byte {
	k.t.Helper()
	out, err := k.try(file, o)
	require.NoError(k.t, err)
	return out
}

func (k *desk) try(file []byte, o pades.Options) ([]byte, error) {
	if o.SigningTime.IsZero() {
		o.SigningTime = cmstest.Now
	}
	var out bytes.Buffer
	err := pades.Sign(context.Background(), &out, bytes.NewReader(file), int64(len(file)), k.signer(), o)
	return out.Bytes(), err
}

func (k *desk) options() pades.VerifyOptions {
	return pades.VerifyOptions{Roots: k.pki.Pool(), TSARoots: k.pki.Pool(), At: cmstest.Now.Add(time.Hour)}
}

func (k *desk) verify(file []byte) *pades.Report {
	k.t.Helper()
	r, err := pades.Verify(context.Background(), bytes.NewReader(file), int64(len(file)), k.options())
	require.NoError(k.t, err)
	return r
}
