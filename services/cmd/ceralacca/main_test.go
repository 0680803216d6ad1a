package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/rpc"
)

// surroundings clears what the shell of the person who runs the tests may have set.
func surroundings(t *testing.T, set map[string]string) {
	t.Helper()
	for _, name := range []string{"SERVER", "CA_FILE", "API_KEY", "API_KEY_FILE", "TENANT", "COMPANY"} {
		t.Setenv("CERALACCA_"+name, set[name])
	}
}

func key(t *testing.T) string {
	t.Helper()
	k, err := auth.NewKey(false)
	require.NoError(t, err)
	return k
}

// TestWrongWords: what is wrong in the command itself is code 2, in text that names the flag or file.
func TestWrongWords(t *testing.T) {
	dir := t.TempDir()
	huge := filepath.Join(dir, "huge.xml")
	require.NoError(t, os.WriteFile(huge, make([]byte, 16<<20), 0o600))
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	notes := filepath.Join(dir, "notes.txt")
	require.NoError(t, os.WriteFile(notes, []byte("two\nlines\n"), 0o600))
	known := map[string]string{"SERVER": "a:1", "API_KEY": key(t)}
	for name, c := range map[string]struct {
		env  map[string]string
		args string
		want string
	}{
		"unknown command":      {nil, "inwoice", `unknown command "inwoice"`},
		"unknown verb":         {nil, "invoice sumbit", "did you mean submit?"},
		"unknown help":         {nil, "help inwoice", `there is no command "inwoice"`},
		"unknown flag":         {nil, "invoice ls --colour", "unknown flag: --colour"},
		"format":               {nil, "invoice ls --format yaml", `not "yaml"`},
		"timeout":              {nil, "invoice ls --timeout 0s", "--timeout is a time such as 10s"},
		"argument missing":     {nil, "invoice submit", "FILE is missing"},
		"argument too many":    {nil, "invoice get a b", `"b" is one argument too many`},
		"no company":           {nil, "invoice submit x.xml", "give --company or set CERALACCA_COMPANY"},
		"no tenant":            {nil, "invoice ls", "give --tenant or set CERALACCA_TENANT"},
		"bad tenant":           {nil, "invoice ls --tenant tenants/", `"tenants/" is no tenant`},
		"no server":            {nil, "invoice ls --tenant acme", "give --server host:port or set CERALACCA_SERVER"},
		"no key":               {map[string]string{"SERVER": "a:1"}, "invoice ls --tenant acme", "set CERALACCA_API_KEY, or give --key-file"},
		"key file away":        {map[string]string{"SERVER": "a:1"}, "invoice ls --tenant acme --key-file /nonexistent/key", "--key-file: there is no folder /nonexistent"},
		"key file empty":       {map[string]string{"SERVER": "a:1"}, "invoice ls --tenant acme --key-file " + empty, "--key-file: " + empty + " is empty"},
		"key file huge":        {map[string]string{"SERVER": "a:1"}, "invoice ls --tenant acme --key-file " + huge, "is larger than 64 KiB"},
		"key file a folder":    {map[string]string{"SERVER": "a:1"}, "invoice ls --tenant acme --key-file " + dir, "--key-file: " + dir + " is a folder; a file is wanted"},
		"verb of a verb":       {nil, "pec mailbox lsit", "did you mean ls or set?"},
		"mailbox of nobody":    {nil, "pec mailbox add a@b.test --tenant acme", "--provider is missing: ceralacca pec providers lists them"},
		"right missing":        {known, "pec access set tenants/acme/mailboxes/m --tenant acme --grant key:abc", "write it as key:ID=read"},
		"trust of nothing":     {known, "pec trust import", "nothing to import: give INDEX, --authorities or --crl"},
		"right of nobody":      {known, "pec access set tenants/acme/mailboxes/m --tenant acme", "or --everybody, which empties the list"},
		"right of all and one": {known, "pec access set tenants/acme/mailboxes/m --tenant acme --everybody --grant key:abc=read", "or --everybody, which empties the list"},
		"no term to change":    {known, "pec policy terms tenants/acme/mailboxes/m --tenant acme", "name what is to change: --expires, --no-sending, --password-days"},
		"copies of no day":     {known, "pec vouch copies tenants/acme/mailboxes/m --tenant acme --from yesterday --until 2026-11-22T14:00:00Z --reason x", `--from: "yesterday" is no moment`},
		"copies without end":   {known, "pec vouch copies tenants/acme/mailboxes/m --tenant acme --from 2026-11-22T14:00:00Z --reason x", "--until is missing"},
		"copies for nothing":   {known, "pec vouch copies tenants/acme/mailboxes/m --tenant acme --from 2026-11-22T14:00:00Z --until 2026-11-22T15:00:00Z", "--reason is missing"},
		"copies of nobody":     {known, "pec vouch copies --tenant acme", "MAILBOX is missing"},
		"end of no word":       {known, "pec vouch end abc --tenant acme --reason x", `"abc" is no word`},
		"end for nothing":      {known, "pec vouch end tenants/acme/mailboxes/m/vouchings/v", "--reason is missing"},
		"no servers of ours":   {known, "pec mailbox test tenants/acme/mailboxes/m --tenant acme --imap x:993", "--imap is of an address that is not in keeping: give --provider too"},
		"roots empty":          {nil, "inspect --roots " + empty + " " + notes, "--roots: " + empty + " is empty"},
		"token missing":        {map[string]string{"SERVER": "a:1"}, "conserve inspect show", "--token-file is missing"},
		"webhook of monitor":   {nil, "conserve monitor --state " + dir + " --log-key testdata/log.key --webhook nowhere", `"nowhere" is no address such as https://`},
		"pause of monitor":     {nil, "conserve monitor --state " + dir + " --log-key testdata/log.key --every 0s", "is no pause between rounds"},
		"log key empty":        {nil, "conserve monitor --state " + dir + " --log-key " + empty, "ceralacca conserve log -o FILE writes one"},
		"state of deposits":    {map[string]string{"API_KEY": key(t)}, "conserve deposits --tenant acme --server a:1 --state lost", `--state "lost" is none of accepted, conflict`},
		"two deposits":         {nil, "conserve deposits a b", `"b" is one argument too many`},
		"approve nothing":      {nil, "request approve", "PARTICIPANT is missing"},
		"key file of notes":    {map[string]string{"SERVER": "a:1"}, "invoice ls --tenant acme --key-file " + notes, "a key is one line"},
		"server with scheme":   {map[string]string{"API_KEY": key(t)}, "invoice ls --tenant acme --server https://a:1", "without a scheme"},
		"server without port":  {map[string]string{"API_KEY": key(t)}, "invoice ls --tenant acme --server a", "give host:port"},
		"server of no service": {map[string]string{"API_KEY": key(t)}, "invoice ls --tenant acme --server billing=a:1", "the services are tenancy, invoice"},
		"no server of it":      {map[string]string{"API_KEY": key(t)}, "sdi ls --tenant acme --server invoice=127.0.0.1:1", "no address for sdi-gateway"},
		"CA away":              {map[string]string{"API_KEY": key(t)}, "invoice ls --tenant acme --server a:1 --ca-file /nonexistent/ca", "--ca-file"},
		"CA of notes":          {map[string]string{"API_KEY": key(t)}, "invoice ls --tenant acme --server a:1 --ca-file " + notes, "holds no PEM certificate"},
		"file away":            {nil, "inspect /nonexistent/file", "there is no folder /nonexistent"},
		"folder":               {nil, "inspect " + dir, "is a folder; a file is wanted"},
		"file too large":       {nil, "invoice submit --tenant acme --company c " + huge, "larger than 15 MiB"},
		"roots of notes":       {nil, "inspect --roots " + notes + " " + notes, "holds no PEM certificate"},
		"limit":                {map[string]string{"API_KEY": key(t)}, "invoice ls --tenant acme --server a:1 --limit 0", "--limit is 1 or more"},
		"limit of operators":   {map[string]string{"API_KEY": key(t)}, "parked ls --server a:1 --limit 0", "--limit is 1 or more"},
		"request id":           {nil, "invoice submit --company c --request-id 7 x.xml", `"7" is no UUID`},
		"state":                {map[string]string{"API_KEY": key(t)}, "sdi ls --tenant acme --server a:1 --state lost", "is none of accepted, attested"},
		"expiry":               {nil, "key create --tenant acme --expires soon", `"soon" is neither a date`},
		"owner":                {nil, "key ls --owner acme", "is not tenants/ID, resellers/ID or operators/ID"},
		"no display name":      {nil, "tenant create acme", "--display-name is missing"},
		"no year":              {nil, "conserve close --tenant acme", "give --year, such as --year 2026"},
		"no reason":            {nil, "parked drop services/invoice/parkedEvents/x", "give --reason"},
		"parked name":          {nil, "parked show x", "ceralacca parked ls shows the names"},
		"audit of nothing":     {nil, "audit billing", `there is no service "billing"`},
		"nothing to change":    {nil, "company update --tenant acme rossi", "nothing to change"},
		"credential key":       {nil, "credential create --tenant acme --company c --common-name x --key dsa", "p256 or rsa3072"},
		"credential company":   {nil, "credential get --tenant acme x", "--company is missing"},
		"receipt of nothing":   {nil, "conserve receipt", "one of UNIT and --package"},
		"receipt without key":  {nil, "conserve verify p.zip --receipt r", "--log-key"},
		"since without key":    {nil, "conserve verify p.zip --complete", "needs a --receipt"},
		"wrong log key":        {nil, "conserve verify testdata/inspect/package.zip --log-key a+b+c", "--log-key"},
		"package file":         {nil, "archive download --tenant acme p --file all", "archive, index, signed_index or time_stamp"},
	} {
		t.Run(name, func(t *testing.T) {
			surroundings(t, c.env)
			got := command(t, "", strings.Fields(c.args)...)
			require.Equal(t, exitUsage, got.code, got.errOut)
			require.Contains(t, got.errOut, c.want)
			require.Empty(t, got.out)

			asJSON := command(t, "", append(strings.Fields(c.args), "--format=json")...)
			if name == "format" {
				return
			}
			require.Equal(t, exitUsage, asJSON.code)
			require.Empty(t, asJSON.out)
			f := decodeError(t, asJSON.errOut)
			require.Equal(t, "USAGE", f.Code)
			require.Equal(t, exitUsage, f.ExitCode)
		})
	}
}

