package sdigateway_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"google.golang.org/protobuf/proto"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/sdiftp"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/sandbox/client"
)

// sshKey makes a key pair: the private one into a file, the public one as OpenSSH writes it.
func (b *bundle) sshKey(t *testing.T, name string) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(b.certs, name), pem.EncodeToMemory(block), 0o600))
	key, err := ssh.NewPublicKey(public)
	require.NoError(t, err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// sftpLines configures SDIFTP with the sandbox's client visiting by itself.
func sftpLines(t *testing.T, channels, more string) func(*bundle) string {
	return func(b *bundle) string {
		t.Helper()
		address, _, err := devenv.FreeAddress()
		require.NoError(t, err)
		granted, err := b.sandbox.AccreditFTP(context.Background(), client.FTPAccreditationRequest{
			FiscalID: fiscalID, Address: address, HostKey: b.sshKey(t, "host.key"), VisitMS: 100,
		})
		require.NoError(t, err)
		b.write(t, map[string]string{
			"authorized_keys": granted.ClientKey + "\n", "sign.crt": granted.SignCertPEM, "sign.key": granted.SignKeyPEM,
			"decrypt.crt": granted.DecryptCertPEM, "decrypt.key": granted.DecryptKeyPEM, "sdi.crt": granted.SdICertPEM,
		})
		return b.ftpYAML(channels, address, "sdi_signers: ['"+granted.SdISigner+"'], "+more)
	}
}

func (b *bundle) write(t *testing.T, files map[string]string) {
	t.Helper()
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(b.certs, name), []byte(content), 0o600))
	}
}

func (b *bundle) ftpYAML(channels, address, more string) string {
	if !strings.Contains(more, "gather_for") {
		more = "gather_for: 0s, " + more
	}
	return fmt.Sprintf(`  channels: [%[1]s]
  ftp: {listen: "%[2]s", host_key_file: %[3]s/host.key, authorized_keys_file: %[3]s/authorized_keys, sign_cert_file: %[3]s/sign.crt, sign_key_file: %[3]s/sign.key, decrypt_cert_file: %[3]s/decrypt.crt, decrypt_key_file: %[3]s/decrypt.key, sdi_cert_file: %[3]s/sdi.crt, %[4]s}
`, channels, address, b.certs, more)
}

func (b *bundle) order(t *testing.T, kind string) {
	t.Helper()
	_, err := b.sandbox.AddFault(context.Background(), client.Fault{Kind: kind, Count: 1})
	require.NoError(t, err)
}

// awaitOf collects the events of one invoice until all names are there.
func (b *bundle) awaitOf(t *testing.T, invoice string, names ...string) {
	t.Helper()
	missing := map[string]bool{}
	for _, n := range names {
		missing[n] = true
	}
	for len(missing) > 0 {
		ev := b.await(t)
		about, ok := ev.(interface{ GetInvoice() string })
		require.True(t, ok)
		name := string(proto.MessageName(ev).Name())
		require.Equal(t, invoice, about.GetInvoice(), name)
		require.True(t, missing[name], "%s comes once", name)
		delete(missing, name)
	}
}

