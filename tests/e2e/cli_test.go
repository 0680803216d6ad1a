package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/tests/harness"
)

// terminal is a person at the command line, with a key.
type terminal struct {
	t      *testing.T
	p      *harness.Platform
	key    string
	tenant string
}

// run gives what a command prints, and its exit code.
func (s terminal) run(arguments ...string) (out, errOut string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	out, err := s.p.CLI(ctx, s.key, s.tenant, arguments...)
	if err == nil {
		return out, "", 0
	}
	var exit *exec.ExitError
	require.ErrorAs(s.t, err, &exit, arguments)
	_, errOut, _ = strings.Cut(err.Error(), exit.Error()+": ")
	return out, errOut, exit.ExitCode()
}

// says runs a command that succeeds in both formats and gives its text; its JSON must be JSON and nothing else.
func (s terminal) says(arguments ...string) string {
	s.t.Helper()
	out, errOut, code := s.run(arguments...)
	require.Zero(s.t, code, "%v: %s", arguments, errOut)
	asJSON, errOut, code := s.run(append(arguments, "--format", "json")...)
	require.Zero(s.t, code, "%v: %s", arguments, errOut)
	decoder := json.NewDecoder(strings.NewReader(asJSON))
	for decoder.More() {
		var object map[string]any
		require.NoError(s.t, decoder.Decode(&object), "%v: %s", arguments, asJSON)
	}
	return out
}

// does runs a command once: for what cannot be done twice.
func (s terminal) does(arguments ...string) string {
	s.t.Helper()
	out, errOut, code := s.run(arguments...)
	require.Zero(s.t, code, "%v: %s", arguments, errOut)
	return out
}

// refused runs a command that must fail with an exit code and a permanent error code, in both formats.
func (s terminal) refused(exit int, code string, arguments ...string) {
	s.t.Helper()
	out, errOut, got := s.run(arguments...)
	require.Equal(s.t, exit, got, "%v: %s%s", arguments, out, errOut)
	require.Empty(s.t, out, arguments)
	require.Contains(s.t, errOut, code, arguments)
	out, errOut, got = s.run(append(arguments, "--format", "json")...)
	require.Equal(s.t, exit, got, arguments)
	require.Empty(s.t, out, arguments)
	var answer struct {
		Error struct {
			Code, Message string
			ExitCode      int `json:"exit_code"`
		}
	}
	require.NoError(s.t, json.Unmarshal([]byte(errOut), &answer), "%v: %s", arguments, errOut)
	require.Equal(s.t, code, answer.Error.Code, arguments)
	require.Equal(s.t, exit, answer.Error.ExitCode)
	require.NotEmpty(s.t, answer.Error.Message)
}

// field reads a line "name  value" of a command's text.
func field(t *testing.T, text, name string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + name + ` +(\S.*)$`).FindStringSubmatch(text)
	require.NotNil(t, found, "no %s in %s", name, text)
	return found[1]
}

// TestCommandLine does with the command line tool what a partner and an operator do, right and wrong.
func TestCommandLine(t *testing.T) {
	inBothModes(t, func(t *testing.T, p *harness.Platform) {
		operator := terminal{t, p, p.OperatorKey, ""}
		tenant := onboardByHand(t, p, operator)
		invoice := submitByHand(t, tenant)
		archiveByHand(t, tenant, invoice)
		notifyByHand(t, tenant, invoice)
		wrongInput(t, tenant, invoice)
		suspendByHand(t, operator, tenant, invoice)
		operateByHand(t, operator, tenant)
	})
}

