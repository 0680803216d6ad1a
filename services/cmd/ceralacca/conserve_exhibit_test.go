package main

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
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

// TestAskedText: what an inspector asked for stands in the log on one line, as a person would ask for it, however it was written down.
func TestAskedText(t *testing.T) {
	c := &cli{tenant: "acme"}
	for _, typed := range []string{"surname=rossi|from=2026-01-01|or|buyer.vat=01234567897|type=TD04", "date=2026-02-03|class=FISC", "from=2026-01-01|to=2026-01-31|seller.company=De Rossi & C.", "unit=1"} {
		q, err := c.expression(strings.Split(typed, "|"))
		require.NoError(t, err)
		want := strings.NewReplacer("surname", "name", "company=De Rossi & C.", `name="De Rossi & C."`, "unit=1", "unit=tenants/acme/units/1", "from=2026-01-01|to=2026-01-31", "from=2026-01-01|to=2026-01-31").Replace(typed)
		for _, detail := range []string{protojson.Format(q), protojson.Format(&conservationv1.CreateInspectionDistributionRequest{Query: q})} {
			require.Equal(t, strings.ReplaceAll(want, "|", " "), askedText(detail))
		}
	}
	require.Equal(t, "unit=tenants/acme/units/1", askedText(protojson.Format(&conservationv1.CreateInspectionDistributionRequest{Units: []string{"tenants/acme/units/1"}})))
	require.Empty(t, askedText("{}"))
	require.Empty(t, askedText(""))
	require.Equal(t, "UNIT_NOT_FOUND", askedText("UNIT_NOT_FOUND"))
	require.Equal(t, "a b.xml", askedText("a\n b.xml"), "one line")
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