// The same scenarios over all channels: the same events, the same states, each document once by the count of
// the exchange.
func TestAllChannels(t *testing.T) {
	t.Parallel()
	clock := &testClock{} // of SDICOOP's
	for name, c := range map[string]struct {
		setup  func(t *testing.T) *bundle
		faults []string
	}{
		"SDICOOP": {func(t *testing.T) *bundle { return setupWith(t, options{now: clock.now, resendAfter: "1h"}) },
			[]string{client.FaultCutAfterAccept, client.FaultCutBefore, client.FaultEI02, client.FaultEI02Accepted, client.FaultDelay, client.FaultHTTP503}},
		"SDIFTP": {func(t *testing.T) *bundle { return setup(t, sftpLines(t, "SDIFTP", "retry_refused: 1s")) },
			[]string{client.FaultFTPKeep, client.FaultFTPCutGet, client.FaultFTPCutPut, client.FaultFTPDuplicate, client.FaultFTPET02, client.FaultFTPER}},
		"PEC": {setupPostOnly,
			[]string{client.FaultPECCutAfter, client.FaultPECDefer, client.FaultPECReject, client.FaultPECDuplicate, client.FaultPECIMAPCut, client.FaultLetterForged}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := c.setup(t)
			files := conform(t, b)
			for i, kind := range c.faults {
				_, err := b.sandbox.AddFault(context.Background(), client.Fault{Kind: kind, Count: 1, DelayMS: 50})
				require.NoError(t, err)
				invoice := b.accept(t, "FPR12", "SBXRC00", fmt.Sprintf("F%d", i))
				if kind == client.FaultCutBefore || kind == client.FaultEI02 || kind == client.FaultHTTP503 { // it did not arrive
					b.repeats(t, clock)
				}
				b.awaitOf(t, invoice, "InvoiceTransmitted", "InvoiceDelivered")
				require.Equal(t, sdiv1.TransmissionState_TRANSMISSION_STATE_DELIVERED, b.transmission(t, invoice).GetState(), kind)
				files++
			}
			b.once(t, files)
			require.Zero(t, b.count(t, "SELECT count(*) FROM transmission WHERE channel <> '"+name+"'"))
			require.Zero(t, b.count(t, "SELECT count(*) FROM parked_event"))
		})
	}
}

// conform plays what every channel must do, and gives how many files SdI has then.
func conform(t *testing.T, b *bundle) int {
	t.Helper()
	for code, want := range map[string]struct {
		event string
		state sdiv1.TransmissionState
	}{
		"SBXRC00": {"InvoiceDelivered", sdiv1.TransmissionState_TRANSMISSION_STATE_DELIVERED},
		"SBXMC00": {"InvoiceNotDelivered", sdiv1.TransmissionState_TRANSMISSION_STATE_AVAILABLE},
		"SB00423": {"InvoiceDiscarded", sdiv1.TransmissionState_TRANSMISSION_STATE_REJECTED},
	} {
		invoice := b.accept(t, "FPR12", code, code)
		b.awaitOf(t, invoice, "InvoiceTransmitted", want.event)
		got := b.transmission(t, invoice)
		require.Equal(t, want.state, got.GetState())
		require.NotEmpty(t, got.GetSdiId(), "known from the answer or from the message")
		require.Len(t, got.GetMessages(), 1)
		require.Empty(t, got.GetMessages()[0].GetProblem())
	}
	b.order(t, client.FaultDuplicate)
	invoice := b.accept(t, "FPR12", "SBXRC00", "twice")
	b.awaitOf(t, invoice, "InvoiceTransmitted", "InvoiceDelivered")
	eventually(t, "the second delivery of the message", func() (bool, string) {
		got := b.transmission(t, invoice)
		return len(got.GetMessages()) == 1 && got.GetMessages()[0].GetDuplicates() == 1, got.String()
	})
	const many = 12
	for i := range many {
		b.accept(t, "FPR12", "SBXRC00", fmt.Sprintf("many %d", i))
	}
	b.awaitAllCount(t, 2*many)
	return 4 + many
}

// supports lists the files of the channel by their states.
func (b *bundle) supports(t *testing.T, kind string) map[string]int {
	t.Helper()
	list, err := sdiv1.NewSdiChannelServiceClient(b.Operator("sdi-gateway")).ListSupports(context.Background(), &sdiv1.ListSupportsRequest{Kind: kind})
	require.NoError(t, err)
	out := map[string]int{}
	for _, s := range list.GetSupports() {
		out[s.GetState()]++
	}
	return out
}

