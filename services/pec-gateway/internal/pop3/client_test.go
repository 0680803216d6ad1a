package pop3

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type silent struct{ net.Conn }

func (silent) Write(p []byte) (int, error)      { return len(p), nil }
func (silent) SetWriteDeadline(time.Time) error { return nil }
func (silent) Close() error                     { return nil }

func reading(text string) *Client {
	return &Client{conn: &timedConn{Conn: silent{}}, r: bufio.NewReader(strings.NewReader(text)), stopped: func() bool { return true }}
}

func TestRetrieveTakesDotsOff(t *testing.T) {
	c := reading("+OK\r\na\r\n..b\r\n...\r\n" + strings.Repeat("x", 100_000) + "\r\n.\r\n+OK bye\r\n")
	var got string
	require.NoError(t, c.Retrieve(1, func(r io.Reader) error {
		b, err := io.ReadAll(r)
		got = string(b)
		return err
	}))
	require.Equal(t, "a\r\n.b\r\n..\r\n"+strings.Repeat("x", 100_000)+"\r\n", got)
	require.NoError(t, c.Quit())
	require.ErrorIs(t, reading("+OK\r\nhalf").Retrieve(1, func(r io.Reader) error {
		_, err := io.ReadAll(r)
		return err
	}), io.ErrUnexpectedEOF)
}

func TestListWithoutUniqueIDs(t *testing.T) {
	list, err := reading("+OK\r\n1 10\r\n2 20\r\n.\r\n-ERR no UIDL\r\n").List()
	require.NoError(t, err)
	require.Equal(t, []Entry{{Number: 1, Size: 10}, {Number: 2, Size: 20}}, list)
	list, err = reading("+OK\r\n1 10\r\n.\r\n+OK\r\n1 abc\r\n.\r\n").List()
	require.NoError(t, err)
	require.Equal(t, "abc", list[0].UID)
	err = reading("-ERR bad\r\n").Login("u", "secret")
	require.ErrorContains(t, err, "bad")
	require.NotContains(t, err.Error(), "secret")
}

func FuzzResponses(f *testing.F) {
	for _, seed := range []string{"+OK\r\n1 10\r\n.\r\n+OK\r\n1 u\r\n.\r\n", "-ERR x\r\n", "+OK\r\n.\r\n", "+OK\r\n..a\r\n.\r\n", "+OK"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = reading(text).List()
		_ = reading(text).Retrieve(1, func(r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
	})
}
