package pec_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	stdnet "net"
	"strings"
	"sync"
	"testing"
	"time"

	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/pec"
	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
)

// works: after everything that was done to it, the sandbox still carries a message.
func (n *net) works() {
	n.t.Helper()
	d := n.draft(recipient)
	n.send(d)
	n.settle()
	require.ElementsMatch(n.t, []string{acc, cons}, n.types(sender, d.MessageID))
}

func (n *net) secure(addr string) *tls.Conn {
	n.t.Helper()
	c, err := tls.Dial("tcp", addr, n.tls)
	require.NoError(n.t, err)
	n.t.Cleanup(func() { _ = c.Close() })
	require.NoError(n.t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return c
}

// TestGarbage: noise on every port, in clear and inside TLS, and connections that say nothing.
func TestGarbage(t *testing.T) {
	n := start(t)
	noise := make([]byte, 64<<10)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for _, addr := range []string{n.e.SMTPSAddr, n.e.SubmissionAddr, n.e.IMAPSAddr, n.e.POP3SAddr, n.e.MXAddr} {
		for _, data := range [][]byte{noise, bytes.Repeat([]byte("A"), 1<<20), bytes.Repeat([]byte("\r\n"), 10_000), {0}} {
			c, err := stdnet.Dial("tcp", addr)
			require.NoError(t, err)
			_, _ = c.Write(data) // the server may close at any time
			_ = c.Close()
		}
		silent, err := stdnet.Dial("tcp", addr)
		require.NoError(t, err)
		defer silent.Close()
	}
	for _, addr := range []string{n.e.SMTPSAddr, n.e.IMAPSAddr, n.e.POP3SAddr} {
		for _, data := range [][]byte{noise, bytes.Repeat([]byte("A"), 1<<20), bytes.Repeat([]byte("\r\n"), 10_000)} {
			c := n.secure(addr)
			_, _ = c.Write(data)
			_ = c.Close()
		}
	}
	n.works()
}

// TestHostileCommands: lines that are legal as bytes and not meant well. The server answers or
// cuts, and lives.
func TestHostileCommands(t *testing.T) {
	n := start(t)
	require.NoError(t, n.c.InjectPEC(t.Context(), sender, client.PECInject{Data: []byte("\xff\x00broken"), Times: 3}))
	login := "a LOGIN " + sender + " " + pec.DefaultPassword + "\r\n"
	open := login + "b SELECT INBOX\r\n"
	for name, c := range map[string]struct{ addr, text string }{
		"imap literal of 99 GB":        {n.e.IMAPSAddr, "a LOGIN {99999999999}\r\nx\r\n"},
		"imap negative literal":        {n.e.IMAPSAddr, "a LOGIN {-1}\r\nx\r\n"},
		"imap fetch before select":     {n.e.IMAPSAddr, login + "b FETCH 1 BODY[]\r\n"},
		"imap idle before select":      {n.e.IMAPSAddr, login + "b IDLE\r\nDONE\r\n"},
		"imap unselected expunge":      {n.e.IMAPSAddr, login + "b EXPUNGE\r\n"},
		"imap numbers out of range":    {n.e.IMAPSAddr, open + "c FETCH 0:4294967295 (BODY.PEEK[]<4294967295.4294967295>)\r\nd UID FETCH 4294967295:* FLAGS\r\n"},
		"imap deep search":             {n.e.IMAPSAddr, open + "c SEARCH " + strings.Repeat("NOT ", 2000) + "ALL\r\n"},
		"imap deep or":                 {n.e.IMAPSAddr, open + "c SEARCH " + strings.Repeat("OR ALL ", 2000) + "ALL\r\n"},
		"imap broken structure":        {n.e.IMAPSAddr, open + "c FETCH 1:* (ENVELOPE BODYSTRUCTURE BODY[1.2.3.MIME] BODY[HEADER.FIELDS (TO)])\r\n"},
		"imap odd flags":               {n.e.IMAPSAddr, open + "c STORE 1:* +FLAGS (\\Deleted $x \\Odd)\r\nd EXPUNGE\r\ne FETCH 1:* FLAGS\r\n"},
		"imap double select and close": {n.e.IMAPSAddr, open + "c SELECT INBOX\r\nd CLOSE\r\ne CLOSE\r\nf UNSELECT\r\n"},
		"imap delete while selected":   {n.e.IMAPSAddr, login + "b CREATE X\r\nc SELECT X\r\nd DELETE X\r\ne FETCH 1:* FLAGS\r\nf NOOP\r\n"},
		"imap append too large":        {n.e.IMAPSAddr, login + "b APPEND INBOX {99999999}\r\n"},
		"pop3 endless line":            {n.e.POP3SAddr, strings.Repeat("U", 100_000)},
		"pop3 numbers":                 {n.e.POP3SAddr, "USER " + sender + "\r\nPASS sandbox\r\nRETR 0\r\nRETR -1\r\nRETR 99999999999999999999\r\nTOP 1\r\nTOP 1 -1\r\nDELE 1\r\nDELE 1\r\nLIST 1\r\nXYZ\r\n\r\nQUIT\r\n"},
		"pop3 no login":                {n.e.POP3SAddr, "RETR 1\r\nDELE 1\r\nQUIT\r\n"},
		"smtp endless line":            {n.e.SMTPSAddr, "EHLO " + strings.Repeat("x", 200_000) + "\r\n"},
		"smtp odd auth":                {n.e.SMTPSAddr, "EHLO x\r\nAUTH LOGIN\r\n*\r\nAUTH PLAIN !!!\r\nAUTH LOGIN =\r\n\r\nAUTH XYZ\r\n"},
		"smtp odd paths":               {n.e.SMTPSAddr, "EHLO x\r\nMAIL FROM:<\x00>\r\nRCPT TO:<a@b\r\nDATA\r\nMAIL FROM:<> SIZE=99999999999\r\n"},
	} {
		conn := n.secure(c.addr)
		_, _ = io.WriteString(conn, c.text) // the server may cut at any time
		_ = conn.CloseWrite()
		_, err := io.Copy(io.Discard, conn) // until the server is done with it
		var late stdnet.Error
		if err != nil {
			require.False(t, errors.As(err, &late) && late.Timeout(), "%s: the server hangs", name)
		}
	}
	n.works()
}

// TestOddMessages: what arrives at reception is delivered as an anomaly or refused, never lost in
// silence and never believed.
func TestOddMessages(t *testing.T) {
	n := start(t)
	d := n.draft(recipient)
	n.send(d)
	n.settle()
	raw, _ := n.read(n.about(recipient, d.MessageID)[0])
	genuine := raw[bytes.Index(raw, []byte("X-Trasporto")):] // without the trace of its arrival
	for name, text := range map[string]string{
		"empty": "", "one byte": "x", "no end of header": "From: a@b.test", "bare line feeds": "From: a@b.test\n\nhello\n",
		"zero bytes": "From: a@b.test\r\n\r\n\x00\x00\r\n", "cut envelope": string(genuine[:len(genuine)/2]),
		"envelope in an envelope": "Subject: fwd\r\n" + string(genuine), "two headers": "X-Ricevuta: avvenuta-consegna\r\n" + string(genuine),
		"deep": "Content-Type: multipart/mixed; boundary=a\r\n\r\n" + strings.Repeat("--a\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n", 3000),
		"long": "Subject: " + strings.Repeat("x", 9000) + "\r\n\r\n",
	} {
		before := len(n.about(recipient, ""))
		c, err := gosmtp.DialStartTLS(n.e.MXAddr, n.tls)
		require.NoError(t, err)
		err = c.SendMail("x@example.test", []string{recipient}, strings.NewReader(text))
		_ = c.Close()
		n.settle()
		list := n.about(recipient, "")
		if err != nil {
			require.GreaterOrEqual(t, code(t, err), 500, name)
			require.Len(t, list, before, name)
			continue
		}
		require.Len(t, list, before+1, name)
		if name != "envelope in an envelope" { // a field more in the header breaks no signature: it is the envelope still
			require.Equal(t, anom, list[before].Tipo, name)
		}
		_, rep := n.verify(list[before])
		require.Equal(t, rfc.StatusValid, rep.Status, "%s: %s", name, rep.Reason)
	}
	n.works()
}

// TestManyAtOnce: users send and read, clients change and delete, UIDVALIDITY moves, the clock
// runs; every message is accepted once and delivered once.
func TestManyAtOnce(t *testing.T) {
	n := start(t)
	const users, each = 6, 5
	var drafts [users][]*rfc.Draft
	for u := range users {
		box := fmt.Sprintf("u%d@alfa.test", u)
		_, err := n.c.SetPECMailbox(t.Context(), client.PECMailbox{Address: box})
		require.NoError(t, err)
		for range each {
			d := n.draft(fmt.Sprintf("u%d@alfa.test", (u+1)%users), recipient)
			d.From.Addr = box
			drafts[u] = append(drafts[u], d)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var readers, writers sync.WaitGroup
	for u := range users {
		box := fmt.Sprintf("u%d@alfa.test", u)
		readers.Go(func() { disturb(ctx, n, box) })
		writers.Go(func() {
			for _, d := range drafts[u] {
				if err := quietSend(n, d); err != nil {
					t.Errorf("%s: %v", box, err)
				}
			}
		})
	}
	readers.Go(func() {
		for ctx.Err() == nil {
			_ = n.c.ChangePECUIDValidity(ctx, "u0@alfa.test") // ends with ctx
			_, _ = n.c.Advance(ctx, time.Second)
			time.Sleep(20 * time.Millisecond)
		}
	})
	writers.Wait()
	stop()
	readers.Wait()
	n.settle()
	require.Len(t, n.submissions(), users*each)
	require.Len(t, n.types(recipient, ""), users*each)
	for u := range users {
		for _, d := range drafts[u] {
			require.ElementsMatch(t, []string{acc, cons, cons}, n.types(d.From.Addr, d.MessageID))
		}
	}
}

func quietSend(n *net, d *rfc.Draft) error {
	var b bytes.Buffer
	if _, err := rfc.Compose(&b, d); err != nil {
		return err
	}
	c, err := gosmtp.DialTLS(n.e.SMTPSAddr, n.tls)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", d.From.Addr, pec.DefaultPassword)); err != nil {
		return err
	}
	return c.SendMail(d.From.Addr, d.Recipients(), &b)
}

// disturb reads, flags and copies until ctx ends; its errors are those of cut sessions.
func disturb(ctx context.Context, n *net, box string) {
	for ctx.Err() == nil {
		c, err := imapclient.DialTLS(n.e.IMAPSAddr, &imapclient.Options{TLSConfig: n.tls})
		if err != nil {
			return
		}
		if c.Login(box, pec.DefaultPassword).Wait() == nil {
			for range 5 {
				if _, err := c.Select("INBOX", nil).Wait(); err != nil {
					break
				}
				all := imap.SeqSet{{Start: 1, Stop: 0}}
				_, _ = c.Fetch(all, &imap.FetchOptions{Flags: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
				_ = c.Store(all, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}}, nil).Close()
				_, _ = c.Copy(imap.SeqSetNum(1), "Drafts").Wait()
				if idle, err := c.Idle(); err == nil {
					_ = idle.Close()
					_ = idle.Wait()
				}
				if _, err := c.Select("Drafts", nil).Wait(); err != nil {
					break
				}
				_ = c.Store(all, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close()
				_ = c.Expunge().Close()
			}
		}
		_ = c.Close()
	}
}

// TestCloseWhileBusy: the end does not wait for clients, nor for the clock.
func TestCloseWhileBusy(t *testing.T) {
	n := start(t)
	c := n.secure(n.e.IMAPSAddr)
	greeting, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, greeting, "* OK")
	for range 5 {
		n.send(n.draft(at("muta")))
	}
	n.srv.Close()
	_, err = io.Copy(io.Discard, c)
	_ = err // however it ends, it ends
	_, err = stdnet.Dial("tcp", n.e.SMTPSAddr)
	require.Error(t, err)
}