// A refused support frees its documents for the healthy channel; one whose outcome is unknown keeps them.
func TestFailover(t *testing.T) {
	t.Parallel()
	b := setup(t, sftpLines(t, "SDIFTP, SDICOOP", ""))
	b.order(t, client.FaultFTPSilent)
	unknown := b.accept(t, "FPR12", "SBXNONE", "unknown")
	eventually(t, "the support being taken", func() (bool, string) { s := b.supports(t, "FI"); return s["TAKEN"] == 1, fmt.Sprint(s) })
	b.order(t, client.FaultFTPER)
	refused := b.accept(t, "FPR12", "SBXRC00", "refused")
	b.awaitOf(t, refused, "InvoiceTransmitted", "InvoiceDelivered")
	next := b.accept(t, "FPR12", "SBXRC00", "next")
	b.awaitOf(t, next, "InvoiceTransmitted", "InvoiceDelivered")
	require.Equal(t, 2, b.count(t, "SELECT count(*) FROM transmission WHERE channel = 'SDICOOP' AND state = 'DELIVERED'"))
	require.Equal(t, sdiv1.TransmissionState_TRANSMISSION_STATE_RESERVED, b.transmission(t, unknown).GetState())
	require.Equal(t, 1, b.count(t, "SELECT count(*) FROM transmission WHERE channel = 'SDIFTP' AND support_id IS NOT NULL"), "it stays where it is")
	b.once(t, 3)
	channels, err := sdiv1.NewSdiChannelServiceClient(b.Operator("sdi-gateway")).ListChannels(context.Background(), &sdiv1.ListChannelsRequest{})
	require.NoError(t, err)
	require.Len(t, channels.GetChannels(), 2)
	require.Contains(t, channels.GetChannels()[1].GetReason(), "refused the last support")
}

// What SdI brings is kept whatever it is: forged, halved, passive; reports and counts are compared with the books.
func TestBroughtByFTP(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := setup(t, sftpLines(t, "SDIFTP", ""))
	for _, kind := range []string{client.FaultFTPBadSignature, client.FaultFTPHalf} {
		fault := client.Fault{Kind: kind, Count: 1}
		if kind == client.FaultFTPHalf {
			fault.Type = "FO"
		}
		_, err := b.sandbox.AddFault(ctx, fault)
		require.NoError(t, err)
		b.awaitOf(t, b.accept(t, "FPR12", "SBXRC00", kind), "InvoiceTransmitted")
	}
	eventually(t, "two supports in quarantine", func() (bool, string) { s := b.supports(t, "FO"); return s["QUARANTINED"] == 2, fmt.Sprint(s) })
	eventually(t, "their parked jobs", func() (bool, string) {
		n := b.count(t, "SELECT count(*) FROM parked_event WHERE code IN ('SDIFTP_SIGNATURE', 'SDIFTP_ENCRYPTION')")
		return n == 2, fmt.Sprint(n)
	})

	require.NoError(t, b.sandbox.PassiveFTP(ctx, fiscalID,
		client.FTPFile{Name: "IT09876543217_00001.xml", Data: []byte("<a/>")}, client.FTPFile{Name: "IT09876543217_00001_MT_001.xml", Data: []byte("<b/>")}))
	eventually(t, "the passive invoice with its metadata in quarantine: neither can be read", func() (bool, string) {
		n := b.count(t, "SELECT count(*) FROM inbound_file WHERE state = 'QUARANTINED' AND metadata_name <> ''")
		return n == 1 && b.count(t, "SELECT count(*) FROM support_document WHERE handed_at IS NULL") == 0, fmt.Sprint(n)
	})
	lost := sdiftp.NewName(sdiftp.FO, fiscalID, time.Now(), 777).Whole().String()
	strange := sdiftp.NewName(sdiftp.FI, fiscalID, time.Now(), 888).String()
	require.NoError(t, b.sandbox.ReportFTP(ctx, fiscalID, "", lost))
	require.NoError(t, b.sandbox.ReportFTP(ctx, fiscalID, "", strange))
	eventually(t, "the differences by name", func() (bool, string) {
		list, err := sdiv1.NewSdiChannelServiceClient(b.Operator("sdi-gateway")).ListSupportDifferences(ctx, &sdiv1.ListSupportDifferencesRequest{})
		require.NoError(t, err)
		found := map[string]string{}
		for _, d := range list.GetDifferences() {
			found[d.GetName()], _, _ = strings.Cut(d.GetProblem(), ":")
		}
		return found[lost] == "SDIFTP_NOT_RECEIVED" && found[strange] == "SDIFTP_NOT_OURS", fmt.Sprint(found)
	})
	b.once(t, 2)
}

