package pec_test

import (
	"bytes"
	"io"
	"slices"
	"strings"
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

func code(t *testing.T, err error) int {
	t.Helper()
	var e *gosmtp.SMTPError
	require.ErrorAs(t, err, &e)
	return e.Code
}

func (n *net) submissions() []client.PECSubmission {
	n.t.Helper()
	log, err := n.c.PECSubmissions(n.t.Context(), "")
	require.NoError(n.t, err)
	return log
}

// TestSubmissionDoor: who may send, over both ports.
func TestSubmissionDoor(t *testing.T) {
	n := start(t)
	c := n.dial()
	require.Equal(t, 530, code(t, c.Mail(sender, nil)), "before login")
	require.Equal(t, 535, code(t, c.Auth(sasl.NewPlainClient("", sender, "wrong"))))
	require.NoError(t, c.Auth(sasl.NewLoginClient(sender, pec.DefaultPassword)))
	require.Equal(t, 553, code(t, c.Mail("destinatario@alfa.test", nil)), "another's mailbox")
	require.NoError(t, c.Mail(sender, nil))
	require.Equal(t, 550, code(t, c.Rcpt("permerror@beta.test", nil)))
	require.Equal(t, 451, code(t, c.Rcpt("temperror+1@beta.test", nil)))

	start, err := gosmtp.DialStartTLS(n.e.SubmissionAddr, n.tls)
	require.NoError(t, err)
	defer start.Close()
	size, ok := start.MaxMessageSize()
	require.True(t, ok)
	require.Equal(t, 64<<20, size)
	require.NoError(t, start.Auth(sasl.NewPlainClient("", sender, pec.DefaultPassword)))
	require.NoError(t, start.SendMail(sender, []string{recipient}, bytes.NewReader(compose(t, n.draft(recipient)))))
	require.Len(t, n.submissions(), 1)

	plain, err := gosmtp.Dial(n.e.SubmissionAddr)
	require.NoError(t, err)
	defer plain.Close()
	require.Error(t, plain.Auth(sasl.NewPlainClient("", sender, pec.DefaultPassword)), "no password without TLS")

	for _, state := range []string{"suspended", "disabled"} {
		_, err = n.c.SetPECMailbox(t.Context(), client.PECMailbox{Address: sender, State: state})
		require.NoError(t, err)
		err = n.submitErr()
		require.Equal(t, map[string]int{"suspended": 550, "disabled": 535}[state], code(t, err))
	}
}

// submitErr tries a submission and gives what the server said.
func (n *net) submitErr() error {
	c := n.dial()
	if err := c.Auth(sasl.NewPlainClient("", sender, pec.DefaultPassword)); err != nil {
		return err
	}
	return c.SendMail(sender, []string{recipient}, bytes.NewReader(compose(n.t, n.draft(recipient))))
}

// TestA11Rate: the seventh message of a minute is refused by a 550 that is not permanent.
func TestA11Rate(t *testing.T) {
	n := start(t)
	_, err := n.c.SetPECProvider(t.Context(), client.PECProvider{ID: "alfa", PerMinute: 6})
	require.NoError(t, err)
	for range 6 {
		require.NoError(t, n.submitErr())
	}
	err = n.submitErr()
	require.Equal(t, 550, code(t, err))
	require.Contains(t, err.Error(), `MAIL from: "mittente@alfa.test" blocked "Class Of Service" - Too much traffic from this sender`)
	n.advance(time.Minute)
	require.NoError(t, n.submitErr())
	require.Len(t, n.submissions(), 7)
}

// TestA12LoginsLock: so many refused logins within an hour, at whichever door, lock a mailbox: the right password does not open it
// any more. Spread over more time they do not.
func TestA12LoginsLock(t *testing.T) {
	n := start(t)
	login := func(password string) error {
		c := n.dial()
		return c.Auth(sasl.NewPlainClient("", sender, password))
	}
	read := func(password string) error {
		c, err := imapclient.DialTLS(n.e.IMAPSAddr, &imapclient.Options{TLSConfig: n.tls})
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c.Login(sender, password).Wait()
	}
	_, err := n.c.SetPECMailbox(t.Context(), client.PECMailbox{Address: sender, LockAfter: 3})
	require.NoError(t, err)
	require.Equal(t, 535, code(t, login("sbagliata")))
	require.Error(t, read("sbagliata"))
	n.advance(time.Hour)
	require.Equal(t, 535, code(t, login("sbagliata")))
	require.NoError(t, login(pec.DefaultPassword), "the first two are an hour ago")
	require.Error(t, read("sbagliata"))
	require.Error(t, read("sbagliata"))
	require.Equal(t, 535, code(t, login(pec.DefaultPassword)), "locked")
	require.Error(t, read(pec.DefaultPassword))
	box, err := n.c.SetPECMailbox(t.Context(), client.PECMailbox{Address: sender})
	require.NoError(t, err)
	require.Equal(t, "locked", box.State)
	var doors []string
	for _, r := range box.RefusedLogins {
		doors = append(doors, r.Door)
	}
	require.Equal(t, []string{"smtp", "imap", "smtp", "imap", "imap", "smtp", "imap"}, doors)
	_, err = n.c.SetPECMailbox(t.Context(), client.PECMailbox{Address: sender, State: "active"})
	require.NoError(t, err)
	require.NoError(t, login(pec.DefaultPassword))
}

// TestA3A4A8A9A10A12SubmissionFaults: cut with the message taken and not taken, deferred, refused.
func TestA3A4A8A9A10A12SubmissionFaults(t *testing.T) {
	n := start(t)
	for i, c := range []struct {
		kind  string
		code  int // 0: the connection ends without an answer
		taken int
	}{
		{client.FaultPECCutBefore, 0, 0}, {client.FaultPECCutAfter, 0, 1}, {client.FaultPECDefer, 451, 0},
		{client.FaultPECReject, 550, 0}, {client.FaultPECThrottle, 550, 0}, {client.FaultPECAuth, 535, 0},
	} {
		before := len(n.submissions())
		_, err := n.c.AddFault(t.Context(), client.Fault{Kind: c.kind})
		require.NoError(t, err)
		err = n.submitErr()
		require.Error(t, err, c.kind)
		var e *gosmtp.SMTPError
		if c.code == 0 {
			require.NotErrorAs(t, err, &e, "%d %s", i, c.kind)
		} else {
			require.Equal(t, c.code, code(t, err), c.kind)
		}
		require.Len(t, n.submissions(), before+c.taken, c.kind)
		require.NoError(t, n.submitErr(), "once only: %s", c.kind)
	}
	for local, taken := range map[string]int{"taglia": 0, "taglia-accetta": 1} {
		before := len(n.submissions())
		require.Error(t, n.submit(sender, []string{at(local)}, compose(t, n.draft(at(local)))))
		require.Len(t, n.submissions(), before+taken, local)
	}
}

// TestReceiptFaults: what was ordered for a receipt happens to that receipt.
func TestReceiptFaults(t *testing.T) {
	n := start(t)
	for kind, want := range map[string][]string{
		client.FaultPECDuplicate: {acc, cons, cons}, client.FaultPECDrop: {acc}, client.FaultPECLate: {acc},
		client.FaultPECUnsigned: {acc, cons}, client.FaultPECBadSignature: {acc, cons}, client.FaultPECWrongSigner: {acc, cons},
	} {
		_, err := n.c.AddFault(t.Context(), client.Fault{Kind: kind, Name: sender, Type: cons, Transmitter: "beta", After: map[string]string{client.FaultPECLate: "90m"}[kind]})
		require.NoError(t, err)
		d := n.draft(recipient)
		n.send(d)
		n.settle()
		require.ElementsMatch(t, want, n.types(sender, d.MessageID), kind)
		if kind == client.FaultPECLate {
			n.advance(89 * time.Minute)
			require.ElementsMatch(t, []string{acc}, n.types(sender, d.MessageID))
			n.advance(2 * time.Minute)
			require.ElementsMatch(t, []string{acc, cons}, n.types(sender, d.MessageID))
		}
	}
	_, err := n.c.AddFault(t.Context(), client.Fault{Kind: client.FaultPECBrokenMIME, Type: acc})
	require.NoError(t, err)
	n.send(n.draft(recipient))
	n.settle()
	list := n.about(sender, "")
	broken := slices.ContainsFunc(list, func(m client.PECMessage) bool {
		_, rep := n.verify(m)
		return m.Tipo == acc && rep.Status == rfc.StatusUnparsable
	})
	require.True(t, broken, "one acceptance cannot be read")
	_, err = n.c.AddFault(t.Context(), client.Fault{Kind: client.FaultPECLate, After: "soon"})
	require.ErrorContains(t, err, "must be a positive Go duration")
}

// TestHopQueue: while the other provider is away messages wait; a day later they are given up.
func TestHopQueue(t *testing.T) {
	n := start(t)
	_, err := n.c.SetPECProvider(t.Context(), client.PECProvider{ID: "beta", MX: "down"})
	require.NoError(t, err)
	short, long := n.draft(recipient), n.draft(recipient)
	n.send(long)
	n.advance(13 * time.Hour)
	n.send(short)
	n.advance(12 * time.Hour) // long is past its day
	_, err = n.c.SetPECProvider(t.Context(), client.PECProvider{ID: "beta", MX: "up"})
	require.NoError(t, err)
	n.advance(24 * time.Hour)
	require.Equal(t, []string{acc, pre, pre}, n.types(sender, long.MessageID))
	got := n.types(sender, short.MessageID)
	slices.Sort(got)
	require.Contains(t, got, cons, "it waited in the queue: %v", got)
	require.Equal(t, []string{env}, n.types(recipient, ""))
}

// TestOrdinaryMail: in as an anomaly or not at all, out through the sink, back as a report.
func TestOrdinaryMail(t *testing.T) {
	n := start(t)
	mail := func(to, text string) error {
		c, err := gosmtp.DialStartTLS(n.e.MXAddr, n.tls)
		require.NoError(t, err)
		defer c.Close()
		return c.SendMail("someone@example.test", []string{to}, strings.NewReader(text))
	}
	plain := "From: someone@example.test\r\nTo: " + sender + "\r\nSubject: hello\r\nMessage-ID: <o1@example.test>\r\n\r\nhi\r\n"
	require.NoError(t, mail(sender, plain))
	require.Equal(t, 550, code(t, mail("nessuno@alfa.test", plain)), "unknown mailbox")
	require.Equal(t, 550, code(t, mail("x@example.test", plain)), "no relaying")

	// a receipt that somebody made up, without and with the signature of nobody
	d := n.draft(recipient)
	n.send(d)
	n.settle()
	var genuine client.PECMessage
	for _, m := range n.about(sender, d.MessageID) {
		if m.Tipo == cons {
			genuine = m
		}
	}
	raw, _ := n.read(genuine)
	altered := bytes.Replace(raw, []byte("Content-Type: application/xml"), []byte("content-Type: application/xml"), 1)
	require.NotEqual(t, raw, altered)
	require.NoError(t, mail(sender, string(altered)))
	n.settle()
	require.Equal(t, 2, count(n.types(sender, ""), anom))
	n.proven(sender)

	_, err := n.c.SetPECMailbox(t.Context(), client.PECMailbox{Address: sender, Ordinary: "reject"})
	require.NoError(t, err)
	require.Equal(t, 550, code(t, mail(sender, plain)))
	_, err = n.c.SetPECMailbox(t.Context(), client.PECMailbox{Address: sender, Ordinary: "accept"})
	require.NoError(t, err)

	out := n.draft("qualcuno@example.test", "permerror@example.test")
	n.send(out)
	n.settle()
	sink, err := n.c.Mail(t.Context(), "qualcuno@example.test")
	require.NoError(t, err)
	require.Len(t, sink, 1)
	require.Contains(t, sink[0].Subject, "POSTA CERTIFICATA: ")
	require.Equal(t, []string{acc}, n.types(sender, out.MessageID))
	require.Equal(t, 3, count(n.types(sender, ""), anom), "the delivery report")
	last := n.about(sender, "")
	r, _ := n.verify(last[len(last)-1])
	inner, err := r.OriginalMessage()
	require.NoError(t, err)
	require.Equal(t, "multipart/report", inner.MediaType)
}

func count(list []string, v string) int {
	n := 0
	for _, s := range list {
		if s == v {
			n++
		}
	}
	return n
}

// TestFullMailbox: at once, or after the time that the provider tries.
func TestFullMailbox(t *testing.T) {
	n := start(t)
	for full, hours := range map[string]int{"error": 0, "retry24h": 24, "retry48h": 48} {
		box := strings.ReplaceAll(full, "h", "") + "@beta.test"
		_, err := n.c.SetPECProvider(t.Context(), client.PECProvider{ID: "beta", Full: full})
		require.NoError(t, err)
		_, err = n.c.SetPECMailbox(t.Context(), client.PECMailbox{Address: box, Quota: 10})
		require.NoError(t, err)
		d := n.draft(box)
		n.send(d)
		n.settle()
		if hours > 0 {
			n.advance(time.Duration(hours)*time.Hour - time.Minute)
			require.NotContains(t, n.types(sender, d.MessageID), errc)
			n.advance(2 * time.Minute)
		}
		require.Contains(t, n.types(sender, d.MessageID), errc, full)
		d = n.draft(box)
		n.send(d)
		n.settle()
		_, err = n.c.SetPECMailbox(t.Context(), client.PECMailbox{Address: box, Quota: 1 << 20})
		require.NoError(t, err)
		n.advance(2 * time.Hour)
		require.Equal(t, hours > 0, slices.Contains(n.types(sender, d.MessageID), cons), full)
	}
}

// TestForgeAndInject: what the control API puts into mailboxes.
func TestForgeAndInject(t *testing.T) {
	n := start(t)
	for how, want := range map[string]rfc.Status{
		"unsigned": rfc.StatusUnsigned, "wrong_signer": rfc.StatusUntrusted, "bad_signature": rfc.StatusInvalidDigest, "valid": rfc.StatusValid,
		"expired_signer": rfc.StatusUntrusted, "early_signer": rfc.StatusUntrusted, "wrong_zone": rfc.StatusValid, "doctype": rfc.StatusValid,
		"no_zone": rfc.StatusValid, "other_tipo": rfc.StatusValid, "other_recipient": rfc.StatusValid,
	} {
		id := how + "@alfa.test"
		require.NoError(t, n.c.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: cons, MsgID: id, Recipient: recipient, How: how}))
		list := n.about(sender, id)
		require.Len(t, list, 1)
		_, rep := n.verify(list[0])
		require.Equal(t, want, rep.Status, rep.Reason)
	}
	raw := []byte("\x00\xff no mail at all \n.\n")
	require.NoError(t, n.c.InjectPEC(t.Context(), sender, client.PECInject{Data: raw, Folder: "Sent", Flags: []string{`\Seen`}, Times: 3}))
	list := n.about(sender, "")
	last := list[len(list)-1]
	require.Equal(t, "Sent", last.Folder)
	require.Equal(t, []string{`\Seen`}, last.Flags)
	require.Equal(t, uint32(3), last.UID)
	back, err := n.c.PECRaw(t.Context(), last.ID)
	require.NoError(t, err)
	require.Equal(t, raw, back)
	for _, err := range []error{
		n.c.InjectPEC(t.Context(), "nobody@alfa.test", client.PECInject{Data: raw}),
		n.c.InjectPEC(t.Context(), sender, client.PECInject{Data: raw, Folder: "None"}),
		n.c.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: "ordinaria", How: "valid"}),
		n.c.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: acc, How: "well"}),
	} {
		require.Error(t, err)
	}
	_, err = n.c.SetPECMailbox(t.Context(), client.PECMailbox{Address: "x@example.test"})
	require.ErrorContains(t, err, "no provider manages its domain")
	require.NoError(t, n.c.Reset(t.Context()))
	require.Empty(t, n.about(sender, ""))
}

