package main

import (
	"mime"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAttachmentsSayWhatTheyAre: a signed PDF that goes out as application/octet-stream is opened by no mail program.
func TestAttachmentsSayWhatTheyAre(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"atto.pdf": "application/pdf", "ATTO.PDF": "application/pdf", "dir.xml/atto.pdf.p7m": "application/pkcs7-mime", "fattura.xml": "application/xml",
		"note.txt": "", "atto": "", "dir.pdf/atto": "", "atto.qqq": "", ".": "",
	} {
		got := mediaTypeOf(file)
		require.Equal(t, want, got, file)
		if got != "" {
			_, _, err := mime.ParseMediaType(got)
			require.NoError(t, err, file)
		}
	}
}
