package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPageOfCheck: the page says what the report says, and nothing in it is markup.
func TestPageOfCheck(t *testing.T) {
	t.Parallel()
	page, err := pageOfCheck([]byte(`{"report":"01","kind":"COMPLETENESS","asked_by":"timer","program":"Ceralacca 3","verdict":"PROBLEMS","checked":7,"bytes":12,
		"what":"invoices","problems":[{"what":"tenants/acme/units/1","problem":"<script>alert(1)</script> & more"}],"notes":["two \"days\""]}`))
	require.NoError(t, err)
	for _, want := range []string{"<h1>Check of the archive: COMPLETENESS, PROBLEMS</h1>", "<td>all</td>", "<td>7, 12 bytes</td>", "tenants/acme/units/1",
		"&lt;script&gt;alert(1)&lt;/script&gt; &amp; more", "<li>two &#34;days&#34;</li>", "<h2>Problems: 1</h2>"} {
		require.Contains(t, string(page), want)
	}
	require.NotContains(t, string(page), "<script>")
	_, err = pageOfCheck(nil)
	require.ErrorContains(t, err, "the report cannot be read")
}
