package ers_test

import (
	"crypto"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/ers"
)

// vectors are records of other makers (esig/dss, BSI, Bouncy Castle). They are their makers' and not in this repository; where they
// are not beside the checkout these tests are skipped, and records of our own builder and of openssl are all that was judged.
var vectors = filepath.Join("..", "..", "..", "..", "shared", "reference", "conservation", "samples", "ers")

func sha256Of(t testing.TB, hexadecimal string) ers.Object {
	t.Helper()
	d, err := hex.DecodeString(hexadecimal)
	require.NoError(t, err)
	return ers.Digests(map[crypto.Hash][]byte{crypto.SHA256: d})
}

// need skips a test that has nothing to judge without the vectors.
func need(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(vectors); err != nil {
		t.Skip("the records of other makers are not beside this checkout (../shared/reference/conservation/samples/ers): own records alone are judged")
	}
}

func TestVectors(t *testing.T) {
	need(t)
	text := func(s ...string) (out []ers.Object) {
		for _, one := range s {
			out = append(out, ers.Bytes([]byte(one)))
		}
		return out
	}
	bin := text("some binary content")
	pair := text("content of data object DO-01", "content of data object DO-02")
	two := []ers.Object{
		sha256Of(t, "9ce2d7d350f9418407439f0ca11dcc12ab9f7cdb15f9ecc5eca935482602b872"),
		sha256Of(t, "eecc4d3352c0e965fd88795edfd1a60c5ac09b3c1100c052ebb6ae0bd3432b26"),
	}
	for _, c := range []struct {
		file    string
		objects []ers.Object
		stamps  []int // in each chain
		since   string
		faults  []ers.Fault
	}{
		{file: "1_0_Initial.er", objects: text("123456"), stamps: []int{1}, since: "2023-05-09T08:59:45Z"},
		{file: "1_1_Renew_Unsorted.er", objects: text("123456"), stamps: []int{1, 1}, since: "2023-05-09T08:52:58Z"},
		{file: "1_2_Renew_Unsorted.er", objects: text("123456"), stamps: []int{1, 1, 1}, since: "2023-05-09T08:52:58Z"},
		{file: "1_3_Renew_Unsorted.er", objects: text("123456"), stamps: []int{1, 1, 1, 1}, since: "2023-05-09T08:52:58Z"},
		{file: "1_3_Renew_Unsorted.er", objects: text("123457"), faults: []ers.Fault{ers.FaultData, ers.FaultData, ers.FaultData, ers.FaultData}},
		{file: "1_3_Renew_Unsorted.er", objects: text("123456", "123456"), faults: []ers.Fault{ers.FaultData, ers.FaultData, ers.FaultData, ers.FaultData}},
		{file: "BIN-1_ER.ers", objects: bin, stamps: []int{1}, since: "2017-02-10T14:07:52.5Z"},
		{file: "BIN-2_ER.ers", objects: bin, stamps: []int{2}, since: "2017-02-10T14:07:52.5Z"},
		{file: "BIN-3_ER.ers", objects: bin, stamps: []int{2, 1}, since: "2017-02-10T14:07:52.5Z"},
		{file: "BIN-4_ER.ers", objects: bin, stamps: []int{2, 1}, since: "2017-02-10T14:07:52.5Z"},
		{file: "BIN-1_ER.ers", objects: text("some binary content two"), faults: []ers.Fault{ers.FaultData}},
		{file: "ER-2Chains3ATS.ers", objects: pair, stamps: []int{2, 1}, since: "2017-02-10T14:07:52.5Z"},
		{file: "ER-2Chains3ATS.ers", objects: pair[:1], stamps: []int{2, 1}, since: "2017-02-10T14:07:52.5Z"},
		{file: "ER-2Chains3ATS.ers", objects: append(pair[:2:2], bin...), faults: []ers.Fault{ers.FaultData, ers.FaultData}},
		{file: "er-asn1-simple.ers", objects: text("1"), stamps: []int{1}, since: "2022-08-15T11:40:10Z"},
		{file: "er-asn1-simple.ers", objects: text("0"), faults: []ers.Fault{ers.FaultData}},
		{file: "er-asn1-tst-renewal.ers", objects: two, stamps: []int{2}, since: "2017-03-08T16:48:10Z"},
		{file: "er-asn1-tst-renewal-invalid.ers", objects: two, faults: []ers.Fault{ers.FaultLink}},
		{file: "er-asn1-simple-invalid.ers", objects: two, faults: []ers.Fault{ers.FaultData}},
		{file: "er-asn1-simple-invalid.ers", objects: []ers.Object{
			sha256Of(t, "9ce3d7d350f9418407439f0ca11dcc12ab9f7cdb15f9ecc5eca935482602b872"),
			sha256Of(t, "eecd4d3352c0e965fd88795edfd1a60c5ac09b3c1100c052ebb6ae0bd3432b26"),
		}, faults: []ers.Fault{ers.FaultRoot}},
		{file: "er-asn1-chain-renewal-invalid.ers", objects: text("\t"), faults: []ers.Fault{ers.FaultToken, ers.FaultData}},
		{file: "bsi_gov_vte-lza_002.ers", objects: text("the record is about another file"), faults: []ers.Fault{ers.FaultData}},
	} {
		t.Run(c.file, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join(vectors, c.file))
			require.NoError(t, err)
			r, err := ers.Parse(raw)
			require.NoError(t, err)
			rep, err := r.Verify(c.objects, ers.VerifyOptions{})
			var faults []ers.Fault
			for _, f := range rep.Faults {
				faults = append(faults, f.Fault)
			}
			require.Equal(t, c.faults, faults, err)
			if c.faults != nil {
				require.ErrorIs(t, err, rep.Faults[0])
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.since, rep.Since.Format(time.RFC3339Nano))
			var stamps []int
			for _, chain := range r.Chains {
				stamps = append(stamps, len(chain.Stamps))
			}
			require.Equal(t, c.stamps, stamps)
		})
	}
	// Of BSI's record the data are not known here; its first hash leads to its token all the same.
	raw, err := os.ReadFile(filepath.Join(vectors, "bsi_gov_vte-lza_002.ers"))
	require.NoError(t, err)
	r, err := ers.Parse(raw)
	require.NoError(t, err)
	rep, err := r.Verify([]ers.Object{sha256Of(t, hex.EncodeToString(r.Chains[0].Stamps[0].Tree[0][0]))}, ers.VerifyOptions{})
	require.NoError(t, err)
	require.Equal(t, "2020-02-21T10:15:00Z", rep.Since.Format(time.RFC3339))

	raw, err = os.ReadFile(filepath.Join(vectors, "BIN-1_ER_malformed.ers"))
	require.NoError(t, err)
	_, err = ers.Parse(raw)
	var syntax *ers.SyntaxError
	require.True(t, errors.As(err, &syntax), err)
}