func decodeError(t *testing.T, text string) failure {
	t.Helper()
	var got struct{ Error failure }
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&got), text)
	require.False(t, decoder.More(), "one object and nothing else: %s", text)
	return got.Error
}

// TestNoServer: what can be wrong with a connection is told in words that help, with code 5.
func TestNoServer(t *testing.T) {
	closed := listen(t)
	require.NoError(t, closed.Close())
	plain := listen(t)
	go serve(plain, func(conn net.Conn) { _, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) })
	mute := listen(t)
	go serve(mute, func(net.Conn) { time.Sleep(5 * time.Second) })
	dir := t.TempDir()
	files, err := rpc.DevCertificates(dir, "invoice")
	require.NoError(t, err)
	config, err := rpc.ServerTLS(files, "invoice")
	require.NoError(t, err)
	secure := listen(t)
	go serve(tls.NewListener(secure, config), func(conn net.Conn) { _ = conn.(*tls.Conn).Handshake() })
	for name, c := range map[string]struct{ server, args, code, want string }{
		"nobody listens":   {closed.Addr().String(), "", "SERVER_UNREACHABLE", "nobody listens at"},
		"name":             {"no-such-host.invalid:443", "", "SERVER_UNREACHABLE", "does not resolve"},
		"no TLS":           {plain.Addr().String(), "", "SERVER_UNTRUSTED", "does not speak TLS"},
		"unknown CA":       {secure.Addr().String(), "", "SERVER_UNTRUSTED", "--ca-file"},
		"no answer":        {mute.Addr().String(), "--timeout 200ms", "DEADLINE_EXCEEDED", "no answer within 200ms"},
		"stream, no reply": {closed.Addr().String(), "events", "SERVER_UNREACHABLE", "nobody listens at"},
	} {
		t.Run(name, func(t *testing.T) {
			surroundings(t, map[string]string{"SERVER": c.server, "API_KEY": key(t), "TENANT": "acme"})
			args := append([]string{"invoice", "ls"}, strings.Fields(c.args)...)
			if c.args == "events" {
				args = []string{"events", "tail"}
			}
			got := command(t, "", args...)
			require.Equal(t, exitUnavailable, got.code, got.errOut)
			require.Contains(t, got.errOut, c.want)
			require.NotContains(t, got.errOut, "desc =", "no text of gRPC")
			require.Equal(t, c.code, decodeError(t, command(t, "", append(args, "--format", "json")...).errOut).Code)
		})
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func serve(l net.Listener, talk func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			talk(conn)
			_ = conn.Close()
		}()
	}
}

