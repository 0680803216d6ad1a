package pec

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAnswersNameWhatTheyAnswer: a message can be answered whatever its sender's program calls it; what would be no identifier in the
// field, or another field, is refused.
func TestAnswersNameWhatTheyAnswer(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a@b.test", "x@[10.0.0.1]", "urn:uuid:1;2(3)", `"quoted"@b.test`, "no-domain", "two@at@b.test", strings.Repeat("x", 400) + "@b.test"} {
		d := draft()
		d.InReplyTo = id
		raw := composed(t, d)
		m, err := ParseBytes(raw)
		require.NoError(t, err)
		require.Equal(t, id, m.Root.Header.MessageID("In-Reply-To"))
		require.Equal(t, id, m.Root.Header.MessageID("References"))
		for _, line := range strings.Split(string(raw), "\r\n") {
			require.LessOrEqual(t, len(line), 998)
		}
	}
	for _, id := range []string{"a b@c.test", "a\r\nBcc: b@c.test", "a>b@c.test", "<a@b.test", "perché@b.test", "a\x00@b.test", strings.Repeat("x", 1000)} {
		d := draft()
		d.InReplyTo = id
		require.Contains(t, d.Check().Error(), "in_reply_to: ", "%q", id)
	}
}
