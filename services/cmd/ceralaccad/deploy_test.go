package main

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/nats"
	"ceralacca.dev/services/internal/devenv/postgres"
)

// asProgram has this test be ceralaccad.
const asProgram = "CERALACCA_TEST_AS_CERALACCAD"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// installation is a machine on which the READMEs of deploy are followed: their folders are in one of the test's, and
// their servers at free ports.
type installation struct {
	dir, top string
	words    *strings.Replacer // from what is written to what is here
	env      []string
}

func (i *installation) shell(ctx context.Context, t *testing.T, script string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", i.words.Replace(script))
	cmd.Dir, cmd.Env = i.top, i.env
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", i.words.Replace(script), out)
	return string(out)
}

// serve starts a program that runs until the test is over.
func (i *installation) serve(t *testing.T, env []string, program string, args ...string) *bytes.Buffer {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = i.top, append(i.env, env...), &log, &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		_ = cmd.Wait() // by our signal
		if t.Failed() {
			t.Logf("%s %q:\n%s", filepath.Base(program), args, log.String())
		}
	})
	return &log
}

// blocks of a README, of one language.
func blocks(t *testing.T, language string, path ...string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", "..", ".."}, path...)...))
	require.NoError(t, err)
	var out []string
	for _, found := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		out = append(out, found[1])
	}
	return out
}

// TestDeploymentAsWritten follows deploy/README.md and deploy/nats/README.md word by word, with an empty PostgreSQL and a
// nats-server that has nothing, up to services in processes of their own and the first customer's key.
func TestDeploymentAsWritten(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	top, err := devenv.Root()
	require.NoError(t, err)
	i := &installation{dir: t.TempDir(), top: top}
	path := i.programs(ctx, t)
	cluster, err := postgres.Start(ctx, postgres.Options{Dir: filepath.Join(i.dir, "pg"), Throwaway: true, Private: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop()) })
	at, err := url.Parse(cluster.URL(""))
	require.NoError(t, err)
	password, _ := at.User.Password()
	free := map[string]string{"nats": "", "s3": ""}
	for name := range free {
		free[name], _, err = devenv.FreeAddress()
		require.NoError(t, err)
	}
	words := []string{
		"/etc/", i.dir + "/etc/", "/run/secrets", i.dir + "/secrets", "/var/lib/", i.dir + "/var/", "/srv/archive", i.dir + "/archive",
		"DNS:$1.internal", "DNS:$1.internal,IP:127.0.0.1", // no name server knows .internal here
		"0.0.0.0:4222", free["nats"], "nats.internal:4222", free["nats"],
		"postgres.internal/ceralacca?sslmode=verify-full&sslrootcert=/etc/ceralacca/ca.crt", at.Host + "/ceralacca?sslmode=disable",
		`endpoint: "https://collector.internal:4317"`, `endpoint: ""`,
		"replicas: 3", "replicas: 1", // as the README says of one server
	}
	hosts := []string{"tenancy", "invoice"} // those that need neither Vault nor SdI
	for _, target := range hosts {
		rpc, _, err := devenv.FreeAddress()
		require.NoError(t, err)
		free[target] = rpc
		words = append(words, target+".internal:8443", rpc)
	}
	i.words = strings.NewReplacer(words...)
	i.env = append(os.Environ(), "PATH="+path, "PGHOST="+at.Hostname(), "PGPORT="+at.Port(), "PGUSER="+at.User.Username(), "PGPASSWORD="+password, "PGDATABASE=postgres")

	deploy, bus := blocks(t, "sh", "deploy", "README.md"), blocks(t, "sh", "deploy", "nats", "README.md")
	require.Len(t, deploy, 5, "certificates, roles, secrets, check, first keys")
	require.Len(t, bus, 1)
	settings := blocks(t, "yaml", "deploy", "nats", "README.md")
	require.Len(t, settings, 1)
	i.shell(ctx, t, deploy[0])
	i.shell(ctx, t, deploy[1])
	conf := filepath.Join(i.dir, "etc", "nats", "server.conf")
	copies, judge, ok := strings.Cut(bus[0], "nats-server")
	require.True(t, ok)
	i.shell(ctx, t, copies)
	i.edit(t, conf)
	said := i.shell(ctx, t, "nats-server"+judge)
	require.Contains(t, said, "configuration file "+conf+" is valid")
	i.serve(t, nil, filepath.Join(filepath.SplitList(path)[0], "nats-server"), "-c", conf)

	i.shell(ctx, t, deploy[2])
	config := filepath.Join(i.dir, "etc", "ceralacca", "ceralacca.yaml")
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	require.Contains(t, strings.ReplaceAll(string(text), "  # Who may publish and read what: deploy/nats/permissions.conf, by the names in these certificates.\n", ""), settings[0],
		"the example is as the README of NATS says")
	edited := regexp.MustCompile(`(?s)blob:\n.*?\nrpc:`).ReplaceAllString(i.edit(t, config), "blob: {fs: {dir: "+i.dir+"/documents}}\n\nrpc:")
	require.NoError(t, os.WriteFile(config, []byte(edited), 0o600))
	// The services that are run here: the others' files come with Vault, SdI and the rest.
	check := strings.ReplaceAll(deploy[3], "config check", "config check --target="+strings.Join(hosts, ","))
	said = i.shell(ctx, t, check)
	require.Contains(t, said, "is good for tenancy, invoice")
	require.Contains(t, said, "INVOICE")
	for _, target := range names() {
		require.Contains(t, said, fmt.Sprintf("%-14s schema is up to date", target))
	}
	i.mistakes(ctx, t)
	for _, target := range hosts {
		admin, _, err := devenv.FreeAddress()
		require.NoError(t, err)
		i.serve(t, []string{asProgram + "=1", "CERALACCA_RPC_LISTEN=" + free[target], "CERALACCA_ADMIN_LISTEN=" + admin},
			os.Args[0], "serve", "--target="+target, "-c", config)
		require.Eventually(t, func() bool {
			cmd := exec.CommandContext(ctx, "curl", "-sf", "http://"+admin+"/readyz")
			return cmd.Run() == nil
		}, time.Minute, 100*time.Millisecond, "%s is ready", target)
	}
	said = i.shell(ctx, t, deploy[4])
	require.Contains(t, said, "tenants/acme/companies/rossi")
	key := regexp.MustCompile(`"secret": *"(cl_live_[^"]+)"`).FindAllStringSubmatch(said, -1)
	require.Len(t, key, 2, said)
	// The customer's key reaches both processes; nothing that a stranger shows does.
	said = i.shell(ctx, t, strings.Split(deploy[4], "\n")[0]+"\nexport CERALACCA_API_KEY="+key[1][1]+"\nceralacca invoice ls --tenant acme\nceralacca company ls --tenant acme")
	require.Contains(t, said, "rossi")
}