// TestExitCodes: each kind of fault has the code that the help promises.
func TestExitCodes(t *testing.T) {
	for kind, want := range map[fault.Kind]int{
		fault.KindInvalid: exitRefused, fault.KindConflict: exitRefused, fault.KindPrecondition: exitRefused,
		fault.KindNotFound: exitNotFound, fault.KindUnauthenticated: exitDenied, fault.KindDenied: exitDenied,
		fault.KindUnavailable: exitUnavailable, fault.KindExhausted: exitUnavailable, fault.KindAborted: exitUnavailable,
		fault.KindInternal: exitInternal,
	} {
		require.Equal(t, want, exitOf(kind), kind)
	}
}

// TestRepeat: an error after which nobody knows whether the invoice exists says how to repeat safely; one that
// the server decided does not.
func TestRepeat(t *testing.T) {
	var text strings.Builder
	c := &cli{errOut: &text, timeout: time.Second}
	require.Equal(t, exitUnavailable, c.fail(repeatError{fault.Unavailable("AWAY", "away"), "id-1"}))
	require.Contains(t, text.String(), "add --request-id id-1")
	text.Reset()
	require.Equal(t, exitRefused, c.fail(repeatError{fault.Invalid("BAD", "bad"), "id-1"}))
	require.NotContains(t, text.String(), "id-1")
	text.Reset()
	require.Equal(t, exitUsage, c.fail(errors.New("disk full")))
	require.Equal(t, "ceralacca: disk full\n", text.String())
}

