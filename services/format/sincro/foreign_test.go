package sincro_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/sincro"
)

const idc = `<?xml version="1.0"?><IdC xmlns="http://www.uni.com/U3011/sincro/" xmlns:s="http://www.uni.com/U3011/sincro/"><SelfDescription><ID>i</ID><CreatingApplication><Name>N</Name><Version>1</Version><Producer>P</Producer></CreatingApplication></SelfDescription><VdC><ID>v</ID></VdC><FileGroup><Label>L</Label><File s:encoding="binary" s:format="text/plain"><ID>1</ID><Path>a/b.txt</Path><Hash s:function="SHA-256">00</Hash></File></FileGroup><Process><Agent><AgentName><NameAndSurname><FirstName>Ada</FirstName><LastName>Neri</LastName></NameAndSurname></AgentName></Agent><TimeReference><TimeInfo>2011-05-04T10:00:00+02:00</TimeInfo></TimeReference></Process></IdC>`

// TestReadForeign reads both editions, and says what breaks the schema.
func TestReadForeign(t *testing.T) {
	f, err := sincro.ReadForeign([]byte(idc))
	require.NoError(t, err)
	require.Equal(t, []string{sincro.Edition2010, "i", "v", "N 1", "P", "Ada Neri"}, []string{f.Edition, f.ID, f.Volume, f.Program, f.Producer, f.Holder})
	require.Equal(t, []sincro.ForeignFile{{ID: "1", Path: "a/b.txt", Format: "text/plain", Function: "SHA-256", Value: "00"}}, f.Groups[0].Files)
	require.Equal(t, 2011, f.Time.Year())
	require.Empty(t, f.Deviation)
	f, err = sincro.ReadForeign(bytes.Replace([]byte(idc), []byte("</IdC>"), []byte(`<Signature xmlns="x"/></IdC>`), 1))
	require.NoError(t, err)
	require.Len(t, f.Deviation, 1)

	var doc bytes.Buffer
	require.NoError(t, sincro.Write(&doc, sample(), units(2)))
	f, err = sincro.ReadForeign(doc.Bytes())
	require.NoError(t, err)
	require.Equal(t, sincro.Edition2020, f.Edition)
	require.Len(t, f.Groups, 2)
	require.NotEmpty(t, f.Holder)
	for _, bad := range []string{"", "<a/>", "<IdC/>", "<IdC", `<!DOCTYPE x [<!ENTITY a "b">]><IdC>&a;</IdC>`} {
		_, err = sincro.ReadForeign([]byte(bad))
		require.Error(t, err, bad)
	}
}

// FuzzReadForeign: no index makes the reader fall, and what it accepts names a file.
func FuzzReadForeign(f *testing.F) {
	var doc bytes.Buffer
	require.NoError(f, sincro.Write(&doc, sample(), units(2)))
	f.Add(doc.Bytes())
	f.Add([]byte(idc))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := sincro.ReadForeign(raw)
		if err != nil {
			return
		}
		files := 0
		for _, g := range got.Groups {
			files += len(g.Files)
		}
		require.Positive(t, files)
	})
}
