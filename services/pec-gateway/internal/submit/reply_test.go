package submit

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

func TestReply(t *testing.T) {
	for in, want := range map[string]*Reply{
		"250 ok\r\n":                           {Code: 250, Lines: []string{"ok"}},
		"250\r\n":                              {Code: 250, Lines: []string{""}},
		"250 ok\n":                             {Code: 250, Lines: []string{"ok"}},
		"250-a\r\n250 b\r\n":                   {Code: 250, Lines: []string{"a", "b"}},
		"550 5.1.1 no\r\n":                     {Code: 550, Enhanced: "5.1.1", Lines: []string{"5.1.1 no"}},
		"250 5.1.1 other class\r\n":            {Code: 250, Lines: []string{"5.1.1 other class"}},
		"550 5.1 short\r\n":                    {Code: 550, Lines: []string{"5.1 short"}},
		"550 a\x1b[31mred\x07 \u202eb\xff\r\n": {Code: 550, Lines: []string{"a?[31mred? ?b?"}},
	} {
		got, err := newReplyReader(strings.NewReader(in)).read()
		require.NoError(t, err, "%q", in)
		require.Equal(t, want, got, "%q", in)
	}
	var bad *ReplyError
	for _, in := range []string{
		"hello\r\n", "25\r\n", "150 x\r\n", "650 x\r\n", "250x\r\n", "\r\n", "250-a\r\n251 b\r\n", "2\xd95 x\r\n",
		"250 " + strings.Repeat("x", maxReplyLine) + "\r\n", strings.Repeat("250-x\r\n", maxReplyLines+1) + "250 x\r\n",
	} {
		_, err := newReplyReader(strings.NewReader(in)).read()
		require.ErrorAs(t, err, &bad, "%.40q", in)
	}
	for in, want := range map[string]error{"": io.EOF, "25": io.ErrUnexpectedEOF, "250-a\r\n": io.ErrUnexpectedEOF, "250 ok": io.ErrUnexpectedEOF} {
		_, err := newReplyReader(strings.NewReader(in)).read()
		require.ErrorIs(t, err, want, "%q", in)
	}
}

// FuzzReply: whatever a server writes ends in a reply within the bounds, printable, or in an error.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"220 mx ESMTP\r\n", "250-mx\r\n250-SIZE 1\r\n250 AUTH PLAIN\r\n", "550 5.7.1 no\r\n", "250-a\r\n550 b\r\n", "421", "250 \xff\x00\r\n", "354\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		rr := newReplyReader(bytes.NewReader(in))
		for {
			r, err := rr.read()
			if err != nil {
				var bad *ReplyError
				if !errors.As(err, &bad) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("another error: %v", err)
				}
				return
			}
			if r.Code < 200 || r.Code > 599 || len(r.Lines) == 0 || len(r.Lines) > maxReplyLines || len(r.Text()) > 1010 {
				t.Fatalf("out of bounds: %d, %d lines", r.Code, len(r.Lines))
			}
			for _, c := range r.Text() {
				if unicode.IsControl(c) {
					t.Fatalf("%q is not printable", r.Text())
				}
			}
		}
	})
}

// FuzzContent: what CheckContent lets pass comes out of a strict reading of DATA as it was, but for
// the end of its last line; and no line of it is taken for the end. spec: RFC5321 §4.5.2
func FuzzContent(f *testing.F) {
	for _, s := range []string{"a\r\n", ".\r\n", "..\r\n.", "\r\n.\r\n", "a\r\n.b", "a\nb", "a\r\n.\rb"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if _, err := CheckContent(bytes.NewReader(in)); err != nil {
			return
		}
		var wire bytes.Buffer
		s := &stuffer{w: &wire}
		for i := range in { // byte by byte: no state may be lost between two writes
			_, _ = s.Write(in[i : i+1])
		}
		_ = s.finish()
		want := in
		if !bytes.HasSuffix(in, []byte("\r\n")) {
			want = append(bytes.Clone(in), '\r', '\n')
		}
		var got bytes.Buffer
		for _, line := range bytes.SplitAfter(wire.Bytes(), []byte("\r\n")) {
			if bytes.Equal(line, []byte(".\r\n")) {
				t.Fatal("the message ends in its middle")
			}
			got.Write(bytes.TrimPrefix(line, []byte(".")))
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("%q became %q", want, got.Bytes())
		}
	})
}