// TestHelp: the tool, every group and every verb explain themselves, with success.
func TestHelp(t *testing.T) {
	surroundings(t, nil)
	require.Contains(t, command(t, "").out, "Exit codes:")
	var walk func(path []string)
	walk = func(path []string) {
		got := command(t, "", append(path, "--help")...)
		require.Equal(t, exitOK, got.code, path)
		require.Contains(t, got.out, "Usage:", path)
		for _, sub := range subcommands(t, path) {
			walk(append(append([]string{}, path...), sub))
		}
	}
	walk(nil)
	group := command(t, "", "invoice")
	require.Equal(t, exitOK, group.code)
	require.Contains(t, group.out, "Available Commands:")
	require.Equal(t, group.out, command(t, "", "help", "invoice").out)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		got := command(t, "", "completion", shell)
		require.Equal(t, exitOK, got.code)
		require.Contains(t, got.out, "ceralacca", shell)
	}
	require.NotEmpty(t, strings.TrimSpace(command(t, "", "version").out))
	require.Equal(t, command(t, "", "version").out, command(t, "", "--version").out)
	require.JSONEq(t, `{"version":"`+strings.TrimSpace(command(t, "", "version").out)+`"}`, command(t, "", "version", "--format", "json").out)
}

func subcommands(t *testing.T, path []string) []string {
	t.Helper()
	c := &cli{now: time.Now}
	var at *cobra.Command = c.command()
	if len(path) > 0 {
		found, _, err := at.Find(path)
		require.NoError(t, err)
		at = found
	}
	var names []string
	for _, sub := range at.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" && sub.Name() != "completion" {
			names = append(names, sub.Name())
		}
	}
	return names
}

// TestGenerate: a key made offline is a whole key; a file is never overwritten and is its owner's alone.
func TestGenerate(t *testing.T) {
	surroundings(t, nil)
	for _, live := range []bool{false, true} {
		args := []string{"key", "generate"}
		if live {
			args = append(args, "--live")
		}
		got := command(t, "", args...)
		require.Equal(t, exitOK, got.code)
		is, err := auth.CheckKey(strings.TrimSpace(got.out))
		require.NoError(t, err)
		require.Equal(t, live, is)
	}
	file := filepath.Join(t.TempDir(), "operator.key")
	got := command(t, "", "key", "generate", "-o", file)
	require.Equal(t, exitOK, got.code)
	require.Empty(t, got.out)
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	_, err = auth.CheckKey(strings.TrimSpace(string(raw)))
	require.NoError(t, err)
	require.NotContains(t, got.errOut, strings.TrimSpace(string(raw)), "the key is in the file, not on the screen")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	again := command(t, "", "key", "generate", "-o", file)
	require.Equal(t, exitUsage, again.code)
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, raw, after)
}

func TestElapsed(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.000s", 1234 * time.Millisecond: "1.234s", 59*time.Second + 999*time.Millisecond: "59.999s",
		61*time.Second + 600*time.Millisecond: "1m2s", 5 * time.Hour: "5h0m0s", 15*24*time.Hour + 90*time.Minute: "15d1h30m0s",
	} {
		require.Equal(t, want, elapsed(d))
	}
}

// TestEveryFlagIsExplained: each flag of each command says what it is for, and each command what it does.
func TestEveryFlagIsExplained(t *testing.T) {
	surroundings(t, nil)
	c := &cli{now: time.Now}
	flags, commands := 0, 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		commands++
		require.NotEmpty(t, cmd.Short, cmd.CommandPath())
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			flags++
			require.NotEmpty(t, f.Usage, "%s --%s", cmd.CommandPath(), f.Name)
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(c.command())
	require.Greater(t, commands, 150)
	require.Greater(t, flags, 300)
}

// TestUnknownVerbs: a verb that no group has is refused at every depth.
func TestUnknownVerbs(t *testing.T) {
	surroundings(t, nil)
	var walk func(path []string) int
	walk = func(path []string) int {
		subs := subcommands(t, path)
		if len(subs) == 0 {
			return 0
		}
		got := command(t, "", append(append([]string{}, path...), "frobnicate")...)
		require.Equal(t, exitUsage, got.code, path)
		require.Contains(t, got.errOut, `unknown command "frobnicate" for "ceralacca`, path)
		require.Empty(t, got.out, path)
		groups := 1
		for _, sub := range subs {
			groups += walk(append(append([]string{}, path...), sub))
		}
		return groups
	}
	require.Greater(t, walk(nil), 35, "the groups were not found")
}
