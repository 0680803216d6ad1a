package pec_test

import (
	"bytes"
	"fmt"
	stdnet "net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/pec"
	gosmtp "github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
)

// tool finds a program that we did not write: those of devenv.Peers.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	require.NoError(t, err, "run make prepare, which installs it")
	return path
}

// caFile is the authority in a file, for programs that want one.
func (n *net) caFile() string {
	n.t.Helper()
	path := filepath.Join(n.t.TempDir(), "ca.pem")
	require.NoError(n.t, os.WriteFile(path, n.ca, 0o600))
	return path
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, p, err := stdnet.SplitHostPort(addr)
	require.NoError(t, err)
	return p
}

// run executes a program and gives its output; it has to succeed.
func run(t *testing.T, stdin []byte, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin, cmd.Env = bytes.NewReader(stdin), append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %v:\n%s", name, args, out)
	return string(out)
}

// TestC7OpenSSLVerifies: every kind of message in every profile, against the provider's authority,
// with the mail signing purpose; a spoiled one fails.
func TestC7OpenSSLVerifies(t *testing.T) {
	openssl := tool(t, "openssl")
	n := start(t)
	for _, p := range rfc.Profiles() {
		for _, id := range []string{"alfa", "beta"} {
			_, err := n.c.SetPECProvider(t.Context(), client.PECProvider{ID: id, Profile: p.Name})
			require.NoError(t, err)
		}
		for _, to := range []string{recipient, at("inesistente"), at("non-accettata"), at("virus"), at("muta"), at("alterata")} {
			n.send(n.draft(to))
		}
		n.advance(26 * time.Hour)
	}
	list, err := n.c.PECProviders(t.Context())
	require.NoError(t, err)
	dir := t.TempDir()
	var roots []byte
	for _, p := range list {
		roots = append(roots, p.CAPEM...)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "roots.pem"), roots, 0o600))
	good, bad := 0, 0
	kinds := map[string]bool{}
	c, err := gosmtp.DialStartTLS(n.e.MXAddr, n.tls)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SendMail("x@example.test", []string{recipient}, strings.NewReader("From: x@example.test\r\nSubject: hi\r\n\r\n.\r\n")))
	service := n.about("ricevute@pec.alfa.test", "")
	require.NotEmpty(t, service)
	for _, m := range slices.Concat(n.about(sender, ""), n.about(recipient, ""), service) {
		raw, _ := n.read(m)
		file := filepath.Join(dir, "m.eml")
		require.NoError(t, os.WriteFile(file, raw, 0o600))
		when := fmt.Sprint(m.At.Unix())
		cmd := exec.CommandContext(t.Context(), openssl, "cms", "-verify", "-inform", "SMIME", "-in", file, "-CAfile", filepath.Join(dir, "roots.pem"),
			"-purpose", "smimesign", "-attime", when, "-out", filepath.Join(dir, "out"))
		out, err := cmd.CombinedOutput()
		if m.Consegna == at("alterata") && m.Tipo == cons {
			require.Error(t, err, "openssl took an altered message")
			bad++
			continue
		}
		require.NoError(t, err, "%s %s\n%s", m.Tipo, m.Subject, out)
		good++
		kinds[m.Tipo] = true
	}
	require.Equal(t, 5, bad)
	require.Len(t, kinds, 9)
	t.Logf("openssl verified %d messages of %d kinds and refused %d", good, len(kinds), bad)

	// the index of providers
	index, err := n.c.PECIndex(t.Context())
	require.NoError(t, err)
	file := filepath.Join(dir, "index.p7m")
	require.NoError(t, os.WriteFile(file, index, 0o600))
	ldif := run(t, nil, nil, openssl, "cms", "-verify", "-inform", "DER", "-in", file, "-CAfile", n.caFile(), "-purpose", "smimesign")
	entries, err := rfc.ParseIndice([]byte(ldif[strings.Index(ldif, "version: 1"):]))
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Equal(t, []string{"beta.test", "pec.fatturapa.it"}, entries[1].Domains)
}

// TestSwaks sends over both ports with swaks (Perl).
func TestSwaks(t *testing.T) {
	swaks := tool(t, "swaks")
	require.Contains(t, run(t, nil, nil, swaks, "--support"), "TLS supported", "run make prepare, which installs libnet-ssleay-perl")
	n := start(t)
	ca := n.caFile()
	for i, how := range [][]string{
		{"--server", "localhost", "--port", port(t, n.e.SMTPSAddr), "--tls-on-connect", "--auth", "PLAIN"},
		{"--server", "localhost", "--port", port(t, n.e.SubmissionAddr), "--tls", "--auth", "LOGIN"},
	} {
		args := append(how, "--auth-user", sender, "--auth-password", pec.DefaultPassword, "--from", sender, "--to", recipient,
			"--header", "Subject: da swaks", "--add-header", "X-TipoRicevuta: sintetica", "--body", "una riga\n.\nfine", "--tls-verify", "--tls-ca-path", ca,
			"--add-header", fmt.Sprintf("Message-Id: <swaks%d@alfa.test>", i))
		out := run(t, nil, nil, swaks, args...)
		require.Contains(t, out, "250 2.0.0 OK")
		n.settle()
		got := n.types(sender, "")
		require.Len(t, got, 2*(i+1), "%v", got)
	}
	n.proven(sender)
	n.proven(recipient)

	// a stranger at the point of reception
	run(t, nil, nil, swaks, "--server", "localhost", "--port", port(t, n.e.MXAddr), "--tls", "--tls-verify", "--tls-ca-path", ca, "--from", "x@example.test",
		"--to", recipient, "--body", "ciao")
	require.Equal(t, []string{env, env, anom}, n.types(recipient, ""))
}