// mistakes are those of who sets this up: each is told with the key that mends it.
func (i *installation) mistakes(ctx context.Context, t *testing.T) {
	t.Helper()
	const pair = "CERALACCA_NATS_CERT_FILE=/etc/ceralacca/tls/%[1]s.crt CERALACCA_NATS_KEY_FILE=/etc/ceralacca/tls/%[1]s.key ceralaccad bus apply"
	for command, want := range map[string]string{
		"CERALACCA_NATS_REPLICAS=3 ceralaccad bus apply":                                          "nats.replicas is 3, and NATS at",
		fmt.Sprintf(pair, "tenancy"):                                                              "only the user ceralaccad changes streams",
		fmt.Sprintf(pair, "nats"):                                                                 "the server knows no user by a DNS name of the certificate in nats.cert_file",
		"CERALACCA_NATS_CERT_FILE= CERALACCA_NATS_KEY_FILE= ceralaccad bus apply":                 "set nats.cert_file and nats.key_file",
		"CERALACCA_NATS_CA_FILE= ceralaccad bus apply":                                            "nats.ca_file has to hold the authority",
		"CERALACCA_NATS_URL=nats://127.0.0.1:1 ceralaccad bus apply":                              "nobody listens there",
		"CERALACCA_DATABASE_ADMIN_PASSWORD_FILE=/run/secrets/postgres-tenancy ceralaccad migrate": "database.admin_password_file does not hold the password",
	} {
		said := i.shell(ctx, t, command+" -c /etc/ceralacca/ceralacca.yaml 2>&1 && exit 3 || [ $? = 1 ]")
		require.Contains(t, said, want, command)
	}
}

// edit is what a person does with an editor to a file that was just copied; it gives what is in it then.
func (i *installation) edit(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	edited := i.words.Replace(string(text))
	require.NoError(t, os.WriteFile(file, []byte(edited), 0o600))
	return edited
}

// programs is a PATH on which ceralaccad, ceralacca and nats-server are found.
func (i *installation) programs(ctx context.Context, t *testing.T) string {
	t.Helper()
	bin := filepath.Join(i.dir, "bin")
	require.NoError(t, os.MkdirAll(bin, 0o700))
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(bin, "ceralaccad"), fmt.Appendf(nil, "#!/bin/sh\n%s=1 exec %s \"$@\"\n", asProgram, self), 0o700)) //nolint:gosec // a program
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(bin, "ceralacca"), "../ceralacca")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	server, err := nats.Build(ctx, nil, i.top)
	require.NoError(t, err)
	require.NoError(t, os.Symlink(server, filepath.Join(bin, "nats-server")))
	return bin + string(os.PathListSeparator) + os.Getenv("PATH")
}