// peer is SdI played by OpenSSH and openssl alone.
type peer struct {
	*bundle
	host, port string
	dir        string
}

// run makes one visit of the real sftp program.
func (p *peer) run(t *testing.T, commands ...string) (string, error) {
	t.Helper()
	batch := cmstest.File(t, "batch", []byte(strings.Join(commands, "\n")+"\n"))
	return cmstest.Run(t, "openssh-client", "sftp", "-q", "-b", batch, "-P", p.port, "-i", filepath.Join(p.certs, "client.key.ssh"),
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-F", "/dev/null", "sdi@"+p.host)
}

// A stranger in SdI's place: OpenSSH takes a support and brings outcome and message, openssl opens and seals.
func TestOpenSSHAndOpenSSL(t *testing.T) {
	t.Parallel()
	pki := cmstest.New(t)
	ours, sdi := pki.Issue(t, "Nodo", cmstest.RSA(t)), pki.Issue(t, "SdI", cmstest.RSA(t))
	p := &peer{dir: t.TempDir()}
	p.bundle = setup(t, func(b *bundle) string {
		address, _, err := devenv.FreeAddress()
		require.NoError(t, err)
		p.host, p.port, _ = strings.Cut(address, ":")
		b.sshKey(t, "host.key")
		read := func(path string) string {
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			return string(raw)
		}
		b.write(t, map[string]string{
			"authorized_keys": b.sshKey(t, "client.key.ssh") + "\n", "root.crt": read(cmstest.CertFile(t, pki.Root)),
			"sign.crt": read(cmstest.CertFile(t, ours.Cert)), "sign.key": read(cmstest.KeyFile(t, ours.Key)),
			"decrypt.crt": read(cmstest.CertFile(t, ours.Cert)), "decrypt.key": read(cmstest.KeyFile(t, ours.Key)), "sdi.crt": read(cmstest.CertFile(t, sdi.Cert)),
		})
		return b.ftpYAML("SDIFTP", address, "sdi_ca_file: "+b.certs+"/root.crt")
	})
	invoice := p.accept(t, "FPR12", "SBXRC00", "1")
	eventually(t, "the support shown", func() (bool, string) { s := p.supports(t, "FI"); return s["SHOWN"] == 1, fmt.Sprint(s) })
	name := p.takeSupport(t, sdi, pki)
	require.Equal(t, map[string]int{"TAKEN": 1}, p.supports(t, "FI"))
	p.denied(t, name)

	outcome := name
	outcome.Kind, outcome.Complete = sdiftp.EO, false
	eo, err := sdiftp.Esito{Nodo: fiscalID, Ricezione: time.Now(), DataEsito: time.Now(), Supporto: name.Support(), Esito: sdiftp.ET01}.Write()
	require.NoError(t, err)
	p.bring(t, outcome, eo)
	p.awaitOf(t, invoice, "InvoiceTransmitted")

	file := p.transmission(t, invoice).GetFileName()
	receipt := strings.TrimSuffix(file, ".xml") + "_RC_001.xml"
	fo := sdiftp.NewName(sdiftp.FO, fiscalID, time.Now(), 1)
	archive, err := sdiftp.Build(fo, time.Now(), []sdiftp.Documento{{Name: receipt, Data: []byte(strings.ReplaceAll(privateRC, "%FILE%", file))}})
	require.NoError(t, err)
	p7m, sealed := filepath.Join(p.dir, "p7m"), filepath.Join(p.dir, "sealed")
	cmstest.OpenSSL(t, "cms", "-sign", "-binary", "-nodetach", "-md", "sha256", "-in", cmstest.File(t, "zip", archive), "-outform", "DER", "-out", p7m,
		"-signer", cmstest.CertFile(t, sdi.Cert), "-inkey", cmstest.KeyFile(t, sdi.Key))
	cmstest.OpenSSL(t, "cms", "-encrypt", "-binary", "-aes256", "-in", p7m, "-outform", "DER", "-out", sealed, "-recip", cmstest.CertFile(t, ours.Cert))
	raw, err := os.ReadFile(sealed)
	require.NoError(t, err)
	p.bring(t, fo, raw)
	p.awaitOf(t, invoice, "InvoiceDelivered")
	require.Equal(t, "99999999999", p.transmission(t, invoice).GetSdiId())
	eventually(t, "the support being read", func() (bool, string) { s := p.supports(t, "FO"); return len(s) == 1 && s["READ"] == 1, fmt.Sprint(s) })
}

// takeSupport gets, opens and removes the one support that lies there.
func (p *peer) takeSupport(t *testing.T, sdi cmstest.Pair, pki *cmstest.PKI) sdiftp.Name {
	t.Helper()
	out, err := p.run(t, "ls -1 "+sdiftp.DirTowards)
	require.NoError(t, err, out)
	var name sdiftp.Name
	for line := range strings.Lines(out) {
		n, err := sdiftp.ParseName(strings.TrimSpace(strings.TrimPrefix(line, sdiftp.DirTowards+"/")))
		if err == nil {
			name = n
		}
	}
	require.Equal(t, sdiftp.FI, name.Kind, out)
	sealed, signed, archive := filepath.Join(p.dir, "fi"), filepath.Join(p.dir, "fi.p7m"), filepath.Join(p.dir, "fi.zip")
	out, err = p.run(t, fmt.Sprintf("get %s/%s %s", sdiftp.DirTowards, name, sealed), fmt.Sprintf("rm %s/%s", sdiftp.DirTowards, name))
	require.NoError(t, err, out)
	cmstest.OpenSSL(t, "cms", "-decrypt", "-binary", "-inform", "DER", "-in", sealed, "-out", signed, "-recip", cmstest.CertFile(t, sdi.Cert), "-inkey", cmstest.KeyFile(t, sdi.Key))
	cmstest.OpenSSL(t, "cms", "-verify", "-binary", "-inform", "DER", "-in", signed, "-out", archive, "-CAfile", cmstest.CertFile(t, pki.Root), "-purpose", "any")
	raw, err := os.ReadFile(archive)
	require.NoError(t, err)
	content, err := sdiftp.Read(name, raw, sdiftp.Limits{})
	require.NoError(t, err)
	require.Len(t, content.Documenti, 1)
	require.Empty(t, content.Differenze())
	return name
}

// bring puts a file and marks it as whole.
func (p *peer) bring(t *testing.T, name sdiftp.Name, content []byte) {
	t.Helper()
	out, err := p.run(t, "cd "+sdiftp.DirFrom, fmt.Sprintf("put %s %s", cmstest.File(t, "put", content), name), fmt.Sprintf("rename %s %s", name, name.Whole()))
	require.NoError(t, err, out)
}

// denied tries what SdI has no business to do.
func (p *peer) denied(t *testing.T, taken sdiftp.Name) {
	t.Helper()
	local := cmstest.File(t, "x", []byte("x"))
	for _, command := range []string{
		fmt.Sprintf("put %s %s/FI.%s.2026001.0000.001.zip", local, sdiftp.DirTowards, fiscalID),
		fmt.Sprintf("put %s %s/../../etc/x", local, sdiftp.DirFrom),
		fmt.Sprintf("put %s %s/FO.99999999999.2026001.0000.001.zip", local, sdiftp.DirFrom),
		"mkdir x", "ls nowhere", fmt.Sprintf("get %s/%s /dev/null", sdiftp.DirTowards, taken), "rm " + sdiftp.DirTowards + "/x",
	} {
		out, err := p.run(t, command)
		require.Error(t, err, "%s: %s", command, out)
	}
	good := filepath.Join(p.certs, "client.key.ssh")
	raw, err := os.ReadFile(good)
	require.NoError(t, err)
	p.sshKey(t, "client.key.ssh") // somebody else's
	_, err = p.run(t, "ls")
	require.Error(t, err, "an unknown key may not log in")
	require.NoError(t, os.WriteFile(good, raw, 0o600))
}