// TestMsmtpAndMbsync: a message sent with msmtp (C, GnuTLS), the mailbox fetched with mbsync (C,
// OpenSSL) is the mailbox, byte by byte.
func TestMsmtpAndMbsync(t *testing.T) {
	n := start(t)
	ca, dir := n.caFile(), t.TempDir()
	d := n.draft(recipient)
	msmtp := tool(t, "msmtp")
	for i, how := range [][]string{
		{"--port=" + port(t, n.e.SMTPSAddr), "--tls-starttls=off", "--auth=plain"}, {"--port=" + port(t, n.e.SubmissionAddr), "--tls-starttls=on", "--auth=login"},
	} {
		if i > 0 {
			d = n.draft(recipient)
		}
		run(t, compose(t, d), nil, msmtp, slices.Concat([]string{"--file=/dev/null", "--host=localhost", "--tls=on", "--tls-trust-file=" + ca,
			"--user=" + sender, "--passwordeval=echo " + pec.DefaultPassword, "--from=" + sender}, how, []string{recipient})...)
	}
	n.settle()
	require.ElementsMatch(t, []string{acc, cons}, n.types(sender, d.MessageID))
	mbsync := tool(t, "mbsync")
	rc := filepath.Join(dir, "mbsyncrc")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "mail"), 0o700))
	conf := fmt.Sprintf(`IMAPAccount a
Host localhost
Port %s
User %s
Pass %s
SSLType IMAPS
SystemCertificates no
CertificateFile %s

IMAPStore r
Account a

MaildirStore l
Path %s/mail/
Inbox %s/mail/INBOX
SubFolders Verbatim

Channel c
Far :r:
Near :l:
Patterns *
Create Near
Sync Pull
SyncState *
`, port(t, n.e.IMAPSAddr), sender, pec.DefaultPassword, ca, dir, dir)
	require.NoError(t, os.WriteFile(rc, []byte(conf), 0o600))
	for range 2 { // the second time there is nothing new
		run(t, nil, nil, mbsync, "-c", rc, "-a")
		var got []string
		files, err := filepath.Glob(filepath.Join(dir, "mail", "INBOX", "*", "*"))
		require.NoError(t, err)
		for _, f := range files {
			raw, err := os.ReadFile(f)
			require.NoError(t, err)
			got = append(got, strings.ReplaceAll(string(raw), "\r\n", "\n"))
		}
		var want []string
		for _, m := range n.about(sender, "") {
			raw, _ := n.read(m)
			want = append(want, strings.ReplaceAll(string(raw), "\r\n", "\n"))
		}
		require.Len(t, got, len(want))
		for _, g := range got {
			// mbsync adds a line of its own to the header
			lines := slices.DeleteFunc(strings.SplitAfter(g, "\n"), func(l string) bool { return strings.HasPrefix(l, "X-TUID:") })
			require.Contains(t, want, strings.Join(lines, ""))
		}
	}
}

// TestCurl sends over SMTPS and reads over IMAPS and POP3S.
func TestCurl(t *testing.T) {
	curl := tool(t, "curl")
	n := start(t)
	user := sender + ":" + pec.DefaultPassword
	base := []string{"--silent", "--show-error", "--cacert", n.caFile(), "--user", user}
	d := n.draft(recipient)
	run(t, compose(t, d), nil, curl, append(base, "--url", "smtps://localhost:"+port(t, n.e.SMTPSAddr), "--mail-from", sender,
		"--mail-rcpt", recipient, "--upload-file", "-")...)
	n.settle()
	list := n.about(sender, d.MessageID)
	require.Len(t, list, 2)
	imap := "imaps://localhost:" + port(t, n.e.IMAPSAddr) + "/INBOX"
	for i, m := range list {
		raw, _ := n.read(m)
		require.Equal(t, string(raw), run(t, nil, nil, curl, append(base, fmt.Sprintf("%s;UID=%d", imap, m.UID))...))
		require.Equal(t, string(raw), run(t, nil, nil, curl, append(base, fmt.Sprintf("pop3s://localhost:%s/%d", port(t, n.e.POP3SAddr), i+1))...))
	}
	require.Contains(t, run(t, nil, nil, curl, append(base, imap, "-X", "UID SEARCH HEADER X-Ricevuta accettazione")...), "* SEARCH 1\r\n")
	require.Contains(t, run(t, nil, nil, curl, append(base, "pop3s://localhost:"+port(t, n.e.POP3SAddr))...), "2 ")
}

