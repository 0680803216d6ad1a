package dovecot

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// dialog says lines to a server and gives what it answers up to a line that begins with until.
func dialog(t *testing.T, s *Server, address string, lines ...string) []string {
	t.Helper()
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(s.CAPEM()))
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"})
	require.NoError(t, err)
	defer conn.Close()
	var out []string
	r := bufio.NewReader(conn)
	_, err = r.ReadString('\n')
	require.NoError(t, err)
	for i, l := range lines {
		tag := ""
		if address == s.IMAPS() {
			tag = fmt.Sprintf("a%d ", i)
		}
		_, err = conn.Write([]byte(tag + l + "\r\n"))
		require.NoError(t, err)
		for {
			got, err := r.ReadString('\n')
			require.NoError(t, err)
			out = append(out, strings.TrimRight(got, "\r\n"))
			if tag == "" || strings.HasPrefix(got, tag) {
				break
			}
		}
	}
	return out
}

// TestServer: both doors, folders under a prefix, quota, a mailbox whose numbers are forgotten, a password changed.
func TestServer(t *testing.T) {
	s, err := Start(t.Context(), Options{Users: map[string]string{"uno@alfa.test": "segreta"}, Prefix: "INBOX.", QuotaKiB: 100})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	require.NoError(t, s.Deliver("uno@alfa.test", []byte("Subject: x\r\n\r\nciao\r\n"), Delivery{Flags: "S"}))
	require.NoError(t, s.Deliver("uno@alfa.test", []byte("Subject: y\r\n\r\nciao\r\n"), Delivery{Folder: "Archivio"}))
	look := []string{`LOGIN uno@alfa.test segreta`, `LIST "" "*"`, `EXAMINE INBOX`, `UID FETCH 1 (FLAGS RFC822.SIZE)`, `GETQUOTAROOT INBOX`}
	text := strings.Join(dialog(t, s, s.IMAPS(), look...), "\n")
	require.Contains(t, text, `INBOX.Archivio`)
	require.Contains(t, text, `RFC822.SIZE 20`)
	require.Contains(t, text, `\Seen`)
	require.Contains(t, text, `STORAGE 1 100`)
	require.Contains(t, strings.Join(dialog(t, s, s.POP3S(), "USER uno@alfa.test", "PASS segreta", "STAT"), "\n"), "+OK 1 20")

	validity := func() string {
		for _, l := range dialog(t, s, s.IMAPS(), look[0], look[2]) {
			if strings.Contains(l, "UIDVALIDITY") {
				return l
			}
		}
		t.Fatal("no UIDVALIDITY")
		return ""
	}
	before := validity()
	require.NoError(t, s.ChangeUIDValidity(t.Context(), "uno@alfa.test"))
	require.NotEqual(t, before, validity())

	require.NoError(t, s.SetPassword("uno@alfa.test", "altra"))
	require.Eventually(t, func() bool {
		return strings.Contains(strings.Join(dialog(t, s, s.IMAPS(), look[0]), "\n"), "AUTHENTICATIONFAILED")
	}, time.Minute, 200*time.Millisecond)
	list, err := s.Messages("uno@alfa.test")
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, "S", list[0].Flags)
	require.Equal(t, "Archivio", list[1].Folder)
}

// TestSyntaxes: 2.3 and 2.4 are configured each in its own words, what is older is refused.
func TestSyntaxes(t *testing.T) {
	s := settings{Options: Options{QuotaKiB: 10}, dir: "/d", user: "u", group: "g", imaps: 1, pop3s: 2}
	old, err := s.text("2.3.19.1 (9b53102964)")
	require.NoError(t, err)
	require.Contains(t, old, "mail_location = maildir:/d/home/%u/Maildir")
	require.NotContains(t, old, "dovecot_config_version")
	fresh, err := s.text("2.4.1-4 (7d8c0e5759)")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(fresh, "dovecot_config_version = 2.4.0\n"), "it has to be the first setting")
	require.Contains(t, fresh, "mail_path = /d/home/%{user}/Maildir")
	require.NotContains(t, fresh, "plugin {")
	for _, version := range []string{"2.2.36", "unknown", ""} {
		_, err = s.text(version)
		require.ErrorContains(t, err, "2.3 or later")
	}
}
