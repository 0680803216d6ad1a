package pecgateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/fault"
)

// TestPasswordsStayInVault: neither the database nor the log nor an answer has the password (I6), and a
// repeat of the request makes no second mailbox.
func TestPasswordsStayInVault(t *testing.T) {
	h := open(t, "")
	secret := "S3gretissima-" + uuid.NewString()
	req := &pecv1.CreateMailboxRequest{
		Parent: parent, Mailbox: &pecv1.Mailbox{Address: "nessuno@alfa.test", Provider: "sandbox"}, Password: secret,
		RequestId: uuid.NewString(), Untested: true,
	}
	made, err := h.api.CreateMailbox(t.Context(), req)
	require.NoError(t, err)
	again, err := h.api.CreateMailbox(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, made.GetName(), again.GetName())
	_, err = h.api.CreateMailbox(t.Context(), &pecv1.CreateMailboxRequest{Parent: parent, Mailbox: req.GetMailbox(), Password: secret, Untested: true})
	requireFault(t, err, "MAILBOX_EXISTS")

	require.NotContains(t, h.log.String(), secret)
	require.NotContains(t, h.dump(), secret)
	require.NotContains(t, made.String(), secret)

	_, err = h.api.CreateMailbox(t.Context(), &pecv1.CreateMailboxRequest{
		Parent: parent, Mailbox: &pecv1.Mailbox{Address: "x@alfa.test", Provider: "poste"}, Password: secret, Untested: true})
	requireFault(t, err, "PROVIDER_UNKNOWN")
}

// TestLabelsKeepMailboxesApart: a key without the scope of a mailbox's label does not see it.
func TestLabelsKeepMailboxesApart(t *testing.T) {
	h := open(t, "")
	add := func(address, label string) *pecv1.Mailbox {
		m, err := h.api.CreateMailbox(t.Context(), &pecv1.CreateMailboxRequest{
			Parent: parent, Mailbox: &pecv1.Mailbox{Address: address, Provider: "sandbox", Label: label}, Password: "any", Untested: true})
		require.NoError(t, err)
		return m
	}
	free, legal := add(sender, ""), add(recipient, "legal")
	for _, c := range []struct {
		scopes []string
		sees   []string
	}{
		{[]string{"pec.read"}, []string{free.GetName()}},
		{[]string{"pec.read", "mailbox.sales"}, []string{free.GetName()}},
		{[]string{"pec.read", "mailbox.legal"}, []string{legal.GetName(), free.GetName()}},
	} {
		api := pecv1.NewPecServiceClient(h.Tenant("pec-gateway", tenant, c.scopes...))
		list, err := api.ListMailboxes(t.Context(), &pecv1.ListMailboxesRequest{Parent: parent})
		require.NoError(t, err)
		var names []string
		for _, m := range list.GetMailboxes() {
			names = append(names, m.GetName())
		}
		require.Equal(t, c.sees, names)
		_, err = api.GetMailbox(t.Context(), &pecv1.GetMailboxRequest{Name: legal.GetName()})
		if len(c.sees) == 1 {
			requireFault(t, err, "MAILBOX_NOT_FOUND")
		} else {
			require.NoError(t, err)
		}
	}
	other := pecv1.NewPecServiceClient(h.Tenant("pec-gateway", "rival"))
	_, err := other.GetMailbox(t.Context(), &pecv1.GetMailboxRequest{Name: free.GetName()})
	require.Error(t, err)
	_, err = other.GetMailbox(t.Context(), &pecv1.GetMailboxRequest{Name: "tenants/rival/mailboxes/" + free.GetName()[len(parent+"/mailboxes/"):]})
	requireFault(t, err, "MAILBOX_NOT_FOUND")
}