// onboardByHand makes a customer with nothing but the tool and the sandbox's certification authority.
func onboardByHand(t *testing.T, p *harness.Platform, operator terminal) terminal {
	reseller, hand := fmt.Sprintf("by-hand-%d", p.Number(0)), fmt.Sprintf("hand-%d", p.Number(0))
	operator.does("reseller", "create", reseller, "--display-name", "By Hand")
	require.Contains(t, operator.says("reseller", "get", reseller), "By Hand")
	require.Contains(t, operator.says("reseller", "ls"), "resellers/"+reseller)
	operator.does("tenant", "create", hand, "--reseller", reseller, "--display-name", "Hand")
	require.Contains(t, operator.says("tenant", "ls", "--reseller", reseller), "tenants/"+hand)
	operator.tenant = hand
	operator.does("company", "create", "main", "--vat", "IT"+p.VAT(0), "--display-name", "Hand Srl", "--signature", "always")
	require.Equal(t, "ABC1234", field(t, operator.says("company", "update", "main", "--recipient-code", "ABC1234"), "recipient code"))
	require.Equal(t, "ALWAYS", field(t, operator.says("company", "get", "main"), "signature"))

	made := operator.does("credential", "create", "--company", "main", "--common-name", "SANDBOX hand")
	credential := field(t, made, "name")
	csr := made[strings.Index(made, "-----BEGIN"):]
	request, _ := pem.Decode([]byte(csr))
	require.NotNil(t, request, csr)
	issued, err := p.Sandbox.SignCSR(t.Context(), request.Bytes, "signing")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "certificate.pem")
	require.NoError(t, os.WriteFile(file, []byte(issued.CertPEM+issued.CAPEM), 0o600))
	operator.does("credential", "import", credential, file)
	require.Equal(t, "ACTIVE", field(t, operator.says("credential", "get", credential), "state"))
	require.Contains(t, operator.says("credential", "ls"), "SANDBOX hand")

	key := field(t, operator.does("key", "create", "--display-name", "by hand"), "key")
	tenant := terminal{t, p, key, hand}
	require.Contains(t, tenant.says("key", "ls"), key[:14])
	reader := field(t, tenant.does("key", "create", "--scopes", "invoices.read"), "key")
	terminal{t, p, reader, hand}.refused(4, "SCOPE_MISSING", "key", "ls")
	return tenant
}

// submitByHand sends an invoice on its way and gives its name once it is in custody.
func submitByHand(t *testing.T, tenant terminal) string {
	c := &harness.Customer{Platform: tenant.p, VAT: tenant.p.VAT(0)}
	file := filepath.Join(t.TempDir(), "invoice.xml")
	require.NoError(t, os.WriteFile(file, c.XML("FPR12", "SBXRC00", "H-1"), 0o600))
	require.Contains(t, tenant.says("invoice", "submit", "--company", "main", "--validate-only", file), "valid; nothing was stored")
	id := uuid.NewString()
	name := field(t, tenant.does("invoice", "submit", "--company", "main", "--request-id", id, file), "name")
	require.Equal(t, name, field(t, tenant.does("invoice", "submit", "--company", "main", "--request-id", id, file), "name"), "a repeat is the same invoice")
	tenant.refused(1, "INVOICE_DUPLICATE", "invoice", "submit", "--company", "main", file)

	require.Eventually(t, func() bool {
		return strings.Contains(tenant.does("archive", "units", "--invoice", name), "TAKEN_IN_CHARGE")
	}, time.Minute, 100*time.Millisecond)
	short := name[strings.LastIndexByte(name, '/')+1:]
	require.Equal(t, "DELIVERED", field(t, tenant.says("invoice", "get", short), "state"))
	require.Contains(t, tenant.says("invoice", "ls", "--filter", `number = "H-1"`), short)
	require.Contains(t, tenant.says("sdi", "ls", "--invoice", short), "DELIVERED")
	require.Contains(t, tenant.says("events", "ls", "--filter", `type = "invoice.delivered"`), short)
	timeline := tenant.says("trace", short)
	for _, service := range []string{"invoice ", "signer ", "sdi-gateway ", "conservation "} {
		require.Contains(t, timeline, service)
	}
	signed := filepath.Join(t.TempDir(), "signed.xml.p7m")
	tenant.does("invoice", "document", short, "signed", "-o", signed)
	require.Contains(t, tenant.says("inspect", signed, "--roots", tenant.p.SdI.CAFile), "signature 1 holds")
	require.Contains(t, tenant.does("invoice", "document", short, "rc"), "RicevutaConsegna")
	return name
}