func (n *net) imap(box string) *imapclient.Client {
	n.t.Helper()
	c, err := imapclient.DialTLS(n.e.IMAPSAddr, &imapclient.Options{TLSConfig: n.tls})
	require.NoError(n.t, err)
	n.t.Cleanup(func() { _ = c.Close() })
	require.NoError(n.t, c.Login(box, pec.DefaultPassword).Wait())
	return c
}

// TestIMAP: folders, UIDs, flags, bytes, expunge, search, a change of UIDVALIDITY.
func TestIMAP(t *testing.T) {
	n := start(t)
	d := n.draft(recipient)
	n.send(d)
	n.settle()
	c := n.imap(sender)
	folders, err := c.List("", "*", nil).Collect()
	require.NoError(t, err)
	require.Len(t, folders, 4)
	sel, err := c.Select("inbox", nil).Wait()
	require.NoError(t, err)
	require.Equal(t, uint32(2), sel.NumMessages)
	require.Equal(t, imap.UID(3), sel.UIDNext)

	whole := &imap.FetchItemBodySection{Peek: true}
	items := &imap.FetchOptions{UID: true, Flags: true, InternalDate: true, RFC822Size: true, BodySection: []*imap.FetchItemBodySection{whole}}
	msgs, err := c.Fetch(imap.UIDSet{{Start: 1, Stop: 0}}, items).Collect()
	require.NoError(t, err)
	require.Len(t, msgs, 2)
	for i, m := range n.about(sender, "") {
		raw, _ := n.read(m)
		require.True(t, bytes.Equal(raw, msgs[i].FindBodySection(whole)), "bytes over IMAP are the bytes stored")
		require.Equal(t, int64(len(raw)), msgs[i].RFC822Size)
		require.Equal(t, m.UID, uint32(msgs[i].UID))
		require.Empty(t, msgs[i].Flags, "PEEK leaves no mark")
		require.True(t, m.At.Equal(msgs[i].InternalDate))
	}
	part := &imap.FetchItemBodySection{Peek: true, Partial: &imap.SectionPartial{Offset: 10, Size: 20}}
	msgs, err = c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{part}}).Collect()
	require.NoError(t, err)
	raw, _ := n.read(n.about(sender, "")[0])
	require.Equal(t, string(raw[10:30]), string(msgs[0].FindBodySection(part)))

	found, err := c.UIDSearch(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "X-Ricevuta", Value: cons}}}, nil).Wait()
	require.NoError(t, err)
	require.Len(t, found.AllUIDs(), 1)
	gone := found.AllUIDs()[0]
	require.NoError(t, c.Store(imap.UIDSetNum(gone), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close())
	require.NoError(t, c.UIDExpunge(imap.UIDSetNum(gone)).Close())
	st, err := c.Status("INBOX", &imap.StatusOptions{NumMessages: true, UIDNext: true, UIDValidity: true}).Wait()
	require.NoError(t, err)
	require.Equal(t, uint32(1), *st.NumMessages)
	require.Equal(t, imap.UID(3), st.UIDNext, "numbers are not used again")

	moved, err := c.Move(imap.SeqSetNum(1), "Trash").Wait()
	require.NoError(t, err)
	require.NotEmpty(t, moved.DestUIDs)
	require.NoError(t, n.c.ChangePECUIDValidity(t.Context(), sender))
	require.Error(t, c.Noop().Wait(), "the session is cut")
	again, err := n.imap(sender).Select("Trash", nil).Wait()
	require.NoError(t, err)
	require.Greater(t, again.UIDValidity, st.UIDValidity)
	require.Equal(t, uint32(1), again.NumMessages)
}