// Records of RFC 6283 are told apart; one of them is too broken to look like XML.
func TestXMLRecordsAreToldApart(t *testing.T) {
	for _, text := range []string{"<EvidenceRecord/>", "\xef\xbb\xbf<?xml version='1.0'?>", "\n <a>"} {
		_, err := ers.Parse([]byte(text))
		require.ErrorContains(t, err, "RFC 6283")
	}
	found, err := filepath.Glob(filepath.Join(vectors, "*.xml"))
	require.NoError(t, err)
	t.Logf("%d XML records of other makers at hand", len(found))
	for _, name := range found {
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		_, err = ers.Parse(raw)
		var syntax *ers.SyntaxError
		require.ErrorAs(t, err, &syntax)
		if filepath.Base(name) != "xml_er-malformed.xml" {
			require.ErrorContains(t, err, "RFC 6283", name)
		}
	}
}

// Every record at hand is in the table above: a new one is not to be passed over.
func TestEveryVectorIsInTheTable(t *testing.T) {
	need(t)
	table, err := os.ReadFile("vectors_test.go")
	require.NoError(t, err)
	for _, pattern := range []string{"*.er", "*.ers"} {
		found, err := filepath.Glob(filepath.Join(vectors, pattern))
		require.NoError(t, err)
		for _, name := range found {
			require.Contains(t, string(table), `"`+filepath.Base(name)+`"`)
		}
	}
}

// What esig/dss computes for the renewals of one of its records.
func TestRenewalDigestsOfOthers(t *testing.T) {
	need(t)
	raw, err := os.ReadFile(filepath.Join(vectors, "er-asn1-simple.ers"))
	require.NoError(t, err)
	r, err := ers.Parse(raw)
	require.NoError(t, err)
	one := ers.Bytes([]byte("1"))
	for _, c := range []struct {
		hash    crypto.Hash
		subject ers.Subject
		root    string
	}{
		{crypto.SHA512, ers.Restamp(r), "7c8cb955697fab1c876d260ac2760150bc8727c0f28f221a6bb5624b575a49a65f9e32d20a42a80a1c33c46e85bfc1460b34c538eb91930572c73c2e272983c7"},
		{crypto.SHA256, ers.Rehash(r, one), "ec365cd838e074ced4122687870a848cde0b01bc150ac91b411ee93c6d31cbda"},
		{crypto.SHA512, ers.Rehash(r, one), "2897511e559419e0ec02d6f03cfe3ad18598cd1a9483c17e87375805336fe5a4d50f9470e7ceb087948f4d4fe7bc730e62f03aee5e728562600e344470755f34"},
	} {
		b, err := ers.NewBatch(c.hash, []ers.Subject{c.subject})
		require.NoError(t, err)
		require.Equal(t, c.root, hex.EncodeToString(b.Root()))
	}
}