func archiveByHand(t *testing.T, tenant terminal, invoice string) {
	year := time.Now().Format("2006")
	name := field(t, tenant.does("conserve", "close", "--year", year), "name")
	require.Eventually(t, func() bool { return field(t, tenant.does("archive", "get", name), "state") == "SEALED" }, time.Minute, 100*time.Millisecond)
	require.Contains(t, tenant.says("archive", "ls"), "SEALED")
	require.Contains(t, tenant.says("archive", "units", "--package", name), invoice[strings.LastIndexByte(invoice, '/')+1:])
	file := filepath.Join(t.TempDir(), "package.zip")
	tenant.does("archive", "download", name, "-o", file)
	require.Contains(t, tenant.says("inspect", file, "--roots", tenant.p.SdI.CAFile), "checked")
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	raw[bytes.Index(raw, []byte("units/u000001/doc.xml"))+200] ^= 1 // in the bytes of the document
	require.NoError(t, os.WriteFile(file, raw, 0o600))
	_, _, code := tenant.run("inspect", file)
	require.Equal(t, 1, code, "a changed package")
	tenant.refused(1, "NO_UNITS_WAITING", "conserve", "close", "--year", year)
	tenant.refused(3, "PACKAGE_NOT_FOUND", "archive", "download", "nothing", "-o", file+".2")
	require.NoFileExists(t, file+".2")
}

func notifyByHand(t *testing.T, tenant terminal, invoice string) {
	hook, err := harness.NewReceiver()
	require.NoError(t, err)
	t.Cleanup(hook.Close)
	name := field(t, tenant.does("webhook", "add", hook.URL, "--events", "invoice.*"), "name")
	require.Contains(t, tenant.says("webhook", "disable", name), "disabled")
	require.Contains(t, tenant.says("webhook", "ls"), "disabled")
	require.Contains(t, tenant.says("webhook", "enable", name), "enabled")
	require.Contains(t, field(t, tenant.does("webhook", "rotate", name), "secret"), "whsec_")
	tenant.does("mail", "add", "someone@example.com", "--language", "en")
	require.Contains(t, tenant.says("mail", "ls"), "someone@example.com")
	tenant.says("delivery", "ls", "--invoice", invoice, "--state", "failed")
	tenant.does("webhook", "rm", name)
	tenant.refused(3, "WEBHOOK_ENDPOINT_NOT_FOUND", "webhook", "rm", name)
	tenant.refused(1, "REQUEST_INVALID", "webhook", "add", "nowhere")
}

func wrongInput(t *testing.T, tenant terminal, invoice string) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	c := &harness.Customer{Platform: tenant.p, VAT: tenant.p.VAT(0)}
	good := c.XML("FPR12", "SBXRC00", "H-2")
	for code, file := range map[string]string{
		"INVOICE_UNREADABLE": write("notes.txt", []byte("no XML")),
		"INVOICE_TOO_LARGE":  write("large.xml", append(bytes.Clone(good), bytes.Repeat([]byte(" "), 6_000_000)...)),
		"INVOICE_INVALID":    write("bad.xml", bytes.ReplaceAll(good, []byte("<Divisa>EUR"), []byte("<Divisa>EU"))),
		"SELLER_MISMATCH":    write("other.xml", bytes.ReplaceAll(good, []byte(c.VAT), []byte("02345678904"))),
	} {
		tenant.refused(1, code, "invoice", "submit", "--company", "main", file)
	}
	tenant.refused(3, "COMPANY_NOT_FOUND", "invoice", "submit", "--company", "nobody", write("good.xml", good))
	tenant.refused(3, "INVOICE_NOT_FOUND", "trace", "01990000-0000-7000-8000-000000000000")
	tenant.refused(3, "DOCUMENT_NOT_FOUND", "invoice", "document", invoice, "at")
	tenant.refused(1, "FILTER_INVALID", "invoice", "ls", "--filter", "colour = 1")
	tenant.refused(4, "FOREIGN_RESOURCE", "invoice", "ls", "--tenant", "platform")
	tenant.refused(4, "ROLE_NOT_ALLOWED", "parked", "ls")
	tenant.refused(4, "KEY_ENVIRONMENT_NOT_HELD", "key", "create", "--live")
	key := tenant.key
	tenant.key = key[:len(key)-1]
	tenant.refused(4, "API_KEY_MALFORMED", "invoice", "ls")
	tenant.key = strings.TrimSpace(tenant.does("key", "generate"))
	tenant.refused(4, "API_KEY_UNKNOWN", "invoice", "ls")
}

