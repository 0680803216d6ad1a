package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // what TOTP is made of
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/vault"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/signer"
)

// startSigner runs a signer with a real Vault.
func startSigner(t *testing.T) *runtest.Process { return startSignerWith(t, "", nil) }

// startSignerWith adds lines to the signer's configuration, and secrets to Vault by their paths.
func startSignerWith(t *testing.T, config string, secrets map[string]map[string]any) *runtest.Process {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	server, err := vault.Start(ctx, vault.Options{Private: true, Dir: filepath.Join(dir, "vault")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	root, err := devenv.Root()
	require.NoError(t, err)
	roles, err := server.Provision(ctx, filepath.Join(root, "deploy", "vault"))
	require.NoError(t, err)
	if len(secrets) > 0 {
		admin, err := server.Client()
		require.NoError(t, err)
		for path, fields := range secrets {
			_, err := admin.Logical().Write(path, map[string]any{"data": fields})
			require.NoError(t, err)
		}
	}
	role, secret := filepath.Join(dir, "role"), filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(role, []byte(roles[vault.SignerRole].RoleID), 0o600))
	require.NoError(t, os.WriteFile(secret, []byte(roles[vault.SignerRole].SecretID), 0o600))
	return runtest.Start(t, runtest.Options{
		Targets: []run.Target{signer.Target},
		Config:  fmt.Sprintf("signer:\n  vault: {address: %q, role_id_file: %q, secret_id_file: %q}\n%s", server.Addr, role, secret, config),
	})
}

// oneTime is the code of a step. spec: RFC6238 §4.2
func oneTime(t *testing.T, address string, step int64) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(u.Query().Get("secret"))
	require.NoError(t, err)
	mac := hmac.New(sha1.New, secret)
	require.NoError(t, binary.Write(mac, binary.BigEndian, step))
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[at:])&0x7fffffff)%1_000_000)
}

// readerOf has nothing to read, and does something when it is asked.
type readerOf func()

func (r readerOf) Read([]byte) (int, error) {
	r()
	return 0, io.EOF
}

func sha256Sum(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// TestReplace: what cannot be written whole leaves what was there.
func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.p7s")
	require.NoError(t, replaceWith(path, 0o644, []byte("before")))
	full := errors.New("no space left on device")
	require.ErrorIs(t, replace(path, 0o644, func(f *os.File) error {
		_, err := f.WriteString("half")
		return errors.Join(err, full)
	}), full)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "before", string(raw))
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, left, 1)
}