// TestIMAPIdle: a waiting client hears of a receipt by itself.
func TestIMAPIdle(t *testing.T) {
	n := start(t)
	heard := make(chan uint32, 10)
	c, err := imapclient.DialTLS(n.e.IMAPSAddr, &imapclient.Options{TLSConfig: n.tls, UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(d *imapclient.UnilateralDataMailbox) {
			if d.NumMessages != nil {
				heard <- *d.NumMessages
			}
		},
	}})
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.Login(sender, pec.DefaultPassword).Wait())
	_, err = c.Select("INBOX", nil).Wait()
	require.NoError(t, err)
	idle, err := c.Idle()
	require.NoError(t, err)
	n.send(n.draft(recipient))
	for want := range uint32(2) {
		select {
		case got := <-heard:
			require.Equal(t, want+1, got)
		case <-time.After(20 * time.Second):
			t.Fatal("nothing was heard")
		}
	}
	require.NoError(t, idle.Close())
}

// TestIMAPFaults: slow answers, and a connection that ends in the middle of a message.
func TestIMAPFaults(t *testing.T) {
	n := start(t)
	require.NoError(t, n.c.InjectPEC(t.Context(), sender, client.PECInject{Data: bytes.Repeat([]byte("A: b\r\n"), 20_000)}))
	c := n.imap(sender)
	_, err := n.c.AddFault(t.Context(), client.Fault{Kind: client.FaultPECIMAPSlow, DelayMS: 300, Name: sender})
	require.NoError(t, err)
	began := time.Now()
	_, err = c.Select("INBOX", nil).Wait()
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
	_, err = n.c.AddFault(t.Context(), client.Fault{Kind: client.FaultPECIMAPCut, Name: sender})
	require.NoError(t, err)
	// without the library's client, whose reader and caller race when a literal breaks off
	raw := n.secure(n.e.IMAPSAddr)
	_, err = io.WriteString(raw, "a LOGIN "+sender+" "+pec.DefaultPassword+"\r\nb SELECT INBOX\r\nc FETCH 1 BODY.PEEK[]\r\n")
	require.NoError(t, err)
	got, _ := io.ReadAll(raw) // it ends without the farewell of TLS
	require.Contains(t, string(got), "BODY[] {120000}")
	require.NotContains(t, string(got), "c OK")
	require.Less(t, len(got), 120_000)
	whole := &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}}
	c = n.imap(sender)
	_, err = c.Select("INBOX", nil).Wait()
	require.NoError(t, err)
	msgs, err := c.Fetch(imap.SeqSetNum(1), whole).Collect()
	require.NoError(t, err)
	require.Len(t, msgs, 1)
}

