package main

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
)

// TestExpression reads what people type for a search.
func TestExpression(t *testing.T) {
	c := &cli{tenant: "acme"}
	q, err := c.expression(strings.Split("surname=rossi|name=mario|from=2026-01-01|or|buyer.vat=01234567897|type=TD04", "|"))
	require.NoError(t, err)
	want := &conservationv1.SearchQuery{AnyOf: []*conservationv1.SearchAlternative{
		{AllOf: []*conservationv1.SearchCondition{
			{Field: conservationv1.SearchField_SEARCH_FIELD_NAME, Value: "rossi mario"}, // of one person
			{Field: conservationv1.SearchField_SEARCH_FIELD_DATE, From: "2026-01-01"},
		}},
		{AllOf: []*conservationv1.SearchCondition{
			{Field: conservationv1.SearchField_SEARCH_FIELD_VAT_NUMBER, Side: conservationv1.PartySide_PARTY_SIDE_BUYER, Value: "01234567897"},
			{Field: conservationv1.SearchField_SEARCH_FIELD_DOCUMENT_TYPE, Value: "TD04"},
		}},
	}}
	require.True(t, proto.Equal(want, q), "%v", q)
	q, err = c.expression(nil)
	require.NoError(t, err)
	require.Nil(t, q)
	for want, given := range map[string]string{"no condition": "colour=red", "such as": "rossi", "an alternative": "or|name=x", "is no": "nobody.name=x"} {
		_, err = c.expression(strings.Split(given, "|"))
		require.ErrorContains(t, err, want)
	}
}

// TestVerifyOfDistribution: what looks like a PdD is judged as one, and a broken one is named so.
func TestVerifyOfDistribution(t *testing.T) {
	var raw bytes.Buffer
	w := zip.NewWriter(&raw)
	for name, content := range map[string]string{"PdD-1/PdD.xml": "<PIndex/>", "PdD-1/documenti/a.xml": "<a/>"} {
		f, err := w.Create(name)
		require.NoError(t, err)
		_, err = f.Write([]byte(content))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	file := filepath.Join(t.TempDir(), "PdD.zip")
	require.NoError(t, os.WriteFile(file, raw.Bytes(), 0o600))
	got := command(t, "", "conserve", "verify", file)
	require.Equal(t, 1, got.code, got.out+got.errOut)
	require.Contains(t, got.out, "PDD_FILE_MISSING PdD.xml.p7m")
	require.Contains(t, got.out, "not good")
}