// TestSignAsAPerson goes the whole way of a person through the tool: credential, PIN, device, files.
func TestSignAsAPerson(t *testing.T) {
	p, dir := startSigner(t), t.TempDir()
	key := p.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}})
	surroundings(t, map[string]string{"SERVER": p.RPC, "CA_FILE": p.Files().CA, "API_KEY": key, "TENANT": "acme", "COMPANY": "main"})
	t.Setenv("CERALACCA_CREDENTIAL", "")
	state := filepath.Join(dir, "state")
	t.Setenv("CERALACCA_STATE", state)
	whenAsked := func() {} // what happens while the holder types
	tool := func(want int, in, args string) (string, string) {
		t.Helper()
		var out, errOut bytes.Buffer
		c := &cli{in: io.MultiReader(readerOf(func() { whenAsked() }), strings.NewReader(in)), out: &out, errOut: &errOut, now: time.Now}
		require.Equal(t, want, c.run(context.Background(), strings.Fields(args)), "%s: %s%s", args, out.String(), errOut.String())
		return out.String(), errOut.String()
	}
	read := func(text string) map[string]any {
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &m), text)
		return m
	}
	out, _ := tool(exitOK, "", "credential create --kind person --common-name Alfa --format json")
	made := read(out)
	credential, _ := made["name"].(string)
	csr, _ := made["csr_pem"].(string)
	if csr == "" {
		csr, _ = made["csrPem"].(string)
	}
	block, _ := pem.Decode([]byte(csr))
	require.NotNil(t, block, out)
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	cert, err := authority.SignCSR(block.Bytes, ca.ProfileSigning)
	require.NoError(t, err)
	chain := filepath.Join(dir, "chain.pem")
	require.NoError(t, os.WriteFile(chain, append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), authority.CertPEM()...), 0o600))
	tool(exitOK, "", "credential import "+credential+" "+chain)

	const pin = "40718362"
	t.Setenv("CERALACCA_CREDENTIAL", credential)
	pinFile := filepath.Join(dir, "pin")
	require.NoError(t, os.WriteFile(pinFile, []byte(pin+"\n"), 0o600))
	_, said := tool(exitRefused, "12345678\n", "otp pin --holder u-17")
	require.Contains(t, said, "PIN_WEAK")
	tool(exitOK, pin+"\n", "otp pin --holder u-17")
	qr := filepath.Join(dir, "qr.png")
	out, _ = tool(exitOK, "", "otp enrol --name phone --format json --pin-file "+pinFile+" --qr "+qr)
	enrolled := read(out)
	address, _ := enrolled["otpauth_uri"].(string)
	if address == "" {
		address, _ = enrolled["otpauthUri"].(string)
	}
	info, err := os.Stat(qr)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	out, _ = tool(exitOK, "", "otp ls --format json")
	devices, _ := read(out)["otp_devices"].([]any)
	if devices == nil {
		devices, _ = read(out)["otpDevices"].([]any)
	}
	require.Len(t, devices, 1)
	device, _ := devices[0].(map[string]any)["name"].(string)
	// Three passwords are shown: those of the step before, of this one and of the next. They are right
	// together while this step lasts.
	for time.Now().Unix()%30 > 20 {
		time.Sleep(200 * time.Millisecond)
	}
	step := time.Now().Unix()/30 - 1
	out, _ = tool(exitOK, pin+"\n"+oneTime(t, address, step)+"\n", "otp confirm "+device)
	require.Contains(t, strings.ToLower(out), "active")

	one, two := filepath.Join(dir, "one.pdf"), filepath.Join(dir, "two.txt")
	require.NoError(t, os.WriteFile(one, bytes.Repeat([]byte("one"), 100_000), 0o600))
	require.NoError(t, os.WriteFile(two, []byte("two"), 0o600))
	files := one + " " + two
	_, said = tool(exitDenied, pin+"\n000000\n", "sign "+files)
	require.Contains(t, said, "AUTHENTICATION_FAILED")
	require.NoFileExists(t, one+".p7s")
	_, said = tool(exitUsage, "", "sign "+files)
	require.Contains(t, said, "standard input ended")
	_, said = tool(exitUsage, "", "sign "+one+" "+one)
	require.Contains(t, said, "the same bytes")
	out, said = tool(exitOK, pin+"\n"+oneTime(t, address, step+1)+"\n", "sign "+files)
	require.NotContains(t, out+said, pin)
	for _, file := range []string{one, two} {
		roots := filepath.Join(dir, "roots.pem")
		require.NoError(t, os.WriteFile(roots, authority.CertPEM(), 0o600))
		heard, err := exec.Command("openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", file+".p7s", "-content", file,
			"-CAfile", roots, "-purpose", "any", "-out", filepath.Join(dir, "out")).CombinedOutput()
		require.NoError(t, err, "%s", heard)
	}
	_, said = tool(exitUsage, "", "sign --as doc "+two)
	require.Contains(t, said, "--as is p7s")
	_, said = tool(exitUsage, "", "sign --as xml --box 1,1,1,9,9 "+two)
	require.Contains(t, said, "are for --as pdf")
	left, err := os.ReadDir(state)
	require.NoError(t, err)
	require.Empty(t, left, "what is done, or was refused, is forgotten")
	// One of two cannot be written, for a folder is in its place: the other is, and this one is had later, for nothing.
	three := filepath.Join(dir, "three.txt")
	require.NoError(t, os.WriteFile(three, []byte("three"), 0o600))
	whenAsked = func() { require.NoError(t, os.MkdirAll(two+".p7m", 0o700)) }
	_, said = tool(exitUsage, pin+"\n"+oneTime(t, address, step+2)+"\n", "sign --as p7m "+two+" "+three)
	whenAsked = func() {}
	require.FileExists(t, three+".p7m")
	require.NoError(t, os.Remove(two+".p7m"))
	out, _ = tool(exitOK, "", "resume --format json")
	var hands []inHand
	require.NoError(t, json.Unmarshal([]byte(out), &hands))
	require.Len(t, hands, 1)
	require.Contains(t, said, "ceralacca resume "+hands[0].RequestID)
	require.Empty(t, hands[0].Authorization)
	info, err = os.Stat(filepath.Join(state, hands[0].RequestID+".json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	tool(exitOK, "", "resume "+hands[0].RequestID)
	tool(exitNotFound, "", "resume "+hands[0].RequestID)
	_, said = tool(exitUsage, "", "resume ../x")
	require.Contains(t, said, "is no request")
	heard, err := exec.Command("openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", two+".p7m",
		"-CAfile", filepath.Join(dir, "roots.pem"), "-purpose", "any").Output()
	require.NoError(t, err)
	require.Equal(t, "two", string(heard))
	for _, bad := range []string{"1,2,3", "a,b,c,d,e", "1.5,1,1,9,9"} {
		_, said = tool(exitUsage, "", "sign --as pdf --box "+bad+" "+one)
		require.Contains(t, said, "--box is PAGE", bad)
	}
	_, said = tool(exitUsage, "", "sign --as add "+two)
	require.Contains(t, said, "is no .p7m")
	// A seal signs by mandate, within its limits; and no time-stamp authority was configured.
	out, _ = tool(exitOK, "", "credential create --kind seal --common-name Alfa --format json")
	sealed := read(out)
	sealName, _ := sealed["name"].(string)
	sealCSR, _ := sealed["csr_pem"].(string)
	if sealCSR == "" {
		sealCSR, _ = sealed["csrPem"].(string)
	}
	block, _ = pem.Decode([]byte(sealCSR))
	require.NotNil(t, block, out)
	cert, err = authority.SignCSR(block.Bytes, ca.ProfileSeal)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(chain, append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), authority.CertPEM()...), 0o600))
	tool(exitOK, "", "credential import "+sealName+" "+chain)
	out, _ = tool(exitOK, "", "mandate create "+sealName+" --description deed --forms p7m,pdf --max 2 --until 2199-01-01 --format json")
	mandate, _ := read(out)["name"].(string)
	sealed7m := t.TempDir()
	// The tool is killed after the server has signed and before it has written: the next one has the same, counted once.
	h, err := (&cli{now: time.Now}).handOf([]toSign{{two, filepath.Join(sealed7m, "two.txt.p7m"), sha256Sum("two")}}, signing{as: "p7m"})
	require.NoError(t, err)
	h.Credential, h.Mandate = sealName, mandate
	_, err = h.keep()
	require.NoError(t, err)
	tool(exitOK, "", "resume "+h.RequestID)
	first, err := os.ReadFile(filepath.Join(sealed7m, "two.txt.p7m"))
	require.NoError(t, err)
	_, err = h.keep()
	require.NoError(t, err)
	tool(exitOK, "", "resume "+h.RequestID)
	again, err := os.ReadFile(filepath.Join(sealed7m, "two.txt.p7m"))
	require.NoError(t, err)
	require.Equal(t, first, again)
	out, _ = tool(exitIndeterminate, "", "verify "+filepath.Join(sealed7m, "two.txt.p7m"))
	require.Contains(t, out, "intact: yes")
	addTo := filepath.Join(sealed7m, "two.txt.p7m")
	out, _ = tool(exitOK, "", "mandate create "+sealName+" --description second --forms add --max 1 --until 2199-01-01 --follow-successor --format json")
	second, _ := read(out)["name"].(string)
	out, _ = tool(exitOK, "", "mandate get "+second)
	require.Regexp(t, `follows +yes`, out)
	t.Setenv("CERALACCA_STATE", filepath.Join(two, "no folder"))
	_, said = tool(exitOK, "", "seal --as add "+addTo+" --mandate "+second)
	require.Contains(t, said, "it is not written down")
	t.Setenv("CERALACCA_STATE", state)
	out, _ = tool(exitIndeterminate, "", "verify --format json "+filepath.Join(sealed7m, "two.txt.signed.p7m"))
	both, _ := read(out)["signatures"].([]any)
	require.Len(t, both, 2)
	require.Equal(t, 2, strings.Count(out, `"integrity": true`), out)
	_, said = tool(exitUsage, "", "seal "+two+" --mandate "+mandate+" --as doc")
	require.Contains(t, said, "--as is p7s")
	data := filepath.Join(dir, "data.xml")
	require.NoError(t, os.WriteFile(data, []byte("<data/>"), 0o600))
	_, said = tool(exitRefused, "", "seal "+data+" --mandate "+mandate+" --as xml --output-dir "+t.TempDir())
	require.Contains(t, said, "MANDATE_REFUSED")
	out, _ = tool(exitOK, "", "mandate ls "+sealName)
	require.Contains(t, out, "1/2")
	out, _ = tool(exitOK, "", "mandate revoke "+mandate)
	require.Contains(t, out, "revoked")
	_, said = tool(exitRefused, "", "seal "+two+" --mandate "+mandate+" --output-dir "+t.TempDir())
	require.Contains(t, said, "revoked")
	_, said = tool(exitRefused, "", "stamp create "+two)
	require.Contains(t, said, "TSA_NOT_CONFIGURED")
	out, _ = tool(exitOK, "", "stamp quota")
	require.Contains(t, out, "0 of 1000")
	// The platform judges what was signed with it like anything else: nobody told it whom to trust.
	page := filepath.Join(dir, "report.html")
	out, said = tool(exitIndeterminate, "", "verify --online "+two+".p7s --content "+two+" --report "+page)
	require.Contains(t, out, "NO_CERTIFICATE_CHAIN_FOUND", said)
	require.Contains(t, out, "intact: yes")
	require.FileExists(t, page)
	out, _ = tool(exitRefused, "", "verify --online "+two+".p7s --content "+one+" --format json")
	require.Equal(t, "HASH_FAILURE", read(out)["sub_indication"])
	_, said = tool(exitUsage, "", "verify --online "+two)
	require.Contains(t, said, "FILE_UNSIGNED")
	_, said = tool(exitUsage, "", "sign "+files)
	require.Contains(t, said, "--force")
	for _, flag := range []string{"--pin 40718362", "--otp 123456"} { // secrets have no flags
		_, said = tool(exitUsage, "", "sign --force "+flag+" "+files)
		require.Contains(t, said, "unknown flag")
	}
}