// TestIMAPAppendAndQuota: a client may put anything in; a mailbox says how much room it has (RFC 2087), a full one that it is, and can be
// tidied.
func TestIMAPAppendAndQuota(t *testing.T) {
	n := start(t)
	_, err := n.c.SetPECMailbox(t.Context(), client.PECMailbox{Address: sender, Quota: 1000})
	require.NoError(t, err)
	c := n.imap(sender)
	add := func(size int) error {
		w := c.Append("INBOX", int64(size), nil)
		_, err := io.Copy(w, strings.NewReader(strings.Repeat("x", size)))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		_, err = w.Wait()
		return err
	}
	require.NoError(t, add(900))
	require.ErrorContains(t, add(200), "full")
	room, err := c.GetQuotaRoot("INBOX").Wait()
	require.NoError(t, err)
	require.Len(t, room, 1)
	require.Equal(t, imapclient.QuotaResourceData{Usage: 1, Limit: 1}, room[0].Resources[imap.QuotaResourceStorage], "in KiB")
	_, err = n.c.SetPECMailbox(t.Context(), client.PECMailbox{Address: sender, Quota: 100 << 10})
	require.NoError(t, err)
	own, err := c.GetQuota("").Wait()
	require.NoError(t, err)
	require.Equal(t, imapclient.QuotaResourceData{Usage: 1, Limit: 100}, own.Resources[imap.QuotaResourceStorage])
	require.NoError(t, add(70<<10))
	for range 3 { // in between other commands, and behind a literal that looks like one
		text := "x1 GETQUOTAROOT INBOX\r\n"
		w := c.Append("Drafts", int64(len(text)), nil)
		_, err = io.Copy(w, strings.NewReader(text))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		_, err = w.Wait()
		require.NoError(t, err)
		room, err = c.GetQuotaRoot("INBOX").Wait()
		require.NoError(t, err)
		require.EqualValues(t, 71, room[0].Resources[imap.QuotaResourceStorage].Usage)
	}
	require.True(t, c.Caps().Has(imap.CapQuota))
	_, err = c.Select("INBOX", nil).Wait()
	require.NoError(t, err)
	_, err = c.Move(imap.SeqSetNum(1), "Trash").Wait()
	require.NoError(t, err)
	boxes, err := n.c.PECMailboxes(t.Context())
	require.NoError(t, err)
	i := slices.IndexFunc(boxes, func(b client.PECMailbox) bool { return b.Address == sender })
	require.Equal(t, int64(900+70<<10+3*23), boxes[i].Used)
	require.Equal(t, 5, boxes[i].Messages)
	require.NoError(t, c.Create("Archivio/2026", nil).Wait())
	require.Error(t, c.Delete("INBOX").Wait())
	require.Error(t, c.Create(strings.Repeat("x", 300), nil).Wait())
	_, err = c.Select("None", nil).Wait()
	require.Error(t, err)
}