func operateByHand(t *testing.T, operator, tenant terminal) {
	require.Contains(t, operator.says("parked", "ls"), "PARKED")
	operator.refused(3, "PARKED_NOT_FOUND", "parked", "drop", "services/invoice/parkedEvents/01990000-0000-7000-8000-000000000000", "--reason", "gone")
	breakers := operator.says("breakers")
	for _, name := range []string{"vault", "sdi", "tsa-sandbox"} {
		require.Contains(t, breakers, name)
	}
	require.Contains(t, operator.says("audit", "tenancy"), "company.create")
	require.Contains(t, operator.says("config"), "sdi-gateway:")
	require.NotContains(t, operator.says("config"), operator.key)
	require.Contains(t, operator.says("sdi", "unmatched"), "MESSAGE")
	operator.refused(3, "NOT_FOUND", "sdi", "save", "01990000-0000-7000-8000-000000000000")

	list := tenant.says("key", "ls")
	if operator.p.Mode == harness.ManyProcesses {
		defer onePartAway(t, operator)
	}
	own := regexp.MustCompile(`tenants/`+tenant.tenant+`/apiKeys/\S+`).FindAllString(list, -1)
	require.Len(t, own, 2)
	for _, key := range own {
		operator.does("key", "revoke", key)
	}
	require.Eventually(t, func() bool {
		_, errOut, code := tenant.run("invoice", "ls")
		return code == 4 && strings.Contains(errOut, "API_KEY_REVOKED")
	}, time.Minute, 200*time.Millisecond, "a revoked key")
}

// onePartAway: an operator sees what the other processes say, and which one says nothing.
func onePartAway(t *testing.T, operator terminal) {
	require.NoError(t, operator.p.Kill("notification"))
	out, errOut, code := operator.run("breakers")
	require.Equal(t, 5, code)
	require.Contains(t, out, "vault")
	require.Contains(t, errOut, fmt.Sprintf("1 of %d processes could not be asked (notification): nobody listens", len(harness.Targets)))
}

// TestTailOutlivesARestart: events tail goes on where it was when the server comes back.
func TestTailOutlivesARestart(t *testing.T) {
	t.Parallel()
	p := harness.Share(t, harness.OneProcess)
	c, err := p.Onboard(t.Context(), 1)
	require.NoError(t, err)
	first, err := c.Submit(t.Context(), "FPR12", "SBXRC00", "T-1")
	require.NoError(t, err)
	_, err = c.AwaitState(t.Context(), first, true, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	tail := p.Command(ctx, c.Key, c.Tenant, "events", "tail", "--format", "json")
	out, err := tail.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, tail.Start())
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	shown := []string{<-lines} // it has begun before the restart
	require.NoError(t, p.Restart("all"))
	require.NoError(t, p.AwaitReady(ctx))
	second, err := c.Submit(ctx, "FPR12", "SBXRC00", "T-2")
	require.NoError(t, err)
	_, err = c.AwaitState(ctx, second, true, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED)
	require.NoError(t, err)
	// The tail connects again, and the log grows a little longer: the end is when it shows all that there is.
	var want []*invoicev1.Event
	require.Eventually(t, func() bool {
		for more := true; more; {
			select {
			case line, ok := <-lines:
				require.True(t, ok, "it has ended")
				shown = append(shown, line)
			default:
				more = false
			}
		}
		want, err = c.Events(ctx)
		require.NoError(t, err)
		return len(shown) >= len(want)
	}, 2*time.Minute, 200*time.Millisecond, "%d events, %d shown", len(want), len(shown))
	cancel()
	for line := range lines {
		shown = append(shown, line)
	}
	var exit *exec.ExitError
	err = tail.Wait()
	require.True(t, err == nil || errors.As(err, &exit), "%v", err)
	var positions, all []string
	for _, e := range want {
		all = append(all, strconv.FormatInt(e.GetPosition(), 10))
	}
	for _, line := range shown {
		var event struct{ Position string }
		require.NoError(t, json.Unmarshal([]byte(line), &event), line)
		positions = append(positions, event.Position)
	}
	require.Equal(t, all, positions, "each event once, in order, across the restart")
}
