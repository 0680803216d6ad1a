package imap

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// idling connects to a server that plays its part, by a virtual clock. Nobody hangs up there before what was said is read.
func idling(t *testing.T, server func(conn net.Conn, r *bufio.Reader)) *Client {
	t.Helper()
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		_, _ = io.WriteString(theirs, "* OK [CAPABILITY IMAP4rev1 IDLE] hi\r\n")
		server(theirs, bufio.NewReader(theirs))
	}()
	c, err := New(t.Context(), ours, time.Minute)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestB7HalfOpen: everything that is said is swallowed from the wait for announcements on, and nobody hangs up. That is found out
// when the wait and the time for the answer to its end are over, to the second. TESTPLAN B7.
func TestB7HalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var swallowed strings.Builder
		c := idling(t, func(conn net.Conn, r *bufio.Reader) {
			_, _ = r.ReadString('\n')
			_, _ = io.WriteString(conn, "+ idling\r\n")
			_, _ = io.Copy(&swallowed, r)
		})
		begin := time.Now()
		_, err := c.Idle(t.Context(), 45*time.Second, 15*time.Second)
		var silent net.Error
		require.ErrorAs(t, err, &silent)
		require.True(t, silent.Timeout())
		require.Equal(t, time.Minute, time.Since(begin))
		require.NoError(t, c.Close())
		synctest.Wait()
		require.Equal(t, "DONE\r\n", swallowed.String(), "nothing more is said to nobody")
	})
}

// TestB7IdleLimit: a server logs out who waits for half an hour (RFC 2177 §3). Waits that are renewed before that keep one
// connection for hours, and what is announced in one of them is heard at once. TESTPLAN B7.
func TestB7IdleLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := 0
		server := func(conn net.Conn, r *bufio.Reader) {
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				tag, _, _ := strings.Cut(line, " ")
				waits++
				_, _ = io.WriteString(conn, "+ idling\r\n")
				if waits == 5 {
					time.Sleep(7 * time.Minute)
					_, _ = io.WriteString(conn, "* 3 EXISTS\r\n")
				}
				_ = conn.SetReadDeadline(time.Now().Add(30 * time.Minute))
				if _, err = r.ReadString('\n'); err != nil {
					_, _ = io.WriteString(conn, "* BYE idle for too long\r\n")
					return
				}
				_ = conn.SetReadDeadline(time.Time{})
				_, _ = io.WriteString(conn, tag+" OK done\r\n")
			}
		}
		c := idling(t, server)
		begin := time.Now()
		for i := range 12 {
			news, err := c.Idle(t.Context(), 20*time.Minute, 15*time.Second)
			require.NoError(t, err)
			require.Equal(t, i == 4, news)
		}
		require.Equal(t, 11*20*time.Minute+7*time.Minute, time.Since(begin))
		_, err := c.Idle(t.Context(), 31*time.Minute, 15*time.Second)
		var bye *ServerError
		require.ErrorAs(t, err, &bye)
		require.Equal(t, "BYE", bye.Status)
	})
}

// TestReadOnly: by the rights that the server tells, with a name in quotes, as an atom or as a literal; unknown where it does not.
func TestReadOnly(t *testing.T) {
	for answer, want := range map[string]bool{
		"* MYRIGHTS INBOX lr\r\n": true, "* MYRIGHTS \"INBOX\" lrs\r\n": true, "* MYRIGHTS {5}\r\nINBOX lrsp\r\n": true, "* MYRIGHTS INBOX \"\"\r\n": true,
		"* MYRIGHTS INBOX lrswipkxtecda\r\n": false, "* MYRIGHTS \"INBOX\" lri\r\n": false, "* MYRIGHTS INBOX \"lrt\"\r\n": false,
	} {
		c := script(t, "* OK [CAPABILITY IMAP4rev1 ACL] hi\r\n", answer+"{tag} OK done\r\n")
		readOnly, known, err := c.ReadOnly()
		require.NoError(t, err, answer)
		require.True(t, known, answer)
		require.Equal(t, want, readOnly, answer)
	}
	for _, server := range [][2]string{
		{"* OK [CAPABILITY IMAP4rev1] hi\r\n", "nobody asks"}, {"* OK [CAPABILITY IMAP4rev1 ACL] hi\r\n", "{tag} NO not here\r\n"}, {"* OK [CAPABILITY IMAP4rev1 ACL] hi\r\n", "{tag} OK done\r\n"},
	} {
		_, known, err := script(t, server[0], server[1]).ReadOnly()
		require.NoError(t, err)
		require.False(t, known)
	}
}