// speaker is a server on loopback that greets and says nothing more.
func speaker(t *testing.T, greeting string, conf *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if conf != nil {
					c = tls.Server(c, conf)
				}
				_, _ = io.WriteString(c, greeting)
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return "localhost:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// selfSigned is a certificate that nobody vouches for but itself, PEM too.
func selfSigned(t *testing.T, name string, from, to time.Time) (*tls.Config, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(from.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to, DNSNames: []string{name},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	require.NoError(t, err)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestOnboardingSaysWhatIsWrong: each step of the test with its verdict, in words that say what to mend; nothing is made of a
// mailbox that does not open.
func TestOnboardingSaysWhatIsWrong(t *testing.T) {
	h := prepare(t, "")
	now := time.Now()
	stranger, _ := selfSigned(t, "localhost", now.Add(-time.Hour), now.Add(time.Hour))
	expired, one := selfSigned(t, "localhost", now.Add(-2*time.Hour), now.Add(-time.Hour))
	other, two := selfSigned(t, "posta.alfa.test", now.Add(-time.Hour), now.Add(time.Hour))
	file := filepath.Join(h.opts.Dir, "ca.pem")
	trusted, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, slices.Concat(trusted, []byte("\n"), one, two), 0o600))
	h.start()
	secret := h.password(sender)
	at := h.world.Endpoints().PEC
	imap := func(server string) *pecv1.MailboxServers { return &pecv1.MailboxServers{Imap: server} }
	smtp := func(server string) *pecv1.MailboxServers { return &pecv1.MailboxServers{Smtp: server} }
	pop := pecv1.MailboxAccess_MAILBOX_ACCESS_POP3
	const dns, handshake, login, sending = pecv1.ProbeStep_PROBE_STEP_DNS, pecv1.ProbeStep_PROBE_STEP_TLS, pecv1.ProbeStep_PROBE_STEP_AUTH, pecv1.ProbeStep_PROBE_STEP_SMTP
	for name, c := range map[string]struct {
		servers  *pecv1.MailboxServers
		access   pecv1.MailboxAccess
		password string
		fails    pecv1.ProbeStep
		code     string
		says     string
	}{
		"good":           {password: secret},
		"good over POP3": {password: secret, access: pop},
		"no such server": {servers: imap("nessuno.invalid:993"), fails: dns, code: "MAILBOX_SERVER_UNKNOWN", says: "there is no server nessuno.invalid: correct its name"},
		"nobody listens": {servers: imap("127.0.0.1:1"), fails: handshake, code: "MAILBOX_SERVER_AWAY", says: "cannot be reached"},
		"private network": {servers: imap("10.1.2.3:993"), fails: handshake, code: "MAILBOX_SERVER_AWAY",
			says: "10.1.2.3, which is no public address; whoever runs the platform opens networks with pec-gateway.allow_networks"},
		"wrong password":    {password: "sbagliata", fails: login, code: "MAILBOX_AUTH_FAILED", says: "name or password are refused"},
		"self-signed":       {servers: imap(speaker(t, "", stranger)), fails: handshake, code: "MAILBOX_TLS_REFUSED", says: "not trusted: CN=localhost signed it itself; if the provider means this one, whoever runs the platform names its authority in pec-gateway.ca_file"},
		"expired":           {servers: imap(speaker(t, "", expired)), fails: handshake, code: "MAILBOX_TLS_REFUSED", says: "has expired"},
		"another name":      {servers: imap(speaker(t, "", other)), fails: handshake, code: "MAILBOX_TLS_REFUSED", says: "for another name"},
		"no TLS":            {servers: imap(speaker(t, "* OK hi\r\n", nil)), fails: handshake, code: "MAILBOX_TLS_REFUSED", says: "does not speak TLS at this port; TLS from the first byte is usually at 993"},
		"no IMAP":           {servers: imap(at.SMTPSAddr), fails: handshake, code: "MAILBOX_PROTOCOL", says: "which is no IMAP"},
		"no POP3":           {servers: &pecv1.MailboxServers{Pop3: at.IMAPSAddr}, access: pop, fails: handshake, code: "MAILBOX_PROTOCOL", says: "this is no POP3"},
		"no SMTP":           {servers: smtp(at.IMAPSAddr), fails: sending, code: "MAILBOX_PROTOCOL", says: "this is no server for sending"},
		"SMTP without TLS":  {servers: smtp(speaker(t, "220 hi\r\n", nil)), fails: sending, code: "MAILBOX_TLS_REFUSED", says: "does not speak TLS at this port"},
		"SMTP, self-signed": {servers: smtp(speaker(t, "", stranger)), fails: sending, code: "MAILBOX_TLS_REFUSED", says: "CN=localhost signed it itself"},
		"SMTP, no server":   {servers: smtp("nessuno.invalid:465"), fails: sending, code: "MAILBOX_SERVER_UNKNOWN", says: "there is no server nessuno.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.password == "" {
				c.password = secret
			}
			in := &pecv1.Mailbox{Address: sender, Provider: "sandbox", Servers: c.servers, Access: c.access}
			got, err := h.api.TestMailbox(t.Context(), &pecv1.TestMailboxRequest{Parent: parent, Mailbox: in, Password: c.password})
			require.NoError(t, err)
			require.Len(t, got.GetSteps(), 5)
			require.Equal(t, c.fails == 0, got.GetPassed(), "%v", got.GetSteps())
			for _, step := range got.GetSteps() {
				require.NotContains(t, step.GetDetail(), c.password)
				if step.GetStep() == c.fails {
					require.Equal(t, pecv1.ProbeVerdict_PROBE_VERDICT_FAILED, step.GetVerdict(), "%v", step)
					require.Equal(t, c.code, step.GetCode(), "%v", step)
					require.Contains(t, step.GetDetail(), c.says)
				}
			}
			if c.fails != 0 {
				_, err = h.api.CreateMailbox(t.Context(), &pecv1.CreateMailboxRequest{Parent: parent, Mailbox: in, Password: c.password})
				requireFault(t, err, "MAILBOX_TEST_FAILED")
				require.Contains(t, fault.Of(err).Message, c.says)
			}
		})
	}
	for _, server := range []string{"localhost", "localhost:imaps", ":993", "localhost:0", "localhost:70000"} {
		_, err = h.api.CreateMailbox(t.Context(), &pecv1.CreateMailboxRequest{Parent: parent, Mailbox: &pecv1.Mailbox{Address: sender, Provider: "sandbox", Servers: smtp(server)}, Password: secret, Untested: true})
		requireFault(t, err, "SERVER_INVALID")
		require.Equal(t, "mailbox.servers.smtp", fault.Of(err).Fields[0].Path)
	}
	require.Zero(t, h.query(`SELECT count(*) FROM mailbox`))

	// One server is changed, and the others stay.
	box := h.add(sender, func(m *pecv1.Mailbox) { m.Servers = &pecv1.MailboxServers{Imap: at.IMAPSAddr, Smtp: at.SMTPSAddr} })
	changed, err := h.api.UpdateMailbox(t.Context(), &pecv1.UpdateMailboxRequest{Mailbox: &pecv1.Mailbox{Name: box.GetName(), Servers: &pecv1.MailboxServers{Pop3: at.POP3SAddr}}, UpdateMask: mask("servers.pop3")})
	require.NoError(t, err)
	require.Equal(t, []string{at.IMAPSAddr, at.POP3SAddr, at.SMTPSAddr}, []string{changed.GetServers().GetImap(), changed.GetServers().GetPop3(), changed.GetServers().GetSmtp()})
}

