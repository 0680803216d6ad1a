package pec_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/pec"
	"github.com/stretchr/testify/require"
)

// mutt is the mail program of a user: its settings are in a file, and it shows its screen to nobody.
type mutt struct {
	n    *net
	dir  string
	path string
}

// mutt sets the program up for a mailbox as its owner would.
func (n *net) mutt(address, smtp string) *mutt {
	n.t.Helper()
	m := &mutt{n: n, dir: n.t.TempDir(), path: tool(n.t, "mutt")}
	conf := fmt.Sprintf(`set ssl_ca_certificates_file="%[1]s" ssl_force_tls=yes ssl_starttls=yes
set from="%[2]s" realname="Società Esempio" use_from=yes hostname="alfa.test" charset="utf-8"
set smtp_url="%[3]s" smtp_pass="%[4]s"
set imap_user="%[2]s" imap_pass="%[4]s" pop_user="%[2]s" pop_pass="%[4]s"
set folder="imaps://localhost:%[5]s/" spoolfile="=INBOX" record="=Sent" postponed="=Drafts" copy=yes
set quit=yes delete=no mark_old=no wait_key=no sleep_time=0 timeout=1
set pipe_decode=no pipe_split=yes pipe_sep=""
set crypt_verify_sig=no
`, n.caFile(), address, smtp, pec.DefaultPassword, port(n.t, n.e.IMAPSAddr))
	require.NoError(n.t, os.WriteFile(filepath.Join(m.dir, "rc"), []byte(conf), 0o600))
	return m
}

// send writes a letter from the command line.
func (m *mutt) send(subject, body string, rest ...string) {
	m.n.t.Helper()
	args := append([]string{"-n", "-F", filepath.Join(m.dir, "rc"), "-e", "my_hdr X-TipoRicevuta: breve", "-s", subject}, rest...)
	run(m.n.t, []byte(body), m.environment(), m.path, args...)
}

func (m *mutt) environment() []string {
	return []string{"HOME=" + m.dir, "TERM=vt100", "LC_ALL=C.UTF-8", "LINES=24", "COLUMNS=80"}
}

// read opens a folder, hands every message in it to a program, marks all as read and leaves. It gives the messages with lines as mutt ends
// them.
func (m *mutt) read(folder string) []string {
	m.n.t.Helper()
	into, err := os.MkdirTemp(m.dir, "in")
	require.NoError(m.n.t, err)
	save := filepath.Join(m.dir, "save.sh")
	require.NoError(m.n.t, os.WriteFile(save, fmt.Appendf(nil, "cat > \"$(mktemp %s/XXXXXX)\"\n", into), 0o600))
	keys := fmt.Sprintf("push '<tag-pattern>~A<enter><tag-prefix><pipe-message>sh %s<enter><tag-prefix><clear-flag>N<quit>'", save)
	// mutt wants a terminal, and one whose keyboard stays: script would pass the end of its input on as a key.
	keyboard, held, err := os.Pipe()
	require.NoError(m.n.t, err)
	defer keyboard.Close()
	defer held.Close()
	ctx, cancel := context.WithTimeout(m.n.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool(m.n.t, "script"), "-qec", fmt.Sprintf("%s -n -F %s/rc -f '%s' -e \"%s\"", m.path, m.dir, folder, keys), "/dev/null")
	cmd.Stdin, cmd.Env = keyboard, append(os.Environ(), m.environment()...)
	screen, err := cmd.CombinedOutput()
	require.NoError(m.n.t, err, "%s", screen)
	files, err := os.ReadDir(into)
	require.NoError(m.n.t, err)
	var out []string
	for _, f := range files {
		raw, err := os.ReadFile(filepath.Join(into, f.Name()))
		require.NoError(m.n.t, err)
		out = append(out, string(raw))
	}
	require.NotEmpty(m.n.t, out, "%s", screen)
	return out
}

// held is what a folder of a mailbox has, with lines as mutt ends them.
func (n *net) held(box, folder string) []string {
	n.t.Helper()
	var out []string
	for _, m := range n.about(box, "") {
		if m.Folder == folder {
			raw, _ := n.read(m)
			out = append(out, strings.ReplaceAll(string(raw), "\r\n", "\n"))
		}
	}
	return out
}

// undated leaves the first line out: mutt writes the date of the copy when it writes the copy, a second later now and then.
func undated(letter string) string {
	_, rest, _ := strings.Cut(letter, "\n")
	return rest
}

// TestMutt: mutt (C, GnuTLS) sends a certified message over both ports, files a copy in the provider's Sent, and reads the
// receipts, the copy and, as the addressee, the envelope over IMAPS and over POP3S: byte by byte what the mailbox has.
func TestMutt(t *testing.T) {
	n := start(t)
	user := strings.Replace(sender, "@", "%40", 1)
	file := filepath.Join(t.TempDir(), "così.bin")
	require.NoError(t, os.WriteFile(file, []byte("\x00\x01riga\r\n.\r\n\xff"), 0o600))
	var m *mutt
	for i, server := range []string{"smtps://" + user + "@localhost:" + port(t, n.e.SMTPSAddr), "smtp://" + user + "@localhost:" + port(t, n.e.SubmissionAddr)} {
		m = n.mutt(sender, server)
		m.send(fmt.Sprintf("perché no? %d", i), "Città\n.\nfine\n", "-a", file, "--", recipient)
		n.settle()
		list, err := n.c.PECSubmissions(t.Context(), sender)
		require.NoError(t, err)
		require.Len(t, list, i+1)
		require.True(t, strings.HasSuffix(list[i].MsgID, "@alfa.test"), list[i].MsgID)
		require.ElementsMatch(t, []string{acc, cons, "ordinaria"}, n.types(sender, list[i].MsgID), "two receipts and the sender's copy")
		sent, err := n.c.PECSubmitted(t.Context(), list[i].Identificativo)
		require.NoError(t, err)
		copies := n.held(sender, "Sent")
		require.Len(t, copies, i+1)
		require.Equal(t, undated(strings.ReplaceAll(string(sent), "\r\n", "\n")), undated(copies[i]), "the copy is what was sent")
	}
	require.Len(t, n.held(sender, "INBOX"), 4)
	pop := "pops://localhost:" + port(t, n.e.POP3SAddr)
	require.ElementsMatch(t, n.held(sender, "INBOX"), m.read(pop))
	require.ElementsMatch(t, n.held(sender, "INBOX"), m.read("=INBOX"))
	require.ElementsMatch(t, n.held(sender, "Sent"), m.read("=Sent"))
	for _, r := range n.about(sender, "") {
		require.Contains(t, r.Flags, `\Seen`, "%s in %s", r.Subject, r.Folder)
		if r.Folder == "INBOX" {
			require.Contains(t, r.Subject, "perché no?")
			reading, rep := n.verify(r)
			require.True(t, reading.Proven(rep), rep.Reason)
			if r.Tipo == cons {
				require.Equal(t, rfc.Breve, reading.Ricevuta())
			}
		}
	}
	addressee := n.mutt(recipient, "")
	require.ElementsMatch(t, n.held(recipient, "INBOX"), addressee.read("=INBOX"))
	n.proven(recipient)
}