// pythonScript is a stranger's program: the standard library alone. It sends, reads the mailbox by
// IMAP and POP3, parses with email, and prints one line per message.
const pythonScript = `
import sys, ssl, smtplib, imaplib, poplib, email, email.policy, hashlib, time, xml.etree.ElementTree as ET
from email.message import EmailMessage
ca, smtps, sub, imaps, pop3s, me, to, pw = sys.argv[1:9]
ctx = ssl.create_default_context(cafile=ca)
def message(n):
    m = EmailMessage()
    m['From'], m['To'], m['Subject'], m['Message-ID'] = me, to, 'perché no? %d' % n, '<py%d@alfa.test>' % n
    m.set_content('Città\n.\n')
    m.add_attachment(b'\x00\x01' * 500, maintype='application', subtype='octet-stream', filename='così.bin')
    return m
with smtplib.SMTP_SSL('localhost', int(smtps), context=ctx) as s:
    s.login(me, pw); s.send_message(message(1))
with smtplib.SMTP('localhost', int(sub)) as s:
    s.starttls(context=ctx); s.login(me, pw); s.send_message(message(2))
    try:
        s.sendmail('altri@alfa.test', [to], b'x'); print('TAKEN')
    except smtplib.SMTPSenderRefused as e:
        print('REFUSED', e.smtp_code)
c = imaplib.IMAP4_SSL('localhost', int(imaps), ssl_context=ctx)
c.login(me, pw)
for i in range(100):
    typ, d = c.select('INBOX')
    if int(d[0]) == 4: break
    time.sleep(0.1)
typ, v = c.response('UIDVALIDITY'); assert int(v[0]) > 0
typ, d = c.uid('SEARCH', None, 'ALL')
hashes = []
for uid in d[0].split():
    typ, r = c.uid('FETCH', uid, '(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])')
    raw = r[0][1]
    hashes.append(hashlib.sha256(raw).hexdigest())
    m = email.message_from_bytes(raw, policy=email.policy.default)
    assert m.get_content_type() == 'multipart/signed', m.get_content_type()
    mixed, p7s = m.iter_parts()
    dati = [p for p in mixed.iter_parts() if p.get_filename() == 'daticert.xml']
    x = ET.fromstring(dati[0].get_payload(decode=True))
    print('MESSAGE', x.get('tipo'), x.findtext('dati/msgid'), x.findtext('intestazione/oggetto'), m['X-Ricevuta'], m['Subject'])
assert c.uid('STORE', '1', '+FLAGS', '(\\Seen)')[0] == 'OK'
assert c.fetch('1', '(FLAGS)')[1][0].count(b'\\Seen') == 1
assert c.fetch('1', '(ENVELOPE BODYSTRUCTURE)')[0] == 'OK'
assert c.create('Archivio')[0] == 'OK' and c.copy('1', 'Archivio')[0] == 'OK'
print('FOLDERS', len(c.list()[1]))
assert b' QUOTA' in c.capability()[1][-1]
print('ROOM', c.getquotaroot('INBOX')[1][1][0].decode())
c.logout()
p = poplib.POP3_SSL('localhost', int(pop3s), context=ctx)
p.user(me); p.pass_(pw)
n, size = p.stat()
lines = p.retr(1)[1]
assert hashlib.sha256(b'\r\n'.join(lines) + b'\r\n').hexdigest() == hashes[0]
assert len(p.uidl()[1]) == n == 4 and len(p.top(1, 0)[1]) < len(lines)
p.dele(2); p.quit()
p = poplib.POP3_SSL('localhost', int(pop3s), context=ctx)
p.user(me); p.pass_(pw); print('LEFT', p.stat()[0]); p.quit()
`

// TestPython: smtplib, imaplib, poplib and email of Python.
func TestPython(t *testing.T) {
	python := tool(t, "python3")
	n := start(t)
	script := filepath.Join(t.TempDir(), "stranger.py")
	require.NoError(t, os.WriteFile(script, []byte(pythonScript), 0o600))
	out := run(t, nil, []string{"PYTHONIOENCODING=utf-8"}, python, script, n.caFile(), port(t, n.e.SMTPSAddr), port(t, n.e.SubmissionAddr),
		port(t, n.e.IMAPSAddr), port(t, n.e.POP3SAddr), sender, recipient, pec.DefaultPassword)
	require.Contains(t, out, "REFUSED 553")
	require.Contains(t, out, "FOLDERS 5")
	require.Regexp(t, `ROOM "" \(STORAGE \d+ 1048576\)`, out)
	require.Contains(t, out, "LEFT 3")
	for i := 1; i <= 2; i++ {
		require.Contains(t, out, fmt.Sprintf("MESSAGE accettazione <py%d@alfa.test> perché no? %d accettazione ACCETTAZIONE: perché no? %d", i, i, i))
		require.Contains(t, out, fmt.Sprintf("MESSAGE avvenuta-consegna <py%d@alfa.test> perché no? %d avvenuta-consegna CONSEGNA: perché no? %d", i, i, i))
	}
}