// TestG5PasswordChanged: a password that does not hold any more degrades the mailbox, told once and not
// tried over and over; the new one mends it at once. Suspended means that nobody looks.
func TestG5PasswordChanged(t *testing.T) {
	h := open(t, "")
	h.believe()
	box := h.add(recipient)
	h.lookedAgain(box)
	fresh := h.password(recipient)                                             // at the provider
	require.NoError(t, h.sandbox.ChangePECUIDValidity(t.Context(), recipient)) // cuts the session
	h.eventually("degraded", func() bool { return h.box(box).GetState() == pecv1.MailboxState_MAILBOX_STATE_DEGRADED })
	require.Equal(t, "MAILBOX_AUTH_FAILED", h.box(box).GetProblemCode())
	h.eventually("told", func() bool { return len(h.unwell()) == 1 })
	_, err := h.api.ChangeMailboxPassword(t.Context(), &pecv1.ChangeMailboxPasswordRequest{Name: box.GetName(), Password: "no"})
	requireFault(t, err, "MAILBOX_TEST_FAILED")
	_, err = h.api.ChangeMailboxPassword(t.Context(), &pecv1.ChangeMailboxPasswordRequest{Name: box.GetName(), Password: fresh})
	require.NoError(t, err)
	h.eventually("active", func() bool { return h.box(box).GetState() == pecv1.MailboxState_MAILBOX_STATE_ACTIVE })
	require.Empty(t, h.box(box).GetProblemCode())

	_, err = h.api.SuspendMailbox(t.Context(), &pecv1.SuspendMailboxRequest{Name: box.GetName()})
	require.NoError(t, err)
	require.Equal(t, pecv1.MailboxState_MAILBOX_STATE_PAUSED, h.box(box).GetState())
	h.inject(recipient, plain("intanto"))
	require.Empty(t, h.list(box))
	_, err = h.api.ResumeMailbox(t.Context(), &pecv1.ResumeMailboxRequest{Name: box.GetName()})
	require.NoError(t, err)
	h.kept(box)
	require.Len(t, h.unwell(), 1)
	h.invariants(box)
}
