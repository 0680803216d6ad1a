package sincro_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/sincro"
)

// whole and one read an index in the two ways, and give what is said of a unit.
func wholeAndOne(raw []byte, id string) (wholeIndex, oneIndex sincro.Index, whole, one []sincro.FileGroup, visits int, wholeErr, oneErr error) {
	pick := func(into *[]sincro.FileGroup) func(sincro.FileGroup) error {
		return func(g sincro.FileGroup) error {
			visits++
			if g.ID.Value == id {
				*into = append(*into, g)
			}
			return nil
		}
	}
	wholeIndex, wholeErr = sincro.Read(bytes.NewReader(raw), pick(&whole))
	visits = 0
	oneIndex, oneErr = sincro.ReadOne(raw, id, pick(&one))
	return wholeIndex, oneIndex, whole, one, visits, wholeErr, oneErr
}

func TestReadOneFindsWhatReadFinds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(rt, "groups")
		var out bytes.Buffer
		require.NoError(t, sincro.Write(&out, sample(), units(n)))
		id := fmt.Sprintf("u%06d", rapid.IntRange(0, n+1).Draw(rt, "wanted"))
		wi, oi, whole, one, visits, wholeErr, oneErr := wholeAndOne(out.Bytes(), id)
		require.NoError(t, wholeErr)
		require.NoError(t, oneErr)
		require.Equal(t, wi, oi)
		require.Equal(t, whole, one)
		if len(whole) > 0 {
			require.Equal(t, 1, visits, "the others are passed over")
		}
	})
}

// Where a < may begin something else than a tag, and where groups are not where Write puts them, the whole is read.
func TestReadOneOfAnotherForm(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, sincro.Write(&out, sample(), units(5)))
	index := out.String()
	hidden := "<!-- <sincro:FileGroup> u000003 </sincro:FileGroup> -->"
	first := strings.Index(index, "<sincro:FileGroup>")
	for name, changed := range map[string]string{
		"a group in a comment":    index[:first] + hidden + index[first:],
		"a comment behind":        index + hidden,
		"CDATA":                   strings.Replace(index, "FISC", "<![CDATA[FISC]]>", 1),
		"an instruction":          index[:first] + "<?x </sincro:FileGroup>?>" + index[first:],
		"another prefix":          strings.ReplaceAll(index, "sincro:", "s:"),
		"spaces between":          strings.ReplaceAll(index, "</sincro:FileGroup>", "</sincro:FileGroup>\n"),
		"an attribute of a group": strings.Replace(index, "<sincro:FileGroup>", "<sincro:FileGroup >", 1),
		"cut":                     index[:len(index)/2],
		"nothing":                 "",
	} {
		t.Run(name, func(t *testing.T) {
			wi, oi, whole, one, _, wholeErr, oneErr := wholeAndOne([]byte(changed), "u000003")
			require.Equal(t, wholeErr, oneErr)
			require.Equal(t, wi, oi)
			require.Equal(t, whole, one)
		})
	}
}
