package imap

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHeld: the server may tell of deletions first; what nobody asked for does not count.
func TestHeld(t *testing.T) {
	c := script(t, "* OK hi\r\n", "* 2 EXPUNGE\r\n{tag} OK\r\n", "* SEARCH 5 9 7\r\n* SEARCH 5\r\n{tag} OK\r\n")
	held, err := c.Held([]uint32{5, 6, 7})
	require.NoError(t, err)
	require.Equal(t, []uint32{5, 7}, held)
	c = script(t, "* OK hi\r\n", "{tag} OK\r\n", "* SEARCH\r\n{tag} OK\r\n")
	held, err = c.Held([]uint32{5})
	require.NoError(t, err)
	require.Empty(t, held)
}

// TestOddFolders: a list of folders that is none is refused, and ends.
func TestOddFolders(t *testing.T) {
	for name, said := range map[string]string{
		"a string among the attributes":  `* LIST (\Noselect "x") "/" a`,
		"a literal among the attributes": `* LIST ({1}` + "\r\nx" + `) "/" a`,
		"a list in the list":             `* LIST ((\Noselect)) "/" a`,
		"attributes without end":         `* LIST (` + strings.Repeat(`\a `, 101) + `) "/" a`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := script(t, "* OK hi\r\n", said+"\r\n{tag} OK\r\n").List()
			require.ErrorIs(t, err, ErrProtocol)
		})
	}
}

// TestOddBodies: bytes of a message come as they are in whatever way they are written; what is no message is none.
func TestOddBodies(t *testing.T) {
	for name, c := range map[string]struct {
		said string
		want []string
		err  error
	}{
		"NUL and bare ends":      {"* 1 FETCH (UID 1 BODY[] {8}\r\na\x00b\nc\rd\n)\r\n{tag} OK\r\n", []string{"a\x00b\nc\rd\n"}, nil},
		"looks like an answer":   {"* 1 FETCH (UID 1 BODY[] {12}\r\n)\r\na1 OK x\r\n)\r\n{tag} OK\r\n", []string{")\r\na1 OK x\r\n"}, nil},
		"empty":                  {"* 1 FETCH (UID 1 BODY[] {0}\r\n)\r\n{tag} OK\r\n", []string{""}, nil},
		"empty, quoted":          {"* 1 FETCH (UID 1 BODY[] \"\")\r\n{tag} OK\r\n", []string{""}, nil},
		"a literal of the kind+": {"* 1 FETCH (UID 1 BODY[] {2+}\r\nab)\r\n{tag} OK\r\n", []string{"ab"}, nil},
		"NIL":                    {"* 1 FETCH (UID 1 BODY[] NIL)\r\n{tag} OK\r\n", nil, nil},
		"no number":              {"* 1 FETCH (UID 1 BODY[] {x}\r\nab)\r\n{tag} OK\r\n", nil, ErrProtocol},
		"a number below zero":    {"* 1 FETCH (UID 1 BODY[] {-2}\r\nab)\r\n{tag} OK\r\n", nil, ErrProtocol},
		"text behind the size":   {"* 1 FETCH (UID 1 BODY[] {2} \r\nab)\r\n{tag} OK\r\n", nil, ErrProtocol},
		"cut":                    {"* 1 FETCH (UID 1 BODY[] {20}\r\nab", nil, io.ErrUnexpectedEOF},
		"LF alone":               {"* 1 FETCH (UID 1 BODY[] {2}\nab)\n{tag} OK\n", []string{"ab"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			client := script(t, "* OK hi\r\n", c.said)
			var body string
			var got []string
			err := client.Fetch([]uint32{1}, func(_ int64, r io.Reader) error {
				b, err := io.ReadAll(r)
				body = string(b)
				return err
			}, func(Message) error {
				got = append(got, body)
				return nil
			})
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}