// TestSignLooksFirst: what cannot be signed, or written, is said before anybody is asked: no server is needed to know it.
func TestSignLooksFirst(t *testing.T) {
	surroundings(t, map[string]string{"SERVER": "127.0.0.1:1", "API_KEY": key(t), "TENANT": "acme"})
	dir := t.TempDir()
	at := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	empty, picture, text := at("empty.pdf", ""), at("picture.pdf", "\xff\xd8\xff\xe0JFIF"), at("text.txt", "Salve")
	pdf := at("real.pdf", "%PDF-1.7\n")
	for words, want := range map[string]string{
		"sign " + empty:                              empty + " is empty: there is nothing to sign",
		"sign " + dir:                                dir + " is a folder; a file is wanted",
		"sign --as add " + dir:                       dir + " is a folder; a file is wanted",
		"sign --as pdf " + picture:                   picture + " is no PDF: --as p7s or p7m signs files of any kind",
		"sign --as xml " + text:                      text + " is no XML",
		"sign --output-dir " + dir + "/away " + text: "there is no folder " + dir + "/away",
		"sign --pin-file " + dir + "/pin " + text:    "--pin-file: there is no file " + dir + "/pin",
	} {
		got := command(t, "", strings.Fields(words+" --company c --credential x")...)
		require.Equal(t, exitUsage, got.code, "%s: %s", words, got.errOut)
		require.Contains(t, got.errOut, want, words)
	}
	for _, words := range []string{"sign --as pdf " + pdf, "sign " + picture, "sign --as xml " + at("real.xml", "\ufeff<a/>")} {
		got := command(t, "", strings.Fields(words+" --company c --credential x")...)
		require.Equal(t, exitUnavailable, got.code, "%s is asked of the server: %s", words, got.errOut)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 5, "trying to write leaves nothing")
}
