package imap

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// script answers each command line with what is written for it; {tag} is the command's.
func script(t *testing.T, greeting string, answers ...string) *Client {
	t.Helper()
	// Not net.Pipe: its deadlines fail when the other end has closed, before what it wrote was read.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		theirs, err := l.Accept()
		if err != nil {
			return
		}
		defer theirs.Close()
		_, _ = io.WriteString(theirs, greeting)
		r := bufio.NewReader(theirs)
		for _, a := range answers {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			tag, _, _ := strings.Cut(line, " ")
			_, _ = io.WriteString(theirs, strings.ReplaceAll(a, "{tag}", tag))
		}
	}()
	ours, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	c, err := New(t.Context(), ours, 5*time.Second)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestFetchStreamsWhateverTheOrder(t *testing.T) {
	c := script(t, "* OK [CAPABILITY IMAP4rev1 IDLE] hi\r\n",
		"* 1 FETCH (BODY[] {5}\r\nhello UID 7 FLAGS (\\Seen) RFC822.SIZE 5 INTERNALDATE \" 1-Feb-2026 10:00:00 +0100\")\r\n"+
			"* 2 FETCH (FLAGS (\\Seen))\r\n* 3 FETCH (UID 9 BODY[] NIL)\r\n* 4 FETCH (UID 10 BODY[] \"x\" X-ODD (A (B \"c\" {2}\r\nzz)))\r\n{tag} OK done\r\n")
	require.True(t, c.Has("idle"))
	var bodies []string
	var got []Message
	require.NoError(t, c.Fetch([]uint32{7, 8, 9, 12}, func(_ int64, r io.Reader) error {
		b, err := io.ReadAll(r)
		bodies = append(bodies, string(b))
		return err
	}, func(m Message) error {
		got = append(got, m)
		return nil
	}))
	require.Equal(t, []string{"hello", "x"}, bodies)
	require.Len(t, got, 2)
	require.EqualValues(t, 7, got[0].UID)
	require.Equal(t, "2026-02-01T09:00:00Z", got[0].Date.Format(time.RFC3339))
	require.EqualValues(t, 10, got[1].UID)
	require.Equal(t, "7:9,12", set([]uint32{7, 8, 9, 12}))
}

func TestAnswersAndRefusals(t *testing.T) {
	c := script(t, "* OK hi\r\n", "{tag} NO [AUTHENTICATIONFAILED] wrong\r\n", "* BYE too many\r\n")
	err := c.Login("u", "secret")
	var e *ServerError
	require.ErrorAs(t, err, &e)
	require.Equal(t, "AUTHENTICATIONFAILED", e.Code)
	require.True(t, Refused(err))
	require.NotContains(t, err.Error(), "secret")
	err = c.Noop()
	require.ErrorAs(t, err, &e)
	require.Equal(t, "BYE", e.Status)

	c = script(t, "* OK hi\r\n", "* 1 FETCH (UID 1 BODY[] {100}\r\nshort")
	err = c.Fetch([]uint32{1}, func(_ int64, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}, func(Message) error { return errors.New("half a message was taken for a whole") })
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestFolders(t *testing.T) {
	c := script(t, "* OK hi\r\n", "* LIST (\\HasNoChildren \\Sent) \"/\" \"Posta inviata\"\r\n* LIST (\\Noselect) \"/\" x\r\n* LIST () NIL {9}\r\nE&AOg-ok!\r\n* LIST () \"/\" inbox\r\n{tag} OK done\r\n")
	list, err := c.List()
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.True(t, list[0].Is(`\sent`))
	require.Equal(t, "Eèok!", list[1].Shown)
	require.Equal(t, "INBOX", list[2].Name)
}

// FuzzResponses: whatever a server writes, reading ends and nothing is kept without bound.
func FuzzResponses(f *testing.F) {
	for _, seed := range []string{
		"* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\na1 OK x\r\n", "* 1 FETCH (((((\r\n", "a1 NO [X", "* LIST () \"/\" {99999999999}\r\n", "+ \r\n",
		"* SEARCH 1 2 3 4294967295\r\na1 OK\r\n", "* STATUS x (MESSAGES 1 UIDNEXT {2}\r\n12)\r\na1 OK\r\n", "* OK [UIDVALIDITY 5] x\r\na1 OK\r\n",
		"* QUOTA \"\" (STORAGE 10 100)\r\na1 OK\r\n", "* BYE\r\n", "\r\n", "* 3 EXISTS\r\na1 BAD\r\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		calls := []func(c *Client) error{
			func(c *Client) error { _, err := c.List(); return err },
			func(c *Client) error { _, err := c.Status("x"); return err },
			func(c *Client) error { _, err := c.Examine("x"); return err },
			func(c *Client) error { _, err := c.Search(1); return err },
			func(c *Client) error {
				c.caps = map[string]bool{"QUOTA": true}
				_, _, _, err := c.Quota()
				return err
			},
			func(c *Client) error {
				c.caps = map[string]bool{"ACL": true}
				_, _, err := c.ReadOnly()
				return err
			},
			func(c *Client) error {
				return c.Fetch([]uint32{1}, func(_ int64, r io.Reader) error {
					_, err := io.CopyN(io.Discard, r, 10)
					if errors.Is(err, io.EOF) {
						return nil
					}
					return err
				}, func(Message) error { return nil })
			},
		}
		for _, call := range calls {
			c := &Client{conn: &timedConn{Conn: silent{}}, r: bufio.NewReader(strings.NewReader(text)), stopped: func() bool { return true }}
			_ = call(c)
		}
	})
}

// silent takes what is written and is never read: the client's reader has the text.
type silent struct{ net.Conn }

func (silent) Write(p []byte) (int, error)      { return len(p), nil }
func (silent) SetWriteDeadline(time.Time) error { return nil }
func (silent) Close() error                     { return nil }
